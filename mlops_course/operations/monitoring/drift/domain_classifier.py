"""A model that tries to tell two samples apart: what only all columns together give away."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .summaries import _numbers, _require

FOLDS, TREES = 5, 60  # of the domain classifier
DRAWS = 500  # bootstrap draws of the domain classifier
LEVEL = 0.95
WIDER = (1 + FOLDS / (FOLDS - 1)) ** 0.5  # models of different folds share rows (Nadeau and Bengio 2003): 1.5 for five


@dataclass(frozen=True, eq=False)
class JointShift:
    """How well a model tells two samples apart: `roc_auc` with the interval [low, high], and by which features.

    `importance` is what the AUC loses when a feature's values are shuffled, largest first; features that say the same
    share it, so read the first few together.
    """

    roc_auc: float
    low: float
    high: float
    importance: pd.Series
    rows: int

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above one half."""
        return self.low > 0.5


def domain_classifier(
    reference_rows: pd.DataFrame,
    current_rows: pd.DataFrame,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    seed: int,
    group: str | None = None,
    most_rows: int = 20_000,
) -> JointShift:
    """Whether gradient boosting can tell current rows from reference rows, by cross-validation: a shift of all at once.

    Half is chance, 1 is certainty. It sees what no measure of single features can, such as two features that no longer
    go together. `group` names a column such as the day: rows of one group are never in training and test at once, and
    the interval is from draws of whole groups. Without it, what rows of one hour share gives any two days away, and
    every AUC is near 1. The interval is made wider, as the models of the folds have learnt from the same rows; with
    equal samples it lies above a half about once in a hundred times. With few groups it is too narrow all the same, and
    an AUC far below a half says only that groups are few, and that those left out are like the other side. At most
    `most_rows` of each side are used, drawn by `seed`.

    Raises KeyError if a column is not there, ValueError if a side has fewer than five groups (or rows, without any).
    Source: Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    names = [*numeric, *categorical]
    sides = []
    for rows in (reference_rows, current_rows):
        _require(rows, [*names, *([group] if group else [])])
        sides.append(rows.iloc[np.sort(rng.permutation(len(rows))[:most_rows])])
    both = pd.concat(sides, ignore_index=True)
    side = np.repeat([0, 1], [len(rows) for rows in sides])
    groups = _group_codes(both[group] if group else pd.Series(np.arange(len(both))), side)
    probability, lost = _out_of_fold(_encoded(both, numeric, categorical), side, groups, len(numeric), rng)
    auc = float(roc_auc_score(side, probability))
    draws = _drawn_aucs(side, probability, groups, rng)
    low, high = auc + WIDER * (np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - auc)
    return JointShift(
        roc_auc=auc,
        low=max(float(low), 0.0),
        high=min(float(high), 1.0),
        importance=pd.Series(lost, index=pd.Index(names, name="feature"), name="importance").sort_values()[::-1],
        rows=len(both),
    )


def _out_of_fold(
    inputs: np.ndarray, side: np.ndarray, groups: np.ndarray, numeric: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each row a score by a model that has not learnt from its group, and what each feature is worth."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    few = [i for i in range(numeric, inputs.shape[1]) if np.nanmax(inputs[:, i], initial=0) < 255]  # else as numbers
    scores, lost = np.empty(len(side)), np.zeros(inputs.shape[1])
    state = int(rng.integers(2**31))
    for past, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=state).split(inputs, side, groups):
        model = HistGradientBoostingClassifier(
            categorical_features=few, max_iter=TREES, early_stopping=False, random_state=state
        )
        with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
            model.fit(inputs[past], side[past])
            scores[test] = _ranks(model.predict_proba(inputs[test])[:, 1])
            whole = roc_auc_score(side[test], scores[test])
            for i in range(inputs.shape[1]):
                shuffled = inputs[test]
                shuffled[:, i] = rng.permutation(shuffled[:, i])
                lost[i] += (whole - roc_auc_score(side[test], model.predict_proba(shuffled)[:, 1])) / FOLDS
    return scores, lost


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, so that the answers of models of different folds can be put together."""
    return pd.Series(values).rank(pct=True).to_numpy()


def _group_codes(groups: pd.Series, side: np.ndarray) -> np.ndarray:
    codes, _ = pd.factorize(groups)
    codes = np.where(codes < 0, codes.max(initial=0) + 1 + np.arange(len(codes)), codes)  # a group of its own
    for value, name in enumerate(("reference", "current")):
        if (found := len(np.unique(codes[side == value]))) < FOLDS:
            raise ValueError(f"the {name} rows are of {found} groups; expected {FOLDS} at least: take a longer window")
    return codes


def _encoded(rows: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> np.ndarray:
    codes = [pd.factorize(rows[name])[0].astype(float) for name in categorical]
    return np.column_stack([*(_numbers(rows[name]) for name in numeric), *(np.where(c < 0, np.nan, c) for c in codes)])


def _drawn_aucs(side: np.ndarray, probability: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AUC in each of DRAWS bootstrap samples of whole groups, drawn within each side."""
    order = np.argsort(probability, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(probability[order]) > 0])  # ties count as half
    weights = np.zeros((DRAWS, len(side)))
    for value in (0, 1):
        mine = side == value
        codes, found = pd.factorize(groups[mine])
        times = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=DRAWS)
        weights[:, mine] = times[:, codes]
    weights = weights[:, order]
    ones = np.add.reduceat(weights * side[order], first, axis=1)
    zeros = np.add.reduceat(weights * (1 - side[order]), first, axis=1)
    lower = np.cumsum(zeros, axis=1) - zeros / 2
    return (ones * lower).sum(axis=1) / (ones.sum(axis=1) * zeros.sum(axis=1))
