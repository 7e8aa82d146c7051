"""Scores and drift of a file, by parts that workers read for themselves."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift as measures
from mlops_course.operations.registry import Registered
from mlops_course.system import monitor, scoring
from mlops_course.system.system import System

from .workers import _check_shared, _run, once_a_worker

if TYPE_CHECKING:
    from distributed import Client

PARTS_A_TASK = 4  # a task goes past the rows before its own in their row group, so few tasks are quicker

Summaries = dict[pd.Timestamp | None, measures.Summary]  # one a window, by its start; one of all rows under None


@dataclass(frozen=True)
class _Parts:
    """A Parquet file in parts of `size` rows, those of `batch.parts`; a task is a range of their numbers."""

    file: Path
    size: int

    def total(self) -> int:
        return pq.read_metadata(self.file).num_rows

    def tasks(self) -> list[range]:
        count = max(1, math.ceil(self.total() / self.size))  # a file without rows is one empty part
        return [range(first, min(first + PARTS_A_TASK, count)) for first in range(0, count, PARTS_A_TASK)]

    def rows_in(self, numbers: range) -> int:
        return min(numbers.stop * self.size, self.total()) - numbers.start * self.size

    def named(self, numbers: range) -> str:
        return f"rows {numbers.start * self.size} to {numbers.start * self.size + self.rows_in(numbers) - 1}"

    def read(self, numbers: range) -> Iterator[tuple[int, pd.DataFrame]]:
        """Number and frame of each part, indexed by position, exactly as `batch` reads it."""
        with pq.ParquetFile(self.file) as file:
            groups = range(file.metadata.num_row_groups)
            begins = np.cumsum([0, *(file.metadata.row_group(group).num_rows for group in groups)])
            start = numbers.start * self.size
            first = int(np.searchsorted(begins, start, side="right")) - 1  # the row group with the first row
            pieces = file.iter_batches(self.size, row_groups=list(groups[first:]))
            tables = _cut(pieces, file.schema_arrow.empty_table(), skip=start - int(begins[first]), size=self.size)
            for number, table in zip(numbers, tables, strict=False):
                part = table.to_pandas(integer_object_nulls=True)  # as batch does
                yield number, part.set_axis(pd.RangeIndex(number * self.size, number * self.size + len(part)))


def _cut(pieces: Iterable[pa.RecordBatch], rest: pa.Table, *, skip: int, size: int) -> Iterator[pa.Table]:
    """Tables of `size` rows without the first `skip` rows, and a last one of what is left; pieces are of any size."""
    for piece in pieces:
        rest = pa.concat_tables([rest, pa.Table.from_batches([piece.slice(min(skip, len(piece)))])])
        skip = max(skip - len(piece), 0)
        while len(rest) >= size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
    yield rest


@contextmanager
def _in_parts(source: Path, *, folder: Path) -> Iterator[_Parts]:
    """The parts of a file; CSV is copied to `folder` as Parquet, because its rows can only be told from its start."""
    if source.suffix != ".csv":
        yield _Parts(source, batch.ROWS_PER_PART)
        return
    with TemporaryDirectory(dir=folder) as place:
        copy, chunks = Path(place, "rows.parquet"), batch.chunks(source, batch.ROWS_PER_PART)
        first = next(chunks)
        schema = pa.schema([(name, pa.string()) for name in first])
        with pq.ParquetWriter(copy, schema) as writer:
            for chunk in chain([first], chunks):
                writer.write_table(pa.Table.from_pandas(chunk, schema, preserve_index=False))
        yield _Parts(copy, batch.ROWS_PER_PART)


def score_to_file(
    system: System,
    source: str,
    *,
    target: Path,
    client: "Client",
    version: int | str = "champion",
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> batch.Scored:
    """What `scoring.score_to_file` does, by the workers of `client`: the same files, to the bit.

    Each worker loads the model once, from the registry in the workspace. Parts go beside the target as they are done,
    and then into one file, which is there whole or not at all. A run after a kill, with a cluster or without, uses the
    parts that are there.

    Raises what `batch.score_file` raises, and ConnectionError if a worker does not see the files, if workers die of a
    part, or if all stay away.
    """
    target = target.resolve()
    with scoring.source_file(system, source, folder=target.parent) as file:  # where workers see it
        path, model = file.resolve(), system.registry.load(version)
        run = batch.ScoringRun(path, target, model=model.digest, rows_per_part=batch.ROWS_PER_PART)
        if done := run.finished():
            return done
        run.begin()
        try:
            with _in_parts(path, folder=run.folder) as parts:
                _check_shared(client, read=[parts.file, system.workspace.database], write=run.folder)
                bare = System(system.case_name, system.workspace)  # without what `system` has loaded
                task, new, total = partial(_score, bare, model.version, model.digest, run, parts), 0, parts.total()
                for numbers, made in _run(client, task, parts.tasks(), what=parts.named):
                    new += made
                    progress(parts.rows_in(numbers), total)
                count = parts.tasks()[-1].stop
            return run.finish([run.part(number) for number in range(count)], total=total, new=new)
        except OSError as error:
            return run.result_of_another(error)


def _score(system: System, version: int, digest: str, run: batch.ScoringRun, parts: _Parts, numbers: range) -> int:
    """Make the parts that are not there, and return how many had to be made."""
    if all(run.part(number).exists() for number in numbers):
        return 0
    rules, made = scoring.file_rules(_load(system, version, digest)), 0
    for number, part in parts.read(numbers):
        if not run.part(number).exists():
            batch.score_part(part, run.part(number), **rules)
            made += 1
    return made


@once_a_worker
def _load(system: System, version: int, digest: str) -> Registered:
    found = system.registry.load(version)
    if found.digest != digest:
        raise ValueError(
            f"expected version {version} with the digest {digest}, got {found.digest}; is the workspace shared?"
        )
    return found


@dataclass(frozen=True, eq=False)
class Drift:
    """How a file differs from what a version was made from: `table` as `drift.drift` gives it, and the rows.

    With windows, `table` is indexed by window and feature. Rows that did not fit were set aside.
    """

    table: pd.DataFrame
    rows: int
    set_aside: int


def drift(
    system: System,
    source: Path,
    *,
    client: "Client",
    version: int | str = "champion",
    window: tuple[str, pd.Timedelta] | None = None,
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> Drift:
    """Every measure of drift of a file's rows against all rows that a version was made from, input by input.

    `source` is a .parquet or .csv file with the columns of the version's contract. With `window`, the name of an input
    that is a datetime and a width, each window is measured by itself, and rows without that time are set aside. Rows
    that do not fit the contract are counted and left out, as they are not scored either. Summaries of parts are counts
    that add up, so their order does not matter, and what comes back does not grow with the rows.

    Raises ValueError for another time or if no row fits, what reading the file raises, and ConnectionError as
    `score_to_file` does.
    """
    model = system.registry.load(version)
    inputs = model.contract.inputs
    times = [name for name, kind in inputs.items() if kind == "datetime"]
    if window and window[0] not in times:
        raise ValueError(f"expected one of the model's inputs that are times, {times}, got {window[0]!r}")
    texts = [name for name, kind in inputs.items() if kind == "string"]
    numbers = [name for name in inputs if name not in texts]
    watched = {watched: name for name, watched in monitor.input_names(inputs).items()}
    known = monitor.reference_rows(system, model.version)["all"][[*watched]].rename(columns=watched)
    bins = measures.reference(known, numeric=numbers, categorical=texts)
    optional = sorted({*model.contract.optional} - {*(window or ())[:1]})
    summaries, set_aside = {}, 0
    with _in_parts(Path(source).resolve(), folder=system.workspace.root) as parts:
        _check_shared(client, read=[parts.file])
        task, total = partial(_summarise, parts, bins, inputs, optional, window), parts.total()
        for numbers, (found, aside) in _run(client, task, parts.tasks(), what=parts.named):
            summaries, set_aside = _added(summaries, found), set_aside + aside
            progress(parts.rows_in(numbers), total)
    rows = sum(summary.rows for summary in summaries.values())
    if not rows:
        raise ValueError(f"expected rows that fit in {source}, got none; {set_aside} were set aside")
    table = measures.drift_by(dict(sorted(summaries.items()))) if window else measures.drift(summaries[None])
    return Drift(table, rows, set_aside)


def _summarise(
    parts: _Parts,
    bins: measures.Reference,
    inputs: Mapping[str, str],
    optional: list[str],
    window: tuple[str, pd.Timedelta] | None,
    numbers: range,
) -> tuple[Summaries, int]:
    """The summary of each window of some parts, and how many rows were set aside."""
    summaries, aside = {}, 0
    for _, part in parts.read(numbers):
        bad = batch.problems(part, inputs, optional=optional)["row"].unique()
        rows, aside = batch.conform(part.drop(index=bad), inputs), aside + len(bad)
        if window:
            starts = measures.windows(rows[window[0]], width=window[1])
            summaries = _added(summaries, measures.summarise_by(rows, bins, window=starts))
        else:
            summaries = _added(summaries, {None: measures.summarise(rows, bins)})
    return summaries, aside


def _added(summaries: Summaries, others: Summaries) -> Summaries:
    return summaries | {at: summaries[at] + found if at in summaries else found for at, found in others.items()}
