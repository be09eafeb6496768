"""Memory that runs out is one error with what to make smaller; other errors of torch stay what they are."""

import pytest
import torch

from nwb_sbtt.errors import TrainingError
from nwb_sbtt.fitting import fit as fitting
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.memory import memory_errors
from nwb_sbtt.fitting.runfolder import FAILED
from tests.support.fits import population, settings

HUGE = (1 << 46,)


def test_an_allocation_that_fails_on_the_cpu_says_how_much_was_needed():
    with (
        pytest.raises(
            TrainingError, match=r"^this machine has not enough memory \(2.81e\+05 GB more were needed\): less$"
        ),
        memory_errors(TrainingError, device="cpu", advice="less"),
    ):
        torch.empty(HUGE)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        MemoryError("Unable to allocate 1. TiB"),
    ],
)
def test_a_device_without_memory_is_named(error):
    with (
        pytest.raises(
            TrainingError, match=r"^the device 'cuda:1' has not enough memory( \(2.50 GiB more were needed\))?: less$"
        ),
        memory_errors(TrainingError, device="cuda:1", advice="less"),
    ):
        raise error


def test_other_errors_of_torch_are_let_through():
    with pytest.raises(RuntimeError, match="mat1"), memory_errors(TrainingError, device="cpu", advice="less"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_after_it_the_run_folder_takes_smaller_settings(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "train", lambda *args, **options: torch.empty(HUGE))
        with pytest.raises(TrainingError, match=r"has not enough memory .*lower train.batch_size"):
            fit(population(), settings(), run_dir=tmp_path / "run")
    assert (tmp_path / "run" / FAILED).exists()
    smaller = settings(train=settings().train.model_copy(update={"batch_size": 4}))
    assert fit(population(), smaller, run_dir=tmp_path / "run").finished
