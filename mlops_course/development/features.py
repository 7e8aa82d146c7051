"""Point-in-time features: what was known at the moment of the prediction, and nothing that came later.

    as_of           the last observation that was available (weather, a price, a sensor reading)
    recent          how many events became known in the last hours, and their mean
    in_progress     how many things had begun and not ended (open orders, overdue deliveries)
    split_by_time   past and future around a cut, purged of labels that come late
    split_in_three  rows to train on, to calibrate on and to judge by, one later than the other
    on_arrays       feature code written once, for the frame of a training and for the one row of a request

Every function compares two times: when a row asks (`at`), and when a record became known (`available`, `start`, `end`).
A record whose time is missing was never known. Records need not be sorted, and a row gets the same answer alone as
among a million.

>>> rows = pd.DataFrame({"asked": pd.to_datetime(["2013-01-01T10:00Z", "2013-01-01T12:00Z"])})
>>> readings = pd.DataFrame({"known": pd.to_datetime(["2013-01-01T09:30Z", "2013-01-01T11:00Z"]), "temp": [3.0, 5.0]})
>>> as_of(rows, readings, at="asked", available="known", columns=["temp"])["temp"].tolist()
[3.0, 5.0]
>>> recent(rows, readings, at="asked", available="known", window=pd.Timedelta("2h"), value="temp")["mean"].tolist()
[3.0, 5.0]
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import numpy as np
import pandas as pd

__all__ = ["TEST_SHARE", "as_of", "in_progress", "on_arrays", "recent", "split_by_time", "split_in_three"]

TEST_SHARE = 0.15  # the latest of the labelled rows; a model is judged on them
CALIBRATE_SHARE = 0.12  # the latest of the rows before; a fitted model is calibrated on them


def as_of(
    rows: pd.DataFrame,
    observations: pd.DataFrame,
    *,
    at: str,
    available: str,
    columns: Sequence[str],
    by: str | None = None,
    max_age: pd.Timedelta | None = None,
) -> pd.DataFrame:
    """Return the last observation that was available to each row, never a later one.

    With `by`, only observations of the same group count. The result has the index of `rows`, the `columns`, and `age`
    in minutes since the observation became known. All are missing where nothing was known yet, or only what is older
    than `max_age`. Raises ValueError if a time is not a datetime, a row asks at no time, or two observations of a group
    became available at the same instant.
    """
    _check_times(rows, at, required=True)
    _check_times(observations, available)
    keys = [by] if by else []
    known = observations.loc[observations[available].notna(), [available, *keys, *columns]]
    if len(repeated := known.loc[known.duplicated([available, *keys]), [available, *keys]]):
        twice = repeated.iloc[0].to_dict()
        raise ValueError(
            f"expected one observation for each {[available, *keys]}, got more for {twice}; drop all but one"
        )
    asked = rows[[at, *keys]].reset_index(drop=True).rename(columns={at: "_at"})
    asked = asked.assign(_order=np.arange(len(asked)), _at=asked["_at"].astype(known[available].dtype))
    found = pd.merge_asof(
        asked.sort_values("_at"),
        known.sort_values(available),
        left_on="_at",
        right_on=available,
        by=by,
        tolerance=max_age,
    ).sort_values("_order")
    found["age"] = (found["_at"] - found[available]).dt.total_seconds() / 60
    return found[[*columns, "age"]].set_axis(rows.index)


def recent(
    rows: pd.DataFrame,
    events: pd.DataFrame,
    *,
    at: str,
    available: str,
    window: pd.Timedelta,
    value: str,
    by: str | None = None,
) -> pd.DataFrame:
    """How many events became known in the `window` before each row asked, and the mean of their `value`.

    An event counts for a row if `events[available]` lies in (at − window, at] and, with `by`, its group is the row's.
    An event without a value does not count. Returns `count` and `mean`, with the index of `rows`. Raises ValueError if
    a time is not a datetime or a row asks at no time.
    """
    _check_times(rows, at, required=True)
    _check_times(events, available)
    known = events.dropna(subset=[available, value])
    asked, happened = _moments(rows, at, by=by), _moments(known, available, by=by, value=value)
    count, total = _known_by(asked, happened)
    before, total_before = _known_by(asked.assign(time=asked["time"] - window // pd.Timedelta("1us")), happened)
    count = count - before
    mean = np.divide(total - total_before, count, out=np.full(len(rows), np.nan), where=count > 0)
    return pd.DataFrame({"count": count, "mean": mean}, index=rows.index)


def in_progress(
    rows: pd.DataFrame, spans: pd.DataFrame, *, at: str, start: str, end: str, by: str | None = None
) -> pd.Series:
    """How many spans had started and not yet ended when each row asked: start ≤ at < end.

    A span whose `end` is missing has not ended: whether one ever ends is not known while it lasts. A span without
    `start`, or not before its end, never counts. Returns counts (int) with the index of `rows`. Raises ValueError if a
    time is not a datetime or a row asks at none.
    """
    _check_times(rows, at, required=True)
    _check_times(spans, start)
    _check_times(spans, end)
    real = spans.loc[spans[start].notna() & ~(spans[end] <= spans[start])]
    asked = _moments(rows, at, by=by)
    started, _ = _known_by(asked, _moments(real, start, by=by))
    ended, _ = _known_by(asked, _moments(real.dropna(subset=[end]), end, by=by))
    return pd.Series(started - ended, index=rows.index, name="in_progress")


def split_by_time(
    frame: pd.DataFrame, cut: pd.Timestamp, *, prediction_time: str, label_time: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Past and future around `cut`, purged: the past holds only rows whose label was known at the cut.

    Past: predicted before the cut and `label_time` ≤ cut. Future: `prediction_time` ≥ cut. A row predicted before the
    cut and labelled after it, or never, is in neither. Raises ValueError if the cut has no time zone and the columns
    do, or the other way round.
    """
    cut = pd.Timestamp(cut)
    for column in (prediction_time, label_time):
        _check_times(frame, column)
        if (cut.tz is None) != (frame[column].dt.tz is None):
            raise ValueError(f"expected the cut and {column!r} both with or both without a time zone, got {cut!r}")
    future = frame[prediction_time] >= cut
    return frame.loc[~future & (frame[label_time] <= cut)], frame.loc[future]


