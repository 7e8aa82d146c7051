"""Derive an exercise notebook from its solution: each answer becomes a stub. Writes nothing.

An answer stands between `# BEGIN SOLUTION` and `# END SOLUTION`. Markdown cells tagged `solution-only` hold the
explanation, other right answers and the common mistakes. CONTRIBUTING shows an exercise in full.
"""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager

import nbformat
from nbformat import NotebookNode

__all__ = ["GapError", "derived", "stored"]

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
SOLUTION_ONLY = "solution-only"
STUB = "raise checks.YourTurn"
FENCE = re.compile(r"^```.*\b(?:wrong|right)=", re.MULTILINE)  # of a documented answer


class GapError(ValueError):
    """A solution notebook that cannot be read as gaps; the message names the cell, counted from 1."""


def stored(notebook: NotebookNode) -> str:
    """A notebook as text in a file: no metadata but kernel, language and tags, and one newline at the end."""
    notebook = nbformat.from_dict({**notebook, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
    return nbformat.writes(notebook).rstrip("\n") + "\n"


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
