"""A room on this machine: who joins, who sees what, what survives a kill, a backup and a request to be forgotten."""

import io
import json
import os
import random
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import httpx
import psutil
import pytest
import uvicorn
from click.testing import CliRunner
from mlflow import MlflowClient

from mlops_course import __version__
from mlops_course.commands.classroom import classroom
from mlops_course.course import progress
from mlops_course.course.classroom import backup, forgetting, front, postgres
from mlops_course.course.classroom import room as rooms
from mlops_course.course.classroom.machine import RoomError, is_free
from mlops_course.course.classroom.room import Room
from mlops_course.course.progress import client

needs_posix = pytest.mark.skipif(os.name == "nt", reason="ends processes by signals")
STORE = "postgresql" if postgres.programs() else "sqlite"
FEW = rooms.SMALL  # learners that a room on SQLite takes
PATIENCE = 300  # seconds after which what is waited for is taken never to come


# An open room, one for all tests --------------------------------------------------------------------------------------


@contextmanager
def served(room: Room):
    """The page of an open room on a free port; yields its address."""
    config = uvicorn.Config(front.application(room), host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, what="the page to start")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)


def until(happens, *, what):
    """Ask again and again until something is true; a busy machine has minutes before this fails."""
    end = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module", params=[pytest.param("room", marks=pytest.mark.long)])  # a room is a minute of tests
def place():
    """A folder that PostgreSQL's account may enter, which a folder of pytest is not if the superuser runs it."""
    folder = Path(mkdtemp())
    folder.chmod(0o755)
    yield folder
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def said():
    return []


@pytest.fixture(scope="module", autouse=True)
def patient():
    """Let a busy machine take its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "PASSWORD_SECONDS", 2)  # what is waited for before somebody is forgotten
        patch.setattr(rooms, "SMALL", rooms.LARGE)  # without PostgreSQL, SQLite serves all: they come one by one
        for module in (rooms, front, client, postgres):
            patch.setattr(module, "SECONDS", PATIENCE)
        # httpx reads all certificates for each request, which takes longer than the answer, though none is needed
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="module")
def room(place, said):
    with Room.make(place / "room", store=STORE, port=quiet_port()).open(say=said.append) as opened:
        yield opened


def quiet_port():
    """A port below those that the system hands out: nobody gets it between now and when MLflow listens there."""
    return next(port for port in random.sample(range(20_000, 30_000), 1_000) if is_free("127.0.0.1", port))


@pytest.fixture(scope="module")
def page(room):
    with served(room) as address:
        yield address


@pytest.fixture(scope="module")
def line(page, room):
    return f"{page}/#{room.code}"


def joins(line, name, root):
    return client.join(line, name, root=root)


def asks(learner, path, method="POST", **body):
    """MLflow's answer to a learner."""
    sent = {"params": body} if method == "GET" else {"json": body}
    login = (learner.learner, learner.password)
    return httpx.request(method, f"{learner.server}/api/2.0/mlflow/{path}", auth=login, timeout=PATIENCE, **sent)


def logs_a_run(learner):
    """A run in the learner's experiment with a parameter and a tag; returns its id."""
    found = asks(learner, "experiments/get-by-name", "GET", experiment_name=learner.learner).raise_for_status().json()
    made = asks(learner, "runs/create", experiment_id=found["experiment"]["experiment_id"]).raise_for_status().json()
    run = made["run"]["info"]["run_id"]
    asks(learner, "runs/log-parameter", run_id=run, key="C", value="0.1").raise_for_status()
    return run


# Joining --------------------------------------------------------------------------------------------------------------


def test_a_learner_who_joined_can_log_and_joining_again_changes_nothing(line, tmp_path):
    ada = joins(line, "ada", tmp_path)
    run = logs_a_run(ada)
    assert joins(line, "ada", tmp_path) == ada
    assert asks(ada, "runs/get", "GET", run_id=run).json()["run"]["data"]["params"] == [{"key": "C", "value": "0.1"}]
    if os.name != "nt":
        assert (tmp_path / "classroom.json").stat().st_mode & 0o077 == 0, "others can read the password"


