"""All drift measures over a year in one pass: seconds and memory, ours and Evidently's on the same columns.

    python benchmarks/monitoring.py --evidently PATH_OF_A_PYTHON

Evidently does not import beside the pandas of the course, so it runs in an environment of its own, whose Python is
given by the option or by the variable EVIDENTLY_PYTHON:

    python -m venv evidently
    evidently/bin/python -m pip install "evidently==0.7.23" "pandas<3" pyarrow

Each library runs in a process of its own on the same Parquet file, ours several times over. Reference is January to
March. Both are asked for January to March against the rest; ours also for each day of the year. The columns are all
inputs of the flights case and the prediction of a model trained on January to March; the time counts as its hour.
Evidently is asked measure by measure for values only, and then by its drift preset, as its documentation shows; making
its data sets is not counted.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

CATEGORICAL = ["carrier", "origin", "dest"]
REPEATS = 7
MEASURES = ["psi", "jensenshannon", "ks", "wasserstein", "chisquare"]


def peak_mb() -> float:
    """Peak of this process on Linux; `ru_maxrss` would be that of the process that started it, if that was greater."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


# Ours -----------------------------------------------------------------------------------------------------------------


def ours(path: str) -> dict:
    """Seconds, memory and values of ours; in a process of its own."""
    start = time.perf_counter()
    import pandas as pd

    from mlops_course.operations.monitoring import drift

    found = {"import": time.perf_counter() - start}
    rows = pd.read_parquet(path)
    found["loaded MB"], numeric = peak_mb(), [name for name in rows if name not in [*CATEGORICAL, "day", "first"]]
    first, rest = rows[rows["first"]], rows[~rows["first"]]

    def made():
        return drift.reference(first, numeric=numeric, categorical=CATEGORICAL)

    def by_day():
        window = drift.windows(rows["day"], width=pd.Timedelta("1D"))
        return drift.drift_by(drift.summarise_by(rows, bins, window=window))

    bins = made()
    found["rest"], table = seconds(lambda: drift.drift(drift.summarise(rest, made())))
    found["days"], _ = seconds(by_day)
    found["peak MB"] = peak_mb()
    tracemalloc.start()
    by_day()
    found["pass MB"] = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    found["exact"] = [name for name in numeric if set(first[name].dropna()) == set(bins.edges[name])]
    found["columns"], found["rows"] = len(numeric) + len(CATEGORICAL), len(rows)
    found["values"] = {name: table[name].dropna().to_dict() for name in ("psi", "js", "ks", "wasserstein_scaled")}
    return found


def seconds(call) -> tuple[list[float], object]:
    """Seconds of each repeat, and what the last one gave."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = call()
        taken.append(time.perf_counter() - start)
    return sorted(taken), result


# Evidently's: this runs under another Python, without mlops_course ----------------------------------------------------


def theirs(path: str) -> dict:
    """Seconds, memory and values of Evidently, and scipy's own KS statistic, on the same file."""
    start = time.perf_counter()
    import evidently
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    found = {"import": time.perf_counter() - start, "version": evidently.__version__, "pandas": pd.__version__}
    rows = pd.read_parquet(path)
    found["loaded MB"], numeric = peak_mb(), [name for name in rows if name not in [*CATEGORICAL, "day", "first"]]
    names = [*numeric, *CATEGORICAL]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=CATEGORICAL)
    first, rest = (Dataset.from_pandas(rows.loc[part, names], definition) for part in (rows["first"], ~rows["first"]))
    kinds = {"ks": numeric, "wasserstein": numeric, "chisquare": CATEGORICAL}
    found["seconds"], found["values"] = {}, {}
    for method in MEASURES:
        asked = kinds.get(method, names)
        start = time.perf_counter()
        metrics = Report([ValueDrift(column=name, method=method) for name in asked]).run(rest, first).dict()["metrics"]
        found["seconds"][method] = time.perf_counter() - start
        found["values"][method] = {each["config"]["column"]: float(each["value"]) for each in metrics}
    start = time.perf_counter()
    for method in MEASURES[:-1]:
        by_kind = {"num_method": method, "cat_method": method if method not in kinds else "chisquare"}
        Report([DataDriftPreset(**by_kind)]).run(rest, first).dict()
    found["preset"] = time.perf_counter() - start
    found["peak MB"] = peak_mb()
    found["scipy ks"] = scipy_ks(rows[rows["first"]], rows[~rows["first"]], numeric)
    return found


def scipy_ks(first, rest, numeric) -> dict[str, float]:
    from scipy.stats import ks_2samp

    return {name: float(ks_2samp(first[name].dropna(), rest[name].dropna()).statistic) for name in numeric}


# Both -----------------------------------------------------------------------------------------------------------------


