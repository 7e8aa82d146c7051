"""Jobs, which of them a change needs, and how GitHub Actions would run them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import Any

import yaml

CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"  # v7.0.1; by digest, as a tag can be moved
SETUP_PYTHON = "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97"  # v7.0.0


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


def to_github(workflow: Workflow, *, plan: str, cron: str) -> str:
    """Write the workflow as YAML for GitHub Actions: a job `plan` that says what is needed, the jobs, and `deploy`.

    `plan` is a command that prints the needed jobs as a JSON list. Its variable TRIGGER says what started the workflow:
    "push", "schedule" (at the times of `cron`), or the name of a trigger, sent as a `repository_dispatch`. A push
    without a red job moves the branch `production`. Raises ValueError if a job is named plan or deploy.
    """
    if taken := {"plan", "deploy"} & set(workflow.jobs):
        raise ValueError(f"jobs: expected other names than those of the two that are added, got {sorted(taken)}")
    setup = [
        {"uses": CHECKOUT, "with": {"fetch-depth": 0}},  # all of the history: production is in it
        {"uses": SETUP_PYTHON, "with": {"python-version": "3.11"}},
        {"run": "python -m pip install -r requirements.txt"},
    ]
    fetch = "git fetch origin production:production || true"  # before the first deployment there is none
    step = {
        "id": "plan",
        "run": f'jobs=$({plan}) && echo "jobs=$jobs" >> "$GITHUB_OUTPUT"',
        "env": {"TRIGGER": "${{ github.event.action || github.event_name }}"},
    }
    machine = {"runs-on": "ubuntu-latest"}
    outputs = {"jobs": "${{ steps.plan.outputs.jobs }}"}
    jobs: dict[str, Any] = {"plan": machine | {"outputs": outputs, "steps": [*setup, {"run": fetch}, step]}}
    for name, job in workflow.jobs.items():
        order = {
            "needs": ["plan", *job.get("needs", ())],
            "if": f"contains(fromJSON(needs.plan.outputs.jobs), '{name}')",
        }
        jobs[name] = order | machine | {"steps": [*setup, {"run": job["run"]}]}
    order = {"needs": [*jobs], "if": "!failure() && !cancelled() && github.event_name == 'push'"}
    steps = [setup[0], {"run": "git push origin HEAD:refs/heads/production"}]
    jobs["deploy"] = order | machine | {"permissions": {"contents": "write"}, "steps": steps}
    starts = {
        "push": {"branches": ["main"]},
        "schedule": [{"cron": cron}],
        "repository_dispatch": {"types": [*workflow.triggers]},
    }
    content = {"name": "delivery", "on": starts, "permissions": {"contents": "read"}, "concurrency": "delivery"}
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})  # repeated steps in full
    return yaml.dump(content | {"jobs": jobs}, Dumper=dumper, sort_keys=False, width=120)
