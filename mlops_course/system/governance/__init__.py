"""Who answers for a prediction, and how it is forgotten: lineage, deletion, the audit trail and incident reports.

    lineage          from the id of a prediction to model, code, data, specification, gate and approver, each verified
    forget           a deletion request, carried through log, shadow answers, cache and snapshots, and put on record
    AuditTrail       what was asked and done beside releases, one record a file, each with the hash of the one before
    incident_report  what is on record about a stretch of time, laid out for a review without blame

Releases have a history of their own, see `registry`. Nothing here is inferred: what is not on record is said to be
unknown, and a link that does not hold is named, not left out.

    found = lineage(system, log, "order 17")
    found.broken                                   # names of the links that do not hold: () if all do
    print(found)
    forget(system, log, ["order 17"], approver="Ada", reason="asked by the person concerned")
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.development import data
from mlops_course.operations.deployment import batch
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import ANSWER_TOLERANCE, Registered, RegistryError
from mlops_course.system import service
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System

__all__ = ["AuditTrail", "Lineage", "UnknownPredictionError", "forget", "incident_report", "lineage"]

VERIFIED, UNKNOWN = "verified", "unknown"  # other checks are the defect that was found, in words
REQUESTED, DONE = "deletion requested", "deletion done"
ANSWERS_BY = ("promoted", "canary", "rolled back")  # steps after which a version answers
LATE = pd.Timedelta(seconds=5)  # a service looks for releases each second, and what is under way is answered as before
FITTED = ("train", "calibrate")  # tables of a split that the model has learned from


class UnknownPredictionError(LookupError):
    """There is no prediction of that id on record."""


# Lineage --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Lineage:
    """Where a prediction comes from.

    `table` has one row a link and the columns link, value, check ("verified", "" where there is nothing to verify,
    "unknown" and why, or the defect) and where. `facts` holds the same by name, in plain values.
    """

    id: str
    facts: dict[str, Any]
    table: pd.DataFrame

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the links that do not hold."""
        fine = self.table["check"].isin(["", VERIFIED]) | self.table["check"].str.startswith(UNKNOWN)
        return tuple(self.table.loc[~fine, "link"])

    def __str__(self) -> str:
        width = self.table["link"].str.len().max()
        lines = [f"Prediction {self.id}"]
        for row in self.table.itertuples():
            check = f"  [{row.check}]" if row.check else ""
            lines.append(f"  {row.link:{width}}  {row.value}{check}")
        return "\n".join(lines)


