"""What every check does for a learner: it explains, it stops what does not end, and it keeps what was tried."""

import base64
import contextlib
import json
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import nbclient
import nbformat.v4 as made
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mlops_course.commands import course as commands
from mlops_course.course import checks, progress
from mlops_course.course.checks import (
    Rejected,
    YourTurn,
    answers,
    check,
    expect,
    expect_same,
    marking,
    overview,
)
from mlops_course.course.checks.answers import limits, watched
from mlops_course.course.checks.cases import attempt
from mlops_course.course.checks.derivation import stored
from mlops_course.course.lessons import LESSONS, number_of
from mlops_course.course.progress.client import Joined
from mlops_course.course.progress.journal import deliver_quietly


@check("Which rows count?", "All of them.")
def total(answer):
    """Every row counts once."""
    expect_same(answer([1, 2, 3]), 6, "Some rows are missing from the total.", case="total([1, 2, 3])")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def said_of(answer):
    with pytest.raises(Rejected) as rejected:
        watched(answer, name="answer")([3, 1, 2])
    return str(rejected.value)


def test_a_right_answer_is_told_what_holds(capsys):
    total(sum)
    assert capsys.readouterr().out == "total: correct. Every row counts once.\n"


def test_a_wrong_answer_is_shown_the_case_that_fails():
    with pytest.raises(
        Rejected, match=r"^Some rows are missing from the total. total\(\[1, 2, 3\]\) gave 3, expected 6"
    ):
        total(max)


def test_calling_the_answer_instead_of_passing_it_is_named():
    with pytest.raises(Rejected, match=r"pass it without calling it \(int came\)"):
        total(6)


@pytest.mark.parametrize("hints", [(), ("one",)])
def test_a_check_without_two_hints_is_refused(hints):
    with pytest.raises(ValueError, match="two hints"):
        check(*hints)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda rows: print(sum(rows)), "answer printed its result and returned nothing"),
        (lambda rows: None, "answer returned nothing"),
        (lambda rows: rows.sort() or sum(rows), "came back changed"),
        (lambda rows: rows["a"], "stopped with TypeError.* called with .3, 1, 2"),
        (lambda rows: 1 / 0, "which case is empty"),
        (lambda rows: nowhere, "exists in no cell above"),  # noqa: F821
        (lambda rows: rows[9], "a position lies beyond the end"),
        (lambda: 6, "keep the line with `def`"),
        (lambda rows: bool(pd.Series(rows) > 1), "a whole column was asked one question"),
    ],
)
def test_what_may_go_wrong_in_any_answer_is_said_in_words(answer, said):
    import re

    assert re.search(said, said_of(answer))


def forever(rows):
    while True:
        with contextlib.suppress(Exception):  # a careless answer cannot hold back being stopped
            rows = list(rows)


def test_a_loop_without_end_is_stopped_and_named(monkeypatch):
    monkeypatch.setattr(answers, "SECONDS", 0.2)
    with pytest.raises(Rejected, match="loop that never ends"), limits("answer"):
        forever([1])


def hoard(rows):
    while True:
        rows = [*rows, bytearray(10_000_000)]


def test_memory_that_never_stops_growing_is_stopped_and_named(monkeypatch):
    monkeypatch.setattr(answers, "SECONDS", 60)
    monkeypatch.setattr(answers, "GROWTH", 2e8)
    with pytest.raises(Rejected, match="grows with each turn"), limits("answer"):
        hoard([])


class Clocks:
    """The clocks of `limits`, set by a test; `looks` counts how often they were looked at."""

    def __init__(self):
        self.processor, self.wall, self.looks = 0.0, 0.0, threading.Semaphore(0)

    def process_time(self):
        return self.processor

    def monotonic(self):
        now = self.wall
        self.looks.release()
        return now

    def jump(self, *, processor, wall):
        """Set both clocks, and return when `limits` has judged by them."""
        self.processor, self.wall = processor, wall
        while self.looks.acquire(blocking=False):
            pass
        for _ in range(3):  # the first look may have begun before; the second sees it; at the third its verdict is out
            assert self.looks.acquire(timeout=300)


@pytest.fixture
def clocks(monkeypatch):
    monkeypatch.setattr(answers, "time", Clocks())
    return answers.time


