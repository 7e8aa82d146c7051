"""A cluster whose workers are as this machine is, and tasks on it that are done even if a worker dies."""

import logging
import os
import platform
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import lru_cache, partial, wraps
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlops_course.development import training
from mlops_course.system.loggers import quiet
from mlops_course.system.pipeline.dependencies import code_version, package_version

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
CONNECT_SECONDS = 20  # for a scheduler to answer
WORKERS_SECONDS = 60  # for a first worker to be there, and for one to come back when all are gone
LOOK_SECONDS = 2  # how often to look whether there are workers still
RETRIES = 2  # of a task that raised: a disk may be away for a moment
DEATHS = 3  # of workers on one task, of a cluster started here; elsewhere its own setting counts, which is 3 unless set

_loading = threading.Lock()


class MissingExtraError(ImportError):
    """What works on clusters is not installed."""


@contextmanager
def connect(scheduler: str, *, workers: int | None = None) -> Iterator["Client"]:
    """A client of the cluster at `scheduler`, such as "tcp://10.0.0.1:8786", or of one started here for "local".

    One that is started here has `workers` processes of one thread, as many as there are cores if not given, listens on
    127.0.0.1, and ends with the `with` block. Elsewhere, `workers` is how many must be there before work begins, one if
    not given. Anyone who reaches the ports of a cluster can run any code on it: keep them in a closed network.

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
    told = [f"distributed.{name}" for name in ("client", "core", "utils")]  # of a lost connection, in tracebacks
    with quiet(*told), _started(scheduler, workers) as address:
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
            try:
                client.wait_for_workers(workers or 1, timeout=WORKERS_SECONDS)
            except TimeoutError as error:
                raise ConnectionError(
                    f"expected {workers or 1} workers at {scheduler} within {WORKERS_SECONDS} s, found "
                    f"{_count_workers(client)}; start some: dask worker {scheduler}"
                ) from error
            _check_versions(client)
            yield client


@contextmanager
def _started(scheduler: str, workers: int | None) -> Iterator[str]:
    """The address of the scheduler; a local one lives as long as the block."""
    if scheduler != LOCAL:
        yield scheduler
        return
    from dask import config
    from distributed import LocalCluster

    count = workers or os.cpu_count() or 1
    patient = {f"distributed.comm.timeouts.{step}": f"{WORKERS_SECONDS} s" for step in ("connect", "tcp")}
    with TemporaryDirectory() as folder, config.set({"distributed.scheduler.allowed-failures": DEATHS, **patient}):
        here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "local_directory": folder}
        try:
            cluster = LocalCluster(n_workers=count, threads_per_worker=1, silence_logs=logging.CRITICAL, **here)
        except RuntimeError as error:
            raise ConnectionError(f"expected to start {count} workers here, but: {error}; try fewer") from error
        with cluster:
            yield cluster.scheduler_address


def _count_workers(client: "Client") -> int:
    """How many workers the scheduler knows now; none if it is gone."""
    return len(client.scheduler_info(n_workers=-1).get("workers", ()))


def _check_versions(client: "Client") -> None:
    """Dask only warns of another version, and does not look at libraries that it does not use itself."""
    try:
        found = client.run(_versions)
    except ModuleNotFoundError as error:
        raise ValueError(f"expected mlops-course on every worker, got: {error}; install it there") from error
    for worker, theirs in found.items():
        _demand(_versions(), theirs, worker)


@lru_cache
def _versions(case: str | None = None) -> dict[str, str]:
    """What decides the result of a task, besides its arguments: libraries, and code, that of a case included."""
    code = package_version()[:12]
    if case:
        try:
            code += f" and {code_version(import_module(case))[:12]}"
        except ModuleNotFoundError as error:
            raise ValueError(
                f"expected the package {case} on {platform.node()}, got: {error}; install it there"
            ) from error
    libraries = training.libraries() | {"pyarrow": metadata.version("pyarrow")}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **libraries, "the code": code}


def _demand(ours: Mapping[str, str], theirs: Mapping[str, str], worker: str) -> None:
    if other := [
        f"{name} {version}, found {theirs.get(name)}" for name, version in ours.items() if theirs.get(name) != version
    ]:
        raise ValueError(
            f"on worker {worker}: expected {'; expected '.join(other)}; results would not be those of this machine: "
            "install there what constraints.txt names, and the same checkout"
        )


def _check_shared(client: "Client", *, read: Sequence[Path], write: Path | None = None) -> None:
    """See that every worker has these very files, and may write to this very folder, before any of them begins.

    Raises ConnectionError naming a worker that has not.
    """
    sizes = {path.as_posix(): path.stat().st_size for path in read}
    token = write / f"{uuid.uuid4().hex}.token" if write else None
    if token:
        token.write_text("a worker reads this, and writes it again beside it", encoding="utf-8")
    try:
        for worker, fault in client.run(_look, sizes, token).items():
            if fault:
                raise ConnectionError(
                    f"worker {worker} {fault}; workers see only what they share with this machine under the same "
                    f"path: use a shared folder, or --scheduler {LOCAL}"
                )
    finally:
        if token:
            token.unlink(missing_ok=True)


def _look(sizes: Mapping[str, int], token: Path | None) -> str:
    """What this worker lacks, or an empty text."""
    try:
        for name, size in sizes.items():
            with open(name, "rb") as file:
                found = os.fstat(file.fileno()).st_size
            if found != size:
                return f"has another file as {name}, of {found:,} bytes instead of {size:,}"
        if token:
            answer = token.with_suffix(f".{uuid.uuid4().hex}")
            answer.write_bytes(token.read_bytes())
            answer.unlink()
    except OSError as error:
        return f"cannot read or write {error.filename} ({error.strerror})"
    return ""


def _run(
    client: "Client", task: Callable, arguments: Sequence[Any], *, what: Callable[[Any], str], case: str | None = None
) -> Iterator[Any]:
    """Pairs of an argument and what `task` made of it, as they are done; `what` says what an argument stands for.

    `case` is the package of the case whose code the task runs, if it does. A task whose worker died is done by another.
    Raises what a task raised, once it has done so `RETRIES` times more, and ConnectionError if workers die of it or if
    all of them, or the scheduler, stay away.
    """
    from distributed import wait
    from distributed.scheduler import KilledWorker

    futures = client.map(partial(_checked, task, case, _versions(case)), arguments, retries=RETRIES, pure=False)
    waiting, seen = dict(zip(futures, arguments, strict=True)), time.monotonic()
    del futures  # of a future that nobody holds, the scheduler forgets the result
    try:
        while waiting:
            done = ()
            with suppress(TimeoutError), client.as_current():
                done = wait(list(waiting), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done
            for future in done:
                yield waiting[future], future.result()
                del waiting[future]
            with suppress(OSError):  # if nobody answers, nobody works
                seen = time.monotonic() if _count_workers(client) else seen
            if time.monotonic() - seen > WORKERS_SECONDS:
                raise ConnectionError(
                    f"expected workers for {len(waiting)} more tasks, found none for {WORKERS_SECONDS} s; start some, "
                    "and this again: what is done is kept"
                )
    except KilledWorker as error:
        raise ConnectionError(
            f"expected an answer for {what(waiting[future])}, but every worker that began it died, the last on "
            f"{error.last_worker.address}; see its log, and give workers more memory if that ran out"
        ) from error
    except CancelledError as error:
        raise ConnectionError("the scheduler is gone; start it, and this again: what is done is kept") from error
    finally:
        if waiting and client.status == "running":
            client.cancel(list(waiting))


def _checked(task: Callable, case: str | None, versions: Mapping[str, str], argument: Any) -> Any:
    """The task, where it may be done: a worker that joined later has not been checked at the start."""
    _demand(versions, _versions(case), platform.node())
    return task(argument)


def once_a_worker(load: Callable) -> Callable:
    """Decorate what loads a model or rows: a worker, which may have several threads, keeps the last that it loaded."""
    kept = lru_cache(maxsize=1)(load)

    @wraps(kept)
    def loaded(*arguments: Any) -> Any:
        with _loading:
            return kept(*arguments)

    return loaded
