"""Alarms that stay silent while nothing is wrong, and that say what to do when something is.

    calibrate   bars for a stated number of false alarms a year, over everything that is watched together
    deviations  how unusual each day is, against the weeks before it
    find        the alerts of a stretch of days: raised late enough to be sure, cleared late enough to be over
    diagnose    which kinds of fault leave such marks
    Alert       what moved, by how much, since when, in which slice, what it could cost, and what to do first

A hundred series watched with p < 0.05 each give five alarms on a quiet day, and after a week nobody reads them. So the
bars come from a quiet period: how far does each series stray by itself, and how far would it have to stray to do so
only as often as the budget allows? A period of weeks has no day as rare as that, so its tail is extended.

Each day is compared with the four weeks before it, the same weekdays among them, not with the training sample: else
every summer is an alarm. What drifts slowly is therefore never an alarm here. It is for the measures of drift against
the training sample to show, and for performance to say whether it matters. Days that stray do not become usual.

>>> days = pd.date_range("2024-01-01", periods=120, freq="D", tz="UTC")
>>> names = pd.MultiIndex.from_tuples([("heat", "missing"), ("wind", "missing")])
>>> quiet = pd.DataFrame(np.random.default_rng(0).normal(0.1, 0.01, (120, 2)), index=days, columns=names)
>>> watched = quiet.copy()
>>> watched.iloc[100:106, 0] = 0.9
>>> (alert,) = find(watched, calibrate(quiet.iloc[:90], a_year=1.0), first=days[90])
>>> alert.kind, alert.subject, f"{alert.since:%m-%d}", f"{alert.until:%m-%d}"
('silent null', 'heat', '04-10', '04-16')
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import pandas as pd

__all__ = ["Alert", "Bars", "Mark", "calibrate", "deviations", "diagnose", "find"]

MEMORY = 28  # days that a day is compared with: four whole weeks, as Saturdays differ from Mondays
LEAST = 10  # of these days that must be there
WEEK = 7
RAISE_AFTER = 2  # days over the bar in the same direction before an alert is raised: one bad day passes by itself
CLEAR_AFTER = 2  # days under half the bar before it is over
TAIL = 0.2  # of the quiet days, the most unusual ones, from which the tail is extended
LEAST_BAR = 3.0  # however quiet a series was
DAYS_A_YEAR = 365.25
NORMAL_MAD = 1.4826  # median absolute deviation of a normal distribution times this is its standard deviation
TO_NINETY = 1.645  # standard deviations to the 90th percentile of an absolute normal deviation

SMALLEST = {  # change of each measure that is worth a word: no series is taken to stray less than that by chance
    "missing": 0.06,
    "unknown": 0.03,
    "unseen": 0.06,
    "range": 0.06,
    "largest": 0.08,
    "low": 0.06,
    "level": 0.1,
    "spread": 0.15,
    "residual": 0.1,
    "off": 1.0,  # hours: what a change of clocks brings
    "count": 0.13,
    "repeated": 0.02,
    "coverage": 0.1,
    "surprise": 0.1,
}
SMALLEST_SHARE = 0.03  # of a category
OWN = ("level", "spread", "low", "range", "unseen", "largest")  # measures of a column by itself
STUCK = 0.9  # share of one value from which a sensor is not just quiet
FAR = 2.0  # times its bar: what no mix of the same rows brings about, but another unit does

FIRST_STEPS = {
    "unit error": "Compare today's {subject} with its source and with the unit in the contract; until that is mended, "
    "let it be missing: the model copes with that better than with a wrong number.",
    "silent null": "Ask the feed of {subject} why values stay away; the model goes on without, at a loss.",
    "stuck sensor": "Look at the source of {subject}: one value all day; until it is mended, let it be missing.",
    "clock skew": "Compare the clock of {subject} with the time of the prediction: a zone was changed or dropped.",
    "covariate shift": "Find out who asks differently: compare today's mix of rows with last month's, slice by slice. "
    "Nothing is broken in the model; see whether it was trained on such rows.",
    "concept flip": "Check the labels at their source first. If they are right, the world has changed: fall back to "
    "the former rule, and train on what comes from now on.",
    "label outage": "Mend the feed of labels. Until then nobody knows how good the answers are; do not release.",
    "duplicated batch": "Find what sends rows twice, and count them once before anybody trains on them or bills them.",
    "unknown": "Look at {subject} on these days; nothing that is known to go wrong leaves such marks.",
}


@dataclass(frozen=True)
class Mark:
    """A series over its bar on a day: how far in times its bar (with its sign), its value, and what is usual."""

    subject: str
    measure: str
    times: float
    value: float
    usual: float


@dataclass(frozen=True)
class Alert:
    """Something that moved: of which `kind`, in which column, from what was `usual` to which `value`, `since` when.

    `threshold` is how far the measure had to stray to be over its bar. `until` is the first day without it, or None.
    `slice` says where it is, if not everywhere alike; `cost` what a week of it could cost, if that is known.
    """

    kind: str
    subject: str
    measure: str
    value: float
    usual: float
    threshold: float
    since: pd.Timestamp
    until: pd.Timestamp | None
    raised: pd.Timestamp
    first_step: str
    text: str
    slice: str = ""
    cost: float | None = None
    marks: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)


# Bars -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bars:
    """By series: how far it strays by chance at least (`floors`), and its bar in units of that."""

    floors: pd.Series
    bars: pd.Series


def calibrate(quiet: pd.DataFrame, *, a_year: float) -> Bars:
    """Bars that all series of a quiet period together would cross `a_year` times a year, if it stays as quiet.

    `quiet` has one row a day and one column a series. The budget is shared evenly by inputs and labels, and then by
    series. The tail of each series is taken as exponential beyond its outer fifth; as its mean is known from a few days
    only, the predictive distribution is used, which has a heavier tail (Lomax). Raises ValueError with fewer days than
    the memory of two comparisons.
    """
    if len(quiet) < MEMORY + LEAST:
        raise ValueError(f"expected at least {MEMORY + LEAST} quiet days to calibrate on, got {len(quiet)}")
    strays = (quiet - quiet.median()).abs().quantile(0.9) / TO_NINETY
    smallest = pd.Series([SMALLEST.get(measure, SMALLEST_SHARE) for _, measure in quiet.columns], index=quiet.columns)
    known = [measure in ("off", "coverage") for _, measure in quiet.columns]  # stray for a reason: clocks, storms
    floors = smallest.where(known, np.maximum(smallest, strays.fillna(0)))
    steady = _steady(deviations(quiet, floors=floors)[0]).abs()
    of_labels = quiet.columns.get_level_values(0) == "labels"
    share = np.where(of_labels, of_labels.sum(), (~of_labels).sum())
    rates = a_year / 2 / DAYS_A_YEAR / share
    bars = [_bar(steady[name].to_numpy(), rate=rate) for name, rate in zip(quiet.columns, rates, strict=True)]
    clocks = quiet.columns.get_level_values(1) == "off"  # stand still but for one hour twice a year: no tail to extend
    return Bars(floors, pd.Series(np.where(clocks, LEAST_BAR, bars), index=quiet.columns))


def _bar(values: np.ndarray, *, rate: float) -> float:
    """What is exceeded on a share `rate` of days, by the tail of the values that there are."""
    ordered = np.sort(values[~np.isnan(values)])
    tail = int(TAIL * len(ordered))
    if tail < 2:
        return LEAST_BAR
    start, excess = ordered[-tail - 1], ordered[-tail:] - ordered[-tail - 1]
    return max(LEAST_BAR, start + excess.sum() * ((tail / len(ordered) / rate) ** (1 / tail) - 1))


def deviations(
    values: pd.DataFrame, *, floors: pd.Series, bars: pd.Series | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How far each day strays from the four weeks before it, in units of their usual spread, and what was usual.

    The nearer counts of the median of all days and that of the same weekdays; the spread is 1.48 times the median
    absolute deviation, and never less than the floor. A day over its bar is left out of what later days are compared
    with; if fewer than ten are left, with what was usual last, so that a fault that lasts does not end by itself. NaN
    before ten days are known.
    """
    x = values.to_numpy(float)
    least = floors.reindex(values.columns).to_numpy(float)
    most = np.full(x.shape[1], np.inf) if bars is None else bars.reindex(values.columns).to_numpy(float)
    scores, usual, kept = np.full(x.shape, np.nan), np.full(x.shape, np.nan), x.copy()
    known = np.full((3, x.shape[1]), np.nan)  # median of all days, of the same weekdays, and scale: of the last day
    for day in range(LEAST, len(x)):
        past = kept[max(0, day - MEMORY) : day]
        middle, count = _median(past)
        spread, _ = _median(np.abs(past - middle))
        scale = np.maximum(NORMAL_MAD * spread, least)
        same, count_same = _median(past[len(past) - WEEK :: -WEEK])
        same = np.where(count_same >= 2, same, middle)
        known = middle, same, scale = np.where(count >= LEAST, [middle, same, scale], known)
        by_all, by_weekday = (x[day] - middle) / scale, (x[day] - same) / scale
        nearer = np.where(np.abs(by_all) <= np.abs(by_weekday), by_all, by_weekday)
        score = np.where(np.sign(by_all) == np.sign(by_weekday), nearer, 0.0)
        scores[day], usual[day] = score, np.where(np.abs(by_all) <= np.abs(by_weekday), middle, same)
        kept[day, np.abs(score) > most] = np.nan
    return tuple(pd.DataFrame(one, index=values.index, columns=values.columns) for one in (scores, usual))


