"""The whole pipeline on the small case: nothing is done twice, and nothing that a change reaches is left undone."""

import json
import pickle
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import small_case
import yaml
from mlflow import MlflowClient

from mlops_course.development import data, evaluation, features, gate, training, validation
from mlops_course.development.validation import InvalidBatch
from mlops_course.operations import registry, retraining
from mlops_course.system import drill, pipeline, scoring
from mlops_course.system.pipeline import dependencies, steps
from mlops_course.system.system import System
from mlops_course.system.workspace import EMPTY, Workspace

# Warning of MLflow 3.17 about its own code, when it is first imported
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.usefixtures("few_answers_are_timed"),
]

BATCHES = small_case.batches()[:6]
STEPS = set(steps.__all__)
SIGNED = {"approver": "Ada", "reason": "first release"}

# What has to run after a change. A step that comes out the same stops the change there; a time never does.
AFTER_LATENCY = {"latency_ms", "gate_report", "registered_version"}
AFTER_SEED = {"fold_scores", "calibrated_model", "evidence", "champion_comparison", "lineage_run"} | AFTER_LATENCY
AFTER_CODE = {
    data: {"raw_tables"},
    validation: {"raw_tables", "valid_tables"},
    features: {"prediction_rows", "split_rows"},
    retraining: {"usable_rows"},
    training: {"fold_scores", "chosen_model", "calibrated_model", "threshold", "lineage_run", "registered_version"},
    evaluation: {"evidence", "champion_comparison"},
    gate: AFTER_LATENCY,
    registry: {"champion_comparison", "registered_version"},
    small_case: STEPS - {"usable_rows", "split_rows", "chosen_model", "threshold"},
}


def train(workspace, batches=BATCHES, *, case=small_case, seed=0, progress=None, **changes):
    return pipeline.train(case, batches, workspace=workspace, seed=seed, progress=progress, **changes)


