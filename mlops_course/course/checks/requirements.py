"""Checks of the exercises of lesson 01: an error budget, a form that is fit for use, a threshold, and a goal."""

import copy
import functools

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, attempt, check, expect, expect_same, hint, summary

__all__ = ["YourTurn", "budget_left", "cheapest", "hint", "kpi", "open_questions", "summary"]


@check(
    "How many questions were asked in the window, and how many of them may fail?",
    "Which days lie in the window? The first one is 27 days before today.",
    "What is left is one minus what is spent, and what is spent is failed divided by allowed.",
)
def budget_left(answer):
    """It is the share of the budget of 28 days that is left, and it may be overdrawn."""
    today = pd.Timestamp("2013-03-31")

    def ask(days: list[tuple[int, int, int]], expected: float, words: str, *, promised: float = 0.9) -> None:
        before, asked, failed = zip(*days, strict=True) if days else ((), (), ())
        when = pd.to_datetime([today - pd.Timedelta(days=n) for n in before])
        table = pd.DataFrame({"day": when, "asked": asked, "failed": failed})
        told = ", ".join(f"{a} asked and {f} failed {n} days ago" for n, a, f in days) or "no day at all"
        case = f"budget_left({told}; promised {promised})"
        came = attempt(lambda: answer(table, promised, today), hint=f"budget_left fails: {case}.")
        expect_same(came, expected, words, case=case, tolerance=1e-6)

    words = "Of 1,000 questions 100 may fail, and 25 did: three quarters are left, not spent."
    ask([(0, 1000, 25)], 0.75, f"{words} It is the share of the budget, not of the questions.")
    ask([(3, 1000, 150)], -0.5, "More went wrong than was promised, and the result says by how much.")
    ask([(0, 1000, 0)], 1.0, "Nothing failed.")
    ask([], 1.0, "Nothing was asked, so nothing is spent.")
    words = "A day with many questions and one with few: add up before you divide."
    ask([(0, 1980, 10), (1, 20, 10)], 0.9, words)
    ask([(27, 1000, 50), (28, 1000, 100)], 0.5, "The window is today and the 27 days before it, 28 days in all.")
    ask([(-1, 1000, 100), (0, 1000, 50)], 0.5, "Tomorrow is in the table and does not count.")
    ask([(5, 400, 1), (2, 600, 1)], 0.6, "The promise says how much may fail.", promised=0.995)
    rng = np.random.default_rng(1)
    many = [
        (int(n), int(a), int(a) // 20) for n, a in zip(rng.permutation(60) - 10, rng.integers(10, 999, 60), strict=True)
    ]
    counted = [(a, f) for n, a, f in many if 0 <= n < 28]
    expected = 1 - sum(f for _, f in counted) / (0.1 * sum(a for a, _ in counted))
    ask(many, expected, "Sixty days in any order give another number.")


GOOD = {
    "decision": "rebook or wait",
    "kpi": {"measure": "ratio", "goal": 0.95, "compared_to": "the better rule without a model"},
    "costs": {"false_alarm": 15, "missed": 60.0},
    "target": "late",
    "inputs": ["hour", "wind"],
    "promise": 0.995,
    "risk": "minimal",
    "users": ["desk"],
}
GOAL = "A goal that cannot be measured was accepted: ask what is measured, for a number, and for a comparison."
DEFECTS = (  # field, what stands there, what went wrong
    ("kpi", {"measure": "satisfaction", "goal": 0.9, "compared_to": "last year"}, GOAL),
    ("kpi", "satisfaction of the desk", GOAL),
    ("kpi", {"measure": "ratio", "goal": "much better", "compared_to": "last year"}, GOAL),
    ("kpi", {"measure": "ratio", "goal": 0.95}, GOAL),
    ("kpi", {"measure": "ratio", "goal": 0.95, "compared_to": " "}, GOAL),
    ("kpi", {"measure": "ratio", "goal": True, "compared_to": "last year"}, GOAL),
    ("kpi", {"goal": 0.95, "compared_to": "last year"}, GOAL),
    ("decision", "   ", "Spaces are no decision."),
    ("decision", None, "Nothing is no decision."),
    ("decision", 7, "A number is no decision."),
    ("costs", {"false_alarm": 15}, "One of the two costs is missing."),
    ("costs", {"missed": 15}, "One of the two costs is missing."),
    ("costs", {"false_alarm": 0, "missed": 60}, "An error that costs nothing needs no model."),
    ("costs", {"false_alarm": 15, "missed": -1}, "An error that costs less than nothing is a gift."),
    ("costs", {"false_alarm": "15", "missed": 60}, "A text is no number."),
    ("costs", {"false_alarm": True, "missed": 60}, "True is no number."),
    ("costs", 15, "One number is not two costs."),
    ("inputs", ["hour", "late"], "Among the inputs is what is to be predicted."),
    ("inputs", [], "Without an input there is nothing to learn from."),
    ("inputs", "hour", "A text is no list of names."),
    ("promise", 1, "A promise of 100 % leaves no error budget."),
    ("promise", 0, "Nothing was promised."),
    ("promise", 99.5, "A share lies below 1."),
    ("promise", "0.995", "A text is no number."),
    ("promise", True, "True is no number."),
    ("risk", "prohibited", "What the law forbids is not built."),
    ("risk", "High", "The classes have the names that are written, letter for letter."),
    ("risk", ["minimal"], "A list is no class of risk."),
    ("target", "", "Nothing is no target."),
    ("target", " ", "Spaces are no target."),
    ("target", 3, "A number is no target."),
    ("inputs", ["hour", 3], "A number is no name."),
    ("inputs", ["hour", " "], "Spaces are no name."),
)


@check(
    "Work out for each field whether it is fit for use, and collect the names of the others.",
    "`wish.get(name)` gives None for what is missing; ask for the kind of a value before you compare it.",
    "`isinstance(True, int)` is true. Three small helpers, for a number, a text and a part, save most of the lines.",
)
def open_questions(answer):
    """Everything that is not fit for use is named at once, and nothing else."""
    found = attempt(lambda: answer(copy.deepcopy(GOOD)), hint="open_questions fails on a wish that is fit for use.")
    expect(isinstance(found, set | frozenset), f"Give a set of names; a {type(found).__name__} came.")
    expect(not found, f"A wish that is fit for use was turned down for {sorted(found)}.")
    other = {**GOOD, "costs": {"false_alarm": 0.5, "missed": 1}, "promise": 0.5, "inputs": ["hour"], "risk": "high"}
    for measure, goal in (("share", 1), ("mean", -9.5), ("ratio", 0)):
        other["kpi"] = {"measure": measure, "goal": goal, "compared_to": "today's rule"}
        found = answer(copy.deepcopy(other))
        expect(not found, f"A wish that is fit for use was turned down for {sorted(found)}.", case=f"{other}")
    expect(not answer({**GOOD, "risk": "limited"}), "Limited risk is one of the three classes.")
    for field, value, words in DEFECTS:
        wish = {**copy.deepcopy(GOOD), field: value}
        crashes = f"Nothing in a wish may make it crash, also not {field}={value!r}."
        found = attempt(lambda wish=wish: answer(wish), hint=crashes)
        expect(field in found, words, case=f"Here {field} is {value!r}.")
        expect(
            found == {field}, f"Only {field} is wrong, and {sorted(found)} came.", case=f"Here {field} is {value!r}."
        )
    for field in set(GOOD) - {"users"}:
        wish = {name: value for name, value in copy.deepcopy(GOOD).items() if name != field}
        found = attempt(lambda wish=wish: answer(wish), hint=f"It must not crash on a wish without {field}.")
        expect(found == {field}, f"A wish without {field} has one open question.", case=f"{sorted(found)} came.")
    found = attempt(lambda: answer({}), hint="It must not crash on an empty wish.")
    expect(found == set(GOOD) - {"users"}, "An empty wish leaves seven questions open.", case=f"{sorted(found)} came.")


@functools.cache
def _july() -> tuple[np.ndarray, np.ndarray]:
    """Points and labels of 400 flights of July: the more planned minutes and the later the hour, the more points."""
    rows = flights.read(["2013-07"])["flights"].dropna(subset="arr_delay").head(4_000).iloc[::10]
    late = (rows["arr_delay"] > 15).to_numpy().astype(int)
    noise = np.random.default_rng(0).integers(0, 25, len(rows))
    return (rows["sched_dep_time"].to_numpy() // 100 * 2 + noise + 20 * late), late


@check(
    "Nothing changes between two neighbouring points, so which thresholds have to be tried?",
    "For one threshold the cost of a flight is `np.where(act, ..., ...)`; then the mean over flights.",
    "Which threshold acts on no flight at all? Try that one, too.",
)
def cheapest(answer):
    """No other threshold would have cost less, to act on all or on none included."""

    def ask(points: np.ndarray, late: np.ndarray, words: str, *, case: str = "", **costs: float) -> None:
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = case or f"points {points.tolist()}, late {late.tolist()}, {costs}"
        came = attempt(lambda: answer(points.copy(), late.copy(), **costs), hint=f"cheapest fails on {case}.")
        pair = isinstance(came, tuple | list | np.ndarray) and len(came) == 2
        expect(pair, f"Give two numbers, the threshold and the cost per flight; {came!r} came.", case=f"On {case}.")
        threshold, said = came

        def cost(at: float) -> float:
            acts = points >= at
            return float((costs["false_alarm"] * (acts & (late == 0)) + costs["missed"] * (~acts & (late == 1))).mean())

        best = min(cost(at) for at in [*np.unique(points), np.inf])
        real = attempt(lambda: cost(float(threshold)), hint=f"The threshold has to be a number; {threshold!r} came.")
        told = f"From {threshold} on it costs {real:.4g} per flight; the best is {best:.4g}. On {case}."
        expect(abs(real - best) < 1e-9, words, case=told)
        expect_same(
            said, best, "The second number is the cost per flight at that threshold.", case=f"On {case}, cheapest"
        )

    low = np.array([5, 25, 50, 70])
    ask(low, np.array([0, 0, 1, 1]), "Another threshold would have cost less: points are no probabilities.")
    ask(
        np.array([3, 8, 7, 1]),
        np.array([0, 1, 1, 0]),
        "In another order of flights, another threshold would have cost less.",
    )
    rare = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    late = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    words = "Another threshold would have cost less: it is cheapest to act on none, as few flights are late."
    ask(rare, late, words, false_alarm=15, missed=60)
    ask(rare + 90, late, f"{words} The highest points are 100.")
    ask(rare, 1 - late, "Another threshold would have cost less: it is cheapest to act on all.", false_alarm=1)
    fine = np.array([0.31, 0.32, 0.33, 0.34])
    ask(fine, np.array([0, 0, 1, 1]), "Another threshold would have cost less, and points need not be whole numbers.")
    ask(
        np.array([50, 50, 50]),
        np.array([1, 0, 0]),
        "Another threshold would have cost less: to act on all costs 10 each.",
    )
    same = np.array([10, 20, 20, 20, 30])
    words = "Flights with equal points are acted on together, and another threshold would have cost less."
    ask(same, np.array([0, 1, 0, 0, 1]), words)
    points, known = _july()
    for false_alarm, missed in ((15, 60), (40, 30), (1, 500)):
        costs = {"false_alarm": false_alarm, "missed": missed}
        case = f"400 flights of July with {costs}"
        ask(points, known, "Another threshold would have cost less.", case=case, **costs)


@check(
    "Three costs for each row: of what was decided, of always acting, of never acting.",
    "Add all three up by month first, and divide then.",
    "`min(axis=1)` gives the better rule of each month; `where` puts a missing value where it costs nothing.",
)
def kpi(answer):
    """Decisions are compared with the better of the two rules of that month, on what is known."""

    def ask(rows: list[tuple[str, bool, float]], expected: dict[str, float], words: str, **costs: float) -> None:
        table = pd.DataFrame(rows, columns=["month", "act", "late"]).astype({"late": float, "act": bool})
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = f"kpi on (month, act, late) {rows} with {costs}"
        came = attempt(lambda: answer(table, **costs), hint=f"kpi fails: {case}.")
        expect(isinstance(came, pd.Series), f"Give a series, from month to ratio; a {type(came).__name__} came.")
        ours = pd.Series(expected, dtype=float)
        told = f"{list(came.index)} came, expected {list(expected)}. {case}"
        months = "Each month with a known label is in the result, also one that has no ratio, and no other month."
        expect(sorted(came.index) == sorted(ours.index), months, case=told)
        expect(list(came.index) == list(ours.index), "Give the months in ascending order.", case=case)
        expect_same(came.to_numpy(dtype=float), ours.to_numpy(), words, case=case)

    one = [("03", True, 1), ("03", True, 0), ("03", False, 1), ("03", False, 0)]
    ask(one, {"03": 75 / 30}, "Divide by the better of the two rules: here always acting costs 30, never acting 120.")
    few = [("03", True, 0), ("03", False, 1), ("03", False, 0), ("03", False, 0), ("03", False, 0), ("03", False, 0)]
    ask(few, {"03": 75 / 60}, "Divide by the better of the two rules: here never acting costs 60, always acting 75.")
    known = [*one, ("03", False, np.nan), ("03", True, np.nan), ("04", True, np.nan)]
    ask(known, {"03": 75 / 30}, "What is not known has to be left out.")
    words = "The better rule is that in that month; in another it may be the other one."
    both = [
        ("07", True, 1),
        ("07", False, 1),
        ("07", True, 0),
        ("06", True, 0),
        *[("06", False, 0)] * 8,
        ("06", False, 1),
    ]
    ask(both, {"06": 75 / 60, "07": 75 / 15}, words)
    free = [("05", True, 1), ("05", False, 1), ("04", True, 0), ("04", False, 0)]
    ask(free, {"04": np.nan, "05": np.nan}, "Where a rule costs nothing there is no ratio.")
    ask([*one, *few], {"03": 150 / 105}, "With more rows of a month it is still one ratio of sums.")
    ask(one, {"03": (8 + 5) / 10}, "The costs are those that are handed in.", false_alarm=5, missed=8)
    rng = np.random.default_rng(5)
    rows = [(f"{m:02d}", bool(a), float(y)) for m, a, y in rng.integers([1, 0, 0], [5, 2, 2], (80, 3))]
    expected = {}
    for month in sorted({m for m, _, _ in rows}):
        part = [(a, y) for m, a, y in rows if m == month]
        paid = sum(15 * (a and not y) + 60 * (not a and y) for a, y in part)
        expected[month] = paid / min(15 * sum(not y for _, y in part), 60 * sum(y for _, y in part))
    ask(rows, expected, "Eighty rows of four months give other ratios.")
