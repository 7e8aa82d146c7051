"""The schema of the running case passes every real month and rejects broken ones; its data card cannot lie."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlops_course
from mlops_course.development import validation
from mlops_course.flights.schema import schemas

FLIGHTS = Path(mlops_course.__file__).parent / "flights"
CARD = (FLIGHTS / "DATA_CARD.md").read_text(encoding="utf-8")
MONTHS = range(1, 13)


@pytest.fixture(scope="module")
def tables():
    """The whole year; no test changes it."""
    year = [pd.read_parquet(path) for path in sorted((FLIGHTS / "data").glob("flights_*.parquet"))]
    names = ("weather", "airlines", "airports", "planes")
    references = {name: pd.read_parquet(FLIGHTS / "data" / f"{name}.parquet") for name in names}
    return {"flights": pd.concat(year, ignore_index=True), **references}


def month(tables, number):
    dated = {name: tables[name][tables[name]["month"] == number] for name in ("flights", "weather")}
    return {**tables, **dated}


@pytest.fixture(scope="module")
def april(tables):
    return month(tables, 4)


def broken(report):
    """Table, columns, rule and severity of what is more than a warning."""
    grave = report.findings[report.findings["severity"] != "warn"]
    return set(grave[["table", "column", "rule", "severity"]].itertuples(index=False, name=None))


def test_the_year_passes_but_for_one_impossible_wind(tables):
    report = validation.validate(tables, schemas())
    assert broken(report) == {("weather", "wind_speed", "between 0 and 150", "quarantine")}
    _, quarantined = validation.quarantine(tables, report)
    assert quarantined["weather"]["wind_speed"].round().tolist() == [1048]


@pytest.mark.parametrize("number", MONTHS)
def test_every_real_month_passes(tables, number):
    report = validation.validate(month(tables, number), schemas())
    report.raise_if_stopped()
    assert sum((reasons != "").sum() for reasons in report.reasons.values()) == (number == 2)


def test_what_the_year_warns_of_is_known(tables):
    findings = validation.validate(tables, schemas()).findings
    warned = findings[findings["severity"] == "warn"].set_index(["table", "column"])["count"]
    assert warned.to_dict() == {
        ("weather", "wind_gust"): 20_778,
        ("weather", "origin, year, month, day, hour"): 6,
        ("airports", "lon"): 4,
        ("airports", "tzone"): 3,
        ("planes", "seats"): 40,
    }


CLEAN = {
    "rows in another order": lambda t: t.sample(frac=1, random_state=1),
    "columns in another order": lambda t: t[t.columns[::-1]],
    "another index": lambda t: t.set_index(pd.Index(np.zeros(len(t)))),
    "read in pieces": lambda t: pd.concat([t[:100], t[100:]]),
    "a single day": lambda t: t[t["day"] == 30],
}


@pytest.mark.parametrize("change", CLEAN.values(), ids=CLEAN)
@pytest.mark.parametrize("name", ["flights", "weather"])
def test_what_is_no_fault_is_not_reported(april, name, change):
    assert broken(validation.validate({**april, name: change(april[name])}, schemas())) == set()


def clocks_forgotten(t):
    return t.assign(time_hour=t["time_hour"] + pd.Timedelta(hours=1))


# What happens to which table, which columns and rule the report must name, and how grave it is.
CORRUPTED = {
    "distance in kilometres": (
        "flights",
        lambda t: t.assign(distance=(t["distance"] * 1.609344).round().astype("int64")),
        ("distance, air_time", "a usual speed", "stop"),
    ),
    "delay in seconds": (
        "flights",
        lambda t: t.assign(dep_delay=t["dep_delay"] * 60),
        ("dep_delay, dep_time, sched_dep_time", "agree", "stop"),
    ),
    "a lost column": (
        "flights",
        lambda t: t.drop(columns="sched_dep_time"),
        ("sched_dep_time", "column is there", "stop"),
    ),
    "origin and destination swapped": (
        "flights",
        lambda t: t.rename(columns={"origin": "dest", "dest": "origin"}),
        ("origin", "a New York airport", "stop"),
    ),
    "both delays swapped": (
        "flights",
        lambda t: t.rename(columns={"dep_delay": "arr_delay", "arr_delay": "dep_delay"}),
        ("dep_delay, dep_time, sched_dep_time", "agree", "stop"),
    ),
    "a batch delivered twice": (
        "flights",
        lambda t: pd.concat([t, t]),
        ("year, month, day, carrier, flight, origin, sched_dep_time", "unique", "stop"),
    ),
    "a month of the future": (
        "flights",
        lambda t: t.assign(year=2014, time_hour=t["time_hour"] + pd.Timedelta(days=365)),
        ("year", "the year 2013", "stop"),
    ),
    "the label of another month": (
        "flights",
        lambda t: t.assign(month=5),
        ("time_hour, year, month, day, hour", "tell one hour", "stop"),
    ),
    "summer time forgotten": (
        "flights",
        clocks_forgotten,
        ("time_hour, year, month, day, hour", "tell one hour", "stop"),
    ),
    "local time taken for UTC": (
        "weather",
        lambda t: t.assign(time_hour=t["time_hour"].dt.tz_convert("America/New_York")),
        ("time_hour", "dtype datetime64[us, UTC]", "stop"),
    ),
    "text in a column of numbers": (
        "flights",
        lambda t: t.assign(distance=t["distance"].map("{:,} mi".format)),
        ("distance", "dtype int64", "stop"),
    ),
    "one negative distance": (
        "flights",
        lambda t: t.assign(distance=t["distance"].where(t.index != t.index[7], -1)),
        ("distance", "between 1 and 5,000", "quarantine"),
    ),
    "all distances negative": (
        "flights",
        lambda t: t.assign(distance=-t["distance"]),
        ("distance", "between 1 and 5,000", "stop"),
    ),
    "an origin elsewhere": (
        "flights",
        lambda t: t.assign(origin=t["origin"].where(t.index != t.index[7], "BOS")),
        ("origin", "a New York airport", "stop"),
    ),
    "a new carrier": (
        "flights",
        lambda t: t.assign(carrier=t["carrier"].where(t.index != t.index[7], "ZZ")),
        ("carrier", "a known carrier", "quarantine"),
    ),
    "sixty minutes and more": (
        "flights",
        lambda t: t.assign(dep_time=t["dep_time"].where(t.index != t.index[7], 1299)),
        ("dep_time", "clock time 0 to 2400", "quarantine"),
    ),
    "an arrival delay that was filled in": (
        "flights",
        lambda t: t.assign(arr_delay=t["arr_delay"].fillna(0)),
        ("air_time, arr_delay", "missing together", "quarantine"),
    ),
    "temperatures in °C": (
        "weather",
        lambda t: t.assign(temp=(t["temp"] - 32) / 1.8, dewp=(t["dewp"] - 32) / 1.8),
        ("temp, dewp, humid", "usually agree", "stop"),
    ),
    "a silent sensor": (
        "weather",
        lambda t: t.assign(pressure=np.nan),
        ("pressure", "at most 90% missing", "stop"),
    ),
    "a station reported twice": (
        "weather",
        lambda t: pd.concat([t, t[:1]]),
        ("origin, time_hour", "unique", "stop"),
    ),
    "an aircraft registered twice": (
        "planes",
        lambda t: pd.concat([t, t[:1]]),
        ("tailnum", "unique", "stop"),
    ),
    "an airport without a code": (
        "airports",
        lambda t: t.assign(faa=t["faa"].where(t.index != t.index[7])),
        ("faa", "not missing", "stop"),
    ),
    "no airlines": (
        "airlines",
        lambda t: t[:0],
        ("", "table has rows", "stop"),
    ),
}


@pytest.mark.parametrize(("name", "change", "expected"), CORRUPTED.values(), ids=CORRUPTED)
def test_a_corrupted_batch_is_found_by_column_and_rule(april, name, change, expected):
    report = validation.validate({**april, name: change(april[name])}, schemas())
    assert (name, *expected) in broken(report)
    assert {table for table, *_ in broken(report)} == {name}


def test_a_batch_that_breaks_everything_is_reported_at_once(april):
    lost = april["flights"].drop(columns="hour").assign(distance="far", origin="BOS")
    report = validation.validate({**april, "flights": lost}, schemas())
    assert {("hour", "column is there"), ("distance", "dtype int64"), ("origin", "a New York airport")} <= {
        (column, rule) for _, column, rule, _ in broken(report)
    }


def test_the_hour_that_occurs_twice_and_the_one_that_does_not_occur_are_no_fault(tables):
    weather = month(tables, 11)["weather"]
    night = weather[(weather["day"] == 3) & (weather["hour"] == 1)]
    assert len(night) == 6, "three stations, one local hour, two instants"
    report = validation.validate({"weather": weather}, {"weather": schemas()["weather"]})
    assert broken(report) == set()


# Recounts of the card's defects, by the words that the card uses.


def at(t, **local):
    return pd.concat([t[column] == value for column, value in local.items()], axis="columns").all(axis="columns")


def implied_humidity(w):
    temp, dewp = ((w[column] - 32) / 1.8 for column in ("temp", "dewp"))
    return 100 * np.exp(17.625 * dewp / (243.04 + dewp) - 17.625 * temp / (243.04 + temp))


def lonely_temperatures(w):
    """Readings at least 40 °F off both neighbours in time."""
    by_station = w.sort_values(["origin", "time_hour"]).groupby("origin")["temp"]
    return ((by_station.diff().abs() > 40) & (by_station.diff(-1).abs() > 40)).sum()


def hours_missing(w, *stations):
    return len(stations) * 8_760 - w["origin"].isin(stations).sum()


def joined(t):
    return t["flights"].merge(t["planes"], on="tailnum", suffixes=("", "_of_plane"))


def unregistered(f, planes, **where):
    chosen = f["tailnum"].notna() & ~f["tailnum"].isin(planes["tailnum"])
    return (chosen & at(f, **where)).sum() if where else chosen.sum()


def weatherless(f, w):
    keys = ["origin", "time_hour"]
    return f[keys].merge(w[keys], on=keys, how="left", indicator=True)["_merge"].eq("left_only").sum()


def two_distances(f):
    return f[["origin", "dest", "distance"]].drop_duplicates().duplicated(["origin", "dest"]).sum()


def same_place(a, code):
    here = a[a["faa"] == code].iloc[0]
    return (np.hypot(a["lat"] - here["lat"], a["lon"] - here["lon"]) < 1e-4).sum() - 1


F = {
    "no departure time": lambda f: f["dep_time"].isna().sum(),
    "departed, no arrival time": lambda f: (f["dep_time"].notna() & f["arr_time"].isna()).sum(),
    "arrival time but no arrival delay": lambda f: (f["arr_time"].notna() & f["arr_delay"].isna()).sum(),
    "no arrival delay": lambda f: f["arr_delay"].isna().sum(),
    "no tail number": lambda f: (f["tailnum"].isna() & f["dep_time"].isna()).sum(),
    "tail number that does not begin with N": lambda f: (~f["tailnum"].dropna().str.startswith("N")).sum(),
    "tail number flown by several carriers": lambda f: (f.groupby("tailnum")["carrier"].nunique() > 1).sum(),
    "aircraft scheduled twice at one minute": lambda f: (
        f[f["tailnum"].notna()].duplicated(["tailnum", "time_hour", "minute"]).sum()
    ),
    "dep_time 2400": lambda f: (f["dep_time"] == 2400).sum(),
    "arr_time 2400": lambda f: (f["arr_time"] == 2400).sum(),
    "carrier and flight number twice a day": lambda f: f.duplicated(["month", "day", "carrier", "flight"]).sum(),
    "routes with two distances": two_distances,
    "scheduled before 5 in the morning": lambda f: (f["hour"] < 5).sum(),
    "early by more than 30 minutes": lambda f: (f["dep_delay"] < -30).sum(),
    "late departure by 12 hours or more": lambda f: (f["dep_delay"] >= 720).sum(),
    "faster than 700 miles per hour": lambda f: (f["distance"] / f["air_time"] * 60 > 700).sum(),
}
W = {
    "wind of 1,048 miles per hour": lambda w: (w["wind_speed"].round() == 1048).sum(),
    "temperature 44 °F off its neighbours": lonely_temperatures,
    "humidity 10 points off temperature and dew point": lambda w: ((implied_humidity(w) - w["humid"]).abs() > 10).sum(),
    "no wind gust": lambda w: w["wind_gust"].isna().sum(),
    "no pressure": lambda w: w["pressure"].isna().sum(),
    "no pressure, in rain or haze": lambda w: (w["pressure"].isna() & ((w["precip"] > 0) | (w["visib"] < 10))).sum(),
    "no wind direction": lambda w: w["wind_dir"].isna().sum(),
    "no wind speed": lambda w: w["wind_speed"].isna().sum(),
    "no temperature": lambda w: w["temp"].isna().sum(),
    "wind direction 0": lambda w: (at(w, wind_dir=0, wind_speed=0)).sum(),
    "visibility 10": lambda w: (w["visib"] == 10).sum(),
    "hours missing, all stations": lambda w: hours_missing(w, "EWR", "JFK", "LGA"),
    "hours missing, EWR": lambda w: hours_missing(w, "EWR"),
    "hours missing, JFK": lambda w: hours_missing(w, "JFK"),
    "hours missing, LGA": lambda w: hours_missing(w, "LGA"),
    "hours after 18 h on 30 December": lambda w: (w["time_hour"] > "2013-12-30 18:00-05:00").sum(),
    "local hour that occurs twice": lambda w: w.duplicated(["origin", "month", "day", "hour"]).sum(),
}
P = {
    "no year": lambda p: p["year"].isna().sum(),
    "built before 1980": lambda p: (p["year"] < 1980).sum(),
    "fewer than 20 seats": lambda p: (p["seats"] < 20).sum(),
    "no speed": lambda p: p["speed"].isna().sum(),
    "spellings of McDonnell Douglas": lambda p: p["manufacturer"][
        p["manufacturer"].str.startswith("MCDONNELL")
    ].nunique(),
}
A = {
    "no time zone": lambda a: a["tzone"].isna().sum(),
    "longitude east of Greenwich": lambda a: (a["lon"] > 0).sum(),
    "in the time zone of China": lambda a: (a["tzone"] == "Asia/Chongqing").sum(),
    "altitude 0": lambda a: (a["alt"] == 0).sum(),
    "name not unique": lambda a: a["name"].duplicated(keep=False).sum(),
    "same place as JFK": lambda a: same_place(a, "JFK"),
}
BETWEEN = {
    "flights: tail number not in planes": lambda t: unregistered(t["flights"], t["planes"]),
    "flights: MQ tail number not in planes": lambda t: unregistered(t["flights"], t["planes"], carrier="MQ"),
    "flights: AA tail number not in planes": lambda t: unregistered(t["flights"], t["planes"], carrier="AA"),
    "flights: tail number matches a private aircraft": lambda t: (joined(t)["seats"] < 20).sum(),
    "flights: aircraft without a year of manufacture": lambda t: joined(t)["year_of_plane"].isna().sum(),
    "flights: destination not in airports": lambda t: (~t["flights"]["dest"].isin(t["airports"]["faa"])).sum(),
    "flights: destinations not in airports": lambda t: len(set(t["flights"]["dest"]) - set(t["airports"]["faa"])),
    "flights: no weather for the hour": lambda t: weatherless(t["flights"], t["weather"]),
    "airports: not a destination in flights": lambda t: (
        ~t["airports"]["faa"].isin(t["flights"]["dest"].unique())
    ).sum(),
}
RECOUNT = BETWEEN | {
    f"{table}: {words}": lambda t, table=table, count=count: count(t[table])
    for table, counts in {"flights": F, "weather": W, "planes": P, "airports": A}.items()
    for words, count in counts.items()
}
LISTED = dict(re.findall(r"^\| (\w+: [^|]+?) \| ([\d,]+) \|", CARD, flags=re.MULTILINE))


def test_every_defect_on_the_card_is_recounted_and_every_recount_is_on_the_card():
    assert set(LISTED) == set(RECOUNT)


@pytest.mark.parametrize("defect", LISTED)
def test_the_card_counts_right(tables, defect):
    assert int(LISTED[defect].replace(",", "")) == RECOUNT[defect](tables)


@pytest.mark.parametrize("name", ["flights", "weather", "planes", "airports", "airlines"])
def test_the_card_describes_every_table_and_column(tables, name):
    text = CARD.split("## Columns")[1].split(f"### {name}: ")[1].split("### ")[0].split("## ")[0]
    assert f"({len(tables[name]):,})" in text
    assert [column for column in tables[name] if not re.search(rf"\b{column}\b", text)] == []


def test_the_card_names_the_archive_that_the_tables_are_made_from():
    script = Path(mlops_course.__file__).parents[1] / "tools" / "build_flights.py"
    assert re.search(r'SHA256 = "(\w+)"', script.read_text(encoding="utf-8")).group(1) in CARD


def minutes(clock):
    return clock // 100 * 60 + clock % 100


@pytest.fixture(scope="module")
def completed(tables):
    return tables["flights"].dropna(subset="arr_delay")


def test_the_clocks_of_all_completed_flights_agree_with_their_delays(completed):
    planned = minutes(completed["sched_arr_time"]) - minutes(completed["sched_dep_time"])
    took = minutes(completed["arr_time"]) - minutes(completed["dep_time"])
    assert len(completed) == 327_346
    assert ((planned + completed["arr_delay"] - completed["dep_delay"] - took) % 1_440 == 0).all()


def test_time_hour_is_utc_and_arrivals_are_local_to_the_destination(completed, tables):
    """Departure plus air time, in the zone of the destination, leaves the minutes spent taxiing."""
    zones = tables["airports"].set_index("faa")["tzone"]
    zone = completed["dest"].map(zones).fillna("America/Puerto_Rico")  # the four that are not in airports
    after = completed["minute"] + completed["dep_delay"] + completed["air_time"]
    landed = completed["time_hour"] + pd.to_timedelta(after, unit="min")
    local = pd.concat([rows.dt.tz_convert(name).dt.tz_localize(None) for name, rows in landed.groupby(zone)])
    ground = (minutes(completed["arr_time"]) - local.dt.hour * 60 - local.dt.minute) % 1_440
    assert (ground.min(), ground.median(), ground.max()) == (5, 28, 235)
