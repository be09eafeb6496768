"""Files: NWB recordings read (`read`), results written (`write`), archives (`dandi`), the files of benchmarks (`benchmark`).

`progress` shows how much of a long work is done.

Nothing else knows pynwb. Imports `data`, `signals`, `calcium`, `config` and `errors`; never torch.
"""
