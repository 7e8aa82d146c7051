"""Is a system ready for production? The ML Test Score: 28 probes in four sections, each of which tries something real.

    score      run the probes on a system and count: the final score is that of the weakest section
    Scorecard  what came of it: one line a probe with its evidence, the sums of the sections, the final score
    Subject    what the probes look at: champion, its rows, the log; looked up once
    PROBES     the probes by section

A probe provokes what it is about: it breaks a batch and wants a finding, flips labels and wants an alarm, rolls back
and wants the champion before. What it changes is a copy; the workspace stays as it is. A probe that lacks what it needs
fails and says what to do, and one that meets an error fails with it. The questions are those of Breck, Cai, Nielsen,
Salib and Sculley 2017, The ML Test Score; there a point is for a test that is automated, half a point for one done by
hand. Here a point is for an automated probe that passes, and there are no halves. Their reading of the final score: 0
is research, up to 1 not tested, 1 to 2 a first pass, 2 to 3 reasonably tested, 3 to 5 strong, above that exceptional.

    card = score(system, log, repository=Path("."))
    card.final, card.sections, card.table
"""

import json
import math
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, evaluation, gate, training, validation
from mlops_course.operations.deployment import batch, rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import drift, faults, performance
from mlops_course.operations.registry import Registered, Registry, RegistryError
from mlops_course.system import environment, governance, pipeline, service
from mlops_course.system.pipeline import steps
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

__all__ = ["PROBES", "Scorecard", "Subject", "score"]

SEED = 0
SAMPLE = 3000  # rows that a probe looks at, where all would take long
SEARCHED = 10_000  # rows that settings are searched on
THINNED = 4000  # rows of the largest table when the whole pipeline is tried
LEAK_AUC = 0.9  # a single input that ranks better than that knows the answer
MOST_MISSING = 0.95  # an input that is missing more often costs its upkeep for nothing
LONG = pd.Timedelta(days=400)
SURE = 2.0  # standard errors
DRAWS = 25
LEAST_LABELLED = 200  # to judge the quality of live answers
SPEARMAN = 0.9  # offline and online must rank degraded models alike so closely
EXTREMES = (0.0, -1.0, 1e-300, 1e100, -1e100, math.nan)  # where numbers end a regression overflows, in an error
SCHEMA_BREAKERS = (-1e12, 1e12)
SETTINGS: Mapping[str, Mapping[str, list[float]]] = {  # what a search tries around the settings in use
    "logistic_regression": {"classify__C": [0.03, 0.3, 3.0, 30.0]},
    "gradient_boosting": {"classify__learning_rate": [0.03, 0.1, 0.2], "classify__max_leaf_nodes": [7, 15, 31]},
}


class _Refuted(Exception):  # noqa: N818 - what a probe found, not what went wrong with it
    """The probe did not get what it demanded; the message says what was found, and what to do."""


def _demand(met: bool, otherwise: str) -> None:
    if not met:
        raise _Refuted(otherwise)


