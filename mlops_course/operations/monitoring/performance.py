"""How good predictions are: estimated while labels are missing, measured once they are there.

    realised    loss, cost, rate and ROC AUC of each window, by the labels that have come
    estimate    loss, cost and rate of one window from its probabilities, with an interval, before its labels come
    walk        both for all windows, each estimate by what was known at the end of its window
    coverage    share of windows whose realised value lies within the estimated interval
    plot        estimate, interval and realised value over time

A right probability gives the expected loss: a row with probability p loses -log p with probability p, and -log(1 - p)
otherwise. So performance can be estimated without a label. The probabilities of an aging model are no longer right:
they are calibrated again on the latest labels, and the interval comes from the errors of past estimates. No such
estimate sees a change of the concept after the last label.

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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import expit, logit, xlogy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coverage", "estimate", "plot", "realised", "walk"]

MEASURES = ("log_loss", "cost", "rate")
CALIBRATION_SPAN = pd.Timedelta("28D")  # of the labelled rows used to calibrate: recent, and enough of them
ERROR_SPAN = pd.Timedelta("84D")  # of the days whose errors make the interval
MIN_ROWS = 200  # with a label, to calibrate on; with fewer, probabilities are used as they are
MIN_DAYS = 7  # with labels, before an interval is given
LEVEL = 0.95
MIN_DEGREES = 3  # of freedom of Student's t: few days say little about how far days differ
ESTIMATE_COLUMNS = ("time", "probability", "decision", "label", "label_time")
DAY = pd.Timedelta("1D")
CLIP = 1e-6  # least distance of a probability from 0 and 1, so that no single row decides the loss of a window
COLOURS = {"estimated": "#0072B2", "realised": "#D55E00"}  # Okabe and Ito: safe for colour-blind readers

Line = tuple[float, float]  # intercept and slope of a calibration on the logit


def realised(rows: pd.DataFrame, *, window: pd.Series, false_alarm: float, missed: float) -> pd.DataFrame:
    """Measure the predictions of each window by the labels that have come: one row a window.

    `rows` has probability, decision (bool) and label (0, 1 or missing); `window` names the window of each row. Columns:
    rows, labelled (share of rows with a label), log_loss, cost (of a row, in the unit of the two costs), rate (share of
    positives) and roc_auc. A measure without labels is NaN, and so is roc_auc of a single class.

    Raises ValueError if a column is missing.
    """
    _require(rows, ("probability", "decision", "label"))
    known = rows["label"].notna()
    scores = _scores(rows, rows["label"].to_numpy(float), {"false_alarm": false_alarm, "missed": missed})
    scores = pd.DataFrame(scores, index=rows.index)
    table = pd.DataFrame({"rows": window.value_counts().sort_index()}).rename_axis("start")
    table["labelled"] = known.groupby(window).mean()
    table = table.join(scores[known].groupby(window[known]).mean())
    table["roc_auc"] = pd.Series({name: _auc(part) for name, part in rows[known].groupby(window[known])}, dtype=float)
    return table


def _scores(rows: pd.DataFrame, chance: np.ndarray, costs: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Expected scores of each row if it is positive with the given chance; a known label is a chance of 0 or 1."""
    p = _clipped(rows)
    cost = np.where(rows["decision"].to_numpy(bool), costs["false_alarm"] * (1 - chance), costs["missed"] * chance)
    loss = -(xlogy(chance, p) + xlogy(1 - chance, 1 - p))
    return {"log_loss": loss, "cost": cost, "rate": chance}


def _clipped(rows: pd.DataFrame) -> np.ndarray:
    return np.clip(rows["probability"].to_numpy(float), CLIP, 1 - CLIP)


def _auc(rows: pd.DataFrame) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(rows["label"], rows["probability"])) if rows["label"].nunique() == 2 else math.nan


def estimate(
    rows: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    now: pd.Timestamp,
    false_alarm: float,
    missed: float,
) -> dict[str, float]:
    """Estimate loss, cost and rate of the window from `start` to `end` by what is known at `now`.

    `rows` has time, probability, decision, label and label_time. The probabilities are calibrated on the labelled rows
    of the last four weeks (a line on the logit, Platt 1999). The 95 % interval rests on the errors of the last twelve
    weeks: for each day, the realised value less the estimate of that morning. Half its width is a quantile of Student's
    t times the root mean square error of stretches as long as the window, or of independent days if that is larger.

    Keys: estimated_log_loss, estimated_cost, estimated_rate, each also with _low and _high. The interval is NaN with
    fewer than seven days of labels, and everything is NaN without a row in the window.

    Raises ValueError if a column is missing.
    """
    _require(rows, ESTIMATE_COLUMNS)
    return _Estimator(rows, {"false_alarm": false_alarm, "missed": missed}).of(start, end, now)


