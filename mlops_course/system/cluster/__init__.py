"""The work of one machine on the workers of a Dask cluster, with the result unchanged: to the bit.

    connect          a cluster, by its scheduler's address or started here for the purpose, checked before it is used
    score_to_file    predictions for a file or a batch, as `scoring.score_to_file` writes them
    drift            how far a file's rows have moved from what a version was made from, by summaries of its parts
    features         the prediction frame of many batches, as the pipeline builds it
    search           random search for settings, as `training.search` draws and scores them

Four rules make that so. A file is cut into the same parts whoever works on them, so each answer comes from the same
arrays. Workers read and write shared files themselves: tasks carry names and numbers, and a model, or the rows of a
search, are loaded once a worker. What travels back adds up exactly: counts, never sums of floats. And a task may be
done twice without harm, so that the scheduler gives the tasks of a worker that died to others.

A worker must see the same files under the same names (input, folder of the output, workspace), and have the same
versions of Python, of this package and of the libraries that decide a result. Both are checked, at the start and by
each task. What cannot be checked: on processors of another kind, the last bit of a product of matrices may differ.

    with connect("local", workers=2) as client:
        score_to_file(system, "rows.parquet", target=Path("scores.parquet"), client=client)
"""

import csv
import hashlib
import inspect
import io
import itertools
import json
import logging
import math
import os
import platform
import shutil
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_course.development import data, training
from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift as measures
from mlops_course.operations.registry import Registered
from mlops_course.system import monitor, pipeline, scoring
from mlops_course.system.pipeline import steps
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Drift",
    "MissingExtraError",
    "Search",
    "Summarised",
    "connect",
    "drift",
    "features",
    "score_to_file",
    "search",
]

LOCAL = "local"
CODE = (*pipeline.STAGES, batch, measures, scoring, steps, sys.modules[__name__])  # what tasks run
LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn")  # whose version decides what a task gives
PARTS_A_TASK = 4  # of Parquet: a task goes past the rows before its own in their row group, so few tasks are quicker
CONNECT_SECONDS = 20  # for a scheduler to answer
WORKERS_SECONDS = 60  # for a first worker to be there, and for one to come back when all are gone
CHECK_SECONDS = 120  # for every worker to import the package and look at the files; more if it is busy elsewhere
LOOK_SECONDS = 2  # how often to look whether there are workers still
RETRIES = 2  # of a task that raised: a disk may be away for a moment
DEATHS = 3  # of workers on one task, of a cluster started here; elsewhere its own setting counts, which is 3 unless set
SETTINGS = {"classify__max_iter": [20, 40, 100, 200], "classify__max_leaf_nodes": [4, 8, 16, 31]}  # of boosting
SEARCHED = "gradient_boosting"


# The cluster ----------------------------------------------------------------------------------------------------------


class MissingExtraError(ImportError):
    """What works on clusters is not installed."""


