import json
import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt import masks, registry
from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError, MismatchError
from nwb_sbtt.evaluate import summary
from nwb_sbtt.evaluate.baselines import BASELINES, MaskedData, Prediction, protocol, register_baseline
from nwb_sbtt.evaluate.intervals import TAILS
from nwb_sbtt.evaluate.metrics import bits_per_spike
from nwb_sbtt.evaluate.summary import HiddenChannels, evaluate_latents
from nwb_sbtt.registry import Registry
from nwb_sbtt.report.listing import table_of_scores
from nwb_sbtt.simulate.lorenz import lorenz

HOME = "nwb_sbtt.evaluate.baselines."
QUICK = {
    "mean_rate": HOME + "smoothing:mean_rate",
    "masked_smoothing": HOME + "smoothing:masked_smoothing",
    "low_rank_wiener": HOME + "wiener:low_rank_wiener",
}
DIMS = ("trial", "time", "channel")


def replace_registry(monkeypatch: pytest.MonkeyPatch, builtin: dict[str, str]) -> None:
    """Replace the registry of baselines, so that a test may register its own."""
    baselines: Registry[Any] = Registry("baseline", "nwb_sbtt.baselines", builtin)
    monkeypatch.setattr(protocol, "BASELINES", baselines)
    monkeypatch.setattr(summary, "BASELINES", baselines)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the baselines that iterate, where the model alone is judged."""
    replace_registry(monkeypatch, QUICK)


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    full = lorenz(conditions=12, trials_per_condition=10, n_channels=15)
    observed = np.random.default_rng(0).random(full["values"].shape) < 0.6
    return full.assign(observed=(DIMS, observed), values=full["values"].where(observed, 0))


def hidden_part(ds: xr.Dataset) -> NDArray[np.bool_]:
    drawn = np.random.default_rng(1).random(ds["values"].shape) < 0.3
    return ds["observed"].values & drawn & (ds["split"].values == "valid")[:, None, None]


def perfect(ds: xr.Dataset, **changes: Any) -> xr.Dataset:
    """What a model that knows the truth would infer."""
    rates = ds["true_rates"].values
    variables = {
        "rates": (DIMS, rates),
        "rates_sd": (DIMS, 0.1 * rates),
        "factors": (
            ("trial", "time", "factor"),
            ds["true_latents"].values @ np.array([[1, 2, 0], [0, 1, 1], [1, 0, 3.0]]),
        ),
        "initial_condition": (("trial", "initial"), ds["true_latents"].values[:, 0]),
        "initial_condition_sd": (("trial", "initial"), np.full((ds.sizes["trial"], 3), 0.1)),
    }
    return xr.Dataset({**variables, **changes}, coords=ds.coords, attrs=ds.attrs)


def levels(result: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["level"] for check in result["checks"]}


@pytest.mark.parametrize(
    ("scheme", "k", "level"),
    [("round_robin", 1, "warn"), ("decimate", 1, "warn"), ("speckled", 1, "ok"), ("decimate", 3, "ok")],
)
def test_samples_that_keep_their_distance_are_pointed_out(quick: None, scheme: Any, k: int, level: str) -> None:
    full = lorenz(conditions=12, trials_per_condition=10, n_channels=15)
    limited = limit_bandwidth(full, BandwidthConfig(scheme=scheme, k=k))
    found = evaluate_latents(limited, perfect(limited), hidden_part(limited))
    assert levels(found)["sampling"] == level


def test_channels_that_were_never_observed_are_pointed_out(ds: xr.Dataset, quick: None) -> None:
    assert "unobserved" not in levels(evaluate_latents(ds, perfect(ds), hidden_part(ds)))
    there = ds["observed"].values & (np.arange(ds.sizes["channel"]) != 1)
    part = ds.assign(observed=(DIMS, there), values=(DIMS, np.where(there, ds["values"].values, np.float32(0))))
    found = evaluate_latents(part, perfect(part), hidden_part(part))["checks"]
    (text,) = [check["text"] for check in found if (check["name"], check["level"]) == ("unobserved", "warn")]
    assert text.startswith(f"Channels {ds['channel_id'].values[1]} were never observed: nothing is known")


def test_samples_that_were_chosen_by_earlier_values_are_pointed_out(ds: xr.Dataset, quick: None) -> None:
    chosen = ds.assign_attrs(bandwidth='{"scheme": "scheduled", "k": 2}')
    (text,) = [
        check["text"]
        for check in evaluate_latents(chosen, perfect(chosen), hidden_part(chosen))["checks"]
        if check["name"] == "sampling" and check["level"] == "warn"
    ]
    assert "they tell of the hidden ones among these" in text


@pytest.mark.parametrize(("more", "looked"), [((), True), (("events",), False)])
def test_only_a_ladder_may_follow_each_sample_it_is_shown(ds: xr.Dataset, quick: None, more: Any, looked: bool) -> None:
    rates = (DIMS, ds["true_rates"].values)
    latents = perfect(ds, **dict.fromkeys(("mean", *more), rates))
    assert ("copying" in levels(evaluate_latents(ds, latents, hidden_part(ds)))) == looked


def test_without_missing_samples_nothing_is_said_of_their_distance(quick: None) -> None:
    full = lorenz(conditions=4, trials_per_condition=10, n_channels=15)
    assert "sampling" not in levels(evaluate_latents(full, perfect(full), hidden_part(full)))


@pytest.mark.slow
def test_the_truth_scores_best_and_passes_every_check(ds: xr.Dataset) -> None:
    hidden = hidden_part(ds)
    result = evaluate_latents(ds, perfect(ds), hidden)
    assert result["metric"] == "bits per spike"
    order = ["mean_rate", "masked_smoothing", "factor_analysis", "low_rank_wiener", "linear_dynamics", "model"]
    assert list(result["baselines"]) == BASELINES.names() and "state of" in result["baselines"]["linear_dynamics"]
    assert result["gain"]["model"] == result["scores"]["model"] - result["scores"]["mean_rate"]
    assert result["gain"]["mean_rate"] == 0
    assert sorted(result["scores"], key=result["scores"].__getitem__) == order
    assert result["scores"]["model"] == bits_per_spike(ds["true_rates"].values * 0.02, ds["values"].values, hidden)
    assert result["scored"] == {"trials": 24, "entries": hidden.sum(), "spikes": ds["values"].values[hidden].sum()}
    assert set(levels(result).values()) == {"ok"} and len(result["checks"]) == 9
    assert result["headline"].startswith(f"bits per spike on hidden entries {result['scores']['model']:.3f} (mean rate")
    truth = result["truth"]
    assert truth["rates_r2"]["model"] == pytest.approx(1)
    assert truth["latents_r2"]["model"] == pytest.approx(1, abs=1e-5)
    assert truth["rates_r2"]["linear_dynamics"] > truth["rates_r2"]["low_rank_wiener"]
    assert truth["rates_r2"]["low_rank_wiener"] > truth["rates_r2"]["masked_smoothing"] > truth["rates_r2"]["mean_rate"]


@pytest.mark.usefixtures("quick")
def test_the_result_is_plain_json_without_nan(ds: xr.Dataset) -> None:
    silent = ds.assign(values=ds["values"].where(ds["channel_id"] != ds["channel_id"][3], 0))
    result = evaluate_latents(silent, perfect(ds), hidden_part(ds))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["by_channel"]["model"][3] is None
    assert result["by_channel"]["spikes"][3] == 0


def test_hidden_values_reach_no_baseline(ds: xr.Dataset) -> None:
    ds = ds.isel(trial=slice(None, None, 3))  # Enough for models to be fitted, which may be poor ones.
    hidden = hidden_part(ds)
    scores = []
    for junk in (0.0, 50.0):
        changed = ds.assign(values=ds["values"].where(~hidden | (np.arange(15) > 0), junk))
        result = evaluate_latents(changed, perfect(ds), hidden)
        scores.append([result["by_channel"][key][1:] for key in BASELINES.names() if key != "mean_rate"])
    assert scores[0] == scores[1]


@pytest.mark.usefixtures("quick")
def test_trials_outside_training_and_validation_take_no_part(ds: xr.Dataset) -> None:
    kept = ds.isel(trial=slice(0, 100))
    more = ds.assign_coords(split=("trial", [*kept["split"].values, *["gap", "test"] * 10]))
    few = evaluate_latents(kept, perfect(kept), hidden_part(kept))
    assert evaluate_latents(more, perfect(more), hidden_part(ds)) == few


@pytest.mark.usefixtures("quick")
def test_held_out_channels_are_scored_apart(ds: xr.Dataset) -> None:
    held_out = np.arange(15) < 4
    cosmoothing = ds.assign_coords(held_out=("channel", held_out))
    hidden = hidden_part(ds) & ~held_out
    result = evaluate_latents(cosmoothing, perfect(ds), hidden)
    assert result["by_channel"]["entries"][:4] == [0] * 4
    assert result["held_out"]["model"] > result["held_out"]["low_rank_wiener"] > 0.1
    assert abs(result["held_out"]["masked_smoothing"]) < 0.1


def test_gaussian_data_are_scored_by_explained_variance(ds: xr.Dataset) -> None:
    log = np.log(ds["true_rates"].values)
    noisy = np.where(ds["observed"].values, log + np.random.default_rng(2).normal(size=log.shape), 0)
    signal = ds.drop_vars(["true_rates", "true_latents"]).assign(values=(DIMS, noisy.astype(np.float32)))
    result = evaluate_latents(signal, perfect(ds, mean=(DIMS, log)).drop_vars(["rates", "rates_sd"]), hidden_part(ds))
    assert result["metric"] == "explained variance"
    assert 1 > result["scores"]["model"] > result["scores"]["low_rank_wiener"] > result["scores"]["mean_rate"]
    assert result["names"]["mean_rate"] == "mean" and "rate" not in result["zero"] + result["headline"]
    assert "truth" not in result and "spikes" not in result["scored"]


@pytest.mark.usefixtures("quick")
def test_signals_are_scored_on_hidden_channels_and_following_what_is_a_channels_own_is_noticed(ds: xr.Dataset) -> None:
    log = np.log(ds["true_rates"].values)
    own = np.random.default_rng(3).normal(size=log.shape)
    signal = ds.drop_vars(["true_rates", "true_latents"]).assign(
        values=(DIMS, np.where(ds["observed"].values, log + own, 0).astype(np.float32))
    )
    shared, copied = (perfect(ds, mean=(DIMS, log + part)).drop_vars(["rates", "rates_sd"]) for part in (0, own))
    valid, channels = ds["split"].values == "valid", np.arange(15) < 3
    without = HiddenChannels(shared.isel(trial=valid), channels)
    levels_of = {}
    for name, latents in (("shared", shared), ("copied", copied)):
        result = evaluate_latents(signal, latents, hidden_part(ds), mask_length=5, hidden_channels=without)
        levels_of[name] = levels(result)["copying"]
        assert result["scored"]["seconds_together"] == pytest.approx(5 * ds.attrs["bin_width"])
        scores = result["cosmoothing"]
        assert scores["model"] > scores["low_rank_wiener"] > scores["mean_rate"]
        # Shown bins of a hidden channel would let smoothing score as it does elsewhere.
        assert result["scores"]["masked_smoothing"] > 0.02 > scores["masked_smoothing"]
        assert "hidden channels" in table_of_scores(result)
    assert levels_of == {"shared": "ok", "copied": "warn"}
    plain = evaluate_latents(signal, shared, hidden_part(ds))
    assert "cosmoothing" not in plain and "seconds_together" not in plain["scored"]


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ({"rates": lambda ds: ds["true_rates"].values * 0 + 9.0}, "baselines", "bad"),
        ({"rates": lambda ds: ds["true_rates"].values ** 0.3 * 4}, "baselines", "warn"),
        ({"rates": lambda ds: ds["values"].values / 0.02 * ~hidden_part(ds) + 5}, "copying", "warn"),
        ({"rates": lambda ds: ds["true_rates"].values * 0.3}, "dispersion", "warn"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_each_failure_of_the_rates_is_noticed(ds: xr.Dataset, change: dict[str, Any], name: str, level: str) -> None:
    changes = {key: (DIMS, make(ds)) for key, make in change.items()}
    assert levels(evaluate_latents(ds, perfect(ds, **changes), hidden_part(ds)))[name] == level


@pytest.mark.usefixtures("quick")
def test_a_posterior_that_is_too_narrow_for_the_truth_is_noticed(ds: xr.Dataset) -> None:
    latents = perfect(ds)
    truth = ds["true_rates"].values
    # Intervals are made for errors with such tails.
    errors = TAILS["rates"][1] * np.random.default_rng(0).standard_t(TAILS["rates"][0], truth.shape)
    rates = truth * np.exp(0.2 * errors.clip(-5, 5))
    right = latents.assign(rates=(DIMS, rates), rates_sd=(DIMS, 0.2 * rates))
    found = {check["name"]: check for check in evaluate_latents(ds, right, hidden_part(ds))["checks"]}
    assert found["coverage"]["level"] == "ok"
    assert found["coverage"]["text"] == "Intervals of 50, 80 and 95 % contain 49, 81 and 95 % of the true rates."
    narrow = right.assign(rates_sd=(DIMS, 0.2 * rates / 3))
    assert levels(evaluate_latents(ds, narrow, hidden_part(ds)))["coverage"] == "warn"


def noisy(ds: xr.Dataset, sd: Any) -> xr.Dataset:
    """Signals of the true rates in noise."""
    values = ds["true_rates"].values + sd * np.random.default_rng(2).standard_normal(ds["values"].shape)
    return ds.drop_vars("true_rates").assign(values=(DIMS, values)).assign_attrs(unit="volts")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("noise_sd", "told_apart", "level", "text"),
    [
        (5.0, True, "ok", r"of 50, 80 and 95 % contain 5\d, 8\d and 9\d % of the hidden values\.$"),
        (5.0, False, "warn", "Intervals of the mean are approximate"),
        (2.0, True, "warn", "Coverage is off"),
        (None, True, "warn", "no predictive intervals"),
    ],
)
def test_predictive_intervals_of_signals_that_do_not_hold_are_noticed(
    ds: xr.Dataset, noise_sd: float | None, told_apart: bool, level: str, text: str
) -> None:
    latents = (
        perfect(ds).drop_vars("rates_sd").rename(rates="mean").assign(mean_sd=(DIMS, np.full(ds["values"].shape, 0.5)))
    )
    latents = latents.assign_attrs(calibration=json.dumps({"told_apart": told_apart}))
    if noise_sd is not None:
        latents = latents.assign_coords(noise_sd=("channel", np.full(ds.sizes["channel"], noise_sd)))
    checks = evaluate_latents(noisy(ds, 4.8), latents, hidden_part(ds))["checks"]
    found = next(check for check in checks if check["name"] == "intervals")
    assert found["level"] == level
    assert re.search(text, found["text"])


@pytest.mark.usefixtures("quick")
def test_noise_that_grows_with_the_signal_is_noticed(ds: xr.Dataset) -> None:
    true = ds["true_rates"].values
    high = true > np.quantile(true, 2 / 3)
    latents = perfect(ds).drop_vars("rates_sd").rename(rates="mean").assign(mean_sd=(DIMS, np.full(true.shape, 0.01)))
    latents = latents.assign_coords(noise_sd=("channel", np.full(ds.sizes["channel"], 2.0)))
    checks = evaluate_latents(noisy(ds, np.where(high, 3.0, 1.0)), latents, hidden_part(ds))["checks"]
    assert {check["name"]: check["level"] for check in checks}["intervals"] == "warn"


@pytest.mark.usefixtures("quick")
def test_predictive_intervals_of_counts_are_checked(ds: xr.Dataset) -> None:
    right = {check["name"]: check for check in evaluate_latents(ds, perfect(ds), hidden_part(ds))["checks"]}
    assert right["intervals"]["level"] == "ok"
    wrong = perfect(ds, rates=(DIMS, 0.5 * ds["true_rates"].values))
    assert levels(evaluate_latents(ds, wrong, hidden_part(ds)))["intervals"] == "warn"


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("error")
def test_where_nothing_is_hidden_nothing_is_said_of_intervals_and_errors(ds: xr.Dataset) -> None:
    hidden = hidden_part(ds)
    found = levels(evaluate_latents(ds, perfect(ds), hidden))
    left = levels(evaluate_latents(ds, perfect(ds), hidden & False))
    assert set(found) - set(left) == {"copying", "coverage", "dispersion", "intervals"}
    assert left["baselines"] == left["spikes"] == "warn"


@pytest.mark.usefixtures("quick")
def test_dead_factors_and_a_collapsed_initial_condition_are_noticed(ds: xr.Dataset) -> None:
    latents = perfect(ds)
    factors = latents["factors"].values.copy()
    factors[:, :, 1] *= 1e-4
    dead = latents.assign(factors=(("trial", "time", "factor"), factors))
    assert levels(evaluate_latents(ds, dead, hidden_part(ds)))["factors"] == "warn"
    none = latents.assign(factors=latents["factors"] * 0, initial_condition=latents["initial_condition"] * 1e-4)
    found = levels(evaluate_latents(ds, none, hidden_part(ds)))
    assert (found["factors"], found["initial condition"]) == ("bad", "warn")


@pytest.mark.usefixtures("quick")
def test_few_spikes_are_pointed_out(ds: xr.Dataset) -> None:
    hidden = hidden_part(ds)
    hidden[:, 10:] = False
    hidden[:, :, 3:] = False
    assert levels(evaluate_latents(ds, perfect(ds), hidden))["spikes"] == "warn"


def test_errors_say_what_is_wrong(ds: xr.Dataset) -> None:
    hidden = hidden_part(ds)
    with pytest.raises(MismatchError, match="same shape"):
        evaluate_latents(ds, perfect(ds).isel(time=slice(10)), hidden)
    with pytest.raises(MismatchError, match=r"do not have the same .* in the same order"):
        evaluate_latents(ds, perfect(ds).isel(channel=slice(None, None, -1)), hidden)
    with pytest.raises(MismatchError, match="neither 'rates' nor 'mean'"):
        evaluate_latents(ds, perfect(ds).drop_vars("rates"), hidden)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda signal: signal * 0 + 5, "no channel varies over the scored entries"),
        (lambda signal: signal * 0 + 1e8 + (signal > signal.mean()), "no channel varies over the scored entries"),
        (lambda signal: signal * 0, "no channel varies over the scored entries"),
    ],
)
def test_scores_that_are_not_defined_are_null_with_a_reason(ds: xr.Dataset, change: Any, reason: str) -> None:
    signal = change(ds["true_rates"]).astype("f4")
    data = ds.drop_vars(["true_rates", "true_latents"], errors="ignore").assign(values=signal.where(ds["observed"], 0))
    data.attrs["unit"] = "a.u."
    latents = perfect(ds).rename(rates="mean").drop_vars("rates_sd", errors="ignore")
    result = evaluate_latents(data, latents, hidden_part(ds))
    assert set(result["scores"].values()) == set(result["gain"].values()) == {None}
    assert result["by_channel"]["model"] == [None] * ds.sizes["channel"]
    assert all(text.startswith(reason) for text in result["undefined"].values())
    assert levels(result)["baselines"] == "warn"
    assert "not defined" in result["headline"]
    json.dumps(result, allow_nan=False)
    text = table_of_scores(result)
    assert text.count("–") == len(result["names"])
    assert text.count(f"not defined: {reason}") == 1


@pytest.mark.usefixtures("quick")
def test_where_nothing_is_hidden_nothing_is_scored(ds: xr.Dataset) -> None:
    result = evaluate_latents(ds, perfect(ds), hidden_part(ds) & False)
    assert set(result["scores"].values()) == {None}
    assert "hidden, so models cannot be compared; hide more entries" in result["undefined"]["model"]
    json.dumps(result, allow_nan=False)


@pytest.mark.usefixtures("quick")
def test_a_mean_below_zero_is_explained_in_words(ds: xr.Dataset) -> None:
    hidden = hidden_part(ds)
    hidden[:, 10:] = False
    result = evaluate_latents(ds, perfect(ds), hidden)
    assert result["scores"]["mean_rate"] < 0
    assert "'mean rate' uses the shown data only and therefore falls below 0" in result["zero"]


@pytest.mark.slow
def test_a_linear_system_that_beats_the_model_is_named(ds: xr.Dataset) -> None:
    middling = perfect(ds, rates=(DIMS, ds["true_rates"].values ** 0.55 * 3))
    result = evaluate_latents(ds, middling, hidden_part(ds))
    scores = result["scores"]
    assert scores["masked_smoothing"] < scores["model"] < scores["linear_dynamics"]
    found = next(check for check in result["checks"] if check["name"] == "baselines")
    assert found["level"] == "warn" and "the linear dynamical system " in found["text"]


@pytest.mark.usefixtures("quick")
def test_signals_are_not_compared_with_the_rates_behind_them(ds: xr.Dataset) -> None:
    """Fluorescence and rates differ in unit; how well the latents are known is said all the same."""
    signals = ds.assign(values=ds["values"] * 0.01).assign_attrs(unit="a.u.")
    latents = perfect(ds).rename(rates="mean")
    result = evaluate_latents(signals, latents, hidden_part(ds))
    assert result["truth"].keys() == {"latents_r2"}
    assert result["truth"]["latents_r2"]["model"] == pytest.approx(1, abs=1e-5)
    assert "true rates" not in result["headline"]


@pytest.mark.usefixtures("quick")
def test_of_a_ladder_rates_are_judged_by_the_true_ones_and_samples_by_samples(ds: xr.Dataset) -> None:
    """Its lower level is there to follow what it is shown, and samples are no counts."""
    signals = ds.assign(values=ds["values"] * 0.01 + 5).assign_attrs(unit="a.u.")
    latents = perfect(ds).assign(mean=signals["values"], events=ds["values"])
    result = evaluate_latents(signals, latents, hidden_part(ds))
    assert result["truth"]["rates_r2"] == {"model": pytest.approx(1)}
    of_events = latents.drop_vars(["rates", "rates_sd"])
    assert "copying" in levels(evaluate_latents(signals, of_events, hidden_part(ds)))
    found = levels(result)
    assert not {"copying", "dispersion", "spikes"} & set(found)
    assert found["coverage"] == "ok"
    wrong = latents.assign(rates=latents["rates"] * 0.5)
    assert levels(evaluate_latents(signals, wrong, hidden_part(ds)))["coverage"] == "warn"


def trial_mean(data: MaskedData) -> Prediction:
    """Each channel's mean over the shown entries of a trial, shrunk to its overall mean by one bin."""
    values, bins = (np.where(data.predictors, array, 0).sum(1, keepdims=True) for array in (data.values, data.weights))
    expected = (values + data.channel_mean) / (bins + 1)
    return Prediction(np.broadcast_to(expected, data.shape), "shrunk by one bin")


