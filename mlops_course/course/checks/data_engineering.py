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


FINE, BAD = (40, 38, 5, 9), (40, 41, 12, 8)
SEVERAL = "A row may break several rules."
READINGS = {  # words: rows of temp, dewp, wind_speed, wind_gust; positions of those to name under dewp and wind_gust
    "The dew point of the first row is above its temperature, and the gust of the second is below its wind.":
        [([(40, 41, 5, 9), (40, 38, 12, 8), FINE], [0], [1])],
    "A missing value contradicts nothing.":
        [([row], [], []) for row in
         [(40, NAN, 5, 9), (NAN, 38, 5, 9), (40, 38, NAN, 9), (40, 38, 5, NAN), (NAN, NAN, NAN, NAN)]],
    "A row with a contradiction was not named, because another column of the row is missing.":
        [([(40, 41, 5, NAN)], [0], []), ([(NAN, 41, 12, 8)], [], [0])],
    "Equal values are possible: in fog, the dew point is the temperature.": [([(40, 40, 9, 9), (0, 0, 0, 0)], [], [])],
    SEVERAL: [([BAD], [0], [0])],
    "A difference of a tenth is a contradiction, too.": [([(40, 40.1, 5, 9), (40, 38, 5, 4.9)], [0], [1])],
    "Below zero the rule is the same: -20 is under -10.": [([(-10, -20, 5, 9), (-20, -10, 5, 9)], [1], [])],
}  # fmt: skip
REPEATS = {  # words: labels and hours after 8 o'clock of rows of one airport; labels to name
    "If an airport and instant occur more than once, nobody knows which row is wrong: name all of them.":
        ({7: 1, 3: 0, 5: 1, 4: 0, 1: 2}, [7, 3, 5, 4]),
    "An airport and instant may occur more than twice: name all the rows.": ({7: 0, 3: 1, 5: 0, 4: 0}, [7, 5, 4]),
    "The same hour of another day is another instant.": ({0: 0, 1: 24}, []),
    "Half an hour later is another instant.": ({0: 0, 1: 0.5}, []),
}  # fmt: skip


