"""A learner's machine: join a room once, then log runs and models under names that nobody else can have.

What is kept is `classroom.json` in the workspace, readable by its owner only: addresses, name and password.
"""

import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlops_course import __version__
from mlops_course.system.workspace import Workspace

__all__ = ["EXPERIMENT", "NAME", "JoinError", "Joined", "connect", "join", "joined", "registered_name", "write_private"]

FILE = "classroom.json"
ASKED = f".{FILE}.asked"  # what was asked for and not answered yet
EXPERIMENT = "progress of "  # and the learner's name: the experiment that results of checks go to
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")  # fits MLflow's accounts, experiments and file names
SECONDS = 10


class JoinError(RuntimeError):
    """The room cannot be joined; the message says why and what to do."""


@dataclass(frozen=True)
class Joined:
    """What a learner's machine knows of the room."""

    server: str  # address of MLflow
    front: str  # address of the page where one joins
    learner: str
    password: str


def joined(root: Path, *, file: str = FILE) -> Joined | None:
    """What the workspace at `root` knows of a room; None if it never joined one. Raises JoinError for a spoilt file."""
    try:
        return Joined(**json.loads((root / file).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError) as error:
        raise JoinError(f"expected what a room gave in {root / file}, got {error}; delete it and join again") from error


def join(url: str, name: str, *, root: Path) -> Joined:
    """Join the room at `url` (as the teacher's machine prints it, http://HOST:PORT/#CODE) as `name`.

    Joining again as the same learner changes nothing. Raises JoinError, with what to do: no network, a proxy in the
    way, another version, a wrong code, a name that is taken, a room that is full.
    """
    import httpx

    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.fragment:
        raise JoinError(f"expected a line such as http://192.168.1.5:5001/#CODE from the teacher, got {url!r}")
    if not NAME.fullmatch(name):
        raise JoinError(f"expected a name of small letters, digits and -, such as ada or team-7, got {name!r}")
    front = f"{parts.scheme}://{parts.netloc}"
    told = _health(front)
    if told.get("version", "").split(".")[:2] != __version__.split(".")[:2]:
        raise JoinError(
            f"expected the version of the room, {told.get('version', 'unknown')}, got {__version__} here; "
            "install the version that the teacher has"
        )
    if (theirs := told.get("mlflow", "").split(".")[0]) != (ours := version("mlflow").split(".")[0]):
        raise JoinError(f"expected MLflow {theirs} as in the room, got {ours} here; install the teacher's")
    server = f"{parts.scheme}://{parts.hostname}:{told['port']}"
    kept = filter(None, (joined(root), joined(root, file=ASKED)))
    known = next((one for one in kept if (one.front, one.learner) == (front, name)), None)
    here = Joined(server, front, name, known.password if known else secrets.token_urlsafe(18))
    # before it is asked for: if the answer is lost, the next try has the same password
    write_private(root / ASKED, json.dumps(asdict(here)))
    body = {"code": parts.fragment, "name": name, "password": here.password}
    answer = _ask(lambda: httpx.post(f"{front}/join", json=body, timeout=60), front)
    if answer.status_code < 500:
        (root / ASKED).unlink()
    if answer.status_code != 200:
        raise JoinError(answer.json().get("detail", answer.text) if _is_json(answer) else answer.text)
    write_private(root / FILE, json.dumps(asdict(here)))
    return here


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read; it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.chmod(0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def connect() -> Joined:
    """From here on MLflow logs to the room, into the learner's own experiment. Raises JoinError without a room."""
    import mlflow

    here = _must_have_joined()
    os.environ.update(MLFLOW_TRACKING_USERNAME=here.learner, MLFLOW_TRACKING_PASSWORD=here.password)
    mlflow.set_tracking_uri(here.server)
    mlflow.set_experiment(here.learner)
    return here


def registered_name(name: str) -> str:
    """The name under which the room keeps the learner's model `name`."""
    return f"{_must_have_joined().learner}.{name}"


def _must_have_joined() -> Joined:
    if (here := joined(Workspace.locate().root)) is None:
        raise JoinError("expected a room that was joined; paste the teacher's line: mlops-course classroom join URL")
    return here


def _health(front: str) -> dict:
    import httpx

    answer = _ask(lambda: httpx.get(f"{front}/health", timeout=SECONDS), front)
    if not (_is_json(answer) and "learners" in answer.json()):
        raise JoinError(f"expected a classroom at {front}, got something else that answers; check host and port")
    if not answer.json().get("ok"):
        raise JoinError(f"the room at {front} is there, but its server does not answer; tell the teacher")
    return answer.json()


def _ask(call: Callable[[], Any], front: str) -> Any:
    """Return what the room answers. Raises JoinError, which tells a proxy from a missing network."""
    import httpx

    try:
        answer = call()
        if answer.status_code not in (502, 503, 504) or _is_json(answer):
            return answer
        cause = f"status {answer.status_code}"
    except httpx.TransportError as error:
        cause = str(error)
    proxies = [name for name, value in os.environ.items() if name.lower() in ("http_proxy", "all_proxy") and value]
    host = urllib.parse.urlsplit(front).hostname
    if proxies:
        with suppress(httpx.TransportError):
            httpx.get(f"{front}/health", timeout=SECONDS, trust_env=False)
            raise JoinError(f"a proxy ({', '.join(proxies)}) stands between you and {host}; set NO_PROXY={host}")
    raise JoinError(
        f"nothing answers at {front} ({cause}); check that you are in the teacher's network and that host and port are "
        "as on the wall. If guests are kept apart there, use another network; you can work on without the room"
    )


def _is_json(answer: Any) -> bool:
    return answer.headers.get("content-type", "").startswith("application/json")
