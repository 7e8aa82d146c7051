"""Whole processes from outside: seconds and peak memory of the import, the help, the demo and its rerun.

    python benchmarks/commands.py

Aims: `import mlops_course` within 50 ms of bare Python, `--help` within 0.5 s, the demo under 60 s on two cores, and a
rerun of the training that does nothing within 1 s of its imports. Unix only, for the memory.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

MONTHS = ["2013-01", "2013-02", "2013-03"]
IMPORTS = "import mlflow, hamilton.driver, pandera.pandas, mlops_course.system.release, mlops_course.flights"
RERUN = f"""
{IMPORTS}
import time
from mlops_course import flights
from mlops_course.system import pipeline
from mlops_course.system.workspace import Workspace
start = time.perf_counter()
done = pipeline.train(flights, {MONTHS}, workspace=Workspace.locate(), seed=0)
print(f"{{time.perf_counter() - start:.2f}} s in the pipeline, {{len(done.executed)}} steps ran")
"""


def run(*command: str, home: str) -> tuple[float, float, str]:
    """Seconds, peak memory in GB, and the last line that a command prints."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, env={**os.environ, "MLOPS_HOME": home}, text=True
    )
    lines = child.stdout.read().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    scale = 1e9 if sys.platform == "darwin" else 1e6
    return time.perf_counter() - start, usage.ru_maxrss / scale, lines[-1] if lines else ""


def main() -> None:
    command = ("-m", "mlops_course")
    with tempfile.TemporaryDirectory() as home:
        bare, package, helped = (
            statistics.median(run(*call, home=home)[0] for _ in range(11))
            for call in (("-c", "pass"), ("-c", "import mlops_course"), (*command, "--help"))
        )
        print(f"import mlops_course: {1000 * (package - bare):.0f} ms over bare Python ({1000 * bare:.0f} ms)")
        print(f"--help: {helped:.2f} s, {helped / bare:.1f} times bare Python")
        for name in ("demo", "demo again"):
            seconds, memory, last = run(*command, "demo", home=home)
            print(f"{name}: {seconds:.1f} s, peak memory {memory:.2f} GB; {last.partition(':')[0]} written")
        run("-c", RERUN, home=home)  # once for the champion that the demo has made
        whole, _, last = run("-c", RERUN, home=home)
        imports, _, _ = run("-c", IMPORTS, home=home)
        print(f"no-op training: {last}; whole process {whole:.2f} s, of it imports {imports:.2f} s")


if __name__ == "__main__":
    main()
