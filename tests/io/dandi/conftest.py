"""A loopback archive for each test, and an environment in which nothing else can be reached."""

import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import keyring
import numpy as np
import pytest

from nwb_sbtt.io.dandi import transfer
from nwb_sbtt.io.write.writer import write_nwb
from tests.support.dandi.archive import Archive
from tests.support.latents import latents_of
from tests.support.nwbfiles import add_trials, add_units, new_file, write


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No telemetry, no proxy, no keyring, no cache but the test's own; no archive but one on loopback."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "DANDI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DANDI_NO_ET", "1")
    monkeypatch.setenv("DANDI_CACHE", "ignore")
    monkeypatch.setenv("DANDI_INSTANCE", "http://127.0.0.1:9/api")
    monkeypatch.setenv("NWB_SBTT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were to be waited before another try; nobody waits."""
    seconds: list[float] = []
    monkeypatch.setattr(transfer, "sleep", seconds.append)
    monkeypatch.setattr("dandi.dandiapi.sleep", seconds.append)
    monkeypatch.setattr("time.sleep", seconds.append)  # what the client's own trying again goes by
    return seconds


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[Archive]:
    """An empty archive, which addresses without a server mean.

    Garbage is not collected meanwhile: h5py holds its lock while it reads from a stream, and a thread of the archive that
    came to collect an HDF5 file would wait for that lock, and the stream for the thread.
    """
    gc.disable()
    try:
        with Archive() as served:
            monkeypatch.setenv("DANDI_INSTANCE", served.url)
            yield served
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recording, four units and ten trials, and made-up results for two of the units."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    nwbfile = new_file()
    add_units(nwbfile, [np.sort(rng.uniform(0, 10, 200)) for _ in range(4)])
    add_trials(nwbfile, np.arange(10), np.arange(10) + 0.9)
    recorded = write(nwbfile, folder / "recorded.nwb")
    latents = latents_of(recorded, [("units", "units", [0, 2])])
    source = {key: value for key, value in json.loads(latents.attrs["source"]).items() if key != "dandiset"}
    write_nwb(latents.assign_attrs(source=json.dumps(source)), folder / "latents.nwb", source=recorded)
    return folder


@pytest.fixture
def recording(made: Path, tmp_path: Path) -> Path:
    """The recording, in a folder of the test's own."""
    return Path(shutil.copy(made / "recorded.nwb", tmp_path))


@pytest.fixture
def content(made: Path) -> bytes:
    """Its bytes."""
    return (made / "recorded.nwb").read_bytes()


@pytest.fixture
def result(made: Path, tmp_path: Path) -> Path:
    """The results, as `write_nwb` writes them, in a folder of the test's own."""
    return Path(shutil.copy(made / "latents.nwb", tmp_path))