def _weather(values: list[tuple], *, index: list | None = None, hours: list | None = None) -> pd.DataFrame:
    """Readings of EWR, one each hour from 8 o'clock on if no hours are said."""
    table = pd.DataFrame(values, columns=["temp", "dewp", "wind_speed", "wind_gust"], dtype=float)
    table.insert(0, "origin", "EWR")
    table.insert(1, "time_hour", MORNING + pd.to_timedelta(hours or range(len(table)), unit="h"))
    return table if index is None else table.set_axis(index)


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
        keys = sorted(map(str, came))
        expect(set(came) == set(rules), f"The dictionary has the keys {keys}, not {rules}.", case=case)
        for rule in rules:
            expect(isinstance(came[rule], list), f"Under {rule!r}, give a list of labels.", case=case)
            right = expected.get(rule, [])
            order = sorted(map(str, came[rule])) == sorted(map(str, right))
            said = f"{case} Under {rule!r} came {brief(came[rule])}, expected {brief(right)}."
            expect(came[rule] == right, "Give the labels in the order of the rows." if order else words, case=said)

    columns = "(temp, dewp, wind_speed, wind_gust)"
    for words, values, dewp, gust in ((words, *row) for words, table in READINGS.items() for row in table):
        case = f"{columns} was {str(values)[1:-1]}."
        ask(_weather(values), {"dewp": dewp, "wind_gust": gust}, words, case=case)
    words = "Name a row by its label in the index, not by its position."
    case = "Of three rows with the index ['c', 'a', 'b'], at 10, 9 and 8 o'clock, 'c' and 'b' were wrong."
    three = _weather([BAD, FINE, BAD], index=["c", "a", "b"], hours=[2, 1, 0])
    ask(three, {"dewp": ["c", "b"], "wind_gust": ["c", "b"]}, words, case=case)
    for words, (hours, expected) in REPEATS.items():
        case = f"Of one airport, the rows {list(hours)} were {list(hours.values())} hours after 8 o'clock."
        table = _weather([FINE] * len(hours), index=list(hours), hours=list(hours.values()))
        ask(table, {"time_hour": expected}, words, case=case)
    differ = _weather([FINE, (50, 30, 3, 7)], hours=[0, 0])
    words = "Two readings of one airport and instant need not be equal in their other columns."
    ask(differ, {"time_hour": [0, 1]}, words, case="Two rows of one airport and instant had other temperatures.")
    words = "The same instant at another airport is another reading."
    ask(differ.assign(origin=["EWR", "JFK"]), {}, words, case="The airports were EWR and JFK, the instant was one.")
    both = _weather([(40, 41, 5, 9), (40, 38, 12, 8)], hours=[0, 0])
    case = f"Two rows of one airport and instant had {columns} (40, 41, 5, 9), (40, 38, 12, 8)."
    expected = {"dewp": [0], "wind_gust": [1], "time_hour": [0, 1]}
    ask(both, expected, SEVERAL, case=case)
    ask(_weather([]), {}, "An empty table gives three empty lists.", case="The table was empty.")
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

    def ask(distance: list, minutes: list, expected: bool, words: str, **other: list) -> None:
        table = pd.DataFrame({"distance": distance, "air_time": np.array(minutes, dtype=float), **other})
        table.index = table.index[::-1] + 7
        case = f"With distances {distance}, minutes {minutes}{f' and {other}' if other else ''}, in_miles"
        came = result(answer, table, case=f"{case[:-10]}.", kind=bool | np.bool_, give="True or False")
        expect(bool(came) == expected, words, case=f"{case} gave {came}, expected {expected}.")

    words = "These flights fly 400 to 480 miles per hour: divide the distance by the hours in the air."
    ask([800, 400, 800], [120, 60, 100], True, words)
    ask([1290, 640, 1290], [120, 60, 100], False, "The same flights in kilometres would fly 640 an hour and more.")
    ask([80, 40, 80], [120, 60, 100], False, "A speed of 40 is too low for an aircraft.")
    words = "A few odd flights condemned a good month, or hid a wrong unit: let the median decide."
    ask([800, 810, 820, 700], [120, 120, 110, 1], True, words)
    ask([800, 810, 820, 20], [120, 120, 110, 300], True, words)
    ask([1290, 1300, 1310, 20, 30], [120, 120, 120, 6, 9], False, words)
    words = "The median is the middle of the sorted speeds: the flights stand in any order."
    ask([400, 900, 450], [60] * 3, True, words)
    words = "The median decides, not how many flights are within."
    ask([100, 100, 400, 700, 700], [60] * 5, True, words)
    words = "The median is over speeds: a long flight counts as one, and so does a short one."
    ask([300, 310, 320, 4900], [25, 26, 27, 600], False, words)
    ask([100, 110, 5000, 600, 610], [12, 60, 600, 100, 50], True, words)
    ask([300, 900, 800], [60, 60, 600], True, words)
    words = "Flights with the same values are several flights: count each of them."
    ask([700, 700, 700, 400, 420], [60] * 5, False, words)
    words = "A flight whose time or distance is missing has no speed, and must not count."
    ask([800, 2500, 2500], [120, NAN, NAN], True, words)
    ask([NAN, NAN, 800], [500, 400, 110], True, words)
    ask([1290, 1290, 20], [120, 120, NAN], False, words)
    words = "A flight has a speed although another column of it is missing."
    ask([1290, 1300, 800], [120, 120, 120], False, words, tailnum=[None, None, "N14228"])
    words = "A flight of 0 miles has a speed, which is 0: only a missing value makes it missing."
    ask([0, 0, 400], [60] * 3, False, words)
    words = "With an even number of flights, the median lies half way between the two in the middle."
    ask([100, 900], [60, 60], True, words)
    ask([400, 900], [60, 60], False, words)
    ask([200], [60], True, "The ends are included: 200 may be miles.")
    ask([600], [60], True, "The ends are included: 600 may be miles.")
    ask([601], [60], False, "601 lies beyond the end.")
    ask([199], [60], False, "199 lies beyond the end.")
    ask([6004], [600], False, "600.4 lies beyond the end: round nothing.")
    ask([6009], [600], False, "600.9 lies beyond the end: round nothing.")
    ask([1996], [600], False, "199.6 lies beyond the end: round nothing.")
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
    "The lesson has a function of the package that names the content of a table. A column has one kind for all days: "
    "`convert_dtypes` takes it from the rows of one. By hand, mind missing values.",
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
    many = of(
        pd.DataFrame({"day": range(300), "wind": np.arange(300.0)}), "The table was 300 days, each with its wind."
    )
    words = "Days with another wind each got one version: is a version too short, or is a value left out?"
    expect(len(set(many.values())) == 300, words, case=f"Of 300 such days came {len(set(many.values()))} versions.")
    for words, one, other in _changes():
        told = [_told(part.drop(columns="day")) for part in (one, other)]
        case = f"{told[0]} became {told[1]}."
        expect(of(one, case)[1] != of(other, case)[1], words, case=case)
    for words, one, other in _run_together():
        before, after = (of(table, "Each day was one row.") for table in (one, other))
        same = [place for place, day in enumerate(one["day"]) if before[day] == after[day]][:1]
        told = [_told(part.iloc[same, 1:]) for part in (one, other)]
        expect(not same, words, case=f"{told[0]} became {told[1]}.")
    altered = of(rows.assign(temp=rows["temp"].where(rows.index != 100, 1.0)), case)
    day, temp = int(rows.loc[100, "day"]), rows.loc[100, "temp"]
    expect(altered[day] != first[day], f"Unnoticed, a temperature of day {day} became 1, which was {temp:g}.")
    expect({**altered, day: first[day]} == first, f"Only rows of day {day} changed, and so did the version of another.")
    two = pd.DataFrame({"carrier": ["UA", "UA", "B6"], "delay": [5.0, NAN, 7.0]})
    of(two, "The key was 'carrier'.", "carrier")
    of(rows.iloc[:0], "The table was empty.")
    whole, gap = (pd.DataFrame({"day": [1, 2], "wind": [5, wind]}) for wind in (6, None))
    words = (
        "A value of day 2 went missing, and day 1 got another version: pandas makes 5.0 of its 5, but the value stays."
    )
    case = "Day 1 had the wind 5, day 2 the wind 6, which went missing."
    expect(of(whole, case)[1] == of(gap, case)[1], words, case=case)


