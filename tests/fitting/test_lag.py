"""Fits with a lag: sessions without trials have no seams, and what follows changes nothing."""

import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, FitConfig, TrainConfig
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.fitting.preparation import prepare, train_and_valid

LAG, BINS, LENGTH, OVERLAP = 2, 300, 60, 12
MODEL = ConvConfig(lag=LAG, width=16, groups=4, layers=3, factors=5, read_in=8, max_lag=20)
CONFIG = FitConfig(model=MODEL, train=TrainConfig(epochs=2))


def chopped(counts):
    starts = [*range(0, BINS - LENGTH, LENGTH - OVERLAP), BINS - LENGTH]
    values = np.stack([counts[start : start + LENGTH] for start in starts])
    attrs = {"cut": '{"by": "chop", "length": 1.2}', "unit": "counts"}
    return make_dataset(
        values, values >= 0, bin_width=0.02, kind="units", trial_start=0.02 * np.array(starts), attrs=attrs
    )


@pytest.fixture(scope="module")
def session():
    rng = np.random.default_rng(0)
    rates = 0.5 + 0.4 * np.sin(np.arange(BINS)[:, None] / 9 + np.arange(8))
    return rng.poisson(rates).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(session, tmp_path_factory):
    return sb.fit(chopped(session), CONFIG, run_dir=tmp_path_factory.mktemp("lag") / "run")


def test_a_session_is_inferred_without_seams(fitted, session):
    """What overlapping chops infer of a bin is the same, and the same as in one window over the session."""
    ds = chopped(session)
    latents = fitted.infer(ds)
    whole = merge(ds)
    at_once = fitted.infer(whole.assign_attrs({**whole.attrs, "cut": "null"}))
    merged = merge(latents)
    for name in ("rates", "factors", "rates_sd"):
        np.testing.assert_allclose(merged[name].values, at_once[name].values, rtol=1e-6, atol=1e-6)
        first, second = latents[name].values[0, -OVERLAP:], latents[name].values[1, :OVERLAP]
        np.testing.assert_array_equal(first, second)


def test_a_recording_that_goes_on_changes_nothing_before(fitted, session):
    one = fitted.infer(chopped(session))["rates"].values
    other = session.copy()
    other[-30:] = 5
    changed = fitted.infer(chopped(other))["rates"].values
    merged_one, merged_other = (
        merge(chopped(session).assign(values=(("trial", "time", "channel"), rates)))["values"].values[0]
        for rates in (one, changed)
    )
    np.testing.assert_array_equal(merged_one[: -30 - LAG], merged_other[: -30 - LAG])
    assert (merged_one[-30:] != merged_other[-30:]).any()


def test_the_first_quarter_of_a_chop_is_not_scored(session):
    ds = prepare(chopped(session), CONFIG)
    for config, scored_from in ((CONFIG, LENGTH // 4), (FitConfig(), 0)):
        for part in train_and_valid(ds, to_batch(ds), config):
            where = part.scored.numpy().any((0, 2))
            assert (
                not where[:scored_from].any()
                and where[scored_from:].mean() > 0.5
                and where[scored_from : scored_from + 9].any()
            )
            assert part.shown.numpy()[:, 0].any()


def test_trials_are_scored_from_their_first_bin(session):
    ds = chopped(session)
    ds = prepare(ds.assign_attrs({**ds.attrs, "cut": "null"}), CONFIG)
    assert train_and_valid(ds, to_batch(ds), CONFIG)[0].scored.numpy()[:, 0].all()


def test_scores_texts_and_report_tell_the_lag(fitted, session):
    found = fitted.evaluate(chopped(session))
    assert found["lag"] == LAG and "on hidden entries at a lag of 2 bins" in found["headline"]
    assert not any("sees the whole trial" in name for name in found["names"].values())
    assert "conv, lag 2 bins, Poisson likelihood" in repr(fitted)
    (page,) = fitted.report(chopped(session))
    assert "the bins before it and 2 after it" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["lfads", "sae", "ladder"])
def test_models_without_a_lag_say_so(model):
    with pytest.raises(sb.errors.ConfigError, match=rf"'lag' is a setting of conv, and the model is '{model}'"):
        FitConfig.model_validate({"model": {"name": model, "lag": 0}})
