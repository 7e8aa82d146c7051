"""Checks of performance: a settled share, an estimated cost, a corrected share."""

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect_same, hint, summary
from mlops_course.course.checks.cases import result

__all__ = ["YourTurn", "corrected_share", "cost_so_far", "hint", "settled_share", "summary"]

NOON = pd.Timestamp("2013-06-12T12:00Z")
NAN = float("nan")


def _hours(values: list[float]) -> pd.Series:
    """Instants so many hours after noon; a missing number is a missing instant."""
    return NOON + pd.to_timedelta(pd.Series(values, dtype=float), unit="h")


@check(
    "Which two things must be true of a flight, so that it may be counted?",
    "It is old enough by `asked`, and its label is known by `labelled`. Neither depends on what comes after `now`.",
    "A comparison with a missing instant is false. The mean of an empty series is missing.",
)
def settled_share(answer):
    """Flights count by when they were asked, with the labels that are known, so no kind of flight is preferred."""

    def ask(
        rows: list[tuple], expected: float, words: str, *, now: float = 0.0, wait: str = "24h", repeats: bool = False
    ) -> None:
        asked, late, labelled = zip(*rows, strict=True) if rows else ((), (), ())
        table = pd.DataFrame(
            {"asked": _hours(asked), "late": np.array(late, dtype=float), "labelled": _hours(labelled)}
        )
        table.index = [7] * len(rows) if repeats else table.index[::-1] + 7
        moment = NOON + pd.Timedelta(hours=now)
        case = f"On (asked, late, labelled in hours from noon) {rows} at {moment:%H:%M}, wait {wait}, settled_share"
        expect_same(result(answer, table, moment, pd.Timedelta(wait), case=case), expected, words, case=case)

    ask([(-50, 1, -40), (-49, 0, -45), (-48, 0, -45)], 1 / 3, "These flights are old enough and have a label.")
    words = "Some of these are young flights, asked less than the wait ago. Their early labels mislead: leave them out."
    ask([(-50, 1, -40), (-50, 0, -47), (-3, 0, -1), (-2, 0, -0.5)], 0.5, words)
    words = "Choose a flight by when it was asked, and not by how long its label has been there."
    ask([(-40, 0, -35), (-26, 1, -10)], 0.5, words)
    words = "Only the flight has to be that old: its label may be younger, as long as it came by now."
    ask([(-50, 1, -10), (-50, 0, -45)], 0.5, words)
    ask([(-30, 1, -20), (-30, NAN, NAN)], 1.0, "A label that never came is not a zero: leave such a flight out.")
    ask([(-30, 0, -20), (-30, 1, 5)], 0.0, "A label that came after now was used.")
    ask([(-24, 1, -20), (-23.9, 0, -22)], 1.0, "A flight that was asked exactly the wait ago counts.")
    ask([(-30, 1, 0), (-30, 0, -3)], 0.5, "A label that came exactly at now counts.")
    ask([(-5, 1, -1), (-4, 0, -1)], 0.5, "The wait is the one that is handed in.", wait="2h")
    ask([(-30, 1, -20), (-40, 0, -20)], 0.0, "The wait need not be whole days.", wait="36h")
    words = "Flights that look alike are two flights, and labels of the index may repeat."
    ask([(-30, 1, -20), (-30, 0, -20), (-30, 0, -20)], 1 / 3, words, repeats=True)
    words = "The moment is the one that is handed in: at it, fewer flights are old enough and fewer labels are there."
    ask([(-30, 1, -26), (-29, 0, -25), (-20, 1, -18)], 1.0, words, now=-5.5)
    ask([(-2, 1, -1)], NAN, "If no flight counts, give a missing value.")
    ask([], NAN, "Without a flight, give a missing value.")


