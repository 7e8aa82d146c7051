"""Alerts: few while nothing is wrong, and each says what has moved and what to do first.

    calibrate   bars for a stated number of false alarms a year, over everything that is watched together
    deviations  how unusual each day is, against the weeks before it
    find        the alerts of a stretch of days, each with the kind of fault that explains it
    Alert       what has moved, by how much, since when, in which slice, what it could cost, and what to do first

A hundred series watched with p < 0.05 each give five alarms on a quiet day, and after a week nobody reads them. So the
bars come from a quiet period: how far does each series move by chance, and how far would it have to move to do so only
as often as the budget allows?

Each day is compared with the four weeks before it, not with the training sample: otherwise every summer would be an
alarm. A slow change is therefore never an alarm here; drift against the training sample shows it.

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

import numpy as np
import pandas as pd

__all__ = ["Alert", "Bars", "calibrate", "deviations", "find"]

MEMORY = 28  # days that a day is compared with: four whole weeks, as Saturdays differ from Mondays
MIN_DAYS = 10  # of these days that must be there
WEEK = 7
RAISE_AFTER = 2  # days over the bar in the same direction before an alert is raised: one bad day passes by itself
CLEAR_AFTER = 2  # days under half the bar before an alert is over
TAIL = 0.2  # share of the quiet days, the most unusual ones, from which the tail is extended
MIN_BAR = 3.0  # however quiet a series was
DAYS_A_YEAR = 365.25
NORMAL_MAD = 1.4826  # median absolute deviation of a normal distribution times this is its standard deviation
NORMAL_NINETY = 1.645  # standard deviations to the 90th percentile of an absolute normal deviation

SMALLEST_CHANGES = {  # of each measure that matters: every series is taken to move at least so much by chance
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
SMALLEST_CHANGE_OF_A_SHARE = 0.03  # of a category
SHARES = ("missing", "unknown", "unseen", "range", "low", "largest", "repeated", "coverage")  # with those of categories
ERRORS = {"level": 0.5, "residual": 1.25, "spread": 1.0, "count": 1.0}  # of a day, times the root of its rows
COLUMN_MEASURES = ("level", "spread", "low", "range", "unseen", "largest")  # of the values of one column alone
STUCK_SHARE = 0.9  # share of one value from which a sensor is taken for stuck
FAR_OVER = 2.0  # times its bar: another unit moves a column so far, another mix of rows does not

FIRST_STEPS = {
    "unit error": "Compare today's {subject} with its source and with the unit in the contract. Until it is repaired, "
    "let it be missing: the model copes better with a missing number than with a wrong one.",
    "silent null": "Ask the feed of {subject} why values are missing; the model goes on without them, at a loss.",
    "stuck sensor": "Look at the source of {subject}: one value all day. Until it is repaired, let it be missing.",
    "clock skew": "Compare the clock of {subject} with the time of the prediction: a time zone was changed or dropped.",
    "covariate shift": "Find out who asks differently: compare today's mix of rows with last month's, slice by slice. "
    "Nothing is broken in the model; see whether it was trained on such rows.",
    "concept flip": "Check the labels at their source first. If they are right, the world has changed: fall back to "
    "the former rule, and train on new rows.",
    "label outage": "Repair the feed of labels. Until then nobody knows how good the predictions are; do not release.",
    "duplicated batch": "Find what sends rows twice, and count them once before anybody trains on them or bills them.",
    "unknown": "Look at {subject} on these days; no known fault moves signals in this way.",
}


@dataclass(frozen=True)
class _Deviation:
    """A series over its bar on a day: how far, in times its bar and with its sign, and from what to what."""

    subject: str
    measure: str
    times: float
    value: float
    usual: float


@dataclass(frozen=True)
class Alert:
    """Something has moved: its `kind`, the `subject`, from the `usual` to the present `value`, `since` when.

    `threshold` is the change of the measure at its bar, `until` the first day on which it is over, `slice` the one
    slice where it is, `cost` what a week could cost. `series` are subject and measure of all series over their bars.
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
    series: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, eq=False)
