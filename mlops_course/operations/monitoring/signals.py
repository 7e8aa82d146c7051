"""What a stream of predictions looks like, day by day: plain numbers, one column for each thing that could go wrong.

    Profile     what is known of the inputs from a sample: ranges, values, mixes, and how columns hang together
    profile     made from a sample, such as the rows that a model was trained on
    of_inputs   a day's signals from the inputs alone
    of_labels   a day's signals from labels: how many have come, and whether they are a surprise

A signal is named by its subject, a column or "rows" or "labels", and its measure:

    missing     share of values that are missing             unknown    share of categories that the sample lacks
    level       median, in spreads of the sample             unseen     share of values that the sample lacks
    spread      log of the distance from the 10th to the     range      share far outside the sample's range
                90th percentile, in the sample's             largest    share of the most frequent value
    low         share below the sample's median              share of X share of a category
    residual    median of what other columns do not explain  off        hours between a time and the prediction
    count       log of the number of rows                    repeated   share of rows that came before on that day
    coverage    share of rows with a label                   surprise   loss over what probabilities promise, less
                                                                        twice the area under the ROC curve

Each fault leaves a mark on some of them: a sensor that hangs on `largest`, a wrong unit on `level` and `residual`, a
concept that has turned on `surprise` alone. What is unusual is not decided here but in `alerting`.

>>> rows = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=400, freq="15min", tz="UTC")})
>>> rows["heat"] = 20.0 + np.arange(400) % 7
>>> rows.loc[rows["time"] >= "2024-01-03", "heat"] = 21.0
>>> known = profile(rows.iloc[:192], numeric=["heat"], datetimes=[], categorical=[])
>>> of_inputs(rows, known)[("heat", "largest")].round(2).tolist()
[0.15, 0.15, 1.0, 1.0, 1.0]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["Profile", "of_inputs", "of_labels", "profile"]

ENUMERATED = 60  # distinct values of a number up to which a new one is worth a look
COMMON = 0.02  # share from which a category has a signal of its own
EXPLAINED = 0.6  # share of variance that other columns must explain for a residual to mean something
RIDGE = 1e-3  # keeps columns that say the same from cancelling out in large numbers
LEAST_LABELS = 300  # of a day for its surprise: with fewer, chance is as large as a turned concept
NEVER_SURE = 1e-6  # a probability is kept so far from 0 and 1
LAST_SEEN = 20.0  # spreads beyond which a value counts no further in a residual


@dataclass(frozen=True, eq=False)
class Profile:
    """What a sample says of the inputs.

    By numeric column: `spread` (distance of the outer deciles), `bounds`, `median`, and `values` if they are few. By
    categorical column: `categories` with their shares. `residuals` hold, for columns that the others explain, their
    weights; `centre` and `scale` are those of the numeric columns, in order.
    """

    numeric: tuple[str, ...]
    datetimes: tuple[str, ...]
    spread: Mapping[str, float]
    bounds: Mapping[str, tuple[float, float]]
    median: Mapping[str, float]
    values: Mapping[str, np.ndarray]
    categories: Mapping[str, pd.Series]
    centre: np.ndarray
    scale: np.ndarray
    residuals: Mapping[str, np.ndarray]


def profile(
    rows: pd.DataFrame, *, numeric: Sequence[str], datetimes: Sequence[str], categorical: Sequence[str]
) -> Profile:
    """The profile of a sample with the named columns; times count as their hour.

    Raises KeyError if a column is not there, ValueError if there are no rows.
    """
    if rows.empty:
        raise ValueError("expected rows to make a profile of, got none")
    spread, bounds, median, values = {}, {}, {}, {}
    for name in [*numeric, *datetimes]:
        found = np.sort(_numbers(rows[name]))
        found = found[~np.isnan(found)]
        if not len(found):
            found = np.zeros(1)
        low, high = np.quantile(found, [0.1, 0.9])
        spread[name] = max(high - low, float(found.std()), 1e-6)
        bounds[name], median[name] = (float(found[0]), float(found[-1])), float(np.median(found))
        if len(distinct := np.unique(found)) <= ENUMERATED:
            values[name] = distinct
    centre, scale, residuals = _residuals(rows, list(numeric))
    categories = {name: rows[name].value_counts(normalize=True) for name in categorical}
    return Profile(
        tuple(numeric), tuple(datetimes), spread, bounds, median, values, categories, centre, scale, residuals
    )


def _numbers(values: pd.Series) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(values):
        values = values.dt.hour
    return values.to_numpy(float, na_value=np.nan)


def _residuals(rows: pd.DataFrame, numeric: list[str]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Centre and scale of the columns, and for each that the others explain by a line, the weights of that line."""
    x = rows[numeric].to_numpy(float)
    ordered = [np.sort(column[~np.isnan(column)]) for column in x.T]
    low, centre, high = (
        np.array([np.quantile(column, q) if len(column) else 0.0 for column in ordered]) for q in (0.005, 0.5, 0.995)
    )
    filled = np.where(np.isnan(x), centre, np.clip(x, low, high)) - centre
    scale = filled.std(axis=0) + 1e-12
    z, found = filled / scale, {}
    for at, name in enumerate(numeric):
        there, others = ~np.isnan(x[:, at]), np.delete(np.arange(len(numeric)), at)
        a, b = z[there][:, others], z[there, at]
        if len(others) and len(b) and b.var() > 0:
            weights = np.linalg.solve(a.T @ a + RIDGE * len(a) * np.eye(len(others)), a.T @ b)
            if 1 - (b - a @ weights).var() / b.var() > EXPLAINED:
                found[name] = np.insert(-weights, at, 1.0)
    return centre, scale, found


