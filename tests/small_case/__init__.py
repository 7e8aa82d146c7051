"""Pumps: will a pump fail in the week after its check? The second case, small, with no stage written for it.

It has all that a case folder must have, on about 3,000 made-up rows: `SPECIFICATION`, `batches`, `files`, `read`,
`schemas`, `build` and `derive`. A month of checks is one recipe in `data/` (rows, seed and, if wanted, a fault), so a
test changes the data by editing one small file. A failure is reported a week or more after the check: the last ones of
a month are not known when the next one begins, and some never are.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from mlops_course.development import data

HERE = Path(__file__).parent
SPECIFICATION = HERE / "specification.yaml"
PUMPS = 120
FAULTS = (  # options for drills
    {"kind": "unit error", "column": "temperature", "size": 1.8, "offset": 32.0},
    {"kind": "silent null", "column": "pressure", "size": 1.0},
)
NUMERIC = ["vibration", "temperature", "pressure", "installed"]


def batches() -> list[str]:
    """The months there are, in order."""
    return sorted(file.stem for file in (HERE / "data").glob("*.json"))


def files(batches: Sequence[str]) -> list[Path]:
    """The file that each batch is read from."""
    return [HERE / "data" / f"{batch}.json" for batch in batches]


def read(batches: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Raw tables: `checks` of the given months, and all `pumps`."""
    rng = np.random.default_rng(0)
    pumps = pd.DataFrame(
        {
            "pump": [f"P{number:03d}" for number in range(PUMPS)],
            "maker": rng.choice(["Ajax", "Boreal", "Cobalt"], PUMPS),
            "installed": rng.integers(1998, 2023, PUMPS),
        }
    )
    months = [_checks(file.stem, pumps, **json.loads(file.read_text())) for file in files(batches)]
    return {"checks": pd.concat(months, ignore_index=True), "pumps": pumps}


def _checks(batch: str, pumps: pd.DataFrame, *, rows: int, seed: int, fault: str | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    pump = pumps.iloc[rng.integers(0, PUMPS, rows)].reset_index(drop=True)
    checked = pd.Timestamp(batch, tz="UTC") + pd.to_timedelta(np.sort(rng.integers(0, 28 * 24 * 60, rows)), unit="min")
    vibration, heat = rng.gamma(4, 1, rows), rng.normal(size=rows)
    risk = -4.0 + 0.7 * vibration + 0.8 * heat + 0.9 * (pump["maker"] == "Cobalt") + 0.05 * (2024 - pump["installed"])
    failed = (rng.random(rows) < 1 / (1 + np.exp(-risk + 1))).astype(float)
    checks = pd.DataFrame(
        {
            "check": [f"{batch}-{number:04d}" for number in range(rows)],
            "pump": pump["pump"],
            "checked": checked.as_unit("us"),
            "vibration": vibration.round(3),
            "temperature": (60 + 8 * heat).round(1),
            "pressure": rng.normal(5, 0.5, rows).round(2),
            "failed": np.where(rng.random(rows) < 0.02, np.nan, failed),
            "reported": (checked + pd.to_timedelta(7 * 24 + rng.integers(0, 72, rows), unit="h")).as_unit("us"),
        }
    )
    checks["reported"] = checks["reported"].where(checks["failed"].notna())
    checks.loc[rng.random(rows) < 0.1, "pressure"] = np.nan
    return _FAULTS[fault](checks)


_FAULTS = {
    None: lambda checks: checks,
    "column lost": lambda checks: checks.drop(columns="vibration"),
    "hot row": lambda checks: checks.assign(temperature=checks["temperature"].where(checks.index != 3, 4_000.0)),
    "a quarter hot": lambda checks: checks.assign(
        temperature=checks["temperature"].where(checks.index % 4 > 0, 4_000.0)
    ),
    "a column of lists": lambda checks: checks.assign(note=[["a"]] * len(checks)),
    "no rows": lambda checks: checks[:0],
    "numbers as text": lambda checks: checks.astype({"vibration": str}),
    "columns shifted": lambda checks: checks.set_axis([*checks.columns[1:], checks.columns[0]], axis="columns"),
    "times without zone": lambda checks: checks.assign(checked=checks["checked"].dt.tz_localize(None)),
    "answer scrambled": lambda checks: checks.assign(failed=checks["failed"].to_numpy()[::-1]),
}


def schemas() -> dict[str, pa.DataFrameSchema]:
    """What the raw tables must look like."""
    return {
        "checks": pa.DataFrameSchema(
            {
                "check": pa.Column(str, unique=True),
                "pump": pa.Column(str),
                "checked": pa.Column("datetime64[us, UTC]"),
                "vibration": pa.Column(float, pa.Check.ge(0)),
                "temperature": pa.Column(float, pa.Check.in_range(-40, 200), metadata={"severity": "quarantine"}),
                "pressure": pa.Column(float, nullable=True),
                "failed": pa.Column(float, pa.Check.isin([0, 1]), nullable=True),
                "reported": pa.Column("datetime64[us, UTC]", nullable=True),
            }
        ),
        "pumps": pa.DataFrameSchema(
            {"pump": pa.Column(str, unique=True), "maker": pa.Column(str), "installed": pa.Column(int)}
        ),
    }


def tables_as_of(tables: dict[str, pd.DataFrame], instant: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """What the raw tables showed at `instant`: only earlier checks, and failures once reported."""
    checks = data.known_at(tables["checks"], instant, available={"failed": "reported"})
    return {**tables, "checks": checks[checks["checked"] <= instant].reset_index(drop=True)}


def build(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each check, in the order of `checks`: what was known when it was made, and what came of it."""
    checks = tables["checks"].merge(tables["pumps"], on="pump", how="left", validate="many_to_one")
    return pd.DataFrame(
        {
            "id": checks["check"],
            "batch": checks["checked"].dt.strftime("%Y-%m"),
            "prediction_time": checks["checked"],
            "label_time": checks["reported"],
            "failed": checks["failed"],
            "checked": checks["checked"].dt.tz_localize(None),
            "maker": checks["maker"],
            **{name: checks[name].astype(float) for name in NUMERIC},
        }
    )


def derive(inputs: pd.DataFrame) -> pd.DataFrame:
    """Features of each row, from that row alone."""
    return pd.DataFrame(
        {
            "vibration": inputs["vibration"],
            "temperature": inputs["temperature"],
            "pressure": inputs["pressure"],
            "age": inputs["checked"].dt.year - inputs["installed"],
            "maker": inputs["maker"],
        }
    )
