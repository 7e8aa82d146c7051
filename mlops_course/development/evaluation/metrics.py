"""How good probabilities and decisions are, and what they cost."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

METRICS: Mapping[str, str] = {  # name: what an axis says
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "calibration_error": "calibration error (probability)",
    "expected_cost": "expected cost per thousand rows",
    "cost_ratio": "cost relative to the best constant decision",
}
BINS = 10  # of calibration: enough to see a bend, few enough for hundreds of rows in each


def brier_score(target: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance between probability and outcome; 0 is perfect (Brier 1950)."""
    y, p = _checked(target, probability)
    return float(np.mean((p - y) ** 2))


def calibration_error(target: ArrayLike, probability: ArrayLike) -> float:
    """Expected calibration error: the mean gap between predicted and observed share, over bins of like predictions.

    The ten bins hold equal numbers of rows, not equal widths of probability. Over- and underestimates cancel within a
    bin, and predictions of a rare event crowd near 0, so one bin of equal width would hold most rows and hide most.
    By chance the error is above 0 for a perfect model too: see `calibration`. Source: Naeini, Cooper and Hauskrecht
    2015, with the quantile bins of Nguyen and O'Connor 2015.
    """
    y, p = _checked(target, probability)
    gaps = np.bincount(_bin_of(p), weights=p - y)
    return float(np.abs(gaps).sum() / len(p))


def expected_cost(
    target: ArrayLike, probability: ArrayLike, *, threshold: float, false_alarm: float, missed: float
) -> float:
    """Cost of deciding by `threshold`, per thousand rows, in the unit of `false_alarm` and `missed`."""
    y, p = _checked(target, probability)
    return float(1000 * np.mean(_cost(y, p >= threshold, false_alarm, missed)))


def log_losses(target: ArrayLike, probability: ArrayLike) -> np.ndarray:
    """Log loss of each row in nats; certainty is cut off as scikit-learn does it, so that no row costs infinity."""
    y, p = np.asarray(target), np.asarray(probability, dtype=float)
    tiny = np.finfo(float).eps
    return -np.log(np.clip(np.where(y == 1, p, 1 - p), tiny, 1 - tiny))


def measure(
    target: ArrayLike, probability: ArrayLike, *, threshold: float, false_alarm: float, missed: float
) -> pd.Series:
    """Every metric of METRICS, by name.

    `cost_ratio` is the expected cost divided by that of the better of two decisions that need no model: always act,
    never act. At 1 or above the model saves nothing. What is undefined is NaN: ROC AUC and average precision when all
    targets are equal, the ratio when a constant decision costs nothing.
    """
    y, p = _checked(target, probability)
    both_classes = len(np.unique(y)) == 2
    cost = expected_cost(y, p, threshold=threshold, false_alarm=false_alarm, missed=missed)
    constant = 1000 * min(missed * np.mean(y), false_alarm * np.mean(1 - y))
    values = {
        "roc_auc": roc_auc_score(y, p) if both_classes else np.nan,
        "average_precision": average_precision_score(y, p) if both_classes else np.nan,
        "log_loss": log_loss(y, p, labels=[0, 1]),
        "brier": brier_score(y, p),
        "calibration_error": calibration_error(y, p),
        "expected_cost": cost,
        "cost_ratio": cost / constant if constant else np.nan,
    }
    return pd.Series(values, name="value", dtype=float)


def _checked(target: ArrayLike, probability: ArrayLike, name: str = "probability") -> tuple[np.ndarray, np.ndarray]:
    """Target and probability as float arrays, if they are what they should be."""
    _require_same_rows(target, probability, name)
    y, p = np.asarray(target, dtype=float), np.asarray(probability, dtype=float)
    if y.ndim != 1 or p.ndim != 1 or not len(y):
        raise ValueError(
            f"target and {name} must be one-dimensional and not empty; got shapes {y.shape} and {p.shape}. "
            "Of predict_proba take the second column: [:, 1]."
        )
    if strange := int((~np.isin(y, [0, 1])).sum()):
        raise ValueError(f"target must be 0 or 1; {strange} of {len(y)} rows are not. Drop rows without a label first.")
    if strange := int((~((p >= 0) & (p <= 1))).sum()):
        raise ValueError(f"{name} must lie in [0, 1]; {strange} of {len(p)} rows do not or are NaN. Repair the model.")
    return y, p


def _require_same_rows(target: ArrayLike, other: ArrayLike, name: str) -> None:
    """Raise ValueError unless `other` has the length of `target` and, if both carry an index, the same one."""
    if len(other) != len(target):
        raise ValueError(f"{name} must have the {len(target)} rows of target; got {len(other)}. Score the same rows.")
    both_indexed = all(isinstance(rows, (pd.Series, pd.DataFrame)) for rows in (target, other))
    if both_indexed and not target.index.equals(other.index):
        raise ValueError(f"{name} and target have different indexes: score the same rows, in the same order.")


def _bin_of(p: np.ndarray) -> np.ndarray:
    """The bin of each probability: equal counts as far as ties allow, since edges are quantiles and ties stay."""
    edges = np.unique(np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, p, side="right")


def _cost(y: np.ndarray, acted: np.ndarray, false_alarm: float, missed: float) -> np.ndarray:
    return np.where(acted, false_alarm * (1 - y), missed * y)
