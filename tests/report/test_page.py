import base64
import io
import json
import re
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from nwb_sbtt.config import ReadConfig, override
from nwb_sbtt.errors import ConfigError, FileError, SelectionError
from nwb_sbtt.evaluate import summary
from nwb_sbtt.evaluate.baselines import Prediction, protocol
from nwb_sbtt.evaluate.baselines.smoothing import masked_smoothing, mean_rate
from nwb_sbtt.plot.style import DARK, LIGHT
from nwb_sbtt.registry import Registry
from nwb_sbtt.report import page as pages
from nwb_sbtt.report.listing import table_of_scores
from nwb_sbtt.report.page import _conditions, _outcome, write_report
from tests.support.estimates import history, inferred, plain, scored, simulated
from tests.support.shortcuts import with_figures

SMOOTHING = "nwb_sbtt.evaluate.baselines.smoothing"
VOID = {"meta", "img", "source", "link", "br", "hr", "input"}


class Structure(HTMLParser):
    """Headings, images and text of a page; fails where tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            assert name not in ("onload", "onerror", "onclick")
            assert name not in ("src", "href") or (value or "").startswith(("data:image/png;base64,", "#"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        self.text.append(data)


def written(folder: Path, ds: xr.Dataset, latents: xr.Dataset, *, epochs: int = 20, title: str = "demo") -> str:
    page = write_report(
        folder / "report.html",
        data=ds,
        latents=latents,
        history=history(epochs) if epochs else [],
        metrics=scored(ds, latents),
        title=title,
    )
    assert [each.name for each in folder.iterdir()] == ["report.html"]
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    ds = simulated()
    return written(tmp_path_factory.mktemp("report"), ds, inferred(ds, inputs=1))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages with all words of their figures, and blank pictures: drawing takes most of the time of a page."""
    section = pages._figure
    blank = partial(Figure, figsize=(1, 1))
    monkeypatch.setattr(pages, "_figure", lambda panel: section(replace(panel, draw=blank)))


def test_the_page_holds_every_part(page: str) -> None:
    structure = Structure(page)
    assert structure.headings == [
        "Beats the baselines",
        "Data",
        "Inferred rates",
        "Single channels",
        "Averages by condition",
        "Latents",
        "Inferred inputs",
        "Scores by channel",
        "Training",
        "Notes of the reader",
        "Settings",
    ]
    text = " ".join(structure.text)
    for fact in (
        "lorenz.nwb",
        "units",
        "12 units",
        "lfads, Poisson likelihood",
        "40 trials (32 train, 8 valid)",
        "50 bins of 0.02 s",
        "nwb_sbtt 0.1.0",
    ):
        assert fact in text
    assert re.search(r"\d\d\.\d% of all entries", text)
    assert "low-rank Wiener filter" in text and "bits per spike" in text and "true rates (R²)" in text


def test_the_contents_lead_to_every_section_and_the_foot_names_the_files(page: str) -> None:
    links = re.findall(r'<li><a href="#([^"]+)">([^<]+)</a></li>', page)
    assert [text for _, text in links] == Structure(page).headings
    assert all(page.count(f'id="{anchor}"') == 1 for anchor, _ in links)
    foot = page[page.index("<footer>") :]
    assert f"SHA-256 of the recording: {'0' * 64}" in foot and "0" * 64 not in page[: page.index("<footer>")]


@pytest.mark.parametrize(
    ("model", "baselines", "heading"),
    [
        (0.3, (0.1, 0.2), "Beats the baselines"),
        (0.15, (0.1, 0.2), "Does not beat the baselines: Wiener is as good or better"),
        (0.05, (0.1, 0.2), "Does not beat the baselines"),
        (None, (0.1, 0.2), "The scores are not defined"),
    ],
)
def test_the_first_heading_says_the_outcome(model: float | None, baselines: tuple[float, float], heading: str) -> None:
    scores = {"model": model, "mean_rate": baselines[0], "low_rank_wiener": baselines[1]}
    assert _outcome({"scores": scores, "names": {"low_rank_wiener": "Wiener", "mean_rate": "mean"}}) == heading


