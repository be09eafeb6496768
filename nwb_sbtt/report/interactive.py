"""Latents and traces that can be turned and zoomed, in a page that needs no network: plotly is part of it."""

from __future__ import annotations

import json
from html import escape
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.plot.colours import TrialColours, colours_by
from nwb_sbtt.plot.factors import principal_components
from nwb_sbtt.plot.selection import (
    channel_title,
    inferred_values,
    liveliest,
    select_bins,
    select_trials,
    thin,
    trial_ids,
)
from nwb_sbtt.plot.style import BLUE, DARK, LIGHT, RED, Theme
from nwb_sbtt.report.sheet import heading_of

MAX_TRIALS, MAX_CHANNELS = 60, 12
FOLLOW = """
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const paint = () => Plotly.relayout('{plot_id}', {template: dark.matches ? DARK : LIGHT});
dark.addEventListener('change', paint);
if (dark.matches) paint();
"""
"""Script of a figure: its colours follow the scheme of the screen."""


def interactive_sections(data: xr.Dataset, latents: xr.Dataset, *, column: str | None) -> str:
    """Lay out the interactive figures of a page.

    Parameters
    ----------
    data, latents : Dataset
    column : str or None
        Column of trials that gives colours.

    Returns
    -------
    str
        HTML with plotly itself.

    Raises
    ------
    ConfigError
        If plotly is not installed.
    """
    try:
        graphs, subplots = import_module("plotly.graph_objects"), import_module("plotly.subplots")
    except ImportError:
        raise ConfigError(
            'an interactive report needs plotly: pip install "nwb_sbtt[interactive]"; or leave out --interactive'
        ) from None
    colours = None if column is None else colours_by(data, column)
    parts, plotly = [], True
    if "factors" in latents:
        space = _space(graphs, latents, colours)
        parts.append(
            _section(
                space,
                "Latents (interactive)",
                "Drag to rotate, scroll to zoom. The pointer shows the id of a trial.",
                plotly,
            )
        )
        plotly = False
    traces = _traces(graphs, subplots, data, latents)
    parts.append(
        _section(traces, "Traces (interactive)", "Drag over a part to zoom in, double-click to zoom out.", plotly)
    )
    return "\n".join(parts)


def _section(figure: Any, heading: str, caption: str, plotly: bool) -> str:
    """A figure; the first of a page brings plotly along."""
    figure.update_layout(margin={"l": 10, "r": 10, "t": 30, "b": 10}, template=_template(LIGHT), autosize=True)
    page = figure.to_html(
        full_html=False,
        include_plotlyjs=plotly,
        config={"responsive": True, "displaylogo": False},
        post_script=FOLLOW.replace("LIGHT", json.dumps(_template(LIGHT))).replace("DARK", json.dumps(_template(DARK))),
    )
    return f"{heading_of(heading)}\n<p>{escape(caption)}</p>\n<div class='interactive'>{page}</div>"


def _template(theme: Theme) -> dict[str, Any]:
    """Colours of a figure of plotly."""
    lines = {"gridcolor": theme.faint, "zerolinecolor": theme.faint, "linecolor": theme.grey}
    flat = {**lines, "automargin": True, "title": {"standoff": 15}}
    solid = {**lines, "backgroundcolor": theme.paper, "showbackground": True}
    return {
        "layout": {
            "paper_bgcolor": theme.paper,
            "plot_bgcolor": theme.paper,
            "font": {"color": theme.ink},
            "xaxis": flat,
            "yaxis": flat,
            "scene": {"xaxis": solid, "yaxis": solid, "zaxis": solid},
        }
    }


def _space(graphs: Any, latents: xr.Dataset, colours: TrialColours | None) -> Any:
    components, shares = principal_components(latents["factors"].values.astype(np.float64))
    n = components.shape[2]
    figure = graphs.Figure()
    for row in thin(np.arange(len(components)), MAX_TRIALS):
        axes = dict(zip("xyz", components[row].T, strict=False))
        if n == 1:
            axes = {"x": latents["time"].values, "y": components[row, :, 0]}
        colour, name = BLUE, f"trial {trial_ids(latents)[row]}"
        if colours is not None:
            colour = to_hex(colours.of(colours.values[row]))
            name += f", {colours.column} {colours.values[row]}"
        style = {"mode": "lines", "line": {"color": colour, "width": 2}, "name": name, "hoverinfo": "name"}
        figure.add_trace((graphs.Scatter3d if n > 2 else graphs.Scatter)(**axes, **style, showlegend=False))
    titles = {letter: f"PC {i + 1} ({shares[i]:.0%})" for i, letter in enumerate("xyz"[:n])}
    if n > 2:
        figure.update_layout(
            scene={f"{letter}axis": {"title": {"text": text}} for letter, text in titles.items()}, height=560
        )
    else:
        figure.update_layout(
            height=460, **{f"{letter}axis": {"title": {"text": text}} for letter, text in titles.items()}
        )
    return figure


def _traces(graphs: Any, subplots: Any, data: xr.Dataset, latents: xr.Dataset) -> Any:
    inferred, bins = inferred_values(data, latents), select_bins(data)
    row = int(select_trials(data, 1)[0])
    channels = liveliest(data, inferred.mean, MAX_CHANNELS)
    time = data["time"].values[bins]
    ids = [channel_title(data, int(channel)) for channel in channels]
    figure = subplots.make_subplots(rows=len(channels), cols=1, shared_xaxes=True, vertical_spacing=0.01)
    for i, channel in enumerate(channels, start=1):
        line = inferred.mean[row, bins, channel]
        figure.add_trace(
            graphs.Scatter(x=time, y=line, mode="lines", line={"color": BLUE}, name=ids[i - 1], showlegend=False),
            row=i,
            col=1,
        )
        shown = _measured(data, row, bins, int(channel), inferred.is_counts)
        y = np.zeros(shown.sum()) if inferred.is_counts else data["values"].values[row, bins, channel][shown]
        dots = {
            "mode": "markers",
            "marker": {"color": RED, "size": 4},
            "name": "spikes" if inferred.is_counts else "observed",
        }
        figure.add_trace(graphs.Scatter(x=time[shown], y=y, showlegend=False, **dots), row=i, col=1)
        figure.update_yaxes(title={"text": ids[i - 1], "font": {"size": 10}}, row=i, col=1)
    figure.update_xaxes(title={"text": "time (s)"}, row=len(channels), col=1)
    figure.update_layout(
        height=120 + 90 * len(channels),
        title={"text": f"{inferred.name} ({inferred.unit}), trial {trial_ids(data)[row]}"},
    )
    return figure


def _measured(data: xr.Dataset, row: int, bins: slice, channel: int, is_counts: bool) -> NDArray[np.bool_]:
    """Bins with spikes, or with a sample."""
    observed: NDArray[np.bool_] = data["observed"].values[row, bins, channel]
    return observed & (data["values"].values[row, bins, channel] > 0) if is_counts else observed
