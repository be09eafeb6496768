"""Pictures of recordings, rates, latents and losses; each function gives a matplotlib Figure that a notebook shows.

Imports `data` and `errors`; never a file, never torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "channel_scores": "figures",
    "channel_traces": "figures",
    "data_raster": "figures",
    "estimates_beside_data": "figures",
    "inferred_inputs": "figures",
    "latent_space": "space",
    "loss_curves": "figures",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.plot.figures import channel_scores as channel_scores
    from nwb_sbtt.plot.figures import channel_traces as channel_traces
    from nwb_sbtt.plot.figures import data_raster as data_raster
    from nwb_sbtt.plot.figures import estimates_beside_data as estimates_beside_data
    from nwb_sbtt.plot.figures import inferred_inputs as inferred_inputs
    from nwb_sbtt.plot.figures import loss_curves as loss_curves
    from nwb_sbtt.plot.space import latent_space as latent_space
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
