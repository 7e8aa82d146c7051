"""What a column of a table is: number, truth, category, point in time, or a name for its rows; and what it gives away.

    kind_of                 how to read a column, what was seen, what that makes it, and why; or why to leave it out
    names_rows              whether it is an identifier
    names_entities          whether it names something that comes again, such as a client
    time_form               how its times are written
    writes_decimal_commas   whether a file writes numbers as most of Europe does
    probe                   how well it alone tells the answers apart
    one_answer_only         what is there for one of the answers only: a value, or having a value at all
    confesses               whether its name says that it holds the answer, or may hold it

A column is of a kind if hardly any of its values is not, and then those values are named.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import TargetEncoder

from mlops_course.starter import reading

READABLE = 0.95  # share of values that must be of a kind for the column to be of it
TWO_WAYS = "two ways"  # what is said of dates such as 03/04/2026
FEW_WORDS = 3  # so many distinct words among numbers are words for "no number"
IDENTIFIER = 0.95  # distinct values per row from which a text or a whole number names the row
MAX_CATEGORIES = 254  # distinct values; what gradient boosting tells apart
MIN_ROWS_A_CATEGORY = 10  # on average; with fewer, a model learns single rows by heart
FREE_TEXT_WORDS = 4  # mean words a value, from which a text is no name
PROBED_ROWS, PROBE_BINS = 50_000, 20
COMMON = 0.02  # share of rows from which a number is a bin of its own
NUMBER_FORMS = {  # decimal sign, thousands sign
    "plain": [(".", ","), (",", "."), (".", " "), (",", " "), (".", "'")],
    "european": [(",", "."), (".", ","), (",", " "), (".", " "), (".", "'")],
}
AFFIXES = re.compile(r"(?<=[-+])[$€£¥]|^[$€£¥]\s?|\s?[$€£¥%]$")  # money and percent, before or after a number
TRUTHS = (
    *(("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("ja", "nein"), ("j", "n")),
    *(("oui", "non"), ("si", "no"), ("sí", "no"), ("wahr", "falsch"), ("vrai", "faux")),
)
DAYS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%m-%y", "%m-%d-%y", "%b-%Y", "%b %Y", "%B %Y", "%b-%y", "%m/%Y", "%Y/%m"),
    *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y"),
)
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %H:%M:%S%z", " %H:%M:%S.%f")
EPOCHS = {"s": (5e8, 5e9), "ms": (5e11, 5e12), "us": (5e14, 5e15)}  # 1985 to 2128
ENTITY = re.compile(r"(?i:(?:^|[_\W])(?:id|uuid|guid)$)|[a-z]I[dD]$")  # orderId, and not humid
WHO = re.compile(
    r"(?i)(?:^|[_\W])(?:patient|customer|client|user|subject|household|person|member|account)"
    r"(?:[_ ]?(?:no|nr|number|code))?$"
)
CONFESSIONS = re.compile(  # names of what a model or the future has said
    r"(?i)(?:^|[_\W])(?:y_?(?:pred|true|hat|proba|test)|pred|preds|predicted|predictions?|proba|probability|ground_?truth)"
    r"(?:$|[_\W])"
)
DOUBTFUL = re.compile(
    r"(?i)(?:^|[_\W])(?:score|outcome|result|label|target|answer|verdict|decision|status)(?:$|[_\W\d])"
)
PURE, PURE_ROWS, CHANCE = 0.97, 30, 1e-12  # share of one answer among so many rows, which chance does not explain
COMMON_ANSWER = 0.8  # an answer with a larger share is alone in many groups
MIN_ENTITIES, ROWS_AN_ENTITY = 20, (1.05, 100)  # outside of these, a name is one of a row or of a category


class Kind(NamedTuple):
    """What was found about a column: how to read it (None: leave it out), what was seen, what it is, and why."""

    how: dict[str, Any] | None
    seen: str
    decided: str
    why: str = ""


def kind_of(values: pd.Series, text: pd.Series, *, name: str, european: bool, time_format: str | None) -> Kind:
    """What a column is, by its values and by the same as `text`; its `name` may tell an identifier."""
    known = text.dropna()
    distinct = known.nunique()
    if distinct > MAX_CATEGORIES and _is_prose(known):
        return left_out(f"text such as {shown(known, 1)}", "free text; make features of it first")
    if names_rows(values, name) or (ENTITY.search(name) and distinct > MAX_CATEGORIES):
        seen = f"{distinct:,} distinct values, such as {shown(known, 2)}"
        return left_out(seen, "an identifier: a model would learn single rows by heart")
    if known.str.fullmatch(r"(?:19|20)\d\d[01]\d[0-3]\d").all():
        how, note = time_form(values)
        if how is not None:
            seen = f"dates of eight digits, such as {shown(known, 1)}"
            return Kind({**how, "kind": "moment"}, seen, "point in time", note)
    if pd.api.types.is_bool_dtype(values):
        return Kind({"kind": "number"}, "true or false", "number 0 or 1")
    if pd.api.types.is_numeric_dtype(values):
        numbers = known.astype(float)
        infinite = int(np.isinf(numbers).sum())
        note = f"read as missing: infinity ({infinite:,} times)" if infinite else ""
        finite = numbers[np.isfinite(numbers)]
        return Kind({"kind": "number"}, f"numbers, {finite.min():.6g} to {finite.max():.6g}", "number", note)
    words = set(known.str.lower().unique()) if distinct <= 4 else set()
    if pair := next((pair for pair in TRUTHS if {*pair} == words), None):
        how = {"kind": "truth", "yes": [pair[0]], "no": [pair[1]]}
        return Kind(how, f"{pair[0]} or {pair[1]} as text", "number 0 or 1", f"{pair[0]} is 1")
    form = _number_form(known.str.replace(AFFIXES, "", regex=True), european=european)
    if form is not None and (signs := _signs(known)) is not None:
        return _number(known, *form, signs=signs)
    how, note = time_form(values)
    if note == TWO_WAYS and time_format:
        how, note = time_form(values, time_format)
    if note == TWO_WAYS:
        return left_out(f"dates, such as {shown(known, 2)}", "day first or month first? Write them as 2026-11-23")
    if how is not None:
        return Kind({**how, "kind": "moment"}, f"dates, such as {shown(known, 1)}", "point in time", note)
    return _category(known)


def left_out(seen: str, why: str) -> Kind:
    """What is said of a column that is not used."""
    return Kind(None, seen, "left out", why)


def _signs(known: pd.Series) -> list[str] | None:
    """The signs of money or percent around numbers, none or one; None if there are several, which are units apart."""
    found = known.str.extractall(f"({AFFIXES.pattern})")[0].str.strip().unique().tolist()
    return found if len(found) <= 1 else None


def _number(known: pd.Series, decimal: str, thousands: str, words: list[str], *, signs: list[str]) -> Kind:
    """Text that spells numbers, but for some words."""
    plain = known.str.replace(AFFIXES, "", regex=True)
    if plain.str.fullmatch(r"0\d+").any() and plain[~plain.str.lower().isin(words)].str.fullmatch(r"\d+").all():
        return _category(known, "codes of digits, some with a leading zero; ")
    written, known = known, plain
    counted = known.str.lower().isin(words)
    numbers = known[~counted]
    how: dict[str, Any] = {"kind": "number"}
    notes = []
    if thousands and numbers.str.contains(thousands, regex=False).any():
        how["thousands"] = thousands
        notes.append(f"{thousands!r} between thousands")
    if decimal != "." and numbers.str.contains(decimal, regex=False).any():
        how["decimal"] = decimal
        notes.append(f"{decimal!r} is the decimal sign")
    if unusual := [word for word in words if word not in reading.MORE_MISSING_WORDS]:
        how["missing"] = unusual
    if words:
        notes.append(f"read as missing: {', '.join(map(repr, words))} ({int(counted.sum()):,} times)")
    if signs:
        how["sign"] = signs[0]
        notes.append(f"{signs[0]!r} beside the numbers is not read")
    read = reading.convert(written.to_frame("x"), {"columns": {"x": how}})["x"]
    mixed = "mixed: numbers and words, " if words else "numbers, "
    return Kind(how, f"{mixed}{read.min():.6g} to {read.max():.6g}", "number", "; ".join(notes))


def _category(known: pd.Series, what: str = "") -> Kind:
    distinct, numbers = known.nunique(), pd.to_numeric(known, errors="coerce").notna().mean()
    if 1 - READABLE < numbers < READABLE:
        what = f"mixed: {percent(numbers)} numbers, the rest text; "
    seen = f"{what}{distinct:,} distinct values, such as {shown(known, 2)}"
    if distinct > MAX_CATEGORIES or len(known) < MIN_ROWS_A_CATEGORY * distinct:
        mean = f"{len(known) / distinct:.1f} rows a value"
        return left_out(seen, f"high cardinality: {mean}, which a model would learn by heart; group the values first")
    return Kind({"kind": "category"}, seen, "category", "a value that comes new is answered as if rare")


def names_rows(values: pd.Series, name: str) -> bool:
    """Whether a column is an identifier of rows: text or whole numbers, hardly ever repeated."""
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    text = reading.as_text(values).dropna()
    if len(text) < 50 or text.nunique() < IDENTIFIER * len(text) or _is_prose(text):
        return False
    if text.str.fullmatch(r"-?\d+").all():
        numbers = text.astype(float)
        dense = np.ptp(numbers) < 2 * len(numbers)
        return bool(dense or numbers.is_monotonic_increasing or ENTITY.search(name))
    if pd.to_numeric(text, errors="coerce").notna().mean() >= READABLE or _number_form(
        text.str.replace(AFFIXES, "", regex=True), european=True
    ):
        return False
    return time_form(values)[0] is None


def names_entities(values: pd.Series, name: str) -> bool:
    """Whether a column names something that comes again and again, by its name and by how often its values come."""
    if not (ENTITY.search(name) or WHO.search(name)) or pd.api.types.is_datetime64_any_dtype(values):
        return False
    known = reading._known(values, {}).dropna()
    low, high = ROWS_AN_ENTITY
    return known.nunique() >= MIN_ENTITIES and low <= len(known) / known.nunique() <= high


def _is_prose(text: pd.Series) -> bool:
    return bool(text.head(1_000).str.split().str.len().mean() > FREE_TEXT_WORDS)


def _number_form(known: pd.Series, *, european: bool) -> tuple[str, str, list[str]] | None:
    """Decimal sign, thousands sign, and the words that stand where a number should; None for what are no numbers."""
    counts = known.str.lower().value_counts()
    best: tuple[float, str, str, pd.Index] | None = None
    for decimal, thousands in NUMBER_FORMS["european" if european else "plain"]:
        point, between = re.escape(decimal), re.escape(thousands)
        pattern = rf"[+-]?(?:(?:\d{{1,3}}(?:{between}\d{{3}})+|\d+)(?:{point}\d*)?|{point}\d+)(?:e[+-]?\d+)?"
        fits = counts.index.str.fullmatch(pattern)
        share = counts[fits].sum() / counts.sum()
        if best is None or share > best[0]:
            best = (share, decimal, thousands, counts.index[~fits])
    share, decimal, thousands, words = best
    words = [word for word in words if word not in ("inf", "-inf", "infinity")]
    lone = len(words) <= FEW_WORDS and len(counts) - len(words) > 20 and share > 0.5
    usual = all(word in reading.MORE_MISSING_WORDS for word in words) and share > 0.5
    return (decimal, thousands, sorted(words)) if lone or usual else None


def writes_decimal_commas(rows: pd.DataFrame) -> bool:
    """Whether some column has numbers with a comma that cannot stand between thousands."""
    text = (reading.as_text(column).dropna() for _, column in rows.items())
    return any(
        column.str.fullmatch(r"[+-]?\d{1,3}(?:\.\d{3})*,(?:\d{1,2}|\d{4,})|[+-]?\d+,\d{1,2}").mean() > 0.5
        for column in text
        if len(column)
    )


def time_form(values: pd.Series, time_format: str | None = None) -> tuple[dict[str, Any] | None, str]:
    """How times are written, and what to say of it; None if they are no times, or could be read in two ways."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return {}, f"in {values.dt.tz}; kept as UTC"
    if pd.api.types.is_datetime64_dtype(values):
        return {}, "without a zone; taken for UTC"
    text, absent = reading.as_text(values), [*reading.MISSING_WORDS, *reading.MORE_MISSING_WORDS]
    text = text[~text.str.lower().isin(absent)].dropna().drop_duplicates()
    if text.empty:
        return None, ""
    if time_format:
        return ({"format": time_format}, f"read as {time_format}") if _reads(text, time_format) else (None, "")
    if text.str.fullmatch(r"-?\d+(\.\d+)?").all():
        numbers = text.astype(float)
        if _reads(text, "%Y%m%d") and text.str.len().eq(8).all() and numbers.between(1.9e7, 2.2e7).all():
            return {"format": "%Y%m%d"}, "read as year, month and day; taken for UTC"
        if text.str.fullmatch(r"(?:19|20)\d\d").all():
            return {"format": "%Y"}, "read as years"
        unit = [unit for unit, (low, high) in EPOCHS.items() if numbers.between(low, high).all()]
        return ({"unit": unit[0]}, f"read as {unit[0]} since 1970") if unit else (None, "")
    if text.str.fullmatch(reading.QUARTER).mean() >= READABLE:
        return {"format": "quarter"}, "read as quarters"
    if text.str.match(r"\d{4}-\d\d(-\d\d)?").mean() >= READABLE and _reads(text, "ISO8601"):
        zoned = text.str.contains(r"\d(?:Z|[+-]\d\d:?\d\d)$", regex=True)
        note = "without a zone; taken for UTC"
        if zoned.any():
            note = "some with a zone, some without, which are taken for UTC"
        return {"format": "ISO8601"}, "with their zones; kept as UTC" if zoned.all() else note
    fits = [day + clock for day in DAYS for clock in CLOCKS if _reads(text, day + clock)]
    if len(fits) > 1:
        steps = {form: pd.to_datetime(text, format=form, utc=True, errors="coerce").diff() for form in fits}
        order = {form: float((step.dropna() >= pd.Timedelta(0)).mean()) for form, step in steps.items()}
        in_order = [form for form, share in order.items() if share >= READABLE]
        if len(in_order) != 1:
            return None, TWO_WAYS
        return {"format": in_order[0]}, f"read as {in_order[0]}, by which the file is in order; taken for UTC"
    return ({"format": fits[0]}, f"text, read as {fits[0]}; taken for UTC") if fits else (None, "")


