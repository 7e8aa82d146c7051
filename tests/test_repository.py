"""What the repository promises outside its code: shape, pins, links, line ends, and documents that are true."""

import fnmatch
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TOP = {
    *("notebooks", "exercises", "solutions", "mlops_course", "tests", "benchmarks", "tools"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "constraints.txt"),
    *(".github", ".ci", ".gitignore", ".gitattributes"),
}
BINARY = {".parquet", ".png"}
ONE_MACHINE = re.compile(
    r"(?<![\w.~$}])/(?:(?:home|Users|root|work)/\w|tmp/(?:tmp|pytest|ipykernel))|\b[A-Z]:\\\\?(?:Users|home)\b"
)
REGISTRY = re.compile(r"index-url|find-links|trusted-host|\bfiles\.pythonhosted|/simple\b")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")


def tracked() -> list[Path]:
    """The files under version control; without git, as in a downloaded archive, every file that .gitignore lets in."""
    if shutil.which("git"):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8")
        if names := listed.stdout.split("\0")[:-1]:
            return [ROOT / name for name in names if (ROOT / name).is_file()]
    ignored = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split())]
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(fnmatch.fnmatch(part, rule) for part in path.relative_to(ROOT).parts for rule in ignored)
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


FILES = tracked()
TEXTS = [path for path in FILES if path.suffix not in BINARY]
WORKFLOWS = [path for path in FILES if path.parent == ROOT / ".github" / "workflows"]
READABLE = [path for path in FILES if path.suffix in {".md", ".ipynb"}]


