"""When a prediction is asked for, and how time cuts the rows."""

import pandas as pd

from mlops_course.development.features import split_in_three
from mlops_course.development.training import FOLDS, TimeFolds
from mlops_course.starter import columns, reading

from .draft import Draft

ENOUGH_BATCHES = 6  # the last is not trained on, and the rest has to show how time goes on
MADE_UP_START, MADE_UP_DAYS = "2001-01-01", 1_000  # the clock of a table without time


def _judge_time(draft: Draft) -> pd.Series:
    """Decide when each row asks, by a column or by a made-up clock, and return that time."""
    rows, time = draft.rows, draft.choices.time
    if time is None:
        clock = {"start": MADE_UP_START, "every_seconds": max(1, MADE_UP_DAYS * 86_400 // len(rows))}
        draft.plan |= {"time": "made_up_time", "clock": clock}
        draft.say(
            "(rows)",
            "no time",
            "the order of rows stands for time, on a made-up clock",
            "the last rows of the file are judged on, which is true to life only if the file is in order of time; "
            "batches, drift and the age of a model mean positions in the file",
        )
        return pd.Series(reading.made_up_times(len(rows), clock))
    how, note = columns.time_form(rows[time], draft.choices.time_format)
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
    name = draft.plan["time"] = draft.read_as({**how, "kind": "time"}, time)
    asked = reading.convert(rows, {"columns": {name: draft.plan["columns"][name]}})[name]
    unread = rows[time][asked.isna()]
    if asked.nunique() < 5 * FOLDS:
        raise ValueError(
            f"expected {5 * FOLDS} different times in {time!r} or more, got {asked.nunique()}; name a finer time, or "
            "go by the order of rows: --no-time"
        )
    if len(unread) > (1 - columns.READABLE) * len(rows):
        raise ValueError(
            f"expected a time in {columns.percent(columns.READABLE)} of the rows or more, got none in "
            f"{len(unread):,} of {len(rows):,} in {time!r}, such as {columns.shown(unread)}; mend or drop these rows"
        )
    why = [note] if note else []
    if backwards := float((asked.diff() < pd.Timedelta(0)).mean()):
        why.append(f"{columns.percent(backwards)} of rows are earlier than the row before; sorted when split")
    if len(unread):
        shown = columns.shown(unread)
        why.append(f"{len(unread):,} rows have no time that can be read ({shown}): set aside by validation")
    span = f"{asked.min():%Y-%m-%d} to {asked.max():%Y-%m-%d}"
    draft.say(time, f"{span}, {asked.nunique():,} times", "when a row is predicted", "; ".join(why))
    return asked


def _moment_of_asking(draft: Draft) -> str:
    """Make the time of the prediction an input, on the clock of UTC, and return its name."""
    name = f"{draft.plan['time']}_utc"
    while name in draft.rows.columns:
        name += "_"
    how = draft.plan["columns"][draft.plan["time"]]
    draft.plan["columns"][name] = {**how, "kind": "moment", "source": draft.choices.time}
    draft.plan["asked"] = name
    return name


def _grain(asked: pd.Series) -> str:
    """The coarsest of year to hour that gives enough batches; the finest if none does."""
    enough = (name for name in reading.GRAINS if reading.batch_names(asked, name).nunique() >= ENOUGH_BATCHES)
    return next(enough, [*reading.GRAINS][-1])


def _refuse_split(asked: pd.Series, label: pd.Series, batch: pd.Series, *, by_rows: bool) -> None:
    """Try the split of a training, without the last batch, and raise if a part would lack one of the answers."""
    frame = pd.DataFrame({"time": asked, "label": label})[(batch < batch.max()) & asked.notna() & label.notna()]
    split = split_in_three(frame, prediction_time="time", label_time="time")
    times = split["train"]["time"]
    if (found := times.nunique()) <= FOLDS:
        raise ValueError(f"expected more than {FOLDS} different times to train on, got {found}; name a finer time")
    folds = [*TimeFolds(FOLDS, prediction_time=times, label_time=times).split()]
    parts = {
        "the latest, to judge on": split["test"],
        "those before, to calibrate on": split["calibrate"],
        "the earliest, to train on": split["train"].iloc[folds[0][0]],
        **{f"period {n} of cross-validation": split["train"].iloc[judged] for n, (_, judged) in enumerate(folds, 1)},
    }
    if lacking := [name for name, part in parts.items() if part["label"].nunique() < 2]:
        advice = (
            "if their order means nothing, shuffle the rows of the file; else collect more"
            if by_rows
            else "name a time by which both answers occur all along, or collect more rows of the rarer answer"
        )
        raise ValueError(f"expected both answers in each part of the rows, not so in {', '.join(lacking)}; {advice}")
