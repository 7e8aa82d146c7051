"""How good predictions are: estimated while labels are missing, measured once they are there.

    realised    loss, cost, rate and ROC AUC of each window, with the share of its rows that have a label
    estimate    loss, cost and rate of one window from its probabilities, with an interval, before its labels come
    walk        both for one window after the other, each estimate with what was known at its time
    coverage    how often what came lay within what was said
    plot        estimate, interval and truth on one axis of time

If a probability is what it says, the loss to expect follows from it: a row with probability p loses -log p with
probability p, and -log(1 - p) otherwise. So performance can be estimated without a single label. But probabilities of
an aging model are not what they say any more, and then the estimate is wrong with great confidence. Two things help.
The probabilities are calibrated anew on the latest labels that there are. And the interval comes from how wrong such
estimates were before: days differ from each other by more than their rows do by chance.

What no estimate of this kind can see is a change of the concept after the last label: inputs and probabilities look as
ever, and only labels tell.

>>> rng = np.random.default_rng(0)
>>> rows = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=5_600, freq="15min", tz="UTC")})
>>> rows["probability"] = rng.beta(2, 6, len(rows))
>>> rows["decision"] = rows["probability"] >= 0.2
>>> rows["label"] = (rng.random(len(rows)) < rows["probability"]).astype(float)
>>> rows["label_time"] = rows["time"] + pd.Timedelta("5h")
>>> found = walk(rows, width=pd.Timedelta("7D"), false_alarm=15, missed=60)
>>> found[["rows", "log_loss", "estimated_log_loss"]].round(2).iloc[-2].tolist()
[672.0, 0.49, 0.49]
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit, xlogy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coverage", "estimate", "plot", "realised", "walk"]

MEASURES = ("log_loss", "cost", "rate")
MEMORY = pd.Timedelta("28D")  # of labelled rows that probabilities are calibrated anew on: recent, and enough
PAST = pd.Timedelta("84D")  # of days whose errors make the interval
LEAST_ROWS = 200  # labelled ones to calibrate on; with fewer, probabilities are taken as they are
LEAST_DAYS = 7  # with labels, before an interval is given
LEVEL = 0.95
LEAST_DEGREES = 3  # of freedom of Student's t: stretches of few days say little about their own spread
NEWTON_STEPS = 8  # at most: two parameters of a convex problem, which has converged after four or five
CONVERGED = 1e-12
NEEDED = ("time", "probability", "decision", "label", "label_time")  # columns of the rows to estimate from
DAY = pd.Timedelta("1D")
NEVER_SURE = 1e-6  # a probability is kept so far from 0 and 1 that no single row decides over a window
COLOURS = {"estimated": "#0072B2", "realised": "#D55E00"}  # Okabe and Ito: told apart by everybody


# What came ------------------------------------------------------------------------------------------------------------


def realised(rows: pd.DataFrame, *, window: pd.Series, false_alarm: float, missed: float) -> pd.DataFrame:
    """How good the predictions of each window were, by the labels that there are: one row a window.

    `rows` has probability, decision (bool) and label (0, 1 or missing); `window` names the window of each row. Columns:
    rows, labelled (their share with a label), log_loss, cost (a row, in the unit of the two costs), rate (share of
    positives) and roc_auc. A measure is missing without a label, and roc_auc with one class only.

    Raises ValueError if a column is missing.
    """
    _require(rows, ("probability", "decision", "label"))
    known = rows["label"].notna()
    scored = pd.DataFrame(_scores(rows, rows["label"].to_numpy(float), false_alarm=false_alarm, missed=missed))
    scored = scored.set_index(rows.index)
    groups = scored[known].groupby(window[known])
    table = pd.DataFrame({"rows": window.value_counts().sort_index()}).rename_axis("start")
    table["labelled"] = known.groupby(window).mean()
    table = table.join(groups[list(MEASURES)].mean())
    table["roc_auc"] = pd.Series({name: _auc(part) for name, part in rows[known].groupby(window[known])}, dtype=float)
    return table


def _scores(rows: pd.DataFrame, chance: np.ndarray, *, false_alarm: float, missed: float) -> dict[str, np.ndarray]:
    """What each row loses and costs on average if it is positive with the given chance; a label makes that 0 or 1."""
    p = np.clip(rows["probability"].to_numpy(float), NEVER_SURE, 1 - NEVER_SURE)
    acted = rows["decision"].to_numpy(bool)
    return {
        "log_loss": -(xlogy(chance, p) + xlogy(1 - chance, 1 - p)),
        "cost": np.where(acted, false_alarm * (1 - chance), missed * chance),
        "rate": chance,
    }


def _auc(rows: pd.DataFrame) -> float:
    """The share of pairs in the right order, by ranks (Mann and Whitney 1947)."""
    positive = rows["label"].to_numpy() == 1
    n, m = positive.sum(), (~positive).sum()
    if not n or not m:
        return math.nan
    return float((stats.rankdata(rows["probability"])[positive].sum() - n * (n + 1) / 2) / (n * m))


# What is to be expected -----------------------------------------------------------------------------------------------


def estimate(
    rows: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    false_alarm: float,
    missed: float,
    level: float = LEVEL,
) -> dict[str, float]:
    """Loss, cost and rate to expect of the window from `start` to `end`, by what is known at `now`.

    `rows` has time, probability, decision, label and label_time; labels that come after `now` are not looked at. The
    probabilities are calibrated anew on rows of the last four weeks that have a label (two parameters on the logit,
    Platt 1999). The interval rests on how wrong that was lately: for each day of the twelve weeks before, what came
    less what would have been estimated that morning. Their root mean square over stretches as long as the window, or
    that of days divided by the root of their number if it is larger, is multiplied by a quantile of Student's t.

    Keys: estimated_log_loss, estimated_cost, estimated_rate, each also with _low and _high. The interval is missing
    with fewer than seven days of labels, and everything without a row in the window. Raises ValueError if a column is
    missing.
    """
    _require(rows, NEEDED)
    costs = {"false_alarm": false_alarm, "missed": missed}
    return _estimate(rows[[*NEEDED]], start=start, end=end, now=now, level=level, costs=costs, lines={})


def _estimate(
    rows: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    level: float,
    costs: Mapping[str, float],
    lines: dict[pd.Timestamp, tuple[float, float]],
) -> dict[str, float]:
    """As `estimate`; `lines` keeps the calibration of each morning, so that windows that overlap share them."""
    within = rows[(rows["time"] >= start) & (rows["time"] < end)]
    known = rows[(rows["label_time"] <= now) & rows["label"].notna() & (rows["time"] < end)]
    found = {f"estimated_{name}{part}": math.nan for name in MEASURES for part in ("", "_low", "_high")}
    if within.empty:
        return found
    expected = _means(within, _chances(within, _line(known[known["time"] >= now - MEMORY])), costs)
    errors = _daily_errors(known[known["time"] >= now - PAST - MEMORY], now - PAST, costs, lines)
    days = max((end - start) / DAY, 1.0)
    for name, mean in expected.items():
        found[f"estimated_{name}"] = mean
        if len(errors) >= LEAST_DAYS:
            half = stats.t.ppf((1 + level) / 2, max(len(errors) / days - 1, LEAST_DEGREES)) * _spread(
                errors[name], days
            )
            found[f"estimated_{name}_low"] = max(mean - half, 0.0)
            found[f"estimated_{name}_high"] = min(mean + half, 1.0 if name == "rate" else math.inf)
    return found


def _means(rows: pd.DataFrame, chance: np.ndarray, costs: Mapping[str, float]) -> dict[str, float]:
    scores = _scores(rows, chance, **costs)
    return {name: float(values.mean()) for name, values in scores.items()}


def _line(known: pd.DataFrame) -> tuple[float, float]:
    """Level and slope by which logits are put right, by what labelled rows say; 0 and 1 with too few of them."""
    level, slope = 0.0, 1.0
    if len(known) < LEAST_ROWS or known["label"].nunique() < 2:
        return level, slope
    x, y = _logits(known), known["label"].to_numpy(float)
    for _ in range(NEWTON_STEPS):
        q = expit(level + slope * x)
        w = np.maximum(q * (1 - q), NEVER_SURE)
        gradient = np.array([(y - q).sum(), ((y - q) * x).sum()])
        curvature = np.array([[w.sum(), (w * x).sum()], [(w * x).sum(), (w * x * x).sum()]])
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        level, slope = level + step[0], slope + step[1]
        if np.abs(step).max() < CONVERGED:
            break
    return level, slope


def _chances(rows: pd.DataFrame, line: tuple[float, float]) -> np.ndarray:
    """The chance that each row is positive: its probability, put right by a line on the logit."""
    level, slope = line
    return expit(level + slope * _logits(rows))


def _logits(rows: pd.DataFrame) -> np.ndarray:
    return logit(np.clip(rows["probability"].to_numpy(float), NEVER_SURE, 1 - NEVER_SURE))


def _daily_errors(
    known: pd.DataFrame,
    since: pd.Timestamp,
    costs: Mapping[str, float],
    lines: dict[pd.Timestamp, tuple[float, float]],
) -> pd.DataFrame:
    """What came of each day less what would have been estimated at its beginning: one row a day."""
    errors = {}
    for day, rows in known.groupby(known["time"].dt.floor("D")):
        if day >= since.floor("D"):
            if day not in lines:
                lines[day] = _line(known[(known["label_time"] <= day) & (known["time"] >= day - MEMORY)])
            guessed = _means(rows, _chances(rows, lines[day]), costs)
            came = _means(rows, rows["label"].to_numpy(float), costs)
            errors[day] = {name: came[name] - guessed[name] for name in MEASURES}
    return pd.DataFrame.from_dict(errors, orient="index", columns=list(MEASURES))


def _spread(errors: pd.Series, days: float) -> float:
    """Root mean square of the error of a mean over so many days, by the days there are."""
    independent = float(np.sqrt((errors**2).mean() / days))
    stretches = errors.rolling(round(days)).mean().dropna()
    return max(independent, float(np.sqrt((stretches**2).mean()))) if len(stretches) else independent


# One window after the other -------------------------------------------------------------------------------------------


def walk(
    rows: pd.DataFrame, *, width: pd.Timedelta, false_alarm: float, missed: float, level: float = LEVEL
) -> pd.DataFrame:
    """Each window in turn, estimated at its end by what was known then, beside what came of it: one row a window.

    `rows` as for `estimate`. Windows are `width` long, the first one begins at midnight of the first row's day. Columns
    are those of `realised` and `estimate`; what came is by all labels that there are, whenever they came.
    """
    _require(rows, NEEDED)
    first = rows["time"].min().floor("D")
    window = (rows["time"] - first) // width * width + first
    costs = {"false_alarm": false_alarm, "missed": missed}
    came = realised(rows, window=window, **costs)
    shared = {"level": level, "costs": costs, "lines": {}}
    said = [
        _estimate(rows[[*NEEDED]], start=start, end=start + width, now=start + width, **shared) for start in came.index
    ]
    return came.join(pd.DataFrame(said, index=came.index))


def coverage(table: pd.DataFrame, measure: str) -> float:
    """The share of windows whose measure lies within its interval, of those that have both; `table` is of `walk`."""
    both = table.dropna(subset=[measure, f"estimated_{measure}_low"])
    return float(both[measure].between(both[f"estimated_{measure}_low"], both[f"estimated_{measure}_high"]).mean())


def plot(table: pd.DataFrame, measure: str, *, title: str, unit: str = "") -> "Figure":
    """Estimate with its interval and what came, on one axis of time; `table` of `walk`, `title` states the finding."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    low, high = table[f"estimated_{measure}_low"], table[f"estimated_{measure}_high"]
    axes.fill_between(table.index, low, high, color=COLOURS["estimated"], alpha=0.2, linewidth=0, label="its interval")
    axes.plot(table.index, table[f"estimated_{measure}"], color=COLOURS["estimated"], label="estimated without labels")
    axes.plot(table.index, table[measure], "o", color=COLOURS["realised"], markersize=4, label="what came")
    axes.set_title(title, loc="left")
    axes.set_ylabel(f"{measure.replace('_', ' ')}{f' ({unit})' if unit else ''}")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    dates = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))
    return figure


def _require(rows: pd.DataFrame, columns: tuple[str, ...]) -> None:
    if missing := [name for name in columns if name not in rows.columns]:
        raise ValueError(f"expected rows with the columns {list(columns)}, got none called {missing}; add them")
