"""The bars that a candidate must meet, and the reasons if it does not."""

import difflib
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from statistics import NormalDist
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
    "tolerated_loss": "log loss in nats by which the candidate may be worse than the champion, as agreed",
    "when_not_known": "what follows if the data cannot tell whether it is: pass, hold or refuse",
}
WHEN_NOT_KNOWN = ("pass", "hold", "refuse")
METRIC_OF = {  # bar: what is measured, what must hold between value and bar, and how that is said
    "min_roc_auc": ("roc_auc", operator.ge, "at least"),
    "max_calibration_error": ("calibration_error", operator.le, "at most"),
    "max_cost_ratio": ("cost_ratio", operator.lt, "below"),
    "max_latency_ms": ("latency_ms", operator.le, "at most"),
}
PASS, FAIL, NOT_KNOWN, NOT_JUDGED = "pass", "fail", "not known", "not judged"
AGAINST_CHAMPION = "tolerated_loss"  # the check of all rows; those of slices name their slice, too
NINE_IN_TEN = NormalDist().inv_cdf(0.9)  # standard errors that a true loss must lie beyond what is refused


@dataclass(frozen=True, eq=False)
class GateReport:
    """The gate's `reasons` against a release, none if the candidate passed, and all `checks`.

    `checks` has the columns check, value, low, high, bar, detectable, verdict ("pass", "fail", "not known" or "not
    judged") and why. `detectable` is the true loss against the champion that such data find in nine of ten cases.
    `held` says that nothing failed, and the only reason is that the comparison with the champion is not known. A report
    has no truth value: `if gate(...)` raises TypeError, for it would let every model through.
    """

    reasons: tuple[str, ...]
    checks: pd.DataFrame
    held: bool = False

    @property
    def passed(self) -> bool:
        """Whether the gate has no reason against the candidate."""
        return not self.reasons

    @property
    def outcome(self) -> str:
        """What the gate decided: "passed", "held" or "refused"."""
        return "passed" if self.passed else "held" if self.held else "refused"

    @property
    def against_champion(self) -> str:
        """What the comparison with the champion on all rows says, in a sentence or two; empty if none was asked for."""
        for check in self.checks[self.checks["check"] == AGAINST_CHAMPION].itertuples():
            if not math.isfinite(check.detectable):
                return f"Against the champion: {check.verdict}; {check.why}."
            found = {PASS: "better, or worse by no more than is tolerated", FAIL: "worse than is tolerated"}
            return (
                f"Against the champion: {found.get(check.verdict, 'not known')}. Log loss {check.value:+.4f} "
                f"[{check.low:+.4f}, {check.high:+.4f}], tolerated {check.bar:g}. "
                f"A true loss of {check.detectable:.4f} would be found nine times in ten."
            )
        return ""

    def __bool__(self) -> bool:
        """Refuse to be a condition."""
        raise TypeError("a gate report is not true or false: ask for report.passed, and show report.reasons.")


def gate(
    evidence: Mapping[str, pd.DataFrame],
    bars: Mapping[str, Any],
    *,
    latency_ms: float | None = None,
    behaviour: Sequence[BehaviourResult] = (),
    first_release: bool = False,
) -> GateReport:
    """Judge a candidate against absolute bars, slice by slice, and against the champion.

    `evidence` holds tables measured on one set of rows: "metrics" (index the metric; value, low, high), "slices"
    (slice, value, rows, positives, roc_auc, roc_auc_low, roc_auc_high) and "comparison" (slice, value, rows, metric,
    difference, low, high, standard_error; the difference is above 0 if the candidate is worse). The keys of `bars` are
    those of BARS. `latency_ms` is a 95th percentile. `first_release` says that there is no champion to compare with.

    - Metrics of all rows and shares of failing rows are compared with their bars as they are.
    - A slice or a comparison has an interval: "pass" if all of it meets the bar (*non-inferior* in clinical trials),
      "fail" if none of it does, and "not known" if the bar lies in between.
    - If the comparison with the champion on all rows is not known, `when_not_known` decides: "pass" lets the candidate
      through, "hold" and "refuse" do not. A slice refuses only by "fail": few slices have rows enough to be known.
    - What could not be measured fails. Only a slice that is too small or has one class is "not judged".

    Raises ValueError for an unknown, missing or unusable bar, and for a comparison on a first release.
    """
    _require_bars(bars, evidence, first_release)
    made = [
        *_metric_checks(evidence["metrics"], bars, latency_ms),
        *_slice_checks(evidence, bars),
        *_champion_checks(evidence, bars, first_release),
        *(_behaviour_check(result) for result in behaviour),
    ]
    columns = ["check", "value", "low", "high", "bar", "detectable", "verdict", "why"]
    checks = pd.DataFrame([vars(check) for check in made], columns=columns)
    rule = str(bars.get("when_not_known", "pass"))
    reasons = objections(checks, when_not_known=rule)
    held = rule == "hold" and bool(reasons) and not (checks["verdict"] == FAIL).any()
    return GateReport(reasons, checks, held)


