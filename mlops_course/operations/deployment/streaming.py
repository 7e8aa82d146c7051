"""Following a stream: each event handled once and in order, in simulated time, even if the consumer is killed.

    timeline    one sequence of events from rows with two times: when a row was asked, and when its label came
    consume     hand the events on in small batches, from a position on

A consumer that is killed between writing its results and writing its position handles events twice, or loses them. So
`handle` gets both and keeps them in one transaction; the next start goes on after the last result that was kept.

>>> rows = pd.DataFrame({"asked": pd.to_datetime(["2013-01-01T08:00Z", "2013-01-01T09:00Z"]),
...                      "known": pd.to_datetime(["2013-01-01T09:00Z", None])})
>>> events = timeline(rows, asked="asked", labelled="known")
>>> events[["kind", "row"]].to_dict("split")["data"]
[['asked', 0], ['labelled', 0], ['asked', 1]]
>>> kept = []
>>> consume(events, lambda batch, position: kept.append((list(batch["row"]), position)), start=1, most=1)
3
>>> kept
[([0], 2), ([1], 3)]
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

__all__ = ["ASKED", "LABELLED", "consume", "timeline"]

ASKED, LABELLED = "asked", "labelled"  # kinds of events
MOST = 500  # events handed on at once


def timeline(rows: pd.DataFrame, *, asked: str, labelled: str) -> pd.DataFrame:
    """Return the events of `rows` in order of time, with time, kind ("asked" or "labelled") and row, its position.

    `asked` and `labelled` name the columns with the two times. At the same instant labels come first, as what is known
    then may be used then. Raises ValueError if a row was asked at no time, or its label came before it was asked.
    """
    if missing := int(rows[asked].isna().sum()):
        raise ValueError(f"expected a time in {asked!r} for every row, got {missing} missing; leave these rows out")
    if early := int((rows[labelled] < rows[asked]).sum()):
        raise ValueError(f"expected no label before its question, got {early} in {labelled!r}; are they swapped?")
    positions = np.arange(len(rows))
    known = rows[labelled].notna().to_numpy()
    labels = pd.DataFrame({"time": rows[labelled].array[known], "kind": LABELLED, "row": positions[known]})
    questions = pd.DataFrame({"time": rows[asked].array, "kind": ASKED, "row": positions})
    return pd.concat([labels, questions]).sort_values("time", kind="stable", ignore_index=True)


def consume(events: pd.DataFrame, handle: Callable[[pd.DataFrame, int], None], *, start: int, most: int = MOST) -> int:
    """Hand the events from position `start` on to `handle`, at most `most` at once, and return the last position.

    `handle` gets a slice of `events` and the position after it. Raises ValueError if there is no such position, or
    nothing may be handed on at once.
    """
    if most < 1:
        raise ValueError(f"expected to hand on at least one event at once, got {most}")
    if not 0 <= start <= len(events):
        raise ValueError(f"expected a position from 0 to {len(events)}, got {start}; is it of another stream?")
    for begin in range(start, len(events), most):
        batch = events.iloc[begin : begin + most]
        handle(batch, begin + len(batch))
    return len(events)
