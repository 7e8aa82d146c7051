"""Record what a learner tries, and send it to the classroom that the learner has joined.

Each gap is a tag of the learner's run on MLflow that says how it stands, so sending it twice changes nothing.
"""

import getpass
import hashlib
import json
import os
import re
import threading
from contextlib import suppress

from mlops_course.course.progress.client import EXPERIMENT, Joined, JoinError, joined, write_private
from mlops_course.course.progress.journal import SENT, Standing, append, events, standings
from mlops_course.system.workspace import Workspace

__all__ = ["classroom", "deliver", "record", "waiting"]

CLASSROOM = "MLOPS_CLASSROOM"  # address of a tracking server without passwords, instead of a room that was joined
LEARNER = "MLOPS_LEARNER"  # name there; the user's name if not given
TAGS = 100  # that MLflow takes at once; with one more, it refuses them all
VALUE = 5_000  # characters of a tag's value: MLflow 3 cuts off what is over 8000, older servers refuse over 5000
MESSAGE = 500  # characters of a message that are sent
KEY = re.compile(r"[a-z]\w{1,60}\.\w{1,60}")  # a gap; MLflow refuses a batch in which one key is too long or strange
SECONDS = 3.0  # that a server may take to answer

_sending = threading.Lock()


def record(gap: str, what: str, message: str = "") -> None:
    """Keep an event, and send what waits to the classroom in the background. Never stops a learner.

    A check that belongs to no lesson, such as one in a test, is not kept.
    """
    if "." not in gap and what != "reset":
        return
    try:
        append(gap, what, message)
    except OSError as error:
        print(f"(This result was not kept: {error})")
        return
    with suppress(RuntimeError):  # no room that can be read, or no thread: `mlops-course progress` says so, not a check
        if room := _room():
            threading.Thread(target=deliver_quietly, args=(room,), daemon=True).start()


def classroom() -> Joined | None:
    """Where results go: the server that MLOPS_CLASSROOM names, else the room that was joined, else nowhere.

    If that cannot be known, the reason is printed.
    """
    try:
        return _room()
    except JoinError as error:
        print(f"(Results are not sent: {error})")
        return None


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


def waiting(room: Joined) -> int:
    """How many events the classroom does not have yet."""
    happened, _ = events()
    return len(happened) - _sent(room, len(happened))


def _room() -> Joined | None:
    """As `classroom`. Raises JoinError if address or name cannot be known."""
    if not (server := os.environ.get(CLASSROOM)):
        return joined(Workspace.locate().root)
    try:
        return Joined(server, "", os.environ.get(LEARNER) or getpass.getuser(), "")
    except (OSError, KeyError, ImportError) as error:  # by Python's version and the system
        raise JoinError(f"expected your name for the classroom in {LEARNER}; this computer has none for you") from error


def _send(room: Joined, happened: list[dict], *, since: int) -> None:
    """Set tags of the run `progress` in the learner's experiment, over MLflow's REST interface.

    A run that is there gets the gaps of the events from `since` on, a new run gets all of them.
    """
    import httpx

    login = {"auth": (room.learner, room.password)} if room.password else {}
    with httpx.Client(base_url=f"{room.server.rstrip('/')}/api/2.0/mlflow/", timeout=SECONDS, **login) as client:

        def call(path: str, **body: object) -> dict:
            return client.post(path, json=body).raise_for_status().json()

        title = f"{EXPERIMENT}{room.learner}"
        answer = client.get("experiments/get-by-name", params={"experiment_name": title})
        if answer.status_code == 404 and not room.password:  # a room makes it for a learner who joins, and forgets it
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
