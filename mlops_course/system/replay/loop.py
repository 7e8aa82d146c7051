"""From day to day: each is served, looked back at in the evening, and put on record."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.operations import retraining
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import pipeline, service
from mlops_course.system.monitor import Monitor, reference_rows
from mlops_course.system.system import System

from .evening import Evening, Steps, Train
from .ledger import Ledger, Plan
from .questions import DAY, Clock, Desk, Questions, _in_process, _over_http

SHOW_SECONDS = 3.0  # between two states of the page: a day passes in less


@dataclass(frozen=True, eq=False)
class Replayed:
    """What came of a replay: its system with registry and log, and its ledger."""

    system: System
    ledger: Ledger
    log_url: str


def replay(
    system: System,
    plan: Plan,
    *,
    name: str,
    over_http: bool = False,
    began: Callable[[str], None] = lambda url: None,
    told: Callable[[pd.Timestamp, Mapping[str, Any]], None] = lambda day, line: None,
    progress: Callable[[str, str], None] | None = None,
) -> Replayed:
    """Live through the days of a plan, from where its ledger ends; a second call does nothing more.

    Everything of it is in a workspace of its own, the folder `replays/NAME` in that of `system`. `told` hears of each
    day once it is on record, `progress` of the steps of a training as with `pipeline.train`. `over_http` sends all
    requests through a real server, and `began` hears its address; the ledger is the same.

    Raises ValueError if there is no such batch, policy or window, or the folder holds the replay of another plan.
    """
    _check(system, plan)
    home, clock = system.workspace.replay(name).create(), Clock(datetime.min)
    own = System(system.case_name, home, clock=clock)
    ledger, log = Ledger(home.root / "ledger.jsonl", plan), PredictionLog(home.prediction_log_url)
    questions = Questions(own, plan)
    train = partial(pipeline.train, questions.case, workspace=home, seed=plan.seed, progress=progress)
    try:
        loop = _Loop(questions, ledger, log, clock, train)
        app = service.application(own, log=log, by_itself=False, watched=lambda: loop.state)
        with threadpool_limits(1), _over_http(app, began) if over_http else _in_process(app) as post:
            for day in loop.questions.days()[len(ledger.days) :]:
                line = loop.live(day, Desk(loop.questions, clock, post))
                told(day, line)
                if over_http:
                    loop.show(day + DAY)
    finally:
        log.close()
    return Replayed(own, ledger, home.prediction_log_url)


def _check(system: System, plan: Plan) -> None:
    asked = {"policy": (plan.policy, retraining.POLICIES), "window": (plan.window, retraining.WINDOWS)}
    for what, (name, known) in asked.items():
        if name not in known:
            raise ValueError(f"expected a {what} out of {list(known)}, got {name!r}")
    batches = system.case.batches()
    if not (plan.first in batches[1:] and plan.last in batches and plan.first <= plan.last):
        raise ValueError(f"expected first and last out of {batches[1:]}, in order, got {plan.first} and {plan.last}")


class _Loop:
    """One plan being lived through; its first champion is trained unless there is one."""

    state: dict[str, Any] | None = None  # of the monitor, for the page of the service
    _shown_at = -math.inf

    def __init__(self, questions: Questions, ledger: Ledger, log: PredictionLog, clock: Clock, train: Train) -> None:
        self.questions, self.ledger, self.log, self.train = questions, ledger, log, train
        self.system = system = questions.system
        before, versions = questions.before, system.registry
        if versions.champion() is None:
            clock.now = questions.begin.to_pydatetime()
            reason = f"first release, trained on {before[0]} to {before[-1]}"
            versions.promote(train(before).version, reason=reason, **questions.plan.signature)
        self._watched = int(versions.history()["version"].iloc[0])  # what is usual is learnt from the first
        self.monitor = Monitor(system, reference_rows(system, self._watched))

    def live(self, day: pd.Timestamp, desk: Desk) -> dict[str, Any]:
        """Live through a day: serve it, look back at it in the evening, and put it on record."""
        served, now = desk.serve(day), day + DAY
        desk.clock.now = now.to_pydatetime()
        steps = Steps(self.system.registry, desk.clock.now)
        evening = Evening(now, self.system, self.questions, self.ledger, self.log, self.monitor, steps, self.train)
        champion = steps.champion
        labels, label_number = evening.count_labels()
        self.monitor.read(self.log)
        if champion != self._watched:
            self.monitor.rebase(reference_rows(self.system, champion))
            self._watched = champion
        alerts = evening.alerts()
        evening.judge_trial()
        decided = evening.decide(alerts)
        cost = served["answered"] / 1_000 * self.system.specification.costs.serving
        line = {"day": f"{day:%Y-%m-%d}", **served, **labels, "champion": champion, "serving_cost": cost, **decided}
        line |= {
            "alerts": [alert for alert in alerts if alert["until"] is None],
            "steps": [f"{step.event}: version {step.version}: {step.reason}" for step in steps.taken.itertuples()],
            "loop": {"label_number": label_number},
        }
        self.ledger.add(line)
        return line

    def show(self, now: pd.Timestamp) -> None:
        """Bring the page of the service up to date, but not more often than somebody can look."""
        if time.monotonic() > self._shown_at + SHOW_SECONDS:
            self.state, self._shown_at = self.monitor.state(now), time.monotonic()
