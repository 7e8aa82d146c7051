"""The command line, `mlops-course`: one command for each thing that is done to a model, from training to rollback.

Exit codes: 0 done; 1 it failed, and the message says why and what to do; 2 the command was called wrongly; 3 the gate
refused the model.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlops_course import __version__
from mlops_course.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]

CASE = "mlops_course.flights"  # the running case; --case names the package of another one
REFUSED = 3  # exit code when the gate refuses a model


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
@click.option(
    "--case", default=CASE, show_default=True, metavar="PACKAGE", help="Package with the data and their code."
)
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
@click.pass_context
def main(context: click.Context, case: str, debug: bool) -> None:
    """MLOps Course: train, gate, release and watch a model, all in one folder on this computer.

    State lives in .mlops beside the course, or in the folder that MLOPS_HOME names. `reset` deletes it.
    """
    context.obj = case


# What the commands share ----------------------------------------------------------------------------------------------

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine instead of a table.")
by_whom = click.option("--approver", required=True, help="Who answers for it; goes on record.")
because = click.option("--reason", required=True, help="Why; goes on record.")
evidence_option = click.option("--evidence", default="", help="What speaks for it; goes on record.")
version_option = click.option(
    "--version", default="champion", show_default=True, help='A number, "champion" or "challenger".'
)
log_option = click.option(
    "--log",
    "log_url",
    envvar="MLOPS_LOG",
    show_envvar=True,
    metavar="URL",
    help="SQLAlchemy URL of the prediction log; SQLite in the workspace if not given.",
)


def _system(context: click.Context) -> Any:
    from mlops_course.lifecycle import System

    return System(context.obj, Workspace.locate())


def _version(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _json(**tables: "pd.DataFrame") -> str:
    rows = {name: json.loads(table.to_json(orient="records", date_format="iso")) for name, table in tables.items()}
    return json.dumps(rows, indent=1)


def _show(table: "pd.DataFrame", *, title: str = "", as_json: bool = False) -> None:
    """Print a table for a person, or its rows as JSON."""
    if as_json:
        click.echo(table.to_json(orient="records", date_format="iso", indent=1))
        return
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name, dtype in table.dtypes.items():
        grid.add_column(str(name), justify="right" if pd.api.types.is_numeric_dtype(dtype) else "left")
    for row in table.itertuples(index=False):
        grid.add_row(*("" if pd.isna(value) else str(value) for value in row))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(grid)
    click.echo()


@contextmanager
def _progress(total: int | None, what: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error, so that output can be piped; call it with what goes on and how much has been done.

    Without a total, which may also come with a call, it only shows that something is going on.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda description, done, of=total: progress.update(task, description=description, advance=done, total=of)


@contextmanager
def _steps() -> Iterator[Callable[[str, str], None]]:
    """The bar for the steps of the pipeline."""
    from mlops_course.training_graph import __all__ as steps

    with _progress(len(steps), "training") as advance:
        yield lambda step, event: advance(step.replace("_", " "), int(event == "finished"))


# Train and judge ------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@as_json
@click.pass_context
def train(context: click.Context, batches: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Train on BATCHes (such as 2013-01), and register what the gate passes as challenger.

    A rerun does nothing, and a run that was killed goes on where it stopped. Exit code 3: the gate refused the model,
    which is registered with the reasons and without a role.
    """
    from mlops_course import pipeline

    system = _system(context)
    with _steps() as progress:
        trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=seed, progress=progress)
    if as_json:
        outcome = {
            "version": trained.version,
            "passed": trained.gate.passed,
            "reasons": trained.gate.reasons,
            "run_id": trained.run_id,
            "data_version": trained.data_version,
            "chosen_model": trained.chosen_model,
            "executed": trained.executed,
            "metrics": trained.metrics["value"].to_dict(),
        }
        click.echo(json.dumps(outcome, indent=1))
    else:
        _show(trained.metrics.reset_index().round(4), title=f"Version {trained.version}: {trained.chosen_model}")
        click.echo(f"{len(trained.executed)} steps ran, {len(trained.cached)} were there from before.")
        click.echo(
            f"The gate passed it. To release: mlops-course promote {trained.version} --approver NAME --reason WHY"
            if trained.gate.passed
            else "\n".join(["The gate refused it:", *trained.gate.reasons])
        )
    if not trained.gate.passed:
        context.exit(REFUSED)