class _Links:
    """Links as they are found; what cannot be looked up becomes a defect of that link, and the rest goes on."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self.facts: dict[str, Any] = {}

    def add(self, link: str, value: Any, *, check: str = "", where: str = "") -> None:
        self.facts[link.replace(" ", "_")] = value
        shown = "none" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
        self.rows.append({"link": link, "value": shown, "check": check, "where": where})

    @contextmanager
    def defect_of(self, link: str) -> Any:
        """Turn an error into the defect of a link."""
        try:
            yield
        except (RegistryError, ValueError, LookupError, OSError) as error:
            self.add(link, None, check=str(error))


def lineage(system: System, log: PredictionLog, id: str) -> Lineage:
    """Everything on record behind one prediction, with each link verified.

    The model's files are compared with their digests, the snapshot of its data is hashed anew, the chain of releases is
    followed, and the answer is computed again from the inputs in the log. The release is the one that was in effect
    when the answer was given. Raises UnknownPredictionError if the log has no such id.
    """
    found = log.find(id)
    if found is None:
        raise UnknownPredictionError(
            f"expected the id of a prediction in {log.url.render_as_string()}, got {id!r}: ids are those of the "
            "requests; a prediction that was deleted on request is not on record"
        )
    links, number = _Links(), found["model_version"]
    links.add("asked at", found["time"], where=f"prediction log, number {found['number']}")
    _release_link(links, system, found)
    model = None
    with links.defect_of("model"):
        model = system.registry.load(number)
        links.add(
            "model", f"version {number} of {system.registry.name}", check=VERIFIED, where=f"digest {model.digest}"
        )
    _answer_links(links, found, model)
    if model:
        _contract_links(links, system, model)
        with links.defect_of("training run"):
            _run_links(links, system, model)
    with links.defect_of("history"):
        chain = system.registry.verify_history()
        check = VERIFIED if chain.begins else f"{UNKNOWN}: all releases are from before there was a chain"
        links.add("history", chain.head, check=chain.defect or check, where=f"chained from {chain.begins or 'none'} on")
    return Lineage(id, links.facts, pd.DataFrame(links.rows, columns=["link", "value", "check", "where"]))


def _answer_links(links: _Links, found: Mapping[str, Any], model: Registered | None) -> None:
    links.add("decision", bool(found["decision"]))
    links.add("assigned version", found["assigned_version"], where=f"share of the canary {found['share']:g}")
    label = found["label"]
    links.add("label", label, where="" if label is None else f"known at {found['label_time'].isoformat()}")
    check = f"{UNKNOWN}: its model cannot be loaded"
    if model:
        inputs = batch.conform(pd.DataFrame([json.loads(found["inputs"])]), model.contract.inputs)
        again = batch.predict(model.model, inputs, threshold=model.contract.threshold).iloc[0]
        same = abs(again["probability"] - found["probability"]) <= ANSWER_TOLERANCE
        check = VERIFIED if same else f"computed again it is {again['probability']:.6f}"
        if same and bool(again["decision"]) != bool(found["decision"]):
            check = f"computed again the decision is {bool(again['decision'])}"
    links.add("probability", found["probability"], check=check, where="computed again from the inputs in the log")


def _contract_links(links: _Links, system: System, model: Registered) -> None:
    contract = model.contract
    links.add("threshold", contract.threshold, check=VERIFIED, where="contract, within the digest")
    specification = contract.specification
    name = f"{specification.get('name')} {specification.get('version')}"
    links.add("specification", name, check=VERIFIED, where="contract, within the digest")
    links.add("code version", contract.code_version, check=VERIFIED, where="contract, within the digest")
    links.add("gate", "passed" if contract.gate_passed else "failed", check=VERIFIED, where="contract")
    links.add("gate reasons", "; ".join(contract.gate_reasons) or "none against it", check=VERIFIED, where="contract")
    where = str(system.workspace.snapshots / contract.data_version)
    links.add("data version", contract.data_version, check=_snapshot_check(system, contract.data_version), where=where)


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


def _run_links(links: _Links, system: System, model: Registered) -> None:
    """What the training run in MLflow says, compared with the contract where both say it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, number = MlflowClient(tracking_uri=system.workspace.tracking_uri), model.version
    try:
        run_id = client.get_model_version(system.registry.name, str(number)).run_id
        run = client.get_run(run_id)
        tags = run.data.tags
    except MlflowException as error:
        raise LookupError(f"the training run of version {number} cannot be read: {error}") from error
    same = tags.get("raw_tables", model.contract.data_version) == model.contract.data_version
    links.add("training run", run_id, check=VERIFIED if same else "it names other data", where=run.info.artifact_uri)
    links.add("commit", tags.get("commit", "none"), where=f"tag of run {run_id}")
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
    links.add("training span", value, check=check, where=f"snapshot {split}" if split else "")
    checks = _gate_checks(client, run_id, number)
    if checks is None:
        links.add("gate report", None, check=f"{UNKNOWN}: no gate.csv in the run")
        return
    failed = checks[checks["verdict"] == "fail"]
    told = (failed["check"] + ": " + failed["why"].fillna("")).tolist()
    same = told == list(model.contract.gate_reasons)
    links.facts["gate_checks"] = json.loads(checks.to_json(orient="records"))
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in checks["verdict"].value_counts().items())
    where = f"{run.info.artifact_uri}/version-{number}/gate.csv"
    links.add(
        "gate report", verdicts, check=VERIFIED if same else "its failures are not those of the contract", where=where
    )


def _gate_checks(client: Any, run_id: str, number: int) -> pd.DataFrame | None:
    from io import StringIO

    from mlflow.artifacts import load_text

    path = f"version-{number}"
    if f"{path}/gate.csv" not in [file.path for file in client.list_artifacts(run_id, path)]:
        return None
    return pd.read_csv(StringIO(load_text(f"{client.get_run(run_id).info.artifact_uri}/{path}/gate.csv")))


