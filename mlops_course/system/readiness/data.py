"""Probes of data and features: section Data of the ML Test Score."""

import math
import re
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, evaluation, gate, validation
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import governance
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

from .system_under_test import SAMPLE_ROWS, STANDARD_ERRORS, SystemUnderTest, _ProbeFailed, _require

LEAK_AUC = 0.9  # an input that alone ranks better than this knows the answer
MAX_MISSING = 0.95  # an input that is missing in a larger share of rows is not worth its upkeep
TIME_SHIFT = pd.Timedelta(days=400)
OUT_OF_RANGE = (-1e12, 1e12)


def feature_schema(tested: SystemUnderTest) -> str:
    """Data 1: a schema states what is expected. Columns are lost and rules are broken, and the schema finds each."""
    schemas = tested.case.schemas()
    tables = {name: tested.raw[name].head(SAMPLE_ROWS) for name in schemas}
    sound = validation.validate(tables, schemas)
    _require(not sound.stopped, f"the champion's own data are stopped: {sound}")
    known = sound.findings.groupby(["table", "column", "rule"])["count"].max().to_dict()
    missed, tried = [], 0
    for name, table in tables.items():
        for column in table.columns:
            tried += 1
            found = validation.validate({name: table.drop(columns=column)}, {name: schemas[name]}).findings
            missed += [] if column in set(found["column"]) else [f"{name}.{column} lost"]
        for column, rules in schemas[name].columns.items():
            if rules.checks and pd.api.types.is_numeric_dtype(table[column]):
                tried += 1
                broken = [table.assign(**{column: value}) for value in OUT_OF_RANGE]
                reports = [validation.validate({name: rows}, {name: schemas[name]}) for rows in broken]
                found = pd.concat([report.findings for report in reports]).query("column == @column")
                counts = zip(found["rule"], found["count"], strict=True)
                noticed = any(count > known.get((name, column, rule), 0) for rule, count in counts)
                missed += [] if noticed else [f"{name}.{column} out of range"]
    _require(tried > 0 and not missed, f"{len(missed)} of {tried} broken batches went through: {', '.join(missed[:5])}")
    return f"all of {tried} broken batches of {', '.join(tables)} were found, and the sound one was let through"


def beneficial_inputs(tested: SystemUnderTest) -> str:
    """Data 2: all features are beneficial. Each input is shuffled: predictions change, and do not get better."""
    rng, y, before = np.random.default_rng(tested.seed), tested.test[tested.target], tested.probability
    unused, harmful, losses = [], [], {}
    for name in tested.inputs:
        shuffled = tested.test.assign(**{name: tested.test[name].to_numpy()[rng.permutation(len(tested.test))]})
        loss = evaluation.log_losses(y, tested.predict(shuffled)) - evaluation.log_losses(y, before)
        losses[name] = loss.mean()
        if shuffled[name].dtype.kind == "M":  # shuffled times of one year cannot show whether the year matters
            shuffled = shuffled.assign(**{name: shuffled[name] + TIME_SHIFT})
        unused += [name] if np.array_equal(tested.predict(shuffled), before) else []
        harmful += [name] if loss.mean() + STANDARD_ERRORS * loss.std() / math.sqrt(len(loss)) < 0 else []
    _require(not unused, f"inputs that no answer depends on: {', '.join(unused)}; leave them out, or find out why")
    _require(not harmful, f"inputs without which answers are better: {', '.join(harmful)}; leave them out")
    best = max(losses, key=losses.get)
    return f"each of {len(tested.inputs)} inputs moves answers and none harms; most is lost without {best}"


def input_cost(tested: SystemUnderTest) -> str:
    """Data 3: no feature costs too much. Features are timed, and hardly any input is missing most of the time."""
    rows, bar = tested.test[tested.inputs], tested.system.specification.gates.model_dump()["max_latency_ms"]
    with threadpool_limits(1):
        taken = gate.latency(tested.case.derive, rows, calls=50)["p95_ms"]
    _require(taken <= bar / 2, f"features of one row take {taken:.1f} ms, over half of {bar} ms: make them cheaper")
    missing = [name for name, share in rows.isna().mean().items() if share > MAX_MISSING]
    _require(not missing, f"missing in more than {MAX_MISSING:.0%} of rows: {', '.join(missing)}; leave them out")
    size = rows.memory_usage(index=False, deep=True).sum() / len(rows)
    return f"features of one row take {taken:.1f} ms of {bar} ms (p95), {len(tested.inputs)} inputs {size:.0f} bytes"


def allowed_inputs(tested: SystemUnderTest) -> str:
    """Data 4: features are allowed ones: named in the specification, without the answer, and known when asked."""
    from sklearn.metrics import roc_auc_score

    named = tested.system.specification.inputs
    differing = sorted(set(tested.inputs) ^ {*named.datetime, *named.numeric, *named.categorical})
    _require(not differing, f"inputs of champion and specification differ: {', '.join(differing)}; train a new version")
    y, best, best_auc = tested.train[tested.target], "", 0.5
    for name in tested.inputs:
        values = tested.train[name]
        ranks = values.rank() if values.dtype.kind in "fiM" else values.map(y.groupby(values).mean())
        auc = roc_auc_score(y, ranks.astype(float).fillna(-1.0))
        if max(auc, 1 - auc) > best_auc:
            best, best_auc = name, max(auc, 1 - auc)
    _require(best_auc < LEAK_AUC, f"{best} alone ranks with AUC {best_auc:.2f}: it knows the answer; find out why")
    first, second = tested.case.batches()[:2]
    alone, both = (tested.case.build(tested.case.read(names)).set_index("id") for names in ([first], [first, second]))
    again = both.loc[alone.index, tested.inputs]
    changed = [name for name in tested.inputs if not alone[name].equals(again[name])]
    _require(not changed, f"{', '.join(changed)} of {first} change when {second} is read too: they look ahead")
    masked = _rows_that_stay(tested, tested.case.read([first, second]), both)
    stay = f"{len(alone):,} rows of {first} stay when {second} comes"
    return f"best single input {best} has AUC {best_auc:.2f}; {stay}, {masked}"


