"""Design: what the system is for, written down as data that later stages read their thresholds from.

Specification  `parse_specification` `load_specification` → `Specification`, or `SpecificationError` naming each field
Canvas         `canvas` renders a specification as the ten boxes of the ML canvas
Priorities     `rank_use_cases` by value, feasibility and risk, with the uncertainty of each
Reliability    `error_budget`: how many failures an objective allows, and how many are left
Money          `operating_cost` of build and run, `break_even_volume`

A specification that is not fit to build from is refused with one line a defect:

>>> try:
...     parse_specification("nmae: rebooking desk")
... except SpecificationError as error:
...     print(error.defects[-1])
nmae: is not a known field; expected 'name'; got 'nmae'
>>> error_budget(0.99, total=1000, failed=4)
ErrorBudget(allowed=10.0, spent=4, left=6.0, share_left=0.6)
"""

from .canvas import canvas
from .economics import ErrorBudget, break_even_volume, error_budget, operating_cost, rank_use_cases
from .parsing import SpecificationError, load_specification, parse_specification
from .specification import Specification

__all__ = [
    "ErrorBudget",
    "Specification",
    "SpecificationError",
    "break_even_volume",
    "canvas",
    "error_budget",
    "load_specification",
    "operating_cost",
    "parse_specification",
    "rank_use_cases",
]
