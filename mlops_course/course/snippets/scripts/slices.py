"""Find the group of rows that a model serves worst, and leave out those that are too small to tell."""

import numpy as np
import pandas as pd

from mlops_course.development import evaluation

random = np.random.default_rng(0)
depot = random.choice(["north", "south", "east"], size=2_000, p=[0.6, 0.395, 0.005])
probability = random.random(2_000)
late = (random.random(2_000) < np.where(depot == "south", 0.5, probability)).astype(int)
table = evaluation.by_slice(
    late, probability, slices=pd.DataFrame({"depot": depot}), threshold=0.2, false_alarm=15, missed=60, min_rows=100,
    seed=0,
)  # fmt: skip
print(table[["value", "rows", "roc_auc", "roc_auc_low", "roc_auc_high", "note"]].round(2))
worst = table.sort_values("roc_auc").iloc[0]
assert worst["value"] == "south"
