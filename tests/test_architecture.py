"""The rules of the package's shape, each with the reason it is held: see "How the package is cut" in CONTRIBUTING."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import drawing

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlops_course"
PHASES = ("design", "development", "operations")  # hold the stages
COMPOSING = {"system", "course", "commands", "starter", "cli", "__main__"}  # may use the system, as lessons do
FOLDERS = {*PHASES, "system", "flights", "course", "starter", "commands"}
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if not {"data", "scripts"} & {*path.relative_to(PACKAGE).parts[:-1]}
)

PACKAGES = sorted({path.parent for path in MODULES})


@cache
def tree_of(path: Path) -> ast.Module:
    """A file as it was parsed; nobody changes it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def public_names(path: Path) -> list[str]:
    """What a file, or the `__init__.py` of a folder, lists in `__all__`."""
    for node in tree_of(path / "__init__.py" if path.is_dir() else path).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def stages_in(path: Path) -> list[Path]:
    """Files, and folders that list public names; a folder that lists none only holds stages."""
    if path.suffix == ".py" or public_names(path):
        return [path]
    inside = [part for part in sorted(path.iterdir()) if part.suffix == ".py" or (part / "__init__.py").is_file()]
    return [stage for part in inside if part.name != "__init__.py" for stage in stages_in(part)]


STAGES = [stage for phase in PHASES for stage in stages_in(PACKAGE / phase)]
SYSTEM = stages_in(PACKAGE / "system")
HOMES = [*SYSTEM, PACKAGE / "cli.py", PACKAGE / "__main__.py"]
CASE_WORDS = re.compile(
    r"\w*(?:flight|carrier|airline|airport|aircraft|runway|departure|dep_delay|arr_delay)\w*", re.IGNORECASE
)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def files_of(path: Path) -> list[Path]:
    """A file, or all files of a folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def code_of(path: Path) -> list[Path]:
    return [file for file in files_of(path) if file.suffix == ".py"]


def text_of(path: Path) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in files_of(path))


def package_imports(path: Path) -> set[str]:
    """What a file or folder imports of the package, at any depth, in dots below it: development.data.known_at."""
    return set().union(*map(drawing.imports, code_of(path)))


def imported_folders(path: Path) -> set[str]:
    return {name.split(".")[0] for name in package_imports(path)}


@cache
def imported_files(path: Path) -> set[Path]:
    """The files of the package that a file imports, also inside its functions."""
    found = set()
    for dotted in package_imports(path):
        parts = dotted.split(".")
        places = [PACKAGE.joinpath(*parts[:length]) for length in range(len(parts), 0, -1)]
        files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
        found |= {*[file for file in files if file.is_file()][:1]} - {path}
    return found


@cache
def folders_beside(folder: Path) -> set[Path]:
    """The folders that the files right in a folder import from; one that holds the other is the same room."""
    found = {file.parent for path in MODULES if path.parent == folder for file in imported_files(path)}
    return {other for other in found if not (other.is_relative_to(folder) or folder.is_relative_to(other))}


def reached_from(start: Path, step: Callable[[Path], set[Path]]) -> set[Path]:
    """Whatever one or more steps lead to."""
    found, new = set(), step(start)
    while new:
        found |= new
        new = {after for place in new for after in step(place)} - found
    return found


def body_of(path: Path) -> list[ast.stmt]:
    return [node for file in code_of(path) for node in tree_of(file).body]


def public_functions(path: Path) -> list[ast.FunctionDef]:
    """The functions that a stage names in `__all__`."""
    public = public_names(path)
    return [node for node in body_of(path) if isinstance(node, ast.FunctionDef) and node.name in public]


def code_without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)  # without comments, too


def run_alone(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Run code in an empty home and working folder, without the user's packages and environment."""
    home = {"HOME": str(folder), "USERPROFILE": str(folder), "MLOPS_HOME": str(folder / ".mlops")}
    return subprocess.run(
        [sys.executable, "-I", "-B", "-X", "utf8", "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **home},
        capture_output=True,
        encoding="utf-8",
        timeout=1200,
    )


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_imports_no_sibling(path):
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    others = {name for name in package_imports(path) if not f"{name}.".startswith(f"{own}.")}
    assert others == set(), "a stage gets what it needs as plain values, so that it can be copied out"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(PACKAGE).with_suffix("").parts[0] not in COMPOSING],
    ids=name_of,
)
def test_only_composition_imports_composition(path):
    assert imported_folders(path) & COMPOSING == set()


@pytest.mark.parametrize("path", SYSTEM, ids=name_of)
def test_the_system_imports_stages_and_itself_only(path):
    assert imported_folders(path) <= {*PHASES, "system"}


