"""The running service, asked over HTTP: it answers as the model does, follows the registry, and tries versions out."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from time import monotonic, perf_counter, sleep

import numpy as np
import pandas as pd
import pytest
import small_case
import uvicorn
from click.testing import CliRunner

from mlops_course import cli, pipeline, rollout, service
from mlops_course.lifecycle import System
from mlops_course.prediction_log import PredictionLog
from mlops_course.registry import Registry
from mlops_course.workspace import Workspace

SIGNED = {"approver": "Ada", "reason": "a try"}
FIRST, SECOND, INVERTED, SLEEPY, DOUBTFUL = 1, 2, 3, 4, 5  # versions; see `made`
BATCHES = small_case.batches()
CASE = "sleepy_pumps"
CASE_CODE = '''"""The small case, with feature code that one version of the model has fall asleep."""
import os
import time

import small_case
from small_case import SPECIFICATION, batches, build, files, read, schemas


def derive(inputs, sleeps=False):
    if sleeps:
        time.sleep(float(os.environ.get("SLEEP_SECONDS", "0")))
    return small_case.derive(inputs)
'''

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to end a process by")


# A world with five versions -------------------------------------------------------------------------------------------


@cache
def made(home: Path) -> System:
    """A workspace in which two versions were trained, three made from the second, and the first is champion.

    The inverted one is sure of the opposite, and its contract allows nothing to be missing that callers may leave out.
    """
    home.mkdir()
    (home / f"{CASE}.py").write_text(CASE_CODE, encoding="utf-8")
    sys.path.insert(0, str(home))
    system = System(CASE, Workspace(home / "made"))
    for batches in (BATCHES[:6], BATCHES[:7]):
        trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=0)
    model = system.registry.load(SECOND)

    def register(name: str, spoil: Callable[[dict], object] = lambda steps: None, **changes: object) -> int:
        spoilt = deepcopy(model.model)
        spoil(spoilt.estimator_.calibrated_classifiers_[0].estimator.estimator.named_steps)
        contract = replace(model.contract, fingerprint=name, **changes)
        return system.registry.register(spoilt, contract, run_id=trained.run_id)

    versions = [register("inverted", lambda steps: steps["classify"].coef_.__imul__(-1), optional=[])]
    versions += [register("sleepy", lambda steps: steps["derive"].set_params(kw_args={"sleeps": True}))]
    versions += [register("doubtful", gate_passed=False, gate_reasons=["too few rows of Cobalt"])]
    assert versions == [INVERTED, SLEEPY, DOUBTFUL]
    system.registry.promote(FIRST, **SIGNED)
    return system


def copied(factory: pytest.TempPathFactory, root: Path) -> System:
    """The system of that world with a registry and a log of its own; files of the versions are shared."""
    original = made(factory.getbasetemp() / "service")
    root.mkdir()
    shutil.copy(original.workspace.database, root)
    return System(CASE, Workspace(root))


@pytest.fixture
def system(tmp_path_factory, tmp_path):
    return copied(tmp_path_factory, tmp_path / "own")


@cache
def questions() -> pd.DataFrame:
    """A thousand rows of checks, some with what training never saw, or nothing where that may be."""
    rows = small_case.build(small_case.read(BATCHES)).sample(1_000, random_state=1).reset_index(drop=True)
    rows["maker"] = rows["maker"].where(rows.index % 50 != 0, "Zenith")
    rows["vibration"] = rows["vibration"].where(rows.index % 40 != 0)
    return rows


def asked(rows: pd.DataFrame, *, name: str) -> list[dict]:
    """Rows as callers send them, with ids that begin with `name`."""
    inputs = rows[["checked", "maker", *small_case.NUMERIC]].astype({"checked": str, "maker": object})
    values = inputs.astype(object).where(inputs.notna(), None).to_dict("records")
    return [{"id": f"{name}-{number}", **row, "checked": row["checked"].replace(" ", "T")}
            for number, row in enumerate(values)]  # fmt: skip


def labels_of(questions: list[dict]) -> list[dict]:
    """What came of the first rows, made up where it is not known."""
    came = small_case_labels()
    return [{"id": row["id"], "label": int(label)} for row, label in zip(questions, came, strict=False)]


@cache
def small_case_labels() -> list[float]:
    return questions()["failed"].fillna(0).tolist()


# A service to ask -----------------------------------------------------------------------------------------------------


class Caller:
    """One connection to a service."""

    def __init__(self, url: str, token: str = "") -> None:
        self.connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def __del__(self) -> None:
        self.connection.close()

    def ask(self, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of the reply; a body makes it a POST."""
        content = None if body is None else json.dumps(body).encode()
        self.connection.request("GET" if body is None else "POST", path, content, self.headers)
        reply = self.connection.getresponse()
        self.retry_after = reply.headers.get("Retry-After")
        return reply.status, reply.read()

    def get(self, path: str) -> dict:
        status, body = self.ask(path)
        return json.loads(body) | {"status": status}

    def predict(self, rows: list[dict]) -> pd.DataFrame:
        """The answers, one line a row."""
        status, body = self.ask("/predict", {"rows": rows})
        assert status == 200, body
        return pd.DataFrame(json.loads(body)["predictions"])

    def feedback(self, labels: list[dict]) -> dict:
        status, body = self.ask("/feedback", {"labels": labels})
        assert status == 200, body
        return json.loads(body)

    def refresh(self) -> dict:
        return json.loads(self.ask("/refresh", {})[1])


