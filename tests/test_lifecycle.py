"""From batches to a champion in use: what is promoted, what is scored, and that nothing happens by accident."""

import numpy as np
import pandas as pd
import pytest
import small_case

from mlops_course import lifecycle
from mlops_course.lifecycle import System
from mlops_course.workspace import Workspace

BATCHES = small_case.batches()[:6]
SIGNED = {"approver": "Ada", "reason": "first release"}


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return System("small_case", Workspace(tmp_path_factory.mktemp("lifecycle")))


@pytest.fixture(scope="module")
def released(system):
    return lifecycle.release(system, BATCHES, first_use="2024-07", **SIGNED)


def test_a_release_makes_a_champion_and_a_report(system, released):
    assert released.promoted
    assert system.registry.champion() == released.training.version
    assert "2024-07" in released.page.read_text(encoding="utf-8")


def test_a_repeated_release_changes_nothing(system, released):
    again = lifecycle.release(system, BATCHES, first_use="2024-07", **SIGNED)
    assert (again.promoted, again.training.version) == (False, released.training.version)
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
    np.testing.assert_allclose(alone, rows["probability"], rtol=0, atol=1e-12)
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
    with pytest.raises(lifecycle.GateRefusedError, match="min_roc_auc"):
        lifecycle.release(System("small_case", system.workspace), BATCHES, first_use="2024-07", **SIGNED)
    assert system.registry.champion() == released.training.version


def test_a_batch_reads_the_one_before_it_for_what_was_known(system):
    assert system.batch_before("2024-03") == ["2024-02"]
    assert system.batch_before("2024-01") == []
    with pytest.raises(ValueError, match="expected a batch out of"):
        system.batch_before("2031-01")
