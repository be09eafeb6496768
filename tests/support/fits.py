"""Small fits that several tests share."""

from functools import cache

from nwb_sbtt.config import FitConfig, LFADSConfig, TrainConfig
from nwb_sbtt.simulate.lorenz import lorenz
from nwb_sbtt.train.trackers import Silent

MODEL = LFADSConfig(read_in=6, encoder=6, initial_condition=4, controller=4, generator=6, factors=2)


def settings(**changes):
    train = TrainConfig(epochs=2, batch_size=8, checkpoint_every=1)
    return FitConfig(**{"model": MODEL, "train": train, "posterior_samples": 4, **changes})


def population(seed=0):
    return _population(seed).copy(deep=True)


@cache
def _population(seed):
    return lorenz(n_channels=6, conditions=3, trials_per_condition=8, n_bins=12, seed=seed).drop_vars("split")


class Stopping(Silent):
    """Tells nobody, and stops everything after so many epochs: what a kill does, in the same process."""

    def __init__(self, after):
        self.left = after

    def epoch(self, record):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
