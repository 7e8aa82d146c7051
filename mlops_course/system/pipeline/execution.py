"""How Apache Hamilton runs the steps and keeps their results, safe against a kill at any moment."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlops_course.system.loggers import quiet
from mlops_course.system.pipeline.steps import candidate, judgement, record, rows

if TYPE_CHECKING:
    from hamilton.driver import Driver

UNCACHED = ("case", "workspace", "record")  # inputs that the cache does not look at: steps declare what counts of them
LOCKED_SECONDS = 60  # that a training waits for another one to note what it has kept


def execute(
    results: list[str],
    inputs: Mapping[str, Any],
    *,
    keys: Mapping[str, str],
    folder: Path,
    progress: Callable[[str, str], None] | None = None,
) -> tuple[dict[str, Any], set[str]]:
    """The values of some steps, and the names of the steps that had to run for them.

    Results are kept in `folder` under `keys`, one a step, and the fingerprints of the arguments. `progress` is called
    with the name of a step and "started" or "finished".
    """
    with _cache(keys, folder) as cache:
        driver = make_driver(cache, *([_reporter(progress)] if progress else []))
        with quiet("hamilton.driver", "hamilton.execution"):  # they print a page of asterisks around each error
            values = driver.execute(results, inputs=dict(inputs))
        events = driver.cache.logs(driver.cache.last_run_id)
    ran = {step for step, found in events.items() if any(event.event_type.value == "execute_node" for event in found)}
    return values, ran


def make_driver(*adapters: Any) -> "Driver":
    """Hamilton's driver for the steps."""
    from hamilton import registry as extensions

    extensions.disable_autoload()  # before hamilton.driver: looking for twenty data frame libraries takes seconds
    from hamilton.driver import Builder

    return Builder().with_modules(rows, candidate, judgement, record).with_adapters(*adapters).build()


def _reporter(progress: Callable[[str, str], None]) -> Any:
    """What tells `progress` of each step."""
    from hamilton.lifecycle import NodeExecutionHook

    class Reporter(NodeExecutionHook):
        def run_before_node_execution(self, *, node_name: str, **_: Any) -> None:
            progress(node_name, "started")

        def run_after_node_execution(self, *, node_name: str, success: bool, **_: Any) -> None:
            progress(node_name, "finished")

    return Reporter()


@contextmanager
def _cache(keys: Mapping[str, str], folder: Path) -> Iterator[Any]:
    """Hamilton's cache in a folder, by the keys of the steps, with stores that a kill leaves whole."""
    from hamilton import registry as extensions

    extensions.disable_autoload()
    from hamilton.caching import fingerprinting
    from hamilton.caching.adapter import HamiltonCacheAdapter
    from hamilton.caching.stores.file import FileResultStore
    from hamilton.caching.stores.sqlite import SQLiteMetadataStore

    class Results(FileResultStore):
        def set(self, data_version: str, result: Any, **formats: Any) -> None:
            """Write under another name first: half a result must not be found under its own."""
            partial = f"{data_version}.{os.getpid()}"
            super().set(partial, result, **formats)
            os.replace(self.path / partial, self.path / data_version)

    class Metadata(SQLiteMetadataStore):
        def set(self, *, cache_key: str, **entry: Any) -> None:
            """Replace the entry: a step killed before its result was kept may come out otherwise the next time."""
            self.delete(cache_key)
            super().set(cache_key=cache_key, **entry)

    class Cache(HamiltonCacheAdapter):
        def version_code(self, node_name: str, run_id: str | None = None) -> str:
            """What the step declares, where Hamilton would look at the text of the step alone."""
            return keys.get(node_name, node_name)

    fingerprinting.hash_value.register(ModuleType, lambda case, **_: case.__name__)  # and not of all that is in it
    metadata_store = Metadata(path=folder, connection_kwargs={"timeout": LOCKED_SECONDS})
    try:
        yield Cache(folder, metadata_store, Results(path=folder), ignore=UNCACHED)
    finally:
        metadata_store.connection.close()
