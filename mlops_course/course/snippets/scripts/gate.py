"""Let a gate decide whether a model may go out, with reasons."""

import pandas as pd

from mlops_course.development import gate

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
