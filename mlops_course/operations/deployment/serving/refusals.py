"""What a caller gets when a request is refused."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from fastapi import HTTPException, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from .batching import QueueFullError
from .service import _NotKeptError, _Service

MAX_BODY = 4 * 2**20  # bytes; a thousand rows of thirty columns are about 0.7 MB
MAX_ERRORS = 20  # of one request that are named
COUNTED = 1_000  # defects of a request from which they are only counted: to list 300,000 takes a second for all
BODY_SECONDS = 30.0  # that a caller may take to send a body
RETRY_SECONDS = 1
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "the token is missing or wrong"},
    403: {"description": "sent by a page of another site"},
    408: {"description": f"the body took more than {BODY_SECONDS:g} seconds to come"},
    409: {"description": "an id was used for something else; nothing was kept"},
    413: {"description": f"more than {MAX_BODY} bytes"},
    415: {"description": "the body is compressed, or not declared as application/json"},
    421: {"description": "sent to a name that this server does not go by"},
    422: {"description": "a field is missing, unknown or of another type; nothing was kept"},
    503: {"description": "busy, or the log does not answer; nothing was kept: come again after Retry-After seconds"},
}


async def _body(request: Request) -> bytes:
    """The body, read up to the size that is allowed."""
    if any(name == b"content-encoding" and value != b"identity" for name, value in request.scope["headers"]):
        raise HTTPException(415, "expected a body that is not compressed")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"expected {MAX_BODY} bytes at most; send the rows in several requests")
    except TimeoutError:
        raise HTTPException(408, f"expected the whole body within {BODY_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the caller hung up") from None
    return bytes(body)


def _unavailable(why: str) -> HTTPException:
    return HTTPException(503, why, {"Retry-After": str(RETRY_SECONDS)})


@contextmanager
def _measured(service: _Service, path: str) -> Iterator[float]:
    """Observe how long a request takes that is answered, and count one that is refused; gives when it began."""
    started = perf_counter()
    try:
        yield started
    except Exception as error:
        refusal = _refusal(error)
        service.metrics.count_refusal(refusal.status_code if isinstance(refusal, HTTPException) else 500)
        raise refusal from error
    service.metrics.latency.labels(path).observe(perf_counter() - started)


def _refusal(error: Exception) -> Exception:
    """The refusal that the caller gets for an error."""
    match error:
        case ValidationError():
            return HTTPException(422, _defects(error))
        case ValueError():
            return HTTPException(409, str(error))
        case QueueFullError():
            return _unavailable(f"busy: {error}")
        case _NotKeptError():
            return _unavailable("the prediction log does not answer; nothing was kept")
    return error


def _defects(error: ValidationError) -> list[dict[str, Any]]:
    """Field, expectation and value of each defect, in FastAPI's form; a value is shown as text and cut short."""
    if (count := error.error_count()) > COUNTED:
        said = f"expected rows that fit the contract of the model (GET /model), got {count:,} defects"
        return [{"loc": ["body"], "msg": said, "type": "too_many_defects", "input": ""}]
    defects = error.errors(include_url=False, include_context=False)
    described = [
        {
            "loc": ["body", *(part[:100] if isinstance(part, str) else part for part in defect["loc"])],
            "msg": defect["msg"],
            "type": defect["type"],
            "input": repr(defect["input"])[:100],
        }
        for defect in defects[:MAX_ERRORS]
    ]
    return json.loads(json.dumps(described).encode(errors="replace"))
