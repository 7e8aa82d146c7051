"""From a fitted model to a decision: probabilities that mean what they say, and from which one to act."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier

from .selection import _labels


def calibrate(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, method: str = "sigmoid"
) -> CalibratedClassifierCV:
    """`model`, as fitted, with its probabilities corrected to how often the target was 1 in these rows.

    Give rows that come after the rows that `model` was fitted on: on its own rows a model is too sure of itself.
    `method` is scikit-learn's: `sigmoid` fits two numbers (Platt 1999), `isotonic` any rising curve, for which it wants
    about a thousand rows (Niculescu-Mizil and Caruana 2005). The model itself is not fitted again.

    Raises ValueError if a label is missing or is not 0 or 1.
    """
    labels = _labels(target, inputs)
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(inputs, labels)


def cost_threshold(*, false_alarm: float, missed: float) -> float:
    """The probability from which acting costs less than waiting, for calibrated probabilities.

    Costs are net, in any one unit: what the error costs more than the right decision for the same row. A false alarm
    counts against waiting rightly, a miss against acting rightly. To act at probability p then costs
    (1 − p) · false_alarm on average, not to act p · missed; they are equal at false_alarm / (false_alarm + missed).

    Where right decisions cost something, subtract it first. With the four full costs this is Elkan 2001, "The
    foundations of cost-sensitive learning", equation 2: (C_FP − C_TN) / ((C_FP − C_TN) + (C_FN − C_TP)).

    Raises ValueError unless both costs are positive and finite.
    """
    _check_costs(false_alarm, missed)
    return false_alarm / (false_alarm + missed)


def best_threshold(target: pd.Series, probability: np.ndarray, *, false_alarm: float, missed: float) -> float:
    """The threshold that would have cost least on these rows; the highest where several would.

    Act where probability ≥ threshold. The result is one of the probabilities, or just above the greatest: never act. On
    few rows it follows their noise; `cost_threshold` does not.

    Raises ValueError unless both costs are positive and finite, and each row has a probability and a label, 0 or 1.
    """
    _check_costs(false_alarm, missed)
    if np.ndim(probability) != 1 or not len(probability) or np.isnan(probability).any():
        raise ValueError(
            f"expected one probability of the label 1 for each row, got shape {np.shape(probability)}, "
            f"{np.isnan(probability).sum()} missing; take predict_proba(inputs)[:, 1]"
        )
    labels = _labels(target, probability)
    values, rank = np.unique(probability, return_inverse=True)
    positives, negatives = (np.bincount(rank, weights=labels == label) for label in (1, 0))
    missed_rows = np.r_[0, positives.cumsum()]  # positives below each threshold
    false_alarms = np.r_[negatives[::-1].cumsum()[::-1], 0]  # negatives at or above it
    cost = false_alarm * false_alarms + missed * missed_rows
    thresholds = np.r_[values, np.nextafter(values[-1], np.inf)]
    return float(thresholds[np.flatnonzero(cost == cost.min())[-1]])


def decide(model: BaseEstimator, threshold: float) -> FixedThresholdClassifier:
    """`model`, as fitted, with `predict` returning 1 where its probability of 1 is at least `threshold`, else 0.

    Probabilities stay as they are, and the result is ready to use. Raises ValueError if the threshold is no
    probability; `best_threshold` may lie just above 1.
    """
    if not 0 <= threshold <= np.nextafter(1, 2):
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}; give a probability, not a percentage")
    decided = FixedThresholdClassifier(FrozenEstimator(model), threshold=threshold, response_method="predict_proba")
    return decided.fit([[0], [1]], [0, 1])  # learns nothing, as the model is frozen; only marks it as fitted


def _check_costs(false_alarm: float, missed: float) -> None:
    for name, cost in (("false_alarm", false_alarm), ("missed", missed)):
        if not 0 < cost < np.inf:
            raise ValueError(f"{name}: expected a positive, finite cost, got {cost}")
