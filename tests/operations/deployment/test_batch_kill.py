"""Batch scoring, killed by SIGKILL at every step: the file that was there or the new one, and never a row twice.

A child is forked for each run. It counts its steps (each part or file opened for writing, moved, removed, before and
after it is seen on disk) and kills itself at the step that it is told.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
from kills import in_a_child
from test_batch import answer, contents, make_rows, score, spoil, write

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to kill a warmed-up process")
pytestmark = [pytest.mark.long, needs_fork]

ROWS, ROWS_PER_PART = 23, 6
ENDS = ["", ".quarantine.csv", ".manifest.json"]


# In the child


def count_steps(die_at):
    """Kill this process at a step; return the list that the names of its steps are appended to."""
    steps, sync = [], os.fsync

    def step(name):
        steps.append(name)
        if len(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def file_step(happening, args):
        writes = happening == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or happening in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            step(f"{happening} {Path(str(args[0])).name}")

    def see_on_disk(file):
        step("before fsync")
        sync(file)
        step("after fsync")

    os.fsync = see_on_disk
    sys.addaudithook(file_step)
    return steps


def score_in_a_child(folder, source, target, die_at=0):
    """Score the source in a folder: the names of the steps, or the exit code if that is not 0."""
    reading, writing = os.pipe()

    def act():
        steps = count_steps(die_at)
        score(folder / source.name, folder / target.name, rows_per_part=ROWS_PER_PART)
        os.write(writing, json.dumps(steps).encode())

    code = in_a_child(act)
    os.close(writing)
    with open(reading) as told:
        return code or json.load(told)


# The tests


def prepare(folder, suffix):
    """A target of earlier rows, parts of a model that was stopped, and the rows to score now."""
    folder.mkdir()
    source, target = folder / "in.csv", folder / f"out{suffix}"
    write(spoil(make_rows(13), "temp", {3: "cold"}), source)
    score(source, target, rows_per_part=ROWS_PER_PART)
    write(spoil(make_rows(ROWS), "temp", {8: "warm", 20: "hot"}), source)
    with pytest.raises(ValueError, match="stopped"):
        score(source, target, model="m0", answer=stopped, rows_per_part=ROWS_PER_PART)
    return source, target


def stopped(part):
    if part.index[0]:
        raise RuntimeError("stopped")
    return answer(part)


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    """One row for each killed run: what was there after it, and what one more run did and left."""
    base, rows = tmp_path_factory.mktemp("killed"), []
    source, target = prepare(base / "template", ".csv")
    shutil.copytree(base / "template", base / "whole")
    steps, old_parts = score_in_a_child(base / "whole", source, target), parts_of(target)
    for die_at, step in enumerate(steps, start=1):
        folder = base / f"{die_at}"
        shutil.copytree(base / "template", folder)
        code = score_in_a_child(folder, source, target, die_at)
        row = {"step": step, "exit": code, "target": (folder / target.name).read_bytes()}
        rows.append(row | resume(folder / source.name, folder / target.name, old_parts))
        shutil.rmtree(folder)
    frame = pd.DataFrame(rows)
    whole = contents(base / "whole")
    frame.attrs |= {"old": target.read_bytes(), "whole": whole, "target": target.name, "steps": steps}
    return frame


def parts_of(target):
    return {part.relative_to(target.parent) for part in target.parent.glob(".*.scoring-parts/*/*.parquet")}


def resume(source, target, old_parts):
    """What a killed run had done, which parts the next one answered, and what that one left."""
    finished = {int(part.stem) for part in parts_of(target) - old_parts}
    manifest, answered = Path(f"{target}.manifest.json").read_bytes(), []

    def noted(part):
        answered.append(int(part.index[0]) // ROWS_PER_PART)
        return answer(part)

    score(source, target, answer=noted, rows_per_part=ROWS_PER_PART)
    return {"finished": finished, "manifest": manifest, "answered": answered, "files": contents(source.parent)}


def test_every_kill_lands_and_the_steps_lie_before_between_and_after_the_three_files(kills):
    assert kills["exit"].eq(-signal.SIGKILL).all()
    moves = [step for step in kills.attrs["steps"] if step.startswith("os.rename")]
    assert len(moves) == 4 + 2 + 3, "four parts, two of them with rows set aside, and the three files"
    assert set(kills["step"].map(kind)) == set(map(kind, kills.attrs["steps"]))
    assert kills["target"].nunique() == kills["manifest"].nunique() == 2
    assert len(kills.attrs["steps"]) >= 40


def kind(step):
    return step if step.endswith("fsync") else step.split()[0]


def test_the_target_is_the_old_one_or_the_new_one(kills):
    new = kills.attrs["whole"][kills.attrs["target"]]
    assert new != kills.attrs["old"]
    assert kills["target"].isin([kills.attrs["old"], new]).all()


def test_the_next_run_leaves_the_files_of_one_that_was_not_killed_and_no_litter(kills):
    whole = kills.attrs["whole"]
    assert sorted(whole) == sorted(["in.csv", *(f"{kills.attrs['target']}{end}" for end in ENDS)])
    different = [row.step for row in kills.itertuples() if row.files != whole]
    assert different == []


def test_no_finished_part_is_answered_again(kills):
    done = kills["manifest"] == kills.attrs["whole"][f"{kills.attrs['target']}.manifest.json"]
    again = kills[done]["answered"].map(len)
    assert again.eq(0).all()
    missing = [sorted({0, 1, 2, 3} - finished) for finished in kills[~done]["finished"]]
    assert kills[~done]["answered"].tolist() == missing
    assert {len(parts) for parts in missing} == {0, 1, 2, 3, 4}
