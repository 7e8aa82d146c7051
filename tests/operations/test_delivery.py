"""Delivery: what a change needs, that nothing red gets into production, and metrics that do not depend on arrival."""

import importlib.metadata
import subprocess
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.operations import delivery
from mlops_course.operations.delivery import GitError, RefusedError, Workflow, supply_chain

NOON = pd.Timestamp("2024-03-01T12:00Z")
JOBS = {
    "unit": {"run": "python -m unit"},
    "data": {"run": "python -m data"},
    "same": {"run": "python -m same", "needs": ["unit"]},
    "gate": {"run": "python -m gate", "needs": ["data", "same"]},
}
PATHS = {"*.md": [], "data*": ["data", "gate"], "code.py": ["unit", "same"], "unit.py": ["unit"]}
TRIGGERS = {"new data": ["gate"], "nightly": ["unit", "data"]}
WORKFLOW = Workflow(JOBS, PATHS, TRIGGERS)
PASSES = {f"{name}.py": "import code_of; assert code_of.WORTH > 0\n" for name in JOBS}
names = st.sampled_from(["README.md", "data/a.csv", "code.py", "unit.py", "new.toml", "docs/b.md"])


def commit(folder, files, number=0):
    return delivery.commit(folder, files, message=f"commit {number}", time=NOON + pd.Timedelta(hours=number))


def first(folder):
    """A repository whose first commit is green and in production."""
    one = commit(folder, {**PASSES, "code_of.py": "WORTH = 1\n", "README.md": "one\n"})
    delivery.run(folder, one, workflow=WORKFLOW)
    delivery.deploy(folder, one, workflow=WORKFLOW)
    return one


def git(folder, *arguments):
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


@given(st.lists(names), st.lists(names))
def test_more_changes_never_need_fewer_jobs(some, more):
    assert set(WORKFLOW.required(some)) <= set(WORKFLOW.required([*some, *more]))


@given(st.lists(names))
def test_a_job_comes_with_all_that_it_needs_and_after_it(paths):
    order = WORKFLOW.required(paths)
    for place, name in enumerate(order):
        assert set(JOBS[name].get("needs", ())) <= set(order[:place])


def test_an_unknown_path_needs_every_job_and_a_harmless_one_none():
    assert WORKFLOW.required(["delivery.yaml"]) == [*JOBS]
    assert WORKFLOW.required(["README.md", "docs/deep/b.md"]) == WORKFLOW.required([]) == []


def test_a_trigger_needs_its_jobs():
    assert WORKFLOW.required(trigger="nightly") == ["unit", "data"]
    assert WORKFLOW.required(["README.md"], trigger="new data") == [*JOBS]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"jobs": {"unit": {"command": "x"}}}, r"jobs\.unit"),
        ({"jobs": {"a": {"run": "x", "needs": ["b"]}, "b": {"run": "x", "needs": ["a"]}}}, "wait for one another"),
        ({"jobs": {"a": {"run": "x", "needs": ["b"]}}}, r"jobs\.a\.needs"),
        ({"paths": {"*.py": ["unti"]}}, r"paths\.\*\.py"),
        ({"triggers": {"new data": "gate"}}, r"triggers\.new data"),
    ],
)
def test_a_workflow_that_cannot_be_names_the_entry(change, named):
    empty = {"paths": {}, "triggers": {}} if "jobs" in change else {}
    with pytest.raises(ValueError, match=named):
        Workflow(**{"jobs": JOBS, "paths": PATHS, "triggers": TRIGGERS, **empty, **change})


def test_a_wrong_trigger_or_argument_is_refused():
    with pytest.raises(ValueError, match="new data"):
        WORKFLOW.required(trigger="full moon")
    with pytest.raises(TypeError, match="list of paths"):
        WORKFLOW.required("code.py")


def test_the_same_commit_has_the_same_id_everywhere(tmp_path):
    assert commit(tmp_path / "a", {"x": "1\n"}) == commit(tmp_path / "b", {"x": b"1\n"})
    assert commit(tmp_path / "a", {"x": "2\n"}, 1) != commit(tmp_path / "b", {"x": "2\n"}, 2)


