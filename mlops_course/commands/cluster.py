"""Commands that put work on a cluster: `score --scheduler`, and the group `scale` with drift, features and search.

on_cluster    the options --scheduler and --workers, for `score` too
progress_on   a cluster and a bar, for the length of a `with` block
scale         the group of commands
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import as_json, number_or_alias, pass_system, progress_bar, show, version_option

__all__ = ["scale"]


def on_cluster(required: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command with --scheduler and --workers."""
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
        yield client, lambda done, of: advance(what, done, of)


@click.group()
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
    system: Any,
    source: Path,
    version: str,
    time: str | None,
    days: int | None,
    scheduler: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure how the rows of INPUT, a .parquet or .csv file, differ from the training rows of a version.

    INPUT has the columns that the model takes. Rows that do not fit are counted and left out.
    """
    import pandas as pd

    from mlops_course.system import cluster

    if (time is None) != (days is None):
        raise click.UsageError("expected --time COLUMN and --days N, or neither: a period needs both")
    with progress_on(scheduler, workers, what="summarising") as (client, advance):
        found = cluster.drift(
            system,
            source,
            client=client,
            version=number_or_alias(version),
            window=(time, pd.Timedelta(days=days)) if time else None,
            progress=advance,
        )
    measures = ["psi", "js", "ks", "missing", "missing_rise", "unknown", "out_of_range"]
    table = (found.table if as_json else found.table[measures].round(4)).reset_index()
    name = f"version {version}" if version.isdecimal() else f"the {version}"
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
def features(system: Any, batches: tuple[str, ...], target: Path, scheduler: str, workers: int | None) -> None:
    """Build the features of BATCHes (such as 2013-01), one task a batch; its history comes from the batch before."""
    from mlops_course.system import cluster

    with progress_on(scheduler, workers, what="building") as (client, advance):
        rows = cluster.features(system, batches, target=target, client=client, progress=advance)
    click.echo(f"{rows:,} rows in {target}")


@scale.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--draws", default=8, show_default=True, type=click.IntRange(min=1), help="Settings to try.")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@on_cluster(required=True)
@as_json
@pass_system
def search(
    system: Any,
    batches: tuple[str, ...],
    draws: int,
    seed: int,
    scheduler: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Search settings of gradient boosting on the training rows of BATCHes; nothing is registered."""
    from mlops_course.system import cluster

    with progress_on(scheduler, workers, what="trying") as (client, advance):
        found = cluster.search(system, batches, client=client, draws=draws, seed=seed, progress=advance)
    if as_json:
        tried = json.loads(found.table.to_json(orient="records", double_precision=15))
        click.echo(json.dumps({"best": found.best, "tried": tried}, indent=1))
        return
    show(found.table.sort_values("log_loss", kind="stable").round(5), title="Mean log loss over the folds, in nats")
    click.echo(f"Best: {', '.join(f'{name}={value}' for name, value in found.best.items())}")
