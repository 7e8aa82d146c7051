"""Which values fit a model's contract, and what the model says to them."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

TIME = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?"  # without a zone, as in the contract
TRUTH = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "True": 1.0, "False": 0.0}  # pandas writes "True" to CSV
LARGEST = 1e100  # of a number, as the service takes it: models square and add, and would overflow beyond 1e150
PROBLEM = ["row", "column", "expected", "value"]


def conform(frame: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """Return the columns that the model takes, in its order and with its types; the index stays.

    `inputs` maps a column to its type in the contract: "string", "datetime", "boolean", or a number ("double", "long",
    ...). Text that spells a number or a time (ISO 8601, no zone) is read as one. Numbers come out as floats, so that a
    missing value elsewhere in the column changes no prediction.

    Raises ValueError naming each missing column, or the first value that does not fit and its row.
    """
    _check_columns(frame, inputs)
    columns = {}
    for name, kind in inputs.items():
        columns[name], expected = _read(frame[name], kind)
        if (unread := columns[name].isna() & frame[name].notna()).any():
            row = frame.index[unread.argmax()]
            raise ValueError(f"expected {expected} in column {name!r}, got {frame[name][row]!r} in row {row}")
    return pd.DataFrame(columns, index=frame.index)


def problems(
    frame: pd.DataFrame, inputs: Mapping[str, str], *, optional: Collection[str] | None = None
) -> pd.DataFrame:
    """Return every value that does not fit: row (by the index of `frame`), column, what was expected, and the value.

    Only the columns of `optional` may lack a value, or all if it is None. Raises ValueError naming each missing column.
    """
    _check_columns(frame, inputs)
    found = []
    for name, kind in inputs.items():
        values = frame[name]
        read, expected = _read(values, kind)
        wrong = {expected: read.isna() & values.notna()}
        if read.dtype == float:
            wrong[f"a number between -{LARGEST:g} and {LARGEST:g}"] = read.abs() > LARGEST
        if optional is not None and name not in optional:
            wrong["a value"] = values.isna()
        for reason, rows in wrong.items():
            bad = values[rows]
            found.append(pd.DataFrame({"row": bad.index, "column": name, "expected": reason, "value": bad.astype(str)}))
    return pd.concat(found, ignore_index=True)[PROBLEM].sort_values("row", kind="stable", ignore_index=True)


def predict(model: Any, inputs: pd.DataFrame, *, threshold: float) -> pd.DataFrame:
    """Return probability of the positive class and decision (true from `threshold` on) for each row, with its index.

    `model` is a fitted scikit-learn classifier of two classes.
    """
    probability = model.predict_proba(inputs)[:, 1]
    return pd.DataFrame({"probability": probability, "decision": probability >= threshold}, index=inputs.index)


def _check_columns(frame: pd.DataFrame, inputs: Mapping[str, str]) -> None:
    if missing := [name for name in inputs if name not in frame.columns]:
        raise ValueError(f"expected the columns {list(inputs)}, got none named {missing}")


def _read(values: pd.Series, kind: str) -> tuple[pd.Series, str]:
    """The values as the contract's type, missing where they could not be read, and what was expected of them."""
    if kind == "string":
        return values.astype("str"), "a text"
    if kind == "datetime":
        if not pd.api.types.is_datetime64_dtype(values):
            # Each by itself: pandas would read all as it reads the first, and "now" as the time of day
            text = values.astype("str")
            values = pd.to_datetime(text.where(text.str.fullmatch(TIME)), errors="coerce", format="ISO8601")
        return values.dt.as_unit("us"), "a date and time"
    if kind == "boolean":
        return values.map(TRUTH).astype(float), "true or false"
    return pd.to_numeric(values, errors="coerce").astype(float), "a number"
