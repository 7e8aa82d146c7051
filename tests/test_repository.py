"""What the repository promises outside its code: shape, pins, links, line ends, and documents that are true."""

import fnmatch
import itertools
import json
import re
import shutil
import subprocess
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
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))


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
    assert set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s])", "\n".join(code_of(name)))) <= targets()


def code_of(name: str) -> list[str]:
    """Every piece of inline code and every fenced block of a Markdown file."""
    return re.findall(r"^```.*?^```$|`[^`\n]+`", read(name), flags=re.DOTALL | re.MULTILINE)


def test_readme_lists_every_lesson_once_and_links_those_that_exist():
    listed = re.findall(r"^\| (\d\d) \| (?:\[[^\]]+\]\((\S+?)\)|([^|\[]+?)) \|", read("README.md"), re.MULTILINE)
    existing = sorted(name_of(path) for path in FILES if path.match("notebooks/*.ipynb"))
    assert [number for number, _, _ in listed] == [f"{number:02d}" for number in range(16)]
    assert [link for _, link, _ in listed if link] == existing
    assert all("to come" in title for _, link, title in listed if not link)


def test_ci_runs_the_test_command_of_the_readme():
    assert "`make test`" in read("README.md") or "\nmake test" in read("README.md")
    assert re.search(r"\bmake test$", read(".ci/run"), re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_a_workflow_runs_this_repository_s_own_commands(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    assert set(re.findall(r"\bmake ([a-z]+)\b", commands)) <= targets()
    assert {"actions/checkout@v4", "actions/setup-python@v5"} >= {step["uses"] for step in steps if "uses" in step}


def test_the_windows_lines_of_the_readme_are_those_that_ci_runs():
    block = re.search(r"```bat\n(.*?)```", read("README.md"), re.DOTALL)[1]
    _, *lines = block.strip().splitlines()  # the first line makes .venv with the py launcher, which a runner lacks
    assert all(line.strip() in read(".github/workflows/ci.yml") for line in lines)


@pytest.mark.parametrize("path", READABLE, ids=name_of)
def test_relative_links_resolve(path):
    assert {link for link in links(path) if not (path.parent / link).exists()} == set()


def test_tests_mirror_the_package():
    folders = {"flights", "checks", "snippets", "classroom", "starter"}
    modules = {path.stem for path in (ROOT / "mlops_course").glob("*.py")} | folders
    stems = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    others = {stem for stem in stems if not stem.startswith(tuple(modules))}
    assert others == {"architecture", "course", "exercises", "notebooks", "repository"}
