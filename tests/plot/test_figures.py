import io
from collections.abc import Callable
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from nwb_sbtt import plot
from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import MismatchError
from nwb_sbtt.plot.latents import principal_components
from nwb_sbtt.plot.style import UNOBSERVED
from nwb_sbtt.simulate.calcium import LADDER, calcium
from tests.support.estimates import history, inferred, plain, scored, simulated

Draw = Callable[[xr.Dataset, xr.Dataset], Figure]
DRAWINGS: dict[str, Draw] = {
    "raster": lambda ds, latents: plot.data_raster(ds),
    "heat maps": lambda ds, latents: plot.rates_beside_data(ds, latents),
    "traces": lambda ds, latents: plot.channel_traces(ds, latents),
    "space": lambda ds, latents: plot.latent_space(latents, truth=ds),
}
ALL = pytest.mark.parametrize("name", DRAWINGS)


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


@ALL
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(
    ("shape", "factors"), [((1, 1, 1), 1), ((1, 40, 1), 1), ((2, 1, 3), 2), ((5, 30, 4), 2), ((3, 700, 400), 5)]
)
def test_every_shape_can_be_drawn(name: str, counts: bool, shape: tuple[int, int, int], factors: int) -> None:
    ds = plain(shape, counts=counts)
    assert drawn(DRAWINGS[name](ds, inferred(ds, factors=factors, sd=counts))).startswith(b"\x89PNG")


@ALL
def test_drawing_leaves_the_data_and_the_style_of_others_alone(name: str) -> None:
    ds = simulated()
    latents = inferred(ds)
    before, same = ds.copy(deep=True), latents.copy(deep=True)
    settings = dict(matplotlib.rcParams)
    drawn(DRAWINGS[name](ds, latents))
    assert dict(matplotlib.rcParams) == settings
    xr.testing.assert_identical(ds, before)
    xr.testing.assert_identical(latents, same)


def test_missing_entries_have_a_colour_of_their_own() -> None:
    ds = simulated()
    image = plot.data_raster(ds, trials=1).axes[0].images[0]
    values = image.get_array()
    trial = np.flatnonzero(ds["split"].values == "valid")[0]
    np.testing.assert_array_equal(np.ma.getmaskarray(values).T, ~ds["observed"].values[trial])
    colours = image.cmap(image.norm(np.ma.MaskedArray([0.0, 1.0, 2.0, 0.0], [False, False, False, True])))
    assert len({tuple(colour) for colour in colours}) == 4
    assert tuple(colours[3]) == matplotlib.colors.to_rgba(UNOBSERVED)


def test_observed_and_inferred_share_one_scale_and_one_order() -> None:
    ds = simulated()
    latents = inferred(ds)
    panels = plot.rates_beside_data(ds, latents, trial=3).axes[:3]
    assert [axis.get_title() for axis in panels] == ["observed", "inferred rate", "true rate"]
    assert len({id(axis.images[0].norm) for axis in panels}) == 1
    observed, rates, truth = (axis.images[0].get_array() for axis in panels)
    np.testing.assert_array_equal(rates, truth)
    peaks = rates.argmax(1)
    assert (np.diff(peaks) >= 0).all()
    order = np.argsort(ds["true_rates"].values[3].argmax(0), kind="stable")
    np.testing.assert_allclose(observed.filled(0).T, ds["values"].values[3][:, order] / 0.02)


def test_many_channels_are_thinned_out_and_it_says_so() -> None:
    ds = plain((2, 20, 1000))
    axis = plot.data_raster(ds).axes[0]
    assert axis.get_ylabel() == "unit (120 of 1000)"
    assert axis.images[0].get_array().shape == (120, 20)


def test_long_trials_are_cut_and_it_says_so() -> None:
    ds = plain((1, 5000, 2))
    axis = plot.rates_beside_data(ds, inferred(ds)).axes[0]
    assert "first 600 of 5000 bins" in axis.get_xlabel()


def test_inputs_are_drawn_one_axis_each() -> None:
    ds = simulated()
    figure = plot.inferred_inputs(inferred(ds, inputs=2))
    assert [axis.get_ylabel() for axis in figure.axes] == ["input 1", "input 2"]
    assert drawn(figure)


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_the_best_epoch_is_marked(epochs: int) -> None:
    record = history(epochs)
    figure = plot.loss_curves(record)
    best = min(record, key=lambda entry: entry["valid_loss"])["epoch"]
    assert f"best: epoch {best:g}" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert drawn(figure)


