"""Read the gaps of a solution notebook, and derive the exercise notebook from it. Writes nothing.

A gap is three cells in a row: a Markdown cell with the task, a code cell with one function whose answer stands between
`# BEGIN SOLUTION` and `# END SOLUTION`, and a code cell that checks it. Markdown cells tagged `solution-only` follow,
with the explanation and the common mistakes. CONTRIBUTING shows one in full.
"""

import ast
import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nbformat import NotebookNode

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
SOLUTION_ONLY = "solution-only"
STUB = "raise checks.YourTurn"

LEVEL = re.compile(r"^Level ([123]) of 3 · (\d+) minutes$", re.MULTILINE)
FOLDED = re.compile(r"<details>\s*<summary>Hint")
MISTAKE = re.compile(r'^```python wrong=(\w+) hint="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
MISTAKE_FENCE = re.compile(r"^```.*\bwrong=", re.MULTILINE)


@dataclass(frozen=True)
class Mistake:
    """A documented wrong answer: the code for the gap, and the words that its rejection must contain."""

    hint: str
    code: str


@dataclass(frozen=True)
class Gap:
    """One exercise: everything needed to put an answer in the gap and run its check.

    `setup` holds the code cells before the gap that belong to no gap, so no gap can lean on an earlier answer.
    """

    name: str
    task: str
    solution: str
    stub: str
    check: str
    setup: tuple[str, ...]
    mistakes: tuple[Mistake, ...]


class GapError(ValueError):
    """A solution notebook that cannot be read as gaps; the message names the cell, counted from 1."""


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
        elif MISTAKE_FENCE.search(cell.source) and not is_solution_only(cell):
            raise GapError(f"cell {number}: a cell with common mistakes needs the tag {SOLUTION_ONLY!r}")
    exercise.cells = [cell for cell in exercise.cells if not is_solution_only(cell)]
    return exercise


def gaps(solution: NotebookNode) -> list[Gap]:
    """The gaps of a solution notebook, in order. Raises GapError for a gap that lacks a part, naming cell and part."""
    cells = solution.cells
    starts = [position for position, cell in enumerate(cells) if is_gap(cell)]
    checks = {start + 1 for start in starts}
    setup = {
        position: cell.source
        for position, cell in enumerate(cells)
        if cell.cell_type == "code" and position not in {*starts, *checks} and not is_solution_only(cell)
    }
    mistakes = common_mistakes(cells)
    found = []
    for start in starts:
        with naming(start + 1):
            before = tuple(source for position, source in setup.items() if position < start)
            found.append(read_gap(cells, start, setup=before, mistakes=mistakes))
    strays = {name for name, _ in mistakes} - {gap.name for gap in found}
    if strays:
        raise GapError(f"common mistakes name gaps that do not exist: {', '.join(sorted(strays))}")
    return found


def read_gap(
    cells: list[NotebookNode], start: int, *, setup: tuple[str, ...], mistakes: list[tuple[str, Mistake]]
) -> Gap:
    source = cells[start].source
    name = name_of_answer(source)
    task = cells[start - 1].source if start and cells[start - 1].cell_type == "markdown" else ""
    for part, pattern in {"a line 'Level 2 of 3 · 10 minutes'": LEVEL, "a folded hint": FOLDED}.items():
        if not pattern.search(task):
            raise GapError(f"the Markdown cell above {name} lacks {part}")
    check = cells[start + 1].source if start + 1 < len(cells) and cells[start + 1].cell_type == "code" else ""
    if f"checks.{name}({name})" not in check:
        raise GapError(f"the cell below {name} must be code that calls checks.{name}({name})")
    own = tuple(mistake for gap, mistake in mistakes if gap == name)
    return Gap(name, task, source, stubbed(source), check, setup, own)


def name_of_answer(source: str) -> str:
    definitions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if len(definitions) != 1:
        raise GapError(f"a gap defines one function or class; found {len(definitions)}")
    if ">>>" not in (ast.get_docstring(definitions[0]) or ""):
        raise GapError(f"the docstring of {definitions[0].name} needs a >>> example with its value")
    return definitions[0].name


def common_mistakes(cells: list[NotebookNode]) -> list[tuple[str, Mistake]]:
    found = []
    for number, cell in enumerate(cells, start=1):
        blocks = MISTAKE.findall(cell.source)
        if len(blocks) != len(MISTAKE_FENCE.findall(cell.source)):
            raise GapError(
                f'cell {number}: expected ```python wrong=NAME hint="WORDS", the code, and ``` on a line of its own'
            )
        found += [(gap, Mistake(hint, code)) for gap, hint, code in blocks]
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
