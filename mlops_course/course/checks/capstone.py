"""Checks of capstone: a frozen test period, two kinds of leak, and a rubric that is computed."""

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, result

__all__ = ["YourTurn", "frozen_split", "hint", "honest", "know_too_much", "rubric_score", "summary"]

START, END = pd.Timestamp("2026-03-01", tz="UTC"), pd.Timestamp("2026-04-01", tz="UTC")


def _orders(lines: list[tuple]) -> pd.DataFrame:
    """Lines of label, asked, known (None for a label that never came)."""
    labels, asked, known = zip(*lines, strict=True)
    times = {
        name: pd.to_datetime(list(values), utc=True, format="ISO8601")
        for name, values in (("asked", asked), ("known", known))
    }
    return pd.DataFrame(times, index=list(labels))


@check(
    "Two questions for each row: when was it asked, and when was its answer known?",
    "For training, the time that the answer was known has to be compared, not the time of asking.",
    "The test period has two ends: `(start <= asked) & (asked < end)`, and only rows whose answer is known.",
)
def frozen_split(answer):
    """Training knows only what was known at the start, and the test period stays what it was."""

    def split(rows, case, start=START, end=END):
        came = attempt(lambda: answer(rows, start, end), hint=f"frozen_split fails {case}.")
        expect(isinstance(came, tuple) and len(came) == 2, "Give two lists: labels of training rows, of test rows.")
        return [sorted(part) for part in came]

    plain = _orders([(5, "2026-01-10", "2026-01-24"), (2, "2026-03-05", "2026-03-19"), (9, "2026-01-02", "2026-01-16")])
    train, test = split(plain, "on two orders of January and one of March")
    told = "Order 5 was known on 24 January, 9 on 16 January, and 2 was asked on 5 March."
    words = "Training rows are those whose answer was known at the start, here 1 March; their labels come first."
    expect(train == [5, 9], words, case=f"{told} Training was {train}, expected [5, 9].")
    expect(test == [2], "Test rows are those asked in the test period.", case=f"{told} Test was {test}, expected [2].")
    twins = pd.concat([plain, plain.set_axis([15, 12, 19], axis="index")])
    words = "Each order counts, also if another has the same two times."
    train, test = split(twins, "on orders of the same times")
    told = f"Of two of each came {train} and {test}."
    expect((train, test) == ([5, 9, 15, 19], [2, 12]), words, case=told)
    train, test = split(_orders([(1, "2026-03-31", "2026-05-20")]), "on an answer that came after the end")
    words = "A test row has to be asked before the end. Its answer may come later: it only must not be missing."
    expect(test == [1], words, case=f"Of an order asked on 31 March and known on 20 May came {test}.")
    named = plain.set_axis(["c", "a", "b"], axis="index")
    words = "Give labels of the index, and not places."
    train, test = split(named, "on orders with texts as index labels")
    expect((train, test) == (["b", "c"], ["a"]), words, case=f"Of three orders c, a, b came {train} and {test}.")
    late = pd.concat([plain, _orders([(7, "2026-02-25", "2026-03-11")])])
    train, test = split(late, "on an order asked in February and known in March")
    expect(7 not in train, "An answer that came in the test period was trained on: at the start nobody knew it.")
    expect(7 not in test, "A row asked before the start is in the test period.")
    later = pd.concat([plain, _orders([(n, "2026-04-20", "2026-05-04") for n in range(20, 40)])])
    train, test = split(later, "when orders of April have come")
    expect(test == [2], "New rows have moved the test period: it is frozen, whatever comes after its end.")
    expect(train == [5, 9], "New rows have moved the training rows: what was known at the start has not changed.")
    open_ones = pd.concat([plain, _orders([(3, "2026-03-06", None), (4, "2026-01-06", None)])])
    train, test = split(open_ones, "when two answers never came")
    expect(3 not in test and 4 not in train, "A row whose answer never came can neither be learned from nor judged.")
    early = [(1, "2026-02-15", "2026-03-01"), (2, "2026-03-01", "2026-03-15")]
    late = [(3, "2026-04-01", "2026-04-15"), (4, "2026-03-31", "2026-04-14")]
    train, test = split(_orders([*early, *late]), "on rows at the ends of the period")
    expect(train == [1], "What is known at the very start is known by then.", case=f"Training was {train}.")
    expect(test == [2, 4], "The start belongs to the period and its end to the next one.", case=f"Test was {test}.")
    noon = [
        (1, "2026-02-15 10:00", "2026-03-01 00:01"),
        (2, "2026-02-28 23:59", "2026-03-02"),
        (3, "2026-03-31 23:59", "2026-04-14"),
    ]
    train, test = split(_orders(noon), "on rows near the ends of the period")
    words = "Compare instants, and not days: an answer that came a minute after the start was not known at the start."
    expect(train == [], words, case=f"Training was {train}.")
    expect(test == [3], "Compare instants, and not days: the last minute belongs to it.", case=f"Test was {test}.")
    year = pd.Timedelta("365D")
    former = _orders(
        [(1, "2025-03-05", "2025-03-19"), (2, "2025-03-25", "2025-04-08"), (3, "2026-03-05", "2026-03-19")]
    )
    test = split(former, "with another period", START - year, END - year - pd.Timedelta("10D"))[1]
    words = "The period is the one that is handed in, here 1 to 22 March 2025."
    expect(test == [1], words, case=f"Test was {test}.")
    expect(split(plain.head(0), "on a table without rows") == [[], []], "Without rows both lists are empty.")
    _split_many(split)


