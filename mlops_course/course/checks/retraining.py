"""Checks of retraining: the price of age, the price of a training, rows that are fit to train on, a policy."""

import itertools
import math
import numbers
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import TRUTH, expect_error, expect_items, result

__all__ = [
    "YourTurn",
    "calm_year",
    "cheapest_between",
    "decide",
    "fit_to_train",
    "hint",
    "lived",
    "price_of_age",
    "summary",
]


@check(
    "What is hard about a month is hard for both models: what is left if you take one from the other?",
    "pandas brings two series together by their labels when you subtract one from the other.",
    "`dropna` takes away what is in one of them only, and `sort_index` puts the oldest month first.",
)
def price_of_age(answer):
    """Each month is compared with itself, and what only one side knows is left out."""

    def ask(frozen: dict[str, float], fresh: dict[str, float], expected: dict[str, float], words: str) -> None:
        case = f"price_of_age({frozen}, {fresh})"
        left, right = pd.Series(frozen, dtype=float), pd.Series(fresh, dtype=float)
        came = result(answer, left, right, case=case, kind=pd.Series, give="a series from month to price")
        both, order = (
            "A month counts, by its name, if both have a loss for it, also at a price of 0.",
            "Put the oldest month first.",
        )
        expect_items(list(came.index), sorted(expected), both, case=case, order=order)
        told = f"{case} gave {came.round(6).to_dict()}, expected {expected}."
        expect(np.allclose(came.to_numpy(dtype=float), [expected[month] for month in came.index]), words, case=told)

    may, june = {"2013-05": 0.4, "2013-06": 0.6}, {"2013-05": 0.3, "2013-06": 0.55}
    words = "From the loss of the frozen model take that of the fresh one in the same month, and round nothing."
    ask(may, june, {"2013-05": 0.1, "2013-06": 0.05}, words)
    ask({"2013-05": 0.412345}, {"2013-05": 0.3}, {"2013-05": 0.112345}, words)
    ask({"2013-05": 0.4}, {"2013-05": 0.5}, {"2013-05": -0.1}, "A fresh model may be the worse one.")
    words = "The months came in another order: bring them together by their names."
    ask(dict(reversed(may.items())), june, {"2013-05": 0.1, "2013-06": 0.05}, words)
    same = {"2013-06": 0.5, "2013-05": 0.4}
    ask(same, {"2013-06": 0.5, "2013-05": 0.3}, {"2013-05": 0.1, "2013-06": 0.0}, "A price of 0 is a price.")
    turn = {"2014-01": 0.5, "2013-12": 0.4, "2013-11": 0.6}
    words = "January comes after the December of the year before."
    ask(turn, dict.fromkeys(turn, 0.0), {"2013-11": 0.6, "2013-12": 0.4, "2014-01": 0.5}, words)
    words = "A month that one of them lacks has no price."
    ask(same, {"2013-05": 0.3, "2013-06": np.nan}, {"2013-05": 0.1}, words)
    ask({"2013-05": 0.4, "2013-07": 0.5}, {"2013-05": 0.3, "2013-04": 0.2}, {"2013-05": 0.1}, words)
    ask({"2013-05": 0.4, "2013-06": np.nan}, {"2013-06": 0.1, "2013-05": 0.3}, {"2013-05": 0.1}, words)
    ask({}, {"2013-05": 0.3}, {}, words)


