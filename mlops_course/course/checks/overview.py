"""How far a learner is with the exercises, as text, and a lesson begun again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_course.course.checks.examples import page_of
from mlops_course.course.checks.exercise import gaps_of
from mlops_course.course.lessons import LESSONS, number_of
from mlops_course.course.progress import Standing, events, record, standings
from mlops_course.course.progress.journal import ASIDE, EVENTS
from mlops_course.system.workspace import Workspace

__all__ = ["facts", "next_step", "reset", "summary", "table"]

BAR = 10  # characters


def summary(lesson: str) -> None:
    """Print which gaps of a lesson are done."""
    print(table(lesson))


def facts(lesson: str | None = None) -> dict[str, Any]:
    """Progress in plain values, for other programs: each lesson with its gaps, and the gap to do next."""
    happened, unreadable = events()
    found, lessons = standings(happened), []
    for name in [lesson] if lesson else LESSONS:
        gaps = [found.get(gap, Standing(gap)) for gap in gaps_of(name)]
        told = [
            {"gap": one.gap, "name": _name(one.gap), "state": _state(one), "rejected": one.failed, "hints": one.hints}
            for one in gaps
        ]
        done = sum(one.done for one in gaps)
        lessons.append({"number": number_of(name), "lesson": name, "done": done, "of": len(gaps), "gaps": told})
    return {"lessons": lessons, "next": _next_gap(lesson), "unreadable_lines": unreadable}


def next_step(lesson: str | None = None) -> str:
    """A sentence that says which gap to do next, and how."""
    if (gap := _next_gap(lesson)) is None:
        return "All gaps are done."
    name, _, short = gap.partition(".")
    return (
        f"Next: {short}: {_name(gap)}\n"
        f"Fill it in exercises/{number_of(name)}_{name}.ipynb, then: mlops-course check {name}"
    )


def _next_gap(lesson: str | None) -> str | None:
    """The first open gap of a lesson or, without one, of the lesson tried last, then of the first that has one."""
    found = standings(events()[0])
    latest = max(found.values(), key=lambda standing: standing.at, default=Standing("")).gap.partition(".")[0]
    order = [lesson] if lesson else [name for name in (latest, *LESSONS) if name in LESSONS]
    return next((gap for name in order for gap in gaps_of(name) if not found.get(gap, Standing(gap)).done), None)


def _name(gap: str) -> str:
    """What a gap asks for: the first line of its task, or its short name where there are no notebooks."""
    return page_of(gap).partition("\n")[0] or gap.partition(".")[2].replace("_", " ") + "."


def table(lesson: str | None = None, *, named: bool = False) -> str:
    """Progress in lines of text: each gap of one lesson, or each lesson with a bar.

    If the gaps are `named`, a line below each says what it asks for.
    """
    happened, unreadable = events()
    found = standings(happened)

    def of(lesson: str) -> list[Standing]:
        return [found.get(gap, Standing(gap)) for gap in gaps_of(lesson)]

    lines = [_bar(name, of(name)) for name in LESSONS] if lesson is None else []
    for gap in of(lesson) if lesson else []:
        lines += [_line(gap), *[f"    {_name(gap.gap)}"] * named]
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


def _state(standing: Standing) -> str:
    return "done" if standing.done else "open" if not (standing.failed or standing.hints) else "begun"


def _line(standing: Standing) -> str:
    tried = [f"{standing.failed} rejected"] * bool(standing.failed) + [f"{standing.hints} hints"] * bool(standing.hints)
    return f"{standing.gap:44} {_state(standing):6} {', '.join(tried)}".rstrip()


def _bar(lesson: str, found: list[Standing]) -> str:
    done = sum(standing.done for standing in found)
    full = round(BAR * done / len(found))
    return f"{number_of(lesson)} {lesson:24}{'█' * full}{'░' * (BAR - full)}  {done} of {len(found)}"
