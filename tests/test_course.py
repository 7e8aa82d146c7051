"""The lessons together: one skeleton, one vocabulary, names that exist, and a way through that is current."""

import ast
import importlib
import linecache
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
from kills import in_a_child

import course
import slides
from gaps import LEVEL, gaps
from mlops_course.course import snippets
from notebooks import code_cells, read

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DATA = course.course()
COLOURS = {  # Okabe and Ito (2008), and greys: told apart by everybody
    *("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#000000", "#FFFFFF"),
    *("#CCCCCC", "#999999", "#666666", "#333333", "#DDDDDD", "#EEEEEE", "#BBBBBB"),
}

OURS = [str(folder) for folder in (ROOT, ROOT / "tests", ROOT / "tools")]

each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def source(path: Path) -> str:
    return "\n".join(cell.source for _, cell in code_cells(read(path)))


def test_the_lessons_are_there_in_order():
    assert [path.name[:2] for path in LESSONS] == [f"{number:02}" for number in range(20)]


def test_the_page_of_the_lessons_is_current():
    assert course.PAGE.read_text(encoding="utf-8") == course.page(), "run make index"


@each_lesson
def test_a_lesson_ticks_what_is_in_place_after_it(path):
    section = next(cell.source for cell in read(path).cells if "## State of the system" in cell.source)
    assert course.state(path.name[:2]) in section


@each_lesson
def test_a_lesson_leads_to_the_next(path):
    position = LESSONS.index(path)
    last = read(path).cells[-1].source.strip().splitlines()[-1]
    if position + 1 < len(LESSONS):
        assert f"]({LESSONS[position + 1].name})" in " ".join(read(path).cells[-1].source.split("\n")[-3:]), last


@each_lesson
def test_a_lesson_leads_to_its_exercises(path):
    [last] = [cell.source for cell in read(path).cells[-1:]]
    assert f"](../exercises/{path.name})" in last


@each_lesson
def test_a_lesson_imports_what_is_public_only(path):
    """Names that are imported from the package, and attributes of its modules."""
    tree = ast.parse(source(path))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlops_course"):
            owner = importlib.import_module(node.module)
            for alias in node.names:
                if hasattr(owner, "__path__") and alias.name not in getattr(owner, "__all__", ()):
                    modules[alias.asname or alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                else:
                    assert alias.name in owner.__all__, f"{node.module}.{alias.name} is not public"
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
        and not node.attr.startswith("__")
    }
    hidden = {name for name in used if name.split(".")[1] not in modules[name.split(".")[0]].__all__}
    assert hidden == set()
    assert not re.search(r"\.\s*_[a-z]\w*", source(path)), "what begins with _ is nobody's business"


def read_by(code: str) -> set[str]:
    """The names that code reads: of variables, of attributes, and of parameters, as steps of the pipeline are."""
    nodes = list(ast.walk(ast.parse(code)))
    found = {node.id for node in nodes if isinstance(node, ast.Name)}
    found |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return found | {node.arg for node in nodes if isinstance(node, ast.arg)}


def asked_for_by(code: str) -> set[str]:
    """The names that code wants of others: what it reads or imports, names in texts, and where it sends a reader."""
    nodes = list(ast.walk(ast.parse(code)))
    found = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return found | read_by(code) | set(re.findall(r"`\w+\.(\w+)`", code))


def test_every_public_name_is_used_by_somebody():
    """By a lesson, a solution or another part of the package; a class or a step also by its own part."""
    package = ROOT / "mlops_course"
    texts = {file: file.read_text(encoding="utf-8") for file in sorted(package.rglob("*.py"))}
    asked, read_there = ({file: of(text) for file, text in texts.items()} for of in (asked_for_by, read_by))
    shown = set().union(*(asked_for_by(source(path)) for path in [*LESSONS, *(ROOT / "solutions").glob("*.ipynb")]))
    idle = []
    for file in texts:
        part, whole = file.relative_to(package).parts[0], file.name == "__init__.py"
        if part not in ("design", "development", "operations", "system"):
            continue
        own = {path for path in texts if path == file or (whole and file.parent in path.parents)}
        used = shown.union(*(asked[path] for path in texts if path not in own))
        within = set().union(*(read_there[path] for path in own))
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in getattr(importlib.import_module(module), "__all__", []):
            if name not in used and not (
                name in within and ((name[0].isupper() and not name.isupper()) or module.endswith(".steps"))
            ):
                idle.append(f"{module}.{name}")
    assert not idle, "\n".join(idle)


