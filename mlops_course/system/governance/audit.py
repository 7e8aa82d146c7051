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
    """Requests and what was done about them, in the folder `audit` of the workspace.

    Each record is a JSON file named by its number, with the hash of the record before and of itself. Two records at
    once get two numbers, and a file is complete or not there.
    """

    system: System

    @property
    def folder(self) -> Path:
        """The folder of the records."""
        return self.system.workspace.root / "audit"

    def records(self) -> list[dict[str, Any]]:
        """Return all records, oldest first."""
        files = sorted(self.folder.glob("[0-9]*.json"))
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def add(self, event: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record, and return it."""
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
        """Return where the trail was edited, or an empty text. To notice that the newest are missing, keep a hash."""
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
    """Write a complete file to disk; return False if there is one of that name."""
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
