"""Continuous integration and delivery on a git repository: which jobs a change needs, a clean run of them, a gate.

    Workflow    jobs, and which of them a changed file or a trigger needs: plain data, as it stands in a YAML file
    commit      write files into a repository, with a date and author of your choice
    changed     the files in which a commit differs from production
    run         run the jobs that a commit needs, in a clean checkout, up to the first red one; git notes keep verdicts
    verdicts    what was kept about a commit
    deploy      move the branch `production` to a commit if all jobs that it needs were green
    metrics     the five delivery metrics of DORA and the time to restore, from a log of events
    sbom        the packages that a program runs with, as a software bill of materials

A commit is compared with production and not with its parent: a harmless change on top of a red one is as red. A file
that matches no pattern needs every job. The user's git configuration is neither read nor written.

>>> jobs = {"unit": {"run": "python -m pytest"}, "gate": {"run": "python -m gate", "needs": ["unit"]}}
>>> paths = {"*.md": [], "tests/*": ["unit"], "model/*": ["gate"]}
>>> workflow = Workflow(jobs, paths, triggers={"new data": ["gate"]})
>>> workflow.required(["README.md", "tests/test_a.py"])
['unit']
>>> workflow.required(["model/tree.py"]), workflow.required(["new_thing.toml"]), workflow.required(trigger="new data")
(['unit', 'gate'], ['unit', 'gate'], ['unit', 'gate'])
"""

from .delivery_metrics import Metrics, metrics
from .repository import GitError, RefusedError, changed, commit, deploy, run, verdicts
from .supply_chain import sbom
from .workflow import Workflow

__all__ = [
    "GitError",
    "Metrics",
    "RefusedError",
    "Workflow",
    "changed",
    "commit",
    "deploy",
    "metrics",
    "run",
    "sbom",
    "verdicts",
]
