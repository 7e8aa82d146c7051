"""Checks of data engineering: readings that contradict each other, a unit, versions by key, what was known when."""

import builtins
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest import mock

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.answers import brief
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "hint", "impossible_rows", "in_miles", "known_by", "summary", "version_of"]

NAN = float("nan")
MORNING = pd.Timestamp("2013-02-12T08:00Z")
READING = ["origin", "hour", "wind_speed", "received"]


@check(
    "Ask each rule for the contradiction itself: dew point above temperature, gust below wind, pair that repeats.",
    "A comparison with a missing value is false, so a missing value is never named. Do not turn it round with `~`.",
    "`weather.duplicated([...], keep=False)` marks all rows of a pair; `weather.index[rows].tolist()` gives labels.",
)
def impossible_rows(answer):
    """Rows that contradict themselves or each other are named, and missing or equal values are let through."""
    rules = ["dewp", "wind_gust", "time_hour"]

    def ask(table: pd.DataFrame, expected: dict[str, list], words: str, *, case: str) -> None:
        came = result(answer, table, case=case, kind=dict, give="a dictionary from rule to index labels")
        expect(
            set(came) == set(rules), f"The dictionary has the keys {sorted(map(str, came))}, not {rules}.", case=case
        )
        for rule in rules:
            expect(isinstance(came[rule], list), f"Under {rule!r}, give a list of labels.", case=case)
            right = expected.get(rule, [])
            order = sorted(map(str, came[rule])) == sorted(map(str, right))
            said = f"{case} Under {rule!r} came {came[rule]}, expected {right}."
            expect(came[rule] == right, "Give the labels in the order of the rows." if order else words, case=said)

    def rows(*values: tuple, index: list | None = None, hours: list | None = None) -> pd.DataFrame:
        table = pd.DataFrame(list(values), columns=["temp", "dewp", "wind_speed", "wind_gust"], dtype=float)
        hours = pd.to_timedelta(hours or range(len(table)), unit="h")
        table.insert(0, "origin", "EWR")
        table.insert(1, "time_hour", MORNING + hours)
        return table if index is None else table.set_axis(index)

    columns = "(temp, dewp, wind_speed, wind_gust)"
    two = rows((40, 41, 5, 9), (40, 38, 12, 8), (40, 38, 5, 9))
    words = "The dew point of the first row is above its temperature, and the gust of the second is below its wind."
    case = f"{columns} was (40, 41, 5, 9), (40, 38, 12, 8), (40, 38, 5, 9)."
    ask(two, {"dewp": [0], "wind_gust": [1]}, words, case=case)
    for values in [(40, NAN, 5, 9), (NAN, 38, 5, 9), (40, 38, NAN, 9), (40, 38, 5, NAN), (NAN, NAN, NAN, NAN)]:
        ask(rows(values), {}, "A missing value contradicts nothing.", case=f"{columns} was {values}.")
    words = "A row with a contradiction was not named, because another column of the row is missing."
    ask(rows((40, 41, 5, NAN)), {"dewp": [0]}, words, case=f"{columns} was (40, 41, 5, nan).")
    ask(rows((NAN, 41, 12, 8)), {"wind_gust": [0]}, words, case=f"{columns} was (nan, 41, 12, 8).")
    words = "Equal values are possible: in fog, the dew point is the temperature."
    ask(rows((40, 40, 9, 9), (0, 0, 0, 0)), {}, words, case=f"{columns} was (40, 40, 9, 9), (0, 0, 0, 0).")
    words = "A difference of a tenth is a contradiction, too."
    case = f"{columns} was (40, 40.1, 5, 4.9)."
    ask(rows((40, 40.1, 5, 4.9)), {"dewp": [0], "wind_gust": [0]}, words, case=case)
    words = "Below zero the rule is the same: -20 is under -10."
    case = f"{columns} was (-10, -20, 5, 9), (-20, -10, 5, 9)."
    ask(rows((-10, -20, 5, 9), (-20, -10, 5, 9)), {"dewp": [1]}, words, case=case)
    fine, wrong = (40, 38, 5, 9), (40, 41, 12, 8)
    words = "Name a row by its label in the index, not by its position."
    case = "Of three rows with the index ['c', 'a', 'b'], 'c' and 'b' were wrong."
    ask(
        rows(wrong, fine, wrong, index=["c", "a", "b"]), {"dewp": ["c", "b"], "wind_gust": ["c", "b"]}, words, case=case
    )
    words = "If an airport and instant occur more than once, nobody knows which row is wrong: name all of them."
    case = "The rows with the labels 7, 3, 5, 4, 1 were of one airport, at 8, 9, 8, 8 and 10 o'clock."
    repeated = rows(*[fine] * 5, index=[7, 3, 5, 4, 1], hours=[0, 1, 0, 0, 2])
    ask(repeated, {"time_hour": [7, 5, 4]}, words, case=case)
    differ = rows(fine, (50, 30, 3, 7), hours=[0, 0])
    words = "Two readings of one airport and instant need not be equal in their other columns."
    ask(differ, {"time_hour": [0, 1]}, words, case="Two rows of one airport and instant had other temperatures.")
    words = "The same instant at another airport is another reading."
    ask(differ.assign(origin=["EWR", "JFK"]), {}, words, case="The airports were EWR and JFK, the instant was one.")
    both = rows((40, 41, 5, 9), (40, 38, 12, 8), hours=[0, 0])
    case = f"Two rows of one airport and instant had {columns} (40, 41, 5, 9), (40, 38, 12, 8)."
    ask(both, {"dewp": [0], "wind_gust": [1], "time_hour": [0, 1]}, "A row may break several rules.", case=case)
    ask(rows(), {}, "An empty table gives three empty lists.", case="The table was empty.")
    month = flights.read(["2013-11"])["weather"]
    words = "Rows of a clean month were named: the hour at which the clocks go back is two instants."
    ask(month, {}, words, case="The table was the weather of November.")
    bad = month.copy()
    bad.loc[5, "dewp"], bad.loc[905, "wind_gust"] = bad.loc[5, "temp"] + 3, bad.loc[905, "wind_speed"] - 2
    bad.loc[[40, 700], ["origin", "time_hour"]] = ["JFK", MORNING.as_unit(bad["time_hour"].dt.unit)]
    expected = {"dewp": [5], "wind_gust": [905] if pd.notna(bad.loc[905, "wind_gust"]) else [], "time_hour": [40, 700]}
    ask(bad, expected, "Four rows of a month were made wrong.", case="The table was a month with four wrong rows.")


