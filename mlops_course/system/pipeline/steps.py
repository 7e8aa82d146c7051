"""The steps of the training pipeline. A step is a function; each parameter names the step or the input that it needs.

    raw_tables → valid_tables → prediction_rows → usable_rows → split_rows            what the model may see
    split_rows → fold_scores → chosen_model → calibrated_model, threshold             the candidate
    → evidence, latency_ms, champion_comparison → gate_report                         what speaks for and against it
    → lineage_run → registered_version                                                what is kept

`pipeline.train` gives the inputs and runs the steps; called by hand, a step is a plain function. Four rules make the
results safe to keep and to reuse:

- Tables go from step to step as versions of snapshots in the workspace: cheap to compare, small to keep, and verified
  when they are loaded.
- A step names the code of each stage that it calls (`training_code` for `training`), because a cache that looks at the
  step alone would not see that the stage has changed. The test of this module holds it to that.
- A step that reads or writes the registry names the `store` that it lies in: the cache may be shared, versions are not.
- Only the last two steps change the world outside snapshots and reports, and both may be repeated: they look for what
  an earlier attempt left before they add to it.
"""

import hashlib
import importlib
import inspect
import logging
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd
from threadpoolctl import threadpool_limits

from mlops_course.development import data, evaluation, features, gate, training, validation
from mlops_course.operations import registry, retraining
from mlops_course.operations.monitoring import faults
from mlops_course.system.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [  # noqa: RUF022 - in the order in which they run
    "raw_tables",
    "valid_tables",
    "prediction_rows",
    "usable_rows",
    "split_rows",
    "fold_scores",
    "chosen_model",
    "calibrated_model",
    "threshold",
    "evidence",
    "latency_ms",
    "champion_comparison",
    "gate_report",
    "lineage_run",
    "registered_version",
]

TEST_SHARE = 0.15  # the latest of the labelled rows; a model is judged on them
CALIBRATE_SHARE = 0.12  # the latest of the rows before; a fitted model is calibrated on them
FOLDS = 4  # of cross-validation, within the rows to train on
LATENCY_CALLS = 60  # three of them lie above the 95th percentile
DRILL_SEED = 0  # of the faults of a drill
PIPELINE = "training"  # tag and name of the runs that the pipeline writes

_logger = logging.getLogger(__name__)


# What the model may see -----------------------------------------------------------------------------------------------


def raw_tables(
    case: str, case_code: str, batches: list[str], data_files: dict[str, str], data_code: str, workspace: Workspace
) -> str:
    """Keep the batches as they came; `data_files` holds the digest of each file, so a changed file is read again."""
    return data.save_snapshot(_module(case).read(batches), workspace.snapshots)


@dataclass(frozen=True, eq=False)
class Validated:
    """What validation found, and the versions of the tables that may be used and of the rows set aside."""

    findings: pd.DataFrame
    clean: str
    quarantined: str


def valid_tables(raw_tables: str, case: str, case_code: str, validation_code: str, workspace: Workspace) -> Validated:
    """Check the tables and set bad rows aside; the findings go to the reports folder before they can stop the batch."""
    tables = data.load_snapshot(workspace.snapshots, raw_tables)
    report = validation.validate(tables, _module(case).schemas())
    report.findings.to_csv(workspace.reports / f"validation-{raw_tables}.csv", index=False)
    report.raise_if_stopped()
    clean, quarantined = (
        data.save_snapshot(part, workspace.snapshots) for part in validation.quarantine(tables, report)
    )
    return Validated(report.findings, clean, quarantined)


def prediction_rows(
    valid_tables: Validated, case: str, case_code: str, features_code: str, workspace: Workspace
) -> str:
    """One row for each prediction: what was known then, and what came of it."""
    rows = _module(case).build(data.load_snapshot(workspace.snapshots, valid_tables.clean))
    return data.save_snapshot({"rows": rows}, workspace.snapshots)


