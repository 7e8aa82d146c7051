"""Checks of drift: a column of categories, an unusual week, damage with an interval, columns that came apart."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import result
from mlops_course.operations.monitoring import drift

__all__ = ["YourTurn", "as_large", "hint", "psi", "since", "summary", "verdict"]


@functools.cache
def _weather() -> pd.DataFrame:
    """Hourly readings of the three airports from January to April, with the day and the Monday of each."""
    weather = flights.read(["2013-01", "2013-02", "2013-03", "2013-04"])["weather"]
    weather = weather.dropna(subset=["temp", "dewp", "humid"]).sort_values(["time_hour", "origin"], ignore_index=True)
    day = weather["time_hour"].dt.tz_localize(None).dt.floor("D")
    monday = drift.windows(day, width=pd.Timedelta("7D"))
    return weather[["temp", "dewp", "humid", "wind_speed"]].assign(day=day, monday=monday)


# A column of categories -----------------------------------------------------------------------------------------------


def _parts(before: Sequence, now: Sequence) -> dict:
    known = {value for value in before if not pd.isna(value)}

    def counts(values: Sequence) -> Counter:
        return Counter("missing" if pd.isna(value) else value if value in known else "new" for value in values)

    then, today = counts(before), counts(now)
    parts = {}
    for name in {*then, *today}:
        p, q = max(then[name], 0.5) / len(before), max(today[name], 0.5) / len(now)
        parts[name] = float((q - p) * np.log(q / p))
    return parts


@check(
    "Which bins are there? Only `before` decides. Where does a category go that `before` does not have?",
    'Replace what is missing by "missing" and what `before` does not have by "new"; then count with `value_counts`.',
    "`reindex` on the names of both sides, with 0 for what is not there; then take at least half a row for each count.",
)
def psi(answer):
    """Each category, all new ones together and the missing values add their part, and nothing is infinite."""

    def ask(before: Sequence, now: Sequence, words: str, *, case: str = "") -> None:
        case = case or f"psi({list(before)}, {list(now)})"
        sides, expected = [pd.Series(side, dtype=object) for side in (before, now)], _parts(before, now)
        came = result(answer, *sides, case=case, kind=dict, give="a dictionary")
        told = f"{case} has the bins {sorted(map(str, came))}, expected {sorted(expected)}."
        empty = {"new", "missing"} & (came.keys() - expected)
        expect(not empty, "A bin that is empty on both sides is left out.", case=told)
        expect(came.keys() == expected.keys(), words, case=told)
        expect_same(came, expected, words, case=case, tolerance=1e-6)

    half = ["AA", "AA", "UA", "UA"]
    ask(half, half, "Nothing has moved, so every part is 0.")
    ask(half, half[::-1], "The order of the rows is no drift.")
    ask(half, ["AA", "UA", "UA", "UA"], "Shares have moved, and no category is new or gone.")
    ask(half, half * 3, "Compare shares and not counts: now there may be more rows.")
    ask(half, ["AA"] * 4, "A category that no longer comes counts as half a row now.")
    ask(half, ["AA", "UA", "DL", "B6"], "All categories that `before` does not have are one bin together.")
    ask(half, ["DL"], 'A bin that `before` lacks, such as "new", counts as half a row there.')
    ask(half, ["AA", "UA", None, None], "Missing values are a bin of their own, and they are no new category.")
    ask(["AA", None, np.nan, "UA"], half, "Values that were missing are there now, and that is a change.")
    ask(["AA", None], ["AA", None], "Missing values on both sides are a bin like the others.")
    ask([None, None], ["AA", None], "If `before` holds no category, each category is new.")
    year = {name: _carriers(name) for name in ("2013-01", "2013-04")}
    case = "psi of the carriers of January and April, some of them missing"
    ask(*year.values(), "The carriers of the real year give other numbers.", case=case)


def _carriers(month: str) -> list:
    carriers = flights.read([month])["flights"]["carrier"].astype(object).tolist()[::20]
    return [None if place % 11 == 0 else carrier for place, carrier in enumerate(carriers) if carrier != "HA"]


# An unusual week ------------------------------------------------------------------------------------------------------


def _as_large(weekly: dict, monday: pd.Timestamp) -> float | None:
    def moved(at: pd.Timestamp) -> float | None:
        before = [weekly.get(at - pd.Timedelta(weeks=back)) for back in (1, 2, 3, 4)]
        return None if None in before else float(drift.drift(weekly[at], sum(before)).loc["x", "psi"])

    index = {at: moved(at) for at in weekly}
    earlier = [index[at] for at in weekly if at < monday and index[at] is not None]
    return float(np.mean([value >= index[monday] for value in earlier])) if earlier else None


@check(
    "What would the answer have been at the end of that week, when nothing was known of later weeks?",
    "Write a function for the PSI of one week first. For which Mondays may it be called?",
    "`drift.trailing(weekly, at, width=...)` also adds up fewer than four weeks. Ask whether all four are in `weekly`.",
    nothing=True,
)
def as_large(answer):
    """Each week is measured against its own four weeks before, and only earlier weeks are compared with it."""
    weather = _weather()

    def ask(weekly: dict, monday: pd.Timestamp, words: str, *, case: str) -> None:
        case = f"as_large on {case}, for the week of {monday:%d %B},"
        came, expected = result(answer, weekly, monday, case=case), _as_large(weekly, monday)
        if came is None or expected is None:
            expect(came is expected, words, case=f"{case} gave {came}, expected {expected}.")
        else:
            expect_same(came, expected, words, case=case)

    words = "Weeks after the one that is asked for have not happened yet."
    eleven = _history(0, 1, 0, 1, 20, 8, 1, 0, 1, 0, 1)
    ask(eleven, list(eleven)[5], words, case="eleven weeks")
    words = "A week is measured against its own four weeks before, and not against the rows that made the bins."
    nine = _history(0, 0, 0, 0, 20, 20, 20, 20, 22)
    ask(nine, list(nine)[8], words, case="nine weeks")
    six = _history(0, 1, 0, 1, 0, 10)
    ask(six, list(six)[5], "The week that is asked for is no earlier week.", case="six weeks")
    words = "No earlier week has four weeks before it, so there is nothing to compare this one with: None."
    ask(six, list(six)[4], words, case="six weeks")
    words = "A week is measured only if all four weeks before it are there. One week is lost in this history."
    lost = _history(0, 1, 0, 1, 3, 9, 0, 1, 9, 0, 1, 0, 1, 2)
    del lost[list(lost)[4]]
    ask(lost, list(lost)[-1], words, case="thirteen of fourteen weeks")
    same = _history(*[0] * 7)
    ask(same, list(same)[6], "A PSI that is as large counts, too.", case="weeks that are all the same")
    real = _weekly(weather["temp"], weather["monday"])
    for at in (6, 9, 12):
        ask(real, list(real)[at], "The temperatures of the real year give another share.", case="the weeks of 2013")


def _history(*levels: float) -> dict:
    """Summaries of weeks of forty values each, which lie around a level."""
    mondays = pd.date_range("2013-06-03", periods=len(levels), freq="7D").repeat(40)
    return _weekly(pd.Series(np.tile(np.arange(40.0), len(levels)) + np.repeat(levels, 40)), pd.Series(mondays))


def _weekly(values: pd.Series, monday: pd.Series) -> dict:
    """Summaries of the values of each week, over the bins of the first week."""
    rows = pd.DataFrame({"x": values, "monday": monday})
    bins = drift.reference(rows[rows["monday"] == rows["monday"].min()], numeric=["x"], categorical=[])
    return drift.summarise_by(rows, bins, window=rows["monday"])


# Damage ---------------------------------------------------------------------------------------------------------------


def _days(extra: Sequence[float], *, sizes: Sequence[int] | None = None) -> pd.DataFrame:
    """Flights of days on which the old model costs so many EUR more per flight than a fresh one, in steps of 0.75."""
    parts = []
    for day, more in enumerate(extra):
        false, size = round(abs(more) / 15 * 20), 20 * (sizes[day] if sizes else 1)
        acts = np.arange(size) % 20 < false
        quiet = np.zeros(size, dtype=bool)
        old, fresh = (acts, quiet) if more >= 0 else (quiet, acts)
        parts.append(pd.DataFrame({"day": f"day {day}", "late": 0.0, "old": old, "fresh": fresh}))
    return pd.concat(parts, ignore_index=True)


@check(
    "Which of the two models is subtracted from which? And what is one observation: a flight, or a day?",
    "Make a column of costs for each model, take the difference, leave out what has no label, and take means by day.",
    "`x.mean() - 2 * x.std() / len(x) ** 0.5` is the lower end; pandas' `std` has the right divisor.",
)
def verdict(answer):
    """A model is worse, not worse or not known, by an interval over days; both models see the same flights."""

    def ask(rows: pd.DataFrame, tolerated: float, expected: str, words: str, *, case: str) -> None:
        came = result(answer, rows, tolerated, case=case, kind=str, give="a text")
        expect(came == expected, words, case=f"{case}, tolerated {tolerated}: it gave {came!r}, expected {expected!r}.")

    steady = _days([3.0, 3.75, 3.0, 3.75, 3.0, 3.75])
    case = "Six days on which the old model costs 3 to 3.75 EUR a flight more"
    ask(steady, 0, "worse", "The whole interval lies above what is tolerated.", case=case)
    ask(steady, 5_000, "not worse", "The whole interval lies below what is tolerated.", case=case)
    ask(steady, 3_300, "not known", "The interval holds what is tolerated, so the days do not tell.", case=case)
    words = "The old model is worse if *it* costs more than the fresh one."
    better = steady.rename(columns={"old": "fresh", "fresh": "old"})
    ask(better, 0, "not worse", words, case="The same days with the two models exchanged")
    words = "A hard day is hard for both models: only what the old one costs more than the fresh one is damage."
    hard = steady.assign(late=1.0, old=False, fresh=False)
    ask(hard, 0, "not worse", words, case="Days on which every flight is late and neither model acts")
    words = "The flights of a day share its weather: count days as observations, and not flights."
    ask(_days([9.0, 0.0, 0.0, 7.5], sizes=[50] * 4), 0, "not known", words, case="Two bad days and two good ones")
    _verdict_costs(ask)
    _verdict_edges(ask)


def _verdict_costs(ask: Callable) -> None:
    """What an error costs, and which flights count."""
    columns = ["day", "late", "old", "fresh"]

    def flights_of(*kinds: tuple[float, bool, bool]) -> pd.DataFrame:
        return pd.DataFrame([[day, *kind] for day in ("mon", "tue", "wed") for kind in kinds], columns=columns)

    words = "A late flight on which nobody acts costs 60 EUR, and acting on a punctual one 15 EUR."
    missed = flights_of((1.0, False, True), (0.0, False, True), (0.0, False, True), (0.0, False, True))
    case = "Of four flights a day the old model misses one, and the fresh one acts on the other three for nothing"
    ask(missed, 3_700, "worse", words, case=case)
    ask(missed, 3_800, "not worse", words, case=case)
    words = "Acting on a late flight costs nothing here, and neither does leaving a punctual one alone."
    right = flights_of((1.0, True, True), (0.0, False, False), (0.0, True, False))
    case = "Of three flights a day the old model acts on one for nothing, and the fresh one makes no error"
    ask(right, 4_900, "worse", words, case=case)
    ask(right, 5_100, "not worse", words, case=case)
    words = "A flight without a label is no punctual flight: leave it out."
    unheard = flights_of((0.0, True, True), (np.nan, True, False))
    case = "Of two flights a day one has no label, and only the old model acts on it"
    ask(unheard, 0, "not worse", words, case=case)
    case = "The same, with another column that is empty"
    ask(right.assign(gate=np.nan), 4_900, "worse", "Only the label decides which flights count.", case=case)
    quiet = _days([3.0, 3.75, 3.0, 3.75])
    quiet.loc[quiet["day"].isin(["day 2", "day 3"]), "late"] = np.nan
    ask(quiet, 3_900, "not known", "A day without any label is left out.", case="Four days, two of them without labels")
    first = _days([0.0, 12.0, 12.0])
    first.loc[first["day"] == "day 0", "late"] = np.nan
    ask(first, 11_000, "worse", "A day without any label is left out.", case="Three days, the first without labels")


def _verdict_edges(ask: Callable) -> None:
    """One day, no row, ends that are equal to what is tolerated, days of different size."""
    words = "One day has no standard deviation, so it tells nothing."
    ask(_days([12.0]), 0, "not known", words, case="A single day")
    ask(_days([12.0]).iloc[:0], 0, "not known", "No flights tell nothing.", case="A table without rows")
    two = _days([12.0, 12.0])
    ask(two, 0, "worse", "Two days are enough.", case="Two days that are alike, 12 EUR a flight more")
    words = "The number of a day is in EUR per 1,000 flights."
    ask(two, 11_995, "worse", words, case="Two days that are alike, 12 EUR a flight more")
    words = "If the upper end is what is tolerated, the model is not worse."
    ask(two, 12_000, "not worse", words, case="Two days that are alike, 12 EUR a flight more")
    words = "Each day counts once, however many flights it has."
    uneven = _days([12.0, 0.0, 0.0, 0.0], sizes=[50, 1, 1, 1])
    ask(uneven, 9_500, "not worse", words, case="One large day and three small ones")
    words = "The interval is two standard errors wide on either side, with n - 1 below the squares."
    pair = _days([3.0, 6.0])  # mean 4,500, standard error 1,500
    for tolerated, expected in ((1_400, "worse"), (1_600, "not known"), (7_400, "not known"), (7_600, "not worse")):
        ask(pair, tolerated, expected, words, case="Two days, 3 and 6 EUR a flight more")


# Columns that came apart ----------------------------------------------------------------------------------------------

COUPLED = ["temp", "dewp", "humid"]


def _stretch(first: str, days: int) -> pd.DataFrame:
    weather, start = _weather(), pd.Timestamp(first)
    here = (weather["day"] >= start) & (weather["day"] < start + pd.Timedelta(days=days))
    return weather.loc[here, ["day", *COUPLED, "wind_speed"]].reset_index(drop=True)


def _glued(rows: pd.DataFrame, column: str, day: pd.Timestamp) -> pd.DataFrame:
    """The rows, with a column's values of this day and later in another order."""
    broken, late = rows.copy(), rows["day"] >= day
    broken.loc[late, column] = rows[late].sort_values("wind_speed", kind="stable")[column].to_numpy()
    return broken


