import hashlib

import numpy as np
import pytest
from pynwb import TimeSeries

import nwb_sbtt as sb
from nwb_sbtt.errors import ConfigError, DataError, FileError, SelectionError
from tests.support.commands import call
from tests.support.nwbfiles import add_electrical, add_electrodes, add_units, new_file, write

RNG = np.random.default_rng(2)
WINDOW = sb.Window(start=0.0, stop=1.0)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with voltages.nwb (500 Hz, 3 of 4 electrodes, permuted), stamped.nwb (timestamps) and units.nwb."""
    folder = tmp_path_factory.mktemp("masks")
    for name, words in (("voltages", {"rate": 500.0}), ("stamped", {"timestamps": np.arange(500) / 500 + 0.0})):
        nwbfile = new_file()
        add_electrodes(nwbfile, 4)
        add_electrical(nwbfile, RNG.normal(size=(500, 3)) * 1e-4, rows=[2, 0, 3], **words)
        write(nwbfile, folder / f"{name}.nwb")
    nwbfile = new_file()
    add_units(nwbfile, [np.sort(RNG.random(300)) for _ in range(3)])
    nwbfile.add_acquisition(TimeSeries(name="speed", data=np.zeros(10), unit="m/s", rate=10.0))
    write(nwbfile, folder / "units.nwb")
    return folder


@pytest.mark.parametrize("name", ["voltages", "stamped"])
def test_samples_that_the_mask_leaves_out_are_missing_in_their_own_channel(recordings, tmp_path, name):
    source = recordings / f"{name}.nwb"
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    observed = RNG.random((500, 3)) < 0.7
    path = sb.write_mask(source, observed, out=tmp_path / "masked.nwb")
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before
    config = sb.ReadConfig(electrical={"feature": "lfp"})
    ds = sb.read_nwb(path, config, bin_width=0.002, trials=WINDOW)
    whole = sb.read_nwb(source, config, bin_width=0.002, trials=WINDOW)
    assert ds["channel_id"].values.tolist() == whole["channel_id"].values.tolist()
    # A filter may lose some more; nothing that was left out comes back.
    assert not (ds["observed"].values[0] & ~observed).any()
    assert ds["observed"].values.mean() > 0.5
    assert any("acquisition" in mask.path for mask in sb.inspect(path).masks)


def test_a_mask_of_units_has_a_clock_of_its_own(recordings, tmp_path):
    observed = np.ones((10, 3), dtype=int)
    observed[3:5, 1] = 0
    path = sb.write_mask(
        recordings / "units.nwb", observed, series="units", rate=10.0, starting_time=0.0, out=tmp_path / "masked.nwb"
    )
    ds = sb.read_nwb(path, bin_width=0.1, trials=WINDOW)
    np.testing.assert_array_equal(ds["observed"].values[0], observed.astype(bool))


def test_a_plain_series_of_flags_beside_a_series_masks_it_and_is_said(tmp_path):
    observed = RNG.random((500, 3)) < 0.7
    for name, flags, known in (("mask", observed, True), ("observed", observed, True), ("mask", observed * 2, False)):
        nwbfile = new_file()
        add_electrodes(nwbfile, 4)
        add_electrical(nwbfile, RNG.normal(size=(500, 3)) * 1e-4, name="lfp", rows=[2, 0, 3], rate=500.0)
        data = flags.astype(np.uint8)
        nwbfile.add_acquisition(TimeSeries(name=f"lfp_{name}", data=data, unit="n/a", rate=500.0))
        path = write(nwbfile, tmp_path / f"{name}_{known}.nwb")
        ds = sb.read_nwb(path, series="acquisition/lfp", bin_width=0.002, trials=WINDOW)
        assert bool((ds["observed"].values[0] & ~observed).any()) != known
        assert ("a TimeSeries of 0 and 1, is used as mask of 'acquisition/lfp'" in ds.attrs["notes"]) == known
        assert len(sb.inspect(path).masks) == known


@pytest.mark.parametrize(
    ("source", "observed", "words", "error", "message"),
    [
        ("voltages", np.ones((500, 4)), {}, DataError, r"shape \(500, 4\), .* needs \(500, 3\)"),
        ("voltages", np.ones((499, 3)), {}, DataError, r"shape \(499, 3\), .* needs \(500, 3\)"),
        ("voltages", np.full((500, 3), 0.5), {}, DataError, r"expected true or false \(1 or 0\)"),
        ("voltages", np.ones(500), {}, DataError, r"for each \(sample, channel\)"),
        ("voltages", np.ones((500, 3)), {"rate": 10.0}, ConfigError, "both `rate` and `starting_time`"),
        (
            "voltages",
            np.ones((500, 3)),
            {"rate": 500.0, "starting_time": 1.0},
            DataError,
            "from 1 to 2 s, but .* from 0 to 1 s",
        ),
        (
            "units",
            np.ones((10, 3)),
            {"rate": 10.0, "starting_time": 500.0, "series": "units"},
            DataError,
            "from 500 to 501 s",
        ),
        (
            "units",
            np.ones((10, 3)),
            {"rate": 10.0, "starting_time": -9.0, "series": "units"},
            DataError,
            "overlaps the recording",
        ),
        (
            "units",
            np.ones((10, 3)),
            {"rate": 0, "starting_time": 0.0},
            ConfigError,
            "^rate is 0; expected a number of Hz above 0",
        ),
        ("units", np.ones((10, 3)), {"rate": -5.0, "starting_time": 0.0}, ConfigError, "^rate is -5.0; expected"),
        ("units", np.ones((10, 3)), {"rate": True, "starting_time": 0.0}, ConfigError, "^rate is True; expected"),
        (
            "units",
            np.ones((10, 3)),
            {"rate": 5.0, "starting_time": np.nan},
            ConfigError,
            "^starting_time is nan; expected",
        ),
        ("voltages", np.ones((500, 3)), {"series": "acquisition/none"}, SelectionError, "no series matches"),
        ("units", np.ones((10, 3)), {}, ConfigError, "units have no samples: pass `rate`"),
        ("units", np.ones((10, 1)), {"series": "acquisition/speed"}, DataError, "store NaN where nothing was measured"),
        ("voltages", np.full((500, 3), 2), {}, DataError, "contains 2; expected true or false"),
        ("voltages", np.full((500, 3), np.nan), {}, DataError, "contains nan; expected true or false"),
        ("voltages", np.zeros((500, 3)), {}, DataError, "hides every sample of 'acquisition/.*pass 1 - array"),
        ("units", np.zeros((100, 3)), {"rate": 1.0, "starting_time": -9.0}, DataError, "hides all of 'units'"),
        ("voltages", np.ones((500, 3)), {"name": "a/b"}, ConfigError, "^name is 'a/b'; expected a name without"),
        ("voltages", np.ones((500, 3)), {"name": ""}, ConfigError, "^name is ''; expected a name without"),
        ("none", np.ones((10, 3)), {}, FileError, "none.nwb"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    recordings, tmp_path, source, observed, words, error, message
):
    with pytest.raises(error, match=message):
        sb.write_mask(recordings / f"{source}.nwb", observed, out=tmp_path / "masked.nwb", **words)
    assert not list(tmp_path.iterdir())


def test_the_recording_itself_and_existing_files_are_replaced_only_when_asked(recordings, tmp_path):
    source = tmp_path / "own.nwb"
    source.write_bytes((recordings / "voltages.nwb").read_bytes())
    observed = np.ones((500, 3), dtype=bool)
    with pytest.raises(FileError, match="is the recording itself"):
        sb.write_mask(source, observed, out=source)
    sb.write_mask(source, observed, out=tmp_path / "copy.nwb")
    with pytest.raises(FileError, match="exists"):
        sb.write_mask(source, observed, out=tmp_path / "copy.nwb")
    with pytest.raises(FileError, match=r"already has 'acquisition/.*_mask'; pass another name"):
        sb.write_mask(tmp_path / "copy.nwb", observed, out=tmp_path / "again.nwb")
    sb.write_mask(source, observed, out=source, overwrite=True)
    assert len(sb.inspect(source).masks) == 1


def test_the_command_takes_an_array_from_a_file(recordings, tmp_path, monkeypatch, capsys):
    observed = RNG.random((500, 3)) < 0.5
    np.save(tmp_path / "observed.npy", observed)
    source, out = recordings / "voltages.nwb", tmp_path / "masked.nwb"
    assert call(monkeypatch, "mask", source, tmp_path / "observed.npy", "--out", out) == 0
    assert "wrote" in capsys.readouterr().out
    assert call(monkeypatch, "mask", source, tmp_path / "observed.npy", "--out", out) == 2
    assert "exists" in capsys.readouterr().err
    np.save(tmp_path / "texts.npy", np.array([["a"]], dtype=object), allow_pickle=True)
    assert call(monkeypatch, "mask", source, tmp_path / "texts.npy", "--out", tmp_path / "no.nwb") == 2
    assert "texts.npy': it is not a .npy file of numbers or flags; write one with numpy.save" in capsys.readouterr().err
    assert call(monkeypatch, "mask", source, tmp_path / "none.npy", "--out", tmp_path / "no.nwb") == 2
    error = capsys.readouterr().err
    assert "cannot read the mask" in error and "Errno" not in error and len(error.splitlines()) == 1
    assert (
        call(monkeypatch, "mask", source, tmp_path / "observed.npy", "--out", tmp_path / "new" / "folder" / "m.nwb")
        == 0
    )


def test_what_lies_outside_of_a_mask_counts_as_observed_and_a_note_states_how_much_it_covers(recordings, tmp_path):
    path = sb.write_mask(
        recordings / "units.nwb",
        np.zeros((5, 3)),
        series="units",
        rate=10.0,
        starting_time=0.5,
        out=tmp_path / "half.nwb",
    )
    ds = sb.read_nwb(path, bin_width=0.1, trials=WINDOW)
    assert ds["observed"].values[0].all(axis=1).tolist() == [True] * 5 + [False] * 5
    assert "the mask 'acquisition/units_mask' covers 49." in ds.attrs["notes"] or "covers 50." in ds.attrs["notes"]
    assert "samples outside of a mask count as observed" in ds.attrs["notes"]
