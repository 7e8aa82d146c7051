"""Plots of alerts and traffic for notebooks and reports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from .charts import State

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#6b7480"  # told apart by colour-blind readers too (Okabe and Ito)


def plot_alerts(alerts: Sequence[State], *, title: str, until: Any, faults: Sequence[State] = ()) -> "Figure":
    """Plot each alert from the day it began to the day it was over, in full colour from the day it was raised.

    `alerts` as in the state, with raised where it is known; an open alert lasts to `until`. `faults`, if the truth is
    known, has kind, start and end of each: they stand in grey above the alerts of their kind. `title` states the
    finding.
    """
    figure, axes = _figure(1.2 + 0.32 * len({row["kind"] for row in [*alerts, *faults]}))
    kinds = list(dict.fromkeys(row["kind"] for row in [*faults, *alerts]))
    for row in faults:
        axes.hlines(kinds.index(row["kind"]) - 0.18, *_span(row["start"], row["end"]), GREY, linewidth=7, alpha=0.6)
    for row in alerts:
        at, end = kinds.index(row["kind"]) + 0.18, row.get("until") or until
        axes.hlines(at, *_span(row["since"], end), VERMILLION, linewidth=7, alpha=0.35)
        axes.hlines(at, *_span(row.get("raised") or row["since"], end), VERMILLION, linewidth=7)
    handles = [*([("what was wrong", GREY, 0.6)] if faults else []), ("before the alarm", VERMILLION, 0.35)]
    for text, colour, strength in [*handles, ("alarm", VERMILLION, 1)]:
        axes.plot([], [], color=colour, alpha=strength, linewidth=7, label=text)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _titled(figure, axes, title)


def plot_traffic(traffic: pd.DataFrame, *, title: str) -> "Figure":
    """Plot the rows of each day, and the share of them that was decided positively; `traffic` as in the state."""
    figure, axes = _figure(3.6, rows=2)
    days = pd.to_datetime(traffic["day"])
    axes[0].bar(days, traffic["rows"], color=GREY, width=0.8)
    axes[0].set_ylabel("rows a day")
    axes[1].plot(days, 100 * traffic["positive_rate"], color=BLUE)
    axes[1].set_ylim(0, 100)
    axes[1].set_ylabel("positive (% of rows)")
    return _titled(figure, axes[0], title)


def _figure(height: float, *, rows: int = 1) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, height), layout="constrained")
    return figure, figure.subplots(rows, sharex=True)


def _titled(figure: "Figure", axes: Any, title: str) -> "Figure":
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title(title, loc="left")
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
    below = figure.axes[-1].xaxis
    below.set_major_locator(AutoDateLocator(maxticks=7))
    below.set_major_formatter(ConciseDateFormatter(below.get_major_locator()))
    return figure


def _span(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Two moments in UTC without a time zone, whether or not they have one."""
    return tuple(pd.to_datetime(moment, utc=True).tz_localize(None) for moment in (start, end))
