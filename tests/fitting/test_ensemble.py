import json
from dataclasses import replace

import numpy as np
import pynwb
import pytest
import torch
from safetensors.torch import load_file

from nwb_sbtt.config import SAEConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fitting import ensemble as averaging
from nwb_sbtt.fitting.ensemble import combine, member_configs
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.io.write.results import read_model, read_result
from nwb_sbtt.train.checkpoint import BEST, LAST
from nwb_sbtt.train.trackers import Lines, Silent
from tests.support.fits import Stopping, settings
from tests.support.latents import write_exactly


def drawn(n, seed=0):
    """What `n` models could say of two trials."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "expected": torch.rand(2, 5, 3, generator=generator) + 0.01,
            "expected_sd": torch.rand(2, 5, 3, generator=generator) * 0.1,
            "factors": torch.randn(2, 5, 4, generator=generator),
        }
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def ensemble(ds, tmp_path_factory):
    return fit(ds, settings(seeds=3), run_dir=tmp_path_factory.mktemp("runs") / "three", tracker=Silent())


@pytest.mark.parametrize("expected", ["rates", "mean"])
def test_the_average_of_one_is_itself(expected):
    (one,) = drawn(1)
    for name, value in combine([one], expected=expected, latents_of=0).items():
        torch.testing.assert_close(value, one[name])


def test_rates_are_averaged_in_the_logarithm_with_the_spread_within_and_between():
    members = drawn(4)
    rates, sds = (np.stack([m[name].double().numpy() for m in members]) for name in ("expected", "expected_sd"))
    found = combine(members, expected="rates", latents_of=2)
    mean = np.exp(np.log(rates).mean(0))
    np.testing.assert_allclose(found["expected"], mean, rtol=1e-5)
    variance = ((sds / rates) ** 2).mean(0) + np.log(rates).var(0, ddof=1)
    np.testing.assert_allclose(found["expected_sd"], mean * np.sqrt(variance), rtol=1e-4)
    assert found["factors"] is members[2]["factors"]


def test_signals_are_averaged_as_they_are():
    members = drawn(3)
    means, sds = (np.stack([m[name].double().numpy() for m in members]) for name in ("expected", "expected_sd"))
    found = combine(members, expected="mean", latents_of=0)
    np.testing.assert_allclose(found["expected"], means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["expected_sd"], np.sqrt((sds**2).mean(0) + means.var(0, ddof=1)), rtol=1e-4)


def test_every_quantity_is_averaged_by_the_rule_of_its_own():
    """Models of fluorescence give rates and events too; a quantity without an sd has the spread between members."""
    members = drawn(3)
    for i, member in enumerate(drawn(3, seed=1)):
        members[i] |= {"rates": member["expected"], "events": member["expected"], "events_sd": member["expected_sd"]}
    found = combine(members, expected="mean", latents_of=1)
    rates, sds = (np.stack([m[name].double().numpy() for m in members]) for name in ("rates", "events_sd"))
    np.testing.assert_allclose(found["rates"], np.exp(np.log(rates).mean(0)), rtol=1e-5)
    np.testing.assert_allclose(found["rates_sd"], found["rates"].numpy() * np.log(rates).std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found["events"], rates.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["events_sd"], np.sqrt((sds**2).mean(0) + rates.var(0, ddof=1)), rtol=1e-4)
    assert found["factors"] is members[1]["factors"]


def test_a_rate_of_zero_leaves_everything_finite():
    members = drawn(2)
    members[0]["expected"][0], members[0]["expected_sd"][0] = 0, 0
    found = combine(members, expected="rates", latents_of=0)
    assert all(value.isfinite().all() for value in found.values())


def test_members_share_what_decides_on_the_data_and_differ_in_the_seed_of_training():
    configs = member_configs(settings(seeds=4, seed=7))
    assert configs[0] == settings(seed=7)
    assert {config.seed for config in configs} == {7}
    assert len({config.training_seed for config in configs}) == 4
    assert member_configs(settings(seeds=2, seed=7)) == configs[:2]
    assert member_configs(settings(seed=7)) == [settings(seed=7)]


def test_the_first_member_is_the_single_fit(fitted, ensemble):
    first = ensemble.run_dir / "member-0"
    assert (first / "config.yaml").read_text() == (fitted.run_dir / "config.yaml").read_text()
    for name in (BEST, LAST):
        one, other = load_file(first / name), load_file(fitted.run_dir / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_each_member_is_an_ordinary_run_folder_and_the_ensemble_averages_them(ds, ensemble):
    members = [load(ensemble.run_dir / f"member-{i}") for i in range(3)]
    inferred = [member.infer(ds) for member in members]
    rates = np.stack([one["rates"].values for one in inferred])
    assert (rates[0] != rates[1]).any()
    assert (rates[1] != rates[2]).any()
    latents = ensemble.infer(ds)
    np.testing.assert_allclose(latents["rates"], np.exp(np.log(rates).mean(0)), rtol=1e-5)
    best = int(np.argmin([min(epoch["valid_loss"] for epoch in member.history) for member in members]))
    for name in ("factors", "factors_sd", "inputs", "initial_condition"):
        np.testing.assert_array_equal(latents[name].values, inferred[best][name].values)
    assert json.loads(latents.attrs["model"])["ensemble"]["latents_of"] == f"member-{best}"
    assert all(member.signature == ensemble.signature for member in members)


def test_a_loaded_ensemble_is_the_one_that_was_fitted(ds, ensemble):
    again = load(ensemble.run_dir)
    np.testing.assert_array_equal(again.infer(ds)["rates_sd"].values, ensemble.infer(ds)["rates_sd"].values)
    assert again.record() == ensemble.record()
    assert again.evaluate(ds) == ensemble.evaluate(ds)


@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_ensemble_that_was_stopped_goes_on_to_the_same_numbers(ds, ensemble, tmp_path, after):
    """In the first member and in either epoch of the second."""
    with pytest.raises(KeyboardInterrupt):
        fit(ds, settings(seeds=3), run_dir=tmp_path / "run", tracker=Stopping(after))
    with pytest.raises(FileError, match=r"not complete: .*member-2 of 3 members have no"):
        load(tmp_path / "run")
    again = fit(ds, settings(seeds=3), run_dir=tmp_path / "run", tracker=Silent())
    assert _equal(again, ensemble)
    np.testing.assert_array_equal(again.infer(ds)["rates"].values, ensemble.infer(ds)["rates"].values)


def _equal(one, other):
    """Whether the weights are; the seconds spent, beside them in the file, never are."""
    pairs = [
        (load_file(a.run_dir / name), load_file(b.run_dir / name))
        for a, b in zip(one.members, other.members, strict=True)
        for name in (BEST, LAST)
    ]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


def test_an_ensemble_of_another_size_is_another_fit(ds, ensemble):
    with pytest.raises(TrainingError, match="seeds is 2 instead of 3"):
        fit(ds, settings(seeds=2), run_dir=ensemble.run_dir, tracker=Silent())


def test_the_display_says_which_member_is_trained(ds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nwb_sbtt.fitting.fit.default_tracker", lambda label: Lines(0.0, label))
    fit(ds, settings(seeds=2), run_dir=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [f"member {i} of 2", f"epoch {epoch}/2"] for i in (1, 2) for epoch in (1, 2)
    ]


def test_models_without_a_posterior_differ_from_one_another_and_that_is_the_spread(tmp_path):
    generator = np.random.default_rng(0)
    values = np.sin(np.arange(12) / 2)[:, None] + 0.1 * generator.standard_normal((20, 12, 3))
    ds = make_dataset(values, np.ones(values.shape, bool), bin_width=0.01, kind="electrodes", attrs={"unit": "volts"})
    model = SAEConfig(encoder=4, generator=4, factors=2)
    fitted = fit(ds, settings(model=model, seeds=2), run_dir=tmp_path / "run", tracker=Silent())
    means = np.stack([load(tmp_path / "run" / f"member-{i}").infer(ds)["mean"].values for i in range(2)])
    latents = replace(fitted, calibrations={}).infer(ds)
    np.testing.assert_allclose(latents["mean"], means.mean(0), atol=1e-6)
    np.testing.assert_allclose(latents["mean_sd"], means.std(0, ddof=1), atol=1e-6)
    assert "factors_sd" not in latents


def test_a_result_tells_of_the_ensemble_and_is_valid(ds, ensemble, tmp_path):
    from nwbinspector import Importance, inspect_nwbfile, load_config

    latents = ensemble.infer(ds.assign_attrs(session_start_time="2024-01-01T00:00:00+00:00"))
    path = write_exactly(latents, tmp_path / "out.nwb")
    assert not pynwb.validate(path=str(path))
    found = inspect_nwbfile(nwbfile_path=path, config=load_config("dandi"), importance_threshold=Importance.CRITICAL)
    # A bare file has no subject; with a recording its own is carried over.
    assert [each.check_function_name for each in found if "subject" not in each.check_function_name] == []
    np.testing.assert_array_equal(read_result(path)["rates_sd"].values, latents["rates_sd"].values)
    record = read_model(path)
    assert record == json.loads(read_result(path).attrs["model"]) == json.loads(latents.attrs["model"])
    assert [member["run"] for member in record["ensemble"]["members"]] == ["member-0", "member-1", "member-2"]
    assert [(row["member"], row["epoch"]) for row in record["training"]] == [(i, e) for i in range(3) for e in (1, 2)]
    with pynwb.NWBHDF5IO(path, "r") as io:
        module = io.read().processing["ecephys"]
        assert record["ensemble"]["latents_of"] in module["sbtt_factors"].description
        assert "between the models" in module["sbtt_rates_sd"].description


@pytest.mark.parametrize("expected", ["rates", "mean"])
def test_trials_that_are_averaged_a_few_at_a_time_change_no_number(expected, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    shape = (7, 5, 3)
    members = [
        {name: torch.rand(shape, generator=generator) + 0.1 for name in ("expected", "expected_sd", "factors")}
        for _ in range(3)
    ]
    together = combine(members, expected=expected, latents_of=1)
    monkeypatch.setattr(averaging, "ENTRIES_AT_ONCE", 30)
    apart = combine(members, expected=expected, latents_of=1)
    assert list(apart) == list(together)
    assert all(torch.equal(apart[name], together[name]) for name in together)
