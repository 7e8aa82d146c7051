import json
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import mlops_course
from mlops_course import design

VALID = """\
name: parcels
version: 1.10
decision: The dispatcher calls the customer, or does not.
users: [dispatcher]
value: Fewer parcels that come back, against calling nobody.
kpis:
  - {name: returns, indicator: Share of parcels returned, direction: at most, goal: 0.03, unit: share, window_days: 30}
data_sources: [scanner log]
data_collection: Each delivery is logged.
target: {column: returned, definition: Scanned back in., positive: comes back, label_delay: two weeks}
timing: {prediction_time: asked, label_time: closed, lead: PT12H}
costs: {false_alarm: 2, missed: 9.5, unit: EUR per parcel, training: 50, serving: 0.5}
inputs: {datetime: [], numeric: [weight, floor], categorical: [depot]}
features: {numeric: [weight, storey], categorical: [depot]}
slices: [depot]
slos:
  - {name: answers, indicator: Share of requests answered, objective: 0.99, window_days: 28}
gates:
  min_roc_auc: 0.6
  max_calibration_error: 0.1
  max_cost_ratio: 1.0
  tolerated_loss: 0.01
  when_not_known: hold
  min_slice_rows: 50
  max_slice_auc_drop: 0.1
  max_latency_ms: 100
monitoring:
  window_days: 7
  psi_warning: 0.1
  psi_alert: 0.25
  max_missing_rise: 0.1
  max_rate_gap: 0.1
  max_label_age_days: 21
  max_false_alarms_per_year: 4
retraining: {min_new_rows: 1000, max_log_loss_rise: 0.05, max_age_days: 90, cooldown_days: 14}
risk: {level: minimal, basis: Sorts parcels., as_of: 2026-11-23}
"""

ANSWERS = "{name: answers, indicator: Rate of answers, objective: 0.9, window_days: 7}"

USE_CASES = pd.DataFrame(
    {
        "name": ["delays", "prices", "chat"],
        "value_low": [100.0, 300.0, 10.0],
        "value_high": [200.0, 900.0, 500.0],
        "feasibility_low": [0.7, 0.1, 0.3],
        "feasibility_high": [0.9, 0.4, 0.9],
        "risk_low": [0.0, 0.2, 0.1],
        "risk_high": [0.1, 0.6, 0.5],
    }
)
ITEMS = pd.DataFrame(
    {
        "item": ["engineer", "GPU", "storage"],
        "quantity": [400, 30, 12],
        "unit": ["hour", "hour", "month"],
        "unit_price": [80.0, 2.5, 10.0],
        "paid": ["once", "once", "yearly"],
    }
)


def replaced(old, new):
    assert VALID.count(old) == 1, f"{old!r} must stand once in the valid text"
    return VALID.replace(old, new)


def defects(text):
    with pytest.raises(design.SpecificationError) as caught:
        design.parse_specification(text)
    assert str(caught.value) == "\n".join(caught.value.defects)
    return caught.value.defects


@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps])
def test_a_specification_survives_being_written_and_read(write):
    specification = design.parse_specification(VALID)
    assert design.parse_specification(write(specification.model_dump(mode="json"))) == specification


