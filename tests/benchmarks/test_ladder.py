"""The small version of the ladder's benchmark."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_spikes_are_found_by_a_ladder_that_is_told_nothing(tmp_path):
    (row,) = rows_of(tmp_path, "ladder.py", "--small")
    assert row["model"] == "ladder"
    assert row["spikes, r²"] > 0.9 and row["fluorescence, r²"] > 0.9


@pytest.mark.slow
def test_lfads_has_a_row_for_each_way_from_fluorescence_and_from_spikes(tmp_path):
    names = ["Gaussian LFADS", "OASIS + LFADS", "LFADS on spikes"]
    moments, events, spikes = rows_of(tmp_path, "ladder.py", "--small", "--models", *names)
    assert [row["model"] for row in (moments, events, spikes)] == names
    assert events["spikes, r²"] > 0.3 and moments["spikes, r²"] is None and spikes["fluorescence, r²"] is None
    assert 0 < moments["fluorescence, r²"] < 0.6 < events["fluorescence, r²"]
    assert all(row["rates, r²"] > 0 and row["latents, r²"] > 0 for row in (moments, events, spikes))
