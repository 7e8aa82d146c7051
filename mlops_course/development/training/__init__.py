"""From rows with labels to a model that decides, with a record of how it was made.

    candidates                           three models to compare, simplest first
    TimeFolds                            cross-validation in order of time, with an embargo for labels that come late
    cross_validate_in_time               metrics of a model, fold by fold
    search                               random search for parameters, over the same folds
    simplest_within_one_standard_error   the model that is hardly worse than the best, and simpler
    calibrate                            probabilities that mean what they say
    cost_threshold, best_threshold       from what errors cost to the probability at which to act
    decide                               a model that acts at that probability
    track                                the MLflow record of one fit
    code_version, environment            what code and what Python the fit was made with

>>> random = np.random.default_rng(0)
>>> inputs = pd.DataFrame({"load": random.normal(size=400), "site": random.choice(["north", "south"], size=400)})
>>> failed = (inputs["load"] + random.normal(size=400) > 0).astype(float)
>>> asked = pd.Series(pd.date_range("2013-01-01", periods=400, freq="h", tz="UTC"))
>>> rows = {"target": failed, "folds": TimeFolds(3, prediction_time=asked, label_time=asked + pd.Timedelta("5h"))}
>>> models = candidates(None, numeric=["load"], categorical=["site"], seed=0)
>>> losses = {name: cross_validate_in_time(model, inputs, **rows)["log_loss"] for name, model in models.items()}
>>> simplest_within_one_standard_error(pd.DataFrame(losses))
'logistic_regression'
>>> fitted = models["logistic_regression"].fit(inputs, failed)
>>> decide(fitted, cost_threshold(false_alarm=15, missed=60)).predict(inputs.head(3))
array([1., 1., 1.])
"""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, RandomizedSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

__all__ = [
    "TimeFolds",
    "TrackedRun",
    "best_threshold",
    "calibrate",
    "candidates",
    "code_version",
    "cost_threshold",
    "cross_validate_in_time",
    "decide",
    "environment",
    "search",
    "simplest_within_one_standard_error",
    "track",
]

METRICS = {"roc_auc": "roc_auc", "log_loss": "neg_log_loss", "brier": "neg_brier_score"}  # ours: scikit-learn's
RARE = 0.001  # a category in a smaller share of the training rows shares one column with the other rare ones
MAX_CATEGORIES = 254  # histogram gradient boosting can tell 255 values of a column apart; the rarest share the last
KEY_PACKAGES = ("numpy", "pandas", "scikit-learn")  # those whose version decides what a fit gives
MLFLOW_BATCH = 100  # MLflow takes no more parameters at once, and of metrics a thousand
MLFLOW_VALUE = 6000  # nor longer ones, in characters


