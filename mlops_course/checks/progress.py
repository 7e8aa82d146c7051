"""What a learner has tried, kept as lines in the workspace, and sent to a classroom where there is one.

    progress.jsonl    one line an event: passed, failed, hint or reset; only ever appended to
    progress.sent     how many of these lines the classroom's server has, and which server that is

A line that cannot be read, after a kill or an edit, is skipped and counted; the others still tell what was done.

>>> [standing.done for standing in standings([{"gap": "03.known_by", "what": "passed"}]).values()]
[True]
"""

import getpass
import importlib
import json
import os
import pkgutil
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlops_course.classroom.client import Joined, JoinError, joined
from mlops_course.workspace import Workspace

__all__ = ["Standing", "classroom", "deliver", "events", "gaps_of", "lessons", "record", "reset", "standings", "table"]

EVENTS, SENT = "progress.jsonl", "progress.sent"
ASIDE = "aside"  # folder of the workspace with notebooks as they were before a reset
KEPT = {EVENTS, SENT, ASIDE}  # what stays when the workspace is reset
EXPERIMENT = "progress of "  # and the learner's name: where results go on the classroom's server
CLASSROOM = "MLOPS_CLASSROOM"  # address of a tracking server without passwords, instead of a room that was joined
LEARNER = "MLOPS_LEARNER"  # name there; the user's name if not given
TAGS = 100  # that MLflow takes at once
SECONDS = 3.0  # that a server may take to answer
BAR = 10  # characters

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


def lessons() -> list[str]:
    """Numbers of the lessons that have checks, such as "03"."""
    names = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name.removeprefix("lesson") for name in names if name.startswith("lesson"))


def gaps_of(lesson: str) -> list[str]:
    """The gaps of a lesson, such as "03.version_of", in the order of its checks. Raises ValueError for no lesson."""
    if lesson not in lessons():
        raise ValueError(f"expected a lesson that has exercises, got {lesson!r}; there are {', '.join(lessons())}")
    module = importlib.import_module(f"mlops_course.checks.lesson{lesson}")
    return [check.gap for check in vars(module).values() if hasattr(check, "gap")]


def record(gap: str, what: str, message: str = "") -> None:
    """Append an event, and send what waits to the classroom in the background. Never stands in a learner's way."""
    if "." not in gap and what != "reset":
        return  # a check that belongs to no lesson
    line = {"gap": gap, "what": what, "message": message, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    file = Workspace.locate().root / EVENTS
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab+") as stream:
            stream.seek(0, os.SEEK_END)
            if whole := stream.tell():
                stream.seek(whole - 1)
            torn = bool(whole) and stream.read(1) != b"\n"  # a line that a kill cut off must not spoil the next one
            stream.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
    except OSError as error:
        print(f"(This result was not kept: {error})")
        return
    if room := classroom():
        threading.Thread(target=_deliver_quietly, args=(room,), daemon=True).start()


def classroom() -> Joined | None:
    """Where results go: the server that MLOPS_CLASSROOM names, else the room that was joined, else nowhere."""
    if server := os.environ.get(CLASSROOM):
        return Joined(server, "", os.environ.get(LEARNER) or getpass.getuser(), "")
    try:
        return joined(Workspace.locate().root)
    except JoinError as error:
        print(f"(Results are not sent: {error})")
        return None


def events(file: Path | None = None) -> tuple[list[dict], int]:
    """The events of a file in order, and how many of its lines could not be read."""
    file = Workspace.locate().root / EVENTS if file is None else file
    if not file.exists():
        return [], 0
    found, lines = [], file.read_bytes().splitlines()
    for line in filter(bytes.strip, lines):
        try:
            event = json.loads(line)
            found.append({"gap": str(event["gap"]), "what": str(event["what"])} | event)
        except (ValueError, KeyError, TypeError):
            continue
    return found, sum(map(bool, map(bytes.strip, lines))) - len(found)


def standings(events: Iterable[dict]) -> dict[str, Standing]:
    """How far each gap is that something was tried in. What was done stays done until its lesson is reset."""
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


def table(lesson: str | None = None) -> str:
    """Progress in lines of text: each gap of one lesson, or each lesson with a bar."""
    happened, unreadable = events()
    found = standings(happened)
    if lesson is not None:
        lines = [_line(found.get(gap, Standing(gap))) for gap in gaps_of(lesson)]
    else:
        lines = [_bar(number, [found.get(gap, Standing(gap)) for gap in gaps_of(number)]) for number in lessons()]
    if unreadable:
        lines.append(f"({unreadable} lines of {EVENTS} could not be read and were left out)")
    return "\n".join(lines)


def reset(lesson: str, *, exercises: Path, solutions: Path) -> Path | None:
    """Begin a lesson's exercises anew: copy the learner's notebook aside, then derive it from its solution.

    Returns the copy, or None if there was no notebook. Nothing is changed before the copy is there.
    """
    import nbformat

    from mlops_course.checks.gaps import derived, stored

    gaps_of(lesson)
    [solution] = _notebook(solutions, lesson)
    workspace = Workspace.locate()
    copy = None
    for notebook in _notebook(exercises, lesson):
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        copy = workspace.root / ASIDE / f"{notebook.stem}-{stamp}.ipynb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(notebook, copy)
    fresh = exercises / f".{solution.name}.new"
    fresh.write_text(stored(derived(nbformat.read(solution, as_version=4))), encoding="utf-8", newline="\n")
    fresh.replace(exercises / solution.name)
    record(lesson, "reset")
    return copy


def deliver(room: Joined) -> int:
    """Send what the classroom does not have yet; returns how many events that were. Raises httpx.HTTPError.

    Each gap is a tag of the learner's run that says how it stands, so sending twice changes nothing.
    """
    with _sending:
        root = Workspace.locate().root
        happened, _ = events(root / EVENTS)
        waiting = happened[_sent(root, room) :]
        if waiting:
            _send(room, waiting, standings(happened))
            new = root / f"{SENT}.new"
            new.write_text(f"{len(happened)} {room.server}", encoding="utf-8")
            new.replace(root / SENT)
        return len(waiting)


def waiting(room: Joined) -> int:
    """How many events the classroom does not have yet."""
    root = Workspace.locate().root
    return max(len(events(root / EVENTS)[0]) - _sent(root, room), 0)


def _deliver_quietly(room: Joined) -> None:
    import httpx

    try:
        deliver(room)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, OSError):
        return  # the lines wait for the next time; `mlops-course progress` says so


