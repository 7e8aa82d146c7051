"""The monitor of a running system: follows the prediction log, and says what has moved and how good the answers are.

    Monitor          what is known of the days so far: drift, signals, alerts, performance, state, report
    Monitor.of       one for a system, as if it had been there from the first release on
    reference_rows   the rows that a registered version was made from, as the reference

A monitor reads the log by the numbers of its rows, so each counts once, however late it comes. What it says of a moment
rests on rows and labels of before that moment. It keeps nothing that the log does not hold: one that starts anew says
the same.

Two references are in use, for two questions. Drift compares with the training sample of the champion: how far is the
world from what the model has learnt? Alarms compare with the four weeks before: what has changed at once? A season is
drift, and no alarm.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mlops_course.development import data
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import alerting, performance, signals
from mlops_course.operations.monitoring import drift as measures
from mlops_course.operations.registry import PROMOTED, ROLLED_BACK, Registry, RegistryError
from mlops_course.system import report
from mlops_course.system.system import System

__all__ = ["Monitor", "reference_rows"]

DAY = pd.Timedelta("1D")
WEEK = pd.Timedelta("7D")
MONTH = pd.Timedelta("28D")
MOST_LABELS = 0.99  # of the labels that ever come have come after the lag at which a day is judged
SHOWN_DAYS = 60  # of traffic in the state
MIN_SLICE_ROWS = 50  # of the days of an alert, for a slice to be blamed
CONCENTRATED = 3.0  # times the median of slices: then it is that slice, and not all


def reference_rows(system: System, version: int) -> dict[str, pd.DataFrame]:
    """The rows that a version was made from, with its probabilities: "all" of them, and "test", those it was judged on.

    They come from the snapshots that its run names; where it names the parts only, "all" are those with a label. Raises
    ValueError if its run names neither.
    """
    registered, tags = system.registry.load(version), system.run_of(version).data.tags
    if "split_rows" not in tags:
        raise ValueError(f"expected the run of version {version} to name its rows, got the tags {sorted(tags)}")
    folder, inputs = system.workspace.snapshots, list(registered.contract.inputs)
    parts = data.load_snapshot(folder, tags["split_rows"])
    whole = (
        data.load_snapshot(folder, tags["usable_rows"])["rows"] if "usable_rows" in tags else pd.concat(parts.values())
    )
    found = {"all": whole, "test": parts["test"]}
    return {
        name: rows.assign(probability=registered.model.predict_proba(rows[inputs])[:, 1])
        for name, rows in found.items()
    }


def _first_of_its_kind(registry: Registry, champion: int) -> int:
    """The first version that was in charge with the inputs of the champion; one that does not load is passed over."""
    inputs, history = registry.load(champion).contract.inputs, registry.history()
    for version in history.loc[history["in_effect"] & (history["event"] == PROMOTED), "version"].unique().tolist():
        with suppress(RegistryError):
            if version == champion or registry.load(version).contract.inputs == inputs:
                return version
    return champion


class Monitor:
    """What is known of the days so far; `reference` are the rows of the champion as `reference_rows` gives them.

    The labels of a day are judged when nearly all that ever come should have come, at the latest when the specification
    counts a missing one as an outage.

    What is usual and how much is unusual is learnt from the first reference, and stays when `rebase` takes another.
    """

    def __init__(self, system: System, reference: Mapping[str, pd.DataFrame]) -> None:
        self._system, self._specification = system, system.specification
        self._rows: list[pd.DataFrame] = []
        self._labels: list[pd.DataFrame] = []
        self._answer, self._label = 0, 0  # numbers read so far
        self._estimates: dict[pd.Timestamp, dict[str, float]] = {}
        self._sizes = pd.Series(dtype=int)  # rows of each day when its signals were computed
        self._days: pd.DataFrame | None = None  # these signals
        self._told: dict[tuple[str, str, pd.Timestamp], tuple[str, float | None]] = {}  # by alert: slice and cost
        inputs = self._specification.inputs
        before = self._named(reference["all"]).sort_values("time", ignore_index=True)
        self._profile = signals.profile(
            before, numeric=inputs.numeric, datetimes=inputs.datetime, categorical=inputs.categorical
        )
        waited = (before["label_time"] - before["time"]).quantile(MOST_LABELS)
        longest = pd.Timedelta(days=self._specification.monitoring.max_label_age_days)
        self._lag = min(max(DAY, waited.ceil("D")), longest)
        self._quiet = signals.of_inputs(before, self._profile).join(
            signals.of_labels(before, now=before["time"].max() + DAY + self._lag, lag=self._lag)
        )
        budget = self._specification.monitoring.max_false_alarms_per_year
        self._bars = alerting.calibrate(self._quiet, a_year=budget)
        self.rebase(reference)
        self._first_bins = self._bins  # in which alerts look for their slice, whatever drift is measured against since

    @classmethod
    def of(cls, system: System) -> "Monitor":
        """A monitor that says what one would that has been there from the first release on.

        What is usual is learnt from the rows of the first version in charge that takes the inputs of the champion, and
        drift is measured against the rows of the champion. Raises ValueError if there is none.
        """
        if (champion := system.registry.champion()) is None:
            raise ValueError("expected a champion whose answers to watch, found none; train and promote one first")
        first = _first_of_its_kind(system.registry, champion)
        monitor = cls(system, reference_rows(system, first))
        if champion != first:
            monitor.rebase(reference_rows(system, champion))
        return monitor

    def rebase(self, reference: Mapping[str, pd.DataFrame]) -> None:
        """Measure drift against another version's rows from now on, for the days behind too."""
        inputs = self._specification.inputs
        self._bins = measures.reference(
            reference["all"],
            numeric=[*inputs.datetime, *inputs.numeric, "probability"],
            categorical=inputs.categorical,
        )
        self._daily: dict[pd.Timestamp, measures.Summary] = {}
        self._summarised = 0
        self.loss_at_release = self._loss(self._named(reference["test"]).assign(decision=False))

    def _named(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of a prediction frame under the names that the log has for their columns."""
        timing, target = self._specification.timing, self._specification.target.column
        return rows.rename(columns={timing.prediction_time: "time", timing.label_time: "label_time", target: "label"})

    @property
    def _costs(self) -> dict[str, float]:
        costs = self._specification.costs
        return {"false_alarm": costs.false_alarm, "missed": costs.missed}

    # What comes in

    def read(self, log: PredictionLog) -> int:
        """Take in what the log has come to hold; the number of new rows and labels."""
        answers = log.predictions(after=self._answer)
        labels = log.labelled(after=self._label, inputs=False)[["id", "label", "label_time", "label_number"]]
        self._answer = max([self._answer, *answers["number"].tail(1).tolist()])
        self._label = max([self._label, *labels["label_number"].tail(1).tolist()])
        self.observe(self._parsed(answers), labels.drop(columns="label_number"))
        return len(answers) + len(labels)

    def observe(self, answers: pd.DataFrame, labels: pd.DataFrame) -> None:
        """Take in answered rows with their inputs in columns, and labels; each of them once."""
        if len(answers):
            self._rows.append(answers.reset_index(drop=True))
        if len(labels):
            self._labels.append(labels.reset_index(drop=True))
        self.__dict__.pop("_table", None)

    def _parsed(self, answers: pd.DataFrame) -> pd.DataFrame:
        """Rows of the log with a column for each input, instead of their JSON."""
        inputs = self._specification.inputs
        values = pd.DataFrame(json.loads(f"[{','.join(answers['inputs'])}]"), columns=inputs.all, index=answers.index)
        kinds = dict.fromkeys(inputs.numeric, float) | dict.fromkeys(inputs.datetime, "datetime64[us]")
        return answers.drop(columns="inputs").join(values.astype(kinds))

    @cached_property
    def _table(self) -> pd.DataFrame:
        """All answered rows with their labels, as far as these have come, in order of time."""
        if not self._rows:
            return pd.DataFrame()
        rows = pd.concat(self._rows, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
        none = pd.DataFrame(
            {"id": pd.Series(dtype=str), "label": [], "label_time": pd.Series(dtype=rows["time"].dtype)}
        )
        labels = pd.concat(self._labels, ignore_index=True) if self._labels else none
        return rows.merge(labels.astype({"label": float}), on="id", how="left")

    @property
    def end(self) -> pd.Timestamp | None:
        """The end of the last day on which rows were answered; None without any."""
        return self._table["time"].iloc[-1].floor("D") + DAY if len(self._table) else None

    def _until(self, now: pd.Timestamp) -> pd.DataFrame:
        """The rows asked before a moment, with the labels known at it."""
        if self._table.empty:
            return self._table
        rows = self._table[self._table["time"] < now]
        return rows.assign(label=rows["label"].where(rows["label_time"] <= now))

    # Drift and alarms

    def daily(self) -> dict[pd.Timestamp, measures.Summary]:
        """The summary of each day over the bins of the reference."""
        if new := self._rows[self._summarised :]:
            rows = pd.concat(new, ignore_index=True)
            found = measures.summarise_by(rows, self._bins, window=measures.windows(rows["time"], width=DAY))
            for day, summary in found.items():
                self._daily[day] = self._daily[day] + summary if day in self._daily else summary
            self._summarised = len(self._rows)
        return dict(sorted(self._daily.items()))

    def drift(self, now: pd.Timestamp, *, width: pd.Timedelta | None = None, season: bool = False) -> pd.DataFrame:
        """Every measure of drift for each input and the probability, over the whole days of a window up to `now`.

        The reference is the training sample of the champion or, with `season`, the four weeks before the window; the
        window is that of the specification if not given. Empty where there are no rows on either side.
        """
        width = width or pd.Timedelta(days=self._specification.monitoring.window_days)
        within = [one for day, one in self.daily().items() if now - width <= day and day + DAY <= now]
        before = [one for day, one in self.daily().items() if now - width - MONTH <= day < now - width]
        if not within or (season and not before):
            return pd.DataFrame()
        return measures.drift(sum(within[1:], within[0]), sum(before[1:], before[0]) if season else None)

    def signals(self, now: pd.Timestamp) -> pd.DataFrame:
        """The signals of each whole day up to `now`, after those of the reference; labels as far as days are judged."""
        rows = self._until(now.floor("D"))
        if rows.empty:
            return self._quiet
        day = rows["time"].dt.floor("D")
        sizes = day.value_counts()
        if len(new := sizes.index[sizes.ne(self._sizes.reindex(sizes.index))]):
            found = signals.of_inputs(rows[day.isin(new)], self._profile)  # all at once: most of its time is overhead
            known = found if self._days is None else pd.concat([self._days.drop(new, errors="ignore"), found])
            self._days, self._sizes = known.sort_index(), sizes
        days = self._days[self._days.index + DAY <= now]
        days = days.join(signals.of_labels(rows, now=now, lag=self._lag))
        before = self._quiet[self._quiet.index < days.index[0]]
        return pd.concat([before, days])

    def alerts(self, now: pd.Timestamp) -> list[alerting.Alert]:
        """The alerts raised up to `now`, oldest first, with the slice where each is and what a week could cost."""
        if self._until(now).empty:
            return []
        first = self._table["time"].iloc[0].floor("D")
        return [self._told_of(alert) for alert in alerting.find(self.signals(now), self._bars, first=first)]

    def _told_of(self, alert: alerting.Alert) -> alerting.Alert:
        """The alert with slice and cost as they were on the evening when it was raised."""
        key = (alert.kind, alert.subject, alert.raised)
        if key not in self._told:
            self._told[key] = self._slice_of(alert), self._cost_of(alert)
        where, cost = self._told[key]
        return replace(alert, slice=where, cost=cost)

    def _slice_of(self, alert: alerting.Alert) -> str:
        """The slice in which the subject has moved by far the most, if there is one."""
        if alert.subject not in self._first_bins.features:
            return ""
        rows, end = self._table, alert.raised + DAY
        now = rows[(rows["time"] >= alert.since) & (rows["time"] < end)]
        before = rows[(rows["time"] >= alert.since - MONTH) & (rows["time"] < alert.since)]
        if before.empty or not self._specification.slices:
            return ""
        table = measures.drift_by_slice(
            now,
            self._first_bins,
            against_rows=before,
            slices=list(self._specification.slices),
            features=[alert.subject],
        ).reset_index()
        table = table[table["rows"] >= MIN_SLICE_ROWS].sort_values("psi", ascending=False)
        if len(table) < 2 or table["psi"].iloc[0] < CONCENTRATED * table["psi"].median():
            return ""
        return f"{table['slice'].iloc[0]} {table['value'].iloc[0]}"

    def _cost_of(self, alert: alerting.Alert) -> float | None:
        """What a week could cost beyond what it cost before, if answers were worth no more than one rule for all."""
        rows = self._until(alert.since)
        rows = rows[(rows["time"] >= alert.since - MONTH) & rows["label"].notna()]
        if rows.empty:
            return None
        whole = pd.Series("all", index=rows.index)
        came = performance.realised(rows, window=whole, **self._costs).iloc[0]
        ruled = min((1 - came["rate"]) * self._costs["false_alarm"], came["rate"] * self._costs["missed"])
        days = (rows["time"].max().floor("D") - rows["time"].min().floor("D")) / DAY + 1
        return round(max(ruled - came["cost"], 0.0) * len(rows) / days * 7, 0)

    # How good

    def performance(self, now: pd.Timestamp) -> pd.DataFrame:
        """Each whole week up to `now`: estimated at its end, and measured by the labels that have come."""
        rows = self._until(now)
        if rows.empty:
            return pd.DataFrame()
        first = rows["time"].iloc[0].floor("D")
        window = (rows["time"] - first) // WEEK * WEEK + first
        came = performance.realised(rows, window=window, **self._costs)
        came = came[came.index + WEEK <= now]
        for start in came.index.difference(list(self._estimates)):
            ended = {"start": start, "end": start + WEEK, "now": start + WEEK}
            self._estimates[start] = performance.estimate(self._table, **ended, **self._costs)
        return came.join(pd.DataFrame.from_dict(self._estimates, orient="index"))

    def recent_loss(self, now: pd.Timestamp, *, width: pd.Timedelta) -> float:
        """Log loss of the rows asked within `width` up to `now`, by the labels known then; NaN without one."""
        rows = self._until(now)
        return self._loss(rows[rows["time"] >= now - width]) if len(rows) else float("nan")

    def _loss(self, rows: pd.DataFrame) -> float:
        whole = pd.Series("all", index=rows.index)
        found = performance.realised(rows, window=whole, **self._costs)["log_loss"]
        return float(found.iloc[0]) if len(found) else float("nan")

    def slices(self, now: pd.Timestamp) -> pd.DataFrame:
        """How good the answers of the last four weeks were by slice: rows, labelled, log_loss, cost, rate, roc_auc."""
        rows = self._until(now)
        rows = rows[rows["time"] >= now - MONTH] if len(rows) else rows
        if rows.empty or not self._specification.slices:
            return pd.DataFrame()
        tables = {
            name: performance.realised(rows, window=rows[name], **self._costs).rename_axis("value")
            for name in self._specification.slices
        }
        return pd.concat(tables, names=["slice"]).reset_index()

    # For people

    def state(self, now: pd.Timestamp) -> dict[str, Any]:
        """All of it in plain values that survive JSON, for a page or for other programs; None is what is not known."""
        drift, alerts = self.drift(now), self.alerts(now)
        alarmed = {alert.subject for alert in alerts if alert.until is None}
        rows, trial = self._until(now), self._system.registry.trial()
        return _plain(
            {
                "title": self._specification.name,
                "now": now,
                "unit": self._specification.costs.unit,
                "champion": {"version": self._system.registry.champion(), "since": self._released()},
                "trial": trial and {"version": trial.version, "mode": trial.mode, "share": trial.share},
                "traffic": _traffic(rows).tail(SHOWN_DAYS).reset_index(),
                "drift": {
                    "reference": "the training sample of the champion",
                    "days": self._specification.monitoring.window_days,
                    "warning": self._specification.monitoring.psi_warning,
                    "alert": self._specification.monitoring.psi_alert,
                    "features": drift.assign(alarm=drift.index.isin(alarmed)).reset_index() if len(drift) else [],
                },
                "performance": self.performance(now).rename_axis("start").reset_index(),
                "slices": self.slices(now),
                "alerts": [_row(alert) for alert in reversed(alerts)],
            }
        )

    def _released(self) -> pd.Timestamp | None:
        """When the champion was made that: the last step in effect that changed it."""
        history = self._system.registry.history()
        made = history[history["in_effect"] & history["event"].isin([PROMOTED, ROLLED_BACK])]
        return made["when"].iloc[-1] if len(made) else None

    def report(self, now: pd.Timestamp) -> str:
        """The HTML of a page that tells of the days up to `now`, with nothing loaded from elsewhere."""
        alerts, weeks, drift = self.alerts(now), self.performance(now), self.drift(now)
        if len(season := self.drift(now, season=True)):
            drift = drift.assign(psi_season=season["psi"])
        open_alerts = [alert for alert in alerts if alert.until is None]
        columns = ["raised", "until", "kind", "subject", "slice", "text", "first_step", "cost"]
        table = pd.DataFrame([_row(alert) for alert in reversed(alerts)], columns=columns)
        unit, covered = self._specification.costs.unit, ""
        figures = {}
        if len(weeks):
            shares = [performance.coverage(weeks, name) for name in ("log_loss", "cost")]
            covered = (
                f"What came lay within its interval in {shares[0]:.0%} of weeks for loss and {shares[1]:.0%} for cost."
            )
            figures = {
                f"{title} by week": performance.plot(weeks, name, title=f"{title}, estimated and realised", unit=of)
                for title, name, of in (("Log loss", "log_loss", ""), ("Cost", "cost", unit))
            }
        measures = [
            "psi",
            "psi_season",
            "js",
            "ks",
            "wasserstein_scaled",
            "missing",
            "missing_rise",
            "out_of_range",
            "unknown",
        ]
        return report.render(
            f"{self._specification.name}: the days up to {now:%Y-%m-%d}",
            [
                report.Section(
                    "Alerts",
                    f"{len(alerts)} raised so far, {len(open_alerts)} of them open. When nothing is wrong, the bars "
                    f"allow {self._specification.monitoring.max_false_alarms_per_year} a year. Cost is what a week "
                    f"could cost at most, in {unit.split(' ')[0]}.",
                    tables={"Newest first": table} if len(table) else {},
                ),
                report.Section("How good the answers are", covered, figures=figures),
                report.Section(
                    "By slice",
                    "The last four weeks, by the labels that have come.",
                    tables={"Slices": self.slices(now).round(3)},
                ),
                report.Section(
                    "Drift",
                    "The last days against the training sample; psi_season against the four weeks before them. By the "
                    "first, a season is drift; by the second it is quiet, and so it is no alarm.",
                    tables={
                        "Inputs and prediction, the most drifted first": drift[
                            [name for name in measures if name in drift]
                        ]
                        .sort_values("psi", ascending=False)
                        .round(3)
                        .reset_index()
                    }
                    if len(drift)
                    else {},
                ),
            ],
            lead=f"{len(self._until(now)):,} rows answered.",
        )


def _traffic(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, share of yes and latency of each day."""
    if rows.empty:
        return pd.DataFrame(columns=["rows", "positive_rate", "latency_p95_ms"]).rename_axis("day")
    days = rows.groupby(rows["time"].dt.floor("D").rename("day"))
    return pd.DataFrame(
        {
            "rows": days.size(),
            "positive_rate": days["decision"].mean(),
            "latency_p95_ms": days["latency_ms"].quantile(0.95),
        }
    )


def _row(alert: alerting.Alert) -> dict[str, Any]:
    days = {name: getattr(alert, name) for name in ("since", "until", "raised")}
    plain = {name: value for name, value in asdict(alert).items() if name != "marks"}
    return plain | {name: day and f"{day:%Y-%m-%d}" for name, day in days.items()}


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: tables as lists of rows, moments as text, what is not a number as None."""
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.to_dict("records")]
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain
