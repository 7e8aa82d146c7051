"""The charts of the page: shapes and their places in per cent, for the template to draw.

A chart is a square of 100 by 100 that is stretched; its texts stand outside of it, and are not stretched.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import groupby, pairwise
from typing import Any

from .formats import WELL_LABELLED, State, _date, _day, _number, _percent

HEIGHTS = 4  # intervals on an axis of values at most
DATES = 6  # on an axis at most, so that they fit on a phone

Point = tuple[float, float | None]  # per cent from the left and from the top, None where it is not known


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


def _up(value: float, ticks: Sequence[float]) -> float:
    """How far below the highest tick a value stands, in per cent of all ticks."""
    return 100 * (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _box(left: float, right: float, top: float, bottom: float) -> str:
    return f"M{left:.2f} {bottom:.2f}V{top:.2f}H{right:.2f}V{bottom:.2f}Z"


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
    first = _date(days[0]["day"])
    length = (_date(days[-1]["day"]) - first).days + 1
    ticks, dates = _ticks(0, max(day["rows"] for day in days) or 1), _dates(first, length)
    bars = []
    for day in days:
        left = 100 * ((_date(day["day"]) - first).days + 0.12) / length
        box = _box(left, left + 76 / length, _up(day["rows"], ticks), 100)
        kind = "bar few" if _date(day["day"]) == today else "bar"
        bars.append((kind, box, f"{_day(day['day'])}: {_number(day['rows'])} rows"))
    rates = [(100 * ((_date(day["day"]) - first).days + 0.5) / length, day.get("positive_rate")) for day in days]
    heights = _ticks(0, max((rate for _, rate in rates if rate is not None), default=0) or 1, most=3)
    line = _line((x, None if rate is None else _up(rate, heights)) for x, rate in rates)
    last = days[-1]
    said = f"Rows a day, {_day(first)} to {_day(last['day'])}; on the last day {_number(last['rows'])}."
    rate = f"Share of rows decided positively, by day; on the last day {_percent(last.get('positive_rate'))}."
    return [
        ("Rows a day", _chart(said, ticks=ticks, shapes=bars)),
        (
            "Decided positive, share of rows",
            _chart(rate, ticks=heights, shapes=[("line", line, "")], dates=dates, write=_percent),
        ),
    ]


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
    half = 100 * width / length * 0.38
    labels = []
    for x, week in zip(middles, weeks, strict=True):
        share = week.get("labelled") or 0
        told = f"from {_day(week['start'])}: {_percent(share)} of {_number(week.get('rows'))} rows"
        kind = "bar" if share >= WELL_LABELLED else "bar few"
        labels.append((kind, _box(x - half, x + half, 100 - 100 * share, 100), told))
    last = _percent(weeks[-1].get("labelled"))
    label = f"Share of rows whose label has come, by window; {last} in the last one."
    bars = _chart(label, ticks=[0, 1], shapes=labels, dates=_dates(starts[0], length), write=_percent)
    return [*((title, chart) for title, chart in charts if chart), ("Labels that have come, share of rows", bars)]


def _measure_chart(weeks: Sequence[State], middles: Sequence[float], name: str, title: str) -> dict[str, Any] | None:
    columns = (name, f"estimated_{name}", f"estimated_{name}_low", f"estimated_{name}_high")
    values = [[week.get(column) for week in weeks] for column in columns]
    known = [value for column in values for value in column if value is not None]
    if not known:
        return None
    ticks = _ticks(min(known), max(known))
    realised, estimated, low, high = (
        [(x, None if value is None else _up(value, ticks)) for x, value in zip(middles, column, strict=True)]
        for column in values
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
