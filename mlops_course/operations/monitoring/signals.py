"""Signals: plain numbers that describe each day of a stream of predictions, one for each thing that could go wrong.

    Profile     what a sample says of the inputs: ranges, values, mixes, and how columns depend on each other
    profile     made from a sample, such as the rows that a model was trained on
    of_inputs   signals of each day from the inputs alone
    of_labels   signals of each day from labels: how many have come, and how well they fit the predictions

A signal is named by its subject, a column or "rows" or "labels", and its measure:

    missing     share of values that are missing             unknown    share of categories that the sample lacks
    level       median, over the sample's width              unseen     share of values that the sample lacks
    spread      log of the distance from the 10th to the     range      share far outside the sample's range
                90th percentile, over the sample's width     largest    share of the most frequent value
    low         share below the sample's median              share of X share of a category
    residual    median of what other columns do not explain  off        hours between a time and the prediction
    count       log of the number of rows                    repeated   share of rows that came before on that day
    coverage    share of rows with a label                   surprise   loss over what probabilities promise, less
                                                                        twice the area under the ROC curve

A number of which the sample has two values, such as 0 and 1, has the signals of a category: it has no unit.

Each fault moves some of them: a stuck sensor moves `largest`, a wrong unit `level` and `residual`, a changed concept
only `surprise`. `alerting` decides what is unusual.

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

DAY = pd.Timedelta("1D")
FEW_VALUES = 60  # distinct values of a number up to which a new one is counted as unseen
COMMON = 0.02  # share from which a category has a signal of its own
EXPLAINED = 0.6  # least share of variance that other columns explain, for a residual to mean something
RIDGE = 1e-3  # penalty by row: columns that say the same do not get large weights of opposite sign
MIN_LABELS = 300  # of a day for its surprise: with fewer, chance is as large as a changed concept
CLIP = 1e-6  # least distance of a probability from 0 and 1
OF_AMOUNTS = ("level", "spread", "low", "range", "unseen", "residual")  # measures of numbers with more than two values
MOST_DEVIATIONS = 20.0  # standard deviations beyond which a value counts no further in a residual


@dataclass(frozen=True, eq=False)
class Profile:
    """What a sample says of the inputs.

    `numbers` has a row for each numeric and datetime column: width (distance of the outer deciles), minimum, maximum
    and median. `values` are the distinct values of columns with few, `categories` the share of each category.
    `residuals` hold, for the numeric columns that others explain, the weights of all numeric columns, once these are
    centred and scaled.
    """

    numeric: tuple[str, ...]
    datetimes: tuple[str, ...]
    numbers: pd.DataFrame
    values: Mapping[str, np.ndarray]
    categories: Mapping[str, pd.Series]
    centre: pd.Series
    scale: pd.Series
    residuals: Mapping[str, np.ndarray]

    @property
    def switches(self) -> list[str]:
        """The numeric columns of which the sample has two values."""
        return [name for name in self.numeric if len(self.values.get(name, ())) == 2]


def profile(
    rows: pd.DataFrame, *, numeric: Sequence[str], datetimes: Sequence[str], categorical: Sequence[str]
) -> Profile:
    """Make the profile of a sample with the named columns; times count as their hour.

    Raises KeyError if a column is not there, ValueError if there are no rows.
    """
    if rows.empty:
        raise ValueError("expected rows to make a profile of, got none")
    found = _numbers(rows, [*numeric, *datetimes])
    deciles = found.quantile([0.1, 0.9])
    width = np.maximum(deciles.loc[0.9] - deciles.loc[0.1], found.std(ddof=0)).clip(lower=1e-6)
    numbers = pd.DataFrame({"width": width, "minimum": found.min(), "maximum": found.max(), "median": found.median()})
    values = {name: column.dropna().unique() for name, column in found.items() if column.nunique() <= FEW_VALUES}
    categories = {name: rows[name].value_counts(normalize=True) for name in categorical}
    return Profile(tuple(numeric), tuple(datetimes), numbers, values, categories, *_residuals(found[list(numeric)]))


def _numbers(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    table = rows[[*names]]
    hours = {name: column.dt.hour for name, column in table.select_dtypes(["datetime", "datetimetz"]).items()}
    return table.assign(**hours).astype(float)


def _residuals(numbers: pd.DataFrame) -> tuple[pd.Series, pd.Series, dict[str, np.ndarray]]:
    """Centre and scale of numeric columns, and the weights of those that a linear model of the others explains."""
    from sklearn.linear_model import Ridge

    low, centre, high = (numbers.quantile(q).fillna(0.0) for q in (0.005, 0.5, 0.995))
    filled = (numbers.clip(low, high, axis=1) - centre).fillna(0.0)
    scale = filled.std(ddof=0) + 1e-12
    scaled, found = filled / scale, {}
    for at, name in enumerate(numbers):
        there = numbers[name].notna()
        others, target = scaled.loc[there].drop(columns=name), scaled.loc[there, name]
        if others.size and target.var(ddof=0) > 0:
            model = Ridge(alpha=RIDGE * len(others), fit_intercept=False).fit(others, target)
            if 1 - (target - model.predict(others)).var(ddof=0) / target.var(ddof=0) > EXPLAINED:
                found[name] = np.insert(-model.coef_, at, 1.0)
    return centre, scale, found


def of_inputs(rows: pd.DataFrame, known: Profile) -> pd.DataFrame:
    """Compute the signals of each day (UTC) from its inputs: one row a day, columns by subject and measure.

    A day's signals depend on the rows of that day alone. Raises KeyError if a column of the profile is not there.
    """
    day = rows["time"].dt.floor("D").rename("day")
    numbers, width = _numbers(rows, known.numbers.index), known.numbers["width"]
    by_day = numbers.groupby(day)
    low, high = (by_day.quantile(q, interpolation="nearest") for q in (0.1, 0.9))
    parts = [
        np.log(day.groupby(day).size()).to_frame(("rows", "count")),
        pd.DataFrame(_flags(rows, numbers, day, known)).groupby(day).mean(),
        pd.DataFrame(_levels(rows, numbers, known)).groupby(day).quantile(0.5, interpolation="nearest"),
        _named(np.log((high - low) / width + 0.1), "spread"),
        _named(numbers.apply(_largest, day=day), "largest"),
    ]
    table = pd.concat(parts, axis=1)
    table = table.drop(columns=[name for name in table if name[0] in known.switches and name[1] in OF_AMOUNTS])
    table.columns = pd.MultiIndex.from_tuples(table.columns, names=["subject", "measure"])
    return table.fillna(dict.fromkeys([name for name in table if name[1] == "low"], 0.0))


def _flags(rows: pd.DataFrame, numbers: pd.DataFrame, day: pd.Series, known: Profile) -> dict[tuple, pd.Series]:
    """What is true or false of each row; the share of a day's rows is a signal."""
    inputs = rows[[*known.numeric, *known.datetimes, *known.categories]]
    same = pd.util.hash_pandas_object(inputs, index=False)
    found = {("rows", "repeated"): pd.concat([day, same], axis=1).duplicated()}
    for name, values in numbers.items():
        sample = known.numbers.loc[name]
        margin = sample["maximum"] - sample["minimum"]
        found[name, "missing"] = values.isna()
        found[name, "range"] = (values < sample["minimum"] - margin) | (values > sample["maximum"] + margin)
        found[name, "low"] = (values < sample["median"]).astype(float).where(values.notna())
        if name in known.values:
            found[name, "unseen"] = values.notna() & ~values.isin(known.values[name])
    for name in known.switches:
        found[name, "unknown"] = numbers[name].notna() & ~numbers[name].isin(known.values[name])
        found[name, f"share of {max(known.values[name]):g}"] = numbers[name] == max(known.values[name])
    for name, shares in known.categories.items():
        found[name, "unknown"] = rows[name].notna() & ~rows[name].isin(shares.index)
        for category in shares.index[shares >= COMMON]:
            found[name, f"share of {category}"] = (rows[name] == category).fillna(False).astype(bool)
    return found


