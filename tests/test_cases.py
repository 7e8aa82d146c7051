"""One law for every case folder: an input was known when it was asked for, and a label when it is said to be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_case
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops_course import flights
from mlops_course.design import load_specification
from notebooks import code_cells, read

ROOT = Path(__file__).parents[1]
CAPSTONE = ROOT / "notebooks" / "19_capstone.ipynb"
EXERCISE = ROOT / "solutions" / "19_capstone.ipynb"
HOUR = pd.Timedelta("1h")
CASES = {"flights": flights, "small_case": small_case}


@pytest.fixture(scope="module")
def rain():
    """The names of the capstone up to its table of questions, made by the cells of the lesson itself."""
    cells, made = [cell.source for _, cell in code_cells(read(CAPSTONE))], {}
    last = next(number for number, source in enumerate(cells) if "def questions(" in source)
    for source in cells[: last + 1]:
        exec(source, made)
    return made


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def tables(case):
    return case.read(case.batches()[1:2])


@pytest.fixture(scope="module")
def labelled(case, tables):
    rows = case.build(tables).set_index("id")
    return rows[rows["label_time"].notna()]


def test_no_case_folder_is_left_out():
    folders = {
        path.parent.name for part in ("mlops_course", "tests") for path in (ROOT / part).rglob("specification.yaml")
    }
    assert folders == set(CASES)


def test_a_reading_of_the_weather_is_known_when_the_hour_that_it_is_filed_under_is_over(case, tables):
    if "weather" not in tables:
        pytest.skip("a case without weather")
    weather = tables["weather"]
    [filed] = weather.select_dtypes("datetimetz")
    for instant in weather[filed].iloc[[300, 800]] + pd.Timedelta("30min"):
        seen = case.tables_as_of(tables, instant)["weather"]
        assert seen[filed].max() == instant.floor("h") - HOUR
        assert len(seen) == (weather[filed] + HOUR <= instant).sum()


@pytest.mark.parametrize("seed", range(4))
def test_inputs_and_label_of_a_row_rest_on_what_was_known_when_it_says_so(case, tables, labelled, seed):
    row = labelled.sample(1, random_state=seed)
    specification = load_specification(case.SPECIFICATION)

    def built(instant):
        return case.build(case.tables_as_of(tables, instant)).set_index("id").loc[row.index]

    inputs, target = specification.inputs.all, [specification.target.column]
    pd.testing.assert_frame_equal(built(row["prediction_time"].item())[inputs], row[inputs])
    pd.testing.assert_frame_equal(built(row["label_time"].item())[target], row[target])


@pytest.mark.parametrize("instant", ["2013-02-11 09:30", "2013-06-07 12:00", "2013-08-13 00:00"])
def test_a_question_of_the_capstone_rests_on_readings_that_were_known(rain, instant):
    """Its inputs when it was asked, its answer six hours later."""
    instant, readings, key = pd.Timestamp(instant, tz="UTC"), rain["readings"], ["asked", "airport"]
    then, now = (
        rain["questions"](part).set_index(key) for part in (readings[readings["time"] + HOUR <= instant], readings)
    )
    asked = now.index.get_level_values("asked")
    inputs = now.columns.drop("rain")
    pd.testing.assert_frame_equal(then.loc[now.index[asked <= instant], inputs], now.loc[asked <= instant, inputs])
    answered = now.index[asked + 6 * HOUR <= instant]
    pd.testing.assert_series_equal(then.loc[answered, "rain"], now.loc[answered, "rain"])
    assert now.loc[answered, "rain"].nunique() == 2


def test_the_leak_of_the_exercise_is_what_its_solution_says_and_too_small_for_a_score_to_show():
    """AUC 0.80 against 0.78 in July and August, 0.00 to 0.04 apart over days, and no column alone at 0.8."""
    made = {"pd": pd, "hours": lambda number: pd.Timedelta(hours=number)}
    for _, cell in code_cells(read(EXERCISE)):
        if cell.source.startswith(("INPUTS =", "def honest(")):
            exec(cell.source, made)
    weather = flights.read([f"2013-{month:02}" for month in range(1, 9)])["weather"]
    readings = weather.rename(columns={"origin": "airport", "time_hour": "time"})[["airport", "time", *made["INPUTS"]]]
    key, july = ["airport", "asked"], pd.Timestamp("2013-07-01", tz="UTC")
    early, late = (made[name](readings).set_index(key).sort_index() for name in ("colleague", "honest"))
    same = early.index.intersection(late.index)
    judged, auc = {}, {}
    for name, rows in (("early", early.loc[same]), ("late", late.loc[same])):
        test = rows.index.get_level_values("asked") >= july
        train = rows[(rows["known"] <= july) & ~test]
        model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
        model.fit(train[made["INPUTS"]], train["rain"])
        judged[name] = rows[test].assign(p=model.predict_proba(rows.loc[test, made["INPUTS"]])[:, 1])
        auc[name] = roc_auc_score(judged[name]["rain"], judged[name]["p"])
    assert {name: round(value, 2) for name, value in auc.items()} == {"early": 0.80, "late": 0.78}
    alone = [roc_auc_score(judged["early"]["rain"], judged["early"][name].fillna(0)) for name in made["INPUTS"]]
    assert max(max(value, 1 - value) for value in alone) < 0.8
    day = judged["late"].index.get_level_values("asked").floor("D")
    rows_of, rng = list(pd.RangeIndex(len(day)).groupby(day).values()), np.random.default_rng(0)
    draws = [np.concatenate([rows_of[n] for n in rng.integers(0, len(rows_of), len(rows_of))]) for _ in range(400)]
    p, q, rain = judged["early"]["p"].to_numpy(), judged["late"]["p"].to_numpy(), judged["late"]["rain"].to_numpy()
    apart = [roc_auc_score(rain[draw], p[draw]) - roc_auc_score(rain[draw], q[draw]) for draw in draws]
    assert np.quantile(apart, [0.025, 0.975]) == pytest.approx([0.00, 0.04], abs=0.005)