def until(happens: Callable[[], object], *, seconds: float = 20.0) -> object:
    """Wait until something is true of the world, and return it."""
    deadline = monotonic() + seconds
    while not (found := happens()):
        assert monotonic() < deadline, f"waited {seconds} seconds in vain"
        sleep(0.02)
    return found


@contextmanager
def serving(system: System, log: PredictionLog) -> Iterator[str]:
    """The service in a thread of this process; yields its address."""
    config = uvicorn.Config(service.application(system, log=log), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


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


@dataclass(frozen=True, eq=False)
class Running:
    """`mlops-course serve` as a process of its own."""

    process: subprocess.Popen
    url: str
    errors: Path

    def children(self) -> list[int]:
        """Processes that it has started: one that answers in shadow, and one that watches if it was told to."""
        found = subprocess.run(["ps", "-axwwo", "pid=,ppid=,stat=,args="], capture_output=True, text=True).stdout
        lines = [line.split(maxsplit=3) for line in found.splitlines()]
        return [
            int(pid) for pid, parent, state, command in lines
            if int(parent) == self.process.pid and not state.startswith("Z") and "spawn_main" in command
        ]  # fmt: skip


def importable(system: System) -> str:
    """Where another process finds the package and the case."""
    folders = [
        Path(service.__file__).parents[1],
        Path(small_case.__file__).parents[1],
        Path(system.case.__file__).parent,
    ]
    return os.pathsep.join(map(str, folders))


@contextmanager
def started(
    system: System, *flags: str, watch: bool = False, before: str = "", **environment: str
) -> Iterator[Running]:
    """`mlops-course serve --port 0`, with the process that watches or without; `before` is run in its process first."""
    errors = system.workspace.root / "errors.txt"
    begin = f"from functools import partial; service.run = partial(service.run, watch={watch}); {before or 'pass'}"
    code = f"from mlops_course import cli, service; {begin}; cli.main()"
    command = [sys.executable, "-c", code, "--case", CASE, "serve", "--port", "0", *flags]
    own = {"MLOPS_HOME": str(system.workspace.root), "PYTHONPATH": importable(system)}
    with (
        errors.open("w") as stream,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=os.environ | own | environment,
            start_new_session=True,  # so that Ctrl-C can be sent to it and what it started
        ) as process,
    ):
        try:
            said = process.stdout.readline()
            assert said, errors.read_text()
            yield Running(process, re.search(r"http://[\d.:]+", said)[0], errors)
        finally:
            process.kill()
            process.stdout.close()


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")


# What it answers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def expected(system):
    """Probability and decision of the champion for the thousand rows, by the model itself."""
    model = system.registry.load("champion")
    rows = questions()[list(model.contract.inputs)]
    return pd.DataFrame(
        {"probability": model.model.predict_proba(rows)[:, 1], "decision": model.model.predict(rows) == 1}
    )


def assert_same(answers, expected):
    np.testing.assert_allclose(answers["probability"], expected["probability"], rtol=0, atol=1e-12)
    assert answers["decision"].tolist() == expected["decision"].tolist()
    assert expected["decision"].nunique() == 2


def test_a_thousand_rows_in_one_request_are_answered_as_by_the_model_itself(caller, expected):
    answers = caller.predict(asked(questions(), name="all"))
    assert answers["id"].tolist() == [f"all-{number}" for number in range(1_000)]
    assert_same(answers, expected)


def one_by_one(url, rows):
    caller = Caller(url)
    return pd.concat([caller.predict([row]) for row in rows])


def test_a_thousand_requests_at_once_with_a_row_each_are_answered_as_by_the_model_itself(url, log, expected):
    rows = asked(questions(), name="one")
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(partial(one_by_one, url), np.array_split(rows, 8))
        answers = pd.concat(parts, ignore_index=True)
    assert_same(answers, expected)
    kept = log.predictions().set_index("id").loc[answers["id"]]
    assert kept["probability"].tolist() == answers["probability"].tolist()


