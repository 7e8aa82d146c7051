import itertools
import logging
import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import RandomizedSearchCV, cross_val_score
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from mlops_course.development import training
from mlops_course.development.training import selection

# MLflow 3.17 on SQLAlchemy 2.1, when a store is opened for the first time

EPOCH = pd.Timestamp("2013-01-01", tz="UTC")
NAMES = ["base_rate", "logistic_regression", "gradient_boosting"]
BOTH = {"numeric": ["load", "hour"], "categorical": ["site"]}


def derive(inputs):
    return inputs.assign(hour=inputs["asked"].dt.hour).drop(columns="asked")


def make_rows(count=600, seed=0):
    """Inputs of a small problem with gaps in them, the label, and the two times; unsorted, with a telling index."""
    random = np.random.default_rng(seed)
    load, asked = random.normal(size=count), EPOCH + pd.to_timedelta(random.permutation(count), unit="h")
    frame = pd.DataFrame(
        {"asked": asked.tz_localize(None), "load": load, "site": random.choice(["a", "b", "c"], count)}
    )
    frame["late"] = (load + random.normal(size=count) > 0.5).astype(float)
    frame["prediction_time"], frame["label_time"] = (
        asked,
        asked + pd.to_timedelta(random.uniform(1, 50, count), unit="h"),
    )
    frame.loc[frame.index % 7 == 0, "load"] = np.nan
    frame.loc[frame.index % 11 == 0, "site"] = np.nan
    return frame.set_axis(random.permutation(count) + 1000)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Trees on one core: on a busy machine, threads that wait for one another make these tests take a minute."""
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture
def inputs(rows):
    return rows[["asked", "load", "site"]]


@pytest.fixture
def folds(rows):
    return training.TimeFolds(3, prediction_time=rows["prediction_time"], label_time=rows["label_time"])


@pytest.fixture
def models():
    return training.candidates(derive, **BOTH, seed=0)


@pytest.fixture(params=NAMES)
def model(request, models):
    return models[request.param]


# Folds in order of time


@st.composite
def time_folds(draw):
    hours = draw(st.lists(st.integers(0, 30), min_size=4, max_size=60).filter(lambda asked: len(set(asked)) > 3))
    delays = [draw(st.integers(0, 40)) for _ in hours]
    n_splits = draw(st.integers(1, 3))
    asked = pd.Series(EPOCH + pd.to_timedelta(hours, unit="h"))
    known = asked + pd.to_timedelta(delays, unit="h")
    known[asked.idxmin()] = asked.min()  # so that the first fold has a row to train on
    return training.TimeFolds(n_splits, prediction_time=asked, label_time=known)


@settings(max_examples=25)
@given(time_folds())
def test_no_label_is_trained_on_that_was_unknown_when_the_test_period_began(folds):
    for train, test in folds.split():
        assert folds.label_time.iloc[train].max() <= folds.prediction_time.iloc[test].min()


@settings(max_examples=25)
@given(time_folds())
def test_every_earlier_row_whose_label_was_known_is_trained_on(folds):
    for train, test in folds.split():
        start = folds.prediction_time.iloc[test].min()
        known = (folds.prediction_time < start) & (folds.label_time <= start)
        assert set(train) == set(np.flatnonzero(known))


@settings(max_examples=25)
@given(time_folds())
def test_no_row_is_trained_and_tested_on_in_one_fold(folds):
    assert not any(set(train) & set(test) for train, test in folds.split())


@settings(max_examples=25)
@given(time_folds())
def test_each_row_after_the_first_period_is_tested_once(folds):
    tested = np.concatenate([test for _, test in folds.split()])
    assert sorted(tested) == list(np.flatnonzero(folds.prediction_time >= folds.starts()[0]))


@settings(max_examples=25)
@given(time_folds())
def test_rows_of_one_instant_stay_together(folds):
    tests = [set(folds.prediction_time.iloc[test]) for _, test in folds.split()]
    assert all(tests)
    assert not any(one & other for one, other in itertools.combinations(tests, 2))


@settings(max_examples=25)
@given(time_folds())
def test_the_rows_to_train_on_only_grow(folds):
    trained = [set(train) for train, _ in folds.split()]
    assert trained[0]
    assert all(earlier <= later for earlier, later in itertools.pairwise(trained))


@settings(max_examples=25)
@given(time_folds(), st.randoms())
def test_the_order_of_rows_changes_nothing(folds, random):
    order = random.sample(range(len(folds.label_time)), len(folds.label_time))
    shuffled = training.TimeFolds(
        folds.n_splits, prediction_time=folds.prediction_time.iloc[order], label_time=folds.label_time.iloc[order]
    )
    expected = [(set(train), set(test)) for train, test in folds.split()]
    assert [tuple({order[i] for i in part} for part in parts) for parts in shuffled.split()] == expected


def test_scikit_learn_takes_the_folds(models, inputs, rows, folds):
    searched = RandomizedSearchCV(models["base_rate"], {"classify__strategy": ["prior", "uniform"]}, n_iter=2, cv=folds)
    assert searched.fit(inputs, rows["late"]).n_splits_ == 3
    assert len(cross_val_score(models["base_rate"], inputs, rows["late"], cv=folds)) == 3


def test_times_of_different_resolution_are_compared_as_times(rows, folds):
    finer = training.TimeFolds(
        3, prediction_time=rows["prediction_time"].dt.as_unit("s"), label_time=rows["label_time"].dt.as_unit("ns")
    )
    assert [len(train) for train, _ in finer.split()] == [len(train) for train, _ in folds.split()]


NOON = pd.Series([EPOCH, EPOCH + pd.Timedelta("1h"), EPOCH + pd.Timedelta("2h")])


@pytest.mark.parametrize(
    ("n_splits", "asked", "known", "error", "message"),
    [
        (
            1,
            NOON.mask(NOON == EPOCH),
            NOON,
            ValueError,
            "prediction_time: expected a time for every row, got 1 missing",
        ),
        (1, NOON, NOON.mask(NOON > EPOCH), ValueError, "label_time: expected a time for every row, got 2 missing"),
        (1, NOON.astype(str), NOON, TypeError, "prediction_time: expected a Series of datetimes, got str"),
        (1, NOON, NOON.array, TypeError, "label_time: expected a Series of datetimes, got DatetimeArray"),
        (1, NOON, NOON.set_axis([5, 6, 7]), ValueError, "of the same rows"),
        (1, NOON + pd.Timedelta("1h"), NOON, ValueError, "got 3; are the two times swapped"),
        (3, NOON, NOON, ValueError, "got 3 folds and 3 distinct times; use fewer folds"),
        (0, NOON, NOON, ValueError, "expected one fold or more"),
        (1, NOON, NOON + pd.Timedelta("9h"), ValueError, "expected labels before the first test period begins"),
    ],
)
def test_times_that_cannot_be_folded_are_refused(n_splits, asked, known, error, message):
    with pytest.raises(error, match=message):
        training.TimeFolds(n_splits, prediction_time=asked, label_time=known)


@pytest.mark.parametrize(
    ("others", "message"), [(slice(0, 99), "got 99 rows"), (slice(None, None, -1), "got another index")]
)
def test_rows_whose_times_these_are_not_are_refused(inputs, folds, others, message):
    with pytest.raises(ValueError, match=message):
        next(folds.split(inputs.iloc[others]))


# Candidates


def test_candidates_come_simplest_first(models):
    assert list(models) == NAMES


@pytest.mark.parametrize("gaps", [True, False], ids=["trained with gaps", "trained without"])
@pytest.mark.parametrize("dtype", ["str", object])
def test_an_unknown_category_or_a_missing_value_is_answered(model, inputs, rows, gaps, dtype):
    trained_on = inputs if gaps else inputs.dropna()
    strange = pd.DataFrame({"site": ["never seen", None, "a", None], "load": [0.0, 0.0, np.nan, np.nan]})
    asked = strange.astype({"site": dtype}).assign(asked=inputs["asked"].iloc[0])
    probability = model.fit(trained_on, rows.loc[trained_on.index, "late"]).predict_proba(asked)
    assert np.isfinite(probability).all()


def test_a_column_that_was_always_missing_is_no_obstacle(model, inputs, rows):
    empty = inputs.assign(load=np.nan)
    assert np.isfinite(model.fit(empty, rows["late"]).predict_proba(inputs)).all()


def test_more_categories_than_trees_can_tell_apart_are_no_obstacle(inputs, rows, model):
    many = inputs.assign(site=[f"site {i % 400}" for i in range(len(inputs))])
    assert np.isfinite(model.fit(many, rows["late"]).predict_proba(many)).all()


def test_one_row_gets_the_same_answer_alone_as_among_others(model, inputs, rows):
    together = model.fit(inputs, rows["late"]).predict_proba(inputs.head(5))
    alone = np.vstack([model.predict_proba(inputs.iloc[[i]]) for i in range(5)])
    np.testing.assert_allclose(alone, together, rtol=1e-12)


def test_the_same_rows_and_seed_give_the_same_model(model, inputs, rows):
    first, second = (clone(model).fit(inputs, rows["late"]).predict_proba(inputs) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["base_rate", "logistic_regression", "gradient_boosting"])
def test_on_the_same_rows_another_seed_gives_the_same_model(name, inputs, rows):
    """So what a score moves by from seed to seed is the draw of the rows."""
    one, other = (training.candidates(derive, **BOTH, seed=seed)[name].fit(inputs, rows["late"]) for seed in (0, 1))
    np.testing.assert_array_equal(one.predict_proba(inputs), other.predict_proba(inputs))


def test_candidates_share_no_part(models):
    parts = [id(step) for model in models.values() for _, step in model.steps]
    assert len(parts) == len(set(parts))


def test_without_derive_the_inputs_are_the_features(inputs, rows):
    models = training.candidates(None, numeric=["load"], categorical=["site"], seed=0)
    assert "derive" not in models["gradient_boosting"].fit(inputs, rows["late"]).named_steps


def test_a_function_that_cannot_be_imported_is_refused():
    with pytest.raises(ValueError, match="expected a function that can be imported"):
        training.candidates(lambda inputs: inputs, **BOTH, seed=0)


# Cross-validation and search


def test_metrics_of_a_fold_are_those_of_a_model_fitted_by_hand(model, inputs, rows, folds):
    scores = training.cross_validate_in_time(model, inputs, target=rows["late"], folds=folds)
    train, test = list(folds.split())[1]
    late = rows["late"].to_numpy()
    probability = model.fit(inputs.iloc[train], late[train]).predict_proba(inputs.iloc[test])[:, 1]
    by_hand = [metric(late[test], probability) for metric in (roc_auc_score, log_loss, brier_score_loss)]
    np.testing.assert_allclose(scores.loc[1, ["roc_auc", "log_loss", "brier"]].astype(float), by_hand)
    assert scores.loc[1, ["train_rows", "test_rows"]].tolist() == [len(train), len(test)]


def test_each_fold_says_when_its_test_period_begins(models, inputs, rows, folds):
    scores = training.cross_validate_in_time(models["base_rate"], inputs, target=rows["late"], folds=folds)
    begins = [rows["prediction_time"].iloc[test].min() for _, test in folds.split()]
    assert scores["test_from"].tolist() == begins


@pytest.mark.parametrize(
    ("late", "message"),
    [
        (lambda late: late.mask(late == 1), "missing or other; drop rows without a label"),
        (lambda late: late.replace(1, 2), "expected every label to be 0 or 1"),
        (lambda late: late * 0, "expected both classes, got one in the train rows of fold 0"),
        (lambda late: late.head(9), "got 9 labels for 600 rows"),
        (lambda late: late.sort_index(), "expected labels with the index of their rows"),
    ],
)
def test_labels_that_no_model_can_be_scored_by_are_refused(models, inputs, rows, folds, late, message):
    with pytest.raises(ValueError, match=message):
        training.cross_validate_in_time(models["base_rate"], inputs, target=late(rows["late"]), folds=folds)


def search(models, inputs, rows, folds, **changes):
    settings = {"inputs": inputs, "target": rows["late"], "folds": folds, "draws": 3, "seed": 0} | changes
    parameters = {"classify__C": np.logspace(-6, 1, 20)}
    return training.search(models["logistic_regression"], parameters, **settings)


def test_search_keeps_the_parameters_of_the_lowest_mean_log_loss(models, inputs, rows, folds):
    found = search(models, inputs, rows, folds)
    again = models["logistic_regression"].set_params(**found.best_params_)
    scores = training.cross_validate_in_time(again, inputs, target=rows["late"], folds=folds)
    assert scores["log_loss"].mean() == pytest.approx(-found.cv_results_["mean_test_score"].max())


def test_search_gives_the_same_on_several_workers(models, inputs, rows, folds):
    alone = search(models, inputs, rows, folds).cv_results_["mean_test_score"]
    with joblib.parallel_config("threading", n_jobs=2):
        together = search(models, inputs, rows, folds).cv_results_["mean_test_score"]
    np.testing.assert_allclose(together, alone)


def test_search_tries_other_parameters_with_another_seed(models, inputs, rows, folds):
    tried = [search(models, inputs, rows, folds, seed=seed).cv_results_["params"] for seed in (0, 0, 1)]
    assert tried[0] == tried[1] != tried[2]


@pytest.mark.parametrize(
    ("simple", "best", "chosen"),
    [
        ([0.51, 0.50, 0.52], [0.50, 0.51, 0.50], "simple"),  # a little worse on average, and not always
        ([0.51, 0.61, 0.71], [0.50, 0.60, 0.70], "best"),  # a little worse in each fold, however hard the fold is
        ([0.50, 0.60, 0.70], [0.50, 0.60, 0.70], "simple"),
        ([0.40, 0.50, 0.60], [0.50, 0.60, 0.70], "simple"),
    ],
)
def test_the_simplest_model_within_one_standard_error_is_chosen(simple, best, chosen):
    losses = pd.DataFrame({"simple": simple, "best": best, "worst": [0.9, 0.9, 0.9]})
    assert training.simplest_within_one_standard_error(losses) == chosen


@pytest.mark.parametrize("losses", [pd.DataFrame({"a": [0.5]}), pd.DataFrame({"a": [0.5, np.nan]})], ids=["one", "nan"])
def test_no_standard_error_without_two_known_losses(losses):
    with pytest.raises(ValueError, match="two or more folds, none missing"):
        training.simplest_within_one_standard_error(losses)


# Calibration and decision


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibrated_probabilities_have_the_mean_of_the_labels(models, inputs, rows, method):
    biased = models["logistic_regression"].fit(inputs, (inputs["load"] > -1).astype(float))
    calibrated = training.calibrate(biased, inputs, target=rows["late"], method=method)
    assert biased.predict_proba(inputs)[:, 1].mean() > rows["late"].mean() + 0.2
    assert calibrated.predict_proba(inputs)[:, 1].mean() == pytest.approx(rows["late"].mean(), abs=0.01)


def test_calibration_leaves_the_model_as_fitted(models, inputs, rows):
    model = models["logistic_regression"].fit(inputs, (inputs["load"] > -1).astype(float))
    before = model.predict_proba(inputs)[:, 1]
    calibrated = training.calibrate(model, inputs.head(100), target=rows["late"].head(100))
    np.testing.assert_array_equal(model.predict_proba(inputs)[:, 1], before)
    assert spearmanr(calibrated.predict_proba(inputs)[:, 1], before).statistic == pytest.approx(1, abs=1e-12)


def test_isotonic_calibration_is_isotonic_regression_on_the_scores(models, inputs, rows):
    model = models["logistic_regression"].fit(inputs, rows["late"])
    calibrated = training.calibrate(model, inputs, target=rows["late"], method="isotonic")
    expected = IsotonicRegression().fit_transform(model.decision_function(inputs), rows["late"])
    np.testing.assert_allclose(calibrated.predict_proba(inputs)[:, 1], expected, atol=1e-12)


cents = st.integers(1, 10_000).map(lambda cost: cost / 100)


@given(cents, cents, cents, cents)
def test_at_the_threshold_of_net_costs_acting_and_waiting_cost_the_same(false_alarm, missed, rightly_acted, waited):
    p = training.cost_threshold(false_alarm=false_alarm, missed=missed)
    acting = p * rightly_acted + (1 - p) * (waited + false_alarm)
    waiting = p * (rightly_acted + missed) + (1 - p) * waited
    assert acting == pytest.approx(waiting)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0.2, 0.2001, 0.5, 1])), min_size=1), cents, cents)
def test_the_best_threshold_is_the_highest_of_those_that_cost_least(rows, false_alarm, missed):
    late, probability = np.array(rows, dtype=float).T

    def cost(threshold):
        acted_on = probability >= threshold
        return false_alarm * (acted_on & (late == 0)).sum() + missed * (~acted_on & (late == 1)).sum()

    never = np.nextafter(probability.max(), 2)
    expected = min([never, *sorted(probability, reverse=True)], key=cost)
    assert training.best_threshold(late, probability, false_alarm=false_alarm, missed=missed) == expected


def test_on_many_calibrated_rows_the_best_threshold_is_near_the_one_from_costs():
    random = np.random.default_rng(0)
    probability = random.uniform(size=100_000)
    late = (random.uniform(size=100_000) < probability).astype(float)
    costs = {"false_alarm": 15, "missed": 60}
    assert training.best_threshold(late, probability, **costs) == pytest.approx(
        training.cost_threshold(**costs), abs=0.05
    )


@pytest.mark.parametrize("costs", [{"false_alarm": 0, "missed": 1}, {"false_alarm": 1, "missed": np.nan}], ids=str)
def test_costs_that_decide_nothing_are_refused(costs):
    with pytest.raises(ValueError, match="expected a positive, finite cost"):
        training.cost_threshold(**costs)
    with pytest.raises(ValueError, match="expected a positive, finite cost"):
        training.best_threshold(np.array([0, 1]), np.array([0.1, 0.9]), **costs)


@pytest.mark.parametrize("probability", [np.eye(2), np.array([]), np.array([0.5, np.nan])], ids=["2-D", "none", "nan"])
def test_what_is_not_one_probability_a_row_has_no_best_threshold(probability):
    with pytest.raises(ValueError, match="expected one probability of the label 1 for each row"):
        training.best_threshold(np.ones(len(probability)), probability, false_alarm=1, missed=1)


@pytest.fixture
def decided(model, inputs, rows):
    calibrated = training.calibrate(model.fit(inputs, rows["late"]), inputs, target=rows["late"])
    return training.decide(calibrated, 0.3)


def test_a_decision_is_made_where_the_probability_reaches_the_threshold(decided, inputs):
    check_is_fitted(decided)
    probability = decided.estimator.predict_proba(inputs)
    np.testing.assert_array_equal(decided.predict_proba(inputs), probability)
    np.testing.assert_array_equal(decided.predict(inputs), probability[:, 1] >= 0.3)


def test_a_decision_on_the_threshold_itself_is_to_act(models, inputs, rows):
    model = models["base_rate"].fit(inputs, rows["late"])
    assert training.decide(model, rows["late"].mean()).predict(inputs).all()
    assert not training.decide(model, np.nextafter(rows["late"].mean(), 1)).predict(inputs).any()


@pytest.mark.parametrize("threshold", [-0.1, 20, np.nan])
def test_a_threshold_that_is_no_probability_is_refused(models, threshold):
    with pytest.raises(ValueError, match="not a percentage"):
        training.decide(models["base_rate"], threshold)


def test_an_unfitted_model_cannot_decide(models):
    with pytest.raises(NotFittedError):
        training.decide(models["base_rate"], 0.2)


def test_a_saved_model_decides_as_before(decided, inputs):
    saved = skops.io.dumps(decided)
    loaded = skops.io.loads(saved, trusted=skops.io.get_untrusted_types(data=saved))
    np.testing.assert_array_equal(loaded.predict_proba(inputs), decided.predict_proba(inputs))
    np.testing.assert_array_equal(loaded.predict(inputs), decided.predict(inputs))


# Versions and the record


def test_code_version_depends_on_text_and_name_and_nothing_else(tmp_path):
    def version(folder, name, text):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(text)
        return training.code_version([tmp_path / folder / name])

    first = version("here", "a.py", b"x = 1\ny = 2\n")
    assert version("there", "a.py", b"x = 1\r\ny = 2\r\n") == first
    assert version("here", "b.py", b"x = 1\ny = 2\n") != first
    assert version("here", "a.py", b"x = 1\ny = 3\n") != first


def test_code_version_needs_a_file():
    with pytest.raises(ValueError, match="expected one or more source files"):
        training.code_version([])


def test_environment_names_the_python_and_its_packages():
    found = training.environment()
    assert found["packages"]["numpy"] == np.__version__
    assert list(found) == ["python", "platform", "packages"]


def test_a_package_that_comes_while_a_process_runs_is_in_its_environment(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = training.environment()["packages"]
    (tmp_path / "latecomer-1.2.dist-info").mkdir()
    (tmp_path / "latecomer-1.2.dist-info" / "METADATA").write_text("Name: latecomer\nVersion: 1.2\n")
    assert training.environment()["packages"] == before | {"latecomer": "1.2"}


@pytest.fixture(scope="module")
def store(empty_database, tmp_path_factory):
    """Address of an empty MLflow store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # read once, when MLflow is imported
        from mlflow import MlflowClient

        folder = tmp_path_factory.mktemp("a store")  # with a blank in its path, as people's folders have
        uri = f"sqlite:///{shutil.copy(empty_database, folder / 'mlflow.db').as_posix()}"
        logging.getLogger("alembic").setLevel(logging.WARNING)
        MlflowClient(tracking_uri=uri).search_experiments()
        yield uri


