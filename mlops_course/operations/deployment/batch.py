"""Answers in batch: from a file of inputs to a file of predictions, once, however often it is started or killed.

    conform      a frame made to fit the model's contract, or an error that names the column, what it expects, what came
    problems     every value that does not fit, instead of an error for the first
    predict      inputs to predictions: probability and decision for each row
    score_file   a Parquet or CSV file of any length, part by part, into another one that is there whole or not at all

`score_file` keeps each part as it is done. Killed and started again, it goes on after the last one; started once more
when all is done, it does nothing. Rows that do not fit are set aside with the reasons and do not stop the others.

>>> import numpy as np
>>> class Constant:
...     def predict_proba(self, inputs):
...         return np.tile([0.7, 0.3], (len(inputs), 1))
>>> rows = conform(pd.DataFrame({"id": ["a"], "temp": ["3.5"]}), {"temp": "double"})
>>> predict(Constant(), rows, threshold=0.2).to_dict("records")
[{'probability': 0.3, 'decision': True}]
>>> problems(pd.DataFrame({"temp": ["3.5", "warm"]}), {"temp": "double"}).to_dict("records")
[{'row': 1, 'column': 'temp', 'expected': 'a number', 'value': 'warm'}]
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

__all__ = ["Scored", "conform", "count_rows", "predict", "problems", "score_file"]

ROWS_PER_PART = 50_000  # a part of 30 columns is about 12 MB: memory stays flat however long the file is
TIME = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?"  # without a zone, as in the contract
TRUTH = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "True": 1.0, "False": 0.0}  # pandas writes "True" to CSV
ID = "id"  # carried from input to output, so that a label can find its prediction later
ANSWER = {"probability": "float64", "decision": "bool", "model_version": "int64"}  # columns of a file without rows
PROBLEM = ["row", "column", "expected", "value"]


def conform(frame: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """The columns that the model takes, in its order and with its types; the index stays.

    `inputs` maps a column to its type in the contract: "string", "datetime", "boolean", or a number ("double", "long",
    ...). Text that spells a number or a time (ISO 8601, no zone) is read as one, and a missing value stays missing.
    Numbers come out as floats, so that a column with a missing value and one without get the same answer.

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
    """Every value that does not fit: its row (by the index of `frame`), its column, what was expected and what came.

    Only the columns of `optional` may lack a value, or all if it is None. Infinite numbers do not fit. Raises
    ValueError naming each missing column, as there every row would have the problem.
    """
    _check_columns(frame, inputs)
    found = []
    for name, kind in inputs.items():
        values = frame[name]
        read, expected = _read(values, kind)
        wrong = {expected: read.isna() & values.notna()}
        if read.dtype == float:
            wrong["a finite number"] = pd.Series(np.isinf(read), index=values.index)
        if optional is not None and name not in optional:
            wrong["a value"] = values.isna()
        for reason, rows in wrong.items():
            bad = values[rows]
            found.append(pd.DataFrame({"row": bad.index, "column": name, "expected": reason, "value": bad.astype(str)}))
    return pd.concat(found, ignore_index=True)[PROBLEM].sort_values("row", kind="stable", ignore_index=True)


def predict(model: Any, inputs: pd.DataFrame, *, threshold: float) -> pd.DataFrame:
    """Probability of the positive class and the decision, one row for each of `inputs`, with their index.

    `model` is a fitted scikit-learn classifier of two classes. The decision is true from `threshold` on, as
    scikit-learn's FixedThresholdClassifier decides.
    """
    probability = model.predict_proba(inputs)[:, 1]
    return pd.DataFrame({"probability": probability, "decision": probability >= threshold}, index=inputs.index)


@dataclass(frozen=True)
class Scored:
    """What a run of `score_file` came to: predictions, rows set aside, and the parts that this run had to do.

    `quarantine` is the file of the rows that were set aside, None if there are none. `already_done` is true if the run
    found everything done and wrote nothing; a run killed after its last part has no part to do, but files to write.
    """

    rows: int
    quarantined: int
    parts: int
    quarantine: Path | None
    already_done: bool = False


