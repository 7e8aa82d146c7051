"""Checks of start here: what is known in time, maturity, eight incidents, and a month that is news."""

import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_items, result

__all__ = ["YourTurn", "hint", "maturity", "news", "places", "summary", "usable"]


@check(
    "When is the value of each column there, and when is the question asked?",
    "Both are hours from the departure: what is there at -3 is there before the question at -2.",
)
def usable(answer):
    """What came after the question is not used, however good it looks."""

    def ask(known: dict[str, float | None], asked: float, expected: list[str], words: str) -> None:
        case = f"usable({known}, asked={asked})"
        came = result(answer, known, asked, case=case, kind=list, give="a list of columns")
        expect_items(came, expected, words, case=case, order="Give the columns in alphabetical order.")

    ask({"hour": -720}, -2, ["hour"], "What is there long before the question may be used.")
    ask({"hour": -720, "dep_delay": 0.2}, -2, ["hour"], "The delay at departure is there after the question.")
    ask({"gate": -1.5}, -2, [], "The gate is there between the question and the departure: too late for the desk.")
    ask({"wind": -2}, -2, ["wind"], "What is there at the very moment may be used.")
    ask({"mood": None, "hour": -720}, -2, ["hour"], "What never is there in time is not usable.")
    ask({"wind": -2, "gate": -1.5, "crew": -30}, -1, ["crew", "gate", "wind"], "The desk asks one hour before.")
    ask({"late": 3.5, "taxi": 0.4}, 1, ["taxi"], "Somebody may ask after the departure, too.")
    ask({"off": 0, "taxi": 0.4}, 0, ["off"], "What is there at the departure, at 0, may be used by a question at 0.")
    ask({}, -2, [], "Without columns there is none to use.")


PRACTICES = ("data", "training", "tests", "release", "monitoring")


@check(
    "Which practice decides about the level of a team?",
    "Go through PRACTICES and not through the team: what does `team.get(practice)` give for one that is not named?",
)
def maturity(answer):
    """A team is at the level of its weakest practice, and silence is the lowest level."""

    def ask(changes: dict[str, int | None], expected: int, words: str, *, level: int = 2, without: str = "") -> None:
        team = {practice: level for practice in PRACTICES if practice != without} | changes
        case = f"maturity({team})"
        came = result(answer, team, case=case, hint=f"{words} It fails: {case}.")
        expect_same(came, expected, words, case=case)

    ask({}, 2, "Every practice is at level 2.")
    ask({}, 1, "Every practice is at level 1.", level=1)
    ask({"monitoring": 0}, 0, "The weakest practice decides, and not the average of all.")
    ask({"tests": 1}, 1, "The weakest practice decides, and not the average of all.")
    ask({}, 0, "A practice that is not named is done by hand.", without="release")
    ask({"data": None}, 0, "What nobody knows is done by hand.")
    ask({"coffee": 0}, 2, "A practice that is not among PRACTICES does not count.")
    for practice in PRACTICES:
        ask({practice: 1}, 1, f"The weakest practice decides, here {practice}.")
        ask({practice: 0}, 0, f"The weakest practice decides, here {practice}.", level=1)


PHASES, DEBTS = {"design", "development", "operations"}, {"data", "configuration", "glue code", "feedback loop"}
PLACES = {  # incident: phase, debt, and what to say of another answer
    "A": ("design", "data", "It was lost before anybody approved the project: there one asks whether data can be had."),
    "B": ("operations", "data", "A value means another thing now, and nobody who watches the service sees it."),
    "C": ("development", "configuration", "A setting of the comparison of models lives in three places."),
    "D": ("operations", "configuration", "A setting of what is in use lives apart from the version it belongs to."),
    "E": ("development", "glue code", "Code between two libraries, on the way to a model, does nothing but carry."),
    "F": ("operations", "glue code", "Three scripts hand the answers of a model in use to another system."),
    "G": ("design", "feedback loop", "What is measured is moved by the model, and that was agreed as the goal."),
    "H": ("operations", "feedback loop", "The model in use brought the landings about that it is then retrained on."),
}


