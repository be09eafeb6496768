import pytest
import torch

from nwb_sbtt.nn import control, recurrent
from nwb_sbtt.nn.control import MIN_LOG_SD, run_controlled
from nwb_sbtt.nn.recurrent import Cell

T, B, C, G, U, E, K = 5, 3, 4, 6, 2, 3, 2


def slow(controller, generator, *, encoded, feedback, to_inputs, g0, draws, known=None):
    """The same equations, step by step, with gates by name and autograd's own backward pass."""
    weights, bias, prior_log_sd = to_inputs

    def project(cell, x):
        return x @ cell.inward + cell.bias

    def gru(cell, x, h):
        x_new, x_reset, x_update = x.chunk(3, -1)
        h_reset, h_update, h_new = (h @ cell.recurrent).chunk(3, -1)
        reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
        return (1 - update) * torch.tanh(x_new + reset * (h_new + cell.bias_new)) + update * h

    c, g = g0.new_zeros(B, C), g0
    path = []
    for t in range(T):
        c = gru(controller, project(controller, encoded[t]) + g @ feedback, c)
        mean, log_sd = (c @ weights + bias).chunk(2, -1)
        log_sd = log_sd.clamp(min=MIN_LOG_SD) + prior_log_sd
        u = mean if draws is None else mean + log_sd.exp() * draws[t]
        g = gru(generator, project(generator, u if known is None else torch.cat([u, known[t]], -1)), g)
        path.append((g, mean, log_sd, u))
    return [torch.stack(part) for part in zip(*path, strict=True)]


def arguments(n_known=0):
    torch.manual_seed(0)
    controller, generator = Cell(E, C).double(), Cell(U + n_known, G).double()
    leaf = {
        "encoded": torch.randn(T, B, E).double(),
        "feedback": torch.randn(G, 3 * C).double(),
        "g0": torch.randn(B, G).double(),
    }
    to_inputs = (torch.randn(C, 2 * U).double(), torch.randn(2 * U).double() - 1, torch.randn(U).double())
    tensors = [*leaf.values(), *to_inputs, *generator.parameters(), *controller.parameters()]
    for tensor in tensors:
        tensor.requires_grad_(True)
    return controller, generator, leaf, to_inputs, tensors


@pytest.mark.parametrize("known", [None, torch.randn(T, B, K).double()], ids=["alone", "with known inputs"])
@pytest.mark.parametrize("at_once", [1, 2 * B * 4 * (C + G), 10**6])
def test_the_fused_loop_equals_the_slow_one_with_its_gradients(at_once, known, monkeypatch):
    monkeypatch.setattr(recurrent, "_PIECE_SIZE", at_once)
    for draws in (torch.randn(T, B, U).double(), None):
        controller, generator, leaf, to_inputs, tensors = arguments(0 if known is None else K)
        fused = run_controlled(controller, generator, **leaf, to_inputs=to_inputs, draws=draws, known=known)
        expected = slow(controller, generator, **leaf, to_inputs=to_inputs, draws=draws, known=known)
        outputs = [fused.generator, fused.mean, fused.log_sd, fused.inputs]
        torch.testing.assert_close(outputs, expected)
        weights = [torch.randn_like(part) for part in expected]

        def gradients(parts, weights=weights, tensors=tensors):
            return torch.autograd.grad(sum((w * p).sum() for w, p in zip(weights, parts, strict=True)), tensors)

        torch.testing.assert_close(gradients(outputs), gradients(expected))


def test_gradients_hold_numerically_also_where_the_sd_is_at_its_floor():
    torch.manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.double, requires_grad=True)

    bias = torch.tensor([0.1, -0.2, -20.0, 0.3], dtype=torch.double, requires_grad=True)
    inputs = [
        random(3, 2, E),
        random(2, G),
        random(4 * (G + C)),
        random(E, 3 * C),
        random(G, 3 * G + 3 * C),
        random(C, 3 * C),
        random(C, 2 * U),
    ]
    inputs += [bias, random(U), random(U + K, 3 * G)]
    drawn = torch.randn(3, 2, U).double(), torch.randn(3, 2, K).double()
    assert torch.autograd.gradcheck(control._RunControlled.apply, (*inputs, *drawn))


def test_the_state_stays_bounded():
    controller, generator, leaf, to_inputs, _ = arguments()
    with torch.no_grad():
        leaf["encoded"] *= 100
        run = run_controlled(
            controller, generator, **leaf, to_inputs=to_inputs, draws=torch.randn(T, B, U).double() * 100
        )
    assert (run.generator.abs() <= leaf["g0"].abs().clamp(min=1)).all()
