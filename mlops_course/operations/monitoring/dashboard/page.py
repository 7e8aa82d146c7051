"""The page: the state of a monitor in words, tables and charts for its template."""

import base64
import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from .charts import (
    MONTHS,
    State,
    _date,
    _day,
    _latest,
    _moment,
    _number,
    _percent,
    _performance_charts,
    _traffic_charts,
    _unknown,
)

REFRESH_SECONDS = 15.0
STALE_SECONDS = 900.0  # a state older than that is no news
SHOWN_FEATURES, SHOWN_ALERTS, SHOWN_SLICES = 10, 5, 5  # the others fold away
FEW_ROWS = 50  # with fewer labels a slice is shown last: its cost is high or low by chance
LEAST_PSI, FULL_PSI = 0.01, 10.0  # ends of a bar, on a logarithmic scale: a season moves an index past 1


def live_page(state: State, *, refresh_seconds: float | None = REFRESH_SECONDS, at: datetime | None = None) -> str:
    """Render the state as one HTML page, at a glance and in full; the same state gives the same page.

    The page asks its own address again every `refresh_seconds`, and says so if there is nothing new for 15 minutes;
    None leaves the script out, for a page that is kept. `at` is the moment at which somebody asks for the page, to say
    at once how old the state is.

    `state` has title and now (ISO 8601), and as far as they are known: unit ("EUR per order"), champion (version,
    since, trained_on), trial (version, mode, share, note), traffic (a row a day: day, rows, positive_rate,
    latency_p95_ms), drift (reference, days, warning, alert, features: a row each with feature, alarm and the measures
    of `drift.drift`), performance (a row a window: start, rows, labelled, log_loss, cost, and both estimated with _low
    and _high), contradictions (how many labels contradict one on record), slices (slice, value, rows, labelled,
    log_loss, cost, roc_auc) and alerts (kind, subject, value, usual, threshold, since, until, slice, cost,
    first_step, text).

    Raises KeyError if title or now is not there.
    """
    now, days, weeks = _moment(state["now"]), state.get("traffic") or [], state.get("performance") or []
    unit, title = str(state.get("unit") or "a row"), str(state["title"])
    script = _text("page.js")
    currency = unit.partition(" per ")[0]
    alerts = [_alert(alert, now, currency) for alert in state.get("alerts") or []]
    open_ = sorted((alert for alert in alerts if alert["open"]), key=lambda alert: -(alert.get("cost") or 0))
    past = [alert for alert in alerts if not alert["open"]]
    return _template().render(
        title=title[:1].upper() + title[1:],
        now=f"{now.day} {MONTHS[now.month - 1]} {now.year}, {now:%H:%M} {now.tzname()}",
        age=_age((at - now).total_seconds() if at else 0.0),
        unit=unit,
        currency=currency,
        champion=state.get("champion") or {},
        trial=state.get("trial"),
        open=open_,
        over=max(past, key=lambda alert: alert["until"], default=None),
        alerts=[*open_, *past],
        shown_alerts=max(SHOWN_ALERTS, len(open_)),
        days=days,
        partial=bool(days) and _date(days[-1]["day"]) == now.date(),
        traffic=_traffic_charts(days, now.date()),
        weeks=weeks,
        latest=_latest(weeks, "log_loss") or {},
        performance=_performance_charts(weeks, unit),
        drift=_drift_table(state.get("drift") or {}),
        contradictions=state.get("contradictions") or 0,
        slices=_slice_table(state.get("slices") or []),
        shown_slices=SHOWN_SLICES,
        style=_text("page.css"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        refresh_seconds=refresh_seconds,
        stale_seconds=STALE_SECONDS,
    )


def _age(seconds: float) -> str:
    """The age of a state that is too old, in words; empty if it is not."""
    if seconds <= STALE_SECONDS:
        return ""
    units = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
    unit, length = next(one for one in units if seconds >= 2 * one[1])
    return f"{seconds / length:.0f} {unit}"


def _alert(alert: State, now: datetime, currency: str) -> dict[str, Any]:
    """An alert with its name, how long it has lasted and what it could cost, in words."""
    until, cost, kind, subject = alert.get("until"), alert.get("cost"), str(alert["kind"]), alert.get("subject")
    lasted = ((_date(until) if until else now.date()) - _date(alert["since"])).days
    where = f" in {subject}" if subject and str(subject) not in kind else ""
    text = str(alert.get("text") or "").removeprefix(f"{kind}: ").removesuffix(f", since {alert['since']}")
    return {
        **alert,
        "text": text,  # kind and day stand beside it
        "open": until is None,
        "name": f"{kind[:1].upper()}{kind[1:]}{where}" + (f", {alert['slice']}" if alert.get("slice") else ""),
        "days": "1 day" if lasted == 1 else f"{lasted} days",
        "money": "what it could cost is not known" if cost is None else f"a week could cost {currency} {_number(cost)}",
    }


def _drift_table(drift: State) -> dict[str, Any]:
    """The features, those with an alarm first and then the most drifted, each with its bar."""
    if not drift.get("features"):
        return {}
    features = []
    for row in drift["features"]:
        new = [row[name] for name in ("unknown", "out_of_range") if row.get(name) is not None]
        features.append({**row, "bar": _reach(row.get("psi") or 0), "unseen": max(new, default=None)})
    features.sort(key=lambda row: (not row.get("alarm"), -(row.get("psi") or 0), str(row["feature"])))
    return {
        **drift,
        "features": features,
        "shown": max(SHOWN_FEATURES, sum(bool(row.get("alarm")) for row in features)),
        "drifted": sum((row.get("psi") or 0) >= drift["alert"] for row in features),
        "marks": [(_reach(bar), bar) for bar in (drift["warning"], drift["alert"])],
        "ends": (f"{LEAST_PSI:g}", f"{FULL_PSI:g}"),
    }


def _reach(psi: float) -> float:
    """Length of the bar of an index, in per cent on a logarithmic scale."""
    bounded = min(max(psi, LEAST_PSI), FULL_PSI)
    return round(100 * math.log(bounded / LEAST_PSI) / math.log(FULL_PSI / LEAST_PSI), 1)


def _slice_table(slices: Sequence[State]) -> list[dict[str, Any]]:
    """Slices in groups, the most costly first and those with few labels last, with a bar for the cost."""
    rows = [
        {**row, "few": row["rows"] * (row.get("labelled") or 0) < FEW_ROWS, "known_cost": row.get("cost") or 0}
        for row in slices
    ]
    highest = max((row["known_cost"] for row in rows if not row["few"]), default=0) or 1
    rows = [{**row, "bar": round(min(100 * row["known_cost"] / highest, 100), 1)} for row in rows]
    groups = list(dict.fromkeys(row["slice"] for row in rows))
    return sorted(rows, key=lambda row: (row["few"], groups.index(row["slice"]), -row["known_cost"], str(row["value"])))


@cache
def _text(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _short(value: Any) -> str:
    """A number in three figures."""
    return _number(value) if _unknown(value) or abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=lambda value: "" if value is None else value
    )
    environment.filters |= {"day": _day, "number": _number, "percent": _percent, "short": _short, "unknown": _unknown}
    return environment.from_string(_text("page.html.j2"))
