"""The starter project: what is inferred from a table, trap by trap, and one project from the file to the gate."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import date
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from pydantic import ValidationError

from mlops_course import starter
from mlops_course.commands.starter import new
from mlops_course.design import load_specification
from mlops_course.operations.deployment import batch
from mlops_course.operations.deployment.serving import Servable, request_type
from mlops_course.starter import columns, reading
from mlops_course.starter import table as tables

ROWS = 600


def plain(rows: int) -> pd.DataFrame:
    """A table without traps: a time, a number, a category and an answer that hangs on both."""
    rng = np.random.default_rng(0)
    load, site = rng.normal(50, 10, rows).round(1), rng.choice(["north", "south"], rows)
    answer = rng.random(rows) < 1 / (1 + np.exp(-(load - 50) / 8 - (site == "north")))
    times = pd.date_range("2024-01-01", periods=rows, freq="7h").strftime("%Y-%m-%d %H:%M")
    return pd.DataFrame({"time": times, "load": load, "site": site, "failed": np.where(answer, "yes", "no")})


@pytest.fixture
def table():
    return plain(ROWS)


@pytest.fixture
def infer(tmp_path):
    """Write a table as CSV, and judge it."""

    def judge(frame, *, target="failed", time="time", **options):
        frame.to_csv(tmp_path / "table.csv", index=False)
        return tables.infer(tmp_path / "table.csv", tables.Choices(target, time, **options))

    return judge


def line(judgement, column, word=""):
    """The line that tells of a column, as one text."""
    found = [f"{one.seen} | {one.decided} | {one.why}" for one in judgement.findings if one.column == column]
    return next(text for text in found if word in text)


def used(judgement):
    return {name for names in judgement.plan["inputs"].values() for name in names}


# Traps, each by itself ------------------------------------------------------------------------------------------------


def test_the_plain_table_is_used_as_it_is(table, infer):
    found = infer(table)
    assert found.plan["inputs"] == {"datetime": ["time_utc"], "numeric": ["load"], "categorical": ["site"]}
    assert found.facts["rows"] == ROWS


TRAPS = {  # a column, and what must be said of it; all of these are left out
    "identifier": (lambda rng: [f"A{n}" for n in rng.permutation(ROWS)], "name of the row"),
    "number of the row": (lambda rng: np.arange(ROWS) + 7_000, "name of the row"),
    "constant": (lambda rng: ["AT"] * ROWS, "a constant"),
    "empty": (lambda rng: [""] * ROWS, "missing in 100 %"),
    "high cardinality": (lambda rng: [f"P{n}" for n in rng.integers(0, 200, ROWS)], "high cardinality"),
    "free text": (lambda rng: [f"please call me back at {n}" for n in range(ROWS)], "free text"),
    "customer_id": (lambda rng: rng.integers(0, 500, ROWS), "an identifier"),
    "later": (lambda rng: pd.date_range("2025-01-01", periods=ROWS, freq="7h"), "not known when"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_column_that_is_of_no_use_is_left_out_and_named(table, infer, name):
    make, said = TRAPS[name]
    found = infer(table.assign(**{name: make(np.random.default_rng(1))}))
    assert name not in used(found)
    assert said in line(found, name)


@pytest.mark.parametrize("name", ["humid", "Paid"])
def test_a_number_whose_name_only_ends_like_an_id_is_used(table, infer, name):
    assert name in used(infer(table.assign(**{name: np.random.default_rng(1).normal(60, 10, ROWS).round(3)})))


def test_a_column_that_gives_the_target_away_is_left_out_unless_asked_for(table, infer):
    rng = np.random.default_rng(1)
    leaky = table.assign(closed=np.where(table["failed"] == "yes", rng.uniform(2, 9, ROWS), rng.uniform(0, 1.9, ROWS)))
    assert "gives the target away" in line(infer(leaky), "closed")
    assert "closed" in used(infer(leaky, keep=["closed"]))


def test_a_column_that_is_only_filled_after_the_fact_gives_the_target_away(table, infer):
    reasons = np.random.default_rng(1).choice(["a", "b", "c"], ROWS)
    found = infer(table.assign(reason_given=np.where(table["failed"] == "yes", reasons, "")))
    assert "gives the target away" in line(found, "reason_given")


def test_a_number_that_gives_it_away_in_the_middle_is_found_too(table, infer):
    rng = np.random.default_rng(1)
    found = infer(
        table.assign(x=np.where(table["failed"] == "yes", rng.normal(0, 0.1, ROWS), rng.choice([-5, 5], ROWS)))
    )
    assert "gives the target away" in line(found, "x")


def test_a_strong_column_is_used_and_named(table, infer):
    answer = (table["failed"] == "yes").astype(float)
    found = infer(table.assign(strong=(answer + np.random.default_rng(1).normal(0, 0.75, ROWS)).round(3)))
    assert "strong" in used(found)
    assert re.search(r"alone it has AUC 0\.8\d: find out when", line(found, "strong"))


LEAKS = {  # columns made from the answer, and what must be said of them: none is used until it is asked for
    "nearly decides": ("delay", lambda yes, rng: (yes + rng.normal(0, 0.45, ROWS)).round(3), "gives the target away"),
    "a prediction": ("y_pred_proba", lambda yes, rng: rng.random(ROWS).round(3), "its name says"),
    "a prediction of capitals": ("yPred", lambda yes, rng: (yes + rng.normal(0, 9, ROWS)).round(3), "its name says"),
    "a score": ("risk_score", lambda yes, rng: (yes + rng.normal(0, 0.9, ROWS)).round(3), "its name says"),
    "an outcome": ("Outcome", lambda yes, rng: (yes + rng.normal(0, 0.9, ROWS)).round(3), "its name says"),
    "filled for one answer": ("boat", lambda yes, rng: np.where((yes == 1) & (rng.random(ROWS) < 0.3),
                                                               rng.choice(["A", "B"], ROWS), ""), "it is filled"),
    "missing for one answer": ("exit", lambda yes, rng: np.where((yes == 1) & (rng.random(ROWS) < 0.3), "",
                                                                [f"{n % 99}" for n in range(ROWS)]), "it is missing"),
    "a value of one answer": ("state", lambda yes, rng: np.where((yes == 1) & (rng.random(ROWS) < 0.3), "written off",
                                                                rng.choice(["a", "b"], ROWS)), "it is 'written off'"),
    "a number of one answer": ("balance", lambda yes, rng: np.where((yes == 1) & (rng.random(ROWS) < 0.3), -1,
                                                                   rng.integers(0, 99, ROWS)), "it is -1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_left_out_with_its_reason_until_it_is_asked_for(table, infer, name):
    column, make, said = LEAKS[name]
    answer = (table["failed"] == "yes").to_numpy().astype(float)
    leaky = table.assign(**{column: make(answer, np.random.default_rng(1))})
    assert said in (told := line(infer(leaky), column))
    assert f"--keep {column}" in told
    assert column in used(infer(leaky, keep=[column]))


@pytest.mark.parametrize("name", ["credit_score", "result", "predecessor", "problem", "scored_by"])
def test_a_column_without_a_leak_is_used_whatever_its_name(table, infer, name):
    assert name in used(infer(table.assign(**{name: np.random.default_rng(1).normal(size=ROWS).round(3)})))


def test_an_empty_cell_that_says_nothing_is_no_leak(table, infer):
    gaps = table.assign(load=table["load"].where(np.random.default_rng(1).random(ROWS) < 0.6))
    assert used(infer(gaps)) == {"time_utc", "load", "site"}


def test_noise_of_many_values_is_no_leak():
    rng = np.random.default_rng(3)
    label = pd.Series((rng.random(4_000) < 0.02).astype(float))
    assert abs(columns.probe(pd.Series([f"v{n}" for n in rng.integers(0, 3_000, 4_000)]), label) - 0.5) < 0.1
    assert abs(columns.probe(pd.Series(rng.normal(size=4_000)), label) - 0.5) < 0.1


@pytest.mark.parametrize(("yes", "no"), [("true", "false"), ("Y", "N"), ("ja", "nein"), ("on", "off")])
def test_truths_as_text_become_0_and_1(table, infer, yes, no):
    found = infer(table.assign(paid=[yes, no, no] * (ROWS // 3)))
    read = reading.convert(
        pd.DataFrame({"paid": [yes, no, "", "n/a"]}), {"columns": {"paid": found.plan["columns"]["paid"]}}
    )
    np.testing.assert_array_equal(read["paid"], [1, 0, np.nan, np.nan])
    assert "as text" in line(found, "paid")


@pytest.mark.parametrize(
    ("form", "day"),
    [("%Y-%m-%d", "2024-02-29"), ("%d.%m.%Y", "29.02.2024"), ("%Y%m%d", "20240229"), ("%b %d, %Y", "Feb 29, 2024")],
)
def test_dates_as_text_become_points_in_time(table, infer, form, day):
    before = pd.to_datetime(table["time"]) - pd.to_timedelta(np.arange(ROWS) % 90 + 1, unit="D")
    found = infer(table.assign(since=before.dt.strftime(form)))
    plan = {"columns": {"since": found.plan["columns"]["since"]}}
    assert "since" in found.plan["inputs"]["datetime"]
    assert reading.convert(pd.DataFrame({"since": [day]}), plan)["since"].iloc[0] == pd.Timestamp("2024-02-29")


def test_words_among_numbers_are_missing_and_named(table, infer):
    found = infer(table.assign(score=["not rated" if n % 7 == 0 else f"{n / 10}" for n in range(ROWS)]))
    assert found.plan["columns"]["score"]["missing"] == ["not rated"]
    assert "read as missing: 'not rated' (86 times)" in line(found, "score")


STRANGE_VALUES = {
    "a code": (lambda rng: np.where(rng.random(ROWS) < 0.3, -999, rng.integers(18, 90, ROWS)), "-999 in 3"),
    "an age": (lambda rng: np.where(np.arange(ROWS) == 7, 65_526, rng.integers(18, 90, ROWS)), "65526 lies far"),
    "a date": (lambda rng: np.where(np.arange(ROWS) == 7, "2106-02-07", "2001-01-01"), "dates such as 2106-02-07"),
}


@pytest.mark.parametrize("name", STRANGE_VALUES)
def test_values_that_can_hardly_be_get_a_remark(table, infer, name):
    make, said = STRANGE_VALUES[name]
    assert said in line(infer(table.assign(x=make(np.random.default_rng(1)))), "x")


def test_a_code_for_missing_is_read_as_missing_once_the_plan_says_so():
    plan = {"columns": {"x": {"kind": "number", "missing": ["-999"]}}}
    for cells in (["-999", "5"], [-999, 5]):
        assert reading.convert(pd.DataFrame({"x": cells}), plan)["x"].isna().tolist() == [True, False]


@pytest.mark.parametrize("rng", [np.random.default_rng(seed) for seed in range(3)])
def test_usual_numbers_get_no_remark(table, infer, rng):
    usual = table.assign(a=rng.normal(50, 10, ROWS), b=rng.exponential(9, ROWS).round(2), c=rng.integers(0, 100, ROWS))
    assert all("far from" not in line(infer(usual), name) for name in "abc")


@pytest.mark.parametrize(
    ("form", "cell"), [("${:,.2f}", "$39,811.00"), ("-${:,.2f}", "-$39,811.00"), ("{:.1f}%", "43.2%"), ("{} €", "17 €")]
)
def test_money_and_percent_are_numbers(table, infer, form, cell):
    found = infer(table.assign(pay=[form.format(n * 17) for n in range(ROWS)]))
    assert "pay" in found.plan["inputs"]["numeric"]
    read = reading.convert(pd.DataFrame({"pay": [cell]}), {"columns": {"pay": found.plan["columns"]["pay"]}})
    assert read["pay"].iloc[0] == float(re.sub("[$€%, ]", "", cell))


def test_amounts_in_two_currencies_are_no_numbers(table, infer):
    assert "pay" not in infer(table.assign(pay=[f"{'$€'[n % 2]}{n}" for n in range(ROWS)])).plan["inputs"]["numeric"]


def test_numbers_among_words_are_a_category_and_named(table, infer):
    found = infer(table.assign(room=np.resize(["101", "102", "hall", "lab"], ROWS)))
    assert "room" in found.plan["inputs"]["categorical"]
    assert "mixed: 50 % numbers" in line(found, "room")


def test_digits_with_a_leading_zero_are_a_code(table, infer):
    found = infer(table.assign(postcode=np.resize(["01010", "01020", "10300"], ROWS)))
    assert "postcode" in found.plan["inputs"]["categorical"]


def test_a_column_twice_is_used_once(table, infer):
    assert "the same as load" in line(infer(table.assign(load_again=table["load"])), "load_again")


def test_columns_are_left_out_on_request(table, infer):
    assert line(infer(table, drop=["site"]), "site") == " | left out | --drop"


def test_a_name_that_the_frames_use_is_changed(table, infer):
    found = infer(table.assign(batch=np.arange(ROWS) % 3, reason=np.arange(ROWS) % 5 / 2))
    assert {"batch_", "reason_"} <= used(found)
    assert "called batch_" in line(found, "batch")


@pytest.mark.parametrize(("once", "rows"), [(False, 630), (True, 600)])
def test_rows_that_are_alike_are_kept_unless_they_are_to_be_read_once(table, infer, tmp_path, once, rows):
    found = infer(pd.concat([table, table.head(30)]), once=once)
    read = reading.read(tmp_path / "table.csv", found.plan)
    assert (len(read), read["row_id"].nunique(), found.facts["rows"]) == (rows, rows, rows)
    assert "30 of 630 rows repeat another" in line(found, "(rows)", "repeat")


def test_people_who_are_alike_are_counted_as_often_as_they_come(infer, tmp_path):
    rng = np.random.default_rng(0)
    kinds = pd.DataFrame({"plan": ["basic", "pro"], "size": [0, 1], "left": ["N", "S"]})
    found = infer(kinds.iloc[(rng.random(2_000) < 0.14).astype(int)], target="left", time=None, positive="S",
                  keep=["plan", "size"])  # fmt: skip
    assert found.facts["rows"] == 2_000
    assert 0.12 < found.facts["share"] < 0.16
    assert reading.read(tmp_path / "table.csv", found.plan)["row_id"].is_unique


@pytest.mark.parametrize("options", [{}, {"id": "order_id"}])
def test_a_key_that_repeats_has_to_be_decided(table, infer, options):
    twice = pd.concat([named := table.assign(order_id=[f"A{n}" for n in range(ROWS)]), named.head(200)])
    with pytest.raises(ValueError, match=r"read them once: --once|--once reads them once"):
        infer(twice, **options)
    assert infer(twice, once=True).plan["id"] == "order_id"
    assert infer(twice, drop=["order_id"]).facts["rows"] == ROWS + 200


@pytest.mark.parametrize("options", [{}, {"group": "who"}])
def test_rows_of_a_client_stay_together_where_there_is_no_time(table, infer, tmp_path, options):
    name = options.get("group", "client_id")
    clients = table.drop(columns="time").assign(**{name: np.random.default_rng(1).integers(0, 60, ROWS) + 500})
    found = infer(clients, time=None, **options)
    assert name not in used(found)
    assert "stay together" in line(found, name)
    times = reading.read(tmp_path / "table.csv", found.plan)["made_up_time"]
    assert times.groupby(clients[name].to_numpy()).nunique().max() == 1


def test_a_client_who_comes_again_is_named_where_there_is_time(table, infer):
    assert "parted by time only" in line(infer(table.assign(client_id=np.arange(ROWS) % 60 + 500)), "client_id")


def test_rows_out_of_order_are_named_and_nothing_else_changes(table, infer):
    mixed = infer(table.sample(frac=1, random_state=0))
    assert "earlier than the row before" in line(mixed, "time")
    assert mixed.plan == infer(table).plan
    assert mixed.facts == infer(table).facts


def test_an_imbalanced_target_is_named_and_moves_the_figures(table, infer):
    rare = table.assign(failed=np.where(np.arange(ROWS) % 14 == 0, "yes", "no"))
    assert "the rarer answer has 7.17 %" in line(infer(rare), "failed")
    assert infer(rare).figures["missed"][0] == 13.0


@pytest.mark.parametrize(("wide", "bar"), [(0, 200), (250, 253)])
def test_a_wide_table_may_take_longer(table, infer, wide, bar):
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(ROWS, wide)).round(3)).add_prefix("x")
    assert infer(pd.concat([table, noise], axis=1)).figures["max_latency_ms"][0] == bar


def test_rows_without_an_answer_are_counted(table, infer):
    found = infer(table.assign(failed=table["failed"].where(np.arange(ROWS) < 550, "")))
    assert "missing in 50 rows" in line(found, "failed")
    assert found.facts["labelled"] == 550


# Times ----------------------------------------------------------------------------------------------------------------


def test_times_with_a_zone_are_kept_as_utc(table, infer, tmp_path):
    times = pd.to_datetime(table["time"]).dt.tz_localize("Europe/Vienna", ambiguous=True, nonexistent="shift_forward")
    found = infer(table.assign(time=times.map(pd.Timestamp.isoformat)))
    read = reading.read(tmp_path / "table.csv", found.plan)
    assert (read["time"] == times.dt.tz_convert("UTC")).all()
    assert (read["time_utc"] == times.dt.tz_convert("UTC").dt.tz_localize(None)).all()


def test_a_date_that_can_be_read_two_ways_has_to_be_decided(table, infer):
    days = [f"{n * 7 % 12 + 1:02}/{n * 5 % 11 + 1:02}/2024" for n in range(ROWS)]
    with pytest.raises(ValueError, match=r"day first or the month\?.*--time-format"):
        infer(table.assign(time=days))
    assert infer(table.assign(time=days), time_format="%d/%m/%Y").plan["columns"]["time"]["format"] == "%d/%m/%Y"


@pytest.mark.parametrize("form", ["{:%b-%Y}", "{0.year}Q{0.quarter}", "{:%Y}", "{:%m/%Y}", "{:%Y-%m}", "{:%d-%m-%y}"])
def test_months_quarters_and_years_are_times(table, infer, tmp_path, form):
    days = pd.Series(pd.date_range("1990-01-01", "2014-12-31", periods=ROWS))
    found = infer(table.assign(time=days.map(form.format)))
    read = reading.read(tmp_path / "table.csv", found.plan)["time"].dt.tz_localize(None)
    assert read.map(form.format).tolist() == days.map(form.format).tolist()


def test_a_date_of_two_digits_asks_with_the_form_that_helps(table, infer):
    mixed = table.assign(time=[f"{n * 7 % 12 + 1:02}-{n * 5 % 11 + 1:02}-18" for n in range(ROWS)])
    with pytest.raises(ValueError, match="--time-format %d-%m-%y or --time-format %m-%d-%y"):
        infer(mixed)
    assert infer(mixed, time_format="%m-%d-%y").plan["columns"]["time"]["format"] == "%m-%d-%y"


def test_few_years_in_no_order_are_not_sent_to_the_order_of_rows(table, infer):
    years = 2007 + np.random.default_rng(0).integers(0, 10, ROWS)
    with pytest.raises(ValueError, match=r"got 10 from 2007-01-01 to 2016-01-01.*sort the file by it first"):
        infer(table.assign(time=years))
    with pytest.raises(ValueError, match="the file is in its order"):
        infer(table.assign(time=np.sort(years)))


def test_a_date_that_is_in_order_one_way_only_is_read_that_way(table, infer):
    days = pd.date_range("2023-01-01", "2024-12-31", freq="D")
    days = days[days.day <= 12]  # so that each can be read both ways
    found = infer(
        table.assign(time=np.sort(np.resize(days, ROWS))).assign(time=lambda t: t["time"].dt.strftime("%m/%d/%Y"))
    )
    assert found.plan["columns"]["time"]["format"] == "%m/%d/%Y"


def test_times_that_cannot_be_read_are_named_and_set_aside(table, infer, tmp_path):
    found = infer(table.assign(time=table["time"].where(np.arange(ROWS) % 60 != 0, "soon")))
    assert "10 rows have no time that can be read ('soon')" in line(found, "time")
    read = reading.read(tmp_path / "table.csv", found.plan)
    assert len(read) == ROWS
    assert set(reading.batch_names(read["time"], "month")) == {f"2024-{month:02}" for month in range(1, 7)}


def test_a_row_without_time_goes_into_the_batch_of_the_row_above():
    times = pd.to_datetime(pd.Series([None, "2024-01-05", None, "2024-02-01", None]), utc=True)
    assert reading.batch_names(times, "month").tolist() == ["2024-01"] * 3 + ["2024-02"] * 2


def test_without_time_the_order_of_rows_is_the_clock(table, infer, tmp_path):
    found = infer(table.drop(columns="time"), time=None)
    times = reading.read(tmp_path / "table.csv", found.plan)["made_up_time"]
    assert times.is_monotonic_increasing
    assert times.is_unique
    assert "the order of rows stands for time" in line(found, "(rows)", "no time")
    assert "made_up_time" not in used(found)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_european_file_means_the_same_as_a_plain_one(table, infer, tmp_path):
    one_way = table.assign(sum=(np.arange(ROWS) * 1234.5 % 90_000).round(2), ort=np.resize(["Köln €", "Wien"], ROWS))
    one = reading.read(tmp_path / "table.csv", infer(one_way).plan)
    german = one_way.assign(
        time=pd.to_datetime(one_way["time"]).dt.strftime("%d.%m.%Y %H:%M"),
        load=one_way["load"].astype(str).str.replace(".", ","),
        sum=one_way["sum"].map("{:,.2f}".format).str.translate(str.maketrans(",.", ".,")),
        failed=one_way["failed"].map({"yes": "ja", "no": "nein"}),
    )
    german.to_csv(tmp_path / "german.csv", sep=";", encoding="cp1252", index=False)
    found = tables.infer(tmp_path / "german.csv", tables.Choices("failed", "time"))
    pd.testing.assert_frame_equal(
        reading.read(tmp_path / "german.csv", found.plan).drop(columns="row_id"), one.drop(columns="row_id")
    )
    assert "Windows-1252" in line(found, "(file)", "UTF-8")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_usual_separator_is_found(table, tmp_path, separator):
    table.to_csv(tmp_path / "table.csv", sep=separator, index=False)
    assert tables.look(tmp_path / "table.csv")[1]["separator"] == separator


def test_parquet_means_the_same_as_csv(table, infer, tmp_path):
    typed = table.assign(time=pd.to_datetime(table["time"]), failed=table["failed"] == "yes")
    typed.to_parquet(tmp_path / "table.parquet")
    found = tables.infer(tmp_path / "table.parquet", tables.Choices("failed", "time"))
    one = reading.read(tmp_path / "table.parquet", found.plan).drop(columns="row_id")
    other = infer(table)
    pd.testing.assert_frame_equal(one, reading.read(tmp_path / "table.csv", other.plan).drop(columns="row_id"))


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=60, max_size=60, unique=True), st.booleans())
def test_a_number_survives_the_way_it_is_written(numbers, european):
    text = pd.Series([f"{number:,.2f}" for number in numbers])
    text = text.str.translate(str.maketrans(",.", ".,")) if european else text
    kind = columns.kind_of(text, text, name="x", european=european, time_format=None)
    assert reading.convert(text.to_frame("x"), {"columns": {"x": kind.how}})["x"].tolist() == numbers


def test_a_row_keeps_its_name_wherever_it_stands(table):
    names = reading.row_ids(table)
    assert names.is_unique
    assert (reading.row_ids(table[::-1]) == names[::-1]).all()


# Rows to be scored, as the table has them -----------------------------------------------------------------------------

CONTRACT = {"time_utc": "datetime", "load": "double", "paid": "double", "site": "string"}


@pytest.fixture
def german(table, tmp_path):
    """A table with days first, decimal commas and words for yes and no, and its plan."""
    words = table.assign(paid=np.resize(["Ja", "Nein", "nein"], ROWS), key=[f"K{n}" for n in range(ROWS)], always="x")
    words["time"] = pd.to_datetime(words["time"]).dt.strftime("%d.%m.%Y %H:%M")
    words["load"] = words["load"].astype(str).str.replace(".", ",")
    words.to_csv(tmp_path / "german.csv", sep=";", index=False)
    return words, tables.infer(tmp_path / "german.csv", tables.Choices("failed", "time")).plan


def test_new_rows_are_read_as_the_table_is(german, tmp_path):
    words, plan = german
    words.drop(columns="failed").head(50).to_csv(tmp_path / "new.csv", sep=";", index=False)
    new, whole = (
        reading.own_layout(tmp_path / "new.csv", plan, inputs=[*CONTRACT]),
        reading.read(tmp_path / "german.csv", plan),
    )
    assert new["id"].tolist() == whole["row_id"].head(50).tolist()
    pd.testing.assert_frame_equal(batch.conform(new, CONTRACT), whole[[*CONTRACT]].head(50))


@pytest.mark.parametrize(
    ("column", "cell"), [("paid", "perhaps"), ("time", "soon"), ("load", "warm"), ("load", "1.5,0")]
)
def test_a_cell_of_a_new_row_that_cannot_be_read_is_named(german, tmp_path, column, cell):
    words, plan = german
    new = words.head(5).copy()
    new.loc[2, column] = cell
    new.to_csv(tmp_path / "new.csv", sep=";", index=False)
    found = batch.problems(reading.own_layout(tmp_path / "new.csv", plan, inputs=[*CONTRACT]), CONTRACT)
    assert found[["row", "value"]].to_numpy().tolist() == [[2, cell]]


@pytest.mark.parametrize("word", ["Ja", "JA", " ja", 1.0])
def test_a_request_may_be_written_as_the_table_is_or_as_the_model_takes_it(german, word):
    words, plan = german
    own_rows = partial(reading.own_rows, plan=plan, inputs=[*CONTRACT])
    served = Servable(1, CONTRACT, [*CONTRACT], {}, [], 0.5, len, own_rows=own_rows)
    ask = partial(served_rows, served)
    own = {**words.iloc[0].to_dict(), "paid": word}
    plain = {"id": "K0", "time_utc": "2024-01-01T00:00:00", "load": 51.3, "paid": 1.0, "site": own["site"]}
    assert ask(own) == ask(plain)
    for wrong in ({"paid": "perhaps"}, {"time": "soon"}, {"lod": 7}):
        with pytest.raises(ValidationError):
            ask(wrong)


def served_rows(served, row):
    return request_type(served).validate_json(json.dumps({"rows": [row]}))["rows"]


def test_a_column_that_new_rows_lack_is_named_as_the_table_has_it(german, tmp_path):
    words, plan = german
    words.drop(columns="time").to_csv(tmp_path / "new.csv", sep=";", index=False)
    with pytest.raises(ValueError, match=r"none named \['time'\]"):
        reading.own_layout(tmp_path / "new.csv", plan, inputs=[*CONTRACT])


# What has to be decided by somebody else ------------------------------------------------------------------------------

STOPS = {
    "a target of one value": (lambda t: t.assign(failed="no"), "one: 'no' 600"),
    "a target of three": (lambda t: t.assign(failed=np.resize(["a", "b", "c"], ROWS)), "--positive VALUE"),
    "a target of numbers": (lambda t: t.assign(failed=np.arange(ROWS) / 7), "--positive above:NUMBER"),
    "values that do not say": (lambda t: t.assign(failed=np.resize(["red", "blue"], ROWS)), "say it: --positive"),
    "too few rows": (lambda t: t.head(150), "expected 200 rows"),
    "too few of one answer": (lambda t: t.assign(failed=np.where(np.arange(ROWS) % 60, "no", "yes")), "'yes' 10"),
    "answers at one end": (lambda t: t.assign(failed=np.where(np.arange(ROWS) < 300, "no", "yes")), "in each part"),
    "times that are none": (lambda t: t.assign(time="soon"), "expected times in 'time', got 'soon'"),
    "times that do not differ": (lambda t: t.assign(time="2024-01-01"), "20 different times"),
    "a missing target": (lambda t: t.rename(columns={"failed": "Failed"}), "did you mean 'Failed'"),
    "nothing to learn from": (lambda t: t[["time", "failed"]], "at least one column"),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_cannot_be_decided_stops_and_says_what_to_do(table, infer, name):
    change, said = STOPS[name]
    with pytest.raises(ValueError, match=re.escape(said)) as stopped:
        infer(change(table))
    assert "expected" in str(stopped.value)


def test_another_value_of_the_target_can_be_asked_for(table, infer):
    found = infer(table.assign(failed=np.resize(["a", "b", "c"], ROWS)), positive="b")
    assert found.facts["share"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("form", ["{}", "${:,.2f}"])
def test_a_number_is_asked_whether_it_is_above_a_bar(table, infer, tmp_path, form):
    amounts = np.random.default_rng(0).integers(0, 2_000, ROWS)
    found = infer(table.assign(amount=[form.format(n) for n in amounts]), target="amount", positive="above:1200")
    read = reading.read(tmp_path / "table.csv", found.plan)
    assert (read["amount"] == (amounts > 1200)).all()
    assert found.facts["share"] == pytest.approx((amounts > 1200).mean())
    assert found.plan["positive"] == "amount is above 1200"


@pytest.mark.parametrize(("bar", "said"), [("many", "such as above:200"), ("1e9", "on each side of 1e9")])
def test_a_bar_that_parts_nothing_is_refused(table, infer, bar, said):
    with pytest.raises(ValueError, match=said):
        infer(table, target="load", positive=f"above:{bar}")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "an empty file"), (b"a,b\n", "a header only"), (b"only words\nhere\n", "separated by"),
     (b"1,2\n3,4\n", "column names"), (b"a,b\n1,2\n1,2,3\n", "equally many fields"), (b"PK\0\0\0", "binary")],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused(tmp_path, content, said):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        tables.look(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("name", "said"),
    [("t.xlsx", "read_excel"), ("t.csv.gz", "read_csv"), ("t.jsonl", "lines=True"), ("t.db", "read_sql")],
)
def test_a_file_of_another_kind_is_refused_with_the_way_to_make_one(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"(?s){said}.*to_parquet\('t.parquet'\)"):
        tables.look(tmp_path / name)


def test_the_address_of_a_database_is_refused_with_the_way_to_a_file():
    with pytest.raises(ValueError, match="read_sql"):
        tables.look(Path("postgresql://host/shop"))


def test_an_id_that_names_two_rows_is_refused(table, infer):
    with pytest.raises(ValueError, match="600 rows share one"):
        infer(table, id="site")


# The project ----------------------------------------------------------------------------------------------------------


def run_new(folder: Path, *arguments) -> Result:
    """Run `mlops-course new` on a plain table of some length, which lies beside the folder."""
    table = folder.parent / "pumps.csv"
    plain(3 * ROWS).to_csv(table, index=False)
    options = arguments or ("--data", table, "--target", "failed", "--time", "time")
    return CliRunner().invoke(new, [str(folder), *map(str, options)])


@pytest.fixture
def call(tmp_path):
    return partial(run_new, tmp_path / "pumps")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished project that no test changes, and what was told when it was made."""
    folder = tmp_path_factory.mktemp("made") / "pumps"
    folder.mkdir()  # an empty one will do
    told = run_new(folder)
    assert told.exit_code == 0, told.output
    return folder, told.output