def test_an_answer_that_sleeps_is_stopped_although_it_takes_no_processor_time(clocks):
    with pytest.raises(Rejected, match="still busy"), limits("answer"):
        clocks.jump(processor=0.0, wall=answers.PATIENCE * answers.SECONDS + 1)


def test_an_answer_that_a_busy_machine_keeps_waiting_for_minutes_is_not_stopped(clocks):
    with limits("answer"):
        clocks.jump(processor=2.0, wall=240.0)


def test_what_ends_in_time_is_left_alone(clocks):
    before = set(threading.enumerate())
    with limits("answer"):
        [watch] = set(threading.enumerate()) - before
    clocks.processor = clocks.wall = 1e9
    watch.join(300)
    assert not watch.is_alive()


def test_a_gap_that_was_not_filled_is_no_mistake():
    def answer(rows):
        raise YourTurn

    with pytest.raises(YourTurn):
        total(answer)


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"a": [1.0, None]}, index=[4, 2]),
        pd.Series([1.0, None]),
        np.array([[1.0, np.nan]]),
        {"a": [1, {2: 3}], "b": {1, 2}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_that_is_only_read_counts_as_unchanged(value):
    assert watched(lambda value: 1, name="answer")(value) == 1


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (pd.DataFrame({"a": [1.0]}), lambda table: table.__setitem__("b", 1)),
        (pd.DataFrame({"a": [1.0, 2.0]}), lambda table: setattr(table, "index", [1, 0])),
        (np.array([1.0, 2.0]), lambda array: array.__setitem__(0, 5)),
        ({"a": [1]}, lambda names: names["a"].append(2)),
        ({1}, lambda items: items.add(2)),
    ],
    ids=["column", "index", "array", "nested list", "set"],
)
def test_an_argument_that_was_changed_is_noticed(value, change):
    with pytest.raises(Rejected, match="came back changed"):
        watched(lambda value: (change(value), 1), name="answer")(value)


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (0.1 + 0.2, 0.3),
        (np.float64(2), 2),
        (float("nan"), float("nan")),
        ([1.0, None], [1.0, None]),
        ((1, 2), [1, 2]),
        (np.array([1, 2]), [1.0, 2.0]),
        (pd.Series([1.0, None]), pd.Series([1.0, None])),
        (pd.DataFrame({"b": [1], "a": [2]}), pd.DataFrame({"a": [2], "b": [1]})),
        ({"a": {"b": 1}}, {"a": {"b": 1.0}}),
        ({1, 2}, {2, 1}),
        (pd.Timestamp("2013-01-01"), pd.Timestamp("2013-01-01")),
        (True, True),
    ],
)
def test_values_that_agree_are_the_same(came, expected):
    expect_same(came, expected, "No.")


@pytest.mark.parametrize(
    ("came", "expected", "said"),
    [
        (np.array([[1], [2]]), np.array([1, 2]), "the right values in shape"),
        ([1, 2, 3], [1, 2], "shape"),
        ([2, 1], [1, 2], "right values in another order"),
        (pd.Series([1, 2]), pd.Series([1, 2], index=[5, 6]), "another index"),
        (pd.Series([2, 1], index=[6, 5]), pd.Series([1, 2], index=[5, 6]), "right rows in another order"),
        ([1], pd.Series([1]), "a series was asked for"),
        (np.array([0.3]), 0.3, "an array where one number"),
        ("0.3", 0.3, "a text where one number"),
        (True, 1, "a truth value where one number"),
        (1, True, "a number where one truth value"),
        ({"a": 1}, {"a": 1, "b": 2}, "without .'b'"),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}, "with .'c'., which was not asked for"),
        ({"a": [2, 1]}, {"a": [1, 2]}, "another order under 'a'"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}), "Look again"),
        ([1, 2], [1, 3], "Look again"),
        (0.31, 0.3, "Look again. f.. gave 0.31, expected 0.3"),
        (None, 0.3, "nothing where one number"),
        ([1], {1}, "where a set was asked for"),
    ],
)
def test_wrong_forms_are_told_apart_from_wrong_values(came, expected, said):
    with pytest.raises(Rejected, match=said):
        expect_same(came, expected, "Look again.", case="f()")


def test_attempt_puts_its_hint_before_what_went_wrong():
    with pytest.raises(Rejected, match=r"^Add the rows up. ZeroDivisionError"):
        attempt(lambda: 1 / 0, hint="Add the rows up.")


