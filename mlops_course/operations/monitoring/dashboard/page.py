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

from .charts import _performance_charts, _traffic_charts
from .formats import (
    ALERT,
    FULL_PSI,
    LEAST_PSI,
    MONTHS,
    WARNING,
    State,
    _age,
    _date,
    _day,
    _latest,
    _moment,
    _number,
    _or_else,
    _percent,
    _short,
    _unknown,
)

REFRESH_SECONDS = 15.0
STALE_SECONDS = 900.0  # a state older than that is no news
SHOWN_FEATURES, SHOWN_ALERTS, SHOWN_SLICES = 10, 5, 5  # the others fold away
FEW_ROWS = 50  # with fewer labels a slice is shown last: its cost is high or low by chance
MEASURES = {  # of drift: what the head of a column says
    "psi": "PSI",
    "ks": "KS",
    "js": "JS distance",
    "wasserstein": "moved by, own units",
    "missing": "missing",
    "missing_rise": "missing, rise",
    "unknown": "unknown",
    "out_of_range": "out of range",
}
SHARES = ("missing", "missing_rise", "unknown", "out_of_range")


def live_page(
    state: State,
    *,
    refresh_seconds: float | None = REFRESH_SECONDS,
    at: datetime | None = None,
    stale_seconds: float = STALE_SECONDS,
) -> str:
    """Render the state as one HTML page, at a glance and in full; the same state gives the same page.

    The page asks its own address again every `refresh_seconds`, and says so if there is no answer or nothing new for
    `stale_seconds`; None leaves the script out, for a page that is kept. `at` is the moment at which somebody asks for
    the page: it then says at once if the state is older than `stale_seconds`.

    `state` has title and now (ISO 8601), and as far as they are known: unit ("EUR per order"), champion (version,
    since, trained_on), trial (version, mode, share, note), traffic (a row a day: day, rows, positive_rate,
    latency_p95_ms), drift (reference, days, warning, alert, features: a row each with feature, alarm and the measures
    of `drift.drift`), performance (a row a window: start, rows, labelled, log_loss, cost, and both estimated with _low
    and _high), slices (slice, value, rows, labelled, log_loss, cost, roc_auc) and alerts (kind, subject, value, usual,
    threshold, since, until, slice, cost, first_step, text).

    Raises KeyError if title or now is not there.
    """
    now, days, weeks = _moment(state["now"]), state.get("traffic") or [], state.get("performance") or []
    unit, title = str(state.get("unit") or "a row"), str(state["title"])
    script = _text("page.js")
    currency = unit.partition(" per ")[0]
    alerts = [_alert(alert, now, currency) for alert in state.get("alerts") or []]
    open_ = sorted((alert for alert in alerts if alert["open"]), key=lambda alert: -_or_else(alert.get("cost"), -1))
    past = [alert for alert in alerts if not alert["open"]]
    return _template().render(
        title=title[:1].upper() + title[1:],
        now=f"{now.day} {MONTHS[now.month - 1]} {now.year}, {now:%H:%M} {now.tzname()}",
        age=_age(now, at, stale_seconds),
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
        measures=list(MEASURES),
        shares=SHARES,
        slices=_slice_table(state.get("slices") or []),
        shown_slices=SHOWN_SLICES,
        style=_text("page.css"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        refresh_seconds=refresh_seconds,
        stale_seconds=stale_seconds,
    )


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
    warning, alert = drift.get("warning") or WARNING, drift.get("alert") or ALERT
    features = []
    for row in drift.get("features") or []:
        psi = row.get("psi")
        new = [row[name] for name in ("unknown", "out_of_range") if row.get(name) is not None]
        features.append(
            {
                **row,
                "bar": round(100 * _reach(_or_else(psi, 0)), 1),
                "level": "alarm" if row.get("alarm") else _level(psi, warning, alert),
                "unseen": max(new, default=None),
            }
        )
    features.sort(key=lambda row: (not row.get("alarm"), -(row.get("psi") or 0), str(row["feature"])))
    return {
        "features": features,
        "shown": max(SHOWN_FEATURES, sum(bool(row.get("alarm")) for row in features)),
        "drifted": sum((row.get("psi") or 0) >= alert for row in features),
        "reference": drift.get("reference") or "the reference",
        "days": drift.get("days"),
        "marks": [(round(100 * _reach(bar), 1), bar) for bar in (warning, alert)],
        "ends": (f"{LEAST_PSI:g}", f"{FULL_PSI:g}"),
        "head": [("Feature", "text"), *((text, "") for text in MEASURES.values())],
    }


def _level(psi: float | None, warning: float, alert: float) -> str:
    if psi is None:
        return "unknown"
    return "shifted" if psi >= alert else "watch" if psi >= warning else "stable"


def _reach(psi: float) -> float:
    """Length of the bar of an index, from 0 to 1 on a logarithmic scale."""
    return min(max(math.log(max(psi, LEAST_PSI) / LEAST_PSI) / math.log(FULL_PSI / LEAST_PSI), 0.0), 1.0)


def _slice_table(slices: Sequence[State]) -> list[dict[str, Any]]:
    """Slices in groups, the most costly first and those with few labels last, with a bar for the cost."""
    rows = [{**row, "few": row["rows"] * _or_else(row.get("labelled"), 1) < FEW_ROWS} for row in slices]
    highest = max((_or_else(row.get("cost"), 0) for row in rows if not row["few"]), default=0) or 1
    rows = [{**row, "bar": round(min(100 * _or_else(row.get("cost"), 0) / highest, 100), 1)} for row in rows]
    groups = list(dict.fromkeys(row["slice"] for row in rows))
    return sorted(
        rows, key=lambda row: (row["few"], groups.index(row["slice"]), -_or_else(row.get("cost"), 0), str(row["value"]))
    )


@cache
def _text(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=lambda value: "" if value is None else value
    )
    environment.filters |= {"day": _day, "number": _number, "percent": _percent, "short": _short, "unknown": _unknown}
    return environment.from_string(_text("page.html.j2"))
