"""Checks of deployment.

A job that runs twice, a shadow, a clear no, a rule that stops a canary, and what a log tells of other decisions.
"""

import json
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import TRUTH, expect_error, raised, result

__all__ = ["YourTurn", "answered", "hint", "judge", "reply", "stop", "summary", "would_cost"]


class _Model:
    """Answers by the wind, and keeps which ids it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        if rows.empty:
            raise ValueError("a table without rows came")
        self.asked.append(rows["id"].tolist())
        return rows["wind"].to_numpy() / 100


@check(
    "Leave out what is answered, and what comes again, before you ask.",
    "`isin` and `drop_duplicates` leave out; `pd.concat` puts the new answers below the old ones.",
    "What happens if nothing is new? Do not ask then.",
)
def answered(answer):
    """Each id is answered once and asked for once, and a second run does nothing."""

    def table(pairs: list[tuple[str, float]], *names: str) -> pd.DataFrame:
        return pd.DataFrame(pairs, columns=names).astype({names[0]: object, names[1]: float})

    def ask(before: list[tuple], questions: list[tuple], expected: list[tuple], words: str) -> None:
        case, model = f"Earlier answers {before}, questions {questions}.", _Model()
        given = table(questions, "id", "wind").set_axis(range(7, 7 + len(questions)), axis="index")
        fails, give = f"answered fails, perhaps because it asks when nothing is new. {case}", "a table"
        earlier = table(before, "id", "probability")
        came = result(answer, earlier, given, model, case=case, hint=fails, kind=pd.DataFrame, give=give)
        expect(sorted(came.columns) == ["id", "probability"], "Its columns are id and probability.", case=case)
        ids = came["id"].tolist()
        twice = sorted({name for name in ids if ids.count(name) > 1})
        expect(not twice, f"The id {', '.join(twice)} is there twice.", case=case)
        pairs = list(zip(ids, came["probability"].round(9).tolist(), strict=True))
        gone, told = "An earlier answer is gone, or has become another one.", f"{case} {pairs} came"
        expect(set(before) <= set(pairs), gone, case=f"{told}.")
        expect(pairs == expected, words, case=f"{told}, expected {expected}.")
        new = [name for name, _ in expected[len(before) :]]
        asked = f"{case} It was asked {model.asked}, expected {[new] if new else []}."
        other = "The model was asked for something else than what is new, once each."
        expect(sorted(name for call in model.asked for name in call) == sorted(new), other, case=asked)
        expect(len(model.asked) <= 1, "Ask once for all that is new: each call costs.", case=asked)

    ask([("a", 0.2)], [("b", 9.0)], [("a", 0.2), ("b", 0.09)], "New answers come after the earlier ones.")
    ask([("a", 0.2)], [("a", 9.0)], [("a", 0.2)], "Nothing is new.")
    ask([("a", 0.0)], [("a", 9.0)], [("a", 0.0)], "An earlier answer of 0 is an answer, and nothing is new.")
    words = "Earlier answers come first, as they stand; new ones follow, whatever their ids."
    ask([("c", 0.2), ("b", 0.1)], [("a", 9.0)], [("c", 0.2), ("b", 0.1), ("a", 0.09)], words)
    ask([("ab", 0.2)], [("a", 9.0)], [("ab", 0.2), ("a", 0.09)], "An id is the whole of it.")
    words = "They come in the order of the questions."
    ask([], [("b", 9.0), ("a", 5.0)], [("b", 0.09), ("a", 0.05)], words)
    ask([], [("b", 9.0), ("b", 9.0), ("a", 5.0)], [("b", 0.09), ("a", 0.05)], "A question came twice.")
    ask([("a", 0.2), ("z", 0.1)], [], [("a", 0.2), ("z", 0.1)], "There was no question.")
    ask([], [], [], "There was neither an answer nor a question.")
    mixed = [("a", 1.0), ("c", 3.0), ("a", 1.0), ("d", 4.0), ("c", 3.0), ("b", 2.0)]
    ask([("a", 0.5), ("b", 0.6)], mixed, [("a", 0.5), ("b", 0.6), ("c", 0.03), ("d", 0.04)], "Some are new.")


@check(
    "What may fail, and who must not notice? Fix the answer before you ask the shadow.",
    "Two steps may fail each by itself: asking the shadow, and keeping the answers. Each has to be caught by itself.",
    "`dict(row)` makes a copy that the shadow may do with as it likes.",
)
def reply(answer):
    """Whatever the shadow does, the caller gets the champion's answer, and failures are on record."""
    row = {"wind": 5.0, "origin": "JFK"}

    def fails(*_: object) -> float:
        raise RuntimeError("out of order")

    def spoils(given: dict) -> float:
        given.clear()
        return 0.7

    def ask(what: str, shadow: Callable, kept: tuple, words: str, *, keep: bool = True, says: float = 0.2) -> None:
        notes, calls = [], []

        def champion(given: dict) -> float:
            calls.append(given)
            return says if given == row else 0.9

        def record(*both: float | None) -> None:
            notes.append(both)
            if not keep:
                raise OSError("the disk is full")

        said = result(answer, row, champion, shadow, record, case="", hint=f"If {what}, reply fails. {words}")
        told = f"If {what}, the caller got {said!r}, expected {says!r}."
        expect(said == says, "The caller has to get the champion's answer.", case=told)
        told = f"If {what}, record was called with {notes}, expected {[kept]}."
        expect(notes == [kept], words, case=told)
        expect(len(calls) == 1, "The champion is asked once.", case=f"If {what}, it was asked {len(calls)} times.")

    failed = "A failure of the shadow is on record with None, and the answer goes out."
    ask("the shadow says 0.7", lambda given: 0.7, (0.2, 0.7), "Both answers are kept, the champion's first.")
    ask("the shadow raises an error", fails, (0.2, None), failed)
    ask("the shadow changes the row that it gets", spoils, (0.2, 0.7), "The shadow gets a row of its own.")
    ask("the shadow says 0", lambda given: 0.0, (0.2, 0.0), "0 is an answer, and no failure.")
    ask("the shadow says 7", lambda given: 7.0, (0.2, 7.0), "The answer of the shadow is kept as it came.")
    ask("the shadow raises a KeyError", lambda given: {}["wind"], (0.2, None), failed)
    lost = "The answer goes out, even if nothing can be kept."
    ask("record raises an error", lambda given: 0.7, (0.2, 0.7), lost, keep=False)
    ask("both raise an error", fails, (0.2, None), lost, keep=False)
    words = "0 is an answer of the champion like any other."
    ask("the champion says 0", lambda given: 0.7, (0.0, 0.7), words, says=0.0)
    asked, notes, came = [], [], []
    shadow = lambda given: asked.append(1) or 0.7  # noqa: E731
    error = raised(lambda: came.append(answer(row, fails, shadow, lambda *both: notes.append(both))))
    expect(error is not None, f"If the champion fails, its error has to come out; the caller got {came}.")
    expect(isinstance(error, RuntimeError), "If the champion fails, its own error has to come out.")
    expect(not asked, "If the champion fails, the shadow is not asked.")
    expect(not notes, "If the champion fails, nothing is to be kept.")


