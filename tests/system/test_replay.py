"""The closed loop in simulated time: all is asked and labelled once, released with care, and resumed after a kill."""

import asyncio
import doctest
import json
import os
import shutil
import signal
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import small_case
from kills import die_at, in_a_child, spread

from mlops_course.operations import registry, retraining
from mlops_course.operations.deployment import rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import pipeline, replay, service
from mlops_course.system.replay import Ledger, Plan
from mlops_course.system.replay.questions import INTERVAL
from mlops_course.system.system import System

QUIET = "2024-08-05"  # the last day of a quiet time, in which nobody has anything to decide
TRAINED = "2024-08-09"  # by then every policy that trains has trained on July
UNTIL = "2024-08-16"  # by then the second version has been through shadow and canary, and has been promoted
PLAN = Plan(first="2024-07", last="2024-08", until=UNTIL, policy="monthly")
KINDS = [  # of steps to kill a replay at: one side of each thing that it keeps, and then the other side
    *("before a pipeline step", "after a release", "before a rename", "after an append", "before a line"),
    *("after a pipeline step", "before a release", "after a rename", "before an append", "after a line"),
]


@pytest.fixture(scope="module", autouse=True)
def small_scale():
    """Canaries and policies that need no more rows than the small case has."""
    plan = rollout.CanaryPlan(max_latency_ms=1e4, max_cost=120, steps=(0.3, 0.6), answers_per_step=4)
    with pytest.MonkeyPatch.context() as patch:
        for module in (service, service.canary):
            patch.setattr(module, "canary_plan", lambda system: plan)
        yield


@pytest.fixture(scope="module")
def system(warm, tmp_path_factory):
    """The small case; in its workspace a replay that has a champion and has not lived through a day."""
    system = System("small_case", warm(tmp_path_factory.mktemp("replay")).create())
    replay.replay(system, replace(PLAN, until=PLAN.first), name="begun")
    return system


def run(system, plan=PLAN, *, name="monthly", **options):
    """A replay in a folder of its own, with the champion that all plans begin with."""
    copied(system, system.workspace.root / "replays" / "begun", name, plan)
    return replay.replay(system, plan, name=name, **options)


def copied(system, source, name, plan):
    """Make a replay of another plan from one that has lived through the same days, unless it is there."""
    folder = system.workspace.root / "replays" / name
    if not folder.exists():
        shutil.copytree(source, folder)
        _, *days = (folder / "ledger.jsonl").read_text().splitlines()
        (folder / "ledger.jsonl").write_text("".join(f"{line}\n" for line in (json.dumps(asdict(plan)), *days)))


@pytest.fixture(scope="module")
def monthly(system):
    """A whole replay; beside it a copy of what it was at the end of the quiet time."""

    def told(day, _):
        if f"{day:%Y-%m-%d}" == QUIET:
            shutil.copytree(system.workspace.root / "replays" / "monthly", system.workspace.root / "quiet")

    return run(system, told=told)


def run_on(system, plan=PLAN, *, name, **options):
    """A replay that continues from the end of the quiet time, until when all plans have the same days."""
    copied(system, system.workspace.root / "quiet", name, plan)
    return replay.replay(system, plan, name=name, **options)


@pytest.fixture(scope="module")
def asked():
    rows = small_case.build(small_case.read(["2024-06", "2024-07", "2024-08"]))
    lived = (rows["batch"] != "2024-06") & (rows["prediction_time"] < pd.Timestamp(UNTIL, tz="UTC"))
    return rows[lived].set_index("id")


def log_of(replayed):
    return PredictionLog(replayed.log_url)


def steps(replayed):
    history = replayed.system.registry.history()
    return list(zip(history["event"], history["version"], strict=True))


def test_every_row_is_asked_once_and_every_label_recorded_once(monthly, asked):
    predictions, labels = log_of(monthly).predictions(), log_of(monthly).labelled()
    assert sorted(predictions["id"]) == sorted(asked.index)
    known = asked.loc[asked["label_time"] < pd.Timestamp(UNTIL, tz="UTC"), "failed"].astype(int)
    assert labels.set_index("id")["label"].sort_index().to_dict() == known.sort_index().to_dict()
    ledger = monthly.ledger.frame()
    assert ledger["answered"].sum() == len(predictions)
    assert ledger["labelled"].sum() == len(labels)
    assert not ledger["refused"].any()


