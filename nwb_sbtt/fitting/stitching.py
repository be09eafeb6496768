"""Read-in and read-out of sessions that start from the same factors: principal component regression on condition averages.

As in Pandarinath et al. 2018 (Nature Methods 15:805, "multi-session stitching"): each session's channels are regressed on the
components of the condition averages of all sessions' channels together. Of a fit that starts from another, the averages of what
the initial fit's read-in and factors were take the place of the components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.evaluate.alignment import Courses, align_courses, bin_tolerance, condition_labels, matched
from nwb_sbtt.fitting.preparation import naming_session
from nwb_sbtt.models import Model
from nwb_sbtt.nn.channels import ReadIn
from nwb_sbtt.nn.sessions import SessionTables

FACTORS = "factors"
"""Name of the factors among the condition averages of a reference."""
SMOOTHING = 2.0
"""Sd [bins] of the Gaussian that smooths the channels' condition averages."""
EXPLAINED = 0.95
"""Share of the variance of all sessions' condition averages that the common components explain."""
STEPS, RATE = 200, 0.03
"""Steps and learning rate (Adam) of the read-out of given factors."""


@dataclass(frozen=True)
class Trained:
    """The training trials of a session with their conditions.

    Parameters
    ----------
    batch : Batch
    conditions : str array (trial)
        Empty for trials without a condition.
    time : array (time)
        Bin centres, in seconds from the alignment event.
    """

    batch: Batch
    conditions: NDArray[np.str_]
    time: NDArray[np.float64]


def trained_trials(
    data: Mapping[str, xr.Dataset], pairs: Mapping[str, tuple[Batch, Batch]], condition: str | None
) -> dict[str, Trained]:
    """Give the training trials of each session their conditions.

    Parameters
    ----------
    data : mapping of session to Dataset
        As prepared for the fit.
    pairs : mapping of session to (training batch, validation batch)
    condition : str
        Trial coordinate.

    Returns
    -------
    dict of session to Trained

    Raises
    ------
    DataError
        If there is no such coordinate; of several sessions, which is named.
    """
    sessions = {}
    for name, ds in data.items():
        with naming_session(name, of=len(data)):
            labels = condition_labels(ds, str(condition))
        batch = pairs[name][0]
        sessions[name] = Trained(batch, labels[batch.trials.cpu().numpy()], ds["time"].values.astype(np.float64))
    return sessions


def stitch_together(model: Model, sessions: Mapping[str, Trained]) -> None:
    """Initialise read-ins and read-outs of sessions on the principal components that they share.

    Parameters
    ----------
    model : Model
        Untrained; changed in place. What is random is drawn from torch's global generator.
    sessions : mapping of name to Trained

    Raises
    ------
    ConfigError
        If the model has no read-in of channels.
    MismatchError
        If sessions share fewer than two conditions, or no bins.
    """
    read_ins = _read_ins(model)
    scores = {name: _score_averages(next(iter(read_ins.values())), each) for name, each in sessions.items()}
    components = _components(list(scores.values()), most=min(_n_factors(model), _width(read_ins)))
    maps = {name: align_courses(courses, components).weights for name, courses in scores.items()}
    n_components = components.averages.shape[2]
    for tables in _tables(read_ins).values():
        mixing = torch.randn(n_components, next(iter(tables.parameters())).shape[1]).double()
        made = {name: torch.from_numpy(weights) @ mixing for name, weights in maps.items()}
        scale = torch.cat([each.norm(dim=0) for each in made.values()]).mean()
        for name, each in made.items():
            _set(tables[name], each / scale)
    mixing = torch.linalg.qr(torch.randn(_n_factors(model), n_components).double()).Q.t()
    factors = replace(components, averages=components.averages @ mixing.numpy())
    before = _rms(model, sessions)
    for session in sessions.values():
        _fit_read_out(model, session, factors)
    common = before / _rms(model, sessions)
    for name in sessions:
        for weights, _ in model.likelihood.read_outs(name):
            _set(weights, weights * common)


def stitch_to(model: Model, session: Trained, reference: Mapping[str, Courses]) -> None:
    """Initialise read-in and read-out of a session on the condition averages of an initial fit.

    Parameters
    ----------
    model : Model
        With the shared weights of the initial fit; changed in place.
    session : Trained
    reference : mapping of name to Courses
        Condition averages of ``factors`` and, by the name of their table in the model, of what the read-in made of the data.

    Raises
    ------
    ConfigError
        If the model has no read-in of channels.
    MismatchError
        If the session shares fewer than two conditions with the reference, or no bins.
    """
    read_ins = _read_ins(model)
    scores = _score_averages(next(iter(read_ins.values())), session)
    for path, tables in _tables(read_ins).items():
        _set(tables[session.batch.session], torch.from_numpy(align_courses(scores, reference[path]).weights))
    _fit_read_out(model, session, reference[FACTORS])


def read_in_courses(model: Model, session: Trained) -> dict[str, Courses]:
    """Average what a model's read-in makes of a session's data, for sessions that are stitched to it later.

    Parameters
    ----------
    model : Model
    session : Trained

    Returns
    -------
    dict of name to Courses
        By the name of the table in the model; empty for a model without a read-in of channels, and for one that infers spikes.
    """
    read_ins = _all_read_ins(model)
    if model.infers_spikes or not read_ins:
        return {}
    scores = _score_averages(next(iter(read_ins.values())), session)
    return {
        path: replace(scores, averages=scores.averages @ tables[session.batch.session].detach().cpu().double().numpy())
        for path, tables in _tables(read_ins).items()
    }