def _split_many(split: Callable) -> None:
    """300 orders in any order, of which a tenth never got an answer."""
    rng = np.random.default_rng(3)
    asked = START + pd.to_timedelta(rng.integers(-60 * 24, 60 * 24, 300), unit="h")
    known = asked + pd.to_timedelta(rng.integers(1, 30 * 24, 300), unit="h")
    many = pd.DataFrame({"asked": asked, "known": known}, index=rng.permutation(300))
    many["known"] = many["known"].mask(rng.random(300) < 0.1)
    lines = list(many.itertuples())
    train, test = split(many, "on 300 orders")
    right = sorted(row.Index for row in lines if row.known is not pd.NaT and row.known <= START)
    expect(train == right, "Of 300 orders, some training rows differ from those known at the start.")
    right = sorted(row.Index for row in lines if row.known is not pd.NaT and START <= row.asked < END)
    expect(test == right, "Of 300 orders, some test rows differ from those asked in the period.")


def _returns() -> pd.DataFrame:
    """400 generated orders; each column besides `returned` is named after what is in it."""
    rng = np.random.default_rng(7)
    returned = (rng.random(400) < 0.3).astype(float)
    noise = rng.normal(size=400)
    rows = pd.DataFrame({"returned": returned, "noise": noise, "useful": returned + 1.2 * noise})
    rows["refund"] = 3 * returned + 0.3 * noise
    rows["kept_days"] = -rows["refund"]
    rows["skewed"] = np.exp(8 * rows["refund"])  # the order of refund, and a correlation that is small
    rows["refund_date"] = rng.normal(size=400)
    rows.loc[returned == 0, "refund_date"] = np.nan  # what is there says nothing, that it is there says all
    rows["partly"] = rows["refund"].mask(rng.random(400) < 0.5)
    rows["scanned"] = rng.normal(size=400)
    rows.loc[rng.random(400) < 0.3, "scanned"] = np.nan
    rows["constant"] = 1.0
    return rows


