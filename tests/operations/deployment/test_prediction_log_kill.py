"""A process that appends to the log is killed at each kind of step of its work: what it was told is kept, is kept.

Run as a script, this file is the server that the tests talk to: it imports the package once, and forks a child for each
order. The child goes on where the one before it got to and says each number when `append` has returned. It names its
steps as it goes: before and after each statement that writes, before and after each commit. At the step of its order it
kills itself, or has the operating system kill it in the middle of the next write to the write-ahead log.
"""

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_course.operations.deployment.prediction_log import PredictionLog, database

if sys.platform == "win32":
    pytest.skip("needs os.fork and SIGKILL, which Windows has not", allow_module_level=True)

APPENDS = 12  # of a child at most; it ends by itself, and a test fails, if its order names a step that never comes
TORN = "in a write"
COMMITTED = "after COMMIT"
# For each child that is killed in the second append or a later one: in which, and at how many places within its writes
QUICK = pytest.param(([2], 4), id="quick")
LONG = pytest.param((range(2, APPENDS), 40), id="all", marks=pytest.mark.long)


# The server


def name_steps(step):
    """Have a function told the name of each step that this process takes to change a database."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def told(when, statement):
        words = statement.split()
        if words[0] not in ("SELECT", "PRAGMA") and words != ["BEGIN"]:
            step(f"{when} {' '.join(words[:3])}")

    event.listen(Engine, "before_cursor_execute", lambda _, __, statement, *rest: told("before", statement))
    event.listen(Engine, "after_cursor_execute", lambda _, __, statement, *rest: told("after", statement))
    event.listen(Engine, "commit", lambda _: step("before COMMIT"))


def die_in_a_write(wal, size):
    """Have the operating system write so many more bytes of a file, and end this process where it writes the next."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + size, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it


def append(file, *, at=None, nth=1, size=None):
    """Append row after row from the last position on, the number of each as its id and as the position, and be killed.

    That is at the nth step that is called `at`; with a `size`, so many bytes later.
    """
    seen, wal = Counter(), file.with_name(f"{file.name}-wal")

    def say(**words):
        os.write(1, f"{json.dumps(words)}\n".encode())

    def step(name):
        seen[name] += 1
        if at is None:
            say(step=name, size=wal.stat().st_size if wal.exists() else 0)
        if (name, seen[name]) == (at, nth):
            os.kill(os.getpid(), signal.SIGKILL) if size is None else die_in_a_write(wal, size)

    name_steps(step)
    log = PredictionLog(f"sqlite:///{file.as_posix()}")
    versions = {"assigned_version": 1, "model_version": 1, "share": 0.0}
    answer = {"probability": 0.5, "decision": True, "latency_ms": 1.0, "inputs": "{}" * 500}
    first = log.position("child") + 1
    for number in range(first, first + (2 if at is None else APPENDS)):
        name = {"id": f"{number}", "time": datetime.now(UTC)}
        known = log.append([name | versions | answer], labels=[name | {"label": 1}], position=("child", number))
        step(COMMITTED)
        say(said=number, known=len(known))


def serve():
    gc.freeze()  # so that a child copies no page only to look for garbage in it
    for file, order in map(json.loads, sys.stdin):
        # The server stands in the queue of the writers, as a thread of it may when it forks, and never leaves
        database._writers.setdefault(Path(file).resolve(), database._WriterQueue()).join()
        child = os.fork()
        if not child:
            try:
                append(Path(file), **order)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)


# The tests