@main.command()
@click.argument("batch")
@version_option
@as_json
@click.pass_context
def evaluate(context: click.Context, batch: str, version: str, as_json: bool) -> None:
    """Score one BATCH and compare with its labels: metrics with intervals, and by slice."""
    from mlops_course import lifecycle

    system = _system(context)
    with _progress(None, "scoring") as advance:
        scored = lifecycle.score(system, batch, version=_version(version))
        advance("drawing days for intervals", 0)
        evidence = lifecycle.evaluate(system, scored)
    if as_json:
        click.echo(_json(**{name: table.reset_index() for name, table in evidence.items()}))
        return
    _show(evidence["metrics"].reset_index().round(4), title=f"{batch}, {version}")
    _show(_slices(evidence["slices"]), title="By slice, with 95 % intervals of whole days")


def _slices(slices: "pd.DataFrame") -> "pd.DataFrame":
    shown = [
        "slice",
        "value",
        "rows",
        "positives",
        "roc_auc",
        "roc_auc_low",
        "roc_auc_high",
        "calibration_error",
        "note",
    ]
    return slices[shown].round(3)


@main.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT", type=click.Path(dir_okay=False, path_type=Path))
@version_option
@click.pass_context
def score(context: click.Context, source: str, target: Path, version: str) -> None:
    """Write predictions for INPUT to OUTPUT, a .parquet or .csv file.

    INPUT is a batch (such as 2013-04), or a .parquet or .csv file with the columns that the model takes; a column
    id is carried over. OUTPUT has probability, decision and model_version for each row; it is replaced once whole. Rows
    that do not fit go to OUTPUT.quarantine.csv with the reason. A run that was killed goes on where it stopped, and one
    more does nothing.
    """
    from mlops_course import lifecycle

    system = _system(context)
    with _progress(None, "scoring") as advance:
        done = lifecycle.score_to_file(
            system,
            source,
            target=target,
            version=_version(version),
            progress=lambda rows, of: advance("scoring", rows, of),
        )
    found = " were there from an earlier run; nothing was done" if done.already_done else ""
    click.echo(f"{done.rows:,} predictions in {target}{found}")
    if done.quarantine:
        click.echo(f"{done.quarantined:,} rows do not fit and were set aside, with the reasons: {done.quarantine}")


# Serve ----------------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@log_option
@click.option(
    "--token", default="", envvar="MLOPS_TOKEN", show_envvar=True, help="Bearer token that callers must send."
)
@click.pass_context
def serve(context: click.Context, host: str, port: int, log_url: str | None, token: str) -> None:
    """Answer requests with the champion over HTTP, each reply on record; Ctrl-C stops it.

    A promotion or a rollback is taken up within a second, without a restart. Documentation is at /docs, what is served
    at /, measurements at /metrics.
    """
    from mlops_course import service

    system = _system(context)
    if system.registry.champion() is None:
        click.echo("No version is champion yet, so requests get 503 until you promote one.", err=True)
    log_url = log_url or system.workspace.prediction_log_url
    service.run(
        system,
        log_url=log_url,
        host=host,
        port=port,
        token=token,
        started=lambda url: click.echo(f"Serving on {url} (Ctrl-C stops it); try {url}/docs"),
    )


