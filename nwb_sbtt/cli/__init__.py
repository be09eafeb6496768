"""The command line: `main` has the verbs, `settings`, `dandi` and `nlb` further ones, `pipeline` what the verbs do.

May import everything; nothing imports it.
"""
