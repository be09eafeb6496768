"""What a fit can do with the system that it has learned (`FitConfig.dynamics`): simulate trials, and forecast."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from nwb_sbtt.batch import Batch, generator_on
from nwb_sbtt.data.datasets import dataset_of, whole_number
from nwb_sbtt.data.schema import DIMS, check_dataset, make_dataset, name_units, with_notes
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.fitting.device import device_of
from nwb_sbtt.fitting.learnable import without_system
from nwb_sbtt.fitting.preparation import hold_out
from nwb_sbtt.fitting.runfolder import FORECAST, read_json, write_json
from nwb_sbtt.fitting.stream import as_inputs, as_numbers
from nwb_sbtt.fitting.widths import Widths, errors_of_trials, measure_widths
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.models.windows import windows
from nwb_sbtt.train.dynamics import draw_trials

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

LEAST_SD = 1e-4
"""Of what is inferred of a channel, as a share of the largest; one that varies less, such as a silent one, decides nothing."""
_KEPT = ("unit", "bin_reference", "session_id", "frame")
"""Attributes that simulated data have from those that they are like."""


def fit_of(given: Fitted) -> Fitted:
    """Return what was given, if it is a fit; else say what came, and what to try.

    Parameters
    ----------
    given : Fitted

    Returns
    -------
    Fitted

    Raises
    ------
    ConfigError
        If it is anything else.
    """
    if callable(getattr(given, "session_name", None)):
        return given
    if isinstance(given, str | Path):
        raise ConfigError(
            f"got the path {str(given)!r}; expected a fit: load its run folder first, sb.load({str(given)!r})"
        )
    raise ConfigError(f"got a {type(given).__name__}; expected a fit, of sb.fit(…) or sb.load(run_dir)")


def systems_of(fitted: Fitted) -> tuple[Dynamics, ...]:
    """Return a copy of the system of each member.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    tuple of Dynamics

    Raises
    ------
    ConfigError
        If the fit learns none, or training has not come so far, or ended at its time limit before it did; or it is no fit.
    """
    fit_of(fitted)
    if fitted.config.system is None:
        raise ConfigError(
            f"this fit has no system that could be run forward: {why_without(fitted)}; to demand one, fit again with "
            "--set dynamics.dimensions=4, or FitConfig(dynamics=DynamicsConfig())"
        )
    if missing := [member for member in fitted.members if member.dynamics is None]:
        folder, ended = str(missing[0].run_dir), missing[0].progress.finished
        raise ConfigError(
            f"training of the fit in {folder!r} ended before its system was learned ({ended}); fit again in a new folder with "
            "more time (train.max_minutes)"
            if ended
            else f"the fit in {folder!r} has not learned its system yet; run the same fit again to resume it"
        )
    return tuple(copy.deepcopy(member.dynamics) for member in fitted.members if member.dynamics is not None)


def best_system(fitted: Fitted) -> Dynamics:
    """Return a copy of the system of the best member.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    Dynamics

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    """
    return systems_of(fitted)[fitted.members.index(fitted.best)]


def why_without(fitted: Fitted) -> str:
    """Say why a fit has no learned system.

    Parameters
    ----------
    fitted : Fitted
        Finished, without one.

    Returns
    -------
    str
    """
    if fitted.config.system is not None:
        return fitted.finished
    if fitted.config.dynamics is None:
        return "none was to be learned (dynamics=null)"
    reason = without_system(fitted.config, fitted.signature)
    return reason or "it was fitted by an earlier version, which learned none of such data"


def forecast_variable(fitted: Fitted) -> Literal["rates", "mean"]:
    """Return what a learned system foretells and simulates: rates of counts and of spikes, means of other signals.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    {"rates", "mean"}
    """
    return "rates" if fitted.expects_counts or fitted.model.infers_spikes else "mean"


def has_learned(fitted: Fitted) -> bool:
    """Return whether each member has learned its system: training may end at its time limit before that.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    bool
    """
    return all(member.dynamics is not None for member in fitted.members)


def simulators(fitted: Fitted, by: str) -> tuple[Dynamics, HiddenMarkov | None]:
    """Return what trials of a fit are simulated by, of an ensemble that of its best member.

    Parameters
    ----------
    fitted : Fitted
    by : {"system", "markov"}

    Returns
    -------
    Dynamics
        A copy, on the CPU.
    HiddenMarkov or None
        None for the system.

    Raises
    ------
    ConfigError
        If the fit has learned no system, or no hidden Markov model.
    DataError
        If `by` is anything else.
    """
    if by not in ("system", "markov"):
        raise DataError(f"by is {by!r}; expected 'system' or 'markov', for the hidden Markov model")
    dynamics = best_system(fitted).cpu()
    if by == "markov" and dynamics.markov is None:
        raise ConfigError(
            "this fit has no hidden Markov model to simulate by: none is learned with dynamics.markov_states under 2, very "
            "few bins, known inputs, a lag, regular samples, or channels that were chosen by earlier values; simulate by its "
            "system (by='system')"
        )
    return dynamics, dynamics.markov if by == "markov" else None


def simulate(
    fitted: Fitted,
    like: xr.Dataset,
    *,
    trials: int | None,
    start: ArrayLike | None,
    masked: bool,
    by: Literal["system", "markov"],
    session: str | None,
    seed: int,
) -> xr.Dataset:
    """Simulate trials; see `nwb_sbtt.fitting.fitted.Fitted.simulate`.

    Parameters
    ----------
    fitted : Fitted
    like : Dataset
    trials, start, masked, by, session, seed
        As there.

    Returns
    -------
    Dataset
    """
    dynamics, markov = simulators(fitted, by)
    if markov is not None and start is not None:
        raise DataError(
            "start is a state of the system; a hidden Markov model (by='markov') begins as training trials do"
        )
    name, matched = fitted.match(like, session, same_channels=True)
    n = matched.sizes["trial"] if trials is None else whole_number("trials", trials)
    seed = whole_number("seed", seed, least=0)
    matched = matched.isel(trial=np.arange(n) % matched.sizes["trial"])
    if not masked:
        matched = matched.drop_vars("exposure", errors="ignore").assign(observed=xr.ones_like(matched["observed"]))
    data, generator = to_batch(matched, name), generator_on(torch.device("cpu"), seed)
    batch = _as_spikes(data) if fitted.model.infers_spikes else data
    if markov is not None:
        found = markov.draw(dynamics.likelihood, batch, generator)
    else:
        begin = None if start is None else _states(start, (n, dynamics.dimensions))
        drawn, _, states = draw_trials(dynamics, batch, generator, start=begin)
        found = drawn.dense(drawn.values), dynamics.likelihood.expected(states, name), states
    values, expected, latents = found
    spikes = None
    if fitted.model.infers_spikes:
        spikes, fluorescence = values, copy.deepcopy(fitted.model).cpu().draw_values(values, data, generator)
        values = torch.where(data.dense(data.observed), fluorescence, torch.zeros_like(fluorescence))
    simulated = _simulated(matched, values, expected, latents, spikes, variable=forecast_variable(fitted))
    return with_notes(simulated, doubts(fitted, name, by=by))


def forecast(
    fitted: Fitted,
    ds: xr.Dataset,
    *,
    bins: int,
    inputs: ArrayLike | None,
    session: str | None,
) -> xr.Dataset:
    """Continue trials beyond their last bin; see `nwb_sbtt.fitting.fitted.Fitted.forecast`.

    Courses of each member's system are weighed by what was observed (`nwb_sbtt.models.courses`), and go on; its hidden Markov
    model, if there is one, goes on from its posterior of the last bin. By what share this one counts was decided on the second
    half of the validation trials, given the first. Of an ensemble, means are averaged, and what members differ by is part of
    the sd. The sd is widened by how far forecasts of the validation trials missed.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
    bins, inputs, session
        As there.

    Returns
    -------
    Dataset
    """
    systems = systems_of(fitted)
    name, matched = fitted.match(ds, session, same_channels=True)
    bins = whole_number("bins", bins)
    batch = to_batch(hold_out(matched, fitted.config), name)
    future = _future(batch, bins, inputs, names=fitted.signature.inputs)
    widths = read_widths(fitted)[name]
    mean, variance = _forecast(fitted, systems, batch, future, bins=bins).mixed(share := _markov_share(fitted, name))
    variable = forecast_variable(fitted)
    sd = np.sqrt(widths.variance(mean, variance, counts=variable == "rates"))
    per = float(matched.attrs["bin_width"]) if variable == "rates" else 1.0
    found = _labelled(matched, {variable: mean / per, f"{variable}_sd": sd / per}, fitted)
    return with_notes(found, [] if share else doubts(fitted, name))


def system_forecast(fitted: Fitted, ds: xr.Dataset, *, given: int, session: str) -> NDArray[np.float64]:
    """Forecast the later bins of trials by the learned system alone, of an ensemble by the mean over members.

    Parameters
    ----------
    fitted : Fitted
        Finished, with a learned system.
    ds : Dataset
        Trials of the session, with known inputs where the fit has any.
    given : int
        Bins of each trial that the forecast begins from.
    session : str

    Returns
    -------
    array (trial, time, channel)
        Of the bins after those: rates [Hz], or means in the unit of the signal.

    Raises
    ------
    ConfigError
        If the fit has learned no system, or training has not come so far.
    """
    held = hold_out(ds, fitted.config)
    early = to_batch(held.isel(time=slice(0, given)), session)
    future = None if early.inputs is None else to_batch(held.isel(time=slice(given - 1, None)), session)
    found = _forecast(fitted, systems_of(fitted), early, future, bins=ds.sizes["time"] - given).of_systems[0]
    return found / float(ds.attrs["bin_width"]) if forecast_variable(fitted) == "rates" else found


def write_widths(fitted: Fitted, prepared: Mapping[str, xr.Dataset]) -> None:
    """Measure how far forecasts of the second half of validation trials miss, and store it in the run folder (`doubts`).

    A model may be too sure of the state in the last bin, and the system is not exact. So the variance of forecasts is
    corrected (`nwb_sbtt.fitting.widths`). The truth is not known, but what is inferred from whole trials is: where that is the
    expectation given more data, the squared error of a forecast is its squared distance from that plus the posterior variance
    of that (the law of total variance). No noise of data enters, which is larger by far.

    Parameters
    ----------
    fitted : Fitted
        Finished, with a learned system.
    prepared : mapping of session to Dataset
        As returned by `nwb_sbtt.fitting.preparation.prepare`.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    systems, measured, errors = systems_of(fitted), dict[str, Widths](), dict[str, float]()
    shares, variable = dict[str, float](), forecast_variable(fitted)
    for name, ds in prepared.items():
        valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
        n_bins, measured[name] = valid.sizes["time"] // 2, Widths()
        if not n_bins:
            continue
        early = to_batch(valid.isel(time=slice(0, -n_bins)), name)
        future = None if early.inputs is None else to_batch(valid.isel(time=slice(-n_bins - 1, None)), name)
        found = _forecast(fitted, systems, early, future, bins=n_bins)
        known = fitted.infer(valid, session=name, same_channels=True).isel(time=slice(-n_bins, None))
        per = float(valid.attrs["bin_width"]) if variable == "rates" else 1.0
        inferred = per * known[variable].values.astype(float)
        if len(inferred) > 1 and np.isfinite(missed := errors_of_trials(found.of_systems[0], inferred).mean()):
            errors[name] = float(missed)
        shares[name] = found.share_of_markov(inferred)
        mean, variance = found.mixed(shares[name])
        error = (mean - inferred) ** 2
        if (sd := f"{variable}_sd") in known:
            error += (per * known[sd].values) ** 2
        measured[name] = measure_widths(error, mean, variance, counts=variable == "rates")
    stored = {
        "widths": {name: asdict(widths) for name, widths in measured.items()},
        "errors": errors,
        "markov_shares": shares,
    }
    write_json(fitted.run_dir / FORECAST, stored)