@pytest.fixture(scope="module")
def elsewhere(warm, tmp_path_factory):
    """A workspace with the results of a training in another one."""
    return warm(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
def workspace(empty_database, tmp_path_factory):
    """A workspace in which nothing was trained."""
    workspace = Workspace(tmp_path_factory.mktemp("here"))
    shutil.copy(empty_database, workspace.root)
    return workspace


@pytest.fixture(scope="module")
def trained(workspace):
    return train(workspace)


@pytest.fixture
def fresh(workspace, trained, tmp_path):
    """A workspace with a store of its own, and a copy of the results that are kept where it was trained."""
    fresh = Workspace(tmp_path / "fresh")
    for folder in ("cache", "snapshots"):
        shutil.copytree(getattr(workspace, folder), getattr(fresh, folder))
    for file in (EMPTY, "cache.key"):
        shutil.copy(workspace.root / file, fresh.root)
    return fresh


@pytest.fixture(scope="module")
def trained_elsewhere(elsewhere):
    return train(elsewhere)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Function that rewrites the recipe of a month, in a copy of the data."""
    shutil.copytree(small_case.HERE / "data", tmp_path / "data")
    monkeypatch.setattr(small_case, "files", lambda batches: [tmp_path / "data" / f"{batch}.json" for batch in batches])

    def rewrite(batch, *, indent=None, **changes):
        file = tmp_path / "data" / f"{batch}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes, indent=indent))

    return rewrite


@pytest.fixture
def bars(tmp_path, monkeypatch):
    """Function that puts other bars into the specification, in a copy."""

    def rewrite(**changed):
        specification = yaml.safe_load(small_case.SPECIFICATION.read_text())
        specification["gates"] |= changed
        file = tmp_path / "specification.yaml"
        file.write_text(yaml.safe_dump(specification))
        monkeypatch.setattr(small_case, "SPECIFICATION", file)

    return rewrite


def versions(workspace):
    return workspace.registry(small_case).versions().set_index("version")


def fingerprint(workspace, trained):
    """What a version is known by: the same one is not registered twice."""
    return workspace.registry(small_case).load(trained.version).contract.fingerprint


def aliases(workspace, version):
    found = MlflowClient(workspace.tracking_uri).get_model_version("small_case", str(version))
    return set(found.aliases)


# Nothing twice, and nothing too little


def test_the_first_training_runs_every_step_and_passes_the_gate(trained):
    assert set(trained.executed) == STEPS
    assert trained.gate.passed, trained.gate.reasons


@pytest.mark.parametrize("batches", [BATCHES, BATCHES[::-1], BATCHES + BATCHES[:1]], ids=["same", "turned", "twice"])
def test_a_rerun_executes_nothing_and_returns_the_same_version(workspace, trained, batches):
    again = train(workspace, batches)
    assert again.executed == ()
    assert set(again.cached) == STEPS
    assert (again.version, again.run_id) == (trained.version, trained.run_id)
    pd.testing.assert_frame_equal(again.metrics, trained.metrics)


class Planted:
    """What runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def plant(results, database, planted):
    for result in results:
        result.write_bytes(pickle.dumps(Planted(planted)))


def plant_behind_the_mark(results, database, planted):
    for result in results:
        result.write_bytes(result.read_bytes()[:32] + pickle.dumps(Planted(planted)))


def flip_a_bit(results, database, planted):
    for result in results:
        content = bytearray(result.read_bytes())
        content[len(content) // 2] ^= 1
        result.write_bytes(content)


def exchange_results(results, database, planted):
    contents = [result.read_bytes() for result in results]
    for result, content in zip(results, contents[1:] + contents[:1], strict=True):
        result.write_bytes(content)


def empty(results, database, planted):
    for result in results:
        result.write_bytes(b"")


def exchange_entries(results, database, planted):
    with closing(sqlite3.connect(database)) as connection, connection:
        found = connection.execute("SELECT cache_key, data_version FROM cache_metadata ORDER BY cache_key").fetchall()
        names = [name for _, name in found]
        moved = [(name, key) for (key, _), name in zip(found, names[1:] + names[:1], strict=True)]
        connection.executemany("UPDATE cache_metadata SET data_version = ? WHERE cache_key = ?", moved)


def exchange_key(results, database, planted):
    (database.parent.parent / "cache.key").write_bytes(b"of somebody else" * 4)


@pytest.mark.parametrize(
    "harm", [plant, plant_behind_the_mark, flip_a_bit, exchange_results, empty, exchange_entries, exchange_key]
)
def test_no_result_is_used_that_this_workspace_has_not_kept_itself(fresh, workspace, trained, tmp_path, harm):
    """Who can write into the cache could run code at the next training, or have another model registered."""
    database, planted = fresh.cache / "metadata_store.db", tmp_path / "planted"
    results = sorted(path for path in fresh.cache.iterdir() if path.is_file() and path != database)
    assert len(results) >= len(STEPS) - 2
    harm(results, database, planted)
    again = train(fresh)
    assert not planted.exists(), "code from the cache was run"
    assert again.executed, "what was harmed was used"
    assert fingerprint(fresh, again) == fingerprint(workspace, trained)


def test_another_seed_reruns_what_draws_and_what_follows(workspace, trained):
    again = train(workspace, seed=1)
    assert set(again.executed) == AFTER_SEED
    assert again.version != trained.version


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=[pytest.mark.long] * (module in (training, small_case)), id=module.__name__)
        for module in AFTER_CODE
    ],
)
def test_changed_code_reruns_the_steps_that_declare_it_and_registers_no_second_version(
    workspace, trained, module, monkeypatch
):
    code_version = dependencies.code_version
    monkeypatch.setattr(
        dependencies, "code_version", lambda asked: "changed" if asked is module else code_version(asked)
    )
    again = train(workspace)
    assert set(again.executed) == AFTER_CODE[module]
    assert again.version == trained.version


def test_other_versions_of_libraries_rerun_the_steps_that_fit(workspace, trained, monkeypatch):
    others = training.libraries() | {"scikit-learn": "0.1"}
    monkeypatch.setattr(training, "libraries", lambda: others)
    assert set(train(workspace).executed) == {"fold_scores", "calibrated_model"}


