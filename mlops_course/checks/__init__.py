"""What the check cells of the exercises are made of; each lesson's checks are a module here, such as `lesson03`.

A check takes the learner's answer, calls it on rows that the learner has not seen, and is silent about how it does so:
a right answer is told what held, a wrong one is told what went wrong and where to look, never the answer.

>>> @check
... def total(answer):
...     "Every row counts once."
...     expect(attempt(lambda: answer([1, 2]), hint="Add the rows up.") == 3, "Some rows are missing from the total.")
>>> total(sum)
total: correct. Every row counts once.
>>> total(max)
Traceback (most recent call last):
...
mlops_course.checks.Rejected: Some rows are missing from the total.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Rejected", "YourTurn", "attempt", "check", "expect"]

T = TypeVar("T")


class YourTurn(NotImplementedError):  # noqa: N818 - learners read the name
    """Stands in a gap until the learner fills it; a notebook shows its message without a stack of calls."""

    def __str__(self) -> str:
        return "Your turn: replace this line by your answer, then run its cell and the check below it."

    def _render_traceback_(self) -> list[str]:  # IPython shows these lines instead of the traceback
        return [str(self)]


class Rejected(AssertionError):  # noqa: N818 - learners read the name
    """An answer that breaks a law: the message says which, and where to look."""

    def _render_traceback_(self) -> list[str]:
        crash = [f"{type(self.__cause__).__name__}: {self.__cause__}"] if self.__cause__ else []
        return [f"Not yet. {self}", *crash]


def expect(holds: bool, hint: str) -> None:
    """Go on if the law holds. Raises Rejected with the hint if not."""
    if not holds:
        raise Rejected(hint)


def attempt(call: Callable[[], T], *, hint: str) -> T:
    """What `call` returns. If it fails, raises Rejected with the hint, caused by the error; YourTurn goes through."""
    try:
        return call()
    except (YourTurn, Rejected):
        raise
    except Exception as error:
        raise Rejected(hint) from error


def check(laws: Callable[[Callable], None]) -> Callable[[Callable], None]:
    """Make a check cell's function from one that raises Rejected: a right answer is told the docstring's first line."""
    if not laws.__doc__:
        raise ValueError(f"check {laws.__name__} needs a docstring: its first line is what a right answer is told")

    @functools.wraps(laws)
    def checked(answer: Callable) -> None:
        if not callable(answer):
            came = type(answer).__name__
            raise Rejected(f"{laws.__name__} checks the function itself: pass it without calling it ({came} came).")
        laws(answer)
        print(f"{laws.__name__}: correct. {laws.__doc__.strip().splitlines()[0]}")

    return checked
