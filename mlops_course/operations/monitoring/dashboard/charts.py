"""Numbers, days and charts as the page shows them.

A chart is a square of 100 by 100 that is stretched. Its texts stand outside of it, and are not stretched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby, pairwise
from typing import Any

import jinja2

WELL_LABELLED = 0.9  # with fewer labels, a realised value is drawn hollow: early labels differ from late ones
HEIGHTS = 4  # intervals on an axis of values at most
DATES = 6  # on an axis at most, so that they fit on a phone
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

State = Mapping[str, Any]
Point = tuple[float, float | None]  # per cent from the left and from the top, None where it is not known


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(str(text))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(text: Any) -> date:
    return datetime.fromisoformat(str(text)).date()


def _unknown(value: Any) -> bool:
    return value is None or isinstance(value, jinja2.Undefined)


def _day(text: Any) -> str:
    """A day for people: 4 Jul."""
    if _unknown(text):
        return "–"
    day = _date(text)
    return f"{day.day} {MONTHS[day.month - 1]}"


def _number(value: Any, digits: int = 0, unit: str = "") -> str:
    return "–" if _unknown(value) else f"{value:,.{digits}f}{unit}".replace("-", "−")


def _percent(value: Any, digits: int = 0) -> str:
    return "–" if _unknown(value) else _number(100 * value, digits, " %")


def _latest(weeks: Sequence[State], name: str) -> State | None:
    """The last window in which a measure is known, if possible one with nearly all labels."""
    known = [week for week in weeks if week.get(name) is not None]
    labelled = [week for week in known if (week.get("labelled") or 0) >= WELL_LABELLED]
    return (labelled or known or [None])[-1]


def _ticks(low: float, high: float, most: int = HEIGHTS) -> list[float]:
    """Round numbers from below the lowest to above the highest value."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(most, steps=[1, 2, 5, 10])
    return locator.tick_values(*locator.nonsingular(low, high)).tolist()


def _dates(first: date, days: int) -> list[tuple[float, str]]:
    """Where to write which date on an axis of so many days, in per cent."""
    from matplotlib.dates import AutoDateLocator, num2date

    ends = [datetime.combine(day, time()) for day in (first, first + timedelta(days=days))]
    ticks = AutoDateLocator(minticks=2, maxticks=DATES, interval_multiples=False).tick_values(*ends)
    found = sorted({num2date(tick).date() for tick in ticks})
    return [(100 * ((day - first).days + 0.5) / days, _day(day)) for day in found if 0 <= (day - first).days < days]


def _chart(
    label: str,
    *,
    ticks: Sequence[float],
    shapes: Iterable[tuple[str, str, str]],
    dates: Sequence[tuple[float, str]] = (),
    write: Callable[[float], str] | None = None,
) -> dict[str, Any]:
    """A chart for the template: what it says to a screen reader, heights and dates with their places, and shapes.

    A shape has a CSS class, a path, and a text to show beside it. `write` makes the texts of the heights.
    """
    digits = max(len(f"{tick:.10g}".partition(".")[2]) for tick in ticks)
    write = write or (lambda tick: _number(tick, digits))
    return {
        "label": label,
        "heights": [(round(_up(tick, ticks), 2), write(tick)) for tick in ticks],
        "dates": [(round(at, 2), text) for at, text in dates],
        "shapes": list(shapes),
    }


