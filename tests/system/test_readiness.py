"""The ML Test Score: on a sound system each probe passes, and each fails when what it is about is broken."""

import itertools
import math
import pickle
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
import small_case

from mlops_course.development import evaluation, gate, training
from mlops_course.operations.deployment import batch, rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import drift as measures
from mlops_course.operations.monitoring import faults
from mlops_course.operations.registry import Registry
from mlops_course.system import environment, pipeline, readiness, scoring, service
from mlops_course.system.governance import deletion
from mlops_course.system.pipeline import steps
from mlops_course.system.readiness import PROBES, SystemUnderTest, scorecard
from mlops_course.system.readiness import data as data_probes
from mlops_course.system.readiness import model as model_probes
from mlops_course.system.system import System

pytestmark = pytest.mark.usefixtures("few_answers_are_timed")

JULY = pd.Timestamp("2024-07-01", tz="UTC").to_pydatetime()
SIGNED = {"approver": "Ada", "reason": "first release"}
TEST_OF_THE_CASE = "def test_derive(): assert True\n"
ALL = {name: probe for probes in PROBES.values() for name, probe in probes.items()}


@pytest.fixture(scope="module", autouse=True)
def steady_clock():
    """Each answer that is timed takes a millisecond: how busy this machine is decides nothing here."""
    seconds = itertools.count(0, 0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "latency", partial(gate.latency, clock=partial(next, seconds)))
        yield


@pytest.fixture(scope="module")
def sound(warm, tmp_path_factory):
    """A system with two versions, a champion among them, and a month of answers and labels in its log."""
    system = System("small_case", warm(tmp_path_factory.mktemp("readiness")), clock=lambda: JULY)
    names = small_case.batches()
    with pytest.MonkeyPatch.context() as patch:  # two versions that differ in a bar only: the model is trained once
        text = small_case.SPECIFICATION.read_text(encoding="utf-8").replace("min_roc_auc: 0.7", "min_roc_auc: 0.6")
        patch.setattr(small_case, "SPECIFICATION", tmp_path_factory.mktemp("lower") / "specification.yaml")
        small_case.SPECIFICATION.write_text(text, encoding="utf-8")
        first = pipeline.train(small_case, names[:6], workspace=system.workspace, seed=0)
    second = pipeline.train(small_case, names[:6], workspace=system.workspace, seed=0)
    for trained in (first, second):
        system.registry.promote(trained.version, **SIGNED)
    system.verify_history()  # keeps the head, as the command `promote` does
    log = PredictionLog(system.workspace.prediction_log_url)
    scoring.stream(system, [names[6]], log=log, consumer="desk")
    yield system, log
    log.close()


@pytest.fixture(scope="module")
def known(sound, tmp_path_factory):
    """What every probe reads of the champion, read once: the model, its run, and its rows."""
    tested = SystemUnderTest(*sound, None, tmp_path_factory.mktemp("known"))
    return {name: getattr(tested, name) for name in ("model", "run", "raw", "parts", "train", "test")}


@pytest.fixture
def tested(unread, known):
    vars(unread).update(known)
    return unread