# What is looked at ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Subject:
    """A system as the probes see it. `scratch` is a folder that they may write to, `repository` a checkout or None."""

    system: System
    log: PredictionLog
    repository: Path | None
    scratch: Path
    seed: int = field(default=SEED, kw_only=True)

    @cached_property
    def case(self) -> ModuleType:
        """The package of the case."""
        return self.system.case

    @cached_property
    def model(self) -> Registered:
        """The champion, verified."""
        _demand(self.system.registry.champion() is not None, "there is no champion: train and promote a version")
        return self.system.registry.load("champion")

    @cached_property
    def run(self) -> Any:
        """The training run of the champion in MLflow."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.system.workspace.tracking_uri)
        version = client.get_model_version(self.system.registry.name, str(self.model.version))
        return client.get_run(version.run_id)

    @cached_property
    def raw(self) -> dict[str, pd.DataFrame]:
        """The raw tables that the champion comes from."""
        return self._snapshot(self.model.contract.data_version)

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The tables train, calibrate and test of the champion."""
        return self._snapshot(self.run.data.tags.get("split_rows", ""))

    def _snapshot(self, version: str) -> dict[str, pd.DataFrame]:
        try:
            return data.load_snapshot(self.system.workspace.snapshots, version)
        except LookupError as error:
            raise _Refuted(f"the champion's data, snapshot {version!r}, are gone: train a new version") from error

    @cached_property
    def train(self) -> pd.DataFrame:
        """Some rows that the champion was fitted on, in order of time."""
        return self._some(self.parts["train"])

    @cached_property
    def test(self) -> pd.DataFrame:
        """Some rows that the champion was judged on, in order of time."""
        return self._some(self.parts["test"])

    def _some(self, rows: pd.DataFrame, most: int = SAMPLE) -> pd.DataFrame:
        rows = rows.sample(min(most, len(rows)), random_state=self.seed)
        return rows.sort_values(self.system.specification.timing.prediction_time, ignore_index=True)

    @cached_property
    def more(self) -> pd.DataFrame:
        """More rows that the champion was fitted on: settings that suit few rows do not suit many."""
        return self._some(self.parts["train"], SEARCHED)

    @cached_property
    def inputs(self) -> list[str]:
        """The inputs of the champion."""
        return list(self.model.contract.inputs)

    @cached_property
    def target(self) -> str:
        """The column of the label."""
        return self.system.specification.target.column

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """The champion's probabilities."""
        with threadpool_limits(1):  # waking other cores for few rows takes longer than the answer
            return self.model.model.predict_proba(rows[self.inputs])[:, 1]

    @cached_property
    def probability(self) -> np.ndarray:
        """The champion's probabilities of the test rows."""
        return self.predict(self.test)

    @cached_property
    def answered(self) -> pd.DataFrame:
        """The newest predictions in the log."""
        rows = self.log.predictions(after=max(self.log.last() - SAMPLE, 0))
        _demand(len(rows) > 0, "no prediction is in the log: serve or stream some rows first")
        return rows

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The newest predictions in the log that have a label."""
        rows = self.log.labelled(inputs=False).tail(5 * SAMPLE)
        _demand(
            len(rows) >= LEAST_LABELLED and rows["label"].nunique() == 2,
            f"{len(rows)} predictions in the log have a label, {LEAST_LABELLED} of both kinds are needed: send labels",
        )
        return rows

    def candidates(self, **features: list[str]) -> dict[str, Any]:
        """The kinds of model that are tried, unfitted."""
        asked = self.system.specification.features
        features = {"numeric": list(asked.numeric), "categorical": list(asked.categorical)} | features
        return training.candidates(self.case.derive, **features, seed=self.seed)

    @contextmanager
    def copied_registry(self) -> Iterator[Registry]:
        """The registry on a copy of its database: what is released there is released nowhere."""
        copy = self.scratch / f"copy-{time.monotonic_ns()}.db"
        with closing(sqlite3.connect(self.system.workspace.database)) as live, closing(sqlite3.connect(copy)) as other:
            live.backup(other)
        before = self.system.registry.newest_release()
        yield replace(self.system.registry, tracking_uri=f"sqlite:///{copy.as_posix()}")
        _demand(self.system.registry.newest_release() == before, "the live registry was changed by the drill")


def _log_loss(target: Any, probability: Any) -> np.ndarray:
    y, p = np.asarray(target, float), np.clip(np.asarray(probability, float), 1e-15, 1 - 1e-15)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


# Data -----------------------------------------------------------------------------------------------------------------


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
    answer = {"time": drill.clock(), "assigned_version": 1, "model_version": 1, "share": 0.0, "probability": 0.5}
    answer |= {"decision": True, "latency_ms": 1.0, "inputs": "{}"}
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


# Model ----------------------------------------------------------------------------------------------------------------


def reviewed(it: Subject) -> str:
    """The champion was released by somebody for a reason, to the specification in force, and the record is intact."""
    history = it.system.registry.history()
    steps = history[history["in_effect"] & (history["version"] == it.model.version)]
    _demand(len(steps) > 0, "the champion was never released: promote it, so that somebody answers for it")
    chain = it.system.registry.verify_history()
    _demand(chain.intact, f"the history was edited: {chain.defect}")
    asked, now = it.model.contract.specification, it.system.specification.model_dump(mode="json")
    changed = [name for name in now if asked.get(name) != now[name]]
    _demand(
        not changed,
        f"trained to specification {asked.get('version')}, in force is {now['version']}; changed since: "
        f"{', '.join(changed)}: train and review a version to it",
    )
    step = steps.iloc[-1]
    return (
        f"release {step.name}: {step['event']} by {step['approver']}; specification {now['version']}; {chain.head[:20]}"
    )


def offline_online(it: Subject) -> str:
    """Offline and online agree: of models made worse and worse, log loss offline and cost online rank alike."""
    from scipy.stats import spearmanr

    rng, live = np.random.default_rng(it.seed), it.labelled
    threshold, losses, costs = it.model.contract.threshold, [], []
    y, orders = it.test[it.target], [rng.permutation(len(it.test)), rng.permutation(len(live))]
    draws = [rng.random(len(it.test)), rng.random(len(live))]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        offline = np.where(draws[0] < share, it.probability[orders[0]], it.probability)
        online = np.where(draws[1] < share, live["probability"].to_numpy()[orders[1]], live["probability"])
        losses.append(_log_loss(y, offline).mean())
        costs.append(error_costs(live.assign(decision=online >= threshold), it.system.specification).mean())
    rank = spearmanr(losses, costs).statistic
    _demand(rank >= SPEARMAN, f"log loss offline and cost online rank six degraded models with {rank:.2f} only")
    return f"rank correlation {rank:.2f}; online cost {costs[0]:.2f} as served, {costs[-1]:.2f} with answers shuffled"


def tuned(it: Subject) -> str:
    """Settings are tuned: a search in time order finds none that is better by more than chance."""
    kind = it.run.data.tags.get("chosen_model", "")
    _demand(
        kind in SETTINGS, f"the champion is {kind or 'of no recorded kind'}, for which there are no settings to try"
    )
    times = it.system.specification.timing
    folds = training.TimeFolds(3, prediction_time=it.more[times.prediction_time], label_time=it.more[times.label_time])
    rows, y, model = it.more[it.inputs], it.more[it.target], it.candidates()[kind]
    found = training.search(model, SETTINGS[kind], inputs=rows, target=y, folds=folds, draws=3, seed=it.seed)
    folded = [found.cv_results_[f"split{fold}_test_score"][found.best_index_] for fold in range(3)]
    best = -pd.Series(folded)
    ours = training.cross_validate_in_time(it.candidates()[kind], rows, target=y, folds=folds)["log_loss"]
    worse = ours - best
    limit = it.system.specification.gates.model_dump()["noninferiority_margin"] + SURE * worse.sem()
    _demand(worse.mean() <= limit, f"{found.best_params_} is better by {worse.mean():.4f}: search and train anew")
    return f"{kind}: log loss {ours.mean():.4f}, best of 3 others {best.mean():.4f} over {len(ours)} folds"


def staleness_known(it: Subject) -> str:
    """What age costs is known: a model frozen early is followed over later periods, and a decayed one is seen."""
    times = it.system.specification.timing.prediction_time
    rows = pd.concat([it.train, it.test]).sort_values(times, ignore_index=True)
    cut = int(len(rows) * 0.4)
    frozen = it.candidates()["logistic_regression"].fit(rows[it.inputs][:cut], rows[it.target][:cut])
    later = rows[cut:].assign(period=pd.cut(rows[times][cut:].astype("int64"), 4, labels=range(4)).astype(int))
    later["probability"] = frozen.predict_proba(later[it.inputs])[:, 1]
    _demand(later["period"].nunique() >= 3, "the champion's rows span fewer than three periods: train on more batches")
    costs = it.system.specification.costs
    ask = {"target": it.target, "probability": "probability", "threshold": it.model.contract.threshold}
    ask |= {"false_alarm": costs.false_alarm, "missed": costs.missed, "seed": it.seed, "draws": 20}
    curve = evaluation.staleness_curve(later, "period", **ask)["log_loss"]
    last = later["period"] == later["period"].max()
    turned = later.assign(probability=later["probability"].mask(last, 1 - later["probability"]))
    flipped = evaluation.staleness_curve(turned, "period", **ask)["log_loss"]
    bar = it.system.specification.retraining.max_log_loss_rise
    _demand(flipped.iloc[-1] - curve.iloc[-1] > bar, "a model that decayed in the last period is not seen")
    span = rows[times].max() - rows[times][cut]
    return (
        f"frozen for {span.days} days: log loss {', '.join(f'{value:.3f}' for value in curve)} (bar: a rise of {bar})"
    )


def not_simpler(it: Subject) -> str:
    """No simpler model is better on the test rows."""
    y, ours = it.test[it.target], _log_loss(it.test[it.target], it.probability)
    told = []
    for kind in ("base_rate", "logistic_regression"):
        simple = it.candidates()[kind].fit(it.train[it.inputs], it.train[it.target])
        gain = _log_loss(y, simple.predict_proba(it.test[it.inputs])[:, 1]) - ours
        error = gain.std() / math.sqrt(len(gain))
        told.append(f"{kind.replace('_', ' ')} {gain.mean():+.4f}")
        least = 0.0 if kind == "base_rate" else -SURE * error
        _demand(gain.mean() > least, f"{kind} has a log loss lower by {-gain.mean():.4f}: use it, or find out why")
    return f"log loss {ours.mean():.4f} on {len(y):,} rows; more with {', '.join(told)}"


def slices_sound(it: Subject) -> str:
    """No slice is far below the whole, and one whose answers are turned round is noticed."""
    spec, rows = it.system.specification, it.parts["test"]
    scores = it.predict(rows)
    names = list(spec.slices)
    sizes = rows[names[0]].value_counts()
    _demand(sizes.max() >= spec.gates.min_slice_rows, "no slice has enough rows to be judged: train on more batches")
    worst = (rows[names[0]] == sizes.index[0]).to_numpy()
    turned = np.where(worst, 1 - scores, scores)
    bars = {name: spec.gates.model_dump()[name] for name in ("max_slice_auc_drop", "min_slice_rows")}
    costs = {"threshold": it.model.contract.threshold, "false_alarm": spec.costs.false_alarm}
    costs |= {"missed": spec.costs.missed, "min_rows": spec.gates.min_slice_rows, "seed": it.seed, "draws": DRAWS}
    fair, unfair = (
        gate.gate(evaluation.evidence(rows[it.target], p, slices=rows[names], **costs), bars) for p in (scores, turned)
    )
    _demand(fair.passed, f"slices that are served worse: {'; '.join(fair.reasons)}")
    _demand(not unfair.passed, f"{names[0]} {sizes.index[0]} with answers turned round went through")
    judged = (fair.checks["verdict"] == "pass").sum()
    return f"{judged} slices of {', '.join(names)} are sound; {names[0]} {sizes.index[0]} turned round was refused"


def inclusion(it: Subject) -> str:
    """Nobody's risk is systematically over- or understated, by any slice; and the assessment of risk is on record."""
    spec = it.system.specification
    rows = it.parts["test"].assign(p=it.predict(it.parts["test"]))
    bar = spec.monitoring.max_rate_gap

    def wronged(rows: pd.DataFrame) -> list[str]:
        found = []
        for name in spec.slices:
            for value, part in rows.groupby(name, observed=True):
                gap = part["p"] - part[it.target]
                sure = abs(gap.mean()) - SURE * gap.std() / math.sqrt(len(part))
                if len(part) >= spec.gates.min_slice_rows and sure > bar:
                    found.append(f"{name} {value} by {gap.mean():+.2f}")
        return found

    _demand(not wronged(rows), f"risk is misstated by more than {bar}: {', '.join(wronged(rows))}")
    shifted = rows.assign(
        p=(rows["p"] + 2 * bar).where(rows[spec.slices[0]] == rows[spec.slices[0]].mode()[0], rows["p"])
    )
    _demand(bool(wronged(shifted)), f"a slice whose risk is overstated by {2 * bar} is not noticed: too few rows")
    _demand(bool(spec.risk.basis), "the specification does not say on what its assessment of risk rests")
    risk = f"risk {spec.risk.level} as of {spec.risk.as_of}"
    return f"no slice is off by more than {bar}; one shifted by {2 * bar} is noticed; {risk}"


