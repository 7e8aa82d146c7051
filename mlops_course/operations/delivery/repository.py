"""Commits in a git repository: made, compared with production, run in a clean checkout, and deployed."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from .workflow import Workflow

GREEN, RED, NOT_RUN = "green", "red", "not run"
PRODUCTION = "refs/heads/production"
NOTES = "--ref=delivery"
MAX_SECONDS = 600  # that a job may take
AUTHOR = {"NAME": "MLOps Course", "EMAIL": "course@localhost"}


class GitError(RuntimeError):
    """git is missing, or refused; the message is its own."""


class RefusedError(RuntimeError):
    """A commit may not be deployed; the message names the jobs that are not green."""


def commit(repository: Path, files: Mapping[str, str | bytes | None], *, message: str, time: pd.Timestamp) -> str:
    """Write files (None deletes one), commit these and no others, and return the commit's id.

    A folder that is no repository yet becomes one. The same files, message and time give the same id. Raises ValueError
    if a path leads out of the repository or the time has no zone, and GitError if nothing changed.
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
    _git(repository, "commit", "--quiet", "--no-verify", "-m", message, time=pd.Timestamp(time).isoformat())
    return _resolve(repository, "HEAD")


def changed(repository: Path, commit: str, *, since: str | None = None) -> list[str]:
    """Return the files in which a commit differs from `since`, by default from production: all before it exists.

    A renamed file counts under both names.
    """
    commit, since = _resolve(repository, commit), _resolve(repository, since) if since else _production(repository)
    if since is None:
        names = _git(repository, "ls-tree", "-r", "-z", "--name-only", commit)
    else:
        names = _git(repository, "diff", "--no-renames", "-z", "--name-only", since, commit)
    return [name for name in names.split("\0") if name]


def run(repository: Path, commit: str, *, workflow: Workflow, jobs: Collection[str] | None = None) -> pd.DataFrame:
    """Run jobs on a clean checkout of a commit, up to the first red one, and keep the verdicts with the commit.

    By default these are the jobs that the commit needs to be deployed. A job is green if its command ends with 0 in
    time. Columns: job, verdict ("green", "red" or "not run"), said (what it printed).
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
                verdict, said = _run_one(workflow.jobs[name]["run"], checkout)
            rows.append({"job": name, "verdict": verdict, "said": said})
    kept = verdicts(repository, commit) | {row["job"]: row["verdict"] for row in rows}
    _git(repository, "notes", NOTES, "add", "--force", "-m", json.dumps(kept), commit)
    return pd.DataFrame(rows, columns=["job", "verdict", "said"])


def _run_one(command: str, folder: Path) -> tuple[str, str]:
    words = shlex.split(command)
    words[0] = sys.executable if words[0] == "python" else words[0]
    environment = {**_environment(), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    environment.pop("PYTHONPATH", None)  # it may lead to the working folder
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
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return RED, f"stopped after {MAX_SECONDS:g} s"
    except OSError as error:
        return RED, f"could not be started: {error.strerror}: {words[0]}"
    return GREEN if done.returncode == 0 else RED, done.stdout.strip()


def verdicts(repository: Path, commit: str) -> dict[str, str]:
    """Return the last verdict on each job that was to run on a commit; empty if there was none."""
    commit = _resolve(repository, commit)
    noted = {line.split()[1] for line in _git(repository, "notes", NOTES, "list").splitlines()}
    return json.loads(_git(repository, "notes", NOTES, "show", commit)) if commit in noted else {}


def deploy(repository: Path, commit: str, *, workflow: Workflow) -> list[str]:
    """Move the branch `production` to a commit, and return the commits that went live with it, oldest first.

    Raises RefusedError with the names of the jobs if any that the commit needs is not green; production then stays.
    """
    commit, now = _resolve(repository, commit), _production(repository)
    kept = verdicts(repository, commit)
    found = {name: kept.get(name, NOT_RUN) for name in workflow.required(changed(repository, commit, since=now))}
    if faults := [f"{name} ({verdict})" for name, verdict in found.items() if verdict != GREEN]:
        title = _git(repository, "log", "-1", "--format=%s", commit).strip()
        raise RefusedError(f"{title!r} stays out of production, because it is not green in: {', '.join(faults)}")
    live = _git(repository, "rev-list", "--reverse", "--topo-order", commit, *([f"^{now}"] if now else [])).split()
    _git(repository, "update-ref", PRODUCTION, commit, now or "")  # git refuses if production has moved meanwhile
    return live


def _production(repository: Path) -> str | None:
    return _git(repository, "for-each-ref", "--format=%(objectname)", PRODUCTION).strip() or None


def _resolve(repository: Path, name: str) -> str:
    """Return the id of the commit that an id, a branch or a tag names."""
    return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}").strip()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def _git(repository: Path | None, *arguments: str, time: str | None = None) -> str:
    """Return what git prints; it looks for no other repository in the folders above. A commit takes a time."""
    program = shutil.which("git")
    if program is None:
        raise GitError("git was not found: install it from https://git-scm.com/downloads, then start Python again")
    repository = Path(repository).resolve() if repository else None
    place = [f"--git-dir={repository / '.git'}", f"--work-tree={repository}"] if repository else []
    ours = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    author = AUTHOR | ({"DATE": time} if time else {})
    ours |= {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in author.items()}
    done = subprocess.run(
        [program, "-c", "core.hooksPath=" + os.devnull, *place, *arguments],
        cwd=repository,
        env=_environment() | ours,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        why = (done.stderr or done.stdout).strip() or f"no such commit: {arguments[-1]}"
        raise GitError(f"git {arguments[0]} in {repository or arguments[-1]}: {why}")
    return done.stdout
