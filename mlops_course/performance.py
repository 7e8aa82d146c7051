"""How good predictions are: estimated while labels are missing, measured once they are there.

    realised    loss, cost, rate, Brier score and ROC AUC of each window, with the share of its rows that have a label
    estimate    the same but ROC AUC for one window, from its probabilities, with an interval, before its labels come
    naive       the estimate that takes probabilities at their word and rows for independent, as a contrast
    walk        both for one window after the other, each estimate with what was known at its time
    by_slice    the same for each supplier or region
    coverage    how often what came lay within what was said
    plot        estimate, interval, what is known and the truth on one axis of time

If a probability is what it says, the loss to expect follows from it: a row with probability p loses -log p with
probability p, and -log(1 - p) otherwise. So performance can be estimated without a single label. But probabilities of
an aging model are not what they say any more, and then the estimate is wrong with great confidence. Two things help.
The probabilities are calibrated anew on the latest labels that there are, as far as this has helped before: labels that
are a month old tell of another season. And the interval comes from how wrong the same procedure would have been on
earlier windows, whose labels have come: days differ from each other by more than their rows do by chance.

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
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["by_slice", "coverage", "estimate", "naive", "plot", "realised", "walk"]

MEASURES = ("log_loss", "cost", "rate", "brier")
AT_MOST_ONE = ("rate", "brier", "roc_auc")  # by definition; the others are open
NEEDED = ("time", "probability", "decision", "label", "label_time")
MEMORY = pd.Timedelta("28D")  # of the latest labelled rows, to calibrate on: recent, and enough
PAST = 84  # earlier windows, one a day, whose errors make the interval: twelve weeks
LEAST_ROWS = 200  # labelled ones to calibrate on; with fewer, probabilities are taken as they are
LEAST_WINDOWS = 7  # whose labels have come, before an interval is given
COMPLETE = 0.9  # of the largest share of labels that a window has: then its labels have come, as far as they ever do
LEVEL = 0.95
LEAST_DEGREES = 3  # of freedom of Student's t: windows that overlap say little about their own spread
DOUBT = 2  # windows' worth of evidence needed against the belief that calibrating anew helps
GRID = 0.01  # of logits, on which rows are counted before the fit: a probability moves by a 800th at most
NEWTON_STEPS = 12  # at most, for two parameters of a convex problem; five are usual
PULL = 1.0  # towards probabilities as they are, in rows: bounds the slope where labels follow probabilities exactly
DAY = pd.Timedelta("1D")
NEVER_SURE = 1e-6  # a probability is kept so far from 0 and 1 that no single row decides over a window
WELL_LABELLED = 0.9  # share from which a measure is drawn as a full dot
COLOURS = {"estimated": "#0072B2", "realised": "#D55E00", "truth": "#000000"}  # Okabe and Ito: told apart by everybody


# What came ------------------------------------------------------------------------------------------------------------


def realised(
    rows: pd.DataFrame,
    *,
    window: pd.Series,
    false_alarm: float,
    missed: float,
    groups: pd.Series | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """How good the predictions of each window were, by the labels that there are: one row a window.

    `rows` has probability, decision (bool) and label (0, 1 or missing); `window` names the window of each row. Columns:
    rows, labelled (their share with a label), log_loss, cost (a row, in the unit of the two costs), rate (share of
    positives), brier, roc_auc, and note, which says why a measure is missing: without a label all are, and roc_auc with
    one class only. A label that has not come is left out, not taken for a 0.

    `groups` names the block that each row belongs to, such as its day. Then each measure has an interval, in columns
    with _low and _high: blocks, not rows, count as independent, as one storm delays a thousand orders together. It is
    missing where labels are of one block. Linearised, with Student's t; for ROC AUC see Obuchowski 1997.

    Raises ValueError if a column is missing.
    """
    _require(rows, ("probability", "decision", "label"))
    known = rows["label"].notna()
    names = [*MEASURES, "roc_auc"]
    table = pd.DataFrame({"rows": window.value_counts().sort_index()}).rename_axis("start")
    table["labelled"] = known.groupby(window).mean()
    values, halves = np.full((2, len(table), len(names)), math.nan)
    for name, part in rows[known].groupby(window[known]):
        label, at = part["label"].to_numpy(float), table.index.get_loc(name)
        scores = _scores(part, label, false_alarm, missed)
        auc, share = _auc(label, part["probability"].to_numpy(float))
        values[at] = [*scores.mean(axis=0), auc]
        if groups is not None:
            influence = np.column_stack([(scores - scores.mean(axis=0)) / len(part), share])
            halves[at] = _half(influence, groups[part.index], level)
    table[names] = values
    if groups is not None:
        most = [1.0 if name in AT_MOST_ONE else math.inf for name in names]
        table[[f"{name}_low" for name in names]] = np.maximum(values - halves, 0.0)
        table[[f"{name}_high" for name in names]] = np.minimum(values + halves, most)
    unlabelled, one_class = table["labelled"] == 0, table["roc_auc"].isna()
    table["note"] = np.select([unlabelled, one_class], ["no labels yet", "one class only"], "")
    return table


def _scores(rows: pd.DataFrame, chance: np.ndarray, false_alarm: float, missed: float) -> np.ndarray:
    """What each row loses on average if it is positive with the given chance, a column a measure; a label is 0 or 1."""
    if_not, if_positive = _ends(rows, false_alarm, missed)
    return if_not + chance[:, None] * (if_positive - if_not)


def _ends(rows: pd.DataFrame, false_alarm: float, missed: float) -> tuple[np.ndarray, np.ndarray]:
    """Every measure of each row if it turns out negative, and if positive: each measure is linear in the chance."""
    p = np.clip(rows["probability"].to_numpy(float), NEVER_SURE, 1 - NEVER_SURE)
    acted = rows["decision"].to_numpy(bool)
    negative = [-np.log1p(-p), np.where(acted, false_alarm, 0.0), np.zeros_like(p), p**2]
    positive = [-np.log(p), np.where(acted, 0.0, missed), np.ones_like(p), (1 - p) ** 2]
    return np.column_stack(negative), np.column_stack(positive)


def _auc(label: np.ndarray, probability: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of pairs in the right order, by ranks (Mann and Whitney 1947), and what each row adds to its error."""
    positive = label == 1
    n, m = positive.sum(), (~positive).sum()
    if not n or not m:
        return math.nan, np.full(len(label), math.nan)
    rank, right = stats.rankdata(probability), np.empty(len(label))
    right[positive] = (rank[positive] - stats.rankdata(probability[positive])) / m
    right[~positive] = 1 - (rank[~positive] - stats.rankdata(probability[~positive])) / n
    value = float(right[positive].mean())
    return value, (right - value) / np.where(positive, n, m)


