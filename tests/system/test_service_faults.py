"""The running service when things go wrong: killed, without its log, handed a spoilt version, or a slow one.

Run as a script, this file is the server that the test of kills talks to: it imports the package once, and forks a child
for each order, which is the whole service and kills itself where the order says.
"""

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import count, product
from pathlib import Path
from threading import Event
from time import monotonic
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from test_service import (
    CASE,
    FIRST,
    HELD,
    PATIENCE,
    SECOND,
    SIGNED,
    Caller,
    asked,
    asking,
    begin_canary,
    children_of,
    copied,
    importable,
    is_running,
    made,
    needs_posix,
    questions,
    replies,
    serving,
    shadowed,
    taken,
    until,
)

from mlops_course.operations.deployment import prediction_log
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Registry
from mlops_course.system import service
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

POSTGRES = os.environ.get("MLOPS_TEST_POSTGRES")
ROUNDS = 10  # of promotion and roll back under load
MOMENTS = ("before the write", "between write and answer", "after the answer")
FEW, MANY = (4,), tuple(range(1, 36, 5))  # at which append of predictions, or answer, the service is killed
CALLERS = 4
MOST = 100_000  # questions of a caller, by when the service should have died


@pytest.fixture
def system(tmp_path_factory, tmp_path):
    return copied(tmp_path_factory, tmp_path / "own")


@pytest.fixture
def log(system):
    system.workspace.create()
    log = PredictionLog(system.workspace.prediction_log_url)
    yield log
    log.close()


@pytest.fixture
def url(system, log):
    with serving(system, log) as url:
        yield url


@pytest.fixture
def caller(url):
    return Caller(url)


# Killed under load ----------------------------------------------------------------------------------------------------


def serve_and_be_killed(home):
    """For each order, a child that serves; says its process id and address, and how it ended.

    An order is the workspace and the log to serve with, a moment and a number, and variables of the environment.
    """
    system = System(CASE, Workspace(Path(home)))
    service.servable(system.registry.load("champion"))  # all that is slow to import is imported
    gc.freeze()  # so that a child copies no page only to look for garbage in it
    del sys.modules["__main__"].__file__  # so that a shadow, which is a process of its own, does not import this file
    for order in sys.stdin:
        child = os.fork()
        if not child:
            os.setsid()
            serve(*json.loads(order))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{child} {code}\n".encode())


