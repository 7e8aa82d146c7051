"""Feature code with leaks and without: what the check of `leaking` builds, and which columns leak.

>>> words = "A delay that goes missing when the future is taken away has changed. It is missing on one side only."
>>> case, make, expected = LEAKS[words]
>>> case, expected
('a column with the delay at departure', ['delay'])
"""

import functools

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.development import features
from mlops_course.flights.timeline import instants

__all__ = ["LEAD", "LEAKS", "at", "august", "tables_of", "when_of"]

LEAD = pd.Timedelta("2h")
INSTANT = pd.Timestamp("2013-08-05T16:00Z")  # at which leaks are looked for, if no other is said


def at(text: str) -> pd.Timestamp:
    """A day and time of August 2013, UTC, such as "05 12:30"."""
    return pd.Timestamp(f"2013-08-{text}", tz="UTC")


@functools.cache
def august() -> dict[str, pd.DataFrame]:
    """Two days of August 2013 and what the tables say about them."""
    tables = flights.read(["2013-08"])
    days = tables["flights"]["time_hour"].between(at("05 04:00"), at("07 04:00"), inclusive="left")
    return {**tables, "flights": tables["flights"][days]}


@functools.cache
def _complete(*days: int) -> dict[str, pd.DataFrame]:
    """Some fifty flights a day that all landed, with their tables."""
    rows = august()["flights"].dropna(subset=["dep_delay", "arr_delay", "dep_time", "arr_time", "air_time"])
    return {**august(), "flights": rows[rows["day"].isin(days)].iloc[::20]}


