"""The running case: what the clocks mean, what was known when, and features that never look ahead."""

import numpy as np
import pandas as pd
import pytest

from mlops_course import flights
from mlops_course.design import load_specification
from mlops_course.development import training
from mlops_course.flights import timeline
from mlops_course.flights.features import LEAD
from mlops_course.flights.timeline import instants, tables_as_of

OUTCOME = ["id", "batch", "prediction_time", "label_time", "late"]


@pytest.fixture(scope="module")
def tables():
    return flights.read(["2013-03"])


@pytest.fixture(scope="module")
def frame(tables):
    return flights.build(tables)


@pytest.fixture(scope="module")
def year():
    return flights.read(flights.batches())


def test_the_year_is_whole(year):
    assert len(year["flights"]) == 336_776
    assert len(year["weather"]) == 26_115


def test_each_batch_is_one_month():
    assert flights.batches() == [f"2013-{month:02d}" for month in range(1, 13)]
    assert set(flights.read(["2013-02"])["flights"]["month"]) == {2}


def test_an_unknown_batch_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"2013-12.*got \['2014-01'\]"):
        flights.read(["2013-12", "2014-01"])


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """A folder with links to the data, from which batches are read; a test replaces a file."""
    for path in timeline.DATA.glob("*.parquet"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(timeline, "DATA", tmp_path)
    return tmp_path


BAD_FILES = {
    "cut in half": lambda content: content[: len(content) // 2],
    "zeros in the middle": lambda content: content[:5_000] + bytes(5_000) + content[10_000:],
    "no bytes": lambda content: b"",
    "an error page": lambda content: b"<html>502 Bad Gateway</html>",
}


@pytest.mark.parametrize("name", ["flights_2013-02.parquet", "weather.parquet"])
@pytest.mark.parametrize("change", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_read_is_named(own_files, name, change):
    content = (own_files / name).read_bytes()
    (own_files / name).unlink()
    (own_files / name).write_bytes(change(content))
    with pytest.raises(ValueError, match=rf"expected a whole Parquet file in {name}, got .*send this file again"):
        flights.read(["2013-01", "2013-02"])


def test_flights_of_another_month_are_named(own_files):
    (own_files / "flights_2013-02.parquet").unlink()
    (own_files / "flights_2013-02.parquet").symlink_to(own_files / "flights_2013-03.parquet")
    with pytest.raises(ValueError, match=r"flights of month 2 in flights_2013-02.parquet, got months \[3\]"):
        flights.read(["2013-02"])


def test_a_destination_without_a_time_zone_is_named_with_its_month(tables):
    strange = tables["flights"].assign(dest=tables["flights"]["dest"].where(tables["flights"]["day"] > 1, "XXX"))
    with pytest.raises(ValueError, match=r"none for \['XXX'\] in 2013-03"):
        flights.build({**tables, "flights": strange})


def clock(instant, zone):
    local = instant.dt.tz_convert(zone).dt
    return local.hour * 100 + local.minute


def test_instants_show_the_clock_at_the_gate_across_zones_and_clock_changes(year):
    """The source gives delays and wall clocks apart: an instant made of the one must show the other."""
    flown = year["flights"][year["flights"]["arr_delay"].notna()]
    times = instants(flown, year["airports"])
    zones = flown["dest"].map(year["airports"].set_index("faa")["tzone"]).fillna("America/Puerto_Rico")
    assert clock(times["departed"], "America/New_York").eq(flown["dep_time"] % 2400).all()
    arrived = pd.concat([clock(times.loc[zones == zone, "arrived"], zone) for zone in zones.unique()])
    differs = arrived.reindex(flown.index).ne(flown["arr_time"] % 2400)
    assert flown.loc[differs, "arr_time"].tolist() == [203], "one landing, in the hour that the clock change skipped"


@pytest.mark.parametrize(
    ("destination", "minutes"),
    [("SFO", (340, 440)), ("HNL", (600, 700)), ("PHX", (290, 380)), ("SJU", (200, 260)), ("BOS", (50, 100))],
)
def test_a_timetable_across_zones_is_as_long_as_the_flight(year, destination, minutes):
    to_there = year["flights"]["dest"].eq(destination)
    scheduled = instants(year["flights"][to_there], year["airports"])["scheduled_minutes"]
    assert scheduled.quantile([0.05, 0.95]).between(*minutes).all()


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 9, 5), (3, 10, 4), (11, 2, 4), (11, 3, 5)])
def test_the_clock_changes_move_new_york_against_utc(year, month, day, hours):
    on_day = year["flights"]["month"].eq(month) & year["flights"]["day"].eq(day)
    morning = year["flights"][on_day & year["flights"]["hour"].between(6, 12)]
    departure = instants(morning, year["airports"])["scheduled_departure"]
    assert (departure.dt.hour - morning["hour"] == hours).all()


