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

    def ask(before: Sequence, now: Sequence, words: str, *, case: str = "", index: list | None = None) -> None:
        case = case or f"psi({list(before)}, {list(now)})"
        sides = [pd.Series(side, index=index, dtype=object) for side in (before, now)]
        expected = _parts(before, now)
        came = result(answer, *sides, case=case, kind=dict, give="a dictionary")
        told = f"{case} has the bins {sorted(map(str, came))}, expected {sorted(expected)}."
        empty = came.keys() > expected.keys() and came.keys() - expected <= {"new", "missing"}
        expect(not empty, "A bin that is empty on both sides is left out.", case=told)
        expect(came.keys() == expected.keys(), words, case=told)
        expect_same(came, expected, words, case=case, tolerance=1e-6)

    half = ["AA", "AA", "UA", "UA"]
    ask(half, half, "Nothing has moved, so every part is 0.")
    ask(half, half[::-1], "The order of the rows is no drift, and labels of the index may repeat.", index=[0] * 4)
    words = (
        "A bin adds (share now - share before) times the natural logarithm of share now / share before, not rounded."
    )
    ask(half, ["AA", "UA", "UA", "UA"], words)
    ask(half, half * 3, "Compare shares and not counts: now there may be more rows.")
    ask(half, ["AA"] * 4, "A category that no longer comes counts as half a row now.")
    ask(half, ["AA", "UA", "DL", "B6"], "All categories that `before` does not have are one bin together.")
    ask(half, ["DL"], 'A bin that `before` lacks, such as "new", counts as half a row there.')
    words = "Missing values are a bin of their own, None as well as NaN: no new category, and rows of each share."
    ask(half, ["AA", "UA", None, None], words)
    ask(["AA", None, np.nan, "UA"], half, words)
    ask(["AA", None], ["AA", None], "Missing values on both sides are a bin like the others.")
    ask([None, None], ["AA", None], "If `before` holds no category, each category is new.")
    words = "A text is a category as it stands: small letters, a blank, no letter at all, or the name of nothing."
    for text in ("aa", " AA", "", "nan", "None"):
        ask(["AA", text], [text, None], words)
    year = {name: _carriers(name) for name in ("2013-01", "2013-04")}
    case = "psi of the carriers of January and April, some of them missing"
    ask(*year.values(), "The carriers of the real year give other numbers.", case=case)


def _carriers(month: str) -> list:
    carriers = flights.read([month])["flights"]["carrier"].astype(object).tolist()[::20]
    return [None if place % 11 == 0 else carrier for place, carrier in enumerate(carriers) if carrier != "HA"]


# An unusual week ------------------------------------------------------------------------------------------------------


JUNE = "2013-06-03"  # a Monday


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
        came, expected = result(answer, weekly, monday, case=case.rstrip(",")), _as_large(weekly, monday)
        if came is None or expected is None:
            expect(came is expected, words, case=f"{case} gave {came}, expected {expected}.")
        else:
            expect_same(came, expected, words, case=case)

    words = (
        "Give the share of the earlier measured weeks whose PSI is at least as large. The week that is asked for is "
    )
    words += "no earlier week: here one is measured."
    other, six = [
        _history(0, 1, 0, 1, *last, first=first) for last, first in (((10, 0), "2012-06-04"), ((0, 10), JUNE))
    ]
    ask(other, list(other)[5], words, case="six weeks")
    ask(six, list(six)[5], words, case="six weeks")
    words = "No earlier week has four weeks before it, so there is nothing to compare this one with: None."
    ask(dict(list(six.items())[:5]), list(six)[4], words, case="five weeks")
    words = "Other summaries of the same weeks have another answer: keep nothing from one call to the next."
    ask(_history(0, 1, 0, 1, 10, 0), list(six)[5], words, case="six weeks, with other values than before")
    same = _history(*[0] * 7)
    words = "A PSI that is as large counts, too, and the share of all is 1."
    ask(same, list(same)[6], words, case="seven weeks that are all the same")
    words = (
        "A week is measured against its own four weeks before, and neither against more or fewer nor against the rows "
    )
    words += "that made the bins."
    nine = _history(0, 1, 2, 0, 22, 20, 2, 8, 0)
    ask(nine, list(nine)[8], words, case="nine weeks")
    near = _history(0, 0, 1, 3, 0, 3, 0)
    ask(near, list(near)[6], "Compare the PSI as they are, and round nothing.", case="seven weeks that are much alike")
    words = "Weeks after the one that is asked for have not happened yet."
    eleven = _history(0, 1, 0, 1, 20, 8, 1, 0, 1, 0, 1)
    ask(eleven, list(eleven)[5], words, case="eleven weeks")
    words = "A week is measured only if all four weeks before it are there. One week is lost in this history."
    lost = _history(0, 1, 0, 1, 3, 9, 0, 1, 9, 0, 1, 0, 1, 2)
    del lost[list(lost)[4]]
    ask(lost, list(lost)[-1], words, case="thirteen of fourteen weeks")
    real = _weekly(weather["temp"], weather["monday"])
    for at in (6, 9, 12):
        ask(real, list(real)[at], "The temperatures of the real year give another share.", case="the weeks of 2013")


