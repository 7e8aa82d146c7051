"""The bars that a candidate must meet, and the reasons if it does not."""

import difflib
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

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
    """The gate's `reasons` to refuse the candidate, none if it passed, and all `checks`.

    `checks` has the columns check, value, low, high, bar, verdict ("pass", "fail" or "not judged") and why.

    A report has no truth value: `if gate(...)` raises TypeError. Objects are true by default, so this slip would let
    every model through.
    """

    reasons: tuple[str, ...]
    checks: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether the gate has no reason to refuse the candidate."""
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
    difference, low, high; the difference is above 0 if the candidate is worse). The keys of `bars` are those of BARS.
    `latency_ms` is a 95th percentile. `first_release` says that there is no champion to compare with.

    - Metrics of all rows and shares of failing rows are compared with their bars as they are.
    - A slice of `min_slice_rows` or more fails if even the upper end of its interval lies too far below all rows.
    - The candidate fails if the data show that it is worse than the champion by more than the margin, on all rows or
      on a slice: the lower end of the interval of the difference lies above the margin. A stricter rule, that the
      upper end must lie below the margin, takes more rows to pass than a month has.
    - What could not be measured fails. Only a slice that is too small or has one class is "not judged".

    Raises ValueError for an unknown, missing or unusable bar, and for a comparison on a first release.
    """
    _require_bars(bars, evidence, first_release)
    made = [
        *_metric_checks(evidence["metrics"], bars),
        *_latency_checks(latency_ms, bars),
        *_slice_checks(evidence, bars),
        *_champion_checks(evidence, bars, first_release),
        *(_behaviour_check(result) for result in behaviour),
    ]
    columns = ["check", "value", "low", "high", "bar", "verdict", "why"]
    checks = pd.DataFrame([vars(check) for check in made], columns=columns)
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


@dataclass(frozen=True)
class _Check:
    """One row of the report."""

    check: str
    bar: float
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    verdict: str = NOT_JUDGED
    why: str = ""

    def judged(self, decisive: float, *, met: bool, why: str) -> "_Check":
        """Return the check with its verdict: `why` counts if the bar is not met; NaN in what decides never meets it."""
        if not math.isfinite(decisive):
            met, why = False, "could not be measured"
        return replace(self, verdict=PASS if met else FAIL, why="" if met else why)


def _metric_checks(metrics: pd.DataFrame, bars: Mapping[str, float]) -> Iterator[_Check]:
    for name, (metric, holds, words) in METRIC_OF.items():
        if name in bars:
            bar = bars[name]
            missing = pd.Series(math.nan, index=["value", "low", "high"])
            value, low, high = metrics.loc[metric, missing.index] if metric in metrics.index else missing
            why = f"{value:.4g} is not {words} {bar:.4g}"
            yield _Check(name, bar, value, low, high).judged(value, met=holds(value, bar), why=why)


def _latency_checks(latency_ms: float | None, bars: Mapping[str, float]) -> Iterator[_Check]:
    if "max_latency_ms" in bars:
        value, bar = math.nan if latency_ms is None else latency_ms, bars["max_latency_ms"]
        why = f"{value:.4g} is not at most {bar:.4g}"
        yield _Check("max_latency_ms", bar, value).judged(value, met=value <= bar, why=why)


def _slice_checks(evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, float]) -> Iterator[_Check]:
    if "max_slice_auc_drop" not in bars:
        return
    bar, enough = bars["max_slice_auc_drop"], bars["min_slice_rows"]
    slices = evidence.get("slices")
    if slices is not None and slices.empty:
        yield _Check("max_slice_auc_drop", bar, why="no column to slice by is named")
    elif slices is None or not (slices["rows"] >= enough).any():
        yield _Check("max_slice_auc_drop", bar, verdict=FAIL, why="no slice is large enough to judge")
    whole = evidence["metrics"]["value"].get("roc_auc", math.nan)
    for row in () if slices is None else slices.itertuples():
        name = f"max_slice_auc_drop, {row.slice} {row.value}"
        if row.rows < enough:
            yield _Check(name, bar, why=f"{row.rows} rows are too few")
        elif row.positives in (0, row.rows):
            yield _Check(name, bar, why="all its targets are equal")
        else:
            drop, low, high = whole - row.roc_auc, whole - row.roc_auc_high, whole - row.roc_auc_low
            less = f"ROC AUC is {drop:.4g} below that of all rows"
            why = f"{less}, and by its interval at least {low:.4g}, over {bar:.4g}"
            yield _Check(name, bar, drop, low, high).judged(low, met=low <= bar, why=why)


def _champion_checks(
    evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, float], first_release: bool
) -> Iterator[_Check]:
    if "noninferiority_margin" not in bars:
        return
    name, bar = "noninferiority_margin", bars["noninferiority_margin"]
    table = evidence.get("comparison", pd.DataFrame(columns=["slice", "metric"])).query("metric == 'log_loss'")
    if first_release:
        yield _Check(name, bar, why="there is no champion yet")
    elif "all" not in set(table["slice"]):
        why = "log loss was not compared with the champion's; if there is no champion, say first_release=True"
        yield _Check(name, bar, verdict=FAIL, why=why)
    for row in table.itertuples():
        part = name if row.slice == "all" else f"{name}, {row.slice} {row.value}"
        if row.slice != "all" and row.rows < bars.get("min_slice_rows", 0):
            yield _Check(part, bar, why=f"{row.rows} rows are too few")
        else:
            more = f"log loss is {row.difference:.4g} above the champion's"
            why = f"{more}, and by its interval at least {row.low:.4g}, over {bar:.4g}"
            yield _Check(part, bar, row.difference, row.low, row.high).judged(row.low, met=row.low <= bar, why=why)


def _behaviour_check(result: BehaviourResult) -> _Check:
    share, allowed = result.failing_share, result.allowed_share
    why = f"{share:.1%} of {result.rows} rows fail, {allowed:.1%} may"
    return _Check(f"behaviour, {result.name}", allowed, share).judged(share, met=result.passed, why=why)
