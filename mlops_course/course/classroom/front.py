"""The pages in front of the room: where learners join, whether all is well, and the teacher's board.

    /          who may join, in words
    /health    whether MLflow and the store answer, the version, how many have joined
    /join      code and name, and the password that the learner's machine has chosen
    /board     for the teacher only (HTTP basic authentication)

These pages only open accounts and read the store. MLflow checks every later call by itself.
"""

import math
import secrets
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, Field

from mlops_course import __version__
from mlops_course.course.classroom import board
from mlops_course.course.classroom.room import TEACHER, Room
from mlops_course.course.progress.client import EXPERIMENT, NAME
from mlops_course.operations.deployment import serving

__all__ = ["Accounts", "application"]

SECONDS = 30
GUESSES = 60  # wrong codes or passwords that one address may send at once: a room behind it may mistype once each
SECONDS_A_GUESS = 10  # after which it may send one more


class Accounts:
    """The accounts of MLflow, which the teacher manages."""

    def __init__(self, room: Room) -> None:
        self.room = room

    def call(
        self, path: str, *, as_: tuple[str, str] | None = None, method: str = "POST", **body: Any
    ) -> httpx.Response:
        """Ask MLflow; `path` begins with the version of its interface, such as 2.0/mlflow/users/create."""
        sent = {"params": body} if method == "GET" else {"json": body}
        login = as_ or (TEACHER, self.room.password)
        address = f"{self.room.address}/api/{path}"
        return httpx.request(method, address, auth=login, timeout=SECONDS, trust_env=False, **sent)

    def names(self) -> list[str]:
        """Learners who have joined. Raises httpx.HTTPError if MLflow does not answer."""
        found = self.call("2.0/mlflow/users/list", method="GET").raise_for_status().json()["users"]
        return sorted(one["username"] for one in found if one["username"] != TEACHER)

    def knows(self, name: str, password: str) -> bool:
        """Whether this is the learner's password."""
        answer = self.call("2.0/mlflow/users/current", as_=(name, password), method="GET")
        return answer.status_code == 200

    def open(self, name: str, password: str) -> bool:
        """Open an account; False if the name is taken."""
        answer = self.call("2.0/mlflow/users/create", username=name, password=password)
        if answer.status_code != 200 and "ALREADY_EXISTS" in answer.text:
            return False
        answer.raise_for_status()
        return True

    def lock(self, name: str, password: str) -> None:
        """Change a password, so that MLflow refuses every call of the learner's machine."""
        path = "2.0/mlflow/users/update-password"
        self.call(path, method="PATCH", username=name, password=password).raise_for_status()

    def close(self, name: str) -> None:
        """Delete an account."""
        self.call("2.0/mlflow/users/delete", method="DELETE", username=name)

    def holds(self, name: str) -> dict[str, set[str]]:
        """What a learner may manage, by kind: MLflow gives that to whoever creates something."""
        answer = self.call("3.0/mlflow/users/permissions/list", method="GET", username=name).raise_for_status()
        held: dict[str, set[str]] = {}
        for one in answer.json()["permissions"]:
            if one["permission"] == "MANAGE":
                held.setdefault(one["resource_type"], set()).add(one["resource_pattern"])
        return held

    def equip(self, name: str, password: str) -> bool:
        """Create the learner's two experiments, one for runs and one for results of checks; False if one is not theirs.

        Anybody may create an experiment of any name, so somebody else may have made it before.
        """
        for title in (name, f"{EXPERIMENT}{name}"):
            answer = self.call("2.0/mlflow/experiments/create", as_=(name, password), name=title)
            if answer.status_code != 200 and "ALREADY_EXISTS" not in answer.text:
                answer.raise_for_status()
            path = "2.0/mlflow/experiments/get-by-name"
            if self.call(path, as_=(name, password), method="GET", experiment_name=title).status_code != 200:
                return False
        return True


