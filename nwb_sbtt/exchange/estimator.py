"""`SBTT`: fits as scikit-learn does them, for arrays and pipelines."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nwb_sbtt.config import FitConfig, override
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.metrics import bits_per_spike, explained_variance
from nwb_sbtt.exchange.arrays import from_numpy
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.train.trackers import Silent

OUTPUTS = ("factors", "rates", "mean", "inputs", "events")
SESSION = "session"


class SBTT(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc,call-arg]
    """Fit a model to arrays with missing entries, and infer factors and rates.

    Models, training and scores are the same as in `nwb_sbtt.fit`. The run folder is temporary and is deleted with the
    estimator. NaN is missing; a zero is a measured zero.

    Parameters
    ----------
    model : str
        As `nwb-sbtt models` lists them: "conv" (the default), "lfads", "sae", …
    likelihood : str
        "auto" takes Poisson for units and Gaussian for other signals.
    bin_width : float
        Seconds; rates are in Hz.
    kind : "units", "electrodes", "rois" or "series"
        Type of the channels; values of units are counts.
    output : "factors", "rates", "mean", "inputs" or "events"
        What `transform` returns.
    seeds : int
        Number of models that are fitted and averaged.
    settings : str, sequence of str, or mapping
        Any other settings, as ``--set`` takes them: ``"train.epochs=50"``, a list of such, or ``{"train.epochs": 50}``.
    random_state : int
        Seed of data splits and training.

    Attributes
    ----------
    fitted_ : Fitted
        The fit itself.
    n_features_in_ : int
        Channels.

    Examples
    --------
    >>> estimator = SBTT(model="lfads", settings={"train.epochs": 20})
    >>> factors = estimator.fit(counts).transform(counts)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "conv",
        *,
        likelihood: str = "auto",
        bin_width: float = 0.02,
        kind: Kind = "units",
        output: Literal["factors", "rates", "mean", "inputs", "events"] = "factors",
        seeds: int = 1,
        settings: str | Sequence[str] | Mapping[str, object] = (),
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.likelihood = likelihood
        self.bin_width = bin_width
        self.kind = kind
        self.output = output
        self.seeds = seeds
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array (trial, time, channel) or (time, channel)
            One recording without trials is chopped with overlap.
        y : None
            Ignored.

        Returns
        -------
        SBTT
            The same, fitted.

        Raises
        ------
        ConfigError, DataError, TrainingError
            As `nwb_sbtt.fit` and `nwb_sbtt.exchange.arrays.from_numpy`.
        """
        if self.output not in OUTPUTS:
            raise ConfigError(f"output is {self.output!r}; expected one of {OUTPUTS}")
        ds, config = self._dataset(X), self._config()
        self._remove_folder()
        self._folder = tempfile.TemporaryDirectory(prefix="sbtt-", ignore_cleanup_errors=True)
        self.fitted_: Fitted = fit({SESSION: ds}, config, run_dir=Path(self._folder.name) / "run", tracker=Silent())
        self.n_features_in_ = ds.sizes["channel"]
        inferred = self.fitted_.infer(ds.isel(trial=slice(1)), session=SESSION)
        self._n_columns = {name: inferred[name].shape[-1] for name in OUTPUTS if name in inferred}
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Infer what `output` names.

        Parameters
        ----------
        X : array (trial, time, channel) or (time, channel)

        Returns
        -------
        array (trial, time, *) or (time, *)
            As `X` has trials or not; factors, or one column a channel.

        Raises
        ------
        DataError
            If the model does not infer `output`, or the channels are not those of the fit.
        """
        return self._infer(X, self.output)

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> NDArray[np.object_]:
        """Name the columns of what `transform` returns.

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the channels. Default: "x0", "x1", …

        Returns
        -------
        object array (column)
            Names of the channels where `transform` has a column for each, else "factor0", … or "input0", …

        Raises
        ------
        DataError
            If there are more or fewer names than channels, or the model does not infer `output`.
        """
        check_is_fitted(self, "fitted_")
        self._check_output(self._n_columns, self.output)
        if input_features is not None and np.shape(input_features) != (self.n_features_in_,):
            raise DataError(
                f"input_features has shape {np.shape(input_features)}; expected a name for each of "
                f"{self.n_features_in_} channels"
            )
        if self.output in ("factors", "inputs"):
            word = self.output.removesuffix("s")
            return np.array([f"{word}{i}" for i in range(self._n_columns[self.output])], dtype=object)
        names = [f"x{i}" for i in range(self.n_features_in_)] if input_features is None else input_features
        return np.array(names, dtype=object)

    def predict(self, X: ArrayLike) -> NDArray[np.floating]:
        """Infer rates [Hz], or the mean of signals.

        Parameters
        ----------
        X : array (trial, time, channel) or (time, channel)

        Returns
        -------
        array of the shape of `X`
        """
        check_is_fitted(self, "fitted_")
        return self._infer(X, "rates" if self.kind == "units" else "mean")

    def score(self, X: ArrayLike, y: object = None) -> float:
        """Score predictions of entries that are hidden from the model, each of them once.

        Parameters
        ----------
        X : array (trial, time, channel) or (time, channel)
        y : None
            Ignored.

        Returns
        -------
        float
            Bits per spike of counts; explained variance of signals, averaged over channels.
        """
        check_is_fitted(self, "fitted_")
        ds = self._dataset(X)
        hidden = self.fitted_.hide_in_turn(ds, session=SESSION)
        where = hidden.turn >= 0
        if self.kind == "units":
            return bits_per_spike(hidden.expected, hidden.values, where)
        return explained_variance(hidden.expected, hidden.values, where)

    def _infer(self, X: ArrayLike, name: str) -> NDArray[np.floating]:
        check_is_fitted(self, "fitted_")
        ds = self._dataset(X)
        latents = self.fitted_.infer(ds, session=SESSION)
        self._check_output(latents, name)
        if np.asarray(X).ndim == 2:
            return np.asarray(merge(latents)[name].values[0])
        return np.asarray(latents[name].values)

    def _check_output(self, inferred: Container[Any], name: str) -> None:
        if name not in inferred:
            available = [each for each in OUTPUTS if each in inferred]
            raise DataError(f"model {self.model!r} does not infer {name!r}; choose an output from {available}")

    def _dataset(self, X: ArrayLike) -> xr.Dataset:
        return from_numpy(X, bin_width=self.bin_width, kind=self.kind)

    def _config(self) -> FitConfig:
        base = [f"model.name={self.model}", f"likelihood.name={self.likelihood}"]
        config = override(FitConfig(), [*base, f"seeds={self.seeds}", f"seed={self.random_state}"])
        return override(config, self.settings)

    def _remove_folder(self) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = self.kind == "units"
        tags.non_deterministic = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and, of a fitted estimator, the files of its run folder: processes that share out a search copy it so."""
        state = {name: value for name, value in super().__getstate__().items() if name not in ("fitted_", "_folder")}
        if hasattr(self, "fitted_"):
            folder = self.fitted_.run_dir
            state["_files"] = {
                path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the files of the run folder into a new one, and load the fit from there."""
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="sbtt-", ignore_cleanup_errors=True)
        run_dir = Path(self._folder.name) / "run"
        for name, content in files.items():
            path = run_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.fitted_ = load(run_dir)
