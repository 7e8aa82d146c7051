"""Validation: find everything that is wrong with a batch before a model sees any of it.

    validate                 check tables against pandera schemas, and report all findings at once, as a `Report`
    Report.raise_if_stopped  refuse a batch
    quarantine               separate bad rows from good ones, without losing any

Each rule has a severity. `stop`: the batch is not used. `quarantine`: the rows that break the rule are set aside.
`warn`: somebody should know. A rule stops unless `metadata={"severity": ...}` says otherwise, on the column, or on the
schema for rules that compare columns; give one severity for all its rules, or a dictionary from rule to severity. A
check made with `raise_warning=True` warns. Missing tables, empty tables, missing columns and wrong dtypes always stop.
A rule that compares columns is named "column, column: rule", so that a finding can name the columns.

>>> import pandas as pd
>>> import pandera.pandas as pa
>>> visits = pa.Column(int, pa.Check.ge(0, name="not negative"), metadata={"severity": "quarantine"})
>>> tables = {"trips": pd.DataFrame({"visits": [3, 5, -1, 4]})}
>>> report = validate(tables, {"trips": pa.DataFrameSchema({"visits": visits})}, quarantine_limit=0.5)
>>> print(report)
Batch may go on: 1 quarantine; rows to set aside: 1
quarantine  trips.visits: not negative
            rows: 1 (25 %), such as -1
>>> clean, quarantined = quarantine(tables, report)
>>> quarantined["trips"]
   visits                reason
2      -1  visits: not negative
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrorReason, SchemaErrors

__all__ = ["InvalidBatch", "Report", "quarantine", "validate"]

Rule = tuple[str, str, str, Callable[[pd.DataFrame], pd.Series]]  # columns, name, severity, which rows break it

SEVERITIES = ("stop", "quarantine", "warn")
QUARANTINE_LIMIT = 0.05  # share of a table's rows; if more break a rule, the whole batch is broken
SAMPLES = 3  # distinct values that a finding shows
SAMPLE_WIDTH = 60  # characters
SAMPLED_ROWS = 100  # broken rows that samples are taken from
NOT_MISSING, UNIQUE = "not missing", "unique"  # what a column states as nullable=False and unique=True
KEEP = {"all": False, "exclude_first": "first", "exclude_last": "last"}  # pandera's report_duplicates, in pandas' words


class InvalidBatch(ValueError):  # noqa: N818 - named for what it is
    """A batch breaks a rule that stops it."""


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The findings of `validate`, the most severe first.

    `findings` has the columns table, column, rule, severity, count and share of the rows that break the rule, and
    samples (some of the values, as text). `reasons` has, for each table, one text a row: the rules that send the row to
    quarantine, empty if it stays. `batch` is the name of the batch, if one was given.
    """

    findings: pd.DataFrame
    reasons: Mapping[str, pd.Series]
    batch: str = ""

    @property
    def stopped(self) -> bool:
        """Whether the batch must not be used."""
        return bool((self.findings["severity"] == "stop").any())

    def raise_if_stopped(self) -> None:
        """Raise InvalidBatch, with the whole report as its message, if the batch must not be used."""
        if self.stopped:
            batch = f"batch {self.batch}" if self.batch else "this batch"
            raise InvalidBatch(f"{self}\nNothing of {batch} was used. Correct it at its source and send it again.")

    def __str__(self) -> str:
        """A headline, then two lines a finding."""
        rules = self.findings["severity"].value_counts()
        told = ", ".join(f"{rules[severity]} {severity}" for severity in SEVERITIES if severity in rules)
        aside = sum(int((reasons != "").sum()) for reasons in self.reasons.values())
        rows = f"; rows to set aside: {aside:,}" if aside else ""
        batch = f"Batch {self.batch}" if self.batch else "Batch"
        lines = [f"{batch} {'is stopped' if self.stopped else 'may go on'}: {told or 'no rule is broken'}{rows}"]
        for one in self.findings.itertuples(index=False, name="Finding"):
            place = f"{one.table}.{one.column}" if one.column else one.table
            place = f"{one.table} ({one.column})" if ", " in one.column else place
            samples = f", such as {one.samples}" if one.samples else ""
            lines.append(f"{one.severity:<10}  {place}: {one.rule}")
            lines.append(f"{'':<10}  rows: {one.count:,} ({100 * one.share:.3g} %){samples}")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True)
class _Finding:
    column: str
    rule: str
    severity: str
    broken: np.ndarray  # one boolean a row
    samples: str = ""


