"""The command line: `main`, `settings`, `dandi`, `nlb`, `many` and `search` define its commands, and
`options` checks what they are given.

May import everything; nothing imports it.
"""
