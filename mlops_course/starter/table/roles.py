"""The columns with a role: the target, the time of the prediction, and the name of a row."""

import pandas as pd

from mlops_course.development.features import split_in_three
from mlops_course.development.training import FOLDS, TimeFolds
from mlops_course.starter import columns, reading

from .draft import Draft

MIN_ROWS = 200  # labelled rows; with fewer, the 15 % to judge on are a handful
MIN_MINORITY = 40  # rows of the rarer answer: six of them are then among those to judge on
IMBALANCED = 0.1  # share of the rarer answer below which it is named
ABOVE = "above:"  # before a number, after --positive
MOST_NO = 10  # words for no that the plan lists; with more, all other words mean no
ENOUGH_BATCHES = 6  # the last is not trained on, and the rest has to show how time goes on
MADE_UP_START, MADE_UP_DAYS = "2001-01-01", 1_000  # the clock of a table without time


def _judge_target(draft: Draft) -> pd.Series:
    """Decide what 1 means, and return the label of each row."""
    target = draft.choices.target
    if (draft.choices.positive or "").startswith(ABOVE):
        return _judge_threshold(draft)
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


def _judge_threshold(draft: Draft) -> pd.Series:
    """Make a target of numbers binary: 1 where it is above the number that was chosen; return the label of each row."""
    target, chosen = draft.choices.target, draft.choices.positive.removeprefix(ABOVE).strip()
    values = draft.rows[target]
    european = draft.plan["format"].get("separator", ",") != "," and columns.writes_decimal_commas(draft.rows)
    text = reading._known(values, {})
    found = columns.kind_of(values, text, name="", european=european, time_format=None)
    try:
        above = float(chosen)
    except ValueError:
        raise ValueError(f"expected a number after --positive {ABOVE}, such as {ABOVE}200, got {chosen!r}") from None
    if found.how is None or found.how["kind"] != "number":
        raise ValueError(f"expected numbers in the target {target!r} for --positive {ABOVE}{chosen}, got {found.seen}")
    name = draft.read_as({**found.how, "kind": "truth", "above": above}, target)
    label = reading.convert(draft.rows, {"columns": {name: draft.plan["columns"][name]}})[name]
    rare = min(int((label == 1).sum()), int((label == 0).sum()))
    if label.notna().sum() < MIN_ROWS or rare < MIN_MINORITY:
        raise ValueError(
            f"expected {MIN_ROWS} rows with an answer or more, and {MIN_MINORITY} on each side of {chosen}, got "
            f"{int(label.notna().sum()):,} and {rare:,} in {target!r} ({found.seen}); choose another number"
        )
    draft.say(target, found.seen, f"target; above {chosen} is 1", f"{columns.percent(label.mean())} of the answers are")
    draft.plan |= {"target": name, "positive": f"{target} is above {chosen}"}
    return label


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
            "ask whether it is above a number: --positive above:NUMBER; to predict the number itself, the loop would "
            "need other metrics, gates and costs"
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


