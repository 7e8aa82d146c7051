"""The canary: judged by what the log says of it, then raised step by step or stopped."""

import logging

import pandas as pd

from mlops_course.operations.deployment import rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import OvertakenError, Trial
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System

_logger = logging.getLogger(__name__)

RULE = "canary rule, begun by "  # followed by a name: the approver of what the canary does by itself


def canary_plan(system: System) -> rollout.CanaryPlan:
    """Shares and bars of a canary of this system; the bars are those of the specification."""
    costs, gates = system.specification.costs, system.specification.gates
    return rollout.CanaryPlan(max_latency_ms=gates.max_latency_ms, max_cost=max(costs.false_alarm, costs.missed))


class _Canary:
    """The canary on trial: reads what is new of it in the log, and does what the verdict says."""

    def __init__(
        self, system: System, log: PredictionLog, trial: Trial, plan: rollout.CanaryPlan | None = None
    ) -> None:
        self._system, self._log, self.trial = system, log, trial
        self._plan = plan or canary_plan(system)
        self._answers: list[pd.DataFrame] = []
        self._labels: list[pd.DataFrame] = []
        self._answer, self._label = 0, 0  # numbers read so far
        self._note, self._pending = "nothing answered yet", False

    def judge(self) -> rollout.Verdict:
        answers, labels = pd.concat(self._answers), pd.concat(self._labels)
        return rollout.judge(answers, labels, plan=self._plan, share=self.trial.share)

    def step(self) -> str:
        """Read what is new, judge, and put a change on record, or try again at the next step. Returns how it stands."""
        if not self.read() and not self._pending:
            return self._note
        self._pending = True
        verdict, registry = self.judge(), self._system.registry
        self._note = verdict.reason
        approver = RULE + self.trial.approver.removeprefix(RULE)
        measures = verdict.measures.round(6).to_json(orient="index")
        words = {"approver": approver, "reason": verdict.reason, "evidence": measures}
        try:
            if verdict.action == rollout.STOP:
                registry.end_trial(**words)
            elif verdict.action == rollout.RAISE:
                waiver = registry.history().loc[self.trial.release, "waiver"]
                registry.canary(self.trial.version, share=verdict.share, waiver=waiver, **words)
        except OvertakenError as overtaken:
            _logger.warning("overtaken", extra={"facts": {"why": str(overtaken)}})
        self._pending = False
        return self._note

    def read(self) -> bool:
        """Read what is new in the log; whether there was something."""
        answers = self._log.predictions(after=self._answer, since=self.trial.since, inputs=False)
        labelled = self._log.labelled(after=self._label, since=self.trial.since, inputs=False)
        self._answer = max([self._answer, *answers["number"].tail(1).tolist()])
        self._label = max([self._label, *labelled["label_number"].tail(1).tolist()])
        answers, labelled = self._on_trial(answers), self._on_trial(labelled)
        if self._answers and answers.empty and labelled.empty:
            return False  # and nothing to keep: this is asked every second, for days
        self._answers.append(answers[["challenger", "share", "failed", "latency_ms"]])
        labelled = labelled.assign(cost=error_costs(labelled, self._system.specification))
        self._labels.append(labelled[["challenger", "share", "cost"]])
        return len(answers) + len(labelled) > 0

    def _on_trial(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows that were answered while the canary ran, with whether it was to answer, and failed."""
        rows = rows[rows["share"] > 0]
        challenger = rows["assigned_version"] == self.trial.version
        return rows.assign(challenger=challenger, failed=challenger & (rows["model_version"] != self.trial.version))


def step_canary(system: System, log: PredictionLog, *, plan: rollout.CanaryPlan | None = None) -> str:
    """Judge the canary on trial by the log, put the change on record, and return how it stands.

    Raises ValueError if no canary is on trial.
    """
    trial = system.registry.trial()
    if not trial or trial.mode != "canary":
        raise ValueError(f"expected a canary on trial, found {trial}; begin one with Registry.canary")
    return _Canary(system, log, trial, plan).step()


def canary_verdict(system: System, *, log_url: str, trial: Trial) -> rollout.Verdict:
    """How a canary stands by what is in the log; changes nothing."""
    canary = _Canary(system, PredictionLog(log_url), trial)
    canary.read()
    return canary.judge()
