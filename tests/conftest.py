"""Every test run gets its own workspace, and so do the lessons that it runs: a learner's `.mlops` is not touched."""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("course", deadline=None)  # a busy machine is slow, and no test asserts a time
settings.load_profile("course")

WORKSPACE = pytest.StashKey[str]()


def pytest_configure(config):
    config.stash[WORKSPACE] = tempfile.mkdtemp(prefix="mlops-course-")
    os.environ["MLOPS_HOME"] = config.stash[WORKSPACE]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run on all cores already; more threads wait for each other


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Function that makes a workspace of the small case which is spared the work of a first training.

    It has MLflow's empty database, which takes seconds to make, and the cached results of a training on the first six
    months; its store is empty. Each workspace is a copy of its own, to be changed at will.
    """
    import small_case

    from mlops_course.system import pipeline
    from mlops_course.system.workspace import EMPTY, Workspace

    source = Workspace(tmp_path_factory.mktemp("warm"))
    pipeline.train(small_case, small_case.batches()[:6], workspace=source, seed=0)

    def make(root):
        workspace = Workspace(root)
        for folder in ("cache", "snapshots"):
            shutil.copytree(getattr(source, folder), getattr(workspace, folder))
        shutil.copy(source.root / EMPTY, workspace.root)
        return workspace

    return make


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[WORKSPACE], ignore_errors=True)
