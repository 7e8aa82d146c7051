"""What the five raw tables must look like; DATA_CARD.md says which defects these rules find, and which they let pass.

A rule stops the batch if breaking it means that the batch is not what it claims to be. It sends rows to quarantine if
they cannot be true, and warns of what is true of this source and makes trouble later.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pandera.pandas as pa

from mlops_course.flights.timeline import HOME, _minutes

__all__ = ["schemas"]

YEAR = 2013
ORIGINS = ["EWR", "JFK", "LGA"]
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ONE_FLIGHT = ["year", "month", "day", "carrier", "flight", "origin", "sched_dep_time"]
LOCAL_HOUR = ["origin", "year", "month", "day", "hour"]
UTC_HOUR = pd.DatetimeTZDtype("us", "UTC")

DISTANCE = (1, 5_000)  # miles; from New York no domestic flight is longer than the 4,983 to Honolulu
DEPARTURE_DELAY = (-60, 2_880)  # minutes; nobody leaves an hour early, and after two days it is a cancellation
ARRIVAL_DELAY = (-180, 2_880)  # minutes; schedules have slack and the jet stream helps
GROUND_SPEED = (50, 800)  # miles per hour; slower cannot stay up, faster would need a tail wind of 200
USUAL_SPEED = (200, 600)  # of the median flight; it is 404 here, and 650 if distance is given in kilometres

# Weather is held against records, which leave room: NOAA's State Climate Extremes Committee gives -52 to 110 °F for New
# York and New Jersey; the strongest gust measured in the United States is 231 mph (Mount Washington, 1934); the worst
# hurricane at New York (1938) was of category 3, under 130 mph; pressure at sea level fell to 892 hPa in the Labor Day
# hurricane of 1935 and nowhere on Earth reached 1,090; the wettest hour on record brought 12 inches (Holt, 1947).
TEMPERATURE = (-60, 120)  # °F
WIND, GUST = (0, 150), (0, 231)  # miles per hour
PRESSURE = (880, 1_090)  # hPa
RAIN = (0, 12)  # inches in an hour
VISIBILITY = (0, 10)  # miles, the most that an automatic station reports
# Humidity follows from temperature and dew point by the Magnus formula (coefficients of Alduchov and Eskridge 1996), if
# both are in the unit they claim. The median gap is 0.02 points here, and 10 if both are in °C.
MAGNUS, MAGNUS_CELSIUS, USUAL_HUMIDITY_GAP = 17.625, 243.04, 1.0

AIRLINER_SEATS = 20  # fewer: a private aircraft whose registration looks like an airline's fleet number
MISSING_TAIL_NUMBERS, CANCELLED = 0.01, 0.05  # shares that a month seldom exceeds
MOSTLY, SILENT = 0.5, 0.9  # shares; pressure, the sensor with most gaps, misses up to 0.58 of a day
QUARANTINE = {"severity": "quarantine"}
Rule = tuple[str, str, Callable[[pd.DataFrame], pd.Series | bool]]  # severity, name, and whether it holds


def schemas() -> dict[str, pa.DataFrameSchema]:
    """The schema of each raw table, by name."""
    west = pa.Check.lt(0, name="west of Greenwich", raise_warning=True)  # true of all but the outermost Aleutians
    airports = {
        "faa": pa.Column(str, unique=True),
        "name": pa.Column(str),
        "lat": pa.Column(float, _between(-90, 90)),
        "lon": pa.Column(float, [_between(-180, 180), west]),
        "alt": pa.Column(int, _between(-300, 15_000)),  # feet
        "tz": pa.Column(int, _between(-12, 14)),
        "dst": pa.Column(str, pa.Check.isin(["A", "N", "U"])),
        "tzone": pa.Column(str, metadata={"severity": "warn"}),
    }
    airliner = pa.Check.ge(AIRLINER_SEATS, name="seats of an airliner", raise_warning=True)
    planes = {
        "tailnum": pa.Column(str, unique=True),
        "year": pa.Column(float, _between(1903, YEAR), nullable=True, metadata=QUARANTINE),
        **dict.fromkeys(["type", "manufacturer", "model", "engine"], pa.Column(str)),
        "engines": pa.Column(int, _between(1, 8)),
        "seats": pa.Column(int, [_between(1, 853), airliner]),
        "speed": pa.Column(float, nullable=True),
    }
    return {
        "flights": _flights(),
        "weather": _weather(),
        "airlines": pa.DataFrameSchema({"carrier": pa.Column(str, unique=True), "name": pa.Column(str)}),
        "airports": pa.DataFrameSchema(airports),
        "planes": pa.DataFrameSchema(planes),
    }


def _flights() -> pa.DataFrameSchema:
    return _table(
        {
            **_calendar(),
            "minute": pa.Column(int, _between(0, 59)),
            "sched_dep_time": pa.Column(int, _clock()),
            "sched_arr_time": pa.Column(int, _clock()),
            "dep_time": pa.Column(float, [_clock(), _missing(CANCELLED)], nullable=True, metadata=QUARANTINE),
            "arr_time": pa.Column(float, _clock(), nullable=True, metadata=QUARANTINE),
            "dep_delay": _measured(DEPARTURE_DELAY),
            "arr_delay": _measured(ARRIVAL_DELAY),
            "air_time": _measured((1, 1_440)),
            "carrier": pa.Column(str, pa.Check.isin(CARRIERS, name="a known carrier"), metadata=QUARANTINE),
            "flight": pa.Column(int, _between(1, 9_999)),
            "tailnum": pa.Column(str, _missing(MISSING_TAIL_NUMBERS), nullable=True),
            "dest": pa.Column(str, pa.Check.str_matches("^[A-Z]{3}$", name="three letters")),
            "distance": pa.Column(int, _between(*DISTANCE), metadata=QUARANTINE),
        },
        unique=ONE_FLIGHT,
        rules=[
            ("stop", "sched_dep_time, hour, minute: tell one time", _schedule_agrees),
            ("stop", "time_hour, year, month, day, hour: tell one hour", _local_hour_agrees),
            ("quarantine", "dep_time, dep_delay: missing together", _missing_together("dep_time", "dep_delay")),
            ("quarantine", "air_time, arr_delay: missing together", _missing_together("air_time", "arr_delay")),
            ("quarantine", "dep_delay, dep_time, sched_dep_time: agree", lambda t: _delay_agrees(t, "dep")),
            ("quarantine", "arr_delay, arr_time, sched_arr_time: agree", lambda t: _delay_agrees(t, "arr")),
            ("quarantine", "distance, air_time: a possible speed", lambda t: _within(_speed(t), GROUND_SPEED)),
            ("stop", "distance, air_time: a usual speed", lambda t: _usual(_speed(t), USUAL_SPEED)),
        ],
    )


def _weather() -> pa.DataFrameSchema:
    return _table(
        {
            **_calendar(),
            "temp": _observed(TEMPERATURE),
            "dewp": _observed(TEMPERATURE),
            "humid": _observed((0, 100)),
            "wind_dir": _observed((0, 360)),
            "wind_speed": _observed(WIND),
            "wind_gust": pa.Column(float, [_between(*GUST), _missing(MOSTLY)], nullable=True, metadata=QUARANTINE),
            "precip": _observed(RAIN),
            "pressure": _observed(PRESSURE),
            "visib": _observed(VISIBILITY),
        },
        unique=["origin", "time_hour"],
        rules=[
            ("stop", "time_hour, year, month, day, hour: tell one hour", _local_hour_agrees),
            ("warn", "origin, year, month, day, hour: occur once", lambda t: ~t.duplicated(LOCAL_HOUR, keep=False)),
            ("quarantine", "temp, dewp: dew point is not above", lambda t: ~(t["dewp"] > t["temp"])),
            ("quarantine", "wind_speed, wind_gust: gusts are not below", lambda t: ~(t["wind_gust"] < t["wind_speed"])),
            ("stop", "temp, dewp, humid: usually agree", lambda t: _usual(_humidity_gap(t), (0, USUAL_HUMIDITY_GAP))),
        ],
    )


def _calendar() -> dict[str, pa.Column]:
    """The columns that say where and when, in flights and weather alike."""
    return {
        "origin": pa.Column(str, pa.Check.isin(ORIGINS, name="a New York airport")),
        "year": pa.Column(int, pa.Check.eq(YEAR, name=f"the year {YEAR}")),
        "month": pa.Column(int, _between(1, 12)),
        "day": pa.Column(int, _between(1, 31)),
        "hour": pa.Column(int, _between(0, 23)),
        "time_hour": pa.Column(UTC_HOUR),
    }


def _measured(bounds: tuple[float, float]) -> pa.Column:
    """What is not known of a flight that was cancelled or diverted."""
    return pa.Column(float, _between(*bounds), nullable=True, metadata=QUARANTINE)


def _observed(bounds: tuple[float, float]) -> pa.Column:
    """A reading of a weather station: impossible values go to quarantine, a sensor that fell silent stops the batch."""
    within, silent = _between(*bounds), _missing(SILENT, warn=False)
    return pa.Column(float, [within, silent], nullable=True, metadata={"severity": {within.name: "quarantine"}})


def _table(columns: dict[str, pa.Column], *, unique: list[str], rules: list[Rule]) -> pa.DataFrameSchema:
    """A table with rules that compare columns. Each rule decides for itself what a missing value means."""
    checks = [
        pa.Check(holds, name=name, ignore_na=False, raise_warning=severity == "warn") for severity, name, holds in rules
    ]
    aside = {name: severity for severity, name, _ in rules if severity == "quarantine"}
    return pa.DataFrameSchema(columns, checks=checks, unique=unique, metadata={"severity": aside})


def _between(low: float, high: float) -> pa.Check:
    return pa.Check.in_range(low, high, name=f"between {low:,} and {high:,}")


def _missing(most: float, *, warn: bool = True) -> pa.Check:
    """Counts the missing values, but only if they are more than a share of all."""
    how = {"name": f"at most {most:.0%} missing", "ignore_na": False, "raise_warning": warn}
    return pa.Check(lambda values: values.notna() | (values.isna().mean() <= most), **how)


def _clock() -> pa.Check:
    """Hours and minutes as one number: 517 is 5:17, and midnight is 2400 in some rows."""
    return pa.Check(lambda values: values.between(0, 2400) & (values % 100 < 60), name="clock time 0 to 2400")


def _schedule_agrees(flights: pd.DataFrame) -> pd.Series:
    return flights["hour"] * 100 + flights["minute"] == flights["sched_dep_time"]


def _local_hour_agrees(rows: pd.DataFrame) -> pd.Series:
    """Across both changes of the clock: in the hour that occurs twice, either instant will do."""
    local = rows["time_hour"].dt.tz_convert(HOME).dt
    told = [getattr(local, part) == rows[part] for part in ("year", "month", "day", "hour")]
    return pd.concat(told, axis="columns").all(axis="columns")


def _missing_together(one: str, other: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda flights: flights[one].isna() == flights[other].isna()


def _delay_agrees(flights: pd.DataFrame, end: str) -> pd.Series:
    """Actual minus scheduled time is the delay, but for whole days, which clock times do not tell."""
    took = _minutes(flights[f"{end}_time"]) - _minutes(flights[f"sched_{end}_time"])
    return ((took - flights[f"{end}_delay"]) % 1_440).isin([0, np.nan])


def _speed(flights: pd.DataFrame) -> pd.Series:
    return flights["distance"] / (flights["air_time"] / 60)


def _humidity_gap(weather: pd.DataFrame) -> pd.Series:
    """Points between the humidity that is reported and the one that temperature and dew point imply."""
    temperature, dew_point = ((weather[column] - 32) / 1.8 for column in ("temp", "dewp"))
    ratio = MAGNUS * (dew_point / (MAGNUS_CELSIUS + dew_point) - temperature / (MAGNUS_CELSIUS + temperature))
    return (100 * np.exp(ratio) - weather["humid"]).abs()


def _within(values: pd.Series, bounds: tuple[float, float]) -> pd.Series:
    return values.between(*bounds) | values.isna()


def _usual(values: pd.Series, bounds: tuple[float, float]) -> bool:
    """Whether the median is within bounds, which a wrong unit is not; without values there is nothing to say."""
    return bool(values.isna().all() or bounds[0] <= values.median() <= bounds[1])
