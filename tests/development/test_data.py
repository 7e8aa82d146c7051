"""Laws of the data stage: what a version means, what a snapshot promises, what was known when."""

import json
import os
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.development import data

START = pd.Timestamp("2024-03-31 00:30", tz="Europe/Berlin")  # the clock is put forward an hour and a half later


@pytest.fixture
def table():
    rows = 6
    return pd.DataFrame(
        {
            "count": range(rows),
            "other": range(rows, 2 * rows),
            "share": [0.5, np.nan, 0.0, 1e-300, np.inf, 0.5],
            "name": ["a", "b", "nan", None, "", "a"],
            "kept": [True, False, True, True, False, True],
            "at": START + pd.to_timedelta(range(rows), unit="h"),
        }
    )


SAME = {
    "rows reversed": lambda t: t[::-1],
    "columns reversed": lambda t: t[t.columns[::-1]],
    "another index": lambda t: t.set_index(pd.Index(list("uvwxyz"), name="letter")),
    "an index with repeats": lambda t: t.set_index(pd.Index([0] * len(t))),
    "made of two pieces": lambda t: pd.concat([t[:2], t[2:]]),
    "narrower integers": lambda t: t.astype({"count": "int16"}),
    "unsigned integers": lambda t: t.astype({"count": "uint64"}),
    "nullable integers": lambda t: t.astype({"count": "Int64"}),
    "nullable floats": lambda t: t.astype({"share": "Float64"}),
    "nullable booleans": lambda t: t.astype({"kept": "boolean"}),
    "text as categories": lambda t: t.astype({"name": "category"}),
    "text as objects": lambda t: t.assign(name=t["name"].astype(object).where(t["name"].notna(), None)),
    "time in nanoseconds": lambda t: t.assign(at=t["at"].dt.as_unit("ns")),
    "time in seconds": lambda t: t.assign(at=t["at"].dt.as_unit("s")),
    "negative zero": lambda t: t.assign(share=t["share"].where(t["share"] != 0, -0.0)),
}

OTHER = {
    "one integer": lambda t: t.assign(count=[0, 1, 2, 3, 4, 6]),
    "the last bit of a float": lambda t: t.assign(share=t["share"].replace(0.5, np.nextafter(0.5, 1))),
    "a text": lambda t: t.assign(name=t["name"].replace("b", "B")),
    "a text that reads nan for a missing one": lambda t: t.assign(name=t["name"].fillna("nan")),
    "an empty text for a missing one": lambda t: t.assign(name=t["name"].fillna("")),
    "a microsecond": lambda t: t.assign(at=t["at"] + timedelta(microseconds=1)),
    "another time zone": lambda t: t.assign(at=t["at"].dt.tz_convert("UTC")),
    "no time zone": lambda t: t.assign(at=t["at"].dt.tz_localize(None)),
    "floats for integers": lambda t: t.astype({"count": float}),
    "text for integers": lambda t: t.astype({"count": str}),
    "integers for booleans": lambda t: t.astype({"kept": int}),
    "a lost row": lambda t: t[1:],
    "a doubled row": lambda t: pd.concat([t, t[:1]]),
    "every row doubled": lambda t: pd.concat([t, t]),
    "rows doubled in pairs": lambda t: pd.concat([t, t[:1], t[:1]]),
    "a lost column": lambda t: t.drop(columns="kept"),
    "a renamed column": lambda t: t.rename(columns={"kept": "Kept"}),
    "two columns swapped": lambda t: t.rename(columns={"count": "other", "other": "count"}),
    "two cells of a row swapped": lambda t: t.assign(count=[6, *range(1, 6)], other=[0, *range(7, 12)]),
    "one column in another order": lambda t: t.assign(count=t["count"].to_numpy()[::-1]),
    "no rows": lambda t: t[:0],
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_does_not_change_the_content_does_not_change_the_version(table, change):
    assert data.content_version(change(table)) == data.content_version(table)


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_changes_the_content_changes_the_version(table, change):
    assert data.content_version(change(table)) != data.content_version(table)


def test_the_names_of_tables_are_content(table):
    versions = {data.content_version(tables) for tables in ({"a": table}, {"b": table}, {"a": table, "b": table}, {})}
    assert len(versions) == 4
    assert data.content_version(table) == data.content_version({"table": table})


def test_the_order_of_tables_is_no_content(table):
    tables = {"a": table, "b": table[:2]}
    assert data.content_version(dict(reversed(tables.items()))) == data.content_version(tables)
    assert data.content_version({"a": tables["b"], "b": tables["a"]}) != data.content_version(tables)


def test_a_version_is_the_same_on_every_machine_and_library(table):
    assert data.content_version(table) == "cb4848a49a270c0d"


def test_a_version_leaves_the_table_as_it_was(table):
    before = table.copy()
    data.content_version(table)
    pd.testing.assert_frame_equal(table, before)


cells = st.one_of(st.none(), st.integers(-2, 2))


@settings(max_examples=100)
@given(st.lists(st.tuples(cells, cells), max_size=4), st.lists(st.tuples(cells, cells), max_size=4))
def test_two_tables_have_one_version_exactly_if_they_are_the_same_multiset_of_rows(left, right):
    def version(rows):
        return data.content_version(pd.DataFrame(rows, columns=["a", "b"], dtype="Int64"))

    assert (version(left) == version(right)) == (sorted(map(str, left)) == sorted(map(str, right)))


def test_no_two_rows_of_a_large_table_share_a_hash():
    grid = np.indices((400, 500)).reshape(2, -1)
    table = pd.DataFrame({"a": grid[0], "b": grid[1]})
    _, rows = data._hash_rows("grid", table)
    assert len(np.unique(rows)) == len(table)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "column 'a' of table 'table'.*mixed"),
        (pd.DataFrame({"a": [[1], [2]]}), "column 'a' of table 'table'"),
        (pd.DataFrame({"a": [datetime(2024, 1, 1).date()]}), "got date values"),
    ],
)
def test_a_column_that_cannot_be_versioned_is_named(bad, message):
    with pytest.raises(TypeError, match=message):
        data.content_version(bad)


