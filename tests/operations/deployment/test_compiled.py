"""The quick way through a model gives what the model gives, to the last bit, or is not taken."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from mlops_course import flights
from mlops_course.design import load_specification
from mlops_course.development import features, training
from mlops_course.operations.deployment import compiled

INPUTS = {"when": "datetime", "maker": "string", "wind": "double", "temp": "double"}
NUMERIC, CATEGORICAL = ["wind", "temp", "hour"], ["maker"]
ROWS = 600


@features.on_arrays
def derive(inputs):
    hour = pd.DatetimeIndex(inputs["when"]).hour.to_numpy(float)
    return {name: values for name, values in inputs.items() if name != "when"} | {"hour": hour}


def derive_in_a_frame(inputs):
    return derive(inputs)


def rows_of(count, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, count), unit="h"),
            "maker": pd.Series(rng.choice(["Ajax", "Boreal", "Cobalt"], count), dtype="str"),
            "wind": rng.gamma(2.0, 3.0, count),
            "temp": rng.normal(size=count),
        }
    )
    gaps = rng.random((count, 2)) < 0.1
    return frame.assign(maker=frame["maker"].where(~gaps[:, 0]), wind=frame["wind"].where(~gaps[:, 1]))


@cache
def fitted(kind="gradient_boosting", method="sigmoid", derive=derive):
    """A model and some of its rows, which no test changes."""
    frame = rows_of(ROWS, seed=0)
    failed = (frame["wind"].fillna(5) + frame["temp"] > 6).astype(float)
    models = training.candidates(derive, numeric=NUMERIC, categorical=CATEGORICAL, seed=0)
    calibrated = training.calibrate(models[kind].fit(frame, failed), frame, target=failed, method=method)
    return training.decide(calibrated, 0.3), frame.head(5)


def as_request(frame):
    """Rows as JSON brings them: times as datetime, a missing value absent."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_the_quick_way_gives_what_the_model_gives_to_the_last_bit(method, count):
    model, example = fitted(method=method)
    quick = compiled.compile(model, INPUTS, example=example)
    fresh = rows_of(count, seed=1)
    fresh.loc[0, "maker"] = "Dolmen"  # never seen in training
    assert quick.fast
    np.testing.assert_array_equal(quick(compiled.columns(as_request(fresh), INPUTS)), model.predict_proba(fresh)[:, 1])


def test_a_row_of_nothing_but_gaps_is_answered_as_by_the_model():
    model, example = fitted()
    gaps = pd.DataFrame({"when": pd.to_datetime(["2024-05-01"]), "maker": pd.Series([None], dtype="str")})
    gaps = gaps.assign(wind=np.nan, temp=np.nan)
    quick = compiled.compile(model, INPUTS, example=example)
    arrays = compiled.columns([{"when": gaps["when"][0]}], INPUTS)
    np.testing.assert_array_equal(quick(arrays), model.predict_proba(gaps)[:, 1])


@pytest.mark.parametrize(
    "other",
    [{"kind": "base_rate"}, {"kind": "logistic_regression"}, {"derive": derive_in_a_frame}],
    ids=["base_rate", "logistic_regression", "features of a frame"],
)
def test_a_model_of_another_kind_is_answered_the_slow_way(other):
    model, example = fitted(**other)
    quick, fresh = compiled.compile(model, INPUTS, example=example), rows_of(50, seed=2)
    assert not quick.fast
    np.testing.assert_array_equal(quick(compiled.columns(as_request(fresh), INPUTS)), model.predict_proba(fresh)[:, 1])


@pytest.mark.parametrize("layer", ["threshold", "calibration"])
def test_a_layer_that_is_missing_costs_speed_and_not_truth(layer):
    model, example = fitted()
    bare = model.estimator_ if layer == "threshold" else model.estimator_.estimator.calibrated_classifiers_[0].estimator
    quick, fresh = compiled.compile(bare, INPUTS, example=example), rows_of(50, seed=2)
    assert quick.fast == (layer == "threshold")
    np.testing.assert_array_equal(quick(compiled.columns(as_request(fresh), INPUTS)), bare.predict_proba(fresh)[:, 1])


def test_a_quick_way_that_disagrees_is_not_taken(monkeypatch):
    model, example = fitted()
    raw = compiled._Trees._raw
    monkeypatch.setattr(compiled._Trees, "_raw", lambda self, encoded: raw(self, encoded) + 1e-9 * (encoded[:, 1] > 9))
    fresh = rows_of(50, seed=3)
    quick = compiled.compile(model, INPUTS, example=example)
    assert not quick.fast
    np.testing.assert_array_equal(quick(compiled.columns(as_request(fresh), INPUTS)), model.predict_proba(fresh)[:, 1])


def test_an_ensemble_of_several_calibrated_models_is_left_to_scikit_learn():
    model, example = fitted()
    pipeline = model.estimator_.estimator.calibrated_classifiers_[0].estimator.estimator
    frame = rows_of(ROWS, seed=0)
    labels = (frame["temp"] > 0).astype(float)
    several = CalibratedClassifierCV(pipeline, cv=2).fit(frame, labels)
    assert not compiled.compile(FrozenEstimator(several), INPUTS, example=example).fast


def test_columns_have_the_types_of_the_contract_and_gaps_stay_gaps():
    arrays = compiled.columns([{"wind": 3}, {"maker": None}], INPUTS)
    assert {name: array.dtype.kind for name, array in arrays.items()} == {
        "when": "M", "maker": "O", "wind": "f", "temp": "f"
    }  # fmt: skip
    assert (arrays["wind"][0], np.isnan(arrays["wind"][1]), np.isnat(arrays["when"]).all()) == (3.0, True, True)
    assert arrays["maker"].tolist() == [None, None]


@pytest.fixture(scope="module")
def flight_model():
    """A champion's kind of model on a month of flights, and another month that it has not seen."""
    specification = load_specification(flights.SPECIFICATION)
    frame = flights.build(flights.read(["2013-01", "2013-02"]))
    names, kinds = specification.inputs.all, specification.features
    frame = frame[frame["late"].notna()]
    train, fresh = (frame[frame["batch"] == batch].iloc[::5] for batch in ("2013-01", "2013-02"))
    models = training.candidates(flights.derive, numeric=kinds.numeric, categorical=kinds.categorical, seed=0)
    model = models["gradient_boosting"].fit(train[names], train["late"])
    model = training.decide(training.calibrate(model, fresh[names], target=fresh["late"]), 0.2)
    return model, train[names].head(5), fresh[names]


def test_training_and_serving_agree_on_a_thousand_random_flights(flight_model):
    """By way of JSON with all digits: pandas' own `to_json` keeps ten, which sends 2 % of these down another branch."""
    model, example, fresh = flight_model
    kinds = {"M": "datetime", "f": "double"}
    inputs = {name: kinds.get(example[name].dtype.kind, "string") for name in example}
    rows = fresh.sample(1000, random_state=4)
    rows.iloc[::50, rows.columns.get_loc("dest")] = "XNA2"
    arrays = compiled.columns(json.loads(json.dumps(as_request(rows), default=str)), inputs)
    quick = compiled.compile(model, inputs, example=example)
    assert quick.fast
    np.testing.assert_allclose(quick(arrays), model.predict_proba(rows)[:, 1], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(quick(arrays) >= 0.2, model.predict(rows) == 1)
