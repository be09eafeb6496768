import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from nwb_sbtt import plot
from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.errors import ConfigError, DataError, MismatchError, SbttError, SelectionError
from nwb_sbtt.evaluate.decoding import decode
from nwb_sbtt.plot.factors import principal_components
from nwb_sbtt.plot.selection import channel_title
from nwb_sbtt.plot.style import LIGHT
from nwb_sbtt.report import figures
from nwb_sbtt.simulate.calcium import LADDER, calcium
from tests.support.estimates import history, inferred, plain, scored, simulated

Draw = Callable[..., Axes]
DRAWINGS: dict[str, Draw] = {
    "mask": lambda ds, latents, **options: plot.mask(ds, **options),
    "rates": plot.rates,
    "traces": plot.traces,
    "psth": plot.psth,
    "latents": lambda ds, latents, **options: plot.latents(latents, **options),
    "plane": lambda ds, latents, **options: plot.latents(latents, dims=2, **options),
}
ALL = pytest.mark.parametrize("name", DRAWINGS)
matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return simulated()


@pytest.fixture(scope="module")
def latents(ds: xr.Dataset) -> xr.Dataset:
    return inferred(ds, inputs=2)


class Fit:
    """What pictures ask of a fit."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def data(self, session: str | None = None) -> xr.Dataset:
        return self._ds

    def infer(self, ds: xr.Dataset, *, session: str | None = None) -> xr.Dataset:
        return inferred(ds, inputs=2)

    def metrics(self, session: str | None = None) -> dict[str, Any]:
        return scored(self._ds, inferred(self._ds))

    def curves(self) -> dict[str, list[dict[str, float]]]:
        return {"member-0": history(5), "member-1": history(9)}


def drawn(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


@ALL
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    ("shape", "factors"), [((1, 1, 1), 1), ((1, 40, 1), 1), ((2, 1, 3), 2), ((5, 30, 4), 2), ((3, 700, 400), 5)]
)
def test_every_shape_can_be_drawn(name: str, counts: bool, shape: tuple[int, int, int], factors: int) -> None:
    ds = plain(shape, counts=counts)
    ax = DRAWINGS[name](ds, inferred(ds, factors=factors, sd=counts))
    assert drawn(ax.figure).startswith(b"\x89PNG")


@ALL
def test_a_picture_is_drawn_on_the_axes_given_or_on_a_figure_that_is_shown(
    name: str, ds: xr.Dataset, latents: xr.Dataset
) -> None:
    ax = DRAWINGS[name](ds, latents)
    assert [ax.figure.number] == plt.get_fignums(), "a figure of pyplot: notebooks show it"
    figure = Figure()
    own = figure.add_subplot(projection="3d" if name == "latents" else None)
    assert DRAWINGS[name](ds, latents, ax=own) is own and own.has_data() and len(plt.get_fignums()) == 1
    with pytest.raises(ConfigError, match="ax is a Figure; expected one matplotlib Axes"):
        DRAWINGS[name](ds, latents, ax=figure)


@pytest.mark.slow
def test_a_notebook_is_told_of_every_picture(tmp_path: Path) -> None:
    """A backend such as that of notebooks sets a setting when it is loaded, which the style of a picture must not undo."""
    backend = "import matplotlib\nfrom matplotlib.backends.backend_agg import *\nmatplotlib.interactive(True)\n"
    (tmp_path / "notebook_like.py").write_text(backend)
    code = (
        "import matplotlib\nfrom nwb_sbtt import plot\nhistory = [{'epoch': 1, 'train_loss': 1.0, 'valid_loss': 1.0}]\n"
        "plot.training(history)\nassert matplotlib.is_interactive() and not matplotlib.rcParams['legend.frameon'] is False"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "MPLBACKEND": "module://notebook_like", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_pictures_cost_nothing_until_one_is_drawn() -> None:
    code = "import sys, nwb_sbtt\nnwb_sbtt.plot\nassert not [name for name in sys.modules if name.startswith('matplotlib')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@ALL
def test_drawing_leaves_the_data_and_the_style_of_others_alone(name: str) -> None:
    ds = simulated()
    latents = inferred(ds)
    before, same = ds.copy(deep=True), latents.copy(deep=True)
    settings = dict(matplotlib.rcParams)
    drawn(DRAWINGS[name](ds, latents).figure)
    assert dict(matplotlib.rcParams) == settings
    xr.testing.assert_identical(ds, before)
    xr.testing.assert_identical(latents, same)


@ALL
def test_a_fit_is_drawn_with_its_own_data(name: str, ds: xr.Dataset) -> None:
    draw = getattr(plot, name, plot.latents)
    assert draw(Fit(ds)).has_data()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("runs/first", r"got the path 'runs/first'; .*sb\.load\(path\) of a run folder"),
        ({"a": 1, "b": 2}, "got a mapping of 2"),
        (np.zeros((2, 3, 4)), "got a ndarray; expected a Dataset"),
        (xr.Dataset({"x": ("trial", [1])}), "has \\['x'\\]; expected data with 'values'|no 'factors'"),
    ],
)
@pytest.mark.parametrize("name", ["mask", "rates", "traces", "psth", "calcium", "latents"])
def test_wrong_inputs_are_named(name: str, source: object, text: str) -> None:
    if name == "latents" and isinstance(source, dict):
        text = "got a int"
    with pytest.raises(DataError, match=text):
        getattr(plot, name)(source)
    assert not plt.get_fignums(), "no empty figure is left behind"


def test_what_needs_other_inputs_says_so(ds: xr.Dataset, latents: xr.Dataset) -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: plot.mask(latents), "these are latents without measured"),
        (lambda: plot.rates(ds), "data without inferred"),
        (lambda: plot.rates(latents, of="observed"), "of='observed' is not in these data; choose one of inferred"),
        (lambda: plot.latents(ds), "pass latents"),
        (lambda: plot.latents(latents, dims=4), "dims is 4; expected 2 or 3"),
        (lambda: plot.latents({"a": latents}), "'a': no 'aligned_factors'"),
        (lambda: plot.inputs(latents, number=3), "expected 1 to 2"),
        (lambda: plot.calcium(ds), "expected ROIs"),
        (lambda: plot.traces(ds, latents, channels=[7, 99]), "there is no unit 99; 12 have the ids"),
        (lambda: plot.mask(ds, trial=99), "there is no trial 99"),
        (lambda: plot.mask(ds, session="a"), "session='a' chooses a session of a fit"),
        (lambda: plot.psth(ds, by="direction"), "no column 'direction'; they have condition, "),
        (lambda: plot.psth(ds, by="trial_start"), "'trial_start' has 40 different numbers"),
        (lambda: plot.psth(ds, smooth=-1), "smooth is -1"),
        (lambda: plot.training([]), "no epoch is finished"),
        (lambda: plot.training(ds["time"]), "got a DataArray"),
        (lambda: plot.scores({"a": 1}), "expected a scored Fitted"),
        (lambda: plot.scores(scored(ds, latents), part="forecast"), "choose one of scores"),
        (lambda: plot.scores(scored(ds, latents), against="x"), "against='x' was not scored"),
        (lambda: plot.compare(["runs/a"]), "sb.plot.compare\\(sb.compare"),
        (lambda: plot.compare(pd.DataFrame({"run": ["a"]})), "they have no scores"),
        (lambda: plot.decoding(latents), "sb.decode"),
    ]
    for draw, text in wrong:
        with pytest.raises(SbttError, match=text):
            draw()
    assert not plt.get_fignums(), "no empty figure is left behind"


def test_missing_entries_have_a_colour_of_their_own(ds: xr.Dataset) -> None:
    trial = np.flatnonzero(ds["split"].values == "valid")[0]
    ax = plot.mask(ds, trial=int(trial))
    image = ax.images[0]
    values = image.get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(values).T, ~ds["observed"].values[trial])
    colours = image.cmap(image.norm(np.ma.MaskedArray([0.0, 1.0, 2.0, 0.0], [False, False, False, True])))
    assert len({tuple(colour) for colour in colours}) == 4
    assert tuple(colours[3]) == matplotlib.colors.to_rgba(LIGHT.missing)
    assert legend_of(ax) == ["missing", "observed, no spike"]


def test_axes_have_ids_and_units(ds: xr.Dataset, latents: xr.Dataset) -> None:
    ids = [str(channel) for channel in ds["channel_id"].values]
    ax = plot.mask(ds)
    assert [text.get_text() for text in ax.get_yticklabels()] == ids
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "unit")
    order = np.argsort(latents["rates"].values[3].argmax(0), kind="stable")
    ax = plot.rates(latents, trial=3)
    assert [text.get_text() for text in ax.get_yticklabels()] == [ids[i] for i in order]
    assert any("rate (Hz)" in axis.get_ylabel() for axis in ax.figure.axes)
    ax = plot.traces(ds, latents, channels=[22, 7])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["unit 22", "unit 7"]
    assert plot.psth(ds, channel=22).get_title(loc="left") == "unit 22"


def test_trials_are_named_by_their_ids(ds: xr.Dataset) -> None:
    named = ds.assign_coords(trial_id=("trial", 100 + np.arange(40)))
    assert plot.mask(named, trial=117).get_title(loc="left").startswith("trial 117")
    with pytest.raises(SelectionError, match="there is no trial 5; 40 trials have the ids 100, 101"):
        plot.mask(named, trial=5)


def test_observed_and_inferred_share_one_scale_and_one_order(ds: xr.Dataset, latents: xr.Dataset) -> None:
    observed, rates, truth = (
        plot.rates(ds, latents, trial=3, of=of).images[0] for of in ("observed", "inferred", "true")
    )
    assert len({(each.norm.vmin, each.norm.vmax) for each in (observed, rates, truth)}) == 1
    np.testing.assert_array_equal(rates.get_array(), truth.get_array())
    assert (np.diff(rates.get_array().argmax(1)) >= 0).all()
    order = np.argsort(ds["true_rates"].values[3].argmax(0), kind="stable")
    np.testing.assert_allclose(observed.get_array().filled(0).T, ds["values"].values[3][:, order] / 0.02)


def test_many_channels_are_thinned_out_and_it_says_so() -> None:
    ax = plot.mask(plain((2, 20, 1000)))
    assert ax.get_ylabel() == "unit (120 of 1000)"
    assert ax.images[0].get_array().shape == (120, 20)


def test_long_trials_are_cut_and_it_says_so() -> None:
    ds = plain((1, 5000, 2))
    assert "first 600 of 5000 bins" in plot.rates(ds, inferred(ds)).get_xlabel()


def test_any_column_of_trials_gives_colours(ds: xr.Dataset, latents: xr.Dataset) -> None:
    texts = ["left"] * 15 + ["right"] * 25
    named = latents.assign_coords(side=("trial", texts), half=("trial", np.arange(40) >= 20))
    assert legend_of(plot.latents(named, color_by="side")) == ["left", "right"]
    assert legend_of(plot.traces(named, color_by="half")) == ["half", "False", "True"]
    assert legend_of(plot.psth(named)) == ["0", "1", "2", "3", "4"], "condition is the default"
    assert legend_of(plot.inputs(named, color_by="side")) == ["left", "right"]
    scale = plot.latents(named, dims=2, color_by="trial_start").figure.axes[-1]
    assert scale.get_ylabel() == "trial_start (s)"
    many = named.assign_coords(word=("trial", [f"w{i:02d}" for i in range(40)]))
    assert legend_of(plot.latents(many, color_by="word"))[-1] == "28 others"


def test_legends_name_missing_values_and_leave_room_for_the_picture(ds: xr.Dataset, latents: xr.Dataset) -> None:
    angle = np.where(np.arange(40) % 4 == 0, np.nan, np.arange(40) % 2)
    long = [
        f"reach quickly with the right hand to {45 * (i % 8):03d} degrees while the other hand rests" for i in range(40)
    ]
    named = latents.assign_coords(
        angle=("trial", angle),
        nothing=("trial", np.full(40, np.nan)),
        side=("trial", ["", "left"] * 20),
        **{"what the animal was told to do in it": ("trial", long)},
    )
    assert legend_of(plot.latents(named, color_by="angle")) == ["0.0", "1.0", "no value"]
    assert legend_of(plot.latents(named, color_by="nothing")) == ["no value"]
    assert legend_of(plot.psth(named, by="side")) == ["(empty)", "left"]
    with pytest.raises(DataError, match="no trial has a value of 'nothing'"):
        plot.psth(named, by="nothing")
    with pytest.raises(DataError, match="'trial_start' has 40 different numbers"):
        plot.inputs(named, color_by="trial_start")
    ax = plot.psth(named, by="what the animal was told to do in it")
    names = legend_of(ax)
    assert names[1] == "…045 degrees while the othe…"  # codespell:ignore othe
    assert len(set(names)) == 8
    assert max(map(len, [*names, ax.get_legend().get_title().get_text()])) <= 28


def test_averages_divide_by_what_was_observed() -> None:
    """A bin that was missing in a trial does not lower the average."""
    ds = plain((6, 30, 3))
    ds = ds.assign_coords(condition=("trial", ["a", "b"] * 3))
    ax = plot.psth(ds, channel=ds["channel_id"].values[2].item(), smooth=0)
    for line, rows in zip(ax.lines, ([0, 2, 4], [1, 3, 5]), strict=True):
        values, observed = ds["values"].values[rows, :, 2], ds["observed"].values[rows, :, 2]
        with np.errstate(invalid="ignore"):
            expected = values.sum(0) / observed.sum(0) / 0.01
        np.testing.assert_allclose(line.get_ydata(), expected)
    constant = ds.assign(values=ds["observed"].astype(np.float32))
    smooth = plot.psth(constant, channel=ds["channel_id"].values[2].item(), smooth=0.03).lines[0].get_ydata()
    np.testing.assert_allclose(smooth, 100.0)


def test_posterior_truth_and_spikes_are_in_the_traces(ds: xr.Dataset, latents: xr.Dataset) -> None:
    ax = plot.traces(ds, latents, channels=[7], trial=3)
    assert set(legend_of(ax)) == {"missing", "± posterior SD", "true rate", "inferred rate", "spikes (longer: more)"}
    rate = next(line for line in ax.lines if line.get_label() == "inferred rate")
    expected = latents["rates"].values[3, :, 0]
    heights = (rate.get_ydata() - rate.get_ydata().min()) / np.ptp(rate.get_ydata())
    np.testing.assert_allclose(heights, (expected - expected.min()) / np.ptp(expected), atol=1e-6)
    assert legend_of(plot.traces(latents, trial=3)) == ["± posterior SD", "inferred rate"]


def test_inputs_are_drawn_one_axis_each_in_the_report(latents: xr.Dataset) -> None:
    figure = figures.inputs(latents, color_by=None)
    assert [axis.get_ylabel() for axis in figure.axes] == ["input 1 (a.u.)", "input 2 (a.u.)"]
    assert drawn(figure) and not plt.get_fignums(), "reports are drawn without windows"


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_the_best_epoch_is_marked(epochs: int) -> None:
    record = history(epochs)
    ax = plot.training(record)
    best = min(record, key=lambda entry: entry["valid_loss"])["epoch"]
    assert f"best: epoch {best:g}" in legend_of(ax)
    assert drawn(ax.figure)


def test_members_and_several_fits_have_curves_of_their_own(ds: xr.Dataset) -> None:
    assert legend_of(plot.training(Fit(ds))) == ["member-0", "member-1"]
    assert legend_of(plot.training({"a": history(3), "b": Fit(ds)})) == ["a", "b member-0", "b member-1"]


def test_the_scatter_counts_who_is_better() -> None:
    by_channel = {"model": [0.5, 0.1, None, 0.3], "masked_smoothing": [0.2, 0.2, None, 0.1], "entries": [9, 3, 0, 9]}
    metrics = {"metric": "bits per spike", "scores": {"model": 0.3}, "by_channel": by_channel}
    ax = plot.scores(metrics, against="masked_smoothing")
    assert ax.get_title(loc="left") == "model better on 2 of 3 channels"
    assert len(ax.collections[0].get_offsets()) == 3


def test_scores_are_bars_from_best_to_worst(ds: xr.Dataset, latents: xr.Dataset) -> None:
    metrics = scored(ds, latents)
    ax = plot.scores(metrics)
    known = sorted(score for score in metrics["scores"].values() if score is not None)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], known)
    assert ax.get_xlabel() == "bits per spike on hidden entries"
    assert drawn(plot.scores(Fit(ds)).figure)


def test_runs_are_compared_with_their_best_baselines() -> None:
    table = pd.DataFrame(
        {
            "run": ["runs/a", "runs/b", "runs/c"],
            "session": ["s", "s", "s"],
            "metric": ["bits per spike"] * 3,
            "hidden.model": [0.3, 0.2, np.nan],
            "hidden.mean_rate": [0.0, -0.1, np.nan],
            "hidden.masked_smoothing": [0.1, 0.25, np.nan],
        }
    )
    ax = plot.compare(table)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["runs/a", "runs/b"], "what has no score is left out"
    places = {line.get_label(): line.get_xdata().tolist() for line in ax.lines}
    assert places == {"best baseline": [0.1, 0.25], "mean rate": [0.0, -0.1], "model": [0.3, 0.2]}


def test_latents_of_aligned_sessions_are_drawn_in_their_colours(latents: xr.Dataset) -> None:
    aligned = latents.assign(aligned_factors=latents["factors"])
    assert legend_of(plot.latents({"monday": aligned, "tuesday": aligned.isel(time=slice(30))})) == [
        "monday",
        "tuesday",
    ]


def test_decoded_behaviour_is_drawn_beside_what_was_measured(ds: xr.Dataset, latents: xr.Dataset) -> None:
    noise = np.random.default_rng(0).normal(size=ds["true_latents"].shape)
    factors = (("trial", "time", "factor"), ds["true_latents"].values + 0.3 * noise)
    decoded = decode(latents.assign(factors=factors), ds["true_latents"].rename("hand"))
    ax = plot.decoding(decoded, color_by="condition")
    assert [text.get_text().split("\n")[0] for text in ax.get_yticklabels()] == ["hand 0", "hand 1", "hand 2"]
    assert drawn(ax.figure)


def test_few_conditions_have_colours_and_names(latents: xr.Dataset) -> None:
    assert legend_of(plot.latents(latents)) == ["0", "1", "2", "3", "4"]


def test_names_with_dollar_signs_are_names() -> None:
    ds = plain((3, 20, 2)).assign_coords(
        channel_id=("channel", ["$a", "b$^{"]), condition=("trial", ["$x^{", "y", "$"])
    )
    latents = inferred(ds)
    for draw in DRAWINGS.values():
        assert drawn(draw(ds, latents).figure)


def test_principal_components_are_those_of_numpy() -> None:
    factors = np.random.default_rng(0).normal(size=(6, 10, 5)) @ np.diag([5, 1, 3, 0.1, 2])
    components, shares = principal_components(factors)
    flat = factors.reshape(-1, 5) - factors.reshape(-1, 5).mean(0)
    left, size, _ = np.linalg.svd(flat, full_matrices=False)
    np.testing.assert_allclose(np.abs(components.reshape(-1, 3)), np.abs((left * size)[:, :3]), atol=1e-9)
    np.testing.assert_allclose(shares, (size**2 / (size**2).sum())[:3])


def test_latents_of_other_data_are_refused(ds: xr.Dataset, latents: xr.Dataset) -> None:
    with pytest.raises(MismatchError, match="same trials"):
        plot.traces(ds, latents.isel(trial=slice(3)))
    with pytest.raises(MismatchError, match=r"do not have the same .* in the same order"):
        plot.traces(ds, latents.isel(channel=slice(None, None, -1)))
    with pytest.raises(MismatchError, match="neither 'rates' nor 'mean'"):
        plot.traces(ds, latents.drop_vars("rates"))


@pytest.fixture(scope="module")
def imaging() -> tuple[xr.Dataset, xr.Dataset]:
    ds = calcium(n_channels=4, conditions=2, trials_per_condition=4, imaging=replace(LADDER, n_bins=20))
    spikes = np.zeros(ds["values"].shape, dtype=np.float32)
    spikes[:, [3, 7], :] = [[0.04], [2.0]]
    latents = ds[["observed"]].assign(
        mean=ds["true_calcium"].astype(np.float32), rates=2 * ds["true_rates"], events=(DIMS, spikes)
    )
    return ds, latents.assign_attrs(ds.attrs)


def test_fluorescence_spikes_and_rates_have_scales_of_their_own(imaging: tuple[xr.Dataset, xr.Dataset]) -> None:
    ds, latents = imaging
    ax = plot.calcium(ds, latents)
    assert [" ".join(text.get_text().split()) for text in ax.get_yticklabels()] == [
        "rate (Hz)",
        "spikes",
        "fluorescence (a.u.)",
    ]
    stems = next(each for each in ax.collections if each.get_label() == "inferred spikes")
    assert [segment[0, 0] for segment in stems.get_segments()] == ds["time"].values[[7]].tolist(), (
        "the other is too small"
    )
    assert [" ".join(text.get_text().split()) for text in plot.calcium(ds).get_yticklabels()] == [
        "rate (Hz)",
        "spikes",
        "fluorescence (a.u.)",
    ]


def test_rates_and_spikes_behind_a_signal_are_drawn_in_their_own_sds(imaging: tuple[xr.Dataset, xr.Dataset]) -> None:
    """Sizes of events, or fluorescence, have another unit than rates."""
    ds, latents = imaging
    figure = figures.rates(ds, latents)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.images]
    assert titles == ["observed", "inferred mean", "inferred spikes", "inferred rate", "true rate"]
    one, other = (plot.rates(ds, latents, of=of).images[0].get_array() for of in ("rates", "true"))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "unit", "factor"), [(2e-5, "µV", 1e6), (0.05, "mV", 1e3), (3.0, "volts", 1.0)])
def test_voltages_are_shown_in_a_unit_that_suits_them(size, unit, factor) -> None:
    values = size * np.random.default_rng(3).uniform(-1, 1, (4, 30, 2)).astype(np.float32)
    values[0, :2, 0] = -size, size
    ds = make_dataset(
        values, np.ones(values.shape, dtype=bool), bin_width=0.01, kind="electrodes", attrs={"unit": "volts"}
    )
    latents = ds[["observed"]].assign(mean=ds["values"])
    ax = plot.traces(ds, latents, trial=0, channels=[0])
    (scale,) = (each for each in ax.child_axes)
    assert scale.get_ylabel() == f"mean ({unit})"
    assert scale.get_yticklabels()[1].get_text() == f"{factor * size:.3g}"
    ax = plot.psth(ds, channel=0, smooth=0)
    assert ax.get_ylabel() == f"mean ({unit})"
    assert ax.yaxis.get_major_formatter()(size, 0) == f"{factor * size:g}"


def test_channels_that_share_an_id_are_named_by_their_band_or_series():
    values = np.zeros((1, 2, 4))
    bands = ("channel", ["theta", "theta", "beta", "beta"])
    ids = [3, 4, 3, 4]
    of_bands = make_dataset(
        values, values == 0, bin_width=0.1, kind="electrodes", channel_id=ids, coords={"frequency_band": bands}
    )
    assert channel_title(of_bands, 2) == "electrode 3, beta"
    planes = ("channel", ["ophys/plane0", "ophys/plane0", "ophys/plane1", "ophys/plane1"])
    of_planes = make_dataset(values, values == 0, bin_width=0.1, kind="rois", channel_id=ids, coords={"series": planes})
    assert channel_title(of_planes, 1) == "ROI 4, plane0"
    assert channel_title(of_planes.isel(channel=[0, 1]), 1) == "ROI 4"


def test_averages_of_bands_that_share_an_electrode_are_those_of_each_band():
    rng = np.random.default_rng(0)
    bands = {"frequency_band": ("channel", ["theta", "beta"]), "condition": ("trial", ["a", "b"] * 4)}
    values = rng.normal(size=(8, 10, 2)).astype(np.float32) * [1, 100]
    ds = make_dataset(
        values, np.ones(values.shape, bool), bin_width=0.1, kind="electrodes", channel_id=[3, 3], coords=bands
    )
    latents = ds.drop_vars("values").assign(mean=(DIMS, values), mean_sd=(DIMS, np.ones_like(values)))
    axes = figures.psths(ds, latents, by="condition").axes
    drawn = {ax.get_title(loc="left"): ax.get_ylim()[1] for ax in axes if ax.get_visible()}
    assert set(drawn) == {"electrode 3, theta", "electrode 3, beta"}
    assert drawn["electrode 3, beta"] > 10 * drawn["electrode 3, theta"]


@ALL
def test_one_trial_alone_is_drawn_and_none_is_an_error(name: str) -> None:
    ds = simulated()
    latents = inferred(ds)
    one = DRAWINGS[name](ds.isel(trial=0), latents.isel(trial=0))
    assert drawn(one.figure) == drawn(DRAWINGS[name](ds.isel(trial=[0]), latents.isel(trial=[0])).figure)
    if name not in ("training", "scores", "channels", "compare"):
        with pytest.raises(DataError, match="has no trial"):
            DRAWINGS[name](ds.isel(trial=[]), latents.isel(trial=[]))


@pytest.mark.parametrize("name", ["rates", "traces", "psth"])
def test_data_and_latents_of_other_trials_bins_or_channels_are_no_pair(name: str) -> None:
    ds = simulated()
    latents = inferred(ds)
    draw = getattr(plot, name)
    first, last = slice(0, 10), slice(10, 20)
    for dim, label in (("trial", "trial_(id|start)"), ("time", "time"), ("channel", "channel_id")):
        part = {dim: first if ds.sizes[dim] >= 20 else [0]}
        other = {dim: last if ds.sizes[dim] >= 20 else [1]}
        with pytest.raises(MismatchError, match=f"data and latents do not have the same '{label}'"):
            draw(ds.isel(part), latents.isel(other))
    with pytest.raises(MismatchError, match=r"they have 10 and \d+ of 'trial'"):
        draw(ds.isel(trial=first), latents)


def test_one_id_is_one_channel_and_several_are_refused_where_one_is_drawn(ds: xr.Dataset, latents: xr.Dataset) -> None:
    first = int(ds["channel_id"].values[0])
    assert drawn(plot.traces(ds, latents, channels=first).figure) == drawn(
        plot.traces(ds, latents, channels=[first]).figure
    )
    for draw in (
        lambda: plot.psth(ds, latents, channel=[first, first]),
        lambda: plot.mask(ds, trial=[0, 1]),
    ):
        with pytest.raises(SelectionError, match="expected one id"):
            draw()


def test_dims_that_are_asked_for_are_drawn_or_refused(latents: xr.Dataset) -> None:
    figure = plt.figure()
    flat, deep = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    for ax, dims in ((flat, 2), (deep, 3)):
        assert plot.latents(latents, ax=ax) is ax and plot.latents(latents, ax=ax, dims=dims) is ax
        with pytest.raises(ConfigError, match=f"dims is {5 - dims}, but the axes have {dims}"):
            plot.latents(latents, ax=ax, dims=5 - dims)
    few = latents.isel(factor=slice(2))
    assert plot.latents(few).name == "rectilinear"
    with pytest.raises(DataError, match="dims is 3, but there are 2 dimensions"):
        plot.latents(few, dims=3)


def test_labels_of_lanes_stay_within_a_figure_without_a_layout() -> None:
    ds = plain((5, 30, 4), counts=False).assign_attrs(kind="rois", unit="a.u.")
    ax = plot.calcium(ds, inferred(ds, factors=3, sd=True), ax=plt.subplots()[1])
    ax.figure.draw_without_rendering()
    assert min(label.get_window_extent().x0 for label in ax.get_yticklabels()) >= 0


def test_psths_have_bands_of_the_standard_error_over_trials(ds: xr.Dataset, latents: xr.Dataset) -> None:
    channel = ds["channel_id"].values[1].item()
    whole = ds.assign(observed=ds["observed"] | True)
    ax = plot.psth(whole, latents, channel=channel, by="condition", smooth=0)
    bands = [band.get_paths()[0].vertices for band in ax.collections]
    assert len(bands) == 10, "observed and inferred, of five conditions"
    rows = np.flatnonzero(ds["condition"].values == 0)
    width = float(ds.attrs["bin_width"])
    for courses, vertices in zip((ds["values"].values / width, latents["rates"].values), bands, strict=False):
        of_channel = courses[rows][:, :, 1].astype(float)
        error = of_channel.std(0, ddof=1) / np.sqrt(len(rows))
        low, high = of_channel.mean(0) - error, of_channel.mean(0) + error
        assert vertices[:, 1].min() == pytest.approx(low.min(), abs=1e-3)
        assert vertices[:, 1].max() == pytest.approx(high.max(), rel=1e-4)
    assert drawn(plot.psth(ds.isel(trial=[0]), latents.isel(trial=[0]), by="condition").figure), (
        "one trial has no error"
    )


def test_a_forecast_is_drawn_with_its_sd_though_nothing_of_it_was_observed(latents: xr.Dataset) -> None:
    nothing = latents.drop_vars("inputs").assign(observed=xr.zeros_like(latents["observed"]))
    with pytest.raises(DataError, match="nothing is observed in any of these trials"):
        plot.rates(nothing)
    forecast = nothing.assign_coords(forecast=("time", np.ones(latents.sizes["time"], bool)))
    image = plot.rates(forecast)
    assert image.get_title(loc="left").startswith("forecast rate, ")
    assert image.images[0].get_array().shape == (latents.sizes["channel"], latents.sizes["time"])
    (legend,) = [each for each in plot.traces(forecast).get_children() if isinstance(each, Legend)]
    assert [text.get_text() for text in legend.get_texts()] == ["± SD", "forecast rate"]
    by_trial = plot.traces(forecast, color_by="condition")
    assert by_trial.get_title(loc="left") == f"forecast rates of {latents.sizes['trial']} trials"
