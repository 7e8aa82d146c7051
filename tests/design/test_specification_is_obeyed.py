"""Every field of the specification has a reader: when the field is changed, the system does something else.

What is compared is what the system does: a verdict, a threshold, a bar, a cost, a table. For what people agree on in
words (and for goals and promises, whose indicators are words), it is the page that they read.
"""

import pickle
import typing
from dataclasses import replace
from inspect import signature
from types import SimpleNamespace

import pandas as pd
import pytest
import small_case
import yaml
from pydantic import BaseModel

from mlops_course.design import Specification, canvas, load_specification
from mlops_course.development import data, gate
from mlops_course.operations import retraining
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import dashboard
from mlops_course.system import monitor as monitors
from mlops_course.system import pipeline, readiness, replay, scoring
from mlops_course.system.pipeline import runs, steps
from mlops_course.system.pipeline.steps import candidate
from mlops_course.system.readiness import model as model_probes
from mlops_course.system.readiness import monitoring as monitoring_probes
from mlops_course.system.readiness import scorecard
from mlops_course.system.replay.evening import Evening, Steps
from mlops_course.system.replay.questions import Questions
from mlops_course.system.system import System

pytestmark = pytest.mark.usefixtures("few_answers_are_timed")

BATCHES, LIVE = small_case.batches()[:6], small_case.batches()[6]
END = pd.Timestamp("2024-07-29", tz="UTC")
EVENING = {"age_days": 100, "cooldown_days": 50, "new_rows": 500, "new_batches": 1}
METRICS = {"roc_auc": 0.8, "calibration_error": 0.05, "cost_ratio": 0.8}
SLICE = {"slice": "maker", "value": "Ajax", "rows": 80, "positives": 30, "roc_auc": 0.7}
COMPARISON = {"slice": "all", "value": "", "rows": 200, "metric": "log_loss", "difference": 0.015, "low": 0.01}


@pytest.fixture(scope="module")
def world(warm, tmp_path_factory):
    """A system with a champion that answered in July, and what it was made from; made before any field is changed."""
    system = System("small_case", warm(tmp_path_factory.mktemp("obeyed")))
    trained = pipeline.train(small_case, BATCHES, workspace=system.workspace, seed=0)
    system.registry.promote(trained.version, approver="Ada", reason="first release")
    log = PredictionLog(system.workspace.prediction_log_url)
    scoring.stream(system, [LIVE], log=log, consumer="desk")
    subject = readiness.SystemUnderTest(system, log, None, tmp_path_factory.mktemp("scratch"))
    split = subject.run.data.tags["split_rows"]
    known = {name: getattr(subject, name) for name in ("model", "run", "parts", "train", "test")}
    reference = monitors.reference_rows(system, trained.version)
    yield SimpleNamespace(workspace=system.workspace, log=log, split=split, known=known, reference=reference)
    log.close()


@pytest.fixture
def seen(world, tmp_path, monkeypatch):
    """Function that says what a reader makes of a specification with this content."""

    def look(content, reader):
        path = tmp_path / "specification.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        monkeypatch.setattr(small_case, "SPECIFICATION", path)
        system = System("small_case", world.workspace)
        assert system.specification == load_specification(path), "the changed specification must be sound"
        return reader(world, system)

    return look


# Readers: what the system makes of its specification ------------------------------------------------------------------


def step(name, system, **given):
    """The result of a step of the pipeline on what the pipeline itself takes from the specification."""
    function = getattr(steps, name)
    known = runs._inputs(system.case, BATCHES, system.workspace, 0)[0] | given
    return function(**{name: known[name] for name in signature(function).parameters})


def page(world, system):
    return canvas(system.specification)


def card(world, system):
    report = gate.GateReport((), pd.DataFrame({"check": [], "verdict": []}))
    words = dict.fromkeys(("version", "data_version", "training_data", "evaluation_data"), "")
    evidence = {"metrics": pd.DataFrame({"value": [0.8]}, index=["roc_auc"])}
    return gate.model_card(system.specification.model_dump(mode="json"), evidence, report=report, **words)


