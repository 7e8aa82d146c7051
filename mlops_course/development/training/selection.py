"""Which kind of model and which settings, by how they do on later periods: no model learns from what came later."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import RandomizedSearchCV, cross_validate
from threadpoolctl import threadpool_limits

FOLDS = 4  # of a training, within the rows to train on
CLIP = 1e-6  # least distance of a probability from 0 and 1
TIED = 1e-12  # a difference that is none
METRICS = {"roc_auc": "roc_auc", "log_loss": "neg_log_loss", "brier": "neg_brier_score"}  # ours: scikit-learn's
# Only joblib spreads fits. On busy cores OpenMP's threads wait for one another, and take ten times as long as one.
one_thread_a_fit = partial(threadpool_limits, limits=1, user_api="openmp")


@dataclass(frozen=True, eq=False)
class TimeFolds:
    """Folds in order of time, for scikit-learn's `cv=`: train on what was known, test on what came next.

    The distinct prediction times, in order, are cut into `n_splits` + 1 periods of equally many (± 1). The first period
    is only trained on; each other one is the test period of a fold, which trains on every earlier row whose label was
    known when the test period began. The others are purged (López de Prado 2018, chapter 7). Rows need not be sorted.

    `prediction_time` and `label_time` are datetime Series with the index of `X`, which lacks them because they are no
    inputs. A splitter belongs to its rows and refuses others. Raises ValueError for times that cannot be folded.
    """

    n_splits: int
    prediction_time: pd.Series = field(kw_only=True, repr=False)
    label_time: pd.Series = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Refuse times that cannot be folded."""
        _check_times(self.prediction_time, "prediction_time")
        _check_times(self.label_time, "label_time")
        if not self.prediction_time.index.equals(self.label_time.index):
            raise ValueError("expected prediction_time and label_time of the same rows, got different indexes")
        if early := int((self.label_time < self.prediction_time).sum()):
            raise ValueError(f"expected no label before its prediction, got {early}; are the two times swapped?")
        distinct = self.prediction_time.nunique()
        if self.n_splits < 1 or distinct <= self.n_splits:
            raise ValueError(
                f"expected one fold or more, and more distinct prediction times than folds, got {self.n_splits} folds "
                f"and {distinct} distinct times; use fewer folds or more rows"
            )
        train, _ = next(self.split())
        if not len(train):
            raise ValueError(
                f"expected labels before the first test period begins ({self.starts()[0]}), got the first one at "
                f"{self.label_time.min()}; use fewer folds or rows from a longer time"
            )

    def starts(self) -> pd.DatetimeIndex:
        """When the test period of each fold begins."""
        distinct = pd.DatetimeIndex(self.prediction_time.unique()).sort_values()
        return distinct[np.arange(1, self.n_splits + 1) * len(distinct) // (self.n_splits + 1)]

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the training and the test rows of each fold; an `X` must be the rows whose times these are."""
        if X is not None and len(X) != len(self.prediction_time):
            raise ValueError(f"expected the {len(self.prediction_time)} rows whose times were given, got {len(X)} rows")
        if hasattr(X, "iloc") and not X.index.equals(self.prediction_time.index):
            raise ValueError("expected rows with the index of their times, got another index; take both from one frame")
        starts = self.starts()
        fold = starts.searchsorted(pd.DatetimeIndex(self.prediction_time), side="right") - 1  # −1: before all tests
        for k, start in enumerate(starts):
            yield np.flatnonzero((fold < k) & (self.label_time <= start)), np.flatnonzero(fold == k)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many folds there are; scikit-learn asks."""
        return self.n_splits


def cross_validate_in_time(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, folds: TimeFolds, calibrated: bool = False
) -> pd.DataFrame:
    """How well `model`, fitted again for each fold, predicts the period that follows: one row a fold.

    Columns: fold (from 0), train_rows, test_rows, test_from (first prediction time of the test period), roc_auc,
    log_loss (nats) and brier (mean squared error of the probability). `calibrated` adds calibrated_log_loss, as
    models are used, and events, the test rows of the rarer label. Raises ValueError if a label is missing or is
    not 0 or 1, or if a fold trains or tests on one class only.
    """
    labels, how = _labels(target, inputs, folds), {"return_indices": True, "error_score": "raise"}
    with one_thread_a_fit():
        scoring = METRICS | ({"calibrated_log_loss": _calibrated} if calibrated else {})
        scores = cross_validate(model, inputs, labels, cv=folds, scoring=scoring, **how)
    frame = {"fold": range(folds.n_splits)}
    frame |= {f"{part}_rows": [len(rows) for rows in scores["indices"][part]] for part in ("train", "test")}
    frame |= {"test_from": folds.starts()}
    frame |= {name: abs(scores[f"test_{name}"]) for name in scoring}  # scikit-learn's losses are negative
    if calibrated:
        positives = [int(labels[rows].sum()) for rows in scores["indices"]["test"]]
        frame["events"] = [min(found, of - found) for found, of in zip(positives, frame["test_rows"], strict=True)]
    return pd.DataFrame(frame)


def _calibrated_log_loss(target: np.ndarray, probability: np.ndarray) -> float:
    """Log loss after the best calibration by a rising line on the logit (Platt 1999), plus its optimism.

    A model is used calibrated, so a wrong level says nothing against it; that of a constant is the entropy. The numbers
    that are fitted on these very rows make the loss too small by half a row each; as much again pays for later rows
    (Akaike 1974).
    """
    labels, at = np.asarray(target, dtype=float), logit(np.clip(probability, CLIP, 1 - CLIP))[:, None]
    rate, fitted = np.full(len(labels), labels.mean()), 1
    if np.ptp(at) > 0:
        line = LogisticRegression(C=1e6).fit(at, labels)
        if line.coef_[0, 0] > 0:
            rate, fitted = line.predict_proba(at)[:, 1], 2
    return float(log_loss(labels, rate, labels=[0, 1]) + fitted / len(labels))


def _calibrated(model: BaseEstimator, inputs: pd.DataFrame, target: np.ndarray) -> float:
    return -_calibrated_log_loss(target, model.predict_proba(inputs)[:, 1])


def search(
    model: BaseEstimator,
    parameters: Mapping[str, Any],
    *,
    inputs: pd.DataFrame,
    target: pd.Series,
    folds: TimeFolds,
    draws: int,
    seed: int,
) -> RandomizedSearchCV:
    """Random search for the `parameters` with the lowest mean log loss over `folds`, refitted on all the rows.

    `parameters` maps names such as `classify__max_iter` to lists or scipy distributions, of which `draws` combinations
    are tried, the same for the same `seed`. Joblib's current backend decides where fits run
    (`joblib.parallel_config`). Log loss, because a threshold from costs needs right probabilities, not only a right
    order. Raises ValueError as `cross_validate_in_time` does.
    """
    labels = _labels(target, inputs, folds)
    how = {"scoring": "neg_log_loss", "cv": folds, "random_state": seed, "error_score": "raise"}
    with one_thread_a_fit():
        return RandomizedSearchCV(model, dict(parameters), n_iter=draws, **how).fit(inputs, labels)


def simplest_within_one_standard_error(losses: pd.DataFrame, *, weights: pd.Series | None = None) -> str:
    """The first column of `losses` that is at most one standard error worse than the best column.

    `losses` has a row for each fold, two or more, and a column for each model, simplest first; lower is better. The
    standard error is that of the difference from the best model, fold by fold, because a hard month is hard for all of
    them. (In Breiman et al. 1984, section 3.4.3, it is that of the best model's own loss.) `weights` say how much each
    fold can tell, such as its number of the rarer label; without them all count alike.
    """
    if len(losses) < 2 or losses.isna().to_numpy().any():
        raise ValueError(f"expected losses of two or more folds, none missing, got:\n{losses}")
    if weights is None:
        weights = pd.Series(1.0, index=losses.index)
    share = weights.reindex(losses.index) / weights.reindex(losses.index).sum()
    worse = losses.sub(losses[losses.mul(share, axis=0).sum().idxmin()], axis=0)
    mean = worse.mul(share, axis=0).sum()
    error = np.sqrt((worse - mean).pow(2).mul(share**2, axis=0).sum() * len(losses) / (len(losses) - 1))
    return (mean <= error + TIED).idxmax()


def _labels(target: pd.Series, rows: Any, folds: TimeFolds | None = None) -> np.ndarray:
    """`target` as an array, once it is known to be a label for every row, and both labels in every part of `folds`."""
    labels = np.asarray(target, dtype=float)
    if len(labels) != len(rows):
        raise ValueError(f"expected one label a row, got {len(labels)} labels for {len(rows)} rows")
    if isinstance(target, pd.Series) and isinstance(rows, pd.DataFrame) and not target.index.equals(rows.index):
        raise ValueError("expected labels with the index of their rows, got another index; take both from one frame")
    if wrong := int((~np.isin(labels, (0, 1))).sum()):
        raise ValueError(f"expected every label to be 0 or 1, got {wrong} missing or other; drop rows without a label")
    for fold, parts in enumerate(folds.split(rows) if folds is not None else ()):
        for part, positions in zip(("train", "test"), parts, strict=True):
            if len(np.unique(labels[positions])) < 2:
                raise ValueError(f"expected both classes, got one in the {part} rows of fold {fold}; use fewer folds")
    return labels


def _check_times(times: pd.Series, name: str) -> None:
    if not (isinstance(times, pd.Series) and pd.api.types.is_datetime64_any_dtype(times)):
        got = times.dtype if isinstance(times, pd.Series) else type(times).__name__
        raise TypeError(f"{name}: expected a Series of datetimes, got {got}; convert it with pd.to_datetime")
    if missing := int(times.isna().sum()):
        raise ValueError(
            f"{name}: expected a time for every row, got {missing} missing; a row without prediction or label can be "
            "neither fitted nor scored: drop it first"
        )
