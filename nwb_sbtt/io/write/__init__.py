"""Results become NWB files, and are read back; simulations are written here too.

`writer` is the door, `results` the way back; `series` builds NWB objects, `layout` names and orders them, `provenance` records
where they come from, `session` carries the source's metadata; `staging` and `packing` put bytes on the disk; `validation`
checks the file.
"""