@pytest.mark.parametrize("columns", [["a", "a"], [0, 1]])
def test_column_names_are_text_without_repeats(columns):
    with pytest.raises(ValueError, match="expected text column names without repeats in table 'table'"):
        data.content_version(pd.DataFrame([[1, 2]], columns=columns))


def test_a_snapshot_comes_back_as_it_was_saved(table, tmp_path):
    tables = {"first": table, "second": table[:0]}
    loaded = data.load_snapshot(tmp_path, data.save_snapshot(tables, tmp_path))
    assert list(loaded) == list(tables)
    pd.testing.assert_frame_equal(loaded["first"], table)
    pd.testing.assert_frame_equal(loaded["second"], tables["second"])


def test_a_snapshot_is_named_by_its_content(table, tmp_path):
    version = data.save_snapshot({"rows": table}, tmp_path / "new" / "store")
    assert version == data.content_version({"rows": table})
    assert data.snapshots(tmp_path / "new" / "store") == [version]


def test_saving_the_same_content_again_writes_nothing(table, tmp_path, monkeypatch):
    version = data.save_snapshot(table, tmp_path)
    monkeypatch.delattr(pd.DataFrame, "to_parquet")
    assert data.save_snapshot(table[::-1], tmp_path) == version
    pd.testing.assert_frame_equal(data.load_snapshot(tmp_path, version)["table"], table)


@pytest.mark.parametrize("index", [pd.Index(list("uvwxyz"), name="letter"), pd.Index([0] * 6)])
def test_the_index_is_not_kept(table, tmp_path, index):
    loaded = data.load_snapshot(tmp_path, data.save_snapshot(table.set_index(index), tmp_path))
    pd.testing.assert_frame_equal(loaded["table"], table)


def test_every_version_ever_saved_can_be_restored(table, tmp_path):
    versions = [data.save_snapshot(table[:rows], tmp_path) for rows in range(3)]
    assert data.snapshots(tmp_path) == sorted(versions)
    assert [len(data.load_snapshot(tmp_path, version)["table"]) for version in versions] == [0, 1, 2]


@pytest.mark.parametrize("row_group_size", [1, 4])
def test_another_file_layout_with_the_same_rows_is_still_accepted(table, tmp_path, row_group_size):
    version = data.save_snapshot(table, tmp_path)
    path = tmp_path / version / "table.parquet"
    table.to_parquet(path, compression=None, row_group_size=row_group_size)
    assert len(data.load_snapshot(tmp_path, version)["table"]) == len(table)


def test_an_unknown_version_is_answered_with_the_known_ones(table, tmp_path):
    version = data.save_snapshot(table, tmp_path)
    with pytest.raises(LookupError, match=f"one of \\['{version}'\\]; got 'feedfeedfeedfeed'"):
        data.load_snapshot(tmp_path, "feedfeedfeedfeed")