def score_file(
    source: Path,
    target: Path,
    *,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    model: str,
    check: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    rows_per_part: int = ROWS_PER_PART,
    progress: Callable[[int], None] = lambda rows: None,
) -> Scored:
    """Write the answer to each row of `source` into `target`, if that has not been done.

    Both are Parquet or CSV files, by their suffix. `answer` gets a frame of at most `rows_per_part` rows, indexed by
    their position in the source, and returns one with as many; a column `id` is carried over in front of it, repeated
    ids included. `check` returns the problems of a part, as `problems` does; rows with one go to `….quarantine.csv`
    beside the target instead. `model` names what answers, by its content: another one scores anew.

    A part that is done is kept beside the target until all are, and used again after a kill, if source, model and
    settings are the same to the byte. Then the target is replaced at once, and `….manifest.json` says what it is made
    from. Two runs at the same time on one target leave it whole, but one of them may fail. Raises OSError if one does,
    or if the source is written to meanwhile; start again then.

    Raises ValueError for another suffix, for a target that is the source, for rows of CSV with more values than there
    are columns, for an `answer` of another length, or naming the rows of the part for which `answer` raises.
    """
    for path in (source, target):
        if path.suffix not in (".parquet", ".csv"):
            raise ValueError(f"expected a file that ends in .parquet or .csv, got {path.name}")
    if source.resolve() == target.resolve():
        raise ValueError(f"expected another file than the source to write to, got {target} for both")
    target.parent.mkdir(parents=True, exist_ok=True)
    files = _Files(target)
    asked = {"source": _digest(source), "model": model, "rows_per_part": rows_per_part}
    asked |= {"from": source.suffix, "to": target.suffix}
    if (done := files.finished(asked)) is not None:
        shutil.rmtree(files.parts, ignore_errors=True)
        quarantine = files.quarantine if done["quarantined"] else None
        return Scored(**done, parts=0, quarantine=quarantine, already_done=True)
    folder = files.parts / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    parts, new, total = [], 0, 0
    for number, part in enumerate(_parts(source, rows_per_part)):
        parts.append(folder / f"{number:06d}.parquet")
        if not parts[-1].exists():
            _score_part(part, parts[-1], answer=answer, check=check)
            new += 1
        total += len(part)
        progress(len(part))
    if _digest(source) != asked["source"]:
        shutil.rmtree(folder, ignore_errors=True)  # its parts may be of either content
        raise OSError(f"expected {source} to stay as it was, but it was written to meanwhile; start again")
    counts = files.assemble(parts, asked, total=total)
    return Scored(**counts, parts=new, quarantine=files.quarantine if counts["quarantined"] else None)


def count_rows(source: Path) -> int | None:
    """How many rows a Parquet file says that it has; None for CSV, which does not say."""
    return pq.read_metadata(source).num_rows if source.suffix == ".parquet" else None


# One part -------------------------------------------------------------------------------------------------------------


def _score_part(
    part: pd.DataFrame,
    path: Path,
    *,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    check: Callable[[pd.DataFrame], pd.DataFrame] | None,
) -> None:
    """Keep what is set aside, then the answers: a part counts as done once these are there."""
    found = check(part) if check else pd.DataFrame(columns=PROBLEM)
    good = part.drop(index=found["row"].unique())
    ids = good[[ID]] if ID in part.columns else good[[]]
    if len(good):
        try:
            answers = answer(good)
        except Exception as error:
            span = f"rows {part.index[0]} to {part.index[-1]}"
            raise ValueError(f"expected answers to {span}, got {type(error).__name__}: {error}") from error
        if len(answers) != len(good):
            raise ValueError(f"expected {len(good)} answers, got {len(answers)}")
        answers = answers.set_axis(good.index)
    else:
        answers = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in ANSWER.items()})
    if len(found):
        named = part[[ID]] if ID in part.columns else part[[]]
        found = found.join(named, on="row")[["row", *named.columns, *PROBLEM[1:]]]
        _replace(path.with_suffix(".csv"), lambda partial: found.to_csv(partial, index=False), by=path.parent)
    table = pa.Table.from_pandas(pd.concat([ids, answers], axis=1), preserve_index=False)
    _replace(path, lambda partial: pq.write_table(table, partial), by=path.parent)


def _parts(source: Path, rows: int) -> Iterator[pd.DataFrame]:
    """The source in frames indexed by position; a file without rows is one empty part."""
    start = 0
    for part in _chunks(source, rows):
        yield part.set_axis(pd.RangeIndex(start, start + len(part)))
        start += len(part)


def _chunks(source: Path, rows: int) -> Iterator[pd.DataFrame]:
    if source.suffix == ".csv":
        with pd.read_csv(source, dtype=str, chunksize=rows, keep_default_na=False, na_values=[""]) as file:
            for part in file:
                if not isinstance(part.index, pd.RangeIndex):  # pandas took the first columns for an index
                    raise ValueError(f"expected as many values as columns in each row of {source}, got more")
                yield part
        return
    with pq.ParquetFile(source) as file:
        if not file.metadata.num_rows:
            yield file.read().to_pandas()
        for batch in file.iter_batches(rows):
            yield batch.to_pandas(integer_object_nulls=True)  # an id stays a whole number, whoever else has none