@check(
    "Which number does a wrong unit move, and a single wrong flight hardly at all?",
    "Compute a speed for each flight first: distance by hours. Then take the median of the speeds.",
    "A missing value makes the speed missing, and `median` leaves it out. What does it give if nothing is left?",
)
def in_miles(answer):
    """The median speed tells the unit, whatever single flights say, and no speed is no objection."""

    def ask(distance: list, minutes: list, expected: bool, words: str) -> None:
        table = pd.DataFrame({"distance": distance, "air_time": np.array(minutes, dtype=float)})
        table.index = table.index[::-1] + 7
        case = f"With distances {distance} and minutes {minutes}, in_miles"
        came = result(answer, table, case=f"{case[:-10]}.", kind=bool | np.bool_, give="True or False")
        expect(bool(came) == expected, words, case=f"{case} gave {came}, expected {expected}.")

    ask([800, 400, 800], [120, 60, 100], True, "These flights fly 400 to 480 miles per hour.")
    ask([1290, 640, 1290], [120, 60, 100], False, "The same flights in kilometres would fly 640 an hour and more.")
    ask([80, 40, 80], [120, 60, 100], False, "A speed of 40 is too low for an aircraft.")
    words = "A flight whose time or distance is missing has no speed, and must not count."
    ask([800, 2500, 2500], [120, NAN, NAN], True, words)
    ask([NAN, NAN, 800], [500, 400, 110], True, words)
    ask([1290, 1290, 20], [120, 120, NAN], False, words)
    words = "A few odd flights condemned a good month, or hid a wrong unit: let the median decide."
    ask([800, 800, 800, 700], [120, 120, 110, 1], True, words)
    ask([800, 800, 800, 20], [120, 120, 110, 300], True, words)
    ask([1290, 1290, 1290, 20, 20], [120, 120, 120, 60, 60], False, words)
    words = "The median is over speeds: a long flight counts as one, and so does a short one."
    ask([300, 300, 300, 4900], [25, 26, 27, 600], False, words)
    ask([100, 100, 5000, 600, 600], [12, 60, 600, 100, 50], True, words)
    ask([300, 900, 800], [60, 60, 600], True, words)
    words = "The median decides, not how many flights are within."
    ask([100, 100, 400, 700, 700], [60] * 5, True, words)
    words = "With an even number of flights, the median lies half way between the two in the middle."
    ask([100, 900], [60, 60], True, words)
    ask([400, 900], [60, 60], False, words)
    ask([200], [60], True, "The ends are included: 200 may be miles.")
    ask([600], [60], True, "The ends are included: 600 may be miles.")
    ask([601], [60], False, "601 lies beyond the end.")
    ask([199], [60], False, "199 lies beyond the end.")
    words = "If no flight has a speed, nothing speaks against miles: give True."
    ask([800, 700], [NAN, NAN], True, words)
    ask([], [], True, words)
    month = flights.read(["2013-11"])["flights"]
    for factor, expected in {1.0: True, 1.609: False}.items():
        came = answer(month.assign(distance=month["distance"] * factor))
        expect(came == expected, f"On November, with distances times {factor}, in_miles gave {came}.")