def verdict(world, system, high=0.02):
    metrics = pd.DataFrame({"value": METRICS}).assign(low=0.0, high=1.0)
    evidence = {"metrics": metrics, "slices": pd.DataFrame([SLICE | {"roc_auc_low": 0.6, "roc_auc_high": 0.75}])}
    compared = {"comparison": pd.DataFrame([COMPARISON | {"high": high, "standard_error": 0.005}])}
    given = {"evidence": evidence, "champion_comparison": compared, "latency_ms": 8.0, "champion": 1}
    return step("gate_report", system, **given).passed


def undecided(world, system):
    return verdict(world, system, high=0.03)


def act_from(world, system):
    return step("threshold", system)


def parts(world, system):
    return step("split_rows", system, usable_rows=step_rows(system))


def step_rows(system):
    return data.save_snapshot({"rows": small_case.build(small_case.read(BATCHES))}, system.workspace.snapshots)


def fitted(world, system):
    columns = pipeline.columns_of(system.specification)
    model = candidate._candidates(small_case, columns, 0)["logistic_regression"]
    model.fit(world.known["train"][columns["inputs"]], world.known["train"][columns["target"]])
    return model.predict_proba(world.known["test"][columns["inputs"]])[:5].tolist()


def judged_slices(world, system):
    given = {"calibrated_model": pickle.dumps(world.known["model"].model), "threshold": 0.25}
    found = step("evidence", system, split_rows=world.split, **given)["slices"]
    return found[["slice", "value"]].to_numpy().tolist()


def watched(world, system):
    monitor = monitors.Monitor(system, world.reference)
    monitor.read(world.log)
    return monitor


def drifted(world, system):
    return watched(world, system).drift(END)["psi"].to_dict()


def alarm_bars(world, system):
    return repr(watched(world, system)._bars)


def judged_days(world, system):
    return watched(world, system).signals(END)["labels", "coverage"].count()


def colours(world, system):
    shown = dashboard.live_page(watched(world, system).state(END))
    return [shown.count(f'<i class="{level}"') for level in ("stable", "watch", "shifted")]


def probed(probe):
    def reader(world, system):
        subject = readiness.SystemUnderTest(system, world.log, None, world.workspace.root / "scratch")
        vars(subject).update(world.known)
        return scorecard._outcome(probe, subject)[0]

    return reader


def decided(policy, **state):
    def reader(world, system):
        return evening(system, policy, state)["retrain"]

    return reader


def evening(system, policy, state):
    """What a replay puts on record when the policy knows `EVENING` and `state`, and the training refuses its rows."""

    def refuse(*batches, **changes):
        raise retraining.CorruptedError("too few rows are left")

    class Told(Evening):
        def _state(self, alerts):
            return retraining.State(**EVENING | state)

    own, plan = System(system.case_name, system.workspace.replay(policy).create()), replace(PLAN, policy=policy)
    ledger, steps_taken = replay.Ledger(own.workspace.root / "ledger.jsonl", plan), Steps(own.registry, END)
    return Told(END, own, Questions(own, plan), ledger, None, None, steps_taken, refuse).decide([])


PLAN = replay.Plan(first=LIVE, last=LIVE, until="2024-07-02")


def training_cost(world, system):
    return evening(system, "monthly", {})["training_cost"]


def serving_cost(world, system):
    name = f"serving at {system.specification.costs.serving:g}"
    return replay.replay(system, PLAN, name=name).ledger.frame()["serving_cost"].sum()


