"""What a monitor knows, for the live page and for a report; `monitor` is a `Monitor`, whose file imports this one."""

import json
from dataclasses import asdict
from typing import Any

import pandas as pd

from mlops_course.operations.monitoring import alerting, performance
from mlops_course.operations.registry import champion_steps
from mlops_course.system import report

SHOWN_DAYS = 60  # of traffic in the state
COLUMNS = ("raised", "until", "kind", "subject", "slice", "text", "first_step", "cost")  # of alerts in the report
MEASURES = ("psi", "psi_season", "js", "ks", "wasserstein_scaled", "missing", "missing_rise", "out_of_range", "unknown")


def state(monitor: Any, now: pd.Timestamp) -> dict[str, Any]:
    """All that is known at a moment, in plain values that survive JSON."""
    specification, registry = monitor.specification, monitor.system.registry
    drift, alerts = monitor.drift(now), monitor.alerts(now)
    alarmed = {alert.subject for alert in alerts if alert.until is None}
    trial, released = registry.trial(), champion_steps(registry.history())["when"]
    return _plain(
        {
            "title": specification.name,
            "now": now,
            "unit": specification.costs.unit,
            "champion": {"version": registry.champion(), "since": released.iloc[-1] if len(released) else None},
            "trial": trial and {"version": trial.version, "mode": trial.mode, "share": trial.share},
            "traffic": _traffic(monitor.observed.until(now)),
            "drift": {
                "reference": "the training sample of the champion",
                "days": specification.monitoring.window_days,
                "warning": specification.monitoring.psi_warning,
                "alert": specification.monitoring.psi_alert,
                "features": drift.assign(alarm=drift.index.isin(alarmed)).reset_index() if len(drift) else [],
            },
            "performance": monitor.performance(now).rename_axis("start").reset_index(),
            "contradictions": monitor.observed.contradictions,
            "slices": monitor.slices(now),
            "alerts": [_row(alert) for alert in reversed(alerts)],
        }
    )


def _traffic(rows: pd.DataFrame) -> Any:
    """Rows, share of yes and latency of each of the last days."""
    if rows.empty:
        return []
    days = rows.groupby(rows["time"].dt.floor("D").rename("day"))
    latency = days["latency_ms"].quantile(0.95)
    table = pd.DataFrame({"rows": days.size(), "positive_rate": days["decision"].mean(), "latency_p95_ms": latency})
    return table.tail(SHOWN_DAYS).reset_index()


def _row(alert: alerting.Alert) -> dict[str, Any]:
    days = {name: getattr(alert, name) for name in ("since", "until", "raised")}
    plain = {name: value for name, value in asdict(alert).items() if name != "series"}
    return plain | {name: day and f"{day:%Y-%m-%d}" for name, day in days.items()}


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: tables as lists of rows, moments as text, what is not a number as None."""

    def convert(one: Any) -> Any:
        if isinstance(one, pd.DataFrame):
            return one.to_dict("records")
        return one.isoformat() if isinstance(one, pd.Timestamp) else one.item()

    return json.loads(json.dumps(value, default=convert), parse_constant=lambda constant: None)


def report_page(monitor: Any, now: pd.Timestamp) -> str:
    """The HTML of a page that tells of the days up to a moment."""
    slices = {"Slices": monitor.slices(now).round(3)}
    return report.render(
        f"{monitor.specification.name}: the days up to {now:%Y-%m-%d}",
        [
            _alerts(monitor, now),
            _performance(monitor, now),
            report.Section("By slice", "The last four weeks, by the labels that have come.", tables=slices),
            _drift(monitor, now),
        ],
        lead=f"{len(monitor.observed.until(now)):,} rows answered.",
    )


def _alerts(monitor: Any, now: pd.Timestamp) -> report.Section:
    alerts, specification = monitor.alerts(now), monitor.specification
    table = pd.DataFrame([_row(alert) for alert in reversed(alerts)], columns=[*COLUMNS])
    return report.Section(
        "Alerts",
        f"{len(alerts)} raised so far, {sum(alert.until is None for alert in alerts)} of them open. When nothing is "
        f"wrong, the bars allow {specification.monitoring.max_false_alarms_per_year} a year. Cost is what a week "
        f"could cost at most, in {specification.costs.unit.split(' ')[0]}.",
        tables={"Newest first": table} if len(table) else {},
    )


def _performance(monitor: Any, now: pd.Timestamp) -> report.Section:
    title, weeks = "How good the answers are", monitor.performance(now)
    if weeks.empty:
        return report.Section(title)
    loss, cost = (performance.coverage(weeks, name) for name in ("log_loss", "cost"))
    text = f"What came lay within its interval in {loss:.0%} of weeks for loss and {cost:.0%} for cost."
    figures = {
        f"{what} by week": performance.plot(weeks, name, title=f"{what}, estimated and realised", unit=unit)
        for what, name, unit in (("Log loss", "log_loss", ""), ("Cost", "cost", monitor.specification.costs.unit))
    }
    return report.Section(title, text, figures=figures)


def _drift(monitor: Any, now: pd.Timestamp) -> report.Section:
    drift, season, tables = monitor.drift(now), monitor.drift(now, season=True), {}
    if len(drift):
        drift = drift.assign(psi_season=season["psi"]) if len(season) else drift
        drift = drift[[name for name in MEASURES if name in drift]].sort_values("psi", ascending=False)
        tables = {"Inputs and prediction, the most drifted first": drift.round(3).reset_index()}
    return report.Section(
        "Drift",
        "The last days against the training sample; psi_season against the four weeks before them. By the first, a "
        "season is drift; by the second it is quiet, and so it is no alarm.",
        tables=tables,
    )
