"""Every test run gets its own workspace, and so do the lessons that it runs: a learner's `.mlops` is not touched.

Each process of a run has a workspace of its own, and all share one cache: what one has trained, the next one finds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import warm_kernels
from hypothesis import settings

settings.register_profile("course", deadline=None)  # a busy machine is slow, and no test asserts a time
settings.load_profile("course")

SHARED = "MLOPS_TEST_FOLDER"  # environment variable by which the first process tells the others of the folder
MINE = pytest.StashKey[str]()  # the folder, in the process that made it
KERNELS = pytest.StashKey[subprocess.Popen]()  # the process that forks kernels for lessons, likewise


def pytest_configure(config):
    process = getattr(config, "workerinput", {}).get("workerid", "first")
    if process == "first":
        os.environ[SHARED] = config.stash[MINE] = tempfile.mkdtemp(prefix="mlops-course-")
    os.environ["MLOPS_HOME"] = str(Path(os.environ[SHARED], "replays", process))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run on all cores already; more threads wait for each other
    if (config.option.nbval or config.option.nbval_lax) and sys.platform == "linux":  # elsewhere libraries bear no fork
        config.option.nbval_current_env, config.option.nbval_kernel_name = False, warm_kernels.NAME
        if process == "first":
            config.stash[KERNELS] = warm_kernels.start(os.environ[SHARED])


@contextmanager
def few_answers():
    """Let trainings time a few answers instead of many, which takes a quarter of a training on little data."""
    from mlops_course.system.pipeline.steps import judgement

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judgement, "LATENCY_CALLS", 5)
        yield


@pytest.fixture(scope="module")
def few_answers_are_timed():
    """For modules in which no test is about how long an answer takes."""
    with few_answers():
        yield


@pytest.fixture(scope="session")
def empty_database():
    """MLflow's database with nothing in it, to be copied: making one takes seconds."""
    from mlops_course.system.workspace import EMPTY, Workspace

    return Workspace(Path(os.environ[SHARED])).create().root / EMPTY


@pytest.fixture(scope="session")
def warm(empty_database):
    """Function that makes a workspace of the small case which is spared the work of a first training.

    It has MLflow's empty database, which takes seconds to make, and the cached results of a training on the first six
    months; its store is empty. Each workspace is a copy of its own, to be changed at will.
    """
    import small_case

    from mlops_course.system import pipeline
    from mlops_course.system.workspace import EMPTY, Workspace

    source = Workspace(Path(os.environ[SHARED], "warm"))
    if not source.root.exists():
        made = Workspace(Path(tempfile.mkdtemp(dir=os.environ[SHARED])))
        shutil.copy(empty_database, made.root / EMPTY)
        with few_answers():
            pipeline.train(small_case, small_case.batches()[:6], workspace=made, seed=0)
        with suppress(OSError):  # another process was first
            made.root.rename(source.root)

    def make(root):
        workspace = Workspace(root)
        for folder in ("cache", "snapshots"):
            shutil.copytree(getattr(source, folder), getattr(workspace, folder))
        for file in (EMPTY, "cache.key"):
            shutil.copy(source.root / file, workspace.root)
        return workspace

    return make


def pytest_unconfigure(config):
    if KERNELS in config.stash:
        config.stash[KERNELS].kill()
        config.stash[KERNELS].wait()
    if MINE in config.stash:
        shutil.rmtree(config.stash[MINE], ignore_errors=True)
