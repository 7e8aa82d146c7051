"""The check of a gap: what a check cell calls, its hints, and the gaps of a lesson."""

import functools
import importlib
import re
from collections.abc import Callable
from types import ModuleType

from mlops_course.course.checks.answers import Rejected, limits, watched
from mlops_course.course.checks.examples import expect_example, page_of
from mlops_course.course.lessons import LESSONS
from mlops_course.course.progress import record

__all__ = ["check", "gaps_of", "hint"]

LESSON = re.compile(r"\.course\.checks\.(\w+)$")

_shown: dict[str, int] = {}  # gap -> hints shown in this session


def check(*hints: str, nothing: bool = False, example: bool = True) -> Callable[[Callable], Callable]:
    """Turn a function that raises Rejected into a check. A right answer is told the first line of its docstring.

    The hints are shown one by one when a learner asks for them. `nothing` lets the answer return None.
    After the laws the example of the page is run, unless it is smaller than the task promises: then `example=False`.
    """
    if len(hints) < 2 or not all(isinstance(text, str) for text in hints):
        raise ValueError("a check needs two hints at least, from vague to plain: @check('...', '...')")

    def made(laws: Callable[[Callable], None]) -> Callable[[Callable], None]:
        if not laws.__doc__:
            raise ValueError(f"check {laws.__name__} needs a docstring: its first line is what a right answer is told")
        name = laws.__name__
        lesson = LESSON.search(laws.__module__ or "")
        gap = f"{lesson[1]}.{name}" if lesson else name

        @functools.wraps(laws)
        def checked(answer: Callable) -> None:
            try:
                if not callable(answer):
                    came = type(answer).__name__
                    raise Rejected(f"{name} checks the function itself: pass it without calling it ({came} came).")
                with limits(name):
                    called = watched(answer, name=name, nothing=nothing)
                    laws(called)
                    if example:
                        expect_example(called, name, page=page_of(gap) or answer.__doc__ or "")
            except Rejected as error:
                record(gap, "failed", str(error))
                raise
            record(gap, "passed")
            print(f"{name}: correct. {laws.__doc__.strip().splitlines()[0]}")

        checked.gap, checked.hints, checked.example = gap, hints, example
        return checked

    return made


def hint(gap: str) -> None:
    """Print the next hint of a gap, such as "data_engineering.version_of"; after the last one, the first again."""
    lesson, _, name = gap.partition(".")
    hints = getattr(getattr(_module(lesson), name, None), "hints", None) if lesson in LESSONS else None
    if hints is None:
        known = gaps_of(lesson) if lesson in LESSONS else LESSONS
        raise ValueError(
            f"expected a gap such as 'data_engineering.version_of', got {gap!r}; there are {', '.join(known)}"
        )
    number = _shown.get(gap, 0) % len(hints)
    _shown[gap] = number + 1
    record(gap, "hint")
    more = "no more after this" if number + 1 == len(hints) else "run again for the next"
    print(f"Hint {number + 1} of {len(hints)} ({more}): {hints[number]}")


def gaps_of(lesson: str) -> list[str]:
    """The gaps of a lesson, such as "data_engineering.version_of", in the order of its checks.

    Raises ValueError for a name that is no lesson's.
    """
    if lesson not in LESSONS:
        raise ValueError(f"expected a lesson that has exercises, got {lesson!r}; there are {', '.join(LESSONS)}")
    return [check.gap for check in vars(_module(lesson)).values() if hasattr(check, "gap")]


def _module(lesson: str) -> ModuleType:
    return importlib.import_module(f"mlops_course.course.checks.{lesson}")
