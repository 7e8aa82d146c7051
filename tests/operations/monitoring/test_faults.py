"""Faults: what they touch, what they leave alone, and that a frame in pieces comes out like the whole."""

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.operations.monitoring import faults
from mlops_course.operations.monitoring.faults import KINDS, Fault

NAMES = {"time": "asked", "label": "late", "label_time": "known"}
START, END = pd.Timestamp("2024-01-11", tz="UTC"), pd.Timestamp("2024-01-21", tz="UTC")
SPECIMENS = {
    "unit error": {"column": "heat", "size": 1.8, "offset": 32.0},
    "silent null": {"column": "heat", "size": 0.5},
    "stuck sensor": {"column": "heat", "size": 7.0},
    "covariate shift": {"column": "heat", "size": 0.8, "offset": 20.0},
    "concept flip": {"size": 0.5},
    "label outage": {"size": 1.0},
    "duplicated batch": {"size": 1.0},
    "clock skew": {"column": "clock", "size": 5.0},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def fault(kind, /, **changes):
    return Fault(**{"kind": kind, "start": START.isoformat(), "end": END.isoformat(), **SPECIMENS[kind], **changes})


def rows(count=900, seed=0):
    """A month of made-up rows, some without a label."""
    rng = np.random.default_rng(seed)
    asked = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(
        np.sort(rng.integers(0, 30 * 1440, count)), unit="min"
    )
    late = np.where(rng.random(count) < 0.05, np.nan, (rng.random(count) < 0.3).astype(float))
    return pd.DataFrame(
        {
            "id": [f"row-{number}" for number in range(count)],
            "asked": asked,
            "known": pd.Series(asked + pd.Timedelta("5h")).where(~np.isnan(late)),
            "late": late,
            "heat": np.where(rng.random(count) < 0.1, np.nan, rng.normal(20, 5, count)),
            "clock": asked.tz_localize(None),
            "place": rng.choice(["a", "b"], count),
        }
    )


def inject(frame, *found, seed=0):
    return faults.inject(frame, found, seed=seed, **NAMES)


def within(frame):
    return (frame["asked"] >= START) & (frame["asked"] < END)


@kinds
def test_rows_outside_of_a_fault_are_as_they_were(kind):
    before, after = rows(), inject(rows(), fault(kind))
    kept = before[~within(before)].reset_index(drop=True)
    pd.testing.assert_frame_equal(after[~within(after)].reset_index(drop=True), kept, check_exact=True)


@kinds
def test_a_fault_changes_something_within_and_never_its_argument(kind):
    frame, untouched = rows(), rows()
    after = inject(frame, fault(kind))
    assert not after[within(after)].reset_index(drop=True).equals(frame[within(frame)].reset_index(drop=True))
    pd.testing.assert_frame_equal(frame, untouched)


@kinds
@settings(max_examples=25)  # of each kind
@given(cuts=st.lists(st.integers(0, 300), max_size=4))
def test_a_frame_in_pieces_comes_out_like_the_whole(kind, cuts):
    frame = rows(300)
    edges = [0, *sorted(cuts), len(frame)]
    parts = [inject(frame.iloc[low:high], fault(kind)) for low, high in pairwise(edges)]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), inject(frame, fault(kind)))


@kinds
def test_a_fault_touches_only_what_its_kind_is_about(kind):
    touched = {"concept flip": {"late"}, "label outage": {"late", "known"}}.get(kind, {SPECIMENS[kind].get("column")})
    before, after = rows().set_index("id"), inject(rows(), fault(kind)).set_index("id")
    both = before.index.intersection(after.index)
    for column in set(before) - touched:
        pd.testing.assert_series_equal(after.loc[both, column], before.loc[both, column])


def test_a_unit_error_is_the_conversion_that_it_says():
    after, before = inject(rows(), fault("unit error")), rows()
    np.testing.assert_allclose(after["heat"][within(after)], before["heat"][within(before)] * 1.8 + 32)


def test_a_stuck_sensor_shows_one_value():
    after = inject(rows(), fault("stuck sensor"))
    assert set(after.loc[within(after), "heat"]) == {7.0}


@pytest.mark.parametrize(("kind", "share"), [("silent null", 0.5), ("concept flip", 0.25)])
def test_about_the_stated_share_of_rows_is_touched(kind, share):
    before, after = rows(20_000), inject(rows(20_000), fault(kind, size=share))
    could = before[within(before)].dropna(subset=["heat", "late"]).index
    changed = after.loc[could, ["heat", "late"]].compare(before.loc[could, ["heat", "late"]])
    assert len(changed) / len(could) == pytest.approx(share, abs=0.02)


