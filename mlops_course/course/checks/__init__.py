"""What the check cells of the exercises are made of; the checks of a lesson are a module here, such as `monitoring`.

A check takes the learner's answer, calls it on rows that the learner has not seen, and is silent about how it does so:
a right answer is told what held, a wrong one is told what went wrong and where to look, never the answer.

    answers     calls an answer so that a crash, a loop without end or a missing return ends in a sentence
    gaps        reads gaps from a notebook, and derives an exercise from its solution

>>> @check("What does a row count?", "`sum` adds up.")
... def total(answer):
...     "Every row counts once."
...     expect_same(answer([1, 2]), 3, "Some rows are missing from the total.", case="total([1, 2])")
>>> total(sum)
total: correct. Every row counts once.
>>> total(max)
Traceback (most recent call last):
...
mlops_course.course.checks.answers.Rejected: Some rows are missing from the total. total([1, 2]) gave 2, expected 3.
"""

import functools
import importlib
import math
import numbers
import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from mlops_course.course import progress
from mlops_course.course.checks.answers import Rejected, YourTurn, brief, limits, watched

__all__ = ["Rejected", "YourTurn", "attempt", "check", "expect", "expect_same", "hint", "raised", "summary"]

T = TypeVar("T")
LESSON = re.compile(r"\.course\.checks\.(\w+)$")

_shown: dict[str, int] = {}  # gap -> hints shown in this session


def expect(holds: bool, words: str, *, case: str = "") -> None:
    """Go on if the law holds. Raises Rejected with the words, and the smallest case that shows it, if not."""
    if not holds:
        raise Rejected(f"{words} {case}".rstrip())


def expect_same(came: object, expected: object, words: str, *, case: str = "this", tolerance: float = 1e-9) -> None:
    """Go on if a value is what it should be: number, text, array, series, table, or list or dictionary of these.

    `case` is how the answer was called. A wrong form (kind, shape, order, names) is told apart from wrong values; the
    words are for these. Numbers may differ by the tolerance, relative where they are over 1.
    """
    form = _wrong_form(came, expected, tolerance=tolerance)
    if form:
        raise Rejected(f"{case} gave {form}.")
    if not _close(came, expected, tolerance):
        raise Rejected(f"{words} {case} gave {brief(_plain(came))}, expected {brief(_plain(expected))}.")


def attempt(call: Callable[[], T], *, hint: str) -> T:
    """What `call` returns. If it fails, raises Rejected with the hint and what went wrong; YourTurn goes through."""
    try:
        return call()
    except YourTurn:
        raise
    except Rejected as error:
        raise Rejected(f"{hint} {error}") from error.__cause__
    except Exception as error:
        raise Rejected(f"{hint} {type(error).__name__}: {error}") from error


def raised(call: Callable[[], object]) -> BaseException | None:
    """Return the error that an answer raised by itself, or None. An answer that was stopped is still rejected."""
    try:
        call()
    except Rejected as error:
        if error.__cause__ is None:  # not by itself: it was stopped
            raise
        return error.__cause__
    return None


def check(*hints: str, nothing: bool = False, in_place: bool = False) -> Callable[[Callable], Callable]:
    """Make a check cell's function from one that raises Rejected: a right answer is told the docstring's first line.

    The hints are shown one by one when a learner asks for them. `nothing` lets the answer return None, `in_place` lets
    it change its arguments.
    """
    if len(hints) < 2 or not all(isinstance(text, str) for text in hints):
        raise ValueError("a check needs two hints at least, from vague to plain: @check('...', '...')")

    def made(laws: Callable[[Callable], None]) -> Callable[[Callable], None]:
        if not laws.__doc__:
            raise ValueError(f"check {laws.__name__} needs a docstring: its first line is what a right answer is told")
        name, gap = laws.__name__, _gap(laws)

        @functools.wraps(laws)
        def checked(answer: Callable) -> None:
            try:
                if not callable(answer):
                    came = type(answer).__name__
                    raise Rejected(f"{name} checks the function itself: pass it without calling it ({came} came).")
                with limits(name):
                    laws(watched(answer, name=name, nothing=nothing, in_place=in_place))
            except Rejected as error:
                progress.record(gap, "failed", str(error))
                raise
            progress.record(gap, "passed")
            print(f"{name}: correct. {laws.__doc__.strip().splitlines()[0]}")

        checked.gap, checked.hints = gap, hints
        return checked

    return made


def hint(gap: str) -> None:
    """Print the next hint of a gap, such as "data_engineering.version_of"; after the last one, begin again."""
    lesson, _, name = gap.partition(".")
    hints = getattr(getattr(_module(lesson), name, None), "hints", None)
    if hints is None:
        known = ", ".join(progress.gaps_of(lesson)) if lesson in progress.lessons() else ", ".join(progress.lessons())
        raise ValueError(f"expected a gap such as 'data_engineering.version_of', got {gap!r}; there are {known}")
    number = _shown.get(gap, 0) % len(hints)
    _shown[gap] = number + 1
    progress.record(gap, "hint")
    more = "no more after this" if number + 1 == len(hints) else "run again for the next"
    print(f"Hint {number + 1} of {len(hints)} ({more}): {hints[number]}")


def summary(lesson: str) -> None:
    """Print which gaps of a lesson are done."""
    print(progress.table(lesson))


