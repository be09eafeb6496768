"""Settings of result files. Import them from `nwb_sbtt.config`, as all settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nwb_sbtt.config.base import Config


class WriteConfig(Config):
    """What of the results is written, and how it is stored."""

    variables: tuple[str, ...] | None = Field(
        default=None,
        description="Variables to write, such as rates, rates_sd, mean, factors, inputs. Default: all that were inferred.",
    )
    spikes: bool = Field(
        default=True,
        description=(
            "Whether the copy of the Units table includes the spike times. Ids, obs_intervals and labels are always "
            "copied."
        ),
    )
    compression: Literal["gzip", "blosc"] = Field(
        default="gzip",
        description="Compression of the arrays in HDF5 files. gzip can be read everywhere; blosc (with zstd) is faster, but "
        "needs hdf5plugin to write and to read. Zarr uses its own compression.",
    )
    precision: Literal["rounded", "full"] = Field(
        default="rounded",
        description="Precision of variables that have a posterior sd. rounded: rounding errors are at most 1/16 of "
        "the sd (and 3 % in the sd itself), and the file is about a third of the size. full: all digits of float32.",
    )
