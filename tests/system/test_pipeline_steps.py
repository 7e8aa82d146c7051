"""The steps: each names the code that it calls, and the rows that judge are later than the rows that teach."""

import ast
import inspect

import pytest
import small_case

from mlops_course.development import data
from mlops_course.system import pipeline
from mlops_course.system.pipeline import steps as graph
from mlops_course.system.workspace import Workspace

STAGES = {stage.__name__.rpartition(".")[2] for stage in pipeline.STAGES}
SNAPSHOTS = {"data.load_snapshot", "data.save_snapshot"}  # a table comes out as it went in, or there is an error
COLUMNS = {"target": "failed", "prediction_time": "prediction_time", "label_time": "label_time"}
PARTS = ["train", "calibrate", "test"]

FUNCTIONS = {node.name: node for node in ast.parse(inspect.getsource(graph)).body if isinstance(node, ast.FunctionDef)}


def calls(step):
    """What a step's body names, in dots where it is an attribute, also through the functions that steps share."""
    names = {ast.unparse(node) for part in FUNCTIONS[step].body for node in ast.walk(part) if is_name(node)}
    return names.union(*(calls(name) for name in names & FUNCTIONS.keys() - set(graph.__all__)))


def is_name(node):
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))


def parameters(step):
    return set(inspect.signature(getattr(graph, step)).parameters)


def codes(step):
    """The parameters that a step needs so that a cache sees each change of the code below it."""
    names = calls(step)
    stages = {name.partition(".")[0] for name in names - SNAPSHOTS if "." in name} & STAGES
    needs_case = bool(names & {"_module", "pickle.loads"})  # a model that is unpickled calls `derive` of its case
    return {f"{stage}_code" for stage in stages} | ({"case_code"} if needs_case else set())


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
    parts = graph.split_rows(kept, COLUMNS, "any", workspace)
    return rows.dropna(subset=["failed", "label_time"]), data.load_snapshot(workspace.snapshots, parts)


def test_every_step_is_public_and_every_public_function_is_a_step():
    steps = {name for name in FUNCTIONS if not name.startswith("_")}
    assert steps == set(graph.__all__)
    assert len(graph.__all__) == len(steps)


@pytest.mark.parametrize("step", graph.__all__)
def test_a_step_names_the_code_of_each_stage_that_it_calls(step):
    assert codes(step) <= parameters(step)


def test_the_check_sees_stages_behind_shared_functions():
    assert "training.candidates" in calls("fold_scores") & calls("calibrated_model") & calls("lineage_run")
    assert codes("latency_ms") == {"gate_code", "case_code"}


@pytest.mark.parametrize("step", graph.__all__)
def test_a_step_asks_for_nothing_that_it_does_not_use(step):
    silent = {name for name in parameters(step) if name.endswith("_code")} | {"libraries", "data_files", "store"}
    assert parameters(step) - silent <= calls(step)


@pytest.mark.parametrize("step", graph.__all__)
def test_a_step_names_the_store_if_it_looks_into_the_registry(step):
    assert bool({"workspace.registry", "MlflowClient"} & calls(step)) == ("store" in parameters(step))


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
