"""Checks of law and cost: duties with their dates, the cheapest place, the volume that pays."""

import itertools
import math
import numbers
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.answers import brief
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "cheapest", "duties", "hint", "summary", "volume"]

STOP, DISCLOSE = date(2025, 2, 2), date(2026, 8, 2)
ANNEX = {"III": date(2027, 12, 2), "I": date(2028, 8, 2)}
FLAGS = ("prohibited", "narrow", "profiles", "talks", "persons")
DAY = timedelta(days=1)


def _use(annex: str | None = None, *flags: str) -> dict[str, object]:
    """A use that is listed in an annex or in none, and the facts that are true of it."""
    return {"annex": annex, **{name: name in flags for name in FLAGS}}


def _duties(use: dict, day: date) -> set[str]:
    if use["prohibited"] and day >= STOP:
        return {"stop"}
    exempt = use["annex"] == "III" and use["narrow"] and not use["profiles"]
    listed = use["annex"] is not None and day >= ANNEX[use["annex"]]
    found = {
        "data protection": use["persons"],
        "disclose": use["talks"] and day >= DISCLOSE,
        "high": listed and not exempt,
        "register": listed and use["annex"] == "III",
        "document": listed and exempt,
    }
    return {name for name, holds in found.items() if holds}


@check(
    "Which row of the table can switch off the others? All other rows are asked one by one.",
    "Work out first whether the use is exempt: that takes three facts. Then three rows of the table ask for it.",
    "Start with an empty set and add a duty with an `if` of its own for each row; compare days with `>=`.",
)
def duties(answer):
    """Each duty stands for itself from its first day on, exempt uses keep two, and a use that has to stop has one."""

    def ask(use: dict, day: date, words: str) -> None:
        told = ", ".join(f"{name} True" for name in FLAGS if use[name]) or "all facts False"
        case = f"With annex {use['annex']!r}, {told}, on {day}:"
        came = result(answer, dict(use), day, case=f"{case[:-1]}.", kind=set | frozenset, give="a set of duties")
        expected = _duties(use, day)
        case += f" {sorted(map(str, came))} came, expected {sorted(expected)}."
        expect(set(came) == expected, words, case=case)

    late, third, first = date(2030, 1, 1), ANNEX["III"], ANNEX["I"]
    ask(_use(), late, "No row of the table concerns this use, so the set is empty.")
    ask(_use(None, "narrow"), late, "A use outside of the annexes needs no exemption and is not documented.")
    ask(
        _use(None, "talks"),
        late,
        "A use that talks to people or makes content has to disclose it, whatever else it does.",
    )
    ask(_use(), late, "This use has no duty, also if the use of the call before had one.")
    ask(_use("I"), late, "A use in Annex I is high risk, and nothing else follows from this annex.")
    ask(_use("III"), late, "A use in Annex III that is not exempt is high risk, and is registered.")
    ask(_use(None, "prohibited"), late, "A prohibited use has to stop.")
    words = "A duty applies from its day on, that day included."
    ask(_use(None, "talks"), DISCLOSE, words)
    ask(_use("III"), third, words)
    ask(_use("I"), first, words)
    ask(_use(None, "prohibited"), STOP, words)
    words = "A duty does not apply before its day."
    ask(_use(None, "talks"), DISCLOSE - DAY, words)
    ask(_use("III"), third - DAY, words)
    ask(_use("III", "narrow"), third - DAY, words)
    ask(_use("I"), first - DAY, "Products in Annex I have a later day than uses in Annex III.")
    ask(_use(None, "prohibited"), STOP - DAY, words)
    ask(_use("III", "narrow"), third, "An exempt use is not high risk, but it is still documented and registered.")
    words = "A narrow task may use data about persons: only a use that profiles them is never exempt."
    ask(_use("III", "narrow", "persons"), third, words)
    words = "A use that profiles persons is never exempt, however narrow its task is."
    ask(_use("III", "narrow", "profiles", "persons"), third, words)
    ask(_use("I", "narrow"), first, "There is an exemption for Annex III only.")
    words = "A use can have several duties at once: each row of the table stands for itself."
    ask(_use("III", "talks"), third, words)
    ask(_use("I", "talks"), first, words)
    ask(_use("III", "narrow", "talks"), third, words)
    words = "Data about persons is protected in every class: the GDPR does not ask for the class."
    for day in (date(2024, 1, 1), late):
        ask(_use(None, "persons"), day, words)
    words = "A use that has to stop has no other duty."
    ask(_use("III", "prohibited", "talks", "profiles", "persons"), third, words)
    ask(_use(None, "prohibited", "persons"), STOP, words)
    words = "Before the prohibition applies, the other rows of the table hold as always."
    ask(_use(None, "prohibited", "persons"), STOP - DAY, words)
    words = "This is not what the table of duties says."
    days = [begins + shift * DAY for begins in (STOP, DISCLOSE, *ANNEX.values()) for shift in (-1, 0, 1)]
    for annex, *truths in itertools.product([None, "I", "III"], *[[False, True]] * len(FLAGS)):
        use = _use(annex, *itertools.compress(FLAGS, truths))
        if use["persons"] or not use["profiles"]:
            for day in days:
                ask(use, day, words)


