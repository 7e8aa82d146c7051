"""Folds of a cross-validation in which no model learns from what came later."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

FOLDS = 4  # of a training, within the rows to train on


@dataclass(frozen=True, eq=False)
class TimeFolds:
    """Folds in order of time, for scikit-learn's `cv=`: train on what was known, test on what came next.

    The distinct prediction times, in order, are cut into `n_splits` + 1 periods of equally many (± 1). The first period
    is only trained on; each other one is the test period of a fold, which trains on every earlier row whose label was
    known when the test period began. The others are purged (López de Prado 2018, chapter 7).
    Rows need not be sorted.

    The times come with the constructor because each row has two, which scikit-learn's `groups` cannot carry, and they
    are no inputs, so `X` lacks them. A splitter thus belongs to its rows and refuses others. `prediction_time` and
    `label_time` are datetime Series with the index of `X`.

    Raises ValueError for missing times, labels known before their prediction, too few distinct times, or folds without
    a training row; TypeError for what is no datetime Series.
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
        """Positions of the training and the test rows of each fold; `y` and `groups` are scikit-learn's, not looked at.

        Raises ValueError if `X` is given and is not the rows whose times these are.
        """
        self._check_rows(X)
        starts = self.starts()
        fold = starts.searchsorted(pd.DatetimeIndex(self.prediction_time), side="right") - 1  # −1: before all tests
        for k, start in enumerate(starts):
            yield np.flatnonzero((fold < k) & (self.label_time <= start)), np.flatnonzero(fold == k)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many folds there are; scikit-learn asks."""
        return self.n_splits

    def _check_rows(self, X: Any) -> None:
        if X is None:
            return
        if len(X) != len(self.prediction_time):
            raise ValueError(f"expected the {len(self.prediction_time)} rows whose times were given, got {len(X)} rows")
        if hasattr(X, "iloc") and not X.index.equals(self.prediction_time.index):
            raise ValueError("expected rows with the index of their times, got another index; take both from one frame")


def _check_times(times: pd.Series, name: str) -> None:
    if not (isinstance(times, pd.Series) and pd.api.types.is_datetime64_any_dtype(times)):
        got = times.dtype if isinstance(times, pd.Series) else type(times).__name__
        raise TypeError(f"{name}: expected a Series of datetimes, got {got}; convert it with pd.to_datetime")
    if missing := int(times.isna().sum()):
        raise ValueError(
            f"{name}: expected a time for every row, got {missing} missing; a row without prediction or label can be "
            "neither fitted nor scored: drop it first"
        )
