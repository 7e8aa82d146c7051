"""Checks of model selection: a calibration error, a rule, a choice that sees no future, and a decision."""

from collections.abc import Sequence

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
    """Groups hold the same number of rows, and what is said too much does not cancel what is said too little."""

    def ask(said: Sequence[float], came: Sequence[int], groups: int, words: str, *, case: str = "") -> None:
        p, y = np.array(said), np.array(came)
        case = case or f"calibration_error({p.tolist()}, {y.tolist()}, groups={groups})"
        found = result(answer, p, y, groups, case=case, hint=f"calibration_error fails on {len(p)} rows.")
        expect_same(found, _distance(p, y, groups), words, case=case)

    words = "Too much in one group and too little in another must not cancel."
    ask([0.1, 0.2, 0.7, 0.8], [1, 0, 0, 1], 2, words)
    ask([0.1, 0.4], [0, 1], 1, "Within one group only the means count.")
    words = "The same rows in another order: each label belongs to its probability, so sort both in one way."
    ask([0.8, 0.1, 0.7, 0.2], [1, 1, 0, 0], 2, words)
    words = "Scores crowd at the low end, and a group has to hold the same number of rows wherever they lie."
    ask([0.01, 0.02, 0.03, 0.04, 0.05, 0.9], [0, 0, 0, 1, 1, 1], 3, words)
    words = "Five rows in two groups are three and two: a group counts with the number of its rows."
    ask([0.1, 0.2, 0.3, 0.6, 0.9], [0, 0, 1, 0, 1], 2, words)
    eleven, labels = [0.45, 0.6, 0.35, 0.3, 0.1, 0.15, 0.5, 0.2, 0.55, 0.4, 0.25], [0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0]
    ask(eleven, labels, 4, "Eleven rows in four groups are three, three, three and two, as np.array_split cuts.")
    ask(eleven, labels, 11, "With eleven groups each row is a group.")
    rng = np.random.default_rng(6)
    p = rng.beta(1, 6, 1_003)
    y = (rng.random(1_003) < p**0.8).astype(int)
    words = "On a thousand rows and ten groups the number is another one."
    ask(p, y, 10, words, case="calibration_error(1,003 rows)")


def _rule(losses: pd.DataFrame) -> str:
    best = losses[losses.mean().idxmin()]
    return next(name for name in losses if (gap := losses[name] - best).mean() <= gap.std() / len(gap) ** 0.5)


@check(
    "Take the loss of the best model away from all the others, fold by fold, before you look at means.",
    "`DataFrame.sub(..., axis=0)` takes a column from each; `mean` and `sem` then have all that is needed.",
    "Of a series of True and False, `idxmax` gives the label of the first True.",
)
def simplest(answer):
    """The first model that is within one standard error, taken fold by fold, is the one."""

    def ask(what: str, losses: pd.DataFrame, expected: str, words: str) -> None:
        fails, give = f"simplest fails on {what}.", "the name of one model"
        came = result(answer, losses, case="", hint=fails, kind=str, give=give)
        expect_same(came, expected, words, case=f"On {what}, simplest")

    base = np.array([0.50, 0.60, 0.55, 0.45])
    plain = pd.DataFrame({"rule": base + 0.2, "line": base + np.array([0.01, -0.01, 0.02, -0.015]), "trees": base})
    words = "A simpler model lies within one standard error of the best, and was not taken."
    ask("a line that is 0.00125 ± 0.0083 worse than trees", plain, "line", words)
    hard = pd.DataFrame({"line": base + np.array([0.010, 0.012, 0.011, 0.009]), "trees": base})
    words = "Compare fold by fold: a hard fold is hard for both, so the spread of the losses themselves says nothing."
    ask("a line that is about 0.01 worse in each of four folds", hard, "trees", words)
    nearly = pd.DataFrame({"line": base + np.array([0.00, 0.02, 0.00, 0.02]), "trees": base})
    words = "The standard error is the standard deviation divided by the root of the number of folds."
    ask("a line that is 0.01 ± 0.0058 worse", nearly, "trees", words)
    three = pd.DataFrame({"line": [0.3999, 0.5, 0.6031], "trees": [0.4, 0.5, 0.6]})
    words = "The standard deviation of a few folds has the divisor n - 1."
    ask("a line that is -0.0001, 0 and 0.0031 worse", three, "line", words)
    first = pd.DataFrame({"trees": base, "rule": base + 0.2})
    ask("trees before a bad rule", first, "trees", "The best may be the first.")
    words = "The best one counts as good enough as well, and here it is the first."
    ask("trees before a line that is nearly as good", plain[["trees", "line"]], "trees", words)
    rng = np.random.default_rng(3)
    for _ in range(200):
        number = int(rng.integers(3, 8))
        common = rng.normal(0.5, 0.1, (number, 1))
        steps = rng.choice([0.0, 0.002, 0.004, 0.02], 4)
        losses = pd.DataFrame(common + steps + rng.normal(0, 0.006, (number, 4)), columns=list("abcd"))
        best = losses.sub(losses[losses.mean().idxmin()], axis=0)
        if ((best.mean() - best.sem()).abs().drop(losses.mean().idxmin()) >= 1e-6).all():
            ask(f"\n{losses.round(4).to_string()}\n", losses, _rule(losses), "Another model is meant by the rule.")