def test_a_commit_holds_the_named_files_only(tmp_path):
    commit(tmp_path, {"x": "1\n", "z": "1\n"})
    (tmp_path / "forgotten.py").write_text("")
    second = commit(tmp_path, {"deep/y": "1\n", "z": None}, 1)
    assert git(tmp_path, "ls-tree", "-r", "--name-only", second).split() == ["deep/y", "x"]


@pytest.mark.parametrize(
    ("files", "time", "said"),
    [({"../x": ""}, NOON, "within the repository"), ({"x": ""}, NOON.tz_localize(None), "time zone")],
)
def test_a_commit_that_cannot_be_writes_nothing(tmp_path, files, time, said):
    with pytest.raises(ValueError, match=said):
        delivery.commit(tmp_path / "repository", files, message="m", time=time)
    assert [*tmp_path.iterdir()] == []


def test_neither_configuration_nor_environment_of_the_user_plays_a_part(tmp_path, monkeypatch):
    other = tmp_path / "other"
    before = commit(other, {"x": "1\n"})
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[user]\nname = Somebody\n[commit]\ngpgsign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert commit(tmp_path / "mine", {"x": "1\n"}) == before
    monkeypatch.delenv("GIT_DIR")
    assert git(other, "rev-list", "--all", "--count") == "1"


def test_a_folder_in_a_repository_is_not_taken_for_it(tmp_path):
    commit(tmp_path, {"x": "1\n"})
    (tmp_path / "inner").mkdir()
    with pytest.raises(GitError, match="not a git repository"):
        delivery.changed(tmp_path / "inner", "HEAD")


def test_changed_files_are_those_since_production_and_a_renamed_one_counts_twice(tmp_path):
    one = first(tmp_path)
    commit(tmp_path, {"code.py": "x\n"}, 1)
    two = commit(tmp_path, {"näme.md": "one\n", "README.md": None}, 2)
    assert sorted(delivery.changed(tmp_path, two)) == ["README.md", "code.py", "näme.md"]
    assert sorted(delivery.changed(tmp_path, two, since="HEAD~1")) == ["README.md", "näme.md"]
    assert delivery.changed(tmp_path, one) == []


def test_a_run_stops_at_the_first_red_job_and_is_kept(tmp_path):
    bad = commit(tmp_path, {**PASSES, "code_of.py": "WORTH = 1\n", "data.py": "raise SystemExit('row 7')\n"})
    found = delivery.run(tmp_path, bad, workflow=WORKFLOW)
    assert found["verdict"].tolist() == ["green", "red", "not run", "not run"]
    assert found.set_index("job").loc["data", "said"] == "row 7"
    assert delivery.verdicts(tmp_path, bad) == found.set_index("job")["verdict"].to_dict()


