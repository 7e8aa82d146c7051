"""Every gap of every exercise: its solution passes and other right answers too, each mistake gets its own hint."""

import doctest
import functools
import re
from pathlib import Path

import nbformat.v4 as made
import pandas as pd
import pytest

from gaps import Gap, Mistake, gaps
from mlops_course.course.checks import Rejected, YourTurn, exercise
from mlops_course.course.checks.examples import expect_example
from notebooks import read

ROOT = Path(__file__).parents[1]


def documented_solution():
    """The example in CONTRIBUTING as a notebook, so that the description of an exercise is tested like an exercise."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Add an exercise\n")[1]
    fences = re.findall(r"^( *)(`{3,})\w+\n(.*?)^\1\2$", section, re.DOTALL | re.MULTILINE)
    _, task, gap, mistake, module = (re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, _, block in fences)
    setup = f"import types\n{module}\nchecks = types.SimpleNamespace(YourTurn=YourTurn, late_share=late_share)"
    code = (made.new_code_cell(source) for source in (setup, gap, "checks.late_share(late_share)"))
    cells = [next(code), made.new_markdown_cell(task), *code, made.new_markdown_cell(mistake)]
    return made.new_notebook(cells=cells)


SOLUTIONS = {path.stem: read(path) for path in sorted((ROOT / "solutions").glob("*.ipynb"))}
GAPS = [
    pytest.param(gap, id=f"{stem}-{gap.name}")
    for stem, notebook in {"CONTRIBUTING": documented_solution(), **SOLUTIONS}.items()
    for gap in gaps(notebook)
]
SOLVED = [  # all of them, but in the quick run only the documented one: the others run from top to bottom there
    pytest.param(*case.values, id=case.id, marks=[pytest.mark.long] * (not case.id.startswith("CONTRIBUTING")))
    for case in GAPS
]
OTHERS = [  # of each gap the first one in every run, as one right answer of another kind is what a check overlooks
    pytest.param(gap, other, id=f"{case.id}-{number}", marks=[pytest.mark.long] * (number > 1))
    for case in GAPS
    for gap in case.values
    for number, other in enumerate(gap.others, start=1)
]
MISTAKES = [  # of each gap the first two in every run
    pytest.param(gap, mistake, id=f"{case.id}-{number}", marks=[pytest.mark.long] * (number > 2))
    for case in GAPS
    for gap in case.values
    for number, mistake in enumerate(gap.mistakes, start=1)
]


@pytest.fixture(scope="module")
def prepared() -> dict[tuple[str, ...], dict]:
    """The names that each run of setup cells has left behind, so that cells shared by several answers run once."""
    return {}


@pytest.fixture
def fill(prepared, tmp_path, monkeypatch):
    """Put code in a gap with nothing in place but the cells that belong to no gap; return the names it leaves."""
    monkeypatch.chdir(tmp_path)

    def fill(gap: Gap, code: str) -> dict:
        if gap.setup not in prepared:
            prepared[gap.setup] = {}
            for source in gap.setup:
                exec(compile(source, "setup", "exec"), prepared[gap.setup])
        names = dict(prepared[gap.setup])
        exec(compile(code, gap.name, "exec"), names)
        return names

    return fill


@pytest.mark.parametrize("stem", SOLUTIONS)
def test_a_solution_runs_from_top_to_bottom_and_every_check_accepts_it(stem, tmp_path, monkeypatch, capsys):
    """As in JupyterLab, but without a kernel, which takes longer to start than most solutions take to run."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in SOLUTIONS[stem].cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, stem, "exec"), names)
    said = capsys.readouterr().out
    assert [gap.name for gap in gaps(SOLUTIONS[stem]) if f"{gap.name}: correct." not in said] == []


@pytest.mark.parametrize("gap", SOLVED)
def test_the_solution_of_a_gap_needs_no_earlier_answer(fill, gap, capsys):
    exec(gap.check, fill(gap, gap.solution))
    assert f"{gap.name}: correct." in capsys.readouterr().out


@pytest.mark.parametrize(("gap", "other"), OTHERS)
def test_another_right_answer_is_accepted(fill, gap, other, capsys):
    exec(gap.check, fill(gap, f"{gap.solution}\n\n{other}"))
    assert f"{gap.name}: correct." in capsys.readouterr().out


@pytest.mark.parametrize("gap", GAPS)
def test_the_example_in_the_docstring_has_the_value_that_it_says(fill, gap):
    names = fill(gap, gap.solution)
    [example] = doctest.DocTestFinder(recurse=False).find(names[gap.name], gap.name, globs=names)
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("gap", GAPS)
def test_an_answer_that_only_the_example_of_the_page_refutes_is_rejected(fill, gap, monkeypatch):
    names, wrong = fill(gap, gap.solution), []
    right = names[gap.name]

    @functools.wraps(right)
    def answer(*arguments, **named):
        return pd.NA if wrong else right(*arguments, **named)

    def example(*arguments, **named):
        wrong.append("from here on")
        expect_example(*arguments, **named)

    names[gap.name] = answer
    if not getattr(names["checks"], gap.name).example:
        assert gap.name == "since"  # whoever leaves out another example says so here
        return
    monkeypatch.setattr(exercise, "expect_example", example)
    with pytest.raises(Rejected, match="page's own example"):
        exec(gap.check, names)
    assert len(wrong) == 1


@pytest.mark.parametrize("gap", GAPS)
def test_an_unfilled_gap_is_said_to_be_the_learner_s_turn(fill, gap):
    names = fill(gap, gap.stub)
    with pytest.raises(YourTurn):
        exec(gap.check, names)


@pytest.mark.parametrize(("gap", "mistake"), MISTAKES)
def test_a_common_mistake_is_rejected_with_its_own_hint(fill, gap, mistake: Mistake):
    names = fill(gap, f"{gap.solution}\n\n{mistake.code}")
    with pytest.raises(Rejected) as rejected:
        exec(gap.check, names)
    assert mistake.hint in str(rejected.value)
