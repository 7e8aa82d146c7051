"""How far a learner is with the exercises, as text, and a lesson begun again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from mlops_course.course.checks.exercise import gaps_of
from mlops_course.course.lessons import LESSONS, number_of
from mlops_course.course.progress import Standing, events, record, standings
from mlops_course.course.progress.journal import ASIDE, EVENTS
from mlops_course.system.workspace import Workspace

__all__ = ["reset", "summary", "table"]

BAR = 10  # characters


def summary(lesson: str) -> None:
    """Print which gaps of a lesson are done."""
    print(table(lesson))


def table(lesson: str | None = None) -> str:
    """Progress in lines of text: each gap of one lesson, or each lesson with a bar."""
    happened, unreadable = events()
    found = standings(happened)

    def of(lesson: str) -> list[Standing]:
        return [found.get(gap, Standing(gap)) for gap in gaps_of(lesson)]

    lines = [_bar(name, of(name)) for name in LESSONS] if lesson is None else [_line(gap) for gap in of(lesson)]
    if unreadable:
        lines.append(f"({unreadable} lines of {EVENTS} could not be read and were left out)")
    return "\n".join(lines)


def reset(lesson: str, *, exercises: Path, solutions: Path) -> Path | None:
    """Begin the exercises of a lesson again: copy the learner's notebook aside, then derive it from its solution.

    Returns the copy, or None if there was no notebook. Nothing is changed before the copy is there.
    """
    import nbformat

    from mlops_course.course.checks.derivation import derived, stored

    gaps_of(lesson)
    name = f"{number_of(lesson)}_{lesson}.ipynb"
    notebook, copy = exercises / name, None
    solution = nbformat.read(solutions / name, as_version=4)
    if notebook.exists():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        copy = Workspace.locate().root / ASIDE / f"{notebook.stem}-{stamp}.ipynb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(notebook, copy)
    fresh = exercises / f".{name}.new"
    fresh.write_text(stored(derived(solution)), encoding="utf-8", newline="\n")
    fresh.replace(notebook)
    record(lesson, "reset")
    return copy


def _line(standing: Standing) -> str:
    mark = "done" if standing.done else "open" if not (standing.failed or standing.hints) else "begun"
    tried = [f"{standing.failed} rejected"] * bool(standing.failed) + [f"{standing.hints} hints"] * bool(standing.hints)
    return f"{standing.gap:44} {mark:6} {', '.join(tried)}".rstrip()


def _bar(lesson: str, found: list[Standing]) -> str:
    done = sum(standing.done for standing in found)
    full = round(BAR * done / len(found))
    return f"{number_of(lesson)} {lesson:24}{'█' * full}{'░' * (BAR - full)}  {done} of {len(found)}"
