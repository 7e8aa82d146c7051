"""Probes of the running system: section Monitoring of the ML Test Score."""

import math
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import evaluation, gate
from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift, faults, performance
from mlops_course.system import environment, scoring, service

from .system_under_test import SAMPLE_ROWS, STANDARD_ERRORS, SystemUnderTest, _require

EXTREME_VALUES = (0.0, -1.0, 1e-300, 1e100, -1e100, math.nan)  # near 1e308 a regression overflows, which is an error
FAULTY_INPUTS = 6


def dependency_changes(tested: SystemUnderTest) -> str:
    """Monitoring 1: changed dependencies are noticed. Packages are in range; a lost or retyped input is seen."""
    checks = environment.checks("mlops-course", folder=tested.system.workspace.root)
    unhealthy = [check["found"] for check in checks if not check["ok"]]
    _require(not unhealthy, f"this machine is not as it should be: {unhealthy}")
    contract, rows, unnoticed = tested.model.contract, tested.test[tested.inputs].head(20), []
    for name, kind in contract.inputs.items():
        try:
            batch.problems(rows.drop(columns=name), contract.inputs, optional=contract.optional)
            unnoticed.append(f"{name} lost")
        except ValueError:
            pass
        if kind != "string":
            found = batch.problems(rows.astype({name: object}).assign(**{name: "n/a?"}), contract.inputs)
            unnoticed += [] if name in set(found["column"]) else [f"{name} as text"]
    _require(not unnoticed, f"changes of inputs that are not noticed: {', '.join(unnoticed)}")
    return f"packages are in range; each of {len(contract.inputs)} inputs lost or retyped is refused by name"


def input_faults(tested: SystemUnderTest) -> str:
    """Monitoring 2: data invariants hold for inputs. Injected faults raise an alarm, and a quiet day does not."""
    spec, times = tested.system.specification, tested.system.specification.timing
    numeric = [name for name in spec.inputs.numeric if tested.train[name].nunique() > 20]
    _require(bool(numeric), "no numeric input with more than 20 values: nothing to watch")
    rng = np.random.default_rng(tested.seed)
    shuffled = tested.parts["train"].sample(frac=1.0, random_state=tested.seed)
    half = len(shuffled) // 2
    base = drift.reference(shuffled[:half], numeric=numeric, categorical=spec.inputs.categorical)
    quiet = shuffled[half : half + SAMPLE_ROWS]
    start, end = quiet[times.prediction_time].min(), quiet[times.prediction_time].max() + pd.Timedelta("1h")
    columns = {"time": times.prediction_time, "label": tested.target, "label_time": times.label_time}

    def alarms(rows: pd.DataFrame) -> set[str]:
        found = drift.drift(drift.summarise(rows, base))
        over = (found["psi"] > spec.monitoring.psi_alert) | (found["missing_rise"] > spec.monitoring.max_missing_rise)
        return set(found.index[over])

    _require(not alarms(quiet), f"a quiet sample raises alarms for {alarms(quiet)}")
    unseen, broken_inputs = [], rng.permutation(numeric)[:FAULTY_INPUTS]
    for name in broken_inputs:
        kinds = {
            "unit error": {"size": 2.5, "offset": float(quiet[name].std())},
            "silent null": {"size": 0.5},
            "stuck sensor": {"size": float(quiet[name].median())},
        }
        for kind, sizes in kinds.items():
            fault = faults.Fault(kind=kind, column=name, start=start.isoformat(), end=end.isoformat(), **sizes)
            broken = faults.inject(quiet, [fault], seed=tested.seed, **columns)
            unseen += [] if name in alarms(broken) else [f"{kind} of {name}"]
    _require(not unseen, f"faults that raise no alarm: {', '.join(unseen)}")
    return f"3 kinds of faults in {len(broken_inputs)} inputs all raise an alarm; {len(quiet):,} quiet rows none"


def training_serving_skew(tested: SystemUnderTest) -> str:
    """Monitoring 3: training and serving are not skewed. Service and log have the registered model's probabilities."""
    rows = tested.test[tested.inputs].head(300)
    served = service.servable(tested.model)
    with threadpool_limits(1):
        gap = np.abs(served.predict(scoring.plain_records(rows)) - tested.predict(rows)).max()
    _require(gap == 0, f"the service answers {gap:.2g} away from the registered model")
    logged = tested.predictions[tested.predictions["model_version"] == tested.model.version].tail(300)
    _require(len(logged) > 0, "the champion has answered nothing that is in the log: serve or stream some rows first")
    again = np.abs(tested.predict(tested.logged_inputs(logged)) - logged["probability"].to_numpy()).max()
    _require(again <= 1e-6, f"answers in the log are up to {again:.2g} away from those of the registered model")
    return f"{len(rows)} rows of the service and {len(logged)} of the log have the registered answers (gap {again:.0g})"


