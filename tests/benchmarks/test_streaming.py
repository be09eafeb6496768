import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_listing_a_file_takes_few_requests_and_few_of_its_bytes(tmp_path):
    streamed, fetched = rows_of(tmp_path, "streaming.py", "--small")
    assert fetched["to the storage"] == 1
    assert 1 <= fetched["share"] < 1.01
    assert streamed["to the storage"] <= 5
    assert streamed["share"] < 0.3
