"""What a learner has tried, kept as lines in the workspace, and sent to a classroom where there is one.

    progress.jsonl    one line an event: passed, failed, hint or reset; only ever appended to
    progress.sent     how many of these events the classroom has, and which classroom that is

`client` joins a classroom, and logs runs and models there under names that nobody else can have.

A line that cannot be read, after a kill or an edit, is skipped and counted; the others still tell what was done.

>>> [standing.done for standing in standings([{"gap": "data_engineering.known_by", "what": "passed"}]).values()]
[True]
"""

import getpass
import hashlib
import importlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mlops_course.course.progress.client import Joined, JoinError, joined
from mlops_course.system.workspace import Workspace

__all__ = [
    "Standing",
    "classroom",
    "deliver",
    "events",
    "gaps_of",
    "lessons",
    "number_of",
    "record",
    "renamed",
    "reset",
    "standings",
    "table",
    "waiting",
]

EVENTS, SENT = "progress.jsonl", "progress.sent"
ASIDE = "aside"  # folder of the workspace with notebooks as they were before a reset
KEPT = {EVENTS, SENT, ASIDE}  # what stays when the workspace is reset
EXPERIMENT = "progress of "  # and the learner's name: where results go on the classroom's server
CLASSROOM = "MLOPS_CLASSROOM"  # address of a tracking server without passwords, instead of a room that was joined
LEARNER = "MLOPS_LEARNER"  # name there; the user's name if not given
TAGS = 100  # that MLflow takes at once; with one more, it refuses them all
VALUE = 5_000  # characters of a tag's value: MLflow 3 cuts off what is over 8000, older servers refuse over 5000
MESSAGE = 500  # characters of a message that are sent
KEY = re.compile(r"[a-z]\w{1,60}\.\w{1,60}")  # a gap; MLflow refuses a batch in which one key is too long or strange
SECONDS = 3.0  # that a server may take to answer
BAR = 10  # characters

LESSONS = (  # that have exercises, in the order of the course: the first is lesson 00
    "start_here",
    "requirements",
    "prioritisation",
    "data_engineering",
    "features",
    "model_engineering",
    "model_selection",
    "testing_and_validation",
    "pipelines",
    "registry_and_release",
    "deployment",
    "ci_cd",
    "monitoring",
    "retraining",
    "governance",
    "capstone",
)
FORMER = {  # what lessons were called by when a gap was `03.known_by`: files and rooms of that time are read
    "00": "start_here",
    "01": "requirements",
    "02": "prioritisation",
    "03": "data_engineering",
    "04": "features",
    "05": "model_engineering",
    "06": "model_selection",
    "07": "testing_and_validation",
    "08": "pipelines",
    "09": "registry_and_release",
    "10": "deployment",
    "11": "ci_cd",
    "12": "monitoring",
    "13": "retraining",
    "14": "governance",
    "15": "capstone",
}

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
    """Names of the lessons that have exercises, such as "data_engineering", in the order of the course."""
    return list(LESSONS)


def number_of(lesson: str) -> str:
    """The number of a lesson in its course, such as "03"."""
    return f"{LESSONS.index(lesson):02d}"


def renamed(gap: str) -> str:
    """A gap or a lesson by its name of today: what was kept before lessons had names calls it by its number."""
    lesson, dot, name = gap.partition(".")
    return f"{FORMER.get(lesson, lesson)}{dot}{name}"


def gaps_of(lesson: str) -> list[str]:
    """The gaps of a lesson, such as "data_engineering.version_of", in the order of its checks.

    Raises ValueError for no lesson.
    """
    if lesson not in lessons():
        raise ValueError(f"expected a lesson that has exercises, got {lesson!r}; there are {', '.join(lessons())}")
    module = importlib.import_module(f"mlops_course.course.checks.{lesson}")
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
    with suppress(RuntimeError):  # no room that can be read, or no thread: `mlops-course progress` says so, not a check
        if room := _room():
            threading.Thread(target=_deliver_quietly, args=(room,), daemon=True).start()


def classroom() -> Joined | None:
    """Where results go: the server that MLOPS_CLASSROOM names, else the room that was joined, else nowhere.

    What keeps that from being known is printed.
    """
    try:
        return _room()
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
            found.append(event | {"gap": renamed(str(event["gap"])), "what": str(event["what"])})
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

    from mlops_course.course.checks.gaps import derived, stored

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
    """Send what the classroom does not have yet; returns how many events that were.

    Each gap is a tag of the learner's run that says how it stands, so sending twice changes nothing. Raises
    httpx.HTTPError for a server that is away or refuses, such as one that does not know the learner's password, and
    ValueError or httpx.InvalidURL for what is no tracking server; then everything waits for the next time.
    """
    with _sending:
        root = Workspace.locate().root
        happened, _ = events(root / EVENTS)
        since = _sent(root, room, len(happened))
        if since < len(happened):
            _send(room, happened, since=since)
            new = root / f"{SENT}.new"
            new.write_text(f"{len(happened)} {_mark(room)}", encoding="utf-8")
            new.replace(root / SENT)
        return len(happened) - since