@check(
    "Rank the rows by one column alone: `roc_auc_score` of scikit-learn says how well that tells the target.",
    "A column that ranks upside down knows as much: an AUC of 0.05 is one of 0.95 the other way round.",
    "Ask twice for each column: once of its present values, once of `isna()` over all rows with a label.",
)
def know_too_much(answer):
    """A column that gives the answer away is named, in either direction and by its gaps as well."""
    rows = _returns()
    honest = ["noise", "useful", "scanned", "constant"]

    def ask(inputs, right, words, table=rows, bar=0.9):
        told = f"Of {', '.join(inputs) or 'no inputs'}, with the bar {bar:g},"
        fails, give = f"{words} {told} it fails.", "a list of names of columns"
        came = result(answer, table, list(inputs), "returned", bar, case="", hint=fails, kind=list, give=give)
        expect(came == right, words, case=f"{told} came {came}, expected {right}.")

    def unlabelled(table=rows, **values):
        return pd.concat([table, table.assign(returned=np.nan, **values)], ignore_index=True)

    ask(["noise", "refund"], ["refund"], "A refund ranks nearly all rows, noise ranks none: name the one.")
    ask(honest, [], "An honest column was accused.")
    ask(["kept_days"], ["kept_days"], "A column that ranks upside down passed: small can mean returned.")
    words = "A skewed column passed: ask how it ranks the rows, not how straight the line is."
    ask(["skewed"], ["skewed"], words)
    small = rows.assign(refund=(rows["refund"] - rows["refund"].min()) / 100)
    ask(["noise", "refund"], ["refund"], "Rank by the values as they are, also between 0 and 1.", small)
    present = rows["returned"] == 0
    mark, kept = (
        pd.Series(1.0, rows.index),
        "A column that is missing for all that returned passed: a gap ranks both ways.",
    )
    words = (
        "A column that is filled only after the return passed: that a value is missing ranks, too, in either direction."
    )
    ask(["mark"], ["mark"], words, rows.assign(mark=mark.where(~present)))
    ask(["mark"], ["mark"], kept, rows.assign(mark=mark.where(present)))
    ask(["refund_date"], ["refund_date"], words)
    ask(["partly"], ["partly"], "A leak with gaps passed: rank by the values that are there, without making up others.")
    words = "Rows without a label have no answer to give away: leave them out, and take no missing label for 0 or 1."
    for value in (100.0, -100.0):
        ask(["noise", "refund"], ["refund"], words, unlabelled(refund=value, noise=-value))
    words = "Leave rows without a label out of the gaps, too."
    for values in ({"noise": np.nan}, {"refund_date": 1.0}):
        ask(["noise", "refund_date"], ["refund_date"], words, unlabelled(**values))
    few = pd.DataFrame({"returned": [0.0, 0.0, 1.0, 0.0], "rank": [1.0, 2.0, 3.0, 4.0]})
    ask(["rank"], [], "It ranks two of three pairs, an AUC of 0.66667: that is below this bar.", few, 0.667)
    ask(["rank"], ["rank"], "It ranks two of three pairs, an AUC of 0.66667: that is above this bar.", few, 0.666)
    ask(["useful"], ["useful"], "The bar is an argument: a lower one names more columns.", bar=0.6)
    ask(["refund"], [], "The bar is an argument: above 1 nothing is named.", bar=1.01)
    everything = ["scanned", "refund_date", "useful", "kept_days", "partly"]
    for order in (everything, everything[::-1]):
        ask(order, [name for name in order if name not in honest], "Name the columns in the order of the inputs.")
    empty = rows.assign(lost=np.nan, late=pd.Series(1.0, rows.index).where(present & (rows.index < 3)))
    words = "A column of which all values are missing, or hardly any is there, tells nothing."
    for table in (empty, unlabelled(empty, lost=1.0)):
        ask(["lost", "late", "refund"], ["refund"], words, table)
    again = rows.sample(frac=1, random_state=1).set_axis(np.arange(400) % 7, axis="index")
    words = "Another index, with labels that repeat, and another order of rows change nothing."
    ask(["noise", "refund", "refund_date"], ["refund", "refund_date"], words, again)
    whole = rows.astype({"returned": int}).assign(refund=(rows["refund"] * 1000).round().astype(int))
    ask(["noise", "refund"], ["refund"], "Whole numbers rank as well as others.", whole)
    ask([], [], "Without inputs there is nothing to name.")
    exact = pd.DataFrame({"returned": [0.0, 0.0, 1.0, 1.0], "rank": [1.0, 3.0, 2.0, 4.0]})
    ask(["rank"], ["rank"], "At the very bar a column is named: compare with >=.", exact, 0.75)


