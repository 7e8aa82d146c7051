"""The jobs of a workflow as GitHub Actions."""

from typing import Any

import yaml

from .workflow import Workflow

CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"  # v7.0.1; by digest, as a tag can be moved
SETUP_PYTHON = "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97"  # v7.0.0


def to_github(workflow: Workflow, *, plan: str, cron: str, python: str = "3.11") -> str:
    """Write the workflow as YAML for GitHub Actions: a job `plan` that says what is needed, the jobs, and `deploy`.

    `plan` is a command that prints the needed jobs as a JSON list. Its variable TRIGGER says what started the workflow:
    "push", "schedule" (at the times of `cron`), or the name of a trigger, which other systems send as a
    `repository_dispatch`. A push without a red job moves the branch `production`, one at a time.

    Raises ValueError if a job is named plan or deploy.
    """
    if taken := {"plan", "deploy"} & set(workflow.jobs):
        raise ValueError(f"jobs: expected other names than those of the two that are added, got {sorted(taken)}")
    setup = [
        {"uses": CHECKOUT, "with": {"fetch-depth": 0}},  # all of the history: production is in it
        {"uses": SETUP_PYTHON, "with": {"python-version": python}},
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
