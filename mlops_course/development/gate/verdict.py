"""The bars that a candidate must meet, and the reasons if it does not."""

import difflib
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import pandas as pd

from .behaviour import BehaviourResult

BARS: Mapping[str, str] = {
    "min_roc_auc": "ROC AUC of all rows, at least",
    "max_calibration_error": "calibration error of all rows, at most",
    "max_cost_ratio": "expected cost over that of the best constant decision, below",
    "max_latency_ms": "95th percentile of the processor time to answer one row in milliseconds, at most",
    "min_slice_rows": "rows from which a slice is judged",
    "max_slice_auc_drop": "how far the ROC AUC of a slice may lie below that of all rows",
    "noninferiority_margin": "log loss in nats by which the candidate may be worse than the champion",
}
METRIC_OF = {  # bar: metric, what must hold between value and bar, and how that is said
    "min_roc_auc": ("roc_auc", operator.ge, "at least"),
    "max_calibration_error": ("calibration_error", operator.le, "at most"),
    "max_cost_ratio": ("cost_ratio", operator.lt, "below"),
}
PASS, FAIL, NOT_JUDGED = "pass", "fail", "not judged"


@dataclass(frozen=True, eq=False)
class GateReport:
    """What the gate found: `reasons` to refuse, none if the candidate passed, and every check that was made.

    `checks` has the columns check, value, low, high, bar, verdict ("pass", "fail" or "not judged") and why.

    A report is not true or false: `if gate(...)` raises TypeError. An object is true by default, so the slip would
    let every model through; and whoever refuses a model owes its authors the reasons.
    """

    reasons: tuple[str, ...]
    checks: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the candidate."""
        return not self.reasons

    def __bool__(self) -> bool:
        """Refuse to be a condition."""
        raise TypeError("a gate report is not true or false: ask for report.passed, and show report.reasons.")


def gate(
    evidence: Mapping[str, pd.DataFrame],
    bars: Mapping[str, float],
    *,
    latency_ms: float | None = None,
    behaviour: Sequence[BehaviourResult] = (),
    first_release: bool = False,
) -> GateReport:
    """Judge a candidate against absolute bars, slice by slice, and against the champion.

    `evidence` holds tables measured on one set of rows: "metrics" (index the metric; value, low, high), "slices"
    (slice, value, rows, positives, roc_auc, roc_auc_low, roc_auc_high) and "comparison" (slice, value, rows, metric,
    difference, low, high; the difference above 0 if the candidate is worse). `bars` has keys of BARS; `latency_ms` is
    a 95th percentile; `first_release` says that there is no champion to compare with.

    - A bar on all rows is met by the value itself, and a behavioural test by its share of failing rows.
    - A slice of `min_slice_rows` or more fails if even the upper end of its interval lies too far below all rows.
    - The candidate fails if it is credibly worse than the champion on all rows or on a slice: if even the lower end
      of the interval of the difference lies above the margin. A difference that may be chance does not refuse. The
      stricter rule, that the upper end must lie below the margin, takes more rows to pass than a month has.
    - What could not be measured fails. Only a slice that is too small or has one class is "not judged".

    Raises ValueError for an unknown, missing or unusable bar, and if there is a comparison on a first release.
    """
    _require_bars(bars, evidence, first_release)
    checks = pd.DataFrame(
        [
            *_metric_checks(evidence["metrics"], bars),
            *_latency_checks(latency_ms, bars),
            *_slice_checks(evidence, bars),
            *_champion_checks(evidence, bars, first_release),
            *(_behaviour_check(result) for result in behaviour),
        ],
        columns=["check", "value", "low", "high", "bar", "verdict", "why"],
    )
    failed = checks[checks["verdict"] == FAIL]
    return GateReport(tuple(failed["check"] + ": " + failed["why"]), checks)


def _require_bars(bars: Mapping[str, float], evidence: Mapping[str, pd.DataFrame], first_release: bool) -> None:
    if "metrics" not in evidence:
        raise ValueError(f"evidence must have the table 'metrics'; got {', '.join(evidence) or 'nothing'}.")
    for name, bar in bars.items():
        if name not in BARS:
            near = difflib.get_close_matches(name, BARS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(BARS)}."
            raise ValueError(f"{name!r} is not a bar of this gate. {hint}")
        if not isinstance(bar, Real) or not math.isfinite(bar):
            raise ValueError(f"bar {name} must be a finite number; got {bar!r}.")
    if not bars:
        raise ValueError(f"without bars everything passes: give at least one of {', '.join(BARS)}.")
    if "max_slice_auc_drop" in bars and "min_slice_rows" not in bars:
        raise ValueError("max_slice_auc_drop needs min_slice_rows: say from how many rows a slice is judged.")
    if "comparison" in evidence and "noninferiority_margin" not in bars:
        raise ValueError("a comparison needs noninferiority_margin: say how much worse than the champion is tolerable.")
    if "comparison" in evidence and first_release:
        raise ValueError("first_release says there is no champion, but the evidence has a comparison with one.")


def _check(
    name: str,
    value: float,
    bar: float,
    met: bool,
    why: str,
    *,
    low: float = math.nan,
    high: float = math.nan,
    interval_decides: bool = False,
) -> dict[str, Any]:
    """One line of the report. `why` counts if the bar is not met, and what is NaN never meets one."""
    if not math.isfinite(low if interval_decides else value):
        met, why = False, "could not be measured"
    return _line(name, value, low, high, bar, PASS if met else FAIL, "" if met else why)


def _not_judged(name: str, bar: float, why: str) -> dict[str, Any]:
    return _line(name, math.nan, math.nan, math.nan, bar, NOT_JUDGED, why)


def _line(name: str, value: float, low: float, high: float, bar: float, verdict: str, why: str) -> dict[str, Any]:
    return {"check": name, "value": value, "low": low, "high": high, "bar": bar, "verdict": verdict, "why": why}


def _metric_checks(metrics: pd.DataFrame, bars: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    for name, (metric, holds, words) in METRIC_OF.items():
        if name in bars:
            bar = bars[name]
            missing = pd.Series(math.nan, index=["value", "low", "high"])
            value, low, high = metrics.loc[metric, missing.index] if metric in metrics.index else missing
            yield _check(
                name, value, bar, holds(value, bar), f"{value:.4g} is not {words} {bar:.4g}", low=low, high=high
            )


def _latency_checks(latency_ms: float | None, bars: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    if "max_latency_ms" in bars:
        value, bar = math.nan if latency_ms is None else latency_ms, bars["max_latency_ms"]
        yield _check("max_latency_ms", value, bar, value <= bar, f"{value:.4g} is not at most {bar:.4g}")


def _slice_checks(evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    if "max_slice_auc_drop" not in bars:
        return
    bar, enough = bars["max_slice_auc_drop"], bars["min_slice_rows"]
    slices = evidence.get("slices")
    if slices is not None and slices.empty:
        yield _not_judged("max_slice_auc_drop", bar, "no column to slice by is named")
    elif slices is None or not (slices["rows"] >= enough).any():
        yield _line("max_slice_auc_drop", math.nan, math.nan, math.nan, bar, FAIL, "no slice is large enough to judge")
    whole = evidence["metrics"]["value"].get("roc_auc", math.nan)
    for row in () if slices is None else slices.itertuples():
        name = f"max_slice_auc_drop, {row.slice} {row.value}"
        if row.rows < enough:
            yield _not_judged(name, bar, f"{row.rows} rows are too few")
        elif row.positives in (0, row.rows):
            yield _not_judged(name, bar, "all its targets are equal")
        else:
            drop, low, high = whole - row.roc_auc, whole - row.roc_auc_high, whole - row.roc_auc_low
            less = f"ROC AUC is {drop:.4g} below that of all rows"
            why = f"{less}, and by its interval at least {low:.4g}, over {bar:.4g}"
            yield _check(name, drop, bar, low <= bar, why, low=low, high=high, interval_decides=True)


def _champion_checks(
    evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, float], first_release: bool
) -> Iterator[dict[str, Any]]:
    if "noninferiority_margin" not in bars:
        return
    name, bar = "noninferiority_margin", bars["noninferiority_margin"]
    table = evidence.get("comparison", pd.DataFrame(columns=["slice", "metric"])).query("metric == 'log_loss'")
    if first_release:
        yield _not_judged(name, bar, "there is no champion yet")
    elif "all" not in set(table["slice"]):
        why = "log loss was not compared with the champion's; if there is no champion, say first_release=True"
        yield _line(name, math.nan, math.nan, math.nan, bar, FAIL, why)
    for row in table.itertuples():
        part = name if row.slice == "all" else f"{name}, {row.slice} {row.value}"
        if row.slice != "all" and row.rows < bars.get("min_slice_rows", 0):
            yield _not_judged(part, bar, f"{row.rows} rows are too few")
        else:
            more = f"log loss is {row.difference:.4g} above the champion's"
            why = f"{more}, and by its interval at least {row.low:.4g}, over {bar:.4g}"
            ends = {"low": row.low, "high": row.high}
            yield _check(part, row.difference, bar, row.low <= bar, why, **ends, interval_decides=True)


def _behaviour_check(result: BehaviourResult) -> dict[str, Any]:
    why = f"{result.failing_share:.1%} of {result.rows} rows fail, {result.allowed_share:.1%} may"
    return _check(f"behaviour, {result.name}", result.failing_share, result.allowed_share, result.passed, why)
