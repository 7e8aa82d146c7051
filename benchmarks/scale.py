"""The year repeated 30 times, ten million rows, scored by one process without Dask, by one worker and by two.

    python benchmarks/scale.py FOLDER [--repeats 3 30] [--rounds 1] [--csv] [--steps]

FOLDER gets a workspace with a model of January to March, the files to score (18 MB a year) and the scores; it may be
deleted afterwards. Each run is a process of its own, and the kinds of run take turns, so that what else the computer
does falls on all of them. Printed are rows a second, without and with the start of the cluster, the seconds before the
first and after the last part (one core's work, however many workers there are), the core seconds of all processes and
of the one that asks, peak memory of the process that asks and of the greatest worker, and whether the files are the
same to the bit. With --csv the files are CSV (81 MB a year), which a cluster first copies to Parquet. With --steps, the
year is scored in one process, and the core seconds of each step are printed instead.
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
from threadpoolctl import threadpool_limits

from mlops_course import flights
from mlops_course.operations.deployment import batch
from mlops_course.system import cluster, scoring
from mlops_course.system.cluster import files
from mlops_course.system.release import release
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

KINDS = {"one process": 0, "one process, one core": 0, "1 worker": 1, "2 workers": 2}
BYTES_A_ROW = 800  # of the file, its scores, and its parts, with room to spare


def used() -> tuple[float, float]:
    """GB that this process has held at most, and the seconds that it has had a core."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak / 1e9, time.process_time()


def prepare(folder: Path, repeats: list[int], *, csv: bool) -> None:
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
        if csv and not path.with_suffix(".csv").exists():
            year = pd.read_parquet(folder / "year.parquet")
            for number in range(count):
                year.to_csv(path.with_suffix(".part"), mode="a" if number else "w", header=not number, index=False)
            path.with_suffix(".part").replace(path.with_suffix(".csv"))


def steps(folder: Path, *, csv: bool) -> None:
    """Score the year part by part in one process on one core, and print the core seconds of a million rows by step.

    Of a CSV, also the copy that a cluster makes of it, in the process that asks.
    """
    source = folder / ("1.csv" if csv else "1.parquet")
    system = System("mlops_course.flights", Workspace(folder / "home"))
    model, seconds, rows = system.registry.load("champion"), {}, 0
    contract, estimator = model.contract, model.model
    begun = [0.0]

    def lap(step: str) -> None:
        seconds[step] = seconds.get(step, 0.0) + time.process_time() - begun[0]
        begun[0] = time.process_time()

    with threadpool_limits(1):
        begun[0] = time.process_time()
        for part in batch.parts(source, batch.ROWS_PER_PART):
            lap("read")
            batch.problems(part, contract.inputs, optional=contract.optional)
            lap("check")
            inputs = batch.conform(part, contract.inputs)
            lap("types")
            system.case.derive(inputs)
            lap("features")
            answers = estimator.predict_proba(inputs)
            lap("features and model")
            pd.DataFrame({"id": part["id"], "probability": answers[:, 1]}).to_parquet(folder / "scores.parquet")
            lap("write")
            rows += len(part)
        with files._in_parts(source, folder=folder):
            copied = time.process_time() - begun[0]
    seconds["model"] = seconds.pop("features and model") - seconds["features"]
    table = pd.Series(seconds) / rows * 1e6
    print(pd.DataFrame({"core s a million rows": table.round(2), "share": (table / table.sum()).round(3)}).to_string())
    print(f"in all {table.sum():.2f}, and to copy a CSV for a cluster {copied / rows * 1e6:.2f}")


def one(folder: Path, kind: str, repeats: int, *, csv: bool) -> dict[str, float | str]:
    """Score once, anew, and say what it took."""
    system = System("mlops_course.flights", Workspace(folder / "home"))
    source, target = folder / f"{repeats}.{'csv' if csv else 'parquet'}", folder / f"{kind.replace(' ', '_')}.parquet"
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
        "asking core s": used()[1],
        "core s": used()[1] + sum(seconds for _, seconds in workers),
        "digest": digest[:12],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, nargs="+", default=[3, 30])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.one == "prepare":
        prepare(folder, asked.repeats, csv=asked.csv)
    elif asked.one:
        print(json.dumps(one(folder, asked.one, asked.repeats[0], csv=asked.csv)))
    elif asked.steps:
        prepare(folder, [1], csv=asked.csv)
        steps(folder, csv=asked.csv)
    else:
        compare(folder, asked.repeats, rounds=asked.rounds, csv=asked.csv)


def compare(folder: Path, repeats: list[int], *, rounds: int, csv: bool) -> None:
    """Each kind of run in turn, each in a process of its own: a process passes its peak on to those that it starts."""
    again = [sys.executable, __file__, f"{folder}", *(["--csv"] if csv else [])]
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
