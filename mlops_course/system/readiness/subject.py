"""What a probe looks at, and how it says that something does not hold."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, training
from mlops_course.operations.deployment import batch
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Registered, Registry
from mlops_course.system.system import System

SEED = 0
SAMPLE = 3000  # rows that a probe looks at, where all would take long
SEARCHED = 10_000  # rows that settings are searched on
SURE = 2.0  # standard errors
DRAWS = 25
LEAST_LABELLED = 200  # to judge the quality of live answers


class _Refuted(Exception):  # noqa: N818 - what a probe found, not what went wrong with it
    """The probe did not get what it demanded; the message says what was found, and what to do."""


def _demand(met: bool, otherwise: str) -> None:
    if not met:
        raise _Refuted(otherwise)


@dataclass(eq=False)
class Subject:
    """A system as the probes see it. `scratch` is a folder that they may write to, `repository` a checkout or None."""

    system: System
    log: PredictionLog
    repository: Path | None
    scratch: Path
    seed: int = field(default=SEED, kw_only=True)

    @cached_property
    def case(self) -> ModuleType:
        """The package of the case."""
        return self.system.case

    @cached_property
    def model(self) -> Registered:
        """The champion, verified."""
        _demand(self.system.registry.champion() is not None, "there is no champion: train and promote a version")
        return self.system.registry.load("champion")

    @cached_property
    def run(self) -> Any:
        """The training run of the champion in MLflow."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.system.workspace.tracking_uri)
        version = client.get_model_version(self.system.registry.name, str(self.model.version))
        return client.get_run(version.run_id)

    @cached_property
    def raw(self) -> dict[str, pd.DataFrame]:
        """The raw tables that the champion comes from."""
        return self._snapshot(self.model.contract.data_version)

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The tables train, calibrate and test of the champion."""
        return self._snapshot(self.run.data.tags.get("split_rows", ""))

    def _snapshot(self, version: str) -> dict[str, pd.DataFrame]:
        try:
            return data.load_snapshot(self.system.workspace.snapshots, version)
        except LookupError as error:
            raise _Refuted(f"the champion's data, snapshot {version!r}, are gone: train a new version") from error

    @cached_property
    def train(self) -> pd.DataFrame:
        """Some rows that the champion was fitted on, in order of time."""
        return self._some(self.parts["train"])

    @cached_property
    def test(self) -> pd.DataFrame:
        """Some rows that the champion was judged on, in order of time."""
        return self._some(self.parts["test"])

    def _some(self, rows: pd.DataFrame, most: int = SAMPLE) -> pd.DataFrame:
        rows = rows.sample(min(most, len(rows)), random_state=self.seed)
        return rows.sort_values(self.system.specification.timing.prediction_time, ignore_index=True)

    @cached_property
    def more(self) -> pd.DataFrame:
        """More rows that the champion was fitted on: settings that suit few rows do not suit many."""
        return self._some(self.parts["train"], SEARCHED)

    @cached_property
    def inputs(self) -> list[str]:
        """The inputs of the champion."""
        return list(self.model.contract.inputs)

    @cached_property
    def target(self) -> str:
        """The column of the label."""
        return self.system.specification.target.column

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The champion's probabilities."""
        with threadpool_limits(1):  # waking other cores for few rows takes longer than the answer
            return self.model.model.predict_proba(rows[self.inputs])[:, 1]

    @cached_property
    def probability(self) -> np.ndarray:
        """The champion's probabilities of the test rows."""
        return self.predict(self.test)

    @cached_property
    def answered(self) -> pd.DataFrame:
        """The newest predictions in the log."""
        rows = self.log.predictions(after=max(self.log.last() - SAMPLE, 0))
        _demand(len(rows) > 0, "no prediction is in the log: serve or stream some rows first")
        return rows

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The newest predictions in the log that have a label."""
        rows = self.log.labelled(inputs=False).tail(5 * SAMPLE)
        _demand(
            len(rows) >= LEAST_LABELLED and rows["label"].nunique() == 2,
            f"{len(rows)} predictions in the log have a label, {LEAST_LABELLED} of both kinds are needed: send labels",
        )
        return rows

    def candidates(self, **features: list[str]) -> dict[str, Any]:
        """The kinds of model that are tried, unfitted."""
        asked = self.system.specification.features
        features = {"numeric": list(asked.numeric), "categorical": list(asked.categorical)} | features
        return training.candidates(self.case.derive, **features, seed=self.seed)

    @contextmanager
    def copied_registry(self) -> Iterator[Registry]:
        """The registry on a copy of its database: what is released there is released nowhere."""
        copy = self.scratch / f"copy-{time.monotonic_ns()}.db"
        with closing(sqlite3.connect(self.system.workspace.database)) as live, closing(sqlite3.connect(copy)) as other:
            live.backup(other)
        before = self.system.registry.newest_release()
        yield replace(self.system.registry, tracking_uri=f"sqlite:///{copy.as_posix()}")
        _demand(self.system.registry.newest_release() == before, "the live registry was changed by the drill")


def _log_loss(target: Any, probability: Any) -> np.ndarray:
    y, p = np.asarray(target, float), np.clip(np.asarray(probability, float), 1e-15, 1 - 1e-15)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def _logged_inputs(it: Subject, rows: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame([json.loads(text) for text in rows["inputs"]])
    return batch.conform(frame, it.model.contract.inputs)
