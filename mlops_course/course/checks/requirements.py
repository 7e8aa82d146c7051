"""Checks of requirements: an error budget, a form that is fit for use, a threshold, and a goal."""

import functools
import itertools
import numbers
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_fit, expect_items, expect_unfit, result

__all__ = ["YourTurn", "budget_left", "cheapest", "hint", "kpi", "open_questions", "summary"]


@check(
    "How many questions were asked in the window, and how many of them may fail?",
    "Which days lie in the window? The first one is 27 days before today.",
    "What is left is one minus what is spent, and what is spent is failed divided by allowed.",
)
def budget_left(answer):
    """It is the share of the budget of 28 days that is left, and it may be overdrawn."""
    spring, new_year = pd.Timestamp("2013-03-31"), pd.Timestamp("2013-01-10")

    def ask(
        days: list[tuple],
        left: float,
        words: str,
        *,
        promised: float = 0.9,
        first: int = 0,
        today: pd.Timestamp = spring,
    ) -> None:
        table = pd.DataFrame(days, columns=["before", "asked", "failed"])
        table = table.assign(day=today - pd.to_timedelta(table.pop("before"), unit="D"))[["day", "asked", "failed"]]
        table.index += first
        told = ", ".join(f"{a} asked and {f} failed {n} days ago" for n, a, f in days) or "no day at all"
        told = f"{len(days)} days" if len(days) > 9 else told
        more = f"; the index begins at {first}" * (first > 0) + f"; today is {today:%d %B}" * (today != spring)
        case = f"budget_left({told}; promised {promised}{more})"
        came = result(answer, table, promised, today, case=case)
        came = round(came, 6) if isinstance(came, float) else came
        expect_same(came, round(left, 6), words, case=case, tolerance=1e-6)

    words = "Of 1,000 questions 100 may fail, and 25 did: three quarters are left, not spent."
    ask([(3, 1000, 25)], 0.75, f"{words} It is a share of the budget, not of the questions.")
    ask([(3, 1000, 150)], -0.5, "More went wrong than was promised: the result is below 0.")
    ask([(3, 1000, 0)], 1.0, "Nothing failed, so nothing is spent.")
    ask([], 1.0, "Nothing was asked, so nothing is spent.")
    ask([(2, 0, 0), (1, 0, 0)], 1.0, "Nothing was asked, so nothing is spent.")
    ask([(40, 1000, 100)], 1.0, "Nothing was asked in the 28 days, so nothing is spent.")
    ask([(0, 1000, 25)], 0.75, "Today counts.")
    ask([(3, 105, 5)], 1 - 5 / 10.5, "Of 105 questions 10.5 may fail: the budget need not be whole.")
    words = "Each day of the window counts, the first and the last row of the table too."
    ask([(4, 1000, 50), (3, 1000, 10)], 0.7, words)
    ask([(4, 1000, 50), (3, 1000, 0)], 0.75, "What was asked on a day without a failure counts as well.")
    words = "One day has many questions and one has few: add up before you divide."
    ask([(3, 1980, 10), (4, 20, 10)], 0.9, words)
    ask([(27, 1000, 50), (28, 1000, 100)], 0.5, "The window is today and the 27 days before it, 28 days in all.")
    ask([(0, 1000, 50), (-1, 1000, 100)], 0.5, "The last row is tomorrow, and a day after today does not count.")
    words = "The window goes back into the year before."
    ask([(0, 1000, 0), (10, 1000, 60)], 0.7, words, today=new_year)
    ask(
        [(0, 1000, 20), (40, 1000, 60)],
        0.8,
        "These are days of two years, and one is not in the window.",
        today=new_year,
    )
    ask([(5, 400, 20), (2, 600, 20)], 0.6, "The index means nothing.", first=7)
    ask([(5, 400, 1), (2, 600, 1)], 0.6, "What may fail is the share that was not promised.", promised=0.995)
    rng = np.random.default_rng(1)
    before, asked = (rng.permutation(60) - 10).tolist(), rng.integers(10, 999, 60).tolist()
    counted = [(a, a // 20) for n, a in zip(before, asked, strict=True) if 0 <= n < 28]
    left = 1 - sum(f for _, f in counted) / (0.1 * sum(a for a, _ in counted))
    many = [(n, a, a // 20) for n, a in zip(before, asked, strict=True)]
    ask(many, left, "The days come in any order, and only those of the window count.")


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
NAN = float("nan")
GOAL = "A goal that cannot be measured was accepted."
FAIR = {"measure": "ratio", "goal": 0.95, "compared_to": "last year"}
UNFIT = (  # field, what stands there, and what to say if it is let through
    ("kpi", {**FAIR, "measure": "satisfaction"}, GOAL),
    ("kpi", "satisfaction of the desk", GOAL),
    ("kpi", {**FAIR, "goal": "much better"}, f"{GOAL} A text is no number."),
    ("kpi", {"measure": "ratio", "goal": 0.95}, f"{GOAL} Nothing says what it is compared to."),
    ("kpi", {"measure": "ratio", "compared_to": "last year"}, GOAL),
    ("kpi", {**FAIR, "compared_to": " "}, f"{GOAL} A text of spaces is empty."),
    ("kpi", {**FAIR, "compared_to": 2012}, f"{GOAL} A number is no text."),
    ("kpi", {**FAIR, "goal": True}, f"{GOAL} True is no number."),
    ("kpi", {**FAIR, "measure": ["ratio"]}, GOAL),
    ("kpi", {**FAIR, "measure": "Ratio"}, GOAL),
    ("kpi", {"goal": 0.95, "compared_to": "last year"}, GOAL),
    ("kpi", {}, GOAL),
    ("decision", "   ", "A text of spaces is empty."),
    ("decision", None, "None is no text."),
    ("decision", 7, "A number is no text."),
    ("decision", ["rebook"], "A list is no text."),
    ("costs", {"false_alarm": 15}, "One of the two costs is missing."),
    ("costs", {"missed": 15}, "One of the two costs is missing."),
    ("costs", {"false_alarm": 0, "missed": 60}, "A cost has to be above 0."),
    ("costs", {"false_alarm": 15, "missed": -1}, "A cost has to be above 0."),
    ("costs", {"false_alarm": NAN, "missed": 60}, "NaN is not above 0."),
    ("costs", {"false_alarm": 15, "missed": NAN}, "NaN is not above 0."),
    ("costs", {"false_alarm": "15", "missed": 60}, "A text is no number."),
    ("costs", {"false_alarm": 15, "missed": None}, "None is no number."),
    ("costs", {"false_alarm": True, "missed": 60}, "True is no number."),
    ("costs", 15, "The costs have to be a dictionary."),
    ("costs", ["false_alarm", "missed"], "The costs have to be a dictionary."),
    ("inputs", ["hour", "late"], "Among the inputs is what is to be predicted."),
    ("inputs", [], "There has to be at least one input."),
    ("inputs", "hour", "A text is no list of names."),
    ("inputs", {"hour": 1}, "A dictionary is no list of names."),
    ("inputs", ("hour", "wind"), "A tuple is no list."),
    ("promise", 1, "A promise of 100 % leaves no error budget."),
    ("promise", 0, "A promise has to be above 0."),
    ("promise", -0.5, "A promise has to be above 0."),
    ("promise", 99.5, "A promise has to be below 1."),
    ("promise", NAN, "NaN is not above 0 and below 1."),
    ("promise", "0.995", "A text is no number."),
    ("promise", True, "True is no number."),
    ("risk", "prohibited", "This is none of the three classes."),
    ("risk", "High", "A class is written as in the table, letter for letter."),
    ("risk", "", "An empty text is none of the three classes."),
    ("risk", "limit", "A part of a name is no class."),
    ("risk", ["minimal"], "A list is no class."),
    ("target", "", "An empty text is no target."),
    ("target", " ", "A text of spaces is empty."),
    ("target", 3, "A number is no text."),
    ("target", ["late"], "A list is no text."),
    ("inputs", ["hour", 3], "A number is no name."),
    ("inputs", ["hour", ["wind"]], "A list is no name."),
    ("inputs", ["hour", " "], "A text of spaces is no name."),
)


@check(
    "Work out for each field whether it is fit for use, and collect the names of the others.",
    "`wish.get(name)` gives None for what is missing; ask for the kind of a value before you compare it.",
    "`isinstance(True, int)` is true. Three small helpers, for a number, a text and a part, save most of the lines.",
)
def open_questions(answer):
    """Everything that is not fit for use is named at once, and nothing else."""
    other = {
        **GOOD,
        "costs": {"false_alarm": 0.5, "missed": 1},
        "promise": 0.5,
        "inputs": ["late_before"],
        "risk": "high",
    }
    goals = [{"measure": measure, "goal": goal} for measure, goal in (("share", 1), ("mean", -9.5), ("ratio", 0))]
    fit = [{**other, "kpi": {**goal, "compared_to": "today's rule"}} for goal in goals]
    changes = (
        {"costs": {"false_alarm": 15, "missed": 15}},
        {"inputs": ["hour", "hour"]},
        {"risk": "limited"},
    )
    expect_fit(answer, [GOOD, *fit, *({**GOOD, **change} for change in changes)], what="wish that is fit for use")
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
        terms = ", ".join(f"{name}={value}" for name, value in costs.items())
        case = f"cheapest({case or f'points={points.tolist()}, late={late.tolist()}'}, {terms})"
        came = result(answer, points, late, **costs, case=case, hint=f"It fails: {case}.")
        pair = isinstance(came, tuple | list | np.ndarray) and len(came) == 2
        expect(pair, f"Give two numbers, the threshold and the cost per flight; {came!r} came.", case=f"{case}.")
        threshold, said = came
        turned = isinstance(said, numbers.Real) and threshold != said
        number = isinstance(threshold, numbers.Real) and not np.isnan(threshold)
        expect(number, f"The threshold has to be one number; {threshold!r} came.", case=f"{case}.")

        def cost(acts: np.ndarray) -> float:
            return float((costs["false_alarm"] * (acts & (late == 0)) + costs["missed"] * (~acts & (late == 1))).mean())

        best = min(cost(points >= at) for at in [*np.unique(points), np.inf])
        real, above = cost(points >= threshold), cost(points > threshold)
        told = (
            f"{case} gave the threshold {threshold}. From there on, a flight costs {real:.4g}; the least is {best:.4g}."
        )
        if abs(above - best) < 1e-9 and (points > threshold).any():
            words = "The desk also acts on flights whose points are equal to the threshold."
        if turned and abs(real - best) >= 1e-9 and abs(cost(points >= said) - best) + abs(threshold - best) < 1e-9:
            words = "The threshold comes first, the cost second."
        expect(abs(real - best) < 1e-9, f"Another threshold would have cost less. {words}".rstrip(), case=told)
        said_words = "The second number has to be the cost per flight at that threshold."
        expect_same(said, best, said_words, case=f"For the second number, {case}")

    ask([5, 25, 50, 70], [0, 0, 1, 1], "")
    ask([30, 40, 60, 90], [0, 1, 0, 1], "")
    ask([3, 8, 7, 1], [0, 1, 1, 0], "The flights stand in any order.")
    none, every = "Here it is cheapest to act on none.", "Here it is cheapest to act on all."
    rare, late = np.arange(1, 11), np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    ask(rare, late, none)
    ask(rare + 90, late, f"{none} The highest points are 100.")
    ask(rare, 1 - late, every, false_alarm=1)
    ask(rare - 1, 1 - late, f"{every} The lowest points are 0.", false_alarm=1)
    ask([40], [1], every)
    ask([40, 60], [0, 0], none)
    ask([0.31, 0.32, 0.33, 0.34], [0, 0, 1, 1], "Points need not be whole numbers.")
    ask([1.0, 1.000001], [0, 1], "Points may lie close together.")
    ask([50, 50, 50], [1, 0, 0], "The desk acts on all three or on none: to act on all costs 10 each.")
    ask([10, 20, 20, 20, 30], [0, 1, 0, 0, 1], "The desk acts on flights with equal points together.")
    ask([90, 80, 20, 10], [0, 0, 1, 1], f"{every} Many points need not mean that a flight is late.")
    points, known = _july()
    for false_alarm, missed in ((15, 60), (40, 30), (1, 500)):
        costs = {"false_alarm": false_alarm, "missed": missed}
        ask(points, known, "", case="400 flights of July", **costs)


SLIPS = {  # the ratio of month 04, and what led to it
    90 / 60: "The ratio is to the cost of acting on none in month 04: take the rule of the month before.",
    90 / 30: "Take the rule of the month before, and what it would have cost in the same month as the decisions.",
    75 / 90: "The cost of the decisions is divided by that of the rule, and not the other way round.",
    75 / 30: "Two flights may be alike: each row counts.",
}


@check(
    "Each row has three costs: of what was decided, of acting on all, and of acting on none. Add them up by month.",
    "`shift` moves the better rule down by one month. Its cost is the one of the month in which it is used.",
    "Take the cost of one rule `where` it was better in the month before, and that of the other rule elsewhere.",
)
def kpi(answer):
    """Decisions are compared with the rule that was better in the month before, on what is known."""

    def ask(
        rows: list, expected: dict, words: str, *, slips: dict | None = None, label: int = 0, gate=False, **costs: float
    ) -> None:
        table = pd.DataFrame(rows, columns=["month", "act", "late"]).astype({"late": float, "act": bool})
        table.index = [label] * len(rows) if label else range(len(rows))
        table = table.assign(gate=None) if gate else table
        costs = {"false_alarm": 15, "missed": 60, **costs}
        groups = [f"{sum(1 for _ in same)} × {row}" for row, same in itertools.groupby(rows, key=str)]
        told = f"{len(rows)} rows" if len(groups) > 19 else "; ".join(groups)
        case = f"kpi on (month, act, late) {told or 'no row'} with {costs}"
        case += f", each row with the index {label}" * (label > 0) + ", and an empty column gate" * gate
        came = result(answer, table, **costs, case=case, kind=pd.Series, give="a series from month to ratio")
        months = "Each month with a known label is in the result, the first month too, and no other month."
        expect_items(list(came.index), list(expected), months, case=case, order="Give the months in ascending order.")
        ratios = came.to_numpy(dtype=float)
        words = next((said for ratio, said in (slips or {}).items() if np.isclose(ratios[-1], ratio)), words)
        expect_same(ratios, np.array([*expected.values()], dtype=float), words, case=case)

    first = [("03", True, 1), ("03", True, 0), ("03", False, 1), ("03", False, 0)]  # all 30, none 120, decisions 75
    next_one = [*[("04", True, 0)] * 2, ("04", False, 1), *[("04", False, 0)] * 3]  # all 75, none 60, decisions 90
    last = [("05", True, 1), ("05", False, 0), ("05", False, 1)]  # all 15, none 120, decisions 60
    ask(first, {"03": np.nan}, "The first month has no month before.")
    words = "In month 03 to act on all is better, so month 04 is compared with that rule."
    ask([*first, *next_one], {"03": np.nan, "04": 90 / 75}, words, slips=SLIPS)
    ask([*first, *next_one], {"03": np.nan, "04": 1.2}, "Other columns do not matter, empty or not.", gate=True)
    words = "In month 04 to act on none is better, so month 05 is compared with that rule."
    ask([*first, *next_one, *last], {"03": np.nan, "04": 1.2, "05": 60 / 120}, words)
    words = "The month before is the one before in the result, here 03."
    ask([*first, *last], {"03": np.nan, "05": 60 / 15}, words)
    ask([*last, *next_one, *first], {"03": np.nan, "04": 1.2, "05": 60 / 120}, "The rows stand in any order.")
    ask([*first, *next_one], {"03": np.nan, "04": 1.2}, "The index means nothing.", label=9)
    dark = [("03", False, np.nan), *[("03", True, np.nan)] * 9, ("04", True, np.nan)]
    ask([*first, *next_one, *dark], {"03": np.nan, "04": 1.2}, "Rows whose label is not known are left out.")
    ask([*first, ("035", True, np.nan), *next_one], {"03": np.nan, "04": 1.2}, "In month 035 nothing is known.")
    words = "The month before is the one before in the result: of month 04 nothing is known here."
    ask([*first, ("04", True, np.nan), *last], {"03": np.nan, "05": 60 / 15}, words)
    ask([("02", True, np.nan), *first, *next_one], {"03": np.nan, "04": 1.2}, "In month 02 nothing is known.")
    even = [("03", False, 1), *[("03", True, 0)] * 4]  # 60 and 60
    words = "In month 03 both rules cost the same, so to act on none counts as the better one."
    ask([*even, *next_one], {"03": np.nan, "04": 90 / 60}, words)
    words = "In month 06 the rule of the month before costs nothing, so there is no ratio."
    ask([*next_one, ("06", True, 0), ("06", False, 0)], {"04": np.nan, "06": np.nan}, words)
    words = "After a month without a ratio, the next month has one again."
    free = [("06", True, 0), ("07", True, 0), ("07", False, 1)]
    ask([*next_one, *free], {"04": np.nan, "06": np.nan, "07": 75 / 60}, words)
    words = "The costs are those that are handed in."
    ask([*first, *next_one], {"03": np.nan, "04": (2 * 5 + 8) / 25}, words, false_alarm=5, missed=8)
    ask([*first, *next_one], {"03": np.nan, "04": 1.2}, words, false_alarm=0.15, missed=0.6)
    ask([], {}, "A table without rows gives a series without months.")
    rng = np.random.default_rng(5)
    rows = [(f"{m:02d}", bool(a), float(y)) for m, a, y in rng.integers([1, 0, 0], [9, 2, 2], (160, 3))]
    rows = [(m, a, y if m < "05" or number % 3 else 0.0) for number, (m, a, y) in enumerate(rows)]
    ask(rows, _ratios(rows), "These are 160 rows of eight months in any order.", false_alarm=30, missed=31)


def _ratios(rows: list[tuple[str, bool, float]]) -> dict[str, float]:
    """The ratios for costs of 30 and 31, by a loop."""
    found, act_on_all = {}, None
    for month in sorted({month for month, _, _ in rows}):
        part = [(act, late) for m, act, late in rows if m == month]
        paid = sum(30 * (act and not late) + 31 * (not act and late) for act, late in part)
        of_all, of_none = 30 * sum(not late for _, late in part), 31 * sum(late for _, late in part)
        found[month] = np.nan if act_on_all is None else paid / (of_all if act_on_all else of_none)
        act_on_all = of_all < of_none
    return found
