"""From batches to a champion in use: what is promoted, what is scored, and that nothing happens by accident."""

import json
import os
import signal
from contextlib import closing
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import small_case
import sqlalchemy as sa
from kills import in_a_child

from mlops_course.operations.deployment import batch, streaming
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system import scoring
from mlops_course.system.release import GateRefusedError, release
from mlops_course.system.system import System

BATCHES = small_case.batches()[:6]
SIGNED = {"approver": "Ada", "reason": "first release"}
# The champion is linear: how its products are summed hangs on the processor, and on how many rows are asked at once.
LAST_DIGITS = 1e-14


@pytest.fixture(scope="module")
def system(warm, tmp_path_factory):
    """A system that builds the rows of a batch once: to score them again takes less than to build them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_batch_rows", cache(scoring._batch_rows))
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # no connection is open when a child is forked
        yield System("small_case", warm(tmp_path_factory.mktemp("lifecycle")))


@pytest.fixture(scope="module")
def released(system):
    return release(system, BATCHES, first_use="2024-07", **SIGNED)


def test_a_release_makes_a_champion_and_a_report(system, released):
    assert system.registry.champion() == released.training.version
    page = released.page.read_text(encoding="utf-8")
    assert "2024-07" in page
    assert "noise_high" in page  # no calibration error without what chance makes of it


def test_a_repeated_release_changes_nothing(system, released):
    again = release(system, BATCHES, first_use="2024-07", **SIGNED)
    assert again.training.version == released.training.version
    assert "calibrated_model" in again.training.cached
    assert len(system.registry.history()) == 1
    pd.testing.assert_frame_equal(again.scored, released.scored)


def test_every_row_of_the_batch_is_scored_once(released):
    expected = small_case.build(small_case.read(["2024-07"]))
    assert sorted(released.scored["id"]) == sorted(expected["id"])


def test_the_champion_in_use_answers_as_the_model_that_was_registered(system, released):
    model = system.registry.load("champion")
    rows = released.scored.sample(50, random_state=1)
    alone = [model.model.predict_proba(rows.loc[[i], list(model.contract.inputs)])[0, 1] for i in rows.index]
    np.testing.assert_allclose(alone, rows["probability"], rtol=0, atol=LAST_DIGITS)
    assert (rows["decision"] == (rows["probability"] >= model.contract.threshold)).all()


def test_metrics_are_those_of_the_rows_that_have_a_label(system, released):
    from sklearn.metrics import roc_auc_score

    labelled = released.scored[released.scored["failed"].notna()]
    assert len(labelled) < len(released.scored)
    measured = released.evidence["metrics"].loc["roc_auc", "value"]
    assert measured == pytest.approx(roc_auc_score(labelled["failed"], labelled["probability"]))


def test_a_refused_candidate_is_not_promoted(system, released, monkeypatch, tmp_path):
    text = small_case.SPECIFICATION.read_text(encoding="utf-8").replace("min_roc_auc: 0.7", "min_roc_auc: 0.99")
    (tmp_path / "specification.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(small_case, "SPECIFICATION", tmp_path / "specification.yaml")
    with pytest.raises(GateRefusedError, match="min_roc_auc"):
        release(System("small_case", system.workspace), BATCHES, first_use="2024-07", **SIGNED)
    assert system.registry.champion() == released.training.version


def test_a_batch_reads_the_one_before_it_for_what_was_known(system):
    assert system.batch_before("2024-03") == ["2024-02"]
    assert system.batch_before("2024-01") == []
    with pytest.raises(ValueError, match="expected a batch out of"):
        system.batch_before("2031-01")


# To a file


@pytest.mark.usefixtures("released")
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_a_batch_and_a_file_of_its_inputs_get_the_scores_of_the_frame(system, released, tmp_path, target):
    columns = ["id", "probability", "decision", "model_version"]
    inputs = list(system.registry.load("champion").contract.inputs)
    released.scored[["id", *inputs]].to_csv(tmp_path / "inputs.csv", index=False)
    read = pd.read_csv if target.endswith(".csv") else pd.read_parquet
    for source in ("2024-07", f"{tmp_path / 'inputs.csv'}"):
        done = scoring.score_to_file(system, source, target=tmp_path / target)
        assert (done.rows, done.quarantined, done.parts) == (len(released.scored), 0, 1)
        frame = read(tmp_path / target)
        pd.testing.assert_frame_equal(frame, released.scored[columns], check_exact=True, check_dtype=False)


@pytest.mark.usefixtures("released")
def test_a_batch_that_was_scored_to_a_file_is_not_scored_again(system, tmp_path):
    target, told = tmp_path / "out.csv", []

    def times():
        return {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())}

    first = scoring.score_to_file(system, "2024-07", target=target, progress=lambda *done: told.append(done))
    before = times()
    again = scoring.score_to_file(system, "2024-07", target=target, progress=lambda *_: pytest.fail("scored again"))
    assert (again.rows, again.parts, first.parts) == (first.rows, 0, 1)
    assert told == [(first.rows, first.rows)]
    assert times() == before
    assert scoring.score_to_file(system, "2024-08", target=target).parts == 1


@pytest.mark.usefixtures("released")
def test_a_source_that_is_neither_batch_nor_file_is_refused(system, tmp_path):
    with pytest.raises(ValueError, match="expected a file or a batch out of"):
        scoring.score_to_file(system, f"{tmp_path}", target=tmp_path / "out.csv")


# As a stream

STREAMED = ["2024-07", "2024-08"]
MOST = 20  # events that are put on record together
MOMENTS = ["before the append", "before the rows", "before the position", "before the commit", "after the append"]


@pytest.fixture(scope="module")
def scored(system, released):
    """All rows of the streamed batches with their scores, in order of time."""
    scored = pd.concat([scoring.score(system, name) for name in STREAMED])
    return scored.sort_values("prediction_time", kind="stable", ignore_index=True)


@pytest.fixture(scope="module")
def streamed(system, released):
    """A log that a consumer has filled, and the number of events."""
    with closing(PredictionLog("sqlite://")) as log:
        yield log, scoring.stream(system, STREAMED, log=log, consumer="desk")


def test_every_row_is_in_the_log_once_in_order_of_time_with_the_probability_of_its_batch(streamed, scored):
    columns = ["id", "decision", "model_version"]
    found = streamed[0].predictions()
    pd.testing.assert_frame_equal(found[columns], scored[columns], check_exact=True, check_dtype=False)
    np.testing.assert_allclose(found["probability"], scored["probability"], rtol=0, atol=LAST_DIGITS)
    assert found["time"].tolist() == scored["prediction_time"].tolist()
    assert (found["assigned_version"] == found["model_version"]).all()


def test_every_label_is_in_the_log_once_with_the_time_at_which_it_was_known(streamed, scored):
    known = scored[scored["failed"].notna()].set_index("id").sort_index()
    labels = streamed[0].labelled().set_index("id").sort_index()
    assert 0 < len(known) < len(scored)
    assert labels["label"].to_dict() == known["failed"].astype(int).to_dict()
    assert labels["label_time"].to_dict() == known["label_time"].to_dict()
    assert streamed[0].labelled()["label_time"].is_monotonic_increasing


def test_the_inputs_in_the_log_get_the_same_answer_again(system, streamed):
    log, _ = streamed
    model, found = system.registry.load("champion"), log.predictions().head(50)
    again = pd.DataFrame([json.loads(text) for text in found["inputs"]]).assign(id=found["id"])
    answers = batch.predict(
        model.model, batch.conform(again, model.contract.inputs), threshold=model.contract.threshold
    )
    np.testing.assert_allclose(answers["probability"], found["probability"], rtol=0, atol=LAST_DIGITS)


def test_the_same_consumer_does_nothing_more_and_another_one_doubles_nothing(system, streamed, scored, monkeypatch):
    log, count = streamed
    assert count == len(scored) + scored["failed"].notna().sum() == log.position("desk")
    before = everything(log)
    with monkeypatch.context() as patch:
        patch.setattr(log, "append", pytest.fail)
        assert scoring.stream(system, STREAMED, log=log, consumer="desk") == count
    assert scoring.stream(system, STREAMED, log=log, consumer="other") == count
    pd.testing.assert_frame_equal(everything(log), before)


def everything(log):
    """Each prediction with its label, in the order in which they came."""
    return log.predictions().merge(log.labelled()[["id", "label", "label_time", "label_number"]], on="id", how="left")


def stream_until_killed(system, url, reached, moment):
    """Stream, and be killed at a moment while the events up to a position are put on record."""
    log, now = PredictionLog(url), [None]
    append = log.append

    def come(to):
        if now[0] == reached and to == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def executing(_, __, statement, *rest):
        if statement.startswith(("INSERT INTO predictions", "INSERT INTO labels")):
            come("before the rows")
        elif "positions" in statement:
            come("before the position")

    def appending(*rows, position, **more):
        now[0] = position[1]
        come("before the append")
        append(*rows, position=position, **more)
        come("after the append")

    log.append = appending
    sa.event.listen(log._database.engine, "before_cursor_execute", executing)
    sa.event.listen(log._database.engine, "commit", lambda _: come("before the commit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "consume", partial(streaming.consume, most=MOST))
        scoring.stream(system, STREAMED, log=log, consumer="desk")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a warmed-up process")
@pytest.mark.parametrize("kills", [5, pytest.param(30, marks=pytest.mark.long)])
def test_a_stream_that_is_killed_again_and_again_leaves_the_log_of_one_that_is_not(system, streamed, tmp_path, kills):
    """The stream is started again after each kill, and killed around another append each time."""
    whole, count = streamed
    url, found, expected = f"sqlite:///{(tmp_path / 'log.db').as_posix()}", [], []
    points = [MOST * int(number) for number in np.linspace(1, count // MOST - 1, kills)]
    assert len(set(points)) == kills
    for reached, moment in zip(points, MOMENTS * (kills // len(MOMENTS)), strict=True):
        life = partial(stream_until_killed, system, url, reached, moment)
        assert in_a_child(life) == -signal.SIGKILL, (reached, moment)
        with closing(PredictionLog(url)) as log:
            found.append(log.position("desk"))
        expected.append(reached if moment == "after the append" else reached - MOST)
    assert found == expected
    with closing(PredictionLog(url)) as log:
        assert scoring.stream(system, STREAMED, log=log, consumer="desk") == count
        pd.testing.assert_frame_equal(everything(log), everything(whole))
