"""Checks of the exercises of lesson 05: a baseline, a record, a run that is repeated, and a target in disguise."""

import copy

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, attempt, check, expect, expect_same, hint, raised, summary

__all__ = ["YourTurn", "baseline", "hint", "in_disguise", "lacking", "rerun", "summary"]


@check(
    "Learn one table from the past: for each value, how many known rows and which share of them late?",
    "`groupby(column)['late'].agg(['mean', 'size'])` is that table; `map` looks values up in it.",
    "What `map` does not find is missing: `fillna` with the share of all known rows.",
)
def baseline(answer):
    """What is known gets its share, and everything else the share of all."""
    nan = float("nan")

    def ask(
        past: list[tuple], values: list, expected: list[float], words: str, *, least: int = 2, column: str = "hour"
    ) -> None:
        table = pd.DataFrame(past, columns=[column, "late"]).astype({"late": float})
        rows = pd.DataFrame({column: pd.Series(values, dtype=table[column].dtype)})
        rows.index = [f"row {7 * n % 11}" for n in range(len(rows))]
        case = f"baseline of the past ({column}, late) {past}, asked for {values}, least={least}"
        came = attempt(lambda: answer(table, rows, column, least), hint=f"It fails: {case}.")
        expect_same(came, pd.Series(expected, index=rows.index), words, case=case)

    past = [("6", 0), ("6", 0), ("6", 1), ("6", 0), ("20", 1), ("20", 1), ("20", 0), ("9", 0), ("9", 1)]
    ask(past, ["6", "20", "6"], [0.25, 2 / 3, 0.25], "A value gets its own share.")
    ask([*past, ("6", nan), ("20", nan)], ["6", "20"], [0.25, 2 / 3], "What is not known is left out.")
    ask(past, ["3"], [4 / 9], "A value that the past never saw gets the share of all known rows.")
    ask([*past, ("7", 1)], ["7"], [0.5], "A value with fewer than `least` known rows gets the share of all.")
    ask([*past, ("7", 1), ("7", nan)], ["7"], [0.5], "Fewer than `least`: only known rows count.")
    ask(past, ["9"], [0.5], "A value with exactly `least` known rows has a share of its own.")
    ask(past, [None, "6"], [4 / 9, 0.25], "A missing value gets the share of all known rows.")
    ask(past, ["20", "9"], [2 / 3, 4 / 9], "With least=3, nine o'clock has too few.", least=3)
    ask(past, [], [], "Without a row there is no probability.")
    ask(past, ["20"], [2 / 3], "The column is the one that is handed in.", column="gate")
    gaps = [*past, (None, 1), (None, 1)]
    ask(gaps, ["3", "6"], [6 / 11, 0.25], "Rows of the past without a value are known rows, too.")
    ask(gaps, [None], [6 / 11], "A missing value is no value of its own: it gets the share of all known rows.")


