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


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[WORKSPACE], ignore_errors=True)
