"""The monitor: every row counted once, nothing seen before its time, and the same after a restart."""

import json
from contextlib import closing, nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small_case
from mlflow import MlflowClient

from mlops_course.operations.deployment.prediction_log import LogUnavailableError, PredictionLog
from mlops_course.operations.monitoring import alerting
from mlops_course.operations.registry import Registry, TamperedError
from mlops_course.system import monitor as monitors
from mlops_course.system import pipeline, scoring
from mlops_course.system.monitor import Monitor
from mlops_course.system.service import processes
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

pytestmark = pytest.mark.usefixtures("few_answers_are_timed")

BATCHES, LIVE = small_case.batches()[:6], small_case.batches()[6:8]
DAY = pd.Timedelta("1D")
END = pd.Timestamp("2024-09-15", tz="UTC")


@pytest.fixture(scope="module")
def system(warm, tmp_path_factory):
    system = System("small_case", warm(tmp_path_factory.mktemp("watch")))
    trained = pipeline.train(system.case, BATCHES, workspace=system.workspace, seed=0)
    system.registry.promote(trained.version, approver="Ada", reason="first release")
    return system


@pytest.fixture(scope="module")
def reference(system):
    return monitors.reference_rows(system, system.registry.champion())


@pytest.fixture(scope="module")
def log(system):
    log = PredictionLog(system.workspace.prediction_log_url)
    scoring.stream(system, LIVE, log=log, consumer="desk")
    return log


@pytest.fixture(scope="module")
def monitor(system, reference, log):
    monitor = Monitor(system, reference)
    monitor.read(log)
    return monitor


def test_the_reference_is_what_the_version_was_made_from(system, reference):
    rows = small_case.build(small_case.read(BATCHES))
    assert sorted(reference["all"]["id"]) == sorted(rows["id"])
    assert set(reference["test"]["id"]) < set(reference["all"]["id"])
    model = system.registry.load("champion")
    again = model.model.predict_proba(reference["test"][list(model.contract.inputs)])[:, 1]
    np.testing.assert_array_equal(reference["test"]["probability"], again)


def test_every_row_of_the_log_is_in_one_day_and_read_once(monitor, log):
    assert sum(summary.rows for summary in monitor.daily().values()) == len(log.predictions()) == 500
    assert monitor.read(log) == 0
    assert sum(summary.rows for summary in monitor.daily().values()) == 500


def test_inputs_come_out_of_the_log_as_they_went_in(monitor, system):
    rows = small_case.build(small_case.read([*BATCHES[-1:], *LIVE]))
    rows = rows[rows["batch"].isin(LIVE)].set_index("id")
    found = monitor.observed.table.set_index("id").loc[rows.index]
    for name in system.specification.inputs.all:
        pd.testing.assert_series_equal(found[name], rows[name], check_dtype=False, check_names=False)


def test_a_monitor_that_reads_in_pieces_or_starts_again_says_the_same(system, reference, log, monitor):
    pieces = Monitor(system, reference)
    whole, labels = log.predictions(), log.labelled()[["id", "label", "label_time"]]
    parsed = pieces.observed.parsed(whole)
    for low, high in ((0, 130), (130, 131), (131, 500)):
        pieces.observed.add(parsed.iloc[low:high], labels.iloc[:0])
    pieces.observed.add(parsed.iloc[:0], labels.iloc[::2])
    pieces.observed.add(parsed.iloc[:0], labels.iloc[1::2])
    assert json.dumps(pieces.state(END)) == json.dumps(monitor.state(END))


@pytest.mark.parametrize("now", [pd.Timestamp("2024-07-20", tz="UTC"), pd.Timestamp("2024-08-11", tz="UTC")])
def test_what_comes_after_a_moment_changes_nothing_that_is_said_of_it(system, reference, log, now):
    said = []
    for spoilt in (False, True):
        monitor = Monitor(system, reference)
        rows, labels = monitor.observed.parsed(log.predictions()), log.labelled()[["id", "label", "label_time"]]
        if spoilt:
            rows = rows.assign(vibration=rows["vibration"].mask(rows["time"] >= now, 99.0))
            labels = labels.assign(label=labels["label"].where(labels["label_time"] <= now, 1 - labels["label"]))
        monitor.observed.add(rows, labels)
        said.append(json.dumps(monitor.state(now)))
    assert said[0] == said[1]


def test_the_state_survives_json_and_tells_of_everything(monitor, system):
    state = monitor.state(END)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["champion"]["version"] == 1
    assert sum(day["rows"] for day in state["traffic"]) == 500
    assert {line["slice"] for line in state["slices"]} == set(system.specification.slices)
    assert len(state["performance"]) >= 7


