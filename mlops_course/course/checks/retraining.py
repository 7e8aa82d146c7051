"""Checks of the exercises of lesson 13: the price of age, a fingerprint, rows that are fit to train on, a policy."""

import builtins
import inspect
import sys
from collections.abc import Callable, Mapping
from unittest import mock

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import attempt, raised

__all__ = ["YourTurn", "decide", "fingerprint", "fit_to_train", "hint", "lived", "price_of_age", "summary"]


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
        came = attempt(lambda: answer(left, right), hint=f"It fails: {case}.")
        expect(isinstance(came, pd.Series), f"Give a series from month to price; a {type(came).__name__} came.")
        told = f"{case} gave {came.round(4).to_dict()}, expected {expected}."
        words_of_months = "A month counts if both have a loss for it."
        expect(sorted(came.index) == sorted(expected), words_of_months, case=told)
        expect(list(came.index) == sorted(expected), "Put the oldest month first.", case=told)
        expect(np.allclose(came.to_numpy(dtype=float), [expected[month] for month in came.index]), words, case=told)

    words = "Compare with the fresh model of the same month, and not with another month."
    ask({"2013-05": 0.4, "2013-06": 0.6}, {"2013-05": 0.3, "2013-06": 0.55}, {"2013-05": 0.1, "2013-06": 0.05}, words)
    ask({"2013-05": 0.4}, {"2013-05": 0.5}, {"2013-05": -0.1}, "A fresh model may be the worse one.")
    words = "The months came in another order: bring them together by their names."
    ask({"2013-06": 0.6, "2013-05": 0.4}, {"2013-05": 0.3, "2013-06": 0.55}, {"2013-05": 0.1, "2013-06": 0.05}, words)
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


