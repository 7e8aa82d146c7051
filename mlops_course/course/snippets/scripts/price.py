"""Price building and running a model, and say how many answers pay for it."""

import pandas as pd

from mlops_course import design

items = pd.DataFrame(
    {
        "item": ["build", "watch and mend", "machine"],
        "quantity": [30, 12, 12],
        "unit": ["day", "day", "month"],
        "unit_price": [600, 600, 40],
        "paid": ["once", "yearly", "yearly"],
    }
)
cost = design.operating_cost(items, years=2)["cost"].sum()
answers = design.break_even_volume(cost, value=0.8, variable_cost=0.05)
print(f"{cost:,.0f} EUR in two years, paid for by {answers:,} answers")
assert answers > cost
