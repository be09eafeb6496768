import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import nwb_sbtt as sb
from nwb_sbtt.errors import ConfigError, DataError, MismatchError
from nwb_sbtt.exchange.estimator import SBTT

FAST = {"train.epochs": 2, "model.factors": 3}


@pytest.fixture(scope="module")
def counts():
    """Forty trials of eight units that share one oscillation; a third of the entries is missing."""
    rng = np.random.default_rng(0)
    phase = rng.random((40, 1, 1)) * 2 * np.pi
    rates = np.exp(np.cos(phase + np.arange(25)[:, None] / 4 + np.arange(8)) - 1)
    return np.where(rng.random(rates.shape) < 1 / 3, np.nan, rng.poisson(rates))


@pytest.fixture(scope="module")
def fitted(counts):
    return SBTT(model="sae", settings=FAST).fit(counts)


def test_factors_rates_and_a_score_of_hidden_entries(fitted, counts):
    assert fitted.transform(counts).shape == (40, 25, 3)
    rates = fitted.predict(counts[:5])
    assert rates.shape == (5, 25, 8) and (rates > 0).all()
    # Rates are Hz: their mean is that of the counts over the width of a bin.
    assert rates.mean() == pytest.approx(np.nanmean(counts) / 0.02, rel=0.2)
    assert -1 < fitted.score(counts) < 1
    assert fitted.n_features_in_ == 8


def test_the_same_seed_gives_the_same_numbers_and_parameters_are_kept(fitted, counts):
    other = clone(fitted).set_params(settings=["train.epochs=2", "model.factors=3"])
    assert not hasattr(other, "fitted_") and other.get_params()["model"] == "sae"
    np.testing.assert_array_equal(other.fit(counts).transform(counts), fitted.transform(counts))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(counts), fitted.transform(counts))


def test_columns_have_names(fitted, counts):
    assert fitted.get_feature_names_out().tolist() == ["factor0", "factor1", "factor2"]
    assert pickle.loads(pickle.dumps(fitted)).get_feature_names_out().tolist() == ["factor0", "factor1", "factor2"]
    rates = clone(fitted).set_params(output="rates")
    with pytest.raises(NotFittedError):
        rates.get_feature_names_out()
    rates.fit(counts)
    assert rates.get_feature_names_out().tolist() == [f"x{i}" for i in range(8)]
    assert rates.get_feature_names_out(list("abcdefgh")).tolist() == list("abcdefgh")
    with pytest.raises(DataError, match="expected a name for each of 8 channels"):
        rates.get_feature_names_out(["a"])
    with pytest.raises(DataError, match="does not infer 'inputs'; choose an output from"):
        rates.set_params(output="inputs").get_feature_names_out()


def test_it_works_in_pipelines_and_in_cross_validation(counts):
    flat = counts.reshape(-1, 8)
    pipeline = make_pipeline(SBTT(model="sae", settings=FAST, output="rates"), PCA(2))
    assert pipeline.fit_transform(flat).shape == (len(flat), 2)
    scores = cross_val_score(SBTT(model="sae", settings=FAST), counts, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_signals_are_scored_by_explained_variance():
    rng = np.random.default_rng(1)
    shared = np.sin(np.arange(600) / 10)[:, None] * np.linspace(1, 2, 6)
    X = shared + 0.1 * rng.normal(size=shared.shape)
    estimator = SBTT(model="sae", kind="series", settings={"train.epochs": 3}).fit(X)
    assert estimator.predict(X).shape == X.shape and np.isfinite(estimator.score(X))


def test_wrong_input_is_refused_in_our_words(fitted, counts):
    with pytest.raises(NotFittedError):
        SBTT().transform(counts)
    with pytest.raises(MismatchError, match="fitted to 8"):
        fitted.transform(counts[..., 1:])
    with pytest.raises(DataError, match="whole numbers"):
        fitted.transform(counts + 0.5)
    with pytest.raises(DataError, match="does not infer 'inputs'; choose an output from"):
        SBTT.transform(fitted.set_params(output="inputs"), counts)
    fitted.set_params(output="factors")
    with pytest.raises(ConfigError, match="output is 'latents'"):
        SBTT(output="latents").fit(counts)
    with pytest.raises(ConfigError, match=r"got \('train.epochs', 1\); expected assignments"):
        SBTT(settings=[("train.epochs", 1)]).fit(counts)
    with pytest.raises(ConfigError, match="nosuch"):
        SBTT(model="nosuch").fit(counts)
    with pytest.raises(DataError, match="expected an array of real numbers"):
        SBTT().fit({"a": 1})


def test_nothing_is_left_on_the_disk(counts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    estimator = SBTT(model="sae", settings=FAST).fit(counts)
    estimator.fit(counts)
    assert len(list(tmp_path.iterdir())) == 1
    del estimator
    assert not list(tmp_path.iterdir())


def test_it_is_found_at_the_top():
    assert sb.SBTT is SBTT
