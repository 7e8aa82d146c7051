"""Checks of testing: the worst slice, a direction, a gate, three verdicts, tests of models."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import TRUTH, result
from mlops_course.course.checks.suspects import BROKEN, SOUND, other_each_time

__all__ = ["YourTurn", "compared", "hint", "objections", "sound", "summary", "worst_slice", "wrong_way"]


def _ranked(right: int, wrong: int) -> pd.DataFrame:
    """Pairs of a late row and a punctual one: in the right ones the late row got more, in the wrong ones less."""
    rows = [(0.7, 1), (0.3, 0)] * right + [(0.2, 1), (0.6, 0)] * wrong
    return pd.DataFrame(rows, columns=["p", "late"])


@check(
    "For each value of the column, ask two questions. Are there enough rows? Are both kinds of flights among them?",
    "`groupby` leaves out the rows whose value is missing. Give them a name first.",
    "Collect the AUC of each slice in a dictionary; `min(found, key=found.get, default=None)` gives the name.",
    nothing=True,
)
def worst_slice(answer):
    """The worst slice is large enough to be judged, and rows without a value are a slice as well."""

    def ask(
        slices: dict[object, pd.DataFrame], expected: object, words: str, *, least: int = 4, repeated: bool = False,
        tail: str | None = "N1",
    ) -> None:  # fmt: skip
        rows = pd.concat([part.assign(group=name) for name, part in slices.items()]).astype({"group": object})
        rows = rows.sample(frac=1, random_state=1).assign(tail=[tail, "N1"] * (len(rows) // 2))
        rows = rows if repeated else rows.reset_index(drop=True)
        sizes = {name: f"{len(part)} rows, {part['late'].sum()} late" for name, part in slices.items()}
        case = f"worst_slice(rows with {sizes}, least={least})"
        kinds = {"kind": str | float | None, "give": "the name of one slice, or None"}
        came = result(answer, rows, "group", least, case=case, **kinds)
        expect(came == expected, words, case=f"{case} gave {came!r}, expected {expected!r}.")

    good, bad, wrong = _ranked(6, 0), _ranked(3, 3), _ranked(0, 6)
    modest = pd.DataFrame({"p": [0.4, 0.3] * 5, "late": [1, 0] * 5})
    sure = pd.DataFrame({"p": [0.9, 0.6] * 4 + [0.1, 0.2] * 2 + [0.9, 0.2], "late": [1, 0] * 7})
    shifted = pd.DataFrame({"p": [0.49, 0.48, 0.47, 0.46, 0.0, 0.5, 0.51, 0.52, 0.53, 0.54], "late": [0] * 5 + [1] * 5})
    plain = pd.DataFrame({"p": [0.1] * 5 + [0.9, 0.9, 0.9, 0.9, 0.05], "late": [0] * 5 + [1] * 5})
    rare = pd.DataFrame({"p": [0.1, 0.2] + [0.5] * 10, "late": [1, 1] + [0] * 10})
    tied = pd.DataFrame({"p": 0.3, "late": [0, 1] * 4})
    below = pd.DataFrame({"p": [0.2, 0.4, 0.6, 0.3, 0.5, 0.1], "late": [1, 0, 0, 1, 1, 0]})
    one = pd.DataFrame({"p": [0.2, 0.4, 0.6, 0.8], "late": 1})
    ask({"a": good, "b": bad}, "b", "The slice with the lowest ROC AUC is the worst.")
    ask({"a": bad, "b": wrong}, "b", "An AUC of 0 is worse than one of 0.5: all late rows are ranked below the others.")
    ask({"a": modest, "b": sure}, "b", "The ROC AUC is about the order of rows, and not about 0.5.")
    words = "Another number than the ROC AUC calls a the worst: all of its late rows are ranked above the others."
    ask({"a": shifted, "b": plain}, "b", words)
    ask({"a": _ranked(150, 60), "b": _ranked(37, 15)}, "b", "The AUC of a is 0.714, that of b 0.712: round nothing.")
    ask({"a": bad, "b": rare}, "b", "`least` counts the rows of a slice, not only its late rows.")
    words = "Rows with the same probability are a tie, which counts one half: all ties make an AUC of 0.5."
    ask({"a": tied, "b": below}, "b", words)
    ask({"a": below.assign(p=1 - below["p"]), "b": tied}, "b", words)
    ask({"a": good, "b": bad, "c": _ranked(0, 1)}, "b", "A slice of too few rows came out as the worst.")
    ask({"a": good, "b": bad, "c": _ranked(0, 2)}, "c", "A slice of exactly `least` rows is large enough.")
    ask({"a": good, "b": bad, "c": one}, "b", "A slice in which all rows are late has no AUC.")
    ask({"0": one, "a": good, "b": bad}, "b", "A slice in which all rows are late has no AUC, wherever it stands.")
    ask({"a": good, "b": bad, "c": one.assign(late=0)}, "b", "A slice in which no row is late has no AUC.")
    words = "Rows whose value is missing are a slice called missing."
    ask({"a": good, None: _ranked(2, 4), "b": bad}, "missing", words)
    ask({"a": good, np.nan: _ranked(2, 4)}, "missing", words)
    words = "The rows whose value is missing are too few to be judged, like any others."
    ask({"a": bad, None: _ranked(0, 1)}, "a", words)
    for text in ("", "nan", "None"):
        ask({"a": good, text: bad}, text, f"The text {text!r} is a value like any other: nothing is missing here.")
    ask({"a": modest, "ab": modest.assign(p=modest["p"] + 0.5), "b": plain}, "b", "a and ab are two slices.")
    ask({"a": good.head(2)}, None, "No slice is large enough, so there is none to name.")
    words = "The labels of the index may occur more than once: select rows by True and False, not by label."
    ask({"a": good, "b": bad}, "b", words, repeated=True)
    ask({"a": shifted, "b": plain}, "b", words, repeated=True)
    words = "A row takes part even if another column, here `tail`, is missing."
    ask({"a": good, "b": _ranked(1, 3)}, "b", words, least=8, tail=None)


@check(
    "Ask the model twice, and compare row by row. Which rows can take part at all?",
    "`rows.assign(...)` makes a new table with one column changed.",
    "Falls means: after is less than before, by more than 0.000001. The mean of True and False is a share.",
)
def wrong_way(answer):
    """Each row is compared with itself, and a probability that stays where it was has not gone the wrong way."""
    rows = pd.DataFrame({"delay": [0.0, 10.0, 20.0, 30.0], "hour": [6, 9, 12, 15]}, index=[5, 2, 9, 1])

    def ask(
        what: str, model: Callable, expected: float, words: str, *, of: pd.DataFrame = rows, by: float = 15.0
    ) -> None:
        column = of.columns[0]
        case = f"wrong_way of a model that {what}, on the {column}s {of[column].tolist()}, by {by}"
        expect_same(result(answer, model, of, column, by, case=case), expected, words, case=case)

    def down(r: pd.DataFrame) -> np.ndarray:
        return (0.9 - r.iloc[:, 0] / 100).to_numpy()

    def constant(r: pd.DataFrame) -> np.ndarray:
        return np.full(len(r), 0.4)

    def drops(r: pd.DataFrame) -> np.ndarray:
        return np.where(r["delay"] > 22, 0.1, r["delay"] / 30)

    def mute(r: pd.DataFrame) -> np.ndarray:
        return np.where(r["hour"].isna() & (r["delay"] > 22), 0.1, 0.5)

    ask(
        "goes up with the delay",
        lambda r: (r["delay"] / 100).to_numpy(),
        0.0,
        "If the delay is higher, no probability falls.",
    )
    ask("goes down with the delay", down, 1.0, "If the delay is higher by `by`, all rows fall: the share is 1.")
    ask("always says 0.4", constant, 0.0, "A probability that stays as it is has not fallen.")
    words = "The column rises by what is handed in as `by`."
    ask("goes down above 40 minutes", lambda r: np.where(r["delay"] > 40, 0.1, 0.5), 1.0, words, by=45.0)
    half = "goes down above 22 minutes"
    ask(half, drops, 0.5, "Two rows of four fall. Compare row by row: on average the fall may not show.")
    ask(half, drops, 0.25, words, by=5.0)
    words = "Such a small step is rounding."
    ask("goes down by 0.0000005", lambda r: 0.5 - 5e-7 * (r["delay"].to_numpy() % 7 > 0), 0.0, words, by=1)
    words = "Such a step is no rounding."
    ask("goes down by 0.000002", lambda r: 0.9 - 2e-6 * (r["delay"].to_numpy() > 12), 0.25, words, by=10)
    gaps = rows.assign(delay=[0.0, np.nan, 20.0, np.nan])
    words = "Rows without a delay cannot rise, and are not counted."
    ask(half, lambda r: np.where(r["delay"] > 22, 0.1, 0.5), 0.5, words, of=gaps)
    ask("always says 0.4", constant, 0.0, "No row can rise, so the share is 0.", of=gaps.iloc[[1, 3]])
    ask("always says 0.4", constant, 0.0, "Without any row the share is 0.", of=rows.iloc[:0])
    early = rows.assign(delay=[-10.0, 20.0, -20.0, 30.0])
    words = "An early aircraft has a delay below 0, and can be later as well."
    ask("goes down above -6 minutes", lambda r: np.where(r["delay"] > -6, 0.1, 0.5), 0.5, words, of=early)
    unknown = rows.assign(hour=[6, None, None, 15])
    words = "A row takes part if its delay is known. It does not matter that another column is missing."
    ask("goes down above 22 minutes where the hour is missing", mute, 0.5, words, of=unknown)
    words = "The column is the one that is handed in."
    ask("falls with the column inbound", down, 1.0, words, of=rows.rename(columns={"delay": "inbound"}))
    ask("looks at the hour", lambda r: 0.5 - 0.1 * (r["hour"].to_numpy() > 12), 0.0, "Only the delay may change.")
    ask("goes down and gives a list", lambda r: list(down(r)), 1.0, "A model may answer with a list.")
    twice = rows.set_axis([7, 7, 7, 8])
    words = "Labels of the index may occur more than once: compare the answers by position."
    ask(half, drops, 0.5, words, of=twice)


def _hall(seed: int = 7) -> tuple[pd.DataFrame, np.ndarray]:
    """Flights of four carriers, one of them small, and the probabilities by which they were late."""
    rng = np.random.default_rng(seed)
    carrier = np.repeat(["UA", "AA", "DL", "HA"], [400, 300, 288, 12])
    truth = np.clip(rng.beta(1.6, 3.6, 1_000), 0.02, 0.98)
    rows = pd.DataFrame({"carrier": carrier, "late": (rng.random(1_000) < truth).astype(int)})
    order = rng.permutation(1_000)
    return rows.iloc[order], truth[order]


def _judged(
    answer: Callable, rows: pd.DataFrame, candidate: np.ndarray, champion: np.ndarray, *, expected: set[str],
    what: str, words: str,
) -> None:  # fmt: skip
    """Compare the reasons of an answer with the expected ones, and name those too many and those that are missing."""
    fails, kind = f"objections fails on {what}.", set | frozenset
    handed = rows, candidate, champion
    came = result(answer, *handed, case=f"On {what}.", hint=fails, kind=kind, give="a set of reasons")
    told = f"Against {what} it said {sorted(came)}, expected {sorted(expected)}."
    if came - expected:
        told += f" Too many: {sorted(came - expected)}."
    if expected - came:
        told += f" Missing: {sorted(expected - came)}."
    expect(came == expected, words, case=told)


@check(
    "Answer the four questions one by one, each for itself, and collect the reasons.",
    "The loss of a row is -log(p) if it was late, and -log(1 - p) if not; means of it give every log loss you need.",
    "For the carriers: the mean of the differences of each, but only of those with at least 100 rows.",
)
def objections(answer):
    """Bad models are stopped for their own reasons, and a model that is as good as the champion goes out."""
    rows, truth = _hall()
    late, carrier = rows["late"].to_numpy(), rows["carrier"].to_numpy()
    rng = np.random.default_rng(0)
    logit = np.log(truth / (1 - truth))

    def at(values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    champion = at(logit + rng.normal(0, 0.35, 1_000))

    def ask(
        what: str, candidate: np.ndarray, expected: set[str], words: str, *, against: np.ndarray = champion
    ) -> None:
        _judged(answer, rows, candidate, against, expected=expected, what=what, words=words)

    ask("a better model", truth, set(), "A better model had to go out.")
    as_good = np.where(carrier == "HA", champion, at(0.6 * np.log(champion / (1 - champion)) - 0.36))
    words = "It does not have to be better, and its log loss is 0.008 above: a sound one was stopped."
    ask("a model that is almost as good", as_good, set(), words)
    ask("the champion itself", champion, set(), "The champion itself is a sound one, and was stopped.")
    noisy = np.where(carrier == "HA", truth, at(logit + rng.normal(0, 0.5, 1_000)))
    words = "It clears both fixed bars. On the same rows it is worse than the champion."
    ask("a model with noise", noisy, {"champion"}, words, against=truth)
    gain = at(logit + 0.5 * (2 * late - 1))
    paid = np.where(carrier == "DL", at(logit + rng.normal(0, 1.3, 1_000)), gain)
    words = "For one carrier it is much worse, and for the others better."
    ask("a model that is worse for DL and better for all others", paid, {"carrier"}, words)
    small = np.where(carrier == "HA", 0.03, champion)
    words = "The carrier that it fails has 12 rows: of few rows a loss says nothing."
    ask("a model that knows nothing of a carrier with 12 rows", small, set(), words)
    three = {"calibration", "champion", "carrier"}
    ask("a model that says too much", at(logit + 0.75), three, "It says too much: name all reasons.")
    ask("a model that says too little", at(logit - 0.9), three, "It says too little: name all reasons.")
    constant = np.full(1_000, late.mean())
    words = "It ranks nothing: name all reasons that hold."
    ask("the share of late rows for everybody", constant, {"rank", "champion", "carrier"}, words)
    words = "A model that ranks nothing stays too bad, even if the champion is as bad."
    ask("a constant against itself", constant, {"rank"}, words, against=constant)
    words = "All four reasons hold, and all reasons are to be named."
    ask("0.9 for everybody", np.full(1_000, 0.9), {"rank", *three}, words)
    _bars(answer)


def _bars(answer: Callable) -> None:
    """How high each bar is, on rows made so that it is missed or cleared by a little."""
    carriers = np.repeat(["UA", "AA", "DL"], [150, 100, 99])
    rows = pd.DataFrame({"carrier": carriers, "late": (np.arange(349) % 3 == 0).astype(int)})
    truth = rows["late"].to_numpy()
    p = np.where(truth == 1, 0.6, 0.25)
    base = p - p.mean() + truth.mean()

    def said(p: np.ndarray) -> np.ndarray:
        return np.where(truth == 1, p, 1 - p)  # of what happened

    words = "The mean probability may differ by 0.05 from the share of late rows, above or below, and no more."
    for step in (0.045, 0.055, -0.045, -0.055):
        expected = {"calibration"} if abs(step) > 0.05 else set()
        what = f"a mean probability that differs by {step:+.3f}"
        _judged(answer, rows, base + step, base + step, expected=expected, what=what, words=words)
    words = "The log loss of all rows may be 0.01 above the champion's, and no more."
    for shrunk in (0.99, 0.97):
        less = truth.mean() + (base - truth.mean()) * shrunk
        more = float(np.log(said(base) / said(less)).mean())
        expected = {"champion"} if more > 0.01 else set()
        what = f"a log loss that is {more:.4f} above the champion's"
        _judged(answer, rows, less, base, expected=expected, what=what, words=words)
    for carrier, factor in (("UA", 0.9), ("AA", 0.9), ("DL", 0.9), ("AA", 0.97)):
        here = carriers == carrier
        there = np.where(truth == 1, base + 0.03, base - 0.015)
        candidate = np.where(here, np.where(truth == 1, base * factor, base + (1 - factor) * 0.4), there)
        came, size = answer(rows, candidate, base), int(here.sum())
        worse = float(np.log(said(base) / said(candidate))[here].mean())
        words = "A carrier counts from exactly 100 rows on, if its log loss is more than 0.05 above the champion's."
        case = f"For {size} rows it is {worse:.3f} above; {sorted(came)} came."
        expect(("carrier" in came) == (size >= 100 and worse > 0.05), words, case=case)
    _names(answer)
    noise = np.random.default_rng(3).normal(size=349)
    for strength in np.linspace(0.2, 0.8, 25):
        made = 0.04 * (strength * truth + noise)
        candidate = made - made.mean() + truth.mean()
        _ranks(answer, rows, candidate)
    few = pd.DataFrame({"carrier": "UA", "late": [0] * 4 + [1] * 5})  # 13 of 20 pairs are in order: 0.65
    _ranks(answer, few, np.array([0.52, 0.5, 0.58, 0.66, 0.64, 0.54, 0.6, 0.62, 0.56]))
    _names(answer)


def _ranks(answer: Callable, rows: pd.DataFrame, candidate: np.ndarray) -> None:
    came, auc = answer(rows, candidate, candidate), roc_auc_score(rows["late"], candidate)
    words = "A ROC AUC below 0.65 is too low, and from there on it is not."
    expect(came == ({"rank"} if auc < 0.65 else set()), words, case=f"It is {auc:.3f}, and {sorted(came)} came.")


def _names(answer: Callable) -> None:
    """What a carrier is: all of its rows are punctual, and their loss rises or falls."""

    def ask(names: list, objects: bool, words: str, *, turned: bool = False) -> None:
        size = len(names)
        rows = pd.DataFrame({"carrier": [*names, *["BB"] * 120], "late": [0] * (size + 20) + [1] * 100})
        worse, fine = (np.repeat([p, 0.3, 0.8], [size, 20, 100]) for p in (0.4, 0.3))
        came = answer(rows, fine, worse) if turned else answer(rows, worse, fine)
        changed = "falls" if turned else "rises"
        sizes = {name: names.count(name) for name in names}
        case = f"The loss of {sizes} {changed} by 0.15; {sorted(came)} came."
        expect(("carrier" in came) == objects, words, case=case)
        expect(("champion" in came) != turned, "Rows without a carrier count in all other reasons.", case=case)

    ask(["AA"] * 120, True, "A carrier whose rows are all late, or none, has a log loss as well.")
    ask(["AA"] * 120, False, "A carrier that is served better is no objection.", turned=True)
    ask([None] * 120, False, "Rows without a carrier are no carrier.")
    ask(["B6", "b6", "B6X"] * 50, False, "Each name is a carrier of its own, here with 50 rows.")


VERDICTS = ("pass", "fail", "not known")


@check(
    "How many independent things were observed: flights or days? Make one number of each day first.",
    "`pd.Series(loss).groupby(np.asarray(day)).mean()` has one value a day; the interval is that of their mean.",
    "Compare twice. Is the upper end at most `tolerated`? Is the lower end above it? The rest is not known.",
)
def compared(answer):
    """The whole interval decides. It comes from days, and where it cannot tell, the answer says so."""

    def ask(
        means: list[float], expected: str, words: str, *, tolerated: float = 0.01, sizes: list[int] | None = None,
        days: list | None = None, together: bool = False,
    ) -> None:  # fmt: skip
        sizes, days = sizes or [6 + place % 3 for place in range(len(means))], days or list(range(len(means)))
        day = np.repeat(np.array(days), sizes)
        skewed = [np.linspace(0, 0.25, size) ** 2 for size in sizes]  # within a day the median is lower than the mean
        loss = np.repeat(means, sizes) + np.concatenate([one - one.mean() for one in skewed])
        order = np.arange(len(day)) if together else np.random.default_rng(5).permutation(len(day))
        case = f"compared of {len(day)} flights on days with the means {means}, tolerated {tolerated}"
        came = result(answer, loss[order], day[order], tolerated, case=case, kind=str, give="a text")
        expect(came in VERDICTS, "Say 'pass', 'fail' or 'not known'.", case=f"{came!r} came.")
        if (came, expected) == ("fail", "not known"):
            words = f"The mean is above what is tolerated, and part of the interval is not. {words}"
        expect(came == expected, words, case=f"{case} gave {came!r}, expected {expected!r}.")

    ask([-0.05, -0.04, -0.06, -0.05], "pass", "All of the interval lies below what is tolerated.")
    ask([0.05, 0.04, 0.06, 0.05], "fail", "All of the interval lies above what is tolerated.")
    words = "What is not proven worse is not as good: what is tolerated lies inside the interval."
    ask([-0.03, 0.05, -0.02, 0.06], "not known", words)
    ask([-0.06, 0.07, -0.05, 0.06], "not known", words)
    words = "The end of the interval is compared with what is tolerated, not with 0."
    ask([0.004, 0.006, 0.005, 0.005], "pass", words, sizes=[1] * 4)
    few = {"sizes": [1] * 4}
    ask([-0.004, -0.006, -0.005, -0.005], "fail", "A tolerated loss below 0 asks for a gain.", tolerated=-0.02, **few)
    words = "Losses are small numbers: round nothing."
    ask([0.0142, 0.0143, 0.0144, 0.0143], "fail", words, tolerated=0.0139, **few)
    words = "The interval reaches two standard errors to each side: 2 s/√n."
    ask([-0.002, 0.01, 0.0, 0.008], "not known", words, tolerated=0.009, **few)
    words = "The middle of the interval is the mean of the days, not their median."
    ask([0.001, 0.001, 0.001, 0.03], "not known", words, tolerated=0.02, **few)
    words = "With two days: divide by n - 1, and by the root of the number of days."
    ask([0.02, 0.03], "not known", words, tolerated=0.0165, sizes=[1, 1])
    words = "The interval reaches two standard errors to each side: 2 s/√n."
    ask([-0.002, 0.01, 0.0, 0.008], "pass", words, **few)
    ask([-0.002, 0.01, 0.0, 0.008], "not known", f"{words} It is 2, not 1.96.", tolerated=0.0098, **few)
    ask([0.014, 0.022, 0.012, 0.024], "fail", words, tolerated=0.012, **few)
    words = "The interval is 0.5 ± 1 here: an end that equals what is tolerated is not above it."
    ask([2.0, 0.0, 0.0, 0.0], "pass", words, tolerated=1.5, **few)
    ask([2.0, 0.0, 0.0, 0.0], "not known", words, tolerated=-0.5, **few)
    words = "Many flights on few days are few observations: the flights of a day share their weather, so count days."
    ask([0.07, -0.02, 0.08], "not known", words, sizes=[400, 401, 402], together=True)
    ask([0.07, -0.02, 0.08], "not known", "The flights of a day need not stand together in the array.")
    words = "The value of a day is the mean of its flights."
    ask([0.004, 0.006, 0.005, 0.005], "pass", words)
    ask([0.012, 0.013, 0.0125, 0.0125], "fail", words)
    words = "Each day counts once, however many flights it has."
    ask([0.02, 0.02, 0.021, 0.0], "not known", words, sizes=[60, 60, 60, 2], tolerated=0.009)
    words = "A day may be a date, a text or a number."
    ask([0.05, 0.04, 0.06], "fail", words, days=["2013-04-03", "2013-04-01", "2013-04-02"])
    ask([0.05, 0.04, 0.06], "fail", words, days=[pd.Timestamp(f"2013-04-0{day}").date() for day in (3, 1, 2)])
    ask([0.05, 0.06], "fail", words, days=[20130400, 20130401])
    alike = result(answer, np.full(6, 0.25), np.repeat([1, 2, 3], 2), 0.25, case="On days that are all alike.")
    words = "An interval that ends at what is tolerated is not above it."
    expect(alike == "pass", words, case=f"Three days with the mean 0.25, tolerated 0.25: {alike!r} came.")
    ask([0.2], "not known", "One day says nothing of other days.")
    ask([-0.2], "not known", "One day says nothing of other days.")


@check(
    "Turn each sentence of the task into one comparison. Which rows do you need for it?",
    "Ask the model five times: as it is, again, row by row, with another crew, and with later aircraft.",
    "What may raise an error belongs into `try`; a model that raises one is broken, so the answer is False.",
)
def sound(answer):
    """Every sound model is let through, and each of a dozen broken ones is found."""
    for what, model in SOUND.items():
        came = result(answer, model, case="", hint=f"sound fails on {what}.", kind=TRUTH, give="True or False")
        expect(came, f"A sound model was turned down: {what}.")
    for what, model in {**BROKEN, "says something else each time": other_each_time()}.items():
        came = result(answer, model, case="", hint=f"A model that {what} is broken: catch what it does.")
        expect(not came, f"A broken model passed: it {what}.")
