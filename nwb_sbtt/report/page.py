"""One HTML page about a fit, which needs no other file and no network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nwb_sbtt.atomic import write_text
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.config.likelihoods import likelihood_in_words
from nwb_sbtt.data.columns import has_few_values, trial_columns
from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate.alignment import Courses, condition_averages, matched
from nwb_sbtt.evaluate.decoding import decode
from nwb_sbtt.plot.colours import colours_by
from nwb_sbtt.plot.selection import channel_name, inferred_values
from nwb_sbtt.report import figures
from nwb_sbtt.report.interactive import interactive_sections
from nwb_sbtt.report.sheet import contents_of, document, heading_of, section_of_figure
from nwb_sbtt.report.system import LearnedSystem, sections_of_system

UNUSED = {"test": "test", "none": "left out", "gap": "sharing bins with validation"}
"""Labels of the split for trials in neither training nor validation, in words."""
MOST_CONDITIONS = 4
"""Most columns of trials that PSTHs average by."""
NO_CONDITIONS = ("split", "trial_id")
LEVELS = {"ok": "good", "warn": "look at this", "bad": "problem"}


def write_report(
    path: Path | str,
    *,
    data: xr.Dataset,
    latents: xr.Dataset,
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, Any],
    title: str,
    reference: Courses | None = None,
    system: LearnedSystem | str = "",
    color_by: str | None = None,
    interactive: bool = False,
) -> Path:
    """Write a self-contained HTML page: data, inferred rates and latents, scores, and losses of the training.

    Behaviour, variables of the data along ``trial`` and ``time`` besides those of `nwb_sbtt.data.schema`, is decoded from the
    factors.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    data, latents : Dataset
        Data of a fit, and rates and latents inferred from all of them; of the same trials, bins and channels.
    history : sequence of mapping
        ``epoch``, ``train_loss`` and ``valid_loss`` of each epoch; may be empty.
    metrics : mapping
        From `nwb_sbtt.evaluate.summary.evaluate_latents`; may be empty.
    title : str
    reference : Courses, optional
        Condition averages of the factors that those of the latents are aligned to; drawn with these where there are
        ``aligned_factors``.
    system : LearnedSystem or str
        The system that the fit has learned; or, where there is none to show, why, in words. Left out where empty.
    color_by : str, optional
        Column of trials that gives colours; by default ``condition`` if there is one. PSTHs average over its values, and over
        those of other columns with few values.
    interactive : bool
        Add latents and traces that can be turned and zoomed; the page then holds plotly, 5 MB.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MismatchError
        If trials, bins or channels of data and latents differ.
    SelectionError
        If trials have no such column.
    FileError
        If the page cannot be written.
    ConfigError
        If it is to be interactive, and plotly is not installed.
    """
    target = Path(path)
    latents = latents.assign_coords({name: data[name] for name in trial_columns(data) if name not in latents.coords})
    content = _Content(
        data,
        latents,
        history,
        metrics,
        reference,
        system,
        figures.column_of(data, color_by),
        interactive,
    )
    write_text(target, _page(content, title))
    return target


@dataclass(frozen=True)
class _Content:
    """What a page is about; see `write_report`."""

    data: xr.Dataset
    latents: xr.Dataset
    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, Any]
    reference: Courses | None
    system: LearnedSystem | str
    column: str | None
    interactive: bool


def _page(content: _Content, title: str) -> str:
    data, latents = content.data, content.latents
    inferred_values(data, latents)
    model = json.loads(str(latents.attrs.get("model", "{}")))
    parts = [
        _results(content.metrics),
        *(_figure(panel) for panel in _panels(content)),
        *(sections_of_system(content.system) if isinstance(content.system, LearnedSystem) else ()),
        interactive_sections(data, latents, column=content.column) if content.interactive else "",
        _notes(data),
        _settings(model),
    ]
    body = "\n".join(part for part in parts if part)
    of_fit = _fit_facts(model, content.history, content.system)
    facts = _facts(_data_facts(data) | of_fit | _kinetics_facts(latents))
    head = [f"<h1>{escape(title)}</h1>", facts, contents_of(body)]
    return document(title, "\n".join(part for part in (*head, body, _foot(data, model)) if part))


def _foot(data: xr.Dataset, model: Mapping[str, Any]) -> str:
    """Digests by which the page can be told to belong to a file and a fit."""
    source = json.loads(str(data.attrs.get("source", "{}")))
    digests = {"recording": source.get("sha256"), "weights": model.get("checkpoint_sha256")}
    lines = [f"SHA-256 of the {name}: {escape(str(digest))}" for name, digest in digests.items() if digest]
    return f"<footer>\n{'<br>'.join(lines)}\n</footer>" if lines else ""


# Facts


def _data_facts(data: xr.Dataset) -> dict[str, str]:
    source = json.loads(str(data.attrs.get("source", "{}")))
    bin_width, sizes = float(data.attrs["bin_width"]), data.sizes
    name = channel_name(data)
    trials = f"{sizes['trial']} trial{'s' * (sizes['trial'] != 1)}"
    if "split" in data.coords:
        trials += f" ({_split_counts(data['split'].values.astype(str))})"
    bins = f"{sizes['time']} bins of {bin_width:g} s each"
    facts = {
        "file": source.get("name") or "not read from a file",
        "session": str(data.attrs.get("session_id", "")),
        "series": ", ".join(map(str, source.get("series", []))),
        "data": f"{sizes['channel']} {name}{'s' * (sizes['channel'] != 1)}, {trials}, {bins}",
        "observed": f"{float(data['observed'].values.mean()):.1%} of all entries",
        "never shown": _never_shown(data),
        "read with": _read_with(data),
    }
    return {key: value for key, value in facts.items() if value}


def _never_shown(data: xr.Dataset) -> str:
    """Held-out channels and forecast bins, which are scored all the same."""
    marked = (("held_out", "channels"), ("forecast", "bins of each trial"))
    counts = {name: int(data[key].values.astype(bool).sum()) for key, name in marked if key in data.coords}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _read_with(data: xr.Dataset) -> str:
    """Settings of the reader that differ from their defaults, as --set takes them."""
    if "read_config" not in data.attrs:
        return ""
    chosen = _flat(json.loads(str(data.attrs["read_config"])))
    defaults = _flat(ReadConfig().model_dump(mode="json"))
    changed = {name: value for name, value in chosen.items() if value != defaults.get(name)}
    return ", ".join(f"read.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in changed.items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


def _split_counts(labels: NDArray[np.str_]) -> str:
    """Numbers of training and validation trials, and of the others with the reason."""
    counts = Counter(labels.tolist())
    used = [f"{counts.pop(label, 0)} {label}" for label in ("train", "valid")]
    unused = [f"{count} {UNUSED.get(label, repr(label))}" for label, count in sorted(counts.items())]
    return ", ".join(used) + (f"; in neither: {', '.join(unused)}" if unused else "")


def _fit_facts(
    model: Mapping[str, Any], history: Sequence[Mapping[str, float]], system: LearnedSystem | str
) -> dict[str, str]:
    environment = model.get("environment") or {}
    versions = ", ".join(
        f"{name} {environment[name]}" for name in ("python", "torch", "numpy", "pynwb") if name in environment
    )
    trained = f"{len(history)} epoch{'s' * (len(history) != 1)}" if history else ""
    if trained and model.get("finished"):
        trained += f"; {model['finished']}"
    sessions = list(model.get("sessions", {}))
    facts = {
        "fitted together": ", ".join(f"{name} (this)" if name == model.get("session") else name for name in sessions),
        "model": ", ".join(
            filter(
                None, (model.get("model_type"), model.get("likelihood") and likelihood_in_words(model["likelihood"]))
            )
        ),
        "training": trained,
        "learned system": system.summary if isinstance(system, LearnedSystem) else system,
        "seed": str(model["seed"]) if "seed" in model else "",
        "made with": f"{model.get('software_name', '')} {model.get('software_version', '')}".strip()
        + (f" ({versions})" if versions else ""),
        "run folder": str(model.get("run") or ""),
    }
    return {key: value for key, value in facts.items() if value}


def _kinetics_facts(latents: xr.Dataset) -> dict[str, str]:
    """Kinetics of the indicator in the ROIs: the median over these, and where nine tenths of them lie."""
    units = {"decay": "s", "rise": "s", "gain": "per spike", "baseline": "", "noise": "sd"}
    parts = []
    for name, unit in units.items():
        if name in latents.coords and latents[name].dims == ("channel",) and np.isfinite(latents[name].values).any():
            low, median, high = np.nanquantile(latents[name].values.astype(float), (0.05, 0.5, 0.95))
            parts.append(f"{name} {median:.3g} ({low:.3g} to {high:.3g}) {unit}".strip())
    return {"kinetics (median, 5 to 95 %)": ", ".join(parts)} if parts else {}


def _facts(facts: Mapping[str, str]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>' for key, value in facts.items()
    )
    return f'<table class="facts">\n{rows}\n</table>'


def _notes(data: xr.Dataset) -> str:
    notes = json.loads(str(data.attrs.get("notes", "[]")))
    items = "\n".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return f"{heading_of('Notes of the reader')}\n<ul>\n{items}\n</ul>" if notes else ""


def _settings(model: Mapping[str, Any]) -> str:
    config = model.get("config")
    if not config:
        return ""
    text = escape(json.dumps(config, indent=2, ensure_ascii=False))
    return f"{heading_of('Settings')}\n<details>\n<summary>All settings of the fit</summary>\n<pre>{text}</pre>\n</details>"


# Results


def _results(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    scored = metrics["scored"]
    basis = f"{scored['entries']:,} entries of {scored['trials']} validation trials"
    if "spikes" in scored:
        basis += f" ({scored['spikes']:,} spikes)"
    columns = {f"hidden entries ({metrics['metric']})": metrics["scores"]}
    if "gain" in metrics:
        columns[f"gain over the {metrics['names']['mean_rate']}"] = metrics["gain"]
    if "cosmoothing" in metrics:
        columns[f"hidden channels ({metrics['metric']})"] = metrics["cosmoothing"]
    if "held_out" in metrics:
        columns[f"held-out channels ({metrics['metric']})"] = metrics["held_out"]
    if "forecast" in metrics:
        columns[f"forecast bins ({metrics['metric']})"] = metrics["forecast"]
    if "rates_r2" in metrics.get("truth", {}):
        columns["true rates (R²)"] = metrics["truth"]["rates_r2"]
    conditions = ""
    if "lag" in metrics:
        conditions = f" Each bin is predicted from the bins before it and {metrics['lag']} after it, at most (the lag)."
    if "known_inputs" in metrics:
        conditions += (
            f" The model was given the known inputs {', '.join(metrics['known_inputs'])}; the baselines were not."
        )
    text = (
        f"{heading_of(_outcome(metrics))}\n<p>Scores on entries that neither the model nor any baseline was shown: "
        f"{escape(basis)}. Higher is better.{escape(conditions)} {escape(metrics.get('zero', ''))}</p>\n"
        + _scores(columns, metrics["names"])
        + _undefined(metrics)
        + _baselines(metrics)
    )
    if "latents_r2" in metrics.get("truth", {}):
        share = metrics["truth"]["latents_r2"]["model"]
        text += f"\n<p>Latents decoded linearly from the factors explain {share:.1%} of the variance of the true latents.</p>"
    items = "\n".join(_check(check["name"], check["level"], check["text"]) for check in metrics["checks"])
    return f'{text}\n<ul class="checks">\n{items}\n</ul>'


def _outcome(metrics: Mapping[str, Any]) -> str:
    """The first thing to know: whether the model is better than the baselines."""
    scores = {name: score for name, score in metrics["scores"].items() if score is not None}
    own = scores.pop("model", None)
    if own is None or not scores:
        return "The scores are not defined"
    best = max(scores, key=scores.__getitem__)
    if own > scores[best]:
        return "Beats the baselines"
    better = [name for name, score in scores.items() if score >= own]
    if len(better) < len(scores):
        names = ", ".join(metrics["names"].get(name, name) for name in better)
        return f"Does not beat the baselines: {names} {'is' if len(better) == 1 else 'are'} as good or better"
    return "Does not beat the baselines"


def _check(name: str, level: str, text: str) -> str:
    heading = f"{escape(name.capitalize())} ({LEVELS[level]})."
    return f'<li class="{escape(level)}"><strong>{heading}</strong> {escape(text)}</li>'


def _undefined(metrics: Mapping[str, Any]) -> str:
    """Why scores are not defined, each reason once."""
    reasons = dict.fromkeys(metrics.get("undefined", {}).values())
    return "".join(f"\n<p>Not defined: {escape(reason)}.</p>" for reason in reasons)


def _scores(columns: Mapping[str, Mapping[str, float | None]], names: Mapping[str, str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = []
    first = next(iter(columns.values()))
    for key in sorted(first, key=lambda key: np.inf if (score := first[key]) is None else -score):
        cells = "".join(f"<td>{_cell(scores, key)}</td>" for scores in columns.values())
        style = ' class="own"' if key == "model" else ""
        rows.append(f'<tr{style}><th scope="row">{escape(names[key])}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table class="scores">\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody>\n</table></div>"
    )


def _baselines(metrics: Mapping[str, Any]) -> str:
    """Settings of the baselines."""
    if "baselines" not in metrics:
        return ""
    items = "\n".join(
        f"<li>{escape(metrics['names'][key])}: {escape(text)}</li>" for key, text in metrics["baselines"].items()
    )
    return f"\n<details>\n<summary>Settings of the baselines</summary>\n<ul>\n{items}\n</ul>\n</details>"


def _cell(scores: Mapping[str, float | None], key: str) -> str:
    if key not in scores:
        return ""
    score = scores[key]
    return "–" if score is None else _bar(score, max(other for other in scores.values() if other is not None))


def _bar(value: float, largest: float) -> str:
    share = float(np.clip(value / largest, 0, 1)) if largest > 0 else 0.0
    return f'<span class="number">{value:.3f}</span><span class="bar"><span style="width:{100 * share:.1f}%"></span></span>'


# Figures


@dataclass(frozen=True)
class _Panel:
    """A figure with its heading, caption and text in place of the image."""

    heading: str
    caption: str
    alt: str
    draw: Callable[[], Figure]


def _panels(content: _Content) -> Iterator[_Panel]:
    data, latents, history, metrics = content.data, content.latents, content.history, content.metrics
    column = content.column
    share = f"{float(data['observed'].values.mean()):.1%}"
    name = "means" if "mean" in latents else "rates"
    of_rates = name == "means" and ("rates" in latents or "true_rates" in data)
    of_spikes = infers_spikes(latents)
    yield _Panel(
        "Data",
        (
            "Some trials as input to the model. Blue-grey entries are missing: they are neither shown to the model nor "
            "scored."
        )
        + (
            " Entries in the colour of the background are observed bins without a spike."
            if data.attrs.get("unit") == "counts"
            else ""
        ),
        f"Raster of observed values of up to three trials; {share} of the entries are observed.",
        lambda: figures.masks(data),
    )
    yield _Panel(
        f"Inferred {name}",
        f"One trial: observed values, inferred {name}"
        + (", spikes and rates" if of_spikes else "")
        + (" and true rates" if "true_rates" in data else "")
        + f" in one colour scale. {name.capitalize()} are inferred for every entry, observed or missing."
        + (" The colour scale fits the rates; bins with a spike can exceed it." if name == "rates" else ""),
        f"Heat maps of observed values and inferred {name} of one trial, channels sorted by peak time.",
        lambda: figures.rates(data, latents),
    )
    yield _Panel(
        "Single channels",
        f"Channels of the same trial. The band is ± the calibrated posterior sd of the inferred {name}; it does not "
        "include the noise of single observations, as predictive intervals do."
        + " Numbers on the right are the lowest and highest value of each channel.",
        f"Inferred {name} over time of up to six channels with posterior sd and observed values.",
        lambda: figures.traces(data, latents),
    )
    if data.attrs["kind"] == "rois" and (of_rates or of_spikes or "denoised" in data):
        yield _Panel(
            "Fluorescence",
            "One ROI: measured (dots) and inferred fluorescence or events, and the inferred spikes and rates behind "
            "them. Each row has its own scale; numbers on the right are the lowest and highest value.",
            "Fluorescence, spikes and rate of one ROI over time.",
            lambda: figures.calcium(data, latents),
        )
    for by in _conditions(data, column):
        yield _Panel(
            f"Averages by {by}",
            f"Averages over trials with the same {by}: observed (thin; smoothed with an sd of 50 ms, over "
            "observed entries only) and inferred (thick), with bands of ± the standard error over trials.",
            f"Averages of up to six channels over trials of each {by}.",
            partial(figures.psths, data, latents, by=by),
        )
    if "factors" in latents:
        yield _Panel(
            "Latents",
            f"Trajectories of single trials{f', coloured by {column}' if column else ''}."
            + (" Left: decoded. Right: true. A good fit matches." if "true_latents" in data else "")
            + (
                f" There are no averages over trials by {column}: it has too many different values."
                if column is not None and not colours_by(data, column).groups
                else ""
            ),
            "Trajectories of the factors in up to three dimensions.",
            lambda: figures.latent_space(latents, data, color_by=column),
        )
    if content.reference is not None and "aligned_factors" in latents:
        yield _factors_across_sessions(latents, content.reference)
    if "inputs" in latents:
        yield _Panel(
            "Inferred inputs",
            "Inputs from the controller to the generator: single trials (thin) and their mean (thick). If they are near zero, "
            "the generator's dynamics alone explain the data.",
            f"Inferred inputs over time; {latents.sizes['input']} in all.",
            lambda: figures.inputs(latents, color_by=column),
        )
    for name, decoded in _decoded(data, latents):
        yield _Panel(
            f"Decoding of {name}",
            f"{name} measured and decoded from the factors by ridge regression. Each trial is decoded by a regression on "
            f"other trials (cross-validation). R² over {decoded.attrs['scored_on']}: {_decoding_scores(decoded)}.",
            f"{name} over time, measured and decoded, in up to eight trials.",
            partial(figures.decodings, [decoded], color_by=column),
        )
    if metrics and any(value is not None for value in metrics["by_channel"]["model"]):
        yield _Panel(
            "Scores by channel",
            "Scores on hidden entries. Each dot is a channel; its area grows with the number of scored "
            + ("spikes" if "spikes" in metrics["by_channel"] else "entries")
            + ". Small dots are uncertain.",
            "Scatter plot of each channel's score of the model against that of masked smoothing.",
            lambda: figures.channel_scores(metrics),
        )
    if history:
        best = min(history, key=lambda entry: entry["valid_loss"])
        yield _Panel(
            "Training",
            "The validation loss is computed on observed entries that were hidden from the encoder. The checkpoint of the best "
            "epoch is used.",
            f"Training and validation loss over {len(history)} epochs; best validation loss in epoch {best['epoch']:g}.",
            lambda: figures.training(history),
        )


def _conditions(data: xr.Dataset, column: str | None) -> list[str]:
    """Columns that PSTHs average by: the one that gives colours, and others with few values, each way of grouping once."""
    columns = [str(name) for name, each in data.coords.items() if each.dims == ("trial",)]
    others = [name for name in columns if name not in NO_CONDITIONS and has_few_values(data[name].values)]
    found: dict[bytes, str] = {}
    for name in [*([column] if column is not None else []), *others]:
        if colours_by(data, name).groups:
            found.setdefault(_grouping(data[name].values), name)
    return list(found.values())[:MOST_CONDITIONS]


def _grouping(values: NDArray[Any]) -> bytes:
    """Which trials have the same value, whatever it is: numbers of the values in the order in which they come."""
    texts = values.astype(str)
    first = {value: i for i, value in enumerate(dict.fromkeys(texts.tolist()))}
    return np.array([first[value] for value in texts.tolist()]).tobytes()


def _decoded(data: xr.Dataset, latents: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Behaviour among the data, decoded; where it cannot be, as with few bins of it, there is nothing to show."""
    if "factors" not in latents:
        return
    for name, variable in data.data_vars.items():
        if (
            variable.dims[:2] == ("trial", "time")
            and not {"channel", "input"} & set(variable.dims)
            and not str(name).startswith("true_")
        ):
            with suppress(DataError):
                split = {"split": data["split"]} if "split" in data.coords else {}
                yield str(name), decode(latents.assign_coords(split), variable, data=data)


