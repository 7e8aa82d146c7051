"""The processes beside the service: how one is started and how it behaves, and the one that watches the log."""

import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import report
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

_logger = logging.getLogger(__name__)

WATCH_SECONDS = 5.0  # between two looks of the monitor at the log
RESTART_SECONDS = 10.0  # at least between two starts of a process beside the service


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


class _Beside:
    """A process beside the service that ends with it at the latest, and is started again when it has ended."""

    def __init__(self, name: str, target: Callable[..., None], *task: Any) -> None:
        self._name, self._target, self._task = name, target, task
        self._process: Any = None
        self._next_start = 0.0

    def keep_running(self) -> None:
        """Start the process, or start it again if it has ended, at most once in RESTART_SECONDS."""
        if self.is_alive() or time.monotonic() < self._next_start:
            return
        if self._process:
            facts = {"exit": self._process.exitcode}
            _logger.warning(f"{self._name} ended and is started again", extra={"facts": facts})
        self._process = multiprocessing.get_context("spawn").Process(target=self._target, args=self._task, daemon=True)
        self._process.start()
        self._next_start = time.monotonic() + RESTART_SECONDS

    def is_alive(self) -> bool:
        return bool(self._process and self._process.is_alive())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.join(10)


@contextmanager
def _background(name: str) -> Iterator[Callable[[], bool]]:
    """Run a process beside the service, on one core where cores would be idle; gives whether it is still wanted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes at once: the service ends this one
    _log_as_json()
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(19)
    parent = multiprocessing.parent_process()
    try:
        with threadpool_limits(1):
            yield lambda: parent is None or parent.is_alive()
    except Exception as error:
        _logger.error(f"{name} failed", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
        sys.exit(1)


def _url(log: PredictionLog) -> str:
    return log.url.render_as_string(hide_password=False)


class _Watcher:
    """The process that watches the log; it writes what it knows to a file, so a request waits for no monitor."""

    def __init__(self, system: System, log: PredictionLog) -> None:
        self._file = system.workspace.create().reports / "monitor.json"
        self._file.unlink(missing_ok=True)
        self._process = _Beside("watcher", _watch, system.case_name, system.workspace, _url(log), self._file)
        self._process.keep_running()

    def state(self) -> dict[str, Any] | None:
        """What the monitor knows, None before it has looked. Raises RuntimeError while it cannot look."""
        self._process.keep_running()
        if not self._process.is_alive():
            raise RuntimeError(f"the process that watches ended, and is started again within {RESTART_SECONDS:g} s")
        known = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else None
        if known and (trouble := known.get("trouble")):
            raise RuntimeError(f"it cannot look at the moment, and tries again: {trouble}")
        return known

    def stop(self) -> None:
        self._process.stop()


def _watch(case_name: str, workspace: Workspace, url: str, file: Path) -> None:
    """Follow the log and write what a monitor knows to the file, every few seconds, as long as the service lives.

    Whatever goes wrong, such as a log or a registry that does not answer, is said in the file and in a line of the
    log. Then a new monitor reads everything from the start, because the old one may have read half of something.
    """
    with _background("watcher") as wanted:
        while wanted():
            try:
                with closing(PredictionLog(url)) as log:
                    _watch_until_it_fails(System(case_name, workspace), log, file, wanted=wanted)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                _logger.warning("watcher tries again", extra={"facts": {"why": why}})
                with suppress(OSError):  # the disk may be what fails
                    report.write(json.dumps({"trouble": why}), file)
                time.sleep(WATCH_SECONDS)


def _watch_until_it_fails(system: System, log: PredictionLog, file: Path, *, wanted: Callable[[], bool]) -> None:
    from mlops_course.system.monitor import Monitor, reference_rows

    monitor, version = None, None
    while wanted():
        if (champion := system.registry.champion()) is not None:
            if monitor is None:
                monitor = Monitor.of(system)
            elif champion != version:
                monitor.rebase(reference_rows(system, champion))
            version = champion
            monitor.read(log)
            report.write(json.dumps(monitor.state(pd.Timestamp.now("UTC"))), file)
        time.sleep(WATCH_SECONDS)
