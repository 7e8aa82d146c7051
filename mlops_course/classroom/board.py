"""Who has passed what, and where people are stuck: from the tags that learners' machines send.

    standings    a row for each learner and gap, from the runs "progress" of the store
    by_learner   learners by lessons: how many gaps are done
    stuck        gaps by how many are stuck in them, with what the check says most
    grades       the share of gaps that are done, for the export
    page         all of it as one page of HTML for the teacher's screen, which asks for itself again
    as_csv       a table for a spreadsheet, in which no text is taken for a formula

No answer of anybody is in it: what is sent of a gap is whether it is done, how often it was rejected, and what the
check said last. Texts come from learners' machines, so nothing in them is trusted.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

from mlops_course.checks.progress import EXPERIMENT, gaps_of, lessons

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["as_csv", "by_learner", "grades", "page", "standings", "stuck"]

COLUMNS = {"learner": str, "gap": str, "done": bool, "failed": int, "hints": int, "message": str, "at": str}
PAGE_SIZE = 1_000  # experiments or runs that are asked for at once
QUIET_MINUTES = 20  # without a check, while the board calls somebody quiet
MESSAGES = 2  # shown for a gap
REFRESH_SECONDS = 10
TEMPLATE = "board.html.j2"  # beside this file


def standings(client: "MlflowClient") -> pd.DataFrame:
    """A row for each learner and gap that was tried, as sent last; tags that are no standing are left out."""
    found = {one.experiment_id: one.name.removeprefix(EXPERIMENT) for one in _experiments(client)}
    rows = []
    for run in _runs(client, list(found)):
        learner = found[run.info.experiment_id]
        rows += [_standing(learner, gap, text) for gap, text in run.data.tags.items() if not gap.startswith("mlflow.")]
    table = pd.DataFrame([row for row in rows if row], columns=list(COLUMNS)).astype(COLUMNS)
    latest = table.sort_values("at", kind="stable").drop_duplicates(["learner", "gap"], keep="last")
    return latest.sort_values(["learner", "gap"], ignore_index=True)


def by_learner(table: pd.DataFrame) -> pd.DataFrame:
    """How many gaps of each lesson each learner has done, learners by name, lessons from first to last."""
    done = table[table["done"]]
    counted = pd.crosstab(done["learner"], done["gap"].str[:2])
    return counted.reindex(index=sorted(set(table["learner"])), columns=lessons(), fill_value=0).rename_axis("learner")


def stuck(table: pd.DataFrame) -> pd.DataFrame:
    """Gaps in which somebody is stuck, most learners first: rejected at least once and not done yet.

    `learners` is how many these are, `rejections` how often the check said no to anybody, `messages` what it says most.
    """
    still = table[~table["done"] & (table["failed"] > 0)]
    rows = [
        (gap, len(rows), table.loc[table["gap"] == gap, "failed"].sum(), list(rows["message"].value_counts().index))
        for gap, rows in still.groupby("gap")
    ]
    named = pd.DataFrame(rows, columns=["gap", "learners", "rejections", "messages"])
    return named.sort_values(["learners", "rejections"], ascending=False, kind="stable", ignore_index=True)


def grades(table: pd.DataFrame) -> pd.DataFrame:
    """The share of gaps that each learner has done, in each lesson and in all."""
    size = pd.Series({lesson: len(gaps_of(lesson)) for lesson in lessons()})
    done = by_learner(table).clip(upper=size, axis=1)
    return done.div(size).assign(all=done.sum(axis=1) / size.sum()).round(3)


def as_csv(table: pd.DataFrame) -> str:
    """The table with its index as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    plain = table.reset_index()
    texts = plain.select_dtypes(["object", "string"]).columns
    plain[texts] = plain[texts].map(lambda text: f"'{text}" if str(text)[:1] in ("=", "+", "-", "@", "\t") else text)
    return plain.to_csv(index=False)


def page(table: pd.DataFrame, *, joined: int, names: bool = True, now: datetime | None = None) -> str:
    """The board as HTML. Without `names` learners are numbered, for a wall that everybody sees.

    `joined` is how many are in the room, also those who have sent nothing yet.
    """
    now = now or datetime.now(UTC)
    done, size = by_learner(table), {lesson: len(gaps_of(lesson)) for lesson in lessons()}
    last = pd.to_datetime(table["at"], utc=True, errors="coerce").groupby(table["learner"]).max()
    shown = [lesson for lesson in done if table["gap"].str[:2].eq(lesson).any()]
    people = [
        {
            "name": name if names else f"learner {number}",
            "done": int(row.sum()),
            "bars": [(int(row[lesson]), size[lesson]) for lesson in shown],
            "quiet": _minutes(now, last.get(name)),
        }
        for number, (name, row) in enumerate(done.iterrows(), start=1)
    ]
    points = [
        {**row, "messages": row["messages"][:MESSAGES]} for row in stuck(table).head(10).to_dict(orient="records")
    ]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(TEMPLATE).render(
        people=people,
        points=points,
        lessons=shown,
        joined=joined,
        now=now,
        names=names,
        quiet_minutes=QUIET_MINUTES,
        refresh=REFRESH_SECONDS,
    )


def _experiments(client: "MlflowClient") -> list[Any]:
    query = {"filter_string": f"name LIKE '{EXPERIMENT}%'", "max_results": PAGE_SIZE}
    return _all(lambda token: client.search_experiments(**query, page_token=token))


def _runs(client: "MlflowClient", experiments: list[str]) -> list[Any]:
    if not experiments:
        return []
    return _all(lambda token: client.search_runs(experiments, max_results=PAGE_SIZE, page_token=token))


def _all(ask: Any) -> list[Any]:
    found, token = [], None
    while True:
        part = ask(token)
        found += part
        if not (token := part.token):
            return found


def _standing(learner: str, gap: str, text: str) -> tuple | None:
    """The row that a tag stands for, or None if it is no standing of a gap that there is."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    if not isinstance(told, Mapping) or gap[:2] not in lessons() or gap not in gaps_of(gap[:2]):
        return None
    counts = [told.get(name) for name in ("failed", "hints")]
    if not all(isinstance(one, int) for one in counts):
        return None
    return learner, gap, told.get("done") is True, *counts, str(told.get("message", "")), str(told.get("at", ""))


def _minutes(now: datetime, last: Any) -> int | None:
    return None if last is None or pd.isna(last) else max(int((now - last).total_seconds() // 60), 0)
