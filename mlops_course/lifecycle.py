"""What is done with a case once there is a pipeline: score a batch, evaluate the scores, release a model.

System      a case in its workspace: what every command acts on
score       a registered model's predictions for one batch of the case; `score_to_file` for a file too
stream      the same as a consumer of events, one after the other in simulated time
error_costs what each decision cost, once its label is there
evaluate    how good they were, now that the labels are there: with intervals, and by slice
release     from raw batches to a champion and its first batch in use, with a report to read
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from pydantic_core import to_json
from threadpoolctl import threadpool_limits

from mlops_course import batch, evaluation, pipeline, report, streaming
from mlops_course.design import Specification, load_specification
from mlops_course.prediction_log import PredictionLog
from mlops_course.registry import Registered, Registry
from mlops_course.workspace import Workspace

__all__ = [
    "GateRefusedError",
    "Release",
    "System",
    "error_costs",
    "evaluate",
    "mean_scores",
    "release",
    "score",
    "score_to_file",
    "stream",
]

CASE = ("SPECIFICATION", "batches", "build", "derive", "files", "read", "schemas")  # what a case package must have
SEED = 0


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class System:
    """A case, by the name of its package, in a workspace; nothing is written before something is done with it."""

    case_name: str
    workspace: Workspace
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)  # says when a release was made

    @cached_property
    def case(self) -> ModuleType:
        """The package of the case. Raises ValueError if there is none, or it lacks a name that a case must have."""
        try:
            case = importlib.import_module(self.case_name)
        except ModuleNotFoundError as error:
            raise ValueError(f"expected the package of a case, got {self.case_name!r}: {error}") from error
        if missing := [name for name in CASE if not hasattr(case, name)]:
            raise ValueError(f"expected a case with the names {CASE}, but {self.case_name!r} lacks {missing}")
        return case

    @cached_property
    def specification(self) -> Specification:
        """The specification of the case, checked."""
        return load_specification(self.case.SPECIFICATION)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the case's models; the workspace is made if it is not there."""
        return replace(self.workspace.create().registry(self.case), clock=self.clock)

    def batch_before(self, batch: str) -> list[str]:
        """The batch before `batch`, in a list, or an empty one. Raises ValueError if there is no such batch."""
        names = self.case.batches()
        if batch not in names:
            raise ValueError(f"expected a batch out of {names}, got {batch!r}")
        at = names.index(batch)
        return names[max(at - 1, 0) : at]


def score(system: System, name: str, *, version: int | str = "champion") -> pd.DataFrame:
    """The prediction frame of one batch with three columns more: probability, decision, model_version.

    The batch goes through the same steps as training data: validated, quarantined, features from what was known then,
    for which the batch before is read too. `version` is a number, "champion" or "challenger". Raises InvalidBatch if
    the data must not be used, UnknownVersionError if there is no such version.
    """
    model, rows = system.registry.load(version), _rows_of(system, name)
    return pd.concat([rows, _answer(model, rows)], axis=1)


def score_to_file(
    system: System,
    source: str,
    *,
    target: Path,
    version: int | str = "champion",
    progress: Callable[[int, int | None], None] = lambda rows, of: None,
) -> batch.Scored:
    """Write predictions for `source` to `target` (.parquet or .csv), if that has not been done; see `batch.score_file`.

    `source` is the name of a batch of the case, or a .parquet or .csv file with the columns of the model's contract.
    The target has id (where the source has one), probability, decision and model_version. `progress` is told the rows
    of each part, and how many there are in all if that is known. Raises ValueError if the source is neither.
    """
    if source in system.case.batches():
        rows = _rows_of(system, source)
        with TemporaryDirectory() as folder:
            file = Path(folder, "rows.parquet")
            rows.to_parquet(file)
            return score_to_file(system, str(file), target=target, version=version, progress=progress)
    if not Path(source).is_file():
        raise ValueError(f"expected a file or a batch out of {system.case.batches()}, got {source!r}")
    model, total = system.registry.load(version), batch.count_rows(Path(source))
    with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
        return batch.score_file(
            Path(source),
            target,
            answer=partial(_answer, model),
            check=partial(batch.problems, inputs=model.contract.inputs, optional=model.contract.optional),
            model=model.digest,
            progress=lambda rows: progress(rows, total),
        )