def _release_link(links: _Links, system: System, found: Mapping[str, Any]) -> None:
    """Which step in the history let this version answer then, and who approved it."""
    try:
        history = system.registry.history()
    except RegistryError as error:
        links.add("release", None, check=str(error))
        return
    number, asked = found["model_version"], pd.Timestamp(found["time"])
    effective = history[history["in_effect"]]
    step = _in_charge(effective, asked, number)
    if step is None:  # the service had not yet seen the release after it
        step = _in_charge(effective, asked - LATE, number)
    check = VERIFIED
    if step is None:
        later = effective[(effective["version"] == number) & effective["event"].isin(ANSWERS_BY)]
        if later.empty:
            links.add("release", None, check=f"version {number} was never released")
            return
        step = later.iloc[0]
        check = f"version {number} answered at {asked.isoformat()} without being released then"
        if asked < history["when"].min():
            check = f"{UNKNOWN}: asked before the first release; times of a stream are those of its events"
    release = f"{step.name}: {step['event']} {step['when'].isoformat()}"
    links.add("release", release, check=check, where=f"{system.registry.name}-releases/{step.name}")
    links.add("approver", step["approver"])
    links.add("reason", step["reason"])
    if step["waiver"]:
        links.add("waiver", f"{step['waiver']} (against: {step['objections']})")


def _in_charge(effective: pd.DataFrame, asked: pd.Timestamp, number: int) -> pd.Series | None:
    """The step by which a version answered at a moment: as champion, or as canary."""
    champions: list[pd.Series] = []
    canary = None
    for _, step in effective[effective["when"] <= asked].iterrows():
        if step["event"] == "promoted":
            champions = [*champions, step]
        elif step["event"] == "rolled back":
            champions = [*champions[:-2], step]
        canary = step if step["event"] == "canary" else None
    if champions and champions[-1]["version"] == number:
        return champions[-1]
    return canary if canary is not None and canary["version"] == number else None