@check(
    "At a price p of a training a policy costs errors + trainings × p. Which other policy costs less at p?",
    "Take one other policy at a time: at which p do the two cost the same? Divide by the difference in trainings.",
    "A policy with fewer trainings sets a highest price, one with more trainings a lowest one.",
    nothing=True,
)
def cheapest_between(answer):
    """At each price in the range no other policy costs less, and just outside of it one does."""
    assumed = {"never": (97_590, 0), "combined": (24_045, 2), "monthly": (0, 5)}

    def ask(policies: dict[str, tuple], name: str, expected: tuple | None, words: str) -> None:
        case = f"cheapest_between({policies}, {name!r})"
        came = result(answer, policies, name, case=case)
        told = f"{case} gave {came}, expected {expected}."
        if came is None or expected is None:
            expect(came is None and expected is None, words, case=told)
            return
        pair = isinstance(came, tuple | list) and len(came) == 2
        expect(pair, "Give a pair, the lowest and the highest price, or None.", case=told)
        real = [float(one) for one in came if isinstance(one, numbers.Real)]
        endless = expected[1] < math.inf or math.inf in came
        expect(endless, "No price is too high for it: its highest price is math.inf.", case=told)
        same = len(real) == 2 and np.allclose(real, expected, rtol=1e-9, atol=1e-9)
        expect(same, words, case=told)

    words = "Below the price at which both cost the same, the one with more trainings costs less."
    ask({"never": (50, 0), "yearly": (0, 5)}, "yearly", (0, 10), words)
    words = "Divide what the errors differ by by the difference in trainings, and not by the trainings of one policy."
    ask({"seldom": (60, 2), "often": (0, 5)}, "often", (0, 20), words)
    words = "Where trainings are cheap, a policy that trains more often costs less: there is a lowest price."
    ask({"seldom": (60, 2), "often": (0, 5)}, "seldom", (20, math.inf), words)
    words = "Prices need not be whole numbers."
    ask({"a": (1.0, 0), "b": (0.25, 3)}, "b", (0, 0.25), words)
    words = "Each other policy sets a bound, wherever it stands and however many trainings it has: take the tightest."
    ask({"never": (50, 0), "seldom": (60, 2), "often": (0, 5)}, "often", (0, 10), words)
    ask(assumed, "monthly", (0, 8_015), words)
    ask(assumed, "never", (36_772.5, math.inf), words)
    ask(assumed, "combined", (8_015, 36_772.5), "One policy sets the lowest price, another one the highest.")
    turned = dict(reversed(assumed.items()))
    ask(turned, "combined", (8_015, 36_772.5), "The policies may come in any order.")
    ask({"monthly": (10, 5)}, "monthly", (0, math.inf), "Without another policy, no price is too low or too high.")
    words = "With as many trainings, the one with fewer errors costs less at each price."
    ask({"all past": (10, 5), "last month": (30, 5)}, "last month", None, words)
    ask({"all past": (10, 5), "last month": (30, 5)}, "all past", (0, math.inf), words)
    words = "Another policy that costs exactly as much is not cheaper."
    ask({"monthly": (10, 5), "on drift": (10, 5), "never": (60, 0)}, "on drift", (0, 10), words)
    words = "Never a price below 0: it costs less than that one even if trainings are free."
    ask({"seldom": (0, 2), "often": (60, 5)}, "seldom", (0, math.inf), words)
    words = "It has more trainings and more errors: there is no price at which it is the cheapest."
    ask({"seldom": (0, 2), "often": (60, 5)}, "often", None, words)
    words = (
        "At each price one of the other two costs less, so there is no price for it: the lowest lies above the highest."
    )
    ask({"never": (100, 0), "combined": (70, 2), "monthly": (0, 5)}, "combined", None, words)
    words = "A range may be a single price, at which others cost exactly as much."
    ask({"never": (100, 0), "combined": (60, 2), "monthly": (0, 5)}, "combined", (20, 20), words)
    ask({"seldom": (10, 2), "often": (10, 5)}, "often", (0, 0), words)
    words = "Choose the policy by its whole name."
    ask({"monthly, last": (80, 5), "monthly": (0, 5), "never": (50, 0)}, "monthly", (0, 10), words)
    ask({"monthly, last": (0, 5), "monthly": (80, 5)}, "monthly", None, words)
    words = "One training more or less, and errors that differ by half a EUR, count as well."
    ask({"a": (3.0, 1), "b": (1.0, 2), "c": (2.5, 1)}, "b", (0, 1.5), words)
    ask({"a": (3.0, 1), "b": (1.0, 2)}, "a", (2, math.inf), words)
    ask({"a": (3.0, 1), "c": (2.5, 1)}, "a", None, words)