def _half(influence: np.ndarray, groups: pd.Series, level: float) -> np.ndarray:
    """Half the width of an interval of sums of what rows add, if whole groups are independent of each other."""
    sums = pd.DataFrame(influence).groupby(groups.to_numpy()).sum(min_count=1).to_numpy()
    count = len(sums)
    if count < 2:
        return np.full(influence.shape[1], math.nan)
    return stats.t.ppf((1 + level) / 2, count - 1) * np.sqrt(count / (count - 1) * (sums**2).sum(axis=0))


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
) -> dict[str, float | str]:
    """Loss, cost, rate and Brier score of the rows from `start` up to `end`, by what was known at `now`, with interval.

    `rows` are those of the window and all before it: time, probability, decision (bool), label and label_time (missing
    if it never came). Rows asked after `now`, and labels that come after it, change nothing. Gives estimated_log_loss,
    estimated_cost, estimated_rate and estimated_brier, each also with _low and _high, and estimated_note, which is
    empty unless something is missing or rests on probabilities as they are.

    The chance of a row is `weight` of the way from its probability to the one calibrated anew (logistic in the logit;
    Platt 1999) on the latest four weeks of labelled rows. The same is done for earlier windows of the same length, one
    a day, each with labels that were known then and were as old; by now they have labels. The weight is the one that
    would have served there best, begun at 1. The interval is the spread of their errors, by Student's t with as many
    degrees of freedom as there are windows that do not overlap.

    Raises ValueError if a column is missing, or the window does not end after its start.
    """
    _require(rows, NEEDED)
    if not start < end:
        raise ValueError(f"expected a window that ends after its start, got {start} to {end}")
    rows = rows.loc[(rows["time"] < end) & (rows["time"] < now), list(NEEDED)].sort_values("time")
    within = rows[rows["time"] >= start]
    if within.empty:
        return _named(np.full(len(MEASURES), math.nan), math.nan) | {"estimated_note": "no rows"}
    known = rows[(rows["label_time"] <= now) & rows["label"].notna()]
    if_not, if_positive = _ends(known, false_alarm, missed)
    known = known.assign(logit=_logits(known))
    known[list(MEASURES)] = if_positive - if_not
    days, width = (end - start) / DAY, end - start
    as_is, anew = _past_errors(rows, known, end=end, width=width, now=now)
    weight = _weight(as_is.sum(axis=1), anew.sum(axis=1), days=days)
    newest = known["time"].iloc[-1] if len(known) else now
    level_then, slope = _calibration(known, at=now, newest=newest)
    p = within["probability"].to_numpy(float)
    chance = (1 - weight) * p + weight * expit(level_then + slope * _logits(within))
    half = _half_width((1 - weight) * as_is + weight * anew, days=days, level=level)
    mean = _scores(within, chance, false_alarm, missed).mean(axis=0)
    return _named(mean, half) | {"estimated_note": _note(known, len(as_is))}


