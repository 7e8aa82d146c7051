"""Watch inputs day by day, and raise an alarm that names column and kind, within a budget of false ones."""

import numpy as np
import pandas as pd

from mlops_course.operations.monitoring import alerting, signals

random = np.random.default_rng(0)
asked = pd.Series(pd.date_range("2026-01-01", periods=20_000, freq="10min", tz="UTC"))
orders = pd.DataFrame({"time": asked, "load": random.normal(20, 5, 20_000), "depot": random.choice(["a", "b"], 20_000)})
columns = {"numeric": ["load"], "datetimes": [], "categorical": ["depot"]}
quiet_until = pd.Timestamp("2026-04-01", tz="UTC")
broken = orders.assign(load=orders["load"].where(asked < "2026-05-01", orders["load"] * 1.609))
known = signals.profile(orders[asked < quiet_until], **columns)
daily = signals.of_inputs(broken, known)
quiet = daily[daily.index < quiet_until]
bars = alerting.calibrate(quiet, a_year=1.0)
found = alerting.find(daily, bars, first=quiet_until)
for alert in found:
    print(f"{alert.raised:%Y-%m-%d}", alert.text)
assert len(found) == 1