@check(
    "Go through the alerts: from when to when does each reach, and what does its kind ask for?",
    "`Series.between` includes both ends, and `Series.mask` makes values missing where a condition holds.",
    "What about a kind that you do not know, and what if hardly anything is left? Both end in ValueError.",
)
def fit_to_train(answer):
    """What cannot be trusted is left out, what is news is kept, and on scraps nothing is trained."""
    for words, *cases in FORBIDDEN:
        for alerts, gone, masked, *now in cases:
            _ask_rows(answer, ROWS, alerts, gone, masked, words, now=now[0] if now else 7)
    hours = ROWS.assign(asked=[_moment(4 + hour / 24) for hour in range(0, 24, 3)])
    words = "An alert begins and ends at an instant, and not at a midnight: compare instants, and not days."
    _ask_rows(answer, hours, [("labels", None, 4.125, 4.375)], [1, 2, 3], {}, words)
    mixed = ROWS.iloc[[5, 0, 7, 2, 1, 6, 3, 4]]
    words = "Rows may come in any order: choose them by `asked`, and keep their order."
    _ask_rows(answer, mixed, [("labels", None, 1, 2), ("column", "temp", 6, 7)], [3, 4], {"temp": [2, 5]}, words)
    twice = ROWS.set_axis([0, 0, 1, 1, 2, 2, 3, 3], axis="index")
    words = "Labels of the index may repeat: choose rows by `asked`, and not by their label."
    _ask_rows(answer, twice, [("labels", None, 1, 1), ("column", "wind", 4, 4)], [1], {"wind": [4]}, words)
    empty = ROWS.assign(temp=ROWS["temp"].where(ROWS["temp"] > 51))
    words = "What was missing before stays missing, and its row stays."
    _ask_rows(answer, empty, [("column", "temp", 3, 3)], [], {"temp": [3]}, words)
    _ask_rows(answer, ROWS.head(0), [], [], {}, "A table without rows stays one: nothing of it is lost.")
    words = "Four of seven rows are left, more than half."
    _ask_rows(answer, ROWS.head(7), [("labels", None, 0, 2)], [0, 1, 2], {}, words)
    for words, size, kind, *alerts in REFUSED:
        given = [_alert(*one) for one in alerts]
        expect_error(lambda: answer(ROWS.head(size), given, _moment(7)), ValueError, words, names=kind)  # noqa: B023


START = pd.Timestamp("2013-05-01", tz="UTC")
ROWS = pd.DataFrame(
    {
        "asked": pd.date_range(START, periods=8),
        "temp": np.arange(50.0, 58.0),
        "wind": np.arange(8.0),
        "late": [0.0, 1.0] * 4,
    },
    index=[3, 1, 4, 7, 5, 9, 2, 6],
)
FORBIDDEN = [  # words, then: alerts (kind, column, since, until), places of rows that go, values that do, and now
    ("Without an alert everything stays.", ([], [], {})),
    (
        "Labels of that time cannot be trusted: rows that asked in it go, both ends included.",
        ([("labels", None, 1, 3)], [1, 2, 3], {}),
    ),
    ("A shift is the world, and has to be learned: nothing goes.", ([("shift", "temp", 1, 3)], [], {})),
    (
        "One column was broken, which the alert names: its values of that time become missing, and the rows stay.",
        ([("column", "temp", 2, 4)], [], {"temp": [2, 3, 4]}),
        ([("column", "wind", 2, 4)], [], {"wind": [2, 3, 4]}),
        ([("column", "late", 2, 4)], [], {"late": [2, 3, 4]}),
    ),
    (
        "A row with a missing value is left, too: count rows.",
        ([("column", "wind", 0, 7)], [], {"wind": [*range(8)]}),
    ),
    (
        "An alert that is still open reaches to now.",
        ([("labels", None, 6, None)], [6, 7], {}),
        ([("column", "wind", 5, None)], [], {"wind": [5, 6, 7]}),
    ),
    (
        "An open alert reaches to now, and no further; rows that asked later stay as they are.",
        ([("column", "wind", 3, None)], [], {"wind": [3, 4, 5]}, 5),
        ([("labels", None, 3, None)], [3, 4], {}, 4.5),
    ),
    (
        "An alert begins and ends at an instant, and not at a midnight: compare instants, and not days.",
        ([("labels", None, 1.25, 3.5)], [2, 3], {}),
        ([("column", "temp", 1.25, 3.5)], [], {"temp": [2, 3]}),
    ),
    (
        "Several alerts hold side by side, also of one kind, and where they overlap.",
        ([("labels", None, 0, 1), ("labels", None, 1, 2)], [0, 1, 2], {}),
        ([("labels", None, 0, 0), ("labels", None, 7, None)], [0, 7], {}),
        ([("column", "temp", 0, 0), ("column", "temp", 2, 2)], [], {"temp": [0, 2]}),
        (
            [("column", "temp", 0, 1), ("labels", None, 1, 2), ("column", "wind", 0, 0)],
            [1, 2],
            {"temp": [0, 1], "wind": [0]},
        ),
        ([("shift", None, 0, None), ("labels", None, 2, 2)], [2], {}),
    ),
    ("An alert of labels outside of the time of all rows takes nothing.", ([("labels", None, -5, -1)], [], {})),
    ("Half of the rows are enough.", ([("labels", None, 0, 3)], [0, 1, 2, 3], {})),
]
SCRAPS = "Fewer than half of the rows are left: raise ValueError, as somebody has to look first."
UNKNOWN = "Nobody knows what an alert of this kind means: raise ValueError that names it, whatever its time."
REFUSED = [  # words, number of rows, what the error names, alerts
    (f"{SCRAPS} Here three of eight are left.", 8, "", ("labels", None, 0, 4)),
    (f"{SCRAPS} Here three of seven are left, and half of seven is three and a half.", 7, "", ("labels", None, 0, 3)),
    (f"{SCRAPS} Here the only row is gone.", 1, "", ("labels", None, 0, 0)),
    (
        f"{SCRAPS} Here two alerts together leave three of eight: compare with all rows that came in.",
        8,
        "",
        ("labels", None, 0, 1),
        ("labels", None, 5, None),
    ),
    (UNKNOWN, 8, "sun storm", ("sun storm", None, 0, 0)),
    (UNKNOWN, 8, "sun storm", ("labels", None, 0, 0), ("sun storm", None, -5, -4)),
    (UNKNOWN, 8, "labelss", ("column", "temp", 0, 0), ("labelss", None, 1, 1)),
]