# All parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """What lies beside the target: the parts on the way, the rows set aside, and what the target is made from."""

    target: Path

    @property
    def parts(self) -> Path:
        return self.target.with_name(f"{self.target.name}.parts")

    @property
    def quarantine(self) -> Path:
        return self.target.with_name(f"{self.target.name}.quarantine.csv")

    @property
    def manifest(self) -> Path:
        return self.target.with_name(f"{self.target.name}.manifest.json")

    def finished(self, asked: dict[str, Any]) -> dict[str, int] | None:
        """The counts of the run that made the files, if it was asked for this and they are as it left them."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
            if manifest["asked"] == asked and manifest["digests"] == self._digests():
                return manifest["counts"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # whatever is wrong with it, the answer is to score
        return None

    def assemble(self, parts: list[Path], asked: dict[str, Any], *, total: int) -> dict[str, int]:
        """Make target and quarantine from the parts, then say so in the manifest; only then the parts go.

        The manifest has the digests of what was written, not of what is there: another run may have been faster.
        """
        folder, aside = parts[0].parent, [path for part in parts if (path := part.with_suffix(".csv")).exists()]
        quarantined = sum(pd.read_csv(path, usecols=["row"])["row"].nunique() for path in aside)
        rows = {part: pq.read_metadata(part).num_rows for part in parts}
        counts = {"rows": sum(rows.values()), "quarantined": quarantined}
        if sum(counts.values()) != total:
            raise OSError(f"expected {total} rows in {folder}, got {counts}; is another run at work? Start again")
        kept = [part for part in parts if rows[part]] or parts[:1]
        as_parquet = self.target.suffix == ".parquet"
        target = _replace(self.target, lambda partial: _write_all(kept, partial, parquet=as_parquet), by=folder)
        quarantine = None
        if aside:
            quarantine = _replace(self.quarantine, lambda partial: _join_lines(aside, partial), by=folder)
        else:
            self.quarantine.unlink(missing_ok=True)
        manifest = json.dumps({"asked": asked, "counts": counts, "digests": [target, quarantine]}, indent=1)
        _replace(self.manifest, lambda partial: partial.write_text(manifest, encoding="utf-8"), by=folder)
        shutil.rmtree(self.parts, ignore_errors=True)  # what stays there goes with the next run
        return counts

    def _digests(self) -> list[str | None]:
        return [_digest(path) if path.exists() else None for path in (self.target, self.quarantine)]


def _write_all(parts: list[Path], path: Path, *, parquet: bool) -> None:
    """The parts as one file, one after the other, so that memory stays flat."""
    schemas = [pq.read_schema(part).remove_metadata() for part in parts]
    schema = pa.unify_schemas(schemas, promote_options="permissive")  # a column may be empty in one part
    with (pq.ParquetWriter if parquet else pa.csv.CSVWriter)(path, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))


def _join_lines(parts: list[Path], path: Path) -> None:
    """CSV files with the same header as one file that has it once."""
    with open(path, "wb") as whole:
        for number, part in enumerate(parts):
            with open(part, "rb") as lines:
                if number:
                    lines.readline()
                shutil.copyfileobj(lines, whole)


def _replace(path: Path, write: Callable[[Path], Any], *, by: Path) -> str:
    """Write a file in the folder `by`, see it on disk, and put it in its place: it is there whole or not at all.

    Returns its digest. What a killed process was writing stays in `by`, under a name that no other run has.
    """
    partial = by / f"{path.name}.{uuid.uuid4().hex}.partial"
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        digest = _digest(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return digest


def _digest(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# What fits ------------------------------------------------------------------------------------------------------------


def _check_columns(frame: pd.DataFrame, inputs: Mapping[str, str]) -> None:
    if missing := [name for name in inputs if name not in frame.columns]:
        raise ValueError(f"expected the columns {list(inputs)}, got none named {missing}")


def _read(values: pd.Series, kind: str) -> tuple[pd.Series, str]:
    """The values as the contract's type, missing where they could not be read, and what was expected of them."""
    if kind == "string":
        return values.astype("str"), "a text"
    if kind == "datetime":
        return _read_times(values), "a date and time"
    if kind == "boolean":
        return values.map(TRUTH).astype(float), "true or false"
    return pd.to_numeric(values, errors="coerce").astype(float), "a number"


def _read_times(values: pd.Series) -> pd.Series:
    """Each value read by itself: left alone, pandas reads all as it reads the first, and "now" as the time of day."""
    if not pd.api.types.is_datetime64_dtype(values):
        text = values.astype("str")
        values = pd.to_datetime(text.where(text.str.fullmatch(TIME)), errors="coerce", format="ISO8601")
    return values.dt.as_unit("us")
