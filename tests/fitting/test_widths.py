"""Widths of the intervals of forecasts, measured on forecasts whose errors are known."""

import numpy as np
import pytest
from scipy.stats import t

from nwb_sbtt.evaluate.intervals import TAILS
from nwb_sbtt.fitting.widths import Widths, measure_widths

SHAPE = (200, 20, 3)


@pytest.mark.parametrize("counts", [True, False])
def test_intervals_hold_what_they_should(counts):
    random = np.random.default_rng(0)
    mean = random.uniform(0.5, 2, SHAPE)
    unit = mean if counts else np.broadcast_to(mean.std((0, 1)), SHAPE)
    sure = random.random(SHAPE) < 0.3
    told = np.where(sure, 1e-4, 0.04) * unit**2
    error = random.normal(size=SHAPE) * np.sqrt(4 * (told + 0.02 * unit**2))
    widths = measure_widths(error**2, mean, told, counts=counts)
    degrees, factor = TAILS["rates" if counts else "mean"]
    half = factor * t.ppf(0.95, degrees) * np.sqrt(widths.variance(mean, told, counts=counts))
    held = np.abs(error) < half
    assert held.mean() == pytest.approx(0.9, abs=0.01)
    # Those whose courses hardly differ are held as often.
    assert held[sure].mean() == pytest.approx(0.9, abs=0.04)
    assert widths.floor > 0


def test_no_floor_is_added_where_courses_differ_by_as_much_as_they_miss():
    random = np.random.default_rng(1)
    mean = np.ones(SHAPE)
    told = random.uniform(0.001, 0.1, SHAPE)
    widths = measure_widths(random.normal(size=SHAPE) ** 2 * told, mean, told, counts=True)
    assert widths.floor < 0.01 * told.mean() * 1.01


def test_forecasts_that_do_not_vary_are_left_as_they_are():
    flat = np.full(SHAPE, 3.0)
    assert measure_widths(np.zeros(SHAPE), flat, np.zeros(SHAPE), counts=False) == Widths()
    assert (Widths().variance(flat, np.zeros(SHAPE), counts=False) == 0).all()