def _moment(day: float | None) -> pd.Timestamp | None:
    return None if day is None else START + pd.Timedelta(hours=24 * day)


def _alert(kind: str, column: str | None, since: float, until: float | None) -> dict:
    return {"kind": kind, "column": column, "since": _moment(since), "until": _moment(until)}


def _ask_rows(
    answer: Callable, rows: pd.DataFrame, alerts: list[tuple], gone: list[int], masked: dict, words: str, now: float = 7
) -> None:
    """Expect all rows but those that are gone, each with its values but those that are masked."""
    asked = [f"{(time - START) / pd.Timedelta('1D'):g}" for time in rows["asked"]]
    case = f"Rows asked on the days {', '.join(asked)}, now is day {now:g}, (kind, column, since, until): {alerts}."
    given, hint = [_alert(*one) for one in alerts], f"{words} {case}"
    came = result(answer, rows, given, _moment(now), case=case, hint=hint, kind=pd.DataFrame, give="a table of rows")
    kept = [place for place in range(len(rows)) if place not in gone]
    expected = rows.iloc[kept]
    expect(len(came) == len(kept), words, case=f"{case} {len(came)} rows came, expected {len(kept)}.")
    expect(list(came.columns) == list(rows.columns), "Give the same columns, in the same order.", case=case)
    expect(list(came.index) == list(expected.index), "Rows keep index and order.", case=case)
    for column in rows:
        values = rows[column].mask(np.isin(np.arange(len(rows)), masked.get(column, []))).iloc[kept].tolist()
        back = came[column].tolist()
        same = all(one == two or (pd.isna(one) and pd.isna(two)) for one, two in zip(back, values, strict=True))
        expect(same, words, case=f"{case} {column} came as {back}, expected {values}.")


DAYS, WINDOW, RECENT = 365, 10, 7  # days of a year, of a training, and of the mean that shows a rise
TRAINING, LOSS = 60.0, 100.0  # EUR: of a training, and of a day with a loss of one
WRONG = 1.5  # how far a broken feed leads a model astray that learns from nothing else


Policy = Callable[[Mapping[str, float]], bool]


def lived(policy: Policy, *, seed: int) -> float:
    """What a year costs under a policy, in EUR: trainings, and the loss of each day."""
    return _year(policy, seed)[0]


def calm_year(policy: Policy, *, seed: int) -> int:
    """How often a policy trains in a year without a jump and without a broken feed."""
    return _year(policy, seed, calm=True)[1]


