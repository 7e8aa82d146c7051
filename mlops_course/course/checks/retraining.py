"""Checks of retraining: the price of age, a fingerprint, rows that are fit to train on, a policy."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import TRUTH, calls_hash, expect_error, expect_items, result

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
        came = result(answer, left, right, case=case, kind=pd.Series, give="a series from month to price")
        both, order = "A month counts if both have a loss for it.", "Put the oldest month first."
        expect_items(list(came.index), sorted(expected), both, case=case, order=order)
        told = f"{case} gave {came.round(4).to_dict()}, expected {expected}."
        expect(np.allclose(came.to_numpy(dtype=float), [expected[month] for month in came.index]), words, case=told)

    may, june = {"2013-05": 0.4, "2013-06": 0.6}, {"2013-05": 0.3, "2013-06": 0.55}
    words = "Compare with the fresh model of the same month, and not with another month."
    ask(may, june, {"2013-05": 0.1, "2013-06": 0.05}, words)
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


def _answers(size: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(13)
    ids = [f"2013-05-{n % 28 + 1:02d}-UA{rng.integers(1, 2_000)}-{n}" for n in range(size)]
    return pd.DataFrame({"id": ids, "probability": rng.beta(2, 6, size)})


def _next_bit(rows: pd.DataFrame, place: int, towards: float) -> pd.DataFrame:
    """Rows of which one probability differs in its last bit."""
    moved = rows.copy()
    moved.loc[place, "probability"] = np.nextafter(moved.loc[place, "probability"], towards)
    return moved


def _pair(ids: list[str], *probabilities: float) -> pd.DataFrame:
    return pd.DataFrame({"id": ids, "probability": probabilities or [0.25, 0.5]})


@check(
    "What has to be the same, and what may differ? Bring the rows into one order first.",
    "`float.hex` or `repr` writes a number so that no bit is lost; or take the bytes of the array.",
    "`hashlib.sha256(text.encode()).hexdigest()` is the same on every computer; `hash` is not.",
)
def fingerprint(answer):
    """The same answers have the same fingerprint anywhere, and one bit makes another one."""
    rows = _answers()
    first = result(answer, rows, case="", hint="fingerprint fails on forty answers.", kind=str, give="a text")

    def differ(left: pd.DataFrame, right: pd.DataFrame, words: str, *, case: str = "") -> None:
        expect(answer(left) != answer(right), words, case=case)

    def probability(place: int, value: float) -> pd.DataFrame:
        return rows.assign(probability=rows["probability"].where(rows.index != place, value))

    expect(answer(rows) == first, "The same answers got two fingerprints.")
    expect(answer(rows.sample(frac=1, random_state=1)) == first, "The order of rows made another fingerprint.")
    expect(answer(rows.set_index(rows.index + 7)) == first, "Another index made another fingerprint.")
    words = "A probability changed in its last bit, and nobody noticed: round nothing."
    for place, towards in ((0, 1.0), (17, 0.0), (39, 1.0)):
        differ(rows, _next_bit(rows, place, towards), words, case=f"It was row {place} of 40.")
    small = pd.DataFrame({"id": list("abcd"), "probability": [1e-3, 1e-5, 0.1, 0.9]})
    words = "A small probability changed in its last bit, and nobody noticed: round nothing."
    for place, value in small["probability"].items():
        differ(small, _next_bit(small, place, 1.0), words, case=f"It was {value}.")
    swapped = rows.assign(probability=rows["probability"].iloc[[1, 0, *range(2, 40)]].to_numpy())
    words = "Two rows have swapped their probabilities unnoticed: keep the id beside its number."
    differ(rows, swapped, words)
    renamed = rows.assign(id=rows["id"].where(rows.index != 3, "another flight"))
    differ(rows, renamed, "Another flight got the answer, and nobody noticed.")
    beside = rows.assign(id=rows["id"].where(rows.index != 3, rows["id"] + "x"))  # at the same place in order
    differ(rows, beside, "A flight has another name, and nobody noticed: the id belongs to its number.")
    tied = pd.DataFrame({"id": ["a", "b", "c"], "probability": 0.5})
    words = "The same answers in another order, and with a new index, have another fingerprint: sort by the id."
    expect(answer(tied[::-1].reset_index(drop=True)) == answer(tied), words, case="All probabilities were 0.5.")
    gap = _pair(["a", "b"], np.nan, 0.1)
    differ(gap, _pair(["a", "b"], 0.1, np.nan), "Another row has lost its probability, and nobody noticed.")
    differ(gap, _pair(["a", "b"], 0.5, 0.1), "A probability that is missing is taken for one of 0.5.")
    words = "Two tables with other ids have one fingerprint: what stands between ids may be in an id."
    differ(_pair(["a,b", "c"]), _pair(["a", "b,c"]), words, case="The ids were 'a,b', 'c' and 'a', 'b,c'.")
    words = "Two tables with other ids have one fingerprint: keep parts apart when you put them together."
    differ(_pair(["ab", "c"]), _pair(["a", "bc"]), words, case="The ids were ab, c and a, bc.")
    differ(rows, rows.head(39), "An answer is missing, and nobody noticed.")
    gap, zero = probability(5, np.nan), probability(5, 0.0)
    missing = result(answer, gap, case="", hint="fingerprint fails on a missing probability.")
    expect(missing == answer(gap), "The same answers, one of them missing, got two fingerprints.")
    expect(missing != first, "A probability has gone missing unnoticed.")
    differ(gap, zero, "A probability that is missing is taken for one of 0.")
    differ(gap, rows.drop(index=5), "A probability that is missing is taken for a row that is not there.")
    differ(zero, probability(5, -0.0), "0.0 and -0.0 are equal, and differ in a bit.")
    words = "`hash` gives other numbers in another process, so the same answers get another fingerprint there."
    expect(not calls_hash(answer, rows), words)


@check(
    "Go through the alerts: from when to when does it reach, and what does its kind ask for?",
    "`Series.between` includes both ends, and `Series.mask` makes values missing where a condition holds.",
    "What about kinds that you do not know, and what if hardly anything is left? Both end in ValueError.",
)
def fit_to_train(answer):
    """What cannot be trusted is left out, what is news is kept, and on scraps nothing is trained."""
    days = pd.date_range("2013-05-01", periods=8, tz="UTC")
    rows = pd.DataFrame({"asked": days, "temp": np.arange(50.0, 58.0), "wind": np.arange(8.0), "late": [0.0, 1.0] * 4})
    rows = rows.set_axis([3, 1, 4, 7, 5, 9, 2, 6], axis="index")

    def alert(kind: str, column: str | None, since: int, until: int | None) -> dict:
        return {"kind": kind, "column": column, "since": days[since], "until": None if until is None else days[until]}

    def ask(alerts: list[tuple], gone: list[int], masked: dict[str, list[int]], words: str, *, now: int = 7) -> None:
        given = [alert(*one) for one in alerts]
        case = f"Eight days, the first has number 0, now {now}, alerts (kind, column, since, until) {alerts}."
        came = result(answer, rows, given, days[now], case=case, kind=pd.DataFrame, give="a table of rows")
        expected = rows.copy()
        for column, places in masked.items():
            expected.loc[expected.index[places], column] = np.nan
        expected = expected.drop(expected.index[gone])
        left = f"{case} {len(came)} rows came, expected {len(expected)}."
        expect(len(came) == len(expected), words, case=left)
        expect(list(came.index) == list(expected.index), "Rows keep index and order.", case=case)
        for column in rows:
            same = column in came and came[column].equals(expected[column])
            expect(same, words, case=f"{case} The column {column} is another one.")

    ask([], [], {}, "Without an alert everything stays.")
    words = "Labels of that time cannot be trusted: rows that asked in it go, both ends included."
    ask([("labels", None, 1, 3)], [1, 2, 3], {}, words)
    ask([("shift", "temp", 1, 3)], [], {}, "A shift is the world, and has to be learned: nothing goes.")
    words = "One column was broken: its values of that time become missing, and the rows stay."
    ask([("column", "temp", 2, 4)], [], {"temp": [2, 3, 4]}, words)
    words = "An alert that is still open reaches to now."
    ask([("labels", None, 6, None)], [6, 7], {}, words)
    ask([("column", "wind", 5, None)], [], {"wind": [5, 6, 7]}, words)
    words = "An open alert reaches to now, and no further; rows that asked later stay as they are."
    ask([("column", "wind", 3, None)], [], {"wind": [3, 4, 5]}, words, now=5)
    words = "Two alerts of one kind hold side by side, also where they overlap."
    ask([("labels", None, 0, 1), ("labels", None, 1, 2)], [0, 1, 2], {}, words)
    ask([("labels", None, 0, 0), ("labels", None, 7, None)], [0, 7], {}, words)
    ask([("column", "temp", 0, 0), ("column", "temp", 2, 2)], [], {"temp": [0, 2]}, words)
    both = [("column", "temp", 0, 1), ("labels", None, 1, 2), ("column", "wind", 0, 0)]
    ask(both, [1, 2], {"temp": [0, 1], "wind": [0]}, "Several alerts hold side by side.")
    ask([("labels", None, 0, 3)], [0, 1, 2, 3], {}, "Half of the rows are enough.")
    words = "Three of eight rows are left, fewer than half: raise ValueError, as somebody has to look first."
    expect_error(lambda: answer(rows, [alert("labels", None, 0, 4)], days[7]), ValueError, words)
    words = "Nobody knows what an alert of the kind 'sun storm' means: raise ValueError that names it."
    odd = alert("sun storm", None, 0, 0)
    expect_error(lambda: answer(rows, [odd], days[7]), ValueError, words, names="sun storm")


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
    result(answer, calm, case="", hint=f"decide fails on {calm}.", kind=TRUTH, give="True or False")
    words = "It trains on labels of a broken feed. Its rise may be the feed's, and so would be what is learned."
    for broken, rise in itertools.product((1, 5, 10), (0.0, 0.2, 3.0)):
        state = {"age": 90, "rise": rise, "broken_days": broken}
        expect(not answer(state), words, case=f"decide({state}) said True.")
    ours, trainings, never, monthly = [], [], [], []
    for seed in range(101, 113):
        cost, trained, spoilt = _year(answer, seed)
        expect(not spoilt, "It trained on days of a broken feed.", case=f"That was in the year of seed {seed}.")
        ours.append(cost)
        trainings.append(trained)
        never.append(lived(lambda state: False, seed=seed))
        monthly.append(lived(lambda state: state["age"] >= 30 and not state["broken_days"], seed=seed))
    mean, of_never, of_monthly, often = map(float, map(np.mean, (ours, never, monthly, trainings)))
    costs = f"In twelve years it cost {mean:,.0f} EUR a year with {often:.0f} trainings; "
    costs += f"never costs {of_never:,.0f}, monthly {of_monthly:,.0f}."
    cheap, words = mean <= 0.9 * of_monthly, "Most of it goes into trainings: it should have a reason for each."
    expect(cheap or often <= 30, words, case=costs)
    expect(mean <= 0.5 * of_never, "It costs more than half of what a team does that never trains.", case=costs)
    expect(cheap, "It costs more than nine tenths of what a team does that trains each month.", case=costs)
