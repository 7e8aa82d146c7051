"""Probes of what trains, judges and releases."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

from .subject import DRAWS, Subject, _demand, _log_loss, _logged_inputs, _Refuted

THINNED = 4000  # rows of the largest table when the whole pipeline is tried


def reproducible(it: Subject) -> str:
    """Training again from the record gives the champion's answers, to the last bit that rounding leaves."""
    kind = it.run.data.tags.get("chosen_model", "")
    _demand(kind in it.candidates(), "the run does not say which kind of model was chosen: train a new version")
    seed = int(it.run.data.params.get("seed", it.run.data.tags.get("seed", it.seed)))
    train, later = it.parts["train"], it.parts["calibrate"]
    features = it.system.specification.features
    fresh = training.candidates(it.case.derive, numeric=features.numeric, categorical=features.categorical, seed=seed)
    with threadpool_limits(1, user_api="openmp"):
        model = fresh[kind].fit(train[it.inputs], train[it.target])
        again = training.calibrate(model, later[it.inputs], target=later[it.target])
    gap = np.abs(again.predict_proba(it.test[it.inputs])[:, 1] - it.probability).max()
    _demand(gap <= 1e-6, f"answers differ by up to {gap:.2g}: code, libraries or data are not those of the record")
    return f"{kind} fitted anew on {len(train):,} rows: answers differ from the champion's by {gap:.1g} at most"


def model_laws(it: Subject) -> str:
    """Model code keeps its laws: each kind learns, answers what it has never seen, and decides by its threshold."""
    rows, y = it.train.head(800)[it.inputs], it.train.head(800)[it.target]
    odd = rows.head(5).copy()
    for name in it.inputs:
        odd[name] = "never seen" if odd[name].dtype.kind == "O" or str(odd[name].dtype) == "str" else odd[name]
        if odd[name].dtype.kind == "f":
            odd[name] = np.nan
    losses = {}
    for kind, model in it.candidates().items():
        with threadpool_limits(1, user_api="openmp"):
            fitted = model.fit(rows, y)
        probability = fitted.predict_proba(rows)[:, 1]
        losses[kind] = _log_loss(y, probability).mean()
        answers = fitted.predict_proba(odd)
        _demand(np.isfinite(answers).all() and np.allclose(answers.sum(axis=1), 1), f"{kind} fails on unseen values")
        decided = training.decide(fitted, 0.3).predict(rows)
        _demand(((probability >= 0.3) == (decided == fitted.classes_[1])).all(), f"{kind} decides by another threshold")
    learned = {kind: losses["base_rate"] - loss for kind, loss in losses.items() if kind != "base_rate"}
    _demand(min(learned.values()) > 0, f"a model learns nothing from its own rows: {learned}")
    return f"{len(losses)} kinds learn on 800 rows (log loss {', '.join(f'{loss:.3f}' for loss in losses.values())})"