def _day(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"day": [1] * len(next(iter(columns.values()))), **columns})


def _told(table: pd.DataFrame) -> str:
    """The columns in few signs: of an instant only the clock, of a letter that is not plain its number."""
    shown = table.map(lambda value: str(value)[11:] if isinstance(value, pd.Timestamp) else value)
    return brief(shown.to_dict("list")).encode("ascii", "backslashreplace").decode()


TEXTS = [("x", "y"), ("ab", "AB"), ("ab", "ab "), ("ab", " ab"), ("x" * 200 + "a", "x" * 200 + "b"), ("é", "ü")]
ODD_TEXTS = [("a\tb", "a b"), ("a\r\nb", "a\nb"), ("e\u0301", "é"), ("ﬁ", "fi")]
NUMBERS = [(0.1, 0.1001), (1048.36058, 1048.36059), (0.3, 0.1 + 0.2), (1e9, 1e9 + 0.25), (0.0, 1e-20),
           (2**53, 2**53 + 1)]  # fmt: skip


def _changes() -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """What to say if a change goes unnoticed, and the rows of a day before and after it."""
    for one, other in TEXTS:
        yield "A changed text went unnoticed: each letter and blank is content.", _day(t=[one]), _day(t=[other])
    words = "It went unnoticed which values stand together in a row: sort whole rows, not each column."
    yield words, _day(a=[1.0, 2.0], b=[3.0, 4.0]), _day(a=[1.0, 2.0], b=[4.0, 3.0])
    words = "A value changed unnoticed, because another one of its row is missing."
    yield words, _day(a=[1.0, 2.0], b=[NAN, 4.0]), _day(a=[1.5, 2.0], b=[NAN, 4.0])
    for one, other in NUMBERS:
        yield "Each change of a value counts, however small: keep all digits.", _day(a=[one]), _day(a=[other])
    instants = [pd.Timestamp("2013-02-12T08:00:00Z") + pd.Timedelta(number, "ns") for number in (0, 1_000, 1)]
    yield "An instant moved by a microsecond unnoticed.", _day(a=instants[:1]), _day(a=instants[1:2])
    yield "An instant moved by a nanosecond unnoticed.", _day(a=instants[:1]), _day(a=instants[2:])
    words = "A column changed its name unnoticed: names are content."
    yield words, _day(a=[1.0]), _day(b=[1.0])
    yield words, _day(a=[1.0], b=[2.0]), _day(b=[1.0], a=[2.0])
    yield "A column without a value came unnoticed: its name is content.", _day(a=[1.0]), _day(a=[1.0], b=[NAN])
    words = "It went unnoticed how often a row occurs."
    for one, other in [(1, 2), (1, 3), (2, 4)]:
        yield words, _day(a=[5.0] * one), _day(a=[5.0] * other)
    yield words, _day(a=[5.0, 5.0, 6.0]), _day(a=[5.0, 6.0, 6.0])
    words = "A missing value and an empty text got one version."
    yield words, _day(t=["A", None]), _day(t=["A", ""])
    for word in ("nan", "None", "NaN", "<NA>", "NaT", "null", "missing", "?"):
        yield f"A missing value and the text {word!r} got one version.", _day(t=["A", None]), _day(t=["A", word])
    for number in (0.0, -1.0, -999.0):
        yield f"A missing value and the number {number:g} got one version.", _day(a=[NAN]), _day(a=[number])
    words = "It went unnoticed which value of a row is missing: a missing one keeps its place."
    yield words, _day(s=["x", "z"], t=[None, "z"]), _day(s=[None, "z"], t=["x", "z"])
    yield words, _day(a=[1.0, 2.0], b=[NAN, 2.0]), _day(a=[NAN, 2.0], b=[1.0, 2.0])
    words = "A number and a text got one version."
    yield words, _day(t=[1, 2]), _day(t=["1", "2"])
    yield words, _day(t=[1.5]), _day(t=["1.5"])
    for one, other in ODD_TEXTS:
        yield "Two texts got one version: take each sign as it is.", _day(t=[one]), _day(t=[other])
    words = "Two rows ran together: a text may contain a line end."
    yield words, _day(t=["a\nb", "c\nd"]), _day(t=["a\nd", "c\nb"])
    yield words, _day(t=["a\nb"]), _day(t=["a", "b"])