@pytest.mark.usefixtures("quick")
def test_a_registered_baseline_is_scored_like_the_others(ds: xr.Dataset) -> None:
    assert register_baseline("trial_mean")(trial_mean) is trial_mean
    hidden, valid = hidden_part(ds), ds["split"].values == "valid"
    result = evaluate_latents(ds, perfect(ds), hidden)
    assert list(result["baselines"]) == [*QUICK, "trial_mean"]
    assert result["baselines"]["trial_mean"] == "shrunk by one bin" and result["names"]["trial_mean"] == "trial mean"
    values, shown = ds["values"].values, ds["observed"].values & ~hidden
    expected = trial_mean(MaskedData(values, shown, ~valid, True)).expected
    assert result["scores"]["trial_mean"] == bits_per_spike(expected, values, hidden)
    for table in ("gain", "by_channel"):
        assert "trial_mean" in result[table]
    with pytest.raises(ConfigError, match="a baseline 'trial_mean' exists already"):
        register_baseline("trial_mean")(lambda data: trial_mean(data))


@pytest.mark.usefixtures("quick")
def test_a_baseline_that_does_not_keep_to_the_lag_is_named_so(ds: xr.Dataset) -> None:
    received: list[MaskedData] = []
    for kept in (0, 3, 4):

        @register_baseline(f"keeps_{kept}")
        def baseline(data: MaskedData, kept: int = kept) -> Prediction:
            received.append(data)
            return replace(trial_mean(data), lag=kept)

    register_baseline("trial_mean")(trial_mean)
    result = evaluate_latents(ds, perfect(ds), hidden_part(ds), lag=3)
    assert result["lag"] == 3 and {data.lag for data in received} == {3}
    assert {name: words for name, words in result["names"].items() if name not in ("model", *QUICK)} == {
        "keeps_0": "keeps 0",
        "keeps_3": "keeps 3",
        "keeps_4": "keeps 4 (sees the whole trial)",
        "trial_mean": "trial mean (sees the whole trial)",
    }
    assert not any(protocol.SEES_ALL in result["names"][name] for name in QUICK)
    without = evaluate_latents(ds, perfect(ds), hidden_part(ds))
    assert "lag" not in without and without["names"]["trial_mean"] == "trial mean"


