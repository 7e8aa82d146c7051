"""Sound models and broken ones, for tests that need no labels: functions from a table of questions to probabilities."""

from collections.abc import Callable

import numpy as np
import pandas as pd

__all__ = ["BROKEN", "SOUND", "other_each_time"]


def _base(rows: pd.DataFrame) -> np.ndarray:
    delay = rows["inbound_delay"].fillna(5.0).to_numpy()
    hour = rows["hour"].to_numpy() / 23
    carrier = rows["carrier"].map({"UA": 0.1, "AA": -0.1}).fillna(0.0).to_numpy()
    return 1 / (1 + np.exp(2.2 - 0.02 * delay - 1.2 * hour - carrier))


def _steps(rows: pd.DataFrame) -> np.ndarray:
    delay = rows["inbound_delay"].fillna(-99).to_numpy()
    return np.select([delay > 45, delay > 10, rows["hour"].to_numpy() > 17], [0.7, 0.4, 0.3], 0.1)


def _stormy(rows: pd.DataFrame) -> np.ndarray:
    return 0.6 + 0.35 * _base(rows)


def _changes_the_table(rows: pd.DataFrame) -> np.ndarray:
    rows["inbound_delay"] = rows["inbound_delay"].fillna(5.0)
    return _base(rows)


def _stops_at_an_unknown_carrier(rows: pd.DataFrame) -> np.ndarray:
    unknown = set(rows["carrier"]) - {"UA", "AA"}
    if unknown:
        raise KeyError(f"no such carrier: {unknown}")
    return _base(rows)


def other_each_time() -> Callable[[pd.DataFrame], np.ndarray]:
    """A model that draws a little noise for each question."""
    random = np.random.default_rng(4)
    return lambda rows: np.clip(_base(rows) + random.normal(0, 0.01, len(rows)), 0, 1)


def _sure(rows: pd.DataFrame) -> np.ndarray:
    return np.where(rows["inbound_delay"] > 50, 1.0, np.where(rows["inbound_delay"] < 0, 0.0, 0.3))


def _calm(rows: pd.DataFrame, *, fall: float) -> np.ndarray:
    return 0.2 + 0.01 * rows["hour"].to_numpy() - fall * (rows["inbound_delay"] > 30).to_numpy()


SOUND = {
    "a model of steps, which says the same of many rows": _steps,
    "a model that says 0 or 1 now and then": _sure,
    "a model that answers with a list": lambda rows: _base(rows).tolist(),
    "a smooth model": _base,
    "a model for stormy days": _stormy,
    "a model that falls by 0.0000005 at most": lambda rows: _calm(rows, fall=5e-7),
}
BROKEN: dict[str, Callable[[pd.DataFrame], object]] = {
    "says more than 1 for late aircraft": lambda rows: 2.5 * _base(rows),
    "says less than 0 at night": lambda rows: _base(rows) - 0.2,
    "says nothing where the delay is missing": lambda rows: np.where(rows["inbound_delay"].isna(), np.nan, _base(rows)),
    "says less when the aircraft is later": lambda rows: 1 - _base(rows.assign(hour=23 - rows["hour"])),
    "says less from an hour of delay on": lambda rows: np.where(rows["inbound_delay"] > 70, 0.01, _base(rows)),
    "says the same of all rows": lambda rows: np.full(len(rows), 0.25),
    "compares each row with its batch": lambda rows: (
        _base(rows) / max(1.0, 1.01 * _base(rows).max() / _base(rows).mean())
    ),
    "answers in another order": lambda rows: np.sort(_base(rows)),
    "knows the crew": lambda rows: _base(rows) * np.where(rows["crew"].str.startswith("f"), 1.0, 0.9),
    "changes the table that it was handed": _changes_the_table,
    "raises an error at an unknown carrier": _stops_at_an_unknown_carrier,
    "raises an error where the delay is missing": lambda rows: _base(rows.astype({"inbound_delay": int})),
    "answers one row too few": lambda rows: _base(rows)[1:],
    "answers one row too many": lambda rows: np.append(_base(rows), 0.5),
    "says 0.003 more if it is asked alone": lambda rows: 0.9 * _base(rows) + 0.003 * (len(rows) == 1),
    "says 0.0005 less from half an hour of delay on": lambda rows: _calm(rows, fall=5e-4),
    "says less when the aircraft of an unknown carrier is later": lambda rows: np.where(
        rows["carrier"].isin(["UA", "AA"]), _base(rows), 1 - _base(rows)
    ),
    "says less when the aircraft is later in the evening": lambda rows: np.where(
        rows["hour"] > 17, 1 - _base(rows), _base(rows)
    ),
}
