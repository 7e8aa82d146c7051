"""Short programs to take to work: each does one task with one stage of the package, and runs as it stands.

    names, load   the snippets there are, and one of them with what it needs
    copy          write one into a project, with the stages that it needs beside it
    stage_of, files_of, imports_of, distribution    where a name comes from, and what that needs

`scripts/` has a file for each phase. A line `# %% NAME: TASK.` begins a snippet; it gets those imports of its file that
it uses. What it needs is read from them and from the imports of its stage.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from mlops_course.course.lessons import did_you_mean

__all__ = ["Snippet", "copy", "distribution", "files_of", "imports_of", "load", "names", "stage_of"]

PACKAGE = Path(__file__).parents[2]
SCRIPTS = Path(__file__).with_name("scripts")
LICENCE = "# MIT License, Copyright (c) 2026 MLOps Course contributors"
OWN = PACKAGE.name
PUBLIC = re.compile(r"^__all__ = ", re.MULTILINE)
BEGIN = re.compile(r"^# %% (\w+): (.+)\.\n", re.MULTILINE)

_distributions = cache(packages_distributions)


@dataclass(frozen=True)
class Snippet:
    """One task, and the program that does it."""

    name: str
    task: str  # one line
    modules: tuple[str, ...]  # stages that it uses, in dots below the package
    needs: tuple[str, ...]  # distributions that it and its stages import, other than the package itself
    code: str  # as it stands, where the package is installed

    @property
    def lines(self) -> int:
        """Lines of code, without the licence and the task."""
        return len(self.code.splitlines()) - 2

    def standing_alone(self) -> str:
        """The same program for a project that has the stages beside it and not the package."""
        return re.sub(rf"\bfrom {OWN}((?:\.\w+)*) import\b", _beside, self.code)


def names() -> list[str]:
    """The snippets there are, in alphabetical order."""
    return sorted(_scripts())


def load(name: str) -> Snippet:
    """A snippet by its name. Raises ValueError with the names there are."""
    if name not in names():
        raise ValueError(f"expected a snippet out of {', '.join(names())}; got {name!r}{did_you_mean(name, names())}")
    task, head, body = _scripts()[name]
    code = f"{_imports_used(head, body)}\n\n{body.strip()}\n"
    own = [*_imports(ast.parse(code))]
    modules = tuple(sorted(set(filter(None, (stage_of(inner) for outer, inner in own if outer == OWN)))))
    used = {outer for found in (own, *map(imports_of, modules)) for outer, _ in found}
    needs = tuple(sorted(map(distribution, used - {OWN} - sys.stdlib_module_names)))
    return Snippet(name, task, modules, needs, f"{LICENCE}\n# {task}.\n{code}")


@cache
def _scripts() -> dict[str, tuple[str, str, str]]:
    """Each snippet's task, the head of its file with all imports, and its own code."""
    found = {}
    for file in SCRIPTS.glob("*.py"):
        head, *parts = BEGIN.split(file.read_text(encoding="utf-8"))
        found |= {name: (task, head, body) for name, task, body in zip(*[iter(parts)] * 3, strict=True)}
    return found


def _imports_used(head: str, body: str) -> str:
    """The imports in the head of a file whose names are used in some code, in groups as they stand there."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    groups = []
    for block in head.strip().split("\n\n")[1:]:  # after the docstring
        imports = ast.parse(block).body
        for node in imports:
            node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
        groups.append("\n".join(ast.unparse(node) for node in imports if node.names))
    return "\n\n".join(filter(None, groups))


def stage_of(dotted: str) -> str | None:
    """The stage that a name below the package belongs to: its first part that is a file, or a folder with `__all__`.

    A folder whose `__init__.py` names nothing only holds stages. Returns None for a name that leads to no stage.
    """
    parts = dotted.split(".")
    for length in range(1, len(parts) + 1):
        path = PACKAGE.joinpath(*parts[:length])
        face = path / "__init__.py"
        if path.with_suffix(".py").is_file() or (face.is_file() and PUBLIC.search(face.read_text(encoding="utf-8"))):
            return ".".join(parts[:length])
    return None


def files_of(stage: str) -> list[Path]:
    """The file of a stage, or all files of its folder."""
    path = PACKAGE.joinpath(*stage.split("."))
    if not path.is_dir():
        return [path.with_suffix(".py")]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def copy(snippet: Snippet, folder: Path) -> list[Path]:
    """Write a snippet and the stages that it needs into a folder; what is there already is not touched.

    Returns the files. Raises FileExistsError, before anything is written, if one of them is there with other content.
    """
    texts = {}
    for module in snippet.modules:
        above = PACKAGE.joinpath(*module.split(".")[:-1])
        for file in files_of(module):
            text = file.read_text(encoding="utf-8")
            texts[folder / file.relative_to(above)] = f"{LICENCE}\n{text}" if file.suffix == ".py" else text
    texts[folder / f"use_{snippet.name}.py"] = snippet.standing_alone()
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(f"{path} is there already, and is another one; move it, or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _beside(found: re.Match) -> str:
    """The beginning of an import where stages lie beside the program: what leads to a stage is left out."""
    inner = found[1].lstrip(".")
    stage = stage_of(inner)
    return f"from {inner[len(stage.rpartition('.')[0]) :].lstrip('.')} import" if stage else "import"


def distribution(top: str) -> str:
    """The distribution that brings a top-level package: the one of its name, if there are several."""
    name = canonicalize_name(top)
    owners = [canonicalize_name(owner) for owner in _distributions().get(top, [top])]
    return name if name in owners else owners[0]


@cache
def imports_of(stage: str) -> list[tuple[str, str]]:
    """What the files of a stage import of other packages: each package, and the name below it in dots."""
    code = [file for file in files_of(stage) if file.suffix == ".py"]
    return [name for file in code for name in _imports(ast.parse(file.read_text(encoding="utf-8")))]


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What code imports, at any depth, but for relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outer, _, inner = (node.module or "").partition(".")
            for alias in node.names:
                yield outer, f"{inner}.{alias.name}".lstrip(".")
