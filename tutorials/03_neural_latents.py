# %% [markdown]
# # Neural Latents Benchmark: from files to a submission
#
# The benchmark has seven data sets. Each provides the spikes of some units (held in) and asks for the rates of all. Scores are
# bits per spike of the held-out units (co-bps, co-smoothing) and of the bins after each window (fp-bps, forward prediction),
# and R² of the hand's velocity (vel R2) and of the mean response of each condition (psth R2). This page goes from the two
# files of MC_Maze_Small to a submission and its scores on the validation trials.
#
# Nothing is downloaded: the files are simulated in the format of the published ones. For these, replace the simulation by
# `files = nwb_sbtt.nlb.fetching.fetch_files(name, folder, phase="val")`, or by the paths of your own copies. On the command
# line, `nwb-sbtt nlb prepare mc_maze_small` without files downloads them.

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
# On the command line: `nwb-sbtt nlb prepare mc_maze_small FILES --bin-width 0.02 --folder tutorial_03/tensors`. Bins are 5
# or 20 ms wide. In phase "val", the model is fitted to the training trials and evaluated on the validation trials. In phase
# "test", it is fitted to both and evaluated on the test file, which does not contain the held-out units.

# %%
prepared = prepare(name, files, bin_width=0.02, phase="val")
save_prepared(prepared, folder / "tensors", overwrite=True)
for key, array in prepared.inputs.items():
    print(f"{key}: {' × '.join(map(str, array.shape))}")

# %% [markdown]
# ## Rates
#
# On the command line: `nwb-sbtt nlb fit mc_maze_small … --seeds 5 --run-dir runs/small`. Held-out units and forecast bins are
# never shown to the encoder, only scored. The evaluated trials are not used before the fit has ended. The log rates of
# several seeds are averaged.

# %%
train = sb.config.TrainConfig(epochs=int(epochs)) if epochs else sb.config.TrainConfig()
rates = predict(prepared, sb.FitConfig(train=train, seeds=seeds), run_dir=folder / "run")

# %% [markdown]
# ## A submission, and its scores
#
# On the command line: `nwb-sbtt nlb submit` and `nwb-sbtt nlb evaluate`. MC_Maze_Small is one of three scaling sets that the
# benchmark scores together, from one file; hence the note.

# %%
for note in write_submission(folder / "submission.h5", {prepared.group: rates}, overwrite=True):
    print("note:", note)
for split, scores in evaluate({prepared.group: rates}, {prepared.group: prepared.targets}).items():
    for metric, value in scores.items():
        print(f"{split}  {metric:<14} {value:.3f}")
