"""The column that names a row."""

from collections.abc import Sequence

import pandas as pd

from mlops_course.starter import columns, reading

from .finding import Finding


def _judge_id(rows: pd.DataFrame, given: str | None, *, others: Sequence[str]) -> tuple[str | None, Finding]:
    """Which column names the rows: the given one, or the first of `others` that can and looks so, or none."""
    if given is not None:
        twice, absent = rows[given][rows[given].duplicated(keep=False)], _absent(rows[given])
        if len(twice) or absent:
            shared = f"{len(twice):,} rows share one, such as {columns.shown(twice)}"
            what = shared if len(twice) else "some are missing"
            raise ValueError(
                f"expected a name of its own for each row in {given!r}, got: {what}; leave --id out, and each row is "
                "named by its content"
            )
        return given, Finding(given, f"{len(rows):,} distinct values", "name of the row; not learned from", "--id")
    for column in others:
        values = rows[column]
        if columns.names_rows(values, column) and values.is_unique and not _absent(values):
            seen = f"another value in each row, such as {columns.shown(values, 2)}"
            why = "an identifier tells rows apart and nothing about the next one"
            return column, Finding(column, seen, "name of the row; not learned from", why)
    seen, decided = "no column that names each row", "named by a digest of their content"
    return None, Finding("(rows)", seen, decided, "a label finds its prediction by that name")


def _absent(values: pd.Series) -> bool:
    text = reading.as_text(values)
    return bool(text.isna().any() or text.str.lower().isin(reading.MISSING_WORDS).any())
