"""Features of a flight as of two hours before its scheduled departure.

`build` looks up what the desk could see at the time of each prediction. `derive` turns a row of that into numbers that
a model likes; it needs nothing but the row, so it travels inside the model.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mlops_course.development import features
from mlops_course.flights.timeline import HOME, WEATHER_DELAY, instants

__all__ = ["LATE_MINUTES", "LEAD", "build", "derive"]

LEAD = pd.Timedelta("2h")  # the desk asks so long before the scheduled departure
LATE_MINUTES = 15  # a flight is late if it arrives more minutes than this after its schedule
WINDOW = pd.Timedelta("3h")  # "recent" means so far back from the prediction
OLDEST_WEATHER = pd.Timedelta("6h")  # an older observation says nothing about the departure
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
REPLACED = {"scheduled_departure", "aircraft_year", "wind_dir"}  # by what is derived from them
THURSDAY = 3  # the weekday of 1970-01-01, where Monday is 0
TIMETABLE = ["carrier", "origin", "dest", "distance"]


def build(tables: dict[str, pd.DataFrame], *, lead: pd.Timedelta = LEAD) -> pd.DataFrame:
    """One row a flight: id, batch, prediction time, the inputs as known then, label time and label.

    A flight's recent past is looked for in the same `tables`, so give the batch before as well. Times are UTC,
    `scheduled_departure` is New York's wall clock. `late` is missing where the flight never arrived at its destination.
    """
    flights = tables["flights"]
    times = instants(flights, tables["airports"])
    known = pd.concat([flights, times], axis=1)
    known["prediction_time"] = known["scheduled_departure"] - lead
    known["arrived_late"] = (flights["arr_delay"] > LATE_MINUTES).astype(float).where(flights["arr_delay"].notna())
    return pd.concat(
        [
            _names(flights),
            known["prediction_time"],
            known["scheduled_departure"].dt.tz_convert(HOME).dt.tz_localize(None),
            known[[*TIMETABLE, "scheduled_minutes"]].astype({"distance": float}),
            _aircraft(flights["tailnum"], tables["planes"]),
            _weather(known, tables["weather"]),
            _traffic(known),
            known["arrived"].rename("label_time"),
            known["arrived_late"].rename("late"),
        ],
        axis=1,
    )


@features.on_arrays
def derive(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Features from inputs, row by row, with no state: clock, age of the aircraft, wind as a vector.

    `wind_dir` is where the wind comes from, in degrees clockwise from north; a calm has no direction.
    """
    departure = inputs["scheduled_departure"].astype("datetime64[m]")
    unknown, day = np.isnat(departure), departure.astype("datetime64[D]")
    minutes = (departure - day).astype(int)
    angle, speed = np.deg2rad(inputs["wind_dir"].astype(float)), inputs["wind_speed"].astype(float)
    calm = speed == 0
    return {name: values for name, values in inputs.items() if name not in REPLACED} | {
        "hour": np.where(unknown, np.nan, minutes // 60 + minutes % 60 / 60),
        "weekday": np.where(unknown, np.nan, (day.astype(int) + THURSDAY) % 7),
        "aircraft_age": np.where(unknown, np.nan, 1970 + day.astype("datetime64[Y]").astype(int))
        - inputs["aircraft_year"],
        "wind_east": np.where(calm, 0.0, speed * np.sin(angle)),
        "wind_north": np.where(calm, 0.0, speed * np.cos(angle)),
    }


def _names(flights: pd.DataFrame) -> pd.DataFrame:
    date = (flights["year"] * 10_000 + flights["month"] * 100 + flights["day"]).astype(str)
    number = flights["carrier"] + flights["flight"].astype(str)
    clock = flights["sched_dep_time"].astype(str).str.zfill(4)
    ids = date + "-" + clock + "-" + number + "-" + flights["origin"]
    return pd.DataFrame({"id": ids, "batch": date.str[:4] + "-" + date.str[4:6]})


def _aircraft(tailnum: pd.Series, planes: pd.DataFrame) -> pd.DataFrame:
    registry = planes.set_index("tailnum")
    return pd.DataFrame(
        {"aircraft_year": tailnum.map(registry["year"]), "seats": tailnum.map(registry["seats"]).astype(float)}
    )


def _weather(known: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    observed = weather.assign(available=weather["time_hour"] + WEATHER_DELAY)
    seen = features.as_of(known, observed, at="prediction_time", available="available", by="origin",
                          columns=WEATHER, max_age=OLDEST_WEATHER)  # fmt: skip
    return seen.rename(columns={"age": "weather_age_minutes"})


def _traffic(known: pd.DataFrame) -> pd.DataFrame:
    """How the last hours went: departures and delays at the origin and of the carrier, arrivals at the destination."""

    def recently(value: str, available: str, by: str) -> pd.DataFrame:
        return features.recent(
            known, known, at="prediction_time", available=available, window=WINDOW, by=by, value=value
        )

    departures = recently("dep_delay", "departed", by="origin")
    give_up = known["scheduled_departure"] + WINDOW  # who has not left by then has most likely been cancelled
    waiting = known.assign(until=known["departed"].fillna(give_up).clip(upper=give_up))
    return pd.DataFrame(
        {
            "origin_departures": departures["count"].astype(float),
            "origin_departure_delay": departures["mean"],
            "origin_overdue": features.in_progress(
                known, waiting, at="prediction_time", start="scheduled_departure", end="until", by="origin"
            ).astype(float),
            "origin_late_arrivals": recently("arrived_late", "arrived", by="origin")["mean"],
            "carrier_departure_delay": recently("dep_delay", "departed", by="carrier")["mean"],
            "dest_arrival_delay": recently("arr_delay", "arrived", by="dest")["mean"],
        }
    )
