"""Checks of features: purged splits, windows before the question, one code path, and a finder of leaks."""

import functools
import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, result
from mlops_course.development import features
from mlops_course.flights.timeline import WEATHER_DELAY, instants

__all__ = ["YourTurn", "compared", "hint", "leaking", "lowest_visibility", "split", "summary"]

LEAD = pd.Timedelta("2h")


def _at(text: str) -> pd.Timestamp:
    """A day and time of August 2013, UTC, such as "05 12:30"."""
    return pd.Timestamp(f"2013-08-{text}", tz="UTC")


@functools.cache
def _august() -> dict[str, pd.DataFrame]:
    """Two days of August 2013 and what the tables say about them."""
    tables = flights.read(["2013-08"])
    days = tables["flights"]["time_hour"].between(_at("05 04:00"), _at("07 04:00"), inclusive="left")
    return {**tables, "flights": tables["flights"][days]}


@functools.cache
def _asked() -> pd.DataFrame:
    """Some flights of these two days, shuffled: when the desk asked, and when the label came."""
    rows = _august()["flights"]
    when = instants(rows, _august()["airports"])
    rows = rows[["origin"]].assign(
        asked=when["scheduled_departure"] - LEAD,
        scheduled_departure=when["scheduled_departure"],
        labelled=when["arrived"],
    )
    return rows.sample(400, random_state=4)


MOMENTS = {  # row: when it asked, and when its label came, in August; the cut is the 12th, now is the 20th
    "long before": ("05 10:00", "05 15:00"),
    "the evening before": ("11 22:00", "12 03:00"),
    "the morning before": ("11 06:00", "11 11:00"),
    "labelled at the cut": ("11 19:00", "12 00:00"),
    "slow": ("01 10:00", "14 10:00"),
    "never landed": ("06 10:00", None),
    "asked at the cut": ("12 00:00", "12 05:00"),
    "after": ("15 10:00", "15 15:00"),
    "labelled now": ("19 19:00", "20 00:00"),
    "still in the air": ("19 22:00", "20 03:00"),
    "cancelled after": ("16 10:00", None),
    "asked now": ("20 00:00", "20 06:00"),
}


FUTURE = {"asked at the cut", "after", "labelled now", "still in the air", "cancelled after", "asked now"}


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
    cut, now = _at("12 00:00"), _at("20 00:00")
    moments = [(_at(asked), label and _at(label)) for asked, label in MOMENTS.values()]
    rows = pd.DataFrame(moments, columns=["asked", "labelled"], index=list(MOMENTS)).sample(frac=1, random_state=3)
    train, test = attempt(lambda: _parts(answer, rows, cut, now), hint="split fails on twelve flights around a cut.")
    strange = (set(train) | set(test)) - set(MOMENTS)
    expect(not strange, f"Keep the index of the rows: the labels {sorted(map(str, strange))} did not come in.")
    words = "A row that was asked at the cut or later is trained on: the parts follow the clock, not chance."
    expect(not FUTURE & set(train), words)
    expect(
        not set(test) - FUTURE,
        "A row that was asked before the cut is tested on: the time of its question chooses its part.",
    )
    words = "A row whose label is missing got into a part: a flight that never landed has no label."
    expect("never landed" not in train and "cancelled after" not in test, words)
    words = "A label that came after the cut is trained on: such a row is purged, and in neither part."
    expect(not {"the evening before", "slow"} & set(train), words)
    words = "A label that is not there yet is tested on: at `now` nobody knows it."
    expect(not {"still in the air", "asked now"} & set(test), words)
    words = "Rows whose label was there before the cut are left out: the gap has no fixed length. Ask `labelled`."
    expect({"long before", "the morning before"} <= set(train), words)
    expect("labelled at the cut" in train, "A label that comes at the very cut is known at the cut: compare with <=.")
    expect("asked at the cut" in test, "A question at the very cut belongs to the future: compare with >=.")
    expect("labelled now" in test, "A label that comes at the very `now` is known by then: compare with <=.")
    expect("after" in test, "A row that was asked after the cut and has its label is missing from the test.")
    order = [name for name in rows.index if name in train], [name for name in rows.index if name in test]
    expect((train, test) == order, "Keep the rows in the order in which they came.")
    real = _asked()[["asked", "labelled"]]
    slow = real.assign(labelled=real["asked"] + pd.to_timedelta(np.arange(len(real)) % 30, unit="h"))
    cut, now = _at("06 04:00"), _at("07 00:00")
    for table, case in ((real, "400 real flights"), (slow, "400 flights with labels after up to 29 hours")):
        before = table["asked"] < cut
        ours = table.index[before & (table["labelled"] <= cut)], table.index[~before & (table["labelled"] <= now)]
        for name, came, right in zip(("train", "test"), _parts(answer, table, cut, now), ours, strict=True):
            told = f"Of {case}, {len(came)} are in {name}, expected {len(right)}."
            expect(came == right.tolist(), "Some rows are in the wrong part, or missing.", case=told)
    empty = _parts(answer, rows.iloc[:0], cut, now)
    expect_same(empty, [[], []], "No rows, no parts.", case="the index of the parts of no rows")


