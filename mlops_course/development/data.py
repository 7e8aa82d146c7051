"""Data: know which tables a model saw, bring them back, and see them as they were known at an earlier instant.

Version    `content_version` names what tables say, not how they are stored
Snapshots  `save_snapshot`, `load_snapshot` and `snapshots`: folders named by that version, whole or absent, verified
Time       `known_at` hides the values that were not yet known at an instant

What counts as content: table names, column names, the kind of each column, every value, and how often a row occurs.
What does not: the order of rows and of columns, the index, file layout and compression, the width of a number type,
the unit of a time stamp, and whether text is stored as categories.

>>> import pandas as pd
>>> table = pd.DataFrame({"city": ["Bonn", "Bern"], "visits": [3, 5]})
>>> version = save_snapshot({"trips": table}, "store")
>>> version == content_version({"trips": table.iloc[::-1]})
True
>>> version == content_version({"trips": table.replace(5, 6)})
False
>>> load_snapshot("store", version)["trips"]["visits"].tolist()
[3, 5]
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["AlteredSnapshotError", "content_version", "known_at", "load_snapshot", "save_snapshot", "snapshots"]

VERSION_DIGITS = 16  # hexadecimal: 64 bits, so among a million versions two agree by accident once in 37 million stores
MISSING = np.uint64(0x9E6C63D0676A9A99)  # stands for NaN, NaT, None and NA in every kind of column
TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FOLDER_NAME = re.compile(rf"[0-9a-f]{{{VERSION_DIGITS}}}")
TABLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
MANIFEST = "manifest.json"
REPAIR = "do not train on it: delete its folder and save the data again, or restore the folder from a backup"

_sound: dict[Path, dict[str, tuple[int, int]]] = {}  # snapshots that this process has checked: times and sizes of files


class AlteredSnapshotError(ValueError):
    """The files of a snapshot are damaged, or do not say what its version promises."""


def content_version(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> str:
    """Name the content of tables: 16 hexadecimal digits that change with any value and with nothing else.

    A lone DataFrame counts as one table named "table". 1, 1.0, True and "1" differ, since the kind of a column counts:
    integer, float, boolean, text, time in its zone, duration. All missing values are equal, and so are 0.0 and -0.0.

    Rows are hashed to 64 bits each, the same on every platform: enough to catch accidents, no proof against a forger.
    Raises ValueError for column names that repeat or are no text, TypeError for a column of mixed or other values.
    """
    digest = hashlib.sha256()
    for name, table in sorted(_named(tables).items()):
        kinds, rows = _hash_rows(name, table)
        header = json.dumps([name, len(table), sorted(kinds.items())])
        digest.update(f"{len(header)}:{header}".encode())
        digest.update(np.sort(rows).astype("<u8").tobytes())
    return digest.hexdigest()[:VERSION_DIGITS]


def save_snapshot(tables: pd.DataFrame | Mapping[str, pd.DataFrame], folder: str | os.PathLike) -> str:
    """Store tables below `folder` under their content version, which is returned.

    One Parquet file a table and a manifest, written to a hidden folder and then renamed: a reader sees all of it or
    nothing, also if the writer is killed. A version that is there already is left as it is, not looked into. Raises
    ValueError for a table name that cannot be a file name, and what `content_version` raises.
    """
    tables, folder = _named(tables), Path(folder)
    if bad := [name for name in tables if not TABLE_NAME.fullmatch(name)]:
        raise ValueError(f"expected table names of letters, digits, dots, dashes and underscores, got {bad}")
    version = content_version(tables)
    if version in snapshots(folder):
        return version
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{version}-{uuid.uuid4().hex}"
    partial.mkdir()
    try:
        for name, table in tables.items():
            table.to_parquet(partial / f"{name}.parquet", index=False, compression="zstd")
        rows = {name: len(table) for name, table in tables.items()}
        (partial / MANIFEST).write_text(json.dumps({"version": version, "rows": rows}, indent=2), encoding="utf-8")
        os.replace(partial, folder / version)
    except OSError:
        if version not in snapshots(folder):  # otherwise another writer was faster, with the same content
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return version


def load_snapshot(folder: str | os.PathLike, version: str) -> dict[str, pd.DataFrame]:
    """The tables that were saved as `version`, read back and checked against it.

    A process checks a snapshot once, and again when a file of it has another time or size. Raises LookupError for a
    version that `folder` does not hold, AlteredSnapshotError for one whose files changed.
    """
    known = snapshots(folder)
    if version not in known:
        raise LookupError(f"expected a snapshot in {os.fspath(folder)!r}, one of {known}; got {version!r}")
    path = Path(folder) / version
    try:
        names = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["rows"]
        files = {name: path / f"{name}.parquet" for name in names}
        states = {name: (file.stat().st_mtime_ns, file.stat().st_size) for name, file in files.items()}
        tables = {name: pd.read_parquet(file) for name, file in files.items()}
        if _sound.get(path.resolve()) == states:
            return tables
        found = content_version(tables)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise AlteredSnapshotError(f"snapshot {version} cannot be read: {error}; {REPAIR}") from error
    if found != version:
        raise AlteredSnapshotError(f"snapshot {version} now holds the content of {found}; {REPAIR}")
    _sound[path.resolve()] = states
    return tables


def snapshots(folder: str | os.PathLike) -> list[str]:
    """The versions that `folder` holds, sorted; none if there is no such folder. Unfinished ones do not count."""
    return sorted(path.name for path in Path(folder).glob("*") if FOLDER_NAME.fullmatch(path.name))


def known_at(table: pd.DataFrame, instant: datetime, *, available: Mapping[str, str]) -> pd.DataFrame:
    """The table as somebody at `instant` would have seen it: what became known later is missing, rows all stay.

    `available` maps a column to the column that says when its value became known (time-zone-aware; missing means
    never; a value that comes at `instant` itself is known). Those columns are hidden where they lie in the future, too.
    Dtypes do not depend on the instant: a mapped column of integers becomes float64, one of booleans nullable boolean.

    Raises ValueError for an instant without a time zone, KeyError for an absent column, TypeError for other clocks.
    """
    instant = pd.Timestamp(instant)
    if instant.tz is None:
        raise ValueError(f"expected an instant with a time zone, got {instant}; for UTC add tzinfo=datetime.UTC")
    clocks = {clock: clock for clock in available.values()} | dict(available)
    if absent := sorted({*clocks, *clocks.values()} - set(table.columns)):
        raise KeyError(f"expected columns out of {list(table.columns)}, got {absent} in `available`")
    naive = sorted({clock for clock in clocks.values() if not isinstance(table[clock].dtype, pd.DatetimeTZDtype)})
    if naive:
        raise TypeError(f"expected time-zone-aware columns in `available`, got {naive}; see Series.dt.tz_localize")
    seen = {column: _nullable(table[column]).where(table[clock] <= instant) for column, clock in clocks.items()}
    return table.assign(**seen)


def _named(tables: pd.DataFrame | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {"table": tables} if isinstance(tables, pd.DataFrame) else dict(tables)


def _nullable(column: pd.Series) -> pd.Series:
    """The column in a dtype that can hold missing values."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
        return column.astype("boolean" if column.dtype.kind == "b" else "float64")
    return column


