"""The gate: what a candidate must show before it may replace the champion, and the papers it gets.

    behaviour    `invariance`, `direction`, `minimum_functionality` test what the model does, not how often it is right
    speed        `latency` times single rows
    judgement    `gate` holds the evidence against the bars and answers with reasons
    paper        `model_card` writes down what was found, for those who will rely on the model

The gate reads plain tables and measures nothing itself. So it judges any model, and its rules can be tried without one:

>>> metrics = pd.DataFrame({"value": [0.71], "low": [0.69], "high": [0.73]}, index=["roc_auc"])
>>> report = gate({"metrics": metrics}, {"min_roc_auc": 0.75, "max_latency_ms": 50}, latency_ms=8.5)
>>> report.passed
False
>>> print(*report.reasons, sep="\\n")
min_roc_auc: 0.71 is not at least 0.75
"""

import difflib
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "BARS",
    "BehaviourResult",
    "GateReport",
    "direction",
    "gate",
    "invariance",
    "latency",
    "minimum_functionality",
    "model_card",
]

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
ROUNDING = 1e-9  # a probability may move this much because rows were scored together, and has not moved

Predict = Callable[[pd.DataFrame], np.ndarray]  # inputs to the probability of the positive class, one for each row
Change = Callable[[pd.DataFrame], pd.DataFrame]  # inputs to other inputs, one for each row


# Behaviour ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BehaviourResult:
    """What one behavioural test found.

    `worst` shows the row that did worst: its inputs and the probability, before and after the change if there was one.
    """

    name: str
    rows: int
    failing_share: float
    allowed_share: float
    worst: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether no larger share of rows failed than was allowed."""
        return self.failing_share <= self.allowed_share


def invariance(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    change: Change,
    name: str,
    tolerance: float = 0.0,
    allowed_share: float = 0.0,
) -> BehaviourResult:
    """Test that a change that must not matter does not: no probability moves by more than `tolerance`.

    Raises ValueError if `change` changes nothing or the shape, or `predict` does not return one number for each row.
    Source of the three kinds of test: Ribeiro et al. 2020, Beyond Accuracy: Behavioral Testing of NLP Models with
    CheckList.
    """
    changed = _changed(rows, change, name)
    before, after = _scored(predict, rows), _scored(predict, changed)
    pair = {"before": (rows, before), "after": (changed, after)}
    return _result(name, pair, np.abs(after - before) - tolerance, allowed_share)


def direction(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    change: Change,
    expected: str,
    name: str,
    at_least: float = 0.0,
    allowed_share: float = 0.0,
) -> BehaviourResult:
    """Test that a change moves probabilities the way it must: "up" or "down", by `at_least` so much.

    With `at_least=0` a row that does not move passes, and so does a constant model; ask for more where more is known.

    Raises ValueError if `expected` is neither word, and as `invariance` does.
    """
    if expected not in ("up", "down"):
        raise ValueError(f"expected must be 'up' or 'down'; got {expected!r}.")
    changed = _changed(rows, change, name)
    before, after = _scored(predict, rows), _scored(predict, changed)
    moved = after - before if expected == "up" else before - after
    return _result(name, {"before": (rows, before), "after": (changed, after)}, at_least - moved, allowed_share)


def minimum_functionality(
    predict: Predict, rows: pd.DataFrame, *, name: str, low: float = 0.0, high: float = 1.0, allowed_share: float = 0.0
) -> BehaviourResult:
    """Test that cases so plain that anybody knows the answer get a probability between `low` and `high`.

    Raises ValueError if no probability can lie there, or `predict` does not return one number for each row.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"expected 0 <= low <= high <= 1; got low {low} and high {high}.")
    scores = _scored(predict, rows)
    return _result(name, {"case": (rows, scores)}, np.maximum(low - scores, scores - high), allowed_share)


def _changed(rows: pd.DataFrame, change: Change, name: str) -> pd.DataFrame:
    changed = change(rows.copy())
    if not changed.index.equals(rows.index) or not changed.columns.equals(rows.columns):
        raise ValueError(f"{name}: change must keep index and columns; it may only change values.")
    if changed.equals(rows):
        raise ValueError(f"{name}: change left every value as it was, so this would test nothing. Repair change.")
    return changed


def _scored(predict: Predict, rows: pd.DataFrame) -> np.ndarray:
    """Probabilities of the rows; what is not a probability becomes NaN, which fails every test."""
    scores = np.asarray(predict(rows), dtype=float)
    if scores.shape != (len(rows),) or not len(rows):
        raise ValueError(
            f"predict must return one number for each of {len(rows)} rows, at least one; got shape {scores.shape}. "
            "Of predict_proba take the second column: [:, 1]."
        )
    return np.where((scores >= 0) & (scores <= 1), scores, np.nan)


