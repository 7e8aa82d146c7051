"""Probabilities for the rows of a request: as the fitted model gives them, at a fraction of the time.

    columns     rows of a request, as they come from JSON, to one array for each input
    compile     a fitted classifier to a function from such arrays to probabilities

To make a data frame of one row and to check it costs more time than the model itself. `compile` does without for one
kind of model: feature code that takes arrays, an `OrdinalEncoder` and a `SimpleImputer`, and calibrated histogram
gradient boosting. It compares both ways on some hundred rows. Unless all probabilities are the same to the last bit,
and for any other kind of model, it takes the slow way by scikit-learn.

>>> from sklearn.linear_model import LogisticRegression
>>> frame = pd.DataFrame({"wind": [1.0, 2.0, 8.0, 9.0]})
>>> model = LogisticRegression().fit(frame, [0, 0, 1, 1])
>>> predict = compile(model, {"wind": "double"}, example=frame)
>>> arrays = columns([{"wind": 8.5}, {"wind": 2}], {"wind": "double"})
>>> predict(arrays).round(2).tolist() == model.predict_proba(pd.DataFrame(arrays))[:, 1].round(2).tolist()
True
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

__all__ = ["Compiled", "columns", "compile"]

PROBES = 300  # rows on which both ways must agree before the fast one is taken
UNKNOWN = "\0never seen in training"  # a text that is no category
STEPS = [FunctionTransformer, ColumnTransformer, HistGradientBoostingClassifier]  # of the kind of pipeline known here

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A function from arrays by input to the probability of the positive class; `fast` says that it needs no frame."""

    predict: Callable[[Columns], np.ndarray]
    fast: bool

    def __call__(self, arrays: Columns) -> np.ndarray:
        """Probabilities of shape (rows,)."""
        return self.predict(arrays)