class Guesses:
    """How many wrong codes or passwords each address has sent lately.

    An address at its limit is not answered whether a guess is right. So one who guesses holds up those who want to join
    from the same address, but nobody who has joined: they never come here again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._free_at, self._lock = clock, {}, threading.Lock()

    def check(self, request: Request, sent: str, right: str) -> bool:
        """Whether a secret is right. Raises HTTPException 429 if its address has sent too many wrong ones."""
        address, now = request.client.host if request.client else "", self._clock()
        with self._lock:
            self._free_at = {known: free for known, free in self._free_at.items() if free > now}
            free_at = self._free_at.get(address, now)
            if (wait := free_at - now - (GUESSES - 1) * SECONDS_A_GUESS) > 0:
                after = {"Retry-After": str(math.ceil(wait))}
                raise HTTPException(429, f"too many wrong attempts; try again in {math.ceil(wait)} s", headers=after)
            if is_right := secrets.compare_digest(sent.encode(), right.encode()):
                return is_right
            self._free_at[address] = free_at + SECONDS_A_GUESS
        return False


class Joining(BaseModel):
    """What a learner's machine sends."""

    code: str = Field(max_length=100)
    name: str = Field(max_length=100)
    password: str = Field(min_length=16, max_length=100)  # made and kept by the learner's machine before it asks


def application(room: Room, *, clock: Callable[[], float] = time.monotonic) -> FastAPI:
    """The pages of an open room, as an application."""
    app = FastAPI(title="Classroom", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(serving.Guard, hosts=room.host_names)
    accounts, login, one_at_a_time = Accounts(room), HTTPBasic(), threading.Lock()
    guesses = Guesses(clock)

    def teacher(request: Request, sent: HTTPBasicCredentials = Depends(login)) -> None:  # noqa: B008
        right = guesses.check(request, sent.password, room.password)
        if not (right and secrets.compare_digest(sent.username.encode(), TEACHER.encode())):
            raise HTTPException(401, "the board is the teacher's", headers={"WWW-Authenticate": "Basic"})

    @app.get("/", response_class=PlainTextResponse)
    def welcome(request: Request) -> str:
        return f"Paste the line that the teacher shows: mlops-course classroom join {request.base_url}#CODE\n"

    @app.get("/health")
    def health() -> dict[str, Any]:
        facts = {"version": __version__, "mlflow": version("mlflow"), "port": room.port}
        try:
            return {"ok": True, "learners": len(accounts.names()), **facts}
        except httpx.HTTPError:
            return {"ok": False, "learners": None, **facts}

    @app.post("/join")
    def join(request: Request, sent: Joining) -> dict[str, Any]:
        if not guesses.check(request, sent.code, room.code):
            raise HTTPException(403, "this is not the code of the room; paste the teacher's line once more")
        if not NAME.fullmatch(sent.name) or sent.name == TEACHER:
            raise HTTPException(422, "expected a name of small letters, digits and -, and not the teacher's")
        try:
            with one_at_a_time:  # else all who come at once find the last seat free
                is_new = _opened(accounts, sent.name, sent.password)
            mine = is_new or accounts.knows(sent.name, sent.password)
            if not (mine and accounts.equip(sent.name, sent.password)):
                if is_new:
                    accounts.close(sent.name)
                raise HTTPException(
                    409, f"the name {sent.name} is taken; choose another: --name. If it was you, ask the teacher"
                )
        except httpx.HTTPError as error:  # an account may be there: asking again with its password goes on from there
            raise HTTPException(503, f"the room's server does not answer ({error}); tell the teacher") from error
        return {"port": room.port}

    @app.get("/board", response_class=HTMLResponse, dependencies=[Depends(teacher)])
    def shown(names: bool = True) -> str:
        try:
            joined = len(accounts.names())
        except httpx.HTTPError as error:
            raise HTTPException(503, f"MLflow does not answer ({error}); see {room.folder / 'mlflow.log'}") from error
        return board.page(board.standings(room.client()), joined=joined, names=names)

    return app


def _opened(accounts: Accounts, name: str, password: str) -> bool:
    """Open an account if the name is free and a seat is left. Raises HTTPException for a full room."""
    names, room = accounts.names(), accounts.room
    if name not in names and len(names) >= room.capacity:
        why = "; SQLite lets one write at a time, PostgreSQL takes more" if room.store == "sqlite" else ""
        raise HTTPException(409, f"the room is full: {room.capacity} have joined{why}. Work on without it")
    return name not in names and accounts.open(name, password)
