"""Killed at a step, a training goes on where it stopped, and leaves no model half registered.

A training in a forked child counts what it does: steps of the pipeline, results and entries of the cache, other files
opened for writing, renames, and changes of MLflow's database. It kills itself with SIGKILL at the one that it is told.
"""

import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import small_case
from kills import die_at, in_a_child, spread
from mlflow import MlflowClient

from mlops_course.system import pipeline
from mlops_course.system.pipeline import steps
from mlops_course.system.workspace import EMPTY, Workspace

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a warmed-up process")
pytestmark = [pytest.mark.long, needs_fork, pytest.mark.usefixtures("few_answers_are_timed")]

BATCHES = small_case.batches()[:6]
CHANGES = ("INSERT", "UPDATE", "DELETE")  # what MLflow does to its database
KINDS = ["rename", "step begun", "commit", "result", "write", "change", "cache entry", "step ended"]
SERIES = 7  # of kills, one of each kind in each: 56 in all


def train(workspace, **options):
    return pipeline.train(small_case, BATCHES, workspace=workspace, seed=0, **options)


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """What a training does: `step`, unless it is None, is called with the place and the kind of each thing."""
    from hamilton.caching.stores.sqlite import SQLiteMetadataStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    told, keep = SimpleNamespace(step=None, place="start"), SQLiteMetadataStore.set
    base = os.fspath(tmp_path_factory.getbasetemp())

    def tell(kind):
        if told.step:
            told.step(told.place, kind)

    def make_empty(path, _, flags):
        """Do what is about to be done: a process that dies now leaves an empty file."""
        step, told.step = told.step, None
        if not flags & os.O_EXCL:
            os.close(os.open(path, flags, 0o666))
        told.step = step

    def file_step(happening, args):
        if told.step and happening in ("os.rename", "open") and str(args[0]).startswith(base):
            if happening == "os.rename":
                tell("rename")
            elif isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
                make_empty(*args)
                tell("result" if Path(args[0]).parent.name == "cache" else "write")

    def changing(_, __, statement, *rest):
        if statement.startswith(CHANGES):
            tell("change")

    def committing(_):
        tell("commit")

    def kept(self, **entry):
        tell("cache entry")  # an older one is deleted by now
        keep(self, **entry)

    def progress(name, happening):
        told.place = name
        tell("step begun" if happening == "started" else "step ended")

    told.progress = progress
    sys.addaudithook(file_step)  # stays, as none can be taken away, and does nothing while `step` is None
    event.listen(Engine, "before_cursor_execute", changing)
    event.listen(Engine, "commit", committing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteMetadataStore, "set", kept)
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # no connection is open when a child is forked
        yield told
    event.remove(Engine, "before_cursor_execute", changing)
    event.remove(Engine, "commit", committing)


@pytest.fixture(scope="module")
def unkilled(training, empty_database, tmp_path_factory):
    """A whole training, which warms this process up: the folder of its workspace, its result and its steps in order."""
    workspace, seen = Workspace(tmp_path_factory.mktemp("unkilled")), []
    shutil.copy(empty_database, workspace.root)
    training.step = lambda *step: seen.append(step)
    result = train(workspace, progress=training.progress)
    training.step, training.place = None, "start"
    return SimpleNamespace(folder=workspace.root, result=result, steps=seen, places=list(dict(seen)))


@pytest.fixture
def workspace(unkilled, tmp_path):
    """A workspace that is empty but for MLflow's empty database, which takes seconds to make."""
    shutil.copy(unkilled.folder / EMPTY, tmp_path / EMPTY)
    return Workspace(tmp_path)


def assert_whole(workspace):
    """Whatever is registered can be loaded and verified, and nothing has become champion."""
    registry = workspace.registry(small_case)
    versions = registry.versions()
    assert len(versions) <= 1
    assert registry.champion() is None
    for version in versions["version"]:
        registry.load(int(version))


def test_points_to_kill_at_are_of_every_kind_and_lie_all_over_a_training(unkilled):
    series = [spread(unkilled.steps, KINDS, turns=[turn], of=SERIES) for turn in range(SERIES)]
    assert {kind for _, kind in unkilled.steps} == set(KINDS)
    assert set(unkilled.places) > set(steps.__all__)
    assert len({point for points in series for point in points}) == SERIES * len(KINDS) > 50
    for points in series:
        assert {kind for _, _, kind in points} == set(KINDS)
        places = [unkilled.places.index(place) / len(unkilled.places) for place, _, _ in points]
        assert min(places) < 1 / 3
        assert max(places) > 2 / 3


@pytest.mark.parametrize("turn", range(SERIES))
def test_kills_at_a_step_of_each_kind_leave_nothing_half_done_and_a_run_that_resumes(
    training, unkilled, workspace, turn
):
    def train_until(point):
        training.step = die_at(point, unkilled.places)
        train(workspace, progress=training.progress)

    codes = []
    for point in spread(unkilled.steps, KINDS, turns=[turn], of=SERIES):  # each training resumes
        codes.append(in_a_child(partial(train_until, point)))
        if workspace.database.exists():
            assert_whole(workspace)
    assert set(codes) <= {-signal.SIGKILL, 0}
    assert codes.count(0) <= 1, "only where a version is registered already is less left to do than the point asks for"
    finished = train(workspace)
    pd.testing.assert_frame_equal(finished.metrics, unkilled.result.metrics)
    assert len(workspace.registry(small_case).versions()) == 1
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    experiments = [found.experiment_id for found in client.search_experiments()]
    assert client.search_runs(experiments, "attributes.status = 'RUNNING'") == []