def test_no_learner_sees_or_changes_what_another_has(line, tmp_path):
    one, other = joins(line, "berta", tmp_path / "one"), joins(line, "carl", tmp_path / "other")
    run = logs_a_run(one)
    assert asks(other, "runs/get", "GET", run_id=run).status_code == 403
    assert asks(other, "runs/set-tag", run_id=run, key="grade", value="1").status_code == 403
    names = {found["name"] for found in asks(other, "experiments/search", max_results=1000).json()["experiments"]}
    assert names == {"carl", "progress of carl"}


def test_registered_names_cannot_collide(line, tmp_path, monkeypatch):
    people = [joins(line, name, tmp_path / name) for name in ("dora", "emil")]
    for one in people:
        monkeypatch.setenv("MLOPS_HOME", str(tmp_path / one.learner))
        name = client.registered_name("late")
        assert name == f"{one.learner}.late"
        assert asks(one, "registered-models/create", name=name).status_code == 200
    answer = asks(people[0], "registered-models/get", "GET", name="emil.late")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda line: line + "x", "not the code"),
        (lambda line: line.partition("#")[0], "expected a line such as"),
        (lambda line: "http://127.0.0.1:9/#abc", "nothing answers"),
        (lambda line: "not a line", "expected a line such as"),
    ],
)
def test_a_wrong_line_to_join_is_refused_with_its_reason(line, tmp_path, change, why):
    with pytest.raises(client.JoinError, match=why):
        joins(change(line), "fritz", tmp_path)
    assert not list(tmp_path.iterdir()), "half joined"


@pytest.mark.parametrize("name", ["", "Ada", "a b", "../ada", "teacher", "a" * 40])
def test_a_name_that_does_not_fit_is_refused(line, tmp_path, name):
    with pytest.raises(client.JoinError, match="expected a name"):
        joins(line, name, tmp_path)


def test_a_name_that_is_taken_is_refused(line, tmp_path):
    joins(line, "gerda", tmp_path / "first")
    with pytest.raises(client.JoinError, match="gerda is taken"):
        joins(line, "gerda", tmp_path / "second")


def test_nobody_can_take_the_place_of_one_who_has_not_joined_yet(line, tmp_path):
    early = joins(line, "norbert", tmp_path / "early")
    asks(early, "experiments/create", name="progress of otto").raise_for_status()
    with pytest.raises(client.JoinError, match="otto is taken"):
        joins(line, "otto", tmp_path / "otto")
    assert not list((tmp_path / "otto").iterdir()), "half joined"


def test_a_learner_whose_answer_was_lost_can_join_again(line, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(httpx, "post", answered_but_lost(httpx.post))
        with pytest.raises(client.JoinError, match="nothing answers"):
            joins(line, "paula", tmp_path)
    assert joins(line, "paula", tmp_path) == client.joined(tmp_path)
    assert asks(joins(line, "paula", tmp_path), "experiments/search", max_results=9).status_code == 200


def answered_but_lost(post):
    def lost(*arguments, **options):
        post(*arguments, **options)
        raise httpx.ReadTimeout("the answer is lost")

    return lost


def test_another_version_of_mlflow_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "version", lambda name: "99.0")
    with pytest.raises(client.JoinError, match="got 99 here"):
        joins(line, "quirin", tmp_path)


def test_another_version_of_the_package_is_refused(line, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "__version__", "99.0.0")
    with pytest.raises(client.JoinError, match=f"the version of the room, {__version__}"):
        joins(line, "hans", tmp_path)


