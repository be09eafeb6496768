"""NWB files become labelled, masked Datasets.

`reader` is the door; `selection` and `candidates` say what a file holds, `files` opens it; `units`, `electrical`, `rois` and
`timeseries` each read one neurodata type; `clock`, `masks` and `validity` say when a sample counts; `slabs` and
`chunks` get bytes.
"""