def test_rows_are_asked_in_time_and_labels_come_when_they_were_known(monthly, asked):
    labels = log_of(monthly).labelled().set_index("id")
    late = labels["time"] - asked.loc[labels.index, "prediction_time"]
    assert (late >= pd.Timedelta(0)).all()
    assert (late < INTERVAL).all()
    assert (labels["label_time"] == asked.loc[labels.index, "label_time"]).all()


def test_the_answers_are_those_of_the_version_that_gave_them(monthly, asked):
    predictions = log_of(monthly).predictions()
    for version, rows in predictions.groupby("model_version"):
        model = monthly.system.registry.load(int(version))
        inputs = asked.loc[rows["id"], list(model.contract.inputs)]
        np.testing.assert_allclose(model.model.predict_proba(inputs)[:, 1], rows["probability"], rtol=0, atol=1e-12)


def test_a_new_version_goes_through_shadow_and_canary_before_it_is_promoted(monthly):
    assert steps(monthly)[:5] == [("promoted", 1), ("shadow", 2), ("canary", 2), ("canary", 2), ("promoted", 2)]
    history = monthly.system.registry.history()
    assert history["when"].is_monotonic_increasing
    assert (history["when"] == history["when"].dt.floor("D")).all()
    assert set(history["approver"]) <= {"policy monthly, all past", "canary rule, begun by policy monthly, all past"}


def test_nothing_is_trained_on_what_was_not_known_in_the_evening(monthly, asked):
    complete = asked.loc[asked["batch"] == "2024-07"].groupby("batch")["label_time"].max()
    trained = [day for day in monthly.ledger.days if "trained_on" in day]
    assert trained
    for day in trained:
        evening = pd.Timestamp(day["day"], tz="UTC") + pd.Timedelta("1D")
        assert all(complete[name] <= evening for name in day["trained_on"] if name in complete)


def test_costs_in_the_ledger_are_those_of_decisions_trainings_and_answers(monthly):
    labels, ledger, costs = log_of(monthly).labelled(), monthly.ledger.frame(), monthly.system.specification.costs
    false = ((labels["decision"]) & (labels["label"] == 0)).sum() * costs.false_alarm
    missed = ((~labels["decision"]) & (labels["label"] == 1)).sum() * costs.missed
    assert ledger["error_cost"].sum() == false + missed
    assert ledger["training_cost"].sum() == costs.training * ledger["retrain"].sum()
    assert ledger["serving_cost"].sum() == pytest.approx(costs.serving * ledger["answered"].sum() / 1_000)


def test_a_second_call_does_nothing_more(system, monthly):
    before = monthly.ledger.path.read_bytes(), steps(monthly)
    again = run(system, told=lambda day, line: pytest.fail("a day was lived twice"))
    assert (again.ledger.path.read_bytes(), steps(again)) == before


def test_a_replay_may_end_before_its_last_batch_does(system, monthly):
    short = run_on(system, replace(PLAN, policy="never", until="2024-08-08"), name="short")
    assert [day["day"] for day in short.ledger.days if day["day"] > QUIET] == ["2024-08-06", "2024-08-07"]


@contextmanager
def watched(system, name, step):
    """Call `step` with the lines that the ledger has and the kind, at each step of a replay; gives its `progress`."""
    ledger = system.workspace.root / "replays" / name / "ledger.jsonl"

    def tell(kind):
        step(ledger.read_bytes().count(b"\n") if ledger.exists() else 0, kind)

    def around(act, what):
        def told(*arguments, **options):
            tell(f"before {what}")
            result = act(*arguments, **options)
            tell(f"after {what}")
            return result

        return told

    def progress(_, happening):
        tell(f"{'before' if happening == 'started' else 'after'} a pipeline step")

    with pytest.MonkeyPatch.context() as patch:
        for owner, act, what in (
            (PredictionLog, "append", "an append"),
            (Ledger, "add", "a line"),
            (registry.Registry, "_release", "a release"),
            (os, "replace", "a rename"),
        ):
            patch.setattr(owner, act, around(getattr(owner, act), what))
        yield progress


def test_over_http_the_ledger_is_the_same(system, monthly):
    served = run_on(system, replace(PLAN, until=TRAINED), name="http", over_http=True)
    assert served.ledger.days == [day for day in monthly.ledger.days if day["day"] < TRAINED]


def test_a_replay_can_be_called_where_an_event_loop_runs_as_in_a_notebook(system, monthly):
    async def cell():
        return run_on(system, replace(PLAN, policy="never", until="2024-08-07"), name="loop")

    assert asyncio.run(cell()).ledger.days[-1]["day"] == "2024-08-06"


@pytest.fixture(scope="module")
def careless(system, monthly):
    return run_on(system, replace(PLAN, careful=False, until=TRAINED), name="careless")


