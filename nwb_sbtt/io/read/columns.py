"""Columns of the trials with few values, added to data that were read without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from nwb_sbtt.config import ReadConfig, Trials
from nwb_sbtt.data.columns import has_few_values
from nwb_sbtt.errors import SbttError
from nwb_sbtt.io.read.conditions import describe_table
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.tables import plain_column
from nwb_sbtt.io.read.trials import trial_table

MOST_COLUMNS = 6
"""Most columns that are added."""


def attach_conditions(path: Path | str, ds: xr.Dataset, config: ReadConfig) -> xr.Dataset:
    """Add the columns of conditions to trials that were cut from a table: those with few values.

    Parameters
    ----------
    path : path
        The file that the data were read from.
    ds : Dataset
        With ``trial_id``, the ids of the table.
    config : ReadConfig
        They were read with.

    Returns
    -------
    Dataset
        With up to six columns more, in the order of the table; what cannot be read is left out.
    """
    if not isinstance(config.cut, Trials) or "trial_id" not in ds.coords:
        return ds
    added = {}
    with open_nwb(path, external_data=False) as nwbfile:
        try:
            table, _ = trial_table(nwbfile, config.cut)
            rows = {row_id: row for row, row_id in enumerate(plain_column(table, "id").tolist())}
            chosen = [rows[trial] for trial in ds["trial_id"].values.tolist()]
            names = [each.name for each in describe_table("", table).conditions]
        except (SbttError, OSError, KeyError):
            return ds
        for name in names:
            if name in ds.variables or name in ds.dims:
                continue
            values = plain_column(table, name)[np.array(chosen, dtype=np.intp)]
            if has_few_values(values):
                added[name] = ("trial", values)
    return ds.assign_coords(dict(list(added.items())[:MOST_COLUMNS]))
