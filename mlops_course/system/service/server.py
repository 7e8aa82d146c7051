"""The application of a system: what the registry says is to be served, looked at once a second, and how it runs."""

import gc
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mlops_course.operations.deployment import rollout, serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import dashboard
from mlops_course.operations.registry import Trial
from mlops_course.system.system import System

from .canary import _Canary
from .models import servable
from .processes import _log_as_json, _Watcher
from .shadow import _Shadow

if TYPE_CHECKING:
    from fastapi import FastAPI


MANY_FILES = 65_536  # open at once at most, connections among them
DRAIN_SECONDS = 10  # that requests may still take when the service is told to stop


@dataclass(frozen=True)
class Endpoint:
    """Where a service listens, the bearer token that its callers must send, and other names that it goes by.

    Port 0 takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    names: Sequence[str] = ()


ON_THIS_COMPUTER = Endpoint()


class _Releases:
    """Follows the history of the registry: which version is champion, which one is tried, and how it does."""

    def __init__(self, system: System, log: PredictionLog, *, by_itself: bool) -> None:
        self._system, self._log, self._by_itself = system, log, by_itself
        self._newest = -1
        self._champion: int | None = None
        self._trial: Trial | None = None
        self._canary: _Canary | None = None
        self._shadow: _Shadow | None = None

    def current(self) -> serving.Rollout:
        """What to serve now. Reads little, as it is called every second."""
        registry = self._system.registry
        if (newest := registry.newest_release()) != self._newest:
            self._champion, self._trial = registry.champion(), registry.trial()
            self._newest = newest
            if self._by_itself:
                self._follow_trial()
        if self._shadow:
            self._shadow.keep_running()
        note = self._canary.step() if self._canary else ""
        if (trial := self._trial) is None:
            return serving.Rollout(self._champion)
        takes = partial(rollout.in_share, share=trial.share, salt=f"canary {trial.release}")
        return serving.Rollout(self._champion, trial.version, trial.mode, trial.share, takes=takes, note=note)

    def stop(self) -> None:
        if self._shadow:
            self._shadow.stop()
            self._shadow = None

    def _follow_trial(self) -> None:
        trial = self._trial
        mode, release = (trial.mode, trial.release) if trial else ("", 0)
        if self._shadow and (mode != "shadow" or self._shadow.trial.release != release):
            self.stop()
        if mode == "shadow" and not self._shadow:
            self._shadow = _Shadow(self._system, self._log, trial)
        if mode != "canary":
            self._canary = None
        elif self._canary and self._canary.trial.release == release:
            self._canary.trial = trial
        else:
            self._canary = _Canary(self._system, self._log, trial)


def application(
    system: System,
    *,
    log: PredictionLog,
    endpoint: Endpoint = ON_THIS_COMPUTER,
    loaded: Callable[[], None] = lambda: None,
    by_itself: bool = True,
    watched: Callable[[], Mapping[str, Any] | None] | None = None,
) -> "FastAPI":
    """The application that answers with the champion of `system`, and follows its registry.

    `loaded` is called after a model was loaded, and `watched` gives the state of a monitor. Close the log at the end.

    Unless it goes on `by_itself`, it looks at the registry only at POST /refresh, leaves `follow_shadow` and
    `step_canary` to its caller, and waits for a canary without end: in simulated time a day may pass within a second.
    """
    releases = _Releases(system, log, by_itself=by_itself)

    def load(version: int) -> serving.Servable:
        model = servable(system.registry.load(version), getattr(system.case, "own_rows", None))
        loaded()
        return model

    def page(state: Mapping[str, Any]) -> str:
        return dashboard.live_page(state, at=system.clock())

    name = system.specification.name
    hosts = serving.host_names(endpoint.host, also=endpoint.names)
    times = {} if by_itself else {"refresh_seconds": math.inf, "challenger_seconds": None}
    return serving.create_app(
        serving.ModelSource(current=releases.current, load=load, close=releases.stop),
        log,
        settings=serving.Settings(title=name[:1].upper() + name[1:], token=endpoint.token, hosts=hosts, **times),
        clock=system.clock,
        monitor=serving.MonitorView(watched, page, dashboard.export) if watched else None,
    )


def run(
    system: System,
    *,
    log_url: str,
    endpoint: Endpoint = ON_THIS_COMPUTER,
    watch: bool = True,
    started: Callable[[str], None] = print,
    prepare: Callable[["FastAPI"], None] = lambda app: None,
) -> None:
    """Serve the champion of `system` until Ctrl-C or SIGTERM; log lines are JSON on standard error.

    `started` is told the address once requests are answered; `prepare` may add routes of one's own before. With
    `watch`, a process beside the service follows the log, and /monitor shows what it finds. Raises OSError if it cannot
    listen there.
    """
    import uvicorn

    from .protocol import _LimitedProtocol

    _log_as_json()
    _allow_many_connections()
    log = PredictionLog(log_url)
    watcher = _Watcher(system, log) if watch else None
    watched = watcher.state if watcher else None
    app = application(system, log=log, endpoint=endpoint, loaded=_freeze_memory, watched=watched)
    prepare(app)
    limits = {"http": _LimitedProtocol, "ws": "none", "timeout_graceful_shutdown": DRAIN_SECONDS}
    where = {"host": endpoint.host, "port": endpoint.port}
    config = uvicorn.Config(app, **where, **limits, log_config=None, access_log=False)

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
    except SystemExit as stopped:  # uvicorn's exit code is 3, which in this course means that the gate refused a model
        raise OSError(f"the service could not listen on {endpoint.host}:{endpoint.port}; its log says why") from stopped
    finally:
        if watcher:
            watcher.stop()
        log.close()


def _allow_many_connections() -> None:
    """Take as many open files as the system gives: 1,024, which is usual, are soon used up by callers who only wait."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _freeze_memory() -> None:
    """Keep the garbage collector from what stays for good: to look at all of it stops every thread for 0.25 s."""
    gc.collect()
    gc.freeze()
