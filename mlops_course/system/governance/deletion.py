"""A deletion request, carried out step by step, and again on what a backup brings back."""

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
    """Delete the rows of some ids everywhere in the workspace, and return the record of it.

    The rows are deleted from the logs and withheld from later trainings. Snapshots with these rows are removed, and so
    are the snapshots they were made from and what was made from them. The record says who approved it, when and why,
    how many rows left which log, which snapshots were removed, and which `versions` have to be trained again, as they
    were trained on the rows or their data are gone. Of the ids it has keyed digests only, see `keyed_digests`.

    Repeating a call changes nothing more, and completes a call that was killed. Run no training meanwhile.

    Not reached are the files that the case reads, models and the few example rows in their contracts, what a database
    server keeps until it cleans up, backups (restore one, then call `forget_again`), and files that were given away.

    Raises ValueError for a blank approver or reason, or no id, and DigestKeyError before anything is deleted if the key
    of earlier digests is gone.
    """
    ids = sorted(set(ids))
    if not ids or not approver.strip() or not reason.strip():
        raise ValueError(f"expected ids, an approver and a reason, got {len(ids)} ids, {approver!r} and {reason!r}")
    system.workspace.create()
    trail = AuditTrail(system)
    on_record = _digests(system, trail)
    key = system.workspace.digest_key(make=not on_record)
    key.known([], on_record)  # raises if they were made with another key
    digests = [key.digest(name) for name in ids]
    newest = {record["event"]: record for record in trail.records() if record.get("ids") == digests}
    done, request = newest.get(DONE), newest.get(REQUESTED)
    is_open = bool(request) and not (done and done["number"] > request["number"])
    begun = request["snapshots"] if is_open else []
    snapshots = sorted({*begun, *_snapshots_with(system, ids)})
    plan = {"ids": digests, "snapshots": snapshots, "versions": _versions_trained_on(system, ids, snapshots)}
    signed = {"approver": approver, "reason": reason}
    if not is_open and not (done and snapshots in ([], done["snapshots"])):
        trail.add(REQUESTED, plan | signed)
        is_open = True
    system.workspace.withhold(ids)
    removed = {name: some.delete(ids) for name, some in _logs(system, log).items()}
    _drop_cached(system, snapshots)
    for version in snapshots:
        shutil.rmtree(system.workspace.snapshots / version, ignore_errors=True)
        (system.workspace.reports / f"validation-{version}.csv").unlink(missing_ok=True)
    reports = _drop_reports(system, ids)
    if not is_open and not any(removed.values()) and not reports:
        return done
    return trail.add(DONE, {**plan, **signed, "rows": removed, "reports": reports})


def forget_again(system: System, log: PredictionLog, *, approver: str, reason: str) -> dict[str, Any] | None:
    """Delete again what a restored backup has brought back, and return the record of it, or None if nothing came back.

    Each id in logs and snapshots is hashed with the key, and those whose digest is on record are forgotten as by
    `forget`. So the trail and the key must not come from the backup, which knows nothing of later requests.

    Raises DigestKeyError if the key is gone or is another one, and ValueError if the trail was edited; then nothing was
    deleted.
    """
    trail = AuditTrail(system)
    if defect := trail.defect():
        raise ValueError(f"expected the audit trail as it was written, but {defect}; put it back, then ask again")
    digests = _digests(system, trail)
    if not digests:
        return None
    key = system.workspace.digest_key()
    names = set().union(*(some.ids() for some in _logs(system, log).values()))
    for version in data.snapshots(system.workspace.snapshots):
        names |= _ids_in(system, data.load_snapshot(system.workspace.snapshots, version)) or set()
    back = key.known(names, digests)
    return forget(system, log, back, approver=approver, reason=reason) if back else None


def _digests(system: System, trail: AuditTrail) -> list[str]:
    """Return the digests of all ids that were asked to be forgotten."""
    asked = {digest for record in trail.records() for digest in record.get("ids", ())}
    return sorted(asked.union(system.workspace.withheld_ids()))


def _logs(system: System, log: PredictionLog) -> dict[str, PredictionLog]:
    """Return the log, and the shadow log if there is one."""
    url = log.url.render_as_string(hide_password=False)
    found = {"predictions": log}
    shadow_file = Path(str(log.url.database or "").removesuffix(".db") + ".shadow.db")
    if log.url.get_backend_name() != "sqlite" or shadow_file.is_file():
        found["shadow"] = service.shadow_log(url)
    return found


def _snapshots_with(system: System, ids: Sequence[str]) -> list[str]:
    """Return snapshots with a row of these ids, or with tables of the case that such a row can be built from.

    Tables of the case that cannot be built into rows, such as quarantined rows, may have one, so they count.
    """
    folder, wanted = system.workspace.snapshots, set(ids)
    held = {version: _ids_in(system, data.load_snapshot(folder, version)) for version in data.snapshots(folder)}
    return [version for version, found in held.items() if found is None or wanted & found]


def _ids_in(system: System, tables: Mapping[str, pd.DataFrame]) -> set[str] | None:
    """Return the ids in tables of a snapshot, or those that can be built from them; None if that cannot be told."""
    held = [set(table["id"]) for table in tables.values() if "id" in table.columns]
    if held or not set(system.case.schemas()) <= tables.keys():
        return set().union(*held)
    try:
        return set(system.case.build(dict(tables))["id"])
    except Exception:  # a case may fail on quarantined rows in any way; then any row may be among them
        return None if any(len(table) for table in tables.values()) else set()


def _versions_trained_on(system: System, ids: Sequence[str], snapshots: Sequence[str]) -> list[int]:
    """Return versions that learned from a row of these ids, and those whose training rows are unknown."""
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
    """Remove cached results that were made from these snapshots, and files of results that no entry names.

    An entry counts as affected if any result it was made from is affected; a result, if all its entries are.
    """
    from hamilton.caching.cache_key import decode_key
    from hamilton.caching.fingerprinting import hash_value

    file = system.workspace.cache / "metadata_store.db"
    if not file.exists():
        return
    with closing(sqlite3.connect(file)) as database, database:
        entries = database.execute("SELECT cache_key, data_version FROM cache_metadata").fetchall()
        needs = {key: set(decode_key(key)["dependencies_data_versions"].values()) for key, _ in entries}
        affected = {hash_value(version) for version in snapshots}
        stale: set[str] = {key for key, result in entries if result in affected}
        while True:
            more = {key for key, _ in entries if needs[key] & affected} - stale
            if not more:
                break
            stale |= more
            kept = {result for key, result in entries if key not in stale}
            affected |= {result for key, result in entries if key in stale} - kept
        for table in ("history", "cache_metadata"):
            database.executemany(f"DELETE FROM {table} WHERE cache_key = ?", [(key,) for key in stale])
        named = {result for key, result in entries if key not in stale}
    for path in system.workspace.cache.iterdir():
        if path.is_file() and not path.name.startswith(file.name) and path.name.split(".")[0] not in named:
            path.unlink()


def _drop_reports(system: System, ids: Sequence[str]) -> list[str]:
    """Remove reports that name one of these ids; they can be made again."""
    folder, words = system.workspace.reports, [name.encode() for name in ids]
    contents = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found = [path for path, content in contents.items() if any(word in content for word in words)]
    for path in found:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in found]
