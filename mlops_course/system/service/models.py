"""A registered model as the service needs it."""

from mlops_course.operations.deployment import compiled, serving
from mlops_course.operations.registry import Registered


def servable(registered: Registered) -> serving.Servable:
    """Return a registered model as the service needs it, compiled where that is possible."""
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
        facts={
            "data_version": contract.data_version,
            "code_version": contract.code_version,
            "digest": registered.digest,
            "specification_version": str(contract.specification.get("version", "")),
            "compiled": compiled_model.fast,
            "metrics": {name: round(value, 4) for name, value in contract.metrics.items()},
        },
    )