def split_in_three(labelled: pd.DataFrame, *, prediction_time: str, label_time: str) -> dict[str, pd.DataFrame]:
    """Rows to train on, to calibrate on and to test on, as "train", "calibrate" and "test", each purged.

    The shares are `TEST_SHARE` of the rows, and `CALIBRATE_SHARE` of the past that remains.
    """
    times = {"prediction_time": prediction_time, "label_time": label_time}
    test_from = labelled[prediction_time].quantile(1 - TEST_SHARE, interpolation="higher")
    past, test = split_by_time(labelled, test_from, **times)
    # from the end: the other way round, labels that take long would leave no row between the two cuts
    calibrate_from = past[prediction_time].quantile(1 - CALIBRATE_SHARE, interpolation="higher")
    train, calibrate = split_by_time(past, calibrate_from, **times)
    return {"train": train, "calibrate": calibrate, "test": test}


def on_arrays(derive: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]) -> Callable:
    """Let feature code that works on arrays take a frame too; decorates the function that a model carries.

    `derive` gets a mapping from column to array, all of one length, and returns another. The decorated function takes a
    frame and returns one with the same index, for training. A service calls the undecorated one, its attribute
    `arrays`: for one row, making the frame would take longer than the features.
    """

    @wraps(derive)
    def on_frame(inputs: pd.DataFrame) -> pd.DataFrame:
        arrays = {name: column.to_numpy() for name, column in inputs.items()}
        derived = derive(arrays)
        as_it_came = {name: inputs[name] for name, values in derived.items() if values is arrays.get(name)}
        return pd.DataFrame({**derived, **as_it_came}, index=inputs.index)

    on_frame.arrays = derive
    return on_frame


def _moments(frame: pd.DataFrame, time: str, *, by: str | None, value: str | None = None) -> pd.DataFrame:
    """Time in microseconds, group and value of each record; all are one group without `by`."""
    microseconds = frame[time].dt.as_unit("us").astype("int64")
    return pd.DataFrame(
        {"time": microseconds, "group": frame[by] if by else 0, "value": frame[value] if value else 0.0}
    )


def _known_by(asked: pd.DataFrame, happened: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `asked`, the count of the events of its group until then, and the sum of their values.

    Group and time make one sortable number, so that one binary search serves all rows. The sum runs within its group
    from the earliest event on, so that no later event can change even its rounding.
    """
    both = np.concatenate([asked["time"], happened["time"]])
    low, span = (both.min(), np.ptp(both) + 2) if len(both) else (0, 1)
    codes, _ = pd.factorize(pd.concat([asked["group"], happened["group"]], ignore_index=True))
    first, group = codes[: len(asked)] * span, codes[len(asked) :]
    order = np.lexsort([happened["time"], group])
    keys = (group * span + happened["time"].to_numpy() - low + 1)[order]
    start = np.searchsorted(keys, first)
    count = np.searchsorted(keys, first + asked["time"].to_numpy() - low + 1, side="right") - start
    sums = pd.Series(happened["value"].to_numpy(float)[order]).groupby(group[order]).cumsum().to_numpy()
    return count, np.where(count > 0, np.append(sums, 0.0)[start + count - 1], 0.0)


def _check_times(frame: pd.DataFrame, column: str, *, required: bool = False) -> None:
    if column not in frame.columns:
        raise ValueError(f"expected a datetime column {column!r}, got the columns {list(frame.columns)}")
    if not pd.api.types.is_datetime64_any_dtype(frame[column]):
        raise ValueError(f"expected datetimes in {column!r}, got {frame[column].dtype}; convert with pd.to_datetime")
    if required and frame[column].isna().any():
        raise ValueError(
            f"expected a time in every row of {column!r}, got {frame[column].isna().sum()} without; drop them"
        )
