"""The room: MLflow with passwords, its store, and the page in front of it, in one folder of the teacher's machine.

room.json       settings and secrets, readable by their owner only
running.json    process and addresses while the room is open
postgres/       the databases, unless a URL was given or PostgreSQL is not installed
artifacts/      what learners log as files
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mlops_course.course.classroom import postgres
from mlops_course.course.classroom.machine import Child, RoomError, end_family, expect_free, free_port, is_free
from mlops_course.course.progress.client import write_private

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Room"]

TEACHER = "teacher"
PORT = 5000  # of MLflow, if none is named
SMALL = 5  # learners that SQLite serves, which lets one write at a time. Sixty at the pace of a lesson were served too;
# at three times that pace calls waited up to 35 s, and 35 of 6,330 failed (benchmarks/classroom.py, November 2026).
LARGE = 60  # that this was measured with
SECONDS = 90  # that MLflow may take to answer after its start
SAME_SECONDS = 2.0  # between two readings of when a process began; a number is not reused within them
LOOK_SECONDS = 2.0  # how often to look whether MLflow and PostgreSQL are alive
PASSWORD_SECONDS = 30  # that a worker of MLflow trusts a password it has checked: checking costs 30 ms of processor
DATABASES = ("accounts", "mlflow")  # a backup takes accounts first: then none has a right to what is not there yet
SETTINGS, RUNNING = "room.json", "running.json"
INI = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {accounts}
admin_username = {teacher}
admin_password = {password}
authorization_function = mlops_course.course.classroom.login:authenticate
auth_cache_ttl_seconds = {seconds}
"""