@each_lesson
def test_a_picture_has_a_title_and_a_sentence_after_it(path):
    cells = read(path).cells
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert re.search(r"title|plot_\w+\(|performance\.plot", cell.source), cell.source
            follows = after is not None and (after.cell_type == "markdown" or after.get("outputs"))
            assert follows, "a picture is put into words"


@each_lesson
def test_colours_can_be_told_apart_by_everybody(path):
    assert {colour.upper() for colour in re.findall(r"#[0-9A-Fa-f]{6}\b", source(path))} <= COLOURS


def taken_along() -> list:
    found = []
    for path in LESSONS:
        cells = read(path).cells
        for position, cell in enumerate(cells):
            if "## Take it with you" in cell.source:
                code = next(after.source for after in cells[position:] if after.cell_type == "code")
                found.append(pytest.param(code, id=path.stem))
    return found


def test_every_lesson_but_the_first_has_something_to_take_along():
    assert [case.id for case in taken_along()] == [path.stem for path in LESSONS[1:]]


ALONE = f"""
import os, pathlib, runpy, sys, warnings

os.chdir(folder)
sys.path[:] = [".", *(path for path in sys.path if str(pathlib.Path(path).resolve()) not in {OURS!r})]
for name in [name for name in sys.modules if name.partition(".")[0] == "mlops_course"]:
    del sys.modules[name]  # what this process may have imported of the real package
warnings.resetwarnings()
runpy.run_path("mine.py", run_name="__main__")
assert sys.modules["mlops_course"].__file__.startswith(folder)
"""


@pytest.mark.parametrize("code", taken_along())
def test_what_is_taken_along_runs_in_an_empty_folder_with_its_modules_only(code, tmp_path):
    stages = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mlops_course":
            inner = node.module.removeprefix("mlops_course").lstrip(".")
            stages |= {snippets.stage_of(f"{inner}.{alias.name}".lstrip(".")) for alias in node.names}
    package = ROOT / "mlops_course"
    for file in {file for stage in stages for file in snippets.files_of(stage)}:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        for folder in file.relative_to(package).parents:
            (tmp_path / "mlops_course" / folder / "__init__.py").touch()
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")

    if hasattr(os, "fork"):  # has imported already what takes longest
        assert in_a_child(lambda: exec(ALONE, {"folder": str(tmp_path)})) == 0
    else:
        begin = f"folder = {str(tmp_path)!r}\n"
        done = subprocess.run([sys.executable, "-c", begin + ALONE], capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr


# What course.yaml says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", DATA["paths"], ids=lambda way: way["name"])
def test_a_reading_path_goes_through_lessons_that_exist_in_order(way):
    assert way["lessons"] == sorted(set(way["lessons"]) & {path.name[:2] for path in LESSONS})


def test_a_term_has_twelve_weeks_and_every_lesson_once():
    assert len(DATA["term"]) == 12
    assert [number for week in DATA["term"] for number in week["lessons"]] == [path.name[:2] for path in LESSONS]


@pytest.mark.parametrize("snippet", DATA["snippets"], ids=lambda snippet: snippet["task"])
def test_a_snippet_is_public_and_in_its_lesson(snippet):
    module, _, name = snippet["name"].rpartition(".")
    assert name in importlib.import_module(f"mlops_course.{module}").__all__
    [path] = [path for path in LESSONS if path.name.startswith(snippet["lesson"])]
    assert re.search(rf"\b{name}\b", source(path))


def test_every_program_to_copy_is_in_the_index_once():
    assert sorted(row["snippet"] for row in DATA["snippets"] if "snippet" in row) == snippets.names()


@pytest.mark.parametrize("row", [row for row in DATA["snippets"] if "snippet" in row], ids=lambda row: row["snippet"])
def test_a_program_to_copy_uses_what_the_index_says(row):
    module, _, name = row["name"].rpartition(".")
    snippet = snippets.load(row["snippet"])
    assert module in snippet.modules
    assert re.search(rf"\b{name}\b", snippet.code)


PRACTICES = [*DATA["principles"]["rows"], *DATA["ml_test_score"]["rows"]]


@pytest.mark.parametrize("practice", PRACTICES, ids=lambda practice: practice.get("practice") or practice["name"])
def test_a_practice_has_a_lesson_and_a_test(practice):
    file, name = practice["test"].split("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert any(path.name.startswith(practice["lesson"]) for path in LESSONS)


def test_each_of_the_28_tests_has_its_row():
    from mlops_course.system import readiness

    told = {(row["section"], row["name"]) for row in DATA["ml_test_score"]["rows"]}
    assert told == {(section, name) for section, probes in readiness.PROBES.items() for name in probes}


@pytest.mark.parametrize("term", DATA["glossary"])
def test_no_term_is_used_before_it_is_defined(term):
    file = course.defined_in()[term]
    word = re.compile(rf"\b{re.escape(term)}(?:s|es)?\b".replace(r"\ ", r"\s+"), re.IGNORECASE)
    early = [path.name for path in LESSONS if path.name < file and word.search(course.prose(path))]
    assert early == []
    [path] = [path for path in LESSONS if path.name == file]
    text = course.prose(path).partition("\n\n")[2]  # after the title
    first = word.search(text)
    italic = re.compile(rf"\*{re.escape(term)}\*".replace(r"\ ", r"\s+"), re.IGNORECASE).search(text)
    assert first.start() >= italic.start(), f"used before: {text[max(first.start() - 60, 0) : first.end() + 20]!r}"


# Teaching -------------------------------------------------------------------------------------------------------------

AGENDA = re.compile(r"^## ([^\n(]+) \((\d+) minutes(?: each)?\)\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
TEACHING = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
AGENDAS = {name: (int(total), text) for name, total, text in AGENDA.findall(TEACHING)}


@pytest.mark.parametrize("name", AGENDAS)
def test_the_minutes_of_an_agenda_add_up(name):
    total, text = AGENDAS[name]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE))) == total