def test_before_anything_was_asked_nothing_is_known_and_nothing_fails(system, reference):
    monitor = Monitor(system, reference)
    state = monitor.state(END)
    assert (state["traffic"], state["drift"]["features"], state["performance"], state["alerts"]) == ([], [], [], [])
    assert "0 rows answered" in monitor.report(END)


def spoiling(system, reference, log, **changes):
    monitor = Monitor(system, reference)
    rows = monitor.observed.parsed(log.predictions())
    since = rows["time"] >= pd.Timestamp("2024-08-05", tz="UTC")
    monitor.observed.add(
        rows.assign(**{name: rows[name].mask(since, to) for name, to in changes.items()}), pd.DataFrame()
    )
    return monitor


def test_an_alert_names_column_cost_and_first_step(system, reference, log):
    monitor = spoiling(system, reference, log, pressure=np.nan)
    (alert,) = [alert for alert in monitor.alerts(END) if alert.kind == "silent null"]
    assert alert.subject == "pressure"
    assert alert.since == pd.Timestamp("2024-08-05", tz="UTC")
    assert "pressure" in alert.first_step


def test_drift_is_measured_against_the_sample_of_the_champion(system, reference, log):
    clean, hot = Monitor(system, reference), spoiling(system, reference, log, temperature=90.0)
    clean.read(log)
    now = pd.Timestamp("2024-08-25", tz="UTC")
    assert hot.drift(now).loc["temperature", "psi"] > 1 > clean.drift(now).loc["temperature", "psi"]


def test_a_lasting_change_is_no_drift_against_the_weeks_before(system, reference, log):
    monitor = spoiling(asking_for(system, window_days=7), reference, log, temperature=90.0)
    early, late = pd.Timestamp("2024-08-12", tz="UTC"), pd.Timestamp("2024-08-27", tz="UTC")
    psi = {
        (now, season): monitor.drift(now, season=season).loc["temperature", "psi"]
        for now in (early, late)
        for season in (False, True)
    }
    assert min(psi[early, False], psi[late, False], psi[early, True]) > 1
    assert psi[late, True] < psi[early, True] / 2
    assert monitor.drift(pd.Timestamp("2024-07-03", tz="UTC"), season=True).empty


def test_with_another_reference_drift_is_measured_against_that(system, reference, log):
    monitor = spoiling(system, reference, log, temperature=90.0)
    now = pd.Timestamp("2024-08-25", tz="UTC")
    before = monitor.drift(now)
    monitor.rebase({name: rows.assign(temperature=90.0) for name, rows in reference.items()})
    assert monitor.drift(now).loc["temperature", "psi"] < 0.1 < before.loc["temperature", "psi"]


def test_with_another_reference_alerts_stay_as_they_were(system, reference, log, monkeypatch):
    """A monitor that starts again says the same, with the reference of the champion of today."""
    monkeypatch.setattr(monitors.monitor, "MIN_SLICE_ROWS", 1)
    first, later = (spoiling(system, reference, log, temperature=90.0) for _ in range(2))
    later.rebase({name: rows.assign(temperature=90.0) for name, rows in reference.items()})
    assert later.alerts(END) == first.alerts(END)
    assert any(alert.subject == "temperature" for alert in first.alerts(END))


def asking_for(system, **rules):
    """The system with other rules for its monitor in the specification."""
    other, monitoring = replace(system), system.specification.monitoring.model_copy(update=rules)
    other.__dict__["specification"] = system.specification.model_copy(update={"monitoring": monitoring})
    return other


def test_labels_that_the_specification_counts_as_missing_are_not_waited_for(system, reference, log):
    def last_judged(days):
        monitor = Monitor(asking_for(system, max_label_age_days=days), reference)
        monitor.read(log)
        return monitor.signals(pd.Timestamp("2024-08-20", tz="UTC"))["labels", "coverage"].last_valid_index()

    assert last_judged(1) > last_judged(14)
    assert last_judged(14) == last_judged(1_000), "longer than labels take, nobody waits"


def test_the_report_names_the_budget_of_the_specification(system, reference, log):
    monitor = Monitor(asking_for(system, max_false_alarms_per_year=3), reference)
    monitor.read(log)
    assert "the bars allow 3 a year" in monitor.report(END)


def test_the_budget_of_the_specification_sets_the_bars(system, reference):
    def bars(a_year):
        monitor = Monitor(asking_for(system, max_false_alarms_per_year=a_year), reference)
        expected = alerting.calibrate(monitor._quiet, a_year=a_year).bars
        pd.testing.assert_series_equal(monitor._bars.bars, expected)
        return expected

    assert (bars(1) > bars(12)).any()


