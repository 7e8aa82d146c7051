"""Checks of features: purged splits, windows before the question, one code path, and a finder of leaks."""

import functools
import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, result
from mlops_course.course.checks.leaks import LEAD, LEAKS, at, august, tables_of, when_of
from mlops_course.flights.timeline import WEATHER_DELAY, instants

__all__ = ["YourTurn", "compared", "hint", "leaking", "lowest_visibility", "split", "summary"]


@functools.cache
def _asked() -> pd.DataFrame:
    """Some flights of these two days, shuffled: when the desk asked, and when the label came."""
    rows = august()["flights"]
    when = instants(rows, august()["airports"])
    rows = rows[["origin"]].assign(
        asked=when["scheduled_departure"] - LEAD,
        scheduled_departure=when["scheduled_departure"],
        labelled=when["arrived"],
    )
    return rows.sample(400, random_state=4)


MOMENTS = {  # row: when it asked, and when its label came, in August; the cut is the 12th, now is the 20th
    "long before": ("05 10:00", "05 15:00"),
    "its twin": ("05 10:00", "05 15:00"),
    "the evening before": ("11 22:00", "12 03:00"),
    "the morning before": ("11 06:00", "11 11:00"),
    "labelled at the cut": ("11 19:00", "12 00:00"),
    "labelled a moment after the cut": ("11 18:00", "12 00:00:00.5"),
    "slow": ("01 10:00", "14 10:00"),
    "never landed": ("06 10:00", None),
    "asked at the cut": ("12 00:00", "12 05:00"),
    "after": ("15 10:00", "15 15:00"),
    "labelled now": ("19 19:00", "20 00:00"),
    "labelled a moment after now": ("19 18:00", "20 00:00:00.5"),
    "still in the air": ("19 22:00", "20 03:00"),
    "cancelled after": ("16 10:00", None),
    "asked now": ("20 00:00", "20 06:00"),
}
FUTURE = {name for name, (asked, _) in MOMENTS.items() if asked >= "12 00:00"}
PARTS = {  # words: which part, which rows, and whether they belong there
    "A row that was asked at the cut or later is trained on: the parts follow the clock, not chance.":
        ("train", FUTURE, False),
    "A row that was asked before the cut is tested on: the time of its question chooses its part.":
        ("test", set(MOMENTS) - FUTURE, False),
    "A row whose label is missing is trained on: a flight that never landed has no label.":
        ("train", {"never landed"}, False),
    "A row whose label is missing is tested on: a flight that never landed has no label.":
        ("test", {"cancelled after"}, False),
    "A label that came after the cut is trained on: such a row is purged, and in neither part.":
        ("train", {"the evening before", "slow", "labelled a moment after the cut"}, False),
    "A label that is not there yet is tested on: at `now` nobody knows it.":
        ("test", {"still in the air", "asked now", "labelled a moment after now"}, False),
    "Rows whose label was there before the cut are left out: the gap has no fixed length. Ask `labelled`.":
        ("train", {"the morning before"}, True),
    "A label that comes at the very cut is known at the cut: compare with <=.":
        ("train", {"labelled at the cut"}, True),
    "A question at the very cut belongs to the future: compare with >=.": ("test", {"asked at the cut"}, True),
    "A label that comes at the very `now` is known by then: compare with <=.": ("test", {"labelled now"}, True),
    "A row that was asked after the cut and has its label is missing from the test.": ("test", {"after"}, True),
    "Two rows may have equal times: keep both.": ("train", {"long before", "its twin"}, True),
}  # fmt: skip


def _parts(answer: Callable, table: pd.DataFrame, cut: pd.Timestamp, now: pd.Timestamp) -> list[list]:
    """The index of the rows to train on and of those to test on."""
    came = answer(table, cut, now)
    two = isinstance(came, tuple | list) and len(came) == 2 and all(isinstance(part, pd.DataFrame) for part in came)
    expect(two, "Give two tables, the rows to train on and the rows to test on: `return train, test`.")
    for part in came:
        expect(list(part.columns) == list(table.columns), "Each part keeps the columns as they were, and no more.")
    return [list(part.index) for part in came]


