"""Laws of the validation stage: everything is found at once, nothing is converted, no row is lost."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaError

from mlops_course.development import validation

QUARANTINE = {"severity": "quarantine"}


def trips(**changes):
    """Twenty rows that break no rule of SCHEMA."""
    rows = range(20)
    columns = {"id": rows, "start": rows, "end": range(5, 25), "city": ["Bonn", "Bern"] * 10, "fare": [2.5] * 20}
    return pd.DataFrame(columns | changes)


SCHEMA = pa.DataFrameSchema(
    {
        "id": pa.Column(int, unique=True),
        "start": pa.Column(int, pa.Check.ge(0, name="not negative"), metadata=QUARANTINE),
        "end": pa.Column(int, pa.Check.lt(24 * 60)),
        "city": pa.Column(str, pa.Check.isin(["Bonn", "Bern"], raise_warning=True)),
        "fare": pa.Column(float, pa.Check(lambda fares: fares < 100, name="below 100"), nullable=True),
    },
    checks=[pa.Check(lambda t: t["start"] <= t["end"], name="start, end: in order", ignore_na=False)],
    metadata={"severity": {"start, end: in order": "quarantine"}},
)


def check(table, schema=SCHEMA, **options):
    return validation.validate({"trips": table}, {"trips": schema}, **options)


def found(report):
    return list(report.findings[["column", "rule", "severity", "count"]].itertuples(index=False, name=None))


SAME = {
    "as it is": lambda t: t,
    "rows in another order": lambda t: t[::-1],
    "columns in another order": lambda t: t[t.columns[::-1]],
    "another index": lambda t: t.set_index(pd.Index(["x"] * len(t))),
    "two pieces": lambda t: pd.concat([t[:5], t[5:]]),
    "a column more": lambda t: t.assign(more=1),
    "missing where that is allowed": lambda t: t.assign(fare=np.nan),
    "one row": lambda t: t[:1],
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_is_no_fault_is_not_reported(change):
    report = check(change(trips()))
    assert found(report) == []
    assert not report.stopped
    report.raise_if_stopped()


FAULTS = {
    "a missing column": (lambda t: t.drop(columns="end"), ("end", "column is there", "stop", 20)),
    "text for numbers": (lambda t: t.astype({"end": str}), ("end", "dtype int64", "stop", 20)),
    "floats for integers": (lambda t: t.astype({"end": float}), ("end", "dtype int64", "stop", 20)),
    "no rows": (lambda t: t[:0], ("", "table has rows", "stop", 0)),
    "no table": (lambda t: None, ("", "table is there", "stop", 0)),
    "no DataFrame": (lambda t: t.to_dict(), ("", "table is a DataFrame", "stop", 0)),
    "a column twice": (
        lambda t: t.assign(x=1).rename(columns={"x": "id"}),
        ("id", "column names do not repeat", "stop", 20),
    ),
    "lists for numbers": (lambda t: t.assign(end=[[1]] * len(t)), ("end", "dtype int64", "stop", 20)),
    "a missing value": (lambda t: t.assign(city=t["city"].where(t["id"] > 1)), ("city", "not missing", "stop", 2)),
    "a repeated key": (lambda t: t.assign(id=[0, 0, *range(18)]), ("id", "unique", "stop", 3)),
    "a rule without a name": (lambda t: t.assign(end=1_440), ("end", "less_than(1440)", "stop", 20)),
    "a warning": (lambda t: t.assign(city="Rome"), ("city", "isin(['Bonn', 'Bern'])", "warn", 20)),
    "one bad row": (lambda t: t.assign(start=[-1, *range(19)]), ("start", "not negative", "quarantine", 1)),
    "too many bad rows": (lambda t: t.assign(start=[-1, -2, *range(18)]), ("start", "not negative", "stop", 2)),
    "two columns at odds": (lambda t: t.assign(end=[-1, *range(1, 20)]), ("start, end", "in order", "quarantine", 1)),
}


@pytest.mark.parametrize(("change", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_reported_with_column_rule_severity_and_count(change, finding):
    table = change(trips())
    tables = {} if table is None else {"trips": table}
    report = validation.validate(tables, {"trips": SCHEMA})
    assert found(report) == [finding]
    assert report.stopped == (finding[2] == "stop")


def test_all_faults_of_all_tables_are_reported_at_once_and_the_gravest_first():
    bad = trips(start=[-1, *range(19)], city="Rome", fare=500.0).drop(columns="end").astype({"id": str})
    report = validation.validate({"a": bad, "b": trips(fare=500.0)}, {"a": SCHEMA, "b": SCHEMA, "c": SCHEMA})
    assert report.findings["severity"].tolist() == ["stop"] * 5 + ["quarantine", "warn"]
    assert set(report.findings["column"][:5]) == {"end", "id", "fare", ""}
    assert set(report.findings["table"]) == {"a", "b", "c"}


def test_a_table_that_nobody_described_is_a_warning():
    report = validation.validate({"trips": trips(), "extra": trips()}, {"trips": SCHEMA})
    assert report.findings[["table", "rule", "severity"]].to_numpy().tolist() == [
        ["extra", "table has a schema", "warn"]
    ]


@pytest.mark.parametrize("bad", [trips(end=["5"] * 20), trips(end=[5.0] * 20), trips(fare=range(20))])
def test_no_value_is_converted_to_fit(bad):
    before = bad.copy()
    assert check(bad).stopped
    pd.testing.assert_frame_equal(bad, before)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.DataFrameSchema({"id": pa.Column(int, coerce=True)}), "trips.id converts values"),
        (pa.DataFrameSchema({"id": pa.Column(int)}, coerce=True), "converts values"),
        (pa.DataFrameSchema({"i.": pa.Column(int, regex=True)}), "columns by pattern"),
        (pa.DataFrameSchema({"id": pa.Column(int)}, index=pa.Index(int)), "rule for the index"),
        (pa.DataFrameSchema({"id": pa.Column(int, metadata={"severity": "halt"})}), "severities out of.*'halt'"),
        (
            pa.DataFrameSchema({"id": pa.Column(int, metadata={"severity": {"posh": "warn"}})}),
            "of trips.id, got.*'posh'",
        ),
    ],
)
def test_a_schema_that_would_not_be_obeyed_is_refused(schema, message):
    with pytest.raises(ValueError, match=message):
        check(trips(), schema)


def test_one_severity_can_be_given_for_each_rule():
    rules = [pa.Check.ge(0, name="not negative"), pa.Check.lt(100, name="below 100")]
    column = pa.Column(float, rules, metadata={"severity": {"not negative": "quarantine", "not missing": "warn"}})
    report = check(pd.DataFrame({"a": [-1.0, 100.0, np.nan, *[1.0] * 97]}), pa.DataFrameSchema({"a": column}))
    assert {rule: severity for _, rule, severity, _ in found(report)} == {
        "not negative": "quarantine",
        "below 100": "stop",
        "not missing": "warn",
    }


@pytest.mark.parametrize(("keep", "count"), [("all", 4), ("exclude_first", 2), ("exclude_last", 2)])
def test_pandera_says_which_of_the_repeated_rows_count(keep, count):
    schema = pa.DataFrameSchema({"a": pa.Column(int)}, unique=["a"], report_duplicates=keep)
    assert found(check(pd.DataFrame({"a": [1, 1, 2, 2, 3]}), schema)) == [("a", "unique", "stop", count)]


def test_a_rule_on_the_column_as_a_whole_counts_every_row():
    schema = pa.DataFrameSchema({"fare": pa.Column(float, pa.Check(lambda fares: fares.mean() < 1, name="cheap"))})
    report = check(trips()[["fare"]], schema)
    assert found(report) == [("fare", "cheap", "stop", 20)]
    assert report.findings["share"].tolist() == [1.0]


def test_a_rule_that_cannot_run_stops_a_sound_batch():
    schema = SCHEMA.update_column("id", checks=[pa.Check(lambda ids: ids.no_such_thing > 0, name="odd")])
    assert found(check(trips(), schema)) == [("id", "odd", "stop", 20)]
    assert "cannot run: AttributeError" in check(trips(), schema).findings["samples"].item()


def test_samples_show_what_was_wrong():
    samples = check(trips(start=[-1, -1, -2, -3, -4, *range(15)])).findings["samples"]
    assert samples.tolist() == ["-1, -2, -3"]
    assert check(trips(end=[-7, *range(1, 20)])).findings["samples"].tolist() == ["start=0 end=-7"]


def test_counts_and_shares_agree_with_pandera():
    table = trips(end=[*range(1_430, 1_450)])
    with pytest.raises(SchemaError) as caught:
        SCHEMA.validate(table)
    report = check(table)
    assert report.findings["count"].tolist() == [len(caught.value.failure_cases)]
    assert report.findings["share"].tolist() == [len(caught.value.failure_cases) / len(table)]


def test_a_stopped_batch_raises_with_every_reason_and_gives_no_rows():
    tables = {"trips": trips(end=1_440).drop(columns="fare")}
    report = validation.validate(tables, {"trips": SCHEMA})
    with pytest.raises(validation.InvalidBatch, match=r"(?s)trips.fare: column is there.*trips.end: less_than\(1440\)"):
        report.raise_if_stopped()
    with pytest.raises(validation.InvalidBatch):
        validation.quarantine(tables, report)


def test_a_report_reads_well_in_a_terminal():
    report = check(trips(start=[-1, *range(19)], city="<b>"))
    assert str(report).splitlines() == [
        "Batch may go on: 1 quarantine, 1 warn; rows to set aside: 1",
        "quarantine  trips.start: not negative",
        "            rows: 1 (5 %), such as -1",
        "warn        trips.city: isin(['Bonn', 'Bern'])",
        "            rows: 20 (100 %), such as <b>",
    ]
    assert repr(report) == str(report)


def test_a_report_names_its_batch():
    report = check(trips(end=1_440), batch="2024-07")
    assert str(report).startswith("Batch 2024-07 is stopped: 1 stop\n")
    with pytest.raises(validation.InvalidBatch, match=r"Nothing of batch 2024-07 was used. .* send it again"):
        report.raise_if_stopped()


def test_a_report_without_findings_says_so():
    report = check(trips())
    assert str(report) == "Batch may go on: no rule is broken"
    assert report.findings.dtypes.astype(str)[["count", "share"]].tolist() == ["int64", "float64"]


numbers = st.lists(st.integers(-2, 4), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_quarantine_loses_no_row_and_doubles_none(starts, random):
    table = pd.DataFrame({"start": starts, "end": 2}, index=[random.randint(0, 3) for _ in starts])
    schema = SCHEMA.select_columns(["start", "end"])
    tables = {"trips": table, "other": table}
    report = validation.validate(tables, {"trips": schema}, quarantine_limit=1.0)
    clean, quarantined = validation.quarantine(tables, report)
    both = pd.concat([clean["trips"], quarantined["trips"].drop(columns="reason")])
    pd.testing.assert_frame_equal(
        both.rename_axis("label").reset_index().sort_values(["label", "start"], ignore_index=True),
        table.rename_axis("label").reset_index().sort_values(["label", "start"], ignore_index=True),
    )
    assert clean["trips"]["start"].between(0, 2).all()
    assert not quarantined["trips"]["start"].between(0, 2).any()
    pd.testing.assert_frame_equal(clean["other"], table)


def test_a_quarantined_row_says_every_rule_that_it_breaks():
    table = trips(start=[-1, *range(19)], end=[-2, *range(19)])
    _, quarantined = validation.quarantine({"trips": table}, check(table))
    assert quarantined["trips"]["reason"].tolist() == ["start: not negative; start, end: in order"]


def test_what_passed_quarantine_passes_validation():
    table = trips(start=[-1, *range(19)])
    clean, _ = validation.quarantine({"trips": table}, check(table))
    assert found(check(clean["trips"])) == []


def test_quarantine_leaves_the_tables_as_they_were():
    table = trips(start=[-1, *range(19)])
    before = table.copy()
    validation.quarantine({"trips": table}, check(table))
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("tables", [{}, {"trips": trips()[1:]}, {"trips": trips(), "more": trips()}])
def test_a_report_about_other_tables_is_refused(tables):
    with pytest.raises(ValueError, match="expected the tables that the report is about"):
        validation.quarantine(tables, check(trips()))


def test_a_column_called_reason_is_not_overwritten():
    table = trips(reason="mine")
    with pytest.raises(ValueError, match=r"without a column 'reason'.*\['trips'\]"):
        validation.quarantine({"trips": table}, check(table))
