"""Power that a recording device saves by sampling less, by parts, from the mask of the samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.data.devices import PARTS, Device, published_devices
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.suggestions import nearest


@dataclass(frozen=True, kw_only=True)
class Power:
    """Power of all channels of a device, by parts.

    Parameters
    ----------
    amplifier, converter, radio, constant : float, optional
        µW. A part whose figure is unknown is None, and not in `total`.
    """

    amplifier: float | None
    converter: float | None
    radio: float | None
    constant: float | None

    @property
    def total(self) -> float:
        """Of all parts whose figure is known [µW]."""
        return sum(getattr(self, part) or 0.0 for part in PARTS)


@dataclass(frozen=True, kw_only=True, repr=False)
class PowerSaved:
    """Power of a device at full sampling and with fewer samples, in three steps. Shown, it is a table.

    Parameters
    ----------
    device : Device
    n_channels : int
    sampled : float
        Share of the entries (trial, time, channel) that were sampled.
    amplifiers_on : float, optional
        Share of the time for which amplifiers are on if they are switched off between samples. None where the settling
        time is unknown.
    full : Power
        All channels are sampled in all bins.
    conversions : Power, optional
        Only conversions are dropped. None where the power of converters is unknown.
    radio : Power, optional
        And what was not sampled is not sent. None where the power of the radio is unknown.
    amplifiers : Power, optional
        And amplifiers are switched off, but for their settling time. None where their power or settling time is
        unknown.
    """

    device: Device
    n_channels: int
    sampled: float
    amplifiers_on: float | None
    full: Power
    conversions: Power | None
    radio: Power | None
    amplifiers: Power | None

    def share(self, limited: Power) -> float:
        """Share of the full power that is saved, of all parts whose figure is known.

        Parameters
        ----------
        limited : Power
            Such as `conversions`.

        Returns
        -------
        float
            Between 0 and 1.
        """
        return 1 - limited.total / self.full.total

    def __repr__(self) -> str:
        steps = {
            "all sampled": self.full,
            "fewer conversions": self.conversions,
            "and bits sent": self.radio,
            "and amplifiers off": self.amplifiers,
        }
        rows = [["µW", *steps]]
        for part in (*PARTS, "total"):
            rows.append([part, *("–" if step is None else _number(getattr(step, part)) for step in steps.values())])
        rows.append(["saved", *("–" if step is None else f"{self.share(step):.1%}" for step in steps.values())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{self.device.title}: {self.n_channels} channels, {self.sampled:.1%} of the entries sampled"]
        for name, *cells in rows:
            right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append("  ".join((name.ljust(widths[0]), *right)))
        unknown = [part for part in (*PARTS, "settling") if getattr(self.device, part) is None]
        return "\n".join([*lines, *([f"unknown, and not counted: {', '.join(unknown)}"] if unknown else [])])


def power_saved(ds: xr.Dataset, device: Device | str) -> PowerSaved:
    """Compute what a device saves by sampling less: in µW, by parts.

    Fewer samples save conversions and bits sent, and the power of amplifiers only where the device switches them off:

        power = amplifier · a + (converter + radio) · s + constant

    where `s` is the share of the entries (trial, time, channel) that were sampled and `a` the share of the time for which
    amplifiers are on: in each sampled bin, and for the settling time before each run of sampled bins, where the
    amplifier was not on already. This is where schemes of equal budget differ: a fixed subset switches its amplifiers once,
    a speckled one over and over, and leaves them on nearly always where they settle more slowly than the gaps are long.

    The share of samples dropped is not the power saved: a neural amplifier draws several times the power of its converter,
    so that dropping all conversions of a spike band saves 14 % of the two (``karpowicz_2024``). Zhu, Sedler et al. 2021
    argue for lower bandwidth with the power of implants, without a device's figures.

    Assumptions:

    * an amplifier's power does not depend on how often it is read; that of converter and radio is proportional to samples
      and bits (see `Device`);
    * switching costs only the time to settle, and which channels were sampled is not sent: both sides draw the same mask
      from a seed;
    * every entry counts as sampled by this device: the mask should come from `nwb_sbtt.data.limit_bandwidth` or the device;
    * each trial follows another with the same mask, whose last sample begins the gap before its first.

    Parameters
    ----------
    ds : Dataset
    device : Device or str
        Figures of a device, or the name of one of `published_devices`.

    Returns
    -------
    PowerSaved

    Raises
    ------
    DataError
        If there is no published device of that name.

    Examples
    --------
    >>> from nwb_sbtt.config import BandwidthConfig
    >>> from nwb_sbtt.data.bandwidth import limit_bandwidth
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = limit_bandwidth(lorenz(n_channels=20, conditions=2, trials_per_condition=2), BandwidthConfig(k=5))
    >>> power_saved(ds, "karpowicz_2024")
    design for spikes of 500 to 3000 Hz, computed from the state of the art: 20 channels, 25.0% of the entries sampled
    µW         all sampled  fewer conversions  and bits sent  and amplifiers off
    amplifier        474.0              474.0              –                   –
    converter         76.0               19.0              –                   –
    radio                –                  –              –                   –
    constant             –                  –              –                   –
    total            550.0              493.0              –                   –
    saved             0.0%              10.4%              –                   –
    unknown, and not counted: radio, constant, settling
    """
    dataset_of(ds)
    device = _known(device)
    sampled = check_dataset(ds)["observed"].values
    n_channels, share = sampled.shape[2], float(sampled.mean())
    on = None if device.settling is None else _amplifiers_on(sampled, device.settling / float(ds.attrs["bin_width"]))

    def power(amplifier: float = 1.0, converter: float = 1.0, radio: float = 1.0) -> Power:
        shares = {"amplifier": amplifier, "converter": converter, "radio": radio, "constant": 1.0}
        figures = {part: getattr(device, part) for part in PARTS}
        return Power(
            **{part: None if figures[part] is None else figures[part] * shares[part] * n_channels for part in PARTS}
        )

    return PowerSaved(
        device=device,
        n_channels=n_channels,
        sampled=share,
        amplifiers_on=on,
        full=power(),
        conversions=None if device.converter is None else power(converter=share),
        radio=None if device.radio is None else power(converter=share, radio=share),
        amplifiers=None if on is None or device.amplifier is None else power(on, share, share),
    )


def _known(device: Device | str) -> Device:
    if isinstance(device, Device):
        return device
    devices = published_devices()
    if not isinstance(device, str) or device not in devices:
        meant = nearest(str(device), devices)
        raise DataError(
            f"no published device is named {device!r}; expected "
            + (f"{meant[0]}, or another of " if meant else "")
            + f"{', '.join(devices)}; or pass a nwb_sbtt.data.Device with your own figures"
        )
    return devices[device]


def _number(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.1f}"


def _amplifiers_on(sampled: np.ndarray, settling: float) -> float:
    """Share of the time for which amplifiers are on; `settling` in bins.

    An amplifier without time to settle between two samples stays on. Before the first sample of a trial comes the end of
    another trial like it.
    """
    n_bins = sampled.shape[1]
    bins = np.arange(n_bins)[:, None]
    last = np.maximum.accumulate(np.where(sampled, bins, -1), axis=1)
    end = last[:, -1:]
    before = np.concatenate([end - n_bins, np.where(last < 0, end - n_bins, last)[:, :-1]], axis=1)
    # Bins between each entry and the last sampled one before it, for which its amplifier was off.
    gap = bins - before - 1
    warming = np.where(sampled, np.minimum(gap, settling), 0).sum()
    return float((sampled.sum() + warming) / sampled.size)
