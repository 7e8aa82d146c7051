"""The candidate: the simplest kind of model that is good enough, fitted, calibrated, and with a threshold."""

import pickle
from types import ModuleType
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, training
from mlops_course.system.pipeline.dependencies import CASE, LIBRARIES, depends_on
from mlops_course.system.workspace import Workspace


@depends_on(training, CASE, LIBRARIES)
def fold_scores(
    split_rows: str, columns: dict[str, Any], seed: int, case: ModuleType, workspace: Workspace
) -> pd.DataFrame:
    """How each kind of model does on periods that follow its training: one row for each model and fold."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["train"]
    times = {name: rows[columns[name]] for name in ("prediction_time", "label_time")}
    folds = training.TimeFolds(training.FOLDS, **times)
    inputs, target = rows[columns["inputs"]], rows[columns["target"]]
    tables = [
        training.cross_validate_in_time(model, inputs, target=target, folds=folds, calibrated=True).assign(model=name)
        for name, model in _candidates(case, columns, seed).items()
    ]
    return pd.concat(tables, ignore_index=True)


@depends_on(training)
def chosen_model(fold_scores: pd.DataFrame) -> str:
    """The simplest kind of model that is not worse than the best by more than chance, judged as it will be used.

    That is calibrated; and a fold with few events says little.
    """
    losses = fold_scores.pivot(index="fold", columns="model", values="calibrated_log_loss")
    events = fold_scores.groupby("fold")["events"].first()
    return training.simplest_within_one_standard_error(losses[fold_scores["model"].unique()], weights=events)


@depends_on(training, CASE, LIBRARIES)
def calibrated_model(
    split_rows: str, chosen_model: str, columns: dict[str, Any], seed: int, case: ModuleType, workspace: Workspace
) -> bytes:
    """The chosen kind of model, fitted, and calibrated on later rows; pickled, so that its fingerprint is of all."""
    tables = data.load_snapshot(workspace.snapshots, split_rows)
    train, later = tables["train"], tables["calibrate"]
    with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
        model = _candidates(case, columns, seed)[chosen_model].fit(train[columns["inputs"]], train[columns["target"]])
        return pickle.dumps(training.calibrate(model, later[columns["inputs"]], target=later[columns["target"]]))


@depends_on(training)
def threshold(costs: dict[str, float]) -> float:
    """The probability from which acting costs less than waiting."""
    return training.cost_threshold(**costs)


def _candidates(case: ModuleType, columns: dict[str, Any], seed: int) -> dict[str, Any]:
    """The kinds of model for a case, with names that Hamilton does not take for a step."""
    kinds = {kind: columns[kind] for kind in ("numeric", "categorical")}
    return training.candidates(case.derive, **kinds, seed=seed)
