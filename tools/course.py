"""Write notebooks/README.md, the way into the course, from the lessons and from course.yaml beside this file.

    python tools/course.py

Titles, promises, times and prerequisites come from the lessons, what an exercise asks for from the solutions; reading
paths, glossary, snippets and practices are in course.yaml. A test proves that the page is current and its names alive.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
import yaml

from gaps import LEVEL, gaps

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "notebooks" / "README.md"
COURSE = Path(__file__).with_name("course.yaml")
OPENING = re.compile(r"Afterwards you can (.+?)\. Time: (\d+) minutes\. You need (.+?)\.$")
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|## References.*|(?m:^#+ [^\n]*)|\[[ x]\].*|<details>.*?</summary>|\]\([^)]*\)", re.DOTALL
)


@dataclass(frozen=True)
class Lesson:
    """What the page says about a lesson."""

    number: str
    file: str
    title: str
    promise: str
    minutes: int
    needs: str
    exercises: tuple[int, ...]  # minutes of each gap


def lesson(path: Path) -> Lesson:
    """Read from a notebook's first cell. Raises ValueError if that lacks a part."""
    first = nbformat.read(path, as_version=4).cells[0].source
    title, _, rest = first.partition("\n\n")
    if not (opening := OPENING.search(" ".join(rest.split("```")[0].split()))):
        raise ValueError(
            f"{path.name}: expected 'Afterwards you can ... Time: 60 minutes. You need ...' in its first cell"
        )
    promise, minutes, needs = opening.groups()
    solution = ROOT / "solutions" / path.name
    found = gaps(nbformat.read(solution, as_version=4)) if solution.exists() else []
    times = tuple(int(LEVEL.search(gap.task)[2]) for gap in found)
    return Lesson(path.name[:2], path.name, title.removeprefix("# "), promise, int(minutes), needs, times)


def lessons() -> list[Lesson]:
    return [lesson(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


@cache
def course() -> dict:
    return yaml.safe_load(COURSE.read_text(encoding="utf-8"))


def state(number: str) -> str:
    """The checklist of a lesson: what is in place after it, and the lesson of what is not yet."""
    items = course()["state"].items()
    return "\n".join(f"- [x] {what}" if at <= number else f"- [ ] {what} (lesson {at})" for at, what in items)


@cache
def prose(path: Path) -> str:
    """The words of a lesson without code, headings, links, references and the checklist that all lessons share."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(NOT_PROSE.sub(" ", cell.source) for cell in cells if cell.cell_type == "markdown")


@cache
def defined_in() -> dict[str, str]:
    """The lesson that defines each term of the glossary: the first that sets it in italics. Raises ValueError."""
    found = {}
    for term in course()["glossary"]:
        italic = re.compile(rf"(?<![*\w])\*{re.escape(term)}\*(?![*\w])".replace(r"\ ", r"\s"), re.IGNORECASE)
        files = (path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if italic.search(prose(path)))
        if (first := next(files, None)) is None:
            raise ValueError(f"expected a lesson that sets {term!r} in italics where it defines it, found none")
        found[term] = first.name
    return found


def rows(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def linked(number: str, files: dict[str, str]) -> str:
    return f"[{number}]({files[number]})"


def page() -> str:
    """The whole of notebooks/README.md."""
    told, data = lessons(), course()
    files = {one.number: one.file for one in told}
    lines = [
        "# The lessons",
        "",
        "Made by `make index` from the lessons and `tools/course.yaml`; do not edit it by hand.",
        "",
        rows("#", "lesson", "afterwards you can", "minutes", "you need", "exercises"),
        "|---|---|---|---:|---|---|",
    ]
    for one in told:
        exercise = f"[{len(one.exercises)}](../exercises/{one.file}), {sum(one.exercises)} min" if one.exercises else ""
        title = f"[{one.title}]({one.file})"
        lines.append(rows(one.number, title, one.promise, one.minutes, one.needs, exercise))
    hours = round(sum(one.minutes for one in told) / 60)
    practice = round(sum(map(sum, (one.exercises for one in told))) / 60)
    lines += ["", f"All lessons take about {hours} hours to study, their exercises {practice} more.", ""]
    lines += ["## Ways through", ""]
    for way in data["paths"]:
        steps = ", ".join(linked(number, files) for number in way["lessons"])
        minutes = sum(one.minutes for one in told if one.number in way["lessons"])
        lines += [f"- **{way['name']}** ({minutes} minutes): {steps}. {way['why']}"]
    lines += ["", "## A term of twelve weeks", "", rows("week", "lessons", "exercises"), "|---:|---|---|"]
    for week, part in enumerate(data["term"], start=1):
        steps = ", ".join(linked(number, files) for number in part["lessons"])
        lines.append(rows(week, steps, part["exercises"]))
    lines += ["", "Agendas with minutes, what to say and how to grade: [TEACHING.md](TEACHING.md)."]
    lines += ["", "## I need a snippet", "", "`mlops-course snippet NAME` prints a program that runs as it stands.", ""]
    lines += [rows("task", "where", "explained in", "NAME"), "|---|---|---|---|"]
    for one in data["snippets"]:
        name = f"`{one['snippet']}`" if "snippet" in one else ""
        lines.append(rows(one["task"], f"`{one['name']}`", linked(one["lesson"], files), name))
    more = "What would have to change for a hundred million rows a day, computed from what was measured"
    lines += ["", f"{more}: [BEYOND.md](BEYOND.md)."]
    lines += ["", "## Glossary", "", rows("term", "what it means", "lesson"), "|---|---|---|"]
    where = defined_in()
    for term, meaning in sorted(data["glossary"].items(), key=lambda pair: pair[0].lower()):
        lines.append(rows(term, meaning, linked(where[term][:2], files)))
    lines += ["", "## Principles of MLOps, and where they are practised", "", data["principles"]["source"], ""]
    lines += [rows("principle", "practice", "lesson", "test"), "|---|---|---|---|"]
    for one in data["principles"]["rows"]:
        lines.append(rows(one["principle"], one["practice"], linked(one["lesson"], files), f"`{one['test']}`"))
    lines += ["", "## The ML Test Score, and where its tests are practised", "", data["ml_test_score"]["source"], ""]
    lines += [rows("section", "test", "lesson", "test of the package"), "|---|---|---|---|"]
    for one in data["ml_test_score"]["rows"]:
        lines.append(rows(one["section"], one["name"], linked(one["lesson"], files), f"`{one['test']}`"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(PAGE.relative_to(ROOT))
