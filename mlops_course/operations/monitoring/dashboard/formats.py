"""Numbers, days and ages as people read them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import jinja2

WARNING, ALERT = 0.1, 0.25  # of the population stability index, if the state has no bars (Siddiqi 2006)
LEAST_PSI, FULL_PSI = 0.01, 10.0  # ends of a bar on the page, on a logarithmic scale: a season moves an index past 1
WELL_LABELLED = 0.9  # with fewer labels, a realised value is drawn hollow: early labels differ from late ones
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
State = Mapping[str, Any]


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


def _short(value: Any) -> str:
    """A number in three figures."""
    return _number(value) if _unknown(value) or abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def _age(now: datetime, at: datetime | None, stale_seconds: float) -> str:
    """Age of a state that is too old, in words; empty if it is not."""
    if at is None or (old := (at - now).total_seconds()) <= stale_seconds:
        return ""
    for name, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if old >= 2 * seconds:
            return f"{old / seconds:.0f} {name}s"
    return f"{old:.0f} seconds"


def _latest(weeks: Sequence[State], name: str) -> State | None:
    """The last window in which a measure is known, if possible one with nearly all labels."""
    known = [week for week in weeks if week.get(name) is not None]
    return next(
        (week for week in reversed(known) if _or_else(week.get("labelled"), 0) >= WELL_LABELLED), (known or [None])[-1]
    )


def _or_else(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
