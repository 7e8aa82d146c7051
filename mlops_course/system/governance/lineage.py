"""Where a prediction comes from: each link from the prediction to the data, with what was checked."""

import json
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pandas as pd

from mlops_course.development import data, gate
from mlops_course.operations.deployment import batch
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import (
    CANARY,
    PROBABILITY_TOLERANCE,
    PROMOTED,
    ROLLED_BACK,
    Registered,
    RegistryError,
    champion_steps,
    trial_of,
)
from mlops_course.system.system import System

from .audit import AuditTrail
from .deletion import FITTED

VERIFIED, UNKNOWN = "verified", "unknown"  # other checks are the defect that was found, in words
ANSWERS_BY = (PROMOTED, CANARY, ROLLED_BACK)  # steps after which a version answers
TAKE_UP = pd.Timedelta(seconds=5)  # a service looks for releases each second; requests under way keep the old version


class UnknownPredictionError(LookupError):
    """No prediction has this id."""


class Lineage:
    """Where a prediction comes from: its links as they are found; an error is the defect of its link, and no more.

    `table` has one row a link and the columns link, value, check and where. A check is "verified", "unknown" with the
    reason, the defect in words, or empty if there is nothing to verify. `facts` has the same as plain values.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.table = pd.DataFrame(columns=["link", "value", "check", "where"], dtype=str)

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of links that do not hold."""
        fine = self.table["check"].isin(["", VERIFIED]) | self.table["check"].str.startswith(UNKNOWN)
        return tuple(self.table.loc[~fine, "link"])

    def _add(self, link: str, value: Any, *, check: str = "", where: str = "") -> None:
        self.facts[link.replace(" ", "_")] = value
        shown = "none" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
        self.table.loc[len(self.table)] = [link, shown, check, where]

    @contextmanager
    def _defect_of(self, link: str) -> Any:
        """Turn an error into the defect of a link."""
        try:
            yield
        except (RegistryError, ValueError, LookupError, OSError) as error:
            self._add(link, None, check=str(error))


def lineage(system: System, log: PredictionLog, id: str) -> Lineage:
    """Trace a prediction to everything on record behind it, and verify each link.

    The model's files are compared with their digests, the snapshot of its data is hashed, the chain of releases is
    checked, and the prediction is computed again. Raises UnknownPredictionError if the log has no such id.
    """
    found = log.find(id)
    if found is None:
        raise UnknownPredictionError(
            f"expected the id of a prediction in {log.url.render_as_string()}, got {id!r}: ids are those of the "
            "requests; a prediction that was deleted on request is not on record"
        )
    links, number = Lineage(), found["model_version"]
    links._add("asked at", found["time"], where=f"prediction log, number {found['number']}")
    with links._defect_of("release"):
        _release_link(links, system, found)
    model = None
    with links._defect_of("model"):
        model = system.registry.load(number)
        name = f"version {number} of {system.registry.name}"
        links._add("model", name, check=VERIFIED, where=f"digest {model.digest}")
    _answer_links(links, found, model)
    if model:
        _contract_links(links, system, model)
        with links._defect_of("training run"):
            _run_links(links, system, model)
    with links._defect_of("history"):
        chain = system.verify_history()
        check = VERIFIED if chain.begins else f"{UNKNOWN}: all releases are from before there was a chain"
        links._add(
            "history", chain.head, check=chain.defect or check, where=f"chained from {chain.begins or 'none'} on"
        )
    return links


def _answer_links(links: Lineage, found: Mapping[str, Any], model: Registered | None) -> None:
    links._add("decision", bool(found["decision"]))
    links._add("assigned version", found["assigned_version"], where=f"share of the canary {found['share']:g}")
    label = found["label"]
    links._add("label", label, where="" if label is None else f"known at {found['label_time'].isoformat()}")
    check = f"{UNKNOWN}: its model cannot be loaded"
    if model:
        inputs = batch.conform(pd.DataFrame([json.loads(found["inputs"])]), model.contract.inputs)
        again = batch.predict(model.model, inputs, threshold=model.contract.threshold).iloc[0]
        same = abs(again["probability"] - found["probability"]) <= PROBABILITY_TOLERANCE
        check = VERIFIED if same else f"computed again it is {again['probability']:.6f}"
        if same and bool(again["decision"]) != bool(found["decision"]):
            check = f"computed again the decision is {bool(again['decision'])}"
    links._add("probability", found["probability"], check=check, where="computed again from the inputs in the log")


def _contract_links(links: Lineage, system: System, model: Registered) -> None:
    contract = model.contract
    facts = {
        "threshold": contract.threshold,
        "specification": f"{contract.specification.get('name')} {contract.specification.get('version')}",
        "code version": contract.code_version,
        "gate": contract.gate_outcome,
        "gate reasons": "; ".join(contract.gate_reasons) or "none against it",
    }
    for name, value in facts.items():
        links._add(name, value, check=VERIFIED, where="contract, within the digest")
    where = str(system.workspace.snapshots / contract.data_version)
    links._add("data version", contract.data_version, check=_snapshot_check(system, contract.data_version), where=where)


