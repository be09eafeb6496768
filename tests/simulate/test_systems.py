import pytest
import xarray as xr

from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.systems import Simulation

SIZES = {"n_channels": 5, "conditions": 5, "trials_per_condition": 2, "seed": 3}


def test_a_named_system_is_the_one_that_its_function_simulates() -> None:
    fast = LorenzDynamics(speed=0.2, split_by="condition")
    named = Simulation("lorenz", **SIZES, speed=4, split_by="condition").data()
    xr.testing.assert_identical(named, lorenz(**SIZES, dynamics=fast))
    named = Simulation("perturbation", **SIZES, speed=2).data()
    expected = perturbation(**SIZES, dynamics=KickedOscillation(frequency=3.0, relaxation=0.125))
    xr.testing.assert_identical(named, expected)


def test_what_is_not_known_is_refused_at_once() -> None:
    with pytest.raises(DataError, match=r"no system 'rossler'.*lorenz, perturbation"):
        Simulation("rossler")
    with pytest.raises(DataError, match="speed is 0"):
        Simulation(speed=0)
    with pytest.raises(DataError, match="split_by"):
        Simulation(split_by="neuron")
