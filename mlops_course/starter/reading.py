"""Read a table as a plan says: file format, and what each column holds. Nothing is guessed here.

    read_cells     the file as it is: every cell of a CSV file as text, or the typed columns of a Parquet file
    distinct_rows  each row once, where the plan says `once`
    convert        cells as numbers, truths (0 or 1), categories and times, by the plan's word for each column
    read           all of it, with a name for each row
    own_layout     rows to be scored, as a file like the table has them, in the form that a model takes
    own_rows       the same for rows of a request
    batch_names    which month (or week, or day) each row belongs to

A plan is plain data from a YAML file: `format`, `columns` (name to kind and how it is written), perhaps `id`, and
`time` with `clock`. A value that is neither what the plan says nor a word for a missing one is an error.

>>> plan = {"columns": {"load": {"kind": "number", "decimal": ",", "thousands": "."}}}
>>> convert(pd.DataFrame({"load": ["1.250,5", "n/a"]}), plan)["load"].tolist()
[1250.5, nan]
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MISSING_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "<na>", "nat", "?")  # in any case of letters, in any column
MORE_MISSING_WORDS = ("none", "-", "--", ".", "nil", "missing", "unknown", "k.a.")  # where a number or time should be
QUARTER = r"(\d{4})[-_ ]?[Qq]([1-4])"
GRAINS = {"year": "%Y", "quarter": "", "month": "%Y-%m", "week": "%G-W%V", "day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}


def read_cells(path: Path, form: Mapping[str, Any]) -> pd.DataFrame:
    """The file as it is: text cells of a CSV file, spaces around them removed, or the typed columns of a Parquet file.

    `form` is {"kind": "parquet"}, or {"kind": "csv", "encoding": ..., "separator": ...}.
    """
    if form["kind"] == "parquet":
        return pd.read_parquet(path)
    try:
        cells = pd.read_csv(
            path, sep=form["separator"], encoding=form["encoding"], dtype=str, keep_default_na=False, na_filter=False
        )
    except (pd.errors.ParserError, UnicodeError) as error:
        raise ValueError(
            f"expected lines with equally many fields between {form['separator']!r}, in {form['encoding']}, in "
            f"{path.name}: {str(error).strip()}; mend that line"
        ) from error
    return cells.apply(lambda column: column.str.strip())


def read(path: Path, plan: Mapping[str, Any]) -> pd.DataFrame:
    """The table in `path`: the columns that the plan keeps, by their names there, and `row_id`.

    Rows that are the same in every column are rows of their own, unless the plan says `once`. `row_id` is the plan's
    id column as text, or a digest of the whole row. Without a column of time, the rows get the plan's made-up clock, in
    the order of the file, and the rows of one `group` get one time. Raises ValueError for a column that is missing and
    for a value that is not of its kind.
    """
    cells = read_cells(path, plan["format"])
    if plan.get("once"):
        cells = distinct_rows(cells)
    table = convert(cells, plan)
    table.insert(0, "row_id", as_text(cells[plan["id"]]) if plan.get("id") else row_ids(cells))
    if clock := plan.get("clock"):
        table[plan["time"]] = made_up_times(cells, clock, group=plan.get("group"))
    return table


def made_up_times(cells: pd.DataFrame, clock: Mapping[str, Any], *, group: str | None = None) -> pd.DatetimeIndex:
    """Times of rows that have none: `start`, and each `every_seconds` after the one before.

    Rows with the same value in the column `group` get the time of the first of them, so that no cut in time parts them.
    """
    position = np.arange(len(cells))
    if group:
        known = _known(cells[group], {})
        first = pd.Series(position, index=known.index).groupby(known).transform("min")
        position = first.fillna(pd.Series(position, index=known.index)).to_numpy()
    passed = pd.to_timedelta(position * clock["every_seconds"], unit="s")
    return (pd.Timestamp(clock["start"], tz="UTC") + passed).as_unit("us")


def distinct_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows without those that repeat an earlier one in every column, numbered from 0."""
    return cells[~_comparable(cells).duplicated()].reset_index(drop=True)


