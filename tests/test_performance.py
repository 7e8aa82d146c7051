"""Estimated and realised performance: right where probabilities are, honest where they are not, and never peeking."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from mlops_course import performance

COSTS = {"false_alarm": 15, "missed": 60}
WEEK = pd.Timedelta("7D")
DAY = pd.Timedelta("1D")
START = pd.Timestamp("2024-01-01", tz="UTC")


def rows(days=70, *, a_day=200, seed=0, day_effect=0.0, bias=0.0, lag="5h"):
    """Rows with probabilities that are what they say, but for a bias (one, or one a day) and a mood of each day."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    probability = rng.beta(2, 6, len(day))
    truth = expit(logit(probability) + (np.zeros(days) + bias + day_effect * rng.normal(size=days))[day])
    time = START + pd.to_timedelta(day * 1440 + rng.integers(0, 1440, len(day)), unit="min")
    frame = pd.DataFrame({"time": time, "probability": probability, "decision": probability >= 0.2})
    frame["label"] = (rng.random(len(day)) < truth).astype(float)
    return frame.assign(label_time=frame["time"] + pd.Timedelta(lag)).sort_values("time", ignore_index=True)


def window_of(frame):
    return (frame["time"] - START) // WEEK * WEEK + START


def estimate(frame, week=8, now=None):
    start = START + week * WEEK
    return performance.estimate(frame, start=start, end=start + WEEK, now=now or start + WEEK, **COSTS)


def test_what_came_is_what_scikit_learn_says():
    frame = rows(21)
    frame.loc[::5, "label"] = np.nan
    found = performance.realised(frame, window=window_of(frame), **COSTS)
    for start, part in frame.groupby(window_of(frame)):
        known, line = part.dropna(subset="label"), found.loc[start]
        assert line["rows"] == len(part)
        assert line["labelled"] == pytest.approx(len(known) / len(part))
        assert line["log_loss"] == pytest.approx(metrics.log_loss(known["label"], known["probability"]))
        assert line["brier"] == pytest.approx(metrics.brier_score_loss(known["label"], known["probability"]))
        assert line["roc_auc"] == pytest.approx(metrics.roc_auc_score(known["label"], known["probability"]))
        tn, fp, fn, tp = metrics.confusion_matrix(known["label"], known["decision"]).ravel()
        assert line["cost"] == pytest.approx((15 * fp + 60 * fn) / (tn + fp + fn + tp))


def test_every_row_is_in_one_window_and_one_without_labels_has_no_measure():
    frame = rows(21)
    frame.loc[window_of(frame) == START, "label"] = np.nan
    found = performance.realised(frame, window=window_of(frame), **COSTS)
    assert found["rows"].sum() == len(frame)
    assert found.loc[START, "labelled"] == 0
    assert found.loc[START, ["log_loss", "cost", "rate", "brier", "roc_auc"]].isna().all()
    assert found["note"].tolist() == ["no labels yet", "", ""]


def test_a_window_of_one_class_has_no_auc_and_says_why():
    frame = rows(7).assign(label=0.0)
    found = performance.realised(frame, window=window_of(frame), groups=frame["time"].dt.day, **COSTS).iloc[0]
    assert np.isnan([found["roc_auc"], found["roc_auc_low"]]).all()
    assert found["note"] == "one class only"
    assert found["rate"] == found["rate_low"] == 0


def test_days_of_equal_size_give_the_interval_of_their_means():
    frame = rows(7, day_effect=1.0)
    found = performance.realised(frame, window=window_of(frame), groups=frame["time"].dt.day, **COSTS).iloc[0]
    means = frame.groupby(frame["time"].dt.day)["label"].mean()
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (found["rate_low"], found["rate_high"]) == pytest.approx((expected.low, expected.high))


