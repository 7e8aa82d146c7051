"""What a monitor knows, for people and for other programs: a page to leave open, plots and gauges.

    live_page      one self-contained HTML page: is all quiet, what to do first, traffic, drift, performance, alerts
    export         the same as gauges with labels, for Prometheus
    plot_drift     how far some features have moved, day by day, with the bar
    plot_alerts    what was raised when, above what was truly wrong, if that is known
    plot_traffic   rows a day, and the share of them that was decided positively

All of them take the state of a monitor in plain values, as it survives JSON; None is what is not known. `live_page`
says which keys are read. The page loads nothing from anywhere: its pictures are drawn into it, a policy in it forbids
the browser every other place, and its few lines of script only ask its own address for the next state.

>>> state = {"title": "Orders", "now": "2024-05-02T08:00:00+00:00", "unit": "EUR per order", "alerts": [],
...          "traffic": [{"day": "2024-05-01", "rows": 912, "positive_rate": 0.21}]}
>>> page = live_page(state)
>>> "All quiet" in page, "912" in page
(True, True)
>>> [(gauge, value) for gauge, _, labels, value in export(state) if not labels][:3]
[('monitor_time_seconds', 1714636800.0), ('monitor_alerts_open', 0.0), ('monitor_rows', 912.0)]
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["export", "live_page", "plot_alerts", "plot_drift", "plot_traffic"]

REFRESH_SECONDS = 15.0
STALE_SECONDS = 900.0  # a state older than that is no news
WARNING, ALERT = 0.1, 0.25  # of the population stability index, where the state names no bars (Siddiqi 2006)
LEAST_PSI, FULL_PSI = 0.01, 10.0  # ends of the bars, whose scale is logarithmic: a season moves an index past 1
WORST = 10  # features that are shown before the others fold away
SHOWN_ALERTS = 5  # likewise
SHOWN_SLICES = 5
FEW_ROWS = 50  # with fewer labels a slice is shown last: it is dear or cheap by chance
WELL_LABELLED = 0.9  # with fewer labels, what came is drawn hollow: early labels are not like late ones
TICKS = 6  # dates on an axis at most, so that they fit on a phone
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
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
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#6b7480"  # told apart by colour-blind readers too (Okabe and Ito)
State = Mapping[str, Any]


# The page -------------------------------------------------------------------------------------------------------------


def live_page(
    state: State,
    *,
    refresh_seconds: float | None = REFRESH_SECONDS,
    at: datetime | None = None,
    stale_seconds: float = STALE_SECONDS,
) -> str:
    """The HTML of a page that tells the state at a glance and in full; the same state gives the same page.

    It asks its own address again every `refresh_seconds`, and says so if there is no answer or nothing new for
    `stale_seconds`; None leaves that out, for a page that is kept. With `at`, the moment at which the page is asked
    for, it says from the beginning if the state is older than that.

    `state` has title and now (ISO 8601), and as far as they are known: unit ("EUR per order"), champion (version,
    since, trained_on), trial (version, mode, share, note), traffic (a row a day: day, rows, positive_rate,
    latency_p95_ms, versions), drift (reference, days, warning, alert, features: a row each with feature, alarm and the
    measures of `drift.drift`, history: rows of day, feature, psi), performance (a row a window: start, rows,
    labelled, log_loss, cost, and both estimated with _low and _high), slices (slice, value, rows, labelled, log_loss,
    cost, roc_auc) and alerts (kind, subject, value, usual, threshold, since, until, slice, cost, first_step, text).
    Raises KeyError if title or now is not there.
    """
    now, days, weeks = _moment(state["now"]), state.get("traffic") or [], state.get("performance") or []
    unit, title = str(state.get("unit") or "a row"), str(state["title"])
    currency = unit.partition(" per ")[0]
    alerts = [_alert(alert, now, currency) for alert in state.get("alerts") or []]
    open_ = sorted((alert for alert in alerts if alert["open"]), key=lambda alert: -_or(alert.get("cost"), -1))
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
        versions=any(day.get("versions") for day in days),
        traffic=_traffic_charts(days, now.date()),
        weeks=weeks,
        latest=_latest(weeks, "log_loss") or {},
        performance=_performance_charts(weeks, unit),
        drift=_drift_table(state.get("drift") or {}),
        measures=list(MEASURES),
        shares=SHARES,
        slices=_slice_table(state.get("slices") or []),
        shown_slices=SHOWN_SLICES,
        style=STYLE,
        script=SCRIPT,
        digest=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        refresh_seconds=refresh_seconds,
        stale_seconds=stale_seconds,
    )


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
    """A number of unknown size in three figures."""
    return _number(value) if _unknown(value) or abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def _age(now: datetime, at: datetime | None, stale_seconds: float) -> str:
    """How old a state is that is too old."""
    if at is None or (old := (at - now).total_seconds()) <= stale_seconds:
        return ""
    for name, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if old >= 2 * seconds:
            return f"{old / seconds:.0f} {name}s"
    return f"{old:.0f} seconds"


def _latest(weeks: Sequence[State], name: str) -> State | None:
    """The last window in which a measure is known, of those with nearly all labels if there is one."""
    known = [week for week in weeks if week.get(name) is not None]
    return next(
        (week for week in reversed(known) if _or(week.get("labelled"), 0) >= WELL_LABELLED), (known or [None])[-1]
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


# Pictures are shapes in a square of 100 by 100 that is stretched; what is written stands outside it, and is not -------


def _ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers from below the lowest to above the highest value."""
    span = max(high - low, 1e-9 * max(abs(high), 1.0))
    size = 10 ** math.floor(math.log10(span / most))
    step = next(size * times for times in (1, 2, 2.5, 5, 10, 20) if math.ceil(span / (size * times)) < most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, max(last, first + 1) + 1)]


