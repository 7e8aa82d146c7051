"""Answers of a registered model: for now in batch, from a file of inputs to a file of predictions.

    conform      a frame made to fit the model's contract, or an error that names the column, what it expects, what came
    predict      inputs to predictions: probability and decision for each row
    score_file   a Parquet or CSV file of any length, part by part, into another one that is there whole or not at all

>>> import numpy as np
>>> class Constant:
...     def predict_proba(self, inputs):
...         return np.tile([0.7, 0.3], (len(inputs), 1))
>>> rows = conform(pd.DataFrame({"id": ["a"], "temp": ["3.5"]}), {"temp": "double"})
>>> predict(Constant(), rows, threshold=0.2).to_dict("records")
[{'probability': 0.3, 'decision': True}]
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

__all__ = ["conform", "predict", "score_file"]

ROWS_PER_PART = 50_000  # a part of 30 columns is about 12 MB: memory stays flat however long the file is
ID = "id"  # carried from input to output, so that a label can find its prediction later


def conform(frame: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """The columns that the model takes, in its order and with its types; the index stays.

    `inputs` maps a column to its type in the contract: "string", "datetime", "boolean", or a number ("double", "long",
    ...). Text that spells a number or a time is read as one, and a missing value stays missing. Numbers come out as
    floats, so that a column with a missing value and one without get the same answer.

    Raises ValueError naming each missing column, or the first value that does not fit and its row.
    """
    missing = [name for name in inputs if name not in frame.columns]
    if missing:
        raise ValueError(f"expected the columns {list(inputs)}, got none named {missing}")
    return pd.DataFrame({name: _column(frame[name], kind) for name, kind in inputs.items()}, index=frame.index)


def predict(model: Any, inputs: pd.DataFrame, *, threshold: float) -> pd.DataFrame:
    """Probability of the positive class and the decision, one row for each of `inputs`, with their index.

    `model` is a fitted scikit-learn classifier of two classes. The decision is true from `threshold` on, as
    scikit-learn's FixedThresholdClassifier decides.
    """
    probability = model.predict_proba(inputs)[:, 1]
    return pd.DataFrame({"probability": probability, "decision": probability >= threshold}, index=inputs.index)


def score_file(
    source: Path,
    target: Path,
    *,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    rows_per_part: int = ROWS_PER_PART,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write the answer to each row of `source` into `target`, and return how many rows there were.

    Both are Parquet or CSV files, by their suffix. `answer` gets a frame of at most `rows_per_part` rows and returns
    one with as many; a column `id` is carried over in front of it. `progress` is told the rows of each part. `target`
    is replaced at the end: a reader finds the old file or the new one, and a failure leaves the old one.

    Raises ValueError for another suffix, for an `answer` of another length, or what `answer` raises.
    """
    _check_suffix(source), _check_suffix(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, rows = target.with_name(target.name + ".partial"), 0
    try:
        with _Writer(partial, parquet=target.suffix == ".parquet") as writer:
            for part in _parts(source, rows_per_part):
                answers = answer(part)
                if len(answers) != len(part):
                    raise ValueError(f"expected {len(part)} answers, got {len(answers)}")
                ids = part[[ID]] if ID in part.columns else part[[]]
                writer.write(pd.concat([ids, answers.set_axis(part.index)], axis=1))
                rows += len(part)
                progress(len(part))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return rows


class _Writer:
    """Appends frames to one file; the first one fixes the columns and their types."""

    def __init__(self, path: Path, *, parquet: bool) -> None:
        self._path, self._parquet, self._file = path, parquet, None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, frame: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if self._file is None:
            kind = pq.ParquetWriter if self._parquet else pa.csv.CSVWriter
            self._file = kind(self._path, table.schema)
        self._file.write_table(table)


def _parts(source: Path, rows: int) -> Iterator[pd.DataFrame]:
    if source.suffix == ".parquet":
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(rows):
                yield batch.to_pandas()
    else:
        with pd.read_csv(source, dtype=str, chunksize=rows, keep_default_na=False, na_values=[""]) as file:
            yield from file


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"expected a file that ends in .parquet or .csv, got {path.name}")


def _column(values: pd.Series, kind: str) -> pd.Series:
    if kind == "string":
        return values.astype("str")
    if kind == "datetime":
        return _readable(values, pd.to_datetime(values, errors="coerce"), "a date and time").dt.as_unit("us")
    if kind == "boolean":
        return _readable(values, values.map({True: 1.0, False: 0.0, "true": 1.0, "false": 0.0}), "true or false")
    return _readable(values, pd.to_numeric(values, errors="coerce"), "a number").astype(float)


def _readable(values: pd.Series, read: pd.Series, expected: str) -> pd.Series:
    """What was read, unless a value that is there could not be."""
    unread = read.isna() & values.notna()
    if unread.any():
        row = values.index[unread.argmax()]
        raise ValueError(f"expected {expected} in column {values.name!r}, got {values[row]!r} in row {row}")
    return read