@contextmanager
def _thinned(case: ModuleType) -> Iterator[ModuleType]:
    """The case with few rows of its largest table, importable meanwhile."""
    small = ModuleType(f"{case.__name__.rpartition('.')[2]}_thinned")
    vars(small).update({name: value for name, value in vars(case).items() if not name.startswith("__")})
    small.__file__ = case.__file__

    def read(batches: list[str]) -> dict[str, pd.DataFrame]:
        tables = case.read(batches)
        largest = max(tables, key=lambda name: len(tables[name]))
        step = max(1, len(tables[largest]) // THINNED)
        return tables | {largest: tables[largest].iloc[::step].reset_index(drop=True)}

    small.read = read
    sys.modules[small.__name__] = small
    try:
        yield small
    finally:
        del sys.modules[small.__name__]


def integration(it: Subject) -> str:
    """The whole pipeline runs from raw batches to a registered version, and a rerun does nothing."""
    workspace, batches = Workspace(it.scratch / "pipeline"), it.case.batches()[:4]
    with _thinned(it.case) as case:
        first, again = (pipeline.train(case, batches, workspace=workspace, seed=it.seed) for _ in range(2))
        registered = workspace.registry(case).load(first.version)
    expected = set(steps.__all__)
    _demand(set(first.executed) == expected, f"steps that did not run: {expected - set(first.executed)}")
    _demand(not again.executed and again.version == first.version, f"a rerun ran {again.executed} again")
    _demand(registered.contract.data_version == first.data_version, "the contract names other data than the training")
    verdict = "passed" if first.gate.passed else "refused by the gate"
    return f"{len(first.executed)} steps on thinned {batches[0]} to {batches[-1]}: version {first.version}, {verdict}"


def gated(it: Subject) -> str:
    """Quality is judged before serving: the champion passed its gate, and a model that guesses is refused."""
    contract, spec = it.model.contract, it.system.specification
    history = it.system.registry.history()
    waived = history.loc[history["version"] == it.model.version, "waiver"].str.strip().any()
    _demand(contract.gate_passed or waived, "the champion failed its gate, and nobody has said why that is accepted")
    guessed = np.random.default_rng(it.seed).permutation(it.probability)
    ask = {"threshold": contract.threshold, "false_alarm": spec.costs.false_alarm, "missed": spec.costs.missed}
    evidence = evaluation.evidence(
        it.test[it.target], guessed, **ask, min_rows=spec.gates.min_slice_rows, seed=it.seed, draws=DRAWS,
        slices=it.test[list(spec.slices)],
    )  # fmt: skip
    report = gate.gate(evidence, spec.gates.model_dump(), latency_ms=0.0, first_release=True)
    _demand(not report.passed, "the gate let a model through that guesses: set its bars")
    return (
        f"the champion passed {'its gate' if contract.gate_passed else 'by waiver'}; a guess failed {report.reasons[0]}"
    )


def debuggable(it: Subject) -> str:
    """One answer can be taken apart: traced to all that it came from, computed again, and followed input by input."""
    name = it.answered["id"].iloc[-1]
    found = governance.lineage(it.system, it.log, name)
    _demand(not found.broken, f"the lineage of {name} is broken at: {', '.join(found.broken)}")
    rows = _logged_inputs(it, it.answered.tail(50))
    before, moved = it.predict(rows)[-1], {}
    for column in it.inputs:
        other = rows.tail(1).assign(**{column: rows[column].iloc[0]})
        moved[column] = it.predict(other)[0] - before
    _demand(any(moved.values()), "no single input moves the answer, so nobody can say what it rests on")
    most = max(moved, key=lambda column: abs(moved[column]))
    step = f"with {most} of another row its {before:.3f} moves by {moved[most]:+.3f}"
    return f"{len(found.table)} links behind {name} hold; {step}"


def canary(it: Subject) -> str:
    """A bad challenger is stopped on its way, and one that is no worse is not."""
    plan, rng, rows = service.canary_plan(it.system), np.random.default_rng(it.seed), 3000
    share = plan.steps[0]
    side = rollout.in_share([f"request {number}" for number in range(rows)], share, salt="readiness")
    answers = pd.DataFrame({"challenger": side, "share": share, "failed": False, "latency_ms": 1.0})
    usual = rng.choice([0.0, plan.max_cost], rows, p=[0.8, 0.2])
    verdicts = {}
    for name, cost in {"equal": usual, "bad": np.where(side & (rng.random(rows) < 0.6), plan.max_cost, usual)}.items():
        labels = pd.DataFrame({"challenger": side, "share": share, "cost": cost})
        verdicts[name] = rollout.judge(answers, labels, plan=plan, share=share)
    failing = rollout.judge(answers.assign(failed=side), labels.head(0), plan=plan, share=share)
    _demand(verdicts["bad"].action == failing.action == "stop", "a challenger that costs more or fails is not stopped")
    _demand(
        verdicts["equal"].action != "stop",
        f"a challenger as good as the champion is stopped: {verdicts['equal'].reason}",
    )
    stopped = verdicts["bad"].measures.loc["cost", "e_value"]
    return (
        f"after {rows:,} requests at share {share:g} the bad one is stopped (e-value {stopped:.3g}), the equal one not"
    )


def rollback(it: Subject) -> str:
    """A release can be undone: on a copy of the registry another version is promoted, and rolled back."""
    champion = it.model.version
    with it.copied_registry() as drill:
        others = [number for number in drill.versions()["version"][::-1] if number != champion]
        _demand(bool(others), "there is no other version to roll back from: train a second one")
        problems = []
        for other in others:
            try:
                drill.promote(int(other), approver="drill", reason="readiness", waiver="a drill on a copy")
                break
            except RegistryError as error:
                problems.append(str(error)[:100])
        else:
            raise _Refuted(f"no other version can be promoted: {problems[0]}")
        begun = time.perf_counter()
        back = drill.roll_back(approver="drill", reason="readiness")
        taken = time.perf_counter() - begun
        _demand(back == champion == drill.champion(), f"rolled back to version {back}, not to {champion}")
        chain = drill.verify_history()
        _demand(chain.intact, f"the drill's history is broken: {chain.defect}")
    return f"version {other} promoted and back to {champion} in {taken:.1f} s, on a copy"
