"""The columns of a case may have any name: a monitor says the same of them, whatever they are called."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small_case
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_course import design
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import scoring
from mlops_course.system.monitor import Monitor, input_names
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

SPECIFICATION = design.load_specification(small_case.SPECIFICATION)
KINDS = {"datetime": ["checked"], "numeric": small_case.NUMERIC, "categorical": ["maker"]}
INPUTS = [name for names in KINDS.values() for name in names]
END = pd.Timestamp("2024-08-15", tz="UTC")
LOGGED = sorted({*PredictionLog("sqlite://").labelled().columns})
AWKWARD = [
    *("prediction", "day", "column", "value", "rows", "labels", "index", "threshold", "version", "level_0", "key"),
    *("weight", "count", "batch", "feature", "slice", "window", "start", "psi", "all", "a", "time_utc", "Time", "TIME"),
    "maker",
    *("a b", 'q"', "br{ace}", "größe", "a,b", "%s", "<b>", "input time", "input input time", "", " ", "None", "$x$"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("names"))
    workspace.create()
    return System("small_case", workspace).registry


def watched(registry, names):
    """A monitor of the small case, with its inputs under other names, after a month in which pressure was missing."""
    rows = small_case.build(small_case.read(small_case.batches()[:8])).drop(columns="batch")
    rows["probability"] = np.random.default_rng(0).random(len(rows))
    live = rows["prediction_time"] >= pd.Timestamp("2024-07-01", tz="UTC")
    rows.loc[live & (rows["prediction_time"] >= pd.Timestamp("2024-07-20", tz="UTC")), "pressure"] = np.nan
    asked = rows[live].reset_index(drop=True)
    answers = asked[["id", "probability"]].assign(time=asked["prediction_time"], decision=True, model_version=1)
    answers["inputs"] = scoring.plain_records(asked[INPUTS].rename(columns=names))
    log = PredictionLog("sqlite://")
    labels = scoring.label_records(asked.dropna(subset=["failed"]), SPECIFICATION)
    log.append(answers.to_dict("records"), labels=labels)
    renamed = {kind: [names[name] for name in found] for kind, found in KINDS.items()}
    inputs = SPECIFICATION.inputs.model_copy(update=renamed)
    specification = SPECIFICATION.model_copy(update={"inputs": inputs, "slices": [names["maker"]]})
    called = input_names(names.values())
    known = rows[~live].rename(columns={name: called[new] for name, new in names.items()})
    monitor = Monitor(SimpleNamespace(specification=specification, registry=registry), {"all": known, "test": known})
    monitor.read(log)
    assert monitor.alerts(END), "nothing is compared"
    return monitor, called


@pytest.fixture(scope="module")
def plain(registry):
    return watched(registry, {name: name for name in INPUTS})[0]


def some(*, among):
    own = (SPECIFICATION.target.column, SPECIFICATION.timing.prediction_time)  # no input: a frame has a name once
    among = among.filter(lambda name: name not in own)
    return st.lists(among, min_size=len(INPUTS), max_size=len(INPUTS), unique=True)


@settings(deadline=None, max_examples=6)
@given(some(among=st.sampled_from([*LOGGED, *AWKWARD]) | st.text(max_size=8)))
@example(LOGGED[: len(INPUTS)])
@example(LOGGED[-len(INPUTS) :])
@example([f"input {name}" for name in LOGGED[: len(INPUTS) - 1]] + ["share"])
def test_a_monitor_says_the_same_whatever_the_inputs_are_called(registry, plain, chosen):
    monitor, called = watched(registry, dict(zip(INPUTS, chosen, strict=True)))
    names = {name: called[new] for name, new in zip(INPUTS, chosen, strict=True)}
    expected = plain.drift(END).rename(index=names)
    pd.testing.assert_frame_equal(monitor.drift(END), expected)
    assert [(one.kind, one.subject, one.raised) for one in monitor.alerts(END)] == [
        (one.kind, names.get(one.subject, one.subject), one.raised) for one in plain.alerts(END)
    ]
    assert [*monitor.slices(END)["rows"]] == [*plain.slices(END)["rows"]]
    assert monitor.state(END)["traffic"] == plain.state(END)["traffic"]


@given(st.lists(st.sampled_from(LOGGED) | st.text(max_size=8), unique=True))
def test_no_two_inputs_share_a_name_and_none_has_one_of_the_log(names):
    called = [*input_names([*names, *(f"input {name}" for name in LOGGED if f"input {name}" not in names)]).values()]
    assert len(set(called)) == len(called)
    assert not {*called} & {*LOGGED, "rows", "labels"}
