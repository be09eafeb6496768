"""Results for recorded files: they come back, the validators have nothing to add, and the recording is as it was."""

from functools import cache

import pynwb
import pytest

from nwb_sbtt.io.write.results import read_result
from tests.support.latents import assert_same, digest, latents_of, write_exactly

SEGMENTATION = "processing/ophys/ImageSegmentation/PlaneSegmentation"
FLUORESCENCE = "processing/ophys/Fluorescence"
REAL = {
    "nlb": ("nlb/sub-Jenkins_ses-small_desc-test_ecephys.nwb", "units", "units", "units"),
    "empty subject": ("units/A8604-211122.nwb", "units", "units", "units"),
    "nwb 2.1": ("units/sub_anm00239123_ses_20170627T093549_ecephys_and_ogen.nwb", "units", "units", "units"),
    "no subject": ("ophys/nwb_test.nwb", SEGMENTATION, f"{FLUORESCENCE}/RoiResponseSeries", "rois"),
    "neuropixels": ("ecephys/neuropixels_lf.nwb", "electrodes", "acquisition/ElectricalSeriesLF", "electrodes"),
    "lfp": ("ecephys/buzsaki_lfp_units.nwb", "electrodes", "processing/ecephys/LFP/ElectricalSeries_lfp", "electrodes"),
}


@pytest.mark.realdata
@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("case", list(REAL))
@pytest.mark.slow
def test_results_of_recorded_files_pass_the_validators(realdata, tmp_path, case, append):
    name, table, series, kind = REAL[case]
    source = realdata / name
    before = digest(source)
    latents = latents_of(source, [(table, series, [3, 0, 2] if "subject" not in case else [2, 0])], kind=kind)
    path = write_exactly(latents, tmp_path / "r.nwb", append=append)
    assert_same(latents, read_result(path))
    assert digest(source) == before
    # The recording of NWB 2.1 breaks the rules of its own version; in the copy pynwb finds it breaking those of the new.
    if case != "nwb 2.1" or not append:
        assert pynwb.validate(path=path) == []
    assert _findings(path) - _findings(source) == set()


@cache
def _findings(path):
    from nwbinspector import Importance, inspect_nwbfile, load_config

    messages = inspect_nwbfile(
        nwbfile_path=str(path),
        config=load_config("dandi"),
        importance_threshold=Importance.BEST_PRACTICE_VIOLATION,
        skip_validate=True,
    )
    return {(message.importance.name, message.check_function_name, message.location) for message in messages}
