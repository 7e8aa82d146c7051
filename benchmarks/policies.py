"""Policies of retraining over April to December 2013, lived through by the real service: what each costs and gains.

    python benchmarks/policies.py [--only NAME ...]

Each policy is replayed in a folder of its own under replays/ in the workspace, and goes on there if it is started
again. "careful" goes through gate, shadow and canary; "careless" promotes whatever was trained. Differences are to
`never`, with 95 % intervals from drawing whole days 2,000 times, the same days for both.
"""

import argparse
import time
from contextlib import closing

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mlops_course.development import evaluation
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.system.replay import Plan, Replayed, replay
from mlops_course.system.scoring import error_costs
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

SPAN = {"first": "2013-04", "last": "2013-12"}
PLANS = {
    "never": Plan(**SPAN),
    "monthly, all past": Plan(**SPAN, policy="monthly"),
    "monthly, last 1, careless": Plan(**SPAN, policy="monthly", window="last 1", careful=False),
    "monthly, last 1": Plan(**SPAN, policy="monthly", window="last 1"),
    "monthly, seasonal": Plan(**SPAN, policy="monthly", window="seasonal"),
    "on drift, all past": Plan(**SPAN, policy="on drift"),
    "on estimated loss, all past": Plan(**SPAN, policy="on estimated loss"),
    "on realised loss, all past": Plan(**SPAN, policy="on realised loss"),
    "combined, all past": Plan(**SPAN, policy="combined"),
}
DRAWS = 2_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="*", choices=PLANS, default=list(PLANS))
    names = options.parse_args().only
    system = System("mlops_course.flights", Workspace.locate())
    done, rows = {}, {}
    for name in names:
        begun = time.perf_counter()
        folder = name.replace(", ", "-").replace(" ", "_")
        done[name] = replay(system, PLANS[name], name=folder)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
        rows[name] = answered(done[name])
    base = rows.get("never")
    lines = [line(name, replayed, rows[name], base) for name, replayed in done.items()]
    print("\n" + pd.DataFrame(lines).to_string(index=False))
    months = pd.DataFrame({name: by_month(table) for name, table in rows.items()}).round(3)
    print(f"\nROC AUC by month: how a champion ages\n{months.to_string()}")


def answered(replayed: Replayed) -> pd.DataFrame:
    with closing(PredictionLog(replayed.log_url)) as log:
        table = log.labelled(inputs=False)
    loss = evaluation.log_losses(table["label"], table["probability"])
    cost = error_costs(table, replayed.system.specification)
    return table.assign(loss=loss, cost=cost, day=table["time"].dt.floor("D"))


def by_month(table: pd.DataFrame) -> pd.Series:
    months = table.groupby(table["time"].dt.strftime("%m"))[["label", "probability"]]
    return months.apply(lambda rows: roc_auc_score(rows["label"], rows["probability"]) if len(rows) > 1_000 else np.nan)


def line(name: str, replayed: Replayed, rows: pd.DataFrame, base: pd.DataFrame | None) -> dict:
    days = replayed.ledger.frame()
    history = replayed.system.registry.history()
    alerts = {(one["kind"], one["subject"], one["since"]) for day in days["alerts"] for one in day}
    facts = {
        "policy": name,
        "trained": int(days["retrain"].sum()),
        "promoted": int((history["event"] == "promoted").sum()) - 1,
        "alerts": len(alerts),
        "log loss": round(rows["loss"].mean(), 4),
        "AUC": round(roc_auc_score(rows["label"], rows["probability"]), 4),
        "errors EUR": f"{rows['cost'].sum():,.0f}",
        "training EUR": f"{days['training_cost'].sum():,.0f}",
        "serving EUR": f"{days['serving_cost'].sum():,.0f}",
    }
    if base is None or name == "never":
        return facts
    both = rows[["id", "loss", "cost", "day"]].merge(base[["id", "loss", "cost"]], on="id", suffixes=("", "_never"))
    for column, digits in (("loss", 4), ("cost", 3)):
        mean, low, high = difference(both[column] - both[f"{column}_never"], both["day"])
        facts[f"{column} - never"] = f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return facts


def difference(values: pd.Series, day: pd.Series) -> tuple[float, float, float]:
    days = values.groupby(day).agg(["sum", "size"]).to_numpy()
    drawn = np.random.default_rng(0).integers(len(days), size=(DRAWS, len(days)))
    sums = days[drawn].sum(axis=1)
    return float(values.mean()), *np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])


if __name__ == "__main__":
    main()
