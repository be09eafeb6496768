"""Labelled, masked data: the Dataset and its rules, bins, trials, splits, joining, bandwidth limits.

* `schema`: the Dataset and its rules; `grid`: where bins lie, and the interface of a source of samples.
* `binning`, `counts`, `intervals`: events and samples in bins, fast counting, and the arithmetic of observed intervals.
* `trials`, `splits`, `joining`: windows and chops, training and validation trials, several series as one.
* `inputs`: known inputs beside the data, such as stimuli.
* `bandwidth`, `devices`, `power`: masks of devices that sample less, published figures of devices, and the power saved.
* `threads`: work shared out among threads.
* `tensors`: the bridge to torch, the only file here that imports it.

Imports `batch`, `config` and `errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "Device": "devices",
    "Power": "power",
    "PowerSaved": "power",
    "check_dataset": "schema",
    "limit_bandwidth": "bandwidth",
    "merge": "chops",
    "power_saved": "power",
    "published_devices": "devices",
    "split_by_label": "splits",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.data.bandwidth import limit_bandwidth as limit_bandwidth
    from nwb_sbtt.data.chops import merge as merge
    from nwb_sbtt.data.devices import Device as Device
    from nwb_sbtt.data.devices import published_devices as published_devices
    from nwb_sbtt.data.power import Power as Power
    from nwb_sbtt.data.power import PowerSaved as PowerSaved
    from nwb_sbtt.data.power import power_saved as power_saved
    from nwb_sbtt.data.schema import check_dataset as check_dataset
    from nwb_sbtt.data.splits import split_by_label as split_by_label
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
