"""Laws of the prediction log: kept once, all or nothing, in order, and honest about a database that fails.

Laws that any database has to keep are tried on SQLite, and on PostgreSQL if MLOPS_TEST_POSTGRES holds the URL of a
server, such as postgresql+psycopg://me@127.0.0.1/postgres, in which schemas may be made.
"""

import os
import shutil
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from queue import Queue
from threading import Barrier, Event, get_ident
from uuid import uuid4

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_course.operations.deployment import prediction_log
from mlops_course.operations.deployment.prediction_log import (
    LabelConflictError,
    LogUnavailableError,
    PredictionConflictError,
    PredictionLog,
)

POSTGRES = os.environ.get("MLOPS_TEST_POSTGRES")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DEADLINE = 120  # seconds, for what another thread does at once
LONG = "x" * 100_000  # needs pages that the file has not yet
ODD_IDS = ["it's", '"', "%s", ":id", "\\0", "\\x00", "NULL", "None", "nan", "", " a", "a", "A", "ä", "日本", "🛫"]

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not move or limit a file that is open")
needs_postgres = pytest.mark.skipif(not POSTGRES, reason="MLOPS_TEST_POSTGRES is not set")


def prediction(name="a", **changes):
    versions = {"assigned_version": 2, "model_version": 1, "share": 0.1}
    answer = {"probability": 0.25, "decision": True, "latency_ms": 1.5, "inputs": "{}"}
    return {"id": name, "time": NOON} | versions | answer | changes


def label(name="a", value=1, *, time=NOON):
    return {"id": name, "label": value, "time": time}


def ids(log, **which):
    return log.predictions(**which)["id"].tolist()


def tell(url, statement):
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def emptied(log, url):
    """A log without its rows, for the next generated example."""
    for table in ("predictions", "labels"):
        tell(url, f"DELETE FROM {table}")
    return log


def state(log):
    """Ids predicted, ids labelled, and the position of the reader."""
    return ids(log), log.labelled()["id"].tolist(), log.position("reader")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture(params=["sqlite", *["postgresql"] * bool(POSTGRES)])