def _answers(size: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(13)
    ids = [f"2013-05-{n % 28 + 1:02d}-UA{rng.integers(1, 2_000)}-{n}" for n in range(size)]
    return pd.DataFrame({"id": ids, "probability": rng.beta(2, 6, size)})


@check(
    "What has to be the same, and what may differ? Bring the rows into one order first.",
    "`float.hex` or `repr` writes a number so that no bit is lost; or take the bytes of the array.",
    "`hashlib.sha256(text.encode()).hexdigest()` is the same on every computer; `hash` is not.",
)
def fingerprint(answer):
    """The same answers have the same fingerprint anywhere, and one bit makes another one."""
    rows = _answers()
    first = attempt(lambda: answer(rows.copy()), hint="fingerprint fails on forty answers.")
    expect(isinstance(first, str), f"A fingerprint is a text; a {type(first).__name__} came.")
    expect(answer(rows.copy()) == first, "The same answers got two fingerprints.")
    expect(answer(rows.sample(frac=1, random_state=1)) == first, "The order of rows made another fingerprint.")
    expect(answer(rows.set_index(rows.index + 7)) == first, "Another index made another fingerprint.")
    for place, towards in ((0, 1.0), (17, 0.0), (39, 1.0)):
        moved = rows.copy()
        moved.loc[place, "probability"] = np.nextafter(moved.loc[place, "probability"], towards)
        words = "A probability changed in its last bit, and nobody noticed: round nothing."
        expect(answer(moved) != first, words, case=f"It was row {place} of 40.")
    swapped = rows.assign(probability=rows["probability"].iloc[[1, 0, *range(2, 40)]].to_numpy())
    expect(
        answer(swapped) != first, "Two rows have swapped their probabilities unnoticed: keep the id beside its number."
    )
    renamed = rows.assign(id=rows["id"].where(rows.index != 3, "another flight"))
    expect(answer(renamed) != first, "Another flight got the answer, and nobody noticed.")
    beside = rows.assign(id=rows["id"].where(rows.index != 3, rows["id"] + "x"))  # at the same place in order
    expect(answer(beside) != first, "A flight has another name, and nobody noticed: the id belongs to its number.")
    glued = [pd.DataFrame({"id": ids, "probability": [0.25, 0.5]}) for ids in (["ab", "c"], ["a", "bc"])]
    small = pd.DataFrame({"id": list("abcd"), "probability": [1e-3, 1e-5, 0.1, 0.9]})
    for place in range(4):
        moved = small.copy()
        moved.loc[place, "probability"] = np.nextafter(moved.loc[place, "probability"], 1)
        words = "A small probability changed in its last bit, and nobody noticed: round nothing."
        expect(answer(moved) != answer(small), words, case=f"It was {small.loc[place, 'probability']}.")
    tied = pd.DataFrame({"id": ["a", "b", "c"], "probability": 0.5})
    words = "The same answers in another order, and with a new index, have another fingerprint: sort by the id."
    expect(answer(tied[::-1].reset_index(drop=True)) == answer(tied), words, case="All probabilities were 0.5.")
    gaps = [pd.DataFrame({"id": ["a", "b"], "probability": pair}) for pair in ([np.nan, 0.1], [0.1, np.nan])]
    expect(answer(gaps[0]) != answer(gaps[1]), "Another row has lost its probability, and nobody noticed.")
    half = gaps[0].assign(probability=[0.5, 0.1])
    expect(answer(gaps[0]) != answer(half), "A probability that is missing is taken for one of 0.5.")
    comma = [pd.DataFrame({"id": ids, "probability": [0.25, 0.5]}) for ids in (["a,b", "c"], ["a", "b,c"])]
    words = "Two tables with other ids have one fingerprint: what stands between ids may be in an id."
    expect(answer(comma[0]) != answer(comma[1]), words, case="The ids were 'a,b', 'c' and 'a', 'b,c'.")
    words = "Two tables with other ids have one fingerprint: keep parts apart when you put them together."
    expect(answer(glued[0]) != answer(glued[1]), words, case="The ids were ab, c and a, bc.")
    expect(answer(rows.head(39)) != first, "An answer is missing, and nobody noticed.")
    gap = rows.assign(probability=rows["probability"].where(rows.index != 5))
    missing = attempt(lambda: answer(gap), hint="fingerprint fails on a missing probability.")
    expect(missing == answer(gap.copy()), "The same answers, one of them missing, got two fingerprints.")
    expect(missing != first, "A probability has gone missing unnoticed.")
    zero = rows.assign(probability=rows["probability"].where(rows.index != 5, 0.0))
    expect(missing != answer(zero), "A probability that is missing is taken for one of 0.")
    expect(missing != answer(rows.drop(index=5)), "A probability that is missing is taken for a row that is not there.")
    minus = zero.assign(probability=zero["probability"].where(rows.index != 5, -0.0))
    expect(answer(zero) != answer(minus), "0.0 and -0.0 are equal, and differ in a bit.")
    words = (
        "`hash` begins anew in each process: tomorrow, in another process, the same answers get another fingerprint."
    )
    expect(not _uses_hash(answer, rows), words)


def _uses_hash(answer: Callable, rows: pd.DataFrame) -> bool:
    """Whether the learner's own code calls the built-in `hash`, whose result nobody can compare with yesterday's."""
    home, real, calls = getattr(inspect.unwrap(answer), "__code__", None), hash, []

    def spy(value: object) -> int:
        if home is not None and sys._getframe(1).f_code.co_filename == home.co_filename:
            calls.append(value)
        return real(value)

    with mock.patch.object(builtins, "hash", spy):
        answer(rows)
    return bool(calls)


def _times() -> pd.DatetimeIndex:
    return pd.date_range("2013-05-01", periods=8, tz="UTC")


@check(
    "Go through the alerts: from when to when does it reach, and what does its kind ask for?",
    "`Series.between` includes both ends, and `Series.mask` makes values missing where a condition holds.",
    "What about kinds that you do not know, and what if hardly anything is left? Both end in ValueError.",
)
def fit_to_train(answer):
    """What cannot be trusted is left out, what is news is kept, and on scraps nothing is trained."""
    days = _times()
    rows = pd.DataFrame({"asked": days, "temp": np.arange(50.0, 58.0), "wind": np.arange(8.0), "late": [0.0, 1.0] * 4})
    rows = rows.set_axis([3, 1, 4, 7, 5, 9, 2, 6], axis="index")

    def ask(alerts: list[tuple], gone: list[int], masked: dict[str, list[int]], words: str, *, now: int = 7) -> None:
        given = [dict(zip(("kind", "column", "since", "until"), alert, strict=True)) for alert in alerts]
        told = [(kind, column, f"{since:%d %B}", until and f"{until:%d %B}") for kind, column, since, until in alerts]
        case = f"Eight days from 1 May, now {days[now]:%d %B}, alerts {told}."
        came = attempt(lambda: answer(rows, given, days[now]), hint=f"It fails. {case}")
        expected = rows.copy()
        for column, places in masked.items():
            expected.loc[expected.index[places], column] = np.nan
        expected = expected.drop(expected.index[gone])
        expect(isinstance(came, pd.DataFrame), f"Give a table of rows; a {type(came).__name__} came.")
        left = f"{case} {len(came)} rows came, expected {len(expected)}."
        expect(len(came) == len(expected), words, case=left)
        expect(list(came.index) == list(expected.index), "Rows keep index and order.", case=case)
        for column in rows:
            same = came[column].equals(expected[column]) if column in came else False
            expect(same, words, case=f"{case} The column {column} is another one.")

    ask([], [], {}, "Without an alert everything stays.")
    words = "Labels of that time cannot be trusted: rows that asked in it go, both ends included."
    ask([("labels", None, days[1], days[3])], [1, 2, 3], {}, words)
    words = "A shift is the world, and has to be learned: nothing goes."
    ask([("shift", "temp", days[1], days[3])], [], {}, words)
    words = "One column was broken: its values of that time become missing, and the rows stay."
    ask([("column", "temp", days[2], days[4])], [], {"temp": [2, 3, 4]}, words)
    words = "An alert that is still open reaches to now."
    ask([("labels", None, days[6], None)], [6, 7], {}, words)
    ask([("column", "wind", days[5], None)], [], {"wind": [5, 6, 7]}, words)
    ask(
        [("column", "wind", days[3], None)],
        [],
        {"wind": [3, 4, 5]},
        "An open alert reaches to now, and no further; rows that asked later stay as they are.",
        now=5,
    )
    words = "Two alerts of one kind hold side by side, also where they overlap."
    ask([("labels", None, days[0], days[1]), ("labels", None, days[1], days[2])], [0, 1, 2], {}, words)
    ask([("labels", None, days[0], days[0]), ("labels", None, days[7], None)], [0, 7], {}, words)
    ask([("column", "temp", days[0], days[0]), ("column", "temp", days[2], days[2])], [], {"temp": [0, 2]}, words)
    both = [
        ("column", "temp", days[0], days[1]),
        ("labels", None, days[1], days[2]),
        ("column", "wind", days[0], days[0]),
    ]
    ask(both, [1, 2], {"temp": [0, 1], "wind": [0]}, "Several alerts hold side by side.")
    ask([("labels", None, days[0], days[3])], [0, 1, 2, 3], {}, "Half of the rows are enough.")
    scraps = {"kind": "labels", "column": None, "since": days[0], "until": days[4]}
    came = raised(lambda: answer(rows, [scraps], days[7]))
    words = "Three of eight rows are left, fewer than half: raise ValueError, as somebody has to look first."
    expect(isinstance(came, ValueError), words, case=f"It raised {came!r}." if came else "It raised nothing.")
    odd = {"kind": "sun storm", "column": None, "since": days[0], "until": days[0]}
    came = raised(lambda: answer(rows, [odd], days[7]))
    words = "Nobody knows what an alert of the kind 'sun storm' means: raise ValueError that names it."
    expect(isinstance(came, ValueError) and "sun storm" in str(came), words, case=f"It raised {came!r}.")


# A small world --------------------------------------------------------------------------------------------------------

DAYS, WINDOW, RECENT = 365, 10, 7  # days of a year, of a training, and of the mean that shows a rise
TRAINING, LOSS = 60.0, 100.0  # EUR: of a training, and of a day with a loss of one
WRONG = 1.5  # how far a broken feed leads a model astray that learns from nothing else


def lived(policy: Callable[[Mapping[str, float]], bool], *, seed: int) -> float:
    """What a year costs under a policy, in EUR: trainings, and the loss of each day."""
    return _year(policy, seed)[0]


def _year(policy: Callable[[Mapping[str, float]], bool], seed: int) -> tuple[float, int, int]:
    """Cost, number of trainings, and how many of them learned from a broken day."""
    rng = np.random.default_rng(seed)
    truth, broken = np.zeros(DAYS), np.zeros(DAYS, bool)
    for day in sorted(rng.choice(np.arange(40, 330), 3, replace=False)):
        truth[day:] += rng.choice([-0.5, 0.5])
    for day in (rng.integers(30, 110), rng.integers(140, 220), rng.integers(250, 330)):
        broken[day : day + rng.integers(8, 16)] = True
    season = 0.03 * np.sin(2 * np.pi * (np.arange(DAYS) / DAYS + rng.random())) + rng.normal(0, 0.004, DAYS)
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


@check(
    "Three questions: is what would be learned sound, is there a reason, did the last training have time to show?",
    "By how much do the seasons move `rise`, and by how much does a jump? The bar belongs between them.",
    "`checks.lived(decide, seed=1)` lives a year. Print it for a few bars and a few seeds.",
)
def decide(answer):
    """It costs less than never and monthly in years that it has not seen, and learns from no broken day."""
    calm = {"age": 30, "rise": 0.0, "broken_days": 0}
    came = attempt(lambda: answer(dict(calm)), hint=f"decide fails on {calm}.")
    expect(isinstance(came, bool | np.bool_), f"Say True or False; a {type(came).__name__} came.")
    for broken in (1, 5, 10):
        for rise in (0.0, 0.2, 3.0):
            state = {"age": 90, "rise": rise, "broken_days": broken}
            words = "It trains on labels of a broken feed. Its rise may be the feed's, and so would be what is learned."
            expect(not answer(dict(state)), words, case=f"decide({state}) said True.")
    ours, trainings, never, monthly = [], [], [], []
    for seed in range(101, 113):
        cost, trained, spoilt = _year(answer, seed)
        expect(not spoilt, "It trained on days of a broken feed.", case=f"That was in the year of seed {seed}.")
        ours.append(cost)
        trainings.append(trained)
        never.append(lived(lambda state: False, seed=seed))
        monthly.append(lived(lambda state: state["age"] >= 30 and not state["broken_days"], seed=seed))
    mean, of_never, of_monthly = float(np.mean(ours)), float(np.mean(never)), float(np.mean(monthly))
    told = f"In twelve years it cost {mean:,.0f} EUR a year with {np.mean(trainings):.0f} trainings; "
    costs = f"{told}never costs {of_never:,.0f}, monthly {of_monthly:,.0f}."
    if np.mean(trainings) > 30:
        expect(
            mean <= 0.9 * of_monthly, "Most of it goes into trainings: it should have a reason for each.", case=costs
        )
    expect(mean <= 0.5 * of_never, "It costs more than half of what a team does that never trains.", case=costs)
    expect(
        mean <= 0.9 * of_monthly,
        "It costs more than nine tenths of what a team does that trains each month.",
        case=costs,
    )
