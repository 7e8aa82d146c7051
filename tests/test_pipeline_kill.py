"""Killed at random points, a training goes on where it stopped, and leaves no model half registered."""

import os
import random
import shutil
import signal
import time

import pandas as pd
import pytest
import small_case
from mlflow import MlflowClient

from mlops_course import pipeline
from mlops_course.workspace import Workspace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a warmed-up process")

BATCHES = small_case.batches()[:6]
KILLS = 50
LONGEST = 1.2  # seconds until a kill; a whole training takes about three


def train(workspace):
    return pipeline.train(small_case, BATCHES, workspace=workspace, seed=0)


def train_in_a_child(workspace, seconds):
    """Train in a forked process and kill it after so many seconds; says whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            train(workspace)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def assert_whole(workspace):
    """Whatever is registered can be loaded and verified, and nothing has become champion."""
    registry = workspace.registry(small_case)
    versions = registry.versions()
    assert len(versions) <= 1
    assert registry.champion() is None
    for version in versions["version"]:
        registry.load(int(version))


def test_fifty_kills_leave_nothing_half_done_and_a_run_that_resumes(tmp_path):
    unkilled = train(Workspace(tmp_path / "unkilled"))
    random_delays, landed, round_number = random.Random(0), 0, 0
    template = Workspace(tmp_path / "empty").create().database
    while landed < KILLS:
        round_number += 1
        workspace = Workspace(tmp_path / f"round {round_number}")
        workspace.root.mkdir()
        shutil.copy(template, workspace.database)
        workspace.create()
        for _ in range(10):  # kills in a row on one workspace, each later attempt resuming
            killed = train_in_a_child(workspace, random_delays.uniform(0.05, LONGEST))
            landed += killed
            if not killed:
                break
        assert_whole(workspace)
        finished = train(workspace)
        pd.testing.assert_frame_equal(finished.metrics, unkilled.metrics)
        assert len(workspace.registry(small_case).versions()) == 1
        client = MlflowClient(tracking_uri=workspace.tracking_uri)
        experiments = [found.experiment_id for found in client.search_experiments()]
        assert client.search_runs(experiments, "attributes.status = 'RUNNING'") == []
        shutil.rmtree(workspace.root)
    assert round_number >= 2