def _history(*levels: float, first: str = JUNE) -> dict:
    """Summaries of weeks of forty values each, which lie around a level."""
    mondays = pd.date_range(first, periods=len(levels), freq="7D").repeat(40)
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

    _verdict_costs(ask)
    _verdict_interval(ask)
    _verdict_labels(ask)


COLUMNS = ["day", "late", "old", "fresh"]


def _alike(*kinds: tuple[float, bool, bool]) -> pd.DataFrame:
    """Three days, each with flights of these kinds: late, and what the old and the fresh model say."""
    return pd.DataFrame([[day, *kind] for day in ("mon", "tue", "wed") for kind in kinds], columns=COLUMNS)


def _around(ask: Callable, rows: pd.DataFrame, extra: float, words: str, *, case: str) -> None:
    """Ask about days that are all alike, with a little less and a little more tolerated than the extra cost."""
    ask(rows, extra - 5, "worse", words, case=case)
    ask(rows, extra + 5, "not worse", words, case=case)


def _verdict_costs(ask: Callable) -> None:
    """What an error costs, whose it is, and what the number of a day is."""
    words = "The old model is worse if *it* costs more than the fresh one."
    steady = _days([3.0, 3.75, 3.0, 3.75, 3.0, 3.75])
    case = "Six days on which the old model costs 3 to 3.75 EUR a flight more"
    ask(steady, 0, "worse", f"{words} Here all of the interval lies above what is tolerated.", case=case)
    better = steady.rename(columns={"old": "fresh", "fresh": "old"})
    ask(better, 0, "not worse", words, case="The same days with the two models exchanged")
    words = "Acting on a punctual flight costs 15 EUR, which is 15,000 EUR per 1,000 flights: compare with `tolerated`."
    _around(ask, _alike((0.0, True, False)), 15_000, words, case="A flight a day; only the old model acts, for nothing")
    words = "Not acting on a late flight costs 60 EUR, which is 60,000 EUR per 1,000 flights."
    _around(ask, _alike((1.0, False, True)), 60_000, words, case="A flight a day; it is late, and the fresh model acts")
    words = "Acting on a late flight costs nothing here, and neither does leaving a punctual one alone."
    quiet = _alike((1.0, True, True), (0.0, False, False))
    _around(ask, quiet, 0, words, case="Three days on which no model makes an error")
    words = "A hard day is hard for both models: only what the old one costs more than the fresh one is damage."
    hard = _alike((1.0, False, False))
    ask(hard, 5, "not worse", words, case="Days on which every flight is late and neither model acts")
    words = "The number of a day is the mean of all of its flights, also of those that are alike."
    mixed = _alike(*[(1.0, False, True), *[(0.0, False, True)] * 3] * 20)
    case = "Of 80 flights a day the old model misses 20, and the fresh one acts on the other 60 for nothing"
    ask(mixed, 9_000, "not worse", words, case=case)


