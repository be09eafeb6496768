import pytest
import torch
from torch import nn

from nwb_sbtt.nn import recurrent
from nwb_sbtt.nn.recurrent import advance, run_gru, slopes, steps_of

T, B, E, N = 7, 3, 4, 5


@pytest.fixture(params=[1, 2 * B * 4 * N, 10**6], ids=["step by step", "in uneven pieces", "at once"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(recurrent, "_PIECE_SIZE", request.param)


def random(*shape):
    return torch.randn(*shape, dtype=torch.double, requires_grad=True)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_a_gru_gives_what_the_library_gives_with_its_gradients(bidirectional, started):
    torch.manual_seed(0)
    gru = nn.GRU(E, N, bidirectional=bidirectional).double()
    x, h0 = random(T, B, E), random(1 + bidirectional, B, N) if started else None
    own, expected = run_gru(gru, x, h0), gru(x, h0)
    torch.testing.assert_close(own, expected)
    weights = [torch.randn_like(part) for part in expected]
    leaves = [x, *gru.parameters(), *([h0] if started else [])]

    def gradients(parts):
        return torch.autograd.grad(sum((w * p).sum() for w, p in zip(weights, parts, strict=True)), leaves)

    torch.testing.assert_close(gradients(own), gradients(expected))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("backwards", [False, True])
def test_gradients_hold_numerically(backwards):
    torch.manual_seed(1)
    leaves = random(4, 2, E), random(2, N), random(E, 3 * N), random(N, 3 * N), random(4 * N)
    assert torch.autograd.gradcheck(lambda *tensors: recurrent._Unrolled.apply(*tensors, backwards), leaves)


def test_trials_read_in_another_memory_order_give_the_same():
    torch.manual_seed(2)
    gru, x = nn.GRU(E, N, bidirectional=True), torch.randn(B, T, E).transpose(0, 1)
    torch.testing.assert_close(run_gru(gru, x), run_gru(gru, x.contiguous()), rtol=0, atol=0)


def test_slopes_are_those_of_a_step():
    torch.manual_seed(3)
    sums, before = random(1, B, 4 * N), random(B, N)

    def state(row):
        new, reset, update, inner = row.chunk(4, -1)
        z = update.sigmoid()
        return z * before + (1 - z) * (new + reset.sigmoid() * inner).tanh()

    row, after = sums.detach().clone(), torch.empty(B, N).double()
    with torch.no_grad():
        advance(steps_of(row)[0], before, out=after)
        found = torch.empty_like(row)
        slopes(row, before[None], out=found)
    torch.testing.assert_close(after, state(sums)[0])
    (expected,) = torch.autograd.grad(state(sums).sum(), sums)
    torch.testing.assert_close(found, expected)
