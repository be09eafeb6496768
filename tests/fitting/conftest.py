"""One small fit, made once, that the tests of fitting look at and start from; none of them changes its folder."""

import pytest

from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import population, settings


@pytest.fixture(scope="session")
def ds():
    return population()


@pytest.fixture(scope="session")
def fitted(ds, tmp_path_factory):
    return fit(ds, settings(), run_dir=tmp_path_factory.mktemp("runs") / "initial", tracker=Silent())
