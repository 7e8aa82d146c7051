"""Batch scoring: every row answered once or set aside with a reason, whole files, and nothing done twice."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.operations.deployment import batch

INPUTS = {"when": "datetime", "carrier": "string", "temp": "double", "seats": "long", "heavy": "boolean"}
PARTS = ".out.csv.scoring-parts"
check = partial(batch.problems, inputs=INPUTS, optional=["carrier", "temp"])


@pytest.fixture
def rows():
    return make_rows(23)


def make_rows(count):
    random = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "id": [f"f{n}" for n in range(count)],
            "when": pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(count), unit="h"),
            "carrier": [None, *random.choice(["AA", "B6"], count - 1)],
            "temp": [np.nan, *random.normal(size=count - 1)],
            "seats": random.integers(50, 300, count),
            "heavy": random.random(count) < 0.5,
        }
    )


def answer(part):
    """The answers of a made-up model, which takes every column into account; a missing one gives one too."""
    inputs = batch.conform(part, INPUTS)
    carrier = inputs["carrier"].eq("AA") / 10 + inputs["carrier"].isna() / 5
    whole = inputs["when"].dt.hour / 100 + inputs["temp"].fillna(0) / 9 + inputs["seats"] / 300 + inputs["heavy"] / 7
    probability = 1 / (1 + np.exp(-whole - carrier))
    return pd.DataFrame({"probability": probability, "decision": probability > 0.8, "model_version": 1})


def never(part):
    pytest.fail("a row was answered again")


def score(source, target, **changed):
    return batch.score_file(source, target, **{"answer": answer, "model": "m1", "check": check} | changed)


def write(rows, path):
    rows.to_parquet(path) if path.suffix == ".parquet" else rows.to_csv(path, index=False)
    return path


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoil(rows, column, spoilt):
    """The rows as text, as in a CSV file, with other values at some positions."""
    changed = rows.astype("str").astype(object).where(rows.notna())
    changed[column] = [spoilt.get(at, value) for at, value in enumerate(changed[column])]
    return changed


# What is written


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
@pytest.mark.parametrize(("count", "rows_per_part"), [(6, 1), (23, 7), (23, 23), (23, 100)])
def test_a_file_gets_the_answers_that_the_frame_gets(tmp_path, source, target, count, rows_per_part):
    rows = make_rows(count)
    done = score(write(rows, tmp_path / source), tmp_path / target, rows_per_part=rows_per_part)
    assert done == batch.Scored(rows=count, quarantined=0, parts=-(-count // rows_per_part), quarantine=None)
    expected = pd.concat([rows[["id"]], answer(rows)], axis=1)
    pd.testing.assert_frame_equal(read(tmp_path / target), expected, check_exact=True, check_column_type=False)
    assert names(tmp_path) == sorted([source, target, f"{target}.manifest.json"])


FITS = {
    "when": ["2013-01-01", "2013-01-01 08:00:00", "2013-01-01T08:00:00.25"],
    "carrier": ["AA", "B6", "", "NA", "a,b", 'say "so"', "two\nlines"],
    "temp": ["1.5", "-3", "1e3", ""],
    "seats": ["180", "90.0"],
    "heavy": ["true", "false", "True", "False"],
}
UNFIT = {
    "when": ["yesterday", "now", "2013-02-30", "2013-01-01T08:00Z", "2013-01-01T08:00+02:00", "7", ""],
    "carrier": [],
    "temp": ["warm", "inf", "-inf", "nan"],
    "seats": ["many", "inf", ""],
    "heavy": ["1", "yes", ""],
}
VALUES = {name: st.sampled_from(fits) | st.sampled_from(fits + UNFIT[name]) for name, fits in FITS.items()}
ANY_ROWS = st.lists(st.fixed_dictionaries(VALUES), max_size=12)


@settings(max_examples=20)
@given(ANY_ROWS, st.integers(1, 13), st.sampled_from([".csv", ".parquet"]), st.sampled_from([".csv", ".parquet"]))
def test_every_row_is_answered_or_set_aside_in_its_order(values, rows_per_part, source_suffix, target_suffix):
    rows = pd.DataFrame(values, columns=list(INPUTS), dtype="str").replace("", None)
    rows.insert(0, "id", [f"f{number // 2}" for number in range(len(rows))])  # ids may come twice
    bad = np.array([any(value in UNFIT[name] for name, value in row.items()) for row in values], dtype=bool)
    with tempfile.TemporaryDirectory() as folder:
        source, target = write(rows, Path(folder, f"in{source_suffix}")), Path(folder, f"out{target_suffix}")
        done = score(source, target, rows_per_part=rows_per_part)
        assert (done.rows, done.quarantined) == ((~bad).sum(), bad.sum())
        good = rows[~bad]
        expected = pd.concat([good[["id"]], answer(good)], axis=1).reset_index(drop=True)
        pd.testing.assert_frame_equal(read(target), expected, check_exact=True, check_dtype=False)
        assert (done.quarantine is not None) == bad.any() == Path(f"{target}.quarantine.csv").exists()
        if bad.any():
            assert read(done.quarantine)["row"].drop_duplicates().tolist() == np.flatnonzero(bad).tolist()


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("seats", "many", "a number"),
        ("when", "yesterday", "a date and time"),
        ("when", "2013-01-01T08:00Z", "a date and time"),
        ("heavy", "perhaps", "true or false"),
        ("temp", "inf", "a number between -1e+100 and 1e+100"),
        ("seats", None, "a value"),
    ],
)
@pytest.mark.parametrize("at", [0, 16])
def test_a_row_that_does_not_fit_is_named_with_id_column_value_and_reason(rows, tmp_path, column, value, expected, at):
    source = write(spoil(rows, column, {at: value}), tmp_path / "in.csv")
    done = score(source, tmp_path / "out.csv", rows_per_part=5)
    found = pd.read_csv(done.quarantine, dtype=str, keep_default_na=False)
    reason = {"row": f"{at}", "id": f"f{at}", "column": column, "expected": expected, "value": value or ""}
    assert found.to_dict("records") == [reason]


def test_a_row_with_two_reasons_counts_once_and_has_both(rows, tmp_path):
    source = write(spoil(spoil(rows, "temp", {4: "warm"}), "seats", {4: "many"}), tmp_path / "in.csv")
    done = score(source, tmp_path / "out.csv", rows_per_part=5)
    assert (done.rows, done.quarantined) == (22, 1)
    assert read(done.quarantine)["column"].tolist() == ["temp", "seats"]


def test_rows_without_an_id_are_named_by_their_position(rows, tmp_path):
    source = write(spoil(rows, "temp", {4: "warm"}).drop(columns="id"), tmp_path / "in.csv")
    done = score(source, tmp_path / "out.csv")
    assert list(read(tmp_path / "out.csv")) == ["probability", "decision", "model_version"]
    assert read(done.quarantine).to_dict("list")["row"] == [4]


@pytest.mark.parametrize("ids", [[7] * 8, [None, *range(2**60, 2**60 + 7)], [*range(5), None, None, None]])
@pytest.mark.parametrize("rows_per_part", [1, 3, 8])
def test_ids_come_out_as_they_went_in_repeated_missing_and_large_ones_too(tmp_path, ids, rows_per_part):
    source, table = tmp_path / "in.parquet", pa.Table.from_pandas(make_rows(8).assign(id=pd.array(ids, dtype="Int64")))
    pq.write_table(table.replace_schema_metadata(None), source)  # as what is not pandas writes it
    score(source, tmp_path / "out.parquet", rows_per_part=rows_per_part)
    score(source, tmp_path / "out.csv", rows_per_part=rows_per_part)
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ids
    as_text = ["" if name is None else f"{name}" for name in ids]
    assert pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)["id"].tolist() == as_text


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_a_source_without_rows_gives_a_target_without_rows_that_has_the_columns(rows, tmp_path, source, target):
    source = write(rows.head(0), tmp_path / source)
    assert score(source, tmp_path / target) == batch.Scored(rows=0, quarantined=0, parts=1, quarantine=None)
    assert score(source, tmp_path / target, answer=never).parts == 0
    empty = read(tmp_path / target)
    assert list(empty) == ["id", "probability", "decision", "model_version"]
    assert len(empty) == 0


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_a_source_of_bad_rows_only_gives_a_target_without_rows(rows, tmp_path, target):
    source = write(rows.assign(seats="many"), tmp_path / "in.csv")
    done = score(source, tmp_path / target, answer=never, rows_per_part=5)
    assert (done.rows, done.quarantined) == (0, 23)
    assert list(read(tmp_path / target)) == ["id", "probability", "decision", "model_version"]


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_one_row_is_a_file_too(rows, tmp_path, source):
    score(write(rows.head(1), tmp_path / source), tmp_path / "out.parquet")
    expected = pd.concat([rows[["id"]], answer(rows)], axis=1).head(1)
    pd.testing.assert_frame_equal(read(tmp_path / "out.parquet"), expected, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("count", [0, 1, 23])
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_progress_adds_up_to_all_rows(rows, tmp_path, count, source):
    told, source = [], write(rows.head(count), tmp_path / source)
    score(source, tmp_path / "out.csv", rows_per_part=5, progress=told.append)
    assert sum(told) == count
    assert batch.count_rows(source) in (count, None)


def test_the_target_may_lie_in_a_folder_that_is_not_there_yet(rows, tmp_path):
    score(write(rows, tmp_path / "in.csv"), tmp_path / "new" / "folder" / "out.csv")
    assert names(tmp_path / "new" / "folder") == ["out.csv", "out.csv.manifest.json"]


# What stops a file


def test_a_missing_column_stops_the_file_and_leaves_the_old_one(rows, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match=r"got none named \['seats'\]"):
        score(write(rows.drop(columns="seats"), tmp_path / "in.csv"), target)
    assert target.read_text(encoding="utf-8") == "old"


def test_an_answer_that_fails_names_the_rows_leaves_the_old_target_and_is_resumed(rows, tmp_path):
    target, source, told = tmp_path / "out.csv", write(rows, tmp_path / "in.csv"), []
    target.write_text("old", encoding="utf-8")

    def fails_late(part):
        if 12 in part.index:
            raise RuntimeError("no memory")
        return answer(part)

    with pytest.raises(ValueError, match="rows 10 to 14, got RuntimeError: no memory"):
        score(source, target, answer=fails_late, rows_per_part=5)
    assert target.read_text(encoding="utf-8") == "old"
    assert score(source, target, rows_per_part=5, progress=told.append).parts == 3
    assert sum(told) == 23
    assert names(tmp_path) == ["in.csv", "out.csv", "out.csv.manifest.json"]


def test_an_answer_for_too_few_rows_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="expected 23 answers, got 22"):
        score(write(rows, tmp_path / "in.parquet"), tmp_path / "out.csv", answer=lambda part: answer(part).head(22))


@pytest.mark.parametrize(("source", "target"), [("in.xlsx", "out.csv"), ("in.csv", "out"), ("in", "out.parquet")])
def test_another_kind_of_file_is_refused_before_anything_is_written(tmp_path, source, target):
    with pytest.raises(ValueError, match=r"ends in \.parquet or \.csv"):
        score(tmp_path / source, tmp_path / "new" / target)
    assert names(tmp_path) == []


def test_a_source_is_not_replaced_by_its_answers(rows, tmp_path):
    source = write(rows, tmp_path / "in.csv")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another file than the source"):
        score(source, tmp_path / ".." / tmp_path.name / "in.csv")
    assert contents(tmp_path) == before


def test_rows_with_more_values_than_columns_are_not_read_shifted(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("temp,seats\n1.5,100,7\n2.5,200,8\n", encoding="utf-8")
    with pytest.raises(ValueError, match="as many values as columns"):
        score(source, tmp_path / "out.csv", check=None)


# Once only


@pytest.fixture(scope="module", params=[("out.csv", {}), ("out.parquet", {4: "warm"})])
def finished(request, tmp_path_factory):
    """Name of the target and counts of a finished run, and its folder; the second one has a row set aside."""
    (target, spoilt), folder = request.param, tmp_path_factory.mktemp("finished")
    source = write(spoil(make_rows(23), "temp", spoilt), folder / "in.csv")
    return target, score(source, folder / target, rows_per_part=5), folder


@pytest.fixture
def scored(finished, tmp_path):
    """Source, target and counts of that run, in a folder of its own."""
    target, done, folder = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    quarantine = done.quarantine and tmp_path / done.quarantine.name
    return tmp_path / "in.csv", tmp_path / target, replace(done, quarantine=quarantine)


def test_a_second_run_answers_nothing_writes_nothing_and_returns_the_same_counts(scored, tmp_path):
    source, target, first = scored

    def times():
        return {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())}

    before = times()
    again = score(source, target, rows_per_part=5, answer=never)
    assert (again.rows, again.quarantined, again.quarantine) == (first.rows, first.quarantined, first.quarantine)
    assert (first.parts, again.parts) == (5, 0)
    assert times() == before


@pytest.mark.parametrize("changed", [{"model": "m2"}, {"rows_per_part": 6}])
def test_another_model_or_setting_scores_every_part_again(scored, changed):
    source, target, _ = scored
    told = []
    done = score(source, target, **{"rows_per_part": 5} | changed, progress=told.append)
    assert done.parts == -(-23 // changed.get("rows_per_part", 5))
    assert sum(told) == 23


def test_a_changed_source_is_scored_again_and_nothing_of_the_old_rows_stays(scored, rows):
    source, target, _ = scored
    write(rows.assign(seats=rows["seats"] + 1).head(12), source)
    done = score(source, target, rows_per_part=5)
    assert (done.rows, done.quarantined, done.parts, done.quarantine) == (12, 0, 3, None)
    expected = pd.concat([rows[["id"]], answer(rows.assign(seats=rows["seats"] + 1))], axis=1).head(12)
    pd.testing.assert_frame_equal(read(target), expected, check_exact=True, check_dtype=False)
    assert names(target.parent) == sorted(["in.csv", target.name, f"{target.name}.manifest.json"])


@pytest.mark.parametrize("suffix", ["", ".quarantine.csv", ".manifest.json"])
@pytest.mark.parametrize("harm", ["deleted", "changed"])
def test_an_output_that_is_gone_or_changed_is_made_again(scored, tmp_path, suffix, harm):
    source, target, first = scored
    harmed, before = Path(f"{target}{suffix}"), contents(tmp_path)
    if harm == "changed" and not harmed.exists():  # then it is somebody else's
        harmed.write_bytes(b" ;")
        with pytest.raises(FileExistsError):
            score(source, target, rows_per_part=5)
        return
    if harm == "changed":
        with harmed.open("ab") as file:
            file.write(b" ;")
    else:
        harmed.unlink(missing_ok=True)
    again = score(source, target, rows_per_part=5)
    had_none = suffix == ".quarantine.csv" and harm == "deleted" and not first.quarantined
    assert again.parts == (0 if had_none else 5)
    assert contents(tmp_path) == before


def test_parts_of_another_model_are_not_used_and_go(rows, tmp_path):
    source, target = write(rows, tmp_path / "in.csv"), tmp_path / "out.csv"

    def fails_late(part):
        if 22 in part.index:
            raise RuntimeError
        return answer(part).assign(model_version=0)

    with pytest.raises(ValueError, match="RuntimeError"):
        score(source, target, answer=fails_late, model="m0", rows_per_part=5)
    assert PARTS in names(tmp_path)
    assert score(source, target, rows_per_part=5).parts == 5
    assert read(target)["model_version"].unique().tolist() == [1]
    assert names(tmp_path) == ["in.csv", "out.csv", "out.csv.manifest.json"]


def test_a_run_with_only_files_left_to_write_is_not_taken_for_one_that_was_done(rows, tmp_path, monkeypatch):
    source, target = write(rows, tmp_path / "in.csv"), tmp_path / "out.csv"

    def no_room(partial, path):
        if path == target:
            raise OSError("no room")
        os.rename(partial, path)

    with monkeypatch.context() as patched:
        patched.setattr(batch.scoring.os, "replace", no_room)
        with pytest.raises(OSError, match="no room"):
            score(source, target, rows_per_part=5)
    resumed, again = (score(source, target, rows_per_part=5, answer=never) for _ in range(2))
    assert (resumed.parts, resumed.already_done) == (0, False)
    assert (again.parts, again.already_done) == (0, True)


def test_a_source_that_is_written_to_meanwhile_gives_no_mixture(tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.parquet"
    before, after = (make_rows(8_000).assign(seats=seats) for seats in (100, 299))  # longer than what is read at once
    told, write_after = [], partial(write, after, write(before, source))

    def interfere(count):
        told.append(count)
        if len(told) == 1:
            write_after()

    with pytest.raises(OSError, match="stay as it was"):
        score(source, target, rows_per_part=1000, progress=interfere)
    assert not target.exists()
    assert score(write(before, source), target, rows_per_part=1000).parts == 8
    expected = pd.concat([before[["id"]], answer(before)], axis=1)
    pd.testing.assert_frame_equal(read(target), expected, check_exact=True, check_column_type=False)


def test_the_manifest_says_what_the_target_is_made_from(scored):
    source, target, first = scored
    manifest = json.loads(Path(f"{target}.manifest.json").read_text(encoding="utf-8"))
    digest, made = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, target))
    assert {"source": digest, "model": "m1", "rows_per_part": 5}.items() <= manifest["asked"].items()
    assert manifest["counts"] == {"rows": first.rows, "quarantined": first.quarantined}
    assert manifest["digests"][0] == made


@pytest.mark.parametrize("name", ["out.csv.parts", "out.csv.quarantine.csv", "out.csv.manifest.json", ".out.csv"])
@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_that_somebody_else_has_beside_the_target_is_lost(rows, tmp_path, name, is_folder):
    source, target = write(rows, tmp_path / "in.csv"), tmp_path / "out.csv"
    theirs = tmp_path / name / "work.txt" if is_folder else tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("years of work", encoding="utf-8")
    with suppress(OSError):
        score(source, target, rows_per_part=5)
    assert theirs.read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("suffix", [".quarantine.csv", ".manifest.json"])
def test_a_file_that_no_run_has_written_is_refused_before_anything_is_written(rows, tmp_path, suffix):
    source, target = write(rows, tmp_path / "in.csv"), tmp_path / "out.csv"
    Path(f"{target}{suffix}").write_text("years of work", encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="move it, or write to another target"):
        score(source, target, rows_per_part=5)
    assert contents(tmp_path) == before


def test_a_long_file_of_another_run_is_known_by_its_beginning(rows, tmp_path):
    source, target = write(rows, tmp_path / "in.csv"), tmp_path / "out.csv"
    Path(f"{target}.quarantine.csv").write_text("row,id,column,expected,value\n" + "1,a,temp,a number,x\n" * 100_000)
    assert score(source, target).rows == 23


# At the same time


@pytest.mark.parametrize("last", [0, 1, 4])
def test_a_run_that_another_one_overtakes_returns_what_that_one_came_to(rows, tmp_path, last):
    source, target = write(spoil(rows, "temp", {4: "warm"}), tmp_path / "in.csv"), tmp_path / "out.csv"
    faster, seen = [], []

    def overtaken(count):
        seen.append(count)
        if len(seen) == last + 1:
            faster.append(score(source, target, rows_per_part=5))

    done = score(source, target, rows_per_part=5, progress=overtaken)
    assert (done.rows, done.quarantined) == (faster[0].rows, faster[0].quarantined) == (22, 1)
    assert_whole(target)
    assert PARTS not in names(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("models", [["m1"] * 4, ["m1", "m2"] * 2], ids=["one model", "two models"])
@pytest.mark.parametrize("turn", range(3))
def test_runs_at_once_leave_the_target_whole(rows, tmp_path, models, turn):
    source, target = write(spoil(rows, "temp", {4: "warm"}), tmp_path / "in.csv"), tmp_path / "out.csv"
    versions = {"m1": 1, "m2": 2}

    def run(model):
        version = versions[model]
        score(
            source, target, model=model, answer=lambda part: answer(part).assign(model_version=version), rows_per_part=5
        )

    def try_to_run(model):
        with suppress(OSError):  # the other one was faster; it may be repeated
            run(model)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_to_run, models))
    assert_whole(target)
    for model in set(models):
        run(model)
        assert_whole(target)
        assert read(target)["model_version"].unique().tolist() == [versions[model]]
    assert PARTS not in names(tmp_path)


def assert_whole(target):
    found = read(target)
    assert found["id"].tolist() == [f"f{number}" for number in range(23) if number != 4]
    assert found["model_version"].nunique() == 1


def test_a_part_that_another_run_takes_away_stops_the_run_and_loses_no_row(rows, tmp_path):
    source, target = write(spoil(rows, "temp", {4: "warm"}), tmp_path / "in.csv"), tmp_path / "out.csv"

    def take_away(count):
        if count == 3:  # the last part
            next((tmp_path / PARTS).rglob("000000.csv")).unlink()

    with pytest.raises(OSError, match="expected 23 rows"):
        score(source, target, rows_per_part=5, progress=take_away)
    assert not target.exists()


# Memory


MEASURE = """
import os, sys
from pathlib import Path
from test_batch import answer, batch, check
def run(source):
    child = os.fork()
    if not child:
        batch.score_file(Path(source), Path(source).with_suffix(".out.parquet"), answer=answer, model="m", check=check,
                         rows_per_part=100)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    assert not status
    return used.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(*map(run, sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def growth(tmp_path_factory):
    """How many kB more are needed at most for a long file than for a short one, of each kind."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork and ru_maxrss")
    folder, padding = tmp_path_factory.mktemp("memory"), {f"unused {number}": "x" * 5_000 for number in range(4)}
    files = [
        write(rows, folder / name)
        for count, size in ((100, "short"), (1_500, "long"))  # of 20 kB a row, or a reason: 2 MB against 30 MB
        for rows, name in [
            (make_rows(count).assign(**padding), f"{size}.csv"),
            (make_rows(count).assign(**padding), f"{size}.parquet"),
            (make_rows(count).assign(seats="x" * 20_000), f"{size} set aside.csv"),
        ]
    ]
    command = [sys.executable, "-c", MEASURE, *files]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = np.split(np.array(done.stdout.split(), dtype=int), 2)
    return dict(zip([".csv", ".parquet", "set aside"], many - few, strict=True))


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_length_of_the_file(growth, suffix):
    assert growth[suffix] < 15_000, f"{growth} kB more"


@pytest.mark.long
def test_memory_does_not_grow_with_the_rows_that_are_set_aside(growth):
    assert growth["set aside"] < 15_000, f"{growth} kB more"


# One frame


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("temp", "warm", "expected a number in column 'temp', got 'warm' in row 4"),
        ("when", "yesterday", "expected a date and time in column 'when', got 'yesterday' in row 4"),
        ("heavy", "perhaps", "expected true or false in column 'heavy', got 'perhaps' in row 4"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_row(rows, column, value, message):
    with pytest.raises(ValueError, match=message):
        batch.conform(spoil(rows, column, {4: value}), INPUTS)


@pytest.mark.parametrize("take", [batch.conform, batch.problems])
def test_missing_columns_are_named(rows, take):
    with pytest.raises(ValueError, match=r"none named \['carrier', 'seats'\]"):
        take(rows.drop(columns=["carrier", "seats"]), INPUTS)


def test_columns_come_in_the_order_of_the_model_and_others_are_left_out(rows):
    assert list(batch.conform(rows[reversed(rows.columns)], INPUTS)) == list(INPUTS)


def test_missing_values_stay_missing_and_text_is_read(rows):
    pd.testing.assert_frame_equal(batch.conform(spoil(rows, "temp", {}), INPUTS), batch.conform(rows, INPUTS))
    assert batch.conform(rows, INPUTS)["carrier"].isna().tolist() == [True, *[False] * 22]


def test_a_time_is_read_by_itself_whatever_the_first_one_looks_like(rows):
    texts = ["2013-01-01", "2013-01-01 08:30:00", "2013-01-01T08:30:00.500"]
    together = batch.conform(rows.head(3).assign(when=texts), INPUTS)["when"]
    alone = [batch.conform(rows.head(1).assign(when=text), INPUTS)["when"][0] for text in texts]
    assert together.tolist() == alone == [pd.Timestamp(text) for text in texts]


def test_times_with_a_zone_do_not_fit_in_a_frame_nor_in_a_file(rows):
    zoned = rows.assign(when=rows["when"].dt.tz_localize("America/New_York"))
    assert len(batch.problems(zoned, INPUTS)) == len(batch.problems(spoil(zoned, "temp", {}), INPUTS)) == len(rows)


def test_rows_without_problems_conform_and_the_others_do_not(rows):
    spoilt = spoil(spoil(rows, "temp", {3: "warm"}), "when", {3: "now", 7: "soon"})
    found = batch.problems(spoilt, INPUTS)
    assert found["row"].tolist() == [3, 3, 7]
    batch.conform(spoilt.drop(index=found["row"]), INPUTS)


def test_the_argument_is_not_changed(rows):
    before = rows.copy()
    batch.conform(rows, INPUTS), batch.problems(rows, INPUTS)
    pd.testing.assert_frame_equal(rows, before)


def test_the_decision_is_true_from_the_threshold_on():
    class Known:
        def predict_proba(self, inputs):
            return np.column_stack([1 - inputs["p"], inputs["p"]])

    rows = pd.DataFrame({"p": [0.1, 0.2, 0.3]}, index=[5, 6, 7])
    predictions = batch.predict(Known(), rows, threshold=0.2)
    assert predictions["decision"].to_dict() == {5: False, 6: True, 7: True}