def _places(*rows: tuple) -> pd.DataFrame:
    """Places from name, euros an hour, capacity of a machine and euros an answer."""
    table = pd.DataFrame(rows, columns=["name", "per_hour", "capacity", "per_answer"])
    return table.astype({"per_hour": float, "capacity": float, "per_answer": float})


def _told(places: pd.DataFrame) -> str:
    return "; ".join(
        f"{row.name}: {row.per_hour:g} an hour, capacity {row.capacity:g}, {row.per_answer:g} an answer"
        for row in places.itertuples(index=False)
    )


def _cost(place: dict, load: list[int]) -> float:
    machines = 0 if math.isnan(place["capacity"]) else math.ceil(max(load, default=0) / place["capacity"])
    return machines * place["per_hour"] * len(load) + place["per_answer"] * sum(load)


@check(
    "What does one place cost for the whole load? Two numbers of the load decide on the machines, a third on the fees.",
    "Machines: from the busiest hour, rounded up, and paid in every hour. Fees: for the sum of all answers.",
    "A missing capacity gives a missing number of machines: make it 0. Then take the position of the first minimum.",
)
def cheapest(answer):
    """Machines for the busiest hour are paid in every hour, each answer once, and of equal places the first counts."""

    def ask(places: pd.DataFrame, load: list[int], words: str, *, less: str = "") -> None:
        costs = [_cost(place, load) for place in places.to_dict("records")]
        best = int(np.argmin(costs))
        case = f"Load {load if len(load) < 9 else f'of {len(load)} hours'}, places {_told(places)}."
        came = result(answer, places, list(load), case=case, kind=tuple, give="a tuple of name and euros")
        pair = len(came) == 2 and isinstance(came[0], str) and isinstance(came[1], int | float | np.number)
        expect(pair, "Give two things: the name, and the euros as a number.", case=f"{case} {brief(came)} came.")
        name, euros = places["name"].iloc[best], costs[best]
        told = f"{case} {(came[0], float(came[1]))} came, expected {(name, euros)}."
        expect(math.isclose(came[1], euros, abs_tol=1e-9), less if less and came[1] < euros else words, case=told)
        expect(came[0] == name, words, case=told)

    machine, fee, both = ("machine", 2.0, 100, 0.0), ("by the answer", 0.0, math.nan, 0.25), ("both", 1.0, 100, 0.125)
    words = "Only whole machines can be rented: here one, which is paid for in both hours."
    ask(_places(machine), [60, 60], words)
    words = "A load that fills the machines exactly needs no further machine."
    less = "Too few euros: each machine is paid for in every hour of the load."
    ask(_places(machine), [100, 100], words, less=less)
    ask(_places(machine), [300], "There have to be enough machines for the busiest hour: here three.")
    words = "Only whole machines can be rented."
    ask(_places(machine), [150, 150], words)
    ask(_places(machine), [1, 1], words)
    words = "A place that rents no machines costs its fee for each answer, and can be the cheapest."
    ask(_places(fee), [80, 80], words)
    ask(_places(machine, fee), [2, 3], words)
    ask(_places(fee, ("free", 0.0, 100, 0.0)), [80, 80], "A machine may cost nothing.")
    words = "There have to be enough machines for the busiest hour."
    ask(_places(machine), [10, 250, 10, 10], words)
    words = "Rented machines are paid in hours without an answer, too."
    ask(_places(machine), [0, 0, 80, 0], words)
    words = "On top of its machines a place may charge for each answer."
    ask(_places(both), [80, 80], words)
    ask(_places(machine, both), [80, 80], words)
    words = "The cheapest place depends on the load: compare what the whole load costs."
    ask(_places(fee, machine, both), [80, 80, 80], words)
    ask(_places(fee, machine, both), [8, 0, 1], words)
    ask(_places(both, machine, fee), [80, 90, 400], words)
    words = "If no answer is wanted, no machine is rented, and nothing is paid."
    ask(_places(machine), [0, 0], words)
    ask(_places(machine), [], words)
    words = "If several places cost the same, the one that stands first is taken."
    ask(_places(machine, fee), [8], words)
    ask(_places(fee, machine), [8], words)
    ask(_places(machine, fee, both), [], words)
    words = "The index may be any: here all places have the index 7."
    ask(_places(fee, machine, both).set_axis([7, 7, 7], axis="index"), [80, 80, 80], words)
    words = "This is not the cheapest place, or not what it costs."
    rng = np.random.default_rng(5)
    for _ in range(40):
        rows = [
            (f"place {n}", rng.integers(1, 90) / 8, int(rng.integers(5, 400)), rng.integers(0, 4) / 64)
            for n in range(4)
        ]
        rows.insert(int(rng.integers(0, 5)), ("fees", 0.0, math.nan, rng.integers(1, 16) / 64))
        ask(_places(*rows), rng.integers(0, 500, rng.integers(1, 24)).tolist(), words)


