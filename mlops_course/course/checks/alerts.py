"""Checks of alerts: mails, days of alarm, and what has happened to the rows."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import result
from mlops_course.operations.monitoring import drift

__all__ = ["YourTurn", "alarm_days", "diagnose", "hint", "mails", "summary"]


@check(
    "Two equal days in a row decide: there is trouble, or there is none. A single day that differs changes nothing.",
    "Go through the days, and remember yesterday and whether the trouble is known.",
    "If today equals yesterday, remember today as the state. If the state was good and is bad now, send a mail.",
)
def mails(answer):
    """One mail for each trouble, on its second day, and a new one only after two good days in a row."""

    def ask(text: str, words: str, *, days: Sequence[object] | None = None) -> None:
        over = pd.Series([letter == "x" for letter in text], index=days, dtype=bool)
        case = f"With days {text or 'none at all'} (x: over the bar), mails"
        came = result(answer, over, case=case, kind=list, give="a list of days")
        expected = _mails(over)
        expect(came == expected, words, case=f"{case} gave {came[:6]}, expected {expected[:6]}.")

    week = pd.date_range("2013-06-03", periods=7, tz="UTC")
    words = "A mail goes out on the second day in a row over the bar: give it as the index names it."
    ask("..xx", words, days=week[:4])
    ask(".x.....", "A single bad day sends no mail.", days=week)
    ask("x......", "A single bad day sends no mail, also at the beginning.")
    ask("xx", "The first two days may already be over the bar.")
    ask("xx", "In a second call the same days have other mails: keep nothing from one call to the next.")
    ask("..xx...", "A trouble sends one mail, on its second day, and none when it ends.", days=week)
    ask(".xxxxx.", "From the mail on the trouble is known: no mail goes out on its other days.", days=week)
    ask("xxx.xx.xx", "A single good day does not end a trouble.")
    ask("xx.x.x.xx", "Two good days in a row end a trouble; a single good day does not.")
    ask("xx..xx..xxx", "After two good days in a row, a new trouble sends a new mail.")
    ask("xx..x.xx", "After two good days in a row, a single bad day sends no mail, and two of them do.")
    names = ["mon", "tue", "wed", "thu", "fri", "sat"]
    ask("xx..xx", "Give the days in the order in which they came, whatever their names.", days=names)
    ask("", "Without a day there is no mail.")
    ask("x", "A single day over the bar sends no mail.")
    rng = np.random.default_rng(3)
    for share in (0.3, 0.5, 0.7):
        ask("".join(np.where(rng.random(60) < share, "x", ".")), "Sixty random days have other mails.")


def _mails(over: pd.Series) -> list:
    """Read off the text of the days: a trouble begins where two bad days meet, and lasts up to two good ones."""
    text = "".join("x" if bad else "." for bad in over)
    return [over.index[found.start() + 1] for found in re.finditer(r"xx.*?(?:\.\.|$)", text)]


@check(
    "How many tests are there in a quiet year, and how many of them may raise a false alarm?",
    "The bar is the budget of a year, divided by the number of tests of a year: 365 days times the features.",
    "`(p <= bar).any(axis=1)` says for each day whether any p-value is at or below the bar.",
)
def alarm_days(answer):
    """The budget covers a year and all features together, and one feature is enough for an alarm."""

    def ask(p: pd.DataFrame, a_year: float, expected: list, words: str, *, case: str) -> None:
        case = f"On {case} with {a_year} false alarms a year, alarm_days"
        came = result(answer, p, a_year, case=case, kind=list, give="a list of days")
        expect(came == expected, words, case=f"{case} gave {came[:6]}, expected {expected[:6]}.")

    def days(*names: object, **p: list[float]) -> pd.DataFrame:
        return pd.DataFrame(p, index=list(names) or None)

    quiet = np.random.default_rng(12).random((365, 20))
    year = pd.DataFrame(quiet, index=pd.date_range("2013-01-01", periods=365).strftime("%d %b"))
    found = result(answer, year, 1, case="a year of twenty features")
    words = "Chance alone made far more alarms than one in a quiet year: all features and all days share the budget."
    expect(len(found) <= 6, words, case=f"Of 365 quiet days with 20 features, {len(found)} had an alarm.")
    tiny = [0.9, 1e-5]
    words = "A p-value far below the share raises an alarm, on the day that the index names."
    ask(days("mon", "tue", temp=tiny), 1, ["tue"], words, case="two days of one feature, p-values 0.9 and 0.00001")
    words = "At least one feature: one feature is enough, whatever the others say."
    for temp, wind in ((tiny, [0.9, 0.9]), ([0.9, 0.9], tiny)):
        case = f"two days with the p-values {temp} of temp and {wind} of wind"
        ask(days("mon", "tue", temp=temp, wind=wind), 1, ["tue"], words, case=case)
    one = days("mon", "tue", "wed", temp=[0.04, 1e-5, 0.5], wind=[0.5, 0.9, 0.002])
    words = "Share the budget among the tests of a year, whatever stretch the table holds."
    ask(one, 1, ["tue"], words, case="three days of two features, p-values 0.04, 0.00001 and 0.002")
    ask(one, 12, ["tue", "wed"], "A larger budget gives alarms on more days.", case="the same three days")
    bar = 2 / (365 * 2)
    edge = days("mon", "tue", temp=[bar, bar * 1.001], wind=[0.5, 0.5])
    words = (
        "The share is the budget / (365 x features), to the last digit: a p-value that equals it raises an alarm, and "
    )
    ask(edge, 2, ["mon"], f"{words}one above it does not.", case="two days around the share")
    gaps = days("mon", "tue", temp=[np.nan, np.nan], wind=[1e-6, np.nan])
    ask(gaps, 1, ["mon"], "A missing p-value raises no alarm.", case="two days with missing p-values")
    both = days(*pd.date_range("2013-06-01", periods=2), temp=[0.9, 0.0], wind=[0.5, 1e-9])
    words = "A p-value of 0 is the most unusual of all. Two unusual features on one day make one entry."
    ask(both, 1, [both.index[1]], words, case="two days, on the second of which temp has 0 and wind 0.000000001")
    years = days(temp=[0.0026] + [0.5] * 729)
    ask(
        years, 1, [0], "The budget is for 365 days, also if the table holds two years.", case="two years of one feature"
    )
    thirds = days(temp=[0.004, 0.002])
    ask(thirds, 1.5, [0, 1], "A budget need not be a whole number.", case="p-values 0.004 and 0.002")
    ask(thirds, 0.5, [], "A budget may be less than one.", case="p-values 0.004 and 0.002")
    words = "The budget sets the bar and not a number of alarms: three such days have an alarm each."
    ask(days(temp=[1e-9] * 3), 1, [0, 1, 2], words, case="three days with p-values of 0.000000001")
    half = days("mon", "tue", temp=[0.002, 0.5], wind=[np.nan, 0.5])
    words = "Each test gets the same share, also on a day on which another p-value is missing."
    ask(half, 1, [], words, case="a day with p 0.002 and a missing one")
    ask(one.iloc[[2, 1, 0]], 12, ["wed", "tue"], "Keep the order of the table.", case="the three days backwards")
    single, words = days("mon", "tue", temp=[0.002, 0.003]), "With one feature each test gets a larger share."
    ask(single, 1, ["mon"], words, case="two days of one feature, p 0.002 and 0.003")


SETTLED = pd.Timestamp("2013-06-09", tz="UTC")  # flights asked before it have landed, or never left


def _days(
    temp: np.ndarray, *, rate: float = 0.2, says: float = 0.2, labelled: float = 1.0, settled: int = 400
) -> pd.DataFrame:
    """Rows, a minute apart, with so many late, of which the last have no label; the first of them are settled."""
    size = len(temp)
    late = (np.arange(size) % 20 < 20 * rate).astype(float)
    late[int(labelled * size) :] = np.nan
    asked = SETTLED + pd.to_timedelta(np.arange(size) - settled, unit="min")
    return pd.DataFrame({"asked": asked, "temp": temp, "probability": says, "late": late})


@check(
    "Ask five questions in the order of the task. The first one with the answer yes decides.",
    "`between` is false for a missing value, as you need it here; `nunique` does not count missing values.",
    "Take the rows asked before `settled` that have a label. Count them, and compare labels and probabilities.",
)
def diagnose(answer):
    """A bug is named before anything else, a season is no shift, and labels show what no input does."""
    rng = np.random.default_rng(6)
    winter, summer = rng.normal(35, 8, 400).round(1), rng.normal(78, 7, 400).round(1)
    now = rng.permutation(winter)

    def ask(
        expected: str, words: str, cases: dict[str, pd.DataFrame], *, year_ago: np.ndarray = winter, bar: float = 0.3
    ) -> None:
        for what, rows in cases.items():
            before, then, failed = _days(winter), _days(year_ago), f"diagnose fails on {what}."
            came = result(answer, rows, before, then, bar, SETTLED, case=what, hint=failed)
            expect(came == expected, words, case=f"Of {what}, bar {bar:.3g}, it said {came!r}, expected {expected!r}.")

    ask("nothing", "Nothing has happened here.", {"days like those before": _days(now)})
    _bugs(ask, now)
    warmer = {"summer after winter": _days(summer[::-1])}
    ask("season", "It was like this a year ago: compare `now` with `year_ago`.", warmer, year_ago=summer)
    ask("covariate shift", "It was not like this a year ago.", {"a heat wave in winter": _days(summer[::-1])})
    words = "Only temperatures that are all the same are a bug, and not such that hardly differ."
    ask("covariate shift", words, {"days with 41.0 and 41.1 °F in turn": _days(41 + np.arange(400) % 2 / 10)})
    _index_and_bar(ask, winter, summer, now)
    tenths = np.repeat(np.quantile(winter, np.arange(10) / 10) + 0.01, 40)
    words = "Nothing has moved: the bins come from `before`, and each holds as many rows as it did."
    ask("nothing", words, {"days with a tenth of the rows in each tenth": _days(tenths)})
    ask("season", words, {"the same, 40 °F warmer, as a year ago": _days(tenths + 40)}, year_ago=winter + 40)
    unlike = {"days unlike a year ago only": _days(now)}
    ask("nothing", "Compared with the weeks before, nothing has moved.", unlike, year_ago=summer)
    _labels(ask, now, summer)


def _moved(before: np.ndarray, now: np.ndarray) -> float:
    """The stability index as the notebook has it."""
    bins = drift.reference(pd.DataFrame({"x": before}), numeric=["x"], categorical=[])
    return float(drift.drift(drift.summarise(pd.DataFrame({"x": now}), bins)).loc["x", "psi"])


def _index_and_bar(ask: Callable, winter: np.ndarray, summer: np.ndarray, now: np.ndarray) -> None:
    """The reference's own weeks decide what has moved, and no number from a book."""
    five = {"days that are 5 °F warmer, index 0.40": _days(now + 5)}
    words = "The bar comes from the reference's own weeks: compare the index with `bar`, not with a fixed number."
    ask("covariate shift", words, five, bar=0.35)
    ask("nothing", words, five, bar=0.6)
    ask("covariate shift", words, {"days that are 2 °F warmer, index 0.13": _days(now + 2)}, bar=0.1)
    ask("season", "It was as much warmer a year ago.", five, year_ago=winter + 5)
    near = {"summer after winter, 4 °F cooler than a year ago, index 0.37": _days(summer[::-1])}
    words = "An index that equals the bar is not over it."
    ask("nothing", words, five, bar=_moved(winter, now + 5))
    ask("season", words, near, year_ago=summer + 4, bar=_moved(summer + 4, summer[::-1]))
    words = "Use the same bar for the comparison with the year before."
    ask("season", words, near, year_ago=summer + 4, bar=0.5)
    ask("covariate shift", words, near, year_ago=summer + 4, bar=0.3)


