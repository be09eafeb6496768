"""Is a learned system the right one: fixed points, Lyapunov exponents, flow, and errors of forecasts.

For fits with ``FitConfig.dynamics``. Each function returns a Dataset, and `nwb_sbtt.plot` draws it; the report has all of them.

* `held`: the system with its known inputs held, and the states that data visit.
* `stability`, `plane`, `forecasting`: fixed points and exponents, the flow, errors of forecasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "fixed_points": "stability",
    "flow_field": "plane",
    "forecast_error": "forecasting",
    "lyapunov_exponent": "stability",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.fitting.dynamics.forecasting import forecast_error as forecast_error
    from nwb_sbtt.fitting.dynamics.plane import flow_field as flow_field
    from nwb_sbtt.fitting.dynamics.stability import fixed_points as fixed_points
    from nwb_sbtt.fitting.dynamics.stability import lyapunov_exponent as lyapunov_exponent
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
