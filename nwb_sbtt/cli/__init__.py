"""The command line: `main`, `settings`, `dandi` and `nlb` define its commands, `options` checks what they are given.

May import everything; nothing imports it.
"""
