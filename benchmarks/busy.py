"""`make test` several times in a row, beside processes that keep the cores busy: outcome, seconds, peak memory.

    python benchmarks/busy.py                     five runs beside two busy loops
    python benchmarks/busy.py --loops 0 --runs 1  one run on idle cores
    python benchmarks/busy.py -- MLOPS_COMPARE=1  what follows -- goes to make

Memory is that of the tests and of all processes that they start, each counted in full, so shared pages count more than
once. Each busy loop is a process that computes without a pause; it is ended by its number. What a failed run printed is
shown. Exits with 1 if a run failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
TICK = 0.5  # seconds between two looks at memory
SHOWN_LINES = 60  # of the output of a run that failed


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def memory_below(process: psutil.Process) -> int:
    """Bytes that a process and its descendants hold."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total


def run(target: str, options: list[str]) -> tuple[int, float, int, list[str]]:
    """Exit status, seconds, peak bytes and lines of one run of make."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        command = ["make", target, *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as made:
            whole = psutil.Process(made.pid)
            while made.poll() is None:
                peak = max(peak, memory_below(whole))
                time.sleep(TICK)
        output.seek(0)
        return made.returncode, time.perf_counter() - start, peak, output.read().splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loops", type=int, default=2)
    parser.add_argument("--target", default="test")
    parser.add_argument("options", nargs="*", metavar="OPTION")
    arguments = parser.parse_args()
    failed = 0
    command = " ".join(["make", arguments.target, *arguments.options])
    print(f"{os.cpu_count()} cores, {arguments.loops} busy loops, {command}")
    with busy_loops(arguments.loops):
        for number in range(1, arguments.runs + 1):
            status, seconds, peak, lines = run(arguments.target, arguments.options)
            failed += status != 0
            if status:
                print("\n".join(lines[-SHOWN_LINES:]))
            print(f"run {number}: {lines[-1]}; exit {status}, {seconds:.0f} s, peak {peak / 1e6:,.0f} MB", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