def _median(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median of each column over what is known, and how much that is; NaN for nothing."""
    ordered = np.sort(values, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    last, columns = np.maximum(count - 1, 0), np.arange(values.shape[1])
    return (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2, count


def _steady(scores: pd.DataFrame) -> pd.DataFrame:
    """The smallest deviation of the last days that have the same direction: what lasts, and not what flickers."""
    return scores.rolling(RAISE_AFTER).min().clip(lower=0) + scores.rolling(RAISE_AFTER).max().clip(upper=0)


# Alerts ---------------------------------------------------------------------------------------------------------------


def find(signals: pd.DataFrame, bars: Bars, *, first: pd.Timestamp) -> list[Alert]:
    """The alerts raised from the day `first` on, in order; those still open have no `until`.

    `signals` has one row a day, in order, and the columns of `bars`; days before `first` are what the first ones are
    compared with. An alert on a day rests on that day and those before it only.
    """
    signals = signals[bars.bars.index]
    scores, usual = deviations(signals, floors=bars.floors, bars=bars.bars)
    times = _steady(scores) / bars.bars
    over, stays = times.abs() > 1, scores.abs() > bars.bars / 2
    alarming = over.to_numpy().any(axis=1)
    found: list[Alert] = []
    for at in np.flatnonzero(signals.index >= first):
        found = [_cleared(alert, stays, at) for alert in found]
        if not alarming[at]:
            continue
        named = zip(signals.columns, over.iloc[at], times.iloc[at], signals.iloc[at], usual.iloc[at], strict=True)
        marks = [Mark(*name, float(t), float(value), float(before)) for name, o, t, value, before in named if o]
        for kind, subject, own in diagnose(marks, strays=_own_strays(times.iloc[at])):
            found = _with(found, kind, subject, own, day=signals.index[at], bars=bars)
    return found


def _own_strays(times: pd.Series) -> dict[str, float]:
    """How far each subject has strayed at most by its own measures, in times their bars."""
    strays: dict[str, float] = {}
    for (subject, measure), far in times.abs().items():
        if measure in OWN:
            strays[subject] = float(np.fmax(far, strays.get(subject, np.nan)))
    return strays


def _cleared(alert: Alert, stays: pd.DataFrame, at: int) -> Alert:
    """The alert, over if none of its series has been unusual for some days up to the one at position `at`."""
    start = at - CLEAR_AFTER + 1
    if alert.until is not None or start < 0 or stays.index[start] <= alert.raised:
        return alert
    if stays.iloc[start : at + 1, [name in alert.marks for name in stays.columns]].to_numpy().any():
        return alert
    return replace(alert, until=stays.index[start])


def _with(
    found: list[Alert], kind: str, subject: str, marks: Sequence[Mark], *, day: pd.Timestamp, bars: Bars
) -> list[Alert]:
    """The alerts with one more, unless an open one has such marks: then it is the same trouble, seen again."""
    names = frozenset((mark.subject, mark.measure) for mark in marks)
    subjects = {mark.subject for mark in marks}
    for at, alert in enumerate(found):
        if alert.until is None and (subjects & {name for name, _ in alert.marks} or alert.kind == kind):
            return [*found[:at], replace(alert, marks=alert.marks | names), *found[at + 1 :]]
    lead = max(marks, key=lambda mark: (mark.subject == subject, abs(mark.times)))
    since = day - pd.Timedelta(days=RAISE_AFTER - 1)
    name = (lead.subject, lead.measure)
    threshold = float(bars.bars[name] * bars.floors[name])
    what = f"{kind}: {lead.subject} {lead.measure} went from {lead.usual:.3g} to {lead.value:.3g}"
    text = f"{what}, {abs(lead.times):.1f} times its bar, since {since:%Y-%m-%d}"
    step = FIRST_STEPS[kind].format(subject=subject)
    facts = (lead.value, lead.usual, threshold)
    return [*found, Alert(kind, subject, lead.measure, *facts, since, None, day, step, text, marks=names)]


def diagnose(
    marks: Sequence[Mark], *, strays: Mapping[str, float] = MappingProxyType({})
) -> list[tuple[str, str, list[Mark]]]:
    """The kinds of fault that leave such marks, each with its subject and its marks; what one explains is not another.

    `strays` says how far each column has moved by itself, over its bar or not: where columns have fallen out of line
    with each other, the one that has moved most is the wrong one.

    - Rows that repeat each other: a duplicated batch. No labels: a label outage.
    - A column that is missing, or whose clock is off, or that shows one value only: a silent null, clock skew, a stuck
      sensor; what other columns then no longer explain follows from it.
    - One number far off what it was, or no longer in line with the others: another unit.
    - Several columns, the mix of categories or the number of rows: other rows are asked for.
    - Labels that surprise, while no input has moved: the concept.
    """
    by = {(mark.subject, mark.measure): mark for mark in marks}
    rest = [mark for mark in marks if mark.measure not in ("residual", "count", "surprise")]
    residuals = [mark for mark in marks if mark.measure == "residual"]
    found: list[tuple[str, str, list[Mark]]] = []

    def take(kind: str, subject: str, taken: Sequence[Mark], *, with_residuals: bool = True) -> None:
        nonlocal rest, residuals
        rest = [mark for mark in rest if mark not in taken]
        if with_residuals:
            taken, residuals = [*taken, *residuals], []
        found.append((kind, subject, list(taken)))

    if repeated := by.get(("rows", "repeated")):
        counts = [mark for mark in marks if mark.measure == "count"]
        take("duplicated batch", "rows", [repeated, *counts], with_residuals=False)
    if (coverage := by.get(("labels", "coverage"))) and coverage.times < 0:
        take("label outage", "labels", [coverage], with_residuals=False)
    clocks = {mark.subject for mark in rest if mark.measure == "off"}
    for subject in sorted(clocks):
        take("clock skew", subject, [mark for mark in rest if mark.subject == subject], with_residuals=False)
    for mark in [mark for mark in rest if mark.measure == "missing" and mark.times > 0]:
        take("silent null", mark.subject, [other for other in rest if other.subject == mark.subject])
    for mark in [mark for mark in rest if mark.measure == "largest" and mark.times > 0 and mark.value >= STUCK]:
        take("stuck sensor", mark.subject, [other for other in rest if other.subject == mark.subject])
    moved = sorted({mark.subject for mark in rest if mark.measure in OWN})
    mixed = [mark for mark in rest if mark.measure.startswith("share of") or mark.measure == "unknown"]
    counted = (
        [mark for mark in marks if mark.measure == "count"] if "duplicated batch" not in {k for k, *_ in found} else []
    )
    far = [mark for mark in rest if mark.measure in ("range", "unseen", "level") and abs(mark.times) > FAR]
    if far and not (mixed or counted):
        subject = max(far, key=lambda mark: abs(mark.times)).subject
        take("unit error", subject, [mark for mark in rest if mark.subject == subject])
    elif residuals and not (mixed or counted):
        subject = max(residuals, key=lambda mark: (strays.get(mark.subject, 0.0), abs(mark.times))).subject
        take("unit error", subject, [mark for mark in rest if mark.subject == subject])
    elif rest or counted:
        lead = max([*rest, *counted], key=lambda mark: abs(mark.times))
        kind = "covariate shift" if mixed or counted or len(moved) > 1 else "unknown"
        take(kind, lead.subject, [*rest, *counted])
    if (surprise := by.get(("labels", "surprise"))) and surprise.times > 0 and not found:
        found.append(("concept flip", "labels", [surprise]))
    return found
