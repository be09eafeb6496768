"""Which channels to sample in the next bin: those expected to tell most of the latents, given the bins so far."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.bandwidth import CHOSEN, SCAN_DRAW, bin_numbers, check_unlimited, impose, uniform_draws
from nwb_sbtt.data.chops import cut_as, merge_chops
from nwb_sbtt.data.datasets import dataset_of, finite_number
from nwb_sbtt.data.schema import is_chopped
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.fitting.beliefs import Belief, MarkovBelief, StreamBelief
from nwb_sbtt.fitting.forward import fit_of
from nwb_sbtt.fitting.preparation import held_out_channels, hold_out
from nwb_sbtt.fitting.signature import channel_names, places_of
from nwb_sbtt.fitting.stream import Step, Stream, as_flags, as_numbers

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

EXPLORE = 0.3
"""Share of the samples that are drawn at random by default."""
EXPLORE_DRAW = SCAN_DRAW + 1
"""In place of the number of a channel, where it is drawn whether a sample explores; one number for each sample of a bin."""
Mask = NDArray[np.bool_]


def schedule(
    fitted: Fitted,
    *,
    budget: int,
    data: xr.Dataset | None = None,
    allowed: ArrayLike | None = None,
    explore: float = EXPLORE,
    session: str | None = None,
    seed: int = 0,
) -> Scheduler:
    """Choose the channels of each next bin by what they are expected to tell of the latents.

    Parameters
    ----------
    fitted : Fitted
        With a hidden Markov model, as fits to whole trials have by default, which then tells what is known from the bins so
        far. Or with a lag (``model.lag``), best 0: what is known is that of its stream.
    budget : int
        Channels sampled in a bin; fewer than there are.
    data : Dataset, optional
        Of a fit with a lag: its data, of which the dynamics of the factors are measured (training trials, where trials have a
        split). By default they are read again from their file.
    allowed : bool array (channel), optional
        Channels that may be sampled at all, in the order of `Scheduler.channels`. All by default, but for those that the fit
        holds out (``masks.held_out_channels``), of which nothing is inferred.
    explore : float
        Share of the samples whose channel is drawn at random, so that all channels are sampled, and a later fit can learn
        their read-outs. 0 for channels chosen only by what is known.
    session : str, optional
        May be omitted if the model was fitted to one session.
    seed : int
        Of the samples drawn at random.

    Returns
    -------
    Scheduler

    Raises
    ------
    ConfigError
        If the fit has neither a hidden Markov model nor a lag, or its likelihood is not one of counts or signals; or if
        `budget`, `allowed` or `explore` are out of range, or `fitted` is no fit.
    DataError, MismatchError
        If the data have other channels than those of the fit, or too few bins.
    FileError
        If a fit with a lag has no data given, and none to be read again.

    Examples
    --------
    >>> scheduler = sb.schedule(fitted, budget=2)  # doctest: +SKIP
    >>> while recording:  # doctest: +SKIP
    ...     channels = scheduler.next()
    ...     step = scheduler.step(device.sample(channels))
    """
    name = fit_of(fitted).session_name(session)
    return Scheduler(fitted, name, data=data, budget=budget, allowed=allowed, explore=explore, seed=seed)


class Scheduler:
    """Channels to sample, bin by bin; made by `nwb_sbtt.schedule`.

    What is not known of the next bin has the covariance P: of the state of a hidden Markov model, or of the factors of a
    stream (`nwb_sbtt.fitting.beliefs`). A sample of a channel with weights w and Fisher information λ tells ½ log(1 + λ wᵀPw)
    of it, if it is taken to be Gaussian. Channels are taken one after the other, each time the one that tells most:
    ½ log det(I + Σ λ w wᵀ P) of all is then at least 1 − 1/e of that of the best set, because the gain is submodular (Krause
    and Guestrin 2005, Uncertainty in Artificial Intelligence).

    Parameters
    ----------
    fitted : Fitted
    session : str
    data, budget, allowed, explore, seed
        As of `nwb_sbtt.schedule`.

    Attributes
    ----------
    channels : tuple
        Names of the channels, in the order of all masks.
    budget : int
        Channels sampled in a bin.

    Raises
    ------
    ConfigError, DataError, FileError, MismatchError
        See `nwb_sbtt.schedule`.
    """

    def __init__(
        self,
        fitted: Fitted,
        session: str,
        *,
        data: xr.Dataset | None = None,
        budget: int,
        allowed: ArrayLike | None = None,
        explore: float = EXPLORE,
        seed: int = 0,
    ):
        self._fitted, self._session = fitted, session
        self.channels: tuple[Any, ...] = tuple(fitted.signature.sessions[session].channels)
        if data is not None:
            dataset_of(data)
        self._allowed = self._flags_of_channels("allowed", allowed)
        n_channels = len(self.channels)
        self._held_out = held_out_channels(n_channels, fitted.config)
        n_allowed = int((self._allowed & ~self._held_out).sum())
        if not n_allowed:
            raise ConfigError(f"none of the {n_channels} channels may be sampled; allow one at least")
        is_whole = isinstance(budget, int | np.integer) and not isinstance(budget, bool)
        if not is_whole or not 1 <= budget <= min(n_allowed, n_channels - 1):
            raise ConfigError(
                f"budget is {budget!r}, with {n_channels} channels, of which {n_allowed} may be sampled; expected a whole "
                f"number from 1 to {min(n_allowed, n_channels - 1)}: channels sampled in each bin"
            )
        share = finite_number(explore)
        if share is None or not 0 <= share <= 1:
            raise ConfigError(f"explore is {explore!r}; expected a fraction between 0 and 1")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise ConfigError(f"seed is {seed!r}; expected a whole number")
        self.budget, self._explore, self._seed = int(budget), share, int(seed)
        self._belief: Belief
        if fitted.config.lag is None:
            self._belief = MarkovBelief(fitted, session)
        else:
            self._belief = StreamBelief(fitted, session, fitted.data(session) if data is None else data)
        self.reset()

    @property
    def stream(self) -> Stream | None:
        """What infers the bins of a fit with a lag."""
        return self._belief.stream if isinstance(self._belief, StreamBelief) else None

    def reset(self, first_bin: int = 0) -> None:
        """Begin a trial or a recording: nothing is known but what the training trials tell.

        Parameters
        ----------
        first_bin : int
            Number of the next bin on the session clock, which the channels drawn at random follow from.

        Raises
        ------
        ConfigError
            If `first_bin` is no whole number.
        """
        if isinstance(first_bin, bool) or not isinstance(first_bin, int | np.integer):
            raise ConfigError(f"first_bin is {first_bin!r}; expected a whole number")
        self._belief.reset()
        self._first = int(first_bin)
        self._chosen: Mask | None = None

    def next(self, available: ArrayLike | None = None) -> Mask:
        """Choose the channels of the next bin.

        Parameters
        ----------
        available : bool array (channel), optional
            Channels that can be sampled in this bin, such as those that have settled; all that are allowed by default.

        Returns
        -------
        bool array (channel)
            As many as the budget, or all that can be sampled. The same however often it is asked for.

        Raises
        ------
        ConfigError
            If `available` is not a bool for each channel.
        """
        can = self._allowed & ~self._held_out & self._flags_of_channels("available", available)
        n = min(self.budget, int(can.sum()))
        bins = np.array([self._first + self._belief.n_bins])
        drawn = int((uniform_draws(bins, EXPLORE_DRAW + np.arange(n), self._seed) < self._explore).sum())
        order = np.where(can, uniform_draws(bins, np.arange(len(can)), self._seed), np.inf)
        chosen = np.zeros(len(can), bool)
        chosen[np.argsort(order, kind="stable")[:drawn]] = True
        ahead = self._belief.ahead()
        for channel in np.flatnonzero(chosen):
            ahead, _ = ahead.sampled(int(channel))
        weights, information = ahead.weights, ahead.information
        spread = np.einsum("cf,cf->c", weights @ ahead.covariance, weights)
        for _ in range(n - drawn):
            best = int(np.where(can & ~chosen, information * spread, -np.inf).argmax())
            chosen[best] = True
            ahead, vector = ahead.sampled(best)
            spread = spread - np.square(weights @ vector)
        self._chosen = chosen
        return chosen.copy()

    def step(
        self,
        values: ArrayLike,
        observed: ArrayLike | None = None,
        exposure: ArrayLike | None = None,
        *,
        inputs: ArrayLike | None = None,
    ) -> Step:
        """Give the next bin, and infer from it. Only values of the chosen channels are used.

        Parameters
        ----------
        values : array (channel)
            As of `nwb_sbtt.fitting.stream.Stream.step`; anything at channels that were not chosen.
        observed : bool array (channel), optional
            Chosen channels that were measured indeed; by default wherever `values` is not NaN.
        exposure : array (channel), optional
        inputs : array (input), optional

        Returns
        -------
        Step

        Raises
        ------
        DataError
            As `Stream.step`; the scheduler is then as it was before.
        """
        chosen = self.next() if self._chosen is None else self._chosen
        array = as_numbers("values", values)
        if array.shape != chosen.shape:
            raise DataError(
                f"values have the shape {array.shape}; expected {chosen.shape}, one value of each channel of the fit in the "
                "order of scheduler.channels, one bin at a time"
            )
        shown = chosen & ~np.isnan(array)
        if observed is not None:
            flags = as_flags(observed)
            if flags.shape != chosen.shape:
                raise DataError(f"observed has the shape {flags.shape}; expected that of the values, {chosen.shape}")
            shown &= flags
        step = self._belief.step(array, shown, exposure, inputs)
        self._chosen = None
        return step

    def limit(self, ds: xr.Dataset, *, same_channels: bool = False) -> xr.Dataset:
        """Impose the schedule on data that were recorded in full, as `nwb_sbtt.data.limit_bandwidth` imposes others.

        Trials are scheduled one by one, each from its first bin, and a recording that was chopped as a whole. What is chosen
        in a bin follows only from the chosen entries of earlier bins. The state of this object stays as it is.

        Parameters
        ----------
        ds : Dataset
            With the channels of the fit in any order. Only what is observed can be chosen, and nothing of channels that are
            held out.
        same_channels : bool
            As of `nwb_sbtt.Fitted.infer`.

        Returns
        -------
        Dataset
            With ``attrs["bandwidth"]``, a JSON text of how channels were chosen.

        Raises
        ------
        DataError
            If a bandwidth limit was imposed before.
        MismatchError
            If channels, bin width or recording are different from those of the fit.
        """
        check_unlimited(dataset_of(ds))
        _, matched = self._fitted.match(ds, self._session, same_channels=same_channels)
        whole = merge_chops(matched)
        mask = self._masks(whole)
        if is_chopped(matched) and matched.sizes["trial"] > 1:
            mask = np.asarray(cut_as(mask, matched), bool)
        mask = mask[..., places_of(channel_names(ds), channel_names(matched))] & ds["observed"].values
        record: Mapping[str, Any] = {
            "scheme": CHOSEN,
            "k": self.budget,
            "explore": self._explore,
            "seed": self._seed,
            "checkpoint_sha256": self._fitted.checkpoint_sha256,
        }
        return impose(ds, mask, np.ones(len(mask), bool), record=record)

    def _masks(self, ds: xr.Dataset) -> Mask:
        """Channels chosen in each trial."""
        batch = to_batch(hold_out(ds, self._fitted.config), self._session)
        shown, values = batch.dense(batch.shown).numpy(), batch.dense(batch.values).numpy()
        exposure = ds["exposure"].values if "exposure" in ds else None
        inputs = np.where(ds["inputs_observed"], ds["inputs"], np.float32(np.nan)) if "inputs" in ds else None
        scheduler = copy.copy(self)
        scheduler._belief = self._belief.fresh()
        # `shown` leaves out those of these data, which may be marked in them.
        scheduler._held_out = np.zeros_like(self._held_out)
        masks = np.zeros(shown.shape, bool)
        for i, first in enumerate(bin_numbers(ds)[:, 0]):
            scheduler.reset(int(first))
            for t in range(len(values[i])):
                masks[i, t] = scheduler.next(shown[i, t])
                scheduler.step(
                    values[i, t],
                    masks[i, t],
                    None if exposure is None else exposure[i, t],
                    inputs=None if inputs is None else inputs[i, t],
                )
        return masks

    def _flags_of_channels(self, name: str, given: ArrayLike | None) -> Mask:
        if given is None:
            return np.ones(len(self.channels), bool)
        flags = np.asarray(np.ma.filled(given, False) if isinstance(given, np.ma.MaskedArray) else given)
        if flags.dtype != bool or flags.shape != (len(self.channels),):
            raise ConfigError(
                f"{name} has the shape {flags.shape} and type {flags.dtype}; expected a bool for each of {len(self.channels)} "
                "channels, in the order of scheduler.channels"
            )
        return flags