def test_a_changed_file_reruns_all_that_reads_data(workspace, trained, recipe):
    recipe(BATCHES[2], seed=99)
    again = train(workspace)
    assert set(again.executed) == STEPS - {"threshold"}
    assert again.data_version != trained.data_version


def test_a_file_that_is_written_otherwise_but_says_the_same_is_read_again_and_no_more(workspace, trained, recipe):
    recipe(BATCHES[2], indent=4)
    again = train(workspace)
    assert again.executed == ("raw_tables",)
    assert (again.version, again.data_version) == (trained.version, trained.data_version)


WEEKS = {"start": "2024-03-05", "end": "2024-03-20"}
DROP = {"action": "drop", "columns": [], "reason": "unit error", **WEEKS}
HOT = {"kind": "unit error", "column": "temperature", "size": 1.8, "offset": 32.0, **WEEKS}
BROKEN = drill.with_faults(small_case, [HOT])


def split_parts(workspace, trained):
    """The rows that a version was trained, calibrated and tested on, by the record of its run."""
    run = MlflowClient(tracking_uri=workspace.tracking_uri).get_run(trained.run_id)
    return pd.concat(data.load_snapshot(workspace.snapshots, run.data.tags["split_rows"]).values())


def test_a_corrupted_window_that_is_dropped_leaves_no_trace_of_the_corruption(workspace):
    clean, drilled = train(workspace, exclusions=[DROP]), train(workspace, exclusions=[DROP], case=BROKEN)
    pd.testing.assert_frame_equal(split_parts(workspace, clean), split_parts(workspace, drilled))
    assert drilled.version == clean.version
    asked = split_parts(workspace, drilled)["prediction_time"]
    assert not asked.between(pd.Timestamp("2024-03-05", tz="UTC"), pd.Timestamp("2024-03-19", tz="UTC")).any()


@pytest.mark.long
def test_a_corrupted_column_that_is_masked_is_missing_in_its_window_and_nowhere_else(workspace):
    mask = {"action": "mask", "columns": ["temperature"], **WEEKS}
    rows = split_parts(workspace, train(workspace, exclusions=[mask], case=BROKEN))
    within = rows["prediction_time"].between(
        *pd.to_datetime([WEEKS["start"], WEEKS["end"]], utc=True), inclusive="left"
    )
    assert within.any()
    assert (rows["temperature"].isna() == within).all()


def test_a_corrupted_window_that_nobody_excludes_is_among_the_rows(workspace, trained):
    clean, drilled = (pipeline.prediction_rows(case, BATCHES, workspace=workspace) for case in (small_case, BROKEN))
    changed = clean["temperature"] != drilled["temperature"]
    times = pd.to_datetime([WEEKS["start"], WEEKS["end"]], utc=True)
    assert (changed == clean["prediction_time"].between(*times, inclusive="left")).all()
    pd.testing.assert_series_equal(
        drilled["temperature"][changed], HOT["size"] * clean["temperature"][changed] + HOT["offset"]
    )


@pytest.mark.long
def test_a_corrupted_window_that_nobody_excludes_is_trained_on(workspace, trained):
    drilled = train(workspace, case=BROKEN)
    assert drilled.version != trained.version
    assert "calibrated_model" in drilled.executed
    assert split_parts(workspace, drilled)["temperature"].max() > split_parts(workspace, trained)["temperature"].max()


def test_a_run_says_what_was_not_trained_on(workspace):
    trained = train(workspace, exclusions=[DROP])
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    written = Path(client.download_artifacts(trained.run_id, "exclusions.json")).read_text(encoding="utf-8")
    assert json.loads(written) == {"not_trained_on": [DROP]}


def test_a_row_that_was_withheld_is_in_no_part_and_its_absence_makes_another_version(workspace, trained, fresh):
    before = split_parts(workspace, trained)
    name = before["id"].iloc[0]
    fresh.withhold([name])
    after = train(fresh)
    assert set(before["id"]) - set(split_parts(fresh, after)["id"]) >= {name}
    assert name not in pipeline.prediction_rows(small_case, BATCHES, workspace=fresh)["id"].tolist()
    assert fingerprint(fresh, after) != fingerprint(workspace, trained)


