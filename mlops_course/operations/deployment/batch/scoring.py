"""A file scored part by part: the steps, the run with what is done and left, and the files that come of it."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from .values import PROBLEM

ROWS_PER_PART = 50_000  # a part of 30 columns is about 12 MB: memory stays flat however long the file is
ID = "id"  # carried from input to output, so that a label can find its prediction later
PREDICTION = {"probability": "float64", "decision": "bool", "model_version": "int64"}  # columns of a file without rows
Frames = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Scored:
    """Result of a run: predictions, rows set aside (in the file `quarantine`), and the parts that it had to score.

    `already_done` means that it wrote nothing; after a kill there may be no part to score, but files to write.
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
    answer: Frames,
    model: str,
    check: Frames | None = None,
    rows_per_part: int = ROWS_PER_PART,
    progress: Callable[[int], None] = lambda rows: None,
) -> Scored:
    """Write the predictions for each row of `source` into `target`, if that has not been done.

    `answer` gets a frame of at most `rows_per_part` rows, indexed by their position in the source, and returns one with
    as many; a column `id` is carried over in front of it. `check` returns the problems of a part, as `problems` does;
    rows with one go to `….quarantine.csv` beside the target. `model` names what answers, by its content.

    Parts are kept beside the target until all are done, and used again after a kill, if source, model and settings are
    the same to the byte. Then the target is replaced at once, and `….manifest.json` says what it is made from.

    If another run that was asked for the same is faster, its result is returned.

    Raises ValueError if a suffix, a row of the source or an answer is wrong, FileExistsError if a file that no run has
    written would be replaced, and OSError if another run or a changed source got in the way; start again then.
    """
    run = ScoringRun(source, target, model=model, rows_per_part=rows_per_part)
    if (done := run.finished()) is not None:
        return done
    run.begin()
    try:
        scored, new, total = [], 0, 0
        for number, part in enumerate(parts(source, rows_per_part)):
            scored.append(run.part(number))
            if not scored[-1].exists():
                score_part(part, scored[-1], answer=answer, check=check)
                new += 1
            total += len(part)
            progress(len(part))
        return run.finish(scored, total=total, new=new)
    except OSError as error:
        return run.result_of_another(error)


def count_rows(source: Path) -> int | None:
    """Return how many rows a Parquet file has; None for CSV, which does not say."""
    return pq.read_metadata(source).num_rows if source.suffix == ".parquet" else None


def score_part(part: pd.DataFrame, path: Path, *, answer: Frames, check: Frames | None) -> None:
    """Keep the rows set aside, then the predictions: a part counts as done once these are there."""
    found = check(part) if check else pd.DataFrame(columns=PROBLEM)
    good = part.drop(index=found["row"].unique())
    id_columns = [ID] if ID in part.columns else []
    if len(good):
        try:
            predictions = answer(good)
        except Exception as error:
            span = f"rows {part.index[0]} to {part.index[-1]}"
            raise ValueError(f"expected answers to {span}, got {type(error).__name__}: {error}") from error
        if len(predictions) != len(good):
            raise ValueError(f"expected {len(good)} answers, got {len(predictions)}")
        predictions = predictions.set_axis(good.index)
    else:
        predictions = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in PREDICTION.items()})
    if len(found):
        found = found.join(part[id_columns], on="row")[["row", *id_columns, *PROBLEM[1:]]]
        replace_file(path.with_suffix(".csv"), lambda partial: found.to_csv(partial, index=False), by=path.parent)
    table = pa.Table.from_pandas(pd.concat([good[id_columns], predictions], axis=1), preserve_index=False)
    replace_file(path, lambda partial: pq.write_table(table, partial), by=path.parent)


def parts(source: Path, rows: int) -> Iterator[pd.DataFrame]:
    """The source in frames indexed by position; a file without rows is one empty part."""
    start = 0
    for part in chunks(source, rows):
        yield part.set_axis(pd.RangeIndex(start, start + len(part)))
        start += len(part)


def chunks(source: Path, rows: int) -> Iterator[pd.DataFrame]:
    """The same frames, each indexed as it was read."""
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
            yield batch.to_pandas(integer_object_nulls=True)  # an id stays a whole number where another id is missing


