"""Drift of a file, from summaries of its parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift as measures
from mlops_course.system import monitor
from mlops_course.system.system import System

from .parts import _read, _rows_named, _Span, _spans
from .tasks import _check_shared, _run

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, eq=False)
class Summarised:
    """The summary of each window of a file, by its start, and how many rows did not fit and are in none.

    Without windows there is one summary, of all rows, under None.
    """

    windows: dict[pd.Timestamp | None, measures.Summary]
    set_aside: int


@dataclass(frozen=True, eq=False)
class Drift:
    """How a file differs from what a version was made from: `table` as `drift.drift` gives it, and the rows.

    With windows, `table` is indexed by window and feature.
    """

    table: pd.DataFrame
    rows: int
    set_aside: int


@dataclass(frozen=True, eq=False)
class _Summarising:
    """What a worker has to know to summarise a span."""

    bins: measures.Reference
    source: Path
    rows: int
    inputs: Mapping[str, str]
    optional: tuple[str, ...]
    time: str | None
    width: pd.Timedelta | None


def drift(
    system: System,
    source: Path,
    *,
    client: "Client",
    version: int | str = "champion",
    time: str | None = None,
    width: pd.Timedelta | None = None,
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> Drift:
    """Every measure of drift of a file's rows against all rows that a version was made from, input by input.

    `source` is a .parquet or .csv file with the columns of the version's contract. With `time`, one of its inputs that
    is a datetime, each window of `width` is measured by itself. Rows that do not fit the contract are counted and left
    out, as they are not scored either. Raises ValueError for another `time`, and what reading the file raises.
    """
    model = system.registry.load(version)
    contract = model.contract
    times = [name for name, kind in contract.inputs.items() if kind == "datetime"]
    if time is not None and time not in times:
        raise ValueError(f"expected one of the model's inputs that are times, {times}, got {time!r}")
    known = monitor.reference_rows(system, model.version)["all"]
    texts = [name for name, kind in contract.inputs.items() if kind == "string"]
    numbers = [name for name in contract.inputs if name not in texts]
    bins = measures.reference(known, numeric=numbers, categorical=texts, identity=[])
    found = _summarise_file(
        source,
        bins,
        client=client,
        inputs=contract.inputs,
        optional=contract.optional,
        time=time,
        width=width,
        progress=progress,
    )
    table = measures.drift(found.windows[None]) if time is None else measures.drift_by(found.windows)
    return Drift(table, sum(summary.rows for summary in found.windows.values()), found.set_aside)


def _summarise_file(
    source: Path,
    bins: measures.Reference,
    *,
    client: "Client",
    inputs: Mapping[str, str],
    optional: Sequence[str] | None = None,
    time: str | None = None,
    width: pd.Timedelta | None = None,
    rows_per_part: int = batch.ROWS_PER_PART,
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> Summarised:
    """What `drift.summarise`, or `summarise_by` for windows of `width`, makes of all rows together.

    The bins stay those of the reference, so summaries of parts are counts that add up: whatever the parts, and in
    whatever order they are done, the sum is the same. `inputs` and `optional` are those of `batch.problems`; rows with
    a problem, or without a `time` where one is given, are set aside. If the bins have an identity, a hash of 8 bytes
    comes back for each row; otherwise what comes back does not grow with the rows.

    Raises ValueError if only one of `time` and `width` is given or no row fits, and ConnectionError as
    `score_to_file` does.
    """
    if (time is None) != (width is None):
        raise ValueError(f"expected a column of times and a width of windows, or neither; got {time!r} and {width!r}")
    source, optional = Path(source).resolve(), set(inputs if optional is None else optional) - {time}
    _check_shared(client, read=[source])
    fits = {**inputs, time: "datetime"} if time else dict(inputs)
    about = _Summarising(bins, source, rows_per_part, fits, tuple(sorted(optional)), time, width)
    total, spans = batch.count_rows(source), _spans(source, rows_per_part)

    def told() -> Iterator[tuple[dict, int]]:
        for _, (found, aside) in _run(
            client, partial(_summarise, about), spans, what=partial(_rows_named, rows_per_part)
        ):
            progress(sum(rows for rows, *_ in found.values()) + aside, total)
            yield found, aside

    done = _merged(bins, told())
    if not any(summary.rows for summary in done.windows.values()):
        raise ValueError(f"expected rows that fit in {source}, got none; {done.set_aside} were set aside")
    return done


def _merged(bins: measures.Reference, found: Iterable[tuple[dict, int]]) -> Summarised:
    """What `_summarise` found of all spans, in any order, as one; windows in order of time."""
    windows, set_aside = {}, 0
    for summaries, aside in found:
        for start, (rows, counts, excess, hashes) in summaries.items():
            summary = measures.Summary(bins, rows, counts, excess, (hashes,))
            windows[start] = windows[start] + summary if start in windows else summary
        set_aside += aside
    return Summarised(dict(sorted(windows.items())), set_aside)


def _summarise(job: _Summarising, span: _Span) -> tuple[dict[pd.Timestamp | None, tuple], int]:
    """The numbers of each window's summary, without the bins, which are known; and how many rows were set aside."""
    found, aside = {}, 0
    for _, part in _read(job.source, job.rows, span):
        bad = batch.problems(part, job.inputs, optional=job.optional)["row"].unique()
        rows, aside = batch.conform(part.drop(index=bad), job.inputs), aside + len(bad)
        if job.time is None:
            summaries = {None: measures.summarise(rows, job.bins)}
        else:
            window = measures.windows(rows[job.time], width=job.width)
            summaries = measures.summarise_by(rows, job.bins, window=window)
        for start, summary in summaries.items():
            found[start] = found[start] + summary if start in found else summary
    plain = {
        start: (summary.rows, summary.counts, summary.excess, np.concatenate(summary.parts))
        for start, summary in found.items()
    }
    return plain, aside
