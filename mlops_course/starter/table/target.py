"""The column to predict."""

from typing import Any

import pandas as pd

from mlops_course.starter import columns, reading

from .finding import Finding

MIN_ROWS = 200  # labelled rows; with fewer, the 15 % to judge on are a handful
MIN_MINORITY = 40  # rows of the rarer answer: six of them are then among those to judge on
IMBALANCED = 0.1  # share of the rarer answer below which it is named


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
        number = (
            pd.api.types.is_numeric_dtype(values)
            or pd.to_numeric(text, errors="coerce").notna().mean() > columns.READABLE
        )
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
