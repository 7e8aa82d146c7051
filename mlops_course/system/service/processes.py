"""What the processes beside the service have in common."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from threadpoolctl import threadpool_limits

from mlops_course.operations.deployment.prediction_log import PredictionLog

_logger = logging.getLogger(__name__)


def _log_as_json() -> None:
    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            fields = {"time": datetime.fromtimestamp(record.created, UTC).isoformat(), "level": record.levelname}
            fields |= {"logger": record.name, "event": record.getMessage(), **getattr(record, "facts", {})}
            if record.exc_info:
                fields["traceback"] = self.formatException(record.exc_info)
            return json.dumps(fields, default=str)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in ("mlops_course", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


@contextmanager
def _background_process(name: str) -> Iterator[None]:
    """Run a process beside the service: on one core, where cores would be idle, an error as one line of the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes at once: the service ends this one
    _log_as_json()
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(19)
    try:
        with threadpool_limits(1):
            yield
    except Exception as error:
        _logger.error(f"{name} failed", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
        sys.exit(1)


def _url(log: PredictionLog) -> str:
    return log.url.render_as_string(hide_password=False)
