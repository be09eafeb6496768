"""Simulated imaging as a microscope's pipeline would leave it: a plane, its ROIs, and their fluorescence frame by frame."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, PlaneSegmentation, RoiResponseSeries

from nwb_sbtt.io.write.packing import pack_hdf5

MODULE, SERIES, OFFSETS = "ophys", "dff", "sampling_time_offset"
INDICATOR = "none (simulated calcium that decays exponentially)"


def add_imaging(nwbfile: NWBFile, ds: xr.Dataset) -> PlaneSegmentation:
    """Add the fluorescence of simulated cells to a file, and the plane and ROIs that it is of.

    A frame begins half a bin after a bin's start, so that each sample lies in the middle of its bin; the table's column
    ``sampling_time_offset`` says how long after its frame each ROI is sampled. What was not observed is NaN.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    ds : Dataset
        Of `nwb_sbtt.simulate.calcium.calcium`, its trials in the order of time.

    Returns
    -------
    pynwb.ophys.PlaneSegmentation
        Table of the ROIs.
    """
    width, frame = float(ds.attrs["bin_width"]), int(ds.attrs["frame"])
    offsets = ds["sampling_offset"].values.astype(float)
    data, times = _frames(ds, frame=frame, phases=np.round(offsets / width).astype(int))
    plane = nwbfile.create_imaging_plane(
        name="ImagingPlane",
        description="Simulated cells; their masks stand for places.",
        optical_channel=OpticalChannel(name="green", description="simulated", emission_lambda=510.0),
        device=nwbfile.create_device(name="Microscope", description="None: the data are simulated."),
        excitation_lambda=920.0,
        indicator=INDICATOR,
        location="nowhere (simulation)",
        imaging_rate=1 / (frame * width),
    )
    module = nwbfile.create_processing_module(MODULE, "Simulated imaging.")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    relative = DfOverF(name="DfOverF")
    module.add(relative)
    table = segmentation.create_plane_segmentation(
        name="PlaneSegmentation", description="Simulated cells.", imaging_plane=plane
    )
    for i, cell in enumerate(ds["channel_id"].values.tolist()):
        table.add_roi(id=int(cell), pixel_mask=[(2 * i, i, 1.0), (2 * i + 1, i, 1.0)])
    table.add_column(
        name=OFFSETS, description="Seconds after its frame at which the ROI is sampled.", data=offsets.tolist()
    )
    region = table.create_roi_table_region(region=list(range(len(offsets))), description="All cells.")
    series = RoiResponseSeries(
        name=SERIES,
        description="Fluorescence of each cell in each frame, in units of what a spike adds to it.",
        data=pack_hdf5(data),
        unit="a.u.",
        rois=region,
        timestamps=pack_hdf5(times),
    )
    relative.add_roi_response_series(series)
    return table


def _frames(
    ds: xr.Dataset, *, frame: int, phases: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Samples (frame, ROI) of all trials, and the frames' times [s]."""
    n_trials, n_bins, n_rois = ds["values"].shape
    width, n_frames = float(ds.attrs["bin_width"]), -(-n_bins // frame)
    values = np.where(ds["observed"].values, ds["values"].values, np.float32("nan"))
    padded = np.full((n_trials, (n_frames + 1) * frame, n_rois), np.float32("nan"))
    padded[:, :n_bins] = values
    bins = np.arange(n_frames)[:, None] * frame + phases
    data = padded[:, bins, np.arange(n_rois)].reshape(-1, n_rois)
    times = ds["trial_start"].values[:, None] + (np.arange(n_frames) * frame + 0.5) * width
    return data, times.reshape(-1)
