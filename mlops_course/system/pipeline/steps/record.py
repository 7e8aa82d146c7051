"""What is kept of a training: a run that says where the candidate comes from, and a version in the registry."""

import inspect
import math
import pickle
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlops_course.development import data, gate, training
from mlops_course.operations import registry
from mlops_course.system.pipeline.dependencies import CASE, STORE, depends_on, digest
from mlops_course.system.workspace import Workspace

from . import candidate, judgement
from .rows import Validated

if TYPE_CHECKING:
    from mlflow import MlflowClient

PIPELINE = "training"  # tag and name of the runs that the pipeline writes


@depends_on(candidate, judgement, training, CASE, STORE)
def lineage_run(
    raw_tables: str,
    valid_tables: Validated,
    usable_rows: str,
    split_rows: str,
    exclusions: list[dict[str, Any]],
    fold_scores: pd.DataFrame,
    chosen_model: str,
    calibrated_model: bytes,
    threshold: float,
    evidence: dict[str, pd.DataFrame],
    columns: dict[str, Any],
    seed: int,
    case: ModuleType,
    record: dict[str, Any],
    workspace: Workspace,
) -> str:
    """Write down in MLflow where the candidate comes from: one run, with a child for each kind of model.

    A run that a killed attempt left open is closed as KILLED, and one that it finished is used. Returns the run's id.
    """
    from mlflow import MlflowClient

    client, experiment = MlflowClient(tracking_uri=workspace.tracking_uri), workspace.registry(case).name
    made_from = {"raw_tables": raw_tables, "clean_tables": valid_tables.clean, "usable_rows": usable_rows}
    made_from |= {"split_rows": split_rows, "chosen_model": chosen_model, "threshold": str(threshold)}
    made_from |= {"case_code": record["case_code"]}
    measured = evidence["metrics"].to_csv()
    lineage = digest(made_from, exclusions, seed, record["steps"]["lineage_run"], fold_scores.to_csv(), measured)
    for unfinished in _runs(client, experiment, f"attributes.status = 'RUNNING' and tags.pipeline = '{PIPELINE}'"):
        client.set_terminated(unfinished, "KILLED")
    if finished := _runs(client, experiment, f"attributes.status = 'FINISHED' and tags.lineage = '{lineage}'"):
        return finished[0]
    kept = {"data_version": raw_tables, "code_version": record["code_version"], "seed": seed}
    tags = {"pipeline": PIPELINE, "lineage": lineage, "commit": record["commit"], **made_from}
    with training.track(workspace.tracking_uri, experiment, name=PIPELINE, tags=tags, **kept) as run:
        client.log_text(run.run_id, record["picture"], "pipeline.mmd")
        client.log_dict(run.run_id, record["steps"], "steps.json")
        client.log_text(run.run_id, valid_tables.findings.to_csv(index=False), "validation.csv")
        client.log_dict(run.run_id, {"not_trained_on": exclusions}, "exclusions.json")
        test = data.load_snapshot(workspace.snapshots, split_rows)["test"]
        run.log_plots(**judgement._answers(calibrated_model, test, columns))
        for name, table in evidence.items():
            client.log_text(run.run_id, table.to_csv(), f"{name}.csv")
        run.log_metrics(_finite(evidence["metrics"]["value"]))
        kept |= {"parent": run.run_id, "tags": {"pipeline": PIPELINE}}
        for name, model in candidate._candidates(case, columns, seed).items():
            with training.track(workspace.tracking_uri, experiment, name=name, **kept) as child:
                child.log_parameters(model)
                child.log_folds(fold_scores[fold_scores["model"] == name].drop(columns="model"))
    return run.run_id


@depends_on(training, gate, registry, CASE, STORE)
def registered_version(
    lineage_run: str,
    calibrated_model: bytes,
    threshold: float,
    raw_tables: str,
    split_rows: str,
    evidence: dict[str, pd.DataFrame],
    gate_report: gate.GateReport,
    specification: dict[str, Any],
    columns: dict[str, Any],
    case: ModuleType,
    record: dict[str, Any],
    workspace: Workspace,
) -> int:
    """Register the model that decides, with its contract: as challenger if the gate passed, else without any role.

    The same model, judged in the same way, is registered once, however often this is repeated. Returns its number.
    """
    from mlflow import MlflowClient

    tables = data.load_snapshot(workspace.snapshots, split_rows)
    promises = {
        "specification": specification,
        "data_version": raw_tables,
        "threshold": threshold,
        "metrics": _finite(evidence["metrics"]["value"]),
        "gate_passed": gate_report.passed,
        "gate_reasons": list(gate_report.reasons),
        "gate_held": gate_report.held,
        **registry.describe(pd.concat(tables.values())[columns["inputs"]]),
    }
    fingerprint = digest(calibrated_model, promises)
    contract = registry.Contract(fingerprint=fingerprint, code_version=record["code_version"], **promises)
    model, code = training.decide(pickle.loads(calibrated_model), threshold), Path(inspect.getfile(case.derive))
    version = workspace.registry(case).register(model, contract, run_id=lineage_run, code=[code])
    spans = {part: _span(rows[columns["prediction_time"]]) for part, rows in tables.items()}
    card = gate.model_card(
        specification,
        evidence,
        report=gate_report,
        version=str(version),
        data_version=raw_tables,
        training_data=f"{spans['train']}; calibrated on {spans['calibrate']}.",
        evaluation_data=f"{spans['test']}, none of them seen in training.",
    )
    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    client.log_text(lineage_run, card, f"version-{version}/model_card.md")
    client.log_text(lineage_run, gate_report.checks.to_csv(index=False), f"version-{version}/gate.csv")
    return version


def _runs(client: "MlflowClient", experiment: str, condition: str) -> list[str]:
    """Ids of the runs of an experiment that meet a condition."""
    found = client.get_experiment_by_name(experiment)
    return [run.info.run_id for run in client.search_runs([found.experiment_id], condition)] if found else []


def _finite(values: pd.Series) -> dict[str, float]:
    """Numbers by name, without those that are not defined."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _span(times: pd.Series) -> str:
    """How many rows there are and from when to when, for the model card."""
    return f"{len(times):,} rows from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