def objections(checks: pd.DataFrame, when_not_known: str) -> tuple[str, ...]:
    """Return the reasons against a release that the `checks` of a report give under a rule for what is not known."""
    against = checks["verdict"] == FAIL
    if when_not_known != "pass":
        against |= (checks["check"] == AGAINST_CHAMPION) & (checks["verdict"] == NOT_KNOWN)
    return tuple(f"{check}: {why}" for check, why in checks.loc[against, ["check", "why"]].itertuples(index=False))


def _require_bars(bars: Mapping[str, Any], evidence: Mapping[str, pd.DataFrame], first_release: bool) -> None:
    if "metrics" not in evidence:
        raise ValueError(f"evidence must have the table 'metrics'; got {', '.join(evidence) or 'nothing'}.")
    for name, bar in bars.items():
        if name not in BARS:
            near = difflib.get_close_matches(name, BARS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(BARS)}."
            raise ValueError(f"{name!r} is not a bar of this gate. {hint}")
        if name == "when_not_known":
            if bar not in WHEN_NOT_KNOWN:
                raise ValueError(f"when_not_known must be one of {', '.join(WHEN_NOT_KNOWN)}; got {bar!r}.")
        elif not isinstance(bar, Real) or not math.isfinite(bar):
            raise ValueError(f"bar {name} must be a finite number; got {bar!r}.")
    if not bars:
        raise ValueError(f"without bars everything passes: give at least one of {', '.join(BARS)}.")
    if "max_slice_auc_drop" in bars and "min_slice_rows" not in bars:
        raise ValueError("max_slice_auc_drop needs min_slice_rows: say from how many rows a slice is judged.")
    if "comparison" in evidence and "tolerated_loss" not in bars:
        raise ValueError("a comparison needs tolerated_loss: say how much worse than the champion is tolerated.")
    if "tolerated_loss" in bars and "when_not_known" not in bars:
        rules = ", ".join(WHEN_NOT_KNOWN)
        raise ValueError(f"tolerated_loss needs when_not_known: say what follows if data cannot tell; one of {rules}.")
    if "comparison" in evidence and first_release:
        raise ValueError("first_release says there is no champion, but the evidence has a comparison with one.")


@dataclass(frozen=True)
class _Check:
    check: str
    bar: float
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    detectable: float = math.nan
    verdict: str = NOT_JUDGED
    why: str = ""

    def judged(self, *, met: bool, why: str) -> "_Check":
        """Return the check with its verdict: `why` counts if the bar is not met; a value of NaN never meets it."""
        if not math.isfinite(self.value):
            met, why = False, "could not be measured"
        return replace(self, verdict=PASS if met else FAIL, why="" if met else why)

    def judged_by_interval(self, said: str) -> "_Check":
        """Return the check with one of three verdicts, by where its interval lies; `said` is what was found."""
        low, high, bar = self.low, self.high, self.bar
        if not (math.isfinite(low) and math.isfinite(high)):
            return replace(self, verdict=FAIL, why="could not be measured")
        if high <= bar:
            return replace(self, verdict=PASS)
        if low > bar:
            return replace(self, verdict=FAIL, why=f"{said}, and by its interval at least {low:.4g}, over {bar:.4g}")
        why = f"{said}, and {bar:.4g} lies in its interval, {low:.4g} to {high:.4g}"
        return replace(self, verdict=NOT_KNOWN, why=why)


def _metric_checks(metrics: pd.DataFrame, bars: Mapping[str, Any], latency_ms: float | None) -> Iterator[_Check]:
    unknown = (math.nan, math.nan, math.nan)
    measured = {name: tuple(row) for name, row in metrics[["value", "low", "high"]].iterrows()}
    measured["latency_ms"] = unknown if latency_ms is None else (latency_ms, math.nan, math.nan)
    for name, (metric, holds, words) in METRIC_OF.items():
        if name in bars:
            value, low, high = measured.get(metric, unknown)
            why = f"{value:.4g} is not {words} {bars[name]:.4g}"
            yield _Check(name, bars[name], value, low, high).judged(met=holds(value, bars[name]), why=why)


def _slice_checks(evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, Any]) -> Iterator[_Check]:
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
            yield _Check(name, bar, drop, low, high).judged_by_interval(f"ROC AUC is {drop:.4g} below that of all rows")


def _champion_checks(
    evidence: Mapping[str, pd.DataFrame], bars: Mapping[str, Any], first_release: bool
) -> Iterator[_Check]:
    if "tolerated_loss" not in bars:
        return
    name, bar = AGAINST_CHAMPION, bars["tolerated_loss"]
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
            found = bar + (row.high - row.low) / 2 + NINE_IN_TEN * row.standard_error
            check = _Check(part, bar, row.difference, row.low, row.high, found)
            side = "above" if row.difference >= 0 else "below"
            yield check.judged_by_interval(f"log loss is {abs(row.difference):.4g} {side} the champion's")


def _behaviour_check(result: BehaviourResult) -> _Check:
    share, allowed = result.failing_share, result.allowed_share
    why = f"{share:.1%} of {result.rows} rows fail, {allowed:.1%} may"
    return _Check(f"behaviour, {result.name}", allowed, share).judged(met=result.passed, why=why)