def test_a_run_sees_the_commit_and_not_the_folder(tmp_path, monkeypatch):
    one = commit(tmp_path, {**PASSES, "README.md": "one\n"})
    (tmp_path / "code_of.py").write_text("WORTH = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = delivery.run(tmp_path, one, workflow=WORKFLOW, jobs=["unit"])
    assert found.loc[0, "verdict"] == "red"
    assert "code_of" in found.loc[0, "said"]


def test_a_run_leaves_the_folder_and_its_branches_as_they_were(tmp_path):
    first(tmp_path)
    before = git(tmp_path, "status", "--porcelain"), git(tmp_path, "branch", "-v")
    delivery.run(tmp_path, "HEAD", workflow=WORKFLOW, jobs=["unit"])
    assert (git(tmp_path, "status", "--porcelain"), git(tmp_path, "branch", "-v")) == before
    assert before[0] == ""


@pytest.mark.parametrize(
    ("command", "said"), [("no-such-program x", "could not be started"), ("python -m sleep", "stopped after 0.5 s")]
)
def test_a_job_that_cannot_start_or_does_not_end_is_red(tmp_path, monkeypatch, command, said):
    monkeypatch.setattr(delivery.repository, "MAX_SECONDS", 0.5)
    one = commit(tmp_path, {"sleep.py": "import time; time.sleep(1e6)\n"})  # ends in no time that a machine may take
    workflow = Workflow({"job": {"run": command}}, {}, {})
    found = delivery.run(tmp_path, one, workflow=workflow)
    assert found.loc[0, "verdict"] == "red"
    assert said in found.loc[0, "said"]


def test_the_last_verdict_of_a_job_counts_and_the_others_stay(tmp_path, monkeypatch):
    one = commit(tmp_path, {"job.py": "import os; assert 'LUCK' in os.environ\n"})
    workflow = Workflow({name: {"run": "python -m job"} for name in "ab"}, {}, {})
    assert delivery.run(tmp_path, one, workflow=workflow)["verdict"].tolist() == ["red", "not run"]
    monkeypatch.setenv("LUCK", "1")
    delivery.run(tmp_path, one, workflow=workflow, jobs=["a"])
    assert delivery.verdicts(tmp_path, one) == {"a": "green", "b": "not run"}


def test_a_commit_without_a_run_is_refused(tmp_path):
    one = commit(tmp_path, {"x": "1\n"})
    with pytest.raises(RefusedError, match=r"unit \(not run\), data \(not run\)"):
        delivery.deploy(tmp_path, one, workflow=WORKFLOW)
    assert git(tmp_path, "branch", "--list", "production") == ""


def test_a_red_commit_is_refused_and_so_is_a_harmless_one_on_top_of_it(tmp_path):
    one = first(tmp_path)
    red = commit(tmp_path, {"code_of.py": "WORTH = 0\n"}, 1)
    harmless = commit(tmp_path, {"README.md": "two\n"}, 2)
    for each in (red, harmless):
        delivery.run(tmp_path, each, workflow=WORKFLOW)
        with pytest.raises(RefusedError, match=r"unit \(red\)"):
            delivery.deploy(tmp_path, each, workflow=WORKFLOW)
    assert git(tmp_path, "rev-parse", "production") == one


def test_a_deployment_returns_all_commits_that_went_live_with_it(tmp_path):
    first(tmp_path)
    more = [commit(tmp_path, {"README.md": f"{number}\n"}, number) for number in (2, 3, 4)]
    assert delivery.deploy(tmp_path, "HEAD", workflow=WORKFLOW) == more
    assert delivery.deploy(tmp_path, "HEAD", workflow=WORKFLOW) == []


def test_without_git_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="install it from"):
        delivery.changed(tmp_path, "HEAD")


def test_an_error_of_git_keeps_the_words_of_git(tmp_path):
    commit(tmp_path, {"x": "1\n"})
    with pytest.raises(GitError, match="nothing to commit"):
        commit(tmp_path, {"x": "1\n"})
    with pytest.raises(GitError, match="no such commit"):
        delivery.verdicts(tmp_path, "--all")


START, END = pd.Timestamp("2024-03-01T00:00Z"), pd.Timestamp("2024-03-29T00:00Z")


def log(rows):
    frame = pd.DataFrame(rows, columns=["kind", "hour", "commit", "deployment", "incident"])
    return frame.assign(time=START + pd.to_timedelta(frame.pop("hour").astype(float), unit="h"))


SMALL = log(
    [
        ("committed", 0, "a", None, None),
        ("committed", 5, "b", None, None),
        ("deployed", 8, "a", "d1", None),
        ("deployed", 8, "b", "d1", None),
        ("failed", 10, None, "d1", "i1"),
        ("committed", 20, "c", None, None),
        ("deployed", 22, "c", "d2", None),
        ("restored", 22, None, None, "i1"),
        ("failed", 100, None, "d2", "i2"),
        ("committed", 600, "d", None, None),
    ]
)


few = settings(max_examples=30)  # pandas takes 20 ms for a log, however short; the hours that decide are drawn often
hours = st.sampled_from([5, 8, 10, 20, 22, 100, 600]) | st.integers(1, 671)  # an event's own hour, or any


@pytest.fixture(scope="module")
def whole():
    """The metrics of the small log from its start to its end."""
    return delivery.metrics(SMALL, start=START, end=END)


