"""Governance: every link behind an answer holds or is named, what is forgotten is gone, and edits of records show."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest
import small_case

from mlops_course.development import data
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import governance, pipeline, scoring, service
from mlops_course.system.governance import AuditTrail, UnknownPredictionError, deletion
from mlops_course.system.keyed_digests import DigestKeyError
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

pytestmark = pytest.mark.usefixtures("few_answers_are_timed")

BATCHES = small_case.batches()[:6]
SIGNED = {"approver": "Ada", "reason": "first release"}
ASKED = {"approver": "Grace", "reason": "asked for by the owner"}
SEVENTH = pd.Timestamp("2024-07-01", tz="UTC")
EIGHTH = pd.Timestamp("2024-08-01", tz="UTC")


@pytest.fixture(scope="module")
def origin(warm, tmp_path_factory):
    """A workspace with a champion, released before its first answers, and a month in the log."""
    root = tmp_path_factory.mktemp("governance") / "origin"
    system = System("small_case", warm(root), clock=lambda: SEVENTH.to_pydatetime())
    trained = pipeline.train(system.case, BATCHES, workspace=system.workspace, seed=0)
    system.registry.promote(trained.version, **SIGNED)
    with closing(PredictionLog(system.workspace.prediction_log_url)) as log:
        scoring.stream(system, ["2024-07"], log=log, consumer="desk")
    return system


@pytest.fixture
def used(origin):
    """The same again for a test that changes it: files and databases are put back afterwards."""
    root = origin.workspace.root
    kept = root.with_name("kept")
    shutil.copytree(root, kept)
    log = PredictionLog(origin.workspace.prediction_log_url)
    yield origin, log
    log.close()
    for name in ("artifacts", "cache", "snapshots", "predictions", "reports", "audit", "withheld.txt", "deletion.key"):
        whole, changed = kept / name, root / name
        if changed.is_dir():
            shutil.rmtree(changed)
        changed.unlink(missing_ok=True)
        if whole.is_dir():
            shutil.copytree(whole, changed)
        elif whole.exists():
            shutil.copy(whole, changed)
    with closing(sqlite3.connect(kept / "mlflow.db")) as whole, closing(sqlite3.connect(root / "mlflow.db")) as now:
        whole.backup(now)
    shutil.rmtree(kept)


def answered(log):
    return log.predictions(limit=1)["id"].iloc[0]


# Lineage


def test_any_prediction_leads_to_model_code_data_specification_gate_and_approver(used):
    system, log = used
    found = governance.lineage(system, log, answered(log))
    contract = system.registry.load("champion").contract
    assert found.broken == ()
    assert not found.table["check"].str.startswith("unknown").any()
    expected = {"approver": "Ada", "reason": "first release", "gate": "passed", "specification": "pumps 1"}
    expected |= {"data_version": contract.data_version, "code_version": contract.code_version}
    assert {name: found.facts[name] for name in expected} == expected
    assert found.facts["release"].startswith("1: promoted 2024-07-01")
    assert found.facts["training_span"].startswith("train 2024-01-01 to")
    assert not re.search("fail|held", found.facts["gate_report"])


def test_the_answer_is_the_registered_model_s_own(used):
    system, log = used
    row = log.labelled().iloc[0]
    found = governance.lineage(system, log, row["id"])
    expected = scoring.score(system, "2024-07").set_index("id").loc[row["id"]]
    assert found.facts["probability"] == expected["probability"]
    assert found.facts["label"] == expected["failed"]


def test_an_unknown_id_is_refused_by_name(used):
    with pytest.raises(UnknownPredictionError, match="got 'nobody'"):
        governance.lineage(*used, "nobody")


def in_log(system, statement):
    with closing(sqlite3.connect(system.workspace.predictions / "log.db")) as database, database:
        database.execute(statement)


def in_registry(system, statement):
    with closing(sqlite3.connect(system.workspace.database)) as database, database:
        assert database.execute(statement).rowcount


def spoil_snapshot(system, version):
    file = system.workspace.snapshots / version / "checks.parquet"
    pd.read_parquet(file).assign(pressure=1.0).to_parquet(file)


def spoil_files(system):
    (next(system.workspace.root.glob("artifacts/**/contract.json"))).write_text("{}")


def spoil_gate(system):
    file = next(system.workspace.root.glob("artifacts/**/gate.csv"))
    file.write_text(file.read_text().replace("pass", "fail", 1))


SPOILED = {
    "probability": lambda system, _: in_log(system, "UPDATE predictions SET probability = probability / 2"),
    "model": lambda system, _: spoil_files(system),
    "data version": spoil_snapshot,
    "history": lambda system, _: in_registry(
        system, "UPDATE model_version_tags SET value = 'Eve' WHERE key = 'approver'"
    ),
    "gate report": lambda system, _: spoil_gate(system),
    "release": lambda system, _: in_log(system, "UPDATE predictions SET model_version = 7"),
}


@pytest.mark.parametrize("link", SPOILED)
def test_a_link_that_does_not_hold_is_named(used, link):
    system, log = used
    SPOILED[link](system, system.registry.load("champion").contract.data_version)
    assert link in governance.lineage(system, log, answered(log)).broken


def test_an_answer_of_before_the_first_release_says_that_its_time_is_unknown(used):
    system, log = used
    in_log(system, "UPDATE predictions SET time = '2024-06-01 00:00:00.000000'")
    found = governance.lineage(system, log, answered(log))
    assert found.broken == ()
    assert found.table.set_index("link").loc["release", "check"].startswith("unknown: asked before the first release")


def test_the_release_is_the_one_in_effect_when_the_answer_was_given(used):
    system, log = used
    later = System("small_case", system.workspace, clock=lambda: EIGHTH.to_pydatetime())
    second = register_again(system)
    later.registry.promote(second, approver="Eve", reason="newer")
    later.registry.roll_back(approver="Bob", reason="older")
    assert governance.lineage(system, log, answered(log)).facts["approver"] == "Ada"
    in_log(system, "UPDATE predictions SET time = '2024-08-09 00:00:00.000000'")
    assert governance.lineage(system, log, answered(log)).facts["approver"] == "Bob"
    in_log(system, f"UPDATE predictions SET model_version = {second}")
    assert "release" in governance.lineage(system, log, answered(log)).broken


def register_again(system):
    """The champion under another number."""

    model = system.registry.load("champion")
    run = system.run_of(model.version).info.run_id
    contract = replace(model.contract, fingerprint="again")
    return system.registry.register(model.model, contract, run_id=run)


# Deletion


def holding(root, name):
    """Files of a workspace in which an id stands, inside of Parquet too."""
    found = [path for path in root.rglob("*") if path.is_file() and name.encode() in path.read_bytes()]
    for path in root.rglob("*.parquet"):
        table = pd.read_parquet(path)
        if table.astype(str).eq(name).any(axis=None):
            found.append(path)
    return [path.relative_to(root).as_posix() for path in found]


@pytest.fixture
def shadowed(used):
    """With answers of a shadow too, and the id of a row that the champion was trained on put into the log."""
    system, log = used
    name = "2024-02-0007"
    row = log.predictions(limit=1).drop(columns="number").iloc[0].to_dict() | {"id": name}
    row["time"] = row["time"].to_pydatetime()
    log.append([row], labels=[{"id": name, "label": 1, "time": EIGHTH.to_pydatetime()}])
    with closing(service.shadow_log(system.workspace.prediction_log_url)) as shadow:
        shadow.append([row])
    (system.workspace.reports / "page.html").write_text(f"<p>{name}</p>")
    return system, log, name


def test_what_is_forgotten_is_nowhere_in_the_workspace(shadowed):
    system, log, name = shadowed
    assert len(holding(system.workspace.root, name)) > 5
    done = governance.forget(system, log, [name], **ASKED)
    assert holding(system.workspace.root, name) == []
    assert log.find(name) is None
    assert done["rows"] == {"predictions": 1, "shadow": 1}
    assert done["reports"] == ["page.html"]
    assert log.find(answered(log)) is not None


def test_the_record_names_who_why_what_and_the_versions_to_train_anew_but_no_id(shadowed):
    system, log, name = shadowed
    contract = system.registry.load("champion").contract
    done = governance.forget(system, log, [name], **ASKED)
    assert done["versions"] == [system.registry.champion()]
    assert contract.data_version in done["snapshots"]
    assert (done["approver"], done["reason"]) == ("Grace", "asked for by the owner")
    assert done["ids"] == [system.workspace.digest_key().digest(name)]
    assert [record["event"] for record in AuditTrail(system).records()] == ["deletion requested", "deletion done"]
    assert AuditTrail(system).defect() == ""


def test_what_was_not_asked_for_stays(shadowed):
    system, log, _ = shadowed
    before = data.snapshots(system.workspace.snapshots)
    done = governance.forget(system, log, ["2024-07-0003"], **ASKED)
    assert done["versions"] == []
    assert set(data.snapshots(system.workspace.snapshots)) == set(before) - set(done["snapshots"]) != set()
    system.workspace.withheld.unlink()  # then the same training needs nothing new but the comparison with the champion
    trained = pipeline.train(system.case, BATCHES, workspace=system.workspace, seed=0)
    assert not {"raw_tables", "split_rows", "fold_scores", "calibrated_model", "evidence"} & set(trained.executed)


def test_a_frame_that_is_built_afterwards_leaves_the_rows_out(shadowed):
    system, log, name = shadowed
    governance.forget(system, log, [name], **ASKED)
    rows = pipeline.prediction_rows(system.case, BATCHES[:2], workspace=system.workspace)
    assert set(small_case.build(small_case.read(BATCHES[:2]))["id"]) - set(rows["id"]) == {name}


@pytest.mark.long
def test_a_training_afterwards_leaves_the_rows_out(shadowed):
    system, log, name = shadowed
    governance.forget(system, log, [name], **ASKED)
    trained = pipeline.train(system.case, BATCHES, workspace=system.workspace, seed=0)
    assert "calibrated_model" in trained.executed
    fitted = [load for load in snapshots_of(system) if "train" in load]
    assert len(fitted) == 1
    assert not any(name in set(part["id"]) for part in fitted[0].values())


def snapshots_of(system):
    folder = system.workspace.snapshots
    return [data.load_snapshot(folder, version) for version in data.snapshots(folder)]


def test_repeating_it_adds_nothing(shadowed):
    system, log, name = shadowed
    done = governance.forget(system, log, [name], **ASKED)
    assert governance.forget(system, log, [name], **ASKED) == done
    assert len(AuditTrail(system).records()) == 2


@pytest.mark.parametrize("step", ["_logs", "_drop_cached", "_drop_reports"])
def test_killed_half_way_repeating_it_completes_it(shadowed, monkeypatch, step):
    system, log, name = shadowed

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deletion, step, killed)
        with pytest.raises(KeyboardInterrupt):
            governance.forget(system, log, [name], **ASKED)
    done = governance.forget(system, log, [name], **ASKED)
    assert done["versions"] == [system.registry.champion()]
    assert holding(system.workspace.root, name) == []
    assert [record["event"] for record in AuditTrail(system).records()] == ["deletion requested", "deletion done"]


def test_the_lineage_of_another_answer_says_why_its_data_are_gone(shadowed):
    system, log, name = shadowed
    governance.forget(system, log, [name], **ASKED)
    found = governance.lineage(system, log, answered(log))
    assert found.broken == ()
    check = found.table.set_index("link").loc["data version", "check"]
    assert check == "unknown: removed for the deletion request 1 in the audit trail"


@pytest.mark.parametrize("words", [{"approver": " "}, {"reason": ""}])
def test_a_request_without_a_name_or_a_reason_is_refused(used, words):
    with pytest.raises(ValueError, match="expected ids, an approver and a reason"):
        governance.forget(*used, ["a"], **ASKED | words)


# What a backup brings back


def every_file(root):
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


@pytest.fixture
def restored(shadowed):
    """A row was forgotten; then logs and snapshots of before are put back."""
    system, log, name = shadowed
    root, kept = system.workspace.root, system.workspace.root.with_name("backup")
    log.close()
    for folder in ("predictions", "snapshots"):
        shutil.copytree(root / folder, kept / folder)
    governance.forget(system, log, [name], **ASKED)
    log.close()
    for folder in ("predictions", "snapshots"):
        shutil.rmtree(root / folder)
        shutil.copytree(kept / folder, root / folder)
    shutil.rmtree(kept)
    with closing(PredictionLog(system.workspace.prediction_log_url)) as put_back:  # the log refuses a file that changed
        yield system, put_back, name


def test_what_a_backup_brings_back_is_forgotten_again_without_its_id_and_nothing_else_is(restored):
    system, log, name = restored
    others = log.ids() - {name}
    assert log.find(name) is not None
    done = governance.forget_again(system, log, **ASKED)
    assert done["rows"] == {"predictions": 1, "shadow": 1}
    assert log.ids() == others
    assert holding(system.workspace.root, name) == []
    assert governance.forget_again(system, log, **ASKED) is None


def test_a_plain_hash_of_the_id_is_on_no_record(restored):
    system, log, name = restored
    governance.forget_again(system, log, **ASKED)
    records = every_file(AuditTrail(system).folder) + system.workspace.withheld.read_bytes()
    guesses = [
        hashlib.sha256(guess.encode()).hexdigest().encode()
        for guess in (name, *small_case.build(small_case.read(BATCHES))["id"])
    ]
    assert not any(guess in records for guess in guesses)
    assert name.encode() not in records


def lose_key(system):
    (system.workspace.root / "deletion.key").unlink()


def change_key(system):
    (system.workspace.root / "deletion.key").write_text("0" * 64)


def edit_trail(system):
    edit(AuditTrail(system), number=1, old="Grace", new="Eve")


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        (lose_key, DigestKeyError, "got neither; put it back from where it is kept"),
        (change_key, DigestKeyError, "made with another key"),
        (edit_trail, ValueError, "record 1 was edited"),
    ],
)
def test_without_its_key_or_trail_nothing_of_a_restored_backup_is_deleted(restored, change, error, found):
    system, log, name = restored
    change(system)
    before = log.ids(), every_file(system.workspace.snapshots)
    with pytest.raises(error, match=found):
        governance.forget_again(system, log, **ASKED)
    assert (log.ids(), every_file(system.workspace.snapshots)) == before
    assert name in log.ids()


def test_without_the_key_no_training_takes_forgotten_rows_back(restored):
    system, _, _ = restored
    lose_key(system)
    with pytest.raises(DigestKeyError, match="got neither"):
        pipeline.prediction_rows(system.case, BATCHES[:2], workspace=system.workspace)


def test_where_nothing_was_forgotten_nothing_is_deleted_and_no_key_is_made(used):
    system, log = used
    assert governance.forget_again(system, log, **ASKED) is None
    assert not (system.workspace.root / "deletion.key").exists()


# The audit trail


@pytest.fixture
def trail(tmp_path):
    trail = AuditTrail(System("small_case", Workspace(tmp_path)))
    for number in range(3):
        trail.add("deletion done", {"reason": f"{number}"})
    return trail


def edit(trail, *, number=2, old='"reason": "1"', new='"reason": "9"'):
    file = trail.folder / f"{number:06d}.json"
    file.write_text(file.read_text().replace(old, new))


def forge(trail):
    file = trail.folder / "000002.json"
    record = json.loads(file.read_text()) | {"reason": "9"}
    del record["hash"]
    own = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(record | {"hash": own}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (edit, "record 2 was edited"),
        (forge, "record 3 was written after another one than record 2"),
        (lambda trail: os.remove(trail.folder / "000002.json"), "record 2 is missing"),
    ],
    ids=["edited", "edited with a new hash", "deleted"],
)
def test_an_edit_of_the_trail_is_found(trail, change, found):
    assert trail.defect() == ""
    change(trail)
    assert trail.defect() == found


# Incidents


def test_an_incident_report_holds_what_is_on_record_and_asks_for_the_rest(used):
    system, log = used
    alert = {"kind": "silent null", "subject": "pressure", "since": "2024-07-05", "until": "2024-07-09"}
    alert |= {"text": "pressure: missing in half of the rows", "first_step": "look at the sensor"}
    governance.forget(system, log, ["2024-07-0003"], **ASKED)
    text = governance.incident_report(system, log, start=SEVENTH, end=EIGHTH, alerts=[alert])
    rows, labelled = log.predictions(), log.labelled()
    cost = scoring.error_costs(labelled, system.specification).sum()
    for words in (
        f"{len(rows):,} predictions were answered, {rows['decision'].sum():,} of them with yes",
        f"they cost {cost:,.0f} in all",
        "version 1 promoted by Ada: first release",
        "| 2024-07-05 00:00:00 | alert raised | pressure: missing in half of the rows |",
        "deletion done by Grace",
        "First step it named: look at the sensor.",
        "Chain of releases: intact",
        "*What was the first thing that went wrong?",
    ):
        assert words in text


@pytest.mark.parametrize("first_step", [{}, {"first_step": ""}, {"first_step": None}], ids=["none", "empty", "null"])
def test_an_incident_report_takes_an_alert_that_names_no_first_step(used, first_step):
    alert = {"kind": "silent null", "subject": "pressure", "since": "2024-07-05", "until": None, "text": "missing"}
    text = governance.incident_report(*used, start=SEVENTH, end=EIGHTH, alerts=[alert | first_step])
    assert "First alert 4 days 00:00:00 after the start: silent null, pressure." in text
    assert "First step" not in text


def test_a_report_of_a_time_without_records_says_so(used):
    text = governance.incident_report(
        *used, start=pd.Timestamp("2020-01-01", tz="UTC"), end=pd.Timestamp("2020-01-02", tz="UTC")
    )
    assert "No prediction is on record in this time." in text
    assert "Nothing is on record in this time." in text
    assert "cost" not in text


def test_times_without_a_zone_are_refused(used):
    with pytest.raises(ValueError, match="with their zones"):
        governance.incident_report(*used, start=SEVENTH.tz_localize(None), end=EIGHTH.tz_localize(None))


def with_its_own_hash(system):
    """Edit the newest release as somebody who knows how its hash is made."""
    in_registry(system, "UPDATE model_version_tags SET value = 'Eve' WHERE key = 'approver'")
    *_, newest = system.registry._records(system.registry._releases)
    tags = {key: value for key, value in newest.tags.items() if key != "own_hash"}
    facts = json.dumps((newest.source, tags), sort_keys=True, ensure_ascii=False)
    own = hashlib.sha256(facts.encode()).hexdigest()
    in_registry(system, f"UPDATE model_version_tags SET value = '{own}' WHERE key = 'own_hash'")


def without_releases(system):
    in_registry(system, "DELETE FROM model_version_tags WHERE name LIKE '%-releases'")
    in_registry(system, "DELETE FROM model_versions WHERE name LIKE '%-releases'")


def without_links(system):
    in_registry(system, "DELETE FROM model_version_tags WHERE key IN ('follows', 'history_hash', 'own_hash')")


@pytest.mark.parametrize("edit", [with_its_own_hash, without_releases, without_links])
def test_an_edit_that_the_chain_alone_cannot_show_contradicts_the_head_that_was_seen_before(used, edit):
    system, _ = used
    seen = system.verify_history()
    edit(system)
    assert (seen.intact, system.registry.verify_history().intact) == (True, True), "the chain alone sees nothing"
    assert not system.verify_history().intact
    assert not system.verify_history().intact, "the head stays"


def test_a_release_goes_on_from_the_head_that_was_seen_and_another_file_is_no_head(used):
    system, _ = used
    system.verify_history()
    system.registry.promote(register_again(system), **SIGNED, waiver="the same once more")
    assert system.verify_history().intact
    (system.workspace.predictions / "history-head.txt").write_text("7")
    assert "history-head.txt was changed" in system.verify_history().defect
