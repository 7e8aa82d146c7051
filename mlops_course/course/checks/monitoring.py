"""Checks of the exercises of lesson 12: a stability index, alarms for a year, an estimated cost, a diagnosis."""

import functools

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, attempt, check, expect, expect_same, hint, summary

__all__ = ["YourTurn", "alarm_days", "cost_so_far", "diagnose", "hint", "psi", "summary"]


@functools.cache
def _temperatures() -> tuple[np.ndarray, np.ndarray]:
    """Of Februaries and Octobers at the three airports, a few hundred readings each; some of October are missing."""
    february, october = (
        flights.read([month])["weather"]["temp"].to_numpy()[:900:3] for month in ("2013-02", "2013-10")
    )
    october = october.copy()
    october[::11] = np.nan
    return february, october


def _index(before: np.ndarray, now: np.ndarray) -> float:
    edges = np.unique(np.quantile(before[~np.isnan(before)], np.arange(1, 10) / 10))

    def shares(values: np.ndarray) -> np.ndarray:
        below = (edges < values[:, None]).sum(axis=1)
        counts = [(np.isnan(values)).sum(), *[((below == n) & ~np.isnan(values)).sum() for n in range(len(edges) + 1)]]
        return np.maximum(counts, 0.5) / len(values)

    return float(((shares(now) - shares(before)) * np.log(shares(now) / shares(before))).sum())


@check(
    "Make the edges once, from `before`, and count both sides between them.",
    "`np.searchsorted(edges, values)` gives the bin of each value, and `np.bincount(..., minlength=...)` counts.",
    "Put missing values into one bin more, and take at least half a row for each count.",
)
def psi(answer):
    """Nothing that has moved, gone missing or stopped coming is overlooked, and nothing is infinite."""

    def ask(before: list[float], now: list[float], words: str, *, case: str = "") -> None:
        before, now = np.array(before, dtype=float), np.array(now, dtype=float)
        case = case or f"psi({before.tolist()}, {now.tolist()})"
        came = attempt(lambda: answer(before, now), hint=f"It fails: {case}.")
        expect_same(came, _index(before, now), words, case=case, tolerance=1e-6)

    ten = np.arange(1.0, 11.0)
    ask(ten, ten, "Nothing has moved.")
    ask(ten, ten[::-1], "The order of rows is no drift.")
    words = "The bins come from the reference, and both sides are counted in them."
    twenty = np.arange(1.0, 21.0)
    ask(twenty, [1, 1, 1, 1, 1, 1, *range(3, 20, 2), 2, 4, 6, 8, 10], words)
    words = "A bin that is empty on one side counts as half a row there."
    ask(ten, [9.5, 9.6, 9.7, 9.8, 9.9] * 2, words)
    far = [*range(1, 20), 10_000]
    ask(far, [3.0, 3.5, 4.0, 18.0, 9_999.0] * 4, "The edges are deciles of the reference, however far one value lies.")
    ask([1.0, 1.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0], "Equal edges count once, and a value on an edge lies below it.")
    nan = float("nan")
    ask(ten, [*ten[:5], nan, nan, nan, nan, nan], "Half of the values have gone missing, and that is a change.")
    ask([*ten, nan, nan], ten, "Values that were missing are there now, and that is a change.")
    ask(ten, [nan, nan], "All values have gone missing.")
    ask(ten, [5.0], "One row is enough.")
    ask([7.0, 7.0], [7.0, 8.0], "The reference may hold a single value.")
    words = "Equal edges count once, so that there is no bin in which nothing can ever lie."
    ask([7.0, 7.0], [8.0], words)
    ask([1.0] * 9 + [2.0], [1.0], words)
    ask([0.0, 10.0], [4.0, 10.0], "The deciles are those of np.quantile, between two values as well.")
    ask([-2.0, -1.0, 0.0, 1.0], [-2.0, -2.0, -2.0, 1.0], "Numbers of 0 and below are values like others.")
    ask([1.0, 2.0], [1.0, 2.0, 2.0, 2.0], "There may be more rows now than before.")
    february, october = _temperatures()
    ask(
        february, october, "The real year gives another number.", case="psi of the temperatures of February and October"
    )


