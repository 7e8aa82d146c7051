"""What the model may see: from the batches as they came to the rows that teach and the rows that judge."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pandas as pd

from mlops_course.development import data, features, validation
from mlops_course.operations import retraining
from mlops_course.system.pipeline.dependencies import CASE, DATA_FILES, depends_on
from mlops_course.system.workspace import Workspace


@depends_on(data, validation, CASE, DATA_FILES)
def raw_tables(batches: list[str], case: ModuleType, workspace: Workspace) -> str:
    """Keep the batches as they came, if each is sound by itself: a bad one would hide among good ones.

    Raises InvalidBatch with what is wrong with each bad one; nothing is kept then.
    """
    stopped, unread = [], {}
    for batch in batches:
        try:
            tables = case.read([batch])
        except Exception as error:  # whatever it is, it comes of what was sent, and a person has to know what that was
            told = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
            unread.setdefault(told, []).append(batch)
            continue
        try:
            validation.validate(tables, case.schemas(), batch=batch).raise_if_stopped()
        except validation.InvalidBatch as error:
            stopped.append(str(error))
    stopped += [
        f"Batch {', '.join(names)} cannot be read: {told}. Nothing of it was used. Correct it and send it again."
        for told, names in unread.items()
    ]
    if stopped:
        raise validation.InvalidBatch("\n\n".join(stopped))
    try:
        return data.save_snapshot(case.read(batches), workspace.snapshots)
    except TypeError as error:  # in a column that no schema names
        told = f"Batch {', '.join(batches)} cannot be kept: {error}"
        raise validation.InvalidBatch(f"{told}. Leave that column out, or correct it and send it again.") from error


@dataclass(frozen=True, eq=False)
class Validated:
    """What validation found, and the versions of the tables that may be used and of the rows set aside."""

    findings: pd.DataFrame
    clean: str
    quarantined: str


@depends_on(validation, CASE)
def valid_tables(raw_tables: str, case: ModuleType, workspace: Workspace) -> Validated:
    """Check the batches together and set bad rows aside; the findings go to the reports folder before they can stop."""
    tables = data.load_snapshot(workspace.snapshots, raw_tables)
    report = validation.validate(tables, case.schemas())
    report.findings.to_csv(workspace.reports / f"validation-{raw_tables}.csv", index=False)
    report.raise_if_stopped()
    clean, quarantined = validation.quarantine(tables, report)
    kept = (data.save_snapshot(part, workspace.snapshots) for part in (clean, quarantined))
    return Validated(report.findings, *kept)


@depends_on(features, CASE)
def prediction_rows(valid_tables: Validated, case: ModuleType, workspace: Workspace) -> str:
    """One row for each prediction: what was known then, and what came of it."""
    rows = case.build(data.load_snapshot(workspace.snapshots, valid_tables.clean))
    return data.save_snapshot({"rows": rows}, workspace.snapshots)


@depends_on(retraining)
def usable_rows(
    prediction_rows: str,
    withheld: list[str],
    exclusions: list[dict[str, Any]],
    columns: dict[str, Any],
    workspace: Workspace,
) -> str:
    """The rows without those that were withheld on request (keyed digests of ids) and what must not be trained on."""
    if not (withheld or exclusions):
        return prediction_rows
    rows = data.load_snapshot(workspace.snapshots, prediction_rows)["rows"]
    if withheld:
        rows = rows[~rows["id"].isin(workspace.digest_key().known(rows["id"], withheld))]
    rows = retraining.apply(rows, exclusions, time=columns["prediction_time"])
    return data.save_snapshot({"rows": rows}, workspace.snapshots)


@depends_on(features)
def split_rows(usable_rows: str, columns: dict[str, Any], workspace: Workspace) -> str:
    """Tables train, calibrate and test, one later than the other, without rows whose label was not known in time.

    Raises ValueError if labels are known before the event that they are about: `lead` or `label_time` is wrong then.
    """
    rows = data.load_snapshot(workspace.snapshots, usable_rows)["rows"]
    times = {name: columns[name] for name in ("prediction_time", "label_time")}
    labelled = rows.dropna(subset=[columns["target"], columns["label_time"]])
    event = labelled[columns["prediction_time"]] + pd.Timedelta(columns["lead"])
    if early := int((labelled[columns["label_time"]] < event).sum()):
        raise ValueError(
            f"expected labels after the event, {columns['lead']} after the prediction, got {early} before it; correct "
            "`timing` in the specification, or the case's label time"
        )
    labelled = labelled.sort_values([columns["prediction_time"], "id"])
    parts = features.split_in_three(labelled, **times)
    if lacking := [part for part, rows in parts.items() if rows[columns["target"]].nunique() < 2]:
        raise ValueError(
            f"expected both answers in each part of {len(labelled):,} labelled rows, not so in {lacking}; add batches"
        )
    return data.save_snapshot(parts, workspace.snapshots)