def test_hints_come_one_after_another_and_begin_again(home, capsys):
    for _ in range(4):
        checks.hint("data_engineering.version_of")
    first, second, third, again = capsys.readouterr().out.splitlines()
    assert first.startswith("Hint 1 of 3")
    assert third.startswith("Hint 3 of 3 (no more after this)")
    assert again == first != second


@pytest.mark.parametrize("gap", ["99.x", "data_engineering.x", "version_of"])
def test_a_hint_for_no_gap_says_which_gaps_there_are(gap, home):
    with pytest.raises(ValueError, match=r"there are .*data_engineering"):
        checks.hint(gap)


# Progress -------------------------------------------------------------------------------------------------------------


def test_what_was_tried_survives_and_says_how_it_ended(home):
    progress.record("data_engineering.known_by", "failed", "Look again.")
    progress.record("data_engineering.known_by", "hint")
    progress.record("data_engineering.known_by", "passed")
    standing = progress.standings(progress.events()[0])["data_engineering.known_by"]
    assert (standing.done, standing.failed, standing.hints, standing.message) == (True, 1, 1, "Look again.")
    assert "data_engineering.known_by                    done   1 rejected, 1 hints" in overview.table(
        "data_engineering"
    )


def test_what_was_done_stays_done_until_its_lesson_is_reset(home):
    found = [{"gap": "data_engineering.a", "what": what} for what in ("passed", "failed")]
    assert progress.standings(found)["data_engineering.a"].done
    assert progress.standings([*found, {"gap": "data_engineering", "what": "reset"}]) == {}
    assert progress.standings([*found, {"gap": "features", "what": "reset"}])["data_engineering.a"].done


def test_what_was_kept_when_lessons_had_numbers_is_read(home):
    home.mkdir()
    lines = [
        {"gap": "03.known_by", "what": "passed"},
        {"gap": "12.psi", "what": "passed"},
        {"gap": "12", "what": "reset"},
    ]
    (home / "progress.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    assert [*progress.standings(progress.events()[0])] == ["data_engineering.known_by"]


def test_the_lessons_of_the_exercises_are_in_the_order_of_the_course():
    solutions = sorted((Path(__file__).parents[2] / "solutions").glob("*.ipynb"))
    assert [f"{number_of(name)}_{name}" for name in LESSONS] == [path.stem for path in solutions]


@pytest.mark.parametrize("spoilt", [b"{half a li", b"\xff\xfe\n", b"[]\n", b'{"gap": 1}\n'])
def test_a_line_that_cannot_be_read_loses_no_other(home, spoilt):
    progress.record("data_engineering.known_by", "passed")
    with (home / "progress.jsonl").open("ab") as stream:
        stream.write(spoilt)
    progress.record("data_engineering.version_of", "passed")
    assert sorted(progress.standings(progress.events()[0])) == [
        "data_engineering.known_by",
        "data_engineering.version_of",
    ]
    assert "1 lines of progress.jsonl could not be read" in overview.table()


def test_a_workspace_that_cannot_be_written_does_not_stand_in_the_way(home, capsys):
    home.write_text("a file where the folder should be", encoding="utf-8")
    progress.record("data_engineering.known_by", "passed")
    assert "was not kept" in capsys.readouterr().out


def test_a_check_that_belongs_to_no_lesson_is_not_kept(home):
    total(sum)
    assert progress.events() == ([], 0)


def test_a_lesson_without_exercises_is_named(home):
    with pytest.raises(ValueError, match="got '99'; there are"):
        overview.table("99")


GAP = 'def known_by(flights, instant):\n    # BEGIN SOLUTION\n    return "mine"\n    # END SOLUTION'


@pytest.fixture
def course(tmp_path):
    """A folder with one exercise that a learner has worked on."""
    notebook = made.new_notebook(cells=[made.new_code_cell(GAP, id="gap")])
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "04_data_engineering.ipynb").write_text(stored(notebook), encoding="utf-8")
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "04_data_engineering.ipynb").write_text("precious", encoding="utf-8")
    return {"exercises": tmp_path / "exercises", "solutions": tmp_path / "solutions"}


def test_a_reset_keeps_the_learner_s_notebook_aside(home, course):
    progress.record("data_engineering.known_by", "passed")
    copy = overview.reset("data_engineering", **course)
    assert copy.read_text(encoding="utf-8") == "precious"
    assert "raise checks.YourTurn" in (course["exercises"] / "04_data_engineering.ipynb").read_text(encoding="utf-8")
    assert progress.standings(progress.events()[0]) == {}
    assert overview.reset("data_engineering", **course) != copy, "two resets keep two notebooks"


