"""Answer for it: where an answer came from, what is forgotten, what happened, how ready the system is."""

from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import (
    as_json,
    because,
    by_whom,
    log_option,
    open_log,
    progress_bar,
    show,
    system_of,
)

__all__ = ["forget", "incident", "lineage", "readiness"]


@click.command()
@click.argument("id")
@log_option
@as_json
@click.pass_context
def lineage(context: click.Context, id: str, log_url: str | None, as_json: bool) -> None:
    """What is behind the prediction ID: model, code, data, specification, gate, approver, each verified.

    Exit code 1: a link does not hold.
    """
    from mlops_course.system import governance

    system = system_of(context)
    with open_log(system, log_url) as log:
        found = governance.lineage(system, log, id)
    show(found.table, title=f"Prediction {id}", as_json=as_json)
    if found.broken:
        raise click.ClickException(f"these links do not hold: {', '.join(found.broken)}")


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@by_whom
@because
@log_option
@click.pass_context
def forget(context: click.Context, ids: tuple[str, ...], approver: str, reason: str, log_url: str | None) -> None:
    """Take the rows of IDs out of the logs, the cache and the snapshots, and never train on them again.

    The request goes on record, with digests of the ids. May be repeated; a run that was killed is then completed.
    """
    from mlops_course.system import governance

    system = system_of(context)
    with open_log(system, log_url) as log:
        done = governance.forget(system, log, ids, approver=approver, reason=reason)
    rows = ", ".join(f"{count:,} from {name}" for name, count in done["rows"].items())
    removed = f"{len(done['snapshots'])} snapshots removed"
    click.echo(f"Forgotten: {rows}; {removed}. This is record {done['number']} of the audit trail.")
    if done["versions"]:
        click.echo(f"Train anew, as they learned from these rows: version {', '.join(map(str, done['versions']))}.")


@click.command()
@log_option
@as_json
@click.pass_context
def readiness(context: click.Context, log_url: str | None, as_json: bool) -> None:
    """The ML Test Score: 28 probes on champion, pipeline and log; the weakest of four sections counts.

    Changes nothing. Tests of the case are run if the current folder is a checkout.
    """
    from mlops_course.system import readiness as probes

    system = system_of(context)
    total = sum(map(len, probes.PROBES.values()))
    with open_log(system, log_url) as log, progress_bar(total, "probing") as advance:
        card = probes.score(system, log, repository=Path.cwd(), progress=lambda name: advance(name[:32], 1))
    shown = card.table.assign(passed=card.table["passed"].map({True: "yes", False: "NO"}))
    if as_json:
        show(card.table, as_json=True)
        return
    show(shown[["section", "number", "name", "passed", "found"]], title="ML Test Score")
    points = ", ".join(f"{name} {count}" for name, count in card.sections.items())
    click.echo(f"Of 7 points each: {points}. The score is that of the weakest section: {card.final}.")


@click.command()
@click.option("--start", required=True, type=click.DateTime(), help="When it began, in UTC.")
@click.option("--end", required=True, type=click.DateTime(), help="When it ended, in UTC.")
@log_option
@click.pass_context
def incident(context: click.Context, start: Any, end: Any, log_url: str | None) -> None:
    """Print a report for a review without blame, in Markdown, filled from log, history and audit trail."""
    from datetime import UTC

    from mlops_course.system import governance

    system = system_of(context)
    span = {"start": start.replace(tzinfo=UTC), "end": end.replace(tzinfo=UTC)}
    with open_log(system, log_url) as log:
        click.echo(governance.incident_report(system, log, **span))
