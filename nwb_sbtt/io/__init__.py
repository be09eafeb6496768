"""Files: NWB recordings read (`read`), results written (`write`), archives (`dandi`), the files of benchmarks (`benchmark`).

Nothing else knows pynwb. Imports `data`, `signals`, `calcium`, `config` and `errors`; never torch.
"""