def naive(
    rows: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    false_alarm: float,
    missed: float,
    level: float = LEVEL,
) -> dict[str, float | str]:
    """The same columns as `estimate`, if probabilities were what they say and rows independent: far too narrow.

    It needs no label, and no history. Show it beside the other to see what that costs. Raises ValueError if a column
    is missing.
    """
    _require(rows, ("time", "probability", "decision"))
    within = rows[(rows["time"] >= start) & (rows["time"] < end)]
    if within.empty:
        return _named(np.full(len(MEASURES), math.nan), math.nan) | {"estimated_note": "no rows"}
    p = within["probability"].to_numpy(float)
    if_not, if_positive = _ends(within, false_alarm, missed)
    variance = ((p * (1 - p))[:, None] * (if_positive - if_not) ** 2).sum(axis=0)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(variance) / len(p)
    mean = _scores(within, p, false_alarm, missed).mean(axis=0)
    return _named(mean, half) | {"estimated_note": ""}


def _named(mean: np.ndarray, half: np.ndarray | float) -> dict[str, float | str]:
    """Estimates with both ends of their intervals by name, the ends where a measure can be."""
    found: dict[str, float | str] = {}
    for name, value, width in zip(MEASURES, mean, np.broadcast_to(half, len(MEASURES)), strict=True):
        found[f"estimated_{name}"] = float(value)
        found[f"estimated_{name}_low"] = float(np.maximum(value - width, 0.0))
        found[f"estimated_{name}_high"] = float(np.minimum(value + width, 1.0 if name in AT_MOST_ONE else math.inf))
    return found


def _note(known: pd.DataFrame, windows: int) -> str:
    notes = []
    if len(known) < LEAST_ROWS:
        notes.append(f"probabilities as they are: {len(known)} labels, {LEAST_ROWS} needed")
    if windows < LEAST_WINDOWS:
        notes.append(f"no interval: {windows} earlier windows with labels, {LEAST_WINDOWS} needed")
    return "; ".join(notes)


# Calibrated anew, as far as it helped ---------------------------------------------------------------------------------


def _logits(rows: pd.DataFrame) -> np.ndarray:
    return logit(np.clip(rows["probability"].to_numpy(float), NEVER_SURE, 1 - NEVER_SURE))


def _calibration(known: pd.DataFrame, *, at: pd.Timestamp, newest: pd.Timestamp) -> tuple[float, float]:
    """Level and slope on the logit that fit the rows of the last weeks up to `newest`, by the labels known at `at`.

    `known` is in order of time. With too few labels or one class only: 0 and 1, which change nothing.
    """
    first = known["time"].searchsorted(newest - MEMORY)
    recent = known.iloc[first : known["time"].searchsorted(newest, side="right")]
    recent = recent[recent["label_time"] <= at]
    label, place = recent["label"].to_numpy(float), np.rint(recent["logit"].to_numpy() / GRID).astype(int)
    if len(recent) < LEAST_ROWS or label.min() == label.max():
        return 0.0, 1.0
    lowest = place.min()
    rows, positive = np.bincount(place - lowest), np.bincount(place - lowest, weights=label)
    x, found = (np.arange(len(rows)) + lowest) * GRID, np.array([0.0, 1.0])
    for _ in range(NEWTON_STEPS):
        q = expit(found[0] + found[1] * x)
        w, off = rows * np.maximum(q * (1 - q), NEVER_SURE), positive - rows * q
        gradient = np.array([off.sum(), off @ x]) - PULL * (found - [0.0, 1.0])
        curvature = np.array([[w.sum() + PULL, w @ x], [w @ x, w @ x**2 + PULL]])
        step = np.linalg.solve(curvature, gradient)
        found = found + step
        if np.abs(step).max() < NEVER_SURE:
            break
    return float(found[0]), float(found[1])


