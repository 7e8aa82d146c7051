"""Inputs and features of all 336,776 flights: seconds and peak memory of a process that does nothing else.

    python benchmarks/features.py

Aim: 5 s and 1.5 GB on two cores, reading the files included.
"""

import resource
import sys
import time

from mlops_course import flights


def main() -> None:
    start = time.perf_counter()
    tables = flights.read(flights.batches())
    read = time.perf_counter()
    frame = flights.build(tables)
    built = time.perf_counter()
    features = flights.derive(frame)
    derived = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{len(features):,} flights, {features.shape[1]} columns")
    print(f"read {read - start:.2f} s, build {built - read:.2f} s, derive {derived - built:.2f} s")
    print(f"together {derived - start:.2f} s, peak memory {peak / 1e9:.2f} GB (imports included)")


if __name__ == "__main__":
    main()
