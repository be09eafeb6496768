"""Many fits at once, on Ray: a search over settings, from a laptop to a cluster.

Imports everything below the command line, and alone knows Ray and Optuna, by their public names; both are extras
(``pip install "nwb_sbtt[search]"``), imported when a search begins.
"""
