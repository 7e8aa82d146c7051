"""The laws that many checks share: what an answer gives, which error it raises, which items it names.

>>> result(sorted, [2, 1], case="sorted([2, 1])", kind=set, give="a set of numbers")
Traceback (most recent call last):
...
mlops_course.course.checks.answers.Rejected: Give a set of numbers; a list came. sorted([2, 1])
"""

import builtins
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import numpy as np

from mlops_course.course.checks.answers import Nothing, Rejected, YourTurn
from mlops_course.course.checks.comparison import expect

TRUTH = bool | np.bool_  # what a condition may give


def attempt(call: Callable[[], Any], *, hint: str) -> Any:
    """Return what `call` returns. If it fails, raise Rejected with the hint and the error; YourTurn goes through."""
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


def result(
    answer: Callable, *arguments: Any, case: str, hint: str = "", kind: Any = object, give: str = "", **named: Any
) -> Any:
    """Return what an answer gives for these arguments. Raises Rejected if it fails, or gives another kind of thing.

    `hint` stands before what went wrong; `give` says in words which kind is asked for, such as "a list of days".
    """
    came = attempt(lambda: answer(*arguments, **named), hint=hint or f"It fails: {case.rstrip('.')}.")
    expect(isinstance(came, kind), f"Give {give}; a {type(came).__name__} came.", case=case)
    return came


def expect_items(came: list, expected: list, words: str, *, case: str, order: str = "") -> None:
    """Go on if a list is the expected one. `order` is said instead of the words if only the order is wrong."""
    told = f"{case} gave {came}, expected {expected}."
    same = sorted(map(str, came)) == sorted(map(str, expected))
    expect(came == expected, order if same and order else words, case=told)


def expect_error(call: Callable[[], object], kind: type, words: str, *, names: str = "") -> None:
    """Go on if a call raises an error of this kind whose text holds `names`."""
    try:
        error = raised(call)
    except Nothing:  # an error was asked for, and not a value
        error = None
    came = f"It raised {error!r}." if error else "It raised nothing."
    expect(isinstance(error, kind) and names in str(error), words, case=came)


def expect_fit(answer: Callable, fit: Iterable[dict], *, what: str) -> None:
    """Go on if an answer finds nothing wrong with dictionaries that are fit: it gives an empty set."""
    for one in fit:
        case, fails = f"It was {one}.", f"It fails on a {what}."
        found = result(answer, one, case=case, hint=fails, kind=set | frozenset, give="a set of names")
        shown = "; ".join(f"{name} is {one.get(name)!r}" for name in sorted(found, key=str))
        expect(not found, f"A {what} was turned down for {sorted(found, key=str)}.", case=f"Here {shown}.")


def expect_unfit(
    answer: Callable, fit: Mapping[str, Any], unfit: Iterable[tuple[str, Any, str]], *, needed: set[str], what: str
) -> None:
    """Go on if an answer gives the set of fields that are unfit: of a fit dictionary none, of an empty one all needed.

    `unfit` holds a field, a value that it must not have, and the words for an answer that lets it through.
    """
    before = ""
    for field, value, words in unfit:
        case = f"Here {field} is {value!r}."
        found = result(answer, {**fit, field: value}, case=case, hint=f"Nothing in a {what} may make it crash. {case}")
        expect(field in found, words, case=case)
        stays = " Does something stay from the call before?" if before in found - {field} else ""
        expect(found == {field}, f"Only {field} is wrong, and {sorted(found, key=str)} came.{stays}", case=case)
        before = field
    for field in needed:
        rest = {name: value for name, value in fit.items() if name != field}
        found = result(answer, rest, case="", hint=f"It must not crash on a {what} without {field}.")
        expect(found == {field}, f"A {what} without {field} lacks one thing.", case=f"{sorted(found)} came.")
    found = result(answer, {}, case="", hint=f"It must not crash on an empty {what}.")
    expect(found == needed, f"An empty {what} lacks all {len(needed)}.", case=f"{sorted(found)} came.")


def calls_hash(answer: Callable, *arguments: Any) -> bool:
    """Whether the learner's own code calls the built-in `hash`, which gives other numbers in another process."""
    home, real, calls = getattr(inspect.unwrap(answer), "__code__", None), hash, []

    def spy(value: object) -> int:
        if home is not None and sys._getframe(1).f_code.co_filename == home.co_filename:
            calls.append(value)
        return real(value)

    with mock.patch.object(builtins, "hash", spy):
        answer(*arguments)
    return bool(calls)
