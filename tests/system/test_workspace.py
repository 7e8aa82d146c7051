import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import mlflow
import pytest

import mlops_course
from mlops_course.system import workspace
from mlops_course.system.keyed_digests import DigestKeyError
from mlops_course.system.workspace import Workspace

OTHER = """import pathlib, sys
from mlops_course.system.workspace import Workspace
Workspace(pathlib.Path(sys.argv[1])).create()"""


@pytest.fixture(scope="module")
def created(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("home") / "my räum").create()


def test_mlops_home_says_where_the_workspace_is(tmp_path):
    assert Workspace.locate({"MLOPS_HOME": str(tmp_path / "here")}).root == tmp_path / "here"


def test_a_relative_mlops_home_is_taken_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Workspace.locate({"MLOPS_HOME": "here"}).root == tmp_path / "here"


@pytest.mark.parametrize("environ", [{}, {"MLOPS_HOME": ""}])
def test_in_a_checkout_the_workspace_lies_beside_its_pyproject(environ, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Workspace.locate(environ).root
    project = tomllib.loads((root.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (root.name, project["name"]) == (".mlops", "mlops-course")


@pytest.mark.parametrize("pyproject", [None, '[project]\nname = "another"\n', "[tool.x]\n"])
def test_an_installed_package_keeps_its_workspace_in_the_current_folder(pyproject, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages" / "mlops_course" / "system" / "workspace.py"
    installed.parent.mkdir(parents=True)
    if pyproject is not None:
        (tmp_path / "site-packages" / "pyproject.toml").write_text(pyproject, encoding="utf-8")
    monkeypatch.setattr(workspace, "__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    assert Workspace.locate({}).root == tmp_path / ".mlops"


def test_locating_and_naming_paths_writes_nothing(tmp_path):
    home = Workspace.locate({"MLOPS_HOME": str(tmp_path / "here")})
    assert home.tracking_uri
    assert home.artifacts_uri
    assert not home.root.exists()


@pytest.mark.parametrize("root", [Path("here"), Path("/tmp/what?").absolute(), Path("/tmp/100%").absolute()])
def test_a_folder_that_mlflow_could_not_find_again_is_refused(root):
    with pytest.raises(ValueError, match="expected"):
        Workspace(root)


def test_everything_that_mlflow_keeps_lies_in_the_workspace(created):
    client = mlflow.MlflowClient(tracking_uri=created.tracking_uri)
    run = client.create_run("0")
    client.log_text(run.info.run_id, "hello", "note.txt")
    (note,) = created.root.rglob("note.txt")
    assert note.read_text() == "hello"
    assert client.get_experiment("0").artifact_location == f"{created.artifacts_uri}/0"


def test_creating_again_changes_nothing(created):
    before = {path: path.stat().st_mtime_ns for path in created.root.rglob("*")}
    created.create()
    assert {path: path.stat().st_mtime_ns for path in created.root.rglob("*")} == before


def test_creating_says_nothing_and_leaves_logging_as_it_was(tmp_path, capfd):
    before = logging.getLogger("mlflow.store").level
    Workspace(tmp_path / "quiet").create()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("mlflow.store").level == before


def test_a_database_whose_creation_was_killed_is_created_again(tmp_path):
    home = Workspace(tmp_path / "killed")
    home.root.mkdir()
    half = sqlite3.connect(home.database.with_suffix(f".{os.getpid()}.part"))
    half.execute("create table half (done)")
    half.close()
    assert mlflow.MlflowClient(tracking_uri=home.create().tracking_uri).search_experiments()
    assert [path.name for path in home.root.glob("mlflow.*")] == ["mlflow.db"]


@pytest.mark.parametrize("moment", ["copyfile", "token_hex"])
def test_a_workspace_that_another_process_made_meanwhile_is_used_as_it_is(tmp_path, monkeypatch, moment):
    home, made = Workspace(tmp_path / "home"), []
    owner = shutil if moment == "copyfile" else workspace
    real = getattr(owner, moment)

    def others_first(*arguments):
        monkeypatch.setattr(owner, moment, real)
        subprocess.run([sys.executable, "-c", OTHER, home.root], check=True)
        made.append((home.store, home.database.stat().st_ino))
        return real(*arguments)

    monkeypatch.setattr(owner, moment, others_first)
    home.create()
    assert made == [(home.store, home.database.stat().st_ino)]
    assert not list(home.root.glob("*.part"))


def test_importing_the_package_neither_writes_nor_loads_mlflow(tmp_path):
    code = "import sys, mlops_course.system.workspace; print([m for m in ('mlflow', 'pandas') if m in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(Path(mlops_course.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert list(tmp_path.iterdir()) == []


def test_withheld_ids_are_kept_as_digests_once_each_and_only_added_to(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.withheld_ids() == []
    workspace.withhold(["a", "b"])
    workspace.withhold(["b", "c"])
    assert workspace.withheld_ids() == sorted(map(workspace.digest_key().digest, "abc"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deletion.key", "withheld.txt"]


def test_ids_are_not_withheld_with_another_key(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.withhold(["a"])
    before = workspace.withheld_ids()
    (tmp_path / "deletion.key").unlink()
    with pytest.raises(DigestKeyError, match="got neither"):
        workspace.withhold(["b"])
    (tmp_path / "deletion.key").write_text("another key " * 4)
    with pytest.raises(DigestKeyError, match="made with another key"):
        workspace.withhold(["b"])
    assert workspace.withheld_ids() == before


def test_the_workspace_of_a_replay_is_found_again_by_its_folder(tmp_path):
    one = Workspace(tmp_path).replay("monthly")
    assert Workspace.locate({"MLOPS_HOME": str(one.root)}) == one
    assert (one.cache, one.root.parent.parent) == (Workspace(tmp_path).cache, tmp_path)


def test_a_fresh_workspace_is_empty_each_time_and_finds_what_the_one_around_it_has_kept(tmp_path):
    around = Workspace(tmp_path / "around")
    around.cache.mkdir(parents=True)
    for _ in range(2):
        own = around.fresh("lesson")
        assert not own.root.exists()
        own.root.mkdir(parents=True)
        (own.root / "mlflow.db").touch()
    assert own == around.replay("lesson")
    assert own.replay("within").cache == own.cache == around.cache
    assert around.cache.exists()


def test_cache_and_snapshots_may_be_those_of_another_workspace_and_nothing_else(tmp_path):
    own, shared = Workspace(tmp_path / "own", shared=tmp_path / "other"), Workspace(tmp_path / "other")
    assert (own.cache, own.snapshots) == (shared.cache, shared.snapshots)
    assert own.tracking_uri != shared.tracking_uri
    assert own.prediction_log_url != shared.prediction_log_url
