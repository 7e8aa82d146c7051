"""Short programs to take to work: each does one task with one stage of the package, and runs as it stands.

    names         the snippets there are
    load          one of them, with what it needs
    copy          write one into a project, with the stage module beside it

A snippet is a script in `scripts/`. What it needs is read from its own imports and those of its stage.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

__all__ = ["Snippet", "copy", "load", "names"]

PACKAGE = Path(__file__).parents[1]
SCRIPTS = Path(__file__).with_name("scripts")
LICENCE = "# MIT License, Copyright (c) 2026 MLOps Course contributors"
OWN = PACKAGE.name


@dataclass(frozen=True)
class Snippet:
    """One task, and the program that does it."""

    name: str
    task: str  # one line
    modules: tuple[str, ...]  # stages of the package that it uses
    needs: tuple[str, ...]  # distributions that it and its stages import, other than the package itself
    code: str  # as it stands, where the package is installed

    @property
    def lines(self) -> int:
        """Lines of code, without the licence and the task."""
        return len(self.code.splitlines()) - 2

    def standing_alone(self) -> str:
        """The same program for a project that has the stage modules beside it and not the package."""
        return re.sub(rf"\bfrom {OWN} import\b", "import", re.sub(rf"\bfrom {OWN}\.", "from ", self.code))


def names() -> list[str]:
    """The snippets there are, in alphabetical order."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py"))


def load(name: str) -> Snippet:
    """A snippet by its name. Raises ValueError with the names there are."""
    if name not in names():
        raise ValueError(f"expected a snippet out of {', '.join(names())}; got {name!r}")
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    modules = tuple(sorted({inner for outer, inner in _imports(tree) if outer == OWN}))
    used = {outer for outer, _ in _imports(tree)}
    for module in modules:
        used |= {outer for outer, _ in _imports(ast.parse(source(module)))}
    foreign = used - {OWN} - sys.stdlib_module_names
    needs = tuple(sorted(map(_distribution, foreign)))
    task = (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")
    body = text.split('"""', 2)[2].lstrip("\n")
    return Snippet(name, task, modules, needs, f"{LICENCE}\n# {task}.\n{body}")


def source(module: str) -> str:
    """The text of a stage module."""
    return (PACKAGE / f"{module}.py").read_text(encoding="utf-8")


def copy(snippet: Snippet, folder: Path) -> list[Path]:
    """Write a snippet and the stage modules that it needs into a folder; what is there already is not touched.

    Returns the files. Raises FileExistsError, before anything is written, if one of them is there with other content.
    """
    texts = {folder / f"{module}.py": f"{LICENCE}\n{source(module)}" for module in snippet.modules}
    texts[folder / f"use_{snippet.name}.py"] = snippet.standing_alone()
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(f"{path} is there already, and is another one; move it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _distribution(top: str) -> str:
    """The distribution that brings a top-level package: the one of its name, if there are several."""
    owners = _distributions().get(top, [top])
    return top if top in owners else owners[0]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What is imported, at any depth: the package, and the part of it that is named first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outer, _, inner = (node.module or "").partition(".")
            for alias in node.names:
                yield outer, inner.partition(".")[0] or alias.name
