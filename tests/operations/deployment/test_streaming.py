"""A stream: every event in order, handed on once from any position, and handled once however often it is killed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_course.operations.deployment import streaming
from mlops_course.operations.deployment.streaming import ASKED, LABELLED, consume, timeline

START = pd.Timestamp("2013-01-01T08:00Z")
ANY_ROWS = st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), max_size=20)  # many at one instant


def make_rows(minutes):
    """Rows from pairs: the minute of the question, and how many later the label came, if it did."""
    asked = [START + pd.Timedelta(minutes=minute) for minute, _ in minutes]
    known = [
        pd.NaT if late is None else at + pd.Timedelta(minutes=late)
        for at, (_, late) in zip(asked, minutes, strict=True)
    ]
    times = {
        "asked": pd.Series(asked, dtype="datetime64[us, UTC]"),
        "known": pd.Series(known, dtype="datetime64[us, UTC]"),
    }
    return pd.DataFrame(times)


def events_of(rows):
    return timeline(rows, asked="asked", labelled="known")


@pytest.fixture
def events():
    """Fifteen events of ten rows."""
    return events_of(make_rows([(minute, 3 if minute % 2 else None) for minute in range(10)]))


# The timeline


@given(ANY_ROWS)
def test_each_question_is_there_once_and_each_label_that_came_once_with_its_time(minutes):
    rows, events = make_rows(minutes), events_of(make_rows(minutes))
    found = {kind: events[events["kind"] == kind].set_index("row")["time"].sort_index() for kind in (ASKED, LABELLED)}
    assert len(events) == len(found[ASKED]) + len(found[LABELLED])
    pd.testing.assert_series_equal(found[ASKED], rows["asked"], check_names=False, check_index_type=False)
    pd.testing.assert_series_equal(found[LABELLED], rows["known"].dropna(), check_names=False, check_index_type=False)


@given(ANY_ROWS)
def test_events_are_numbered_in_order_of_time_then_labels_first_then_as_the_rows(minutes):
    events = events_of(make_rows(minutes))
    order = list(zip(events["time"], events["kind"] == ASKED, events["row"], strict=True))
    assert order == sorted(order)
    assert events.index.equals(pd.RangeIndex(len(order)))


@given(ANY_ROWS, st.randoms(use_true_random=False))
def test_only_the_two_times_count_not_the_index_nor_another_column(minutes, random):
    rows = make_rows(minutes)
    index = [random.randint(0, 3) for _ in minutes]
    pd.testing.assert_frame_equal(events_of(rows.assign(other=1.5).set_axis(index)), events_of(rows))


def test_the_rows_are_not_changed():
    rows = make_rows([(2, 1), (1, None)])
    before = rows.copy()
    events_of(rows)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("asked", pd.NaT, "a time in 'asked' for every row, got 1 missing"),
        ("known", START - pd.Timedelta(minutes=1), "no label before its question, got 1 in 'known'"),
    ],
)
def test_times_that_cannot_be_are_refused(column, value, message):
    rows = make_rows([(0, 1), (0, 2)])
    rows.loc[1, column] = value
    with pytest.raises(ValueError, match=message):
        events_of(rows)


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match="reported"):
        timeline(make_rows([(0, 1)]), asked="asked", labelled="reported")


# The consumer


@given(ANY_ROWS, st.data())
def test_from_any_position_exactly_the_rest_is_handed_on_in_order(minutes, data):
    events = events_of(make_rows(minutes))
    start, most = data.draw(st.integers(0, len(events))), data.draw(st.integers(1, 50))
    parts, positions = [events.iloc[:start]], [start]
    assert consume(events, lambda part, at: (parts.append(part), positions.append(at)), start=start, most=most) == len(
        events
    )
    pd.testing.assert_frame_equal(pd.concat(parts), events)
    assert all(1 <= len(part) <= most for part in parts[1:])
    assert np.diff(positions).tolist() == [len(part) for part in parts[1:]]


@pytest.mark.parametrize("start", [-1, 16])
def test_a_position_of_another_stream_is_refused(events, start):
    with pytest.raises(ValueError, match=f"a position from 0 to 15, got {start}"):
        consume(events, pytest.fail, start=start)


@pytest.mark.parametrize("most", [0, -1])
def test_handing_on_nothing_at_once_is_refused(events, most):
    with pytest.raises(ValueError, match=f"at least one event at once, got {most}"):
        consume(events, pytest.fail, start=0, most=most)


class Killed(Exception):  # noqa: N818
    pass


class Store:
    """What survives a kill. The consumer is killed at one of its writes, before that one is kept."""

    def __init__(self, dies_at):
        self.handled, self.position, self.writes, self.dies_at = [], 0, 0, dies_at

    def keep(self, *, handled=(), position=None):
        self.writes += 1
        if self.writes == self.dies_at:
            raise Killed
        self.handled.extend(handled)
        self.position = self.position if position is None else position


def together(store, part, position):
    store.keep(handled=part.index, position=position)


def position_after(store, part, position):
    store.keep(handled=part.index)
    store.keep(position=position)


def position_before(store, part, position):
    store.keep(position=position)
    store.keep(handled=part.index)


def killed_and_started_again(events, way, dies_at):
    """The events that were handled by a consumer that was killed once, at a write, and started again."""
    store = Store(dies_at)
    with pytest.raises(Killed):
        consume(events, lambda part, at: way(store, part, at), start=store.position, most=4)
    consume(events, lambda part, at: way(store, part, at), start=store.position, most=4)
    return store.handled


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_consumer_that_keeps_both_in_one_transaction_handles_each_event_once(events, dies_at):
    assert killed_and_started_again(events, together, dies_at) == list(events.index)


@pytest.mark.parametrize("dies_at", [2, 4, 6, 8])
def test_a_consumer_that_keeps_its_position_after_the_events_doubles_those_in_between(events, dies_at):
    handled = killed_and_started_again(events, position_after, dies_at)
    assert sorted(set(handled)) == list(events.index)
    assert len(handled) == 15 + (3 if dies_at == 8 else 4)


@pytest.mark.parametrize("dies_at", [2, 4, 6, 8])
def test_a_consumer_that_keeps_its_position_before_the_events_loses_those_in_between(events, dies_at):
    handled = killed_and_started_again(events, position_before, dies_at)
    assert handled == sorted(set(handled))
    assert len(handled) == 15 - (3 if dies_at == 8 else 4)


def test_the_usual_batch_is_of_the_size_that_the_module_says():
    events = events_of(make_rows([(0, None)] * (streaming.MOST + 1)))
    sizes = []
    consume(events, lambda part, _: sizes.append(len(part)), start=0)
    assert sizes == [streaming.MOST, 1]
