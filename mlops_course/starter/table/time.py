"""When a prediction is asked for, and how time cuts the rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mlops_course.development import features
from mlops_course.development.training import FOLDS
from mlops_course.starter import columns, reading

from .finding import Finding
from .names import _own_name, _sourced

ENOUGH_BATCHES = 6  # the last is not trained on, and the rest has to show how time goes on
MADE_UP_START, MADE_UP_DAYS = "2001-01-01", 1_000  # the clock of a table without time


def _judge_time(
    rows: pd.DataFrame, time: str | None, plan: dict[str, Any], found: list[Finding], time_format: str | None
) -> pd.Series:
    """When each row asks; puts the column, or the made-up clock, into the plan."""
    if time is None:
        every = max(1, MADE_UP_DAYS * 86_400 // len(rows))
        plan |= {"time": "made_up_time", "clock": {"start": MADE_UP_START, "every_seconds": every}}
        found.append(
            Finding(
                "(rows)",
                "no time",
                "the order of rows stands for time, on a made-up clock",
                "the last rows of the file are judged on, which is true to life only if the file is in order of time; "
                "batches, drift and the age of a model mean positions in the file",
            )
        )
        passed = pd.to_timedelta(np.arange(len(rows)) * every, unit="s")
        return pd.Series(pd.Timestamp(MADE_UP_START, tz="UTC") + passed).dt.as_unit("us")
    how, note = columns.time_form(rows[time], time_format)
    if how is None:
        text = reading.as_text(rows[time])
        if note == columns.TWO_WAYS:
            raise ValueError(
                f"expected times in {time!r} that can be read one way only, got {columns.shown(text)}: is the day "
                "first or the month? Say it: --time-format %d/%m/%Y or --time-format %m/%d/%Y"
            )
        raise ValueError(
            f"expected times in {time!r}, got {columns.shown(text.dropna())}; write them as 2026-11-23 14:05, say how "
            "they are written (--time-format %d.%m.%Y), name another column, or go by the order of rows: --no-time"
        )
    name = plan["time"] = _own_name(time, rows.columns)
    plan["columns"][name] = _sourced({**how, "kind": "time"}, time, name)
    asked = reading.convert(rows, {"columns": {name: plan["columns"][name]}})[name]
    unread = rows[time][asked.isna()]
    if asked.nunique() < 5 * FOLDS:
        raise ValueError(
            f"expected {5 * FOLDS} different times in {time!r} or more, got {asked.nunique()}; name a finer time, or "
            "go by the order of rows: --no-time"
        )
    backwards = float((asked.diff() < pd.Timedelta(0)).mean())
    why = [note]
    if backwards:
        why.append(f"{columns.percent(backwards)} of rows are earlier than the row before; sorted when split")
    if len(unread):
        why.append(
            f"{len(unread):,} rows have no time that can be read ({columns.shown(unread)}): set aside by validation"
        )
    span = f"{asked.min():%Y-%m-%d} to {asked.max():%Y-%m-%d}"
    found.append(
        Finding(time, f"{span}, {asked.nunique():,} times", "when a row is predicted", "; ".join(filter(None, why)))
    )
    if len(unread) > (1 - columns.READABLE) * len(rows):
        raise ValueError(
            f"expected a time in {columns.percent(columns.READABLE)} of the rows or more, got none in "
            f"{len(unread):,} of {len(rows):,} in {time!r}, such as {columns.shown(unread)}; mend or drop these rows"
        )
    return asked


def _moment_of_asking(time: str, plan: dict[str, Any], others: Sequence[str]) -> str:
    """The name of the input that says when the row asks, on the clock of UTC."""
    name = f"{plan['time']}_utc"
    while name in others:
        name += "_"
    plan["columns"][name] = {**plan["columns"][plan["time"]], "kind": "moment", "source": time}
    plan["asked"] = name
    return name


def _grain(asked: pd.Series) -> str:
    """The coarsest of year to hour of which there are enough batches."""
    for grain in reading.GRAINS:
        if reading.batch_names(asked, grain).nunique() >= ENOUGH_BATCHES:
            return grain
    return grain


def _refuse_split(asked: pd.Series, label: pd.Series, batch: pd.Series, *, by_rows: bool) -> None:
    """Try the split of a training, without the last batch, and raise if a part would lack one of the answers."""
    frame = pd.DataFrame({"time": asked, "label": label})[(batch < batch.max()) & asked.notna() & label.notna()]
    frame = frame.sort_values("time", kind="stable")
    split = features.split_in_three(frame, prediction_time="time", label_time="time")
    parts = {"the latest, to judge on": split["test"], "those before, to calibrate on": split["calibrate"]}
    train = split["train"]
    times = train["time"].drop_duplicates().to_numpy()
    if len(times) <= FOLDS:
        raise ValueError(f"expected more than {FOLDS} different times to train on, got {len(times)}; name a finer time")
    edges = [*(times[np.arange(1, FOLDS + 1) * len(times) // (FOLDS + 1)]), None]
    parts["the earliest, to train on"] = train[train["time"] < edges[0]]
    for number, (low, high) in enumerate(pairwise(edges), 1):
        within = train["time"].to_numpy() >= low
        within &= True if high is None else train["time"].to_numpy() < high
        parts[f"period {number} of cross-validation"] = train[within]
    lacking = [name for name, part in parts.items() if part["label"].nunique() < 2]
    if lacking:
        advice = (
            "if their order means nothing, shuffle the rows of the file; else collect more"
            if by_rows
            else "name a time by which both answers occur all along, or collect more rows of the rarer answer"
        )
        raise ValueError(f"expected both answers in each part of the rows, not so in {', '.join(lacking)}; {advice}")
