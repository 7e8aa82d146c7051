"""Checks of start here: what is known in time, maturity, eight incidents, and a month that is news."""

import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_items, result

__all__ = ["YourTurn", "hint", "maturity", "news", "places", "summary", "usable"]


@check(
    "When does each column become known, and when does the desk ask?",
    "Both are hours from the departure: a value that is known at -3 is known before a question at -2.",
)
def usable(answer):
    """A model uses only what is known when the desk asks."""

    def ask(known: dict[str, float | None], asked: float, expected: list[str], words: str) -> None:
        case = f"usable({known}, asked={asked})"
        came = result(answer, known, asked, case=case, kind=list, give="a list of columns")
        ours = all(name in [*known] for name in came)
        words = words if ours else "A column came that is not in `known`: start anew in each call."
        expect_items(came, expected, words, case=case, order="Give the columns in alphabetical order.")

    ask({"hour": -720}, -2, ["hour"], "A value that is known long before the question may be used.")
    ask({"hour": -720, "dep_delay": 0.2}, -2, ["hour"], "The delay at departure is known only after the question.")
    ask({"gate": -1.5}, -1, ["gate"], "Hours need not be whole: -1.5 comes before -1.")
    ask({"gate": -1.5}, -2, [], "The gate becomes known between the question and the departure: too late for the desk.")
    ask({"wind": -2}, -2, ["wind"], "A value that becomes known exactly when the desk asks may be used.")
    ask({"mood": None, "hour": -720}, -2, ["hour"], "A value that never becomes known (None) may not be used.")
    ask(
        {"wind": -2, "gate": -1.5, "crew": -30},
        -1,
        ["crew", "gate", "wind"],
        "Here the desk asks one hour before the departure: compare with `asked`, not with -2.",
    )
    ask(
        {"late": 3.5, "taxi": 0.4},
        1,
        ["taxi"],
        "Here the question comes one hour after the departure: compare with `asked`, not with 0.",
    )
    ask({"taxi": 0.4}, 0, [], "Hours need not be whole: 0.4 comes after 0.")
    ask({"off": 0, "taxi": 0.4}, 0, ["off"], "A value known at 0 may be used by a question at 0: 0 is not None.")
    ask({"mood": None, "off": 0}, 1, ["off"], "None is not 0: this value never becomes known.")
    ask({"gate": -1.5, "crew": -1.75}, -1.75, ["crew"], "Hours need not be whole: -1.5 comes after -1.75.")
    ask({"mood": None}, 0, [], "No column may be used, so the answer is an empty list.")
    ask({}, -2, [], "Without columns the answer is an empty list.")


PRACTICES = ("data", "training", "tests", "release", "monitoring")


@check(
    "Which practice decides the level of a team?",
    "Go through PRACTICES, not the team: what does `team.get(practice)` return for a practice that is not named?",
)
def maturity(answer):
    """A team is at the level of its weakest practice; an unknown practice has level 0."""

    def ask(changes: dict[str, int | None], expected: int, words: str, *, level: int = 2, without: str = "") -> None:
        team = {practice: level for practice in PRACTICES if practice != without} | changes
        case = f"maturity({team})"
        came = result(answer, team, case=case, hint=f"{words} It fails: {case}.")
        expect_same(came, expected, words, case=case)

    ask({}, 2, "Every practice is at level 2.")
    ask({}, 1, "Every practice is at level 1.", level=1)
    for practice in PRACTICES:
        ask({practice: 0}, 0, f"The weakest practice decides, not the average; here it is {practice}.")
        ask({practice: 1}, 1, f"The weakest practice decides, not the average; here it is {practice}.")
        ask({practice: 0}, 0, f"The weakest practice decides, here {practice}.", level=1)
    ask({}, 0, "A practice that is not named has level 0.", without="release")
    ask({"data": None}, 0, "A practice whose level nobody knows (None) has level 0.")
    for level in (0, None):
        ask({"coffee": level}, 2, "A practice that is not among PRACTICES does not count.")
    ask({"coffee": 2}, 0, "A practice that is not named has level 0.", without="data")
    ask(dict.fromkeys(PRACTICES), 0, "A practice whose level nobody knows (None) has level 0.")
    expect_same(result(answer, {}, case="maturity({})"), 0, "This team names no practice.", case="maturity({})")
    words = "A practice counts under its own name only: metadata is not data, and Tests is not tests."
    ask({"metadata": 2}, 0, words, without="data")
    ask({"metadata": 0, "Tests": 0, "test": 0}, 2, words)


