"""The column that names a row."""

import pandas as pd

from mlops_course.starter import columns, reading

from .draft import Draft


def _judge_id(draft: Draft) -> None:
    """Decide which column names the rows: the chosen one, or the first that can and looks so, or none."""
    rows, given = draft.rows, draft.choices.id
    if given is not None:
        twice = rows[given][rows[given].duplicated(keep=False)]
        if len(twice) or _lacks_some(rows[given]):
            shared = f"{len(twice):,} rows share one, such as {columns.shown(twice)}"
            raise ValueError(
                f"expected a name of its own for each row in {given!r}, got: {shared if len(twice) else 'some missing'}"
                "; leave --id out, and each row is named by its content"
            )
        draft.plan["id"] = given
        draft.say(given, f"{len(rows):,} distinct values", "name of the row; not learned from", "--id")
        return
    for column in rows.columns.drop([name for name in (draft.choices.target, draft.choices.time) if name]):
        values = rows[column]
        if columns.names_rows(values, column) and values.is_unique and not _lacks_some(values):
            draft.plan["id"] = column
            seen = f"another value in each row, such as {columns.shown(values, 2)}"
            why = "an identifier tells rows apart and nothing about the next one"
            draft.say(column, seen, "name of the row; not learned from", why)
            return
    seen, decided = "no column that names each row", "named by a digest of their content"
    draft.say("(rows)", seen, decided, "a label finds its prediction by that name")


def _lacks_some(values: pd.Series) -> bool:
    text = reading.as_text(values)
    return bool(text.isna().any() or text.str.lower().isin(reading.MISSING_WORDS).any())
