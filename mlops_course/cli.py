"""The command line, `mlops-course`: one command for each thing that is done to a model, from training to rollback.

Exit codes: 0 done; 1 it failed, and the message says why and what to do; 2 the command was called wrongly; 3 the gate
refused the model.

The commands are in `commands`. Nothing heavy is imported before one runs, so that `--help` answers at once.
"""

from typing import Any

import click

from mlops_course import __version__
from mlops_course.commands import classroom, course, governance, operations, release, starter, training, workspace
from mlops_course.commands.shared import REFUSED

__all__ = ["main"]

CASE = "mlops_course.flights"  # the running case; --case names the package of another one
PARTS = (training, release, operations, governance, course, classroom, starter, workspace)


class _Commands(click.Group):
    """Commands whose expected errors end in one message instead of a traceback, unless --debug is given."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if context.params.get("debug") or not _expected(error):
                raise
            exit_with = click.ClickException(str(error))
            exit_with.exit_code = REFUSED if type(error).__name__ == "GateRefusedError" else 1
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
    """
    context.obj = case


for part in PARTS:
    for name in part.__all__:
        main.add_command(getattr(part, name))