@pytest.mark.parametrize("way", [way for way in DATA["paths"] if way["name"] in AGENDAS], ids=lambda way: way["name"])
def test_an_agenda_goes_the_way_of_its_name(way):
    assert re.findall(r"\| lesson (\d\d)", AGENDAS[way["name"]][1]) == way["lessons"]


def test_an_agenda_leaves_time_for_its_exercises():
    cells = {path.stem[3:]: read(path) for path in (ROOT / "solutions").glob("*.ipynb")}
    needed = {f"{at}.{gap.name}": int(LEVEL.search(gap.task)[2]) for at, one in cells.items() for gap in gaps(one)}
    planned = re.findall(r"^\| (\d+) \| exercises? ((?:`[\d.\w]+`(?:, )?)+) \|", TEACHING, re.MULTILINE)
    assert len(planned) == 9
    assert all(int(minutes) >= sum(needed[name.strip("`, ")] for name in names.split()) for minutes, names in planned)


def test_an_agenda_names_sections_that_are_there():
    for number, quoted in re.findall(r"lesson (\d\d),? ([^|\n]*)", TEACHING, re.IGNORECASE):
        [path] = [path for path in LESSONS if path.name[:2] == number]
        headings = [
            line.lstrip("# ") for cell in read(path).cells for line in cell.source.split("\n") if line[:1] == "#"
        ]
        for section in re.findall(r'"([^"]+)"', quoted):
            assert any(heading.startswith(section) for heading in headings), f"{number} has no section {section!r}"


@each_lesson
def test_slides_hold_all_of_a_lesson_but_its_references(path):
    lesson, made = read(path), slides.slides(read(path))
    code = [cell.source for slide in made for cell in slide.cells if cell.cell_type == "code"]
    assert code == [cell.source for _, cell in code_cells(lesson)]
    shown = {cell.source for slide in made for cell in slide.cells} | {note for one in made for note in one.notes}
    words = "\n\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    told = slides.paragraphs(slides.MAP.sub(slides.lifecycle, words.partition("## References")[0]))
    assert {one for one in told if not one.startswith("#")} <= shown


def test_slides_need_no_network():
    made = slides.page(LESSONS[0])
    assert not re.search(r"""(?:src|href)=["']?https?:|@import|<link""", made.partition("<body>")[0])
    assert "https://" not in "".join(re.findall(r"<script.*?</script>|<img[^>]*>", made, re.DOTALL))


def test_joblib_keeps_no_result_of_older_code_as_lesson_08_says(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    ran = []

    def run(text: str, number: int) -> float:
        (tmp_path / "kept.py").write_text(f"def step(number, ran):\n    ran.append(number)\n    return {text}\n")
        sys.modules.pop("kept", None)
        linecache.checkcache()
        memory = joblib.Memory(tmp_path / "joblib", verbose=0)
        return memory.cache(importlib.import_module("kept").step, ignore=["ran"])(number, ran)

    assert [run("number", 1), run("number", 2), run("number", 1)] == [1, 2, 1]
    assert ran == [1, 2]  # back to older arguments: kept
    assert [run("number + 10", 1), run("number", 1)] == [11, 1]
    assert ran == [1, 2, 1, 1]  # back to older code: run again
