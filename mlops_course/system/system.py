"""A case in its workspace: what every command acts on.

    System    the case by the name of its package, its specification, and the registry of its models

The workspace holds all state, and a system only knows where it is.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

from mlops_course.design import Specification, load_specification
from mlops_course.operations.registry import Registry
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["System"]

CASE = ("SPECIFICATION", "batches", "build", "derive", "files", "read", "schemas")  # what a case package must have


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class System:
    """A case, by the name of its package, in a workspace; nothing is written before something is done with it."""

    case_name: str
    workspace: Workspace
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)  # says when a release was made

    @cached_property
    def case(self) -> ModuleType:
        """The package of the case. Raises ValueError if there is none, or it lacks a name that a case must have."""
        try:
            case = importlib.import_module(self.case_name)
        except ModuleNotFoundError as error:
            raise ValueError(f"expected the package of a case, got {self.case_name!r}: {error}") from error
        if missing := [name for name in CASE if not hasattr(case, name)]:
            raise ValueError(f"expected a case with the names {CASE}, but {self.case_name!r} lacks {missing}")
        return case

    @cached_property
    def specification(self) -> Specification:
        """The specification of the case, checked."""
        return load_specification(self.case.SPECIFICATION)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the case's models; the workspace is made if it is not there."""
        return replace(self.workspace.create().registry(self.case), clock=self.clock)

    def run_of(self, version: int) -> "Run":
        """The run in MLflow that made a version. Raises LookupError if it cannot be read."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking_uri=self.workspace.tracking_uri)
        try:
            return client.get_run(client.get_model_version(self.registry.name, str(version)).run_id)
        except MlflowException as error:
            raise LookupError(f"the training run of version {version} cannot be read: {error}") from error

    def batch_before(self, batch: str) -> list[str]:
        """The batch before `batch`, in a list, or an empty one. Raises ValueError if there is no such batch."""
        names = self.case.batches()
        if batch not in names:
            raise ValueError(f"expected a batch out of {names}, got {batch!r}")
        at = names.index(batch)
        return names[max(at - 1, 0) : at]