def test_a_team_without_care_promotes_at_once(careless):
    assert {event for event, _ in steps(careless)} == {"promoted"}
    assert len(steps(careless)) > 1


def test_a_policy_that_never_trains_keeps_the_first_champion(system, monthly):
    never = run_on(system, replace(PLAN, policy="never", until=TRAINED), name="never")
    assert steps(never) == [("promoted", 1)]
    assert set(log_of(never).predictions()["model_version"]) == {1}


@pytest.fixture
def evenings(monkeypatch):
    """The states that the policy gets, one an evening; it wants a training on the second one."""
    told = []

    def policy(state, limits):
        told.append(state)
        return retraining.Decision(len(told) == 2, "the second evening")

    monkeypatch.setitem(retraining.POLICIES, "monthly", policy)
    return told


def test_a_candidate_that_is_refused_leaves_the_champion_as_old_as_it_was(system, evenings, monkeypatch):
    train = pipeline.train

    def refused(*arguments, **options):
        result = train(*arguments, **options)
        return replace(result, gate=replace(result.gate, reasons=("worse",)))

    monkeypatch.setattr(pipeline, "train", refused)
    run(system, replace(PLAN, until="2024-07-05"), name="refused candidate")
    assert [state.age_days for state in evenings] == [1, 2, 3, 4]
    assert [state.cooldown_days for state in evenings] == [1, 2, 1, 2]


@pytest.mark.long
def test_a_champion_is_young_from_its_own_training_on(system, evenings):
    run(system, replace(PLAN, careful=False, window="last 3", until="2024-07-05"), name="promoted candidate")
    assert [state.age_days for state in evenings] == [1, 2, 1, 2]


def test_a_replay_does_not_touch_the_workspace_that_it_was_started_from(system, monthly):
    assert system.registry.champion() is None
    assert not (system.workspace.root / "ledger.jsonl").exists()


def test_faults_of_the_plan_reach_the_service(system):
    outage = {"kind": "label outage", "start": "2024-07-02", "end": "2024-07-04"}
    told = run(system, replace(PLAN, until="2024-07-12", policy="never", faults=[outage]), name="outage")
    within = log_of(told).labelled()["time"].between("2024-07-02", "2024-07-04")
    assert len(within)
    assert not within.any()


def test_rows_that_the_service_refuses_are_counted_and_the_others_answered(system, asked, monkeypatch):
    inject = pipeline.prediction_rows

    def spoilt(*arguments, **options):
        rows = inject(*arguments, **options)
        return rows.assign(maker=rows["maker"].astype(object).mask(np.arange(len(rows)) % 10 == 0, None))

    monkeypatch.setattr(pipeline, "prediction_rows", spoilt)
    spoilt_run = run(system, replace(PLAN, until="2024-07-08", policy="never"), name="spoilt")
    ledger, rows = spoilt_run.ledger.frame(), (asked["prediction_time"] < pd.Timestamp("2024-07-08", tz="UTC")).sum()
    assert ledger["refused"].sum() == np.ceil(rows / 10)
    assert ledger["answered"].sum() == rows - np.ceil(rows / 10) == len(log_of(spoilt_run).predictions())


@pytest.mark.parametrize(
    "changes", [{"first": "2024-01"}, {"first": "2024-08", "last": "2024-07"}, {"last": "2031-01"}], ids=str
)
def test_batches_that_cannot_be_replayed_are_refused(system, changes):
    with pytest.raises(ValueError, match="expected first and last out of"):
        run(system, replace(PLAN, **changes), name="refused")


@pytest.mark.parametrize("changes", [{"policy": "on a whim"}, {"window": "yesterday"}], ids=str)
def test_an_unknown_policy_or_window_is_refused_before_anything_is_done(system, changes):
    with pytest.raises(ValueError, match=r"expected a (policy|window) out of"):
        run(system, replace(PLAN, **changes), name="unknown")


# The ledger


def test_a_ledger_of_another_plan_is_refused(tmp_path):
    Ledger(tmp_path / "ledger.jsonl", PLAN)
    with pytest.raises(ValueError, match="take another folder"):
        Ledger(tmp_path / "ledger.jsonl", replace(PLAN, policy="never"))


