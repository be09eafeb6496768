"""Numerics of sampled voltages: arrays in, arrays out; no file, no torch.

* `filters`: zero-phase filters, evaluated only where a value is wanted, and the bands that a sampling rate can carry.
* `blocks`: a block of a recording, its missing samples, and what every use of it has in common.
* `reference`: voltages against a common reference or another electrode, with the converter's delays taken out.
* `quality`: bad electrodes and line noise, by parts of a recording; `notch` takes lines out.
* `flat`: samples that were stored but not measured (dead electrodes, lost packets, saturation).
* `lfp`: the local field potential at each bin's centre, and the power of a band in each bin.
* `crossings`: threshold crossings counted in bins, and the noise that sets the threshold.

Imports `data`, `config` and `errors`.
"""
