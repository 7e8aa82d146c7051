"""A file scored part by part."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .run import Scored, ScoringRun, replace_file
from .values import PROBLEM

ROWS_PER_PART = 50_000  # a part of 30 columns is about 12 MB: memory stays flat however long the file is
ID = "id"  # carried from input to output, so that a label can find its prediction later
PREDICTION = {"probability": "float64", "decision": "bool", "model_version": "int64"}  # columns of a file without rows


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
    """Write the predictions for each row of `source` into `target`, if that has not been done.

    Both are Parquet or CSV files, by their suffix. `answer` gets a frame of at most `rows_per_part` rows, indexed by
    their position in the source, and returns one with as many; a column `id` is carried over in front of it, repeated
    ids included. `check` returns the problems of a part, as `problems` does; rows with one go to `….quarantine.csv`
    beside the target instead. `model` names what answers, by its content: another one scores again.

    A part that is done is kept beside the target until all are, and used again after a kill, if source, model and
    settings are the same to the byte. Then the target is replaced at once, and `….manifest.json` says what it is made
    from. Two runs at the same time on one target leave it whole, but one of them may fail. Raises OSError if one does,
    or if the source is written to meanwhile; start again then.

    Raises ValueError for another suffix, for a target that is the source, for rows of CSV with more values than there
    are columns, for an `answer` of another length, or naming the rows of the part for which `answer` raises.
    """
    run = ScoringRun(source, target, model=model, rows_per_part=rows_per_part)
    if (done := run.finished()) is not None:
        return done
    run.folder.mkdir(parents=True, exist_ok=True)
    scored, new, total = [], 0, 0
    for number, part in enumerate(parts(source, rows_per_part)):
        scored.append(run.part(number))
        if not scored[-1].exists():
            score_part(part, scored[-1], answer=answer, check=check)
            new += 1
        total += len(part)
        progress(len(part))
    return run.finish(scored, total=total, new=new)


def count_rows(source: Path) -> int | None:
    """How many rows a Parquet file says that it has; None for CSV, which does not say."""
    return pq.read_metadata(source).num_rows if source.suffix == ".parquet" else None


def score_part(
    part: pd.DataFrame,
    path: Path,
    *,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    check: Callable[[pd.DataFrame], pd.DataFrame] | None,
) -> None:
    """Keep the rows set aside, then the predictions: a part counts as done once these are there."""
    found = check(part) if check else pd.DataFrame(columns=PROBLEM)
    good = part.drop(index=found["row"].unique())
    ids = good[[ID]] if ID in part.columns else good[[]]
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
        named = part[[ID]] if ID in part.columns else part[[]]
        found = found.join(named, on="row")[["row", *named.columns, *PROBLEM[1:]]]
        replace_file(path.with_suffix(".csv"), lambda partial: found.to_csv(partial, index=False), by=path.parent)
    table = pa.Table.from_pandas(pd.concat([ids, predictions], axis=1), preserve_index=False)
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
