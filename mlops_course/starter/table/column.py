"""Each of the other columns: an input, or left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlops_course.starter import columns, reading

from .finding import Finding

EMPTY = 0.995  # share of missing values from which nothing is left to learn from
LEAK_AUC, SUSPICIOUS_AUC = 0.98, 0.9  # of one column alone; the second is the bar of the readiness probe
AFTERWARDS = 0.01  # share of rows in which a moment may lie after the prediction before it counts as not known then
NESTED = (list, dict, tuple, set, bytes, np.ndarray)


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
