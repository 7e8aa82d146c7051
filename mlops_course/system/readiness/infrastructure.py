"""Probes of what trains, judges and releases: section Infrastructure of the ML Test Score."""

import time
from dataclasses import replace
from types import ModuleType

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import evaluation, gate, training
from mlops_course.operations.deployment import rollout
from mlops_course.operations.registry import RegistryError
from mlops_course.system import governance, pipeline, service
from mlops_course.system.pipeline import steps
from mlops_course.system.workspace import Workspace

from .system_under_test import SystemUnderTest, _ProbeFailed, _require

THINNED_ROWS = 4000  # of the largest table, when the whole pipeline is tried
REQUESTS = 3000  # that a canary is tried with


def reproducible_training(tested: SystemUnderTest) -> str:
    """Infrastructure 1: training is reproducible. Fitted again from the record, the model gives the same answers."""
    _require(tested.kind in tested.candidates(), "the run does not name the kind of model: train a new version")
    train, later = tested.parts["train"], tested.parts["calibrate"]
    unfitted = replace(tested, seed=int(tested.run.data.tags["seed"])).candidates()[tested.kind]
    with threadpool_limits(1, user_api="openmp"):
        model = unfitted.fit(train[tested.inputs], train[tested.target])
        again = training.calibrate(model, later[tested.inputs], target=later[tested.target])
    gap = np.abs(again.predict_proba(tested.test[tested.inputs])[:, 1] - tested.probability).max()
    _require(gap <= 1e-6, f"answers differ by up to {gap:.2g}: code, libraries or data are not those of the record")
    return f"{tested.kind} fitted again on {len(train):,} rows: answers differ from the champion's by {gap:.1g} at most"


def model_code(tested: SystemUnderTest) -> str:
    """Infrastructure 2: model code is tested. Each kind learns, copes with unseen values, and obeys its threshold."""
    first = tested.train.head(800)
    rows, y = first[tested.inputs], first[tested.target]
    unseen = rows.head(5).copy()
    for name in tested.inputs:
        if unseen[name].dtype.kind == "O" or str(unseen[name].dtype) == "str":
            unseen[name] = "never seen"
        elif unseen[name].dtype.kind == "f":
            unseen[name] = np.nan
    losses = {}
    for kind, model in tested.candidates().items():
        with threadpool_limits(1, user_api="openmp"):
            fitted = model.fit(rows, y)
        probability = fitted.predict_proba(rows)[:, 1]
        losses[kind] = evaluation.log_losses(y, probability).mean()
        answers = fitted.predict_proba(unseen)
        _require(np.isfinite(answers).all() and np.allclose(answers.sum(axis=1), 1), f"{kind} fails on unseen values")
        decided = training.decide(fitted, 0.3).predict(rows) == fitted.classes_[1]
        _require(((probability >= 0.3) == decided).all(), f"{kind} decides by another threshold")
    learned = {kind: losses["base_rate"] - loss for kind, loss in losses.items() if kind != "base_rate"}
    _require(min(learned.values()) > 0, f"a model learns nothing from its own rows: {learned}")
    return f"{len(losses)} kinds learn on 800 rows (log loss {', '.join(f'{loss:.3f}' for loss in losses.values())})"


