"""Records that are written once, each with the hash of the one before."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_course.system.system import System


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
