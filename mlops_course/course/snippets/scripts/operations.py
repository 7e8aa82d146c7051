"""Programs to take to work with the stages of operations. A line `# %%` begins each; it gets the imports it uses."""

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from mlops_course.operations import delivery
from mlops_course.operations.deployment import batch, rollout
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import alerting, drift, faults, performance, signals
from mlops_course.operations.registry import Contract, Registry, describe
from mlops_course.operations.retraining import POLICIES, State, apply, exclusions

# %% roll_back: Promote a model with approval, and go back to the champion before.
logging.disable(logging.INFO)  # MLflow tells of each table of a new database
orders = pd.DataFrame({"price": [5.0, 9.0, 20.0], "items": [1.0, 2.0, 9.0]})
origin = {"data_version": "d1", "code_version": "c1", "specification": {}, "metrics": {}}
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    registry = Registry(f"sqlite:///{Path(place, 'mlflow.db').as_posix()}", "returns")
    runs = MlflowClient(registry.tracking_uri)
    experiment = runs.create_experiment("returns", Path(place).as_uri())
    for penalty in (1.0, 0.1):
        model = LogisticRegression(C=penalty).fit(orders, [0, 1, 1])
        run_id = runs.create_run(experiment).info.run_id
        known = {**describe(orders), **origin, "fingerprint": f"penalty {penalty}"}
        contract = Contract(**known, threshold=0.5, gate_passed=True)
        version = registry.register(model, contract, run_id=run_id)
        registry.promote(version, approver="you", reason="cheaper than the rule")
    registry.roll_back(approver="duty manager", reason="the desk complains")
    champion, history = registry.champion(), registry.history()
print(history[["event", "version", "approver"]])
assert champion == 1

# %% score_file: Answer a file so that a second start does nothing twice and bad rows are set aside.
kinds = {"load": "double"}  # what the model takes, in MLflow's words
known = pd.DataFrame({"load": range(17)})
model = LogisticRegression().fit(known, known["load"] > 9)
use = {
    "answer": lambda rows: batch.predict(model, batch.conform(rows, kinds), threshold=0.3),
    "check": lambda rows: batch.problems(rows, kinds),
    "model": "orders 1",
}
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    orders, answers = Path(place) / "orders.csv", Path(place) / "answers.csv"
    rows = pd.DataFrame({"id": [f"order {n}" for n in range(200)], "load": [str(n % 17) for n in range(200)]})
    rows.replace({"load": {"16": "a lot"}}).to_csv(orders, index=False)
    first, second = batch.score_file(orders, answers, **use), batch.score_file(orders, answers, **use)
print(first.rows, "answered,", first.quarantined, "set aside; done already the second time:", second.already_done)
assert first.rows + first.quarantined == 200

# %% prediction_log: Keep every answer on record once, and its label when it comes.
now = datetime(2026, 11, 2, 10, tzinfo=UTC)
answer = {"id": "order 7", "time": now, "inputs": {"load": 9}}
answer |= {"model_version": 1, "probability": 0.3, "decision": True}
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    log = PredictionLog(f"sqlite:///{Path(place, 'predictions.db').as_posix()}")
    log.append([answer])
    known_before = log.append([answer])  # asked again: the answer on record is given, and nothing is written
    log.append(labels=[{"id": "order 7", "label": 1, "time": now}])
    found = log.find("order 7")
    log.close()
print("on record before:", list(known_before), "| label:", found["label"])
assert found["label"] == 1

# %% canary: Stop a bad canary by a test that may be looked at as often as one likes.
random = np.random.default_rng(0)
ids = [f"request-{number}" for number in range(4_000)]
challenger = rollout.in_share(ids, 0.2, salt="canary-1")  # by a hash: the same request, the same version
cost = random.exponential(5.0, 4_000) * np.where(challenger, 1.6, 1.0)
found = rollout.evidence(challenger, np.minimum(cost, 60.0), share=0.2, limit=60.0)
plan = rollout.CanaryPlan(max_latency_ms=200, max_cost=60.0)
stop = bool(found.e_value >= plan.bar)
print("challenger gets", int(challenger.sum()), "of", len(ids), "| stop it:", stop)
assert stop

# %% jobs: Say which checks a change needs, run them on a clean copy, and let only what is green go live.
jobs = {"unit": {"run": "python -m unit"}, "gate": {"run": "python -m gate", "needs": ["unit"]}}
workflow = delivery.Workflow(jobs, {"*.md": [], "unit.py": ["unit"]}, {"new data": ["gate"]})
live = []
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    for number, gate in enumerate(["", "raise SystemExit('worse than before')"]):
        time = pd.Timestamp("2026-11-02", tz="UTC") + pd.Timedelta(days=number)
        files = {"unit.py": "", "gate.py": gate}
        commit = delivery.commit(Path(place), files, message=f"Change {number}", time=time)
        delivery.run(Path(place), commit, workflow=workflow)
        try:
            live += delivery.deploy(Path(place), commit, workflow=workflow)
        except delivery.RefusedError as error:
            print(error)
print(len(live), "commit is live")
assert len(live) == 1

