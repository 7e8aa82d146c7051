"""How a table is read and judged: what each column is, what was decided about it, and why.

    look      encoding and separator of a file, and its cells
    infer     every decision about the table for a target, as a `Judgement`: a plan to read it by, and one line a column

Decisions err on the safe side. What cannot be decided from the table stops with what was expected, what came and what
to do; everything else is decided, and said. A figure that was inferred carries its reason with it.
"""

import csv
import difflib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_course.starter import columns, reading

__all__ = ["Finding", "Judgement", "infer", "look"]

MIN_ROWS = 200  # labelled rows; with fewer, the 15 % to judge on are a handful
FEW_ROWS = 1_000  # labelled rows below which it is said that they are few
MIN_MINORITY = 40  # rows of the rarer answer: six of them are then among those to judge on
TEST_SHARE, CALIBRATE_SHARE, FOLDS = 0.15, 0.12, 4  # as in `system.pipeline.steps`, whose split is tried here first
READABLE = columns.READABLE
EMPTY = 0.995  # share of missing values from which nothing is left to learn from
LEAK_AUC, SUSPICIOUS_AUC = 0.98, 0.9  # of one column alone; the second is the bar of the readiness probe
AFTERWARDS = 0.01  # share of rows in which a moment may lie after the prediction before it counts as not known then
IMBALANCED = 0.1  # share of the rarer answer below which it is named
ENOUGH_BATCHES = 6  # the last is not trained on, and the rest has to show how time goes on
LOOKED_AT = 1_000_000  # characters from which the separator is told
MOST_SLICES = 10  # values of a column by which the model is judged
NESTED = (list, dict, tuple, set, bytes, np.ndarray)
MADE_UP_START, MADE_UP_DAYS = "2001-01-01", 1_000  # the clock of a table without time
RESERVED = {"id", "batch", "prediction_time", "label_time", "probability", "decision", "model_version", "reason"}
RESERVED |= {"row_id", "made_up_time"}  # columns that are added, here or by the stages