def _questions(asked: list[str], origin: str | list[str] = "JFK", index: list | None = None) -> pd.DataFrame:
    when = pd.DatetimeIndex([_at(text) for text in asked], tz="UTC")
    rows = pd.DataFrame({"origin": origin, "asked": when, "scheduled_departure": when + LEAD}, index=index)
    return rows.rename_axis(None)


def _readings(visib: dict[str, float | None], origin: str = "JFK") -> pd.DataFrame:
    hours = pd.DatetimeIndex([_at(text) for text in visib])
    return pd.DataFrame({"origin": origin, "time_hour": hours, "visib": pd.Series([*visib.values()], dtype=float)})


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
        expect_same(came, pd.Series(values, index=rows.index, dtype=float), words, case=case)

    day = _readings({"05 09:00": 4.0, "05 10:00": 6.0, "05 11:00": 8.0, "05 12:00": 2.0, "05 13:00": 0.5})
    reasons = {
        2.0: "The reading filed under 12:00 was used at 12:30: it becomes available an hour after its hour.",
        0.5: "Readings of the hours before departure were used, and at the question they are the future.",
        8.0: "That is the last reading: look for the lowest of the last three hours.",
    }
    case = "a question at 12:30 after readings of 4, 6, 8 miles, known from 10:00, 11:00 and 12:00 on,"
    fails, kind = f"It fails on {case[:-1]}.", {"kind": pd.Series, "give": "a series"}
    came = result(answer, _questions(["05 12:30"]), day, case=case, hint=fails, **kind)
    words = reasons.get(came.iloc[0] if len(came) else 0, "Which readings became available from 9:31 to 12:30?")
    ask(_questions(["05 12:30"], index=[41]), day, [4.0], words, case=case)

    words = "That reading is too old."
    ask(_questions(["05 20:00"]), day, [None], words, case="a question at 20:00, last available at 14:00,")
    words = "The window goes back three hours from the question, not from the last reading."
    gap = _readings({"05 08:00": 1.0, "05 10:00": 9.0})
    ask(_questions(["05 13:30"]), gap, [9.0], words, case="a question at 13:30, readings known at 9:00 and 11:00,")
    words = "What becomes available at the very moment of the question is known."
    ask(_questions(["05 13:00"]), day, [2.0], words, case="a question at 13:00, when a reading of 2 came,")
    words = "A reading that became available exactly three hours before the question is too old."
    two = _readings({"05 09:00": 1.0, "05 10:00": 6.0})
    ask(_questions(["05 13:00"]), two, [6.0], words, case="a question at 13:00, known at 10:00 and 11:00,")
    words = "A reading that became available less than three hours before the question counts."
    ask(_questions(["05 12:59"]), two, [1.0], words, case="a question at 12:59, known at 10:00 and 11:00,")
    words = "Nothing was available yet, so the value is missing."
    ask(_questions(["05 09:59"]), day, [None], words, case="a question before the first reading")
    both = pd.concat([_readings({"05 10:00": 8.0}), _readings({"05 10:00": 1.0}, "LGA")], ignore_index=True)
    words = "That is the reading of another airport: each flight has its own."
    ask(_questions(["05 12:30"]), both, [8.0], words, case="a question at JFK, with fog at LGA,")
    ask(_questions(["05 12:30"], "EWR"), both, [None], words, case="a question at EWR, which has no reading,")
    case = "questions at JFK, LGA and EWR"
    ask(_questions(["05 12:30"] * 3, ["JFK", "LGA", "EWR"]), both, [8.0, 1.0, None], words, case=case)
    words = "A reading without a value does not count, and the others do."
    silent = _readings({"05 10:00": 3.0, "05 11:00": None})
    ask(_questions(["05 12:30"]), silent, [3.0], words, case="a question where the last reading is empty")
    silent = _readings({"05 10:00": None, "05 11:00": 3.0})
    ask(_questions(["05 12:30"]), silent, [3.0], words, case="a question where the first reading is empty")
    words = "If no reading has a value, the result is missing."
    ask(_questions(["05 12:30"]), silent.head(1), [None], words, case="a question after one empty reading")
    words = "A visibility of 0 is a value: it is the lowest there is."
    fog = _readings({"05 10:00": 0.0, "05 11:00": 3.0})
    ask(_questions(["05 12:30"]), fog, [0.0], words, case="a question in thick fog")
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
    weather = _august()["weather"][["origin", "time_hour", "visib"]]
    weather = weather[weather["time_hour"].between(_at("04 20:00"), _at("07 12:00"))].sample(frac=0.6, random_state=2)
    known = weather.assign(known=weather["time_hour"] + WEATHER_DELAY)
    lowest = []
    for row in rows.itertuples():
        of_airport = known[known["origin"] == row.origin].set_index("known").sort_index()
        lowest.append(of_airport.loc[row.asked - pd.Timedelta("2h59min59s") : row.asked, "visib"].min())
    ask(rows, weather, lowest, "Some are wrong.", case="150 real flights of August")


