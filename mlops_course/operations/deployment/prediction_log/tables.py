"""The tables of a log, and the rows that they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json

REQUIRED = {"id", "time", "model_version", "probability", "decision", "inputs"}  # of a prediction
OPTIONAL = {"assigned_version", "share", "latency_ms"}


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables of one log; the prefix of their names keeps several logs apart in one database."""

    metadata: sa.MetaData
    predictions: sa.Table
    labels: sa.Table
    positions: sa.Table


def _tables(prefix: str) -> _Tables:
    metadata = sa.MetaData()

    def numbered(name: str, *columns: sa.Column) -> sa.Table:
        """A table whose rows are numbered as they come; no number is given twice, even after rows were deleted."""
        number = sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
        return sa.Table(prefix + name, metadata, number, *columns, sqlite_autoincrement=True)

    predictions = numbered(
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
    labels = numbered(
        "labels",
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("time", sa.DateTime, nullable=False),  # UTC
    )
    positions = sa.Table(
        f"{prefix}positions",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    return _Tables(metadata, predictions, labels, positions)


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
