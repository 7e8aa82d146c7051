"""`doctor` tells what is wrong, and only that."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from mlops_course.system import environment


def found(folder, distribution="mlops-course"):
    return {check["what"]: check for check in environment.checks(distribution, folder=folder)}


def test_the_environment_that_runs_the_tests_is_healthy(tmp_path):
    assert [check["what"] for check in found(tmp_path).values() if not check["ok"]] == []


def test_nothing_is_written(tmp_path):
    environment.checks("mlops-course", folder=tmp_path / "state" / "deep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("pandas<1", "pandas .* is not <1"),
        ("no-such-package>=2", "no-such-package is missing"),
    ],
)
def test_a_package_that_does_not_fit_is_named_with_what_to_do(tmp_path, monkeypatch, requirement, message):
    monkeypatch.setattr(metadata, "requires", lambda name: [requirement, 'other; extra == "test"'])
    packages = found(tmp_path)["packages"]
    assert not packages["ok"]
    assert re.fullmatch(message, packages["found"])
    assert "install again" in packages["to_do"]


def test_a_folder_that_cannot_be_written_is_not_ok(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.os, "access", lambda path, mode: Path(path) != tmp_path)
    assert not found(tmp_path / "state")["folder"]["ok"]


def test_a_distribution_that_is_not_installed_is_an_error(tmp_path):
    with pytest.raises(metadata.PackageNotFoundError):
        environment.checks("no-such-course", folder=tmp_path)