def _bugs(ask: Callable, now: np.ndarray) -> None:
    """What a broken feed does to the temperatures, and how much of it is allowed."""

    def spoilt(share: float, value: float) -> np.ndarray:
        return np.where(np.arange(400) < share * 400, value, now)

    stuck = np.where(np.arange(400) % 50 == 0, np.nan, 41.0)
    mixed = np.where(np.arange(400) < 12, np.nan, spoilt(0.06, 200.0))  # 3 % missing, 3 % out of range
    broken = {
        "days with half of the temperatures missing": _days(spoilt(0.5, np.nan)),
        "the same, and a model that is wrong as well": _days(spoilt(0.5, np.nan), rate=0.5),
        "days with 999 °F in one of five rows": _days(spoilt(0.2, 999.0)),
        "days with -300 °F in one of five rows": _days(spoilt(0.2, -300.0)),
        "days on which the thermometer is stuck at 41 °F": _days(np.full(400, 41.0)),
        "days on which it is stuck at 41 °F, with 2 % missing": _days(stuck),
        "days with 6 % of the temperatures at 200 °F": _days(spoilt(0.06, 200.0)),
        "days with 120.5 °F in one of five rows": _days(spoilt(0.2, 120.5)),
        "days with -60.5 °F in one of five rows": _days(spoilt(0.2, -60.5)),
    }
    words = "The temperatures are broken, and whatever else moves follows from it: repair the feed first."
    ask("data bug", words, broken)
    both = {"days with 3 % missing and 3 % at 200 °F": _days(mixed)}
    ask("data bug", "Missing and impossible temperatures count together, as shares of all rows.", both)
    for end in (120, -60):
        at_end = {f"days with {end} °F in 6 % of the rows": _days(spoilt(0.06, end))}
        ask("nothing", "-60 and 120 °F, and all between them, are inside of the range.", at_end)
    few = {"days with 5 % of the temperatures missing": _days(spoilt(0.05, np.nan))}
    ask("nothing", "Exactly one row in twenty is not yet more than one in twenty.", few)