@contextmanager
def connect(scheduler: str, *, workers: int | None = None) -> Iterator["Client"]:
    """A client of the cluster at `scheduler`, such as "tcp://10.0.0.1:8786", or of one started here for "local".

    One that is started here has `workers` processes of one thread, as many as there are cores if not given, listens on
    127.0.0.1, and ends with the `with` block. Elsewhere, `workers` is how many must be there before work begins, one if
    not given. Who reaches the ports of a cluster can run any code on it: keep them in a closed network.

    Raises MissingExtraError if the extra `scale` is not installed, ConnectionError if no scheduler or too few workers
    answer, ValueError if a worker has other versions than this process.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "expected the extra `scale` for work on a cluster, but distributed is not installed; install it: "
            'pip install -c constraints.txt -e ".[scale]"'
        ) from error
    with _quiet(), _started(scheduler, workers) as address:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)  # an error, below
                client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"expected a Dask scheduler at {scheduler}, got no answer ({error}); start one: dask scheduler; or use "
                f"--scheduler {LOCAL}"
            ) from error
        with client:
            _await_workers(client, workers or 1, scheduler)
            _check_versions(client)
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Let an error speak for itself: of a lost connection, Dask tells in tracebacks of its own."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "utils")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _started(scheduler: str, workers: int | None) -> Iterator[str]:
    """The address of the scheduler, of one that lives as long as the block if it is to be a local one."""
    if scheduler != LOCAL:
        yield scheduler
        return
    from dask import config
    from distributed import LocalCluster

    count = workers or os.cpu_count() or 1
    patient = {f"distributed.comm.timeouts.{step}": f"{WORKERS_SECONDS} s" for step in ("connect", "tcp")}
    with (
        TemporaryDirectory() as folder,
        config.set({"distributed.scheduler.allowed-failures": DEATHS, **patient}),
        ExitStack() as stack,
    ):
        try:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                )
            )
        except RuntimeError as error:
            raise ConnectionError(f"expected to start {count} workers here, but: {error}; try fewer") from error
        yield cluster.scheduler_address


def _await_workers(client: "Client", count: int, scheduler: str) -> None:
    try:
        client.wait_for_workers(count, timeout=WORKERS_SECONDS)
    except TimeoutError as error:
        raise ConnectionError(
            f"expected {count} workers at {scheduler} within {WORKERS_SECONDS} s, found {len(_workers(client))}; start "
            f"some: dask worker {scheduler}"
        ) from error


def _workers(client: "Client") -> list[str]:
    """Addresses of the workers that the scheduler knows now; none if it is gone."""
    return sorted(client.scheduler_info(n_workers=-1).get("workers", ()))


def _check_versions(client: "Client") -> None:
    """Dask only warns of another version, and of a library that it does not use itself it does not even that."""
    ours = _versions()
    found = client.get_versions(packages=["mlops-course", *LIBRARIES])["workers"]
    for worker, theirs in found.items():
        packages = theirs["packages"]
        there = {"Python": ".".join(packages["python"].split(".")[:2])} | {name: packages[name] for name in LIBRARIES}
        if packages["mlops-course"] is None:
            raise ValueError(f"expected mlops-course on every worker, found none on {worker}; install it there")
        _demand({name: ours[name] for name in there}, there, worker)


@lru_cache
def _versions(case: str | None = None) -> dict[str, str]:
    """What decides the result of a task, besides its arguments: libraries, and code, that of a case included."""
    files = [path for module in [*CODE, *([_module(case)] if case else [])] for path in _files(module)]
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        **{name: metadata.version(name) for name in LIBRARIES},
        "the code": training.code_version(files)[:12],
    }


def _files(module: ModuleType) -> list[Path]:
    """The Python files of a module; all of its folder if it is a package."""
    folders = getattr(module, "__path__", ())
    return [path for folder in folders for path in Path(folder).rglob("*.py")] or [Path(inspect.getfile(module))]


def _module(case: str) -> ModuleType:
    try:
        return import_module(case)
    except ModuleNotFoundError as error:
        raise ValueError(f"expected the package {case} on {platform.node()}, got: {error}; install it there") from error


def _demand(ours: Mapping[str, str], theirs: Mapping[str, str | None], worker: str) -> None:
    if other := [
        f"{name} {version}, found {theirs[name]}" for name, version in ours.items() if theirs[name] != version
    ]:
        raise ValueError(
            f"on worker {worker}: expected {'; expected '.join(other)}; results would not be those of this machine: "
            "install there what constraints.txt names, and the same checkout"
        )


# Tasks ----------------------------------------------------------------------------------------------------------------


def _run(
    client: "Client", task: Callable, arguments: Sequence[Any], *, what: Callable[[Any], str], case: str | None = None
) -> Iterator[Any]:
    """Pairs of an argument and what `task` made of it, as they are done; `what` says what an argument stands for.

    `case` is the package of the case whose code the task runs, if it does.

    A task whose worker died is done by another. Raises what a task raised, once it has done so `RETRIES` times more,
    and ConnectionError if workers die of it or if all of them, or the scheduler, stay away.
    """
    futures = client.map(partial(_checked, task, case, _versions(case)), arguments, retries=RETRIES, pure=False)
    waiting, seen = dict(zip(futures, arguments, strict=True)), time.monotonic()
    del futures  # of a future that nobody holds, the scheduler forgets the result
    try:
        while waiting:
            done = ()
            with suppress(TimeoutError):
                done = _wait(client, waiting, seconds=LOOK_SECONDS, return_when="FIRST_COMPLETED")
            for future in done:
                yield waiting[future], _result(future, what(waiting[future]))
                del waiting[future]
            with suppress(OSError):  # if nobody answers, nobody works
                seen = time.monotonic() if _workers(client) else seen
            if time.monotonic() - seen > WORKERS_SECONDS:
                raise ConnectionError(
                    f"expected workers for {len(waiting)} more tasks, found none for {WORKERS_SECONDS} s; start some, "
                    "and this again: what is done is kept"
                )
    except CancelledError as error:
        raise ConnectionError("the scheduler is gone; start it, and this again: what is done is kept") from error
    finally:
        if waiting and client.status == "running":
            client.cancel(list(waiting))


def _result(future: Any, what: str) -> Any:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise ConnectionError(
            f"expected an answer for {what}, but every worker that began it died, the last on "
            f"{error.last_worker.address}; see its log, and give workers more memory if that ran out"
        ) from error


def _wait(client: "Client", futures: Iterable[Any], *, seconds: float, return_when: str) -> set[Any]:
    """The futures that are done; raises TimeoutError if there are none, or not all, as was asked for."""
    from distributed import wait

    with client.as_current():
        return wait(list(futures), timeout=seconds, return_when=return_when).done


def _checked(task: Callable, case: str | None, versions: Mapping[str, str], argument: Any) -> Any:
    """The task, where it may be done: a worker that joined later has not been checked at the start."""
    _demand(versions, _versions(case), platform.node())
    return task(argument)


def _check_shared(client: "Client", *, read: Sequence[Path], write: Path | None = None) -> None:
    """See that every worker has these very files, and may write to this very folder, before any of them begins.

    Raises ConnectionError naming a worker that has not.
    """
    seen = {path.as_posix(): path.stat().st_size for path in read}
    token = write / f"{uuid.uuid4().hex}.token" if write else None
    if token:
        token.write_text("a worker reads this, and writes it again beside it", encoding="utf-8")
    workers = _workers(client)
    try:
        looks = [
            client.submit(
                partial(_checked, _look, None, _versions()), (seen, token), workers=[worker], pure=False, priority=10
            )
            for worker in workers
        ]
        try:
            _wait(client, looks, seconds=CHECK_SECONDS, return_when="ALL_COMPLETED")
        except TimeoutError as error:
            raise ConnectionError(
                f"expected every worker to look at the files within {CHECK_SECONDS} s, but one has not; it may be busy "
                "with other work, or its disk away"
            ) from error
        for worker, look in zip(workers, looks, strict=True):
            if fault := look.result():
                raise ConnectionError(
                    f"worker {worker} {fault}; workers see only what they share with this machine under the same "
                    f"path: use a shared folder, or --scheduler {LOCAL}"
                )
    finally:
        if token:
            token.unlink(missing_ok=True)


def _look(asked: tuple[dict[str, int], Path | None]) -> str:
    """What this worker lacks, or an empty text."""
    sizes, token = asked
    for name, size in sizes.items():
        try:
            with open(name, "rb") as file:
                found = os.fstat(file.fileno()).st_size
        except OSError as error:
            return f"cannot read {name} ({error.strerror})"
        if found != size:
            return f"has another file as {name}, of {found:,} bytes instead of {size:,}"
    if token:
        try:
            answer = token.with_suffix(f".{uuid.uuid4().hex}")
            answer.write_bytes(token.read_bytes())
            answer.unlink()
        except OSError as error:
            return f"cannot read and write the folder {token.parent} ({error.strerror})"
    return ""


# A file in parts, each read by whoever works on it --------------------------------------------------------------------


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
        yield from enumerate(batch._parts(source, rows))
        return
    if span.bytes is None:
        parts = _row_groups(source, rows, span)
    else:
        parts = iter(found := list(batch._chunks(_Lines(source, *span.bytes), rows)))
        if sum(map(len, found)) != span.rows:
            raise ValueError(
                f"expected {span.rows} rows in the bytes {span.bytes[1]} to {span.bytes[2]} of {source}, got "
                f"{sum(map(len, found))}: its quotes do not tell where a row ends; write it anew, or use Parquet"
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


# Scores ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scoring:
    """What a worker has to know to score a span: names, and no rows and no model."""

    case: str
    workspace: Workspace
    version: int
    digest: str
    source: Path
    rows: int
    folder: Path


def score_to_file(
    system: System,
    source: str,
    *,
    target: Path,
    client: "Client",
    version: int | str = "champion",
    rows_per_part: int = batch.ROWS_PER_PART,
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> batch.Scored:
    """What `scoring.score_to_file` does, by the workers of `client`: the same files, to the bit.

    Each worker loads the model once, from the registry in the workspace, and sees by the digest that it is the one that
    was asked for. Parts go beside the target as they are done, and then into one file, which is there whole or not at
    all. Whoever goes on after a kill, with a cluster or without, uses the parts that are there.

    Raises what `batch.score_file` raises, and ConnectionError if a worker does not see the files, if workers die of a
    part, or if all stay away.
    """
    names = system.case.batches()
    if source in names:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as folder:  # where workers see it
            file = Path(folder, "rows.parquet")
            scoring._rows_of(system, source).to_parquet(file)
            asked = {"target": target, "client": client, "version": version}
            return score_to_file(system, f"{file}", **asked, rows_per_part=rows_per_part, progress=progress)
    if not Path(source).is_file():
        raise ValueError(f"expected a file or a batch out of {names}, got {source!r}")
    path, target = Path(source).resolve(), target.resolve()
    model = system.registry.load(version)
    files, asked, done = _begun(path, target, model=model.digest, rows=rows_per_part)
    if done:
        return done
    folder = files.parts / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    _check_shared(client, read=[path, system.workspace.database], write=folder)
    about = _Scoring(system.case_name, system.workspace, model.version, model.digest, path, rows_per_part, folder)
    parts, new, known = {}, 0, batch.count_rows(path)
    spans = _spans(path, rows_per_part)
    for _, (rows, made) in _run(client, partial(_score, about), spans, what=partial(_rows_named, rows_per_part)):
        parts |= rows
        new += made
        progress(sum(rows.values()), known)
    if batch._digest(path) != asked["source"]:
        shutil.rmtree(folder, ignore_errors=True)  # its parts may be of either content
        raise OSError(f"expected {source} to stay as it was, but it was written to meanwhile; start again")
    paths = [folder / f"{number:06d}.parquet" for number in sorted(parts)]
    counts = files.assemble(paths, asked, total=sum(parts.values()))
    return batch.Scored(**counts, parts=new, quarantine=files.quarantine if counts["quarantined"] else None)


def _begun(source: Path, target: Path, *, model: str, rows: int) -> tuple[batch._Files, dict, batch.Scored | None]:
    """What lies beside the target, what is asked for in `batch.score_file`'s words, and what came of it if done."""
    for path in (source, target):
        if path.suffix not in (".parquet", ".csv"):
            raise ValueError(f"expected a file that ends in .parquet or .csv, got {path.name}")
    if source == target:
        raise ValueError(f"expected another file than the source to write to, got {target} for both")
    files = batch._Files(target)
    asked = {"source": batch._digest(source), "model": model, "rows_per_part": rows}
    asked |= {"from": source.suffix, "to": target.suffix}
    if (done := files.finished(asked)) is None:
        return files, asked, None
    shutil.rmtree(files.parts, ignore_errors=True)
    quarantine = files.quarantine if done["quarantined"] else None
    return files, asked, batch.Scored(**done, parts=0, quarantine=quarantine, already_done=True)