def _dates(first: date, days: int) -> list[tuple[float, str]]:
    """Where to write which date on an axis of so many days, in per cent."""
    if days > 10 * 7:
        months = (days + 29) // 30
        starts = [date(first.year + k // 12, k % 12 + 1, 1) for k in range(first.month, first.month + months)]
        every = math.ceil(months / TICKS)
        return [(100 * (day - first).days / days, _day(day)) for day in starts[::every] if (day - first).days < days]
    every = next(step for step in (1, 2, 7, 14) if days / step <= TICKS)
    offset = -first.weekday() % 7 if every >= 7 else 0
    return [
        (100 * (at + 0.5) / days, _day(first + timedelta(days=at))) for at in range(min(offset, days - 1), days, every)
    ]


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
    ticks, dates = _ticks(0, max(day["rows"] for day in days)), _dates(first, length)
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
    heights = _ticks(0, max(known, default=1), most=3)
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


# Tables ---------------------------------------------------------------------------------------------------------------


def _drift_table(drift: State) -> dict[str, Any]:
    """The features, those with an alarm first and then the most drifted, each with its bar and its past days."""
    warning, alert = drift.get("warning") or WARNING, drift.get("alert") or ALERT
    past = pd.DataFrame(list(drift.get("history") or []), columns=["day", "feature", "psi"])
    past = past.pivot_table(index="feature", columns="day", values="psi", sort=True)
    features = []
    for row in drift.get("features") or []:
        psi, days = row.get("psi"), past.loc[row["feature"]] if row["feature"] in past.index else []
        new = [row[name] for name in ("unknown", "out_of_range") if row.get(name) is not None]
        features.append(
            {
                **row,
                "bar": round(100 * _reach(_or(psi, 0)), 1),
                "level": "alarm" if row.get("alarm") else _level(psi, warning, alert),
                "unseen": max(new, default=None),
                "strip": [
                    (_level(value, warning, alert), _box(*_column(at, len(days), value)))
                    for at, value in enumerate(days)
                    if not math.isnan(value)
                ],
            }
        )
    features.sort(key=lambda row: (not row.get("alarm"), -(row.get("psi") or 0), str(row["feature"])))
    return {
        "features": features,
        "shown": max(WORST, sum(bool(row.get("alarm")) for row in features)),
        "drifted": sum((row.get("psi") or 0) >= alert for row in features),
        "reference": drift.get("reference") or "the reference",
        "days": drift.get("days"),
        "marks": [(round(100 * _reach(bar), 1), bar) for bar in (warning, alert)],
        "ends": (f"{LEAST_PSI:g}", f"{FULL_PSI:g}"),
        "head": [("Feature", "text"), *((text, "") for text in MEASURES.values())],
        "past": f"{_day(past.columns[0])} to {_day(past.columns[-1])}" if len(past.columns) else "",
    }


def _level(psi: float | None, warning: float, alert: float) -> str:
    if psi is None:
        return "unknown"
    return "shifted" if psi >= alert else "watch" if psi >= warning else "stable"


def _reach(psi: float) -> float:
    """How far along its bar an index reaches: from 0 at the least to 1 at the full one, by its logarithm."""
    return min(max(math.log(max(psi, LEAST_PSI) / LEAST_PSI) / math.log(FULL_PSI / LEAST_PSI), 0.0), 1.0)


def _column(at: int, of: int, psi: float) -> tuple[float, float, float, float]:
    """One day in a strip."""
    return 100 * at / of, 100 * (at + 0.8) / of, 100 - 100 * max(_reach(psi), 0.06), 100


def _slice_table(slices: Sequence[State]) -> list[dict[str, Any]]:
    """Slices in groups, the dearest first and those with few labels last, with a bar for the cost."""
    rows = [{**row, "few": row["rows"] * _or(row.get("labelled"), 1) < FEW_ROWS} for row in slices]
    dearest = max((_or(row.get("cost"), 0) for row in rows if not row["few"]), default=0) or 1
    rows = [{**row, "bar": round(min(100 * _or(row.get("cost"), 0) / dearest, 100), 1)} for row in rows]
    groups = list(dict.fromkeys(row["slice"] for row in rows))
    return sorted(
        rows, key=lambda row: (row["few"], groups.index(row["slice"]), -_or(row.get("cost"), 0), str(row["value"]))
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


# For other programs ---------------------------------------------------------------------------------------------------


def export(state: State) -> list[tuple[str, str, dict[str, str], float]]:
    """The state as gauges: name, what it says, labels and value of each; what is not known is left out.

    Gauges of one name have the same labels. They are monitor_time_seconds (of the state, since 1970: old means that
    nobody watches), monitor_alerts_open and with a kind monitor_alerts; of the last day monitor_rows and
    monitor_positive_rate; by feature monitor_drift with its measure, and monitor_drift_alarm; of the last window that
    has it monitor_performance (measure log_loss or cost; kind realised, estimated, estimated_low or estimated_high),
    and of the last window monitor_labelled. Raises KeyError if the state has no now.
    """
    days, weeks = state.get("traffic") or [], state.get("performance") or []
    alerts = list(state.get("alerts") or [])
    open_ = [alert["kind"] for alert in alerts if alert.get("until") is None]
    found: list[tuple[str, str, dict[str, str], Any]] = [
        ("monitor_time_seconds", "When the state was known, since 1970", {}, _moment(state["now"]).timestamp()),
        ("monitor_alerts_open", "Alerts that are open", {}, len(open_)),
    ]
    for kind in sorted({alert["kind"] for alert in alerts}):
        found.append(("monitor_alerts", "Alerts that are open, by kind", {"kind": kind}, open_.count(kind)))
    if days:
        found.append(("monitor_rows", "Rows of the last day", {}, days[-1].get("rows")))
        found.append(("monitor_positive_rate", "Decided positive on the last day", {}, days[-1].get("positive_rate")))
    for row in (state.get("drift") or {}).get("features") or []:
        feature = {"feature": str(row["feature"])}
        found += [
            ("monitor_drift", "How far features have moved", {**feature, "measure": name}, value)
            for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        found.append(("monitor_drift_alarm", "1 with an open alert", feature, bool(row.get("alarm"))))
    for measure in ("log_loss", "cost"):
        kinds = {
            "realised": measure,
            **{f"estimated{end}": f"estimated_{measure}{end}" for end in ("", "_low", "_high")},
        }
        for kind, name in kinds.items():
            labels = {"measure": measure, "kind": kind}
            value = (_latest(weeks, name) or {}).get(name) if kind == "realised" else _last(weeks, name)
            found.append(("monitor_performance", "How good the answers are", labels, value))
    found.append(("monitor_labelled", "Share of the last window with a label", {}, _last(weeks, "labelled")))
    return [(name, text, labels, float(value)) for name, text, labels, value in found if value is not None]


def _last(weeks: Sequence[State], name: str) -> Any:
    return next((week[name] for week in reversed(weeks) if week.get(name) is not None), None)


# For notebooks and reports --------------------------------------------------------------------------------------------


def plot_drift(history: pd.DataFrame, *, title: str, warning: float = WARNING, alert: float = ALERT) -> "Figure":
    """How far each feature has moved, day by day, between the two bars; `title` states the finding.

    `history` has a row for each day and feature: day, feature and psi. The axis is logarithmic. Names stand at the end
    of their lines. Raises ValueError with more features than can be told apart: eight.
    """
    lines = history.assign(day=pd.to_datetime(history["day"])).pivot_table(index="day", columns="feature", values="psi")
    if len(lines.columns) > len(_LINES):
        raise ValueError(f"expected {len(_LINES)} features at most, got {len(lines.columns)}; choose the worst")
    figure, axes = _figure(3.4)
    for (name, values), (colour, marker) in zip(lines.items(), _LINES, strict=False):
        look = {"color": colour, "marker": marker, "markevery": max(len(values) // 8, 1), "markersize": 5}
        axes.plot(values.index, values.clip(lower=LEAST_PSI), label=name, **look)
    for bar, text in ((warning, "watch"), (alert, "shifted")):
        axes.axhline(bar, color=GREY, linewidth=1, linestyle="--")
        axes.text(1.01, bar, f"{text}, {bar:g}", transform=axes.get_yaxis_transform(), color=GREY, va="center")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("population stability index")
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    return _titled(figure, axes, title)


def plot_alerts(alerts: Sequence[State], *, title: str, until: Any, faults: Sequence[State] = ()) -> "Figure":
    """Each alert from the day it began to the day it was over, and from the day it was raised in full colour.

    `alerts` as in the state, with raised where it is known. `faults`, if the truth is known, has kind, start and end
    of each: they stand in grey above the alerts of their kind. What is open lasts to `until`. `title` states the
    finding.
    """
    figure, axes = _figure(1.2 + 0.32 * len({row["kind"] for row in [*alerts, *faults]}))
    kinds = list(dict.fromkeys(row["kind"] for row in [*faults, *alerts]))
    for row in faults:
        axes.hlines(kinds.index(row["kind"]) - 0.18, *_span(row["start"], row["end"]), GREY, linewidth=7, alpha=0.6)
    for row in alerts:
        at, end = kinds.index(row["kind"]) + 0.18, row.get("until") or until
        axes.hlines(at, *_span(row["since"], end), VERMILLION, linewidth=7, alpha=0.35)
        axes.hlines(at, *_span(row.get("raised") or row["since"], end), VERMILLION, linewidth=7)
    handles = [*([("what was wrong", GREY, 0.6)] if faults else []), ("before the alarm", VERMILLION, 0.35)]
    for text, colour, strength in [*handles, ("alarm", VERMILLION, 1)]:
        axes.plot([], [], color=colour, alpha=strength, linewidth=7, label=text)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _titled(figure, axes, title)


def plot_traffic(traffic: pd.DataFrame, *, title: str) -> "Figure":
    """Rows of each day, and below the share of them that was decided positively; `traffic` as in the state."""
    figure, axes = _figure(3.6, rows=2)
    days = pd.to_datetime(traffic["day"])
    axes[0].bar(days, traffic["rows"], color=GREY, width=0.8)
    axes[0].set_ylabel("rows a day")
    axes[1].plot(days, 100 * traffic["positive_rate"], color=BLUE)
    axes[1].set_ylim(0, 100)
    axes[1].set_ylabel("positive (% of rows)")
    axes[1].spines[["top", "right"]].set_visible(False)
    return _titled(figure, axes[0], title)


_LINES = tuple(  # of Okabe and Ito, without yellow, which is faint on white; markers tell them apart without colour
    zip(("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY), "os^Dv*PX", strict=True)
)


def _figure(height: float, *, rows: int = 1) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, height), layout="constrained")
    return figure, figure.subplots(rows, sharex=True)


def _titled(figure: "Figure", axes: Any, title: str) -> "Figure":
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    below = figure.axes[-1].xaxis
    below.set_major_locator(AutoDateLocator(maxticks=7))
    below.set_major_formatter(ConciseDateFormatter(below.get_major_locator()))
    return figure


def _span(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Two moments on one axis, whether or not they say that they are in UTC."""
    return tuple(pd.to_datetime(moment, utc=True).tz_localize(None) for moment in (start, end))


# How it looks ---------------------------------------------------------------------------------------------------------

SCRIPT = """
const seconds = Number(document.body.dataset.refresh), patience = Number(document.body.dataset.stale);
const notice = document.getElementById("notice");
let answered = Date.now(), moved = Date.now();
const clock = moment => new Date(moment).toLocaleTimeString();
function tell(words) { notice.textContent = words; notice.hidden = !words; }
function take(next) {
  document.title = next.title;
  for (const part of next.querySelectorAll("[data-part]")) {
    const here = document.getElementById(part.id);
    const open = [...here.querySelectorAll("details[open]")].map(one => one.id);
    part.querySelectorAll("details").forEach(one => { one.open = open.includes(one.id); });
    if (part.id === "head" && here.innerHTML !== part.innerHTML) moved = Date.now();
    for (const name of ["className", "hidden", "innerHTML"]) if (here[name] !== part[name]) here[name] = part[name];
  }
}
async function look() {
  try {
    const reply = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(1000 * seconds)});
    if (!reply.ok) throw new Error("status " + reply.status);
    take(new DOMParser().parseFromString(await reply.text(), "text/html"));
    answered = Date.now();
    tell(answered - moved > 1000 * patience ? "▲ Stale: nothing new since " + clock(moved) + "." : "");
  } catch (error) {
    tell("▲ No answer since " + clock(answered) + " (" + error.message + "). What you see was known then.");
  }
}
if (location.protocol.startsWith("http")) setInterval(look, 1000 * seconds);
"""
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, "Segoe UI", Roboto, sans-serif;
  --ink: #16202b; --soft: #5a6672; --line: #dfe4e9; --page: #f4f6f8; --card: #fff; --blue: #0072b2; --band: #0072b233;
  --bar: #8fa3b5; --dot: #d55e00; --bad: #b84a00; --good: #00714f;
  --stable: #c5d0da; --watch: #8fa3b5; --shifted: #4b6377 }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8edf2; --soft: #9aa8b5; --line: #2a343f; --page: #0f151b; --card: #171f27; --blue: #56b4e9;
  --band: #56b4e933; --bar: #5d7183; --dot: #f08a3c; --good: #2fbd8f;
  --stable: #37454f; --watch: #5d7183; --shifted: #a9bccb } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); padding: .8rem 1.1rem 1.4rem }
h1, h2, h3, p, dl, dd { margin: 0 }
h1 { font-size: 1.15rem }
h2 { font-size: 1rem }
h3 { font-size: .85rem; font-weight: 600; color: var(--soft) }
header { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; align-items: baseline; margin: 0 .2rem .6rem }
main { display: grid; gap: .7rem; grid-template-columns: minmax(0, 1fr) }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem }
section > h2 + p { color: var(--soft); font-size: .85rem; margin-bottom: .5rem }
[hidden] { display: none !important }
.soft, .over, .empty, header p { color: var(--soft) }
.empty { padding: 1.2rem 0 }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
#notice, .stale { background: var(--ink); color: var(--card); border-radius: .5rem; padding: .6rem 1rem;
  margin-bottom: .7rem; font-size: 1.2rem; font-weight: 600 }
#status { display: grid; grid-template-columns: auto minmax(0, 1fr); padding: 0; overflow: hidden }
#status > div { padding: .8rem 1.5rem; display: flex; flex-direction: column; justify-content: center; gap: .35rem }
.verdict { font-size: 1.1rem }
.verdict strong { font-size: clamp(2.6rem, 5.2vw, 6rem); line-height: 1; letter-spacing: -.02em }
.alarm .verdict { background: var(--bad); color: #fff }
.quiet .verdict strong { color: var(--good) }
.what { font-size: clamp(1.4rem, 2.1vw, 2.5rem); font-weight: 700; line-height: 1.15 }
.do { font-size: clamp(1rem, 1.15vw, 1.35rem); max-width: 62rem }
#next ol { list-style: none; margin: .4rem 0 0; padding: 0 }
#next li { padding: .45rem 0; border-top: 1px solid var(--line) }
#next li:first-child { border: 0 }
#next b { display: block; font-size: 1.1rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem 1.2rem;
  font-size: .85rem; color: var(--soft) }
dd b { display: block; font-size: 1.6rem; line-height: 1.15; color: var(--ink); font-variant-numeric: tabular-nums }
.chart { position: relative; margin: .4rem 0 .9rem 3.4rem; height: var(--tall, 6rem); font-size: .75rem;
  color: var(--soft) }
.chart.dated { margin-bottom: 1.7rem }
.chart svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible }
.chart span { position: absolute; white-space: nowrap }
.chart .height { right: 100%; transform: translateY(-50%); padding-right: .5rem }
.chart .date { top: 100%; transform: translateX(-50%); padding-top: .3rem }
.chart .date.first { transform: none }
.chart .date.last { transform: translateX(-100%) }
path { vector-effect: non-scaling-stroke }
.grid { stroke: var(--line) }
.bar { fill: var(--bar) }
.bar.other { fill: var(--blue) }
.bar.few { fill: none; stroke: var(--bar); stroke-width: 1.5; stroke-dasharray: 3 2 }
.line { fill: none; stroke: var(--blue); stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round }
.band { fill: var(--band) }
.dot { stroke: var(--dot); stroke-width: 9; stroke-linecap: round }
.dot.hollow { stroke: var(--card); stroke-width: 5 }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .8rem; color: var(--soft); margin-bottom: .4rem }
.key svg { width: 1.6rem; height: .8rem; vertical-align: -.1rem; margin-right: .35rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { text-align: right; padding: .24rem 0 .24rem .8rem; border-top: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { padding-left: 0 }
thead th { color: var(--soft); font-weight: 600; font-size: .8rem; border: 0 }
tbody th { font-weight: 500; white-space: normal }
#weeks th, #days th { white-space: nowrap }
.bad th { font-weight: 700 }
tbody th, .text { text-align: left }
td.wide { min-width: 14rem; white-space: normal }
.mark { color: #fff; background: var(--bad); border-radius: .25rem; padding: .05rem .4rem; font-size: .78rem;
  font-weight: 700; white-space: nowrap }
.gauge { position: relative; display: block; height: .6rem; min-width: 4.5rem; background: var(--page) }
.gauge i { position: absolute; inset: 0 auto 0 0 }
.gauge u { position: absolute; top: -.15rem; bottom: -.15rem; width: 1px; background: var(--ink) }
.strip { display: block; width: 100%; min-width: 5.5rem; height: 1.05rem }
.stable { fill: var(--stable); background: var(--stable) }
.watch { fill: var(--watch); background: var(--watch) }
.shifted { fill: var(--shifted); background: var(--shifted) }
.bad .strip *, .gauge .alarm { fill: var(--dot); background: var(--dot) }
details { margin-top: .5rem }
details p { margin-top: .5rem; max-width: 60rem; font-size: .9rem }
summary { cursor: pointer; color: var(--soft); font-size: .85rem }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px }
@media (max-width: 700px) {
  body { padding: .6rem }
  section, #status > div { padding: .7rem .8rem }
  #status { grid-template-columns: minmax(0, 1fr) }
  .thin { display: none } }
@media (min-width: 800px) { main { grid-template-columns: repeat(2, minmax(0, 1fr)) } .full { grid-column: 1 / -1 } }
@media (min-width: 1500px) {
  main { grid-template-columns: repeat(12, minmax(0, 1fr)) }
  #status.more, #alerts { grid-column: span 8 }
  #next, #performance, #slices { grid-column: span 4 }
  #drift { grid-column: span 5 }
  #traffic { grid-column: span 3; --tall: 9.3rem } }
"""
PAGE = """
{% macro chart(title, c) %}
<h3>{{ title }}</h3>
<div class="chart{{ ' dated' if c.dates }}" role="img" aria-label="{{ c.label }}">
<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
{% for at, _ in c.heights %}
<path class="grid" d="M0 {{ at }}H100"/>
{% endfor %}
{% for kind, path, told in c.shapes if path %}
<path class="{{ kind }}" d="{{ path }}">{% if told %}<title>{{ told }}</title>{% endif %}</path>
{% endfor %}
</svg>
{% for at, text in c.heights %}
<span class="height" style="top:{{ at }}%">{{ text }}</span>
{% endfor %}
{% for at, text in c.dates %}
<span class="date{{ ' first' if at < 4 else ' last' if at > 96 }}" style="left:{{ at }}%">{{ text }}</span>
{% endfor %}
</div>
{% endmacro %}
{% macro key(text) %}
<span><svg viewBox="0 0 26 12" aria-hidden="true">{{ caller() }}</svg>{{ text }}</span>
{% endmacro %}
{% macro table(label, head) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}"><table>
<caption class="hidden">{{ label }}</caption>
<thead><tr>
{% for text, kind in head if text %}
<th scope="col" class="{{ kind }}">{{ text }}</th>
{% endfor %}
</tr></thead>
<tbody>
{{ caller() }}
</tbody>
</table></div>
{% endmacro %}
{% macro fact(name, value) %}
<div><dt>{{ name }}</dt><dd><b>{{ value }}</b>{{ caller() | trim }}</dd></div>
{% endmacro %}
{% macro features(label, rows) %}
{% call table(label, [("Feature", "text"), ("%s to %s" | format(*drift.ends), "text thin"), ("PSI", ""),
  (drift.past, "text thin"), ("missing", ""), ("unseen", "")]) %}
{% for row in rows %}
<tr{% if row.alarm %} class="bad"{% endif %}>
<th scope="row">{{ row.feature }} {% if row.alarm %}<span class="mark">▲ alarm</span>{% endif %}</th>
<td class="thin"><span class="gauge"><i class="{{ row.level }}" style="width:{{ row.bar }}%"></i>
{% for at, _ in drift.marks %}
<u style="left:{{ at }}%"></u>
{% endfor %}
</span></td>
<td>{{ row.psi | number(2) }}</td>
{% if drift.past %}
<td class="thin"><svg class="strip" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
{% for level, path in row.strip %}
<path class="{{ level }}" d="{{ path }}"/>
{% endfor %}
</svg></td>
{% endif %}
<td>{{ row.missing | percent }}</td><td>{{ row.unseen | percent }}</td></tr>
{% endfor %}
{% endcall %}
{% endmacro %}
{% macro slices_(label, rows) %}
{% call table(label, [("Slice", "text"), ("rows", ""), ("log loss", ""), ("ROC AUC", "thin"), ("cost", "text thin"),
  (unit, "")]) %}
{% for row in rows %}
<tr{% if row.few %} class="over"{% endif %}>
<th scope="row"><span class="soft">{{ row.slice }}</span> {{ row.value }}</th>
<td>{{ row.rows | number }}</td><td>{{ row.log_loss | number(3) }}</td>
<td class="thin">{{ row.roc_auc | number(2) }}</td>
<td class="thin"><span class="gauge"><i class="watch" style="width:{{ row.bar }}%"></i></span></td>
<td>{{ row.cost | number(2) }}</td></tr>
{% endfor %}
{% endcall %}
{% endmacro %}
{% macro alerts_(label, rows) %}
{% call table(label, [("State", "text"), ("What", "text"), ("Seen", "text thin"), ("value", "thin"), ("usual", "thin"),
  ("bar", "thin"), ("since", ""), ("until", "thin"), (currency ~ " a week", "")]) %}
{% for alert in rows %}
<tr class="{{ 'bad' if alert.open else 'over' }}">
<td class="text">{% if alert.open %}<span class="mark">▲ open</span>{% else %}over{% endif %}</td>
<th scope="row">{{ alert.name }}</th><td class="text wide thin">{{ alert.text }}</td>
<td class="thin">{{ alert.value | short }}</td><td class="thin">{{ alert.usual | short }}</td>
<td class="thin">{{ alert.threshold | short }}</td>
<td>{{ alert.since | day }}</td><td class="thin">{{ alert.until | day }}</td><td>{{ alert.cost | number }}</td></tr>
{% endfor %}
{% endcall %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:;
 script-src 'sha256-{{ digest }}'; connect-src 'self'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ "(%d) " | format(open | length) if open }}{{ title }}</title>
<style>{{ style | safe }}</style>
{% if refresh_seconds %}
<noscript><meta http-equiv="refresh" content="{{ refresh_seconds }}"></noscript>
{% endif %}
</head>
<body data-refresh="{{ refresh_seconds or '' }}" data-stale="{{ stale_seconds }}">
<header id="head" data-part>
<h1>{{ title }}</h1>
<p>as of <time>{{ now }}</time></p>
</header>
<div id="notice" role="alert" hidden></div>
<div id="age" data-part>
{% if age %}
<p class="stale" role="alert">▲ Stale: nothing new for {{ age }}. What you see is of {{ now }}.</p>
{% endif %}
</div>
<main>
<section id="status" data-part role="status" aria-label="At a glance"
 class="full {{ 'alarm' if open else 'quiet' if days else 'waiting' }}{{ ' more' if open | length > 1 }}">
{% if open %}
<div class="verdict"><strong>▲ {{ open | length }}</strong>
{{ "alert is" if open | length == 1 else "alerts are" }} open</div>
<div>
<p class="what">{{ open[0].name }}</p>
<p class="soft">{{ open[0].text }}{{ ", " if open[0].text }}open for {{ open[0].days }}: <b>{{ open[0].money }}.</b></p>
{% if open[0].first_step %}
<p class="do"><b>First:</b> {{ open[0].first_step }}</p>
{% endif %}
</div>
{% elif days %}
<div class="verdict"><strong>✓ All quiet</strong>No alert is open.</div>
<div><p class="do">
{% if over %}
The last alert was over on {{ over.until | day }}: {{ over.name }}.
{% else %}
There has been no alert so far.
{% endif %}
{% if drift.drifted %}
{{ drift.drifted }} of {{ drift.features | length }} features {{ "has" if drift.drifted == 1 else "have" }} moved away
from {{ drift.reference }}, too slowly for an alarm.
{% endif %}
</p></div>
{% else %}
<div class="verdict"><strong>Waiting</strong>No traffic yet.</div>
<div><p class="do">The first predictions appear here as soon as somebody asks for them.</p></div>
{% endif %}
</section>
<section id="next" data-part class="full"{% if open | length < 2 %} hidden{% endif %}>
<h2>Then</h2>
<ol>
{% for alert in open[1:4] %}
<li><b>{{ alert.name }}</b> <span class="soft">since {{ alert.since | day }}, {{ alert.money }}</span></li>
{% endfor %}
{% if open | length > 4 %}
<li class="soft">and {{ open | length - 4 }} more, below</li>
{% endif %}
</ol>
</section>
<section id="facts" data-part class="full" aria-label="Facts">
<dl>
{% call fact("Champion", "none" if champion.version | unknown else "version %s" | format(champion.version)) %}
{% if champion.since %}since {{ champion.since | day }}{{ ", " if champion.trained_on }}{% endif %}
{% if champion.trained_on %}trained on {{ champion.trained_on }}{% endif %}
{% endcall %}
{% call fact("On trial", "version %s" | format(trial.version) if trial else "nothing") %}
{% if trial %}
{{ trial.mode }}{{ " with %s of rows" | format(trial.share | percent) if trial.mode == "canary" }}
{{- ": " if trial.note }}{{ trial.note }}
{% endif %}
{% endcall %}
{% set last = days[-1] if days else {} %}
{% set before = days[-8] if days | length > 7 and not partial else none %}
{% call fact("Rows%s%s" | format(" on " ~ last.day | day if days else "", ", so far" if partial), last.rows | number) %}
{% if before %}{{ before.rows | number }} a week before{% endif %}
{% endcall %}
{% call fact("Decided positive", last.positive_rate | percent) %}
{% if before %}{{ before.positive_rate | percent }} a week before{% endif %}
{% endcall %}
{% call fact("Latency, 95 % below", last.latency_p95_ms | number(1, " ms")) %}{% endcall %}
{% call fact("Log loss by labels", latest.log_loss | number(3)) %}
{{ "from %s on, %s labelled" | format(latest.start | day, latest.labelled | percent) if latest else "no labels yet" }}
{% endcall %}
{% set week = weeks[-1] if weeks else {} %}
{% call fact("Log loss, estimated", week.estimated_log_loss | number(3)) %}
{% if not week.estimated_log_loss_low | unknown %}
from {{ week.start | day }} on, {{ week.estimated_log_loss_low | number(3) }} to
{{ week.estimated_log_loss_high | number(3) }}
{% endif %}
{% endcall %}
</dl>
</section>
<section id="performance" data-part>
<h2>How good the answers are</h2>
{% if weeks %}
<p>By week. The estimate needs no labels; they tell later.</p>
<p class="key">
{% call key("estimated, with its interval") %}
<path class="band" d="M0 0H26V12H0Z"/><path class="line" d="M0 6H26"/>
{% endcall %}
{% call key("by labels") %}<path class="dot" d="M13 6h0"/>{% endcall %}
{% call key("by few labels") %}<path class="dot" d="M13 6h0"/><path class="dot hollow" d="M13 6h0"/>{% endcall %}
</p>
{% for title, c in performance %}
<div{% if loop.last %} style="--tall:3rem"{% endif %}>{{ chart(title, c) }}</div>
{% endfor %}
<details id="weeks"><summary>The numbers, by week</summary>
{% call table("Performance by week; log loss in nats, cost in %s" | format(unit), [("from", "text"), ("rows", ""),
  ("labelled", ""), ("log loss", ""), ("estimated", ""), ("cost", ""), ("estimated", "")]) %}
{% for week in weeks | reverse %}
<tr><th scope="row">{{ week.start | day }}</th><td>{{ week.rows | number }}</td><td>{{ week.labelled | percent }}</td>
{% for name, digits in (("log_loss", 3), ("cost", 2)) %}
<td>{{ week[name] | number(digits) }}</td><td>{{ week["estimated_" ~ name] | number(digits) }}
({{ week["estimated_" ~ name ~ "_low"] | number(digits) }} to
{{ week["estimated_" ~ name ~ "_high"] | number(digits) }})</td>
{% endfor %}
</tr>
{% endfor %}
{% endcall %}
</details>
{% else %}
<p class="empty">Nothing to judge yet. The first estimate comes with the first whole week.</p>
{% endif %}
</section>
<section id="drift" data-part>
<h2>What has moved</h2>
{% if drift.features %}
<p>{{ "The last %s days against" | format(drift.days) if drift.days else "Against" }} {{ drift.reference }}. Bars are
logarithmic, with marks at {{ drift.marks[0][1] }} (watch) and {{ drift.marks[1][1] }} (shifted). Unseen: outside
the range or the categories there.</p>
{{ features("Drift by feature, alarms first, then the most drifted", drift.features[:drift.shown]) }}
{% if drift.features | length > drift.shown %}
<details id="features"><summary>{{ drift.features | length - drift.shown }} more,
none over PSI {{ drift.features[drift.shown].psi | number(2) }}</summary>
{{ features("Drift of the other features", drift.features[drift.shown:]) }}
</details>
{% endif %}
<details id="measures"><summary>All measures of all features</summary>
{% call table("All measures of drift", drift.head) %}
{% for row in drift.features %}
<tr><th scope="row">{{ row.feature }}</th>
{% for name in measures %}
<td>{{ row[name] | percent(1) if name in shares else row[name] | number(3) }}</td>
{% endfor %}
</tr>
{% endfor %}
{% endcall %}
</details>
{% else %}
<p class="empty">No whole day has been seen yet.</p>
{% endif %}
</section>
<section id="traffic" data-part>
<h2>Traffic</h2>
{% if days %}
<p>The last {{ days | length }} days{{ ", today so far" if partial }}.
{{- " In blue: other versions." if versions }}</p>
{% for title, c in traffic %}
{{ chart(title, c) }}
{% endfor %}
<details id="days"><summary>The numbers, by day</summary>
{% call table("Traffic by day", [("day", "text"), ("rows", ""), ("positive", ""), ("p95, ms", ""),
  ("by version" if versions, "")]) %}
{% for day in days | reverse %}
<tr><th scope="row">{{ day.day | day }}</th><td>{{ day.rows | number }}</td>
<td>{{ day.positive_rate | percent(1) }}</td><td>{{ day.latency_p95_ms | number(1) }}</td>
{% if versions %}
<td>
{% for version, rows in (day.versions or {}).items() %}
{{ version }}: {{ rows | number }}{{ "," if not loop.last }}
{% endfor %}
</td>
{% endif %}
</tr>
{% endfor %}
{% endcall %}
</details>
{% else %}
<p class="empty">No traffic yet.</p>
{% endif %}
</section>
<section id="slices" data-part>
<h2>By slice</h2>
{% if slices %}
<p>By the labels that have come, the dearest first.</p>
{{ slices_("Performance by slice", slices[:shown_slices]) }}
{% if slices | length > shown_slices %}
<details id="others"><summary>{{ slices | length - shown_slices }} more</summary>
{{ slices_("Performance of the other slices, those with few labels last", slices[shown_slices:]) }}
</details>
{% endif %}
{% else %}
<p class="empty">No labels yet, so no slice can be judged.</p>
{% endif %}
</section>
<section id="alerts" data-part class="full">
<h2>Alerts</h2>
{% if alerts %}
{{ alerts_("Alerts, open ones first; with what a week of it could cost", alerts[:shown_alerts]) }}
{% if alerts | length > shown_alerts %}
<details id="past"><summary>{{ alerts | length - shown_alerts }} older</summary>
{{ alerts_("Older alerts", alerts[shown_alerts:]) }}
</details>
{% endif %}
<details id="steps"><summary>What to do first</summary>
{% for alert in alerts %}
<p><b>{{ alert.name }}</b> since {{ alert.since | day }}
{{- ", over on %s" | format(alert.until | day) if not alert.open }}
{{- ": " if alert.text }}{{ alert.text }}.
{{ alert.first_step }}</p>
{% endfor %}
</details>
{% else %}
<p class="empty">No alert so far.</p>
{% endif %}
</section>
</main>
{% if refresh_seconds %}
<script>{{ script | safe }}</script>
{% endif %}
</body>
</html>
"""


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=lambda value: "" if value is None else value
    )
    environment.filters |= {"day": _day, "number": _number, "percent": _percent, "short": _short, "unknown": _unknown}
    return environment.from_string(PAGE.lstrip())