def _levels(rows: pd.DataFrame, numbers: pd.DataFrame, known: Profile) -> dict[tuple, pd.Series]:
    """Values of each row; the median of a day's rows is a signal."""
    found = {(name, "level"): values / known.numbers.loc[name, "width"] for name, values in numbers.items()}
    asked = rows["time"].dt.tz_convert("UTC").dt.tz_localize(None)
    for name in known.datetimes:
        found[name, "off"] = (rows[name] - asked) / pd.Timedelta("1h")
    scaled = (numbers[list(known.numeric)] - known.centre).fillna(0.0) / known.scale
    scaled = scaled.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    for name, weights in known.residuals.items():
        found[name, "residual"] = (scaled @ weights).where(numbers[name].notna())
    return found


def _named(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    return table.set_axis([(name, measure) for name in table], axis=1)


def _largest(values: pd.Series, day: pd.Series) -> pd.Series:
    """Share of each day's most frequent value among those that are there."""
    counts = values.groupby([day, values]).size().groupby(level=0)
    return counts.max() / counts.sum()


def of_labels(rows: pd.DataFrame, *, now: pd.Timestamp, lag: pd.Timedelta) -> pd.DataFrame:
    """Compute the signals of each day (UTC) from the labels that came within `lag` of its end.

    `rows` has time, probability, label and label_time. Days that ended less than `lag` before `now` are left out.
    Columns: coverage and surprise, under the subject "labels".
    """
    day = rows["time"].dt.floor("D").rename("day")
    due = day + DAY + lag
    rows, day, due = rows[due <= now], day[due <= now], due[due <= now]
    known = rows["label"].notna() & (rows["label_time"] <= due)
    coverage = known.groupby(day).mean()
    surprise = _surprise(rows[known], day[known]).reindex(coverage.index)
    table = pd.DataFrame({("labels", "coverage"): coverage, ("labels", "surprise"): surprise})
    table.columns.names = ["subject", "measure"]
    return table


def _surprise(rows: pd.DataFrame, day: pd.Series) -> pd.Series:
    """Excess loss less twice the ROC AUC: labels that contradict the predictions raise it more than a bad day does."""
    p, y = rows["probability"].clip(CLIP, 1 - CLIP), rows["label"]
    excess = ((p - y) * np.log(p / (1 - p))).groupby(day).mean()
    count, positive = y.groupby(day).size(), y.groupby(day).sum()
    ranks = (p.groupby(day).rank() * y).groupby(day).sum()  # roc_auc_score of each day takes fifty times as long
    auc = (ranks - positive * (positive + 1) / 2) / (positive * (count - positive))
    return (excess - 2 * auc).where((count >= MIN_LABELS) & (positive > 0) & (positive < count))
