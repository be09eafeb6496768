"""One trained model in its run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nwb_sbtt.batch import Batch, generator_on
from nwb_sbtt.config import FitConfig
from nwb_sbtt.errors import FileError
from nwb_sbtt.fitting.device import device_of
from nwb_sbtt.fitting.ensemble import checkpoint_digest
from nwb_sbtt.fitting.preparation import likelihood_settings
from nwb_sbtt.fitting.runfolder import read_config, read_signature
from nwb_sbtt.fitting.signature import Signature
from nwb_sbtt.models import Model, make_model
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.models.mixture import mixed
from nwb_sbtt.models.posterior import posterior
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.train import checkpoint, schedules
from nwb_sbtt.train.checkpoint import BEST, DYNAMICS, Progress
from nwb_sbtt.train.dynamics import load_dynamics
from nwb_sbtt.train.loop import read_log


@dataclass(frozen=True)
class Member:
    """One trained model.

    Parameters
    ----------
    model : Model
        In evaluation mode, with its best weights.
    config : FitConfig
        Its own settings, with its training seed.
    run_dir : Path
        Folder that it was trained in.
    progress : Progress
        Epochs done, best score and reason for the end of training.
    dynamics : Dynamics or None
        System that was learned in training, which takes part in what is inferred; see `nwb_sbtt.models.mixture.mixed`.
    """

    model: Model
    config: FitConfig
    run_dir: Path
    progress: Progress
    dynamics: Dynamics | None = None

    @property
    def history(self) -> list[dict[str, float]]:
        """Numbers of every epoch, by name."""
        return [asdict(record) for record in read_log(self.run_dir, self.progress)]

    def posterior(self, batch: Batch, samples: int) -> dict[str, Tensor]:
        """Infer every trial of a batch.

        Parameters
        ----------
        batch : Batch
        samples : int
            Posterior samples to average.

        Returns
        -------
        dict of name to tensor
            See `nwb_sbtt.models.posterior.posterior`.
        """
        generator = generator_on(batch.device, self.config.training_seed)
        arrays = posterior(self.model, batch, samples=samples, generator=generator)
        return arrays if self.dynamics is None else mixed(self.model, self.dynamics, batch, arrays)

    def record(self) -> dict[str, Any]:
        """Describe this member of an ensemble for a result's provenance.

        Returns
        -------
        dict
            JSON-safe: folder, training seed, digest, best epoch and its loss (nats per scored entry), reason for the end.
        """
        return {
            "run": self.run_dir.name,
            "training_seed": self.config.training_seed,
            "checkpoint_sha256": checkpoint_digest(self.run_dir, 1),
            "best_epoch": self.progress.best_epoch,
            "valid_loss": self.progress.best_score,
            "finished": self.progress.finished,
        }


def load_member(run_dir: Path, signature: Signature) -> Member:
    """Load the best checkpoint of one model.

    Parameters
    ----------
    run_dir : Path
    signature : Signature
        Of the whole fit.

    Returns
    -------
    Member

    Raises
    ------
    FileError
        If the folder holds a fit of other data, or is damaged.
    """
    config = read_config(run_dir)
    if read_signature(run_dir).identity() != signature.identity():
        raise FileError(
            f"{str(run_dir)!r} has a fit of different data than the rest of its ensemble; restore the folder from a "
            "copy"
        )
    tensors, progress = checkpoint.load(run_dir / BEST)
    read_log(run_dir, progress)
    statistics = {
        name: blank_statistics(len(session.channels), len(session.inputs))
        for name, session in signature.sessions.items()
    }
    # With what training filled in: a model may leave its sizes open.
    settings = schedules.fill(config.model, signature.training_trials)
    model = make_model(settings, statistics, likelihood_settings(config, signature.likelihood))
    checkpoint.load_weights(model, tensors, run_dir / BEST)
    model = model.to(device_of(config)).eval()
    dynamics = None
    if config.system is not None and progress.first_epochs:
        of = checkpoint.digest(tensors) if progress.finished else None
        dynamics = load_dynamics(run_dir / DYNAMICS, model, config.system, of=of)
    return Member(model, config, run_dir, progress, dynamics)
