# %% [markdown]
# # Two-photon imaging: latents between the frames
#
# A microscope that scans 33 frames a second seems to see nothing faster than 17 turns a second, and little of what comes near
# that. But it does not see all cells at once: the beam passes the lower ones later than the upper ones. Bins of a third of a
# frame, each cell's sample in the bin of its own moment and nothing in the two others, keep that time, and a model that is told
# which bins are empty can use it. Here we simulate such a recording, fit it by what the command line runs, and see whether
# latents come back that turn seven times a second.
#
# Everything runs offline; pictures lie in the folder at the end.

# %%
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.cli.pipeline import Output, fit_files
from nwb_sbtt.cli.route import route
from nwb_sbtt.plot import latent_space

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_04"))
cells = int(os.environ.get("NWB_SBTT_TUTORIAL_CELLS", "90"))
conditions = int(os.environ.get("NWB_SBTT_TUTORIAL_CONDITIONS", "12"))
epochs = int(os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS", "25"))
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A recording with a clock of its own for each cell
#
# `nwb-sbtt simulate calcium-subframe` writes an ordinary NWB file: a plane, its ROIs and their ΔF/F, frame by frame. Cells fire
# as a Lorenz system says, each spike adds to calcium that decays in 0.4 s, and noise is added. A column of the ROI table says
# how long after its frame each ROI was sampled. Files of suite2p have no such column; then the masks say it
# (`read.rois.offset=centroid`), or an array of your own (`--offsets`).

# %%
task = sb.simulate.Task("calcium-subframe", n_channels=cells, conditions=conditions, trials_per_condition=20)
source = sb.simulate.write_task(folder / "two_photon.nwb", task, overwrite=True)
for candidate in sb.inspect(source):
    print(f"{candidate.path}: {candidate.type} {candidate.shape}")

# %% [markdown]
# ## What would be chosen, and why
#
# `fit` looks at what a series holds and says what follows. Here these are ΔF/F, so events are found by OASIS, over the whole
# session, before it is cut into trials. Events are zero or positive, so their likelihood is zero-inflated gamma.

# %%
read = sb.ReadConfig(
    bin_width=0.01, cut=sb.Trials(event="go_time", start=0.0, stop=0.6), rois=sb.config.RoiConfig(offset="column")
)
chosen, why = route([source], read, sb.FitConfig())
for line in why:
    print(line)

# %% [markdown]
# ## A look at the decays
#
# Nothing in this file names an indicator, so the decay of each ROI is fitted with a wide prior around half a second. Look at
# what comes out before anything is trained on it. All cells decay in 0.4 s here, but those that fire in slow waves seem to
# decay in one: a wave of events looks like a slow event. Events found with a wrong decay are smeared over time, and a model can
# make up for a part of that only. Who knows the indicator should say so: `--set read.events.indicator=GCaMP6f`, or the decay
# itself.

# %%
guessed = sb.read_nwb(source, chosen)
tenths = np.quantile(guessed["decay"].values, (0.1, 0.5, 0.9))
print("decays found, 10th, 50th and 90th percentile: {:.2f}, {:.2f}, {:.2f} s".format(*tenths))
read = read.model_copy(update={"events": sb.config.EventsConfig(decay_time=0.4)})

# %% [markdown]
# ## Fitting
#
# On the command line:
#
# ```bash
# nwb-sbtt fit two_photon.nwb --bin-width 0.01 --trials go_time:0:0.6 --set read.rois.offset=column \
#     --set read.events.decay_time=0.4 --set train.epochs=25 --run-dir run --out latents.nwb
# ```
#
# which is a call of `fit_files`. It reads, fits, scores hidden events beside simple methods, draws a report and writes the
# result. Training is cut short here, to about a minute; without `train.epochs` it takes three times as long.

# %%
config = sb.FitConfig(train=sb.config.TrainConfig(epochs=epochs))
result = folder / "latents.nwb"
fit_files([source], read, config, run_dir=folder / "run", output=Output(result, overwrite=True))

# %% [markdown]
# ## What the bins hold
#
# In bins of 10 ms each cell has a sample in every third: two thirds of the entries are empty, and marked so. Without the
# offsets, the same file in the same bins has all samples in one bin of three, and nothing in between.

# %%
fine = sb.read_nwb(source, read)
together = sb.read_nwb(source, read.model_copy(update={"rois": sb.config.RoiConfig()}))
for name, data in (("own moments", fine), ("frame's moment", together)):
    seen = data.observed.values[0].sum(1)
    print(f"{name}: {float(data.observed.mean()):.0%} observed; samples in the first bins {seen[:6].tolist()}")

# %% [markdown]
# ## The result, and the truth
#
# The file holds factors, what is expected of each ROI in each bin, the events, the fluorescence that they make, and the decay
# that was found of each ROI, all on the rows of the same ROI table. A linear read-out of the factors, made on the training
# trials, is compared with the latents that the simulation kept, on the trials that did not train. These repeat courses that
# other trials trained on, as in the published task; `split_by="condition"` keeps whole courses for them, which is harder.

# %%
latents = sb.read_result(result)
print(f"{result.name}: {sorted(map(str, latents.data_vars))}")
truth = sb.simulate.read_truth(source, fine)["true_latents"].values
trains = fine["split"].values == "train"


def read_out(features: np.ndarray) -> np.ndarray:
    """Latents (trial, time, latent) by least squares from features, fitted on the training trials."""
    padded = np.insert(features, 0, 1.0, axis=2)
    weights, *_ = np.linalg.lstsq(padded[trains].reshape(-1, padded.shape[2]), truth[trains].reshape(-1, 3), rcond=None)
    return padded @ weights


found = read_out(latents["factors"].values)
for i, name in enumerate("XYZ"):
    missed, spread = found[~trains, :, i] - truth[~trains, :, i], truth[~trains, :, i] - truth[~trains, :, i].mean()
    print(f"R² of {name}: {1 - (missed**2).sum() / (spread**2).sum():.3f}")

# %% [markdown]
# ## Pictures
#
# One trial: which samples there were, and the three latents, true and found. The frames are the grey lines.

# %%
trial = int(np.flatnonzero(~trains)[0])
time = fine["time"].values
figure = Figure(figsize=(8, 6), layout="constrained")
top, *below = figure.subplots(4, 1, sharex=True, height_ratios=(2, 1, 1, 1))
bins, rows = np.nonzero(fine["observed"].values[trial, :, :12])
top.scatter(time[bins], rows, s=8, color="#0072B2")
top.set(ylabel="cell", title="samples of twelve cells, one dot each")
for i, axes in enumerate(below):
    axes.plot(time, truth[trial, :, i], color="black", lw=1, label="truth")
    axes.plot(time, found[trial, :, i], color="#D55E00", lw=1.5, label="found")
    axes.set_ylabel("XYZ"[i])
for axes in (top, *below):
    for frame in np.arange(0.0, 0.6, 0.03):
        axes.axvline(frame, color="#DDDDDD", lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
below[0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.95))
below[-1].set_xlabel("time from the go cue [s]")
figure.savefig(folder / "trial.png", dpi=120)
latent_space(latents).savefig(folder / "space.png", dpi=120)
print("look at", folder / "trial.png", "and", folder / "space.png", "and open", folder / "run" / "report.html")
