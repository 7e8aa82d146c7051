"""Checks of features: purged splits, as-of joins, one code path, and a finder of leaks."""

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

__all__ = ["YourTurn", "compared", "hint", "last_reading", "leaking", "split", "summary"]

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
    """Some flights of these two days, shuffled: when the desk asks, and when the label came."""
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
    words = "A row that asks at the cut or later is trained on: the parts follow the clock, not chance."
    expect(not FUTURE & set(train), words)
    expect(not set(test) - FUTURE, "A row that asked before the cut is tested on: its question chooses its part.")
    words = "A row whose label is missing got into a part: whoever never landed has no label, late or not."
    expect("never landed" not in train and "cancelled after" not in test, words)
    words = "A label that came after the cut is trained on: such a row is purged, and in neither part."
    expect(not {"the evening before", "slow"} & set(train), words)
    words = "A label that is not there yet is tested on: at `now` nobody can say whether that answer was right."
    expect(not {"still in the air", "asked now"} & set(test), words)
    words = "Rows whose label was there before the cut are left out: the gap has no fixed length, the label says."
    expect({"long before", "the morning before"} <= set(train), words)
    expect("labelled at the cut" in train, "A label that comes at the very cut is known at the cut: compare with <=.")
    expect("asked at the cut" in test, "A question at the very cut belongs to the future: compare with >=.")
    expect("labelled now" in test, "A label that comes at the very `now` is known by then: compare with <=.")
    expect("after" in test, "A row that asked after the cut and has its label is missing from the test.")
    order = [name for name in rows.index if name in train], [name for name in rows.index if name in test]
    expect((train, test) == order, "Leave the rows in the order in which they came.")
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
    when = pd.DatetimeIndex([_at(text) for text in asked])
    rows = pd.DataFrame({"origin": origin, "asked": when, "scheduled_departure": when + LEAD}, index=index)
    return rows.rename_axis(None)


def _readings(visib: dict[str, float | None], origin: str = "JFK") -> pd.DataFrame:
    hours = pd.DatetimeIndex([_at(text) for text in visib])
    return pd.DataFrame({"origin": origin, "time_hour": hours, "visib": pd.Series([*visib.values()], dtype=float)})


@check(
    "When was each reading available? Give the weather a column that says so, and join on that.",
    "`features.as_of` of the lesson joins as of a moment; it also knows groups and a greatest age.",
    "`pd.merge_asof` wants both sides sorted by time: afterwards bring the rows back into their order and index.",
)
def last_reading(answer):
    """Each flight gets the last reading that was available at its airport, none that came later and none too old."""
    day = _readings({"05 10:00": 10.0, "05 11:00": 3.0, "05 12:00": 0.5, "05 14:00": 0.2, "05 15:00": 7.0})
    fails, kind = "last_reading fails on one flight and five readings.", {"kind": pd.Series, "give": "a series"}
    came = result(answer, _questions(["05 12:30"], index=[41]), day, case="One value a flight.", hint=fails, **kind)
    expect_same(list(came.index), [41], "Give one value a flight, with the index of the flights.", case="Its index")
    reasons = {
        0.5: "The reading filed under 12:00 was used at 12:30: it becomes available an hour after its hour.",
        0.2: "The reading of the departure hour was used: it came after the question.",
        7.0: "The last reading of the airport was used: most of the table comes after the question.",
    }
    words = reasons.get(came.iloc[0], "Which of the readings of 10, 11, 12, 14 and 15 o'clock were available at 12:30?")
    expect_same(came, pd.Series([3.0], index=[41]), words, case="A question at 12:30")

    def ask(rows: pd.DataFrame, weather: pd.DataFrame, values: list[float | None], words: str, *, case: str) -> None:
        expected = pd.Series(values, index=rows.index, dtype=float)
        expect_same(answer(rows, weather), expected, words, case=case)

    words = "What becomes available at the very moment of the question is known."
    ask(_questions(["05 12:00"]), day, [3.0], words, case="A question at 12:00")
    words = "The table has gaps: the last reading may be hours old, so do not ask for the one of a certain hour."
    one = _readings({"05 10:00": 4.0})
    ask(_questions(["05 14:30"]), one, [4.0], words, case="A question at 14:30, last at 11:00,")
    both = pd.concat([_readings({"05 09:00": 8.0}), _readings({"05 10:00": 1.0}, "LGA")], ignore_index=True)
    words = "That is the reading of another airport: each flight has its own."
    ask(_questions(["05 12:30"]), both, [8.0], words, case="A question at JFK after a later reading of LGA")
    ask(_questions(["05 12:30"], "EWR"), both, [None], words, case="A question at EWR, which has no reading,")
    words = "Nothing was available yet, so the value is missing."
    ask(_questions(["05 09:59"]), day, [None], words, case="A question before the first reading")
    words = "A reading that became available six hours before the question is not too old."
    ask(_questions(["05 22:00"]), day, [7.0], words, case="A question at 22:00, last available at 16:00,")
    words = "That reading is older than six hours, counted from when it became available: the value is missing."
    ask(_questions(["05 22:01"]), day, [None], words, case="A question at 22:01, last available at 16:00,")
    words = "The last reading came without a value, so the value is missing: an older one is not the last."
    silent = _readings({"05 10:00": 10.0, "05 11:00": None})
    case = "A question at 12:30, where the reading of 11:00 is empty,"
    ask(_questions(["05 12:30"]), silent, [None], words, case=case)
    mixed = _questions(["05 15:30", "05 11:30", "05 12:30"], index=[7, 3, 5])
    words = "Each value belongs to the flight whose index it has: mind the order of the rows."
    weather = day.sample(frac=1, random_state=1)
    ask(mixed, weather, [0.2, 10.0, 3.0], words, case="Questions at 15:30, 11:30 and 12:30")
    rows = _asked()[["origin", "asked", "scheduled_departure"]]
    weather = _august()["weather"][["origin", "time_hour", "visib"]]
    weather = weather[weather["time_hour"].between(_at("04 20:00"), _at("07 12:00"))].sample(frac=1, random_state=2)
    stamped = weather.assign(available=weather["time_hour"] + WEATHER_DELAY)
    by = {"at": "asked", "available": "available", "columns": ["visib"], "by": "origin"}
    expected = features.as_of(rows, stamped, **by, max_age=pd.Timedelta("6h"))["visib"]
    expect_same(answer(rows, weather), expected, "Some are wrong.", case="400 real flights of August")


