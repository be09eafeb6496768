"""A fit as one ONNX file that takes a bin at a time, for rigs that do not have this package."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nwb_sbtt.atomic import atomic_write
from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.evaluate.calibration import MAX_VARIANCE, Calibration, CountCalibration, count_pattern
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.fitting.ensemble import combine
from nwb_sbtt.models.exporting import BinStep

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

LEAST_TORCH = (2, 6)
OPSET = 18
"""Version of the operators of ONNX that the file uses."""


class _Exported(nn.Module):
    """A bin of a fit: its members' estimates averaged and calibrated, as those of `nwb_sbtt.fitting.stream.Stream`."""

    of_mean: Tensor
    of_constant: Tensor
    of_slope: Tensor

    def __init__(self, fitted: Fitted, session: str):
        super().__init__()
        steps = [BinStep(member.model, session) for member in fitted.members]
        self.steps = nn.ModuleList(steps)
        self.sizes = [step.n_state for step in steps]
        self.counts, self.latents_of = fitted.expects_counts, fitted.members.index(fitted.best)
        self.bin_width = float(fitted.signature.sessions[session].bin_width)
        calibration = fitted.calibrations.get(session)
        self.scale = calibration.scale if isinstance(calibration, CountCalibration) else 1.0
        self.calibrated = calibration is not None
        for name, array in _of_channels(calibration).items():
            self.register_buffer(f"of_{name}", array)

    def forward(
        self, values: Tensor, observed: Tensor, exposure: Tensor, state: Tensor, inputs: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        seen = observed & ~torch.isnan(values)
        shown = seen.to(values.dtype)
        data = torch.where(seen, values, 0.0), shown, torch.where(seen, exposure, 1.0), inputs
        found, states = [], []
        for step, part in zip(self.steps, torch.split(state, self.sizes), strict=True):
            *estimate, after = step(*data, part)
            found.append(estimate)
            states.append(after)
        expected, sd, _, due = found[0]
        if len(found) > 1:
            arrays = ({"expected": each[0][None, None], "expected_sd": each[1][None, None]} for each in found)
            averaged = combine(arrays, expected="rates" if self.counts else "mean", latents_of=0)
            expected, sd = averaged["expected"][0, 0], averaged["expected_sd"][0, 0]
        sd = self._calibrated(expected, sd)
        unit = self.bin_width if self.counts else 1.0
        missing = torch.where(due > 0, 0.0, torch.nan)
        return (
            expected / unit + missing,
            sd / unit + missing,
            found[self.latents_of][2] + missing,
            torch.cat(states),
        )

    def _calibrated(self, expected: Tensor, sd: Tensor) -> Tensor:
        if not self.calibrated:
            return sd
        if not self.counts:
            return (self.of_constant + self.of_slope * sd**2).sqrt()
        log_variance = torch.log1p((sd / expected.clamp(min=torch.finfo(expected.dtype).tiny)) ** 2)
        pattern: Tensor = count_pattern(expected / self.of_mean, log_variance, self.of_constant, self.of_slope)
        return expected * (self.scale * pattern).clamp(max=MAX_VARIANCE).sqrt()


def export(fitted: Fitted, path: Path | str, *, session: str, overwrite: bool = False) -> Path:
    """Write a fit as an ONNX file; see `nwb_sbtt.Fitted.export`.

    Parameters
    ----------
    fitted : Fitted
    path : path
        Ends in ``.onnx``.
    session : str
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        If the model has no lag, its likelihood is not one of counts or signals, or the packages are not installed.
    FileError
        If the file exists, or cannot be written.
    """
    path = path_of(path, "the exported model")
    if path.suffix != ".onnx":
        raise ConfigError(f"the exported model is {str(path)!r}; expected a name that ends in .onnx")
    if path.exists() and not overwrite:
        raise FileError(f"{str(path)!r} exists; pass --overwrite (overwrite=True) to replace it, or another name")
    signature = fitted.signature.sessions[session]
    module = _Exported(fitted, session).eval()
    n_channels, n_inputs = len(signature.channels), len(signature.inputs)
    arguments: dict[str, Tensor] = {
        "values": torch.zeros(n_channels),
        "observed": torch.ones(n_channels, dtype=torch.bool),
        "exposure": torch.ones(n_channels),
        "state": torch.zeros(sum(module.sizes)),
    }
    if n_inputs:
        arguments["inputs"] = torch.zeros(n_inputs)
    estimate = "rates" if module.counts else "mean"
    facts = {
        "channels": list(signature.channels),
        "inputs": list(signature.inputs),
        "bin_width": signature.bin_width,
        "lag": fitted.config.lag,
        "unit": "Hz" if module.counts else "that of the data",
        "checkpoint_sha256": fitted.checkpoint_sha256,
        "nwb_sbtt": version("nwb_sbtt"),
    }
    program = _program(module, arguments, [estimate, f"{estimate}_sd", "factors", "next_state"])
    program.model.metadata_props.update({name: json.dumps(fact) for name, fact in facts.items()})
    with atomic_write(path, suffix=".onnx", parents=True) as temporary:
        program.save(temporary)
    return path


def _program(module: nn.Module, arguments: dict[str, Tensor], outputs: list[str]) -> Any:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError(
            'an export needs the packages onnx and onnxscript; install them: pip install "nwb_sbtt[export]"'
        ) from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < LEAST_TORCH:
        raise ConfigError(
            f"an export needs torch {'.'.join(map(str, LEAST_TORCH))} or newer, and this is {torch.__version__}; update torch"
        )
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            module,
            tuple(arguments.values()),
            dynamo=True,
            input_names=list(arguments),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own progress and versions from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _of_channels(calibration: Calibration | None) -> dict[str, Tensor]:
    if calibration is None:
        return {}
    names = ("mean", "constant", "slope") if isinstance(calibration, CountCalibration) else ("constant", "slope")
    return {
        name: torch.tensor(part, dtype=torch.float32) for name, part in zip(names, calibration.of_channels, strict=True)
    }
