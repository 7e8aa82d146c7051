"""The description of the service for programs."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from .requests import _FEEDBACK
from .service import _Service

DESCRIPTION = (
    "A prediction is answered once it is on record. Give each row an id, and asking again is harmless: the first "
    "answer counts. Send the label under the same id when it is known."
)


def _openapi(app: FastAPI, service: _Service, *, secured: bool) -> dict[str, Any]:
    """The description of the interface, with the request of the model that is in charge now."""
    described = get_openapi(title=app.title, version="1", description=DESCRIPTION, routes=app.routes)
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    bodies: dict[str, tuple[TypeAdapter, Any]] = {"/feedback": (_FEEDBACK, {"labels": [{"id": "a1", "label": 1}]})}
    if champion := service.active.champion:
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
