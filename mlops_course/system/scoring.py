"""What a registered model answers for a batch, a file or a stream of events, and how good its answers were.

    score            predictions for one batch of the case
    score_to_file    predictions for a batch or a file, written to a file
    stream           the same as a consumer of events, one after the other in simulated time
    error_costs      what each decision cost, once its label is there
    evaluate         metrics of predictions whose labels have come: with intervals, and by slice

A batch goes through the same steps as training data. A file and a stream are answered part by part.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.design import Specification
from mlops_course.development import evaluation
from mlops_course.operations.deployment import batch, streaming
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Registered
from mlops_course.system import pipeline
from mlops_course.system.system import System

__all__ = ["error_costs", "evaluate", "score", "score_to_file", "stream"]

SEED = 0


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
    most: int = streaming.MOST,
) -> int:
    """Answer the events of `batches` in order of time, and put answers, labels and the position on record together.

    Each row is answered at its prediction time, and its label recorded when it is known; times in the log are those of
    the events. A consumer that was killed goes on from where its record ends, and does nothing twice. Returns
    the number of events there are.
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

    return streaming.consume(events, handle, start=log.position(consumer), most=most)


def _records(rows: pd.DataFrame, answers: pd.DataFrame, times: str, inputs: list[str]) -> list[dict[str, Any]]:
    """Rows with their answers as the prediction log takes them."""
    values = rows[inputs].astype(object).where(rows[inputs].notna(), None).to_dict("records")
    return answers.assign(id=rows["id"], time=rows[times], inputs=values).to_dict("records")


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