# Infrastructure -------------------------------------------------------------------------------------------------------


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


def _logged_inputs(it: Subject, rows: pd.DataFrame) -> pd.DataFrame:
    frame = pd.DataFrame([json.loads(text) for text in rows["inputs"]])
    return batch.conform(frame, it.model.contract.inputs)


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


# Monitoring -----------------------------------------------------------------------------------------------------------


def dependencies(it: Subject) -> str:
    """A change of what the system depends on is noticed: packages out of range, inputs lost, renamed or retyped."""
    unhealthy = [
        check for check in environment.checks("mlops-course", folder=it.system.workspace.root) if not check["ok"]
    ]
    _demand(not unhealthy, f"this machine is not as it should be: {[check['found'] for check in unhealthy]}")
    contract, rows, silent = it.model.contract, it.test[it.inputs].head(20), []
    for name, kind in contract.inputs.items():
        try:
            batch.problems(rows.drop(columns=name), contract.inputs, optional=contract.optional)
            silent.append(f"{name} lost")
        except ValueError:
            pass
        if kind != "string":
            found = batch.problems(rows.astype({name: object}).assign(**{name: "n/a?"}), contract.inputs)
            silent += [] if name in set(found["column"]) else [f"{name} as text"]
    _demand(not silent, f"changes of inputs that nobody hears of: {', '.join(silent)}")
    return f"packages are in range; each of {len(contract.inputs)} inputs lost or retyped is refused by name"