def test_what_has_not_happened_is_not_in_the_tables(tables):
    noon = pd.Timestamp("2013-03-10 12:00", tz="America/New_York")
    seen = tables_as_of(tables, noon)
    times = instants(tables["flights"], tables["airports"])
    assert seen["flights"].loc[times["departed"] > noon, ["dep_time", "dep_delay"]].isna().all(axis=None)
    assert seen["flights"].loc[~(times["arrived"] <= noon), ["arr_time", "arr_delay", "air_time"]].isna().all(axis=None)
    assert (seen["weather"]["time_hour"] < noon).all()
    assert len(seen["flights"]) == len(tables["flights"])


def test_everything_is_known_in_the_end(tables):
    seen = tables_as_of(tables, pd.Timestamp("2013-05-01", tz="UTC"))
    completed = tables["flights"]["arr_delay"].notna()
    pd.testing.assert_frame_equal(seen["flights"][completed], tables["flights"][completed])
    pd.testing.assert_frame_equal(seen["weather"], tables["weather"])


def test_an_instant_without_a_time_zone_is_refused(tables):
    with pytest.raises(ValueError, match="time zone"):
        tables_as_of(tables, pd.Timestamp("2013-03-10 12:00"))


@pytest.mark.parametrize("seed", range(12))
def test_inputs_are_the_same_when_the_future_is_masked(tables, frame, seed):
    row = frame.sample(random_state=seed)
    then = tables_as_of(tables, row["prediction_time"].item())
    inputs = frame.columns.drop(OUTCOME)
    pd.testing.assert_frame_equal(flights.build(then).loc[row.index, inputs], row[inputs])


def test_a_flight_counts_as_overdue_whatever_becomes_of_it(tables, frame):
    row = frame.loc[[frame["origin_overdue"].idxmax()]]
    now = row["prediction_time"].item()
    times = instants(tables["flights"], tables["airports"])
    waiting = times["scheduled_departure"].le(now) & ~times["departed"].le(now)
    cancelled = tables["flights"].copy()
    cancelled.loc[waiting, ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]] = np.nan
    assert row["origin_overdue"].item() > 20
    assert (
        flights.build({**tables, "flights": cancelled}).loc[row.index, "origin_overdue"].equals(row["origin_overdue"])
    )


@pytest.mark.parametrize("seed", range(12))
def test_inputs_are_the_same_when_the_future_is_altered(tables, frame, seed):
    random = np.random.default_rng(seed)
    row = frame.sample(random_state=seed + 100)
    now = row["prediction_time"].item()
    times = instants(tables["flights"], tables["airports"])
    altered = tables["flights"].copy()
    for columns, known in ((["dep_delay"], times["departed"] <= now), (["arr_delay"], times["arrived"] <= now)):
        altered.loc[~known, columns] += 24 * 60 + random.integers(0, 300, ((~known).sum(), 1))
    weather = tables["weather"].copy()
    weather.loc[weather["time_hour"] + pd.Timedelta("1h") > now, ["temp", "wind_speed", "visib"]] = -1.0
    inputs = frame.columns.drop(OUTCOME)
    rebuilt = flights.build({**tables, "flights": altered, "weather": weather})
    pd.testing.assert_frame_equal(rebuilt.loc[row.index, inputs], row[inputs])


