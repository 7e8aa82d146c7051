"""Performance estimated before labels come, against what came of it: by week, with the coverage of the interval.

    python benchmarks/estimation.py

A champion is trained on January to March. Each week of April to December is estimated at its end, with labels as they
come (hours after the prediction), and as if they came 14 and 28 days later. "naive" is the interval that chance among
independent rows would give around probabilities taken as they are.
"""

import time

import numpy as np
import pandas as pd

from mlops_course.operations.monitoring import performance
from mlops_course.system import monitor, pipeline
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

WEEK = pd.Timedelta("7D")
START = pd.Timestamp("2013-04-01", tz="UTC")
LATER = (0, 14, 28)  # days
PARTS = ("", "_low", "_high")
SHOWN = ["labelled", "log_loss", *(f"estimated_log_loss{part}" for part in PARTS)]
SHOWN += ["cost", *(f"estimated_cost{part}" for part in PARTS)]


def main() -> None:
    system = System("mlops_course.flights", Workspace.locate())
    specification, case = system.specification, system.case
    costs = {"false_alarm": specification.costs.false_alarm, "missed": specification.costs.missed}
    trained = pipeline.train(case, case.batches()[:3], workspace=system.workspace, seed=0)
    model = system.registry.load(trained.version)
    test = monitor.reference_rows(system, trained.version)["test"]
    rows = pipeline.prediction_rows(case, case.batches(), workspace=system.workspace)
    rows = rows[(rows["prediction_time"] >= START) | rows["id"].isin(test["id"])]
    rows = rows.assign(probability=model.model.predict_proba(rows[list(model.contract.inputs)])[:, 1])
    rows["decision"] = rows["probability"] >= model.contract.threshold
    rows = rows.rename(columns={"prediction_time": "time", specification.target.column: "label"})
    rows = rows.sort_values("time", ignore_index=True)
    for days in LATER:
        begun = time.perf_counter()
        table = walked(rows.assign(label_time=rows["label_time"] + pd.Timedelta(days=days)), costs)
        seconds = time.perf_counter() - begun
        print(f"\nlabels {days} days later ({seconds:.0f} s for {len(table)} weeks)")
        if not days:
            print(table[SHOWN].round(3).to_string())
        lines = [accuracy(table, measure, rows, costs) for measure in ("log_loss", "cost", "rate")]
        print(pd.DataFrame(lines).to_string(index=False))
    for origin, part in rows.groupby("origin"):
        table = walked(part, costs)
        covered = {name: round(performance.coverage(table, name), 3) for name in ("log_loss", "cost", "rate")}
        print(f"origin {origin}, labels as they come: coverage {covered}")


def walked(rows: pd.DataFrame, costs: dict[str, float]) -> pd.DataFrame:
    """Weeks from the first whole one after the release on; what is before is what the first intervals rest on."""
    found = []
    for start in pd.date_range(START, rows["time"].max() - WEEK, freq=WEEK):
        window = pd.Series(start, index=rows.index)[(rows["time"] >= start) & (rows["time"] < start + WEEK)]
        came = performance.realised(rows.loc[window.index], window=window, **costs).iloc[0]
        said = performance.estimate(rows, start=start, end=start + WEEK, now=start + WEEK, **costs)
        found.append({"start": f"{start:%m-%d}", **came, **said})
    return pd.DataFrame(found).set_index("start")


def accuracy(table: pd.DataFrame, measure: str, rows: pd.DataFrame, costs: dict[str, float]) -> dict[str, object]:
    error = table[measure] - table[f"estimated_{measure}"]
    return {
        "measure": measure,
        "mean error": round(error.mean(), 4),
        "mean absolute error": round(error.abs().mean(), 4),
        "mean width": round((table[f"estimated_{measure}_high"] - table[f"estimated_{measure}_low"]).mean(), 4),
        "coverage of 95 %": round(performance.coverage(table, measure), 3),
        "naive coverage": round(naive(table, measure, rows, costs), 3),
    }


def naive(table: pd.DataFrame, measure: str, rows: pd.DataFrame, costs: dict[str, float]) -> float:
    """Coverage of an interval from probabilities as they are and rows as if each were by itself."""
    p = np.clip(rows["probability"].to_numpy(), 1e-6, 1 - 1e-6)
    acted = rows["decision"].to_numpy(bool)
    if_late, if_not = {
        "log_loss": (-np.log(p), -np.log(1 - p)),
        "cost": (np.where(acted, 0.0, costs["missed"]), np.where(acted, costs["false_alarm"], 0.0)),
        "rate": (np.ones_like(p), np.zeros_like(p)),
    }[measure]
    week = (rows["time"] - START) // WEEK
    mean = pd.Series(p * if_late + (1 - p) * if_not).groupby(week.to_numpy()).mean()
    variance = pd.Series(p * (1 - p) * (if_late - if_not) ** 2).groupby(week.to_numpy())
    error, weeks = variance.sum() ** 0.5 / variance.size(), np.arange(len(table))
    return float((np.abs(table[measure].to_numpy() - mean[weeks].to_numpy()) <= 1.96 * error[weeks].to_numpy()).mean())


if __name__ == "__main__":
    main()