@check(
    "Of which flights do you know the label at `now`, and what takes its place for the others?",
    "What a decision costs is a straight line in the label, so the probability may take the place of the label.",
    "`where` keeps a label where `labelled <= now` holds; a comparison with a missing time is false.",
)
def cost_so_far(answer):
    """A known label counts as it is, an unknown one by its probability, and nothing from the future is used."""

    def ask(
        rows: list[tuple], expected: float, words: str, *, now: pd.Timestamp = NOON, index: int = 1, **costs: float
    ) -> None:
        table = pd.DataFrame(rows, columns=["probability", "act", "late", "hours"])
        table = table.astype({"probability": float, "act": bool, "late": float, "hours": float})
        table["labelled"] = _hours(table.pop("hours").tolist())
        table.index = table.index * index
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = f"On (probability, act, late, hours after noon of the label) {rows} at {now:%H:%M}, cost_so_far"
        expect_same(result(answer, table, now, **costs, case=case), expected, words, case=case)

    ask([(0.1, False, 1, -1)], 60.0, "This label is known: not acting on a late flight costs `missed`.")
    ask([(0.9, True, 0, -2)], 15.0, "This label is known: acting on a flight in time costs `false_alarm`.")
    words = "These labels are known: the decision is that of `act`, and a right one costs nothing."
    ask([(0.5, True, 1, -1), (0.5, False, 0, -3)], 0.0, words)
    known = [(0.1, False, 1, -1), (0.9, True, 0, -2), (0.5, True, 1, -1), (0.5, False, 0, -3)]
    ask(known, 18.75, "These labels are known: give the cost per flight, those that cost nothing included.")
    ask([(0.9, False, 1, -1)] * 2 + [(0.9, True, 1, -1)], 40.0, "Flights that look alike are two flights.")
    words = "A missing label is not in time: such flights belong to the morning, and cost what they cost on average, "
    ask([(0.3, False, NAN, NAN)], 18.0, words + "without acting `missed` x probability.")
    ask([(0.3, True, NAN, NAN)], 10.5, words + "with acting `false_alarm` x (1 - probability).")
    words += "each by its own probability; the mean is over all flights."
    ask([(0.1, True, 1, -1), (0.5, False, NAN, NAN)], 15.0, words)
    ask([(0.1, True, 1, -1)] * 3 + [(0.5, False, NAN, NAN)], 7.5, words)
    ask([(0.9, False, 1, -1), (0.9, True, 1, -1)], 30.0, "Labels of the index may repeat.", index=0)
    ask([(0.3, False, 1, 2), (0.3, True, 1, 1)], (18 + 10.5) / 2, "A label that came after now was used.")
    ask([(0.3, False, 1, 0)], 60.0, "A label that came exactly at now is known.")
    ask([(0.5, True, 1, 0.01)], 7.5, "A label that came half a minute after now was used.")
    words = "The label came at eight, and now is seven: the moment is the one that is handed in."
    ask([(0.5, True, 1, -4)], 7.5, words, now=NOON - pd.Timedelta("5h"))
    two = [(0.5, False, NAN, NAN), (0.5, True, NAN, NAN)]
    ask(two, (1 * 0.5 + 4 * 0.5) / 2, "Take the costs that are handed in.", false_alarm=4, missed=1)
    ask([], NAN, "Without a row there is no cost.")
    rng = np.random.default_rng(2)
    drawn = zip(rng.random(50), rng.integers(-5, 5, 50), strict=True)
    rows = [(float(p), bool(p > 0.2), float(rng.random() < p), float(hours)) for p, hours in drawn]
    stands = [(late if hours <= 0 else p, act) for p, act, late, hours in rows]
    expected = float(np.mean([15 * (1 - y) if act else 60 * y for y, act in stands]))
    ask(rows, expected, "These fifty flights cost something else.")


@check(
    "Past days say how often a late flight is heard of by noon, and how often a flight in time is.",
    "`past.groupby('late')['heard'].mean()` gives both chances. A flight stands for one over its chance.",
    "Divide what the late flights stand for by what all flights stand for, of those of today that were heard of.",
)
def corrected_share(answer):
    """Each flight that was heard of stands for those of its kind that were not, and no evening label is used."""

    def flights(**counts: int) -> pd.DataFrame:
        """So many flights: late or in_time, heard of or not (`_later`: they have a label in the end), and unknown."""
        kinds = {"late": (1.0, True), "late_later": (1.0, False), "in_time": (0.0, True), "in_time_later": (0.0, False)}
        rows = [kinds.get(name, (NAN, False)) for name, count in counts.items() for _ in range(count)]
        table = pd.DataFrame(rows, columns=["late", "heard"]).astype({"late": float, "heard": bool})
        return table.sample(frac=1, random_state=1)

    usual = {"late": 3, "late_later": 7, "in_time": 20, "in_time_later": 20}  # chances 0.3 and 0.5

    def ask(past: dict[str, int], today: dict[str, int], expected: float, words: str, *, index: int = 1) -> None:
        case = f"With {past} in the past and {today} today (_later: not heard of by noon), corrected_share"
        given = [table.set_axis(table.index * index, axis="index") for table in (flights(**past), flights(**today))]
        came = result(answer, *given, case=case)
        expect_same(came, expected, words, case=case)

    heard = {"late": 3, "in_time": 15}
    ask(
        usual,
        {"in_time": 8},
        0.0,
        "The chances are those of the past. On a morning with no late flight among those heard of, the share is 0.",
    )
    words = "A flight that was heard of stands for one over the chance of its own kind: 3 late ones for 10."
    ask(usual, heard, 10 / 40, words)
    ask(usual, heard, 10 / 40, "Labels of the index may repeat.", index=0)
    ask(usual, {"late": 2}, 1.0, "If all flights heard of are late, the share is 1.")
    words = "A label that came after noon was used: only flights with `heard` may be used today."
    ask(usual, heard | {"late_later": 30, "in_time_later": 5}, 10 / 40, words)
    words = "Flights of today without any label change nothing."
    ask(usual, heard | {"unknown": 20}, 10 / 40, words)
    words = "Past flights whose label never came belong to neither kind: they change no chance."
    ask(usual | {"unknown": 50}, heard, 10 / 40, words)
    ask(
        {"late": 4, "late_later": 1, "in_time": 1, "in_time_later": 4},
        heard,
        3.75 / 78.75,
        "Take the chances of the past.",
    )
    words = "If no past flight of one kind was heard of, its chance is not known: give a missing value."
    ask({"late_later": 9, "in_time": 20, "in_time_later": 20}, heard, NAN, words)
    ask({"late": 3, "late_later": 7, "in_time_later": 9}, {"late": 3}, NAN, words)
    words = "If there is no past flight of one kind, its chance is not known: give a missing value."
    ask({"in_time": 20, "in_time_later": 20}, {"in_time": 5}, NAN, words)
    ask({}, heard, NAN, words)
    words = "If no flight of today was heard of, give a missing value."
    ask(usual, {"late_later": 3, "in_time_later": 9}, NAN, words)
    ask(usual, {}, NAN, words)
