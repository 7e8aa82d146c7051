"""What a service is handed: models, a rollout, and what a monitor knows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from .events import _logger

CANARY = "canary"  # the mode of a rollout in which a challenger answers some requests


@dataclass(frozen=True, eq=False)
class Servable:
    """A model as it is served.

    `inputs`, `optional`, `categories`, `example` and `threshold` are those of its contract. `predict` takes a list of
    rows, as `request_type` leaves them, to their probabilities. `facts` is what GET /model tells beside these.
    """

    version: int
    inputs: Mapping[str, str]
    optional: Sequence[str]
    categories: Mapping[str, Sequence[str]]
    example: Sequence[Mapping[str, Any]]
    threshold: float
    predict: Callable[[list[Mapping[str, Any]]], Sequence[float]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def _nobody(ids: Sequence[str]) -> Sequence[bool]:
    return [False] * len(ids)


@dataclass(frozen=True)
class Rollout:
    """Which version answers, and which one is tried beside it.

    `mode` is "", "shadow" or "canary". `takes` says of each id whether the canary answers it. `note` is for people.
    """

    champion: int | None
    challenger: int | None = None
    mode: str = ""
    share: float = 0.0
    takes: Callable[[Sequence[str]], Sequence[bool]] = field(default=_nobody, compare=False)
    note: str = ""


@dataclass(frozen=True)
class Watched:
    """What a monitor knows: `state` gives it (None as long as nothing is known), and is cheap to ask.

    `page` makes a page of a state, `gauges` name, help, labels and value of each number for GET /metrics.
    """

    state: Callable[[], Mapping[str, Any] | None]
    page: Callable[[Mapping[str, Any]], str]
    gauges: Callable[[Mapping[str, Any]], Iterable[tuple[str, str, Mapping[str, str], float]]]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as Prometheus takes them; none if the state cannot be had."""
        families: dict[str, GaugeMetricFamily] = {}
        try:
            state = self.state()
            for name, said, labels, value in self.gauges(state) if state else ():
                family = families.setdefault(name, GaugeMetricFamily(name, said, labels=list(labels)))
                family.add_metric(list(labels.values()), value)
        except Exception as error:  # what is watched must not take the measurements of the service with it
            _logger.warning("monitor", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
            return
        yield from families.values()
