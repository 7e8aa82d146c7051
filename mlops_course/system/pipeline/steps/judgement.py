"""What speaks for and against the candidate."""

import logging
import pickle
from types import ModuleType
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, evaluation, gate
from mlops_course.operations import registry
from mlops_course.system.pipeline.dependencies import CASE, STORE, depends_on
from mlops_course.system.workspace import Workspace

LATENCY_CALLS = 60  # three of them lie above the 95th percentile

_logger = logging.getLogger(__name__)


@depends_on(evaluation, CASE)  # a model that is unpickled calls `derive` of its case
def evidence(
    calibrated_model: bytes,
    threshold: float,
    split_rows: str,
    columns: dict[str, Any],
    measurement: dict[str, Any],
    workspace: Workspace,
) -> dict[str, pd.DataFrame]:
    """Metrics of the candidate on the test rows, with intervals from drawing whole days, and the same by slice."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    answers = _answers(calibrated_model, rows, columns)
    return evaluation.evidence(**answers, threshold=threshold, **_asked(rows, columns, measurement))


@depends_on(gate, CASE)
def latency_ms(calibrated_model: bytes, split_rows: str, columns: dict[str, Any], workspace: Workspace) -> float:
    """Processor time to answer one row, 95th percentile, on one core as in a service."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    model = pickle.loads(calibrated_model)
    with threadpool_limits(1):
        return gate.latency(model.predict_proba, rows[columns["inputs"]], calls=LATENCY_CALLS)["p95_ms"]


@depends_on(evaluation, registry, CASE, STORE)
def champion_comparison(
    champion: int | None,
    calibrated_model: bytes,
    threshold: float,
    split_rows: str,
    columns: dict[str, Any],
    measurement: dict[str, Any],
    case: ModuleType,
    workspace: Workspace,
) -> dict[str, pd.DataFrame]:
    """Candidate and champion on the same rows; empty if there is no champion, or it no longer answers as it did."""
    if champion is None:
        return {}
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    try:
        released = workspace.registry(case).load(champion)
        theirs = released.model.predict_proba(rows[list(released.contract.inputs)])[:, 1]
    except (registry.ContractError, KeyError) as error:  # new feature code or inputs; a changed file stays an error
        _logger.warning("the gate cannot compare with champion %s: %s", champion, error)
        return {}
    thresholds = {"threshold": threshold, "champion_threshold": released.contract.threshold}
    answers = _answers(calibrated_model, rows, columns)
    comparison = evaluation.compare(**answers, champion=theirs, **thresholds, **_asked(rows, columns, measurement))
    return {"comparison": comparison}


@depends_on(gate)
def gate_report(
    evidence: dict[str, pd.DataFrame],
    champion_comparison: dict[str, pd.DataFrame],
    latency_ms: float,
    champion: int | None,
    gates: dict[str, Any],
) -> gate.GateReport:
    """Whether the candidate may be released, and the reasons if not."""
    return gate.gate(evidence | champion_comparison, gates, latency_ms=latency_ms, first_release=champion is None)


def _answers(calibrated_model: bytes, rows: pd.DataFrame, columns: dict[str, Any]) -> dict[str, Any]:
    """The labels of rows and the probabilities that a model gives them."""
    probability = pickle.loads(calibrated_model).predict_proba(rows[columns["inputs"]])[:, 1]
    return {"target": rows[columns["target"]], "probability": probability}


def _asked(rows: pd.DataFrame, columns: dict[str, Any], measurement: dict[str, Any]) -> dict[str, Any]:
    """How answers are measured, for candidate and champion alike; whole days are drawn, as their rows hang together."""
    days = rows[columns["prediction_time"]].dt.floor("D")
    return measurement | {"slices": rows[measurement["slices"]], "groups": days}