def champion_age(tested: SystemUnderTest) -> str:
    """Monitoring 4: models are not too stale. From the newest training row to the newest request it is not too long."""
    bar = tested.system.specification.retraining.max_age_days
    newest = tested.parts["calibrate"][tested.system.specification.timing.prediction_time].max()
    age = (tested.predictions["time"].max() - newest).days
    _require(age <= bar, f"last asked {age} days after its newest row; {bar} are allowed: train a new version")
    return f"last asked {age} days after its newest training row ({newest:%Y-%m-%d}); {bar} are allowed"


def numerical_stability(tested: SystemUnderTest) -> str:
    """Monitoring 5: models are numerically stable. Extreme inputs give probabilities, and the log has nothing else."""
    rows, wrong, inputs = tested.test[tested.inputs].head(20), [], tested.model.contract.inputs
    for name, kind in inputs.items():
        for value in EXTREME_VALUES if kind in ("double", "long") else ():
            if kind == "double" or float(value).is_integer():
                p = tested.predict(rows.assign(**{name: value}))
                wrong += [] if ((p >= 0) & (p <= 1)).all() else [f"{name} = {value:g}"]
    _require(not wrong, f"no probability comes of {', '.join(wrong[:5])}")
    infinite = rows.assign(**{name: math.inf for name, kind in inputs.items() if kind == "double"})
    refused = batch.problems(infinite, inputs)
    _require(len(refused) > 0, "infinite numbers are not refused at the door")
    logged = tested.predictions["probability"]
    _require(logged.between(0, 1).all(), f"{(~logged.between(0, 1)).sum()} answers in the log are no probabilities")
    extremes = f"{len(EXTREME_VALUES)} extremes in each number give probabilities, infinity is refused"
    return f"{extremes}; {len(logged):,} logged are sound"


def computing_performance(tested: SystemUnderTest) -> str:
    """Monitoring 6: computing performance has not regressed. Answers keep to the bar, and a slow model is noticed."""
    bar = tested.system.specification.gates.model_dump()["max_latency_ms"]
    rows = tested.test[tested.inputs]
    with threadpool_limits(1):
        now = gate.latency(tested.predict, rows, calls=50)["p95_ms"]
    logged = float(tested.predictions["latency_ms"].quantile(0.95))
    _require(now <= bar, f"one answer takes {now:.1f} ms (p95), over {bar} ms")
    _require(logged <= bar, f"answers in the log took {logged:.1f} ms (p95), over {bar} ms")
    ticks = iter(np.cumsum(np.tile([0.0, 2 * bar / 1000], 100)))  # a clock by which each answer takes twice the bar
    slow = gate.latency(tested.predict, rows, calls=20, warm_up=0, clock=partial(next, ticks))["p95_ms"]
    plan = service.canary_plan(tested.system)
    challenger = np.random.default_rng(tested.seed).random(1000) < plan.steps[0]
    verdict = tested.judge_canary(plan, challenger, latency_ms=np.where(challenger, 2 * plan.max_latency_ms, 1.0))
    _require(slow > bar and verdict.action == "stop", "a model that is too slow is not noticed")
    return f"p95 {now:.1f} ms now, {logged:.1f} ms in the log, bar {bar} ms; a slow challenger is stopped"


def prediction_quality(tested: SystemUnderTest) -> str:
    """Monitoring 7: prediction quality has not regressed. Live log loss is as promised, and reversed labels show."""
    spec, rows = tested.system.specification, tested.labelled
    promised, bar = tested.model.contract.metrics["log_loss"], spec.retraining.max_log_loss_rise

    def log_loss(rows: pd.DataFrame) -> float:
        window = pd.Series(0, index=rows.index)
        return performance.realised(rows, window=window, **tested.costs)["log_loss"].iloc[0]

    loss = log_loss(rows)
    margin = STANDARD_ERRORS * evaluation.log_losses(rows["label"], rows["probability"]).std() / math.sqrt(len(rows))
    span = {"start": rows["time"].min().isoformat(), "end": (rows["time"].max() + pd.Timedelta("1s")).isoformat()}
    fault = faults.Fault(kind="concept flip", size=0.5, **span)
    columns = {"time": "time", "label": "label", "label_time": "label_time"}
    labelled = rows.assign(label=rows["label"].astype(float))
    flipped = log_loss(faults.inject(labelled, [fault], seed=tested.seed, **columns))
    _require(flipped - margin > promised + bar, "labels turned round raise no alarm")
    found = f"log loss on {len(rows):,} live labels is {loss:.4f}, promised {promised:.4f}"
    _require(loss - margin <= promised + bar, f"{found}, allowed {bar} more: train a new version")
    return f"{found}; with half of them turned round {flipped:.4f}"
