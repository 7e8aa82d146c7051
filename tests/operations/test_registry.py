import hashlib
import json
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from mlops_course.operations.registry import (
    Contract,
    ContractError,
    HistoryError,
    OvertakenError,
    PromotionError,
    Registry,
    RegistryError,
    TamperedError,
    UnknownVersionError,
    UntrustedTypesError,
    champion_steps,
    describe,
)
from mlops_course.operations.registry.contract import EXAMPLES, MAX_CATEGORIES

THRESHOLD = 0.3
WIND_UNIT = 1.0
SIGNED = {"approver": "Ada", "reason": "better"}


def derive(inputs):
    return pd.DataFrame(
        {
            "carrier": inputs["carrier"],
            "hour": inputs["departure"].dt.hour.astype("float64"),
            "wind": np.log1p(inputs["wind"] * WIND_UNIT),
        }
    )


TRUSTED = (f"{derive.__module__}.derive",)


def inputs_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    start, hours = pd.Timestamp("2013-01-01"), pd.to_timedelta(rng.integers(0, 9000, rows), unit="h")
    frame = pd.DataFrame(
        {"departure": start + hours, "carrier": rng.choice(["AA", "MQ", "UA"], rows), "wind": rng.gamma(2.0, 4.0, rows)}
    )
    return frame.assign(
        carrier=frame["carrier"].where(frame.index % 11 > 0), wind=frame["wind"].where(frame.index % 7 > 0)
    )


def boosting():
    columns = [
        ("texts", OrdinalEncoder(encoded_missing_value=-1), ["carrier"]),
        ("rest", "passthrough", ["hour", "wind"]),
    ]
    encode = ColumnTransformer(columns, verbose_feature_names_out=False).set_output(transform="pandas")
    return encode, HistGradientBoostingClassifier(max_iter=5, categorical_features=["carrier"], random_state=0)


def logistic():
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer(
        [("texts", texts, ["carrier"]), ("numbers", numbers, ["hour", "wind"])]
    ), LogisticRegression()


def base_rate():
    return logistic()[0], DummyClassifier()


def fit(family=base_rate, method="sigmoid", derive=derive, inputs=None):
    inputs = inputs_of(200) if inputs is None else inputs
    late = (np.arange(len(inputs)) % 3 == 0).astype(float)
    model = Pipeline([("derive", FunctionTransformer(derive)), *zip(("encode", "classify"), family(), strict=True)])
    calibrated = CalibratedClassifierCV(FrozenEstimator(model.fit(inputs, late)), method=method).fit(inputs, late)
    decides = FixedThresholdClassifier(
        FrozenEstimator(calibrated), threshold=THRESHOLD, response_method="predict_proba"
    )
    return decides.fit(inputs, late)


def contract_for(fingerprint, frame=None, **changes):
    values = {
        **describe(inputs_of(3) if frame is None else frame),
        "specification": {"name": "flights", "costs": {"missed": 60}},
        "data_version": "d1",
        "code_version": "c1",
        "threshold": THRESHOLD,
        "metrics": {"roc_auc": 0.71},
        "gate_passed": True,
    }
    return Contract(fingerprint=fingerprint, **values | changes)


def new_run(uri, folder):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client.create_run(client.create_experiment(str(folder), folder.as_uri())).info.run_id


def files_of(registry, version):
    from mlflow import MlflowClient

    source = MlflowClient(registry.tracking_uri).get_model_version(registry.name, str(version)).source
    return Path(url2pathname(urlparse(source).path))


def alias_of(registry, alias):
    from mlflow import MlflowClient

    version = MlflowClient(registry.tracking_uri).get_registered_model(registry.name).aliases.get(alias)
    return version and int(version)