def test_a_ledger_of_an_older_version_with_more_fields_is_continued(system, monthly):
    plan = replace(PLAN, policy="never", until="2024-08-07")
    copied(system, system.workspace.root / "quiet", "older", plan)
    ledger = system.workspace.root / "replays" / "older" / "ledger.jsonl"
    first, *days = map(json.loads, ledger.read_text().splitlines())
    for day in days:
        day["loop"] |= {"phase": "quiet", "candidate": None, "since": None, "trained": None, "attempted": None}
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in (first, *days)))
    assert replay.replay(system, plan, name="older").ledger.days[-1]["day"] == "2024-08-06"


def test_a_line_that_was_cut_off_is_forgotten(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", PLAN)
    ledger.add({"day": "2024-07-01"})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"day": "2024-0')
    assert Ledger(ledger.path, PLAN).days == [{"day": "2024-07-01"}]
    assert ledger.path.read_bytes() == whole


# Killed


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork: MLflow holds on to a database in its process")
def test_a_replay_that_was_deleted_can_be_lived_through_again(system, monthly):
    short = replace(PLAN, policy="never", until="2024-07-02")
    assert in_a_child(lambda: replay.replay(system, short, name="again")) == 0
    folder = system.workspace.root / "replays" / "again"
    kept = (folder / "ledger.jsonl").read_bytes()
    shutil.rmtree(folder)
    again = replay.replay(system, short, name="again")
    assert len(again.ledger.days) == 1
    assert again.ledger.path.read_bytes() == kept


class CutError(Exception):
    """Stands for a kill while a day is lived through."""


@pytest.mark.long
@pytest.mark.parametrize("careful", [True, False], ids=["careful", "careless"])
def test_an_evening_that_is_cut_short_after_a_step_is_lived_again_as_it_was(
    system, monthly, careless, monkeypatch, careful
):
    """The replay is killed after each step, and then after the whole evening but its line in the ledger."""
    whole, plan = (monthly, PLAN) if careful else (careless, replace(PLAN, careful=False, until=TRAINED))
    cuts, release, add = set(), registry.Registry._release, Ledger.add

    def cut(*where):
        if where not in cuts:
            cuts.add(where)
            raise CutError

    def releasing(self, event, version, **words):
        release(self, event, version, **words)
        cut(event, version, words.get("share"))

    def adding(self, day):
        if day["steps"]:
            cut(day["day"])
        add(self, day)

    with monkeypatch.context() as patch:
        patch.setattr(registry.Registry, "_release", releasing)
        patch.setattr(Ledger, "add", adding)
        finished = None
        while finished is None:
            with suppress(CutError):
                finished = run_on(system, plan, name=f"cut short, {careful=}")
    assert {where[0] for where in cuts} > ({"promoted", "shadow", "canary"} if careful else {"promoted"})
    assert finished.ledger.path.read_bytes() == whole.ledger.path.read_bytes()
    pd.testing.assert_frame_equal(released(finished), released(whole))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a warmed-up process")
@pytest.mark.long
def test_a_replay_that_is_killed_again_and_again_has_the_ledger_of_one_that_is_not(system, monthly):
    """The replay is started again after each kill, and killed at a step of each kind in turn."""
    steps = []
    with watched(system, "counted", lambda *step: steps.append(step)) as progress:
        run(system, name="counted", progress=progress)
    points, places = spread(steps, KINDS, turns=range(2), of=2), range(len(monthly.ledger.days) + 2)
    assert {kind for _, _, kind in points} == set(KINDS)
    assert len({place for place, _, _ in points}) > 3
    assert len(points) == 20

    def live_until(point):
        with watched(system, "killed", die_at(point, places)) as progress:
            run(system, name="killed", progress=progress)

    for point in points:
        assert in_a_child(partial(live_until, point)) == -signal.SIGKILL, point
    finished = run(system, name="killed")
    assert finished.ledger.path.read_bytes() == monthly.ledger.path.read_bytes()
    pd.testing.assert_frame_equal(released(finished), released(monthly))
    columns = ["id", "time", "probability", "decision", "model_version", "assigned_version", "share", "inputs"]
    pd.testing.assert_frame_equal(log_of(finished).predictions()[columns], log_of(monthly).predictions()[columns])


def released(replayed):
    """The history but for what depends on how long an answer took."""
    return replayed.system.registry.history()[["when", "event", "version", "previous", "share", "reason", "in_effect"]]


def test_every_policy_and_window_has_a_plan_that_survives_json():
    for policy in retraining.POLICIES:
        for window in retraining.WINDOWS:
            plan = Plan(first="2024-07", last="2024-08", policy=policy, window=window)
            assert Plan(**json.loads(json.dumps(plan.__dict__))) == replace(plan, faults=[])


def test_the_example_of_the_replay_holds():
    assert doctest.testmod(replay) == (0, 2)
