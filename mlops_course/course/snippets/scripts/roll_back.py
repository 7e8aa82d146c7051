"""Promote a model with approval, and go back to the champion before."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from mlops_course.operations.registry import Contract, Registry, describe

logging.disable(logging.INFO)  # MLflow tells of each table of a new database
orders = pd.DataFrame({"price": [5.0, 9.0, 20.0], "items": [1.0, 2.0, 9.0]})
origin = {"data_version": "d1", "code_version": "c1", "specification": {}, "metrics": {}}
with TemporaryDirectory(ignore_cleanup_errors=True) as place:
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
