"""The raw tables of the case, one batch a month, as they were published; DATA_CARD.md says what is wrong with them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

__all__ = ["SPECIFICATION", "batches", "files", "read"]

SPECIFICATION = Path(__file__).parent / "specification.yaml"
DATA = Path(__file__).parent / "data"
REFERENCES = ("airlines", "airports", "planes")


def batches() -> list[str]:
    """The months there are, in order: "2013-01" to "2013-12"."""
    return sorted(path.stem.removeprefix("flights_") for path in DATA.glob("flights_*.parquet"))


def files(names: Sequence[str]) -> list[Path]:
    """The Parquet files that `read(names)` reads. Raises ValueError for an unknown batch."""
    unknown = sorted(set(names) - set(batches()))
    if unknown or not names:
        raise ValueError(f"expected batches out of {batches()}, got {unknown or list(names)}")
    months = [DATA / f"flights_{name}.parquet" for name in sorted(set(names))]
    return [*months, DATA / "weather.parquet", *(DATA / f"{table}.parquet" for table in REFERENCES)]


def read(names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Raw tables of some months: flights and weather of those months, airlines, airports and planes whole.

    Raises ValueError for an unknown batch.
    """
    tables = {path.stem: pd.read_parquet(path) for path in files(names)}
    months = [tables.pop(f"flights_{name}") for name in sorted(set(names))]
    weather = tables["weather"]
    chosen = weather["month"].isin([int(name[5:]) for name in names])
    tables["weather"] = weather[chosen].reset_index(drop=True)
    return {"flights": pd.concat(months, ignore_index=True), **tables}
