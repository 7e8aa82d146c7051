"""The room: MLflow with passwords, its store, and the page in front of it, in one folder of the teacher's machine.

Room.make     the folder with its settings: passwords, ports, and where the store is
Room.open     everything runs until the block ends; what dies in between is started again
backup, restore, upgrade    the whole room in one file, and back from it

room.json       settings and secrets, readable by their owner only
running.json    process and addresses while the room is open
postgres/       the databases, unless a URL was given or PostgreSQL is not installed
artifacts/      what learners log as files
"""

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_course.course.classroom import postgres

__all__ = ["Room", "RoomError", "backup", "counts", "expect_free", "free_port", "restore", "store_runs", "upgrade"]

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
HELD = {"accounts": ("users",), "mlflow": ("experiments", "runs", "model_versions")}  # tables that are counted
SETTINGS, RUNNING = "room.json", "running.json"
INI = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {accounts}
admin_username = {teacher}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = {seconds}
"""


class RoomError(RuntimeError):
    """The room cannot do what it was asked for; the message says why and what to do."""


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

    @classmethod
    def make(cls, folder: Path, *, store: str = "", port: int | None = None, host: str = "") -> "Room":
        """The room in a folder, made if there is none. Raises RoomError if it was made with another store.

        Another port or host than before goes into the settings when the room is opened, so does another port for
        PostgreSQL if its old one is taken.
        """
        folder = folder.resolve()
        file = folder / SETTINGS
        if file.exists():
            room = cls(folder, **json.loads(file.read_text(encoding="utf-8")))
            if store and store != room.store:
                raise RoomError(f"expected the store that this room was made with, {room.store}; got {store}")
            room = replace(room, port=port or room.port, host=host or room.host)
            if room.cluster and not _is_free("127.0.0.1", room.postgres_port) and not room.cluster.alive():
                room = replace(room, postgres_port=free_port())  # somebody took it while the room was closed
            return room
        if not store:
            store = "postgresql" if postgres.programs() and _has_psycopg() else "sqlite"
        elif store not in ("postgresql", "sqlite") and not store.startswith("postgresql"):
            raise RoomError(f"expected postgresql, sqlite or the URL of a PostgreSQL database as store, got {store!r}")
        secrets = {"password": postgres.new_password(), "secret": postgres.new_password()}
        room = cls(folder, store, port or PORT, free_port(), code=postgres.new_password()[:8], **secrets)
        room = replace(room, host=host or room.host)
        folder.mkdir(parents=True, exist_ok=True)
        room.save()
        return room

    def save(self) -> None:
        """Write the settings, readable by their owner only."""
        settings = {name: value for name, value in asdict(self).items() if name != "folder"}
        _write_secret(self.folder / SETTINGS, json.dumps(settings, indent=1))

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

    @property
    def address(self) -> str:
        """Where MLflow answers, seen from this machine."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    def running(self) -> dict[str, Any] | None:
        """Process and addresses if the room is open, else None, also if another process has its number now."""
        import psutil

        with suppress(OSError, ValueError, KeyError, psutil.Error):
            found = json.loads((self.folder / RUNNING).read_text(encoding="utf-8"))
            if abs(psutil.Process(found["pid"]).create_time() - found["since"]) < SAME_SECONDS:
                return found
        return None

    def _tell(self, mlflow: "_Child") -> None:
        """Write down which processes these are."""
        import psutil

        since = psutil.Process().create_time()
        running = {"pid": os.getpid(), "since": since, "mlflow": mlflow.pid, "address": self.address}
        _write_secret(self.folder / RUNNING, json.dumps(running))

    @contextmanager
    def open(self, *, say: Any = print) -> Iterator["Room"]:
        """Start all that the room needs, and stop it when the block ends. What dies in between is started again.

        Raises RoomError if the room is open already, a port is taken, or MLflow does not answer in time.
        """
        if found := self.running():
            raise RoomError(
                f"expected a room that is closed, this one is open as process {found['pid']}; close it first"
            )
        self._end_leftovers()
        expect_free(self.host, self.port, "MLflow")
        self.save()
        stopping = threading.Event()
        mlflow = _Child(self._command(), self._environment(), self.folder / "mlflow.log")
        watcher = threading.Thread(target=self._watch, args=(mlflow, stopping, say), daemon=True)
        try:
            self.prepare()
            mlflow.start()
            self._tell(mlflow)
            self.wait(mlflow)
            watcher.start()
            yield self
        finally:
            stopping.set()
            if watcher.is_alive():
                watcher.join(SECONDS)
            mlflow.stop()
            self.close_store()
            (self.folder / RUNNING).unlink(missing_ok=True)

    def clear(self) -> None:
        """End what a room that was killed has left behind: MLflow and PostgreSQL. Only for a room that is closed."""
        self._end_leftovers()
        self.close_store()
        (self.folder / RUNNING).unlink(missing_ok=True)

    def _end_leftovers(self) -> None:
        """A room that was killed leaves MLflow behind, which holds the port."""
        import psutil

        with suppress(OSError, ValueError, KeyError, psutil.Error):
            pid = json.loads((self.folder / RUNNING).read_text(encoding="utf-8"))["mlflow"]
            if self.artifacts.as_uri() in psutil.Process(pid).cmdline():
                _end_family(pid)

    def prepare(self) -> None:
        """The store is there and answers, and the file of passwords for MLflow is written. Raises RoomError."""
        self.artifacts.mkdir(exist_ok=True)
        if self.cluster:
            self.cluster.make()
            self.cluster.start()
            self.cluster.create_databases(DATABASES)
        accounts = self.database("accounts").replace("%", "%%")
        text = INI.format(accounts=accounts, teacher=TEACHER, password=self.password, seconds=PASSWORD_SECONDS)
        _write_secret(self.folder / "accounts.ini", text)

    def close_store(self) -> None:
        """Stop the room's own PostgreSQL, if it has one."""
        if self.cluster:
            self.cluster.stop()

    def wait(self, mlflow: "_Child") -> None:
        """Until MLflow answers. Raises RoomError with the end of its log if it ends or takes too long."""
        import httpx

        until = time.monotonic() + SECONDS
        while time.monotonic() < until and mlflow.alive():
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/health", timeout=2, trust_env=False).status_code == 200:
                    return
            time.sleep(0.2)
        why = f"did not answer within {SECONDS} s" if mlflow.alive() else "ended"
        raise RoomError(f"MLflow {why}; the end of {mlflow.log}:\n{mlflow.last_words()}")

    def _watch(self, mlflow: "_Child", stopping: threading.Event, say: Any) -> None:
        """Start again what has died, until the room is closed."""
        while not stopping.wait(LOOK_SECONDS):
            try:
                if self.cluster and not self.cluster.runs():
                    say("PostgreSQL was gone and is started again; what it had acknowledged is there.")
                    self.cluster.start()
                if not mlflow.alive():
                    say("MLflow was gone and is started again.")
                    mlflow.start()
                    self._tell(mlflow)
                    self.wait(mlflow)
            except (RoomError, postgres.PostgresError, OSError, subprocess.SubprocessError) as error:
                say(f"It could not be started again, and is tried once more: {error}")

    def _command(self) -> list[str]:
        workers = "1" if self.store == "sqlite" else str(max(2, min(4, os.cpu_count() or 2)))
        store, _ = postgres.without_password(self.database("mlflow"))
        stores = ["--backend-store-uri", store, "--artifacts-destination", self.artifacts.as_uri()]
        where = ["--host", self.host, "--port", str(self.port), "--workers", workers]
        where += ["--uvicorn-opts", "--no-access-log"]  # it would keep the names of those who are forgotten
        if self.host not in ("127.0.0.1", "localhost"):
            where += ["--allowed-hosts", "*"]  # by any name: whoever asks has to know a password
            where += ["--cors-allowed-origins", ",".join(self._origins())]
        return [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *stores, *where]

    def _origins(self) -> list[str]:
        """The addresses under which browsers of the room can know this machine; MLflow refuses pages from others."""
        import psutil

        addresses = {one.address for of in psutil.net_if_addrs().values() for one in of if one.family == socket.AF_INET}
        names = {self.host, socket.gethostname(), socket.getfqdn(), f"{socket.gethostname()}.local"}
        return [f"http://{name}:{self.port}" for name in sorted(addresses | names)]

    def _environment(self) -> dict[str, str]:
        _, login = postgres.without_password(self.database("mlflow"))
        return {
            **login,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "accounts.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.secret,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nobody here runs jobs, and each worker of them has 230 MB
        }