def _decoding_scores(decoded: xr.Dataset) -> str:
    """R² from each predictor, over all columns, in words."""
    names = decoded["predictor"].values.tolist()
    return ", ".join(
        f"{score:.3f} from {name}" for name, score in zip(names, decoded["r2_weighted"].values, strict=True)
    )


def _factors_across_sessions(latents: xr.Dataset, reference: Courses) -> _Panel:
    """Condition averages of this session beside those of the reference."""
    record = json.loads(str(latents.attrs["model"]))["alignment"]
    own, theirs = matched(condition_averages(latents, record["condition"]), reference)
    aligned, _ = matched(condition_averages(latents, record["condition"], variable="aligned_factors"), reference)
    as_fitted = "" if record["as_fitted"] is None else f" as fitted {record['as_fitted']:.2f},"
    return _Panel(
        "Factors across sessions",
        f"Averages of the factors over the trials of a condition ({record['condition']}): grey in "
        f"{record['reference']!r}, the reference (run folder {record['reference_run']}). Coloured: this session. "
        f"Axes: the first principal components of the reference. R² over all factors:{as_fitted} aligned "
        f"{record['aligned']:.2f} (conditions left out in turn). If the lines on the left differ, the factors of the "
        "two sessions cannot be compared; then decode aligned_factors.",
        "Time courses of the factors in both sessions, as fitted and aligned.",
        lambda: figures.factors_across_sessions(
            theirs.averages,
            own.averages if own.averages.shape == theirs.averages.shape else None,
            aligned.averages,
            conditions=theirs.conditions,
            time=theirs.time,
        ),
    )


def _figure(panel: _Panel) -> str:
    return section_of_figure(panel.draw, heading=panel.heading, caption=panel.caption, alt=panel.alt)
