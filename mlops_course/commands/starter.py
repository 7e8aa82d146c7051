"""`mlops-course new`: a starter project for a table of your own."""

import shlex
from datetime import date
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import show

__all__ = ["new"]

FOLDED_COLUMNS = 12  # with more columns without a remark, one line names them all; the README has a line for each


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(dir_okay=False, path_type=Path), help="The table: a CSV or Parquet file.")
@click.option("--target", metavar="COLUMN", help="What to predict; it has two values.")
@click.option("--time", metavar="COLUMN", help="When each row is predicted.")
@click.option("--no-time", is_flag=True, help="There is no such column; the order of rows is the order of time.")
@click.option(
    "--positive",
    metavar="VALUE",
    help="Value of the target that counts as 1; all others count as 0. For numbers: above:200.",
)
@click.option("--id", metavar="COLUMN", help="The id of each row.")
@click.option("--drop", metavar="COLUMN", multiple=True, help="Leave a column out; may be repeated.")
@click.option("--keep", metavar="COLUMN", multiple=True, help="Use a column that would be left out; may be repeated.")
@click.option("--time-format", metavar="FORMAT", help="Format of times, such as %d/%m/%Y, if two are possible.")
@click.option("--group", metavar="COLUMN", help="What comes in several rows, such as a client: they stay together.")
@click.option("--once", is_flag=True, help="Read rows once that are the same in every column.")
@click.option("--update", "renew", is_flag=True, help="Bring the project in DIR up to this version of the course.")
def new(folder: Path, data: Path | None, no_time: bool, renew: bool, **choices: Any) -> None:
    """Write a project into DIR that trains, gates and registers a model on your table.

    What was seen in each column and decided is printed, and written to the project's README. Nothing is overwritten:
    DIR must be new or empty, and --update keeps what you have changed.
    """
    from mlops_course import starter
    from mlops_course.starter import table

    if renew:
        if data or no_time or choices["target"] or choices["time"]:
            raise click.UsageError("--update goes by what the project was made with; give it DIR only")
        changes = starter.update(folder)
        for change in changes:
            click.echo(f"{change.what:9} {change.path}{f': {change.advice}' if change.advice else ''}")
        click.echo(f"{len(changes)} files differ from this version." if changes else "All is as this version makes it.")
        return
    if data is None or choices["target"] is None:
        raise click.UsageError("say which table and which column to predict: --data FILE --target COLUMN")
    if (choices["time"] is None) == (not no_time):
        raise click.UsageError(
            "say which column tells when each row is predicted: --time COLUMN. Without one nobody can say what was "
            "known when, nor train on the past and judge on the future. If the table has none, --no-time takes the "
            "order of its rows for time: right if they are in that order, worth little if not."
        )
    chosen = table.Choices(**choices)
    judgement = table.infer(data, chosen)
    words = ["mlops-course", "new", folder.name, "--data", data.name]
    for name, values in vars(chosen).items():
        if values is True:
            words.append(f"--{name}")
            continue
        for value in [values] if isinstance(values, str) else values or ():
            words += [f"--{name.replace('_', '-')}", value]
    command = shlex.join([*words, *["--no-time"] * no_time])
    starter.create(folder, judgement, data=data, command=command, today=date.today())
    _tell(judgement)
    facts = judgement.facts
    click.echo(
        f"{facts['rows']:,} rows, {facts['share']:.1%} positive, in {facts['batches']} batches by "
        f"{judgement.plan['grain']}: {facts['first_batch']} to {facts['last_batch']}.\n"
        f"The project is in {folder}. Next: cd {shlex.quote(str(folder))} && make test && make train.\n"
        "It runs as it is. What no table can say is left for you to decide: its README lists the places."
    )


def _tell(judgement: Any) -> None:
    """Print what was seen in each column, and decided."""
    import pandas as pd

    plain = [line for line in judgement.findings if not line.why]
    folded = plain if len(plain) > FOLDED_COLUMNS else []
    show(pd.DataFrame([vars(line) for line in judgement.findings if line not in folded]))
    if folded:
        names = ", ".join(line.column for line in folded)
        click.echo(f"{len(folded)} more columns are numbers without a remark: {names}.")