def _score(job: _Scoring, span: _Span) -> tuple[dict[int, int], int]:
    """Make the parts of a span that are not there: rows of each part by its number, and how many had to be made."""
    paths = {number: job.folder / f"{number:06d}.parquet" for number in range(span.first, span.last or 0)}
    if paths and all(path.exists() for path in paths.values()):
        return {number: min(job.rows, span.rows - at * job.rows) for at, number in enumerate(paths)}, 0
    model = _model(job)
    answer = partial(scoring._answer, model)
    check = partial(batch.problems, inputs=model.contract.inputs, optional=model.contract.optional)
    rows, made = {}, 0
    for number, part in _read(job.source, job.rows, span):
        path = job.folder / f"{number:06d}.parquet"
        if not path.exists():
            batch._score_part(part, path, answer=answer, check=check)
            made += 1
        rows[number] = len(part)
    return rows, made


_loading = threading.Lock()  # a worker may have several threads, and needs one model


def _model(job: _Scoring) -> Registered:
    with _loading:
        return _load(job.case, job.workspace, job.version, job.digest)


@lru_cache(maxsize=1)
def _load(case: str, workspace: Workspace, version: int, digest: str) -> Registered:
    found = System(case, workspace).registry.load(version)
    if found.digest != digest:
        raise ValueError(
            f"expected version {version} with the digest {digest}, got {found.digest}; is the workspace shared?"
        )
    return found