class _Spies:
    """Models of scikit-learn that keep which rows they were fitted on, by the feature `a`."""

    def __init__(self) -> None:
        from sklearn.base import BaseEstimator, ClassifierMixin

        class Spy(ClassifierMixin, BaseEstimator):
            def __init__(self, kind: str = "rate") -> None:
                self.kind = kind

            def fit(self, X: pd.DataFrame, y: pd.Series) -> "Spy":
                self.seen_ = {int(a): float(late) for a, late in zip(X["a"], y, strict=True)}
                self.rate_ = float(np.mean(y))
                self.classes_ = np.array([0.0, 1.0])
                return self

            def predict(self, X: pd.DataFrame) -> np.ndarray:
                raise TypeError("this model gives probabilities only: compare by log loss")

            def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
                if self.kind == "rate":
                    p = np.full(len(X), self.rate_)
                elif self.kind == "by heart":
                    p = np.array([0.02 + 0.96 * self.seen_.get(int(a), 0.5) for a in X["a"]])
                else:  # knows the label, but for the sign
                    p = np.where((X["b"] > 0) == (self.kind == "plus"), 0.8, 0.2)
                return np.column_stack([1 - p, p])

        self.models = {kind: Spy(kind) for kind in ("rate", "plus", "by heart", "minus")}


def _rows() -> pd.DataFrame:
    """Ninety days; the sign of b says what happens until the cut on day 60, and the opposite after it."""
    rng = np.random.default_rng(0)
    asked = pd.Series(pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(np.arange(360) * 6, unit="h"))
    late = rng.integers(0, 2, 360).astype(float)
    sign = np.where(asked < asked[0] + pd.Timedelta("60D"), 1, -1) * (2 * late - 1)
    sign = np.where(rng.random(360) < 0.2, -sign, sign)
    rows = pd.DataFrame({"a": np.arange(360.0), "b": sign, "late": late, "asked": asked})
    rows["labelled"] = rows["asked"] + pd.Timedelta("3D")
    rows.loc[::17, ["late", "labelled"]] = np.nan, pd.NaT
    return rows.sample(frac=1, random_state=1)


@check(
    "Throw away what was not known at `cut` first; then nothing that follows can use it.",
    "A comparison with a missing instant is false, so rows without a label go by themselves.",
    "Which rows does each of the two fits need? One by `start`, the last one by `cut`.",
)
def choose(answer):
    """What comes after the cut changes nothing, and the last fit has all that was known."""
    rows, spies = _rows(), _Spies()
    first = rows["asked"].min()
    start, cut = first + pd.Timedelta("30D"), first + pd.Timedelta("60D")
    ours = attempt(lambda: answer(spies.models, rows, start, cut), hint="choose fails on ninety days of rows.")
    expect(isinstance(ours, tuple | list) and len(ours) == 2, "Give two things: the name, and the fitted model.")
    name, model = ours
    expect(isinstance(name, str) and name in spies.models, f"The first is one of the names; {name!r} came.")
    words = "It was chosen by what came after the cut, where the sign has turned."
    expect(name != "minus", words)
    expect(name != "by heart", "The model that had learned by heart won: score on rows that it was not fitted on.")
    expect_same(name, "plus", "Before the cut, another model has the lowest log loss.", case="choose")
    expect(hasattr(model, "seen_"), "The second is a model that has been fitted.")
    expect(not hasattr(spies.models[name], "seen_"), "The models that were handed in are fitted now: fit a clone.")
    by_id = rows.set_index("a")
    known = set(by_id.index[by_id["labelled"] <= cut].astype(int))
    extra, lacking = set(model.seen_) - known, known - set(model.seen_)
    expect(not extra, "The last fit used labels that were not there at the cut.", case=f"{len(extra)} rows of them.")
    expect(not lacking, "The last fit has to use all that was known at the cut.", case=f"{len(lacking)} rows lack.")
    later = rows.assign(late=rows["late"].where(rows["labelled"] <= cut, 1 - rows["late"]))
    name_then, model_then = answer(spies.models, later, start, cut)
    words = "With other labels after the cut another model came out."
    expect(name_then == name and model_then.seen_ == model.seen_, words)
    _compared(answer, start, cut)