class _Child:
    """A process with children of its own, all of which end with it."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.command, self.environment, self.log = command, environment, log
        self.process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        self.stop()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End it and its children, gently and then not."""
        if self.process is None:
            return
        _end_family(self.pid)
        self.process.wait(10)
        self.process = None

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-1_500:]


def _end_family(pid: int) -> None:
    """End a process and its children, also those that outlived it: they are in its group, and hold its port."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        for one in psutil.wait_procs(family, timeout=10)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


# The whole room in one file -------------------------------------------------------------------------------------------


def counts(room: Room) -> dict[str, int]:
    """How many accounts, experiments, runs, and versions of models the store holds. It has to answer."""
    found: dict[str, int] = {}
    for name in DATABASES:
        with _connected(room.database(name)) as connection:
            found |= _counted(connection, name)
    return found


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    """A connection that sees the database as of its first question, whatever others write."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
    finally:
        engine.dispose()


def _counted(connection: Any, database: str) -> dict[str, int]:
    import sqlalchemy

    count = "SELECT count(*) FROM {}".format
    return {table: connection.execute(sqlalchemy.text(count(table))).scalar_one() for table in HELD[database]}


@contextmanager
def store_runs(room: Room) -> Iterator[None]:
    """The store answers within the block, and afterwards is as it was before."""
    if not (room.folder / "accounts.ini").exists():
        raise RoomError(f"expected a room that was open at least once, {room.folder} was not; nothing is in it")
    started = room.cluster is not None and not room.cluster.runs()
    if started:
        room.cluster.start()
    try:
        yield
    finally:
        if started:
            room.cluster.stop()


