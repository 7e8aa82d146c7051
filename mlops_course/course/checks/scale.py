"""Checks of scale: sums that add up."""

import functools
import gc
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, result

__all__ = ["YourTurn", "hint", "summarise", "summary"]


@functools.cache
def _september() -> pd.DataFrame:
    """Flights of September 2013, a month that the lesson does not use."""
    table = flights.read(["2013-09"])["flights"]
    return table.loc[table.index % 5 == 0, ["carrier", "arr_delay", "dep_time", "tailnum"]].reset_index(drop=True)


def _delays(*rows: tuple[str, float | None]) -> pd.DataFrame:
    """A piece of flights, with a column in which a value is missing."""
    table = pd.DataFrame(list(rows), columns=["carrier", "arr_delay"])
    return table.astype({"arr_delay": float}).assign(tailnum=pd.Series(None, index=table.index, dtype=object))


def _expected(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(subset=["arr_delay"]).groupby("carrier")["arr_delay"].agg(n="count", mean="mean", sd="std")


def _streamed(piece: pd.DataFrame, *, times: int, memory: list[int]) -> Iterator[pd.DataFrame]:
    """Copies of a piece, one by one; `memory` gets the bytes in use before the third and before the last of them."""
    for number in range(times):
        if number in (2, times - 1):
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
        yield piece.copy()


def _kept(answer: Callable, piece: pd.DataFrame, *, times: int) -> float:
    """What an answer keeps in memory as it goes through equal pieces, in columns of delays; partial sums are small."""
    memory, begun = [], not tracemalloc.is_tracing()
    if begun:
        tracemalloc.start()
    try:
        answer(_streamed(piece, times=times, memory=memory))
    finally:
        if begun:
            tracemalloc.stop()
    return (memory[-1] - memory[0]) / piece["arr_delay"].to_numpy().nbytes


@check(
    "A mean does not add up. Which two numbers do, from which a mean is made at the end?",
    "For the spread there is a third: the sum of squares. Keep three numbers for each carrier.",
    "`DataFrame.add(..., fill_value=0)` adds tables with different carriers.",
    "With n, s and q for number, sum and sum of squares, the squared distances from the mean are q - s * s / n in all.",
)
def summarise(answer):
    """However the flights are cut, number, mean and spread are the same, and no piece is kept."""

    def ask(pieces: list[pd.DataFrame], case: str, **words: str) -> None:
        fails, give = f"summarise fails on {case}.", "a table with a row a carrier"
        made = (piece.copy() for piece in pieces)
        came = result(answer, made, case=case, hint=fails, kind=pd.DataFrame, give=give)
        columns = sorted(map(str, came.columns))
        expect(columns == ["mean", "n", "sd"], f"Give the columns n, mean and sd, not {columns}.")
        expected = _expected(pd.concat(pieces, ignore_index=True))
        found, carriers = list(came.index), list(expected.index)
        lost, extra = set(carriers) - set(found), set(map(str, found)) - set(carriers)
        expect(not lost, f"A carrier is missing: {words.get('n', '')}", case=f"For {case} there is no {sorted(lost)}.")
        expect(not extra, "A carrier without any known delay is left out.", case=f"For {case} came {sorted(extra)}.")
        expect(found == carriers, "Sort by carrier, one row each.", case=f"For {case} came {found}.")
        for column in filter(words.get, ("n", "mean", "sd")):
            ours, theirs = expected[column].astype(float), came[column].astype(float)
            expect_same(theirs, ours, words[column], case=f"For {case} the column {column}", tolerance=1e-6)

    def all_three(words: str) -> dict[str, str]:
        return dict.fromkeys(("n", "mean", "sd"), words)

    one = _delays(("UA", 1), ("UA", 3), ("UA", 8), ("B6", -2), ("B6", 6))
    usual = {"n": "Count the flights of each carrier.", "mean": "It is the mean of its delays."}
    ask([one], "one piece", **usual, sd="It has the divisor n - 1, as in pandas.")
    uneven = [_delays(("UA", 0), ("UA", 2), ("UA", 4), ("UA", 6), ("UA", 8)), _delays(("UA", 40), ("UA", 60))]
    words = "A mean of means counts a small piece as much as a large one: add up what can be added."
    ask(uneven, "a piece of five flights and one of two", n="Numbers of all pieces are added.", mean=words)
    steady = [_delays(("UA", 10), ("UA", 10)), _delays(("UA", 50), ("UA", 50))]
    words = "Delays also spread between pieces: within each of these they do not."
    ask(steady, "two pieces, each of equal delays", n="Add the numbers.", mean="Add the sums.", sd=words)
    other = [_delays(("UA", 1), ("UA", 3)), _delays(("B6", 5), ("B6", 9)), _delays(("UA", 8), ("AA", 1), ("AA", 4))]
    words = "A carrier that is not in every piece counts where it is."
    ask(other, "three pieces with different carriers", **all_three(words))
    gaps = [_delays(("UA", 1), ("UA", None), ("B6", None)), _delays(("UA", 5), ("B6", 3), ("B6", 4))]
    words = "A flight without a known delay does not count, in none of the columns."
    ask(gaps, "two pieces with missing delays", **all_three(words))
    ask([*gaps, _delays(("AA", None), ("UA", 7))], "a carrier without any known delay", **all_three(words))
    empty = [one.head(0), one.head(2), one.head(0), one.tail(3)]
    ask(empty, "pieces of which two are empty", **all_three("An empty piece changes nothing."))
    single = [_delays(("UA", 4)), _delays(("AA", 2), ("AA", 6))]
    words = "One flight has no spread: missing, not 0."
    ask(single, "a carrier with one flight", n="One flight is one.", mean="Its delay is the mean.", sd=words)
    zero = [_delays(("UA", 0), ("UA", 0), ("AA", -5), ("AA", -5))]
    ask(zero, "delays that are all equal", n="Zero is a known delay.", mean="All are equal.", sd="There is no spread.")
    rows, rng = _september(), np.random.default_rng(9)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    for number in (1, 2, 7, 30):
        cuts = np.sort(rng.integers(0, len(rows) + 1, number - 1))
        pieces = [shuffled.iloc[part] for part in np.split(np.arange(len(rows)), cuts)]
        words = "The result depends on how the month is cut."
        ask(pieces, f"flights of September in {number} pieces", **all_three(words))
    kept = attempt(lambda: _kept(answer, rows, times=30), hint="summarise fails on thirty pieces.")
    words = "Only two pieces fit into memory at a time: add up each one, and let it go, with all its values."
    expect(kept < 14, words, case="With thirty pieces, memory grew from each to the next.")
