"""What callers notice of a slow version in shadow: latency without it, with it, and with it as a canary.

    python benchmarks/shadow.py

The challenger has forty times the trees of the champion, so it needs about forty times as long, and all of a core when
there is much to answer. Eight connections send single rows; the runs take turns. A canary's callers do wait for it, up
to its limit of a second, and the always-valid test ends it for being slow where its bar is lower than that.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pandas as pd
from mlflow import MlflowClient
from serving import CASE, TRAIN_ON, free_port, load, wait_for

from mlops_course import flights
from mlops_course.development import data, training
from mlops_course.operations import registry
from mlops_course.system.release import release
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

TREES, SECONDS, ROUNDS, CONNECTIONS = 4_000, 4.0, 3, 8
SIGNED = {"approver": "benchmark", "reason": "to be measured"}


def register_slow(system: System, rows: pd.DataFrame) -> int:
    """A challenger like the champion, with many more trees."""
    specification, champion = system.specification, system.registry.load("champion")
    names, kinds = list(champion.contract.inputs), specification.features
    models = training.candidates(flights.derive, numeric=kinds.numeric, categorical=kinds.categorical, seed=0)
    slow = models["gradient_boosting"].set_params(classify__max_iter=TREES, classify__max_leaf_nodes=4)
    train, later = rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :]
    slow = training.calibrate(slow.fit(train[names], train["late"]), later[names], target=later["late"])
    client = MlflowClient(tracking_uri=system.workspace.tracking_uri)
    run_id = client.create_run(client.create_experiment("slow", system.workspace.artifacts_uri)).info.run_id
    contract = registry.Contract(
        fingerprint="slow",
        **registry.describe(train[names]),
        specification=specification.model_dump(mode="json"),
        data_version=data.content_version(rows[names]),
        code_version="benchmark",
        threshold=champion.contract.threshold,
        metrics={},
        gate_passed=True,
    )
    model = training.decide(slow, champion.contract.threshold)
    return system.registry.register(model, contract, run_id=run_id)


def mode_of(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/model") as reply:
        return (json.load(reply)["challenger"] or {"as": "alone"})["as"]


def main() -> None:
    system = System(CASE, Workspace.locate())
    released = release(system, TRAIN_ON, first_use="2013-04", **SIGNED)
    rows = released.scored[released.scored["late"].notna()]
    slow = register_slow(system, rows.head(6_000))
    names = list(system.registry.load("champion").contract.inputs)
    body = json.dumps({"rows": json.loads(rows[names].head(1).to_json(orient="records", date_format="iso"))}).encode()
    port = free_port()
    command = [sys.executable, "-m", "mlops_course", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begin = {
        "alone": lambda: None,
        "shadow": lambda: system.registry.shadow(slow, **SIGNED),
        "canary": lambda: system.registry.canary(slow, share=0.1, **SIGNED),
    }
    found = []
    try:
        wait_for(port, server)
        for turn in range(ROUNDS):
            for mode, start in begin.items():
                start()
                while mode_of(port) != mode:
                    time.sleep(0.2)
                time.sleep(6 if mode == "shadow" else 1)  # the shadow's process has to start
                row = asyncio.run(load((port, "/predict"), body, connections=CONNECTIONS, seconds=SECONDS))
                found.append({"turn": turn, "mode": mode, **row})
                if system.registry.trial():
                    system.registry.end_trial(**SIGNED)
    finally:
        server.terminate()
        server.wait(30)
    table = pd.DataFrame(found)
    print(table.groupby("mode", sort=False)[["requests/s", "p50_ms", "p99_ms"]].median().round(1).to_string())
    print(f"failed requests: {table['failures'].sum():.0f}")
    p99 = table.groupby("mode")["p99_ms"].median()
    print(f"p99 with the slow shadow: {p99['shadow'] / p99['alone']:.2f} times that without (aim 1)")


if __name__ == "__main__":
    with TemporaryDirectory() as home:
        os.environ.setdefault("MLOPS_HOME", home)
        main()
