"""The prediction frame of many batches."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mlops_course.development import data
from mlops_course.operations.deployment import batch
from mlops_course.system import pipeline
from mlops_course.system.pipeline import steps
from mlops_course.system.system import System

from .tasks import _check_shared, _run

if TYPE_CHECKING:
    from distributed import Client


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
    build, versions = partial(_build, System(system.case_name, workspace)), {}
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


def _build(system: System, names: tuple[str, ...]) -> str:
    """The version of the snapshot with the rows of these batches, by the pipeline's own steps."""
    version = _usable_rows(system, names)
    data.load_snapshot(system.workspace.snapshots, version)  # raises if a file that was there before has been altered
    return version


def _usable_rows(system: System, names: Sequence[str]) -> str:
    """The steps up to the rows that may be used, without a cache."""
    case, workspace, columns = system.case, system.workspace, pipeline.columns_of(system.specification)
    raw = steps.raw_tables(list(names), case, workspace)
    rows = steps.prediction_rows(steps.valid_tables(raw, case, workspace), case, workspace)
    return steps.usable_rows(rows, workspace.withheld_ids(), [], columns, workspace)
