"""What a learner tries: kept as lines of a file in the workspace, and sent to the classroom that was joined.

A line that cannot be read, after a kill or an edit, is skipped and counted. The other lines still count. In the
classroom each gap is a tag of the learner's run on MLflow that says how it stands, so sending it twice changes nothing.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mlops_course.course.lessons import renamed
from mlops_course.course.progress.client import EXPERIMENT, Joined, JoinError, joined, write_private
from mlops_course.system.workspace import Workspace

__all__ = ["Standing", "classroom", "deliver", "events", "record", "standings", "waiting"]

EVENTS, SENT = "progress.jsonl", "progress.sent"  # the events; how many of them which classroom has
ASIDE = "aside"  # folder of the workspace with notebooks as they were before a reset
KEPT = {EVENTS, SENT, ASIDE}  # what stays when the workspace is reset
TAGS = 100  # that MLflow takes at once; with one more, it refuses them all
VALUE = 5_000  # characters of a tag's value: MLflow 3 cuts off what is over 8000, older servers refuse over 5000
MESSAGE = 500  # characters of a message that are sent
KEY = re.compile(r"[a-z]\w{1,60}\.\w{1,60}")  # a gap; MLflow refuses a batch in which one key is too long or strange
SECONDS = 3.0  # that a server may take to answer

_sending = threading.Lock()


@dataclass(frozen=True)
class Standing:
    """How far a learner is with one gap."""

    gap: str
    done: bool = False
    failed: int = 0  # checks that rejected, since the last reset
    hints: int = 0
    message: str = ""  # of the last rejection
    at: str = ""  # of the last event, ISO 8601 in UTC


def record(gap: str, what: str, message: str = "") -> None:
    """Keep an event (passed, failed, hint or reset), and send what waits in the background. Never stops a learner.

    A check that belongs to no lesson, such as one in a test, is not kept.
    """
    if "." not in gap and what != "reset":
        return
    line = {"gap": gap, "what": what, "message": message, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    file = Workspace.locate().root / EVENTS
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:  # begins a line: one that a kill cut off must not spoil this one
            stream.write(f"\n{json.dumps(line)}\n".encode())
    except OSError as error:
        print(f"(This result was not kept: {error})")
        return
    with suppress(RuntimeError):  # no room that can be read, or no thread: `mlops-course progress` says so, not a check
        if room := joined(Workspace.locate().root):
            threading.Thread(target=deliver_quietly, args=(room,), daemon=True).start()


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


def classroom() -> Joined | None:
    """The room that was joined, where results go. If that cannot be known, the reason is printed."""
    try:
        return joined(Workspace.locate().root)
    except JoinError as error:
        print(f"(Results are not sent: {error})")
        return None


def waiting(room: Joined) -> int:
    """How many events the classroom does not have yet."""
    happened, _ = events()
    return len(happened) - _sent(room, len(happened))


def deliver(room: Joined) -> int:
    """Send the events that the classroom does not have yet; returns how many these were.

    Raises httpx.HTTPError for a server that is away or refuses, such as one that does not know the learner's password,
    and ValueError or httpx.InvalidURL for an address of no tracking server; then everything waits for the next time.
    """
    with _sending:
        happened, _ = events()
        since = _sent(room, len(happened))
        if since < len(happened):
            _send(room, happened, since=since)
            write_private(Workspace.locate().root / SENT, f"{len(happened)} {_mark(room)}")
        return len(happened) - since


def deliver_quietly(room: Joined) -> None:
    """Send what waits. Events that cannot be sent wait on; `mlops-course progress` says why."""
    with suppress(Exception):
        deliver(room)


def _send(room: Joined, happened: list[dict], *, since: int) -> None:
    """Set tags of the run `progress` in the learner's experiment, over MLflow's REST interface.

    A run that is there gets the gaps of the events from `since` on, a new run gets all of them. The room made the
    experiment when the learner joined, and deletes it to forget the learner: it is not made here.
    """
    import httpx

    address, login = f"{room.server.rstrip('/')}/api/2.0/mlflow/", (room.learner, room.password)
    with httpx.Client(base_url=address, timeout=SECONDS, auth=login) as client:

        def call(path: str, **body: object) -> dict:
            return client.post(path, json=body).raise_for_status().json()

        title = {"experiment_name": f"{EXPERIMENT}{room.learner}"}
        answer = client.get("experiments/get-by-name", params=title).raise_for_status()
        experiment = answer.json()["experiment"]["experiment_id"]
        runs = call("runs/search", experiment_ids=[experiment], max_results=1).get("runs")
        run = (runs or [call("runs/create", experiment_id=experiment, run_name="progress")["run"]])[0]
        found = standings(happened)
        gaps = _touched(happened, since=since if runs else 0)
        tags = [{"key": gap, "value": _told(found.get(gap, Standing(gap)))} for gap in gaps]
        for start in range(0, len(tags), TAGS):
            call("runs/log-batch", run_id=run["info"]["run_id"], tags=tags[start : start + TAGS])


def _touched(happened: list[dict], *, since: int) -> list[str]:
    """The gaps that events from `since` on are about, without those whose name cannot be a gap's."""
    new = {event["gap"] for event in happened[since:]}  # a reset is about all gaps of its lesson
    gaps = {event["gap"] for event in happened if event["gap"] in new or event["gap"].partition(".")[0] in new}
    return sorted(filter(KEY.fullmatch, gaps))


def _told(standing: Standing) -> str:
    """What a classroom sees of a gap: how it stands and what the last rejection said, never the answer.

    JSON in ASCII, in which a letter may take twelve characters; the message is cut until all of it fits into a tag.
    """
    told = {**vars(standing), "message": standing.message[:MESSAGE], "at": standing.at[:40]}
    while len(text := json.dumps(told)) > VALUE:
        told["message"] = told["message"][: len(told["message"]) * 3 // 4]
    return text


def _mark(room: Joined) -> str:
    """Which account of which classroom it is: a new password means a new account, which has nothing yet."""
    return f"{room.server} {room.learner} {hashlib.sha256(room.password.encode()).hexdigest()[:8]}"


def _sent(room: Joined, happened: int) -> int:
    """How many of the events this classroom has: none if the last ones went to another, or if lines were lost."""
    try:
        count, mark = (Workspace.locate().root / SENT).read_text(encoding="utf-8").split(maxsplit=1)
        return int(count) if mark == _mark(room) and 0 <= int(count) <= happened else 0
    except (OSError, ValueError):
        return 0
