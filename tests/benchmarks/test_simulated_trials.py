"""Whether simulated trials look like the recording: its measures, and a small run."""

import numpy as np
import pytest

from tests.support.processes import rows_of


def walks(seed, *, decay=0.8):
    random = np.random.default_rng(seed)
    rates = random.normal(size=(400, 30, 5)) @ np.array([[1, 0.8, 0, 0, 0], *np.eye(5)[1:]])
    for t in range(1, 30):
        rates[:, t] = decay * rates[:, t - 1] + np.sqrt(1 - decay**2) * rates[:, t]
    return 10 + 3 * np.linspace(-1, 1, 30)[:, None] + rates


def test_trials_of_one_kind_are_alike_and_others_are_not(script):
    measures, recorded = script("simulated_trials"), walks(0)
    alike, slower = measures.compare(recorded, walks(1)), measures.compare(recorded, 2 * walks(1, decay=0.95))
    assert alike["average"] > 0.95 > slower["average"]
    assert alike["mean"] == pytest.approx(1, abs=0.02) and slower["mean"] == pytest.approx(2, abs=0.05)
    assert alike["sd"] == pytest.approx(1, abs=0.05) and slower["sd"] == pytest.approx(2, abs=0.1)
    assert alike["correlations"] > 0.95
    assert alike["autocorrelation 1"] == pytest.approx(0.8, abs=0.02)
    assert slower["autocorrelation 1"] == pytest.approx(0.95, abs=0.02)
    assert measures.autocorrelation(recorded - recorded.mean(0), 5) == pytest.approx(0.8**5, abs=0.03)


@pytest.mark.parametrize("constant", [0.0, 7.3])
def test_channels_that_do_not_vary_and_lags_beyond_the_trial_are_left_out(script, constant):
    measures, recorded, rates = script("simulated_trials"), walks(0), walks(1)
    expected = measures.compare(recorded[:, :, :4], rates[:, :, :4])
    recorded[:, :, 4] = constant
    assert measures.compare(recorded, rates) == pytest.approx(expected)
    assert measures.compare(rates, recorded) == pytest.approx(measures.compare(rates[:, :, :4], recorded[:, :, :4]))
    short = measures.compare(recorded[:, :5], rates[:, :5])
    assert "autocorrelation 1" in short and "autocorrelation 5" not in short
    assert all(np.isfinite(value) for value in short.values())
    assert "correlations" not in measures.compare(recorded[:, :, 3:], rates[:, :, 3:])
    assert measures.compare(recorded[:, :, 4:], rates[:, :, 4:]) == {}


@pytest.mark.slow
def test_a_small_run_compares_recorded_and_simulated_trials(tmp_path):
    recorded, system, markov = rows_of(tmp_path, "simulated_trials.py", "--small", drawn=False)
    assert [row["trials"] for row in (recorded, system, markov)] == ["recorded", "system", "markov"]
    assert len({row["correlations"] for row in (recorded, system, markov)}) == 3