class ScoringRun:
    """What is to be scored, and what lies beside the target: parts on the way, rows set aside, and a manifest.

    Parts lie in a hidden folder whose name nobody else would give one. Raises ValueError if source or target end in
    another suffix than .parquet or .csv, or are one file.
    """

    def __init__(self, source: Path, target: Path, *, model: str, rows_per_part: int) -> None:
        for path in (source, target):
            if path.suffix not in (".parquet", ".csv"):
                raise ValueError(f"expected a file that ends in .parquet or .csv, got {path.name}")
        if source.resolve() == target.resolve():
            raise ValueError(f"expected another file than the source to write to, got {target} for both")
        self._source, self._target = source, target
        self._asked = {"source": _digest(source), "model": model, "rows_per_part": rows_per_part}
        self._asked |= {"from": source.suffix, "to": target.suffix}
        self._quarantine, self._manifest = (
            target.with_name(f"{target.name}.{what}") for what in ("quarantine.csv", "manifest.json")
        )
        self._parts = target.with_name(f".{target.name}.scoring-parts")
        self.folder = self._parts / hashlib.sha256(json.dumps(self._asked).encode()).hexdigest()[:16]

    def begin(self) -> None:
        """Make the folder of parts. Raises FileExistsError for a file beside the target that no run has written."""
        for path, mark in ((self._quarantine, ",".join(PROBLEM[1:])), (self._manifest, '"digests"')):
            if path.is_dir() or (path.exists() and mark not in _beginning(path)):
                raise FileExistsError(
                    f"expected {path} not to be there, or to come from an earlier run, got another file; scoring would "
                    "replace it: move it, or write to another target"
                )
        self.folder.mkdir(parents=True, exist_ok=True)

    def result_of_another(self, error: OSError) -> Scored:
        """What another run has come to that was asked for the same and was faster; else raises the error."""
        if (done := self.finished()) is not None:
            return done
        if isinstance(error, FileNotFoundError):
            raise OSError(f"another run writes to {self._target} and took parts of this one; start again") from error
        raise error

    def finished(self) -> Scored | None:
        """What an earlier run came to that was asked for the same, if its files are as it left them."""
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
            digests = [_digest(path) if path.exists() else None for path in (self._target, self._quarantine)]
            if manifest["asked"] != self._asked or manifest["digests"] != digests:
                return None
            done = self._scored(manifest["counts"], parts=0, already_done=True)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a manifest that cannot be read counts as none
        shutil.rmtree(self._parts, ignore_errors=True)
        return done

    def part(self, number: int) -> Path:
        """The file of one part; it is there once the part is done."""
        return self.folder / f"{number:06d}.parquet"

    def finish(self, parts: list[Path], *, total: int, new: int) -> Scored:
        """Make target and quarantine from the parts, then the manifest; only then delete the parts.

        `total` counts the rows in the source, and `new` the parts scored now. Raises OSError if the source was written
        to meanwhile, or if another run took parts away.
        """
        if _digest(self._source) != self._asked["source"]:
            shutil.rmtree(self.folder, ignore_errors=True)  # its parts may be of either content
            raise OSError(f"expected {self._source} to stay as it was, but it was written to meanwhile; start again")
        aside = [path for part in parts if (path := part.with_suffix(".csv")).exists()]
        quarantined = sum(pd.read_csv(path, usecols=["row"])["row"].nunique() for path in aside)
        rows = {part: pq.read_metadata(part).num_rows for part in parts}
        counts = {"rows": sum(rows.values()), "quarantined": quarantined}
        if sum(counts.values()) != total:
            raise OSError(f"expected {total} rows in {self.folder}, got {counts}; is another run at work? Start again")
        kept, as_csv = [part for part in parts if rows[part]] or parts[:1], self._target.suffix == ".csv"
        # Digests of what was written, not of what is there: another run may have been faster
        target = replace_file(self._target, lambda partial: _write_all(kept, partial, as_csv=as_csv), by=self.folder)
        quarantine = None
        if aside:
            quarantine = replace_file(self._quarantine, lambda partial: _join_lines(aside, partial), by=self.folder)
        else:
            self._quarantine.unlink(missing_ok=True)
        manifest = json.dumps({"asked": self._asked, "counts": counts, "digests": [target, quarantine]}, indent=1)
        replace_file(self._manifest, lambda partial: partial.write_text(manifest, encoding="utf-8"), by=self.folder)
        shutil.rmtree(self._parts, ignore_errors=True)  # what stays there goes with the next run
        return self._scored(counts, parts=new)

    def _scored(self, counts: dict[str, int], *, parts: int, already_done: bool = False) -> Scored:
        quarantine = self._quarantine if counts["quarantined"] else None
        return Scored(**counts, parts=parts, quarantine=quarantine, already_done=already_done)


def _write_all(parts: list[Path], path: Path, *, as_csv: bool) -> None:
    """The parts as one file, one after the other, so that memory stays flat."""
    schemas = [pq.read_schema(part).remove_metadata() for part in parts]
    schema = pa.unify_schemas(schemas, promote_options="permissive")  # a column may be empty in one part
    with (pa.csv.CSVWriter if as_csv else pq.ParquetWriter)(path, schema) as writer:
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


def replace_file(path: Path, write: Callable[[Path], Any], *, by: Path) -> str:
    """Write a file in the folder `by`, see it on disk, put it in its place whole, and return its digest."""
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


def _beginning(path: Path) -> str:
    """The first characters of a file, which may be long."""
    with open(path, encoding="utf-8", errors="replace") as content:
        return content.read(10_000)


def _digest(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
