"""The service of a case: registry, prediction log and application put together, and run on this machine.

application    the ASGI application for a system: what its registry says is what it serves
run            the application behind uvicorn, until Ctrl-C or SIGTERM
servable       a registered model made ready to answer rows
follow_shadow  answer in shadow what the log has come to hold; a running service has a process that does so
step_canary    judge the canary by what the log has come to hold; a running service does so each second
shadow_table   how the version in shadow did beside the champion, request by request

What happens on the way of a request is in `serving`; here is what happens beside it. Once a second the history of the
registry is looked at. A version in shadow is answered by a process of its own that reads the prediction log, so it can
be slow, wrong or dead without a caller noticing. A canary is judged by what the log says of it, and each step that it
takes, up or out, goes to the history as if a person had taken it.
"""

import gc
import json
import logging
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.operations.deployment import compiled, rollout, serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import dashboard
from mlops_course.operations.registry import OvertakenError, Registered, Trial
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = [
    "application",
    "canary_plan",
    "canary_verdict",
    "follow_shadow",
    "run",
    "servable",
    "shadow_log",
    "shadow_table",
    "step_canary",
]

_logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 8000
FOLLOW_SECONDS = 0.2  # between two looks of the shadow at the log, when there was nothing new
FOLLOW_ROWS = 500  # that the shadow answers at once
WATCH_SECONDS = 5.0  # between two looks of the monitor at the log
RESTART_SECONDS = 10.0  # at least between two starts of the shadow
RULE = "canary rule, begun by "  # and by whom: the approver of what the canary does by itself


def application(
    system: System,
    *,
    log: PredictionLog,
    token: str = "",
    loaded: Callable[[], None] = lambda: None,
    by_itself: bool = True,
    watched: Callable[[], Mapping[str, Any] | None] | None = None,
) -> "FastAPI":
    """The application that answers with the champion of `system`, and follows its registry.

    `loaded` is called after a model was loaded. Close the log when the application has ended. Unless it goes on
    `by_itself`, it looks at the registry only when POST /refresh asks it to, and leaves `follow_shadow` and
    `step_canary` to its caller, and waits for the answer of a canary as long as it takes: in simulated time a day may
    pass within a second. `watched` gives a monitor's state.
    """
    releases = _Releases(system, log, by_itself=by_itself)

    def load(version: int) -> serving.Servable:
        model = servable(system.registry.load(version))
        loaded()
        return model

    def page(state: Mapping[str, Any]) -> str:
        return dashboard.live_page(state, at=system.clock())

    name = system.specification.name
    title = name[:1].upper() + name[1:]
    return serving.create_app(
        load=load,
        current=releases.current,
        log=log,
        clock=system.clock,
        token=token,
        title=title,
        stopped=releases.stop,
        watched=serving.Watched(watched, page, dashboard.export) if watched else None,
        **({} if by_itself else {"refresh_seconds": math.inf, "challenger_seconds": None}),
    )