@dataclass(frozen=True, eq=False)
class TimeFolds:
    """Folds in order of time, for scikit-learn's `cv=`: train on what was known, test on what came next.

    The distinct prediction times, in order, are cut into `n_splits` + 1 periods of equally many (± 1). The first period
    is only trained on; each other one is the test period of a fold, which trains on every earlier row whose label was
    known when the test period began. The others are under embargo (López de Prado 2018, chapter 7, calls it purging).
    Rows need not be sorted.

    The times come with the constructor because each row has two, which scikit-learn's `groups` cannot carry, and they
    are no inputs, so `X` lacks them. A splitter thus belongs to its rows and refuses others. `prediction_time` and
    `label_time` are datetime Series with the index of `X`.

    Raises ValueError for missing times, labels known before their prediction, too few distinct times, or folds without
    a training row; TypeError for what is no datetime Series.
    """

    n_splits: int
    prediction_time: pd.Series = field(kw_only=True, repr=False)
    label_time: pd.Series = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Refuse times that cannot be folded."""
        _check_times(self.prediction_time, "prediction_time")
        _check_times(self.label_time, "label_time")
        if not self.prediction_time.index.equals(self.label_time.index):
            raise ValueError("expected prediction_time and label_time of the same rows, got different indexes")
        if early := int((self.label_time < self.prediction_time).sum()):
            raise ValueError(f"expected no label before its prediction, got {early}; are the two times swapped?")
        distinct = self.prediction_time.nunique()
        if self.n_splits < 1 or distinct <= self.n_splits:
            raise ValueError(
                f"expected one fold or more, and more distinct prediction times than folds, got {self.n_splits} folds "
                f"and {distinct} distinct times; use fewer folds or more rows"
            )
        train, _ = next(self.split())
        if not len(train):
            raise ValueError(
                f"expected labels before the first test period begins ({self.starts()[0]}), got the first one at "
                f"{self.label_time.min()}; use fewer folds or rows from a longer time"
            )

    def starts(self) -> pd.DatetimeIndex:
        """When the test period of each fold begins."""
        distinct = pd.DatetimeIndex(self.prediction_time.unique()).sort_values()
        return distinct[np.arange(1, self.n_splits + 1) * len(distinct) // (self.n_splits + 1)]

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of the training and the test rows of each fold; `y` and `groups` are scikit-learn's, not looked at.

        Raises ValueError if `X` is given and is not the rows whose times these are.
        """
        self._check_rows(X)
        starts = self.starts()
        fold = starts.searchsorted(pd.DatetimeIndex(self.prediction_time), side="right") - 1  # −1: before all tests
        for k, start in enumerate(starts):
            yield np.flatnonzero((fold < k) & (self.label_time <= start)), np.flatnonzero(fold == k)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many folds there are; scikit-learn asks."""
        return self.n_splits

    def _check_rows(self, X: Any) -> None:
        if X is None:
            return
        if len(X) != len(self.prediction_time):
            raise ValueError(f"expected the {len(self.prediction_time)} rows whose times were given, got {len(X)} rows")
        if hasattr(X, "iloc") and not X.index.equals(self.prediction_time.index):
            raise ValueError("expected rows with the index of their times, got another index; take both from one frame")


def candidates(
    derive: Callable[[pd.DataFrame], pd.DataFrame] | None,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    seed: int,
) -> dict[str, Pipeline]:
    """Unfitted models to compare, simplest first: `base_rate`, `logistic_regression`, `gradient_boosting`.

    Each is a pipeline from inputs to a probability: `derive` (row by row, without state; None for none), `encode`,
    `classify`. `numeric` and `categorical` are columns of what `derive` returns. A missing value or a category never
    seen in training gets an answer, not an error. The same rows and `seed` give the same model.

    Raises ValueError if `derive` cannot be imported by name, as a lambda cannot: such a model could not be saved.
    """
    if derive is not None and "<" in getattr(derive, "__qualname__", "<"):
        raise ValueError(f"expected a function that can be imported, got {derive!r}; define it with def in a module")

    def pipeline(*steps: tuple[str, BaseEstimator]) -> Pipeline:
        return Pipeline([("derive", FunctionTransformer(derive)), *steps] if derive is not None else list(steps))

    columns = {"numeric": list(numeric), "categorical": list(categorical)}
    return {
        "base_rate": pipeline(("classify", DummyClassifier(strategy="prior"))),
        "logistic_regression": pipeline(
            ("encode", _encoder_for_regression(**columns)),
            ("classify", LogisticRegression(solver="newton-cholesky", random_state=seed)),
        ),
        "gradient_boosting": pipeline(
            ("encode", _encoder_for_trees(**columns)),
            ("classify", _boosting(number_of_categorical=len(categorical), seed=seed)),
        ),
    }


def cross_validate_in_time(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, folds: TimeFolds, n_jobs: int | None = None
) -> pd.DataFrame:
    """How well `model`, fitted anew for each fold, predicts the period that follows: one row a fold.

    Columns: fold (from 0), train_rows, test_rows, test_from (first prediction time of the test period), roc_auc,
    log_loss (nats) and brier (mean squared error of the probability). `target` is 0 or 1, 1 being what is predicted.

    Raises ValueError if a label is missing or is not 0 or 1, or if a fold trains or tests on one class only.
    """
    labels = _labels(target, inputs, folds)
    with _one_thread_a_fit():
        scores = cross_validate(
            model,
            inputs,
            labels,
            cv=folds,
            scoring=METRICS,
            return_indices=True,
            error_score="raise",
            n_jobs=n_jobs,
        )
    frame = pd.DataFrame(
        {
            "fold": range(folds.n_splits),
            "train_rows": [len(rows) for rows in scores["indices"]["train"]],
            "test_rows": [len(rows) for rows in scores["indices"]["test"]],
            "test_from": folds.starts(),
        }
    )
    signs = {name: -1 if scorer.startswith("neg_") else 1 for name, scorer in METRICS.items()}
    return frame.assign(**{name: sign * scores[f"test_{name}"] for name, sign in signs.items()})


def search(
    model: BaseEstimator,
    parameters: Mapping[str, Any],
    *,
    inputs: pd.DataFrame,
    target: pd.Series,
    folds: TimeFolds,
    draws: int,
    seed: int,
    n_jobs: int | None = None,
) -> RandomizedSearchCV:
    """Random search for the `parameters` with the lowest mean log loss over `folds`, refitted on all the rows.

    `parameters` maps names such as `classify__max_iter` to lists or scipy distributions, of which `draws` combinations
    are tried, the same for the same `seed`. With `n_jobs` None, joblib's current backend decides where fits run
    (`joblib.parallel_config`). The result has scikit-learn's `best_estimator_`, `best_params_` and `cv_results_`.

    Log loss, because a threshold from costs needs right probabilities, not only a right order. Raises ValueError as
    `cross_validate_in_time` does.
    """
    labels = _labels(target, inputs, folds)
    random = RandomizedSearchCV(
        model,
        dict(parameters),
        n_iter=draws,
        scoring="neg_log_loss",
        cv=folds,
        random_state=seed,
        error_score="raise",
        n_jobs=n_jobs,
    )
    with _one_thread_a_fit():
        return random.fit(inputs, labels)


def simplest_within_one_standard_error(losses: pd.DataFrame) -> str:
    """The first column of `losses` that is at most one standard error worse than the best column.

    `losses` has a row for each fold and a column for each model, simplest first; lower is better. The rule is that of
    Breiman et al. 1984, section 3.4.3. The standard error is that of the difference from the best model, fold by fold:
    a hard month is hard for all of them, which says nothing about which is better.

    Raises ValueError if there are fewer than two folds or a loss is missing.
    """
    if len(losses) < 2 or losses.isna().to_numpy().any():
        raise ValueError(f"expected losses of two or more folds, none missing, got:\n{losses}")
    worse = losses.sub(losses[losses.mean().idxmin()], axis=0)
    return (worse.mean() <= worse.sem()).idxmax()


def calibrate(
    model: BaseEstimator, inputs: pd.DataFrame, *, target: pd.Series, method: str = "sigmoid"
) -> CalibratedClassifierCV:
    """`model`, as fitted, with its probabilities corrected to how often the target was 1 in these rows.

    Give rows that come after the rows that `model` was fitted on: on its own rows a model is too sure of itself.
    `method` is scikit-learn's: `sigmoid` fits two numbers (Platt 1999), `isotonic` any rising curve, for which it wants
    about a thousand rows (Niculescu-Mizil and Caruana 2005). The model itself is not fitted again.

    Raises ValueError if a label is missing or is not 0 or 1.
    """
    labels = _labels(target, inputs)
    return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(inputs, labels)


def cost_threshold(*, false_alarm: float, missed: float) -> float:
    """The probability from which acting costs less than waiting, for calibrated probabilities.

    To act at probability p costs (1 − p) · false_alarm on average, not to act p · missed; they are equal at
    false_alarm / (false_alarm + missed). Elkan 2001, "The foundations of cost-sensitive learning", equation 2, with
    correct decisions free. Costs are in any one unit, counted against a correct decision.

    Raises ValueError unless both costs are positive and finite.
    """
    _check_costs(false_alarm, missed)
    return false_alarm / (false_alarm + missed)


def best_threshold(target: pd.Series, probability: np.ndarray, *, false_alarm: float, missed: float) -> float:
    """The threshold that would have cost least on these rows; the highest where several would.

    Act where probability ≥ threshold. The result is one of the probabilities, or just above the greatest: never act. On
    few rows it follows their noise; `cost_threshold` does not.

    Raises ValueError unless both costs are positive and finite, and each row has a probability and a label, 0 or 1.
    """
    _check_costs(false_alarm, missed)
    if np.ndim(probability) != 1 or not len(probability) or np.isnan(probability).any():
        raise ValueError(
            f"expected one probability of the label 1 for each row, got shape {np.shape(probability)}, "
            f"{np.isnan(probability).sum()} missing; take predict_proba(inputs)[:, 1]"
        )
    labels = _labels(target, probability)
    values, rank = np.unique(probability, return_inverse=True)
    positives, negatives = (np.bincount(rank, weights=labels == label) for label in (1, 0))
    missed_rows = np.r_[0, positives.cumsum()]  # positives below each threshold
    false_alarms = np.r_[negatives[::-1].cumsum()[::-1], 0]  # negatives at or above it
    cost = false_alarm * false_alarms + missed * missed_rows
    thresholds = np.r_[values, np.nextafter(values[-1], np.inf)]
    return float(thresholds[np.flatnonzero(cost == cost.min())[-1]])


def decide(model: BaseEstimator, threshold: float) -> FixedThresholdClassifier:
    """`model`, as fitted, with `predict` returning 1 where its probability of 1 is at least `threshold`, else 0.

    Probabilities stay as they are, and the result is ready to use. Raises ValueError if the threshold is no
    probability; `best_threshold` may lie just above 1.
    """
    if not 0 <= threshold <= np.nextafter(1, 2):
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}; give a probability, not a percentage")
    decided = FixedThresholdClassifier(FrozenEstimator(model), threshold=threshold, response_method="predict_proba")
    return decided.fit([[0], [1]], [0, 1])  # learns nothing, as the model is frozen; only marks it as fitted


def code_version(files: Iterable[Path]) -> str:
    """Version (SHA-256, hex) of the text of source `files`: the same wherever they lie and whatever ends their lines.

    A commit is not enough: it stays the same while somebody edits. Raises ValueError if there is no file.
    """
    sources = sorted((file.name, file.read_text(encoding="utf-8")) for file in files)
    if not sources:
        raise ValueError("expected one or more source files, got none; give the files that the model depends on")
    return hashlib.sha256(repr(sources).encode()).hexdigest()


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
        """Numbers by their names, written together; `step` is MLflow's."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)  # in milliseconds, as MLflow counts
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        for start in range(0, len(metrics), MLFLOW_BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + MLFLOW_BATCH])

    def log_folds(self, scores: pd.DataFrame) -> None:
        """The numbers of each fold, with the fold as MLflow's step, and their mean as `mean_…`.

        `scores` is what `cross_validate_in_time` returns; the whole table becomes the artifact `folds.csv`.
        """
        numbers = scores.drop(columns="fold").select_dtypes("number")
        for fold, row in zip(scores["fold"], numbers.to_dict("records"), strict=True):
            self.log_metrics(row, step=int(fold))
        self.log_metrics(numbers.mean().add_prefix("mean_"))
        self.client.log_text(self.run_id, scores.to_csv(index=False), "folds.csv")

    def log_plots(self, target: pd.Series, probability: np.ndarray) -> None:
        """ROC and calibration curve as the artifact `curves.png`; give rows that the model was not fitted on."""
        self.client.log_figure(self.run_id, _curves(_labels(target, probability), probability), "curves.png")


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

        with track(uri, "candidates", name="base_rate", data_version=..., code_version=..., seed=0) as run:
            run.log_parameters(model)
            run.log_folds(cross_validate_in_time(model, inputs, target=target, folds=folds))

    Tags from the start: data_version, code_version, seed, python, platform, versions of key packages, and `tags`; the
    full list of packages is the artifact `requirements.txt`. `parent` is the id of the run that this one belongs to.
    Changes no global state of MLflow. A missing experiment is made; where the tracking store is an SQLite file, its
    artifacts go to `artifacts` beside that file, otherwise where the tracking server puts them.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    found = environment()
    record = {"data_version": data_version, "code_version": code_version, "seed": str(seed)}
    record |= {"python": found["python"], "platform": found["platform"]}
    record |= {package: found["packages"].get(package, "not installed") for package in KEY_PACKAGES}
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


