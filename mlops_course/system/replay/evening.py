"""What happens on an evening: labels are counted, a version on trial is judged, and the policy decides."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from mlops_course.development import evaluation
from mlops_course.operations import registry, retraining
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.deployment.rollout import CanaryPlan
from mlops_course.operations.monitoring import faults
from mlops_course.system import pipeline, service
from mlops_course.system.monitor import Monitor
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System

from .ledger import Ledger, Plan
from .questions import DAY, Questions

RECENT = pd.Timedelta("28D")  # whose realised loss the policies look at
LAST_STEP_DAYS = 2  # that a canary stays at its last share before it is promoted
MAX_LATENCY_MS = 60_000.0  # of a canary: a real latency says nothing in simulated time

T = TypeVar("T")
Line = dict[str, Any]  # of the ledger, or a part of one
Train = Callable[..., pipeline.TrainingResult]  # of batches and exclusions


class Steps:
    """The release history as one evening comes to see it.

    An evening that was cut short is lived again, and the history already holds some of its steps. They are hidden at
    first, and each appears when the evening comes to the act that led to it. So the evening decides by what it knew
    the first time, comes to the same acts, and takes no step twice.
    """

    def __init__(self, versions: registry.Registry, evening: datetime) -> None:
        self._registry, self._evening = versions, evening
        self._all = versions.history()
        self._hidden = list(self._all.index[self._of_evening(self._all)])

    def _of_evening(self, history: pd.DataFrame) -> pd.Series:
        return (history["when"] == self._evening) & history["in_effect"]

    @property
    def history(self) -> pd.DataFrame:
        """The history up to the point that the evening has come to."""
        return self._all.drop(index=self._hidden)

    @property
    def taken(self) -> pd.DataFrame:
        """The steps of this evening, up to this point."""
        return self.history[self._of_evening]

    @property
    def champion(self) -> int:
        """The version in charge."""
        return registry.champions_of(self.history)[-1]

    @property
    def trial(self) -> registry.Trial | None:
        """The version on trial."""
        return registry.trial_of(self.history)

    def take(self, act: Callable[[], T], *events: str) -> T | None:
        """Do what may lead to a step with one of these events, and return what it returned.

        None if it is not done, because the history holds its step, or a later one of this evening, from before.
        """
        if not self._hidden:
            try:
                return act()
            finally:
                self._all = self._registry.history()
        if self._all.loc[self._hidden[0], "event"] in events:
            self._hidden.pop(0)
        return None


@dataclass(frozen=True, eq=False)
class Evening:
    """An evening, and all that can be looked at in it."""

    now: pd.Timestamp
    system: System
    questions: Questions
    ledger: Ledger
    log: PredictionLog
    monitor: Monitor
    steps: Steps
    train: Train

    @property
    def _plan(self) -> Plan:
        return self.questions.plan

    def count_labels(self) -> tuple[Line, int]:
        """What the labels of the day say, and the number of the last one that has been counted."""
        number = self.ledger.label_number()
        labelled = self.log.labelled(after=number, inputs=False)
        losses = evaluation.log_losses(labelled["label"], labelled["probability"])
        facts = {
            "labelled": len(labelled),
            "log_loss": round(float(losses.sum()), 6),  # of all together
            "error_cost": float(error_costs(labelled, self.system.specification).sum()),
        }
        return facts, int(labelled["label_number"].max()) if len(labelled) else number

    def alerts(self) -> list[Line]:
        """The alerts of the monitor, in plain values."""
        return [
            {"kind": alert.kind, "subject": alert.subject, "since": f"{alert.since:%Y-%m-%d}"}
            | {"until": alert.until and f"{alert.until:%Y-%m-%d}", "text": alert.text}
            for alert in self.monitor.alerts(self.now)
        ]

    # The version on trial

    def judge_trial(self) -> None:
        """Take the version on trial one step further: from shadow to canary, up to the last share, in or out."""
        trial, candidates = self.steps.trial, self.ledger.candidates()
        own = bool(trial and candidates and trial.version == candidates[-1]["version"])
        if trial and trial.mode == "canary":
            self._judge_canary(trial.version, promote=own)
        elif own:
            self.steps.take(partial(self._judge_shadow, trial), registry.CANARY, registry.ENDED)

    def _canary_plan(self) -> CanaryPlan:
        return replace(service.canary_plan(self.system), max_latency_ms=MAX_LATENCY_MS)

    def _judge_shadow(self, trial: registry.Trial) -> None:
        """End a shadow that left requests unanswered; make a canary of any other."""
        service.follow_shadow(self.system, self.log)
        url, versions = self.system.workspace.prediction_log_url, self.system.registry
        table = service.shadow_table(self.system, log_url=url, trial=trial)
        if unanswered := int(table["unanswered"].iloc[1]):
            reason = f"{unanswered} requests without an answer in shadow"
            versions.end_trial(reason=reason, **self._plan.signature)
            return
        agreement = table["agreement"].iloc[1]
        reason = f"answered all {table['requests'].iloc[1]} requests in shadow, {agreement:.1%} as the champion did"
        versions.canary(trial.version, share=self._canary_plan().steps[0], reason=reason, **self._plan.signature)

    def _judge_canary(self, version: int, *, promote: bool) -> None:
        """Judge a canary by the log; promote one of the plan that has been at its last share for long enough."""
        plan, steps = self._canary_plan(), self.steps
        judge = partial(service.step_canary, self.system, self.log, plan=plan)
        said = steps.take(judge, registry.CANARY, registry.ENDED)
        if not promote or not steps.trial or steps.trial.share != plan.steps[-1]:
            return
        last_step = steps.history.loc[steps.history["in_effect"], "when"].iloc[-1]
        if (self.now - last_step).days >= LAST_STEP_DAYS:
            words = {"reason": "went through its canary", "evidence": said, **self._plan.signature}
            steps.take(partial(self.system.registry.promote, version, **words), registry.PROMOTED)

    # The decision to train

    def decide(self, alerts: Sequence[Mapping[str, Any]]) -> Line:
        """Ask the policy, and train if it says so; what goes on record."""
        specification = self.system.specification
        limits = specification.retraining.model_dump() | specification.monitoring.model_dump()
        decision = retraining.POLICIES[self._plan.policy](self._state(alerts), limits)
        record: Line = {"retrain": decision.retrain, "reason": decision.reason, "training_cost": 0.0}
        if not decision.retrain:
            return record
        batches = retraining.WINDOWS[self._plan.window](self.questions.complete(self.now))
        forbidden = retraining.exclusions(alerts, until=self.now.isoformat())
        excluded = [one.as_dict() for one in forbidden]
        release = partial(self._train_and_release, batches, excluded)
        came = self.steps.take(release, registry.SHADOW, registry.PROMOTED)
        came = came or {"version": int(self.steps.taken["version"].iloc[-1])}
        record |= {"trained_on": batches, "training_cost": float(specification.costs.training)}
        return record | ({} if came.get("refused_by") == "data" else {"not_trained_on": excluded}) | came

    def _train_and_release(self, batches: list[str], excluded: list[Line]) -> Line:
        """Train, begin the trial of the new version or promote it, and return what goes on record."""
        try:
            trained = self.train(batches, exclusions=excluded)
        except retraining.CorruptedError as refusal:
            return {"refused_by": "data", "reason": str(refusal)}
        came: Line = {"version": trained.version}
        if self._plan.careful and not trained.gate.passed:
            return came | {"refused_by": "gate", "objections": list(trained.gate.reasons)}
        if trained.version == self.steps.champion:
            return came  # the same rows gave the same model
        words = {"reason": f"trained on {', '.join(batches)}", **self._plan.signature}
        if self._plan.careful:
            self.system.registry.shadow(trained.version, **words)
        else:
            waiver = "" if trained.gate.passed else "nobody looks at the gate"
            self.system.registry.promote(trained.version, waiver=waiver, **words)
        return came

    def _state(self, alerts: Sequence[Mapping[str, Any]]) -> retraining.State:
        """What the policy may know this evening."""
        candidates, trainings, history = self.ledger.candidates(), self.ledger.trainings(), self.steps.history
        trained_until = candidates[-1]["trained_on"][-1] if candidates else self.questions.before[-1]
        new = [name for name in self.questions.complete(self.now) if name > trained_until]
        trained = history.loc[history["version"] == self.steps.champion, "when"].min()  # released on the same evening
        attempted = pd.Timestamp(trainings[-1]["day"], tz="UTC") + DAY if trainings else self.questions.begin
        drift, weeks = self.monitor.drift(self.now), self.monitor.performance(self.now)
        inputs = drift.drop(index="probability", errors="ignore")
        estimated = weeks["estimated_log_loss"].iloc[-1] if len(weeks) else math.nan
        recent = self.monitor.recent_loss(self.now, width=RECENT)
        return retraining.State(
            age_days=(self.now - trained).days,
            cooldown_days=(self.now - attempted).days,
            new_rows=self.questions.labelled_rows(new),
            new_batches=len(new),
            drift=_known(inputs["psi"].max() if len(inputs) else math.nan),
            estimated_rise=_known(estimated - self.monitor.loss_at_release),
            realised_rise=_known(recent - self.monitor.loss_at_release),
            faults=tuple(sorted({one["kind"] for one in alerts if one["until"] is None} & set(faults.KINDS))),
            on_trial=self.steps.trial is not None,
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
