"""A case with faults in its feed, put there on purpose, to see what monitoring, gate and retraining make of them.

    with_faults    a case like another one, whose rows are corrupted as a broken feed would corrupt them

Everything that takes a case takes such a one, too, and does with it what it does in earnest. The results are kept apart
from those of the case itself, because its version says which faults it has.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pandas as pd

from mlops_course import design
from mlops_course.operations.monitoring import faults
from mlops_course.system.pipeline.dependencies import code_version

__all__ = ["with_faults"]

SEED = 0  # of which rows a fault takes


def with_faults(case: ModuleType, injected: Sequence[Mapping[str, Any]]) -> ModuleType:
    """A case like `case`, with faults in the rows that it builds, as plain values of `faults.Fault`.

    Returns the case itself if there are none. The registry is that of the case, as the name is the same.
    """
    if not injected:
        return case
    specification = design.load_specification(case.SPECIFICATION)
    columns = {"time": specification.timing.prediction_time, "label_time": specification.timing.label_time}

    def build(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
        return faults.inject(case.build(tables), injected, label=specification.target.column, seed=SEED, **columns)

    broken = ModuleType(case.__name__, case.__doc__)
    vars(broken).update(vars(case), build=build, made_with=([*map(dict, injected)], SEED, code_version(faults)))
    return broken
