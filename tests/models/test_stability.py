"""Fixed points and Lyapunov exponents of systems whose own are known."""

import math

import numpy as np
import pytest
import torch

from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.models.dynamics import BOUND, Dynamics
from nwb_sbtt.models.stability import AT_REST, find_fixed_points, lyapunov_exponents
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.nn.likelihoods import make_likelihood
from tests.support.systems import LORENZ_STEP, become_linear, become_lorenz, lorenz_map


def system(dimensions, width=64):
    likelihood = make_likelihood("poisson", {"session": blank_statistics(6)}, dimensions)
    return Dynamics(DynamicsConfig(dimensions=dimensions, width=width), likelihood, {"session": (4, 0, 4)}).double()


def starts(n, dimensions, seed=0):
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def lorenz():
    dynamics = system(3, width=96)
    return dynamics, *become_lorenz(dynamics)


def test_a_linear_map_rests_where_it_must_and_has_its_own_eigenvalues():
    turn, shrink = 0.4, 0.95
    matrix = torch.tensor(
        [
            [shrink * math.cos(turn), -shrink * math.sin(turn), 0.0],
            [shrink * math.sin(turn), shrink * math.cos(turn), 0.0],
            [0.0, 0.0, 1.2],
        ]
    )
    offset = torch.tensor([0.1, -0.2, 0.05])
    dynamics = become_linear(system(3), matrix, offset)
    with torch.no_grad():
        found = find_fixed_points(dynamics.step, starts(50, 3), within=BOUND)
    expected = torch.linalg.solve(torch.eye(3) - matrix, offset)
    assert found.counts.tolist() == [50] and found.at_edge == 0
    torch.testing.assert_close(found.states[0].float(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.jacobians[0].float(), matrix, atol=1e-5, rtol=1e-5)
    assert found.residuals.max() <= AT_REST


def test_the_lyapunov_exponents_of_a_linear_map_are_the_logarithms_of_its_eigenvalues():
    matrix = torch.tensor([[0.9, 0.3, 0.0], [0.0, 0.5, 0.2], [0.0, 0.0, 0.7]])
    dynamics = become_linear(system(3), matrix)
    with torch.no_grad():
        found = lyapunov_exponents(dynamics.step, starts(3, 3), n_steps=150, settle=50, within=BOUND)
    expected = torch.tensor([0.9, 0.7, 0.5]).double().log().expand(3, 3)
    torch.testing.assert_close(found.exponents, expected, atol=2e-3, rtol=0)
    assert not found.left.any() and (found.last.abs() < 1e-4).all()


def test_runs_that_grow_without_end_have_left_and_their_edge_is_no_fixed_point():
    dynamics = become_linear(system(2), torch.diag(torch.tensor([1.1, 0.5])), torch.tensor([0.0, 0.1]))
    begin = torch.tensor([[0.5, 0.0], [0.0, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        runs = lyapunov_exponents(dynamics.step, begin, n_steps=60, settle=0, within=BOUND)
        edge = find_fixed_points(dynamics.step, torch.tensor([[BOUND, 0.2]]).double(), within=BOUND)
    assert runs.left.tolist()[0] and runs.last[0, 0] == BOUND
    assert len(edge.states) == 0 and edge.at_edge == 1


def test_a_slow_place_is_no_fixed_point():
    def step(states):
        return states + 0.01 + 0.1 * states**2

    found = find_fixed_points(step, starts(20, 1), within=BOUND)
    assert found.states.shape == (0, 1) and found.jacobians.shape == (0, 1, 1) and found.at_edge == 0


def test_the_map_of_the_lorenz_system_has_its_three_fixed_points(lorenz):
    dynamics, visited, mean, sd = lorenz
    with torch.no_grad():
        found = find_fixed_points(dynamics.step, (visited[:120] - mean) / sd, within=BOUND)
    wing = math.sqrt(8 / 3 * 27)
    true = torch.tensor([[-wing, -wing, 27], [0, 0, 0], [wing, wing, 27]], dtype=torch.float64)
    states = (found.states * sd + mean)[found.states[:, 0].argsort()]
    assert len(states) == 3 and ((states - true).norm(dim=1) < 0.5).all()
    assert found.counts.sum() + found.at_edge <= 120
    middle = torch.linalg.eigvals(found.jacobians[(found.states * sd + mean).norm(dim=1) < 5][0]).abs().max()
    assert middle.log() / LORENZ_STEP == pytest.approx(11.83, abs=0.8)


def test_the_map_of_the_lorenz_system_is_as_chaotic_as_the_system(lorenz):
    dynamics, visited, mean, sd = lorenz
    with torch.no_grad():
        runs = lyapunov_exponents(dynamics.step, (visited[:24] - mean) / sd, n_steps=500, settle=50, within=BOUND)
    largest = runs.exponents[:, 0] / LORENZ_STEP
    assert not runs.left.any() and 0.75 < largest.mean() < 1.05
    assert runs.exponents.mean(0)[1].abs() / LORENZ_STEP < 0.1
    assert np.isfinite(lorenz_map((runs.last * sd + mean).numpy())).all()
