"""What the voltages of a series are measured against, from the table of electrodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ElectricalConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.tables import plain_column
from nwb_sbtt.signals.reference import FEWEST, Montage

SHANK_COLUMNS = ("shank", "shank_id", "shank_ids", "shank_index", "shank_name")
DELAY_COLUMN = "inter_sample_shift"
"""Column of the table of electrodes with the delays of the converter, as parts of a sampling period."""
DEPTH_COLUMN = "rel_y"


def find_montage(
    config: ElectricalConfig, table: Any, rows: NDArray[np.intp], *, scale: NDArray[np.float64], dtype: np.dtype[Any]
) -> Montage | None:
    """Find the groups or pairs of electrodes that the settings ask for; None where they ask for none.

    Parameters
    ----------
    config : ElectricalConfig
    table : hdmf.common.DynamicTable
        Of electrodes.
    rows : int array (electrode)
        Row of each electrode of the series.
    scale : array (electrode)
        Volts per stored unit.
    dtype : dtype
        Of the arithmetic.

    Raises
    ------
    SelectionError
        If the column that electrodes shall be grouped by is not there.
    DataError
        If a group has too few electrodes, or delays are not numbers.
    """
    if config.reference == "none":
        return None
    groups, names = _groups(config.reference_by, table, rows)
    sizes = np.bincount(groups)
    if sizes.min() < FEWEST:
        raise DataError(
            f"{names[int(sizes.argmin())]!r} has {sizes.min()} electrode of the series, but a reference needs "
            f"{FEWEST}; use other groups (read.electrical.reference_by), or read without a reference"
        )
    outputs, partners = np.arange(len(rows)), np.empty(0, dtype=np.intp)
    if config.reference == "bipolar":
        outputs, partners = _pairs(groups, _depths(table, rows))
    return Montage(
        how=config.reference,
        groups=groups,
        scale=scale,
        delay=_delays(table, rows),
        outputs=outputs,
        partners=partners,
        dtype=dtype,
    )


def note_on_montage(config: ElectricalConfig, montage: Montage, path: str) -> str:
    """Say what the voltages of a series are measured against.

    Parameters
    ----------
    config : ElectricalConfig
    montage : Montage
    path : str
        Of the series.
    """
    n_groups = len(np.unique(montage.groups))
    by = "" if config.reference_by == "all" else f" within each {config.reference_by} ({n_groups} in all)"
    what = (
        f"each electrode minus the next one along the shank{by}"
        if montage.how == "bipolar"
        else f"relative to the common {montage.how} of the electrodes{by}"
    )
    delays = (
        f", after correction of the delays of the analog-to-digital converter ({DELAY_COLUMN})"
        if montage.delay.any()
        else ""
    )
    return f"{path!r}: voltages are {what}{delays} (read.electrical.reference)"


def _groups(by: str, table: Any, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], list[str]]:
    """Number of each electrode's group, and what the groups are called."""
    if by == "all":
        keys = ["the series"] * len(rows)
    elif by == "group":
        keys = [str(name) for name in plain_column(table, "group_name")[rows]]
    elif by == "probe":
        keys = _probes(table, rows)
    elif by == "shank":
        column = next((name for name in SHANK_COLUMNS if name in table.colnames), "shank")
        shanks = plain_column(table, column)[rows]
        keys = [f"{probe} {shank}" for probe, shank in zip(_probes(table, rows), shanks, strict=True)]
    else:
        keys = [str(value) for value in plain_column(table, by)[rows]]
    names, groups = np.unique(keys, return_inverse=True)
    return groups.astype(np.intp), names.tolist()


def _probes(table: Any, rows: NDArray[np.intp]) -> list[str]:
    groups = table["group"].data
    return [str(groups[int(row)].device.name) for row in rows]


def _delays(table: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """By which part of a sampling period each electrode is sampled later than the first of them."""
    if DELAY_COLUMN not in table.colnames:
        return np.zeros(len(rows))
    delays = plain_column(table, DELAY_COLUMN)[rows]
    if delays.dtype.kind not in "iuf" or not np.isfinite(delays.astype(float)).all():
        raise DataError(
            f"{DELAY_COLUMN} of {table.name!r} has {delays.dtype} values, or values that are not finite; expected "
            "delays as fractions of a sampling period; correct the column, or read without a reference "
            "(read.electrical.reference=none)"
        )
    return np.asarray(delays.astype(np.float64) - delays.min())


def _depths(table: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Where along the shank each electrode lies; in the order of the series, where the table does not tell."""
    if DEPTH_COLUMN in table.colnames:
        depths = plain_column(table, DEPTH_COLUMN)[rows]
        if depths.dtype.kind in "iuf" and np.isfinite(depths.astype(float)).all():
            return np.asarray(depths, dtype=np.float64)
    return np.arange(len(rows), dtype=np.float64)


def _pairs(groups: NDArray[np.intp], depths: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Electrodes that have a next one in their group along the shank, and that one."""
    order = np.lexsort((np.arange(len(groups)), depths, groups))
    paired = groups[order[1:]] == groups[order[:-1]]
    outputs, partners = order[:-1][paired], order[1:][paired]
    by_column = np.argsort(outputs)
    return outputs[by_column], partners[by_column]