def invariants(it: Subject) -> str:
    """Faults of the feed raise an alarm by the bars of the specification, and a quiet day does not."""
    spec, times = it.system.specification, it.system.specification.timing
    numeric = [name for name in spec.inputs.numeric if it.train[name].nunique() > 20]
    _demand(bool(numeric), "no numeric input with more than 20 values: nothing to watch")
    rng = np.random.default_rng(it.seed)
    whole = it.parts["train"].sample(frac=1.0, random_state=it.seed)
    half = len(whole) // 2
    base = drift.reference(whole[:half], numeric=numeric, categorical=spec.inputs.categorical, identity=[])
    quiet = whole[half : half + SAMPLE]
    start, end = quiet[times.prediction_time].min(), quiet[times.prediction_time].max() + pd.Timedelta("1h")

    def alarms(rows: pd.DataFrame) -> set[str]:
        found = drift.drift(drift.summarise(rows, base))
        over = (found["psi"] > spec.monitoring.psi_alert) | (found["missing_rise"] > spec.monitoring.max_missing_rise)
        return set(found.index[over])

    _demand(not alarms(quiet), f"a quiet sample raises alarms for {alarms(quiet)}")
    unseen, tried = [], 0
    for name in rng.permutation(numeric)[:6]:
        middle = float(quiet[name].median())
        spread = float(quiet[name].std())
        options = ({"kind": "unit error", "size": 2.5, "offset": spread}, {"kind": "silent null", "size": 0.5})
        for option in (*options, {"kind": "stuck sensor", "size": middle}):
            tried += 1
            fault = faults.Fault(column=name, start=start.isoformat(), end=end.isoformat(), **option)
            asked = {"time": times.prediction_time, "label": it.target, "label_time": times.label_time}
            broken = faults.inject(quiet, [fault], seed=it.seed, **asked)
            unseen += [] if name in alarms(broken) else [f"{option['kind']} of {name}"]
    _demand(not unseen, f"{len(unseen)} of {tried} faults raise no alarm: {', '.join(unseen)}")
    return (
        f"{tried} faults of 3 kinds in {min(6, len(numeric))} inputs all raise an alarm; {len(quiet):,} quiet rows none"
    )


