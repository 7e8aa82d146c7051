"""Keep what a broken feed sent out of training, and say what was left out."""

import pandas as pd

from mlops_course.operations.retraining import apply, exclusions

asked = pd.to_datetime(["2026-11-02", "2026-11-09"], utc=True)
orders = pd.DataFrame({"id": ["a", "b"], "time": asked, "price": [9.5, 950.0]})
alerts = [{"kind": "unit error", "subject": "price", "since": "2026-11-08", "until": "2026-11-12"}]
left_out = exclusions(alerts, until="2026-11-20")
kept = apply(orders, left_out, time="time")
print(*left_out, kept, sep="\n")
assert kept["price"].isna().tolist() == [False, True]
