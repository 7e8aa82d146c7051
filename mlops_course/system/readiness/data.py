"""Probes of data and features."""

import math
import re
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, gate, validation
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import governance
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .subject import SAMPLE, SURE, Subject, _demand, _log_loss, _Refuted

LEAK_AUC = 0.9  # a single input that ranks better than that knows the answer
MOST_MISSING = 0.95  # an input that is missing more often costs its upkeep for nothing
LONG = pd.Timedelta(days=400)
SCHEMA_BREAKERS = (-1e12, 1e12)


def schema(it: Subject) -> str:
    """The schema finds what is wrong with a batch: each column lost, each rule broken."""
    schemas = it.case.schemas()
    tables = {name: it.raw[name].head(SAMPLE) for name in schemas}
    before = validation.validate(tables, schemas)
    _demand(not before.stopped, f"the champion's own data are stopped: {before}")
    known = before.findings.groupby(["table", "column", "rule"])["count"].max().to_dict()
    missed, tried = [], 0
    for name, table in tables.items():
        alone = {name: schemas[name]}
        for column in table.columns:
            tried += 1
            found = validation.validate({name: table.drop(columns=column)}, alone).findings
            missed += [] if column in set(found["column"]) else [f"{name}.{column} lost"]
        for column, rules in schemas[name].columns.items():
            if rules.checks and pd.api.types.is_numeric_dtype(table[column]):
                tried += 1
                broken = [table.assign(**{column: value}) for value in SCHEMA_BREAKERS]
                found = pd.concat(
                    [validation.validate({name: one}, alone).findings for one in broken], ignore_index=True
                )
                places = [known.get((name, column, rule), 0) for rule in found["rule"]]
                more = (found["column"] == column) & (found["count"] > pd.Series(places, index=found.index))
                missed += [] if more.any() else [f"{name}.{column} out of range"]
    _demand(tried > 0 and not missed, f"{len(missed)} of {tried} broken batches went through: {', '.join(missed[:5])}")
    return f"all of {tried} broken batches of {', '.join(tables)} were found, and the sound one was let through"


def useful_inputs(it: Subject) -> str:
    """Every input earns its place: shuffled, it changes answers, and it does not make them better."""
    rng, y, before = np.random.default_rng(it.seed), it.test[it.target], it.probability
    dead, harmful, gains = [], [], {}
    for name in it.inputs:
        mixed = it.test.assign(**{name: it.test[name].to_numpy()[rng.permutation(len(it.test))]})
        after = it.predict(mixed)
        worse = _log_loss(y, after) - _log_loss(y, before)
        gains[name] = worse.mean()
        if mixed[name].dtype.kind == "M":  # rows of one year say nothing about what the year does
            mixed = mixed.assign(**{name: mixed[name] + LONG})
        dead += [name] if np.array_equal(it.predict(mixed), before) else []
        harmful += [name] if worse.mean() + SURE * worse.std() / math.sqrt(len(worse)) < 0 else []
    _demand(not dead, f"inputs that no answer depends on: {', '.join(dead)}; leave them out, or find out why")
    _demand(not harmful, f"inputs without which answers are better: {', '.join(harmful)}; leave them out")
    best = max(gains, key=gains.get)
    return f"each of {len(it.inputs)} inputs moves answers and none harms; most is lost without {best}"


def cheap_inputs(it: Subject) -> str:
    """No input costs more than it may: features are made in time, and what is hardly ever there is not asked for."""
    rows, bar = it.test[it.inputs], it.system.specification.gates.model_dump()["max_latency_ms"]
    with threadpool_limits(1):
        taken = gate.latency(it.case.derive, rows, calls=50)["p95_ms"]
    _demand(taken <= bar / 2, f"features of one row take {taken:.1f} ms, over half of {bar} ms: make them cheaper")
    gone = [name for name, share in rows.isna().mean().items() if share > MOST_MISSING]
    _demand(not gone, f"missing in more than {MOST_MISSING:.0%} of rows: {', '.join(gone)}; leave them out")
    size = rows.memory_usage(index=False, deep=True).sum() / len(rows)
    return f"features of one row take {taken:.1f} ms of {bar} ms (p95), its {len(it.inputs)} inputs {size:.0f} bytes"


