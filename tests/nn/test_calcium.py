import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.nn.calcium import calcium


def slowly(events, steps, decay, rise, initial):
    """Bin after bin, in double precision."""
    steps = steps.double().expand(len(events), -1)
    y = torch.zeros_like(events[:, 0]).double() if initial is None else initial.double()
    x = torch.zeros_like(y)
    course = []
    for t in range(events.shape[1]):
        fed = events[:, t].double()
        if rise is not None:
            x = torch.exp(-steps[:, t, None] / rise) * x + fed
            fed = x
        y = torch.exp(-steps[:, t, None] / decay) * y + fed
        course.append(y)
    return torch.stack(course, 1)


def draw(seed, shape=(3, 40, 4), dtype=torch.float64, *, irregular=True, by_trial=True):
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda *size: torch.rand(size, generator=generator, dtype=dtype)  # noqa: E731
    steps = 0.03 * (0.5 + uniform(shape[0], shape[1])) if irregular else torch.full((shape[1],), 0.03, dtype=dtype)
    events = uniform(*shape) * (uniform(*shape) < 0.2)
    decay = 0.05 + uniform(shape[2])
    return (
        events,
        steps if by_trial or not irregular else steps[0],
        decay,
        0.01 + 0.1 * uniform(shape[2]),
        uniform(3, 4),
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_all_bins_at_once_are_what_a_loop_gives(seed, by_trial, irregular, rising, started):
    events, steps, decay, rise, initial = draw(seed, irregular=irregular, by_trial=by_trial)
    rise, initial = rise if rising else None, initial if started else None
    found = calcium(events, steps, decay=decay, rise=rise, initial=initial)
    torch.testing.assert_close(found, slowly(events, steps, decay, rise, initial), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [1e-4, 0.02, 0.4, 30.0])
def test_long_courses_keep_their_precision_in_single_floats(decay):
    events, steps, *_ = draw(0, (2, 5000, 4), dtype=torch.float32)
    taus = torch.full((4,), decay)
    found = calcium(events, steps, decay=taus)
    expected = slowly(events, steps, taus.double(), None, None)
    torch.testing.assert_close(found.double(), expected, rtol=2e-4, atol=1e-6)


def test_even_steps_make_an_autoregression_of_second_order():
    events, steps, decay, rise, _ = draw(1, irregular=False)
    y = calcium(events, steps, decay=decay, rise=rise)
    d, r = torch.exp(-0.03 / decay), torch.exp(-0.03 / rise)
    torch.testing.assert_close(y[:, 2:] - (d + r) * y[:, 1:-1] + d * r * y[:, :-2], events[:, 2:])


def test_a_step_may_be_parted_where_nothing_happens():
    """Calcium depends on time, not on how often it is looked at."""
    events, steps, decay, _, initial = draw(2)
    halves = torch.repeat_interleave(steps / 2, 2, 1)
    spread = torch.zeros(3, 80, 4, dtype=torch.float64)
    spread[:, 1::2] = events
    fine = calcium(spread, halves, decay=decay, initial=initial)
    torch.testing.assert_close(fine[:, 1::2], calcium(events, steps, decay=decay, initial=initial))


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_gradients_equal_differences(scale):
    """Also where decay is so fast that the course is cut into stretches."""
    events, steps, decay, rise, initial = draw(3, (3, 12, 4))
    inputs = [each.requires_grad_() for each in (events, steps, decay * scale, rise * scale, initial)]

    def course(events, steps, decay, rise, initial):
        return calcium(events, steps, decay=decay, rise=rise, initial=initial)

    assert torch.autograd.gradcheck(course, inputs)