def _judge_time(draft: Draft) -> pd.Series:
    """Decide when each row asks, by a column or by a made-up clock, and return that time."""
    rows, time = draft.rows, draft.choices.time
    if time is None:
        clock = {"start": MADE_UP_START, "every_seconds": max(1, MADE_UP_DAYS * 86_400 // len(rows))}
        draft.plan |= {"time": "made_up_time", "clock": clock}
        why = "the last rows of the file are judged on, which is true to life only if the file is in order of time; "
        why += "batches, drift and the age of a model mean positions in the file"
        draft.say("(rows)", "no time", "the order of rows stands for time, on a made-up clock", why)
        return pd.Series(reading.made_up_times(rows, clock, group=draft.plan.get("group")))
    how, note = columns.time_form(rows[time], draft.choices.time_format)
    if how is None:
        text = reading.as_text(rows[time])
        if note == columns.TWO_WAYS:
            sign, year = text.dropna().iloc[0][2], "%Y" if text.str.contains(r"\d{4}").mean() > 0.5 else "%y"
            ways = [sign.join([*order, year]) for order in (("%d", "%m"), ("%m", "%d"))]
            raise ValueError(
                f"expected times in {time!r} that can be read one way only, got {columns.shown(text)}: is the day "
                f"first or the month? Say it: --time-format {ways[0]} or --time-format {ways[1]}"
            )
        raise ValueError(
            f"expected times in {time!r}, got {columns.shown(text.dropna())}; write them as 2026-11-23 14:05, say how "
            "they are written (--time-format %d.%m.%Y), or name another column; --no-time only if the rows "
            "are in order of time"
        )
    name = draft.plan["time"] = draft.read_as({**how, "kind": "time"}, time)
    asked = reading.convert(rows, {"columns": {name: draft.plan["columns"][name]}})[name]
    unread = rows[time][asked.isna()]
    if asked.nunique() < 5 * FOLDS:
        advice = "sort the file by it first, then go by the order of rows"
        if asked.is_monotonic_increasing:
            advice = "the file is in its order, so go by that"
        raise ValueError(
            f"expected {5 * FOLDS} different times in {time!r} or more, got {asked.nunique()} from "
            f"{asked.min():%Y-%m-%d} to {asked.max():%Y-%m-%d}; name a finer time. "
            f"If there is none: {advice}: --no-time --drop {time!r}"
        )
    if len(unread) > (1 - columns.READABLE) * len(rows):
        raise ValueError(
            f"expected a time in {columns.percent(columns.READABLE)} of the rows or more, got none in "
            f"{len(unread):,} of {len(rows):,} in {time!r}, such as {columns.shown(unread)}; mend or drop these rows"
        )
    why = [note] if note else []
    if backwards := float((asked.diff() < pd.Timedelta(0)).mean()):
        why.append(f"{columns.percent(backwards)} of rows are earlier than the row before; sorted when split")
    if len(unread):
        shown = columns.shown(unread)
        why.append(f"{len(unread):,} rows have no time that can be read ({shown}): set aside by validation")
    span = f"{asked.min():%Y-%m-%d} to {asked.max():%Y-%m-%d}"
    draft.say(time, f"{span}, {asked.nunique():,} times", "when a row is predicted", "; ".join(why))
    return asked


def _moment_of_asking(draft: Draft) -> str:
    """Make the time of the prediction an input, on the clock of UTC, and return its name."""
    name = f"{draft.plan['time']}_utc"
    while name in draft.rows.columns:
        name += "_"
    how = draft.plan["columns"][draft.plan["time"]]
    draft.plan["columns"][name] = {**how, "kind": "moment", "source": draft.choices.time}
    draft.plan["asked"] = name
    return name


def _grain(asked: pd.Series) -> str:
    """The coarsest of year to hour that gives enough batches; the finest if none does."""
    enough = (name for name in reading.GRAINS if reading.batch_names(asked, name).nunique() >= ENOUGH_BATCHES)
    return next(enough, [*reading.GRAINS][-1])


def _refuse_split(asked: pd.Series, label: pd.Series, batch: pd.Series, *, by_rows: bool) -> None:
    """Try the split of a training, without the last batch, and raise if a part would lack one of the answers."""
    frame = pd.DataFrame({"time": asked, "label": label})[(batch < batch.max()) & asked.notna() & label.notna()]
    split = split_in_three(frame, prediction_time="time", label_time="time")
    times = split["train"]["time"]
    if (found := times.nunique()) <= FOLDS:
        raise ValueError(f"expected more than {FOLDS} different times to train on, got {found}; name a finer time")
    folds = [*TimeFolds(FOLDS, prediction_time=times, label_time=times).split()]
    parts = {
        "the latest, to judge on": split["test"],
        "those before, to calibrate on": split["calibrate"],
        "the earliest, to train on": split["train"].iloc[folds[0][0]],
        **{f"period {n} of cross-validation": split["train"].iloc[judged] for n, (_, judged) in enumerate(folds, 1)},
    }
    if lacking := [name for name, part in parts.items() if part["label"].nunique() < 2]:
        advice = (
            "if their order means nothing, shuffle the rows of the file; else collect more"
            if by_rows
            else "name a time by which both answers occur all along, or collect more rows of the rarer answer"
        )
        raise ValueError(f"expected both answers in each part of the rows, not so in {', '.join(lacking)}; {advice}")


def _judge_group(draft: Draft) -> None:
    """Decide which column names something that comes again and again: the chosen one, or the first that looks so."""
    rows, choices = draft.rows, draft.choices
    others = rows.columns.drop([name for name in (choices.target, choices.time, choices.id) if name])
    found = (name for name in others.difference(choices.drop, sort=False) if columns.names_entities(rows[name], name))
    column = choices.group or next(found, None)
    if column is None:
        return
    number = rows[column].nunique()
    seen = f"{number:,} distinct values, {len(rows) / max(number, 1):.1f} rows each on average"
    if choices.time is None:
        draft.plan["group"] = column
        why = "rows of one are trained on or judged on, never both; if it names no such thing: --keep it"
        decided = "an identifier, not learned from; rows with one value stay together"
    else:
        decided = "an identifier, not learned from; rows are parted by time only"
        why = "the model is judged on later rows, also of those that it knows; with new ones it does worse"
    if column in choices.keep and choices.group is None:
        draft.plan.pop("group", None)
        return
    draft.say(column, seen, decided, why)


def _judge_id(draft: Draft, distinct: pd.DataFrame) -> None:
    """Decide which column names the rows: the chosen one, or the first that can and looks so, or none."""
    rows, given = draft.rows, draft.choices.id
    if given is not None:
        twice = rows[given][rows[given].duplicated(keep=False)]
        if len(twice) or reading._known(rows[given], {}).isna().any():
            got = f"{len(twice):,} rows share one, such as {columns.shown(twice)}" if len(twice) else "some missing"
            same = distinct[given].is_unique and len(distinct) < len(rows)
            advice = "these rows are the same in every column: --once reads them once; or " if same else ""
            raise ValueError(
                f"expected a name of its own for each row in {given!r}, got: {got}; {advice}leave --id out, and each "
                "row is named by its content"
            )
        draft.plan["id"] = given
        draft.say(given, f"{len(rows):,} distinct values", "name of the row; not learned from", "--id")
        return
    for column in rows.columns.drop([name for name in (draft.choices.target, draft.choices.time) if name]):
        values = distinct[column]
        if columns.names_rows(values, column) and values.is_unique and reading._known(values, {}).notna().all():
            if (twice := len(rows) - len(distinct)) and column not in draft.choices.drop:
                raise ValueError(
                    f"expected another name of the row in each row of {column!r}, got {twice:,} rows that repeat an "
                    "earlier one in this and every other column; if the file holds rows twice, read them once: --once. "
                    f"If {column!r} names no row, leave it out, and all rows are kept: --drop {column!r}"
                )
            if twice:
                continue
            draft.plan["id"] = column
            seen = f"another value in each row, such as {columns.shown(values, 2)}"
            why = "an identifier tells rows apart and nothing about the next one"
            draft.say(column, seen, "name of the row; not learned from", why)
            return
    seen, decided = "no column that names each row", "named by a digest of their content"
    draft.say("(rows)", seen, decided, "a label finds its prediction by that name")
