"""How imaging is fitted: deconvolved events of fluorescence, or the series as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nwb_sbtt.config import AutoConfig, EventsConfig, FitConfig, ReadConfig
from nwb_sbtt.io.read.events import classify_series
from nwb_sbtt.models import MODELS
from nwb_sbtt.nn.likelihoods import LIKELIHOODS


def route(paths: Sequence[Path], read: ReadConfig, config: FitConfig) -> tuple[ReadConfig, list[str]]:
    """Choose how series of ROIs are read where the settings leave it open.

    Fluorescence and ΔF/F are deconvolved into events where the likelihood suits events or is left open. A model that infers
    spikes itself, or any other likelihood, is fitted to the series as it is. Series other than imaging stay as they are.

    Parameters
    ----------
    paths : sequence of Path
        NWB files that are fitted together.
    read : ReadConfig
    config : FitConfig

    Returns
    -------
    read : ReadConfig
        With settings of the events where they are inferred.
    remarks : list of str
        One line per series of ROIs: what it holds, how that was recognised, and how it is fitted.

    Raises
    ------
    FileError, SelectionError, DataError
        As `nwb_sbtt.read_nwb`.
    """
    if read.events is not None:
        return read, []
    series = [item for path in paths for item in classify_series(path, read).items()]
    likelihood, infers_spikes = config.likelihood.name, MODELS[config.model.name].infers_spikes
    suits_events = likelihood == AutoConfig().name or "events" in LIKELIHOODS[likelihood].suits
    fits_events = suits_events and not infers_spikes
    deconvolve = bool(series) and fits_events and all(content.signal != "events" for _, content in series)
    remarks = []
    for path, content in series:
        if content.signal == "events":
            treatment = "its events are fitted" if fits_events else "they are fitted as the settings say"
        elif deconvolve:
            treatment = "events are found in it by OASIS and fitted; --likelihood gaussian fits it as it is"
        else:
            treatment = f"the {config.model.name if infers_spikes else likelihood + ' likelihood'} takes it as it is"
        remarks.append(f"{path!r} holds {content.signal} ({content.reason}): {treatment}")
    return (read.model_copy(update={"events": EventsConfig()}) if deconvolve else read), remarks