def test_a_proxy_in_the_way_is_named(line, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(client.JoinError, match=r"NO_PROXY=127\.0\.0\.1"):
        joins(line, "ida", tmp_path)


def test_something_else_that_answers_is_no_room(room, tmp_path):
    with pytest.raises(client.JoinError, match="something else"):
        joins(f"{room.address}/#abc", "ida", tmp_path)


def comes_with_others(page, room, seats, folder):
    """More learners join at once than seats are left, and one more when the room is full."""

    def tries(name):
        with suppress(client.JoinError):
            return joins(address, name, folder / name)

    address, before = f"{page}/#{room.code}", len(front.Accounts(room).names())
    with ThreadPoolExecutor(seats + 3) as pool:
        came = list(filter(None, pool.map(tries, [f"many-{number}" for number in range(seats + 3)])))
    assert len(came) == len(front.Accounts(room).names()) - before == seats
    assert joins(address, came[0].learner, folder / came[0].learner) == came[0]
    with pytest.raises(client.JoinError, match="the room is full"):
        joins(address, "many-more", folder / "late")


def test_of_many_who_come_at_once_a_room_takes_as_many_as_it_has_seats(page, room, tmp_path, monkeypatch):
    for name in ("SMALL", "LARGE"):
        monkeypatch.setattr(rooms, name, len(front.Accounts(room).names()) + 2)
    comes_with_others(page, room, 2, tmp_path)


def test_a_room_on_sqlite_takes_five_and_says_what_takes_more(place, tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "SMALL", FEW)
    with Room.make(place / "small", store="sqlite", port=quiet_port()).open() as small, served(small) as page:
        comes_with_others(page, small, FEW, tmp_path)
        with pytest.raises(client.JoinError, match="SQLite lets one write at a time"):
            joins(f"{page}/#{small.code}", "late", tmp_path / "late")


# The board ------------------------------------------------------------------------------------------------------------


def test_results_of_checks_come_to_the_board_which_only_the_teacher_sees(line, page, room, tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    joins(line, "jakob", tmp_path)
    progress.record("data_engineering.known_by", "failed", "<script>alert(1)</script>")
    progress.record("data_engineering.version_of", "passed")
    until(lambda: progress.waiting(progress.classroom()) == 0, what="results to be sent")
    login = ("teacher", room.password)
    shown = httpx.get(f"{page}/board", auth=login, timeout=PATIENCE)
    assert "jakob" in shown.text
    assert "<script>alert" not in shown.text
    assert "jakob" not in httpx.get(f"{page}/board?names=0", auth=login, timeout=PATIENCE).text
    assert "jakob," in CliRunner().invoke(classroom, ["export", "--folder", str(room.folder)]).output
    for wrong in (None, ("teacher", "guess"), ("jakob", client.joined(tmp_path).password)):
        assert httpx.get(f"{page}/board", auth=wrong, timeout=PATIENCE).status_code == 401


FOREIGN = [{"host": "elsewhere.example"}, {"origin": "https://elsewhere.example"}]


@pytest.mark.parametrize("headers", FOREIGN, ids=["another name", "page of another site"])
def test_no_page_of_another_site_gets_into_the_room(page, room, headers):
    joining = {"code": room.code, "name": "eve", "password": "x" * 20}
    assert httpx.post(f"{page}/join", json=joining, headers=headers, timeout=PATIENCE).status_code in (403, 421)
    login = (rooms.TEACHER, room.password)
    create = f"{room.address}/api/2.0/mlflow/experiments/create"
    reply = httpx.post(create, json={"name": "eve"}, auth=login, headers=headers, timeout=PATIENCE)
    assert (reply.status_code, "eve" in front.Accounts(room).names()) == (403, False)


def test_the_page_says_whether_all_is_well(page):
    told = httpx.get(f"{page}/health", timeout=PATIENCE).json()
    assert told["ok"]
    assert told["version"] == __version__


# What survives --------------------------------------------------------------------------------------------------------


@needs_posix
def test_mlflow_that_is_killed_is_started_again_and_has_lost_nothing(line, room, said, tmp_path):
    karl = joins(line, "karl", tmp_path)
    acknowledged = [logs_a_run(karl) for _ in range(3)]
    was = room.running()["mlflow"]
    os.killpg(was, signal.SIGKILL)
    until(lambda: any("MLflow was gone" in line for line in said), what="the room to notice")

    def answers():
        with suppress(httpx.TransportError):
            return asks(karl, "runs/get", "GET", run_id=acknowledged[0]).status_code == 200

    until(answers, what="MLflow to answer again")
    for run in acknowledged:
        assert asks(karl, "runs/get", "GET", run_id=run).status_code == 200
    assert room.running()["mlflow"] != was, "who closes a room that was killed finds MLflow by this number"


def test_a_process_that_got_the_number_of_a_killed_room_is_left_alone(place):
    closed = Room.make(place / "closed", store="sqlite", port=quiet_port())
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    told = {"pid": other.pid, "since": time.time() - 9_000, "mlflow": other.pid, "address": closed.address}
    (closed.folder / "running.json").write_text(json.dumps(told))
    assert closed.running() is None
    done = CliRunner().invoke(classroom, ["down", "--folder", str(closed.folder)])
    assert "closed already" in done.output
    assert other.poll() is None
    other.communicate(b"\n", timeout=PATIENCE)


def test_no_secret_stands_in_the_list_of_processes(room):
    family = psutil.Process(room.running()["mlflow"])
    words = " ".join(word for one in (family, *family.children(recursive=True)) for word in one.cmdline())
    assert str(room.artifacts) in words
    assert not [secret for secret in (room.secret, room.password, room.code) if secret in words]


@pytest.mark.skipif(STORE == "sqlite", reason="PostgreSQL is not installed")
def test_postgresql_moves_to_another_port_if_its_own_is_taken(place):
    closed = Room.make(place / "moved", port=quiet_port())
    closed.prepare()
    closed.close_store()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", closed.postgres_port))
        other.listen()
        with backup.store_runs(Room.make(place / "moved")):
            pass


def test_a_backup_is_restored_to_what_it_was_and_neither_overwrites(line, room, place, tmp_path):
    lotte = joins(line, "lotte", tmp_path)
    run = logs_a_run(lotte)
    file = place / "room.tar.gz"
    held = backup.backup(room, file)
    with pytest.raises(RoomError, match="exists"):
        backup.backup(room, file)
    logs_a_run(lotte)
    with pytest.raises(RoomError, match="has files in it"):
        backup.restore(file, room.folder)
    assert backup.restore(file, place / "again") == held
    again = Room.make(place / "again", port=quiet_port())
    with backup.store_runs(again):
        assert backup.counts(again) == held
        found = MlflowClient(tracking_uri=again.database("mlflow")).get_run(run)
        assert found.data.params == {"C": "0.1"}
    assert backup.counts(room)["runs"] == held["runs"] + 1


@pytest.mark.skipif(STORE == "sqlite", reason="PostgreSQL is not installed")
def test_a_backup_of_a_busy_room_counts_what_is_in_it(line, room, place, tmp_path, monkeypatch):
    rosa, dump = joins(line, "rosa", tmp_path), postgres.dump

    def dumps_while_others_write(*arguments, **options):
        logs_a_run(rosa)
        dump(*arguments, **options)

    monkeypatch.setattr(postgres, "dump", dumps_while_others_write)
    held = backup.backup(room, place / "busy.tar.gz")
    assert backup.restore(place / "busy.tar.gz", place / "quiet") == held
    assert backup.counts(room)["runs"] == held["runs"] + 2


@pytest.fixture(scope="module")
def saved(room, place):
    """A backup that nobody changes."""
    backup.backup(room, place / "whole.tar.gz")
    return place / "whole.tar.gz"


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"no archive"])
def test_a_spoilt_backup_leaves_no_room(saved, place, spoil):
    (place / "spoilt.tar.gz").write_bytes(spoil(saved.read_bytes()))
    with pytest.raises(RoomError, match="classroom backup"):
        backup.restore(place / "spoilt.tar.gz", place / "never")
    assert not (place / "never").exists()
    assert not (place / "never.new").exists()


