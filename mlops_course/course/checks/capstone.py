"""Checks of the exercises of lesson 15: a frozen test period, a probe for leaks, and a rubric that is computed."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import attempt, result

__all__ = ["YourTurn", "frozen_split", "hint", "know_too_much", "rubric_score", "summary"]

START, END = pd.Timestamp("2026-03-01", tz="UTC"), pd.Timestamp("2026-04-01", tz="UTC")


def _orders(lines: list[tuple]) -> pd.DataFrame:
    """Lines of label, asked, known (None for a label that never came)."""
    labels, asked, known = zip(*lines, strict=True)
    times = {name: pd.to_datetime(list(values), utc=True) for name, values in (("asked", asked), ("known", known))}
    return pd.DataFrame(times, index=list(labels))


@check(
    "Two questions for each row: when was it asked, and when was its answer known?",
    "For training, the time that the answer was known has to be compared, not the time of asking.",
    "The test period has two ends: `(start <= asked) & (asked < end)`, and only rows whose answer is known.",
)
def frozen_split(answer):
    """Training knows only what was known at the start, and the test period stays what it was."""

    def split(rows, case):
        came = attempt(lambda: answer(rows, START, END), hint=f"frozen_split fails {case}.")
        expect(isinstance(came, tuple) and len(came) == 2, "Give two lists: labels of training rows, of test rows.")
        return [sorted(part) for part in came]

    plain = _orders([(5, "2026-01-10", "2026-01-24"), (2, "2026-03-05", "2026-03-19"), (9, "2026-01-02", "2026-01-16")])
    train, test = split(plain, "on two orders of January and one of March")
    words = "Training rows are those whose answer was known at the start."
    expect(train == [5, 9], words, case=f"Training was {train}.")
    expect(test == [2], "Test rows are those asked in the test period.", case=f"Test was {test}.")
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

    def named(inputs, table=rows, bar=0.9):
        fails, give = f"know_too_much fails on the inputs {', '.join(inputs)}.", "a list of names of columns"
        return result(answer, table, list(inputs), "returned", bar, case="", hint=fails, kind=list, give=give)

    expect(named(["noise", "refund"]) == ["refund"], "A refund ranks nearly all rows, noise ranks none: name the one.")
    expect(named(honest) == [], "An honest column was accused.", case=f"Of {honest} it named {named(honest)}.")
    expect(named(["kept_days"]) == ["kept_days"], "A column that ranks upside down passed: small can mean returned.")
    words = "A skewed column passed: ask how it ranks the rows, not how straight the line is."
    expect(named(["skewed"]) == ["skewed"], words)
    words = "A column that is filled only after the return passed: that a value is missing can be the answer."
    expect(named(["refund_date"]) == ["refund_date"], words)
    words = "A leak with gaps passed: rank by the values that are there, without making up the others."
    expect(named(["partly"]) == ["partly"], words)
    unknown = pd.concat([rows, rows.assign(returned=np.nan)], ignore_index=True)
    came = named(["noise", "refund"], unknown)
    words = "Rows without a label have no answer to give away: leave them out."
    expect(came == ["refund"], words, case=f"Came {came}.")
    gone = pd.concat([rows, rows.assign(returned=np.nan, noise=np.nan)], ignore_index=True)
    expect(named(["noise", "refund_date"], gone) == ["refund_date"], "Leave rows without a label out of the gaps, too.")
    expect(named(["useful"], bar=0.6) == ["useful"], "The bar is an argument: a lower one names more columns.")
    expect(named(["refund"], bar=1.01) == [], "The bar is an argument: above 1 nothing is named.")
    exact = pd.DataFrame({"returned": [0.0, 0.0, 1.0, 1.0], "rank": [1.0, 3.0, 2.0, 4.0]})
    expect(named(["rank"], exact, 0.75) == ["rank"], "At the very bar a column is named: compare with >=.")
    everything = ["scanned", "refund_date", "useful", "kept_days"]
    expect(named(everything) == ["refund_date", "kept_days"], "Name the columns in the order of the inputs.")


@check(
    "What does a probe that crashed say about the project? Not that it passes.",
    "Call each probe inside `try`, and let `except Exception` mean that it failed.",
    "The final score is that of the weakest section, and a section in which nothing is probed has 0 points.",
)
def rubric_score(answer):
    """Every probe is tried, a crash is a failure, and the weakest section is the score."""
    asked = []

    def probe(passes: bool | None) -> Callable:
        def ask(project: dict) -> bool:
            asked.append(project)
            if passes is None:
                raise KeyError("no such artefact")
            return passes

        return ask

    passes, fails, crashes = probe(True), probe(False), probe(None)
    project = {"name": "returns"}

    def told(came, right, words, *, case):
        named = isinstance(came, dict) and set(came) == set(right)
        expect(named, "Give a dictionary with points, final and failed, and nothing else.")
        kinds = isinstance(came["points"], dict) and isinstance(came["failed"], list)
        expect(kinds, "Below points there is a dictionary, below failed a list.")
        expect(came == right, words, case=f"{case} gave {came}, expected {right}.")

    def score(probes, case):
        return attempt(lambda: answer(probes, project), hint=f"rubric_score fails {case}.")

    plain = {"data": {"rows known": passes, "no leak": fails}, "model": {"beats a rule": passes, "calibrated": passes}}
    came = score(plain, "on two sections of two probes")
    expect(isinstance(came, dict), f"Give a dictionary; a {type(came).__name__} came.")
    expect(all(seen == project for seen in asked), "Each probe is called with the project.")
    expect(came.get("final") != 1.5 and came.get("final") != 3, "Points of one section cannot make good another.")
    right = {"points": {"data": 1, "model": 2}, "final": 1, "failed": ["no leak"]}
    words = "One of four probes fails here, in the section data."
    told(came, right, words, case="With no leak failing it")
    crash = {"data": {"rows known": crashes, "no leak": passes}, "model": {"beats a rule": passes}}
    came = score(crash, "when a probe crashes: a crash is a failed probe, and the next one is still asked")
    right = {"points": {"data": 1, "model": 1}, "final": 1, "failed": ["rows known"]}
    told(came, right, "A crash is a failed probe, and the next one is still asked.", case="With a crash it")
    asked.clear()
    last = {"data": {"a": fails, "b": crashes, "c": passes}, "model": {"d": fails, "e": fails}}
    came = score(last, "on five probes of which one passes")
    expect(len(asked) == 5, "Ask every probe once, also after one has failed.", case=f"Of 5 probes {len(asked)} were.")
    right = {"points": {"data": 1, "model": 0}, "final": 0, "failed": ["a", "b", "d", "e"]}
    told(came, right, "Names of failed probes come in the order of the probes.", case="With four failing it")
    empty = {"data": {"a": passes}, "monitoring": {}}
    right = {"points": {"data": 1, "monitoring": 0}, "final": 0, "failed": []}
    words = "A section in which nothing is probed has no point, and it is the weakest one."
    told(score(empty, "on a section without probes"), right, words, case="With monitoring empty it")
    silent = {"data": {"a": lambda project: None, "b": passes}}
    right = {"points": {"data": 1}, "final": 1, "failed": ["a"]}
    words = "A probe that returns None has shown nothing, so it fails."
    told(score(silent, "on a probe that returns nothing"), right, words, case="With a returning None it")
