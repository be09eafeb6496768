"""Classes of trials decoded by logistic regression, each trial from others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError

FEWEST_OF_CLASS = 3
"""Trials of a class, at least: one is decoded from others, among which the penalty is chosen."""
INNER_FOLDS = 3
INVERSE_PENALTIES = tuple(10.0 ** np.arange(-4, 2))
"""To choose from (scikit-learn's C)."""


def cross_validated_classes(
    predictors: NDArray[np.floating],
    labels: NDArray[np.str_],
    folds: Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> NDArray[np.str_]:
    """Decode the class of each trial by a logistic regression that was fitted to other folds.

    Parameters
    ----------
    predictors : array (trial, feature)
    labels : array (trial)
    folds : iterable of (int array, int array)
        Trials that are decoded, and trials that their regression is fitted to.

    Returns
    -------
    array (trial)

    Raises
    ------
    DataError
        If the trials that a regression is fitted to are of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    decoded = np.full(len(labels), "", dtype=labels.dtype)
    for test, train in folds:
        names, counts = np.unique(labels[train], return_counts=True)
        if len(names) < 2:
            raise DataError(
                f"the trials that are used to decode others are of {len(names)} class{'es' * (len(names) != 1)}; expected "
                "every class in all parts of the session"
            )
        inner = StratifiedKFold(max(2, min(INNER_FOLDS, int(counts.min()))), shuffle=True, random_state=0)
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        grid: dict[str, Any] = {"logisticregression__C": INVERSE_PENALTIES}
        with warnings.catch_warnings():
            # Of classes with fewer trials than folds, and of weak penalties that take longer.
            warnings.simplefilter("ignore")
            decoded[test] = (
                GridSearchCV(regression, grid, cv=inner).fit(predictors[train], labels[train]).predict(predictors[test])
            )
    return decoded
