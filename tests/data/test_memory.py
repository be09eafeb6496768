"""What would take more memory than there is is refused before it is taken."""

import resource

import h5py
import numpy as np
import pytest

from nwb_sbtt.config import Chop, Trials
from nwb_sbtt.data import memory
from nwb_sbtt.data.memory import available_memory, check_memory
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.train.trackers import Silent
from tests.support import nwbfiles
from tests.support.fits import population, settings


def test_what_is_available_is_no_more_than_the_machine_has():
    everything = memory.os.sysconf("SC_PHYS_PAGES") * memory.os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_memory() <= everything


@pytest.mark.parametrize(
    ("meminfo", "most", "expected"), [("5000000", None, 5_120_000_000), ("5000000", 10**9, 7 * 10**8)]
)
def test_a_container_may_leave_less(monkeypatch, meminfo, most, expected):
    texts = {"/proc/meminfo": f"MemTotal: 9000000 kB\nMemAvailable:   {meminfo} kB\n", "/proc/self/cgroup": "0::/a/b\n"}
    if most is not None:
        folder = "/sys/fs/cgroup/a"
        texts |= {f"{folder}/memory.max": f"{most}\n", f"{folder}/memory.current": "400000000\n"}
        texts |= {f"{folder}/memory.stat": "anon 3\ninactive_file 100000000\n", f"{folder}/b/memory.max": "max\n"}
    monkeypatch.setattr(memory, "_text", lambda path: texts.get(str(path), ""))
    monkeypatch.setattr(memory, "_of_process", lambda: None)
    assert available_memory() == expected


def test_a_limit_of_the_process_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**12, 10**12))
    assert memory._of_process() < 10**12


def test_a_system_that_does_not_tell_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    check_memory(1e30, 1.0, what="x", remedy="y")


@pytest.fixture
def recording(tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_units(nwb, [np.arange(0.05, 10, 0.1 + 0.01 * i) for i in range(4)])
    nwbfiles.add_trials(nwb, np.arange(0.0, 8.0), np.arange(1.0, 9.0))
    return nwbfiles.write(nwb, tmp_path / "x.nwb")


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (Trials(event="start_time", start=0.0, stop=1.0), r"8 trials of 50 bins of 4 channels need about 1.6e-05 GB"),
        (Chop(length=1.0, overlap=0.9), r"\d+ trials of 50 bins of 4 channels need about"),
        (Chop(), "bins of 0.02 s of 4 channels from"),
    ],
)
def test_windows_are_compared_with_what_is_available(monkeypatch, recording, cut, message):
    """Overlapping windows take more than the session that they cover."""
    read_nwb(recording, bin_width=0.02, trials=cut)
    n_bytes = 19_000 if cut == Chop() else 15_000 if isinstance(cut, Trials) else 30_000
    monkeypatch.setattr(memory, "available_memory", lambda: n_bytes)
    with pytest.raises(DataError, match=message + ".*of memory, but this machine has.*available.*use wider bins"):
        read_nwb(recording, bin_width=0.02, trials=cut)


def _declared(path, name, n):
    """Replace a column by one that declares so many rows and stores none."""
    with h5py.File(path, "a") as file:
        attributes, dtype = dict(file[name].attrs), file[name].dtype
        del file[name]
        file.create_dataset(name, (n,), dtype, chunks=(1 << 16,)).attrs.update(attributes)


def test_spikes_that_a_file_declares_are_not_read_for_years(recording):
    n = 10**12
    _declared(recording, "units/spike_times", n)
    with h5py.File(recording, "a") as file:
        file["units/spike_times_index"][-1] = min(n, np.iinfo(file["units/spike_times_index"].dtype).max)
        attributes = dict(file["units/spike_times_index"].attrs)
        bounds = file["units/spike_times_index"][:].astype("u8")
        bounds[-1] = n
        del file["units/spike_times_index"]
        index = file.create_dataset("units/spike_times_index", data=bounds)
        index.attrs.update({**attributes, "target": file["units/spike_times"].ref})
    with pytest.raises(DataError, match=r"spike times of 'units' need about 8,000 GB of memory, but this machine has"):
        read_nwb(recording)


def test_trials_that_a_file_declares_are_not_laid_out(recording):
    for name in ("id", "start_time", "stop_time"):
        _declared(recording, f"intervals/trials/{name}", 10**10)
    with pytest.raises(
        DataError, match=r"10000000000 rows of 'trials' need about 1e\+03 GB|rows of 'trials' need about"
    ):
        read_nwb(recording, trials=Trials(event="start_time", start=0.0, stop=1.0))


def test_a_fit_is_refused_before_it_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available_memory", lambda: 50_000)
    with pytest.raises(
        DataError, match=r"the fit, of size 24 × 12 × 6 \(trials × bins × channels\), would need about .* GB"
    ):
        fit(population(), settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert not (tmp_path / "run").exists()