def no_skew(it: Subject) -> str:
    """Serving answers as training would: the service's model, bit by bit, and what is in the log, computed again."""
    rows = it.test[it.inputs].head(300)
    served = service.servable(it.model)
    plain = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in rows.astype(object).to_dict("records")
    ]
    with threadpool_limits(1):
        gap = np.abs(served.predict(plain) - it.predict(rows)).max()
    _demand(gap == 0, f"the service answers {gap:.2g} away from the registered model")
    logged = it.answered[it.answered["model_version"] == it.model.version].tail(300)
    _demand(len(logged) > 0, "the champion has answered nothing that is in the log: serve or stream some rows first")
    again = np.abs(it.predict(_logged_inputs(it, logged)) - logged["probability"].to_numpy()).max()
    _demand(again <= 1e-6, f"answers in the log are up to {again:.2g} away from those of the registered model")
    return f"{len(rows)} rows of the service and {len(logged)} of the log have the registered answers (gap {again:.0g})"


def fresh(it: Subject) -> str:
    """The champion is not too old for what it is asked: its newest training rows against the newest question."""
    bar = it.system.specification.retraining.max_age_days
    newest = it.parts["calibrate"][it.system.specification.timing.prediction_time].max()

    def age(asked: pd.Timestamp) -> int:
        return (asked - newest).days

    asked = it.answered["time"].max()
    _demand(age(asked) <= bar, f"last asked {age(asked)} days after its newest row; {bar} are allowed: train anew")
    _demand(age(asked + pd.Timedelta(days=bar) + (newest - asked)) >= bar, "an old champion would not be noticed")
    return f"last asked {age(asked)} days after its newest training row ({newest:%Y-%m-%d}); {bar} are allowed"


