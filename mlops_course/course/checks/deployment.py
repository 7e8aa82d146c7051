"""Checks of deployment.

A job that runs twice, a decision when no answer comes, a shadow, a rule that stops a canary, and what a log tells of
other decisions.
"""

import reprlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import TRUTH, expect_error, expect_items, raised, result

__all__ = ["YourTurn", "answered", "decide", "hint", "reply", "stop", "summary", "would_cost"]


class _Model:
    """Answers by the wind, and keeps which ids it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        if rows.empty:
            raise ValueError("predict was called without a row: do not call it if nothing is new")
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
        numbers = range(7, 7 + len(questions))
        once(before, questions, expected, words, numbers)
        once(before, questions, expected, "The index of the questions may repeat.", [n % 2 for n in numbers])

    def once(before: list[tuple], questions: list[tuple], expected: list[tuple], words: str, index: Iterable) -> None:
        case, model = f"Earlier answers {before}, questions {questions}.", _Model()
        given = table(questions, "id", "wind").set_axis(index, axis="index")
        fails, give = f"{words} answered fails. {case}", "a table"
        earlier = table(before, "id", "probability")
        came = result(answer, earlier, given, model, case=case, hint=fails, kind=pd.DataFrame, give=give)
        expect(sorted(came.columns) == ["id", "probability"], "Its columns are id and probability.", case=case)
        ids = came["id"].tolist()
        twice = sorted({str(name) for name in ids if ids.count(name) > 1})
        expect(not twice, f"The id {', '.join(twice)} is there twice.", case=case)
        lost = "An id or a probability is missing: put them together by position, whatever the index says."
        expect(not came.isna().to_numpy().any(), lost, case=f"{case} {came.to_numpy().tolist()} came.")
        pairs = list(zip(ids, came["probability"].round(9).tolist(), strict=True))
        gone, told = "An earlier answer is gone, or has become another one.", f"{case} {pairs} came"
        expect(set(before) <= set(pairs), gone, case=f"{told}.")
        order = "First the earlier answers in their order, then the new ones in the order of the questions."
        expect_items(pairs, expected, words, case=f"{case} answered", order=order)
        new = [name for name, _ in expected[len(before) :]]
        asked = f"{case} It was asked {model.asked}, expected {[new] if new else []}."
        other = "The model was asked for something else than what is new, once each."
        expect(sorted(name for call in model.asked for name in call) == sorted(new), other, case=asked)
        expect(len(model.asked) <= 1, "Ask once for all that is new: each call costs.", case=asked)

    ask([("a", 0.2)], [("b", 9.0)], [("a", 0.2), ("b", 0.09)], "The question b is new: it gets an answer.")
    ask([("a", 0.2)], [("a", 9.0)], [("a", 0.2)], "Nothing is new.")
    ask([("a", 0.0)], [("a", 9.0)], [("a", 0.0)], "An earlier answer of 0 is an answer, and nothing is new.")
    words = "Earlier answers come first, as they stand; new ones follow, whatever their ids."
    ask([("c", 0.2), ("b", 0.1)], [("a", 9.0)], [("c", 0.2), ("b", 0.1), ("a", 0.09)], words)
    ask([("ab", 0.2)], [("a", 9.0)], [("ab", 0.2), ("a", 0.09)], "The id a is another one than ab.")
    ask(
        [("a", 0.2)],
        [("ab", 9.0), ("A", 5.0)],
        [("a", 0.2), ("ab", 0.09), ("A", 0.05)],
        "ab and A are other ids than a.",
    )
    words = "They come in the order of the questions."
    ask([], [("b", 9.0), ("a", 5.0)], [("b", 0.09), ("a", 0.05)], words)
    ask([], [(name, 5.0) for name in "hbgdfaec"], [(name, 0.05) for name in "hbgdfaec"], words)
    ask([], [("b", 9.0), ("b", 9.0), ("a", 5.0)], [("b", 0.09), ("a", 0.05)], "A question came twice.")
    ask([("a", 0.2), ("z", 0.1)], [], [("a", 0.2), ("z", 0.1)], "There was no question.")
    ask([], [], [], "There was neither an answer nor a question.")
    ask([(7, 0.2)], [(7, 9.0), (8, 5.0)], [(7, 0.2), (8, 0.05)], "An id may be a whole number, and stays one.")
    digits = [("flight 1", 0.123456789)], [("flight 2", 1.5), ("flight 10", 2.345678)]
    told = [*digits[0], ("flight 2", 0.015), ("flight 10", 0.02345678)]
    ask(*digits, told, "Ids differ in their last sign only, and probabilities keep all digits.")
    mixed = [("a", 1.0), ("c", 3.0), ("a", 1.0), ("d", 4.0), ("c", 3.0), ("b", 2.0)]
    ask([("a", 0.5), ("b", 0.6)], mixed, [("a", 0.5), ("b", 0.6), ("c", 0.03), ("d", 0.04)], "Some are new.")


@check(
    "How much time is left after each try? Keep one number for it.",
    "Three things may be wrong with a try: it raises an error, its probability is useless, or it is too late.",
    "NaN is neither below 0 nor above 1. `0 <= probability <= 1` is false for it.",
)
def decide(answer):
    """A probability that is right and in time decides, else the rule, and both tries share 200 ms."""
    row = {"wind": 5.0, "origin": "JFK"}

    def asked(*tries: object, words: str, expected: tuple, waits: list[int]) -> None:
        rows, given, ruled = [], [], []
        of_rule = expected[0] if expected[1] == "rule" else not expected[0]
        case = f"The service gives {', then '.join(map(_told, tries))}; the rule says {of_rule}."

        def ask(handed: dict, wait: float) -> tuple:
            rows.append(dict(handed))
            given.append(wait)
            one = tries[len(given) - 1] if len(given) <= len(tries) else RuntimeError("asked too often")
            if isinstance(one, Exception):
                raise one
            return one

        def rule(handed: dict) -> bool:
            rows.append(dict(handed))
            ruled.append(handed)
            return of_rule

        came = result(answer, row, ask, rule, case=case, hint=f"{words} decide fails. {case}")
        pair = isinstance(came, tuple | list) and len(came) == 2 and isinstance(came[0], TRUTH)
        expect(pair, "Return a pair: True or False, and who decided.", case=f"{came!r} came. {case}")
        expect(came[1] in ("model", "rule"), "Who decided is 'model' or 'rule'.", case=f"{came[1]!r} came. {case}")
        said = "`rule` was called, so the rule has decided, and you say 'model'."
        expect(came[1] == "rule" or not ruled, said, case=case)
        said = "`rule` was not called, and you say that it has decided."
        expect(came[1] == "model" or bool(ruled), said, case=case)
        expect((bool(came[0]), came[1]) == expected, words, case=f"{case} {tuple(came)} came, expected {expected}.")
        often = "Ask neither after a probability in time, nor without time, nor a third time."
        times = f"{case} Times asked: {len(given)}, expected: {len(waits)}."
        expect(len(given) == len(waits), often if len(given) > len(waits) else words, case=times)
        left = "`wait` is the number of milliseconds that are left."
        expect(given == waits, left, case=f"{case} It was asked to wait {given}, expected {waits}.")
        expect(len(ruled) == (expected[1] == "rule"), "The rule is asked once if it decides, else never.", case=case)
        expect(all(one == row for one in rows), "Hand the row on as it came.", case=f"{rows} came.")

    by_model, by_rule = (True, "model"), (True, "rule")
    asked((0.7, 30), words="A probability in time decides.", expected=by_model, waits=[200])
    asked((0.1, 30), words="Under 0.2 passengers stay.", expected=(False, "model"), waits=[200])
    asked((0.2, 30), words="0.2 itself is enough to rebook.", expected=by_model, waits=[200])
    asked((0.0, 30), words="0 is a probability: the model has decided.", expected=(False, "model"), waits=[200])
    asked((1, 30), words="1 is a probability: the model has decided.", expected=by_model, waits=[200])
    asked((np.float32(0.7), 30), words="numpy's numbers are numbers.", expected=by_model, waits=[200])
    asked((0.7, 250), words="An answer that is too late does not count.", expected=(False, "rule"), waits=[200])
    asked((0.1, 201), words="An answer after 201 ms is too late.", expected=by_rule, waits=[200])
    asked((0.7, 200), words="An answer after exactly 200 ms is in time.", expected=by_model, waits=[200])
    for error in (TimeoutError(), ConnectionError("gone"), ValueError("bad"), KeyError("p"), RuntimeError("busy")):
        words = "After any kind of error, ask once more: no time has passed."
        asked(error, (0.7, 200), words=words, expected=by_model, waits=[200, 200])
        asked(error, error, words="Two errors: the rule decides.", expected=by_rule, waits=[200, 200])
    for useless in (None, "0.7", -0.1, 1.1, float("inf"), float("nan"), np.float64("nan"), 10**400):
        name = "NaN" if useless != useless else reprlib.repr(useless)
        words = f"{name} is no probability: ask once more."
        asked((useless, 50), (0.7, 150), words=words, expected=by_model, waits=[200, 150])
        words = f"{name} is no probability: the rule decides."
        asked((useless, 50), (useless, 50), words=words, expected=by_rule, waits=[200, 150])
        asked((useless, 50), (useless, 50), words=words, expected=(False, "rule"), waits=[200, 150])
    asked((None, 150), (0.7, 60), words="Both tries share 200 ms.", expected=(False, "rule"), waits=[200, 50])
    asked((None, 199), (0.7, 1), words="The second try is just in time.", expected=by_model, waits=[200, 1])
    asked((None, 200), words="No time is left.", expected=by_rule, waits=[200])
    asked((None, 300), words="No time is left.", expected=(False, "rule"), waits=[200])
    asked((None, 30), RuntimeError("busy"), words="Never ask a third time.", expected=by_rule, waits=[200, 170])


def _told(one: object) -> str:
    """What one try of a service gives, in words."""
    return (
        f"an error ({type(one).__name__})"
        if isinstance(one, Exception)
        else f"{reprlib.repr(one[0])} after {one[1]} ms"
    )


@check(
    "What may fail, and who must not notice? Fix the answer before you ask the shadow.",
    "Two steps may fail each by itself: asking the shadow, and keeping the answers. Each has to be caught by itself.",
    "`dict(row)` makes a copy that the shadow may do with as it likes.",
    nothing=True,
)
def reply(answer):
    """Whatever the shadow does, the caller gets the champion's answer, and failures are on record."""
    row = {"wind": 5.0, "origin": "JFK"}

    def fails(*_: object) -> float:
        raise RuntimeError("out of order")

    def spoils(given: dict) -> float:
        given.clear()
        return 0.7

    def ask(what: str, shadow: Callable, kept: tuple, words: str, lost: type | None = None, says: float = 0.2) -> None:
        notes, calls, seen = [], [], []

        def beside(given: dict) -> float:
            seen.append(dict(given))
            return shadow(given)

        def champion(given: dict) -> float:
            calls.append(given)
            return says if given == row else 0.9

        def record(*both: float | None) -> None:
            notes.append(both)
            if lost:
                raise lost("the disk is full")

        said = result(answer, row, champion, beside, record, case="", hint=f"If {what}, reply fails. {words}")
        told = f"If {what}, the caller got {said!r}, expected {says!r}."
        expect(said == says, "The caller has to get the champion's answer.", case=told)
        told = f"If {what}, record was called with {notes}, expected {[kept]}."
        expect(notes == [kept], words, case=told)
        expect(len(calls) == 1, "The champion is asked once.", case=f"If {what}, it was asked {len(calls)} times.")
        told = f"If {what}, it was handed {seen}, expected {[row]}."
        expect(seen == [row], "The shadow is asked once, with the same row.", case=told)

    failed = "A failure of the shadow is on record with None, and the answer goes out."
    ask("the shadow says 0.7", lambda given: 0.7, (0.2, 0.7), "Both answers are kept, the champion's first.")
    ask("the shadow raises an error", fails, (0.2, None), failed)
    ask("the shadow changes the row that it gets", spoils, (0.2, 0.7), "The shadow gets a row of its own.")
    ask("the shadow says 0", lambda given: 0.0, (0.2, 0.0), "0 is an answer, and no failure.")
    ask("the shadow says 7", lambda given: 7.0, (0.2, 7.0), "The answer of the shadow is kept as it came.")
    ask("the shadow says 1, a whole number", lambda given: 1, (0.2, 1), "The answer of the shadow is kept as it came.")
    ask("the shadow says the same", lambda given: 0.2, (0.2, 0.2), "Equal answers are kept as well.")
    words = "The answer goes out, whatever kind of error `record` raises."
    for error in (OSError, RuntimeError, TypeError, KeyError, ZeroDivisionError):
        ask(f"the shadow raises {error.__name__}", partial(_raises, error), (0.2, None), failed)
        ask(f"record raises {error.__name__}", lambda given: 0.7, (0.2, 0.7), words, lost=error)
    ask("both raise an error", fails, (0.2, None), words, lost=OSError)
    words = "0 is an answer of the champion like any other."
    ask("the champion says 0", lambda given: 0.7, (0.0, 0.7), words, says=0.0)
    asked, notes, came = [], [], []
    shadow = lambda given: asked.append(1) or 0.7  # noqa: E731
    error = raised(lambda: came.append(answer(row, fails, shadow, lambda *both: notes.append(both))))
    expect(error is not None, f"If the champion fails, its error has to come out; the caller got {came}.")
    expect(isinstance(error, RuntimeError), "If the champion fails, its own error has to come out.")
    expect(not asked, "If the champion fails, the shadow is not asked.")
    expect(not notes, "If the champion fails, nothing is to be kept.")


