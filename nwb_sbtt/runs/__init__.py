"""Many fits at once: one fit for each of many files, tables that compare run folders, and scripts for batch systems.

Imports `search` (for Ray), `pipeline`, `report`, `fitting` and what lies below; only the command line imports this.
"""
