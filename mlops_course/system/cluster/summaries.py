"""Drift of a file, from summaries of its parts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift as measures
from mlops_course.system import monitor
from mlops_course.system.system import System

from .parts import _read, _rows_named, _Span, _spans
from .tasks import _check_shared, _run

if TYPE_CHECKING:
    from distributed import Client


Summaries = dict[pd.Timestamp | None, measures.Summary]  # one a window, by its start; one of all rows under None


@dataclass(frozen=True, eq=False)
class Drift:
    """How a file differs from what a version was made from: `table` as `drift.drift` gives it, and the rows.

    With windows, `table` is indexed by window and feature. Rows that did not fit were set aside.
    """

    table: pd.DataFrame
    rows: int
    set_aside: int


@dataclass(frozen=True, eq=False)
class _Summarising:
    """What a worker has to know to summarise a span; `window` is a column of times and a width."""

    bins: measures.Reference
    source: Path
    rows: int
    inputs: Mapping[str, str]
    optional: tuple[str, ...]
    window: tuple[str, pd.Timedelta] | None


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
    that do not fit the contract are counted and left out, as they are not scored either.

    The bins are those of the reference, so summaries of parts are counts that add up: whatever the parts, and in
    whatever order they are done, the sum is the same, and what comes back does not grow with the rows.

    Raises ValueError for another time or if no row fits, what reading the file raises, and ConnectionError as
    `score_to_file` does.
    """
    model = system.registry.load(version)
    contract = model.contract
    times = [name for name, kind in contract.inputs.items() if kind == "datetime"]
    if window and window[0] not in times:
        raise ValueError(f"expected one of the model's inputs that are times, {times}, got {window[0]!r}")
    known = monitor.reference_rows(system, model.version)["all"]
    texts = [name for name, kind in contract.inputs.items() if kind == "string"]
    numbers = [name for name in contract.inputs if name not in texts]
    bins = measures.reference(known, numeric=numbers, categorical=texts)
    source, optional = Path(source).resolve(), sorted({*contract.optional} - {*(window or ())[:1]})
    _check_shared(client, read=[source])
    job = _Summarising(bins, source, batch.ROWS_PER_PART, contract.inputs, tuple(optional), window)
    total, spans = batch.count_rows(source), _spans(source, job.rows)

    def found() -> Iterator[tuple[dict, int]]:
        for _, (parts, aside) in _run(client, partial(_summarise, job), spans, what=partial(_rows_named, job.rows)):
            progress(sum(rows for rows, *_ in parts.values()) + aside, total)
            yield parts, aside

    summaries, set_aside = _merged(bins, found())
    rows = sum(summary.rows for summary in summaries.values())
    if not rows:
        raise ValueError(f"expected rows that fit in {source}, got none; {set_aside} were set aside")
    table = measures.drift_by(summaries) if window else measures.drift(summaries[None])
    return Drift(table, rows, set_aside)


def _merged(bins: measures.Reference, found: Iterable[tuple[dict, int]]) -> tuple[Summaries, int]:
    """What `_summarise` found of all spans, in any order, as one: windows in order of time, and rows set aside."""
    windows, set_aside = {}, 0
    for summaries, aside in found:
        for start, (rows, counts, excess) in summaries.items():
            summary = measures.Summary(bins, rows, counts, excess)
            windows[start] = windows[start] + summary if start in windows else summary
        set_aside += aside
    return dict(sorted(windows.items())), set_aside


def _summarise(job: _Summarising, span: _Span) -> tuple[dict[pd.Timestamp | None, tuple], int]:
    """The numbers of each window's summary, without the bins, which are known; and how many rows were set aside."""
    found, aside = {}, 0
    for _, part in _read(job.source, job.rows, span):
        bad = batch.problems(part, job.inputs, optional=job.optional)["row"].unique()
        rows, aside = batch.conform(part.drop(index=bad), job.inputs), aside + len(bad)
        if job.window:
            time, width = job.window
            summaries = measures.summarise_by(rows, job.bins, window=measures.windows(rows[time], width=width))
        else:
            summaries = {None: measures.summarise(rows, job.bins)}
        for start, summary in summaries.items():
            found[start] = found[start] + summary if start in found else summary
    return {start: (summary.rows, summary.counts, summary.excess) for start, summary in found.items()}, aside