def stream(
    system: System,
    batches: Sequence[str],
    *,
    log: PredictionLog,
    consumer: str,
    version: int | str = "champion",
    wait: Callable[[pd.Timestamp], None] | None = None,
    most: int = streaming.MOST,
) -> int:
    """Answer the events of `batches` in order of time, and put answers, labels and the position on record together.

    Each row is answered at its prediction time, and its label recorded when it is known; times in the log are those of
    the events. A consumer that was killed goes on from where its record ends, and does nothing twice. `wait` lets time
    pass, see `streaming.paced`. Returns the number of events there are.
    """
    model, specification = system.registry.load(version), system.specification
    rows = pd.concat([_rows_of(system, name) for name in batches], ignore_index=True)
    asked, labelled = specification.timing.prediction_time, specification.timing.label_time
    events = streaming.timeline(rows, asked=asked, labelled=labelled)

    def handle(part: pd.DataFrame, position: int) -> None:
        questions = rows.iloc[part.loc[part["kind"] == streaming.ASKED, "row"]]
        known = rows.iloc[part.loc[part["kind"] == streaming.LABELLED, "row"]]
        labels = [
            {"id": name, "label": int(label), "time": moment.to_pydatetime()}
            for name, label, moment in zip(
                known["id"], known[specification.target.column], known[labelled], strict=True
            )
        ]
        answers = []
        if len(questions):
            answers = _records(questions, _answer(model, questions), asked, list(model.contract.inputs))
        log.append(answers, labels=labels, position=(consumer, position))

    return streaming.consume(events, handle, start=log.position(consumer), most=most, wait=wait)


def _records(rows: pd.DataFrame, answers: pd.DataFrame, times: str, inputs: list[str]) -> list[dict[str, Any]]:
    """Rows with their answers as the prediction log keeps them."""
    values = rows[inputs].astype(object).where(rows[inputs].notna(), None).to_dict("records")
    return [
        {
            "id": name,
            "time": moment.to_pydatetime(),
            "assigned_version": answer.model_version,
            "model_version": answer.model_version,
            "share": 0.0,
            "probability": answer.probability,
            "decision": answer.decision,
            "latency_ms": 0.0,
            "inputs": to_json(row).decode(),  # all digits: pandas' to_json keeps ten
        }
        for name, moment, answer, row in zip(rows["id"], rows[times], answers.itertuples(), values, strict=True)
    ]


def _rows_of(system: System, name: str) -> pd.DataFrame:
    """The prediction frame of one batch, for which the batch before is read too."""
    rows = pipeline.prediction_rows(system.case, [*system.batch_before(name), name], workspace=system.workspace)
    return rows[rows["batch"] == name].reset_index(drop=True)


def _answer(model: Registered, rows: pd.DataFrame) -> pd.DataFrame:
    inputs = batch.conform(rows, model.contract.inputs)
    predictions = batch.predict(model.model, inputs, threshold=model.contract.threshold)
    return predictions.assign(model_version=model.version)


def error_costs(rows: pd.DataFrame, specification: Specification) -> np.ndarray:
    """What each decision cost, by its label: one number a row; `rows` has the columns decision and label (0 or 1)."""
    decision, label, costs = rows["decision"].astype(bool), rows["label"] == 1, specification.costs
    return np.where(decision & ~label, costs.false_alarm, np.where(~decision & label, costs.missed, 0.0))


def evaluate(system: System, scored: pd.DataFrame, *, seed: int = SEED) -> dict[str, pd.DataFrame]:
    """How good predictions were, on the rows whose label has come: tables "metrics" and "slices" with intervals.

    `scored` is what `score` returns. Whole days are drawn for the intervals, as the rows of a day depend on each other.
    """
    specification = system.specification
    labelled = scored[scored[specification.target.column].notna()]
    return evaluation.evidence(
        labelled[specification.target.column],
        labelled["probability"],
        threshold=system.registry.load(int(labelled["model_version"].iloc[0])).contract.threshold,
        false_alarm=specification.costs.false_alarm,
        missed=specification.costs.missed,
        min_rows=specification.gates.min_slice_rows,
        seed=seed,
        slices=labelled[list(specification.slices)],
        groups=labelled[specification.timing.prediction_time].dt.floor("D"),
    )


