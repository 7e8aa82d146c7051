"""The steps: each declares the code that it calls, and the rows that judge are later than the rows that teach."""

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest
import small_case

from mlops_course.development import data, features, training
from mlops_course.system.pipeline import dependencies
from mlops_course.system.pipeline import steps as graph
from mlops_course.system.pipeline.steps import candidate, judgement, record, rows
from mlops_course.system.workspace import Workspace

FILES = (rows, candidate, judgement, record)
SNAPSHOTS = {"data.load_snapshot", "data.save_snapshot"}  # a table comes out as it went in, or there is an error
COLUMNS = {"target": "failed", "prediction_time": "prediction_time", "label_time": "label_time", "lead": "PT0S"}
PARTS = ["train", "calibrate", "test"]

FUNCTIONS = {
    (file, node.name): node
    for file in FILES
    for node in ast.parse(inspect.getsource(file)).body
    if isinstance(node, ast.FunctionDef)
}
STEPS = {name: getattr(graph, name) for name in graph.__all__}


def names_in(file, function):
    """What a function names, as (file, name), in dots where it is an attribute; also through the helpers of steps."""
    nodes = [node for part in FUNCTIONS[file, function].body for node in ast.walk(part)]
    found = {(file, ast.unparse(node)) for node in nodes if is_name(node)}
    for _, name in list(found):
        owner, _, last = name.rpartition(".")
        helper = (getattr(file, owner, None) if owner else file), last
        if last.startswith("_") and helper in FUNCTIONS:
            found |= names_in(*helper)
    return found


def is_name(node):
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))


def calls(step):
    return {name for _, name in names_in(inspect.getmodule(STEPS[step]), step)}


def parameters(step):
    return set(inspect.signature(STEPS[step]).parameters)


def needed(step):
    """What a step has to declare so that the cache sees each change of the code below it."""
    found = names_in(inspect.getmodule(STEPS[step]), step)
    dotted = {(file, name) for file, name in found if "." in name and name not in SNAPSHOTS}
    owners = {getattr(file, name.partition(".")[0], None) for file, name in dotted}
    modules = {owner for owner in owners if isinstance(owner, ModuleType) and owner.__name__.startswith("mlops_course")}
    needs_case = bool(calls(step) & {"case", "pickle.loads"})  # a model that is unpickled calls `derive` of its case
    return modules | ({dependencies.CASE} if needs_case else set())


def keys():
    facts = (dependencies.CASE, dependencies.DATA_FILES, dependencies.LIBRARIES, dependencies.STORE)
    return dependencies.keys_of(list(STEPS.values()), dict.fromkeys(facts, ""))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("graph"))
    workspace.snapshots.mkdir()
    return workspace


@pytest.fixture(scope="module", params=[6, 12], ids=lambda months: f"{months} months")
def split(request, workspace):
    """Rows of some months that have a label, and the parts that they are split into."""
    rows = small_case.build(small_case.read(small_case.batches()[: request.param]))
    kept = data.save_snapshot({"rows": rows}, workspace.snapshots)
    parts = graph.split_rows(kept, COLUMNS, workspace)
    return rows.dropna(subset=["failed", "label_time"]), data.load_snapshot(workspace.snapshots, parts)


def test_every_step_is_public_and_every_public_function_is_a_step():
    public = [name for _, name in FUNCTIONS if not name.startswith("_")]
    assert sorted(public) == sorted(graph.__all__)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_declares_the_code_of_each_stage_and_file_that_it_calls(step):
    assert needed(step) <= set(STEPS[step].depends_on)


def test_the_check_sees_stages_behind_the_helpers_of_steps():
    assert "training.candidates" in calls("fold_scores") & calls("calibrated_model") & calls("lineage_run")
    assert {candidate, judgement, training, dependencies.CASE} <= needed("lineage_run")


@pytest.mark.parametrize(
    ("helper", "steps"),
    [
        (candidate, {"fold_scores", "chosen_model", "calibrated_model", "threshold", "lineage_run"}),
        (judgement, {"evidence", "latency_ms", "champion_comparison", "gate_report", "lineage_run"}),
    ],
    ids=["candidates", "answers"],
)
def test_an_edit_of_a_helper_changes_the_key_of_each_step_that_calls_it(helper, steps, tmp_path, monkeypatch):
    edited, before = tmp_path / Path(helper.__file__).name, keys()
    edited.write_text(Path(helper.__file__).read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    monkeypatch.setattr(helper, "__file__", str(edited))
    after = keys()
    assert {step for step in STEPS if after[step] != before[step]} == steps


@pytest.mark.parametrize(
    ("module", "constant", "step"),
    [
        (features, "TEST_SHARE", "split_rows"),
        (training, "FOLDS", "fold_scores"),
        (judgement, "LATENCY_CALLS", "latency_ms"),
    ],
)
def test_another_value_of_a_constant_changes_the_key_and_the_old_value_has_the_old_key(
    module, constant, step, monkeypatch
):
    before = keys()
    with monkeypatch.context() as patch:
        patch.setattr(inspect.getmodule(module), constant, 0.4)
        assert keys()[step] != before[step]
    assert keys() == before


@pytest.mark.parametrize("step", STEPS)
def test_a_step_asks_for_nothing_that_it_does_not_use(step):
    assert parameters(step) <= calls(step)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_declares_the_store_if_it_looks_into_the_registry(step):
    looks = bool({"workspace.registry", "MlflowClient"} & calls(step))
    assert looks == (dependencies.STORE in STEPS[step].depends_on)


@pytest.mark.parametrize(("earlier", "later"), [("train", "calibrate"), ("calibrate", "test")])
def test_every_label_was_known_before_the_first_prediction_of_the_next_part(split, earlier, later):
    _, parts = split
    assert parts[earlier]["label_time"].max() <= parts[later]["prediction_time"].min()
    assert parts[earlier]["prediction_time"].max() < parts[later]["prediction_time"].min()


def test_no_row_is_in_two_parts_and_each_has_a_label(split):
    labelled, parts = split
    ids = [name for part in PARTS for name in parts[part]["id"]]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(labelled["id"])


def test_only_rows_whose_label_came_too_late_are_left_out(split):
    labelled, parts = split
    used = {name for part in PARTS for name in parts[part]["id"]}
    left = labelled[~labelled["id"].isin(used)]
    borders = [parts[part]["prediction_time"].min() for part in PARTS[1:]]
    straddles = [(left["prediction_time"] < border) & (left["label_time"] >= border) for border in borders]
    assert (straddles[0] | straddles[1]).all()


@pytest.mark.parametrize("part", PARTS)
def test_no_part_is_empty_or_of_one_answer_only(split, part):
    assert split[1][part]["failed"].nunique() == 2