def _verdict_interval(ask: Callable) -> None:
    """What is one observation, how wide the interval is, and on which side its ends count."""
    words = "The interval holds what is tolerated, so the days do not tell."
    ask(_days([0.0, 15.0] * 3), 7_500, "not known", words, case="Six days, in turn 0 and 15 EUR a flight more")
    words = "One day has no standard deviation, so it tells nothing."
    ask(_days([12.0]), 0, "not known", words, case="A single day")
    ask(_days([12.0]).iloc[:0], 0, "not known", "No flights tell nothing.", case="A table without rows")
    two, case = _days([15.0, 15.0]), "Two days that are alike, 15 EUR a flight more"
    ask(two, 0, "worse", "Two days are enough.", case=case)
    ask(two, 15_000, "not worse", "If the upper end is what is tolerated, the model is not worse.", case=case)
    words = (
        "The interval is the mean of the days and 2 s / sqrt(n) on either side, with n - 1 below the squares of s. The "
    )
    words += "flights of a day share its weather: count days as observations, and not flights."
    pair, four = _days([3.0, 6.0]), _days([3.0, 6.0] * 2)  # mean 4,500; standard error 1,500 and 866
    for tolerated, expected in ((1_490, "worse"), (1_510, "not known"), (7_490, "not known"), (7_510, "not worse")):
        ask(pair, tolerated, expected, words, case="Two days, 3 and 6 EUR a flight more")
    for tolerated, expected in ((2_760, "worse"), (2_780, "not known"), (6_220, "not known"), (6_240, "not worse")):
        ask(four, tolerated, expected, words, case="Four days, in turn 3 and 6 EUR a flight more")
    ask(_days([9.0, 0.0, 0.0, 7.5], sizes=[50] * 4), 0, "not known", words, case="Two bad days and two good ones")
    words = "Each day counts once, however many flights it has."
    uneven = _days([12.0, 0.0, 0.0, 0.0], sizes=[50, 1, 1, 1])
    ask(uneven, 9_500, "not worse", words, case="One large day and three small ones")
    words = "The flights of a day need not stand next to each other, and labels of the index may repeat."
    twice = _days([12.0, 12.0])
    shuffled = twice.sample(frac=1, random_state=0).set_axis([0] * len(twice), axis="index")
    _around(ask, shuffled, 12_000, words, case="Two days that are alike, 12 EUR a flight more, in any order")


def _verdict_labels(ask: Callable) -> None:
    """Which flights and days count."""
    words = "A flight without a label is no punctual flight: leave it out."
    unheard = _alike((0.0, True, True), (np.nan, True, False))
    case = "Of two flights a day one has no label, and only the old model acts on it"
    ask(unheard, 5, "not worse", words, case=case)
    words = "The mean of a day is over those of its flights that have a label."
    case = "Of two flights a day one has no label, and on the other one only the old model acts, for nothing"
    _around(ask, _alike((0.0, True, False), (np.nan, False, False)), 15_000, words, case=case)
    case = "A flight a day; only the old model acts, for nothing; another column is empty"
    _around(
        ask, _alike((0.0, True, False)).assign(gate=np.nan), 15_000, "Only the label decides which count.", case=case
    )
    words = "A day without any label is left out, and `n` does not count it."
    quiet = _days([3.0, 6.0, 3.0, 6.0])
    quiet.loc[quiet["day"].isin(["day 2", "day 3"]), "late"] = np.nan
    ask(quiet, 2_000, "not known", words, case="Four days, 3 and 6 EUR a flight more, the last two without labels")
    first = _days([0.0, 12.0, 12.0])
    first.loc[first["day"] == "day 0", "late"] = np.nan
    ask(first, 11_000, "worse", words, case="Three days, the first without labels")


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

    def ask(
        before: pd.DataFrame, rows: pd.DataFrame, expected: object, words: str, *, case: str, named: dict = names
    ) -> None:
        given = [part.drop(columns="wind_speed").rename(columns=named) for part in (before, rows)]
        came = result(answer, *given, case=case, kind=pd.Timestamp | None, give="a day of the table, or None")
        shown = [str(day)[:10] for day in (came, expected)]
        if came is None and expected is not None:
            words = "Each column alone looks as always; ask whether a value still goes with the other two of its row."
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
    broken = _glued(rows, "dewp", days[9])
    words = "The rows need not come in order of time."
    ask(before, broken.sample(frac=1, random_state=0), days[9], words, case="rows in any order")
    words = "Take the columns by the names that came: they may have others, and stand in any order in each table."
    case, others = "other names, `day` last in one table", {name: name.upper() for name in COUPLED}
    ask(before[[*before.columns[1:], "day"]], broken[broken.columns[::-1]], days[9], words, case=case, named=others)