class GateRefusedError(RuntimeError):
    """The gate found reasons against a candidate; the message lists them."""


@dataclass(frozen=True, eq=False)
class Release:
    """What came of a release: the training, the scored batch, its evaluation, and the page that tells of it."""

    training: pipeline.TrainingResult
    promoted: bool
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
    seed: int = SEED,
    progress: Callable[[str, str], None] | None = None,
) -> Release:
    """Train on `batches`, promote if the gate passes, score the batch `first_use`, and write a report.

    A version that is champion already is not promoted again, so a release may be repeated. Raises GateRefusedError
    with the reasons if the gate refuses the candidate; the champion then stays what it was.
    """
    trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=seed, progress=progress)
    if not trained.gate.passed:
        raise GateRefusedError(f"version {trained.version} was refused: {'; '.join(trained.gate.reasons)}")
    promoted = system.registry.champion() != trained.version
    if promoted:
        system.registry.promote(trained.version, approver=approver, reason=reason)
    scored = score(system, first_use, version=trained.version)
    evidence = evaluate(system, scored, seed=seed)
    page = report.render(
        f"{system.specification.name}: version {trained.version}",
        _sections(system, trained, scored, evidence, first_use),
        lead=f"Trained on {batches[0]} to {batches[-1]}, used on {first_use}.",
    )
    path = report.write(page, system.workspace.reports / f"release-{trained.version}.html")
    return Release(trained, promoted, scored, evidence, path)


def _sections(
    system: System,
    trained: pipeline.TrainingResult,
    scored: pd.DataFrame,
    evidence: dict[str, pd.DataFrame],
    batch: str,
) -> list[report.Section]:
    specification, auc = system.specification, evidence["metrics"].loc["roc_auc"]
    labelled = scored[scored[specification.target.column].notna()]
    target, probability = labelled[specification.target.column], labelled["probability"]
    costs = specification.costs
    return [
        report.Section(
            "What is asked for",
            f"{specification.decision}\n\nA row counts as positive if {specification.target.positive}. A false alarm "
            f"costs {costs.false_alarm:g} and a miss {costs.missed:g} {costs.unit}, so the model acts from a "
            f"probability of {trained.threshold:.2f} on.",
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
            "simplest that is not worse than the best by more than chance.",
            tables={"Mean over the folds": mean_scores(trained.fold_scores)},
        ),
        report.Section(
            "The gate",
            "Every bar was met.",
            tables={"Checks": trained.gate.checks.drop(columns="why").round(4)},
        ),
        report.Section(
            f"In use: {batch}",
            f"{len(scored):,} rows scored, {len(labelled):,} of them with a label by now. Intervals come from drawing "
            "whole days.",
            tables={"Metrics with 95 % intervals": evidence["metrics"].reset_index().round(4)},
            figures={
                f"Predicted {probability.mean():.1%} on average, observed {target.mean():.1%}": (
                    evaluation.plot_reliability(target, probability, title="Is a probability what it says?")
                ),
                f"ROC AUC by slice; all rows have {auc['value']:.3f}": (
                    evaluation.plot_slices(evidence["slices"], "roc_auc", title="Who is served worse?")
                ),
            },
        ),
        report.Section(
            "Where it comes from",
            f"Model version {trained.version}, MLflow run {trained.run_id}, data version {trained.data_version}. The "
            "contract in the registry holds the specification, the code version and the metrics.",
        ),
    ]


def mean_scores(fold_scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each metric over the folds, one row for each kind of model, simplest first."""
    means = fold_scores.groupby("model", sort=False)[["roc_auc", "log_loss", "brier"]].mean()
    return means.round(4).reset_index()
