"""Make and check the notebooks. CONTRIBUTING says what the rules are for.

    python tools/notebooks.py render [PATH ...]   run lessons in a clean kernel and store what they print
    python tools/notebooks.py derive [PATH ...]   write exercises/NN_x.ipynb from solutions/NN_x.ipynb
    python tools/notebooks.py check               list what breaks a rule; writes nothing

Without a path, every lesson or every solution. A lesson runs in an empty folder with an empty workspace and is written
only if no cell failed or warned.
"""

import argparse
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from gaps import gaps
from mlops_course.course.checks.derivation import GapError, derived, stored

ROOT = Path(__file__).parents[1]
CELL_SECONDS = 300  # a lesson has 30 s; this only ends a cell that hangs
LINES = 20  # of code in a cell
CELLS = range(20, 36)
WORDS, MINUTES = 1_800, 60  # of a lesson, without code, references, folded answers and the checklist
HEADINGS = ("Takeaways", "State of the system", "Knowledge check", "References")
QUESTIONS = 4
MISTAKES = 3
OTHERS = 2  # right answers written differently
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
NOT_READ = re.compile(
    r"^```.*?^```$|^- \[[ x]\] .*?$|<details>.*?</details>|^## References.*", re.DOTALL | re.MULTILINE
)
TIME = re.compile(r"Time: (\d+) minutes")
NOT_IN_CODE = {
    "a magic or a shell command": re.compile(r"^\s*[%!]", re.MULTILINE),
    "input()": re.compile(r"(?<![\w.])input\("),
    "a path out of the folder": re.compile(r"\.\./"),
}


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def store(notebook: NotebookNode, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(stored(notebook), encoding="utf-8", newline="\n")


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of a clean kernel, an empty folder and an empty workspace.

    Raises CellExecutionError if a cell fails, and ValueError if one warns or prints a path of this machine.
    """
    notebook = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        here = Path(folder) / "empty"
        here.mkdir()
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(here)}},
            coalesce_streams=True,
            record_timing=False,
            store_widget_state=False,
        )
        client.execute(
            env={**os.environ, "MLOPS_HOME": str(Path(folder) / "workspace"), "JUPYTER_PREFER_ENV_PATH": "1"}
        )
        found = [*output_faults(notebook), *path_faults(notebook, [folder, str(Path.home()), str(ROOT)])]
    if found:
        raise ValueError("; ".join(found))
    return notebook


def code_cells(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    return ((number, cell) for number, cell in enumerate(notebook.cells, start=1) if cell.cell_type == "code")


def output_faults(notebook: NotebookNode) -> list[str]:
    """What is wrong with the stored outputs: cells not run from a clean kernel, errors, and warnings."""
    faults = []
    for count, (number, cell) in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != count:
            faults.append(f"cell {number}: not run in order from a clean kernel")
        if any(output.output_type == "error" for output in cell.outputs):
            faults.append(f"cell {number}: stores an error")
        if any(output.get("name") == "stderr" for output in cell.outputs):
            faults.append(f"cell {number}: stores a warning")
    return faults


def path_faults(notebook: NotebookNode, paths: list[str]) -> list[str]:
    return [
        f"cell {number}: prints the path {path}"
        for (number, cell), path in itertools.product(code_cells(notebook), paths)
        if path in str(cell.outputs)
    ]


def code_faults(notebook: NotebookNode) -> list[str]:
    """Code cells over the limit, and code that would not run everywhere."""
    faults = []
    for number, cell in code_cells(notebook):
        if (lines := len(cell.source.splitlines())) > LINES:
            faults.append(f"cell {number}: {lines} lines of code; at most {LINES}")
        faults += [f"cell {number}: {what}" for what, pattern in NOT_IN_CODE.items() if pattern.search(cell.source)]
    return faults


def lesson_faults(notebook: NotebookNode) -> list[str]:
    """What keeps a notebook from being a lesson: its skeleton, its code cells and its stored outputs."""
    faults = code_faults(notebook) + output_faults(notebook)
    if len(notebook.cells) not in CELLS:
        faults.append(f"{len(notebook.cells)} cells; a lesson has {CELLS.start} to {CELLS.stop - 1}")
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    read = NOT_READ.sub(" ", "\n\n".join(prose)).split()
    if (words := sum(any(map(str.isalnum, word)) for word in read)) > WORDS:
        faults.append(f"{words} words; a lesson has at most {WORDS}")
    if (minutes := TIME.search(" ".join("".join(prose[:1]).split()))) and int(minutes[1]) > MINUTES:
        faults.append(f"{minutes[1]} minutes; a lesson takes at most {MINUTES}")
    headings = re.findall(r"^(#+) (.+)$", FENCED.sub("", "\n\n".join(prose)), re.MULTILINE)
    if [level for level, _ in headings].count("#") != 1 or headings[0][0] != "#":
        faults.append("expected one '# title', as the first heading")
    faults += [f"heading too deep: {title}" for level, title in headings if len(level) > 3]
    faults += [f"no '## {heading}'" for heading in HEADINGS if ("##", heading) not in headings]
    if not any("```mermaid" in source for source in prose[:2]):
        faults.append("no Mermaid map of the lifecycle in the first two Markdown cells")
    questions = next((source for source in prose if "## Knowledge check" in source), "")
    if questions.count("<details>") < QUESTIONS:
        faults.append(f"the knowledge check folds away fewer than {QUESTIONS} answers")
    return faults


def solution_faults(notebook: NotebookNode) -> list[str]:
    """What keeps a notebook from being a solution: its gaps, its code cells, outputs that it should not store."""
    faults = code_faults(notebook)
    faults += [f"cell {number}: stores outputs" for number, cell in code_cells(notebook) if cell.outputs]
    try:
        found = gaps(notebook)
    except GapError as error:
        return [*faults, str(error)]
    if not 3 <= len(found) <= 5:
        faults.append(f"{len(found)} gaps; expected 3 to 5")
    for gap in found:
        if len(gap.mistakes) < MISTAKES:
            faults.append(f"{gap.name} has {len(gap.mistakes)} common mistakes; at least {MISTAKES}")
        if len(gap.others) < OTHERS:
            faults.append(f"{gap.name} has {len(gap.others)} other right answers; at least {OTHERS}")
    last = [cell.source for _, cell in code_cells(notebook)][-1:]
    if not any(source.startswith("checks.summary(") for source in last):
        faults.append("the last code cell shows what is done: checks.summary(...)")
    return faults


def derivation_faults(root: Path) -> list[str]:
    """Exercises that are not what their solutions derive to today: missing, stale, edited by hand, or orphaned."""
    solutions = {path.name: path for path in (root / "solutions").glob("*.ipynb")}
    exercises = {path.name: path for path in (root / "exercises").glob("*.ipynb")}
    faults = [f"exercises/{name}: has no solution" for name in sorted(exercises.keys() - solutions.keys())]
    for name, path in sorted(solutions.items()):
        try:
            expected = stored(derived(read(path)))
        except GapError as error:
            faults.append(f"solutions/{name}: {error}")
            continue
        if name not in exercises:
            faults.append(f"exercises/{name}: missing; run make exercises")
        elif exercises[name].read_text(encoding="utf-8") != expected:
            faults.append(f"exercises/{name}: differs from what its solution derives to; run make exercises")
    return faults


def render(paths: list[Path]) -> None:
    for path in paths:
        start = time.perf_counter()
        try:
            store(executed(read(path)), path)
        except (CellExecutionError, ValueError) as error:
            sys.exit(f"{path}: not written. {error}")
        print(f"{path.name:32} {time.perf_counter() - start:5.1f} s")


def derive(paths: list[Path]) -> None:
    for path in paths:
        try:
            store(derived(read(path)), ROOT / "exercises" / path.name)
        except GapError as error:
            sys.exit(f"{path}: {error}")
        print(f"exercises/{path.name}")


def check() -> None:
    faults = derivation_faults(ROOT)
    for folder, faults_of in {"notebooks": lesson_faults, "solutions": solution_faults}.items():
        faults += [f"{folder}/{path.name}: {fault}" for path in shelf(folder) for fault in faults_of(read(path))]
    sys.exit("\n".join(faults) or 0)


def shelf(name: str) -> list[Path]:
    return sorted((ROOT / name).glob("*.ipynb"))


def main() -> None:
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel of this environment, not one installed for the user
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["render", "derive", "check"])
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    if arguments.command == "render":
        render(arguments.paths or shelf("notebooks"))
    elif arguments.command == "derive":
        derive(arguments.paths or shelf("solutions"))
    else:
        check()


if __name__ == "__main__":
    main()
