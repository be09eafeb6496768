"""How far forecasts of a learned system miss, beside persistence and a linear system."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwb_sbtt.data.datasets import whole_number
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate.metrics import pooled_explained_variance
from nwb_sbtt.fitting.dynamics.held import states_in
from nwb_sbtt.fitting.forward import best_system, fit_of, forecast_variable, system_forecast
from nwb_sbtt.fitting.preparation import hold_out, prepare
from nwb_sbtt.fitting.widths import errors_of_trials

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

PREDICTORS = ("forecast", "persistence", "average", "linear")
Floats = NDArray[np.float64]


def forecast_error(
    fitted: Fitted,
    ds: xr.Dataset | None = None,
    *,
    given: int | None = None,
    session: str | None = None,
) -> xr.Dataset:
    """Measure how far forecasts of validation trials miss, by horizon, beside persistence, the average and a linear system.

    Each trial is given up to a bin, and forecast from there by the learned system alone (`Fitted.forecast` may count on a
    hidden Markov model too, which says nothing of the system). The truth is not known in a recording: forecasts are compared
    with what is inferred from the whole trial and, in a simulation, with the true rates too. Persistence is what was inferred
    of the last bin given; the average is that of these trials in each bin. The linear system is fitted to the states of the
    training trials by least squares, with the known inputs if there are any, and continues the state inferred in the last
    bin; of an ensemble, that of the best member.

    Parameters
    ----------
    fitted : Fitted
        With ``dynamics``, finished.
    ds : Dataset, optional
        The data of the fit. Default: the fitted recording, from its file.
    given : int, optional
        Bins of each trial that are given. Default: half of them.
    session : str, optional
        Fitted session that the channels belong to. Default: the session of the same recording, if there is one.

    Returns
    -------
    Dataset
        ``error`` (truth, predictor, horizon): the squared error as a share of the variance over trials in that bin, with each
        channel in units of its sd; 0 is a perfect forecast, 1 as good as the average of the trials. ``excess`` (truth,
        predictor): by how much the error over all horizons is larger than that of the learned system, and its standard error
        over trials, ``excess_se``. Coordinates: ``truth`` ("inferred", "true"), ``predictor`` ("forecast", "persistence",
        "average", "linear"), ``horizon`` [bins after the last one given] and ``lead``, the same in seconds.

    Raises
    ------
    ConfigError
        If the fit has learned no system, or is not finished.
    DataError, FileError, MismatchError
        If there are fewer than two validation trials, no bin to forecast, the data do not suit, or the fitted recording cannot
        be read.
    """
    fit_of(fitted)
    name, matched = fitted.match(fitted.data(session) if ds is None else ds, session, same_channels=True)
    prepared = prepare(matched, fitted.config)
    train, valid = (
        prepared.isel(trial=np.flatnonzero(prepared["split"].values == part)) for part in ("train", "valid")
    )
    if valid.sizes["trial"] < 2:
        raise DataError(f"there are {valid.sizes['trial']} validation trials; errors of forecasts need two or more")
    n_bins = valid.sizes["time"]
    given = whole_number("given", n_bins // 2 if given is None else given)
    if given >= n_bins:
        raise DataError(
            f"given is {given}, and trials have {n_bins} bins; give fewer, so that some are left to forecast"
        )
    early, later = valid.isel(time=slice(0, given)), valid.isel(time=slice(given, None))
    variable, infer = forecast_variable(fitted), partial(fitted.infer, session=name, same_channels=True)
    ahead = system_forecast(fitted, valid, given=given, session=name)
    last = infer(early)[variable].values[:, -1:]
    courses = {
        "forecast": ahead,
        "persistence": np.broadcast_to(last, ahead.shape),
        "linear": linear_forecast(fitted, train, valid, given=given, session=name),
    }
    truths = {"inferred": infer(valid)[variable].values[:, given:]}
    if (known := f"true_{variable}") in later:
        truths["true"] = later[known].values
    errors, of_trials = [], []
    for true in truths.values():
        predicted = {**courses, "average": np.broadcast_to(true.mean(0), true.shape)}
        errors.append([_by_horizon(predicted[predictor], true) for predictor in PREDICTORS])
        of_trials.append([errors_of_trials(predicted[predictor], true) for predictor in PREDICTORS])
    excess = np.array(of_trials) - np.array(of_trials)[:, :1]
    dims, horizon = ("truth", "predictor"), np.arange(1, n_bins - given + 1)
    width = float(valid.attrs["bin_width"])
    return xr.Dataset(
        {
            "error": ((*dims, "horizon"), errors, {"units": "share of the variance"}),
            "excess": (dims, excess.mean(2), {"units": "share of the variance"}),
            "excess_se": (dims, excess.std(2, ddof=1) / np.sqrt(excess.shape[2]), {"units": "share of the variance"}),
        },
        coords={
            "truth": list(truths),
            "predictor": list(PREDICTORS),
            "horizon": horizon,
            "lead": ("horizon", horizon * width, {"units": "s"}),
        },
        attrs={"session": name, "bin_width": width, "given": given, "trials": valid.sizes["trial"]},
    )


def linear_forecast(fitted: Fitted, train: xr.Dataset, valid: xr.Dataset, *, given: int, session: str) -> Floats:
    """Forecast by a linear system of the same states, fitted to those of training trials by least squares.

    Parameters
    ----------
    fitted : Fitted
    train : Dataset
        Training trials.
    valid : Dataset
        Trials that are forecast. Of their later bins the known inputs are used.
    given : int
        First bins of these, from which they are.
    session : str

    Returns
    -------
    array (trial, time, channel)
        Of the later bins: rates [Hz], or means in the unit of the signal.

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    """
    dynamics = best_system(fitted)
    of_train, whole, early = (
        to_batch(hold_out(each, fitted.config), session) for each in (train, valid, valid.isel(time=slice(0, given)))
    )
    states, before = (states_in(fitted, dynamics, batch).cpu() for batch in (of_train, early))
    dynamics = dynamics.cpu()
    known, ahead = (dynamics.features(batch) for batch in (of_train, whole))
    pairs = _with_one(states, known)[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)
    # By singular values: columns of what is never missing are 0, and the default driver can lose others with them.
    step = torch.linalg.lstsq(*(each.double() for each in pairs), driver="gelsd").solution.float()
    course = [before[:, -1]]
    for t in range(given - 1, valid.sizes["time"] - 1):
        now = None if ahead is None else ahead[:, t : t + 1]
        course.append(_with_one(course[-1][:, None], now)[:, 0] @ step)
    with torch.no_grad():
        expected = dynamics.likelihood.expected(torch.stack(course[1:], 1), session).double().numpy()
    return np.asarray(expected / float(train.attrs["bin_width"]) if forecast_variable(fitted) == "rates" else expected)


def _with_one(states: Tensor, features: Tensor | None) -> Tensor:
    """States, known inputs and a column of ones (trial, time, column)."""
    one = torch.ones_like(states[..., :1])
    return torch.cat([states, one] if features is None else [states, features, one], -1)


def _by_horizon(course: Floats, true: Floats) -> list[float]:
    """Squared error in each bin, as a share of the variance over trials there; NaN where no channel varies."""
    sd = true.std((0, 1))
    where = np.ones(true[:, 0].shape, bool)
    varies = (true.std(0) > 0)[:, sd > 0].any(1)
    return [
        1 - pooled_explained_variance(course[:, t], true[:, t], where, sd=sd) if varies[t] else np.nan
        for t in range(true.shape[1])
    ]
