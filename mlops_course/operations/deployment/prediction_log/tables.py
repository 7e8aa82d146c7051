"""The tables of a log, the rows that they hold, and why nothing was kept."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json

REQUIRED = {"id", "time", "model_version", "probability", "decision", "inputs"}  # of a prediction
OPTIONAL = {"assigned_version", "share", "latency_ms"}


class LogUnavailableError(RuntimeError):
    """The database cannot be written or read at present; nothing of the call was kept. Try again later."""


class PredictionConflictError(ValueError):
    """An id was used before for other inputs; `ids` names all such ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected a new id, or the same inputs as before; other inputs came for {', '.join(ids)}: give each "
            "prediction an id of its own"
        )
        self.ids = tuple(ids)


class LabelConflictError(ValueError):
    """A label contradicts the one on record; `ids` names all such ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected the label that is on record, or none there; another one came for {', '.join(ids)}: find out "
            "which is right; a label on record is not changed, and one that contradicts it is kept as a contradiction"
        )
        self.ids = tuple(ids)


class _Tables:
    """The tables of one log; the prefix of their names keeps several logs apart in one database."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self.metadata = prefix, sa.MetaData()
        self.predictions = self._numbered(
            "predictions",
            sa.Column("id", sa.Text, nullable=False, unique=True),
            sa.Column("time", sa.DateTime, nullable=False, index=True),  # UTC
            sa.Column("assigned_version", sa.Integer, nullable=False),  # the version that was to answer
            sa.Column("model_version", sa.Integer, nullable=False),  # the version that did
            sa.Column("share", sa.Double, nullable=False),  # of the canary at that moment; 0 without one
            sa.Column("probability", sa.Double, nullable=False),
            sa.Column("decision", sa.Boolean, nullable=False),
            sa.Column("latency_ms", sa.Double, nullable=False),
            sa.Column("inputs", sa.Text, nullable=False),  # JSON
        )
        self.labels = self._numbered(
            "labels",
            sa.Column("id", sa.Text, nullable=False, unique=True),
            sa.Column("label", sa.Integer, nullable=False),
            sa.Column("time", sa.DateTime, nullable=False),  # UTC
        )
        self.contradictions = sa.Table(
            f"{prefix}contradictions",
            self.metadata,
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("label", sa.Integer, primary_key=True),
            sa.Column("time", sa.DateTime, nullable=False),  # UTC
        )
        consumer = sa.Column("consumer", sa.Text, primary_key=True)
        position = sa.Column("position", sa.BigInteger, nullable=False)
        self.positions = sa.Table(f"{prefix}positions", self.metadata, consumer, position)

    def _numbered(self, name: str, *columns: sa.Column) -> sa.Table:
        """A table whose rows are numbered as they come; no number is given twice, even after rows were deleted."""
        number = sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
        return sa.Table(self._prefix + name, self.metadata, number, *columns, sqlite_autoincrement=True)


def _prediction_row(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The row that is kept of a prediction; no other place says what it holds. Raises ValueError for other keys."""
    if not REQUIRED <= prediction.keys() <= REQUIRED | OPTIONAL:
        missing, unknown = REQUIRED - prediction.keys(), prediction.keys() - REQUIRED - OPTIONAL
        raise ValueError(
            f"expected a prediction with {', '.join(sorted(REQUIRED))} and at most {', '.join(sorted(OPTIONAL))}; "
            f"missing: {', '.join(sorted(missing)) or 'none'}, unknown: {', '.join(sorted(unknown)) or 'none'}"
        )
    inputs = prediction["inputs"]
    return {
        "id": prediction["id"],
        "time": _utc_time(prediction),
        "assigned_version": int(prediction.get("assigned_version", prediction["model_version"])),
        "model_version": int(prediction["model_version"]),
        "share": float(prediction.get("share", 0)),
        "probability": float(prediction["probability"]),
        "decision": bool(prediction["decision"]),
        "latency_ms": float(prediction.get("latency_ms", 0)),
        "inputs": inputs if isinstance(inputs, str) else to_json(inputs).decode(),  # all digits of each number
    }


def _label_row(label: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": label["id"], "label": label["label"], "time": _utc_time(label)}


def _utc_time(kept: Mapping[str, Any]) -> datetime:
    """The time as the database keeps it: in UTC, and without a zone, which not every database can keep."""
    time: datetime = kept["time"]
    if time.tzinfo is None:
        raise ValueError(f"expected a time with its zone for {kept['id']!r}, got {time}; use datetime.now(UTC)")
    return time.astimezone(UTC).replace(tzinfo=None)
