"""A training from batches to a registered version: what goes into the steps, and how Apache Hamilton runs them.

Hamilton keeps the results of steps; its stores are made safe against a kill at any moment. A result is a pickle, which
could run code. So it is read only if it bears a mark (HMAC, RFC 2104) that nobody makes without the key of this
workspace, `cache.key` beside the folder. One without the right mark, be it edited, damaged or exchanged, is made again.
"""

import hashlib
import hmac
import logging
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlops_course import design
from mlops_course.development import data, gate, training
from mlops_course.system.keyed_digests import own_secret
from mlops_course.system.loggers import quiet
from mlops_course.system.pipeline import steps
from mlops_course.system.pipeline.dependencies import (
    CASE,
    DATA_FILES,
    LIBRARIES,
    STORE,
    case_version,
    keys_of,
    package_version,
)
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from hamilton.driver import Driver

_logger = logging.getLogger(__name__)
RESULTS = [
    *("registered_version", "lineage_run", "gate_report", "evidence", "raw_tables", "valid_tables"),
    *("fold_scores", "chosen_model", "threshold"),
]
MARK = "sha256"  # of a kept result and of the entry that names it
UNCACHED = ("case", "workspace", "record")  # inputs that the cache does not look at: steps declare what counts of them
LOCKED_SECONDS = 60  # that a training waits for another one to note what it has kept


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What came of a training: the version in the registry, why the gate passed or refused it, and what it rests on.

    `fold_scores` says how each kind of model did on periods after its training, `metrics` how the candidate did on the
    last rows, with intervals. `executed` are the steps that ran, `cached` those whose result was kept from before;
    `run_id` is the MLflow run that holds the lineage, `data_version` the snapshot of the raw tables.
    """

    version: int
    run_id: str
    gate: gate.GateReport
    findings: pd.DataFrame
    fold_scores: pd.DataFrame
    metrics: pd.DataFrame
    data_version: str
    chosen_model: str
    threshold: float
    executed: tuple[str, ...]
    cached: tuple[str, ...]


def train(
    case: ModuleType,
    batches: Sequence[str],
    *,
    workspace: Workspace,
    seed: int,
    exclusions: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[str, str], None] | None = None,
) -> TrainingResult:
    """Train a candidate on `batches`, put it through the gate, and register it with its contract.

    `case` is a package with the names of `system.CASE`. `exclusions` say what must not be trained on, as plain values
    of `retraining.Exclusion`; they go on record with the run. `progress` is called with the name of a step and
    "started" or "finished". A version that the gate refuses is registered too, with the reasons and without any role.

    Raises SpecificationError for a defect of the specification, InvalidBatch if the data must not be used,
    CorruptedError if the exclusions leave too little of it; then nothing is registered.
    """
    inputs, keys = _inputs(case, batches, workspace, seed)
    inputs |= {"exclusions": [*map(dict, exclusions)]}
    values, ran = _execute(RESULTS, inputs, keys=keys, folder=workspace.cache, progress=progress)
    return TrainingResult(
        version=values["registered_version"],
        run_id=values["lineage_run"],
        gate=values["gate_report"],
        findings=values["valid_tables"].findings,
        fold_scores=values["fold_scores"],
        metrics=values["evidence"]["metrics"],
        data_version=values["raw_tables"],
        chosen_model=values["chosen_model"],
        threshold=values["threshold"],
        executed=tuple(step for step in steps.__all__ if step in ran),
        cached=tuple(step for step in steps.__all__ if step not in ran),
    )


def prediction_rows(case: ModuleType, batches: Sequence[str], *, workspace: Workspace) -> pd.DataFrame:
    """The prediction frame of `batches`, through the same steps as for training: validated, cleaned, built, kept.

    Raises InvalidBatch if the data must not be used.
    """
    inputs, keys = _inputs(case, batches, workspace, seed=0)
    values, _ = _execute(["usable_rows"], inputs | {"exclusions": []}, keys=keys, folder=workspace.cache)
    return data.load_snapshot(workspace.snapshots, values["usable_rows"])["rows"]


def graph() -> str:
    """The steps of the pipeline and what each needs, as the text of a Mermaid flowchart."""
    variables = sorted(_driver().list_available_variables(), key=lambda variable: variable.name)
    shown = [variable for variable in variables if variable.name not in UNCACHED]
    nodes = [variable for variable in shown if not variable.is_external_input]
    lines = ["flowchart TD"]
    lines += [f"    {variable.name}([{variable.name}])" for variable in shown if variable.is_external_input]
    lines += [f"    {step.name}[{step.name}]" for step in nodes]
    lines += [
        f"    {need} --> {step.name}" for step in nodes for need in sorted(step.required_dependencies - {*UNCACHED})
    ]
    return "\n".join(lines) + "\n"


def columns_of(specification: design.Specification) -> dict[str, Any]:
    """The names of the columns that steps ask for, by what they are used for."""
    inputs = specification.inputs
    return {
        "target": specification.target.column,
        "prediction_time": specification.timing.prediction_time,
        "label_time": specification.timing.label_time,
        "lead": str(specification.timing.lead),
        "inputs": [*inputs.datetime, *inputs.numeric, *inputs.categorical],
        "numeric": list(specification.features.numeric),
        "categorical": list(specification.features.categorical),
    }


def _inputs(case: ModuleType, batches: Sequence[str], workspace: Workspace, seed: int) -> tuple[dict, dict[str, str]]:
    """What steps may ask for, in plain values that Hamilton can fingerprint, and the keys of their code."""
    workspace.create()
    specification = design.load_specification(case.SPECIFICATION)
    written = specification.model_dump(mode="json")
    batches = sorted(set(batches))
    facts = {
        CASE: case_version(case),
        DATA_FILES: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in case.files(batches)},
        LIBRARIES: training.libraries(),
        STORE: workspace.store,
    }
    keys = keys_of([getattr(steps, name) for name in steps.__all__], facts)
    costs = {error: written["costs"][error] for error in ("false_alarm", "missed")}
    measurement = {"min_rows": specification.gates.min_slice_rows, "seed": seed, "slices": written["slices"]}
    # What the run in MLflow says about the code, for people; no step's result depends on it
    record = {"code_version": package_version(), "case_code": facts[CASE], "commit": _commit()}
    inputs = {
        "case": case,
        "batches": batches,
        "specification": written,
        "columns": columns_of(specification),
        "costs": costs,
        "measurement": costs | measurement,
        "gates": written["gates"],
        "seed": seed,
        "champion": workspace.registry(case).champion(),
        "withheld": workspace.withheld_ids(),
        "workspace": workspace,
        "record": record | {"picture": graph(), "steps": keys},
    }
    return inputs, keys


def _commit() -> str:
    """The commit that is checked out where the package lies, or that there is none."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True)
    except OSError:  # no git on this computer
        return "none"
    return done.stdout.strip() if done.returncode == 0 else "none"


