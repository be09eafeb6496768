"""Pictures of learned systems: what is drawn of a flow, of fixed points and of errors of forecasts."""

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

from nwb_sbtt import plot
from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.dynamics import FAR
from tests.support import learned

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_flow_is_drawn_where_states_are_near_over_the_trials():
    flow = learned.flow()
    ax = plot.flow_field(flow)
    (lines,) = (each for each in ax.collections if isinstance(each, LineCollection))
    corners = np.concatenate([path.vertices for path in lines.get_paths()])
    assert len(corners) and np.hypot(*corners.T).max() < 0.9 + FAR + 0.3
    assert len(ax.lines) == flow.sizes["trial"] + 2
    assert ax.get_xlabel() == "axis 1 (70% of the variance)" and ax.get_ylabel() == "axis 2 (20% of the variance)"
    assert labels(ax) == ["inferred trials", "flow"]


def test_fixed_points_lie_where_their_states_are_in_the_plane():
    flow = learned.flow()
    points = learned.points(("stable", "saddle", "unstable"), (0.01, 0.9, 0.02))
    ax = plot.flow_field(flow, points)
    assert labels(ax)[2:] == ["stable point", "saddle point, far from the data", "unstable point"]
    drawn = {line.get_label(): line for line in ax.lines}
    expected = points["state"].values[:, :2]
    for label, place in zip(labels(ax)[2:], expected, strict=True):
        assert np.allclose(drawn[label].get_xydata(), place[None])
    assert drawn["saddle point, far from the data"].get_alpha() < drawn["stable point"].get_alpha()
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]


def test_a_system_that_does_not_move_is_drawn_too():
    flow = learned.flow()
    ax = plot.flow_field(flow.assign(velocity=0 * flow["velocity"]), learned.points((), ()))
    assert not ax.collections


def test_errors_are_drawn_by_milliseconds_against_the_truth_that_is_known():
    errors = learned.errors(truths=("inferred", "true"))
    ax = plot.forecast_error(errors)
    assert ax.get_title(loc="left") == "against true rates"
    lines = {line.get_label(): line for line in ax.lines}
    assert set(labels(ax)) == {"learned system", "persistence", "linear system", "average of the trials"}
    assert np.allclose(lines["learned system"].get_xdata(), 20 * np.arange(1, 11))
    assert np.allclose(lines["linear system"].get_ydata(), errors["error"].sel(truth="true", predictor="linear").values)
    other = plot.forecast_error(errors, truth="inferred")
    assert other.get_title(loc="left") == "against what is inferred from whole trials"
    assert other.get_ylim() == ax.get_ylim()


def test_what_else_comes_is_named():
    with pytest.raises(
        DataError, match=r"got a Dataset of \['rates'\]; expected the result of sb\.dynamics\.flow_field"
    ):
        plot.flow_field(xr.Dataset({"rates": 1.0}))
    with pytest.raises(DataError, match=r"got a list; expected the result of sb\.dynamics\.fixed_points\(fitted\)"):
        plot.flow_field(learned.flow(), [1])
    with pytest.raises(DataError, match=r"got a NoneType; expected the result of sb\.dynamics\.forecast_error"):
        plot.forecast_error(None)
    with pytest.raises(DataError, match="truth='true' is not among the errors; choose one of inferred"):
        plot.forecast_error(learned.errors(), truth="true")
