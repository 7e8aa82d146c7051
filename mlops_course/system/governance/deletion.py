"""A request to be forgotten, carried out step by step."""

import hashlib
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.development import data
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import service
from mlops_course.system.system import System

from .audit import AuditTrail

REQUESTED, DONE = "deletion requested", "deletion done"
FITTED = ("train", "calibrate")  # tables of a split that the model has learned from


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
    folder, wanted, found = system.workspace.snapshots, set(ids), []
    for row in system.registry.versions().itertuples():
        try:
            split = system.run_of(row.version).data.tags.get("split_rows", "")
        except LookupError:
            split = ""
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
