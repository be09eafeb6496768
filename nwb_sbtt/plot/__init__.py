"""Figures of recordings, rates, latents, scores and losses; each function returns a matplotlib Figure, which a notebook shows.

Colours can be told apart with any kind of colour vision; no global state of matplotlib is changed. Imports `data` and `errors`;
never a file, never torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "channel_scores": "training",
    "channel_traces": "rates",
    "condition_courses": "alignment",
    "data_raster": "recordings",
    "inferred_inputs": "latents",
    "latent_space": "latents",
    "loss_curves": "training",
    "rates_beside_data": "rates",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from nwb_sbtt.plot.alignment import condition_courses as condition_courses
    from nwb_sbtt.plot.latents import inferred_inputs as inferred_inputs
    from nwb_sbtt.plot.latents import latent_space as latent_space
    from nwb_sbtt.plot.rates import channel_traces as channel_traces
    from nwb_sbtt.plot.rates import rates_beside_data as rates_beside_data
    from nwb_sbtt.plot.recordings import data_raster as data_raster
    from nwb_sbtt.plot.training import channel_scores as channel_scores
    from nwb_sbtt.plot.training import loss_curves as loss_curves