def url(request, file):
    """Of a database of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{file.as_posix()}"
        return
    schema = f"test_{uuid4().hex}"
    tell(POSTGRES, f"CREATE SCHEMA {schema}")
    own = sa.make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={schema}"})
    yield own.render_as_string(hide_password=False)
    tell(POSTGRES, f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def log(url):
    with closing(PredictionLog(url)) as log:
        yield log


class Time:
    """A clock that advances a second for each pause of a writer, and what else happens in the first, second, ..."""

    def __init__(self):
        self.pauses, self.then = 0, {}

    def clock(self):
        return float(self.pauses)

    def sleep(self, _):
        self.pauses += 1
        self.then.pop(self.pauses, int)()


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def file_log(file, time):
    with closing(PredictionLog(f"sqlite:///{file.as_posix()}", clock=time.clock, sleep=time.sleep)) as log:
        log.append([prediction("before")])
        yield log


# Once, in order, all or nothing


class Dicts:
    """What the log promises, said with two dicts."""

    def __init__(self):
        self.predictions, self.labels = {}, {}

    def append(self, predictions, *, labels):
        new, repeated = self.told(self.predictions, predictions, "inputs", PredictionConflictError)
        new_labels, _ = self.told(self.labels, labels, "label", LabelConflictError)
        self.predictions, self.labels = new, new_labels
        return {name: new[name] for name in repeated}

    @staticmethod
    def told(record, rows, what, error):
        record, repeated, other = dict(record), set(), set()
        for row in rows:
            repeated |= {row["id"]} & record.keys()
            if record.setdefault(row["id"], row)[what] != row[what]:
                other.add(row["id"])
        if other:
            raise error(sorted(other))
        return record, repeated


def outcome(log, predictions, labels):
    try:
        return {name: row["probability"] for name, row in log.append(predictions, labels=labels).items()}
    except (PredictionConflictError, LabelConflictError) as error:
        return type(error), error.ids


def read(log):
    rows, labelled = log.predictions()[["id", "probability", "inputs"]], log.labelled()
    return rows.to_dict("records"), labelled["id"].tolist(), labelled["label"].tolist()


def read_dicts(dicts):
    rows = [{key: row[key] for key in ("id", "probability", "inputs")} for row in dicts.predictions.values()]
    known = [row for row in dicts.labels.values() if row["id"] in dicts.predictions]
    return rows, [row["id"] for row in known], [row["label"] for row in known]


names = st.sampled_from("abcd")
some_predictions = st.lists(
    st.builds(
        lambda name, inputs, p: prediction(name, inputs=inputs, probability=p),
        names,
        st.sampled_from(["{}", "{}", "{}", "[]"]),
        st.floats(0, 1, width=16),
    ),
    max_size=4,
)
some_labels = st.lists(st.builds(label, names, st.sampled_from([1, 1, 1, 0])), max_size=3)


@pytest.mark.parametrize(
    ("change", "words"), [({"latency": 3.0}, "unknown: latency"), ({"inputs": None}, "missing: inputs")]
)
def test_a_prediction_with_a_misspelt_or_missing_value_is_refused_and_nothing_is_kept(log, change, words):
    wrong = {name: value for name, value in (prediction("b") | change).items() if value is not None}
    with pytest.raises(ValueError, match=words):
        log.append([prediction("a"), wrong])
    assert ids(log) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(some_predictions, some_labels), max_size=5))
def test_whatever_is_appended_the_first_of_each_id_is_kept_in_order_or_nothing_of_the_call(url, log, calls):
    dicts, log = Dicts(), emptied(log, url)
    for call in calls:
        assert outcome(log, *call) == outcome(dicts, *call)
        assert read(log) == read_dicts(dicts)


def test_the_first_answer_stays_and_is_the_one_returned(log):
    assert log.append([prediction(probability=0.1)]) == {}
    known = log.append([prediction(probability=0.9), prediction("b")])
    assert {name: row["probability"] for name, row in known.items()} == {"a": 0.1}
    assert log.predictions()["probability"].tolist() == [0.1, 0.25]


def test_of_an_id_that_comes_twice_in_one_call_the_first_is_kept_and_returned_in_its_place(log):
    known = log.append([prediction(probability=0.1), prediction("b"), prediction(probability=0.9)])
    assert {name: row["probability"] for name, row in known.items()} == {"a": 0.1}
    assert ids(log) == ["a", "b"]
    assert log.predictions()["probability"].tolist() == [0.1, 0.25]


def test_other_inputs_under_a_used_id_are_refused_with_all_that_came_along(log):
    log.append([prediction("a"), prediction("c")])
    with pytest.raises(PredictionConflictError, match="other inputs came for a, c: give each") as caught:
        log.append([prediction(name, inputs="[]") for name in "cba"], labels=[label("b")], position=("reader", 3))
    assert caught.value.ids == ("a", "c")
    log.append([prediction("b")])
    assert state(log) == (["a", "c", "b"], [], 0)


def test_a_label_that_contradicts_is_refused_with_all_that_came_along(log):
    log.append(labels=[label("a", 1)])
    with pytest.raises(LabelConflictError, match="another one came for a: find out which is right") as caught:
        log.append([prediction("a"), prediction("b")], labels=[label("b"), label("a", 0)], position=("reader", 3))
    assert caught.value.ids == ("a",)
    assert state(log) == ([], [], 0)
    log.append([prediction("a"), prediction("b")])
    assert log.labelled()[["id", "label"]].to_dict("records") == [{"id": "a", "label": 1}]


def test_a_label_that_contradicts_is_kept_beside_the_one_on_record_and_deleted_with_it(log):
    """A false label may have come first: the true one must not be lost."""
    log.append([prediction("a"), prediction("b")], labels=[label("a", 1), label("b", 1)])
    for labels in ([label("a", 0)], [label("a", 0), label("b", 1)], [label("b", 1)]):
        with suppress(LabelConflictError):
            log.append(labels=labels)
    found = log.contradictions()
    assert found[["id", "label", "on_record"]].to_dict("records") == [{"id": "a", "label": 0, "on_record": 1}]
    assert log.labelled()["label"].tolist() == [1, 1]
    log.delete(["a"])
    assert log.contradictions().empty


@pytest.mark.parametrize("rows", [[1, 0], [0, 1]])
def test_labels_that_contradict_each_other_in_one_call_are_refused(log, rows):
    log.append([prediction()])
    with pytest.raises(LabelConflictError):
        log.append(labels=[label(value=value) for value in rows])
    assert log.labelled().empty


def test_a_label_may_come_before_its_prediction_and_the_order_is_that_of_the_labels(log):
    log.append([prediction("a")], labels=[label("b", 0)])
    log.append([prediction("b"), prediction("c")])
    log.append(labels=[label("c"), label("a")])
    assert log.labelled()["id"].tolist() == ["b", "c", "a"]
    assert log.labelled()["label"].tolist() == [0, 1, 1]


def test_a_repeated_label_keeps_the_time_at_which_it_was_first_known(log):
    late = label(time=NOON + timedelta(days=9))
    log.append([prediction(), prediction("b")], labels=[label(), late])
    log.append(labels=[late, label("b")])
    assert log.labelled()["label_time"].tolist() == [NOON, NOON]


def test_a_position_is_kept_for_each_consumer_and_with_rows_that_were_there_already(log):
    log.append([prediction()], position=("one", 5))
    log.append([prediction()], position=("one", 6))
    log.append(position=("other", 2))
    assert [log.position(name) for name in ("one", "other", "nobody")] == [6, 2, 0]


def test_what_was_kept_is_there_when_the_log_is_opened_again(url):
    with closing(PredictionLog(url)) as log:
        log.append([prediction("a")], labels=[label("a")], position=("reader", 1))
    with closing(PredictionLog(url)) as log:
        assert state(log) == (["a"], ["a"], 1)


def test_a_closed_log_may_be_used_again(log):
    log.close()
    assert log.append([prediction()]) == {}


def test_an_argument_is_left_as_it_was(log):
    rows, labels = [prediction(), prediction()], [label()]
    log.append(rows, labels=labels)
    assert (rows, labels) == ([prediction(), prediction()], [label()])


# What comes back


def test_a_prediction_comes_back_as_it_was_kept(log):
    row = prediction(probability=1 / 3, share=0.1 + 0.2, decision=False, inputs='{"a": "ü\\u0000", "b": null}')
    log.append([row])
    assert log.predictions().to_dict("records") == [{"number": 1, **row}]


def test_what_a_prediction_leaves_out_is_kept_as_if_there_was_no_canary(log):
    given = {name: prediction()[name] for name in ("id", "time", "model_version", "probability", "decision")}
    log.append([given | {"inputs": {"a": 0.1 + 0.2, "b": None}}])
    (kept,) = log.predictions().to_dict("records")
    assert kept["inputs"] == '{"a":0.30000000000000004,"b":null}'
    assert (kept["assigned_version"], kept["share"], kept["latency_ms"]) == (given["model_version"], 0.0, 0.0)


def test_a_time_of_any_zone_comes_back_in_utc_to_the_microsecond(log):
    time = datetime(2024, 3, 31, 1, 30, 0, 123457, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    log.append([prediction(time=time)], labels=[label(time=time)])
    row = log.labelled().iloc[0]
    assert row["time"] == row["label_time"] == time
    assert str(row["time"].tz) == str(row["label_time"].tz) == "UTC"


@pytest.mark.parametrize("what", ["prediction", "label"])
def test_a_time_without_a_zone_is_refused_and_nothing_kept(log, what):
    naive = NOON.replace(tzinfo=None)
    rows, labels = ([prediction("b", time=naive)], []) if what == "prediction" else ([], [label("b", time=naive)])
    with pytest.raises(ValueError, match="expected a time with its zone for 'b'"):
        log.append([prediction("a"), *rows], labels=labels)
    assert ids(log) == []


def test_any_text_is_an_id(log):
    log.append([prediction(name) for name in ODD_IDS], labels=[label(name) for name in ODD_IDS])
    assert ids(log) == log.labelled()["id"].tolist() == ODD_IDS
    assert log.append([prediction(name) for name in ODD_IDS]).keys() == set(ODD_IDS)
    assert log.unpredicted([*ODD_IDS, "b"]) == {"b"}


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(anything, unique=True, max_size=8))
def test_two_texts_are_one_id_only_if_they_are_the_same(url, log, some):
    emptied(log, url).append([prediction(name, inputs=name) for name in some])
    assert ids(log) == log.predictions()["inputs"].tolist() == some


def test_a_null_character_in_an_id_is_kept_by_sqlite(file):
    with closing(PredictionLog(f"sqlite:///{file.as_posix()}")) as log:
        log.append([prediction("a\0b"), prediction("a\0c"), prediction("a")])
        assert ids(log) == ["a\0b", "a\0c", "a"]


def test_more_ids_in_one_call_than_one_statement_carries(log):
    some = [f"{number}" for number in range(2 * prediction_log.log.IDS_A_QUERY + 1)]
    log.append([prediction(name) for name in some[::2]])
    known = log.append([prediction(name) for name in some], labels=[label(name) for name in some])
    assert known.keys() == set(some[::2])
    assert ids(log) == some[::2] + some[1::2]
    assert log.unpredicted([*some, "b"]) == {"b"}
    assert log.labelled()["id"].tolist() == some


def test_a_part_is_read_by_number_time_and_size(log):
    log.append([prediction(name, time=NOON + timedelta(hours=hour)) for hour, name in enumerate("abcd")])
    number = dict(zip("abcd", log.predictions()["number"], strict=True))
    assert ids(log, after=number["b"]) == ["c", "d"]
    assert ids(log, since=NOON + timedelta(hours=1)) == ["b", "c", "d"]
    assert ids(log, limit=2) == ["a", "b"]
    assert ids(log, after=number["a"], since=NOON.astimezone(timezone(timedelta(hours=7))), limit=1) == ["b"]
    assert ids(log, after=log.last()) == []


def test_labels_are_read_after_the_number_of_a_label_and_since_the_time_of_the_prediction(log):
    log.append([prediction(name, time=NOON + timedelta(hours=hour)) for hour, name in enumerate("abc")])
    log.append(labels=[label(name) for name in "cba"])
    every = log.labelled()
    assert every["id"].tolist() == ["c", "b", "a"]
    assert log.labelled(after=int(every["label_number"].iloc[0]))["id"].tolist() == ["b", "a"]
    assert log.labelled(since=NOON + timedelta(hours=1))["id"].tolist() == ["c", "b"]


def test_numbers_go_up_and_the_last_one_is_that_of_the_newest(log):
    assert log.last() == 0
    log.append([prediction("a"), prediction("b")])
    log.append([prediction("b"), prediction("c")])
    numbers = log.predictions()["number"]
    assert numbers.is_monotonic_increasing
    assert (numbers.is_unique, log.last()) == (True, numbers.max())


@pytest.mark.parametrize("what", ["predictions", "labelled"])
def test_inputs_are_left_out_where_they_are_not_asked_for(log, what):
    log.append([prediction()], labels=[label()])
    pd.testing.assert_frame_equal(getattr(log, what)(inputs=False), getattr(log, what)().drop(columns="inputs"))


@pytest.mark.parametrize("what", ["predictions", "labelled"])
def test_an_empty_table_has_the_types_of_a_full_one(log, what):
    empty = getattr(log, what)()
    log.append([prediction()], labels=[label()])
    assert len(empty) == 0
    pd.testing.assert_frame_equal(empty, getattr(log, what)()[:0])


def test_an_empty_table_can_be_computed_with(log):
    labelled = log.labelled()
    assert labelled["time"].dt.date.empty
    assert (labelled["label_time"] - labelled["time"]).sum() == timedelta(0)
    assert labelled[labelled["decision"] & (labelled["label"] == 1) & (labelled["probability"] > 0.5)].empty


def test_prefixes_keep_two_logs_apart_in_one_database(url):
    with closing(PredictionLog(url)) as one, closing(PredictionLog(url, prefix="shadow_")) as other:
        one.append([prediction("a")], labels=[label("a")], position=("reader", 1))
        other.append([prediction("a", inputs="[]")], labels=[label("a", 0)])
        assert one.labelled()[["inputs", "label"]].to_dict("records") == [{"inputs": "{}", "label": 1}]
        assert other.labelled()[["inputs", "label"]].to_dict("records") == [{"inputs": "[]", "label": 0}]
        assert (one.position("reader"), other.position("reader")) == (1, 0)


# Several at once

ROWS_A_WRITER = 10
THREADS, IDS_A_THREAD, IDS_A_CALL = 8, 80, 10
ALL_IDS = 5 * IDS_A_THREAD // 2  # four pairs of threads, half of whose ids are those of the next pair too


def at_once(job, arguments):
    """Results of a job that threads begin at the same moment."""
    start = Barrier(len(arguments))

    def run(argument):
        start.wait()
        return job(argument)

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(run, arguments))


def append_overlapping(number_and_log):
    """Append 80 ids, every other of which half of the other threads append, too, some upwards and some downwards."""
    number, log = number_and_log
    some = [f"{IDS_A_THREAD // 2 * (number // 2) + each}" for each in range(IDS_A_THREAD)][:: 1 if number % 2 else -1]
    known = [
        log.append([prediction(name, model_version=number) for name in some[start : start + IDS_A_CALL]])
        for start in range(0, IDS_A_THREAD, IDS_A_CALL)
    ]
    return {name: row["model_version"] for answer in known for name, row in answer.items()}


@pytest.mark.parametrize("logs", [1, 2])
def test_threads_that_append_the_same_ids_at_once_agree_on_one_answer_for_each(url, logs):
    logs = [PredictionLog(url) for _ in range(logs)]
    known = at_once(append_overlapping, [(number, logs[number % len(logs)]) for number in range(THREADS)])
    kept = logs[0].predictions().set_index("id")["model_version"]
    [log.close() for log in logs]
    assert sorted(kept.index, key=int) == [f"{number}" for number in range(ALL_IDS)]
    assert all(kept[name] == version for answers in known for name, version in answers.items())
    assert sum(map(len, known)) == THREADS * IDS_A_THREAD - len(kept)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_threads_share_a_log_in_memory(url):
    with closing(PredictionLog(url)) as log:
        at_once(append_overlapping, [(number, log) for number in range(THREADS)])
        assert len(ids(log)) == ALL_IDS


def test_a_new_log_may_be_opened_by_several_at_once(url):
    logs = at_once(lambda _: PredictionLog(url), range(THREADS))
    at_once(lambda log: log.append([prediction()]), logs)
    assert ids(logs[0]) == ["a"]
    [log.close() for log in logs]


def test_a_reader_that_goes_on_after_the_last_number_it_saw_misses_no_row(url):
    def write(log, number):
        [log.append([prediction(f"{number}-{each}")]) for each in range(ROWS_A_WRITER)]

    seen, after = [], 0
    with closing(PredictionLog(url)) as log, ThreadPoolExecutor(THREADS) as threads:
        writers = [threads.submit(write, log, number) for number in range(THREADS)]
        while len(new := log.predictions(after=after)) or not all(writer.done() for writer in writers):
            seen, after = [*seen, *new["id"]], max([after, *new["number"].tolist()])
        seen += ids(log, after=after)
        assert [writer.result() for writer in writers] == [None] * THREADS
        assert seen == ids(log)
    assert len(seen) == ROWS_A_WRITER * THREADS


# Waiting for another writer


@contextmanager
def locked(file, log):
    """By a connection of somebody else; gives what releases the lock."""
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield partial(other.execute, "ROLLBACK")


def wait_until_in_line(came, name):
    """A writer reads the clock when it stands in the line."""
    while came.get(timeout=DEADLINE) != name:
        pass


def test_a_lock_of_another_connection_is_waited_for_until_it_is_released(file, file_log, time):
    with locked(file, file_log) as release:
        time.then[3] = release
        assert file_log.append([prediction()]) == {}
    assert time.pauses == 3
    assert ids(file_log) == ["before", "a"]


def test_a_lock_is_waited_for_as_long_as_is_said_and_then_nothing_is_kept(file, file_log, time):
    with (
        locked(file, file_log),
        pytest.raises(LogUnavailableError, match=r"waited 30 s, and another .* nothing was kept"),
    ):
        file_log.append([prediction()], labels=[label()], position=("reader", 7))
    assert time.pauses == prediction_log.database.BUSY_SECONDS == 30
    assert state(file_log) == (["before"], [], 0)


def test_writers_of_one_process_are_served_in_the_order_in_which_they_came(file):
    came, paused, go_on, names = Queue(), [], Event(), "hcbgafed"

    def writer(name):
        def pause(_):
            paused.append(name)
            go_on.wait(DEADLINE)

        return PredictionLog(f"sqlite:///{file.as_posix()}", clock=lambda: came.put(name) or 0.0, sleep=pause)

    logs = {name: writer(name) for name in names}
    while not came.empty():  # they read the clock when they open the file, too
        came.get()
    with ThreadPoolExecutor(len(names)) as threads:
        with locked(file, logs) as release:
            for name, log in logs.items():
                threads.submit(log.append, [prediction(name)])
                wait_until_in_line(came, name)
            release()
        go_on.set()
    assert ids(logs["a"]) == list(names)
    assert set(paused) == {names[0]}, "who is not the first asks for the lock, too"
    [log.close() for log in logs.values()]


def test_a_writer_waits_no_longer_in_all_when_another_one_was_before_it(file):
    now, came, paused, go_on = [0.0], Queue(), Queue(), Event()

    def pause(_):
        paused.put(get_ident())
        go_on.wait(DEADLINE)
        now[0] += prediction_log.database.BUSY_SECONDS

    log = PredictionLog(f"sqlite:///{file.as_posix()}", clock=lambda: came.put(get_ident()) or now[0], sleep=pause)
    with closing(log), locked(file, log), ThreadPoolExecutor(2) as threads:
        one = threads.submit(log.append, [prediction("a")])
        first = paused.get(timeout=DEADLINE)
        while not came.empty():
            came.get()
        other = threads.submit(log.append, [prediction("b")])
        assert came.get(timeout=DEADLINE) != first
        go_on.set()
        for writer in (one, other):
            with pytest.raises(LogUnavailableError, match="waited 30 s, and another connection"):
                writer.result()
    assert paused.empty()
    assert ids(log) == []


def test_a_writer_that_waits_too_long_gets_an_error_and_those_behind_it_are_served(file, monkeypatch):
    paused, go_on = Event(), Event()
    log = PredictionLog(f"sqlite:///{file.as_posix()}", sleep=lambda _: paused.set() or go_on.wait(DEADLINE))
    with closing(log), ThreadPoolExecutor(1) as threads:
        with locked(file, log) as release:
            first = threads.submit(log.append, [prediction("first")])
            assert paused.wait(DEADLINE)
            with monkeypatch.context() as patched:
                patched.setattr(prediction_log.database, "BUSY_SECONDS", 0)
                with pytest.raises(LogUnavailableError, match=r"waited 0 s behind other writers .* nothing was kept"):
                    log.append([prediction("second")])
            release()
        go_on.set()
        assert first.result() == log.append([prediction("third")]) == {}
        assert ids(log) == ["first", "third"]


@needs_posix
def test_a_file_that_goes_while_its_lock_is_waited_for_is_not_written_to(file, file_log, time):
    away = file.with_suffix(".away")
    with locked(file, file_log) as release:
        time.then = {1: lambda: file.rename(away), 2: release}
        with pytest.raises(LogUnavailableError, match=r"log\.db is gone; put the old one back"):
            file_log.append([prediction()])
        away.rename(file)
    assert ids(file_log) == ["before"]


# Faults


@contextmanager
def listening(event, listener):
    sa.event.listen(sa.Engine, event, listener)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, event, listener)


@contextmanager
def full(file, log):
    def stop_growing(connection, _):
        connection.execute("PRAGMA max_page_count=1")  # the least that there can be is what there is

    log.close()
    with listening("connect", stop_growing):
        yield
    log.close()


@contextmanager
def limited(file, log):
    """The operating system writes no file beyond its size of now."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.with_name(f"{file.name}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def moved(file, log):
    away = file.rename(file.with_suffix(".away"))
    yield
    assert not file.exists(), "a file was made in place of the one that is gone"
    away.rename(file)


