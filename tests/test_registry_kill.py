"""Releases and registrations, killed by SIGKILL in the middle: whole or not there at all, and always resumable.

Run as a script, this file is the server that the tests talk to: it warms MLflow up once, and forks a child for each
call. The child counts its steps (each SQL statement as it begins and as it ends, each commit, each file opened for
writing) and kills itself at the step that it is told.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from test_registry import SIGNED, TRUSTED, alias_of, contract_for, fit, new_run

from mlops_course.registry import Registry

if sys.platform == "win32":
    pytest.skip("needs os.fork and SIGKILL, which Windows has not", allow_module_level=True)

RELEASES, REGISTRATIONS = 50, 20
READS = ("SELECT", "PRAGMA")


# The server


def count_steps(die_at):
    """Kill this process at a step; return the list that the names of its steps are appended to."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    steps = []

    def step(name):
        steps.append(name)
        if len(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def file_step(happening, args):
        if happening == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            step("write")

    event.listen(Engine, "before_cursor_execute", lambda _, __, statement, *rest: step(statement.split()[0]))
    event.listen(Engine, "after_cursor_execute", lambda _, __, statement, *rest: step(f"{statement.split()[0]} done"))
    event.listen(Engine, "commit", lambda _: step("COMMIT"))
    sys.addaudithook(file_step)
    return steps


def call(registry, model, *, what, die_at):
    steps = count_steps(die_at)
    match what:
        case ["promote", version]:
            registry.promote(version, **SIGNED)
        case ["back"]:
            registry.roll_back(**SIGNED)
        case ["register", fingerprint, run_id]:
            registry.register(model, contract_for(fingerprint), run_id=run_id)
    return steps


def serve(uri):
    import mlflow.pyfunc
    import mlflow.sklearn  # noqa: F401

    registry, model = Registry(uri, "flights", trusted=TRUSTED), fit()
    registry.promote(3, **SIGNED)  # warms up, and takes the challenger's alias away
    registry.roll_back(**SIGNED)
    for order in map(json.loads, sys.stdin):
        child = os.fork()
        if not child:
            try:
                print(json.dumps(call(registry, model, **order)), flush=True)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print(code, flush=True)


# The tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store with the versions 1 to 3, of which 1 and 2 have been champion."""
    folder = tmp_path_factory.mktemp("killed")
    registry = registry_in(folder)
    run_id, model = new_run(registry.tracking_uri, folder / "files"), fit()
    for number in (1, 2, 3):
        registry.register(model, contract_for(f"f{number}"), run_id=run_id)
    registry.promote(1, **SIGNED)
    registry.promote(2, **SIGNED)
    return folder


def registry_in(folder):
    return Registry(f"sqlite:///{(folder / 'mlflow.db').as_posix()}", "flights", trusted=TRUSTED)


@contextmanager
def server(registry):
    """Function that has a child do something to the registry: the names of its steps, or its exit code if not 0."""
    command = [sys.executable, __file__, registry.tracking_uri]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # no connection is open when the server forks
    }
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def ask(what, die_at=0):
            process.stdin.write(json.dumps({"what": what, "die_at": die_at}) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask


def copy_of(folder, target):
    shutil.copy(folder / "mlflow.db", target)
    return target


def points(steps, count):
    """Steps to die at: all those around a change, as far as they fit into half of the count, and random others."""
    rng = np.random.default_rng(0)
    changes = [number for number, name in enumerate(steps, start=1) if not name.startswith(READS)]
    chosen = rng.choice(changes, min(len(changes), count // 2), replace=False)
    others = np.setdiff1d(np.arange(1, len(steps) + 1), chosen)
    return sorted(map(int, [*chosen, *rng.choice(others, count - len(chosen), replace=False)]))


def observe(registry):
    """What a stranger sees after the kill, before anything is put right, and what the registry then says."""
    seen = alias_of(registry, "champion")
    history = registry.history()
    return {
        "seen": seen,
        "champion": registry.champion(),
        "alias": alias_of(registry, "champion"),
        "loaded": registry.load("champion").version,
        "releases": len(history),
        "last": history["version"].iloc[-1],
    }


@pytest.fixture(scope="module")
def killed_releases(folder, tmp_path_factory):
    """One row for each killed release: in turn a promotion of 3 over 2, and a roll back to 2."""
    registry, rows = registry_in(copy_of(folder, tmp_path_factory.mktemp("releases"))), []
    forth, back = ["promote", 3], ["back"]
    with server(registry) as ask:
        turns = zip(points(ask(forth), RELEASES // 2), points(ask(back), RELEASES // 2), strict=True)
        for point, back_point in turns:
            for what, die_at, old, new in ((forth, point, 2, 3), (back, back_point, 3, 2)):
                before = len(registry.history())
                row = {"exit": ask(what, die_at), "old": old, "new": new} | observe(registry)
                row["releases"] -= before
                if row["champion"] == old:
                    ask(what)
                rows.append(row | {"resumed": registry.champion()})
    return pd.DataFrame(rows)


def test_every_kill_lands_inside_the_release_and_some_on_either_side_of_the_insert(killed_releases):
    assert len(killed_releases) == RELEASES
    assert killed_releases["exit"].eq(-signal.SIGKILL).all()
    assert killed_releases["releases"].value_counts().min() >= RELEASES // 10


@pytest.mark.parametrize("witness", ["seen", "champion", "alias", "loaded"])
def test_the_champion_is_the_old_one_or_the_new_one_for_everybody(killed_releases, witness):
    old_or_new = killed_releases[["old", "new"]].eq(killed_releases[witness], axis="index").any(axis="columns")
    assert old_or_new.all(), killed_releases[~old_or_new]


def test_history_alias_and_what_is_loaded_agree_after_the_next_call(killed_releases):
    agree = killed_releases[["champion", "alias", "loaded", "last"]].nunique(axis="columns").eq(1)
    assert agree.all(), killed_releases[~agree]
    assert killed_releases["releases"].eq(killed_releases["champion"].eq(killed_releases["new"])).all()


def test_a_killed_release_is_resumed_by_repeating_it(killed_releases):
    assert killed_releases["resumed"].eq(killed_releases["new"]).all()


@pytest.fixture(scope="module")
def killed_registrations(folder, tmp_path_factory):
    """One row for each killed registration of a new version."""
    base = tmp_path_factory.mktemp("registrations")
    registry, rows = registry_in(copy_of(folder, base)), []
    run_id = new_run(registry.tracking_uri, base / "files")
    with server(registry) as ask:
        steps = ask(["register", "f4", run_id])
        for number, point in enumerate(points(steps, REGISTRATIONS), start=5):
            what = ["register", f"f{number}", run_id]
            row = {"exit": ask(what, point), "step": steps[point - 1], "number": number} | observe(registry)
            row["versions"] = len(registry.versions())
            row["newest"] = registry.load(row["versions"]).contract.fingerprint
            ask(what)
            row["resumed"] = len(registry.versions())
            rows.append(row | {"challenger": alias_of(registry, "challenger")})
    return pd.DataFrame(rows)


def test_every_kill_lands_inside_the_registration_and_some_on_either_side_of_the_insert(killed_registrations):
    assert killed_registrations["exit"].eq(-signal.SIGKILL).all()
    assert set(killed_registrations["number"] - killed_registrations["versions"]) == {0, 1}
    assert killed_registrations["step"].eq("write").sum() >= 5


def test_a_version_is_registered_complete_or_not_at_all_and_the_champion_stays(killed_registrations):
    assert killed_registrations["newest"].eq("f" + killed_registrations["versions"].astype(str)).all()
    assert killed_registrations[["seen", "champion", "alias", "loaded"]].eq(2).all(axis=None)


def test_a_killed_registration_is_resumed_by_repeating_it(killed_registrations):
    assert killed_registrations["resumed"].eq(killed_registrations["number"]).all()
    assert killed_registrations["challenger"].eq(killed_registrations["number"]).all()


if __name__ == "__main__":
    serve(sys.argv[1])