def waiting(room: Joined) -> int:
    """How many events the classroom does not have yet."""
    root = Workspace.locate().root
    happened, _ = events(root / EVENTS)
    return len(happened) - _sent(root, room, len(happened))


def _room() -> Joined | None:
    """As `classroom`. Raises JoinError if where results go, or under which name, cannot be known."""
    if not (server := os.environ.get(CLASSROOM)):
        return joined(Workspace.locate().root)
    try:
        return Joined(server, "", os.environ.get(LEARNER) or getpass.getuser(), "")
    except (OSError, KeyError, ImportError) as error:  # by Python's version and the system
        raise JoinError(f"expected your name for the classroom in {LEARNER}; this computer has none for you") from error


def _deliver_quietly(room: Joined) -> None:
    with suppress(Exception):  # whatever a server or a network does, the lines wait; `mlops-course progress` says so
        deliver(room)


def _send(room: Joined, happened: list[dict], *, since: int) -> None:
    """Set tags of the run `progress` in the learner's experiment, over MLflow's REST interface.

    These are the gaps of the events from `since` on; a run that is not there yet gets all of them.
    """
    import httpx

    login = {"auth": (room.learner, room.password)} if room.password else {}
    with httpx.Client(base_url=f"{room.server.rstrip('/')}/api/2.0/mlflow/", timeout=SECONDS, **login) as client:

        def call(path: str, **body: object) -> dict:
            return client.post(path, json=body).raise_for_status().json()

        title = f"{EXPERIMENT}{room.learner}"
        answer = client.get("experiments/get-by-name", params={"experiment_name": title})
        if answer.status_code == 404 and not room.password:  # who joined got it then, and may have been forgotten since
            experiment = call("experiments/create", name=title)["experiment_id"]
        else:
            experiment = answer.raise_for_status().json()["experiment"]["experiment_id"]
        runs = call("runs/search", experiment_ids=[experiment], max_results=1).get("runs")
        run = (runs or [call("runs/create", experiment_id=experiment, run_name="progress")["run"]])[0]
        found = standings(happened)
        gaps = _touched(happened, since=since if runs else 0)
        tags = [{"key": gap, "value": _told(found.get(gap, Standing(gap)))} for gap in gaps]
        for start in range(0, len(tags), TAGS):
            call("runs/log-batch", run_id=run["info"]["run_id"], tags=tags[start : start + TAGS])


def _touched(happened: list[dict], *, since: int) -> list[str]:
    """The gaps that events from `since` on say something about; what is no name of a gap is left out."""
    new = {event["gap"] for event in happened[since:]}  # a reset says it of all gaps of its lesson
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
    """Which classroom it is, and who there: a password that is new belongs to an account that has nothing yet."""
    return f"{room.server} {room.learner} {hashlib.sha256(room.password.encode()).hexdigest()[:8]}"


def _sent(root: Path, room: Joined, happened: int) -> int:
    """How many of the events this classroom has: none if another one was sent to last, or if lines were lost."""
    try:
        count, mark = (root / SENT).read_text(encoding="utf-8").split(maxsplit=1)
        return int(count) if mark == _mark(room) and 0 <= int(count) <= happened else 0
    except (OSError, ValueError):
        return 0


def _notebook(folder: Path, lesson: str) -> list[Path]:
    return sorted(folder.glob(f"[0-9][0-9]_{lesson}.ipynb"))


def _line(standing: Standing) -> str:
    mark = "done" if standing.done else "open" if not (standing.failed or standing.hints) else "begun"
    tried = [f"{standing.failed} rejected"] * bool(standing.failed) + [f"{standing.hints} hints"] * bool(standing.hints)
    return f"{standing.gap:44} {mark:6} {', '.join(tried)}".rstrip()


def _bar(lesson: str, found: list[Standing]) -> str:
    done = sum(standing.done for standing in found)
    full = round(BAR * done / len(found))
    return f"{number_of(lesson)} {lesson:24}{'█' * full}{'░' * (BAR - full)}  {done} of {len(found)}"
