"""The result of a fit: one model or an ensemble, in its run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import FitConfig
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.memory import ENSEMBLE, INFERENCE
from nwb_sbtt.data.origins import is_same_recording
from nwb_sbtt.data.schema import check_dataset, is_chopped
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError, FileError, MismatchError
from nwb_sbtt.evaluate.calibration import Calibration, Hidden
from nwb_sbtt.fitting.alignment import FitAlignment, align_members, read_alignment
from nwb_sbtt.fitting.calibrations import read_calibrations
from nwb_sbtt.fitting.device import device_of, torch_threads
from nwb_sbtt.fitting.ensemble import checkpoint_digest, combine
from nwb_sbtt.fitting.evaluation import evaluate
from nwb_sbtt.fitting.export import export
from nwb_sbtt.fitting.forward import forecast, simulate
from nwb_sbtt.fitting.hiding import hide_in_turn
from nwb_sbtt.fitting.labelling import chopped, labelled
from nwb_sbtt.fitting.member import Member
from nwb_sbtt.fitting.memory import memory_errors
from nwb_sbtt.fitting.preparation import (
    check_fits_memory,
    hold_out,
    prepare,
)
from nwb_sbtt.fitting.provenance import record_of
from nwb_sbtt.fitting.recorded import fitted_data, source_file
from nwb_sbtt.fitting.reporting import as_html, as_text, report_columns, report_data, table_of_methods, table_of_trials
from nwb_sbtt.fitting.scores import read_metrics
from nwb_sbtt.fitting.signature import Signature, channel_names, digest_of, equal_bin_widths, in_fitted_order, places_of
from nwb_sbtt.fitting.stream import Stream
from nwb_sbtt.models import Model
from nwb_sbtt.nn.likelihoods import LIKELIHOODS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Fitted:
    """A fitted model or ensemble, in its run folder.

    Printed, or shown in a notebook, it lists model, data, scores of model and baselines, checks, and the next calls.

    Parameters
    ----------
    members : tuple of Member
        One model, or the models of an ensemble.
    config : FitConfig
        Settings of the whole fit.
    run_dir : Path
        Run folder.
    signature : Signature
        Likelihood, sessions, channels and data of the fit.
    calibrations : mapping of session to Calibration
        Calibration of the sd of rates and means, fitted to errors at hidden entries; none for sessions with too few of them.
    alignment : FitAlignment or None
        How the factors of each session map to those of the reference; None if sessions were not aligned.
    """

    members: tuple[Member, ...]
    config: FitConfig
    run_dir: Path
    signature: Signature
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    alignment: FitAlignment | None = None

    def calibrated(self) -> Fitted:
        """Return this fit with the calibration of its run folder, if there is one.

        Raises
        ------
        FileError
            If the file of the calibration is damaged, was written by an earlier version, or belongs to different weights.
        """
        return replace(self, calibrations=read_calibrations(self.run_dir, checkpoint=self.checkpoint_sha256))

    def aligned(self) -> Fitted:
        """Return this fit with the alignment of its run folder, if there is one.

        Raises
        ------
        FileError
            If the file of the alignment is damaged, or belongs to different weights.
        """
        return replace(self, alignment=read_alignment(self.best.run_dir))

    def align(self, data: Mapping[str, xr.Dataset], *, condition: str, to: Fitted | None = None) -> Fitted:
        """Align the factors of all sessions by condition averages; `fit` does this if ``sessions.condition`` is set.

        The reference is the first session by name or, for a fit that started from another fit, the reference of that fit. The
        alignment is stored in the run folder; after that `infer` also returns ``aligned_factors``.

        Parameters
        ----------
        data : mapping of session to Dataset
            The data of the fit, with the trial coordinate `condition`.
        condition : str
            Trial coordinate that names each trial's condition, the same in all sessions.
        to : Fitted, optional
            An aligned fit whose reference is used instead; it may be a fit of any model. For two ensembles, members with the
            same number are aligned; otherwise all are aligned to its best member.

        Returns
        -------
        Fitted
            This fit with the alignment.

        Raises
        ------
        DataError
            If a session has no such coordinate.
        MismatchError
            If `data` do not contain all sessions, a session shares fewer than two conditions or no bins with the reference,
            or the other fit is not aligned by this column.
        """
        if set(data) != set(self.signature.sessions):
            raise MismatchError(
                f"got data of the sessions {list(data)}; expected the sessions of the fit, "
                f"{list(self.signature.sessions)}"
            )
        prepared = {name: prepare(self.match(data[name], name)[1], self.config) for name in self.signature.sessions}
        align_members(self, prepared, condition=condition, to=to)
        return self.aligned()

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    @property
    def best(self) -> Member:
        """The member with the lowest validation loss."""
        return min(self.members, key=lambda member: member.progress.best_score)

    @property
    def model(self) -> Model:
        """The model; for an ensemble, the model of its best member."""
        return self.best.model

    @property
    def history(self) -> list[dict[str, float]]:
        """Losses of every epoch; for an ensemble, those of its best member."""
        return self.best.history

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Return the losses of every epoch of each member, by the name of its folder."""
        return {member.run_dir.name: member.history for member in self.members}

    @property
    def split(self) -> pd.DataFrame:
        """Use of each trial, one row per trial: ``session``, ``trial`` (its id) and ``split``.

        ``split`` is "train", "valid" (the checkpoint was chosen on these), "test", or why a trial is not used.

        Raises
        ------
        FileError
            If version 0.1.0 wrote the run folder, without the split, and the data cannot be read again.
        """
        return table_of_trials(self)

    @property
    def scores(self) -> pd.DataFrame:
        """Scores of the model and the baselines, by method: ``session``, ``method``, ``name``, and one column per part.

        Parts are ``hidden`` (entries) and, if available, ``cosmoothing``, ``held_out``, ``forecast`` and
        ``rates_r2`` (for simulations); ``metric`` is the name of the score.

        Raises
        ------
        FileError
            If nothing was scored yet; call `evaluate` or `report` first.
        """
        return table_of_methods(self)

    def metrics(self, session: str | None = None) -> dict[str, Any]:
        """Return the result of `evaluate` that is stored in the run folder.

        Parameters
        ----------
        session : str, optional
            May be omitted if the model was fitted to one session.

        Returns
        -------
        dict
            See `nwb_sbtt.evaluate.summary.evaluate_latents`.

        Raises
        ------
        FileError
            If the session was not scored yet.
        MismatchError
            If there is no such session, or there are several and `session` is not given.
        """
        name = self.session_name(session)
        stored = read_metrics(self.run_dir)
        if name not in stored:
            raise FileError(
                f"the fit in {str(self.run_dir)!r} has no scores of session {name!r} yet; score it with "
                f"Fitted.evaluate(ds) or Fitted.report(), or with `nwb-sbtt evaluate {self.run_dir}`"
            )
        return dict(stored[name])

    def data(self, session: str | None = None, *, columns: str | Sequence[str] = ()) -> xr.Dataset:
        """Read the data of a session again from the file that it was fitted to.

        Parameters
        ----------
        session : str, optional
            May be omitted if the model was fitted to one session.
        columns : str or sequence of str
            Trial columns to read in addition to those of the fit, such as conditions.

        Returns
        -------
        Dataset
            With ``split`` and, for a simulated file, the true rates.

        Raises
        ------
        FileError
            If the data did not come from a file, or the file no longer exists.
        MismatchError
            If the data have changed since the fit; or if there are several sessions and `session` is not given.
        """
        name = self.session_name(session)
        columns = (columns,) if isinstance(columns, str) else columns
        return prepare(fitted_data(self, source_file(self, name), name, columns=columns), self.config)

    def report(
        self,
        ds: xr.Dataset | None = None,
        *,
        session: str | None = None,
        color_by: str | None = None,
        interactive: bool = False,
    ) -> list[Path]:
        """Score the fit, infer all trials, and write a report into the run folder.

        Parameters
        ----------
        ds : Dataset, optional
            The data of one session of the fit. Default: read again from their file.
        session : str, optional
            Fitted session. Default: the session of `ds` or, without data, all sessions.
        color_by : str, optional
            Trial column for the colours and the PSTHs. Default: ``condition``, if there is one.
        interactive : bool
            Add latents and traces that can be rotated and zoomed (needs plotly: the extra ``interactive``).

        Returns
        -------
        list of Path
            One HTML page per session.

        Raises
        ------
        FileError, MismatchError
            If the data cannot be read, or are not those of the fit; see `data`.
        """
        if ds is not None:
            data = {self.match(ds, session)[0]: ds}
        else:
            columns = report_columns(self, color_by)
            names = list(self.signature.sessions) if session is None else [self.session_name(session)]
            data = {name: self.data(name, columns=columns) for name in names}
        how: dict[str, Any] = {"color_by": color_by, "interactive": interactive}
        return [report_data(self, each, session=name, **how) for name, each in data.items()]

    @property
    def finished(self) -> str:
        """Reason why training ended; empty while it is unfinished."""
        reasons = [member.progress.finished for member in self.members]
        if len(reasons) == 1 or not all(reasons):
            return reasons[0] if len(reasons) == 1 else ""
        return "; ".join(f"{self.members[i].run_dir.name}: {reason}" for i, reason in enumerate(reasons))

    @property
    def unfinished(self) -> str:
        """Warning that training has not finished, and how to resume it; empty after training has finished."""
        if self.finished:
            return ""
        epochs = [member.progress.epoch for member in self.members if not member.progress.finished]
        return (
            f"Training has not finished: this is the best state of the first {min(epochs)} epochs; run the same fit again to "
            "resume it"
        )

    def infer(
        self,
        ds: xr.Dataset,
        *,
        session: str | None = None,
        samples: int | None = None,
        same_channels: bool = False,
    ) -> xr.Dataset:
        """Infer rates and latents of every trial from all observed entries of channels that are not held out.

        Parameters
        ----------
        ds : Dataset
            Any trials, with the channels of the fit in any order, and its bin width.
        session : str, optional
            Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
        samples : int, optional
            Number of posterior samples of each member that are averaged. Default: ``config.posterior_samples``.
        same_channels : bool
            Whether channels with the same ids are the same channels, although the data come from another recording.

        Returns
        -------
        Dataset
            Labelled as `ds`, with the same channels in the same order. With a lag, the chops of a session are inferred as one
            recording without seams: estimates depend on all earlier bins. ``rates`` [Hz] for counts, or ``mean`` in the unit of
            the data. If rates are inferred from fluorescence, ``rates`` too, and along ``channel`` the kinetics: ``decay`` and
            ``rise`` [s], ``gain``, ``baseline`` and ``noise`` in the unit of the data; from a ladder ``events`` (spikes per
            bin). For signals ``noise_sd`` along ``channel``: the sd of data around their mean, in the unit of the data.
            ``factors``, ``initial_condition``, with a controller ``inputs``; each with its posterior ``_sd`` if the model
            has one; and ``observed``. Rates of an ensemble are averages over its members (see
            `nwb_sbtt.fitting.ensemble.combine`); its latents are those of the member with the lowest validation loss, which is
            named in ``attrs["model"]``.

        Raises
        ------
        DataError
            If it is no Dataset of data.
        MismatchError
            If channels, bin width or recording are different from those of the fit.
        """
        name, matched = self.match(ds, session, same_channels=same_channels)
        check_fits_memory([matched], INFERENCE + (ENSEMBLE if len(self.members) > 1 else 0), what="inference")
        matched = hold_out(matched, self.config)
        if self.config.lag is not None and is_chopped(matched):
            whole = self.posterior(to_batch(merge(matched), name), samples)
            arrays = {key: chopped(array, matched) for key, array in whole.items()}
        else:
            arrays = self.posterior(to_batch(matched, name), samples)
        latents = labelled(self, matched, name, arrays)
        if list(channel_names(matched)) == list(channel_names(ds)):
            return latents
        return latents.isel(channel=places_of(channel_names(ds), channel_names(matched)))

    def match(
        self, ds: xr.Dataset, session: str | None = None, *, same_channels: bool = False
    ) -> tuple[str, xr.Dataset]:
        """Find the fitted session that data belong to, and put their channels into its order.

        Parameters
        ----------
        ds : Dataset
            Any trials, with the channels of the fit in any order, and its bin width.
        session : str, optional
            Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
        same_channels : bool
            Whether channels with the same ids are the same channels, although the data come from another recording.

        Returns
        -------
        session : str
        ds : Dataset

        Raises
        ------
        DataError
            If it is no Dataset of data.
        MismatchError
            If channels, bin width or recording are different from those of the fit.
        """
        check_dataset(ds)
        source = json.loads(ds.attrs.get("source", "{}"))
        name = self.session_name(session or self.session_of(source))
        return name, in_fitted_order(ds, self.signature.sessions[name], name=name, same_channels=same_channels)

    def stream(self, *, session: str | None = None) -> Stream:
        """Begin a stream: bins are given as they are recorded, one or a few at a time, and inferred at once.

        Parameters
        ----------
        session : str, optional
            May be omitted if the model was fitted to one session.

        Returns
        -------
        Stream
            At the first bin of a trial or of a recording.

        Raises
        ------
        ConfigError
            If the model has no lag (``model.lag``), or its likelihood is not one of counts or signals.
        MismatchError
            If there is no such session, or several and none is named.
        """
        return Stream(self, self.session_name(session))

    def export(self, path: Path | str, *, session: str | None = None, overwrite: bool = False) -> Path:
        """Write the fit as an ONNX file, which programs without this package run bin by bin (extra ``export``).

        A call takes ``values``, ``observed`` and ``exposure`` (channel), ``inputs`` (input) where there are known inputs, and
        ``state``: zeros before the first bin of a trial, then the ``next_state`` of the call before. It returns ``rates`` and
        ``rates_sd`` (Hz; of signals ``mean`` and ``mean_sd``) and ``factors`` of the bin `lag` bins before, NaN where there is
        none. Channels, inputs, bin width and lag stand in the file's metadata as JSON. Estimates equal those of `stream` to
        rounding.

        Parameters
        ----------
        path : path
            Ends in ``.onnx``.
        session : str, optional
            May be omitted if the model was fitted to one session.
        overwrite : bool
            Whether an existing file is replaced.

        Returns
        -------
        Path

        Raises
        ------
        ConfigError
            If the model has no lag, its likelihood is not one of counts or signals, or onnx or onnxscript is not installed.
        MismatchError
            If there is no such session, or several and none is named.
        FileError
            If the file exists, or cannot be written.
        """
        return export(self, path, session=self.session_name(session), overwrite=overwrite)

    def simulate(
        self,
        like: xr.Dataset | None = None,
        *,
        trials: int | None = None,
        start: ArrayLike | None = None,
        masked: bool = True,
        by: Literal["system", "markov"] = "system",
        session: str | None = None,
        seed: int = 0,
    ) -> xr.Dataset:
        """Simulate trials of the system that the fit has learned (``dynamics``); of an ensemble, that of its best member.

        Parameters
        ----------
        like : Dataset, optional
            Data whose bins, masks, exposure and known inputs the trials have. Default: the fitted recording, from its file.
        trials : int, optional
            Number of trials; those of `like` are repeated in turn. Default: as many as it has.
        start : array (trial, dimension), optional
            State in the first bin. Default: drawn from what is known of the starts of training trials.
        masked : bool
            Whether entries that `like` misses are missing here too; else all are observed.
        by : {"system", "markov"}
            The system, whose trials differ by their starts and inputs alone, or the hidden Markov model, which turns at random.
        session : str, optional
            Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
        seed : int

        Returns
        -------
        Dataset
            Data with the truth: ``true_rates`` [Hz], or ``true_mean`` in the unit of the signal, and ``true_latents`` (trial,
            time, latent): states in units of their sd over the training trials, or factors. Trials follow from 0 s on.

        Raises
        ------
        ConfigError
            If the fit has learned no system, or no hidden Markov model.
        DataError, FileError, MismatchError
            If data or starts do not suit, or the fitted recording cannot be read.
        """
        data = self.data(session) if like is None else like
        return simulate(self, data, trials=trials, start=start, masked=masked, by=by, session=session, seed=seed)

    def forecast(
        self,
        ds: xr.Dataset,
        *,
        bins: int,
        inputs: ArrayLike | None = None,
        session: str | None = None,
    ) -> xr.Dataset:
        """Continue trials beyond their last bin by the system that the fit has learned (``dynamics``).

        Its hidden Markov model takes part, by the share that forecasts the validation trials best.

        Parameters
        ----------
        ds : Dataset
        bins : int
            How many to forecast.
        inputs : array (trial, time, input), optional
            Known inputs of the forecast bins, NaN where unknown; needed where the fit has any.
        session : str, optional
            Fitted session that the channels belong to. Default: the session of the same recording, if there is one.

        Returns
        -------
        Dataset
            ``rates`` and ``rates_sd`` [Hz], or ``mean`` and ``mean_sd`` in the unit of the signal, for `interval`. ``time``
            goes on from that of `ds`.

        Raises
        ------
        ConfigError
            If the fit has learned no system, or is not finished.
        DataError, MismatchError
            If data or inputs do not suit.
        """
        return forecast(self, ds, bins=bins, inputs=inputs, session=session)

    def evaluate(
        self,
        ds: xr.Dataset,
        *,
        session: str | None = None,
        same_channels: bool = False,
        on: Literal["valid", "test"] = "valid",
        baselines: bool = True,
    ) -> dict[str, Any]:
        """Score the model and the baselines on the hidden entries of the validation trials, or of the test trials.

        Scores on the validation trials of the fitted data are stored in the run folder (``metrics.json``). The hidden entries
        of the validation trials are those that the checkpoint was chosen on. Hidden entries are hidden from the model and from
        the baselines, which have the lag of the model.

        Parameters
        ----------
        ds : Dataset
            The data of the fit.
        session : str, optional
            Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
        same_channels : bool
            Whether channels with the same ids are the same channels, although the data come from another recording.
        on : {"valid", "test"}
            Trials that are scored. Test trials were used neither for training nor to choose the checkpoint.
        baselines : bool
            Whether all baselines are scored, or only the mean.

        Returns
        -------
        dict
            JSON-safe; see `nwb_sbtt.evaluate.summary.evaluate_latents`.

        Raises
        ------
        DataError
            If it is no Dataset of data, or there are no test trials to score.
        MismatchError
            If channels, bin width or recording are different from those of the fit.
        """
        name, ds = self.match(ds, session, same_channels=same_channels)
        return evaluate(self, ds, name, baselines=baselines, on=on)

    def hide_in_turn(self, ds: xr.Dataset, *, session: str) -> Hidden:
        """Hide each shown entry once, a random fraction at a time in blocks, and predict it from the rest.

        Parameters
        ----------
        ds : Dataset
            Any trials, with the channels of the fit.
        session : str
            Fitted session that the channels belong to.

        Returns
        -------
        Hidden
            Predictions of the model without calibration; channels as in the fit.
        """
        return hide_in_turn(self, ds, session=session)

    def session_name(self, session: str | None = None) -> str:
        """Resolve the name of a fitted session.

        Parameters
        ----------
        session : str, optional
            May be omitted if the model was fitted to one session.

        Returns
        -------
        str

        Raises
        ------
        MismatchError
            If there is no session of that name, or there are several and `session` is not given.
        """
        names = list(self.signature.sessions)
        listed = ", ".join(map(repr, names))
        if session is None and len(names) > 1:
            raise MismatchError(
                f"the model was fitted to the sessions {listed}; name the session that these channels belong to, such "
                f"as session={names[0]!r} (--session {names[0]})"
            )
        if session is not None and session not in names:
            raise MismatchError(f"the model was not fitted to session {session!r}, but to {listed}")
        return str(session or names[0])

    def session_of(self, source: Mapping[str, Any]) -> str | None:
        """Find the one fitted session that was read from a recording.

        Parameters
        ----------
        source : mapping
            Record of the recording, with ``object_id`` or ``sha256``; see `nwb_sbtt.data.origins`.

        Returns
        -------
        str or None
            None if no session is known to come from it, or if several do.
        """
        found = [
            name for name, session in self.signature.sessions.items() if is_same_recording(source, session.source or {})
        ]
        return found[0] if len(found) == 1 else None

    def is_fitted_to(self, ds: xr.Dataset, *, session: str | None = None) -> bool:
        """Compare data with those that the model was fitted to.

        Parameters
        ----------
        ds : Dataset
        session : str, optional
            Fitted session to compare with.

        Returns
        -------
        bool
            Whether channels, bin width, values, masks and split are identical.
        """
        expected, data = self.signature.sessions[self.session_name(session)], prepare(ds, self.config)
        same_width = equal_bin_widths(data.attrs["bin_width"], expected.bin_width)
        return same_width and digest_of(data) == expected.data_sha256

    def record(self) -> dict[str, Any]:
        """Describe the model, for the provenance that `write_nwb` stores with a result.

        Returns
        -------
        dict
            JSON-safe: settings, software and its versions, digest of the weights, training curves, calibration.
        """
        return record_of(self, expected=self.expected_name)

    @property
    def checkpoint_sha256(self) -> str:
        """Digest of the weights; see `nwb_sbtt.fitting.ensemble.checkpoint_digest`."""
        return checkpoint_digest(self.run_dir, len(self.members))

    def posterior(self, batch: Batch, samples: int | None = None) -> dict[str, Tensor]:
        """Infer a batch, and average the members; not calibrated.

        Parameters
        ----------
        batch : Batch
        samples : int, optional
            Posterior samples; those of the settings by default.

        Returns
        -------
        dict of name to tensor
            See `nwb_sbtt.models.posterior.posterior`.
        """
        device = device_of(self.config)
        advice = "infer some of the trials at a time, or use shorter trials"
        with torch_threads(self.config.threads), memory_errors(DataError, device=device, advice=advice):
            batch = batch.to(device)
            posteriors = (member.posterior(batch, samples or self.config.posterior_samples) for member in self.members)
            if len(self.members) == 1:
                return next(posteriors)
            return combine(posteriors, expected=self.expected_name, latents_of=self.members.index(self.best))

    @property
    def expects_counts(self) -> bool:
        """Whether the data are counts, of which rates are inferred."""
        return LIKELIHOODS[self.signature.likelihood].expects_counts

    @property
    def expected_name(self) -> str:
        """What the expected values of the model are called in results."""
        return "rates" if self.expects_counts else "mean"
