"""NWB files become labelled, masked Datasets.

Reading goes through these modules, from the file to the Dataset:

* `files` opens a file, HDF5 or Zarr, and computes its SHA-256; `extensions` imports NWB extensions that it needs, `filters`
  tells which plug-ins of HDF5 its arrays need, `references` which of its references lead nowhere. `paths` names its objects,
  `tables` reads columns.
* `layout` decides along which axis of an array time runs; `description` tells shape, times and observed share of a series.
* `results` tells results, copies beside them and the truth of simulations from recordings; `metadata` reads single values of
  a file's metadata.
* `neurodata` registers a reader for each neurodata type, also those of other packages; `selection` finds the series of a
  file and chooses among them; `candidates` lists them, and with `conditions` the tables of trials: `inspect`.
* `units`, `electrical` (with `recording`, the voltages behind it, `montage`, what these are measured against, `survey`,
  which electrodes are bad, and `bands`, which frequencies are read), `rois` (with
  `scanning`, when each ROI was sampled, and `fluorescence`, what a series holds) and `timeseries` each read one neurodata type;
  `events` deconvolves ROIs.
* `indices` checks what tables are indexed by, and the numbers in them; `plausibility` asks whether spike times are seconds.
* `clock` tells when each sample was taken, `rounding` finds the even clock behind coarsely rounded timestamps, `masks` tells
  which samples were observed, `periods` when units were valid.
* `slabs` reads rows of a stored array, each chunk once; `chunks` decompresses them; `runs` puts rows
  between them for samples that were lost; `batches` splits bins by the memory that their samples take.
* `trials` finds the tables that trials are cut from, and their events.
* `series_columns` names and chooses columns of series beside the data; `inputs` puts known inputs (series, events, intervals,
  columns of tables) into the bins of the data, `behaviour` what is decoded.
* `reader` puts it together: `read_nwb`. `labels` are the coordinates of channels and trials. `truth` reads the
  ground truth of a simulated file.

It may import `data`, `signals`, `calcium`, `config` and `io.dandi`, which fetches files; it never sees torch.
"""
