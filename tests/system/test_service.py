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
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import small_case
import uvicorn
from click.testing import CliRunner
from mlflow import MlflowClient

from mlops_course import cli
from mlops_course.development import data, training
from mlops_course.operations import registry
from mlops_course.operations.deployment import rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import service
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

SIGNED = {"approver": "Ada", "reason": "a try"}
FIRST, SECOND, INVERTED, HELD, DOUBTFUL = 1, 2, 3, 4, 5  # versions; see `made`
BATCHES = small_case.batches()
PATIENCE = 120.0  # seconds: what takes a moment may take a minute on a busy machine, so only then a test gives up
CASE = "held_pumps"
CASE_CODE = '''"""The small case, with feature code that holds one version for as long as the file HOLD is there."""
import os
import time
from pathlib import Path

import small_case
from small_case import batches, build, files, read, schemas

SPECIFICATION = Path(__file__).with_name("specification.yaml")


def derive(inputs, held=False):
    hold = Path(os.environ["HOLD"]) if held and "HOLD" in os.environ else None
    while hold and hold.exists():
        hold.with_suffix(".reached").touch()
        time.sleep(0.01)
    return small_case.derive(inputs)
'''
# What runs only where cores are idle may not run for minutes while other tests do
NO_STEP_BACK = '''"""Processes beside the service get their share of a busy machine: they cannot give it up."""
import os

for name in ("SCHED_IDLE", "nice"):
    if hasattr(os, name):
        delattr(os, name)
'''

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to end a process by")


# A world with five versions -------------------------------------------------------------------------------------------


@cache
def made(home: Path) -> System:
    """A workspace in which two versions were fitted, three made from the second, and the first is champion.

    The inverted one is sure of the opposite, and its contract allows nothing to be missing that callers may leave out.
    No answer is too slow for the case, so that a busy machine ends no canary.
    """
    home.mkdir()
    (home / f"{CASE}.py").write_text(CASE_CODE, encoding="utf-8")
    (home / "sitecustomize.py").write_text(NO_STEP_BACK, encoding="utf-8")
    agreed = small_case.SPECIFICATION.read_text(encoding="utf-8")
    patient = re.sub(r"max_latency_ms: \d+", f"max_latency_ms: {PATIENCE * 1e3:.0f}", agreed)
    (home / "specification.yaml").write_text(patient, encoding="utf-8")
    sys.path.insert(0, str(home))
    system = System(CASE, Workspace(home / "made"))
    client = MlflowClient(tracking_uri=system.workspace.create().tracking_uri)
    run_id = client.create_run(client.create_experiment("made", system.workspace.artifacts_uri)).info.run_id
    spoil = {
        "inverted": lambda steps: steps["classify"].coef_.__imul__(-1),
        "held": lambda steps: steps["derive"].set_params(kw_args={"held": True}),
    }
    changes = {
        "inverted": {"optional": []},
        "doubtful": {"gate_passed": False, "gate_reasons": ["too few rows of Cobalt"]},
    }
    names = {"first": BATCHES[:6], "second": BATCHES[:7]} | dict.fromkeys(["inverted", "held", "doubtful"], BATCHES[:7])
    for name, batches in names.items():
        model, contract = fitted(system, batches, name=name)
        inner = model.estimator_.calibrated_classifiers_[0].estimator.estimator
        spoil.get(name, lambda steps: None)(inner.named_steps)
        system.registry.register(model, replace(contract, **changes.get(name, {})), run_id=run_id)
    assert system.registry.versions()["version"].tolist() == [FIRST, SECOND, INVERTED, HELD, DOUBTFUL]
    system.registry.promote(FIRST, **SIGNED)
    return system


