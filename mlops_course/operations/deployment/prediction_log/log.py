"""Predictions, labels and positions: kept, read back, found and deleted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from .database import _Database
from .tables import LabelConflictError, PredictionConflictError, _label_row, _prediction_row, _Tables

IDS_A_QUERY = 500  # databases limit how many values one statement may carry

Row = Mapping[str, Any]


class PredictionLog:
    """Predictions, labels and positions in one database; safe to use from several threads, processes and objects.

    A prediction is a mapping with id, time, inputs (a mapping, or JSON text), model_version, probability and decision.
    It may have assigned_version, the version that was to answer (else model_version), share, that of the canary at that
    moment (else 0), and latency_ms (else 0). A label is a mapping with id, label (0 or 1) and time. Times are aware
    datetimes. A `number` counts the rows of each kind in the order in which they were kept.

    `url` is SQLAlchemy's; `prefix` begins the names of the tables. Writers wait by `clock` (seconds) and `sleep`.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], object] = sleep,
    ) -> None:
        self._tables = _Tables(prefix)
        self._database = _Database(url, self._tables, clock=clock, sleep=sleep)
        self.url = self._database.url

    def append(
        self, predictions: Sequence[Row] = (), *, labels: Sequence[Row] = (), position: tuple[str, int] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Keep predictions, labels and the position of a consumer, all or none, and return once they are on disk.

        Returns, by id, the predictions that were on record before: they are not changed. A label may come first. One
        that contradicts the label on record is kept as a contradiction, whatever comes of the rest.

        Raises PredictionConflictError, LabelConflictError or LogUnavailableError, and ValueError for a prediction that
        lacks a value or has an unknown one; then nothing was kept.
        """
        predictions, labels = [_prediction_row(row) for row in predictions], [_label_row(row) for row in labels]
        tables = self._tables
        with self._database.turn() as deadline:
            try:
                with self._database.writing(deadline) as connection:
                    self._insert(connection, predictions, labels, position)
                return {}
            except IntegrityError:  # some are on record: rarely so, so it is not asked for before
                try:
                    with self._database.writing(deadline) as connection:
                        known, new = _part(
                            connection, tables.predictions, predictions, "inputs", PredictionConflictError
                        )
                        _, new_labels = _part(connection, tables.labels, labels, "label", LabelConflictError)
                        self._insert(connection, new, new_labels, position)
                except LabelConflictError as conflict:
                    with self._database.writing(deadline) as connection:
                        self._note_contradictions(connection, [row for row in labels if row["id"] in conflict.ids])
                    raise
                return known

    def position(self, consumer: str) -> int:
        """How far a consumer has come: what it last gave to `append`, or 0."""
        table = self._tables.positions
        return self._number(sa.select(table.c.position).where(table.c.consumer == consumer))

    def last(self) -> int:
        """The number of the newest prediction; 0 if there is none."""
        return self._number(sa.select(sa.func.max(self._tables.predictions.c.number)))

    def predictions(
        self, *, after: int = 0, since: datetime | None = None, limit: int | None = None, inputs: bool = True
    ) -> pd.DataFrame:
        """Predictions with a number above `after` that were made `since` then, in order, at most `limit` of them."""
        table = self._tables.predictions
        query = sa.select(*self._columns(inputs)).where(table.c.number > after).limit(limit)
        return self._read(query, table.c.number, since=since)

    def labelled(self, *, after: int = 0, since: datetime | None = None, inputs: bool = True) -> pd.DataFrame:
        """Predictions made `since` then that have a label, in the order in which the labels came.

        Columns of `predictions`, then label, label_time and label_number; `after` is one of these numbers.
        """
        table, labels = self._tables.predictions, self._tables.labels
        of_label = [labels.c.label, labels.c.time.label("label_time"), labels.c.number.label("label_number")]
        query = sa.select(*self._columns(inputs), *of_label).join(labels, labels.c.id == table.c.id)
        return self._read(query.where(labels.c.number > after), labels.c.number, since=since)

    def contradictions(self) -> pd.DataFrame:
        """Labels that contradict the one on record, each once: id, label, time, and `on_record`, the other label."""
        table, labels = self._tables.contradictions, self._tables.labels
        query = sa.select(table.c.id, table.c.label, table.c.time, labels.c.label.label("on_record"))
        query = query.join(labels, labels.c.id == table.c.id)
        return self._read(query, table.c.time)

    def unpredicted(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` for which no prediction is on record."""
        with self._database.reading() as connection:
            return set(ids) - _on_record(connection, self._tables.predictions, ids).keys()

    def find(self, name: str) -> dict[str, Any] | None:
        """The prediction of an id as a mapping with label and label_time, which are None where there is none yet."""
        table, labels = self._tables.predictions, self._tables.labels
        query = sa.select(table, labels.c.label, labels.c.time.label("label_time"))
        query = query.outerjoin(labels, labels.c.id == table.c.id).where(table.c.id == name)
        with self._database.reading() as connection:
            found = connection.execute(query).mappings().first()
        if found is None:
            return None
        times = {name: value.replace(tzinfo=UTC) for name, value in found.items() if isinstance(value, datetime)}
        return {**found, **times}

    def ids(self) -> set[str]:
        """All ids of which a prediction or a label is on record."""
        query = sa.union(sa.select(self._tables.predictions.c.id), sa.select(self._tables.labels.c.id))
        with self._database.reading() as connection:
            return set(connection.execute(query).scalars())

    def delete(self, ids: Sequence[str]) -> int:
        """Delete the predictions and labels of some ids for good, and return how many predictions there were.

        With SQLite their bytes are gone from the file too: it is rewritten, which needs as much disk again and keeps
        writers waiting. Raises LogUnavailableError if somebody keeps it open for reading; then repeat it.
        """
        tables, deleted = self._tables, 0
        with self._database.turn() as deadline:
            with self._database.writing(deadline) as connection:
                for some in _portions(ids):
                    for table in (tables.contradictions, tables.labels):
                        connection.execute(sa.delete(table).where(table.c.id.in_(some)))
                    answered = tables.predictions.c.id.in_(some)
                    deleted += connection.execute(sa.delete(tables.predictions).where(answered)).rowcount
            self._database.rewrite_file(deadline)
        self._database.empty_write_ahead_log()  # waits for readers, so no writer may have to wait for it
        return deleted

    def close(self) -> None:
        """Give the connections back; the log may be used again."""
        self._database.engine.dispose()

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

    def _note_contradictions(self, connection: sa.Connection, labels: list[dict]) -> None:
        """Keep those of the labels that contradict the one on record, each once."""
        table, ids = self._tables.contradictions, [row["id"] for row in labels]
        on_record = {name: row["label"] for name, row in _on_record(connection, self._tables.labels, ids).items()}
        query = sa.select(table.c.id, table.c.label)
        noted = {tuple(row) for some in _portions(ids) for row in connection.execute(query.where(table.c.id.in_(some)))}
        new = {
            (row["id"], row["label"]): row
            for row in labels
            if row["label"] != on_record.get(row["id"], row["label"]) and (row["id"], row["label"]) not in noted
        }
        if new:
            connection.execute(sa.insert(table), list(new.values()))

    def _number(self, query: sa.Select) -> int:
        with self._database.reading() as connection:
            return connection.execute(query).scalar() or 0

    def _columns(self, inputs: bool) -> list[sa.Column]:
        return [column for column in self._tables.predictions.c if inputs or column.name != "inputs"]

    def _read(self, query: sa.Select, order: sa.Column, *, since: datetime | None = None) -> pd.DataFrame:
        if since is not None:
            query = query.where(self._tables.predictions.c.time >= since.astimezone(UTC).replace(tzinfo=None))
        with self._database.reading() as connection:
            frame = pd.read_sql(query.order_by(order), connection)
        types = {column.name: column.type.python_type for column in query.selected_columns}
        times = [name for name, kind in types.items() if kind is datetime]
        frame = frame.astype({name: kind for name, kind in types.items() if name not in times})  # also without rows
        return frame.assign(**{name: pd.to_datetime(frame[name], utc=True).dt.as_unit("us") for name in times})


def _portions(ids: Sequence[str]) -> Iterator[list[str]]:
    return (list(ids[start : start + IDS_A_QUERY]) for start in range(0, len(ids), IDS_A_QUERY))


def _on_record(connection: sa.Connection, table: sa.Table, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    queries = (sa.select(table).where(table.c.id.in_(some)) for some in _portions(ids))
    return {row.id: dict(row._mapping) for query in queries for row in connection.execute(query)}


def _part(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], what: str, error: type[ValueError]
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """What was there before, by id, and the rows that are new; raises the error if one contradicts in column `what`."""
    known, new, contradicting = _on_record(connection, table, [row["id"] for row in rows]), {}, set()
    for row in rows:
        earlier = known.get(row["id"]) or new.setdefault(row["id"], row)
        if earlier is not row:
            known[row["id"]] = earlier
        if earlier[what] != row[what]:
            contradicting.add(row["id"])
    if contradicting:
        raise error(sorted(contradicting))
    return known, list(new.values())
