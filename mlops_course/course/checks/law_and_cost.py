"""Checks of law and cost: the volume that pays."""

import math

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect_same, hint, summary
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "hint", "summary", "volume"]


@check(
    "Which costs are there whatever the volume, and which come with each prediction?",
    "What is left of one prediction's value, after its own cost, has to cover the rest.",
    "How much is that on average if only a share is followed? Then look at what is left being 0 or less.",
)
def volume(answer):
    """All costs are covered at that number and not at one fewer, and where nothing is left it is infinite."""

    def ask(expected: float, words: str, *items: tuple[float, float, str], **use: float) -> None:
        sheet = pd.DataFrame(items, columns=["quantity", "unit_price", "paid"], index=[2] * len(items))
        sheet = sheet.astype({"quantity": float, "unit_price": float, "paid": object})
        use = {"years": 1, "value": 2.5, "followed": 1.0} | use
        lines = ", ".join(f"{number:g} at {price:g} {paid}" for number, price, paid in items) or "no item"
        case = f"volume([{lines}], {', '.join(f'{name}={number:g}' for name, number in use.items())})"
        came = result(answer, sheet, *use.values(), case=case, hint=f"{case} does not work.")
        expect_same(came, expected, words, case=case)

    build, run, each = (100.0, 900.0, "once"), (10.0, 900.0, "yearly"), (1.0, 0.25, "each")
    ask(40_000, "90,000 euros at 2.25 euros left of each prediction.", build, each)
    ask(36_000, "Without a cost of each prediction, all of its value is left.", build)
    words = "What is paid every year has to be covered three times in three years."
    ask(52_000, words, build, run, each, years=3)
    ask(12_000, "What is paid every year has to be covered, also where nothing was built.", run, each, years=3)
    ask(1_800, "Half a year is half of what is paid every year.", run, years=0.5)
    ask(72_000, "A prediction that nobody follows brings nothing.", build, followed=0.5)
    words = "An answer that nobody follows is paid for all the same: only the value depends on the share."
    ask(90_000, words, build, each, followed=0.5)
    words = "Costs are not yet covered at that number: the next whole number is the first that covers them."
    ask(34, words, (1, 100, "once"), value=3.0)
    ask(34, words, (1, 100, "yearly"), value=3.0)
    ask(1, "Half a euro has to be covered as well.", (1, 0.5, "once"))
    ask(34, "The next whole number is the first that covers the costs.", (1, 101, "once"), value=3.0)
    ask(33, "33 predictions of 3 euros cover 99 euros: one more is not needed.", (1, 99, "once"), value=3.0)
    words = "Nothing is left of a prediction, or less than nothing, so no number of predictions covers the costs."
    ask(math.inf, words, build, each, value=0.2)
    ask(math.inf, words, build, each, value=0.25)
    ask(math.inf, words, build, each, followed=0.0)
    ask(math.inf, words, build, followed=0.0)
    ask(math.inf, words, run, each, value=0.5, followed=0.25)
    ask(0, "Nothing is paid once or yearly, so there is nothing to cover.", each)
    ask(0, "Nothing is paid once or yearly, so there is nothing to cover.", each, value=0.1)
    ask(0, "There is no cost at all.")
    several = [(2, 0.0625, "each"), build, run, (1, 0.125, "each"), (50, 300, "once"), (4, 1_500, "yearly")]
    ask(60_000, "There may be several items of a kind, in any order: add them up.", *several, years=2)
    rng = np.random.default_rng(2)
    for _ in range(30):
        once, yearly, per = rng.uniform(1_000, 90_000), rng.uniform(0, 20_000), rng.uniform(0, 0.2)
        use = {"years": float(rng.integers(1, 6)), "value": rng.uniform(1, 4), "followed": rng.uniform(0.3, 1)}
        exact = (once + use["years"] * yearly) / (use["followed"] * use["value"] - per)
        if 0.01 < exact % 1 < 0.99:  # away from whole numbers, where the last digit of a sum would decide
            items = (1, once, "once"), (2, yearly / 2, "yearly"), (1, per, "each")
            ask(math.ceil(exact), "That is not the smallest number that covers all costs.", *items, **use)