def when_of(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Clocks of the flights, when each is asked, and the visibility at the hours of departure and question."""
    known, hour = instants(tables["flights"], tables["airports"]), ["origin", "time_hour"]
    weather = tables["weather"].set_index(hour)["visib"]
    asked = known["scheduled_departure"] - LEAD
    then = tables["flights"][hour].join(weather, on=hour)["visib"]
    now = tables["flights"][hour].assign(time_hour=asked.dt.floor("h")).join(weather, on=hour)["visib"]
    return known.assign(prediction_time=asked, visibility=then, visibility_now=now)


def _left(rows: pd.DataFrame, when: pd.DataFrame, *, available: str = "departed") -> dict:
    """Departures of the last three hours, an honest feature; by the schedule it knows delays of the future."""
    asked = pd.DataFrame({"asked": when["prediction_time"]})
    events, window = when.assign(delay=rows["dep_delay"]), pd.Timedelta("3h")
    found = features.recent(asked, events, at="asked", available=available, window=window, value="delay")
    return {"departures": found["count"], "mean_delay": found["mean"]}


def _with_gaps(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    far = rows["distance"].where(rows["distance"] > 1_000)
    return {"far": far, "plane": rows["tailnum"].where(rows["hour"] > 9)}


def _by_schedule(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    by_schedule = _left(rows, when, available="scheduled_departure")["mean_delay"]
    return {**_left(rows, when), "by_schedule": by_schedule, "carrier": rows["carrier"]}


MARKS = {"zero": 0.0, "minus_one": -1.0, "empty": "", "nan": "nan", "none": "None", "missing": "missing"}


def _marked(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    """Columns that hold one value where a delay is known, and nothing elsewhere."""
    return {name: pd.Series(value, index=rows.index).where(rows["dep_delay"].notna()) for name, value in MARKS.items()}


def _nothing(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    known = rows["dep_delay"].notna()
    return {"zero": (~known).astype(float), "empty": rows["carrier"].astype("str").where(~known, "")}


def _one_row(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    """The delay of one flight in the midst of those that asked before the instant and were to leave after it."""
    between = rows.index[(when["prediction_time"] <= INSTANT) & (when["scheduled_departure"] > INSTANT)]
    return {"delay": rows["dep_delay"].where(rows.index == between[len(between) // 2], 0.0).fillna(0.5)}


def _larger(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    size = rows["dep_delay"].abs().add(1).fillna(0.5)
    return {"smaller": size, "larger": -size}


def _texts(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    known, carrier = rows["dep_delay"].notna(), rows["carrier"].astype("str")
    return {name: carrier.where(known, other) for name, other in
            {"word": "?", "case": carrier.str.lower(), "blank": carrier + " "}.items()}  # fmt: skip


def _turned(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    return {"hour": rows["hour"].where(rows["dep_delay"].notna() | (when["prediction_time"] <= INSTANT))}


def _tiny(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    known, far = rows["dep_delay"].notna(), rows["distance"].astype(float)
    return {"far": far.where(known, np.nextafter(far, np.inf)), "number": 2**53 + known.astype("int64")}


def _exchanged(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    asked = rows["dep_delay"].fillna(0).where(when["prediction_time"] <= INSTANT)
    return {"place": asked.rank(method="first")}


def _old(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    """How many departures are known, in rows that were asked so many hours before the instant of the next day."""
    age, count = INSTANT + pd.Timedelta("1D") - when["prediction_time"], rows["dep_delay"].notna().sum()
    return {f"{hours}h": np.where(age > pd.Timedelta(hours=hours), count, 0) for hours in (1, 4, 25)}


def _at_the_instant(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    return {"delay": rows["dep_delay"].where(when["prediction_time"] == INSTANT)}


@functools.cache
def tables_of(name: str) -> dict[str, pd.DataFrame]:
    """Tables with some flights of the fifth of August, or of two days."""
    if name in ("some", "two days"):
        return _complete(5) if name == "some" else _complete(5, 6)
    tables = {**_complete(5), "flights": august()["flights"].query("day == 5")}
    if name == "all":
        return tables
    since = INSTANT - pd.Timedelta("90min" if name == "soon" else "0min")  # they ask then, up to the instant
    return {**tables, "flights": tables["flights"][when_of(tables)["prediction_time"].between(since, INSTANT)]}


LEAKS = {  # words: case; columns of the features; names of those that leak; tables, and the instant
    "The delay at departure changes when the future is taken away: mask later facts, and drop no flights.":
        ("a column with the delay at departure, 0.5 where there is none",
         lambda rows, when: {"delay": rows["dep_delay"].fillna(0.5)}, ["delay"], "soon"),
    "Name each column that leaks, not only the first.":
        ("the delays at departure and arrival, 0.5 where there is none",
         lambda rows, when: rows[["dep_delay", "arr_delay"]].fillna(0.5), ["dep_delay", "arr_delay"], "soon"),
    "A value has changed if it gets larger, and if it gets smaller.":
        ("the size of the delay, and the same below 0", _larger, ["larger", "smaller"], "soon"),
    "One row that changes is enough, wherever it stands.":
        ("a column with the delay of one flight, else 0,", _one_row, ["delay"]),
    "A delay that goes missing when the future is taken away has changed. It is missing on one side only.":
        ("a column with the delay at departure", lambda rows, when: {"delay": rows["dep_delay"]}, ["delay"]),
    "A text that changes is a leak as a number is: each letter and blank counts.":
        ("three texts that change with a departure", _texts, ["word", "case", "blank"]),
    "The timetable is known: nothing of it changes.":
        ("a column with the distance", lambda rows, when: {"distance": rows["distance"]}, []),
    "Missing in both is no change.": ("two columns of the timetable with missing values", _with_gaps, []),
    "A row that was asked after the instant may change: nobody had asked it yet.":
        ("departures of the last three hours, an honest feature,", _left, []),
    "The mean delay by schedule uses delays of flights that have not left: compare value by value.":
        ("the mean delay by schedule and three honest columns", _by_schedule, ["by_schedule"], "all"),
    "A value that goes missing has changed, even 0, -1 or an empty text: ask where it is missing, fill nothing.":
        ("columns of one value where a delay is known", _marked, [*MARKS]),
    "0 and an empty text are values: if another one comes, they have changed.":
        ("columns of 0 and '' where a delay is known", _nothing, ["zero", "empty"]),
    "A value that was missing and is there when the future is taken away has changed, too.":
        ("a column that is only there while the flight has not left",
         lambda rows, when: {"plan": rows["distance"].where(rows["dep_delay"].isna())}, ["plan"]),
    "The same number as an integer and as a decimal is no change: compare values, not types of columns.":
        ("hours that are integers until later rows are missing", _turned, []),
    "A tiny change is a change: a tree may branch right there, so compare exactly.":
        ("distances that change in the last digit, and integers from 2**53 on", _tiny, ["far", "number"]),
    "Compare each row with itself: two flights that exchange their values have both changed.":
        ("the place in the order of delays", _exchanged, ["place"]),
    "A row that is asked at the very instant counts: its answer is given then.":
        ("flights that ask at the instant", _at_the_instant, ["delay"], "at the instant"),
    "The visibility of the departure hour is a leak, too: the weather has a future, as the flights have.":
        ("the visibility of the departure hour",
         lambda rows, when: {"visibility": when["visibility"]}, ["visibility"]),
    "A reading becomes available an hour after its hour: `tables_as_of` knows that.":
        ("the visibility of the hour of the question",
         lambda rows, when: {"visibility": when["visibility_now"]}, ["visibility"], "some", "05 16:40"),
    "A row counts however long before the instant it was asked.":
        ("columns that leak in rows asked over 1, 4 and 25 hours before", _old, ["1h", "4h", "25h"],
         "two days", "06 16:00"),
    "Nobody had asked yet, so no row may have changed.":
        ("the delay, before all questions,", lambda rows, when: {"delay": rows["dep_delay"]}, [], "some", "05 00:00"),
    "The timetable is known, with the flights that are asked about later: drop none of them.":
        ("the number of flights that the carrier has planned for the day",
         lambda rows, when: {"planned": rows.groupby("carrier")["hour"].transform("size")}, []),
}  # fmt: skip