def _execute(
    results: list[str],
    inputs: Mapping[str, Any],
    *,
    keys: Mapping[str, str],
    folder: Path,
    progress: Callable[[str, str], None] | None = None,
) -> tuple[dict[str, Any], set[str]]:
    """The values of some steps, and the names of the steps that had to run for them.

    Results are kept in `folder` under `keys`, one a step, and the fingerprints of the arguments.
    """
    with _cache(keys, folder) as cache:
        driver = _driver(cache, *([_reporter(progress)] if progress else []))
        with quiet("hamilton.driver", "hamilton.execution"):  # they print a page of asterisks around each error
            values = driver.execute(results, inputs=dict(inputs))
        events = driver.cache.logs(driver.cache.last_run_id)
    ran = {step for step, found in events.items() if any(event.event_type.value == "execute_node" for event in found)}
    return values, ran


def _driver(*adapters: Any) -> "Driver":
    """Hamilton's driver for the steps."""
    from hamilton import registry as extensions

    extensions.disable_autoload()  # before hamilton.driver: looking for twenty data frame libraries takes seconds
    from hamilton.driver import Builder

    modules = steps.rows, steps.candidate, steps.judgement, steps.record
    return Builder().with_modules(*modules).with_adapters(*adapters).build()


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
    from hamilton.caching.stores.base import ResultRetrievalError, StoredResult
    from hamilton.caching.stores.file import FileResultStore
    from hamilton.caching.stores.sqlite import SQLiteMetadataStore

    secret = own_secret(folder.with_suffix(".key"))

    def mark(name: str, content: bytes) -> bytes:
        return hmac.digest(secret, name.encode() + b"\0" + content, MARK)

    class Results(FileResultStore):
        def set(self, data_version: str, result: Any, **_: Any) -> None:
            """Write under another name first: half a result must not be found under its own."""
            partial, content = self.path / f"{data_version}.{os.getpid()}", StoredResult.new(value=result).save()
            partial.write_bytes(mark(data_version, content) + content)
            os.replace(partial, self.path / data_version)

        def get(self, data_version: str) -> Any:
            kept = (self.path / data_version).read_bytes()
            size = hashlib.new(MARK).digest_size
            if not hmac.compare_digest(kept[:size], mark(data_version, kept[size:])):
                _logger.warning("a kept result bears no mark of this workspace, and is made again: %s", data_version)
                raise ResultRetrievalError(data_version)
            return StoredResult.load(kept[size:]).value

    class Metadata(SQLiteMetadataStore):
        def set(self, *, cache_key: str, data_version: str, **entry: Any) -> None:
            """Replace the entry: a step killed before its result was kept may come out otherwise the next time."""
            self.delete(cache_key)
            entry["code_version"] = mark(cache_key, data_version.encode()).hex()  # which nothing else reads
            super().set(cache_key=cache_key, data_version=data_version, **entry)

        def get(self, cache_key: str) -> str | None:
            query = "SELECT data_version, code_version FROM cache_metadata WHERE cache_key = ?"
            found, found_mark = self.connection.execute(query, (cache_key,)).fetchone() or (None, "")
            if found and hmac.compare_digest(found_mark, mark(cache_key, found.encode()).hex()):
                return found
            return None

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
