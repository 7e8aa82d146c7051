"""A cluster that is there, and whose workers are as this machine is."""

import logging
import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module, metadata
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

from mlops_course.development import training
from mlops_course.system.loggers import quiet
from mlops_course.system.pipeline.dependencies import code_version, package_version

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
CODE = "the code"  # of the package, and of the case
CONNECT_SECONDS = 20  # for a scheduler to answer
WORKERS_SECONDS = 60  # for a first worker to be there, and for one to come back when all are gone
DEATHS = 3  # of workers on one task, of a cluster started here; elsewhere its own setting counts, which is 3 unless set


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
            _await_workers(client, workers or 1, scheduler)
            _check_versions(client)
            yield client


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
    libraries = [name for name in ours if name not in ("Python", CODE)]
    found = client.get_versions(packages=["mlops-course", *libraries])["workers"]
    for worker, theirs in found.items():
        packages = theirs["packages"]
        there = {"Python": ".".join(packages["python"].split(".")[:2])} | {name: packages[name] for name in libraries}
        if packages["mlops-course"] is None:
            raise ValueError(f"expected mlops-course on every worker, found none on {worker}; install it there")
        _demand({name: ours[name] for name in there}, there, worker)


@lru_cache
def _versions(case: str | None = None) -> dict[str, str]:
    """What decides the result of a task, besides its arguments: libraries, and code, that of a case included."""
    code = package_version()[:12] + (f" and {code_version(_module(case))[:12]}" if case else "")
    libraries = training.libraries() | {"pyarrow": metadata.version("pyarrow")}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **libraries, CODE: code}


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
