"""Split rows by time, without labels that were not known yet at the cut."""

import pandas as pd

from mlops_course.development import features

asked = pd.Series(pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"))
orders = pd.DataFrame({"asked": asked, "delivered": asked + pd.Timedelta("5D")})
cut = pd.Timestamp("2026-02-01", tz="UTC")
past, future = features.split_by_time(orders, cut, prediction_time="asked", label_time="delivered")
print(len(past), "to train on,", len(future), "to test on,", len(orders) - len(past) - len(future), "in neither")
assert past["delivered"].max() <= cut <= future["asked"].min()
