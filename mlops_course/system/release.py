"""A release: from raw batches to a champion and its first batch in use, with a report to read.

    release             train, pass the gate, promote, score the first batch, and write the report
    Release             what came of it
    GateRefusedError    the gate refused or held the candidate; nothing was promoted

A release may be repeated: a version that is champion already is not promoted again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlops_course.design import Specification
from mlops_course.development import evaluation
from mlops_course.system import pipeline, report
from mlops_course.system.scoring import SEED, evaluate, score
from mlops_course.system.system import System

__all__ = ["GateRefusedError", "Release", "release"]


class GateRefusedError(RuntimeError):
    """The gate found reasons against a candidate; the message lists them."""


@dataclass(frozen=True, eq=False)
class Release:
    """What came of a release: the training, the scored batch, its evaluation, and the page that tells of it."""

    training: pipeline.TrainingResult
    scored: pd.DataFrame
    evidence: dict[str, pd.DataFrame]
    page: Path


def release(
    system: System,
    batches: Sequence[str],
    *,
    first_use: str,
    approver: str,
    reason: str,
    progress: Callable[[str, str], None] | None = None,
) -> Release:
    """Train on `batches`, promote if the gate passes, score the batch `first_use`, and write a report.

    Raises GateRefusedError with the reasons if the gate refuses the candidate; the champion then stays what it was.
    """
    trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=SEED, progress=progress)
    if not trained.gate.passed:
        why = "; ".join(trained.gate.reasons)
        raise GateRefusedError(f"version {trained.version} was {trained.gate.outcome}: {why}")
    if system.registry.champion() != trained.version:
        system.registry.promote(trained.version, approver=approver, reason=reason)
    scored = score(system, first_use, version=trained.version)
    evidence, spec = evaluate(system, scored), system.specification
    page = report.render(
        f"{spec.name}: version {trained.version}",
        _sections(spec, trained, _in_use(spec, scored, evidence, first_use)),
        lead=f"Trained on {batches[0]} to {batches[-1]}, used on {first_use}.",
    )
    path = report.write(page, system.workspace.reports / f"release-{trained.version}.html")
    return Release(trained, scored, evidence, path)


def _sections(spec: Specification, trained: pipeline.TrainingResult, in_use: report.Section) -> list[report.Section]:
    costs = spec.costs
    return [
        report.Section(
            "What is asked for",
            f"{spec.decision}\n\nA row counts as positive if {spec.target.positive}. A false alarm "
            f"costs {costs.false_alarm:g} and a miss {costs.missed:g} {costs.unit} more than the right decision, so "
            f"the model acts from a probability of {trained.threshold:.2f} on.",
        ),
        report.Section(
            "What came in",
            f"Data version {trained.data_version[:12]}. Each line is a rule that rows broke; quarantined rows are kept "
            "aside and were not trained on.",
            tables={"Findings of the validation": trained.findings.round(4)},
        ),
        report.Section(
            "Which model",
            f"Each kind of model was tested on periods after its training. Chosen: {trained.chosen_model}, the "
            "simplest whose log loss is within one standard error of the best, fold by fold.",
            tables={"Mean over the folds": _mean_scores(trained.fold_scores)},
        ),
        report.Section(
            "The gate",
            f"Every bar was met. {trained.gate.against_champion}",
            tables={"Checks": trained.gate.checks.drop(columns="why").round(4)},
        ),
        in_use,
        report.Section(
            "Where it comes from",
            f"Model version {trained.version}, MLflow run {trained.run_id}, data version {trained.data_version}. The "
            "contract in the registry holds the specification, the code version and the metrics.",
        ),
    ]


def _in_use(
    specification: Specification, scored: pd.DataFrame, evidence: dict[str, pd.DataFrame], batch: str
) -> report.Section:
    labelled = scored[scored[specification.target.column].notna()]
    target, probability = labelled[specification.target.column], labelled["probability"]
    days, auc = labelled[specification.timing.prediction_time].dt.floor("D"), evidence["metrics"].loc["roc_auc"]
    return report.Section(
        f"In use: {batch}",
        f"{len(scored):,} rows scored, {len(labelled):,} of them with a label by now. Intervals come from drawing "
        "whole days.",
        tables={
            "Metrics with 95 % intervals": evidence["metrics"].reset_index().round(4),
            "Calibration; noise is what chance gives a perfect model, whose intercept is 0 and slope 1": (
                evidence["calibration"].reset_index().round(4)
            ),
        },
        figures={
            f"Predicted {probability.mean():.1%} on average, observed {target.mean():.1%}": (
                evaluation.plot_reliability(target, probability, title="Is a probability what it says?", groups=days)
            ),
            f"ROC AUC by slice; all rows have {auc['value']:.3f}": (
                evaluation.plot_slices(evidence["slices"], "roc_auc", title="Who is served worse?")
            ),
        },
    )


def _mean_scores(fold_scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each metric over the folds, one row for each kind of model, simplest first."""
    means = fold_scores.groupby("model", sort=False)[["roc_auc", "log_loss", "brier"]].mean()
    return means.round(4).reset_index()