def _run_together() -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The words, and tables with two texts, or two names of columns; whatever is put between the two is within one."""
    for mark in (",", ", ", "', '", "|", ";", "\n", " "):
        one, other = {f"a{mark}b": [1.0], "c": [1.0]}, {"a": [1.0], f"b{mark}c": [1.0]}
        yield "Two names of columns ran together.", _day(**one), _day(**other)
    words = "Two values ran together: keep the values of a row apart, whatever is in them."
    plain = ["", *map(chr, range(128)), "\r\n", "::", ", ", "', '", '", "', "','", '","', "·", "¦", "→"]
    kinds = ["s", "t", "str", "text", "string", "object"]  # some write the kind of a value before it
    marked = [f"{mark}{kind}{end}" for mark in ",;|:\t\n\0\x1f -_/" for kind in kinds for end in ("", ":")]
    for marks in (plain, marked):
        day = range(len(marks))
        one = pd.DataFrame({"day": day, "s": [f"a{mark}b" for mark in marks], "t": "c"})
        yield words, one, pd.DataFrame({"day": day, "s": "a", "t": [f"b{mark}c" for mark in marks]})


def _other_hashes() -> AbstractContextManager:
    """Make Python's own `hash` give other numbers, as it does in another process, but for numbers and NA."""
    real, same = hash, (int, float, type(pd.NA))

    def other(value: object) -> int:
        return real(value) if isinstance(value, same) else real((real(value), "another process"))

    return mock.patch.object(builtins, "hash", other)