@pytest.mark.slow
def test_trials_are_coloured_and_averaged_by_the_column_that_is_named(tmp_path: Path) -> None:
    ds = simulated()
    sides = ds.assign_coords(side=("trial", ["left", "right"] * 20)).drop_vars("condition")
    latents = inferred(sides)
    write = partial(write_report, tmp_path / "r.html", data=sides, latents=latents, history=[], metrics={}, title="x")
    levels = {"data": sides.assign_coords(level=("trial", np.linspace(0, 1, 40)))}
    levels["latents"] = latents.assign_coords(level=levels["data"]["level"])
    with with_figures("Latents", "Averages by side", "Averages by level"):
        by_side, unnamed, by_level = (
            write(**words).read_text(encoding="utf-8")
            for words in ({"color_by": "side"}, {}, {**levels, "color_by": "level"})
        )
        with pytest.raises(SelectionError, match="no column 'word'; they have"):
            write(color_by="word")
    assert "Averages by side" in Structure(by_side).headings and "coloured by side" in by_side
    assert "Averages by side" in Structure(unnamed).headings and "coloured by side" not in unnamed
    assert "no averages over trials by level: it has too many different values" in by_level
    assert "Averages by level" not in Structure(by_level).headings


def test_psths_average_by_every_column_of_few_values() -> None:
    ds = simulated().assign_coords(
        side=("trial", ["left", "right"] * 20),
        level=("trial", np.linspace(0, 1, 40)),
        same=("trial", np.zeros(40)),
        code=("trial", [1, 0] * 20),
        rare=("trial", [f"word {i}" for i in range(40)]),
    )
    assert _conditions(ds, "condition") == ["condition", "side"]
    assert _conditions(ds, "side") == ["side", "condition"]
    assert _conditions(ds.drop_vars("condition"), None) == ["side"], "codes of the sides are the same conditions"


@pytest.mark.slow
def test_behaviour_in_the_data_is_decoded(tmp_path: Path) -> None:
    ds = simulated()
    hand = ("trial", "time", "axis"), ds["true_latents"].values[:, :, :2]
    moving = ds.assign(hand=hand, still=(("trial", "time"), np.zeros((40, 50))))
    with with_figures("Decoding of hand", "Decoding of still"):
        page = write_report(tmp_path / "r.html", data=moving, latents=inferred(ds), history=[], metrics={}, title="x")
    headings = Structure(page.read_text(encoding="utf-8")).headings
    assert [heading for heading in headings if heading.startswith("Decoding")] == ["Decoding of hand"]


@pytest.mark.usefixtures("undrawn")
def test_an_interactive_page_brings_all_it_needs_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = simulated()
    write = partial(write_report, tmp_path / "r.html", data=ds, latents=inferred(ds), history=[], metrics={}, title="x")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "plotly.graph_objects", None)
        with pytest.raises(ConfigError, match=r'pip install "nwb_sbtt\[interactive\]"'):
            write(interactive=True)
    pytest.importorskip("plotly", reason="plotly is missing; install the extra interactive")
    text = write(interactive=True).read_text(encoding="utf-8")
    assert text.count('class="plotly-graph-div"') == 2 and not re.search(r"<script[^>]* src=|<link", text)
    assert "Latents (interactive)" in text and "Traces (interactive)" in text
    # Each figure follows the scheme of the screen, with the colours of the page.
    assert (
        len(re.findall(r"const dark = window.matchMedia\('\(prefers-color-scheme: dark\)'\);\s+const paint", text)) == 2
    )
    assert text.count(f'"paper_bgcolor": "{DARK.paper}"') == 2


def test_the_page_needs_nothing_else(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)


def test_every_image_is_a_picture_with_words(page: str) -> None:
    images = Structure(page).images
    assert len(images) == 8
    for image in images:
        source = image["src"] or ""
        assert base64.b64decode(source.partition(",")[2], validate=True).startswith(b"\x89PNG")
        assert len(image["alt"] or "") > 30
        assert int(image["width"] or 0) <= 960


def test_every_image_stands_on_the_background_of_the_page_in_both_schemes(page: str) -> None:
    light, dark = (re.search(r"--page: (#\w+)", part) for part in page.split("prefers-color-scheme: dark", 1))
    assert light and dark and to_rgb(light[1]) == to_rgb(LIGHT.paper) and dark[1] == DARK.paper
    images = Structure(page).images
    variants = re.findall(r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\n<img src="([^"]+)"', page)
    assert [src for _, src in variants] == [image["src"] for image in images]
    for addresses in variants:
        pictures = [imread(io.BytesIO(base64.b64decode(each.partition(",")[2]))) for each in addresses]
        for picture, theme in zip(pictures, (DARK, LIGHT), strict=True):
            assert np.allclose(picture[0, 0, :3], to_rgb(theme.paper), atol=0.01)
        assert pictures[0].shape == pictures[1].shape


@pytest.mark.usefixtures("undrawn")
def test_the_numbers_are_those_of_the_metrics(tmp_path: Path) -> None:
    ds = simulated()
    latents = inferred(ds)
    text = " ".join(Structure(written(tmp_path, ds, latents)).text)
    metrics = scored(ds, latents)
    for value in (*metrics["scores"].values(), *metrics["truth"]["rates_r2"].values()):
        assert f"{value:.3f}" in text
    for check in metrics["checks"]:
        assert check["text"] in text


