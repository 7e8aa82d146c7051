"""The state behind the application: which models answer now, and the way of a row from the request to the log."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice
from secrets import token_hex
from time import perf_counter, time_ns
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import to_json

from .batching import Batcher
from .interface import ModelSource, Rollout, Servable
from .metrics import _Metrics
from .requests import request_type

_logger = logging.getLogger(__package__)  # its lines are for machines: never an input, an id or an address

RELOAD_SECONDS = 30.0  # before a version that was refused is tried again
LOG_RETRY_SECONDS = 5.0  # before a log that failed is tried again without a request
CLOSE_SECONDS = 10.0  # for requests on their way when the service ends
MODELS_KEPT = 3  # versions that stay loaded: champion, challenger, and the champion before


class _ModelFailedError(RuntimeError):
    """A model failed on rows that fit its contract."""


class _NotKeptError(RuntimeError):
    """The log kept nothing of it."""


@dataclass(frozen=True, eq=False)
class _Loaded:
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
class _Active:
    """The models that answer at this moment; replaced as a whole, so that a request sees one state only."""

    champion: _Loaded | None = None
    canary: _Loaded | None = None
    rollout: Rollout = field(default_factory=lambda: Rollout(champion=None))
    since: datetime | None = None


class _Service:
    """Loads the models that are to answer, answers rows in batches, and keeps the predictions."""

    def __init__(
        self, source: ModelSource, log: Any, *, clock: Callable[[], datetime], challenger_seconds: float | None
    ) -> None:
        self.source, self.log, self.clock, self.challenger_seconds = source, log, clock, challenger_seconds
        self._name, self._numbers = token_hex(8), count()  # of new ids, which grow, as an index likes them to
        self._open_requests = 0
        self.metrics = _Metrics()
        self.active = _Active()
        self.refused: dict[str, str] = {}  # version, or "registry": why
        self._reload_at: dict[str, float] = {}  # when a refused version is tried again
        self.log_trouble, self._retry_log_at = "", 0.0
        self._loaded: dict[int, _Loaded] = {}  # by version, the last used at the end: switching back loads no file
        self._refreshing = threading.Lock()
        self.champions = self.canaries = self.recorder = None  # each a Batcher once the service has started

    # Which models answer

    def refresh(self, *, again: bool = False) -> None:
        """Take up what the source says now; `again` gives what was refused another try."""
        if self.log_trouble and perf_counter() > self._retry_log_at:
            with contextlib.suppress(_NotKeptError):
                self._append([])  # where /ready says 503, no request may come that finds the log well again
        with self._refreshing:
            try:
                rollout = self.source.current()
            except Exception as error:
                self._refuse("registry", error)
                return
            wanted = {str(rollout.champion), str(rollout.challenger)}
            self._reload_at = {} if again else self._reload_at
            before = self.active
            champion = self._load(rollout.champion) or before.champion
            canary = self._load(rollout.challenger if rollout.mode == "canary" else None)
            if canary and champion and canary.model.inputs != champion.model.inputs:
                self._refuse(str(canary.version), ValueError("expected a canary with the inputs of the champion"))
                canary = None
            wanted -= {str(loaded.version) for loaded in (champion, canary) if loaded}
            self.refused = {version: why for version, why in self.refused.items() if version in wanted}
            changed = champion is not before.champion
            self.active = _Active(champion, canary, rollout, self.clock() if changed else before.since)
            for role, loaded in {"champion": champion, "canary": canary}.items():
                self.metrics.version.labels(role).set(loaded.version if loaded else 0)
            if changed:
                _logger.info("champion", extra={"facts": {"version": champion.version}})

    def _load(self, version: int | None) -> _Loaded | None:
        """The model of a version, tried on its example; None if there is none or it is refused."""
        if version is None:
            return None
        if version not in self._loaded:
            if perf_counter() < self._reload_at.get(str(version), 0):
                return None
            try:
                model = self.source.load(version)
                loaded = _Loaded(model, request_type(model))
                loaded.probabilities(loaded.request.validate_json(to_json({"rows": list(model.example)}))["rows"])
            except Exception as error:
                self._refuse(str(version), error)
                return None
            self._loaded[version] = loaded
        self._loaded[version] = self._loaded.pop(version)
        for forgotten in list(self._loaded)[:-MODELS_KEPT]:
            del self._loaded[forgotten]
        return self._loaded[version]

    def _refuse(self, version: str, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._reload_at[version] = perf_counter() + RELOAD_SECONDS
        if self.refused.get(version) != why:
            self.refused = {**self.refused, version: why}
            _logger.error("refused", extra={"facts": {"version": version, "why": why}})

    # How rows are answered

    def start(self) -> None:
        self.champions = Batcher(self._predict_batch, name="champion")
        self.canaries = Batcher(self._predict_batch, name="canary")
        self.recorder = Batcher(self._keep_batch, name="log")

    async def close(self) -> None:
        """Take nothing more, once open requests have their responses."""
        deadline = perf_counter() + CLOSE_SECONDS
        while self._open_requests and perf_counter() < deadline:
            await asyncio.sleep(0.01)
        for batcher in (self.canaries, self.champions, self.recorder):
            await asyncio.to_thread(batcher.close)

    async def predict(self, active: _Active, rows: list[dict[str, Any]], *, started: float) -> list[dict[str, Any]]:
        """The predictions for rows that have been checked, once they are on record."""
        self._open_requests += 1
        try:
            predictions = await self._answer(active, rows, started=started)
            return await self.recorder.submit(predictions, rows=len(predictions))
        finally:
            self._open_requests -= 1

    async def _answer(self, active: _Active, rows: list[dict[str, Any]], *, started: float) -> list[dict[str, Any]]:
        ids = [row.pop("id", None) or f"{time_ns():x}-{self._name}-{next(self._numbers)}" for row in rows]
        answers: dict[int, tuple[float, _Loaded]] = {}  # by position: the probability, and which model gave it
        taken = np.flatnonzero(active.rollout.takes(ids)).tolist() if active.canary else []
        if taken:
            answers = await self._ask_canary(active.canary, rows, taken)
        if left := [at for at in range(len(rows)) if at not in answers]:
            questions = [rows[at] for at in left]
            probability = await self.champions.submit((active.champion, questions), rows=len(questions))
            answers |= {at: (p, active.champion) for at, p in zip(left, probability, strict=True)}
        share = active.rollout.share if active.canary else 0.0
        shared = {"time": self.clock(), "share": share, "latency_ms": (perf_counter() - started) * 1e3}
        return [
            {
                **shared,
                "id": name,
                "inputs": row,
                "assigned_version": active.canary.version if at in taken else active.champion.version,
                "model_version": answers[at][1].version,
                "probability": answers[at][0],
                "decision": answers[at][0] >= answers[at][1].model.threshold,
            }
            for at, (name, row) in enumerate(zip(ids, rows, strict=True))
        ]

    async def _ask_canary(
        self, canary: _Loaded, rows: list[dict[str, Any]], taken: list[int]
    ) -> dict[int, tuple[float, _Loaded]]:
        """The canary's answers to some rows; none if anything goes wrong, so that the champion gives them."""
        try:
            future = self.canaries.submit((canary, [rows[at] for at in taken]), rows=len(taken))
            probability = await asyncio.wait_for(future, self.challenger_seconds)
        except Exception as error:
            self.metrics.fallbacks.inc(len(taken))
            facts = {"version": canary.version, "why": str(error) or type(error).__name__}
            _logger.warning("canary failed", extra={"facts": facts})
            return {}
        return {at: (p, canary) for at, p in zip(taken, probability, strict=True)}

    def _predict_batch(self, items: list[tuple[_Loaded, list[dict[str, Any]]]]) -> list[list[float]]:
        """The probabilities of each item, in one call of each model for all that wait."""
        outcomes: dict[int, list[float]] = {}
        answered: list[tuple[Servable, list[dict[str, Any]]]] = []
        for loaded in dict.fromkeys(loaded for loaded, _ in items):
            own = {at: rows for at, (asked, rows) in enumerate(items) if asked is loaded}
            together = [row for rows in own.values() for row in rows]
            try:
                probability = iter(loaded.probabilities(together).tolist())
            except Exception as error:  # of any type: a ValueError, say, is the model's here and not the caller's
                raise _ModelFailedError(f"version {loaded.version} failed: {type(error).__name__}") from error
            outcomes |= {at: list(islice(probability, len(rows))) for at, rows in own.items()}
            answered.append((loaded.model, together))
        for model, together in answered:  # not before all are answered, as one failure has every item tried again
            self.metrics.count_inputs(model, together)
        return [outcomes[at] for at in range(len(items))]

    # How predictions and labels are kept

    def _keep_batch(self, requests: list[list[dict[str, Any]]]) -> list[Any]:
        """The predictions of each request once all are kept in one transaction, or the error that it got instead."""
        try:
            known = self._append([prediction for predictions in requests for prediction in predictions])
        except ValueError as conflict:  # one caller's fault is not the others'
            if len(requests) == 1:
                return [conflict]
            return [kept for predictions in requests for kept in self._keep_batch([predictions])]
        except _NotKeptError as error:
            return [error] * len(requests)
        kept = [[known.get(prediction["id"], prediction) for prediction in predictions] for predictions in requests]
        self.metrics.count_predictions(prediction for predictions in kept for prediction in predictions)
        return kept

    def _append(self, predictions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Keep predictions, and note whether the log took them; by id, those that were on record before."""
        try:
            with _log_errors_as_one():
                known = self.log.append(predictions)
        except _NotKeptError as error:
            self._note_log(str(error))
            raise
        self._note_log("")
        return known

    def keep_labels(self, labels: list[dict[str, Any]]) -> set[str]:
        """Keep labels; returns the ids without a prediction, asked first: a log that fails there keeps nothing."""
        with _log_errors_as_one():
            without_prediction = self.log.unpredicted([label["id"] for label in labels])
            self.log.append(labels=labels)
        return without_prediction

    def _note_log(self, trouble: str) -> None:
        if bool(trouble) != bool(self.log_trouble):
            level = logging.ERROR if trouble else logging.INFO
            _logger.log(level, "log", extra={"facts": {"trouble": trouble or "none"}})
        self.log_trouble, self._retry_log_at = trouble, perf_counter() + LOG_RETRY_SECONDS


@contextlib.contextmanager
def _log_errors_as_one() -> Iterator[None]:
    """Leave a caller's contradiction as it is, and turn whatever else the log raises into one error."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise _NotKeptError(f"{type(error).__name__}: {error}") from error