def test_unknown_categories_and_missing_values_are_answered_and_counted(caller):
    caller.predict(asked(questions(), name="odd"))
    text = caller.ask("/metrics")[1].decode()
    assert 'unknown_categories_total{feature="maker"} 20.0' in text
    assert 'missing_values_total{feature="vibration"} 25.0' in text


def test_the_model_page_tells_where_the_model_comes_from_and_the_docs_name_its_inputs(caller, system):
    about, contract = caller.get("/model"), system.registry.load("champion").contract
    assert about["inputs"] == contract.inputs
    assert (about["version"], about["threshold"]) == (FIRST, contract.threshold)
    assert about["data_version"] == contract.data_version
    row = caller.get("/openapi.json")["components"]["schemas"]["Row"]
    assert row["properties"].keys() == {"id", *contract.inputs}
    assert caller.ask("/docs")[0] == caller.ask("/")[0] == 200


# The command `mlops-course serve` -------------------------------------------------------------------------------------


def test_serve_listens_on_this_machine_only_and_asks_for_the_token_of_the_environment(system):
    rows = {"rows": asked(questions()[:1], name="token")}
    with started(system, MLOPS_TOKEN="s3cret") as running:
        port = int(running.url.rpartition(":")[2])
        assert running.url == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), 2):  # noqa: PT011 one of several
            pass
        assert Caller(running.url).ask("/predict", rows)[0] == 401
        assert Caller(running.url, "wrong").ask("/refresh", {})[0] == 401
        assert Caller(running.url, "s3cret").ask("/predict", rows)[0] == 200
    assert "s3cret" not in running.errors.read_text()


@contextmanager
def asking(url: str, *, name: str, callers: int = 3) -> Iterator[list[tuple[float, float, int, int]]]:
    """Callers that ask one row after the other: begun, answered, status and version of each reply so far."""
    replies, rows, stop = [], asked(questions(), name=name), []

    def ask(own: int) -> None:
        caller = Caller(url)
        for number in range(own, 100_000, callers):
            if stop:
                return
            begun, row = monotonic(), rows[number % len(rows)]
            status, body = caller.ask("/predict", {"rows": [row | {"id": f"{name}-{number}"}]})
            version = json.loads(body)["predictions"][0]["model_version"] if status == 200 else 0
            replies.append((begun, monotonic(), status, version))

    with ThreadPoolExecutor(callers) as pool:
        asks = [pool.submit(ask, own) for own in range(callers)]
        try:
            yield replies
        finally:
            stop.append(True)
        assert [ask.exception() for ask in asks] == [None] * callers


@needs_posix
def test_serve_takes_up_a_promotion_and_a_rollback_soon_fails_nobody_and_ends_with_0(system):
    with started(system) as running:
        caller = Caller(running.url)
        with asking(running.url, name="swap") as replies:
            took = [takes_up(caller, SECOND, lambda: system.registry.promote(SECOND, **SIGNED))]
            took += [takes_up(caller, FIRST, lambda: system.registry.roll_back(**SIGNED))]
            enough = len(replies) + 50
            until(lambda: len(replies) > enough)
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert {status for _, _, status, _ in replies} == {200}
    assert {version for *_, version in replies} == {FIRST, SECOND}
    assert max(took) < 5, took  # about a second, where nobody else keeps the machine busy


def takes_up(caller, version, change):
    """Seconds from the end of a change of the registry until the service says that the version answers."""
    change()
    begun = monotonic()
    until(lambda: caller.get("/ready")["version"] == version)
    return monotonic() - begun


@needs_posix
def test_log_lines_are_json_and_hold_no_input_and_no_id_and_ctrl_c_adds_no_traceback(system):
    row = asked(questions()[:1], name="secret")[0] | {"maker": "Confidential", "vibration": 61.23456}
    system.registry.shadow(INVERTED, **SIGNED)
    with started(system) as running:
        statuses = [
            Caller(running.url).ask("/predict", {"rows": [changed]})[0]
            for changed in (row, row | {"vibration": 77.65432}, row | {"installed": "Confidential"})
        ]
        (child,) = until(running.children)
        shadowed(PredictionLog(system.workspace.prediction_log_url), count=1)
        os.killpg(running.process.pid, signal.SIGINT)  # as the terminal does: to the service and to its children
        assert running.process.wait(20) == 0
        until(lambda: not is_running(child))
    assert statuses == [200, 409, 422]
    lines = [json.loads(line) for line in running.errors.read_text().splitlines()]
    assert {"champion", "Shutting down"} <= {line["event"] for line in lines}
    assert not re.search(r"secret-|Confidential|61\.23|77\.65", running.errors.read_text())


