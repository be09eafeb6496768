"""What is decompressed here is, bit for bit, what h5py reads, and what cannot be is left to h5py."""

import os
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from nwb_sbtt.io.read import chunks, slabs
from nwb_sbtt.io.read.chunks import can_decompress, contiguous_array, copy_bytes, read_rows
from nwb_sbtt.io.read.slabs import Slabs

PIPELINES = {
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "checksum": {"compression": "gzip", "fletcher32": True},
    "shuffle alone": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "chunked": {},
    "contiguous": {"chunks": None},
}
OURS = {"gzip", "gzip and shuffle"}
TYPES = ("<i2", ">i2", "<f4", ">f8", "u1", "?", "<i8")


def stored(path, data, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data, **{"chunks": (7, 4)[: data.ndim], **options})
    return h5py.File(path, "r")["data"]


def noise(dtype, shape):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_range_equals_what_h5py_reads(tmp_path, pipeline, dtype):
    # 45 and 10 are no multiples of 7 and 4: the last chunks are partly outside.
    for data in (noise(dtype, (45, 10)), noise(dtype, 45)):
        dataset = stored(tmp_path / f"{data.ndim}.h5", data, **PIPELINES[pipeline])
        assert can_decompress(dataset) == (pipeline in OURS)
        for first, stop in ((0, 45), (3, 5), (6, 8), (14, 21), (40, 45), (44, 45), (5, 5)):
            rows_read = np.empty((stop - first, data.size // 45), dtype=dtype)
            read_rows(dataset, first, stop, into=rows_read)
            assert (rows_read == data.reshape(45, -1)[first:stop]).all()


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("columns", [[0], [9], [0, 1, 2, 3], [2, 3, 4, 5], [9, 0, 5, 4], [4, 5, 6, 7]])
def test_columns_come_in_the_order_asked_for(tmp_path, pipeline, columns):
    data = noise("<i2", (45, 10))
    dataset = stored(tmp_path / "x.h5", data, **PIPELINES[pipeline])
    rows_read = np.empty((30, len(columns)), dtype=data.dtype)
    read_rows(dataset, 9, 39, into=rows_read, columns=np.array(columns))
    assert (rows_read == data[9:39, columns]).all()
    slabs = Slabs(dataset, columns=np.array(columns))
    assert slabs.n_columns == len(columns)
    for first, stop in ((0, 10), (5, 20), (19, 45), (3, 4)):
        assert (slabs.read(first, stop) == data[first:stop, columns]).all()
    transposed = Slabs(dataset, columns=np.array(columns), transposed=True)
    rows = [column % 10 for column in columns]
    assert (transposed.read(2, 8) == data[rows][:, 2:8].T).all()


def test_ranges_that_are_kept_are_read_once():
    class Counted:
        def __init__(self, data):
            self.data, self.shape, self.dtype, self.rows = data, data.shape, data.dtype, 0

        def __getitem__(self, part):
            self.rows += part.stop - part.start
            return self.data[part]

    data = noise("<i2", (45, 10))
    for limit, expected in ((15 * 10 * 2, 15), (15 * 10 * 2 - 1, 19)):
        counted = Counted(data)
        slabs = Slabs(counted)
        slabs.keep([(-2, 5), (30, 40)], limit=limit)
        for first, stop in ((0, 5), (30, 40), (1, 4), (32, 33)):
            assert (slabs.read(first, stop) == data[first:stop]).all()
        assert counted.rows == expected
        assert (slabs.read(3, 34) == data[3:34]).all() and counted.rows == expected + 31
        slabs.keep((), limit=0)
        rows = counted.rows
        assert (slabs.read(36, 39) == data[36:39]).all() and counted.rows == rows + 3


def test_chunks_without_a_wanted_column_are_not_touched(tmp_path, monkeypatch):
    dataset = stored(tmp_path / "x.h5", noise("<i2", (45, 10)), compression="gzip")
    decompressed = []
    inflate = chunks._decompressed
    monkeypatch.setattr(
        chunks, "_decompressed", lambda *words, **more: decompressed.append(1) or inflate(*words, **more)
    )
    read_rows(dataset, 0, 45, into=np.empty((45, 2), dtype="<i2"), columns=np.array([8, 9]))
    assert len(decompressed) == 7
    read_rows(dataset, 7, 14, into=np.empty((7, 10), dtype="<i2"))
    assert len(decompressed) == 7 + 3


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(45,), (45, 10)])
@pytest.mark.parametrize("userblock", [0, 1024])
def test_arrays_in_one_piece_are_copied_past_hdf5(tmp_path, monkeypatch, dtype, shape, userblock):
    data = noise(dtype, shape)
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=userblock) as file:
        file.create_dataset("before", data=np.arange(5))
        file.create_dataset("data", data=data)
    with h5py.File(tmp_path / "x.h5", "r") as file:
        monkeypatch.setattr(slabs, "read_rows", None)
        whole = Slabs(file["data"])
        for first, stop in ((0, 3), (2, 31), (31, 45)):
            assert (whole.read(first, stop) == data.reshape(45, -1)[first:stop]).all()


