"""Checks of model engineering: a baseline, a record, a run that is repeated, and a target in disguise."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_error, expect_fit, expect_unfit, result

__all__ = ["YourTurn", "baseline", "hint", "in_disguise", "lacking", "rerun", "summary"]


@check(
    "Learn one table from the past: for each value, how many known rows and which share of them late?",
    "`groupby(column)['late'].agg(['mean', 'size'])` is that table; `map` looks values up in it.",
    "What `map` does not find is missing: `fillna` with the share of all known rows.",
)
def baseline(answer):
    """What is known gets its share, and everything else the share of all."""
    nan = float("nan")

    def ask(past: list[tuple], gives: list[tuple], words: str, *, least: int = 2, column: str = "hour") -> None:
        table = pd.DataFrame(past, columns=[column, "late"]).astype({"late": float})
        values = [value for value, _ in gives]
        rows = pd.DataFrame({column: pd.Series(values, dtype=table[column].dtype)})
        rows.index = [f"row {7 * n % 11}" for n in range(len(rows))]
        case = f"baseline of the past ({column}, late) {past}, asked for {values}, least={least}"
        expected = pd.Series([share for _, share in gives], index=rows.index, dtype=float)
        expect_same(result(answer, table, rows, column, least, case=case), expected, words, case=case)

    past = [("6", 0), ("6", 0), ("6", 1), ("6", 0), ("20", 1), ("20", 1), ("20", 0), ("9", 0), ("9", 1)]
    ask(past, [("6", 0.25), ("20", 2 / 3), ("6", 0.25)], "A value gets its own share.")
    ask([*past, ("6", nan), ("20", nan)], [("6", 0.25), ("20", 2 / 3)], "What is not known is left out.")
    ask(past, [("3", 4 / 9)], "A value that the past never saw gets the share of all known rows.")
    ask([*past, ("7", 1)], [("7", 0.5)], "A value with fewer than `least` known rows gets the share of all.")
    ask([*past, ("7", 1), ("7", nan)], [("7", 0.5)], "Fewer than `least`: only known rows count.")
    ask(past, [("9", 0.5)], "A value with exactly `least` known rows has a share of its own.")
    ask(past, [(None, 4 / 9), ("6", 0.25)], "A missing value gets the share of all known rows.")
    ask(past, [("20", 2 / 3), ("9", 4 / 9)], "With least=3, nine o'clock has too few.", least=3)
    ask(past, [], "Without a row there is no probability.")
    ask(past, [("20", 2 / 3)], "The column is the one that is handed in.", column="gate")
    gaps = [*past, (None, 1), (None, 1)]
    ask(gaps, [("3", 6 / 11), ("6", 0.25)], "Rows of the past without a value are known rows, too.")
    ask(gaps, [(None, 6 / 11)], "A missing value is no value of its own: it gets the share of all known rows.")


GOOD = {
    "data_version": "7adf1086407c83",
    "code_version": "0123456789abcdef0123456789abcdef01234567",
    "parameters": {"C": 0.1},
    "seed": 0,
    "packages": {"scikit-learn": "1.7.2", "numpy": "2"},
    "metrics": {"roc_auc": 0.713, "rows": 23358},
}
UNFIT: tuple[tuple[str, object, str], ...] = (
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
    more = {**GOOD, "seed": 7, "note": "more", "code_version": "a" * 64}
    long = {**GOOD, "data_version": "c" * 64, "packages": {"pandas": "10.20.30"}, "metrics": {"gain": -1}}
    expect_fit(answer, [GOOD, more, long, {**GOOD, "data_version": "b" * 12}], what="good record")
    expect_unfit(answer, GOOD, UNFIT, needed=set(GOOD), what="record")


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
        expected, case = _run(record, store), f"On a record {record}, rerun"
        came = result(answer, record, store, case=case, kind=pd.Series, give="a series from id to probability")
        lengths = f"{case} gave {len(came)} probabilities, expected {len(expected)}."
        all_rows = "Ask the model about all rows, not only about those that were drawn."
        expect(len(came) == len(expected), all_rows, case=lengths)
        expect(list(came.index) == list(expected.index), "Its index are the ids, in their order.", case=case)
        far = float((came - expected).abs().max())
        expect(far < 1e-9, words, case=f"{case} is up to {far:.2g} away from the run.")

    ordered = {name: rows.sort_values("id", ignore_index=True) for name, rows in store.items()}
    ask({**record, "share": 1.0, "parameters": {}}, "Another model came out.", store=ordered)
    ask({**record, "share": 1.0}, "The parameters of the record were not used.", store=ordered)
    ask(record, "Other rows were drawn than those of the record's seed.", store=ordered)
    ask({**record, "seed": 8}, "Other rows were drawn than those of the record's seed.", store=ordered)
    ask(record, "The table came in another order, and so other rows were drawn.")
    ask({**record, "columns": ["load"]}, "The columns are those of the record.")
    ask({**record, "data_version": "d2"}, "The data are those of the record.")
    ask({**record, "share": 0.8}, "The share is that of the record.")
    before = np.random.get_state()[1].copy()
    answer(record, store)
    words = "It used numpy's global random numbers, or set their seed, so the next cell gives something else."
    expect(np.array_equal(before, np.random.get_state()[1]), words)
    numbered = {name: rows.set_index(rows.index + 500) for name, rows in store.items()}
    ask(record, "Another index made another run.", store=numbered)
    words = "The store has no such version: raise ValueError that names it, as other data are another run."
    expect_error(lambda: answer({**record, "data_version": "d9"}, store), ValueError, words, names="d9")


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

    def ask(what: str, columns: dict, expected: list[tuple], words: str, *, bar: float = 0.95) -> None:
        rows = base.assign(**columns).set_axis(rng.permutation(120), axis="index")
        came = result(answer, rows, bar, case=f"On {what}.", kind=list, give="a list of tuples")
        plain = [tuple(one) if isinstance(one, list | tuple) else one for one in came]
        told = f"On {what} it gave {came}, expected {expected}."
        lacking = [one for one in expected if one not in plain]
        expect(not lacking, words, case=told)
        expect(plain == expected, words if len(plain) > len(expected) else "The list is not in order.", case=told)

    ask("two columns of noise", {}, [], "Noise gives nothing away.")
    words = "A column knows the label, and pairs with what gives it away by itself are no news."
    ask("a column that knows the label", {"taxi": tells}, [("taxi",)], words)
    words = "A low value may tell as much as a high one."
    ask("a column that is low where a flight is late", {"spare": -tells}, [("spare",)], words)
    two = {"due": due, "came": due + 30 * tells}
    words = "Two columns pass, and their difference is the delay."
    ask("a schedule and an arrival", two, [("came", "due")], words)
    words = "A difference may be low where a flight is late: a low value tells as much."
    ask("the same under other names", {"a": due, "b": due + 30 * tells}, [("a", "b")], words)
    words = "Both kinds are to be found, and what gives it away by itself belongs to no pair."
    ask("all of them", {**two, "taxi": tells, "spare": -tells}, [("came", "due"), ("spare",), ("taxi",)], words)
    gaps = np.where(np.arange(120) % 7 == 0, np.nan, tells)
    words = "Rows in which a value is missing cannot be asked, and the others tell."
    ask("a column with gaps", {"taxi": gaps + 5}, [("taxi",)], words)
    noon = {"due": due - 600, "came": due - 600 + 30 * (tells - 0.5)}
    words = "Two columns pass, and their difference, with its sign, is the delay; neither size nor ratio of it tells."
    ask("a schedule and an arrival, in minutes from noon, some of them early", noon, [("came", "due")], words)
    holes = {**noon, "came": np.where(np.arange(120) % 5 == 0, np.nan, noon["came"])}
    words = "Of a pair, only the rows are asked in which both values are there: do not fill them in."
    ask("a schedule and an arrival with gaps", holes, [("came", "due")], words)
    rare = np.where((late == 1) & (np.arange(120) < 20), noise[:, 2], np.nan)
    words = "A column is asked on all rows in which it is there, whatever others lack."
    ask("a column that knows the label, beside one with gaps", {"taxi": tells, "rare": rare}, [("taxi",)], words)
    only = np.where(late == 1, noise[:, 2], np.nan)
    words = "Where a value is missing for all flights in time, its rows have one kind of label: it says nothing."
    ask("a column that late flights only have", {"why": only}, [], words)
    ask("a column of missing values", {"gone": np.nan}, [], "A column of missing values says nothing.")
    some = late + rng.normal(0, 1.2, 120)
    auc = roc_auc_score(late, some)
    words = "A column below the bar gives nothing away."
    ask(f"a column with an AUC of {auc:.2f}", {"some": some}, [], words, bar=auc + 0.01)
    found = result(answer, base.assign(some=some), auc, case="three columns")
    words, case = "At the bar itself a column gives the label away.", f"On an AUC of {auc:.3f} and that bar"
    expect(("some",) in found, words, case=f"{case}, {found} came.")