FIELDS = {"wind": ("number", True), "seats": ("number", False), "origin": ("text", False), "note": ("text", True)}


@check(
    "First the whole body, then for each row every field that came or should have come.",
    "`fields.keys() | row.keys()` are these fields. What holds for one that is in `row` only?",
    "`isinstance(True, int)` is true, and NaN is a float: ask for the exact type, and `np.isfinite`.",
)
def judge(answer):
    """Everything that is wrong is named with its place, and nothing is guessed right."""

    def ask(body: object, status: int, places: list[str], words: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        case = f"judge({text!r})"
        came = result(answer, text, FIELDS, case=case)
        expect(isinstance(came, tuple | list) and len(came) == 2, "Give a status and a list of places.", case=case)
        told = f"{case} gave {came!r}, expected {(status, places)!r}."
        expect(came[0] == status and list(came[1]) == places, words, case=told)

    good = {"wind": 5.5, "seats": 150, "origin": "JFK", "note": "late crew"}
    ask({"rows": [good]}, 200, [], "Nothing is wrong with this request.")
    ask({"rows": [good, {**good, "wind": 7}]}, 200, [], "Whole numbers are numbers.")
    ask({"rows": [{"seats": 1, "origin": "LGA"}]}, 200, [], "What may be missing may be missing.")
    ask({"rows": [{**good, "wind": None, "note": None}]}, 200, [], "Null counts as missing.")
    ask("rows", 400, ["body"], "This is no JSON.")
    ask([good], 400, ["body"], "This is a list, and no object with rows.")
    ask({"rows": []}, 400, ["body"], "There is no row.")
    ask({"rows": [good], "mood": 1}, 400, ["body"], "The object has another field.")
    ask({"rows": [{**good, "seats": "5"}]}, 422, ["0.seats"], "A text is no number.")
    ask({"rows": [{**good, "seats": True}]}, 422, ["0.seats"], "True is no number.")
    ask('{"rows": [{"seats": NaN, "origin": "JFK"}]}', 422, ["0.seats"], "NaN is no number.")
    ask('{"rows": [{"seats": 1, "origin": "JFK", "wind": Infinity}]}', 422, ["0.wind"], "Infinity is no number.")
    ask({"rows": [{**good, "seats": 0, "wind": -5}]}, 200, [], "0 is a number, and so is one below it.")
    ask({"rows": [{**good, "origin": "", "note": "5"}]}, 200, [], "An empty text is a text, and so is one of digits.")
    ask({"rows": [{**good, "wind": [5]}]}, 422, ["0.wind"], "A list is no number.")
    ask('{"rows": [{"seats": 1, "origin": "JFK", "wind": -Infinity}]}', 422, ["0.wind"], "-Infinity is no number.")
    ask({"rows": [{**good, "origin": 5}]}, 422, ["0.origin"], "A number is no text.")
    ask({"rows": [{**good, "note": False}]}, 422, ["0.note"], "False is no text.")
    ask({"rows": [{**good, "origin": ["JFK"]}]}, 422, ["0.origin"], "A list is no text.")
    ask({"rows": [{"origin": "JFK"}]}, 422, ["0.seats"], "A field that may not be missing lacks.")
    ask({"rows": [{**good, "origin": None}]}, 422, ["0.origin"], "Null counts as missing, and this field may not be.")
    ask({"rows": [{**good, "wnid": 3.0}]}, 422, ["0.wnid"], "A field came that nobody asked for.")
    ask({"rows": [{**good, "mood": None}]}, 422, ["0.mood"], "A field came that nobody asked for, though it is null.")
    three = [good, {"wind": "x", "origin": 3}, {**good, "extra": 1}]
    ask({"rows": three}, 422, ["1.origin", "1.seats", "1.wind", "2.extra"], "Name everything that is wrong, sorted.")
    ask({"rows": [{}]}, 422, ["0.origin", "0.seats"], "A row without a field lacks those that may not be missing.")
    many = {"rows": [{**good, "seats": None} for _ in range(11)]}
    places = sorted(f"{number}.seats" for number in range(11))
    ask(many, 422, places, "Places are sorted as texts.")


LOOKS, STEP = 20, 50


def _canaries(number: int, factor: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Costs of decisions in which the challenger errs `factor` times as often, and who answered each request."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        mine = rng.random(LOOKS * STEP) < 0.5
        errs = rng.random(LOOKS * STEP) < np.where(mine, 0.24 * factor, 0.24)
        costs = np.where(errs, rng.choice([15.0, 60.0], LOOKS * STEP, p=[0.55, 0.45]), 0.0)
        found.append((mine, costs))
    return found


def _stopped(answer, factor: float, seed: int, number: int) -> int:
    count = 0
    for mine, costs in _canaries(number, factor, seed):
        for look in range(1, LOOKS + 1):
            upto = slice(0, look * STEP)
            if answer(costs[upto][~mine[upto]], costs[upto][mine[upto]]):
                count += 1
                break
    return count


@check(
    "One look may be wrong in 5 of 100 cases. How often may each of twenty be wrong, for all together to be that good?",
    "Ask whether the challenger costs more, and not whether it is another one.",
    "`stats.ttest_ind(challenger, champion, alternative='greater')` gives a p-value; with which bar?",
)
def stop(answer):
    """In twenty looks, challengers as good or better go on, and those that cost twice as much are stopped."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 60, 24), rng.uniform(0, 60, 26)
    result(answer, *costs, case="", hint="stop fails on fifty costs.", kind=TRUTH, give="True or False")
    number = 60
    equal = _stopped(answer, 1.0, seed=10, number=number)
    words = "Of challengers that are exactly as good, at most 5 in 100 may be stopped in twenty looks."
    expect(equal <= 6, words, case=f"It stopped {equal} of {number}.")
    better = _stopped(answer, 0.5, seed=11, number=20)
    expect(better <= 2, "A challenger that is better is no reason to stop.", case=f"It stopped {better} of 20.")
    worse = _stopped(answer, 2.0, seed=12, number=number)
    words = "Of challengers that cost twice as much, at least 80 in 100 must be stopped."
    expect(worse >= 0.8 * number, words, case=f"It stopped {worse} of {number}.")


ACTIONS = ["wait", "call", "rebook"]


@check(
    "If an action is drawn in one of four cases, for how many flights does one stand on which it was drawn?",
    "A flight that was not treated as wanted counts 0, and it is still one of the flights.",
    "`chances.to_numpy()[rows, columns]` takes one number a row; `chances.columns.get_indexer` finds columns.",
)
def would_cost(answer):
    """Right on average over all that might have been drawn, and no answer where there was no chance."""

    def ask(
        done: list[str], costs: list[float], odds: list[list[float]], wanted: list[str], expected: float, words: str
    ):
        log, chances = _log(done, costs, odds)
        case = f"Done {done} for {costs}, chances of {ACTIONS} {odds}, wanted {wanted}:"
        came = result(answer, log, chances, list(wanted), case=case)
        expect_same(came, expected, words, case=case)

    even, sure = [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]
    ask(["call"] * 2, [4.0, 10.0], [sure] * 2, ["call"] * 2, 7.0, "What was certain stands for itself.")
    done, wanted = ["call", "wait", "wait", "call"], ["call"] * 4
    words = "Weights stand for the flights without a match, too: divide by all flights."
    ask(done, [6.0, 0.0, 0.0, 8.0], [even] * 4, wanted, 7.0, words)
    done, odds = ["call", "call", *["wait"] * 4], [[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], *[even] * 4]
    words = "An action that was drawn with a small chance stands for more flights than a likely one."
    ask(done, [3.0, 9.0, 0.0, 0.0, 0.0, 0.0], odds, ["call"] * 6, 7.0, words)
    words = "A flight that was not done as wanted counts 0, whatever it cost."
    ask(["wait", "call"], [7.0, 3.0], [even] * 2, ["call", "call"], 3.0, words)
    ask(["wait", "wait"], [7.0, 3.0], [even] * 2, ["call", "call"], 0.0, words)
    done, wanted = ["call", "wait", "wait", "call"], ["call", "wait", "call", "wait"]
    ask(done, [8.0, 2.0, 0.0, 0.0], [even] * 4, wanted, 5.0, "Each flight has its own wanted action.")
    _expect_right_on_average(answer)
    for odds, wanted in (([even, even], ["call", "rebook"]), ([sure, even], ["wait", "call"])):
        log, chances = _log(["call", "wait"], [8.0, 2.0], odds)
        words = f"An action that had no chance is wanted, {wanted} with chances of {ACTIONS} {odds}: raise ValueError."
        expect_error(lambda log=log, chances=chances, wanted=wanted: answer(log, chances, wanted), ValueError, words)


def _log(done: list[str], costs: list[float], odds: list[list[float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A log and its chances, with indexes that say nothing."""
    log = pd.DataFrame({"action": done, "cost": costs}, index=range(5, 5 + len(done)))
    return log, pd.DataFrame(odds, columns=ACTIONS, index=range(3, 3 + len(done)))


def _expect_right_on_average(answer: Callable) -> None:
    """Go on if the mean over all logs that might have been drawn, by their probability, is the true mean cost."""
    rng = np.random.default_rng(4)
    odds, costs, wanted = rng.dirichlet([1, 1, 1], 3), rng.uniform(0, 60, (3, 3)), [2, 0, 1]
    estimates, probabilities = [], []
    for done in product(range(3), repeat=3):
        log, chances = _log([ACTIONS[one] for one in done], costs[range(3), done].tolist(), odds.tolist())
        case = f"It fails on three flights that were done {log['action'].tolist()}."
        estimates.append(result(answer, log, chances, [ACTIONS[one] for one in wanted], case=case))
        probabilities.append(odds[range(3), done].prod())
    mean, true = float(np.dot(estimates, probabilities)), float(costs[range(3), wanted].mean())
    told = f"Over all 27 logs of three flights its mean is {mean:.2f}, and the true cost is {true:.2f}."
    expect(np.isclose(mean, true), "The estimate has to be right on average.", case=told)
