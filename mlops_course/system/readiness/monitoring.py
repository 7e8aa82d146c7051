"""Probes of the running system."""

import math
from functools import partial

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import gate
from mlops_course.operations.deployment import batch, rollout
from mlops_course.operations.monitoring import drift, faults, performance
from mlops_course.system import environment, service

from .subject import SAMPLE, SURE, Subject, _demand, _log_loss, _logged_inputs

EXTREMES = (0.0, -1.0, 1e-300, 1e100, -1e100, math.nan)  # where numbers end a regression overflows, in an error


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
