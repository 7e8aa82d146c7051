"""The closed loop over a stretch of history, in simulated time: serve, log, label, watch, decide, train, release.

    Plan        what is replayed: which batches, under which policy, with which faults
    replay      live through the days of a plan, from where its ledger ends
    Ledger      what each day brought, one line a day, in a file that only grows

A day of the replay is a day of the service. Rows are asked for, over HTTP or in process, in the order of their times;
labels are sent when they came. In the evening the monitor reads the log, a version on trial is judged, and the policy
decides whether to train. All of it is done by the parts that do it in earnest: the application answers, `pipeline`
trains, the gate judges, the registry keeps the history. Only the clock is not real, and nobody has to wait.

**Killed at any moment, it goes on.** A day counts once its line is in the ledger. A day that was under way is lived
again from its morning: answers and labels on record stay as they are, a step that the history holds for that evening is
not taken twice, and the pipeline trains nothing that it has trained.
"""

import asyncio
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pandas as pd
from pydantic_core import to_json
from threadpoolctl import threadpool_limits

from mlops_course.operations import registry, retraining
from mlops_course.operations.deployment import serving, streaming
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import faults
from mlops_course.system import drill, pipeline, service
from mlops_course.system.monitor import Monitor, reference_rows
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Ledger", "Plan", "replay"]

EVERY = pd.Timedelta("3h")  # the desk asks so often, for all that is due until the next time
DAY = pd.Timedelta("1D")
SHADOW_DAYS = 1  # that a candidate answers in shadow before anybody gets its answers
RECENT = pd.Timedelta("28D")  # whose realised loss the policies look at
LAST_STEP_DAYS = 2  # that a canary stays at its last share before it is promoted
SHOW_SECONDS = 3.0  # between two states of the page: a day passes in less
PATIENCE_MS = 60_000.0  # for an answer: a real latency says nothing in simulated time
QUIET, IN_SHADOW, IN_CANARY = "quiet", "shadow", "canary"  # phases of the loop
BEGUN = {
    **{"phase": QUIET, "candidate": None, "since": None, "label_number": 0, "trained": None, "attempted": None},
    **{"candidate_trained": None, "champion_trained": None},  # evenings on which the two were trained
}
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is replayed, in plain values.

    The batches from `first` to `last` are lived through, or the days before `until`; the first champion is trained on
    all before. `policy` and
    `window` say when and on what to train, by their names in `retraining`. `faults` are plain values of `faults.Fault`.
    Unless `careful`, what was trained is promoted at once, whatever the gate says, as a team without a release process
    would.
    """

    first: str
    last: str
    policy: str = "never"
    window: str = "all past"
    until: str = ""
    faults: Sequence[Mapping[str, Any]] = ()
    careful: bool = True
    seed: int = SEED

    @property
    def signature(self) -> dict[str, str]:
        """Who signs what the plan does by itself."""
        return {"approver": f"policy {self.policy}, {self.window}"}


class Ledger:
    """What each day brought: JSON lines in a file, the plan first; a line counts once it is whole and on disk.

    Raises ValueError if the file holds another plan.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = json.loads(json.dumps(asdict(plan)))
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            os.truncate(path, sum(map(len, whole)))  # the line that a kill cut off
        if not whole:
            self._append(begun)
        elif (found := json.loads(whole[0])) != begun:
            raise ValueError(f"expected the ledger of {begun} in {path}, found that of {found}; take another folder")
        self.days: list[dict[str, Any]] = [json.loads(line) for line in whole[1:]]

    def add(self, day: Mapping[str, Any]) -> None:
        """Put a day on record; it is on disk when this returns."""
        self._append(day)
        self.days.append(json.loads(json.dumps(day)))

    def frame(self) -> pd.DataFrame:
        """The days so far, one row each."""
        return pd.DataFrame(self.days).drop(columns="loop", errors="ignore")

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