def backup(room: Room, file: Path) -> dict[str, int]:
    """Write the whole room to a .tar.gz file, open or closed; returns what it holds. Each database is of one moment.

    The file is there whole or not at all, and holds the passwords: keep it like one. Raises RoomError if it exists.
    """
    if file.exists():
        raise RoomError(f"expected a new file for the backup, {file} exists; give it another name")
    with store_runs(room), tempfile.TemporaryDirectory(dir=file.resolve().parent) as place:
        holds = _dump(room, Path(place))
        kind = "sqlite" if room.store == "sqlite" else "postgresql"
        told = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "holds": holds, "store": kind}
        (Path(place) / "backup.json").write_text(json.dumps(told), encoding="utf-8")
        whole = Path(place) / "room.tar.gz"
        with tarfile.open(whole, "w:gz") as archive:
            for name in ("backup.json", *(f"{name}.dump" for name in DATABASES)):
                archive.add(Path(place) / name, name)
            archive.add(room.folder / SETTINGS, SETTINGS)
            archive.add(room.artifacts, "artifacts")
        whole.chmod(0o600)
        whole.replace(file)
    return holds


def _dump(room: Room, folder: Path) -> dict[str, int]:
    """Write each database to a file as it is at one moment, and count what it holds at that same moment."""
    import sqlalchemy

    holds: dict[str, int] = {}
    if room.store == "sqlite":
        for name in DATABASES:
            target = folder / f"{name}.dump"
            source = sqlite3.connect(room.folder / f"{name}.db")
            with closing(source), closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
            with _connected(f"sqlite:///{target.as_posix()}") as connection:
                holds |= _counted(connection, name)
        return holds
    with ExitStack() as stack:
        connections = {name: stack.enter_context(_connected(room.database(name))) for name in DATABASES}
        ask = sqlalchemy.text("SELECT pg_export_snapshot()")
        snapshots = {name: connections[name].execute(ask).scalar_one() for name in DATABASES}  # both before any dump
        for name in DATABASES:
            holds |= _counted(connections[name], name)
            postgres.dump(room.database(name), folder / f"{name}.dump", snapshot=snapshots[name])
    return holds


