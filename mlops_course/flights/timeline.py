"""When each fact about a flight became known: the clock columns turned into instants, across zones and clock changes.

The tables hold local wall clocks: departures in New York's, arrivals in the destination's. `instants` turns them into
UTC, and `known_columns` says which of them each column had to wait for. What the source does not record is assumed
here, and only here:

    timetable       known all the time, and so is the aircraft that is assigned (tailnum)
    departure       known when the aircraft leaves the gate
    arrival, label  known when it reaches the gate; a cancelled or diverted flight never gets a label
    weather         known an hour after the hour it is filed under (the stations report once within it)
"""

import pandas as pd

from mlops_course.development import data

__all__ = ["WEATHER_DELAY", "instants", "tables_as_of"]

HOME = "America/New_York"
WEATHER_DELAY = pd.Timedelta("1h")
CARIBBEAN = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico",
             "STT": "America/St_Thomas"}  # destinations that the airports table lacks  # fmt: skip
AT_DEPARTURE = ("dep_time", "dep_delay")
AT_ARRIVAL = ("arr_time", "arr_delay", "air_time")


def instants(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """What the clocks mean, one row a flight: four columns, indexed like `flights`.

    `scheduled_departure`, `departed`, `arrived` (UTC instants; missing if it did not depart, or not arrive at its
    destination) and `scheduled_minutes` (gate to gate, from the timetable and the two time zones).
    Raises ValueError for a destination whose time zone is not known.
    """
    scheduled = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    zones = flights["dest"].map({**airports.set_index("faa")["tzone"].dropna(), **CARIBBEAN})
    if zones.isna().any():
        unknown = sorted(flights.loc[zones.isna(), "dest"].unique())
        raise ValueError(f"expected a time zone (airports.tzone) for each destination, got none for {unknown}")
    local_minutes = _minutes(flights["sched_arr_time"]) - _minutes(flights["sched_dep_time"])
    minutes = (local_minutes - _ahead_of_home(scheduled, zones)) % (24 * 60)
    return pd.DataFrame(
        {
            "scheduled_departure": scheduled,
            "departed": scheduled + pd.to_timedelta(flights["dep_delay"], unit="min"),
            "arrived": scheduled + pd.to_timedelta(minutes + flights["arr_delay"], unit="min"),
            "scheduled_minutes": minutes,
        }
    )


def tables_as_of(tables: dict[str, pd.DataFrame], instant: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """The raw tables as somebody saw them at `instant` (with a time zone): what came later is missing.

    The timetable stays whole; departures, arrivals and delays are masked until they happened, and weather rows appear
    an hour after the hour that they describe. Raises ValueError if `instant` has no time zone.
    """
    flights, weather = tables["flights"], tables["weather"]
    stamped = pd.concat([flights, instants(flights, tables["airports"])], axis=1)
    available = dict.fromkeys(AT_DEPARTURE, "departed") | dict.fromkeys(AT_ARRIVAL, "arrived")
    seen = data.known_at(stamped, instant, available=available)[list(flights.columns)]
    return {**tables, "flights": seen, "weather": weather[weather["time_hour"] + WEATHER_DELAY <= instant]}


def _minutes(clock: pd.Series) -> pd.Series:
    """Minutes after midnight of a clock written as a number, 517 for 5:17."""
    return clock // 100 * 60 + clock % 100


def _ahead_of_home(instant: pd.Series, zones: pd.Series) -> pd.Series:
    """By how many minutes each zone's wall clock is ahead of New York's at that instant."""
    home = instant.dt.tz_convert(HOME).dt.tz_localize(None)
    parts = [
        (part.dt.tz_convert(zone).dt.tz_localize(None) - home[part.index]).dt.total_seconds() / 60
        for zone, part in instant.groupby(zones)
    ]
    return pd.concat(parts).reindex(instant.index)
