"""A registered model as a service: HTTP in front, workers behind, and no reply that is not on record.

    Servable      a model as it is served: what it takes, how it answers, where it comes from
    Rollout       which version answers, and which one is tried beside it
    Watched       what a monitor knows, as a page and as numbers, to be shown beside the service
    Coalescer     one thread that handles together whatever is waiting
    create_app    the FastAPI application, handed its world: how to load a model, where to log, what time it is
    request_type  what a request must look like, made from the inputs in the model's contract

Requests that arrive while a batch is being answered wait together and become the next batch: one vectorised call of the
model, however many they are; then, likewise, one transaction of the log. Nobody waits for a batch to fill. A reply is
sent after its predictions are on disk. When too many wait, or the log does not answer, the caller hears 503 and when to
come again.

The service asks its world every second which version is in charge. A new one is loaded and tried beside the old one and
then takes its place between two batches; one that cannot be loaded or fails its own example is refused, and the old one
stays. A *canary* answers a share of the ids, the same ones each time; where it fails or is slow, the champion answers.

>>> model = Servable(version=1, inputs={"wind": "double"}, optional=["wind"], categories={}, example=[{"wind": 4.5}],
...                  threshold=0.2, predict=lambda rows: [0.3] * len(rows), facts={"data_version": "d1"})
>>> request_type(model).validate_json('{"rows": [{"id": "a", "wind": 7}]}')
{'rows': [{'id': 'a', 'wind': 7.0}]}
>>> app = create_app(load=lambda version: model, current=lambda: Rollout(champion=1), log=None)
>>> sorted(app.openapi()["paths"])
['/feedback', '/live', '/metrics', '/model', '/monitor.json', '/predict', '/ready', '/refresh']
"""

import asyncio
import hmac
import json
import logging
import threading
from collections import Counter as Tally
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from secrets import token_hex
from time import perf_counter, time_ns
from typing import Annotated, Any, NotRequired

import numpy as np
import prometheus_client
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from jinja2 import Environment
from prometheus_client.core import GaugeMetricFamily
from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    NaiveDatetime,
    StrictBool,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

__all__ = ["Coalescer", "FullError", "Rollout", "Servable", "Watched", "create_app", "request_type"]

_logger = logging.getLogger(__name__)

MAX_ROWS = 1_000  # in one request
MAX_BODY = 4 * 2**20  # bytes; a thousand rows of thirty columns are about 0.7 MB
MAX_TEXT = 1_000  # characters of one text input
MAX_WAITING = 20_000  # rows that may wait; the next request hears 503
BATCH_ROWS = 2_000  # that are answered together at most, so that nobody waits long behind a crowd
MAX_ERRORS = 20  # of one request that are spelt out
RETRY_SECONDS = 1
REFRESH_SECONDS = 1.0  # between two questions whether another version is in charge
PATIENCE_SECONDS = 30.0  # before a version that was refused is tried again
LOG_PATIENCE_SECONDS = 5.0  # before a log that failed is tried again without a request
CLOSE_SECONDS = 10.0  # that those who have asked get for their answers when the service ends
WARM = 3  # versions that stay loaded: champion, challenger, and the champion before
CHALLENGER_SECONDS = 1.0  # that a canary has for its answer before the champion gives one
CANARY = "canary"  # the mode of a rollout in which a challenger answers some requests
BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5)  # seconds

_STRICT = ConfigDict(extra="forbid", strict=True)  # no type is guessed, no unknown field passed over
Id = Annotated[str, Field(pattern=r"^[!-~]{1,100}$", description="letters, digits and signs of ASCII, without space")]
_MOMENT = r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
TYPES: Mapping[str, Any] = {
    "double": Annotated[float, Field(allow_inf_nan=False)],
    "long": Annotated[int, Field(ge=-(2**63), le=2**63 - 1)],
    "boolean": StrictBool,
    "string": Annotated[str, Field(max_length=MAX_TEXT)],
    "datetime": Annotated[  # JSON Schema's own date-time has a zone
        NaiveDatetime,
        WithJsonSchema({"type": "string", "pattern": _MOMENT, "description": "date and time without zone, ISO 8601"}),
    ],
}


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


