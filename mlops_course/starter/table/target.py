"""The column to predict, and the column that names a row."""

import pandas as pd

from mlops_course.starter import columns, reading

from .draft import Draft

MIN_ROWS = 200  # labelled rows; with fewer, the 15 % to judge on are a handful
MIN_MINORITY = 40  # rows of the rarer answer: six of them are then among those to judge on
IMBALANCED = 0.1  # share of the rarer answer below which it is named
MOST_NO = 10  # words for no that the plan lists; with more, all other words mean no


def _judge_target(draft: Draft) -> pd.Series:
    """Decide what 1 means, and return the label of each row."""
    target = draft.choices.target
    text = reading.words(draft.rows[target])
    text = text.mask(text.isin(reading.MISSING_WORDS))
    counts = text.value_counts()
    told = ", ".join(f"{value!r} {count:,}" for value, count in counts.head(5).items())
    told += f" and {len(counts) - 5:,} more values" if len(counts) > 5 else ""
    yes, why = _positive(draft, counts, told)
    no = [value for value in counts.index if value != yes]
    others = {"no": no} if len(no) <= MOST_NO else {"no": [], "others_are_no": True}
    if unknown := int(text.isna().sum()):
        why += "; rows without an answer are never trained on"
    share = counts[yes] / counts.sum()
    if (rare := min(share, 1 - share)) < IMBALANCED:
        why += f"; the rarer answer has {columns.percent(rare)}, so bars and costs below follow that share"
    if counts.sum() < MIN_ROWS or min(counts[yes], counts.sum() - counts[yes]) < MIN_MINORITY:
        raise ValueError(
            f"expected {MIN_ROWS} rows with an answer or more, and {MIN_MINORITY} of the rarer one, got {told} in "
            f"{target!r}; collect more rows: on fewer, nobody can tell a good model from luck"
        )
    draft.say(target, told + (f"; missing in {unknown:,} rows" if unknown else ""), f"target; {yes!r} is 1", why)
    name = draft.read_as({"kind": "truth", "yes": [yes], **others}, target)
    draft.plan |= {"target": name, "positive": f"{target} is {yes}"}
    return reading.convert(draft.rows, draft.plan)[name]


def _positive(draft: Draft, counts: pd.Series, told: str) -> tuple[str, str]:
    """The value that counts as 1, and why that one."""
    target, positive = draft.choices.target, draft.choices.positive
    if not len(counts):
        raise ValueError(f"expected answers in the target {target!r}, got none in {len(draft.rows):,} rows")
    if len(counts) == 1:
        raise ValueError(
            f"expected two values in the target {target!r}, got one: {told}; without a row of the other there "
            "is nothing to tell apart"
        )
    if positive is not None:
        yes = reading.words(pd.Series([positive.strip()])).iloc[0]
        if yes not in counts.index:
            raise ValueError(f"expected a value of {target!r} after --positive, got {positive!r}; it has {told}")
        return yes, f"--positive {positive}"
    if len(counts) > 2:
        numbers = counts[pd.to_numeric(counts.index, errors="coerce").notna()].sum() > columns.READABLE * counts.sum()
        advice = (
            "add a column that says yes or no, such as amount > 100, and name that"
            if numbers and len(counts) > 10
            else "say which one to predict against all others: --positive VALUE"
        )
        raise ValueError(f"expected two values in the target {target!r}, got {len(counts):,}: {told}; {advice}")
    pair = next((pair for pair in [*columns.TRUTHS, ("1", "0")] if {*pair} == set(counts.index)), None)
    if pair is None:
        raise ValueError(
            f"expected a target {target!r} whose values say which one is to be predicted, got {told}; "
            "say it: --positive VALUE"
        )
    return pair[0], f"{pair[0]} against {pair[1]}"


def _judge_id(draft: Draft) -> None:
    """Decide which column names the rows: the chosen one, or the first that can and looks so, or none."""
    rows, given = draft.rows, draft.choices.id
    if given is not None:
        twice = rows[given][rows[given].duplicated(keep=False)]
        if len(twice) or _lacks_some(rows[given]):
            shared = f"{len(twice):,} rows share one, such as {columns.shown(twice)}"
            raise ValueError(
                f"expected a name of its own for each row in {given!r}, got: {shared if len(twice) else 'some missing'}"
                "; leave --id out, and each row is named by its content"
            )
        draft.plan["id"] = given
        draft.say(given, f"{len(rows):,} distinct values", "name of the row; not learned from", "--id")
        return
    for column in rows.columns.drop([name for name in (draft.choices.target, draft.choices.time) if name]):
        values = rows[column]
        if columns.names_rows(values, column) and values.is_unique and not _lacks_some(values):
            draft.plan["id"] = column
            seen = f"another value in each row, such as {columns.shown(values, 2)}"
            why = "an identifier tells rows apart and nothing about the next one"
            draft.say(column, seen, "name of the row; not learned from", why)
            return
    seen, decided = "no column that names each row", "named by a digest of their content"
    draft.say("(rows)", seen, decided, "a label finds its prediction by that name")


def _lacks_some(values: pd.Series) -> bool:
    text = reading.as_text(values)
    return bool(text.isna().any() or text.str.lower().isin(reading.MISSING_WORDS).any())
