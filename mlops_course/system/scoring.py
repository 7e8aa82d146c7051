"""What a registered model answers for a batch, a file or a stream of events, and how good its answers were.

    score            predictions for one batch of the case
    predict          predictions of a registered model for rows
    score_to_file    predictions for a batch or a file, written to a file
    source_file      the file to be scored, and `file_rules`, how a model answers and checks its rows
    stream           predictions by a consumer of events, one after the other in simulated time
    label_records    labels as log and service take them, and `plain_records`, rows as JSON can hold them
    error_costs      what each decision cost, once its label is there
    evaluate         metrics of predictions whose labels have come: with intervals, and by slice

A batch goes through the same steps as training data. A file and a stream are answered part by part.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

__all__ = [
    "error_costs",
    "evaluate",
    "file_rules",
    "label_records",
    "plain_records",
    "predict",
    "score",
    "score_to_file",
    "source_file",
    "stream",
]

SEED = 0


def score(system: System, name: str, *, version: int | str = "champion") -> pd.DataFrame:
    """The prediction frame of one batch, with three columns more: probability, decision, model_version.

    `version` is a number, "champion" or "challenger". Raises InvalidBatch if the data must not be used,
    UnknownVersionError if there is no such version.
    """
    model, rows = system.registry.load(version), _batch_rows(system, name)
    return pd.concat([rows, predict(model, rows)], axis=1)


def _batch_rows(system: System, name: str) -> pd.DataFrame:
    """The prediction frame of one batch, validated, cleaned and built by the same steps as training data.

    The batch before is read too, for what was known then. Raises InvalidBatch if the data must not be used.
    """
    rows = pipeline.prediction_rows(system.case, [*system.batch_before(name), name], workspace=system.workspace)
    return rows[rows["batch"] == name].reset_index(drop=True)


def predict(model: Registered, rows: pd.DataFrame) -> pd.DataFrame:
    """Probability, decision and version of a model for each row. Raises ValueError if a value does not fit."""
    inputs = batch.conform(rows, model.contract.inputs)
    predictions = batch.predict(model.model, inputs, threshold=model.contract.threshold)
    return predictions.assign(model_version=model.version)


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
    with source_file(system, source) as file, threadpool_limits(1, user_api="openmp"):  # beside other work: quicker
        model, total = system.registry.load(version), batch.count_rows(file)
        rules = file_rules(model)
        return batch.score_file(file, target, **rules, model=model.digest, progress=lambda rows: progress(rows, total))


@contextmanager
def source_file(system: System, source: str, *, folder: Path | None = None) -> Iterator[Path]:
    """The file that is to be scored: `source` itself, or one with the rows of the batch of that name.

    The latter is in a temporary folder, below `folder` if that is given, and only there within the `with` block; so is
    a file that the case reads by its `own_layout`, if it has that. Raises ValueError if `source` is neither.
    """
    if source in system.case.batches():
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as place:
            file = Path(place, "rows.parquet")
            _batch_rows(system, source).to_parquet(file)
            yield file
    elif Path(source).is_file() and (own_layout := getattr(system.case, "own_layout", None)):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as place:
            file = Path(place, "rows.csv")
            own_layout(Path(source)).to_csv(file, index=False)
            yield file
    elif Path(source).is_file():
        yield Path(source)
    else:
        raise ValueError(f"expected a file or a batch out of {system.case.batches()}, got {source!r}")


def file_rules(model: Registered) -> dict[str, Callable[[pd.DataFrame], pd.DataFrame]]:
    """How the rows of a file are answered and checked by a registered model, in the words of `batch.score_part`."""
    contract = model.contract
    check = partial(batch.problems, inputs=contract.inputs, optional=contract.optional)
    return {"answer": partial(predict, model), "check": check}


def stream(system: System, batches: Sequence[str], *, log: PredictionLog, consumer: str) -> int:
    """Answer the events of `batches` by the champion in order of time; answers, labels and position are kept together.

    Each row is answered at its prediction time, and its label recorded when it is known; times in the log are those of
    the events. A consumer that was killed goes on from where its record ends, and does nothing twice. Returns
    the number of events there are.
    """
    model, specification = system.registry.load("champion"), system.specification
    rows = pd.concat([_batch_rows(system, name) for name in batches], ignore_index=True)
    asked, labelled = specification.timing.prediction_time, specification.timing.label_time
    events = streaming.timeline(rows, asked=asked, labelled=labelled)

    def handle(part: pd.DataFrame, position: int) -> None:
        questions = rows.iloc[part.loc[part["kind"] == streaming.ASKED, "row"]]
        known = rows.iloc[part.loc[part["kind"] == streaming.LABELLED, "row"]]
        answers = []
        if len(questions):
            answers = predict(model, questions).assign(id=questions["id"], time=questions[asked])
            answers["inputs"] = plain_records(questions[list(model.contract.inputs)])
            answers = answers.to_dict("records")
        log.append(answers, labels=label_records(known, specification), position=(consumer, position))

    return streaming.consume(events, handle, start=log.position(consumer))


def label_records(rows: pd.DataFrame, specification: Specification) -> list[dict[str, Any]]:
    """The labels of rows of a prediction frame as the prediction log and a service take them: id, label and time."""
    columns = rows["id"], rows[specification.target.column], rows[specification.timing.label_time]
    return [
        {"id": name, "label": int(label), "time": moment.to_pydatetime()}
        for name, label, moment in zip(*columns, strict=True)
    ]


def plain_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries that JSON can hold, with None for what is missing."""
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


def error_costs(rows: pd.DataFrame, specification: Specification) -> np.ndarray:
    """What each decision cost, by its label: one number a row; `rows` has the columns decision and label (0 or 1)."""
    decision, label, costs = rows["decision"].astype(bool), rows["label"] == 1, specification.costs
    return np.where(decision & ~label, costs.false_alarm, np.where(~decision & label, costs.missed, 0.0))


def evaluate(system: System, scored: pd.DataFrame) -> dict[str, pd.DataFrame]:
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
        seed=SEED,
        slices=labelled[list(specification.slices)],
        groups=labelled[specification.timing.prediction_time].dt.floor("D"),
    )
