"""Calcium: one owner of what is known of indicators, kinetics, deconvolution and spikes behind fluorescence.

`indicators` and `kinetics` need numpy alone, `deconvolution` finds events in one trace and `events` in a Dataset; `spiking`
infers spike counts by message passing in torch. Imports `data`, `config` and `errors`; never a file, never a model.
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
