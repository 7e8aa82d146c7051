"""Checks of requirements: an error budget, a form that is fit for use, a threshold, and a goal."""

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, expect_fit, expect_items, expect_unfit, result

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
        table = pd.DataFrame(days, columns=["before", "asked", "failed"])
        table = table.assign(day=today - pd.to_timedelta(table.pop("before"), unit="D"))[["day", "asked", "failed"]]
        told = ", ".join(f"{a} asked and {f} failed {n} days ago" for n, a, f in days) or "no day at all"
        case = f"budget_left({told}; promised {promised})"
        expect_same(result(answer, table, promised, today, case=case), expected, words, case=case, tolerance=1e-6)

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
    before, asked = (rng.permutation(60) - 10).tolist(), rng.integers(10, 999, 60).tolist()
    counted = [(a, a // 20) for n, a in zip(before, asked, strict=True) if 0 <= n < 28]
    expected = 1 - sum(f for _, f in counted) / (0.1 * sum(a for a, _ in counted))
    many = [(n, a, a // 20) for n, a in zip(before, asked, strict=True)]
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
UNFIT = (  # field, what stands there, and what to say if it is let through
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
    other = {**GOOD, "costs": {"false_alarm": 0.5, "missed": 1}, "promise": 0.5, "inputs": ["hour"], "risk": "high"}
    goals = [{"measure": measure, "goal": goal} for measure, goal in (("share", 1), ("mean", -9.5), ("ratio", 0))]
    fit = [{**other, "kpi": {**goal, "compared_to": "today's rule"}} for goal in goals]
    expect_fit(answer, [GOOD, *fit, {**GOOD, "risk": "limited"}], what="wish that is fit for use")
    expect_unfit(answer, GOOD, UNFIT, needed=set(GOOD) - {"users"}, what="wish")


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

    def ask(points: Sequence[float], late: Sequence[int], words: str, *, case: str = "", **costs: float) -> None:
        points, late, costs = np.array(points), np.array(late), {"false_alarm": 15, "missed": 60, **costs}
        case = case or f"points {points.tolist()}, late {late.tolist()}, {costs}"
        came = result(answer, points, late, **costs, case=case, hint=f"cheapest fails on {case}.")
        pair = isinstance(came, tuple | list | np.ndarray) and len(came) == 2
        expect(pair, f"Give two numbers, the threshold and the cost per flight; {came!r} came.", case=f"On {case}.")
        threshold, said = came

        def cost(at: float) -> float:
            acts = points >= at
            return float((costs["false_alarm"] * (acts & (late == 0)) + costs["missed"] * (~acts & (late == 1))).mean())

        best = min(cost(at) for at in [*np.unique(points), np.inf])
        real = attempt(lambda: cost(float(threshold)), hint=f"The threshold has to be a number; {threshold!r} came.")
        told = f"From {threshold} on it costs {real:.4g} per flight; the best is {best:.4g}. On {case}."
        expect(abs(real - best) < 1e-9, f"{words}another threshold would have cost less.", case=told)
        words = "The second number is the cost per flight at that threshold."
        expect_same(said, best, words, case=f"On {case}, cheapest")

    ask([5, 25, 50, 70], [0, 0, 1, 1], "Points are no probabilities: ")
    ask([3, 8, 7, 1], [0, 1, 1, 0], "In another order of flights, ")
    rare, late = np.arange(1, 11), np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    words = "It is cheapest to act on none, as few flights are late: "
    ask(rare, late, words, false_alarm=15, missed=60)
    ask(rare + 90, late, f"The highest points are 100. {words}")
    ask(rare, 1 - late, "It is cheapest to act on all: ", false_alarm=1)
    ask([0.31, 0.32, 0.33, 0.34], [0, 0, 1, 1], "Points need not be whole numbers: ")
    ask([50, 50, 50], [1, 0, 0], "To act on all costs 10 each: ")
    ask([10, 20, 20, 20, 30], [0, 1, 0, 0, 1], "Flights with equal points are acted on together, and ")
    points, known = _july()
    for false_alarm, missed in ((15, 60), (40, 30), (1, 500)):
        costs = {"false_alarm": false_alarm, "missed": missed}
        ask(points, known, "Of real flights, ", case=f"400 flights of July with {costs}", **costs)


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
        came = result(answer, table, **costs, case=case, kind=pd.Series, give="a series from month to ratio")
        months = "Each month with a known label is in the result, also one that has no ratio, and no other month."
        expect_items(list(came.index), list(expected), months, case=case, order="Give the months in ascending order.")
        expect_same(came.to_numpy(dtype=float), np.array([*expected.values()], dtype=float), words, case=case)

    one = [("03", True, 1), ("03", True, 0), ("03", False, 1), ("03", False, 0)]
    ask(one, {"03": 75 / 30}, "Divide by the better of the two rules: here always acting costs 30, never acting 120.")
    few = [("03", True, 0), ("03", False, 1), *[("03", False, 0)] * 4]
    ask(few, {"03": 75 / 60}, "Divide by the better of the two rules: here never acting costs 60, always acting 75.")
    known = [*one, ("03", False, np.nan), ("03", True, np.nan), ("04", True, np.nan)]
    ask(known, {"03": 75 / 30}, "What is not known has to be left out.")
    july, june = [("07", True, 1), ("07", False, 1), ("07", True, 0)], [("06", True, 0), *[("06", False, 0)] * 8]
    words = "The better rule is that in that month; in another it may be the other one."
    ask([*july, *june, ("06", False, 1)], {"06": 75 / 60, "07": 75 / 15}, words)
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
