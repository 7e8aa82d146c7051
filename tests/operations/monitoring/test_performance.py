"""Estimated and realised performance: right where probabilities are, honest where they are not, and never peeking."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from mlops_course.operations.monitoring import performance

COSTS = {"false_alarm": 15, "missed": 60}
WEEK = pd.Timedelta("7D")
START = pd.Timestamp("2024-01-01", tz="UTC")


def rows(days=70, *, a_day=200, seed=0, day_effect=0.0, bias=0.0, lag="5h"):
    """Rows with probabilities that are what they say, but for a bias and a mood of each day, both on the logit."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), a_day)
    probability = rng.beta(2, 6, len(day))
    truth = 1 / (1 + (1 / probability - 1) * np.exp(-bias - day_effect * rng.normal(size=days)[day]))
    time = START + pd.to_timedelta(day * 1440 + rng.integers(0, 1440, len(day)), unit="min")
    frame = pd.DataFrame({"time": time, "probability": probability, "decision": probability >= 0.2})
    frame["label"] = (rng.random(len(day)) < truth).astype(float)
    return frame.assign(label_time=frame["time"] + pd.Timedelta(lag)).sort_values("time", ignore_index=True)


def window_of(frame):
    return (frame["time"] - START) // WEEK * WEEK + START


def estimate(frame, week=8, now=None):
    start = START + week * WEEK
    return performance.estimate(frame, start=start, end=start + WEEK, now=now or start + WEEK, **COSTS)


def test_realised_measures_are_those_of_scikit_learn():
    frame = rows(21)
    frame.loc[::5, "label"] = np.nan
    found = performance.realised(frame, window=window_of(frame), **COSTS)
    for start, part in frame.groupby(window_of(frame)):
        known, line = part.dropna(subset="label"), found.loc[start]
        assert line["rows"] == len(part)
        assert line["labelled"] == pytest.approx(len(known) / len(part))
        assert line["log_loss"] == pytest.approx(metrics.log_loss(known["label"], known["probability"]))
        assert line["roc_auc"] == pytest.approx(metrics.roc_auc_score(known["label"], known["probability"]))
        tn, fp, fn, tp = metrics.confusion_matrix(known["label"], known["decision"]).ravel()
        assert line["cost"] == pytest.approx((15 * fp + 60 * fn) / (tn + fp + fn + tp))


def test_every_row_is_in_one_window_and_one_without_labels_has_no_measure():
    frame = rows(21)
    frame.loc[window_of(frame) == START, "label"] = np.nan
    found = performance.realised(frame, window=window_of(frame), **COSTS)
    assert found["rows"].sum() == len(frame)
    assert found.loc[START, "labelled"] == 0
    assert found.loc[START, ["log_loss", "cost", "rate", "roc_auc"]].isna().all()


def test_a_window_of_one_class_has_no_auc():
    frame = rows(7).assign(label=0.0)
    assert np.isnan(performance.realised(frame, window=window_of(frame), **COSTS)["roc_auc"].iloc[0])


@pytest.mark.parametrize("seeds", [12, pytest.param(100, marks=pytest.mark.long)])
def test_the_estimate_of_true_probabilities_is_right_on_average(seeds):
    errors = []
    for seed in range(seeds):
        frame = rows(35, seed=seed)  # four weeks to calibrate on, and the one that is estimated
        came = performance.realised(frame, window=window_of(frame), **COSTS).iloc[4]
        said = estimate(frame, week=4)
        errors.append([came[name] - said[f"estimated_{name}"] for name in performance.MEASURES])
    mean, error = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / np.sqrt(len(errors))
    assert (np.abs(mean) < 3 * error).all()


@pytest.mark.parametrize("bias", [-1.0, 1.0])
def test_probabilities_that_are_off_are_corrected_by_the_labels_that_have_come(bias):
    frame = rows(63, bias=bias)
    came = performance.realised(frame, window=window_of(frame), **COSTS).iloc[8]
    assert estimate(frame)["estimated_rate"] == pytest.approx(came["rate"], abs=0.03)
    assert estimate(frame)["estimated_log_loss"] == pytest.approx(came["log_loss"], abs=0.03)
    assert abs(frame["probability"].mean() - came["rate"]) > 0.1


def test_labels_that_come_later_change_nothing():
    frame = rows(63)
    now = START + 8 * WEEK
    later = frame["label_time"] > now
    turned = frame.assign(label=frame["label"].mask(later, 1 - frame["label"]))
    assert later.any()
    assert estimate(frame, now=now) == estimate(turned, now=now)


@pytest.mark.parametrize("seeds", [1, pytest.param(8, marks=pytest.mark.long)])
@pytest.mark.parametrize("day_effect", [0.0, 0.8])
def test_the_interval_covers_what_comes_as_often_as_it_says(day_effect, seeds):
    made = [rows(84, seed=seed, day_effect=day_effect) for seed in range(seeds)]
    tables = [performance.walk(frame, width=WEEK, **COSTS) for frame in made]
    for measure in performance.MEASURES:
        assert performance.coverage(pd.concat(tables), measure) >= 0.9


def test_the_interval_is_wider_when_days_differ_by_more_than_chance():
    calm, moody = (estimate(rows(63, day_effect=effect)) for effect in (0.0, 0.8))
    width = [said["estimated_rate_high"] - said["estimated_rate_low"] for said in (calm, moody)]
    assert width[1] > 2 * width[0]


def test_a_changed_concept_is_not_seen_before_its_labels():
    frame = rows(63, lag="30D")
    changed = frame.assign(label=frame["label"].mask(frame["time"] >= START + 8 * WEEK, 1 - frame["label"]))
    assert estimate(changed) == estimate(frame)
    came = performance.realised(changed, window=window_of(changed), **COSTS).iloc[8]
    assert came["log_loss"] > estimate(changed)["estimated_log_loss_high"]


def test_without_labels_probabilities_are_taken_as_they_are_and_the_estimate_has_no_interval():
    frame = rows(63).assign(label=np.nan)
    said = estimate(frame)
    within = frame[window_of(frame) == START + 8 * WEEK]
    assert said["estimated_rate"] == pytest.approx(within["probability"].mean())
    assert np.isnan(said["estimated_rate_low"])


def test_the_estimate_of_a_window_without_rows_is_missing():
    assert np.isnan(list(estimate(rows(7)).values())).all()


def test_an_interval_stays_where_a_measure_can_be():
    said = estimate(rows(63, a_day=20, day_effect=3.0))
    assert 0 <= said["estimated_rate_low"] <= said["estimated_rate"] <= said["estimated_rate_high"] <= 1
    assert said["estimated_log_loss_low"] >= 0


def test_windows_one_after_the_other_are_estimated_as_each_by_itself():
    frame = rows(35)
    table = performance.walk(frame, width=WEEK, **COSTS)
    assert len(table) == 5
    assert table.filter(like="estimated").iloc[3].to_dict() == pytest.approx(estimate(frame, week=3), nan_ok=True)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"got none called \['label_time'\]"):
        performance.walk(rows(7).drop(columns="label_time"), width=WEEK, **COSTS)


def test_the_picture_has_both_and_the_title_that_was_given():
    table = performance.walk(rows(35), width=WEEK, **COSTS)
    (axes,) = performance.plot(table, "cost", title="It held", unit="EUR").axes
    assert axes.get_title(loc="left") == "It held"
    assert axes.get_ylabel() == "cost (EUR)"
    assert axes.lines[1].get_ydata().tolist() == table["cost"].tolist()
