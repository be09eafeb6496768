"""Calcium: one owner of what is known of indicators, kinetics, deconvolution and spikes behind fluorescence.

`indicators` is the table; `decay`, `neuropil` and `deconvolution` are numerics of one trace, in numpy, and `events` applies
them to a Dataset. `kinetics` says how fluorescence follows spikes; `samples`, `beliefs` and `spiking` infer spike counts by
message passing, in torch; `search` measures kinetics. Imports `data`, `batch`, `config` and `errors`; never a file, never a
model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "find_events": "events",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.calcium.events import find_events as find_events
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
