"""Tasks on workers: each is done, whoever dies, or the run ends by its name."""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .connection import LOCAL, WORKERS_SECONDS, _demand, _versions, _workers

if TYPE_CHECKING:
    from distributed import Client

CHECK_SECONDS = 120  # for every worker to import the package and look at the files; more if it is busy elsewhere
LOOK_SECONDS = 2  # how often to look whether there are workers still
RETRIES = 2  # of a task that raised: a disk may be away for a moment

_loading = threading.Lock()


def once_a_worker(load: Callable) -> Callable:
    """Decorate what loads a model or rows: a worker, which may have several threads, keeps the last that it loaded.

    `cache_info` counts the loads, as that of `functools.lru_cache` does.
    """
    kept = lru_cache(maxsize=1)(load)

    @wraps(load)
    def loaded(*arguments: Any) -> Any:
        with _loading:
            return kept(*arguments)

    loaded.cache_info = kept.cache_info  # type: ignore[attr-defined]
    return loaded


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