# Release --------------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("version", type=int)
@by_whom
@because
@evidence_option
@log_option
@click.option("--waiver", default="", help="Why an objection of the gate or of the contract is accepted; on record.")
@click.pass_context
def promote(
    context: click.Context,
    version: int,
    approver: str,
    reason: str,
    evidence: str,
    log_url: str | None,
    waiver: str,
) -> None:
    """Make VERSION the champion, if the gate passed it and its files are what was registered.

    A running service switches over between two answers, and keeps the version before at hand for `rollback`. If VERSION
    is on trial as a canary, how it did goes on record as evidence.
    """
    system = _system(context)
    registry, trial = system.registry, system.registry.trial()
    before = registry.champion()
    if not evidence and trial and (trial.mode, trial.version) == ("canary", version):
        evidence = _verdict(system, trial, log_url).reason
    registry.promote(version, approver=approver, reason=reason, evidence=evidence, waiver=waiver)
    click.echo(f"Version {version} is champion now; before it was {f'version {before}' if before else 'none'}.")


@main.command()
@by_whom
@because
@evidence_option
@click.pass_context
def rollback(context: click.Context, approver: str, reason: str, evidence: str) -> None:
    """Give the role back to the champion before this one; a running service switches back at once."""
    version = _system(context).registry.roll_back(approver=approver, reason=reason, evidence=evidence)
    click.echo(f"Version {version} is champion again.")


def _trial_command(command: Callable[..., None]) -> click.Command:
    """What the ways to try a version share: begin with VERSION, end with --stop, and look with neither."""
    parts = [
        main.command(),
        click.argument("version", type=int, required=False),
        click.option("--stop", is_flag=True, help="End it."),
        click.option("--approver", help="Who answers for it; goes on record."),
        click.option("--reason", help="Why; goes on record."),
        log_option,
        as_json,
        click.pass_context,
    ]
    for part in reversed(parts):
        command = part(command)
    return command


@_trial_command
def shadow(
    context: click.Context,
    version: int | None,
    stop: bool,
    approver: str | None,
    reason: str | None,
    log_url: str | None,
    as_json: bool,
) -> None:
    """Let VERSION answer beside the champion; callers never see it. Without VERSION: how it does.

    A running service takes it up within a second. The answers are compared on the same requests.
    """
    system = _system(context)
    if version is not None and not stop:
        system.registry.shadow(version, **_signed(approver, reason))
        click.echo(f"Version {version} answers in shadow. How it does: mlops-course shadow")
    elif trial := _trial(system, "shadow", end=_signed(approver, reason) if stop else None):
        from mlops_course import service

        table = service.shadow_table(system, log_url=log_url or system.workspace.prediction_log_url, trial=trial)
        _show(table.round(4), title=f"Since {trial.since:%Y-%m-%d %H:%M} UTC, by {trial.approver}", as_json=as_json)


@_trial_command
def canary(
    context: click.Context,
    version: int | None,
    stop: bool,
    approver: str | None,
    reason: str | None,
    log_url: str | None,
    as_json: bool,
) -> None:
    """Let VERSION answer a small share of the ids. Without VERSION: how it does.

    A running service takes it up within a second, raises the share step by step, and stops it by itself when it fails,
    is slow or costs more than the champion. To let it answer everything, promote it.
    """
    from mlops_course import service

    system = _system(context)
    if version is not None and not stop:
        share = service.canary_plan(system).steps[0]
        system.registry.canary(version, share=share, **_signed(approver, reason))
        click.echo(f"Version {version} answers {share:.0%} of the ids. How it does: mlops-course canary")
    elif trial := _trial(system, "canary", end=_signed(approver, reason) if stop else None):
        verdict = _verdict(system, trial, log_url)
        title = f"Version {trial.version} at share {trial.share:g}, since {trial.since:%Y-%m-%d %H:%M} UTC"
        _show(verdict.measures.reset_index().round(4), title=title, as_json=as_json)
        if not as_json:
            click.echo(verdict.reason)


def _signed(approver: str | None, reason: str | None) -> dict[str, str]:
    if not (approver and reason):
        raise click.UsageError("expected --approver NAME and --reason WHY: both go on record")
    return {"approver": approver, "reason": reason}


def _trial(system: Any, mode: str, *, end: dict[str, str] | None) -> Any:
    """The trial that is on its way, or None once it has been ended in the words given."""
    trial = system.registry.trial()
    if trial is None or trial.mode != mode:
        raise click.ClickException(f"expected a {mode} on its way, found none; begin one: mlops-course {mode} VERSION")
    if end is None:
        return trial
    system.registry.end_trial(**end)
    click.echo(f"Version {trial.version} answers no longer.")
    return None