def _send(room: Joined, waiting: list[dict], found: dict[str, Standing]) -> None:
    """Set tags of the run `progress` in the learner's experiment, over MLflow's REST interface."""
    import httpx

    reset = {event["gap"] for event in waiting if event["what"] == "reset"}
    touched = {event["gap"] for event in waiting} - reset | {gap for number in reset for gap in gaps_of(number)}
    login = {"auth": (room.learner, room.password)} if room.password else {}
    with httpx.Client(base_url=f"{room.server.rstrip('/')}/api/2.0/mlflow/", timeout=SECONDS, **login) as client:

        def call(path: str, **body: object) -> dict:
            return client.post(path, json=body).raise_for_status().json()

        title = f"{EXPERIMENT}{room.learner}"
        answer = client.get("experiments/get-by-name", params={"experiment_name": title})
        if answer.status_code == 404:
            experiment = call("experiments/create", name=title)["experiment_id"]
        else:
            experiment = answer.raise_for_status().json()["experiment"]["experiment_id"]
        runs = call("runs/search", experiment_ids=[experiment], max_results=1).get("runs")
        run = (runs or [call("runs/create", experiment_id=experiment, run_name="progress")["run"]])[0]
        tags = [{"key": gap, "value": json.dumps(_shared(found.get(gap, Standing(gap))))} for gap in sorted(touched)]
        for start in range(0, len(tags), TAGS):
            call("runs/log-batch", run_id=run["info"]["run_id"], tags=tags[start : start + TAGS])


def _shared(standing: Standing) -> dict:
    """What a classroom sees of a gap: how it stands and what the last rejection said, never the answer."""
    return {**vars(standing), "message": standing.message[:500]}


def _sent(root: Path, room: Joined) -> int:
    """How many events this server has: none of them if another one was sent to last."""
    try:
        count, server = (root / SENT).read_text(encoding="utf-8").split(maxsplit=1)
        return int(count) if server == room.server else 0
    except (OSError, ValueError):
        return 0


def _notebook(folder: Path, lesson: str) -> list[Path]:
    return sorted(folder.glob(f"{lesson}_*.ipynb"))


def _line(standing: Standing) -> str:
    mark = "done" if standing.done else "open" if not (standing.failed or standing.hints) else "begun"
    tried = [f"{standing.failed} rejected"] * bool(standing.failed) + [f"{standing.hints} hints"] * bool(standing.hints)
    return f"{standing.gap:32} {mark:6} {', '.join(tried)}".rstrip()


def _bar(lesson: str, found: list[Standing]) -> str:
    done = sum(standing.done for standing in found)
    full = round(BAR * done / len(found))
    return f"{lesson}  {'█' * full}{'░' * (BAR - full)}  {done} of {len(found)}"
