"""Batch scoring, killed by SIGKILL at every step: the file that was there or the new one, and never a row twice.

Run as a script, this file is the server that the tests talk to: it imports the package once, and forks a child for each
order. The child counts its steps (each part or file opened for writing, moved, removed, before and after it is seen on
disk) and kills itself at the step that it is told.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_batch import answer, contents, make_rows, score, spoil, write

if sys.platform == "win32":
    pytest.skip("needs os.fork and SIGKILL, which Windows has not", allow_module_level=True)

ROWS, ROWS_PER_PART = 23, 6
ENDS = ["", ".quarantine.csv", ".manifest.json"]


# The server


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


def serve(warm_up):
    prepare(Path(warm_up), ".csv")
    for order in map(json.loads, sys.stdin):
        child = os.fork()
        if not child:
            steps = count_steps(order["die_at"])
            score(Path(order["source"]), Path(order["target"]), rows_per_part=ROWS_PER_PART)
            print(json.dumps(steps), flush=True)
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            print(code, flush=True)


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
    command = [sys.executable, __file__, f"{base / 'warm-up'}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def ask(folder, die_at=0):
            order = {"source": f"{folder / source.name}", "target": f"{folder / target.name}", "die_at": die_at}
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        shutil.copytree(base / "template", base / "whole")
        steps, old_parts = ask(base / "whole"), parts_of(target)
        for die_at, step in enumerate(steps, start=1):
            folder = base / f"{die_at}"
            shutil.copytree(base / "template", folder)
            row = {"step": step, "exit": ask(folder, die_at), "target": (folder / target.name).read_bytes()}
            rows.append(row | resume(folder / source.name, folder / target.name, old_parts))
            shutil.rmtree(folder)
    frame = pd.DataFrame(rows)
    frame.attrs |= {"old": target.read_bytes(), "whole": contents(base / "whole"), "target": target.name}
    return frame


def parts_of(target):
    return {part.relative_to(target.parent) for part in target.parent.glob("*.parts/*/*.parquet")}


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
    moves = kills.loc[kills["step"].str.startswith("os.rename"), "step"].tolist()
    assert len(moves) == 4 + 2 + 3, "four parts, two of them with rows set aside, and the three files"
    assert kills["target"].nunique() == kills["manifest"].nunique() == 2
    assert len(kills) >= 40


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


if __name__ == "__main__":
    serve(sys.argv[1])