def convert(cells: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """The columns of the plan out of cells of text (or typed ones), converted by kind; the index stays.

    number, truth   float64, where a truth is 0 or 1
    category        text
    time            datetime64[us, UTC]
    moment          datetime64[us] without a zone: an input that is a point in time, on the clock of UTC
    """
    columns = {}
    for name, how in plan["columns"].items():
        source = how.get("source", name)
        if source not in cells.columns:
            raise ValueError(f"expected a column {source!r}, got {list(cells.columns)}")
        columns[name] = _CONVERT[how["kind"]](cells[source], how, source)
    return pd.DataFrame(columns, index=cells.index)


def as_text(values: pd.Series) -> pd.Series:
    """Cells as text, with whole numbers written as such, and what is missing as missing."""
    if isinstance(values.dtype, pd.StringDtype):
        return values.str.strip()
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = values.astype(object).where(values.notna(), None).map(str, na_action="ignore").astype("str")
    return text.str.strip()


def words(values: pd.Series) -> pd.Series:
    """Cells as words to compare: in small letters, and a whole number without decimals."""
    return as_text(values).str.lower().str.replace(r"^([+-]?\d+)[.,]0+$", r"\1", regex=True)


def row_ids(cells: pd.DataFrame) -> pd.Series:
    """A name for each row that depends on its content only, so that it stays when rows are sorted or added.

    Rows that are alike in every column are counted: the second of them gets the name of the first with -2 at its end.
    """
    digests = pd.util.hash_pandas_object(_comparable(cells).astype(str), index=False).map("{:016x}".format)
    count = digests.groupby(digests).cumcount() + 1
    return digests.where(count == 1, digests + "-" + count.astype(str)).astype("str")


def own_layout(path: Path, plan: Mapping[str, Any], *, inputs: Sequence[str]) -> pd.DataFrame:
    """The `inputs` of rows to be scored, from a file that is written as the table is, with or without its target.

    Columns get the names that a model knows them by, and the plan's id column is called id. A cell that cannot be read
    stays as it came, so that its row can be set aside with the reason. A file in the form that a model takes stays so.
    """
    form = plan["format"]
    if path.suffix.lower() in (".parquet", ".pq"):
        cells = read_cells(path, {"kind": "parquet"})
    else:
        plain = {"kind": "csv", "encoding": "utf-8-sig", "separator": ","}
        cells = read_cells(path, form if form["kind"] == "csv" else plain)
        if len(cells.columns) == 1 and form != plain:
            cells = read_cells(path, plain)
    found = {name: _column_of(name, plan) if _column_of(name, plan) in cells else name for name in inputs}
    if missing := [_column_of(name, plan) for name, column in found.items() if column not in cells]:
        raise ValueError(f"expected the columns of the table in {path.name}, got none named {missing}")
    read = {name: _as_far_as_read(cells[column], plan["columns"][name]) for name, column in found.items()}
    key = plan["id"] if plan.get("id") in cells else "id"
    return pd.DataFrame(({"id": as_text(cells[key])} if key in cells else {}) | read, index=cells.index)


def own_rows(rows: list[dict[str, Any]], plan: Mapping[str, Any], *, inputs: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a request, written as the table is or as a model takes them, in the form that a model takes.

    What cannot be read stays as it came, and so does a field that is no column of the table, for the service to refuse.
    """
    asked = [dict(row) for row in rows]
    unused = {*plan.get("left_out", ()), *(_column_of(name, plan) for name in plan["columns"])}.difference(
        inputs, ["id"]
    )
    for row in asked:
        if (key := plan.get("id")) and key in row and key not in inputs:
            row.setdefault("id", str(row.pop(key)))
        for name in inputs:
            if name not in row and _column_of(name, plan) in row:
                row[name] = row[_column_of(name, plan)]
        for column in unused:
            row.pop(column, None)
    for name in inputs:
        at = [number for number, row in enumerate(asked) if isinstance(row.get(name), str)]
        read = _as_far_as_read(pd.Series([asked[number][name] for number in at], dtype=object), plan["columns"][name])
        for number, value in zip(at, read, strict=True):
            moment = isinstance(value, pd.Timestamp)
            asked[number][name] = None if pd.isna(value) else value.to_pydatetime() if moment else value
    return asked


def _column_of(name: str, plan: Mapping[str, Any]) -> str:
    """The column of the file that a name of the plan stands for."""
    return plan["columns"][name].get("source", name)


def _as_far_as_read(values: pd.Series, how: Mapping[str, Any]) -> pd.Series:
    """Cells converted by kind, one by one: what is not of the kind stays as it came."""
    if not isinstance(values.dtype, (pd.StringDtype, np.dtypes.ObjectDType)):
        try:
            return _CONVERT[how["kind"]](values, how, "")
        except ValueError:  # such as true where the table has words
            return values
    text = as_text(values)
    distinct = text.drop_duplicates()
    read = pd.Series(index=distinct.index, dtype=object)
    try:
        read = _CONVERT[how["kind"]](distinct, how, "").astype(object)
    except ValueError:
        for position, cell in distinct.items():
            try:
                read[position] = _CONVERT[how["kind"]](distinct.loc[[position]], how, "").iloc[0]
            except ValueError:
                read[position] = cell
    if how["kind"] == "moment":  # as a model takes it, if not as the table has it
        read = read.where(read.notna(), _moment(distinct, {"format": "ISO8601"}, "").astype(object))
    read = read.where(read.notna(), distinct.where(_known(distinct, how, _absent(how)).notna(), None))
    return text.map(dict(zip(distinct, read, strict=True))).astype(object).where(text.notna(), None)


def _absent(how: Mapping[str, Any]) -> tuple[str, ...]:
    """The words for a missing value of a kind, beside those of every column."""
    return () if how["kind"] in ("category", "truth") else MORE_MISSING_WORDS


def batch_names(times: pd.Series, grain: str) -> pd.Series:
    """The batch of each row: the name of its "year", "quarter", "month", "week", "day" or "hour" of UTC.

    Names sort as times do. A row whose time is missing goes with the row above, and validation sets it aside: all in
    one batch would be too many there.
    """
    times = times.ffill().fillna(times.min())
    if grain == "quarter":
        return times.dt.strftime("%Y-Q") + times.dt.quarter.astype(str)
    return times.dt.strftime(GRAINS[grain])


def _known(values: pd.Series, how: Mapping[str, Any], words: tuple[str, ...] = ()) -> pd.Series:
    """The cells as text, missing where the plan or a common word says so."""
    text = as_text(values)
    absent = {*MISSING_WORDS, *words, *(str(word).lower() for word in how.get("missing", ()))}
    return text.mask(text.str.lower().isin(absent))


def _number(values: pd.Series, how: Mapping[str, Any], name: str) -> pd.Series:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        numbers = values.astype("Float64").astype(float).replace([np.inf, -np.inf], np.nan)
        return numbers.mask(numbers.isin([float(word) for word in how.get("missing", ()) if _is_number(word)]))
    text = _known(values, how, MORE_MISSING_WORDS)
    if sign := how.get("sign"):
        escaped = re.escape(sign)
        text = text.str.replace(rf"(?<=[-+]){escaped}|^{escaped}\s?|\s?{escaped}$", "", regex=True)
    plain = text
    if between := how.get("thousands"):
        point = re.escape(how.get("decimal", "."))
        grouped = text.str.fullmatch(rf"[+-]?(\d{{1,3}}({re.escape(between)}\d{{3}})+|\d+)?({point}\d*)?(e[+-]?\d+)?")
        usual = text.str.lower().isin(["inf", "-inf", "infinity"])
        plain = text.str.replace(between, "", regex=False).where(grouped.fillna(True) | usual, "no number")
    plain = plain.str.replace(how["decimal"], ".", regex=False) if how.get("decimal", ".") != "." else plain
    numbers = pd.to_numeric(plain, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    _refuse(text, numbers.isna() & ~plain.str.lower().isin(["inf", "-inf", "infinity"]), name, "a number")
    return numbers


def _is_number(word: Any) -> bool:
    return not pd.isna(pd.to_numeric(str(word), errors="coerce"))


def _truth(values: pd.Series, how: Mapping[str, Any], name: str) -> pd.Series:
    if "above" in how:
        numbers = _number(values, how, name)
        return (numbers > how["above"]).astype(float).where(numbers.notna())
    text = words(values).mask(_known(values, how).isna())
    meaning = {**dict.fromkeys(how["yes"], 1.0), **dict.fromkeys(how["no"], 0.0)}
    truths = text.map(meaning).astype(float)
    if how.get("others_are_no"):
        return truths.where(truths.notna() | text.isna(), 0.0)
    _refuse(text, truths.isna(), name, f"one of {sorted(meaning)}")
    return truths


def _category(values: pd.Series, how: Mapping[str, Any], name: str) -> pd.Series:
    return _known(values, how).astype("str")


def _time(values: pd.Series, how: Mapping[str, Any], name: str) -> pd.Series:
    """Instants; what cannot be read is missing, because validation sets such rows aside and says how many."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").dt.as_unit("us")
    if pd.api.types.is_datetime64_dtype(values):
        return values.dt.tz_localize("UTC").dt.as_unit("us")
    text = _known(values, how, MORE_MISSING_WORDS)
    if unit := how.get("unit"):
        read = pd.to_datetime(pd.to_numeric(text, errors="coerce"), unit=unit, utc=True, errors="coerce")
    elif how.get("format") == "quarter":
        parts = text.str.extract(f"^{QUARTER}$").astype(float)
        month = (3 * parts[1] - 2).map("{:02.0f}".format)
        read = pd.to_datetime(parts[0].map("{:.0f}-".format) + month, format="%Y-%m", utc=True, errors="coerce")
    else:
        read = pd.to_datetime(text, format=how.get("format", "ISO8601"), utc=True, errors="coerce")
    return read.dt.as_unit("us")


def _moment(values: pd.Series, how: Mapping[str, Any], name: str) -> pd.Series:
    return _time(values, how, name).dt.tz_localize(None)


def _comparable(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells that can be compared: lists and mappings as text."""
    return cells.apply(lambda column: column.map(repr) if column.dtype == object else column)


_CONVERT = {"number": _number, "truth": _truth, "category": _category, "time": _time, "moment": _moment}


def _refuse(text: pd.Series, unread: pd.Series, name: str, expected: str) -> None:
    strange = text[unread & text.notna()]
    if len(strange):
        raise ValueError(
            f"expected {expected} in column {name!r}, got {strange.iloc[0]!r} in row {strange.index[0]} and "
            f"{len(strange) - 1:,} more; mend the file, or add the word to `missing` of that column"
        )
