"""What was predicted, kept for good: each prediction once, its label once, and how far each reader has come.

    PredictionLog            append predictions and labels in one transaction; read them back in the order they came
    LogUnavailableError      the database does not take or give anything at present; nothing was written
    PredictionConflictError  an id that was used for other inputs
    LabelConflictError       a label that contradicts the one on record

`append` returns after the database has written to disk: SQLite with a write-ahead log and `synchronous=FULL`, or any
other database by its SQLAlchemy URL. It may be repeated: what is there already is left as it is, so a caller that never
saw its answer can ask again. A consumer of a stream hands its position over with what it has read, so that both are
kept or neither: killed and started again, it loses nothing and doubles nothing.

One writer at a time changes a database. Writers of one process that share a file of SQLite are served in the order in
which they came; a lock that another process holds is asked for again every hundredth of a second. A writer waits for
its process and for others at most 30 seconds in all, counted from when it came. Then the caller gets a
LogUnavailableError that says what was waited for, and nothing was kept. Reading waits for no writer.

>>> log = PredictionLog("sqlite://")
>>> row = {"id": "a", "time": datetime(2013, 4, 1, tzinfo=UTC), "assigned_version": 1, "model_version": 1,
...        "share": 0.0, "probability": 0.3, "decision": True, "latency_ms": 2.0, "inputs": '{"wind":4.5}'}
>>> log.append([row]), log.append([row | {"probability": 0.9}])["a"]["probability"]
({}, 0.3)
>>> log.append(labels=[{"id": "a", "label": 1, "time": datetime(2013, 4, 2, tzinfo=UTC)}])
{}
>>> log.labelled()[["id", "probability", "label"]].to_dict("records")
[{'id': 'a', 'probability': 0.3, 'label': 1}]
"""

import os
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from time import monotonic, sleep
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

__all__ = ["LabelConflictError", "LogUnavailableError", "PredictionConflictError", "PredictionLog"]

# How long a writer waits before its caller hears of it: longer than others keep a lock on a busy machine or while they
# write a file anew, and so short that a request, which may wait for the batch before it too, is answered in a minute
BUSY_SECONDS = 30.0
POLL_SECONDS = 0.01  # between two tries to get a lock; steady, as SQLite's own growing pauses starve one of several
IDS_A_QUERY = 500  # databases limit how many values one statement may carry


class LogUnavailableError(RuntimeError):
    """The database cannot be written or read at present; nothing of the call was kept. Try again later."""