@check(
    "For each of the two parts ask: what has to be true of its rows, and at which moment?",
    "A row has two times. The part is chosen by the question; the label has to be there when the part is used.",
    "Two conditions for each part, joined by `&`: one on `asked` and one on `labelled`.",
)
def split(answer):
    """Nothing is trained or tested on before its label is there, and no row is in both parts."""
    cut, now = at("12 00:00"), at("20 00:00")
    moments = [(at(asked), label and at(label)) for asked, label in MOMENTS.values()]
    rows = pd.DataFrame(moments, columns=["asked", "labelled"], index=list(MOMENTS)).sample(frac=1, random_state=3)
    hint = f"split fails on {len(rows)} flights around a cut."
    train, test = attempt(lambda: _parts(answer, rows, cut, now), hint=hint)
    strange = (set(train) | set(test)) - set(MOMENTS)
    expect(not strange, f"Keep the index of the rows: the labels {sorted(map(str, strange))} did not come in.")
    ours = [name for words, (part, names, there) in PARTS.items() if there and part == "train" for name in names]
    expect(set(test) != set(ours), "The two parts are exchanged: give the rows to train on first.")
    for words, (part, names, there) in PARTS.items():
        for name in sorted(names):
            asked, label = MOMENTS[name]
            case = f"The row {name!r} asked at {asked}, label {label or 'never'}; cut at 12 00:00, now 20 00:00."
            expect((name in {"train": train, "test": test}[part]) == there, words, case=case)
    order = [name for name in rows.index if name in train], [name for name in rows.index if name in test]
    expect((train, test) == order, "Keep the rows in the order in which they came.")
    gaps = rows.assign(visib=np.where(rows.index.str.len() > 6, np.nan, 10.0))
    words = "A row is left out because another column of it is missing: only the times count."
    expect(_parts(answer, gaps, cut, now) == [train, test], words, case="A column `visib` was missing in most rows.")
    real = _asked()[["asked", "labelled"]]
    slow = real.assign(labelled=real["asked"] + pd.to_timedelta(np.arange(len(real)) % 30, unit="h"))
    cut, now = at("06 04:00"), at("07 00:00")
    for table, case in ((real, "400 real flights"), (slow, "400 flights with labels after up to 29 hours")):
        before = table["asked"] < cut
        ours = table.index[before & (table["labelled"] <= cut)], table.index[~before & (table["labelled"] <= now)]
        for name, came, right in zip(("train", "test"), _parts(answer, table, cut, now), ours, strict=True):
            wrong = [row for row in table.index if (row in set(came)) != (row in set(right))][:1]
            times = [str(table.loc[row, column])[8:19] for row in wrong for column in table]
            has = "lacks" if wrong and wrong[0] in right else "has"
            told = f"Of {case}, {name} {has} one with the times {times}; cut 06 04:00, now 07 00:00."
            expect(came == right.tolist(), "Some rows are in the wrong part, or missing.", case=told)
    empty = _parts(answer, rows.iloc[:0], cut, now)
    expect_same(empty, [[], []], "No rows, no parts.", case="the index of the parts of no rows")


def _questions(asked: list[str], origin: str | list[str] = "JFK", index: list | None = None) -> pd.DataFrame:
    when = pd.DatetimeIndex([at(text) for text in asked], tz="UTC")
    rows = pd.DataFrame({"origin": origin, "asked": when, "scheduled_departure": when + LEAD}, index=index)
    return rows.rename_axis(None)


def _readings(visib: dict[str, float | None], origin: str = "JFK") -> pd.DataFrame:
    hours = pd.DatetimeIndex([at(text) for text in visib])
    return pd.DataFrame({"origin": origin, "time_hour": hours, "visib": pd.Series([*visib.values()], dtype=float)})


