"""How a model ages, and what a leak is worth: AUC and log loss of April to December 2013, month by month.

    python benchmarks/staleness.py

Four models a month, all gradient boosting with the settings of the course: trained once on January to March, or anew
on all months before, or anew on the last month only, each with inputs as of two hours before departure; and trained
anew on all months before with the weather of the departure hour, which is the join that looks right and is not.
Intervals are of the mean over the nine months, from 1,000 draws of whole days.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

from mlops_course import flights
from mlops_course.design import load_specification
from mlops_course.development import evaluation, training
from mlops_course.flights.features import WEATHER

SPECIFICATION = load_specification(flights.SPECIFICATION)
DRAWS = 1_000


def at_departure_hour(frame: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """The same inputs with the weather of the hour of departure: not known when the desk asks."""
    hour = (frame["prediction_time"] + pd.Timedelta("2h")).dt.floor("h").rename("time_hour")
    found = pd.concat([frame["origin"], hour], axis=1).merge(weather, how="left", on=["origin", "time_hour"])
    return frame.assign(**{name: found[name].to_numpy() for name in WEATHER}, weather_age_minutes=0.0)


def predictions(frame: pd.DataFrame, train: list[str], test: str) -> np.ndarray:
    labelled = frame["late"].notna()
    past, future = frame[labelled & frame["batch"].isin(train)], frame[labelled & frame["batch"].eq(test)]
    past = past[past["label_time"] <= future["prediction_time"].min()]
    columns = {"numeric": SPECIFICATION.features.numeric, "categorical": SPECIFICATION.features.categorical}
    model = training.candidates(flights.derive, **columns, seed=0)["gradient_boosting"]
    model.fit(past[SPECIFICATION.inputs.all], past["late"])
    return model.predict_proba(future[SPECIFICATION.inputs.all])[:, 1]


def main() -> None:
    tables = flights.read(flights.batches())
    tables["weather"] = tables["weather"][tables["weather"]["wind_speed"] < 200]
    honest = flights.build(tables)
    leaky = at_departure_hour(honest, tables["weather"])
    months = flights.batches()
    schemes = {
        "Jan-Mar": (honest, lambda now: months[:3]),
        "all past": (honest, lambda now: months[:now]),
        "last month": (honest, lambda now: months[now - 1 : now]),
        "all past, leaky": (leaky, lambda now: months[:now]),
    }
    lines, losses = [], {name: [] for name in schemes}
    for now, month in enumerate(months[3:], start=3):
        truth = honest.loc[honest["late"].notna() & honest["batch"].eq(month), ["late", "scheduled_departure"]]
        line = {"month": month, "rows": len(truth), "late": truth["late"].mean()}
        for name, (frame, train) in schemes.items():
            p = predictions(frame, train(now), month)
            line[f"AUC {name}"] = roc_auc_score(truth["late"], p)
            line[f"log loss {name}"] = log_loss(truth["late"], p)
            line[f"bias {name}"] = p.mean() - truth["late"].mean()
            loss = evaluation.log_losses(truth["late"], p)
            losses[name].append(pd.Series(loss, index=truth["scheduled_departure"].dt.date))
        lines.append(line)
    table = pd.DataFrame(lines).set_index("month")
    for metric in ("AUC", "log loss", "bias"):
        chosen = table[["late", *(f"{metric} {name}" for name in schemes)]]
        chosen.columns = ["late", *schemes]
        print(f"\n{metric} by month\n{chosen.round(3).to_string()}")
    print(f"\nMeans over April-December\n{table.mean().drop(['rows', 'late']).round(4).to_string()}")
    print("\nLog loss against 'all past', mean over rows, with 95 % interval over days")
    for name in schemes:
        low, mean, high = difference(pd.concat(losses[name]), pd.concat(losses["all past"]))
        print(f"{name:16} {mean:+.4f} [{low:+.4f}, {high:+.4f}]")


def difference(a: pd.Series, b: pd.Series) -> tuple[float, float, float]:
    days = pd.DataFrame({"gap": a.to_numpy() - b.to_numpy(), "day": a.index}).groupby("day")["gap"].agg(["sum", "size"])
    drawn = np.random.default_rng(0).integers(len(days), size=(DRAWS, len(days)))
    sums, sizes = days["sum"].to_numpy()[drawn].sum(axis=1), days["size"].to_numpy()[drawn].sum(axis=1)
    low, high = np.quantile(sums / sizes, [0.025, 0.975])
    return low, (a.to_numpy() - b.to_numpy()).mean(), high


if __name__ == "__main__":
    main()
