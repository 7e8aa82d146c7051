"""Keep every answer on record once, and its label when it comes."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from mlops_course.operations.deployment.prediction_log import PredictionLog

now = datetime(2026, 11, 2, 10, tzinfo=UTC)
answer = {
    "id": "order 7", "time": now, "inputs": {"load": 9}, "model_version": 1, "probability": 0.3, "decision": True,
}  # fmt: skip
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    log = PredictionLog(f"sqlite:///{Path(place, 'predictions.db').as_posix()}")
    log.append([answer])
    known_before = log.append([answer])  # asked again: the answer on record is given, and nothing is written
    log.append(labels=[{"id": "order 7", "label": 1, "time": now}])
    found = log.find("order 7")
    log.close()
print("on record before:", list(known_before), "| label:", found["label"])
assert found["label"] == 1
