"""Answer a file so that a second start does nothing twice and bad rows are set aside."""

import tempfile
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression

from mlops_course.operations.deployment import batch

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
