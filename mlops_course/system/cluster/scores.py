"""Predictions for a file or a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_course.operations.deployment import batch
from mlops_course.operations.registry import Registered
from mlops_course.system import scoring
from mlops_course.system.system import System

from .parts import _read, _rows_named, _Span, _spans
from .tasks import _check_shared, _run, once_a_worker

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class _Scoring:
    """What a worker has to know to score a span: names, and no rows and no model."""

    system: System
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
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> batch.Scored:
    """What `scoring.score_to_file` does, by the workers of `client`: the same files, to the bit.

    Each worker loads the model once, from the registry in the workspace, and sees by the digest that it is the one that
    was asked for. Parts go beside the target as they are done, and then into one file, which is there whole or not at
    all. Whoever goes on after a kill, with a cluster or without, uses the parts that are there.

    Raises what `batch.score_file` raises, and ConnectionError if a worker does not see the files, if workers die of a
    part, or if all stay away.
    """
    target = target.resolve()
    with scoring.source_file(system, source, folder=target.parent) as file:  # where workers see it
        path, model, per_part = file.resolve(), system.registry.load(version), batch.ROWS_PER_PART
        run = batch.ScoringRun(path, target, model=model.digest, rows_per_part=per_part)
        if done := run.finished():
            return done
        run.folder.mkdir(parents=True, exist_ok=True)
        _check_shared(client, read=[path, system.workspace.database], write=run.folder)
        bare = System(system.case_name, system.workspace)  # without what `system` has loaded
        about = _Scoring(bare, model.version, model.digest, path, per_part, run.folder)
        parts, new, known = {}, 0, batch.count_rows(path)
        spans = _spans(path, per_part)
        for _, (rows, made) in _run(client, partial(_score, about), spans, what=partial(_rows_named, per_part)):
            parts |= rows
            new += made
            progress(sum(rows.values()), known)
        return run.finish([run.part(number) for number in sorted(parts)], total=sum(parts.values()), new=new)


def _score(job: _Scoring, span: _Span) -> tuple[dict[int, int], int]:
    """Make the parts of a span that are not there: rows of each part by its number, and how many had to be made."""
    paths = {number: job.folder / f"{number:06d}.parquet" for number in range(span.first, span.last or 0)}
    if paths and all(path.exists() for path in paths.values()):
        return {number: min(job.rows, span.rows - at * job.rows) for at, number in enumerate(paths)}, 0
    model = _load(job.system, job.version, job.digest)
    rules, rows, made = scoring.file_rules(model), {}, 0
    for number, part in _read(job.source, job.rows, span):
        path = job.folder / f"{number:06d}.parquet"
        if not path.exists():
            batch.score_part(part, path, **rules)
            made += 1
        rows[number] = len(part)
    return rows, made


@once_a_worker
def _load(system: System, version: int, digest: str) -> Registered:
    found = system.registry.load(version)
    if found.digest != digest:
        raise ValueError(
            f"expected version {version} with the digest {digest}, got {found.digest}; is the workspace shared?"
        )
    return found
