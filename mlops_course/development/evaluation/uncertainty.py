"""How sure a metric is, and how much of a calibration error chance alone would make."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats
from scipy.special import expit, logit

from .metrics import _bin_of, _checked, _cost, _require_same_rows, calibration_error, log_losses, measure

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
    count as independent. `low` and `high` are NaN where the value is, and where there is a single group. A draw repeats
    some rows, which by itself makes a model look less calibrated; so the draws are shifted to have the measured value
    as their mean. Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
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


def calibration(
    target: ArrayLike, probability: ArrayLike, *, seed: int, groups: ArrayLike | None = None, draws: int = DRAWS
) -> pd.Series:
    """Calibration error beside its noise floor, and calibration intercept and slope with 95 % intervals.

    - error: the `calibration_error`. noise_mean, noise_high: mean and 95 % quantile of the error that a perfectly
      calibrated model would show with these probabilities, by chance.
    - intercept, intercept_low, intercept_high: what has to be added to each log-odds (logit) so that prediction and
      outcome have the same mean (calibration-in-the-large). Above 0 the probabilities as a whole are too low.
    - slope, slope_low, slope_high: of a logistic regression of the target on the logit. Below 1 they are too extreme.

    Without `groups` rows count as independent, and the noise comes from targets that are drawn from the probabilities
    (Bröcker and Smith 2007). With `groups`, such as days, the rows of a group share what chance does: the gaps of whole
    groups, less the mean gap of their bin, change their sign at random (the wild bootstrap of Cameron, Gelbach and
    Miller 2008). Intercept and slope are those of Van Calster et al. 2019, with standard errors robust to what rows of
    a group share. What needs two groups, two classes or two different probabilities is NaN without them.
    """
    y, p = _checked(target, probability)
    codes = _group_codes(target, groups)
    noise = _noise(y, p, codes=None if groups is None else codes, draws=draws, seed=seed)
    tiny = np.finfo(float).eps
    x = logit(np.clip(p, tiny, 1 - tiny))
    high = np.quantile(noise, LEVEL)
    found = {"error": calibration_error(y, p), "noise_mean": noise.mean(), "noise_high": high}
    for name, columns in {"intercept": np.ones((len(x), 1)), "slope": np.column_stack([np.ones_like(x), x])}.items():
        value, half = _last_coefficient(columns, y, offset=x if name == "intercept" else 0 * x, codes=codes)
        found |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    return pd.Series(found, name="value").rename_axis("quantity")


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


def _noise(y: np.ndarray, p: np.ndarray, *, codes: np.ndarray | None, draws: int, seed: int) -> np.ndarray:
    """Calibration errors that come from chance alone, one for each draw; NaN for a single group."""
    rng, bins = np.random.default_rng(seed), _bin_of(p)
    if codes is None:
        gaps = np.array([np.bincount(bins, weights=p - (rng.random(len(p)) < p)) for _ in range(draws)])
    else:
        sums = _gaps_of_groups(y, p, bins=bins, codes=codes)
        gaps = rng.choice([-1, 1], size=(draws, len(sums))) @ sums
    return np.abs(gaps).sum(axis=1) / len(p)


def _gaps_of_groups(y: np.ndarray, p: np.ndarray, *, bins: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sum of prediction less outcome of each group in each bin, less the mean gap of the bin: groups × bins."""
    gap = p - y - (np.bincount(bins, weights=p - y) / np.bincount(bins).clip(1))[bins]
    sums = np.zeros((codes.max() + 1, bins.max() + 1))
    np.add.at(sums, (codes, bins), gap)
    n = len(sums)
    return sums * np.sqrt(n / (n - 1)) if n > 1 else np.full_like(sums, np.nan)


def _band(y: np.ndarray, p: np.ndarray, *, bins: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """Half the width of the 95 % band of a calibrated model's observed share, for each bin that has rows."""
    if codes is None:
        variance = np.bincount(bins, weights=p * (1 - p))
    else:
        variance = (_gaps_of_groups(y, p, bins=bins, codes=codes) ** 2).sum(axis=0)
    rows = np.bincount(bins)
    return stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance[rows > 0]) / rows[rows > 0]


def _last_coefficient(
    columns: np.ndarray, y: np.ndarray, *, offset: np.ndarray, codes: np.ndarray
) -> tuple[float, float]:
    """Last coefficient of a logistic regression of y on `columns`, and half of its interval by groups."""
    if len(np.unique(y)) < 2 or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return np.nan, np.nan

    # scikit-learn's LogisticRegression takes no offset
    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        """Log loss and its gradient."""
        z = offset + columns @ line
        return float((np.logaddexp(0, z) - y * z).mean()), columns.T @ (expit(z) - y) / len(y)

    line = optimize.minimize(loss, np.zeros(columns.shape[1]), jac=True, tol=1e-9).x
    q = expit(offset + columns @ line)
    scores = np.zeros((codes.max() + 1, columns.shape[1]))
    np.add.at(scores, codes, columns * (y - q)[:, np.newaxis])
    n = len(scores)
    inverse = np.linalg.pinv(columns.T @ (columns * (q * (1 - q))[:, np.newaxis]))
    error = np.sqrt((inverse @ scores.T @ scores @ inverse)[-1, -1] * n / max(n - 1, 1))
    return float(line[-1]), float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error) if n > 1 else np.nan