def request_type(model: Servable) -> TypeAdapter:
    """What the body of a prediction request must look like: rows with the inputs of the contract and an optional id.

    No type is guessed: a number in quotes is no number. Unknown fields are refused, or a misspelt optional one would
    count as missing.
    """
    fields: dict[str, Any] = {"id": NotRequired[Id]}
    for name, kind in model.inputs.items():
        fields[name] = NotRequired[TYPES[kind] | None] if name in model.optional else TYPES[kind]
    row = TypedDict("Row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]

    class PredictionRequest(TypedDict):
        __pydantic_config__ = _STRICT  # type: ignore[misc]
        rows: Annotated[list[row], Field(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]

    return TypeAdapter(PredictionRequest)


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time between the years 1 and 9999 in UTC") from None


class Label(TypedDict):
    """What came of a prediction."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    id: Id
    label: Annotated[int, Field(ge=0, le=1)]
    time: NotRequired[Annotated[AwareDatetime, AfterValidator(_in_utc)]]


class Feedback(TypedDict):
    """Labels of predictions, in any order."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_ROWS)]


class Prediction(TypedDict):
    """The answer to one row: the decision is true from the model's threshold on."""

    id: str
    probability: Annotated[float, Field(ge=0, le=1)]
    decision: bool
    model_version: int


class PredictionReply(TypedDict):
    """One answer for each row, in the order of the rows."""

    predictions: list[Prediction]


class FeedbackReply(TypedDict):
    """How many labels are on record, and the ids for which no prediction is, so far."""

    labels: int
    without_prediction: list[str]


_FEEDBACK = TypeAdapter(Feedback)
ANSWER = tuple(Prediction.__annotations__)


# One thread for all that wait -----------------------------------------------------------------------------------------


class FullError(RuntimeError):
    """So much is waiting that more would only wait longer."""


class Coalescer:
    """One thread that handles together whatever is waiting, and gives each caller its own outcome.

    `handle` takes a list of items to a list with the outcome of each, in order; an exception in that list, or raised by
    `handle` for a single item, is raised to the caller. If `handle` raises for several items at once, each is tried by
    itself, so that one bad item does not fail the others.
    """

    def __init__(
        self, handle: Callable[[list[Any]], list[Any]], *, name: str, most: int = BATCH_ROWS, waiting: int = MAX_WAITING
    ) -> None:
        self._handle, self._most, self._room = handle, most, waiting
        self._items: deque[tuple[Any, int, asyncio.Future, asyncio.AbstractEventLoop]] = deque()
        self._rows, self._open, self._wake = 0, True, threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._rows

    def submit(self, item: Any, *, rows: int) -> asyncio.Future:
        """Queue an item of so many rows; the future gives its outcome. Raises FullError if there is no room."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._wake:
            if not self._open or (self._rows and self._rows + rows > self._room):
                raise FullError(f"{self._rows} rows are waiting")
            self._items.append((item, rows, future, loop))
            self._rows += rows
            self._wake.notify()
        return future

    def close(self, *, seconds: float = 10.0) -> None:
        """Take nothing more, and wait until what is queued has been handled."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._take():
            outcomes = self._outcomes([item for item, *_ in batch])
            for loop in {loop for *_, loop in batch}:
                settled = [
                    (future, outcome)
                    for (_, _, future, own), outcome in zip(batch, outcomes, strict=True)
                    if own is loop
                ]
                try:
                    loop.call_soon_threadsafe(_settle, settled)
                except RuntimeError:  # that loop was closed: nobody is left to hear
                    _logger.debug("the callers of %d items have gone", len(settled))

    def _take(self) -> list[tuple]:
        with self._wake:
            self._wake.wait_for(lambda: self._items or not self._open)
            batch, rows = [], 0
            while self._items and (not batch or rows + self._items[0][1] <= self._most):
                batch.append(self._items.popleft())
                rows += batch[-1][1]
            self._rows -= rows
            return batch

    def _outcomes(self, items: list[Any]) -> list[Any]:
        try:
            return self._handle(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [outcome for item in items for outcome in self._outcomes([item])]


def _settle(settled: list[tuple[asyncio.Future, Any]]) -> None:
    for future, outcome in settled:
        if future.done():  # the caller has gone
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


# The service ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Live:
    """A model that has been loaded and tried, with the type of its requests."""

    model: Servable
    request: TypeAdapter

    @property
    def version(self) -> int:
        return self.model.version

    def probabilities(self, rows: list[dict[str, Any]]) -> np.ndarray:
        probability = np.asarray(self.model.predict(rows), dtype=float)
        if probability.shape != (len(rows),) or not ((probability >= 0) & (probability <= 1)).all():
            raise ValueError(f"expected {len(rows)} probabilities of version {self.version}, got {probability}")
        return probability


@dataclass(frozen=True, eq=False)
class _Now:
    """Who answers at this moment; replaced as a whole, so that a request sees one state only."""

    champion: _Live | None = None
    canary: _Live | None = None
    rollout: Rollout = field(default_factory=lambda: Rollout(champion=None))
    since: datetime | None = None


class _Metrics:
    """What GET /metrics tells, in a registry of its own, so that two applications do not share counts."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        self.latency = prometheus_client.Histogram(
            "request_seconds", "Time until the answer, by path", ["path"], buckets=BUCKETS, registry=registry
        )
        self.rows = prometheus_client.Counter("predictions", "Rows answered", ["model_version"], registry=registry)
        self.batches = prometheus_client.Counter("batches", "Batches that they came in", registry=registry)
        self.errors = prometheus_client.Counter("errors", "Requests refused or failed", ["kind"], registry=registry)
        self.labels = prometheus_client.Counter("labels", "Labels recorded", registry=registry)
        self.waiting = prometheus_client.Gauge("waiting_rows", "Rows that wait for an answer", registry=registry)
        self.version = prometheus_client.Gauge("model_version", "Version in each role", ["role"], registry=registry)
        self.unknown = prometheus_client.Counter(
            "unknown_categories", "Values that training never saw", ["feature"], registry=registry
        )
        self.missing = prometheus_client.Counter("missing_values", "Absent values", ["feature"], registry=registry)
        self.fallbacks = prometheus_client.Counter(
            "canary_fallbacks", "Rows of the canary that the champion had to answer", registry=registry
        )

    def count_inputs(self, model: Servable, rows: Sequence[Mapping[str, Any]]) -> None:
        """What is missing or unknown in rows that the model has answered."""
        for name in model.optional:
            if absent := [row.get(name) for row in rows].count(None):
                self.missing.labels(name).inc(absent)
        for name, known in model.categories.items():
            values = [row.get(name) for row in rows]
            for unknown in set(values).difference(known, [None]):
                self.unknown.labels(name).inc(values.count(unknown))

    def count_answers(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Answers that are on record."""
        self.batches.inc()
        for version, rows in Tally(record["model_version"] for record in kept).items():
            self.rows.labels(version).inc(rows)


class _Service:
    """The state behind the application: which models are live, and the worker that answers and logs."""

    def __init__(
        self,
        *,
        load: Callable[[int], Servable],
        current: Callable[[], Rollout],
        log: Any,
        clock: Callable[[], datetime],
        challenger_seconds: float | None,
    ) -> None:
        self._load, self._current, self.log, self.clock = load, current, log, clock
        self._challenger_seconds = challenger_seconds
        self._name, self._numbers = token_hex(8), count()  # of new ids, which grow, as an index likes them to
        self._asked = 0  # requests that are being answered
        self.metrics = _Metrics()
        self.now = _Now()
        self.refused: dict[str, str] = {}  # version, or "registry": why
        self._patience: dict[str, float] = {}  # when a refused version gets another try
        self.log_trouble, self._try_log_at = "", 0.0
        self._warm: dict[int, _Live] = {}  # by version, the last used at the end: switching back needs no file
        self._refreshing = threading.Lock()
        self.champions: Coalescer | None = None
        self.canaries: Coalescer | None = None
        self.keeper: Coalescer | None = None

    # Which model is live

    def refresh(self, *, again: bool = False) -> None:
        """Take up what the world says now; `again` gives what was refused another try."""
        if self.log_trouble and perf_counter() > self._try_log_at:
            self._try_log()
        with self._refreshing:
            try:
                rollout = self._current()
            except Exception as error:
                self._refuse("registry", error)
                return
            wanted = {str(rollout.champion), str(rollout.challenger)}
            self._patience = {} if again else self._patience
            before = self.now
            champion = self._live(rollout.champion) or before.champion
            canary = self._live(rollout.challenger if rollout.mode == CANARY else None)
            if canary and champion and canary.model.inputs != champion.model.inputs:
                self._refuse(str(canary.version), ValueError("expected a canary with the inputs of the champion"))
                canary = None
            wanted -= {str(live.version) for live in (champion, canary) if live}
            self.refused = {version: why for version, why in self.refused.items() if version in wanted}
            changed = champion is not before.champion
            self.now = _Now(champion, canary, rollout, self.clock() if changed else before.since)
            for role, live in {"champion": champion, "canary": canary}.items():
                self.metrics.version.labels(role).set(live.version if live else 0)
            if changed:
                _tell(logging.INFO, "champion", version=champion.version)

    def _live(self, version: int | None) -> _Live | None:
        """The model of a version, loaded and tried on its example; None if there is none or it is refused."""
        if version is None:
            return None
        if version not in self._warm:
            if perf_counter() < self._patience.get(str(version), 0):
                return None
            try:
                model = self._load(version)
                live = _Live(model, request_type(model))
                live.probabilities(live.request.validate_json(to_json({"rows": list(model.example)}))["rows"])
            except Exception as error:
                self._refuse(str(version), error)
                return None
            self._warm[version] = live
        self._warm[version] = self._warm.pop(version)
        for forgotten in list(self._warm)[:-WARM]:
            del self._warm[forgotten]
        return self._warm[version]

    def _refuse(self, version: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._patience[version] = perf_counter() + PATIENCE_SECONDS
        if self.refused.get(version) != why:
            self.refused = {**self.refused, version: why}
            _tell(logging.ERROR, "refused", version=version, why=why)

    # How it answers

    def start(self) -> None:
        self.champions = Coalescer(self._predict, name="champion")
        self.canaries = Coalescer(self._predict, name="canary")
        self.keeper = Coalescer(self._keep, name="log")

    async def close(self) -> None:
        """Take nothing more, once those who have asked have their answers."""
        deadline = perf_counter() + CLOSE_SECONDS
        while self._asked and perf_counter() < deadline:
            await asyncio.sleep(0.01)
        for coalescer in (self.canaries, self.champions, self.keeper):
            await asyncio.to_thread(coalescer.close)

    async def predict(self, now: _Now, rows: list[dict[str, Any]], *, started: float) -> list[dict[str, Any]]:
        """The answers to rows that have been checked, once they are on record."""
        self._asked += 1
        try:
            return await self._answer(now, rows, started=started)
        finally:
            self._asked -= 1

    async def _answer(self, now: _Now, rows: list[dict[str, Any]], *, started: float) -> list[dict[str, Any]]:
        ids = [row.pop("id", None) or f"{time_ns():x}-{self._name}-{next(self._numbers)}" for row in rows]
        answers: dict[int, tuple[float, _Live]] = {}  # by position: the probability, and who gave it
        taken = np.flatnonzero(now.rollout.takes(ids)).tolist() if now.canary else []
        if taken:
            answers = await self._ask_canary(now.canary, rows, taken)
        if open_ := [at for at in range(len(rows)) if at not in answers]:
            questions = [rows[at] for at in open_]
            probability = await self.champions.submit((now.champion, questions), rows=len(questions))
            answers |= {at: (p, now.champion) for at, p in zip(open_, probability, strict=True)}
        shared = {
            "time": self.clock(),
            "share": now.rollout.share if now.canary else 0.0,
            "latency_ms": (perf_counter() - started) * 1e3,
        }
        records = [
            {
                **shared,
                "id": name,
                "assigned_version": now.canary.version if at in taken else now.champion.version,
                "model_version": answers[at][1].version,
                "probability": answers[at][0],
                "decision": answers[at][0] >= answers[at][1].model.threshold,
                "inputs": to_json(row).decode(),
            }
            for at, (name, row) in enumerate(zip(ids, rows, strict=True))
        ]
        return await self.keeper.submit(records, rows=len(records))

    async def _ask_canary(
        self, canary: _Live, rows: list[dict[str, Any]], taken: list[int]
    ) -> dict[int, tuple[float, _Live]]:
        """The canary's answers to some rows; none if anything goes wrong, so that the champion gives them."""
        try:
            future = self.canaries.submit((canary, [rows[at] for at in taken]), rows=len(taken))
            probability = await asyncio.wait_for(future, self._challenger_seconds)
        except Exception as error:
            self.metrics.fallbacks.inc(len(taken))
            _tell(logging.WARNING, "canary failed", version=canary.version, why=str(error) or type(error).__name__)
            return {}
        return {at: (p, canary) for at, p in zip(taken, probability, strict=True)}

    def _predict(self, items: list[tuple[_Live, list[dict[str, Any]]]]) -> list[list[float]]:
        """The probabilities of each item, in one call of each model for all that wait."""
        outcomes: dict[int, list[float]] = {}
        answered: list[tuple[Servable, list[dict[str, Any]]]] = []
        for live in dict.fromkeys(live for live, _ in items):
            own = {at: rows for at, (asked, rows) in enumerate(items) if asked is live}
            together = [row for rows in own.values() for row in rows]
            try:
                probability = iter(live.probabilities(together).tolist())
            except Exception as error:  # of any type: a ValueError, say, is the model's here and not the caller's
                raise _NoAnswerError(f"version {live.version} failed: {type(error).__name__}") from error
            outcomes |= {at: list(islice(probability, len(rows))) for at, rows in own.items()}
            answered.append((live.model, together))
        for model, together in answered:  # not before all are, as one failure has every item tried again
            self.metrics.count_inputs(model, together)
        return [outcomes[at] for at in range(len(items))]

    def _keep(self, answers: list[list[dict[str, Any]]]) -> list[Any]:
        """The records of each request once they are kept, in one transaction, or the error that it got instead."""
        try:
            known = self.log.append([record for records in answers for record in records])
        except ValueError as conflict:  # one caller's fault is not the others'
            return [conflict] if len(answers) == 1 else [kept for records in answers for kept in self._keep([records])]
        except Exception as error:
            self._note_log(f"{type(error).__name__}: {error}")
            return [_NotKeptError(str(error))] * len(answers)
        self._note_log("")
        kept = [[known.get(record["id"], record) for record in records] for records in answers]
        self.metrics.count_answers(record for records in kept for record in records)
        return kept

    def _try_log(self) -> None:
        """Write nothing to a log that failed: where /ready says 503, no request may come to find it well again."""
        try:
            self.log.append([])
        except Exception as error:
            self._note_log(f"{type(error).__name__}: {error}")
        else:
            self._note_log("")

    def _note_log(self, trouble: str) -> None:
        if bool(trouble) != bool(self.log_trouble):
            _tell(logging.ERROR if trouble else logging.INFO, "log", trouble=trouble or "none")
        self.log_trouble, self._try_log_at = trouble, perf_counter() + LOG_PATIENCE_SECONDS


class _NoAnswerError(RuntimeError):
    """A model failed on rows that fit its contract."""


class _NotKeptError(RuntimeError):
    """The log did not take it."""


def _tell(level: int, event: str, **facts: Any) -> None:
    """One line for the log of the process, for a machine to read; never an input, an id or an address."""
    _logger.log(level, event, extra={"facts": facts})


# The application ------------------------------------------------------------------------------------------------------


def create_app(
    *,
    load: Callable[[int], Servable],
    current: Callable[[], Rollout],
    log: Any,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    token: str = "",
    refresh_seconds: float = REFRESH_SECONDS,
    challenger_seconds: float | None = CHALLENGER_SECONDS,
    title: str = "Model service",
    stopped: Callable[[], None] = lambda: None,
    watched: Watched | None = None,
) -> FastAPI:
    """The application, for any ASGI server: POST /predict, /feedback and /refresh, GET /live, /ready, /model, /metrics.

    If it is `watched`, GET /monitor shows the page of that, /monitor.json its state, and /metrics has its gauges too.

    `current` says which versions answer and is asked every `refresh_seconds`, in a thread; `load` loads one. `log` has
    `append(predictions, labels=...)`, which returns once they are on disk, and by id those that were there before; it
    raises ValueError for a caller's contradiction and anything else if it cannot keep them. Where a canary takes longer
    than `challenger_seconds`, the champion answers; None waits without end. With a `token`, predict, feedback and
    refresh want it as a bearer token. Nothing is loaded before the server starts the application, and
    `stopped` is called when it has ended.
    """
    service = _Service(load=load, current=current, log=log, clock=clock, challenger_seconds=challenger_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        await asyncio.to_thread(service.refresh)
        refresher = asyncio.create_task(_refresh_forever(service, refresh_seconds))
        yield
        refresher.cancel()
        await service.close()
        await asyncio.to_thread(stopped)

    app = FastAPIOffline(title=title, lifespan=lifespan, redoc_url=None)
    app.state.service, app.state.watched = service, watched
    app.openapi = lambda: _openapi(app, service, secured=bool(token))
    _add_predict(app, service, token)
    _add_feedback(app, service, token)
    _add_pages(app, service, token)
    _add_monitor(app, watched)
    if watched:
        service.metrics.registry.register(watched)
    return app


async def _refresh_forever(service: _Service, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(service.refresh)


def _add_predict(app: FastAPI, service: _Service, token: str) -> None:
    @app.post(
        "/predict", tags=[ASK], summary="Ask for predictions", response_model=PredictionReply, responses=_REFUSALS
    )
    async def predict(request: Request) -> Response:
        """Probability and decision for each row, once they are on record. Asking again with the same id is harmless."""
        started = perf_counter()
        try:
            _authorise(request, token)
            if (now := service.now).champion is None:
                raise _unavailable("no model is in charge")
            rows = now.champion.request.validate_json(await _body(request))["rows"]
            records = await service.predict(now, rows, started=started)
        except Exception as error:
            raise _refusal(error, service) from error
        service.metrics.latency.labels("/predict").observe(perf_counter() - started)
        answers = [{name: record[name] for name in ANSWER} for record in records]
        return Response(to_json({"predictions": answers}), media_type="application/json")


def _add_feedback(app: FastAPI, service: _Service, token: str) -> None:
    @app.post(
        "/feedback", tags=[ASK], summary="Tell what came of them", response_model=FeedbackReply, responses=_REFUSALS
    )
    async def feedback(request: Request) -> Response:
        """Keep labels by the id of their prediction, whenever they come; sending them again is harmless."""
        started = perf_counter()
        try:
            _authorise(request, token)
            labels = _FEEDBACK.validate_json(await _body(request))["labels"]
            now = service.clock()
            waiting = await asyncio.to_thread(_keep_labels, service, [{"time": now, **label} for label in labels])
        except Exception as error:
            raise _refusal(error, service) from error
        service.metrics.labels.inc(len(labels))
        service.metrics.latency.labels("/feedback").observe(perf_counter() - started)
        return JSONResponse({"labels": len(labels), "without_prediction": sorted(waiting)})


def _keep_labels(service: _Service, labels: list[dict[str, Any]]) -> set[str]:
    """Keep labels; returns the ids without a prediction, asked first, so that a log that fails there keeps nothing."""
    try:
        waiting = service.log.unpredicted([label["id"] for label in labels])
        service.log.append(labels=labels)
        return waiting
    except ValueError:
        raise
    except Exception as error:
        raise _NotKeptError(str(error)) from error


def _add_pages(app: FastAPI, service: _Service, token: str) -> None:
    @app.get("/live", tags=[LOOK], summary="Is it running?")
    async def live() -> dict[str, bool]:
        """Whether the process answers at all."""
        return {"live": True}

    @app.get("/ready", tags=[LOOK], summary="Does it answer?", responses={503: {"description": "not now"}})
    async def ready() -> Response:
        """Whether predictions are answered, and what has been refused meanwhile."""
        champion = service.now.champion
        fine = champion is not None and not service.log_trouble
        state = {
            "ready": fine,
            "version": champion.version if champion else None,
            "refused": service.refused,
            "log": service.log_trouble or "ok",
        }
        return JSONResponse(state, status_code=200 if fine else 503)

    @app.get("/model", tags=[LOOK], summary="Which model is in charge?", responses={503: {"description": "none"}})
    async def model() -> Response:
        """The version in charge: its contract, where it comes from, since when; and what is tried beside it."""
        if service.now.champion is None:
            raise _unavailable("no model is in charge")
        return JSONResponse(_about(service.now))

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        about = _about(service.now) if service.now.champion else None
        return HTMLResponse(_PAGE.render(title=app.title, about=about, service=service, watched=app.state.watched))

    @app.get("/metrics", tags=[LOOK], summary="Counts and times")
    async def metrics() -> Response:
        """Counts and times in the format of Prometheus."""
        waiting = (service.champions, service.canaries, service.keeper)
        service.metrics.waiting.set(sum(coalescer.waiting for coalescer in waiting))
        text = await asyncio.to_thread(prometheus_client.generate_latest, service.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.post("/refresh", tags=[LOOK], summary="Look for a new version now", responses={401: _REFUSALS[401]})
    async def refresh(request: Request) -> Response:
        """Look at once which version is in charge, and give what was refused another try."""
        _authorise(request, token)
        await asyncio.to_thread(service.refresh, again=True)
        return JSONResponse(
            {"version": service.now.champion.version if service.now.champion else None, "refused": service.refused}
        )


def _add_monitor(app: FastAPI, watched: Watched | None) -> None:
    def shown(how: Callable[[Mapping[str, Any]], Any]) -> Any:
        """The state as `how` shows it; to be called in a thread, as a page takes as long as many answers."""
        if watched is None:
            raise HTTPException(404, "nobody watches this service")
        try:
            known = watched.state()
            told = None if known is None else how(known)
        except Exception as error:
            raise _unavailable(f"the monitor does not answer: {type(error).__name__}: {error}") from error
        if told is None:
            raise _unavailable("the monitor has not looked yet")
        return told

    @app.get("/monitor", include_in_schema=False)
    async def monitor() -> HTMLResponse:
        try:
            return HTMLResponse(await asyncio.to_thread(shown, lambda known: watched.page(known)))
        except HTTPException as refused:
            page = _NO_MONITOR.render(title=app.title, why=refused.detail)
            return HTMLResponse(page, refused.status_code, refused.headers)

    missing = {404: {"description": "nobody watches"}, 503: {"description": "nothing is known yet"}}

    @app.get("/monitor.json", tags=[LOOK], summary="Drift, performance, alerts", responses=missing)
    async def state() -> Response:
        """What the monitor knows: traffic, drift, performance, slices and alerts."""
        text = await asyncio.to_thread(shown, lambda known: to_json(known, inf_nan_mode="null"))
        return Response(text, media_type="application/json")


def _about(now: _Now) -> dict[str, Any]:
    model, rollout = now.champion.model, now.rollout
    tried = {"version": rollout.challenger, "as": rollout.mode, "share": rollout.share, "so far": rollout.note}
    return {
        "version": model.version,
        "since": now.since.isoformat(),
        "threshold": model.threshold,
        "inputs": dict(model.inputs),
        "optional": list(model.optional),
        "categories": {name: len(values) for name, values in model.categories.items()},
        **model.facts,
        "challenger": tried if rollout.mode else None,
    }


# What is refused, and how it is said ----------------------------------------------------------------------------------

ASK, LOOK = "Predictions", "State"  # headings of the documentation
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "the bearer token is missing or wrong"},
    409: {"description": "an id was used for something else; nothing was kept"},
    413: {"description": f"more than {MAX_BODY} bytes"},
    415: {"description": "the body is compressed"},
    422: {"description": "a field is missing, unknown or of another type; nothing was kept"},
    503: {"description": "busy, or the log does not answer; nothing was kept: come again after Retry-After seconds"},
}


def _authorise(request: Request, token: str) -> None:
    if token and not hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "expected the bearer token of this service", {"WWW-Authenticate": "Bearer"})


async def _body(request: Request) -> bytes:
    """The body, read no further than it may be long."""
    if any(name == b"content-encoding" and value != b"identity" for name, value in request.scope["headers"]):
        raise HTTPException(415, "expected a body that is not compressed")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise HTTPException(413, f"expected {MAX_BODY} bytes at most; send the rows in several requests")
    except ClientDisconnect:
        raise HTTPException(400, "the caller hung up") from None
    return bytes(body)


def _unavailable(why: str) -> HTTPException:
    return HTTPException(503, why, {"Retry-After": str(RETRY_SECONDS)})


def _refusal(error: Exception, service: _Service) -> Exception:
    """What the caller is told of an error, counted by its kind."""
    match error:
        case HTTPException():
            told = error
        case ValidationError():
            told = HTTPException(422, _defects(error))
        case ValueError():
            told = HTTPException(409, str(error))
        case FullError():
            told = _unavailable(f"busy: {error}")
        case _NotKeptError():
            told = _unavailable("the prediction log does not answer; nothing was kept")
        case _:
            told = error
    service.metrics.errors.labels(str(told.status_code) if isinstance(told, HTTPException) else "500").inc()
    return told


def _defects(error: ValidationError) -> list[dict[str, Any]]:
    """Field, expectation and value of each defect, in FastAPI's form; a value is shown as text and cut short."""
    defects = error.errors(include_url=False, include_context=False)
    told = [
        {
            "loc": ["body", *(part[:100] if isinstance(part, str) else part for part in defect["loc"])],
            "msg": defect["msg"],
            "type": defect["type"],
            "input": repr(defect["input"])[:100],
        }
        for defect in defects[:MAX_ERRORS]
    ]
    return json.loads(json.dumps(told).encode(errors="replace"))


# How it describes itself ----------------------------------------------------------------------------------------------


def _openapi(app: FastAPI, service: _Service, *, secured: bool) -> dict[str, Any]:
    """The description of the interface, with the request of the model that is in charge now."""
    described = get_openapi(title=app.title, version="1", description=_DESCRIPTION, routes=app.routes)
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    bodies: dict[str, tuple[TypeAdapter, Any]] = {"/feedback": (_FEEDBACK, {"labels": [{"id": "a1", "label": 1}]})}
    if champion := service.now.champion:
        bodies["/predict"] = (champion.request, {"rows": [{"id": "a1", **champion.model.example[0]}]})
    for path, (adapter, example) in bodies.items():
        schema = adapter.json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[schema["title"]] = schema
        content = {"schema": {"$ref": f"#/components/schemas/{schema['title']}"}, "example": example}
        described["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": content}}
    if secured:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in ("/predict", "/feedback", "/refresh"):
            described["paths"][path]["post"]["security"] = [{"token": []}]
    return described


_DESCRIPTION = (
    "A prediction is answered once it is on record. Give each row an id, and asking again is harmless: the first "
    "answer counts. Send the label under the same id when it is known."
)
_NO_MONITOR = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root { color-scheme: light dark; font: 1.5rem/1.4 system-ui, sans-serif } body { margin: 3rem }</style>
<h1>{{ title }}</h1><p>Nothing to show: {{ why }}.</p></html>"""
)
_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h1 { margin-bottom: 0 } .state { color: #555; margin-top: .2rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem }
td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
th { width: 14rem; font-weight: 600 } td { overflow-wrap: anywhere }
.bad { border-left: .3rem solid #D55E00; padding: .3rem .8rem; background: #fdf1ea } nav a { margin-right: 1rem }
</style>
<h1>{{ title }}</h1>
{% if about %}<p class="state">Version {{ about.version }} answers, since {{ about.since[:19] }} UTC.</p>
{% else %}<p class="bad">No model is in charge.</p>{% endif %}
<nav>
<a href="docs">Try it</a><a href="model">Model as JSON</a><a href="ready">Ready?</a><a href="metrics">Metrics</a>
{% if watched %}<a href="monitor">Monitor</a>{% endif %}
</nav>
{% for version, why in service.refused.items() %}<p class="bad">Refused {{ version }}: {{ why }}</p>{% endfor %}
{% if service.log_trouble %}<p class="bad">The prediction log does not answer: {{ service.log_trouble }}</p>{% endif %}
{% if about %}
{% if about.challenger %}<h2>Tried beside it</h2><table>
{% for name, value in about.challenger.items() %}<tr><th>{{ name }}<td>{{ value }}{% endfor %}</table>{% endif %}
<h2>The model</h2><table>
{% for name, value in about.items() if name not in ("version", "since", "optional", "challenger")
and value is not mapping %}
<tr><th>{{ name.replace("_", " ") }}<td>{{ value }}{% endfor %}</table>
<h2>What it takes</h2><table>
{% for name, kind in about.inputs.items() %}
<tr><th>{{ name }}<td>{{ kind }}{% if name in about.categories %}, {{ about.categories[name] }} values known{% endif %}
{{- ", may be missing" if name in about.optional }}{% endfor %}</table>
{% for group, values in about.items() if values is mapping and group not in ("inputs", "categories", "challenger") %}
<h2>{{ group.replace("_", " ").capitalize() }}</h2><table>
{% for name, value in values.items() %}<tr><th>{{ name }}<td>{{ value }}{% endfor %}</table>{% endfor %}
{% endif %}</html>"""
)
