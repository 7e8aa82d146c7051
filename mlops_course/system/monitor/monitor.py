"""What is known of the days so far."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import alerting, performance, signals
from mlops_course.operations.monitoring import drift as measures
from mlops_course.system.system import System

from . import pages
from .rows import Observed, first_of_its_kind, input_names, reference_rows, watched_inputs

DAY, WEEK, MONTH = (pd.Timedelta(days=days) for days in (1, 7, 28))
MOST_LABELS = 0.99  # of the labels that ever come have come after the lag at which a day is judged
MIN_SLICE_ROWS = 50  # of the days of an alert, for a slice to be blamed
CONCENTRATED = 3.0  # times the median of slices: then it is that slice, and not all


class Monitor:
    """What is known of the days so far; `reference` are the rows of the champion as `reference_rows` gives them.

    The labels of a day are judged when nearly all that ever come should have come, at the latest when the specification
    counts a missing one as an outage. What is usual is learnt from the first reference, and stays after a `rebase`.
    """

    def __init__(self, system: System, reference: Mapping[str, pd.DataFrame]) -> None:
        self.system, self.specification = system, system.specification
        self.observed = Observed(self.specification)
        self._costs = {name: getattr(self.specification.costs, name) for name in ("false_alarm", "missed")}
        self._estimates: dict[pd.Timestamp, dict[str, float]] = {}
        self._sizes = pd.Series(dtype=int)  # rows of each day when its signals were computed
        self._days: pd.DataFrame | None = None  # these signals
        self._found: dict[tuple[str, str, pd.Timestamp], dict[str, Any]] = {}  # slice and cost of an alert
        inputs, rules = watched_inputs(self.specification.inputs), self.specification.monitoring
        self._slices = input_names(self.specification.slices)
        before = self._named(reference["all"]).sort_values("time", ignore_index=True)
        self._profile = signals.profile(
            before, numeric=inputs.numeric, datetimes=inputs.datetime, categorical=inputs.categorical
        )
        waited = (before["label_time"] - before["time"]).quantile(MOST_LABELS)
        self._lag = min(max(DAY, waited.ceil("D")), pd.Timedelta(days=rules.max_label_age_days))
        self._quiet = signals.of_inputs(before, self._profile).join(
            signals.of_labels(before, now=before["time"].max() + DAY + self._lag, lag=self._lag)
        )
        self._bars = alerting.calibrate(self._quiet, a_year=rules.max_false_alarms_per_year)
        self.rebase(reference)
        self._first_bins = self._bins  # in which alerts look for their slice, whatever drift is measured against since

    @classmethod
    def of(cls, system: System) -> "Monitor":
        """Make a monitor that says what one would that has been there from the first release on.

        What is usual is learnt from the rows of the first version in charge that takes the inputs of the champion, and
        drift is measured against the rows of the champion. Raises ValueError if there is none.
        """
        if (champion := system.registry.champion()) is None:
            raise ValueError("expected a champion whose answers to watch, found none; train and promote one first")
        first = first_of_its_kind(system.registry, champion)
        monitor = cls(system, reference_rows(system, first))
        if champion != first:
            monitor.rebase(reference_rows(system, champion))
        return monitor

    def rebase(self, reference: Mapping[str, pd.DataFrame]) -> None:
        """Measure drift against another version's rows from now on, for the days behind too."""
        inputs = watched_inputs(self.specification.inputs)
        numeric = [*inputs.datetime, *inputs.numeric, "probability"]
        self._bins = measures.reference(reference["all"], numeric=numeric, categorical=inputs.categorical)
        self._daily: dict[pd.Timestamp, measures.Summary] = {}
        self._summarised = 0
        self.loss_at_release = self._loss(self._named(reference["test"]).assign(decision=False))

    def _named(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows of a prediction frame under the names that the log has for their columns."""
        timing, target = self.specification.timing, self.specification.target.column
        ours = {timing.prediction_time: "time", timing.label_time: "label_time", target: "label"}
        inputs = watched_inputs(self.specification.inputs).all
        return rows[[*ours, *inputs, "probability"]].rename(columns=ours)

    def read(self, log: PredictionLog) -> int:
        """Take in what is new in the log, and return the number of new rows and labels."""
        return self.observed.read(log)

    @property
    def end(self) -> pd.Timestamp | None:
        """The end of the last day on which rows were answered; None without any."""
        rows = self.observed.table
        return rows["time"].iloc[-1].floor("D") + DAY if len(rows) else None

    # Drift and alarms

    def daily(self) -> dict[pd.Timestamp, measures.Summary]:
        """Return the summary of each day over the bins of the reference."""
        if new := self.observed.parts[self._summarised :]:
            rows = pd.concat(new, ignore_index=True)
            found = measures.summarise_by(rows, self._bins, window=measures.windows(rows["time"], width=DAY))
            for day, summary in found.items():
                self._daily[day] = self._daily[day] + summary if day in self._daily else summary
            self._summarised = len(self.observed.parts)
        return dict(sorted(self._daily.items()))

    def drift(self, now: pd.Timestamp, *, season: bool = False) -> pd.DataFrame:
        """Measure drift for each input and the probability, over the whole days of the window before `now`.

        The window is that of the specification. The reference is the training sample of the champion or, with `season`,
        the four weeks before the window. Empty where there are no rows on either side.
        """
        width = pd.Timedelta(days=self.specification.monitoring.window_days)
        days = self.daily()
        within = [one for day, one in days.items() if now - width <= day and day + DAY <= now]
        before = [one for day, one in days.items() if now - width - MONTH <= day < now - width]
        if not within or (season and not before):
            return pd.DataFrame()
        return measures.drift(sum(within), sum(before) if season else None)

    def signals(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return the signals of each day up to `now`, after those of the reference; labels of days that are judged."""
        rows = self.observed.until(now.floor("D"))
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
        return pd.concat([self._quiet[self._quiet.index < days.index[0]], days])

    def alerts(self, now: pd.Timestamp) -> list[alerting.Alert]:
        """Return the alerts raised up to `now`, oldest first, with the slice of each and what a week could cost.

        Slice and cost are as they were on the evening when the alert was raised.
        """
        if self.observed.until(now).empty:
            return []
        first = self.observed.table["time"].iloc[0].floor("D")
        alerts = alerting.find(self.signals(now), self._bars, first=first)
        keys = [(alert.kind, alert.subject, alert.raised) for alert in alerts]
        for key, alert in zip(keys, alerts, strict=True):
            if key not in self._found:
                self._found[key] = {"slice": self._slice_of(alert), "cost": self._cost_of(alert)}
        return [replace(alert, **self._found[key]) for key, alert in zip(keys, alerts, strict=True)]

    def _slice_of(self, alert: alerting.Alert) -> str:
        """Return the slice in which the subject of an alert has moved by far the most, or an empty text."""
        rows, end = self.observed.table, alert.raised + DAY
        now = rows[(rows["time"] >= alert.since) & (rows["time"] < end)]
        before = rows[(rows["time"] >= alert.since - MONTH) & (rows["time"] < alert.since)]
        slices = list(self._slices.values())
        if alert.subject not in self._first_bins.features or before.empty or not slices:
            return ""
        table = measures.drift_by_slice(now, self._first_bins, against_rows=before, slices=slices)
        table = table.xs(alert.subject, level="feature").reset_index()
        table = table[table["rows"] >= MIN_SLICE_ROWS].sort_values("psi", ascending=False)
        if len(table) < 2 or table["psi"].iloc[0] < CONCENTRATED * table["psi"].median():
            return ""
        return f"{table['slice'].iloc[0]} {table['value'].iloc[0]}"

    def _cost_of(self, alert: alerting.Alert) -> float | None:
        """Return what a week could cost beyond what it cost before, if answers were worth no more than one rule."""
        rows = self.observed.until(alert.since, width=MONTH)
        rows = rows[rows["label"].notna()]
        if rows.empty:
            return None
        came = self._overall(rows)
        ruled = min((1 - came["rate"]) * self._costs["false_alarm"], came["rate"] * self._costs["missed"])
        days = (rows["time"].max().floor("D") - rows["time"].min().floor("D")) / DAY + 1
        return round(max(ruled - came["cost"], 0.0) * len(rows) / days * 7, 0)

    # How good the answers are

    def performance(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return each whole week up to `now`: estimated at its end, and measured by the labels that have come."""
        rows = self.observed.until(now)
        if rows.empty:
            return pd.DataFrame()
        first = rows["time"].iloc[0].floor("D")
        window = (rows["time"] - first) // WEEK * WEEK + first
        came = performance.realised(rows, window=window, **self._costs)
        came = came[came.index + WEEK <= now]
        for start in came.index.difference(list(self._estimates)):
            ended = {"start": start, "end": start + WEEK, "now": start + WEEK}
            self._estimates[start] = performance.estimate(self.observed.table, **ended, **self._costs)
        return came.join(pd.DataFrame.from_dict(self._estimates, orient="index"))

    def recent_loss(self, now: pd.Timestamp, *, width: pd.Timedelta) -> float:
        """Return the log loss of rows asked within `width` before `now`, by the labels known then; NaN without one."""
        return self._loss(self.observed.until(now, width=width))

    def _loss(self, rows: pd.DataFrame) -> float:
        return float(self._overall(rows)["log_loss"]) if len(rows) else float("nan")

    def _overall(self, rows: pd.DataFrame) -> pd.Series:
        """Return the measures of `performance.realised` over all rows together."""
        return performance.realised(rows, window=pd.Series("all", index=rows.index), **self._costs).iloc[0]

    def slices(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return how good the answers of the last four weeks were, by slice: the columns of `performance.realised`."""
        rows = self.observed.until(now, width=MONTH)
        if rows.empty or not self.specification.slices:
            return pd.DataFrame()
        tables = {
            name: performance.realised(rows, window=rows[named], **self._costs).rename_axis("value")
            for name, named in self._slices.items()
        }
        return pd.concat(tables, names=["slice"]).reset_index()

    # For people

    def state(self, now: pd.Timestamp) -> dict[str, Any]:
        """Return all of it in plain values that survive JSON, for a page or other programs; None is unknown."""
        return pages.state(self, now)

    def report(self, now: pd.Timestamp) -> str:
        """Return the HTML of a page that tells of the days up to `now`, with nothing loaded from elsewhere."""
        return pages.report_page(self, now)
