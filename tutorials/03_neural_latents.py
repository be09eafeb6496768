# %% [markdown]
# # Neural Latents Benchmark: from files to a submission
#
# The benchmark has seven data sets. Each shows some units of a recording, and asks for the rates of all: how well do they tell
# the units that were held out (co-bps), the bins after each window (fp-bps), the hand's velocity (vel R2) and the mean
# response of each condition (psth R2)? Here is MC_Maze_Small from its two files to a submission, and the scores that it gets
# on the validation trials.
#
# Nothing is fetched as it stands: the files are simulated, in the shape of the published ones. For those, let
# `files = nwb_sbtt.nlb.fetching.fetch_files(name, folder, phase="val")` take the place of the simulation, or name your own
# copies; on the command line, `nwb-sbtt nlb prepare mc_maze_small` without files fetches them.

# %%
import os
from pathlib import Path

import nwb_sbtt as sb
from nwb_sbtt.nlb.modelling import predict
from nwb_sbtt.nlb.preparation import prepare, save_prepared
from nwb_sbtt.nlb.scoring import evaluate
from nwb_sbtt.nlb.submission import write_submission
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_03"))
epochs = os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS")
seeds = int(os.environ.get("NWB_SBTT_TUTORIAL_SEEDS", "2"))
name = "mc_maze_small"
folder.mkdir(parents=True, exist_ok=True)

simulated = simulate_set(SetSettings(name, train=75, val=25, test=20, units=40))
files = write_set(simulated, folder, overwrite=True)

# %% [markdown]
# ## Tensors
#
# On the command line: `nwb-sbtt nlb prepare mc_maze_small FILES --bin-width 0.02 --folder tutorial_03/tensors`. Bins are 5 or
# 20 ms.
# In phase "val" the training trials train and the validation trials are evaluated; in phase "test" both train, and the file of
# test trials is evaluated, which does not hold the held-out units.

# %%
prepared = prepare(name, files, bin_width=0.02, phase="val")
save_prepared(prepared, folder / "tensors", overwrite=True)
for key, array in prepared.inputs.items():
    print(f"{key}: {' × '.join(map(str, array.shape))}")

# %% [markdown]
# ## Rates
#
# On the command line: `nwb-sbtt nlb fit mc_maze_small … --seeds 5 --run-dir runs/small`. Held-out units and the bins to predict
# are never shown to the model, only scored; the evaluated trials are not looked at before it is done. Several seeds are
# averaged in the logarithm of the rates.

# %%
train = sb.config.TrainConfig(epochs=int(epochs)) if epochs else sb.config.TrainConfig()
rates = predict(prepared, sb.FitConfig(train=train, seeds=seeds), run_dir=folder / "run")

# %% [markdown]
# ## A submission, and its scores
#
# `nwb-sbtt nlb submit` and `nwb-sbtt nlb evaluate`. The three scaling sets, of which this is one, belong into one file: that is
# what the note says.

# %%
for note in write_submission(folder / "submission.h5", {prepared.group: rates}, overwrite=True):
    print("note:", note)
for split, scores in evaluate({prepared.group: rates}, {prepared.group: prepared.targets}).items():
    for metric, value in scores.items():
        print(f"{split}  {metric:<14} {value:.3f}")
