"""The training pipeline: raw batches in, a registered version out, and nothing done twice.

    train             run what has to be run, and say what came of it
    graph             the steps and what each needs, as Mermaid text
    TrainingResult    the outcome: version, gate report, metrics, and which steps ran

The steps are the functions of `steps`. Apache Hamilton puts them in order by the names of their parameters and
keeps each result under what it was made from: the source of the step and the fingerprints of all that went in. Data go
in as digests of files, code of stages as digests of modules. So a rerun does nothing, a change reruns what lies
downstream of it, and a run that was killed goes on where it stopped. One training at a time in a workspace.

    result = train(case, ["2013-01", "2013-02"], workspace=Workspace.locate(), seed=0)
    result.gate.passed, result.executed
"""

import hashlib
import inspect
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlops_course import design
from mlops_course.development import data, evaluation, features, gate, training, validation
from mlops_course.operations import registry, retraining
from mlops_course.operations.monitoring import faults
from mlops_course.system.loggers import quiet
from mlops_course.system.pipeline import steps
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from hamilton.driver import Driver

__all__ = ["TrainingResult", "graph", "prediction_rows", "train"]

STAGES = (data, validation, features, faults, retraining, training, evaluation, gate, registry)
LIBRARIES = ("numpy", "pandas", "scikit-learn")  # whose version may change what a fit gives
WHERE = ["workspace", "record"]  # inputs that change where results are kept and how they are labelled, but no result
PLACES = [*WHERE, "store"]  # inputs that say nothing in a picture of the steps
LOCKED_SECONDS = 60  # that a training waits for another one to note what it has kept
RESULTS = [
    *("registered_version", "lineage_run", "gate_report", "evidence", "raw_tables", "valid_tables"),
    *("fold_scores", "chosen_model", "threshold"),
]


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What came of a training: the version in the registry, why the gate passed or refused it, and what it rests on.

    `findings` is what validation found, `fold_scores` how each kind of model did on periods after its training,
    `metrics` how the candidate did on the last rows, with intervals. `executed` are the steps that ran, `cached` those
    whose result was kept from before; `run_id` is the MLflow run that holds the lineage, `data_version` the snapshot of
    the raw tables.
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
    drill: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[str, str], None] | None = None,
) -> TrainingResult:
    """Train a candidate on `batches`, put it through the gate, and register it with its contract.

    `case` is a package with the seven names that `system.CASE` lists. `exclusions` say what of the batches must not
    be trained on, as plain values of `retraining.Exclusion`; they go on record with the run. `drill` are plain values
    of `faults.Fault` that corrupt the rows before that: to find out what comes of them, never in earnest. `progress` is
    called with the name of a step and "started" or "finished"; the names are those of `steps.__all__`. A
    version that the gate refuses is registered too, with the reasons and without any role.

    Raises SpecificationError for a defect of the specification, InvalidBatch if the data must not be used,
    CorruptedError if the exclusions leave too little of it; then nothing is registered.
    """
    changes = {"exclusions": exclusions, "drill": drill}
    values, ran = _execute(RESULTS, case, batches, workspace=workspace, seed=seed, progress=progress, **changes)
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


def prediction_rows(
    case: ModuleType, batches: Sequence[str], *, workspace: Workspace, drill: Sequence[Mapping[str, Any]] = ()
) -> pd.DataFrame:
    """The prediction frame of `batches`, through the same steps as for training: validated, cleaned, built, kept.

    With the faults of a `drill`, as for `train`. Raises InvalidBatch if the data must not be used.
    """
    values, _ = _execute(["usable_rows"], case, batches, workspace=workspace, seed=0, drill=drill)
    return data.load_snapshot(workspace.snapshots, values["usable_rows"])["rows"]


def _execute(
    results: list[str],
    case: ModuleType,
    batches: Sequence[str],
    *,
    workspace: Workspace,
    seed: int,
    exclusions: Sequence[Mapping[str, Any]] = (),
    drill: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[str, str], None] | None = None,
) -> tuple[dict[str, Any], set[str]]:
    """The values of some steps, and the names of the steps that had to run for them."""
    workspace.create()
    with _stores(workspace.cache) as (metadata_store, result_store):
        driver = _driver(progress, metadata_store=metadata_store, result_store=result_store, path=workspace.cache)
        with quiet("hamilton.driver", "hamilton.execution"):  # they print a page of asterisks around each error
            inputs = _inputs(case, batches, workspace, seed)
            inputs |= {"exclusions": [*map(dict, exclusions)], "drill": [*map(dict, drill)]}
            values = driver.execute(results, inputs=inputs)
        events = driver.cache.logs(driver.cache.last_run_id)
    ran = {step for step, found in events.items() if any(event.event_type.value == "execute_node" for event in found)}
    return values, ran


