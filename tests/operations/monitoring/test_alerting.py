"""Alerts: none without a trouble, one for each trouble, of the right kind, and from no later day."""

import numpy as np
import pandas as pd
import pytest

from mlops_course.operations.monitoring import alerting, signals
from mlops_course.operations.monitoring.alerting import _Deviation, _diagnose

SERIES = [("heat", "level"), ("heat", "missing"), ("wind", "level"), ("wind", "spread"), ("rows", "count")]
DAYS = pd.date_range("2024-01-01", periods=200, freq="D", tz="UTC")
FIRST = DAYS[90]


def quiet(seed=0, days=200, series=SERIES):
    rng = np.random.default_rng(seed)
    names = pd.MultiIndex.from_tuples(series)
    many = [8.0 * (name == ("rows", "count")) for name in series]  # rows a day, as a logarithm
    return pd.DataFrame(many + rng.normal(0, 0.3, (days, len(series))), index=DAYS[:days], columns=names)


def find(signals, *, bars=None, first=FIRST):
    return alerting.find(signals, bars or alerting.calibrate(quiet().iloc[:90], a_year=1.0), first=first)


def moved(by=5.0, series=("heat", "level"), start=120, days=6, frame=None):
    frame = quiet() if frame is None else frame.copy()
    frame.loc[DAYS[start : start + days], [series]] += by
    return frame


@pytest.mark.parametrize("stretches", [15, pytest.param(200, marks=pytest.mark.long)])
def test_false_alarms_of_quiet_years_stay_within_the_budget(stretches):
    alarms = 0
    for seed in range(stretches):
        days = quiet(seed, days=200, series=[(f"column {number}", "level") for number in range(20)])
        bars = alerting.calibrate(days.iloc[:90], a_year=1.0)
        alarms += len(find(days, bars=bars))
    assert alarms / (stretches * 110 / 365) <= 1.0


def test_a_bar_of_five_percent_for_each_signal_would_alarm_every_day():
    days = quiet(series=[(f"column {number}", "level") for number in range(20)])
    low, high = days.iloc[:90].quantile([0.025, 0.975]).to_numpy()
    outside = (days.iloc[90:] < low) | (days.iloc[90:] > high)
    assert outside.any(axis=1).mean() > 0.5
    assert find(days, bars=alerting.calibrate(days.iloc[:90], a_year=1.0)) == []


def test_an_alert_says_its_first_and_last_day_its_value_and_the_usual_one():
    (alert,) = find(moved())
    assert (alert.since, alert.raised, alert.until) == (DAYS[120], DAYS[121], DAYS[126])
    assert (alert.subject, alert.measure) == ("heat", "level")
    assert alert.value == pytest.approx(5.0, abs=1.5)
    assert alert.usual == pytest.approx(0.0, abs=0.5)
    assert abs(alert.value - alert.usual) > alert.threshold
    assert "heat" in alert.first_step


def test_one_bad_day_is_no_alert():
    assert find(moved(days=1)) == []


def test_two_bad_days_in_opposite_directions_are_no_alert():
    assert find(moved(-5.0, start=121, days=1, frame=moved(5.0, days=1))) == []


def test_a_lasting_trouble_is_one_alert_which_has_no_end_while_it_is_open():
    (alert,) = find(moved(days=15).iloc[:130])
    assert alert.until is None
    assert len(find(moved(days=15))) == 1


def test_a_fault_that_outlasts_the_memory_of_four_weeks_does_not_end_by_itself():
    (alert,) = find(moved(days=80))
    assert alert.until is None


def test_a_trouble_that_comes_back_raises_a_second_alert():
    assert [alert.since for alert in find(moved(start=150, frame=moved()))] == [DAYS[120], DAYS[150]]


def test_one_quiet_day_does_not_end_an_alert():
    frame = moved(days=9)
    frame.loc[DAYS[124], [("heat", "level")]] = 0.0
    (alert,) = find(frame)
    assert alert.until >= DAYS[129]


def test_a_season_that_comes_slowly_is_no_alarm():
    frame = quiet()
    frame[[("heat", "level")]] = frame[[("heat", "level")]].to_numpy() + np.linspace(0, 6, len(frame))[:, None]
    assert find(frame) == []


def test_a_weekday_is_compared_with_the_same_weekday():
    frame = quiet()
    saturdays = frame.index.day_of_week == 5
    frame.loc[saturdays, [("rows", "count")]] -= 3.0
    assert find(frame, bars=alerting.calibrate(frame.iloc[:90], a_year=1.0)) == []


def test_days_under_alarm_do_not_become_usual():
    frame = moved(days=20)
    _, usual = alerting.deviations(frame, floors=alerting.calibrate(frame.iloc[:90], a_year=1).floors)
    bars = alerting.calibrate(frame.iloc[:90], a_year=1.0)
    _, kept = alerting.deviations(frame, floors=bars.floors, bars=bars.bars)
    assert abs(kept[("heat", "level")].iloc[138]) < 0.5 < abs(usual[("heat", "level")].iloc[138])


