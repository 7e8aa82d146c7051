"""What the result of a step depends on besides its arguments, declared in one line above the step.

    depends_on      declare the modules that a step calls, and the facts that it depends on without being given them
    keys_of         digest for each step of its own file and of all that it declares
    case_version    digest of a case; `code_version` of a module, `package_version` of all that is here

The cache keeps a result by this digest and by the fingerprints of the arguments. So an edit of a file that is
declared, or another value of a constant in it, makes the step run again. A function that a program replaces while it
runs does not.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mlops_course.development import training

CASE = "case"  # its code, as `case_version` says
DATA_FILES = "data files"  # digests of the files that the batches are read from
LIBRARIES = "libraries"  # versions of those that decide what a fit gives
STORE = "store"  # that of MLflow: workspaces may share results, but not runs and versions


def depends_on(*needs: ModuleType | str) -> Callable[[Callable], Callable]:
    """Declare what a step depends on: modules by their code, and facts by the names above."""

    def declare(step: Callable) -> Callable:
        step.depends_on = needs
        return step

    return declare


def keys_of(steps: Sequence[Callable], facts: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each step's file and of all that the step declares, by its name; `facts` has the facts by theirs."""
    return {
        step.__name__: digest(
            code_version(inspect.getmodule(step)),
            [facts[need] if isinstance(need, str) else code_version(need) for need in step.depends_on],
        )
        for step in steps
    }


def code_version(module: ModuleType) -> str:
    """Digest of a module's source, of its whole folder if it is a package, and of constants changed since loading."""
    file = Path(inspect.getfile(module))
    source = training.code_version(sorted(file.parent.rglob("*.py")) if hasattr(module, "__path__") else [file])
    return digest(source, _changed_constants(module.__name__))


def _changed_constants(name: str) -> list[str]:
    """The constants of a module and of those below it that have another value now than their source gives them.

    A name that a folder's `__init__.py` only imports is compared with the files below that define it.
    """
    modules = {loaded: module for loaded, module in sorted(sys.modules.items()) if f"{loaded}.".startswith(f"{name}.")}
    modules = {loaded: module for loaded, module in modules.items() if getattr(module, "__file__", None)}
    written = {loaded: _constants(Path(module.__file__).read_text("utf-8")) for loaded, module in modules.items()}
    found = []
    for loaded, module in modules.items():
        for constant in sorted(vars(module).keys() & set().union(*written.values())):
            own = [written[loaded]] if constant in written[loaded] else written.values()
            now = repr(vars(module)[constant])
            if now not in [repr(values[constant]) for values in own if constant in values]:
                found.append(f"{loaded}.{constant} = {now}")
    return found


@cache
def _constants(source: str) -> dict[str, Any]:
    """The texts, numbers and collections of these that a module's source gives to names in capitals."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(name := node.targets[0], ast.Name) and name.id.isupper():
            with suppress(ValueError):  # what is computed counts by the source alone
                found[name.id] = ast.literal_eval(node.value)
    return {name: value for name, value in found.items() if not isinstance(value, set)}  # which has no order


def package_version() -> str:
    """Digest of all Python files of this package."""
    return training.code_version(sorted(Path(__file__).parents[2].rglob("*.py")))


def case_version(case: ModuleType) -> str:
    """Digest of a case's code, and of its `made_with`, which says what was done to a case to make it another one."""
    return digest(code_version(case), getattr(case, "made_with", None))


def digest(*parts: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
