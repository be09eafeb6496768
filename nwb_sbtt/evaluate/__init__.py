"""How good a fit is: masked metrics, baselines, calibrated intervals, factors of sessions aligned, behaviour
decoded, and checks for common failures.

Everything is computed on observed entries that were hidden from the model and from the baselines. Imports `config`, `data` and
`errors`; never a file, never torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "MaskedData": "baselines",
    "Prediction": "baselines",
    "align_factors": "alignment",
    "apply_decoder": "decoding",
    "bits_per_spike": "metrics",
    "decode": "decoding",
    "evaluate_latents": "summary",
    "explained_variance": "metrics",
    "interval": "intervals",
    "pearson_r2": "metrics",
    "poisson_nll": "metrics",
    "r2": "metrics",
    "register_baseline": "baselines",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from nwb_sbtt.evaluate.alignment import align_factors as align_factors
    from nwb_sbtt.evaluate.baselines import MaskedData as MaskedData
    from nwb_sbtt.evaluate.baselines import Prediction as Prediction
    from nwb_sbtt.evaluate.baselines import register_baseline as register_baseline
    from nwb_sbtt.evaluate.decoding import apply_decoder as apply_decoder
    from nwb_sbtt.evaluate.decoding import decode as decode
    from nwb_sbtt.evaluate.intervals import interval as interval
    from nwb_sbtt.evaluate.metrics import bits_per_spike as bits_per_spike
    from nwb_sbtt.evaluate.metrics import explained_variance as explained_variance
    from nwb_sbtt.evaluate.metrics import pearson_r2 as pearson_r2
    from nwb_sbtt.evaluate.metrics import poisson_nll as poisson_nll
    from nwb_sbtt.evaluate.metrics import r2 as r2
    from nwb_sbtt.evaluate.summary import evaluate_latents as evaluate_latents