@pytest.mark.parametrize("parts", [{}, {"backup.json": b"[]"}, {"mlflow.dump": b"no dump"}])
def test_an_archive_with_something_else_in_it_leaves_no_room(saved, place, parts):
    other = place / "other.tar.gz"
    with tarfile.open(saved) as source, tarfile.open(other, "w:gz") as target:
        for one in source.getmembers() if parts else ():
            if one.isfile():
                data = parts.get(one.name) or source.extractfile(one).read()
                one.size = len(data)
                target.addfile(one, io.BytesIO(data))
    with pytest.raises(RoomError, match=r"classroom backup|cannot be read"):
        backup.restore(other, place / "never")
    assert not (place / "never").exists()
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(place / "never") in str(one.info["cmdline"])]


def test_an_upgrade_needs_a_closed_room(room, place):
    with pytest.raises(RoomError, match="closed"):
        backup.upgrade(room, place / "before.tar.gz")


@pytest.fixture(scope="module")
def forgotten(line, room, place):
    """Who stays, who is forgotten (and sends results meanwhile), and the counts before and after."""
    gone, stays = joins(line, "maria", place / "gone"), joins(line, "maria-2", place / "stays")
    runs = {one: logs_a_run(one) for one in (gone, stays)}
    for one in runs:
        asks(one, "registered-models/create", name=f"{one.learner}.late").raise_for_status()
    shares(stays, "maria", runs[stays])
    assert asks(gone, "runs/get", "GET", run_id=runs[stays]).status_code == 200
    stop, before = threading.Event(), backup.counts(room)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(sends_until, stop, gone)
        try:
            done = forgetting.forget(room, "maria")
        finally:
            stop.set()
        busy.result(PATIENCE)
    return SimpleNamespace(gone=gone, stays=stays, run=runs[stays], done=done, before=before, after=backup.counts(room))


