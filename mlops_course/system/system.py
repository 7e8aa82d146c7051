"""A case in its workspace: what every command acts on.

    System    the case by the name of its package, its specification, and the registry of its models

The workspace holds all state, and a system only knows where it is.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

from mlops_course.design import Specification, load_specification
from mlops_course.operations.registry import Chain, Registry
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["System"]

HEAD = "history-head.txt"  # number and hash of the newest release that was seen, beside the prediction log
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

    def verify_history(self) -> Chain:
        """Whether the history is intact and still begins with all that was there when it was last looked at.

        The head is kept in a file outside the registry's database, and is not replaced once it contradicts the history.
        Whoever writes both, or deletes the file before an edit, is not noticed.
        """
        file = self.workspace.predictions / HEAD
        kept = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        try:
            chain = self.registry.verify_history(kept=kept)
        except ValueError as error:
            return replace(self.registry.verify_history(), defect=f"{file} was changed: {error}")
        if chain.intact and chain.begins and chain.head != kept:
            partial = file.with_suffix(f".{os.getpid()}.part")
            partial.write_text(chain.head, encoding="utf-8")
            partial.replace(file)
        return chain

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
