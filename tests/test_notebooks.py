"""Notebooks keep their rules, and the tool that makes them keeps its promises."""

import shutil
import textwrap
from pathlib import Path

import nbformat.v4 as made
import pytest
from nbclient.exceptions import CellExecutionError

import notebooks
from gaps import gaps
from mlops_course.course.checks.derivation import GapError, derived, stored

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))

TASK = '## 1. Twice\n\nLevel 1 of 3 · 5 minutes\n\nAdd it to itself. Stuck? `checks.hint("data_engineering.twice")`'
ANSWER = textwrap.dedent('''
    def twice(x):
        """Two times x.

        >>> twice(2)
        4
        """
        if x:
            # BEGIN SOLUTION
            y = x + x
            return y
            # END SOLUTION
        return 0
''').strip()
CHECK = "checks.twice(twice)"
MISTAKE = '**Common mistake.**\n```python wrong=twice hint="two times"\ndef twice(x):\n    return x**2\n```'


def solution(*, task=TASK, answer=ANSWER, check=CHECK, mistake=MISTAKE, tags=("solution-only",)):
    cells = [
        made.new_code_cell("from mlops_course.course.checks import data_engineering as checks"),
        made.new_markdown_cell(task),
    ]
    cells += [made.new_code_cell(answer), made.new_code_cell(check)]
    return made.new_notebook(cells=[*cells, made.new_markdown_cell(mistake, metadata={"tags": list(tags)})])


def lesson(*sources):
    return made.new_notebook(cells=[made.new_code_cell(source) for source in sources])


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_keeps_the_rules(path):
    assert notebooks.lesson_faults(notebooks.read(path)) == []


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_solution_keeps_the_rules(path):
    assert notebooks.solution_faults(notebooks.read(path)) == []


@pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_notebook_is_stored_as_the_tool_writes_it(path):
    assert path.read_text(encoding="utf-8") == stored(notebooks.read(path)), "run make lessons"


def test_every_exercise_is_what_its_solution_derives_to():
    assert notebooks.derivation_faults(ROOT) == []


def test_every_solution_belongs_to_a_lesson():
    assert {path.name for path in SOLUTIONS} <= {path.name for path in LESSONS}


@pytest.fixture
def shelves(tmp_path):
    notebooks.store(solution(), tmp_path / "solutions" / "01_a.ipynb")
    notebooks.store(
        derived(notebooks.read(tmp_path / "solutions" / "01_a.ipynb")), tmp_path / "exercises" / "01_a.ipynb"
    )
    return tmp_path


def test_a_current_exercise_is_no_fault(shelves):
    assert notebooks.derivation_faults(shelves) == []


def test_a_missing_exercise_is_a_fault(shelves):
    (shelves / "exercises" / "01_a.ipynb").unlink()
    assert notebooks.derivation_faults(shelves) == ["exercises/01_a.ipynb: missing; run make exercises"]


def test_an_exercise_without_a_solution_is_a_fault(shelves):
    shutil.copy(shelves / "exercises" / "01_a.ipynb", shelves / "exercises" / "02_b.ipynb")
    assert notebooks.derivation_faults(shelves) == ["exercises/02_b.ipynb: has no solution"]


@pytest.mark.parametrize("shelf", ["solutions", "exercises"])
def test_a_change_of_one_side_only_is_a_fault(shelves, shelf):
    path = shelves / shelf / "01_a.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("Add it", "Add x"), encoding="utf-8")
    [fault] = notebooks.derivation_faults(shelves)
    assert fault.startswith("exercises/01_a.ipynb: differs")


def test_the_stub_stands_where_the_answer_stood_at_its_indent():
    source = derived(solution()).cells[2].source
    assert source.endswith("    if x:\n        raise checks.YourTurn\n    return 0")
    assert source.startswith(ANSWER.split("        # BEGIN")[0])


def test_an_exercise_holds_no_answer_no_output_and_the_same_ids():
    full = solution()
    full.cells[0].update(execution_count=1, outputs=[made.new_output("stream", text="4")])
    exercise = derived(full)
    assert [cell.id for cell in exercise.cells] == [cell.id for cell in full.cells[:4]]
    assert exercise.cells[0].outputs == []
    assert "x + x" not in stored(exercise)