# The clock and the way to the service ---------------------------------------------------------------------------------


@dataclass
class _Clock:
    """Simulated time: it stands still until it is set."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def _in_process(app: "FastAPI", began: Callable[[str], None]) -> Iterator[Callable[[str, bytes], httpx.Response]]:
    """A way to post to the application without a network: every part of it runs but the socket."""
    loop = asyncio.new_event_loop()  # in a thread of its own, as the caller, in a notebook, may have one that runs
    thread = threading.Thread(target=loop.run_forever, name="replayed application")

    def run(step: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result()

    thread.start()
    try:
        lifespan = app.router.lifespan_context(app)
        run(lifespan.__aenter__())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=None)
        try:
            yield lambda path, body: run(client.post(path, content=body))
        finally:
            run(client.aclose())
            run(lifespan.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _over_http(app: "FastAPI", began: Callable[[str], None]) -> Iterator[Callable[[str, bytes], httpx.Response]]:
    """A way to post to the application through a real server on a free port of this machine."""
    import uvicorn

    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="replayed service")
        thread.start()
        try:
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            began(url)
            with httpx.Client(base_url=url, timeout=None) as client:
                yield lambda path, body: client.post(path, content=body)
        finally:
            server.should_exit = True
            thread.join()


# The loop -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Replayed:
    """What came of a replay: its system with registry and log, and its ledger."""

    system: System
    plan: Plan
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
    requests through a real server, of whose address `began` hears; the ledger is the same.

    Raises ValueError if there is no such batch, policy or window, or the folder holds the replay of another plan.
    """
    for what, name_of, known in (
        ("policy", plan.policy, retraining.POLICIES),
        ("window", plan.window, retraining.WINDOWS),
    ):
        if name_of not in known:
            raise ValueError(f"expected a {what} out of {list(known)}, got {name_of!r}")
    batches = system.case.batches()
    if not (plan.first in batches[1:] and plan.last in batches and plan.first <= plan.last):
        raise ValueError(f"expected first and last out of {batches[1:]}, in order, got {plan.first} and {plan.last}")
    home = system.workspace.replay(name).create()
    clock = _Clock(datetime.min)
    own = System(system.case_name, home, clock=clock)
    loop = _Loop(own, plan, clock, progress=progress)
    post, loop.shown = (_over_http, True) if over_http else (_in_process, False)
    try:
        loop.begin()
        app = service.application(own, log=loop.log, by_itself=False, watched=lambda: loop.state)
        with threadpool_limits(1), post(app, began) as loop.post:
            for day in loop.days_left():
                told(day, loop.live(day))
    finally:
        loop.log.close()
    return Replayed(own, plan, loop.ledger, home.prediction_log_url)