def stable_numbers(it: Subject) -> str:
    """Numbers stay numbers: whatever an input holds, the answer is a probability; and no other is in the log."""
    rows, wrong = it.test[it.inputs].head(20), []
    for name, kind in it.model.contract.inputs.items():
        if kind in ("double", "long"):
            for value in EXTREMES:
                if kind == "long" and not float(value).is_integer():
                    continue
                p = it.predict(rows.assign(**{name: value}))
                wrong += [] if (np.isfinite(p) & (p >= 0) & (p <= 1)).all() else [f"{name} = {value:g}"]
    _demand(not wrong, f"no probability comes of {', '.join(wrong[:5])}")
    infinite = rows.assign(**{name: math.inf for name, kind in it.model.contract.inputs.items() if kind == "double"})
    refused = batch.problems(infinite, it.model.contract.inputs)
    _demand(len(refused) > 0, "infinite numbers are not refused at the door")
    known = it.answered["probability"]
    _demand(known.between(0, 1).all(), f"{(~known.between(0, 1)).sum()} answers in the log are no probabilities")
    door = "infinity is refused at the door"
    return f"{len(EXTREMES)} extremes in each number give probabilities, {door}; {len(known):,} logged are sound"


def quick(it: Subject) -> str:
    """Speed has not got worse: single answers and those in the log keep to the bar, and a slow model is noticed."""
    bar = it.system.specification.gates.model_dump()["max_latency_ms"]
    rows = it.test[it.inputs]
    with threadpool_limits(1):
        now = gate.latency(it.predict, rows, calls=50)["p95_ms"]
    logged = float(it.answered["latency_ms"].quantile(0.95))
    _demand(now <= bar, f"one answer takes {now:.1f} ms (p95), over {bar} ms")
    _demand(logged <= bar, f"answers in the log took {logged:.1f} ms (p95), over {bar} ms")
    ticks = iter(np.cumsum(np.tile([0.0, 2 * bar / 1000], 100)))
    slow = gate.latency(it.predict, rows, calls=20, warm_up=0, clock=partial(next, ticks))["p95_ms"]
    plan = service.canary_plan(it.system)
    share, rng = plan.steps[0], np.random.default_rng(it.seed)
    side = rng.random(1000) < share
    answers = pd.DataFrame(
        {
            "challenger": side,
            "share": share,
            "failed": False,
            "latency_ms": np.where(side, 2 * plan.max_latency_ms, 1.0),
        }
    )
    verdict = rollout.judge(answers, pd.DataFrame(columns=["challenger", "share", "cost"]), plan=plan, share=share)
    _demand(slow > bar and verdict.action == "stop", "a model that is too slow is not noticed")
    return f"p95 {now:.1f} ms now, {logged:.1f} ms in the log, bar {bar} ms; a slow challenger is stopped"


