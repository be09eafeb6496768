# %% [markdown]
# # A first fit: from an NWB file to rates and latents
#
# Few recordings observe every neuron all the time. Here the rates of 29 neurons follow a Lorenz system, and a device with few
# converters samples 10 of them in each 20 ms bin, another 10 in the next. We simulate such a file, read it, fit a model that
# gets the mask of missing entries, and compare inferred rates with the true ones.
#
# Run this page as a script, or cell by cell in an editor with percent cells (VS Code, Spyder, PyCharm, Jupytext).

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
# `write_task` simulates a task and writes an ordinary NWB file. Each unit has `obs_intervals`, the times at which it was
# observed; spikes at other times were not recorded and are not in the file. `inspect` lists the series that can be fitted.

# %%
task = sb.simulate.Task("lorenz", conditions=conditions, trials_per_condition=20)
source = sb.simulate.write_task(folder / "lorenz.nwb", task, observed_per_bin=10, overwrite=True)
for candidate in sb.inspect(source):
    observed = "" if candidate.observed is None else f", {candidate.observed:.0%} observed"
    print(f"{candidate.path}: {candidate.type} {candidate.shape}{observed}")

# %% [markdown]
# ## Read into a masked, labelled Dataset
#
# `read_nwb` needs the series, the bin width and the event to which trials are aligned (times in seconds). The result is an
# `xarray.Dataset` with spike counts in `values` and the mask in `observed`. Missing entries have the value 0: a 0 is a bin
# without a spike only where `observed` is true.

# %%
data = sb.read_nwb(source, series="units", bin_width=0.02, trials=sb.Trials(event="start_time", start=0.0, stop=1.0))
print(data)
for note in json.loads(data.attrs["notes"]):
    print("note:", note)
print(f"observed: {float(data.observed.mean()):.1%} of all entries")

# %% [markdown]
# ## Fit
#
# `fit` stores everything in a run folder. After an interruption, the same call resumes the fit and ends with the same numbers.
# The encoder gets observed entries only, and the loss is computed on observed entries only: selective backpropagation through
# time. In addition, a random share of the observed entries is hidden from the encoder and scored (coordinated dropout), so
# that copying the input does not lower the loss.

# %%
config = sb.FitConfig(train=sb.config.TrainConfig(epochs=epochs), posterior_samples=16)
fitted = sb.fit(data, config, run_dir=folder / "run")
print("training ended:", fitted.finished)

# %% [markdown]
# ## Is it good?
#
# In the validation trials a fifth of the observed entries was hidden from the model and from the baselines. All are scored on
# these entries, in bits per spike: 0 is as good as each neuron's mean rate. In a simulation the true rates are known too, so
# the last column is R² to these.

# %%
data = sb.simulate.read_truth(source, data)
metrics = fitted.evaluate(data)
print(metrics["metric"])
for name, score in metrics["scores"].items():
    print(f"  {name:20s} {score:8.3f}    R² to the true rates {metrics['truth']['rates_r2'][name]:6.3f}")

# %% [markdown]
# ## Inferred rates and factors
#
# `infer` returns rates (Hz) and factors, and from a model with a generator initial conditions and inferred inputs. Each has
# a posterior sd, and all have the coordinates of the data.

# %%
latents = fitted.infer(data)
print(latents)

# %% [markdown]
# ## Write the result
#
# The result is a small NWB file with the units of the source (same ids) and the inferred series in a processing module. The
# source file does not change. The result can be opened with pynwb alone; `read_result` returns a labelled Dataset.

# %%
result = sb.write_nwb(latents, folder / "latents.nwb", source=source, overwrite=True)
print(f"{result.name}: {sorted(map(str, sb.read_result(result).data_vars))}")

# %% [markdown]
# ## Look at it
#
# The report is one self-contained HTML page. Its figures are also functions of `sb.plot`, for notebooks and talks: for
# example `sb.plot.traces(data, latents)`.

# %%
page = sb.report.write_report(
    folder / "report.html", data=data, latents=latents, history=fitted.history, metrics=metrics, title="A first fit"
)
print("open", page)
