"""Rank ideas by value, feasibility and risk, with the uncertainty that the numbers have."""

import pandas as pd

from mlops_course import design

ideas = pd.DataFrame(
    {
        "name": ["returns", "stock", "chat"],
        "value_low": [20, 10, 5],  # thousand EUR a year, or any unit: the order stays
        "value_high": [60, 90, 30],
        "feasibility_low": [0.6, 0.3, 0.7],
        "feasibility_high": [0.9, 0.9, 0.9],
        "risk_low": 0.0,
        "risk_high": [0.2, 0.1, 0.3],
    }
)
ranked = design.rank_use_cases(ideas, draws=10_000, seed=0)
print(ranked.round(2))
assert ranked["name"].iloc[-1] == "chat"