def _encoder_for_regression(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE)
    scaled = make_pipeline(_gap_filler(), StandardScaler())
    return ColumnTransformer([("categorical", one_hot, categorical), ("numeric", scaled, numeric)])


def _encoder_for_trees(*, numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,  # as if missing, which trees can answer
        encoded_missing_value=np.nan,
        max_categories=MAX_CATEGORIES,
    )
    return ColumnTransformer([("categorical", codes, categorical), ("numeric", _gap_filler(), numeric)])


def _gap_filler() -> SimpleImputer:
    """Medians for missing numbers, and columns that say where they were missing.

    For trees too, though they can do without: a column that was always missing (a dead sensor) stops their fit in
    scikit-learn 1.9, and must not stop a retraining.
    """
    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


def _boosting(*, number_of_categorical: int, seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=50,
        l2_regularization=1.0,
        early_stopping=False,  # it would judge by rows held out at random, out of their time
        categorical_features=list(range(number_of_categorical)),  # by position: the encoder puts them first
        random_state=seed,
    )


def _one_thread_a_fit() -> threadpool_limits:
    """Within this, trees grow on one core: `n_jobs` spreads the fits, and only it.

    On busy cores OpenMP's threads spend their time waiting for one another: on two cores shared with other programs,
    a fit by two threads took ten times as long as by one. The models come out the same.
    """
    return threadpool_limits(limits=1, user_api="openmp")


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