def doubts(fitted: Fitted, session: str, *, by: str = "system") -> list[str]:
    """Warn of a system whose forecasts of validation trials are no better than the average of these.

    Parameters
    ----------
    fitted : Fitted
    session : str
    by : {"system", "markov"}
        For the hidden Markov model: whether it was found to be worth anything.

    Returns
    -------
    list of str
        One remark for the user, or none.

    Raises
    ------
    FileError
        If the file of the run folder is damaged.
    """
    system, share = fitted.best.dynamics, _markov_share(fitted, session)
    if by == "markov":
        if share or system is None or system.markov is None or float(system.markov.shares[session]):
            return []
        return [
            "the hidden Markov model has no share in what is inferred of validation trials, nor in their forecasts: "
            "trials that it simulates may be unlike the recorded ones"
        ]
    path = fitted.run_dir / FORECAST
    error = read_json(path).get("errors", {}).get(session, 0.0) if path.exists() else 0.0
    if error < 1:
        return []
    what = "the trials that it simulates"
    what = (
        f"{what}; its hidden Markov model simulates others (by='markov')" if share else f"its forecasts, nor on {what}"
    )
    return [
        f"forecasts of validation trials by the learned system miss by {error:.2g} times the variance over trials, and the "
        f"average of the trials by 1: do not rely on {what}"
    ]


