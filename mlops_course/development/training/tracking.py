"""What it takes to repeat a fit, on record in MLflow."""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from .selection import _labels

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIBRARIES = ("numpy", "pandas", "scikit-learn")  # those whose version decides what a fit gives
MLFLOW_BATCH = 100  # MLflow takes no more parameters at once
MLFLOW_VALUE = 6000  # nor longer ones, in characters


def code_version(files: Iterable[Path]) -> str:
    """Version (SHA-256, hex) of the text of source `files`: the same wherever they lie, whatever ends a line."""
    sources = sorted((file.name, file.read_text(encoding="utf-8")) for file in files)
    if not sources:
        raise ValueError("expected one or more source files, got none; give the files that the model depends on")
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def libraries() -> dict[str, str]:
    """Version of each library that decides what a fit gives, by its name."""
    return {name: metadata.version(name) for name in LIBRARIES}


def environment() -> dict[str, Any]:
    """What this Python is: `python` (version), `platform`, and `packages` (version of each one installed, by name)."""
    changed = tuple(os.stat(folder).st_mtime_ns for folder in sys.path if os.path.isdir(folder))
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": dict(_packages(changed))}


@lru_cache(maxsize=1)
def _packages(changed: tuple[int, ...]) -> Mapping[str, str]:
    """Version of each installed package by name: a quarter of a second of reading, again where a folder changed."""
    found = {package.name: package.version for package in metadata.distributions() if package.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


@dataclass(frozen=True)
class TrackedRun:
    """A running MLflow run, as `track` hands it out: its `client` and `run_id`, and what there is to log of a fit."""

    client: "MlflowClient"
    run_id: str

    def log_parameters(self, model: BaseEstimator) -> None:
        """Every parameter of `model` and of its parts, such as `classify__max_iter`; functions by their full name."""
        from mlflow.entities import Param

        parameters = [Param(name, _text(value)[:MLFLOW_VALUE]) for name, value in _parameters(model)]
        for start in range(0, len(parameters), MLFLOW_BATCH):
            self.client.log_batch(self.run_id, params=parameters[start : start + MLFLOW_BATCH])

    def log_metrics(self, values: Mapping[str, float] | pd.Series, *, step: int = 0) -> None:
        """Numbers by their names, a thousand at most, written together; `step` is MLflow's."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)  # in milliseconds, as MLflow counts
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_folds(self, scores: pd.DataFrame) -> None:
        """Log what `cross_validate_in_time` returns: folds as steps, means as `mean_…`, and all in `folds.csv`."""
        numbers = scores.drop(columns="fold").select_dtypes("number")
        for fold, row in zip(scores["fold"], numbers.to_dict("records"), strict=True):
            self.log_metrics(row, step=int(fold))
        self.log_metrics(numbers.mean().add_prefix("mean_"))
        self.client.log_text(self.run_id, scores.to_csv(index=False), "folds.csv")

    def log_plots(self, target: pd.Series, probability: np.ndarray) -> None:
        """ROC and calibration curve as the artifact `curves.png`; give rows that the model was not fitted on."""
        from matplotlib.figure import Figure
        from sklearn.calibration import CalibrationDisplay
        from sklearn.metrics import RocCurveDisplay

        labels = _labels(target, probability)
        figure = Figure(figsize=(10, 5), layout="constrained")  # not pyplot's: that keeps it, and may want a screen
        ranking, calibration = figure.subplots(1, 2)
        RocCurveDisplay.from_predictions(labels, probability, ax=ranking, plot_chance_level=True)
        CalibrationDisplay.from_predictions(labels, probability, n_bins=10, strategy="quantile", ax=calibration)
        self.client.log_figure(self.run_id, figure, "curves.png")


@contextmanager
def track(
    tracking_uri: str,
    experiment: str,
    *,
    name: str,
    data_version: str,
    code_version: str,
    seed: int,
    parent: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[TrackedRun]:
    """Record one fit in MLflow: a run that is FINISHED when the `with` block ends, FAILED when it raises.

    Tags from the start: the versions, seed, python, platform, versions of key packages, and `tags`; the full list of
    packages is the artifact `requirements.txt`. `parent` is the id of the run that this one belongs to. No global state
    of MLflow changes. A missing experiment is made; beside an SQLite file its artifacts go to the folder `artifacts`.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    found = environment()
    record = {"data_version": data_version, "code_version": code_version, "seed": str(seed)}
    record |= {"python": found["python"], "platform": found["platform"], **libraries()}
    record |= {"mlflow.parentRunId": parent} if parent else {}
    run = client.create_run(_experiment_id(client, experiment), tags=dict(tags or {}) | record, run_name=name)
    try:
        requirements = "".join(f"{package}=={version}\n" for package, version in found["packages"].items())
        client.log_text(run.info.run_id, requirements, "requirements.txt")
        yield TrackedRun(client, run.info.run_id)
    except BaseException as error:  # an interrupt too: no run may look as if it were still going on
        client.set_terminated(run.info.run_id, "FAILED")
        client.set_tag(run.info.run_id, "error", f"{type(error).__name__}: {error}"[:1000])
        raise
    client.set_terminated(run.info.run_id, "FINISHED")


def _experiment_id(client: "MlflowClient", name: str) -> str:
    """Id of an experiment, made if it is missing: tried first, as a room full of people may start at once."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.engine import make_url

    location = None
    if client.tracking_uri.startswith("sqlite:"):  # MLflow's own choice is the folder that Python happens to run in
        location = (Path(make_url(client.tracking_uri).database).resolve().parent / "artifacts").as_uri()
    try:
        return client.create_experiment(name, location)
    except MlflowException:
        if experiment := client.get_experiment_by_name(name):
            return experiment.experiment_id
        raise


def _parameters(model: BaseEstimator, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of the parameters that are not parts themselves; `get_params` stops at a frozen model."""
    for name, value in model.get_params(deep=True).items():
        steps = isinstance(value, list) and any(isinstance(item, tuple) for item in value)  # or transformers
        if isinstance(value, FrozenEstimator):
            yield from _parameters(value.estimator, f"{prefix}{name}__estimator__")
        elif not (steps or hasattr(value, "get_params")):
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
