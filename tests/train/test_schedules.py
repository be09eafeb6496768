from nwb_sbtt.config import TrainConfig
from nwb_sbtt.train.schedules import MOST_EPOCHS, STEPS, learning_rate, plan, weights


def test_the_plan_is_sized_from_the_data():
    small, large = plan(TrainConfig(), [80]), plan(TrainConfig(), [1248])
    assert small.batch_size == 8
    assert large.batch_size == 62
    for made in (small, large):
        assert STEPS <= made.epochs * made.steps_per_epoch < STEPS + made.steps_per_epoch
    assert plan(TrainConfig(), [4]).epochs == MOST_EPOCHS


def test_what_is_set_is_kept():
    made = plan(TrainConfig(epochs=7, batch_size=5, patience=3), [12, 11])
    assert (made.epochs, made.batch_size, made.patience, made.steps_per_epoch) == (7, 5, 3, 6)


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    config = TrainConfig(learning_rate=0.01)
    rates = [learning_rate(config, i / 100) for i in range(101)]
    assert max(rates) == rates[10] == 0.01
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-9


def test_weights_ramp_up_and_stay():
    config = TrainConfig(kl_weight=2.0, ramp=0.5)
    assert [weights(config, x).kl for x in (0.0, 0.25, 0.5, 1.0)] == [0, 1, 2, 2]
    assert weights(TrainConfig(ramp=0.0, kl_weight=2.0), 0.0).kl == 2
