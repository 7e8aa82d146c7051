"""The application: which addresses there are, and what each of them does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from jinja2 import Environment, Template
from pydantic_core import to_json

from .guard import Guard
from .interface import ModelSource, MonitorView, Settings
from .refusals import _REFUSALS, _body, _measured, _unavailable
from .requests import _FEEDBACK, PREDICTION_FIELDS, FeedbackResponse, PredictionResponse, _openapi
from .service import _Active, _Service

ASK, LOOK = "Predictions", "State"  # headings of the documentation


def create_app(
    source: ModelSource,
    log: Any,
    *,
    settings: Settings | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    monitor: MonitorView | None = None,
) -> FastAPI:
    """Return the application, for any ASGI server; nothing is loaded before that starts it.

    `log` has `append(predictions, labels=...)`, which returns once they are on disk, by id, those that were there
    before; it raises ValueError where a caller contradicts the record, and anything else if it cannot keep them. A
    prediction is a mapping with id, time, inputs, probability, decision, assigned_version, model_version, share and
    latency_ms. `log.unpredicted(ids)` returns the ids without a prediction.
    """
    settings = settings or Settings()
    service = _Service(source, log, clock=clock, challenger_seconds=settings.challenger_seconds)

    async def refresh_forever() -> None:
        while True:
            await asyncio.sleep(settings.refresh_seconds)
            await asyncio.to_thread(service.refresh)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        await asyncio.to_thread(service.refresh)
        refresher = asyncio.create_task(refresh_forever())
        yield
        refresher.cancel()
        await service.close()
        await asyncio.to_thread(source.close)

    app = FastAPIOffline(title=settings.title, lifespan=lifespan, redoc_url=None)
    app.add_middleware(Guard, hosts=settings.hosts, token=settings.token, refused=service.metrics.count_refusal)
    app.state.service = service
    app.openapi = lambda: _openapi(app, service.active.champion, secured=bool(settings.token))
    _add_predictions(app, service)
    _add_state(app, service)
    _add_pages(app, service, monitor)
    if monitor:
        service.metrics.registry.register(monitor)
    return app


def _add_predictions(app: FastAPI, service: _Service) -> None:
    @app.post(
        "/predict", tags=[ASK], summary="Ask for predictions", response_model=PredictionResponse, responses=_REFUSALS
    )
    async def predict(request: Request) -> Response:
        """Probability and decision for each row, once they are on record. Asking again with the same id is harmless."""
        with _measured(service, "/predict") as started:
            if (active := service.active).champion is None:
                raise _unavailable("no model is in charge")
            rows = active.champion.request.validate_json(await _body(request))["rows"]
            kept = await service.predict(active, rows, started=started)
        predictions = [{name: prediction[name] for name in PREDICTION_FIELDS} for prediction in kept]
        return Response(to_json({"predictions": predictions}), media_type="application/json")

    @app.post(
        "/feedback", tags=[ASK], summary="Tell what came of them", response_model=FeedbackResponse, responses=_REFUSALS
    )
    async def feedback(request: Request) -> Response:
        """Keep labels by the id of their prediction, whenever they come; sending them again is harmless."""
        with _measured(service, "/feedback"):
            labels = _FEEDBACK.validate_json(await _body(request))["labels"]
            now = service.clock()
            labels = [{"time": now, **label} for label in labels]
            without_prediction = await asyncio.to_thread(service.keep_labels, labels)
        service.metrics.labels.inc(len(labels))
        return JSONResponse({"labels": len(labels), "without_prediction": sorted(without_prediction)})


def _add_state(app: FastAPI, service: _Service) -> None:
    @app.get("/live", tags=[LOOK], summary="Is it running?")
    async def live() -> dict[str, bool]:
        """Whether the process answers at all."""
        return {"live": True}

    @app.get("/ready", tags=[LOOK], summary="Does it answer?", responses={503: {"description": "not now"}})
    async def ready() -> Response:
        """Whether predictions are answered, and what has been refused meanwhile."""
        champion = service.active.champion
        fine = champion is not None and not service.log_trouble
        version, log = champion.version if champion else None, service.log_trouble or "ok"
        state = {"ready": fine, "version": version, "refused": service.refused, "log": log}
        return JSONResponse(state, status_code=200 if fine else 503)

    @app.get("/model", tags=[LOOK], summary="Which model is in charge?", responses={503: {"description": "none"}})
    async def model() -> Response:
        """The version in charge: its contract, where it comes from, since when; and what is tried beside it."""
        if service.active.champion is None:
            raise _unavailable("no model is in charge")
        return JSONResponse(_described(service.active))

    @app.get("/metrics", tags=[LOOK], summary="Counts and times")
    async def metrics() -> Response:
        """Counts and times in the format of Prometheus."""
        batchers = (service.champions, service.canaries, service.recorder)
        service.metrics.waiting.set(sum(batcher.waiting for batcher in batchers))
        text = await asyncio.to_thread(prometheus_client.generate_latest, service.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.post("/refresh", tags=[LOOK], summary="Look for a new version now", responses={401: _REFUSALS[401]})
    async def refresh() -> Response:
        """Look at once which version is in charge, and give what was refused another try."""
        await asyncio.to_thread(service.refresh, again=True)
        champion = service.active.champion
        return JSONResponse({"version": champion.version if champion else None, "refused": service.refused})


def _add_pages(app: FastAPI, service: _Service, monitor: MonitorView | None) -> None:
    def shown(show: Callable[[Mapping[str, Any]], Any]) -> Any:
        """What `show` makes of the monitor's state; called in a thread, as a page takes as long as many answers."""
        if monitor is None:
            raise HTTPException(404, "nobody watches this service")
        try:
            if (state := monitor.state()) is not None:
                return show(state)
        except Exception as error:
            raise _unavailable(f"the monitor does not answer: {type(error).__name__}: {error}") from error
        raise _unavailable("the monitor has not looked yet")

    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        about = _described(service.active) if service.active.champion else None
        return HTMLResponse(_page("page").render(title=app.title, about=about, service=service, monitor=monitor))

    @app.get("/monitor", include_in_schema=False)
    async def monitor_page() -> HTMLResponse:
        try:
            return HTMLResponse(await asyncio.to_thread(shown, lambda state: monitor.page(state)))
        except HTTPException as refused:
            page = _page("no_monitor").render(title=app.title, why=refused.detail)
            return HTMLResponse(page, refused.status_code, refused.headers)

    missing = {404: {"description": "nobody watches"}, 503: {"description": "nothing is known yet"}}

    @app.get("/monitor.json", tags=[LOOK], summary="Drift, performance, alerts", responses=missing)
    async def monitor_state() -> Response:
        """What the monitor knows: traffic, drift, performance, slices and alerts."""
        text = await asyncio.to_thread(shown, lambda state: to_json(state, inf_nan_mode="null"))
        return Response(text, media_type="application/json")


def _described(active: _Active) -> dict[str, Any]:
    model, rollout = active.champion.model, active.rollout
    tried = {"version": rollout.challenger, "as": rollout.mode, "share": rollout.share, "so far": rollout.note}
    return {
        "version": model.version,
        "since": active.since.isoformat(),
        "threshold": model.threshold,
        "inputs": dict(model.inputs),
        "optional": list(model.optional),
        "categories": {name: len(values) for name, values in model.categories.items()},
        **model.facts,
        "challenger": tried if rollout.mode else None,
    }


@cache
def _page(name: str) -> Template:
    text = Path(__file__).with_name(f"{name}.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(text)
