"""Averages over posterior samples, with their sd."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.models.base import Inference, Model

TRIALS_AT_ONCE = 128
"""Of a pass (`Batch.pieces`)."""


def posterior(model: Model, batch: Batch, *, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Infer every trial from its shown entries.

    Parameters
    ----------
    model : Model
        Set to evaluation mode.
    batch : Batch
    samples : int
        Posterior samples to average; a model without a posterior is run once.
    generator : torch.Generator
        Source of the samples, on the device of the batch.

    Returns
    -------
    dict of name to tensor
        ``expected`` (trial, time, channel; per whole bin, in the data's unit), ``factors``, ``initial_condition`` and, with
        a controller, ``inputs``; each with its posterior sd as ``<name>_sd``, over samples or as predicted by the model. See
        also `nwb_sbtt.models.Model.estimates`.
    """
    arrays: dict[str, Tensor] = {}
    model.eval()
    with torch.no_grad():
        for rows in batch.pieces(TRIALS_AT_ONCE):
            part = batch.select(rows)
            piece = _inferred(model, part, samples, generator)
            for name, array in piece.items():
                # In place: pieces that are joined at the end take twice the memory.
                if name not in arrays:
                    arrays[name] = array.new_empty((len(batch.trials), *array.shape[1:]))
                arrays[name][rows] = array
    return arrays


def _inferred(model: Model, batch: Batch, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    if model.samples:
        return _sample_statistics(model, batch, samples, generator)
    return _arrays(model, model(batch), batch)


def _arrays(model: Model, inference: Inference, batch: Batch) -> dict[str, Tensor]:
    variance = inference.factor_variance
    arrays = {
        **model.estimates(inference, batch),
        "factors": inference.factors,
        "factors_sd": None if variance is None else variance.sqrt(),
        "initial_condition": inference.initial_condition,
        "inputs": inference.inputs,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _sample_statistics(model: Model, batch: Batch, samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Running mean and sd (Welford), so that memory does not grow with the number of samples."""
    mean: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    encoded = model.encode(batch)
    for n in range(1, samples + 1):
        for name, value in _arrays(model, model.generate(encoded, generator), batch).items():
            if n == 1:
                mean[name], squares[name] = value.clone(), torch.zeros_like(value)
            else:
                deviation = value - mean[name]
                mean[name] += deviation / n
                squares[name] += deviation * (value - mean[name])
    if samples > 1:
        mean |= {f"{name}_sd": (total / (samples - 1)).sqrt() for name, total in squares.items()}
    return mean