def test_a_changed_champion_reruns_comparison_gate_and_what_follows(elsewhere, trained_elsewhere):
    elsewhere.registry(small_case).promote(trained_elsewhere.version, **SIGNED)
    again = train(elsewhere)
    assert set(again.executed) == {"champion_comparison", "gate_report", "registered_version"}
    assert "tolerated_loss" not in " ".join(again.gate.reasons)
    assert len(again.gate.checks) > len(trained_elsewhere.gate.checks)


def test_the_same_seed_gives_the_same_result_in_another_workspace(trained, trained_elsewhere):
    pd.testing.assert_frame_equal(trained.metrics, trained_elsewhere.metrics)
    pd.testing.assert_frame_equal(trained.fold_scores, trained_elsewhere.fold_scores)
    assert trained.data_version == trained_elsewhere.data_version
    assert trained.chosen_model == trained_elsewhere.chosen_model


# Bad data and bad models


def test_a_batch_that_lost_a_column_stops_the_training_and_registers_nothing(workspace, trained, recipe):
    before = versions(workspace)
    recipe(BATCHES[-1], fault="column lost")
    with pytest.raises(InvalidBatch, match="vibration"):
        train(workspace)
    pd.testing.assert_frame_equal(versions(workspace), before)


BAD_ALONE = {
    "column lost": "checks.vibration: column is there",
    "a quarter hot": r"checks.temperature: in_range\(-40, 200\)\n +rows: 63 \(25.2 %\), such as 4000",
    "no rows": "checks: table has rows",
    "numbers as text": "checks.vibration: dtype float64",
    "columns shifted": "checks.checked: dtype",
    "times without zone": "checks.checked: dtype",
}
WAYS = {  # how `train` and `score` take rows in
    "train": train,
    "score": lambda workspace: scoring.score_to_file(
        System("small_case", workspace), BATCHES[1], target=workspace.root / "x.csv"
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("fault", "finding"), BAD_ALONE.items(), ids=BAD_ALONE)
def test_a_batch_that_is_stopped_alone_is_stopped_beside_good_ones_by_name(workspace, recipe, way, fault, finding):
    recipe(BATCHES[1], fault=fault)
    with pytest.raises(InvalidBatch, match=rf"Batch {BATCHES[1]} is stopped(?s:.*){finding}") as stopped:
        way(workspace)
    assert "send it again" in str(stopped.value)
    assert not [good for good in BATCHES if good != BATCHES[1] and good in str(stopped.value)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_batch_that_cannot_be_read_is_named(workspace, recipe, way):
    recipe(BATCHES[1], fault="a fault that nobody can make")
    with pytest.raises(InvalidBatch, match=f"Batch {BATCHES[1]} cannot be read: .*send it again"):
        way(workspace)


def test_what_many_batches_cannot_be_read_for_is_told_once(workspace, recipe):
    for batch in BATCHES[1:3]:
        recipe(batch, fault="a fault that nobody can make")
    with pytest.raises(InvalidBatch, match=f"Batch {BATCHES[1]}, {BATCHES[2]} cannot be read") as stopped:
        train(workspace)
    assert str(stopped.value).count("nobody can make") == 1


def test_a_column_that_no_schema_names_and_that_cannot_be_kept_is_named(workspace, recipe):
    recipe(BATCHES[1], fault="a column of lists")
    with pytest.raises(InvalidBatch, match=r"(?s)cannot be kept: column 'note' of table 'checks'.*send it again"):
        train(workspace)


def test_all_bad_batches_are_named_at_once(workspace, recipe):
    for batch in BATCHES[1:3]:
        recipe(batch, fault="a quarter hot")
    with pytest.raises(InvalidBatch, match=f"(?s)Batch {BATCHES[1]} is stopped.*Batch {BATCHES[2]} is stopped"):
        train(workspace)


def test_an_impossible_row_is_set_aside(workspace, trained, recipe):
    recipe(BATCHES[0], fault="hot row")
    rows = pipeline.prediction_rows(small_case, BATCHES, workspace=workspace)
    assert set(small_case.build(small_case.read(BATCHES))["id"]) - set(rows["id"]) == {f"{BATCHES[0]}-0003"}


@pytest.mark.long
def test_an_impossible_row_is_recorded(workspace, trained, recipe):
    recipe(BATCHES[0], fault="hot row")
    finding = train(workspace).findings.set_index("severity").loc["quarantine"]
    assert (finding["table"], finding["column"], finding["count"]) == ("checks", "temperature", 1)


@pytest.mark.long
def test_a_model_that_learnt_from_scrambled_answers_is_registered_without_a_role(workspace, trained, recipe):
    for batch in BATCHES:
        recipe(batch, fault="answer scrambled")
    refused = train(workspace)
    assert not refused.gate.passed
    assert "min_roc_auc" in " ".join(refused.gate.reasons)
    assert (refused.version in versions(workspace).index, aliases(workspace, refused.version)) == (True, set())


def test_a_bar_that_nobody_passes_judges_again_without_training_again(workspace, trained, bars):
    bars(min_roc_auc=0.999)
    refused = train(workspace)
    assert set(refused.executed) == {"gate_report", "registered_version"}
    assert refused.version != trained.version
    assert aliases(workspace, refused.version) == set()


def test_the_version_that_passed_is_challenger_until_somebody_promotes_it(fresh):
    result = train(fresh)
    assert aliases(fresh, result.version) == {"challenger"}
    assert fresh.registry(small_case).champion() is None


# What is recorded


@pytest.fixture(scope="module")
def client(workspace):
    return MlflowClient(workspace.tracking_uri)


def test_the_run_says_which_data_code_and_seed_it_comes_from(client, trained):
    run = client.get_run(trained.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["data_version"] == run.data.tags["raw_tables"] == trained.data_version
    assert re.fullmatch("[0-9a-f]{64}", run.data.tags["code_version"])
    assert run.data.tags["seed"] == "0"
    assert run.data.metrics["roc_auc"] == pytest.approx(trained.metrics.loc["roc_auc", "value"])


def test_the_run_keeps_steps_validation_and_gate(client, trained, tmp_path):
    names = {file.path for file in client.list_artifacts(trained.run_id)}
    assert names >= {"pipeline.mmd", "steps.json", "validation.csv", "metrics.csv"}
    steps = json.loads(Path(client.download_artifacts(trained.run_id, "steps.json", tmp_path)).read_text())
    assert set(steps) == STEPS
    checks = pd.read_csv(client.download_artifacts(trained.run_id, f"version-{trained.version}/gate.csv", tmp_path))
    assert list(checks.columns) == list(trained.gate.checks.columns)


def test_the_run_has_one_child_for_each_kind_of_model(client, trained):
    parent = client.get_run(trained.run_id)
    children = client.search_runs([parent.info.experiment_id], f"tags.mlflow.parentRunId = '{trained.run_id}'")
    assert sorted(child.info.run_name for child in children) == sorted(trained.fold_scores["model"].unique())
    assert {child.info.status for child in children} == {"FINISHED"}
    assert {child.data.tags["data_version"] for child in children} == {trained.data_version}


def test_progress_names_each_step_once_as_started_and_once_as_finished(workspace, trained):
    told = []
    train(workspace, progress=lambda step, event: told.append((step, event)))
    assert sorted(told) == sorted((step, event) for step in STEPS for event in ("started", "finished"))


# The picture


def test_the_graph_is_a_flowchart_of_nodes_that_are_declared_and_arrows_between_them():
    first, *lines = pipeline.graph().splitlines()
    nodes = {found[1] for line in lines if (found := re.fullmatch(r"    (\w+)(\[\w+\]|\(\[\w+\]\))", line))}
    arrows = [found.groups() for line in lines if (found := re.fullmatch(r"    (\w+) --> (\w+)", line))]
    assert first == "flowchart TD"
    assert len(nodes) + len(arrows) == len(lines)
    assert nodes >= STEPS
    assert {name for arrow in arrows for name in arrow} == nodes