class PredictionConflictError(ValueError):
    """An id was used before for other inputs; `ids` names all such."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected a new id, or the same inputs as before; other inputs came for {', '.join(ids)}: give each "
            "prediction an id of its own"
        )
        self.ids = tuple(ids)


class LabelConflictError(ValueError):
    """A label contradicts the one that is on record; `ids` names all such."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected the label that is on record, or none there; another one came for {', '.join(ids)}: find out "
            "which is right; a label on record is not changed"
        )
        self.ids = tuple(ids)


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables of one log; the prefix of their names keeps several apart in one database."""

    every: sa.MetaData
    predictions: sa.Table
    labels: sa.Table
    positions: sa.Table


def _tables(prefix: str) -> _Tables:
    every = sa.MetaData()

    def numbered(name: str, *columns: sa.Column) -> sa.Table:
        """A table whose rows are numbered as they come; no number is given twice, even after rows were deleted."""
        number = sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
        return sa.Table(prefix + name, every, number, *columns, sqlite_autoincrement=True)

    predictions = numbered(
        "predictions",
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("time", sa.DateTime, nullable=False, index=True),  # UTC
        sa.Column("assigned_version", sa.Integer, nullable=False),  # who was to answer
        sa.Column("model_version", sa.Integer, nullable=False),  # who did
        sa.Column("share", sa.Double, nullable=False),  # of the canary at that moment; 0 without one
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("decision", sa.Boolean, nullable=False),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),  # JSON
    )
    labels = numbered(
        "labels",
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("time", sa.DateTime, nullable=False),  # UTC
    )
    positions = sa.Table(
        f"{prefix}positions",
        every,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    return _Tables(every, predictions, labels, positions)


class _Line:
    """Writers of one file in this process, in the order in which they came."""

    def __init__(self) -> None:
        self._changing, self._places = Lock(), deque[Event]()

    def join(self) -> Event:
        """A place at the end of the line; it is set when it is the first."""
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


_lines: dict[Path, _Line] = {}  # one for each file, whichever PredictionLog writes to it
if hasattr(os, "register_at_fork"):  # what another thread held when it forked would never be free in the child
    os.register_at_fork(after_in_child=_lines.clear)


class PredictionLog:
    """Predictions, labels and positions in one database; safe to use from several threads, processes and objects.

    A prediction is a mapping with id, time, assigned_version, model_version, share, probability, decision, latency_ms
    and inputs (JSON text); a label one with id, label (0 or 1) and time. Times are aware datetimes, and `number` counts
    the rows of each kind in the order they were kept.

    Whoever writes waits for its turn at most BUSY_SECONDS, counted from when it came: first in line behind the writers
    of this process, then for the lock of the database. On PostgreSQL the server keeps the line. `clock` counts seconds,
    and `sleep` passes the time until SQLite's lock is asked for again.

    `url` is SQLAlchemy's; the tables, whose names begin with `prefix`, are made where they are missing. Raises
    LogUnavailableError if that fails.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], object] = sleep,
    ) -> None:
        self.url, self._tables, self._clock, self._sleep = sa.make_url(url), _tables(prefix), clock, sleep
        in_memory = self.url.database in (None, "", ":memory:")
        self._file = Path(self.url.database) if self._is_sqlite and not in_memory else None
        self._engine = self._connect_sqlite() if self._is_sqlite else self._connect_server()
        try:
            with self._available():
                self._make_tables()
        except LogUnavailableError:
            self._engine.dispose()  # nobody gets this log, so nobody could close its connections
            raise
        self._inode = self._found()

    def append(
        self,
        predictions: Sequence[Mapping[str, Any]] = (),
        *,
        labels: Sequence[Mapping[str, Any]] = (),
        position: tuple[str, int] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Keep predictions, labels and the position of a consumer, all or none, and return once they are on disk.

        Returns, by id, the predictions that were on record before, as they are there: they are not changed. A label
        may come before its prediction, and one that is there already is left alone.

        Raises PredictionConflictError, LabelConflictError or, after a wait of at most BUSY_SECONDS for other writers,
        LogUnavailableError; then nothing was kept.
        """
        predictions, labels = [_naive(row) for row in predictions], [_naive(row) for row in labels]
        with self._available(), self._turn() as deadline:
            try:
                with self._writing(deadline) as connection:
                    self._insert(connection, predictions, labels, position)
                return {}
            except IntegrityError:  # some are on record: rarely so, so it is not asked for before
                with self._writing(deadline) as connection:
                    known = _on_record(connection, self._tables.predictions, predictions)
                    _check_same(known, predictions, "inputs", PredictionConflictError)
                    known_labels = _on_record(connection, self._tables.labels, labels)
                    _check_same(known_labels, labels, "label", LabelConflictError)
                    new, new_labels = _new(predictions, known), _new(labels, known_labels)
                    self._insert(connection, list(new.values()), list(new_labels.values()), position)
                return known | _repeated(predictions, new)

    def position(self, consumer: str) -> int:
        """How far a consumer has come: what it last handed to `append`, or 0."""
        table = self._tables.positions
        query = sa.select(table.c.position).where(table.c.consumer == consumer)
        with self._available(), self._engine.connect() as connection:
            return connection.execute(query).scalar() or 0

    def predictions(
        self, *, after: int = 0, since: datetime | None = None, limit: int | None = None, inputs: bool = True
    ) -> pd.DataFrame:
        """Predictions whose number is greater than `after`, made `since` then, in order, at most `limit` of them."""
        table = self._tables.predictions
        columns = [column for column in table.c if inputs or column is not table.c.inputs]
        return self._read(sa.select(*columns).where(table.c.number > after), table, since=since, limit=limit)

    def labelled(
        self, *, after: int = 0, since: datetime | None = None, limit: int | None = None, inputs: bool = True
    ) -> pd.DataFrame:
        """Predictions made `since` then that have a label, in the order in which the labels came.

        Columns of `predictions`, then label, label_time and label_number; `after` is one of these numbers. A label
        that has no prediction yet is left out.
        """
        table, labels = self._tables.predictions, self._tables.labels
        columns = [column for column in table.c if inputs or column is not table.c.inputs]
        columns += [labels.c.label, labels.c.time.label("label_time"), labels.c.number.label("label_number")]
        query = sa.select(*columns).join(labels, labels.c.id == table.c.id).where(labels.c.number > after)
        return self._read(query, labels, since=since, limit=limit)

    def last(self) -> int:
        """The number of the newest prediction; 0 if there is none."""
        with self._available(), self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.max(self._tables.predictions.c.number))).scalar() or 0

    def unpredicted(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` for which no prediction is on record."""
        with self._available(), self._engine.connect() as connection:
            return set(ids) - _on_record(connection, self._tables.predictions, [{"id": name} for name in ids]).keys()

    def find(self, name: str) -> dict[str, Any] | None:
        """The prediction of an id, as a mapping with label and label_time too, None where there is none yet."""
        with self._available(), self._engine.connect() as connection:
            found, labels = (
                _on_record(connection, table, [{"id": name}]).get(name)
                for table in (self._tables.predictions, self._tables.labels)
            )
        if found is None:
            return None
        label = {"label": labels and labels["label"], "label_time": labels and labels["time"].replace(tzinfo=UTC)}
        return {**found, "time": found["time"].replace(tzinfo=UTC), **label}

    def delete(self, ids: Sequence[str]) -> int:
        """Take predictions and labels of some ids out for good, and return how many predictions there were.

        With SQLite their bytes are gone from the file too: it is written anew, which needs as much disk again and keeps
        writers waiting meanwhile. In another database they go when it next cleans up. Numbers are not given again. May
        be repeated; a call that was killed is then completed.

        Raises LogUnavailableError if somebody keeps the file open for reading; then repeat it.
        """
        deleted = 0
        with self._available():
            with self._turn() as deadline:
                with self._writing(deadline) as connection:
                    for start in range(0, len(ids), IDS_A_QUERY):
                        some = list(ids[start : start + IDS_A_QUERY])
                        for table in (self._tables.labels, self._tables.predictions):
                            deleted_now = connection.execute(sa.delete(table).where(table.c.id.in_(some))).rowcount
                        deleted += deleted_now
                if self._is_sqlite:
                    self._write_anew(deadline)
            if self._is_sqlite:
                self._empty_write_ahead_log()  # waits for readers, and no writer waits behind it in line
        return deleted

    def close(self) -> None:
        """Give the connections back; the log may be used again."""
        self._engine.dispose()

    # How it is written ------------------------------------------------------------------------------------------------

    @property
    def _is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def _connect_sqlite(self) -> sa.Engine:
        # One that lives in memory has one connection, which the threads take in turn
        memory = {} if self._file else {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        engine = sa.create_engine(self.url, connect_args={"timeout": 0, "check_same_thread": False}, **memory)

        @sa.event.listens_for(engine, "connect")
        def durable(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # transactions begin where SQLAlchemy says so, see below
            # Two that set the mode of a new file at once get an error at once, whatever SQLite's timeout is
            set_mode = partial(_went_through, connection.execute, "PRAGMA journal_mode=WAL")
            self._wait_for(set_mode, deadline=self._clock() + BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=FULL")  # a commit returns once the disk has it

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            deadline = connection.get_execution_options().get("deadline")  # of a writer
            if deadline is None:  # who reads has no lock to wait for, but for a moment when a file is mended or closed
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
                connection.exec_driver_sql("BEGIN")
            else:
                connection.exec_driver_sql("PRAGMA busy_timeout=0")
                lock = partial(_went_through, connection.exec_driver_sql, "BEGIN IMMEDIATE")
                self._wait_for(lock, deadline=deadline)

        return engine

    def _connect_server(self) -> sa.Engine:
        engine = sa.create_engine(self.url, pool_pre_ping=True)
        if self.url.get_backend_name() == "postgresql":

            @sa.event.listens_for(engine, "connect")
            def impatient(connection: Any, _: Any) -> None:
                with connection.cursor() as cursor:
                    cursor.execute(f"SET lock_timeout = {BUSY_SECONDS * 1000:.0f}")  # milliseconds
                connection.commit()

            @sa.event.listens_for(engine, "begin")
            def begin(connection: sa.Connection) -> None:
                # One writer at a time, as with SQLite: a row with a smaller number never appears after one with a
                # greater number, which a reader that goes on after the greater one would miss; and no two deadlock
                if connection.get_execution_options().get("deadline") is not None:
                    name = sa.cast(sa.func.current_schema(), sa.Text) + "." + self._tables.predictions.name
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(name))))

        return engine

    def _write_anew(self, deadline: float) -> None:
        """Write the file of SQLite without what was deleted; the write-ahead log has it still."""
        with self._outside_transaction() as cursor:
            self._wait_for(partial(_went_through, cursor.execute, "VACUUM"), deadline=deadline)

    def _empty_write_ahead_log(self) -> None:
        def empty() -> bool:
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

        with self._outside_transaction() as cursor:
            self._wait_for(empty, deadline=self._clock() + BUSY_SECONDS)

    @contextmanager
    def _outside_transaction(self) -> Iterator[sqlite3.Cursor]:
        raw = self._engine.raw_connection()  # SQLAlchemy would begin a transaction, in which neither of them is allowed
        try:
            cursor = raw.cursor()
            cursor.execute("PRAGMA busy_timeout=0")  # it is tried again instead, so that others have the lock meanwhile
            yield cursor
        except (sqlite3.Error, TimeoutError) as error:
            why = f"{error}; somebody may be reading" if isinstance(error, TimeoutError) else error
            raise OSError(f"what was deleted is still in the file or in its write-ahead log: {why}") from error
        finally:
            raw.close()

    @contextmanager
    def _available(self) -> Iterator[None]:
        """Turn what a database says when it is locked, full or gone into one error."""
        try:
            self._look_for_file()
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise LogUnavailableError(
                f"expected the prediction log {self.url.render_as_string()} to answer: {type(cause).__name__}: "
                f"{str(cause).strip()}; nothing was kept: see to the database, and try again"
            ) from error

    def _look_for_file(self) -> None:
        """Refuse a file of SQLite that is not the one that was opened.

        SQLite writes on happily to one that was deleted; and one put in its place it would overwrite with what the
        write-ahead log holds of the old one. No connection is closed, so that no other file gets the old one's inode.
        """
        if self._file is None or not hasattr(self, "_inode") or (found := self._found()) == self._inode:
            return
        raise OSError(
            f"{self._file} is {'gone' if found is None else 'another file than before'}; put the old one back, or stop "
            f"all that use it, move {self._file.name}-wal and {self._file.name}-shm to where it is, and start again"
        )

    def _found(self) -> int | None:
        try:
            return os.stat(self._file).st_ino if self._file else None
        except FileNotFoundError:
            return None

    def _make_tables(self) -> None:
        """Make what is missing. Where all is there, only look: who just reads must not keep a writer waiting."""
        with self._engine.connect() as connection:
            there = set(sa.inspect(connection).get_table_names())
        if not there.issuperset(self._tables.every.tables):
            with self._turn() as deadline, self._writing(deadline) as connection:
                self._tables.every.create_all(connection)

    @contextmanager
    def _turn(self) -> Iterator[float]:
        """Wait until the writers of this process that came before are served; gives until when the lock is waited for.

        The wait counts from here, so that n writers behind a lock of another process do not wait n times as long.
        """
        if self._file is None:  # a server keeps its own line; a log in memory has one connection, taken in turn
            yield self._clock() + BUSY_SECONDS
            return
        line = _lines.setdefault(self._file.resolve(), _Line())
        place = line.join()
        try:
            deadline = self._clock() + BUSY_SECONDS
            if not place.wait(BUSY_SECONDS):
                raise TimeoutError(f"waited {BUSY_SECONDS:g} s behind other writers of this process that hold the lock")
            yield deadline
        finally:
            line.leave(place)

    def _wait_for(self, went_through: Callable[[], bool], *, deadline: float) -> None:
        """Try until it went through; at least once, as a lock that is free is not refused to who comes late."""
        while not went_through():
            if self._clock() >= deadline:
                raise TimeoutError(f"waited {BUSY_SECONDS:g} s, and another connection still keeps the database locked")
            self._sleep(POLL_SECONDS)

    @contextmanager
    def _writing(self, deadline: float) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(deadline=deadline) as connection, connection.begin():
            self._look_for_file()  # it may have gone while the lock was waited for
            yield connection

    def _insert(
        self, connection: sa.Connection, predictions: list[dict], labels: list[dict], position: tuple[str, int] | None
    ) -> None:
        if predictions:
            connection.execute(sa.insert(self._tables.predictions), predictions)
        if labels:
            connection.execute(sa.insert(self._tables.labels), labels)
        if position:
            consumer, reached = position
            table = self._tables.positions
            moved = sa.update(table).where(table.c.consumer == consumer).values(position=reached)
            if not connection.execute(moved).rowcount:
                connection.execute(sa.insert(table).values(consumer=consumer, position=reached))

    def _read(self, query: sa.Select, order: sa.Table, *, since: datetime | None, limit: int | None) -> pd.DataFrame:
        if since is not None:
            query = query.where(self._tables.predictions.c.time >= since.astimezone(UTC).replace(tzinfo=None))
        with self._available(), self._engine.connect() as connection:
            frame = pd.read_sql(query.order_by(order.c.number).limit(limit), connection)
        types = {column.name: column.type.python_type for column in query.selected_columns}
        times = [name for name, kind in types.items() if kind is datetime]
        frame = frame.astype({name: kind for name, kind in types.items() if name not in times})  # none from no rows
        return frame.assign(**{name: pd.to_datetime(frame[name], utc=True).dt.as_unit("us") for name in times})


def _went_through(execute: Callable[[str], Any], statement: str) -> bool:
    """Execute a statement of SQLite; False if another connection holds the lock that it needs."""
    try:
        execute(statement)
    except (sqlite3.OperationalError, OperationalError) as error:
        if not getattr(error, "orig", error).sqlite_errorname.startswith("SQLITE_BUSY"):
            raise
        return False
    return True


def _naive(row: Mapping[str, Any]) -> dict[str, Any]:
    """With its time as the database keeps it: in UTC, which not every database can say."""
    time: datetime = row["time"]
    if time.tzinfo is None:
        raise ValueError(f"expected a time with its zone for {row['id']!r}, got {time}; use datetime.now(UTC)")
    return {**row, "time": time.astimezone(UTC).replace(tzinfo=None)}


def _on_record(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    ids, known = [row["id"] for row in rows], {}
    for start in range(0, len(ids), IDS_A_QUERY):
        query = sa.select(table).where(table.c.id.in_(ids[start : start + IDS_A_QUERY]))
        known |= {row.id: dict(row._mapping) for row in connection.execute(query)}
    return known


def _new(rows: Sequence[dict[str, Any]], known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By id, the first of each that is not known, in the order in which they came."""
    new: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["id"] not in known:
            new.setdefault(row["id"], row)
    return new


def _check_same(
    known: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], what: str, error: type[ValueError]
) -> None:
    """Refuse rows that say something else than the record, or than an earlier one of them."""
    first = dict(known)
    if other := {row["id"] for row in rows if first.setdefault(row["id"], row)[what] != row[what]}:
        raise error(sorted(other))


def _repeated(predictions: list[dict], new: Mapping[str, dict]) -> dict[str, dict[str, Any]]:
    """Predictions that came twice in one call: the first one counts."""
    seen = Counter(row["id"] for row in predictions)
    return {name: row for name, row in new.items() if seen[name] > 1}
