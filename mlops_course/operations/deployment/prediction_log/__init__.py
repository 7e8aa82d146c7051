"""What was predicted, kept for good: each prediction once, its label once, and how far each reader has come.

    PredictionLog            append predictions and labels in one transaction; read them back in the order they came
    LogUnavailableError      the database cannot be written or read at present; nothing was kept
    PredictionConflictError  an id that was used for other inputs
    LabelConflictError       a label that contradicts the one on record

`append` returns after the database has written to disk: SQLite with a write-ahead log and `synchronous=FULL`, or any
other database by its SQLAlchemy URL. A call may be repeated, as what is on record stays as it is. The consumer of a
stream keeps its position in the same transaction as what it has read, so that a kill loses and doubles nothing.

One writer at a time changes a database, first come, first served; it waits at most 30 seconds. Readers do not wait.

>>> from datetime import UTC, datetime
>>> log = PredictionLog("sqlite://")
>>> row = {"id": "a", "time": datetime(2013, 4, 1, tzinfo=UTC), "inputs": {"wind": 4.5}, "model_version": 1,
...        "probability": 0.3, "decision": True}
>>> log.append([row]), log.append([row | {"probability": 0.9}])["a"]["probability"]
({}, 0.3)
>>> log.append(labels=[{"id": "a", "label": 1, "time": datetime(2013, 4, 2, tzinfo=UTC)}])
{}
>>> log.labelled()[["id", "probability", "label"]].to_dict("records")
[{'id': 'a', 'probability': 0.3, 'label': 1}]
"""

from .log import PredictionLog
from .tables import LabelConflictError, LogUnavailableError, PredictionConflictError

__all__ = ["LabelConflictError", "LogUnavailableError", "PredictionConflictError", "PredictionLog"]
