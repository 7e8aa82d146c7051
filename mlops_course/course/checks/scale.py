"""Checks of scale: workers for a deadline, sketches that add up, parts that were done twice, and sums of pieces."""

import functools
import gc
import itertools
import math
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, expect_error, result

__all__ = ["YourTurn", "added", "hint", "joined", "summarise", "summary", "workers_needed"]


@check(
    "First ask whether one process keeps the deadline. If not, how many seconds are left for the shared work?",
    "Of the deadline, the start and the work that stays take their part first. Is anything left?",
    "The number of workers is the shared work divided by what is left, rounded up: `-(-a // b)` or `math.ceil`.",
    nothing=True,
)
def workers_needed(answer):
    """The smallest number keeps the deadline, one less does not, and what no number can do is said."""

    def ask(rows: int, deadline: int, start: int, alone: int, shared: int, words: str) -> None:
        given = {"start": start, "alone": alone, "shared": shared}
        case = f"workers_needed({rows}, {deadline}, {', '.join(f'{name}={value}' for name, value in given.items())})"
        hint = f"{case} fails. {words}"
        came = attempt(lambda: answer(rows, deadline, **given), hint=hint)
        expected = _workers(rows, deadline, **given)
        if expected is None:
            expect(came is None, f"{words} {case} gave {came!r}, expected None.")
        else:
            expect(came is not None, f"{words} {case} gave None, expected a number.")
            expect_same(came, expected, words, case=case)

    ask(10, 100, 20, 1, 8, "One process takes 90 s and needs no cluster: 0 workers.")
    ask(10, 90, 20, 1, 8, "A deadline that is met exactly is kept, by one process too.")
    ask(10, 70, 20, 1, 8, "This number meets the deadline exactly: no more is needed.")
    ask(10, 40, 20, 0, 8, "The start takes its time before any row is answered.")
    ask(10, 30, 0, 1, 8, "The work that stays in one process takes its time, however many workers there are.")
    ask(10, 69, 20, 1, 8, "A part of a worker does not exist: round up.")
    ask(1, 2020, 20, 0, 4001, "A second too much for two workers needs three: round up, however small the part.")
    ask(40, 61, 20, 1, 29, "If one second is left for the shared work, more than a thousand workers may be needed.")
    words = "If start and the work that stays take the whole deadline, no number of workers keeps it: None."
    ask(10, 30, 20, 1, 8, words)
    ask(10, 25, 20, 1, 8, words)
    ask(10, 10, 20, 1, 8, words)
    ask(100, 400, 5, 3, 0, "Without work that can be shared, one process keeps this deadline.")
    ask(100, 299, 5, 3, 0, words)
    ask(0, 0, 20, 1, 8, "No rows take no time.")
    ask(3, 11, 2, 0, 12, "All of the work may be shared, and none stays.")
    rng = np.random.default_rng(18)
    for _ in range(60):
        rows, start, alone, shared = (int(n) for n in rng.integers((1, 0, 0, 1), (40, 60, 5, 30)))
        ask(rows, int(rng.integers(0, 400)), start, alone, shared, "Some case of whole numbers has another answer.")


def _workers(rows: int, deadline: int, *, start: int, alone: int, shared: int) -> int | None:
    """By trying: the first number that keeps the deadline."""
    if rows * (alone + shared) <= deadline:
        return 0
    most = rows * shared + 1  # seconds are whole numbers, so more workers change nothing
    keeps = (n for n in range(1, most + 1) if (start + rows * alone - deadline) * n + rows * shared <= 0)
    return next(keeps, None)