ALTERATIONS = {
    "a value": lambda folder: pd.read_parquet(folder / "t.parquet").replace("b", "c").to_parquet(folder / "t.parquet"),
    "no table": lambda folder: (folder / "t.parquet").unlink(),
    "half a table": lambda folder: os.truncate(folder / "t.parquet", 700),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 20),
    "another manifest": lambda folder: (folder / "manifest.json").write_text(json.dumps({"rows": {}})),
    "a manifest without tables": lambda folder: (folder / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("loaded_before", [False, True])
@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_snapshot_is_refused_and_says_what_to_do(table, tmp_path, alter, loaded_before):
    version = data.save_snapshot({"t": table}, tmp_path)
    if loaded_before:
        data.load_snapshot(tmp_path, version)
    alter(tmp_path / version)
    with pytest.raises(data.AlteredSnapshotError, match=f"snapshot {version}.*do not train on it"):
        data.load_snapshot(tmp_path, version)


@pytest.mark.parametrize("step", ["to_parquet", "replace"])
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=["full disk", "interrupt"])
def test_a_writer_that_stops_half_way_leaves_nothing(table, tmp_path, monkeypatch, step, failure):
    def stop(*arguments, **options):
        raise failure

    monkeypatch.setattr(*((pd.DataFrame, "to_parquet") if step == "to_parquet" else (os, "replace")), stop)
    with pytest.raises(type(failure)):
        data.save_snapshot(table, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_that_counts_and_blocks_nobody(table, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(SystemExit))
    monkeypatch.setattr(data.shutil, "rmtree", lambda *paths, **options: None)
    with pytest.raises(SystemExit):
        data.save_snapshot(table, tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) != []
    assert data.snapshots(tmp_path) == []
    assert data.snapshots(tmp_path) != [data.save_snapshot(table, tmp_path)] == data.snapshots(tmp_path)


def test_a_second_writer_of_the_same_content_succeeds(table, tmp_path, monkeypatch):
    rename = os.replace

    def overtaken(source, target):
        target.mkdir()
        (target / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
        rename(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    assert data.snapshots(tmp_path) != [data.save_snapshot(table, tmp_path)] == data.snapshots(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["../escape", "", ".hidden", "a/b"])
def test_a_table_name_cannot_leave_the_folder(table, tmp_path, name):
    with pytest.raises(ValueError, match="expected table names"):
        data.save_snapshot({name: table}, tmp_path)


def test_a_folder_that_does_not_exist_holds_no_snapshots(tmp_path):
    assert data.snapshots(tmp_path / "nowhere") == []


def hours(*values):
    return pd.to_datetime(pd.Series(values), unit="h", utc=True)


@pytest.fixture
def trips():
    return pd.DataFrame({"planned": [3, 4, 5], "delay": [7, 8, 9], "late": [True, False, True], "by": ["x", "y", "z"]})


AVAILABLE = {"delay": "landed", "late": "landed", "by": "reported"}


def noon(hour):
    return datetime(1970, 1, 1, hour, tzinfo=UTC)


def test_only_what_was_known_at_the_instant_is_left(trips):
    trips = trips.assign(landed=hours(1, 2, None), reported=hours(3, 1, 1))
    seen = data.known_at(trips, noon(2), available=AVAILABLE)
    assert seen["delay"].isna().tolist() == [False, False, True]
    assert seen["late"].isna().tolist() == [False, False, True]
    assert seen["by"].isna().tolist() == [True, False, False]
    assert seen["landed"].isna().tolist() == [False, False, True]
    assert seen["reported"].isna().tolist() == [True, False, False]


def test_what_needs_no_waiting_and_all_rows_stay(trips):
    trips = trips.assign(landed=hours(9, 9, 9)).set_index(pd.Index([5, 5, 5]))
    seen = data.known_at(trips, noon(2), available={"delay": "landed"})
    pd.testing.assert_frame_equal(seen[["planned", "late", "by"]], trips[["planned", "late", "by"]])
    assert seen["delay"].isna().all()


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=3, max_size=3), st.integers(0, 9), st.integers(0, 9))
def test_looking_back_from_later_shows_the_same_as_having_looked_then(landed, one, other):
    trips = pd.DataFrame({"delay": [7, 8, 9], "landed": hours(*landed)})
    early, late = noon(min(one, other)), noon(max(one, other))
    then = data.known_at(trips, early, available={"delay": "landed"})
    later = data.known_at(trips, late, available={"delay": "landed"})
    pd.testing.assert_frame_equal(data.known_at(later, early, available={"delay": "landed"}), then)


@pytest.mark.parametrize("hour", [0, 2, 9])
def test_dtypes_do_not_depend_on_the_instant(trips, hour):
    trips = trips.assign(landed=hours(1, 2, 3), reported=hours(1, 2, 3))
    seen = data.known_at(trips, noon(hour), available=AVAILABLE)
    assert seen.dtypes[["delay", "late", "by"]].astype(str).tolist() == ["float64", "boolean", "str"]


def test_the_same_instant_in_another_time_zone_shows_the_same(trips):
    trips = trips.assign(landed=hours(1, 2, 3))
    abroad = noon(2).astimezone(timezone(timedelta(hours=-9)))
    seen = [data.known_at(trips, instant, available={"delay": "landed"}) for instant in (noon(2), abroad)]
    pd.testing.assert_frame_equal(*seen)


def test_looking_back_leaves_the_table_as_it_was(trips):
    trips = trips.assign(landed=hours(1, 2, 3))
    before = trips.copy()
    data.known_at(trips, noon(2), available={"delay": "landed"})
    pd.testing.assert_frame_equal(trips, before)


@pytest.mark.parametrize(
    ("instant", "available", "error", "message"),
    [
        (datetime(2024, 1, 1), {"delay": "landed"}, ValueError, "expected an instant with a time zone"),
        (noon(2), {"dealy": "landed"}, KeyError, "expected columns out of.*'dealy'"),
        (noon(2), {"delay": "arrived"}, KeyError, "expected columns out of.*'arrived'"),
        (noon(2), {"delay": "planned"}, TypeError, "expected time-zone-aware columns.*'planned'"),
    ],
)
def test_a_question_without_a_clear_instant_or_column_is_refused(trips, instant, available, error, message):
    with pytest.raises(error, match=message):
        data.known_at(trips.assign(landed=hours(1, 2, 3)), instant, available=available)
