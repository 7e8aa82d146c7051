"""Checks of data engineering: versions by content, rules that name the row, and what was known when."""

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt

__all__ = ["YourTurn", "hint", "impossible_rows", "known_by", "summary", "version_of"]


def _weather() -> pd.DataFrame:
    return flights.read(["2013-11"])["weather"].head(300)


@check(
    "Keep the bounds in one dictionary from column to its two ends, and loop over it.",
    "`between` is false for a missing value, so ask for the present ones as well.",
)
def impossible_rows(answer):
    """Impossible values are found and named, missing ones and the order of rows are let through."""
    rows = _weather()
    clean = attempt(lambda: answer(rows), hint="impossible_rows fails on a month of clean weather.")
    expect(isinstance(clean, dict), "Give a dictionary, from column to the index labels of its impossible rows.")
    expect(not any(map(len, clean.values())), "Clean weather was rejected: a missing value is not an impossible one.")
    shuffled = rows.sample(frac=1, random_state=2)
    expect(not any(map(len, answer(shuffled).values())), "Shuffled rows were rejected: their order means nothing here.")
    bad = rows.copy()
    bad.loc[5, "wind_speed"], bad.loc[9, "humid"] = 1_048.0, -3.0
    found = {column: sorted(labels) for column, labels in answer(bad).items() if len(labels)}
    expect("wind_speed" in found, "A wind of 1,048 mph passed: compare every value with what weather can be.")
    expect("humid" in found, "A humidity of -3 % passed: a range has a lower end as well.")
    words = "Name the row by its index label, and only the row that is wrong."
    expect(found == {"wind_speed": [5], "humid": [9]}, words)
    ends = pd.DataFrame({"temp": [-60.0, 120.0], "humid": [0.0, 100.0], "wind_speed": [0.0, 150.0]}, index=[7, 3])
    expect_same(answer(ends), {name: [] for name in ends}, "Both ends of a range are possible.", case="On the ends it")
    just = ends + pd.DataFrame({name: [-0.5, 0.5] for name in ends}, index=[7, 3])
    words = "Half a unit beyond an end is impossible."
    expect_same(answer(just), {name: [7, 3] for name in ends}, words, case="Just beyond the ends it")


@check(
    "What makes two tables the same data? Not their index, and not the order of their rows.",
    "`pd.util.hash_pandas_object(table, index=False)` gives a number for each row.",
    "Sort the numbers, and hash them together with the names of the columns.",
)
def version_of(answer):
    """The same content has the same version, and any change of it another one."""
    rows = _weather()
    version = attempt(lambda: answer(rows), hint="version_of fails on a month of weather.")
    expect(isinstance(version, str), f"A version is a text that can be written down; a {type(version).__name__} came.")
    expect(answer(rows) == version, "The same table got two versions: nothing random may go into a version.")
    moved = rows.set_index(rows.index + 1_000)
    expect(answer(moved) == version, "The index is no content: the same rows with other labels are the same data.")
    shuffled = rows.sample(frac=1, random_state=1)
    expect(answer(shuffled) == version, "The order of rows is no content: sort them, or add them up, before you hash.")
    doubled = pd.concat([rows, rows.iloc[[0, 0]]])
    expect(answer(doubled) != version, "A row that came three times left no trace: how often a row occurs is content.")
    altered = rows.assign(temp=rows["temp"].where(rows.index != 7, 1.0))
    expect(answer(altered) != version, "One changed value went unnoticed: every column has to go into the version.")
    renamed = rows.rename(columns={"temp": "dewp", "dewp": "temp"})
    expect(answer(renamed) != version, "Two columns swapped their names unnoticed: names are content, too.")


@check(
    "Which rows stay, and which values go? Only what had not landed yet was unknown.",
    "A comparison with a missing time is false, which is what you want here.",
    "`Series.where` keeps values where a condition holds, and `assign` makes a new table.",
)
def known_by(answer):
    """Nothing that came later is seen, and the timetable stays whole."""
    known = pd.to_datetime(["2013-02-12T10:00Z", "2013-02-12T12:00Z", "2013-02-12T14:00Z", None], utc=True)
    rows = pd.DataFrame({"delay": [5.0, 7.0, 9.0, np.nan], "landed": known}, index=[3, 1, 4, 2])
    noon = pd.Timestamp("2013-02-12T12:00Z")
    seen = attempt(lambda: answer(rows, noon), hint="known_by fails on four flights, one of which never landed.")
    expect(isinstance(seen, pd.DataFrame), f"Give the table as it was seen then; a {type(seen).__name__} came.")
    expect(list(seen.index) == [3, 1, 4, 2], "Flights are missing: the timetable is known, only the delay is not.")
    expect(pd.isna(seen.loc[4, "delay"]), "A delay of two hours later was seen: mask what landed after the instant.")
    expect(seen.loc[1, "delay"] == 7.0, "What landed at the very instant is known by then: compare with <=.")
    expect(seen.loc[3, "delay"] == 5.0, "A delay that was known by then is missing or changed: keep it as it was.")
