"""What is said of a table: a line a decision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of what is told to the user: a column (or "(rows)", "(file)"), what was seen, decided, and why."""

    column: str
    seen: str
    decided: str
    why: str