# Day by day -----------------------------------------------------------------------------------------------------------


def of_inputs(rows: pd.DataFrame, known: Profile, *, time: str = "time") -> pd.DataFrame:
    """The signals of each day (UTC) from its inputs: one row a day, columns by subject and measure.

    A day's signals depend on the rows of that day alone. Raises KeyError if a column of the profile is not there.
    """
    day, days = pd.factorize(rows[time].dt.floor("D"), sort=True)
    count = np.bincount(day, minlength=len(days))
    found: dict[tuple[str, str], np.ndarray] = {("rows", "count"): np.log(count)}
    found["rows", "repeated"] = _repeated(rows, known, day, count)
    for name in [*known.numeric, *known.datetimes]:
        found |= {(name, measure): values for measure, values in _of_numbers(rows[name], name, known, day, count)}
    for name in known.datetimes:
        asked = rows[time].dt.tz_convert("UTC").dt.tz_localize(None)
        hours = (rows[name] - asked).dt.total_seconds().to_numpy() / 3600
        found[name, "off"] = _quantiles(hours, day, len(days), [0.5])[0]
    for name, shares in known.categories.items():
        found |= {(name, measure): values for measure, values in _of_categories(rows[name], shares, day, count)}
    x = rows[list(known.numeric)].to_numpy(float)
    z = np.clip((np.where(np.isnan(x), known.centre, x) - known.centre) / known.scale, -LAST_SEEN, LAST_SEEN)
    for name, weights in known.residuals.items():
        rest = np.where(np.isnan(x[:, known.numeric.index(name)]), np.nan, z @ weights)
        found[name, "residual"] = _quantiles(rest, day, len(days), [0.5])[0]
    table = pd.DataFrame(found, index=pd.DatetimeIndex(days, name="day"))
    table.columns = pd.MultiIndex.from_tuples(table.columns, names=["subject", "measure"])
    return table


def _of_numbers(values: pd.Series, name: str, known: Profile, day: np.ndarray, count: np.ndarray) -> list:
    v, days = _numbers(values), len(count)
    there = ~np.isnan(v)
    given = np.maximum(np.bincount(day[there], minlength=days), 1)
    low, middle, high = _quantiles(v, day, days, [0.1, 0.5, 0.9])
    bottom, top = known.bounds[name]
    margin, spread = top - bottom, known.spread[name]
    found = [
        ("missing", np.bincount(day, ~there, minlength=days) / count),
        ("level", middle / spread),
        ("spread", np.log((high - low) / spread + 0.1)),
        ("range", np.bincount(day, (v < bottom - margin) | (v > top + margin), minlength=days) / count),
        ("largest", _largest(v, day, days)),
        ("low", np.bincount(day, v < known.median[name], minlength=days) / given),
    ]
    if name in known.values:
        found.append(("unseen", np.bincount(day, there & ~np.isin(v, known.values[name]), minlength=days) / count))
    return found