def test_deriving_does_not_change_the_solution():
    full = solution()
    before = stored(full)
    derived(full)
    assert stored(full) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": ANSWER.replace("# END SOLUTION", "")}, r"cell 3: .* found # BEGIN SOLUTION$"),
        ({"answer": f"{ANSWER}\n# END SOLUTION"}, r"cell 3: expected one # BEGIN SOLUTION and then one"),
        ({"answer": ANSWER.replace("        # END", "    # END")}, "cell 3: .* at the indent"),
        ({"answer": "# BEGIN SOLUTION\n# END SOLUTION"}, "cell 3: .* found nothing"),
        ({"tags": ()}, "cell 5: .* needs the tag 'solution-only'"),
    ],
)
def test_a_solution_that_cannot_be_derived_names_the_cell(change, said):
    with pytest.raises(GapError, match=said):
        derived(solution(**change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": TASK.replace("Level", "Grade")}, "cell 3: .* 'Level 2 of 3 · 10 minutes'"),
        ({"task": TASK.replace("hint", "more")}, r"cell 3: .* how to get a hint: checks.hint\("),
        ({"answer": ANSWER.replace(">>>", "")}, "cell 3: .* >>> example"),
        ({"answer": f"{ANSWER}\ndef thrice(x): ..."}, "cell 3: a gap defines one function or class; found 2"),
        ({"check": "twice(2)"}, r"cell 3: .* calls checks.twice\(twice\)"),
        ({"mistake": MISTAKE.replace(" hint=", " hints=")}, "cell 5: expected ```python wrong=NAME"),
        ({"mistake": MISTAKE.replace('wrong=twice hint="two times"', "right=twice more")}, "cell 5: .* right=NAME"),
        ({"mistake": MISTAKE.replace("wrong=twice", "wrong=thrice")}, "gaps that do not exist: thrice"),
    ],
)
def test_a_gap_that_lacks_a_part_says_which(change, said):
    with pytest.raises(GapError, match=said):
        gaps(solution(**change))


def test_a_gap_carries_its_setup_its_mistakes_and_other_answers():
    other = "```python right=twice\ndef twice(x):\n    return 2 * x\n```"
    [gap] = gaps(solution(mistake=f"{other}\n{MISTAKE}"))
    assert gap.others == ("def twice(x):\n    return 2 * x\n",)
    assert gap.setup == ("from mlops_course.course.checks import data_engineering as checks",)
    assert [(mistake.hint, mistake.code) for mistake in gap.mistakes] == [
        ("two times", "def twice(x):\n    return x**2\n")
    ]


def test_rendering_twice_stores_the_same_text():
    source = lesson("import os\nsorted(os.listdir())", "print(os.environ['MLOPS_HOME'] != '')")
    first = stored(notebooks.executed(source))
    assert stored(notebooks.executed(source)) == first
    assert "[]" in first, "a lesson runs in an empty folder"


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("1 / 0", CellExecutionError, "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('careful')", ValueError, "cell 1: stores a warning"),
        ("import os\nos.getcwd()", ValueError, "cell 1: prints the path"),
    ],
)
def test_a_lesson_that_fails_warns_or_prints_a_path_is_not_rendered(source, error, said):
    with pytest.raises(error, match=said):
        notebooks.executed(lesson(source))


def test_a_check_cell_shows_the_learner_its_message_and_no_stack():
    source = lesson("from mlops_course.course import checks", "def answer():\n    raise checks.YourTurn\nanswer()")
    with pytest.raises(CellExecutionError) as stopped:
        notebooks.executed(source)
    assert stopped.value.traceback.count("Your turn: ") == 1
    assert "Traceback" not in stopped.value.traceback


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("%timeit 1", "cell 1: a magic or a shell command"),
        ("!ls", "cell 1: a magic or a shell command"),
        ("input('?')", r"cell 1: input()"),
        ("open('../x')", "cell 1: a path out of the folder"),
        ("x = 1\n" * 21, "cell 1: 21 lines of code; at most 20"),
    ],
)
def test_code_that_would_not_run_everywhere_is_a_fault(source, said):
    assert said in notebooks.lesson_faults(lesson(source))


def test_a_lesson_without_stored_outputs_is_a_fault():
    assert "cell 1: not run in order from a clean kernel" in notebooks.lesson_faults(lesson("1"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("word " * 1_800, None),
        ("word " * 1_801, "1801 words; a lesson has at most 1800"),
        ("word " * 1_800 + "\n\n## References\n\n- a long list", None),
        ("word " * 1_800 + "\n\n- [x] done\n\n<details><summary>Answer</summary>It is folded away.</details>", None),
        ("Time: 60\nminutes.", None),
        ("Time: 61\nminutes.", "61 minutes; a lesson takes at most 60"),
    ],
)
def test_a_lesson_is_short_enough_to_be_read(text, fault):
    found = notebooks.lesson_faults(made.new_notebook(cells=[made.new_markdown_cell(text)]))
    assert [one for one in found if "words" in one or "minutes" in one] == ([fault] if fault else [])


def test_a_lesson_has_at_most_35_cells():
    assert "36 cells; a lesson has 20 to 35" in notebooks.lesson_faults(lesson(*["1"] * 36))
