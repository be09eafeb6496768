"""What is searched for each model, where nothing is named: one table, with its sources."""

from __future__ import annotations

from dataclasses import dataclass

AUTOLFADS = "AutoLFADS (Keshtkaran et al. 2022), as in lfads-torch's run_pbt.py"
AROUND = "a range around the defaults, which follow from the number of trials (nwb_sbtt/train/schedules.py)"


@dataclass(frozen=True)
class Row:
    """One setting of a model that is searched.

    Parameters
    ----------
    text : str
        Setting and values, as ``--space`` takes them.
    explore : float
        A population multiplies a value that is taken over by up to 1 + this, or divides it by it.
    source : str
    """

    text: str
    explore: float
    source: str


_CONVOLUTION = (
    Row("train.learning_rate=log(5e-4, 1e-2)", 0.3, AROUND),
    Row("train.weight_decay=log(1e-4, 2)", 0.8, AROUND),
    Row("model.dropout=uniform(0, 0.6)", 0.3, f"{AUTOLFADS}: 0 to 0.6"),
    Row("masks.coordinated_dropout=uniform(0.3, 0.9)", 0.3, AROUND),
    Row("model.factor_noise=uniform(0, 1)", 0.3, AROUND),
    Row("model.factors=[10, 20, 40, 80]", 0.0, AROUND),
)

SPACES: dict[str, tuple[Row, ...]] = {
    "conv": _CONVOLUTION,
    "ladder": _CONVOLUTION,
    "lfads": (
        Row(
            "train.learning_rate=log(1e-4, 2e-2)",
            0.3,
            f"{AUTOLFADS}: 1e-5 to 5e-3 at a constant rate; here it is the peak of a one-cycle schedule, 0.008 by default",
        ),
        Row("model.dropout=uniform(0, 0.6)", 0.3, f"{AUTOLFADS}: 0 to 0.6"),
        Row("masks.coordinated_dropout=uniform(0.01, 0.7)", 0.3, f"{AUTOLFADS}: 0.01 to 0.7"),
        Row(
            "train.kl_weight=log(1e-3, 1)",
            0.8,
            f"{AUTOLFADS}: 1e-6 to 1e-3 with a loss averaged over bins and units, so multiplied by their number "
            "(about 1,000 to 25,000)",
        ),
        Row(
            "train.l2_weight=log(5e-5, 0.5)",
            0.8,
            f"{AUTOLFADS}: 1e-4 to 1 for half the mean square, so half of that",
        ),
    ),
    "sae": (
        Row("train.learning_rate=log(1e-3, 3e-2)", 0.3, AROUND),
        Row("train.weight_decay=log(1e-5, 1e-2)", 0.8, AROUND),
        Row("model.dropout=uniform(0, 0.6)", 0.3, f"{AUTOLFADS}: 0 to 0.6"),
        Row("masks.coordinated_dropout=uniform(0.1, 0.8)", 0.3, AROUND),
        Row("model.factors=[8, 16, 32]", 0.0, AROUND),
    ),
}
"""By the name of the model."""