def validate(
    tables: Mapping[str, pd.DataFrame],
    schemas: Mapping[str, pa.DataFrameSchema],
    *,
    quarantine_limit: float = QUARANTINE_LIMIT,
    batch: str = "",
) -> Report:
    """Check every table against its schema and report all that is wrong; no value is changed.

    pandera checks the structure and runs each check. Rows are counted here, because pandera's own report lists each
    cell of each broken row, which takes seconds if there are many. A quarantine rule that more than `quarantine_limit`
    of the rows break stops the batch. A rule about a column as a whole (its check returns one boolean) counts every
    row. A table without a schema is a warning. The report names `batch`. Judge each batch by itself, because a bad one
    hides among good ones. Raises ValueError for a schema that converts values or uses regex
    columns or an index, and for the severity of an unknown rule.
    """
    rows, reasons = [], {}
    for name in [*schemas, *(name for name in tables if name not in schemas)]:
        table = tables.get(name)
        found = list(_check(name, table, schemas.get(name), quarantine_limit))
        size = len(table) if isinstance(table, pd.DataFrame) else 0
        for one in found:
            count = int(one.broken.sum())
            rows.append((name, one.column, one.rule, one.severity, count, count / size if size else 1.0, one.samples))
        reasons[name] = _reasons(found, size)
    columns = ["table", "column", "rule", "severity", "count", "share", "samples"]
    findings = pd.DataFrame(rows, columns=columns).astype({"count": "int64", "share": "float64"})
    order = findings["severity"].map(SEVERITIES.index).argsort(kind="stable")
    return Report(findings.iloc[order].reset_index(drop=True), reasons, batch)