def fitted(system: System, batches: list[str], *, name: str) -> tuple[object, registry.Contract]:
    """A model that decides as one from the pipeline does, and its contract; the pipeline takes twenty times as long."""
    specification, rows = system.specification, small_case.build(small_case.read(batches))
    rows, names = rows[rows["failed"].notna()], specification.inputs.all
    train, later = rows.iloc[: len(rows) * 2 // 3], rows.iloc[len(rows) * 2 // 3 :]
    features = {"numeric": specification.features.numeric, "categorical": specification.features.categorical}
    model = training.candidates(system.case.derive, **features, seed=0)["logistic_regression"]
    model = training.calibrate(model.fit(train[names], train["failed"]), later[names], target=later["failed"])
    threshold = training.cost_threshold(false_alarm=specification.costs.false_alarm, missed=specification.costs.missed)
    contract = registry.Contract(
        fingerprint=name,
        **registry.describe(rows[names]),
        specification=specification.model_dump(mode="json"),
        data_version=data.content_version(rows[names]),
        code_version="tests",
        threshold=threshold,
        metrics={},
        gate_passed=True,
    )
    return training.decide(model, threshold), contract


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
    """Asks a service, each time over a new connection: the service closes one that was idle for five seconds."""

    def __init__(self, url: str, token: str = "") -> None:
        self.address = url.removeprefix("http://")
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def ask(self, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of the reply; a body makes it a POST."""
        content = None if body is None else json.dumps(body).encode()
        with closing(HTTPConnection(self.address, timeout=PATIENCE)) as connection:
            connection.request("GET" if body is None else "POST", path, content, self.headers)
            reply = connection.getresponse()
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


def until(happens: Callable[[], object]) -> object:
    """Wait until something is true of the world, and return it."""
    deadline, pause = monotonic() + PATIENCE, 0.02
    while not (found := happens()):
        assert monotonic() < deadline, f"waited {PATIENCE} seconds in vain"
        sleep(pause)
        pause = min(1.5 * pause, 0.5)  # to ask costs more than to wait
    return found


@contextmanager
def serving(system: System, log: PredictionLog, *, challenger_seconds: float = PATIENCE) -> Iterator[str]:
    """The service in a thread of this process; yields its address. A canary gets time, so that it is asked for sure."""
    app = service.application(system, log=log)
    app.state.service.challenger_seconds = challenger_seconds
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
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


def children_of(pid: int) -> list[int]:
    """Processes that a service has started: one that answers in shadow, and one that watches if it was told to."""
    found = subprocess.run(["ps", "-axwwo", "pid=,ppid=,stat=,args="], capture_output=True, text=True).stdout
    lines = [line.split(maxsplit=3) for line in found.splitlines()]
    return [
        int(child) for child, parent, state, command in lines
        if int(parent) == pid and not state.startswith("Z") and "spawn_main" in command
    ]  # fmt: skip


def importable(system: System) -> str:
    """Where another process finds the package and the case."""
    folders = [
        Path(service.__file__).parents[3],
        Path(small_case.__file__).parents[1],
        Path(system.case.__file__).parent,
    ]
    return os.pathsep.join(map(str, folders))


@contextmanager
def started(system: System, **environment: str) -> Iterator[Running]:
    """`mlops-course serve --port 0`, without the process that watches; a shadow that ended is soon started again."""
    errors = system.workspace.root / "errors.txt"
    code = """
from functools import partial
from mlops_course import cli
from mlops_course.system import service
service.run = partial(service.run, watch=False)
service.processes.RESTART_SECONDS = 0
cli.main()
"""
    command = [sys.executable, "-c", code, "--case", CASE, "serve", "--port", "0"]
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


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """The first version in charge, with its system, its log and a caller, for tests that change nothing of it."""
    system = copied(tmp_path_factory, tmp_path_factory.mktemp("champion") / "own")
    system.workspace.create()
    with closing(PredictionLog(system.workspace.prediction_log_url)) as log, serving(system, log) as url:
        yield SimpleNamespace(system=system, log=log, url=url, model=system.registry.load("champion"))


def answers_of(registered, rows):
    """Probability and decision for some rows, by the model itself."""
    inputs = rows[list(registered.contract.inputs)]
    decision = registered.model.predict(inputs) == 1
    return pd.DataFrame({"probability": registered.model.predict_proba(inputs)[:, 1], "decision": decision})


def assert_same(answers, expected):
    np.testing.assert_allclose(answers["probability"], expected["probability"], rtol=0, atol=1e-12)
    assert answers["decision"].tolist() == expected["decision"].tolist()
    assert expected["decision"].nunique() == 2


def test_a_thousand_rows_in_one_request_are_answered_as_by_the_model_itself(champion):
    answers = Caller(champion.url).predict(asked(questions(), name="all"))
    assert answers["id"].tolist() == [f"all-{number}" for number in range(1_000)]
    assert_same(answers, answers_of(champion.model, questions()))


def one_by_one(url, rows):
    caller = Caller(url)
    return pd.concat([caller.predict([row]) for row in rows])


def test_many_requests_at_once_with_a_row_each_are_answered_as_by_the_model_itself(champion):
    rows = asked(questions()[:80], name="one")
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(partial(one_by_one, champion.url), np.array_split(rows, 8))
        answers = pd.concat(parts, ignore_index=True)
    assert_same(answers, answers_of(champion.model, questions()[:80]))
    kept = champion.log.predictions().set_index("id").loc[answers["id"]]
    assert kept["probability"].tolist() == answers["probability"].tolist()


def counted(caller, name):
    """The value of a line of the metrics; 0 where there is none yet."""
    return float((re.findall(f"{re.escape(name)} (.+)", caller.ask("/metrics")[1].decode()) or [0])[0])


def test_unknown_categories_and_missing_values_are_answered_and_counted(champion):
    caller, names = Caller(champion.url), [
        'unknown_categories_total{feature="maker"}', 'missing_values_total{feature="vibration"}'
    ]  # fmt: skip
    before = [counted(caller, name) for name in names]
    caller.predict(asked(questions(), name="odd"))
    assert np.subtract([counted(caller, name) for name in names], before).tolist() == [20, 25]


def test_the_model_page_tells_where_the_model_comes_from_and_the_docs_name_its_inputs(champion):
    caller, contract = Caller(champion.url), champion.model.contract
    about = caller.get("/model")
    assert about["inputs"] == contract.inputs
    assert (about["version"], about["threshold"]) == (FIRST, contract.threshold)
    assert about["data_version"] == contract.data_version
    row = caller.get("/openapi.json")["components"]["schemas"]["Row"]
    assert row["properties"].keys() == {"id", *contract.inputs}
    assert caller.ask("/docs")[0] == caller.ask("/")[0] == 200


# The command `mlops-course serve` -------------------------------------------------------------------------------------


@contextmanager
def asking(url: str, *, name: str, token: str = "", callers: int = 3) -> Iterator[list[tuple[float, float, int, int]]]:
    """Callers that ask row after row: start, end, status and version of each reply so far."""
    replies, rows, stop = [], asked(questions(), name=name), []

    def ask(own: int) -> None:
        caller = Caller(url, token)
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


def shadowed(log, *, count):
    """The answers in shadow, once there are as many as that."""
    with closing(service.shadow_log(log.url.render_as_string())) as shadow:
        until(lambda: len(shadow.predictions(inputs=False)) >= count)
        return shadow.predictions()


def replies(caller, rows, *, size):
    """The bytes of the replies to rows that are sent so many at a time."""
    found = [caller.ask("/predict", {"rows": rows[start : start + size]}) for start in range(0, len(rows), size)]
    assert {status for status, _ in found} == {200}
    return [body for _, body in found]


@pytest.fixture(scope="module", params=[pytest.param("life", marks=pytest.mark.long)])
def life(tmp_path_factory):
    """One run of `mlops-course serve`, made once for all tests about it: what was done and what was seen.

    It is asked with a token and without, changes its champion twice under load, has a version in shadow whose process
    is killed, ends that trial and begins another one, and is ended by Ctrl-C.
    """
    if sys.platform == "win32":
        pytest.skip("Windows has no signals to end a process by")
    seen = SimpleNamespace()
    seen.system = system = copied(tmp_path_factory, tmp_path_factory.mktemp("life") / "own")
    system.workspace.create()
    rows = asked(questions(), name="shadow")
    with closing(PredictionLog(f"sqlite:///{system.workspace.root / 'alone.db'}")) as log, serving(system, log) as url:
        seen.alone = replies(Caller(url), rows, size=50)
    with (
        closing(PredictionLog(system.workspace.prediction_log_url)) as log,
        started(system, MLOPS_TOKEN="s3cret") as running,
    ):
        seen.log, seen.url, caller = log, running.url, Caller(running.url, "s3cret")
        with socket.socket() as elsewhere:
            seen.elsewhere = elsewhere.connect_ex(("127.0.0.2", int(running.url.rpartition(":")[2])))
        seen.by_token = {token: ask_for_all(Caller(running.url, token)) for token in ("", "wrong", "s3cret")}
        seen.odd = ask_oddly(caller)
        with asking(running.url, name="swap", token="s3cret") as seen.swap:
            system.registry.promote(SECOND, **SIGNED)
            until(lambda: caller.get("/ready")["version"] == SECOND)
            system.registry.roll_back(**SIGNED)
            until(lambda: caller.get("/ready")["version"] == FIRST)
            enough = len(seen.swap) + 20
            until(lambda: len(seen.swap) > enough)
        system.registry.shadow(INVERTED, **SIGNED)
        (shadow,) = until(lambda: children_of(running.process.pid))
        seen.replies = replies(caller, rows[:300], size=50)
        seen.first_shadowed = len(shadowed(log, count=1))
        os.kill(shadow, signal.SIGKILL)
        seen.replies += replies(caller, rows[300:], size=50)
        seen.shadowed = shadowed(log, count=len(rows))
        (shadow,) = until(lambda: children_of(running.process.pid))
        seen.compared = feed_and_compare(system, caller, rows)
        system.registry.end_trial(**SIGNED)
        until(lambda: not is_running(shadow))
        seen.left = children_of(running.process.pid)
        seen.trial = until(lambda: caller.get("/model")["challenger"] is None)
        system.registry.shadow(INVERTED, **SIGNED)
        (shadow,) = until(lambda: children_of(running.process.pid))
        replies(caller, asked(questions()[:10], name="last"), size=10)
        shadowed(log, count=len(rows) + 10)
        os.killpg(running.process.pid, signal.SIGINT)  # as the terminal does: to the service and to its children
        seen.code = running.process.wait(PATIENCE)
        until(lambda: not is_running(shadow))
    seen.errors = running.errors.read_text()
    return seen


def ask_for_all(caller):
    """The status of /predict, of /feedback and of /refresh."""
    body, labels = {"rows": asked(questions()[:1], name="token")}, {"labels": [{"id": "token-0", "label": 1}]}
    return [caller.ask(path, given)[0] for path, given in [("/predict", body), ("/feedback", labels), ("/refresh", {})]]


def ask_oddly(caller):
    """The statuses of a row, of another row of the same id, and of one that does not fit; each with its own secret."""
    row = asked(questions()[:1], name="secret")[0] | {"maker": "Confidential", "vibration": 61.23456}
    changes = [{}, {"vibration": 77.65432}, {"installed": "Confidential"}]
    return [caller.ask("/predict", {"rows": [row | change]})[0] for change in changes]


def feed_and_compare(system, caller, rows):
    """What `mlops-course shadow` prints as JSON, after all labels have come."""
    caller.feedback(labels_of(rows))
    environment = {"MLOPS_HOME": str(system.workspace.root)}
    done = CliRunner(env=environment).invoke(cli.main, ["--case", CASE, "shadow", "--json"])
    assert done.exit_code == 0, done.output
    plain = CliRunner(env=environment).invoke(cli.main, ["--case", CASE, "shadow"])
    assert f"version {INVERTED} in shadow" in plain.output
    return json.loads(done.output)


def test_serve_listens_on_this_machine_only_and_asks_for_the_token_of_the_environment(life):
    assert life.url.startswith("http://127.0.0.1:")
    assert life.elsewhere, "it listens on another address too"
    assert life.by_token == {"": [401] * 3, "wrong": [401] * 3, "s3cret": [200] * 3}
    assert "s3cret" not in life.errors


def test_serve_takes_up_a_promotion_and_a_rollback_by_itself_and_fails_no_request(life):
    assert {status for _, _, status, _ in life.swap} == {200}
    assert {version for *_, version in life.swap} == {FIRST, SECOND}


def test_log_lines_are_json_and_hold_no_input_and_no_id_and_ctrl_c_adds_no_traceback(life):
    assert (life.odd, life.code) == ([200, 409, 422], 0)
    lines = [json.loads(line) for line in life.errors.splitlines()]
    assert {"champion", "Shutting down"} <= {line["event"] for line in lines}
    assert not re.search(r"secret-|Confidential|61\.23|77\.65", life.errors)


def test_a_shadow_changes_no_byte_of_a_reply_and_answers_each_row_once(life):
    assert life.replies == life.alone
    assert life.shadowed["id"].tolist() == [f"shadow-{number}" for number in range(1_000)]
    expected = answers_of(life.system.registry.load(INVERTED), questions())
    np.testing.assert_allclose(life.shadowed["probability"], expected["probability"], rtol=0, atol=1e-12)
    assert [(row["requests"], row["labels"]) for row in life.compared] == [(1_000, 1_000)] * 2
    assert life.compared[0]["cost"] < life.compared[1]["cost"]


def test_a_shadow_that_is_killed_goes_on_without_loss_or_doubling_and_ends_with_its_trial(life):
    assert 0 < life.first_shadowed < 1_000
    assert life.shadowed["id"].is_unique
    assert (len(life.shadowed), life.left, life.trial) == (1_000, [], True)


# Shadow ---------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the kill of the process."""


@pytest.mark.parametrize(
    ("write", "moment"),
    [
        (1, "before the write"),
        (2, "after the write"),
        *(
            pytest.param(write, moment, marks=pytest.mark.long)
            for write, moment in [
                (1, "after the write"),
                (2, "before the write"),
                (4, "before the write"),
                (4, "after the write"),
            ]
        ),
    ],
)
def test_a_shadow_that_dies_at_a_write_answers_each_row_once_when_it_is_started_again(
    system, log, monkeypatch, write, moment
):
    monkeypatch.setattr(service.shadow, "FOLLOW_ROWS", 5)
    system.registry.shadow(INVERTED, **SIGNED)
    shared = {"assigned_version": FIRST, "model_version": FIRST, "share": 0.0, "probability": 0.1, "decision": False}
    shared |= {"time": datetime.now(UTC), "latency_ms": 1.0}
    rows = asked(questions()[:20], name="died")
    log.append([shared | {"id": row.pop("id"), "inputs": json.dumps(row)} for row in rows])
    with closing(service.shadow_log(log.url.render_as_string())) as shadow:
        append, writes = shadow.append, count(1)

        def dying(*answers, **also):
            number = next(writes)
            if (number, moment) == (write, "before the write"):
                raise Killed
            append(*answers, **also)
            if number == write:
                raise Killed

        monkeypatch.setattr(shadow, "append", dying)
        follower = service.shadow._Follower(system, log, shadow, system.registry.trial())
        with pytest.raises(Killed):
            list(iter(follower.step, False))
    assert len(shadowed(log, count=0)) == 5 * (write - (moment == "before the write"))
    service.follow_shadow(system, log)
    assert shadowed(log, count=20)["id"].tolist() == [f"died-{number}" for number in range(20)]


def test_a_look_at_a_version_in_shadow_leaves_no_file_open(system, log):
    system.registry.shadow(SECOND, **SIGNED)
    service.follow_shadow(system, log)
    url = log.url.render_as_string()
    service.shadow_table(system, log_url=url, trial=system.registry.trial())
    assert [file.path for file in psutil.Process().open_files() if ".shadow.db" in file.path] == []


# Canary ---------------------------------------------------------------------------------------------------------------


def begin_canary(system, version, *, share=0.1, **words):
    """Put a canary on record, and return it."""
    system.registry.canary(version, share=share, **(SIGNED | words))
    return system.registry.trial()


def taken(rows, trial):
    """Which version should answer each row, by the rule."""
    share = rollout.in_share([row["id"] for row in rows], trial.share, salt=f"canary {trial.release}")
    return np.where(share, trial.version, FIRST)


def test_a_canary_answers_the_ids_of_its_share_and_no_others_and_stays_with_them(system, log, caller, tmp_path):
    rows = asked(questions(), name="sticky")
    trial = begin_canary(system, SECOND, share=0.25)
    caller.refresh()
    versions = caller.predict(rows)["model_version"]
    assert versions.tolist() == taken(rows, trial).tolist()
    assert set(versions) == {FIRST, SECOND}
    assert log.predictions()["share"].eq(0.25).all()
    # another log: it is the id that decides, not what was answered before
    with closing(PredictionLog(f"sqlite:///{tmp_path / 'alone.db'}")) as other, serving(system, other) as url:
        assert Caller(url).predict(rows)["model_version"].tolist() == versions.tolist()


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


def test_a_canary_that_does_no_harm_is_raised_step_by_step_and_each_is_on_record_with_its_waiver(system, caller):
    begin_canary(system, DOUBTFUL, waiver="Cobalt is phased out")
    caller.refresh()
    steps = ask_on(caller, system, name="raise", steps=4).iloc[1:]
    assert steps["share"].tolist() == [0.1, 0.25, 0.5]
    assert steps["approver"].tolist() == ["Ada", *["canary rule, begun by Ada"] * 2]
    assert steps["reason"].str.contains("answers of the challenger at share").tolist() == [False, True, True]
    assert [json.loads(text)["cost"]["bar"] for text in steps["evidence"][1:]] == [60, 60]
    assert steps["waiver"].eq("Cobalt is phased out").all()
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
    canary = service.canary._Canary(system, log, trial)

    def locked(registry, **words):
        raise OSError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(registry.Registry, "end_trial", locked)
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
            caller, rows = Caller(url), asked(questions()[:400], name=name)
            notes += [caller.get("/model")["challenger"]["so far"]]
            caller.predict(rows)
            caller.feedback(labels_of(rows))
            caller.refresh()
            notes += [caller.get("/model")["challenger"]["so far"]]
    whole = verdict(log_url=system.workspace.prediction_log_url, trial=trial).reason
    assert notes[0] == "nothing answered yet"
    assert notes[1] == notes[2] != notes[3]
    assert notes[3] == whole
