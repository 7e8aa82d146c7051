"""Call a learner's answer so that every way to fail ends in a sentence that helps.

A crash is explained, a loop without end and memory without end are stopped; a result that was printed instead of
returned, and an argument that came back changed, are noticed.

>>> watched(lambda rows: print(len(rows)), name="count")([1, 2])
Traceback (most recent call last):
...
mlops_course.course.checks.answers.Rejected: count printed its result and returned nothing: end it with `return`.
"""

import contextlib
import copy
import ctypes
import functools
import io
import reprlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import psutil

__all__ = ["Nothing", "Rejected", "YourTurn", "limits", "watched"]

SECONDS = 10.0  # of processor time that one check may take; ours take less than two
PATIENCE = 30  # times as long on the clock, for an answer that sleeps; a busy machine makes a right one wait as well
GROWTH = 1_500_000_000  # bytes of memory that one check may take; ours stay far below
TICK = 0.05  # seconds between two looks at time and memory

MEANINGS = {  # part of an error's text: what it means to somebody who sees it for the first time
    "object is not subscriptable": "something in brackets is not a table, list or dictionary: look at its type.",
    "'NoneType' object": "something is None: a call before it returned nothing, such as `list.sort` or a plot.",
    "truth value of": "a whole column was asked one question: compare with `&`, `|` and `~`, each side in parentheses.",
    "positional argument": "the function was called with other arguments than it takes: keep the line with `def`.",
    "unexpected keyword argument": "an argument has another name than the task says: keep the line with `def`.",
    "is not defined": "that name exists in no cell above: import it, or set it inside the function.",
    "not in index": "there is no column or row of that name: look at what came in.",
    "codec can't decode": "these bytes are no text in that encoding: read bytes, or name the right encoding.",
    "Boolean index has wrong length": "True and False do not fit the rows: were two things joined by their index?",
    "division by zero": "something was divided by nothing: which case is empty, and what is right there?",
    "maximum recursion depth": "the function calls itself without end: which case ends it?",
    "No module named": "that module is not part of the course: its modules are in README and CONTRIBUTING.",
}
KINDS = {  # where the text says nothing
    "KeyError": "there is no such name among the columns or keys: look at what came in.",
    "IndexError": "a position lies beyond the end: are there fewer rows, or was a label taken for a position?",
}


class YourTurn(NotImplementedError):  # noqa: N818 - learners read the name
    """Stands in a gap until the learner fills it; a notebook shows its message without a stack of calls."""

    def __str__(self) -> str:
        return "Your turn: replace this line by your answer, then run its cell and the check below it."

    def _render_traceback_(self) -> list[str]:  # IPython shows these lines instead of the traceback
        return [str(self)]


class Rejected(AssertionError):  # noqa: N818 - learners read the name
    """An answer that breaks a law: the message says which, and where to look."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Nothing(Rejected):
    """An answer that returned None."""


class _Stopped(BaseException):
    """Raised inside an answer that has to end; no `except Exception` of the learner's holds it."""


def watched(answer: Callable, *, name: str, nothing: bool = False) -> Callable:
    """Wrap an answer so that it gets copies, returns something and leaves its arguments alone, or raises Rejected.

    `nothing` lets it return None. YourTurn goes through.
    """

    @functools.wraps(answer, updated=())
    def call(*arguments, **named):
        handed, printed = _copied([arguments, named]), io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                result = answer(*handed[0], **handed[1])
        except (Rejected, YourTurn):
            raise
        except Exception as error:
            raise Rejected(_explained(error, answer, name=name, arguments=(*arguments, *named.values()))) from error
        if result is None and not nothing:
            if printed.getvalue().strip():
                raise Nothing(f"{name} printed its result and returned nothing: end it with `return`.")
            raise Nothing(f"{name} returned nothing, or None: end each way through it with `return` and a value.")
        if not _same([arguments, named], handed):
            raise Rejected(f"What {name} was given came back changed: work on a copy, somebody else still needs it.")
        return result

    return call


@contextlib.contextmanager
def limits(name: str) -> Iterator[None]:
    """End what this thread does after SECONDS of processor time, or GROWTH bytes of memory more. Raises Rejected.

    A call of compiled code is not interrupted before it returns.
    """
    thread, process = threading.get_ident(), psutil.Process()
    clock, start, memory = time.process_time(), time.monotonic(), process.memory_info().rss
    over, lock, why = threading.Event(), threading.Lock(), ["was stopped"]

    def inject(exception: type | None) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception and ctypes.py_object(exception))

    def watch() -> None:
        while not over.wait(TICK):
            if time.process_time() - clock > SECONDS or time.monotonic() - start > PATIENCE * SECONDS:
                why[0] = f"was still busy after {SECONDS:g} seconds: is there a loop that never ends?"
            elif process.memory_info().rss - memory > GROWTH:
                why[0] = f"took {GROWTH / 1e9:g} GB of memory: is there something that grows with each turn of a loop?"
            else:
                continue
            with lock:
                if not over.is_set():
                    inject(_Stopped)

    def end() -> None:
        with lock:
            over.set()
            inject(None)

    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            end()
    except _Stopped:
        end()
        raise Rejected(f"{name} {why[0]}") from None


def _explained(error: Exception, answer: Callable, *, name: str, arguments: tuple) -> str:
    """What went wrong, in which line of the answer, called with what, and what such an error means."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" at `{own[-1]}`" if own and own[-1] else ""
    meaning = next((says for part, says in MEANINGS.items() if part in text), KINDS.get(type(error).__name__, ""))
    said = f"{name} stopped with {text}{where}, called with {', '.join(map(brief, arguments)) or 'nothing'}."
    return f"{said} It means: {meaning}" if meaning else said


def brief(value: object) -> str:
    """A value in a few words, for a message."""
    if isinstance(value, pd.DataFrame):
        return f"a table of {len(value)} rows and the columns {reprlib.repr(list(value.columns))}"
    if isinstance(value, pd.Series):
        return f"a series {reprlib.repr(value.tolist())}"
    if isinstance(value, np.ndarray):
        return f"an array {reprlib.repr(value.tolist())}"
    return reprlib.repr(value)


def _copied(value: object) -> object:
    """A copy of what an answer could change by mistake; anything else stays what it is."""
    if isinstance(value, pd.DataFrame | pd.Series):
        return value.copy()
    if isinstance(value, np.ndarray | set):
        return copy.copy(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value


def _same(before: object, after: object) -> bool:
    if isinstance(after, pd.DataFrame | pd.Series):
        return before.equals(after) and before.index.equals(after.index)
    if isinstance(after, np.ndarray):
        return before.shape == after.shape and pd.Series(before.ravel()).equals(pd.Series(after.ravel()))
    if isinstance(after, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(after, dict):
        return list(before) == list(after) and all(_same(before[key], after[key]) for key in after)
    if isinstance(after, set):
        return before == after
    return before is after or (pd.api.types.is_scalar(after) and (before == after or before != before))