def _module(lesson: str) -> object:
    try:
        return importlib.import_module(f"{__name__}.{lesson}")
    except ModuleNotFoundError:
        return None


def _gap(laws: Callable) -> str:
    """Lesson and name, such as 03.version_of; the name alone for a check that is in no lesson's module."""
    lesson = LESSON.search(laws.__module__ or "")
    return f"{lesson[1]}.{laws.__name__}" if lesson else laws.__name__


# Form and values ------------------------------------------------------------------------------------------------------


def _wrong_form(came: object, expected: object, *, tolerance: float) -> str:
    """What is wrong with a value apart from its numbers, in words; empty if nothing is."""
    if isinstance(expected, dict):
        return _wrong_names(came, expected, dict, tolerance=tolerance)
    if isinstance(expected, pd.DataFrame):
        return _wrong_names(came, expected, pd.DataFrame, tolerance=tolerance)
    if isinstance(expected, bool | np.bool_ | str | numbers.Number) or expected is None:
        return _wrong_scalar(came, expected)
    if isinstance(expected, set | frozenset):
        return "" if isinstance(came, set | frozenset) else f"{_a(came)} where a set was asked for"
    if isinstance(expected, pd.Series):
        if not isinstance(came, pd.Series):
            return f"{_a(came)} where a series was asked for"
        if not came.index.equals(expected.index):
            same = len(came) == len(expected) and came.index.sort_values().equals(expected.index.sort_values())
            return "the right rows in another order" if same else "a series with another index than asked for"
    if isinstance(expected, list | tuple | np.ndarray | pd.Series | pd.Index):
        return _wrong_shape(came, expected, tolerance=tolerance)
    return "" if isinstance(came, type(expected)) else f"{_a(came)} where {_a(expected)} was asked for"


def _wrong_scalar(came: object, expected: object) -> str:
    kinds = {"text": str, "truth value": bool | np.bool_, "number": numbers.Number}
    if expected is None:
        return "" if came is None else f"{_a(came)} where None was asked for"
    for kind, types in kinds.items():
        if isinstance(expected, types):
            fits = isinstance(came, types) and not (kind == "number" and isinstance(came, bool | np.bool_))
            return "" if fits else f"{_a(came)} where one {kind} was asked for"
    return ""


def _wrong_names(came: object, expected: object, kind: type, *, tolerance: float) -> str:
    """For a dictionary or a table: wrong kind, wrong names, or a wrong form below one of them."""
    what = "table" if kind is pd.DataFrame else "dictionary"
    if not isinstance(came, kind):
        return f"{_a(came)} where a {what} was asked for"
    if missing := [name for name in expected if name not in came]:
        return f"a {what} without {brief(missing)}"
    if extra := [name for name in came if name not in expected]:
        return f"a {what} with {brief(extra)}, which was not asked for"
    return next(
        (
            f"{form} under {name!r}"
            for name in expected
            if (form := _wrong_form(came[name], expected[name], tolerance=tolerance))
        ),
        "",
    )


def _wrong_shape(came: object, expected: object, *, tolerance: float) -> str:
    if not isinstance(came, list | tuple | np.ndarray | pd.Series | pd.Index):
        return f"{_a(came)} where {_a(expected)} was asked for"
    ours, theirs = np.asarray(expected), np.asarray(came)
    if ours.shape != theirs.shape:
        shown = f"shape {theirs.shape} where shape {ours.shape} was asked for"
        right = ours.size == theirs.size and _close(theirs.ravel(), ours.ravel(), tolerance)
        return f"the right values in {shown}" if right else shown
    if ours.ndim == 1 and len(ours) > 1 and not _close(theirs, ours, tolerance):
        if ours.dtype == bool:  # of truth values, another order may be chance
            return ""
        with_order = sorted(map(str, theirs.tolist())) == sorted(map(str, ours.tolist()))
        return "the right values in another order" if with_order else ""
    return ""


def _close(came: object, expected: object, tolerance: float) -> bool:
    """Whether two values of one form agree; a missing value equals a missing value."""
    if isinstance(expected, dict | pd.DataFrame):
        return all(_close(came[name], expected[name], tolerance) for name in expected)
    if isinstance(expected, list | tuple | np.ndarray | pd.Series | pd.Index):
        return len(came) == len(expected) and all(
            _close(a, b, tolerance) for a, b in zip(_plain(came), _plain(expected), strict=True)
        )
    if isinstance(expected, numbers.Number) and isinstance(came, numbers.Number):
        if expected != expected or came != came:  # NaN
            return expected != expected and came != came
        return math.isclose(came, expected, rel_tol=tolerance, abs_tol=tolerance)
    if pd.api.types.is_scalar(expected) and pd.isna(expected):
        return bool(pd.api.types.is_scalar(came) and pd.isna(came))
    return bool(came == expected)


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic | pd.Series | pd.Index) else value


def _a(value: object) -> str:
    names = {
        "DataFrame": "a table",
        "Series": "a series",
        "ndarray": "an array",
        "int": "a number",
        "float": "a number",
    }
    names |= {"str": "a text", "dict": "a dictionary", "bool": "a truth value", "NoneType": "nothing"}
    name = type(value).__name__
    return names.get(name, f"a {name}")
