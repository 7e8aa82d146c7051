"""The gate: what a candidate must show before it may replace the champion, and its model card.

    behaviour    `invariance`, `direction`, `minimum_functionality` test what the model does, not how often it is right
    speed        `latency` times single rows
    verdict      `gate` compares the evidence with the bars; `objections` gives the reasons of its checks
    model card   `model_card` says what the model is for and what was found, for people who will rely on it

*Evidence* is what was measured of a model, as tables. The gate measures nothing itself, so it judges any model:

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
from .verdict import BARS, GateReport, gate, objections

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
    "objections",
]
