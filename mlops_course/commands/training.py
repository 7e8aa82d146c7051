"""Train a model, evaluate it, and score a file with it; and `scale`: drift, features and search on a cluster."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import (
    REFUSED,
    Commands,
    as_json,
    json_of,
    pass_system,
    progress_bar,
    show,
    training_steps,
    version_option,
)

__all__ = ["evaluate", "scale", "score", "train"]


def on_cluster(required: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command with --scheduler and --workers, which `progress_on` takes."""
    scheduler = click.option(
        "--scheduler",
        metavar="ADDRESS|local",
        required=required,
        help="Work on a Dask cluster: tcp://HOST:PORT of its scheduler, or local to start one here.",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="How many processes to start here, one a core if not given; elsewhere, how many to wait for.",
    )
    return lambda command: scheduler(workers(command))


@contextmanager
def progress_on(scheduler: str, workers: int | None, *, what: str) -> Iterator[tuple[Any, Callable[..., None]]]:
    """Give a client of the cluster, and a function that moves the bar: call it with what is done, and of how much."""
    from mlops_course.system.cluster import connect

    with progress_bar(None, f"waiting for {scheduler}") as advance, connect(scheduler, workers=workers) as client:
        yield client, partial(advance, what)


@click.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@as_json
@pass_system
def train(system: Any, batches: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Train on BATCHes (such as 2013-01), and register a model that passes the gate as challenger.

    A second run does nothing, and a run that was killed continues where it stopped. Exit code 3: the gate refused or
    held the model, which is then registered with the reasons and without a role.
    """
    from mlops_course.system import pipeline

    with training_steps() as progress:
        trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=seed, progress=progress)
    if as_json:
        facts = {name: getattr(trained, name) for name in ("run_id", "data_version", "chosen_model", "executed")}
        facts |= {"version": trained.version, "passed": trained.gate.passed, "reasons": trained.gate.reasons}
        facts |= {"outcome": trained.gate.outcome, "against_champion": trained.gate.against_champion}
        click.echo(json.dumps(facts | {"metrics": trained.metrics["value"].to_dict()}, indent=1))
    else:
        show(trained.metrics.reset_index().round(4), title=f"Version {trained.version}: {trained.chosen_model}")
        click.echo(f"{len(trained.executed)} steps ran, {len(trained.cached)} were there from before.")
        click.echo(trained.gate.against_champion)
        click.echo(
            f"The gate passed it. To release: mlops-course promote {trained.version} --approver NAME --reason WHY"
            if trained.gate.passed
            else "\n".join([f"The gate {trained.gate.outcome} it:", *trained.gate.reasons])
        )
    if not trained.gate.passed:
        raise click.exceptions.Exit(REFUSED)


@click.command()
@click.argument("batch")
@version_option
@as_json
@pass_system
def evaluate(system: Any, batch: str, version: int | str, as_json: bool) -> None:
    """Score one BATCH and compare the predictions with its labels: metrics with intervals, of all rows and by slice."""
    from mlops_course.system import scoring

    with progress_bar(None, "scoring") as advance:
        scored = scoring.score(system, batch, version=version)
        advance("drawing days for intervals", 0)
        evidence = scoring.evaluate(system, scored)
    if as_json:
        click.echo(json_of(**{name: table.reset_index() for name, table in evidence.items()}))
        return
    show(evidence["metrics"].reset_index().round(4), title=f"{batch}, {version}")
    show(
        evidence["calibration"].reset_index().round(4),
        title="Calibration: error, what chance gives a perfect model, intercept (0 is right), slope (1 is right)",
    )
    shown = ["slice", "value", "rows", "positives", "roc_auc", "roc_auc_low", "roc_auc_high"]
    slices = evidence["slices"][[*shown, "calibration_error", "calibration_noise", "note"]]
    show(slices.round(3), title="By slice, with 95 % intervals of whole days")


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT", type=click.Path(dir_okay=False, path_type=Path))
@version_option
@on_cluster()
@pass_system
def score(system: Any, source: str, target: Path, version: int | str, **where: Any) -> None:
    """Write predictions for INPUT to OUTPUT, a .parquet or .csv file.

    INPUT is a batch (such as 2013-04), or a .parquet or .csv file with the columns that the model takes; a column id is
    copied. OUTPUT has probability, decision and model_version for each row; it is replaced when it is complete. Rows
    that do not fit go to OUTPUT.quarantine.csv with the reason. A run that was killed continues where it stopped, and
    a second run does nothing.

    With --scheduler, workers of a Dask cluster read and write the parts; OUTPUT is the same to the bit. They must see
    INPUT, OUTPUT's folder and the workspace under the same paths.
    """
    from mlops_course.system import cluster, scoring

    if where["workers"] and not where["scheduler"]:
        raise click.UsageError("expected --scheduler with --workers, such as --scheduler local")
    asked = {"target": target, "version": version}
    if where["scheduler"]:
        with progress_on(**where, what="scoring") as (client, advance):
            done = cluster.score_to_file(system, source, client=client, progress=advance, **asked)
    else:
        with progress_bar(None, "scoring") as advance:
            done = scoring.score_to_file(system, source, progress=partial(advance, "scoring"), **asked)
    found = " were there from an earlier run; nothing was done" if done.already_done else ""
    click.echo(f"{done.rows:,} predictions in {target}{found}")
    if done.quarantine:
        click.echo(f"{done.quarantined:,} rows do not fit and were set aside, with the reasons: {done.quarantine}")


@click.group(cls=Commands)
def scale() -> None:
    """Run drift, features and search on a cluster, with the results of one machine; for scores: score --scheduler.

    Workers read and write the files themselves: input, output and workspace must lie in folders that they share with
    this machine under the same paths. They need the same versions of this package and of its libraries.
    """


@scale.command()
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@version_option
@click.option("--time", metavar="COLUMN", help="An input that is a time: measure each period of --days by itself.")
@click.option("--days", type=click.IntRange(min=1), help="Length of a period.")
@on_cluster(required=True)
@as_json
@pass_system
def drift(
    system: Any, source: Path, version: int | str, time: str | None, days: int | None, as_json: bool, **where: Any
) -> None:
    """Measure how the rows of INPUT, a .parquet or .csv file, differ from the training rows of a version.

    INPUT has the columns that the model takes. Rows that do not fit are counted and left out.
    """
    import pandas as pd

    from mlops_course.system import cluster

    if (time is None) != (days is None):
        raise click.UsageError("expected --time COLUMN and --days N, or neither: a period needs both")
    with progress_on(**where, what="summarising") as (client, advance):
        found = cluster.drift(
            system,
            source,
            client=client,
            version=version,
            window=(time, pd.Timedelta(days=days)) if time else None,
            progress=advance,
        )
    measures = ["psi", "js", "ks", "missing", "missing_rise", "unknown", "out_of_range"]
    table = (found.table if as_json else found.table[measures].round(4)).reset_index()
    name = f"version {version}" if isinstance(version, int) else f"the {version}"
    show(table, title=f"{found.rows:,} rows against those that {name} was made from", as_json=as_json)
    if found.set_aside:
        click.echo(f"{found.set_aside:,} rows do not fit the model's contract and were left out.", err=True)


@scale.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option(
    "--output",
    "target",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .parquet file to write; it is replaced when it is complete.",
)
@on_cluster(required=True)
@pass_system
def features(system: Any, batches: tuple[str, ...], target: Path, **where: Any) -> None:
    """Build the features of BATCHes (such as 2013-01), one task a batch; its history comes from the batch before."""
    from mlops_course.system import cluster

    with progress_on(**where, what="building") as (client, advance):
        rows = cluster.features(system, batches, target=target, client=client, progress=advance)
    click.echo(f"{rows:,} rows in {target}")


@scale.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--draws", default=8, show_default=True, type=click.IntRange(min=1), help="Settings to try.")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@on_cluster(required=True)
@as_json
@pass_system
def search(system: Any, batches: tuple[str, ...], draws: int, seed: int, as_json: bool, **where: Any) -> None:
    """Search settings of gradient boosting on the training rows of BATCHes; nothing is registered."""
    from mlops_course.system import cluster

    with progress_on(**where, what="trying") as (client, advance):
        found = cluster.search(system, batches, client=client, draws=draws, seed=seed, progress=advance)
    if as_json:
        tried = json.loads(found.table.to_json(orient="records", double_precision=15))
        click.echo(json.dumps({"best": found.best, "tried": tried}, indent=1))
        return
    show(found.table.sort_values("log_loss", kind="stable").round(5), title="Mean log loss over the folds, in nats")
    click.echo(f"Best: {', '.join(f'{name}={value}' for name, value in found.best.items())}")