DAY = {"05 09:00": 4.0, "05 10:00": 7.0, "05 11:00": 8.0, "05 12:00": 2.0, "05 13:00": 0.5}
REASONS = {  # what came of a question at 12:30 about that day, where 4 is right
    2.0: "The reading filed under 12:00 was used at 12:30: it becomes available an hour after its hour.",
    0.5: "Readings of the hours before departure were used, and at the question they are the future.",
    8.0: "That is the last of the three readings, and the highest: look for the lowest.",
    7.0: "The reading filed under 9:00 was left out: it became available at 10:00, which is in the window.",
}
WINDOWS = {  # words: when a flight at JFK asks, its readings by hour, the lowest that counts
    "Nothing was available yet, so the value is missing: fill nothing.": [("05 09:59", DAY, None)],
    "That reading is too old.": [("05 20:00", DAY, None)],
    "The window goes back three hours from the question, not from the last reading.":
        [("05 13:30", {"05 08:00": 1.0, "05 10:00": 9.0}, 9.0)],
    "What becomes available at the very moment of the question is known.": [("05 13:00", DAY, 2.0)],
    "A reading that became available exactly three hours before the question is too old.":
        [("05 13:00", {"05 09:00": 1.0, "05 10:00": 6.0}, 6.0)],
    "A reading that became available less than three hours before the question counts.":
        [("05 12:59", {"05 09:00": 1.0, "05 10:00": 6.0}, 1.0)],
    "The window may begin on the day before.": [("06 00:30", {"05 22:00": 1.0, "05 23:00": 5.0}, 1.0)],
    "A reading without a value does not count: it is not 0, and the others count.":
        [("05 12:30", {"05 10:00": 3.0, "05 11:00": None}, 3.0),
         ("05 12:30", {"05 10:00": None, "05 11:00": 3.0}, 3.0)],
    "If no reading has a value, the result is missing.": [("05 12:30", {"05 10:00": None}, None)],
    "A visibility of 0 is a value: it is the lowest there is.": [("05 12:30", {"05 10:00": 0.0, "05 11:00": 3.0}, 0.0)],
    "A visibility may be a part of a mile: round nothing.": [("05 12:30", {"05 10:00": 0.25, "05 11:00": 3.0}, 0.25)],
}  # fmt: skip


@check(
    "When did each reading become known? Compute that time first, and compare it with the time of the question.",
    "For one flight, three conditions choose the readings: the airport, not after the question, not too old.",
    "A loop over the flights will do, or a join of all pairs by airport. `Series.min` leaves missing values out.",
)
def lowest_visibility(answer):
    """Each flight gets the lowest visibility of its airport that was known, of the three hours before the question."""

    def ask(rows: pd.DataFrame, weather: pd.DataFrame, values: list[float | None], words: str, *, case: str) -> None:
        fails = f"It fails on {case.removesuffix(',')}."
        came = result(answer, rows, weather, case=case, hint=fails, kind=pd.Series, give="a series")
        if words in REASONS.values():
            words = REASONS.get(
                came.iloc[0] if len(came) else 0, "The window at 12:30 has the readings 4, 7 and 8: give the lowest."
            )
        expect_same(came, pd.Series(values, index=rows.index, dtype=float), words, case=case)

    def one(asked: str, readings: dict, lowest: float | None, words: str) -> None:
        known = [f"{value} at {at(hour) + WEATHER_DELAY:%H:%M}" for hour, value in readings.items()]
        case = f"a question at {asked[3:]}, with readings available ({', '.join(known)}),"
        ask(_questions([asked], index=[41]), _readings(readings), [lowest], words, case=case)

    day = _readings(DAY)
    one("05 12:30", DAY, 4.0, REASONS[2.0])
    for words, cases in WINDOWS.items():
        for case in cases:
            one(*case, words)
    both = pd.concat([_readings({"05 10:00": 8.0}), _readings({"05 10:00": 1.0}, "LGA")], ignore_index=True)
    words = "That is the reading of another airport: each flight has its own."
    ask(_questions(["05 12:30"]), both, [8.0], words, case="a question at JFK, with fog at LGA,")
    ask(_questions(["05 12:30"], "EWR"), both, [None], words, case="a question at EWR, which has no reading,")
    case = "questions at JFK, LGA and EWR"
    ask(_questions(["05 12:30"] * 3, ["JFK", "LGA", "EWR"]), both, [8.0, 1.0, None], words, case=case)
    mixed = _questions(["05 14:30", "05 11:30", "05 12:30"], index=[7, 3, 5])
    words = "Each value belongs to the flight whose index it has: mind the order of the rows."
    weather = day.sample(frac=1, random_state=1)
    ask(mixed, weather, [0.5, 4.0, 4.0], words, case="questions at 14:30, 11:30 and 12:30")
    words = "Labels of the index may repeat: give one value for each row."
    ask(mixed.set_axis([7, 7, 5]), weather, [0.5, 4.0, 4.0], words, case="questions whose labels are 7, 7, 5")
    words = "Two flights may ask at the same moment."
    ask(_questions(["05 11:30", "05 11:30"]), day, [4.0, 4.0], words, case="two questions at 11:30")
    ask(_questions([]), day, [], "Without a flight, give an empty series.", case="a table without flights")
    ask(_questions(["05 12:30"]), day.iloc[:0], [None], "Without a reading, the value is missing.", case="no weather")
    rows = _asked()[["origin", "asked", "scheduled_departure"]].head(150)
    weather = august()["weather"][["origin", "time_hour", "visib"]]
    weather = weather[weather["time_hour"].between(at("04 20:00"), at("07 12:00"))].sample(frac=0.6, random_state=2)
    known = weather.assign(known=weather["time_hour"] + WEATHER_DELAY)
    lowest = []
    for row in rows.itertuples():
        of_airport = known[known["origin"] == row.origin].set_index("known").sort_index()
        lowest.append(of_airport.loc[row.asked - pd.Timedelta("2h59min59s") : row.asked, "visib"].min())
    ask(rows, weather, lowest, "Some are wrong.", case="150 real flights of August")


