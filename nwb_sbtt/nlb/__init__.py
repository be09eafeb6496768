"""The Neural Latents Benchmark: from its files to a submission, scored as the benchmark scores it (Pei, Ye et al. 2021).

* `definitions`, `windows`: what each data set is, and where its windows lie; `fetching`: its files, from DANDI.
* `counting`, `conditions`, `preparation`: from recordings to tensors.
* `presets`, `modelling`: settings published for LFADS, and rates from a fit.
* `submission`, `metrics`, `scoring`: rates in the benchmark's file, and their scores.

May import everything but `simulate` and the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "evaluate": "scoring",
    "fetch_files": "fetching",
    "infer_rates": "modelling",
    "load_prepared": "preparation",
    "predict": "modelling",
    "prepare": "preparation",
    "read_submission": "submission",
    "save_prepared": "preparation",
    "save_rates": "modelling",
    "write_submission": "submission",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.nlb.fetching import fetch_files as fetch_files
    from nwb_sbtt.nlb.modelling import infer_rates as infer_rates
    from nwb_sbtt.nlb.modelling import predict as predict
    from nwb_sbtt.nlb.modelling import save_rates as save_rates
    from nwb_sbtt.nlb.preparation import load_prepared as load_prepared
    from nwb_sbtt.nlb.preparation import prepare as prepare
    from nwb_sbtt.nlb.preparation import save_prepared as save_prepared
    from nwb_sbtt.nlb.scoring import evaluate as evaluate
    from nwb_sbtt.nlb.submission import read_submission as read_submission
    from nwb_sbtt.nlb.submission import write_submission as write_submission
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
