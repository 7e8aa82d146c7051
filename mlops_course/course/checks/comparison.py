"""Compare what an answer gives with what it should give, so that a wrong form is told apart from wrong values."""

import math
import numbers

import numpy as np
import pandas as pd

from mlops_course.course.checks.answers import Rejected, brief

__all__ = ["alike", "expect", "expect_same"]

SCALARS = {"text": str, "truth value": (bool, np.bool_), "number": numbers.Number}  # a truth value is a number, too
NAMES = {  # what a learner is told of a type
    "DataFrame": "a table", "Series": "a series", "ndarray": "an array", "int": "a number", "float": "a number",
    "str": "a text", "dict": "a dictionary", "bool": "a truth value", "NoneType": "nothing",
}  # fmt: skip


def expect(holds: bool, words: str, *, case: str = "") -> None:
    """Go on if the law holds. Raises Rejected with the words, and the smallest case that shows it, if not."""
    if not holds:
        raise Rejected(f"{words} {case}".rstrip())


def expect_same(came: object, expected: object, words: str, *, case: str = "this", tolerance: float = 1e-9) -> None:
    """Go on if a value is what it should be: number, text, array, series, table, or list or dictionary of these.

    `case` is how the answer was called. A wrong form (kind, shape, order, names) is told apart from wrong values; the
    words are for these. Numbers may differ by the tolerance, relative where they are over 1.
    """
    if form := _wrong_form(came, expected, tolerance=tolerance):
        raise Rejected(f"{case} gave {form}.")
    if not _close(came, expected, tolerance):
        raise Rejected(f"{words} {case} gave {brief(_plain(came))}, expected {brief(_plain(expected))}.")


def alike(came: object, expected: object) -> bool:
    """Whether two values say the same in whatever form: a list, tuple, set or array, numbers of any type.

    >>> alike(np.array([1, np.nan]), (1.0, None)), alike([1], [2])
    (True, False)
    """
    came, unordered = _plain(came), isinstance(expected, set | frozenset) or isinstance(came, set | frozenset)
    if isinstance(expected, dict):
        same = isinstance(came, dict) and set(came) == set(expected)
        return same and all(alike(came[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple | set | frozenset):
        if not isinstance(came, list | tuple | set | frozenset) or len(came) != len(expected):
            return False
        pairs = zip(*(sorted(items, key=str) if unordered else items for items in (came, expected)), strict=True)
        return all(alike(*pair) for pair in pairs)
    if not pd.api.types.is_scalar(came) or pd.isna(came):
        return bool(pd.api.types.is_scalar(came) and pd.isna(expected))
    return _close(came, expected, 1e-9)


def _wrong_form(came: object, expected: object, *, tolerance: float) -> str:
    """What is wrong with a value apart from its numbers, in words; empty if nothing is."""
    if isinstance(expected, dict | pd.DataFrame):
        return _wrong_names(came, expected, tolerance=tolerance)
    if isinstance(expected, str | bool | np.bool_ | numbers.Number):
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
    kind = next(kind for kind, types in SCALARS.items() if isinstance(expected, types))
    fits = isinstance(came, SCALARS[kind]) and not (kind == "number" and isinstance(came, bool | np.bool_))
    return "" if fits else f"{_a(came)} where one {kind} was asked for"


def _wrong_names(came: object, expected: dict | pd.DataFrame, *, tolerance: float) -> str:
    """For a dictionary or a table: wrong kind, wrong names, or a wrong form below one of them."""
    kind, what = (dict, "dictionary") if isinstance(expected, dict) else (pd.DataFrame, "table")
    if not isinstance(came, kind):
        return f"{_a(came)} where a {what} was asked for"
    if missing := [name for name in expected if name not in came]:
        return f"a {what} without {brief(missing)}"
    if extra := [name for name in came if name not in expected]:
        return f"a {what} with {brief(extra)}, which was not asked for"
    forms = {name: _wrong_form(came[name], expected[name], tolerance=tolerance) for name in expected}
    return next((f"{form} under {name!r}" for name, form in forms.items() if form), "")


def _wrong_shape(came: object, expected: object, *, tolerance: float) -> str:
    if not isinstance(came, list | tuple | np.ndarray | pd.Series | pd.Index):
        return f"{_a(came)} where {_a(expected)} was asked for"
    ours, theirs = _array(expected), _array(came)
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


def _array(values: object) -> np.ndarray:
    """The values as an array; one of objects where lists below have several lengths."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.fromiter(values, object)


def _close(came: object, expected: object, tolerance: float) -> bool:
    """Whether two values agree; a missing value equals a missing value."""
    if isinstance(expected, dict | pd.DataFrame):
        same = isinstance(came, dict | pd.DataFrame) and set(came) == set(expected)
        return same and all(_close(came[name], expected[name], tolerance) for name in expected)
    if isinstance(expected, list | tuple | np.ndarray | pd.Series | pd.Index):
        same = isinstance(came, list | tuple | np.ndarray | pd.Series | pd.Index) and len(came) == len(expected)
        return same and all(_close(a, b, tolerance) for a, b in zip(_plain(came), _plain(expected), strict=True))
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
    name = type(value).__name__
    return NAMES.get(name, f"a {name}")