def _whole(came: object) -> bool:
    return not isinstance(came, numbers.Real | Decimal) or came in (math.inf, 0) or came % 1 == 0


@check(
    "Which costs are the same at any volume, and which come with each prediction?",
    "From the value of one prediction subtract its own cost. What is left has to cover the other costs.",
    "Only the value depends on the share that is followed. And what if nothing is left, or less than nothing?",
)
def volume(answer):
    """That number covers all costs, and one fewer does not. If nothing is left of a prediction, it is infinite."""

    def ask(expected: float, words: str, *items: tuple[float, float, str], **use: float) -> None:
        sheet = pd.DataFrame(items, columns=["quantity", "unit_price", "paid"], index=[2] * len(items))
        sheet = sheet.astype({"quantity": float, "unit_price": float, "paid": object})
        use = {"years": 1, "value": 2.5, "followed": 1.0} | use
        lines = ", ".join(f"{number:g} at {price:g} {paid}" for number, price, paid in items) or "no item"
        case = f"volume([{lines}], {', '.join(f'{name}={number:g}' for name, number in use.items())})"
        came = result(answer, sheet, *use.values(), case=case, hint=f"{case} does not work.")
        words = words if _whole(came) else "Give a whole number of predictions."
        expect_same(came, expected, words, case=case)

    build, run, each = (100.0, 900.0, "once"), (10.0, 900.0, "yearly"), (1.0, 0.25, "each")
    ask(40_000, "90,000 euros at 2.25 euros left of each prediction.", build, each)
    ask(36_000, "Without a cost of each prediction, all of its value is left.", build)
    words = "Quantity times price is what an item costs, also one that comes with each prediction."
    ask(40_000, words, build, (2.0, 0.125, "each"))
    ask(40_000, words, build, (0.25, 1.0, "each"))
    words = "Nothing is paid yearly here, so the number of years changes nothing: it is the same 40,000 as in one year."
    ask(40_000, words, build, each, years=3)
    words = "The build is paid once, and what is paid every year has to be covered three times in three years."
    ask(52_000, words, build, run, each, years=3)
    ask(12_000, "What is paid every year has to be covered, also if nothing was built.", run, each, years=3)
    ask(72_000, "A prediction that nobody follows brings nothing.", build, followed=0.5)
    words = "An answer that nobody follows is paid for all the same. Only the value depends on the share."
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
    for paid in ("once", "yearly"):
        words = f"An item of 0 euros costs nothing, also if it is paid {paid}: there is nothing to cover."
        ask(0, words, (1, 0.0, paid), each, value=0.1)
        ask(0, words, (1, 0.0, paid), each)
    words = "There may be several items of a kind: multiply each by its own price, then add up."
    ask(40_000, words, (50, 1_000, "once"), (400, 100, "once"), each)
    several = [(2, 0.0625, "each"), build, run, (1, 0.125, "each"), (50, 300, "once"), (4, 1_500, "yearly")]
    ask(60_000, "There may be several items of a kind, in any order. Add them up.", *several, years=2)
    rng = np.random.default_rng(2)
    for _ in range(30):
        once, yearly, per = rng.uniform(1_000, 90_000), rng.uniform(0, 20_000), rng.uniform(0, 0.2)
        use = {"years": int(rng.integers(1, 6)), "value": rng.uniform(1, 4), "followed": rng.uniform(0.3, 1)}
        exact = (once + use["years"] * yearly) / (use["followed"] * use["value"] - per)
        if 0.01 < exact % 1 < 0.99:  # away from whole numbers, where the last digit of a sum would decide
            items = (1, once, "once"), (2, yearly / 2, "yearly"), (1, per, "each")
            ask(math.ceil(exact), "That is not the smallest number that covers all costs.", *items, **use)
