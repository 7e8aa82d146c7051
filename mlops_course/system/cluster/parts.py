"""A file in parts, each read by the worker that has its task."""

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_course.operations.deployment import batch

PARTS_A_TASK = 4  # of Parquet: a task goes past the rows before its own in their row group, so few tasks are quicker


@dataclass(frozen=True)
class _Span:
    """Parts `first` up to `last` of a file; of CSV, where their lines lie, in bytes, and where the header ends.

    All of the file, read from its start, if `last` is None.
    """

    first: int
    last: int | None
    rows: int | None = None
    bytes: tuple[int, int, int] | None = None


def _spans(source: Path, rows: int) -> list[_Span]:
    """The source cut into tasks, so that its parts of `rows` rows are those of `batch.score_file`."""
    if source.suffix == ".csv":
        return _spans_of_lines(source, rows)
    total = pq.read_metadata(source).num_rows
    firsts = range(0, math.ceil(total / rows), PARTS_A_TASK)
    ends = [min((first + PARTS_A_TASK) * rows, total) for first in firsts]
    spans = [_Span(first, math.ceil(end / rows), end - first * rows) for first, end in zip(firsts, ends, strict=True)]
    return spans or [_Span(0, None)]


def _spans_of_lines(source: Path, rows: int) -> list[_Span]:
    """A CSV file cut where rows begin, one part a task: it is read once, a line at a time.

    A value in quotes may go on over lines, and a line without a value is no row, as for pandas. A file whose lines end
    in another way than usual is one task.
    """
    header, begins, count, at = None, [], 0, 0
    with open(source, "rb") as file:

        def text() -> Iterator[str]:
            nonlocal at
            for line in file:
                at += len(line)
                yield line.decode("latin-1")  # each byte a character, so that lengths are those of the file

        lines = text()
        for line in lines:
            begin = at - len(line)
            if not line.strip(" \t\r\n"):
                continue
            if "\r" in line.removesuffix("\n").removesuffix("\r"):
                return [_Span(0, None)]
            if '"' in line:
                try:
                    next(csv.reader(itertools.chain([line], lines)))  # takes as many lines as the row has
                except csv.Error:
                    return [_Span(0, None)]
            if header is None:
                header = at
                continue
            if count % rows == 0:
                begins.append(begin)
            count += 1
    spans = [
        _Span(number, number + 1, min(rows, count - number * rows), (header, begin, end))
        for number, (begin, end) in enumerate(itertools.pairwise([*begins, at]))
    ]
    return spans or [_Span(0, None)]


class _Lines(io.BytesIO):
    """Some lines of a CSV file below its header, for `batch` to read as if they were a file."""

    suffix = ".csv"

    def __init__(self, source: Path, header: int, begin: int, end: int) -> None:
        with open(source, "rb") as file:
            head = file.read(header)
            file.seek(begin)
            super().__init__(head + file.read(end - begin))
        self._source = source

    def __str__(self) -> str:
        return f"{self._source}"


def _read(source: Path, rows: int, span: _Span) -> Iterator[tuple[int, pd.DataFrame]]:
    """Number and frame of each part of the span, indexed by position in the source, exactly as `batch` reads it.

    Raises ValueError if lines of CSV are not the rows that they were counted as, before any is handed out.
    """
    if span.last is None:
        yield from enumerate(batch.parts(source, rows))
        return
    if span.bytes is None:
        parts = _row_groups(source, rows, span)
    else:
        parts = iter(found := list(batch.chunks(_Lines(source, *span.bytes), rows)))
        if sum(map(len, found)) != span.rows:
            raise ValueError(
                f"expected {span.rows} rows in the bytes {span.bytes[1]} to {span.bytes[2]} of {source}, got "
                f"{sum(map(len, found))}: its quotes do not tell where a row ends; write it again, or use Parquet"
            )
    start = span.first * rows
    for number, part in enumerate(parts, start=span.first):
        yield number, part.set_axis(pd.RangeIndex(start, start + len(part)))
        start += len(part)


def _row_groups(source: Path, rows: int, span: _Span) -> Iterator[pd.DataFrame]:
    """The parts of a span of Parquet, of whose row groups only those that hold them are opened."""
    with pq.ParquetFile(source) as file:
        groups = range(file.metadata.num_row_groups)
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups])
        begin = span.first * rows
        inside = np.searchsorted(ends, begin, side="right"), np.searchsorted(ends, begin + span.rows)
        before = int(ends[inside[0] - 1]) if inside[0] else 0
        tables = file.iter_batches(rows, row_groups=list(range(inside[0], inside[1] + 1)))
        for table in _cut(tables, skip=begin - before, take=span.rows, rows=rows):
            yield table.to_pandas(integer_object_nulls=True)  # as batch does


def _cut(pieces: Iterable[pa.RecordBatch], *, skip: int, take: int, rows: int) -> Iterator[pa.Table]:
    """`take` rows, from `skip` on, in tables of `rows` rows and a last one of what is left; pieces are of any size."""
    held, lacking = [], min(rows, take)
    for piece in pieces:
        skip, piece = max(skip - len(piece), 0), piece.slice(min(skip, len(piece)))
        while len(piece) and take:
            held.append(piece.slice(0, lacking))
            piece = piece.slice(len(held[-1]))
            take, lacking = take - len(held[-1]), lacking - len(held[-1])
            if not lacking:
                yield pa.Table.from_batches(held)
                held, lacking = [], min(rows, take)


def _rows_named(rows: int, span: _Span) -> str:
    """What a span is, for a person."""
    if span.last is None:
        return "all rows"
    return f"rows {span.first * rows} to {span.first * rows + span.rows - 1}"
