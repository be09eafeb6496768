"""What is measured of the systems that fits learn: where they rest, how they move, and how far their forecasts miss."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError, FileError
from nwb_sbtt.fitting.dynamics.forecasting import linear_forecast
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.fitting.ensemble import checkpoint_digest
from nwb_sbtt.fitting.forward import system_forecast, systems_of
from nwb_sbtt.fitting.reporting import measured_system, report_session, system_in_words
from nwb_sbtt.train.checkpoint import DYNAMICS
from nwb_sbtt.train.dynamics import save_dynamics
from tests.fitting.test_forward import SYSTEM, WIDTH, config, rotation
from tests.support.systems import become_linear

TURN, SHRINK = 0.3, 0.97
SPIRAL = SHRINK * np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])
OFFSET = np.array([0.05, 0.02], np.float32)
REST = np.linalg.solve(np.eye(2) - SPIRAL, OFFSET)


def with_system(fitted, matrix, offset=OFFSET, drive=None):
    """Let the system of a fit be a linear map."""
    for member, system in zip(fitted.members, systems_of(fitted), strict=True):
        save_dynamics(
            become_linear(system, matrix, offset, drive),
            member.run_dir / DYNAMICS,
            of=checkpoint_digest(member.run_dir, 1),
        )
    return sb.load(fitted.run_dir)


@pytest.fixture(scope="module")
def data():
    return sb.data.limit_bandwidth(rotation(trials=40)[0], BandwidthConfig(k=8))


@pytest.fixture(scope="module")
def spiral(data, tmp_path_factory):
    fitted = sb.fit(data, config(2), run_dir=tmp_path_factory.mktemp("dynamics") / "run")
    return with_system(fitted, SPIRAL)


@pytest.fixture(scope="module")
def points(data, spiral):
    return sb.dynamics.fixed_points(spiral, data, starts=40)


def test_a_spiral_rests_in_its_middle_and_turns_at_its_speed(points, spiral):
    assert points.sizes == {"point": 1, "latent": 2, "mode": 2, "part": 2, "channel": 12}
    np.testing.assert_allclose(points["state"].values[0], REST, atol=1e-4)
    assert points["stability"].item() == "stable" and points["reached_from"].item() == 1
    np.testing.assert_allclose(points["growth_rate"].values, math.log(SHRINK) / WIDTH, rtol=1e-3)
    np.testing.assert_allclose(points["frequency"].values, TURN / (2 * math.pi * WIDTH), rtol=1e-3)
    values = np.linalg.eigvals(SPIRAL)
    assert {(round(x, 4), round(y, 4)) for x, y in points["eigenvalue"].values[0]} == {
        (round(x.real, 4), round(x.imag, 4)) for x in values
    }
    assert points["speed"].item() < 1e-6
    units = {name: points[name].attrs["units"] for name in ("growth_rate", "frequency", "rates", "speed")}
    assert units == {"growth_rate": "1/s", "frequency": "Hz", "rates": "Hz", "speed": "sd/s"}
    (system,) = systems_of(spiral)
    expected = system.likelihood.expected(torch.tensor(REST).float()[None, None], "session") / WIDTH
    np.testing.assert_allclose(points["rates"].values, expected[0].numpy(), rtol=1e-3)


@pytest.mark.parametrize(
    ("matrix", "kind"),
    [(np.diag([1.1, 0.8]), "saddle"), (np.diag([1.1, 1.2]), "unstable"), (np.diag([0.9, -0.5]), "stable")],
)
def test_kinds_of_stability_are_named(data, spiral, matrix, kind, monkeypatch):
    system = become_linear(systems_of(spiral)[0], matrix, OFFSET)
    monkeypatch.setattr("nwb_sbtt.fitting.dynamics.held.best_system", lambda fitted: system)
    found = sb.dynamics.fixed_points(spiral, data, starts=20)
    assert found["stability"].values.tolist() == [kind]
    assert (np.diff(found["growth_rate"].values) <= 0).all()
    negative = np.diag(matrix) < 0
    np.testing.assert_allclose(np.sort(found["frequency"].values[0])[::-1], np.sort(negative / (2 * WIDTH))[::-1])


def test_distances_are_shares_of_how_far_states_lie_from_their_mean(data, spiral):
    system = HeldSystem.of(spiral, data, session=None, inputs=None)
    seen = system.visited @ system.metric()
    scale = (seen - seen.mean(0)).square().sum(1).mean().sqrt()
    far = system.visited[:1] + torch.tensor([[1e3, 0.0]])
    expected = (seen - far @ system.metric()).norm(dim=1).min() / scale
    np.testing.assert_allclose(system.distances(torch.cat([system.visited[5:6], far])), [0, expected], atol=1e-6)
    (weights, _) = system.dynamics.likelihood.read_outs("session")[0]
    across = (system.visited[0] - system.visited[9]) @ weights.T
    assert (seen[0] - seen[9]).norm() == pytest.approx(across.square().mean().sqrt().item(), rel=1e-2)


def test_exponents_of_a_spiral_are_its_growth_rate(data, spiral):
    found = sb.dynamics.lyapunov_exponent(spiral, data, runs=3, bins=40)
    np.testing.assert_allclose(found["exponents"].values, math.log(SHRINK) / WIDTH, rtol=1e-3)
    assert found["exponent"].item() == pytest.approx(math.log(SHRINK) / WIDTH, rel=1e-3)
    assert found["exponent"].attrs["units"] == "1/s" and not found["left"].values.any()
    assert found["distance"].sizes == {"run": 3} and found.attrs["bins"] == 40


def test_exponents_of_runs_that_leave_are_not_known(data, spiral, monkeypatch):
    system = become_linear(systems_of(spiral)[0], np.diag([1.1, 1.05]), OFFSET)
    monkeypatch.setattr("nwb_sbtt.fitting.dynamics.held.best_system", lambda fitted: system)
    found = sb.dynamics.lyapunov_exponent(spiral, data, runs=3, bins=10)
    assert found["left"].values.all() and np.isnan(found["exponents"].values).all() and np.isnan(found["exponent"])


def test_the_flow_is_that_of_the_system_in_the_plane(data, spiral):
    flow = sb.dynamics.flow_field(spiral, data, points=8)
    assert flow["velocity"].sizes == {"y": 8, "x": 8, "component": 2}
    axis, origin = flow["axis"].values, flow["origin"].values
    place = np.array([flow["x"].values[5], flow["y"].values[2]])
    state = origin + np.linalg.solve(axis, place)
    moved = axis @ (SPIRAL @ state + OFFSET - state) / WIDTH
    np.testing.assert_allclose(flow["velocity"].values[2, 5], moved, atol=1e-3)
    assert flow["share"].values.sum() == pytest.approx(1) and (np.diff(flow["share"].values) <= 0).all()
    courses = flow["trajectory"].values
    assert courses.shape == (40, 40, 2) and abs(courses.mean((0, 1))).max() < 1e-5
    covariance = np.cov(courses.reshape(-1, 2).T)
    assert abs(covariance[0, 1]) < 1e-6 * covariance[0, 0]
    assert flow["x"].values[0] < courses[..., 0].min() and flow["x"].values[-1] > courses[..., 0].max()


def test_other_dimensions_are_those_of_the_nearest_visited_states(tmp_path):
    ds = rotation(trials=30)[0]
    system = SYSTEM.model_copy(update={"dimensions": 3})
    fitted = sb.fit(ds, config(1, system=system), run_dir=tmp_path / "run")
    matrix = np.eye(3)
    matrix[0, 2] = 0.5
    fitted = with_system(fitted, matrix, np.zeros(3, np.float32))
    flow = sb.dynamics.flow_field(fitted, ds, points=5)
    held = HeldSystem.of(fitted, ds, session=None, inputs=None)
    visited, axis, metric = held.visited.numpy(), flow["axis"].values, held.metric().numpy()
    courses = (visited - flow["origin"].values) @ axis.T
    place = np.array([flow["x"].values[1], flow["y"].values[3]])
    apart = np.linalg.norm(courses - place, axis=1)
    scale = math.sqrt((courses**2).sum(1).mean())
    assert flow["distance"].values[3, 1] == pytest.approx(apart.min() / scale, rel=1e-4)
    # They move along the two axes alone, to the place, from the 20 nearest visited states.
    nearest = apart.argsort()[:20]
    states = visited[nearest] + np.linalg.solve(metric @ metric.T, axis.T @ (place - courses[nearest]).T).T
    moved = (states @ (matrix - np.eye(3)).T @ axis.T).mean(0) / WIDTH
    np.testing.assert_allclose(flow["velocity"].values[3, 1], moved, rtol=1e-3, atol=1e-3)


def test_known_inputs_are_held_where_they_are_asked_to_be(tmp_path):
    ds = rotation(inputs=True, trials=30)[0]
    fitted = sb.fit(ds, config(1), run_dir=tmp_path / "run")
    drive = np.array([[0.1, 0.0], [0.0, 0.0]])
    fitted = with_system(fitted, 0.5 * np.eye(2), np.zeros(2, np.float32), drive)
    known = systems_of(fitted)[0].known
    mean, sd = known.mean.item(), known.sd.item()
    at_mean = sb.dynamics.fixed_points(fitted, ds, starts=10)
    np.testing.assert_allclose(at_mean["state"].values[0], 0, atol=1e-4)
    assert at_mean.attrs["inputs"] == ["turn"] and at_mean.attrs["inputs_held_at"] == [pytest.approx(mean)]
    higher = sb.dynamics.fixed_points(fitted, ds, starts=10, inputs=[mean + 2 * sd])
    np.testing.assert_allclose(higher["state"].values[0], [0.4, 0], atol=1e-4)
    assert sb.dynamics.flow_field(fitted, ds, points=3, inputs=[0.5]).attrs["inputs_held_at"] == [0.5]
    with pytest.raises(DataError, match=r"inputs have the shape \(2,\); expected \(1,\) finite numbers .* 'turn'"):
        sb.dynamics.fixed_points(fitted, ds, inputs=[1.0, 2.0])
    with pytest.raises(DataError, match=r"inputs are infinite; expected \(1,\) finite numbers or NaN, of 'turn'"):
        sb.dynamics.fixed_points(fitted, ds, inputs=[np.inf])
    errors = sb.dynamics.forecast_error(fitted, ds, given=30)
    assert np.isfinite(errors["error"].values).all()


def test_errors_of_forecasts_are_shares_of_the_variance_beside_others(data, spiral):
    found = sb.dynamics.forecast_error(spiral, data.assign(true_rates=data["values"] / WIDTH + 1.0), given=30)
    assert found["truth"].values.tolist() == ["inferred", "true"]
    assert found["predictor"].values.tolist() == ["forecast", "persistence", "average", "linear"]
    np.testing.assert_allclose(found["lead"].values, WIDTH * np.arange(1, 11))
    valid = data.isel(trial=np.flatnonzero(data["split"].values == "valid"))
    whole = spiral.infer(valid)["rates"].values[:, 30:]
    last = spiral.infer(valid.isel(time=slice(0, 30)))["rates"].values[:, -1:]
    one = ((whole[:, 3] - last[:, 0]) ** 2 / whole.var((0, 1))).sum()
    all_of_it = ((whole[:, 3] - whole[:, 3].mean(0)) ** 2 / whole.var((0, 1))).sum()
    error = found["error"].sel(truth="inferred", predictor="persistence", horizon=4).item()
    assert error == pytest.approx(one / all_of_it, rel=1e-4)
    assert (found["excess"].sel(predictor="forecast") == 0).all()
    np.testing.assert_allclose(found["error"].sel(predictor="average"), 1)
    persistence = found["excess"].sel(truth="inferred", predictor="persistence").item()
    ahead = system_forecast(spiral, valid, given=30, session="session")
    sd = whole.std((0, 1))
    total = (((whole - whole.mean(0)) / sd) ** 2).sum()
    squared = (((last - whole) / sd) ** 2).sum() - (((ahead - whole) / sd) ** 2).sum()
    assert persistence == pytest.approx(squared / total, rel=1e-3)
    assert (found["excess_se"].sel(predictor="persistence") > 0).all()


def test_the_linear_system_is_that_of_the_states_of_training_trials(data, spiral, monkeypatch):
    def states(fitted, dynamics, batch):
        n_trials, n_bins, _ = batch.shape
        course = [np.random.default_rng(n_trials).normal(size=(n_trials, 2))]
        for _ in range(n_bins - 1):
            course.append(course[-1] @ SPIRAL.T + OFFSET)
        return torch.from_numpy(np.stack(course, 1)).float()

    monkeypatch.setattr("nwb_sbtt.fitting.dynamics.forecasting.states_in", states)
    train, valid = data.isel(trial=slice(0, 30)), data.isel(trial=slice(30, 40))
    found = linear_forecast(spiral, train, valid, given=25, session="session")
    (system,) = systems_of(spiral)
    whole = states(spiral, system, to_batch(valid))
    expected = system.likelihood.expected(whole[:, 25:], "session").numpy() / WIDTH
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_linear_system_has_the_known_inputs_of_both_bins(tmp_path, monkeypatch):
    ds, drive = rotation(trials=40, inputs=True)[0], torch.tensor([[0.5, -0.2], [0.3, 0.8]])
    ds = sb.with_inputs(ds, {"kick": np.random.default_rng(1).normal(size=(40, 40)).astype(np.float32)})
    fitted = sb.fit(ds, config(2), run_dir=tmp_path / "run")

    def states(fitted, dynamics, batch):
        kicks, start = batch.inputs[..., -1:].cpu(), torch.ones(len(batch.trials), 2)
        course = [start]
        for t in range(batch.shape[1] - 1):
            of_inputs = kicks[:, t] * drive[0] + kicks[:, t + 1] * drive[1]
            course.append(course[-1] @ torch.tensor(SPIRAL.T).float() + torch.from_numpy(OFFSET) + of_inputs)
        return torch.stack(course, 1)

    monkeypatch.setattr("nwb_sbtt.fitting.dynamics.forecasting.states_in", states)
    train, valid = ds.isel(trial=slice(0, 30)), ds.isel(trial=slice(30, 40))
    (system,) = systems_of(fitted)
    expected = system.likelihood.expected(states(fitted, system, to_batch(valid))[:, 25:], "session").numpy() / WIDTH
    for _ in range(5):
        found = linear_forecast(fitted, train, valid, given=25, session="session")
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_what_does_not_suit_is_refused(data, spiral, tmp_path):
    for call, arguments, message in (
        (sb.dynamics.fixed_points, {"starts": 0}, "starts is 0; expected a whole number, one or more"),
        (sb.dynamics.fixed_points, {"inputs": [1.0]}, "the fit has no known inputs; leave them out"),
        (sb.dynamics.lyapunov_exponent, {"runs": 2.5}, r"runs is 2\.5; expected a whole number"),
        (sb.dynamics.lyapunov_exponent, {"bins": -1}, "bins is -1; expected a whole number"),
        (sb.dynamics.flow_field, {"points": "9"}, "points is '9'; expected a whole number"),
        (sb.dynamics.forecast_error, {"given": 40}, "given is 40, and trials have 40 bins; give fewer"),
        (sb.dynamics.forecast_error, {"given": 0}, "given is 0; expected a whole number, one or more"),
    ):
        with pytest.raises(DataError, match=message):
            call(spiral, data, **arguments)
    train = data.assign_coords(split=("trial", ["train"] * 39 + ["valid"]))
    with pytest.raises(DataError, match="there are 1 validation trials"):
        sb.dynamics.forecast_error(spiral, train)
    with pytest.raises(FileError, match="did not come from a file"):
        sb.dynamics.fixed_points(spiral)
    plain = replace(spiral, config=spiral.config.model_copy(update={"dynamics": None}))
    with pytest.raises(ConfigError, match="no system that could be run forward"):
        sb.dynamics.lyapunov_exponent(plain, data)
    line = sb.fit(data, config(1, system=SYSTEM.model_copy(update={"dimensions": 1})), run_dir=tmp_path / "run")
    with pytest.raises(DataError, match="one dimension, and a plane needs two"):
        sb.dynamics.flow_field(line, data)
    assert sb.dynamics.fixed_points(line, data, starts=5).sizes["latent"] == 1


def test_the_best_member_of_an_ensemble_is_measured(data, tmp_path):
    fitted = sb.fit(data, config(1, seeds=2), run_dir=tmp_path / "run")
    best = fitted.members.index(fitted.best)
    for i, (member, system) in enumerate(zip(fitted.members, systems_of(fitted), strict=True)):
        scale = 0.5 if i == best else 0.9
        save_dynamics(
            become_linear(system, scale * np.eye(2), OFFSET),
            member.run_dir / DYNAMICS,
            of=checkpoint_digest(member.run_dir, 1),
        )
    fitted = sb.load(fitted.run_dir)
    found = sb.dynamics.fixed_points(fitted, data, starts=5)
    np.testing.assert_allclose(found["growth_rate"].values, math.log(0.5) / WIDTH, rtol=1e-3)
    assert sb.dynamics.forecast_error(fitted, data).sizes["horizon"] == 20


@pytest.mark.slow
def test_a_report_has_what_was_measured_of_the_system(data, spiral, monkeypatch):
    given = {}
    monkeypatch.setattr("nwb_sbtt.fitting.reporting.write_report", lambda path, **content: given.update(content))
    report_session(spiral, data, spiral.infer(data), session="session", metrics={})
    system = given["system"]
    assert system.points.identical(sb.dynamics.fixed_points(spiral, data))
    assert system.exponents.identical(sb.dynamics.lyapunov_exponent(spiral, data))
    assert system.flow.identical(sb.dynamics.flow_field(spiral, data))
    xr.testing.assert_allclose(system.errors, sb.dynamics.forecast_error(spiral, data), rtol=1e-3)
    assert system.summary == system_in_words(spiral)
    assert system.duration == pytest.approx(40 * WIDTH)
    few = data.assign_coords(split=("trial", ["train"] * 39 + ["valid"]))
    assert measured_system(spiral, few, session="session").errors is None
    plain = replace(spiral, members=tuple(replace(member, dynamics=None) for member in spiral.members))
    report_session(plain, data, spiral.infer(data), session="session", metrics={})
    assert given["system"] == system_in_words(plain)
    assert given["system"].startswith("none: ")


@pytest.mark.parametrize("given", ["runs/first", 3])
@pytest.mark.parametrize("function", ["fixed_points", "flow_field", "forecast_error", "lyapunov_exponent"])
def test_only_fits_have_a_system(function, given):
    with pytest.raises(ConfigError, match=r"got .*; expected a fit.*sb\.load"):
        getattr(sb.dynamics, function)(given)