def test_a_leak_would_be_found(tables, frame):
    """The test above has teeth: asked at departure, the inputs do depend on what two hours before was the future."""
    leaky = flights.build(tables, lead=pd.Timedelta(0))
    row = frame.loc[frame["origin_departures"] > 20].sample(random_state=1)
    then = tables_as_of(tables, row["prediction_time"].item())
    masked = flights.build(then, lead=pd.Timedelta(0))
    assert not leaky.loc[row.index, "origin_departures"].equals(masked.loc[row.index, "origin_departures"])


def test_one_flight_gets_the_same_inputs_and_features_as_the_month(tables, frame):
    spec = load_specification(flights.SPECIFICATION)
    rows = frame.sample(200, random_state=3)
    together = flights.derive(rows[spec.inputs.all])
    alone = pd.concat([flights.derive(rows.loc[[i], spec.inputs.all]) for i in rows.index])
    pd.testing.assert_frame_equal(alone, together)


def test_the_specification_names_the_inputs_and_features_that_the_case_makes(frame):
    spec = load_specification(flights.SPECIFICATION)
    assert set(spec.inputs.all) == set(frame.columns.drop(OUTCOME))
    assert set(spec.features.all) <= set(flights.derive(frame[spec.inputs.all]).columns)
    assert spec.timing.lead == LEAD.to_pytimedelta()


def test_ids_are_unique_within_a_month(frame):
    assert frame["id"].is_unique


@pytest.mark.long
def test_ids_are_unique_over_the_year(year):
    assert flights.build(year)["id"].is_unique


def test_a_label_comes_after_its_prediction_and_only_with_an_arrival(tables, frame):
    labelled = frame[frame["label_time"].notna()]
    assert (labelled["label_time"] > labelled["prediction_time"]).all()
    pd.testing.assert_series_equal(frame["late"].isna(), tables["flights"]["arr_delay"].isna(), check_names=False)
    assert frame["late"].isna().equals(frame["label_time"].isna())


def test_flights_without_a_label_are_no_random_sample():
    """A model of January expects more of February's unlabelled flights to be late: to leave them out is a choice."""
    rows, wish = flights.build(flights.read(["2013-01", "2013-02"])), load_specification(flights.SPECIFICATION)
    january, february = (rows[rows["batch"] == batch] for batch in ("2013-01", "2013-02"))
    kinds = {"numeric": wish.features.numeric, "categorical": wish.features.categorical}
    model = training.candidates(flights.derive, **kinds, seed=0)["logistic_regression"]
    known = january[january["late"].notna()]
    model.fit(known[wish.inputs.all], known["late"])
    said = pd.Series(model.predict_proba(february[wish.inputs.all])[:, 1]).groupby(february["late"].isna().to_numpy())
    assert said.size()[True] / len(february) == pytest.approx(0.054, abs=5e-4)
    assert said.mean()[True] > 2 * said.mean()[False]


def test_the_weather_of_the_departure_hour_is_never_used(tables, frame):
    spiked = tables["weather"].assign(temp=tables["weather"].index.astype(float))
    rebuilt = flights.build({**tables, "weather": spiked})
    seen = rebuilt["temp"].map(spiked.set_index("temp")["time_hour"])
    assert (seen + pd.Timedelta("1h") <= frame["prediction_time"])[seen.notna()].all()


def test_no_single_input_gives_the_label_away(frame):
    labelled = frame[frame["late"].notna()]
    numbers = labelled.select_dtypes("number").drop(columns="late")
    late = labelled["late"].astype(bool)
    for name, values in numbers.items():
        ranks = values.fillna(values.median()).rank()
        positive = late.sum()
        auc = (ranks[late].sum() - positive * (positive + 1) / 2) / (positive * (~late).sum())
        assert max(auc, 1 - auc) < 0.8, f"{name} alone gives the label away"
