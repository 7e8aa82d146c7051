"""What use cases are worth, how many failures an objective allows, and what a system costs and brings in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd


def rank_use_cases(use_cases: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """Use cases by expected value a year, best first, with how sure that order is.

    `use_cases` has one row a use case: `name`; `value_low`, `value_high` (money a year if it works); `feasibility_low`,
    `feasibility_high` (probability that it can be built); `risk_low`, `risk_high` (probability that, once built, it may
    not or cannot be used). Each draw takes one number from each range, uniformly and independently, and is worth
    value · feasibility · (1 - risk).

    Returns `name`, `mean`, `p5`, `p95` (money a year; 5 % of draws lie below, 5 % above) and `share_first` (share of
    draws in which the use case is the best), indexed by `rank` from 1. Raises ValueError if a column is missing, a
    number is impossible, a name comes twice, there is no row, or `draws` is below 1.
    """
    ranges = ("value", "feasibility", "risk")
    numbers = _numbers(use_cases, [f"{what}_{end}" for what in ranges for end in ("low", "high")])
    if draws < 1 or use_cases.empty:
        raise ValueError(f"expected at least one use case and one draw; got {len(use_cases)} and {draws}")
    if "name" not in use_cases or not use_cases["name"].is_unique:
        raise ValueError("expected a column 'name' in which each use case has its own; rename those that are equal")
    order = np.argsort(use_cases["name"].astype(str).to_numpy(), kind="stable")  # same draws in any order of rows
    low = numbers[[f"{what}_low" for what in ranges]].to_numpy()[order]
    high = numbers[[f"{what}_high" for what in ranges]].to_numpy()[order]
    if (low > high).any() or (low[:, 1:] < 0).any() or (high[:, 1:] > 1).any():
        raise ValueError("expected low <= high in every range, and feasibility and risk between 0 and 1")
    value, feasibility, risk = np.moveaxis(np.random.default_rng(seed).uniform(low, high, (draws, *low.shape)), 2, 0)
    worth = value * feasibility * (1 - risk)
    ranking = pd.DataFrame(
        {
            "name": use_cases["name"].to_numpy()[order],
            "mean": worth.mean(axis=0),
            "p5": np.quantile(worth, 0.05, axis=0),
            "p95": np.quantile(worth, 0.95, axis=0),
            "share_first": np.bincount(worth.argmax(axis=1), minlength=len(low)) / draws,
        }
    ).sort_values("mean", ascending=False, kind="stable")
    return ranking.set_index(pd.RangeIndex(1, len(ranking) + 1, name="rank"))


@dataclass(frozen=True)
class ErrorBudget:
    """Failures in a window of an objective: allowed, spent, left (below 0 when overspent), and left over allowed."""

    allowed: float
    spent: int
    left: float
    share_left: float


def error_budget(objective: float, *, total: int, failed: int) -> ErrorBudget:
    """The failures that an objective still allows, after `failed` of `total` events.

    `objective` is the share of good events to reach: (1 - objective) · total may fail (Beyer et al. 2016, Site
    Reliability Engineering, chapter 3). Before the first event nothing has been spent, and `share_left` is 1. Raises
    ValueError if `objective` is not inside 0 to 1, or not 0 <= failed <= total as whole numbers.
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
    for what builds the system or "yearly" for what runs it. Returns these columns and `cost`, over all the years.
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

    `fixed_cost` is what build and run cost whatever the volume, over the period in question; `value` and
    `variable_cost` are for one prediction, in the same money. Raises ValueError if a cost is negative, or if a
    prediction is not worth more than it costs: no volume helps then.
    """
    if fixed_cost < 0 or variable_cost < 0:
        raise ValueError(f"expected costs of 0 or more; got fixed {fixed_cost} and variable {variable_cost}")
    margin = _exact(value) - _exact(variable_cost)
    if margin <= 0:
        raise ValueError(f"expected a value above the variable cost, {variable_cost}, or no volume helps; got {value}")
    return math.ceil(_exact(fixed_cost) / margin)


def _numbers(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns as floats; raises ValueError for a missing column or a cell that is no finite number."""
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"expected the columns {', '.join(columns)}; missing: {', '.join(missing)}")
    numbers = frame[list(columns)].apply(pd.to_numeric, errors="coerce").astype(float)
    if bad := [column for column in columns if not np.isfinite(numbers[column]).all()]:
        raise ValueError(f"expected finite numbers in every row; fill or drop the rows without, in: {', '.join(bad)}")
    return numbers


def _exact(number: float) -> Fraction:
    """The number as written, 0.999 as 999/1000: with floats, (1 - 0.999) · 1000 is 1.0000000000000009 failures."""
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number; got {number}")
    return Fraction(str(number))
