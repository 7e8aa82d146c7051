"""Checks of drift: a stability index."""

import functools
from collections.abc import Sequence

import numpy as np

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect_same, hint, summary
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "hint", "psi", "summary"]


@functools.cache
def _temperatures() -> tuple[np.ndarray, np.ndarray]:
    """Of Februaries and Octobers at the three airports, a few hundred readings each; some of October are missing."""
    february, october = (
        flights.read([month])["weather"]["temp"].to_numpy()[:900:3] for month in ("2013-02", "2013-10")
    )
    october = october.copy()
    october[::11] = np.nan
    return february, october


def _index(before: np.ndarray, now: np.ndarray) -> float:
    edges = np.unique(np.quantile(before[~np.isnan(before)], np.arange(1, 10) / 10))

    def shares(values: np.ndarray) -> np.ndarray:
        below = (edges < values[:, None]).sum(axis=1)
        counts = [(np.isnan(values)).sum(), *[((below == n) & ~np.isnan(values)).sum() for n in range(len(edges) + 1)]]
        return np.maximum(counts, 0.5) / len(values)

    return float(((shares(now) - shares(before)) * np.log(shares(now) / shares(before))).sum())


@check(
    "Make the edges once, from `before`, and count both sides between them.",
    "`np.searchsorted(edges, values)` gives the bin of each value, and `np.bincount(..., minlength=...)` counts.",
    "Put missing values into one bin more, and take at least half a row for each count.",
)
def psi(answer):
    """Nothing that has moved, gone missing or stopped coming is overlooked, and nothing is infinite."""

    def ask(before: Sequence[float], now: Sequence[float], words: str, *, case: str = "") -> None:
        before, now = np.array(before, dtype=float), np.array(now, dtype=float)
        case = case or f"psi({before.tolist()}, {now.tolist()})"
        expect_same(result(answer, before, now, case=case), _index(before, now), words, case=case, tolerance=1e-6)

    ten, nan = np.arange(1.0, 11.0), float("nan")
    ask(ten, ten, "Nothing has moved.")
    ask(ten, ten[::-1], "The order of rows is no drift.")
    words = "The bins come from the reference, and both sides are counted in them."
    ask(np.arange(1.0, 21.0), [1, 1, 1, 1, 1, 1, *range(3, 20, 2), 2, 4, 6, 8, 10], words)
    words = "A bin that is empty on one side counts as half a row there."
    ask(ten, [9.5, 9.6, 9.7, 9.8, 9.9] * 2, words)
    far = [*range(1, 20), 10_000]
    ask(far, [3.0, 3.5, 4.0, 18.0, 9_999.0] * 4, "The edges are deciles of the reference, however far one value lies.")
    ask([1.0, 1.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0], "Equal edges count once, and a value on an edge lies below it.")
    ask(ten, [*ten[:5], nan, nan, nan, nan, nan], "Half of the values have gone missing, and that is a change.")
    ask([*ten, nan, nan], ten, "Values that were missing are there now, and that is a change.")
    ask(ten, [nan, nan], "All values have gone missing.")
    ask(ten, [5.0], "One row is enough.")
    ask([7.0, 7.0], [7.0, 8.0], "The reference may hold a single value.")
    words = "Equal edges count once, so that there is no bin in which nothing can ever lie."
    ask([7.0, 7.0], [8.0], words)
    ask([1.0] * 9 + [2.0], [1.0], words)
    ask([0.0, 10.0], [4.0, 10.0], "The deciles are those of np.quantile, between two values as well.")
    ask([-2.0, -1.0, 0.0, 1.0], [-2.0, -2.0, -2.0, 1.0], "Numbers of 0 and below are values like others.")
    ask([1.0, 2.0], [1.0, 2.0, 2.0, 2.0], "There may be more rows now than before.")
    case = "psi of the temperatures of February and October"
    ask(*_temperatures(), "The real year gives another number.", case=case)