# The audit trail ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AuditTrail:
    """Requests and what was done about them, in the workspace's folder `audit`, beside the history of releases.

    One JSON file a record, named by its number; each has the hash of the one before and of itself. A number is taken
    by making its file, so two at once get two numbers, and a file is there whole or not at all.
    """

    system: System

    @property
    def folder(self) -> Path:
        """Where the records lie."""
        return self.system.workspace.root / "audit"

    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        files = sorted(self.folder.glob("[0-9]*.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def add(self, event: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Put a record on disk after the others, and return it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            records = self.records()
            previous = records[-1]["hash"] if records else ""
            record = {"number": len(records) + 1, "when": self.system.clock().isoformat(), "event": event}
            record |= {**facts, "previous": previous}
            record["hash"] = _hash_of(record)
            if _write_new(self.folder / f"{record['number']:06d}.json", json.dumps(record, indent=1)):
                return record

    def defect(self) -> str:
        """Where the trail was edited; an empty text if it was not. The newest records could be missing: keep a hash."""
        previous = ""
        for number, record in enumerate(self.records(), start=1):
            stripped = {key: value for key, value in record.items() if key != "hash"}
            if record.get("number") != number:
                return f"record {number} is missing"
            if record.get("hash") != _hash_of(stripped):
                return f"record {number} was edited"
            if record.get("previous") != previous:
                return f"record {number} was written after another one than record {number - 1}"
            previous = record["hash"]
        return ""


def _hash_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _write_new(path: Path, text: str) -> bool:
    """Make a file whole and on disk; False if there is one of that name."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, path)  # unlike a rename, it never replaces a file
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


# Deletion -------------------------------------------------------------------------------------------------------------


def forget(system: System, log: PredictionLog, ids: Iterable[str], *, approver: str, reason: str) -> dict[str, Any]:
    """Take some ids out of everything the workspace holds, and return the record that is kept of it.

    Predictions, labels and shadow answers leave the logs. The ids are withheld, so that no later training uses their
    rows. Snapshots that hold these rows go, with those that they were made from, with cached results and validation
    reports made of them. The record says who asked, when and why, how many rows left which log, which snapshots went,
    and which `versions` were trained on the rows and have to be trained anew: their data versions can then no longer be
    brought back. Of ids it holds digests only. A version whose data are gone already counts as trained on them.

    Repeating it changes nothing more, and completes a call that was killed. Let no training run meanwhile.

    What it cannot reach: the files that the case reads (its next reading brings their rows back into snapshots of raw
    tables and of all rows, though not into a training), the parameters of models and the few example rows in their
    contracts, what the database of another host keeps until it cleans up, backups, and files that were given out. Who
    knows an id can compute its digest.

    Raises ValueError for a blank approver or reason, or no id.
    """
    ids = sorted(set(ids))
    if not ids or not approver.strip() or not reason.strip():
        raise ValueError(f"expected ids, an approver and a reason, got {len(ids)} ids, {approver!r} and {reason!r}")
    trail, digests = AuditTrail(system), [_digest(name) for name in ids]
    system.workspace.create()
    open_request = _open_request(trail.records(), digests)
    begun = open_request["snapshots"] if open_request else []
    snapshots = sorted({*begun, *_snapshots_with(system, ids)})
    plan = {"ids": digests, "snapshots": snapshots, "versions": _versions_trained_on(system, ids, snapshots)}
    signed = {"approver": approver, "reason": reason}
    done = _done(trail.records(), digests)
    if not open_request and not (done and snapshots in ([], done["snapshots"])):
        open_request = trail.add(REQUESTED, plan | signed)
    system.workspace.withhold(ids)
    removed = {name: some.delete(ids) for name, some in _logs(system, log).items()}
    _drop_cached(system, snapshots)
    for version in snapshots:
        shutil.rmtree(system.workspace.snapshots / version, ignore_errors=True)
        (system.workspace.reports / f"validation-{version}.csv").unlink(missing_ok=True)
    reports = _drop_reports(system, ids)
    if open_request is None and not any(removed.values()) and not reports:
        return done
    return trail.add(DONE, {**plan, **signed, "rows": removed, "reports": reports})


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _open_request(records: Sequence[Mapping[str, Any]], digests: list[str]) -> Mapping[str, Any] | None:
    """The newest request for these ids that is not known to be done."""
    mine = [record for record in records if record.get("ids") == digests and record["event"] in (REQUESTED, DONE)]
    return mine[-1] if mine and mine[-1]["event"] == REQUESTED else None


def _done(records: Sequence[Mapping[str, Any]], digests: list[str]) -> dict[str, Any] | None:
    mine = [record for record in records if record.get("ids") == digests and record["event"] == DONE]
    return dict(mine[-1]) if mine else None


def _logs(system: System, log: PredictionLog) -> dict[str, PredictionLog]:
    """The log, and that of shadow answers if there is one."""
    url = log.url.render_as_string(hide_password=False)
    found = {"predictions": log}
    shadow_file = Path(str(log.url.database or "").removesuffix(".db") + ".shadow.db")
    if log.url.get_backend_name() != "sqlite" or shadow_file.is_file():
        found["shadow"] = service.shadow_log(url)
    return found


def _snapshots_with(system: System, ids: Sequence[str]) -> list[str]:
    """Snapshots that hold a row of these ids, or tables of the case from which such a row can be built.

    Tables of the case that cannot be built into rows, such as rows set aside, may hold one, so they count.
    """
    folder, wanted, names = system.workspace.snapshots, set(ids), set(system.case.schemas())
    found = []
    for version in data.snapshots(folder):
        tables = data.load_snapshot(folder, version)
        if any("id" in table.columns for table in tables.values()):
            hit = any(wanted & set(table["id"]) for table in tables.values() if "id" in table.columns)
        elif names <= tables.keys():
            hit = _may_hold(system, tables, wanted)
        else:
            hit = False
        if hit:
            found.append(version)
    return found


def _may_hold(system: System, tables: Mapping[str, pd.DataFrame], wanted: set[str]) -> bool:
    try:
        return bool(wanted & set(system.case.build(dict(tables))["id"]))
    except Exception:  # whatever a case stumbles over in rows that were set aside: nobody can say it is not there
        return any(len(table) for table in tables.values())


def _versions_trained_on(system: System, ids: Sequence[str], snapshots: Sequence[str]) -> list[int]:
    """Versions that learned from a row of these ids, and those of which nobody can say that they did not."""
    from mlflow import MlflowClient

    folder, wanted, found = system.workspace.snapshots, set(ids), []
    client, name = MlflowClient(tracking_uri=system.workspace.tracking_uri), system.registry.name
    for row in system.registry.versions().itertuples():
        run_id = client.get_model_version(name, str(row.version)).run_id
        split = client.get_run(run_id).data.tags.get("split_rows", "") if run_id else ""
        if split not in data.snapshots(folder):
            found.append(int(row.version))
        elif split in snapshots:
            parts = data.load_snapshot(folder, split)
            if any(wanted & set(parts[part]["id"]) for part in FITTED):
                found.append(int(row.version))
    return found


def _drop_cached(system: System, snapshots: Sequence[str]) -> None:
    """Remove cached results that were made of these snapshots, and files of results that no entry names.

    A result is tainted if all entries that gave it are; an entry is if one of the results that it was made from is.
    """
    from hamilton.caching.cache_key import decode_key
    from hamilton.caching.fingerprinting import hash_value

    file = system.workspace.cache / "metadata_store.db"
    if not file.exists():
        return
    with closing(sqlite3.connect(file)) as database, database:
        entries = database.execute("SELECT cache_key, data_version FROM cache_metadata").fetchall()
        needs = {key: set(decode_key(key)["dependencies_data_versions"].values()) for key, _ in entries}
        tainted = {hash_value(version) for version in snapshots}
        stale: set[str] = {key for key, result in entries if result in tainted}
        while True:
            more = {key for key, _ in entries if needs[key] & tainted} - stale
            if not more:
                break
            stale |= more
            kept = {result for key, result in entries if key not in stale}
            tainted |= {result for key, result in entries if key in stale} - kept
        for table in ("history", "cache_metadata"):
            database.executemany(f"DELETE FROM {table} WHERE cache_key = ?", [(key,) for key in stale])
        named = {result for key, result in entries if key not in stale}
    for path in system.workspace.cache.iterdir():
        if path.is_file() and not path.name.startswith(file.name) and path.name.split(".")[0] not in named:
            path.unlink()


def _drop_reports(system: System, ids: Sequence[str]) -> list[str]:
    """Remove pages and tables for people that name one of these ids; they can be made anew."""
    folder, words = system.workspace.reports, [name.encode() for name in ids]
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in found if any(word in path.read_bytes() for word in words)]
    for path in found:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in found]


# Incidents ------------------------------------------------------------------------------------------------------------


def incident_report(
    system: System, log: PredictionLog, *, start: datetime, end: datetime, alerts: Sequence[Any] = ()
) -> str:
    """A report for a review without blame, in Markdown: what is on record from `start` to `end`, and what to answer.

    `alerts` are mappings or dataclasses with kind, subject, since and text, as alerting gives them. Numbers come from
    the log, the history and the audit trail; what nobody has recorded is left as a question. The headings are those of
    Beyer et al. 2016, Site Reliability Engineering, chapter 15 and appendix D.

    Raises ValueError if the times have no zone or are out of order.
    """
    if start.tzinfo is None or end.tzinfo is None or not start < end:
        raise ValueError(f"expected two moments with their zones, the start before the end, got {start} and {end}")
    begin, until = pd.Timestamp(start).tz_convert("UTC"), pd.Timestamp(end).tz_convert("UTC")
    rows = _between(log.predictions(since=start, inputs=False), begin, until)
    labelled = _between(log.labelled(since=start, inputs=False), begin, until)
    told = [asdict(alert) if is_dataclass(alert) else dict(alert) for alert in alerts]
    events = _timeline(system, told, begin, until)
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
        _bullets(_detection(told, begin)),
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
        text = str(alert.get("text") or f"{alert.get('kind')} in {alert.get('subject')}")
        lines.append((_moment(alert["since"]), "alert raised", text))
        if alert.get("until"):
            lines.append((_moment(alert["until"]), "alert cleared", text))
    for record in AuditTrail(system).records():
        text = f"{record['event']} by {record['approver']}: {record['reason']}"
        lines.append((_moment(record["when"]), f"audit {record['number']}", text))
    table = pd.DataFrame(lines, columns=["when", "what", "on record"])
    if table.empty:
        return table
    table = table[(table["when"] >= begin) & (table["when"] < until)].sort_values("when", kind="stable")
    return table.assign(when=table["when"].map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}"))


def _moment(text: Any) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    return moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")


def _detection(alerts: Sequence[Mapping[str, Any]], begin: pd.Timestamp) -> list[str]:
    if not alerts:
        return ["No alert was handed to this report. *Who or what noticed, and when?*"]
    first = min(alerts, key=lambda alert: _moment(alert["since"]))
    delay = _moment(first["since"]) - begin
    lines = [f"First alert {delay} after the start: {first.get('kind')}, {first.get('subject')}."]
    lines += [f"First step it named: {first['first_step']}."] if first.get("first_step") else []
    return [*lines, "*Was it acted upon, and how long after?*"]


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