def _result(
    name: str, shown: Mapping[str, tuple[pd.DataFrame, np.ndarray]], excess: np.ndarray, allowed_share: float
) -> BehaviourResult:
    """The result for rows that went beyond what is allowed by `excess`; NaN counts as beyond everything."""
    worst = int(np.argmax(np.nan_to_num(excess, nan=np.inf)))
    table = pd.concat([rows.iloc[[worst]].assign(probability=scores[worst]) for rows, scores in shown.values()])
    return BehaviourResult(
        name=name,
        rows=len(excess),
        failing_share=float(np.mean(~(excess <= ROUNDING))),
        allowed_share=allowed_share,
        worst=table.set_axis(list(shown), axis="index"),
    )


# Speed ----------------------------------------------------------------------------------------------------------------


def latency(
    predict: Predict,
    rows: pd.DataFrame,
    *,
    calls: int = 200,
    warm_up: int = 10,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Time to answer single rows in milliseconds: the median `p50_ms` and the 95th percentile `p95_ms`.

    Rows are taken in turn, one a call, as a service gets them; a model that is quick on a thousand rows at once may be
    slow on one. The first `warm_up` calls fill caches and do not count. `clock` gives seconds. By default it counts
    processor time, so that other work on the machine does not change the verdict. A model that waits, for a network
    say, is not seen by it: the service measures that live.

    Raises ValueError if there are no rows or no calls.
    """
    if not len(rows) or calls < 1:
        raise ValueError(f"expected at least one row and one call; got {len(rows)} rows and {calls} calls.")
    seconds = []
    for call in range(warm_up + calls):
        row = rows.iloc[[call % len(rows)]]
        start = clock()
        predict(row)
        seconds.append(clock() - start)
    p50, p95 = 1000 * np.quantile(seconds[warm_up:], [0.5, 0.95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


# Judgement ------------------------------------------------------------------------------------------------------------


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


# Paper ----------------------------------------------------------------------------------------------------------------


def model_card(
    specification: Mapping[str, Any],
    evidence: Mapping[str, pd.DataFrame],
    *,
    report: GateReport,
    version: str,
    data_version: str,
    training_data: str,
    evaluation_data: str,
    caveats: Sequence[str] = (),
) -> str:
    """A model card in Markdown: what the model is for, how well it does it and for whom, and when not to trust it.

    Of `specification`, a mapping of plain values, it uses name, version, decision, users, target, timing.lead, costs,
    slices and risk. `evidence` and `report` are what `gate` took and gave. The descriptions of the data say which rows
    they are, in words.

    Raises ValueError naming the field if the specification lacks one. Source of the nine headings: Mitchell et al.
    2019, Model Cards for Model Reporting.
    """
    field = partial(_field, specification)
    costs = f"{field('costs.false_alarm')} a false alarm, {field('costs.missed')} a miss, in {field('costs.unit')}"
    not_judged = report.checks[report.checks["verdict"] == NOT_JUDGED]
    untested = [f"Not judged: {row.check}; {row.why}." for row in not_judged.itertuples()]
    sections = {
        "Model details": [
            f"Version {version}, built for version {field('version')} of the specification.",
            f"Predicts: {field('target.definition')}",
            f"Asked this long before the event: {field('timing.lead')}.",
        ],
        "Intended use": [
            f"Decision: {field('decision')}",
            f"Users: {', '.join(field('users'))}.",
            "Not meant for other decisions: its costs, its timing and its tests belong to this one.",
        ],
        "Factors": [f"Examined one by one: {', '.join(field('slices'))}."],
        "Metrics": [f"Ranking, calibration and cost of the decisions. Costs: {costs}."],
        "Evaluation data": [evaluation_data],
        "Training data": [training_data, f"Data version: `{data_version}`."],
        "Quantitative analyses": _analyses(evidence, report),
        "Ethical considerations": [f"Risk: {field('risk.level')}, as of {field('risk.as_of')}. {field('risk.basis')}"],
        "Caveats and recommendations": [_bullets([*caveats, *untested]) or "None known."],
    }
    parts = [f"# Model card: {field('name')}"]
    for heading, blocks in sections.items():
        parts += [f"## {heading}", *(block.strip() for block in blocks)]
    return "\n\n".join(parts) + "\n"


def _field(specification: Mapping[str, Any], path: str) -> Any:
    value: Any = specification
    for key in path.split("."):
        if key not in value:
            raise ValueError(f"a model card needs {path!r} of the specification, which is missing: add it there.")
        value = value[key]
    return value


def _analyses(evidence: Mapping[str, pd.DataFrame], report: GateReport) -> list[str]:
    """The tables and the verdict, as blocks of Markdown."""
    blocks = [_markdown(evidence["metrics"].rename_axis("metric").reset_index())]
    if "slices" in evidence:
        auc = ["roc_auc", "roc_auc_low", "roc_auc_high"]
        blocks.append(_markdown(evidence["slices"][["slice", "value", "rows", "positives", *auc]]))
    if report.passed:
        return [*blocks, f"The gate found nothing against this version in {len(report.checks)} checks."]
    verdict = f"The gate refused this version, for {len(report.reasons)} of {len(report.checks)} checks:"
    return [*blocks, verdict, _bullets(report.reasons)]


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table; numbers with four digits, a dash for what is missing."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if math.isfinite(value) else "–"
        return str(value).replace("|", "\\|")

    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)