def write_columns(path: Path) -> None:
    """The year with the predictions of a model of January to March, in a file that both libraries read."""
    from mlops_course import flights
    from mlops_course.design import load_specification
    from mlops_course.development import training

    kinds = load_specification(flights.SPECIFICATION)
    frame = flights.build(flights.read(flights.batches()))
    names = [*kinds.inputs.datetime, *kinds.inputs.numeric, *kinds.inputs.categorical]
    first = frame["batch"] <= "2013-03"
    learnt = frame[first & frame["late"].notna()]
    models = training.candidates(
        flights.derive, numeric=kinds.features.numeric, categorical=kinds.features.categorical, seed=0
    )
    model = models["gradient_boosting"].fit(learnt[names], learnt["late"])
    table = frame[[*kinds.inputs.numeric, *kinds.inputs.categorical]].copy()
    table.insert(0, "hour", frame[kinds.inputs.datetime[0]].dt.hour.astype(float))
    table["probability"] = model.predict_proba(frame[names])[:, 1]
    table["day"], table["first"] = frame["prediction_time"], first
    table.to_parquet(path)


def run(python: str, side: str, path: Path) -> dict:
    command = [python, os.path.abspath(__file__), "--run", side, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def show_ours(found: dict) -> None:
    print(f"ours: {found['rows']:,} rows, {found['columns']} columns, every measure; median of {REPEATS} (least, most)")
    for name, what in (
        ("rest", "January to March against the rest, making the bins included"),
        ("days", "each day of the year, in one pass"),
    ):
        taken = found[name]
        print(f"  {taken[len(taken) // 2]:7.3f} s  {what} ({taken[0]:.3f}, {taken[-1]:.3f})")
    print(f"  {found['import']:7.1f} s  import")
    print(f"  {found['pass MB']:7.0f} MB the pass itself at its peak, beyond the loaded table")
    print(f"  {found['peak MB']:7.0f} MB the process at its peak; {found['loaded MB']:.0f} with the table loaded")


def show_theirs(found: dict, ours_found: dict) -> None:
    total = sum(found["seconds"].values())
    print(f"Evidently {found['version']} (pandas {found['pandas']}), January to March against the rest, once")
    for method, taken in found["seconds"].items():
        print(f"  {taken:7.2f} s  {method}, {len(found['values'][method])} columns")
    print(f"  {total:7.2f} s  all of them\n  {found['preset']:7.2f} s  the same by its preset")
    print(f"  {found['import']:7.1f} s  import")
    print(f"  {found['peak MB']:7.0f} MB the process at its peak; {found['loaded MB']:.0f} with the table loaded")
    middle = {name: ours_found[name][REPEATS // 2] for name in ("rest", "days")}
    for name, what in (("rest", "the same question"), ("days", "365 questions, a day each")):
        one, preset = (taken / middle[name] for taken in (total, found["preset"]))
        print(f"ours is {one:.0f} times as fast for {what}; against the preset {preset:.0f} times")


def show_values(found: dict, mine: dict) -> None:
    """Where definitions agree values do; where not, why."""
    values, exact = mine["values"], set(mine["exact"])
    binned = set(values["ks"]) - exact

    def line(what, ours_values, theirs_values, names):
        apart = {name: abs(ours_values[name] - theirs_values[name]) for name in names}
        worst = max(apart, key=apart.get)
        print(f"  {apart[worst]:.6f}  {what}, {len(apart)} columns; {worst}: {ours_values[worst]:.6f}", end="")
        print(f", theirs {theirs_values[worst]:.6f}")

    print("greatest difference of values, where definitions agree")
    scaled, normed = values["wasserstein_scaled"], found["values"]["wasserstein"]
    line("Wasserstein by standard deviation, a bin for each value", scaled, normed, exact)
    line("Wasserstein by standard deviation, 500 bins", scaled, normed, binned)
    line("KS statistic (scipy's), a bin for each value", values["ks"], found["scipy ks"], exact)
    line("KS statistic (scipy's), 500 bins", values["ks"], found["scipy ks"], binned)
    line("JS distance of categories", values["js"], found["values"]["jensenshannon"], CATEGORICAL)
    line("PSI of categories without an empty one", values["psi"], found["values"]["psi"], ["carrier", "origin"])
    print("and where they do not")
    line(
        "PSI of categories, an empty one being half a row or a ten-thousandth",
        values["psi"],
        found["values"]["psi"],
        ["dest"],
    )
    line(
        "PSI of numbers, over deciles of the reference or over equal widths of both",
        values["psi"],
        found["values"]["psi"],
        list(scaled),
    )
    line("JS of numbers, likewise", values["js"], found["values"]["jensenshannon"], list(scaled))
    print("  KS and chi-squared are p-values there: 0 where rows are this many and anything moved at all;")
    print("  their chi-squared takes the reference for the truth without error, ours for a sample like the other")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evidently", default=os.environ.get("EVIDENTLY_PYTHON"), help="the Python that has Evidently")
    parser.add_argument("--run", nargs=2, metavar=("SIDE", "FILE"), help="what each process is started with")
    options = parser.parse_args()
    if options.run:
        print(json.dumps({"ours": ours, "theirs": theirs}[options.run[0]](options.run[1])))
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "year.parquet"
        write_columns(path)
        mine = run(sys.executable, "ours", path)
        show_ours(mine)
        if not options.evidently:
            print("Evidently was not measured: no --evidently and no EVIDENTLY_PYTHON. To make its environment:")
            print("  python -m venv evidently")
            print('  evidently/bin/python -m pip install "evidently==0.7.23" "pandas<3" pyarrow')
            return
        found = run(options.evidently, "theirs", path)
    show_theirs(found, mine)
    show_values(found, mine)


if __name__ == "__main__":
    main()