@check(
    "How many tests does a quiet year hold, and how many of them may be wrong?",
    "The bar is the budget of a year divided by the tests of a year: days times features.",
    "`(p <= bar).any(axis=1)` says of each day whether any feature is beyond it.",
)
def alarm_days(answer):
    """The budget is that of a year for all features together, and one feature is enough for an alarm."""

    def ask(p: pd.DataFrame, a_year: float, expected: list, words: str, *, case: str) -> None:
        came = attempt(lambda: answer(p, a_year), hint=f"It fails on {case}.")
        expect(isinstance(came, list), f"Give a list of days; a {type(came).__name__} came.", case=f"On {case}.")
        told = f"On {case} with {a_year} false alarms a year, {came[:6]} came, expected {expected[:6]}."
        expect(came == expected, words, case=told)

    quiet = np.random.default_rng(12).random((365, 20))
    year = pd.DataFrame(quiet, index=pd.date_range("2013-01-01", periods=365).strftime("%d %b"))
    found = attempt(lambda: answer(year, 1), hint="It fails on a year of twenty features.")
    words = "Chance alone made far more alarms than one in a quiet year."
    expect(len(found) <= 6, words, case=f"Of 365 quiet days with 20 features, {len(found)} had an alarm.")
    one = pd.DataFrame({"temp": [0.04, 1e-5, 0.5], "wind": [0.5, 0.9, 0.002]}, index=["mon", "tue", "wed"])
    words = "The share of a test is that of a year, whatever stretch the table holds, and one feature is enough."
    ask(one, 1, ["tue"], words, case="three days of two features, p-values 0.04, 0.00001 and 0.002")
    bar = 2 / (365 * 2)
    edge = pd.DataFrame({"temp": [bar, bar * 1.001], "wind": [0.5, 0.5]}, index=["mon", "tue"])
    ask(edge, 2, ["mon"], "At the share itself there is an alarm, above it is none.", case="two days around the share")
    words = "With more false alarms allowed a year, more days have one."
    ask(one, 12, ["tue", "wed"] if 12 / 730 >= 0.002 else ["tue"], words, case="the same three days")
    gaps = pd.DataFrame({"temp": [np.nan, np.nan], "wind": [1e-6, np.nan]}, index=["mon", "tue"])
    ask(gaps, 1, ["mon"], "A p-value that is missing is no alarm.", case="two days with missing p-values")
    both = pd.DataFrame({"temp": [0.9, 0.0], "wind": [0.5, 1e-9]}, index=pd.date_range("2013-06-01", periods=2))
    words = "A p-value of 0 is the most unusual of all, and two features that are unusual make one day."
    ask(both, 1, [both.index[1]], words, case="two days, on the second of which temp has 0 and wind 0.000000001")
    years = pd.DataFrame({"temp": [0.0026] + [0.5] * 729})
    ask(years, 1, [0], "The budget is that of 365 days, also over two years.", case="two years of one feature")
    thirds = pd.DataFrame({"temp": [0.004, 0.002]})
    ask(thirds, 1.5, [0, 1], "A budget need not be a whole number.", case="p-values 0.004 and 0.002")
    ask(thirds, 0.5, [], "A budget may be less than one.", case="p-values 0.004 and 0.002")
    often = pd.DataFrame({"temp": [1e-9, 1e-9, 1e-9]})
    words = "The budget is for false alarms: three days that are so unusual have an alarm each."
    ask(often, 1, [0, 1, 2], words, case="three days with p-values of 0.000000001")
    half = pd.DataFrame({"temp": [0.002, 0.5], "wind": [np.nan, 0.5]}, index=["mon", "tue"])
    words = "Each test gets the same share, also on a day on which another one is missing."
    ask(half, 1, [], words, case="a day with p 0.002 and a missing one")
    order = one.iloc[[2, 1, 0]]
    ask(order, 12, ["wed", "tue"], "Keep the order of the table.", case="the three days backwards")
    single = pd.DataFrame({"temp": [0.002, 0.003]}, index=["mon", "tue"])
    ask(
        single, 1, ["mon"], "With one feature there are fewer tests.", case="two days of one feature, p 0.002 and 0.003"
    )