def test_the_metrics_of_a_log_that_can_be_read_by_eye(whole):
    incidents = np.median([12, 572])
    assert whole.table["value"].tolist() == [2 / 28, 3.0, 12.0, 1.0, 0.0, 12.0]
    assert whole.table["counted"].tolist() == [2, 3, 1, 2, 2, 1]
    assert whole.table["open"].tolist() == [0, 1, 1, 0, 0, 1]
    least = [2 / 28, np.median([8, 3, 2, 72]), incidents, 1.0, 0.0, incidents]
    assert whole.table["at_least"].tolist() == least
    open_incident = ["i2", "still open", 572]
    assert whole.aside[["id", "why", "hours"]].values.tolist() == [["d", "still open", 72], *[open_incident] * 2]


def test_only_an_incident_that_a_deployment_caused_moves_the_recovery_time(whole):
    silent_feed = log([("failed", 200, None, None, "i3"), ("restored", 230, None, None, "i3")])
    found = delivery.metrics(pd.concat([SMALL, silent_feed]), start=START, end=END).table
    pd.testing.assert_frame_equal(found.drop("time to restore"), whole.table.drop("time to restore"))
    assert found.loc["time to restore", ["value", "counted", "at_least"]].tolist() == [21.0, 2, 30.0]
    slow_mend = log([("failed", 200, None, "d2", "i3"), ("restored", 230, None, None, "i3")])
    blamed = delivery.metrics(pd.concat([SMALL, slow_mend]), start=START, end=END).table
    assert blamed.loc["failed deployment recovery time", "value"] == blamed.loc["time to restore", "value"] == 21.0


@few
@given(st.permutations(range(len(SMALL))), st.lists(st.integers(0, len(SMALL) - 1)))
def test_neither_order_of_arrival_nor_what_is_told_again_later_changes_anything(whole, order, again):
    later = SMALL.iloc[again].assign(time=lambda told: told["time"] + pd.Timedelta("5h"))
    found = delivery.metrics(pd.concat([later, SMALL.iloc[order]]), start=START, end=END)
    pd.testing.assert_frame_equal(found.table, whole.table)
    pd.testing.assert_frame_equal(found.aside, whole.aside)


@few
@given(st.lists(hours, min_size=1, max_size=2, unique=True))
def test_each_deployment_change_and_incident_counts_in_one_window(whole, cuts):
    edges = [START, *(START + pd.Timedelta(hours=hour) for hour in sorted(cuts)), END]
    parts = [delivery.metrics(SMALL, start=low, end=high).table["counted"] for low, high in pairwise(edges)]
    assert sum(parts).tolist() == whole.table["counted"].tolist()


@few
@given(hours.filter(lambda hour: hour > 100))
def test_what_comes_after_the_end_is_not_known_yet(hour):
    end = START + pd.Timedelta(hours=hour)
    both = [delivery.metrics(one, start=START, end=end) for one in (SMALL, SMALL[SMALL["time"] < end])]
    pd.testing.assert_frame_equal(both[0].table, both[1].table)


@pytest.mark.parametrize("later", [672, 10_000])
def test_the_median_is_never_below_what_was_promised_as_the_least(whole, later):
    promised = whole.table.loc["time to restore", "at_least"]
    ended = pd.concat([SMALL, log([("restored", later, None, None, "i2")])])
    after = delivery.metrics(ended, start=START, end=START + pd.Timedelta(hours=20_000))
    assert after.table.loc["time to restore", "value"] >= promised


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("deployed", 30, "x", "d3", None)], "its begin is not in the log"),
        ([("committed", 40, "x", None, None), ("deployed", 30, "x", "d3", None)], "ended before it began"),
        ([("failed", 30, None, "d9", "x")], "caused by no known deployment"),
        ([("failed", 30, None, None, "x"), ("restored", 31, None, None, "x")], "caused by no known deployment"),
    ],
)
def test_an_event_that_contradicts_another_is_named_and_not_averaged(rows, why):
    found = delivery.metrics(pd.concat([SMALL, log(rows)]), start=START, end=END)
    assert found.aside.loc[found.aside["why"] == why, "id"].tolist() == ["x"]
    assert found.table.loc["lead time for changes", "value"] == 3.0


