"""Count what happened lately, as of each question, with one code path for training and service."""

import pandas as pd

from mlops_course.development import features

orders = pd.DataFrame({"asked": pd.to_datetime(["2026-03-01T10:00Z", "2026-03-01T15:00Z"]), "depot": "north"})
delays = pd.DataFrame(
    {
        "known": pd.to_datetime(["2026-03-01T08:30Z", "2026-03-01T09:30Z", "2026-03-01T14:00Z"]),
        "depot": ["north", "south", "north"],
        "minutes": [10.0, 99.0, 30.0],
    }
)
three_hours = pd.Timedelta("3h")
lately = features.recent(orders, delays, at="asked", available="known", window=three_hours, by="depot", value="minutes")
print(orders.join(lately))
assert lately["mean"].tolist() == [10.0, 30.0]
