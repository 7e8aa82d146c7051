"""Every decision about a table for a target."""

import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.development.features import TEST_SHARE
from mlops_course.starter import columns, reading

from .draft import Choices, Draft, Finding
from .file import look
from .inputs import _judge_inputs
from .roles import _grain, _judge_group, _judge_id, _judge_target, _judge_time, _refuse_split

FEW_ROWS = 1_000  # labelled rows below which it is said that they are few
MOST_SLICES = 10  # values of a column by which the model is judged


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
    distinct = reading.distinct_rows(cells)
    draft = Draft(distinct if choices.once else cells, choices, findings)
    rows, plan = draft.rows, draft.plan
    plan |= {"file": path.name, "format": form, "kept": [*choices.keep]}
    if choices.once:
        plan["once"] = True
    if repeated := len(cells) - len(distinct):
        seen = f"{repeated:,} of {len(cells):,} rows repeat another in every column"
        why = "without a key they may be different cases that are alike; if the file holds rows twice: --once"
        draft.say("(rows)", seen, *(("read once each", "--once") if choices.once else ("all are kept", why)))
    label = _judge_target(draft)
    european = form["kind"] == "csv" and form["separator"] != "," and columns.writes_decimal_commas(rows)
    if european:
        draft.say("(file)", "numbers such as 1,5", "a comma is the decimal sign", "as in most of Europe")
    _judge_group(draft)
    asked = _judge_time(draft)
    _judge_id(draft, distinct)
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
    used = {how.get("source", name) for name, how in plan["columns"].items()}
    plan["left_out"] = [name for name in rows.columns if name not in {*used, plan["id"]}]
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
    lists = {"--group": [choices.group], "--drop": choices.drop, "--keep": choices.keep}
    for option, names in (parts | lists).items():
        for name in names:
            if name is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "name one of them"
                raise ValueError(f"expected a column of the table after {option}, got {name!r}; it has {known}; {hint}")
    parts |= {"--group": [choices.group]}
    chosen = [name for (name,) in parts.values() if name is not None]
    if len({*chosen}) < len(chosen):
        raise ValueError(
            f"expected different columns for target, time, id and group, got {', '.join(map(repr, chosen))}"
        )


def _made_features(plan: dict[str, Any]) -> list[str]:
    """Names of the features that `derive` of the project makes of points in time."""
    if "asked" not in plan:
        return [f"{name}_day" for name in plan["moments"]]
    hour = [f"{plan['asked']}_hour"] if plan["clock_features"] else []
    return [*hour, f"{plan['asked']}_weekday", *(f"{name}_days_before" for name in plan["moments"])]


def _facts(
    rows: pd.DataFrame, label: pd.Series, asked: pd.Series, batch: pd.Series, plan: dict[str, Any]
) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "labelled": int(label.notna().sum()),
        "share": float(label.mean()),
        "days": float(max((asked.max() - asked.min()) / pd.Timedelta("1D"), 1e-3)),
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
        return seen | {"low": 0.0 if low >= 0 else float(f"{low - margin:.4g}"), "high": float(f"{high + margin:.4g}")}
    if pd.api.types.is_datetime64_any_dtype(values):
        return seen
    return seen | {"values": sorted(values.dropna().unique().tolist())}


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
            f"with this, acting always costs as much as acting never, as {columns.percent(share)} of rows are positive",
        ),
        "max_calibration_error": (
            calibration,
            f"about {noise:.2g} comes from chance on the {judged:,.0f} rows to judge on",
        ),
        "tolerated_loss": (round(0.02 * entropy, 4), f"2 % of {entropy:.3f} nats, the log loss of the base rate"),
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
        "max_latency_ms": (
            max(200, sum(map(len, plan["inputs"].values()))),
            "one row, 95th percentile; a millisecond a column where there are more than 200",
        ),
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