@dataclass(frozen=True)
class Room:
    """A room in a folder, as its settings say."""

    folder: Path
    store: str  # "postgresql" of its own, "sqlite", or the SQLAlchemy URL of a PostgreSQL database
    port: int  # of MLflow; the page in front of it has the next one
    postgres_port: int
    code: str  # that learners join with
    password: str  # of the teacher
    secret: str  # of PostgreSQL and of MLflow's sessions
    host: str = "127.0.0.1"  # where it listened when it was opened last
    names: tuple[str, ...] = ()  # other names of this machine that learners use

    @classmethod
    def make(
        cls, folder: Path, *, store: str = "", port: int | None = None, host: str = "", names: Sequence[str] = ()
    ) -> "Room":
        """Return the room in a folder, made if there is none. Raises RoomError if it was made with another store.

        A new port, host or list of names goes into the settings when the room is opened, and so does a new port for
        PostgreSQL, which it gets if its old one is taken.
        """
        folder = folder.resolve()
        file = folder / SETTINGS
        if file.exists():
            room = cls(folder, **json.loads(file.read_text(encoding="utf-8")))
            if store and store != room.store:
                raise RoomError(f"expected the store that this room was made with, {room.store}; got {store}")
            room = replace(room, port=port or room.port, host=host or room.host, names=tuple(names or room.names))
            if room.cluster and not is_free("127.0.0.1", room.postgres_port) and not room.cluster.alive():
                room = replace(room, postgres_port=free_port())  # somebody took it while the room was closed
            return room
        if not store:
            store = "postgresql" if postgres.programs() and find_spec("psycopg") else "sqlite"
        elif store not in ("postgresql", "sqlite") and not store.startswith("postgresql"):
            raise RoomError(f"expected postgresql, sqlite or the URL of a PostgreSQL database as store, got {store!r}")
        secrets = {"password": postgres.new_password(), "secret": postgres.new_password()}
        secrets |= {"code": postgres.new_password()[:8]}
        room = cls(folder, store, port or PORT, free_port(), host=host or cls.host, names=tuple(names), **secrets)
        folder.mkdir(parents=True, exist_ok=True)
        room.save()
        return room

    def save(self) -> None:
        """Write the settings, and let nobody but their owner into the folder: databases, logs and files lie there."""
        another_account = self.cluster and postgres._is_superuser()  # that of PostgreSQL, which must get to its folder
        self.folder.chmod(0o711 if another_account else 0o700)
        settings = asdict(self)
        del settings["folder"]
        write_private(self.folder / SETTINGS, json.dumps(settings, indent=1))

    @property
    def cluster(self) -> postgres.Cluster | None:
        """The PostgreSQL server in the folder, if the store is one."""
        if self.store != "postgresql":
            return None
        return postgres.Cluster(self.folder / "postgres", self.postgres_port, self.secret)

    @property
    def capacity(self) -> int:
        """How many learners may join."""
        return SMALL if self.store == "sqlite" else LARGE

    @property
    def artifacts(self) -> Path:
        """Where files of runs lie."""
        return self.folder / "artifacts"

    def database(self, name: str) -> str:
        """The URL of the database of runs ("mlflow") or of accounts ("accounts")."""
        if self.cluster:
            return self.cluster.url(name)
        if self.store == "sqlite":
            return f"sqlite:///{(self.folder / f'{name}.db').as_posix()}"
        return self.store if name == "mlflow" else f"{self.store}_accounts"

    def client(self) -> "MlflowClient":
        """A client of MLflow that reads the store without a server in between."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.database("mlflow"), registry_uri=self.database("mlflow"))

    @property
    def stores(self) -> list[str]:
        """Where runs and files lie, as options of MLflow's commands; passwords are in `environment`."""
        store, _ = postgres.without_password(self.database("mlflow"))
        return ["--backend-store-uri", store, "--artifacts-destination", self.artifacts.as_uri()]

    @property
    def address(self) -> str:
        """Where MLflow answers, seen from this machine."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    @property
    def host_names(self) -> tuple[str, ...]:
        """By which names and addresses learners know this machine; requests under others are refused."""
        from mlops_course.operations.deployment import serving

        return serving.host_names(self.host, also=self.names)

    def running(self) -> dict[str, Any] | None:
        """Process and addresses of an open room. None if it is closed, or if another process has its number now."""
        with suppress(OSError, ValueError, KeyError, psutil.Error):
            found = json.loads((self.folder / RUNNING).read_text(encoding="utf-8"))
            if abs(psutil.Process(found["pid"]).create_time() - found["since"]) < SAME_SECONDS:
                return found
        return None

    def _start(self, mlflow: Child) -> None:
        """Start MLflow, write down which processes these are, and wait for its answer. Raises RoomError without one."""
        mlflow.start()
        since = psutil.Process().create_time()
        running = {"pid": os.getpid(), "since": since, "mlflow": mlflow.process.pid, "address": self.address}
        write_private(self.folder / RUNNING, json.dumps(running))
        if not mlflow.answers(self.address, seconds=SECONDS):
            why = f"did not answer within {SECONDS} s" if mlflow.alive() else "ended"
            raise RoomError(f"MLflow {why}; the end of {mlflow.log}:\n{mlflow.last_words()}")

    @contextmanager
    def open(self, *, say: Any = print) -> Iterator["Room"]:
        """Start all that the room needs, and stop it when the block ends. What dies in between is started again.

        Raises RoomError if the room is open already, a port is taken, or MLflow does not answer in time.
        """
        if found := self.running():
            raise RoomError(f"expected a closed room, this one is open as process {found['pid']}; close it first")
        self.clear()
        expect_free(self.host, self.port, "MLflow")
        self.save()
        stopping = threading.Event()
        mlflow = Child(self._command(), self.environment(), self.folder / "mlflow.log")
        watcher = threading.Thread(target=self._watch, args=(mlflow, stopping, say), daemon=True)
        try:
            self.prepare()
            self._start(mlflow)
            watcher.start()
            yield self
        finally:
            stopping.set()
            if watcher.is_alive():
                watcher.join(SECONDS)
            mlflow.stop()
            self.clear()

    def clear(self) -> None:
        """End MLflow and PostgreSQL if a room that was killed has left them behind. Only for a room that is closed."""
        with suppress(OSError, ValueError, KeyError, psutil.Error):
            pid = json.loads((self.folder / RUNNING).read_text(encoding="utf-8"))["mlflow"]
            if self.artifacts.as_uri() in psutil.Process(pid).cmdline():
                end_family(pid)
        self.close_store()
        (self.folder / RUNNING).unlink(missing_ok=True)

    def prepare(self) -> None:
        """Start the store, and write the file of passwords for MLflow. Raises RoomError."""
        self.artifacts.mkdir(0o700, exist_ok=True)
        if self.cluster:
            self.cluster.make()
            self.cluster.start()
            self.cluster.create_databases(DATABASES)
        accounts = self.database("accounts").replace("%", "%%")
        text = INI.format(accounts=accounts, teacher=TEACHER, password=self.password, seconds=PASSWORD_SECONDS)
        write_private(self.folder / "accounts.ini", text)

    def close_store(self) -> None:
        """Stop the room's own PostgreSQL, if it has one."""
        if self.cluster:
            self.cluster.stop()

    def _watch(self, mlflow: Child, stopping: threading.Event, say: Any) -> None:
        """Start again what has died, until the room is closed."""
        while not stopping.wait(LOOK_SECONDS):
            try:
                if self.cluster and not self.cluster.runs():
                    say("PostgreSQL was gone and is started again; what it had acknowledged is there.")
                    self.cluster.start()
                if not mlflow.alive():
                    say("MLflow was gone and is started again.")
                    self._start(mlflow)
            except (RoomError, postgres.PostgresError, OSError, subprocess.SubprocessError) as error:
                say(f"It could not be started again, and is tried once more: {error}")

    def _command(self) -> list[str]:
        workers = "1" if self.store == "sqlite" else str(max(2, min(4, os.cpu_count() or 2)))
        where = ["--host", self.host, "--port", str(self.port), "--workers", workers]
        where += ["--uvicorn-opts", "--no-access-log"]  # it would keep the names of those who are forgotten
        names = [f"[{name}]" if ":" in name else name for name in self.host_names]
        where += ["--allowed-hosts", ",".join([*names, *(f"{name}:{self.port}" for name in names)])]
        where += ["--cors-allowed-origins", ",".join(f"http://{name}:{self.port}" for name in names)]
        return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *self.stores, *where]

    def call(self, *command: str, **environment: str) -> None:
        """Run a command of MLflow on the room, such as mlflow gc. Raises RoomError with the end of what it said."""
        variables = {**os.environ, **self.environment(), **environment}
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=variables)
        if done.returncode != 0:
            raise RoomError(f"{command[0]} {command[1]} failed: {done.stderr[-1_000:]}")

    def environment(self) -> dict[str, str]:
        """Variables that MLflow needs for this room."""
        _, login = postgres.without_password(self.database("mlflow"))
        return {
            **login,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "accounts.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.secret,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nobody here runs jobs, and each worker of them has 230 MB
        }
