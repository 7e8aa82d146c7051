"""The process that answers in shadow, and how it did beside the champion."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mlops_course.operations.deployment import serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Trial
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .models import servable
from .processes import _background, _Beside, _url

_logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.2  # between two looks of the shadow at the log, when there was nothing new
FOLLOW_ROWS = 500  # that the shadow answers at once


def shadow_log(url: str) -> PredictionLog:
    """The log of what versions in shadow answered, beside the prediction log of `url`.

    With SQLite it is a file of its own, so that a slow writer there never keeps the service waiting for a lock.
    """
    return PredictionLog(url.removesuffix(".db") + ".shadow.db" if url.startswith("sqlite") else url, prefix="shadow_")


class _Shadow(_Beside):
    """The process that answers in shadow; it ends when it is stopped, or when the service is gone."""

    def __init__(self, system: System, log: PredictionLog, trial: Trial) -> None:
        super().__init__("shadow", _follow, system.case_name, system.workspace, _url(log), trial)
        self.trial = trial


def _consumer(trial: Trial) -> str:
    """The name under which the shadow keeps its position."""
    return f"shadow {trial.release}"


def _follow(case_name: str, workspace: Workspace, url: str, trial: Trial) -> None:
    """Answer in shadow what came since the trial began, each prediction once, as long as the service lives."""
    with _background("shadow") as wanted, closing(PredictionLog(url)) as log, closing(shadow_log(url)) as shadow:
        follower = _Follower(System(case_name, workspace), log, shadow, trial)
        while wanted():
            if not follower.step():
                time.sleep(FOLLOW_SECONDS)


def follow_shadow(system: System, log: PredictionLog) -> None:
    """Let the version in shadow answer all that the log holds since its trial began, each prediction once.

    Raises ValueError if no version is in shadow.
    """
    trial = system.registry.trial()
    if not trial or trial.mode != "shadow":
        raise ValueError(f"expected a version in shadow, found {trial}; begin with Registry.shadow")
    with closing(shadow_log(_url(log))) as shadow:
        follower = _Follower(system, log, shadow, trial)
        while follower.step():
            pass


class _Follower:
    """A version in shadow, and how far in the log it has come."""

    def __init__(self, system: System, log: PredictionLog, shadow: PredictionLog, trial: Trial) -> None:
        self._log, self._shadow, self._trial, self._consumer = log, shadow, trial, _consumer(trial)
        self._model = servable(system.registry.load(trial.version))
        # the champion has checked the rows by its contract; here nothing is required
        self._request = serving.request_type(replace(self._model, optional=list(self._model.inputs)))

    def step(self) -> bool:
        """Answer some rows and keep the answers; whether there were any."""
        trial, model = self._trial, self._model
        rows = self._log.predictions(after=self._shadow.position(self._consumer), since=trial.since, limit=FOLLOW_ROWS)
        if rows.empty:
            return False
        begun = time.perf_counter()
        inputs = self._request.validate_json(f'{{"rows": [{",".join(rows["inputs"])}]}}')["rows"]
        probability = _probabilities(model, inputs)
        latency_ms = (time.perf_counter() - begun) * 1e3 / len(rows)
        answers = rows[["id", "time"]].assign(model_version=trial.version, probability=probability, inputs="")
        answers = answers.assign(decision=answers["probability"] >= model.threshold, latency_ms=latency_ms)
        kept = answers[answers["probability"].notna()].to_dict("records")  # inputs are in the log of the champion
        self._shadow.append(kept, position=(self._consumer, int(rows["number"].iloc[-1])))
        return True


def _probabilities(model: serving.Servable, rows: list[Mapping[str, Any]]) -> Sequence[float]:
    """The model's probabilities, NaN for a row on which it fails: in shadow, a failure is a finding, not the end."""
    try:
        return model.predict(rows)
    except Exception as error:
        if len(rows) == 1:
            _logger.warning("shadow failed", extra={"facts": {"version": model.version, "why": type(error).__name__}})
            return [np.nan]
        return [probability for row in rows for probability in _probabilities(model, [row])]


def shadow_table(system: System, *, log_url: str, trial: Trial) -> pd.DataFrame:
    """Champion and a version in shadow on the same requests: means, share of yes, cost per label, and failures.

    `agreement` is the share of requests on which both decide alike, `unanswered` counts requests that the shadow has
    passed without an answer. Where a decision hides the label, the cost of the shadow is wrong.
    """
    with closing(PredictionLog(log_url)) as log, closing(shadow_log(log_url)) as shadow:
        in_shadow = shadow.predictions(since=trial.since, inputs=False).set_index("id")
        champion = log.predictions(since=trial.since, inputs=False).set_index("id")
        champion = champion[champion["number"] <= shadow.position(_consumer(trial))]
        labels = log.labelled(since=trial.since, inputs=False).set_index("id")["label"]
    both = in_shadow.index.intersection(champion.index)
    known = both.intersection(labels.index)
    agreement = (champion.loc[both, "decision"] == in_shadow.loc[both, "decision"]).mean()

    def row(name: str, predictions: pd.DataFrame) -> dict[str, Any]:
        costs = error_costs(predictions.loc[known].assign(label=labels[known]), system.specification)
        return {
            "model": name,
            "requests": len(both),
            "unanswered": len(champion) - len(predictions.index.intersection(champion.index)),
            "mean_probability": predictions.loc[both, "probability"].mean(),
            "yes": predictions.loc[both, "decision"].mean(),
            "agreement": agreement,
            "labels": len(known),
            "cost": costs.mean() if len(known) else np.nan,
        }

    return pd.DataFrame([row("champion", champion), row(f"version {trial.version} in shadow", in_shadow)])
