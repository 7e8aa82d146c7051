"""Random search for settings, a draw a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_course.development import data, training
from mlops_course.system import pipeline
from mlops_course.system.pipeline import steps
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .frames import _usable_rows
from .tasks import _check_shared, _run, once_a_worker

if TYPE_CHECKING:
    from distributed import Client

SETTINGS = {"classify__max_iter": [20, 40, 100, 200], "classify__max_leaf_nodes": [4, 8, 16, 31]}  # of boosting


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched: `draws` combinations of settings of a kind of model, the same ones for the same `seed`.

    `kind` is a name that `training.candidates` gives, `settings` maps names of parameters to lists or scipy
    distributions.
    """

    draws: int
    seed: int = 0
    kind: str = "gradient_boosting"
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)


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

    system: System
    rows: str
    space: Space


def search(
    system: System,
    batches: Sequence[str],
    *,
    client: "Client",
    space: Space,
    progress: Callable[[int, int | None], None] = lambda draws, of: None,
) -> Search:
    """Random search for the settings of a kind of model, on the rows that the pipeline would train it on.

    The draws, the folds and the scores are those of `training.search` with the same seed; the best are not fitted
    again. `progress` is told of draws.

    Raises ValueError for another kind, a name that is no parameter of it or a batch that is not known, ConnectionError
    as `score_to_file` does.
    """
    from sklearn.model_selection import ParameterSampler

    for name in batches:
        system.batch_before(name)  # knows which there are
    models = _candidates(system, space.seed)
    if space.kind not in models:
        raise ValueError(f"expected a kind of model out of {list(models)}, got {space.kind!r}")
    if unknown := sorted(set(space.settings) - set(models[space.kind].get_params())):
        raise ValueError(f"expected parameters of {space.kind}, got {unknown}; see get_params of the model")
    workspace = system.workspace.create()
    usable = _usable_rows(system, sorted(set(batches)))
    rows = steps.split_rows(usable, pipeline.columns_of(system.specification), workspace)
    _check_shared(client, read=[workspace.database], write=workspace.snapshots)
    try_one = partial(_try, _Searching(System(system.case_name, workspace), rows, space))
    drawn = list(enumerate(ParameterSampler(dict(space.settings), space.draws, random_state=space.seed)))
    losses = {}
    for (number, _), found in _run(
        client, try_one, drawn, what=lambda draw: f"the settings {draw[1]}", case=system.case_name
    ):
        losses[number] = found
        progress(1, len(drawn))
    folds = pd.DataFrame([losses[number] for number, _ in drawn]).add_prefix("fold_")
    table = pd.DataFrame([draw for _, draw in drawn]).join(folds).assign(log_loss=np.average(folds, axis=1))
    return Search(drawn[int(table["log_loss"].argmin())][1], table)


def _candidates(system: System, seed: int) -> dict[str, Any]:
    kinds = system.specification.features
    return training.candidates(system.case.derive, numeric=kinds.numeric, categorical=kinds.categorical, seed=seed)


def _try(job: _Searching, draw: tuple[int, dict[str, Any]]) -> list[float]:
    """The log loss of each fold with these settings."""
    columns, rows = pipeline.columns_of(job.system.specification), _training_rows(job.system.workspace, job.rows)
    times = {name: rows[columns[name]] for name in ("prediction_time", "label_time")}
    scores = training.cross_validate_in_time(
        _candidates(job.system, job.space.seed)[job.space.kind].set_params(**draw[1]),
        rows[columns["inputs"]],
        target=rows[columns["target"]],
        folds=training.TimeFolds(training.FOLDS, **times),
    )
    return scores["log_loss"].tolist()


@once_a_worker
def _training_rows(workspace: Workspace, version: str) -> pd.DataFrame:
    return data.load_snapshot(workspace.snapshots, version)["train"]
