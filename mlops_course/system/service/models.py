"""A registered model as the service needs it."""

from collections.abc import Callable
from typing import Any

from mlops_course.operations.deployment import compiled, serving
from mlops_course.operations.registry import Registered


def servable(
    registered: Registered, own_rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
) -> serving.Servable:
    """Return a registered model as the service needs it, compiled where that is possible.

    `own_rows` makes the rows of a request into what the contract says, for a case that has a form of its own.
    """
    contract = registered.contract
    compiled_model = compiled.compile(registered.model, contract.inputs, example=contract.example_frame())
    return serving.Servable(
        version=registered.version,
        inputs=contract.inputs,
        optional=contract.optional,
        categories={name: frozenset(values) for name, values in contract.categories.items()},
        example=contract.example,
        threshold=contract.threshold,
        predict=lambda rows: compiled_model(compiled.columns(rows, contract.inputs)),
        own_rows=own_rows,
        facts={
            "data_version": contract.data_version,
            "code_version": contract.code_version,
            "digest": registered.digest,
            "specification_version": str(contract.specification.get("version", "")),
            "compiled": compiled_model.fast,
            "metrics": {name: round(value, 4) for name, value in contract.metrics.items()},
        },
    )
