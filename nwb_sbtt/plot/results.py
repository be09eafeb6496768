"""Training, scores, and many fits side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.selection import Fit
from nwb_sbtt.plot.style import BLUE, ORANGE, RED, SKY, WIDTH, axes_of, picture, theme

if TYPE_CHECKING:
    import pandas as pd

MODEL, MEAN = "model", "mean_rate"
PARTS = {
    "scores": "hidden entries",
    "cosmoothing": "hidden channels",
    "held_out": "held-out channels",
    "forecast": "forecast bins",
}
"""Parts of the scores, as `Fitted.evaluate` names them, in words."""
SHORT = {"bits per spike": "bits/spike"}
History = Sequence[Mapping[str, float]]


@picture
def training(source: History | Fit | Mapping[str, History | Fit], *, ax: Axes | None = None) -> Axes:
    """Draw training and validation loss of each epoch, and mark the epoch with the lowest validation loss.

    Parameters
    ----------
    source : Fitted, sequence of mapping, or mapping of name to these
        A fit, or ``epoch``, ``train_loss`` and ``valid_loss`` [nats per scored entry] of each epoch (`Fitted.history`). Of
        several, and of an ensemble, validation losses are drawn in colours of their own.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If there is no epoch.
    """
    curves = _curves(source)
    ax = axes_of(ax, (WIDTH * 0.6, 3.0))
    late = []
    for i, (name, history) in enumerate(curves.items()):
        epochs = [entry["epoch"] for entry in history]
        marker = "o" if len(history) < 3 else ""
        train, valid = ([entry[key] for entry in history] for key in ("train_loss", "valid_loss"))
        best = int(np.argmin(valid))
        # The losses of the first epochs are far larger and would flatten the rest.
        late += (
            [*train[len(train) // 20 :], *valid[len(valid) // 20 :]] if len(curves) == 1 else valid[len(valid) // 20 :]
        )
        if len(curves) == 1:
            ax.plot(epochs, train, color=ORANGE, lw=1.4, marker=marker, label="training")
            ax.plot(epochs, valid, color=BLUE, lw=1.6, marker=marker, label="validation, hidden entries")
            ax.plot(epochs[best], valid[best], "o", color=RED, ms=7, label=f"best: epoch {epochs[best]:g}")
        else:
            colour = matplotlib.colormaps["viridis"](0.85 * i / (len(curves) - 1))
            ax.plot(epochs, valid, color=colour, lw=1.4, marker=marker, label=name)
            ax.plot(epochs[best], valid[best], "o", color=colour, ms=6)
    margin = 0.08 * max(float(np.ptp(late)), 1e-6)
    ax.set_ylim(min(late) - margin, max(late) + margin)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("loss (nats per scored entry)")
    ax.legend(title=None if len(curves) == 1 else "validation loss; dot: best epoch", loc="upper right")
    return ax


@picture
def scores(
    source: Mapping[str, Any] | Fit,
    *,
    part: str = "scores",
    against: str | None = None,
    session: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the score of a model beside those of the baselines, or channel by channel against one of them.

    Parameters
    ----------
    source : mapping or Fitted
        What `Fitted.evaluate` returned, or a fit that was scored.
    part : "scores", "cosmoothing", "held_out" or "forecast"
        Hidden entries, hidden channels, held-out channels or forecast bins.
    against : str, optional
        A baseline, such as ``masked_smoothing``: each channel is a dot, above the diagonal where the model is better. The area
        of a dot grows with the number of scored spikes (or entries): small dots are uncertain.
    session : str, optional
        Fitted session, of a fit of several.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If these are no metrics, or they have no such part or baseline.
    """
    metrics = source.metrics(session) if isinstance(source, Fit) else source
    if not isinstance(metrics, Mapping) or not {"metric", "scores"} <= set(metrics):
        raise DataError(f"got a {type(source).__name__}; expected a scored Fitted, or the result of Fitted.evaluate")
    if against is not None:
        return _channels(metrics, against, ax)
    if part not in metrics or part not in PARTS:
        there = [each for each in PARTS if each in metrics]
        raise DataError(f"part={part!r} is not among the scores; choose one of {', '.join(there)}")
    known = {name: score for name, score in metrics[part].items() if score is not None}
    if not known:
        raise DataError(f"no score on {PARTS[part]} is defined: {'; '.join(metrics.get('undefined', {}).values())}")
    names = sorted(known, key=known.__getitem__)
    ax = axes_of(ax, (WIDTH * 0.6, 0.9 + 0.34 * len(names)))
    values = [known[name] for name in names]
    drawn = ax.barh(
        range(len(names)), values, color=[BLUE if name == MODEL else theme().bar for name in names], height=0.66
    )
    labels = [f"{value:.3f}" for value in values]
    ax.bar_label(drawn, labels, padding=4, fontsize=9)
    ax.set_yticks(range(len(names)), [metrics["names"].get(name, name) for name in names])
    ax.get_yticklabels()[names.index(MODEL)].set_fontweight("bold")
    ax.axvline(0, color=theme().grey, lw=0.8)
    low, high = min(0.0, values[0]), max(0.0, values[-1])
    room = 0.16 * max(high - low, 1e-6)
    ax.set_xlim(low - room * (low < 0), high + room)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"{metrics['metric']} on {PARTS[part]}")
    return ax