GOOD = {
    "data_version": "7adf1086407c83",
    "code_version": "0123456789abcdef0123456789abcdef01234567",
    "parameters": {"C": 0.1},
    "seed": 0,
    "packages": {"scikit-learn": "1.7.2", "numpy": "2"},
    "metrics": {"roc_auc": 0.713, "rows": 23358},
}
DEFECTS: tuple[tuple[str, object, str], ...] = (
    ("data_version", "latest", "A name that moves says tomorrow something else."),
    ("data_version", "", "An empty text is no version."),
    ("data_version", "7adf108640", "Ten digits are too few for a version."),
    ("data_version", "a" * 65, "65 digits are too many for a version."),
    ("data_version", "orders of March", "This is no hash of a content."),
    ("data_version", 123456789012, "A version is a text."),
    ("data_version", "7adf1086407c83xx", "x is no hexadecimal digit."),
    ("data_version", "7ADF1086407C83", "Hashes are written with small letters; 7A and 7a are two texts."),
    ("code_version", "main", "A branch moves: it says tomorrow something else."),
    ("code_version", "0123456789abcdef", "A short hash is no version of code here."),
    ("code_version", "A" * 40, "Hashes are written with small letters."),
    ("code_version", "a" * 41, "Hashes have 40 or 64 digits."),
    ("code_version", None, "Nothing is no version."),
    ("parameters", {}, "Nothing is on record of what was chosen."),
    ("parameters", "C=0.1", "A text is no dictionary."),
    ("seed", None, "Nothing is no seed."),
    ("seed", -1, "A seed is 0 or more."),
    ("seed", 1.5, "A seed is a whole number."),
    ("seed", True, "True is no seed."),
    ("seed", "0", "A text is no seed."),
    ("packages", {}, "Nobody knows which libraries were used."),
    ("packages", {"scikit-learn": ">=1.5"}, "A range moves: it does not say which libraries were used."),
    ("packages", {"scikit-learn": "1.7.2", "numpy": ""}, "One of them has no version."),
    ("packages", {"scikit-learn": 1.7}, "A version is a text: 1.10 is not 1.1."),
    ("packages", {"scikit-learn": "1.7."}, "This is no version."),
    ("packages", ["scikit-learn"], "A list has no versions."),
    ("metrics", {}, "There is no number to compare with."),
    ("metrics", {"roc_auc": float("nan")}, "NaN is not a finite number."),
    ("metrics", {"roc_auc": 0.7, "loss": float("inf")}, "Infinity is not a finite number."),
    ("metrics", {"roc_auc": "0.71"}, "A text is no number."),
    ("metrics", {"passed": True}, "True is no number."),
    ("metrics", 0.71, "One number without a name is no record."),
)


@check(
    "Ask of each of the six whether somebody who was not there could use it, and collect the others.",
    "`matches('[0-9a-f]{40}', value)` is true for a text of 40 such digits, and false for anything else.",
    "`type(value) is int` leaves out True; `math.isfinite` leaves out NaN and infinity.",
)
def lacking(answer):
    """What moves, what is empty and what nobody wrote down is named, and a good record is let through."""
    fine = [GOOD, {**GOOD, "seed": 7, "note": "more", "code_version": "a" * 64}, {**GOOD, "data_version": "b" * 12}]
    fine.append({**GOOD, "data_version": "c" * 64, "packages": {"pandas": "10.20.30"}, "metrics": {"gain": -1}})
    for record in fine:
        found = attempt(lambda record=record: answer(copy.deepcopy(record)), hint="lacking fails on a good record.")
        expect(isinstance(found, set | frozenset), f"Give a set of names; a {type(found).__name__} came.")
        expect(not found, f"A good record was turned down for {sorted(found)}.", case=f"It was {record}.")
    for name, value, words in DEFECTS:
        case = f"Here {name} is {value!r}."
        record = {**copy.deepcopy(GOOD), name: value}
        found = attempt(lambda record=record: answer(record), hint=f"Nothing may make it crash. {case}")
        expect(name in found, words, case=case)
        expect(found == {name}, f"Only {name} is of no use, and {sorted(found)} came.", case=case)
    for name in GOOD:
        record = {other: value for other, value in copy.deepcopy(GOOD).items() if other != name}
        found = attempt(lambda record=record: answer(record), hint=f"It must not crash on a record without {name}.")
        expect(found == {name}, f"A record without {name} lacks one thing.", case=f"{sorted(found)} came.")
    found = attempt(lambda: answer({}), hint="It must not crash on an empty record.")
    expect(found == set(GOOD), "An empty record lacks all six.", case=f"{sorted(found)} came.")