@pytest.fixture
def unread(sound, tmp_path, monkeypatch):
    """A subject of which nothing was read yet."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_small_case.py").write_text(TEST_OF_THE_CASE)
    for drill in ("forget", "pipeline"):  # workspaces of probes: MLflow makes its tables for seconds, so copy them
        (tmp_path / "scratch" / drill).mkdir(parents=True)
        shutil.copy(sound[0].workspace.root / "empty.db", tmp_path / "scratch" / drill)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # of the tests that a probe runs; loading takes longer
    return SystemUnderTest(*sound, tmp_path, tmp_path / "scratch")


def test_there_are_seven_probes_in_each_of_four_sections():
    assert [len(probes) for probes in PROBES.values()] == [7, 7, 7, 7]
    assert len(set(ALL.values())) == 28


@pytest.mark.parametrize("name", ALL)
def test_a_sound_system_passes_and_says_what_was_found_and_is_left_as_it_was(tested, name):
    before = state(tested.system)
    passed, found = scorecard._outcome(ALL[name], tested)
    assert passed, found
    assert len(found) > 20
    assert state(tested.system) == before


def test_the_probes_measure_quality_as_the_pipeline_does(tested):
    rows, spec = tested.parts["test"], tested.system.specification
    measured = evaluation.evidence(rows[tested.target], tested.predict(rows), **tested.measurement(rows))
    asked = tested.costs | {"min_rows": spec.gates.min_slice_rows, "seed": tested.seed, "slices": list(spec.slices)}
    expected = steps.evidence(
        calibrated_model=pickle.dumps(tested.model.model),
        threshold=tested.model.contract.threshold,
        split_rows=tested.run.data.tags["split_rows"],
        columns=pipeline.columns_of(spec),
        measurement=asked,
        workspace=tested.system.workspace,
    )
    for name, table in expected.items():
        pd.testing.assert_frame_equal(measured[name], table)


# Sabotage: what each probe is about, broken. A probe that looks away passes here, and the test fails.


def no_rules(tested, patch):
    patch.setattr(small_case, "schemas", lambda: {"checks": pa.DataFrameSchema({}), "pumps": pa.DataFrameSchema({})})


def model_without(name, tested, patch):
    """A champion that ignores an input."""
    true = tested.model.model
    blind = SimpleNamespace(
        predict_proba=lambda rows: true.predict_proba(rows.assign(**{name: rows[name].iloc[0]})), predict=true.predict
    )
    tested.model = replace(tested.model, model=blind)


def always_missing(tested, patch):
    tested.test = tested.test.assign(pressure=np.nan)


def answer_among_inputs(tested, patch):
    tested.train = tested.train.assign(vibration=tested.train["failed"] + 0.1)


def looks_ahead(tested, patch):
    build = small_case.build
    patch.setattr(small_case, "build", lambda tables: build(tables).assign(pressure=float(len(tables["checks"]))))


def reads_an_hour_too_early(tested, patch):
    """The case says that a check is known an hour after it, and builds rows as if it were known at once."""
    as_of = small_case.tables_as_of
    patch.setattr(small_case, "tables_as_of", lambda tables, instant: as_of(tables, instant - pd.Timedelta("1h")))


def input_that_is_filled_in_later(tested, patch):
    build = small_case.build
    patch.setattr(small_case, "build", lambda tables: build(tables).assign(pressure=tables["checks"]["failed"]))


def keeps_what_is_forgotten(tested, patch):
    patch.setattr(deletion, "_snapshots_with", lambda *_: [])


def ignores_features(tested, patch):
    rows = tested.candidates
    tested.candidates = lambda **_: rows()


def derive_of_the_whole(tested, patch):
    assert tested.model  # while it can still be loaded
    derive = small_case.derive

    def centred(inputs):
        made = derive(inputs)
        return made.assign(vibration=made["vibration"] - made["vibration"].mean())

    patch.setattr(small_case, "derive", centred)


def failing_tests(tested, patch):
    (tested.repository / "tests" / "test_small_case.py").write_text("def test_derive(): assert False\n")


def no_tests(tested, patch):
    (tested.repository / "tests" / "test_small_case.py").write_text("")


def other_specification(tested, patch):
    specification = tested.system.specification
    tested.system = System("small_case", tested.system.workspace)
    costs = specification.costs.model_copy(update={"missed": 999})
    vars(tested.system)["specification"] = specification.model_copy(update={"costs": costs})


def edited_history(tested, patch):
    patch.setattr(Registry, "verify_history", lambda self: SimpleNamespace(intact=False, defect="release 1 was edited"))


def online_answers_without_sense(tested, patch):
    tested.labelled = tested.labelled.assign(label=np.arange(len(tested.labelled)) % 2)


def bad_settings(tested, patch):
    candidates = tested.candidates

    def spoiled(**features):
        made = candidates(**features)
        made["logistic_regression"].set_params(classify__C=1e-6)
        return made

    tested.candidates = spoiled


def one_period(tested, patch):
    time = tested.train["prediction_time"].iloc[0]
    tested.train, tested.test = (rows.assign(prediction_time=time) for rows in (tested.train, tested.test))


def guessing_champion(tested, patch):
    tested.probability = np.random.default_rng(0).permutation(tested.probability)


def bad_for_one_slice(tested, patch):
    predict = tested.predict
    tested.predict = lambda rows: np.where(rows["maker"] == "Cobalt", 1 - predict(rows), predict(rows))


def overstated_for_one_slice(tested, patch):
    predict = tested.predict
    tested.predict = lambda rows: np.where(rows["maker"] == "Cobalt", 0.99, predict(rows))


def other_training_rows(tested, patch):
    tested.parts = tested.parts | {"train": tested.parts["train"].iloc[::2]}


def models_that_decide_otherwise(tested, patch):
    decide = training.decide
    patch.setattr(training, "decide", lambda model, threshold: decide(model, threshold + 0.2))


def pipeline_that_fails(tested, patch):
    def broken(tables):
        raise ValueError("no rows today")

    patch.setattr(small_case, "build", broken)


def gate_without_bars(tested, patch):
    report = gate.GateReport((), pd.DataFrame())
    patch.setattr(gate, "gate", lambda *_, **__: report)


def edited_answers(tested, patch):
    find = tested.log.find
    rows = tested.predictions
    tested.log = SimpleNamespace(find=lambda name: find(name) | {"probability": 0.999}, url=tested.log.url)
    tested.predictions = rows


def canary_without_bar(tested, patch):
    hold = rollout.Verdict("hold", 0.1, "looked away", pd.DataFrame())
    patch.setattr(rollout, "judge", lambda *_, **__: hold)


def only_one_version(tested, patch):
    patch.setattr(Registry, "versions", lambda self: pd.DataFrame({"version": [tested.model.version]}))


def roll_back_to_nothing(tested, patch):
    patch.setattr(Registry, "roll_back", lambda self, **_: 99)


def silent_batches(tested, patch):
    patch.setattr(batch, "problems", lambda *_, **__: pd.DataFrame(columns=["column"]))


def unhealthy_machine(tested, patch):
    patch.setattr(environment, "checks", lambda *_, **__: [{"ok": False, "found": "pandas 1.0"}])


def no_drift_seen(tested, patch):
    drift = measures.drift
    patch.setattr(measures, "drift", lambda *given: drift(*given) * 0.0)


def no_fault_happens(tested, patch):
    patch.setattr(faults, "inject", lambda rows, *_, **__: rows)


def skewed_service(tested, patch):
    servable = service.servable

    def skewed(model):
        made = servable(model)
        return replace(made, predict=lambda rows: made.predict(rows) + 1e-9)

    patch.setattr(service, "servable", skewed)


def old_training_rows(tested, patch):
    early = tested.parts["calibrate"]
    tested.parts = tested.parts | {
        "calibrate": early.assign(prediction_time=early["prediction_time"] - pd.Timedelta("900D"))
    }


def answers_that_are_no_number(tested, patch):
    predict = tested.predict
    tested.predict = lambda rows: np.where(rows["vibration"] > 1e50, math.nan, predict(rows))


def slow_log(tested, patch):
    tested.predictions = tested.predictions.assign(latency_ms=1e9)


def slow_model(tested, patch):
    patch.setattr(gate, "latency", partial(gate.latency, clock=partial(next, itertools.count(0, 1e6))))


def wrong_labels(tested, patch):
    tested.labelled = tested.labelled.assign(label=1 - tested.labelled["label"])


def empty_log(tested, patch):
    tested.log = PredictionLog("sqlite://")


def no_champion(tested, patch):
    patch.setattr(Registry, "champion", lambda self: None)


SABOTAGE = [
    ("the schema catches broken batches", no_rules),
    ("every input earns its place", lambda tested, patch: model_without("pressure", tested, patch)),
    ("no input costs too much", always_missing),
    ("no input knows the answer or the future", answer_among_inputs),
    ("no input knows the answer or the future", looks_ahead),
    ("no input knows the answer or the future", reads_an_hour_too_early),
    ("no input knows the answer or the future", input_that_is_filled_in_later),
    ("a row can be forgotten", keeps_what_is_forgotten),
    ("a feature is added by its name", ignores_features),
    ("feature code is tested", derive_of_the_whole),
    ("feature code is tested", failing_tests),
    ("feature code is tested", no_tests),
    ("specification and release are reviewed", other_specification),
    ("specification and release are reviewed", edited_history),
    ("offline and online metrics agree", online_answers_without_sense),
    ("settings are tuned", bad_settings),
    ("the cost of age is known", one_period),
    ("no simpler model is better", guessing_champion),
    ("no slice is served worse", bad_for_one_slice),
    ("nobody's risk is misstated", overstated_for_one_slice),
    ("training is reproducible", other_training_rows),
    ("model code keeps its laws", models_that_decide_otherwise),
    ("the whole pipeline runs", pipeline_that_fails),
    ("quality is judged before serving", gate_without_bars),
    ("one answer can be taken apart", edited_answers),
    ("a bad challenger is stopped", canary_without_bar),
    ("a release can be rolled back", only_one_version),
    ("a release can be rolled back", roll_back_to_nothing),
    ("changed dependencies are noticed", silent_batches),
    ("changed dependencies are noticed", unhealthy_machine),
    ("faults of the feed raise an alarm", no_drift_seen),
    ("faults of the feed raise an alarm", no_fault_happens),
    ("serving answers as training would", skewed_service),
    ("serving answers as training would", empty_log),
    ("the champion is not too old", old_training_rows),
    ("numbers stay numbers", answers_that_are_no_number),
    ("speed has not got worse", slow_log),
    ("speed has not got worse", slow_model),
    ("no input costs too much", slow_model),
    ("quality on live labels holds", wrong_labels),
    ("quality on live labels holds", no_fault_happens),
    ("quality on live labels holds", empty_log),
]


def test_every_probe_is_sabotaged():
    assert {name for name, _ in SABOTAGE} == set(ALL)


@pytest.mark.parametrize(("name", "sabotage"), SABOTAGE, ids=[f"{n}-{s.__name__}" for n, s in SABOTAGE])
def test_a_probe_fails_when_what_it_is_about_is_broken(tested, monkeypatch, name, sabotage):
    sabotage(tested, monkeypatch)
    passed, found = scorecard._outcome(ALL[name], tested)
    assert not passed, found


@pytest.mark.parametrize("name", ["training is reproducible", "a release can be rolled back", "numbers stay numbers"])
def test_without_a_champion_a_probe_says_what_to_do(unread, monkeypatch, name):
    no_champion(unread, monkeypatch)
    assert scorecard._outcome(ALL[name], unread) == (False, "there is no champion: train and promote a version")


# The score


@pytest.mark.parametrize("probe", [lambda tested: None, lambda tested: "", lambda tested: True, lambda tested: 1 / 0])
def test_a_stub_does_not_pass(tested, probe):
    assert scorecard._outcome(probe, tested)[0] is False


def test_the_score_is_that_of_the_weakest_section(sound, monkeypatch):
    def fails(tested):
        raise ValueError("no")

    few = {
        "data": {"a": data_probes.feature_schema, "b": data_probes.input_cost},
        "model": {"c": model_probes.specification_review, "d": fails},
    }
    monkeypatch.setattr(scorecard, "PROBES", few)
    card = readiness.score(*sound)
    assert (card.sections, card.final) == ({"data": 2, "model": 1}, 1)
    assert card.table["found"].iloc[3] == "ValueError: no"


def state(system):
    root = system.workspace.root
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix not in (".db-shm", ".db-wal")}
    return {path: when for path, when in files.items() if path.is_file()}, system.registry.verify_history().head