INPUTS = ["humid", "precip", "visib", "pressure"]
KEY, HOUR = ["airport", "asked"], pd.Timedelta("1h")


def _readings(days: int = 6) -> pd.DataFrame:
    """Readings of two airports, each value once, sorted by time; one in five hours is wet, none is lacking."""
    rng = np.random.default_rng(11)
    times = pd.date_range("2026-03-01", periods=24 * days, freq="h", tz="UTC")
    table = pd.MultiIndex.from_product([times, ["JFK", "LGA"]], names=["time", "airport"]).to_frame(index=False)
    values = {name: rng.permutation(len(table)) + 10.0 for name in INPUTS}
    wet = np.where(rng.random(len(table)) < 0.2, values["precip"] / 10_000, 0.0)
    return table.assign(**values | {"precip": wet})


def _honest(readings: pd.DataFrame) -> pd.DataFrame:
    """The rows by the definition, question by question."""
    filed = readings.set_index(["airport", "time"])
    rows = []
    for airport, time in filed.index:
        asked = time + HOUR
        answer = [(airport, asked + number * HOUR) for number in range(1, 7)]
        if asked.hour % 3 == 0 and all(key in filed.index for key in answer):
            rain = float((filed.loc[answer, "precip"] > 0).any())
            rows.append((airport, asked, *filed.loc[(airport, time), INPUTS], rain, asked + 7 * HOUR))
    return pd.DataFrame(rows, columns=[*KEY, *INPUTS, "rain", "known"])


def _at(row: pd.Series) -> str:
    return f"{row['airport']} asked on {row['asked']:%d March at %H:%M}"


@check(
    "When is the reading that is filed under noon known? Not at noon.",
    "Ask of each column of a row: from which readings does it come, and when was the last of them there?",
    "`known` is a time as well: the last of the six readings is there when its own hour is over.",
    "Give the readings a column that says when each was known, and look for the question that is asked at that time.",
)
def honest(answer):
    """Inputs and answers come from readings that were there, and the question has stayed the same."""
    readings = _readings()

    def built(table: pd.DataFrame, case: str) -> pd.DataFrame:
        came = result(answer, table, case=case, hint=f"honest fails on {case}.", kind=pd.DataFrame, give="a table")
        columns = [*KEY, *INPUTS, "rain", "known"]
        expect(set(came.columns) == set(columns), f"Give the columns {', '.join(columns)}, not {list(came.columns)}.")
        expect(not came.duplicated(KEY).any(), "Each question has one row.", case=f"On {case} some have several.")
        return came.sort_values(KEY).reset_index(drop=True)[columns]

    def same_questions(came: pd.DataFrame, right: pd.DataFrame, case: str) -> None:
        extra = came[~came.set_index(KEY).index.isin(right.set_index(KEY).index)]
        lost = right[~right.set_index(KEY).index.isin(came.set_index(KEY).index)]
        words = "A reading that this question needs is lacking, and no other stands for it: leave the question out."
        expect(extra.empty, words, case="" if extra.empty else f"On {case} there is a row of {_at(extra.iloc[0])}.")
        words = "All that this question needs is there: the reading of the hour before, and six from an hour later on."
        expect(lost.empty, words, case="" if lost.empty else f"On {case} the row of {_at(lost.iloc[0])} is missing.")

    case = "six days without a gap"
    came, right = built(readings, case), _honest(readings).sort_values(KEY).reset_index(drop=True)
    strange = came[came["asked"].dt.hour % 3 != 0]
    words = "The ramp would be asked at other hours: 0, 3, 6 and so on are when it decides."
    expect(strange.empty, words, case="" if strange.empty else f"There is a row of {_at(strange.iloc[0])}.")
    middle = came[came["asked"].between(pd.Timestamp("2026-03-02", tz="UTC"), pd.Timestamp("2026-03-05", tz="UTC"))]
    expect(not middle.empty, "There are no rows of 2 to 5 March, although no reading is missing there.")
    for row in middle.iloc[::12].to_dict("records"):
        _inputs_of(row, readings, built)
    alone = built(readings[readings["airport"] == "JFK"], "readings of JFK alone")
    both = middle.merge(alone, on=KEY, suffixes=("", "_alone"))
    other = both[both["rain"] != both["rain_alone"]]
    words = "Each airport has weather of its own: readings of LGA changed an answer of JFK."
    expect(other.empty, words, case="" if other.empty else f"See {_at(other.iloc[0])}.")
    merged = middle.merge(right, on=KEY, suffixes=("", "_right"))
    wrong = merged[merged["rain"] != merged["rain_right"]]
    words = "This is another question: is precip over 0 in any of the six hours that begin an hour after it was asked?"
    expect(wrong.empty, words, case="" if wrong.empty else _rain_of(wrong.iloc[0], readings))
    early = merged[merged["known"] < merged["known_right"]]
    words = "At the time `known` the answer is not complete yet: the hour of its last reading is not over."
    expect(early.empty, words, case="" if early.empty else f"So it is for the row of {_at(early.iloc[0])}.")
    expect((merged["known"] == merged["known_right"]).all(), "The answer is known earlier than `known` says.")
    same_questions(came, right, case)
    alike = readings.assign(humid=50.0, visib=10.0, pressure=1013.0)
    same_questions(built(alike, "readings that look alike"), right, "readings that look alike")
    gaps = readings.drop(readings[readings["airport"] == "JFK"].index[[34, 35, 60, 83]])
    case = "readings of which four are lacking"
    came, right = built(gaps, case), _honest(gaps).sort_values(KEY).reset_index(drop=True)
    same_questions(came, right, case)
    words = "With some hours lacking, the other rows stay as they were."
    expect_same(came.astype({"rain": float}), right, words, case=case)