def graph(*, executed: Collection[str] = ()) -> str:
    """The steps of the pipeline and what each needs, as the text of a Mermaid flowchart; `executed` steps stand out."""
    variables = sorted(_driver().list_available_variables(), key=lambda variable: variable.name)
    nodes = [variable for variable in variables if not variable.is_external_input]
    inputs = [variable.name for variable in variables if variable.is_external_input and variable.name not in PLACES]
    lines = ["flowchart TD"]
    lines += [f"    {name}([{name}])" for name in inputs]
    lines += [f"    {step.name}[{step.name}]" for step in nodes]
    lines += [
        f"    {need} --> {step.name}" for step in nodes for need in sorted(step.required_dependencies - {*PLACES})
    ]
    if executed:
        lines += ["    classDef executed fill:#E69F00,color:#000", f"    class {','.join(executed)} executed"]
    return "\n".join(lines) + "\n"


def _inputs(case: ModuleType, batches: Sequence[str], workspace: Workspace, seed: int) -> dict[str, Any]:
    """Everything that a step may ask for, in plain values: Hamilton fingerprints them by their content."""
    specification = design.load_specification(case.SPECIFICATION).model_dump(mode="json")
    batches, inputs, features = sorted(set(batches)), specification["inputs"], specification["features"]
    return {
        "case": case.__name__,
        "case_code": _code_version(case),
        "batches": batches,
        "data_files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in case.files(batches)},
        **{f"{stage.__name__.rpartition('.')[2]}_code": _code_version(stage) for stage in STAGES},
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "specification": specification,
        "columns": {
            "target": specification["target"]["column"],
            "prediction_time": specification["timing"]["prediction_time"],
            "label_time": specification["timing"]["label_time"],
            "inputs": [name for kind in ("datetime", "numeric", "categorical") for name in inputs[kind]],
            **{kind: list(features[kind]) for kind in ("numeric", "categorical")},
        },
        "slices": specification["slices"],
        "costs": {error: specification["costs"][error] for error in ("false_alarm", "missed")},
        "gates": specification["gates"],
        "min_slice_rows": specification["gates"]["min_slice_rows"],
        "seed": seed,
        "champion": workspace.registry(case).champion(),
        "store": workspace.store,
        "withheld": workspace.withheld_ids(),
        "workspace": workspace,
        "record": _record(),
    }


def _code_version(module: ModuleType) -> str:
    """Digest of a module's source; of all Python files of its folder if it is a package."""
    file = Path(inspect.getfile(module))
    return training.code_version(sorted(file.parent.rglob("*.py")) if hasattr(module, "__path__") else [file])


def _record() -> dict[str, Any]:
    """What the run in MLflow says about the code as a whole, for people; no step's result depends on it."""
    folder = Path(__file__).parents[2]  # the whole package
    code = {"code_version": training.code_version(sorted(folder.rglob("*.py"))), "commit": _commit(folder)}
    return code | _drawn_steps()


@cache
def _drawn_steps() -> dict[str, Any]:
    """The picture of the steps, and Hamilton's version of each by its source: half a second of hashing."""
    versions = {variable.name: variable.version for variable in _driver().list_available_variables()}
    return {"picture": graph(), "steps": {step: versions[step] for step in steps.__all__}}


def _commit(folder: Path) -> str:
    """The commit that is checked out where the package lies, or that there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True)
    except OSError:  # no git on this computer
        return "none"
    return done.stdout.strip() if done.returncode == 0 else "none"


# Hamilton: how steps are run and their results kept -------------------------------------------------------------------


def _driver(progress: Callable[[str, str], None] | None = None, **cache: Any) -> "Driver":
    from hamilton import registry as extensions

    extensions.disable_autoload()  # before hamilton.driver: looking for twenty data frame libraries takes seconds
    from hamilton.driver import Builder
    from hamilton.lifecycle import NodeExecutionHook

    class Progress(NodeExecutionHook):
        def run_before_node_execution(self, *, node_name: str, **_: Any) -> None:
            progress(node_name, "started")

        def run_after_node_execution(self, *, node_name: str, success: bool, **_: Any) -> None:
            progress(node_name, "finished")

    builder = Builder().with_modules(steps)
    if cache:
        builder = builder.with_cache(**cache, ignore=WHERE)
    return builder.with_adapters(Progress()).build() if progress else builder.build()


@contextmanager
def _stores(folder: Path) -> Iterator[tuple[Any, Any]]:
    """Hamilton's stores on disk, made safe against a kill at any moment."""
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

    metadata_store = Metadata(path=folder, connection_kwargs={"timeout": LOCKED_SECONDS})
    try:
        yield metadata_store, Results(path=folder)
    finally:
        metadata_store.connection.close()
