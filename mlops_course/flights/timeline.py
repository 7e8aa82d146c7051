"""The raw tables of the case, one batch a month, and when each fact in them became known.

DATA_CARD.md says what is wrong with the tables. They hold local wall clocks, departures in New York's and arrivals in
the destination's; `instants` turns them into UTC. What the source does not record is assumed here, and only here:

    timetable       known all the time, and so is the aircraft that is assigned (tailnum)
    departure       known when the aircraft leaves the gate
    arrival, label  known when it reaches the gate; a cancelled or diverted flight never gets a label
    weather         known an hour after the hour it is filed under (the stations report once within it)
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from mlops_course.development import data

__all__ = ["SPECIFICATION", "WEATHER_DELAY", "batches", "files", "instants", "read", "tables_as_of"]

SPECIFICATION = Path(__file__).parent / "specification.yaml"
DATA = Path(__file__).parent / "data"
REFERENCES = ("airlines", "airports", "planes")
HOME = "America/New_York"
WEATHER_DELAY = pd.Timedelta("1h")
CARIBBEAN = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico",
             "STT": "America/St_Thomas"}  # destinations that the airports table lacks  # fmt: skip
AT_DEPARTURE = ("dep_time", "dep_delay")
AT_ARRIVAL = ("arr_time", "arr_delay", "air_time")


def batches() -> list[str]:
    """The months there are, in order: "2013-01" to "2013-12"."""
    return sorted(path.stem.removeprefix("flights_") for path in DATA.glob("flights_*.parquet"))


def files(names: Sequence[str]) -> list[Path]:
    """The Parquet files that `read(names)` reads. Raises ValueError for an unknown batch."""
    unknown = sorted(set(names) - set(batches()))
    if unknown or not names:
        raise ValueError(f"expected batches out of {batches()}, got {unknown or list(names)}")
    months = [DATA / f"flights_{name}.parquet" for name in sorted(set(names))]
    return [*months, *(DATA / f"{table}.parquet" for table in ("weather", *REFERENCES))]


def read(names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Raw tables of some months: flights and weather of those months, airlines, airports and planes whole.

    Raises ValueError with the name of a file that cannot be read, or holds the flights of another month.
    """
    tables = {path.stem: _read(path) for path in files(names)}
    months = [_of_month(tables.pop(f"flights_{name}"), name) for name in sorted(set(names))]
    weather = tables["weather"]
    chosen = weather["month"].isin([int(name[5:]) for name in names])
    tables["weather"] = weather[chosen].reset_index(drop=True)
    return {"flights": pd.concat(months, ignore_index=True), **tables}


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
        months = sorted(set(flights.loc[zones.isna(), "time_hour"].dt.tz_convert(HOME).dt.strftime("%Y-%m")))
        raise ValueError(
            f"expected a time zone (airports.tzone) for each destination, got none for {unknown} in "
            f"{', '.join(months)}; correct the destinations and send these flights again, or add the airports"
        )
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
    """The raw tables as somebody saw them at `instant`: departures, arrivals and weather that came later are missing.

    The timetable stays whole. Raises ValueError if `instant` has no time zone.
    """
    flights, weather = tables["flights"], tables["weather"]
    stamped = pd.concat([flights, instants(flights, tables["airports"])], axis=1)
    available = dict.fromkeys(AT_DEPARTURE, "departed") | dict.fromkeys(AT_ARRIVAL, "arrived")
    seen = data.known_at(stamped, instant, available=available)[list(flights.columns)]
    return {**tables, "flights": seen, "weather": weather[weather["time_hour"] + WEATHER_DELAY <= instant]}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"expected a whole Parquet file in {path.name}, got {told}; send this file again") from error


def _of_month(flights: pd.DataFrame, name: str) -> pd.DataFrame:
    """The flights as they are, unless they are whole and of another month; what else is wrong, the schema says."""
    months = set(flights["month"].unique()) if "month" in flights else set()
    if months - {int(name[5:])} and months <= set(range(1, 13)):
        raise ValueError(
            f"expected flights of month {int(name[5:])} in flights_{name}.parquet, got months "
            f"{sorted(map(int, months))}; send this file again"
        )
    return flights


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