@check(
    "What is the content of one day? Its rows, without their order, their index and the order of the columns.",
    "`table.groupby(key)` gives the rows of each key value. Then name the content of each part.",
    "The lesson has a function of the package that names the content of a table. By hand, mind missing values.",
)
def version_of(answer):
    """Each key value has the version of its own rows: the same content has the same one, and any change another one."""

    def of(table: pd.DataFrame, case: str, key: str = "day") -> dict:
        came = result(answer, table, key, case=case, kind=dict, give="a dictionary from key value to version")
        values = sorted(table[key].unique().tolist())
        said = f"The keys are {sorted(came, key=str)}, and the values of {key!r} {values}."
        expect(sorted(came, key=str) == sorted(values, key=str), said, case=case)
        wrong = [type(version).__name__ for version in came.values() if not isinstance(version, str)]
        expect(not wrong, f"A version is a text that can be written down; a {[*wrong, ''][0]} came.", case=case)
        return came

    rows = flights.read(["2013-11"])["weather"].query("day < 4").reset_index(drop=True)
    rows["station"] = np.where(rows.index % 3 == 0, None, rows["origin"] + "\n, é")
    case = "The table was the weather of three days."
    first = of(rows, case)
    expect(of(rows, case) == first, "The same table got two versions: nothing random may go into a version.")
    expect(of(rows.query("day == 2"), case) == {2: first[2]}, "The rows of other days changed the version of a day.")
    expect(of(rows.set_index(rows.index + 1_000), case) == first, "The index is no content.")
    expect(of(rows.sample(frac=1, random_state=1), case) == first, "The order of rows is no content.")
    words = "The order of columns is no content: take the columns by their names."
    expect(of(rows[rows.columns[::-1]], case) == first, words)
    words = "In another process the versions are other ones: Python's `hash` of a text is not the same there."
    with _other_hashes():
        expect(of(rows, case) == first, words)
    altered = of(rows.assign(temp=rows["temp"].where(rows.index != 100, 1.0)), case)
    day = int(rows.loc[100, "day"])
    expect(altered[day] != first[day], f"A temperature of day {day} changed unnoticed.")
    expect({**altered, day: first[day]} == first, f"Only rows of day {day} changed, and so did the version of another.")
    for words, one, other in _changes():
        told = [brief(part.drop(columns="day").to_dict("list")) for part in (one, other)]
        case = f"{told[0]} became {told[1]}."
        expect(of(one, case)[1] != of(other, case)[1], words, case=case)
    two = pd.DataFrame({"carrier": ["UA", "UA", "B6"], "delay": [5.0, NAN, 7.0]})
    of(two, "The key was 'carrier'.", "carrier")
    of(rows.iloc[:0], "The table was empty.")


