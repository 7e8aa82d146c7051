"""`mlops-course new`: a starter project for a table of your own."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["new"]

FOLDED_COLUMNS = 12  # with more columns without a remark, one line names them all; the README has a line for each


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(dir_okay=False, path_type=Path), help="The table: a CSV or Parquet file.")
@click.option("--target", metavar="COLUMN", help="What to predict; it has two values.")
@click.option("--time", metavar="COLUMN", help="When each row is predicted.")
@click.option("--no-time", is_flag=True, help="There is no such column; the order of rows is the order of time.")
@click.option("--positive", metavar="VALUE", help="Value of the target that counts as 1; all others count as 0.")
@click.option("--id", "row_id", metavar="COLUMN", help="The id of each row.")
@click.option("--drop", metavar="COLUMN", multiple=True, help="Leave a column out; may be repeated.")
@click.option("--keep", metavar="COLUMN", multiple=True, help="Use a column that would be left out; may be repeated.")
@click.option("--time-format", metavar="FORMAT", help="Format of times, such as %d/%m/%Y, if two are possible.")
@click.option("--update", "renew", is_flag=True, help="Bring the project in DIR up to this version of the course.")
def new(
    folder: Path,
    data: Path | None,
    target: str | None,
    time: str | None,
    no_time: bool,
    positive: str | None,
    row_id: str | None,
    drop: tuple[str, ...],
    keep: tuple[str, ...],
    time_format: str | None,
    renew: bool,
) -> None:
    """Write a project into DIR that trains, gates and registers a model on your table.

    What was seen in each column and decided is printed, and written to the project's README. Nothing is overwritten:
    DIR must be new or empty, and --update keeps what you have changed.
    """
    from mlops_course import starter

    if renew:
        if data or target or time or no_time:
            raise click.UsageError("--update goes by what the project was made with; give it DIR only")
        _tell_changes(starter.update(folder))
        return
    if data is None or target is None:
        raise click.UsageError("say which table and which column to predict: --data FILE --target COLUMN")
    if (time is None) == (not no_time):
        raise click.UsageError(
            "say which column tells when each row is predicted: --time COLUMN. Without one nobody can say what was "
            "known when, nor train on the past and judge on the future. If the table has none, --no-time takes the "
            "order of its rows for time: right if they are in that order, worth little if not."
        )
    from datetime import date

    from mlops_course.starter import table

    choices = table.Choices(target, time, positive, row_id, drop, keep, time_format)
    judgement = table.infer(data, choices)
    options = {"--data": data.name, **{f"--{name.replace('_', '-')}": value for name, value in vars(choices).items()}}
    given = [(option, [values] if isinstance(values, str) else values or ()) for option, values in options.items()]
    words = [word for option, values in given for value in values for word in (option, value)]
    command = shlex.join(["mlops-course", "new", folder.name, *words, *(["--no-time"] if no_time else [])])
    starter.create(folder, judgement, data=data, command=command, today=date.today())
    _tell(judgement)
    facts = judgement.facts
    click.echo(
        f"{facts['rows']:,} rows, {facts['share']:.1%} positive, in {facts['batches']} batches by "
        f"{judgement.plan['grain']}: {facts['first_batch']} to {facts['last_batch']}.\n"
        f"The project is in {folder}. Next: cd {folder} && make test && make train.\n"
        "It runs as it is. What no table can say is left for you to decide: its README lists the places."
    )


def _tell(judgement: Any) -> None:
    """Print what was seen in each column, and decided."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    for title in ("column", "seen", "decided", "why"):
        grid.add_column(title, overflow="fold")
    plain = [line for line in judgement.findings if not line.why]
    folded = plain if len(plain) > FOLDED_COLUMNS else []
    for line in judgement.findings:
        if line not in folded:
            grid.add_row(*map(escape, (line.column, line.seen, line.decided, line.why)))
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(grid)
    if folded:
        names = ", ".join(line.column for line in folded)
        click.echo(f"{len(folded)} more columns are numbers without a remark: {names}.")


def _tell_changes(changes: list[Any]) -> None:
    for change in changes:
        click.echo(f"{change.what:9} {change.path}{f': {change.advice}' if change.advice else ''}")
    click.echo(f"{len(changes)} files differ from this version." if changes else "All is as this version makes it.")
