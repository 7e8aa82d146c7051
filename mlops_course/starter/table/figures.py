"""Figures of the specification that follow from the table, and facts for the README."""

import math
from typing import Any

import pandas as pd

from mlops_course.development.features import TEST_SHARE
from mlops_course.starter import columns, reading

MOST_SLICES = 10  # values of a column by which the model is judged


def _made_features(plan: dict[str, Any]) -> list[str]:
    """Names of the features that `derive` of the project makes of points in time."""
    if "asked" not in plan:
        return [f"{name}_day" for name in plan["moments"]]
    hour = [f"{plan['asked']}_hour"] if plan["clock_features"] else []
    return [*hour, f"{plan['asked']}_weekday", *(f"{name}_days_before" for name in plan["moments"])]


def _facts(
    rows: pd.DataFrame, label: pd.Series, asked: pd.Series, batch: pd.Series, plan: dict[str, Any]
) -> dict[str, Any]:
    share = float(label.mean())
    days = max((asked.max() - asked.min()) / pd.Timedelta("1D"), 1e-3)
    return {
        "rows": len(rows),
        "columns": rows.shape[1],
        "labelled": int(label.notna().sum()),
        "share": share,
        "days": float(days),
        "batches": int(batch.nunique()),
        "first_batch": str(batch.min()),
        "last_batch": str(batch.max()),
        "seen": {name: _range(values) for name, values in reading.convert(rows, plan).items()},
    }


def _range(values: pd.Series) -> dict[str, Any]:
    """What a schema allows a column: as far again as was seen, the values there were, and a tenth more missing."""
    seen: dict[str, Any] = {"missing": round(min(1.0, float(values.isna().mean()) + 0.1), 2)}
    if pd.api.types.is_float_dtype(values):
        low, high = float(values.min()), float(values.max())
        if set(values.dropna().unique()) <= {0.0, 1.0}:
            return seen | {"low": 0.0, "high": 1.0}
        margin = high - low or max(abs(high), 1.0)
        return seen | {"low": 0.0 if low >= 0 else _short(low - margin), "high": _short(high + margin)}
    if pd.api.types.is_datetime64_any_dtype(values):
        return seen
    return seen | {"values": sorted(values.dropna().unique().tolist())}


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def _figures(rows: pd.DataFrame, plan: dict[str, Any], facts: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """Figures of the specification that follow from the table, each with its reason."""
    share, labelled = facts["share"], facts["labelled"]
    rare, judged = min(share, 1 - share), max(TEST_SHARE * labelled, 1)
    odds = (1 - share) / share
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    noise = math.sqrt(share * (1 - share) * 10 / judged) * math.sqrt(2 / math.pi)
    calibration = min(0.25, round(min(0.04, rare) + 1.5 * noise, 3))
    slice_rows = max(50, math.ceil(10 / rare))
    per_day = len(rows) / facts["days"]
    window = next((days for days in (1, 7, 28, 91) if per_day * days >= 300), 91)
    slices = _slices(rows, plan, slice_rows)
    return {
        "missed": (
            float(f"{odds:.2g}"),
            f"with this, acting always costs as much as acting never, as {columns.percent(share)} of rows are positive",
        ),
        "max_calibration_error": (
            calibration,
            f"about {noise:.2g} comes from chance on the {judged:,.0f} rows to judge on",
        ),
        "tolerated_loss": (
            round(0.02 * entropy, 4),
            f"2 % of {entropy:.3f} nats, the log loss of the base rate",
        ),
        "min_slice_rows": (slice_rows, f"about {slice_rows * rare:.0f} rows of the rarer answer"),
        "slices": (
            slices,
            "columns of few values with enough rows in each" if slices else "no column has few large groups",
        ),
        "window_days": (window, f"about {per_day * window:,.0f} rows"),
        "max_rate_gap": (round(min(0.1, max(0.005, rare)), 3), f"{columns.percent(rare)} is the rarer answer's share"),
        "min_new_rows": (max(100, round(0.1 * len(rows))), "a tenth of what there is now"),
        "max_log_loss_rise": (round(max(0.001, 0.05 * entropy), 4), "5 % of the log loss of the base rate"),
        "max_age_days": (max(1, min(365, round(facts["days"] / 4))), "a quarter of the time that the table covers"),
        "cooldown_days": (max(1, min(28, round(facts["days"] / 12))), "time for labels to come in"),
    }


def _slices(rows: pd.DataFrame, plan: dict[str, Any], enough: int) -> list[str]:
    """At most two inputs of few values, of which at least one has rows enough to be judged by; categories first."""
    chosen = []
    for name in [*plan["inputs"]["categorical"], *plan["inputs"]["numeric"]]:
        counts = reading.as_text(rows[plan["columns"][name].get("source", name)]).value_counts(dropna=False)
        if 2 <= len(counts) <= MOST_SLICES and 0.8 * TEST_SHARE * counts.iloc[0] >= enough:
            chosen.append(name)
    return chosen[:2]