PHASES, DEBTS = ("design", "development", "operations"), ("data", "configuration", "glue code", "feedback loop")
PLACES = {  # incident: phase, debt, and what to say to another answer
    "A": ("design", "data", "The team could have asked what the value means before the project was approved."),
    "B": ("operations", "data", "A value has a new meaning, and nobody noticed while the service was running."),
    "C": ("development", "configuration", "A setting of the comparison of models is kept in three places."),
    "D": (
        "operations",
        "configuration",
        "A setting of the running service is kept apart from the version that it belongs to.",
    ),
    "E": ("development", "glue code", "While a model is developed, code between two libraries only carries tables."),
    "F": ("operations", "glue code", "Three scripts carry the predictions of a deployed model to another system."),
    "G": (
        "design",
        "feedback loop",
        "The goal was agreed before any code, and the model itself changes what the goal measures.",
    ),
    "H": ("operations", "feedback loop", "The deployed model causes the landings on which it is then retrained."),
}


@check(
    "When could somebody have prevented it: before the project, while a model was developed, or while it was in use?",
    "Each debt occurs twice. Design and development occur twice, operations four times.",
)
def places(answer):
    """Each incident has the phase in which it could have been prevented, and its debt."""
    fails = "places fails; it takes no argument."
    came = result(answer, case="", hint=fails, kind=dict, give="a dictionary from each letter to its phase and debt")
    lacking = [letter for letter in PLACES if letter not in came]
    expect(
        not lacking,
        f"No answer for incident {', '.join(lacking)}: the dictionary has the keys {sorted(map(str, came))}.",
    )
    for letter, (phase, debt, words) in PLACES.items():
        pair, case = came[letter], f"{letter} has {came[letter]!r}."
        expect(
            isinstance(pair, tuple | list) and len(pair) == 2,
            "Each incident needs a pair: its phase and its debt.",
            case=case,
        )
        expect(pair[0] in PHASES, f"The first of the pair is a phase: {', '.join(PHASES)}.", case=case)
        expect(pair[1] in DEBTS, f"The second of the pair is a debt: {', '.join(DEBTS)}.", case=case)
        what = "phase" if pair[0] != phase else "debt"
        expect(tuple(pair) == (phase, debt), f"Incident {letter} has the wrong {what}. {words}", case=case)
    expect(len(came) == len(PLACES), "There are more answers than incidents.", case=f"{sorted(map(str, came))}")