# %% delivery_metrics: Measure delivery by five metrics, from a log in any order.
start, end = pd.Timestamp("2026-11-01", tz="UTC"), pd.Timestamp("2026-12-01", tz="UTC")
events = [
    ("restored", "2026-11-05T15:00Z", None, None, "i1"),
    ("deployed", "2026-11-05T10:00Z", "c1", "d1", None),
    ("deployed", "2026-11-05T15:00Z", "c2", "d2", "i1"),  # not planned: it mends the incident i1
    ("committed", "2026-11-05T13:00Z", "c2", None, None),
    ("committed", "2026-11-04T10:00Z", "c1", None, None),
    ("failed", "2026-11-05T12:00Z", None, "d1", "i1"),
]
log = pd.DataFrame(events, columns=["kind", "time", "commit", "deployment", "incident"])
found = delivery.metrics(log.assign(time=pd.to_datetime(log["time"])), start=start, end=end)
print(found.table)
assert found.table["value"].notna().all()

# %% sbom: List the packages that a program runs with, as CycloneDX, and ask whether bad news concerns it.
bill = delivery.sbom(["pandas"])
installed = {component["name"]: component["version"] for component in bill["components"]}
print(bill["bomFormat"], bill["specVersion"], installed)
for name in ("numpy", "ultralytics"):
    print(name, installed.get(name, "is not in it"))
assert {"numpy", "pandas"} <= installed.keys()

# %% psi: Say how far the inputs of now have moved from those of the reference, column by column.
random = np.random.default_rng(0)
trained = pd.DataFrame({"price": random.normal(20, 5, 5_000), "shop": random.choice(["a", "b"], 5_000)})
now = pd.DataFrame({"price": 1.2 * random.normal(20, 5, 800), "shop": random.choice(["a", "c"], 800)})
bins = drift.reference(trained, numeric=["price"], categorical=["shop"])
moved = drift.drift(drift.summarise(now, bins))
print(moved[["psi", "ks"]].round(2))
assert (moved["psi"] > 0.25).all()  # called shifted

# %% alarms: Watch inputs day by day, and raise an alarm that names column and kind, within a budget of false ones.
random = np.random.default_rng(0)
asked = pd.Series(pd.date_range("2026-01-01", periods=20_000, freq="10min", tz="UTC"))
orders = pd.DataFrame({"time": asked, "load": random.normal(20, 5, 20_000), "depot": random.choice(["a", "b"], 20_000)})
columns = {"numeric": ["load"], "datetimes": [], "categorical": ["depot"]}
quiet_until = pd.Timestamp("2026-04-01", tz="UTC")
broken = orders.assign(load=orders["load"].where(asked < "2026-05-01", orders["load"] * 1.609))
known = signals.profile(orders[asked < quiet_until], **columns)
daily = signals.of_inputs(broken, known)
quiet = daily[daily.index < quiet_until]
bars = alerting.calibrate(quiet, a_year=1.0)
found = alerting.find(daily, bars, first=quiet_until)
for alert in found:
    print(f"{alert.raised:%Y-%m-%d}", alert.text)
assert len(found) == 1

# %% estimate: Estimate loss and cost of a week before its labels come.
random = np.random.default_rng(0)
asked = pd.Series(pd.date_range("2026-01-01", periods=4_000, freq="h", tz="UTC"))
p = random.beta(2, 6, 4_000)
rows = pd.DataFrame({"time": asked, "probability": p, "decision": p >= 0.2})
rows["label"] = (random.random(4_000) < p).astype(float)
rows["label_time"] = asked + pd.Timedelta("5D")
now = asked.max()  # of the last five days no label has come
expected = performance.estimate(rows, start=now - pd.Timedelta("4D"), end=now, now=now, false_alarm=15, missed=60)
print({name: round(float(value), 3) for name, value in expected.items() if name.startswith("estimated_log_loss")})
assert expected["estimated_log_loss_low"] < expected["estimated_log_loss"] < expected["estimated_log_loss_high"]

# %% break_stream: Break a stream on purpose, to see whether anybody notices.
asked = pd.date_range("2026-03-01", periods=240, freq="h", tz="UTC")
orders = pd.DataFrame({"id": [f"order {n}" for n in range(240)], "asked": asked, "load": 20.0, "late": 0.0})
orders["known"] = orders["asked"] + pd.Timedelta("5h")
drill = [
    faults.Fault("unit error", "2026-03-03", "2026-03-05", column="load", size=1.609),
    faults.Fault("silent null", "2026-03-07", "2026-03-08", column="load", size=0.5),
]
broken = faults.inject(orders, drill, time="asked", label="late", label_time="known", seed=0)
print(broken.groupby(broken["asked"].dt.date)["load"].agg(["mean", "count"]).round(1))
assert (broken["load"] != orders["load"]).sum() == 48 + broken["load"].isna().sum()

# %% retrain: Decide whether to retrain, but not by the calendar and not while a feed is broken.
limits = {"psi_alert": 0.25, "max_log_loss_rise": 0.02, "max_age_days": 90, "cooldown_days": 28, "min_new_rows": 1_000}
worse = State(age_days=35, cooldown_days=35, new_rows=4_000, new_batches=1, realised_rise=0.05)
decision = POLICIES["combined"](worse, limits)
print(decision.retrain, "because", decision.reason)
assert decision.retrain

# %% exclude: Keep what a broken feed sent out of training, and say what was left out.
asked = pd.to_datetime(["2026-11-02", "2026-11-09"], utc=True)
orders = pd.DataFrame({"id": ["a", "b"], "time": asked, "price": [9.5, 950.0]})
alerts = [{"kind": "unit error", "subject": "price", "since": "2026-11-08", "until": "2026-11-12"}]
left_out = exclusions(alerts, until="2026-11-20")
kept = apply(orders, left_out, time="time")
print(*left_out, kept, sep="\n")
assert kept["price"].isna().tolist() == [False, True]
