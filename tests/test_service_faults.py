"""The running service when things go wrong: killed, without its log, handed a spoilt version, or a slow one.

Run as a script, this file is the server that the test of kills talks to: it imports the package once, and forks a child
for each order, which is the whole service and is killed.
"""

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from threading import Event, Timer
from time import monotonic
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from test_service import (
    CASE,
    FIRST,
    SECOND,
    SIGNED,
    SLEEPY,
    Caller,
    asked,
    asking,
    begin_canary,
    copied,
    importable,
    needs_posix,
    questions,
    replies,
    serving,
    started,
    taken,
    until,
)

from mlops_course import prediction_log, service
from mlops_course.lifecycle import System
from mlops_course.prediction_log import PredictionLog
from mlops_course.registry import Registry
from mlops_course.workspace import Workspace

POSTGRES = os.environ.get("MLOPS_TEST_POSTGRES")
KILLS, KILLS_POSTGRES = 20, 5
LONGEST_SECONDS = 0.3
CALLERS = 4
MOST = 100_000  # questions of a caller, by when the service should have died
SHADOW_SLEEPS, CANARY_SLEEPS = 1.0, 2.0  # seconds a call; a canary has one second for its answer


@pytest.fixture
def system(tmp_path_factory, tmp_path):
    return copied(tmp_path_factory, tmp_path / "own")


@pytest.fixture
def log(system, monkeypatch):
    monkeypatch.setattr(prediction_log, "BUSY_SECONDS", 0.2)
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


