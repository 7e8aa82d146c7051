"""What the probes examine: the champion, its rows and the prediction log, each looked up once."""

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
from mlops_course.operations.deployment import batch, rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Registered, Registry
from mlops_course.system.system import System

SAMPLE_ROWS = 3000  # rows that a probe examines, where all rows would take long
STANDARD_ERRORS = 2.0  # a difference within so many standard errors may be chance
MIN_LABELLED = 200  # labelled predictions, from which their quality is judged


class _ProbeFailed(Exception):  # noqa: N818 - a result of the probe, not an error in it
    """The system lacks what the probe looks for; the message says what was found, and what to do."""


def _require(condition: bool, failure: str) -> None:
    if not condition:
        raise _ProbeFailed(failure)


@dataclass(eq=False)
class SystemUnderTest:
    """A system as the probes see it. `scratch` is a folder that they may write to, `repository` a checkout or None."""

    system: System
    log: PredictionLog
    repository: Path | None
    scratch: Path
    seed: int = field(default=0, kw_only=True)

    @cached_property
    def case(self) -> ModuleType:
        """The package of the case."""
        return self.system.case

    @cached_property
    def model(self) -> Registered:
        """The champion, verified."""
        _require(self.system.registry.champion() is not None, "there is no champion: train and promote a version")
        return self.system.registry.load("champion")

    @cached_property
    def run(self) -> Any:
        """The training run of the champion in MLflow."""
        return self.system.run_of(self.model.version)

    @cached_property
    def kind(self) -> str:
        """The kind of model that was chosen in the training run, empty if the run does not say."""
        return self.run.data.tags.get("chosen_model", "")

    @cached_property
    def raw(self) -> dict[str, pd.DataFrame]:
        """The raw tables of the champion's training."""
        return self._snapshot(self.model.contract.data_version)

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The tables train, calibrate and test of the champion."""
        return self._snapshot(self.run.data.tags.get("split_rows", ""))

    def _snapshot(self, version: str) -> dict[str, pd.DataFrame]:
        try:
            return data.load_snapshot(self.system.workspace.snapshots, version)
        except LookupError as error:
            raise _ProbeFailed(f"the champion's data, snapshot {version!r}, are gone: train a new version") from error

    @cached_property
    def train(self) -> pd.DataFrame:
        """A sample of the rows that the champion was fitted on, in order of time."""
        return self.sample("train", SAMPLE_ROWS)

    @cached_property
    def test(self) -> pd.DataFrame:
        """A sample of the rows that the champion was judged on, in order of time."""
        return self.sample("test", SAMPLE_ROWS)

    def sample(self, part: str, rows: int) -> pd.DataFrame:
        """Return some rows of a part, in order of time."""
        table = self.parts[part]
        sample = table.sample(min(rows, len(table)), random_state=self.seed)
        return sample.sort_values(self.system.specification.timing.prediction_time, ignore_index=True)

    @cached_property
    def inputs(self) -> list[str]:
        """The inputs of the champion."""
        return list(self.model.contract.inputs)

    @cached_property
    def target(self) -> str:
        """The column of the label."""
        return self.system.specification.target.column

    @cached_property
    def costs(self) -> dict[str, float]:
        """What a false alarm and a missed event cost."""
        return self.system.specification.costs.model_dump(include={"false_alarm", "missed"})

    def measurement(self, rows: pd.DataFrame) -> dict[str, Any]:
        """How the pipeline measures answers to rows: costs, slices, and whole days drawn for intervals."""
        spec = self.system.specification
        days = rows[spec.timing.prediction_time].dt.floor("D")
        settings = {"threshold": self.model.contract.threshold, "min_rows": spec.gates.min_slice_rows}
        return settings | self.costs | {"slices": rows[list(spec.slices)], "groups": days, "seed": self.seed}

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the champion's probabilities of rows."""
        with threadpool_limits(1):  # waking other cores for few rows takes longer than the prediction
            return self.model.model.predict_proba(rows[self.inputs])[:, 1]

    @cached_property
    def probability(self) -> np.ndarray:
        """The champion's probabilities of the test rows."""
        return self.predict(self.test)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The newest predictions in the log."""
        rows = self.log.predictions(after=max(self.log.last() - SAMPLE_ROWS, 0))
        _require(len(rows) > 0, "no prediction is in the log: serve or stream some rows first")
        return rows

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The newest predictions in the log that have a label."""
        rows = self.log.labelled(inputs=False).tail(5 * SAMPLE_ROWS)
        few = f"{len(rows)} predictions in the log have a label, {MIN_LABELLED} of both kinds are needed: send labels"
        _require(len(rows) >= MIN_LABELLED and rows["label"].nunique() == 2, few)
        return rows

    def logged_inputs(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return the inputs of logged predictions, as the champion takes them."""
        rows = pd.DataFrame([json.loads(text) for text in predictions["inputs"]])
        return batch.conform(rows, self.model.contract.inputs)

    def candidates(self, **features: list[str]) -> dict[str, Any]:
        """Return the kinds of model that a training tries, unfitted."""
        named = self.system.specification.features
        features = {"numeric": list(named.numeric), "categorical": list(named.categorical)} | features
        return training.candidates(self.case.derive, **features, seed=self.seed)

    def judge_canary(self, plan: rollout.CanaryPlan, challenger: np.ndarray, **columns: Any) -> rollout.Verdict:
        """Return the verdict on a canary at its first share; rows of the `challenger` are marked.

        `columns` are what its answers have instead of quick successes, and the cost of each if their labels have come.
        """
        answers = pd.DataFrame({"challenger": challenger, "share": plan.steps[0], "failed": False, "latency_ms": 1.0})
        answers = answers.assign(**columns)
        labels = answers if "cost" in columns else answers.head(0).assign(cost=0.0)
        return rollout.judge(answers, labels, plan=plan, share=plan.steps[0])

    @contextmanager
    def copied_registry(self) -> Iterator[Registry]:
        """Give the registry on a copy of its database, so that a release there changes nothing here."""
        copy = self.scratch / f"copy-{time.monotonic_ns()}.db"
        with closing(sqlite3.connect(self.system.workspace.database)) as live, closing(sqlite3.connect(copy)) as other:
            live.backup(other)
        before = self.system.registry.newest_release()
        yield replace(self.system.registry, tracking_uri=f"sqlite:///{copy.as_posix()}")
        _require(self.system.registry.newest_release() == before, "the live registry was changed by the drill")
