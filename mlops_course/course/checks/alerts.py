"""Checks of alerts: days of alarm for a year, and what has happened to the rows."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "alarm_days", "diagnose", "hint", "summary"]


def _index(before: np.ndarray, now: np.ndarray) -> float:
    edges = np.unique(np.quantile(before[~np.isnan(before)], np.arange(1, 10) / 10))

    def shares(values: np.ndarray) -> np.ndarray:
        below = (edges < values[:, None]).sum(axis=1)
        counts = [(np.isnan(values)).sum(), *[((below == n) & ~np.isnan(values)).sum() for n in range(len(edges) + 1)]]
        return np.maximum(counts, 0.5) / len(values)

    return float(((shares(now) - shares(before)) * np.log(shares(now) / shares(before))).sum())


@check(
    "How many tests does a quiet year hold, and how many of them may be wrong?",
    "The bar is the budget of a year divided by the tests of a year: days times features.",
    "`(p <= bar).any(axis=1)` says of each day whether any feature is beyond it.",
)
def alarm_days(answer):
    """The budget is that of a year for all features together, and one feature is enough for an alarm."""

    def ask(p: pd.DataFrame, a_year: float, expected: list, words: str, *, case: str) -> None:
        case = f"On {case} with {a_year} false alarms a year, alarm_days"
        came = result(answer, p, a_year, case=case, kind=list, give="a list of days")
        expect(came == expected, words, case=f"{case} gave {came[:6]}, expected {expected[:6]}.")

    def days(*names: object, **p: list[float]) -> pd.DataFrame:
        return pd.DataFrame(p, index=list(names) or None)

    quiet = np.random.default_rng(12).random((365, 20))
    year = pd.DataFrame(quiet, index=pd.date_range("2013-01-01", periods=365).strftime("%d %b"))
    found = result(answer, year, 1, case="a year of twenty features")
    words = "Chance alone made far more alarms than one in a quiet year."
    expect(len(found) <= 6, words, case=f"Of 365 quiet days with 20 features, {len(found)} had an alarm.")
    one = days("mon", "tue", "wed", temp=[0.04, 1e-5, 0.5], wind=[0.5, 0.9, 0.002])
    words = "The share of a test is that of a year, whatever stretch the table holds, and one feature is enough."
    ask(one, 1, ["tue"], words, case="three days of two features, p-values 0.04, 0.00001 and 0.002")
    bar = 2 / (365 * 2)
    edge = days("mon", "tue", temp=[bar, bar * 1.001], wind=[0.5, 0.5])
    ask(edge, 2, ["mon"], "At the share itself there is an alarm, above it is none.", case="two days around the share")
    words = "With more false alarms allowed a year, more days have one."
    ask(one, 12, ["tue", "wed"], words, case="the same three days")
    gaps = days("mon", "tue", temp=[np.nan, np.nan], wind=[1e-6, np.nan])
    ask(gaps, 1, ["mon"], "A p-value that is missing is no alarm.", case="two days with missing p-values")
    both = days(*pd.date_range("2013-06-01", periods=2), temp=[0.9, 0.0], wind=[0.5, 1e-9])
    words = "A p-value of 0 is the most unusual of all, and two features that are unusual make one day."
    ask(both, 1, [both.index[1]], words, case="two days, on the second of which temp has 0 and wind 0.000000001")
    years = days(temp=[0.0026] + [0.5] * 729)
    ask(years, 1, [0], "The budget is that of 365 days, also over two years.", case="two years of one feature")
    thirds = days(temp=[0.004, 0.002])
    ask(thirds, 1.5, [0, 1], "A budget need not be a whole number.", case="p-values 0.004 and 0.002")
    ask(thirds, 0.5, [], "A budget may be less than one.", case="p-values 0.004 and 0.002")
    words = "The budget is for false alarms: three days that are so unusual have an alarm each."
    ask(days(temp=[1e-9] * 3), 1, [0, 1, 2], words, case="three days with p-values of 0.000000001")
    half = days("mon", "tue", temp=[0.002, 0.5], wind=[np.nan, 0.5])
    words = "Each test gets the same share, also on a day on which another one is missing."
    ask(half, 1, [], words, case="a day with p 0.002 and a missing one")
    ask(one.iloc[[2, 1, 0]], 12, ["wed", "tue"], "Keep the order of the table.", case="the three days backwards")
    single, words = days("mon", "tue", temp=[0.002, 0.003]), "With one feature there are fewer tests."
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
    "Five questions in the order of the task; the first that is answered by yes decides.",
    "`between` is false for a missing value, which is what you want here; `nunique` does not count it.",
    "Choose the rows asked before `settled` that have a label, count them, and compare labels and probabilities there.",
)
def diagnose(answer):
    """A bug is told before anything else, a season from a shift, and what no input shows by its labels."""
    rng = np.random.default_rng(6)
    winter, summer = rng.normal(35, 8, 400).round(1), rng.normal(78, 7, 400).round(1)
    now = rng.permutation(winter)

    def ask(
        expected: str, words: str, cases: dict[str, pd.DataFrame], *, year_ago: np.ndarray = winter, bar: float = 0.3
    ) -> None:
        for what, rows in cases.items():
            before, then, failed = _days(winter), _days(year_ago), f"diagnose fails on {what}."
            came = result(answer, rows, before, then, bar, SETTLED, case=what, hint=failed)
            expect(came == expected, words, case=f"Of {what}, bar {bar}, it said {came!r}, expected {expected!r}.")

    ask("nothing", "Nothing has happened here.", {"days like those before": _days(now)})
    _bugs(ask, now)
    warmer = {"summer after winter": _days(summer[::-1])}
    ask("season", "It was like this a year ago.", warmer, year_ago=summer)
    ask("covariate shift", "It was not like this a year ago.", {"a heat wave in winter": _days(summer[::-1])})
    _index_and_bar(ask, winter, summer, now)
    tenths = np.repeat(np.quantile(winter, np.arange(10) / 10) + 0.01, 40)
    words = "Each tenth of the rows before holds as many as it did: bins are made from the rows before."
    ask("nothing", words, {"days with a tenth of the rows in each tenth": _days(tenths)})
    ask("season", words, {"the same, 40 °F warmer, as a year ago": _days(tenths + 40)}, year_ago=winter + 40)
    unlike = {"days unlike a year ago only": _days(now)}
    ask("nothing", "Against the weeks before nothing has moved.", unlike, year_ago=summer)
    _labels(ask, now, summer)


def _index_and_bar(ask: Callable, winter: np.ndarray, summer: np.ndarray, now: np.ndarray) -> None:
    """What the weeks of the reference did among themselves decides what has moved, not a number from a book."""
    five = {"days that are 5 °F warmer, index 0.40": _days(now + 5)}
    words = "What has moved is over the bar of the reference's own weeks: compare with it, not with a fixed number."
    ask("covariate shift", words, five, bar=0.35)
    ask("nothing", words, five, bar=0.6)
    ask("covariate shift", words, {"days that are 2 °F warmer, index 0.13": _days(now + 2)}, bar=0.1)
    ask("season", "It was as much warmer a year ago.", five, year_ago=winter + 5)
    near = {"summer after winter, 4 °F cooler than a year ago, index 0.37": _days(summer[::-1])}
    words = "The bar holds against the year before as well."
    ask("season", words, near, year_ago=summer + 4, bar=0.5)
    ask("covariate shift", words, near, year_ago=summer + 4, bar=0.3)


def _bugs(ask: Callable, now: np.ndarray) -> None:
    """What a broken feed does to the temperatures, and how much of it may be."""

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
        "days with 3 % missing and 3 % at 200 °F": _days(mixed),
        "days with 6 % of the temperatures at 200 °F": _days(spoilt(0.06, 200.0)),
        "days with 120.5 °F in one of five rows": _days(spoilt(0.2, 120.5)),
        "days with -60.5 °F in one of five rows": _days(spoilt(0.2, -60.5)),
    }
    ask("data bug", "A broken thermometer moves all that follows from it: mend the feed first.", broken)
    few = {"days with 5 % of the temperatures missing": _days(spoilt(0.05, np.nan))}
    ask("nothing", "One row in twenty may be out of order.", few)
    for end in (120, -60):
        at_end = {f"days with {end} °F, as a year ago": _days(spoilt(0.5, end))}
        ask("season", "-60 and 120 °F are possible.", at_end, year_ago=spoilt(0.5, end))


def _labels(ask: Callable, now: np.ndarray, summer: np.ndarray) -> None:
    """What labels say that no input shows, and which rows they may be counted of."""
    other = {
        "days with 40 % late where 20 % were expected": _days(now, rate=0.4),
        "days with 5 % late where 20 % were expected": _days(now, rate=0.05),
    }
    ask("concept drift", "The same temperatures, and other labels than the model expects: no input shows it.", other)
    hot = _days(summer, rate=0.5)
    ask("concept drift", "Labels come before seasons.", {"summer with 50 % late": hot}, year_ago=summer)
    ask("concept drift", "Labels come before shifts.", {"a heat wave, 50 % late": hot})
    ask("nothing", "Five points are within what may be.", {"days with 25 % late": _days(now, rate=0.25)})
    words = "Compare the labels with what the model says of these rows, and not with the weeks before."
    ask("nothing", words, {"days with 40 % late where 40 % were expected": _days(now, rate=0.4, says=0.4)})
    words = "A label that never came is no zero: compare only rows with a label."
    ask("nothing", words, {"days on which three of four flights were cancelled": _days(now, labelled=0.25)})
    words = "Without a label there is no concept drift to see."
    ask("nothing", words, {"days without a label": _days(now, rate=0.9, labelled=0.0)})
    risky = _days(now, labelled=0.25)
    risky.loc[100:, "probability"] = 0.6
    words = "Compare labels with the probabilities of the same rows."
    ask("nothing", words, {"risky flights that were cancelled": risky})
    _settled(ask, now)


def _settled(ask: Callable, now: np.ndarray) -> None:
    """Flights in time are heard of first: only rows that are old enough say what the labels are."""
    early = _days(now, settled=100)
    early.loc[100:299, "late"] = 0.0
    early.loc[300:, "late"] = np.nan
    words = "Of the rows asked from `settled` on, only the flights in time are heard of: leave these rows out."
    ask("nothing", words, {"settled rows as expected, then 200 labels, all in time": early})
    hidden = _days(now, rate=0.4, settled=200)
    hidden.loc[200:, "late"] = 0.0
    ask("concept drift", words, {"settled rows with 40 % late, then 200 labels, all in time": hidden})
    words = "A hundred settled rows with a label are enough, and fewer say too little."
    for kind, size in (("concept drift", 100), ("nothing", 99)):
        ask(kind, words, {f"{size} settled rows with a label, 60 % late": _days(now, rate=0.6, labelled=size / 400)})
        edge = _days(now, rate=0.6, settled=size)
        ask(kind, words, {f"{size} rows before settled, the next at that instant, 60 % late": edge})