def _curves(labels: np.ndarray, probability: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import RocCurveDisplay

    figure = Figure(figsize=(10, 5), layout="constrained")  # not pyplot's: that would keep it, and may want a screen
    ranking, calibration = figure.subplots(1, 2)
    RocCurveDisplay.from_predictions(labels, probability, ax=ranking, plot_chance_level=True)
    CalibrationDisplay.from_predictions(labels, probability, n_bins=10, strategy="quantile", ax=calibration)
    return figure


def _check_times(times: pd.Series, name: str) -> None:
    if not (isinstance(times, pd.Series) and pd.api.types.is_datetime64_any_dtype(times)):
        got = times.dtype if isinstance(times, pd.Series) else type(times).__name__
        raise TypeError(f"{name}: expected a Series of datetimes, got {got}; convert it with pd.to_datetime")
    if missing := int(times.isna().sum()):
        raise ValueError(
            f"{name}: expected a time for every row, got {missing} missing; a row without prediction or label can be "
            "neither fitted nor scored: drop it first"
        )


def _labels(target: pd.Series, rows: Any, folds: TimeFolds | None = None) -> np.ndarray:
    """`target` as an array, once it is known to be a label for every row, and both labels in every part of `folds`."""
    labels = np.asarray(target, dtype=float)
    if len(labels) != len(rows):
        raise ValueError(f"expected one label a row, got {len(labels)} labels for {len(rows)} rows")
    if isinstance(target, pd.Series) and isinstance(rows, pd.DataFrame) and not target.index.equals(rows.index):
        raise ValueError("expected labels with the index of their rows, got another index; take both from one frame")
    if wrong := int((~np.isin(labels, (0, 1))).sum()):
        raise ValueError(f"expected every label to be 0 or 1, got {wrong} missing or other; drop rows without a label")
    for fold, parts in enumerate(folds.split(rows) if folds is not None else ()):
        for part, positions in zip(("train", "test"), parts, strict=True):
            if len(np.unique(labels[positions])) < 2:
                raise ValueError(f"expected both classes, got one in the {part} rows of fold {fold}; use fewer folds")
    return labels


def _check_costs(false_alarm: float, missed: float) -> None:
    for name, cost in (("false_alarm", false_alarm), ("missed", missed)):
        if not 0 < cost < np.inf:
            raise ValueError(f"{name}: expected a positive, finite cost, got {cost}")


def _parameters(model: BaseEstimator, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of the parameters that are not parts themselves; `get_params` stops at a frozen model."""
    for name, value in model.get_params(deep=True).items():
        if isinstance(value, FrozenEstimator):
            yield from _parameters(value.estimator, f"{prefix}{name}__estimator__")
        elif not (hasattr(value, "get_params") or _are_parts(value)):
            yield f"{prefix}{name}", value


def _are_parts(value: Any) -> bool:
    """Whether this is the steps of a pipeline or the transformers of an encoder."""
    return isinstance(value, list) and any(isinstance(item, tuple) for item in value)


def _text(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