def test_a_reset_that_cannot_copy_changes_nothing(home, course):
    (home / "aside").parent.mkdir(parents=True)
    (home / "aside").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="aside"):
        overview.reset("data_engineering", **course)
    assert (course["exercises"] / "04_data_engineering.ipynb").read_text(encoding="utf-8") == "precious"


# A classroom ----------------------------------------------------------------------------------------------------------


class Tracking(BaseHTTPRequestHandler):
    """The part of MLflow's REST interface that progress is sent to, with its real paths, answers and limits."""

    def do_GET(self):
        self.answer(200 if self.server.experiment else 404, {"experiment": {"experiment_id": "1"}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.removeprefix("/api/2.0/mlflow/")
        if path == "runs/log-batch":
            self.log_batch(body["tags"])
            return
        runs = [{"info": {"run_id": "r"}}] * self.server.run
        self.server.run |= path == "runs/create"
        replies = {"runs/search": {"runs": runs} if runs else {}}
        self.answer(200, replies.get(path, {"run": {"info": {"run_id": "r"}}}))

    def log_batch(self, tags):
        """All tags or none: at most a hundred, with keys of 250 letters, digits and a few signs, values of 5000."""
        keys = all(re.fullmatch(r"[/\w.\- :]{1,250}", tag["key"]) for tag in tags)
        taken = keys and len(tags) <= 100 and all(len(tag["value"]) <= 5000 for tag in tags)
        if taken:
            self.server.batches.append({tag["key"]: json.loads(tag["value"]) for tag in tags})
        self.answer(200 if taken else 400, {})

    def answer(self, status, body):
        if self.server.login and self.headers["Authorization"] != "Basic " + self.server.login:
            status = 401
        self.send_response(self.server.refuses or status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def classroom():
    with HTTPServer(("127.0.0.1", 0), Tracking) as server:
        server.experiment, server.run, server.batches = True, False, []  # the room made the experiment
        server.login, server.refuses = "", 0  # what the header must hold; a status for everything
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def room(server, password="secret", learner="ada"):
    return Joined(f"http://127.0.0.1:{server.server_port}", "", learner, password)


def joins(home, room):
    home.mkdir(exist_ok=True)
    (home / "classroom.json").write_text(json.dumps(vars(room)), encoding="utf-8")


def happened(home, *events):
    """Events as lines of the file, also such as no check writes."""
    home.mkdir(exist_ok=True)
    with (home / "progress.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"what": "passed", "message": "", "at": "", **event}) + "\n" for event in events)


def sent(server):
    return {gap: told for batch in server.batches for gap, told in batch.items()}


def test_what_could_not_be_sent_is_sent_later_and_once(home, classroom, monkeypatch):
    progress.record("data_engineering.known_by", "failed", "Look again.")
    progress.record("data_engineering.known_by", "passed")
    assert progress.waiting(room(classroom)) == 2
    assert progress.deliver(room(classroom)) == 2
    assert progress.deliver(room(classroom)) == 0
    [batch] = classroom.batches
    assert batch["data_engineering.known_by"]["done"]
    assert batch["data_engineering.known_by"]["message"] == "Look again."
    assert progress.waiting(room(classroom)) == 0


@pytest.mark.parametrize(
    "another",
    [
        lambda first: Joined("http://127.0.0.1:9", "", first.learner, first.password),
        lambda first: Joined(first.server, "", "bob", first.password),
        lambda first: Joined(first.server, "", first.learner, "given again after ada was forgotten"),
    ],
    ids=["server", "learner", "account"],
)
def test_another_classroom_gets_everything_and_so_does_the_first_one_again(home, classroom, another):
    happened(home, {"gap": "data_engineering.known_by"}, {"gap": "data_engineering.version_of"})
    first = room(classroom)
    progress.deliver(first)
    assert progress.waiting(another(first)) == 2
    progress.deliver(room(classroom, "other", "carl"))
    assert progress.deliver(first) == 2


def test_a_new_server_in_the_same_place_gets_everything(home, classroom):
    happened(home, {"gap": "data_engineering.known_by"})
    progress.deliver(room(classroom))
    classroom.run, classroom.batches = False, []
    happened(home, {"gap": "data_engineering.version_of"})
    progress.deliver(room(classroom))
    assert sorted(sent(classroom)) == ["data_engineering.known_by", "data_engineering.version_of"]


def test_only_what_is_new_is_sent_to_a_run_that_is_there(home, classroom):
    happened(home, {"gap": "data_engineering.known_by"})
    progress.deliver(room(classroom))
    happened(home, {"gap": "data_engineering.version_of"})
    progress.deliver(room(classroom))
    assert [sorted(batch) for batch in classroom.batches] == [
        ["data_engineering.known_by"],
        ["data_engineering.version_of"],
    ]


def test_more_gaps_than_mlflow_takes_at_once_are_all_sent(home, classroom):
    gaps = [f"data_engineering.gap_{number}" for number in range(250)]
    happened(home, *({"gap": gap} for gap in gaps))
    progress.deliver(room(classroom))
    assert [len(batch) for batch in classroom.batches] == [100, 100, 50]
    assert sorted(sent(classroom)) == sorted(gaps)


@pytest.mark.parametrize(
    "event",
    [
        {"gap": "data_engineering.version_of", "what": "failed", "message": "\N{SNAKE}" * 9_000},
        {"gap": "data_engineering.version_of", "at": "x" * 9_000},
        {"gap": "data_engineering." + "x" * 300},
        {"gap": "data_engineering.a$b"},
        {"gap": 3},
        {"gap": "99", "what": "reset"},
    ],
    ids=lambda event: str(event)[:40],
)
def test_an_event_that_mlflow_would_refuse_does_not_keep_the_others_back(home, classroom, event):
    happened(home, {"gap": "data_engineering.known_by"}, event)
    assert progress.deliver(room(classroom)) == 2
    assert sent(classroom)["data_engineering.known_by"]["done"]
    assert progress.waiting(room(classroom)) == 0


def test_as_much_of_a_message_is_sent_as_fits(home, classroom):
    progress.record("data_engineering.known_by", "failed", "Look again. " + "\N{SNAKE}" * 9_000)
    progress.record("data_engineering.version_of", "failed", "x" * 9_000)
    progress.deliver(room(classroom))
    assert sent(classroom)["data_engineering.known_by"]["message"].startswith("Look again. \N{SNAKE}")
    assert sent(classroom)["data_engineering.version_of"]["message"] == "x" * 500


def test_a_room_that_was_joined_is_where_results_go_with_name_and_password(home, classroom):
    classroom.login = base64.b64encode(b"ada:secret").decode()
    joins(home, room(classroom))
    happened(home, {"gap": "data_engineering.known_by"})
    assert progress.deliver(progress.classroom()) == 1
    assert sent(classroom)["data_engineering.known_by"]["done"]


def test_progress_names_a_wrong_password_and_checks_do_not(home, classroom, capsys):
    classroom.login = base64.b64encode(b"ada:secret").decode()
    joins(home, room(classroom, "guess"))
    total_of_lesson = check("Which?", "All.")(lesson_law)
    total_of_lesson(sum)
    deliver_quietly(progress.classroom())
    assert capsys.readouterr() == ("lesson_law: correct. Every row counts once.\n", "")
    said = CliRunner().invoke(commands.progress, []).output
    assert "1 results wait: the classroom no longer knows ada" in said
    classroom.login = ""
    assert "1 results sent to the classroom" in CliRunner().invoke(commands.progress, []).output


def lesson_law(answer):
    """Every row counts once."""


lesson_law.__module__ = "mlops_course.course.checks.data_engineering"


def test_a_learner_who_was_forgotten_makes_no_experiment_again(home, classroom):
    happened(home, {"gap": "data_engineering.known_by"})
    classroom.experiment = False
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        progress.deliver(room(classroom))
    assert (classroom.run, classroom.batches) == (False, [])
    assert progress.waiting(room(classroom)) == 1


@pytest.mark.parametrize("status", [301, 403, 404, 429, 500])
def test_what_a_server_refuses_waits(home, classroom, status, capsys):
    happened(home, {"gap": "data_engineering.known_by"})
    classroom.refuses = status
    deliver_quietly(room(classroom))
    assert progress.waiting(room(classroom)) == 1
    classroom.refuses = 0
    assert progress.deliver(room(classroom)) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("spoilt", ["", "[]", "no json", '{"server": "http://s:1"}'])
def test_progress_names_a_room_file_that_cannot_be_read_and_checks_do_not(home, spoilt, capsys):
    home.mkdir(exist_ok=True)
    (home / "classroom.json").write_text(spoilt, encoding="utf-8")
    progress.record("data_engineering.known_by", "passed")
    assert capsys.readouterr() == ("", "")
    assert "join again" in CliRunner().invoke(commands.progress, []).output


def test_a_reset_reaches_the_classroom(home, classroom):
    progress.record("data_engineering.known_by", "passed")
    progress.deliver(room(classroom))
    progress.record("data_engineering", "reset")
    progress.deliver(room(classroom))
    assert not classroom.batches[-1]["data_engineering.known_by"]["done"]


@pytest.mark.parametrize("server", ["http://127.0.0.1:9", "http://[", "nonsense", "file:///x"])
def test_a_classroom_that_is_away_blocks_nobody(home, server, capsys):
    progress.record("data_engineering.known_by", "failed")
    there = Joined(server, "", "ada", "")
    deliver_quietly(there)
    assert progress.waiting(there) == 1
    joins(home, there)
    progress.record("data_engineering.known_by", "passed")
    assert capsys.readouterr().out == ""


def test_lines_that_were_lost_do_not_confuse_what_was_sent(home, classroom):
    progress.record("data_engineering.known_by", "passed")
    (home / "progress.sent").write_text("not a number", encoding="utf-8")
    assert progress.deliver(room(classroom)) == 1


def test_events_that_were_deleted_do_not_hold_new_ones_back(home, classroom):
    happened(home, {"gap": "data_engineering.known_by"}, {"gap": "data_engineering.version_of"})
    progress.deliver(room(classroom))
    (home / "progress.jsonl").unlink()
    happened(home, {"gap": "data_engineering.impossible_rows"})
    assert progress.waiting(room(classroom)) == 1
    progress.deliver(room(classroom))
    assert sent(classroom)["data_engineering.impossible_rows"]["done"]


# Marking --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def worked_on(tmp_path):
    """A learner's notebook: one gap done, one wrong, one open, and a cell that never ends."""
    sources = [
        "from mlops_course.course.checks import data_engineering as checks",
        "def known_by(readings, instant):\n"
        "    there = readings[readings.received <= instant].sort_values('received')\n"
        "    return there.drop_duplicates(['origin', 'hour'], keep='last')",
        "checks.known_by(known_by)",
        "while True: pass",
        "def version_of(table, key):\n    return dict.fromkeys(table[key], 7)",
        "checks.version_of(version_of)",
        "def impossible_rows(weather):\n    raise checks.YourTurn",
        "checks.impossible_rows(impossible_rows)",
    ]
    path = tmp_path / "03_mine.ipynb"
    path.write_text(stored(made.new_notebook(cells=[made.new_code_cell(source) for source in sources])))
    return path


def test_a_notebook_is_marked_gap_by_gap_and_left_as_it_is(worked_on, home, monkeypatch):
    def seconds_of(cell):  # only the cell that never ends is short of time, however slow the machine is with the others
        return 1 if "while True" in cell.source else 600

    monkeypatch.setattr(nbclient, "NotebookClient", partial(nbclient.NotebookClient, timeout_func=seconds_of))
    before = worked_on.read_bytes()
    marks = marking.mark(worked_on)
    assert [(mark.name, mark.outcome) for mark in marks] == [
        ("known_by", "done"),
        ("version_of", "not yet"),
        ("impossible_rows", "your turn"),
    ]
    assert marks[1].said.startswith("A version is a text")
    assert worked_on.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"), [("{", "it cannot be read"), (stored(made.new_notebook()), "is it an exercise")]
)
def test_a_notebook_that_is_no_exercise_is_refused(tmp_path, content, said):
    (tmp_path / "04_data_engineering.ipynb").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        marking.mark(tmp_path / "04_data_engineering.ipynb")


def test_an_answer_that_changes_its_arguments_does_not_spoil_them_for_the_next_try():
    rows = [3, 1, 2]
    with pytest.raises(Rejected, match="came back changed"):
        watched(lambda rows: rows.sort() or rows, name="answer")(rows)
    assert rows == [3, 1, 2]


def test_a_law_names_its_case():
    with pytest.raises(Rejected, match=r"^More. f.1. is negative$"):
        expect(False, "More.", case="f(1) is negative")
