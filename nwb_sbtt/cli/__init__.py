"""The command line: `main` has the verbs, `dandi` and `nlb` those of archives and of the benchmark, `pipeline` what each does.

May import everything; nothing imports it.
"""