def quarantine(
    tables: Mapping[str, pd.DataFrame], report: Report
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Separate the rows of a batch into clean and quarantined ones; the quarantined rows get a column `reason`.

    Each row is in exactly one of the two, unchanged and with its index. Both have every table. Raises InvalidBatch if
    the batch is stopped, ValueError if `report` is not about these tables.
    """
    report.raise_if_stopped()
    sizes = {name: len(reasons) for name, reasons in report.reasons.items()}
    if sizes != (got := {name: len(table) for name, table in tables.items()}):
        raise ValueError(f"expected the tables that the report is about, with rows {sizes}, got {got}; validate these")
    if named := [name for name, table in tables.items() if "reason" in table.columns]:
        raise ValueError(f"expected tables without a column 'reason', which is added here; got one in {named}")
    aside = {name: (reasons != "").to_numpy() for name, reasons in report.reasons.items()}
    clean = {name: table[~aside[name]] for name, table in tables.items()}
    quarantined = {
        name: table[aside[name]].assign(reason=report.reasons[name].to_numpy()[aside[name]])
        for name, table in tables.items()
    }
    return clean, quarantined


def _check(name: str, table: object, schema: pa.DataFrameSchema | None, limit: float) -> Iterator[_Finding]:
    rows = np.ones(len(table) if isinstance(table, pd.DataFrame) else 0, dtype=bool)
    if schema is None:
        yield _Finding("", "table has a schema", "warn", rows)
        return
    _require_supported(name, schema)
    if table is None:
        yield _Finding("", "table is there", "stop", rows)
    elif not isinstance(table, pd.DataFrame):
        yield _Finding("", "table is a DataFrame", "stop", rows, type(table).__name__)
    elif table.empty:
        yield _Finding("", "table has rows", "stop", rows)
    elif not table.columns.is_unique:
        repeated = sorted(set(table.columns[table.columns.duplicated()].astype(str)))
        yield _Finding(", ".join(repeated), "column names do not repeat", "stop", rows)
    else:
        table = table.reset_index(drop=True)  # from here on a label is a position, whatever the index was
        faults = list(_structure(table, schema))
        sound = table.drop(columns=[fault.column for fault in faults], errors="ignore")
        for one in [*faults, *_values(sound, schema)]:
            too_many = one.severity == "quarantine" and one.broken.mean() > limit
            yield _Finding(one.column, one.rule, "stop", one.broken, one.samples) if too_many else one


def _structure(table: pd.DataFrame, schema: pa.DataFrameSchema) -> Iterator[_Finding]:
    """Yield what pandera says of columns and dtypes; missing values are counted in `_values`."""
    try:
        with config_context(validation_depth=ValidationDepth.SCHEMA_ONLY):
            schema.validate(table, lazy=True)
    except SchemaErrors as errors:
        every = np.ones(len(table), dtype=bool)
        for error in errors.schema_errors:
            if error.reason_code is SchemaErrorReason.WRONG_DATATYPE:
                name = error.schema.name
                samples = _cut(f"{table[name].dtype} {_samples(table[[name]])}")
                yield _Finding(name, f"dtype {error.schema.dtype}", "stop", every, samples)
            elif error.reason_code is not SchemaErrorReason.SERIES_CONTAINS_NULLS:
                absent = error.reason_code is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME
                rule = "column is there" if absent else str(error.check)
                yield _Finding(str(error.failure_cases), rule, "stop", every)


def _values(table: pd.DataFrame, schema: pa.DataFrameSchema) -> Iterator[_Finding]:
    """Yield the broken rules about values. A rule that needs a column with a fault cannot run, and is skipped."""
    complete = all(name in table for name, column in schema.columns.items() if column.required)
    for columns, rule, severity, broken in _rules(table, schema):
        shown = [column for column in columns.split(", ") if column in table]
        try:
            rows = broken(table)
        except Exception as error:  # a check is code of the schema's author: any error is a finding
            if complete:
                yield _Finding(columns, rule, "stop", np.ones(len(table), dtype=bool), _cut(f"cannot run: {error!r}"))
            continue
        if rows.any():
            yield _Finding(columns, rule, severity, rows.to_numpy(), _samples(table.loc[rows, shown]))


def _rules(table: pd.DataFrame, schema: pa.DataFrameSchema) -> Iterator[Rule]:
    """Yield all rules of the schema about values, as functions from the table to the rows that break them."""
    for name, column in schema.columns.items():
        if name in table:
            if not column.nullable:
                yield name, NOT_MISSING, _severity(column, NOT_MISSING), lambda rows, name=name: rows[name].isna()
            if column.unique:
                yield name, UNIQUE, _severity(column, UNIQUE), partial(_repeated, columns=[name], schema=column)
            for check in column.checks:
                rule = _name(check)
                yield name, rule, _severity(column, rule, check), partial(_broken, check=check, column=name)
    if schema.unique:
        columns = [schema.unique] if isinstance(schema.unique, str) else list(schema.unique)
        severity = _severity(schema, UNIQUE)
        yield ", ".join(columns), UNIQUE, severity, partial(_repeated, columns=columns, schema=schema)
    for check in schema.checks:
        columns, _, rule = _name(check).rpartition(": ")
        yield columns, rule, _severity(schema, _name(check), check), partial(_broken, check=check)


def _repeated(table: pd.DataFrame, *, columns: list[str], schema: pa.DataFrameSchema | pa.Column) -> pd.Series:
    return table.duplicated(columns, keep=KEEP[schema.report_duplicates])


def _broken(table: pd.DataFrame, *, check: pa.Check, column: str | None = None) -> pd.Series:
    """Return which rows fail a check: all of them, if a check of the whole column fails."""
    holds = check(table, column).check_output
    if isinstance(holds, pd.DataFrame):
        holds = holds.all(axis="columns")
    if not isinstance(holds, pd.Series):
        return pd.Series(not holds, index=table.index)
    broken = pd.Series(False, index=table.index)  # checks skip missing values: nullable decides on those
    broken.loc[holds.index[~holds.astype(bool)]] = True
    return broken


def _name(check: pa.Check) -> str:
    """Return the name that the schema's author gave, else pandera's description, such as "greater_than(0)"."""
    given = check.name and check.name != "<lambda>" and not hasattr(pa.Check, check.name)
    return check.name if given else check.error or check.name


def _severity(holder: pa.DataFrameSchema | pa.Column, rule: str, check: pa.Check | None = None) -> str:
    if check is not None and check.raise_warning:
        return "warn"
    stated = (holder.metadata or {}).get("severity", "stop")
    return stated if isinstance(stated, str) else stated.get(rule, "stop")


def _require_supported(name: str, schema: pa.DataFrameSchema) -> None:
    holders = {name: schema, **{f"{name}.{column}": held for column, held in schema.columns.items()}}
    for where, holder in holders.items():
        if holder.coerce or holder.parsers:
            raise ValueError(f"the schema of {where} converts values; expected one that only checks them")
        stated = (holder.metadata or {}).get("severity", {})
        own = {UNIQUE, NOT_MISSING} | {_name(check) for check in holder.checks}
        if isinstance(stated, dict) and (unknown := set(stated) - own):
            raise ValueError(f"expected severities for the rules {sorted(own)} of {where}, got {sorted(unknown)}")
        named = {stated} if isinstance(stated, str) else set(stated.values())
        if unknown := named - set(SEVERITIES):
            raise ValueError(f"expected severities out of {SEVERITIES} in the schema of {where}, got {sorted(unknown)}")
    if schema.index is not None or any(column.regex for column in schema.columns.values()):
        raise ValueError(f"the schema of {name} has a rule for the index or for columns by pattern; name each column")


def _reasons(found: list[_Finding], size: int) -> pd.Series:
    """Return for each row the quarantine rules that it breaks, or an empty text."""
    reasons = pd.Series("", index=range(size), dtype="str")
    for one in found:
        if one.severity == "quarantine":
            text = f"{one.column}: {one.rule}" if one.column else one.rule
            earlier = reasons[one.broken]
            reasons[one.broken] = earlier.where(earlier == "", earlier + "; ") + text
    return reasons


def _samples(values: pd.DataFrame) -> str:
    """Return some distinct values as text; of several columns, distinct rows as a=1 b=2."""
    several, texts = values.shape[1] > 1, []
    for row in values.head(SAMPLED_ROWS).to_dict("records"):
        cells = {name: f"{cell:.10g}" if isinstance(cell, float) else str(cell) for name, cell in row.items()}
        texts.append(" ".join(f"{name}={cell}" if several else cell for name, cell in cells.items()))
    return _cut(", ".join(list(dict.fromkeys(texts))[:SAMPLES]))


def _cut(text: str) -> str:
    return text if len(text) <= SAMPLE_WIDTH else text[: SAMPLE_WIDTH - 1] + "…"
