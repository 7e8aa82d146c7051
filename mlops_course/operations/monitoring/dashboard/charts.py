"""The charts of the page: shapes and their places in per cent, for the template to draw.

A chart is a square of 100 by 100 that is stretched; its texts stand outside of it, and are not stretched.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

from .formats import WELL_LABELLED, State, _date, _day, _number, _percent

HEIGHTS = 4  # intervals on an axis of values at most
DATES = 6  # on an axis at most, so that they fit on a phone


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
    form: str,
    dates: Sequence[tuple[float, str]] = (),
    shapes: Iterable[tuple[str, str, str]],
) -> dict[str, Any]:
    """A picture for the template: what it says aloud, heights and dates with where they stand, and shapes."""
    digits = max((len(f"{tick:.10g}".partition(".")[2]) for tick in ticks), default=0)
    written = {"%": lambda tick: f"{100 * tick:.0f} %", "": lambda tick: _number(tick, digits)}[form]
    return {
        "label": label,
        "heights": [(round(_up(tick, ticks), 2), written(tick)) for tick in ticks],
        "dates": [(round(at, 2), text) for at, text in dates],
        "shapes": list(shapes),
    }


def _up(value: float, ticks: Sequence[float]) -> float:
    """How far down a value stands between the highest and the lowest tick, in per cent."""
    return 100 * (ticks[-1] - value) / (ticks[-1] - ticks[0])


def _box(left: float, right: float, top: float, bottom: float) -> str:
    return f"M{left:.2f} {bottom:.2f}V{top:.2f}H{right:.2f}V{bottom:.2f}Z"


def _line(points: Iterable[tuple[float, float | None]]) -> str:
    """A line through points, with a gap where one is not known; a point by itself becomes a dot."""
    path, drawing = [], False
    for x, y in points:
        if y is not None:
            path.append(f"{'L' if drawing else 'M'}{x:.2f} {y:.2f}" + ("" if drawing else "h0"))
        drawing = y is not None
    return "".join(path)


def _traffic_charts(days: Sequence[State], today: date) -> list[tuple[str, dict[str, Any]]]:
    """Rows of each day, with what others than the busiest version answered on top, and the positive rate."""
    if not days:
        return []
    first = _date(days[0]["day"])
    length = (_date(days[-1]["day"]) - first).days + 1
    ticks, dates = _ticks(0, max(day["rows"] for day in days) or 1), _dates(first, length)
    bars = []
    for day in days:
        left = 100 * ((_date(day["day"]) - first).days + 0.12) / length
        right, answered = left + 76 / length, day.get("versions") or {}
        others = sum(answered.values()) - max(answered.values(), default=0)
        told = f"{_day(day['day'])}: {_number(day['rows'])} rows"
        bars.append(
            ("bar few" if _date(day["day"]) == today else "bar", _box(left, right, _up(day["rows"], ticks), 100), told)
        )
        if others:
            told += "; " + ", ".join(f"version {version}: {_number(rows)}" for version, rows in answered.items())
            bars.append(
                ("bar other", _box(left, right, _up(day["rows"], ticks), _up(day["rows"] - others, ticks)), told)
            )
    rates = [(100 * ((_date(day["day"]) - first).days + 0.5) / length, day.get("positive_rate")) for day in days]
    known = [rate for _, rate in rates if rate is not None]
    heights = _ticks(0, max(known, default=0) or 1, most=3)
    line = _line((x, None if rate is None else _up(rate, heights)) for x, rate in rates)
    last = days[-1]
    return [
        (
            "Rows a day",
            _chart(
                f"Rows a day, {_day(first)} to {_day(last['day'])}; on the last day {_number(last['rows'])}.",
                ticks=ticks,
                form="",
                shapes=bars,
            ),
        ),
        (
            "Decided positive, share of rows",
            _chart(
                f"Share of rows decided positively, by day; on the last day {_percent(last.get('positive_rate'))}.",
                ticks=heights,
                form="%",
                dates=dates,
                shapes=[("line", line, "")],
            ),
        ),
    ]


def _performance_charts(weeks: Sequence[State], unit: str) -> list[tuple[str, dict[str, Any]]]:
    """Log loss and cost by window, estimated with its interval and as it came, and the share of labels."""
    if not weeks:
        return []
    starts = [_date(week["start"]) for week in weeks]
    width = min(((after - before).days for before, after in pairwise(starts)), default=7)
    length = (starts[-1] - starts[0]).days + width
    middles = [100 * ((start - starts[0]).days + width / 2) / length for start in starts]
    charts = [
        (title, chart)
        for name, title in (("log_loss", "Log loss, nats"), ("cost", f"Cost, {unit}"))
        if (chart := _measure_chart(weeks, middles, name, title))
    ]
    half = 100 * width / length * 0.38
    labels = [
        (
            "bar" if (share := week.get("labelled") or 0) >= WELL_LABELLED else "bar few",
            _box(x - half, x + half, 100 - 100 * share, 100),
            f"from {_day(week['start'])}: {_percent(share)} of {_number(week.get('rows'))} rows",
        )
        for x, week in zip(middles, weeks, strict=True)
    ]
    last = _percent(weeks[-1].get("labelled"))
    label = f"Share of rows whose label has come, by window; {last} in the last one."
    dates = _dates(starts[0], length)
    return [
        *charts,
        ("Labels that have come, share of rows", _chart(label, ticks=[0, 1], form="%", dates=dates, shapes=labels)),
    ]


def _measure_chart(weeks: Sequence[State], middles: Sequence[float], name: str, title: str) -> dict[str, Any] | None:
    names = {
        "came": name,
        "said": f"estimated_{name}",
        "low": f"estimated_{name}_low",
        "high": f"estimated_{name}_high",
    }
    values = {key: [week.get(column) for week in weeks] for key, column in names.items()}
    known = [value for column in values.values() for value in column if value is not None]
    if not known:
        return None
    ticks = _ticks(min(known), max(known))
    points = {
        key: [(x, None if value is None else _up(value, ticks)) for x, value in zip(middles, column, strict=True)]
        for key, column in values.items()
    }
    shapes = [("band", path, "") for path in _bands(points["low"], points["high"])]
    shapes.append(("line", _line(points["said"]), ""))
    for week, (x, y) in zip(weeks, points["came"], strict=True):
        if y is not None:
            share = week.get("labelled") or 0
            told = f"from {_day(week['start'])}: {_number(week[name], 3)}, by {_percent(share)} of labels"
            shapes += [("dot", f"M{x:.2f} {y:.2f}h0", told)]
            shapes += [] if share >= WELL_LABELLED else [("dot hollow", f"M{x:.2f} {y:.2f}h0", told)]
    came = [value for value in values["came"] if value is not None]
    label = f"{title}, by window: estimated {_number(values['said'][-1], 3)} in the last one, " + (
        f"{_number(came[-1], 3)} by the last labels." if came else "no labels yet."
    )
    return _chart(label, ticks=ticks, form="", shapes=shapes)


def _bands(low: Sequence[tuple[float, float | None]], high: Sequence[tuple[float, float | None]]) -> list[str]:
    """The area between two lines, in as many pieces as there are gaps."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for (x, bottom), (_, top) in zip(low, high, strict=True):
        if bottom is None or top is None:
            pieces.append([])
        else:
            pieces[-1].append((x, top, bottom))
    return [
        "M"
        + "L".join(f"{x:.2f} {y:.2f}" for x, y in [*((x, y) for x, y, _ in p), *((x, y) for x, _, y in p[::-1])])
        + "Z"
        for p in pieces
        if len(p) > 1
    ]