def serve_and_be_killed(home, url):
    """For each line read, a child that serves; says its process id, its address, and later how it ended."""
    system = System(CASE, Workspace(Path(home)))
    service.servable(system.registry.load("champion"))  # all that is slow to import is imported
    gc.freeze()  # so that a child copies no page only to look for garbage in it
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            service.run(system, log_url=url, port=0, started=lambda url: os.write(1, f"{os.getpid()} {url}\n".encode()))
            os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"{child} {code}\n".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Address of an empty database, and how often the service is killed on it."""
    if request.param == "sqlite":
        yield f"sqlite:///{(tmp_path / 'log.db').as_posix()}", KILLS
        return
    if not POSTGRES:
        pytest.skip("MLOPS_TEST_POSTGRES is not set")
    schema = f"test_{uuid4().hex}"
    with tell(f"CREATE SCHEMA {schema}", f"DROP SCHEMA {schema} CASCADE"):
        own = sa.make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False), KILLS_POSTGRES


@contextmanager
def tell(before, after):
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(before)
        yield
        connection.exec_driver_sql(after)


@contextmanager
def killable(system, url):
    """Function that starts the service and gives its process id and address, and one that says how the last ended."""
    environment = {
        "PYTHONPATH": importable(system),
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    }  # nothing is open at the fork
    command = [sys.executable, __file__, str(system.workspace.root), url]
    with (
        (system.workspace.root / "errors.txt").open("w") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        ) as server,
    ):

        def ended():
            return server.stdout.readline().split()

        def start():
            server.stdin.write("\n")
            server.stdin.flush()
            return ended()

        try:
            yield start, ended
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # a child that serves would be waited for, should the test fail


def ask_until_it_dies(url, own, rows, answered):
    """Ask row after row over one connection; returns the id sent and the answer, None for the last, for each.

    `answered` is an event, which is set by the first answer.
    """
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
        answered.set()
    raise AssertionError(f"{MOST} questions, and the service was not killed")


def kill_under_load(start, ended, *, turn, seconds):
    """One row for each question to a service that is killed after so many seconds.

    In every other turn they count from the first answer, which a busy machine may be slow to give.
    """
    pid, url = start()
    answered = Event()
    timer = Timer(seconds, os.kill, [int(pid), signal.SIGKILL])
    with ThreadPoolExecutor(CALLERS) as pool:
        rows = asked(questions(), name="unused")
        asks = [pool.submit(ask_until_it_dies, url, f"{turn}-{own}", rows, answered) for own in range(CALLERS)]
        if turn % 2 == 0:
            answered.wait(20)
        timer.start()
        found = [line for ask in asks for line in ask.result(timeout=30)]
    assert ended() == [pid, str(-signal.SIGKILL)]
    return [{"turn": turn, "row": row, "id": row["id"], "answer": answer} for row, answer in found]


def acknowledged(table):
    """The answers that callers have got, by id."""
    got = table[table["answer"].notna()]
    return pd.DataFrame(got["answer"].tolist()).set_index("id")


@pytest.fixture
def killed(system, database):
    """Every question to services that were killed; the log after the last kill; answers to the last ones repeated."""
    url, kills = database
    with killable(system, url) as (start, ended):
        seconds = np.random.default_rng().uniform(0.05, LONGEST_SECONDS, kills)
        table = pd.DataFrame([
            line for turn in range(kills)
            for line in kill_under_load(start, ended, turn=turn, seconds=seconds[turn])
        ])  # fmt: skip
        with closing(PredictionLog(url)) as log:
            kept = log.predictions()
        pid, address = start()
        last = table.groupby(["turn", table["id"].str.rpartition("-")[0]]).tail(3)  # some got no answer
        again = pd.concat([Caller(address).predict([row]) for row in last["row"]]).set_index("id")
        os.kill(int(pid), signal.SIGKILL)
        assert ended() == [pid, str(-signal.SIGKILL)]
    return table, kept.set_index("id"), again


@needs_posix
def test_what_a_killed_service_has_acknowledged_is_on_record_once_and_said_again_alike(killed):
    table, kept, again = killed
    told = acknowledged(table)
    print(f"{len(table)} questions, {len(told)} acknowledged, {len(kept)} on record")
    assert told.groupby(table.set_index("id").loc[told.index, "turn"]).size().gt(0).sum() >= 0.5 * (
        table["turn"].nunique()
    ), "too few kills came after the first answer"
    assert kept.index.is_unique
    assert not told.index.difference(kept.index).tolist(), "acknowledged and lost"
    assert not kept.index.difference(table["id"]).tolist()
    columns = ["probability", "decision", "model_version"]
    pd.testing.assert_frame_equal(kept.loc[told.index, columns], told[columns], check_exact=True, check_dtype=False)
    before = again.index.intersection(kept.index)
    assert len(before)
    assert len(again) > len(again.index.intersection(told.index)), "no question without an answer was repeated"
    pd.testing.assert_frame_equal(again.loc[before, columns], kept.loc[before, columns], check_dtype=False)


# Another champion under load ------------------------------------------------------------------------------------------


def test_ten_changes_of_the_champion_fail_no_request_and_every_answer_is_by_a_champion_of_its_time(system, caller, url):
    reigns = [(FIRST, monotonic(), None)]
    with asking(url, name="reign") as found:
        for _ in range(5):
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
    assert len(system.registry.history()) == 11


def crown(caller, version, change):
    """Change the champion: version, when that began, and when the service was seen to answer with it."""
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
    """Send a hundred rows after the other until one gets that status; returns the ids acknowledged by then."""
    told = []
    for number in range(most):
        rows = asked(questions()[:100], name=f"{name}{number}")
        status, _ = caller.ask("/predict", {"rows": rows})
        told += [row["id"] for row in rows if status == 200]
        if status == until_status:
            return told
    raise AssertionError(f"{most} requests, and none got {until_status}")


@pytest.mark.parametrize(
    "fault", [locked, pytest.param(full, marks=needs_posix), pytest.param(moved, marks=needs_posix)]
)
def test_without_its_log_the_service_says_so_and_goes_on_afterwards_with_nothing_lost(system, log, caller, fault):
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
        assert getattr(self, "news", None) is None or self.news.wait(30)
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


def test_nobody_waits_for_a_slow_version_in_shadow(system, log):
    rows = asked(questions()[:500], name="slow")
    with started(system, SLEEP_SECONDS=str(SHADOW_SLEEPS)) as running:
        without, usual = replies(running.url, [row | {"id": f"{row['id']}-0"} for row in rows], size=2)
        system.registry.shadow(SLEEPY, **SIGNED)
        with closing(service.shadow_log(str(log.url))) as shadow:
            until(lambda: Caller(running.url).get("/model")["challenger"])
            replies(running.url, asked(questions()[:1], name="first"))
            until(lambda: len(shadow.predictions()), seconds=90)
            beside, slow = replies(running.url, [row | {"id": f"{row['id']}-1"} for row in rows], size=2)
            calls = shadow.predictions().groupby("latency_ms")["latency_ms"].sum()  # of each, shared by its rows
    for name, seconds in {"without": usual, "beside a slow shadow": slow}.items():
        p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {seconds.max() * 1e3:.1f} ms, {len(seconds)} requests")
    assert calls.min() >= SHADOW_SLEEPS * 1e3
    assert [body.replace(b'-1"', b'-0"') for body in beside] == without
    assert slow.max() < SHADOW_SLEEPS


def test_rows_of_a_canary_that_is_too_slow_are_answered_by_the_champion_and_it_is_ended(
    system,
    log,
    caller,
    monkeypatch,
):
    trial, rows = begin_canary(system, SLEEPY, share=0.5), asked(questions()[:100], name="late")
    caller.refresh()
    until(lambda: caller.get("/model")["challenger"])
    monkeypatch.setenv("SLEEP_SECONDS", str(CANARY_SLEEPS))
    begun = monotonic()
    answers = caller.predict(rows)
    assert monotonic() - begun < CANARY_SLEEPS
    kept = log.predictions()
    assert kept["assigned_version"].tolist() == taken(rows, trial).tolist()
    assert answers["model_version"].eq(FIRST).all()
    expected = system.registry.load(FIRST).model.predict_proba(questions()[:100][rows_inputs(system)])[:, 1]
    np.testing.assert_allclose(answers["probability"], expected, rtol=0, atol=1e-12)
    caller.refresh()
    last = system.registry.history().iloc[-1]
    assert (last["event"], last["version"]) == ("trial ended", SLEEPY)
    assert "failures" in last["reason"]


def rows_inputs(system):
    return list(system.registry.load(FIRST).contract.inputs)


if __name__ == "__main__":
    serve_and_be_killed(*sys.argv[1:])