class Bars:
    """For each series its least deviation by chance (`floors`), and its bar as a multiple of the usual deviation."""

    floors: pd.Series
    bars: pd.Series


def calibrate(quiet: pd.DataFrame, *, a_year: float) -> Bars:
    """Set bars that all series together would cross `a_year` times a year, if it stays as quiet.

    `quiet` has one row a day and one column a series. One half of the budget is for inputs and one for labels, and
    each series of a half gets the same share. Raises ValueError with fewer than 38 days.
    """
    if len(quiet) < MEMORY + MIN_DAYS:
        raise ValueError(f"expected at least {MEMORY + MIN_DAYS} quiet days to calibrate on, got {len(quiet)}")
    by_chance = (quiet - quiet.median()).abs().quantile(0.9) / NORMAL_NINETY
    measures = quiet.columns.get_level_values(1)
    smallest = [SMALLEST_CHANGES.get(measure, SMALLEST_CHANGE_OF_A_SHARE) for measure in measures]
    smallest = pd.Series(smallest, index=quiet.columns)
    for_a_reason = measures.isin(["off", "coverage"])  # they move with clocks and storms, not by chance
    floors = smallest.where(for_a_reason, np.maximum(smallest, by_chance.fillna(0)))
    steady = _steady(deviations(quiet, floors=floors)[0]).abs()
    of_labels = quiet.columns.get_level_values(0) == "labels"
    share = np.where(of_labels, of_labels.sum(), (~of_labels).sum())
    rates = a_year / 2 / DAYS_A_YEAR / share
    bars = [_bar(steady[name].to_numpy(), rate=rate) for name, rate in zip(quiet.columns, rates, strict=True)]
    clocks = measures == "off"  # they move by an hour twice a year: no tail to extend
    return Bars(floors, pd.Series(np.where(clocks, MIN_BAR, bars), index=quiet.columns))


def _bar(values: np.ndarray, *, rate: float) -> float:
    """The value exceeded on a share `rate` of days.

    The tail of the values is taken as exponential beyond its outer fifth. Its mean is known from a few days only, so
    the predictive distribution is used, which has a heavier tail (Lomax).
    """
    ordered = np.sort(values[~np.isnan(values)])
    tail = int(TAIL * len(ordered))
    if tail < 2:
        return MIN_BAR
    start, excess = ordered[-tail - 1], ordered[-tail:] - ordered[-tail - 1]
    return max(MIN_BAR, start + excess.sum() * ((tail / len(ordered) / rate) ** (1 / tail) - 1))


