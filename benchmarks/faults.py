"""Faults put into the stream of a year, and what the alarms make of them: found, how soon, and told right?

    python benchmarks/faults.py [--schedules 30]

A champion is trained on January to March; bars are calibrated on these months. Each schedule puts each kind of fault
into April to December once, in random order, for five to ten days, three to four weeks apart. A fault counts as found
when an alert is raised while it lasts, and its delay is in days from its start to the evening of the alert; labels are
judged a day after their predictions, so what only labels show takes a day longer. An alert is false if no fault was on
or had ended within the last four weeks. The quiet year is the real one, without any fault.

Then each family of signals and each measure of drift by itself, with the same rule, and what p < 0.05 for each series
would have raised.
"""

import argparse
import time
from collections.abc import Iterable

import pandas as pd

from mlops_course import flights
from mlops_course.operations.monitoring import alerting, drift, faults, signals
from mlops_course.system import pipeline
from mlops_course.system.system import System
from mlops_course.system.workspace import Workspace

DAY = pd.Timedelta("1D")
START, END = pd.Timestamp("2013-04-01", tz="UTC"), pd.Timestamp("2013-12-31", tz="UTC")
MEASURES = ("psi", "js", "ks", "wasserstein_scaled", "chi2")
AFTERMATH = pd.Timedelta("28D")
FAMILIES = {
    "missing": ("missing",),
    "values: unseen, range, largest": ("unseen", "range", "largest", "unknown"),
    "distribution: level, spread, low": ("level", "spread", "low"),
    "residual": ("residual",),
    "rows and mix": ("count", "repeated", "share of"),
    "clock": ("off",),
    "labels": ("coverage", "surprise"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--schedules", type=int, default=30)
    count = options.parse_args().schedules
    system = System("mlops_course.flights", Workspace.locate())
    trained = pipeline.train(system.case, system.case.batches()[:3], workspace=system.workspace, seed=0)
    world = World(system, trained.version)
    begun = time.perf_counter()
    quiet = world.signals([])
    print(f"signals of a year: {time.perf_counter() - begun:.1f} s, {quiet.shape[1]} series of {len(quiet)} days")
    false = world.alerts(quiet)
    print(f"\nquiet year, April to December, budget 1 a year: {len(false)} false alarms")
    for alert in false:
        print(f"    raised {alert.raised:%Y-%m-%d}: {alert.text}")
    runs = [(drawn, world.signals(drawn)) for drawn in map(world.schedule, range(count))]
    table = pd.DataFrame([line for drawn, days in runs for line in judged(drawn, world.alerts(days))])
    print(f"\n{count} schedules, {len(table)} faults\n")
    by_kind = table.groupby("kind").agg(
        faults=("found", "size"),
        found=("found", "mean"),
        within_3_days=("in_time", "mean"),
        median_delay=("delay", "median"),
        longest_delay=("delay", "max"),
        kind_right=("right", "mean"),
        column_right=("column", "mean"),
    )
    print(by_kind.round(2).to_string())
    means = table[["found", "in_time", "right", "column"]].mean().round(3)
    print(f"all: {means.to_dict()}")
    stray = [alert for drawn, days in runs for alert in world.alerts(days) if is_false(alert, drawn)]
    print(f"false alarms in the quiet parts of {count} schedules: {len(stray)}")
    mistaken = table[table["found"] & ~table["right"]].groupby(["kind", "told"]).size()
    print(f"\ntaken for another kind:\n{mistaken.to_string() if len(mistaken) else 'none'}")
    print("\neach family of signals by itself: share of faults found within 3 days, false alarms in the quiet year\n")
    print(pd.DataFrame(alone(world, quiet, runs)).round(2).to_string(index=False))
    print("\neach measure of drift by itself, each day against the training sample, bars for one false alarm a year\n")
    print(pd.DataFrame(measures_alone(world)).round(2).to_string(index=False))
    naive = world.naive(quiet)
    print(f"\nwith p < 0.05 for each series of inputs and no hysteresis: {naive} alarms in the same quiet months")


class World:
    """The year with its champion: what a fault does to signals and alerts."""

    def __init__(self, system: System, version: int) -> None:
        case, specification = system.case, system.specification
        self.model = system.registry.load(version)
        self.inputs = specification.inputs
        rows = pipeline.prediction_rows(case, case.batches(), workspace=system.workspace)
        rows = rows.rename(columns={"prediction_time": "time", specification.target.column: "label"})
        rows["probability"] = self._answer(rows)
        self.rows = rows.sort_values("time", ignore_index=True)
        before = self.rows[self.rows["time"] < START]
        columns = {"numeric": self.inputs.numeric, "datetimes": self.inputs.datetime}
        self.known = signals.profile(before, categorical=self.inputs.categorical, **columns)
        days = self.signals([])
        self.bars = alerting.calibrate(days[days.index < START], a_year=1.0)

    def _answer(self, rows: pd.DataFrame) -> pd.Series:
        return self.model.model.predict_proba(rows[list(self.model.contract.inputs)])[:, 1]

    def schedule(self, seed: int) -> list[faults.Fault]:
        return faults.schedule(flights.FAULTS, start=START, end=END, seed=seed)

    def stream(self, drawn: list[faults.Fault]) -> pd.DataFrame:
        rows = faults.inject(self.rows, drawn, time="time", label="label", label_time="label_time", seed=0)
        for fault in drawn:
            within = fault.covers(rows["time"])
            rows.loc[within, "probability"] = self._answer(rows[within])
        return rows

    def signals(self, drawn: list[faults.Fault]) -> pd.DataFrame:
        rows = self.stream(drawn)
        days = signals.of_inputs(rows, self.known).join(signals.of_labels(rows, now=END + 9 * DAY, lag=DAY))
        return days[days.index <= END]

    def drift(self, drawn: list[faults.Fault]) -> dict[str, pd.DataFrame]:
        """Each measure of drift of each day against the training sample, one column a feature."""
        columns = [*self.inputs.datetime, *self.inputs.numeric, "probability"]
        before = self.rows[self.rows["time"] < START]
        bins = drift.reference(before, numeric=columns, categorical=self.inputs.categorical)
        rows = self.stream(drawn)
        table = drift.drift_by(drift.summarise_by(rows, bins, window=rows["time"].dt.floor("D")))
        days = {}
        for measure in MEASURES:
            wide = table[measure].unstack().dropna(axis=1, how="all")
            wide.columns = pd.MultiIndex.from_product([wide.columns, [measure]])
            days[measure] = wide[wide.index <= END]
        return pd.concat(days, axis=1)

    def alerts(self, days: pd.DataFrame, measures: Iterable[str] | None = None) -> list[alerting.Alert]:
        bars = self.bars
        if measures is not None:
            own = [name for name in bars.bars.index if name[1].startswith(tuple(measures))]
            bars = alerting.Bars(bars.floors[own], bars.bars[own])
        return alerting.find(days, bars, first=START)

    def naive(self, days: pd.DataFrame) -> int:
        """Days on which any series of inputs is outside of its central 95 % of the first quarter."""
        inputs = days.drop(columns="labels", level=0)
        low, high = inputs[inputs.index < START].quantile([0.025, 0.975]).to_numpy()
        later = inputs[inputs.index >= START]
        return int(((later < low) | (later > high)).to_numpy().sum())


def measures_alone(world: World) -> Iterable[dict]:
    """Drift as it is sold: one measure for all features, alarmed by the same rule."""
    drawn = [world.schedule(seed) for seed in range(10)]
    quiet, runs = world.drift([]), [world.drift(faults_) for faults_ in drawn]
    for measure in MEASURES:
        bars = alerting.calibrate(quiet[measure][quiet.index < START], a_year=1.0)
        found = [alerting.find(days[measure], bars, first=START) for days in runs]
        lines = [line for faults_, alerts in zip(drawn, found, strict=True) for line in judged(faults_, alerts)]
        by_kind = pd.DataFrame(lines).groupby("kind")["in_time"].mean()
        yield {"measure": measure, **by_kind.to_dict(), "false": len(alerting.find(quiet[measure], bars, first=START))}


def known_at(alert: alerting.Alert) -> pd.Timestamp:
    """The evening on which an alert could be raised: labels are judged a day later."""
    of_labels = any(subject == "labels" for subject, _ in alert.series) and alert.subject == "labels"
    return alert.raised + DAY + (DAY if of_labels else pd.Timedelta(0))


def judged(drawn: list[faults.Fault], alerts: list[alerting.Alert]) -> list[dict]:
    lines = []
    for fault in drawn:
        start, end = pd.Timestamp(fault.start), pd.Timestamp(fault.end)
        own = [alert for alert in alerts if start <= alert.raised < end]
        first = min(own, key=known_at, default=None)
        delay = (known_at(first) - start).days if first else None
        lines.append(
            {
                "kind": fault.kind,
                "found": first is not None,
                "in_time": first is not None and delay <= 3,
                "delay": delay,
                "told": first.kind if first else "",
                "right": first is not None and first.kind == fault.kind,
                "column": first is not None and first.subject == (fault.column or first.subject),
            }
        )
    return lines


def is_false(alert: alerting.Alert, drawn: list[faults.Fault]) -> bool:
    return not any(pd.Timestamp(fault.start) <= alert.raised < pd.Timestamp(fault.end) + AFTERMATH for fault in drawn)


def alone(world: World, quiet: pd.DataFrame, runs: list) -> Iterable[dict]:
    for name, measures in FAMILIES.items():
        lines = [line for drawn, days in runs[:10] for line in judged(drawn, world.alerts(days, measures))]
        found = pd.DataFrame(lines).groupby("kind")["in_time"].mean()
        yield {"family": name, **found.to_dict(), "false": len(world.alerts(quiet, measures))}


if __name__ == "__main__":
    main()
