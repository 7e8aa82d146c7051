"""Programs to take to work with the stages of development. A line `# %%` begins each; it gets the imports it uses."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from mlops_course.development import data, evaluation, features, gate, training, validation

# %% snapshot: Keep a table under the version of its content, and bring any version back.
orders = pd.DataFrame({"id": [1, 2, 3], "price": [9.5, 20.0, 7.0]})
with tempfile.TemporaryDirectory() as store:
    version = data.save_snapshot({"orders": orders}, store)
    again = data.save_snapshot({"orders": orders.sample(frac=1, random_state=0)}, store)
    restored = data.load_snapshot(store, version)["orders"]
print("version", version, "| shuffled:", "the same" if again == version else "another")
assert again == version
assert len(restored) == 3

# %% validate: Refuse a bad batch, and set bad rows aside with their reason.
batch = {"orders": pd.DataFrame({"id": [1, 2, 3], "price": [9.5, -1.0, 20.0]})}
price = pa.Column(float, pa.Check.ge(0, name="not negative"), metadata={"severity": "quarantine"})
schema = pa.DataFrameSchema({"id": pa.Column(int, unique=True), "price": price})
report = validation.validate(batch, {"orders": schema}, quarantine_limit=0.5)
report.raise_if_stopped()
clean, aside = validation.quarantine(batch, report)
print(aside["orders"])
assert len(clean["orders"]) == 2

# %% as_of: Join what was known when the question was asked, and nothing later.
orders = pd.DataFrame({"asked": pd.to_datetime(["2026-03-01T10:00Z", "2026-03-01T15:00Z"])})
prices = pd.DataFrame({"known": pd.to_datetime(["2026-03-01T09:00Z", "2026-03-01T11:00Z"]), "diesel": [1.61, 1.66]})
joined = orders.join(features.as_of(orders, prices, at="asked", available="known", columns=["diesel"]))
print(joined)
assert joined["diesel"].tolist() == [1.61, 1.66]

# %% recent: Count what happened lately, as of each question, with one code path for training and service.
orders = pd.DataFrame({"asked": pd.to_datetime(["2026-03-01T10:00Z", "2026-03-01T15:00Z"]), "depot": "north"})
delays = pd.DataFrame({"depot": ["north", "south", "north"], "minutes": [10.0, 99.0, 30.0]})
delays["known"] = pd.to_datetime(["2026-03-01T08:30Z", "2026-03-01T09:30Z", "2026-03-01T14:00Z"])
three_hours = pd.Timedelta("3h")
lately = features.recent(orders, delays, at="asked", available="known", window=three_hours, by="depot", value="minutes")
print(orders.join(lately))
assert lately["mean"].tolist() == [10.0, 30.0]

# %% split: Split rows by time, without labels that were not known yet at the cut.
asked = pd.Series(pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"))
orders = pd.DataFrame({"asked": asked, "delivered": asked + pd.Timedelta("5D")})
cut = pd.Timestamp("2026-02-01", tz="UTC")
past, future = features.split_by_time(orders, cut, prediction_time="asked", label_time="delivered")
print(len(past), "to train on,", len(future), "to test on,", len(orders) - len(past) - len(future), "in neither")
assert past["delivered"].max() <= cut <= future["asked"].min()

# %% track: Record a training so that somebody else can repeat it.
logging.disable(logging.INFO)  # MLflow tells of each table of a new database
X, y = make_classification(n_samples=500, random_state=0)
record = {"data_version": "March", "code_version": training.code_version(Path(training.__file__).parent.glob("*.py"))}
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
    with training.track(f"sqlite:///{Path(place).as_posix()}/runs.db", "orders", name="first", seed=0, **record) as run:
        model = LogisticRegression(C=0.1, random_state=0).fit(X[:400], y[:400])
        run.log_parameters(model)
        run.client.log_metric(run.run_id, "accuracy", model.score(X[400:], y[400:]))
    logged = run.client.get_run(run.run_id)
print(logged.info.status, "C =", logged.data.params["C"])
assert logged.info.status == "FINISHED"

# %% compare: Compare models in order of time, and take the simplest that is good enough.
random = np.random.default_rng(0)
orders = pd.DataFrame({"load": random.normal(size=600), "depot": random.choice(["north", "south"], size=600)})
late = (orders["load"] + random.normal(size=600) > 0.7).astype(float)
asked = pd.Series(pd.date_range("2026-01-01", periods=600, freq="h", tz="UTC"))
rows = {"target": late, "folds": training.TimeFolds(4, prediction_time=asked, label_time=asked + pd.Timedelta("5h"))}
models = training.candidates(None, numeric=["load"], categorical=["depot"], seed=0)
losses = {name: training.cross_validate_in_time(model, orders, **rows)["log_loss"] for name, model in models.items()}
chosen = training.simplest_within_one_standard_error(pd.DataFrame(losses))
print(pd.DataFrame(losses).mean().round(3).to_dict(), "->", chosen)
assert chosen == "logistic_regression"

# %% calibrate: Put probabilities right on rows that came later than those that trained the model.
random = np.random.default_rng(0)
orders = pd.DataFrame({"load": random.normal(size=3_000)})
late = pd.Series(random.random(3_000) < 1 / (1 + np.exp(1.5 - orders["load"])), dtype=float)
model = LogisticRegression(class_weight="balanced").fit(orders[:1_000], late[:1_000])  # says too much
mended = training.calibrate(model, orders[1_000:2_000], target=late[1_000:2_000])
models = {"as fitted": model, "put right": mended}
said = {name: one.predict_proba(orders[2_000:])[:, 1].mean() for name, one in models.items()}
print({name: round(float(mean), 2) for name, mean in said.items()}, "| came:", round(late[2_000:].mean(), 2))
assert abs(said["put right"] - late[2_000:].mean()) < 0.05 < abs(said["as fitted"] - late[2_000:].mean())

# %% threshold: Derive from costs from which probability on it pays to act.
threshold = training.cost_threshold(false_alarm=15, missed=60)
random = np.random.default_rng(0)
load = random.normal(size=(500, 1))
model = LogisticRegression().fit(load, random.random(500) < 1 / (1 + np.exp(1.5 - load[:, 0])))
act = training.decide(model, threshold)
often = {at: float((model.predict_proba(load)[:, 1] >= at).mean()) for at in (threshold, 0.5)}
assert act.predict(load).mean() == often[threshold]
print({f"from {at}": f"acts on {share:.0%}" for at, share in often.items()})
assert threshold == 0.2

# %% slices: Find the group of rows that a model serves worst, and leave out those that are too small to tell.
random = np.random.default_rng(0)
depot = random.choice(["north", "south", "east"], size=2_000, p=[0.6, 0.395, 0.005])
probability = random.random(2_000)
late = (random.random(2_000) < np.where(depot == "south", 0.5, probability)).astype(int)
rows = {"slices": pd.DataFrame({"depot": depot}), "min_rows": 100}
table = evaluation.by_slice(late, probability, **rows, threshold=0.2, false_alarm=15, missed=60, seed=0)
print(table[["value", "rows", "roc_auc", "roc_auc_low", "roc_auc_high", "note"]].round(2))
worst = table.sort_values("roc_auc").iloc[0]
assert worst["value"] == "south"

# %% gate: Let a gate decide whether a model may go out, with reasons.
orders = pd.DataFrame({"price": [5.0, 20.0, 80.0]})
metrics = pd.DataFrame({"value": [0.71], "low": [0.69], "high": [0.73]}, index=["roc_auc"])
more_returns = gate.direction(
    lambda rows: 1 / (1 + rows["price"] / 50), orders, name="expensive orders come back more often",
    change=lambda rows: rows * 2, expected="up",
)  # fmt: skip
report = gate.gate({"metrics": metrics}, {"min_roc_auc": 0.75}, first_release=True, behaviour=[more_returns])
print(*report.reasons, sep="\n")
assert not report.passed
assert len(report.reasons) == 2
