"""Train a model, evaluate it, and score a file with it."""

import json
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.cluster import on_cluster, progress_on
from mlops_course.commands.shared import (
    REFUSED,
    as_json,
    json_of,
    number_or_alias,
    pass_system,
    progress_bar,
    show,
    training_steps,
    version_option,
)

__all__ = ["evaluate", "score", "train"]


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
def evaluate(system: Any, batch: str, version: str, as_json: bool) -> None:
    """Score one BATCH and compare the predictions with its labels: metrics with intervals, of all rows and by slice."""
    from mlops_course.system import scoring

    with progress_bar(None, "scoring") as advance:
        scored = scoring.score(system, batch, version=number_or_alias(version))
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
def score(system: Any, source: str, target: Path, version: str, scheduler: str | None, workers: int | None) -> None:
    """Write predictions for INPUT to OUTPUT, a .parquet or .csv file.

    INPUT is a batch (such as 2013-04), or a .parquet or .csv file with the columns that the model takes; a column id is
    copied. OUTPUT has probability, decision and model_version for each row; it is replaced when it is complete. Rows
    that do not fit go to OUTPUT.quarantine.csv with the reason. A run that was killed continues where it stopped, and
    a second run does nothing.

    With --scheduler, workers of a Dask cluster read and write the parts; OUTPUT is the same to the bit. They must see
    INPUT, OUTPUT's folder and the workspace under the same paths.
    """
    from mlops_course.system import cluster, scoring

    if workers and not scheduler:
        raise click.UsageError("expected --scheduler with --workers, such as --scheduler local")
    asked = {"target": target, "version": number_or_alias(version)}
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
