"""The process that follows the log with a monitor."""

import json
import multiprocessing
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import report
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .processes import _background_process, _url

WATCH_SECONDS = 5.0  # between two looks of the monitor at the log


class _Watcher:
    """The process that watches the log; it writes what it knows to a file, so a request waits for no monitor."""

    def __init__(self, system: System, log: PredictionLog) -> None:
        self._file = system.workspace.create().reports / "monitor.json"
        self._file.unlink(missing_ok=True)
        task = (system.case_name, system.workspace, _url(log), self._file)
        self._process = multiprocessing.get_context("spawn").Process(target=_watch, args=task, daemon=True)
        self._process.start()

    def state(self) -> dict[str, Any] | None:
        """What the monitor knows, None before it has looked. Raises RuntimeError if the process has ended."""
        if not self._process.is_alive():
            raise RuntimeError(f"the process that watches ended with {self._process.exitcode}; see its last lines")
        return json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else None

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(10)


def _watch(case_name: str, workspace: Workspace, url: str, file: Path) -> None:
    """Follow the log and write what a monitor knows to the file, every few seconds, as long as the parent lives."""
    from mlops_course.system.monitor import Monitor, reference_rows

    parent = multiprocessing.parent_process()
    with _background_process("watcher"), closing(PredictionLog(url)) as log:
        system, monitor, version = System(case_name, workspace), None, None
        while parent is None or parent.is_alive():
            if (champion := system.registry.champion()) is not None:
                if monitor is None:
                    monitor = Monitor.of(system)
                elif champion != version:
                    monitor.rebase(reference_rows(system, champion))
                version = champion
                monitor.read(log)
                report.write(json.dumps(monitor.state(pd.Timestamp.now("UTC"))), file)
            time.sleep(WATCH_SECONDS)