def no_leak(it: Subject) -> str:
    """Inputs keep to what is allowed: those of the specification, none that knows the answer, none from the future."""
    from sklearn.metrics import roc_auc_score

    spec = it.system.specification
    allowed = [*spec.inputs.datetime, *spec.inputs.numeric, *spec.inputs.categorical]
    foreign = sorted(set(it.inputs) ^ set(allowed))
    _demand(not foreign, f"inputs of the champion and of the specification differ: {', '.join(foreign)}; train anew")
    y, best = it.train[it.target], ("", 0.5)
    for name in it.inputs:
        ranks = (
            it.train[name].rank(method="average")
            if it.train[name].dtype.kind in "fiM"
            else pd.Series(it.train[name].map(y.groupby(it.train[name]).mean()))
        )
        auc = roc_auc_score(y, ranks.astype(float).fillna(-1.0))
        best = max(best, (name, max(auc, 1 - auc)), key=lambda found: found[1])
    _demand(best[1] < LEAK_AUC, f"{best[0]} alone ranks with AUC {best[1]:.2f}: it knows the answer; find out whence")
    first, second = it.case.batches()[:2]
    alone, both = (it.case.build(it.case.read(names)).set_index("id") for names in ([first], [first, second]))
    again = both.loc[alone.index, it.inputs]
    changed = [name for name in it.inputs if not alone[name].equals(again[name])]
    _demand(not changed, f"{', '.join(changed)} of {first} change when {second} is read too: they look ahead")
    return f"best single input {best[0]} has AUC {best[1]:.2f}; {len(alone):,} rows of {first} stay when {second} comes"


def privacy(it: Subject) -> str:
    """A row can be forgotten: after a request nothing in a workspace holds it."""
    drill = System(it.system.case_name, Workspace(it.scratch / "forget"))
    folder, rows = drill.workspace.create().snapshots, it.test.head(50)
    name = str(rows["id"].iloc[0])
    data.save_snapshot({"rows": rows}, folder)
    answer = {"time": drill.clock(), "inputs": {}, "model_version": 1, "probability": 0.5, "decision": True}
    with closing(PredictionLog(drill.workspace.prediction_log_url)) as log:
        log.append([answer | {"id": one} for one in rows["id"]])
        governance.forget(drill, log, [name], approver="drill", reason="readiness")
        _demand(log.find(name) is None and log.last() > 0, "the prediction is still in the log")
    files = [path for path in drill.workspace.root.rglob("*") if path.is_file() and name.encode() in path.read_bytes()]
    held = [one for one in data.snapshots(folder) if name in set(data.load_snapshot(folder, one)["rows"]["id"])]
    _demand(not files and not held, f"the id is still in {[path.name for path in files] + held}")
    _demand(bool(drill.workspace.withheld_ids()), "the id is not withheld from later trainings")
    return "a row was taken out of log, snapshots and reports of a drill workspace, withheld, and put on record"


def new_feature(it: Subject) -> str:
    """A feature can be added by naming it: the next training takes it, and one that nobody makes is refused."""
    numeric = list(it.system.specification.features.numeric)
    _demand(len(numeric) > 1, "one numeric feature only: there is none to leave out and add")
    rows, y, begun = it.train.head(1000)[it.inputs], it.train.head(1000)[it.target], time.perf_counter()
    kind = "logistic_regression"
    before, after = (it.candidates(numeric=names)[kind].fit(rows, y) for names in (numeric[:-1], numeric))
    taken = time.perf_counter() - begun
    same = np.array_equal(before.predict_proba(rows), after.predict_proba(rows))
    _demand(not same, f"the added feature {numeric[-1]} changes no answer")
    try:
        it.candidates(numeric=[*numeric, "no such feature"])[kind].fit(rows, y)
    except (KeyError, ValueError):
        return f"{numeric[-1]} was added by its name, trained and answering {taken:.1f} s later"
    raise _Refuted("a feature that derive does not make was accepted")


def feature_tests(it: Subject) -> str:
    """Feature code is tested: it is row by row and leaves its argument alone, and the repository's tests of it pass."""
    rows = it.test[it.inputs].head(200).reset_index(drop=True)
    given = rows.copy(deep=True)
    whole = it.case.derive(rows)
    _demand(rows.equals(given), "derive changes its argument")
    back = it.case.derive(rows.iloc[::-1]).iloc[::-1].reset_index(drop=True)
    _demand(whole.reset_index(drop=True).equals(back), "derive of rows in another order gives other features")
    alone = pd.concat([it.case.derive(rows.iloc[[number]]) for number in range(20)], ignore_index=True)
    same = all(list(alone[name].astype(str)) == list(whole[name].head(20).astype(str)) for name in whole.columns)
    _demand(same, "derive of one row alone gives other features than in a batch")
    name = it.case.__name__.rpartition(".")[2]
    files = it.repository.glob(f"tests/**/test_{name}.py") if it.repository else ()
    file = next(iter(sorted(files)), None)
    _demand(file is not None, f"no test_{name}.py below tests in a checkout: run this there, or write them")
    command = [sys.executable, "-m", "pytest", str(file), "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=it.repository, capture_output=True, text=True, timeout=120)
    passed = re.search(r"(\d+) passed", done.stdout)
    _demand(done.returncode == 0 and bool(passed), f"tests of {file.name} fail: {done.stdout.strip()[-200:]}")
    return f"derive is row by row; {passed[1]} tests of {file.relative_to(it.repository).as_posix()} pass"
