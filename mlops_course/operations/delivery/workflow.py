"""Jobs, and which of them a change or a trigger needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import Any


@dataclass(frozen=True)
class Workflow:
    """Jobs by name (`run`: a command; `needs`: jobs before it), and the jobs that a path or a trigger asks for.

    In a pattern of paths, `*` also stands for slashes. A command that begins with `python` uses the Python that runs
    this. Raises ValueError with the name of a wrong entry.
    """

    jobs: Mapping[str, Mapping[str, Any]]
    paths: Mapping[str, Sequence[str]]
    triggers: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        for name, job in self.jobs.items():
            if not {"run"} <= set(job) <= {"run", "needs"}:
                raise ValueError(f"jobs.{name}: expected `run` and perhaps `needs`, got {sorted(job)}")
        asked = {f"jobs.{name}.needs": job.get("needs", []) for name, job in self.jobs.items()}
        asked |= {f"paths.{pattern}": names for pattern, names in self.paths.items()}
        asked |= {f"triggers.{trigger}": names for trigger, names in self.triggers.items()}
        for place, names in asked.items():
            if isinstance(names, str) or not set(names) <= set(self.jobs):
                raise ValueError(f"{place}: expected a list of jobs out of {[*self.jobs]}, got {names!r}")
        try:
            self._order()
        except CycleError as error:
            raise ValueError(f"jobs: these wait for one another: {' -> '.join(error.args[1])}") from None

    def required(self, paths: Iterable[str] = (), *, trigger: str | None = None) -> list[str]:
        """Return the jobs that changed files or a trigger need, and the jobs before them, in the order to run them.

        Raises ValueError if the trigger is unknown.
        """
        if isinstance(paths, str):
            raise TypeError(f"expected a list of paths, got the text {paths!r}")
        if trigger is not None and trigger not in self.triggers:
            raise ValueError(f"expected one of the triggers {[*self.triggers]}, got {trigger!r}")
        wanted = set(self.triggers.get(trigger, ()))
        for path in paths:
            known = [names for pattern, names in self.paths.items() if fnmatchcase(path, pattern)]
            wanted |= set().union(*known) if known else set(self.jobs)
        order = self._order()
        for name in reversed(order):
            wanted |= set(self.jobs[name].get("needs", ())) if name in wanted else set()
        return [name for name in order if name in wanted]

    def _order(self) -> list[str]:
        return [*TopologicalSorter({name: job.get("needs", ()) for name, job in self.jobs.items()}).static_order()]
