"""The year repeated 30 times, ten million rows, scored by one process without Dask, by one worker and by two.

    python benchmarks/scale.py FOLDER [--repeats 3 30] [--rounds 1]

FOLDER gets a workspace with a model of January to March, the files to score (18 MB a year) and the scores; it may be
deleted afterwards. Each run is a process of its own, and the kinds of run take turns, so that what else the computer
does falls on all of them. Printed are rows a second, without and with the start of the cluster, the seconds before the
first and after the last part (one core's work, however many workers there are), peak memory of the process that asks
and of the greatest worker, and whether the files are the same to the bit.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from mlops_course import flights
from mlops_course.system import cluster, scoring
from mlops_course.system.release import release
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

KINDS = {"one process": 0, "one process, one core": 0, "1 worker": 1, "2 workers": 2}
BYTES_A_ROW = 200  # of the file, its scores, and its parts, with room to spare


def used() -> tuple[float, float]:
    """GB that this process has held at most, and the seconds that it has had a core."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / 1e9, time.process_time()


def prepare(folder: Path, repeats: list[int]) -> None:
    """A champion, and the year repeated, each repeat a row group; nothing that is there is made again."""
    folder.mkdir(parents=True, exist_ok=True)
    names = flights.batches()
    free, wanted = shutil.disk_usage(folder).free, max(repeats) * 336_776 * BYTES_A_ROW
    if free < wanted:
        raise SystemExit(f"expected {wanted / 1e9:.0f} GB free in {folder}, found {free / 1e9:.1f}")
    system = System("mlops_course.flights", Workspace(folder / "home"))
    if system.registry.champion() is None:
        release(system, names[:3], first_use=names[3], approver="benchmark", reason="to have a model")
    year = None
    for count in repeats:
        path = folder / f"{count}.parquet"
        if not path.exists():
            year = flights.build(flights.read(names)) if year is None else year
            year.head(0).to_parquet(folder / "schema.parquet")  # by pandas, which knows how
            schema = pq.read_schema(folder / "schema.parquet")
            year.to_parquet(folder / "year.parquet")
            table = pq.read_table(folder / "year.parquet").cast(schema)
            with pq.ParquetWriter(path.with_suffix(".part"), schema) as writer:
                for _ in range(count):
                    writer.write_table(table)
            path.with_suffix(".part").replace(path)


def one(folder: Path, kind: str, repeats: int) -> dict[str, float | str]:
    """Score once, anew, and say what it took."""
    system = System("mlops_course.flights", Workspace(folder / "home"))
    source, target = folder / f"{repeats}.parquet", folder / f"{kind.replace(' ', '_')}.parquet"
    for path in folder.glob(f"{target.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = []
    asked = {"target": target, "progress": lambda rows, of: told.append(time.perf_counter())}
    begun, start, workers = time.perf_counter(), 0.0, []
    if KINDS[kind]:
        with cluster.connect("local", workers=KINDS[kind]) as client:
            start = time.perf_counter() - begun
            done = cluster.score_to_file(system, f"{source}", client=client, **asked)
            end = time.perf_counter()
            workers = list(client.run(used).values())
    else:
        done = scoring.score_to_file(system, f"{source}", **asked)
        end = time.perf_counter()
    with open(target, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target.unlink()
    return {
        "kind": kind,
        "repeats": repeats,
        "rows": done.rows,
        "seconds": end - begun - start,
        "start": start,
        "to first part": told[0] - begun - start,
        "after last part": end - told[-1],
        "asking GB": used()[0],
        "worker GB": max((peak for peak, _ in workers), default=0.0),
        "core s": used()[1] + sum(seconds for _, seconds in workers),
        "digest": digest[:12],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, nargs="+", default=[3, 30])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.one == "prepare":
        prepare(folder, asked.repeats)
    elif asked.one:
        print(json.dumps(one(folder, asked.one, asked.repeats[0])))
    else:
        compare(folder, asked.repeats, rounds=asked.rounds)


def compare(folder: Path, repeats: list[int], *, rounds: int) -> None:
    """Each kind of run in turn, each in a process of its own: a process passes its peak on to those that it starts."""
    again = [sys.executable, __file__, f"{folder}"]
    subprocess.run([*again, "--one", "prepare", "--repeats", *map(str, repeats)], check=True)
    runs = []
    for _ in range(rounds):
        for count in repeats:
            for kind in KINDS:
                command = [*again, "--one", kind, "--repeats", f"{count}"]
                threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if "one core" in kind else {}
                ran = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
                runs.append(json.loads(ran.stdout.splitlines()[-1]))
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    table = pd.DataFrame(runs).groupby(["repeats", "kind"], sort=False).median(numeric_only=True)
    table["rows/s"] = table["rows"] / table["seconds"]
    table["rows/core s"] = table["rows"] / table["core s"]
    table["with start"] = table["rows"] / (table["seconds"] + table["start"])
    for base in [kind for kind, workers in KINDS.items() if not workers]:
        speed = table["rows/s"].xs(base, level="kind")
        table[f"to {base}"] = table["rows/s"].div(speed, level="repeats")
    print(table.round(2).to_string())
    same = pd.DataFrame(runs).groupby("repeats")["digest"].nunique()
    print("\nsame to the bit, by repeats:", (same == 1).to_dict())


if __name__ == "__main__":
    main()
