"""What a service is made from: models, a rollout, a monitor and settings."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from .guard import LOCAL

_logger = logging.getLogger(__package__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Title, token, names and times of a service.

    It answers under the names and addresses in `hosts` only; `host_names` makes them from where it listens. With a
    token, only GET /live and GET /ready are open to callers without it.

    The service asks which versions answer every `refresh_seconds`. Where a canary takes longer than
    `challenger_seconds`, the champion answers; None waits without end.

    Raises ValueError for a token that does not fit into a header.
    """

    title: str = "Model service"
    token: str = ""
    hosts: Sequence[str] = LOCAL
    refresh_seconds: float = 1.0
    challenger_seconds: float | None = 1.0

    def __post_init__(self) -> None:
        if not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip()):
            raise ValueError("expected a token of printable ASCII characters, without spaces at its ends, got another")


@dataclass(frozen=True, eq=False)
class Servable:
    """A model as it is served, with its contract; `facts` is what GET /model tells beside that.

    `predict` takes a list of rows, as `request_type` leaves them, and returns their probabilities. `own_rows` makes
    rows as callers may write them into rows of `inputs`, before they are checked.
    """

    version: int
    inputs: Mapping[str, str]
    optional: Sequence[str]
    categories: Mapping[str, Sequence[str]]
    example: Sequence[Mapping[str, Any]]
    threshold: float
    predict: Callable[[list[Mapping[str, Any]]], Sequence[float]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    own_rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None


@dataclass(frozen=True)
class Rollout:
    """Which version answers, and which one is tried beside it in the mode "shadow" or "canary".

    `takes` says of each id whether the canary answers it. `note` is for people.
    """

    champion: int | None
    challenger: int | None = None
    mode: str = ""
    share: float = 0.0
    takes: Callable[[Sequence[str]], Sequence[bool]] = field(default=lambda ids: [False] * len(ids), compare=False)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where the models come from: which versions answer, and how to load one. `close` is called at the end."""

    current: Callable[[], Rollout]
    load: Callable[[int], Servable]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class MonitorView:
    """What a monitor knows (`state`, quick to call), as a page and as name, help, labels and value for GET /metrics."""

    state: Callable[[], Mapping[str, Any] | None]
    page: Callable[[Mapping[str, Any]], str]
    gauges: Callable[[Mapping[str, Any]], Iterable[tuple[str, str, Mapping[str, str], float]]]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges as Prometheus takes them; none if the monitor fails."""
        families: dict[str, GaugeMetricFamily] = {}
        try:
            state = self.state()
            for name, help_text, labels, value in self.gauges(state) if state else ():
                family = families.setdefault(name, GaugeMetricFamily(name, help_text, labels=list(labels)))
                family.add_metric(list(labels.values()), value)
        except Exception as error:  # a monitor that fails must not take the measurements of the service with it
            _logger.warning("monitor", extra={"facts": {"why": f"{type(error).__name__}: {error}"}})
            return
        yield from families.values()
