"""The closed loop over a stretch of history, in simulated time: serve, log, label, watch, decide, train, release.

    Plan        what is replayed: which batches, under which policy, with which faults
    replay      live through the days of a plan, from where its ledger ends
    Replayed    what came of it: a system with registry and log, and the ledger
    Ledger      what each day brought, one line a day, in a file that only grows

A day of the replay is a day of the service. Rows are asked for, over HTTP or in process, in the order of their times;
labels are sent when they came. In the evening the monitor reads the log, a version on trial is judged, and the policy
decides whether to train. Application, `pipeline`, gate and registry are the real ones; only the clock is not.

`questions` knows what is asked and labelled when and brings it to the service, `evening` decides, and `loop` goes from
day to day.

**Killed at any moment, it goes on.** A day counts once its line is in the ledger. A day that was cut short is lived
again from its morning. What is on record stays as it is, and no step is taken twice: see `evening.Steps`.

>>> plan = Plan(first="2024-07", last="2024-08", policy="monthly")
>>> plan.signature
{'approver': 'policy monthly, all past'}
"""

from .ledger import Ledger, Plan
from .loop import Replayed, replay

__all__ = ["Ledger", "Plan", "Replayed", "replay"]
