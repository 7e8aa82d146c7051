"""Every decision about a table for a target."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_course.development.features import TEST_SHARE
from mlops_course.starter import columns, reading

from .column import _judge_inputs
from .draft import Choices, Draft, Finding
from .figures import _facts, _figures, _made_features
from .file import look
from .target import _judge_id, _judge_target
from .time import _grain, _judge_time, _refuse_split

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


def infer(path: Path, choices: Choices) -> Judgement:
    """Judge the table in `path` by what it holds and what the user chose.

    Raises ValueError for what has to be decided by somebody who knows the table.
    """
    cells, form, findings = look(path)
    _refuse_choices(choices, [str(name) for name in cells.columns])
    draft = Draft(reading.distinct_rows(cells), choices, findings)
    rows, plan = draft.rows, draft.plan
    plan |= {"file": path.name, "format": form, "kept": [*choices.keep]}
    if repeated := len(cells) - len(rows):
        seen = f"{repeated:,} of {len(cells):,} rows repeat another in every column"
        draft.say("(rows)", seen, "read once each", "counted twice, the same row would be trained on and judged on")
    label = _judge_target(draft)
    european = form["kind"] == "csv" and form["separator"] != "," and columns.writes_decimal_commas(rows)
    if european:
        draft.say("(file)", "numbers such as 1,5", "a comma is the decimal sign", "as in most of Europe")
    asked = _judge_time(draft)
    _judge_id(draft)
    plan["grain"] = _grain(asked)
    batch = reading.batch_names(asked, plan["grain"])
    _refuse_split(asked, label, batch, by_rows=choices.time is None)
    inputs = plan["inputs"] = _judge_inputs(draft, label, asked, european=european)
    if not (inputs["numeric"] or inputs["categorical"] or len(inputs["datetime"]) > 1):
        raise ValueError(
            "expected at least one column to predict from, got none that is of use:\n"
            + "\n".join(f"  {line.column}: {line.seen}; {line.decided}" for line in findings)
            + "\nadd columns to the table, or insist on one: --keep COLUMN"
        )
    plan["moments"] = [name for name in inputs["datetime"] if name != plan.get("asked")]
    plan["clock_features"] = bool((asked.dt.floor("D") != asked).any())
    plan["features"] = [*inputs["numeric"], *_made_features(plan)]
    facts = _facts(rows, label, asked, batch, plan)
    figures = _figures(rows, plan, facts)
    if facts["labelled"] < FEW_ROWS:
        seen, judged = f"{facts['labelled']:,} with an answer", TEST_SHARE * facts["labelled"]
        why = f"about {judged:.0f} judge the model, and fewer calibrate it: the gate may refuse a good one by chance"
        draft.say("(rows)", seen, "used, with wide intervals", why)
    if not figures["slices"][0]:
        seen, decided = "no column that parts the rows into few large groups", "judged as a whole, by no slice"
        why = "name a column in `slices` of the specification if some must not be served worse than others"
        draft.say("(rows)", seen, decided, why)
    return Judgement(plan, tuple(findings), figures, facts)


def _refuse_choices(choices: Choices, known: list[str]) -> None:
    """Raise if a chosen column is not in the table, or one is chosen for two parts."""
    parts = {"--target": [choices.target], "--time": [choices.time], "--id": [choices.id]}
    for option, names in (parts | {"--drop": choices.drop, "--keep": choices.keep}).items():
        for name in names:
            if name is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "name one of them"
                raise ValueError(f"expected a column of the table after {option}, got {name!r}; it has {known}; {hint}")
    chosen = [name for (name,) in parts.values() if name is not None]
    if len({*chosen}) < len(chosen):
        raise ValueError(f"expected different columns for target, time and id, got {', '.join(map(repr, chosen))}")
