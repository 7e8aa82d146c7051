"""Releases and registrations, killed by SIGKILL in the middle: whole or not there at all, and always resumable.

A child is forked for each call. It counts its steps (each SQL statement as it begins and as it ends, each commit, each
file opened for writing) and kills itself at the step that it is told.
"""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from kills import in_a_child
from test_registry import SIGNED, TRUSTED, alias_of, contract_for, fit, new_run

from mlops_course.operations.registry import Registry

if sys.platform == "win32":
    pytest.skip("needs os.fork and SIGKILL, which Windows has not", allow_module_level=True)

pytestmark = pytest.mark.long
RELEASES, REGISTRATIONS = 50, 20  # that are killed
READS = ("SELECT", "PRAGMA")


# In the child


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


def call(registry, model, *, what):
    match what:
        case ["promote", version]:
            registry.promote(version, **SIGNED)
        case ["back"]:
            registry.roll_back(**SIGNED)
        case ["register", fingerprint, run_id]:
            registry.register(model, contract_for(fingerprint), run_id=run_id)


def ask(registry, what, die_at=0):
    """Have a child do something to the registry: the names of its steps, or its exit code if that is not 0."""
    model, (reading, writing) = fit(), os.pipe()

    def act():
        steps = count_steps(die_at)
        call(registry, model, what=what)
        os.write(writing, json.dumps(steps).encode())

    code = in_a_child(act)
    os.close(writing)
    with open(reading) as told:
        return code or json.load(told)


# The tests


@pytest.fixture(scope="module", autouse=True)
def no_connection_is_open_when_a_child_is_forked():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        yield


@pytest.fixture(scope="module")
def folder(empty_database, tmp_path_factory):
    """A store with the versions 1 to 3, of which 2 is champion again."""
    folder = tmp_path_factory.mktemp("killed")
    shutil.copy(empty_database, folder / "mlflow.db")
    registry = registry_in(folder)
    run_id, model = new_run(registry.tracking_uri, folder / "files"), fit()
    for number in (1, 2, 3):
        registry.register(model, contract_for(f"f{number}"), run_id=run_id)
    for version in (1, 2, 3):
        registry.promote(version, **SIGNED)
    registry.roll_back(**SIGNED)  # 3 is no challenger any more
    return folder


def registry_in(folder):
    return Registry(f"sqlite:///{(folder / 'mlflow.db').as_posix()}", "flights", trusted=TRUSTED)


def copy_of(folder, target):
    shutil.copy(folder / "mlflow.db", target)
    return target


def points(steps, count):
    """Steps to die at, evenly spread: up to a half of them around changes, the others anywhere."""
    changes = [number for number, name in enumerate(steps, start=1) if not name.startswith(READS)]
    chosen = evenly(changes, min(len(changes), count // 2))
    others = np.setdiff1d(np.arange(1, len(steps) + 1), chosen)
    return sorted([*chosen, *evenly(others, count - len(chosen))])


def evenly(numbers, count):
    return [int(numbers[(2 * at + 1) * len(numbers) // (2 * count)]) for at in range(count)]


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
    observe(registry)  # opens the store: otherwise the first child would, and count what no later one does
    forth, back = ["promote", 3], ["back"]
    turns = [points(ask(registry, what), RELEASES // 2) for what in (forth, back)]
    for point, back_point in zip(*turns, strict=True):
        for what, die_at, old, new in ((forth, point, 2, 3), (back, back_point, 3, 2)):
            before = len(registry.history())
            row = {"exit": ask(registry, what, die_at), "old": old, "new": new} | observe(registry)
            row["releases"] -= before
            if row["champion"] == old:
                call(registry, None, what=what)
            rows.append(row | {"resumed": registry.champion()})
    return pd.DataFrame(rows)


def test_every_kill_lands_inside_the_release_and_some_on_either_side_of_the_insert(killed_releases):
    assert killed_releases["exit"].eq(-signal.SIGKILL).all()
    on_record = killed_releases["releases"]
    assert set(on_record) == {0, 1}
    assert on_record.value_counts().min() >= len(on_record) // 8


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
    model = fit()
    call(registry, model, what=["register", "f4", run_id])  # the first one has more to do, such as to open the store
    steps = ask(registry, ["register", "f5", run_id])
    for number, point in enumerate(points(steps, REGISTRATIONS), start=6):
        what = ["register", f"f{number}", run_id]
        row = {"exit": ask(registry, what, point), "step": steps[point - 1], "number": number} | observe(registry)
        row["versions"] = len(registry.versions())
        row["newest"] = registry.load(row["versions"]).contract.fingerprint
        call(registry, model, what=what)
        row["resumed"] = len(registry.versions())
        rows.append(row | {"challenger": alias_of(registry, "challenger")})
    return pd.DataFrame(rows)


def test_every_kill_lands_inside_the_registration_and_some_on_either_side_of_the_insert(killed_registrations):
    assert killed_registrations["exit"].eq(-signal.SIGKILL).all()
    assert set(killed_registrations["number"] - killed_registrations["versions"]) == {0, 1}
    assert killed_registrations["step"].eq("write").sum() >= len(killed_registrations) // 5


def test_a_version_is_registered_complete_or_not_at_all_and_the_champion_stays(killed_registrations):
    assert killed_registrations["newest"].eq("f" + killed_registrations["versions"].astype(str)).all()
    assert killed_registrations[["seen", "champion", "alias", "loaded"]].eq(2).all(axis=None)


def test_a_killed_registration_is_resumed_by_repeating_it(killed_registrations):
    assert killed_registrations["resumed"].eq(killed_registrations["number"]).all()
    assert killed_registrations["challenger"].eq(killed_registrations["number"]).all()
