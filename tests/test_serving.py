"""Batch scoring: every row answered once, the same as in memory, and nothing half written."""

import numpy as np
import pandas as pd
import pytest

from mlops_course import serving

INPUTS = {"when": "datetime", "carrier": "string", "temp": "double", "seats": "long"}


@pytest.fixture
def rows():
    random = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "id": [f"f{n}" for n in range(23)],
            "when": pd.Timestamp("2013-01-01") + pd.to_timedelta(np.arange(23), unit="h"),
            "carrier": [None, *random.choice(["AA", "B6"], 22)],
            "temp": [np.nan, *random.normal(size=22)],
            "seats": random.integers(50, 300, 23),
        }
    )


def answer(part):
    inputs = serving.conform(part, INPUTS)
    return pd.DataFrame({"probability": inputs["seats"] / 300 + inputs["temp"].fillna(0) / 1000}, index=inputs.index)


def write(rows, path):
    rows.to_parquet(path) if path.suffix == ".parquet" else rows.to_csv(path, index=False)
    return path


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("rows_per_part", [1, 7, 100])
def test_a_file_gets_the_answers_that_the_frame_gets(rows, tmp_path, source, target, rows_per_part):
    source = write(rows, tmp_path / source)
    told = []
    count = serving.score_file(
        source, tmp_path / target, answer=answer, rows_per_part=rows_per_part, progress=told.append
    )
    assert count == sum(told) == len(rows)
    expected = pd.concat([rows[["id"]], answer(rows)], axis=1)
    pd.testing.assert_frame_equal(read(tmp_path / target), expected, check_dtype=False)


def test_a_failure_in_a_later_part_leaves_the_file_of_the_last_run(rows, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("id,probability\n", encoding="utf-8")
    source = write(rows.assign(temp=[*["1.5"] * 22, "warm"]), tmp_path / "in.csv")
    with pytest.raises(ValueError, match="expected a number in column 'temp', got 'warm' in row 22"):
        serving.score_file(source, target, answer=answer, rows_per_part=5)
    assert target.read_text(encoding="utf-8") == "id,probability\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_an_answer_for_too_few_rows_is_refused(rows, tmp_path):
    source = write(rows, tmp_path / "in.parquet")
    with pytest.raises(ValueError, match="expected 23 answers, got 22"):
        serving.score_file(source, tmp_path / "out.csv", answer=lambda part: answer(part).head(22))


@pytest.mark.parametrize(("source", "target"), [("in.xlsx", "out.csv"), ("in.csv", "out")])
def test_another_kind_of_file_is_refused_before_anything_is_written(tmp_path, source, target):
    with pytest.raises(ValueError, match=r"ends in \.parquet or \.csv"):
        serving.score_file(tmp_path / source, tmp_path / target, answer=answer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("temp", "warm", "expected a number in column 'temp', got 'warm' in row 4"),
        ("when", "yesterday", "expected a date and time in column 'when', got 'yesterday' in row 4"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_row(rows, column, value, message):
    spoilt = rows.astype({column: object})
    spoilt.loc[4, column] = value
    with pytest.raises(ValueError, match=message):
        serving.conform(spoilt, INPUTS)


def test_missing_columns_are_named_and_others_are_ignored(rows):
    with pytest.raises(ValueError, match=r"none named \['carrier', 'seats'\]"):
        serving.conform(rows.drop(columns=["carrier", "seats"]), INPUTS)
    assert list(serving.conform(rows[reversed(rows.columns)], INPUTS)) == list(INPUTS)


def test_missing_values_stay_missing_and_text_is_read(rows):
    as_text = rows.astype(str).where(rows.notna())
    pd.testing.assert_frame_equal(serving.conform(as_text, INPUTS), serving.conform(rows, INPUTS))
    assert serving.conform(rows, INPUTS)["carrier"].isna().tolist() == [True, *[False] * 22]


def test_the_decision_is_true_from_the_threshold_on():
    class Known:
        def predict_proba(self, inputs):
            return np.column_stack([1 - inputs["p"], inputs["p"]])

    rows = pd.DataFrame({"p": [0.1, 0.2, 0.3]}, index=[5, 6, 7])
    predictions = serving.predict(Known(), rows, threshold=0.2)
    assert predictions["decision"].to_dict() == {5: False, 6: True, 7: True}
