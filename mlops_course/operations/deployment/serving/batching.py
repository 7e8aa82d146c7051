"""Many requests in one call of the model."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_WAITING = 20_000  # rows that may wait; the next request gets 503
BATCH_ROWS = 2_000  # that are answered together at most, so that nobody waits long behind a crowd


class QueueFullError(RuntimeError):
    """So much is waiting that more would only wait longer."""


class Batcher:
    """One thread that handles together all items that wait, and gives each caller its own outcome.

    `handle` takes a list of items and returns a list of outcomes, of which an exception is raised to its caller. If
    `handle` raises for several items at once, each is tried by itself, so that a bad one does not fail the others.
    """

    def __init__(self, handle: Callable[[list[Any]], list[Any]], *, name: str) -> None:
        self._handle, self._max_waiting = handle, MAX_WAITING
        self._items: deque[tuple[Any, int, asyncio.Future]] = deque()
        self.waiting = 0  # rows
        self._open, self._changed = True, threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Any, *, rows: int) -> asyncio.Future:
        """Queue an item of so many rows; the future gives its outcome. Raises QueueFullError if there is no room."""
        future = asyncio.get_running_loop().create_future()
        with self._changed:
            if not self._open or (self.waiting and self.waiting + rows > self._max_waiting):
                raise QueueFullError(f"{self.waiting} rows are waiting")
            self._items.append((item, rows, future))
            self.waiting += rows
            self._changed.notify()
        return future

    def close(self, *, seconds: float = 10.0) -> None:
        """Take nothing more, and wait until what is queued has been handled."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._take():
            outcomes = self._outcomes([item for item, *_ in batch])
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future, Any]]] = {}
            for (_, _, future), outcome in zip(batch, outcomes, strict=True):
                by_loop.setdefault(future.get_loop(), []).append((future, outcome))
            for loop, settled in by_loop.items():
                with contextlib.suppress(RuntimeError):  # the loop was closed: no caller is left
                    loop.call_soon_threadsafe(_settle, settled)

    def _take(self) -> list[tuple]:
        with self._changed:
            self._changed.wait_for(lambda: self._items or not self._open)
            batch, rows = [], 0
            while self._items and (not batch or rows + self._items[0][1] <= BATCH_ROWS):
                batch.append(self._items.popleft())
                rows += batch[-1][1]
            self.waiting -= rows
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
