"""DORA's five delivery metrics (2025), and the time to restore of Forsgren, Humble and Kim (2018), Accelerate."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

LEAD, RECOVERY, RESTORE = "lead time for changes", "failed deployment recovery time", "time to restore"
STILL_OPEN = "still open"
IDS = ["commit", "deployment", "incident"]
NAMED_BY = {  # kind of event: the ids that it has to name
    "committed": ["commit"],
    "deployed": ["deployment", "commit"],
    "failed": ["incident"],
    "restored": ["incident"],
}


@dataclass(frozen=True)
class Metrics:
    """Delivery metrics (one row a metric: value, unit, counted, open, at_least), and what could not be counted.

    `value` is the median of what has ended. `at_least` also counts what is still open, at its present age: the true
    median cannot be lower. `aside` names each event that `value` leaves out: metric, id, why, hours (so far).
    """

    table: pd.DataFrame
    aside: pd.DataFrame


def metrics(log: pd.DataFrame, *, start: pd.Timestamp, end: pd.Timestamp) -> Metrics:
    """Measure how often, how quickly and how safely changes went live in [start, end), and how long incidents lasted.

    *Failed deployment recovery time* is about incidents that a deployment caused, *time to restore* about all: a model
    can become wrong without a deployment. Both run from `failed` to `restored`.

    `log` has one row an event, in any order, and the columns kind, time, commit, deployment, incident. NAMED_BY says
    what each kind names. A deployment has one row for each commit; it counts as *rework* if it was not planned and
    mends an incident, which one of its rows then names. `failed` also names its deployment, if one caused it.

    A repeated event counts once, at its earliest time. A commit counts when it first goes live, an incident when it is
    over, so each counts in one window. Raises ValueError naming a column, kind or event that cannot be.
    """
    _require_columns(log)
    events = log[log["time"] < end].sort_values("time", kind="stable").drop_duplicates(["kind", *IDS])

    def first(kind: str, name: str) -> pd.Series:
        return events[events["kind"] == kind].groupby(name)["time"].min()

    deployed, failed = first("deployed", "deployment"), events[events["kind"] == "failed"]
    recent = deployed.index[deployed >= start]
    lead = _spans(first("committed", "commit"), first("deployed", "commit"), start=start, end=end)
    restore = _spans(first("failed", "incident"), first("restored", "incident"), start=start, end=end)
    recovery = restore[restore.index.isin(failed.loc[failed["deployment"].notna(), "incident"])]
    each_day = len(recent) / ((end - start) / pd.Timedelta("1D"))
    share = _share(recent.isin(failed["deployment"]))
    mending = events.loc[(events["kind"] == "deployed") & events["incident"].notna(), "deployment"]
    rework = _share(recent.isin(mending))
    lines = {
        "deployment frequency": (each_day, "a day", len(recent), 0, each_day),
        LEAD: _middle(lead),
        RECOVERY: _middle(recovery),
        "change failure rate": (share, "of deployments", len(recent), 0, share),
        "deployment rework rate": (rework, "of deployments", len(recent), 0, rework),
        RESTORE: _middle(restore),
    }
    nowhere = failed.loc[~failed["deployment"].isin(deployed.index), "incident"]
    aside = [("change failure rate", name, "caused by no known deployment", float("nan")) for name in nowhere]
    for metric, spans in {LEAD: lead, RECOVERY: recovery, RESTORE: restore}.items():
        aside += [(metric, name, why, hours) for name, why, hours in spans.itertuples() if why]
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["value", "unit", "counted", "open", "at_least"])
    return Metrics(table.rename_axis("metric"), pd.DataFrame(aside, columns=["metric", "id", "why", "hours"]))


def _require_columns(log: pd.DataFrame) -> None:
    if missing := {"kind", "time", *IDS} - set(log.columns):
        raise ValueError(f"expected the columns kind, time, {', '.join(IDS)}, got no {sorted(missing)}")
    if unknown := set(log["kind"]) - set(NAMED_BY):
        raise ValueError(f"kind: expected one of {[*NAMED_BY]}, got {sorted(map(str, unknown))}")
    for kind, names in NAMED_BY.items():
        if lacking := int(log.loc[log["kind"] == kind, ["time", *names]].isna().any(axis=1).sum()):
            raise ValueError(f"expected a time and {' and '.join(names)} in each row {kind!r}, got {lacking} without")


def _spans(begun: pd.Series, ended: pd.Series, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Return the hours of what ended after `start` or is open at `end`, and why it does not count, if so."""
    spans = pd.DataFrame({"begun": begun, "ended": ended})
    spans = spans[~(spans["ended"] < start)]
    hours = (spans["ended"].fillna(end) - spans["begun"]) / pd.Timedelta("1h")
    why = pd.Series("", index=spans.index).mask(hours < 0, "ended before it began")
    why = why.mask(spans["ended"].isna(), STILL_OPEN).mask(spans["begun"].isna(), "its begin is not in the log")
    return pd.DataFrame({"why": why, "hours": hours})


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else float("nan")


def _middle(spans: pd.DataFrame) -> tuple[float, str, int, int, float]:
    counted, still = spans["why"] == "", spans["why"] == STILL_OPEN
    hours = spans["hours"]
    return hours[counted].median(), "hours", int(counted.sum()), int(still.sum()), hours[counted | still].median()