@dataclass(frozen=True)
class Finding:
    """One line of what is told to the user: a column (or "(rows)", "(file)"), what was seen, decided, and why."""

    column: str
    seen: str
    decided: str
    why: str


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was decided about a table.

    `plan` is what `reading.read` reads it by, with `target`, `time`, `grain` of the batches and `inputs` by kind;
    `findings` tell each decision; `figures` map a threshold of the specification to its value and its reason; `facts`
    are counts and words for the README. All plain values.
    """

    plan: dict[str, Any]
    findings: tuple[Finding, ...]
    figures: dict[str, tuple[Any, str]]
    facts: dict[str, Any]


# The file -------------------------------------------------------------------------------------------------------------


def look(path: Path) -> tuple[pd.DataFrame, dict[str, str], list[Finding]]:
    """The cells of a CSV or Parquet file, how it is written, and what is worth saying about that.

    Raises ValueError if it is neither, has no header, no second column or no rows.
    """
    if not path.is_file():
        raise ValueError(f"expected a CSV or Parquet file, got {path}, which is not there")
    if path.suffix.lower() in {".parquet", ".pq"}:
        form, found = {"kind": "parquet"}, []
        try:
            cells = reading.read_cells(path, form)
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a Parquet file in {path.name}, got: {error}") from error
        if not isinstance(cells.index, pd.RangeIndex):
            names = ", ".join(str(name) for name in cells.index.names)
            raise ValueError(
                f"expected columns only, got an index ({names}) in {path.name}; write it after reset_index()"
            )
    else:
        form, found = _csv_form(path)
        cells = reading.read_cells(path, form)
        if all(re.fullmatch(r"[-+]?[\d.,]+(?:\.\d+)?", str(name)) for name in cells.columns):
            raise ValueError(
                f"expected names of columns in the first line of {path.name}, got {list(cells.columns)[:5]}"
            )
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
            found.append(
                Finding(
                    "(file)",
                    f"byte {byte} at {error.start:,} is no UTF-8",
                    "read as Windows-1252",
                    "what most programs in Western Europe write otherwise; look at the names with accents",
                )
            )
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


# The judgement --------------------------------------------------------------------------------------------------------


def infer(
    path: Path,
    *,
    target: str,
    time: str | None,
    positive: str | None = None,
    id: str | None = None,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    time_format: str | None = None,
) -> Judgement:
    """Judge the table in `path` for predicting `target`, in order of the column `time` (None: in order of its rows).

    `positive` is the value of the target that counts as 1; `id` names the rows; `drop` are columns to leave out, `keep`
    those to use in spite of what is found; `time_format` is strptime's, for a time that can be read in two ways.
    Raises ValueError for what has to be decided by somebody who knows the table.
    """
    cells, form, found = look(path)
    _names_exist(cells, {"--target": [target], "--time": [time], "--id": [id], "--drop": drop, "--keep": keep})
    if len({target, time, id} - {None}) < 3 - [time, id].count(None):
        raise ValueError(f"expected different columns for target, time and id, got {target!r}, {time!r} and {id!r}")
    rows = reading.distinct_rows(cells)
    if repeated := len(cells) - len(rows):
        found.append(
            Finding(
                "(rows)",
                f"{repeated:,} of {len(cells):,} rows repeat another in every column",
                "read once each",
                "counted twice, the same row would be trained on and judged on",
            )
        )
    plan: dict[str, Any] = {"file": path.name, "format": form, "id": None, "columns": {}, "kept": [*keep]}
    how, line = _judge_target(rows[target], target, positive)
    name = _own_name(target, rows.columns)
    plan |= {"target": name, "positive": f"{target} is {how['yes'][0]}"}
    plan["columns"][name] = _sourced(how, target, name)
    found.append(line)
    label = reading.convert(rows, plan)[name]
    european = form["kind"] == "csv" and form["separator"] != "," and columns.writes_decimal_commas(rows)
    if european:
        found.append(Finding("(file)", "numbers such as 1,5", "a comma is the decimal sign", "as in most of Europe"))
    asked = _judge_time(rows, time, plan, found, time_format)
    plan["id"], line = _judge_id(rows, id, others=[name for name in rows.columns if name not in (target, time)])
    found.append(line)
    grain = _grain(asked)
    batch = reading.batch_names(asked, grain)
    _refuse_split(asked, label, batch, by_rows=time is None)
    inputs: dict[str, list[str]] = {"datetime": [], "numeric": [], "categorical": []}
    if time is not None:
        inputs["datetime"].append(_moment_of_asking(time, plan, rows.columns))
    seen: dict[int, str] = {}
    for column in rows.columns:
        if column in (target, time) or (column == plan["id"] and column not in keep):
            continue
        how, line = _judge_column(
            rows[column],
            column,
            label=label,
            asked=asked if time else None,
            european=european,
            drop=drop,
            keep=keep,
            same_as=seen,
            time_format=time_format,
        )
        found.append(line)
        if how is None:
            continue
        name = _own_name(column, rows.columns)
        if name != column:
            found[-1] = Finding(line.column, line.seen, f"{line.decided}, called {name}", line.why)
        plan["columns"][name] = _sourced(how, column, name)
        kind = {"number": "numeric", "truth": "numeric", "category": "categorical", "moment": "datetime"}[how["kind"]]
        inputs[kind].append(name)
    if not any(inputs[kind] for kind in ("numeric", "categorical")) and len(inputs["datetime"]) < 2:
        raise ValueError(
            "expected at least one column to predict from, got none that is of use:\n"
            + "\n".join(f"  {line.column}: {line.seen}; {line.decided}" for line in found)
            + "\nadd columns to the table, or insist on one: --keep COLUMN"
        )
    plan |= {
        "grain": grain,
        "inputs": inputs,
        "moments": [name for name in inputs["datetime"] if name != plan.get("asked")],
    }
    plan["clock_features"] = bool((asked.dt.floor("D") != asked).any())
    plan["features"] = [*inputs["numeric"], *_made_features(plan)]
    facts = _facts(rows, label, asked, batch, plan)
    figures = _figures(rows, plan, facts)
    if facts["labelled"] < FEW_ROWS:
        found.append(
            Finding(
                "(rows)",
                f"{facts['labelled']:,} with an answer",
                "used, with wide intervals",
                f"about {TEST_SHARE * facts['labelled']:.0f} judge the model, and fewer calibrate it: the gate may "
                "refuse a good one by chance",
            )
        )
    if not figures["slices"][0]:
        found.append(
            Finding(
                "(rows)",
                "no column that parts the rows into few large groups",
                "judged as a whole, by no slice",
                "name a column in `slices` of the specification if some must not be served worse than others",
            )
        )
    return Judgement(plan, tuple(found), figures, facts)


def _names_exist(cells: pd.DataFrame, asked: Mapping[str, Sequence[str | None]]) -> None:
    known = [str(name) for name in cells.columns]
    for option, names in asked.items():
        for name in names:
            if name is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "name one of them"
                raise ValueError(f"expected a column of the table after {option}, got {name!r}; it has {known}; {hint}")


def _own_name(column: str, others: Sequence[str]) -> str:
    """The name of a column in the project: as in the file, unless the course's frames use that name for their own."""
    name = column.strip() or "unnamed"
    while name in RESERVED or (name != column and name in others):
        name += "_"
    return name