def columns(rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return one array for each of `inputs`, whose values are the types of the contract; rows were checked before.

    Numbers and booleans become float64, datetimes datetime64[us], strings stay Python objects. An absent value and
    None are missing: NaN, NaT, or None.
    """
    return {name: _array([row.get(name) for row in rows], kind) for name, kind in inputs.items()}


def compile(model: Any, inputs: Mapping[str, str], *, example: pd.DataFrame) -> Compiled:
    """Return a function from arrays of `inputs` to the probabilities of `model`, a fitted classifier of two classes.

    `example` is some rows that the model takes, as in its contract.
    """
    dtypes = {"string": "str", "datetime": "datetime64[us]"}

    def slow(arrays: Columns) -> np.ndarray:
        columns = {name: pd.Series(arrays[name], dtype=dtypes.get(kind)) for name, kind in inputs.items()}
        return model.predict_proba(pd.DataFrame(columns))[:, 1]

    fast = _trees_of(model, example)
    if fast is None:
        return Compiled(slow, fast=False)
    known = {name: list(table)[:-2] for name, table in fast.codes.items()}  # without unknown and missing
    probes = _probes(example, inputs, known=known)
    same = np.array_equal(fast(probes), slow(probes), equal_nan=True)
    return Compiled(fast if same else slow, fast=same)


def _array(values: list[Any], kind: str) -> np.ndarray:
    if kind == "string":
        return np.array([*values, None], dtype=object)[:-1]
    return np.array(values, dtype="datetime64[us]" if kind == "datetime" else float)


def _probes(example: pd.DataFrame, inputs: Mapping[str, str], *, known: Mapping[str, list[str]]) -> Columns:
    """Rows around the example: values shuffled between rows, numbers stretched, each kind of value missing at times."""
    random = np.random.default_rng(0)
    rows = example.iloc[random.integers(0, len(example), PROBES)]
    probes = {}
    for name, kind in inputs.items():
        values = random.permutation(rows[name].astype(object).where(rows[name].notna(), None).to_numpy())
        missing = random.random(PROBES) < 0.1
        if kind == "string":
            values = random.choice(np.array([*known.get(name, values), UNKNOWN], dtype=object), PROBES)
            values[missing] = None
        elif kind == "datetime":
            minutes = random.integers(0, 400 * 24 * 60, PROBES).astype("timedelta64[m]")
            values = values.astype("datetime64[us]") + minutes
            values[missing] = np.datetime64("NaT")
        else:
            values = values.astype(float) * random.choice([1.0, 1.0, -3.0, 10.0], PROBES)
            values[missing] = np.nan
        probes[name] = values
    return probes


@dataclass(frozen=True, eq=False)
class _Trees:
    """The fast way: calibrated trees behind tables of codes and fillers of gaps, in the order of the encoder."""

    derive: Callable[[Columns], Columns]
    codes: Mapping[str, Mapping[Any, float]]  # for each categorical feature, the code of a value
    numeric: list[str]
    fillers: np.ndarray
    indicated: np.ndarray  # positions of the numeric features that have a column saying where they were missing
    classifier: HistGradientBoostingClassifier
    calibrator: Any

    def __call__(self, arrays: Columns) -> np.ndarray:
        features = self.derive(arrays)
        codes = [
            np.array([table.get(value, table[UNKNOWN]) for value in features[name].tolist()])
            for name, table in self.codes.items()
        ]
        numbers = np.column_stack([features[name] for name in self.numeric]).astype(float, copy=False)
        gaps = np.isnan(numbers)
        encoded = np.column_stack([*codes, np.where(gaps, self.fillers, numbers), gaps[:, self.indicated]])
        return self.calibrator.predict(self._raw(np.ascontiguousarray(encoded)))

    def _raw(self, encoded: np.ndarray) -> np.ndarray:
        """The sum over the trees, as HistGradientBoostingClassifier adds it up, on one core."""
        bitsets, positions = self.classifier._bin_mapper.make_known_categories_bitsets()
        raw = np.full(len(encoded), self.classifier._baseline_prediction.item())
        for (tree,) in self.classifier._predictors:
            raw += tree.predict(encoded, bitsets, positions, 1)
        return raw


def _trees_of(model: Any, example: pd.DataFrame) -> _Trees | None:
    """The parts of the model, or None if it is of another kind."""
    model = model.estimator_ if isinstance(model, FixedThresholdClassifier) else model
    calibrated = _unfrozen(model)
    if not (isinstance(calibrated, CalibratedClassifierCV) and len(calibrated.calibrated_classifiers_) == 1):
        return None
    (fitted,) = calibrated.calibrated_classifiers_
    pipeline = _unfrozen(fitted.estimator)
    if not (isinstance(pipeline, Pipeline) and [type(step) for _, step in pipeline.steps] == STEPS):
        return None
    derive, encoder, classifier = (step for _, step in pipeline.steps)
    encoders = {type(step): (step, list(names)) for _, step, names in encoder.transformers_ if step != "drop"}
    if not (
        hasattr(derive.func, "arrays")  # see `features.on_arrays`
        and list(encoders) == [OrdinalEncoder, SimpleImputer]
        and classifier.is_categorical_ is not None
        and fitted.method in ("sigmoid", "isotonic")
    ):
        return None
    imputer, numeric = encoders[SimpleImputer]

    def encode(rows: pd.DataFrame) -> np.ndarray:
        return classifier._preprocessor.transform(encoder.transform(rows))

    return _Trees(
        derive=derive.func.arrays,
        codes=_tabulate(*encoders[OrdinalEncoder], encode=encode, features=derive.transform(example.head(1))),
        numeric=numeric,
        fillers=imputer.statistics_,
        indicated=imputer.indicator_.features_ if imputer.indicator_ is not None else np.array([], dtype=int),
        classifier=classifier,
        calibrator=fitted.calibrators[0],
    )


def _unfrozen(model: Any) -> Any:
    return model.estimator if isinstance(model, FrozenEstimator) else model


def _tabulate(
    codes: OrdinalEncoder, names: list[str], *, encode: Callable, features: pd.DataFrame
) -> dict[str, dict[Any, float]]:
    """The code that pipeline and trees give to each value; `features` is any one row."""
    tables = {}
    for position, (name, categories) in enumerate(zip(names, codes.categories_, strict=True)):
        values = [*(value for value in categories if isinstance(value, str)), UNKNOWN, None]
        rows = pd.concat([features] * len(values), ignore_index=True).assign(**{name: pd.Series(values, dtype="str")})
        tables[name] = dict(zip(values, encode(rows)[:, position].tolist(), strict=True))
    return tables