def test_a_baseline_of_an_installed_package_is_scored_like_the_others(
    ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("trial_mean", f"{__name__}:trial_mean", "nwb_sbtt.baselines")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(trial_mean=trial_mean))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    replace_registry(monkeypatch, QUICK)
    result = evaluate_latents(ds, perfect(ds), hidden_part(ds))
    assert list(result["scores"]) == ["model", *QUICK, "trial_mean"]


@pytest.mark.usefixtures("quick")
def test_a_baseline_gets_only_what_the_model_was_shown(ds: xr.Dataset) -> None:
    received: list[MaskedData] = []

    @register_baseline("spy")
    def spy(data: MaskedData) -> Prediction:
        received.append(data)
        return trial_mean(data)

    held_out = np.arange(15) < 4
    exposure = np.random.default_rng(5).uniform(0.2, 1, ds["values"].shape).astype(np.float32)
    full = ds.assign(exposure=(DIMS, exposure)).assign_coords(held_out=("channel", held_out))
    hidden = hidden_part(ds) & ~held_out
    evaluate_latents(full, perfect(ds), hidden)
    (data,) = received
    valid = (ds["split"].values == "valid")[:, None, None]
    shown = ds["observed"].values & ~hidden & ~(held_out & valid)
    np.testing.assert_array_equal(data.shown, shown)
    np.testing.assert_array_equal(data.values, np.where(shown, ds["values"].values, 0))
    np.testing.assert_array_equal(data.exposure, np.where(shown, exposure, 0))
    np.testing.assert_array_equal(data.predictors, shown & ~held_out)
    np.testing.assert_array_equal(data.train, ~valid[:, 0, 0])
    assert data.is_counts
    for array in (data.values, data.shown, data.exposure, data.weights, data.predictors, data.train):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