def _channels(metrics: Mapping[str, Any], baseline: str, ax: Axes | None) -> Axes:
    table = metrics["by_channel"]
    if baseline not in table:
        raise DataError(
            f"against={baseline!r} was not scored; expected one of {', '.join(metrics.get('baselines', table))}"
        )
    weight = "spikes" if "spikes" in table else "entries"
    columns = zip(table[baseline], table[MODEL], table[weight], strict=True)
    rows = [row for row in columns if row[0] is not None and row[1] is not None]
    points = np.array(rows, dtype=float).reshape(-1, 3)
    ax = axes_of(ax, (WIDTH * 0.45, WIDTH * 0.45))
    low, high = (float(x) for x in (points[:, :2].min(initial=-0.05), points[:, :2].max(initial=0.05)))
    margin = 0.05 * (high - low)
    ax.plot([low - margin, high + margin], [low - margin, high + margin], color=theme().grey, lw=0.8)
    ax.axhline(0, color=theme().grey, lw=0.4)
    ax.axvline(0, color=theme().grey, lw=0.4)
    area = np.clip(60 * points[:, 2] / max(points[:, 2].max(initial=0), 1), 5, 60)
    ax.scatter(points[:, 0], points[:, 1], s=area, color=BLUE, alpha=0.7, lw=0)
    ax.set_xlim(low - margin, high + margin)
    ax.set_ylim(low - margin, high + margin)
    ax.set_aspect("equal")
    n_better = int((points[:, 1] > points[:, 0]).sum())
    ax.set_title(f"model better on {n_better} of {len(points)} channels", loc="left")
    name = metrics.get("names", {}).get(baseline, baseline.replace("_", " "))
    metric = SHORT.get(metrics["metric"], metrics["metric"])
    ax.set_xlabel(f"{name} ({metric})")
    ax.set_ylabel(f"model ({metric})")
    return ax


@picture
def compare(runs: pd.DataFrame, *, part: str = "hidden", ax: Axes | None = None) -> Axes:
    """Draw the score of each run beside those of its mean rate and its best baseline.

    Parameters
    ----------
    runs : pandas.DataFrame
        From `nwb_sbtt.compare`, one row a session.
    part : "hidden", "cosmoothing", "held_out", "forecast" or "rates_r2"
        What was scored.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If anything else comes, or no run has such a score.
    """
    columns = list(getattr(runs, "columns", []))
    if "run" not in columns:
        raise DataError(f"got a {type(runs).__name__}; expected the table of runs: sb.plot.compare(sb.compare([…]))")
    if f"{part}.{MODEL}" not in columns:
        there = [name.removesuffix(f".{MODEL}") for name in columns if str(name).endswith(f".{MODEL}")]
        raise DataError(
            f"part={part!r} was not scored in any of these runs; they have {', '.join(there) or 'no scores'}"
        )
    scored = runs[runs[f"{part}.{MODEL}"].notna()]
    others = [name for name in columns if name.startswith(f"{part}.") and name != f"{part}.{MODEL}"]
    several = scored["run"].duplicated(keep=False)
    names = [
        _shortened(f"{run} · {session}" if many else str(run))
        for run, session, many in zip(scored["run"], scored["session"], several, strict=True)
    ]
    ax = axes_of(ax, (WIDTH * 0.7, 1.1 + 0.36 * len(scored)))
    rows = np.arange(len(scored))[::-1]
    model = scored[f"{part}.{MODEL}"].to_numpy(float)
    if others:
        best = scored[others].max(axis=1).to_numpy(float)
        ax.hlines(rows, np.minimum(model, best), np.maximum(model, best), color=SKY, lw=2, zorder=1)
        ax.plot(best, rows, "D", color=theme().ink, ms=5, label="best baseline", ls="", zorder=2)
    if (mean := f"{part}.{MEAN}") in others:
        ax.plot(scored[mean].to_numpy(float), rows, "|", color=theme().grey, ms=11, mew=1.6, label="mean rate", ls="")
    ax.plot(model, rows, "o", color=BLUE, ms=8, label="model", ls="", zorder=3)
    metrics = sorted({str(each) for each in scored["metric"].dropna()})
    words = {"hidden": PARTS["scores"], "rates_r2": "true rates", **PARTS}.get(part, part)
    ax.set_xlabel("R² to the true rates" if part == "rates_r2" else f"{' or '.join(metrics)} on {words}")
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(scored) - 0.4)
    ax.margins(x=0.06)
    ax.grid(axis="y", color=theme().faint)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)
    return ax


def _shortened(name: str) -> str:
    """The end of a long path, which tells runs apart."""
    return name if len(name) <= 36 else f"…{name[-35:]}"


def _curves(source: Any) -> dict[str, History]:
    """Losses by name; one model has a single entry."""
    if isinstance(source, Fit):
        found: dict[str, History] = dict(source.curves())
    elif isinstance(source, Mapping):
        found = {}
        for name, each in source.items():
            of_each = _curves(each)
            found |= {str(name) if len(of_each) == 1 else f"{name} {key}": curve for key, curve in of_each.items()}
    elif isinstance(source, Sequence) and not isinstance(source, str):
        found = {"": source}
    else:
        raise DataError(f"got a {type(source).__name__}; expected a Fitted, its history, or a mapping of name to these")
    for name, history in found.items():
        if not len(history) or not all(isinstance(entry, Mapping) and "valid_loss" in entry for entry in history):
            raise DataError(
                f"{name or 'the history'}: "
                f"{'no epoch is finished' if not len(history) else 'not the losses of epochs'}; expected columns "
                "'epoch', 'train_loss' and 'valid_loss', as in Fitted.history"
            )
    return found