CALLS = {  # words: origins, delays, values; in history JFK has the mean 20, LGA 2.5, BOS 7 and all 12
    "Give the delay minus the mean delay of the airport in history.":  # which is that of these rows, too
        [(["JFK"] * 3, [26.0, 19.0, 15.0], [6.0, -1.0, -5.0])],
    "Alone, a flight got another value than in a batch: what is usual comes from history, not from the rows.":
        [(["JFK"], [25.0], [5.0])],
    "A call depends on the calls before it: what is usual comes from history, and never changes.":
        [(["JFK"], [22.0], [2.0])],
    "Each airport has the mean of its known delays in history, also if they are below 0, or only one. Round nothing.":
        [(["JFK", "LGA", "JFK", "BOS"], [25.0, 2.5, 300.0, 4.0], [5.0, 0.0, 280.0, -3.0])],
    "A delay of 0 is a delay: the flight was on time.": [(["JFK"], [0.0], [-20.0])],
    "A flight that left early has a delay below 0.": [(["JFK"], [-5.0], [-25.0])],
    "Keep all digits of a delay.": [(["JFK"], [20.25], [0.25])],
    "An airport that history does not know is compared with the mean of all known delays of history.":
        [(["EWR"], [20.0], [8.0]), (["EWR"], [0.0], [-12.0])],
    "A delay that is missing gives 0, whatever the airport and the rest of the batch are.":
        [(["JFK", "JFK", "EWR"], [None, 100.0, None], [0.0, 80.0, 0.0]), (["JFK"], [None], [0.0])],
    "No rows, no values.": [([], [], [])],
}  # fmt: skip


