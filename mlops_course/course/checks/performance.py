"""Checks of performance: an estimated cost."""

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect_same, hint, summary
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "cost_so_far", "hint", "summary"]


@check(
    "Of which flights do you know the label now, and what stands in its place for the others?",
    "What a decision costs is a straight line in the label, so a probability may be put in for it.",
    "`where` keeps a label where `labelled <= now` holds; a comparison with a missing time is false.",
)
def cost_so_far(answer):
    """What is known counts as it came, what is not as it is expected, and nothing of tomorrow is used."""
    noon, nan = pd.Timestamp("2013-06-12T12:00Z"), float("nan")

    def ask(rows: list[tuple], expected: float, words: str, *, now: pd.Timestamp = noon, **costs: float) -> None:
        table = pd.DataFrame(rows, columns=["probability", "act", "late", "hours"])
        table = table.astype({"probability": float, "act": bool, "late": float, "hours": float})
        table["labelled"] = noon + pd.to_timedelta(table.pop("hours"), unit="h")
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = f"On (probability, act, late, hours after noon of the label) {rows} at {now:%H:%M}, cost_so_far"
        expect_same(result(answer, table, now, **costs, case=case), expected, words, case=case)

    known = [(0.1, False, 1, -1), (0.9, True, 0, -2), (0.5, True, 1, -1), (0.5, False, 0, -3)]
    ask(known, 18.75, "These labels are known.")
    words = "No label is not in time: such flights belong to the morning, and cost what they cost on average."
    ask([(0.1, True, 1, -1), (0.5, False, nan, nan)], 15.0, words)
    ask([(0.3, False, nan, nan)], 18.0, "A flight without a label costs what it costs on average.")
    ask([(0.3, True, nan, nan)], 10.5, "Acting on a flight without a label costs what it costs on average.")
    ask([(0.3, False, 1, 2), (0.3, True, 1, 1)], (18 + 10.5) / 2, "A label that came after now was used.")
    ask([(0.3, False, 1, 0)], 60.0, "A label that came at the very instant is known.")
    ask([(0.5, True, 1, 0.01)], 7.5, "A label that came half a minute after now was used.")
    words = "The label came at eight, and now is seven: the moment is the one that is handed in."
    ask([(0.5, True, 1, -4)], 7.5, words, now=noon - pd.Timedelta("5h"))
    two = [(0.5, False, nan, nan), (0.5, True, nan, nan)]
    ask(two, (1 * 0.5 + 4 * 0.5) / 2, "Take the costs that are handed in.", false_alarm=4, missed=1)
    ask([], nan, "Without a row there is no cost.")
    rng = np.random.default_rng(2)
    drawn = zip(rng.random(50), rng.integers(-5, 5, 50), strict=True)
    rows = [(float(p), bool(p > 0.2), float(rng.random() < p), float(hours)) for p, hours in drawn]
    stands = [(late if hours <= 0 else p, act) for p, act, late, hours in rows]
    expected = float(np.mean([15 * (1 - y) if act else 60 * y for y, act in stands]))
    ask(rows, expected, "Fifty flights cost something else.")