@pytest.mark.parametrize("now", [115, 121, 123, 127, 140])
def test_later_days_do_not_change_an_alert(now):
    whole = [alert for alert in find(moved()) if alert.raised <= DAYS[now]]
    seen = find(moved().iloc[: now + 1])
    assert [alert.since for alert in seen] == [alert.since for alert in whole]
    spoilt = moved()
    spoilt.iloc[now + 1 :] = 99.0
    assert find(spoilt.iloc[: now + 1]) == seen


def test_a_signal_without_any_value_is_never_unusual():
    frame = quiet()
    frame[[("wind", "level")]] = np.nan
    assert find(moved(frame=frame), bars=alerting.calibrate(frame.iloc[:90], a_year=1.0))[0].subject == "heat"


def test_too_few_quiet_days_are_refused():
    with pytest.raises(ValueError, match="at least 38 quiet days"):
        alerting.calibrate(quiet().iloc[:30], a_year=1.0)


def test_a_larger_budget_has_lower_bars():
    strict, loose = (alerting.calibrate(quiet().iloc[:90], a_year=budget).bars for budget in (0.1, 10.0))
    assert (strict >= loose).all()
    assert (strict > loose).any()


# Kinds


def over(subject, measure, times=3.0, value=0.5):
    return _Deviation(subject, measure, times, value, usual=0.0)


def diagnose(unusual, moved_by=None):
    return _diagnose(unusual, moved_by=moved_by or {})


SIGNATURES = {
    "duplicated batch": ([over("rows", "repeated"), over("rows", "count")], "rows"),
    "label outage": ([over("labels", "coverage", -5.0)], "labels"),
    "clock skew": ([over("clock", "off"), over("clock", "low"), over("clock", "level")], "clock"),
    "silent null": ([over("heat", "missing"), over("wind", "residual", 9.0)], "heat"),
    "stuck sensor": ([over("heat", "largest", value=1.0), over("heat", "spread", -4.0), over("heat", "level")], "heat"),
    "unit error": ([over("heat", "level", 8.0), over("wind", "residual")], "heat"),
    "covariate shift": ([over("size", "low"), over("weight", "low"), over("rows", "count", -2.0)], "size"),
    "concept flip": ([over("labels", "surprise")], "labels"),
    "unknown": ([over("heat", "spread", 1.2)], "heat"),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_each_kind_of_trouble_is_recognised_by_its_signals(kind):
    unusual, subject = SIGNATURES[kind]
    assert [(found, of) for found, of, _ in diagnose(unusual)] == [(kind, subject)]


def test_of_two_columns_that_no_longer_agree_the_one_that_moved_is_blamed():
    unusual = [over("dew", "residual", 9.0), over("heat", "residual", 4.0)]
    ((kind, subject, _),) = diagnose(unusual, moved_by={"heat": 0.9, "dew": 0.1})
    assert (kind, subject) == ("unit error", "heat")


def test_two_troubles_at_once_raise_two_alerts():
    found = diagnose([over("labels", "coverage", -5.0), over("heat", "missing")])
    assert {kind for kind, *_ in found} == {"label outage", "silent null"}


def test_surprising_labels_are_explained_by_a_broken_input():
    found = diagnose([over("labels", "surprise"), over("heat", "missing")])
    assert [kind for kind, *_ in found] == ["silent null"]


def test_labels_that_come_more_often_are_no_outage():
    found = diagnose([over("labels", "coverage", 5.0)])
    assert "label outage" not in {kind for kind, *_ in found}


def test_every_kind_has_a_first_step_of_its_own():
    assert len(set(alerting.FIRST_STEPS.values())) == len(SIGNATURES)
    assert set(alerting.FIRST_STEPS) == set(SIGNATURES)


def shuffled(seed, *, a_day=4, days=362):
    """The signals of a year of rows in no order: a flag, a rare category and an amount."""
    rng, rows = np.random.default_rng(seed), a_day * days
    start, places = pd.Timestamp("2023-01-01", tz="UTC"), np.sort(rng.random(rows)) * days
    table = pd.DataFrame({"time": start + pd.to_timedelta(places, unit="D")})
    table["flag"] = (rng.random(rows) < 0.15).astype(float)
    table["job"] = rng.choice(["Sales", "Doctor"], rows, p=[0.9, 0.1])
    table["pay"] = rng.lognormal(8, 0.6, rows).round()
    before = table[table["time"] < start + pd.Timedelta(days=270)]
    known = signals.profile(before, numeric=["flag", "pay"], datetimes=[], categorical=["job"])
    return signals.of_inputs(table, known)


def test_a_few_rows_a_day_in_no_order_raise_no_more_alerts_than_the_budget():
    raised = 0
    for seed in range(12):  # quarters: of a budget of 2 a year, inputs have 3 in them; 6 is what chance allows
        found = shuffled(seed)
        raised += len(alerting.find(found, alerting.calibrate(found.iloc[:270], a_year=2.0), first=found.index[270]))
    assert raised <= 6
