"""What travels with a model, in plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from .errors import ContractError

EXAMPLES = 5  # rows that travel with the model; wherever it is loaded, it must give them the same probabilities
MAX_CATEGORIES = 1000  # a column with more values holds names, and each day brings new ones
# numpy's letter for a kind of values → type in the contract, in MLflow's words → dtype of the model's input
TYPES = {"f": "double", "i": "long", "u": "long", "b": "boolean", "M": "datetime", "O": "string"}
DTYPES = {"double": "float64", "long": "int64", "boolean": "bool", "datetime": "datetime64[us]", "string": "str"}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a model promises and where it comes from, in plain values that survive JSON.

    `fingerprint` names the training run by what went into it. `inputs` maps each column to its type: double, long,
    boolean, string or datetime; `describe` makes it together with `example`, `optional` and `categories`. `threshold`
    is the probability from which the model says yes. `gate_held` says that the gate has only one reason: it could not
    tell whether the model is worse than the champion.

    Raises ContractError if a value is not plain and finite, a version is empty, or the example has other columns than
    the inputs.
    """

    fingerprint: str
    inputs: dict[str, str]
    example: list[dict[str, Any]]
    specification: dict[str, Any]
    data_version: str
    code_version: str
    threshold: float
    metrics: dict[str, float]
    gate_passed: bool
    gate_reasons: list[str] = field(default_factory=list)
    gate_held: bool = False
    optional: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that JSON keeps every value."""
        try:
            lost = json.loads(self.to_json()) != asdict(self)
        except (TypeError, ValueError) as defect:
            raise ContractError(f"expected plain, finite values in the contract: {defect}; convert it") from defect
        if lost:
            raise ContractError("expected lists and texts as keys in the contract, got tuples or others; convert them")
        if not (self.fingerprint and self.data_version and self.code_version):
            raise ContractError("expected fingerprint, data_version and code_version in the contract, got an empty one")
        if not self.example or any(row.keys() != self.inputs.keys() for row in self.example):
            raise ContractError(
                f"expected an example of one row or more with the columns {list(self.inputs)}, got {self.example}; "
                "use describe(frame)"
            )

    @property
    def gate_outcome(self) -> str:
        """What the gate decided: "passed", "held" or "failed"."""
        return "passed" if self.gate_passed else "held" if self.gate_held else "failed"

    def example_frame(self) -> pd.DataFrame:
        """Return the example as the model takes it: columns in the order and the dtypes of `inputs`."""
        dtypes = {column: DTYPES[kind] for column, kind in self.inputs.items()}
        return pd.DataFrame(self.example, columns=list(dtypes), dtype=object).astype(dtypes)

    def to_json(self) -> str:
        """Return the contract as JSON; `from_json` gives an equal contract."""
        return json.dumps(asdict(self), indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Contract":
        """Return the contract that `to_json` wrote."""
        return cls(**json.loads(text))


def describe(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the fields of a contract that follow from rows of inputs, so pass all rows that the model was fitted on.

    - inputs: the type of each column
    - example: the first few rows, with ISO 8601 texts for datetimes and None for missing values
    - optional: the inputs that may be missing: floats, and others that are missing somewhere in `rows`
    - categories: the values of each text input that has at most `MAX_CATEGORIES`

    Raises ContractError for a column without a type, such as integers with missing values.
    """
    inputs = {column: _type_of(rows[column]) for column in rows}
    example = [
        {column: _plain(value) for column, value in zip(inputs, row, strict=True)}
        for row in rows.head(EXAMPLES).itertuples(index=False, name=None)
    ]
    values = {column: rows[column].dropna().unique() for column, kind in inputs.items() if kind == "string"}
    return {
        "inputs": inputs,
        "example": example,
        "optional": [column for column, kind in inputs.items() if kind == "double" or rows[column].hasnans],
        "categories": {column: sorted(found) for column, found in values.items() if len(found) <= MAX_CATEGORIES},
    }


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the changes of inputs that matter to callers; the order of columns does not."""
    columns = [column for column in {**before, **after} if before.get(column) != after.get(column)]
    return [f"input {name}: {before.get(name, 'none')} before, {after.get(name, 'none')} now" for name in columns]


def _type_of(values: pd.Series) -> str:
    kind = TYPES.get(values.dtype.kind)
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    if kind is None or zoned or (kind in ("long", "boolean") and values.hasnans):
        raise ContractError(
            f"column {values.name!r} is of dtype {values.dtype}, with {values.isna().sum()} missing; expected text, "
            "float, datetime without zone, or int and bool without missing values: convert it"
        )
    if kind == "string" and not all(isinstance(value, str) for value in values.dropna()):
        raise ContractError(f"column {values.name!r} of {values.dtype} holds other values than texts; convert it")
    return kind


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value
