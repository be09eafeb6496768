"""Dead, railed and zeroed stretches of voltages are not data."""

import numpy as np
import pytest

from nwb_sbtt.config import ElectricalConfig, ReadConfig
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.io.read.voltages import electrical_source
from tests.support.nwbfiles import add_electrical, add_electrodes, new_file
from tests.support.voltages import field

RATE = 2000.0
SECONDS = 10.0
GRID = Grid(np.zeros(1), 0.02, round(SECONDS / 0.02))


def stored(*, seed=4, counts=400, dtype=np.int16):
    """A field potential in steps of a converter (time, 5)."""
    voltage, _ = field(SECONDS, rate=RATE, n_channels=5, seed=seed)
    return (counts * voltage).astype(dtype)


def read(data, *, feature="lfp", memory_limit=1e9, **electrical):
    nwbfile = new_file()
    add_electrodes(nwbfile, data.shape[1])
    electrical = {"feature": feature, "band": (200.0, 800.0) if feature == "spikes" else None, **electrical}
    config = ReadConfig(electrical=ElectricalConfig(**electrical), memory_limit=memory_limit)
    return electrical_source(nwbfile, add_electrical(nwbfile, data, rate=RATE), config).bin(GRID)


FAULTS = {
    "dead": lambda data, part: np.full_like(data[part], data[part.start]),
    "zeros": lambda data, part: np.zeros_like(data[part]),
    "railed": lambda data, part: np.full_like(data[part], np.iinfo(np.int16).max),
    "flickering": lambda data, part: 700 + np.random.default_rng(1).integers(0, 2, len(data[part])).astype(np.int16),
    "flickering at the rail": lambda data, part: 32767 - (np.arange(len(data[part])) % 2).astype(np.int16),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("feature", ["lfp", "power", "spikes"])
def test_a_stretch_that_was_not_measured_is_unobserved_with_a_note_and_changes_nothing_elsewhere(fault, feature):
    good = stored()
    bad = good.copy()
    part = slice(8000, 12000)
    bad[part, 2] = FAULTS[fault](bad[:, 2], part)
    expected, binned = read(good, feature=feature), read(bad, feature=feature)
    assert expected.notes == ()
    assert not binned.observed[0, 202:298, 2].any()
    # The mean that is taken off reaches over a second.
    far = np.r_[0:145, 355:500]
    if feature == "spikes":
        # Its threshold follows from what was measured.
        total, other = binned.values[0, far, 2].sum(), expected.values[0, far, 2].sum()
        assert abs(total - other) <= 0.3 * other + 5
    else:
        np.testing.assert_array_equal(binned.values[0, far, 2], expected.values[0, far, 2])
    np.testing.assert_array_equal(np.delete(binned.values, 2, axis=2), np.delete(expected.values, 2, axis=2))
    note = next(note for note in binned.notes if "mask_flat" in note)
    assert note.startswith("1 of 5 electrodes") and note.endswith(": [102 (2 s)]")


def test_lost_packets_of_a_few_zeros_and_clipped_peaks_are_missing_samples():
    good = stored()
    bad = good.copy()
    for first in range(500, 19000, 700):
        bad[first : first + 6, 1] = 0
    limit = int(np.quantile(good[:, 3], 0.97))
    bad[:, 3] = np.minimum(bad[:, 3], limit)
    nwbfile = new_file()
    add_electrodes(nwbfile, 5)
    source = electrical_source(nwbfile, add_electrical(nwbfile, bad, rate=RATE), ReadConfig())
    block = source.recording.block(source.recording.pieces[0], 0, len(bad))
    missing = np.zeros(bad.shape, dtype=bool)
    missing[:, block.gap_channels] = ~block.gap_observed
    assert all(missing[first : first + 6, 1].all() for first in range(500, 19000, 700))
    assert missing[:, 1].sum() <= 27 * 8
    at_limit = bad[:, 3] == limit
    assert missing[at_limit, 3].mean() > 0.5 and not missing[~at_limit, 3].any()
    assert not missing[:, [0, 2, 4]].any()


@pytest.mark.parametrize("counts", [0.4, 1, 3, 400])
def test_coarse_steps_are_no_fault(counts):
    slow, _ = field(SECONDS, rate=RATE, n_channels=5, seed=7, private=0.05)
    assert not any(
        "flat" in note or "identical" in note for note in read(np.round(counts * 3 * slow).astype(np.int16)).notes
    )


def test_a_quiet_half_of_a_recording_in_coarse_steps_is_kept():
    slow, _ = field(SECONDS, rate=RATE, n_channels=5, seed=7, private=0.05)
    slow[len(slow) // 2 :] *= 0.2
    quiet = np.round(1.5 * slow + 0.5).astype(np.int16)
    assert len(np.unique(quiet[len(slow) // 2 :, 0])) == 2 < len(np.unique(quiet[:, 0]))
    assert not any("mask_flat" in note for note in read(quiet).notes)


def test_samples_held_until_the_next_are_no_fault():
    held = np.repeat(stored()[::5], 5, axis=0)
    assert read(held).notes == () and read(held).observed[0, 5:-5].all()


def test_a_channel_of_two_values_is_named():
    data = stored()
    data[:, 4] = 1200 + np.random.default_rng(0).integers(0, 2, len(data))
    binned = read(data)
    assert not binned.observed[..., 4].any() and binned.observed[0, 5:-5, :4].all()
    assert len(binned.notes) == 1 and "at most two different values" in binned.notes[0] and "[104]" in binned.notes[0]


def test_what_is_flat_does_not_depend_on_where_blocks_begin():
    data = stored(dtype=np.float32)
    data[7000:7013, 0], data[9000:9400, 1], data[3000:3005, 2] = data[7000, 0], data[9000, 1], 0
    once, pieces = read(data), read(data, memory_limit=8e5)
    np.testing.assert_array_equal(once.observed, pieces.observed)
    np.testing.assert_allclose(once.values, pieces.values, rtol=1e-4, atol=1e-3)
    assert once.notes == pieces.notes and len(once.notes) == 1


def test_the_setting_keeps_flat_samples():
    data = stored()
    data[8000:12000, 2] = 0
    assert read(data, mask_flat=False).observed[0, 5:-5].all()
