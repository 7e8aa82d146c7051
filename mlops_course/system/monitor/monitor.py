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
from .findings import MONTH, cost_of, overall, slice_of
from .observed import DAY, Observed
from .reference import first_of_its_kind, reference_rows

WEEK = pd.Timedelta("7D")
MOST_LABELS = 0.99  # of the labels that ever come have come after the lag at which a day is judged


class Monitor:
    """What is known of the days so far; `reference` are the rows of the champion as `reference_rows` gives them.

    The labels of a day are judged when nearly all that ever come should have come, at the latest when the specification
    counts a missing one as an outage.

    What is usual and how much is unusual is learnt from the first reference, and stays when `rebase` takes another.
    """

    def __init__(self, system: System, reference: Mapping[str, pd.DataFrame]) -> None:
        self.system, self.specification = system, system.specification
        self.observed = Observed(self.specification)
        self._costs = {name: getattr(self.specification.costs, name) for name in ("false_alarm", "missed")}
        self._estimates: dict[pd.Timestamp, dict[str, float]] = {}
        self._sizes = pd.Series(dtype=int)  # rows of each day when its signals were computed
        self._days: pd.DataFrame | None = None  # these signals
        self._found: dict[tuple[str, str, pd.Timestamp], dict[str, Any]] = {}  # slice and cost of an alert
        inputs = self.specification.inputs
        before = self._named(reference["all"]).sort_values("time", ignore_index=True)
        self._profile = signals.profile(
            before, numeric=inputs.numeric, datetimes=inputs.datetime, categorical=inputs.categorical
        )
        waited = (before["label_time"] - before["time"]).quantile(MOST_LABELS)
        longest = pd.Timedelta(days=self.specification.monitoring.max_label_age_days)
        self._lag = min(max(DAY, waited.ceil("D")), longest)
        self._quiet = signals.of_inputs(before, self._profile).join(
            signals.of_labels(before, now=before["time"].max() + DAY + self._lag, lag=self._lag)
        )
        budget = self.specification.monitoring.max_false_alarms_per_year
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
        first = first_of_its_kind(system.registry, champion)
        monitor = cls(system, reference_rows(system, first))
        if champion != first:
            monitor.rebase(reference_rows(system, champion))
        return monitor

    def rebase(self, reference: Mapping[str, pd.DataFrame]) -> None:
        """Measure drift against another version's rows from now on, for the days behind too."""
        inputs = self.specification.inputs
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
        timing, target = self.specification.timing, self.specification.target.column
        return rows.rename(columns={timing.prediction_time: "time", timing.label_time: "label_time", target: "label"})

    def read(self, log: PredictionLog) -> int:
        """Take in what the log has come to hold; the number of new rows and labels."""
        return self.observed.read(log)

    @property
    def end(self) -> pd.Timestamp | None:
        """The end of the last day on which rows were answered; None without any."""
        return self.observed.end

    # Drift and alarms

    def daily(self) -> dict[pd.Timestamp, measures.Summary]:
        """The summary of each day over the bins of the reference."""
        if new := self.observed.parts[self._summarised :]:
            rows = pd.concat(new, ignore_index=True)
            found = measures.summarise_by(rows, self._bins, window=measures.windows(rows["time"], width=DAY))
            for day, summary in found.items():
                self._daily[day] = self._daily[day] + summary if day in self._daily else summary
            self._summarised = len(self.observed.parts)
        return dict(sorted(self._daily.items()))

    def drift(self, now: pd.Timestamp, *, width: pd.Timedelta | None = None, season: bool = False) -> pd.DataFrame:
        """Every measure of drift for each input and the probability, over the whole days of a window up to `now`.

        The reference is the training sample of the champion or, with `season`, the four weeks before the window; the
        window is that of the specification if not given. Empty where there are no rows on either side.
        """
        width = width or pd.Timedelta(days=self.specification.monitoring.window_days)
        days = self.daily()
        within = [one for day, one in days.items() if now - width <= day and day + DAY <= now]
        before = [one for day, one in days.items() if now - width - MONTH <= day < now - width]
        if not within or (season and not before):
            return pd.DataFrame()
        return measures.drift(sum(within[1:], within[0]), sum(before[1:], before[0]) if season else None)

    def signals(self, now: pd.Timestamp) -> pd.DataFrame:
        """The signals of each whole day up to `now`, after those of the reference; labels as far as days are judged."""
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
        before = self._quiet[self._quiet.index < days.index[0]]
        return pd.concat([before, days])

    def alerts(self, now: pd.Timestamp) -> list[alerting.Alert]:
        """The alerts raised up to `now`, oldest first, with the slice where each is and what a week could cost."""
        if self.observed.until(now).empty:
            return []
        first = self.observed.table["time"].iloc[0].floor("D")
        return [self._with_findings(alert) for alert in alerting.find(self.signals(now), self._bars, first=first)]

    def _with_findings(self, alert: alerting.Alert) -> alerting.Alert:
        """The alert with slice and cost as they were on the evening when it was raised."""
        key = (alert.kind, alert.subject, alert.raised)
        if key not in self._found:
            where = slice_of(alert, self.observed, bins=self._first_bins, slices=self.specification.slices)
            self._found[key] = {"slice": where, "cost": cost_of(alert, self.observed, costs=self._costs)}
        return replace(alert, **self._found[key])

    # How good the answers are

    def performance(self, now: pd.Timestamp) -> pd.DataFrame:
        """Each whole week up to `now`: estimated at its end, and measured by the labels that have come."""
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
        """Log loss of the rows asked within `width` up to `now`, by the labels known then; NaN without one."""
        return self._loss(self.observed.until(now, width=width))

    def _loss(self, rows: pd.DataFrame) -> float:
        return float(overall(rows, self._costs)["log_loss"]) if len(rows) else float("nan")

    def slices(self, now: pd.Timestamp) -> pd.DataFrame:
        """How good the answers of the last four weeks were by slice: rows, labelled, log_loss, cost, rate, roc_auc."""
        rows = self.observed.until(now, width=MONTH)
        if rows.empty or not self.specification.slices:
            return pd.DataFrame()
        tables = {
            name: performance.realised(rows, window=rows[name], **self._costs).rename_axis("value")
            for name in self.specification.slices
        }
        return pd.concat(tables, names=["slice"]).reset_index()

    # For people

    def state(self, now: pd.Timestamp) -> dict[str, Any]:
        """All of it in plain values that survive JSON, for a page or for other programs; None is what is not known."""
        return pages.state(self, now)

    def report(self, now: pd.Timestamp) -> str:
        """The HTML of a page that tells of the days up to `now`, with nothing loaded from elsewhere."""
        return pages.report_page(self, now)