@check(
    "Ask of each: when could somebody have prevented it? Before, on the way to a model, or while it was in use?",
    "Of the debts, each occurs twice. Of the phases, design and development occur twice, operations four times.",
)
def places(answer):
    """Eight incidents, each where the habit belongs that was missing."""
    fails = "places fails; it takes no argument."
    came = result(answer, case="", hint=fails, kind=dict, give="a dictionary from letter to phase and debt")
    lacking = [letter for letter in PLACES if letter not in came]
    expect(not lacking, f"There is no place for {', '.join(lacking)}.")
    for letter, (phase, debt, words) in PLACES.items():
        pair, case = came[letter], f"{letter} has {came[letter]!r}."
        expect(isinstance(pair, tuple | list) and len(pair) == 2, "Each incident has a phase and a debt.", case=case)
        expect(pair[0] in PHASES, f"Phases are {', '.join(sorted(PHASES))}.", case=case)
        expect(pair[1] in DEBTS, f"Debts are {', '.join(sorted(DEBTS))}.", case=case)
        what = "phase" if pair[0] != phase else "debt"
        expect(tuple(pair) == (phase, debt), f"Incident {letter} has another {what}. {words}")
    expect(len(came) == len(PLACES), "There are more places than incidents.", case=f"{sorted(map(str, came))}")


@check(
    "How far would chance alone move the mean of so many days?",
    "Work out the distance of each month from what was expected, and divide by its standard error.",
    "A month without flights has no share: see that it does not count.",
)
def news(answer):
    """A month is news when chance does not explain it, in either direction, by how many days it rests on."""

    def ask(*rows: tuple[str, float, int, int, int, float], gives: list[str], words: str) -> None:
        columns = ["month", "expected", "late", "flights", "days", "spread"]
        table = pd.DataFrame(rows, columns=columns, index=range(len(rows), 0, -1))
        case = f"news of ({', '.join(columns)}) {list(rows)}"
        came = result(answer, table, case=case, kind=list, give="a list of months")
        expect_items(came, gives, words, case=case)

    ask(("03", 0.2, 2_000, 10_000, 25, 0.1), gives=[], words="What was expected came: chance explains that.")
    words = "Flights of a day are late together, so count days, not flights: five points are 2.5 standard errors here."
    ask(("04", 0.2, 2_500, 10_000, 25, 0.1), gives=[], words=words)
    ask(("04", 0.2, 2_700, 10_000, 25, 0.1), gives=["04"], words="Seven points are 3.5 standard errors here.")
    words = "Eight points are no news where days differ that much: it depends on how far days lie apart."
    ask(("05", 0.2, 2_800, 10_000, 25, 0.2), gives=[], words=words)
    words = "Four points are news where days are so alike: it depends on how far days lie apart."
    ask(("05", 0.2, 2_400, 10_000, 25, 0.05), gives=["05"], words=words)
    words = "There were fewer late flights than chance explains."
    ask(("06", 0.2, 1_300, 10_000, 25, 0.1), gives=["06"], words=words)
    ask(
        ("07", 0.2, 2_290, 10_000, 9, 0.1),
        gives=[],
        words="Nine points are 2.7 standard errors here: there are nine days.",
    )
    ask(("08", 0.2, 2_290, 10_000, 100, 0.1), gives=[], words="Not quite three points are 2.9 standard errors here.")
    words = "Exactly three standard errors are not more than three."
    ask(("08", 0.25, 6_250, 10_000, 16, 0.5), gives=[], words=words)
    words = "A month without flights is no news."
    ask(("11", 0.2, 0, 0, 0, 0.0), ("12", 0.2, 2_900, 10_000, 25, 0.1), gives=["12"], words=words)
    months = [("02", 0.2, 2_000, 10_000), ("03", 0.3, 2_000, 10_000), ("01", 0.2, 2_900, 10_000)]
    words = "Compare with what was expected of the month itself, and keep the order of the table."
    ask(*((*month, 25, 0.1) for month in months), gives=["03", "01"], words=words)
    months = [("02", 0.2, 2_000, 10_000), ("03", 0.3, 3_000, 10_000)]
    ask(*((*month, 25, 0.1) for month in months), gives=[], words="A rise that was expected is no news.")
    words = "Each month has its own number of days: few of them move further by chance."
    ask(("05", 0.2, 2_800, 10_000, 9, 0.1), ("06", 0.2, 2_700, 10_000, 25, 0.1), gives=["06"], words=words)