@check(
    "Which numbers does the service need? When are they computed?",
    "Compute them before the inner function begins; the inner one only looks them up.",
    "`map` of an airport that is not in the table of means gives a missing value: what stands in for it?",
)
def compared(answer):
    """A flight gets the same value alone as in a batch, for airports and delays that are missing, too."""
    delays = [10.0, 20.0, 30.0, 2.0, None]
    history = pd.DataFrame({"origin": ["JFK", "JFK", "JFK", "LGA", "LGA"], "delay": delays}, index=[4, 9, 2, 7, 5])
    own = inspect.unwrap(answer)  # which is handed this very table, not a copy, so that it can be changed below
    feature = attempt(lambda: [answer(history), own(history)][1], hint="compared fails on a history of five flights.")
    kind = type(feature).__name__
    expect(callable(feature), f"compared gives a function that the service can call. A {kind} came.")

    def ask(origin: list[str], delay: list[float | None], expected: list[float], words: str, *, case: str) -> None:
        index = [7 * n % 11 for n in range(3, 3 + len(origin))]
        rows = pd.DataFrame({"origin": origin, "delay": pd.Series(delay, dtype=float).to_numpy()}, index=index)
        before = rows.copy()
        came = attempt(lambda: feature(rows), hint="The function that compared gives fails.")
        expect(came is not None, "The function that compared gives returns nothing: it needs a `return`, too.")
        expect(rows.equals(before), "The rows came back changed: work on a copy, somebody else still needs them.")
        expect_same(came, pd.Series(expected, index=index, dtype=float), words, case=case)

    words = "Compare with the mean delay of the airport in history."  # which is that of these rows, too
    ask(["JFK", "JFK"], [25.0, 15.0], [5.0, -5.0], words, case="JFK (mean 20) with delays of 25 and 15")
    words = "Alone, a flight got another value than in a batch: what is usual comes from history, not from the rows."
    ask(["JFK"], [25.0], [5.0], words, case="JFK (mean 20) with a delay of 25, alone,")
    words = "Each airport has its own mean, whatever else is in the batch. Missing delays in history do not count."
    case = "JFK (mean 20) and LGA (mean 2), delays of 25, 2, 300, 5"
    ask(["JFK", "LGA", "JFK", "LGA"], [25.0, 2.0, 300.0, 5.0], [5.0, 0.0, 280.0, 3.0], words, case=case)
    words = "An airport that history does not know is compared with the mean of all known delays of history."
    ask(["EWR"], [15.5], [0.0], words, case="EWR with a delay of 15.5 (mean of all)")
    ask(["EWR"], [0.0], [-15.5], words, case="EWR with a delay of 0")
    words = "A delay that is missing gives 0, whatever the airport and the rest of the batch are."
    case = "JFK missing, JFK 100 and EWR missing"
    ask(["JFK", "JFK", "EWR"], [None, 100.0, None], [0.0, 80.0, 0.0], words, case=case)
    ask(["JFK"], [None], [0.0], words, case="JFK with a missing delay, alone,")
    ask([], [], [], "No rows, no values.", case="a table without rows")
    answer(pd.DataFrame({"origin": ["LGA"], "delay": [90.0]}))
    words = "A second call of compared changed the function of the first: keep what is usual in the function."
    ask(["LGA"], [7.0], [5.0], words, case="LGA (mean 2) with 7, after compared was called with another history,")
    history["delay"] = np.nan
    gone = "In the service the table of history is gone: compute what is usual once, before the inner function."
    one = pd.DataFrame({"origin": ["JFK"], "delay": [25.0]})
    case = "JFK with a delay of 25, after the delays of that table were removed,"
    expect_same(attempt(lambda: feature(one), hint=gone), pd.Series([5.0]), gone, case=case)
    feature = answer(pd.DataFrame({"origin": ["JFK", "LGA", "LGA"], "delay": [None, 4.0, 8.0]}))
    words = "An airport whose delays in history are all missing has no mean of its own: the mean of all stands in."
    ask(["JFK"], [7.0], [1.0], words, case="such an airport with 7 (all: 6)")
    _compared_on_real_flights(answer)