def test_the_field_and_not_yaml_decides_what_a_scalar_means():
    specification = design.parse_specification(replaced("[weight, floor]", "[no, 1e3]"))
    assert specification.version == "1.10"
    assert specification.inputs.all == ["no", "1e3", "depot"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("users: [dispatcher]\n", "", "users: is missing; expected list of the people"),
        ("users: [dispatcher]", "users: []", "users: is empty"),
        ("users: [dispatcher]", "users: dispatcher", "users: is not a list"),
        ("version: 1.10", "version:", "version: is empty"),
        ("version: 1.10", "version: [1, 10]", "version: is not text"),
        (
            "costs: {false_alarm: 2, missed: 9.5, unit: EUR per parcel, training: 50, serving: 0.5}",
            "costs: 2",
            "costs: is not a mapping",
        ),
        ("min_slice_rows: 50", "min_slice_rows: [50]", "gates.min_slice_rows: is not a whole number"),
        ("missed: 9.5", "missed: 0", "costs.missed: is too small; expected more than 0; got '0'"),
        ("missed: 9.5", "missed: yes", "costs.missed: is not a number"),
        ("missed: 9.5", "missed: .inf", "costs.missed: is not a number"),
        ("missed: 9.5", "missed: nan", "costs.missed: is not finite"),
        ("lead: PT12H", "lead: -PT1H", "timing.lead: is too small"),
        ("lead: PT12H", "lead: 12:00", "timing.lead: is not a duration"),
        ("label_time: closed", "label_time: asked", "timing: uses one column for both moments"),
        ("objective: 0.99", "objective: 1", "slos.0.objective: is too large; expected less than 1"),
        ("objective: 0.99", "objective: 0", "slos.0.objective: is too small; expected more than 0"),
        ("Share of requests answered", "Users are happy", "slos.0.indicator: cannot be measured"),
        ("Share of parcels returned", "A rated service", "kpis.0.indicator: cannot be measured"),
        ("slos:\n", f"slos:\n  - {ANSWERS}\n", "slos: names something twice"),
        ("goal: 0.03, ", "", "kpis.0.goal: is missing"),
        ("goal: 0.03", "goal: [3]", "kpis.0.goal: is not a number"),
        ("window_days: 7", "window_days: 7.5", "monitoring.window_days: is not a whole number"),
        (
            "numeric: [weight, storey], categorical: [depot]",
            "numeric: [], categorical: []",
            "features: names no column",
        ),
        ("storey]", "returned]", "features: holds the target"),
        ("storey]", "closed]", "features: holds the target"),
        ("floor]", "asked]", "inputs: holds the target"),
        ("storey]", "weight]", "features.numeric: names something twice"),
        ("storey]", "depot]", "features: names something twice"),
        ("slices: [depot]", "slices: [depots]", "slices: names no input; expected 'depot'; got 'depots'"),
        ("psi_alert: 0.25", "psi_alert: 0.1", "monitoring.psi_alert: would alert before it warns"),
        ("level: minimal", "level: none", "risk.level: is not one of the choices; expected 'minimal', 'limited'"),
        (", as_of: 2026-11-23", "", "risk.as_of: is missing"),
        ("2026-11-23", "2026-11-31", "risk.as_of: is not a date"),
        ("2026-11-23", "0", "risk.as_of: is not a date"),
        ("slos:", "slo:", "slo: is not a known field; expected 'slos'; got 'slo'"),
        ("min_slice_rows", "min_rows", "gates.min_rows: is not a known field; expected 'min_slice_rows'"),
        ("name: parcels", "name: parcels\nname: letters", "name: is written twice; expected it once; got lines 1 and"),
        ("missed: 9.5", "missed: 9.5, missed: 9", "missed: is written twice"),
    ],
)
def test_a_defect_is_named_by_its_field(old, new, line):
    assert defects(replaced(old, new))[-1].startswith(line)


def test_a_defective_line_says_what_is_wrong_what_was_expected_and_what_came():
    shape = re.compile(r"[\w.]+: .+; expected .+; got .+")
    assert all(map(shape.fullmatch, defects("costs: {missed: -1, x: 2}\nusers: nobody\nname: a\nname: b")))


def test_all_defects_are_named_at_once():
    text = replaced("slices: [depot]", "slices: [street]").replace("0.99", "99").replace("missed: 9.5", "missed: -1")
    named = [line.split(":")[0] for line in defects(text + "name: letters")]
    assert named == ["name", "costs.missed", "slices", "slos.0.objective"]


@pytest.mark.parametrize("text", ["", "- parcels", "name: a: b", "costs: [", "\0", "{[a]: 1}", "a: &a [*a]"])
def test_text_that_is_no_mapping_is_refused_in_one_line(text):
    assert [line.split(":")[0] for line in defects(text)] == ["specification"]