RECORD = {"name": "some model", "data_version": "d1", "code_version": "c1", "seed": 7}


@pytest.fixture
def tracked(store, models, inputs, rows, folds):
    """A finished run in which everything was logged, as MLflow has it."""
    from mlflow import MlflowClient

    model = models["logistic_regression"].fit(inputs, rows["late"])
    with training.track(store, "all", **RECORD, tags={"purpose": "test"}) as run:
        run.log_parameters(model)
        run.log_folds(training.cross_validate_in_time(model, inputs, target=rows["late"], folds=folds))
        run.log_plots(rows["late"], model.predict_proba(inputs)[:, 1])
    return MlflowClient(tracking_uri=store).get_run(run.run_id), run.client


def test_a_tracked_fit_leaves_all_that_it_takes_to_repeat_it(tracked):
    run, client = tracked
    assert run.info.status == "FINISHED"
    assert {"data_version": "d1", "code_version": "c1", "seed": "7", "purpose": "test"}.items() <= run.data.tags.items()
    assert run.data.tags["python"] == training.environment()["python"]
    assert run.data.params["classify__solver"] == "newton-cholesky"
    assert run.data.params["derive__func"] == f"{derive.__module__}.derive"
    assert "steps" not in run.data.params
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"requirements.txt", "folds.csv", "curves.png"}


