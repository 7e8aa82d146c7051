"""Put probabilities right on rows that came later than those that trained the model."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mlops_course.development import training

random = np.random.default_rng(0)
orders = pd.DataFrame({"load": random.normal(size=3_000)})
late = pd.Series(random.random(3_000) < 1 / (1 + np.exp(1.5 - orders["load"])), dtype=float)
model = LogisticRegression(class_weight="balanced").fit(orders[:1_000], late[:1_000])  # says too much
mended = training.calibrate(model, orders[1_000:2_000], target=late[1_000:2_000])
said = {
    name: one.predict_proba(orders[2_000:])[:, 1].mean()
    for name, one in {"as fitted": model, "put right": mended}.items()
}
print({name: round(float(mean), 2) for name, mean in said.items()}, "| came:", round(late[2_000:].mean(), 2))
assert abs(said["put right"] - late[2_000:].mean()) < 0.05 < abs(said["as fitted"] - late[2_000:].mean())