def _thinned(case: ModuleType) -> ModuleType:
    """A copy of the case with few rows of its largest table."""

    def read(batches: list[str]) -> dict[str, pd.DataFrame]:
        tables = case.read(batches)
        largest = max(tables, key=lambda name: len(tables[name]))
        step = max(1, len(tables[largest]) // THINNED_ROWS)
        return tables | {largest: tables[largest].iloc[::step].reset_index(drop=True)}

    thinned = ModuleType(case.__name__, case.__doc__)
    vars(thinned).update(vars(case), read=read)
    return thinned


def pipeline_integration(tested: SystemUnderTest) -> str:
    """Infrastructure 3: the pipeline is tested as a whole, from raw batches to a version; a second run does nothing."""
    workspace, batches, case = Workspace(tested.scratch / "pipeline"), tested.case.batches()[:4], _thinned(tested.case)
    first, again = (pipeline.train(case, batches, workspace=workspace, seed=tested.seed) for _ in range(2))
    registered = workspace.registry(case).load(first.version)
    expected = set(steps.__all__)
    _require(set(first.executed) == expected, f"steps that did not run: {expected - set(first.executed)}")
    _require(not again.executed and again.version == first.version, f"a rerun ran {again.executed} again")
    _require(registered.contract.data_version == first.data_version, "the contract names other data than the training")
    verdict = "passed" if first.gate.passed else "refused by the gate"
    return f"{len(first.executed)} steps on thinned {batches[0]} to {batches[-1]}: version {first.version}, {verdict}"


def quality_gate(tested: SystemUnderTest) -> str:
    """Infrastructure 4: quality is judged before serving. The champion passed its gate; a model that guesses fails."""
    contract, spec = tested.model.contract, tested.system.specification
    history = tested.system.registry.history()
    waived = history.loc[history["version"] == tested.model.version, "waiver"].str.strip().any()
    _require(contract.gate_passed or waived, "the champion failed its gate, and nobody has said why that is accepted")
    guessed = np.random.default_rng(tested.seed).permutation(tested.probability)
    evidence = evaluation.evidence(tested.test[tested.target], guessed, **tested.measurement(tested.test))
    report = gate.gate(evidence, spec.gates.model_dump(), latency_ms=0.0, first_release=True)
    _require(not report.passed, "the gate let a model through that guesses: set its bars")
    passed = "its gate" if contract.gate_passed else "by waiver"
    return f"the champion passed {passed}; a guess failed {report.reasons[0]}"


def debuggable_predictions(tested: SystemUnderTest) -> str:
    """Infrastructure 5: the model is debuggable. One prediction is traced, repeated, and tried with other inputs."""
    name = tested.predictions["id"].iloc[-1]
    found = governance.lineage(tested.system, tested.log, name)
    _require(not found.broken, f"the lineage of {name} is broken at: {', '.join(found.broken)}")
    rows = tested.logged_inputs(tested.predictions.tail(50))
    last, other = rows.tail(1), rows.iloc[0]
    before = tested.predict(rows)[-1]
    moved = {column: tested.predict(last.assign(**{column: other[column]}))[0] - before for column in tested.inputs}
    _require(any(moved.values()), "no single input moves the answer, so nobody can say what it rests on")
    most = max(moved, key=lambda column: abs(moved[column]))
    step = f"with {most} of another row its {before:.3f} moves by {moved[most]:+.3f}"
    return f"{len(found.table)} links behind {name} hold; {step}"


def canary(tested: SystemUnderTest) -> str:
    """Infrastructure 6: models are canaried before serving. A bad challenger is stopped, an equally good one is not."""
    plan, rng = service.canary_plan(tested.system), np.random.default_rng(tested.seed)
    share = plan.steps[0]
    of_challenger = rollout.in_share([f"request {number}" for number in range(REQUESTS)], share, salt="readiness")
    usual = rng.choice([0.0, plan.max_cost], REQUESTS, p=[0.8, 0.2])
    costlier = np.where(of_challenger & (rng.random(REQUESTS) < 0.6), plan.max_cost, usual)
    equal, bad = (tested.judge_canary(plan, of_challenger, cost=cost) for cost in (usual, costlier))
    failing = tested.judge_canary(plan, of_challenger, failed=of_challenger)
    _require(bad.action == failing.action == "stop", "a challenger that costs more or fails is not stopped")
    _require(equal.action != "stop", f"a challenger as good as the champion is stopped: {equal.reason}")
    trial, e_value = f"after {REQUESTS:,} requests at share {share:g}", bad.measures.loc["cost", "e_value"]
    return f"{trial} the bad one is stopped (e-value {e_value:.3g}), the equal one not"


def rollback(tested: SystemUnderTest) -> str:
    """Infrastructure 7: models can be rolled back. On a copy of the registry, another version comes and goes."""
    champion = tested.model.version
    with tested.copied_registry() as drill:
        others = [number for number in drill.versions()["version"][::-1] if number != champion]
        _require(bool(others), "there is no other version to roll back from: train a second one")
        problems = []
        for other in others:
            try:
                drill.promote(int(other), approver="drill", reason="readiness", waiver="a drill on a copy")
                break
            except RegistryError as error:
                problems.append(str(error)[:100])
        else:
            raise _ProbeFailed(f"no other version can be promoted: {problems[0]}")
        begun = time.perf_counter()
        back = drill.roll_back(approver="drill", reason="readiness")
        taken = time.perf_counter() - begun
        _require(back == champion == drill.champion(), f"rolled back to version {back}, not to {champion}")
        chain = drill.verify_history()
        _require(chain.intact, f"the drill's history is broken: {chain.defect}")
    return f"version {other} promoted and back to {champion} in {taken:.1f} s, on a copy"
