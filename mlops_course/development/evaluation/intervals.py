"""How sure a metric is, by drawing whole groups of rows again and again."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .metrics import _bin_of, _checked, _cost, _require_same_rows, log_losses, measure

AT_MOST_ONE = ["roc_auc", "average_precision", "brier", "calibration_error"]  # by definition; the others are open
DRAWS = 200  # bootstrap resamples: the ends of a 95 % interval then rest on five draws each side
LEVEL = 0.95  # share of intervals that should cover the truth


def intervals(
    target: ArrayLike,
    probability: ArrayLike,
    *,
    threshold: float,
    false_alarm: float,
    missed: float,
    seed: int,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Each metric with a bootstrap interval: index the names of METRICS, columns value, low and high.

    `groups` names the block that each row belongs to, such as its day; whole groups are then drawn instead of rows. One
    storm delays a thousand orders together, so an interval from single rows is far too narrow. Without `groups` rows
    count as independent. `low` and `high` are NaN where the value is, and where there is a single group.

    A draw repeats some rows, which by itself makes a model look less calibrated; so the draws are shifted to have the
    measured value as their mean. Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
    """
    y, p = _checked(target, probability)
    value = measure(y, p, threshold=threshold, false_alarm=false_alarm, missed=missed)
    codes = _group_codes(target, groups)
    low = high = np.full(len(value), np.nan)
    if codes.max() > 0:
        weighted = _weighted_metrics(y, p, threshold=threshold, false_alarm=false_alarm, missed=missed)
        drawn = np.array([weighted(counts[codes]) for counts in _draws_of(codes, draws, seed)])
        drawn[:, value.isna()] = 0  # undefined here, though perhaps not in every draw
        tail = (1 - LEVEL) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0) - np.nanmean(drawn, axis=0)
    result = pd.DataFrame({"value": value, "low": value + low, "high": value + high}).rename_axis("metric")
    result["low"] = result["low"].clip(lower=0)  # no metric here goes below
    result.loc[AT_MOST_ONE, "high"] = result.loc[AT_MOST_ONE, "high"].clip(upper=1)
    return result


def _draws_of(codes: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """For each draw, how often each group was drawn: as many groups as there are, with replacement."""
    rng, size = np.random.default_rng(seed), codes.max() + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(size, size=size), minlength=size)


def _weighted_metrics(
    y: np.ndarray, p: np.ndarray, *, threshold: float, false_alarm: float, missed: float
) -> Callable[[np.ndarray], list[float]]:
    """A function from row weights to the metrics, in the order of METRICS; it sorts once instead of once a draw."""
    order = np.argsort(-p, kind="stable")
    y, p = y[order], p[order]
    ties = np.flatnonzero(np.diff(p, prepend=np.inf))  # where each run of equal probabilities starts
    bins = _bin_of(p)
    losses = np.column_stack([log_losses(y, p), (p - y) ** 2, 1000 * _cost(y, p >= threshold, false_alarm, missed)])

    def metrics(weights: np.ndarray) -> list[float]:
        w = weights[order].astype(float)
        positive, negative = np.add.reduceat(w * y, ties), np.add.reduceat(w * (1 - y), ties)
        found, alarms = positive.cumsum(), negative.cumsum()
        all_positive, all_negative, total = found[-1], alarms[-1], w.sum()
        pairs = negative @ (found - positive / 2)  # a positive ranked above a negative counts 1, a tie counts 1/2
        precision = found / np.maximum(found + alarms, np.finfo(float).tiny)
        log, brier, cost = w @ losses / total
        gaps = np.bincount(bins, weights=w * (p - y))
        constant = 1000 * min(missed * all_positive, false_alarm * all_negative) / total
        return [
            pairs / (all_positive * all_negative) if all_positive and all_negative else np.nan,
            positive @ precision / all_positive if all_positive and all_negative else np.nan,
            log,
            brier,
            np.abs(gaps).sum() / total,
            cost,
            cost / constant if constant else np.nan,
        ]

    return metrics


def _group_codes(target: ArrayLike, groups: ArrayLike | None) -> np.ndarray:
    """Each row's group as a number from 0; without groups every row is its own."""
    if groups is None:
        return np.arange(len(target))
    _require_same_rows(target, groups, "groups")
    codes = pd.factorize(pd.Series(groups).array)[0]
    if missing := int((codes < 0).sum()):
        raise ValueError(f"groups must name a group for every row; {missing} of {len(codes)} are missing.")
    return codes
