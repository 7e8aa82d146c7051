"""Estimate loss and cost of a week before its labels come."""

import numpy as np
import pandas as pd

from mlops_course.operations.monitoring import performance

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
