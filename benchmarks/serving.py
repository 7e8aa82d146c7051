"""The service against `mlflow models serve` and against its own floor: same registered model, same machine, in turns.

The floor is an endpoint of the same application that reads and checks the same body and predicts nothing. Every reply
of the service is on record before it is sent (SQLite, write-ahead log, synchronous=FULL); MLflow's keeps no record.
Load comes from this process, over persistent connections, on the same two cores. Takes about three minutes.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd

from mlops_course.system.release import release
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

CASE, TRAIN_ON = "mlops_course.flights", ["2013-01", "2013-02", "2013-03"]
LOADS = [(1, 1), (8, 1), (64, 1), (1, 1000), (8, 1000)]  # connections, rows in a body
ROUNDS = 3


class Client(asyncio.Protocol):
    """One connection that sends the same request again as soon as it is answered, and notes how long each took."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request, self.until = request, until
        self.seconds, self.failures, self.received = [], 0, b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent = perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0]):
            return
        self.seconds.append(perf_counter() - self.sent)
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self.received = b""
        if perf_counter() < self.until:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server hung up"))


async def load(url: tuple[int, str], body: bytes, *, connections: int, seconds: float) -> dict[str, float]:
    port, path = url
    headers = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body
    begun = perf_counter()
    clients = [Client(request, begun + seconds) for _ in range(connections)]
    for client in clients:
        await asyncio.get_running_loop().create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.gather(*(client.done for client in clients))
    took = np.concatenate([client.seconds for client in clients])
    p50, p99 = np.quantile(took, [0.5, 0.99]) * 1e3
    failures = sum(client.failures for client in clients)
    return {"requests/s": len(took) / (perf_counter() - begun), "p50_ms": p50, "p99_ms": p99, "failures": failures}


def serve_ours(port: int) -> None:
    """The service as `mlops-course serve` runs it, with the floor beside it."""
    from fastapi import FastAPI, Request

    from mlops_course.system import service

    def add_floor(app: FastAPI) -> None:
        @app.post("/floor")
        async def floor(request: Request) -> dict:
            rows = app.state.service.active.champion.request.validate_json(await request.body())["rows"]
            return {"rows": len(rows)}

    system = System(CASE, Workspace.locate())
    service.run(
        system, log_url=system.workspace.prediction_log_url, endpoint=service.Endpoint(port=port), prepare=add_floor
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if server.poll() is not None:
                raise SystemExit(f"{server.args} ended with {server.returncode}") from None
            time.sleep(0.1)
    raise SystemExit(f"{server.args} did not listen within a minute")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    children = [child for child, parent in parents.items() if parent == pid]
    return [pid, *(process for child in children for process in family(child))]


def peak_mb(pid: int) -> float:
    status = [Path(f"/proc/{process}/status").read_text() for process in family(pid)]
    return sum(int(text.partition("VmHWM:")[2].split()[0]) for text in status) / 1024


def main(seconds: float) -> None:
    system = System(CASE, Workspace.locate())
    released = release(system, TRAIN_ON, first_use="2013-04", approver="benchmark", reason="to be measured")
    model = system.registry.load("champion")
    names = list(model.contract.inputs)
    rows = json.loads(released.scored[names].head(1000).to_json(orient="records", date_format="iso"))
    ours, theirs = free_port(), free_port()
    targets = {
        "mlflow": ((theirs, "/invocations"), "dataframe_records"),
        "floor": ((ours, "/floor"), "rows"),
        "ours": ((ours, "/predict"), "rows"),
    }
    environment = os.environ | {"MLFLOW_TRACKING_URI": system.workspace.tracking_uri}
    environment |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    flags = ["models", "serve", "-m", f"models:/{system.registry.name}@champion", "--env-manager", "local"]
    commands = [
        [sys.executable, "-m", "mlflow", *flags, "-p", str(theirs)],
        [sys.executable, __file__, "--serve", str(ours)],
    ]
    servers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    found = []
    try:
        for server, port in zip(servers, (theirs, ours), strict=True):
            wait_for(port, server)
        for turn in range(ROUNDS + 1):
            for connections, length in LOADS:
                for name, (url, key) in targets.items():
                    body = json.dumps({key: rows[:length]}).encode()
                    took = seconds if turn else 0.5  # the first turn warms up
                    row = asyncio.run(load(url, body, connections=connections, seconds=took))
                    found.append({"turn": turn, "connections": connections, "rows": length, "server": name, **row})
        memory = {"mlflow": peak_mb(servers[0].pid), "ours": peak_mb(servers[1].pid)}
    finally:
        for server in servers:
            for process in reversed(family(server.pid)):
                os.kill(process, 15)
            server.wait(30)
    table = pd.DataFrame(found).query("turn > 0")
    median = table.groupby(["rows", "connections", "server"])[["requests/s", "p50_ms", "p99_ms"]].median()
    print(median.unstack("server").round(1).to_string())
    print(f"\nfailed requests: {table['failures'].sum():.0f}")
    print(f"peak memory, MB: {', '.join(f'{name} {mb:.0f}' for name, mb in memory.items())}")
    rate, p50 = median["requests/s"], median["p50_ms"]
    print(f"64 connections: {rate[1, 64, 'ours'] / rate[1, 64, 'mlflow']:.1f} times mlflow's requests/s (aim 20)")
    print(f"64 connections: {rate[1, 64, 'ours'] / rate[1, 64, 'floor']:.2f} of the floor's (aim 0.5)")
    print(f"1 connection: {p50[1, 1, 'ours'] / p50[1, 1, 'mlflow']:.2f} of mlflow's p50 (aim 0.33)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only serve, as the benchmark does")
    options = parser.parse_args()
    if options.serve:
        serve_ours(options.serve)
    else:
        with TemporaryDirectory() as home:
            os.environ.setdefault("MLOPS_HOME", home)
            main(options.seconds)