@pytest.fixture(scope="module")
def store(empty_database, tmp_path_factory):
    """A folder with an empty store, and one with the versions 1 to 4, of which the gate of 2 failed."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, folder / "empty.db")
    new_run(f"sqlite:///{(folder / 'empty.db').as_posix()}", folder / "files")
    shutil.copy(folder / "empty.db", folder / "four.db")
    registry = Registry(f"sqlite:///{(folder / 'four.db').as_posix()}", "flights", trusted=TRUSTED)
    run_id, model = new_run(registry.tracking_uri, folder / "four"), fit()
    for number in (1, 2, 3, 4):
        failed = {"gate_passed": False, "gate_reasons": ["roc_auc 0.5 < 0.6"]} if number == 2 else {}
        registry.register(model, contract_for(f"f{number}", **failed), run_id=run_id)
    return folder


def restored(store, name):
    """A registry on the store of that name as it was: SQLite overwrites one file, so that MLflow opens it once."""
    with closing(sqlite3.connect(store / name)) as whole, closing(sqlite3.connect(store / "mlflow.db")) as used:
        whole.backup(used)
    return Registry(f"sqlite:///{(store / 'mlflow.db').as_posix()}", "flights", trusted=TRUSTED)


def after(store, moves):
    """A registry after some releases, such as "1 3 back": each history is played once, and copied from then on."""
    if not moves:
        return restored(store, "four.db")
    name = f"{moves}.db"
    if not (store / name).exists():
        before, _, last = moves.rpartition(" ")
        registry = after(store, before)
        registry.roll_back(**SIGNED) if last == "back" else registry.promote(int(last), **SIGNED)
        with closing(sqlite3.connect(store / "mlflow.db")) as used, closing(sqlite3.connect(store / name)) as kept:
            used.backup(kept)
    return restored(store, name)


@pytest.fixture
def empty(store):
    return restored(store, "empty.db")


@pytest.fixture
def registry(store):
    return restored(store, "four.db")


@pytest.fixture
def run_id(store, tmp_path):
    """A run with files of its own; ask for `registry` or `empty` first."""
    return new_run(f"sqlite:///{(store / 'mlflow.db').as_posix()}", tmp_path)


@pytest.fixture
def fourth(store, tmp_path):
    """The folder with the files of version 4, which are put back afterwards."""
    folder = files_of(restored(store, "four.db"), 4)
    shutil.copytree(folder, tmp_path / "kept")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tmp_path / "kept", folder)


# The contract

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
times = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))
rows = st.lists(
    st.tuples(numbers, st.none() | st.text(max_size=5), times, st.integers(-9, 9), st.booleans()),
    min_size=1,
    max_size=EXAMPLES,
)


@settings(max_examples=30)
@given(rows)
def test_a_contract_gives_back_the_example_that_it_was_made_from(rows):
    dtypes = {"wind": "float64", "carrier": "str", "departure": "datetime64[us]", "seats": "int64", "night": "bool"}
    frame = pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)
    contract = Contract.from_json(contract_for("f", **describe(frame)).to_json())
    pd.testing.assert_frame_equal(contract.example_frame(), frame)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"roc_auc": float("nan")}},
        {"specification": {"made": datetime(2013, 1, 1)}},
        {"specification": {"slices": ("origin",)}},
        {"inputs": {"wind": "double"}},
        {"example": []},
        {"code_version": ""},
    ],
)
def test_a_contract_that_would_not_survive_json_or_contradicts_itself_is_refused(changes):
    with pytest.raises(ContractError, match="expected"):
        contract_for("f", **changes)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None], dtype="Int64"),
        pd.Series([True, None], dtype="boolean"),
        pd.Series(["AA", 3], dtype=object),
        pd.Series(pd.to_datetime(["2013-01-01"], utc=True)),
        pd.Series(pd.to_timedelta([1], unit="h")),
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_column_without_a_type_in_the_contract_is_named(values):
    with pytest.raises(ContractError, match=r"column 'wind'.*convert it"):
        describe(values.to_frame("wind"))


def test_a_contract_says_what_may_be_missing_and_which_categories_training_saw():
    described = describe(inputs_of(20).assign(name=[f"n{n}" for n in range(20)]))
    assert len(described["example"]) == EXAMPLES
    assert described["optional"] == ["carrier", "wind"]
    assert described["categories"] == {"carrier": ["AA", "MQ", "UA"], "name": sorted(f"n{n}" for n in range(20))}


def test_a_text_with_too_many_values_is_no_category():
    rows = pd.DataFrame({"name": [f"n{n}" for n in range(MAX_CATEGORIES + 1)]})
    assert describe(rows)["categories"] == {}


# Registration


@pytest.mark.parametrize(
    ("family", "method"),
    [
        (boosting, "isotonic"),
        (logistic, "sigmoid"),
        pytest.param(boosting, "sigmoid", marks=pytest.mark.long),
        pytest.param(logistic, "isotonic", marks=pytest.mark.long),
        pytest.param(base_rate, "isotonic", marks=pytest.mark.long),
        pytest.param(base_rate, "sigmoid", marks=pytest.mark.long),
    ],
)
def test_a_registered_model_predicts_exactly_what_it_predicted_before(empty, run_id, family, method):
    model, contract, fresh = fit(family, method), contract_for("f"), inputs_of(50, seed=1)
    loaded = empty.load(empty.register(model, contract, run_id=run_id))
    assert loaded.contract == contract
    np.testing.assert_array_equal(loaded.model.predict_proba(fresh), model.predict_proba(fresh))
    np.testing.assert_array_equal(loaded.model.predict(fresh), model.predict(fresh))


def test_a_fingerprint_is_registered_once(registry, run_id):
    assert registry.register(fit(), contract_for("f3"), run_id=run_id) == 3
    assert registry.register(fit(), contract_for("f5"), run_id=run_id) == 5
    assert len(registry.versions()) == 5


class Fails(BaseEstimator):
    classes_ = (0.0, 1.0)

    def predict_proba(self, inputs):
        raise KeyError("weather")


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (fit, {"threshold": 0.9}, "decides"),
        (fit, describe(inputs_of(3).drop(columns="wind")), "was fitted on the inputs"),
        (fit, describe(inputs_of(3)[["wind", "carrier", "departure"]]), "fitted on the inputs"),
        (Fails, {}, "fails on the example.*KeyError"),
    ],
    ids=["another threshold", "a missing input", "another order", "an exception"],
)
def test_a_model_that_does_not_keep_its_contract_is_not_registered(empty, run_id, make, changes, words):
    with pytest.raises(ContractError, match=words):
        empty.register(make(), contract_for("f", **changes), run_id=run_id)
    assert empty.versions().empty


def test_a_model_with_a_type_that_nobody_reviewed_is_neither_registered_nor_loaded(registry, run_id):
    unaware = Registry(registry.tracking_uri, registry.name)
    with pytest.raises(UntrustedTypesError, match=TRUSTED[0]):
        unaware.register(fit(), contract_for("f5"), run_id=run_id)
    with pytest.raises(UntrustedTypesError, match=TRUSTED[0]):
        unaware.load(1)
    assert len(registry.versions()) == 4


def derive_and_carry(inputs, cargo):
    return derive(inputs)


def test_a_function_that_a_reviewed_type_carries_needs_a_review_of_its_own(empty, run_id):
    trusting = Registry(empty.tracking_uri, empty.name, trusted=[*TRUSTED, f"{__name__}.derive_and_carry"])
    with pytest.raises(UntrustedTypesError, match=r"reviewed: \w+\.system"):
        trusting.register(fit(derive=partial(derive_and_carry, cargo=os.system)), contract_for("f"), run_id=run_id)


def test_the_feature_code_lies_beside_the_model(empty, run_id):
    version = empty.register(fit(), contract_for("f"), run_id=run_id, code=[Path(__file__)])
    assert (files_of(empty, version) / "code" / Path(__file__).name).read_bytes() == Path(__file__).read_bytes()


def test_mlflow_itself_serves_what_was_registered(registry, monkeypatch):
    from mlflow import pyfunc

    registry.promote(1, **SIGNED)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking_uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    loaded = pyfunc.load_model("models:/flights@champion")
    fresh = inputs_of(20, seed=1)
    np.testing.assert_array_equal(loaded.predict(fresh), registry.load("champion").model.predict(fresh))


# Loading


def spoil_model(folder):
    (folder / "model.skops").write_bytes(b"not even an archive")
    return "model.skops"


def spoil_contract(folder):
    path = folder / "contract.json"
    path.write_text(path.read_text(encoding="utf-8").replace("d1", "d2"), encoding="utf-8")
    return "contract.json"


def add_file(folder):
    (folder / "code").mkdir()
    (folder / "code" / "sneaky.py").write_text("import os", encoding="utf-8")
    return "code/sneaky.py"


def remove_file(folder):
    (folder / "answers.json").unlink()
    return "answers.json"


def forge_list(folder):
    path = folder / "SHA256SUMS"
    path.write_text(path.read_text(encoding="utf-8") + f"{'0' * 64}  more\n", encoding="utf-8")
    return "SHA256SUMS"


@pytest.mark.parametrize("tamper", [spoil_model, spoil_contract, add_file, remove_file, forge_list])
def test_a_tampered_version_is_refused_by_name_of_the_file_before_anything_is_opened(store, fourth, tamper):
    registry = after(store, "1")
    name = tamper(fourth)
    with pytest.raises(TamperedError, match=name):
        registry.load(4)
    with pytest.raises(TamperedError, match=name):
        registry.promote(4, **SIGNED)
    assert registry.champion() == 1


def test_a_version_whose_files_are_gone_is_refused(registry, fourth):
    shutil.rmtree(fourth)
    with pytest.raises(RegistryError, match="version 4 of flights cannot be read"):
        registry.load(4)


def test_a_model_whose_feature_code_has_changed_its_meaning_is_refused(empty, run_id, monkeypatch):
    version = empty.register(fit(logistic), contract_for("f"), run_id=run_id)
    monkeypatch.setitem(globals(), "WIND_UNIT", 1.609)
    with pytest.raises(ContractError, match="feature code or a library has changed"):
        empty.load(version)


@pytest.mark.parametrize("asked", [7, "champion", "challengers"])
def test_what_does_not_exist_is_not_loaded_and_the_error_says_what_exists(registry, asked):
    with pytest.raises(UnknownVersionError, match=rf"no (version )?{asked}.* 1, 2, 3, 4"):
        registry.load(asked)


# Promotion


def test_a_promotion_moves_the_alias_and_is_on_record(registry):
    now = datetime(2013, 7, 1, 12, tzinfo=UTC)
    dated = Registry(registry.tracking_uri, registry.name, trusted=TRUSTED, clock=lambda: now)
    dated.promote(1, **SIGNED)
    dated.promote(3, approver="Grace", reason="cheaper", evidence="run 42")
    last = registry.history().loc[2]
    assert registry.champion() == alias_of(registry, "champion") == registry.load("champion").version == 3
    assert last[["when", "event", "version", "previous"]].tolist() == [now, "promoted", 3, 1]
    assert last[["approver", "reason", "evidence"]].tolist() == ["Grace", "cheaper", "run 42"]


@pytest.mark.parametrize(
    ("version", "words", "error", "message"),
    [
        (7, SIGNED, UnknownVersionError, "no version 7"),
        (1, SIGNED, PromotionError, "champion already"),
        (2, SIGNED, PromotionError, "roc_auc 0.5 < 0.6"),
        (2, SIGNED | {"waiver": " "}, PromotionError, "roc_auc 0.5 < 0.6"),
        (3, SIGNED | {"approver": " "}, PromotionError, "expected approver"),
        (3, SIGNED | {"reason": ""}, PromotionError, "expected reason"),
        (3, SIGNED | {"reason": "x" * 120_000}, PromotionError, "at most 10000 characters .* {'reason': 120000}"),
    ],
)
def test_a_refused_promotion_leaves_no_trace(store, version, words, error, message):
    registry = after(store, "1")
    with pytest.raises(error, match=message):
        registry.promote(version, **words)
    assert registry.champion() == 1
    assert len(registry.history()) == 1


def test_a_waiver_goes_on_record_with_what_it_waives(registry):
    registry.promote(2, **SIGNED, waiver="the only one that runs")
    assert registry.champion() == 2
    assert registry.history().loc[1, ["objections", "waiver"]].tolist() == [
        "roc_auc 0.5 < 0.6",
        "the only one that runs",
    ]


def derive_wind_speed(inputs):
    return derive(inputs.rename(columns={"wind_speed": "wind"}))


def derive_without_wind(inputs):
    return derive(inputs.assign(wind=0.0))


def derive_typed(inputs):
    return derive(inputs.assign(wind=inputs["wind"].astype(float)))


@pytest.mark.parametrize(
    ("change", "code", "objections"),
    [
        pytest.param(
            lambda x: x.drop(columns="wind"),
            derive_without_wind,
            "input wind: double before, none now",
            id="missing",
            marks=pytest.mark.long,
        ),
        pytest.param(
            lambda x: x.rename(columns={"wind": "wind_speed"}),
            derive_wind_speed,
            "wind: double before, none now; input wind_speed: none before, double now",
            id="renamed",
        ),
        pytest.param(
            lambda x: x.assign(wind=x["wind"].astype("str")),
            derive_typed,
            "input wind: double before, string now",
            id="retyped",
        ),
    ],
)
def test_inputs_that_callers_do_not_send_need_a_waiver_in_both_directions(registry, run_id, change, code, objections):
    inputs = change(inputs_of(200))
    open_minded = Registry(registry.tracking_uri, registry.name, trusted=[*TRUSTED, f"{__name__}.{code.__name__}"])
    version = open_minded.register(fit(derive=code, inputs=inputs), contract_for("f5", inputs.head(3)), run_id=run_id)
    open_minded.promote(1, **SIGNED)
    with pytest.raises(PromotionError, match=objections):
        open_minded.promote(version, **SIGNED)
    open_minded.promote(version, **SIGNED, waiver="callers have changed with us")
    with pytest.raises(PromotionError, match="before"):
        open_minded.roll_back(**SIGNED)
    assert open_minded.roll_back(**SIGNED, waiver="callers go back too") == 1


def test_the_order_of_inputs_does_not_bind_the_next_champion(registry, run_id):
    inputs = inputs_of(200)[["wind", "departure", "carrier"]]
    version = registry.register(fit(inputs=inputs), contract_for("f5", inputs.head(3)), run_id=run_id)
    registry.promote(1, **SIGNED)
    registry.promote(version, **SIGNED)
    assert registry.champion() == version


def test_the_newest_version_that_passed_is_challenger_until_it_is_champion(registry, run_id):
    assert alias_of(registry, "challenger") == registry.load("challenger").version == 4
    registry.promote(4, **SIGNED)
    assert alias_of(registry, "challenger") is None
    registry.register(fit(), contract_for("f5", gate_passed=False), run_id=run_id)
    assert alias_of(registry, "challenger") is None
    registry.register(fit(), contract_for("f6"), run_id=run_id)
    assert alias_of(registry, "challenger") == 6


HELD = {"gate_passed": False, "gate_held": True, "gate_reasons": ["tolerated_loss: cannot tell"]}


def test_a_version_that_the_gate_held_may_be_watched_and_needs_a_waiver_to_answer(registry, run_id):
    registry.promote(1, **SIGNED)
    version = registry.register(fit(), contract_for("f5", **HELD), run_id=run_id)
    assert registry.versions().set_index("version")["gate"][version] == "held"
    assert alias_of(registry, "challenger") == 4
    registry.shadow(version, **SIGNED)
    for step in (registry.promote, partial(registry.canary, share=0.1)):
        with pytest.raises(PromotionError, match=r"tolerated_loss: cannot tell; .*say in waiver"):
            step(version, **SIGNED)
    assert registry.champion() == 1
    registry.promote(version, **SIGNED, waiver="two weeks beside the champion found no loss")
    assert registry.champion() == version


# Roll back


@pytest.mark.parametrize(
    ("moves", "champion"),
    [("1 3 back", 1), ("1 3 back 4 back", 1), ("1 3 4 back back", 1), ("3 1 4 back", 1), ("1 3 1 back", 3)],
)
def test_a_roll_back_returns_to_the_last_champion_and_not_to_the_last_number(store, moves, champion):
    registry = after(store, moves)
    assert registry.champion() == alias_of(registry, "champion") == champion


@pytest.mark.parametrize("moves", ["", "1", "1 3 back"])
def test_without_an_earlier_champion_there_is_no_roll_back(store, moves):
    registry = after(store, moves)
    champion = registry.champion()
    with pytest.raises(PromotionError, match="no earlier champion"):
        registry.roll_back(**SIGNED)
    assert registry.champion() == champion


def test_a_champion_that_lost_its_files_can_be_rolled_back(store, fourth):
    registry = after(store, "1 4")
    shutil.rmtree(fourth)
    assert registry.roll_back(**SIGNED) == 1
    assert registry.load("champion").version == 1


# History and aliases


def test_a_champion_that_was_deleted_does_not_hold_up_the_next_one(store):
    from mlflow import MlflowClient

    registry = after(store, "1")
    MlflowClient(registry.tracking_uri).delete_model_version("flights", "1")
    with pytest.raises(PromotionError, match="champion 1 was deleted"):
        registry.promote(3, **SIGNED)
    registry.promote(3, **SIGNED, waiver="callers have not changed")
    assert registry.load("champion").version == 3


def test_of_two_promotions_at_once_the_first_counts_and_both_are_on_record(registry):
    def meanwhile():
        registry.promote(3, **SIGNED)
        return datetime.now(UTC)

    slow = Registry(registry.tracking_uri, registry.name, trusted=TRUSTED, clock=meanwhile)
    with pytest.raises(OvertakenError, match="read history"):
        slow.promote(4, **SIGNED)
    assert registry.champion() == alias_of(registry, "champion") == 3
    assert registry.history()[["version", "in_effect"]].to_numpy().tolist() == [[3, True], [4, False]]


def test_promotions_from_several_threads_lose_no_event_and_leave_history_and_alias_agreed(registry):
    def attempt(version):
        try:
            Registry(registry.tracking_uri, registry.name, trusted=TRUSTED).promote(version, **SIGNED)
        except OvertakenError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        counted = list(pool.map(attempt, [1, 3, 4]))
    history = registry.history()
    assert sorted(history["version"]) == [1, 3, 4]
    assert history["in_effect"].sum() == sum(counted) >= 1
    assert alias_of(registry, "champion") == history.loc[history["in_effect"], "version"].iloc[-1]


def test_the_history_up_to_a_step_says_who_was_in_charge_then_and_by_which_step(store):
    history = after(store, "1 3 back 4").history()
    found = [champion_steps(history.iloc[:length]) for length in range(1, 5)]
    assert [steps["version"].tolist() for steps in found] == [[1], [1, 3], [1], [1, 4]]
    assert [steps.index[-1] for steps in found] == [1, 2, 3, 4]


def test_an_alias_moved_by_hand_is_put_right_with_a_warning(store, caplog):
    from mlflow import MlflowClient

    registry = after(store, "1")
    MlflowClient(registry.tracking_uri).set_registered_model_alias("flights", "champion", "2")
    assert not caplog.records
    assert registry.load("champion").version == alias_of(registry, "champion") == 1
    assert "MLflow had champion 2, the history has 1" in caplog.text


def test_a_champion_from_before_the_first_release_is_left_alone(registry):
    from mlflow import MlflowClient

    MlflowClient(registry.tracking_uri).set_registered_model_alias("flights", "champion", "2")
    assert registry.champion() is None
    assert alias_of(registry, "champion") == 2


def test_a_deleted_release_is_noticed_and_versions_still_load_by_number(store):
    from mlflow import MlflowClient

    registry = after(store, "1 3 4")
    MlflowClient(registry.tracking_uri).delete_model_version("flights-releases", "2")
    with pytest.raises(HistoryError, match="release 2 of flights was deleted"):
        registry.champion()
    assert registry.load(3).version == 3


# Trials


def events(registry):
    return registry.history()[["event", "version", "share"]].fillna(0).to_numpy().tolist()


def test_a_version_goes_through_shadow_and_canary_and_each_step_is_on_record(store):
    registry = after(store, "1")
    registry.shadow(3, **SIGNED)
    registry.canary(3, share=0.1, **SIGNED)
    registry.canary(3, share=0.25, evidence="e-value 1", **SIGNED)
    expected = [["promoted", 1, 0], ["shadow", 3, 0], ["canary", 3, 0.1], ["canary", 3, 0.25]]
    assert events(registry) == expected
    assert registry.history()["evidence"].iloc[-1] == "e-value 1"
    assert registry.champion() == alias_of(registry, "champion") == 1


def test_a_trial_begins_with_its_first_step_and_raising_the_share_goes_on_with_it(store):
    registry = after(store, "1")
    registry.canary(3, share=0.1, **SIGNED)
    begun = registry.trial()
    registry.canary(3, share=0.5, **SIGNED)
    raised = registry.trial()
    assert (begun.version, begun.mode, begun.share) == (3, "canary", 0.1)
    assert (raised.release, raised.since, raised.share) == (begun.release, begun.since, 0.5)


@pytest.mark.parametrize("end", ["end_trial", "promote", "roll_back", "another"])
def test_a_trial_ends_with_the_next_release_or_by_word(store, end):
    registry = after(store, "1 4")
    registry.canary(3, share=0.1, **SIGNED)
    match end:
        case "end_trial":
            assert registry.end_trial(**SIGNED) == 3
        case "promote":
            registry.promote(3, **SIGNED)
        case "roll_back":
            assert registry.roll_back(**SIGNED) == 1
        case "another":
            registry.shadow(1, **SIGNED)
    assert (registry.trial().version if registry.trial() else None) == (1 if end == "another" else None)


def test_a_trial_changes_neither_champion_nor_the_way_back(store):
    registry = after(store, "1 4")
    registry.shadow(3, **SIGNED)
    registry.end_trial(**SIGNED)
    assert registry.champion() == 4
    assert registry.roll_back(**SIGNED) == 1


def test_the_challenger_stays_challenger_while_it_is_tried(store):
    registry = after(store, "1")
    registry.canary(4, share=0.1, **SIGNED)
    registry.end_trial(**SIGNED)
    assert alias_of(registry, "challenger") == 4


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda r: r.shadow(1, **SIGNED), "another version than champion 1"),
        (lambda r: r.shadow(2, **SIGNED), "must not become champion: roc_auc"),
        (lambda r: r.canary(3, share=0.0, **SIGNED), "share between 0 and 1"),
        (lambda r: r.canary(3, share=1, **SIGNED), "promote it for all"),
        (lambda r: r.canary(3, share=0.1, approver=" ", reason="why"), "expected approver"),
        (lambda r: r.end_trial(**SIGNED), "nothing to end"),
        (lambda r: r.shadow(9, **SIGNED), "no version 9"),
    ],
)
def test_a_trial_that_must_not_begin_leaves_no_trace(store, attempt, message):
    registry = after(store, "1")
    with pytest.raises(RegistryError, match=message):
        attempt(registry)
    assert (events(registry), registry.trial()) == ([["promoted", 1, 0]], None)


def test_without_a_champion_there_is_nothing_to_try_beside(registry):
    with pytest.raises(PromotionError, match="promote one first"):
        registry.shadow(1, **SIGNED)


def test_a_version_with_other_inputs_cannot_be_tried_even_with_a_waiver(registry, run_id):
    registry.promote(1, **SIGNED)
    frame = inputs_of(200).assign(seats=1.0)
    version = registry.register(fit(inputs=frame), contract_for("f5", frame.head(3)), run_id=run_id)
    with pytest.raises(PromotionError, match="cannot be tried: input seats: none before, double now"):
        registry.shadow(version, waiver="we know", **SIGNED)


def test_the_newest_release_grows_with_every_step(registry):
    assert registry.newest_release() == 0
    registry.promote(1, **SIGNED)
    registry.shadow(3, **SIGNED)
    assert registry.newest_release() == len(registry.history()) == 2


# The chain


def change(store, *statements):
    """Edit the database as somebody without the right to do so would."""
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount, f"{statement}: nothing was changed"


def renumber(old, new):
    return [
        f"UPDATE {table} SET version = {new} WHERE name = 'flights-releases' AND version = {old}"
        for table in ("model_versions", "model_version_tags")
    ]


def tag(number, key, value):
    return (
        f"UPDATE model_version_tags SET value = '{value}' "
        f"WHERE name = 'flights-releases' AND version = {number} AND key = '{key}'"
    )


DELETED = [
    f"DELETE FROM {table} WHERE name = 'flights-releases' AND version = 2"
    for table in ("model_version_tags", "model_versions")
]
EDITS = {
    "the approver of an old release": ([tag(1, "approver", "Grace")], "release 1 was edited"),
    "the reason of the newest": ([tag(4, "reason", "why not")], "release 4 was edited"),
    "which version was released": ([tag(2, "version", "4")], "release 2 was edited"),
    "a tag more": (
        ["INSERT INTO model_version_tags (key, value, name, version, workspace) "
         "SELECT 'waiver', 'fine', name, version, workspace FROM model_version_tags "
         "WHERE name = 'flights-releases' AND version = 3 AND key = 'event'"],
        "release 3 was edited",
    ),
    "a release deleted": (DELETED, "release 2 was deleted"),
    "a release deleted and the rest moved up": ([*DELETED, *renumber(3, 2), *renumber(4, 3)], "release 2 was written"),
    "two releases swapped": ([*renumber(2, 9), *renumber(3, 2), *renumber(9, 3)], "release 2 was written"),
    "the link of a release cut": (
        ["DELETE FROM model_version_tags WHERE name = 'flights-releases' AND version = 3 AND key = 'own_hash'"],
        "release 3 was inserted, or lost its link",
    ),
    "a version that was given other files": (
        ["UPDATE model_version_tags SET value = 'f00d' WHERE name = 'flights' AND version = 3 AND key = 'digest'"],
        "release 2 released other files than version 3 names now",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def four_releases(store):
    """The name of a store with four releases, of the versions 1, 3, 1 again and 4, whose history is intact."""
    assert after(store, "1 3 back 4").verify_history().intact
    return "1 3 back 4.db"


@pytest.mark.parametrize(("statements", "found"), EDITS.values(), ids=list(EDITS))
def test_an_edit_of_the_database_is_found_and_placed(store, four_releases, statements, found):
    registry = restored(store, four_releases)
    change(store, *statements)
    chain = registry.verify_history()
    assert not chain.intact
    assert chain.defect.startswith(found)


def test_an_edit_with_a_recomputed_hash_shows_in_the_release_after_it(store):
    registry = after(store, "1 3 back")
    with closing(sqlite3.connect(store / "mlflow.db")) as database:
        rows = "FROM model_version_tags WHERE name = 'flights-releases' AND version = 2"
        tags = dict(database.execute(f"SELECT key, value {rows}")) | {"approver": "Grace"}
    del tags["own_hash"]
    own = hashlib.sha256(json.dumps(["models:/flights/3", tags], sort_keys=True, ensure_ascii=False).encode())
    change(store, tag(2, "approver", "Grace"), tag(2, "own_hash", own.hexdigest()))
    assert registry.verify_history().defect.startswith("release 3 was written after another history")


def test_releases_at_once_still_chain(registry):
    def meanwhile():
        registry.promote(3, **SIGNED)
        return datetime.now(UTC)

    slow = Registry(registry.tracking_uri, registry.name, trusted=TRUSTED, clock=meanwhile)
    with pytest.raises(OvertakenError):
        slow.promote(4, **SIGNED)
    registry.promote(4, **SIGNED)
    assert (len(registry.history()), registry.verify_history().defect) == (3, "")


def test_releases_from_several_threads_chain_whatever_each_of_them_saw(registry, store):
    def attempt(version):
        with suppress(OvertakenError):
            Registry(registry.tracking_uri, registry.name, trusted=TRUSTED).promote(version, **SIGNED)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attempt, [1, 3, 4]))
    assert (len(registry.history()), registry.verify_history().defect) == (3, "")
    change(store, tag(2, "approver", "Grace"))
    assert "release 2 was edited" in registry.verify_history().defect


def without_links(store):
    change(store, "DELETE FROM model_version_tags WHERE key IN ('follows', 'history_hash', 'own_hash', 'released')")


def test_a_history_from_before_the_chain_is_whole_and_the_first_chained_release_seals_it(store):
    registry = after(store, "1 3")
    without_links(store)
    assert (registry.verify_history().intact, registry.verify_history().begins) == (True, None)
    registry.roll_back(**SIGNED)
    assert (registry.verify_history().intact, registry.verify_history().begins) == (True, 3)
    change(store, tag(1, "approver", "Grace"))
    assert registry.verify_history().defect.startswith("release 3 was written after another history")


def test_a_release_after_a_break_does_not_heal_it(store):
    registry = after(store, "1 3")
    change(store, tag(1, "reason", "none"))
    registry.roll_back(**SIGNED)
    assert registry.verify_history().defect.startswith("release 1 was edited")


def test_a_head_that_is_kept_elsewhere_shows_what_the_chain_alone_cannot_show(store):
    registry = after(store, "1 3")
    kept = registry.verify_history().head
    registry.roll_back(**SIGNED)
    assert registry.verify_history(kept=kept).intact
    change(store, *[statement.replace("= 2", "= 3") for statement in DELETED])
    assert registry.verify_history(kept=kept).intact
    change(store, *DELETED)
    assert registry.verify_history().intact
    assert registry.verify_history(kept=kept).defect == "the first 2 releases are not those of the head that was kept"


def test_an_empty_history_is_intact_and_a_head_that_is_none_is_refused(empty):
    assert (empty.verify_history().intact, empty.verify_history().head) == (True, "0:" + 64 * "0")
    with pytest.raises(ValueError, match="expected the head of a chain"):
        empty.verify_history(kept="latest")


def test_versions_show_aliases_gate_and_metrics(store):
    registry = after(store, "1")
    versions = registry.versions().set_index("version")
    assert versions["aliases"].to_dict() == {1: "champion", 2: "", 3: "", 4: "challenger"}
    assert versions["gate"].to_dict() == {1: "passed", 2: "failed", 3: "passed", 4: "passed"}
    assert versions["metric.roc_auc"].eq(0.71).all()


def test_an_empty_store_has_no_champion_no_versions_and_no_history(empty):
    assert empty.champion() is None
    assert empty.versions().empty
    assert empty.history().empty


def test_global_settings_of_mlflow_stay_as_they_are(registry):
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    registry.promote(1, **SIGNED)
    registry.promote(3, **SIGNED)
    registry.roll_back(**SIGNED)
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before


def test_a_name_that_mlflow_could_not_search_is_refused():
    with pytest.raises(ValueError, match="rename it"):
        Registry("sqlite:///never-opened.db", "o'hare")
