"""Corrupted months of flights beside good ones: what stops each, and what is trained on without a word.

    python benchmarks/batches.py [--beside N] [--only TEXT] [--seed N]

Each case corrupts one month of the real year and puts it into a temporary folder beside N good months (1 if not given,
11 for the whole year). Then it goes through the steps by which `train` takes rows in; nothing is fitted. A line of the
table says what came of it: stopped (by which rule), aside (rows in quarantine), warned, silent, sentence (refused by
another error that a person can read) or traceback. `named` says whether the message names the month or its file.
The last lines count the outcomes, and say what the real months are stopped or set aside for.

Of 71 cases beside a good month (December 2026, seed 0), 28 were stopped, 3 of them by name, 5 ended in a traceback and
20 were silent while all months were judged together; since each is judged by itself, 43 are stopped, 42 by name, none
ends in a traceback and 17 are silent.
"""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.development.validation import InvalidBatch
from mlops_course.flights import timeline
from mlops_course.system.pipeline import steps
from mlops_course.system.workspace import Workspace

REAL = timeline.DATA
NUMBERS = ("int64", "float64")
CLOCKS = ("dep_time", "sched_dep_time", "arr_time", "sched_arr_time")
LABELS = ("arr_time", "arr_delay", "air_time")
Change = Callable[[pd.DataFrame, float, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Kind:
    """What is done to a file: to the flights of a month, to the weather of a month or the year, or to the bytes."""

    file: str  # "flights", "weather" (rows of the month), "weather of the year", "flights bytes", "weather bytes"
    change: Callable
    sizes: tuple[float, ...] = (1.0,)


def some(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.Series:
    return pd.Series(rng.random(len(rows)) < share, index=rows.index)


def put(value: object, *columns: str) -> Change:
    """Replace a share of the values of columns; `value` may be a function of a column."""

    def change(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
        chosen = some(rows, share, rng)
        made = {c: value(rows[c]) if callable(value) else value for c in columns}
        return rows.assign(**{c: rows[c].mask(chosen, new).astype(rows[c].dtype) for c, new in made.items()})

    return change


def whole(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    return lambda rows, share, rng: change(rows)


def times(factor: float, *columns: str, offset: float = 0.0) -> Change:
    return put(lambda old: (old * factor + offset).round(2 if old.dtype == float else 0).astype(old.dtype), *columns)


def stuck(*columns: str) -> Change:
    return whole(lambda rows: rows.assign(**{column: rows[column].dropna().iloc[0] for column in columns}))


def shifted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_axis([*rows.columns[1:], rows.columns[0]], axis="columns")


def as_text(*columns: str) -> Change:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        chosen = columns or [name for name, dtype in rows.dtypes.items() if dtype in NUMBERS]
        return rows.assign(**{column: rows[column].astype(str) for column in chosen})

    return whole(change)


def hour_off(rows: pd.DataFrame) -> pd.DataFrame:
    """All clocks an hour late, and all of them agree."""
    moved = rows[(rows["hour"] < 23)]
    later = {name: (moved[name] + 100).where(moved[name] + 100 < 2_400, moved[name] - 2_300) for name in CLOCKS}
    later = {name: values.astype(moved[name].dtype) for name, values in later.items()}
    return moved.assign(hour=moved["hour"] + 1, time_hour=moved["time_hour"] + pd.Timedelta("1h"), **later)


def weather_off(rows: pd.DataFrame) -> pd.DataFrame:
    moved = rows[rows["hour"] < 23]
    return moved.assign(hour=moved["hour"] + 1, time_hour=moved["time_hour"] + pd.Timedelta("1h"))


def without(column: str, value: str) -> Change:
    return whole(lambda rows: rows[rows[column] != value])


def days_lost(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    return rows[~rows["day"].isin(rng.permutation(rows["day"].unique())[: round(share * rows["day"].nunique())])]


def again(rows: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    return pd.concat([rows, rows[some(rows, share, rng)]], ignore_index=True)


def other_month(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.read_parquet(REAL / f"flights_2013-{rows['month'].iloc[0] % 12 + 1:02}.parquet")


def naive(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(time_hour=rows["time_hour"].dt.tz_localize(None))


KINDS = {
    "negative distances": Kind("flights", put(lambda old: -old, "distance"), (0.02, 0.1, 0.4, 1.0)),
    "distance in km": Kind("flights", times(1.609344, "distance"), (0.3, 1.0)),
    "departure delay in seconds": Kind("flights", times(60, "dep_delay"), (0.04, 1.0)),
    "arrival delay in hours": Kind("flights", times(1 / 60, "arr_delay")),
    "infinite arrival delay": Kind("flights", put(np.inf, "arr_delay"), (0.02, 0.2)),
    "air time of nothing": Kind("flights", put(0.0, "air_time"), (0.1,)),
    "departure delay missing": Kind("flights", put(np.nan, "dep_delay"), (0.03, 0.2)),
    "every label missing": Kind("flights", put(np.nan, *LABELS)),
    "half of the labels missing": Kind(
        "flights", lambda t, s, rng: t.where(~pd.Series(t["day"] > 15), t.assign(**dict.fromkeys(LABELS, np.nan)))
    ),
    "labels shuffled": Kind("flights", lambda t, s, rng: t.assign(arr_delay=rng.permutation(t["arr_delay"]))),
    "an unknown carrier": Kind("flights", put("ZZ", "carrier"), (0.03, 0.3)),
    "an unknown destination": Kind("flights", put("XXX", "dest"), (0.02, 1.0)),
    "origin in small letters": Kind("flights", put(lambda old: old.str.lower(), "origin"), (0.2,)),
    "tail numbers missing": Kind("flights", put(None, "tailnum"), (0.3, 1.0)),
    "one tail number for all": Kind("flights", put("N14228", "tailnum")),
    "another year": Kind("flights", put(2014, "year"), (0.01, 1.0)),
    "another month's flights": Kind("flights", whole(other_month)),
    "rows twice": Kind("flights", again, (0.01, 1.0)),
    "one carrier's rows gone": Kind("flights", without("carrier", "UA")),
    "one airport's rows gone": Kind("flights", without("origin", "LGA")),
    "days lost": Kind("flights", days_lost, (0.1, 0.5)),
    "no rows": Kind("flights", whole(lambda t: t[:0])),
    "one row": Kind("flights", whole(lambda t: t[:1])),
    "a column lost": Kind("flights", whole(lambda t: t.drop(columns="sched_arr_time"))),
    "columns shifted by one": Kind("flights", whole(shifted)),
    "numbers as text": Kind("flights", as_text()),
    "distance as text": Kind("flights", as_text("distance")),
    "whole numbers with a fraction": Kind("flights", whole(lambda t: t.astype({"distance": float}))),
    "times without zone": Kind("flights", whole(naive)),
    "times as text": Kind("flights", as_text("time_hour")),
    "all clocks an hour off": Kind("flights", whole(hour_off)),
    "one clock an hour off": Kind("flights", whole(lambda t: t.assign(time_hour=t["time_hour"] + pd.Timedelta("1h")))),
    "file cut in half": Kind("flights bytes", lambda content: content[: len(content) // 2]),
    "file of no bytes": Kind("flights bytes", lambda content: b""),
    "an error page for a file": Kind("flights bytes", lambda content: b"<html>502 Bad Gateway</html>"),
    "weather file cut in half": Kind("weather bytes", lambda content: content[: len(content) // 2]),
    "temperature in °C": Kind("weather", times(1 / 1.8, "temp", "dewp", offset=-32 / 1.8)),
    "one thermometer in °C": Kind("weather", times(1 / 1.8, "temp", offset=-32 / 1.8)),
    "temperature of -999": Kind("weather", put(-999.0, "temp"), (0.03, 0.3)),
    "wind in m/s": Kind("weather", times(0.44704, "wind_speed", "wind_gust")),
    "rain in mm": Kind("weather", times(25.4, "precip")),
    "pressure in inches": Kind("weather", times(0.02953, "pressure")),
    "visibility in km": Kind("weather", times(1.609344, "visib")),
    "thermometers stuck": Kind("weather", stuck("temp", "dewp", "humid")),
    "wind gauge stuck": Kind("weather", stuck("wind_speed", "wind_dir")),
    "humidity missing": Kind("weather", put(np.nan, "humid"), (0.5, 1.0)),
    "no weather": Kind("weather", whole(lambda t: t[:0])),
    "one station silent": Kind("weather", without("origin", "EWR")),
    "weather days lost": Kind("weather", days_lost, (0.5,)),
    "weather twice": Kind("weather", again, (0.02, 1.0)),
    "weather an hour off": Kind("weather", whole(weather_off)),
    "temperature as text": Kind("weather of the year", as_text("temp")),
    "weather without zone": Kind("weather of the year", whole(naive)),
    "weather columns shifted by one": Kind("weather of the year", whole(shifted)),
    "weather without its month": Kind("weather of the year", whole(lambda t: t.drop(columns="month"))),
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--beside", type=int, default=1, metavar="N", help="good months beside the bad one, 0 to 11")
    options.add_argument("--only", default="", metavar="TEXT", help="cases whose kind has this text")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    months, lines = flights.batches(), []
    cases = [(name, kind, size) for name, kind in KINDS.items() for size in kind.sizes]
    with TemporaryDirectory() as place:
        workspace = Workspace(Path(place, "workspace"))
        for folder in (workspace.reports, workspace.snapshots):
            folder.mkdir(parents=True)
        sound = {month: judged(beside(months, month, chosen.beside), workspace, set()) for month in months}
        for number, (name, kind, size) in enumerate(cases):
            if chosen.only not in name:
                continue
            month, folder = months[number * 5 % 12], Path(place, f"data-{number}")
            corrupt(kind, size, month, folder, np.random.default_rng([chosen.seed, number]))
            timeline.DATA = folder
            outcome, told, text = judged(beside(months, month, chosen.beside), workspace, sound[month][2])
            timeline.DATA = REAL
            shutil.rmtree(folder)
            named = "" if outcome in ("aside", "warned", "silent") else "yes" if names(text, month, kind) else "no"
            lines.append({"kind": name, "size": size, "month": month, "outcome": outcome, "named": named, "by": told})
    table = pd.DataFrame(lines)
    print(table.to_string(index=False, max_colwidth=100))
    print(f"\n{len(table)} corrupted months, each beside {chosen.beside} good ones")
    print(table.groupby(["outcome", "named"]).size().to_string())
    print("\nThe real months:", {month: f"{outcome} {told}".strip() for month, (outcome, told, _) in sound.items()})


def beside(months: list[str], month: str, others: int) -> list[str]:
    """The month and so many of the others, the ones before it first."""
    at = months.index(month)
    return sorted([month, *[*months[:at][::-1], *months[at + 1 :]][:others]])


def corrupt(kind: Kind, size: float, month: str, folder: Path, rng: np.random.Generator) -> None:
    """The folder of the data, with links to the real files and one file that is corrupted."""
    folder.mkdir()
    what = kind.file.split()[0]
    bad = f"flights_{month}.parquet" if what == "flights" else "weather.parquet"
    for path in REAL.glob("*.parquet"):
        if path.name != bad:
            (folder / path.name).symlink_to(path)
    if "bytes" in kind.file:
        (folder / bad).write_bytes(kind.change((REAL / bad).read_bytes()))
        return
    rows = pd.read_parquet(REAL / bad)
    if kind.file == "weather":
        own = rows["month"] == int(month[5:])
        pd.concat([rows[~own], kind.change(rows[own], size, rng)], ignore_index=True).to_parquet(folder / bad)
    else:
        kind.change(rows, size, rng).to_parquet(folder / bad)


def judged(batches: list[str], workspace: Workspace, known: set) -> tuple[str, str, str | set]:
    """What came of the batches: the outcome, the rules, and the message or the findings, which `known` leaves out."""
    try:
        valid = steps.valid_tables(steps.raw_tables(batches, flights, workspace), flights, workspace)
        steps.prediction_rows(valid, flights, workspace)
    except InvalidBatch as error:
        rules = [line.split("  ", 1)[1].strip() for line in str(error).splitlines() if line.startswith("stop ")]
        return "stopped", "; ".join(rules) or str(error).splitlines()[0], str(error)
    except Exception as error:  # what the command line would do with it is what is measured
        kind = "sentence" if isinstance(error, ValueError | OSError | LookupError) else "traceback"
        return kind, f"{type(error).__name__}: {str(error).splitlines()[0]}", str(error)
    found = {(f.severity, f"{f.table}.{f.column}: {f.rule}", f.count) for f in valid.findings.itertuples()}
    rules = {(severity, rule) for severity, rule, _ in known if severity == "warn"}
    new = [one for one in found if one not in known and one[:2] not in rules]
    aside = [f"{rule} ({count})" for severity, rule, count in new if severity == "quarantine"]
    warned = [f"{rule} ({count})" for severity, rule, count in new if severity == "warn"]
    outcome = "aside" if aside else "warned" if warned else "silent"
    return outcome, "; ".join(aside or warned), found


def names(text: str, month: str, kind: Kind) -> bool:
    told = f"Batch {month}" in text or f"flights_{month}" in text or f"in {month}" in text
    return told or (kind.file in ("weather of the year", "weather bytes") and "weather" in text)


if __name__ == "__main__":
    main()