@check(
    "What can be said of one column's value if the others are known? When can it no longer be said?",
    "Learn each column from the others on `before`, and look at the mean error of each day.",
    "How large does that error get on the days of `before`? A day that lies clearly above all of them is broken.",
    nothing=True,
    example=False,  # two days of nine rows, where the task promises 40 of 30 or more
)
def since(answer):
    """The first broken day is found, whichever column it is, and days that are only cold or wet are not blamed."""
    before, rows = _stretch("2013-01-02", 40), _stretch("2013-02-11", 26)
    days, names = sorted(rows["day"].unique()), dict(zip(COUPLED, "abc", strict=True))

    def ask(before: pd.DataFrame, rows: pd.DataFrame, expected: object, words: str, *, case: str) -> None:
        given = [part.drop(columns="wind_speed").rename(columns=names) for part in (before, rows)]
        came = result(answer, *given, case=case, kind=pd.Timestamp | None, give="a day of the table, or None")
        shown = [str(day)[:10] for day in (came, expected)]
        expect(came == expected, words, case=f"{case}: it gave {shown[0]}, expected {shown[1]}.")

    words = "Here every value lies on its own row. Other days have other weather, and that is no fault."
    ask(before, rows, None, words, case="26 days of February and March after 40 quiet days")
    words = "A day with more rows is no worse day: take the mean of its errors."
    ask(before[::2], rows, None, words, case="the same, with half of the rows in `before`")
    words = "The days of `before` are right, so none of them may be called broken."
    ask(before, before.sort_values("temp"), None, words, case="the rows of `before` in another order")
    words = "The first day is asked for on which one column's values belong to other rows, whichever column it is."
    for column, at in (("temp", 12), ("dewp", 5), ("humid", 20), ("temp", 0)):
        case = f"{column} (given as {names[column]!r}) comes apart on {days[at]:%d %B}"
        ask(before, _glued(rows, column, days[at]), days[at], words, case=case)
    shuffled = _glued(rows, "dewp", days[9]).sample(frac=1, random_state=0)
    ask(before, shuffled, days[9], "The rows need not come in order of time.", case="rows in any order")