EWR, JFK = ("EWR", 3), ("JFK", 3)
FIRST, SECOND, OTHER = ("EWR", 3, 8.0, 4.0), ("EWR", 3, 6.0, 9.0), ("JFK", 3, 9.0, 5.0)
LINES = {  # words: lines of origin, hour, wind and the hour at which it was received; winds known at 12
    "Both lines were there.": [([FIRST, OTHER], {EWR: 8.0, JFK: 9.0})],
    "A line that came later was not there.": [([FIRST, ("JFK", 3, 9.0, 13.0)], {EWR: 8.0})],
    "A line that came at the very instant was there.": [([("EWR", 3, 8.0, 12.0)], {EWR: 8.0})],
    "A line without `received` never came.": [([("EWR", 3, 8.0, NAN), ("JFK", 3, 9.0, 4.0)], {JFK: 9.0})],
    "The line that was received last counts.":
        [([FIRST, SECOND], {EWR: 6.0}), ([FIRST, ("EWR", 3, 11.0, 9.0)], {EWR: 11.0})],
    "A correction that came later must not take the reading away: the old value was known.":
        [([FIRST, ("EWR", 3, 6.0, 15.0)], {EWR: 8.0})],
    "A correction that was never received must not take the reading away.":
        [([FIRST, ("EWR", 3, 6.0, NAN)], {EWR: 8.0})],
    "The order of the lines in the table means nothing: ask `received`.": [([SECOND, FIRST], {EWR: 6.0})],
    "The office has withdrawn this value: its wind is missing, neither the old one nor 0.":
        [([FIRST, ("EWR", 3, NAN, 9.0)], {EWR: None})],
    "A reading without a wind is a reading: its row was there.": [([("EWR", 3, NAN, 4.0)], {EWR: None})],
    "A value that was withdrawn and sent again is there again.":
        [([FIRST, ("EWR", 3, NAN, 9.0), ("EWR", 3, 7.0, 10.0)], {EWR: 7.0})],
    "The same hour of another airport, or another hour, is another reading.":
        [([FIRST, OTHER, ("EWR", 4, 7.0, 6.0)], {EWR: 8.0, JFK: 9.0, ("EWR", 4): 7.0}),
         ([FIRST, ("ELM", 3, 9.0, 5.0)], {EWR: 8.0, ("ELM", 3): 9.0})],
    "Lines of two readings may be received at the same instant.":
        [([FIRST, ("JFK", 3, 9.0, 4.0)], {EWR: 8.0, JFK: 9.0}),
         ([FIRST, SECOND, ("JFK", 3, 9.0, 4.0)], {EWR: 6.0, JFK: 9.0})],
    "The wind stays as it is, with all its digits.": [([("EWR", 3, 8.6, 4.0)], {EWR: 8.6})],
    "If no line was there, give a table without rows.": [([("EWR", 3, 8.0, 13.0)], {}), ([], {})],
    "A line that came a moment later was not there.": [([FIRST, ("JFK", 3, 9.0, 12.0001)], {EWR: 8.0})],
    "The line that was received last counts: these came on 31 January and 1 February.":
        [([("EWR", 3, 8.0, -276.0), ("EWR", 3, 6.0, -260.0)], {EWR: 6.0})],
    "A correction that repeats the old value is a line like any other.":
        [([FIRST, SECOND, ("EWR", 3, 8.0, 10.0)], {EWR: 8.0})],
}  # fmt: skip