def test_rows_that_are_groups_of_their_own_give_the_interval_of_delong_for_the_auc():
    frame = rows(1, a_day=150)
    found = performance.realised(frame, window=window_of(frame), groups=frame["time"], **COSTS).iloc[0]
    yes, no = (frame.loc[frame["label"] == one, "probability"].to_numpy() for one in (1, 0))
    right = (yes[:, None] > no) + (yes[:, None] == no) / 2
    variance = right.mean(axis=1).var(ddof=1) / len(yes) + right.mean(axis=0).var(ddof=1) / len(no)
    half = stats.norm.ppf(0.975) * variance**0.5
    assert found["roc_auc_high"] - found["roc_auc"] == pytest.approx(half, rel=0.03)


def test_labels_of_a_single_day_have_no_interval():
    frame = rows(1)
    found = performance.realised(frame, window=window_of(frame), groups=frame["time"].dt.day, **COSTS).iloc[0]
    assert np.isnan(found[["log_loss_low", "cost_high", "roc_auc_low"]].astype(float)).all()


def test_the_estimate_of_true_probabilities_is_right_on_average():
    errors = []
    for seed in range(20):
        frame = rows(63, seed=seed)
        came = performance.realised(frame, window=window_of(frame), **COSTS).iloc[8]
        said = estimate(frame)
        errors.append([came[name] - said[f"estimated_{name}"] for name in performance.MEASURES])
    mean, error = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors))
    assert (np.abs(mean) < 3 * error).all()


@pytest.mark.parametrize("lag", ["5h", "40D"])
@pytest.mark.parametrize("bias", [-1.0, 1.0])
def test_probabilities_that_are_off_are_put_right_by_the_labels_that_have_come_however_late(bias, lag):
    frame = rows(63, bias=bias, lag=lag)
    came = performance.realised(frame, window=window_of(frame), **COSTS).iloc[8]
    assert estimate(frame)["estimated_rate"] == pytest.approx(came["rate"], abs=0.03)
    assert estimate(frame)["estimated_log_loss"] == pytest.approx(came["log_loss"], abs=0.03)
    assert abs(frame["probability"].mean() - came["rate"]) > 0.1


def test_labels_that_tell_of_another_season_are_not_followed_once_they_have_misled():
    frame = rows(210, bias=np.repeat([1.5, -1.5, 1.5, -1.5, 1.5], 42), lag="42D")
    within = frame[window_of(frame) == START + 29 * WEEK]
    assert estimate(frame, week=29)["estimated_rate"] == pytest.approx(within["probability"].mean(), abs=0.05)


def test_the_calibration_is_that_of_scikit_learn():
    frame = rows(28, a_day=500, bias=0.7).assign(logit=lambda rows: logit(rows["probability"]))
    found = performance._calibration(frame, at=START + 5 * WEEK, newest=frame["time"].iloc[-1])
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(frame[["logit"]], frame["label"])
    assert found == pytest.approx((expected.intercept_[0], expected.coef_[0, 0]), abs=2e-3)


def test_labels_that_follow_probabilities_exactly_give_a_finite_estimate():
    frame = rows(63).assign(label=lambda rows: (rows["probability"] > 0.3).astype(float))
    assert 0 <= estimate(frame)["estimated_log_loss"] < 1


def test_labels_that_come_later_and_rows_asked_later_change_nothing():
    frame, now = rows(63), START + 8 * WEEK + 3 * DAY
    later = frame["label_time"] > now
    turned = frame.assign(label=frame["label"].mask(later, 1 - frame["label"]))
    moved = turned.assign(probability=frame["probability"].mask(frame["time"] >= now, 0.9))
    assert later.any()
    assert estimate(frame, now=now) == estimate(moved, now=now)
    assert estimate(frame) != estimate(turned)


def test_the_order_of_rows_changes_nothing():
    frame = rows(63)
    assert estimate(frame.sample(frac=1, random_state=1)) == pytest.approx(estimate(frame))


def walked(**options):
    """Many weeks of several worlds, without the first, which has no past."""
    tables = [performance.walk(rows(98, seed=seed, **options), width=WEEK, **COSTS).iloc[1:] for seed in range(5)]
    return pd.concat(tables)


