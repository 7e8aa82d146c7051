"""Say how far the inputs of now have moved from those of the reference, column by column."""

import numpy as np
import pandas as pd

from mlops_course.operations.monitoring import drift

random = np.random.default_rng(0)
trained = pd.DataFrame({"price": random.normal(20, 5, 5_000), "shop": random.choice(["a", "b"], 5_000)})
now = pd.DataFrame({"price": 1.2 * random.normal(20, 5, 800), "shop": random.choice(["a", "c"], 800)})
bins = drift.reference(trained, numeric=["price"], categorical=["shop"])
moved = drift.drift(drift.summarise(now, bins))
print(moved[["psi", "ks"]].round(2))
assert (moved["psi"] > 0.25).all()  # called shifted