def live_quality(it: Subject) -> str:
    """Quality on live labels is what was promised, and a world that turned round is noticed."""
    spec, rows = it.system.specification, it.labelled
    promised, bar = it.model.contract.metrics["log_loss"], spec.retraining.max_log_loss_rise
    window = pd.Series(0, index=rows.index)
    costs = {"false_alarm": spec.costs.false_alarm, "missed": spec.costs.missed}
    loss = performance.realised(rows, window=window, **costs)["log_loss"].iloc[0]
    error = _log_loss(rows["label"], rows["probability"]).std() / math.sqrt(len(rows))
    span = {"start": rows["time"].min().isoformat(), "end": (rows["time"].max() + pd.Timedelta("1s")).isoformat()}
    asked = {"time": "time", "label": "label", "label_time": "label_time"}
    turned = rows.assign(label=rows["label"].astype(float))
    turned = faults.inject(turned, [faults.Fault(kind="concept flip", size=0.5, **span)], seed=it.seed, **asked)
    flipped = performance.realised(turned, window=pd.Series(0, index=turned.index), **costs)["log_loss"].iloc[0]
    _demand(flipped - SURE * error > promised + bar, "labels turned round raise no alarm")
    _demand(
        loss - SURE * error <= promised + bar,
        f"log loss on {len(rows):,} live labels is {loss:.4f}, promised {promised:.4f}, allowed {bar} more: train anew",
    )
    return (
        f"log loss {loss:.4f} on {len(rows):,} live labels, {promised:.4f} promised; half turned round: {flipped:.4f}"
    )


PROBES: Mapping[str, Mapping[str, Callable[[Subject], str]]] = {
    "data": {
        "the schema catches broken batches": schema,
        "every input earns its place": useful_inputs,
        "no input costs too much": cheap_inputs,
        "no input knows the answer or the future": no_leak,
        "a row can be forgotten": privacy,
        "a feature is added by its name": new_feature,
        "feature code is tested": feature_tests,
    },
    "model": {
        "specification and release are reviewed": reviewed,
        "offline and online metrics agree": offline_online,
        "settings are tuned": tuned,
        "the cost of age is known": staleness_known,
        "no simpler model is better": not_simpler,
        "no slice is served worse": slices_sound,
        "nobody's risk is misstated": inclusion,
    },
    "infrastructure": {
        "training is reproducible": reproducible,
        "model code keeps its laws": model_laws,
        "the whole pipeline runs": integration,
        "quality is judged before serving": gated,
        "one answer can be taken apart": debuggable,
        "a bad challenger is stopped": canary,
        "a release can be rolled back": rollback,
    },
    "monitoring": {
        "changed dependencies are noticed": dependencies,
        "faults of the feed raise an alarm": invariants,
        "serving answers as training would": no_skew,
        "the champion is not too old": fresh,
        "numbers stay numbers": stable_numbers,
        "speed has not got worse": quick,
        "quality on live labels holds": live_quality,
    },
}


