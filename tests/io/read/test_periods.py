"""Valid periods of units are one more mask, whether or not the package that defines their type is installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pynwb import get_class, load_namespaces
from pynwb.epoch import TimeIntervals
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

from nwb_sbtt import Window, inspect, read_nwb
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.errors import DataError, SelectionError
from tests.support import nwbfiles

WHOLE = Window(start=0.0, stop=10.0)
PERIODS = [[0.0, 4.0, 0], [6.0, 10.0, 0], [2.0, 10.0, 1]]
"""Start, stop and row of the unit; the third unit has none."""


@pytest.fixture(scope="module")
def valid_unit_periods(tmp_path_factory):
    """The type as ndx-spikesorting defines it, here in a namespace of the test."""
    folder = tmp_path_factory.mktemp("extension")
    builder = NWBNamespaceBuilder("periods", "ndx-test-periods", version="0.1.0", author="a", contact="a@b.org")
    builder.include_type("TimeIntervals", namespace="core")
    builder.include_type("DynamicTableRegion", namespace="hdmf-common")
    builder.add_spec(
        "ndx-test-periods.extensions.yaml",
        NWBGroupSpec(
            doc="valid periods",
            neurodata_type_def="ValidUnitPeriods",
            neurodata_type_inc="TimeIntervals",
            datasets=[NWBDatasetSpec(doc="unit", name="unit", neurodata_type_inc="DynamicTableRegion")],
        ),
    )
    builder.export("ndx-test-periods.namespace.yaml", outdir=str(folder))
    load_namespaces(str(folder / "ndx-test-periods.namespace.yaml"))
    return get_class("ValidUnitPeriods", "ndx-test-periods")


def sorted_file(path, table_type, *all_periods, obs_intervals=None):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 10.0, 0.1)] * 3, obs_intervals=obs_intervals)
    module = nwbfile.create_processing_module("ecephys", "generated")
    for number, periods in enumerate(all_periods):
        table = table_type(name=f"valid{number}", description="generated")
        rows = [int(row) for *_, row in periods]
        for start, stop, _ in periods:
            table.add_row(start_time=start, stop_time=stop, **({} if table_type is TimeIntervals else {"unit": 0}))
        if table_type is not TimeIntervals:
            table["unit"].table = nwbfile.units
            table["unit"].data[:] = rows
        module.add(table)
    return nwbfiles.write(nwbfile, path)


def observed_seconds(path, **config):
    read = read_nwb(path, ReadConfig(bin_width=0.1, **config), trials=WHOLE)
    return (read["observed"].values[0].sum(axis=0) * 0.1).round(6).tolist(), json.loads(read.attrs["notes"])


def test_units_are_observed_in_their_valid_periods_alone(valid_unit_periods, tmp_path):
    path = sorted_file(tmp_path / "x.nwb", valid_unit_periods, PERIODS)
    seconds, notes = observed_seconds(path)
    assert seconds == [8.0, 8.0, 0.0]
    read = read_nwb(path, bin_width=0.1, trials=WHOLE)
    assert read["values"].values.sum() == 160
    assert any("1 of 3 units have no period and were never valid" in note for note in notes)
    seconds, notes = observed_seconds(path, valid_unit_periods=False)
    assert seconds == [10.0, 10.0, 10.0]
    assert not any("valid_unit_periods" in note for note in notes)


def test_valid_periods_and_obs_intervals_both_count(valid_unit_periods, tmp_path):
    obs_intervals = [[[0.0, 6.0]], [[0.0, 3.0], [5.0, 10.0]], [[0.0, 10.0]]]
    path = sorted_file(tmp_path / "x.nwb", valid_unit_periods, PERIODS, obs_intervals=obs_intervals)
    read = read_nwb(
        path, bin_width=0.1, trials=WHOLE, config=ReadConfig(valid_unit_periods="processing/ecephys/valid0")
    )
    assert (read["observed"].values[0].sum(axis=0) * 0.1).round(6).tolist() == [4.0, 6.0, 0.0]


def test_of_several_tables_one_has_to_be_named(valid_unit_periods, tmp_path):
    path = sorted_file(tmp_path / "x.nwb", valid_unit_periods, PERIODS, [[0.0, 5.0, row] for row in range(3)])
    with pytest.raises(
        SelectionError, match=r"several ValidUnitPeriods .*read.valid_unit_periods=processing/ecephys/val"
    ):
        read_nwb(path)
    seconds, _ = observed_seconds(path, valid_unit_periods="processing/ecephys/valid1")
    assert seconds == [5.0, 5.0, 5.0]
    with pytest.raises(SelectionError, match="no ValidUnitPeriods 'valid9' of its units"):
        observed_seconds(path, valid_unit_periods="valid9")


def test_inspect_lists_them_as_masks_and_not_as_trials(valid_unit_periods, tmp_path):
    contents = inspect(sorted_file(tmp_path / "x.nwb", valid_unit_periods, PERIODS))
    (mask,) = contents.masks
    assert (mask.path, mask.type, mask.series) == ("processing/ecephys/valid0", "ValidUnitPeriods", ("units",))
    assert mask.observed == pytest.approx((7.9 + 7.95) / 9.9 / 3, abs=0.01)
    assert contents[0].observed == pytest.approx(mask.observed)
    assert contents.tables == ()


def test_periods_that_name_no_unit_or_end_before_they_start_are_refused(valid_unit_periods, tmp_path):
    path = sorted_file(tmp_path / "x.nwb", valid_unit_periods, [[4.0, 0.0, 0]])
    with pytest.raises(
        DataError, match=r"row 0 of processing/ecephys/valid0 runs from 4 to 0 s.*valid_unit_periods=False"
    ):
        read_nwb(path)
    (described,) = inspect(path)
    assert not described.readable


def test_other_intervals_of_units_are_no_mask(tmp_path):
    path = sorted_file(tmp_path / "x.nwb", TimeIntervals, PERIODS)
    assert observed_seconds(path)[0] == [10.0, 10.0, 10.0]


@pytest.mark.slow
def test_the_package_of_the_type_is_not_needed(valid_unit_periods, tmp_path):
    path = sorted_file(tmp_path / "x.nwb", valid_unit_periods, PERIODS)
    program = (
        "import sys; from nwb_sbtt import Window, read_nwb\n"
        "read = read_nwb(sys.argv[1], bin_width=0.1, trials=Window(start=0, stop=10))\n"
        "print(read['observed'].values.sum(axis=(0, 1)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[80, 80, 0]"
