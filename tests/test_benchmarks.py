"""Two benchmarks that are laws too: no edit of a solution gets past its check, and a full classroom loses nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted(path.name[:2] for path in (ROOT / "solutions").glob("*.ipynb"))

pytestmark = pytest.mark.long


def run(benchmark, *options):
    command = [sys.executable, ROOT / "benchmarks" / benchmark, *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_edit_of_a_solution_gets_past_its_check(lesson):
    done = run("mutants.py", lesson)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows has not")
def test_sixty_learners_lose_nothing_when_the_servers_are_killed():
    done = run("classroom.py", "--learners", "60", "--minutes", "1", "--runs", "4", "--kill")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
