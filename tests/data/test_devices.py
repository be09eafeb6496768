"""Published devices have sources that fit their figures; impossible figures are refused."""

import math
import re
from dataclasses import fields, replace

import pytest

from nwb_sbtt.data.devices import PARTS, Device, published_devices
from nwb_sbtt.errors import DataError

DEVICES = published_devices()


@pytest.mark.parametrize("name", DEVICES)
def test_every_figure_of_a_published_device_has_a_source(name):
    device = DEVICES[name]
    known = {part for part in (*PARTS, "settling") if getattr(device, part) is not None}
    assert set(device.sources) == known
    for text in device.sources.values():
        assert re.search(r"\b(19|20)\d\d\b", text) or "arXiv:" in text
        assert re.search(r"doi:10\.\d{4,}/\S+|\d+\(\d+\):\d+", text), text


def test_the_design_for_spikes_follows_from_its_published_equations():
    device = DEVICES["karpowicz_2024"]
    # Steyaert and Sansen's noise efficiency factor: 4, at 2 µV, a thermal voltage of 26.7 mV, 310 K and 3.3 V.
    current = (4 / 2e-6) ** 2 * math.pi * 26.7e-3 * 4 * 1.38e-23 * 310 * (3000 - 500) / 2
    assert device.amplifier == pytest.approx(1e6 * 3.3 * current, abs=0.05)
    # Schreier's figure of merit: 185 dB, with 96 dB of signal to noise and distortion.
    assert device.converter == pytest.approx(1e6 * 3000 / 10 ** ((185 - 96) / 10), abs=0.05)
    assert device.converter / device.total == pytest.approx(0.14, abs=0.005)


def test_a_radio_is_added_and_changes_nothing_else():
    for name in ("karpowicz_2024", "wattanapanitch_2011"):
        with_radio, without = DEVICES[f"{name}_radio"], DEVICES[name]
        assert with_radio.radio > 0 and without.radio is None
        for part in ("amplifier", "converter", "constant", "settling"):
            assert getattr(with_radio, part) == getattr(without, part)
    # 21 pJ for each of 16 bits, 6000 times a second.
    assert DEVICES["karpowicz_2024_radio"].radio == pytest.approx(2.016)


def test_the_total_is_that_of_the_known_parts():
    assert Device(title="mine", amplifier=2.0, constant=3.0).total == 5
    neuralink = DEVICES["neuralink_2019"]
    assert neuralink.converter is None and neuralink.total == pytest.approx(6000 / 256)


def test_published_devices_cannot_be_changed():
    with pytest.raises(TypeError):
        DEVICES["mine"] = Device(title="mine", amplifier=1.0)
    assert replace(DEVICES["karpowicz_2024"], settling=0.001).settling == 0.001
    assert DEVICES["karpowicz_2024"].settling is None


@pytest.mark.parametrize("name", [each.name for each in fields(Device) if each.name not in ("title", "sources")])
@pytest.mark.parametrize("figure", [-1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(name, figure):
    with pytest.raises(DataError, match=rf"{name} is {figure}; expected zero or a positive number of"):
        Device(**{"title": "mine", "amplifier": 1.0, name: figure})


def test_a_device_without_power_is_refused():
    for figures in ({}, {"settling": 0.1}, {"radio": 0.0}):
        with pytest.raises(DataError, match="device 'mine' has no power"):
            Device(title="mine", **figures)


def test_a_source_without_a_figure_is_refused():
    for part in ("radio", "battery"):
        with pytest.raises(DataError, match=f"a source of '{part}', which has no figure"):
            Device(title="mine", amplifier=1.0, sources={part: "a paper"})
