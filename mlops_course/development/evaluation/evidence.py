"""What a gate looks at: each slice by itself, two models on the same rows, and both with the intervals of the whole."""

from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .metrics import METRICS, _checked, _cost, _require_same_rows, log_losses
from .uncertainty import DRAWS, LEVEL, _draws_of, _group_codes, _noise, calibration, intervals


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

    Columns: slice, value, rows, positives, each metric with its `_low` and `_high`, calibration_noise (the calibration
    error that a perfect model would stay below in 19 of 20 cases, see `calibration`), and note. A slice of fewer than
    `min_rows` rows has NaN metrics and the note "too few rows": a number would be read, and it would be noise. A slice
    with equal targets has the note "one class only" and no ROC AUC. A missing value is a slice called "(missing)".
    """
    y, p = _checked(target, probability)
    _require_same_rows(target, slices, "slices")
    costs = {"threshold": threshold, "false_alarm": false_alarm, "missed": missed}
    blocks = _group_codes(target, groups)
    wide = [name + end for name in METRICS for end in ("", "_low", "_high")]
    records = []
    for column in slices.columns:
        values = _labels(slices[column])
        for value in np.unique(values):
            here = values == value
            size = {"rows": here.sum(), "positives": y[here].sum()}
            ends = {}
            if size["rows"] >= min_rows:
                days = None if groups is None else pd.factorize(blocks[here])[0]
                draw = {"seed": seed, "draws": draws}
                table = intervals(y[here], p[here], **costs, groups=days, **draw)
                ends = dict(zip(wide, table[["value", "low", "high"]].to_numpy().ravel(), strict=True))
                ends["calibration_noise"] = np.quantile(_noise(y[here], p[here], codes=days, **draw), LEVEL)
            records.append({"slice": column, "value": value, **size, **ends})
    names = ["slice", "value", "rows", "positives", *wide, "calibration_noise"]
    result = pd.DataFrame(records, columns=names).astype({"rows": int, "positives": int})
    one_class = result["positives"].isin([0]) | (result["positives"] == result["rows"])
    result["note"] = np.select([result["rows"] < min_rows, one_class], ["too few rows", "one class only"], "")
    return result


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
) -> pd.DataFrame:
    """Log loss and expected cost of candidate and champion on the same rows, with an interval of the difference.

    One row per metric for all rows (slice "all") and for each slice of at least `min_rows` rows. Columns: slice,
    value, rows, metric, candidate, champion, difference, low, high, standard_error. A difference above 0 says that the
    candidate is worse. `champion` holds the champion's probabilities.

    The difference is taken row by row: what makes a day hard for both models drops out. The interval is so many
    bootstrap standard errors either way; NaN if all rows are in one group. Of twenty slices one would look worse by
    chance, so each of k slices gets the wider level 1 - 0.05 / k (Bonferroni).
    """
    y, p = _checked(target, probability)
    _require_same_rows(target, champion, "champion")
    q = _checked(y, champion, "champion")[1]
    mine = np.column_stack([log_losses(y, p), 1000 * _cost(y, p >= threshold, false_alarm, missed)])
    theirs = np.column_stack([log_losses(y, q), 1000 * _cost(y, q >= champion_threshold, false_alarm, missed)])
    codes = _group_codes(target, groups)
    parts = {("all", "all"): np.full(len(y), True)}
    if slices is not None:
        _require_same_rows(target, slices, "slices")
        for column in slices.columns:
            values = _labels(slices[column])
            names, rows = np.unique(values, return_counts=True)
            parts |= {(column, name): values == name for name in names[rows >= min_rows]}
    records = []
    for part, ((column, value), here) in enumerate(parts.items()):
        questions = 1 if part == 0 else len(parts) - 1
        errors = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / questions)
        error = _standard_errors((mine - theirs)[here], codes[here], draws, seed)
        spread = errors * error
        for at, metric in enumerate(["log_loss", "expected_cost"]):
            a, b = mine[here, at].mean(), theirs[here, at].mean()
            ends = [a - b - spread[at], a - b + spread[at]]
            records.append([column, value, here.sum(), metric, a, b, a - b, *ends, error[at]])
    names = ["slice", "value", "rows", "metric", "candidate", "champion", "difference", "low", "high", "standard_error"]
    return pd.DataFrame(records, columns=names)


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

    Keys: "metrics" (see `intervals`) and "calibration" (see `calibration`, with one column, value); with `slices` also
    "slices" (see `by_slice`); with `champion` also "comparison" (see `compare`). One call, so that no table can be
    about other rows than the rest. Raises ValueError if champion comes without champion_threshold.
    """
    if champion is not None and champion_threshold is None:
        raise ValueError("champion_threshold is missing: say at which probability the champion acts.")
    costs = {"threshold": threshold, "false_alarm": false_alarm, "missed": missed}
    draw = {"groups": groups, "draws": draws, "seed": seed}
    tables = {"metrics": intervals(target, probability, **costs, **draw)}
    tables["calibration"] = calibration(target, probability, **draw).to_frame()
    if slices is not None:
        tables["slices"] = by_slice(target, probability, slices=slices, min_rows=min_rows, **costs, **draw)
    if champion is not None:
        both = {"champion": champion, "champion_threshold": champion_threshold, "slices": slices}
        tables["comparison"] = compare(target, probability, min_rows=min_rows, **both, **costs, **draw)
    return tables


def _labels(column: pd.Series) -> np.ndarray:
    """A column's values as text; the missing ones get a name too, for they are rows like any other."""
    return column.astype("string").fillna("(missing)").to_numpy(dtype=object)


def _standard_errors(losses: np.ndarray, codes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Bootstrap standard error of each column's mean when whole groups are drawn; NaN for a single group."""
    codes = pd.factorize(codes)[0]
    if codes.max() == 0:
        return np.full(losses.shape[1], np.nan)
    sizes = np.bincount(codes)
    sums = np.column_stack([np.bincount(codes, weights=column) for column in losses.T])
    means = [counts @ sums / (counts @ sizes) for counts in _draws_of(codes, draws, seed)]
    return np.std(means, axis=0, ddof=1)
