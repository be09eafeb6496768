"""Where states of trials are on their way, without Ray."""

import pytest

from nwb_sbtt.config import FitConfig, SearchConfig
from nwb_sbtt.errors import ClusterError
from nwb_sbtt.searching.record import Record
from nwb_sbtt.searching.space import make_space
from nwb_sbtt.searching.storage import storage_of

FIT = FitConfig()


def record(storage=None, seed=0):
    search = SearchConfig(storage=storage, seed=seed)
    return Record(search, FIT, make_space([], FIT, strategy="optuna"), {"monday": "abc"})


def test_states_are_in_the_folder_of_the_search_and_gone_at_the_end(tmp_path):
    with storage_of(record(), tmp_path) as storage:
        (tmp_path / ".states" / storage.name).mkdir(parents=True)
        assert storage.place == str(tmp_path / ".states")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_search_has_a_folder_of_its_own_in_a_storage_and_finds_it_again(tmp_path, prefix):
    pytest.importorskip("pyarrow")
    place = tmp_path / "storage"
    names = []
    for seed in (0, 1, 0):
        with storage_of(record(f"{prefix}{place}", seed), tmp_path / "first") as storage:
            assert storage.place == f"{prefix}{place}"
            (place / storage.name).mkdir()
            (place / storage.name / "state").write_text("left")
            names.append(storage.name)
            if not seed and len(names) == 1:
                (place / "of another").mkdir()
    assert names[0] == names[2] != names[1]
    assert [path.name for path in place.iterdir()] == ["of another"]


def test_what_a_killed_process_left_is_removed_first(tmp_path):
    pytest.importorskip("pyarrow")
    left = storage_of(record(str(tmp_path / "storage")), tmp_path / "first")
    storage = left.__enter__()  # and never left
    folder = tmp_path / "storage" / storage.name
    folder.mkdir()
    with storage_of(record(str(tmp_path / "storage")), tmp_path / "first"):
        assert not folder.exists()


def test_a_storage_that_cannot_be_used_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "file").write_text("no folder")
    for place, reason in (
        ("foo://bucket", "Unrecognized filesystem"),
        (str(tmp_path / "file"), "Cannot create directory"),
    ):
        with (
            pytest.raises(ClusterError, match=f"cannot use the storage '.*': .*{reason}"),
            storage_of(record(place), tmp_path),
        ):
            pass
