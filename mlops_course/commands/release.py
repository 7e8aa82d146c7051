"""Promote a version, roll back, or try a version beside the champion; and the history of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from mlops_course.commands.shared import as_json, evidence_option, json_of, log_option, on_record, pass_system, show

__all__ = ["canary", "history", "promote", "rollback", "shadow"]

waiver_option = click.option(
    "--waiver", default="", help="Why an objection of the gate or of the contract is accepted; goes on record."
)


@click.command()
@click.argument("version", type=int)
@on_record
@evidence_option
@log_option
@waiver_option
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
    system.verify_history()  # keeps the new head
    click.echo(f"Version {version} is champion now; before it was {f'version {before}' if before else 'none'}.")


@click.command()
@on_record
@evidence_option
@waiver_option
@pass_system
def rollback(system: Any, **words: str) -> None:
    """Make the previous champion champion again; a running service switches at once.

    Callers may have to send other inputs then: if the contracts differ, a waiver has to say why that is accepted.
    """
    version = system.registry.roll_back(**words)
    system.verify_history()  # keeps the new head
    click.echo(f"Version {version} is champion again.")


def _trial_command(command: Callable[..., None]) -> click.Command:
    """Make a command of a trial: VERSION starts one, --stop ends it, and without either the command shows it."""
    options = (
        click.argument("version", type=int, required=False),
        click.option("--stop", is_flag=True, help="End it."),
        click.option("--approver", help="Who is responsible; goes on record."),
        click.option("--reason", help="Why; goes on record."),
        waiver_option,
        log_option,
        as_json,
    )
    command = pass_system(command)
    for option in reversed(options):
        command = option(command)
    return click.command()(command)


def _trial(
    system: Any, mode: str, start: Callable[..., None], *, version: int | None, stop: bool, waiver: str, **signed: str
) -> Any:
    """Return the running trial, to be shown; None if VERSION was started now, or the trial ended."""
    if (stop or version is not None) and not all(signed.values()):
        raise click.UsageError("expected --approver NAME and --reason WHY: both go on record")
    if version is not None and not stop:
        start(version, **signed, waiver=waiver)
        system.verify_history()  # keeps the new head
        click.echo(f"Version {version} is a {mode} now. How it does: mlops-course {mode}")
        return None
    trial = system.registry.trial()
    if trial is None or trial.mode != mode:
        raise click.ClickException(f"expected a running {mode}, found none; begin one: mlops-course {mode} VERSION")
    if stop:
        system.registry.end_trial(**signed)
        system.verify_history()  # keeps the new head
        click.echo(f"Version {trial.version} answers no longer.")
        return None
    return trial


@_trial_command
def shadow(system: Any, log_url: str | None, as_json: bool, **asked: Any) -> None:
    """Let VERSION predict beside the champion, unseen by callers. Without VERSION: show how the shadow does.

    A running service starts within a second. The predictions are compared on the same requests.
    """
    trial = _trial(system, "shadow", system.registry.shadow, **asked)
    if trial:
        from mlops_course.system import service

        table = service.shadow_table(system, log_url=log_url or system.workspace.prediction_log_url, trial=trial)
        show(table.round(4), title=f"Since {trial.since:%Y-%m-%d %H:%M} UTC, by {trial.approver}", as_json=as_json)


@_trial_command
def canary(system: Any, log_url: str | None, as_json: bool, **asked: Any) -> None:
    """Let VERSION answer a small share of the ids. Without VERSION: show how the canary does.

    A running service starts within a second and raises the share step by step. It stops a canary that fails, is slow or
    costs more than the champion. To let VERSION answer everything, promote it.
    """
    from mlops_course.system import service

    start = partial(system.registry.canary, share=service.canary_plan(system).steps[0])
    trial = _trial(system, "canary", start, **asked)
    if trial:
        verdict = _verdict(system, trial, log_url)
        title = f"Version {trial.version} at share {trial.share:g}, since {trial.since:%Y-%m-%d %H:%M} UTC"
        show(verdict.measures.reset_index().round(4), title=title, as_json=as_json)
        if not as_json:
            click.echo(verdict.reason)


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
    events, versions, chain = registry.history(), registry.versions(), system.verify_history()
    if as_json:
        facts = {"begins": chain.begins, "head": chain.head, "defect": chain.defect}
        click.echo(json_of(events=events.reset_index(), versions=versions, chain=pd.DataFrame([facts])))
        return
    show(versions[["version", "aliases", "registered", "gate", "data_version"]], title="Versions")
    steps = events.assign(when=events["when"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    show(steps[["when", "event", "version", "previous", "share", "approver", "reason"]], title="Releases")
    state = "is intact" if chain.begins else "has no chained release yet, so nobody can say whether it is intact"
    click.echo(f"The history was changed: {chain.defect}." if chain.defect else f"The history {state}: {chain.head}")