def _changes() -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """What to say if a change goes unnoticed, and the rows of a day before and after it."""

    def table(**columns: list) -> pd.DataFrame:
        return pd.DataFrame({"day": [1] * len(next(iter(columns.values()))), **columns})

    yield "A changed text went unnoticed.", table(a=[1.0], t=["x"]), table(a=[1.0], t=["y"])
    for one, other in [("ab", "AB"), ("ab", "ab "), ("x" * 200 + "a", "x" * 200 + "b")]:
        yield "A changed text went unnoticed: each letter and blank is content.", table(t=[one]), table(t=[other])
    words = "It went unnoticed which values stand together in a row: sort whole rows, not each column."
    yield words, table(a=[1.0, 2.0], b=[3.0, 4.0]), table(a=[1.0, 2.0], b=[4.0, 3.0])
    words = "Each change of a value counts, however small: keep all digits."
    for one, other in [(0.1, 0.1001), (1048.36058, 1048.36059), (0.3, 0.1 + 0.2), (1e9, 1e9 + 0.25), (0.0, 1e-20)]:
        yield words, table(a=[one]), table(a=[other])
    yield words, table(a=[2**53]), table(a=[2**53 + 1])
    instants = [pd.Timestamp("2013-02-12T08:00:00Z") + pd.Timedelta(micros, "us") for micros in (0, 1)]
    yield "An instant moved by a microsecond unnoticed.", table(a=instants[:1]), table(a=instants[1:])
    words = "A column changed its name unnoticed: names are content."
    yield words, table(a=[1.0]), table(b=[1.0])
    yield words, table(a=[1.0], b=[2.0]), table(b=[1.0], a=[2.0])
    words = "It went unnoticed how often a row occurs."
    for one, other in [(1, 2), (1, 3), (2, 4)]:
        yield words, table(a=[5.0] * one), table(a=[5.0] * other)
    yield words, table(a=[5.0, 5.0, 6.0]), table(a=[5.0, 6.0, 6.0])
    words = "A missing value and an empty text got one version."
    yield words, table(t=["A", None]), table(t=["A", ""])
    for word in ("nan", "None", "NaN", "<NA>", "NaT", "null", "missing", "?"):
        yield f"A missing value and the text {word!r} got one version.", table(t=["A", None]), table(t=["A", word])
    for number in (0.0, -1.0, -999.0):
        yield f"A missing value and the number {number:g} got one version.", table(a=[NAN]), table(a=[number])
    words = "A number and a text got one version."
    yield words, table(t=[1, 2]), table(t=["1", "2"])
    yield words, table(t=[1.5]), table(t=["1.5"])
    words = "Two values ran together: keep the values of a row apart, whatever is in them."
    for mark in ("", ",", ", ", "|", ";", "\t", " ", "', '", '", "', "\x1f", "\0", "::"):
        yield words, table(s=[f"a{mark}b"], t=["c"]), table(s=["a"], t=[f"b{mark}c"])
    words = "Two rows ran together: a text may contain a line end."
    yield words, table(t=["a\nb", "c\nd"]), table(t=["a\nd", "c\nb"])
    yield words, table(t=["a\nb"]), table(t=["a", "b"])


def _other_hashes() -> AbstractContextManager:
    """Make Python's own `hash` give other numbers, as it does for text in another process."""
    real = hash
    return mock.patch.object(builtins, "hash", lambda value: real((real(value), "another process")))