def _rain_of(row: pd.Series, readings: pd.DataFrame) -> str:
    """What came, what is right, and the six values of precip, in words."""
    later = readings["time"].between(row["asked"] + HOUR, row["asked"] + 6 * HOUR)
    precip = readings.loc[later & (readings["airport"] == row["airport"]), "precip"].tolist()
    return f"{_at(row)}: precip is {precip} from an hour later on, and the answer {row['rain']}."


def _inputs_of(row: dict, readings: pd.DataFrame, built) -> None:
    """The inputs of a row do not change with what was not known, and are those of the newest reading that was."""
    later, here = readings["time"] + HOUR > row["asked"], readings["airport"] == row["airport"]
    altered = readings.assign(**{name: readings[name].where(~later, 1000.0 + readings[name]) for name in INPUTS})
    again = built(altered, "altered readings")
    again = again[(again["airport"] == row["airport"]) & (again["asked"] == row["asked"])]
    which = _at(pd.Series(row))
    words = "An input comes from a reading whose hour was not over when the question was asked."
    expect(len(again) == 1 and all(again[name].item() == row[name] for name in INPUTS), words, case=f"See {which}.")
    newest = readings[here & (readings["time"] + HOUR == row["asked"])].iloc[0]
    used = readings[(readings["humid"] == row["humid"])]
    words = "The inputs are those of another airport."
    expect(used.empty or used["airport"].iloc[0] == row["airport"], words, case=f"See {which}.")
    words = "A newer reading was there: take the newest that was known when the question was asked."
    expect(all(row[name] == newest[name] for name in INPUTS), words, case=f"See {which}.")


PROJECT = {"name": "returns"}
RUBRIC = {  # what each entry of the result is
    "points": "Below points stands each section with the number of its probes that pass.",
    "final": "Final are the points of the weakest section, also if these are 0: one cannot make good another.",
    "failed": "Failed are the names of the probes that failed, in the order of the probes.",
}


