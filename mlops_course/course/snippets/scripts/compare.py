"""Compare models in order of time, and take the simplest that is good enough."""

import numpy as np
import pandas as pd

from mlops_course.development import training

random = np.random.default_rng(0)
orders = pd.DataFrame({"load": random.normal(size=600), "depot": random.choice(["north", "south"], size=600)})
late = (orders["load"] + random.normal(size=600) > 0.7).astype(float)
asked = pd.Series(pd.date_range("2026-01-01", periods=600, freq="h", tz="UTC"))
folds = training.TimeFolds(4, prediction_time=asked, label_time=asked + pd.Timedelta("5h"))
models = training.candidates(None, numeric=["load"], categorical=["depot"], seed=0)
losses = {
    name: training.cross_validate_in_time(model, orders, target=late, folds=folds)["log_loss"]
    for name, model in models.items()
}
chosen = training.simplest_within_one_standard_error(pd.DataFrame(losses))
print(pd.DataFrame(losses).mean().round(3).to_dict(), "->", chosen)
assert chosen == "logistic_regression"