@pytest.mark.usefixtures("undrawn")
def test_text_from_files_is_text(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script> & \"quoted\""
    ds = simulated().assign_attrs(session_id=evil, notes='["<b>bold</b> & more"]', source='{"name": "<i>a</i>.nwb"}')
    text = written(tmp_path, ds, inferred(ds), title=evil)
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
    assert evil in " ".join(Structure(text).text)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(("shape", "factors"), [((1, 60, 1), 1), ((4, 25, 2), 2), ((3, 30, 1000), 3)])
@pytest.mark.slow
def test_plain_data_of_any_shape_get_a_page(
    tmp_path: Path, counts: bool, shape: tuple[int, int, int], factors: int
) -> None:
    ds = plain(shape, counts=counts)
    structure = Structure(written(tmp_path, ds, inferred(ds, factors=factors, sd=False), epochs=0))
    assert "Inferred inputs" not in structure.headings and "Training" not in structure.headings
    assert "not read from a file" in " ".join(structure.text)
    assert "nan" not in " ".join(structure.text).lower().split()


@pytest.mark.usefixtures("undrawn")
def test_a_page_without_scores_is_a_page(tmp_path: Path) -> None:
    ds = simulated()
    page = write_report(
        tmp_path / "r.html", data=ds, latents=inferred(ds), history=history(3), metrics={}, title="no scores"
    )
    assert Structure(page.read_text(encoding="utf-8")).headings[0] == "Data"


@pytest.mark.usefixtures("undrawn")
def test_a_page_is_replaced_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    ds = plain((3, 10, 2))
    latents = inferred(ds)
    assert written(tmp_path, ds, latents, title="one") != written(tmp_path, ds, latents, title="two")
    with pytest.raises(FileError, match="none"):
        write_report(tmp_path / "none" / "r.html", data=ds, latents=latents, history=[], metrics={}, title="x")


@pytest.mark.usefixtures("undrawn")
def test_trials_that_take_no_part_are_counted_apart(tmp_path: Path) -> None:
    ds = simulated()
    parts = ["train"] * 24 + ["valid"] * 8 + ["gap"] * 3 + ["test"] * 4 + ["none"]
    ds = ds.assign_coords(split=("trial", parts))
    text = " ".join(Structure(written(tmp_path, ds, inferred(ds))).text)
    words = "24 train, 8 valid; in neither: 3 sharing bins with validation, 1 left out, 4 test"
    assert f"40 trials ({words})" in text


def test_the_page_says_how_each_baseline_was_set_and_what_zero_means(page: str) -> None:
    text = " ".join(Structure(page).text)
    for words in (
        "gain over the mean rate",
        "linear dynamical system: ",
        "factor analysis: ",
        "0 = always predicting each channel's true mean",
    ):
        assert words in text


@pytest.mark.usefixtures("undrawn")
def test_a_registered_baseline_has_its_row_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baselines: Registry[Any] = Registry("baseline", "no entry points", {"mean_rate": f"{SMOOTHING}:mean_rate"})
    baselines.register("masked_smoothing", masked_smoothing)
    baselines.register("twice_the_mean", lambda data: Prediction(2 * mean_rate(data).expected, "twice as much"))
    for module in (protocol, summary):
        monkeypatch.setattr(module, "BASELINES", baselines)
    ds = simulated()
    latents = inferred(ds)
    text = " ".join(Structure(written(tmp_path, ds, latents)).text)
    assert "twice the mean: twice as much" in text
    assert f"{scored(ds, latents)['scores']['twice_the_mean']:.3f}" in text
    assert "twice the mean" in table_of_scores(scored(ds, latents))


@pytest.mark.usefixtures("undrawn")
def test_the_page_names_how_data_were_read_and_what_was_never_shown(tmp_path: Path) -> None:
    read = override(ReadConfig(), ["bin_width=0.02", "bandwidth.k=5", "where={quality: [good]}"])
    ds = simulated().assign_attrs(read_config=json.dumps(read.model_dump(mode="json")))
    n_channels, n_bins = ds.sizes["channel"], ds.sizes["time"]
    ds = ds.assign_coords(
        held_out=("channel", np.arange(n_channels) < 2), forecast=("time", np.arange(n_bins) >= n_bins - 3)
    )
    text = " ".join(Structure(written(tmp_path, ds, inferred(ds))).text)
    assert "2 channels, 3 bins of each trial" in text
    for setting in ("read.bin_width=0.02", "read.bandwidth.k=5", 'read.where.quality=["good"]'):
        assert setting in text
    assert "read.invalid_times" not in text
