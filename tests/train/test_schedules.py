from dataclasses import replace

import pytest

from nwb_sbtt.config import ConvConfig, FitConfig, LadderConfig, LFADSConfig, MaskConfig, TrainConfig
from nwb_sbtt.train.schedules import MOST_EPOCHS, fill, learning_rate, plan, weights


@pytest.mark.parametrize(
    ("model", "few", "many"),
    [
        (LFADSConfig(), (8, 3000), (62, 3000)),
        (ConvConfig(), (16, 500), (62, 1850)),
        (LadderConfig(), (16, 500), (62, 500)),
    ],
)
def test_the_plan_is_sized_from_the_data(model, few, many):
    for n_trials, (batch_size, steps) in ((64, few), (1248, many)):
        made = plan(FitConfig(model=model), [n_trials])
        assert made.batch_size == batch_size
        assert steps <= made.epochs * made.steps_per_epoch < steps + made.steps_per_epoch
    assert plan(FitConfig(model=LFADSConfig()), [4]).epochs == MOST_EPOCHS


def test_more_trials_ask_for_less_regularisation():
    plans = [plan(FitConfig(), [n]) for n in (10, 64, 200, 600, 1248, 10_000)]
    models = [fill(ConvConfig(), [n]) for n in (10, 64, 200, 600, 1248, 10_000)]
    for values in (
        [p.weight_decay for p in plans],
        [p.coordinated_dropout[0] for p in plans],
        [m.dropout for m in models],
    ):
        assert values == sorted(values, reverse=True)
        assert values[0] == values[1] > values[2] > values[3] > values[4] == values[5]
    assert [p.learning_rate for p in plans] == sorted(p.learning_rate for p in plans)


def test_what_is_set_is_kept():
    train = TrainConfig(epochs=7, batch_size=5, patience=3, learning_rate=0.5, weight_decay=0.0)
    made = plan(FitConfig(train=train, masks=MaskConfig(coordinated_dropout=(0.0, 0.0))), [12, 11])
    assert (made.epochs, made.batch_size, made.patience, made.steps_per_epoch) == (7, 5, 3, 6)
    assert (made.learning_rate, made.weight_decay, made.coordinated_dropout) == (0.5, 0.0, (0.0, 0.0))
    assert fill(ConvConfig(dropout=0.0), [12]) == ConvConfig(dropout=0.0)
    assert fill(LFADSConfig(), [12]) == LFADSConfig()


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    made = replace(plan(FitConfig(), [100]), learning_rate=0.01)
    rates = [learning_rate(made, i / 100) for i in range(101)]
    assert max(rates) == rates[10] == 0.01
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-9


def test_weights_ramp_up_and_stay():
    config = TrainConfig(kl_weight=2.0, penalty_ramp=0.5)
    assert [weights(config, x).kl for x in (0.0, 0.25, 0.5, 1.0)] == [0, 1, 2, 2]
    assert weights(TrainConfig(penalty_ramp=0.0, kl_weight=2.0), 0.0).kl == 2
