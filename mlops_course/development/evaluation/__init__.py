"""Evaluation: how good the probabilities are, how sure we are of it, and where they are worse.

    one model     `measure` gives every metric of METRICS, `intervals` adds how far each would move on other days
    its parts     `by_slice` asks the same of each supplier or region, `staleness_curve` of each month
    two models    `compare` scores candidate and champion on the same rows: interval of the paired difference
    all of it     `evidence` collects the tables that a gate judges
    pictures      `plot_reliability`, `plot_slices`, `plot_staleness`

Everywhere `target` is 0 or 1, `probability` is the predicted probability of a 1, and a row is acted upon when its
probability reaches `threshold`. `false_alarm` is the cost of acting on a 0, `missed` of not acting on a 1.

>>> import numpy as np
>>> rng = np.random.default_rng(7)
>>> probability = rng.uniform(size=5_000)
>>> target = rng.uniform(size=5_000) < probability  # calibrated by construction
>>> costs = {"threshold": 0.2, "false_alarm": 15, "missed": 60}
>>> float(measure(target, probability, **costs)["roc_auc"].round(2))
0.82
>>> table = intervals(target, probability, **costs, seed=7)
>>> bool((table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all())
True
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "METRICS",
    "brier_score",
    "by_slice",
    "calibration_error",
    "compare",
    "evidence",
    "expected_cost",
    "intervals",
    "measure",
    "plot_reliability",
    "plot_slices",
    "plot_staleness",
    "staleness_curve",
]

METRICS: Mapping[str, str] = {  # name: what an axis says
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "calibration_error": "calibration error (probability)",
    "expected_cost": "expected cost per thousand rows",
    "cost_ratio": "cost relative to the best constant decision",
}
BINS = 10  # of calibration: enough to see a bend, few enough for hundreds of rows in each
AT_MOST_ONE = ["roc_auc", "average_precision", "brier", "calibration_error"]  # by definition; the others are open
DRAWS = 200  # bootstrap resamples: the ends of a 95 % interval then rest on five draws each side
LEVEL = 0.95  # share of intervals that should cover the truth
BLUE = "#0072B2"  # stands out from grey for colour-blind readers too (Okabe and Ito 2008)


# Metrics --------------------------------------------------------------------------------------------------------------


def brier_score(target: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance between probability and outcome; 0 is perfect (Brier 1950).

    Raises ValueError if the inputs are not 0/1 targets and probabilities of the same rows.
    """
    y, p = _checked(target, probability)
    return float(np.mean((p - y) ** 2))