@functools.cache
def _complete() -> dict[str, pd.DataFrame]:
    """Fifty flights of one day that all landed, with their tables."""
    rows = _august()["flights"].dropna(subset=["dep_delay", "arr_delay", "dep_time", "arr_time", "air_time"])
    return {**_august(), "flights": rows[rows["day"] == 5].iloc[::20]}


def _when(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Clocks of the flights, when each is asked, and the visibility at the hours of departure and question."""
    known, hour = instants(tables["flights"], tables["airports"]), ["origin", "time_hour"]
    weather = tables["weather"].set_index(hour)["visib"]
    asked = known["scheduled_departure"] - LEAD
    then = tables["flights"][hour].join(weather, on=hour)["visib"]
    now = tables["flights"][hour].assign(time_hour=asked.dt.floor("h")).join(weather, on=hour)["visib"]
    return known.assign(prediction_time=asked, visibility=then, visibility_now=now)


def _compared_on_real_flights(answer: Callable) -> None:
    real = _august()["flights"][["origin", "dep_delay"]].rename(columns={"dep_delay": "delay"})
    real = real.astype({"delay": float}).sample(frac=1, random_state=5)
    feature, batch = answer(real.head(500)), real.tail(300)
    together = feature(batch.copy())
    single = pd.concat([feature(batch.iloc[[place]]) for place in range(0, 300, 20)])
    words = "One row alone and the same row in a batch differ, on real flights of August."
    expect_same(together.iloc[::20], single, words, case="the batch")
    mean = real.head(500).groupby("origin")["delay"].mean()
    expected = (batch["delay"] - batch["origin"].map(mean)).fillna(0.0)
    expect_same(together, expected, "Some values are wrong.", case="300 real flights of August")


def _left(rows: pd.DataFrame, when: pd.DataFrame, *, available: str = "departed") -> dict:
    """Departures of the last three hours, an honest feature; by the schedule it knows delays of the future."""
    asked = pd.DataFrame({"asked": when["prediction_time"]})
    events, window = when.assign(delay=rows["dep_delay"]), pd.Timedelta("3h")
    found = features.recent(asked, events, at="asked", available=available, window=window, value="delay")
    return {"departures": found["count"], "mean_delay": found["mean"]}


def _with_gaps(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    far = rows["distance"].where(rows["distance"] > 1_000)
    return {"far": far, "plane": rows["tailnum"].where(rows["hour"] > 9)}


def _scheduled(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
    by_schedule = _left(rows, when, available="scheduled_departure")["mean_delay"]
    return {**_left(rows, when), "by_schedule": by_schedule, "carrier": rows["carrier"]}


def _marked(value: float) -> Callable:
    """Columns that hold the value, or an empty text, where a delay is known."""

    def make(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"mark": rows["dep_delay"] * 0 + value, "name": rows["carrier"].where(rows["arr_delay"].isna(), "")}

    return make


@check(
    "Build the features twice: from the tables as they are, and from the tables as somebody saw them at the instant.",
    "`tables_as_of` masks what came later. Compare only the rows that had asked by then.",
    "`!=` is true where both sides are missing. Take these out, and ask of each column whether anything is left.",
)
def leaking(answer):
    """Leaks are named, in aggregates and in missing values, too; honest features are let through."""
    instant, fifty = _at("05 16:00"), _complete()

    def ask(
        case: str, make: Callable, expected: list[str], words: str, *, tables: dict = fifty, at: str = "16:00"
    ) -> None:
        def build(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
            when = _when(tables)
            return pd.DataFrame({"prediction_time": when["prediction_time"], **make(tables["flights"], when)})

        fails, give = f"leaking fails on {case}.", "a list of names of columns"
        came = result(answer, build, tables, _at(f"05 {at}"), case=case, hint=fails, kind=list, give=give)
        told = f"Of {case} it named {came}, expected {expected}."
        expect(sorted(map(str, came)) == sorted(expected), words, case=told)

    words = "The delay at departure changes when the future is taken away: mask later facts, and drop no flights."
    case = "a column with the delay at departure, 0 where there is none"
    ask(case, lambda rows, when: {"delay": rows["dep_delay"].fillna(0)}, ["delay"], words)
    words = "A delay that goes missing when the future is taken away has changed. It is missing on one side only."
    ask("a column with the delay at departure", lambda rows, when: {"delay": rows["dep_delay"]}, ["delay"], words)
    words = "The timetable is known: nothing of it changes."
    ask("a column with the distance", lambda rows, when: {"distance": rows["distance"]}, [], words)

    ask("two columns of the timetable with missing values", _with_gaps, [], "Missing in both is no change.")
    words = "A row that was asked after the instant may change: nobody had asked it yet."
    ask("departures of the last three hours, an honest feature,", _left, [], words)

    words = "The mean delay by schedule uses delays of flights that have not left: compare value by value."
    everything = {**fifty, "flights": _august()["flights"].query("day == 5")}
    case = "the mean delay by schedule and three honest columns"
    ask(case, _scheduled, ["by_schedule"], words, tables=everything)
    words = "A value that goes missing has changed, even 0, -1 or an empty text: ask where it is missing, fill nothing."

    ask("columns that are 0 and '' where a delay is known", _marked(0.0), ["mark", "name"], words)
    ask("columns that are -1 and '' where a delay is known", _marked(-1.0), ["mark", "name"], words)
    words = "A value that was missing and is there when the future is taken away has changed, too."
    case = "a column that is only there while the flight has not left"
    ask(case, lambda rows, when: {"plan": rows["distance"].where(rows["dep_delay"].isna())}, ["plan"], words)
    words = "The same number as an integer and as a decimal is no change: compare values, not types of columns."

    def turned(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"hour": rows["hour"].where(rows["dep_delay"].notna() | (when["prediction_time"] <= instant))}

    ask("hours that are integers until later rows are missing", turned, [], words)
    words = "A tiny change is a change: a tree may branch right there, so compare exactly."
    case = "distances with a trace of the delay"
    ask(case, lambda rows, when: {"far": rows["distance"] + rows["dep_delay"].fillna(0.5) * 1e-6}, ["far"], words)
    words = "A row that is asked at the very instant counts: its answer is given then."

    def one(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"delay": rows["dep_delay"].where(when["prediction_time"] == instant)}

    then = _when(everything)["prediction_time"] == instant
    exact = {**everything, "flights": everything["flights"][then]}
    ask("flights that ask at the instant", one, ["delay"], words, tables=exact)
    words = "The visibility of the departure hour is a leak, too: the weather has a future, as the flights have."
    case = "the visibility of the departure hour"
    ask(case, lambda rows, when: {"visibility": when["visibility"]}, ["visibility"], words)
    words = "A reading becomes available an hour after its hour: `tables_as_of` knows that."
    case = "the visibility of the hour of the question"
    ask(case, lambda rows, when: {"visibility": when["visibility_now"]}, ["visibility"], words, at="16:40")
    words = "A row counts however long before the instant it was asked."

    def early(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"delay": rows["dep_delay"].where(when["prediction_time"] < instant - pd.Timedelta("1h"))}

    ask("delays of rows that were asked over an hour before the instant", early, ["delay"], words)
    words = "The timetable is known, with the flights that are asked about later: drop none of them."
    case = "the number of flights that the carrier has planned for the day"
    ask(case, lambda rows, when: {"planned": rows.groupby("carrier")["hour"].transform("size")}, [], words)
