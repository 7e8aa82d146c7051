"""A room of learners against `classroom up` on this machine: failures, and how long calls take.

    python benchmarks/classroom.py [--learners 60] [--minutes 10] [--runs 20] [--store postgresql|sqlite] [--kill]

Each learner joins, logs twenty runs (parameters, metrics, a file), registers a model and sends twenty results of
checks, spread over the minutes. With --kill MLflow is killed at a third of the time and PostgreSQL at two thirds;
learners then ask again until they are answered, and at the end every write that was acknowledged is looked for. Exits
with 1 if one is missing.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import uvicorn

from mlops_course.course.classroom import front
from mlops_course.course.classroom.backup import counts, store_runs
from mlops_course.course.classroom.machine import free_port
from mlops_course.course.classroom.room import Room
from mlops_course.course.progress import client

RUNS = 20  # of each learner, and as many results of checks
TRIES_SECONDS = 120.0  # that a learner goes on asking, with --kill


class Learner:
    """One of them: what it does, what each call took, and what was acknowledged."""

    def __init__(self, number: int, line: str, folder: Path, *, turns: int, patient: bool) -> None:
        self.name, self.line, self.folder, self.patient = f"learner-{number:02}", line, folder, patient
        self.turns = turns
        self.calls: list[tuple[str, float, bool]] = []
        self.runs: list[str] = []  # acknowledged, with their metric
        self.results = 0
        self.source: dict[str, str] = {}  # of the model that is registered: the last run's files

    def timed(self, what: str, call):
        """What the call gives; a failure is on record, and tried again only by the patient."""
        until = time.monotonic() + TRIES_SECONDS
        while True:
            begun = time.perf_counter()
            try:
                answer = call()
                self.calls.append((what, time.perf_counter() - begun, True))
                return answer
            except (httpx.HTTPError, client.JoinError):
                self.calls.append((what, time.perf_counter() - begun, False))
                if not self.patient or time.monotonic() > until:
                    return None
                time.sleep(0.5)

    def ask(self, what: str, path: str, **body):
        def call():
            answer = self.http.post(f"/api/2.0/mlflow/{path}", json=body)
            return answer.raise_for_status().json()

        return self.timed(what, call)

    def live(self, seconds: float, seed: int) -> "Learner":
        """All of it, spread over so many seconds."""
        rng = np.random.default_rng(seed)
        time.sleep(rng.uniform(0, min(seconds / 10, 30)))
        here = self.timed("join", lambda: client.join(self.line, self.name, root=self.folder / self.name))
        if here is None:
            return self
        login = (here.learner, here.password)
        with httpx.Client(base_url=here.server, auth=login, timeout=60, trust_env=False) as self.http:
            pauses = rng.dirichlet(np.full(2 * self.turns + 1, 3.0)) * seconds * 0.85
            experiment = self.find(self.name)
            board = self.ask("create run", "runs/create", experiment_id=self.find(f"{client.EXPERIMENT}{self.name}"))
            for turn in range(self.turns):
                time.sleep(pauses[2 * turn])
                self.log_run(experiment)
                time.sleep(pauses[2 * turn + 1])
                self.send_result(board["run"]["info"]["run_id"] if board else "", turn)
            self.ask("register", "registered-models/create", name=f"{self.name}.late")
            self.ask("register", "model-versions/create", name=f"{self.name}.late", **self.source)
        return self

    def find(self, title: str) -> str:
        def call():
            path = "/api/2.0/mlflow/experiments/get-by-name"
            return self.http.get(path, params={"experiment_name": title}).raise_for_status().json()

        found = self.timed("find experiment", call)
        return found["experiment"]["experiment_id"] if found else ""

    def log_run(self, experiment: str) -> None:
        made = self.ask("create run", "runs/create", experiment_id=experiment)
        if not made:
            return
        run = made["run"]["info"]["run_id"]
        now = int(time.time() * 1_000)
        metrics = [{"key": "roc_auc", "value": 0.7, "timestamp": now, "step": step} for step in range(5)]
        logged = self.ask("log", "runs/log-batch", run_id=run, metrics=metrics, params=[{"key": "C", "value": "0.1"}])
        place = made["run"]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/").lstrip("/")
        address = f"/api/2.0/mlflow-artifacts/artifacts/{place}/note.txt"
        stored = self.timed("file", lambda: self.http.put(address, content=b"x" * 2_000).raise_for_status())
        ended = self.ask("end run", "runs/update", run_id=run, status="FINISHED")
        if logged is not None and stored is not None and ended is not None:
            self.runs.append(run)
            self.source = {"source": f"{made['run']['info']['artifact_uri']}/model", "run_id": run}

    def send_result(self, run: str, turn: int) -> None:
        tags = [{"key": f"features.gap{turn}", "value": "{}"}]
        self.results += self.ask("result", "runs/log-batch", run_id=run, tags=tags) is not None


def kill(room: Room, seconds: float) -> None:
    """MLflow after a third of the time, PostgreSQL after two thirds."""
    time.sleep(seconds / 3)
    os.killpg(room.running()["mlflow"], signal.SIGKILL)
    time.sleep(seconds / 3)
    if room.cluster:
        room.cluster.stop(at_once=True)


def lost(room: Room, learners: list[Learner]) -> int:
    """How many acknowledged runs, metrics, files and results the store does not have."""
    from mlflow import MlflowClient

    store = MlflowClient(tracking_uri=room.database("mlflow"))
    missing = 0
    for one in learners:
        for run in one.runs:
            found = store.get_run(run)
            file = room.artifacts / found.info.experiment_id / run / "artifacts" / "note.txt"
            whole = found.data.metrics.get("roc_auc") == 0.7 and found.info.status == "FINISHED" and file.exists()
            missing += not whole
        sent = store.get_experiment_by_name(f"{client.EXPERIMENT}{one.name}")
        kept = [run.data.tags for run in store.search_runs([sent.experiment_id])] if sent else []
        missing += one.results - sum(name.startswith("features.gap") for tags in kept for name in tags)
    return missing


def main(number: int, minutes: float, runs: int, store: str, killed: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # the account of PostgreSQL has to get in
    room = Room.make(folder / "room", store=store, port=free_port())
    seconds = 60 * minutes
    with room.open():
        type(room).capacity = property(lambda self: number)  # also for SQLite: that is what is measured
        page = uvicorn.Server(uvicorn.Config(front.application(room), port=free_port(), log_level="error"))
        threading.Thread(target=page.run, daemon=True).start()
        while not page.started:
            time.sleep(0.1)
        line = f"http://127.0.0.1:{page.config.port}/#{room.code}"
        people = [Learner(n, line, folder / "people", turns=runs, patient=killed) for n in range(number)]
        if killed:
            threading.Thread(target=kill, args=(room, seconds), daemon=True).start()
        begun = time.monotonic()
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(lambda one: one.live(seconds, seed=hash(one.name) % 2**32), people))
        took = time.monotonic() - begun
        page.should_exit = True
        gone = lost(room, people)
    calls = pd.DataFrame([call for one in people for call in one.calls], columns=["call", "seconds", "answered"])
    table = calls.groupby("call").agg(
        calls=("seconds", "size"),
        failed=("answered", lambda ok: int((~ok).sum())),
        p50_ms=("seconds", lambda s: 1_000 * s.median()),
        p95_ms=("seconds", lambda s: 1_000 * s.quantile(0.95)),
        max_ms=("seconds", lambda s: 1_000 * s.max()),
    )
    print(f"{room.store}: {number} learners in {took / 60:.1f} min{', with kills' if killed else ''}")
    print(table.round(0).astype(int).to_string())
    with store_runs(room):
        held = counts(room)
    print(
        f"{len(calls)} calls, {(~calls['answered']).sum()} failed; p95 {1_000 * calls['seconds'].quantile(0.95):.0f} ms"
    )
    print(f"runs acknowledged {sum(len(one.runs) for one in people)}, acknowledged and lost {gone}; store holds {held}")
    sys.exit(gone > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--store", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    main(arguments.learners, arguments.minutes, arguments.runs, arguments.store, arguments.kill)
