"""Continuous integration and delivery on a git repository: what a change needs, a clean run of it, and a gate to use.

    Workflow    jobs, and which of them a changed file or a trigger needs: plain data, as it stands in a YAML file
    commit      files into a repository, with a date and author of your choice
    changed     the files in which a commit differs from what is in production
    run         the jobs that a commit needs, in a clean checkout, up to the first red one; git notes keep the verdicts
    verdicts    what was kept about a commit
    deploy      move the branch `production` to a commit whose every needed job was green, or say which was not
    metrics     four of the five delivery metrics, from a log of events
    to_github   the same jobs as a workflow of GitHub Actions

A commit is compared with production and not with its parent: a harmless change on top of a red one is as red. A file
that no pattern knows needs every job. The user's git configuration is neither read nor written.

>>> jobs = {"unit": {"run": "python -m pytest"}, "gate": {"run": "python -m gate", "needs": ["unit"]}}
>>> paths = {"*.md": [], "tests/*": ["unit"], "model/*": ["gate"]}
>>> workflow = Workflow(jobs, paths, triggers={"new data": ["gate"]})
>>> workflow.required(["README.md", "tests/test_a.py"])
['unit']
>>> workflow.required(["model/tree.py"]), workflow.required(["new_thing.toml"]), workflow.required(trigger="new data")
(['unit', 'gate'], ['unit', 'gate'], ['unit', 'gate'])
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

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
    "to_github",
    "verdicts",
]

GREEN, RED, NOT_RUN = "green", "red", "not run"
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"  # v7.0.1; by digest, as a tag can be moved
SETUP_PYTHON = "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97"  # v7.0.0
PRODUCTION = "refs/heads/production"
NOTES = "--ref=delivery"
SECONDS = 600  # that a job may take
AUTHOR = "MLOps Course <course@localhost>"
STILL_OPEN = "still open"
IDS = ["commit", "deployment", "incident"]
NAMED_BY = {  # kind of event: the ids that it has to name
    "committed": ["commit"],
    "deployed": ["deployment", "commit"],
    "failed": ["incident"],
    "restored": ["incident"],
}


class GitError(RuntimeError):
    """git is missing, or refused; the message is its own."""


class RefusedError(RuntimeError):
    """A commit may not be deployed; the message names the jobs that are not green."""


@dataclass(frozen=True)
class Workflow:
    """Jobs by name (`run`: a command; `needs`: jobs before it), and the jobs that a path or a trigger asks for.

    In a pattern of paths, `*` stands for any characters, slashes as well. A command that begins with `python` is run by
    the Python that runs this. Raises ValueError naming the entry that cannot be.
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
        """The jobs that changed files or a trigger need, with all that those need, in the order to run them.

        Raises ValueError if there is no such trigger.
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


def commit(
    repository: Path, files: Mapping[str, str | bytes | None], *, message: str, time: pd.Timestamp, author: str = AUTHOR
) -> str:
    """Write files (None deletes one), commit these and no others, and return the commit's id.

    A folder that is no repository yet becomes one. The same files, message, time and author give the same id. Raises
    ValueError if a path leads out of the repository or the time has no zone, and GitError if nothing has changed.
    """
    repository = Path(repository).resolve()
    if pd.Timestamp(time).tz is None:
        raise ValueError(f"expected a time with a time zone, got {time}")
    for path in files:
        if not (repository / path).resolve().is_relative_to(repository):
            raise ValueError(f"expected a path within the repository, got {path!r}")
    if not (repository / ".git").exists():
        _git(None, "init", "--quiet", "--template=", "--initial-branch=main", str(repository))
    for path, content in files.items():
        file = repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
    _git(repository, "add", "--all", "--force", "--", *files)
    name, _, address = author.removesuffix(">").partition(" <")
    people = {"NAME": name, "EMAIL": address, "DATE": pd.Timestamp(time).isoformat()}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in people.items()}
    _git(repository, "commit", "--quiet", "--no-verify", "-m", message, environment=who)
    return _resolve(repository, "HEAD")


def changed(repository: Path, commit: str, *, since: str | None = None) -> list[str]:
    """The files in which a commit differs from `since`: by default from production, and from nothing before the first
    deployment. A renamed file counts under both names."""
    commit, since = _resolve(repository, commit), _resolve(repository, since) if since else _production(repository)
    if since is None:
        names = _git(repository, "ls-tree", "-r", "-z", "--name-only", commit)
    else:
        names = _git(repository, "diff", "--no-renames", "-z", "--name-only", since, commit)
    return [name for name in names.split("\0") if name]


def run(
    repository: Path,
    commit: str,
    *,
    workflow: Workflow,
    jobs: Collection[str] | None = None,
    seconds: float = SECONDS,
) -> pd.DataFrame:
    """Run jobs on a clean checkout of a commit, up to the first red one, and keep the verdicts with the commit.

    By default the jobs are those that the commit needs to come into production. A job is green if its command ends
    with 0 within `seconds`. Columns: job, verdict ("green", "red" or "not run"), said (what it printed).
    """
    if jobs is None:
        jobs = workflow.required(changed(repository, commit))
    commit = _resolve(repository, commit)
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        checkout = Path(folder).resolve() / "checkout"
        _git(None, "clone", "--quiet", "--shared", "--no-checkout", "--template=", str(repository), str(checkout))
        _git(checkout, "checkout", "--quiet", "--detach", commit)
        for name in jobs:
            verdict, said = NOT_RUN, ""
            if all(row["verdict"] == GREEN for row in rows):
                verdict, said = _run_one(workflow.jobs[name]["run"], checkout, seconds)
            rows.append({"job": name, "verdict": verdict, "said": said})
    kept = verdicts(repository, commit) | {row["job"]: row["verdict"] for row in rows}
    _git(repository, "notes", NOTES, "add", "--force", "-m", json.dumps(kept), commit)
    return pd.DataFrame(rows, columns=["job", "verdict", "said"])


def _run_one(command: str, folder: Path, seconds: float) -> tuple[str, str]:
    words = shlex.split(command)
    words[0] = sys.executable if words[0] == "python" else words[0]
    environment = {**_environment(), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    environment.pop("PYTHONPATH", None)  # it may lead back to the folder where people work
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return RED, f"stopped after {seconds:g} s"
    except OSError as error:
        return RED, f"could not be started: {error.strerror}: {words[0]}"
    return GREEN if done.returncode == 0 else RED, done.stdout.strip()


def verdicts(repository: Path, commit: str) -> dict[str, str]:
    """The last verdict of each job that was to run on a commit; empty if none was."""
    commit = _resolve(repository, commit)
    noted = {line.split()[1] for line in _git(repository, "notes", NOTES, "list").splitlines()}
    return json.loads(_git(repository, "notes", NOTES, "show", commit)) if commit in noted else {}


def deploy(repository: Path, commit: str, *, workflow: Workflow) -> list[str]:
    """Move the branch `production` to a commit, and return the commits that went live with it, oldest first.

    Raises RefusedError, naming the jobs, unless all that the commit needs were green on it; production stays as it is.
    """
    commit, now = _resolve(repository, commit), _production(repository)
    kept = verdicts(repository, commit)
    found = {name: kept.get(name, NOT_RUN) for name in workflow.required(changed(repository, commit, since=now))}
    if faults := [f"{name} ({verdict})" for name, verdict in found.items() if verdict != GREEN]:
        title = _git(repository, "log", "-1", "--format=%s", commit).strip()
        raise RefusedError(f"{title!r} stays out of production, for not being green in: {', '.join(faults)}")
    live = _git(repository, "rev-list", "--reverse", "--topo-order", commit, *([f"^{now}"] if now else [])).split()
    _git(repository, "update-ref", PRODUCTION, commit, now or "")  # git refuses if production has moved meanwhile
    return live


def _production(repository: Path) -> str | None:
    return _git(repository, "for-each-ref", "--format=%(objectname)", PRODUCTION).strip() or None


def _resolve(repository: Path, name: str) -> str:
    """The id of the commit that a name stands for, which may be an id, a branch or a tag."""
    return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}").strip()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def _git(repository: Path | None, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What git prints. It is told where the repository is and so never looks for one in the folders above."""
    program = shutil.which("git")
    if program is None:
        raise GitError("git was not found: install it from https://git-scm.com/downloads, then start Python again")
    repository = Path(repository).resolve() if repository else None
    place = [f"--git-dir={repository / '.git'}", f"--work-tree={repository}"] if repository else []
    ours = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    nobody = {f"GIT_{role}_{key}": "delivery" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    done = subprocess.run(
        [program, "-c", "core.hooksPath=" + os.devnull, *place, *arguments],
        cwd=repository,
        env={**_environment(), **ours, **nobody, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        why = (done.stderr or done.stdout).strip() or f"no such commit: {arguments[-1]}"
        raise GitError(f"git {arguments[0]} in {repository or arguments[-1]}: {why}")
    return done.stdout


@dataclass(frozen=True)
class Metrics:
    """Four delivery metrics, and what could not be counted.

    `table`, one row a metric: value, unit, counted, open, at_least. `value` is a median of what has ended; `at_least`
    is one with what is still open in it, as old as it is: the true median cannot be lower. `aside` names each event
    that `value` leaves out: metric, id, why, hours (so far, where it is open).
    """

    table: pd.DataFrame
    aside: pd.DataFrame


def metrics(log: pd.DataFrame, *, start: pd.Timestamp, end: pd.Timestamp) -> Metrics:
    """Deployment frequency, lead time for changes, change failure rate and time to restore in [start, end).

    The metrics are those of Forsgren, Humble and Kim (2018), Accelerate. DORA has added a fifth, the deployment rework
    rate, which needs to know which deployments were unplanned. `log` has one row an event, in any order, and
    the columns kind, time, commit, deployment, incident:

        committed   names a commit
        deployed    names a deployment and one of its commits; so many rows as it has commits
        failed      names an incident, and the deployment that caused it
        restored    names an incident that is over

    An event that is in the log more than once counts once, at its earliest time; what is not known by `end` is not
    used. A commit counts when it first goes live, an incident when it is over, so each counts in one window. Raises
    ValueError if a kind is unknown, or an event lacks its time or what it has to name.
    """
    _check(log)
    events = log[log["time"] < end].sort_values("time", kind="stable").drop_duplicates(["kind", *IDS])

    def first(kind: str, name: str) -> pd.Series:
        return events[events["kind"] == kind].groupby(name)["time"].min()

    deployed = first("deployed", "deployment")
    recent = deployed.index[deployed >= start]
    caused = events.loc[events["kind"] == "failed", "deployment"].dropna()
    strange = events[(events["kind"] == "failed") & ~events["deployment"].isin(deployed.index)]
    nowhere = "caused by no known deployment"
    aside = [("change failure rate", name, nowhere, float("nan")) for name in strange["incident"]]
    lead = _spans(first("committed", "commit"), first("deployed", "commit"), start=start, end=end)
    restore = _spans(first("failed", "incident"), first("restored", "incident"), start=start, end=end)
    days = (end - start) / pd.Timedelta("1D")
    share = float(recent.isin(caused).mean()) if len(recent) else float("nan")
    lines = {
        "deployment frequency": (len(recent) / days, "a day", len(recent), 0, len(recent) / days),
        "lead time for changes": _middle(lead),
        "change failure rate": (share, "of deployments", len(recent), 0, share),
        "time to restore": _middle(restore),
    }
    for metric, spans in (("lead time for changes", lead), ("time to restore", restore)):
        aside += [(metric, name, why, hours) for name, why, hours in spans.itertuples() if why]
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["value", "unit", "counted", "open", "at_least"])
    return Metrics(table.rename_axis("metric"), pd.DataFrame(aside, columns=["metric", "id", "why", "hours"]))


def _check(log: pd.DataFrame) -> None:
    if missing := {"kind", "time", *IDS} - set(log.columns):
        raise ValueError(f"expected the columns kind, time, {', '.join(IDS)}, got no {sorted(missing)}")
    if unknown := set(log["kind"]) - set(NAMED_BY):
        raise ValueError(f"kind: expected one of {[*NAMED_BY]}, got {sorted(map(str, unknown))}")
    for kind, names in NAMED_BY.items():
        if lacking := int(log.loc[log["kind"] == kind, ["time", *names]].isna().any(axis=1).sum()):
            raise ValueError(f"expected a time and {' and '.join(names)} in each row {kind!r}, got {lacking} without")


def _spans(begun: pd.Series, ended: pd.Series, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Hours of what has ended since `start` or is open at `end`, and why it does not count, if it does not."""
    spans = pd.DataFrame({"begun": begun, "ended": ended})
    spans = spans[~(spans["ended"] < start)]
    hours = (spans["ended"].fillna(end) - spans["begun"]) / pd.Timedelta("1h")
    why = pd.Series("", index=spans.index).mask(hours < 0, "ended before it began")
    why = why.mask(spans["ended"].isna(), STILL_OPEN).mask(spans["begun"].isna(), "its begin is not in the log")
    return pd.DataFrame({"why": why, "hours": hours})


def _middle(spans: pd.DataFrame) -> tuple[float, str, int, int, float]:
    counted, still = spans["why"] == "", spans["why"] == STILL_OPEN
    hours = spans["hours"]
    return hours[counted].median(), "hours", int(counted.sum()), int(still.sum()), hours[counted | still].median()


def to_github(workflow: Workflow, *, plan: str, cron: str, python: str = "3.11") -> str:
    """The workflow in the YAML of GitHub Actions: a job `plan` that says what is needed, the same jobs, and `deploy`.

    `plan` is a command that prints the needed jobs as a JSON list; in the variable TRIGGER it finds what woke the
    workflow: "push", "schedule", or the name of a trigger, which other systems send as a `repository_dispatch`. `cron`
    says when the schedule wakes it. A push after which nothing is red moves the branch `production`, one at a time.

    Raises ValueError if a job has the name of one of the two that are added.
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
    rendered: dict[str, Any] = {
        "plan": {
            "runs-on": "ubuntu-latest",
            "outputs": {"jobs": "${{ steps.plan.outputs.jobs }}"},
            "steps": [*setup, {"run": fetch}, step],
        }
    }
    for name, job in workflow.jobs.items():
        rendered[name] = {
            "needs": ["plan", *job.get("needs", ())],
            "if": f"contains(fromJSON(needs.plan.outputs.jobs), '{name}')",
            "runs-on": "ubuntu-latest",
            "steps": [*setup, {"run": job["run"]}],
        }
    rendered["deploy"] = {
        "needs": [*rendered],
        "if": "!failure() && !cancelled() && github.event_name == 'push'",
        "runs-on": "ubuntu-latest",
        "permissions": {"contents": "write"},
        "steps": [setup[0], {"run": "git push origin HEAD:refs/heads/production"}],
    }
    wakes = {
        "push": {"branches": ["main"]},
        "schedule": [{"cron": cron}],
        "repository_dispatch": {"types": [*workflow.triggers]},
    }
    content: dict[str, Any] = {
        "name": "delivery",
        "on": wakes,
        "permissions": {"contents": "read"},
        "concurrency": "delivery",
    }
    content["jobs"] = rendered
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda self, data: True})  # repeated steps in full
    return yaml.dump(content, Dumper=dumper, sort_keys=False, width=120)