@pytest.fixture(scope="module")
def twice_released(system, tmp_path_factory):
    """A system whose second champion has learnt from more months than its first, and a monitor that saw both come."""
    system = System("small_case", Workspace(tmp_path_factory.mktemp("twice"), shared=system.workspace.root))
    for batches in (BATCHES[:4], BATCHES):
        trained = pipeline.train(system.case, batches, workspace=system.workspace, seed=0)
        words = {"approver": "Ada", "reason": f"trained on {len(batches)} months", "waiver": "for a test"}
        system.registry.promote(trained.version, **words)
        if trained.version == 1:
            monitor = Monitor.of(system)
    monitor.rebase(monitors.reference_rows(system, 2))
    return system, monitor


def test_a_monitor_that_starts_after_a_promotion_says_the_same_as_one_that_saw_it(twice_released, log):
    system, monitor = twice_released
    later = Monitor.of(system)
    later.read(log)
    monitor.read(log)
    assert json.dumps(later.state(END)) == json.dumps(monitor.state(END))
    pd.testing.assert_frame_equal(later.signals(END), monitor.signals(END))


@pytest.mark.parametrize("why", ["spoilt", "other inputs"])
def test_a_first_version_that_is_spoilt_or_knew_other_inputs_says_nothing_of_what_is_usual(
    twice_released, monkeypatch, why
):
    load = Registry.load

    def loaded(self, version):
        found = load(self, version)
        if found.version == 1 and why == "spoilt":
            raise TamperedError("version 1 is not what was registered")
        fewer = {name: kind for name, kind in found.contract.inputs.items() if name != "vibration"}
        return replace(found, contract=replace(found.contract, inputs=fewer)) if found.version == 1 else found

    system, _ = twice_released
    of_second = Monitor(system, monitors.reference_rows(system, 2))
    monkeypatch.setattr(Registry, "load", loaded)
    pd.testing.assert_frame_equal(Monitor.of(system).signals(END), of_second.signals(END))


def test_without_a_champion_there_is_nothing_to_watch(system, tmp_path):
    with pytest.raises(ValueError, match="train and promote one first"):
        Monitor.of(System("small_case", Workspace(tmp_path, shared=system.workspace.root)))


class Watching:
    """The loop of the process that watches, in this one: before each look, the next thing happens."""

    def __init__(self, system, file, happenings):
        self.system, self.file, self.happenings = system, file, iter(happenings)
        self.known = []

    def __call__(self):
        """Whether the process is still wanted; notes what the file says after each look."""
        self.known.append(json.loads(self.file.read_text()) if self.file.exists() else None)
        if (happens := next(self.happenings, None)) is not None:
            happens()
        return happens is not None

    def run(self, log, monkeypatch):
        monkeypatch.setattr(processes, "WATCH_SECONDS", 0)
        monkeypatch.setattr(processes, "_background", lambda name: nullcontext(self))
        processes._watch("small_case", self.system.workspace, f"sqlite:///{log.url.database}", self.file)
        return self.known


def test_what_watches_outlives_an_outage_of_the_log_and_says_that_it_cannot_look(system, log, tmp_path, monkeypatch):
    trouble, read = [], PredictionLog.predictions

    def read_or_fail(log, **asked):
        if trouble:
            raise LogUnavailableError(*trouble)
        return read(log, **asked)

    monkeypatch.setattr(PredictionLog, "predictions", read_or_fail)
    happenings = [list, list, list, lambda: trouble.append("the disk is full"), list, list, trouble.clear, list, list]
    known = [state for state in Watching(system, tmp_path / "monitor.json", happenings).run(log, monkeypatch) if state]
    assert "LogUnavailableError: the disk is full" in [state.get("trouble") for state in known]
    assert "traffic" in known[0]
    assert "traffic" in known[-1], "it does not look again"
    assert known[-1]["traffic"] == known[0]["traffic"]


def test_what_watches_outlives_a_row_that_is_forgotten(system, log, tmp_path, monkeypatch):
    copy = tmp_path / "log.db"
    with closing(PredictionLog(f"sqlite:///{copy.as_posix()}")) as own:
        scoring.stream(system, LIVE, log=own, consumer="desk")
        name = own.predictions(limit=1)["id"].iloc[0]
        happenings = [list, list, list, lambda: own.delete([name]), list, list]
        known = Watching(system, tmp_path / "monitor.json", happenings).run(own, monkeypatch)
    assert [name for state in known if state for name in state if name == "trouble"] == []
    assert sum(day["rows"] for day in known[-1]["traffic"]) == sum(day["rows"] for day in known[2]["traffic"])


def test_the_report_is_one_page_that_loads_nothing(monitor):
    page = monitor.report(END)
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


def test_a_version_without_named_rows_is_refused(system):
    registered = system.registry.load(1)
    client = MlflowClient(tracking_uri=system.workspace.tracking_uri)
    run = client.create_run("0")
    other = replace(registered.contract, fingerprint="another")
    version = system.registry.register(registered.model, other, run_id=run.info.run_id)
    with pytest.raises(ValueError, match="to name its rows"):
        monitors.reference_rows(system, version)
