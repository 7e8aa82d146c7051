"""Join what was known when the question was asked, and nothing later."""

import pandas as pd

from mlops_course.development import features

orders = pd.DataFrame({"asked": pd.to_datetime(["2026-03-01T10:00Z", "2026-03-01T15:00Z"])})
prices = pd.DataFrame({"known": pd.to_datetime(["2026-03-01T09:00Z", "2026-03-01T11:00Z"]), "diesel": [1.61, 1.66]})
joined = orders.join(features.as_of(orders, prices, at="asked", available="known", columns=["diesel"]))
print(joined)
assert joined["diesel"].tolist() == [1.61, 1.66]
