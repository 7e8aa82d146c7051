"""What a model must do on rows that were made for it, and how long an answer takes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

ROUNDING = 1e-9  # a smaller difference of probabilities comes from rounding, when other rows are scored together
Predict = Callable[[pd.DataFrame], np.ndarray]  # inputs to the probability of the positive class, one for each row
Change = Callable[[pd.DataFrame], pd.DataFrame]  # inputs to other inputs, one for each row
Shown = Mapping[str, tuple[pd.DataFrame, np.ndarray]]  # "before", "after" or "case": rows and their probabilities


@dataclass(frozen=True, eq=False)
class BehaviourResult:
    """Result of one behavioural test.

    `worst` shows the worst row: its inputs and the probability, before and after the change if there was one.
    """

    name: str
    rows: int
    failing_share: float
    allowed_share: float
    worst: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether the share of failing rows is not above the allowed one."""
        return self.failing_share <= self.allowed_share


def invariance(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    change: Change,
    name: str,
    tolerance: float = 0.0,
    allowed_share: float = 0.0,
) -> BehaviourResult:
    """Test that a change leaves the predictions as they are: no probability moves by more than `tolerance`.

    Raises ValueError if `change` changes nothing or the shape, or `predict` does not return one number for each row.
    The three kinds of test are those of Ribeiro et al. 2020, Beyond Accuracy.
    """
    shown, moved = _moved(predict, rows, change=change, name=name)
    return _result(name, shown, np.abs(moved) - tolerance, allowed_share)


def direction(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    change: Change,
    expected: str,
    name: str,
    at_least: float = 0.0,
    allowed_share: float = 0.0,
) -> BehaviourResult:
    """Test that a change moves probabilities the `expected` way, "up" or "down", by `at_least` so much.

    With `at_least=0` a row that does not move passes. Raises ValueError if `expected` is neither word, and as
    `invariance` does.
    """
    if expected not in ("up", "down"):
        raise ValueError(f"expected must be 'up' or 'down'; got {expected!r}.")
    shown, moved = _moved(predict, rows, change=change, name=name)
    return _result(name, shown, at_least - (moved if expected == "up" else -moved), allowed_share)


def minimum_functionality(
    predict: Predict, rows: pd.DataFrame, *, name: str, low: float = 0.0, high: float = 1.0, allowed_share: float = 0.0
) -> BehaviourResult:
    """Test that plain cases, where anybody knows the answer, get a probability between `low` and `high`.

    Raises ValueError if no probability can lie there, or `predict` does not return one number for each row.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"expected 0 <= low <= high <= 1; got low {low} and high {high}.")
    scores = _scored(predict, rows)
    return _result(name, {"case": (rows, scores)}, np.maximum(low - scores, scores - high), allowed_share)


def _moved(predict: Predict, rows: pd.DataFrame, *, change: Change, name: str) -> tuple[Shown, np.ndarray]:
    """Rows and scores before and after the change, and by how much each score moved."""
    changed = change(rows.copy())
    if not changed.index.equals(rows.index) or not changed.columns.equals(rows.columns):
        raise ValueError(f"{name}: change must keep index and columns; it may only change values.")
    if changed.equals(rows):
        raise ValueError(f"{name}: change left every value as it was, so this would test nothing. Repair change.")
    before, after = _scored(predict, rows), _scored(predict, changed)
    return {"before": (rows, before), "after": (changed, after)}, after - before


def _scored(predict: Predict, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities of the rows; what is not a probability becomes NaN, which fails every test."""
    scores = np.asarray(predict(rows), dtype=float)
    if scores.shape != (len(rows),) or not len(rows):
        raise ValueError(
            f"predict must return one number for each of {len(rows)} rows, at least one; got shape {scores.shape}. "
            "Of predict_proba take the second column: [:, 1]."
        )
    return np.where((scores >= 0) & (scores <= 1), scores, np.nan)


def _result(name: str, shown: Shown, excess: np.ndarray, allowed_share: float) -> BehaviourResult:
    """The result for rows that went beyond what is allowed by `excess`; NaN counts as beyond everything."""
    worst = int(np.argmax(np.nan_to_num(excess, nan=np.inf)))
    table = pd.concat([rows.iloc[[worst]].assign(probability=scores[worst]) for rows, scores in shown.values()])
    failing_share = float(np.mean(~(excess <= ROUNDING)))
    return BehaviourResult(name, len(excess), failing_share, allowed_share, table.set_axis(list(shown), axis="index"))


def latency(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    calls: int = 200,
    warm_up: int = 10,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Measure the time to predict single rows in milliseconds: the median `p50_ms` and the 95th percentile `p95_ms`.

    Rows are taken in turn, one a call, as a service gets them. The first `warm_up` calls fill caches and do not count.
    `clock` gives seconds; the default is processor time, so that other work on the machine does not change the verdict.
    """
    if not len(rows) or calls < 1:
        raise ValueError(f"expected at least one row and one call; got {len(rows)} rows and {calls} calls.")
    seconds = []
    for call in range(warm_up + calls):
        row = rows.iloc[[call % len(rows)]]
        start = clock()
        predict(row)
        seconds.append(clock() - start)
    p50, p95 = 1000 * np.quantile(seconds[warm_up:], [0.5, 0.95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}
