"""The device that settings ask for; and, where torch finds a GPU, that a fit on it is the fit on the CPU."""

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.batch import to_sparse
from nwb_sbtt.config import ConvConfig, FitConfig, LadderConfig, LFADSConfig, override
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.device import device_of
from nwb_sbtt.simulate.calcium import calcium
from nwb_sbtt.simulate.lorenz import lorenz
from nwb_sbtt.train.trackers import Silent

CONVOLUTION = {"read_in": 8, "width": 16, "layers": 2, "groups": 4, "max_lag": 8, "factors": 4}
RECURRENT = {"read_in": 8, "encoder": 8, "initial_condition": 6, "controller": 6, "generator": 12, "factors": 4}


def gpus(monkeypatch, n):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


@pytest.mark.parametrize(
    ("device", "n", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_taken_where_it_is(monkeypatch, device, n, expected):
    gpus(monkeypatch, n)
    assert device_of(FitConfig(device=device)) == expected


@pytest.mark.parametrize(
    ("device", "n", "message"),
    [
        ("cuda", 0, "no GPU that torch can use"),
        ("cuda:0", 0, "no GPU"),
        ("cuda:2", 2, "has 2 GPUs, counted from cuda:0"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(monkeypatch, device, n, message):
    gpus(monkeypatch, n)
    with pytest.raises(ConfigError, match=message):
        device_of(FitConfig(device=device))


def test_apples_device_is_taken_only_where_torch_has_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of(FitConfig(device="mps")) == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="'mps', but this machine has no GPU"):
        device_of(FitConfig(device="mps"))


@pytest.mark.parametrize("device", ["gpu", "cuda:-1", "cuda:x", "CPU", "mps:1"])
def test_an_unknown_device_is_an_error_that_lists_the_known_ones(device):
    with pytest.raises(ConfigError, match=r"is not a device; use auto, cpu, cuda, cuda:1"):
        override(FitConfig(), [f"device={device}"])


def settings(model, device, **train):
    train = {"epochs": 3, "checkpoint_every": 1, "seed": 0, **train}
    return FitConfig(model=model, device=device, posterior_samples=4, train=train)


@pytest.fixture(scope="module")
def counts():
    return lorenz(n_channels=20, conditions=6, trials_per_condition=8, seed=0)


@pytest.fixture(scope="module")
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU on this machine")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
@pytest.mark.parametrize("model", [ConvConfig(**CONVOLUTION), LFADSConfig(**RECURRENT)], ids=["conv", "lfads"])
def test_what_a_gpu_infers_is_what_the_cpu_infers_from_the_same_weights(counts, model, likelihood, gpu, tmp_path):
    config = override(settings(model, "cpu"), [f"likelihood={likelihood}"])
    model = sb.fit(counts, config, run_dir=tmp_path / "run", tracker=Silent()).model
    for batch in (to_batch(counts, "session0"), to_sparse(to_batch(counts, "session0"))):
        with torch.no_grad():
            on_cpu = model.to("cpu")(batch).factors
            on_gpu = model.to(gpu)(batch.to(gpu)).factors
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("model", [ConvConfig(**CONVOLUTION), LFADSConfig(**RECURRENT)], ids=["conv", "lfads"])
def test_a_fit_on_a_gpu_is_as_good_as_one_on_the_cpu(counts, model, gpu, tmp_path):
    scores = []
    for device in ("cpu", gpu):
        config = settings(model, device, epochs=30)
        scores.append(
            sb.fit(counts, config, run_dir=tmp_path / device, tracker=Silent()).members[0].progress.best_score
        )
    # Draws differ from device to device, and so do weights; what they are worth does not.
    assert scores[1] == pytest.approx(scores[0], rel=0.05)


@pytest.mark.gpu
def test_a_ladder_is_fitted_on_a_gpu(gpu, tmp_path):
    ds = calcium(n_channels=4, conditions=2, trials_per_condition=12, seed=0)
    fitted = sb.fit(ds, settings(LadderConfig(**CONVOLUTION), gpu), run_dir=tmp_path / "run", tracker=Silent())
    assert np.isfinite(fitted.infer(ds)["rates"].values).all()


@pytest.mark.gpu
def test_a_fit_on_a_gpu_that_was_stopped_goes_on_to_the_same_numbers(counts, gpu, tmp_path):
    config = settings(ConvConfig(**CONVOLUTION), gpu, epochs=6)
    whole = sb.fit(counts, config, run_dir=tmp_path / "whole", tracker=Silent())

    class Stop(Silent):
        def epoch(self, record):
            if record.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sb.fit(counts, config, run_dir=tmp_path / "parts", tracker=Stop())
    parts = sb.fit(counts, config, run_dir=tmp_path / "parts", tracker=Silent())
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.gpu
def test_memory_of_a_fit_on_a_gpu_is_bounded_by_the_data(counts, gpu, tmp_path):
    torch.cuda.reset_peak_memory_stats()
    sb.fit(counts, settings(ConvConfig(**CONVOLUTION), gpu), run_dir=tmp_path / "run", tracker=Silent())
    n_bytes = counts["values"].size * 4
    assert torch.cuda.max_memory_allocated() < 100 * n_bytes + 64 * 2**20