def _flights(size: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(rng.normal(size=(size, 3)), columns=["wind", "hour", "load"])
    late = rng.random(size) < 1 / (1 + np.exp(1 - rows["wind"] - 0.5 * rows["hour"]))
    return rows.assign(id=[f"f{n:03d}" for n in rng.permutation(size)], late=late.astype(int))


def _run(record: dict, store: dict[str, pd.DataFrame]) -> pd.Series:
    from sklearn.linear_model import LogisticRegression

    rows = store[record["data_version"]].sort_values("id")
    drawn = rows.sample(frac=record["share"], random_state=record["seed"])
    model = LogisticRegression(**record["parameters"]).fit(drawn[record["columns"]], drawn["late"])
    return pd.Series(model.predict_proba(rows[record["columns"]])[:, 1], index=rows["id"].to_numpy())


@check(
    "Go through what the run did, step by step, and take each number from the record.",
    "A seed picks places. What has to be done to the rows before they are drawn?",
    "`sort_values('id')`, `sample(frac=..., random_state=...)`, fit on what was drawn, ask about all rows.",
)
def rerun(answer):
    """The record alone decides: the same run comes out, in whatever order the table comes."""
    store = {"d1": _flights(90, seed=1), "d2": _flights(70, seed=2)}
    record = {"data_version": "d1", "columns": ["wind", "hour"], "share": 0.5, "seed": 3, "parameters": {"C": 0.3}}

    def ask(record: dict, words: str, *, store: dict[str, pd.DataFrame] = store) -> None:
        expected = _run(record, store)
        case = f"On a record {record}, rerun"
        came = attempt(lambda: answer(copy.deepcopy(record), store), hint=f"It fails. {case}.")
        expect(isinstance(came, pd.Series), f"Give a series from id to probability; a {type(came).__name__} came.")
        missing = f"{case} gave {len(came)} probabilities, expected {len(expected)}."
        expect(
            len(came) == len(expected),
            "Ask the model about all rows, not only about those that were drawn.",
            case=missing,
        )
        expect(list(came.index) == list(expected.index), "Its index are the ids, in their order.", case=case)
        far = float((came - expected).abs().max())
        expect(far < 1e-9, words, case=f"{case} is up to {far:.2g} away from the run.")

    ordered = {name: rows.sort_values("id", ignore_index=True) for name, rows in store.items()}
    whole = {**record, "share": 1.0, "parameters": {}}
    ask(whole, "Another model came out.", store=ordered)
    ask({**record, "share": 1.0}, "The parameters of the record were not used.", store=ordered)
    ask(record, "Other rows were drawn than those of the record's seed.", store=ordered)
    ask({**record, "seed": 8}, "Other rows were drawn than those of the record's seed.", store=ordered)
    ask(record, "The table came in another order, and so other rows were drawn.")
    ask({**record, "columns": ["load"]}, "The columns are those of the record.")
    ask({**record, "data_version": "d2"}, "The data are those of the record.")
    ask({**record, "share": 0.8}, "The share is that of the record.")
    before = np.random.get_state()[1].copy()
    answer(copy.deepcopy(record), store)
    same = np.array_equal(before, np.random.get_state()[1])
    expect(
        same, "It drew from numpy's global random numbers, or set their seed, so what runs next gives something else."
    )
    store_of_numbers = {name: rows.set_index(rows.index + 500) for name, rows in store.items()}
    ask(record, "Another index made another run.", store=store_of_numbers)
    came = raised(lambda: answer({**record, "data_version": "d9"}, store))
    words = "The store has no such version: raise ValueError that names it, as other data are another run."
    expect(isinstance(came, ValueError) and "d9" in str(came), words, case=f"It raised {came!r}." if came else "")


@check(
    "Write one function that says of any values whether they give the label away; ask it of columns, then of pairs.",
    "An AUC of 0.02 tells as much as one of 0.98. Which rows can be asked, if values are missing?",
    "Pairs are made of the columns that do not give it away by themselves, each pair once.",
)
def in_disguise(answer):
    """A column or a difference of two that knows the label is found, high or low, and noise is not."""
    rng = np.random.default_rng(5)
    late = np.tile([0, 1, 0, 0, 1, 0], 20)
    due = rng.normal(600, 200, 120).round()
    noise = rng.normal(size=(120, 3))
    base = pd.DataFrame({"late": late, "wind": noise[:, 0], "load": noise[:, 1]})
    tells = late + rng.uniform(-0.4, 0.4, 120)

    def ask(columns: dict[str, object], expected: list[tuple], words: str, *, bar: float = 0.95, what: str) -> None:
        rows = base.assign(**columns).set_axis(rng.permutation(120), axis="index")
        came = attempt(lambda: answer(rows, bar), hint=f"in_disguise fails on {what}.")
        expect(isinstance(came, list), f"Give a list of tuples; a {type(came).__name__} came.", case=f"On {what}.")
        plain = [tuple(one) if isinstance(one, list | tuple) else one for one in came]
        told = f"On {what} it gave {came}, expected {expected}."
        lacking = [one for one in expected if one not in plain]
        expect(not lacking, words, case=told)
        expect(plain == expected, words if len(plain) > len(expected) else "The list is not in order.", case=told)

    ask({}, [], "Noise gives nothing away.", what="two columns of noise")
    ask(
        {"taxi": tells},
        [("taxi",)],
        "A column knows the label, and pairs with what gives it away by itself are no news.",
        what="a column that knows the label",
    )
    ask(
        {"spare": -tells},
        [("spare",)],
        "A low value may tell as much as a high one.",
        what="a column that is low where a flight is late",
    )
    two = {"due": due, "came": due + 30 * tells}
    ask(
        two, [("came", "due")], "Two columns pass, and their difference is the delay.", what="a schedule and an arrival"
    )
    back = {"a": due, "b": due + 30 * tells}
    ask(
        back,
        [("a", "b")],
        "A difference may be low where a flight is late: a low value tells as much.",
        what="the same under other names",
    )
    every = {**two, "taxi": tells, "spare": -tells}
    ask(
        every,
        [("came", "due"), ("spare",), ("taxi",)],
        "Both kinds are to be found, and what gives it away by itself belongs to no pair.",
        what="all of them",
    )
    gaps = np.where(np.arange(120) % 7 == 0, np.nan, tells)
    ask(
        {"taxi": gaps + 5},
        [("taxi",)],
        "Rows in which a value is missing cannot be asked, and the others tell.",
        what="a column with gaps",
    )
    noon = {"due": due - 600, "came": due - 600 + 30 * (tells - 0.5)}
    words = "Two columns pass, and their difference, with its sign, is the delay; neither size nor ratio of it tells."
    ask(noon, [("came", "due")], words, what="a schedule and an arrival, in minutes from noon, some of them early")
    holes = {**noon, "came": np.where(np.arange(120) % 5 == 0, np.nan, noon["came"])}
    words = "Of a pair, only the rows are asked in which both values are there: do not fill them in."
    ask(holes, [("came", "due")], words, what="a schedule and an arrival with gaps")
    rare = np.where((late == 1) & (np.arange(120) < 20), noise[:, 2], np.nan)
    words = "A column is asked on all rows in which it is there, whatever others lack."
    ask({"taxi": tells, "rare": rare}, [("taxi",)], words, what="a column that knows the label, beside one with gaps")
    only = np.where(late == 1, noise[:, 2], np.nan)
    ask(
        {"why": only},
        [],
        "Where a value is missing for all flights in time, its rows have one kind of label: it says nothing.",
        what="a column that late flights only have",
    )
    ask({"gone": np.nan}, [], "A column of missing values says nothing.", what="a column of missing values")
    some = late + rng.normal(0, 1.2, 120)
    from sklearn.metrics import roc_auc_score

    auc = roc_auc_score(late, some)
    ask(
        {"some": some},
        [],
        "A column below the bar gives nothing away.",
        bar=auc + 0.01,
        what=f"a column with an AUC of {auc:.2f}",
    )
    found = attempt(lambda: answer(base.assign(some=some), auc), hint="in_disguise fails on three columns.")
    expect(
        ("some",) in found,
        "At the bar itself a column gives the label away.",
        case=f"On an AUC of {auc:.3f} and that bar, {found} came.",
    )
