"""Windows of time, so that each row belongs to one."""

import pandas as pd

MONDAY = pd.Timestamp("1970-01-05")  # windows of whole weeks then start on Mondays, and windows of days at midnight


def windows(times: pd.Series, *, width: pd.Timedelta, origin: pd.Timestamp | None = None) -> pd.Series:
    """Return the start of each row's window; window k is [origin + k × width, origin + (k + 1) × width).

    So every row is in exactly one window, the oldest and the newest included, and which one does not depend on what
    other rows there are. `origin` is a Monday at midnight unless given, in UTC or naive as `times` are. Windows are
    equally long: where clocks change, a window of a day is not a calendar day. Returns a Series like `times`.

    Raises TypeError if `times` are not times, ValueError if one is missing or `width` is not positive.
    """
    if not pd.api.types.is_datetime64_any_dtype(times):
        raise TypeError(f"expected times as datetime64, got {times.dtype}; convert them with pandas.to_datetime")
    if times.isna().any():
        raise ValueError(f"{int(times.isna().sum())} rows have no time, so no window; leave them out knowingly")
    if not (width := pd.Timedelta(width)) > pd.Timedelta(0):
        raise ValueError(f"expected a positive width of windows, got {width}")
    aware = times.dt.tz is not None
    start = (MONDAY.tz_localize("UTC") if aware else MONDAY) if origin is None else pd.Timestamp(origin)
    if aware != (start.tzinfo is not None):
        raise TypeError(f"times and origin must both have a time zone or neither; got {times.dtype} and {start}")
    return ((times - start) // width) * width + start
