"""Read the gaps of a solution notebook, and derive the exercise notebook from it. Writes nothing.

A gap is three cells in a row: a Markdown cell with the task, a code cell with one function whose answer stands between
`# BEGIN SOLUTION` and `# END SOLUTION`, and a code cell that checks it. Markdown cells tagged `solution-only` follow,
with the explanation, other right answers and the common mistakes. CONTRIBUTING shows one in full.
"""

import ast
import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

__all__ = ["Gap", "GapError", "Mistake", "derived", "gaps", "stored"]

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
SOLUTION_ONLY = "solution-only"
STUB = "raise checks.YourTurn"

LEVEL = re.compile(r"^Level ([123]) of 3 · (\d+) minutes$", re.MULTILINE)
LESSON = re.compile(r"^from mlops_course\.course\.checks import (\w+) as checks$", re.MULTILINE)
MISTAKE = re.compile(r'^```python wrong=(\w+) hint="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
RIGHT = re.compile(r"^```python right=(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```.*\b(?:wrong|right)=", re.MULTILINE)


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


class GapError(ValueError):
    """A solution notebook that cannot be read as gaps; the message names the cell, counted from 1."""


def stored(notebook: NotebookNode) -> str:
    """A notebook as text in a file: no metadata but kernel, language and tags, and one newline at the end."""
    notebook = nbformat.from_dict({**notebook, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def stubbed(source: str) -> str:
    """The source with its answer replaced by the stub, at the indent of the markers. Raises GapError."""
    lines = source.splitlines()
    markers = [(number, line) for number, line in enumerate(lines) if line.strip() in (BEGIN, END)]
    if [line.strip() for _, line in markers] != [BEGIN, END]:
        found = ", ".join(line.strip() for _, line in markers)
        raise GapError(f"expected one {BEGIN} and then one {END}; found {found}")
    (first, begin), (last, end) = markers
    indent = begin.removesuffix(BEGIN)
    if end != indent + END:
        raise GapError(f"expected {END} at the indent of {BEGIN}; found {end!r}")
    if last == first + 1:
        raise GapError(f"expected the answer between {BEGIN} and {END}; found nothing")
    return "\n".join([*lines[:first], indent + STUB, *lines[last + 1 :]])


def derived(solution: NotebookNode) -> NotebookNode:
    """The exercise notebook: stubs for answers, no `solution-only` cells, no outputs; cell ids stay as they are."""
    exercise = copy.deepcopy(solution)
    for number, cell in enumerate(exercise.cells, start=1):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if is_gap(cell):
            with naming(number):
                cell.source = stubbed(cell.source)
        elif FENCE.search(cell.source) and not is_solution_only(cell):
            raise GapError(f"cell {number}: a cell with answers needs the tag {SOLUTION_ONLY!r}")
    exercise.cells = [cell for cell in exercise.cells if not is_solution_only(cell)]
    return exercise


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


def is_gap(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and any(line.strip() in (BEGIN, END) for line in cell.source.splitlines())


def is_solution_only(cell: NotebookNode) -> bool:
    return SOLUTION_ONLY in cell.metadata.get("tags", [])


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Put the cell's number before the message of a GapError raised inside."""
    try:
        yield
    except GapError as error:
        raise GapError(f"cell {number}: {error}") from None