def _expect_score(answer, asked, probes, points, failed, words, case, project=PROJECT) -> None:
    """Score the probes, which note in `asked` with what they were called."""
    asked.clear()
    came = attempt(lambda: answer(probes, project), hint=f"{words} rubric_score fails {case}.")
    right = {"points": points, "final": min(points.values()), "failed": failed}
    named = isinstance(came, dict) and set(came) == set(right)
    expect(named, "Give a dictionary with points, final and failed, and nothing else.", case=f"It was {came!r}.")
    kinds = isinstance(came["points"], dict) and isinstance(came["failed"], list)
    expect(kinds, "Below points there is a dictionary, below failed a list.")
    expect(all(seen == project for seen in asked), "Each probe is called with the project.")
    for key in right:
        told = f"{case.capitalize()} {key} was {came[key]}, expected {right[key]}."
        expect(came[key] == right[key], f"{words} {RUBRIC[key]}", case=told)
    number = sum(map(len, probes.values()))
    if asked:
        expect(len(asked) == number, "Ask every probe once.", case=f"{case.capitalize()} {len(asked)} were asked.")


@check(
    "What does a probe that crashed say about the project? Not that it passes.",
    "Call each probe inside `try`, and let `except Exception` mean that it failed.",
    "The final score is that of the weakest section, and a section in which nothing is probed has 0 points.",
)
def rubric_score(answer):
    """Every probe is tried, a crash is a failure, and the weakest section is the score."""
    asked = []

    def probe(outcome: object) -> Callable:
        def ask(project: object) -> object:
            asked.append(project)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return ask

    passes, fails, crashes = probe(True), probe(False), probe(KeyError("no such artefact"))

    ask = functools.partial(_expect_score, answer, asked)
    words = "One of four probes fails here, in the section data."
    plain = {"data": {"rows known": passes, "no leak": fails}, "model": {"beats a rule": passes, "calibrated": passes}}
    ask(plain, {"data": 1, "model": 2}, ["no leak"], words, "on two sections of two probes")
    words = "In a rubric a crash is a failed probe, and the next one is still asked."
    crash = {"data": {"rows known": crashes, "no leak": passes}, "model": {"beats a rule": passes}}
    ask(crash, {"data": 1, "model": 1}, ["rows known"], words, "when a probe crashes")
    for error in (ValueError("no"), ZeroDivisionError(), AssertionError(), AttributeError(), RuntimeError(), OSError()):
        case, words = f"when a probe raises a {type(error).__name__}", "Any `Exception` is a failed probe."
        ask({"data": {"a": probe(error), "b": passes}}, {"data": 1}, ["a"], words, case)
    last = {"model": {"d": fails, "b": crashes}, "data": {"e": fails, "c": passes, "a": fails}}
    words = "Ask every probe, also after one or a whole section has failed."
    ask(last, {"model": 0, "data": 1}, ["d", "b", "e", "a"], words, "on five probes of which one passes,")
    empty = {"monitoring": {}, "data": {"a": passes}}
    words = "A section in which nothing is probed has no point, and it is the weakest one."
    ask(empty, {"monitoring": 0, "data": 1}, [], words, "on a section without probes")
    twice = {"data": {"tested": fails, "owned": passes}, "model": {"tested": crashes, "owned": passes}}
    ask(twice, {"data": 1, "model": 1}, ["tested"] * 2, "A name may be there in two sections.", "on a name in two")
    truths = {"data": {name: probe(came) for name, came in zip("abcd", ("found", 0, [1], ""), strict=True)}}
    words = "Anything true is a pass, and anything false a failure: it need not be True or False."
    ask(truths, {"data": 2}, ["b", "d"], words, "on probes that return 'found', 0, [1] and ''")
    words = "A probe that returns None has shown nothing, so it fails."
    ask({"data": {"a": probe(None), "b": passes}}, {"data": 1}, ["a"], words, "on a probe that returns None")
    project = object()
    same = {"data": {"a": lambda given: given is project}}
    ask(
        same,
        {"data": 1},
        [],
        "Hand on the project itself, whatever it is.",
        "on a project that is no dictionary",
        project,
    )
