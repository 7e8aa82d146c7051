"""Train a model, measure it, and let it answer a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_course.commands.cluster import on_cluster, progress_on
from mlops_course.commands.shared import (
    REFUSED,
    as_json,
    json_of,
    number_or_alias,
    progress_bar,
    show,
    system_of,
    training_steps,
    version_option,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["evaluate", "score", "train"]


@click.command()
@click.argument("batches", nargs=-1, required=True, metavar="BATCH...")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@as_json
@click.pass_context
def train(context: click.Context, batches: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Train on BATCHes (such as 2013-01), and register what the gate passes as challenger.

    A rerun does nothing, and a run that was killed goes on where it stopped. Exit code 3: the gate refused the model,
    which is registered with the reasons and without a role.
    """
    from mlops_course.system import pipeline

    system = system_of(context)
    with training_steps() as progress:
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
        show(trained.metrics.reset_index().round(4), title=f"Version {trained.version}: {trained.chosen_model}")
        click.echo(f"{len(trained.executed)} steps ran, {len(trained.cached)} were there from before.")
        click.echo(
            f"The gate passed it. To release: mlops-course promote {trained.version} --approver NAME --reason WHY"
            if trained.gate.passed
            else "\n".join(["The gate refused it:", *trained.gate.reasons])
        )
    if not trained.gate.passed:
        context.exit(REFUSED)


@click.command()
@click.argument("batch")
@version_option
@as_json
@click.pass_context
def evaluate(context: click.Context, batch: str, version: str, as_json: bool) -> None:
    """Score one BATCH and compare with its labels: metrics with intervals, and by slice."""
    from mlops_course.system import scoring

    system = system_of(context)
    with progress_bar(None, "scoring") as advance:
        scored = scoring.score(system, batch, version=number_or_alias(version))
        advance("drawing days for intervals", 0)
        evidence = scoring.evaluate(system, scored)
    if as_json:
        click.echo(json_of(**{name: table.reset_index() for name, table in evidence.items()}))
        return
    show(evidence["metrics"].reset_index().round(4), title=f"{batch}, {version}")
    show(_slices(evidence["slices"]), title="By slice, with 95 % intervals of whole days")


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


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT", type=click.Path(dir_okay=False, path_type=Path))
@version_option
@on_cluster()
@click.pass_context
def score(
    context: click.Context, source: str, target: Path, version: str, scheduler: str | None, workers: int | None
) -> None:
    """Write predictions for INPUT to OUTPUT, a .parquet or .csv file.

    INPUT is a batch (such as 2013-04), or a .parquet or .csv file with the columns that the model takes; a column
    id is carried over. OUTPUT has probability, decision and model_version for each row; it is replaced once whole. Rows
    that do not fit go to OUTPUT.quarantine.csv with the reason. A run that was killed goes on where it stopped, and one
    more does nothing.

    With --scheduler, workers of a Dask cluster read and write the parts; OUTPUT is the same to the bit. They must see
    INPUT, OUTPUT's folder and the workspace under the same paths.
    """
    from mlops_course.system import cluster, scoring

    if workers and not scheduler:
        raise click.UsageError("expected --scheduler with --workers, such as --scheduler local")
    system, asked = system_of(context), {"target": target, "version": number_or_alias(version)}
    if scheduler:
        with progress_on(scheduler, workers, what="scoring") as (client, advance):
            done = cluster.score_to_file(system, source, client=client, progress=advance, **asked)
    else:
        with progress_bar(None, "scoring") as advance:
            done = scoring.score_to_file(
                system, source, progress=lambda rows, of: advance("scoring", rows, of), **asked
            )
    found = " were there from an earlier run; nothing was done" if done.already_done else ""
    click.echo(f"{done.rows:,} predictions in {target}{found}")
    if done.quarantine:
        click.echo(f"{done.quarantined:,} rows do not fit and were set aside, with the reasons: {done.quarantine}")