def _sourced(how: dict[str, Any], column: str, name: str) -> dict[str, Any]:
    return how if name == column else {**how, "source": column}


# The target -----------------------------------------------------------------------------------------------------------


def _judge_target(values: pd.Series, name: str, positive: str | None) -> tuple[dict[str, Any], Finding]:
    text = reading.words(values)
    text = text.mask(text.isin(reading.MISSING_WORDS))
    counts = text.value_counts()
    told = ", ".join(f"{value!r} {count:,}" for value, count in counts.head(5).items())
    told += f" and {len(counts) - 5:,} more values" if len(counts) > 5 else ""
    unknown = int(text.isna().sum())
    if not len(counts):
        raise ValueError(f"expected answers in the target {name!r}, got none in {len(values):,} rows")
    if len(counts) == 1:
        raise ValueError(
            f"expected two values in the target {name!r}, got one: {told}; without a row of the other there "
            "is nothing to tell apart"
        )
    if positive is not None:
        yes = reading.words(pd.Series([positive.strip()])).iloc[0]
        if yes not in counts.index:
            raise ValueError(f"expected a value of {name!r} after --positive, got {positive!r}; it has {told}")
        why = f"--positive {positive}"
    elif len(counts) > 2:
        number = pd.api.types.is_numeric_dtype(values) or pd.to_numeric(text, errors="coerce").notna().mean() > READABLE
        advice = (
            "add a column that says yes or no, such as amount > 100, and name that"
            if number and len(counts) > 10
            else "say which one to predict against all others: --positive VALUE"
        )
        raise ValueError(f"expected two values in the target {name!r}, got {len(counts):,}: {told}; {advice}")
    else:
        pairs = [pair for pair in [*columns.TRUTHS, ("1", "0")] if {*pair} == set(counts.index)]
        if not pairs:
            raise ValueError(
                f"expected a target {name!r} whose values say which one is to be predicted, got {told}; "
                "say it: --positive VALUE"
            )
        yes, why = pairs[0][0], f"{pairs[0][0]} against {pairs[0][1]}"
    no = [value for value in counts.index if value != yes]
    how = {"kind": "truth", "yes": [yes], "no": no[:10]}
    if len(no) > 10:
        how |= {"no": [], "others_are_no": True}
    share = counts[yes] / counts.sum()
    rare = min(share, 1 - share)
    seen = told + (f"; missing in {unknown:,} rows" if unknown else "")
    if unknown:
        why += "; rows without an answer are never trained on"
    if rare < IMBALANCED:
        why += f"; the rarer answer has {columns.percent(rare)}, so bars and costs below follow that share"
    if counts.sum() < MIN_ROWS or min(counts[yes], counts.sum() - counts[yes]) < MIN_MINORITY:
        raise ValueError(
            f"expected {MIN_ROWS} rows with an answer or more, and {MIN_MINORITY} of the rarer one, got {told} in "
            f"{name!r}; collect more rows: on fewer, nobody can tell a good model from luck"
        )
    return how, Finding(name, seen, f"target; {yes!r} is 1", why)


# The time -------------------------------------------------------------------------------------------------------------