def prose(path: Path) -> str:
    """A Markdown file, or the Markdown cells of a notebook, without its fenced code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(path: Path) -> set[str]:
    found = {next(filter(None, groups)) for groups in LINK.findall(prose(path))}
    return {link.split("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


def test_the_top_level_holds_what_it_should():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} <= TOP


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_text_is_utf8_with_unix_line_ends(path):
    content = path.read_bytes()
    assert b"\r" not in content
    assert content.decode("utf-8").endswith("\n") or not content


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_file_names_a_place_on_one_machine(path):
    assert ONE_MACHINE.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in TEXTS if path != Path(__file__)], ids=name_of)
def test_no_file_names_a_package_registry(path):
    assert REGISTRY.findall(path.read_text(encoding="utf-8")) == [], "where packages come from is the user's setting"


def test_constraints_hold_names_versions_and_markers_only():
    pin = re.compile(r"[a-z0-9-]+==[0-9][\w.+!]*( ; [\w .'<>=!()]+)?")
    assert [line for line in read("constraints.txt").splitlines() if not pin.fullmatch(line)] == []


def dependencies() -> set[str]:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    asked = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    return {re.match(r"[\w-]+", requirement)[0] for requirement in asked}


def test_everything_the_package_asks_for_is_pinned():
    assert dependencies() <= {line.split("==")[0] for line in read("constraints.txt").splitlines()}


def test_contributing_gives_a_reason_for_every_dependency():
    explained = re.findall(r"^\| `([\w-]+)` \| \w", read("CONTRIBUTING.md"), re.MULTILINE)
    assert sorted(explained) == sorted(dependencies())


def test_readme_names_every_command():
    from mlops_course.cli import main

    documented = set(re.findall(r"`mlops-course (\w+)", read("README.md")))
    assert documented == set(main.commands)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_a_documented_make_target_exists(name):
    assert set(re.findall(r"\bmake ([a-z-]+)(?=[`\s])", "\n".join(code_of(name)))) <= targets()


def code_of(name: str) -> list[str]:
    """Every piece of inline code and every fenced block of a Markdown file."""
    return re.findall(r"^```.*?^```$|`[^`\n]+`", read(name), flags=re.DOTALL | re.MULTILINE)


def test_readme_lists_every_lesson_once_and_links_those_that_exist():
    listed = re.findall(r"^\| (\d\d) \| (?:\[[^\]]+\]\((\S+?)\)|([^|\[]+?)) \|", read("README.md"), re.MULTILINE)
    existing = sorted(name_of(path) for path in FILES if path.match("notebooks/*.ipynb"))
    assert [number for number, _, _ in listed] == [f"{number:02d}" for number in range(20)]
    assert [link for _, link, _ in listed if link] == existing
    assert all("to come" in title for _, link, title in listed if not link)


def test_the_changelog_calls_lessons_by_name_because_their_numbers_change():
    assert re.findall(r"\b(?:lessons?|exercises?) \d[\d.]*", read("CHANGELOG.md"), re.IGNORECASE) == []


def test_ci_runs_the_test_command_of_the_readme():
    assert "`make test`" in read("README.md") or "\nmake test" in read("README.md")
    assert re.search(r"\bmake test$", read(".ci/run"), re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_a_workflow_runs_this_repository_s_own_commands(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= targets()


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_a_workflow_pins_each_action_by_digest_and_says_which_release_that_is(path):
    used = re.findall(r"\buses: *(.*)", path.read_text(encoding="utf-8"))
    pin = re.compile(r"actions/(checkout|setup-python)@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert used
    assert [action for action in used if not pin.fullmatch(action)] == []


def test_each_action_is_pinned_to_one_release_everywhere_also_in_what_learners_take_along():
    others = ROOT.glob("mlops_course/**/*"), ROOT.glob("notebooks/*.ipynb")
    texts = [path for path in itertools.chain(WORKFLOWS, *others) if path.suffix in {".yml", ".jinja", ".py", ".ipynb"}]
    used = re.compile(r"\bactions/[\w-]+@[\w.]+")
    pins = {pin for path in texts for pin in used.findall(path.read_text(encoding="utf-8"))}
    assert pins
    assert {pin for pin in pins if not re.search(r"@[0-9a-f]{40}$", pin)} == set()
    assert len(pins) == len({pin.split("@")[0] for pin in pins})


def test_the_windows_lines_of_the_readme_are_those_that_ci_runs():
    block = re.search(r"```bat\n(.*?)```", read("README.md"), re.DOTALL)[1]
    _, *lines = block.strip().splitlines()  # the first line makes .venv with the py launcher, which a runner lacks
    assert all(line.strip() in read(".github/workflows/ci.yml") for line in lines)


def runs(workflow: str, job: str) -> list[str]:
    """The commands of a job of a workflow."""
    steps = yaml.safe_load(read(f".github/workflows/{workflow}.yml"))["jobs"][job]["steps"]
    return [step["run"] for step in steps if "run" in step]


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, without the folder that the programs are in."""
    makefile = read("Makefile")
    makefile = makefile.replace("$(PYTEST)", re.search(r"^PYTEST := (.+)$", makefile, re.MULTILINE)[1])
    lines = re.search(rf"^{target}:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)[1].replace("$(NBVAL)", "--nbval-lax")
    return [line.strip().removeprefix("$(BIN)/") for line in lines.splitlines()]


def test_ci_checks_on_windows_what_make_test_checks():
    checks = [*recipe("lint"), *recipe("test")]
    assert [rf".venv\Scripts\{check}" for check in checks] == runs("ci", "windows")[-len(checks) :]


def test_the_newest_releases_pass_what_make_test_runs():
    assert set(recipe("test")) <= set(runs("weekly", "newest"))


def supported() -> tuple[list[str], str]:
    """The Pythons that the Makefile accepts, and the first that is too new for it."""
    bounds = re.search(r"^SUPPORTED := \(3, (\d+)\) <= sys.version_info < \(3, (\d+)\)$", read("Makefile"), re.M)
    least, beyond = map(int, bounds.groups())
    return [f"3.{minor}" for minor in range(least, beyond)], f"3.{beyond}"


def test_every_list_of_supported_pythons_is_the_same():
    versions, beyond = supported()
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert project["requires-python"] == f">={versions[0]},<{beyond}"
    assert re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"])) == versions
    assert re.search(r"for python in ((?:python3\.\d+ )+)", read("Makefile"))[1].split() == [
        f"python{version}" for version in reversed(versions)
    ]
    assert set(re.findall(r"Python (3\.\d+ \w+ 3\.\d+)", read("Makefile"))) == {f"{versions[0]} to {versions[-1]}"}
    named = f"Python {', '.join(versions[:-1])} {{}} {versions[-1]}"
    assert named.format("or") in read("README.md")
    assert named.format("and") in read("CONTRIBUTING.md")
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    assert [jobs[name]["strategy"]["matrix"]["python"] for name in ("unix", "windows")] == [versions, versions]


def make_with_pythons(folder: Path, *arguments: str, **pythons: str) -> subprocess.CompletedProcess:
    """Ask for the environment in a copy of the repository, where the only Pythons are these, which say what they are.

    None of them can make an environment, so nothing is installed: make ends where one was taken.
    """
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (programs := folder / "programs").mkdir()
    for name, version in pythons.items():
        says = f"import sys; sys.version = '{version}'; sys.version_info = ({version.replace('.', ', ')}, 'final', 0)"
        script = f'#!/bin/sh\ntest "$1" = -c || exit 9\nexec "{sys.executable}" -c "{says}; exec(sys.argv[1])" "$2"\n'
        (programs / name).write_text(script, encoding="utf-8", newline="\n")
        (programs / name).chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHON", "MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        [shutil.which("make"), *arguments, ".venv/.installed"],
        cwd=folder,
        env={**environ, "PATH": str(programs)},
        capture_output=True,
        encoding="utf-8",
    )