# Shadow ---------------------------------------------------------------------------------------------------------------


def shadowed(log, *, count):
    """The answers in shadow, once there are as many as that."""
    shadow = service.shadow_log(log.url.render_as_string())
    try:
        until(lambda: len(shadow.predictions(inputs=False)) >= count, seconds=90)
        return shadow.predictions()
    finally:
        shadow.close()


def replies(url, rows, *, size=10):
    """The bytes of the replies to rows that are sent so many at a time, and the seconds that each took."""
    caller, found = Caller(url), []
    for start in range(0, len(rows), size):
        begun = perf_counter()
        status, body = caller.ask("/predict", {"rows": rows[start : start + size]})
        assert status == 200
        found.append((body, perf_counter() - begun))
    return [body for body, _ in found], np.array([seconds for _, seconds in found])


@pytest.fixture
def alone(system, tmp_path):
    """Function that answers rows as the champion does without anything beside it."""

    def answer(rows, **options):
        log = PredictionLog(f"sqlite:///{(tmp_path / 'alone.db').as_posix()}")
        with serving(system, log) as url:
            found = replies(url, rows, **options)
        log.close()
        return found

    return answer


def test_a_shadow_changes_no_byte_of_a_reply_and_answers_each_row_once(system, log, alone):
    rows, model = asked(questions(), name="shadow"), system.registry.load(INVERTED)
    without, _ = alone(rows)
    system.registry.shadow(INVERTED, **SIGNED)
    with started(system) as running:
        assert replies(running.url, rows)[0] == without
        kept = shadowed(log, count=len(rows))
        outcome = feed_and_compare(system, running.url, rows)
    assert kept["id"].tolist() == [row["id"] for row in rows]
    expected = model.model.predict_proba(questions()[list(model.contract.inputs)])[:, 1]
    np.testing.assert_allclose(kept["probability"], expected, rtol=0, atol=1e-12)
    assert [(row["requests"], row["labels"]) for row in outcome] == [(1_000, 1_000)] * 2
    assert outcome[0]["cost"] < outcome[1]["cost"]


def feed_and_compare(system, url, rows):
    """What `mlops-course shadow` prints as JSON, after all labels have come."""
    Caller(url).feedback(labels_of(rows))
    environment = {"MLOPS_HOME": str(system.workspace.root)}
    done = CliRunner(env=environment).invoke(cli.main, ["--case", CASE, "shadow", "--json"])
    assert done.exit_code == 0, done.output
    plain = CliRunner(env=environment).invoke(cli.main, ["--case", CASE, "shadow"])
    assert f"version {INVERTED} in shadow" in plain.output
    return json.loads(done.output)


@needs_posix
def test_a_shadow_that_is_killed_goes_on_without_loss_or_doubling_and_ends_with_its_trial(system, log):
    system.registry.shadow(INVERTED, **SIGNED)
    with started(system, before="service.RESTART_SECONDS = 0.1") as running:
        kill_while_asked(running, name="kill")
        kept = shadowed(log, count=1_000)
        (child,) = until(running.children)
        system.registry.end_trial(**SIGNED)
        until(lambda: not is_running(child))
        assert running.children() == []
        until(lambda: Caller(running.url).get("/model")["challenger"] is None)
    assert kept["id"].tolist() == log.predictions()["id"].tolist()
    assert kept["id"].is_unique


def kill_while_asked(running, *, name):
    """Kill the shadow while a thousand rows are being answered, and wait for the next one."""
    (child,) = until(running.children)
    rows = asked(questions(), name=name)
    replies(running.url, rows[:300], size=50)
    os.kill(child, signal.SIGKILL)
    replies(running.url, rows[300:], size=50)
    until(lambda: running.children() not in ([], [child]))


@needs_posix
def test_no_shadow_outlives_a_service_that_is_killed(system, log):
    system.registry.shadow(INVERTED, **SIGNED)
    with started(system) as running:
        (child,) = until(running.children)
        replies(running.url, asked(questions()[:10], name="last"))
        shadowed(log, count=10)
        running.process.kill()
        until(lambda: not is_running(child))


# Canary ---------------------------------------------------------------------------------------------------------------


def begin_canary(system, version, *, share=0.1, **words):
    """Put a canary on record, and return it."""
    system.registry.canary(version, share=share, **(SIGNED | words))
    return system.registry.trial()


