"""The application: which addresses there are, and what each of them does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from jinja2 import Environment, Template
from pydantic_core import to_json

from .errors import _NotKeptError
from .handed import Rollout, Servable, Watched
from .live import CHALLENGER_SECONDS, _Now, _Service
from .openapi import _openapi
from .refusals import _REFUSALS, _authorise, _body, _refusal, _unavailable
from .requests import _FEEDBACK, ANSWER, FeedbackReply, PredictionReply

REFRESH_SECONDS = 1.0  # between two questions whether another version is in charge


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
        return HTMLResponse(
            _page("page").render(title=app.title, about=about, service=service, watched=app.state.watched)
        )

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
            page = _page("no_monitor").render(title=app.title, why=refused.detail)
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


ASK, LOOK = "Predictions", "State"  # headings of the documentation


@cache
def _page(name: str) -> Template:
    """A page beside this file."""
    text = Path(__file__).with_name(f"{name}.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(text)