def _of_categories(values: pd.Series, shares: pd.Series, day: np.ndarray, count: np.ndarray) -> list:
    codes, names = pd.factorize(values)
    new = np.append(~names.isin(shares.index), False)[codes]  # a missing value has the code -1
    found = [("unknown", np.bincount(day, new, minlength=len(count)) / count)]
    for category in shares.index[shares >= COMMON]:
        same = (values == category).to_numpy()
        found.append((f"share of {category}", np.bincount(day, same, minlength=len(count)) / count))
    return found


def _repeated(rows: pd.DataFrame, known: Profile, day: np.ndarray, count: np.ndarray) -> np.ndarray:
    columns = [*known.numeric, *known.datetimes, *known.categories]
    same = pd.util.hash_pandas_object(rows[columns], index=False).to_numpy()
    first = ~pd.DataFrame({"day": day, "same": same}).duplicated().to_numpy()
    return 1 - np.bincount(day, first, minlength=len(count)) / count


def _quantiles(values: np.ndarray, day: np.ndarray, days: int, shares: Sequence[float]) -> list[np.ndarray]:
    """Values at some shares of each day's order; NaN for a day without values."""
    there = ~np.isnan(values)
    v, d = values[there], day[there]
    order = np.lexsort((v, d))
    v, d = v[order], d[order]
    start, count = np.searchsorted(d, np.arange(days)), np.bincount(d, minlength=days)
    v = np.append(v, np.nan)
    at = [np.where(count > 0, start + np.rint(share * (count - 1)).astype(int), len(v) - 1) for share in shares]
    return [v[position] for position in at]


def _largest(values: np.ndarray, day: np.ndarray, days: int) -> np.ndarray:
    """The share of each day's most frequent value among those that are there."""
    there = ~np.isnan(values)
    runs = pd.DataFrame({"day": day[there], "value": values[there]}).value_counts(sort=False)
    most = runs.groupby(level="day").max() / runs.groupby(level="day").sum()
    return most.reindex(range(days)).to_numpy(float)


def of_labels(rows: pd.DataFrame, *, now: pd.Timestamp, lag: pd.Timedelta) -> pd.DataFrame:
    """The signals of each day (UTC) from the labels that came within `lag` of its end; only days as old by `now`.

    `rows` has time, probability, label and label_time. Columns: coverage and surprise, under the subject "labels".
    """
    start = rows["time"].dt.floor("D")
    old = start + pd.Timedelta("1D") + lag <= now
    rows, start = rows[old], start[old]
    day, days = pd.factorize(start, sort=True)
    known = ((rows["label_time"] <= start + pd.Timedelta("1D") + lag) & rows["label"].notna()).to_numpy()
    coverage = np.bincount(day, known, minlength=len(days)) / np.maximum(np.bincount(day, minlength=len(days)), 1)
    found = {("labels", "coverage"): coverage, ("labels", "surprise"): _surprise(rows[known], day[known], len(days))}
    table = pd.DataFrame(found, index=pd.DatetimeIndex(days, name="day"))
    table.columns.names = ["subject", "measure"]
    return table


def _surprise(rows: pd.DataFrame, day: np.ndarray, days: int) -> np.ndarray:
    """Both grow when labels come as the model would not have it, and less so when a bad day makes all rows worse."""
    p = np.clip(rows["probability"].to_numpy(float), NEVER_SURE, 1 - NEVER_SURE)
    y = rows["label"].to_numpy(float)
    count, positive = (np.bincount(day, values, minlength=days) for values in (np.ones(len(y)), y))
    excess = np.bincount(day, (p - y) * np.log(p / (1 - p)), minlength=days) / np.maximum(count, 1)
    order = np.lexsort((p, day))
    rank = np.empty(len(p))
    rank[order] = np.arange(len(p)) - np.searchsorted(day[order], np.arange(days))[day[order]] + 1
    above = np.bincount(day, rank * y, minlength=days) - positive * (positive + 1) / 2
    auc = above / np.maximum(positive * (count - positive), 1)
    judged = (count >= LEAST_LABELS) & (positive > 0) & (positive < count)
    return np.where(judged, excess - 2 * auc, np.nan)
