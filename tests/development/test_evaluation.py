import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from mlops_course.development import evaluation
from mlops_course.development.evaluation.uncertainty import AT_MOST_ONE, _weighted_metrics

COSTS = {"threshold": 0.2, "false_alarm": 15, "missed": 60}
FEW = {"draws": 40, "seed": 3}


@pytest.fixture(scope="module")
def rows():
    """Forty days; a day's weather shifts all of its rows, so rows of one day are alike."""
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(40), 75)
    known = rng.normal(-1.2, 1, len(day))
    weather = rng.normal(0, 0.8, 40)[day]
    frame = pd.DataFrame({"day": day, "month": np.where(day < 20, "2013-01", "2013-02")})
    frame["p"] = 1 / (1 + np.exp(-known))
    frame["y"] = (rng.uniform(size=len(day)) < 1 / (1 + np.exp(-known - weather))).astype(int)
    frame["origin"] = rng.choice(["EWR", "JFK", None], len(day), p=[0.6, 0.39, 0.01])
    return frame


@st.composite
def samples(draw, both_classes=True):
    """Targets, probabilities with many ties, and whole weights."""
    n = draw(st.integers(4, 40))
    y = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    p = draw(st.lists(st.integers(0, 10).map(lambda tenth: tenth / 10), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    if both_classes:
        y[:2], weights[:2] = [0, 1], [1, 1]
    return np.array(y), np.array(p), np.array(weights)


@settings(max_examples=40)
@given(samples())
def test_metrics_weighted_in_one_sort_agree_with_scikit_learn(sample):
    y, p, w = sample
    weighted = dict(zip(evaluation.METRICS, _weighted_metrics(y, p, **COSTS)(w), strict=True))
    assert weighted["roc_auc"] == pytest.approx(roc_auc_score(y, p, sample_weight=w))
    assert weighted["average_precision"] == pytest.approx(average_precision_score(y, p, sample_weight=w))
    assert weighted["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=w, labels=[0, 1]))
    assert weighted["brier"] == pytest.approx(brier_score_loss(y, p, sample_weight=w))
    repeated = evaluation.measure(np.repeat(y, w), np.repeat(p, w), **COSTS)
    assert weighted["expected_cost"] == pytest.approx(repeated["expected_cost"])
    assert weighted["cost_ratio"] == pytest.approx(repeated["cost_ratio"])


@settings(max_examples=40)
@given(samples(both_classes=False))
def test_equal_weights_give_the_plain_metrics_even_of_one_class(sample):
    y, p, _ = sample
    weighted = _weighted_metrics(y, p, **COSTS)(np.ones(len(y)))
    np.testing.assert_allclose(weighted, evaluation.measure(y, p, **COSTS))


@settings(max_examples=40)
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(sample, random):
    y, p, _ = sample
    order = random.sample(range(len(y)), len(y))
    mixed = evaluation.measure(y[order], p[order], **COSTS)
    np.testing.assert_allclose(mixed, evaluation.measure(y, p, **COSTS))


def test_measure_names_every_metric_in_order(rows):
    assert list(evaluation.measure(rows["y"], rows["p"], **COSTS).index) == list(evaluation.METRICS)


def test_calibration_error_without_ties_is_the_mean_gap_of_the_reliability_curve(rows):
    y, p = rows["y"], rows["p"]
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    expected = np.abs(observed - predicted).mean()  # the bins are of equal size, so the plain mean is the weighted one
    assert evaluation.calibration_error(y, p) == pytest.approx(expected)


@given(samples())
def test_calibration_error_of_a_constant_is_its_distance_from_the_base_rate(sample):
    y, _, _ = sample
    error = evaluation.calibration_error(y, np.full(len(y), 0.3))
    assert error == pytest.approx(abs(0.3 - y.mean()))


@given(samples())
def test_calibration_error_is_between_the_overall_gap_and_the_mean_distance(sample):
    y, p, _ = sample
    error = evaluation.calibration_error(y, p)
    assert abs(p.mean() - y.mean()) - 1e-12 <= error <= np.abs(p - y).mean() + 1e-12


def test_calibration_error_sees_what_cancels_in_one_wide_bin():
    y = np.r_[np.zeros(500), np.ones(5), np.zeros(495)]  # half the rows never happen, the other half at 1 %
    p = np.r_[np.full(500, 0.01), np.full(500, 0.0)]  # and the predictions have them the wrong way round
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="uniform")  # all in one bin
    assert observed == pytest.approx(predicted)
    assert evaluation.calibration_error(y, p) == pytest.approx(0.01)


def curve_error(y, p):
    """The calibration error of rows without ties, by scikit-learn's bins of equal count."""
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    return np.abs(observed - predicted).mean()


def test_the_noise_floor_is_the_error_of_targets_drawn_from_the_probabilities(rows):
    rng, p = np.random.default_rng(8), rows["p"].to_numpy()
    errors = [curve_error(rng.uniform(size=len(p)) < p, p) for _ in range(400)]
    found = evaluation.calibration(rows["y"], p, seed=0, draws=400)
    assert found["error"] == pytest.approx(curve_error(rows["y"], p))
    assert found["noise_mean"] == pytest.approx(np.mean(errors), rel=0.05)
    assert found["noise_high"] == pytest.approx(np.quantile(errors, 0.95), rel=0.1)


def calibrated_days(seed, *, weather):
    """Thirty days of a hundred rows: the probabilities are right over all days, and the weather moves each day's."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(30), 100)
    shares = rng.uniform(0.25, 0.75, len(day))
    moved = shares + rng.choice([-weather, weather], 30)[day]
    return (rng.uniform(size=len(day)) < moved).astype(int), shares, day


def test_a_calibrated_model_is_above_its_noise_floor_in_one_of_twenty_cases():
    above, above_alone, within = 0, 0, []
    for seed in range(200):
        y, p, day = calibrated_days(seed, weather=0.2)
        found = evaluation.calibration(y, p, seed=seed, groups=day)
        above += found["error"] > found["noise_high"]
        above_alone += found["error"] > evaluation.calibration(y, p, seed=seed, draws=40)["noise_high"]
        low, high = found[["intercept_low", "slope_low"]].to_numpy(), found[["intercept_high", "slope_high"]].to_numpy()
        within.append((low <= np.array([0, 1])) & (high >= np.array([0, 1])))
    assert 2 <= above <= 22  # of 200, 10 expected
    assert above_alone > 60  # to take its rows as independent finds fault with a calibrated model
    assert (np.mean(within, axis=0) > 0.9).all()


def test_rows_that_share_their_days_chance_have_a_higher_noise_floor():
    y, p, day = calibrated_days(0, weather=0.2)
    alone = evaluation.calibration(y, p, seed=0)
    shared = evaluation.calibration(y, p, seed=0, groups=day)
    assert shared["noise_mean"] > 1.3 * alone["noise_mean"]
    assert shared["intercept_high"] - shared["intercept_low"] > 1.5 * (alone["intercept_high"] - alone["intercept_low"])
    for name in ("error", "intercept", "slope"):
        assert shared[name] == pytest.approx(alone[name])


def test_errors_of_the_model_do_not_raise_its_noise_floor():
    y, p, day = calibrated_days(0, weather=0.05)
    right = evaluation.calibration(y, p, seed=0, groups=day)
    wrong = evaluation.calibration(y, p**3, seed=0, groups=day)
    assert wrong["error"] > 5 * right["error"]
    assert wrong["noise_mean"] == pytest.approx(right["noise_mean"], rel=0.1)


def test_intercept_and_slope_are_those_of_scikit_learns_logistic_regression(rows):
    x, y = logit(rows["p"].to_numpy()), rows["y"].to_numpy()
    found = evaluation.calibration(y, expit(1 + 0.5 * x), seed=0)
    assert found["slope"] == pytest.approx(LogisticRegression(C=np.inf).fit(x[:, None], y).coef_[0, 0] / 0.5, rel=1e-3)
    assert expit(found["intercept"] + 1 + 0.5 * x).mean() == pytest.approx(y.mean(), abs=1e-6)
    error = (found["intercept_high"] - found["intercept"]) / 1.96
    chance = expit(found["intercept"] + 1 + 0.5 * x)
    assert error == pytest.approx(1 / np.sqrt((chance * (1 - chance)).sum()), rel=0.1)  # of independent rows


@pytest.mark.parametrize("y", [np.zeros(20), np.r_[np.zeros(10), np.ones(10)]], ids=["one class", "one group"])
def test_without_two_classes_or_two_groups_there_is_no_interval(y):
    found = evaluation.calibration(y, np.linspace(0, 1, 20), seed=0, groups=np.zeros(20))
    assert found["error"] >= 0
    assert found.drop(["error", "intercept", "slope"]).isna().all()


def test_a_constant_has_an_intercept_and_no_slope(rows):
    found = evaluation.calibration(rows["y"], np.full(len(rows), 0.3), seed=0, groups=rows["day"])
    assert found["intercept"] == pytest.approx(logit(rows["y"].mean()) - logit(0.3), abs=1e-4)
    assert np.isnan(found["slope"])


def test_expected_cost_counts_a_probability_at_the_threshold_as_acted_upon():
    cost = evaluation.expected_cost([0, 1, 1, 0], [0.2, 0.2, 0.1, 0.1], **COSTS)
    assert cost == 1000 * (15 + 60) / 4


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_no_constant_decision_costs_less_than_ratio_one(rows, constant):
    assert evaluation.measure(rows["y"], np.full(len(rows), constant), **COSTS)["cost_ratio"] >= 1


@pytest.mark.parametrize("target", [0, 1])
def test_one_class_has_no_ranking_metric_and_no_interval_of_one(target):
    y = np.full(20, target)
    table = evaluation.intervals(y, np.linspace(0.1, 0.9, 20), **COSTS, **FEW)
    assert table.loc[["roc_auc", "average_precision"]].isna().all(axis=None)
    assert table.loc[["log_loss", "brier"]].notna().all(axis=None)


@settings(max_examples=40)
@given(samples())
def test_every_interval_holds_its_value_and_stays_in_range(sample):
    y, p, _ = sample
    table = evaluation.intervals(y, p, **COSTS, **FEW).dropna()
    assert (table["low"] <= table["value"] + 1e-9).all()
    assert (table["value"] <= table["high"] + 1e-9).all()
    assert (table["low"] >= 0).all()
    assert (table.loc[table.index.intersection(AT_MOST_ONE), "high"] <= 1).all()


def test_intervals_depend_on_the_seed_and_on_nothing_else(rows):
    once, again, other = (
        evaluation.intervals(rows["y"], rows["p"], **COSTS, draws=20, seed=seed, groups=rows["day"])
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(once, again)
    assert not once.equals(other)


def test_days_as_groups_widen_the_interval_when_rows_of_a_day_are_alike(rows):
    alone = evaluation.intervals(rows["y"], rows["p"], **COSTS, seed=1)
    by_day = evaluation.intervals(rows["y"], rows["p"], **COSTS, seed=1, groups=rows["day"])
    width = (by_day["high"] - by_day["low"]) / (alone["high"] - alone["low"])
    assert width["log_loss"] > 1.5


def test_groups_of_one_row_are_the_same_as_no_groups(rows):
    y, p = rows["y"].head(200), rows["p"].head(200)
    names = [f"row {i}" for i in range(200)]
    alone = evaluation.intervals(y, p, **COSTS, **FEW)
    pd.testing.assert_frame_equal(evaluation.intervals(y, p, **COSTS, **FEW, groups=names), alone)


def test_one_group_gives_no_interval(rows):
    table = evaluation.intervals(rows["y"], rows["p"], **COSTS, **FEW, groups=np.zeros(len(rows)))
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_the_bootstrap_error_of_the_brier_score_is_that_of_a_mean(rows):
    y, p = rows["y"].to_numpy(), rows["p"].to_numpy()
    row = evaluation.intervals(y, p, **COSTS, seed=4, draws=400).loc["brier"]
    expected = 2 * 1.96 * ((y - p) ** 2).std() / np.sqrt(len(y))
    assert row["high"] - row["low"] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("target", "probability", "message"),
    [
        ([0, 1], [0.5], "must have the 2 rows of target; got 1"),
        ([], [], "not empty"),
        ([0, 1], [[0.5, 0.5], [0.1, 0.9]], r"take the second column: \[:, 1\]"),
        ([0, np.nan], [0.5, 0.5], "Drop rows without a label"),
        ([0, 2], [0.5, 0.5], "target must be 0 or 1; 1 of 2"),
        ([0, 1], [0.5, np.nan], "do not or are NaN"),
        ([0, 1], [0.5, 1.2], "1 of 2 rows do not"),
        (pd.Series([0, 1]), pd.Series([0.5, 0.5], index=[1, 0]), "different indexes"),
    ],
)
@pytest.mark.parametrize("metric", [evaluation.brier_score, evaluation.calibration_error])
def test_what_is_no_target_or_probability_is_refused(metric, target, probability, message):
    with pytest.raises(ValueError, match=message):
        metric(target, probability)


def test_a_row_without_group_is_refused(rows):
    days = rows["day"].where(rows.index > 2)
    with pytest.raises(ValueError, match="3 of 3000 are missing"):
        evaluation.intervals(rows["y"], rows["p"], **COSTS, **FEW, groups=days)


def test_slices_of_a_column_hold_every_row_once(rows):
    table = evaluation.by_slice(rows["y"], rows["p"], slices=rows[["origin", "month"]], **COSTS, **FEW, min_rows=100)
    totals = table.groupby("slice")[["rows", "positives"]].sum()
    assert (totals["rows"] == len(rows)).all()
    assert (totals["positives"] == rows["y"].sum()).all()
    assert "(missing)" in set(table["value"])


def test_a_slice_has_the_metrics_and_intervals_of_its_rows(rows):
    days = {"groups": rows["day"], **FEW}
    table = evaluation.by_slice(rows["y"], rows["p"], slices=rows[["month"]], **COSTS, **days, min_rows=100)
    first = rows[rows["month"] == "2013-01"]
    alone = evaluation.intervals(first["y"], first["p"], **COSTS, **FEW, groups=first["day"])
    np.testing.assert_allclose(table.loc[0, list(evaluation.METRICS)].astype(float), alone["value"])
    assert table.loc[0, "log_loss_high"] == pytest.approx(alone.loc["log_loss", "high"])
    floor = evaluation.calibration(first["y"], first["p"], groups=first["day"], **FEW)["noise_high"]
    assert table.loc[0, "calibration_noise"] == pytest.approx(floor)


def test_a_slice_with_too_few_rows_is_named_and_not_measured(rows):
    table = evaluation.by_slice(rows["y"], rows["p"], slices=rows[["origin"]], **COSTS, **FEW, min_rows=100)
    small = table[table["value"] == "(missing)"].iloc[0]
    assert small["note"] == "too few rows"
    assert small[list(evaluation.METRICS)].isna().all()
    assert (table.loc[table["value"] != "(missing)", "note"] == "").all()


def test_a_slice_of_one_class_is_noted_and_keeps_its_log_loss(rows):
    answer = rows[["y"]].astype(str)
    table = evaluation.by_slice(rows["y"], rows["p"], slices=answer, **COSTS, **FEW, min_rows=100)
    assert set(table["note"]) == {"one class only"}
    assert table["roc_auc"].isna().all()
    assert table["log_loss"].notna().all()


def test_slices_of_other_rows_are_refused(rows):
    with pytest.raises(ValueError, match="slices and target have different indexes"):
        evaluation.by_slice(rows["y"], rows["p"], slices=rows[["month"]][::-1], **COSTS, **FEW, min_rows=1)


def compared(rows, champion, **changes):
    options = {"slices": rows[["month"]], "groups": rows["day"], "min_rows": 100, "champion_threshold": 0.2, **FEW}
    return evaluation.compare(rows["y"], rows["p"], champion=champion, **COSTS, **{**options, **changes})


def test_a_model_does_not_differ_from_itself(rows):
    table = compared(rows, rows["p"])
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)


def test_the_difference_is_that_of_the_two_models_alone(rows):
    champion = rows["p"] ** 2
    table = compared(rows, champion, champion_threshold=0.1).query("slice == 'all'").set_index("metric")
    mine = evaluation.measure(rows["y"], rows["p"], **COSTS)
    theirs = evaluation.measure(rows["y"], champion, **COSTS | {"threshold": 0.1})
    expected = (mine - theirs)[["log_loss", "expected_cost"]]
    np.testing.assert_allclose(table.loc[expected.index, "difference"], expected)


def test_pairing_makes_the_difference_of_like_models_sharper_than_either_model(rows):
    table = compared(rows, rows["p"] * 0.98).query("slice == 'all' and metric == 'log_loss'")
    alone = evaluation.intervals(rows["y"], rows["p"], **COSTS, **FEW, groups=rows["day"]).loc["log_loss"]
    assert (table["high"] - table["low"]).item() < (alone["high"] - alone["low"]) / 5


def test_more_slices_make_the_interval_of_each_wider_but_not_that_of_all_rows(rows):
    few, more = (compared(rows, rows["p"] * 0.9, slices=rows[names]) for names in (["month"], ["month", "origin"]))
    width_few, width_more = few["high"] - few["low"], more["high"] - more["low"]
    assert width_few[0] == width_more[0]
    assert width_few[2] < width_more[2]


def test_slices_too_small_to_judge_are_left_out_of_the_comparison(rows):
    assert "(missing)" not in set(compared(rows, rows["p"], slices=rows[["origin"]])["value"])


@pytest.mark.parametrize(
    ("champion", "message"),
    [
        (lambda p: p.iloc[:-1], "champion must have the 3000 rows"),
        (lambda p: p.iloc[::-1], "champion and target have different indexes"),
        (lambda p: p * 2, "champion must lie in"),
    ],
)
def test_a_champion_scored_on_other_rows_or_with_other_numbers_is_refused(rows, champion, message):
    with pytest.raises(ValueError, match=message):
        compared(rows, champion(rows["p"]))


def test_evidence_has_a_table_for_everything_it_was_given(rows):
    everything = {"slices": rows[["origin"]], "champion": rows["p"], "champion_threshold": 0.3, "groups": rows["day"]}
    tables = evaluation.evidence(rows["y"], rows["p"], **everything, **COSTS, **FEW, min_rows=100)
    assert list(tables) == ["metrics", "calibration", "slices", "comparison"]
    assert list(evaluation.evidence(rows["y"], rows["p"], **COSTS, **FEW, min_rows=100)) == ["metrics", "calibration"]


def test_a_champion_without_its_threshold_is_refused(rows):
    with pytest.raises(ValueError, match="champion_threshold is missing"):
        evaluation.evidence(rows["y"], rows["p"], champion=rows["p"], **COSTS, **FEW, min_rows=100)


def test_nothing_given_is_changed(rows):
    before = rows.copy(deep=True)
    compared(rows, rows["p"])
    evaluation.by_slice(rows["y"], rows["p"], slices=rows[["origin"]], **COSTS, **FEW, min_rows=100)
    pd.testing.assert_frame_equal(rows, before)


@pytest.fixture(scope="module")
def pictures(rows):
    slices = evaluation.by_slice(rows["y"], rows["p"], slices=rows[["origin"]], **COSTS, **FEW, min_rows=100)
    return {
        "reliability": evaluation.plot_reliability(rows["y"], rows["p"], title="a finding"),
        "slices": evaluation.plot_slices(slices, "roc_auc", title="a finding"),
    }


@pytest.mark.parametrize("name", ["reliability", "slices"])
def test_a_picture_has_its_title_and_labels_and_leaves_no_global_state(pictures, name, tmp_path):
    from matplotlib import pyplot

    figure = pictures[name]
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title() == "a finding"
    assert figure.axes[0].get_xlabel()
    assert not pyplot.get_fignums()
    figure.savefig(tmp_path / "figure.png")


@pytest.mark.parametrize("weather", [0.0, 0.2])
def test_the_band_of_a_calibrated_model_holds_about_nineteen_of_twenty_dots(weather):
    held = []
    for seed in range(40):
        y, p, day = calibrated_days(seed, weather=weather)
        axes = evaluation.plot_reliability(y, p, title="", groups=day if weather else None).axes[0]
        dots = axes.lines[-1].get_xydata()
        band = axes.collections[0].get_paths()[0].vertices
        low = np.array([band[band[:, 0] == x, 1].min() for x in dots[:, 0]])
        high = np.array([band[band[:, 0] == x, 1].max() for x in dots[:, 0]])
        held.append((low <= dots[:, 1]) & (dots[:, 1] <= high))
    assert 0.92 < np.mean(held) < 0.98


def test_a_picture_of_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"metric must be one of roc_auc.*got 'auc'"):
        evaluation.plot_slices(pd.DataFrame(), "auc", title="")
