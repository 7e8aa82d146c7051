"""The monitor of a running system: follows the prediction log, and says what has moved and how good the answers are.

    Monitor          what is known of the days so far: drift, signals, alerts, performance, state, report
    Monitor.of       one for a system, as if it had been there from the first release on
    reference_rows   the rows that a registered version was made from, as the reference
    input_names      what a monitor calls the inputs of a case: never as it calls its own columns

    monitor = Monitor.of(system)
    monitor.read(log)
    monitor.alerts(monitor.end)

Each row counts once, however late it comes. What a monitor says of a moment rests on rows and labels of before that
moment. It keeps nothing that the log does not hold, so one that starts again says the same.

Two references answer two questions. Drift compares with the training sample of the champion: how far is the world from
what the model has learnt? Alarms compare with the four weeks before: what has changed at once? A season is drift, and
no alarm.
"""

from .monitor import Monitor
from .rows import input_names, reference_rows

__all__ = ["Monitor", "input_names", "reference_rows"]