def _judge_time(
    rows: pd.DataFrame, time: str | None, plan: dict[str, Any], found: list[Finding], time_format: str | None
) -> pd.Series:
    """When each row asks; puts the column, or the made-up clock, into the plan."""
    if time is None:
        every = max(1, MADE_UP_DAYS * 86_400 // len(rows))
        plan |= {"time": "made_up_time", "clock": {"start": MADE_UP_START, "every_seconds": every}}
        found.append(
            Finding(
                "(rows)",
                "no time",
                "the order of rows stands for time, on a made-up clock",
                "the last rows of the file are judged on, which is true to life only if the file is in order of time; "
                "batches, drift and the age of a model mean positions in the file",
            )
        )
        passed = pd.to_timedelta(np.arange(len(rows)) * every, unit="s")
        return pd.Series(pd.Timestamp(MADE_UP_START, tz="UTC") + passed).dt.as_unit("us")
    how, note = columns.time_form(rows[time], time_format)
    if how is None:
        text = reading.as_text(rows[time])
        if note == columns.TWO_WAYS:
            raise ValueError(
                f"expected times in {time!r} that can be read one way only, got {columns.shown(text)}: is the day "
                "first or the month? Say it: --time-format %d/%m/%Y or --time-format %m/%d/%Y"
            )
        raise ValueError(
            f"expected times in {time!r}, got {columns.shown(text.dropna())}; write them as 2026-11-23 14:05, say how "
            "they are written (--time-format %d.%m.%Y), name another column, or go by the order of rows: --no-time"
        )
    name = plan["time"] = _own_name(time, rows.columns)
    plan["columns"][name] = _sourced({**how, "kind": "time"}, time, name)
    asked = reading.convert(rows, {"columns": {name: plan["columns"][name]}})[name]
    unread = rows[time][asked.isna()]
    if asked.nunique() < 5 * FOLDS:
        raise ValueError(
            f"expected {5 * FOLDS} different times in {time!r} or more, got {asked.nunique()}; name a finer time, or "
            "go by the order of rows: --no-time"
        )
    backwards = float((asked.diff() < pd.Timedelta(0)).mean())
    why = [note]
    if backwards:
        why.append(f"{columns.percent(backwards)} of rows are earlier than the row before; sorted when split")
    if len(unread):
        why.append(
            f"{len(unread):,} rows have no time that can be read ({columns.shown(unread)}): set aside by validation"
        )
    span = f"{asked.min():%Y-%m-%d} to {asked.max():%Y-%m-%d}"
    found.append(
        Finding(time, f"{span}, {asked.nunique():,} times", "when a row is predicted", "; ".join(filter(None, why)))
    )
    if len(unread) > (1 - READABLE) * len(rows):
        raise ValueError(
            f"expected a time in {columns.percent(READABLE)} of the rows or more, got none in {len(unread):,} of "
            f"{len(rows):,} in {time!r}, such as {columns.shown(unread)}; mend or drop these rows"
        )
    return asked


def _moment_of_asking(time: str, plan: dict[str, Any], others: Sequence[str]) -> str:
    """The name of the input that says when the row asks, on the clock of UTC."""
    name = f"{plan['time']}_utc"
    while name in others:
        name += "_"
    plan["columns"][name] = {**plan["columns"][plan["time"]], "kind": "moment", "source": time}
    plan["asked"] = name
    return name


def _grain(asked: pd.Series) -> str:
    """The coarsest of year to hour of which there are enough batches."""
    for grain in reading.GRAINS:
        if reading.batch_names(asked, grain).nunique() >= ENOUGH_BATCHES:
            return grain
    return grain


def _refuse_split(asked: pd.Series, label: pd.Series, batch: pd.Series, *, by_rows: bool) -> None:
    """Try the split of a training, without the last batch, and raise if a part would lack one of the answers."""
    frame = pd.DataFrame({"time": asked, "label": label})[(batch < batch.max()) & asked.notna() & label.notna()]
    frame = frame.sort_values("time", kind="stable")
    parts = {}
    test_from = frame["time"].quantile(1 - TEST_SHARE, interpolation="higher")
    past, parts["the latest, to judge on"] = frame[frame["time"] < test_from], frame[frame["time"] >= test_from]
    calibrate_from = past["time"].quantile(1 - CALIBRATE_SHARE, interpolation="higher")
    parts["those before, to calibrate on"] = past[past["time"] >= calibrate_from]
    train = past[past["time"] < calibrate_from]
    times = train["time"].drop_duplicates().to_numpy()
    if len(times) <= FOLDS:
        raise ValueError(f"expected more than {FOLDS} different times to train on, got {len(times)}; name a finer time")
    edges = [*(times[np.arange(1, FOLDS + 1) * len(times) // (FOLDS + 1)]), None]
    parts["the earliest, to train on"] = train[train["time"] < edges[0]]
    for number, (low, high) in enumerate(pairwise(edges), 1):
        within = train["time"].to_numpy() >= low
        within &= True if high is None else train["time"].to_numpy() < high
        parts[f"period {number} of cross-validation"] = train[within]
    lacking = [name for name, part in parts.items() if part["label"].nunique() < 2]
    if lacking:
        advice = (
            "if their order means nothing, shuffle the rows of the file; else collect more"
            if by_rows
            else "name a time by which both answers occur all along, or collect more rows of the rarer answer"
        )
        raise ValueError(f"expected both answers in each part of the rows, not so in {', '.join(lacking)}; {advice}")


# Identifiers ----------------------------------------------------------------------------------------------------------


def _judge_id(rows: pd.DataFrame, given: str | None, *, others: Sequence[str]) -> tuple[str | None, Finding]:
    """Which column names the rows: the given one, or the first of `others` that can and looks so, or none."""
    if given is not None:
        twice, absent = rows[given][rows[given].duplicated(keep=False)], _absent(rows[given])
        if len(twice) or absent:
            shared = f"{len(twice):,} rows share one, such as {columns.shown(twice)}"
            what = shared if len(twice) else "some are missing"
            raise ValueError(
                f"expected a name of its own for each row in {given!r}, got: {what}; leave --id out, and each row is "
                "named by its content"
            )
        return given, Finding(given, f"{len(rows):,} distinct values", "name of the row; not learned from", "--id")
    for column in others:
        values = rows[column]
        if columns.names_rows(values, column) and values.is_unique and not _absent(values):
            seen = f"another value in each row, such as {columns.shown(values, 2)}"
            why = "an identifier tells rows apart and nothing about the next one"
            return column, Finding(column, seen, "name of the row; not learned from", why)
    seen, decided = "no column that names each row", "named by a digest of their content"
    return None, Finding("(rows)", seen, decided, "a label finds its prediction by that name")


def _absent(values: pd.Series) -> bool:
    text = reading.as_text(values)
    return bool(text.isna().any() or text.str.lower().isin(reading.MISSING_WORDS).any())


# The other columns ----------------------------------------------------------------------------------------------------


def _judge_column(
    values: pd.Series,
    name: str,
    *,
    label: pd.Series,
    asked: pd.Series | None,
    european: bool,
    drop: Sequence[str],
    keep: Sequence[str],
    same_as: dict[int, str],
    time_format: str | None,
) -> tuple[dict[str, Any] | None, Finding]:
    """How to read a column as an input, or None to leave it out; and the line that says so."""

    def out(seen: str, why: str) -> tuple[None, Finding]:
        return None, Finding(name, seen, "left out", why)

    if name in drop:
        return out("", "--drop")
    if values.dtype == object and values.map(type).isin(NESTED).any():
        return out("lists, mappings or bytes", "a model takes one value a cell; take apart what you need")
    text = reading.as_text(values)
    text = text.mask(text.str.lower().isin(reading.MISSING_WORDS))
    missing = float(text.isna().mean())
    if missing >= EMPTY:
        return out(f"missing in {columns.percent(missing)} of rows", "nothing to learn from; ask where the values went")
    if text.nunique() == 1 and missing == 0:
        return out(f"{text.iloc[0]!r} in every row", "a constant tells no row from another")
    digest = hash(pd.util.hash_pandas_object(text, index=False).to_numpy().tobytes())
    if digest in same_as:
        return out(f"the same as {same_as[digest]} in every row", "once is enough")
    same_as[digest] = name
    how, seen, decided, why = columns.kind_of(values, text, name=name, european=european, time_format=time_format)
    if missing and how is not None:
        seen += f"; missing in {columns.percent(missing)}"
    if how is None and name not in keep:
        return out(seen, why)
    if how is None:
        how, decided, why = {"kind": "category"}, "category", "--keep"
    read = reading.convert(values.to_frame(), {"columns": {name: how}})[name]
    if how["kind"] == "moment" and asked is not None:
        late = float((read > asked.dt.tz_localize(None)).mean())
        if late > AFTERWARDS and name not in keep:
            return out(
                f"{seen}; after the prediction in {columns.percent(late)} of rows",
                "not known when the row is predicted",
            )
    if how["kind"] == "number" and read.isna().all():
        return out("no finite number", "nothing to learn from")
    auc = columns.probe(read, label)
    if auc >= LEAK_AUC and name not in keep:
        return out(
            f"{seen}; alone it tells the answers apart with AUC {auc:.3f}",
            "it gives the target away: most likely it is written after the fact. If it is known when a row is "
            f"predicted, use it: --keep {name!r}",
        )
    if auc >= SUSPICIOUS_AUC:
        why = "; ".join(filter(None, [why, f"alone it has AUC {auc:.2f}: find out when its value is known"]))
    return how, Finding(name, seen, decided, why)


# Figures --------------------------------------------------------------------------------------------------------------


def _made_features(plan: dict[str, Any]) -> list[str]:
    """Names of the features that `derive` of the project makes of points in time."""
    if "asked" not in plan:
        return [f"{name}_day" for name in plan["moments"]]
    hour = [f"{plan['asked']}_hour"] if plan["clock_features"] else []
    return [*hour, f"{plan['asked']}_weekday", *(f"{name}_days_before" for name in plan["moments"])]


def _facts(
    rows: pd.DataFrame, label: pd.Series, asked: pd.Series, batch: pd.Series, plan: dict[str, Any]
) -> dict[str, Any]:
    share = float(label.mean())
    days = max((asked.max() - asked.min()) / pd.Timedelta("1D"), 1e-3)
    return {
        "rows": len(rows),
        "columns": rows.shape[1],
        "labelled": int(label.notna().sum()),
        "share": share,
        "days": float(days),
        "batches": int(batch.nunique()),
        "first_batch": str(batch.min()),
        "last_batch": str(batch.max()),
        "seen": {name: _range(values) for name, values in reading.convert(rows, plan).items()},
    }


def _range(values: pd.Series) -> dict[str, Any]:
    """What a schema allows a column: as far again as was seen, the values there were, and a tenth more missing."""
    seen: dict[str, Any] = {"missing": round(min(1.0, float(values.isna().mean()) + 0.1), 2)}
    if pd.api.types.is_float_dtype(values):
        low, high = float(values.min()), float(values.max())
        if set(values.dropna().unique()) <= {0.0, 1.0}:
            return seen | {"low": 0.0, "high": 1.0}
        margin = high - low or max(abs(high), 1.0)
        return seen | {"low": 0.0 if low >= 0 else _short(low - margin), "high": _short(high + margin)}
    if pd.api.types.is_datetime64_any_dtype(values):
        return seen
    return seen | {"values": sorted(values.dropna().unique().tolist())}


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def _figures(rows: pd.DataFrame, plan: dict[str, Any], facts: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """Figures of the specification that follow from the table, each with its reason."""
    share, labelled = facts["share"], facts["labelled"]
    rare, judged = min(share, 1 - share), max(TEST_SHARE * labelled, 1)
    odds = (1 - share) / share
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    noise = math.sqrt(share * (1 - share) * 10 / judged) * math.sqrt(2 / math.pi)
    calibration = min(0.25, round(min(0.04, rare) + 1.5 * noise, 3))
    slice_rows = max(50, math.ceil(10 / rare))
    per_day = len(rows) / facts["days"]
    window = next((days for days in (1, 7, 28, 91) if per_day * days >= 300), 91)
    slices = _slices(rows, plan, slice_rows)
    return {
        "missed": (
            float(f"{odds:.2g}"),
            f"so many times a false alarm that acting always and never cost the same, as "
            f"{columns.percent(share)} of rows are positive",
        ),
        "max_calibration_error": (
            calibration,
            f"about {noise:.2g} comes from chance on the {judged:,.0f} rows to judge on",
        ),
        "noninferiority_margin": (
            round(0.02 * entropy, 4),
            f"2 % of {entropy:.3f} nats, the log loss of the base rate",
        ),
        "min_slice_rows": (slice_rows, f"about {slice_rows * rare:.0f} rows of the rarer answer"),
        "slices": (
            slices,
            "columns of few values with enough rows in each" if slices else "no column has few large groups",
        ),
        "window_days": (window, f"about {per_day * window:,.0f} rows"),
        "max_rate_gap": (round(min(0.1, max(0.005, rare)), 3), f"{columns.percent(rare)} is the rarer answer's share"),
        "min_new_rows": (max(100, round(0.1 * len(rows))), "a tenth of what there is now"),
        "max_log_loss_rise": (round(max(0.001, 0.05 * entropy), 4), "5 % of the log loss of the base rate"),
        "max_age_days": (max(1, min(365, round(facts["days"] / 4))), "a quarter of the time that the table covers"),
        "cooldown_days": (max(1, min(28, round(facts["days"] / 12))), "time for labels to come in"),
    }


def _slices(rows: pd.DataFrame, plan: dict[str, Any], enough: int) -> list[str]:
    """At most two inputs of few values, of which at least one has rows enough to be judged by; categories first."""
    chosen = []
    for name in [*plan["inputs"]["categorical"], *plan["inputs"]["numeric"]]:
        counts = reading.as_text(rows[plan["columns"][name].get("source", name)]).value_counts(dropna=False)
        if 2 <= len(counts) <= MOST_SLICES and 0.8 * TEST_SHARE * counts.iloc[0] >= enough:
            chosen.append(name)
    return chosen[:2]