has_make = pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make and sh")


@has_make
@pytest.mark.parametrize("version", ["3.10.9", "{beyond}.0"])
def test_make_says_in_one_sentence_which_pythons_it_takes(version, tmp_path):
    versions, beyond = supported()
    version = version.format(beyond=beyond)
    done = make_with_pythons(tmp_path, "PYTHON=mine", mine=version)
    assert done.returncode != 0
    said, *rest = done.stderr.splitlines()
    assert said == (
        f"Python {versions[0]} to {versions[-1]} is needed, {version} came from PYTHON=mine. "
        "Install one, or say where it is: make PYTHON=..."
    )
    assert len(rest) == 1, "make's own line on the target that failed"
    assert done.stdout == "", "nothing was begun"


@has_make
def test_make_looks_past_a_python_that_is_too_new_or_too_old(tmp_path):
    versions, beyond = supported()
    done = make_with_pythons(tmp_path, **{"python3": f"{beyond}.0", "python": f"{versions[0]}.4"})
    assert done.stdout.startswith("Installing into .venv with python. ")


@has_make
def test_make_says_so_when_no_python_will_do(tmp_path):
    versions, beyond = supported()
    done = make_with_pythons(tmp_path, **{"python3": f"{beyond}.0", "python": "3.10.9"})
    assert done.stdout == (
        f"No Python {versions[0]} to {versions[-1]} found. Install one, or say where it is: make PYTHON=...\n"
    )


@pytest.mark.parametrize("path", READABLE, ids=name_of)
def test_relative_links_resolve(path):
    assert {link for link in links(path) if not (path.parent / link).exists()} == set()


def test_tests_mirror_the_package():
    """A test lies in the folder of what it tests, and its name begins as the module's or the folder's does."""
    others = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder, stem = ROOT / "mlops_course" / path.parent.relative_to(ROOT / "tests"), path.stem.removeprefix("test_")
        kinds = (".py",) if path.parent == ROOT / "tests" else ("", ".py")  # at the top, folders have folders
        modules = [part.stem for part in folder.iterdir() if part.suffix in kinds] if folder.is_dir() else []
        if not stem.startswith((*modules, folder.name)):
            others.add(stem)
    assert others == {"architecture", "benchmarks", "cases", "course", "exercises", "notebooks", "repository"}


def test_every_test_that_contributors_are_told_of_is_there():
    told = set(re.findall(r"`(test_\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert told, "the page on who can write where names its tests"
    assert told <= set(re.findall(r"def (test_\w+)", written))