def calibration_error(target: ArrayLike, probability: ArrayLike, *, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between predicted and observed share, over bins of like predictions.

    The bins hold equal numbers of rows, not equal widths of probability. Predictions of a rare event crowd near 0:
    bins of equal width would put most rows into one, where over- and underestimates cancel, and leave a handful in
    the others. Equal predictions always share a bin, so the order of the rows cannot matter, and a constant
    prediction has one bin. With few rows the error is above 0 for a perfect model too, by chance.

    Raises ValueError if the inputs are not 0/1 targets and probabilities of the same rows. Source: Naeini, Cooper and
    Hauskrecht 2015, with the quantile bins of Nguyen and O'Connor 2015.
    """
    y, p = _checked(target, probability)
    gaps = np.bincount(_bin_of(p, bins), weights=p - y)
    return float(np.abs(gaps).sum() / len(p))


def expected_cost(
    target: ArrayLike, probability: ArrayLike, *, threshold: float, false_alarm: float, missed: float
) -> float:
    """Cost of deciding by `threshold`, per thousand rows, in the unit of `false_alarm` and `missed`.

    Raises ValueError if the inputs are not 0/1 targets and probabilities of the same rows.
    """
    y, p = _checked(target, probability)
    return float(1000 * np.mean(_cost(y, p >= threshold, false_alarm, missed)))


def measure(
    target: ArrayLike, probability: ArrayLike, *, threshold: float, false_alarm: float, missed: float
) -> pd.Series:
    """Every metric of METRICS, by name.

    `cost_ratio` is the expected cost divided by that of the better of two decisions that need no model: always act,
    never act. At 1 or above the model saves nothing. What is undefined is NaN: ROC AUC and average precision when all
    targets are equal, the ratio when a constant decision costs nothing.

    Raises ValueError if the inputs are not 0/1 targets and probabilities of the same rows.
    """
    y, p = _checked(target, probability)
    functions = _functions(threshold, false_alarm, missed)
    return pd.Series({name: float(function(y, p)) for name, function in functions.items()}, name="value")


def _functions(threshold: float, false_alarm: float, missed: float) -> dict[str, Callable[..., float]]:
    """The metrics as functions of target and probability, in the order of METRICS."""
    cost = partial(expected_cost, threshold=threshold, false_alarm=false_alarm, missed=missed)

    def needs_both_classes(metric: Callable[..., float]) -> Callable[..., float]:
        return lambda y, p: metric(y, p) if len(np.unique(y)) == 2 else np.nan

    def cost_ratio(y: np.ndarray, p: np.ndarray) -> float:
        constant = 1000 * min(missed * np.mean(y), false_alarm * np.mean(1 - y))
        return cost(y, p) / constant if constant else np.nan

    return {
        "roc_auc": needs_both_classes(roc_auc_score),
        "average_precision": needs_both_classes(average_precision_score),
        "log_loss": partial(log_loss, labels=[0, 1]),
        "brier": brier_score,
        "calibration_error": calibration_error,
        "expected_cost": cost,
        "cost_ratio": cost_ratio,
    }


# Intervals ------------------------------------------------------------------------------------------------------------


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
    level: float = LEVEL,
) -> pd.DataFrame:
    """Each metric with a bootstrap interval: index the names of METRICS, columns value, low and high.

    `groups` names the block that each row belongs to, such as its day. Whole groups are then drawn instead of rows.
    That matters: one storm delays a thousand orders together, so a year holds nearer 365 independent observations
    than 300,000, and an interval from single rows is far too narrow. Without `groups` rows count as independent.

    All metrics come from the same draws. A draw repeats some rows, which by itself makes a model look less
    calibrated; so the draws are shifted to have the measured value as their mean before their quantiles are taken.
    `low` and `high` are NaN where the value is, and where there is a single group.

    Raises ValueError if the inputs are not 0/1 targets and probabilities of the same rows. Source: Efron and
    Tibshirani 1993, An Introduction to the Bootstrap.
    """
    y, p = _checked(target, probability)
    value = measure(y, p, threshold=threshold, false_alarm=false_alarm, missed=missed)
    codes = _group_codes(target, groups)
    low = high = np.full(len(value), np.nan)
    if codes.max() > 0:
        weighted = _weighted_metrics(y, p, threshold=threshold, false_alarm=false_alarm, missed=missed)
        drawn = np.array([weighted(counts[codes]) for counts in _draws_of(codes, draws, seed)])
        drawn[:, value.isna()] = 0  # undefined here, though perhaps not in every draw
        tail = (1 - level) / 2
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
    bins = _bin_of(p, BINS)
    losses = np.column_stack([_log_loss(y, p), (p - y) ** 2, 1000 * _cost(y, p >= threshold, false_alarm, missed)])

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


# Parts ----------------------------------------------------------------------------------------------------------------


def by_slice(
    target: ArrayLike,
    probability: ArrayLike,
    *,
    slices: pd.DataFrame,
    threshold: float,
    false_alarm: float,
    missed: float,
    min_rows: int,
    seed: int,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Every metric in every slice: one row for each value of each column of `slices`.

    Columns: slice, value, rows, positives, each metric with its `_low` and `_high`, and note. A slice of fewer than
    `min_rows` rows has NaN metrics and the note "too few rows": a number would be read, and it would be noise. A slice
    with equal targets has the note "one class only" and no ROC AUC. A missing value is a slice called "(missing)".

    Raises ValueError if target, probability and slices are not of the same rows.
    """
    from fairlearn.metrics import MetricFrame, count

    y, p = _checked(target, probability)
    _require_same_rows(target, slices, "slices")
    costs = {"threshold": threshold, "false_alarm": false_alarm, "missed": missed}
    blocks = _group_codes(target, groups)
    functions = {"rows": count, "positives": lambda y, p: y.sum(), **_functions(**costs)}
    records = []
    for column in slices.columns:
        values = _labels(slices[column])
        frame = MetricFrame(metrics=functions, y_true=y, y_pred=p, sensitive_features=pd.Series(values, name="value"))
        for value, record in frame.by_group.iterrows():
            here = values == value
            ends = pd.Series(dtype=float)
            if record["rows"] < min_rows:
                record = record.where(record.index.isin(["rows", "positives"]))
            else:
                ends = _wide(intervals(y[here], p[here], **costs, seed=seed, groups=blocks[here], draws=draws))
            records.append({"slice": column, "value": value, **record, **ends})
    names = ["slice", "value", "rows", "positives", *_wide_names()]
    result = pd.DataFrame(records, columns=names).astype({"rows": int, "positives": int})
    one_class = result["positives"].isin([0]) | (result["positives"] == result["rows"])
    result["note"] = np.select([result["rows"] < min_rows, one_class], ["too few rows", "one class only"], "")
    return result


def staleness_curve(
    frame: pd.DataFrame,
    period: str,
    *,
    target: str,
    probability: str,
    threshold: float,
    false_alarm: float,
    missed: float,
    seed: int,
    groups: str | None = None,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """How a frozen model fares as the world moves on: one row per value of the column `period`, in sorted order.

    `period`, `target`, `probability` and `groups` name columns of `frame`. Index the period; columns rows, base_rate,
    mean_prediction, and each metric with its `_low` and `_high` (see `intervals`).

    Raises ValueError if targets are not 0/1 or probabilities are not probabilities: drop the rows without a label.
    """
    costs = {"threshold": threshold, "false_alarm": false_alarm, "missed": missed}
    records = {}
    for name, rows in frame.groupby(period, sort=True, observed=True):
        y, p = _checked(rows[target], rows[probability])
        blocks = None if groups is None else rows[groups]
        table = intervals(rows[target], rows[probability], **costs, seed=seed, groups=blocks, draws=draws)
        records[name] = {"rows": len(rows), "base_rate": y.mean(), "mean_prediction": p.mean(), **_wide(table)}
    result = pd.DataFrame.from_dict(records, orient="index").rename_axis(period)
    return result.astype({"rows": int})


# Two models -----------------------------------------------------------------------------------------------------------


def compare(
    target: ArrayLike,
    probability: ArrayLike,
    *,
    champion: ArrayLike,
    threshold: float,
    champion_threshold: float,
    false_alarm: float,
    missed: float,
    min_rows: int,
    seed: int,
    slices: pd.DataFrame | None = None,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Log loss and expected cost of candidate and champion on the same rows, with an interval of the difference.

    One row per metric for all rows (slice "all") and for each slice of at least `min_rows` rows. Columns: slice,
    value, rows, metric, candidate, champion, difference, low, high. A difference above 0 says that the candidate is
    worse. `champion` holds the champion's probabilities.

    The difference is taken row by row before it is averaged. What makes a day hard makes it hard for both models and
    drops out, so the interval is much narrower than the two models' own intervals suggest. It is the difference and
    so many bootstrap standard errors either way; NaN if all rows are in one group. Of twenty slices one would look
    worse by chance, so each of k slices gets the wider level 1 - (1 - level) / k (Bonferroni).

    Raises ValueError if champion, slices or groups are not of the same rows as target and probability.
    """
    y, p = _checked(target, probability)
    _require_same_rows(target, champion, "champion")
    q = _checked(y, champion, "champion")[1]
    mine = np.column_stack([_log_loss(y, p), 1000 * _cost(y, p >= threshold, false_alarm, missed)])
    theirs = np.column_stack([_log_loss(y, q), 1000 * _cost(y, q >= champion_threshold, false_alarm, missed)])
    codes = _group_codes(target, groups)
    parts = {("all", "all"): np.full(len(y), True), **_parts(target, slices, min_rows)}
    records = []
    for part, ((column, value), here) in enumerate(parts.items()):
        questions = 1 if part == 0 else len(parts) - 1
        errors = NormalDist().inv_cdf(1 - (1 - level) / 2 / questions)
        spread = errors * _standard_errors((mine - theirs)[here], codes[here], draws, seed)
        for at, metric in enumerate(["log_loss", "expected_cost"]):
            a, b = mine[here, at].mean(), theirs[here, at].mean()
            records.append([column, value, here.sum(), metric, a, b, a - b, a - b - spread[at], a - b + spread[at]])
    names = ["slice", "value", "rows", "metric", "candidate", "champion", "difference", "low", "high"]
    return pd.DataFrame(records, columns=names)


def _parts(target: ArrayLike, slices: pd.DataFrame | None, min_rows: int) -> dict[tuple[str, str], np.ndarray]:
    """The rows of each slice that is large enough, as masks."""
    if slices is None:
        return {}
    _require_same_rows(target, slices, "slices")
    labels = {column: _labels(slices[column]) for column in slices.columns}
    masks = {(column, value): values == value for column, values in labels.items() for value in np.unique(values)}
    return {part: mask for part, mask in masks.items() if mask.sum() >= min_rows}


def _standard_errors(losses: np.ndarray, codes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Bootstrap standard error of each column's mean when whole groups are drawn; NaN for a single group."""
    codes = pd.factorize(codes)[0]
    if codes.max() == 0:
        return np.full(losses.shape[1], np.nan)
    sizes = np.bincount(codes)
    sums = np.column_stack([np.bincount(codes, weights=column) for column in losses.T])
    means = [counts @ sums / (counts @ sizes) for counts in _draws_of(codes, draws, seed)]
    return np.std(means, axis=0, ddof=1)


def evidence(
    target: ArrayLike,
    probability: ArrayLike,
    *,
    threshold: float,
    false_alarm: float,
    missed: float,
    min_rows: int,
    seed: int,
    slices: pd.DataFrame | None = None,
    champion: ArrayLike | None = None,
    champion_threshold: float | None = None,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
) -> dict[str, pd.DataFrame]:
    """All that a gate needs to know of a candidate, measured on one set of rows.

    Keys: "metrics" (see `intervals`); with `slices` also "slices" (see `by_slice`); with `champion` also "comparison"
    (see `compare`). One call, so that no table can be about other rows than the rest.

    Raises ValueError if the inputs are not of the same rows, or champion comes without champion_threshold.
    """
    if champion is not None and champion_threshold is None:
        raise ValueError("champion_threshold is missing: say at which probability the champion acts.")
    costs = {"threshold": threshold, "false_alarm": false_alarm, "missed": missed}
    draw = {"groups": groups, "draws": draws, "seed": seed}
    tables = {"metrics": intervals(target, probability, **costs, **draw)}
    if slices is not None:
        tables["slices"] = by_slice(target, probability, slices=slices, min_rows=min_rows, **costs, **draw)
    if champion is not None:
        both = {"champion": champion, "champion_threshold": champion_threshold, "slices": slices}
        tables["comparison"] = compare(target, probability, min_rows=min_rows, **both, **costs, **draw)
    return tables


# Pictures -------------------------------------------------------------------------------------------------------------


def plot_reliability(target: ArrayLike, probability: ArrayLike, *, title: str, bins: int = BINS) -> "Figure":
    """Observed share against predicted probability, in the bins of `calibration_error`.

    The dots of a calibrated model lie on the line. The bars are 95 % Wilson intervals, which take rows as independent.
    """
    y, p = _checked(target, probability)
    table = pd.DataFrame({"bin": _bin_of(p, bins), "predicted": p, "observed": y}).groupby("bin")
    predicted, observed, n = table["predicted"].mean(), table["observed"].mean(), table.size()
    z = NormalDist().inv_cdf(0.975)
    centre = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2))
    end = min(1.0, 1.05 * max(predicted.max(), (centre + half).max()))
    axes = _axes(title, "mean predicted probability", "observed share of positives")
    axes.plot([0, end], [0, end], color="0.6", linestyle="--", label="perfect calibration")
    axes.vlines(predicted, centre - half, centre + half, color=BLUE)
    axes.plot(predicted, observed, "o-", color=BLUE, label="model")
    axes.legend(frameon=False)
    return axes.figure


def plot_slices(table: pd.DataFrame, metric: str, *, title: str) -> "Figure":
    """One metric of each slice with its interval, from the table of `by_slice`; small slices have a name, no dot."""
    _require_metric(metric)
    table = table.iloc[::-1]
    names = table["slice"] + " " + table["value"] + table["note"].map(lambda note: f"  ({note})" if note else "")
    axes = _axes(title, METRICS[metric], "", height=1.2 + 0.27 * len(table))
    at = np.arange(len(table))
    axes.hlines(at, table[f"{metric}_low"], table[f"{metric}_high"], color=BLUE)
    axes.plot(table[metric], at, "o", color=BLUE)
    axes.set_yticks(at, names)
    axes.set_ylim(-0.6, len(table) - 0.4)
    return axes.figure


def plot_staleness(curve: pd.DataFrame, metric: str, *, title: str) -> "Figure":
    """One metric of a frozen model by period with its interval, from the table of `staleness_curve`."""
    _require_metric(metric)
    axes = _axes(title, str(curve.index.name), METRICS[metric])
    at = np.arange(len(curve))
    axes.fill_between(at, curve[f"{metric}_low"], curve[f"{metric}_high"], color=BLUE, alpha=0.2, label="95 % interval")
    axes.plot(at, curve[metric], "o-", color=BLUE, label="measured")
    axes.legend(frameon=False)
    axes.set_xticks(at, curve.index.astype(str), rotation=45, ha="right")
    return axes.figure


def _axes(title: str, x: str, y: str, *, height: float = 4.0) -> "Axes":
    from matplotlib.figure import Figure  # not pyplot: nothing is registered, so nothing needs closing

    axes = Figure(figsize=(7, height), layout="constrained").add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


# Rows -----------------------------------------------------------------------------------------------------------------


def _checked(target: ArrayLike, probability: ArrayLike, name: str = "probability") -> tuple[np.ndarray, np.ndarray]:
    """Target and probability as float arrays, if they are what they should be."""
    _require_same_rows(target, probability, name)
    y, p = np.asarray(target, dtype=float), np.asarray(probability, dtype=float)
    if y.ndim != 1 or p.ndim != 1 or not len(y):
        raise ValueError(
            f"target and {name} must be one-dimensional and not empty; got shapes {y.shape} and {p.shape}. "
            "Of predict_proba take the second column: [:, 1]."
        )
    if strange := int((~np.isin(y, [0, 1])).sum()):
        raise ValueError(f"target must be 0 or 1; {strange} of {len(y)} rows are not. Drop rows without a label first.")
    if strange := int((~((p >= 0) & (p <= 1))).sum()):
        raise ValueError(f"{name} must lie in [0, 1]; {strange} of {len(p)} rows do not or are NaN. Repair the model.")
    return y, p


def _require_same_rows(target: ArrayLike, other: ArrayLike, name: str) -> None:
    """Raise ValueError unless `other` has the length of `target` and, if both carry an index, the same one."""
    if len(other) != len(target):
        raise ValueError(f"{name} must have the {len(target)} rows of target; got {len(other)}. Score the same rows.")
    both_indexed = all(isinstance(rows, (pd.Series, pd.DataFrame)) for rows in (target, other))
    if both_indexed and not target.index.equals(other.index):
        raise ValueError(f"{name} and target have different indexes: score the same rows, in the same order.")


def _require_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}.")


