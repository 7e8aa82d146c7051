"""Plots of metrics, each with a title that states the finding."""

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .metrics import BINS, METRICS, _bin_of, _checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#0072B2"  # stands out from grey for colour-blind readers too (Okabe and Ito 2008)


def plot_reliability(target: ArrayLike, probability: ArrayLike, *, title: str, bins: int = BINS) -> "Figure":
    """Observed share against predicted probability, in the bins of `calibration_error`.

    The dots of a calibrated model lie on the line. The bars are 95 % Wilson intervals, which take rows as independent.
    """
    y, p = _checked(target, probability)
    table = pd.DataFrame({"bin": _bin_of(p, bins), "predicted": p, "observed": y}).groupby("bin")
    predicted, observed, n = table["predicted"].mean(), table["observed"].mean(), table.size()
    z = NormalDist().inv_cdf(0.975)
    centre = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2))
    end = min(1.0, 1.05 * max(predicted.max(), (centre + half).max()))
    axes = _axes(title, "mean predicted probability", "observed share of positives")
    axes.plot([0, end], [0, end], color="0.6", linestyle="--", label="perfect calibration")
    axes.vlines(predicted, centre - half, centre + half, color=BLUE)
    axes.plot(predicted, observed, "o-", color=BLUE, label="model")
    axes.legend(frameon=False)
    return axes.figure


def plot_slices(table: pd.DataFrame, metric: str, *, title: str) -> "Figure":
    """One metric of each slice with its interval, from the table of `by_slice`; small slices have a name, no dot."""
    _require_metric(metric)
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


def _require_metric(metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}.")
