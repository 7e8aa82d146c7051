"""Refuse a bad batch, and set bad rows aside with their reason."""

import pandas as pd
import pandera.pandas as pa

from mlops_course.development import validation

batch = {"orders": pd.DataFrame({"id": [1, 2, 3], "price": [9.5, -1.0, 20.0]})}
price = pa.Column(float, pa.Check.ge(0, name="not negative"), metadata={"severity": "quarantine"})
schema = pa.DataFrameSchema({"id": pa.Column(int, unique=True), "price": price})
report = validation.validate(batch, {"orders": schema}, quarantine_limit=0.5)
report.raise_if_stopped()
clean, aside = validation.quarantine(batch, report)
print(aside["orders"])
assert len(clean["orders"]) == 2
