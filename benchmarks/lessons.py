"""Every lesson run once, in one fresh workspace and in order, as a learner does: seconds and peak memory of each.

    python benchmarks/lessons.py            all lessons
    python benchmarks/lessons.py 12 13      some of them

Seconds count the start of the kernel; memory is that of the kernel and the processes that the lesson starts.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
TICK = 0.1  # seconds between two looks at memory
RUN = (
    "import sys, nbformat; from nbclient import NotebookClient; "
    "NotebookClient(nbformat.read(sys.argv[1], as_version=4), timeout=300, kernel_name='python3').execute()"
)


def timed(path: Path, *, home: str) -> tuple[float, float]:
    """Seconds, and the most bytes that were in memory at once."""
    start, peak = time.perf_counter(), 0
    environment = {**os.environ, "MLOPS_HOME": home, "JUPYTER_PREFER_ENV_PATH": "1"}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, "-c", RUN, str(path)], cwd=folder, env=environment)
        while process.poll() is None:
            peak = max(peak, memory_below(process.pid))
            time.sleep(TICK)
    if process.returncode:
        sys.exit(f"{path.name} failed")
    return time.perf_counter() - start, peak


def memory_below(pid: int) -> int:
    """Bytes that the children of a process take."""
    total = 0
    try:
        for child in psutil.Process(pid).children(recursive=True):
            total += child.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0
    return total


def main() -> None:
    total = 0.0
    print(f"{'lesson':32} {'seconds':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            if sys.argv[1:] and path.name[:2] not in sys.argv[1:]:
                continue
            seconds, peak = timed(path, home=home)
            total += seconds
            print(f"{path.stem:32} {seconds:8.1f} {peak / 1e6:8.0f}", flush=True)
    print(f"{'all':32} {total:8.1f}")


if __name__ == "__main__":
    main()