@pytest.mark.parametrize("content", [None, b"name: \xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "specification.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(design.SpecificationError, match=r"specification\.yaml: cannot be read; expected a YAML file"):
        design.load_specification(path)


def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "specification.yaml"
    path.write_text(VALID, encoding="utf-8-sig")
    assert design.load_specification(path) == design.parse_specification(VALID)


def test_a_specification_cannot_be_changed():
    specification = design.parse_specification(VALID)
    with pytest.raises(ValidationError, match="frozen"):
        specification.costs.missed = 1.0
    assert hash(specification) == hash(design.parse_specification(VALID))


def test_the_specification_of_the_flights_is_free_of_defects():
    specification = design.load_specification(Path(mlops_course.__file__).parent / "flights" / "specification.yaml")
    assert len(specification.inputs.all) == len(specification.features.all) == 24
    assert specification.target.column not in specification.inputs.all + specification.features.all


def test_the_canvas_has_ten_boxes_and_none_is_empty():
    title, *boxes = re.split(r"^## ", design.canvas(design.parse_specification(VALID)), flags=re.MULTILINE)
    assert title.startswith("# parcels")
    assert len(boxes) == 10
    assert all(re.fullmatch(r"[\w ]+\n\n(- .+\n)+\n?", box) for box in boxes)


@pytest.mark.parametrize(
    "statement",
    [
        "dispatcher",
        "scanner log",
        "`storey`",
        "2 EUR per parcel more than the right decision",
        "12 hours",
        "least 99 %",
    ],
)
def test_the_canvas_says_what_the_specification_says(statement):
    assert statement in design.canvas(design.parse_specification(VALID))


@given(unit=st.floats(1e-6, 1e6))
def test_the_ranking_does_not_depend_on_the_unit_of_money(unit):
    money, probabilities = ["mean", "p5", "p95"], ["name", "share_first"]
    ranking = design.rank_use_cases(USE_CASES, draws=200, seed=0)
    other = USE_CASES.assign(value_low=USE_CASES["value_low"] * unit, value_high=USE_CASES["value_high"] * unit)
    converted = design.rank_use_cases(other, draws=200, seed=0)
    pd.testing.assert_frame_equal(converted[probabilities], ranking[probabilities])
    np.testing.assert_allclose(converted[money], ranking[money] * unit)


@given(order=st.permutations([0, 1, 2]))
def test_the_ranking_does_not_depend_on_the_order_of_rows(order):
    ranking = design.rank_use_cases(USE_CASES, draws=50, seed=0)
    pd.testing.assert_frame_equal(design.rank_use_cases(USE_CASES.iloc[order], draws=50, seed=0), ranking)


def test_a_use_case_is_worth_the_product_of_the_middles_of_its_ranges():
    ranking = design.rank_use_cases(USE_CASES, draws=100_000, seed=0).set_index("name")
    middles = {"delays": 150 * 0.8 * 0.95, "prices": 600 * 0.25 * 0.6, "chat": 255 * 0.6 * 0.7}
    assert ranking["mean"].to_dict() == pytest.approx(middles, rel=0.01)
    assert list(ranking.index) == ["delays", "chat", "prices"]


def test_nine_in_ten_draws_lie_between_the_ends_that_the_ranking_gives():
    certain = USE_CASES.assign(feasibility_low=1, feasibility_high=1, risk_low=0, risk_high=0)
    ranking = design.rank_use_cases(certain, draws=100_000, seed=0).set_index("name")
    assert ranking.loc["delays", ["p5", "p95"]].tolist() == pytest.approx([105, 195], rel=0.01)


def test_the_share_of_draws_ranked_first_is_the_probability_of_being_the_best():
    certain = USE_CASES.assign(feasibility_low=1, feasibility_high=1, risk_low=0, risk_high=0)
    ranking = design.rank_use_cases(certain, draws=100_000, seed=0).set_index("name")
    chat_wins = (500 - 300) ** 2 / 2 / ((900 - 300) * (500 - 10))  # area above the diagonal, over the whole rectangle
    assert ranking["share_first"].to_dict() == pytest.approx(
        {"prices": 1 - chat_wins, "chat": chat_wins, "delays": 0}, abs=0.005
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_low": 1e9}, "low <= high"),
        ({"risk_high": 1.1}, "between 0 and 1"),
        ({"feasibility_low": -0.1}, "between 0 and 1"),
        ({"value_high": np.nan}, "finite numbers.*value_high"),
        ({"risk_low": "small"}, "finite numbers.*risk_low"),
        ({"name": "same"}, "each use case has its own"),
    ],
)
def test_use_cases_that_cannot_be_ranked_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        design.rank_use_cases(USE_CASES.assign(**change), draws=10, seed=0)


@pytest.mark.parametrize(
    ("use_cases", "draws", "message"),
    [
        (USE_CASES.drop(columns="risk_low"), 10, "missing: risk_low"),
        (USE_CASES.drop(columns="name"), 10, "column 'name'"),
        (USE_CASES.iloc[:0], 10, "got 0 and 10"),
        (USE_CASES, 0, "got 3 and 0"),
    ],
)
def test_a_ranking_needs_its_columns_a_row_and_a_draw(use_cases, draws, message):
    with pytest.raises(ValueError, match=message):
        design.rank_use_cases(use_cases, draws=draws, seed=0)


@given(objective=st.sampled_from([0.9, 0.99, 0.995, 0.999, 0.9999]), total=st.integers(1, 10**9), data=st.data())
def test_what_an_error_budget_allows_is_spent_or_left(objective, total, data):
    budget = design.error_budget(objective, total=total, failed=data.draw(st.integers(0, total)))
    assert budget.allowed == pytest.approx(budget.spent + budget.left)
    assert budget.share_left == pytest.approx(1 - budget.spent / budget.allowed)


@pytest.mark.parametrize(("objective", "total"), [(0.999, 1000), (0.9, 10), (0.995, 200), (0.9999, 10_000)])
def test_the_last_allowed_failure_leaves_exactly_nothing(objective, total):
    budget = design.error_budget(objective, total=total, failed=1)
    assert asdict(budget) == {"allowed": 1, "spent": 1, "left": 0, "share_left": 0}


def test_before_the_first_event_the_whole_budget_is_left():
    assert design.error_budget(0.99, total=0, failed=0).share_left == 1


@pytest.mark.parametrize(
    ("objective", "total", "failed"),
    [(1, 9, 0), (0, 9, 0), (99, 9, 0), (0.9, 9, 10), (0.9, 9, -1), (0.9, 9, 0.5), (0.9, np.inf, 1)],
)
def test_a_budget_of_impossible_numbers_is_refused(objective, total, failed):
    with pytest.raises(ValueError, match=r"expected .*; got"):
        design.error_budget(objective, total=total, failed=failed)


def test_what_is_paid_yearly_is_paid_in_every_year():
    sheet = design.operating_cost(ITEMS, years=3)
    assert sheet["cost"].tolist() == [400 * 80, 30 * 2.5, 12 * 10 * 3]
    assert "cost" not in ITEMS


@pytest.mark.parametrize(
    ("items", "years", "message"),
    [
        (ITEMS.assign(paid="monthly"), 1, "'once' or 'yearly'.*got 'monthly'"),
        (ITEMS.assign(quantity=-1), 1, "no negative quantity"),
        (ITEMS.assign(unit_price=np.inf), 1, "finite numbers.*unit_price"),
        (ITEMS.drop(columns="unit_price"), 1, "missing: unit_price"),
        (ITEMS.drop(columns="unit"), 1, "missing: unit"),
        (ITEMS, 0, "more than 0 years"),
    ],
)
def test_a_cost_sheet_with_unusable_rows_is_refused(items, years, message):
    with pytest.raises(ValueError, match=message):
        design.operating_cost(items, years=years)


@given(fixed_cost=st.integers(0, 10**9), variable=st.integers(0, 10**6), margin=st.integers(1, 10**6))
def test_the_break_even_volume_is_the_smallest_that_pays(fixed_cost, variable, margin):
    cents = Fraction(margin, 100)
    volume = design.break_even_volume(fixed_cost, value=(variable + margin) / 100, variable_cost=variable / 100)
    assert (volume - 1) * cents < fixed_cost <= volume * cents


@pytest.mark.parametrize(
    ("fixed_cost", "value", "variable_cost"), [(10, 1, 1), (10, 1, 2), (-1, 1, 0), (1, 1, -1), (10, np.inf, 1)]
)
def test_a_volume_that_does_not_exist_is_refused(fixed_cost, value, variable_cost):
    with pytest.raises(ValueError, match=r"expected .*; got"):
        design.break_even_volume(fixed_cost, value=value, variable_cost=variable_cost)
