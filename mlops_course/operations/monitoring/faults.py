"""Faults put into a stream of predictions on purpose, to measure what notices them.

    KINDS       the kinds of fault there are
    Fault       one of them: its kind, start and end, the column, and how much
    inject      a copy of a prediction frame with faults in it
    schedule    faults drawn at random, one after the other, with quiet times between them

Where the truth is known, monitoring can be scored. The faults are those that happen to real feeds:

    unit error        a column comes in another unit: size × value + offset
    silent null       a share of a column is missing, without an error anywhere
    stuck sensor      a column keeps the last value it had before
    covariate shift   most rows with small values of a column stay away; the others are unchanged
    concept flip      for a share of rows the label is the opposite; the inputs are unchanged
    label outage      rows of this time never get a label
    duplicated batch  rows come a second time, under another id
    clock skew        clock columns are off by some hours

>>> rows = pd.DataFrame({"id": ["a", "b"], "time": pd.to_datetime(["2013-01-01T08:00Z", "2013-01-02T08:00Z"]),
...                      "known": pd.to_datetime(["2013-01-01T12:00Z", "2013-01-02T12:00Z"]),
...                      "temp": [50.0, 50.0], "late": [0.0, 1.0]})
>>> celsius = Fault("unit error", "2013-01-02", "2013-01-09", column="temp", size=1 / 1.8, offset=-32 / 1.8)
>>> inject(rows, [celsius], time="time", label="late", label_time="known", seed=0)["temp"].tolist()
[50.0, 10.0]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["KINDS", "Fault", "inject", "schedule"]

KINDS = (
    "unit error",
    "silent null",
    "stuck sensor",
    "covariate shift",
    "concept flip",
    "label outage",
    "duplicated batch",
    "clock skew",
)
OF_A_COLUMN = ("unit error", "silent null", "stuck sensor", "covariate shift", "clock skew")
OF_A_SHARE = ("silent null", "covariate shift", "concept flip", "duplicated batch", "label outage")
FAULT_DAYS, QUIET_DAYS = (5, 10), (21, 28)  # of a schedule: bounds, both included
REPEATED = "-again"  # ends the id of a row that came a second time


@dataclass(frozen=True)
class Fault:
    """A fault from `start` to `end` (UTC, the end not included), in plain values that survive JSON.

    `size` is the share of values or rows; of a stuck sensor the value that it shows, of a clock skew hours. A unit
    error makes a value size × value + offset; a covariate shift leaves out rows whose value is below `offset`.

    Raises ValueError that names the wrong field.
    """

    kind: str
    start: str
    end: str
    column: str = ""
    size: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {KINDS}, got {self.kind!r}")
        for name in ("start", "end"):
            moment = pd.Timestamp(getattr(self, name))
            moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
            object.__setattr__(self, name, moment.isoformat())
        if not pd.Timestamp(self.start) < pd.Timestamp(self.end):
            raise ValueError(f"end: expected a moment after the start {self.start}, got {self.end}")
        if (self.kind in OF_A_COLUMN) != bool(self.column):
            wanted = "the name of a column" if self.kind in OF_A_COLUMN else "no column"
            raise ValueError(f"column: expected {wanted} for {self.kind!r}, got {self.column!r}")
        if self.kind in OF_A_SHARE and not 0 < self.size <= 1:
            raise ValueError(f"size: expected a share over 0 and up to 1 for {self.kind!r}, got {self.size}")
        if not np.isfinite([self.size, self.offset]).all():
            raise ValueError(f"size and offset: expected finite numbers, got {self.size} and {self.offset}")

    def covers(self, times: pd.Series) -> np.ndarray:
        """Return whether each moment lies within the fault."""
        return ((times >= pd.Timestamp(self.start)) & (times < pd.Timestamp(self.end))).to_numpy()


def inject(
    rows: pd.DataFrame,
    faults: Sequence[Fault | Mapping[str, Any]],
    *,
    time: str,
    label: str,
    label_time: str,
    seed: int,
) -> pd.DataFrame:
    """Copy a prediction frame and put faults into it, in the order given; rows outside of a fault do not change.

    `time`, `label` and `label_time` name the columns that say when a row was asked, its label (0, 1 or missing) and
    when that came; a column called id names each row. Which rows a fault of a share takes depends on their ids and
    `seed` alone, so a frame that is cut into batches comes out the same. A column of numbers with a fault holds floats.

    Raises ValueError if a fault names a column that is not there or of the wrong kind.
    """
    result = rows.reset_index(drop=True)
    for number, fault in enumerate(faults):
        fault = fault if isinstance(fault, Fault) else Fault(**fault)
        column = _column(result, fault) if fault.column else None
        within = fault.covers(result[time])
        drawn = within & (_chance(result["id"], f"{seed} {number}") < fault.size)
        match fault.kind:
            case "unit error":
                result = result.assign(**{fault.column: column.mask(within, column * fault.size + fault.offset)})
            case "silent null":
                result = result.assign(**{fault.column: column.mask(drawn, np.nan)})
            case "stuck sensor":
                result = result.assign(**{fault.column: column.mask(within, fault.size)})
            case "clock skew":
                later = (column + pd.Timedelta(hours=fault.size)).astype(column.dtype)
                result = result.assign(**{fault.column: column.mask(within, later)})
            case "covariate shift":
                small = (column < fault.offset).to_numpy()
                result = result[~(drawn & small)].reset_index(drop=True)
            case "concept flip":
                result = result.assign(**{label: result[label].mask(drawn, 1 - result[label])})
            case "label outage":
                result = result.assign(**{column: result[column].mask(drawn) for column in (label, label_time)})
            case "duplicated batch":
                again = result[drawn]
                again = again.assign(id=again["id"] + REPEATED)
                result = pd.concat([result, again]).sort_index(kind="stable").reset_index(drop=True)
    return result


def _chance(ids: pd.Series, salt: str) -> np.ndarray:
    """A number in [0, 1) for each id, made from its hash: the same in every frame."""
    hashes = pd.util.hash_array((salt + ":" + ids.astype(str)).to_numpy(object), categorize=False)
    return (hashes >> np.uint64(11)).astype(float) / 2**53


def _column(rows: pd.DataFrame, fault: Fault) -> pd.Series:
    """The column of a fault: times for a clock skew, numbers as floats for all others."""
    if fault.column not in rows.columns:
        raise ValueError(f"expected one of {[*rows]} as the column of {fault.kind!r}, got {fault.column!r}")
    values, skew = rows[fault.column], fault.kind == "clock skew"
    if not (pd.api.types.is_datetime64_any_dtype if skew else pd.api.types.is_numeric_dtype)(values):
        wanted = "a column of times" if skew else "numbers"
        raise ValueError(f"expected {wanted} for {fault.kind!r}, got {values.dtype} in {fault.column!r}")
    return values if skew else values.astype(float)


def schedule(options: Sequence[Mapping[str, Any]], *, start: pd.Timestamp, end: pd.Timestamp, seed: int) -> list[Fault]:
    """Draw faults from `options` between two moments, one after the other; all kinds come before one comes again.

    An option is a fault without start and end. A fault lasts 5 to 10 days, and 21 to 28 quiet days come before it.
    The same seed gives the same schedule.

    Raises ValueError if there is no option.
    """
    if not options:
        raise ValueError("expected at least one option to draw faults from, got none")
    rng = np.random.default_rng(seed)
    kinds = list(dict.fromkeys(option["kind"] for option in options))
    drawn, order = [], []
    draw = lambda bounds: pd.Timedelta(days=int(rng.integers(*bounds, endpoint=True)))  # noqa: E731
    begin = start + draw(QUIET_DAYS)
    while True:
        order = order or [str(kind) for kind in rng.permutation(kinds)]
        kind = order.pop()
        choices = [option for option in options if option["kind"] == kind]
        until = begin + draw(FAULT_DAYS)
        if until > end:
            return drawn
        choice = choices[int(rng.integers(len(choices)))]
        drawn.append(Fault(**choice, start=begin.isoformat(), end=until.isoformat()))
        begin = until + draw(QUIET_DAYS)