@pytest.mark.parametrize("options", [{}, {"day_effect": 0.8}, {"day_effect": 0.8, "bias": 1.0, "lag": "14D"}])
def test_the_interval_covers_what_comes_as_often_as_it_says(options):
    table = walked(**options)
    for measure in performance.MEASURES:
        assert performance.coverage(table, measure) >= 0.9


def test_the_interval_is_little_wider_than_it_has_to_be():
    for table in (walked(), walked(day_effect=0.8)):
        needed = 1.96 * (table["rate"] - table["estimated_rate"]).std()
        assert ((table["estimated_rate_high"] - table["estimated_rate_low"]) / 2).mean() < 1.5 * needed


def simply(table, frame):
    """The same weeks with naive estimates."""
    said = [performance.naive(frame, start=start, end=start + WEEK, **COSTS) for start in table.index]
    return table[list(performance.MEASURES)].join(pd.DataFrame(said, index=table.index))


def test_the_naive_interval_holds_for_independent_rows_and_fails_where_days_have_moods():
    calm, moody = rows(364), rows(364, day_effect=0.8)
    came = [performance.realised(frame, window=window_of(frame), **COSTS) for frame in (calm, moody)]
    held, failed = (performance.coverage(simply(*both), "rate") for both in zip(came, (calm, moody), strict=True))
    assert held >= 0.88  # of 52 weeks
    assert failed < 0.6


def test_the_naive_estimate_is_the_entropy_of_probabilities():
    frame = rows(7)
    said = performance.naive(frame, start=START, end=START + WEEK, **COSTS)
    both = np.column_stack([frame["probability"], 1 - frame["probability"]])
    assert said["estimated_log_loss"] == pytest.approx(stats.entropy(both, axis=1).mean())


def test_older_labels_make_a_wider_interval_where_the_world_wanders():
    wandering = np.random.default_rng(3).normal(scale=0.2, size=182).cumsum()
    said = [estimate(rows(182, bias=wandering, lag=lag), week=25) for lag in ("5h", "42D")]
    width = [one["estimated_rate_high"] - one["estimated_rate_low"] for one in said]
    assert width[1] > 1.5 * width[0]


def test_an_interval_learns_from_an_outage_that_labels_are_old_now():
    wandering = np.random.default_rng(3).normal(scale=0.2, size=182).cumsum()
    frame = rows(182, bias=wandering)
    out = frame.assign(label=frame["label"].mask(frame["time"] >= START + 20 * WEEK))
    width = [one["estimated_rate_high"] - one["estimated_rate_low"] for one in map(estimate, (frame, out), (25, 25))]
    assert width[1] > 1.5 * width[0]


def test_the_interval_of_moody_days_is_wider_than_chance_of_rows_would_make_it():
    calm, moody = (estimate(rows(63, day_effect=effect)) for effect in (0.0, 0.8))
    width = [said["estimated_rate_high"] - said["estimated_rate_low"] for said in (calm, moody)]
    assert width[1] > 2 * width[0]


def test_a_changed_concept_is_not_seen_before_its_labels():
    frame = rows(63, lag="30D")
    changed = frame.assign(label=frame["label"].mask(frame["time"] >= START + 8 * WEEK, 1 - frame["label"]))
    assert estimate(changed) == estimate(frame)
    came = performance.realised(changed, window=window_of(changed), **COSTS).iloc[8]
    assert came["log_loss"] > estimate(changed)["estimated_log_loss_high"]


def test_without_labels_probabilities_are_taken_as_they_are_and_nothing_is_said_of_how_sure_that_is():
    frame = rows(63).assign(label=np.nan)
    said = estimate(frame)
    within = frame[window_of(frame) == START + 8 * WEEK]
    assert said["estimated_rate"] == pytest.approx(within["probability"].mean())
    assert np.isnan(said["estimated_rate_low"])
    assert said["estimated_note"] == (
        "probabilities as they are: 0 labels, 200 needed; no interval: 0 earlier windows with labels, 7 needed"
    )


