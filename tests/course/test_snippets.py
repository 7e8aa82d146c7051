"""What is taken to work runs there: in an empty project, with the stages beside it and only what it says it needs."""

import importlib.metadata
import json
import subprocess
import sys
from collections import defaultdict
from functools import cache

import pytest
from packaging.requirements import Requirement

from mlops_course.course import snippets

DATABASE = frozenset({"roll_back", "track"})  # make a database of MLflow, which takes longer than all others together
QUICK = frozenset(snippets.names()) - DATABASE
each_snippet = pytest.mark.parametrize("name", snippets.names())
each_run = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in DATABASE)) for name in snippets.names()]
)

RUN = """
import contextlib, importlib.machinery, io, json, os, pathlib, runpy, sys, traceback

class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in hidden:
            return super().find_spec(name, path, target)

scripts, hidden = json.loads(sys.stdin.read())
sys.meta_path[:] = [Only if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
told = {}
for name, (script, folder) in scripts.items():
    os.chdir(folder)
    sys.path.insert(0, folder)
    before, shown, error = set(sys.modules), io.StringIO(), ""
    with contextlib.redirect_stdout(shown):
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException:
            error = traceback.format_exc()
    told[name] = [shown.getvalue(), error]
    sys.path.remove(folder)
    for module in set(sys.modules) - before:
        if pathlib.Path(folder) in pathlib.Path(getattr(sys.modules[module], "__file__", None) or "/").parents:
            del sys.modules[module]  # a stage that lay beside it; the next snippet has its own
print(json.dumps(told))
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


@cache
def owners() -> dict[str, set[str]]:
    """The distributions that bring each top-level package."""
    return {top: {*names} for top, names in importlib.metadata.packages_distributions().items()}


def run(scripts, allowed=None):
    """What each script, in its folder, has shown and which error has ended it; all run in one process of their own.

    `scripts` are pairs of script and folder by name. Only `allowed` distributions can be imported, if they are given.
    """
    asked = {name: [str(script), str(folder)] for name, (script, folder) in scripts.items()}
    hidden = [] if allowed is None else ["mlops_course", *(top for top in owners() if not owners()[top] & {*allowed})]
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", RUN]
    sent = json.dumps([asked, hidden])
    done = subprocess.run(command, input=sent, capture_output=True, text=True, encoding="utf-8", timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """Each snippet in an empty project: the files of its copy, what it showed, and its error.

    Snippets that need the same run in one process, as importing takes longer than they do.
    """
    places = {name: tmp_path_factory.mktemp(name).resolve() for name in snippets.names()}
    written = {name: snippets.copy(snippets.load(name), place) for name, place in places.items()}
    groups = defaultdict(list)
    for name in places:
        groups[frozenset(closure(snippets.load(name).needs))].append(name)
    told = {}
    for allowed, same in groups.items():
        told |= run({name: (places[name] / f"use_{name}.py", places[name]) for name in same}, allowed)
    return {name: (written[name], *told[name]) for name in places}


@pytest.mark.long
@each_snippet
def test_a_snippet_runs_in_an_empty_project_with_what_it_says_it_needs(name, taken):
    snippet, (written, shown, error) = snippets.load(name), taken[name]
    assert error == ""
    assert shown, "a snippet shows what it did"
    beside = {path.relative_to(written[-1].parent).parts[0].removesuffix(".py") for path in written}
    assert beside == {f"use_{name}", *(module.rpartition(".")[2] for module in snippet.modules)}
    assert all(
        path.read_text(encoding="utf-8").startswith("# MIT License, Copyright")
        for path in written
        if path.suffix == ".py"
    )


def test_a_snippet_that_needs_more_than_it_says_does_not_run(tmp_path):
    snippet = snippets.load("psi")
    snippets.copy(snippet, tmp_path)
    told = run({"psi": (tmp_path / "use_psi.py", tmp_path)}, closure({*snippet.needs} - {"pandas", "scikit-learn"}))
    assert "No module named 'pandas'" in told["psi"][1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Function that runs some snippets as they stand, where the package can be imported: the folder of each, its error.

    In the opposite order, so that one that lives on what another has left behind is found here or in `taken`.
    """

    @cache
    def run_all(names):
        scripts, places = tmp_path_factory.mktemp("scripts"), {}
        for name in sorted(names, reverse=True):
            (scripts / f"{name}.py").write_text(snippets.load(name).code, encoding="utf-8")
            places[name] = tmp_path_factory.mktemp(f"{name}-runs").resolve()
        told = run({name: (scripts / f"{name}.py", place) for name, place in places.items()})
        return {name: (place, told[name][1]) for name, place in places.items()}

    return run_all


@each_run
def test_a_snippet_runs_as_it_stands_where_the_package_is_installed(name, installed):
    folder, error = installed(DATABASE if name in DATABASE else QUICK)[name]
    assert error == ""
    assert list(folder.iterdir()) == [], "it leaves nothing behind"


@each_snippet
def test_a_snippet_is_short_shows_its_licence_and_checks_itself(name):
    snippet = snippets.load(name)
    assert snippet.lines <= 30
    assert snippet.code.startswith("# MIT License, Copyright (c) ")
    assert "assert " in snippet.code
    assert snippet.modules


def test_a_copy_overwrites_no_file(tmp_path):
    snippet = snippets.load("validate")
    (tmp_path / "validation.py").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"validation\.py is there already"):
        snippets.copy(snippet, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["validation.py"]
    assert (tmp_path / "validation.py").read_text(encoding="utf-8") == "mine"


def test_copying_twice_changes_nothing(tmp_path):
    snippet = snippets.load("gate")
    assert snippets.copy(snippet, tmp_path) == snippets.copy(snippet, tmp_path)


def test_an_unknown_snippet_names_those_there_are():
    with pytest.raises(ValueError, match=r"expected a snippet out of .*psi.*; got 'spi'"):
        snippets.load("spi")
