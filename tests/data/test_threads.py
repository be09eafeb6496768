"""Work that threads share is all done, once and in order, and products go back to their own threads."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nwb_sbtt.data import threads
from nwb_sbtt.data.threads import in_threads, single_blas, split_range
from nwb_sbtt.signals.filters import Filter, LowPass


@pytest.mark.parametrize("n", [0, 1, 7, 1000])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_parts_of_a_range_are_the_range(n, size):
    parts = split_range(5, 5 + n, size=size)
    assert [number for part in parts for number in part] == list(range(5, 5 + n))
    assert all(len(part) % size == 0 for part in parts[:-1])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_come_in_the_order_of_their_parts(monkeypatch, n_threads):
    monkeypatch.setattr(threads, "n_threads", lambda: n_threads)
    assert in_threads(lambda part: part.start, split_range(0, 100)) == [part.start for part in split_range(0, 100)]


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_products_have_their_threads_again_when_the_last_is_done():
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        # One who came first and leaves first, as when two threads read.
        first, second = single_blas(), single_blas()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_threads_change_no_bit_of_what_is_filtered(monkeypatch):
    samples = np.random.default_rng(0).normal(size=(4000, 5)).astype(np.float32)
    filtered = []
    for n in (1, 4):
        monkeypatch.setattr(threads, "n_threads", lambda n=n: n)
        positions = np.arange(100, 3900, dtype=float)
        filtered.append(Filter(LowPass(cut=0.05, width=0.05)).apply(samples, first=0, positions=positions))
    assert (filtered[0] == filtered[1]).all()