def taken(rows, trial):
    """Which version should answer each row, by the rule."""
    share = rollout.in_share([row["id"] for row in rows], trial.share, salt=f"canary {trial.release}")
    return np.where(share, trial.version, FIRST)


def test_a_canary_answers_the_ids_of_its_share_and_no_others_and_stays_with_them(system, log, caller, alone):
    rows = asked(questions(), name="sticky")
    trial = begin_canary(system, SECOND, share=0.25)
    caller.refresh()
    versions = caller.predict(rows)["model_version"]
    assert versions.tolist() == taken(rows, trial).tolist()
    assert set(versions) == {FIRST, SECOND}
    elsewhere, _ = alone(rows, size=1_000)  # another log: it is the id that decides, not what was answered before
    assert pd.DataFrame(json.loads(elsewhere[0])["predictions"])["model_version"].tolist() == versions.tolist()
    assert log.predictions()["share"].eq(0.25).all()


def ask_on(caller, system, *, name, steps, most=40, feedback=False):
    """Ask a thousand rows after the other until the history has so many steps, and return it."""
    for number in range(most):
        rows = asked(questions(), name=f"{name}{number}")
        caller.predict(rows)
        if feedback:
            caller.feedback(labels_of(rows))
        caller.refresh()
        if len(history := system.registry.history()) >= steps:
            return history
    raise AssertionError(f"{most} thousand rows, and not {steps} steps:\n{history}")


@pytest.mark.parametrize(("version", "waiver"), [(SECOND, ""), (DOUBTFUL, "Cobalt is phased out")])
def test_a_canary_that_does_no_harm_is_raised_step_by_step_and_each_is_on_record(system, caller, version, waiver):
    begin_canary(system, version, waiver=waiver)
    caller.refresh()
    steps = ask_on(caller, system, name="raise", steps=4).iloc[1:]
    assert steps["share"].tolist() == [0.1, 0.25, 0.5]
    assert steps["approver"].tolist() == ["Ada", *["canary rule, begun by Ada"] * 2]
    assert steps["reason"].str.contains("answers of the challenger at share").tolist() == [False, True, True]
    assert [json.loads(text)["cost"]["bar"] for text in steps["evidence"][1:]] == [60, 60]
    assert steps["waiver"].eq(waiver).all()
    assert caller.get("/model")["version"] == FIRST


def test_a_canary_that_decides_badly_is_ended_by_itself_and_the_champion_stays(system, caller):
    begin_canary(system, INVERTED, share=0.5)
    caller.refresh()
    last = ask_on(caller, system, name="bad", steps=3, feedback=True).iloc[-1]
    assert (last["event"], last["version"]) == ("trial ended", INVERTED)
    assert last["approver"] == "canary rule, begun by Ada"
    assert "challenger worse in cost" in last["reason"]
    assert json.loads(last["evidence"])["cost"]["e_value"] >= 60
    caller.refresh()
    assert caller.predict(asked(questions(), name="after"))["model_version"].eq(FIRST).all()


def test_a_stop_that_could_not_be_put_on_record_is_tried_again_though_nothing_new_has_come(system, log, monkeypatch):
    trial = begin_canary(system, SECOND, share=0.5)
    shared = {"time": datetime.now(UTC), "share": 0.5, "probability": 0.1, "decision": False, "latency_ms": 1.0}
    shared |= {"inputs": "{}", "model_version": FIRST}  # the champion answered: each turn of the other one had failed
    log.append([shared | {"id": str(n), "assigned_version": (FIRST, SECOND)[n % 2]} for n in range(80)])
    canary = service._Canary(system, log, trial)

    def locked(registry, **words):
        raise OSError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "end_trial", locked)
        with pytest.raises(OSError, match="locked"):
            canary.step()
    assert system.registry.trial() == trial
    canary.step()
    assert system.registry.trial() is None


def test_a_service_that_is_started_again_goes_on_with_the_same_evidence(system, log):
    trial, verdict = begin_canary(system, SECOND), partial(service.canary_verdict, system)
    notes = []
    for name in ("before", "again"):
        with serving(system, log) as url:
            caller, rows = Caller(url), asked(questions()[:500], name=name)
            notes += [caller.get("/model")["challenger"]["so far"]]
            caller.predict(rows)
            caller.feedback(labels_of(rows))
            caller.refresh()
            notes += [caller.get("/model")["challenger"]["so far"]]
    whole = verdict(log_url=system.workspace.prediction_log_url, trial=trial).reason
    assert notes[0] == "nothing answered yet"
    assert notes[1] == notes[2] != notes[3]
    assert notes[3] == whole
