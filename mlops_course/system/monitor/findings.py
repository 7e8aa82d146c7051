"""What is looked up about an alert: the slice where it is, and what it could cost."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mlops_course.operations.monitoring import alerting, performance
from mlops_course.operations.monitoring import drift as measures

from .observed import DAY, Observed

MONTH = pd.Timedelta("28D")
MIN_SLICE_ROWS = 50  # of the days of an alert, for a slice to be blamed
CONCENTRATED = 3.0  # times the median of slices: then it is that slice, and not all


def slice_of(alert: alerting.Alert, observed: Observed, *, bins: measures.Reference, slices: Sequence[str]) -> str:
    """The slice in which the subject of an alert has moved by far the most, or an empty text."""
    rows, end = observed.table, alert.raised + DAY
    now = rows[(rows["time"] >= alert.since) & (rows["time"] < end)]
    before = rows[(rows["time"] >= alert.since - MONTH) & (rows["time"] < alert.since)]
    if alert.subject not in bins.features or before.empty or not slices:
        return ""
    features = [alert.subject]
    table = measures.drift_by_slice(now, bins, against_rows=before, slices=list(slices), features=features)
    table = table.reset_index()
    table = table[table["rows"] >= MIN_SLICE_ROWS].sort_values("psi", ascending=False)
    if len(table) < 2 or table["psi"].iloc[0] < CONCENTRATED * table["psi"].median():
        return ""
    return f"{table['slice'].iloc[0]} {table['value'].iloc[0]}"


def cost_of(alert: alerting.Alert, observed: Observed, *, costs: Mapping[str, float]) -> float | None:
    """What a week could cost beyond what it cost before, if answers were worth no more than one rule for all."""
    rows = observed.until(alert.since, width=MONTH)
    rows = rows[rows["label"].notna()] if len(rows) else rows
    if rows.empty:
        return None
    came = overall(rows, costs)
    ruled = min((1 - came["rate"]) * costs["false_alarm"], came["rate"] * costs["missed"])
    days = (rows["time"].max().floor("D") - rows["time"].min().floor("D")) / DAY + 1
    return round(max(ruled - came["cost"], 0.0) * len(rows) / days * 7, 0)


def overall(rows: pd.DataFrame, costs: Mapping[str, float]) -> pd.Series:
    """The measures of `performance.realised` over all rows together."""
    return performance.realised(rows, window=pd.Series("all", index=rows.index), **costs).iloc[0]