def _hash_rows(name: str, table: pd.DataFrame) -> tuple[dict[str, str], np.ndarray]:
    """The kind of each column, and one hash a row: the sum over its cells, so that the order of columns is free."""
    if not table.columns.is_unique or not all(isinstance(column, str) for column in table.columns):
        raise ValueError(f"expected text column names without repeats in table {name!r}, got {list(table.columns)}")
    kinds, rows = {}, np.zeros(len(table), dtype=np.uint64)
    for column in table.columns:
        try:
            kinds[column], cells = _hash_cells(table[column])
        except TypeError as error:
            raise TypeError(f"column {column!r} of table {name!r}: {error}") from None
        rows += _mix(cells ^ _hash_text(f"{column}:{kinds[column]}"))  # the name ties a value to its column
    return kinds, rows


def _hash_cells(column: pd.Series) -> tuple[str, np.ndarray]:
    """The kind of a column and a 64-bit hash of each value."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    missing, dtype = column.isna().to_numpy(), column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind in "mM":
        kind, cells = _hash_times(column)
    elif pd.api.types.is_bool_dtype(dtype):
        kind, cells = "boolean", column.fillna(False).to_numpy(dtype=np.uint64)
    elif pd.api.types.is_integer_dtype(dtype):
        width = np.uint64 if dtype.kind == "u" else np.int64
        kind, cells = "integer", column.fillna(0).to_numpy(dtype=width).view(np.uint64)
    elif pd.api.types.is_float_dtype(dtype):
        kind, cells = "float", (column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0).view(np.uint64)  # -0.0 is 0.0
    elif (found := pd.api.types.infer_dtype(column, skipna=True)) in ("string", "empty"):
        codes, texts = pd.factorize(column)
        hashes = np.array([_hash_text(text) for text in texts] + [MISSING], dtype=np.uint64)
        kind, cells = "text", hashes[codes]
    else:
        raise TypeError(f"expected numbers, booleans, text, time stamps or durations, got {found} values of {dtype}")
    return kind, np.where(missing, MISSING, _mix(cells))


def _hash_times(column: pd.Series) -> tuple[str, np.ndarray]:
    """Time stamps and durations as seconds and nanoseconds, so that the unit of the dtype does not count."""
    kind = "duration" if column.dtype.kind == "m" else "time"
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        kind = f"time in {column.dt.tz}"
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    per_second = TICKS_PER_SECOND[column.dt.unit]
    seconds, ticks = np.divmod(column.to_numpy().view(np.int64), per_second)
    return kind, _mix(seconds.view(np.uint64)) + (ticks * (10**9 // per_second)).view(np.uint64)


def _hash_text(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()))


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread every bit over all 64: the finaliser of splitmix64 (Steele, Lea and Flood 2014), one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
