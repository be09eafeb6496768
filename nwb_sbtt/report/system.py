"""Section of a report about the system that a fit has learned: whether to trust it, its flow, and where it rests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import log

import numpy as np
import xarray as xr

from nwb_sbtt.plot.dynamics import FAR
from nwb_sbtt.report import figures
from nwb_sbtt.report.sheet import heading_of, section_of_figure

SURE = 2.0
"""Standard errors by which a learned system must be ahead."""
OF_USE, PRECISE = 0.9, 0.5
"""Squared errors, as shares of the variance, up to which a forecast is of use, and up to which it is precise."""
STILL = 0.1
"""Exponents that change a difference by a smaller share within a trial count as zero."""
MOST_POINTS = 12
"""Fixed points in the table."""
KINDS = {
    "stable": "states near it approach it from all sides",
    "saddle": "states approach it in some directions and leave it in others",
    "unstable": "states near it leave it in all directions",
}


@dataclass(frozen=True)
class LearnedSystem:
    """A system, and what was measured of it; each Dataset is that of a function of `nwb_sbtt.dynamics`.

    Parameters
    ----------
    summary : str
        Its size and its share in what is inferred, in words.
    points, exponents : Dataset
        From `fixed_points` and `lyapunov_exponent`.
    flow : Dataset or None
        From `flow_field`; None where the system has one dimension.
    errors : Dataset or None
        From `forecast_error`; None where there are fewer than two validation trials, or trials of one bin.
    duration : float
        Of a trial, in seconds.
    """

    summary: str
    points: xr.Dataset
    exponents: xr.Dataset
    flow: xr.Dataset | None
    errors: xr.Dataset | None
    duration: float


def sections_of_system(system: LearnedSystem) -> Iterator[str]:
    """Lay out what was measured of a system.

    Parameters
    ----------
    system : LearnedSystem

    Yields
    ------
    str
        HTML, a section each.
    """
    yield _trust(system)
    if system.errors is not None:
        yield _forecasts(system.errors)
    if system.flow is not None:
        flow, points = system.flow, system.points
        yield section_of_figure(
            lambda: figures.flow_field(flow, points),
            heading="Flow and fixed points",
            caption="Blue: where the learned system moves states to; thicker is faster. Grey: inferred trials. States vary "
            "most in this plane; the dimensions beyond it are those of the nearest inferred states. No flow is drawn where no "
            "inferred state is near. Numbers: those of the table below.",
            alt=f"Flow of the learned system in a plane, with {points.sizes['point']} fixed points.",
        )
    yield _points(system.points)


def _forecasts(errors: xr.Dataset) -> str:
    trials, given = errors.attrs["trials"], errors.attrs["given"]
    caption = (
        f"{trials} validation trials were given up to bin {given}, and the learned system continued them. At 0 a forecast is "
        "perfect; at 1 it is as good as the average of these trials. Persistence: rates stay as inferred in the last bin "
        "given. Linear system: fitted to the same states by least squares."
    )
    if "true" in errors["truth"].values.tolist():
        caption += " Left: against what is inferred from whole trials. Right: against the true rates."
    return section_of_figure(
        lambda: figures.forecast_errors(errors),
        heading="Forecasts",
        caption=caption,
        alt="Squared error of forecasts by horizon, of the learned system, persistence and a linear system.",
    )


def _trust(system: LearnedSystem) -> str:
    latents = system.points.sizes["latent"]
    text = (
        f"The fit also learned a system of {latents} dimension{'s' * (latents != 1)}, which computes the state of each bin "
        "from that of the bin before. The sections below show it. They describe the recorded activity only as far as the "
        "system's forecasts are better than simpler ones."
    )
    held = system.points.attrs.get("inputs_held_at")
    if held is not None:
        names = zip(system.points.attrs["inputs"], held, strict=True)
        text += " Known inputs are held at " + ", ".join(f"{name} = {value:.3g}" for name, value in names) + "."
    items = [*_verdicts(system.errors), _long_runs(system)]
    checks = "\n".join(
        f'<li class="{level}"><strong>{escape(name)}.</strong> {escape(words)}</li>' for level, name, words in items
    )
    return f'{heading_of("Learned system")}\n<p>{escape(text)}</p>\n<ul class="checks">\n{checks}\n</ul>'


def _verdicts(errors: xr.Dataset | None) -> list[tuple[str, str, str]]:
    """Level, name and words: whether forecasts are better than those of others, against what is inferred."""
    if errors is None:
        return [
            (
                "bad",
                "Forecasts",
                "They were not scored: there are too few validation trials. Do not interpret the system.",
            )
        ]
    inferred = errors.sel(truth="inferred")
    ahead, behind = list[tuple[str, str]](), list[tuple[str, str]]()
    names = {"persistence": "persistence", "average": "the average of the trials", "linear": "a linear system"}
    for predictor, name in names.items():
        excess, se = (float(inferred[key].sel(predictor=predictor)) for key in ("excess", "excess_se"))
        words = f"{name} ({excess:+.2f} ± {se:.2f})"
        (ahead if excess > SURE * se else behind).append((predictor, words))
    own = inferred["error"].sel(predictor="forecast").values
    reach = _reach(own, errors["lead"].values)
    if any(predictor != "linear" for predictor, _ in behind):
        return [
            (
                "bad",
                "Do not interpret this system",
                f"Its forecasts are not better than {_listed(behind, 'or')}: differences of the squared error, as a share of "
                "the variance, ± standard error over trials. There may be too few data, or the activity does not follow from "
                "its own past.",
            )
        ]
    words = f"Better than {_listed(ahead, 'and')}: the squared error of these is larger by that share of the variance. {reach}"
    if own[0] > float(inferred["error"].sel(predictor="persistence")[0]):
        words += " One bin ahead, persistence is better."
    found = [("ok", "Forecasts", words)]
    if behind:
        found.append(
            (
                "warn",
                "Not better than a linear system",
                f"Forecasts are not better than those of {behind[0][1]}. A linear system has one fixed point and no chaos: do "
                "not interpret more than that.",
            )
        )
    return found


def _listed(found: Sequence[tuple[str, str]], word: str) -> str:
    *first, last = (words for _, words in found)
    return f"{', '.join(first)} {word} {last}" if first else last


def _reach(error: np.ndarray, lead: np.ndarray) -> str:
    """How far ahead forecasts are of use, in words."""
    parts = []
    for limit, words in ((PRECISE, "explain more than half of the variance"), (OF_USE, "explain more than a tenth")):
        beyond = np.flatnonzero(error >= limit)
        bins = len(error) if not len(beyond) else int(beyond[0])
        parts.append(f"{words} up to {1000 * lead[bins - 1]:.0f} ms ahead" if bins else f"never {words}")
    return f"Forecasts {parts[0]}, and {parts[1]}."


def _long_runs(system: LearnedSystem) -> tuple[str, str, str]:
    """Level, name and words of the largest Lyapunov exponent."""
    runs, exponent = system.exponents, float(system.exponents["exponent"])
    seconds, n_left = runs.attrs["bins"] * runs.attrs["bin_width"], int(runs["left"].sum())
    n_runs = runs.sizes["run"]
    if n_left == n_runs:
        return (
            "warn",
            "Long runs leave the data",
            f"All {n_runs} runs of {seconds:.3g} s reached the edge at ± 6 sd, which the system cannot pass. Its Lyapunov "
            "exponent is unknown.",
        )
    se = float(runs["exponent_se"])
    numbers = f"Largest Lyapunov exponent {exponent:.3g}" + (f" ± {se:.2g}" if np.isfinite(se) else "") + " per s: "
    if abs(exponent) * system.duration < STILL:
        words = "small differences between runs neither grow nor shrink noticeably within a trial, as on a cycle."
    elif exponent > 0:
        words = f"small differences grow to twice their size in {1000 * log(2) / exponent:.0f} ms on average (chaos)."
    else:
        words = "runs end at a fixed point."
    far = float((runs["distance"].values[~runs["left"].values] > FAR).mean())
    level = "ok"
    if n_left:
        words += f" {n_left} of {n_runs} runs reached the edge at ± 6 sd and are left out."
    if far > 0.1:
        level = "warn"
        words += f" {far:.0%} of the runs end far from all inferred states, where the system is extrapolated."
    text = f"{numbers}{words} Runs last {seconds:.3g} s, trials {system.duration:.3g} s."
    return level if not n_left else "warn", "Long runs", text


def _points(points: xr.Dataset) -> str:
    """The table of fixed points."""
    n, unresolved = points.sizes["point"], float(points.attrs["unresolved"])
    heading = heading_of("Fixed points in numbers")
    if not n:
        return f"{heading}\n<p>No fixed point was found: {_where_starts_ended(points)}.</p>"
    kinds = points["stability"].values.tolist()
    meaning = "; ".join(f"{kind}: {words}" for kind, words in KINDS.items() if kind in kinds)
    text = (
        f"At a fixed point the state would stay where it is. {meaning[0].upper()}{meaning[1:]}. A point that is far from all "
        f"inferred states (by more than {FAR:g} of their typical distance from the mean) is extrapolated: do not interpret it. "
        "A point near them may still be wrong: compare fits with other seeds. Small distances from a point double or halve in "
        "the times below, one for each direction."
    )
    if unresolved >= 0.005:
        text += f" {unresolved:.0%} of the starts led to no fixed point."
    names = ("stability", "small distances from it", "distance from the data", "reached from")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "\n".join(_row(points.isel(point=i)) for i in range(min(n, MOST_POINTS)))
    more = f"\n<p>{n - MOST_POINTS} more, which fewer starts led to, are left out.</p>" if n > MOST_POINTS else ""
    return (
        f'{heading}\n<p>{escape(text)}</p>\n<div class="wide"><table class="scores">\n<thead><tr><td></td>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>{more}"
    )


def _where_starts_ended(points: xr.Dataset) -> str:
    """Say where starts ended of which none led to a fixed point."""
    ended = {"no state at rest": points.attrs["unresolved"], "the edge at ± 6 sd": points.attrs["at_edge"]}
    shares = " and ".join(f"{share:.0%} led to {where}" for where, share in ended.items() if share >= 0.005)
    return f"of {points.attrs['starts']} starts, {shares}. There may be one that none of them led to"


def _row(point: xr.Dataset) -> str:
    far = float(point["distance"]) > FAR
    cells = (
        str(point["stability"].item()),
        "; ".join(_directions(point)),
        f"{float(point['distance']):.2f}{' (far)' if far else ''}",
        f"{float(point['reached_from']):.0%} of the starts",
    )
    return f'<tr><th scope="row">{int(point["point"])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _directions(point: xr.Dataset) -> list[str]:
    """How fast small distances from a point change; two directions in which states turn around it are one entry."""
    found: dict[str, None] = {}
    for rate, frequency in zip(point["growth_rate"].values, point["frequency"].values, strict=True):
        time = log(2) / abs(rate) if rate else np.inf
        in_words = f"{time:.3g} s" if time >= 1 else f"{1000 * time:.3g} ms"
        words = f"{'double' if rate > 0 else 'halve'} in {in_words}" if np.isfinite(time) else "stay"
        found[f"{words}, turning at {frequency:.2g} Hz" if frequency else words] = None
    return list(found)
