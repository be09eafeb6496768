"""Figures of a search over settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nwb_sbtt.plot.style import BLUE, ORANGE, RED, WIDTH, styled, theme

STATES = {"finished": (BLUE, "trained to the end"), "stopped": (ORANGE, "stopped"), "failed": (RED, "failed")}
"""Colour and words of each state; others are grey."""


@styled
def scores_in_time(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the score of every trial while it is trained, and the best one so far.

    Parameters
    ----------
    rows : sequence of mapping
        Trials: ``number``, ``state``, and ``steps`` with ``score`` [nats per scored entry] and ``seconds`` of the search.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axis = figure.subplots()
    steps = sorted((step["seconds"], step["score"]) for row in rows for step in row["steps"] if _finite(step["score"]))
    unit, name = (60.0, "minutes") if steps and steps[-1][0] > 300 else (1.0, "seconds")
    labelled = set()
    for row in rows:
        done = [step for step in row["steps"] if _finite(step["score"])]
        color, label = STATES.get(row["state"], (theme().grey, "not at its end"))
        axis.plot(
            [step["seconds"] / unit for step in done],
            [step["score"] for step in done],
            color=color,
            lw=0.9,
            alpha=0.7,
            marker="o",
            ms=2.5,
            label=None if label in labelled or not done else label,
        )
        labelled |= {label} if done else set()
    best = np.minimum.accumulate([score for _, score in steps]) if steps else np.empty(0)
    axis.step(
        [second / unit for second, _ in steps], best, where="post", color=theme().ink, lw=1.8, label="best so far"
    )
    _limit(axis, np.array([score for _, score in steps]))
    axis.set_xlabel(f"{name} of the search")
    axis.set_ylabel("loss of hidden entries\n(nats per entry; lower is better)")
    axis.legend(ncols=4, loc="upper right")
    return figure


@styled
def parallel_coordinates(rows: Sequence[Mapping[str, Any]], space: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each trial as a line through its settings, coloured by its rank.

    Parameters
    ----------
    rows : sequence of mapping
        Trials with a ``score``, and ``settings`` by name.
    space : sequence of mapping
        ``name`` of each setting, whether it is searched by orders of magnitude (``log``), and its choices (``values``), or
        None.

    Returns
    -------
    Figure
    """
    names = [each["name"] for each in space]
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axis = figure.subplots()
    scored = sorted((row for row in rows if _finite(row["score"])), key=lambda row: -row["score"])
    columns = [_column([row["settings"].get(each["name"]) for row in scored], each) for each in space]
    scores = np.array([row["score"] for row in scored], dtype=float)
    low, high = _range(scores)
    columns.append((np.clip((scores - low) / (high - low), 0, 1), [(0.0, f"{low:.4g}"), (1.0, f"{high:.4g}")]))
    heights = np.stack([column for column, _ in columns], axis=1)
    ranks = colormaps[theme().ranks]
    for i, line in enumerate(heights):
        rank = (len(scored) - 1 - i) / max(1, len(scored) - 1)
        best = i == len(scored) - 1
        axis.plot(line, color=RED if best else ranks(0.9 * rank), lw=2.4 if best else 1.0, alpha=1 if best else 0.7)
    for x, (_, ticks) in enumerate(columns):
        axis.axvline(x, color=theme().grey, lw=0.8, zorder=0)
        for height, text in ticks:
            axis.annotate(text, (x, height), xytext=(3, 0), textcoords="offset points", fontsize=8, va="center")
    labels = [name.replace(".", ".\n", 1).replace("_", " ") for name in names]
    axis.set_xticks(range(len(columns)), [*labels, "loss of\nhidden entries"])
    axis.set_xlim(-0.15, len(columns) - 0.5)
    axis.set_yticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(length=0)
    return figure


@styled
def importance_bars(importance: Mapping[str, float]) -> Figure:
    """Draw which share of the spread of the scores each setting explains.

    Parameters
    ----------
    importance : mapping of name to share

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH * 0.7, 0.6 + 0.32 * len(importance)), layout="constrained")
    axis = figure.subplots()
    names = list(importance)[::-1]
    axis.barh(names, [importance[name] for name in names], color=BLUE, height=0.6)
    axis.set_xlabel("share of the differences between scores")
    axis.set_xlim(0, 1)
    return figure


@styled
def lineage(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the population: each member from left to right, and an arrow where it took over the weights of another.

    Parameters
    ----------
    rows : sequence of mapping
        Members: ``number``, ``steps`` (``epoch``, ``score``) and ``origins`` (``epoch``, ``trial``).

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.26 * len(rows)), layout="constrained")
    axis = figure.subplots()
    row_of = {row["number"]: i for i, row in enumerate(rows)}
    scores = np.array([step["score"] for row in rows for step in row["steps"] if _finite(step["score"])])
    low, high = _range(scores)
    for row in rows:
        steps = [step for step in row["steps"] if _finite(step["score"])]
        y = row_of[row["number"]]
        axis.plot([step["epoch"] for step in steps], [y] * len(steps), color=theme().faint, lw=1, zorder=0)
        shown = axis.scatter(
            [step["epoch"] for step in steps],
            [y] * len(steps),
            c=[step["score"] for step in steps],
            cmap=colormaps[theme().ranks],
            vmin=low,
            vmax=high,
            s=28,
            zorder=2,
        )
        for origin in row["origins"]:
            if origin["trial"] in row_of:
                axis.annotate(
                    "",
                    (origin["epoch"], y),
                    (origin["epoch"], row_of[origin["trial"]]),
                    arrowprops={"arrowstyle": "->", "color": RED, "lw": 1, "shrinkA": 3, "shrinkB": 3},
                )
    figure.colorbar(shown, label="loss of hidden entries", pad=0.01)
    axis.set_yticks(range(len(rows)), [str(row["number"]) for row in rows])
    axis.invert_yaxis()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("epoch")
    axis.set_ylabel("member")
    return figure


def _finite(score: float | None) -> bool:
    return score is not None and bool(np.isfinite(score))


def _range(scores: np.ndarray) -> tuple[float, float]:
    """From the best score to nine tenths of them: early or failed trials would flatten the rest."""
    if not len(scores):
        return 0.0, 1.0
    low, high = float(scores.min()), float(np.quantile(scores, 0.9))
    return low, high if high > low else low + max(abs(low) * 1e-3, 1e-6)


def _limit(axis: Axes, scores: np.ndarray) -> None:
    low, high = _range(scores)
    margin = 0.08 * (high - low)
    axis.set_ylim(low - margin, high + 3 * margin)


def _column(values: Sequence[Any], each: Mapping[str, Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights from 0 to 1 of the values of a setting, and the texts beside its axis."""
    if each["values"] is not None:
        texts = [str(value) for value in each["values"]]
        texts += sorted({str(value) for value in values} - set(texts))
        heights = {text: i / max(1, len(texts) - 1) for i, text in enumerate(texts)}
        return np.array([heights[str(value)] for value in values]), [(heights[text], text) for text in texts]
    numbers = np.array([float(np.mean(value)) if value is not None else np.nan for value in values])
    scaled = np.log(numbers) if each["log"] else numbers
    low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
    if high <= low:
        return np.where(np.isnan(scaled), np.nan, 0.5), [(0.5, f"{np.nanmin(numbers):.3g}")]
    middle = (low + high) / 2
    ticks = [
        (height, f"{np.exp(value) if each['log'] else value:.3g}")
        for height, value in ((0.0, low), (0.5, middle), (1.0, high))
    ]
    return (scaled - low) / (high - low), ticks
