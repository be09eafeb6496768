"""Figures of training and of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nwb_sbtt.plot.style import BLUE, GREY, ORANGE, RED, WIDTH, styled


@styled
def loss_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw training and validation loss of each epoch, and mark the epoch with the lowest validation loss.

    Parameters
    ----------
    history : sequence of mapping
        ``epoch``, ``train_loss`` and ``valid_loss`` [nats per scored entry] of each epoch; see `Fitted.history`.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH * 0.6, 3.0), layout="constrained")
    axis = figure.subplots()
    epochs = [entry["epoch"] for entry in history]
    marker = "o" if len(history) < 3 else ""
    train, valid = ([entry[name] for entry in history] for name in ("train_loss", "valid_loss"))
    axis.plot(epochs, train, color=ORANGE, lw=1.4, marker=marker, label="training")
    axis.plot(epochs, valid, color=BLUE, lw=1.6, marker=marker, label="validation, hidden entries")
    best = int(np.argmin(valid))
    axis.plot(epochs[best], valid[best], "o", color=RED, ms=7, label=f"best: epoch {epochs[best]:g}")
    # The losses of the first epochs are far larger and would flatten the rest.
    late = np.concatenate([train[len(train) // 20 :], valid[len(valid) // 20 :]])
    margin = 0.08 * max(float(np.ptp(late)), 1e-6)
    axis.set_ylim(float(late.min()) - margin, float(late.max()) + margin)
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss (nats per scored entry)")
    axis.legend()
    return figure


@styled
def channel_scores(metrics: Mapping[str, Any], *, baseline: str = "masked_smoothing") -> Figure:
    """Draw each channel's score against that of a baseline; above the diagonal the model is better.

    The area of a dot grows with the number of scored spikes (or entries): small dots are uncertain.

    Parameters
    ----------
    metrics : mapping
        From `Fitted.evaluate`.
    baseline : str
        Name of the baseline in ``metrics["scores"]``.

    Returns
    -------
    Figure
    """
    table = metrics["by_channel"]
    weight = "spikes" if "spikes" in table else "entries"
    columns = zip(table[baseline], table["model"], table[weight], strict=True)
    rows = [row for row in columns if row[0] is not None and row[1] is not None]
    points = np.array(rows, dtype=float).reshape(-1, 3)
    figure = Figure(figsize=(WIDTH * 0.42, WIDTH * 0.42), layout="constrained")
    axis = figure.subplots()
    low, high = (float(x) for x in (points[:, :2].min(initial=-0.05), points[:, :2].max(initial=0.05)))
    margin = 0.05 * (high - low)
    axis.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, lw=0.8)
    axis.axhline(0, color=GREY, lw=0.4)
    axis.axvline(0, color=GREY, lw=0.4)
    area = np.clip(60 * points[:, 2] / max(points[:, 2].max(initial=0), 1), 5, 60)
    axis.scatter(points[:, 0], points[:, 1], s=area, color=BLUE, alpha=0.7, lw=0)
    axis.set_xlim(low - margin, high + margin)
    axis.set_ylim(low - margin, high + margin)
    axis.set_aspect("equal")
    n_better = int((points[:, 1] > points[:, 0]).sum())
    axis.set_title(f"model better on {n_better} of {len(points)} channels", loc="left")
    axis.set_xlabel(f"{metrics.get('names', {}).get(baseline, baseline.replace('_', ' '))} ({metrics['metric']})")
    axis.set_ylabel(f"model ({metrics['metric']})")
    return figure