def read_widths(fitted: Fitted) -> dict[str, Widths]:
    """Read what `write_widths` wrote.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    dict of session to Widths
        Those of no change for one member of an ensemble, for which nothing was measured.

    Raises
    ------
    ConfigError
        If training has not ended.
    FileError
        If the file is damaged.
    """
    if not fitted.finished:
        raise ConfigError(
            f"the fit in {str(fitted.run_dir)!r} is not finished, so the width of its forecasts' intervals is not known; run "
            "the same fit again to resume it"
        )
    if not (fitted.run_dir / FORECAST).exists():
        return dict.fromkeys(fitted.signature.sessions, Widths())
    return {name: Widths(**widths) for name, widths in read_json(fitted.run_dir / FORECAST)["widths"].items()}


def _markov_share(fitted: Fitted, session: str) -> float:
    """Share of the hidden Markov models in forecasts; 0 for one member of an ensemble, for which none was decided."""
    path = fitted.run_dir / FORECAST
    return float(read_json(path).get("markov_shares", {}).get(session, 0.0)) if path.exists() else 0.0


_Estimate = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and variance (trial, time, channel) of what is expected of forecast bins."""


@dataclass(frozen=True)
class _Forecast:
    """Of systems and, if all members have one, of hidden Markov models; over members."""

    of_systems: _Estimate
    of_markov: _Estimate | None

    def mixed(self, share: float) -> _Estimate:
        """Mix both, with this share of the hidden Markov models."""
        if self.of_markov is None or not share:
            return self.of_systems
        (one, of_one), (other, of_other) = self.of_systems, self.of_markov
        mean = one + share * (other - one)
        return mean, (1 - share) * (of_one + (one - mean) ** 2) + share * (of_other + (other - mean) ** 2)

    def share_of_markov(self, truth: NDArray[np.float64]) -> float:
        """Find the share with the least squared error, each channel that varies in units of its sd."""
        if self.of_markov is None:
            return 0.0
        sd = truth.std((0, 1))
        apart, error = (
            np.divide(each - self.of_systems[0], sd, out=np.zeros(truth.shape), where=sd > LEAST_SD * sd.max())
            for each in (self.of_markov[0], truth)
        )
        total = float((apart**2).sum())
        return float(np.clip((apart * error).sum() / total, 0, 1)) if total else 0.0


def _forecast(
    fitted: Fitted, systems: Sequence[Dynamics], batch: Batch, future: Batch | None, *, bins: int
) -> _Forecast:
    """Forecast by the courses of each member's system and by its hidden Markov model."""
    device = device_of(fitted.config)
    batch, future = batch.to(device), None if future is None else future.to(device)
    found, of_markov = list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()
    with torch.no_grad():
        for member, dynamics in zip(fitted.members, systems, strict=True):
            told = member.model.evidence(batch)
            weighed = weigh(dynamics, told, ahead=future, bins=bins)
            found.append((weighed.expected, weighed.variance))
            if dynamics.markov is not None:
                of_markov.append(dynamics.markov.forecast(dynamics.likelihood, told, bins))
    return _Forecast(_over_members(found), _over_members(of_markov) if len(of_markov) == len(systems) else None)


