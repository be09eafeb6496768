import numpy as np
import pytest

from nwb_sbtt.config import TrainConfig
from nwb_sbtt.errors import TrainingError
from nwb_sbtt.fitting.assembly import assemble
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import MODEL, population, settings


def test_fits_of_different_settings_make_one_ensemble(ds, fitted, tmp_path):
    smaller = settings(model=MODEL.model_copy(update={"factors": 3}), train=TrainConfig(epochs=1, seed=7))
    other = fit(ds, smaller, run_dir=tmp_path / "other", tracker=Silent())
    both = assemble(tmp_path / "both", [fitted.run_dir, other.run_dir], {"session": ds})
    latents = load(tmp_path / "both").infer(ds)
    mean = np.sqrt(fitted.infer(ds)["rates"].values * other.infer(ds)["rates"].values)
    np.testing.assert_allclose(latents["rates"].values, mean, rtol=1e-3)
    assert [member.config.model.factors for member in both.members] == [2, 3]
    assert (tmp_path / "both" / "calibration.json").exists()
    again = assemble(tmp_path / "both", [other.run_dir, fitted.run_dir], {"session": ds})
    assert again.config.model.factors == 3


def test_fits_of_other_data_are_not_averaged(ds, fitted, tmp_path):
    other = fit(population(seed=1), settings(), run_dir=tmp_path / "other", tracker=Silent())
    with pytest.raises(TrainingError, match="is a fit of different data than"):
        assemble(tmp_path / "both", [fitted.run_dir, other.run_dir], {"session": ds})
    assert not (tmp_path / "both").exists()
    with pytest.raises(TrainingError, match="at least two fits, not 1"):
        assemble(tmp_path / "both", [fitted.run_dir], {"session": ds})
