"""The application of a system, and the process that serves it."""

import gc
import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mlops_course.operations.deployment import serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import dashboard
from mlops_course.system.system import System

from .models import servable
from .processes import _log_as_json
from .releases import _Releases
from .watcher import _Watcher

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True)
class Endpoint:
    """Where a service listens, and the bearer token that its callers must send; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""


def application(
    system: System,
    *,
    log: PredictionLog,
    token: str = "",
    loaded: Callable[[], None] = lambda: None,
    by_itself: bool = True,
    watched: Callable[[], Mapping[str, Any] | None] | None = None,
) -> "FastAPI":
    """The application that answers with the champion of `system`, and follows its registry.

    `loaded` is called after a model was loaded, and `watched` gives the state of a monitor. Close the log when the
    application has ended.

    Unless it goes on `by_itself`, it looks at the registry only when POST /refresh asks it to, leaves `follow_shadow`
    and `step_canary` to its caller, and waits for the answer of a canary as long as it takes: in simulated time a day
    may pass within a second.
    """
    releases = _Releases(system, log, by_itself=by_itself)

    def load(version: int) -> serving.Servable:
        model = servable(system.registry.load(version))
        loaded()
        return model

    def page(state: Mapping[str, Any]) -> str:
        return dashboard.live_page(state, at=system.clock())

    name = system.specification.name
    times = {} if by_itself else {"refresh_seconds": math.inf, "challenger_seconds": None}
    return serving.create_app(
        serving.ModelSource(current=releases.current, load=load, close=releases.stop),
        log,
        settings=serving.Settings(title=name[:1].upper() + name[1:], token=token, **times),
        clock=system.clock,
        monitor=serving.MonitorView(watched, page, dashboard.export) if watched else None,
    )


def run(
    system: System,
    *,
    log_url: str,
    endpoint: Endpoint | None = None,
    watch: bool = True,
    started: Callable[[str], None] = print,
    prepare: Callable[["FastAPI"], None] = lambda app: None,
) -> None:
    """Serve the champion of `system` until Ctrl-C or SIGTERM.

    `started` is told the address once requests are answered; `prepare` may add routes of one's own before. With
    `watch`, a process beside the service follows the log, and /monitor shows what it finds. Log lines go to standard
    error, one JSON object each.
    """
    import uvicorn

    _log_as_json()
    endpoint = endpoint or Endpoint()
    log = PredictionLog(log_url)
    watcher = _Watcher(system, log) if watch else None
    watched = watcher.state if watcher else None
    app = application(system, log=log, token=endpoint.token, loaded=_freeze_memory, watched=watched)
    prepare(app)
    config = uvicorn.Config(app, host=endpoint.host, port=endpoint.port, log_config=None, access_log=False)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                address, bound, *_ = self.servers[0].sockets[0].getsockname()
                started(f"http://{address}:{bound}")

        def handle_exit(self, sig: int, frame: Any) -> None:
            # As uvicorn does, but without raising the signal again at the end: to be stopped is no failure
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True

    try:
        with threadpool_limits(1):  # one core answers a request: waking others takes longer than the answer
            Server(config).run()
    finally:
        if watcher:
            watcher.stop()
        log.close()


def _freeze_memory() -> None:
    """Keep the garbage collector from what stays for good: to look at all of it stops every thread for 0.25 s."""
    gc.collect()
    gc.freeze()