@check(
    "Of which flights do you know the label now, and what stands in its place for the others?",
    "What a decision costs is a straight line in the label, so a probability may be put in for it.",
    "`where` keeps a label where `labelled <= now` holds; a comparison with a missing time is false.",
)
def cost_so_far(answer):
    """What is known counts as it came, what is not as it is expected, and nothing of tomorrow is used."""
    noon = pd.Timestamp("2013-06-12T12:00Z")

    def ask(rows: list[tuple[float, bool, float, float]], expected: float, words: str, **costs: float) -> None:
        p, act, late, hours = zip(*rows, strict=True) if rows else ((), (), (), ())
        came_at = pd.Series(
            [noon + pd.Timedelta(hours=h) if h == h else pd.NaT for h in hours], dtype="datetime64[ns, UTC]"
        )
        table = pd.DataFrame({"probability": p, "act": act, "late": late}).astype(
            {"probability": float, "act": bool, "late": float}
        )
        table = table.assign(labelled=came_at)
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = f"On (probability, act, late, hours after noon of the label) {rows}, cost_so_far"
        came = attempt(lambda: answer(table, noon, **costs), hint=f"It fails: {case}.")
        expect_same(came, expected, words, case=case)

    nan = float("nan")
    ask(
        [(0.1, False, 1, -1), (0.9, True, 0, -2), (0.5, True, 1, -1), (0.5, False, 0, -3)],
        18.75,
        "These labels are known.",
    )
    words = "No label is not in time: such flights belong to the morning, and cost what they cost on average."
    ask([(0.1, True, 1, -1), (0.5, False, nan, nan)], 15.0, words)
    ask([(0.3, False, nan, nan)], 18.0, "A flight without a label costs what it costs on average.")
    ask([(0.3, True, nan, nan)], 10.5, "Acting on a flight without a label costs what it costs on average.")
    ask([(0.3, False, 1, 2), (0.3, True, 1, 1)], (18 + 10.5) / 2, "A label that came after now was used.")
    ask([(0.3, False, 1, 0)], 60.0, "A label that came at the very instant is known.")
    ask([(0.5, True, 1, 0.01)], 7.5, "A label that came half a minute after now was used.")
    two = pd.DataFrame({"probability": [0.5], "act": [True], "late": [1.0], "labelled": [noon - pd.Timedelta("4h")]})
    words = "The label came at eight, and now is seven: the moment is the one that is handed in."
    came = attempt(lambda: answer(two, noon - pd.Timedelta("5h"), false_alarm=15, missed=60), hint=words)
    expect_same(came, 7.5, words, case="cost_so_far at seven")
    ask(
        [(0.5, False, nan, nan), (0.5, True, nan, nan)],
        (1 * 0.5 + 4 * 0.5) / 2,
        "Take the costs that are handed in.",
        false_alarm=4,
        missed=1,
    )
    ask([], nan, "Without a row there is no cost.")
    rng = np.random.default_rng(2)
    rows = [
        (float(p), bool(p > 0.2), float(rng.random() < p), float(hours))
        for p, hours in zip(rng.random(50), rng.integers(-5, 5, 50), strict=True)
    ]
    stands = [(late if hours <= 0 else p, act) for p, act, late, hours in rows]
    expected = float(np.mean([15 * (1 - y) if act else 60 * y for y, act in stands]))
    ask(rows, expected, "Fifty flights cost something else.")


def _days(temp: np.ndarray, *, rate: float = 0.2, says: float = 0.2, labelled: float = 1.0) -> pd.DataFrame:
    """Rows with so many late, of which the last have no label yet."""
    size = len(temp)
    late = (np.arange(size) % 20 < 20 * rate).astype(float)
    late[int(labelled * size) :] = np.nan
    return pd.DataFrame({"temp": temp, "probability": says, "late": late})


