"""A process that appends to the log is killed by SIGKILL at random moments: what it was told is kept, is kept.

Run as a script, this file is the server that the tests talk to: it imports the package once, and forks a child for each
order. The child goes on where the one before it got to, says each id when `append` has returned, and is killed.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from threading import Timer

import numpy as np
import pandas as pd
import pytest

from mlops_course.prediction_log import PredictionLog

if sys.platform == "win32":
    pytest.skip("needs os.fork and SIGKILL, which Windows has not", allow_module_level=True)

KILLS = 20
LONGEST_SECONDS = 0.15


# The server


def append_for_ever(url):
    """Append row after row, the number of each as its id and as the position, from the last position on."""
    log = PredictionLog(url)
    versions = {"assigned_version": 1, "model_version": 1, "share": 0.0}
    answer = {"probability": 0.5, "decision": True, "latency_ms": 1.0, "inputs": "{}" * 500}
    for number in count(log.position("child") + 1):
        name = {"id": f"{number}", "time": datetime.now(UTC)}
        known = log.append([name | versions | answer], labels=[name | {"label": 1}], position=("child", number))
        os.write(1, f"{number} {len(known)}\n".encode())


def serve(url):
    for seconds in map(float, sys.stdin):
        child = os.fork()
        if not child:
            Timer(seconds, os.kill, [os.getpid(), signal.SIGKILL]).start()
            append_for_ever(url)
        print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


# The tests


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    """One row for each killed process: what it had said, and what a stranger found in the log after it."""
    file, rows = tmp_path_factory.mktemp("killed") / "log.db", []
    url, rng = f"sqlite:///{file.as_posix()}", np.random.default_rng()
    command = [sys.executable, __file__, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        for seconds in rng.uniform(0, LONGEST_SECONDS, KILLS):
            server.stdin.write(f"{seconds}\n")
            server.stdin.flush()
            *said, (_, code) = list(answers(server.stdout))
            rows.append({"seconds": seconds, "exit": code, "said": said} | found(file, url))
    return pd.DataFrame(rows)


def answers(stream):
    """Pairs of integers or words, until the server says how the child ended."""
    for line in stream:
        word, number = line.split()
        yield word, int(number)
        if word == "exit":
            return


def found(file, url):
    with closing(sqlite3.connect(file)) as stranger:
        sound = stranger.execute("PRAGMA integrity_check").fetchall()
    with closing(PredictionLog(url)) as log:
        predictions, labels = log.predictions(inputs=False)["id"], log.labelled(inputs=False)["id"]
        position = log.position("child")
    return {"sound": sound, "predictions": [*predictions], "labels": [*labels], "position": position}


def test_every_process_was_killed_and_most_had_begun_to_append(kills):
    assert kills["exit"].eq(-signal.SIGKILL).all()
    assert kills["said"].map(len).gt(0).sum() >= KILLS / 2, kills


def test_what_a_killed_process_has_said_to_be_kept_is_kept(kills):
    lost = [{name for name, _ in row.said} - set(row.predictions) for row in kills.itertuples()]
    assert lost == [set()] * KILLS


def test_the_next_process_goes_on_where_the_killed_one_got_to_and_doubles_nothing(kills):
    for row in kills.itertuples():
        assert row.predictions == row.labels == [f"{number + 1}" for number in range(row.position)]
    assert kills["position"].is_monotonic_increasing
    assert not any(known for said in kills["said"] for _, known in said), "a row was appended that was there already"


def test_the_file_is_sound_after_every_kill(kills):
    assert kills["sound"].tolist() == [[("ok",)]] * KILLS


if __name__ == "__main__":
    serve(sys.argv[1])
