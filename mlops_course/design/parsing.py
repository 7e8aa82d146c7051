"""Read a specification from text or a file, and name each of its defects in one line."""

import inspect
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .specification import Specification, _nearest

# Pydantic's kind of error → what is wrong, what is expected; braces are filled from pydantic's own context.
MESSAGES = {
    "date_parsing": ("is not a date", "a day such as 2026-11-23"),
    "date_from_datetime_parsing": ("is not a date", "a day such as 2026-11-23"),
    "finite_number": ("is not finite", "a finite number"),
    "float_parsing": ("is not a number", "a number such as 0.95"),
    "float_type": ("is not a number", "a number such as 0.95"),
    "greater_than": ("is too small", "more than {gt:g}"),
    "greater_than_equal": ("is too small", "at least {ge}"),
    "int_parsing": ("is not a whole number", "a whole number such as 28"),
    "int_type": ("is not a whole number", "a whole number such as 28"),
    "less_than": ("is too large", "less than {lt:g}"),
    "literal_error": ("is not one of the choices", "{expected}"),
    "model_type": ("is not a mapping", "fields, one 'name: value' a line"),
    "string_too_short": ("is empty", "some text"),
    "string_type": ("is not text", "text"),
    "time_delta_parsing": ("is not a duration", "an ISO 8601 duration such as PT2H for two hours"),
    "tuple_type": ("is not a list", "a list such as [a, b]"),
}


class SpecificationError(ValueError):
    """A specification that is not fit to build from, with one line for each defect."""

    @property
    def defects(self) -> tuple[str, ...]:
        """The lines, each `field.path: what is wrong; expected ...; got ...`."""
        return self.args

    def __str__(self) -> str:
        """One line a defect."""
        return "\n".join(self.args)


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text, so that the field decides what `no`, `1.10` or `2:00` mean, and not YAML.

    Remembers keys that are written twice in one mapping: YAML keeps the last and says nothing.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self.repeated: list[str] = []

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                self.repeated.append(f"{name}: is written twice; expected it once; got lines {first[name]} and {line}")
            first[name] = line
        return node


def _fields(path: Sequence[str | int]) -> dict[str, FieldInfo]:
    """Fields of the part of the specification at `path`; positions in a list are passed over."""
    part: type[BaseModel] = Specification
    for step in path:
        if isinstance(step, str):
            annotation = part.model_fields[step].annotation
            part = next(kind for kind in (annotation, *get_args(annotation)) if inspect.isclass(kind))
    return part.model_fields


def _line(error: dict[str, Any]) -> str:
    """One pydantic error in our words: `field.path: what is wrong; expected ...; got ...`."""
    path, kind, context = error["loc"], error["type"], error.get("ctx", {})
    got = reprlib.repr(error["input"])
    if kind == "defect":
        wrong, expected, got = context["wrong"], context["expected"], context["got"]
    elif kind == "missing":
        wrong, expected, got = "is missing", _fields(path[:-1])[path[-1]].description, "nothing"
    elif kind == "extra_forbidden":
        wrong, expected, got = "is not a known field", _nearest(path[-1], list(_fields(path[:-1]))), repr(path[-1])
    else:
        wrong, expected = MESSAGES.get(kind, ("is not accepted", error["msg"]))
        expected = expected.format(**context)
    where = ".".join(map(str, path)) or "specification"
    return f"{where}: {wrong}; expected {expected}; got {got}"


def parse_specification(text: str) -> Specification:
    """The specification written in `text`, which is YAML or JSON.

    Raises SpecificationError with one line for each defect, all at once: invalid YAML, a key written twice, an unknown
    or missing field, a value of the wrong kind or out of range, fields that contradict each other.
    """
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SpecificationError(f"specification: is not valid YAML; expected 'name: value'; got {reason}") from error
    try:
        specification = Specification.model_validate(content)
    except ValidationError as error:
        raise SpecificationError(*loader.repeated, *map(_line, error.errors())) from error
    if loader.repeated:
        raise SpecificationError(*loader.repeated)
    return specification


def load_specification(path: Path | str) -> Specification:
    """The specification in the YAML or JSON file at `path`.

    Raises SpecificationError if the file cannot be read, and for all that `parse_specification` refuses.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecificationError(f"{path}: cannot be read; expected a YAML file in UTF-8; got {error}") from error
    return parse_specification(text)
