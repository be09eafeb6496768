"""Settings of result files. Import them from `nwb_sbtt.config`, as all settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nwb_sbtt.config.base import Config


class WriteConfig(Config):
    """What of the results is written, and how it is stored."""

    variables: tuple[str, ...] | None = Field(
        default=None,
        description="What is written: names such as rates, rates_sd, mean, factors, inputs. Default: all that was inferred.",
    )
    spikes: bool = Field(
        default=True,
        description="Whether the copy of the units has their spike times. Ids, obs_intervals and labels are always copied.",
    )
    compression: Literal["gzip", "blosc"] = Field(
        default="gzip",
        description="How arrays of HDF5 files are compressed. Every reader has gzip; blosc (with zstd) is faster and needs "
        "hdf5plugin to be written and to be read. Zarr has a compressor of its own.",
    )
    precision: Literal["rounded", "full"] = Field(
        default="rounded",
        description="Digits of what has a posterior sd. rounded: errors are at most a sixteenth of the sd, and 3 % of the sd "
        "itself, and the file is about a third as large. full: all digits of float32.",
    )
