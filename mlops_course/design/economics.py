"""How many failures an objective allows, and what a system costs and brings in."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from .use_cases import _numbers


def _exact(number: float) -> Fraction:
    """The number as written, 0.999 as 999/1000: with floats, (1 - 0.999) · 1000 is 1.0000000000000009 failures."""
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number; got {number}")
    return Fraction(str(number))


@dataclass(frozen=True)
class ErrorBudget:
    """Failures in a window of an objective: allowed, spent, left (below 0 when overspent), and left over allowed."""

    allowed: float
    spent: int
    left: float
    share_left: float


def error_budget(objective: float, *, total: int, failed: int) -> ErrorBudget:
    """The failures that an objective still allows, after `failed` of `total` events.

    `objective` is the share of good events to reach, between 0 and 1 exclusive. Of `total` events (1 - objective) ·
    total may fail (Beyer et al. 2016, Site Reliability Engineering, chapter 3). Before the first event nothing has
    been spent, and `share_left` is 1.

    Raises ValueError if `objective` is not inside 0 to 1, or not 0 <= failed <= total as whole numbers.
    """
    if not 0 < objective < 1:
        raise ValueError(f"expected an objective between 0 and 1, such as 0.99; got {objective}")
    if not 0 <= failed <= total or failed % 1 or total % 1:
        raise ValueError(f"expected whole numbers with 0 <= failed <= total; got failed={failed}, total={total}")
    allowed = (1 - _exact(objective)) * int(total)
    left = allowed - int(failed)
    return ErrorBudget(float(allowed), int(failed), float(left), float(left / allowed) if allowed else 1.0)


def operating_cost(items: pd.DataFrame, *, years: float) -> pd.DataFrame:
    """The cost sheet of building and running a system for `years`; its total is `sheet["cost"].sum()`.

    `items` has one row an item: `item`, `quantity`, `unit` (such as "hour"), `unit_price`, and `paid`, which is "once"
    for what builds the system or "yearly" for what runs it. Returns these columns and `cost`, which is quantity · unit
    price, times `years` where it is paid yearly.

    Raises ValueError if a column is missing, a number is negative or not finite, or `paid` is another word.
    """
    numbers = _numbers(items, ["quantity", "unit_price"])
    if missing := [column for column in ("item", "unit", "paid") if column not in items]:
        raise ValueError(f"expected the columns item, unit and paid; missing: {', '.join(missing)}")
    if (numbers < 0).any(axis=None) or not (math.isfinite(years) and years > 0):
        raise ValueError("expected no negative quantity or price, and more than 0 years")
    if unknown := set(items["paid"]) - {"once", "yearly"}:
        raise ValueError(f"expected 'once' or 'yearly' in the column 'paid'; got {', '.join(map(repr, unknown))}")
    times = np.where(items["paid"] == "yearly", years, 1.0)
    return items.assign(cost=numbers["quantity"] * numbers["unit_price"] * times)


def break_even_volume(fixed_cost: float, *, value: float, variable_cost: float) -> int:
    """The smallest number of predictions whose value covers all costs.

    `fixed_cost` is what build and run cost whatever the volume; `value` and `variable_cost` are for one prediction, in
    the same money. The volume is for the period that `fixed_cost` covers.

    Raises ValueError if a cost is negative, or if a prediction is not worth more than it costs: no volume helps then.
    """
    if fixed_cost < 0 or variable_cost < 0:
        raise ValueError(f"expected costs of 0 or more; got fixed {fixed_cost} and variable {variable_cost}")
    margin = _exact(value) - _exact(variable_cost)
    if margin <= 0:
        raise ValueError(
            f"expected a value above the variable cost of {variable_cost}, or no volume helps; got {value}"
        )
    return math.ceil(_exact(fixed_cost) / margin)
