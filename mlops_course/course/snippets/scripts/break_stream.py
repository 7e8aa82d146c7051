"""Break a stream on purpose, to see whether anybody notices."""

import pandas as pd

from mlops_course.operations.monitoring import faults

asked = pd.date_range("2026-03-01", periods=240, freq="h", tz="UTC")
orders = pd.DataFrame({"id": [f"order {n}" for n in range(240)], "asked": asked, "load": 20.0, "late": 0.0})
orders["known"] = orders["asked"] + pd.Timedelta("5h")
drill = [
    faults.Fault("unit error", "2026-03-03", "2026-03-05", column="load", size=1.609),
    faults.Fault("silent null", "2026-03-07", "2026-03-08", column="load", size=0.5),
]
broken = faults.inject(orders, drill, time="asked", label="late", label_time="known", seed=0)
print(broken.groupby(broken["asked"].dt.date)["load"].agg(["mean", "count"]).round(1))
assert (broken["load"] != orders["load"]).sum() == 48 + broken["load"].isna().sum()
