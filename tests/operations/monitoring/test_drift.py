"""Drift holds its laws: no row is lost, summaries add up, and every measure is what scipy says it is."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from mlops_course.operations.monitoring import drift as measures
from mlops_course.operations.monitoring.drift import (
    drift,
    drift_by,
    drift_by_slice,
    reference,
    summaries,
    summarise,
    summarise_by,
    windows,
)
from mlops_course.operations.monitoring.drift.domain_classifier import _drawn_aucs

DAY = pd.Timedelta("1D")
COLOURS = ["red", "green", "blue"]
numbers = (
    st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0]) | st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf])
)
colours = st.sampled_from([*COLOURS, "violet", None])


def sample(size=2_000, *, seed=0, shift=0.0):
    """Rows with a fine-grained feature, one of few values, a time, and a category, some missing."""
    rng = np.random.default_rng(seed)
    size_ = rng.normal(shift, 1, size)
    size_[rng.random(size) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "size": size_,
            "steps": rng.poisson(3 + shift, size).astype(float),
            "at": pd.Timestamp("2024-01-01 00:30") + pd.to_timedelta(rng.integers(0, 14 * 24 * 60, size), unit="min"),
            "colour": pd.Series(rng.choice([*COLOURS, None], size, p=[0.5, 0.3, 0.15, 0.05]), dtype=object),
        }
    )


def bins_of(rows):
    return reference(rows, numeric=["size", "steps", "at"], categorical=["colour"])


@pytest.fixture(scope="module")
def bins():
    return bins_of(sample())


@st.composite
def tables(draw, min_size=0):
    rows = draw(st.lists(st.tuples(numbers, numbers, colours), min_size=min_size, max_size=30))
    table = pd.DataFrame(rows, columns=["size", "steps", "colour"]).astype({"size": float, "steps": float})
    return table.assign(colour=table["colour"].astype(object), at=pd.Timestamp("2024-01-01 05:00"))


def one_feature(before, now):
    """Drift of one numeric feature between two arrays."""
    made = reference(pd.DataFrame({"x": before}), numeric=["x"], categorical=[])
    return drift(summarise(pd.DataFrame({"x": now}), made)).loc["x"]


# Windows --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.datetimes(pd.Timestamp("2000-01-01"), pd.Timestamp("2030-01-01")), min_size=1), st.integers(1, 400))
def test_every_row_lies_in_exactly_the_window_that_starts_at_its_value(times, hours):
    times, width = pd.Series(times, dtype="datetime64[us]"), pd.Timedelta(hours=hours)
    starts = windows(times, width=width)
    assert ((starts <= times) & (times < starts + width)).all()
    assert (((starts - pd.Timestamp("1970-01-05")) % width) == pd.Timedelta(0)).all()


def test_the_newest_window_is_there_even_when_it_has_just_begun():
    times = pd.Series(pd.to_datetime(["2024-01-01 12:00", "2024-01-02 23:59", "2024-01-03 00:00"]))
    assert windows(times, width=DAY).iloc[-1] == pd.Timestamp("2024-01-03")
    daily = summarise_by(sample(3), bins_of(sample()), window=windows(times, width=DAY))
    assert [summary.rows for summary in daily.values()] == [1, 1, 1]


def test_the_window_of_a_row_does_not_depend_on_the_other_rows():
    times = sample()["at"]
    assert windows(times, width=DAY)[5:9].equals(windows(times[5:9], width=DAY))


def test_windows_of_a_week_start_on_mondays_in_utc():
    starts = windows(sample()["at"].dt.tz_localize("UTC"), width=7 * DAY)
    assert set(starts.dt.day_of_week) == {0}
    assert str(starts.dt.tz) == "UTC"


@pytest.mark.parametrize(
    ("times", "width", "error", "words"),
    [
        (pd.Series([1, 2]), DAY, TypeError, "to_datetime"),
        (pd.Series([pd.NaT, pd.Timestamp(0)]), DAY, ValueError, "1 rows have no time"),
        (pd.Series([pd.Timestamp(0)]), -DAY, ValueError, "positive"),
    ],
)
def test_windows_say_what_is_wrong_with_times(times, width, error, words):
    with pytest.raises(error, match=words):
        windows(times, width=width)


# Summaries ------------------------------------------------------------------------------------------------------------


@given(tables())
@settings(max_examples=60)
def test_every_row_lies_in_exactly_one_bin_of_each_feature(bins, table):
    counts = summarise(table, bins).counts
    by_feature = np.array([counts[place].sum() for place in bins._places.values()])
    assert (counts >= 0).all()
    assert (by_feature == len(table)).all()


@given(tables(), st.lists(st.integers(0, 4), min_size=30, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_summaries_of_any_partition_in_any_order_add_up_to_the_whole(bins, table, parts, random):
    window = pd.Series(parts[: len(table)], index=table.index, dtype=int)
    summaries = list(summarise_by(table, bins, window=window).values())
    random.shuffle(summaries)
    assert sum(summaries, start=summarise(table[:0], bins)) == summarise(table, bins)


@given(tables(min_size=2), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_rows_does_not_matter(bins, table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    assert summarise(table.iloc[order], bins) == summarise(table, bins)


def test_one_pass_over_windows_gives_the_summary_of_each(bins):
    rows = sample(500, seed=1)
    window = windows(rows["at"], width=DAY)
    together = summarise_by(rows, bins, window=window)
    assert list(together) == sorted(window.unique())
    assert together == {start: summarise(rows[window == start], bins) for start in together}


def test_summaries_made_in_another_process_can_be_added(bins):
    rows = sample(100, seed=1)
    elsewhere = pickle.loads(pickle.dumps(bins))
    assert summarise(rows[:40], elsewhere) + summarise(rows[40:], bins) == summarise(rows, bins)


def test_summaries_over_different_bins_cannot_be_mixed(bins):
    other = bins_of(sample(seed=9))
    with pytest.raises(ValueError, match="same reference"):
        bins.summary + other.summary
    with pytest.raises(ValueError, match="same reference"):
        drift(bins.summary, other.summary)


def test_a_summary_equals_neither_other_rows_nor_another_kind_of_thing(bins):
    assert bins.summary != summarise(sample(seed=1), bins)
    assert bins.summary != summarise(sample()[1:], bins)
    assert bins.summary != 0
    assert not isinstance(bins.summary.__add__(1), measures.Summary)


def test_the_content_of_a_row_is_the_same_however_its_columns_are_stored(bins):
    rows = sample(200, seed=1)
    stored = rows.assign(
        colour=rows["colour"].astype("category"), steps=rows["steps"].astype("Int64"), at=rows["at"].astype("M8[ns]")
    )
    assert summarise(stored, bins) == summarise(rows, bins)


def test_many_small_merges_stay_exact(bins):
    rows = sample(150, seed=1)
    assert sum(summarise(rows[i : i + 1], bins) for i in range(150)) == summarise(rows, bins)


def test_times_of_day_are_hours(bins):
    assert bins.edges["at"].tolist() == list(range(24))


def test_a_window_for_other_rows_is_refused(bins):
    rows = sample(5)
    with pytest.raises(ValueError, match="same index"):
        summarise_by(rows, bins, window=pd.Series(0, index=range(4)))
    with pytest.raises(ValueError, match="1 rows are in no window"):
        summarise_by(rows, bins, window=pd.Series([0, 1, np.nan, 1, 0]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda rows: rows[:0], ValueError, "0 rows"),
        (lambda rows: rows.drop(columns="size"), KeyError, "size"),
        (lambda rows: rows.assign(size="large"), TypeError, "'size'"),
        (lambda rows: pd.DataFrame(rows, index=range(10_001)).assign(colour=range(10_001)), ValueError, "10,001"),
    ],
)
def test_a_reference_says_what_is_wrong_with_its_sample(change, error, words):
    with pytest.raises(error, match=words):
        bins_of(change(sample()))


def test_the_arguments_are_not_changed(bins):
    rows = sample(50, seed=1)
    before = rows.copy(deep=True)
    summarise_by(rows, bins, window=windows(rows["at"], width=DAY))
    pd.testing.assert_frame_equal(rows, before)


# Measures against scipy -----------------------------------------------------------------------------------------------


@given(st.lists(numbers, min_size=1, max_size=60), st.lists(numbers, min_size=1, max_size=60))
def test_ks_of_few_values_is_that_of_scipy_for_any_current_values(before, now):
    there, here = (np.array(side)[~np.isnan(side)] for side in (before, now))
    ours = one_feature(before, now)["ks"]
    if len(there[np.isfinite(there)]) and np.isfinite(there).all() and len(here):
        with np.errstate(all="ignore"):  # scipy divides by zero for the p-value of tiny samples
            expected = stats.ks_2samp(there, here, method="asymp").statistic
        assert ours == pytest.approx(expected)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=60), st.lists(st.integers(-99, 99), min_size=1, max_size=60))
def test_wasserstein_of_whole_numbers_is_that_of_scipy_even_beyond_the_range(before, now):
    known = [*before, *range(min(before), max(before) + 1)]  # so that no value lies between two known ones
    expected = stats.wasserstein_distance(known, now)
    assert one_feature(known, now)["wasserstein"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
def test_ks_of_many_values_is_short_by_at_most_one_bin_of_the_reference(shift):
    before, now = sample(6_000)["size"].dropna(), sample(900, seed=1, shift=shift)["size"].dropna()
    error = stats.ks_2samp(before, now).statistic - one_feature(before, now)["ks"]
    assert -1e-12 <= error <= 1 / summaries.BINS + 1e-3


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
def test_wasserstein_of_many_values_is_wrong_by_less_than_its_bound(shift):
    before, now = sample(6_000)["size"].dropna(), sample(900, seed=1, shift=shift)["size"].dropna()
    made = reference(pd.DataFrame({"x": before}), numeric=["x"], categorical=[])
    own, current = made.summary, summarise(pd.DataFrame({"x": now}), made)
    shares = [(one.counts / one.rows)[3:-2:2] for one in (own, current)]  # of the bins between two edges
    widths = np.diff(made.edges["x"])
    bound = (widths * sum(shares)).sum() / 2
    error = drift(current).loc["x", "wasserstein"] - stats.wasserstein_distance(before, now)
    assert abs(error) <= bound + 1e-6
    assert (widths * shares[0]).sum() / 2 <= np.ptp(before) / summaries.BINS


def test_wasserstein_sees_a_long_tail_that_quantiles_leave_out():
    rng = np.random.default_rng(0)
    before, now = np.exp(2 * rng.normal(size=20_000)), np.exp(2 * rng.normal(size=5_000) + 0.1)
    exact = stats.wasserstein_distance(before, now)
    assert one_feature(before, now)["wasserstein"] == pytest.approx(exact, rel=0.02)


def table_of(before, now):
    """Both samples over the deciles of the reference, missing values in a bin of their own."""
    cuts = np.unique(np.quantile(before.dropna(), np.arange(1, 10) / 10, method="inverted_cdf"))
    codes = [np.where(side.isna(), -1, np.searchsorted(cuts, side)) for side in (before, now)]
    return np.array([[(code == value).sum() for value in range(-1, len(cuts) + 1)] for code in codes])


@pytest.mark.parametrize("shift", [0.0, 0.2])
@pytest.mark.parametrize("feature", ["size", "steps"])
def test_psi_js_and_chi_squared_are_those_of_scipy_over_the_deciles(bins, feature, shift):
    rows = sample(1_000, seed=1, shift=shift)
    before, now = table_of(sample()[feature], rows[feature])
    before, now = (side[(before > 0) | (now > 0)] for side in (before, now))
    line = drift(summarise(rows, bins)).loc[feature]
    p, q = before / before.sum(), now / now.sum()
    assert line["psi"] == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))
    assert line["js"] == pytest.approx(jensenshannon(p, q))
    expected = stats.chi2_contingency([before, now], correction=False)
    found = line[["chi2", "chi2_p", "chi2_df"]].astype(float).tolist()
    assert found == pytest.approx([expected.statistic, expected.pvalue, expected.dof])


def test_categories_unknown_and_missing_ones_count_in_psi_js_and_chi_squared(bins):
    rows = sample(1_000, seed=1)
    rows.loc[:99, "colour"] = "violet"
    counts = [side["colour"].fillna("none").value_counts() for side in (sample(), rows)]
    before, now = pd.concat(counts, axis=1).fillna(0).to_numpy().T
    p, q = np.maximum(before, 0.5) / before.sum(), np.maximum(now, 0.5) / now.sum()
    line = drift(summarise(rows, bins)).loc["colour"]
    assert line["psi"] == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert line["js"] == pytest.approx(jensenshannon(before, now))
    assert line["chi2"] == pytest.approx(stats.chi2_contingency([before, now]).statistic)
    assert line["unknown"] == 0.1


def test_measures_against_another_window_are_those_of_scipy_too(bins):
    before, now = sample(900, seed=1), sample(700, seed=2, shift=1.0)
    line = drift(summarise(now, bins), summarise(before, bins)).loc["steps"]
    assert line["ks"] == pytest.approx(stats.ks_2samp(before["steps"], now["steps"]).statistic)
    assert line["wasserstein_scaled"] == pytest.approx(line["wasserstein"] / before["steps"].std(ddof=0))


# Laws of drift --------------------------------------------------------------------------------------------------------

ZERO = ["psi", "js", "chi2", "ks", "wasserstein", "missing_rise"]


@given(tables(min_size=1))
@settings(max_examples=40)
def test_a_sample_does_not_drift_from_itself(table):
    made = bins_of(table)
    assert (drift(made.summary)[ZERO].fillna(0) == 0).all(axis=None)
    twice = drift(made.summary + made.summary)[["js", "chi2", "ks", "wasserstein"]].fillna(0)
    assert np.allclose(twice, 0, atol=1e-6)


@given(tables(min_size=1))
@settings(max_examples=40)
def test_no_measure_is_infinite_or_negative_and_none_warns(bins, table):
    found = drift(summarise(table, bins))
    assert not np.isinf(found).any(axis=None)
    assert (found[["psi", "js", "chi2", "ks", "wasserstein", "missing"]].fillna(0) >= 0).all(axis=None)
    assert (found["js"] <= np.sqrt(np.log(2)) + 1e-12).all()
    assert (found["ks"].dropna() <= 1).all()


def test_an_empty_bin_counts_as_half_a_row():
    found = one_feature(np.repeat([0.0, 1.0], 50), np.zeros(10))["psi"]
    assert found == pytest.approx((1 - 0.5) * np.log(1 / 0.5) + (0.05 - 0.5) * np.log(0.05 / 0.5))


def test_psi_of_a_stable_feature_is_what_chance_alone_gives():
    rng = np.random.default_rng(0)
    made = reference(pd.DataFrame({"x": rng.normal(size=4_000)}), numeric=["x"], categorical=[])
    rows = pd.DataFrame({"x": rng.normal(size=200_000)})
    found = drift_by(summarise_by(rows, made, window=pd.Series(np.arange(200_000) // 500)))["psi"]
    assert found.mean() == pytest.approx(9 * (1 / 500 + 1 / 4_000), rel=0.1)


def test_bins_of_the_current_window_would_hide_a_drift_that_those_of_the_reference_show():
    before, now = np.arange(1_000.0), np.arange(1_000.0) + 5_000
    edges = np.quantile(now, np.linspace(0, 1, 11))[1:-1]
    hidden = np.bincount(np.searchsorted(edges, now), minlength=10) / 1_000
    assert np.allclose(hidden, 0.1, atol=0.01)  # its own deciles: as flat as the reference in its own
    assert one_feature(before, now)["psi"] > 2


@pytest.mark.parametrize("change", [np.exp, lambda x: 3 * x - 7, lambda x: x**3, np.arctan])
def test_a_monotone_change_of_units_on_both_sides_leaves_psi_unchanged_and_ks_nearly(change):
    before, now = sample()["size"], sample(500, seed=1, shift=0.5)["size"]
    changed, as_it_was = one_feature(change(before), change(now)), one_feature(before, now)
    kept = ["psi", "js", "chi2", "chi2_p", "missing", "out_of_range"]
    assert changed[kept].equals(as_it_was[kept])
    assert changed["ks"] == pytest.approx(as_it_was["ks"], abs=1 / summaries.BINS)


def test_a_change_of_units_on_one_side_shows(bins):
    rows = sample(500, seed=1).assign(steps=lambda table: 32 + 1.8 * table["steps"])
    line = drift(summarise(rows, bins)).loc["steps"]
    assert line["psi"] > 2
    assert line["ks"] == 1
    assert line["out_of_range"] == 1
    assert line["wasserstein"] == pytest.approx(stats.wasserstein_distance(sample()["steps"], rows["steps"]), abs=1e-3)


@given(tables(min_size=1), tables(min_size=1))
@settings(max_examples=40)
def test_psi_js_ks_and_wasserstein_are_the_same_both_ways(bins, one, other):
    there, back = summarise(one, bins), summarise(other, bins)
    names = ["psi", "js", "ks", "wasserstein", "chi2"]
    pd.testing.assert_frame_equal(drift(there, back)[names], drift(back, there)[names])


def test_a_silent_column_shows_as_missing_and_in_psi_and_is_no_value(bins):
    line = drift(summarise(sample(200, seed=1).assign(steps=np.nan), bins)).loc["steps"]
    assert line["missing"] == line["missing_rise"] == 1
    assert line["psi"] > 2
    assert line[["ks", "wasserstein"]].isna().all()


def test_a_feature_that_was_never_there_measures_what_it_can():
    line = one_feature([np.nan, np.nan], [1.0, np.nan])
    assert line["missing"] == line["out_of_range"] == 0.5
    assert line["psi"] > 0
    assert line[["ks", "wasserstein"]].isna().all()


def test_the_drift_of_no_rows_is_unknown(bins):
    assert drift(summarise(sample()[:0], bins)).isna().all(axis=None)


def test_drift_of_many_windows_is_the_drift_of_each(bins):
    rows = sample(3_000, seed=1, shift=0.3)
    hourly = summarise_by(rows, bins, window=windows(rows["at"], width=pd.Timedelta("3h")))
    table = drift_by(hourly)
    assert table.groupby("window")["rows"].first().sum() == 3_000
    last = list(hourly)[-1]
    pd.testing.assert_frame_equal(table.loc[last].drop(columns="rows"), drift(hourly[last]))
    with pytest.raises(ValueError, match="at least one"):
        drift_by({})


def test_a_trailing_reference_forgets_a_slow_change_that_the_training_sample_shows():
    days = pd.date_range("2024-01-01", periods=60, freq="D")
    rows = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60 * 300), "day": days.repeat(300)})
    made = reference(rows[:6_000], numeric=["x"], categorical=[])
    slow = rows.assign(x=rows["x"] + np.arange(len(rows)) / 6_000)
    daily = summarise_by(slow, made, window=slow["day"])
    season = measures.trailing(daily, days[-1], width=pd.Timedelta("7D"))
    assert season.rows == 7 * 300
    assert drift(daily[days[-1]]).loc["x", "psi"] > 10 * drift(daily[days[-1]], season).loc["x", "psi"]
    with pytest.raises(ValueError, match="no window starts"):
        measures.trailing(daily, days[0], width=pd.Timedelta("7D"))


def test_a_change_of_the_mix_is_no_drift_within_slices(bins):
    rows = sample(4_000, seed=1)
    red = rows["colour"].eq("red").fillna(False).astype(bool)
    rows["steps"] += 5.0 * red
    mixed = pd.concat([rows[red][:200], rows[~red]])
    within = drift_by_slice(mixed, bins, against_rows=rows, slices=["colour"]).xs("steps", level="feature")
    assert within["psi"].max() < 0.1 < drift(summarise(mixed, bins), summarise(rows, bins)).loc["steps", "psi"]
    assert within.loc[("colour", "red"), "rows"] == 200
    assert set(within.index.get_level_values("value")) == {*COLOURS, "missing"}


def test_drift_in_one_slice_is_found_there(bins):
    rows = sample(4_000, seed=1)
    now = sample(4_000, seed=2)
    now.loc[now["colour"].eq("blue"), "steps"] += 5.0
    within = drift_by_slice(now, bins, against_rows=rows, slices=["colour"])["psi"].xs("steps", level="feature")
    assert within.idxmax() == ("colour", "blue")
    assert within.drop(("colour", "blue")).max() < 0.1


# Joint shift ----------------------------------------------------------------------------------------------------------


def joined(size, *, seed, together):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=size)
    other = a if together else rng.normal(size=size)
    return pd.DataFrame({"a": a, "b": 0.9 * other + 0.4 * rng.normal(size=size), "c": rng.normal(size=size)})


def classify(one, other, **options):
    return measures.domain_classifier(one, other, features=["a", "b", "c"], seed=0, **options)


def test_the_domain_classifier_sees_a_joint_shift_that_no_single_feature_shows():
    before, now = joined(800, seed=0, together=True), joined(800, seed=1, together=False)
    made = reference(before, numeric=["a", "b", "c"], categorical=[])
    found = classify(before, now)
    assert drift(summarise(now, made))["psi"].max() < 0.05
    assert found.above_chance
    assert found.low > 0.6
    assert set(found.importance.index[:2]) == {"a", "b"}
    assert found.low < found.roc_auc < found.high


def test_the_domain_classifier_finds_nothing_where_there_is_nothing():
    found = classify(joined(900, seed=2, together=True), joined(900, seed=3, together=True), most_rows=500)
    assert found.low < 0.5 < found.high
    assert not found.above_chance


def test_what_rows_of_one_group_share_gives_nothing_away_when_groups_stay_together():
    rng = np.random.default_rng(0)
    hours = pd.DataFrame({"hour": range(60), "a": rng.normal(size=60)})
    rows = hours.loc[hours.index.repeat(15)].assign(b=0.0, c=0.0)
    before, now = rows[rows["hour"] % 2 == 0], rows[rows["hour"] % 2 == 1]
    assert classify(before, now).roc_auc > 0.8
    assert not classify(before, now, group="hour").above_chance


def test_too_few_groups_to_tell_are_refused():
    rows = joined(40, seed=0, together=True).assign(day=np.arange(40) % 4)
    with pytest.raises(ValueError, match="4 groups"):
        classify(rows, rows, group="day")


def test_missing_values_and_categories_are_told_apart_too():
    rows = joined(600, seed=0, together=True).assign(colour=np.where(np.arange(600) % 2, "red", "blue"))
    now = joined(600, seed=1, together=True).assign(colour=np.where(np.arange(600) % 4, "red", None))
    now["colour"] = now["colour"].astype(object)
    found = measures.domain_classifier(rows, now, features=["a", "colour"], seed=0)
    assert found.importance.index[0] == "colour"
    assert found.above_chance


def test_bootstrap_draws_of_the_auc_lie_around_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    side = np.repeat([0, 1], [300, 200])
    probability = np.round(rng.normal(side, 1.5), 1)  # with ties
    draws = _drawn_aucs(side, probability, np.arange(500), rng)
    exact = roc_auc_score(side, probability)
    p, q = exact / (2 - exact), 2 * exact**2 / (1 + exact)  # Hanley and McNeil 1982
    error = np.sqrt((exact * (1 - exact) + 199 * (p - exact**2) + 299 * (q - exact**2)) / (300 * 200))
    assert draws.mean() == pytest.approx(exact, abs=error / 4)
    assert draws.std() == pytest.approx(error, rel=0.15)
