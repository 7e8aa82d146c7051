"""Metrics by slice and by age."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .calibration import _noise
from .intervals import DRAWS, LEVEL, _group_codes, intervals
from .metrics import METRICS, _checked, _functions, _require_same_rows


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
                days = None if groups is None else pd.factorize(blocks[here])[0]
                draw = {"seed": seed, "draws": draws}
                ends = _wide(intervals(y[here], p[here], **costs, groups=days, **draw))
                ends["calibration_noise"] = np.quantile(_noise(y[here], p[here], codes=days, **draw), LEVEL)
            records.append({"slice": column, "value": value, **record, **ends})
    names = ["slice", "value", "rows", "positives", *_wide_names(), "calibration_noise"]
    result = pd.DataFrame(records, columns=names).astype({"rows": int, "positives": int})
    one_class = result["positives"].isin([0]) | (result["positives"] == result["rows"])
    result["note"] = np.select([result["rows"] < min_rows, one_class], ["too few rows", "one class only"], "")
    return result


def _labels(column: pd.Series) -> np.ndarray:
    """A column's values as text; the missing ones get a name too, for they are rows like any other."""
    return column.astype("string").fillna("(missing)").to_numpy(dtype=object)


def _wide_names() -> list[str]:
    return [name + end for name in METRICS for end in ("", "_low", "_high")]


def _wide(table: pd.DataFrame) -> dict[str, float]:
    """A table of `intervals` in one row."""
    return dict(zip(_wide_names(), table[["value", "low", "high"]].to_numpy().ravel(), strict=True))
