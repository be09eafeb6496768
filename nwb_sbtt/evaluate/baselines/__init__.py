"""Methods that a fit is compared with. `protocol` says what a baseline gets and gives, and how one is added.

From simple to strong: each channel's mean and masked smoothing (`smoothing`), a low-rank Wiener filter (`wiener`), factor
analysis and a linear dynamical system (`statespace`).
"""

from nwb_sbtt.evaluate.baselines.protocol import BASELINES, Baseline, MaskedData, Prediction, predict, register_baseline

__all__ = ["BASELINES", "Baseline", "MaskedData", "Prediction", "predict", "register_baseline"]
