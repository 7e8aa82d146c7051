"""The file: its encoding, its separator, its cells."""

import csv
import io
import re
from itertools import islice
from pathlib import Path

import pandas as pd

from mlops_course.starter import reading

from .draft import Finding

OTHER_FILES = {  # ending, and how pandas reads it
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "read_excel(FILE, sheet_name=0)"),
    **dict.fromkeys((".jsonl.gz", ".ndjson.gz", ".jsonl", ".ndjson"), "read_json(FILE, lines=True)"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), "read_csv(FILE, dtype=str)"),
    ".json": "read_json(FILE)",
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "read_sql(QUERY, 'sqlite:///FILE')"),
    **dict.fromkeys((".feather", ".arrow"), "read_feather(FILE)"),
}
LOOKED_AT = 1_000_000  # characters from which the separator is told


def look(path: Path) -> tuple[pd.DataFrame, dict[str, str], list[Finding]]:
    """The cells of a CSV or Parquet file, how it is written, and what is worth saying about that.

    Raises ValueError if it is neither, has no header, no second column or no rows.
    """
    if "://" in str(path) or re.match(r"\w+(\+\w+)?:/", str(path)):
        raise ValueError(
            f"expected a file, got the address {str(path)!r}; save what you want of it first, such as "
            "pandas.read_sql(QUERY, ADDRESS).to_parquet('table.parquet') for a database, and name that file"
        )
    if not path.is_file():
        raise ValueError(f"expected a CSV or Parquet file, got {path}, which is not there")
    if how := next((how for ending, how in OTHER_FILES.items() if path.name.lower().endswith(ending)), None):
        raise ValueError(
            f"expected a CSV or Parquet file, got {path.name}; save it as Parquet first: "
            f"pandas.{how}.to_parquet({path.name.split('.')[0] + '.parquet'!r}), and name that file"
        )
    if path.suffix.lower() in {".parquet", ".pq"}:
        form, found = {"kind": "parquet"}, []
        try:
            cells = reading.read_cells(path, form)
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a Parquet file in {path.name}, got: {error}") from error
        if not isinstance(cells.index, pd.RangeIndex):
            names = ", ".join(str(name) for name in cells.index.names)
            raise ValueError(f"expected columns only, got an index ({names}) in {path.name}; use reset_index()")
    else:
        form, found = _csv_form(path)
        cells = reading.read_cells(path, form)
        if all(re.fullmatch(r"[-+]?[\d.,]+(?:\.\d+)?", str(name)) for name in cells.columns):
            raise ValueError(f"expected column names in the first line of {path.name}, got {list(cells.columns)[:5]}")
    if not len(cells):
        raise ValueError(f"expected rows in {path.name}, got a header only")
    if not all(isinstance(name, str) for name in cells.columns):
        raise ValueError(f"expected names of columns that are text, got {list(cells.columns)[:5]} in {path.name}")
    return cells, form, found


def _csv_form(path: Path) -> tuple[dict[str, str], list[Finding]]:
    start = path.read_bytes()
    if not start.strip():
        raise ValueError(f"expected a table in {path.name}, got an empty file")
    found = []
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig" if start[:3] == b"\xef\xbb\xbf" else "utf-8"
        if b"\0" in start[:1000]:
            raise ValueError(f"expected text in {path.name}, got binary content; save the table as CSV or Parquet")
        try:
            start.decode(encoding)
        except UnicodeDecodeError as error:
            encoding, byte = "cp1252", start[error.start : error.start + 1].hex()
            seen = f"byte {byte} at {error.start:,} is no UTF-8"
            why = "what most programs in Western Europe write otherwise; look at the names with accents"
            found.append(Finding("(file)", seen, "read as Windows-1252", why))
    text = start.decode(encoding, errors="replace")[:LOOKED_AT]
    counts = {}
    for separator in ",;\t|":
        fields = [len(row) for row in islice(csv.reader(io.StringIO(text), delimiter=separator), 200) if row]
        if fields and fields[0] > 1:
            counts[separator] = (sum(number == fields[0] for number in fields) / len(fields), fields[0])
    if not counts:
        raise ValueError(
            f"expected columns separated by a comma, semicolon, tab or bar in {path.name}, got "
            f"{text.splitlines()[0][:60]!r}"
        )
    separator = max(counts, key=counts.get)
    if separator != ",":
        name = {";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
        found.append(Finding("(file)", f"fields between {name}", "read so", f"{counts[separator][1]} fields a line"))
    return {"kind": "csv", "encoding": encoding, "separator": separator}, found