def files(folder: Path) -> dict[str, bytes]:
    """The files of a project, but for those that Python writes where a command has run."""
    found = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def python(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Run Python in a project, in an environment where the course has its own workspace (MLOPS_HOME)."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=1200
    )


RELEASE = (  # the commands of a project from training to watching: arguments, exit code, and a part of what they say
    (("monitor",), 1, "expected a champion whose answers to watch, found none"),
    (("train",), 0, "The gate passed it."),
    (("promote", "1", "--approver", "Ada", "--reason", "a try"), 0, "Version 1 is champion now."),
    (("train",), 0, "It is the champion already"),
    (("replay",), 0, "events on record"),
    (("monitor",), 0, "Report: "),
)


@pytest.mark.long
def test_a_project_is_trained_gated_and_watched_without_an_edit(project):
    tests = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tests.returncode == 0, tests.stdout
    for arguments, code, part in RELEASE:
        done = python(project, "-m", "pumps", *arguments)
        assert (done.returncode, part in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert (project / ".mlops" / "mlflow.db").is_file()


def test_a_project_serves_under_its_own_name_only(project):
    secret = project.parent / "token.txt"
    secret.write_text("s3cret\n", encoding="utf-8")
    command = [sys.executable, "-m", "pumps", "serve", "--port", "0", "--token-file", str(secret)]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            ask = partial(httpx.get, timeout=600)
            known = {"authorization": "Bearer s3cret"}
            assert ask(f"{url}/live").json() == {"live": True}
            assert ask(f"{url}/model").status_code == 401
            assert ask(f"{url}/model", headers=known).status_code == 503, "no model is in charge"
            assert ask(url, headers=known | {"host": "elsewhere.example"}).status_code == 421
        finally:
            process.terminate()


def test_a_month_is_added_whole_or_not_at_all(project):
    later = plain(3 * ROWS).tail(50).assign(time=[f"2026-03-{n % 28 + 1:02} 0{n % 9}:00" for n in range(50)])
    table, new = project / "data" / "pumps.csv", project.parent / "new.csv"
    before = pd.read_csv(table)
    later.assign(load="warm").to_csv(new, index=False)
    assert "expected a number in column 'load'" in python(project, "-m", "pumps", "add", str(new)).stderr
    pd.testing.assert_frame_equal(pd.read_csv(table), before)
    later.to_csv(new, index=False)
    assert "50 rows added" in python(project, "-m", "pumps", "add", str(new)).stdout
    pd.testing.assert_frame_equal(pd.read_csv(table).head(len(before)), before)
    assert len(pd.read_csv(table)) == len(before) + 50
    assert "50 of 50 that are there already" in python(project, "-m", "pumps", "add", str(new)).stderr


def test_replay_without_a_champion_says_what_is_missing(project):
    done = python(project, "-m", "pumps", "replay")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "expected a champion" in done.stderr


@pytest.mark.skipif(os.name == "nt" or shutil.which("make") is None, reason="needs make")
def test_a_python_that_leads_nowhere_is_passed_over(made, tmp_path):
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, code in {"python3.14": 127, "python3.13": 127, "python3.12": 0}.items():
        (shims / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (shims / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}"}
    command = ["make", "-n", "-f", str(made[0] / "Makefile"), "test"]
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert "python3.12 -m venv" in told.stdout


def test_a_folder_with_a_space_is_quoted_where_it_is_to_be_typed(tmp_path):
    told = run_new(tmp_path / "my proj")
    assert "cd '" in told.output.split("Next:")[1]


def test_a_project_stands_alone(made):
    texts = {path: text.decode() for path, text in files(made[0]).items() if path.endswith((".py", ".toml"))}
    theirs = re.compile(r"(import|from) mlops_course|^dep.*mlops-course|MLOPS_")
    assert [path for path, text in texts.items() if theirs.search(text)] == []
    assert {path for path, text in texts.items() if text.startswith("# MIT License")} >= {
        "pumps/development/validation.py"
    }


def test_a_project_asks_for_what_it_imports_and_pins_it(made):
    project = tomllib.loads((made[0] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(one.split("==") for one in (made[0] / "constraints.txt").read_text().split())
    asked = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert {"mlflow", "scikit-learn", "fastapi", "pyarrow"} <= asked <= set(pins) | {"uvloop"}
    assert {"numpy", "pytest"} <= set(pins)


@pytest.fixture
def container(made):
    """The instructions of the Containerfile: of each kind the words that follow it, line by line."""
    lines = (made[0] / "Containerfile").read_text(encoding="utf-8").splitlines()
    told = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {kind: [rest for word, rest in told if word == kind] for kind, _ in told}


def test_a_container_has_a_python_that_the_project_allows(made, container):
    project = tomllib.loads((made[0] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [version] = re.findall(r"/python:(\d+\.\d+)-slim$", container["FROM"][0])
    assert version in SpecifierSet(project["requires-python"])


def test_a_container_copies_only_what_is_there_and_all_that_its_installation_reads(made, container):
    copied = {name for line in container["COPY"] for name in line.split()[:-1]}
    assert [name for name in copied if not (made[0] / name).exists()] == []
    assert {"pyproject.toml", "pumps", *re.findall(r"-c (\S+)", container["RUN"][0])} <= copied


def test_a_container_runs_a_command_of_the_project_on_the_port_that_it_opens(made, container):
    started, *command = json.loads(container["CMD"][0])
    assert (started, command[command.index("--port") + 1]) == ("python", container["EXPOSE"][0])
    helped = python(made[0], *command, "--help")
    assert (helped.returncode, "Answer requests" in helped.stdout) == (0, True), helped.stderr
    assert python(made[0], *command[:2], "srve", "--help").returncode == 2, "an unknown command is refused"


def test_the_specification_has_no_defect_and_says_why(made):
    case = made[0] / "pumps" / "pumps_case"
    assert load_specification(case / "specification.yaml").target.column == "failed"
    text = (case / "specification.yaml").read_text(encoding="utf-8")
    assert text.count("# inferred: ") >= 10
    assert "TODO" in text


TIMES = """
from pumps import pumps_case as case
from pumps.system.pipeline.dependencies import case_version
row = case.build(case.read(case.batches())).dropna().iloc[0]
print(row["label_time"] - row["prediction_time"], case_version(case))
"""


def test_a_delay_in_the_plan_moves_the_label_and_makes_another_case(project):
    plan = project / "pumps" / "pumps_case" / "table.yaml"
    before = python(project, "-c", TIMES).stdout.split()
    plan.write_text(plan.read_text(encoding="utf-8").replace("label_delay: 0h", "label_delay: 6h"), encoding="utf-8")
    after = python(project, "-c", TIMES).stdout.split()
    assert (before[:3], after[:3]) == (["0", "days", "00:00:00"], ["0", "days", "06:00:00"])
    assert before[-1] != after[-1]


def test_every_decision_is_told_and_stands_in_the_readme(made):
    readme = (made[0] / "README.md").read_text(encoding="utf-8")
    answers = yaml.safe_load((made[0] / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert [one["column"] for one in answers["findings"] if f"| {one['column']} |" not in readme] == []
    assert all(one["column"] in made[1] for one in answers["findings"])


def test_no_file_of_a_project_names_a_place_on_this_machine(made):
    texts = {path: text.decode() for path, text in files(made[0]).items()}
    assert [
        path
        for path, text in texts.items()
        if str(made[0].parent) in text or str(Path(starter.__file__).parents[2]) in text
    ] == []


def test_the_table_is_kept_as_it_came(made):
    assert (made[0] / "data" / "pumps.csv").read_bytes() == (made[0].parent / "pumps.csv").read_bytes()


def test_odd_names_do_not_break_what_is_written(table, tmp_path):
    odd = table.assign(
        **{'say "hi"': np.arange(ROWS) % 9, "a: b # c": np.arange(ROWS) % 7, "{{ x }}": np.arange(ROWS) % 5}
    )
    odd = odd.assign(site=table["site"].map({"north": "no | rth\\", "south": 'so"uth'}))
    odd.to_csv(tmp_path / "odd.csv", index=False)
    judged = tables.infer(tmp_path / "odd.csv", tables.Choices("failed", "time"))
    starter.create(tmp_path / "odd", judged, data=tmp_path / "odd.csv", command="new", today=date(2026, 11, 24))
    specification = load_specification(tmp_path / "odd" / "odd" / "odd_case" / "specification.yaml")
    assert {'say "hi"', "a: b # c", "{{ x }}"} <= set(specification.inputs.numeric)
    compiled = [compile(text, path, "exec") for path, text in files(tmp_path / "odd").items() if path.endswith(".py")]
    assert compiled
    plan = yaml.safe_load((tmp_path / "odd" / "odd" / "odd_case" / "table.yaml").read_text(encoding="utf-8"))
    assert plan["columns"] == judged.plan["columns"]


# Whole or not at all --------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_not_touched(call, tmp_path):
    (tmp_path / "pumps").mkdir()
    (tmp_path / "pumps" / "mine.txt").write_text("mine")
    told = call()
    assert isinstance(told.exception, FileExistsError)
    assert files(tmp_path / "pumps") == {"mine.txt": b"mine"}


def test_a_project_is_written_whole_or_not_at_all(call, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(starter.shutil, "copyfile", full)
    assert call().exit_code != 0
    assert {path.name for path in tmp_path.iterdir()} == {"pumps.csv"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "failed"), "--data FILE"),
        (("--data", "x.csv", "--target", "failed"), "--no-time takes the order of its rows"),
        (("--update", "--target", "failed"), "give it DIR only"),
    ],
)
def test_a_call_that_lacks_something_says_what(call, arguments, said):
    told = call(*arguments)
    assert told.exit_code == 2
    assert said in " ".join(told.output.split())


@pytest.mark.parametrize(
    ("folder", "name"),
    [("My Pumps!", "my_pumps"), ("2024", "project_2024"), ("json", "json_project"), ("class", "class_project")],
)
def test_a_package_gets_a_name_that_hides_no_other(folder, name):
    assert starter.package_name(Path(folder)) == name


# Updates --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / "pumps"))


def older(project: Path, name: str, text: str) -> None:
    """Let a file be one that an older version of the course has made."""
    manifest = json.loads((project / starter.MANIFEST).read_text())
    (project / name).write_text(text)
    manifest["files"][name] = starter._digest(project / name)
    (project / starter.MANIFEST).write_text(json.dumps(manifest))


def test_an_update_of_a_project_that_is_up_to_date_does_nothing(project):
    before = files(project)
    assert starter.update(project) == []
    assert files(project) == before


@pytest.fixture(scope="module")
def updated(made, tmp_path_factory):
    """A project before and after an update, and what it told: one of each kind of file that it meets."""
    folder = Path(shutil.copytree(made[0], tmp_path_factory.mktemp("updated") / "pumps"))
    older(folder, "pumps/development/validation.py", "# an older one\n")
    older(folder, "pumps/development/data.py", "# older data\n")
    (folder / "pumps" / "development" / "data.py").write_text("# mine\n")
    (folder / "pumps" / "pumps_case" / "specification.yaml").write_text("# mine\n")
    (folder / "pumps" / "reading.py").unlink()
    (folder / "data" / "pumps.csv").write_text("changed\n")
    (folder / "mine.py").write_text("mine\n")
    before = files(folder)
    changes = {one.path: one for one in starter.update(folder)}
    return SimpleNamespace(newest=files(made[0]), before=before, changes=changes, after=files(folder))


def test_an_update_tells_of_what_is_new_and_of_nothing_else(updated):
    assert {path: one.what for path, one in updated.changes.items()} == {
        "pumps/development/validation.py": "updated",
        "pumps/development/data.py": "kept",
    }


def test_an_update_replaces_what_its_owner_has_not_changed(updated):
    assert (
        updated.after["pumps/development/validation.py"]
        == updated.newest["pumps/development/validation.py"]
        != updated.before["pumps/development/validation.py"]
    )


def test_an_update_keeps_what_its_owner_has_changed_and_puts_the_new_one_beside(updated):
    assert "data.py.new" in updated.changes["pumps/development/data.py"].advice
    assert updated.after["pumps/development/data.py"] == b"# mine\n"
    assert updated.after["pumps/development/data.py.new"] == updated.newest["pumps/development/data.py"]


@pytest.mark.parametrize("path", ["pumps/pumps_case/specification.yaml", "data/pumps.csv", "mine.py"])
def test_an_update_leaves_what_only_its_owner_has_changed_data_and_own_files_alone(updated, path):
    assert updated.after[path] == updated.before[path]


def test_an_update_does_not_bring_back_what_its_owner_has_deleted(updated):
    assert "pumps/reading.py" not in updated.after


def test_an_update_needs_a_project(tmp_path):
    told = CliRunner().invoke(new, [str(tmp_path), "--update"])
    assert "expected a project made by" in str(told.exception)