@check(
    "How far would chance alone move the mean of so many days?",
    "Compute how far each month is from what was expected, and divide by its standard error.",
    "A month without flights has no share of late flights, so it cannot be news.",
)
def news(answer):
    """A month is news if chance does not explain its difference, given its number of days."""

    columns = ["month", "expected", "late", "flights", "days", "spread"]

    def ask(*rows: tuple[str, float, int, int, int, float], gives: list[str], words: str, last: int = 0) -> None:
        table = pd.DataFrame(rows, columns=columns)
        table.index = range(last, last - len(rows), -1) if last else table.index
        case = f"news of ({', '.join(columns)}) {list(rows)}{f', whose index begins at {last}' if last else ''}"
        came = result(answer, table, case=case, kind=list, give="a list of months")
        ours = all(month in table["month"].tolist() for month in came)
        words = words if ours else "Give months that stand in the column `month` of the table."
        expect_items(came, gives, words, case=case, order="Keep the order of the table.")

    words = "The share is exactly what was expected, so this month is no news."
    ask(("03", 0.2, 2_000, 10_000, 25, 0.1), gives=[], words=words)
    words = "Five points are 2.5 standard errors here, which is no news. Do you count days, not flights?"
    ask(("04", 0.2, 2_500, 10_000, 25, 0.1), gives=[], words=words)
    ask(("04", 0.2, 2_700, 10_000, 25, 0.1), gives=["04"], words="Seven points above are 3.5 standard errors here.")
    words = "Eight points are no news if the days differ this much: it depends on how far days lie apart (`spread`)."
    ask(("05", 0.2, 2_800, 10_000, 25, 0.2), gives=[], words=words)
    words = "Four points are news if the days are so alike: it depends on how far days lie apart (`spread`)."
    ask(("05", 0.2, 2_400, 10_000, 25, 0.05), gives=["05"], words=words)
    words = "A month with fewer late flights than chance explains is news, too."
    ask(("06", 0.2, 1_300, 10_000, 25, 0.1), gives=["06"], words=words)
    words = "Nine points are 2.7 standard errors here: there are nine days."
    ask(("07", 0.2, 2_900, 10_000, 9, 0.1), gives=[], words=words)
    ask(("08", 0.2, 2_290, 10_000, 100, 0.1), gives=[], words="Not quite three points are 2.9 standard errors here.")
    ask(("08", 0.2, 2_304, 10_000, 100, 0.1), gives=["08"], words="These are 3.04 standard errors: do not round.")
    ask(("09", 0.2, 3_600, 10_000, 4, 0.1), gives=["09"], words="16 points are 3.2 standard errors here: four days.")
    words = "The difference is exactly three standard errors, which is not more than three."
    ask(("08", 0.25, 6_250, 10_000, 16, 0.5), gives=[], words=words)
    for expected, late in ((0.2, 0), (0.0, 2_000), (0.0, 3_000)):
        words = "It may be that no flight is late, or that none was expected to be."
        ask(("10", expected, late, 10_000, 25, 0.1), gives=["10"], words=words)
    words = "All days are alike here, so chance explains no difference at all."
    ask(("03", 0.2, 2_500, 10_000, 25, 0.0), ("04", 0.25, 2_500, 10_000, 25, 0.0), gives=["03"], words=words)
    words = "A month without flights is no news, and the others are still judged."
    ask(("11", 0.2, 0, 0, 0, 0.0), ("12", 0.2, 2_900, 10_000, 25, 0.1), gives=["12"], words=words)
    months = [("02", 0.2, 2_000, 10_000), ("03", 0.3, 2_000, 10_000), ("01", 0.2, 2_900, 10_000)]
    two = ("11", 0.2, 2_000, 10_000, 25, 0.1), ("12", 0.2, 2_900, 10_000, 25, 0.1)
    ask(*two, gives=["12"], words="The index may be anything.", last=2)
    ask(*two, gives=["12"], words="The index may be anything.", last=9)
    words = "Compare each month with what was expected of it."
    ask(*((*month, 25, 0.1) for month in months), gives=["03", "01"], words=words)
    months = [("02", 0.2, 2_000, 10_000), ("03", 0.3, 3_000, 10_000)]
    ask(
        *((*month, 25, 0.1) for month in months),
        gives=[],
        words="More late flights were expected of the second month, so it is no news.",
    )
    words = "Each month has its own number of days: with few days, chance moves the share further."
    ask(("05", 0.2, 2_800, 10_000, 9, 0.1), ("06", 0.2, 2_700, 10_000, 25, 0.1), gives=["06"], words=words)
    words = "Each month has a spread of its own."
    ask(("05", 0.2, 2_400, 10_000, 25, 0.05), ("06", 0.2, 2_700, 10_000, 25, 0.2), gives=["05"], words=words)
    ask(gives=[], words="A table without months gives an empty list.")