def test_nothing_is_said_of_a_window_without_rows():
    said = estimate(rows(7))
    assert said.pop("estimated_note") == "no rows"
    assert np.isnan(list(said.values())).all()


def test_a_window_that_ends_before_it_starts_is_refused():
    with pytest.raises(ValueError, match="expected a window that ends after its start"):
        performance.estimate(rows(7), start=START, end=START, now=START, **COSTS)


def test_an_interval_stays_where_a_measure_can_be():
    said = estimate(rows(63, a_day=20, day_effect=3.0))
    assert 0 <= said["estimated_rate_low"] <= said["estimated_rate"] <= said["estimated_rate_high"] <= 1
    assert said["estimated_log_loss_low"] >= 0


def test_windows_one_after_the_other_are_estimated_as_each_by_itself():
    frame = rows(35)
    table = performance.walk(frame, width=WEEK, **COSTS)
    assert len(table) == 5
    assert table.filter(like="estimated").iloc[3].to_dict() == pytest.approx(estimate(frame, week=3), nan_ok=True)


def test_what_is_known_now_lacks_the_labels_to_come_and_the_truth_does_not():
    frame = rows(35, lag="10D")
    known, truth = (performance.walk(frame, width=WEEK, now=now, **COSTS) for now in (START + 4 * WEEK, None))
    assert known["labelled"].round(2).tolist() == pytest.approx([1, 1, 0.57, 0], abs=0.05)
    assert truth["labelled"].tolist() == [1] * 5
    assert known["log_loss"].iloc[:2].tolist() == truth["log_loss"].iloc[:2].tolist()
    pd.testing.assert_frame_equal(known.filter(like="estimated"), truth.filter(like="estimated").iloc[:4])


def test_a_slice_is_walked_through_by_itself():
    frame = rows(35).assign(colour=lambda rows: np.where(rows["probability"] < 0.2, "red", "blue"))
    table = performance.by_slice(frame, slices=["colour"], width=WEEK, min_rows=50, **COSTS)
    alone = performance.walk(frame[frame["colour"] == "red"], width=WEEK, **COSTS)
    pd.testing.assert_frame_equal(table.loc[("colour", "red")], alone, check_freq=False)
    assert table.groupby("start")["rows"].sum().tolist() == [1400] * 5


def test_a_slice_of_few_rows_has_no_measures_and_says_why():
    frame = rows(21)
    colours = pd.Series(np.where(frame.index % 100 == 0, None, "red"), index=frame.index)
    table = performance.by_slice(frame.assign(colour=colours), slices=["colour"], width=WEEK, min_rows=50, **COSTS)
    few = table.loc[("colour", "(missing)")]
    assert few["rows"].tolist() == [14, 14, 14]
    assert few[["log_loss", "cost_low", "estimated_cost", "estimated_rate_low"]].isna().all(axis=None)
    assert set(few["note"]) == set(few["estimated_note"]) == {"too few rows"}


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"got none called \['label_time'\]"):
        performance.walk(rows(7).drop(columns="label_time"), width=WEEK, **COSTS)


def test_the_picture_has_estimate_known_and_truth_and_the_title_that_was_given():
    frame = rows(35, lag="10D")
    known, truth = (performance.walk(frame, width=WEEK, now=now, **COSTS) for now in (START + 4 * WEEK, None))
    axes, below = performance.plot(known, "cost", title="It held", unit="EUR", truth=truth).axes
    assert axes.get_title(loc="left") == "It held"
    assert axes.get_ylabel() == "cost (EUR)"
    full, hollow, all_labels = (line.get_ydata() for line in axes.lines[1:])
    assert np.isnan(full).tolist() == [False, False, True, True]
    assert np.isnan(hollow).tolist() == [True, True, False, True]
    assert all_labels.tolist() == truth["cost"].tolist()
    assert below.lines[0].get_ydata().tolist() == known["labelled"].tolist()