def shares(owner, other, run):
    """The owner lets another manage the experiment of a run."""
    found = asks(owner, "runs/get", "GET", run_id=run).json()["run"]["info"]["experiment_id"]
    grant = {"username": other, "resource_type": "experiment", "resource_id": found, "permission": "MANAGE"}
    address = f"{owner.server}/api/3.0/mlflow/users/permissions/grant"
    httpx.post(address, json=grant, auth=(owner.learner, owner.password), timeout=PATIENCE).raise_for_status()


def sends_until(stop, learner):
    while not stop.wait(0.2):  # not all that the machine can do: the others need it too
        asks(learner, "experiments/create", name=f"progress of {learner.learner}")


def test_nothing_is_left_of_a_learner_who_is_forgotten(room, forgotten):
    assert forgotten.done == {"experiments": 2, "runs": 1, "models": 1, "accounts": 1}
    fewer = {name: was - forgotten.after[name] for name, was in forgotten.before.items()}
    assert fewer == {"users": 1, "runs": 1, "experiments": 2, "model_versions": 0}
    assert forgetting.traces(room, "maria") == []
    refused = asks(forgotten.gone, "experiments/search", max_results=10).status_code
    assert refused in (401, 404), "a worker trusts a password for half a minute, and then finds nobody of that name"
    logs = [room.folder / "mlflow.log", room.folder / "postgres" / "server.log"]
    assert not [log for log in logs if log.exists() and re.search(r"maria(?!-2)", log.read_text(errors="replace"))]
    with pytest.raises(RoomError, match="nobody is called"):
        forgetting.forget(room, "maria")


@pytest.mark.parametrize("step", ["_collect", "traces"])
def test_a_deletion_that_was_killed_is_completed_by_the_next_one(line, room, place, monkeypatch, step):
    gone = joins(line, f"olga-{step.strip('_')}", place / step)
    logs_a_run(gone)
    asks(gone, "registered-models/create", name=f"{gone.learner}.model").raise_for_status()
    with monkeypatch.context() as patched:
        patched.setattr(forgetting, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forgetting.forget(room, gone.learner)
    with suppress(RoomError):  # of one that had only to be looked at, nothing is left
        forgetting.forget(room, gone.learner)
    assert forgetting.traces(room, gone.learner) == []


@pytest.mark.parametrize("name", ["artifact_location", "artifactLocation"])
@pytest.mark.parametrize("location", ["file:///{place}", "mlflow-artifacts:/../../{place}", "{place}", "s3://bucket"])
def test_no_learner_writes_outside_of_the_room(line, room, place, name, location):
    writes = joins(line, "ivan", place / "ivan")
    asked = {"name": f"ivan-{secrets.token_hex(4)}", name: location.format(place=place / "outside")}
    reply = asks(writes, "experiments/create", **asked)
    assert (reply.status_code, "files of this room stay" in reply.text) == (400, True)


def test_others_keep_what_is_theirs_also_what_they_shared_with_one_who_is_forgotten(forgotten):
    assert asks(forgotten.stays, "runs/get", "GET", run_id=forgotten.run).status_code == 200
    answer = asks(forgotten.stays, "registered-models/get", "GET", name="maria-2.late")
    assert answer.status_code == 200
