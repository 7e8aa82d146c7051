"""Where a prediction came from, what is forgotten, what happened, and how ready the system is."""

from datetime import UTC
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import as_json, on_record, pass_log, progress_bar, show

__all__ = ["forget", "incident", "lineage", "readiness"]


@click.command()
@click.argument("id")
@as_json
@pass_log
def lineage(system: Any, log: Any, id: str, as_json: bool) -> None:
    """Show where the prediction ID came from: model, code, data, specification, gate and approver, each verified.

    Exit code 1: a link does not hold.
    """
    from mlops_course.system import governance

    found = governance.lineage(system, log, id)
    show(found.table, title=f"Prediction {id}", as_json=as_json)
    if found.broken:
        raise click.ClickException(f"these links do not hold: {', '.join(found.broken)}")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--again", is_flag=True, help="Instead of IDs: what a restored backup has brought back.")
@on_record
@pass_log
def forget(system: Any, log: Any, ids: tuple[str, ...], again: bool, approver: str, reason: str) -> None:
    """Delete the rows of IDs from the logs, the cache and the snapshots, and never train on them again.

    The request goes on record, with keyed digests of the ids; MLOPS_DELETION_KEY holds the key, or deletion.key in the
    workspace. Repeat the command to complete a run that was killed, and with --again after a backup was restored.
    """
    from mlops_course.system import governance

    if again == bool(ids):
        raise click.UsageError("expected either IDs or --again")
    by = {"approver": approver, "reason": reason}
    done = governance.forget_again(system, log, **by) if again else governance.forget(system, log, ids, **by)
    if done is None:
        click.echo("Nothing that was forgotten has come back.")
        return
    rows = ", ".join(f"{count:,} from {name}" for name, count in done["rows"].items())
    removed = f"{len(done['snapshots'])} snapshots removed"
    click.echo(f"Forgotten: {rows}; {removed}. This is record {done['number']} of the audit trail.")
    if done["versions"]:
        click.echo(f"Train again, as they learned from these rows: version {', '.join(map(str, done['versions']))}.")


@click.command()
@as_json
@pass_log
def readiness(system: Any, log: Any, as_json: bool) -> None:
    """Compute the ML Test Score: 28 probes of champion, pipeline and log; the weakest of four sections counts.

    Nothing is changed, but the head of the history is kept. The tests of the case are run if the current folder is a
    checkout.
    """
    from mlops_course.system import readiness as probes

    total = sum(map(len, probes.PROBES.values()))
    with progress_bar(total, "probing") as advance:
        card = probes.score(system, log, repository=Path.cwd(), progress=lambda name: advance(name[:32], 1))
    if as_json:
        show(card.table, as_json=True)
        return
    shown = card.table.assign(passed=card.table["passed"].map({True: "yes", False: "NO"}))
    show(shown[["section", "number", "name", "passed", "found"]], title="ML Test Score")
    points = ", ".join(f"{name} {count}" for name, count in card.sections.items())
    click.echo(f"Of 7 points each: {points}. The score is that of the weakest section: {card.final}.")


@click.command()
@click.option("--start", required=True, type=click.DateTime(), help="When it began, in UTC.")
@click.option("--end", required=True, type=click.DateTime(), help="When it ended, in UTC.")
@pass_log
def incident(system: Any, log: Any, start: Any, end: Any) -> None:
    """Print the report of an incident in Markdown, filled from log, history and audit trail, for a blameless review."""
    from mlops_course.system import governance

    span = {"start": start.replace(tzinfo=UTC), "end": end.replace(tzinfo=UTC)}
    click.echo(governance.incident_report(system, log, **span))