def _labels(ask: Callable, now: np.ndarray, summer: np.ndarray) -> None:
    """What labels show and no input does, and which rows count."""
    other = {
        "days with 40 % late where 20 % were expected": _days(now, rate=0.4),
        "days with 5 % late where 20 % were expected": _days(now, rate=0.05),
    }
    words = "The temperatures are as before, and the labels contradict the model: no input shows it."
    ask("concept drift", words, other)
    hot = _days(summer, rate=0.5)
    words = "Ask about the labels before you ask whether it is a season or a shift."
    ask("concept drift", words, {"summer with 50 % late": hot}, year_ago=summer)
    ask("concept drift", words, {"a heat wave, 50 % late": hot})
    words = (
        "More than 0.1 between the share of late rows and their mean probability is concept drift, and up to 0.1 none."
    )
    for kind, rate, says in (("nothing", 0.3, 0.22), ("nothing", 0.1, 0.0), ("concept drift", 0.3, 0.18)):
        ask(kind, words, {f"days with {rate:.0%} late, {says:.0%} expected": _days(now, rate=rate, says=says)})
    words = "Compare the labels with the probabilities of these rows, and not with the weeks before."
    ask("nothing", words, {"days with 40 % late where 40 % were expected": _days(now, rate=0.4, says=0.4)})
    words = "A label that never came is not a zero: compare only rows with a label."
    ask("nothing", words, {"days on which three of four flights were cancelled": _days(now, labelled=0.25)})
    words = "Without labels nobody can see concept drift."
    ask("nothing", words, {"days without a label": _days(now, rate=0.9, labelled=0.0)})
    risky = _days(now, labelled=0.25)
    risky.loc[100:, "probability"] = 0.6
    words = "Compare the labels with the probabilities of the same rows, those that have a label."
    ask("nothing", words, {"risky flights that were cancelled": risky})
    _settled(ask, now)


def _settled(ask: Callable, now: np.ndarray) -> None:
    """Flights in time are heard of first, so only rows that are old enough count."""
    early = _days(now, settled=100)
    early.loc[100:299, "late"] = 0.0
    early.loc[300:, "late"] = np.nan
    words = "Of the rows asked at `settled` or later, only flights in time have a label so far: leave these rows out."
    ask("nothing", words, {"settled rows as expected, then 200 labels, all in time": early})
    hidden = _days(now, rate=0.4, settled=200)
    hidden.loc[200:, "late"] = 0.0
    ask("concept drift", words, {"settled rows with 40 % late, then 200 labels, all in time": hidden})
    words = "A hundred labels of rows asked before `settled` are enough, and 99 are too few."
    for kind, size in (("concept drift", 100), ("nothing", 99)):
        ask(kind, words, {f"{size} settled rows with a label, 60 % late": _days(now, rate=0.6, labelled=size / 400)})
        edge = _days(now, rate=0.6, settled=size)
        ask(kind, words, {f"{size} rows before settled, the next at that instant, 60 % late": edge})
