"""The command line, `mlops-course`: one command for each thing that is done to a model, from training to rollback.

Exit codes: 0 done; 1 it failed, and the message says why and what to do; 2 the command was called wrongly; 3 the gate
refused the model; 4 the port is taken.

The commands are in `commands`. Nothing heavy is imported before one runs, so that `--help` answers at once.
"""

from typing import Any, ClassVar

import click

from mlops_course import __version__
from mlops_course.commands import classroom, course, governance, operations, release, starter, training, workspace
from mlops_course.commands.shared import PORT_TAKEN, REFUSED, Commands

__all__ = ["main"]

CASE = "mlops_course.flights"  # the running case; --case names the package of another one
EXIT_CODES = {"GateRefusedError": REFUSED, "PortTakenError": PORT_TAKEN}  # by name: nothing heavy is imported
PARTS = (training, release, operations, governance, course, classroom, starter, workspace)


class _Commands(Commands):
    """Commands whose expected errors end in one message instead of a traceback, unless --debug is given."""

    parts: ClassVar[dict[str, str]] = {
        "Start": "doctor demo ui reset",
        "Learn": "progress check snippet classroom",
        "Make a model": "new train evaluate score scale",
        "Release it": "promote rollback shadow canary history",
        "Run it": "serve monitor replay",
        "Answer for it": "lineage incident forget readiness",
    }

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if context.params.get("debug") or not _expected(error):
                raise
            exit_with = click.ClickException(str(error))
            exit_with.exit_code = EXIT_CODES.get(type(error).__name__, 1)
            raise exit_with from error


def _expected(error: Exception) -> bool:
    """Whether an error was raised to be read: by the course, or for a file that is not there."""
    return isinstance(error, ValueError | OSError | LookupError) or type(error).__module__.startswith("mlops_course.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mlops-course")
@click.option("--case", default=CASE, show_default=True, metavar="PACKAGE", help="Package with data and code.")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def main(context: click.Context, case: str, debug: bool) -> None:
    """MLOps Course: train, gate, release and watch a model, all in one folder on this computer.

    State lives in .mlops beside the course, or in the folder that MLOPS_HOME names. `reset` deletes it.

    Exit codes: 0 done; 1 failed; 2 called wrongly; 3 the gate refused the model; 4 the port is taken.
    """
    context.obj = case


for part in PARTS:
    for name in part.__all__:
        main.add_command(getattr(part, name))
