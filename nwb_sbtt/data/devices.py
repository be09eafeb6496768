"""Devices that record from many channels, with the power of their parts: published figures, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from nwb_sbtt.data.datasets import finite_number
from nwb_sbtt.errors import DataError

PARTS = ("amplifier", "converter", "radio", "constant")
"""Of a device, whose power adds up to its own."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """Power of a device that samples all its channels all the time [µW per channel], by parts.

    A part without a figure is None: it is unknown, and is left out of every total. Nothing is assumed in its place.

    Parameters
    ----------
    title : str
        What the figures belong to.
    amplifier : float, optional
        While it is switched on. It follows from bandwidth and noise, not from how often the amplifier is read (Even-Chen,
        Muratore, … Shenoy 2020, Nature Biomedical Engineering 4:984, doi:10.1038/s41551-020-0595-9, eq. 1 and fig. 4).
    converter : float, optional
        Of the analog-to-digital converter at the full rate; proportional to the number of conversions.
    radio : float, optional
        At the full rate; proportional to the number of bits sent.
    constant : float, optional
        What is always drawn: clock, control, leakage; and all that was measured together with these.
    settling : float, optional
        Seconds from switching an amplifier on to its first valid sample. A first-order high-pass filter with corner f
        settles to 1 % in ln(100) / (2πf): 1.5 ms at 500 Hz, .7 s at 1 Hz.
    sources : mapping of str to str
        Of a part (or "settling"), where its figure was published.

    Raises
    ------
    DataError
        If a figure is negative or not finite, no part has a positive one, or there is a source of a part without a figure.

    Examples
    --------
    >>> Device(title="my implant", amplifier=12.0, converter=1.5, radio=40.0).total
    53.5
    """

    title: str
    amplifier: float | None = None
    converter: float | None = None
    radio: float | None = None
    constant: float | None = None
    settling: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*PARTS, "settling"):
            figure = getattr(self, name)
            number = finite_number(figure)
            if figure is not None and (number is None or number < 0):
                unit = "seconds" if name == "settling" else "µW per channel"
                raise DataError(
                    f"{name} is {figure!r}; expected zero or a positive number of {unit}, or None if unknown"
                )
        if not self.total > 0:
            raise DataError(
                f"device {self.title!r} has no power; expected a positive figure of at least one of {', '.join(PARTS)}"
            )
        for name in self.sources:
            if name not in (*PARTS, "settling") or getattr(self, name) is None:
                raise DataError(f"there is a source of {name!r}, which has no figure; give both, or neither")

    @property
    def total(self) -> float:
        """Of all parts whose figure is known [µW per channel]."""
        return sum(getattr(self, part) or 0.0 for part in PARTS)


def published_devices() -> Mapping[str, Device]:
    """List devices whose power was published by parts, by first author and year.

    The figures are those of the sources, or follow from these as noted with each. No source was found that gives the
    settling time of an amplifier beside its power, so all devices leave it open: set it with
    ``dataclasses.replace(device, settling=…)``.

    Returns
    -------
    mapping of str to Device

    Examples
    --------
    >>> device = published_devices()["karpowicz_2024"]
    >>> device.amplifier, device.converter, device.radio
    (23.7, 3.8, None)
    """
    return _DEVICES


_KARPOWICZ = (
    "Karpowicz et al. 2024, J. Neural Eng. 21:066001, doi:10.1088/1741-2552/ad88a4, fig. 1, and its code "
    "github.com/snel-repo/power-calculations; constants by Nason et al. 2020, Nat. Biomed. Eng. 4:973, "
    "doi:10.1038/s41551-020-0591-0"
)
_WATTANAPANITCH = "Wattanapanitch and Sarpeshkar 2011, IEEE Trans. Biomed. Circuits Syst. 5(6):592-602, abstract"
_NEURALINK = "Musk and Neuralink 2019, J. Med. Internet Res. 21(10):e16194, doi:10.2196/16194"
_RADIO = (
    "an ultra-wideband impulse radio of 21 pJ per bit: arXiv:2212.01710, doi:10.48550/arXiv.2212.01710, abstract "
    "(130 nm CMOS, 230 Mb/s)"
)
_PER_BIT = 21e-6
"""µW s."""

_SPIKE_BAND = Device(
    title="design for spikes of 500 to 3000 Hz, computed from the state of the art",
    amplifier=23.7,
    converter=3.8,
    sources={
        "amplifier": f"{_KARPOWICZ}: noise efficiency factor 4, 2 µV of noise, 3.3 V",
        "converter": f"{_KARPOWICZ}: figure of merit 185 dB, 96 dB of signal to noise and distortion, 6 kS/s",
    },
)
_CHIP = Device(
    title="chip of 32 channels, measured; spikes, amplifiers at their lowest noise (5.4 µV)",
    amplifier=20.0,
    converter=0.483,
    sources={"amplifier": _WATTANAPANITCH, "converter": f"{_WATTANAPANITCH}: 8 bits, 31.25 kS/s"},
)


def _with_radio(device: Device, *, bits: int, rate: int) -> Device:
    return replace(
        device,
        title=f"{device.title}; with a radio, {bits} bits of each of {rate} samples a second",
        radio=_PER_BIT * bits * rate,
        sources={**device.sources, "radio": f"computed: {_RADIO}"},
    )


_DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "karpowicz_2024": _SPIKE_BAND,
        "karpowicz_2024_radio": _with_radio(_SPIKE_BAND, bits=16, rate=6000),
        "wattanapanitch_2011": _CHIP,
        "wattanapanitch_2011_radio": _with_radio(_CHIP, bits=8, rate=31250),
        "neuralink_2019": Device(
            title="chip of 256 channels, read by cable; converters were measured with all that is always on",
            amplifier=5.2,
            constant=6000 / 256 - 5.2,
            sources={
                "amplifier": f"{_NEURALINK}: an analog pixel",
                "constant": f"{_NEURALINK}: about 6 mW of the chip, clock drivers included, less its 256 analog pixels",
            },
        ),
    }
)