def _snapshot_check(system: System, version: str) -> str:
    try:
        data.load_snapshot(system.workspace.snapshots, version)
    except LookupError:
        for record in AuditTrail(system).records():
            if version in record.get("snapshots", ()):
                return f"{UNKNOWN}: removed for the deletion request {record['number']} in the audit trail"
        return "there is no such snapshot any more, and no request on record that it be deleted"
    except data.AlteredSnapshotError as error:
        return str(error)
    return VERIFIED


def _run_links(links: Lineage, system: System, model: Registered) -> None:
    """Add what the training run in MLflow says, compared with the contract where both say it."""
    number, run = model.version, system.run_of(model.version)
    run_id, tags = run.info.run_id, run.data.tags
    same = tags.get("raw_tables", model.contract.data_version) == model.contract.data_version
    links._add("training run", run_id, check=VERIFIED if same else "it names other data", where=run.info.artifact_uri)
    links._add("commit", tags.get("commit", "none"), where=f"tag of run {run_id}")
    split = tags.get("split_rows", "")
    check = _snapshot_check(system, split) if split else f"{UNKNOWN}: the run names no rows"
    value = None
    if check == VERIFIED:
        times = system.specification.timing.prediction_time
        parts = data.load_snapshot(system.workspace.snapshots, split)
        spans = {name: (parts[name][times].min(), parts[name][times].max(), len(parts[name])) for name in FITTED}
        value = "; ".join(
            f"{name} {low:%Y-%m-%d} to {high:%Y-%m-%d}, {n:,} rows" for name, (low, high, n) in spans.items()
        )
    links._add("training span", value, check=check, where=f"snapshot {split}" if split else "")
    if (checks := _gate_checks(system, run, number)) is None:
        links._add("gate report", None, check=f"{UNKNOWN}: no gate.csv in the run")
        return
    rule = model.contract.specification.get("gates", {}).get("when_not_known", "pass")
    same = list(gate.objections(checks, when_not_known=rule)) == list(model.contract.gate_reasons)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in checks["verdict"].value_counts().items())
    check = VERIFIED if same else "its reasons are not those of the contract"
    links._add("gate report", verdicts, check=check, where=f"{run.info.artifact_uri}/version-{number}/gate.csv")


def _gate_checks(system: System, run: Any, number: int) -> pd.DataFrame | None:
    from io import StringIO

    from mlflow import MlflowClient
    from mlflow.artifacts import load_text

    client, path = MlflowClient(tracking_uri=system.workspace.tracking_uri), f"version-{number}"
    if f"{path}/gate.csv" not in [file.path for file in client.list_artifacts(run.info.run_id, path)]:
        return None
    return pd.read_csv(StringIO(load_text(f"{run.info.artifact_uri}/{path}/gate.csv")))


def _release_link(links: Lineage, system: System, found: Mapping[str, Any]) -> None:
    """Add the step in the history by which this version answered then, and who approved it."""
    history, number, asked = system.registry.history(), found["model_version"], pd.Timestamp(found["time"])
    effective, check = history[history["in_effect"]], VERIFIED
    step = _in_charge(effective, asked, number)
    if step is None:  # the service had not yet seen the release after it
        step = _in_charge(effective, asked - TAKE_UP, number)
    if step is None:
        later = effective[(effective["version"] == number) & effective["event"].isin(ANSWERS_BY)]
        if later.empty:
            links._add("release", None, check=f"version {number} was never released")
            return
        step = later.iloc[0]
        check = f"version {number} answered at {asked.isoformat()} without being released then"
        if asked < history["when"].min():
            check = f"{UNKNOWN}: asked before the first release; times of a stream are those of its events"
    release = f"{step.name}: {step['event']} {step['when'].isoformat()}"
    links._add("release", release, check=check, where=f"{system.registry.name}-releases/{step.name}")
    links._add("approver", step["approver"])
    links._add("reason", step["reason"])
    if step["waiver"]:
        links._add("waiver", f"{step['waiver']} (against: {step['objections']})")


def _in_charge(effective: pd.DataFrame, asked: pd.Timestamp, number: int) -> pd.Series | None:
    """Return the step by which a version answered at a moment: as champion, or as canary."""
    until = effective[effective["when"] <= asked]
    champions, trial = champion_steps(until), trial_of(until)
    if champions["version"].tolist()[-1:] == [number]:
        return champions.iloc[-1]
    return until.iloc[-1] if trial and (trial.mode, trial.version) == (CANARY, number) else None
