"""Record a training so that somebody else can repeat it."""

import logging
import tempfile
from pathlib import Path

from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from mlops_course.development import training

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
