"""Bad electrodes and line noise, judged by parts; and lines taken out."""

import numpy as np
import pytest
from scipy.signal import welch

from nwb_sbtt.signals.blocks import SampleBlock
from nwb_sbtt.signals.crossings import shared_crossings
from nwb_sbtt.signals.notch import Notch, harmonics_in
from nwb_sbtt.signals.quality import bad_electrodes, line_noise, spectrum, traits
from tests.support.voltages import pink, probe

RATE = 1250.0


def field(seed, n_channels=24, n=10_000):
    """A field that changes along a probe, in noise of each electrode's own."""
    rng = np.random.default_rng(seed)
    where = np.linspace(0, 1, n_channels)
    deep, shallow = pink(n, 1, rng), pink(n, 1, rng)
    return (1 - where) * deep + where * shallow + 0.1 * rng.normal(size=(n, n_channels)), rng


def parts(values):
    return [traits(part, None) for part in np.array_split(values, 8)]


def spectra(values):
    return [spectrum(part, None, rate=RATE, highest=200) for part in np.array_split(values, 8)]


@pytest.mark.parametrize("seed", [61, 62, 63])
def test_dead_noisy_and_uncorrelated_electrodes_are_found_and_no_others(seed):
    values, _ = field(seed)
    assert not any(found.any() for found in bad_electrodes(parts(values), np.zeros(24, dtype=int)).values())
    values, bad = probe(8.0, rate=RATE, n_channels=24, seed=seed)
    found = bad_electrodes(parts(values), np.zeros(24, dtype=int))
    assert [np.flatnonzero(found[what]).tolist() for what in ("dead", "noisy", "uncorrelated")] == [
        [each] for each in bad
    ]


@pytest.mark.filterwarnings("error")
def test_electrodes_of_which_no_three_samples_follow_each_other_are_not_called_noisy():
    values, _ = field(65, n_channels=6)
    observed = np.arange(len(values))[:, None] % 2 == np.arange(6) % 2
    split = [
        traits(np.where(seen, part, 0), seen)
        for part, seen in zip(np.split(values, 8), np.split(observed, 8), strict=True)
    ]
    assert not any(found.any() for found in bad_electrodes(split, np.zeros(6, dtype=int)).values())


def test_electrodes_without_anything_in_common_are_not_called_uncorrelated():
    rng = np.random.default_rng(64)
    for values in (rng.normal(size=(8000, 6)), rng.normal(size=(8000, 6)).cumsum(axis=0)):
        assert not any(found.any() for found in bad_electrodes(parts(values), np.zeros(6, dtype=int)).values())


def test_missing_samples_make_no_electrode_bad():
    values, rng = field(65)
    observed = rng.random(values.shape) < 0.7
    holed = [
        traits(np.where(o, v, 0), o)
        for v, o in zip(np.array_split(values, 8), np.array_split(observed, 8), strict=True)
    ]
    assert not any(found.any() for found in bad_electrodes(holed, np.zeros(24, dtype=int)).values())


@pytest.mark.parametrize("line", [50.0, 60.0])
def test_lines_are_found_with_their_share_of_the_band(line):
    values, _ = field(66)
    times = np.arange(len(values))[:, None] / RATE
    assert line_noise(spectra(values), rate=RATE, band=(30, 200))[1].max() < 0.02
    hum = np.zeros(24)
    hum[:12] = 0.3
    values += hum * (np.sin(2 * np.pi * line * times) + 0.5 * np.sin(2 * np.pi * 3 * line * times))
    found, shares, harmonics = line_noise(spectra(values), rate=RATE, band=(30, 200))
    assert found == line and harmonics.tolist() == [line, 3 * line]
    frequencies, power = welch(values, RATE, nperseg=1250, axis=0)
    inside = (frequencies >= 30) & (frequencies <= 200)
    at_lines = inside & (np.abs(frequencies[:, None] - [line, 3 * line]).min(axis=1) <= 3)
    expected = power[at_lines].sum(axis=0) / power[inside].sum(axis=0)
    np.testing.assert_allclose(shares[:12], expected[:12], atol=0.12)
    assert shares[:12].min() > 0.15 and shares[12:].max() < 0.05


