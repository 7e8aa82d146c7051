"""The board against a real store: what is counted, what is left out, and that no learner's text does harm."""

import base64
import csv
import doctest
import hashlib
import io
import json
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from mlops_course.course.checks.exercise import gaps_of
from mlops_course.course.classroom import board
from mlops_course.course.lessons import LESSONS

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
GAPS = [gap for lesson in LESSONS for gap in gaps_of(lesson)]
GOOD = {"done": True, "failed": 1, "hints": 0, "message": "", "at": "2026-11-24T09:00:00+00:00"}
NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def empty(empty_database, tmp_path_factory):
    """A store that MLflow has made and nothing is in, and a copy of its file."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, folder / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    client.search_experiments()
    shutil.copyfile(folder / "mlflow.db", folder / "empty.db")
    return client, folder


@pytest.fixture
def store(empty):
    """The same store, empty again: SQLite overwrites its file, so that MLflow opens it once."""
    client, folder = empty
    with (
        closing(sqlite3.connect(folder / "empty.db")) as whole,
        closing(sqlite3.connect(folder / "mlflow.db")) as used,
    ):
        whole.backup(used)
    return client


def send(store, learner, tags, *, begun=1):
    """Tags of one run of a learner, whose values are texts or what becomes JSON."""
    name = f"progress of {learner}"
    found = store.get_experiment_by_name(name)
    experiment = found.experiment_id if found else store.create_experiment(name, "file:///nowhere")
    run = store.create_run(experiment, run_name="progress", start_time=begun).info.run_id
    for gap, told in tags.items():
        store.set_tag(run, gap, told if isinstance(told, str) else json.dumps(told))


def table_of(*rows):
    """A table of rows of learner, gap and what differs from GOOD."""
    full = [{"learner": learner, "gap": gap, **GOOD, **other} for learner, gap, other in rows]
    return pd.DataFrame(full, columns=list(board.COLUMNS)).astype(board.COLUMNS)


def text_of(html):
    """What a browser shows, as a parser reads it, with the names of all elements."""
    shown, elements = [], []
    parser = HTMLParser()
    parser.handle_data = shown.append
    parser.handle_starttag = lambda name, attributes: elements.append((name, dict(attributes)))
    parser.feed(html)
    return " ".join(" ".join(shown).split()), elements


def test_the_example_of_the_module_is_true():
    failed, tried = doctest.testmod(board)
    assert tried
    assert not failed


# What is read ---------------------------------------------------------------------------------------------------------


def test_each_learner_and_gap_is_a_row_as_it_was_sent(store):
    send(
        store,
        "bob",
        {"data_engineering.known_by": {**GOOD, "done": False, "failed": 3, "hints": 2, "message": "Look again."}},
    )
    send(store, "ada", {"data_engineering.known_by": GOOD, "start_here.usable": GOOD})
    store.create_experiment("ada", "file:///nowhere")
    table = board.standings(store)
    assert list(zip(table["learner"], table["gap"], strict=True)) == [
        ("ada", "start_here.usable"), ("ada", "data_engineering.known_by"), ("bob", "data_engineering.known_by"),
    ]  # fmt: skip
    assert table.loc[2].to_dict() == {
        "learner": "bob", "gap": "data_engineering.known_by", "done": False, "failed": 3, "hints": 2,
        "message": "Look again.", "at": GOOD["at"],
    }  # fmt: skip
    assert table.attrs == {"learners": ["ada", "bob"], "skipped": 0}


def test_a_room_that_has_just_opened_has_a_board(store):
    table = board.standings(store)
    assert len(table) == 0
    assert "0 in the room" in board.page(table, joined=0)
    assert board.as_csv(board.grades(table)).startswith("learner,start_here,requirements,")


def test_a_learner_who_sent_nothing_is_on_the_board_and_in_the_grades(store):
    store.create_experiment("progress of cora", "file:///nowhere")
    table = board.standings(store)
    assert "nothing sent yet: cora" in text_of(board.page(table, joined=1))[0]
    assert board.grades(table).loc["cora", "all"] == 0


def test_of_two_runs_the_one_that_was_begun_last_counts_even_after_a_reset(store):
    send(store, "ada", {"data_engineering.known_by": {**GOOD, "done": False, "failed": 0, "at": ""}}, begun=20)
    send(store, "ada", {"data_engineering.known_by": GOOD, "data_engineering.version_of": GOOD}, begun=10)
    assert board.standings(store).set_index("gap")["done"].to_dict() == {
        "data_engineering.known_by": False,
        "data_engineering.version_of": True,
    }


def test_every_page_of_experiments_and_runs_is_read(store, monkeypatch):
    monkeypatch.setattr(board, "PAGE_SIZE", 2)
    for number in range(5):
        send(store, f"learner-{number}", {"data_engineering.known_by": GOOD})
        send(store, f"learner-{number}", {"data_engineering.version_of": GOOD})
    assert len(board.standings(store)) == 10


@pytest.mark.parametrize(
    "told",
    [
        "no json",
        "[" * 7_000,
        "null",
        "[1, 2]",
        "{}",
        {**GOOD, "failed": "many"},
        {**GOOD, "failed": -1},
        {**GOOD, "failed": 10**30},
        {**GOOD, "hints": True},
        {**GOOD, "hints": float("inf")},
    ],
    ids=lambda told: str(told)[:40],
)
def test_a_tag_that_cannot_be_read_is_counted_and_hides_nobody(store, told):
    send(store, "eve", {"data_engineering.known_by": told})
    send(store, "ada", {"data_engineering.known_by": GOOD})
    table = board.standings(store)
    assert list(table["learner"]) == ["ada"]
    assert table.attrs["skipped"] == 1
    assert "1 entry could not be read" in text_of(board.page(table, joined=2))[0]


@pytest.mark.parametrize("done", [1, "yes", None, [True]])
def test_a_gap_is_done_only_if_its_tag_says_true(store, done):
    send(store, "ada", {"data_engineering.known_by": {**GOOD, "done": done}})
    assert not board.standings(store)["done"].any()


@pytest.mark.parametrize("gap", ["99.known_by", "data_engineering.none", "note", "03"])
def test_a_tag_that_names_no_gap_is_counted_too(store, gap):
    send(store, "ada", {gap: GOOD})
    assert (len(table := board.standings(store)), table.attrs["skipped"]) == (0, 1)


@pytest.mark.parametrize(
    "text",
    ["\ud800 half a letter", "\u202eturned round", "a\x00b", "two\nlines", NASTY, "x" * 7_000, 17, None, ["x"],
     "tomorrow", "0001-01-01", "9999-12-31T23:59:59.999999+23:59"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["message", "at"])
def test_whatever_a_text_is_the_page_can_be_sent_and_the_others_are_in_it(store, text, field):
    send(store, "a first one", {"data_engineering.known_by": {**GOOD, "done": False, field: text}})
    send(store, "ada", {"data_engineering.known_by": {**GOOD, "at": "2026-11-24T09:58:00.5Z"}})
    html = board.page(board.standings(store), joined=2, now=NOW)
    assert html.encode()
    shown, elements = text_of(html)
    assert "1 min ago" in shown
    assert [name for name, _ in elements].count("script") == 1
    assert not set(html) & {"\u202e", "\x00"}


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)


@given(st.fixed_dictionaries({name: VALUES | st.just(value) for name, value in GOOD.items()}))
def test_any_json_that_is_read_as_a_standing_can_be_shown(told):
    if (row := board._told(json.dumps(told))) is not None:
        table = pd.DataFrame([("eve", GAPS[0], *row)], columns=list(board.COLUMNS)).astype(board.COLUMNS)
        assert board.page(table, joined=1, now=NOW).encode()


# What is counted ------------------------------------------------------------------------------------------------------

STANDINGS = st.fixed_dictionaries(
    {
        "done": st.booleans(),
        "failed": st.integers(0, 5),
        "hints": st.integers(0, 2),
        "message": st.sampled_from(["", "Look again. 3 came.", "Look again. 4 came.", "=SUM(A1)", "no stop"]),
    }
)
ROOMS = st.dictionaries(
    st.tuples(st.sampled_from(["ada", "bob", "=cmd", "+1"]), st.sampled_from(GAPS)), STANDINGS, max_size=40
).map(lambda found: table_of(*((*key, told) for key, told in found.items())))


@settings(max_examples=40)
@given(ROOMS)
def test_every_gap_that_is_done_is_counted_once_for_its_learner_and_lesson(table):
    done = table[table["done"]]
    counted = board.by_learner(table)
    assert counted.to_numpy().sum() == len(done)
    for (learner, lesson), rows in done.groupby(["learner", done["gap"].str.split(".").str[0]]):
        assert counted.loc[learner, lesson] == len(rows)
    assert set(counted.index) == set(table["learner"])


@settings(max_examples=40)
@given(ROOMS)
def test_a_learner_who_is_stuck_is_counted_once_for_each_gap_and_in_its_messages(table):
    still = table[~table["done"] & (table["failed"] > 0)]
    points = board.stuck(table)
    assert points.set_index("gap")["learners"].to_dict() == still["gap"].value_counts().to_dict()
    assert points["learners"].is_monotonic_decreasing
    for row in points.itertuples():
        said = still.loc[(still["gap"] == row.gap) & (still["message"] != ""), "message"]
        assert sum(count for _, count in row.messages) == len(said)
        assert [count for _, count in row.messages] == sorted((count for _, count in row.messages), reverse=True)
        tried = table[table["gap"] == row.gap]
        assert (row.rejections, row.done) == (tried["failed"].sum(), tried["done"].sum())


@settings(max_examples=40)
@given(ROOMS)
def test_a_grade_is_the_share_of_gaps_that_are_done(table):
    graded = board.grades(table)
    assert graded.ge(0).all(axis=None)
    assert graded.le(1).all(axis=None)
    for learner, rows in table.groupby("learner"):
        assert graded.loc[learner, "all"] == pytest.approx(rows["done"].sum() / len(GAPS), abs=0.0006)


def test_a_learner_who_has_done_all_gaps_has_full_marks():
    graded = board.grades(table_of(*(("ada", gap, {}) for gap in GAPS)))
    assert graded.eq(1).all(axis=None)


def test_messages_that_differ_only_after_their_first_sentence_are_one():
    said = ["Look again. 3 came.", "Look again. 4 came.", "Mind the order! x", "no stop at all"]
    rows = [(f"l{n}", GAPS[0], {"done": False, "message": text}) for n, text in enumerate(said)]
    [messages] = board.stuck(table_of(*rows))["messages"]
    assert messages == [("Look again.", 2), ("Mind the order!", 1), ("no stop at all", 1)]


@settings(max_examples=40)
@given(ROOMS)
def test_no_cell_of_an_export_is_a_formula_and_none_is_lost(table):
    cells = [cell for row in csv.reader(io.StringIO(board.as_csv(table))) for cell in row]
    assert len(cells) == (len(table) + 1) * len(board.COLUMNS)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "＝1", '=HYPERLINK("x","y")'])
def test_what_a_spreadsheet_would_compute_stays_a_text(text):
    graded = board.grades(table_of((text, GAPS[0], {})))
    [_, row] = csv.reader(io.StringIO(board.as_csv(graded), newline=""))
    assert row[0] == f"'{text}"


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "x\r=1", "x\n=1"])
def test_a_line_break_in_a_text_begins_no_row_of_the_export(text):
    lines = board.as_csv(table_of((text, GAPS[0], {}))).splitlines()
    assert len(lines) == 2
    assert not lines[1].startswith("=")


# The page -------------------------------------------------------------------------------------------------------------


def test_a_gap_is_shown_done_stuck_begun_or_untouched():
    rows = [("ada", "data_engineering.known_by", {}), ("ada", "data_engineering.version_of", {"done": False})]
    begun = ("ada", "data_engineering.impossible_rows", {"done": False, "failed": 0, "hints": 1})
    _, elements = text_of(board.page(table_of(*rows, begun, ("ada", "start_here.usable", {})), joined=1, now=NOW))
    told = {line for name, held in elements if name == "td" for line in held.get("title", "").splitlines()}
    assert told >= {
        "data_engineering.known_by: done",
        "data_engineering.version_of: stuck",
        "data_engineering.impossible_rows: begun",
        "start_here.news: nothing yet",
    }


def test_the_share_that_is_through_is_of_all_who_have_joined(store):
    for name in ("bob", "cora", "dora"):
        store.create_experiment(f"progress of {name}", "file:///nowhere")
    send(store, "ada", {"data_engineering.known_by": GOOD})
    shown = text_of(board.page(board.standings(store), joined=4, now=NOW))[0]
    assert "known_by 25 %" in shown
    assert "4 in the room, 1 have tried" in shown


@pytest.mark.parametrize(
    ("ago", "shown", "quiet"),
    [(0, "0 min ago", 0), (19, "19 min ago", 0), (20, "▲ 20 min ago", 1), (-3, "0 min ago", 0),
     (-60, "clock is ahead", 0), (60 * 5, "▲ 5 h ago", 1), (60 * 24 * 3, "▲ 3 days ago", 1)],
)  # fmt: skip
def test_a_learner_who_checked_nothing_for_long_is_called_quiet(ago, shown, quiet):
    at = (NOW - timedelta(minutes=ago)).isoformat()
    said, elements = text_of(board.page(table_of(("ada", GAPS[0], {"at": at})), joined=1, now=NOW))
    assert shown in said
    assert sum(name == "td" and held.get("class") == "quiet" for name, held in elements) == quiet


def test_the_wall_shows_nobody():
    alone, shared = "only zoe got this", "two got this"
    rows = [
        ("zoe", GAPS[0], {"done": False, "message": alone, "at": "2026-11-24T01:00:00Z"}),
        *((name, GAPS[1], {"done": False, "message": shared}) for name in ("ada", "bob")),
    ]
    table = table_of(*rows)
    table.attrs["learners"] = ["cora"]
    wall = board.page(table, joined=4, names=False, now=NOW)
    assert not [name for name in ("ada", "bob", "cora", "zoe") if re.search(rf"\b{name}\b", wall)]
    assert shared in wall
    assert "quiet for" not in wall
    assert alone in board.page(table, joined=4, now=NOW)


def test_a_row_of_the_wall_stands_where_its_work_puts_it_not_its_name():
    rows = [("ada", gap, {}) for gap in GAPS[:1]] + [("zoe", gap, {}) for gap in GAPS[:3]]
    _, elements = text_of(board.page(table_of(*rows), joined=2, names=False, now=NOW))
    first, second = [held["title"].count(": done") for name, held in elements if held.get("class") == "cells"]
    assert (first, second) == (3, 1)


@pytest.mark.parametrize("names", [True, False])
def test_a_learner_s_name_and_message_are_text_and_nothing_else(store, names):
    for who in (NASTY, f"{NASTY}2"):
        send(store, who, {"data_engineering.known_by": {**GOOD, "done": False, "message": f'{NASTY} "onload=x'}})
    shown, elements = text_of(board.page(board.standings(store), joined=1, names=names))
    assert shown.count(NASTY) >= 1
    assert [name for name, _ in elements].count("script") == 1
    assert not [held for _, held in elements if any(key.startswith("on") for key in held)]


def test_the_page_loads_nothing_and_its_policy_allows_its_own_script_only():
    html = board.page(table_of(("ada", GAPS[0], {})), joined=1, now=NOW)
    _, elements = text_of(html)
    places = [held[key] for name, held in elements for key in ("src", "href") if key in held]
    assert set(places) == {"data:,", "?names=0"}
    assert "url(" not in html
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:;\n script-src 'sha256-{digest}'" in html
