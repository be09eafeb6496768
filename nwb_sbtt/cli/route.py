"""Which way imaging goes: events found in fluorescence, or the series as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nwb_sbtt.config import AutoConfig, EventsConfig, FitConfig, ReadConfig
from nwb_sbtt.io.read.events import classify_series
from nwb_sbtt.models import MODELS
from nwb_sbtt.nn.likelihoods import LIKELIHOODS


def route(paths: Sequence[Path], read: ReadConfig, config: FitConfig) -> tuple[ReadConfig, list[str]]:
    """Choose how ROIs are read from what their series hold, unless the settings say it, and say why, a line for each series.

    Events are found in fluorescence, and in ΔF/F, where the likelihood suits events or is left open; a model that
    infers spikes by itself, or any other likelihood, takes the series as it is. What is no imaging is left alone.

    Raises
    ------
    FileError, SelectionError, DataError
        As `nwb_sbtt.read_nwb`.
    """
    if read.events is not None:
        return read, []
    held = [each for path in paths for each in classify_series(path, read).items()]
    likelihood, infers_spikes = config.likelihood.name, MODELS[config.model.name].infers_spikes
    suits_events = likelihood == AutoConfig().name or "events" in LIKELIHOODS[likelihood].suits
    wanted = suits_events and not infers_spikes
    found = bool(held) and wanted and all(each.signal != "events" for _, each in held)
    lines = []
    for path, each in held:
        if each.signal == "events":
            taken = "its events are fitted" if wanted else "they are fitted as the settings say"
        elif found:
            taken = "events are found in it by OASIS and fitted; --likelihood gaussian fits it as it is"
        else:
            taken = f"the {config.model.name if infers_spikes else likelihood + ' likelihood'} takes it as it is"
        lines.append(f"{path!r} holds {each.signal} ({each.reason}): {taken}")
    return (read.model_copy(update={"events": EventsConfig()}) if found else read), lines
