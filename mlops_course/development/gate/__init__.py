"""The gate: what a candidate must show before it may replace the champion, and the papers it gets.

    behaviour    `invariance`, `direction`, `minimum_functionality` test what the model does, not how often it is right
    speed        `latency` times single rows
    judgement    `gate` holds the evidence against the bars and answers with reasons
    paper        `model_card` writes down what was found, for those who will rely on the model

The gate reads plain tables and measures nothing itself. So it judges any model, and its rules can be tried without one:

>>> import pandas as pd
>>> metrics = pd.DataFrame({"value": [0.71], "low": [0.69], "high": [0.73]}, index=["roc_auc"])
>>> report = gate({"metrics": metrics}, {"min_roc_auc": 0.75, "max_latency_ms": 50}, latency_ms=8.5)
>>> report.passed
False
>>> print(*report.reasons, sep="\\n")
min_roc_auc: 0.71 is not at least 0.75
"""

from .behaviour import BehaviourResult, direction, invariance, latency, minimum_functionality
from .model_card import model_card
from .verdict import BARS, GateReport, gate

__all__ = [
    "BARS",
    "BehaviourResult",
    "GateReport",
    "direction",
    "gate",
    "invariance",
    "latency",
    "minimum_functionality",
    "model_card",
]