def _group_codes(target: ArrayLike, groups: ArrayLike | None) -> np.ndarray:
    """Each row's group as a number from 0; without groups every row is its own."""
    if groups is None:
        return np.arange(len(target))
    _require_same_rows(target, groups, "groups")
    codes = pd.factorize(pd.Series(groups).array)[0]
    if missing := int((codes < 0).sum()):
        raise ValueError(f"groups must name a group for every row; {missing} of {len(codes)} are missing.")
    return codes


def _labels(column: pd.Series) -> np.ndarray:
    """A column's values as text; the missing ones get a name too, for they are rows like any other."""
    return column.astype("string").fillna("(missing)").to_numpy(dtype=object)


def _wide_names() -> list[str]:
    return [name + end for name in METRICS for end in ("", "_low", "_high")]


def _wide(table: pd.DataFrame) -> dict[str, float]:
    """A table of `intervals` in one row."""
    return dict(zip(_wide_names(), table[["value", "low", "high"]].to_numpy().ravel(), strict=True))


def _bin_of(p: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each probability: equal counts as far as ties allow, since edges are quantiles and ties stay."""
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, p, side="right")


def _log_loss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats; certainty is cut off as scikit-learn does it, so that no row costs infinity."""
    tiny = np.finfo(float).eps
    return -np.log(np.clip(np.where(y == 1, p, 1 - p), tiny, 1 - tiny))


def _cost(y: np.ndarray, acted: np.ndarray, false_alarm: float, missed: float) -> np.ndarray:
    """Cost of each row's decision."""
    return np.where(acted, false_alarm * (1 - y), missed * y)
