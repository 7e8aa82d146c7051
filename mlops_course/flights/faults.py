"""Faults that could happen to the feeds of the case: what each is, without when, as options for `faults.schedule`."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["FAULTS"]

FAULTS: Sequence[Mapping[str, Any]] = (
    {"kind": "unit error", "column": "temp", "size": 1 / 1.8, "offset": -32 / 1.8},  # degrees F to C
    {"kind": "unit error", "column": "distance", "size": 1.609344},  # miles to km
    {"kind": "unit error", "column": "pressure", "size": 0.02953},  # hPa to inches of mercury
    {"kind": "unit error", "column": "visib", "size": 1.609344},  # miles to km
    {"kind": "unit error", "column": "scheduled_minutes", "size": 1 / 60},  # minutes to hours
    {"kind": "silent null", "column": "temp", "size": 1.0},
    {"kind": "silent null", "column": "seats", "size": 0.5},
    {"kind": "silent null", "column": "origin_departure_delay", "size": 1.0},
    {"kind": "silent null", "column": "wind_speed", "size": 0.5},
    {"kind": "stuck sensor", "column": "temp", "size": 57.0},
    {"kind": "stuck sensor", "column": "pressure", "size": 1018.0},
    {"kind": "stuck sensor", "column": "humid", "size": 60.0},
    {"kind": "stuck sensor", "column": "wind_speed", "size": 9.2},
    {"kind": "covariate shift", "column": "distance", "size": 0.8, "offset": 900.0},  # short flights go by train
    {"kind": "covariate shift", "column": "seats", "size": 0.8, "offset": 100.0},  # regional aircraft are grounded
    {"kind": "covariate shift", "column": "scheduled_minutes", "size": 0.8, "offset": 150.0},
    {"kind": "concept flip", "size": 0.6},  # more labels are turned round than not
    {"kind": "label outage", "size": 1.0},
    {"kind": "duplicated batch", "size": 1.0},
    {"kind": "clock skew", "column": "scheduled_departure", "size": 5.0},  # UTC for New York's clock
    {"kind": "clock skew", "column": "scheduled_departure", "size": -5.0},
)
