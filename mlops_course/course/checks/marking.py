"""Run a learner's exercise notebook from top to bottom in a clean kernel, and say how each check ended.

The notebook on disk is not changed. A cell that does not end is stopped, and the cells after it still run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mark", "mark"]

CHECK = re.compile(r"checks\.(\w+)\(\1\)")
CELL_SECONDS = 600  # a right cell takes seconds; on a busy machine it may take minutes


@dataclass(frozen=True)
class Mark:
    """How the check of one gap ended: "done", "your turn" or "not yet", with what the check said."""

    name: str
    outcome: str
    said: str
    cell: int  # of the check, counted from 1 over all cells; the answer is in the cell before


def mark(path: Path) -> list[Mark]:
    """The outcome of each check cell of a notebook. Raises ValueError if there is none, or if it is no notebook."""
    import nbformat
    from nbclient import NotebookClient

    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise ValueError(f"expected a notebook in {path}, but it cannot be read: {error}") from error
    code = [(number, cell) for number, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]
    checks = [(found[1], number, cell) for number, cell in code if (found := CHECK.search(cell.source))]
    if not checks:
        raise ValueError(
            f"expected check cells such as checks.NAME(NAME) in {path.name}, found none; is it an exercise?"
        )
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        interrupt_on_timeout=True,
        allow_errors=True,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return [_mark(name, cell.outputs, number) for name, number, cell in checks]


def _mark(name: str, outputs: list, cell: int) -> Mark:
    said = " ".join("".join(output.get("text", "")) for output in outputs if output.output_type == "stream").strip()
    if f"{name}: correct." in said:
        return Mark(name, "done", said.split(f"{name}: correct.", 1)[1].strip(), cell)
    error = next((output for output in outputs if output.output_type == "error"), None)
    if error is None:
        return Mark(name, "not yet", said or "the check said nothing", cell)
    return Mark(name, "your turn" if error.ename == "YourTurn" else "not yet", error.evalue, cell)