def usable_rows(
    prediction_rows: str,
    drill: list[dict[str, Any]],
    withheld: list[str],
    exclusions: list[dict[str, Any]],
    columns: dict[str, Any],
    faults_code: str,
    retraining_code: str,
    workspace: Workspace,
) -> str:
    """The rows without those that were withheld on request (digests of ids) and what must not be trained on.

    In earnest there is no `drill`: its faults corrupt the rows as a broken feed would.
    """
    if not (drill or withheld or exclusions):
        return prediction_rows
    rows = data.load_snapshot(workspace.snapshots, prediction_rows)["rows"]
    times = {"time": columns["prediction_time"], "label_time": columns["label_time"]}
    rows = faults.inject(rows, drill, label=columns["target"], seed=DRILL_SEED, **times)
    rows = rows[~rows["id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest()).isin(withheld)]
    rows = retraining.apply(rows, exclusions, time=columns["prediction_time"])
    return data.save_snapshot({"rows": rows}, workspace.snapshots)


def split_rows(usable_rows: str, columns: dict[str, Any], features_code: str, workspace: Workspace) -> str:
    """Tables train, calibrate and test, one later than the other, without rows whose label was not known in time."""
    rows = data.load_snapshot(workspace.snapshots, usable_rows)["rows"]
    times = {name: columns[name] for name in ("prediction_time", "label_time")}
    labelled = rows.dropna(subset=[columns["target"], columns["label_time"]])
    labelled = labelled.sort_values([columns["prediction_time"], "id"])
    test_from = labelled[columns["prediction_time"]].quantile(1 - TEST_SHARE, interpolation="higher")
    past, test = features.split_by_time(labelled, test_from, **times)
    # from the end: the other way round, labels that take long would leave no row between the two cuts
    calibrate_from = past[columns["prediction_time"]].quantile(1 - CALIBRATE_SHARE, interpolation="higher")
    train, calibrate = features.split_by_time(past, calibrate_from, **times)
    parts = {"train": train, "calibrate": calibrate, "test": test}
    if lacking := [part for part, rows in parts.items() if rows[columns["target"]].nunique() < 2]:
        raise ValueError(
            f"expected both answers in each part of {len(labelled):,} labelled rows, not so in {lacking}; add batches"
        )
    return data.save_snapshot(parts, workspace.snapshots)


# The candidate --------------------------------------------------------------------------------------------------------


def fold_scores(
    split_rows: str,
    case: str,
    case_code: str,
    columns: dict[str, Any],
    seed: int,
    training_code: str,
    libraries: dict[str, str],
    workspace: Workspace,
) -> pd.DataFrame:
    """How each kind of model does on periods that follow its training: one row for each model and fold."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["train"]
    folds = training.TimeFolds(
        FOLDS, prediction_time=rows[columns["prediction_time"]], label_time=rows[columns["label_time"]]
    )
    inputs, target = rows[columns["inputs"]], rows[columns["target"]]
    tables = [
        training.cross_validate_in_time(model, inputs, target=target, folds=folds).assign(model=name)
        for name, model in _candidates(case, columns, seed).items()
    ]
    return pd.concat(tables, ignore_index=True)


def chosen_model(fold_scores: pd.DataFrame, training_code: str) -> str:
    """The simplest kind of model that is not worse than the best by more than chance."""
    losses = fold_scores.pivot(index="fold", columns="model", values="log_loss")
    return training.simplest_within_one_standard_error(losses[fold_scores["model"].unique()])


def calibrated_model(
    split_rows: str,
    chosen_model: str,
    case: str,
    case_code: str,
    columns: dict[str, Any],
    seed: int,
    training_code: str,
    libraries: dict[str, str],
    workspace: Workspace,
) -> bytes:
    """The chosen kind of model, fitted, and calibrated on later rows; pickled, so that its fingerprint is of all."""
    tables = data.load_snapshot(workspace.snapshots, split_rows)
    train, later = tables["train"], tables["calibrate"]
    with threadpool_limits(1, user_api="openmp"):  # beside other work, threads that wait for each other are slower
        model = _candidates(case, columns, seed)[chosen_model].fit(train[columns["inputs"]], train[columns["target"]])
        return pickle.dumps(training.calibrate(model, later[columns["inputs"]], target=later[columns["target"]]))


def threshold(costs: dict[str, float], training_code: str) -> float:
    """The probability from which acting costs less than waiting."""
    return training.cost_threshold(**costs)


# What speaks for and against it ---------------------------------------------------------------------------------------


def evidence(
    calibrated_model: bytes,
    threshold: float,
    split_rows: str,
    case_code: str,
    columns: dict[str, Any],
    slices: list[str],
    costs: dict[str, float],
    min_slice_rows: int,
    seed: int,
    evaluation_code: str,
    workspace: Workspace,
) -> dict[str, pd.DataFrame]:
    """Metrics of the candidate on the test rows, with intervals from drawing whole days, and the same by slice."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    return evaluation.evidence(
        rows[columns["target"]],
        pickle.loads(calibrated_model).predict_proba(rows[columns["inputs"]])[:, 1],
        threshold=threshold,
        **costs,
        min_rows=min_slice_rows,
        seed=seed,
        slices=rows[slices],
        groups=rows[columns["prediction_time"]].dt.floor("D"),
    )


def latency_ms(
    calibrated_model: bytes,
    split_rows: str,
    case_code: str,
    columns: dict[str, Any],
    gate_code: str,
    workspace: Workspace,
) -> float:
    """Processor time to answer one row, 95th percentile, on one core as in a service."""
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    model = pickle.loads(calibrated_model)
    with threadpool_limits(1):
        return gate.latency(model.predict_proba, rows[columns["inputs"]], calls=LATENCY_CALLS)["p95_ms"]


def champion_comparison(
    champion: int | None,
    store: str,
    calibrated_model: bytes,
    threshold: float,
    split_rows: str,
    case: str,
    case_code: str,
    columns: dict[str, Any],
    slices: list[str],
    costs: dict[str, float],
    min_slice_rows: int,
    seed: int,
    evaluation_code: str,
    registry_code: str,
    workspace: Workspace,
) -> dict[str, pd.DataFrame]:
    """Candidate and champion on the same rows; empty if there is no champion, or it no longer answers as it did."""
    if champion is None:
        return {}
    rows = data.load_snapshot(workspace.snapshots, split_rows)["test"]
    try:
        released = workspace.registry(_module(case)).load(champion)
        theirs = released.model.predict_proba(rows[list(released.contract.inputs)])[:, 1]
    except (registry.ContractError, KeyError) as error:  # new feature code or inputs; a changed file stays an error
        _logger.warning("the gate cannot compare with champion %s: %s", champion, error)
        return {}
    comparison = evaluation.compare(
        rows[columns["target"]],
        pickle.loads(calibrated_model).predict_proba(rows[columns["inputs"]])[:, 1],
        champion=theirs,
        threshold=threshold,
        champion_threshold=released.contract.threshold,
        **costs,
        min_rows=min_slice_rows,
        seed=seed,
        slices=rows[slices],
        groups=rows[columns["prediction_time"]].dt.floor("D"),
    )
    return {"comparison": comparison}


def gate_report(
    evidence: dict[str, pd.DataFrame],
    champion_comparison: dict[str, pd.DataFrame],
    latency_ms: float,
    champion: int | None,
    gates: dict[str, float],
    gate_code: str,
) -> gate.GateReport:
    """Whether the candidate may be released, and the reasons if not."""
    return gate.gate(evidence | champion_comparison, gates, latency_ms=latency_ms, first_release=champion is None)


# What is kept ---------------------------------------------------------------------------------------------------------


def lineage_run(
    store: str,
    case: str,
    case_code: str,
    raw_tables: str,
    valid_tables: Validated,
    usable_rows: str,
    split_rows: str,
    exclusions: list[dict[str, Any]],
    columns: dict[str, Any],
    fold_scores: pd.DataFrame,
    chosen_model: str,
    calibrated_model: bytes,
    threshold: float,
    evidence: dict[str, pd.DataFrame],
    seed: int,
    training_code: str,
    record: dict[str, Any],
    workspace: Workspace,
) -> str:
    """Write down in MLflow where the candidate comes from: one run, with a child for each kind of model.

    A run that a killed attempt left open is closed as KILLED, and one that it finished is used. Returns the run's id.
    """
    from mlflow import MlflowClient

    client, experiment = MlflowClient(tracking_uri=workspace.tracking_uri), workspace.registry(_module(case)).name
    made_from = {"raw_tables": raw_tables, "clean_tables": valid_tables.clean, "usable_rows": usable_rows}
    made_from |= {"split_rows": split_rows}
    made_from |= {"case_code": case_code, "chosen_model": chosen_model, "threshold": str(threshold)}
    lineage = _digest(made_from, exclusions, seed, training_code, fold_scores.to_csv(), evidence["metrics"].to_csv())
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
        probability = pickle.loads(calibrated_model).predict_proba(test[columns["inputs"]])[:, 1]
        run.log_plots(test[columns["target"]], probability)
        for name, table in evidence.items():
            client.log_text(run.run_id, table.to_csv(), f"{name}.csv")
        run.log_metrics(_finite(evidence["metrics"]["value"]))
        for name, model in _candidates(case, columns, seed).items():
            scores = fold_scores[fold_scores["model"] == name].drop(columns="model")
            tags = {"pipeline": PIPELINE}
            with training.track(
                workspace.tracking_uri, experiment, name=name, parent=run.run_id, tags=tags, **kept
            ) as child:
                child.log_parameters(model)
                child.log_folds(scores)
    return run.run_id


def registered_version(
    store: str,
    lineage_run: str,
    calibrated_model: bytes,
    threshold: float,
    raw_tables: str,
    split_rows: str,
    evidence: dict[str, pd.DataFrame],
    gate_report: gate.GateReport,
    specification: dict[str, Any],
    case: str,
    case_code: str,
    columns: dict[str, Any],
    training_code: str,
    gate_code: str,
    registry_code: str,
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
        **registry.describe(pd.concat(tables.values())[columns["inputs"]]),
    }
    fingerprint = _digest(calibrated_model, promises)
    contract = registry.Contract(fingerprint=fingerprint, code_version=record["code_version"], **promises)
    versions, derive = workspace.registry(_module(case)), _module(case).derive
    model = training.decide(pickle.loads(calibrated_model), threshold)
    version = versions.register(model, contract, run_id=lineage_run, code=[Path(inspect.getfile(derive))])
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


# What steps share: it looks up, words or adds up, and decides nothing -------------------------------------------------


def _module(case: str) -> ModuleType:
    """The case folder by its import name: a name can be compared, kept and sent to another machine, a module cannot."""
    return importlib.import_module(case)


def _candidates(case: str, columns: dict[str, Any], seed: int) -> dict[str, Any]:
    kinds = {kind: columns[kind] for kind in ("numeric", "categorical")}
    return training.candidates(_module(case).derive, **kinds, seed=seed)


def _runs(client: "MlflowClient", experiment: str, condition: str) -> list[str]:
    found = client.get_experiment_by_name(experiment)
    return [run.info.run_id for run in client.search_runs([found.experiment_id], condition)] if found else []


def _finite(values: pd.Series) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _span(times: pd.Series) -> str:
    return f"{len(times):,} rows from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
