"""The prediction frame of many batches, and a random search for settings on their rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_course.development import data, training
from mlops_course.operations.deployment import batch
from mlops_course.system import pipeline
from mlops_course.system.pipeline import steps
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .workers import _check_shared, _run, once_a_worker

if TYPE_CHECKING:
    from distributed import Client

KIND = "gradient_boosting"  # of model whose settings are searched
SETTINGS = {"classify__max_iter": [20, 40, 100, 200], "classify__max_leaf_nodes": [4, 8, 16, 31]}


def features(
    system: System,
    batches: Sequence[str],
    *,
    target: Path,
    client: "Client",
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> int:
    """Write the prediction frame of `batches` to `target` (.parquet), and return its number of rows.

    Each batch is built by itself, with the batch before it, if that is among `batches`, for what was known. This gives
    the frame of the pipeline if a row looks no further back than a batch, as `scoring.score` supposes too, and if what
    it sums are whole numbers, such as minutes and counts. `progress` is told of batches.

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
    build, versions = partial(_usable_rows, System(system.case_name, workspace)), {}
    for span, version in _run(client, build, spans, what=lambda names: f"batch {names[-1]}", case=system.case_name):
        versions[span[-1]] = version
        progress(1, len(names))

    files = {name: workspace.snapshots / versions[name] / "rows.parquet" for name in names}
    schemas = [pq.read_schema(file).remove_metadata() for file in files.values()]
    schema = pa.unify_schemas(schemas, promote_options="permissive")  # a column may be empty in one batch

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema) as writer:
            for name, file in files.items():
                writer.write_table(pq.read_table(file, filters=[("batch", "==", name)]).cast(schema))

    batch.replace_file(target, write, by=target.parent)
    return pq.read_metadata(target).num_rows


def _usable_rows(system: System, names: Sequence[str]) -> str:
    """The version of the snapshot with the rows of these batches, by the pipeline's own steps, without a cache."""
    case, workspace, columns = system.case, system.workspace, pipeline.columns_of(system.specification)
    raw = steps.raw_tables(list(names), case, workspace)
    rows = steps.prediction_rows(steps.valid_tables(raw, case, workspace), case, workspace)
    version = steps.usable_rows(rows, workspace.withheld_ids(), [], columns, workspace)
    data.load_snapshot(workspace.snapshots, version)  # raises if a file that was there before has been altered
    return version


@dataclass(frozen=True, eq=False)
class Search:
    """The settings with the lowest mean log loss, and what was tried: a row a draw, in the order in which they came.

    `table` has a column for each setting, `fold_0` and so on with the log loss (nats) of each fold, and their mean.
    """

    best: dict[str, Any]
    table: pd.DataFrame


def search(
    system: System,
    batches: Sequence[str],
    *,
    client: "Client",
    draws: int,
    seed: int = 0,
    progress: Callable[[int, int | None], None] = lambda draws, of: None,
) -> Search:
    """Random search for settings of gradient boosting, on the rows that the pipeline would train it on.

    The draws, the folds and the scores are those of `training.search` with the same seed; the best are not fitted
    again. `progress` is told of draws. Raises ValueError for an unknown batch, ConnectionError as `score_to_file` does.
    """
    from sklearn.model_selection import ParameterSampler

    for name in batches:
        system.batch_before(name)  # knows which there are
    workspace = system.workspace.create()
    usable = _usable_rows(system, sorted(set(batches)))
    rows = steps.split_rows(usable, pipeline.columns_of(system.specification), workspace)
    _check_shared(client, read=[workspace.database], write=workspace.snapshots)
    drawn, losses = list(ParameterSampler(SETTINGS, draws, random_state=seed)), {}
    task, numbers = partial(_try, System(system.case_name, workspace), rows, seed, drawn), list(range(len(drawn)))
    for number, found in _run(client, task, numbers, what=lambda at: f"settings {drawn[at]}", case=system.case_name):
        losses[number] = found
        progress(1, len(drawn))
    folds = pd.DataFrame([losses[number] for number in numbers]).add_prefix("fold_")
    table = pd.DataFrame(drawn).join(folds).assign(log_loss=np.average(folds, axis=1))
    return Search(drawn[int(table["log_loss"].argmin())], table)


def _try(system: System, version: str, seed: int, drawn: list[dict[str, Any]], number: int) -> list[float]:
    """The log loss of each fold with the settings of a draw."""
    columns, rows = pipeline.columns_of(system.specification), _training_rows(system.workspace, version)
    kinds = {kind: columns[kind] for kind in ("numeric", "categorical")}
    times = {name: rows[columns[name]] for name in ("prediction_time", "label_time")}
    scores = training.cross_validate_in_time(
        training.candidates(system.case.derive, **kinds, seed=seed)[KIND].set_params(**drawn[number]),
        rows[columns["inputs"]],
        target=rows[columns["target"]],
        folds=training.TimeFolds(training.FOLDS, **times),
    )
    return scores["log_loss"].tolist()


@once_a_worker
def _training_rows(workspace: Workspace, version: str) -> pd.DataFrame:
    return data.load_snapshot(workspace.snapshots, version)["train"]
