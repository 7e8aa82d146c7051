"""Derive from costs from which probability on it pays to act."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from mlops_course.development import training

threshold = training.cost_threshold(false_alarm=15, missed=60)
random = np.random.default_rng(0)
load = random.normal(size=(500, 1))
model = LogisticRegression().fit(load, random.random(500) < 1 / (1 + np.exp(1.5 - load[:, 0])))
act = training.decide(model, threshold)
often = {at: float((model.predict_proba(load)[:, 1] >= at).mean()) for at in (threshold, 0.5)}
assert act.predict(load).mean() == often[threshold]
print({f"from {at}": f"acts on {share:.0%}" for at, share in often.items()})
assert threshold == 0.2
