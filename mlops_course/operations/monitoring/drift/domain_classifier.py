"""A model that tries to tell two samples apart: it sees shifts that only all columns together show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .summaries import _numbers, _require

FOLDS, TREES = 5, 60
SHUFFLES = 5  # of each feature, for its importance
DRAWS = 500  # bootstrap samples
LEVEL = 0.95
FOLD_CORRECTION = (1 + FOLDS / (FOLDS - 1)) ** 0.5  # models of different folds share rows (Nadeau and Bengio 2003)
MOST_CATEGORIES = 255  # of HistGradientBoostingClassifier; a column with more is taken as numbers


@dataclass(frozen=True, eq=False)
class JointShift:
    """How well a model tells two samples apart: `roc_auc` with the interval [low, high], and by which features.

    `importance` is the loss of AUC when a feature's values are shuffled, largest first. Features that say the same
    share it, so read the first few together.
    """

    roc_auc: float
    low: float
    high: float
    importance: pd.Series

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above one half."""
        return self.low > 0.5


def domain_classifier(
    reference_rows: pd.DataFrame,
    current_rows: pd.DataFrame,
    *,
    features: Sequence[str],
    seed: int,
    group: str | None = None,
    most_rows: int = 20_000,
) -> JointShift:
    """Cross-validate a gradient boosting model that tells current rows from reference rows.

    An AUC of one half is chance, 1 is certainty. Columns of numbers and times are numbers, all others are categories.
    `group` names a column such as the day: rows of one group are never in training and test at once, and the interval
    comes from bootstrap samples of whole groups. Without it, rows of the same hour are alike, and every AUC is near 1.
    At most `most_rows` of each side are used, drawn by `seed`. With few groups the interval is too narrow.

    Raises KeyError if a column is not there, ValueError if a side has fewer than five groups (or rows, without any).
    Source: Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    sides = []
    for rows in (reference_rows, current_rows):
        _require(rows, [*features, *([group] if group else [])])
        sides.append(rows.iloc[np.sort(rng.permutation(len(rows))[:most_rows])])
    both = pd.concat(sides, ignore_index=True)
    side = np.repeat([0, 1], [len(rows) for rows in sides])
    groups = _group_codes(both[group] if group else pd.Series(np.arange(len(both))), side)
    scores, importance = _out_of_fold(both[[*features]], side, groups, rng)
    auc = float(roc_auc_score(side, scores))
    draws = _drawn_aucs(side, scores, groups, rng)
    low, high = auc + FOLD_CORRECTION * (np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - auc)
    return JointShift(
        roc_auc=auc,
        low=max(float(low), 0.0),
        high=min(float(high), 1.0),
        importance=importance.sort_values(ascending=False),
    )


def _out_of_fold(
    rows: pd.DataFrame, side: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, pd.Series]:
    """For each row a score by a model that has not learnt from its group, and the importance of each feature.

    Scores are ranks within the fold, from 0 to 1, so that those of different models can be compared.
    """
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    inputs, categorical = _inputs(rows)
    scores, importance = np.empty(len(side)), np.zeros(rows.shape[1])
    state = int(rng.integers(2**31))
    for past, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=state).split(inputs, side, groups):
        model = HistGradientBoostingClassifier(
            categorical_features=categorical, max_iter=TREES, early_stopping=False, random_state=state
        )
        with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
            model.fit(inputs[past], side[past])
            scores[test] = rankdata(model.predict_proba(inputs[test])[:, 1]) / len(test)
            shuffled = permutation_importance(
                model, inputs[test], side[test], scoring="roc_auc", n_repeats=SHUFFLES, random_state=state
            )
        importance += shuffled.importances_mean / FOLDS
    return scores, pd.Series(importance, index=pd.Index(rows.columns, name="feature"), name="importance")


def _inputs(rows: pd.DataFrame) -> tuple[np.ndarray, list[int]]:
    """The columns as floats, and which of them are categories."""
    columns, categorical = [], []
    for at, (_, values) in enumerate(rows.items()):
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            columns.append(_numbers(values))
            continue
        codes, found = pd.factorize(values)
        columns.append(np.where(codes < 0, np.nan, codes))
        if len(found) <= MOST_CATEGORIES:
            categorical.append(at)
    return np.column_stack(columns), categorical


def _group_codes(groups: pd.Series, side: np.ndarray) -> np.ndarray:
    codes, _ = pd.factorize(groups, use_na_sentinel=False)
    for value, name in enumerate(("reference", "current")):
        if (found := len(np.unique(codes[side == value]))) < FOLDS:
            raise ValueError(f"the {name} rows are of {found} groups; expected {FOLDS} at least: take a longer window")
    return codes


def _drawn_aucs(side: np.ndarray, scores: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AUC in each bootstrap sample of whole groups, drawn within each side."""
    from sklearn.metrics import roc_auc_score

    weights = np.zeros((DRAWS, len(side)))
    for value in (0, 1):
        codes, found = pd.factorize(groups[side == value])
        times = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=DRAWS)
        weights[:, side == value] = times[:, codes]
    return np.array([roc_auc_score(side, scores, sample_weight=times) for times in weights])