@check(
    "Which numbers does the service need, and when are they computed?",
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
    expect(callable(feature), f"compared gives a function that the service can call; a {kind} came.")

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
    words = "Alone, a flight got another value than in a batch: what is usual comes from history, never from the rows."
    ask(["JFK"], [25.0], [5.0], words, case="JFK (mean 20) with a delay of 25, alone,")
    words = "Each airport has its own mean, whatever else is in the batch; unknown delays of history count for nothing."
    case = "JFK (mean 20) and LGA (mean 2), delays of 25, 2, 300, 5"
    ask(["JFK", "LGA", "JFK", "LGA"], [25.0, 2.0, 300.0, 5.0], [5.0, 0.0, 280.0, 3.0], words, case=case)
    words = "An airport that history does not know is compared with the mean of all known delays of history."
    ask(["EWR"], [15.5], [0.0], words, case="EWR with a delay of 15.5 (mean of all)")
    ask(["EWR"], [0.0], [-15.5], words, case="EWR with a delay of 0")
    words = "A delay that is missing gives 0, nothing unusual, whatever the airport and the rest of the batch."
    case = "JFK missing, JFK 100 and EWR missing"
    ask(["JFK", "JFK", "EWR"], [None, 100.0, None], [0.0, 80.0, 0.0], words, case=case)
    ask(["JFK"], [None], [0.0], words, case="JFK with a missing delay, alone,")
    ask([], [], [], "No rows, no values.", case="a table without rows")
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
    known = instants(tables["flights"], tables["airports"])
    return known.assign(prediction_time=known["scheduled_departure"] - LEAD)


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

    def ask(case: str, make: Callable, expected: list[str], words: str, *, tables: dict = fifty) -> None:
        def build(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
            when = _when(tables)
            return pd.DataFrame({"prediction_time": when["prediction_time"], **make(tables["flights"], when)})

        fails, give = f"leaking fails on {case}.", "a list of names of columns"
        came = result(answer, build, tables, instant, case=case, hint=fails, kind=list, give=give)
        told = f"Of {case} it named {came}, expected {expected}."
        expect(sorted(map(str, came)) == sorted(expected), words, case=told)

    words = "The delay at departure changes when the future is taken away: mask the tables, do not drop their rows."
    case = "a column with the delay at departure, 0 where there is none"
    ask(case, lambda rows, when: {"delay": rows["dep_delay"].fillna(0)}, ["delay"], words)
    words = "A delay that goes missing when the future is taken away has changed: missing on one side only is a change."
    ask("a column with the delay at departure", lambda rows, when: {"delay": rows["dep_delay"]}, ["delay"], words)
    words = "The timetable is known: nothing of it changes."
    ask("a column with the distance", lambda rows, when: {"distance": rows["distance"]}, [], words)

    ask("two columns of the timetable with missing values", _with_gaps, [], "Missing in both is no change.")
    words = "A row that asked after the instant may change: nobody had asked it yet."
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
    words = "The same number as an integer and as a decimal is no change: compare values, not kinds of columns."

    def turned(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"hour": rows["hour"].where(rows["dep_delay"].notna() | (when["prediction_time"] <= instant))}

    ask("hours that are integers until later rows are missing", turned, [], words)
    words = "A tiny change is a change: a tree may branch right there, so compare exactly."
    case = "distances with a trace of the delay"
    ask(case, lambda rows, when: {"far": rows["distance"] + rows["dep_delay"].fillna(0.5) * 1e-6}, ["far"], words)
    words = "A row that asks at the very instant counts: its answer is given then."

    def one(rows: pd.DataFrame, when: pd.DataFrame) -> dict:
        return {"delay": rows["dep_delay"].where(when["prediction_time"] == instant)}

    then = _when(everything)["prediction_time"] == instant
    exact = {**everything, "flights": everything["flights"][then]}
    ask("flights that ask at the instant", one, ["delay"], words, tables=exact)