def _over_members(found: Sequence[tuple[Tensor, Tensor]]) -> _Estimate:
    """Average means of members; what they differ by is part of the variance."""
    means, variances = (np.stack([each.cpu().double().numpy() for each in part]) for part in zip(*found, strict=True))
    return means.mean(0), variances.mean(0) + means.var(0)


def _future(batch: Batch, bins: int, inputs: ArrayLike | None, *, names: Sequence[str]) -> Batch | None:
    """Known inputs of the last bin and of those after it, in a batch; None where the fit has none."""
    if not names:
        if inputs is not None:
            raise DataError("got inputs, but the fit has no known inputs; leave them out")
        return None
    shape = (len(batch.trials), bins, len(names))
    if inputs is None:
        raise DataError(
            f"the fit has the known inputs {', '.join(names)}; a forecast needs them too: an array (trial, time, input) of "
            f"shape {shape}, NaN where unknown"
        )
    given = as_inputs(inputs, shape, names)
    assert batch.inputs is not None and batch.inputs_observed is not None
    known = np.isfinite(given)
    return replace(
        batch,
        inputs=torch.cat([batch.inputs[:, -1:], torch.from_numpy(np.where(known, given, 0))], 1),
        inputs_observed=torch.cat([batch.inputs_observed[:, -1:], torch.from_numpy(known)], 1),
    )