def _all_read_ins(model: Model) -> dict[str, ReadIn]:
    """Read-ins of a model by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, ReadIn)}


def _read_ins(model: Model) -> dict[str, ReadIn]:
    """Read-ins of a model that can be stitched, by path."""
    read_ins = _all_read_ins(model)
    if model.infers_spikes or not read_ins:
        reason = "infers spikes from fluorescence first" if read_ins else "has no read-in (nwb_sbtt.nn.channels.ReadIn)"
        raise ConfigError(
            f"sessions.stitching initialises the read-in, but {type(model).__name__} {reason}; turn stitching off. "
            "With only sessions.condition set, factors are aligned after the fit"
        )
    return read_ins


def _tables(read_ins: Mapping[str, ReadIn]) -> dict[str, SessionTables]:
    """Tables (channel, feature) of read-ins, by path, that are linear in the scores of the channels."""
    tables = {f"{path}.values": read_in.values for path, read_in in read_ins.items()}
    tables |= {f"{path}.residuals": read_in.residuals for path, read_in in read_ins.items()}
    return {path: each for path, each in tables.items() if each.places}


def _width(read_ins: Mapping[str, ReadIn]) -> int:
    return min(read_in.mixture.shape[1] for read_in in read_ins.values())


def _score_averages(read_in: ReadIn, session: Trained) -> Courses:
    """Condition averages of each channel's scores, smoothed over time, over the shown entries alone.

    Averages shrink towards 0 where little was shown, as if each had one more entry with the score 0.
    """
    batch, name = session.batch.to("cpu"), session.batch.session
    mean, sd = read_in.means[name].cpu(), read_in.sds[name].cpu()
    conditions = tuple(np.unique(session.conditions[session.conditions != ""]).tolist())
    averages = np.zeros((len(conditions), *batch.shape[1:]))
    for i, condition in enumerate(conditions):
        part = batch.select(torch.from_numpy(np.flatnonzero(session.conditions == condition)))
        values = part.values if part.exposure is None else part.values / part.exposure
        scores = (values - part.along_channels(mean)) / part.along_channels(sd)
        shown = part.shown.to(scores.dtype)
        total, count = (part.dense(each).sum(0).double().numpy() for each in (scores * shown, shown))
        total, count = (gaussian_filter1d(each, SMOOTHING, axis=0, mode="nearest") for each in (total, count))
        averages[i] = total / (count + 1 / (SMOOTHING * (2 * np.pi) ** 0.5))
    return Courses(conditions, averages, session.time)


def _components(sessions: list[Courses], *, most: int) -> Courses:
    """Principal components of the condition averages of all sessions' channels, over what all of them share."""
    common = sessions[0]
    for other in sessions[1:]:
        common, _ = matched(common, other)
    # Each session has the same weight, whatever its number of channels.
    parts = [matched(each, common)[0].averages / each.averages.shape[2] ** 0.5 for each in sessions]
    flat = np.concatenate(parts, 2).reshape(-1, sum(part.shape[2] for part in parts))
    left, scale, _ = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    share = np.cumsum(scale**2) / max(float((scale**2).sum()), 1e-300)
    n = min(most, int(np.searchsorted(share, EXPLAINED)) + 1)
    courses = (left[:, :n] * scale[:n]).reshape(*parts[0].shape[:2], n)
    return replace(common, averages=courses / max(float(courses.std(axis=(0, 1)).max()), 1e-300))


def _fit_read_out(model: Model, session: Trained, factors: Courses) -> None:
    """Fit a session's read-out to given factors of each condition, by the likelihood, with a Gaussian prior of the weights."""
    likelihood, name = model.likelihood, session.batch.session
    known = np.isin(session.conditions, factors.conditions)
    rows = torch.from_numpy(np.flatnonzero(known))
    # Where the model is, which is made on the CPU.
    batch = session.batch.to(str(next(model.parameters()).device)).select(rows)
    gaps = np.abs(session.time[:, None] - factors.time)
    bins, same = gaps.argmin(1), gaps.min(1) < bin_tolerance(factors.time)
    batch = replace(batch, scored=batch.scored & batch.along_times(torch.from_numpy(same).to(batch.device)))
    number = {condition: i for i, condition in enumerate(factors.conditions)}
    trials = [number[condition] for condition in session.conditions[known]]
    given = torch.from_numpy(factors.averages[trials][:, bins]).float().to(batch.device)
    read_outs = [tensor for read_out in likelihood.read_outs(name) for tensor in read_out]
    optimiser = torch.optim.Adam(read_outs, RATE)
    n_scored, variance = max(1, int(batch.scored.sum())), float(given.flatten(0, 1).var(0).sum())
    for _ in range(STEPS):
        optimiser.zero_grad()
        prior = sum((weights**2).sum() for weights in read_outs[::2]) * 0.5 * variance
        loss: Tensor = (likelihood.total(given, batch) + prior) / n_scored
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    optimiser.zero_grad()


def _n_factors(model: Model) -> int:
    return int(next(iter(model.likelihood.weights.parameters())).shape[1])


def _rms(model: Model, sessions: Mapping[str, Trained]) -> float:
    """Root of the mean square of all weights of the read-outs."""
    weights = [weights.detach().flatten() for name in sessions for weights, _ in model.likelihood.read_outs(name)]
    return float(torch.cat(weights).square().mean().sqrt())


def _set(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)
