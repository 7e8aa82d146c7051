"""Counters and latencies for Prometheus."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .interface import Servable

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5)  # seconds


class _Metrics:
    """What GET /metrics tells, in a registry of its own, so that two applications do not share counts."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.latency = Histogram(
            "request_seconds", "Time until the answer, by path", ["path"], buckets=BUCKETS, registry=registry
        )
        self.rows = Counter("predictions", "Rows answered", ["model_version"], registry=registry)
        self.batches = Counter("batches", "Batches that they came in", registry=registry)
        self.errors = Counter("errors", "Requests refused or failed", ["kind"], registry=registry)
        self.labels = Counter("labels", "Labels recorded", registry=registry)
        self.waiting = Gauge("waiting_rows", "Rows that wait for an answer", registry=registry)
        self.version = Gauge("model_version", "Version in each role", ["role"], registry=registry)
        self.unknown = Counter("unknown_categories", "Values that training never saw", ["feature"], registry=registry)
        self.missing = Counter("missing_values", "Absent values", ["feature"], registry=registry)
        self.fallbacks = Counter(
            "canary_fallbacks", "Rows of the canary that the champion had to answer", registry=registry
        )

    def count_refusal(self, status: int) -> None:
        """Count a request that was refused or failed."""
        self.errors.labels(str(status)).inc()

    def count_inputs(self, model: Servable, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count what is missing or unknown in rows that the model has answered."""
        for name in model.optional:
            if absent := [row.get(name) for row in rows].count(None):
                self.missing.labels(name).inc(absent)
        for name, known in model.categories.items():
            values = [row.get(name) for row in rows]
            for unknown in set(values).difference(known, [None]):
                self.unknown.labels(name).inc(values.count(unknown))

    def count_predictions(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Count predictions that are on record."""
        self.batches.inc()
        for version, rows in Tally(record["model_version"] for record in kept).items():
            self.rows.labels(version).inc(rows)