def serve(home, url, moment, number, environment):
    os.environ.update(environment)
    system = System(CASE, Workspace(Path(home)))
    prepare = die_after_an_answer(number) if moment == MOMENTS[2] else die_at_an_append(moment, number)

    def started(address):
        os.write(1, f"{os.getpid()} {address}\n".encode())

    try:
        service.run(
            system, log_url=url, endpoint=service.Endpoint(port=0), watch=False, started=started, prepare=prepare
        )
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def die_at_an_append(moment, number):
    """Have this process kill itself before or after its n-th write of predictions; never if `moment` is empty."""
    append, calls = PredictionLog.append, count(1)

    def appending(self, predictions=(), **also):
        here = bool(predictions) and next(calls) == number
        if here and moment == MOMENTS[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        known = append(self, predictions, **also)
        if here and moment == MOMENTS[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return known

    PredictionLog.append = appending
    return lambda app: None


def die_after_an_answer(number):
    """Middleware that kills this process once it has sent the n-th answer to a prediction request."""
    sent = count(1)

    def prepare(app):
        class Last:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                async def sending(message):
                    await send(message)
                    if message["type"] == "http.response.body" and scope["path"] == "/predict" and next(sent) == number:
                        os.kill(os.getpid(), signal.SIGKILL)

                await self.app(scope, receive, sending)

        app.add_middleware(Last)

    return prepare


@pytest.fixture(
    params=[("sqlite", MANY), ("postgresql", FEW)],
    ids=lambda given: f"{given[0]}-{len(given[1])}",
)
def database(request, tmp_path):
    """Address of an empty database, and at which writes and answers the service is killed on it."""
    kind, numbers = request.param
    if kind == "sqlite":
        yield f"sqlite:///{(tmp_path / 'log.db').as_posix()}", numbers
        return
    if not POSTGRES:
        pytest.skip("MLOPS_TEST_POSTGRES is not set")
    schema = f"test_{uuid4().hex}"
    with tell(f"CREATE SCHEMA {schema}", f"DROP SCHEMA {schema} CASCADE"):
        own = sa.make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False), numbers


@contextmanager
def tell(before, after):
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(before)
        yield
        connection.exec_driver_sql(after)


@dataclass(frozen=True)
class Server:
    """What forks services: `start` gives the process id and address of one, `ended` says how the last one ended."""

    start: Callable[..., tuple[int, str]]
    ended: Callable[[], tuple[int, int]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """What forks services, one for all tests: to import the package takes longer than most of what they do."""
    system = made(tmp_path_factory.getbasetemp() / "service")
    own = {
        "PYTHONPATH": importable(system),
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # nothing is open at the fork
    }
    command, pids = [sys.executable, __file__, str(system.workspace.root)], []
    with (
        (system.workspace.root / "errors.txt").open("w") as stream,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=os.environ | own,
        ) as server,
    ):

        def start(system, url, moment="", number=0, **environment):
            for pid in list(pids):  # of a test that failed; the server waits for it
                os.killpg(pid, signal.SIGKILL)
                ended()
            order = [str(system.workspace.root), url, moment, number, environment]
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            pid, address = server.stdout.readline().split()
            pids.append(int(pid))
            return pids[-1], address

        def ended():
            pid, code = map(int, server.stdout.readline().split())
            pids.remove(pid)
            return pid, code

        try:
            yield Server(start, ended)
        finally:
            server.kill()
            for pid in pids:  # a child that serves would be waited for, should the test fail
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


def ask_until_it_dies(url, own, rows):
    """Ask row after row; returns the id sent and the answer, None for the last, for each."""
    caller, found = Caller(url), []
    for number in range(MOST):
        row = rows[number % len(rows)] | {"id": f"{own}-{number}"}
        found.append((row, None))
        try:
            status, body = caller.ask("/predict", {"rows": [row]})
        except (OSError, HTTPException):
            return found
        assert status == 200, body
        found[-1] = (row, json.loads(body)["predictions"][0])
    raise AssertionError(f"{MOST} questions, and the service was not killed")


def kill_under_load(start, ended, *, moment, number):
    """One row for each question to a service that kills itself there."""
    pid, url = start(moment, number)
    rows = asked(questions(), name="unused")
    with ThreadPoolExecutor(CALLERS) as pool:
        asks = [pool.submit(ask_until_it_dies, url, f"{moment} {number} {own}".replace(" ", "_"), rows)
                for own in range(CALLERS)]  # fmt: skip
        found = [line for ask in asks for line in ask.result()]
    assert ended() == (pid, -signal.SIGKILL)
    return [{"moment": moment, "number": number, "row": row, "id": row["id"], "answer": answer}
            for row, answer in found]  # fmt: skip


def acknowledged(table):
    """The answers that callers have got, by id."""
    got = table[table["answer"].notna()]
    return pd.DataFrame(got["answer"].tolist()).set_index("id")


@pytest.fixture
def killed(system, server, database):
    """Every question to services that were killed; the log after the last kill; answers to the last ones repeated."""
    url, numbers = database
    start = partial(server.start, system, url)
    table = pd.DataFrame([
        line for number, moment in product(numbers, MOMENTS)
        for line in kill_under_load(start, server.ended, moment=moment, number=number)
    ])  # fmt: skip
    with closing(PredictionLog(url)) as log:
        kept = log.predictions()
    pid, address = start()
    last = table.groupby(table["id"].str.rpartition("-")[0]).tail(3)  # of each caller: some got no answer
    again = pd.concat([Caller(address).predict([row]) for row in last["row"]]).set_index("id")
    os.kill(pid, signal.SIGTERM)
    assert server.ended() == (pid, 0)
    return table.assign(kept=table["id"].isin(kept["id"]), told=table["answer"].notna()), kept.set_index("id"), again


@pytest.mark.long
@needs_posix
def test_what_a_killed_service_has_acknowledged_is_on_record_once_and_said_again_alike(killed, database):
    table, kept, again = killed
    told = acknowledged(table)
    assert kept.index.is_unique
    assert not told.index.difference(kept.index).tolist(), "acknowledged and lost"
    assert not kept.index.difference(table["id"]).tolist()
    columns = ["probability", "decision", "model_version"]
    pd.testing.assert_frame_equal(kept.loc[told.index, columns], told[columns], check_exact=True, check_dtype=False)
    before = again.index.intersection(kept.index)
    pd.testing.assert_frame_equal(again.loc[before, columns], kept.loc[before, columns], check_dtype=False)
    assert each_moment_was_hit(table) == set(product(MOMENTS, database[1]))


def each_moment_was_hit(table):
    """Moments and numbers of kills that left what only a kill there leaves, by what was asked, kept and told."""
    evidence = {
        MOMENTS[0]: lambda turn: (~turn["kept"]).any(),
        MOMENTS[1]: lambda turn: (turn["kept"] & ~turn["told"]).any(),
        MOMENTS[2]: lambda turn: turn["told"].sum() >= turn["number"].iloc[0],
    }
    return {point for point, turn in table.groupby(["moment", "number"]) if evidence[point[0]](turn)}


# Another champion under load ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_changes_of_the_champion_fail_no_request_and_every_answer_is_by_a_champion_of_its_time(system, caller, url):
    reigns = [(FIRST, monotonic(), None)]
    with asking(url, name="reign") as found:
        for _ in range(ROUNDS):
            reigns += crown(caller, SECOND, lambda: system.registry.promote(SECOND, **SIGNED))
            reigns += crown(caller, FIRST, lambda: system.registry.roll_back(**SIGNED))
        enough = len(found) + 20
        until(lambda: len(found) > enough)
    assert {status for _, _, status, _ in found} == {200}
    assert {version for *_, version in found} == {FIRST, SECOND}
    ends = [seen for _, _, seen in reigns[1:]] + [monotonic()]
    wrong = [
        reply for reply in found
        if not any(version == reply[3] and begun <= reply[1] and reply[0] <= end
                   for (version, begun, _), end in zip(reigns, ends, strict=True))
    ]  # fmt: skip
    assert wrong == []
    assert len(system.registry.history()) == 1 + 2 * ROUNDS


def crown(caller, version, change):
    """Change the champion: version, when that began, and when the service was seen to answer with it.

    The times order what happened, and are compared with nothing else.
    """
    begun = monotonic()
    change()
    until(lambda: caller.refresh()["version"] == version)
    return [(version, begun, monotonic())]


# The log does not answer ----------------------------------------------------------------------------------------------


@contextmanager
def locked(file):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def full(file):
    """The operating system lets no file grow beyond the size that the write-ahead log has."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.with_name(f"{file.name}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def moved(file):
    away = file.rename(file.with_suffix(".away"))
    yield
    assert not file.exists(), "a file was made in place of the one that is gone"
    away.rename(file)


def ask_in_turn(caller, *, name, most=50, until_status):
    """Send a hundred rows again and again until a reply has that status; returns the ids acknowledged by then."""
    told = []
    for number in range(most):
        rows = asked(questions()[:100], name=f"{name}{number}")
        status, _ = caller.ask("/predict", {"rows": rows})
        told += [row["id"] for row in rows if status == 200]
        if status == until_status:
            return told
    raise AssertionError(f"{most} requests, and none got {until_status}")


@pytest.fixture
def hasty(system, monkeypatch):
    """System, log and caller of a service that soon gives up a log that is locked."""
    monkeypatch.setattr(prediction_log.database, "BUSY_SECONDS", 0.2)
    system.workspace.create()
    with closing(PredictionLog(system.workspace.prediction_log_url)) as log, serving(system, log) as url:
        yield system, log, Caller(url)


@pytest.mark.parametrize(
    "fault", [locked, pytest.param(full, marks=needs_posix), pytest.param(moved, marks=needs_posix)]
)
def test_a_service_without_its_log_says_so_and_loses_nothing(hasty, fault):
    system, log, caller = hasty
    told = ask_in_turn(caller, name="before", until_status=200)
    with fault(system.workspace.predictions / "log.db"):
        told += ask_in_turn(caller, name="during", until_status=503)
        assert caller.retry_after == "1"
        ready = caller.get("/ready")
        assert (caller.get("/live")["status"], ready["status"], ready["ready"]) == (200, 503, False)
        assert ready["log"] != "ok"
    told += ask_in_turn(caller, name="after", until_status=200)
    assert caller.get("/ready")["status"] == 200
    assert log.predictions()["id"].tolist() == told


# A version that is spoilt ---------------------------------------------------------------------------------------------


class Held(Registry):
    """A registry of which a service gets no news while it is held."""

    def hold(self):
        object.__setattr__(self, "news", Event())

    def newest_release(self):
        assert getattr(self, "news", None) is None or self.news.wait(PATIENCE)
        return super().newest_release()


@contextmanager
def spoilt(system, version):
    """One byte of the model's file is another than was registered."""
    run = system.registry.versions().set_index("version").loc[version]
    (file,) = Path(system.case.__file__).parent.rglob(f"registered/{run['digest'][:16]}/model.skops")
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        yield
    finally:
        file.write_bytes(content)


def test_a_version_whose_files_were_spoilt_after_its_promotion_is_refused_and_the_old_one_answers(system, log):
    plain = system.registry
    held = Held(plain.tracking_uri, plain.name, trusted=plain.trusted)
    watched = System(CASE, system.workspace)
    watched.__dict__["registry"] = held
    with serving(watched, log) as url:
        caller = Caller(url)
        held.hold()
        plain.promote(SECOND, **SIGNED)
        history = plain.history()
        with spoilt(system, SECOND):
            held.news.set()
            ready = until(lambda: (now := caller.get("/ready"))["refused"] and now)
            assert (ready["status"], ready["version"]) == (200, FIRST)
            assert "TamperedError" in ready["refused"][str(SECOND)]
            assert caller.predict(asked(questions()[:5], name="old"))["model_version"].eq(FIRST).all()
            pd.testing.assert_frame_equal(plain.history(), history)
        assert caller.refresh() == {"version": SECOND, "refused": {}}  # its files were put back


# A version that is slow -----------------------------------------------------------------------------------------------


@pytest.fixture
def hold(tmp_path):
    """A file that holds the slow version in each call as long as it is there."""
    file = tmp_path / "hold"
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.long
@needs_posix
def test_nobody_waits_for_a_slow_version_in_shadow_and_it_does_not_outlive_a_service_that_is_killed(
    system, server, log, hold
):
    rows, first = asked(questions()[:100], name="slow"), asked(questions()[:1], name="first")
    system.registry.shadow(HELD, **SIGNED)
    pid, url = server.start(system, str(log.url), HOLD=str(hold))
    (shadow,) = until(lambda: children_of(pid))
    replies(Caller(url), first, size=1)
    shadowed(log, count=1)
    hold.touch()
    replies(Caller(url), rows[:2], size=2)
    until(hold.with_suffix(".reached").exists)
    beside = replies(Caller(url), rows, size=2)  # the first two once more
    assert len(shadowed(log, count=1)) == 1, "the shadow was not held while the others were answered"
    hold.unlink()
    assert shadowed(log, count=101)["id"].tolist() == [row["id"] for row in first + rows]
    os.kill(pid, signal.SIGKILL)
    assert server.ended() == (pid, -signal.SIGKILL)
    until(lambda: not is_running(shadow))
    answers = [answer["model_version"] for body in beside for answer in json.loads(body)["predictions"]]
    assert answers == [FIRST] * 100


def test_rows_of_a_canary_that_is_too_slow_are_answered_by_the_champion_and_it_is_ended(system, log, monkeypatch, hold):
    trial, rows = begin_canary(system, HELD, share=0.5), asked(questions()[:100], name="late")
    with serving(system, log, challenger_seconds=0.1) as url:
        caller = Caller(url)
        until(lambda: caller.get("/model")["challenger"])
        monkeypatch.setenv("HOLD", str(hold))
        hold.touch()
        answers = caller.predict(rows)  # though the canary is held until after this
        until(hold.with_suffix(".reached").exists)
        hold.unlink()
        caller.refresh()
    kept = log.predictions()
    assert kept["assigned_version"].tolist() == taken(rows, trial).tolist()
    assert answers["model_version"].eq(FIRST).all()
    expected = system.registry.load(FIRST).model.predict_proba(questions()[:100][rows_inputs(system)])[:, 1]
    np.testing.assert_allclose(answers["probability"], expected, rtol=0, atol=1e-12)
    last = system.registry.history().iloc[-1]
    assert (last["event"], last["version"]) == ("trial ended", HELD)
    assert "failures" in last["reason"]


def rows_inputs(system):
    return list(system.registry.load(FIRST).contract.inputs)


if __name__ == "__main__":
    serve_and_be_killed(*sys.argv[1:])