@contextmanager
def server():
    """Function that has a child take an order: all that it said, and how it ended."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(file, **order):
            process.stdin.write(f"{json.dumps([str(file), order])}\n")
            process.stdin.flush()
            said = []
            while "exit" not in (line := json.loads(process.stdout.readline())):
                said.append(line)
            return said, line["exit"]

        yield ask


def steps_of_two_appends(ask, file):
    """The names of all steps of a child that makes the file and appends twice, and the bytes that the second wrote."""
    said, code = ask(file)
    assert code == 0
    steps = [line for line in said if "step" in line]
    return [line["step"] for line in steps], steps[-1]["size"] - steps[-2]["size"]


def orders(steps, written, *, appends, places):
    """Where each child is killed: at each step when it comes first, then in later appends, and within a write."""
    names = list(dict.fromkeys(steps))
    again = list(dict.fromkeys(steps[steps.index(COMMITTED) + 1 :]))
    bytes_written = np.linspace(1, written - 1, places, dtype=int).tolist()
    return [
        *({"at": name} for name in names),
        *({"at": name, "nth": nth} for nth in appends for name in again),
        *({"at": "before COMMIT", "nth": 2, "size": size} for size in bytes_written),
    ]


def found(file):
    """What a stranger finds in the file, in which there may be no table yet."""
    with closing(sqlite3.connect(file)) as stranger:

        def column(query):
            return [value for (value,) in stranger.execute(query)]

        sound = column("PRAGMA integrity_check")
        tables = column("SELECT name FROM sqlite_master WHERE type = 'table'")
        predictions, labels, positions = (
            column(f"SELECT {what} ORDER BY 1") if tables else []
            for what in ("CAST(id AS INTEGER) FROM predictions", "CAST(id AS INTEGER) FROM labels",
                         "position FROM positions WHERE consumer = 'child'")
        )  # fmt: skip
    return {"sound": sound, "predictions": predictions, "labels": labels, "position": max(positions, default=0)}


@pytest.fixture(scope="module", params=[QUICK, LONG])
def kills(request, tmp_path_factory):
    """One row for each killed process: the step, what it had said, and what a stranger found in the log after it."""
    folder, rows = tmp_path_factory.mktemp("killed"), []
    file, (appends, places) = folder / "log.db", request.param
    with server() as ask:
        steps, written = steps_of_two_appends(ask, folder / "whole.db")
        for order in orders(steps, written, appends=appends, places=places):
            said, code = ask(file, **order)
            row = {"step": TORN if "size" in order else order["at"], "order": order, "exit": code}
            numbers, known = ([line[what] for line in said] for what in ("said", "known"))
            rows.append(row | {"said": numbers, "known": known} | found(file))
    return pd.DataFrame(rows).assign(steps=[{*steps, TORN}] * len(rows), torn=lambda table: table["step"].eq(TORN))


def test_a_process_was_killed_at_every_kind_of_step_and_some_had_kept_rows_before(kills):
    assert set(kills["step"]) == kills["steps"][0]
    assert {
        "before BEGIN IMMEDIATE", "after CREATE TABLE predictions", "before INSERT INTO predictions",
        "after INSERT INTO labels", "after UPDATE positions SET", "before COMMIT", COMMITTED,
    } <= kills["steps"][0]  # fmt: skip
    assert kills.loc[~kills["torn"], "exit"].eq(-signal.SIGKILL).all(), kills
    assert kills.loc[kills["torn"], "exit"].eq(-signal.SIGXFSZ).all(), kills
    assert kills["said"].map(len).gt(0).sum() >= len(kills) / 4, kills


def test_a_killed_process_has_kept_what_it_has_said_and_more_only_if_it_was_about_to_say_it(kills):
    kept = kills["position"].diff().fillna(kills["position"])
    assert kept.eq(kills["said"].map(len) + kills["step"].eq(COMMITTED)).all(), kills
    lost = [set(row.said) - set(row.predictions) for row in kills.itertuples()]
    assert lost == [set()] * len(kills)


def test_the_next_process_goes_on_where_the_killed_one_got_to_and_doubles_nothing(kills):
    for row in kills.itertuples():
        assert row.predictions == row.labels == [*range(1, row.position + 1)]
    assert not kills["known"].map(any).any(), "a row was appended that was there already"


def test_the_file_is_sound_after_every_kill(kills):
    assert kills["sound"].tolist() == [["ok"]] * len(kills)


if __name__ == "__main__":
    serve()
