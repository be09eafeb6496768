# %% [markdown]
# # A first fit: from an NWB file to rates and latents
#
# A recording rarely shows every neuron at every moment. Here 29 neurons follow a Lorenz system, and a device with few
# converters samples 10 of them in each 20 ms bin, another 10 in the next. We make such a file, read it, fit a model that is
# told what is missing, and compare what it infers with the truth that the simulation kept.
#
# Run it as a script, or cell by cell in any editor that knows percent cells.

# %%
import json
import os
from pathlib import Path

import nwb_sbtt as sb

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_01"))
conditions = int(os.environ.get("NWB_SBTT_TUTORIAL_CONDITIONS", "40"))
epochs = int(os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS", "30"))
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A recording with gaps
#
# `write_task` simulates a task and writes an ordinary NWB file. Each unit's `obs_intervals` say when it was observed; spikes
# at other times were not recorded, and are not in the file.

# %%
task = sb.simulate.Task("lorenz", conditions=conditions, trials_per_condition=20)
source = sb.simulate.write_task(folder / "lorenz.nwb", task, observed_per_bin=10, overwrite=True)
for candidate in sb.inspect(source):
    share = "" if candidate.observed is None else f", {candidate.observed:.0%} observed"
    print(f"{candidate.path}: {candidate.type} {candidate.shape}{share}")

# %% [markdown]
# ## Reading into a masked, labelled Dataset
#
# One call: which series, how wide the bins, where trials begin. The result is an `xarray.Dataset` with `values` and
# `observed`. Where nothing was observed the value is 0 and `observed` says so: a zero is a measured zero only where
# `observed` is true.

# %%
data = sb.read_nwb(source, series="units", bin_width=0.02, trials=sb.Trials(event="start_time", start=0.0, stop=1.0))
print(data)
for note in json.loads(data.attrs["notes"]):
    print("note:", note)
print(f"observed: {float(data.observed.mean()):.1%} of all entries")

# %% [markdown]
# ## Fitting
#
# `fit` keeps everything in a run folder. Give it the same call again after an interruption and it goes on where it was, to
# the same numbers. The encoder sees observed entries only, and only observed entries are scored: selective backpropagation
# through time. On top of that a share of the observed entries is hidden at random (coordinated dropout), so that the model
# cannot earn anything by copying its input.

# %%
config = sb.FitConfig(train=sb.config.TrainConfig(epochs=epochs), posterior_samples=16)
fitted = sb.fit(data, config, run_dir=folder / "run")
print("training ended:", fitted.finished)

# %% [markdown]
# ## Is it any good?
#
# In the validation trials a fifth of the observed entries was hidden from the model, and from the baselines too. The table
# scores each on exactly these. With simulated data the truth is known as well: `rates` is the R² to the true rates.

# %%
data = sb.simulate.read_truth(source, data)
metrics = fitted.evaluate(data)
print(metrics["metric"])
for name, score in metrics["scores"].items():
    print(f"  {name:20s} {score:8.3f}    R² to the true rates {metrics['truth']['rates_r2'][name]:6.3f}")

# %% [markdown]
# ## What was inferred
#
# `infer` gives rates in Hz, factors, the generator's initial conditions and its inferred inputs, each with the spread of
# the posterior, labelled like the data.

# %%
latents = fitted.infer(data)
print(latents)

# %% [markdown]
# ## Writing it back
#
# The result is a small NWB file with the source's units (same ids) and the inferred series in a processing module. The
# source file stays as it was. Anyone can open the result, with this package or without it.

# %%
result = sb.write_nwb(latents, folder / "latents.nwb", source=source, overwrite=True)
again = sb.read_result(result)
print(f"{result.name}: {sorted(map(str, again.data_vars))}")

# %% [markdown]
# ## Looking at it
#
# The report is one HTML page that needs nothing else. Its figures are functions too, for notebooks and talks.

# %%
page = sb.report.write_report(
    folder / "report.html", data=data, latents=latents, history=fitted.history, metrics=metrics, title="A first fit"
)
print("open", page)
