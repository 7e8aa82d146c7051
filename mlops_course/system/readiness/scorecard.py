"""The score: every probe tried on one system, and the least section counts."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system.system import System

from .data import cheap_inputs, feature_tests, new_feature, no_leak, privacy, schema, useful_inputs
from .infrastructure import canary, debuggable, gated, integration, model_laws, reproducible, rollback
from .model import inclusion, not_simpler, offline_online, reviewed, slices_sound, staleness_known, tuned
from .monitoring import dependencies, fresh, invariants, live_quality, no_skew, quick, stable_numbers
from .subject import SEED, Subject, _Refuted

PROBES: Mapping[str, Mapping[str, Callable[[Subject], str]]] = {
    "data": {
        "the schema catches broken batches": schema,
        "every input earns its place": useful_inputs,
        "no input costs too much": cheap_inputs,
        "no input knows the answer or the future": no_leak,
        "a row can be forgotten": privacy,
        "a feature is added by its name": new_feature,
        "feature code is tested": feature_tests,
    },
    "model": {
        "specification and release are reviewed": reviewed,
        "offline and online metrics agree": offline_online,
        "settings are tuned": tuned,
        "the cost of age is known": staleness_known,
        "no simpler model is better": not_simpler,
        "no slice is served worse": slices_sound,
        "nobody's risk is misstated": inclusion,
    },
    "infrastructure": {
        "training is reproducible": reproducible,
        "model code keeps its laws": model_laws,
        "the whole pipeline runs": integration,
        "quality is judged before serving": gated,
        "one answer can be taken apart": debuggable,
        "a bad challenger is stopped": canary,
        "a release can be rolled back": rollback,
    },
    "monitoring": {
        "changed dependencies are noticed": dependencies,
        "faults of the feed raise an alarm": invariants,
        "serving answers as training would": no_skew,
        "the champion is not too old": fresh,
        "numbers stay numbers": stable_numbers,
        "speed has not got worse": quick,
        "quality on live labels holds": live_quality,
    },
}
WHERE: Mapping[Callable[[Subject], str], str] = {  # what a probe's evidence is about
    **dict.fromkeys((schema,), "raw tables"),
    **dict.fromkeys(
        (useful_inputs, no_leak, staleness_known, not_simpler, slices_sound, inclusion, invariants), "rows"
    ),
    **dict.fromkeys((tuned, reproducible, gated, new_feature, model_laws), "run"),
    **dict.fromkeys((cheap_inputs, canary, stable_numbers, dependencies), "model"),
    **dict.fromkeys((offline_online, debuggable, no_skew, fresh, quick, live_quality), "log"),
    **dict.fromkeys((reviewed, rollback), "history"),
    **dict.fromkeys((privacy, integration), "drill"),
    **dict.fromkeys((feature_tests,), "repository"),
}


def _link(what: str, it: Subject) -> str:
    """Where to look for oneself."""
    folder, name = it.system.workspace.snapshots, it.system.registry.name
    match what:
        case "raw tables":
            return (folder / it.model.contract.data_version).as_uri()
        case "rows":
            return (folder / it.run.data.tags.get("split_rows", "")).as_uri()
        case "run":
            return f"runs:/{it.run.info.run_id}"
        case "model":
            return f"models:/{name}/{it.model.version}"
        case "log":
            return it.log.url.render_as_string()
        case "history":
            return f"models:/{name}-releases/{it.system.registry.newest_release()}"
        case "repository" if it.repository:
            return (it.repository.resolve() / "tests").as_uri()
    return ""  # a drill in a folder that is gone


@dataclass(frozen=True, eq=False)
class Scorecard:
    """One line a probe in `table`: section, number, name, passed, evidence, link (empty for a drill), seconds."""

    table: pd.DataFrame

    @property
    def sections(self) -> dict[str, int]:
        """Points of each section, out of seven."""
        return {name: int(part["passed"].sum()) for name, part in self.table.groupby("section", sort=False)}

    @property
    def final(self) -> int:
        """The points of the weakest section: what is not tested there, the rest cannot make good."""
        return min(self.sections.values())


def score(
    system: System,
    log: PredictionLog,
    *,
    repository: Path | None = None,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda name: None,
) -> Scorecard:
    """Run all probes on a system and its log; `repository` is a checkout with the tests of the case.

    Nothing of the workspace is changed. `progress` is told the name of each probe as it begins.
    """
    lines = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        subject = Subject(system, log, repository, Path(scratch), seed=seed)
        for section, probes in PROBES.items():
            for number, (name, probe) in enumerate(probes.items(), start=1):
                progress(name)
                begun = time.perf_counter()
                passed, evidence = _tried(probe, subject)
                taken = round(time.perf_counter() - begun, 2)
                link = _tried(partial(_link, WHERE[probe]), subject)
                lines.append((section, number, name, passed, evidence, link[1] if link[0] else "", taken))
    columns = ["section", "number", "name", "passed", "evidence", "link", "seconds"]
    return Scorecard(pd.DataFrame(lines, columns=columns))


def _tried(probe: Callable[[Subject], str], subject: Subject) -> tuple[bool, str]:
    """Whether a probe passed, and its evidence or what speaks against it; an error of any kind is no pass."""
    try:
        evidence = probe(subject)
    except _Refuted as refuted:
        return False, str(refuted)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    return (True, evidence) if isinstance(evidence, str) and evidence else (False, "the probe gave no evidence")
