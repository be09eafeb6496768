"""Shapes of tensor arguments are checked in these tests."""

from dataclasses import replace

import jaxtyping
import pytest
import torch

from nwb_sbtt import masks
from tests.support.batches import make_batch


def test_a_mask_of_another_shape_is_refused_in_tests_whose_subject_shapes_are():
    batch = make_batch()
    with pytest.raises(jaxtyping.TypeCheckError):
        masks.hide(batch, batch.values)
    with pytest.raises(jaxtyping.TypeCheckError):
        replace(batch, trials=torch.zeros(2, 2, dtype=torch.int64))
