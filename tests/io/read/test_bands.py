"""Several bands of one series in one Dataset, and their results band by band."""

import json

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from nwb_sbtt.config import Chop, ElectricalConfig, ReadConfig
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.signature import channel_names
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import write_nwb
from tests.support.nwbfiles import add_electrical, add_electrodes, new_file, write

BANDS = {"theta": (4.0, 8.0), "gamma": (30.0, 80.0)}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    nwbfile = new_file()
    add_electrodes(nwbfile, 4)
    volts = 1e-5 * np.random.default_rng(71).normal(size=(10_000, 3)).cumsum(axis=0)
    add_electrical(nwbfile, volts.astype(np.float32), rate=1000.0, rows=[3, 0, 1])
    return write(nwbfile, tmp_path_factory.mktemp("bands") / "x.nwb")


def config(**electrical):
    return ReadConfig(
        electrical=ElectricalConfig(feature="power", **electrical), bin_width=0.02, cut=Chop(length=1.0, overlap=0.0)
    )


def test_each_electrode_is_a_channel_of_each_band_and_comes_back_from_results(recording, tmp_path):
    ds = read_nwb(recording, config(bands=BANDS))
    assert ds["channel_id"].values.tolist() == [103, 100, 101] * 2
    assert ds["frequency_band"].values.tolist() == ["theta"] * 3 + ["gamma"] * 3
    for i, band in enumerate(BANDS.values()):
        alone = read_nwb(recording, config(band=band))
        assert np.array_equal(ds["values"].values[..., 3 * i : 3 * i + 3], alone["values"].values)
        assert np.array_equal(ds["observed"].values[..., 3 * i : 3 * i + 3], alone["observed"].values)
    assert channel_names(ds)[0] == "electrodes:103 theta" and len(set(channel_names(ds))) == 6
    notes = json.loads(ds.attrs["notes"])
    assert len(set(notes)) == len(notes) and any("in the band theta of 4 to 8 Hz" in note for note in notes)
    model = {"model_type": "x", "software_name": "x", "software_version": "1"}
    latents = ds[["observed"]].assign(mean=ds["values"]).assign_attrs(model=json.dumps(model))
    path = write_nwb(latents, tmp_path / "r.nwb")
    with NWBHDF5IO(path, "r") as io:
        module = io.read().processing["ecephys"]
        assert module["sbtt_mean_gamma"].channels.data[:].tolist() == [3, 0, 1]
        assert module["sbtt_mean_theta"].data.shape == module["sbtt_mean_gamma"].data.shape
    back = read_result(path)
    # A chopped session is merged.
    assert np.array_equal(back["mean"].values.reshape(-1, 6), latents["mean"].values.reshape(-1, 6))
    assert back["frequency_band"].values.tolist() == ds["frequency_band"].values.tolist()


def test_bins_of_several_bands_suit_each_of_them(recording):
    for feature, width in (("lfp", 0.005), ("power", 0.5)):
        ds = read_nwb(recording, ReadConfig(electrical=ElectricalConfig(feature=feature, bands=BANDS)))
        assert ds.attrs["bin_width"] == width and ds.sizes["channel"] == 6


def test_bands_take_the_place_of_one_and_have_names():
    for wrong in (
        {"band": (4.0, 8.0), "bands": BANDS},
        {"feature": "spikes", "bands": BANDS},
        {"bands": {}},
        {"bands": {"a/b": (4.0, 8.0)}},
    ):
        with pytest.raises((ConfigError, ValueError), match="bands"):
            ElectricalConfig(**wrong)
