"""Promote a version, roll back, or try a version beside the champion; and the history of it."""

from collections.abc import Callable
from typing import Any

import click

from mlops_course.commands.shared import (
    as_json,
    because,
    by_whom,
    evidence_option,
    json_of,
    log_option,
    pass_system,
    show,
)

__all__ = ["canary", "history", "promote", "rollback", "shadow"]


@click.command()
@click.argument("version", type=int)
@by_whom
@because
@evidence_option
@log_option
@click.option("--waiver", default="", help="Why an objection of the gate or of the contract is accepted; on record.")
@pass_system
def promote(
    system: Any, version: int, approver: str, reason: str, evidence: str, log_url: str | None, waiver: str
) -> None:
    """Make VERSION the champion, if the gate passed it and its files are what was registered.

    A running service switches between two requests, and keeps the version before for `rollback`. If VERSION is a
    canary, the verdict on it goes on record as evidence.
    """
    registry, trial = system.registry, system.registry.trial()
    before = registry.champion()
    if not evidence and trial and (trial.mode, trial.version) == ("canary", version):
        evidence = _verdict(system, trial, log_url).reason
    registry.promote(version, approver=approver, reason=reason, evidence=evidence, waiver=waiver)
    click.echo(f"Version {version} is champion now; before it was {f'version {before}' if before else 'none'}.")


@click.command()
@by_whom
@because
@evidence_option
@pass_system
def rollback(system: Any, approver: str, reason: str, evidence: str) -> None:
    """Make the previous champion champion again; a running service switches at once."""
    version = system.registry.roll_back(approver=approver, reason=reason, evidence=evidence)
    click.echo(f"Version {version} is champion again.")


def _trial_command(command: Callable[..., None]) -> click.Command:
    """Make a command for trials: VERSION starts one, --stop ends it, and without either the command shows it."""
    parts = [
        click.command(),
        click.argument("version", type=int, required=False),
        click.option("--stop", is_flag=True, help="End it."),
        click.option("--approver", help="Who is responsible; goes on record."),
        click.option("--reason", help="Why; goes on record."),
        log_option,
        as_json,
        pass_system,
    ]
    for part in reversed(parts):
        command = part(command)
    return command


@_trial_command
def shadow(
    system: Any,
    version: int | None,
    stop: bool,
    approver: str | None,
    reason: str | None,
    log_url: str | None,
    as_json: bool,
) -> None:
    """Let VERSION predict beside the champion, unseen by callers. Without VERSION: show how the shadow does.

    A running service starts within a second. The predictions are compared on the same requests.
    """
    if version is not None and not stop:
        system.registry.shadow(version, **_signed(approver, reason))
        click.echo(f"Version {version} answers in shadow. How it does: mlops-course shadow")
    elif trial := _trial(system, "shadow", end=_signed(approver, reason) if stop else None):
        from mlops_course.system import service

        table = service.shadow_table(system, log_url=log_url or system.workspace.prediction_log_url, trial=trial)
        show(table.round(4), title=f"Since {trial.since:%Y-%m-%d %H:%M} UTC, by {trial.approver}", as_json=as_json)


@_trial_command
def canary(
    system: Any,
    version: int | None,
    stop: bool,
    approver: str | None,
    reason: str | None,
    log_url: str | None,
    as_json: bool,
) -> None:
    """Let VERSION answer a small share of the ids. Without VERSION: show how the canary does.

    A running service starts within a second and raises the share step by step. It stops a canary that fails, is slow or
    costs more than the champion. To let VERSION answer everything, promote it.
    """
    from mlops_course.system import service

    if version is not None and not stop:
        share = service.canary_plan(system).steps[0]
        system.registry.canary(version, share=share, **_signed(approver, reason))
        click.echo(f"Version {version} answers {share:.0%} of the ids. How it does: mlops-course canary")
    elif trial := _trial(system, "canary", end=_signed(approver, reason) if stop else None):
        verdict = _verdict(system, trial, log_url)
        title = f"Version {trial.version} at share {trial.share:g}, since {trial.since:%Y-%m-%d %H:%M} UTC"
        show(verdict.measures.reset_index().round(4), title=title, as_json=as_json)
        if not as_json:
            click.echo(verdict.reason)


def _signed(approver: str | None, reason: str | None) -> dict[str, str]:
    if not (approver and reason):
        raise click.UsageError("expected --approver NAME and --reason WHY: both go on record")
    return {"approver": approver, "reason": reason}


def _trial(system: Any, mode: str, *, end: dict[str, str] | None) -> Any:
    """Return the trial that is running, or None after it was ended; `end` has approver and reason."""
    trial = system.registry.trial()
    if trial is None or trial.mode != mode:
        raise click.ClickException(f"expected a running {mode}, found none; begin one: mlops-course {mode} VERSION")
    if end is None:
        return trial
    system.registry.end_trial(**end)
    click.echo(f"Version {trial.version} answers no longer.")
    return None


def _verdict(system: Any, trial: Any, log_url: str | None) -> Any:
    from mlops_course.system import service

    return service.canary_verdict(system, log_url=log_url or system.workspace.prediction_log_url, trial=trial)


@click.command()
@as_json
@pass_system
def history(system: Any, as_json: bool) -> None:
    """Show who released or rolled back which version, when and why, and all versions."""
    import pandas as pd

    registry = system.registry
    events, versions, chain = registry.history(), registry.versions(), registry.verify_history()
    if as_json:
        facts = {"begins": chain.begins, "head": chain.head, "defect": chain.defect}
        click.echo(json_of(events=events.reset_index(), versions=versions, chain=pd.DataFrame([facts])))
        return
    show(versions[["version", "aliases", "registered", "gate", "data_version"]], title="Versions")
    steps = events.assign(when=events["when"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    show(steps[["when", "event", "version", "previous", "share", "approver", "reason"]], title="Releases")
    state = "is intact" if chain.begins else "has no chained release yet, so nobody can say whether it is intact"
    click.echo(f"The history was changed: {chain.defect}." if chain.defect else f"The history {state}: {chain.head}")