def test_a_covariate_shift_leaves_out_rows_of_small_values_and_changes_none():
    before, after = rows(20_000), inject(rows(20_000), fault("covariate shift"))
    gone = before[~before["id"].isin(after["id"])]
    assert (gone["heat"] < 20).all()
    small = before[within(before) & (before["heat"] < 20)]
    assert len(gone) / len(small) == pytest.approx(0.8, abs=0.02)
    kept = before[before["id"].isin(after["id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(after, kept)


def test_a_flipped_label_stays_a_label():
    after, before = inject(rows(), fault("concept flip", size=1.0)), rows()
    assert (after["late"][within(after)].dropna() == 1 - before["late"][within(before)].dropna()).all()
    assert (after["late"].isna() == before["late"].isna()).all()


def test_no_label_comes_in_an_outage():
    after = inject(rows(), fault("label outage"))
    assert after.loc[within(after), ["late", "known"]].isna().all(axis=None)


def test_duplicated_rows_come_right_after_the_first_and_under_an_id_of_their_own():
    after = inject(rows(), fault("duplicated batch"))
    assert after["id"].is_unique
    assert after["asked"].is_monotonic_increasing
    inside = after[within(after)]
    assert (inside.iloc[1::2]["id"].to_numpy() == inside.iloc[::2]["id"].to_numpy() + "-again").all()


def test_another_seed_takes_other_rows_and_the_same_seed_the_same():
    one, same, other = (inject(rows(), fault("concept flip"), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


def test_faults_follow_each_other_in_the_order_given():
    twice = inject(rows(), fault("stuck sensor", size=10.0), fault("unit error"))
    assert set(twice.loc[within(twice), "heat"]) == {50.0}


@kinds
def test_a_fault_survives_json(kind):
    assert Fault(**json.loads(json.dumps(asdict(fault(kind))))) == fault(kind)
    pd.testing.assert_frame_equal(inject(rows(), asdict(fault(kind))), inject(rows(), fault(kind)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "gremlin"}, "kind: expected one of"),
        ({"end": START.isoformat()}, "end: expected a moment after"),
        ({"column": ""}, "expected the name of a column for 'silent null'"),
        ({"size": 1.5}, "size: expected a share"),
        ({"size": 0.0}, "size: expected a share"),
        ({"offset": np.nan}, "expected finite numbers"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_its_field(changes, said):
    with pytest.raises(ValueError, match=said):
        fault("silent null", **changes)


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("unit error", "cold", "expected one of .* as the column"),
        ("unit error", "place", "expected numbers"),
        ("clock skew", "heat", "expected a column of times"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(kind, column, said):
    with pytest.raises(ValueError, match=said):
        inject(rows(), fault(kind, column=column))


def test_a_fault_of_no_column_takes_none():
    with pytest.raises(ValueError, match="expected no column"):
        fault("label outage", column="heat")


# Schedules


OPTIONS = [{"kind": kind, **SPECIMENS[kind]} for kind in KINDS]
YEAR = {"start": pd.Timestamp("2024-01-01", tz="UTC"), "end": pd.Timestamp("2024-12-31", tz="UTC")}


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_faults_of_a_schedule_lie_apart_within_the_time_and_each_kind_has_its_turn(seed):
    drawn = faults.schedule(OPTIONS, seed=seed, **YEAR)
    edges = [YEAR["start"], *(pd.Timestamp(edge) for one in drawn for edge in (one.start, one.end))]
    assert edges == sorted(edges)
    assert edges[-1] <= YEAR["end"]
    quiet = [later - earlier for earlier, later in zip(edges[:-1:2], edges[1::2], strict=True)]
    assert all(pd.Timedelta("21D") <= gap <= pd.Timedelta("28D") for gap in quiet)
    assert {one.kind for one in drawn[: len(KINDS)]} == set(KINDS)


def test_the_same_seed_gives_the_same_schedule_and_another_one_another():
    drawn = [faults.schedule(OPTIONS, seed=seed, **YEAR) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_schedule_without_options_is_refused():
    with pytest.raises(ValueError, match="at least one option"):
        faults.schedule([], seed=0, **YEAR)
