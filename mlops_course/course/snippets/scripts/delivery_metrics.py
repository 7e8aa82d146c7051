"""Measure delivery by five metrics, from a log in any order."""

import pandas as pd

from mlops_course.operations import delivery

start, end = pd.Timestamp("2026-11-01", tz="UTC"), pd.Timestamp("2026-12-01", tz="UTC")
events = [
    ("restored", "2026-11-05T15:00Z", None, None, "i1"),
    ("deployed", "2026-11-05T10:00Z", "c1", "d1", None),
    ("committed", "2026-11-04T10:00Z", "c1", None, None),
    ("failed", "2026-11-05T12:00Z", None, "d1", "i1"),
]
log = pd.DataFrame(events, columns=["kind", "time", "commit", "deployment", "incident"])
found = delivery.metrics(log.assign(time=pd.to_datetime(log["time"])), start=start, end=end)
print(found.table)
assert found.table["value"].notna().all()
