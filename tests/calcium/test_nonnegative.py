"""The weighted problem: equal to OASIS where nothing is missing, optimal where something is, fair to frames about gaps."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.linalg import solveh_banded
from scipy.signal import lfilter

from nwb_sbtt.calcium import nonnegative
from nwb_sbtt.calcium.nonnegative import Response, solve, solve_above, solve_across_gaps

DECAY, RISE = 12.0, 1.5


def trace(n=1500, *, rise=0.0, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    shape = Response.of_times(DECAY, rise)
    return lfilter([1.0], _poles(shape), rng.poisson(0.05, n)) + rng.normal(0, noise, n), shape


def _poles(shape):
    d, r = shape.decay_per_frame, shape.rise_per_frame
    return [1.0, -(d + r), d * r]


def _objective(values, light, events, penalty):
    return 0.5 * ((values - light) ** 2).sum() + penalty * events.sum()


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_without_a_rise_it_is_oasis(penalty):
    methods = pytest.importorskip("oasis.oasis_methods")
    values, shape = trace()
    light, sizes = methods.oasisAR1(values, shape.decay_per_frame, lam=penalty)
    ours = solve(values, np.ones(len(values)), shape, penalty=penalty)
    np.testing.assert_allclose(ours.light, light, atol=1e-7)
    np.testing.assert_allclose(ours.sizes[1:], sizes[1:], atol=1e-7)


def test_with_a_rise_it_is_near_oasis_and_never_worse():
    methods = pytest.importorskip("oasis.oasis_methods")
    values, shape = trace(rise=RISE)
    light, sizes = methods.oasisAR2(values, *(-np.array(_poles(shape)[1:])), lam=0.7)
    ours = solve(values, np.ones(len(values)), shape, penalty=0.7)
    assert np.corrcoef(ours.light, light)[0, 1] > 0.99
    assert (
        _objective(values, ours.light, ours.sizes, 0.7) <= _objective(values, light, np.maximum(sizes, 0), 0.7) + 1e-6
    )


@pytest.mark.parametrize("rise", [0.0, RISE])
def test_across_gaps_no_other_events_fit_better(rise):
    """Light is the response to the events, in missing frames too; the gradient is 0 at events, and nowhere negative."""
    values, shape = trace(rise=rise)
    kept = np.random.default_rng(1).random(len(values)) > 0.15
    kept[0], kept[1:3], kept[400:440] = True, False, False
    frames = np.flatnonzero(kept)
    elapsed = np.diff(frames, prepend=-1).astype(float)
    found = solve(values[kept], elapsed, shape, penalty=0.7)
    in_frames = np.zeros(len(values))
    stretches = [slice(first + 1, last + 1) for first, last in pairwise(frames)]
    for stretch, size in zip(stretches, found.sizes[1:], strict=True):
        in_frames[stretch] = size
    initial = found.sizes[0] * shape.decay_per_frame ** np.arange(len(values))
    light = lfilter([1.0], _poles(shape), in_frames) + initial
    np.testing.assert_allclose(found.light, light[frames], atol=1e-7)
    residual = np.zeros(len(values))
    residual[frames] = light[frames] - values[frames]
    slope = lfilter([1.0], _poles(shape), residual[::-1])[::-1]
    gradient = np.array([slope[stretch].sum() for stretch in stretches]) + 0.7 * shape.left(elapsed[1:])
    events = found.sizes[1:] > 0
    assert np.abs(gradient[events]).max() < 1e-4 and gradient[~events].min() > -1e-4
    assert 0.02 < events.mean() < 0.6


def test_a_start_from_another_solution_changes_nothing():
    values, shape = trace(rise=RISE)
    elapsed = np.ones(len(values))
    elapsed[::10] = 3
    start = solve(values - 0.2, elapsed, shape, penalty=0.1)
    found = solve(values, elapsed, shape, penalty=0.7, start=start)
    np.testing.assert_allclose(found.sizes, solve(values, elapsed, shape, penalty=0.7).sizes, atol=1e-7)


def test_clipped_samples_pull_light_up_but_never_down():
    shape = Response.of_times(DECAY, 0.0)
    values = np.concatenate([np.zeros(10), 5 * shape.after(np.arange(40.0))])
    stored = values + np.where(np.arange(50) == 14, -1.0, 0.0) + np.where(np.arange(50) == 30, 1.0, 0.0)
    clipped = stored != values
    found = solve(stored, np.ones(50), shape, penalty=1e-3, clipped=clipped)
    assert found.light[14] == pytest.approx(values[14], abs=0.05)
    assert found.light[30] > values[30] + 0.05
    assert solve(stored, np.ones(50), shape, penalty=1e-3).light[14] < values[14] - 0.1


@pytest.mark.parametrize("rise", [0.0, RISE])
def test_no_event_shows_less_than_the_least(rise):
    values, shape = trace(rise=rise)
    elapsed = np.ones(len(values))
    elapsed[::7] = 2
    found = solve_above(values, elapsed, shape, smallest=0.8)
    shown = (found.sizes * shape.summed(elapsed))[1:]
    assert shown[shown > 0].min() >= 0.8 and 0.01 < (shown > 0).mean() < 0.15


def test_a_least_size_takes_few_systems_of_equations(monkeypatch):
    solved = []
    monkeypatch.setattr(nonnegative, "solveh_banded", lambda *a, **k: solved.append(1) or solveh_banded(*a, **k))
    values, shape = trace(6000, rise=RISE)
    solve_above(values, np.ones(len(values)), shape, smallest=0.8)
    assert len(solved) < 100


@pytest.mark.parametrize("rise", [0.0, RISE])
def test_frames_after_gaps_have_the_events_that_they_have_where_nothing_is_missing(rise):
    values, shape = trace(60_000, rise=rise, seed=3)
    missing = np.random.default_rng(0).random(len(values)) < 0.1
    elapsed = np.diff(np.flatnonzero(~missing), prepend=-1).astype(float)
    penalty, sizes = 0.3 * shape.norm, np.full(len(values), np.nan)
    found = solve_across_gaps(values[~missing], elapsed, shape, penalty=penalty, longest=DECAY)
    sizes[~missing] = found.sizes
    whole = solve(values, np.ones(len(values)), shape, penalty=penalty).sizes
    frames = np.arange(len(values))
    after = frames - np.maximum.accumulate(np.where(missing, frames, 0))
    ratios = [sizes[after == n].sum() / whole[after == n].sum() for n in range(1, 6)]
    np.testing.assert_allclose(ratios, 1, atol=0.15)
    assert np.corrcoef(sizes[~missing], whole[~missing])[0, 1] > 0.95


def test_across_longer_gaps_the_weighted_problem_has_the_last_word():
    values, shape = trace()
    elapsed = np.ones(len(values))
    elapsed[::50] = 20
    settings = {"penalty": 0.7, "longest": DECAY}
    found = solve_across_gaps(values, elapsed, shape, **settings)
    np.testing.assert_array_equal(found.sizes, solve(values, elapsed, shape, penalty=0.7).sizes)
    elapsed[25::50] = 3
    found, again = (solve_across_gaps(values, elapsed, shape, **settings) for _ in range(2))
    np.testing.assert_array_equal(found.sizes, again.sizes)
    far = np.arange(35, 48)
    np.testing.assert_allclose(found.light[far], solve(values, elapsed, shape, penalty=0.7).light[far], atol=0.1)