class _Estimator:
    """Estimates of windows of the same rows; it keeps the calibration of each morning, as windows share mornings."""

    def __init__(self, rows: pd.DataFrame, costs: Mapping[str, float]) -> None:
        self._rows, self._costs = rows[[*ESTIMATE_COLUMNS]], costs
        self._mornings: dict[pd.Timestamp, Line] = {}

    def of(self, start: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp) -> dict[str, float]:
        rows = self._rows
        within = rows[(rows["time"] >= start) & (rows["time"] < end)]
        known = rows[(rows["label_time"] <= now) & rows["label"].notna() & (rows["time"] < end)]
        found = {f"estimated_{name}{part}": math.nan for name in MEASURES for part in ("", "_low", "_high")}
        if within.empty:
            return found
        expected = self._expected(within, _calibration(known[known["time"] >= now - CALIBRATION_SPAN]))
        errors = self._daily_errors(known[known["time"] >= now - ERROR_SPAN - CALIBRATION_SPAN], now - ERROR_SPAN)
        days = max((end - start) / DAY, 1.0)
        quantile = stats.t.ppf((1 + LEVEL) / 2, max(len(errors) / days - 1, MIN_DEGREES))
        for name, mean in expected.items():
            found[f"estimated_{name}"] = mean
            if len(errors) >= MIN_DAYS:
                half = quantile * _root_mean_square(errors[name], days)
                found[f"estimated_{name}_low"] = max(mean - half, 0.0)
                found[f"estimated_{name}_high"] = min(mean + half, 1.0 if name == "rate" else math.inf)
        return found

    def _expected(self, rows: pd.DataFrame, line: Line) -> dict[str, float]:
        intercept, slope = line
        return self._means(rows, expit(intercept + slope * logit(_clipped(rows))))

    def _means(self, rows: pd.DataFrame, chance: np.ndarray) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in _scores(rows, chance, self._costs).items()}

    def _daily_errors(self, known: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
        """Realised less estimated value of each day, estimated by what was known at its beginning: one row a day."""
        errors = {}
        for day, rows in known[known["time"] >= since.floor("D")].groupby(known["time"].dt.floor("D")):
            if day not in self._mornings:
                recent = (known["label_time"] <= day) & (known["time"] >= day - CALIBRATION_SPAN)
                self._mornings[day] = _calibration(known[recent])
            expected = self._expected(rows, self._mornings[day])
            came = self._means(rows, rows["label"].to_numpy(float))
            errors[day] = {name: came[name] - expected[name] for name in MEASURES}
        return pd.DataFrame.from_dict(errors, orient="index", columns=list(MEASURES))


def _calibration(known: pd.DataFrame) -> Line:
    """Line on the logit of the probability that fits the labels best; no change with too few of them."""
    unchanged = (0.0, 1.0)
    if len(known) < MIN_ROWS or known["label"].nunique() < 2:
        return unchanged
    x, y = logit(_clipped(known)), known["label"].to_numpy(float)

    # scikit-learn's LogisticRegression needs twenty times as long for these two numbers
    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        """Log loss and its gradient."""
        z = line[0] + line[1] * x
        error = expit(z) - y
        return float((np.logaddexp(0, z) - y * z).mean()), np.array([error.mean(), (error * x).mean()])

    return tuple(optimize.minimize(loss, unchanged, jac=True, tol=1e-9).x)


def _root_mean_square(errors: pd.Series, days: float) -> float:
    """Root mean square error of a mean over so many days."""
    independent = (errors**2).mean() / days
    stretches = (errors.rolling(round(days)).mean() ** 2).mean()  # NaN without a whole stretch
    return float(np.sqrt(np.fmax(independent, stretches)))


def walk(rows: pd.DataFrame, *, width: pd.Timedelta, false_alarm: float, missed: float) -> pd.DataFrame:
    """Estimate and measure each window: one row a window, with the columns of `realised` and `estimate`.

    `rows` as for `estimate`. The first window begins at midnight of the first row's day. A window is estimated by what
    is known at its end, and measured by all labels in `rows`.
    """
    _require(rows, ESTIMATE_COLUMNS)
    first = rows["time"].min().floor("D")
    window = (rows["time"] - first) // width * width + first
    costs = {"false_alarm": false_alarm, "missed": missed}
    table, estimator = realised(rows, window=window, **costs), _Estimator(rows, costs)
    estimates = [estimator.of(start, start + width, start + width) for start in table.index]
    return table.join(pd.DataFrame(estimates, index=table.index))


def coverage(table: pd.DataFrame, measure: str) -> float:
    """Return the share of the windows of `walk` whose realised value lies within its interval, of those with both."""
    both = table.dropna(subset=[measure, f"estimated_{measure}_low"])
    return float(both[measure].between(both[f"estimated_{measure}_low"], both[f"estimated_{measure}_high"]).mean())


def plot(table: pd.DataFrame, measure: str, *, title: str, unit: str = "") -> "Figure":
    """Plot a measure of `walk` over time: estimate, interval and realised value; `title` states the finding."""
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


def _require(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in rows.columns]:
        raise ValueError(f"expected rows with the columns {list(columns)}, got none called {missing}; add them")
