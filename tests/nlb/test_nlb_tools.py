"""Tensors beside those that nlb_tools makes of the same files, where it can be imported with a pandas that it runs on."""

import logging
import warnings
from dataclasses import replace

import numpy as np
import pytest

from nwb_sbtt.nlb.counting import SpikeCounter, units_in_order
from nwb_sbtt.nlb.preparation import prepare
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set
from tests.support.uneven import unevenly_observed

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("nlb_tools.nwb_interface", reason="nlb_tools is not installed; it is no dependency")
if int(pandas.__version__.split(".")[0]) > 2:
    pytest.skip(
        f"nlb_tools cannot resample with pandas {pandas.__version__}; it needs pandas 2", allow_module_level=True
    )


@pytest.mark.parametrize("name", ["mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"])
@pytest.mark.parametrize("bin_width", [0.005, 0.02])
@pytest.mark.parametrize("even", [True, False])
def test_inputs_and_targets_are_those_of_nlb_tools(name, bin_width, even, tmp_path):
    from nlb_tools import make_tensors
    from nlb_tools.nwb_interface import NWBDataset

    drawn = simulate_set(SetSettings(name, train=14, val=8, test=4, units=8, seed=1))
    if not even:
        # With a pause of the first unit in a window nlb_tools makes no tensors: it drops bins, and trials differ in length.
        first = [int(np.flatnonzero(drawn.training.held_out == kind)[0]) for kind in (False, True)]
        drawn = replace(drawn, training=unevenly_observed(drawn.training, 3, but=first))
    (file, _) = write_set(drawn, tmp_path)
    prepared = prepare(name, [file], bin_width=bin_width, compat="nlb_tools")
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = NWBDataset(str(file))
        data.resample(round(bin_width * 1000))
        options = {"save_file": False}
        theirs = make_tensors.make_train_input_tensors(
            data, name, "train", include_behavior=True, include_forward_pred=True, **options
        )
        theirs |= {
            "eval_spikes_heldin": make_tensors.make_eval_input_tensors(data, name, "val", **options)[
                "eval_spikes_heldin"
            ]
        }
        (targets,) = make_tensors.make_eval_target_tensors(
            data, name, "train", "val", include_psth=True, **options
        ).values()
    logging.disable(logging.NOTSET)
    for ours, expected in ((prepared.inputs, theirs), (prepared.targets, targets)):
        assert set(ours) == set(expected)
        for key, array in expected.items():
            if array.dtype == object:
                assert [list(rows) for rows in ours[key]] == [list(rows) for rows in array]
            elif "spikes" in key or "mask" in key or "jitter" in key:
                np.testing.assert_array_equal(ours[key], array)
            else:
                np.testing.assert_allclose(ours[key], array.astype(float), rtol=1e-5, atol=3e-7)


@pytest.mark.parametrize("bin_width", [0.005, 0.02])
def test_pauses_of_the_first_unit_in_the_table_hold_for_all_as_in_nlb_tools(bin_width, tmp_path):
    from nlb_tools.nwb_interface import NWBDataset

    drawn = simulate_set(SetSettings("mc_maze", train=8, val=4, test=2, units=8, seed=1))
    recorded = unevenly_observed(drawn.training, 3)
    (file, _) = write_set(replace(drawn, training=recorded), tmp_path)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = NWBDataset(str(file))
        data.resample(round(bin_width * 1000))
    logging.disable(logging.NOTSET)
    for held_out, signal in ((False, "spikes"), (True, "heldout_spikes")):
        theirs = data.data[signal].to_numpy()
        counter = SpikeCounter(recorded, units_in_order(recorded, held_out=held_out), bin_width, compat=True)
        np.testing.assert_array_equal(counter.counts(np.zeros(1, dtype=np.int64), len(theirs))[0], theirs)
        assert np.isnan(theirs).any()
