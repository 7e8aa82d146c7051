"""A judgement in the making: what the user chose, and what has been decided and said so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

RESERVED = {  # columns that are added, here or by the stages
    *("id", "batch", "prediction_time", "label_time", "probability", "decision", "model_version", "reason"),
    *("row_id", "made_up_time"),
}


@dataclass(frozen=True)
class Choices:
    """What the user decides about a table; `time` None stands for the order of its rows.

    `positive` is the value of the target that counts as 1; `id` names the rows; `drop` are columns to leave out, `keep`
    those to use whatever is found about them; `time_format` is strptime's, for times that can be read in two ways.
    `once` reads rows once that are the same in every column. Rows with the same value of `group` stay together in a
    split where there is no time.
    """

    target: str
    time: str | None
    positive: str | None = None
    id: str | None = None
    drop: Sequence[str] = ()
    keep: Sequence[str] = ()
    time_format: str | None = None
    group: str | None = None
    once: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of what is told to the user: a column (or "(rows)", "(file)"), what was seen, decided, and why."""

    column: str
    seen: str
    decided: str
    why: str


@dataclass(eq=False)
class Draft:
    """The rows of a table, and the plan and the findings as far as they have come."""

    rows: pd.DataFrame
    choices: Choices
    findings: list[Finding]
    plan: dict[str, Any] = field(default_factory=lambda: {"id": None, "columns": {}})

    def say(self, column: str, seen: str, decided: str, why: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(column, seen, decided, why))

    def read_as(self, how: dict[str, Any], column: str) -> str:
        """Put a column into the plan, and return its name there, which is another one where frames use that name."""
        name = column.strip() or "unnamed"
        while name in RESERVED or (name != column and name in self.rows.columns):
            name += "_"
        self.plan["columns"][name] = how if name == column else {**how, "source": column}
        return name
