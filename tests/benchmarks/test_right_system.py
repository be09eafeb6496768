"""The systems whose truth is known, the scores of what was inferred of them, and the small version of their benchmark."""

import numpy as np
import pytest
import torch

from tests.support.processes import rows_of


@pytest.fixture
def systems(script):
    return script("systems")


@pytest.fixture
def right(script):
    return script("right_system")


@pytest.mark.slow
def test_fits_and_their_systems_are_scored(tmp_path):
    rows = rows_of(tmp_path, "right_system.py", "--small")
    assert [row["model"] for row in rows] == ["conv", "dynamics", "gpfa"] and rows[0]["system"] == "chaotic"
    _, learned, smooth = rows
    for row in rows:
        assert all(row[name] < 1.001 for name in ("rates", "states", "cycle")) and row["few"] < row["many"]
    assert smooth["log-rates"] == smooth["states"] and learned["log-rates"] != learned["states"]
    assert np.isfinite(learned["exponent"]) and learned["points"] and "exponent" not in smooth


@pytest.mark.parametrize("name", ["lorenz", "flip-flop", "phase memory", "delayed match", "chaotic"])
def test_the_map_leads_from_each_bin_to_the_next(systems, name):
    system = systems.SYSTEMS[name](0, trials=5, steps=0.003)
    states = torch.from_numpy(system.states)
    inputs = torch.from_numpy(np.stack([*system.inputs.values()], -1)) if system.inputs else states.new_zeros(5, 100, 0)
    after = system.step(states[:, :-1], inputs[:, 1 : states.shape[1]])
    np.testing.assert_allclose(after, states[:, 1:], atol=1e-4)
    assert system.counts.shape == system.rates.shape == (*system.states.shape[:2], 50)
    assert system.counts.mean() == pytest.approx(system.rates.mean() * system.bin_width, rel=0.1)


@pytest.mark.slow
def test_the_lorenz_system_has_its_fixed_points_and_exponent(systems, right):
    system = systems.lorenz(0, trials=20)
    truth = right.Truth.of(system, length=400, starts=32)
    points = truth.points.states[np.argsort(truth.points.states[:, 0])]
    assert len(points) == 3 and not truth.points.stable.any()
    middle = (points[0] + points[2]) / 2
    np.testing.assert_allclose(middle[:2], points[1, :2], atol=1e-6)  # the wings lie on both sides of the origin
    assert truth.exponent == pytest.approx(0.906 * 0.05, rel=0.2)


def test_needless_latents_cost_scores_of_latents_and_bits_where_trials_are_few(right):
    generator = np.random.default_rng(0)
    states, invented = generator.normal(size=(2, 60, 50, 3))
    train = np.arange(60) < 40
    rates = 20 * np.exp(states @ generator.normal(size=(3, 12)) / 2)
    both = np.concatenate([states, invented], axis=2)
    assert right.state_r2(states, states @ generator.normal(size=(3, 5)), train) == pytest.approx(1)
    assert right.state_r2(states, both, train) == pytest.approx(0.5, abs=0.05)
    assert right.cycle_r2(states, rates, train) == pytest.approx(1)
    assert right.cycle_r2(both, rates, train) == pytest.approx(0.5, abs=0.05)
    counts = generator.poisson(rates[..., :4] * 0.01)
    many = np.flatnonzero(train)
    bits = {n: [right.held_out_bits(z, counts, many[:n], ~train) for z in (states, both)] for n in (3, 40)}
    assert bits[3][0] - bits[3][1] > 0.05 > 0.02 > abs(bits[40][0] - bits[40][1])


@pytest.mark.slow
def test_dsa_finds_the_same_dynamics_in_other_coordinates(right, systems):
    pytest.importorskip("DSA", reason="dsa-metric is not installed")
    states, other = systems.chaotic(0, trials=40).states, systems.lorenz(0, trials=40).states
    mixed = states @ np.random.default_rng(0).normal(size=(50, 12))
    assert 2 * right.dsa_distance(states, mixed) < right.dsa_distance(states, other)


def test_fixed_points_that_are_missed_or_invented_are_told_apart(right):
    where = {"to_learned": lambda states: 2 * states, "metric": np.eye(2), "scale": 2.0}
    true = right.Points(np.array([[0.0, 0], [1, 0], [5, 5]]), np.array([0.9, 0.8, 1.5]))
    same = right.compare_points(true, right.Points(2 * true.states, true.leading), **where)
    assert (same["missed"], same["invented"], same["eigenvalue"]) == (0, 0, 0)
    assert same["true points"] == same["points"] == "3 (2 stable)"
    further = right.Points(np.array([[0.0, 0], [2, 0], [2, 8], [2, 8.5], [2, 9]]), np.array([0.9, 0.9, 0.9, 0.9, 0.9]))
    found = right.compare_points(true, further, **where)
    assert found["missed"] == 0 and found["invented"] == 4 and found["eigenvalue"] == pytest.approx(0.05)
    none = right.compare_points(true, true.only(true.leading > 1), **where)
    assert none["points"] == "1 (0 stable)" and np.isnan(none["missed"])