def test_a_commit_that_goes_live_again_counts_when_it_first_did():
    again = pd.concat([SMALL, log([("deployed", 90, "c", "d3", None)])])
    assert delivery.metrics(again, start=START, end=END).table.loc["lead time for changes", "value"] == 3.0


def test_a_contradiction_is_named_once_however_often_it_came_in():
    odd = log([("failed", 30, None, "d9", "x"), ("failed", 31, None, "d9", "x")])
    found = delivery.metrics(pd.concat([SMALL, odd]), start=START, end=END)
    assert (found.aside["why"] == "caused by no known deployment").sum() == 1


def test_an_incident_that_began_before_the_window_and_is_open_is_not_hidden():
    found = delivery.metrics(SMALL, start=START + pd.Timedelta(hours=200), end=END)
    assert found.table.loc["time to restore", "open"] == 1
    assert np.isnan(found.table.loc["time to restore", "value"])


def test_an_unplanned_deployment_counts_as_rework_once_in_the_window_that_it_lies_in(whole):
    mend = log([("deployed", 24, name, "d3", "i1") for name in "xy"])
    found = delivery.metrics(pd.concat([SMALL, mend]), start=START, end=END).table
    assert found.loc["deployment rework rate", ["value", "counted"]].tolist() == [1 / 3, 3]
    assert found.loc["change failure rate", "value"] == 2 / 3
    before = delivery.metrics(pd.concat([SMALL, mend]), start=START, end=START + pd.Timedelta("24h")).table
    assert before.loc["deployment rework rate", "value"] == whole.table.loc["deployment rework rate", "value"] == 0


def test_an_empty_log_has_no_metrics_and_no_error():
    found = delivery.metrics(SMALL.iloc[:0], start=START, end=END)
    assert found.table["counted"].tolist() == [0] * 6
    assert found.table["value"].isna().tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (SMALL.drop(columns="incident"), "incident"),
        (SMALL.replace({"kind": {"failed": "broke"}}), "broke"),
        (SMALL.assign(time=SMALL["time"].where(SMALL["kind"] != "failed")), "'failed'"),
        (SMALL.assign(deployment=None), "'deployed'"),
    ],
)
def test_a_log_that_cannot_be_read_says_where(broken, said):
    with pytest.raises(ValueError, match=said):
        delivery.metrics(broken, start=START, end=END)


def component(bill, name):
    return next(one for one in bill["components"] if one["name"] == name)


def test_a_bill_of_materials_names_what_is_installed_and_what_it_needs():
    bill = delivery.sbom(["Scikit_Learn"])
    own = component(bill, "scikit-learn")
    assert own["version"] == importlib.metadata.version("scikit-learn")
    assert own["purl"] == own["bom-ref"] == f"pkg:pypi/scikit-learn@{own['version']}"
    needed = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert {component(bill, name)["bom-ref"] for name in ("numpy", "scipy", "joblib")} <= {*needed[own["bom-ref"]]}
    assert set().union(*needed.values()) < needed.keys() == {one["bom-ref"] for one in bill["components"]}


def test_a_bill_of_materials_is_the_same_for_the_same_environment():
    assert delivery.sbom(["pandas", "scipy"]) == delivery.sbom(iter(["scipy", "pandas", "SciPy"]))
    assert delivery.sbom([])["components"] == []


def test_an_extra_brings_its_packages_and_only_where_it_is_asked_for():
    plain, more = (delivery.sbom([root])["components"] for root in ("httpx", "httpx[cli]"))
    assert {one["name"] for one in more} - {one["name"] for one in plain} >= {"click", "rich"}


def test_a_root_that_is_not_installed_is_named():
    with pytest.raises(ValueError, match="no-such-package"):
        delivery.sbom(["pandas", "no-such-package"])
    with pytest.raises(TypeError, match="list of package names"):
        delivery.sbom("pandas")


def test_a_need_that_is_not_installed_is_named_and_not_left_out(monkeypatch):
    installed = supply_chain._is_installed
    monkeypatch.setattr(supply_chain, "_is_installed", lambda name: name != "numpy" and installed(name))
    with pytest.raises(ValueError, match="all that pandas needs to be installed, found no numpy"):
        delivery.sbom(["pandas"])