def _past_errors(
    rows: pd.DataFrame, known: pd.DataFrame, *, end: pd.Timestamp, width: pd.Timedelta, now: pd.Timestamp
) -> tuple[np.ndarray, np.ndarray]:
    """By how much earlier windows were missed: with probabilities as they are, and with those calibrated anew.

    Two arrays of windows × days × measures. The sum over days is what came less what was said, on rows with labels.
    """
    days = math.ceil(width / DAY)
    ends = _past_ends(rows["time"], known["time"], end=end, width=width) if len(known) else []
    found = np.zeros((2, len(ends), days, len(MEASURES)))
    age = now - known["time"].iloc[-1] if len(known) else None
    for number, one in enumerate(ends):
        at = one + (now - end)
        level, slope = _calibration(known, at=at, newest=at - age)
        first, last = known["time"].searchsorted([one - width, one])
        part = known.iloc[first:last]
        back = np.minimum(((one - part["time"]) // DAY).to_numpy(int), days - 1)
        y, p, more = (part[name].to_numpy(float) for name in ("label", "probability", "logit"))
        spread = part[list(MEASURES)].to_numpy()
        for kind, chance in enumerate((p, expit(level + slope * more))):
            missed_by = (y - chance)[:, None] * spread / len(part)
            found[kind, number] = np.array([back == day for day in range(days)]) @ missed_by
    return found[0], found[1]


def _past_ends(times: pd.Series, labelled: pd.Series, *, end: pd.Timestamp, width: pd.Timedelta) -> list[pd.Timestamp]:
    """Ends of the latest earlier windows whose labels have come, one a day; both series are in order."""
    first = times.iloc[0].floor("D") + width
    if end - DAY < first:
        return []
    ends = end - DAY * np.arange(1, (end - first) // DAY + 1)
    asked, told = (one.searchsorted(ends) - one.searchsorted(ends - width) for one in (times, labelled))
    share = told / np.maximum(asked, 1)
    return list(ends[(told > 0) & (share >= COMPLETE * share.max())][:PAST])


def _weight(as_is: np.ndarray, anew: np.ndarray, *, days: float) -> float:
    """How far to go from probabilities as they are to those calibrated anew, by the errors of past windows.

    Least squares over all measures, each in its own unit, with `DOUBT` windows' worth of belief in going all the way.
    """
    gain = as_is - anew
    scale = (as_is**2 + anew**2).mean(axis=0) if len(gain) else np.zeros(1)
    if not (scale > 0).all():
        return 1.0
    believed = DOUBT * max(days, 1.0) * (gain**2 / scale).mean(axis=0).sum()
    right, all_of_it = (as_is * gain / scale).sum(), (gain**2 / scale).sum()
    return float(np.clip((right + believed) / (all_of_it + believed), 0, 1)) if all_of_it + believed else 1.0


def _half_width(errors: np.ndarray, *, days: float, level: float) -> np.ndarray:
    """Half the width of the interval from past errors by window, day and measure; not less than single days tell."""
    if len(errors) < LEAST_WINDOWS:
        return np.full(len(MEASURES), math.nan)
    of_windows, of_days = (errors.sum(axis=1) ** 2).mean(axis=0), (errors**2).sum(axis=1).mean(axis=0)
    degrees = max((len(errors) - 1) / max(days, 1.0), LEAST_DEGREES)
    return stats.t.ppf((1 + level) / 2, degrees) * np.sqrt(np.maximum(of_windows, of_days))


# One window after the other -------------------------------------------------------------------------------------------


def walk(
    rows: pd.DataFrame,
    *,
    width: pd.Timedelta,
    false_alarm: float,
    missed: float,
    level: float = LEVEL,
    now: pd.Timestamp | None = None,
    origin: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Each window in turn, estimated at its end by what was known then, beside what came of it: one row a window.

    `rows` as for `estimate`. Windows are `width` long; one begins at `origin`, by default midnight of the first row's
    day. Columns are those of `realised`, with intervals by days, and of `estimate`. What came is by the labels known at
    `now`, and only of windows that have ended by then; without `now` by all labels there are, whenever they came: the
    truth. Raises ValueError if a column is missing.
    """
    _require(rows, NEEDED)
    costs = {"false_alarm": false_alarm, "missed": missed, "level": level}
    first = rows["time"].min().floor("D") if origin is None else origin
    window = (rows["time"] - first) // width * width + first
    seen = rows
    if now is not None:
        seen = rows.assign(label=rows["label"].where(rows["label_time"] <= now))[window + width <= now]
    came = realised(seen, window=window[seen.index], groups=seen["time"].dt.floor("D"), **costs)
    said = [estimate(rows, start=start, end=start + width, now=start + width, **costs) for start in came.index]
    return came.join(pd.DataFrame(said, index=came.index))


def by_slice(
    rows: pd.DataFrame,
    *,
    slices: Sequence[str],
    width: pd.Timedelta,
    false_alarm: float,
    missed: float,
    min_rows: int,
    level: float = LEVEL,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """`walk` for each value of each column of `slices`: indexed by slice, value and start, windows the same for all.

    Each slice is calibrated on its own labels, and its interval is made of its own errors. A window with fewer than
    `min_rows` rows in a slice has no measures and the note "too few rows": it would be read, and be noise. A missing
    value is a slice called "(missing)". Raises ValueError if a column is missing.
    """
    _require(rows, (*NEEDED, *slices))
    tables, origin = {}, rows["time"].min().floor("D")
    costs = {"false_alarm": false_alarm, "missed": missed, "level": level}
    for name in slices:
        for value, part in rows.groupby(rows[name].astype(object).where(rows[name].notna(), "(missing)")):
            table = walk(part, width=width, now=now, origin=origin, **costs)
            few = table["rows"] < min_rows
            measures = [one for one in table if one not in ("rows", "labelled", "note", "estimated_note")]
            table.loc[few, measures] = math.nan
            table.loc[few, ["note", "estimated_note"]] = "too few rows"
            tables[name, str(value)] = table
    return pd.concat(tables, names=["slice", "value", "start"])


def coverage(table: pd.DataFrame, measure: str) -> float:
    """The share of windows whose measure lies within its interval, of those that have both; `table` is of `walk`."""
    both = table.dropna(subset=[measure, f"estimated_{measure}_low"])
    return float(both[measure].between(both[f"estimated_{measure}_low"], both[f"estimated_{measure}_high"]).mean())


def plot(
    table: pd.DataFrame, measure: str, *, title: str, unit: str = "", truth: pd.DataFrame | None = None
) -> "Figure":
    """Estimate with its interval, what is known and the truth on one axis of time; below, the share of labels.

    `table` of `walk`; `title` states the finding. A hollow dot rests on less than nine tenths of the labels. `truth` is
    the same table with all labels, where one has them: a black cross for each window. Raises ValueError if there is no
    estimate of the measure.
    """
    from matplotlib.figure import Figure

    _require(table, ("labelled", measure, *(f"estimated_{measure}{part}" for part in ("", "_low", "_high"))))
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes, below = figure.subplots(2, height_ratios=(5, 1), sharex=True)
    low, high = table[f"estimated_{measure}_low"], table[f"estimated_{measure}_high"]
    axes.fill_between(table.index, low, high, color=COLOURS["estimated"], alpha=0.2, linewidth=0, label="its interval")
    axes.plot(table.index, table[f"estimated_{measure}"], color=COLOURS["estimated"], label="estimated without labels")
    whole = table["labelled"] >= WELL_LABELLED
    dots = {"color": COLOURS["realised"], "markersize": 4}
    axes.plot(table.index, table[measure].where(whole), "o", **dots, label="what came")
    if not whole.all():
        axes.plot(table.index, table[measure].where(~whole), "o", **dots, mfc="none", label="few labels yet")
    if truth is not None:
        axes.plot(truth.index, truth[measure], "x", color=COLOURS["truth"], markersize=4, label="truth, all labels")
    below.step(table.index, table["labelled"], where="mid", color=COLOURS["realised"])
    below.set_ylim(0, 1.05)
    below.set_ylabel("labelled\n(share)", fontsize="small")
    axes.set_title(title, loc="left")
    axes.set_ylabel(f"{measure.replace('_', ' ')}{f' ({unit})' if unit else ''}")
    axes.legend(frameon=False, fontsize="small", ncols=2)
    for one in (axes, below):
        one.spines[["top", "right"]].set_visible(False)
    figure.autofmt_xdate(rotation=0, ha="center")
    return figure


def _require(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in rows.columns]:
        raise ValueError(f"expected rows with the columns {list(columns)}, got none called {missing}; add them")