def _sketch(values: Iterable[int], width: int) -> dict:
    return {"width": width, "counts": dict(Counter(value // width * width for value in values))}


@check(
    "Two bins of five minutes fit into one of ten. Into which width do bins of four and of six fit?",
    "The width is the least common multiple: `math.lcm`. In which wide bin does the start of a narrow one lie?",
    "`start // width * width` rounds down, below zero as well; add the counts there.",
)
def added(answer):
    """The sum is the sketch of all flights together, in any order, and no flight is lost."""

    def ask(one: dict, other: dict, words: str) -> dict:
        case = f"added({one}, {other})"
        came = result(answer, one, other, case=case, hint=f"{case} fails.", kind=dict, give="a sketch, as a dictionary")
        form = came.keys() == {"width", "counts"} and isinstance(came["counts"], dict)
        expect(form, "A sketch has a width and a dictionary of counts.", case=f"{case} gave {came}.")
        width = math.lcm(one["width"], other["width"])
        right = "The width is the smallest one into whose bins the bins of both fit."
        expect(came["width"] == width, right, case=f"{case} gave the width {came['width']}, expected {width}.")
        expected = Counter()
        for sketch in (one, other):
            for start, number in sketch["counts"].items():
                expected[start // width * width] += number
        odd = [start for start in came["counts"] if start % width]
        start = "A bin is named after its start, a multiple of the width of the result, in whichever sketch it was."
        expect(not odd, start, case=f"{case} gave the bins {odd} of width {width}.")
        empty = sorted(start for start, number in came["counts"].items() if not number)
        expect(not empty, "A bin without a flight is left out.", case=f"{case} gave 0 for {empty}.")
        counts = sorted(came["counts"].items())
        told = f"{case} gave {counts}, expected {sorted(expected.items())}."
        expect(counts == sorted(expected.items()), words, case=told)
        return came

    words = "Bins of one width are added where both have them, and kept where one has."
    ask(_sketch([1, 2, 7], 5), _sketch([3, 22], 5), words)
    ask(_sketch([1, 7, 12, 17], 5), _sketch([3, 11, 19], 10), "Narrow bins go into the wide bin that holds them.")
    ask(_sketch([3, 11, 19], 10), _sketch([1, 7, 12, 17], 5), "The order of the two does not matter.")
    words = "Below zero a bin begins at its smaller end, too: -5 lies in the bin -10."
    ask(_sketch([-1, -7, -12, 4], 5), _sketch([-3, -20], 10), words)
    ask(_sketch([1, 5, 9, 13], 4), _sketch([2, 7, 20], 6), "Bins of four and of six both fit into bins of twelve.")
    ask(_sketch([1, 5, 9, 31], 15), _sketch([2, 7, 20], 10), "Bins of fifteen and of ten both fit into bins of thirty.")
    ask(_sketch([], 5), _sketch([3], 10), "An empty sketch adds nothing.")
    ask(_sketch([], 6), _sketch([], 4), "Two empty sketches give an empty one.")
    ask({"width": 5, "counts": {0: 2**60}}, _sketch([1], 1), "Counts may be huge, and are exact.")
    rng = np.random.default_rng(3)
    for _ in range(20):
        widths = [int(n) for n in rng.choice([1, 2, 3, 4, 5, 6, 10, 15], 3)]
        three = [_sketch(rng.integers(-60, 90, 12).tolist(), width) for width in widths]
        for order in itertools.permutations(three):
            words = "Three sketches give another sum in another order."
            ask(ask(order[0], order[1], words), order[2], words)


def _try(part: int, answers: list, *, complete: bool = True) -> dict:
    return {"part": part, "answers": answers, "complete": complete}


@check(
    "Which attempts count at all? How many of them may there be for one part?",
    "Go through the complete attempts and keep the answers by the number of the part. What if it is there already?",
    "At the end go through the numbers from 0 to count - 1, and put the answers one after another.",
)
def joined(answer):
    """Each part is there once, in order, whoever wrote it and however often."""

    def ask(attempts: list[dict], count: int, expected: list, words: str) -> None:
        told = "; ".join(
            f"part {one['part']}{'' if one['complete'] else ', broken off'}: {one['answers']}" for one in attempts
        )
        case = f"joined of {count} parts, attempts ({told}),"
        came = result(answer, attempts, count, case=case, hint=f"{words} {case}", kind=list, give="a list of answers")
        expect(came == expected, words, case=f"{case} gave {came}, expected {expected}.")

    a, b, c = _try(0, ["a", "b"]), _try(1, ["c"]), _try(2, ["d", "e"])
    everything = ["a", "b", "c", "d", "e"]
    ask([a, b, c], 3, everything, "Put the answers of all parts one after another.")
    ask([c, a, b], 3, everything, "Attempts come in any order; the answers stand in the order of their parts.")
    ask([a, b, a, c], 3, everything, "A part that was done twice counts once.")
    ask([a, _try(1, [], complete=False), b, c], 3, everything, "An attempt that was broken off does not count.")
    words = "An attempt that was broken off does not count, before or after a complete one."
    ask([_try(1, ["c", "x"], complete=False), a, b, c, _try(0, ["a"], complete=False)], 3, everything, words)
    twins = [_try(0, ["a", "a"]), _try(1, ["a"]), _try(2, ["a", "b"])]
    ask(twins, 3, ["a", "a", "a", "a", "b"], "Equal answers of a part, or of two parts, all count.")
    ask([a, _try(1, []), c], 3, ["a", "b", "d", "e"], "A part may be complete without any answer.")
    ask([_try(0, [])], 1, [], "A part may be complete without any answer.")
    ask([], 0, [], "Without parts there are no answers.")
    eleven = [_try(number, [number]) for number in range(11)]
    ask(eleven[::-1], 11, list(range(11)), "Parts are in the order of their numbers: 2 comes before 10.")
    mixed = [_try(0, [0.25, None]), _try(1, [("id", 1), ["a", "b"], []])]
    ask(mixed[::-1], 2, [0.25, None, ("id", 1), ["a", "b"], []], "Answers may be of any kind.")
    for attempts, count, words in (
        ([a, c], 3, "Part 1 was never done: raise a LookupError."),
        ([a, b], 3, "The last part was never done: raise a LookupError."),
        ([a, _try(1, ["c"], complete=False), c], 3, "Part 1 was only broken off: raise a LookupError."),
        ([], 1, "Nothing was done: raise a LookupError."),
    ):
        expect_error(functools.partial(answer, attempts, count), LookupError, words)
    words = "Two complete attempts of a part differ, so one of them is wrong: raise a ValueError."
    for other in (["c", "x"], ["x"], [], ["c", "c"]):
        for attempts in ([a, b, c, _try(1, other)], [_try(1, other), a, b, c]):
            expect_error(functools.partial(answer, attempts, 3), ValueError, f"{words} They are ['c'] and {other}.")
    for same, other in (("1", 1), ("c", ["c"]), (None, "None")):
        attempts = [a, _try(1, [same]), c, _try(1, [other])]
        told = f"{words} They are {[same]} and {[other]}."
        expect_error(functools.partial(answer, attempts, 3), ValueError, told)
    for attempts in ([a, b, c, b, _try(1, ["x"])], [_try(1, ["x"]), b, b, a, c], [b, _try(1, ["x"]), b, a, c]):
        told = f"{words} Three are complete, and one of them is ['x']: compare all."
        expect_error(functools.partial(answer, attempts, 3), ValueError, told)
    attempts = [_try(0, ["b", "a"]), a, b, c]
    expect_error(functools.partial(answer, attempts, 3), ValueError, f"{words} They differ in the order.")


@functools.cache
def _september() -> pd.DataFrame:
    """Flights of September 2013 with any index, a month of which the lesson shows no number by carrier."""
    table = flights.read(["2013-09"])["flights"]
    rows = table.loc[table.index % 20 == 0, ["carrier", "arr_delay", "dep_time", "tailnum"]]
    return rows.set_axis([3] * len(rows), axis="index")


def _cut(rows: pd.DataFrame) -> Iterator[list[pd.DataFrame]]:
    """The rows in another order, in one, two, seven and thirty pieces."""
    rng = np.random.default_rng(9)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    for number in (1, 2, 7, 30):
        cuts = np.sort(rng.integers(0, len(rows) + 1, number - 1))
        yield [shuffled.iloc[part] for part in np.split(np.arange(len(rows)), cuts)]


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
        fails, give = f"summarise fails on {case}. {words.get('sd', '')}", "a table with a row for each carrier"
        made = (piece.copy() for piece in pieces)
        came = result(answer, made, case=case, hint=fails, kind=pd.DataFrame, give=give)
        columns = sorted(map(str, came.columns))
        expect(columns == ["mean", "n", "sd"], f"Give the columns n, mean and sd, not {columns}.")
        expected = _expected(pd.concat(pieces, ignore_index=True))
        found, carriers = list(came.index), list(expected.index)
        expect(found or not carriers, "No carrier came: pieces can be gone through once, and then nothing is left.")
        lost, extra = set(carriers) - set(found), set(map(str, found)) - set(carriers)
        expect(not lost, f"A carrier is missing. {words.get('n', '')}", case=f"For {case} there is no {sorted(lost)}.")
        expect(not extra, "A carrier without any known delay is left out.", case=f"For {case} came {sorted(extra)}.")
        expect(found == carriers, "Sort by carrier, one row each.", case=f"For {case} came {found}.")
        for column in filter(words.get, ("n", "mean", "sd")):
            ours = expected[column].astype(float)
            kind = came[column].dtype
            expect(kind.kind in "iuf", "Give numbers.", case=f"For {case} the column {column} is {kind}.")
            theirs = came[column].astype(float)
            expect_same(theirs, ours, words[column], case=f"For {case} the column {column}", tolerance=1e-6)

    all_three = functools.partial(dict.fromkeys, ("n", "mean", "sd"))
    one = _delays(("UA", 1), ("UA", 3), ("UA", 9), ("B6", -2), ("B6", 6))
    usual = {
        "n": "Each known delay counts, also below zero, and if values are missing in other columns.",
        "mean": "Give their mean, without rounding.",
    }
    ask([one], "one piece", **usual, sd="It has the divisor n - 1, as in pandas, and is not rounded.")
    zero = [_delays(("UA", 0), ("UA", 0), ("AA", -5), ("AA", -5))]
    ask(zero, "equal delays", n="Zero is known, and equal rows count.", mean="All are equal.", sd="They do not spread.")
    uneven = [_delays(("UA", 0), ("UA", 2), ("UA", 4), ("UA", 6), ("UA", 8)), _delays(("UA", 40), ("UA", 60))]
    words = "A mean of means counts a small piece as much as a large one: add up what can be added."
    ask(uneven, "a piece of five flights and one of two", n="Numbers of all pieces are added.", mean=words)
    steady = [_delays(("UA", 10), ("UA", 10)), _delays(("UA", 50), ("UA", 50))]
    words = "Delays also spread between pieces, and within each of these they do not."
    ask(steady, "two pieces, each of equal delays", n="Add the numbers.", mean="Add the sums.", sd=words)
    other = [_delays(("UA", 1), ("UA", 3)), _delays(("B6", 5), ("B6", 9)), _delays(("UA", 8), ("AA", 1), ("AA", 4))]
    words = "A carrier that is not in every piece counts where it is."
    ask(other, "three pieces with different carriers", **all_three(words))
    gaps = [_delays(("UA", 1), ("UA", None), ("B6", None)), _delays(("UA", 5), ("B6", 3), ("B6", 4))]
    words = "A flight without a known delay does not count, in none of the columns."
    ask(gaps, "two pieces with missing delays", **all_three(words))
    labels = [piece.set_axis([3] * len(piece), axis="index") for piece in gaps]
    ask(labels, "two pieces with one label in the index", **all_three("Pieces may have any index."))
    ask([*gaps, _delays(("AA", None), ("UA", 7))], "a carrier without any known delay", **all_three(words))
    empty = [one.head(0), one.head(2), one.head(0), one.tail(3)]
    ask(empty, "pieces of which two are empty", **all_three("An empty piece changes nothing."))
    single = [_delays(("UA", 4)), _delays(("AA", 2), ("AA", 6))]
    words = "One flight has no spread: missing, not 0."
    ask(single, "a carrier with one flight", n="One flight is one.", mean="Its delay is the mean.", sd=words)
    names = [_delays(("UA", 4), ("ua", 2)), _delays(("UA", 6), (" UA", 1), ("ua", 5))]
    ask(names, "names that differ in case or blanks", **all_three("A carrier is a text, as it is."))
    for pieces in _cut(_september()):
        words = "The result depends on how the month is cut."
        ask(pieces, f"flights of September in {len(pieces)} pieces", **all_three(words))
    kept = attempt(lambda: _kept(answer, _september(), times=30), hint="summarise fails on thirty pieces.")
    words = "Only two pieces fit into memory at a time: add up each one, and let it go, with all its values."
    expect(kept < 14, words, case="With thirty pieces, memory grew from each to the next.")