@pytest.mark.parametrize("start", PACKAGES, ids=name_of)
def test_folders_that_lie_apart_do_not_import_each_other_in_a_circle(start):
    """A folder and those inside it are one room: the next law holds for the files in it."""
    assert start not in reached_from(start, folders_beside)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_do_not_import_each_other_in_a_circle(path):
    assert path not in reached_from(path, imported_files)


def test_every_folder_of_the_package_is_a_known_one():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == FOLDERS


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_knows_nothing_about_the_running_case(path):
    assert CASE_WORDS.findall(text_of(path)) == [], "what is about flights lives in flights/"


@pytest.mark.parametrize("path", HOMES, ids=name_of)
def test_composition_knows_the_running_case_by_name_only(path):
    assert set(CASE_WORDS.findall(text_of(path))) <= {"flights"}


def test_composition_names_the_running_case_in_one_constant():
    assert sum(len(CASE_WORDS.findall(code_without_docstrings(file))) for path in HOMES for file in code_of(path)) <= 1


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("flights/*.py")), ids=name_of)
def test_the_case_imports_stages_only(path):
    assert imported_folders(path) <= {*PHASES, "flights"}


def test_the_drawing_of_imports_is_current():
    assert drawing.DRAWN.search(drawing.PAGE.read_text(encoding="utf-8"))[0] == drawing.drawing(), "run make drawing"


ALONE = """
import contextlib, doctest, importlib, io, json, os, pathlib, sys, traceback

def examples(folder):
    module = importlib.import_module(folder.name)
    assert folder in pathlib.Path(module.__file__).parents, module.__file__
    failed, attempted = doctest.testmod(module)
    assert attempted, "the module docstring shows no example"
    assert "mlops_course" not in sys.modules

repository, *folders = sys.argv[1:]
sys.path[:] = [entry for entry in sys.path if entry != repository]
told = {}
for folder in map(pathlib.Path, folders):
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            examples(folder)
        except BaseException:
            traceback.print_exc(file=said)
    told[folder.name] = said.getvalue()
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition('.')[0] == folder.name]:
        del sys.modules[name]  # so that no later stage finds it
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What is said against each stage when it is copied into an empty folder and its example runs there.

    One process does it for all of them, each while no other can be imported: loading pandas takes longer than examples.
    """
    home = tmp_path_factory.mktemp("home").resolve()
    for path in STAGES:
        (home / path.stem).mkdir()
        for file in files_of(path):
            copy = home / path.stem / file.relative_to(path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    done = run_alone(ALONE, str(ROOT), *(str(home / path.stem) for path in STAGES), folder=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_copied_alone_into_an_empty_folder_runs_its_example(path, alone):
    assert alone[path.stem] == ""


QUIET_IMPORT = """
import importlib, json, logging, os, sys, warnings
connections = []
sys.addaudithook(lambda event, arguments: event == "socket.connect" and connections.append(str(arguments[1:])))
before = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
changed = {key for key in before.keys() | os.environ.keys() if before.get(key) != os.environ.get(key)}
print(json.dumps({
    "files": sorted(os.listdir()),
    "connections": connections,
    "log handlers": [str(handler) for handler in logging.getLogger().handlers],
    "environment": sorted(key for key in changed if key.startswith("MLOPS") or key.startswith("MLFLOW")),
    "heavy": sorted({"mlflow", "matplotlib", "hamilton"} & sys.modules.keys()),
}))
"""


def test_importing_the_whole_package_does_nothing(tmp_path):
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES if path.stem != "__main__"]
    done = run_alone(QUIET_IMPORT, *(name.removesuffix(".__init__") for name in names), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ('{"files": [], "connections": [], "log handlers": [], "environment": [], "heavy": []}\n')


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_a_stage_says_what_is_public(path):
    defined = {node.name for node in body_of(path) if hasattr(node, "name")}
    constants = {name for name in public_names(path) if name.isupper()}
    assert public_names(path), "a stage lists its public names in __all__"
    assert set(public_names(path)) - constants <= defined, "a public name is defined in its stage, not passed on"


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_public_functions_take_two_positional_arguments_at_most(path):
    crowded = {f.name for f in public_functions(path) if len(f.args.posonlyargs + f.args.args) > 2 or f.args.kwarg}
    assert crowded == set(), "from the third argument on, the call must name it; **kwargs hide what is accepted"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_has_a_docstring(path):
    names = public_names(path)
    public = [node for node in tree_of(path).body if getattr(node, "name", "") in names]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
