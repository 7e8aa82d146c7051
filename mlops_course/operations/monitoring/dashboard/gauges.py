"""The state of a monitor as gauges with labels, for Prometheus."""

from collections.abc import Sequence
from typing import Any

from .charts import State, _latest, _moment


def export(state: State) -> list[tuple[str, str, dict[str, str], float]]:
    """Return the state as gauges: name, help text, labels and value of each; unknown values are left out.

    Gauges of one name have the same labels. An old monitor_time_seconds means that the monitor has stopped;
    monitor_performance is of the last window with that value. Raises KeyError if the state has no now.
    """
    days, weeks, alerts = (state.get(name) or [] for name in ("traffic", "performance", "alerts"))
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
        values = {"realised": (_latest(weeks, measure) or {}).get(measure)}
        values |= {f"estimated{end}": _last(weeks, f"estimated_{measure}{end}") for end in ("", "_low", "_high")}
        for kind, value in values.items():
            labels = {"measure": measure, "kind": kind}
            found.append(("monitor_performance", "How good the answers are", labels, value))
    found.append(("monitor_labelled", "Share of the last window with a label", {}, _last(weeks, "labelled")))
    return [(name, text, labels, float(value)) for name, text, labels, value in found if value is not None]


def _last(weeks: Sequence[State], name: str) -> Any:
    return next((week[name] for week in reversed(weeks) if week.get(name) is not None), None)