def restore(file: Path, folder: Path) -> dict[str, int]:
    """Make a room from a backup in a new folder; returns what it holds. Raises RoomError if the folder is in use.

    A room whose store was a URL becomes one with a PostgreSQL of its own. Nothing is there until all of it is.
    """
    import sqlalchemy

    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise RoomError(f"expected a new or empty folder, {folder} has files in it; restore beside it")
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        with tarfile.open(file) as archive:
            archive.extractall(new, filter="data")
        told = json.loads((new / "backup.json").read_text(encoding="utf-8"))
        settings = json.loads((new / SETTINGS).read_text(encoding="utf-8"))
        store = "sqlite" if told["store"] == "sqlite" else "postgresql"
        room = Room(new, **{**settings, "store": store, "host": Room.host, "postgres_port": free_port()})
        room.save()
        _fill(room)
        with store_runs(room):
            found = counts(room)
        if found != told["holds"]:
            raise RoomError(f"expected {told['holds']} from the backup, got {found}; it is damaged or not a backup")
        for name in ("backup.json", *(f"{name}.dump" for name in DATABASES)):
            (new / name).unlink()
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except (KeyError, ValueError, TypeError, FileNotFoundError, tarfile.TarError, EOFError, zlib.error) as error:
        raise RoomError(f"expected a file that `classroom backup` wrote, got {file}: {error}") from error
    except (postgres.PostgresError, sqlalchemy.exc.DatabaseError) as error:
        raise RoomError(f"the databases of {file} cannot be read, it is damaged: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return found


def _fill(room: Room) -> None:
    """Put the databases of a backup into the store of a new room."""
    try:
        room.prepare()
        for name in DATABASES:
            source = room.folder / f"{name}.dump"
            if room.store == "sqlite":
                shutil.copyfile(source, room.folder / f"{name}.db")
            else:
                postgres.load(room.database(name), source)
    finally:
        room.close_store()


def upgrade(room: Room, file: Path) -> str:
    """Bring a closed room's databases up to the MLflow that is installed now, after a backup to `file`.

    Returns what MLflow said. Raises RoomError if the room is open or MLflow refuses; the backup is there then.
    """
    if room.running():
        raise RoomError("expected a room that is closed, this one is open; close it first: mlops-course classroom down")
    backup(room, file)
    commands = (
        ["mlflow", "db", "upgrade", postgres.without_password(room.database("mlflow"))[0]],
        ["mlflow.server.auth", "db", "upgrade", "--url", postgres.without_password(room.database("accounts"))[0]],
    )
    said = []
    with store_runs(room):
        for command in commands:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                capture_output=True,
                text=True,
                env={**os.environ, **room._environment()},
            )
            if done.returncode != 0:
                raise RoomError(f"MLflow could not upgrade the store: {done.stderr[-1_000:]}; the backup is {file}")
            said.append((done.stdout + done.stderr).strip())
    return "\n".join(filter(None, said))


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def expect_free(host: str, port: int, what: str) -> None:
    """Raises RoomError if something listens on the port that `what` needs."""
    try:
        _listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise RoomError(
                f"expected an address of this machine, got {host}; 0.0.0.0 stands for all that it has"
            ) from error
        raise RoomError(
            f"expected port {port} for {what}, it is taken ({error}); stop what listens there, or say --port"
        ) from error


def _is_free(host: str, port: int) -> bool:
    try:
        _listen(host, port)
    except OSError:
        return False
    return True


def _listen(host: str, port: int) -> None:
    with socket.socket() as probe:
        if os.name != "nt":  # there it would let two listen
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _has_psycopg() -> bool:
    from importlib.util import find_spec

    return find_spec("psycopg") is not None


def _write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole."""
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.chmod(0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(file)
