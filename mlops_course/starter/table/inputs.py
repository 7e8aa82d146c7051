"""Each of the other columns: an input, or left out."""

import re
import shlex

import numpy as np
import pandas as pd

from mlops_course.starter import reading
from mlops_course.starter.columns import Kind, confesses, kind_of, left_out, one_answer_only, percent, probe

from .draft import Draft
from .roles import _moment_of_asking

EMPTY = 0.995  # share of missing values from which nothing is left to learn from
LEAK_AUC, SUSPICIOUS_AUC = 0.9, 0.8  # of one column alone: left out until it is asked for, and named
DOUBTFUL_AUC = 0.75  # with a name such as score or result, from which it is left out
YEARS = 1900, 2100  # of dates; outside of them there is a remark
MANY_VALUES, COMMON_CODE, FAR = 10, 0.005, 100  # distinct numbers, share of rows, times the spread of the rest
CODE = re.compile(r"-?9{1,6}|-?9{2,6}\.9+")
AFTERWARDS = 0.01  # share of rows in which a moment may lie after the prediction before it counts as not known then
NESTED = (list, dict, tuple, set, bytes, np.ndarray)
INPUT_OF = {"number": "numeric", "truth": "numeric", "category": "categorical", "moment": "datetime"}  # by kind


def _judge_inputs(draft: Draft, label: pd.Series, asked: pd.Series, *, european: bool) -> dict[str, list[str]]:
    """Decide about each column but target, time and id; return the names of the inputs by kind."""
    choices = draft.choices
    inputs: dict[str, list[str]] = {"datetime": [], "numeric": [], "categorical": []}
    if choices.time is not None:
        inputs["datetime"].append(_moment_of_asking(draft))
    first: dict[int, str] = {}  # column by the digest of its values
    for column in draft.rows.columns:
        named = column in (draft.plan["id"], draft.plan.get("group"), choices.group)
        if column in (choices.target, choices.time) or (named and column not in choices.keep):
            continue
        found = _kind_of(draft, column, first, european=european)
        if found.how is not None:
            found = _known_before(draft, column, found, label=label, asked=asked)
        decided = found.decided
        if found.how is not None:
            name = draft.read_as(found.how, column)
            inputs[INPUT_OF[found.how["kind"]]].append(name)
            decided += f", called {name}" if name != column else ""
        draft.say(column, found.seen, decided, found.why)
    return inputs


def _kind_of(draft: Draft, column: str, first: dict[int, str], *, european: bool) -> Kind:
    """What a column holds, or why it is left out; a column that is used is added to `first`."""
    if column in draft.choices.drop:
        return left_out("", "--drop")
    values = draft.rows[column]
    if values.dtype == object and values.map(type).isin(NESTED).any():
        return left_out("lists, mappings or bytes", "a model takes one value a cell; take apart what you need")
    text = reading._known(values, {})
    missing = float(text.isna().mean())
    if missing >= EMPTY:
        return left_out(f"missing in {percent(missing)} of rows", "nothing to learn from; ask where the values went")
    if text.nunique() == 1 and missing == 0:
        return left_out(f"{text.iloc[0]!r} in every row", "a constant tells no row from another")
    digest = hash(pd.util.hash_pandas_object(text, index=False).to_numpy().tobytes())
    if digest in first:
        return left_out(f"the same as {first[digest]} in every row", "once is enough")
    first[digest] = column
    found = kind_of(values, text, name=column, european=european, time_format=draft.choices.time_format)
    if found.how is None:
        kept = Kind({"kind": "category"}, found.seen, "category", "--keep")
        return kept if column in draft.choices.keep else found
    return found._replace(seen=found.seen + (f"; missing in {percent(missing)}" if missing else ""))


def _known_before(draft: Draft, column: str, found: Kind, *, label: pd.Series, asked: pd.Series) -> Kind:
    """The same kind, or why the column is left out: it is only known after the prediction, or gives the answer away."""
    values, kept = draft.rows[column], column in draft.choices.keep
    read = reading.convert(values.to_frame(), {"columns": {column: found.how}})[column]
    if found.how["kind"] == "moment" and draft.choices.time is not None:
        late = float((read > asked.dt.tz_localize(None)).mean())
        if late > AFTERWARDS and not kept:
            seen = f"{found.seen}; after the prediction in {percent(late)} of rows"
            return left_out(seen, "not known when the row is predicted")
    if found.how["kind"] == "number" and read.isna().all():
        return left_out("no finite number", "nothing to learn from")
    if remark := _strange(read):
        found = found._replace(why="; ".join(filter(None, [found.why, remark])))
    auc, confession = probe(read, label), confesses(column)
    alone = f"{found.seen}; alone it tells the answers apart with AUC {auc:.3f}"
    seen = ""
    if confession == "surely" or (confession and auc >= DOUBTFUL_AUC):
        seen, why = alone, "its name says that it may be an answer, and not something known before"
    elif auc >= LEAK_AUC:
        seen, why = alone, "it gives the target away: most likely it is written after the fact"
    elif only := one_answer_only(read, label):
        seen, why = f"{found.seen}; {only}", "it gives the target away: most likely it is filled in after the fact"
    if seen and not kept:
        return left_out(seen, f"{why}. If it is known when a row is predicted, use it: --keep {shlex.quote(column)}")
    if seen or confession or auc >= SUSPICIOUS_AUC:
        doubt = f"alone it has AUC {auc:.2f}: find out when its value is known"
        return found._replace(why="; ".join(filter(None, [found.why, doubt])))
    return found


def _strange(values: pd.Series) -> str:
    """A remark on values that are hardly what they say: -999 for a missing one, an age of 65,526, a date in 2106."""
    known = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(known):
        odd = known[(known.dt.year < YEARS[0]) | (known.dt.year > YEARS[1])]
        return f"{len(odd):,} dates such as {odd.iloc[0]:%Y-%m-%d}: are they possible?" if len(odd) else ""
    if not pd.api.types.is_numeric_dtype(known) or known.nunique() < MANY_VALUES:
        return ""
    for value in (known.min(), known.max()):
        rest = known[known != value]
        spread = max(rest.quantile(0.99) - rest.quantile(0.01), 1e-12)
        far = min(abs(value - rest.quantile(0.01)), abs(value - rest.quantile(0.99)))
        if CODE.fullmatch(f"{value:g}") and far > spread and (known == value).mean() > COMMON_CODE:
            share = percent(float((known == value).mean()))
            return f"{value:g} in {share} of rows, far from the rest: if it means missing, add it to `missing`"
        if far > FAR * spread:
            return f"{value:g} lies far from the rest, most of which is at {rest.median():g}: is it possible?"
    return ""
