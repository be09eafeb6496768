"""Fluorescence to events: known truth comes back, masks are kept, and what is not there is not made up."""

import json

import numpy as np
import pytest
from scipy.signal import lfilter

from nwb_sbtt.calcium.decay import fit_decay, response
from nwb_sbtt.calcium.deconvolution import frames_between, known_indicator, running_baseline, usual_step
from nwb_sbtt.calcium.events import find_events
from nwb_sbtt.calcium.indicators import INDICATORS, UNKNOWN, Indicator, indicator_of
from nwb_sbtt.config import EventsConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import ConfigError, DataError, MismatchError

pytest.importorskip("oasis")
RATE = 30.0


def fluorescence(n=6000, *, decay=0.5, noise=0.1, spikes=0.5, channels=2, rise=0.0, seed=0):
    """True spikes and the fluorescence (sample, channel) that they make, at 30 Hz, on a baseline of 3."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(spikes / RATE, (n, channels)).astype(float)
    course = response(decay * RATE, rise * RATE, n=int(20 * decay * RATE))
    calcium = lfilter(course, [1.0], counts, axis=0)
    return counts, 3 + calcium + rng.normal(0, noise, counts.shape)


def dataset(values, observed=None, *, trials=1, **attrs):
    values = values.reshape(trials, -1, values.shape[-1])
    observed = np.ones(values.shape, bool) if observed is None else observed.reshape(values.shape)
    starts = np.arange(trials) * values.shape[1] / RATE
    return make_dataset(
        values,
        observed,
        bin_width=1 / RATE,
        kind="rois",
        trial_start=starts,
        channel_id=10 + np.arange(values.shape[2]),
        attrs={"unit": "a.u.", "signal": "fluorescence", **attrs},
    )


@pytest.mark.parametrize("threshold", [0.0, 3.0])
def test_spikes_come_back_as_events_of_their_size(threshold):
    counts, values = fluorescence()
    found = find_events(dataset(values), EventsConfig(threshold=threshold))
    sizes, known = found["values"].values[0], found["observed"].values[0]
    assert known[1:].all() and not known[0].any()
    for i in range(2):
        assert np.corrcoef(sizes[1:, i], counts[1:, i])[0, 1] > 0.9
        assert sizes[1:, i].sum() == pytest.approx(counts[1:, i].sum(), rel=0.15)
    residual = values - found["denoised"].values[0]
    np.testing.assert_allclose(residual.std(0), 0.1, rtol=0.15)
    assert abs(residual.mean()) < 0.02


@pytest.mark.parametrize("indicator", ["unknown", "GCaMP6s"])
def test_one_missing_frame_changes_events_only_about_it(indicator):
    _, values = fluorescence(noise=0.2, decay=0.8, rise=0.05, channels=1)
    observed = np.ones(values.shape, bool)
    observed[3000] = False
    config = EventsConfig(indicator=None if indicator == "unknown" else indicator)
    whole, found = (find_events(dataset(values, mask), config)["values"].values[0, :, 0] for mask in (None, observed))
    far = np.abs(np.arange(len(values)) - 3000) > 60
    np.testing.assert_allclose(found[far], whole[far], atol=0.01 * whole.max())
    assert np.corrcoef(found[observed[:, 0]], whole[observed[:, 0]])[0, 1] > 0.995


@pytest.mark.parametrize("levels", [0, 6, 16, 100])
@pytest.mark.parametrize("indicator", ["unknown", "GCaMP6s", "jGCaMP8f"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_traces_without_noise_and_coarse_ones_lose_no_sample(levels, indicator, noise):
    """With hardly any noise each deviation of the response from the model is many sds of it."""
    known = INDICATORS.get(indicator, INDICATORS["GCaMP6f"])
    _, values = fluorescence(3000, decay=known.decay, noise=noise, rise=0.3 * known.decay, channels=1)
    if levels:
        values = np.round((values - values.min()) / np.ptp(values) * levels)
    found = find_events(dataset(values, indicator=indicator))
    assert found["observed"].values[0, 1:].all()


@pytest.mark.parametrize("step", [0.05, 0.3])
def test_the_noise_of_rounded_traces_is_that_of_the_light_and_of_rounding(step):
    _, values = fluorescence(10_000, noise=0.2, channels=1)
    found = find_events(dataset(step * np.round(values / step)), EventsConfig(indicator="jGCaMP7s"))
    assert found["noise"].values[0] == pytest.approx(np.sqrt(0.2**2 + step**2 / 12), rel=0.1)


@pytest.mark.parametrize("decay", [0.15, 0.5, 1.2])
@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_decay_and_noise_are_found_whatever_the_prior_says(decay, noise):
    _, values = fluorescence(20_000, decay=decay, noise=noise, channels=1)
    found = find_events(dataset(values), EventsConfig(indicator="jGCaMP7s", rise_time=0.0))
    assert found["decay"].values[0] == pytest.approx(decay, rel=0.25)
    assert found["noise"].values[0] == pytest.approx(noise, rel=0.25)


def test_without_any_events_the_decay_is_that_of_the_indicator():
    values = np.random.default_rng(0).normal(3, 0.1, (2000, 1))
    indicator = Indicator("fast", 0.3, 0.0, 0.1)
    found = fit_decay(values[:, 0] - 3, np.ones(2000), rate=RATE, indicator=indicator, decay=None)
    assert found.decay == pytest.approx(0.3, rel=0.3)
    assert found.noise_sd == pytest.approx(0.1, rel=0.1)
    assert found.decay_log_sd <= 0.1


def test_noise_is_told_from_fast_calcium():
    """At 10 frames per second most of the power at high frequencies is calcium, not noise."""
    rng = np.random.default_rng(0)
    trace = lfilter([1], [1, -np.exp(-0.1 / 0.4)], rng.poisson(0.14, 20_000)) + rng.normal(0, 0.2, 20_000)
    found = fit_decay(trace, np.ones(20_000), rate=10.0, indicator=UNKNOWN, decay=None)
    assert found.noise_sd == pytest.approx(0.2, rel=0.15)
    assert found.decay == pytest.approx(0.4, rel=0.2)


def test_values_that_were_not_observed_have_no_effect():
    _, values = fluorescence(2000)
    observed = np.random.default_rng(1).random(values.shape) > 0.003
    observed[500:620] = False
    junk = np.where(observed, values, 1e6)
    one = find_events(dataset(np.where(observed, values, 0), observed))
    other = find_events(dataset(junk, observed))
    assert np.array_equal(one["values"].values, other["values"].values)
    known = one["observed"].values[0]
    # The first sample is left out, and the one after a gap that is longer than the decay.
    unknown = observed & ~known
    assert unknown[0].all() and unknown[620].all() and unknown.sum() == 4
    np.testing.assert_array_equal(np.isnan(one["denoised"].values[0]), ~observed)


def test_a_sample_between_two_missing_ones_has_no_event_but_others_about_a_gap_have():
    _, values = fluorescence(2000, channels=1)
    observed = np.ones(values.shape, bool)
    observed[[500, 502]] = False
    known = find_events(dataset(values, observed))["observed"].values[0, :, 0]
    assert np.flatnonzero(~known).tolist() == [0, 500, 501, 502]


def test_chops_and_overlaps_give_what_the_whole_session_gives():
    _, values = fluorescence(3000)
    whole = find_events(dataset(values))
    parts = find_events(dataset(values, trials=30))
    np.testing.assert_allclose(parts["values"].values.reshape(3000, 2), whole["values"].values[0], atol=1e-6)
    assert np.array_equal(parts["observed"].values.reshape(3000, 2), whole["observed"].values[0])
    starts = np.arange(0, 2901, 50)
    chopped = np.stack([values[start : start + 100] for start in starts])
    ds = make_dataset(
        chopped,
        np.ones(chopped.shape, bool),
        bin_width=1 / RATE,
        kind="rois",
        trial_start=starts / RATE,
        channel_id=[10, 11],
        attrs={"unit": "a.u."},
    )
    found = find_events(ds.isel(trial=np.random.default_rng(0).permutation(len(starts))))
    for trial in range(len(starts)):
        first = round(float(found["trial_start"].values[trial]) * RATE)
        expected = whole["values"].values[0, first : first + 100]
        np.testing.assert_allclose(found["values"].values[trial], expected, atol=1e-6)


def test_samples_known_to_within_a_bin_are_evenly_spaced_all_the_same():
    """Frames of 32.17 ms in bins of 10 ms: every third or fourth bin holds one."""
    times = np.floor(np.arange(2000) * 0.03217 / 0.01) * 0.01
    assert usual_step(times) == pytest.approx(0.03217, rel=0.01)
    assert (frames_between(times, usual_step(times)) == 1).all()
    coarse = np.floor(np.arange(2000) * 0.033 / 0.02) * 0.02
    assert (frames_between(coarse, usual_step(coarse)) == 1).all()
    lost = np.delete(times, [700, 1500])
    assert np.flatnonzero(frames_between(lost, usual_step(lost)) == 2).tolist() == [700, 1499]


@pytest.mark.parametrize("step", [1.0, 1.67])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_single_missing_samples_do_not_pass_for_longer_steps(step, share):
    kept = np.flatnonzero(np.random.default_rng(0).random(4000) >= share)
    times = np.floor(kept * step) / RATE
    assert usual_step(times) == pytest.approx(step / RATE, rel=0.005)


def test_one_frame_blanked_in_thirty_is_missing():
    times = np.flatnonzero(np.arange(3000) % 30 != 7) / RATE
    assert usual_step(times) == pytest.approx(1 / RATE)
    assert (frames_between(times, usual_step(times)) == 2).sum() == 100


def test_a_slow_drift_is_taken_for_the_baseline():
    counts, values = fluorescence(18_000, channels=1)
    drift = 1.5 * np.sin(np.arange(18_000) / RATE / 60)[:, None]
    found = find_events(dataset(values + drift))
    assert np.corrcoef(found["values"].values[0, 1:, 0], counts[1:, 0])[0, 1] > 0.85
    floor = running_baseline((values + drift)[:, 0], window=60 * RATE, smoothing=10)
    assert np.corrcoef(floor, drift[:, 0])[0, 1] > 0.9


def test_neuropil_is_taken_off():
    _, values = fluorescence(channels=1)
    rng = np.random.default_rng(3)
    around = lfilter([1], [1, -0.98], rng.gamma(0.1, 1, (6000, 1)), axis=0)
    ds = dataset(values + 0.7 * around)
    found = find_events(ds, neuropil=dataset(around))
    clean = find_events(dataset(values))
    np.testing.assert_allclose(found["values"].values, clean["values"].values, atol=1e-3)
    with pytest.raises(MismatchError, match="same trials, bins and channels"):
        find_events(ds, neuropil=dataset(around).assign_coords(channel_id=("channel", [4])))
    with pytest.raises(DataError, match="neuropil cannot be subtracted from"):
        find_events(ds.assign_attrs(signal="dF/F"), neuropil=dataset(around))
    with pytest.raises(DataError, match="was already subtracted when the data were read; omit the neuropil"):
        find_events(ds.assign_attrs(neuropil="0.7 of 'Neuropil'"), neuropil=dataset(around))


def test_with_a_threshold_no_event_is_smaller_than_said():
    for indicator in ("jGCaMP8f", "GCaMP6s"):
        _, values = fluorescence(noise=0.3, decay=0.8, rise=0.08)
        rise_time = 0.0 if indicator == "jGCaMP8f" else None
        found = find_events(dataset(values, indicator=indicator), EventsConfig(threshold=2.0, rise_time=rise_time))
        sizes, smallest = found["values"].values[0], found["smallest_event"].values
        positive = np.where(sizes > 0, sizes, np.inf).min(0)
        assert (positive > smallest).all()
        assert (smallest > 0).all()
        if indicator == "jGCaMP8f":
            np.testing.assert_allclose(smallest, 2.0 * found["noise"].values, rtol=0.05)


def test_events_say_what_they_are_and_how_they_came_about():
    _, values = fluorescence()
    ds = dataset(values, indicator="AAV-syn-jGCaMP8s", notes=json.dumps(["one"]))
    found = find_events(ds.assign(true_rates=ds["values"] * 2))
    assert found.attrs["signal"] == "events" and found.attrs["unit"] == "a.u."
    notes = json.loads(found.attrs["notes"])
    assert notes[0] == "one" and "jGCaMP8s" in notes[1]
    np.testing.assert_array_equal(found["rise"].values, INDICATORS["jGCaMP8s"].rise)
    assert EventsConfig(**json.loads(found.attrs["events"])) == EventsConfig()
    assert found["channel_id"].values.tolist() == [10, 11] and "true_rates" in found
    with pytest.raises(DataError, match="already"):
        find_events(found)


def test_a_channel_that_was_never_observed_stays_so():
    _, values = fluorescence()
    observed = np.ones(values.shape, bool)
    observed[:, 1] = False
    found = find_events(dataset(values, observed))
    assert not found["observed"].values[:, :, 1].any() and found["observed"].values[:, :, 0].any()
    assert np.isfinite(found["decay"].values).all()


def test_channels_that_cannot_be_used_are_unobserved_and_named():
    _, values = fluorescence(2000, channels=5)
    values[:, 1], values[:, 2] = 0.0, 500.0
    observed = np.ones(values.shape, bool)
    observed[:, 3], observed[20:, 4] = False, False
    found = find_events(dataset(values, observed))
    assert found["observed"].values[0, 1:, 0].all() and not found["observed"].values[0, :, 1:].any()
    assert np.isfinite(found["decay"].values).all()
    finite = np.isfinite(found["denoised"].values[0])
    assert finite[:, 0].all() and not finite[:, 1:].any(), "what was not found is NaN, not 0"
    assert (
        "4 of 5 ROIs cannot be used and are treated as missing: 11 (constant 0), 12 (constant 500), 13 (no sample), "
        "14 (20 samples, at least 32 are needed)"
    ) in json.loads(found.attrs["notes"])
    with pytest.raises(DataError, match="no events can be found: 4 of 4 ROIs cannot be used"):
        find_events(dataset(values, observed).isel(channel=slice(1, None)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GCaMP6f", "GCaMP6f"),
        ("AAV-syn-jGCaMP8s-WPRE", "jGCaMP8s"),
        ("gcamp 6s", "GCaMP6s"),
        ("jGCaMP7F", "jGCaMP7f"),
        ("XCaMP-Gf", "XCaMP-Gf"),
        ("GCaMP", "unknown"),
        ("GCaMP6f and GCaMP6s", "unknown"),
        ("GCaMP6fast", "GCaMP6f"),
        ("GCaMP6 slow", "GCaMP6s"),
        ("GCaMP6 (medium)", "GCaMP6m"),
        ("Ai148(TIT2L-GC6f-ICL-tTA2)", "GCaMP6f"),
        ("Ai93(TITL-GCaMP6f)-D", "GCaMP6f"),
        ("AAV9-syn-jGCaMP7b-WPRE", "jGCaMP7b"),
        ("GCaMP7c", "jGCaMP7c"),
        ("XCaMP-R", "XCaMP"),
        ("XCaMP", "XCaMP"),
        ("XCaMP-Gf0", "XCaMP"),
        ("pAAV.Syn.NES.jRCaMP1a.WPRE", "jRCaMP1a"),
        ("NES-jRGECO1a", "jRGECO1a"),
        ("jRCaMP1b", "unknown"),
        ("GCaMP6 family", "unknown"),
        ("GCaMP6 slower", "unknown"),
        ("", "unknown"),
    ],
)
def test_indicators_are_found_in_what_labs_write(text, name):
    assert indicator_of(text).name == name


def test_all_indicators_know_themselves_and_an_unknown_one_is_an_error_that_lists_them():
    for name, indicator in INDICATORS.items():
        assert indicator_of(name) is indicator
    with pytest.raises(ConfigError, match=r"'rhod-2' is unknown; available:"):
        known_indicator(EventsConfig(indicator="rhod-2"), "GCaMP6f")
    assert known_indicator(EventsConfig(decay_time=0.3, rise_time=0.01), "GCaMP6s").rise == 0.01


@pytest.mark.realdata
def test_events_of_a_suite2p_session_agree_with_those_of_suite2p(realdata):
    folder = realdata / "ophys"
    raw, around, spikes = (np.load(folder / f"suite2p_plane0_{name}.npy").T for name in ("F", "Fneu", "spks"))
    cells = np.load(folder / "suite2p_plane0_iscell.npy")[:, 0] > 0
    found = find_events(dataset(raw), EventsConfig(decay_time=1.0), neuropil=dataset(around))
    sizes, theirs = found["values"].values[0, 1:, cells], spikes[1:, cells].T
    active = (sizes > 0).any(1) & (theirs > 0).any(1)
    agreement = [np.corrcoef(one, other)[0, 1] for one, other in zip(sizes[active], theirs[active], strict=True)]
    assert len(agreement) >= 6 and np.median(agreement) > 0.7


def test_bursts_do_not_pass_for_a_slow_decay():
    rng = np.random.default_rng(0)
    rate = np.full(7200, 0.3)
    for start in np.flatnonzero(rng.random(7200) < 0.08 / RATE):
        rate[start : start + 18] += 12
    counts = rng.poisson(rate / RATE)
    trace = 0.3 * lfilter([1], [1, -np.exp(-1 / (0.14 * RATE))], counts) + rng.normal(0, 0.08, 7200)
    found = fit_decay(trace, np.ones(7200), rate=RATE, indicator=INDICATORS["jGCaMP8m"], decay=None)
    assert found.decay == pytest.approx(0.14, rel=0.3) and found.noise_sd == pytest.approx(0.08, rel=0.1)


def test_decays_of_few_frames_are_not_too_long():
    """Three frames in a decay, and frames that show half of a spike one later."""
    rng = np.random.default_rng(1)
    shown = [0.7, 1.0, *np.exp(-np.arange(1, 60) / 3)]
    counts = rng.poisson(0.02 + 0.3 * (np.arange(7200) % 400 < 18), (8, 7200))
    traces = 0.25 * np.array([np.convolve(row, shown)[:7200] for row in counts]) + rng.normal(0, 0.08, counts.shape)
    fits = [fit_decay(row, np.ones(7200), rate=RATE, indicator=INDICATORS["jGCaMP8f"], decay=None) for row in traces]
    ratios = np.array([fit.decay * RATE / 3 for fit in fits])
    assert ratios.mean() == pytest.approx(1, abs=0.12) and (np.abs(ratios - 1) < 0.3).all()


def test_runs_that_are_all_short_are_enough():
    counts, values = fluorescence(3000)
    observed = np.ones(values.shape, bool)
    observed[np.arange(3000) % 30 >= 27] = False
    found = find_events(dataset(np.where(observed, values, 0), observed))
    assert found["decay"].values == pytest.approx(0.5, rel=0.25) and found["noise"].values == pytest.approx(
        0.1, rel=0.2
    )
    sizes, known = found["values"].values[0], found["observed"].values[0]
    whole = find_events(dataset(values))["values"].values[0]

    def score(events):
        together = [np.where(known, x, 0).reshape(-1, 3, 2).sum(1) for x in (events, counts)]
        return np.array([np.corrcoef(together[0][:, i], together[1][:, i])[0, 1] for i in range(2)])

    assert (score(sizes) > score(whole) - 0.03).all()


@pytest.mark.parametrize("frames", [1, 6])
def test_flashes_are_unobserved_and_counted(frames):
    _, values = fluorescence(3000, channels=2)
    clean = find_events(dataset(values, indicator="GCaMP6f"))
    flashed, lit = values.copy(), np.arange(3000) % 300 >= 290 - frames
    lit &= np.arange(3000) % 300 < 290
    flashed[lit, 0] += 12
    found = find_events(dataset(flashed, indicator="GCaMP6f"))
    assert not found["observed"].values[0, lit, 0].any() and found["observed"].values[0, 1:-1, 1].mean() > 0.99
    known = found["observed"].values[0, :, 0]
    assert known.mean() > 0.9 * (1 - lit.mean())
    assert found["noise"].values[0] == pytest.approx(clean["noise"].values[0], rel=0.1)
    assert found["values"].values[0, known, 0].sum() == pytest.approx(
        clean["values"].values[0, known, 0].sum(), rel=0.1
    )
    notes = " ".join(json.loads(found.attrs["notes"]))
    assert (
        f"{10 * frames} samples in 1 of 2 ROIs are larger than noise and calcium can explain and are treated as"
        in notes
    )
    assert "at 10 moments about 10 s apart (a repeated artefact)" in notes


def test_blanked_frames_that_were_stored_as_0_are_unobserved():
    _, values = fluorescence(2000, channels=1)
    values[np.arange(2000) % 100 >= 97] = 0.0
    known = find_events(dataset(values, indicator="GCaMP6f"))["observed"].values[0, :, 0]
    assert not known[np.arange(2000) % 100 >= 97].any() and known.mean() > 0.95


def test_samples_at_a_ceiling_are_counted():
    _, values = fluorescence(3000, channels=1)
    found = find_events(dataset(np.minimum(values, 4.5)))
    assert "ROIs are saturated" in found.attrs["notes"]
    assert "saturated" not in find_events(dataset(values)).attrs["notes"]
