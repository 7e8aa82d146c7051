"""Evaluation: how good the probabilities are, how sure we are of it, and where they are worse.

    one model     `measure` gives every metric of METRICS, `intervals` adds how far each would move on other days,
                  `calibration` the calibration error beside what chance makes of it, and how far all is too high
    row by row    `log_losses`
    its parts     `by_slice` asks the same of each supplier or region
    two models    `compare` scores candidate and champion on the same rows: interval of the paired difference
    all of it     `evidence` collects the tables that a gate judges
    pictures      `plot_reliability`, `plot_slices`

Everywhere `target` is 0 or 1, `probability` is the predicted probability of a 1, and a row is acted upon when its
probability reaches `threshold`. `false_alarm` is the cost of acting on a 0, `missed` of not acting on a 1, both net:
what they cost more than the right decision for the same row. Inputs of different rows, and values that are no target or
probability, raise ValueError.

>>> import numpy as np
>>> rng = np.random.default_rng(7)
>>> probability = rng.uniform(size=5_000)
>>> target = rng.uniform(size=5_000) < probability  # calibrated by construction
>>> costs = {"threshold": 0.2, "false_alarm": 15, "missed": 60}
>>> float(measure(target, probability, **costs)["roc_auc"].round(2))
0.82
>>> intervals(target, probability, **costs, seed=7).loc["roc_auc"].round(2).tolist()
[0.82, 0.81, 0.83]
"""

from .evidence import by_slice, compare, evidence
from .metrics import METRICS, brier_score, calibration_error, expected_cost, log_losses, measure
from .plots import plot_reliability, plot_slices
from .uncertainty import calibration, intervals

__all__ = [
    "METRICS",
    "brier_score",
    "by_slice",
    "calibration",
    "calibration_error",
    "compare",
    "evidence",
    "expected_cost",
    "intervals",
    "log_losses",
    "measure",
    "plot_reliability",
    "plot_slices",
]
