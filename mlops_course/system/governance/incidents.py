"""The report of an incident, from what is on record: the page is `incident.md.j2`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System

from .audit import AuditTrail


def incident_report(
    system: System, log: PredictionLog, *, start: datetime, end: datetime, alerts: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Write the report for a blameless review in Markdown: the records from `start` to `end`, and open questions.

    `alerts` are those of `Monitor.state`. What is not on record becomes a question. The headings are those of Beyer et
    al. 2016, Site Reliability Engineering, chapter 15 and appendix D.

    Raises ValueError if the times have no zone or are out of order.
    """
    if start.tzinfo is None or end.tzinfo is None or not start < end:
        raise ValueError(f"expected two moments with their zones, the start before the end, got {start} and {end}")
    begin, until = pd.Timestamp(start).tz_convert("UTC"), pd.Timestamp(end).tz_convert("UTC")
    rows, labelled = log.predictions(since=start, inputs=False), log.labelled(since=start, inputs=False)
    rows, labelled = (table[(table["time"] >= begin) & (table["time"] < until)] for table in (rows, labelled))
    first = min(alerts, key=lambda alert: _moment(alert["since"]), default=None)
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = "{:,.0f}".format
    template = environment.from_string(Path(__file__).with_name("incident.md.j2").read_text(encoding="utf-8"))
    return template.render(
        name=system.specification.name,
        unit=system.specification.costs.unit,
        begin=begin,
        until=until,
        answered=len(rows),
        yes=rows["decision"].sum(),
        elsewhere=(rows["assigned_version"] != rows["model_version"]).sum(),
        labelled=len(labelled),
        wrong=(labelled["decision"].astype(bool) != (labelled["label"] == 1)).sum(),
        costs=error_costs(labelled, system.specification),
        counts=rows["model_version"].value_counts().sort_index(),
        versions=system.registry.versions().set_index("version").to_dict("index"),
        timeline=[line for line in _timeline(system, alerts) if begin <= line[0] < until],
        first=first,
        delay=first and _moment(first["since"]) - begin,
        chain=system.verify_history(),
        trail=AuditTrail(system).defect(),
    )


def _timeline(system: System, alerts: Sequence[Mapping[str, Any]]) -> list[tuple[pd.Timestamp, str, str]]:
    """Return what is on record, in order: when, what, and in which words."""
    lines = []
    for number, step in system.registry.history().iterrows():
        effect = "" if step["in_effect"] else " (overtaken, without effect)"
        share = f" at share {step['share']:g}" if step["share"] == step["share"] else ""
        text = f"version {step['version']} {step['event']}{share} by {step['approver']}: {step['reason']}{effect}"
        lines.append((step["when"], f"release {number}", text))
    for alert in alerts:
        lines.append((_moment(alert["since"]), "alert raised", alert["text"]))
        if alert["until"]:
            lines.append((_moment(alert["until"]), "alert cleared", alert["text"]))
    for record in AuditTrail(system).records():
        text = f"{record['event']} by {record['approver']}: {record['reason']}"
        lines.append((_moment(record["when"]), f"audit {record['number']}", text))
    return sorted(lines, key=lambda line: line[0])


def _moment(text: str) -> pd.Timestamp:
    return pd.to_datetime(text, utc=True)
