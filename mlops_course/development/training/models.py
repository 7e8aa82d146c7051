"""The kinds of model that are tried, probabilities that mean what they say, and the probability from which to act."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from .selection import _labels

RARE = 0.001  # a category in a smaller share of the training rows shares one column with the other rare ones
MAX_CATEGORIES = 254  # histogram gradient boosting can tell 255 values of a column apart; the rarest share the last


def candidates(
    derive: Callable[[pd.DataFrame], pd.DataFrame] | None,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    seed: int,
) -> dict[str, Pipeline]:
    """Unfitted models to compare, simplest first: `base_rate`, `logistic_regression`, `gradient_boosting`.

    Each is a pipeline from inputs to a probability: `derive` (row by row, without state; None for none), `encode`,
    `classify`. `numeric` and `categorical` are columns of what `derive` returns. A missing value or a category never
    seen in training gets an answer, not an error. The same rows and `seed` give the same model. Raises ValueError if
    `derive` cannot be imported by name, as a lambda cannot: such a model could not be saved.
    """
    if derive is not None and "<" in getattr(derive, "__qualname__", "<"):
        raise ValueError(f"expected a function that can be imported, got {derive!r}; define it with def in a module")

    def pipeline(*steps: tuple[str, BaseEstimator]) -> Pipeline:
        return Pipeline([("derive", FunctionTransformer(derive)), *steps] if derive is not None else list(steps))

    columns = {"numeric": list(numeric), "categorical": list(categorical)}
    return {
        "base_rate": pipeline(("classify", DummyClassifier(strategy="prior"))),
        "logistic_regression": pipeline(
            ("encode", _encoder_for_regression(**columns)),
            ("classify", LogisticRegression(solver="newton-cholesky", random_state=seed)),
        ),
        "gradient_boosting": pipeline(
            ("encode", _encoder_for_trees(**columns)),
            ("classify", _boosting(len(categorical), seed=seed)),
        ),
    }


def calibrate(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, method: str = "sigmoid"
) -> CalibratedClassifierCV:
    """`model`, as fitted, with its probabilities corrected to how often the target was 1 in these rows.

    Give rows that come after the rows that `model` was fitted on: on its own rows a model is too sure of itself.
    `method` is scikit-learn's: `sigmoid` fits two numbers (Platt 1999), `isotonic` any rising curve, for which it wants
    about a thousand rows (Niculescu-Mizil and Caruana 2005).
    """
    labels = _labels(target, inputs)
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(inputs, labels)


def cost_threshold(*, false_alarm: float, missed: float) -> float:
    """The probability from which acting costs less than waiting, for calibrated probabilities.

    To act at probability p costs (1 − p) · false_alarm on average, not to act p · missed; they are equal at
    false_alarm / (false_alarm + missed). Costs are net: what the error costs more than the right decision for the same
    row. With the four full costs this is Elkan 2001, "The foundations of cost-sensitive learning", equation 2:
    (C_FP − C_TN) / ((C_FP − C_TN) + (C_FN − C_TP)). Raises ValueError unless both costs are positive and finite.
    """
    _check_costs(false_alarm, missed)
    return false_alarm / (false_alarm + missed)


def best_threshold(target: pd.Series, probability: np.ndarray, *, false_alarm: float, missed: float) -> float:
    """The threshold that would have cost least on these rows; the highest where several would.

    The result is one of the probabilities, or just above the greatest: never act. On few rows it follows their noise;
    `cost_threshold` does not. Raises ValueError unless both costs are positive and finite, and each row has a
    probability and a label, 0 or 1.
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

    Raises ValueError if the threshold is no probability; `best_threshold` may lie just above 1.
    """
    if not 0 <= threshold <= np.nextafter(1, 2):
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}; give a probability, not a percentage")
    decided = FixedThresholdClassifier(FrozenEstimator(model), threshold=threshold, response_method="predict_proba")
    return decided.fit([[0], [1]], [0, 1])  # learns nothing, as the model is frozen; only marks it as fitted


def _encoder_for_regression(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE)
    scaled = make_pipeline(_gap_filler(), StandardScaler())
    return ColumnTransformer([("categorical", one_hot, categorical), ("numeric", scaled, numeric)])


def _encoder_for_trees(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,  # as if missing, which trees can answer
        encoded_missing_value=np.nan,
        max_categories=MAX_CATEGORIES,
    )
    return ColumnTransformer([("categorical", codes, categorical), ("numeric", _gap_filler(), numeric)])


def _gap_filler() -> SimpleImputer:
    """Medians for missing numbers, with indicators; trees need them for a column that is always missing."""
    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


def _boosting(number_of_categorical: int, *, seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=50,
        l2_regularization=1.0,
        early_stopping=False,  # it would judge by rows held out at random, out of their time
        categorical_features=list(range(number_of_categorical)),  # by position: the encoder puts them first
        random_state=seed,
    )


def _check_costs(false_alarm: float, missed: float) -> None:
    for name, cost in (("false_alarm", false_alarm), ("missed", missed)):
        if not 0 < cost < np.inf:
            raise ValueError(f"{name}: expected a positive, finite cost, got {cost}")