class _Loop:
    """One plan being lived through."""

    post: Callable[[str, bytes], httpx.Response]
    state: dict[str, Any] | None = None  # of the monitor, for the page of the service
    shown = False  # whether anybody can see that page
    _shown_at = -math.inf

    def __init__(
        self, system: System, plan: Plan, clock: _Clock, *, progress: Callable[[str, str], None] | None
    ) -> None:
        self.system, self.plan, self.clock, self._progress = system, plan, clock, progress
        self.ledger = Ledger(system.workspace.root / "ledger.jsonl", plan)
        self.log = PredictionLog(system.workspace.prediction_log_url)
        names = system.case.batches()
        self._before = names[: names.index(plan.first)]
        self._during = names[names.index(plan.first) : names.index(plan.last) + 1]
        timing = system.specification.timing
        self._case = drill.with_faults(system.case, plan.faults)
        rows = pipeline.prediction_rows(self._case, [self._before[-1], *self._during], workspace=system.workspace)
        self._rows = rows[rows["batch"].isin(self._during)].reset_index(drop=True)
        self._events = streaming.timeline(self._rows, asked=timing.prediction_time, labelled=timing.label_time)
        self._known = self._rows.groupby("batch")[timing.label_time].max()  # when a batch has its last label
        self._plan_of_canary = replace(service.canary_plan(system), max_latency_ms=PATIENCE_MS)

    # The days

    def days_left(self) -> list[pd.Timestamp]:
        """The days that are not in the ledger yet, in order; the last one is that of the last label."""
        first, last = self._events["time"].iloc[[0, -1]].dt.floor("D")
        days = pd.date_range(first, last)
        days = days[days < pd.Timestamp(self.plan.until, tz="UTC")] if self.plan.until else days
        return list(days[len(self.ledger.days) :])

    def begin(self) -> None:
        """Train the first champion, unless there is one."""
        self.clock.now = self._events["time"].iloc[0].floor("D").to_pydatetime()
        if self.system.registry.champion() is None:
            trained = self._train(self._before)
            words = {"reason": f"first release, trained on {self._before[0]} to {self._before[-1]}"}
            self.system.registry.promote(trained.version, **words, **self.plan.signature)
        self._watched = int(self.system.registry.history()["version"].iloc[0])  # what is usual is learnt from the first
        self.monitor = Monitor(self.system, reference_rows(self.system, self._watched))

    def live(self, day: pd.Timestamp) -> dict[str, Any]:
        """Live through a day: serve it, look back at it in the evening, and put it on record."""
        before = BEGUN | (self.ledger.days[-1]["loop"] if self.ledger.days else {})  # an older ledger may know less
        self.clock.now = day.to_pydatetime()
        self._post("/refresh", b"")
        served = self._serve(day)
        self.clock.now = (day + DAY).to_pydatetime()
        self._read_anew()
        champion = self._champion()
        facts, loop = self._count(before)
        self.monitor.read(self.log)
        alerts = self._alerts(champion)
        loop = self._trial(loop)
        loop, decided = self._decide(loop, alerts)
        costs = {"serving_cost": served["answered"] / 1_000 * self.system.specification.costs.serving}
        open_alerts = [one for one in alerts if one["until"] is None]
        line = {"day": f"{day:%Y-%m-%d}", **served, **facts, "champion": champion, **costs, **decided}
        line |= {"alerts": open_alerts, "steps": self._steps(), "loop": loop}
        self.ledger.add(line)
        if self.shown and time.monotonic() > self._shown_at + SHOW_SECONDS:
            self.state, self._shown_at = self.monitor.state(self._today), time.monotonic()
        return line

    # Serving

    def _serve(self, day: pd.Timestamp) -> dict[str, int]:
        """Send the labels and the questions of a day; how many rows were answered and how many refused."""
        times = self._events["time"]
        events = self._events.iloc[times.searchsorted(day) : times.searchsorted(day + DAY)]
        answered = refused = 0
        for _, part in events.groupby(events["time"].dt.floor(EVERY)):
            self.clock.now = part["time"].iloc[-1].to_pydatetime()
            known = self._rows.iloc[part.loc[part["kind"] == streaming.LABELLED, "row"]]
            asked = self._rows.iloc[part.loc[part["kind"] == streaming.ASKED, "row"]]
            for body in self._labels(known):
                self._post("/feedback", body)
            for rows in self._parts(asked):
                missed = self._ask(rows)
                answered, refused = answered + len(rows) - missed, refused + missed
        return {"answered": answered, "refused": refused}

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Ask for some rows, and for each by itself if they are refused together; how many are refused."""
        response = self._post("/predict", to_json({"rows": rows}), may_refuse=True)
        if response.is_success:
            return 0
        return 1 if len(rows) == 1 else sum(self._ask([row]) for row in rows)

    def _parts(self, rows: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
        """The bodies of rows to ask for, no more at once than a request may have."""
        columns = ["id", *self.system.specification.inputs.all]
        values = rows[columns].astype(object).where(rows[columns].notna(), None).to_dict("records")
        for start in range(0, len(values), serving.MAX_ROWS):
            yield values[start : start + serving.MAX_ROWS]

    def _labels(self, rows: pd.DataFrame) -> Iterator[bytes]:
        target, time = self.system.specification.target.column, self.system.specification.timing.label_time
        labels = [
            {"id": name, "label": int(label), "time": moment.to_pydatetime()}
            for name, label, moment in zip(rows["id"], rows[target], rows[time], strict=True)
        ]
        for start in range(0, len(labels), serving.MAX_ROWS):
            yield to_json({"labels": labels[start : start + serving.MAX_ROWS]})

    def _post(self, path: str, body: bytes, *, may_refuse: bool = False) -> httpx.Response:
        """The service's answer. Raises RuntimeError if it has none, as the day cannot go on without."""
        response = self.post(path, body)
        if response.is_success or (may_refuse and response.status_code == httpx.codes.UNPROCESSABLE_ENTITY):
            return response
        raise RuntimeError(
            f"expected the service to answer {path} at {self.clock.now}, got {response.status_code}: "
            f"{response.text[:500]}; see to it, and start the replay again: it goes on from this day"
        )

    # The evening

    def _count(self, loop: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the labels of the day say, and the loop with the number of the last one."""
        labelled = self.log.labelled(after=loop["label_number"], inputs=False)
        chosen = np.where(labelled["label"] == 1, labelled["probability"], 1 - labelled["probability"])
        facts = {
            "labelled": len(labelled),
            "log_loss": round(float(-np.log(np.clip(chosen, np.finfo(float).eps, 1)).sum()), 6),  # of all together
            "error_cost": float(error_costs(labelled, self.system.specification).sum()),
        }
        return facts, {
            **loop,
            "label_number": int(labelled["label_number"].max()) if len(labelled) else loop["label_number"],
        }

    def _alerts(self, champion: int) -> list[dict[str, Any]]:
        """The alerts of the monitor, whose reference are the rows of the champion of the day."""
        if champion != self._watched:
            self.monitor.rebase(reference_rows(self.system, champion))
            self._watched = champion
        return [
            {"kind": alert.kind, "subject": alert.subject, "since": f"{alert.since:%Y-%m-%d}"}
            | {"until": alert.until and f"{alert.until:%Y-%m-%d}", "text": alert.text}
            for alert in self.monitor.alerts(self._today)
        ]

    @cached_property
    def _history(self) -> pd.DataFrame:
        """The history of releases, read once an evening and again after each step of it."""
        return self.system.registry.history()

    def _step(self, act: Callable[..., Any], *of: Any, **words: Any) -> Any:
        """Do what may add a step to the history, which is read anew after it."""
        try:
            return act(*of, **words)
        finally:
            self._read_anew()

    def _step_canary(self) -> str:
        return self._step(service.step_canary, self.system, self.log, plan=self._plan_of_canary)

    def _read_anew(self) -> None:
        self.__dict__.pop("_history", None)

    def _evening(self) -> pd.DataFrame:
        """The steps that the history holds for this evening; some may be from a life of the day that was cut short."""
        return self._history[(self._history["when"] == self.clock.now) & self._history["in_effect"]]

    def _champion(self) -> int | None:
        """The champion of the day, whatever the steps of its evening have made of that."""
        taken = self._evening()
        return int(taken["previous"].iloc[0]) if len(taken) else registry.champions_of(self._history)[-1]

    def _steps(self) -> list[str]:
        """What was done this evening, in words."""
        return [f"{step.event}: version {step.version}: {step.reason}" for step in self._evening().itertuples()]

    def _taken(self, event: str, version: int) -> bool:
        """Whether the history holds that step for this evening."""
        taken = self._evening()
        return bool(((taken["event"] == event) & (taken["version"] == version)).any())

    def _trial(self, loop: dict[str, Any]) -> dict[str, Any]:
        """Take the version on trial one step further: from shadow to canary, up to the last share, in or out."""
        if loop["phase"] == IN_SHADOW:
            return self._after_shadow(loop)
        if loop["phase"] == IN_CANARY:
            return self._after_canary(loop)
        trial = registry.trial_of(self._history)
        if trial and trial.mode == "canary" and trial.since < self.clock.now and not self._stepped(trial.version):
            self._step_canary()  # of somebody else: judged alike
        return loop

    def _stepped(self, version: int) -> bool:
        return self._taken(registry.CANARY, version) or self._taken(registry.ENDED, version)

    def _after_shadow(self, loop: dict[str, Any]) -> dict[str, Any]:
        version, registered, words = loop["candidate"], self.system.registry, self.plan.signature
        if self._taken(registry.ENDED, version):
            return loop | {"phase": QUIET}
        if not self._taken(registry.CANARY, version):
            service.follow_shadow(self.system, self.log)
            if (self._today - pd.Timestamp(loop["since"])).days < SHADOW_DAYS:
                return loop
            url = self.system.workspace.prediction_log_url
            table = service.shadow_table(self.system, log_url=url, trial=registry.trial_of(self._history))
            if unanswered := int(table["unanswered"].iloc[1]):
                reason = f"{unanswered} requests without an answer in shadow"
                self._step(registered.end_trial, reason=reason, **words)
                return loop | {"phase": QUIET}
            agreement = table["agreement"].iloc[1]
            reason = f"answered all {table['requests'].iloc[1]} requests in shadow, {agreement:.1%} as the champion did"
            share = self._plan_of_canary.steps[0]
            self._step(registered.canary, version, share=share, reason=reason, **words)
        return loop | {"phase": IN_CANARY, "since": self._today.isoformat()}

    def _after_canary(self, loop: dict[str, Any]) -> dict[str, Any]:
        version = loop["candidate"]
        if self._taken(registry.PROMOTED, version):
            return _with_new_champion(loop)
        if self._taken(registry.ENDED, version):
            return loop | {"phase": QUIET}
        if not self._taken(registry.CANARY, version):
            said = self._step_canary()
            if not (trial := registry.trial_of(self._history)):
                return loop | {"phase": QUIET}
            waited = (self._today - pd.Timestamp(loop["since"])).days >= LAST_STEP_DAYS
            if waited and trial.share == self._plan_of_canary.steps[-1] and not self._taken(registry.CANARY, version):
                words = {"reason": "went through its canary", "evidence": said, **self.plan.signature}
                self._step(self.system.registry.promote, version, **words)
                return _with_new_champion(loop)
        return loop | {"since": self._today.isoformat()} if self._taken(registry.CANARY, version) else loop

    @property
    def _today(self) -> pd.Timestamp:
        return pd.Timestamp(self.clock.now)

    # The decision

    def _decide(
        self, loop: dict[str, Any], alerts: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask the policy, and train if it says so; the loop from now on, and what goes on record."""
        limits = self.system.specification.retraining.model_dump() | self.system.specification.monitoring.model_dump()
        decision = retraining.POLICIES[self.plan.policy](self._state(loop, alerts), limits)
        record: dict[str, Any] = {"retrain": decision.retrain, "reason": decision.reason, "training_cost": 0.0}
        if not decision.retrain:
            return loop, record
        batches = retraining.WINDOWS[self.plan.window](self._complete())
        forbidden = retraining.exclusions(alerts, until=self._today.isoformat())
        loop = loop | {"attempted": self._today.isoformat()}
        record |= {"trained_on": batches, "training_cost": float(self.system.specification.costs.training)}
        record["not_trained_on"] = [one.as_dict() for one in forbidden]
        if version := self._promoted():  # by a life of this evening that was cut short
            return self._released(loop, version, batches), record | {"version": version}
        try:
            trained = self._train(batches, exclusions=record["not_trained_on"])
        except retraining.CorruptedError as refusal:
            del record["not_trained_on"]
            return loop, record | {"refused_by": "data", "reason": str(refusal)}
        record["version"] = trained.version
        if self.plan.careful and not trained.gate.passed:
            return loop, record | {"refused_by": "gate", "objections": list(trained.gate.reasons)}
        if trained.version == registry.champions_of(self._history)[-1]:
            return loop, record  # the same rows gave the same model
        self._release(trained, reason=f"trained on {', '.join(batches)}")
        return self._released(loop, trained.version, batches), record

    def _promoted(self) -> int | None:
        """The version that was promoted at once this evening; None if none was, or where somebody is careful."""
        taken = self._evening()
        versions = taken.loc[taken["event"] == registry.PROMOTED, "version"]
        return None if self.plan.careful or versions.empty else int(versions.iloc[0])

    def _release(self, trained: pipeline.TrainingResult, *, reason: str) -> None:
        """Begin the trial of a new version, or promote it at once if nobody is careful."""
        words = self.plan.signature | {"reason": reason}
        if not self.plan.careful:
            waiver = "" if trained.gate.passed else "nobody looks at the gate"
            self._step(self.system.registry.promote, trained.version, waiver=waiver, **words)
        elif not self._taken(registry.SHADOW, trained.version):
            self._step(self.system.registry.shadow, trained.version, **words)

    def _released(self, loop: dict[str, Any], version: int, batches: list[str]) -> dict[str, Any]:
        """The loop once a new version is on trial, or promoted."""
        today = self._today.isoformat()
        loop = loop | {"candidate": version, "since": today, "trained": batches[-1], "candidate_trained": today}
        return loop | {"phase": IN_SHADOW} if self.plan.careful else _with_new_champion(loop)

    def _state(self, loop: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]]) -> retraining.State:
        """What the policy may know this evening."""
        trained_until = loop["trained"] or self._before[-1]
        new = [name for name in self._complete() if name > trained_until]
        first = self._events["time"].iloc[0].floor("D")  # when the first champion was trained
        drift, weeks = self.monitor.drift(self._today), self.monitor.performance(self._today)
        inputs = drift.drop(index="probability", errors="ignore")
        estimated = weeks["estimated_log_loss"].iloc[-1] if len(weeks) else math.nan
        recent = self.monitor.recent_loss(self._today, width=RECENT)
        label, trial = self.system.specification.target.column, registry.trial_of(self._history)
        return retraining.State(
            age_days=(self._today - pd.Timestamp(loop["champion_trained"] or first)).days,
            cooldown_days=(self._today - pd.Timestamp(loop["attempted"] or first)).days,
            new_rows=int(self._rows.loc[self._rows["batch"].isin(new), label].notna().sum()),
            new_batches=len(new),
            drift=_known(inputs["psi"].max() if len(inputs) else math.nan),
            estimated_rise=_known(estimated - self.monitor.loss_at_release),
            realised_rise=_known(recent - self.monitor.loss_at_release),
            faults=tuple(sorted({one["kind"] for one in alerts if one["until"] is None} & set(faults.KINDS))),
            on_trial=trial is not None and not self._taken(registry.SHADOW, trial.version),  # but from before
        )

    def _complete(self) -> list[str]:
        """The batches that can be trained on by now: their last label has come."""
        return [*self._before, *self._known.index[self._known <= self._today]]

    def _train(self, batches: Sequence[str], **changes: Any) -> pipeline.TrainingResult:
        return pipeline.train(
            self._case,
            batches,
            workspace=self.system.workspace,
            seed=self.plan.seed,
            progress=self._progress,
            **changes,
        )


def _with_new_champion(loop: Mapping[str, Any]) -> dict[str, Any]:
    """The loop once the candidate is the champion: only then does the age of the champion begin anew."""
    return {**loop, "phase": QUIET, "champion_trained": loop["candidate_trained"]}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
