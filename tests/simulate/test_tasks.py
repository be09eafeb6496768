import pytest
import xarray as xr

from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.tasks import Task

SIZES = {"n_channels": 5, "conditions": 5, "trials_per_condition": 2, "seed": 3}


def test_a_named_task_is_the_one_that_its_function_simulates() -> None:
    fast = LorenzDynamics(speed=0.2, split_by="condition")
    named = Task("lorenz", **SIZES, speed=4, split_by="condition").simulate()
    xr.testing.assert_identical(named, lorenz(**SIZES, dynamics=fast))
    named = Task("perturbation", **SIZES, speed=2).simulate()
    expected = perturbation(**SIZES, dynamics=KickedOscillation(frequency=3.0, relaxation=0.125))
    xr.testing.assert_identical(named, expected)


def test_what_is_not_known_is_refused_at_once() -> None:
    with pytest.raises(DataError, match=r"no simulated task 'rossler'.*lorenz, perturbation"):
        Task("rossler")
    with pytest.raises(DataError, match="speed is 0"):
        Task(speed=0)
    with pytest.raises(DataError, match="split_by"):
        Task(split_by="neuron")
