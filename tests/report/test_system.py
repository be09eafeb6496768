"""The section of a report about a learned system: what it advises, and what it says of fixed points and long runs."""

import html
import re

import numpy as np
import pytest
import xarray as xr

from nwb_sbtt.report.page import write_report
from nwb_sbtt.report.system import LearnedSystem, _directions, sections_of_system
from tests.report.test_page import Structure
from tests.support import learned
from tests.support.estimates import history, inferred, simulated


def system(**changes):
    parts = {
        "summary": "2 dimensions, has a share of 60 %",
        "points": learned.points(),
        "exponents": learned.exponents(),
        "flow": None,
        "errors": learned.errors(),
        "duration": 1.0,
    }
    return LearnedSystem(**{**parts, **changes})


def checks(of):
    """Level and words of each advice."""
    first = next(sections_of_system(of))
    found = re.findall(r'<li class="(\w+)"><strong>(.*?)\.</strong> (.*?)</li>', first)
    return {name: (level, html.unescape(words)) for level, name, words in found}


def text(of):
    return html.unescape(re.sub("<[^>]+>", " ", list(sections_of_system(of))[-1]))


@pytest.mark.slow
def test_the_page_has_sections_of_the_system(tmp_path):
    ds = simulated()
    page = write_report(
        tmp_path / "report.html",
        data=ds,
        latents=inferred(ds),
        history=history(3),
        metrics={},
        title="a",
        system=system(flow=learned.flow(), errors=learned.errors(truths=("inferred", "true"))),
    )
    structure = Structure(page.read_text(encoding="utf-8"))
    at = structure.headings.index("Learned system")
    expected = ["Learned system", "Forecasts", "Flow and fixed points", "Fixed points in numbers"]
    assert structure.headings[at : at + 4] == expected
    words = " ".join(structure.text)
    assert "2 dimensions, has a share of 60 %" in words
    assert "8 validation trials were given up to bin 10" in words and "Right: against the true rates" in words
    alts = [image["alt"] for image in structure.images]
    assert "Flow of the learned system in a plane, with 2 fixed points." in alts


def test_a_system_that_is_ahead_is_told_how_far_its_forecasts_reach():
    (level, words) = checks(system())["Forecasts"]
    assert level == "ok"
    assert (
        "persistence (+0.50 ± 0.05), the average of the trials (+0.20 ± 0.05) and a linear system (+0.30 ± 0.05)"
        in words
    )
    assert "explain more than half of the variance up to 60 ms ahead" in words
    assert "more than a tenth up to 180 ms ahead" in words and "persistence is better" not in words


@pytest.mark.parametrize(
    ("excess", "behind"),
    [
        ((0.0, 0.09, 0.2, 0.3), "persistence (+0.09 ± 0.05)"),
        ((0.0, 0.5, -0.1, 0.3), "the average of the trials (-0.10"),
    ],
)
def test_a_system_that_is_not_ahead_is_not_to_be_interpreted(excess, behind):
    found = checks(system(errors=learned.errors(excess)))
    level, words = found["Do not interpret this system"]
    assert level == "bad" and behind in words and "Forecasts" not in found


def test_a_system_that_is_no_better_than_a_linear_one_is_not_read_as_more():
    found = checks(system(errors=learned.errors((0.0, 0.5, 0.2, 0.05))))
    assert found["Forecasts"][0] == "ok"
    level, words = found["Not better than a linear system"]
    assert level == "warn" and "one fixed point and no chaos" in words


def test_persistence_that_is_better_at_first_is_named():
    errors = learned.errors()
    errors["error"].loc[{"predictor": "forecast", "horizon": 1}] = 0.6
    words = checks(system(errors=errors))["Forecasts"][1]
    assert "One bin ahead, persistence is better." in words and "never explain more than half" in words


def test_without_scored_forecasts_nothing_is_to_be_interpreted():
    level, words = checks(system(errors=None))["Forecasts"]
    assert level == "bad" and "too few validation trials" in words


@pytest.mark.parametrize(
    ("exponents", "name", "level", "words"),
    [
        (learned.exponents(2.0), "Long runs", "ok", "grow to twice their size in 347 ms on average (chaos)"),
        (learned.exponents(0.05), "Long runs", "ok", "neither grow nor shrink noticeably within a trial"),
        (learned.exponents(-3.0), "Long runs", "ok", "runs end at a fixed point"),
        (
            learned.exponents(2.0, left=1),
            "Long runs",
            "warn",
            "1 of 4 runs reached the edge at ± 6 sd and are left out",
        ),
        (learned.exponents(2.0, far=2), "Long runs", "warn", "50% of the runs end far from all inferred states"),
        (learned.exponents(left=4), "Long runs leave the data", "warn", "Its Lyapunov exponent is unknown"),
    ],
)
def test_long_runs_are_put_into_words(exponents, name, level, words):
    found = checks(system(exponents=exponents))[name]
    assert found[0] == level and words in found[1]


def test_long_times_are_in_seconds():
    points = xr.Dataset({"growth_rate": ("mode", [-np.log(2) / 22.8, 0.0]), "frequency": ("mode", [0.0, 0.0])})
    assert _directions(points) == ["halve in 22.8 s", "stay"]


def test_fixed_points_are_a_table_with_what_their_kinds_mean():
    words = text(system())
    assert "Saddle: states approach it in some directions and leave it in others" not in words
    assert "Stable: states near it approach it from all sides; saddle: states approach it" in words
    assert words.count("double in 200 ms, turning at 4 Hz; halve in 50 ms") == 2
    assert "0.05" in words and "0.50 (far)" in words and "45% of the starts" in words
    assert "10% of the starts led to no fixed point" in words
    many = text(system(points=learned.points(("stable",) * 15, (0.1,) * 15)))
    assert "3 more, which fewer starts led to, are left out" in many


def test_fixed_points_that_were_not_found_are_not_said_not_to_exist():
    words = text(system(points=learned.points((), (), unresolved=0.9, at_edge=0.1)))
    assert (
        "No fixed point was found: of 40 starts, 90% led to no state at rest and 10% led to the edge at ± 6 sd. There may "
        "be one that none of them led to." in words
    )
    assert "of 40 starts, 100% led to no state at rest. There" in text(
        system(points=learned.points((), (), unresolved=1.0))
    )
    assert "has no fixed point" not in words


def test_values_at_which_inputs_are_held_are_named():
    first = next(sections_of_system(system(points=learned.points(inputs=["turn"], inputs_held_at=[0.25]))))
    assert "Known inputs are held at turn = 0.25." in first
