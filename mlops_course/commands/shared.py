"""What the commands share: options that mean the same everywhere, tables, bars and the prediction log."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import click

from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

REFUSED = 3  # exit code when the gate refuses a model
PORT_TAKEN = 4  # exit code when something else listens on the port

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine instead of a table.")
evidence_option = click.option("--evidence", default="", help="What was measured, in words; goes on record.")
version_option = click.option(
    "--version",
    default="champion",
    show_default=True,
    help="Number, champion or challenger.",
    callback=lambda context, parameter, text: int(text) if text.isdecimal() else text,
)
log_option = click.option(
    "--log",
    "log_url",
    envvar="MLOPS_LOG",
    show_envvar=True,
    metavar="URL",
    help="SQLAlchemy URL of the prediction log; SQLite in the workspace if not given.",
)


class Commands(click.Group):
    """Commands whose help shows the whole first sentence of each, under headings where `parts` has some."""

    parts: ClassVar[dict[str, str]] = {}  # a heading, and the commands under it

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by part; those of no part, and all where there are no parts, are called Commands."""
        told = {name: command.get_short_help_str(limit=1_000) for name, command in sorted(self.commands.items())}
        for heading, names in self.parts.items():
            with formatter.section(click.style(heading, bold=True)):
                formatter.write_dl([(name, told.pop(name)) for name in names.split()])
        if told:
            with formatter.section("Commands"):
                formatter.write_dl([*told.items()])


def on_record(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command with --approver and --reason, which go on record."""
    who = click.option("--approver", required=True, help="Who is responsible; goes on record.")
    why = click.option("--reason", required=True, help="Why; goes on record.")
    return who(why(command))


def pass_system(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that takes the system, of the case in the workspace, as its first argument."""

    @click.pass_context
    @wraps(command)
    def called(context: click.Context, **given: Any) -> None:
        from mlops_course.system.system import System

        command(System(context.obj, Workspace.locate()), **given)

    return called


def pass_log(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that takes the system and its open prediction log as its first arguments."""

    @log_option
    @pass_system
    @wraps(command)
    def called(system: Any, log_url: str | None, **given: Any) -> None:
        from mlops_course.operations.deployment.prediction_log import PredictionLog

        system.workspace.create()
        with closing(PredictionLog(log_url or system.workspace.prediction_log_url)) as log:
            command(system, log, **given)

    return called


def json_of(**tables: "pd.DataFrame") -> str:
    """Return tables, by name, as JSON."""
    rows = {name: json.loads(table.to_json(orient="records", date_format="iso")) for name, table in tables.items()}
    return json.dumps(rows, indent=1)


def show(table: "pd.DataFrame", *, title: str = "", as_json: bool = False) -> None:
    """Print a table for a person, or its rows as JSON. What somebody wrote is printed as it is, never as markup."""
    if as_json:
        click.echo(table.to_json(orient="records", date_format="iso", indent=1))
        return
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        title=Text(title) if title else None, title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for name, dtype in table.dtypes.items():
        right = pd.api.types.is_numeric_dtype(dtype)
        grid.add_column(Text(str(name)), justify="right" if right else "left", overflow="fold")
    for row in table.itertuples(index=False):
        grid.add_row(*("" if pd.isna(value) else Text(str(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(grid)
    click.echo()


@contextmanager
def progress_bar(total: int | None, what: str) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error, so that output can be piped; call what it gives with a text and how much was done.

    The total may also come with a call. Without one, the bar only shows that something is going on.
    """
    with told_bar(what, total, out=sys.stderr) as (advance, _):
        yield advance


@contextmanager
def told_bar(
    what: str, total: int | None = None, *, out: Any = None
) -> Iterator[tuple[Callable[..., None], Callable[[str], None]]]:
    """Show a bar and give two functions: one moves it as in `progress_bar`, one prints a line of text above it.

    Both go to `out`, standard output if not given. What is not a terminal gets the lines as they are and no bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(file=out, highlight=False)
    columns = (TextColumn("{task.description:32}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield (
            lambda description, done, of=total: progress.update(task, description=description, advance=done, total=of),
            lambda line: console.print(Text(line), soft_wrap=not console.is_terminal),
        )


@contextmanager
def training_steps() -> Iterator[Callable[[str, str], None]]:
    """Show a bar for the steps of the pipeline."""
    from mlops_course.system.pipeline.steps import __all__ as steps

    with progress_bar(len(steps), "training") as advance:
        yield lambda step, event: advance(step.replace("_", " "), int(event == "finished"))
