"""Data from anywhere, and results for other tools: arrays, xarray, pynapple, spikeinterface, pandas and MATLAB.

* `arrays`: a Dataset from arrays or xarray, with `labels`: what callers say of these; `recordings`: a Dataset from objects of
  pynapple and spikeinterface.
* `results`: latents as objects of pynapple, as tables of pandas, and as a MATLAB file.
* `estimator`: `SBTT`, fits as scikit-learn does them, without a run folder.

Objects of pynapple and spikeinterface become a recording in memory that the readers of NWB files read, so that all settings of
reading apply to them. Imports `fitting`, `io`, `data` and `config`.
"""
