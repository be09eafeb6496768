"""Pictures of recordings, rates, latents, scores and training, for notebooks, talks and the report.

Each function takes the axes to draw on (``ax``), makes a figure where none are given, and returns the axes. Colours can be told
apart with any kind of colour vision; no global state of matplotlib is changed. Imports `data` and `errors`; never a file, never
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "calcium": "channels",
    "compare": "results",
    "condition_courses": "alignment",
    "decoding": "behaviour",
    "flow_field": "dynamics",
    "forecast_error": "dynamics",
    "inputs": "factors",
    "latents": "factors",
    "mask": "images",
    "psth": "channels",
    "rates": "images",
    "scores": "results",
    "traces": "channels",
    "training": "results",
    "true_latents": "factors",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from nwb_sbtt.plot.alignment import condition_courses as condition_courses
    from nwb_sbtt.plot.behaviour import decoding as decoding
    from nwb_sbtt.plot.channels import calcium as calcium
    from nwb_sbtt.plot.channels import psth as psth
    from nwb_sbtt.plot.channels import traces as traces
    from nwb_sbtt.plot.dynamics import flow_field as flow_field
    from nwb_sbtt.plot.dynamics import forecast_error as forecast_error
    from nwb_sbtt.plot.factors import inputs as inputs
    from nwb_sbtt.plot.factors import latents as latents
    from nwb_sbtt.plot.factors import true_latents as true_latents
    from nwb_sbtt.plot.images import mask as mask
    from nwb_sbtt.plot.images import rates as rates
    from nwb_sbtt.plot.results import compare as compare
    from nwb_sbtt.plot.results import scores as scores
    from nwb_sbtt.plot.results import training as training
