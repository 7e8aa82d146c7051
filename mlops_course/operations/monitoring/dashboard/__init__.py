"""The dashboard of a monitor: a page to leave open, plots for notebooks, and gauges for other programs.

    live_page      one self-contained HTML page: open alerts, what to do first, traffic, drift, performance
    export         the same as gauges with labels, for Prometheus
    plot_alerts    when each alert was raised, beside the true faults if they are known
    plot_traffic   rows a day, and the share of them that was decided positively

All of them take the state of a monitor in plain values that survive JSON; None stands for an unknown value. `live_page`
lists the keys. The page loads nothing: its short script only asks the page's own address for the next state.

>>> state = {"title": "Orders", "now": "2024-05-02T08:00:00+00:00", "unit": "EUR per order", "alerts": [],
...          "traffic": [{"day": "2024-05-01", "rows": 912, "positive_rate": 0.21}]}
>>> page = live_page(state)
>>> "All quiet" in page, "912" in page
(True, True)
>>> [(gauge, value) for gauge, _, labels, value in export(state) if not labels][:3]
[('monitor_time_seconds', 1714636800.0), ('monitor_alerts_open', 0.0), ('monitor_rows', 912.0)]
"""

from .gauges import export
from .page import live_page
from .plots import plot_alerts, plot_traffic

__all__ = ["export", "live_page", "plot_alerts", "plot_traffic"]
