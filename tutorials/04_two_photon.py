# %% [markdown]
# # Two-photon imaging: latents between the frames
#
# At 33 frames per second, each cell is sampled every 30 ms, so dynamics above 17 Hz are out of reach, and those near it hard to
# resolve. But not all cells are sampled at once: the laser scans the lower ones later than the upper ones. With bins of a third
# of a frame, each sample lies in the bin of its own time, and the cell's two other bins are missing. A model that gets this
# mask can use the timing. Here we simulate such a recording, fit it as the command line does, and test whether latents are
# recovered that oscillate seven times per second.
#
# Everything runs offline. Figures are in the folder at the end.

# %%
import json
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.pipeline import Output, fit_files

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_04"))
cells = int(os.environ.get("NWB_SBTT_TUTORIAL_CELLS", "90"))
conditions = int(os.environ.get("NWB_SBTT_TUTORIAL_CONDITIONS", "12"))
epochs = int(os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS", "25"))
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A recording in which each cell has its own sampling time
#
# `nwb-sbtt simulate calcium-subframe` writes an ordinary NWB file: an imaging plane, its ROIs and their ΔF/F. Firing rates
# follow a Lorenz system; each spike adds to calcium with a decay time of 0.4 s, and noise is added. A column of the ROI table
# holds the delay of each ROI's samples from the start of the frame. Files of suite2p have no such column: use the masks
# (`read.rois.offset=centroid`), or your own array (`--offsets`).

# %%
task = sb.simulate.Task("calcium-subframe", n_channels=cells, conditions=conditions, trials_per_condition=20)
source = sb.simulate.write_task(folder / "two_photon.nwb", task, overwrite=True)
for candidate in sb.inspect(source):
    print(f"{candidate.path}: {candidate.type} {candidate.shape}")

# %% [markdown]
# ## How the series is read, and why
#
# `read_nwb` recognises the kind of signal and notes the choice. Here it is ΔF/F: events are inferred for the whole session,
# before it is divided into trials; `read.rois.deconvolve=never` would leave the series as it is. Event sizes are zero or
# positive, so their likelihood is a zero-inflated gamma.

# %%
read = sb.ReadConfig(
    bin_width=0.01, cut=sb.Trials(event="go_time", start=0.0, stop=0.6), rois=sb.config.RoiConfig(offset="column")
)
estimated = sb.read_nwb(source, read)
for note in json.loads(estimated.attrs["notes"]):
    print(note)

# %% [markdown]
# ## Check the decay times
#
# The file names no indicator, so the decay time of each ROI is estimated with a wide prior around 0.5 s. Check the estimates
# before you train on the events. The true decay time is 0.4 s for all cells, but it is overestimated, up to 1 s, for those
# whose rates change slowly: a slow burst of spikes looks like one spike with a slow decay. Overestimated decay times blur
# events, and a model can correct only part of that. If you know the indicator, set it
# (`--set read.events.indicator=GCaMP6f`), or set the decay time.

# %%
percentiles = np.quantile(estimated["decay"].values, (0.1, 0.5, 0.9))
print("estimated decay times, 10th, 50th and 90th percentile: {:.2f}, {:.2f}, {:.2f} s".format(*percentiles))
read = read.model_copy(update={"events": sb.config.EventsConfig(decay_time=0.4)})

# %% [markdown]
# ## Fit
#
# On the command line:
#
# ```bash
# nwb-sbtt fit two_photon.nwb --bin-width 0.01 --trials go_time:0:0.6 --set read.rois.offset=column \
#     --set read.events.decay_time=0.4 --set train.epochs=25 --run-dir run --out latents.nwb
# ```
#
# which calls `fit_files`: fit a model (resumes if interrupted), score it and the baselines on hidden events, write a report
# and the results. Training is shortened here, to about a minute; without `train.epochs` it takes three times as long.

# %%
config = sb.FitConfig(train=sb.config.TrainConfig(epochs=epochs))
result = folder / "latents.nwb"
fit_files([source], read, config, run_dir=folder / "run", output=Output(result, overwrite=True))

# %% [markdown]
# ## Samples in bins
#
# With bins of 10 ms, each cell has a sample in every third bin; two thirds of the entries are missing. Without the sampling
# offsets, all cells have their samples in the same bin of three, and the bins in between are empty.

# %%
fine = sb.read_nwb(source, read)
without_offsets = sb.read_nwb(source, read.model_copy(update={"rois": sb.config.RoiConfig()}))
for name, data in (("own moments", fine), ("frame's moment", without_offsets)):
    n_samples = data.observed.values[0].sum(1)
    print(f"{name}: {float(data.observed.mean()):.0%} observed; samples in the first bins {n_samples[:6].tolist()}")

# %% [markdown]
# ## The result, and the truth
#
# The file holds factors, the expected event size of each ROI in each bin, the events, the denoised fluorescence, and the decay
# time of each ROI, all linked to the rows of the ROI table. The true latents are decoded linearly from the factors: the
# regression is fitted to the training trials and tested on the others. As in the published task, each condition has training
# trials; with `split_by="condition"` whole conditions are held out, which is harder.

# %%
latents = sb.read_result(result)
print(f"{result.name}: {sorted(map(str, latents.data_vars))}")
truth = sb.simulate.read_truth(source, fine)["true_latents"].values
train = fine["split"].values == "train"


def decode(factors: np.ndarray) -> np.ndarray:
    """Latents (trial, time, latent) by linear regression on the factors, fitted to the training trials."""
    design = np.insert(factors, 0, 1.0, axis=2)
    weights, *_ = np.linalg.lstsq(design[train].reshape(-1, design.shape[2]), truth[train].reshape(-1, 3), rcond=None)
    return design @ weights


decoded = decode(latents["factors"].values)
for i, name in enumerate("XYZ"):
    error, deviation = decoded[~train, :, i] - truth[~train, :, i], truth[~train, :, i] - truth[~train, :, i].mean()
    print(f"R² of {name}: {1 - (error**2).sum() / (deviation**2).sum():.3f}")

# %% [markdown]
# ## Figures
#
# One validation trial: the samples of twelve cells, and the three latents, true and decoded. Grey lines are frames.

# %%
trial = int(np.flatnonzero(~train)[0])
time = fine["time"].values
figure = Figure(figsize=(8, 6), layout="constrained")
top, *below = figure.subplots(4, 1, sharex=True, height_ratios=(2, 1, 1, 1))
bins, rows = np.nonzero(fine["observed"].values[trial, :, :12])
top.scatter(time[bins], rows, s=8, color="#0072B2")
top.set(ylabel="cell", title="samples of twelve cells, one dot each")
for i, axes in enumerate(below):
    axes.plot(time, truth[trial, :, i], color="black", lw=1, label="true")
    axes.plot(time, decoded[trial, :, i], color="#D55E00", lw=1.5, label="decoded")
    axes.set_ylabel("XYZ"[i])
for axes in (top, *below):
    for frame in np.arange(0.0, 0.6, 0.03):
        axes.axvline(frame, color="#DDDDDD", lw=0.6, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
below[0].legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.95))
below[-1].set_xlabel("time from the go cue [s]")
figure.savefig(folder / "trial.png", dpi=120)
sb.plot.latents(latents).figure.savefig(folder / "space.png", dpi=120)
print("look at", folder / "trial.png", "and", folder / "space.png", "and open", folder / "run" / "report.html")
