"""Use cases in order of what they are worth, with how sure that order is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def _numbers(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns as floats; raises ValueError for a missing column or a cell that is no finite number."""
    if missing := [column for column in columns if column not in frame]:
        raise ValueError(f"expected the columns {', '.join(columns)}; missing: {', '.join(missing)}")
    numbers = frame[list(columns)].apply(pd.to_numeric, errors="coerce").astype(float)
    if bad := [column for column in columns if not np.isfinite(numbers[column]).all()]:
        raise ValueError(
            f"expected finite numbers in every row; fill in or drop the rows without, in: {', '.join(bad)}"
        )
    return numbers


def rank_use_cases(use_cases: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    """Use cases by expected value a year, best first, with how sure that order is.

    `use_cases` has one row a use case: `name`; `value_low`, `value_high` (money a year if it works); `feasibility_low`,
    `feasibility_high` (probability that it can be built); `risk_low`, `risk_high` (probability that, once built, it may
    not or cannot be used). Each draw takes one number from each range, and is worth value · feasibility · (1 - risk).
    The numbers are drawn uniformly, because a range says no more than its ends, and independently of each other.

    Returns `name`, `mean`, `p5`, `p95` (money a year; 5 % of draws lie below, 5 % above) and `share_first` (share of
    draws in which the use case is the best), indexed by `rank` from 1. The order does not depend on the unit of money
    or on the order of rows.

    Raises ValueError if a column is missing, a number is not finite, a low end is above its high end, a probability is
    outside 0 to 1, a name comes twice, there is no row, or `draws` is below 1.
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
