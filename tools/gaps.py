"""Read the gaps of a solution notebook.

A gap is three cells in a row: a Markdown cell with the task, a code cell with one function whose answer stands between
`# BEGIN SOLUTION` and `# END SOLUTION`, and a code cell that checks it. Markdown cells tagged `solution-only` follow,
with the explanation, other right answers and the common mistakes. CONTRIBUTING shows one in full.
"""

import ast
import re
from dataclasses import dataclass

from nbformat import NotebookNode

from mlops_course.course.checks.derivation import FENCE, GapError, is_gap, is_solution_only, naming, stubbed

LEVEL = re.compile(r"^Level ([123]) of 3 · (\d+) minutes$", re.MULTILINE)
LESSON = re.compile(r"^from mlops_course\.course\.checks import (\w+) as checks$", re.MULTILINE)
MISTAKE = re.compile(r'^```python wrong=(\w+) hint="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
RIGHT = re.compile(r"^```python right=(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Mistake:
    """A documented wrong answer: the code for the gap, and the words that its rejection must contain."""

    hint: str
    code: str


@dataclass(frozen=True)
class Gap:
    """One exercise: everything needed to put an answer in the gap and run its check.

    `setup` holds the code cells before the gap that belong to no gap, so no gap can lean on an earlier answer. `others`
    are right answers written differently.
    """

    name: str
    task: str
    solution: str
    stub: str
    check: str
    setup: tuple[str, ...]
    mistakes: tuple[Mistake, ...]
    others: tuple[str, ...]


def gaps(solution: NotebookNode) -> list[Gap]:
    """The gaps of a solution notebook, in order. Raises GapError for a gap that lacks a part, naming cell and part."""
    cells, found, setup = solution.cells, [], []
    documented = documented_answers(cells)
    for position, cell in enumerate(cells):
        is_check = position > 0 and is_gap(cells[position - 1])
        if is_gap(cell):
            with naming(position + 1):
                found.append(read_gap(cells, position, setup=tuple(setup), documented=documented))
        elif cell.cell_type == "code" and not (is_check or is_solution_only(cell)):
            setup.append(cell.source)
    strays = {name for name, _ in documented} - {gap.name for gap in found}
    if strays:
        raise GapError(f"documented answers name gaps that do not exist: {', '.join(sorted(strays))}")
    return found


def read_gap(
    cells: list[NotebookNode], start: int, *, setup: tuple[str, ...], documented: list[tuple[str, Mistake | str]]
) -> Gap:
    lesson = LESSON.search("\n".join(setup))
    source = cells[start].source
    definitions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if len(definitions) != 1:
        raise GapError(f"a gap defines one function or class; found {len(definitions)}")
    name = definitions[0].name
    if ">>>" not in (ast.get_docstring(definitions[0]) or ""):
        raise GapError(f"the docstring of {name} needs a >>> example with its value")
    task = cells[start - 1].source if start and cells[start - 1].cell_type == "markdown" else ""
    if not LEVEL.search(task):
        raise GapError(f"the Markdown cell above {name} lacks a line 'Level 2 of 3 · 10 minutes'")
    if lesson and (asks := f'checks.hint("{lesson[1]}.{name}")') not in task:
        raise GapError(f"the Markdown cell above {name} does not say how to get a hint: {asks}")
    check = cells[start + 1].source if start + 1 < len(cells) and cells[start + 1].cell_type == "code" else ""
    if f"checks.{name}({name})" not in check:
        raise GapError(f"the cell below {name} must be code that calls checks.{name}({name})")
    own = [answer for gap, answer in documented if gap == name]
    mistakes = tuple(answer for answer in own if isinstance(answer, Mistake))
    others = tuple(answer for answer in own if isinstance(answer, str))
    return Gap(name, task, source, stubbed(source), check, setup, mistakes, others)


def documented_answers(cells: list[NotebookNode]) -> list[tuple[str, Mistake | str]]:
    """Answers in Markdown by the gap that they fill: mistakes, and as plain text other right answers."""
    found: list[tuple[str, Mistake | str]] = []
    for number, cell in enumerate(cells, start=1):
        wrong, right = MISTAKE.findall(cell.source), RIGHT.findall(cell.source)
        if len(wrong) + len(right) != len(FENCE.findall(cell.source)):
            raise GapError(
                f'cell {number}: expected ```python wrong=NAME hint="WORDS" or ```python right=NAME, the code, '
                "and ``` on a line of its own"
            )
        found += [(gap, Mistake(hint, code)) for gap, hint, code in wrong]
        found += right
    return found
