"""The events of a learner as lines of a file in the workspace, and how far each gap is by them.

A line that cannot be read, after a kill or an edit, is skipped and counted. The other lines still count.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlops_course.course.lessons import renamed
from mlops_course.system.workspace import Workspace

__all__ = ["Standing", "append", "events", "standings"]

EVENTS, SENT = "progress.jsonl", "progress.sent"  # the events; how many of them which classroom has
ASIDE = "aside"  # folder of the workspace with notebooks as they were before a reset
KEPT = {EVENTS, SENT, ASIDE}  # what stays when the workspace is reset


@dataclass(frozen=True)
class Standing:
    """How far a learner is with one gap."""

    gap: str
    done: bool = False
    failed: int = 0  # checks that rejected, since the last reset
    hints: int = 0
    message: str = ""  # of the last rejection
    at: str = ""  # of the last event, ISO 8601 in UTC


def append(gap: str, what: str, message: str = "") -> None:
    """Write an event: what is passed, failed, hint or reset. Raises OSError if the workspace cannot be written."""
    line = {"gap": gap, "what": what, "message": message, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    file = Workspace.locate().root / EVENTS
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as stream:
        stream.seek(0, os.SEEK_END)
        if whole := stream.tell():
            stream.seek(whole - 1)
        torn = bool(whole) and stream.read(1) != b"\n"  # a line that a kill cut off must not spoil the next one
        stream.write(b"\n" * torn + json.dumps(line).encode() + b"\n")


def events() -> tuple[list[dict], int]:
    """The events in order, and how many lines could not be read."""
    file = Workspace.locate().root / EVENTS
    if not file.exists():
        return [], 0
    found, lines = [], list(filter(bytes.strip, file.read_bytes().splitlines()))
    for line in lines:
        try:
            event = json.loads(line)
            found.append(event | {"gap": renamed(str(event["gap"])), "what": str(event["what"])})
        except (ValueError, KeyError, TypeError):
            continue
    return found, len(lines) - len(found)


def standings(events: Iterable[dict]) -> dict[str, Standing]:
    """How far each gap is in which something was tried. A gap that is done stays done until its lesson is reset."""
    found: dict[str, Standing] = {}
    for event in events:
        gap, what = event["gap"], event["what"]
        if what == "reset":
            found = {name: standing for name, standing in found.items() if not name.startswith(f"{gap}.")}
            continue
        was = replace(found.get(gap, Standing(gap)), at=str(event.get("at", "")))
        if what == "failed":
            was = replace(was, failed=was.failed + 1, message=str(event.get("message", "")))
        found[gap] = replace(was, done=was.done or what == "passed", hints=was.hints + (what == "hint"))
    return found