@check(
    "Which numbers does the service need? When are they computed?",
    "Compute them before the inner function begins; the inner one only looks them up.",
    "`map` of an airport that is not in the table of means gives a missing value: what stands in for it?",
)
def compared(answer):
    """A flight gets the same value alone as in a batch, for airports and delays that are missing, too."""
    origins = ["JFK", "JFK", "JFK", "LGA", "LGA", "LGA", "BOS"]
    delays = [10.0, 14.0, 36.0, -6.0, 11.0, None, 7.0]
    history = pd.DataFrame({"origin": origins, "delay": delays}, index=[4, 9, 2, 7, 5, 1, 3])
    own = inspect.unwrap(answer)  # which is handed this very table, not a copy, so that it can be changed below
    feature = attempt(lambda: [answer(history), own(history)][1], hint="compared fails on a history of seven flights.")
    kind = type(feature).__name__
    expect(callable(feature), f"compared gives a function that the service can call. A {kind} came.")

    def ask(origin: list[str], delay: list[float | None], expected: list[float], words: str, case: str = "") -> None:
        case = case or f"{origin} with delays {delay} (means: JFK 20, LGA 2.5, BOS 7, all 12)"
        index = [7 * n % 11 for n in range(3, 3 + len(origin))]
        rows = pd.DataFrame({"origin": origin, "delay": pd.Series(delay, dtype=float).to_numpy()}, index=index)
        before = rows.copy()
        came = attempt(lambda: feature(rows), hint=f"The function that compared gives fails on {case}.")
        expect(came is not None, "The function that compared gives returns nothing: it needs a `return`, too.")
        expect(rows.equals(before), "The rows came back changed: work on a copy, somebody else still needs them.")
        expect_same(came, pd.Series(expected, index=index, dtype=float), words, case=case)

    for words, rows in CALLS.items():
        for row in rows:
            ask(*row, words)
    answer(pd.DataFrame({"origin": ["LGA"], "delay": [90.0]}))
    words = "A second call of compared changed the function of the first: keep what is usual in the function."
    ask(["LGA"], [7.0], [4.5], words, "LGA (mean 2.5) with 7, after compared was called with another history,")
    history["delay"] = np.nan
    gone = "In the service the table of history is gone: compute what is usual once, before the inner function."
    two = pd.DataFrame({"origin": ["JFK", "EWR"], "delay": [25.0, 20.0]})
    case = "JFK with a delay of 25 and EWR with 20, after the delays of that table were removed,"
    expect_same(attempt(lambda: feature(two), hint=gone), pd.Series([5.0, 8.0]), gone, case=case)
    feature = answer(
        pd.DataFrame({"origin": ["JFK", "LGA", "LGA", "EWR", "EWR"], "delay": [None, 4.0, 8.0, -5.0, 5.0]})
    )
    words = "An airport whose delays in history are all missing has no mean of its own: the mean of all stands in."
    ask(["JFK"], [7.0], [4.0], words, "such an airport with 7 (all: 3)")
    ask(["EWR"], [7.0], [7.0], "A mean of 0 is a mean.", "EWR (mean 0, all: 3) with 7")
    _compared_on_real_flights(answer)


def _compared_on_real_flights(answer: Callable) -> None:
    real = august()["flights"][["origin", "dep_delay"]].rename(columns={"dep_delay": "delay"})
    real = real.astype({"delay": float}).sample(frac=1, random_state=5)
    feature, batch = answer(real.head(500)), real.tail(300)
    together = feature(batch.copy())
    single = pd.concat([feature(batch.iloc[[place]]) for place in range(0, 300, 20)])
    words = "One row alone and the same row in a batch differ, on real flights of August."
    expect_same(together.iloc[::20], single, words, case="the batch")
    mean = real.head(500).groupby("origin")["delay"].mean()
    expected = (batch["delay"] - batch["origin"].map(mean)).fillna(0.0)
    expect_same(together, expected, "Some values are wrong.", case="300 real flights of August")


@check(
    "Build the features twice: from the tables as they are, and from the tables as somebody saw them at the instant.",
    "`tables_as_of` masks what came later. Compare only the rows that had asked by then.",
    "`!=` is true where both sides are missing. Take these out, and ask of each column whether anything is left.",
)
def leaking(answer):
    """Leaks are named, in aggregates and in missing values, too; honest features are let through."""

    def ask(
        words: str, case: str, make: Callable, expected: list[str], tables: str = "some", instant: str = "05 16:00"
    ) -> None:
        def build(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
            when = when_of(tables)
            return pd.DataFrame({"prediction_time": when["prediction_time"], **make(tables["flights"], when)})

        fails, give = f"leaking fails on {case}.", "a list of names of columns"
        came = result(answer, build, tables_of(tables), at(instant), case=case, hint=fails, kind=list, give=give)
        told = f"Of {case} it named {came}, expected {expected}."
        expect(
            "prediction_time" not in came, "`prediction_time` is no feature: it says when a row is asked.", case=told
        )
        expect(sorted(map(str, came)) == sorted(expected), words, case=told)

    for words, case in LEAKS.items():
        ask(words, *case)