def test_arrays_that_do_not_lie_in_the_file_are_left_to_h5py(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("elsewhere", data=np.arange(9.0), external=[(tmp_path / "more.bin", 0, 72)])
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource(file["elsewhere"])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("unwritten", (9,), "f8", fillvalue=3.0)
        file.create_dataset("written", data=np.arange(9.0))
        assert contiguous_array(file["written"]) is None  # may still be in HDF5's memory
    with h5py.File(tmp_path / "x.h5", "r") as file:
        assert contiguous_array(file["written"]) is not None
        for name in ("elsewhere", "virtual", "unwritten"):
            assert contiguous_array(file[name]) is None
            assert (Slabs(file[name]).read(0, 9)[:, 0] == file[name][:]).all()
    with (tmp_path / "x.h5").open("rb") as stream, h5py.File(stream, "r") as file:
        assert contiguous_array(file["written"]) is None


def test_an_array_beyond_the_end_of_its_file_is_an_error(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("data", data=np.arange(90.0))
    with h5py.File(tmp_path / "x.h5", "r") as file:
        rows, array = np.empty((90, 1)), contiguous_array(file["data"])
        os.truncate(tmp_path / "x.h5", array.address + 700)
        with pytest.raises(OSError, match="incomplete"):
            copy_bytes(array, 0, into=rows)


def test_chunks_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("data", (45, 10), "i2", chunks=(7, 4), compression="gzip", fillvalue=5)
        made[:7] = 1
    dataset = h5py.File(tmp_path / "x.h5", "r")["data"]
    rows_read = np.empty((45, 10), dtype="i2")
    read_rows(dataset, 0, 45, into=rows_read)
    assert (rows_read[:7] == 1).all()
    assert (rows_read[7:] == 5).all()


def test_a_chunk_that_skipped_a_filter_is_left_to_h5py(tmp_path):
    data = noise("<i2", (14, 4))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("data", (14, 4), "<i2", chunks=(7, 4), compression="gzip")
        made[:7] = data[:7]
        made.id.write_direct_chunk((7, 0), data[7:].tobytes(), filter_mask=1)
    rows_read = np.empty_like(data)
    read_rows(h5py.File(tmp_path / "x.h5", "r")["data"], 0, 14, into=rows_read)
    assert (rows_read == data).all()


def test_a_file_that_is_streamed_is_left_to_h5py(tmp_path):
    data = noise("<i2", (45, 10))
    stored(tmp_path / "x.h5", data, compression="gzip")
    with (tmp_path / "x.h5").open("rb") as stream, h5py.File(stream, "r") as file:
        assert not can_decompress(file["data"])
        rows_read = np.empty_like(data)
        read_rows(file["data"], 0, 45, into=rows_read)
        assert (rows_read == data).all()


def test_a_damaged_chunk_is_an_error_and_not_a_number(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("data", (14, 4), "<i2", chunks=(7, 4), compression="gzip")
        made.id.write_direct_chunk((0, 0), b"not compressed at all")
        made[7:] = 1
    with pytest.raises(OSError, match="cannot be decompressed"):
        read_rows(h5py.File(tmp_path / "x.h5", "r")["data"], 0, 14, into=np.empty((14, 4), dtype="<i2"))


def test_a_chunk_is_inflated_to_its_declared_size_at_most(tmp_path):
    """A kilobyte of gzip stands for a megabyte; memory for its first bytes only is ever taken."""
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        dataset = file.create_dataset("data", shape=(64,), dtype="u1", chunks=(64,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24)))
    with h5py.File(tmp_path / "bomb.h5", "r") as file:
        tracemalloc.start()
        with pytest.raises(OSError, match="it holds more than 64 bytes, not 64"):
            read_rows(file["data"], 0, 64, into=np.empty((64, 1), dtype="u1"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


@pytest.mark.parametrize("content", ["whole", "damaged", "cut off"])
def test_without_isal_the_same_is_read(tmp_path, monkeypatch, content):
    pytest.importorskip("isal")
    data = noise("<i2", (7, 4))
    compressed = {
        "whole": zlib.compress(data.tobytes()),
        "damaged": b"x" * 40,
        "cut off": zlib.compress(bytes(56))[:-2],
    }
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("data", (7, 4), "<i2", chunks=(7, 4), compression="gzip")
        made.id.write_direct_chunk((0, 0), compressed[content])
    found = []
    for inflate in (chunks.inflate, zlib):
        monkeypatch.setattr(chunks, "inflate", inflate)
        rows_read = np.zeros((7, 4), dtype="<i2")
        if content == "whole":
            read_rows(h5py.File(tmp_path / "x.h5", "r")["data"], 0, 7, into=rows_read)
        else:
            with pytest.raises(OSError, match="cannot be decompressed"):
                read_rows(h5py.File(tmp_path / "x.h5", "r")["data"], 0, 7, into=rows_read)
        found.append((inflate.__name__, rows_read))
    assert [name for name, _ in found] == ["isal.isal_zlib", "zlib"]
    assert (found[0][1] == found[1][1]).all() and (content != "whole" or (found[0][1] == data).all())
