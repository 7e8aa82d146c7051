"""The report of an incident, from what is on record."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

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
    rows = _between(log.predictions(since=start, inputs=False), begin, until)
    labelled = _between(log.labelled(since=start, inputs=False), begin, until)
    events = _timeline(system, alerts, begin, until)
    chain, trail = system.registry.verify_history(), AuditTrail(system).defect()
    sound = [
        f"Chain of releases: {chain.defect or 'intact'}, head `{chain.head}`.",
        f"Audit trail: {trail or 'intact'}.",
    ]
    parts = [
        f"# Incident: {system.specification.name}, {begin:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC",
        "Written from the records; people, not records, answer what stands in italics. A review looks for what let it "
        "happen, not for who.",
        "## Summary",
        "*What happened, in two sentences?*",
        "## Impact",
        _bullets(_impact(system, rows, labelled)),
        "## Versions involved",
        _bullets(_involved(system, rows)),
        "## Timeline (UTC)",
        _markdown(events) if len(events) else "Nothing is on record in this time.",
        "## Detection",
        _bullets(_detection(alerts, begin)),
        "## What the records are worth",
        _bullets(sound),
        "## Root cause",
        "*What was the first thing that went wrong? What let it through?*",
        "## What went well",
        "*Which check, alert or habit made it shorter or smaller?*",
        "## What went badly",
        "*What was seen late, or not at all? Which step had to be made up on the spot?*",
        "## Where we were lucky",
        "*What would have made it worse?*",
        "## Actions",
        "| action | kind (prevent, detect, mitigate) | owner | due |\n|---|---|---|---|\n| *?* | *?* | *?* | *?* |",
    ]
    return "\n\n".join(parts) + "\n"


def _between(rows: pd.DataFrame, begin: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    return rows[(rows["time"] >= begin) & (rows["time"] < until)]


def _impact(system: System, rows: pd.DataFrame, labelled: pd.DataFrame) -> list[str]:
    unit = system.specification.costs.unit
    if rows.empty:
        return ["No prediction is on record in this time."]
    failed = int((rows["assigned_version"] != rows["model_version"]).sum())
    lines = [
        f"{len(rows):,} predictions were answered, {int(rows['decision'].sum()):,} of them with yes.",
        f"{failed:,} were answered by another version than the one they were assigned to.",
        f"{len(labelled):,} of them have a label by now ({len(labelled) / len(rows):.1%}).",
    ]
    if len(labelled):
        costs = error_costs(labelled, system.specification)
        wrong = int((labelled["decision"].astype(bool) != (labelled["label"] == 1)).sum())
        cost = f"{costs.sum():,.0f} in all, {costs.mean():.2f} {unit} on average"
        lines.append(f"{wrong:,} labelled decisions were wrong; they cost {cost}.")
    return [*lines, "*Who was affected, and how do they know?*"]


def _involved(system: System, rows: pd.DataFrame) -> list[str]:
    versions = system.registry.versions().set_index("version")
    lines = []
    for number, count in rows["model_version"].value_counts().sort_index().items():
        facts = "not in the registry any more"
        if number in versions.index:
            row = versions.loc[number]
            facts = f"data {row['data_version']}, code {row['code_version'][:12]}, gate {row['gate']}"
        lines.append(f"Version {number}: {count:,} predictions; {facts}.")
    return lines or ["None answered."]


def _timeline(
    system: System, alerts: Sequence[Mapping[str, Any]], begin: pd.Timestamp, until: pd.Timestamp
) -> pd.DataFrame:
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
    table = pd.DataFrame(lines, columns=["when", "what", "on record"])
    table = table[(table["when"] >= begin) & (table["when"] < until)].sort_values("when", kind="stable")
    return table.assign(when=table["when"].map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}"))


def _moment(text: str) -> pd.Timestamp:
    return pd.to_datetime(text, utc=True)


def _detection(alerts: Sequence[Mapping[str, Any]], begin: pd.Timestamp) -> list[str]:
    if not alerts:
        return ["No alert was handed to this report. *Who or what noticed, and when?*"]
    first = min(alerts, key=lambda alert: _moment(alert["since"]))
    delay = _moment(first["since"]) - begin
    return [
        f"First alert {delay} after the start: {first['kind']}, {first['subject']}.",
        f"First step it named: {first['first_step']}.",
        "*Was it acted upon, and how long after?*",
    ]


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