def _rows_named(rows: int, span: _Span) -> str:
    """What a span is, for a person."""
    if span.last is None:
        return "all rows"
    return f"rows {span.first * rows} to {span.first * rows + span.rows - 1}"


# Drift ----------------------------------------------------------------------------------------------------------------


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


# Features -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Building:
    """What a worker has to know to build the rows of a batch."""

    case: str
    workspace: Workspace
    columns: tuple[tuple[str, str], ...]


def features(
    system: System,
    batches: Sequence[str],
    *,
    target: Path,
    client: "Client",
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> int:
    """Write the prediction frame of `batches` to `target` (.parquet), and return its number of rows.

    Each batch is validated and built by itself, with the batch before it, if that is among `batches`, for what was
    known. That is what the pipeline gives for all of them together if a row looks no further back than a batch, as
    `scoring.score` supposes too, and if what it sums are whole numbers, such as minutes and counts: these add up to
    the same whenever the sum began, other floats only up to rounding. `progress` is told of batches.

    Raises ValueError for another suffix or an unknown batch, InvalidBatch if data must not be used, ConnectionError as
    `score_to_file` does.
    """
    if target.suffix != ".parquet":
        raise ValueError(f"expected a file that ends in .parquet, got {target.name}")
    names = sorted(set(batches))
    spans = [tuple(name for name in [*system.batch_before(name), name] if name in names) for name in names]
    workspace = system.workspace.create()
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_shared(client, read=[workspace.database], write=workspace.snapshots)
    about, versions = _Building(system.case_name, workspace, _columns(system)), {}
    for span, version in _run(client, partial(_build, about), spans, what=_batch_named, case=system.case_name):
        versions[span[-1]] = version
        progress(1, len(names))

    files = {name: workspace.snapshots / versions[name] / "rows.parquet" for name in names}
    schemas = [pq.read_schema(file).remove_metadata() for file in files.values()]
    schema = pa.unify_schemas(schemas, promote_options="permissive")  # a column may be empty in one batch

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema) as writer:
            for name, file in files.items():
                writer.write_table(pq.read_table(file, filters=[("batch", "==", name)]).cast(schema))

    batch._replace(target, write, by=target.parent)
    return pq.read_metadata(target).num_rows


