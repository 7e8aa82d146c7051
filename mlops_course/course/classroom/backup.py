"""The whole room in one file, back from it, and brought up to another version of MLflow."""

import json
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy

from mlops_course.course.classroom import postgres
from mlops_course.course.classroom.machine import RoomError, free_port
from mlops_course.course.classroom.room import DATABASES, SETTINGS, Room

__all__ = ["backup", "connected", "counts", "restore", "store_runs", "upgrade"]

COUNTED = {"accounts": ("users",), "mlflow": ("experiments", "runs", "model_versions")}  # tables
DUMPS = {name: f"{name}.dump" for name in DATABASES}
ABOUT = "backup.json"  # when it was made, of which kind of store, and what it holds


def counts(room: Room) -> dict[str, int]:
    """How many accounts, experiments, runs, and versions of models the store holds. It has to answer."""
    found: dict[str, int] = {}
    for name in DATABASES:
        with connected(room.database(name)) as connection:
            found |= _counted(connection, name)
    return found


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection that sees the database as of its first question, whatever others write."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
    finally:
        engine.dispose()


def _counted(connection: Any, database: str) -> dict[str, int]:
    count = "SELECT count(*) FROM {}".format
    return {table: connection.execute(sqlalchemy.text(count(table))).scalar_one() for table in COUNTED[database]}


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
        (Path(place) / ABOUT).write_text(json.dumps(told), encoding="utf-8")
        whole = Path(place) / "room.tar.gz"
        with tarfile.open(whole, "w:gz") as archive:
            for name in (ABOUT, *DUMPS.values()):
                archive.add(Path(place) / name, name)
            archive.add(room.folder / SETTINGS, SETTINGS)
            archive.add(room.artifacts, "artifacts")
        whole.chmod(0o600)
        whole.replace(file)
    return holds


def _dump(room: Room, folder: Path) -> dict[str, int]:
    """Write each database to a file as it is at one moment, and count what it holds at that same moment."""
    holds: dict[str, int] = {}
    if room.store == "sqlite":
        for name in DATABASES:
            target = folder / DUMPS[name]
            source = sqlite3.connect(room.folder / f"{name}.db")
            with closing(source), closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
            with connected(f"sqlite:///{target.as_posix()}") as connection:
                holds |= _counted(connection, name)
        return holds
    with ExitStack() as stack:
        connections = {name: stack.enter_context(connected(room.database(name))) for name in DATABASES}
        ask = sqlalchemy.text("SELECT pg_export_snapshot()")
        snapshots = {name: connections[name].execute(ask).scalar_one() for name in DATABASES}  # both before any dump
        for name in DATABASES:
            holds |= _counted(connections[name], name)
            postgres.dump(room.database(name), folder / DUMPS[name], snapshot=snapshots[name])
    return holds


def restore(file: Path, folder: Path) -> dict[str, int]:
    """Make a room from a backup in a new folder; returns what it holds. Raises RoomError if the folder is in use.

    A room whose store was a URL becomes one with a PostgreSQL of its own. Nothing is there until all of it is.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise RoomError(f"expected a new or empty folder, {folder} has files in it; restore beside it")
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        with tarfile.open(file) as archive:
            archive.extractall(new, filter="data")
        told = json.loads((new / ABOUT).read_text(encoding="utf-8"))
        settings = json.loads((new / SETTINGS).read_text(encoding="utf-8"))
        room = Room(new, **{**settings, "store": told["store"], "host": Room.host, "postgres_port": free_port()})
        room.save()
        found = _fill(room)
        if found != told["holds"]:
            raise RoomError(f"expected {told['holds']} from the backup, got {found}; it is damaged or not a backup")
        for name in (ABOUT, *DUMPS.values()):
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


def _fill(room: Room) -> dict[str, int]:
    """Put the databases of a backup into the store of a new room; returns what it holds then."""
    try:
        room.prepare()
        for name in DATABASES:
            source = room.folder / DUMPS[name]
            if room.store == "sqlite":
                shutil.copyfile(source, room.folder / f"{name}.db")
            else:
                postgres.load(room.database(name), source)
        return counts(room)
    finally:
        room.close_store()


def upgrade(room: Room, file: Path) -> None:
    """Bring a closed room's databases up to the MLflow that is installed now, after a backup to `file`.

    Raises RoomError if the room is open or MLflow refuses; the backup is there then.
    """
    if room.running():
        raise RoomError("expected a room that is closed, this one is open; close it first: mlops-course classroom down")
    backup(room, file)
    runs, accounts = (postgres.without_password(room.database(name))[0] for name in ("mlflow", "accounts"))
    try:
        with store_runs(room):
            room.call("mlflow", "db", "upgrade", runs)
            room.call("mlflow.server.auth", "db", "upgrade", "--url", accounts)
    except RoomError as error:
        raise RoomError(f"MLflow could not upgrade the store: {error}; the backup is {file}") from error
