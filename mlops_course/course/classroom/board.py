"""Who has passed what, and where people are stuck: from the tags that learners' machines send.

No answer of anybody is in it: what is sent of a gap is whether it is done, how often it was rejected, and what the
check said last. All of that comes from learners' machines, so nothing in it is trusted: what cannot be read is left out
and counted, texts are cut and escaped, and one learner's nonsense never keeps the board from showing the others.

>>> rows = [("ada", "data_engineering.known_by", True, 2, 0, "", ""),
...         ("bob", "data_engineering.known_by", False, 1, 0, "Look again. 3 came.", "")]
>>> table = pd.DataFrame(rows, columns=list(COLUMNS))
>>> int(by_learner(table).loc["ada", "data_engineering"]), stuck(table).loc[0, "messages"]
(1, [('Look again.', 1)])
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from mlops_course.course.checks.exercise import gaps_of
from mlops_course.course.lessons import LESSONS, number_of, renamed
from mlops_course.course.progress.client import EXPERIMENT

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["as_csv", "by_learner", "grades", "page", "standings", "stuck"]

COLUMNS = {"learner": str, "gap": str, "done": bool, "failed": int, "hints": int, "message": str, "at": str}
PAGE_SIZE = 1_000  # experiments or runs that are asked for at once
MOST = 1_000_000  # rejections or hints that are believed
TEXT = 500  # characters of a text that are kept
QUIET_MINUTES = 20  # without a check, while the board calls somebody quiet
AHEAD_MINUTES = 5  # that a learner's clock may be ahead before the board says so
POINTS = 8  # gaps in which people are stuck that are shown
MESSAGES = 2  # shown for each of them
ROWS = 20  # learners below one another, before the next block stands beside them where there is room
REFRESH_SECONDS = 10
TEMPLATE = "board.html.j2"  # beside this file
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what spreadsheets take for its beginning
SENTENCE = re.compile(r"(.+?[.!?])(?:\s|$)", re.DOTALL)


def standings(client: "MlflowClient") -> pd.DataFrame:
    """A row for each learner and gap that was tried, as sent last: learner, gap, done, failed, hints, message, at.

    `attrs` of the table hold learners, everybody who may send something, and skipped, how many tags were no standing of
    a gap. Raises MlflowException if the store does not answer.
    """
    experiments = _all(client.search_experiments, filter_string=f"name LIKE '{EXPERIMENT}%'")
    people = {one.experiment_id: _plain(one.name.removeprefix(EXPERIMENT)) for one in experiments}
    runs = _all(client.search_runs, experiment_ids=list(people)) if people else []
    gaps = {gap: place for place, gap in enumerate(gap for lesson in LESSONS for gap in gaps_of(lesson))}
    skipped, rows = 0, {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        learner = people[run.info.experiment_id]
        for tag, text in sorted(run.data.tags.items(), key=lambda one: renamed(one[0]) == one[0]):  # later ones count
            if tag.startswith("mlflow."):
                continue
            if (gap := renamed(tag)) in gaps and (told := _told(text)) is not None:
                rows[learner, gap] = told  # of several runs, results go to the one that was begun last
            else:
                skipped += 1
    found = [(*key, *told) for key, told in sorted(rows.items(), key=lambda row: (row[0][0], gaps[row[0][1]]))]
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)
    table.attrs = {"learners": sorted(set(people.values())), "skipped": skipped}
    return table


def by_learner(table: pd.DataFrame) -> pd.DataFrame:
    """How many gaps of each lesson each learner has done: learners by name, lessons from first to last."""
    done = table[table["done"]]
    counted = pd.crosstab(done["learner"], done["gap"].str.replace(r"\..*", "", regex=True))
    return counted.reindex(index=_learners(table), columns=list(LESSONS), fill_value=0).rename_axis("learner")


def stuck(table: pd.DataFrame) -> pd.DataFrame:
    """Gaps in which somebody is stuck, most learners first: rejected at least once and not done yet.

    `learners` is how many these are, `rejections` how often the check said no to anybody, `done` how many are through,
    `messages` pairs of what the check says, up to its first full stop, and to how many of those who are stuck.
    """
    rows = [
        (gap, still.sum(), tried["failed"].sum(), tried["done"].sum(), _messages(tried.loc[still, "message"]))
        for gap, tried in table.groupby("gap")
        if (still := ~tried["done"] & (tried["failed"] > 0)).any()
    ]
    named = pd.DataFrame(rows, columns=["gap", "learners", "rejections", "done", "messages"])
    return named.sort_values(["learners", "rejections"], ascending=False, kind="stable", ignore_index=True)


def grades(table: pd.DataFrame) -> pd.DataFrame:
    """The share of gaps, from 0 to 1, that each learner has done, in each lesson and in all of them together."""
    size = pd.Series({lesson: len(gaps_of(lesson)) for lesson in LESSONS})
    done = by_learner(table)
    return done.div(size).assign(all=done.sum(axis=1) / size.sum()).round(3)


def as_csv(table: pd.DataFrame) -> str:
    """The table with its named index as CSV, a row a line.

    A text is on one line, and begins with an apostrophe if a spreadsheet would take it for a formula.
    """
    plain = table.reset_index() if table.index.name else table.copy()
    texts = plain.select_dtypes(["object", "string"]).columns
    plain[texts] = plain[texts].map(_cell)
    return plain.to_csv(index=False, lineterminator="\n")


def page(table: pd.DataFrame, *, joined: int, names: bool = True, now: datetime | None = None) -> str:
    """The board as HTML that loads nothing; `joined` is how many are in the room, also those who have sent nothing.

    Without `names` it is for a wall that everybody sees: learners stand in the order of what they have done, so that no
    place in it gives a name away, nobody is called quiet, and a message is shown if two learners got it.
    """
    now, states = now or datetime.now(UTC), _states(table)
    shown = {lesson: gaps_of(lesson) for lesson in LESSONS if table["gap"].str.startswith(f"{lesson}.").any()}
    everybody = _learners(table)
    last = pd.to_datetime(table["at"], utc=True, errors="coerce", format="ISO8601").groupby(table["learner"]).max()
    people = [_person(name, states.get(name, {}), shown=shown, last=last.get(name), now=now) for name in everybody]
    if not names:
        people = [person | {"name": ""} for person in sorted(people, key=lambda person: -person["done"])]
    points = [
        row | {"messages": [pair for pair in row["messages"] if names or pair[1] > 1][:MESSAGES]}
        for row in stuck(table).to_dict(orient="records")
    ]
    return _template().render(
        people=people,
        tried=table["learner"].nunique(),
        points=points[:POINTS],
        more=points[POINTS:],
        lessons={lesson: [_through(gap, states, len(everybody)) for gap in gaps] for lesson, gaps in shown.items()},
        numbers={lesson: number_of(lesson) for lesson in shown},
        joined=max(joined, len(everybody)),
        skipped=table.attrs.get("skipped", 0),
        now=now.astimezone(),
        names=names,
        rows=ROWS,
        quiet_minutes=QUIET_MINUTES,
        refresh=REFRESH_SECONDS,
    )


# What is shown --------------------------------------------------------------------------------------------------------


def _learners(table: pd.DataFrame) -> list[str]:
    return sorted({*table["learner"], *table.attrs.get("learners", [])})


def _cell(text: object) -> str:
    line = " ".join(str(text).split())
    return f"'{line}" if line.startswith(FORMULA) else line


def _states(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """For each learner the gaps that are done, stuck or begun."""
    found: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        state = "done" if row.done else "stuck" if row.failed else "begun" if row.hints else ""
        if state:
            found.setdefault(row.learner, {})[row.gap] = state
    return found


def _person(name: str, states: Mapping[str, str], *, shown: Mapping[str, list[str]], last: Any, now: datetime) -> dict:
    """A row of the page: the state of each gap by lesson, and how long the last check is ago."""
    minutes = None if last is None or pd.isna(last) else int((now - last).total_seconds() // 60)
    return {
        "name": name,
        "tried": bool(states) or minutes is not None,
        "done": sum(state == "done" for state in states.values()),
        "lessons": [
            (lesson, [(gap.partition(".")[2], states.get(gap, "")) for gap in gaps]) for lesson, gaps in shown.items()
        ],
        "last": "" if minutes is None else _ago(minutes),
        "quiet": minutes is not None and minutes >= QUIET_MINUTES,
    }


def _ago(minutes: int) -> str:
    if minutes < -AHEAD_MINUTES:
        return "clock is ahead"
    if minutes < 2 * 60:
        return f"{max(minutes, 0)} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days ago"


def _through(gap: str, states: Mapping[str, Mapping[str, str]], people: int) -> dict:
    """How many of all have done a gap, are stuck in it, or have begun."""
    found = [by_gap.get(gap) for by_gap in states.values()]
    return {
        "name": gap.partition(".")[2],
        "people": people,
        **{state: found.count(state) for state in ("done", "stuck", "begun")},
    }


def _messages(texts: pd.Series) -> list[tuple[str, int]]:
    """What texts say in their first sentence, the law that was broken, and how many do: the rest differs in each."""
    first = [found[1] if (found := SENTENCE.match(text)) else text for text in texts if text]
    return [(text, int(count)) for text, count in pd.Series(first, dtype=object).value_counts().items()]


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["digest"] = lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
    return environment.get_template(TEMPLATE)


# What is read ---------------------------------------------------------------------------------------------------------


def _all(search: Callable[..., Any], **query: Any) -> list[Any]:
    """What a search finds, on all its pages."""
    part = search(**query, max_results=PAGE_SIZE)
    found = [*part]
    while part.token:
        part = search(**query, max_results=PAGE_SIZE, page_token=part.token)
        found += part
    return found


def _told(text: str) -> tuple[bool, int, int, str, str] | None:
    """What a tag says of a gap: done, failed, hints, message and at; None if it is no standing."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, Mapping):
        return None
    counts = [told.get("failed"), told.get("hints")]
    if not all(type(count) is int and 0 <= count <= MOST for count in counts):
        return None
    return told.get("done") is True, *counts, _plain(told.get("message", "")), _plain(told.get("at", ""))


def _plain(text: object) -> str:
    """A text without what has no shape or turns the writing round, on one line, and no longer than TEXT."""
    readable = "".join(letter if letter.isprintable() else " " for letter in str(text)[:TEXT])
    return " ".join(readable.split())