def _compared(answer, start: pd.Timestamp, cut: pd.Timestamp) -> None:
    """Which rows the comparison fits and scores, with models that betray it by what they say."""
    spies = _Spies()
    Spy = type(spies.models["rate"])
    hours = {"early": -400, "asked before, known after": -10, "at the start": 0, "later": 100, "known too late": 700}
    asked = start + pd.to_timedelta(list(hours.values()), unit="h")
    rows = pd.DataFrame({"a": range(5), "b": 1.0, "late": [0.0, 1.0, 1.0, 0.0, 1.0], "asked": asked})
    rows["labelled"] = rows["asked"] + pd.Timedelta("72h")
    rows.loc[3, "labelled"] = cut  # there at the very instant
    rows = pd.concat([rows, pd.DataFrame({"a": [5], "b": 1.0, "late": 1.0, "asked": [start - pd.Timedelta("72h")]})])
    rows["labelled"] = rows["labelled"].fillna(start)  # there at the very instant
    rows = rows.reset_index(drop=True)
    fits, scored = [], []

    class Told(Spy):
        def fit(self, X: pd.DataFrame, y: pd.Series) -> "Told":
            fits.append(sorted(map(int, X["a"])))
            return super().fit(X, y)

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            scored.append(sorted(map(int, X["a"])))
            return super().predict_proba(X)

    answer({"one": Told("rate"), "two": Told("plus")}, rows, start, cut)
    words = "To compare, a model may be fitted only on rows whose label was there at the start (or at that instant)."
    case = f"Of rows known {{early, at the start}} it was fitted on {len(fits[0])}, expected 2."
    expect([0, 5] in fits, words, case=case)
    words = "To compare, score on rows that asked at the start or later, and whose label was there at the cut."
    case = f"Row 2 (asked at the start) and row 3 (known at the very cut) were to be scored; {scored[:1]} were."
    expect(scored and all(part == [2, 3] for part in scored), words, case=case)


@check(
    "Two questions: does it pay to act on the row, and how many of its day have a higher probability?",
    "Solve (1 − p) · false_alarm ≤ p · missed for p, or write it down as it stands.",
    "`groupby(...).rank(ascending=False)` counts from the highest of each day.",
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
        expect(truths, "Give True and False, not numbers.", case=case)
        expect_same(came, pd.Series(expected, index=rows.index), words, case=case)

    def day(*probability: float, days: str = "mon") -> pd.DataFrame:
        names = days.split() * (1 if " " in days else len(probability))
        index = [f"f{7 * n % 10}" for n in range(len(probability))]
        return pd.DataFrame({"probability": probability, "day": names}, index=index)

    ask(day(0.3, 0.9), [True, True], "At 30 % it is cheaper to act.", places=2)
    ask(day(0.22, 0.9), [True, True], "At 22 % it is cheaper to act: the threshold is 15 / 75.", places=2)
    ask(day(0.3, 0.2), [True, True], "At 20 % both cost the same, and at most means to act.", places=5)
    ask(day(0.19, 0.05), [False, False], "It is more expensive to act, also where there is a place.", places=2)
    words = "With these costs it is more expensive to act."
    ask(day(0.6, 0.4), [False, False], words, places=2, false_alarm=60, missed=30)
    ask(day(0.3, 0.9, 0.5), [False, True, True], "Two places go to the highest probability.", places=2)
    words = "The places count by day: each day has its own."
    ask(day(0.9, 0.3, 0.8, 0.25, days="mon tue mon tue"), [True, True, False, False], words, places=1)
    ask(day(0.9, 0.3, days="mon tue"), [False, False], "There is no place at all.", places=0)
    ask(day(0.9, 0.1, 0.3), [True, False, True], "There are more places than rows.", places=9)
    rng = np.random.default_rng(1)
    p, days = rng.permutation(np.linspace(0.01, 0.99, 60)), rng.choice(list("abcd"), 60)
    for places in (1, 4, 11):
        rows = pd.DataFrame({"probability": p, "day": days}, index=rng.permutation(60))
        pays = p >= 4 / (4 + 7)
        expected = [bool(ok and (p[days == d] > x).sum() < places) for x, d, ok in zip(p, days, pays, strict=True)]
        case, words = f"to_act(60 rows, places={places})", "Sixty rows on four days are decided in another way."
        ask(rows, expected, words, places=places, case=case, false_alarm=4, missed=7)
