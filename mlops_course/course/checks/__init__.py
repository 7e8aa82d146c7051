"""What the check cells of the exercises are made of; the checks of a lesson are a module here, such as `drift`.

A check takes the learner's answer and calls it on rows that the learner has not seen. A right answer is told what held.
A wrong one is told what went wrong and where to look, never the answer.

    exercise      makes a check from a function, shows hints, lists the gaps of a lesson
    answers       calls an answer so that a crash, a loop without end or a missing return ends in a sentence
    examples      runs the example of the page with the answer
    comparison    compares values, and tells a wrong form from wrong values
    cases         laws that many checks share: a result, an error, a list of items
    leaks         feature code with leaks and without
    surroundings  another day, process and computer, for answers that must not depend on them
    suspects      sound and broken models, for tests of models
    overview      how far a learner is, and a lesson begun again
    derivation    derives an exercise from its solution
    marking       runs a learner's notebook, and says how each check ended

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

from mlops_course.course.checks.answers import Rejected, YourTurn
from mlops_course.course.checks.comparison import expect, expect_same
from mlops_course.course.checks.exercise import check, hint
from mlops_course.course.checks.overview import summary

__all__ = ["Rejected", "YourTurn", "check", "expect", "expect_same", "hint", "summary"]
