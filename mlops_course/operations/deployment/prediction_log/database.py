"""The database of a log: how it is opened, how one writer at a time gets it, and how it fails."""

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from .tables import LogUnavailableError, _Tables

# That a writer waits: longer than others keep a lock on a busy machine or while they rewrite a file, and so short that
# a request, which may wait for the batch before it too, is answered in a minute
BUSY_SECONDS = 30.0
POLL_SECONDS = 0.01  # between two tries to get a lock; steady, as SQLite's own growing pauses starve one of several


class _WriterQueue:
    """Writers of one file in this process, in the order in which they came."""

    def __init__(self) -> None:
        self._changing, self._places = Lock(), deque[Event]()

    def join(self) -> Event:
        """A place at the end of the queue; it is set when it is the first."""
        place = Event()
        with self._changing:
            self._places.append(place)
            self._places[0].set()
        return place

    def leave(self, place: Event) -> None:
        with self._changing:
            self._places.remove(place)
            if self._places:
                self._places[0].set()


_writers: dict[Path, _WriterQueue] = {}  # by file: every PredictionLog that writes to it shares one queue
if hasattr(os, "register_at_fork"):  # a place that another thread held at a fork would never be given up in the child
    os.register_at_fork(after_in_child=_writers.clear)


class _Database:
    """A database with the tables of a log; what fails in it is raised as one LogUnavailableError."""

    def __init__(
        self, url: str, tables: _Tables, *, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self.url, self._tables, self._clock, self._sleep = sa.make_url(url), tables, clock, sleep
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        in_memory = self.url.database in (None, "", ":memory:")
        self._file = Path(self.url.database) if self._is_sqlite and not in_memory else None
        self._inode: int | None = None  # of the file that was opened
        self.engine = self._connect_sqlite() if self._is_sqlite else self._connect_server()
        try:
            with self.available():
                self._make_tables()
        except LogUnavailableError:
            self.engine.dispose()  # nobody gets this log, so nobody could close its connections
            raise
        self._inode = self._found_inode()

    # What a log does with it

    @contextmanager
    def available(self) -> Iterator[None]:
        """Turn each error of a database that is locked, full or gone into one of the log."""
        try:
            self._check_file()
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise LogUnavailableError(
                f"expected the prediction log {self.url.render_as_string()} to answer: {type(cause).__name__}: "
                f"{str(cause).strip()}; nothing was kept: see to the database, and try again"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.available(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Wait until the writers of this process that came before are served; gives the deadline for the lock."""
        with self.available():
            if self._file is None:  # a server has its own queue; a log in memory has one connection, taken in turn
                yield self._clock() + BUSY_SECONDS
                return
            queue = _writers.setdefault(self._file.resolve(), _WriterQueue())
            place = queue.join()
            try:
                deadline = self._clock() + BUSY_SECONDS
                if not place.wait(BUSY_SECONDS):
                    raise TimeoutError(f"waited {BUSY_SECONDS:g} s behind other writers of this process")
                yield deadline
            finally:
                queue.leave(place)

    @contextmanager
    def writing(self, deadline: float) -> Iterator[sa.Connection]:
        """One transaction of the writer whose turn it is."""
        with self.engine.connect().execution_options(deadline=deadline) as connection, connection.begin():
            self._check_file()  # it may have gone while the lock was waited for
            yield connection

    def rewrite_file(self, deadline: float) -> None:
        """Write the file of SQLite without what was deleted; the write-ahead log still has it."""
        if self._is_sqlite:
            with self._outside_transaction() as cursor:
                self._wait_for(partial(_succeeds, cursor.execute, "VACUUM"), deadline=deadline)

    def empty_write_ahead_log(self) -> None:
        """Take the last copy of what was deleted out of SQLite's second file; waits for readers."""

        def emptied() -> bool:
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

        if self._is_sqlite:
            with self.available(), self._outside_transaction() as cursor:
                self._wait_for(emptied, deadline=self._clock() + BUSY_SECONDS)

    # How it is opened

    def _connect_sqlite(self) -> sa.Engine:
        # A log in memory has one connection, which the threads take in turn
        memory = {} if self._file else {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        engine = sa.create_engine(self.url, connect_args={"timeout": 0, "check_same_thread": False}, **memory)

        @sa.event.listens_for(engine, "connect")
        def durable(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # transactions begin where SQLAlchemy says so, see below
            # Two that set the mode of a new file at once get an error at once, whatever SQLite's timeout is
            set_mode = partial(_succeeds, connection.execute, "PRAGMA journal_mode=WAL")
            self._wait_for(set_mode, deadline=self._clock() + BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=FULL")  # a commit returns once the disk has it

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            deadline = connection.get_execution_options().get("deadline")  # of a writer
            if deadline is None:  # a reader waits for no lock, but for a moment when a file is mended or closed
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
                connection.exec_driver_sql("BEGIN")
            else:
                connection.exec_driver_sql("PRAGMA busy_timeout=0")
                lock = partial(_succeeds, connection.exec_driver_sql, "BEGIN IMMEDIATE")
                self._wait_for(lock, deadline=deadline)

        return engine

    def _connect_server(self) -> sa.Engine:
        engine = sa.create_engine(self.url, pool_pre_ping=True)
        if self.url.get_backend_name() == "postgresql":

            @sa.event.listens_for(engine, "begin")
            def begin(connection: sa.Connection) -> None:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {BUSY_SECONDS * 1000:.0f}")  # milliseconds
                # One writer at a time, as with SQLite: else a row with a smaller number could appear after one with a
                # greater number, and a reader that goes on after the greater one would miss it; and no two deadlock
                if connection.get_execution_options().get("deadline") is not None:
                    name = sa.cast(sa.func.current_schema(), sa.Text) + "." + self._tables.predictions.name
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))

        return engine

    def _make_tables(self) -> None:
        """Make what is missing. Where all is there, only look: a reader must not keep a writer waiting."""
        if not set(sa.inspect(self.engine).get_table_names()).issuperset(self._tables.metadata.tables):
            with self.turn() as deadline, self.writing(deadline) as connection:
                self._tables.metadata.create_all(connection)

    def _check_file(self) -> None:
        """Refuse a file that is not the one that was opened: SQLite would go on with what was deleted or replaced."""
        # No connection is closed meanwhile, so no other file gets the old one's inode
        if self._inode is None or (found := self._found_inode()) == self._inode:
            return
        raise OSError(
            f"{self._file} is {'gone' if found is None else 'another file than before'}; put the old one back, or stop "
            f"all that use it, move {self._file.name}-wal and {self._file.name}-shm to where it is, and start again"
        )

    def _found_inode(self) -> int | None:
        return self._file.stat().st_ino if self._file and self._file.exists() else None

    # How it is waited for

    def _wait_for(self, succeeds: Callable[[], bool], *, deadline: float) -> None:
        """Try until it succeeds; at least once, so that a late writer gets a lock that is free."""
        while not succeeds():
            if self._clock() >= deadline:
                raise TimeoutError(f"waited {BUSY_SECONDS:g} s, and another connection still keeps the database locked")
            self._sleep(POLL_SECONDS)

    @contextmanager
    def _outside_transaction(self) -> Iterator[sqlite3.Cursor]:
        raw = self.engine.raw_connection()  # SQLAlchemy would begin a transaction, in which SQLite refuses both
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA busy_timeout=0")  # it is tried again instead, so that others have the lock meanwhile
            yield cursor
        except (sqlite3.Error, TimeoutError) as error:
            why = f"{error}; somebody may be reading" if isinstance(error, TimeoutError) else error
            raise OSError(f"what was deleted is still in the file or in its write-ahead log: {why}") from error
        finally:
            raw.close()


def _succeeds(execute: Callable[[str], Any], statement: str) -> bool:
    """Execute a statement of SQLite; False if another connection holds the lock that it needs."""
    try:
        execute(statement)
    except (sqlite3.OperationalError, OperationalError) as error:
        if not getattr(error, "orig", error).sqlite_errorname.startswith("SQLITE_BUSY"):
            raise
        return False
    return True
