"""Signals of a day: each fault leaves its mark where it should, and a day depends on its own rows alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from mlops_course.operations.monitoring import signals

DAY = pd.Timedelta("1D")
START = pd.Timestamp("2024-01-01", tz="UTC")


def rows(days=6, a_day=800, seed=0):
    rng = np.random.default_rng(seed)
    count = days * a_day
    heat = rng.normal(20, 5, count).round(2)
    time = START + pd.to_timedelta(np.sort(rng.integers(0, days * 1440, count)), unit="min")
    probability = rng.beta(2, 6, count)
    return pd.DataFrame(
        {
            "time": time,
            "heat": np.where(rng.random(count) < 0.1, np.nan, heat),
            "fahrenheit": heat * 1.8 + 32 + rng.normal(0, 0.5, count),
            "step": rng.integers(0, 5, count).astype(float),
            "clock": (time + pd.Timedelta("2h")).tz_localize(None),
            "maker": rng.choice(["a", "b"], count, p=[0.7, 0.3]),
            "probability": probability,
            "label": (rng.random(count) < probability).astype(float),
            "label_time": time + pd.Timedelta("5h"),
        }
    )


def profile(frame):
    columns = {"numeric": ["heat", "fahrenheit", "step"], "datetimes": ["clock"], "categorical": ["maker"]}
    return signals.profile(frame, **columns)


def of(frame, known=None):
    return signals.of_inputs(frame, known or profile(rows()))


SPOILT = {
    ("heat", "missing"): lambda frame: frame.assign(heat=np.nan),
    ("fahrenheit", "level"): lambda frame: frame.assign(fahrenheit=(frame["fahrenheit"] - 32) / 1.8),
    ("fahrenheit", "residual"): lambda frame: frame.assign(fahrenheit=(frame["fahrenheit"] - 32) / 1.8),
    ("heat", "largest"): lambda frame: frame.assign(heat=21.0),
    ("heat", "spread"): lambda frame: frame.assign(heat=21.0),
    ("heat", "range"): lambda frame: frame.assign(heat=frame["heat"] * 100),
    ("step", "unseen"): lambda frame: frame.assign(step=frame["step"] * 1.6 + 0.1),
    ("heat", "low"): lambda frame: frame[(frame["heat"] > 20) | frame["heat"].isna()],
    ("clock", "off"): lambda frame: frame.assign(clock=frame["clock"] + pd.Timedelta("5h")),
    ("maker", "unknown"): lambda frame: frame.assign(maker="c"),
    ("maker", "share of b"): lambda frame: frame[frame["maker"] == "a"],
    ("rows", "count"): lambda frame: frame.iloc[::3],
    ("rows", "repeated"): lambda frame: pd.concat([frame, frame]),
}


@pytest.mark.parametrize("signal", SPOILT, ids=" ".join)
def test_a_fault_moves_its_signal_far_more_than_days_differ(signal):
    usual = of(rows(12))[signal]
    found = of(SPOILT[signal](rows()))[signal]
    assert (np.abs(found - usual.mean()) > 10 * usual.std() + 0.05).all()


def test_a_day_depends_on_its_own_rows_alone_and_not_on_their_order():
    frame, known = rows(), profile(rows())
    parts = [of(part, known) for _, part in frame.groupby(frame["time"].dt.floor("D"))]
    pd.testing.assert_frame_equal(pd.concat(parts), of(frame, known), check_freq=False)
    pd.testing.assert_frame_equal(of(frame.sample(frac=1, random_state=0), known), of(frame, known))


def test_quantiles_and_shares_are_those_of_pandas():
    frame = rows()
    day = frame["time"].dt.floor("D")
    found, width = of(frame), profile(frame).numbers.loc["heat", "width"]
    by_day = frame.groupby(day)["heat"]
    np.testing.assert_allclose(found[("heat", "level")] * width, by_day.median(), atol=0.05)
    np.testing.assert_allclose(found[("heat", "missing")], by_day.apply(lambda values: values.isna().mean()))
    most = by_day.apply(lambda values: values.value_counts(normalize=True).iloc[0])
    np.testing.assert_allclose(found[("heat", "largest")], most)
    np.testing.assert_allclose(np.exp(found[("rows", "count")]), day.value_counts().sort_index())


def labelled(frame, **options):
    return signals.of_labels(frame, **{"now": START + 30 * DAY, "lag": DAY, **options})


def test_a_reversed_concept_is_a_larger_surprise_than_a_bad_day():
    frame = rows(12)
    usual = labelled(frame)[("labels", "surprise")]
    turned = labelled(frame.assign(label=1 - frame["label"]))[("labels", "surprise")]
    more = labelled(frame.assign(label=frame["label"].where(frame.index % 4 > 0, 1.0)))[("labels", "surprise")]
    assert turned.min() > usual.max() + 0.5
    assert (more - usual).mean() < (turned - usual).mean() / 2


def test_surprise_is_excess_loss_less_twice_the_auc_of_scikit_learn():
    frame = rows(1)
    p, y = frame["probability"], frame["label"]
    promised = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    expected = metrics.log_loss(y, p) - promised - 2 * metrics.roc_auc_score(y, p)
    assert labelled(frame)[("labels", "surprise")].iloc[0] == pytest.approx(expected)


def test_coverage_counts_labels_that_came_in_time_and_days_that_are_old_enough():
    frame = rows(4)
    frame.loc[frame["time"] >= START + DAY, "label_time"] += 10 * DAY
    found = labelled(frame, now=START + 4 * DAY)[("labels", "coverage")]
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_labels_that_come_later_change_nothing():
    frame, now = rows(4), START + 3 * DAY
    later = frame["label_time"] > now
    turned = frame.assign(label=frame["label"].mask(later, 1 - frame["label"]))
    pd.testing.assert_frame_equal(labelled(frame, now=now), labelled(turned, now=now))


def test_too_few_labels_surprise_nobody():
    assert np.isnan(labelled(rows(1, a_day=100))[("labels", "surprise")]).all()


def test_a_profile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected rows"):
        profile(rows().iloc[:0])


def test_a_number_with_two_values_is_watched_as_a_category():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=400, freq="h", tz="UTC")})
    rows["flag"] = (rng.random(400) < 0.3).astype(float)
    known = signals.profile(rows, numeric=["flag"], datetimes=[], categorical=[])
    found = signals.of_inputs(rows.assign(flag=7.0), known)["flag"]
    assert {*found} == {"missing", "unknown", "share of 1", "largest"}
    assert (found[["unknown", "share of 1"]] == [1, 0]).all(axis=None)
