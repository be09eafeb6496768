"""Tensors beside those that nlb_tools makes of the same files, where it can be imported with a pandas that it runs on."""

import logging
import warnings

import numpy as np
import pytest

from nwb_sbtt.nlb.preparation import prepare
from nwb_sbtt.nlb.simulation import Simulation, simulate, write_simulated

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("nlb_tools.nwb_interface", reason="nlb_tools is not installed; it is no dependency")
if int(pandas.__version__.split(".")[0]) > 2:
    pytest.skip(
        f"nlb_tools cannot resample with pandas {pandas.__version__}; it needs pandas 2", allow_module_level=True
    )


@pytest.mark.parametrize("name", ["mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"])
@pytest.mark.parametrize("bin_width", [0.005, 0.02])
def test_inputs_and_targets_are_those_of_nlb_tools(name, bin_width, tmp_path):
    from nlb_tools import make_tensors
    from nlb_tools.nwb_interface import NWBDataset

    drawn = simulate(Simulation(name, train=14, val=8, test=4, units=8, seed=1))
    (file, _) = write_simulated(drawn, name, tmp_path)
    found = prepare(name, [file], bin_width=bin_width, compat="nlb_tools")
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = NWBDataset(str(file))
        data.resample(round(bin_width * 1000))
        given = {"save_file": False}
        theirs = make_tensors.make_train_input_tensors(
            data, name, "train", include_behavior=True, include_forward_pred=True, **given
        )
        theirs |= {
            "eval_spikes_heldin": make_tensors.make_eval_input_tensors(data, name, "val", **given)["eval_spikes_heldin"]
        }
        (targets,) = make_tensors.make_eval_target_tensors(
            data, name, "train", "val", include_psth=True, **given
        ).values()
    logging.disable(logging.NOTSET)
    for own, expected in ((found.inputs, theirs), (found.targets, targets)):
        assert set(own) == set(expected)
        for key, array in expected.items():
            if array.dtype == object:
                assert [list(each) for each in own[key]] == [list(each) for each in array]
            elif "spikes" in key or "mask" in key or "jitter" in key:
                np.testing.assert_array_equal(own[key], array)
            else:
                np.testing.assert_allclose(own[key], array.astype(float), rtol=1e-5, atol=3e-7)
