"""What requests and responses hold: types that a request is checked against, and their description for programs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    NaiveDatetime,
    TypeAdapter,
    WithJsonSchema,
)
from typing_extensions import TypedDict

from .guard import OPEN
from .interface import Servable

MAX_ROWS = 1_000  # in one request
LARGEST = 1e100  # of a number, as in a file: models square and add, and would overflow beyond 1e150
MAX_TEXT = 1_000  # characters of one text input
_STRICT = ConfigDict(extra="forbid", strict=True)  # no type is guessed, no unknown field passed over
Id = Annotated[str, Field(pattern=r"^[!-~]{1,100}$", description="letters, digits and signs of ASCII, without space")]
_MOMENT = r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
TYPES: Mapping[str, Any] = {
    "double": Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)],
    "long": Annotated[int, Field(ge=-(2**63), le=2**63 - 1)],
    "boolean": bool,
    "string": Annotated[str, Field(max_length=MAX_TEXT)],
    "datetime": Annotated[  # JSON Schema's own date-time has a zone
        NaiveDatetime,
        WithJsonSchema({"type": "string", "pattern": _MOMENT, "description": "date and time without zone, ISO 8601"}),
    ],
}
DESCRIPTION = (
    "A prediction is answered once it is on record. Give each row an id, and asking again is harmless: the first "
    "answer counts. Send the label under the same id when it is known."
)


def request_type(model: Servable) -> TypeAdapter:
    """Return the type of a prediction request: rows with the inputs of the contract and an optional id.

    No type is guessed. Unknown fields are refused, or a misspelt optional one would count as missing.
    """
    fields: dict[str, Any] = {"id": NotRequired[Id]}
    for name, kind in model.inputs.items():
        fields[name] = NotRequired[TYPES[kind] | None] if name in model.optional else TYPES[kind]
    row = TypedDict("Row", fields)  # type: ignore[misc]
    row.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]

    def own(rows: Any) -> Any:
        mappings = isinstance(rows, list) and len(rows) <= MAX_ROWS and all(isinstance(row, dict) for row in rows)
        return model.own_rows(rows) if mappings and model.own_rows else rows

    before = [BeforeValidator(own)] if model.own_rows else []

    class PredictionRequest(TypedDict):
        __pydantic_config__ = _STRICT  # type: ignore[misc]
        rows: Annotated[list[row], Field(min_length=1, max_length=MAX_ROWS), *before]  # type: ignore[valid-type]

    return TypeAdapter(PredictionRequest)


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time between the years 1 and 9999 in UTC") from None


class Label(TypedDict):
    """What came of a prediction."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    id: Id
    label: Annotated[int, Field(ge=0, le=1)]
    time: NotRequired[Annotated[AwareDatetime, AfterValidator(_in_utc)]]


class Feedback(TypedDict):
    """Labels of predictions, in any order."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_ROWS)]


class Prediction(TypedDict):
    """The prediction for one row: the decision is true from the model's threshold on."""

    id: str
    probability: Annotated[float, Field(ge=0, le=1)]
    decision: bool
    model_version: int


class PredictionResponse(TypedDict):
    """One prediction for each row, in the order of the rows."""

    predictions: list[Prediction]


class FeedbackResponse(TypedDict):
    """How many labels are on record, and the ids for which no prediction is, so far."""

    labels: int
    without_prediction: list[str]


_FEEDBACK = TypeAdapter(Feedback)
PREDICTION_FIELDS = tuple(Prediction.__annotations__)


def _openapi(app: FastAPI, champion: Any, *, secured: bool) -> dict[str, Any]:
    """The description of the interface for programs, with the request of the model that is in charge now."""
    described = get_openapi(title=app.title, version="1", description=DESCRIPTION, routes=app.routes)
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    bodies: dict[str, tuple[TypeAdapter, Any]] = {"/feedback": (_FEEDBACK, {"labels": [{"id": "a1", "label": 1}]})}
    if champion:
        bodies["/predict"] = (champion.request, {"rows": [{"id": "a1", **champion.model.example[0]}]})
    for path, (adapter, example) in bodies.items():
        schema = adapter.json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[schema["title"]] = schema
        content = {"schema": {"$ref": f"#/components/schemas/{schema['title']}"}, "example": example}
        described["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": content}}
    if secured:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        for path in OPEN:
            described["paths"][path]["get"]["security"] = []
    return described