@check(
    "Which lines were there at the instant? Choose these first, and only then look for the last line of a reading.",
    "Sort the lines by `received`, because they may stand in any order. A line is a row: keep all of it or nothing.",
    "`drop_duplicates(['origin', 'hour'], keep='last')` keeps the last row of each reading, with or without a wind.",
)
def known_by(answer):
    """The last line that was there counts, whatever came later, and a withdrawn value stays withdrawn."""

    def ask(lines: list[tuple], expected: dict, words: str, *, hour: float = 12.0, zone: str = "UTC") -> None:
        table = pd.DataFrame([line[:3] for line in lines], columns=READING[:3]).astype({"wind_speed": float})
        table["origin"] = table["origin"].astype("str")
        table["received"] = MORNING.floor("D") + pd.to_timedelta([line[3] for line in lines], unit="h")
        table.index = [7] * len(table)
        moment = (MORNING.floor("D") + pd.Timedelta(hours=hour)).tz_convert(zone)
        case = f"The lines (origin, hour, wind, received at hour) were {lines}, the instant was {hour:g}."
        came = result(answer, table, moment, case=case, kind=pd.DataFrame, give="a table")
        names = sorted(map(str, came.columns))
        expect(names == sorted(READING), f"The columns are {names}, expected {sorted(READING)}.", case=case)
        blank = came[["origin", "hour"]].isna().any(axis="columns").any()
        expect(
            not blank, "A row without airport or hour came: leave a line that was not there out, as a row.", case=case
        )
        seen = list(zip(came["origin"], came["hour"].astype(int), strict=True))
        winds = [None if pd.isna(wind) else float(wind) for wind in came["wind_speed"]]
        told = f"{case} Came {dict(zip(seen, winds, strict=True))}, expected {expected}."
        expect(len(set(seen)) == len(seen), "Give one row for each airport and hour.", case=f"{case} Came {seen}.")
        expect(set(seen) == set(expected) and dict(zip(seen, winds, strict=True)) == expected, words, case=told)
        if came.empty:
            return
        since = (came["received"] - MORNING.floor("D")) / pd.Timedelta("1h")
        sent = {(origin, at, None if pd.isna(wind) else wind, received) for origin, at, wind, received in lines}
        true = all((*key, wind, round(at, 6)) in sent for key, wind, at in zip(seen, winds, since, strict=True))
        expect(true, "`received` is that of another line: keep a line as a whole.", case=case)

    ewr, jfk = ("EWR", 3), ("JFK", 3)
    ask([("EWR", 3, 8.0, 4.0), ("JFK", 3, 9.0, 5.0)], {ewr: 8.0, jfk: 9.0}, "Both lines were there.")
    ask([("EWR", 3, 8.0, 4.0), ("JFK", 3, 9.0, 13.0)], {ewr: 8.0}, "A line that came later was not there.")
    ask([("EWR", 3, 8.0, 12.0)], {ewr: 8.0}, "A line that came at the very instant was there.")
    ask([("EWR", 3, 8.0, NAN), ("JFK", 3, 9.0, 4.0)], {jfk: 9.0}, "A line without `received` never came.")
    words = "The line that was received last counts."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 9.0)], {ewr: 6.0}, words)
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 11.0, 9.0)], {ewr: 11.0}, words)
    words = "A correction that came later must not take the reading away: the old value was known."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 15.0)], {ewr: 8.0}, words)
    words = "A correction that was never received must not take the reading away."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, NAN)], {ewr: 8.0}, words)
    words = "The order of the lines in the table means nothing: ask `received`."
    ask([("EWR", 3, 6.0, 9.0), ("EWR", 3, 8.0, 4.0)], {ewr: 6.0}, words)
    words = "The office has withdrawn this value: its wind is missing, and the old one must not come back."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, NAN, 9.0)], {ewr: None}, words)
    ask([("EWR", 3, NAN, 4.0)], {ewr: None}, "A reading without a wind is a reading: its row was there.")
    words = "A value that was withdrawn and sent again is there again."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, NAN, 9.0), ("EWR", 3, 7.0, 10.0)], {ewr: 7.0}, words)
    words = "The same hour of another airport, or another hour, is another reading."
    ask(
        [("EWR", 3, 8.0, 4.0), ("JFK", 3, 9.0, 5.0), ("EWR", 4, 7.0, 6.0)], {ewr: 8.0, jfk: 9.0, ("EWR", 4): 7.0}, words
    )
    words = "A correction that repeats the old value is a line like any other."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 9.0), ("EWR", 3, 8.0, 10.0)], {ewr: 8.0}, words)
    words = "The instant is the one that is handed in."
    ask([("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 9.0)], {ewr: 8.0}, words, hour=8.5)
    ask(
        [("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 9.0)],
        {ewr: 8.0},
        "An instant may have another zone.",
        hour=8.5,
        zone="Asia/Tokyo",
    )
    ask([("EWR", 3, 8.0, 13.0)], {}, "If no line was there, give a table without rows.")
    ask([], {}, "Without lines, give a table without rows.")
    rng = np.random.default_rng(4)
    lines = [("EWR", int(rng.integers(3)), float(rng.integers(5, 30)), float(at) / 2) for at in rng.permutation(48)]
    last = {(origin, at): wind for origin, at, wind, when in sorted(lines, key=lambda line: line[3]) if when <= 12}
    ask(lines, last, "Of these forty-eight lines, others count.")
