"""Results become NWB files, and are read back; simulations are written here too.

`writer` and `results` are what other packages use; `series` builds NWB objects, `layout` names and orders them, `provenance`
records where they come from, `session` carries the source's metadata, `packing` compresses and saves; `simulation` writes
simulated recordings; `validation` checks a file, and `hints` says what to do about each finding.
"""