WHERE: Mapping[Callable[[Subject], str], str] = {  # what a probe's evidence is about
    **dict.fromkeys((schema,), "raw tables"),
    **dict.fromkeys(
        (useful_inputs, no_leak, staleness_known, not_simpler, slices_sound, inclusion, invariants), "rows"
    ),
    **dict.fromkeys((tuned, reproducible, gated, new_feature, model_laws), "run"),
    **dict.fromkeys((cheap_inputs, canary, stable_numbers, dependencies), "model"),
    **dict.fromkeys((offline_online, debuggable, no_skew, fresh, quick, live_quality), "log"),
    **dict.fromkeys((reviewed, rollback), "history"),
    **dict.fromkeys((privacy, integration), "drill"),
    **dict.fromkeys((feature_tests,), "repository"),
}


def _link(what: str, it: Subject) -> str:
    """Where to look for oneself."""
    folder, name = it.system.workspace.snapshots, it.system.registry.name
    match what:
        case "raw tables":
            return (folder / it.model.contract.data_version).as_uri()
        case "rows":
            return (folder / it.run.data.tags.get("split_rows", "")).as_uri()
        case "run":
            return f"runs:/{it.run.info.run_id}"
        case "model":
            return f"models:/{name}/{it.model.version}"
        case "log":
            return it.log.url.render_as_string()
        case "history":
            return f"models:/{name}-releases/{it.system.registry.newest_release()}"
        case "repository" if it.repository:
            return (it.repository.resolve() / "tests").as_uri()
    return ""  # a drill in a folder that is gone


# The score ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scorecard:
    """One line a probe in `table`: section, number, name, passed, evidence, link (empty for a drill), seconds."""

    table: pd.DataFrame

    @property
    def sections(self) -> dict[str, int]:
        """Points of each section, out of seven."""
        return {name: int(part["passed"].sum()) for name, part in self.table.groupby("section", sort=False)}

    @property
    def final(self) -> int:
        """The points of the weakest section: what is not tested there, the rest cannot make good."""
        return min(self.sections.values())


def score(
    system: System,
    log: PredictionLog,
    *,
    repository: Path | None = None,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda name: None,
) -> Scorecard:
    """Run all probes on a system and its log; `repository` is a checkout with the tests of the case.

    Nothing of the workspace is changed. `progress` is told the name of each probe as it begins.
    """
    lines = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        subject = Subject(system, log, repository, Path(scratch), seed=seed)
        for section, probes in PROBES.items():
            for number, (name, probe) in enumerate(probes.items(), start=1):
                progress(name)
                begun = time.perf_counter()
                passed, evidence = _tried(probe, subject)
                taken = round(time.perf_counter() - begun, 2)
                link = _tried(partial(_link, WHERE[probe]), subject)
                lines.append((section, number, name, passed, evidence, link[1] if link[0] else "", taken))
    columns = ["section", "number", "name", "passed", "evidence", "link", "seconds"]
    return Scorecard(pd.DataFrame(lines, columns=columns))


def _tried(probe: Callable[[Subject], str], subject: Subject) -> tuple[bool, str]:
    """Whether a probe passed, and its evidence or what speaks against it; an error of any kind is no pass."""
    try:
        evidence = probe(subject)
    except _Refuted as refuted:
        return False, str(refuted)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return (True, evidence) if isinstance(evidence, str) and evidence else (False, "the probe gave no evidence")
