"""Kinetics as a part of a model: measured, stored with its weights, and not learned by gradients."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import nn

from nwb_sbtt.calcium.kinetics import Kinetics


class MeasuredKinetics(nn.Module):
    """Kinetics of a session's channels, as buffers.

    `rises` says whether any channel has a rise. It is a number of Python's, kept up to date beside the buffers, so that a
    training step need not wait for a tensor to choose its message passing.
    """

    def __init__(self, kinetics: Kinetics):
        super().__init__()
        for field in fields(Kinetics):
            self.register_buffer(field.name, getattr(kinetics, field.name).clone())
        self.rises = kinetics.rises
        self.register_load_state_dict_post_hook(_read_rises)  # type: ignore[no-untyped-call]

    @property
    def value(self) -> Kinetics:
        """As measured last."""
        return Kinetics(**{field.name: self.get_buffer(field.name) for field in fields(Kinetics)})

    def set(self, kinetics: Kinetics) -> None:
        """Replace them by kinetics that were measured again."""
        with torch.no_grad():
            for field in fields(Kinetics):
                self.get_buffer(field.name).copy_(getattr(kinetics, field.name))
        self.rises = kinetics.rises


def _read_rises(module: nn.Module, incompatible_keys: object) -> None:
    assert isinstance(module, MeasuredKinetics)
    module.rises = module.value.rises
