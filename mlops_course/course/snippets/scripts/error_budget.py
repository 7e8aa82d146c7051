"""Say how much may still go wrong before a promise is broken."""

from mlops_course import design

budget = design.error_budget(0.999, total=40_000, failed=25)  # 99.9 % of the answers of a month were promised
print(f"{budget.left:.0f} failures left of {budget.allowed:.0f}")
assert round(budget.left) == 15
