"""When to train again and on what: each policy does what its name says, and nothing corrupted is trained on."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_course.operations import retraining
from mlops_course.operations.retraining import POLICIES, WINDOWS, CorruptedError, Exclusion, State

LIMITS = {"min_new_rows": 1000, "max_log_loss_rise": 0.02, "max_age_days": 92, "cooldown_days": 28, "psi_alert": 0.25}
READY = State(
    age_days=60, cooldown_days=60, new_rows=5000, new_batches=2, drift=0.1, estimated_rise=0.0, realised_rise=0.0
)
WORSE = replace(READY, drift=0.5, estimated_rise=0.05, realised_rise=0.05, age_days=100)

maybe = st.none() | st.floats(-1, 1)
states = st.builds(
    State,
    age_days=st.integers(0, 400),
    cooldown_days=st.integers(0, 400),
    new_rows=st.integers(0, 10_000),
    new_batches=st.integers(0, 12),
    drift=maybe,
    estimated_rise=maybe,
    realised_rise=maybe,
    faults=st.lists(st.sampled_from(["unit error", "concept flip"])).map(tuple),
    on_trial=st.booleans(),
)
every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
@given(state=states)
def test_a_policy_gives_a_reason_and_the_same_state_the_same_decision(policy, state):
    decision = POLICIES[policy](state, LIMITS)
    assert decision.reason
    assert decision == POLICIES[policy](replace(state), LIMITS)


@every_policy
@given(state=states)
def test_nothing_is_trained_during_a_trial_soon_after_another_training_or_on_nothing_new(policy, state):
    if POLICIES[policy](state, LIMITS).retrain:
        assert not state.on_trial
        assert state.cooldown_days >= LIMITS["cooldown_days"]
        assert state.new_batches > 0
        assert state.new_rows >= LIMITS["min_new_rows"]


@given(state=states)
def test_the_combined_policy_never_trains_while_a_feed_is_broken(state):
    decision = POLICIES["combined"](state, LIMITS)
    assert not (decision.retrain and state.faults)


@given(state=states)
def test_the_policy_never_does_not_train(state):
    assert not POLICIES["never"](state, LIMITS).retrain


@pytest.mark.parametrize(
    ("policy", "quiet", "wish"),
    [
        ("monthly", replace(WORSE, new_batches=0), READY),
        ("on drift", replace(WORSE, drift=0.2), replace(READY, drift=0.3)),
        ("on drift", replace(WORSE, drift=None), replace(READY, drift=0.3)),
        ("on estimated loss", replace(WORSE, estimated_rise=0.02), replace(READY, estimated_rise=0.021)),
        ("on estimated loss", replace(WORSE, estimated_rise=None), replace(READY, estimated_rise=0.021)),
        ("on realised loss", replace(WORSE, realised_rise=0.02), replace(READY, realised_rise=0.021)),
        ("on realised loss", replace(WORSE, realised_rise=None), replace(READY, realised_rise=0.021)),
        ("combined", replace(READY, drift=0.9), replace(READY, realised_rise=0.021)),
        ("combined", replace(READY, age_days=91), replace(READY, age_days=92)),
        ("combined", READY, replace(READY, estimated_rise=0.021)),
    ],
)
def test_a_policy_looks_at_the_quantity_in_its_name(policy, quiet, wish):
    assert not POLICIES[policy](quiet, LIMITS).retrain
    assert POLICIES[policy](wish, LIMITS).retrain


def test_the_reason_for_waiting_says_what_was_wished_for():
    decision = POLICIES["monthly"](replace(READY, cooldown_days=3), LIMITS)
    assert decision.reason == "3 days since the last training (2 complete batches since the last training)"


# What to train on

MONTHS = [f"2013-{month:02d}" for month in range(1, 12)]


@pytest.mark.parametrize(
    ("window", "batches"),
    [
        ("all past", MONTHS),
        ("last 1", ["2013-11"]),
        ("last 3", ["2013-09", "2013-10", "2013-11"]),
        ("seasonal", ["2013-01", "2013-02", "2013-10", "2013-11"]),
    ],
)
def test_a_window_takes_the_batches_of_its_name(window, batches):
    assert WINDOWS[window](MONTHS) == batches


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_of_one_batch_is_that_batch(window):
    assert WINDOWS[window](["2013-01"]) == ["2013-01"]


def test_with_a_second_year_the_season_of_the_year_before_comes_first():
    assert WINDOWS["seasonal"]([f"2012-{m:02d}" for m in range(1, 13)]) == ["2012-01", "2012-02", "2012-11", "2012-12"]


# What never to train on


def alert(kind, subject="heat", until="2024-01-20"):
    return {"kind": kind, "subject": subject, "since": "2024-01-10", "until": until}


@pytest.mark.parametrize(
    ("kind", "action", "columns"),
    [
        ("unit error", "mask", ("heat",)),
        ("silent null", "mask", ("heat",)),
        ("stuck sensor", "mask", ("heat",)),
        ("clock skew", "drop", ()),
        ("concept flip", "drop", ()),
        ("duplicated batch", "deduplicate", ()),
    ],
)
def test_a_broken_feed_is_repaired_where_it_can_be_and_left_out_where_not(kind, action, columns):
    (found,) = retraining.exclusions([alert(kind)], until="2024-02-01")
    assert (found.action, found.columns, found.reason) == (action, columns, kind)
    assert (found.start, found.end) == ("2024-01-10", "2024-01-20")


@pytest.mark.parametrize("kind", ["season", "covariate shift", "label outage", "unknown"])
def test_what_a_model_has_to_learn_is_not_excluded(kind):
    assert retraining.exclusions([alert(kind)], until="2024-02-01") == []


@pytest.mark.parametrize("now", ["2024-02-01", "2024-02-01T00:00:00+00:00"])
def test_an_alert_that_is_open_excludes_up_to_now(now):
    (found,) = retraining.exclusions([alert("unit error", until=None)], until=now)
    assert found.end == now


def rows():
    asked = pd.date_range("2024-01-01", "2024-01-30", freq="6h", tz="UTC")
    frame = pd.DataFrame({"asked": asked, "heat": np.arange(len(asked), dtype=float), "place": "a"})
    return frame.assign(id=[f"row-{number}" for number in range(len(frame))])


def excluded(action, columns=(), start="2024-01-10", end="2024-01-20"):
    return Exclusion(action, start, end, columns)


def within(frame):
    return (frame["asked"] >= pd.Timestamp("2024-01-10", tz="UTC")) & (
        frame["asked"] < pd.Timestamp("2024-01-20", tz="UTC")
    )


def test_masked_columns_are_missing_within_and_everything_else_is_as_it_was():
    frame = rows()
    found = retraining.apply(frame, [excluded("mask", ["heat"])], time="asked")
    assert (found["heat"].isna() == within(frame)).all()
    pd.testing.assert_frame_equal(found.drop(columns="heat"), frame.drop(columns="heat"))
    assert frame.equals(rows())


def test_dropped_rows_are_those_within():
    found = retraining.apply(rows(), [excluded("drop")], time="asked")
    pd.testing.assert_frame_equal(found, rows()[~within(rows())].reset_index(drop=True))


def test_deduplicated_rows_are_kept_once_within_and_as_often_as_they_came_outside():
    twice = pd.concat([rows(), rows().assign(id=rows()["id"] + "-again")], ignore_index=True)
    found = retraining.apply(twice, [excluded("deduplicate")], time="asked")
    assert len(found) == len(twice) - within(rows()).sum()
    assert set(rows()["id"]) <= set(found["id"])


def test_exclusions_survive_json():
    one = excluded("mask", ["heat"])
    again = json.loads(json.dumps(one.as_dict()))
    assert Exclusion(**again) == one
    pd.testing.assert_frame_equal(
        retraining.apply(rows(), [again], time="asked"), retraining.apply(rows(), [one], time="asked")
    )


def test_nothing_is_trained_on_what_is_left_of_a_window_that_is_mostly_corrupted():
    with pytest.raises(CorruptedError, match="at least half of 117 rows"):
        retraining.apply(rows(), [excluded("drop", start="2024-01-02", end="2024-01-25")], time="asked")


def test_only_numbers_can_be_masked():
    with pytest.raises(ValueError, match="expected numbers to mask, got"):
        retraining.apply(rows(), [excluded("mask", ["place"])], time="asked")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("hide", "2024-01-10", "2024-01-20"), "action: expected one of"),
        (("mask", "2024-01-10", "2024-01-20"), "columns: expected some"),
        (("drop", "2024-01-10", "2024-01-20", ("heat",)), "columns: expected none"),
        (("drop", "2024-01-10", "2024-01-10"), "end: expected a moment after"),
    ],
)
def test_an_exclusion_that_cannot_be_is_refused_by_its_field(fields, said):
    with pytest.raises(ValueError, match=said):
        Exclusion(*fields)