def test_a_notch_takes_lines_out_and_leaves_the_rest():
    rng = np.random.default_rng(67)
    n = 6000
    times = np.arange(n) / RATE
    rest = pink(n, 2, rng)
    # Its amplitude and phase drift.
    line = (1 + 0.3 * np.sin(2 * np.pi * 0.1 * times)) * sum(np.sin(2 * np.pi * k * 50.02 * times + k) for k in (1, 3))
    notch = Notch(harmonics_in(50.0, (0, 200)), rate=RATE, dtype=np.float64)
    observed = np.ones((n, 2), dtype=bool)
    observed[2000:2400, 1] = False
    observed[rng.random(n) < 0.1, 1] = False

    def block(values, start, stop):
        part = observed[start:stop]
        return SampleBlock(
            np.where(part, values[start:stop], 0.0),
            start,
            np.ones(stop - start, dtype=bool),
            np.array([1]),
            part[:, [1]],
            np.zeros((0, 1), dtype=bool),
        )

    whole = notch.apply(block(rest + line[:, None], 0, n))
    kept = observed[notch.margin : n - notch.margin]
    left = (whole.values - rest[notch.margin : n - notch.margin])[kept]
    assert whole.first == notch.margin and left.std() < 0.15 and (whole.values[~kept] == 0).all()
    part = notch.apply(block(rest + line[:, None], 700, 5000))
    start = 700 + notch.margin - whole.first
    np.testing.assert_allclose(part.values, whole.values[start : start + len(part.values)], atol=1e-9)


@pytest.mark.parametrize("rate", [1250.0, 1250.3, 1017.25, 999.0])
def test_a_notch_is_the_least_squares_fit_of_each_window_whatever_the_rate(rate):
    rng = np.random.default_rng(68)
    harmonics = harmonics_in(60.0, (100, 400))
    notch = Notch(harmonics, rate=rate, dtype=np.float64)
    n, half = 3 * notch.margin, notch.margin // 2
    times = np.arange(n)[:, None] / rate
    values = rng.normal(size=(n, 2)) + 3 * sum(np.sin(2 * np.pi * f * times + f) for f in harmonics)
    observed = np.ones((n, 2), dtype=bool)
    observed[:, 1] = rng.random(n) < 0.8
    gaps = observed[:, [1]]
    block = SampleBlock(values * observed, 0, np.ones(n, dtype=bool), np.array([1]), gaps, np.zeros((0, 1), dtype=bool))
    phases = 2 * np.pi * harmonics / rate * np.arange(notch.margin)[:, None]
    terms = np.concatenate([np.cos(phases), np.sin(phases), np.ones((notch.margin, 1))], axis=1)
    weights = np.sin(np.pi * (np.arange(notch.margin) + 0.5) / notch.margin) ** 2
    line = np.zeros((n, 2))
    for start in range(0, n - notch.margin + 1, half):
        rows = slice(start, start + notch.margin)
        for channel in range(2):
            root = np.sqrt(weights * observed[rows, channel])[:, None]
            fitted = np.linalg.lstsq(root * terms, root[:, 0] * values[rows, channel])[0]
            line[rows, channel] += weights * (terms[:, :-1] @ fitted[:-1])
    inner = slice(notch.margin, n - notch.margin)
    np.testing.assert_allclose(notch.apply(block).values, ((values - line) * observed)[inner], atol=3e-4)


def test_crossings_of_half_of_the_channels_within_a_slot_are_shared():
    rows = np.array([3, 4, 4, 5, 5, 40, 81, 82, 82, 83, 84])
    columns = np.array([0, 1, 2, 3, 4, 1, 0, 1, 2, 2, 1])
    assert shared_crossings(rows, columns, slot=10, n_channels=6) == 5
    assert shared_crossings(rows, columns, slot=10, n_channels=20) == 0