def test_metrics_of_folds_are_steps_and_their_mean_is_a_metric(tracked):
    run, client = tracked
    losses = client.get_metric_history(run.info.run_id, "log_loss")
    assert [metric.step for metric in losses] == [0, 1, 2]
    assert run.data.metrics["mean_log_loss"] == pytest.approx(np.mean([metric.value for metric in losses]))


def test_artifacts_lie_beside_the_database_and_nowhere_else(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with training.track(store, "beside", **RECORD) as run:
        pass
    kept = run.client.get_run(run.run_id).info.artifact_uri
    assert "/artifacts/" in kept
    assert kept.startswith("file:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("no such column"), KeyboardInterrupt()], ids=["crash", "interrupt"])
def test_a_fit_that_does_not_end_well_is_failed_not_running(store, error):
    with pytest.raises(type(error)), training.track(store, "failed", **RECORD) as run:
        raise error
    found = run.client.get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.tags["error"] == f"{type(error).__name__}: {error}"


def test_a_run_knows_the_run_that_it_belongs_to(store):
    with (
        training.track(store, "family", **RECORD) as parent,
        training.track(store, "family", **RECORD, parent=parent.run_id) as child,
    ):
        pass
    assert child.client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_tracking_changes_no_state_of_mlflow(store):
    import mlflow

    with training.track(store, "quiet", **RECORD):
        assert mlflow.active_run() is None
        assert mlflow.get_tracking_uri() != store


def test_runs_of_one_experiment_are_found_together(store):
    with training.track(store, "together", **RECORD) as first:
        pass
    with training.track(store, "together", **RECORD) as second:
        pass
    experiment = first.client.get_experiment_by_name("together").experiment_id
    assert {run.info.run_id for run in first.client.search_runs([experiment])} == {first.run_id, second.run_id}


def test_parameters_inside_a_frozen_model_are_logged(store, models, inputs, rows):
    model = models["gradient_boosting"].fit(inputs, rows["late"])
    decided = training.decide(training.calibrate(model, inputs, target=rows["late"]), 0.2)
    with training.track(store, "frozen", **RECORD) as run:
        run.log_parameters(decided)
    parameters = run.client.get_run(run.run_id).data.params
    assert parameters["threshold"] == "0.2"
    assert parameters["estimator__estimator__estimator__estimator__classify__max_iter"] == "100"


def test_more_parameters_than_mlflow_takes_at_once_are_logged_whole(store):
    committee = VotingClassifier([(f"member_{i}", LogisticRegression(max_iter=i)) for i in range(20)])
    with training.track(store, "large", **RECORD) as run:
        run.log_parameters(committee)
    parameters = run.client.get_run(run.run_id).data.params
    assert [parameters[f"member_{i}__max_iter"] for i in range(20)] == [str(i) for i in range(20)]


def test_curves_of_a_model_that_only_knows_the_base_rate_can_be_drawn(store):
    with training.track(store, "constant", **RECORD) as run:
        run.log_plots(pd.Series([0.0, 1, 0, 0, 1]), np.full(5, 0.4))
    assert [file.path for file in run.client.list_artifacts(run.run_id)] == ["curves.png", "requirements.txt"]


def test_a_model_of_the_wrong_level_is_judged_by_what_it_tells_apart():
    rng = np.random.default_rng(0)
    chance = rng.beta(1, 12, 5_000)
    answer = (rng.random(5_000) < chance).astype(float)
    right, shifted, constant = (
        selection._calibrated_log_loss(answer, p) for p in (chance, 8 * chance / (1 + 7 * chance), np.full(5_000, 0.5))
    )
    assert abs(right - shifted) < 1e-4
    assert shifted < constant - 0.01


def test_folds_that_can_tell_little_count_for_little():
    losses = pd.DataFrame({"constant": [0.20, 0.24, 0.24, 0.24], "model": [0.26, 0.22, 0.22, 0.22]})
    assert training.simplest_within_one_standard_error(losses) == "constant"
    weights = pd.Series([5.0, 60.0, 60.0, 60.0])
    assert training.simplest_within_one_standard_error(losses, weights=weights) == "model"