SEEN_BY = {  # field: another value, and the reader that must notice
    "name": ("valves", page),
    "version": ("2", page),
    "decision": ("The mechanic decides.", page),
    "users": (["mechanic"], page),
    "value": ("Fewer visits.", page),
    "kpis.name": ("visits", page),
    "kpis.indicator": ("share of visits without a finding", page),
    "kpis.direction": ("at least", page),
    "kpis.goal": (100, page),
    "kpis.unit": ("pumps", page),
    "kpis.window_days": (7, page),
    "data_sources": (["check records"], page),
    "data_collection": ("By hand.", page),
    "target.column": ("broken", parts),
    "target.definition": ("1 if it bursts", card),
    "target.positive": ("the pump bursts", page),
    "target.label_delay": ("a week", page),
    "timing.prediction_time": ("asked", parts),
    "timing.label_time": ("told", parts),
    "timing.lead": ("P8D", parts),
    "costs.false_alarm": (60, act_from),
    "costs.missed": (60, act_from),
    "costs.unit": ("CHF per check", page),
    "costs.training": (300, training_cost),
    "costs.serving": (4, serving_cost),
    "inputs.numeric": (["vibration", "temperature", "installed"], drifted),
    "inputs.categorical": (["maker", "plant"], drifted),
    "inputs.datetime": ([], drifted),
    "features.numeric": (["vibration", "temperature"], fitted),
    "features.categorical": ([], fitted),
    "slices": ([], judged_slices),
    "slos.name": ("speed", page),
    "slos.indicator": ("share of requests answered within 40 ms", page),
    "slos.objective": (0.9, page),
    "slos.window_days": (7, page),
    "gates.min_roc_auc": (0.9, verdict),
    "gates.max_calibration_error": (0.01, verdict),
    "gates.max_cost_ratio": (0.5, verdict),
    "gates.tolerated_loss": (0.001, verdict),
    "gates.when_not_known": ("refuse", undecided),
    "gates.min_slice_rows": (500, verdict),
    "gates.max_slice_auc_drop": (0.01, verdict),
    "gates.max_latency_ms": (4, verdict),
    "monitoring.window_days": (7, drifted),
    "monitoring.psi_warning": (0.0001, colours),
    "monitoring.psi_alert": (0.15, decided("on drift", drift=0.2)),
    "monitoring.max_missing_rise": (0.0001, probed(monitoring_probes.input_faults)),
    "monitoring.max_rate_gap": (0.0001, probed(model_probes.inclusion)),
    "monitoring.max_label_age_days": (3, judged_days),
    "monitoring.max_false_alarms_per_year": (40, alarm_bars),
    "retraining.min_new_rows": (1_000, decided("monthly")),
    "retraining.max_log_loss_rise": (0.1, decided("on realised loss", realised_rise=0.07)),
    "retraining.max_age_days": (90, decided("combined")),
    "retraining.cooldown_days": (60, decided("monthly")),
    "risk.level": ("limited", card),
    "risk.basis": ("Nobody is judged.", card),
    "risk.as_of": ("2027-01-01", card),
}


def leaves(model, above=()):
    """The dotted names of a model's fields that hold no further fields; places in a list are left out."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield from leaves(inner[0], (*above, name)) if inner else [".".join((*above, name))]


def content_of_the_case():
    return yaml.safe_load(load_specification(small_case.SPECIFICATION).model_dump_json())


def answer_or_refusal(seen, content, reader):
    try:
        return seen(content, reader)
    except (ValueError, KeyError) as refusal:
        return refusal


@pytest.mark.parametrize("reader", dict.fromkeys(reader for _, reader in SEEN_BY.values()))
def test_a_reader_says_the_same_of_the_same_specification(reader, seen):
    assert seen(content_of_the_case(), reader) == seen(content_of_the_case(), reader), "else it notices anything"


def test_no_field_is_without_a_case():
    assert sorted(SEEN_BY) == sorted(leaves(Specification))


@pytest.mark.parametrize("field", list(leaves(Specification)))
def test_the_system_does_something_else_when_a_field_changes(field, seen):
    value, reader = SEEN_BY[field]
    before, after = content_of_the_case(), content_of_the_case()
    *above, name = field.split(".")
    place = after
    for part in above:
        place = place[part][0] if isinstance(place[part], list) else place[part]
    assert place[name] != value
    place[name] = value
    assert seen(before, reader) != answer_or_refusal(seen, after, reader), f"{reader.__name__} does not read {field}"
