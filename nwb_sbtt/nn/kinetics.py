"""Kinetics as a part of a model: measured, stored with its weights, and not learned by gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import nn

from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.sessions import SessionTables


class MeasuredKinetics(nn.Module):
    """Kinetics of the channels of each session, as buffers.

    Whether any channel of a session has a rise is a number of Python's, kept up to date beside the buffers, so that a
    training step need not wait for a tensor to choose its message passing.

    Parameters
    ----------
    statistics : mapping of session name to ChannelStatistics
        With the kinetics (channel) of each session.
    """

    def __init__(self, statistics: Mapping[str, ChannelStatistics]):
        super().__init__()
        self.tables = SessionTables()
        self._rises: dict[str, bool] = {}
        for session, stats in statistics.items():
            kinetics = kinetics_of(stats)
            for field in fields(Kinetics):
                self.tables[session, field.name] = getattr(kinetics, field.name).clone()
            self._rises[session] = kinetics.rises
        self.register_load_state_dict_post_hook(_read_rises)  # type: ignore[no-untyped-call]

    def __getitem__(self, session: str) -> Kinetics:
        return Kinetics(**{field.name: self.tables[session, field.name] for field in fields(Kinetics)})

    def rises(self, session: str) -> bool:
        """Whether any channel of a session has a rise.

        Parameters
        ----------
        session : str

        Returns
        -------
        bool
        """
        return self._rises[session]

    def set(self, session: str, kinetics: Kinetics) -> None:
        """Replace those of a session by kinetics that were measured again.

        Parameters
        ----------
        session : str
        kinetics : Kinetics
            Of the session's channels.
        """
        with torch.no_grad():
            for field in fields(Kinetics):
                self.tables[session, field.name].copy_(getattr(kinetics, field.name))
        self._rises[session] = kinetics.rises

    def read_rises(self) -> None:
        """Look again for a rise, after the buffers were loaded."""
        self._rises = {session: self[session].rises for session in self._rises}


def kinetics_of(stats: ChannelStatistics) -> Kinetics:
    """Give the kinetics among the statistics of channels whose values are fluorescence.

    Parameters
    ----------
    stats : ChannelStatistics

    Returns
    -------
    Kinetics

    Raises
    ------
    ValueError
        If there are none: the statistics were measured for another model.
    """
    if stats.kinetics is None:
        raise ValueError(
            "the statistics hold no kinetics; measure them with the model's or the likelihood's own `measure`"
        )
    return stats.kinetics


def _read_rises(module: nn.Module, incompatible_keys: object) -> None:
    assert isinstance(module, MeasuredKinetics)
    module.read_rises()
