"""Ten thousand generated requests: valid, nearly valid and nonsense, against a running service.

    python benchmarks/fuzz.py [--requests 10000]

Half are made by schemathesis from the service's own description, half are bytes and headers made by hypothesis. No
reply may be a server error, none may take long, a request that is refused may leave nothing in the log, and in the end
the log holds what was answered, each id once.
"""

import argparse
import http.client
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.request import urlopen

import schemathesis
import sqlalchemy as sa
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mlops_course.operations.deployment.prediction_log import PredictionLog

SLOW_SECONDS = 5.0
HEADERS = {
    "content-type": ["application/json", "text/plain", "application/json; charset=utf-16", "", "☃", "a/b" * 1000],
    "content-encoding": ["gzip", "identity", "br, deflate", "☃"],
    "authorization": ["Bearer", "Bearer ☃", "Basic YQ==", "x" * 5000],
    "expect": ["100-continue", "☃"],
    "content-length": ["0", "-1", "+3", "1e3", "", "999999999999", "5, 5", "☃"],
    "transfer-encoding": ["chunked", "identity", "gzip, chunked", "☃"],
    "accept": ["text/html", "image/png", "*/*;q=x"],
}
HUNG_UP = 0  # the status of a request that got no reply, as a body that is shorter than was said gets none
Reply = tuple[int, float, bytes]  # status, seconds, body
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@contextmanager
def running(app: object) -> Iterator[str]:
    """The address of the application on a free port, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        thread.join(0.05)
    try:
        yield "127.0.0.1:{1}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        thread.join(30)


class Tally:
    """Replies by status and the longest time (s); refuses a server error, and a row kept of a refused request."""

    def __init__(self, log: PredictionLog) -> None:
        self.statuses, self.longest, self.answered = Counter(), 0.0, set()
        self.engine = sa.create_engine(log.url)  # past the log, which does not tell of labels without a prediction
        self.kept = self._kept()

    def _kept(self) -> tuple[int, int]:
        with self.engine.connect() as connection:
            counts = "SELECT (SELECT count(*) FROM predictions), (SELECT count(*) FROM labels)"
            return tuple(connection.exec_driver_sql(counts).one())

    def note(self, reply: Reply, what: object) -> None:
        status, seconds, body = reply
        before, self.kept = self.kept, self._kept()
        self.statuses[status] += 1
        self.longest = max(self.longest, seconds)
        assert status < 500, (status, what)
        assert 200 <= status < 400 or before == self.kept, (status, "refused, and left a row", what)
        if body.startswith(b'{"predictions"'):
            self.answered |= {answer["id"] for answer in json.loads(body)["predictions"]}

    def check_log(self) -> None:
        """Refuses a log that holds other ids than were answered."""
        with self.engine.connect() as connection:
            ids = connection.exec_driver_sql("SELECT id FROM predictions").scalars().all()
        self.engine.dispose()
        assert sorted(ids) == sorted(self.answered), set(ids) ^ self.answered


def fuzz(address: str, log: PredictionLog, *, requests: int) -> Tally:
    """Send about so many requests and check each reply. Raises AssertionError with the smallest one that is wrong."""
    tally, schema = Tally(log), schemathesis.openapi.from_url(f"http://{address}/openapi.json")
    calm = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    def play(count: int, strategy: st.SearchStrategy, send: Callable[[Any], Reply]) -> None:
        @seed(0)
        @settings(max_examples=count, phases=[Phase.generate, Phase.shrink], **calm)
        @given(strategy)
        def check(made: Any) -> None:
            tally.note(send(made), made)

        check()

    def from_description(case: schemathesis.Case) -> Reply:
        begun = perf_counter()
        reply = case.call(base_url=f"http://{address}", timeout=SLOW_SECONDS)
        return reply.status_code, perf_counter() - begun, reply.content

    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
        play(requests // 4, schema.as_strategy(generation_mode=mode), from_description)
    with urlopen(f"http://{address}/openapi.json") as reply:
        content = json.load(reply)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    play(requests // 2, raw_requests(content["example"]), lambda made: send_raw(address, *made))
    tally.check_log()
    return tally


def raw_requests(example: dict[str, Any]) -> st.SearchStrategy[tuple[str, str, bytes, dict[str, str]]]:
    """Method, path, body and headers: a quarter is valid, others are bytes, any JSON, or a row with another value."""
    row = {name: value for name, value in example["rows"][0].items() if name != "id"}
    near = st.tuples(st.sampled_from(["id", *row]), JSON).map(lambda change: {"rows": [row | dict([change])]})
    body = st.binary(max_size=300) | (JSON | near).map(lambda value: json.dumps(value).encode())
    header = st.sampled_from([(name, value) for name, values in HEADERS.items() for value in values])
    headers = st.lists(header, max_size=2).map(dict)
    paths = st.sampled_from(["/predict", "/predict", "/feedback", "/refresh", "/model", "/nowhere", "/predict/"])
    odd = st.tuples(st.sampled_from(["POST", "POST", "POST", "PUT", "GET"]), paths, body, headers)
    valid = st.integers(0, 10**9).map(
        lambda number: ("POST", "/predict", json.dumps({"rows": [row | {"id": f"valid-{number}"}]}).encode(), {})
    )
    return st.integers(0, 3).flatmap(lambda kind: odd if kind else valid)


def send_raw(address: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> Reply:
    connection, begun = http.client.HTTPConnection(address, timeout=SLOW_SECONDS), perf_counter()
    try:
        connection.putrequest(method, path)
        given = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        for name, value in given.items():
            connection.putheader(name, value.encode())
        connection.endheaders(body)
        if headers.keys() & {"content-length", "transfer-encoding"}:
            with suppress(OSError):  # hung up already
                connection.sock.shutdown(socket.SHUT_WR)  # there is no more, whatever was said
        reply = connection.getresponse()
        return reply.status, perf_counter() - begun, reply.read()
    except (ConnectionError, http.client.HTTPException):
        return HUNG_UP, perf_counter() - begun, b""
    finally:
        connection.close()


def main(requests: int) -> None:
    from mlops_course.system import service
    from mlops_course.system.release import release
    from mlops_course.system.system import System
    from mlops_course.system.workspace import Workspace

    system = System("mlops_course.flights", Workspace.locate())
    batches = ["2013-01", "2013-02", "2013-03"]
    release(system, batches, first_use="2013-04", approver="benchmark", reason="to be fuzzed")
    url = system.workspace.prediction_log_url
    with closing(PredictionLog(url)) as log, running(service.application(system, log=log)) as address:
        begun = perf_counter()
        tally = fuzz(address, log, requests=requests)
        took = perf_counter() - begun
    print(f"{tally.statuses.total():,} requests in {took:.0f} s: {dict(sorted(tally.statuses.items()))}")
    print(f"longest {tally.longest:.2f} s; no server error; nothing kept of a refused request")
    print(f"{len(tally.answered):,} rows answered, the same on record, and {tally.kept[1]:,} labels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    with TemporaryDirectory() as home:
        os.environ.setdefault("MLOPS_HOME", home)
        main(parser.parse_args().requests)