@check(
    "Five questions in the order of the task; the first that is answered by yes decides.",
    "`between` is false for a missing value, which is what you want here; `nunique` does not count it.",
    "Compare labels and probabilities of the same rows: those that have a label.",
)
def diagnose(answer):
    """A bug is told before anything else, a season from a shift, and what no input shows by its labels."""
    rng = np.random.default_rng(6)
    winter, summer = rng.normal(35, 8, 400).round(1), rng.normal(78, 7, 400).round(1)
    cold, warm = _days(winter), _days(summer)
    now = rng.permutation(winter)

    def ask(
        rows: pd.DataFrame, before: pd.DataFrame, year_ago: pd.DataFrame, expected: str, words: str, *, what: str
    ) -> None:
        came = attempt(lambda: answer(rows, before, year_ago), hint=f"diagnose fails on {what}.")
        expect(came == expected, words, case=f"Of {what} it said {came!r}, expected {expected!r}.")

    def spoilt(share: float, value: float) -> np.ndarray:
        return np.where(np.arange(400) < share * 400, value, now)

    ask(_days(now), cold, cold, "nothing", "Nothing has happened here.", what="days like those before")
    bug = "A broken thermometer moves all that follows from it: mend the feed first."
    ask(_days(spoilt(0.5, np.nan)), cold, cold, "data bug", bug, what="days with half of the temperatures missing")
    ask(
        _days(spoilt(0.5, np.nan), rate=0.5),
        cold,
        cold,
        "data bug",
        bug,
        what="the same, and a model that is wrong as well",
    )
    ask(_days(spoilt(0.2, 999.0)), cold, cold, "data bug", bug, what="days with 999 °F in one of five rows")
    ask(_days(spoilt(0.2, -300.0)), cold, cold, "data bug", bug, what="days with -300 °F in one of five rows")
    ask(_days(np.full(400, 41.0)), cold, cold, "data bug", bug, what="days on which the thermometer is stuck at 41 °F")
    stuck = np.where(np.arange(400) % 50 == 0, np.nan, 41.0)
    ask(_days(stuck), cold, cold, "data bug", bug, what="days on which it is stuck at 41 °F, with 2 % missing")
    mixed = np.where(np.arange(400) < 12, np.nan, spoilt(0.06, 200.0))  # 3 % missing, 3 % out of range
    ask(_days(mixed), cold, cold, "data bug", bug, what="days with 3 % missing and 3 % at 200 °F")
    few = "One row in twenty may be out of order."
    ask(_days(spoilt(0.05, np.nan)), cold, cold, "nothing", few, what="days with 5 % of the temperatures missing")
    ask(_days(spoilt(0.06, 200.0)), cold, cold, "data bug", bug, what="days with 6 % of the temperatures at 200 °F")
    ask(_days(spoilt(0.2, 120.5)), cold, cold, "data bug", bug, what="days with 120.5 °F in one of five rows")
    ask(_days(spoilt(0.2, -60.5)), cold, cold, "data bug", bug, what="days with -60.5 °F in one of five rows")
    ends = "-60 and 120 °F are possible."
    ask(
        _days(spoilt(0.5, 120.0)),
        cold,
        _days(spoilt(0.5, 120.0)),
        "season",
        ends,
        what="days with 120 °F, as a year ago",
    )
    ask(
        _days(spoilt(0.5, -60.0)),
        cold,
        _days(spoilt(0.5, -60.0)),
        "season",
        ends,
        what="days with -60 °F, as a year ago",
    )
    ask(_days(summer[::-1]), cold, warm, "season", "It was like this a year ago.", what="summer after winter")
    ask(
        _days(summer[::-1]),
        cold,
        cold,
        "covariate shift",
        "It was not like this a year ago.",
        what="a heat wave in winter",
    )
    shift, some = "Five degrees are more than 0.25.", "It was as much warmer a year ago."
    ask(_days(now + 5), cold, cold, "covariate shift", shift, what="days that are 5 °F warmer")
    ask(_days(now + 5), cold, _days(winter + 5), "season", some, what="days that are 5 °F warmer, as a year ago")
    tenths = np.repeat(np.quantile(winter, np.arange(10) / 10) + 0.01, 40)
    words = "Each tenth of the rows before holds as many as it did: bins are made from the rows before."
    ask(_days(tenths), cold, cold, "nothing", words, what="days with a tenth of the rows in each tenth")
    ask(_days(tenths + 40), cold, _days(winter + 40), "season", words, what="the same, 40 °F warmer, as a year ago")
    ask(
        _days(now),
        cold,
        warm,
        "nothing",
        "Against the weeks before nothing has moved.",
        what="days unlike a year ago only",
    )
    concept = "The same temperatures, and other labels than the model expects: no input shows it."
    ask(_days(now, rate=0.4), cold, cold, "concept drift", concept, what="days with 40 % late where 20 % were expected")
    ask(_days(now, rate=0.05), cold, cold, "concept drift", concept, what="days with 5 % late where 20 % were expected")
    ask(_days(now, rate=0.25), cold, cold, "nothing", "Five points are within what may be.", what="days with 25 % late")
    ask(
        _days(summer, rate=0.5),
        cold,
        warm,
        "concept drift",
        "Labels come before seasons.",
        what="summer with 50 % late",
    )
    ask(
        _days(summer, rate=0.5),
        cold,
        cold,
        "concept drift",
        "Labels come before shifts.",
        what="a heat wave, 50 % late",
    )
    words = "Compare the labels with what the model says of these rows, and not with the weeks before."
    ask(
        _days(now, rate=0.4, says=0.4),
        cold,
        cold,
        "nothing",
        words,
        what="days with 40 % late where 40 % were expected",
    )
    one = _days(now, rate=0.2, labelled=0.0)
    one.loc[0, "late"] = 1.0
    ask(
        one,
        cold,
        cold,
        "concept drift",
        "One label is a label.",
        what="a morning with one label, where 20 % were expected",
    )
    late = "A label that has not come is no zero: compare only rows with a label."
    ask(
        _days(now, rate=0.2, labelled=0.25), cold, cold, "nothing", late, what="a morning on which a quarter has landed"
    )
    none = "Without a label there is no concept drift to see."
    ask(_days(now, rate=0.9, labelled=0.0), cold, cold, "nothing", none, what="a morning without a label")
    both = _days(now, rate=0.2, labelled=0.25)
    both.loc[100:, "probability"] = 0.6
    ask(
        both,
        cold,
        cold,
        "nothing",
        "Compare labels with the probabilities of the same rows.",
        what="risky flights that have not landed",
    )
