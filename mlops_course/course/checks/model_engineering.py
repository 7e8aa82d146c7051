"""Checks of model engineering: a baseline, a record, a run that is repeated, and a target in disguise."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_error, expect_fit, expect_unfit, result

__all__ = ["YourTurn", "baseline", "hint", "in_disguise", "lacking", "rerun", "summary"]


@check(
    "Make one table from the past: for each value, how many known rows, and which share of them is late?",
    "`groupby(column)['late'].agg(['mean', 'size'])` is that table; `map` looks values up in it.",
    "Where `map` finds nothing, it gives a missing value: `fillna` with the share of all known rows.",
)
def baseline(answer):
    """A value with enough known rows gets its own share, and everything else the share of all."""
    nan = float("nan")
    past = [("6", 0), ("6", 0), ("6", 1), ("6", 0), ("20", 1), ("20", 1), ("20", 0), ("9", 0), ("9", 1)]

    def ask(past: list[tuple], gives: list[tuple], words: str, *, least: int = 2, **more: object) -> None:
        column = more.get("column", "hour")
        table = pd.DataFrame(past, columns=[column, "late"], index=[n // 2 for n in range(len(past))])
        table["late"] = table["late"].astype(float)
        values = [value for value, _ in gives]
        rows = pd.DataFrame({column: pd.Series(values, dtype=more.get("dtype", table[column].dtype))})
        rows.index = more.get("index", [f"row {7 * n % 11}" for n in range(len(rows))])
        if "labels" in more:
            rows["late"] = more["labels"]
        case = f"baseline of the past ({column}, late) {past} for the rows {values} with least={least}"
        expected = pd.Series([share for _, share in gives], index=rows.index, dtype=float)
        expect_same(result(answer, table, rows, column, least, case=case), expected, words, case=case)

    ask(past, [("6", 0.25), ("20", 2 / 3), ("6", 0.25)], "A value gets the share of late rows among its own rows.")
    words = "A row of the past whose label is not known counts neither as late nor as on time."
    ask([*past, ("6", nan), ("20", nan)], [("6", 0.25), ("20", 2 / 3)], words)
    ask(past, [("3", 4 / 9)], "A value that the past never saw gets the share of all known rows.")
    ask([*past, ("7", 1)], [("7", 0.5)], "A value with fewer than `least` known rows gets the share of all.")
    ask([*past, ("7", 1), ("7", nan)], [("7", 0.5)], "Fewer than `least`: only known rows count.")
    ask(past, [("9", 0.5)], "A value with exactly `least` known rows gets its own share.")
    ask([*past, ("7", 1)], [("7", 1.0)], "With least=1, one known row is enough.", least=1)
    words = "With least=1, a value without a known row still gets the share of all."
    ask([*past, ("7", nan)], [("7", 4 / 9)], words, least=1)
    ask(past, [(None, 4 / 9), ("6", 0.25)], "A missing value gets the share of all known rows.")
    ask(past, [("20", 2 / 3), ("9", 4 / 9)], "With least=3, the hour 9 has too few rows.", least=3)
    ask(past, [], "For an empty table of rows, return an empty series.")
    ask(past, [("20", 2 / 3)], "The column is the one that is passed.", column="gate")
    gaps = [*past, (None, 1), (None, 1)]
    ask(gaps, [("3", 6 / 11), ("6", 0.25)], "Rows of the past without a value are known rows as well.")
    ask(gaps, [(None, 6 / 11)], "A missing value is no value of its own: it gets the share of all known rows.")
    numbers = [(6.5, 0), (6.5, 1), (nan, 1), (nan, 1), (20.0, 1)]
    ask(numbers, [(nan, 0.8), (6.5, 0.5)], "A missing number gets the share of all known rows, too.", column="load")
    whole = [(0, 1), (0, 1), (6, 0), (6, 1)]
    words = "A missing value makes whole numbers decimals: 6 and 6.0 are one value."
    ask(whole, [(6, 0.5), (nan, 0.75)], words, dtype=float)
    ask(whole, [(0, 1.0), (6, 0.5)], "0 is a value like any other.")
    ask([("", 1), ("", 1), ("a", 0)], [("", 1.0)], "An empty text is a value like any other.")
    texts = [("a", 0), ("a", 0), ("A", 1), ("A", 0), ("a ", 1), ("a ", 1)]
    ask(texts, [("A", 0.5), ("a", 0.0), ("a ", 1.0)], "Texts are taken as they are: A, a and 'a ' are three values.")
    ask([("6", 1)], [("6", 1.0), ("7", 1.0)], "One row of the past is all that there is.")
    same = {"index": [5, 5, 5]}
    ask(
        past,
        [("6", 0.25), ("20", 2 / 3), ("3", 4 / 9)],
        "The index of the rows repeats, and each keeps its own.",
        **same,
    )
    words = "The rows have labels of their own here. They are not known yet, so nothing may come from them."
    ask(past, [("6", 0.25), ("6", 0.25), ("3", 4 / 9)], words, labels=[1.0, 1.0, 0.0])


GOOD = {
    "data_version": "7adf1086407c83",
    "code_version": "0123456789abcdef0123456789abcdef01234567",
    "parameters": {"C": 0.1},
    "seed": 0,
    "packages": {"scikit-learn": "1.7.2", "numpy": "2"},
    "metrics": {"roc_auc": 0.713, "rows": 23358},
}
UNFIT: tuple[tuple[str, object, str], ...] = (
    ("data_version", "latest", "A name that moves means other rows tomorrow."),
    ("data_version", "", "An empty text is no version."),
    ("data_version", "7adf108640", "Ten digits are too few for a version."),
    ("data_version", "a" * 65, "65 digits are too many for a version."),
    ("data_version", "orders of March", "This is no hash of a content."),
    ("data_version", 123456789012, "A version is a text."),
    ("data_version", "7adf1086407c83xx", "x is no hexadecimal digit."),
    ("data_version", "v7adf1086407c83", "v is no hexadecimal digit."),
    ("data_version", "0x7adf1086407c83", "x is no hexadecimal digit."),
    ("data_version", "7ADF1086407C83", "Only small letters a to f are allowed."),
    ("data_version", "7adf1086407c83\n", "A line end is no hexadecimal digit: look at the text as a whole."),
    ("code_version", "main", "A branch moves: it means other code tomorrow."),
    ("code_version", "0123456789abcdef", "The code needs all 40 or 64 digits."),
    ("code_version", "A" * 40, "Only small letters a to f are allowed."),
    ("code_version", "a" * 41, "The code needs 40 or 64 digits, and nothing between."),
    ("code_version", "a" * 50, "The code needs 40 or 64 digits, and nothing between."),
    ("code_version", "a" * 40 + "\n", "A line end is no hexadecimal digit: look at the text as a whole."),
    ("code_version", None, "None is no version."),
    ("parameters", {}, "An empty dictionary does not say what was chosen."),
    ("parameters", "C=0.1", "A text is no dictionary."),
    ("parameters", ["C"], "A list is no dictionary."),
    ("seed", None, "None is no seed."),
    ("seed", -1, "A seed is 0 or more."),
    ("seed", 1.0, "A seed is an `int`."),
    ("seed", True, "True is no seed."),
    ("seed", "0", "A text is no seed."),
    ("seed", np.array([1, 2]), "An array is no seed."),
    ("packages", {}, "Nobody knows which libraries were used."),
    ("packages", {"scikit-learn": ">=1.5"}, "A range moves: it does not say which libraries were used."),
    ("packages", {"scikit-learn": "1.7.2", "numpy": ""}, "One of the packages has no version."),
    ("packages", {"scikit-learn": "1.7.2", "numpy": None}, "One of the packages has no version."),
    ("packages", {"scikit-learn": 1.7}, "A version is a text: 1.10 is not 1.1."),
    ("packages", {"scikit-learn": "1.7."}, "A number has to follow each point."),
    ("packages", {"scikit-learn": "1-7"}, "Only a point may stand between numbers; in a pattern, `[.]` is one."),
    ("packages", {"scikit-learn": "1..7"}, "Two points in a row are no version."),
    ("packages", {"scikit-learn": " 1.7"}, "A blank is no digit: look at the text as a whole."),
    ("packages", {"scikit-learn": "1.7\n"}, "A line end is no digit: look at the text as a whole."),
    ("packages", {"scikit-learn": "１.７"}, "Only the digits 0 to 9 are allowed; these are wide ones."),
    ("packages", ["scikit-learn"], "A list has no versions."),
    ("metrics", {}, "There is no number to compare with."),
    ("metrics", {"roc_auc": float("nan")}, "NaN is not a finite number."),
    ("metrics", {"roc_auc": 0.7, "loss": float("inf")}, "Infinity is not a finite number."),
    ("metrics", {"roc_auc": 0.7, "loss": -float("inf")}, "Minus infinity is not a finite number."),
    ("metrics", {"roc_auc": "0.71"}, "A text is no number."),
    ("metrics", {"roc_auc": None}, "None is no number."),
    ("metrics", {"roc_auc": [0.71]}, "A list is no number."),
    ("metrics", {"passed": True}, "True is no metric."),
    ("metrics", 0.71, "A number without a name is no dictionary."),
)


@check(
    "For each of the six names ask: could somebody use this who was not there? Collect the names of the others.",
    "`matches('[0-9a-f]{40}', value)` is true for a text of 40 such digits, and false for anything else.",
    "`type(value) is int` is false for True; `abs(value) < math.inf` is false for NaN and infinity.",
)
def lacking(answer):
    """What moves, what is empty and what is missing is named, and a good record is let through."""
    more = {**GOOD, "seed": 7, "note": "more", "code_version": "a" * 64, "metrics": {"loss": 0, "gain": -1.5}}
    long = {**GOOD, "data_version": "c" * 64, "packages": {"pandas": "10.20.30"}, "seed": 2**70}
    expect_fit(answer, [GOOD, more, long, {**GOOD, "data_version": "b" * 12}], what="good record")
    expect_unfit(answer, GOOD, UNFIT, needed=set(GOOD), what="record")
    huge = {**GOOD, "metrics": {"rows": 10**400}}
    result(
        answer, huge, case="", hint="It must not crash on an `int` of 400 digits.", kind=set | frozenset, give="a set"
    )


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


def _probabilities(came: pd.Series, expected: pd.Series, *, case: str) -> None:
    """Go on if a series holds probabilities of being late, of all rows and by id."""
    lengths = f"{case} gave {len(came)} probabilities, expected {len(expected)}."
    expect(len(came) >= len(expected), "Predict all rows, not only a part of them.", case=lengths)
    expect(len(came) <= len(expected), "There are more probabilities than rows in the table.", case=lengths)
    same = set(came.index) == set(expected.index)
    expect(same, "The index holds the ids.", case=f"{case} gave the index {came.index[:3].tolist()}, and so on.")
    ordered = list(came.index) == list(expected.index)
    expect(ordered, "The ids are not in ascending order.", case=f"{case} began with {came.index[:3].tolist()}.")
    plain = f"{case} gave {came.iloc[:3].tolist()}, and so on."
    numeric = pd.api.types.is_numeric_dtype(came) and bool(came.notna().all())
    expect(numeric, "Each row has a probability, which is a number.", case=plain)
    labels = bool(came.isin([0, 1]).all())
    expect(not labels, "These are labels, 0 and 1: `predict` gives them. Return probabilities.", case=plain)
    words = "These are the probabilities of being on time. Which column of `predict_proba` belongs to label 1?"
    expect(not np.allclose(1 - came, expected, rtol=0, atol=1e-9), words, case=plain)


@check(
    "Go through what her run did, step by step, and take each value from the record.",
    "A seed picks positions. What has to be done to the rows before they are drawn?",
    "`sort_values('id')`, `sample(frac=..., random_state=...)`, fit on the drawn rows, predict all rows.",
)
def rerun(answer):
    """The record alone decides: the same run comes out, in whatever order the rows are stored."""
    store = {"d1": _flights(90, seed=1), "d2": _flights(70, seed=2)}
    record = {"data_version": "d1", "columns": ["wind", "hour"], "share": 0.5, "seed": 3, "parameters": {"C": 0.3}}

    def ask(record: dict, words: str, *, store: dict[str, pd.DataFrame] = store) -> None:
        expected, case = _run(record, store), f"On the record {record}, rerun"
        came = result(answer, record, store, case=case, kind=pd.Series, give="a series from id to probability")
        _probabilities(came, expected, case=case)
        far = float((came - expected).abs().max())
        expect(far < 1e-9, words, case=f"{case} is up to {far:.2g} away from the run.")

    ordered = {name: rows.sort_values("id", ignore_index=True) for name, rows in store.items()}
    all_rows = {**record, "share": 1.0}
    words = "All rows are drawn here, and another model was fitted: look at its columns and its parameters."
    ask({**all_rows, "parameters": {}}, words, store=ordered)
    ask(all_rows, "The parameters of the record were not used.", store=ordered)
    more = {"C": 0.3, "class_weight": "balanced", "fit_intercept": False}
    ask({**all_rows, "parameters": more}, "Hand all parameters of the record to the model.", store=ordered)
    ask(record, "Other rows were drawn than with the share and the seed of the record.", store=ordered)
    ask({**record, "seed": 0}, "0 is a seed like any other.", store=ordered)
    ask({**record, "seed": 8}, "Other rows were drawn than with the seed of the record.", store=ordered)
    ask({**record, "share": 0.8}, "Other rows were drawn than with the share of the record.", store=ordered)
    words = "`sample` with frac rounds to the nearest whole number of rows; another number was drawn."
    for share in (0.47, 0.53):
        ask({**record, "share": share}, words, store=ordered)
    ask(record, "The table is stored in another order here, and so other rows were drawn. Does the order matter?")
    mixed = store["d1"].assign(id=[f"{'fF'[n % 2]}{n * 7 % 90}" for n in range(90)])
    words = "Ids are texts, sorted as `sort_values('id')` does it: F2 before f10, and f10 before f2."
    ask(record, words, store={"d1": mixed})
    ask({**record, "columns": ["load"]}, "The columns are those of the record.")
    ask({**record, "data_version": "d2"}, "The data are those of the record.")
    words = "The data are those of the store that is passed, not those of an earlier call."
    ask(record, words, store={"d1": store["d1"].assign(wind=store["d1"]["load"])})
    for labels, what in ((lambda n: n + 500, "starts at 500"), (lambda n: n // 9, "repeats")):
        numbered = {name: rows.set_index(labels(rows.index)) for name, rows in store.items()}
        ask(record, f"The index of the table {what} here, and another run came out.", store=numbered)
    before = np.random.get_state()
    answer({**record, "seed": 77}, store)
    same = all(np.array_equal(*pair) for pair in zip(before, np.random.get_state(), strict=True))
    expect(same, "It used numpy's global random numbers, or set their seed, so the next cell gives something else.")
    words = (
        "The store has no such version: raise ValueError with the version in its text, as other data are another run."
    )
    expect_error(lambda: answer({**record, "data_version": "d9"}, store), ValueError, words, names="d9")
    expect_error(lambda: answer(record, {}), ValueError, f"The store is empty. {words}", names="d1")


def _suspected(
    answer: Callable, what: str, rows: pd.DataFrame, expected: list[tuple], words: str, *, bar: float
) -> None:
    """Go on if an answer names the expected columns and pairs, in their order."""
    came = result(answer, rows, bar, case=f"On {what}.", kind=list, give="a list of tuples")
    told = f"On {what}, bar={bar:.5g}, it gave {came}, expected {expected}."
    expect(all(isinstance(one, tuple | list) for one in came), 'Each item is a tuple, such as ("a",).', case=told)
    plain = [tuple(one) for one in came]
    expect(not [one for one in expected if one not in plain and one[::-1] not in plain], words, case=told)
    alone = {one[0] for one in expected if len(one) == 1}
    news = [one for one in plain if len(one) == 2 and not alone & {*one}]
    known = len(news) == len([one for one in plain if len(one) == 2])
    expect(known, "A pair with a column that gives the label away alone is no news: leave it out.", case=told)
    ordered = all(list(one) == sorted(one) for one in plain)
    expect(ordered, "The names of a pair are in alphabetical order, each pair once.", case=told)
    expect(len(plain) == len(set(plain)), "Something stands in the list twice.", case=told)
    expect(len(plain) <= len(expected), words, case=told)
    expect(plain == expected, "The list is not in the order of `sorted`.", case=told)


@check(
    "Write one function that says of any values whether they give the label away. Call it for columns, then for pairs.",
    "An AUC of 0.02 tells as much as one of 0.98. Which rows can be used if values are missing?",
    "Pairs are made of the columns that do not give the label away alone, each pair once.",
)
def in_disguise(answer):
    """A column or a difference of two that knows the label is found, high or low, and noise is not."""
    rng = np.random.default_rng(5)
    late = np.tile([0, 1, 0, 0, 1, 0], 20)
    due = rng.normal(600, 200, 120).round()
    noise = rng.normal(size=(120, 3))
    base = pd.DataFrame({"wind": noise[:, 0], "late": late, "load": noise[:, 1]})
    tells = late + rng.uniform(-0.4, 0.4, 120)

    def ask(what: str, rows: pd.DataFrame, expected: list[tuple], words: str, *, bar: float = 0.95) -> None:
        _suspected(answer, what, rows, expected, words, bar=bar)

    def with_columns(**columns: object) -> pd.DataFrame:
        return base.assign(**columns).set_axis(rng.permutation(120), axis="index")

    ask("two columns of noise", with_columns(), [], "Noise gives nothing away.")
    ask("a column that knows the label", with_columns(taxi=tells), [("taxi",)], "This column knows the label.")
    ask("a column that knows the label", with_columns(late_taxi=tells), [("late_taxi",)], "Only `late` is the label.")
    words = "This column knows the label, and so does its difference to any other."
    ask("a column of large numbers", with_columns(taxi=100 * tells), [("taxi",)], words)
    words = "A low value may tell as much as a high one."
    ask("a column that is low if a flight is late", with_columns(spare=-tells), [("spare",)], words)
    two = {"due": due, "came": due + 30 * tells}
    words = "Two columns pass alone, and their difference is the delay."
    ask("a schedule and an arrival", with_columns(**two), [("came", "due")], words)
    words = "A difference may be low if a flight is late: a low value tells as much."
    ask("the same under other names", with_columns(a=due, b=due + 30 * tells), [("a", "b")], words)
    far = {**two, "deep": noise[:, 2], "dry": -noise[:, 2]}
    ask("a pair with other columns between", with_columns(**far), [("came", "due")], "Take all pairs of columns.")
    clock = {name: 1.4e9 + values for name, values in two.items()}
    words = "The times count seconds from 1970: numbers cut short lose their difference."
    ask("a schedule and an arrival as clocks", with_columns(**clock), [("came", "due")], words)
    words = "Single columns and pairs are to be found."
    both = with_columns(**two, taxi=tells, spare=-tells)
    ask("all of them", both, [("came", "due"), ("spare",), ("taxi",)], words)
    gaps = np.where(np.arange(120) % 7 == 0, np.nan, tells)
    words = "Use the rows in which the column has a value; leave out those in which it is missing."
    ask("a column with missing values", with_columns(taxi=gaps + 5), [("taxi",)], words)
    skew = np.where(np.arange(120) == 0, -1e6, np.where((late == 1) & (np.arange(120) % 4 == 0), np.nan, tells))
    words = "Use the rows in which the column has a value: fill in nothing, not even the mean."
    ask("a column without values for some late flights", with_columns(taxi=skew), [("taxi",)], words)
    noon = {"due": due - 600, "came": due - 600 + 30 * (tells - 0.5)}
    words = "Two columns pass, and their difference, with its sign, is the delay; neither size nor ratio of it tells."
    ask("a schedule and an arrival in minutes from noon", with_columns(**noon), [("came", "due")], words)
    holes = {**noon, "came": np.where(np.arange(120) % 5 == 0, np.nan, noon["came"])}
    words = "Of a pair, use only the rows in which both have a value: fill in nothing."
    ask("a schedule and an arrival with missing values", with_columns(**holes), [("came", "due")], words)
    only = np.where(late == 1, noise[:, 2], np.nan)
    words = "Here a value is missing for all flights on time. The other rows have one label, so it gives nothing away."
    ask("a column that only late flights have", with_columns(why=only), [], words)
    rare = np.where((late == 1) & (np.arange(120) < 20), noise[:, 2], np.nan)
    words = "For each column, use all rows in which it has a value, whatever other columns lack."
    ask("a column that knows the label, beside a rare one", with_columns(taxi=tells, rare=rare), [("taxi",)], words)
    words = "A column without values gives nothing away."
    ask("a column of missing values", with_columns(gone=np.nan), [], words)
    repeats = both.set_axis(np.arange(120) // 4, axis="index")
    words = "The index of the rows repeats here; take rows by their positions."
    ask("an index that repeats", repeats, [("came", "due"), ("spare",), ("taxi",)], words)
    _edges(ask, base)
    _at_the_bar(ask)


def _edges(ask: Callable, base: pd.DataFrame) -> None:
    ask("the label alone", base[["late"]], [], "Without columns nothing gives the label away.")
    ask("an empty table", base.head(0), [], "In an empty table nothing gives the label away.")
    ask("rows that are all late", base.assign(late=1), [], "If all rows have one label, nothing gives it away.")
    some = base["late"] + np.random.default_rng(1).normal(0, 1.2, 120)
    auc = roc_auc_score(base["late"], some)
    words = "A column below the bar gives nothing away."
    ask(f"a column with an AUC of {auc:.5f}", base.assign(some=some), [], words, bar=auc + 0.01)
    words = "The bar is the one that is handed in."
    ask(f"a column with an AUC of {auc:.5f}", base.assign(some=some), [("some",)], words, bar=auc - 0.02)
    words = "Compare the AUC with the bar as it is: round nothing."
    for by, found in ((1e-4, []), (-1e-4, [("some",)])):
        ask(f"a column with an AUC of {auc:.5f}", base.assign(some=some), found, words, bar=auc + by)


def _at_the_bar(ask: Callable) -> None:
    four = pd.DataFrame({"late": [0, 0, 0, 0, 1, 1, 1, 1], "up": [1, 2, 3, 7, 4, 5, 6, 8.0]})  # AUC 13 / 16
    words = "A column whose AUC equals the bar gives the label away."
    ask("a column at the bar", four, [("up",)], words, bar=13 / 16)
    words = "A column whose AUC is 1 minus the bar gives the label away."
    ask("a column at 1 minus the bar", four.assign(up=-four["up"]), [("up",)], words, bar=13 / 16)
    halves = four.assign(a=[9, 1, 5, 5, 9, 1, 5, 5.0]).assign(b=lambda rows: rows["a"] + rows["up"]).drop(columns="up")
    words = "A pair whose AUC equals the bar, or 1 minus it, gives the label away."
    ask("a pair at the bar", halves, [("a", "b")], words, bar=13 / 16)