def _reads(text: pd.Series, form: str) -> bool:
    sample = text.iloc[:: max(1, len(text) // 20_000)]
    return bool(pd.to_datetime(sample, format=form, utc=True, errors="coerce").notna().mean() >= READABLE)


def probe(values: pd.Series, label: pd.Series) -> float:
    """How well one column alone tells the answers apart: AUC of the mean answer in its bins, learned on other rows.

    Numbers are cut into quantiles, but for those that many rows share, and text is taken as it is; a missing value is a
    bin, because a column that is filled in after the fact says as much by being empty. Learned on every second row and
    scored on the rest, and the other way round, so that values that occur once score as chance.
    """
    frame = pd.DataFrame({"value": values, "label": label}).dropna(subset=["label"])
    frame = frame.iloc[:: max(1, len(frame) // PROBED_ROWS)]
    column = frame["value"]
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.astype("int64").where(column.notna()).astype(float)
    codes = pd.Series(pd.factorize(column)[0], index=column.index)
    if pd.api.types.is_numeric_dtype(column):
        spread = column.notna() & (codes.map(codes.value_counts()) < COMMON * len(column))
        codes[spread] = -2 - pd.qcut(column[spread].rank(), PROBE_BINS, labels=False, duplicates="drop")
    codes, target, even = codes.to_numpy()[:, None], frame["label"].to_numpy(), np.arange(len(frame)) % 2 == 0
    scores = []
    for learn, judge in ((even, ~even), (~even, even)):
        if len(np.unique(target[judge])) < 2:
            return 0.5
        encoder = TargetEncoder(target_type="continuous", smooth=1.0).fit(codes[learn], target[learn])
        scores.append(roc_auc_score(target[judge], encoder.transform(codes[judge])))
    return float(np.mean(scores))


def confesses(name: str) -> str:
    """ "surely" if a column's name says that it holds the answer, "perhaps" if it may, and "" if not."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)  # yPred
    return "surely" if CONFESSIONS.search(name) else "perhaps" if DOUBTFUL.search(name) else ""


def one_answer_only(values: pd.Series, label: pd.Series) -> str:
    """What is there for one of the answers only, in words: a value, or that there is one at all; "" if nothing.

    Having a value may have some exceptions, as people fill in things; a value has none. It counts only where chance
    would hardly bring so many rows of one answer together.
    """
    known = label.notna()
    values, label = values[known], label[known]
    filled = values.notna()
    groups = {"it is filled": (filled, PURE), "it is missing": (~filled, PURE)}
    if not pd.api.types.is_datetime64_any_dtype(values):
        counts = values.value_counts()
        common = counts[counts >= max(PURE_ROWS, COMMON * len(values))].index
        groups |= {f"it is {value!r}": (values == value, 1.0) for value in common} if len(counts) > 1 else {}
    for what, (rows, bar) in groups.items():
        number = int(rows.sum())
        if number < PURE_ROWS or number > len(values) - PURE_ROWS:
            continue
        for answer in (1.0, 0.0):
            share, overall = float((label[rows] == answer).mean()), float((label == answer).mean())
            if share >= bar and overall <= COMMON_ANSWER and overall**number < CHANCE:
                return f"where {what}, the answer is {answer:.0f} in {percent(share)} of {number:,} rows"
    return ""


def shown(values: pd.Series, most: int = 3) -> str:
    """Some distinct values, as they are."""
    return ", ".join(repr(value) for value in values.drop_duplicates().head(most))


def percent(share: float) -> str:
    """A share in words of three digits."""
    return f"{100 * share:.3g} %"