def _raises(error: type[Exception], *_: object) -> None:
    raise error("out of order")


LOOKS, STEP = 10, 100


def _canaries(number: int, factor: float, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Who answered each request, and costs of decisions in which the challenger errs `factor` times as often."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        mine = rng.random(LOOKS * STEP) < 0.5
        errs = rng.random(LOOKS * STEP) < np.where(mine, 0.24 * factor, 0.24)
        found.append((mine, np.where(errs, rng.choice([15.0, 60.0], LOOKS * STEP, p=[0.55, 0.45]), 0.0)))
    return found


def _stopped(answer, factor: float, *, seed: int, number: int, looks: int = LOOKS) -> int:
    """How many of so many canaries the rule stops in so many looks."""
    return sum(
        any(
            answer(costs[: look * STEP][~mine[: look * STEP]], costs[: look * STEP][mine[: look * STEP]])
            for look in range(1, looks + 1)
        )
        for mine, costs in _canaries(number, factor, seed)
    )


@check(
    "One look may be wrong in 5 of 100 cases. How often may each of ten be wrong, for all together to be that good?",
    "Ask whether the challenger costs more, and not whether it is different.",
    "`stats.ttest_ind(challenger, champion, alternative='greater')` gives a p-value. Which bar does ten looks need?",
)
def stop(answer):
    """In ten looks, challengers as good or better go on, and those that cost twice as much are stopped soon."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 60, 48), rng.uniform(0, 60, 52)
    result(
        answer,
        *costs,
        case="",
        hint="stop fails on 48 costs of the champion and 52 of the challenger.",
        kind=TRUTH,
        give="True or False",
    )
    zeros = np.zeros(48), np.zeros(52)
    found = result(answer, *zeros, case="", hint="stop fails if all costs are 0.", kind=TRUTH, give="True or False")
    expect(not found, "If all costs are 0, there is no reason to stop.")
    equal = _stopped(answer, 1.0, seed=126, number=60)  # a draw in which a rule that stops 10 in 100 stops 9 of 60
    words = "Of challengers that are exactly as good, at most 5 in 100 may be stopped in ten looks."
    expect(equal <= 5, words, case=f"It stopped {equal} of 60.")
    better = _stopped(answer, 0.5, seed=11, number=15)
    expect(better <= 1, "A challenger that is better is no reason to stop.", case=f"It stopped {better} of 15.")
    worse = _stopped(answer, 2.0, seed=12, number=40, looks=5)
    words = "Of challengers that cost twice as much, at least 80 in 100 must be stopped in the first five looks."
    expect(worse >= 32, words, case=f"It stopped {worse} of 40.")


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
        fails = f"would_cost fails, and every wanted action has a chance here. {case}"
        came = result(answer, log, chances, list(wanted), case=case, hint=fails)
        expect_same(came, expected, words, case=case)

    even, sure = [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]
    ask(
        ["call"] * 2,
        [4.0, 10.0],
        [sure] * 2,
        ["call"] * 2,
        7.0,
        "What was certain counts once: it is the mean.",
    )
    done, wanted = ["call", "wait", "wait", "call"], ["call"] * 4
    words = "Two of four were done as wanted, with chances of 0.5: each stands for two. Divide by all flights."
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
    words = "A chance of 0.001 is a chance: the flight stands for a thousand, and the mean is over two."
    rare = [[0.999, 0.001, 0.0], even]
    ask(["call", "wait"], [0.02, 0.0], rare, ["call"] * 2, 10.0, words)
    _expect_position_to_count(answer)
    for odds, wanted in (([even, even], ["call", "rebook"]), ([sure, even], ["wait", "call"])):
        log, chances = _log(["call", "wait"], [8.0, 2.0], odds)
        words = f"An action that had no chance is wanted, {wanted} with chances of {ACTIONS} {odds}: raise ValueError."
        expect_error(lambda log=log, chances=chances, wanted=wanted: answer(log, chances, wanted), ValueError, words)


def _log(done: list[str], costs: list[float], odds: list[list[float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A log and its chances."""
    return pd.DataFrame({"action": done, "cost": costs}), pd.DataFrame(odds, columns=ACTIONS)


def _expect_position_to_count(answer: Callable) -> None:
    """Go on if rows are paired by position and columns by name."""
    log = pd.DataFrame({"action": ["call", "wait", "call"], "cost": [6, 4, 12]})
    odds = pd.DataFrame({"wait": [0.5, 0.75, 0.5], "call": [0.5, 0.25, 0.5]})
    words = "A chance is found by the name of its column, wherever the column stands."
    chances = odds.assign(other=0.0)[["call", "other", "wait"]]
    expect_same(result(answer, log, chances, ["wait"] * 3, case=words), 16 / 9, words, case="Columns in another order:")
    words = "Rows of the two tables belong together by their position, whatever the index says."
    for one, other in (([5, 6, 7], [3, 4, 5]), ([0, 1, 2], [2, 0, 1]), ([2, 0, 0], [0, 0, 2])):
        named, chances = log.set_axis(one, axis="index"), odds.set_axis(other, axis="index")
        case = f"The index of log is {one}, that of chances {other}:"
        came = result(answer, named, chances, ["call"] * 3, case=case, hint=f"{words} would_cost fails. {case}")
        expect_same(came, 12.0, words, case=case)


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
