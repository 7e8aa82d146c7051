"""The example of the page, `>>>` in the docstring of a gap, run with the learner's answer: what it refutes is wrong.

Values are compared, not how they print. An example is skipped from where it needs a name that the notebook does not
have; so is a line whose value cannot be read, such as an error. It runs last, within the time and memory of the check.

>>> def twice(number):
...     return number + 2
>>> expect_example(twice, "twice", page=">>> twice(2)\\n4\\n>>> twice(3)\\n6")
Traceback (most recent call last):
...
mlops_course.course.checks.answers.Rejected: The page's own example refutes this: twice(3) gave 5, expected 6.
"""

import ast
import doctest
import functools
import inspect
import json
import sys
import textwrap
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from mlops_course.course.checks.answers import Rejected, brief
from mlops_course.course.checks.comparison import alike
from mlops_course.course.lessons import LESSONS, number_of

__all__ = ["expect_example", "page_of"]

SOLUTIONS = Path(__file__).parents[3] / "solutions"
PRINTED = {"nan": np.nan, "inf": np.inf, "Timestamp": pd.Timestamp}  # names that a printed value may hold
WIDTH = 120  # characters of an example that a message shows


@functools.cache
def page_of(gap: str) -> str:
    """The docstring of a gap such as "start_here.usable" as the course has it; empty if the notebooks are not here."""
    lesson, _, name = gap.partition(".")
    path = SOLUTIONS / f"{number_of(lesson)}_{lesson}.ipynb" if lesson in LESSONS else None
    if path is None or not path.exists():
        return ""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        if f" {name}(" in source and "# BEGIN SOLUTION" in source:
            made = [node for node in ast.parse(source).body if getattr(node, "name", "") == name]
            return (ast.get_docstring(made[0]) if made else None) or ""
    return ""


def expect_example(answer: Callable, name: str, *, page: str) -> None:
    """Go on if an answer gives what the example says, with the names of the notebook. Raises Rejected if not."""
    own = inspect.unwrap(answer)
    known = getattr(own, "__globals__", None) or vars(sys.modules["__main__"])
    names = {**known, name: answer}
    for example in doctest.DocTestParser().get_examples(page):
        shown, told = [], textwrap.shorten(example.source, WIDTH)
        try:
            with mock.patch.object(sys, "displayhook", shown.append), warnings.catch_warnings(action="ignore"):
                exec(compile(example.source, "<the page's example>", "single"), names)
        except NameError:
            return
        except Exception as error:
            text = str(error) if isinstance(error, Rejected) else f"{type(error).__name__}: {error}"
            raise Rejected(
                f"It fails on the page's own example, {told}{_with(example.source, known)}. {text}"
            ) from error
        came = next((value for value in shown if value is not None), None)
        try:
            expected = eval(example.want, dict(PRINTED)) if example.want else came
        except (SyntaxError, NameError):
            continue
        if not alike(came, expected):
            came = came.item() if isinstance(came, np.generic) else came
            case = f"{told} gave {brief(came)}, expected {brief(expected)}{_with(example.source, known)}."
            raise Rejected(f"The page's own example refutes this: {case}")


def _with(source: str, known: dict) -> str:
    """Which data of the notebook an example takes, as somebody may have changed it since."""
    loaded = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id in known}
    data = sorted(name for name in loaded if not (callable(known[name]) or isinstance(known[name], types.ModuleType)))
    return f", with {', '.join(data)} as the notebook has it now" if data else ""
