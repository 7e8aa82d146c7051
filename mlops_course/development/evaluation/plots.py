"""Plots of metrics, each with a title that states the finding."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .metrics import METRICS, _bin_of, _checked
from .uncertainty import _band, _group_codes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#0072B2"  # stands out from grey for colour-blind readers too (Okabe and Ito 2008)


def plot_reliability(
    target: ArrayLike, probability: ArrayLike, *, title: str, groups: ArrayLike | None = None
) -> "Figure":
    """Observed share against predicted probability, in the bins of `calibration_error`.

    Of the dots of a calibrated model 19 in 20 lie within the band. `groups` are those of `calibration`.
    """
    y, p = _checked(target, probability)
    codes = None if groups is None else _group_codes(target, groups)
    bin_of = _bin_of(p)
    table = pd.DataFrame({"predicted": p, "observed": y}).groupby(bin_of).mean()
    predicted, half = table["predicted"], _band(y, p, bins=bin_of, codes=codes)
    low, high = (predicted - half).clip(lower=0), (predicted + half).clip(upper=1)
    end = min(1.0, 1.05 * max(table["observed"].max(), high.max()))
    axes = _axes(title, "mean predicted probability", "observed share of positives")
    axes.plot([0, end], [0, end], color="0.6", linestyle="--", label="perfect calibration")
    axes.fill_between(predicted, low, high, color="0.6", alpha=0.3, linewidth=0, label="what chance makes of it, 95 %")
    axes.plot(predicted, table["observed"], "o-", color=BLUE, label="model")
    axes.legend(frameon=False)
    return axes.figure


def plot_slices(table: pd.DataFrame, metric: str, *, title: str) -> "Figure":
    """One metric of each slice with its interval, from the table of `by_slice`; small slices have a name, no dot."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}.")
    table = table.iloc[::-1]
    names = table["slice"] + " " + table["value"] + table["note"].map(lambda note: f"  ({note})" if note else "")
    axes = _axes(title, METRICS[metric], "", height=1.2 + 0.27 * len(table))
    at = np.arange(len(table))
    axes.hlines(at, table[f"{metric}_low"], table[f"{metric}_high"], color=BLUE)
    axes.plot(table[metric], at, "o", color=BLUE)
    axes.set_yticks(at, names)
    axes.set_ylim(-0.6, len(table) - 0.4)
    return axes.figure


def _axes(title: str, x: str, y: str, *, height: float = 4.0) -> "Axes":
    from matplotlib.figure import Figure  # not pyplot: nothing is registered, so nothing needs closing

    axes = Figure(figsize=(7, height), layout="constrained").add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