def _up(value: float | None, ticks: Sequence[float]) -> float | None:
    """How far below the highest tick a value stands, in per cent of all ticks."""
    return None if value is None else 100 * (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _box(left: float, right: float, top: float) -> str:
    return f"M{left:.2f} 100.00V{top:.2f}H{right:.2f}V100.00Z"


def _line(points: Iterable[Point]) -> str:
    """A line through points, with a gap where one is not known; a point by itself becomes a dot."""
    path, drawing = [], False
    for x, y in points:
        if y is not None:
            path.append(f"{'L' if drawing else 'M'}{x:.2f} {y:.2f}" + ("" if drawing else "h0"))
        drawing = y is not None
    return "".join(path)


def _bands(low: Sequence[Point], high: Sequence[Point]) -> Iterator[str]:
    """The area between two lines, in as many pieces as there are gaps."""
    for known, pairs in groupby(zip(low, high, strict=True), lambda pair: None not in (pair[0][1], pair[1][1])):
        below, above = zip(*pairs, strict=True)
        if known and len(below) > 1:
            yield "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in [*above, *below[::-1]]) + "Z"


def _traffic_charts(days: Sequence[State], today: date) -> list[tuple[str, dict[str, Any]]]:
    """Rows of each day and their positive rate."""
    if not days:
        return []
    first, last = _date(days[0]["day"]), days[-1]
    length = (_date(last["day"]) - first).days + 1
    lefts = [100 * (_date(day["day"]) - first).days / length for day in days]
    ticks, bars = _ticks(0, max(day["rows"] for day in days) or 1), []
    for left, day in zip(lefts, days, strict=True):
        kind = "bar few" if _date(day["day"]) == today else "bar"
        box = _box(left + 12 / length, left + 88 / length, _up(day["rows"], ticks))
        bars.append((kind, box, f"{_day(day['day'])}: {_number(day['rows'])} rows"))
    rates = [day.get("positive_rate") for day in days]
    heights = _ticks(0, max((rate for rate in rates if rate is not None), default=0) or 1, most=3)
    line = _line((left + 50 / length, _up(rate, heights)) for left, rate in zip(lefts, rates, strict=True))
    said = f"Rows a day, {_day(first)} to {_day(last['day'])}; on the last day {_number(last['rows'])}."
    rate = f"Share of rows decided positively, by day; on the last day {_percent(rates[-1])}."
    lines = _chart(rate, ticks=heights, shapes=[("line", line, "")], dates=_dates(first, length), write=_percent)
    return [("Rows a day", _chart(said, ticks=ticks, shapes=bars)), ("Decided positive, share of rows", lines)]


def _performance_charts(weeks: Sequence[State], unit: str) -> list[tuple[str, dict[str, Any]]]:
    """Log loss and cost by window, estimated with its interval and realised, and the share of labels."""
    if not weeks:
        return []
    starts = [_date(week["start"]) for week in weeks]
    width = min(((after - before).days for before, after in pairwise(starts)), default=7)
    length = (starts[-1] - starts[0]).days + width
    middles = [100 * ((start - starts[0]).days + width / 2) / length for start in starts]
    titles = {"log_loss": "Log loss, nats", "cost": f"Cost, {unit}"}
    charts = [(title, _measure_chart(weeks, middles, name, title)) for name, title in titles.items()]
    half, bars = 38 * width / length, []
    for x, week in zip(middles, weeks, strict=True):
        share = week.get("labelled") or 0
        told = f"from {_day(week['start'])}: {_percent(share)} of {_number(week.get('rows'))} rows"
        kind = "bar" if share >= WELL_LABELLED else "bar few"
        bars.append((kind, _box(x - half, x + half, 100 - 100 * share), told))
    label = f"Share of rows whose label has come, by window; {_percent(weeks[-1].get('labelled'))} in the last one."
    labels = _chart(label, ticks=[0, 1], shapes=bars, dates=_dates(starts[0], length), write=_percent)
    return [*((title, chart) for title, chart in charts if chart), ("Labels that have come, share of rows", labels)]


def _measure_chart(weeks: Sequence[State], middles: Sequence[float], name: str, title: str) -> dict[str, Any] | None:
    columns = (name, f"estimated_{name}", f"estimated_{name}_low", f"estimated_{name}_high")
    values = [[week.get(column) for week in weeks] for column in columns]
    known = [value for column in values for value in column if value is not None]
    if not known:
        return None
    ticks = _ticks(min(known), max(known))
    realised, estimated, low, high = (
        [(x, _up(value, ticks)) for x, value in zip(middles, column, strict=True)] for column in values
    )
    shapes = [("band", path, "") for path in _bands(low, high)]
    shapes.append(("line", _line(estimated), ""))
    last = "no labels yet."
    for week, (x, y) in zip(weeks, realised, strict=True):
        if y is None:
            continue
        share, last = week.get("labelled") or 0, f"{_number(week[name], 3)} by the last labels."
        told = f"from {_day(week['start'])}: {_number(week[name], 3)}, by {_percent(share)} of labels"
        kinds = ["dot"] if share >= WELL_LABELLED else ["dot", "dot hollow"]
        shapes += [(kind, f"M{x:.2f} {y:.2f}h0", told) for kind in kinds]
    label = f"{title}, by window: estimated {_number(values[1][-1], 3)} in the last one, {last}"
    return _chart(label, ticks=ticks, shapes=shapes)
