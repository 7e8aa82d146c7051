"""The score: every probe is tried on one system, and the weakest section counts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system.system import System

from . import data, infrastructure, model, monitoring
from .system_under_test import SystemUnderTest, _ProbeFailed

Probe = Callable[[SystemUnderTest], str]  # returns what it found; raises what speaks against the system

PROBES: Mapping[str, Mapping[str, Probe]] = {
    "data": {
        "the schema catches broken batches": data.feature_schema,
        "every input earns its place": data.beneficial_inputs,
        "no input costs too much": data.input_cost,
        "no input knows the answer or the future": data.allowed_inputs,
        "a row can be forgotten": data.privacy,
        "a feature is added by its name": data.new_feature,
        "feature code is tested": data.feature_tests,
    },
    "model": {
        "specification and release are reviewed": model.specification_review,
        "offline and online metrics agree": model.offline_online_correlation,
        "settings are tuned": model.tuned_settings,
        "the cost of age is known": model.staleness_cost,
        "no simpler model is better": model.simpler_models,
        "no slice is served worse": model.slice_quality,
        "nobody's risk is misstated": model.inclusion,
    },
    "infrastructure": {
        "training is reproducible": infrastructure.reproducible_training,
        "model code keeps its laws": infrastructure.model_code,
        "the whole pipeline runs": infrastructure.pipeline_integration,
        "quality is judged before serving": infrastructure.quality_gate,
        "one answer can be taken apart": infrastructure.debuggable_predictions,
        "a bad challenger is stopped": infrastructure.canary,
        "a release can be rolled back": infrastructure.rollback,
    },
    "monitoring": {
        "changed dependencies are noticed": monitoring.dependency_changes,
        "faults of the feed raise an alarm": monitoring.input_faults,
        "serving answers as training would": monitoring.training_serving_skew,
        "the champion is not too old": monitoring.champion_age,
        "numbers stay numbers": monitoring.numerical_stability,
        "speed has not got worse": monitoring.computing_performance,
        "quality on live labels holds": monitoring.prediction_quality,
    },
}


@dataclass(frozen=True, eq=False)
class Scorecard:
    """The result; `table` has one row a probe: section, number, name, passed, found, seconds.

    `found` is what the probe found, or what speaks against the system.
    """

    table: pd.DataFrame

    @property
    def sections(self) -> dict[str, int]:
        """Points of each section, out of seven."""
        return {name: int(part["passed"].sum()) for name, part in self.table.groupby("section", sort=False)}

    @property
    def final(self) -> int:
        """The points of the weakest section: the others cannot make up for what is not tested there."""
        return min(self.sections.values())


def score(
    system: System,
    log: PredictionLog,
    *,
    repository: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Scorecard:
    """Run all probes on a system and its log; `repository` is a checkout with the tests of the case.

    Nothing in the workspace is changed. `progress` is called with the name of each probe when it starts.
    """
    rows = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        tested = SystemUnderTest(system, log, repository, Path(scratch))
        for section, probes in PROBES.items():
            for number, (name, probe) in enumerate(probes.items(), start=1):
                progress(name)
                begun, outcome = time.perf_counter(), _outcome(probe, tested)
                rows.append((section, number, name, *outcome, round(time.perf_counter() - begun, 2)))
    columns = ["section", "number", "name", "passed", "found", "seconds"]
    return Scorecard(pd.DataFrame(rows, columns=columns))


def _outcome(probe: Probe, tested: SystemUnderTest) -> tuple[bool, str]:
    """Return whether a probe passed, and what it found; an error of any kind is no pass."""
    try:
        found = probe(tested)
    except _ProbeFailed as failure:
        return False, str(failure)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return (True, found) if isinstance(found, str) and found else (False, "the probe does not say what it found")