def _year(policy: Policy, seed: int, *, calm: bool = False) -> tuple[float, int, int]:
    """Cost, number of trainings, and how many of them learned from a broken day."""
    rng = np.random.default_rng(seed)
    truth, broken = np.zeros(DAYS), np.zeros(DAYS, bool)
    for day in sorted(rng.choice(np.arange(40, 330), 3, replace=False)):
        truth[day:] += rng.choice([-0.5, 0.5])
    for day in (rng.integers(30, 110), rng.integers(140, 220), rng.integers(250, 330)):
        broken[day : day + rng.integers(8, 16)] = True
    season = 0.03 * np.sin(2 * np.pi * (np.arange(DAYS) / DAYS + rng.random())) + rng.normal(0, 0.004, DAYS)
    truth, broken = truth * (not calm), broken & (not calm)
    told = truth + WRONG * broken  # what labels say
    model, trained, promised, cost, trainings, spoilt = 0.0, 0, season[:RECENT].mean(), 0.0, 0, 0
    for day in range(DAYS):
        cost += LOSS * ((truth[day] - model) ** 2 + season[day])
        if day < WINDOW:
            continue
        recent = slice(day - RECENT + 1, day + 1)
        seen = ((told[recent] - model) ** 2 + season[recent]).mean()
        last = slice(day - WINDOW + 1, day + 1)
        state = {"age": day - trained, "rise": float(seen - promised), "broken_days": int(broken[last].sum())}
        if policy(state):
            model, trained = float(told[last].mean()), day
            promised, cost = float(season[last].mean()), cost + TRAINING
            trainings, spoilt = trainings + 1, spoilt + bool(broken[last].any())
    return cost, trainings, spoilt


SEEDS = range(101, 113)  # of the years of the check


@check(
    "Three questions: is what would be learned sound, is there a reason, did the last training have time to show?",
    "By how much can the seasons alone move `rise`, and by how much does a jump? The bar belongs between them.",
    "`checks.lived(decide, seed=1)` lives a year, `checks.calm_year(decide, seed=1)` one in which nothing happens.",
)
def decide(answer):
    """It costs less than never and monthly in years that it has not seen, and learns from no broken day."""

    def ask(state: Mapping[str, float]) -> bool:
        case = f"It was decide({state})."
        return bool(result(answer, state, case=case, kind=TRUTH, give="True or False"))

    calm = {"age": 30, "rise": 0.0, "broken_days": 0}
    again = {ask(calm | {"rise": 0.25}) for _ in range(9)}
    once = "The same state got two answers: decide by what stands in `state`, and keep nothing between two calls."
    expect(len(again) == 1, once, case=f"It was asked nine times with {calm | {'rise': 0.25}}.")
    words = "It trains on labels of a broken feed. Its rise may be the feed's, and so would be what is learned."
    states = [dict(zip(calm, one, strict=True)) for one in itertools.product((5, 90, 400), (0.0, 0.2, 3.0), (1, 5, 10))]
    for state in states:
        expect(not ask(state), words, case=f"decide({state}) said True.")
    states += [calm | {"rise": rise} for rise in (-0.5, 0.02, 0.05, 0.1, 0.25, 3.0)]
    before = list(map(ask, states))
    ours, trainings, never, monthly = [], [], [], []
    for seed in SEEDS:
        cost, trained, spoilt = _year(ask, seed)
        expect(not spoilt, "It trained on days of a broken feed.", case=f"That was in the year of seed {seed}.")
        ours.append(cost)
        trainings.append(trained)
        never.append(lived(lambda state: False, seed=seed))
        monthly.append(lived(lambda state: state["age"] >= 30 and not state["broken_days"], seed=seed))
    expect(list(map(ask, states)) == before, once)
    mean, of_never, of_monthly, often = map(float, map(np.mean, (ours, never, monthly, trainings)))
    costs = f"In twelve years it cost {mean:,.0f} EUR a year with {often:.0f} trainings; "
    costs += f"never costs {of_never:,.0f}, monthly {of_monthly:,.0f}."
    cheap, words = mean <= 0.9 * of_monthly, "Most of it goes into trainings: it should have a reason for each."
    expect(cheap or often <= 30, words, case=costs)
    expect(mean <= 0.5 * of_never, "It costs more than half of what a team does that never trains.", case=costs)
    expect(cheap, "It costs more than nine tenths of what a team does that trains each month.", case=costs)
    words = "Without a jump it trains more than once: neither the seasons nor the calendar are a reason."
    for seed in SEEDS:
        times = calm_year(ask, seed=seed)
        expect(times <= 1, words, case=f"In the calm year of seed {seed} it trained {times} times.")
