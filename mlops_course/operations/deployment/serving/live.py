"""The versions that answer now, and the way of a row from the request to the log."""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, islice
from secrets import token_hex
from time import perf_counter, time_ns
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import to_json

from .batching import Coalescer
from .errors import _NoAnswerError, _NotKeptError
from .events import _tell
from .handed import CANARY, Rollout, Servable
from .metrics import _Metrics
from .requests import request_type

PATIENCE_SECONDS = 30.0  # before a version that was refused is tried again
LOG_PATIENCE_SECONDS = 5.0  # before a log that failed is tried again without a request
CLOSE_SECONDS = 10.0  # that those who have asked get for their answers when the service ends
WARM = 3  # versions that stay loaded: champion, challenger, and the champion before
CHALLENGER_SECONDS = 1.0  # that a canary has for its answer before the champion gives one


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
                "inputs": row,
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