def _as_spikes(batch: Batch) -> Batch:
    """Replace fluorescence by spikes, of which every bin has a number."""
    dense = windows(batch, [0], batch.shape[1])
    every = torch.ones_like(dense.observed)
    return replace(
        dense, values=torch.zeros_like(dense.values), observed=every, shown=every, scored=every, exposure=None
    )


def _states(start: ArrayLike, shape: tuple[int, int]) -> Tensor:
    states = as_numbers("start", start)
    if states.shape != shape:
        raise DataError(f"start has the shape {states.shape}; expected finite numbers (trial, dimension), here {shape}")
    if not np.isfinite(states).all():
        raise DataError(
            f"start has {np.sum(~np.isfinite(states))} numbers that are NaN or infinite; expected finite ones"
        )
    return torch.from_numpy(states)


def _simulated(
    like: xr.Dataset,
    values: Tensor,
    expected: Tensor,
    latents: Tensor,
    spikes: Tensor | None,
    *,
    variable: Literal["rates", "mean"],
) -> xr.Dataset:
    """Label simulated trials as the data that they are like, with drawn spikes where the data are fluorescence."""
    n_trials, n_bins, _ = values.shape
    width = float(like.attrs["bin_width"])
    ds = make_dataset(
        values.numpy(),
        like["observed"].values,
        bin_width=width,
        kind=like.attrs["kind"],
        exposure=like["exposure"].values if "exposure" in like else None,
        channel_id=like["channel_id"].values,
        start=float(like["time"].values[0]) - width / 2,
        trial_start=np.arange(n_trials) * n_bins * width,
        coords={
            str(name): ("channel", coord.values)
            for name, coord in like.coords.items()
            if coord.dims == ("channel",) and name not in ("channel_id", "channel")
        },
        attrs={name: text for name, text in like.attrs.items() if name in _KEPT or name.startswith("signal")},
    )
    if "inputs" in like:
        ds = ds.assign(
            {name: (like[name].dims, like[name].values) for name in ("inputs", "inputs_observed")}
        ).assign_coords(input=like["input"].values)
    truth = {f"true_{variable}": (DIMS, (expected / width if variable == "rates" else expected).numpy())}
    if spikes is not None:
        truth["true_spikes"] = (DIMS, spikes.numpy())
    return check_dataset(ds.assign({**truth, "true_latents": (("trial", "time", "latent"), latents.numpy())}))


def _labelled(ds: xr.Dataset, arrays: dict[str, NDArray[np.float64]], fitted: Fitted) -> xr.Dataset:
    """Label forecast bins as the trials that they continue."""
    dataset_of(ds)
    shape = next(iter(arrays.values())).shape
    width = float(ds.attrs["bin_width"])
    time = ds["time"].values[-1] + width * np.arange(1, shape[1] + 1)
    kept = {
        str(name): (coord.dims, coord.values)
        for name, coord in ds.coords.items()
        if coord.dims in (("trial",), ("channel",))
    }
    data = {name: (DIMS, array.astype(np.float32)) for name, array in arrays.items()}
    coords = {**kept, "time": ("time", time), "forecast": ("time", np.ones(len(time), bool))}
    attrs = {**ds.attrs, "model": json.dumps(fitted.record())}
    return name_units(xr.Dataset({**data, "observed": (DIMS, np.zeros(shape, bool))}, coords=coords, attrs=attrs))