@contextmanager
def replaced(file, log, *, make):
    away, other = file.rename(file.with_suffix(".away")), make(file.with_suffix(".other"))
    before = shutil.copy(other, file).read_bytes()
    yield
    assert file.read_bytes() == before, "the file that was put in its place was written to"
    away.replace(file)


def another_log(file):
    with closing(PredictionLog(f"sqlite:///{file.as_posix()}")) as log:
        log.append([prediction(f"{number}") for number in range(200)])
    return file


def no_database(file):
    file.write_text("Dear diary" * 500)
    return file


FAULTS = {
    "locked by another": locked,
    "no page left": full,
    "a write that fails": pytest.param(limited, marks=needs_posix),
    "moved away": pytest.param(moved, marks=needs_posix),
    "replaced by another log": pytest.param(partial(replaced, make=another_log), marks=needs_posix),
    "replaced by a text": pytest.param(partial(replaced, make=no_database), marks=needs_posix),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_reported_keeps_nothing_and_is_over_when_its_cause_is(fault, file, file_log, time):
    call = partial(file_log.append, [prediction("b", inputs=LONG)], labels=[label("b")], position=("reader", 7))
    with fault(file, file_log), pytest.raises(LogUnavailableError, match=r"log\.db to answer: .*nothing was kept"):
        call()
    assert time.pauses == (prediction_log.database.BUSY_SECONDS if fault is locked else 0), "only a lock is waited for"
    assert state(file_log) == (["before"], [], 0)
    assert call() == {}
    assert state(file_log) == (["before", "b"], ["b"], 7)
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


READINGS = {
    "predictions": lambda log: log.predictions(),
    "labelled": lambda log: log.labelled(),
    "position": lambda log: log.position("reader"),
    "last": lambda log: log.last(),
    "unpredicted": lambda log: log.unpredicted(["a"]),
}


@needs_posix
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_file_that_is_gone_is_not_read_from_memory(reading, file, file_log):
    with moved(file, file_log), pytest.raises(LogUnavailableError, match=r"log\.db is gone; put the old one back"):
        reading(file_log)
    reading(file_log)


def test_a_log_that_another_writes_to_can_be_read(file, file_log):
    with locked(file, file_log):
        assert ids(file_log) == ["before"]


def test_opening_a_log_to_read_it_needs_no_lock(url):
    engine = sa.create_engine(url)
    lock = "BEGIN IMMEDIATE" if url.startswith("sqlite") else "LOCK TABLE predictions IN EXCLUSIVE MODE"
    with closing(PredictionLog(url)) as log, engine.connect() as other:
        log.append([prediction("before")])
        other.exec_driver_sql(lock)
        with closing(PredictionLog(url)) as reader:  # a slow one, as the watcher, would else hold up the service
            assert ids(reader) == ["before"]
        other.exec_driver_sql("ROLLBACK")
    engine.dispose()


def test_a_lock_is_waited_for_but_not_forever(url, monkeypatch):  # by the clock of the machine, or by the server's
    monkeypatch.setattr(prediction_log.database, "BUSY_SECONDS", 0.2)
    engine = sa.create_engine(url)
    lock = "BEGIN IMMEDIATE" if url.startswith("sqlite") else "LOCK TABLE predictions IN EXCLUSIVE MODE"
    with closing(PredictionLog(url)) as log, engine.connect() as other:
        log.append([prediction("before")])
        other.exec_driver_sql(lock)
        with pytest.raises(LogUnavailableError, match=r"(?is)lock.*nothing was kept"):
            log.append([prediction()])
        other.exec_driver_sql("ROLLBACK")
        assert log.append([prediction()]) == {}
        assert ids(log) == ["before", "a"]
    engine.dispose()


def read_only(file):
    another_log(file).chmod(0o444)
    file.parent.chmod(0o555)
    return file


is_root = hasattr(os, "geteuid") and os.geteuid() == 0
NOT_TO_OPEN = {
    "a text": no_database,
    "a folder": lambda file: file.mkdir() or file,
    "in a folder that is missing": lambda file: file.parent / "missing" / "log.db",
    "in a file": lambda file: no_database(file) / "log.db",
    "a log cut short": lambda file: os.truncate(another_log(file), 6_000) or file,
    "read only": pytest.param(
        read_only, marks=pytest.mark.skipif(is_root or sys.platform == "win32", reason="root may write everything")
    ),
}


@pytest.mark.parametrize("make", NOT_TO_OPEN.values(), ids=NOT_TO_OPEN)
def test_a_database_that_is_no_log_is_refused_and_left_as_it_was(make, file):
    made = make(file)
    before = made.read_bytes() if made.is_file() else None
    with pytest.raises(LogUnavailableError, match=r"expected the prediction log sqlite:///.* to answer"):
        PredictionLog(f"sqlite:///{made.as_posix()}").append([prediction()])
    assert (made.read_bytes() if made.is_file() else None) == before


@pytest.mark.parametrize("how", ["opened", "opened again"])
def test_sqlite_returns_from_a_commit_when_the_disk_has_it(how, file_log):
    pragmas = []

    def ask(connection, cursor, statement, *_):
        if statement.startswith("INSERT"):
            ask_for = connection.connection.dbapi_connection.execute
            pragmas.append([ask_for(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")])

    if how == "opened again":
        file_log.close()
    with listening("before_cursor_execute", ask):
        at_once(lambda name: file_log.append([prediction(name)]), "abcd")
    assert pragmas == [["wal", 2]] * 4  # 2 is FULL, see sqlite.org/pragma.html#pragma_synchronous


@needs_postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_connection_that_the_server_has_ended_is_opened_again(url, log):
    log.append([prediction("a")])
    tell(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = user AND pid <> pg_backend_pid()")
    assert log.append([prediction("b")]) == {}
    assert ids(log) == ["a", "b"]


def test_a_server_that_is_not_there_is_reported_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(LogUnavailableError, match="expected the prediction log postgresql") as caught:
        PredictionLog("postgresql+psycopg://me:hush@127.0.0.1:1/log")
    assert "hush" not in str(caught.value)


# Found and taken out


def test_a_prediction_is_found_by_its_id_with_its_label(log):
    log.append([prediction("a"), prediction("b")], labels=[label("a", time=NOON + timedelta(days=1))])
    found = log.find("a")
    assert {name: found[name] for name in prediction("a")} == prediction("a")
    assert (found["label"], found["label_time"], found["number"]) == (1, NOON + timedelta(days=1), 1)
    assert (log.find("b")["label"], log.find("b")["label_time"], log.find("c")) == (None, None, None)


def test_what_is_taken_out_is_gone_and_the_rest_stays(log):
    log.append([prediction(name) for name in "abc"], labels=[label("a"), label("b"), label("z")])
    assert log.delete(["a", "z", "nobody"]) == 1
    assert (ids(log), log.labelled()["id"].tolist()) == (["b", "c"], ["b"])
    assert log.delete(["a", "z"]) == 0
    assert log.append([prediction("z")]) == {}
    assert log.find("z")["label"] is None


def test_an_id_that_was_taken_out_can_come_again_under_a_new_number(log):
    log.append([prediction("a")])
    log.delete(["a"])
    log.append([prediction("a", inputs="[]")])
    assert log.predictions()["number"].tolist() == [2]


@pytest.mark.parametrize("name", ["it's gone", "x" * 900, "日本"], ids=["short", "long", "wide"])
def test_no_byte_of_what_is_taken_out_stays_in_the_file(file_log, file, name):
    file_log.append([prediction(f"{number:04d}" * 20) for number in range(300)])
    file_log.append([prediction(name)], labels=[label(name)])
    held = [path for path in file.parent.iterdir() if name.encode() in path.read_bytes()]
    file_log.delete([name])
    assert held
    assert [path for path in file.parent.iterdir() if name.encode() in path.read_bytes()] == []


def test_a_reader_keeps_what_is_taken_out_in_the_file_and_others_write_meanwhile(file_log, file, time):
    file_log.append([prediction("to go")])
    time.then[2] = lambda: tell(f"sqlite:///{file.as_posix()}?timeout=0", "BEGIN IMMEDIATE")
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM predictions").fetchone()
        with pytest.raises(LogUnavailableError, match="still in the"):
            file_log.delete(["to go"])
    assert (time.pauses, time.then) == (prediction_log.database.BUSY_SECONDS, {})
    assert file_log.delete(["to go"]) == 0  # repeating it completes it
    assert [path for path in file.parent.iterdir() if b"to go" in path.read_bytes()] == []
