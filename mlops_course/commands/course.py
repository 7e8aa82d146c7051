"""Exercises, progress with them, and short programs to take to work."""

import json
from pathlib import Path

import click

from mlops_course.commands.shared import as_json, progress_bar, show
from mlops_course.course.lessons import LESSONS, did_you_mean, number_of

__all__ = ["check", "progress", "snippet"]


def _lesson(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a lesson that has exercises, given by name or number."""
    names = {number_of(name): name for name in LESSONS}
    if value is None or (name := names.get(value.rjust(2, "0"), value)) in LESSONS:
        return value and name
    near = did_you_mean(value, LESSONS)
    raise click.BadParameter(
        f"expected a lesson that has exercises, got {value!r}; there are {', '.join(LESSONS)}{near}"
    )


def _folder(name: str) -> Path:
    """Return a folder of the course, of the working folder or of the checkout that has this file."""
    places = [Path.cwd() / name, Path(__file__).resolve().parents[2] / name]
    if found := next((place for place in places if place.is_dir()), None):
        return found
    raise click.ClickException(f"expected a folder {name} in {places[0].parent}; call this from a copy of the course")


@click.command()
@click.argument("lesson", callback=_lesson)
@click.option(
    "--notebook",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your notebook, if it is not the one in exercises.",
)
def check(lesson: str, notebook: Path | None) -> None:
    """Run your notebook of a lesson, such as drift or 13, and check every gap.

    Exit code 1: not all gaps are done.
    """
    from mlops_course.course.checks import marking, overview

    places = [notebook] if notebook else sorted(_folder("exercises").glob(f"[0-9][0-9]_{lesson}.ipynb"))
    if not places:
        raise click.ClickException(
            f"expected a notebook NN_{lesson}.ipynb in exercises, found none; name yours: --notebook"
        )
    with progress_bar(None, f"running {places[0].name}"):
        marks = marking.mark(places[0].resolve())
    for found in marks:
        click.echo(f"{found.outcome:9}  {found.name}: {found.said}")
        if found.outcome != "done":
            click.echo(f"{'':11}{places[0]}, cell {found.cell} is the check; the answer is in the cell before it")
    click.echo("\n" + overview.table(lesson))
    if any(found.outcome != "done" for found in marks):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("lesson", required=False, callback=_lesson)
@click.option("--reset", is_flag=True, help="Begin the exercises again; your notebook is kept as a copy.")
@as_json
def progress(lesson: str | None, reset: bool, as_json: bool) -> None:
    """Show how far you are with the exercises, of all lessons or of one, and what to do next."""
    from mlops_course.course import progress
    from mlops_course.course.checks import overview

    if reset:
        if lesson is None:
            raise click.UsageError("name the lesson to begin again, such as: progress drift --reset")
        copy = overview.reset(lesson, exercises=_folder("exercises"), solutions=_folder("solutions"))
        kept = f"Your notebook is kept in {copy}." if copy else "There was no notebook; a new one is in exercises."
        click.echo(kept, err=as_json)
    if as_json:
        click.echo(json.dumps(overview.facts(lesson), indent=1))
        return
    click.echo(f"{overview.table(lesson, named=True)}\n\n{overview.next_step(lesson)}")
    if room := progress.classroom():
        try:
            click.echo(f"{progress.deliver(room)} results sent to the classroom.")
        except Exception as error:  # progress is shown whatever the server or the network does
            waits = f"{progress.waiting(room)} results wait"
            if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403):
                click.echo(f"{waits}: the classroom no longer knows {room.learner}; ask the teacher, or join again.")
            else:
                click.echo(f"{waits} until the classroom can be reached ({error}).")


@click.command()
@click.argument("name", required=False)
@click.option(
    "--copy",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write it into this folder, with the modules that it needs beside it.",
)
@as_json
def snippet(name: str | None, folder: Path | None, as_json: bool) -> None:
    """Print a short program that does one task and runs as it stands; without a name, list the tasks."""
    from mlops_course.course import snippets

    if name is None:
        if folder:
            raise click.UsageError("name the snippet to copy, such as: snippet psi --copy DIR")
        import pandas as pd

        found = [snippets.load(each) for each in snippets.names()]
        rows = [(s.name, s.task, ", ".join(s.modules), s.lines, ", ".join(s.needs)) for s in found]
        show(pd.DataFrame(rows, columns=["snippet", "task", "module", "lines", "needs"]), as_json=as_json)
        return
    found = snippets.load(name)
    if folder is None:
        click.echo(found.code, nl=False)
        return
    for path in snippets.copy(found, folder):
        click.echo(path)
    click.echo(f"Install what it needs: {' '.join(found.needs)}" if found.needs else "It needs Python only.")