def servable(registered: Registered) -> serving.Servable:
    """A registered model made ready to answer the rows of requests."""
    contract = registered.contract
    quick = compiled.compile(registered.model, contract.inputs, example=contract.example_frame())

    def predict(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return quick(compiled.columns(rows, contract.inputs))

    return serving.Servable(
        version=registered.version,
        inputs=contract.inputs,
        optional=contract.optional,
        categories={name: frozenset(values) for name, values in contract.categories.items()},
        example=contract.example,
        threshold=contract.threshold,
        predict=predict,
        facts={
            "data_version": contract.data_version,
            "code_version": contract.code_version,
            "digest": registered.digest,
            "specification_version": str(contract.specification.get("version", "")),
            "compiled": quick.fast,
            "metrics": {name: round(value, 4) for name, value in contract.metrics.items()},
        },
    )


def run(
    system: System,
    *,
    log_url: str,
    host: str = HOST,
    port: int = PORT,
    token: str = "",
    watch: bool = True,
    started: Callable[[str], None] = print,
    prepare: Callable[["FastAPI"], None] = lambda app: None,
) -> None:
    """Serve the champion of `system` until Ctrl-C or SIGTERM; port 0 takes a free one.

    `started` is told the address once requests are answered; `prepare` may add routes of one's own before. With
    `watch`, a process beside it follows the log, and /monitor shows what it makes of it. Log lines go to standard
    error, one JSON object each.
    """
    import uvicorn

    _log_as_json()
    log = PredictionLog(log_url)
    watcher = _Watcher(system, log) if watch else None
    app = application(system, log=log, token=token, loaded=_settle_memory, watched=watcher.state if watcher else None)
    prepare(app)
    config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                address, bound, *_ = self.servers[0].sockets[0].getsockname()
                started(f"http://{address}:{bound}")

        def handle_exit(self, sig: int, frame: Any) -> None:
            # As uvicorn does, without raising the signal anew after all: to be told to end is no failure
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    try:
        with threadpool_limits(1):  # one core answers a request: waking others takes longer than the answer
            Server(config).run()
    finally:
        if watcher:
            watcher.stop()
        log.close()


def _settle_memory() -> None:
    """Spare the garbage collector what stays for good: a look at all of it stops every thread for a quarter second."""
    gc.collect()
    gc.freeze()


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
def _beside(name: str) -> Iterator[None]:
    """What a process beside the service runs in: on one core, out of the way, an error as one line of the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all at once: the service ends this one
    _log_as_json()
    _step_back()
    try:
        with threadpool_limits(1):
            yield
    except Exception as error:
        _logger.error(f"{name} failed", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
        sys.exit(1)


# What the registry says, second by second -----------------------------------------------------------------------------


class _Releases:
    """Follows the history of the registry: who is champion, and what is being tried and how it does."""

    def __init__(self, system: System, log: PredictionLog, *, by_itself: bool) -> None:
        self._system, self._log, self._by_itself = system, log, by_itself
        self._newest = -1
        self._champion: int | None = None
        self._trial: Trial | None = None
        self._canary: _Canary | None = None
        self._shadow: _Shadow | None = None

    def current(self) -> serving.Rollout:
        """What to serve now. Reads little, as it is asked every second."""
        registry = self._system.registry
        if (newest := registry.newest_release()) != self._newest:
            self._champion, self._trial = registry.champion(), registry.trial()
            self._newest = newest
            if self._by_itself:
                self._change()
        if self._shadow:
            self._shadow.keep_running()
        note = self._canary.step() if self._canary else ""
        if self._trial is None:
            return serving.Rollout(self._champion)
        takes = partial(rollout.in_share, share=self._trial.share, salt=f"canary {self._trial.release}")
        return serving.Rollout(
            self._champion, self._trial.version, self._trial.mode, self._trial.share, takes=takes, note=note
        )

    def stop(self) -> None:
        """End what was begun beside the service."""
        if self._shadow:
            self._shadow.stop()
            self._shadow = None

    def _change(self) -> None:
        """Begin or end what the trial needs."""
        trial = self._trial
        wanted = trial.release if trial else 0
        if self._shadow and not (trial and trial.mode == "shadow" and self._shadow.trial.release == wanted):
            self.stop()
        if trial and trial.mode == "shadow" and not self._shadow:
            self._shadow = _Shadow(self._system, self._log, trial)
        if not (trial and trial.mode == "canary"):
            self._canary = None
        elif self._canary and self._canary.trial.release == wanted:
            self._canary.trial = trial
        else:
            self._canary = _Canary(self._system, self._log, trial)


# Canary ---------------------------------------------------------------------------------------------------------------


def canary_plan(system: System) -> rollout.CanaryPlan:
    """How a canary of this system goes: its bars are those of the specification."""
    costs, gates = system.specification.costs, system.specification.gates
    return rollout.CanaryPlan(max_latency_ms=gates.max_latency_ms, max_cost=max(costs.false_alarm, costs.missed))


class _Canary:
    """The canary that is on its way: reads what is new of it in the log, and does what the verdict says."""

    def __init__(
        self, system: System, log: PredictionLog, trial: Trial, *, plan: rollout.CanaryPlan | None = None
    ) -> None:
        self._system, self._log, self.trial = system, log, trial
        self._plan = plan or canary_plan(system)
        self._answers: list[pd.DataFrame] = []
        self._labels: list[pd.DataFrame] = []
        self._answer, self._label = 0, 0  # numbers read so far
        self._note, self._undone = "nothing answered yet", False

    def judge(self) -> rollout.Verdict:
        """What to do by all that has been read."""
        answers, labels = pd.concat(self._answers), pd.concat(self._labels)
        return rollout.judge(answers, labels, plan=self._plan, share=self.trial.share)

    def step(self) -> str:
        """Read on; if there was something new, judge and put a change on record. Says how it stands.

        What could not be put on record is judged again the next time, whether there is something new or not.
        """
        if not self.read() and not self._undone:
            return self._note
        self._undone = True
        verdict = self.judge()
        self._note = verdict.reason
        words = {
            "approver": RULE + self.trial.approver.removeprefix(RULE),
            "reason": verdict.reason,
            "evidence": verdict.measures.round(6).to_json(orient="index"),
        }
        try:
            if verdict.action == rollout.STOP:
                self._system.registry.end_trial(**words)
            elif verdict.action == rollout.RAISE:
                waiver = self._system.registry.history().loc[self.trial.release, "waiver"]
                self._system.registry.canary(self.trial.version, share=verdict.share, waiver=waiver, **words)
        except OvertakenError as overtaken:
            _logger.warning("overtaken", extra={"facts": {"why": str(overtaken)}})
        self._undone = False
        return self._note

    def read(self) -> bool:
        """Whether there was something new."""
        answers = self._log.predictions(after=self._answer, since=self.trial.since, inputs=False)
        labelled = self._log.labelled(after=self._label, since=self.trial.since, inputs=False)
        self._answer = max([self._answer, *answers["number"].tail(1).tolist()])
        self._label = max([self._label, *labelled["label_number"].tail(1).tolist()])
        answers, labelled = self._of_this(answers), self._of_this(labelled)
        if self._answers and answers.empty and labelled.empty:
            return False  # and nothing to keep: this is asked every second, for days
        self._answers.append(answers[["challenger", "share", "failed", "latency_ms"]])
        labelled = labelled.assign(cost=error_costs(labelled, self._system.specification))
        self._labels.append(labelled[["challenger", "share", "cost"]])
        return len(answers) + len(labelled) > 0

    def _of_this(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows that were answered while the canary ran, and by whom they should have been."""
        rows = rows[rows["share"] > 0]
        challenger = rows["assigned_version"] == self.trial.version
        return rows.assign(challenger=challenger, failed=challenger & (rows["model_version"] != self.trial.version))


def step_canary(system: System, log: PredictionLog, *, plan: rollout.CanaryPlan | None = None) -> str:
    """Judge the canary that is on trial by what is in the log, put what follows on record, and say how it stands.

    `plan` is that of `canary_plan` if not given. Raises ValueError if no canary is on trial.
    """
    trial = system.registry.trial()
    if not trial or trial.mode != "canary":
        raise ValueError(f"expected a canary on trial, found {trial}; begin one with Registry.canary")
    return _Canary(system, log, trial, plan=plan).step()


def canary_verdict(system: System, *, log_url: str, trial: Trial) -> rollout.Verdict:
    """How a canary stands by what is in the log; changes nothing."""
    canary = _Canary(system, PredictionLog(log_url), trial)
    canary.read()
    return canary.judge()


# Monitor --------------------------------------------------------------------------------------------------------------


class _Watcher:
    """The process that watches the log; what it knows lies in a file, so asking for it costs a request nothing."""

    def __init__(self, system: System, log: PredictionLog) -> None:
        self._file = system.workspace.create().reports / "monitor.json"
        self._file.unlink(missing_ok=True)
        task = (system.case_name, system.workspace, _url(log), self._file)
        self._process = multiprocessing.get_context("spawn").Process(target=_watch, args=task, daemon=True)
        self._process.start()

    def state(self) -> dict[str, Any] | None:
        """What is known, None before it has looked. Raises RuntimeError if the process has ended."""
        if not self._process.is_alive():
            raise RuntimeError(f"the process that watches ended with {self._process.exitcode}; see its last lines")
        return json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else None

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(10)


def _watch(case_name: str, workspace: Workspace, url: str, file: Path) -> None:
    """Follow the log and write down what a monitor knows, every few seconds, as long as the parent lives."""
    from mlops_course.system.monitor import Monitor, reference_rows

    parent = multiprocessing.parent_process()
    with _beside("watcher"):
        system, log, monitor, version = System(case_name, workspace), PredictionLog(url), None, None
        while parent is None or parent.is_alive():
            if (champion := system.registry.champion()) is not None:
                if monitor is None:
                    monitor = Monitor.of(system)
                elif champion != version:
                    monitor.rebase(reference_rows(system, champion))
                version = champion
                monitor.read(log)
                partial = file.with_suffix(".part")
                partial.write_text(json.dumps(monitor.state(pd.Timestamp.now("UTC"))), encoding="utf-8")
                partial.replace(file)
            time.sleep(WATCH_SECONDS)


# Shadow ---------------------------------------------------------------------------------------------------------------


def shadow_log(url: str) -> PredictionLog:
    """The log of what versions in shadow answered, beside the prediction log of `url`.

    With SQLite it is a file of its own, so that a slow writer there never keeps the service waiting for a lock.
    """
    return PredictionLog(url.removesuffix(".db") + ".shadow.db" if url.startswith("sqlite") else url, prefix="shadow_")


class _Shadow:
    """The process that answers in shadow; it ends when it is told to, or when the service is gone."""

    def __init__(self, system: System, log: PredictionLog, trial: Trial) -> None:
        self.trial = trial
        task = (system.case_name, system.workspace, _url(log), trial)
        self._make = partial(multiprocessing.get_context("spawn").Process, target=_follow, args=task, daemon=True)
        self._process: Any = None
        self._next_start = 0.0

    def keep_running(self) -> None:
        """Start it, or start it again if it has ended, but not in a hurry."""
        if (self._process and self._process.is_alive()) or time.monotonic() < self._next_start:
            return
        if self._process:
            facts = {"version": self.trial.version, "exit": self._process.exitcode}
            _logger.warning("shadow ended", extra={"facts": facts})
        self._process = self._make()
        self._process.start()
        self._next_start = time.monotonic() + RESTART_SECONDS

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.join(10)


def _consumer(trial: Trial) -> str:
    """The name under which the shadow keeps its position."""
    return f"shadow {trial.release}"


def _follow(case_name: str, workspace: Workspace, url: str, trial: Trial) -> None:
    """Answer in shadow what the log holds since the trial began, each prediction once, as long as the parent lives."""
    parent = multiprocessing.parent_process()
    with _beside("shadow"):
        follower = _Follower(System(case_name, workspace), PredictionLog(url), trial)
        while parent is None or parent.is_alive():
            if not follower.step():
                time.sleep(FOLLOW_SECONDS)


def follow_shadow(system: System, log: PredictionLog) -> None:
    """Let the version in shadow answer all that the log holds since its trial began, each prediction once.

    Raises ValueError if no version is in shadow.
    """
    trial = system.registry.trial()
    if not trial or trial.mode != "shadow":
        raise ValueError(f"expected a version in shadow, found {trial}; begin with Registry.shadow")
    follower = _Follower(system, log, trial)
    while follower.step():
        pass


class _Follower:
    """A version in shadow, and how far in the log it has come."""

    def __init__(self, system: System, log: PredictionLog, trial: Trial) -> None:
        self._log, self._shadow, self._trial, self._consumer = log, shadow_log(_url(log)), trial, _consumer(trial)
        self._model = servable(system.registry.load(trial.version))
        # the champion's contract has been kept, so here everything is optional
        self._request = serving.request_type(replace(self._model, optional=list(self._model.inputs)))

    def step(self) -> bool:
        """Answer some rows and keep the answers; whether there were any."""
        trial, model = self._trial, self._model
        rows = self._log.predictions(after=self._shadow.position(self._consumer), since=trial.since, limit=FOLLOW_ROWS)
        if rows.empty:
            return False
        begun = time.perf_counter()
        inputs = self._request.validate_json(f'{{"rows": [{",".join(rows["inputs"])}]}}')["rows"]
        probability = _whatever_it_answers(model, inputs)
        latency_ms = (time.perf_counter() - begun) * 1e3 / len(rows)
        answers = [
            {
                "id": row.id,
                "time": row.time.to_pydatetime(),
                "assigned_version": trial.version,
                "model_version": trial.version,
                "share": 0.0,
                "probability": float(p),
                "decision": bool(p >= model.threshold),
                "latency_ms": latency_ms,
                "inputs": "",
            }
            for row, p in zip(rows.itertuples(), probability, strict=True)
            if p is not None
        ]
        self._shadow.append(answers, position=(self._consumer, int(rows["number"].iloc[-1])))
        return True


def _url(log: PredictionLog) -> str:
    return log.url.render_as_string(hide_password=False)


def _step_back() -> None:
    """Let this process run only where cores would be idle, as far as the system knows how."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(19)


def _whatever_it_answers(model: serving.Servable, rows: list[Mapping[str, Any]]) -> Sequence[float | None]:
    """Its probabilities, None for a row that it fails on: in shadow, a failure is a finding and not the end."""
    try:
        return model.predict(rows)
    except Exception as error:
        if len(rows) == 1:
            _logger.warning("shadow failed", extra={"facts": {"version": model.version, "why": type(error).__name__}})
            return [None]
        return [probability for row in rows for probability in _whatever_it_answers(model, [row])]


def shadow_table(system: System, *, log_url: str, trial: Trial) -> pd.DataFrame:
    """Champion and a version in shadow on the same requests: means, share of yes, cost per label, and who failed.

    `agreement` is the share of requests on which both decide alike, `unanswered` counts requests that the shadow has
    passed without an answer; cost is in the unit of the specification.
    """
    log, shadow = PredictionLog(log_url), shadow_log(log_url)
    theirs = shadow.predictions(since=trial.since, inputs=False).set_index("id")
    ours = log.predictions(since=trial.since, inputs=False).set_index("id")
    ours = ours[ours["number"] <= shadow.position(_consumer(trial))]
    labels = log.labelled(since=trial.since, inputs=False).set_index("id")["label"]
    both = theirs.index.intersection(ours.index)
    known = both.intersection(labels.index)
    agreement = (ours.loc[both, "decision"].astype(bool) == theirs.loc[both, "decision"].astype(bool)).mean()
    rows = {
        name: {
            "requests": len(both),
            "unanswered": len(ours) - len(table.index.intersection(ours.index)),
            "mean_probability": table.loc[both, "probability"].mean(),
            "yes": table.loc[both, "decision"].astype(bool).mean(),
            "agreement": agreement,
            "labels": len(known),
            "cost": error_costs(table.loc[known].assign(label=labels[known]), system.specification).mean()
            if len(known)
            else np.nan,
        }
        for name, table in {"champion": ours, f"version {trial.version} in shadow": theirs}.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").reset_index()
