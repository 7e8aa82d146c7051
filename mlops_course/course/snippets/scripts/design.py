"""Programs to take to work with the stages of design. A line `# %%` begins each; it gets the imports it uses."""

import pandas as pd

from mlops_course import design

# %% specification: Read a specification, and list every question that it leaves open.
wish = """
name: returns desk
slos: fast enough
"""
try:
    design.parse_specification(wish)
except design.SpecificationError as error:
    missing = [line for line in error.defects if "is missing" in line]
    print(len(missing), "questions to ask, such as:", missing[0])
assert len(missing) > 10

# %% error_budget: Say how much may still go wrong before a promise is broken.
budget = design.error_budget(0.999, total=40_000, failed=25)  # 99.9 % of the answers of a month were promised
print(f"{budget.left:.0f} failures left of {budget.allowed:.0f}")
assert round(budget.left) == 15

# %% rank: Rank ideas by value, feasibility and risk, with the uncertainty that the numbers have.
ideas = pd.DataFrame({"name": ["returns", "stock", "chat"]})
ideas[["value_low", "value_high"]] = [(20, 60), (10, 90), (5, 30)]  # thousand EUR a year; in any unit the order stays
ideas[["feasibility_low", "feasibility_high"]] = [(0.6, 0.9), (0.3, 0.9), (0.7, 0.9)]
ideas[["risk_low", "risk_high"]] = [(0.0, 0.2), (0.0, 0.1), (0.0, 0.3)]
ranked = design.rank_use_cases(ideas, draws=10_000, seed=0)
print(ranked.round(2))
assert ranked["name"].iloc[-1] == "chat"

# %% price: Price building and running a model, and say how many answers pay for it.
items = pd.DataFrame({"item": ["build", "watch and mend", "machine"], "paid": ["once", "yearly", "yearly"]})
items = items.assign(quantity=[30, 12, 12], unit=["day", "day", "month"], unit_price=[600, 600, 40])
cost = design.operating_cost(items, years=2)["cost"].sum()
answers = design.break_even_volume(cost, value=0.8, variable_cost=0.05)
print(f"{cost:,.0f} EUR in two years, paid for by {answers:,} answers")
assert answers > cost
