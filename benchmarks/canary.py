"""How soon a canary stops a bad challenger and how seldom a good one, on the flights of March and April 2013.

    python benchmarks/canary.py

Aim: a challenger whose decisions cost twice as much is stopped within the first 2,000 requests in at least 95 of 100
seeds, and one that decides as the champion does in at most 5. A seed is a start in March and a salt. Requests come in
order of prediction time, the verdict is asked for after every 50, and labels come when flights land; for comparison
also at once. The champion is gradient boosting fitted on January and February; the bad challenger decides the opposite
for a random part of the flights; for comparison also one that costs half as much again. All answer equally fast, 1 in
100 answers is slow, and nothing fails.

The naive rival looks at the same labels of the same canary as often, and stops the equal challenger at a one-sided
p-value of 0.05 of Welch's t-test on costs.
"""

import numpy as np
import pandas as pd
from scipy import stats

from mlops_course import flights
from mlops_course.design import load_specification
from mlops_course.development import training
from mlops_course.operations.deployment import rollout

SPECIFICATION = load_specification(flights.SPECIFICATION)
COSTS = {"false_alarm": SPECIFICATION.costs.false_alarm, "missed": SPECIFICATION.costs.missed}
PLAN = rollout.CanaryPlan(max_latency_ms=200, max_cost=max(COSTS.values()))
SEEDS, EVERY, SOON, LONG = 100, 50, 2_000, 10_000
FACTORS = {"twice as costly": 2.0, "half as much again": 1.5}  # what decisions cost, against the champion's


def requests() -> pd.DataFrame:
    """Flights of March and April in order of requests, with what the decision and its opposite cost."""
    frame = flights.build(flights.read(["2013-01", "2013-02", "2013-03", "2013-04"]))
    frame = frame.sort_values("prediction_time", kind="stable")
    now = frame[frame["batch"].isin(["2013-03", "2013-04"])].reset_index(drop=True)
    past = frame[frame["late"].notna() & (frame["label_time"] <= now["prediction_time"].min())]
    columns = {"numeric": SPECIFICATION.features.numeric, "categorical": SPECIFICATION.features.categorical}
    model = training.candidates(flights.derive, **columns, seed=0)["gradient_boosting"]
    model.fit(past[SPECIFICATION.inputs.all], past["late"])
    act = model.predict_proba(now[SPECIFICATION.inputs.all])[:, 1] >= training.cost_threshold(**COSTS)
    return now[["id", "prediction_time", "label_time", "late"]].assign(
        right=cost(act, now["late"]), opposite=cost(~act, now["late"])
    )


def cost(act: np.ndarray, late: pd.Series) -> np.ndarray:
    return np.where(act, COSTS["false_alarm"] * (late == 0), COSTS["missed"] * (late == 1)).astype(float)


def challengers(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What the decisions of each challenger cost, request by request."""
    known = table["late"].notna()
    right, opposite = table.loc[known, "right"].mean(), table.loc[known, "opposite"].mean()
    print(
        f"{len(table):,} requests, {known.mean():.1%} get a label; mean cost {right:.2f}, all opposite {opposite:.2f}"
    )
    draws, found = np.random.default_rng(0).random(len(table)), {}
    for name, factor in FACTORS.items():
        part = (factor - 1) * right / (opposite - right)
        found[name] = np.where(draws < part, table["opposite"], table["right"])
        times = found[name][known].mean() / right
        print(f"{name}: {part:.1%} of decisions are the opposite, mean cost {times:.2f} times the champion's")
    delay = (table["label_time"] - table["prediction_time"])[known] / pd.Timedelta("1h")
    print(f"labels come after {delay.median():.1f} hours in the median, 95 % within {delay.quantile(0.95):.1f}\n")
    return found | {"equal": table["right"].to_numpy()}


def canary(table: pd.DataFrame, costs: np.ndarray, *, seed: int, size: int, labels_at_once: bool) -> dict[str, float]:
    """One canary over `size` requests: when it stopped, how many answers the challenger gave, the naive test's stop."""
    random = np.random.default_rng(seed)
    start = random.integers((table["prediction_time"] < pd.Timestamp("2013-04-01", tz="UTC")).sum())
    part = table.iloc[start : start + size]
    chosen = {step: rollout.in_share(part["id"], step, salt=f"canary {seed}") for step in PLAN.steps}
    asked = part["prediction_time"].to_numpy()
    came = asked if labels_at_once else part["label_time"].to_numpy()
    order = np.argsort(came, kind="stable")
    order = order[part["late"].notna().to_numpy()[order]]
    latency = np.where(random.random(size) < 0.01, 500.0, 20.0)  # milliseconds
    challenger, shares, share = np.zeros(size, bool), np.zeros(size), PLAN.steps[0]
    stop, looks = np.inf, []
    for n in range(EVERY, size + 1, EVERY):
        new = slice(n - EVERY, n)
        challenger[new], shares[new] = chosen[share][new], share
        there = order[(order < n) & (came[order] <= asked[n - 1])]
        looks.append((n, there))
        if size > SOON and share == PLAN.steps[-1] and n not in (SOON, size):
            continue  # nothing but a stop can come now, and a stop can be read off later: the maximum is running
        value = np.where(challenger, costs[start : start + size], part["right"])[there]
        answers = {"challenger": challenger[:n], "share": shares[:n], "failed": False, "latency_ms": latency[:n]}
        labels = {"challenger": challenger[there], "share": shares[there], "cost": value}
        verdict = rollout.judge(pd.DataFrame(answers), pd.DataFrame(labels), plan=PLAN, share=share)
        if verdict.action == "stop":
            stop = n
            break
        share = verdict.share
    values = np.where(challenger, costs[start : start + size], part["right"])
    naive = next((n for n, there in looks if size == LONG and naive_stops(challenger[there], values[there])), np.inf)
    return {"stop": stop, "answers": challenger[: looks[-1][0]].sum(), "naive": naive}


def naive_stops(challenger: np.ndarray, values: np.ndarray) -> bool:
    a, b = values[challenger], values[~challenger]
    if min(len(np.unique(a)), len(np.unique(b))) < 2 or len(a) < 10:
        return False  # a t-test needs some spread
    return stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue <= PLAN.alpha


def main() -> None:
    table = requests()
    print(f"steps {PLAN.steps}, {PLAN.answers_per_step} answers a step, verdict after every {EVERY} requests")
    lines = []
    for name, costs in challengers(table).items():
        for at_once in (False, True):
            size = SOON if name != "equal" else LONG
            runs = [canary(table, costs, seed=seed, size=size, labels_at_once=at_once) for seed in range(SEEDS)]
            found = pd.DataFrame(runs)
            stopped = found[found["stop"] <= size]
            lines.append(
                {
                    "challenger": name,
                    "labels": "at once" if at_once else "on landing",
                    f"stopped in {SOON:,}": (found["stop"] <= SOON).sum(),
                    f"in {LONG:,}": (found["stop"] <= LONG).sum() if size == LONG else np.nan,
                    "median requests": stopped["stop"].median(),
                    "its answers": stopped["answers"].median(),
                    f"naive in {SOON:,}": (found["naive"] <= SOON).sum() if size == LONG else np.nan,
                    f"naive in {LONG:,}": (found["naive"] <= LONG).sum() if size == LONG else np.nan,
                }
            )
    print(f"\nOf {SEEDS} seeds; medians are over the canaries that were stopped, 'its answers' are the challenger's")
    print(
        pd.DataFrame(lines).set_index(["challenger", "labels"]).T.to_string(na_rep="–", float_format="{:,.0f}".format)
    )


if __name__ == "__main__":
    main()