HELD_OUT = {"held_out": ("channel", np.arange(15) < 4)}
FORECAST = {"forecast": ("time", np.arange(50) >= 40)}


@pytest.mark.parametrize("split", ["train and valid", "valid"])
@pytest.mark.parametrize("marks", [{}, HELD_OUT, FORECAST, HELD_OUT | FORECAST])
@pytest.mark.usefixtures("quick")
def test_baselines_predict_from_what_the_encoder_may_read(ds: xr.Dataset, marks: Any, split: str) -> None:
    received: list[MaskedData] = []

    @register_baseline("spy")
    def spy(data: MaskedData) -> Prediction:
        received.append(data)
        return trial_mean(data)

    data = ds.assign_coords(marks)
    if split == "valid":
        data = data.isel(trial=ds["split"].values == "valid")
    batch = to_batch(data)
    hidden = masks.sample_validation(batch, 0.2, torch.Generator().manual_seed(0)) & batch.along_trials(
        torch.from_numpy(data["split"].values == "valid")
    )
    result = evaluate_latents(data, perfect(data), hidden.numpy())
    (received_data,) = received
    np.testing.assert_array_equal(received_data.predictors, masks.hide(batch, hidden).shown.numpy())
    valid = data["split"].values == "valid"
    np.testing.assert_array_equal(received_data.shown[valid], received_data.predictors[valid])
    np.testing.assert_array_equal(received_data.shown[~valid], batch.scored.numpy()[~valid])
    parts = received_data.training_sample(10**9)
    np.testing.assert_array_equal(parts.predictors, received_data.predictors[received_data.train])
    assert ("forecast" in result) == ("forecast" in marks) and ("held_out" in result) == ("held_out" in marks)
    assert result["scored"]["entries"] == int(hidden.sum())


def test_a_long_trial_that_is_cut_keeps_its_forecast_bins() -> None:
    forecast = np.broadcast_to(np.arange(1200) >= 1000, (2, 1200))
    data = MaskedData(np.ones((2, 1200, 3)), np.ones((2, 1200, 3), bool), np.ones(2, bool), True, forecast=forecast)
    parts = data.training_sample(10**9)
    assert parts.shape == (6, 400, 3)
    np.testing.assert_array_equal(parts.predictors.reshape(2, 1200, 3), ~np.repeat(forecast[:, :, None], 3, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda expected: expected[:, :-1], "returned values of shape"),
        (lambda expected: expected * np.nan, "of the baseline 'broken' are not finite"),
        (lambda expected: expected - 100, "of the baseline 'broken' are negative"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_baseline_that_gives_nonsense_is_named(ds: xr.Dataset, change: Any, message: str) -> None:
    @register_baseline("broken")
    def broken(data: MaskedData) -> Prediction:
        return Prediction(change(trial_mean(data).expected), "")

    with pytest.raises(DataError, match=message):
        evaluate_latents(ds, perfect(ds), hidden_part(ds))
