"""Names of columns in the project."""

from collections.abc import Sequence
from typing import Any

RESERVED = {  # columns that are added, here or by the stages
    *("id", "batch", "prediction_time", "label_time", "probability", "decision", "model_version", "reason"),
    *("row_id", "made_up_time"),
}


def _own_name(column: str, others: Sequence[str]) -> str:
    """The name of a column in the project: as in the file, unless the course's frames use that name for their own."""
    name = column.strip() or "unnamed"
    while name in RESERVED or (name != column and name in others):
        name += "_"
    return name


def _sourced(how: dict[str, Any], column: str, name: str) -> dict[str, Any]:
    return how if name == column else {**how, "source": column}
