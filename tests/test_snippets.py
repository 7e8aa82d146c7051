"""What is taken to work runs there: in an empty project, with the stages beside it and only what it says it needs."""

import importlib.metadata
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from mlops_course import snippets

each_snippet = pytest.mark.parametrize("name", snippets.names())

ONLY = """
import importlib.machinery, importlib.metadata, runpy, sys

class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in hidden:
            return super().find_spec(name, path, target)

script, *allowed = sys.argv[1:]
hidden = {top for top, owners in importlib.metadata.packages_distributions().items() if not {*owners} & {*allowed}}
hidden.add("mlops_course")
sys.meta_path[:] = [Only if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
sys.path.insert(0, ".")
runpy.run_path(script, run_name="__main__")
"""


def closure(distributions) -> set[str]:
    """Distributions with all that their installation brings."""
    found, left = set(), list(distributions)
    while left:
        name = left.pop()
        try:
            own = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if own.name in found:
            continue
        found.add(own.name)
        wanted = [Requirement(text) for text in own.requires or ()]
        left += [need.name for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def run(script, folder, allowed):
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", ONLY, script, *sorted(allowed)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=120)


@each_snippet
def test_a_snippet_runs_in_an_empty_project_with_what_it_says_it_needs(name, tmp_path):
    snippet = snippets.load(name)
    written = snippets.copy(snippet, tmp_path)
    assert {path.name for path in written} == {f"use_{name}.py", *(f"{module}.py" for module in snippet.modules)}
    assert all(path.read_text(encoding="utf-8").startswith("# MIT License, Copyright") for path in written)
    done = run(f"use_{name}.py", tmp_path, closure(snippet.needs))
    assert done.returncode == 0, done.stderr
    assert done.stdout, "a snippet shows what it did"


def test_a_snippet_that_needs_more_than_it_says_does_not_run(tmp_path):
    snippet = snippets.load("psi")
    snippets.copy(snippet, tmp_path)
    done = run("use_psi.py", tmp_path, closure({*snippet.needs} - {"pandas", "scikit-learn"}))
    assert "No module named 'pandas'" in done.stderr


@each_snippet
def test_a_snippet_runs_as_it_stands_where_the_package_is_installed(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", snippets.load(name).code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


@each_snippet
def test_a_snippet_is_short_shows_its_licence_and_checks_itself(name):
    snippet = snippets.load(name)
    assert snippet.lines <= 30
    assert snippet.code.startswith("# MIT License, Copyright (c) ")
    assert "assert " in snippet.code
    assert snippet.modules


def test_a_copy_goes_to_nobodys_cost(tmp_path):
    snippet = snippets.load("gate")
    (tmp_path / "gate.py").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"gate\.py is there already"):
        snippets.copy(snippet, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gate.py"]
    assert (tmp_path / "gate.py").read_text(encoding="utf-8") == "mine"


def test_copying_twice_changes_nothing(tmp_path):
    snippet = snippets.load("gate")
    assert snippets.copy(snippet, tmp_path) == snippets.copy(snippet, tmp_path)


def test_an_unknown_snippet_names_those_there_are():
    with pytest.raises(ValueError, match=r"expected a snippet out of .*psi.*; got 'spi'"):
        snippets.load("spi")
