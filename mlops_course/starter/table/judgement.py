"""Every decision about a table for a target."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.development.features import TEST_SHARE
from mlops_course.starter import columns, reading

from .column import _judge_column
from .figures import _facts, _figures, _made_features
from .file import look
from .finding import Finding
from .identifier import _judge_id
from .names import _own_name, _sourced
from .target import _judge_target
from .time import _grain, _judge_time, _moment_of_asking, _refuse_split

FEW_ROWS = 1_000  # labelled rows below which it is said that they are few


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
