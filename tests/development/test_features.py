"""Point-in-time features hold their laws: nothing from the future, one row as in a batch, no matter the order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.development import features

START = pd.Timestamp("2013-03-10", tz="UTC")
WINDOW = pd.Timedelta("90min")


@st.composite
def asked_and_happened(draw):
    """A few rows that ask and events that happen, on a coarse clock so that ties are common."""
    minutes = st.integers(0, 60).map(lambda n: START + n * pd.Timedelta("10min"))
    group = st.sampled_from("ab")
    value = st.floats(-1e6, 1e6) | st.none()
    rows = pd.DataFrame(draw(st.lists(st.tuples(minutes, group), min_size=1, max_size=8)), columns=["at", "group"])
    events = pd.DataFrame(
        draw(st.lists(st.tuples(minutes, group, value, st.integers(0, 30)), min_size=1, max_size=15)),
        columns=["known", "group", "value", "length"],
    )
    events["value"] = events["value"].astype(float)
    events["until"] = events["known"] + events["length"] * pd.Timedelta("10min")
    return rows, events


def recent(rows, events, by="group"):
    return features.recent(rows, events, at="at", available="known", window=WINDOW, by=by, value="value")


def in_progress(rows, events):
    return features.in_progress(rows, events, at="at", start="known", end="until", by="group")


def as_of(rows, events):
    known = events.drop_duplicates(["known", "group"])
    return features.as_of(rows, known, at="at", available="known", by="group", columns=["value"])


@given(asked_and_happened())
@settings(max_examples=30, deadline=None)
def test_recent_is_what_a_plain_filter_finds(case):
    rows, events = case
    found = recent(rows, events)
    for i, row in rows.iterrows():
        within = events["known"].between(row["at"] - WINDOW, row["at"], inclusive="right")
        values = events.loc[within & events["group"].eq(row["group"]), "value"].dropna()
        assert found.loc[i, "count"] == len(values)
        assert found.loc[i, "mean"] == pytest.approx(values.mean(), abs=1e-6, nan_ok=True)


@given(asked_and_happened())
@settings(max_examples=30, deadline=None)
def test_in_progress_is_what_a_plain_filter_finds(case):
    rows, events = case
    expected = [
        (events["known"].le(row["at"]) & events["until"].gt(row["at"]) & events["group"].eq(row["group"])).sum()
        for _, row in rows.iterrows()
    ]
    assert in_progress(rows, events).tolist() == expected


@pytest.mark.parametrize("feature", [recent, in_progress, as_of])
@given(case=asked_and_happened(), shift=st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_no_record_after_the_question_changes_the_answer(feature, case, shift):
    rows, events = case
    last = rows["at"].max()
    past = events[events["known"] <= last]
    altered = events.assign(value=events["value"].where(events["known"] <= last, -shift * 1e5))
    expected = feature(rows, events)
    pd.testing.assert_frame_equal(pd.DataFrame(feature(rows, altered)), pd.DataFrame(expected))
    pd.testing.assert_frame_equal(pd.DataFrame(feature(rows, past)), pd.DataFrame(expected))


@given(asked_and_happened())
@settings(max_examples=25, deadline=None)
def test_what_is_in_progress_counts_before_its_end_is_known(case):
    rows, events = case
    now = rows["at"].max()
    then = events.assign(until=events["until"].where(events["until"] <= now))
    latest = rows[rows["at"] == now]
    assert in_progress(latest, then).tolist() == in_progress(latest, events).tolist()


@pytest.mark.parametrize("feature", [recent, in_progress, as_of])
@given(case=asked_and_happened())
@settings(max_examples=25, deadline=None)
def test_one_row_gets_the_same_answer_alone_as_in_a_batch(feature, case):
    rows, events = case
    together = pd.DataFrame(feature(rows, events))
    alone = pd.concat([pd.DataFrame(feature(rows.iloc[[i]], events)) for i in range(len(rows))])
    pd.testing.assert_frame_equal(alone, together)


@pytest.mark.parametrize("feature", [recent, in_progress, as_of])
@given(case=asked_and_happened(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_records_does_not_matter(feature, case, seed):
    rows, events = case
    events = events.drop_duplicates(["known", "group"])
    shuffled = events.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(pd.DataFrame(feature(rows, shuffled)), pd.DataFrame(feature(rows, events)))


def test_an_observation_is_known_from_its_own_instant_on():
    rows = pd.DataFrame({"at": [START, START + pd.Timedelta("1us")]}, index=[7, 3])
    events = pd.DataFrame({"known": [START + pd.Timedelta("1us")], "value": [4.0]})
    found = features.as_of(rows, events, at="at", available="known", columns=["value"])
    assert found["value"].tolist() == [pytest.approx(np.nan, nan_ok=True), 4.0]
    assert found.index.tolist() == [7, 3]


def test_an_observation_that_is_too_old_is_missing_and_has_no_age():
    rows = pd.DataFrame({"at": [START + pd.Timedelta("5h"), START + pd.Timedelta("7h")]})
    events = pd.DataFrame({"known": [START], "value": [4.0]})
    found = features.as_of(rows, events, at="at", available="known", columns=["value"], max_age=pd.Timedelta("6h"))
    assert found["age"].tolist() == [300.0, pytest.approx(np.nan, nan_ok=True)]
    assert found["value"].isna().tolist() == [False, True]


def test_two_observations_at_one_instant_are_refused():
    events = pd.DataFrame({"known": [START, START], "value": [1.0, 2.0]})
    with pytest.raises(ValueError, match="drop all but one"):
        features.as_of(events.rename(columns={"known": "at"}), events, at="at", available="known", columns=["value"])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2013-01-01"], "convert with pd.to_datetime"),
        (pd.to_datetime([None], utc=True), "expected a time in every row"),
    ],
)
def test_a_row_without_a_usable_time_is_refused(times, message):
    events = pd.DataFrame({"known": [START], "value": [1.0]})
    with pytest.raises(ValueError, match=message):
        recent(pd.DataFrame({"at": times}), events, by=None)


@given(asked_and_happened(), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_nothing_in_the_past_was_labelled_after_the_cut_and_nothing_is_on_both_sides(case, at):
    _, frame = case
    cut = START + at * pd.Timedelta("10min")
    past, future = features.split_by_time(frame, cut, prediction_time="known", label_time="until")
    assert (past["until"] <= cut).all()
    assert (future["known"] >= cut).all()
    assert past.index.intersection(future.index).empty
    purged = frame.drop(past.index.union(future.index))
    assert ((purged["known"] < cut) & (purged["until"] > cut)).all()


def test_a_cut_without_a_time_zone_is_refused():
    frame = pd.DataFrame({"known": [START], "until": [START]})
    with pytest.raises(ValueError, match="time zone"):
        features.split_by_time(frame, pd.Timestamp("2013-03-10"), prediction_time="known", label_time="until")


@features.on_arrays
def doubled(inputs):
    """Twice the wind, and the maker as it came."""
    return {"wind": inputs["wind"] * 2, "maker": inputs["maker"]}


def test_feature_code_on_arrays_gives_a_frame_what_it_gives_arrays():
    frame = pd.DataFrame({"wind": [1.0, np.nan], "maker": pd.Series([None, "Ajax"], dtype="str")}, index=[7, 3])
    derived = doubled(frame)
    arrays = doubled.arrays({name: frame[name].to_numpy() for name in frame})
    assert derived.index.tolist() == [7, 3]
    np.testing.assert_array_equal(derived["wind"], arrays["wind"])
    assert derived["maker"].dtype == frame["maker"].dtype, "what is passed on keeps its dtype, missing values or not"


def test_feature_code_on_arrays_keeps_the_name_under_which_a_model_finds_it():
    assert (doubled.__module__, doubled.__qualname__, doubled.__doc__[:5]) == (__name__, "doubled", "Twice")
