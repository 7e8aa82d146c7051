"""Which kind of model and which settings, by how they do on later periods."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import RandomizedSearchCV, cross_validate
from threadpoolctl import threadpool_limits

from .folds import TimeFolds

METRICS = {"roc_auc": "roc_auc", "log_loss": "neg_log_loss", "brier": "neg_brier_score"}  # ours: scikit-learn's


def cross_validate_in_time(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, folds: TimeFolds
) -> pd.DataFrame:
    """How well `model`, fitted again for each fold, predicts the period that follows: one row a fold.

    Columns: fold (from 0), train_rows, test_rows, test_from (first prediction time of the test period), roc_auc,
    log_loss (nats) and brier (mean squared error of the probability). `target` is 0 or 1, 1 being what is predicted.

    Raises ValueError if a label is missing or is not 0 or 1, or if a fold trains or tests on one class only.
    """
    labels = _labels(target, inputs, folds)
    with _one_thread_a_fit():
        scores = cross_validate(
            model, inputs, labels, cv=folds, scoring=METRICS, return_indices=True, error_score="raise"
        )
    frame = pd.DataFrame(
        {
            "fold": range(folds.n_splits),
            "train_rows": [len(rows) for rows in scores["indices"]["train"]],
            "test_rows": [len(rows) for rows in scores["indices"]["test"]],
            "test_from": folds.starts(),
        }
    )
    signs = {name: -1 if scorer.startswith("neg_") else 1 for name, scorer in METRICS.items()}
    return frame.assign(**{name: sign * scores[f"test_{name}"] for name, sign in signs.items()})


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
    (`joblib.parallel_config`). The result has scikit-learn's `best_estimator_`, `best_params_` and `cv_results_`.

    Log loss, because a threshold from costs needs right probabilities, not only a right order. Raises ValueError as
    `cross_validate_in_time` does.
    """
    labels = _labels(target, inputs, folds)
    random = RandomizedSearchCV(
        model,
        dict(parameters),
        n_iter=draws,
        scoring="neg_log_loss",
        cv=folds,
        random_state=seed,
        error_score="raise",
    )
    with _one_thread_a_fit():
        return random.fit(inputs, labels)


def simplest_within_one_standard_error(losses: pd.DataFrame) -> str:
    """The first column of `losses` that is at most one standard error worse than the best column.

    `losses` has a row for each fold and a column for each model, simplest first; lower is better. The rule is a
    paired variant of that of Breiman et al. 1984, section 3.4.3. Theirs takes the standard error of the best model's
    own loss, this one that of the difference from the best model, fold by fold: a hard month is hard for all of them,
    which says nothing about which is better.

    Raises ValueError if there are fewer than two folds or a loss is missing.
    """
    if len(losses) < 2 or losses.isna().to_numpy().any():
        raise ValueError(f"expected losses of two or more folds, none missing, got:\n{losses}")
    worse = losses.sub(losses[losses.mean().idxmin()], axis=0)
    return (worse.mean() <= worse.sem()).idxmax()


def _one_thread_a_fit() -> threadpool_limits:
    """Within this, trees grow on one core: joblib spreads the fits, and only it.

    On busy cores OpenMP's threads spend their time waiting for one another: on two cores shared with other programs,
    a fit by two threads took ten times as long as by one. The models come out the same.
    """
    return threadpool_limits(limits=1, user_api="openmp")


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
