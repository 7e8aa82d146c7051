"""Checks of model selection: a calibration error, a rule, a choice that sees no future, and a decision."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import TRUTH, attempt, result

__all__ = ["YourTurn", "calibration_error", "choose", "hint", "simplest", "summary", "to_act"]


def _distance(said: np.ndarray, came: np.ndarray, groups: int) -> float:
    order = np.argsort(said)
    parts = zip(np.array_split(said[order], groups), np.array_split(came[order], groups), strict=True)
    return float(sum(abs(p.sum() - y.sum()) for p, y in parts) / len(said))


@check(
    "Three steps: bring both arrays into one order, cut them, and compare the means of each part.",
    "`np.argsort` gives the order, and `np.array_split` cuts any length into parts.",
    "The mean of the distances is weighted: `np.average` takes weights.",
)
def calibration_error(answer):
    """Parts hold the same number of rows, and too much in one does not cancel too little in another."""

    def ask(said: Sequence[float], came: Sequence[int], groups: int, words: str, *, case: str = "") -> None:
        p, y = np.array(said), np.array(came)
        case = case or f"calibration_error({p.tolist()}, {y.tolist()}, groups={groups})"
        found = result(answer, p, y, groups, case=case, hint=f"calibration_error fails on {len(p)} rows.")
        expect_same(found, _distance(p, y, groups), words, case=case)

    ask([0.3], [1], 1, "One row is one part: take the absolute difference of its two values.")
    ask([0.123456], [0], 1, "Round nothing.")
    ask([0.1, 0.4], [0, 1], 1, "Both rows lie in one part: take the difference of the two means.")
    words = "Each label belongs to its probability: do not sort the labels by themselves."
    eight = [0.3, 0.35, 0.4, 0.45, 0.8, 0.85, 0.9, 0.95]
    ask(eight, [0, 1, 0, 0, 1, 0, 1, 1], 2, words)
    words = (
        "The lower two are one part, the upper two the other. Too much in one must not cancel too little in the other."
    )
    ask([0.1, 0.2, 0.7, 0.8], [1, 0, 0, 1], 2, words)
    words = "The same rows in another order: each label belongs to its probability, so give both arrays one order."
    ask([0.8, 0.1, 0.7, 0.2], [1, 1, 0, 0], 2, words)
    words = "Probabilities crowd at the low end here. Each part has to hold the same number of rows wherever they lie."
    ask([0.01, 0.02, 0.03, 0.04, 0.05, 0.9], [0, 0, 0, 1, 1, 1], 3, words)
    words = "Five rows in two parts are three and two: a part is weighted by the number of its rows."
    ask([0.1, 0.2, 0.3, 0.6, 0.9], [0, 0, 1, 0, 1], 2, words)
    eleven, labels = [0.45, 0.6, 0.35, 0.3, 0.1, 0.15, 0.5, 0.2, 0.55, 0.4, 0.25], [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0]
    ask(eleven, labels, 4, "Eleven rows in four parts are three, three, three and two, as np.array_split cuts.")
    ask(eleven, labels, 11, "With eleven parts each row is a part.")
    ask([0.1, 0.30002, 0.30001, 0.9], [0, 1, 0, 1], 2, "0.30001 is less than 0.30002: take the numbers as they are.")
    rng = np.random.default_rng(6)
    p = rng.beta(1, 6, 1_003)
    y = (rng.random(1_003) < p**0.8).astype(int)
    words = "On a thousand rows and ten parts the error is another one."
    ask(p, y, 10, words, case="calibration_error(1,003 rows)")


def _rule(losses: pd.DataFrame, size: dict[str, float]) -> tuple[str, pd.DataFrame]:
    """The name that the rule picks, and how far each model lies behind the best, in the folds that count."""
    complete = losses.dropna()
    best = complete.mean().idxmin()
    behind = complete.sub(complete[best], axis=0)
    fit = [name for name in losses if name == best or behind[name].mean() <= behind[name].std() / len(behind) ** 0.5]
    return min(fit, key=size.get), behind


def _why_not(name: str, behind: pd.DataFrame) -> str:
    """What is wrong with a model that the rule does not pick, in words."""
    gap = behind[name]
    if (gap == 0).all() or gap.mean() <= gap.sem():
        return f"{name!r} is good enough, but a smaller one is good enough, too."
    if len(gap) == 1:
        return f"One fold counts, so only the best model is good enough, and {name!r} is not the best."
    return f"{name!r} lies {gap.mean():.5f} behind the best; the standard error of the difference is {gap.sem():.5f}."


@check(
    "Leave out incomplete folds. Then take the loss of the best model away from all others, fold by fold.",
    "`DataFrame.sub(..., axis=0)` takes a column from each; `mean` and `sem` then have all that is needed.",
    "Collect the names that are good enough, the best one by a condition of its own; `min` takes a `key`.",
)
def simplest(answer):
    """The smallest model that is within one standard error, taken fold by fold, is the one."""
    size = {"rule": 1, "line": 30, "trees": 400, "forest": 9_000, "another": 0}

    def ask(what: str, losses: pd.DataFrame, words: str, *, size: dict = size) -> None:
        expected, behind = _rule(losses, size)
        case, give = f"On {what}, simplest", "the name of one model"
        came = result(answer, losses, size, case=f"{case} fails.", hint=f"{case} fails.", kind=str, give=give)
        expect(came in losses, "Return the name of a column of `losses`.", case=f"{case} gave {came!r}.")
        told = f"{words} {_why_not(came, behind)}"
        expect(came == expected, told, case=f"{case} gave {came!r}, expected {expected!r}.")

    base = np.array([0.50, 0.60, 0.55, 0.45])
    three = {"trees": base, "rule": base + 0.2, "line": base + np.array([0.01, -0.01, 0.02, -0.015])}
    plain = pd.DataFrame(three)
    ask("a line that is 0.00125 ± 0.0083 behind", plain, "The smallest model that is good enough wins.")
    words = "The columns come in any order; `size` says which model is small."
    ask("a line that stands first", plain[["line", "trees", "rule"]], words)
    for rule, line, trees in ((900, 800, 7), (900, 1000, 70), (9, 0, 7), (31, 30.2, 30.7)):
        other = {"rule": rule, "line": line, "trees": trees}
        ask(f"the sizes {other}", plain, "A size may be any number, such as 70, 0 or 30.2.", size=other)
    skewed = pd.DataFrame({"line": base + 0.05, "trees": base, "forest": base + np.array([-0.01, 0.2, -0.01, -0.01])})
    words = "The best model is the one with the lowest mean loss, not with the lowest median."
    ask("a forest that is worse in one fold only", skewed, words)
    gaps = [0.010, 0.012, 0.011, 0.009]
    hard = pd.DataFrame({"line": base + np.array(gaps), "trees": base})
    words = "Compare fold by fold: a hard fold is hard for both, so the spread of the losses themselves says nothing."
    ask("a line that is about 0.01 behind in each of four folds", hard, words)
    nearly = pd.DataFrame({"line": base + np.array([0.00, 0.02, 0.00, 0.02]), "trees": base})
    words = "At most one standard error: the standard deviation, divided by the root of the number of folds."
    ask("a line that is 0.01 ± 0.0058 behind", nearly, words)
    wider = pd.DataFrame({"line": base + np.array([0.04, -0.01, 0.02, -0.02]), "trees": base})
    ask("a line that is 0.0075 ± 0.0131 behind", wider, words)
    few = pd.DataFrame({"line": [0.3999, 0.5, 0.6031], "trees": [0.4, 0.5, 0.6]})
    words = "The standard deviation of a few folds has the divisor n - 1."
    ask("a line that is -0.0001, 0 and 0.0031 behind", few, words)
    level = pd.DataFrame({"line": [0.5, 0.5, 0.5, 0.75], "trees": [0.5, 0.5, 0.5, 0.5]})
    words = "At most one standard error: exactly one standard error is good enough."
    ask("a line that is exactly one standard error behind", level, words)
    one = plain.head(1)[["rule", "line", "trees"]]
    ask("one fold", one, "With one fold there is no standard error.")
    failed = pd.DataFrame({"line": [0.51, np.nan, 0.561, 0.459], "trees": base})
    words = "The line failed in the second fold: leave this fold out for all models."
    ask("a fit that failed in the hardest fold", failed, words)
    gaps = [0.001, 0.002, 0.001, np.nan]
    other = pd.DataFrame({"line": base + np.array([0.01, 0.02, 0.012, -0.045]), "trees": base, "forest": base + gaps})
    words = "The forest failed in the last fold: leave this fold out for all models, not only for the forest."
    ask("a fit of a third model that failed", other, words)
    wide = pd.DataFrame({"line": base + np.array([0, -0.001, 0.03, 0]), "trees": base, "forest": base + gaps})
    ask("three complete folds of four", wide, "The number of folds is that of the complete ones.")
    left = pd.DataFrame({"line": [0.51, 0.40, np.nan], "trees": [0.5, np.nan, 0.6], "rule": [0.7, 0.4, 0.4]})
    ask("three folds of which one is complete", left, "Only complete folds count, and here one is left.")
    words = "The index of the folds may be any: each row is a fold of its own."
    ask("an index of texts that repeats", plain.set_axis(["a", "a", "b", "b"]), words)
    ask("an index of texts that repeats", wider.set_axis(["a", "b", "b", "a"]), words)
    _by_chance(ask)


def _by_chance(ask: Callable) -> None:
    rng = np.random.default_rng(3)
    for turn in range(80):
        number = int(rng.integers(4, 8))
        common = rng.normal(0.5, 0.1, (number, 1))
        steps = rng.choice([0.0, 0.002, 0.004, 0.02], 4)
        losses = pd.DataFrame(common + steps + rng.normal(0, 0.006, (number, 4)), columns=list("abcd"))
        if turn % 2:
            losses.iloc[turn % number, turn % 4] = np.nan
        sizes = dict(zip("abcd", rng.permutation([1, 2, 3, 4]).tolist(), strict=True))
        _, behind = _rule(losses, sizes)
        if ((behind.mean() - behind.sem()).abs()[behind.mean() != 0] >= 1e-6).all():
            ask(
                f"\n{losses.round(4).to_string()}\nof sizes {sizes}",
                losses,
                "The rule means another model.",
                size=sizes,
            )


class _Spies:
    """Models of scikit-learn that keep which rows they were fitted on, by the feature `a`; `fits` keeps all fits."""

    def __init__(self) -> None:
        from sklearn.base import BaseEstimator, ClassifierMixin

        self.fits = fits = []

        class Spy(ClassifierMixin, BaseEstimator):
            def __init__(self, kind: str = "rate") -> None:
                self.kind = kind

            def fit(self, X: pd.DataFrame, y: pd.Series) -> "Spy":
                self.seen_ = {int(a): float(late) for a, late in zip(X["a"], y, strict=True)}
                fits.append(set(self.seen_))
                self.rate_ = float(np.mean(y))
                self.classes_ = np.array([0.0, 1.0])
                return self

            def predict(self, X: pd.DataFrame) -> np.ndarray:
                raise TypeError("this model gives probabilities only: compare by log loss")

            def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
                sign, size = np.sign(X["b"]), np.abs(X["b"])
                p = {
                    "rate": lambda: np.full(len(X), self.rate_),
                    "calm": lambda: np.full(len(X), 0.13),
                    "by heart": lambda: np.array([0.02 + 0.96 * self.seen_.get(int(a), 0.5) for a in X["a"]]),
                    "careful": lambda: np.where(sign > 0, 0.8, 0.2),
                    "too sure": lambda: np.where((sign > 0) == (size < 1.5), 0.9999, 0.0001),
                }[self.kind]()
                return np.column_stack([1 - p, p])

        self.models = {kind: Spy(kind) for kind in ("rate", "too sure", "calm", "careful", "by heart")}


def _rows() -> pd.DataFrame:
    """Ninety days: until day 60 three of ten are late and b tells it, then a calm time comes, as in September 2013."""
    rng = np.random.default_rng(0)
    asked = pd.Series(pd.Timestamp("2013-07-03", tz="UTC") + pd.to_timedelta(np.arange(360) * 6, unit="h"))
    before = (asked < asked[0] + pd.Timedelta("60D")).to_numpy()
    late = (rng.random(360) < np.where(before, 0.3, 0.13)).astype(float)
    wrong = rng.random(360) < np.where(before, 0.2, 0.5)
    sign = np.where(wrong, -1, 1) * (2 * late - 1)
    rows = pd.DataFrame({"a": np.arange(360.0), "late": late, "asked": asked})
    rows["b"] = sign * np.where(wrong & (rng.random(360) < 0.5), 2, 1)
    rows["labelled"] = rows["asked"] + pd.Timedelta("3D")
    rows.loc[::17, ["late", "labelled"]] = np.nan, pd.NaT
    return rows.sample(frac=1, random_state=1)


@check(
    "Throw away what was not known at `cut` first; then nothing that follows can use it.",
    "A comparison with a missing time is false, so rows without a label go by themselves.",
    "Which rows does each of the two fits need? One by `start`, the last one by `cut`.",
)
def choose(answer):
    """What comes after the cut changes nothing, and the last fit has all that was known."""
    rows, spies = _rows(), _Spies()
    first = rows["asked"].min()
    start, cut = first + pd.Timedelta("30D"), first + pd.Timedelta("60D")
    ours = attempt(lambda: answer(spies.models, rows, start, cut), hint="choose fails on ninety days of rows.")
    expect(isinstance(ours, tuple | list) and len(ours) == 2, "Return two things: the name and the fitted model.")
    name, model = ours
    expect(isinstance(name, str) and name in spies.models, f"The first is one of the names; {name!r} came.")
    words = "It was chosen by what came after the cut, when few flights were late: 'calm' always says 13 %."
    expect(name != "calm", words)
    words = "The model that has learned by heart won: score on other rows, by the probability of label 1."
    expect(name != "by heart", words)
    words = "'too sure' won: it ranks best, but what it gets wrong it gives 0.01 %. Compare by log loss."
    expect(name != "too sure", words)
    expect_same(name, "careful", "Before the cut, another model has the lowest log loss.", case="choose")
    expect(hasattr(model, "seen_"), "The second is a model that has been fitted.")
    expect(not hasattr(spies.models[name], "seen_"), "The models that were passed are fitted now: fit a clone.")
    by_id = rows.set_index("a")
    early, known = (set(by_id.index[by_id["labelled"] <= at].astype(int)) for at in (start, cut))
    strange = [fit for fit in spies.fits if fit not in (early, known) and fit != set(model.seen_)]
    words = "To compare, fit each model on the rows whose label was known at the start, and on no others."
    case = f"They were {len(early)} rows; {len(strange[0]) if strange else 0} rows came."
    expect(not strange, words, case=case)
    extra, lacking = set(model.seen_) - known, known - set(model.seen_)
    expect(not extra, "The last fit used labels that were not known at the cut.", case=f"{len(extra)} rows of them.")
    expect(not lacking, "The last fit has to use all that was known at the cut.", case=f"{len(lacking)} rows lack.")
    unknown = ~(rows["labelled"] <= cut)
    changes = {
        "With other labels after the cut": rows.assign(late=rows["late"].where(~unknown, 1 - rows["late"])),
        "Without the rows that were not known at the cut": rows[~unknown],
        "With an index that repeats": rows.set_axis(rows.index // 3, axis="index"),
    }
    for what, changed in changes.items():
        name_then, model_then = answer(spies.models, changed, start, cut)
        expect(name_then == name and model_then.seen_ == model.seen_, f"{what} another model came out.")
    _compared(answer, start, cut)


def _compared(answer, start: pd.Timestamp, cut: pd.Timestamp) -> None:
    """Which rows the comparison fits and scores, with models that betray it by what they say."""
    Spy = type(_Spies().models["rate"])
    hours = {
        "early": -400,
        "asked before, known after": -10,
        "at the start": 0,
        "just before the cut": 719,
        "known too late": 700,
    }
    asked = start + pd.to_timedelta(list(hours.values()), unit="h")
    rows = pd.DataFrame({"a": range(5), "b": 1.0, "late": [0.0, 1.0, 1.0, 0.0, 1.0], "asked": asked})
    rows["labelled"] = rows["asked"] + pd.Timedelta("72h")
    rows.loc[3, "labelled"] = cut  # known at the very time
    rows = pd.concat([rows, pd.DataFrame({"a": [5], "b": 1.0, "late": 1.0, "asked": [start - pd.Timedelta("72h")]})])
    rows["labelled"] = rows["labelled"].fillna(start)  # known at the very time
    rows = pd.concat([rows, rows.iloc[[0, 2]]], ignore_index=True)  # equal rows are rows of their own
    fits, scored, features = [], [], []

    class Told(Spy):
        def fit(self, X: pd.DataFrame, y: pd.Series) -> "Told":
            fits.append(sorted(map(int, X["a"])))
            features.append(list(X))
            return super().fit(X, y)

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            scored.append(sorted(map(int, X["a"])))
            return super().predict_proba(X)

    answer({"one": Told("rate"), "two": Told("careful")}, rows, start, cut)
    expect(bool(fits), "It fitted no model that was passed this time: keep nothing from an earlier call.")
    expect(all(one == ["a", "b"] for one in features), 'Features are rows[["a", "b"]].', case=f"{features[0]} came.")
    uses = (
        ("To compare, fit a model on the rows whose label was known at the start, or at that very time, and no others.",
         [0, 0, 5], fits if [0, 0, 5] not in fits else [[0, 0, 5]], "Rows 0 and 5 were known at the start"),
        ("Score on the rows that were asked at the start or later and whose label was known at the cut.",
         [2, 2, 3], scored, "Row 2 was asked at the start, and row 3 known at the very cut"),
        ("The last fit is on all rows whose label was known at the cut, or at that very time.",
         [0, 0, 1, 2, 2, 3, 5], fits[-1:], "Rows 0, 1, 2, 3 and 5 were"),
    )  # fmt: skip
    for words, expected, used, why in uses:
        wrong = next((one for one in used if one != expected), None if used else [])
        if wrong is not None and set(wrong) == set(expected):
            words = "A row that occurs twice is two rows: drop none."
        expect(wrong is None, words, case=f"{why}; 0 and 2 occur twice. It used the rows {wrong}, expected {expected}.")


@check(
    "Two questions: does it pay to act on the row, and how many rows of its day come before it?",
    "Solve (1 − p) · false_alarm ≤ p · missed for p, or write it down as it stands.",
    "`groupby(...).rank(ascending=False)` counts from the highest of each day; look at its `method`.",
)
def to_act(answer):
    """You act where it pays, on the most probable rows of each day, and on no more than there are places."""

    def ask(
        rows: pd.DataFrame, expected: list[bool], words: str, *, places: int, case: str = "", **costs: float
    ) -> None:
        costs = {"false_alarm": 15, "missed": 60, **costs}
        case = case or f"to_act({rows['probability'].tolist()} on {rows['day'].tolist()}, {costs}, places={places})"
        came = result(answer, rows, places=places, **costs, case=case)
        truths = not isinstance(came, pd.Series) or all(isinstance(one, TRUTH) for one in came)
        expect(truths, "Return True and False, not numbers.", case=case)
        expect_same(came, pd.Series(expected, index=rows.index, dtype=bool), words, case=case)

    def day(*probability: float, days: str = "mon", index: Sequence | None = None) -> pd.DataFrame:
        names = days.split() * (1 if " " in days else len(probability))
        index = [f"f{7 * n % 10}" for n in range(len(probability))] if index is None else index
        return pd.DataFrame({"probability": np.array(probability, dtype=float), "day": names}, index=index)

    ask(day(0.3, 0.9), [True, True], "At 30 % it is cheaper to act.", places=2)
    ask(day(0.22, 0.9), [True, True], "At 22 % it is cheaper to act: both sides cost the same at 15 / 75.", places=2)
    ask(day(0.3, 0.2), [True, True], "At 20 % both cost the same, and at most means to act.", places=5)
    ask(day(0.19, 0.05), [False, False], "It is more expensive to act, even if there is a place.", places=2)
    words = "With these costs it is more expensive to act."
    ask(day(0.6, 0.4), [False, False], words, places=2, false_alarm=60, missed=30)
    ask(day(0.3, 0.9, 0.5), [False, True, True], "Two places go to the highest probability.", places=2)
    words = "The places count by day: each day has its own."
    ask(day(0.9, 0.3, 0.8, 0.25, days="mon tue mon tue"), [True, True, False, False], words, places=1)
    ask(day(0.9, 0.3, days="mon tue"), [False, False], "There is no place at all.", places=0)
    ask(day(0.9, 0.1, 0.3), [True, False, True], "There are more places than rows.", places=9)
    words = "The index repeats here, so a label of it stands for several rows: choose rows."
    ask(day(0.3, 0.9, 0.5, index=[1, 1, 1]), [False, True, False], words, places=1)
    ask(
        day(0.9, 0.3, 0.8, 0.25, days="mon tue mon tue", index=[0, 0, 1, 1]),
        [True, True, False, False],
        words,
        places=1,
    )
    words = "Of equal probabilities, the row that stands higher in the table comes first, as long as there are places."
    ask(day(0.5, 0.9, 0.5, 0.5), [True, True, False, False], words, places=2)
    words = "Take the probabilities as they are: round nothing."
    ask(day(0.1999, 0.504, 0.501), [False, True, True], words, places=3)
    ask(day(0.501, 0.504), [False, True], words, places=1)
    ask(day(0.5, 0.5 + 1e-10), [False, True], words, places=1)
    ask(day(0.9, 0.3, days="2013-07-01 2013-07-02"), [True, True], "These are two days.", places=1)
    ask(day(), [], "An empty table gives an empty series.", places=2)
    ask(day(0.7), [True], "One row, and a place for it.", places=1)
    rng = np.random.default_rng(1)
    p, days = rng.permutation(np.linspace(0.01, 0.99, 60)), rng.choice(list("abcd"), 60)
    for places in (1, 4, 11):
        rows = pd.DataFrame({"probability": p, "day": days}, index=rng.permutation(60))
        pays = p >= 4 / (4 + 7)
        expected = [bool(ok and (p[days == d] > x).sum() < places) for x, d, ok in zip(p, days, pays, strict=True)]
        case, words = f"to_act(60 rows, places={places})", "Sixty rows on four days are decided in another way."
        ask(rows, expected, words, places=places, case=case, false_alarm=4, missed=7)
    p = rng.integers(1, 10, 300) / 10
    expected = [bool(x >= 0.2 and (p > x).sum() + (p[:at] == x).sum() < 50) for at, x in enumerate(p)]
    words = (
        "Of equal probabilities, the row that stands higher in the table comes first. Does your sort keep their order?"
    )
    ask(pd.DataFrame({"probability": p, "day": "mon"}), expected, words, places=50, case="to_act(300 rows, places=50)")