def test_the_scatter_counts_who_is_better() -> None:
    metrics = {
        "metric": "bits per spike",
        "by_channel": {
            "model": [0.5, 0.1, None, 0.3],
            "masked_smoothing": [0.2, 0.2, None, 0.1],
            "entries": [9, 3, 0, 9],
        },
    }
    axis = plot.channel_scores(metrics).axes[0]
    assert axis.get_title(loc="left") == "model better on 2 of 3 channels"
    assert len(axis.collections[0].get_offsets()) == 3


def test_real_metrics_can_be_drawn() -> None:
    ds = simulated()
    assert drawn(plot.channel_scores(scored(ds, inferred(ds))))


def test_few_conditions_have_colours_and_names() -> None:
    ds = simulated()
    figure = plot.latent_space(inferred(ds))
    names = [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert names == ["0", "1", "2", "3", "4"]


def test_names_with_dollar_signs_are_names() -> None:
    ds = plain((3, 20, 2)).assign_coords(
        channel_id=("channel", ["$a", "b$^{"]), condition=("trial", ["$x^{", "y", "$"])
    )
    latents = inferred(ds)
    for draw in DRAWINGS.values():
        assert drawn(draw(ds, latents))


def test_principal_components_are_those_of_numpy() -> None:
    factors = np.random.default_rng(0).normal(size=(6, 10, 5)) @ np.diag([5, 1, 3, 0.1, 2])
    components, shares = principal_components(factors)
    flat = factors.reshape(-1, 5) - factors.reshape(-1, 5).mean(0)
    left, size, _ = np.linalg.svd(flat, full_matrices=False)
    np.testing.assert_allclose(np.abs(components.reshape(-1, 3)), np.abs((left * size)[:, :3]), atol=1e-9)
    np.testing.assert_allclose(shares, (size**2 / (size**2).sum())[:3])


def test_latents_of_other_data_are_refused() -> None:
    ds = simulated()
    with pytest.raises(MismatchError, match="same trials"):
        plot.channel_traces(ds, inferred(ds).isel(trial=slice(3)))
    with pytest.raises(MismatchError, match="same order"):
        plot.channel_traces(ds, inferred(ds).isel(channel=slice(None, None, -1)))
    with pytest.raises(MismatchError, match="neither 'rates' nor 'mean'"):
        plot.channel_traces(ds, inferred(ds).drop_vars("rates"))


def test_rates_behind_a_signal_have_an_axis_of_their_own() -> None:
    """Sizes of events, or fluorescence, have another unit than rates."""
    ds = calcium(n_channels=4, conditions=2, trials_per_condition=4, imaging=replace(LADDER, n_bins=20))
    mean = ds["true_calcium"].astype(np.float32)
    events = ds[["observed"]].assign(mean=mean)
    ladder = events.assign(rates=2 * ds["true_rates"])
    for latents, labels in (
        (events, {"true rate (Hz, right)"}),
        (ladder, {"true rate (Hz, right)", "inferred rate (Hz, right)"}),
    ):
        axes = plot.channel_traces(ds, latents).axes
        left, right = axes[: len(axes) // 2], axes[len(axes) // 2 :]
        assert {line.get_label() for axis in right for line in axis.lines} == labels
        assert not any("rate" in str(line.get_label()) for axis in left for line in axis.lines)
    panels = plot.rates_beside_data(ds, ladder).axes
    images = {axis.get_title(): axis.images[0].get_array() for axis in panels if axis.images}
    assert list(images) == ["observed", "inferred mean", "inferred rate", "true rate"]
    np.testing.assert_allclose(images["inferred rate"], images["true rate"], rtol=1e-4, atol=1e-4)


def test_spikes_between_fluorescence_and_rates_are_drawn_at_the_foot_of_their_channel() -> None:
    ds = calcium(n_channels=4, conditions=2, trials_per_condition=4, imaging=replace(LADDER, n_bins=20))
    spikes = np.zeros(ds["values"].shape, dtype=np.float32)
    spikes[:, [3, 7], :] = [[0.4], [2.0]]
    latents = ds[["observed"]].assign(
        mean=ds["true_calcium"].astype(np.float32), rates=ds["true_rates"], events=(DIMS, spikes)
    )
    axes = plot.channel_traces(ds, latents).axes
    for axis in axes[: len(axes) // 2]:
        ticks = axis.collections[-2]
        assert [segment[0, 0] for segment in ticks.get_segments()] == ds["time"].values[[3, 7]].tolist()
        np.testing.assert_allclose(ticks.get_colors()[:, 3], [0.4, 1.0])
    titles = [axis.get_title() for axis in plot.rates_beside_data(ds, latents).axes]
    assert titles[:4] == ["observed", "inferred mean", "inferred spikes", "inferred rate"]