def _columns(system: System) -> tuple[tuple[str, str], ...]:
    """The columns that the steps of the pipeline ask for, as it names them."""
    specification = system.specification
    return (
        ("target", specification.target.column),
        ("prediction_time", specification.timing.prediction_time),
        ("label_time", specification.timing.label_time),
    )


def _batch_named(names: tuple[str, ...]) -> str:
    return f"batch {names[-1]}"


def _build(job: _Building, names: tuple[str, ...]) -> str:
    """The version of the snapshot with the rows of these batches, by the pipeline's own steps."""
    version = _usable_rows(job.case, names, job.workspace, dict(job.columns))
    data.load_snapshot(
        job.workspace.snapshots, version
    )  # raises if files that were there before are not what they were
    return version


def _usable_rows(case: str, names: Sequence[str], workspace: Workspace, columns: dict[str, str]) -> str:
    """The steps up to the rows that may be used; their fingerprints of code are for a cache, and there is none here."""
    raw = steps.raw_tables(case, "", list(names), {}, "", workspace)
    valid = steps.valid_tables(raw, case, "", "", workspace)
    rows = steps.prediction_rows(valid, case, "", "", workspace)
    return steps.usable_rows(rows, [], workspace.withheld_ids(), [], columns, "", "", workspace)


# Search ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Search:
    """The settings with the lowest mean log loss, and what was tried: a row a draw, in the order in which they came.

    `table` has a column for each setting, `fold_0` and so on with the log loss (nats) of each fold, and their mean.
    """

    best: dict[str, Any]
    table: pd.DataFrame