@check(
    "Which lines were there at the instant? Choose these first, and only then look for the last line of a reading.",
    "Sort the lines by `received`, because they may stand in any order. A line is a row: keep all of it or nothing.",
    "`drop_duplicates(['origin', 'hour'], keep='last')` keeps the last row of each reading, with or without a wind.",
)
def known_by(answer):
    """The last line that was there counts, whatever came later, and a withdrawn value stays withdrawn."""

    def ask(
        lines: list[tuple], expected: dict, words: str, *, hour: float = 12.0, zone: str = "UTC", label: int = 1
    ) -> None:
        table = pd.DataFrame([line[:3] for line in lines], columns=READING[:3]).astype({"wind_speed": float})
        table["origin"] = table["origin"].astype("str")
        table["received"] = MORNING.floor("D") + pd.to_timedelta([line[3] for line in lines], unit="h")
        table.index = table.index[::-1] * label + 7
        moment = (MORNING.floor("D") + pd.Timedelta(hours=hour)).tz_convert(zone)
        shown = f"{lines[:3]}"[:-1] + ", ...]" if len(lines) > 3 else f"{lines}"
        case = f"The lines (origin, hour, wind, received at hour) were {shown}, the instant was {hour:g}."
        came = result(answer, table, moment, case=case, kind=pd.DataFrame, give="a table")
        names = sorted(map(str, came.columns))
        expect(names == sorted(READING), f"The columns are {names}, expected {sorted(READING)}.", case=case)
        blank = came[["origin", "hour"]].isna().any(axis="columns").any()
        expect(
            not blank, "A row without airport or hour came: leave a line that was not there out, as a row.", case=case
        )
        seen = list(zip(came["origin"], came["hour"].astype(int), strict=True))
        winds = [None if pd.isna(wind) else float(wind) for wind in came["wind_speed"]]
        told = f"{case} Came {brief(dict(zip(seen, winds, strict=True)))}, expected {brief(expected)}."
        once = "Give one row for each airport and hour." if label else words
        expect(len(set(seen)) == len(seen), once, case=f"{case} Came {seen}.")
        expect(set(seen) == set(expected) and dict(zip(seen, winds, strict=True)) == expected, words, case=told)
        if came.empty:
            return
        since = (came["received"] - MORNING.floor("D")) / pd.Timedelta("1h")
        sent = {(origin, at, None if pd.isna(wind) else wind, received) for origin, at, wind, received in lines}
        true = all((*key, wind, round(at, 6)) in sent for key, wind, at in zip(seen, winds, since, strict=True))
        expect(true, "`received` is that of another line: keep a line as a whole.", case=case)

    for words, lines, expected in ((words, *row) for words, table in LINES.items() for row in table):
        ask(lines, expected, words)
    ask([FIRST, SECOND], {EWR: 8.0}, "The instant is the one that is handed in.", hour=8.5)
    ask([FIRST, SECOND], {EWR: 8.0}, "An instant may have another zone.", hour=8.5, zone="Asia/Tokyo")
    words = "Labels of the index may repeat, and here all are 7: a label is no place of a line."
    ask([FIRST, OTHER], {EWR: 8.0, JFK: 9.0}, words, label=0)
    rng = np.random.default_rng(4)
    lines = [("EWR", int(rng.integers(3)), float(rng.integers(5, 30)), float(at) / 2) for at in rng.permutation(48)]
    last = {(origin, at): wind for origin, at, wind, when in sorted(lines, key=lambda line: line[3]) if when <= 12}
    ask(lines, last, "Of these forty-eight lines, others count.", label=0)