def _rows_that_stay(tested: SystemUnderTest, tables: dict[str, pd.DataFrame], rows: pd.DataFrame) -> str:
    """Take away what was not known at an instant: the inputs of rows that were asked until then must not change."""
    if not hasattr(tested.case, "tables_as_of"):
        return "and no `tables_as_of` of the case says what was known when"
    asked = rows[tested.system.specification.timing.prediction_time]
    instant = asked.sort_values().iloc[len(asked) // 2]
    when = f"{instant:%Y-%m-%d %H:%M}"
    then = tested.case.build(tested.case.tables_as_of(tables, instant)).set_index("id")
    until = rows[asked <= instant]
    _require(until.index.isin(then.index).all(), f"rows asked by {when} cannot be built from what was known then")
    changed = [name for name in tested.inputs if not until[name].equals(then.loc[until.index, name])]
    _require(not changed, f"{', '.join(changed)} of rows asked by {when} rest on what was not known then")
    return f"{len(until):,} when what was not known by {when} is taken away"


def privacy(tested: SystemUnderTest) -> str:
    """Data 5: data can be deleted. One row is forgotten in a new workspace, and is in none of its files afterwards."""
    drill = System(tested.system.case_name, Workspace(tested.scratch / "forget"))
    folder, rows = drill.workspace.create().snapshots, tested.test.head(50)
    name = str(rows["id"].iloc[0])
    data.save_snapshot({"rows": rows}, folder)
    answer = {"time": drill.clock(), "inputs": {}, "model_version": 1, "probability": 0.5, "decision": True}
    with closing(PredictionLog(drill.workspace.prediction_log_url)) as log:
        log.append([answer | {"id": row_id} for row_id in rows["id"]])
        governance.forget(drill, log, [name], approver="drill", reason="readiness")
        _require(log.find(name) is None and log.last() > 0, "the prediction is still in the log")
    files = [path for path in drill.workspace.root.rglob("*") if path.is_file() and name.encode() in path.read_bytes()]
    versions = data.snapshots(folder)
    snapshots = [version for version in versions if name in set(data.load_snapshot(folder, version)["rows"]["id"])]
    _require(not files and not snapshots, f"the id is still in {[path.name for path in files] + snapshots}")
    _require(bool(drill.workspace.withheld_ids()), "the id is not withheld from later trainings")
    return "a row was taken out of log, snapshots and reports of a drill workspace, withheld, and put on record"


def new_feature(tested: SystemUnderTest) -> str:
    """Data 6: features can be added quickly. Training takes up a feature that is named, and refuses an unknown one."""
    numeric = list(tested.system.specification.features.numeric)
    _require(len(numeric) > 1, "one numeric feature only: there is none to leave out and add")
    first = tested.train.head(1000)
    rows, y, begun = first[tested.inputs], first[tested.target], time.perf_counter()

    def trained_on(features: list[str]) -> np.ndarray:
        return tested.candidates(numeric=features)["logistic_regression"].fit(rows, y).predict_proba(rows)

    before, after = trained_on(numeric[:-1]), trained_on(numeric)
    taken = time.perf_counter() - begun
    _require(not np.array_equal(before, after), f"the added feature {numeric[-1]} changes no answer")
    try:
        trained_on([*numeric, "no such feature"])
    except (KeyError, ValueError):
        return f"{numeric[-1]} was added by its name, trained and answering {taken:.1f} s later"
    raise _ProbeFailed("a feature that derive does not make was accepted")


def feature_tests(tested: SystemUnderTest) -> str:
    """Data 7: feature code is tested. Features of a row depend on that row alone, and the tests of the case pass."""
    rows = tested.test[tested.inputs].head(200).reset_index(drop=True)
    given = rows.copy(deep=True)
    features = tested.case.derive(rows)
    _require(rows.equals(given), "derive changes its argument")
    back = tested.case.derive(rows.iloc[::-1]).iloc[::-1].reset_index(drop=True)
    _require(features.reset_index(drop=True).equals(back), "derive of rows in another order gives other features")
    alone = pd.concat([tested.case.derive(rows.iloc[[number]]) for number in range(20)], ignore_index=True)
    same = all(list(alone[name].astype(str)) == list(features[name].head(20).astype(str)) for name in features.columns)
    _require(same, "derive of one row alone gives other features than in a batch")
    name = tested.case.__name__.rpartition(".")[2]
    files = sorted(tested.repository.glob(f"tests/**/test_{name}.py")) if tested.repository else []
    _require(bool(files), f"no test_{name}.py below tests in a checkout: run this there, or write them")
    command = [sys.executable, "-m", "pytest", str(files[0]), "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tested.repository, capture_output=True, text=True, timeout=120)
    passed = re.search(r"(\d+) passed", done.stdout)
    _require(done.returncode == 0 and bool(passed), f"tests of {files[0].name} fail: {done.stdout.strip()[-200:]}")
    return f"derive is row by row; {passed[1]} tests of {files[0].relative_to(tested.repository).as_posix()} pass"