@dataclass(frozen=True)
class _Searching:
    """What a worker has to know to score one draw."""

    case: str
    workspace: Workspace
    rows: str
    kind: str
    columns: tuple[tuple[str, str], ...]
    seed: int


def search(
    system: System,
    batches: Sequence[str],
    *,
    client: "Client",
    draws: int,
    seed: int = 0,
    kind: str = SEARCHED,
    settings: Mapping[str, Any] = MappingProxyType(SETTINGS),
    progress: Callable[[int, int | None], None] = lambda draws, of: None,
) -> Search:
    """Random search for the settings of a kind of model, on the rows that the pipeline would train it on.

    The draws, the folds and the scores are those of `training.search` with the same seed; the best are not fitted
    again. `kind` is a name that `training.candidates` gives, `settings` maps names of parameters to lists or scipy
    distributions. `progress` is told of draws.

    Raises ValueError for another kind, a name that is no parameter of it or a batch that is not known, ConnectionError
    as `score_to_file` does.
    """
    from sklearn.model_selection import ParameterSampler

    for name in batches:
        system.batch_before(name)  # knows which there are
    models = _candidates(system, seed)
    if kind not in models:
        raise ValueError(f"expected a kind of model out of {list(models)}, got {kind!r}")
    if unknown := sorted(set(settings) - set(models[kind].get_params())):
        raise ValueError(f"expected parameters of {kind}, got {unknown}; see get_params of the model")
    workspace = system.workspace.create()
    usable = _usable_rows(system.case_name, sorted(set(batches)), workspace, dict(_columns(system)))
    rows = steps.split_rows(usable, dict(_columns(system)), "", workspace)
    _check_shared(client, read=[workspace.database], write=workspace.snapshots)
    about = _Searching(system.case_name, workspace, rows, kind, _columns(system), seed)
    drawn = list(enumerate(ParameterSampler(dict(settings), draws, random_state=seed)))
    losses = {}
    for (number, _), found in _run(client, partial(_try, about), drawn, what=_draw_named, case=system.case_name):
        losses[number] = found
        progress(1, len(drawn))
    folds = pd.DataFrame([losses[number] for number, _ in drawn]).add_prefix("fold_")
    table = pd.DataFrame([draw for _, draw in drawn]).join(folds).assign(log_loss=np.average(folds, axis=1))
    return Search(drawn[int(table["log_loss"].argmin())][1], table)


def _draw_named(draw: tuple[int, dict[str, Any]]) -> str:
    return f"the settings {draw[1]}"


def _candidates(system: System, seed: int) -> dict[str, Any]:
    kinds = system.specification.features
    return training.candidates(system.case.derive, numeric=kinds.numeric, categorical=kinds.categorical, seed=seed)


def _try(job: _Searching, draw: tuple[int, dict[str, Any]]) -> list[float]:
    """The log loss of each fold with these settings."""
    system, columns = System(job.case, job.workspace), dict(job.columns)
    rows = _training_rows(job.workspace, job.rows)
    times = {name: rows[columns[name]] for name in ("prediction_time", "label_time")}
    scores = training.cross_validate_in_time(
        _candidates(system, job.seed)[job.kind].set_params(**draw[1]),
        rows[system.specification.inputs.all],
        target=rows[columns["target"]],
        folds=training.TimeFolds(steps.FOLDS, **times),
    )
    return scores["log_loss"].tolist()


def _training_rows(workspace: Workspace, version: str) -> pd.DataFrame:
    with _loading:
        return _load_training_rows(workspace, version)


@lru_cache(maxsize=1)
def _load_training_rows(workspace: Workspace, version: str) -> pd.DataFrame:
    return data.load_snapshot(workspace.snapshots, version)["train"]
