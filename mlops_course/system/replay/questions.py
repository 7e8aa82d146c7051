"""The rows and labels of a plan, and how those of a day are sent to the service, in process or over HTTP."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd
from anyio.from_thread import start_blocking_portal
from pydantic_core import to_json

from mlops_course.operations.deployment import serving, streaming
from mlops_course.system import drill, pipeline, scoring
from mlops_course.system.system import System

from .ledger import Plan

if TYPE_CHECKING:
    from fastapi import FastAPI

Post = Callable[[str, bytes], httpx.Response]  # of a path and a body

DAY = pd.Timedelta("1D")
CALLS = {"headers": {"content-type": "application/json"}, "timeout": None}  # of a client that asks
INTERVAL = pd.Timedelta("3h")  # between two requests; each asks for all that is due until the next


@dataclass
class Clock:
    """Simulated time: it stands still until it is set."""

    now: datetime

    def __call__(self) -> datetime:
        """The moment at which it stands."""
        return self.now


@dataclass(frozen=True, eq=False)
class Questions:
    """What a plan asks and when: its rows, with the faults of the plan, and what of them is known at a moment."""

    system: System
    plan: Plan

    @cached_property
    def case(self) -> ModuleType:
        """The case with the faults of the plan."""
        return drill.with_faults(self.system.case, self.plan.faults)

    @cached_property
    def before(self) -> list[str]:
        """The batches before the plan, on which the first champion is trained."""
        names = self.system.case.batches()
        return names[: names.index(self.plan.first)]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows that are asked, in the order of the case."""
        names = self.case.batches()
        during = names[names.index(self.plan.first) : names.index(self.plan.last) + 1]
        rows = pipeline.prediction_rows(self.case, [self.before[-1], *during], workspace=self.system.workspace)
        return rows[rows["batch"].isin(during)].reset_index(drop=True)

    @cached_property
    def events(self) -> pd.DataFrame:
        """When each row is asked and when its label comes, in order of time."""
        timing = self.system.specification.timing
        return streaming.timeline(self.rows, asked=timing.prediction_time, labelled=timing.label_time)

    @property
    def begin(self) -> pd.Timestamp:
        """The morning of the first day."""
        return self.events["time"].iloc[0].floor("D")

    def days(self) -> pd.DatetimeIndex:
        """The days of the plan; the last one is that of the last label."""
        days = pd.date_range(self.begin, self.events["time"].iloc[-1].floor("D"))
        return days[days < pd.Timestamp(self.plan.until, tz="UTC")] if self.plan.until else days

    def complete(self, now: pd.Timestamp) -> list[str]:
        """The batches that can be trained on at a moment: their last label has come."""
        known = self.rows.groupby("batch")[self.system.specification.timing.label_time].max()
        return [*self.before, *known.index[known <= now]]

    def labelled_rows(self, batches: Sequence[str]) -> int:
        """How many rows of some batches ever get a label."""
        label = self.system.specification.target.column
        return int(self.rows.loc[self.rows["batch"].isin(batches), label].notna().sum())


@dataclass(frozen=True, eq=False)
class Desk:
    """Who asks the service and tells it the labels, by the simulated clock."""

    questions: Questions
    clock: Clock
    post: Post

    def serve(self, day: pd.Timestamp) -> dict[str, int]:
        """Send the labels and the questions of a day; how many rows were answered and how many refused."""
        self.clock.now = day.to_pydatetime()
        self._send("/refresh", b"")
        times, rows = self.questions.events["time"], self.questions.rows
        specification = self.questions.system.specification
        events = self.questions.events.iloc[times.searchsorted(day) : times.searchsorted(day + DAY)]
        answered = refused = 0
        for _, part in events.groupby(events["time"].dt.floor(INTERVAL)):
            self.clock.now = part["time"].iloc[-1].to_pydatetime()
            known = rows.iloc[part.loc[part["kind"] == streaming.LABELLED, "row"]]
            due = rows.iloc[part.loc[part["kind"] == streaming.ASKED, "row"]]
            for labels in _parts(scoring.label_records(known, specification)):
                self._send("/feedback", to_json({"labels": labels}))
            for asked in _parts(scoring.plain_records(due[["id", *specification.inputs.all]])):
                missed = self._ask(asked)
                answered, refused = answered + len(asked) - missed, refused + missed
        return {"answered": answered, "refused": refused}

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Ask for some rows, and for each by itself if they are refused together; how many are refused."""
        response = self._send("/predict", to_json({"rows": rows}), may_refuse=True)
        if response.is_success:
            return 0
        return 1 if len(rows) == 1 else sum(self._ask([row]) for row in rows)

    def _send(self, path: str, body: bytes, *, may_refuse: bool = False) -> httpx.Response:
        """The service's answer. Raises RuntimeError if it has none, as the day cannot go on without."""
        response = self.post(path, body)
        if response.is_success or (may_refuse and response.status_code == httpx.codes.UNPROCESSABLE_ENTITY):
            return response
        raise RuntimeError(
            f"expected the service to answer {path} at {self.clock.now}, got {response.status_code}: "
            f"{response.text[:500]}; see to it, and start the replay again: it goes on from this day"
        )


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in parts, each no larger than a request may be."""
    return (rows[start : start + serving.MAX_ROWS] for start in range(0, len(rows), serving.MAX_ROWS))


@contextmanager
def _in_process(app: "FastAPI") -> Iterator[Post]:
    """A way to post to the application without a network: every part of it runs but the socket.

    It runs in a thread of its own, as the caller, in a notebook, may have an event loop that runs.
    """
    through = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1", **CALLS)
    with (
        start_blocking_portal(name="replayed application") as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(through) as client,
    ):
        yield lambda path, body: portal.call(partial(client.post, path, content=body))


@contextmanager
def _over_http(app: "FastAPI", began: Callable[[str], None]) -> Iterator[Post]:
    """A way to post to the application through a real server on a free port of this machine."""
    import uvicorn

    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="replayed service")
        thread.start()
        try:
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            began(url)
            with httpx.Client(base_url=url, **CALLS) as client:
                yield lambda path, body: client.post(path, content=body)
        finally:
            server.should_exit = True
            thread.join()