def deviations(
    values: pd.DataFrame, *, floors: pd.Series, bars: pd.Series | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how far each day is from the four weeks before it, in units of their usual deviation, and what was usual.

    What is usual is the median of all these days or that of the same weekdays, whichever is nearer to the day. The
    usual deviation is 1.48 times the median absolute deviation, and at least the floor. Days over their bar are left
    out of what later days are compared with, and a fault that lasts does not end by itself. NaN before ten days. With a
    series of ("rows", "count"), the usual deviation is at least what so few rows as the day has differ by chance.
    """
    by_chance = _Chance(values)
    x = values.to_numpy(float)
    least = floors.reindex(values.columns).to_numpy(float)
    most = np.full(x.shape[1], np.inf) if bars is None else bars.reindex(values.columns).to_numpy(float)
    scores, usual, kept = np.full(x.shape, np.nan), np.full(x.shape, np.nan), x.copy()
    known = np.full((3, x.shape[1]), np.nan)  # median of all days, of the same weekdays, and scale: of the last day
    for day in range(MIN_DAYS, len(x)):
        past = kept[max(0, day - MEMORY) : day]
        middle, count = _median(past)
        spread, _ = _median(np.abs(past - middle))
        scale = np.maximum(NORMAL_MAD * spread, least)
        same, count_same = _median(past[len(past) - WEEK :: -WEEK])
        same = np.where(count_same >= 2, same, middle)
        known = middle, same, scale = np.where(count >= MIN_DAYS, [middle, same, scale], known)
        wide = np.maximum(scale, by_chance.of(day, past))
        by_all, by_weekday = (x[day] - middle) / wide, (x[day] - same) / wide
        nearer = np.where(np.abs(by_all) <= np.abs(by_weekday), by_all, by_weekday)
        score = np.where(np.sign(by_all) == np.sign(by_weekday), nearer, 0.0)
        scores[day], usual[day] = score, np.where(np.abs(by_all) <= np.abs(by_weekday), middle, same)
        kept[day, np.abs(score) > most] = np.nan
    return tuple(pd.DataFrame(one, index=values.index, columns=values.columns) for one in (scores, usual))


class _Chance:
    """How far the signals of a day lie from the usual by chance alone, as they rest on so few rows (standard errors).

    A share is that of the days before, with two rows more that have it and two that have not (Agresti and Coull 1998).
    A level is a median over the distance of the outer deciles: 1.25 / 2.56 over the root of the rows, if normal.
    """

    def __init__(self, values: pd.DataFrame) -> None:
        measures = values.columns.get_level_values(1)
        self._shares = np.asarray(measures.isin(SHARES) | measures.str.startswith("share of"))
        self._errors = np.array([ERRORS.get(measure, 0.0) for measure in measures])
        known = ("rows", "count") in values.columns
        self._rows = np.exp(values[("rows", "count")].to_numpy(float)) if known else np.full(len(values), np.inf)

    def of(self, day: int, past: np.ndarray) -> np.ndarray:
        """The standard error of each series on the day at a position, by the days before it."""
        rows, before = self._rows[day], self._rows[day - len(past) : day, None]
        if not np.isfinite(rows) or not np.isfinite(before).all():
            return np.zeros(past.shape[1])
        share = (np.nansum(past * before, axis=0) + 2) / (np.where(np.isnan(past), 0.0, before).sum(axis=0) + 4)
        return np.where(self._shares, np.sqrt((share * (1 - share)).clip(0) / rows), self._errors / rows**0.5)


def _median(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median of each column and its number of known values; numpy's nanmedian takes six times as long."""
    ordered = np.sort(values, axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    last, columns = np.maximum(count - 1, 0), np.arange(values.shape[1])
    return (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2, count


def _steady(scores: pd.DataFrame) -> pd.DataFrame:
    """The smallest deviation of the last days if all have the same direction, else 0."""
    return scores.rolling(RAISE_AFTER).min().clip(lower=0) + scores.rolling(RAISE_AFTER).max().clip(upper=0)


def find(signals: pd.DataFrame, bars: Bars, *, first: pd.Timestamp) -> list[Alert]:
    """Find the alerts raised from the day `first` on, in order; those still open have no `until`.

    `signals` has one row a day, in order, and the columns of `bars`. An alert on a day rests on that day and those
    before it only. A fault is told from the series that are over their bars on a day, and a series that one fault
    explains is no sign of another:

    - Rows that repeat each other: a duplicated batch. No labels: a label outage.
    - A column that is missing, or whose clock is off, or that shows one value only: a silent null, clock skew, a stuck
      sensor. Residuals of other columns follow from it.
    - One number far from its usual level, or no longer in line with other columns: another unit.
    - Several columns, the mix of categories or the number of rows: a covariate shift.
    - Labels that surprise, while no input has moved: the concept.
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
        facts = np.column_stack([times.iloc[at], signals.iloc[at], usual.iloc[at]])[over.iloc[at]].tolist()
        names = signals.columns[over.iloc[at]]
        unusual = [_Deviation(*name, *line) for name, line in zip(names, facts, strict=True)]
        own = times.iloc[at].abs()[signals.columns.get_level_values(1).isin(COLUMN_MEASURES)]
        for fault in _diagnose(unusual, moved_by=own.groupby(level=0).max().to_dict()):
            found = _with(found, fault, day=signals.index[at], bars=bars)
    return found


def _cleared(alert: Alert, stays: pd.DataFrame, at: int) -> Alert:
    """The alert, over if none of its series has been unusual for some days up to the one at position `at`."""
    start = at - CLEAR_AFTER + 1
    if alert.until is not None or start < 0 or stays.index[start] <= alert.raised:
        return alert
    if stays.iloc[start : at + 1, [name in alert.series for name in stays.columns]].to_numpy().any():
        return alert
    return replace(alert, until=stays.index[start])


def _with(
    found: list[Alert], fault: tuple[str, str, Sequence[_Deviation]], *, day: pd.Timestamp, bars: Bars
) -> list[Alert]:
    """The alerts with one more, unless an open alert is about the same fault: then that one gets the new series."""
    kind, subject, explained = fault
    names = frozenset((one.subject, one.measure) for one in explained)
    subjects = {one.subject for one in explained}
    for at, alert in enumerate(found):
        if alert.until is None and (subjects & {name for name, _ in alert.series} or alert.kind == kind):
            return [*found[:at], replace(alert, series=alert.series | names), *found[at + 1 :]]
    lead = max(explained, key=lambda one: (one.subject == subject, abs(one.times)))
    since = day - pd.Timedelta(days=RAISE_AFTER - 1)
    name = (lead.subject, lead.measure)
    what = f"{kind}: {lead.subject} {lead.measure} went from {lead.usual:.3g} to {lead.value:.3g}"
    alert = Alert(
        kind=kind,
        subject=subject,
        measure=lead.measure,
        value=lead.value,
        usual=lead.usual,
        threshold=float(bars.bars[name] * bars.floors[name]),
        since=since,
        until=None,
        raised=day,
        first_step=FIRST_STEPS[kind].format(subject=subject),
        text=f"{what}, {abs(lead.times):.1f} times its bar, since {since:%Y-%m-%d}",
        series=names,
    )
    return [*found, alert]


def _diagnose(
    unusual: Sequence[_Deviation], *, moved_by: Mapping[str, float]
) -> list[tuple[str, str, list[_Deviation]]]:
    """The faults that explain the series over their bars, as `find` says: kind, subject and explained series.

    `moved_by` says how far each column has moved by its own measures, in times its bar: where columns no longer agree
    with each other, the one that has moved most is the wrong one.
    """
    rest = [one for one in unusual if one.measure not in ("residual", "count", "surprise")]
    residuals, counts = ([one for one in unusual if one.measure == measure] for measure in ("residual", "count"))
    found: list[tuple[str, str, list[_Deviation]]] = []

    def take(kind: str, subject: str, explained: Sequence[_Deviation]) -> None:
        nonlocal rest
        rest = [one for one in rest if one not in explained]
        found.append((kind, subject, list(explained)))

    def of(subject: str) -> list[_Deviation]:
        return [one for one in rest if one.subject == subject]

    if repeated := [one for one in rest if one.measure == "repeated"]:
        take("duplicated batch", "rows", [*repeated, *counts])
        counts = []
    if outage := [one for one in rest if one.measure == "coverage" and one.times < 0]:
        take("label outage", "labels", outage)
    for subject in sorted({one.subject for one in rest if one.measure == "off"}):
        take("clock skew", subject, of(subject))
    for kind, measure, least in (("silent null", "missing", 0.0), ("stuck sensor", "largest", STUCK_SHARE)):
        for one in [one for one in rest if one.measure == measure and one.times > 0 and one.value >= least]:
            take(kind, one.subject, [*of(one.subject), *residuals])
            residuals = []
    mixed = counts or [one for one in rest if one.measure.startswith("share of") or one.measure == "unknown"]
    far = [one for one in rest if one.measure in ("range", "unseen", "level") and abs(one.times) > FAR_OVER]
    if (far or residuals) and not mixed:
        moved = {} if far else moved_by
        subject = max(far or residuals, key=lambda one: (moved.get(one.subject, 0.0), abs(one.times))).subject
        take("unit error", subject, [*of(subject), *residuals])
    elif rest or counts:
        lead = max([*rest, *counts], key=lambda one: abs(one.times))
        columns = {one.subject for one in rest if one.measure in COLUMN_MEASURES}
        take("covariate shift" if mixed or len(columns) > 1 else "unknown", lead.subject, [*rest, *counts, *residuals])
    surprise = [one for one in unusual if one.measure == "surprise" and one.times > 0]
    if surprise and not found:
        found.append(("concept flip", "labels", surprise))
    return found