def _verdict(system: Any, trial: Any, log_url: str | None) -> Any:
    from mlops_course import service

    return service.canary_verdict(system, log_url=log_url or system.workspace.prediction_log_url, trial=trial)


@main.command()
@as_json
@click.pass_context
def history(context: click.Context, as_json: bool) -> None:
    """Who released or rolled back which version, when and why; and the versions there are."""
    registry = _system(context).registry
    events, versions, chain = registry.history(), registry.versions(), registry.verify_history()
    if as_json:
        facts = {"begins": chain.begins, "head": chain.head, "defect": chain.defect}
        click.echo(_json(events=events.reset_index(), versions=versions, chain=_frame([facts])))
        return
    _show(versions[["version", "aliases", "registered", "gate", "data_version"]], title="Versions")
    steps = events.assign(when=events["when"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    _show(steps[["when", "event", "version", "previous", "share", "approver", "reason"]], title="Releases")
    state = "is intact" if chain.begins else "has no chained release yet, so nobody can say whether it is intact"
    click.echo(f"The history was changed: {chain.defect}." if chain.defect else f"The history {state}: {chain.head}")


# Answer for it --------------------------------------------------------------------------------------------------------


def _frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows)


@contextmanager
def _log(system: Any, log_url: str | None) -> Iterator[Any]:
    """The prediction log, closed afterwards."""
    from mlops_course.prediction_log import PredictionLog

    system.workspace.create()
    log = PredictionLog(log_url or system.workspace.prediction_log_url)
    try:
        yield log
    finally:
        log.close()


@main.command()
@click.argument("id")
@log_option
@as_json
@click.pass_context
def lineage(context: click.Context, id: str, log_url: str | None, as_json: bool) -> None:
    """What is behind the prediction ID: model, code, data, specification, gate, approver, each verified.

    Exit code 1: a link does not hold.
    """
    from mlops_course import governance

    system = _system(context)
    with _log(system, log_url) as log:
        found = governance.lineage(system, log, id)
    _show(found.table, title=f"Prediction {id}", as_json=as_json)
    if found.broken:
        raise click.ClickException(f"these links do not hold: {', '.join(found.broken)}")


@main.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@by_whom
@because
@log_option
@click.pass_context
def forget(context: click.Context, ids: tuple[str, ...], approver: str, reason: str, log_url: str | None) -> None:
    """Take the rows of IDs out of the logs, the cache and the snapshots, and never train on them again.

    The request goes on record, with digests of the ids. May be repeated; a run that was killed is then completed.
    """
    from mlops_course import governance

    system = _system(context)
    with _log(system, log_url) as log:
        done = governance.forget(system, log, ids, approver=approver, reason=reason)
    rows = ", ".join(f"{count:,} from {name}" for name, count in done["rows"].items())
    removed = f"{len(done['snapshots'])} snapshots removed"
    click.echo(f"Forgotten: {rows}; {removed}. This is record {done['number']} of the audit trail.")
    if done["versions"]:
        click.echo(f"Train anew, as they learned from these rows: version {', '.join(map(str, done['versions']))}.")


@main.command()
@log_option
@as_json
@click.pass_context
def readiness(context: click.Context, log_url: str | None, as_json: bool) -> None:
    """The ML Test Score: 28 probes on champion, pipeline and log; the weakest of four sections counts.

    Changes nothing. Tests of the case are run if the current folder is a checkout.
    """
    from mlops_course import readiness as probes

    system = _system(context)
    total = sum(map(len, probes.PROBES.values()))
    with _log(system, log_url) as log, _progress(total, "probing") as advance:
        card = probes.score(system, log, repository=Path.cwd(), progress=lambda name: advance(name[:32], 1))
    shown = card.table.assign(passed=card.table["passed"].map({True: "yes", False: "NO"}))
    if as_json:
        _show(card.table, as_json=True)
        return
    _show(shown[["section", "number", "name", "passed", "evidence"]], title="ML Test Score")
    points = ", ".join(f"{name} {count}" for name, count in card.sections.items())
    click.echo(f"Of 7 points each: {points}. The score is that of the weakest section: {card.final}.")


@main.command()
@click.option("--start", required=True, type=click.DateTime(), help="When it began, in UTC.")
@click.option("--end", required=True, type=click.DateTime(), help="When it ended, in UTC.")
@log_option
@click.pass_context
def incident(context: click.Context, start: Any, end: Any, log_url: str | None) -> None:
    """Print a report for a review without blame, in Markdown, filled from log, history and audit trail."""
    from datetime import UTC

    from mlops_course import governance

    system = _system(context)
    span = {"start": start.replace(tzinfo=UTC), "end": end.replace(tzinfo=UTC)}
    with _log(system, log_url) as log:
        click.echo(governance.incident_report(system, log, **span))


# Learn ----------------------------------------------------------------------------------------------------------------


def _lesson(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The two digits of a lesson that has exercises."""
    from mlops_course.checks.progress import lessons

    if value is None or (number := value.rjust(2, "0")) in lessons():
        return value and number
    raise click.BadParameter(f"expected a lesson that has exercises, got {value!r}; there are {', '.join(lessons())}")


def _folder(name: str) -> Path:
    """A folder of the course: below here, or in the checkout that this file belongs to."""
    places = [Path.cwd() / name, Path(__file__).resolve().parents[1] / name]
    if found := next((place for place in places if place.is_dir()), None):
        return found
    raise click.ClickException(f"expected a folder {name} in {places[0].parent}; call this from a copy of the course")


@main.command()
@click.argument("lesson", callback=_lesson)
@click.option(
    "--notebook",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your notebook, if it is not the one in exercises.",
)
@click.pass_context
def check(context: click.Context, lesson: str, notebook: Path | None) -> None:
    """Run your notebook of a lesson's exercises, such as 12, and check every gap; exit code 1 unless all are done."""
    from mlops_course.checks import marking, progress

    places = [notebook] if notebook else sorted(_folder("exercises").glob(f"{lesson}_*.ipynb"))
    if not places:
        raise click.ClickException(
            f"expected a notebook {lesson}_*.ipynb in exercises, found none; name yours: --notebook"
        )
    with _progress(None, f"running {places[0].name}"):
        marks = marking.mark(places[0].resolve())
    for found in marks:
        click.echo(f"{found.outcome:9}  {found.name}: {found.said}")
    click.echo("\n" + progress.table(lesson))
    if any(found.outcome != "done" for found in marks):
        context.exit(1)


@main.command()
@click.argument("lesson", required=False, callback=_lesson)
@click.option("--reset", "anew", is_flag=True, help="Begin the lesson's exercises anew; your notebook is copied aside.")
def progress(lesson: str | None, anew: bool) -> None:
    """Show how far you are with the exercises: all lessons, or the gaps of one."""
    import os

    from mlops_course.checks import progress

    if anew:
        if lesson is None:
            raise click.UsageError("name the lesson to begin anew, such as: progress 12 --reset")
        copy = progress.reset(lesson, exercises=_folder("exercises"), solutions=_folder("solutions"))
        click.echo(f"Your notebook is kept in {copy}." if copy else "There was no notebook; a new one is in exercises.")
    click.echo(progress.table(lesson))
    if server := os.environ.get(progress.CLASSROOM):
        try:
            click.echo(f"{progress.deliver(server)} results sent to the classroom.")
        except Exception as error:  # whatever a server or a network does, progress is shown
            click.echo(f"{progress.waiting()} results wait until the classroom can be reached ({error}).")


# Take to work ---------------------------------------------------------------------------------------------------------


@main.command()
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
    from mlops_course import snippets

    if name is None:
        if folder:
            raise click.UsageError("name the snippet to copy, such as: snippet psi --copy DIR")
        import pandas as pd

        found = [snippets.load(each) for each in snippets.names()]
        rows = [(s.name, s.task, ", ".join(s.modules), s.lines, ", ".join(s.needs)) for s in found]
        _show(pd.DataFrame(rows, columns=["snippet", "task", "module", "lines", "needs"]), as_json=as_json)
        return
    found = snippets.load(name)
    if folder is None:
        click.echo(found.code, nl=False)
        return
    for path in snippets.copy(found, folder):
        click.echo(path)
    click.echo(f"Install what it needs: {' '.join(found.needs)}" if found.needs else "It needs Python only.")


# The whole of it, and the place where it happens ----------------------------------------------------------------------


@main.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """The whole loop in a minute and a half, told as it happens: release, serve, break, notice, retrain, roll back.

    Paths of pages to open in a browser are printed last. May be repeated: what was trained is not trained again.
    """
    from mlops_course import demo

    with _steps() as progress:
        pages = demo.tell(_system(context), say=click.echo, progress=progress)
    for name, page in pages.items():
        click.echo(f"{name}: {page}")


@main.command()
@click.option("--policy", default="combined", show_default=True, help="When to train: see mlops_course.retraining.")
@click.option("--window", default="all past", show_default=True, help="On what: all past, last 1, last 3, seasonal.")
@click.option("--first", help="First batch that is lived through; the fourth there is if not given.")
@click.option("--last", help="The last one; the last there is if not given.")
@click.option("--faults", type=int, help="Seed of a schedule of faults that break the stream; none if not given.")
@click.option("--careless", is_flag=True, help="Promote what was trained at once, whatever the gate says.")
@click.option("--http", "over_http", is_flag=True, help="Ask over HTTP; in process, which is quicker, if not given.")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@click.pass_context
def replay(
    context: click.Context,
    policy: str,
    window: str,
    first: str | None,
    last: str | None,
    faults: int | None,
    careless: bool,
    over_http: bool,
    seed: int,
) -> None:
    """Live through months of history with a policy of retraining: serve, watch, decide, train, release.

    Each day goes through the real service, in simulated time. One that was killed goes on where it stopped; what came
    of it stays in its own folder below replays/ in the workspace, where `serve` and `history` can look at it.
    """
    import pandas as pd

    from mlops_course import faults as injector
    from mlops_course import replay as loop

    system = _system(context)
    batches = system.case.batches()
    first, last = first or batches[3], last or batches[-1]
    span = {"start": pd.Timestamp(first, tz="UTC"), "end": pd.Timestamp(last, tz="UTC") + pd.offsets.MonthEnd(1)}
    drawn = injector.schedule(system.case.FAULTS, seed=faults, **span) if faults is not None else []
    plan = loop.Plan(
        first=first,
        last=last,
        policy=policy,
        window=window,
        faults=[fault.as_dict() for fault in drawn],
        careful=not careless,
        seed=seed,
    )
    parts = [
        policy,
        window,
        first,
        last,
        "careless" if careless else "",
        f"faults {faults}" if faults is not None else "",
        str(seed),
    ]
    name = "-".join(part.replace(" ", "_") for part in parts if part)
    days = (span["end"] - span["start"]).days + 1
    with _progress(days, "living") as advance:
        done = loop.replay(
            system,
            plan,
            name=name,
            over_http=over_http,
            told=lambda day, line: advance(f"{day:%Y-%m-%d} champion {line['champion']}", 1),
            progress=lambda step, event: advance(f"training: {step.replace('_', ' ')}", 0),
        )
    ledger = done.ledger.frame()
    months = ledger.groupby(ledger["day"].str[:7]).agg(
        answered=("answered", "sum"),
        labelled=("labelled", "sum"),
        errors=("error_cost", "sum"),
        training=("training_cost", "sum"),
        serving=("serving_cost", "sum"),
        log_loss=("log_loss", "sum"),
    )
    months["log_loss"] = (months["log_loss"] / months["labelled"]).round(4)
    _show(months.round(0 if months.empty else 4).reset_index(names="month"), title=f"{policy}, {window}")
    for day in done.ledger.days:
        for step in day["steps"]:
            click.echo(f"{day['day']}  {step}")
    raised = {(alert["since"], alert["text"]) for day in done.ledger.days for alert in day["alerts"]}
    for since, text in sorted(raised):
        click.echo(f"{since}  alert: {text}")
    click.echo(f"Ledger: {done.ledger.path}\nTo look at it: MLOPS_HOME={done.system.workspace.root} mlops-course serve")


@main.command()
@click.option("--at", type=click.DateTime(), help="The moment to look at, in UTC; the end of the last day with rows.")
@log_option
@as_json
@click.pass_context
def monitor(context: click.Context, at: Any, log_url: str | None, as_json: bool) -> None:
    """What the prediction log says: alerts, drift and performance, and a report to open in a browser.

    A running service shows the same at /monitor.
    """
    import pandas as pd

    from mlops_course import report, watch

    system = _system(context)
    if (champion := system.registry.champion()) is None:
        raise click.ClickException(
            "expected a champion whose answers to watch, found none; train and promote one first"
        )
    monitor = watch.Monitor(system, watch.reference_rows(system, champion))
    with _log(system, log_url) as log:
        monitor.read(log)
    now = pd.Timestamp(at, tz="UTC") if at else monitor.end
    if now is None:
        raise click.ClickException("expected rows in the prediction log, found none; let the service answer some first")
    if as_json:
        click.echo(json.dumps(monitor.state(now), indent=1))
        return
    alerts = pd.DataFrame([vars(alert) for alert in monitor.alerts(now)], columns=["since", "until", "kind", "text"])
    _show(
        alerts.assign(since=alerts["since"].astype(str).str[:10], until=alerts["until"].astype(str).str[:10]),
        title="Alerts",
    )
    weeks = monitor.performance(now).rename_axis("week").reset_index()
    if len(weeks):
        shown = ["week", "rows", "labelled", "log_loss", "estimated_log_loss", "cost", "estimated_cost"]
        _show(weeks[shown].assign(week=weeks["week"].dt.strftime("%Y-%m-%d")).round(3), title="By week")
    path = report.write(monitor.report(now), system.workspace.reports / "monitoring.html")
    click.echo(f"Report: {path}")


@main.command()
@as_json
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look whether everything that the course needs is here; exit code 1 if something is not, with what to do."""
    import pandas as pd

    from mlops_course.environment import checks

    found = pd.DataFrame(checks("mlops-course", folder=Workspace.locate().root))
    _show(found if as_json else found.assign(ok=found["ok"].map({True: "yes", False: "NO"})), as_json=as_json)
    if not found["ok"].all():
        context.exit(1)


@main.command()
@click.option("--port", default=5000, show_default=True, help="Where to listen, on this computer only.")
def ui(port: int) -> None:
    """Open MLflow's pages on the workspace: runs, models, versions. Stop it with Ctrl-C."""
    import subprocess

    workspace = Workspace.locate().create()
    click.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--backend-store-uri", workspace.tracking_uri, "--default-artifact-root", workspace.artifacts_uri]
    try:
        sys.exit(subprocess.call([*command, *stores]))
    except KeyboardInterrupt:
        click.echo("Stopped.")


@main.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Delete all models, runs and reports of the workspace; progress with exercises stays."""
    import shutil

    from mlops_course.checks.progress import KEPT

    workspace = Workspace.locate()
    going = sorted(path for path in workspace.root.glob("*") if path.name not in KEPT)
    if not going:
        click.echo(f"There is nothing to delete in a workspace at {workspace.root}.")
        return
    if not workspace.database.exists():
        raise click.ClickException(
            f"expected {workspace.database.name} in a workspace, found none in {workspace.root}; delete it by hand"
        )
    if not yes:
        click.confirm(f"Delete {workspace.root} and everything in it but your progress?", abort=True)
    for path in sorted(going, key=lambda path: path == workspace.database):  # last, so that a half-done one is resumed
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = any(workspace.root.iterdir())
    if not kept:
        workspace.root.rmdir()
    click.echo(f"Deleted {workspace.root}{', but for your progress with the exercises' if kept else ''}.")
