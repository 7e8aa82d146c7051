"""Checks of use cases: an audit, a ranking, and rules that end an idea."""

import functools

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_items, result

__all__ = ["YourTurn", "audit", "hint", "ranked", "summary", "verdicts"]


NO_LABEL = ["no label", "short history"]
OWNERS = {
    None: "None is no owner.",
    "": "An empty text is no owner.",
    "  ": "A text of nothing but spaces is no name of an owner.",
    "call centre": "This is a name.",
    "X": "A short name is a name.",
}


@functools.cache
def _three_years() -> pd.DataFrame:
    """Labelled flights of May 2013, spread over three years."""
    rows = flights.read(["2013-05"])["flights"][["carrier", "dest", "arr_delay", "time_hour"]]
    rows = rows[rows["arr_delay"].notna()].head(100).reset_index(drop=True)
    return rows.assign(time_hour=rows["time_hour"] + pd.to_timedelta(np.linspace(0, 1095, 100).round(), unit="D"))


def _labelled(days: list[float]) -> pd.DataFrame:
    """Rows with a label on each of some days."""
    when = pd.Timestamp("2013-05-01T06:00Z") + pd.to_timedelta(days, unit="D")
    return pd.DataFrame({"arr_delay": [float(n) for n in range(len(days))], "time_hour": when})


@check(
    "Answer the four questions one by one, and collect the flags in a list.",
    "Keep the rows that have a label in a table of their own: how many are they, and from when to when?",
    "What if the column is missing, or no row is left? Look at these two before you subtract or divide.",
)
def audit(answer):
    """Each flag is raised by itself: also for an empty column, for a table without rows, and for an owner of spaces."""
    rows = _three_years()
    fine = {"label": "arr_delay", "time": "time_hour", "owner": "operations", "personal": ["passenger", "crew"]}

    def ask(table: pd.DataFrame, expected: list[str], words: str, *, case: str, **facts: object) -> None:
        fails, give = f"audit fails on {case}.", "a list of flags, empty if there is none"
        came = result(answer, table, {**fine, **facts}, case=case, hint=fails, kind=list | tuple, give=give)
        expect_items(list(came), expected, words, case=f"{case}: it", order="Give the flags in the order of the task.")

    def with_label(where: pd.Series) -> pd.DataFrame:
        return rows.assign(arr_delay=rows["arr_delay"].where(where))

    at = rows.index
    words = "Nothing is wrong with this table."
    ask(rows, [], f"{words} It has no column of the list.", case="three years of labelled flights with an owner")
    ask(rows.assign(arr_delay=0.0), [], "A label of 0 is a value.", case="three years of flights whose label is 0")
    ask(rows.set_axis(range(5, 105), axis="index"), [], "Any index will do.", case="three years with an index from 5")
    ask(rows.head(60), ["short history"], "That is less than 730 days.", case="the first 21 months of it")
    words = "A column is not yet a label: most of the values in it are missing."
    ask(with_label((at < 30) | (at == 99)), ["no label"], words, case="three years with 31 labels in 100 rows")
    words = "History counts between the first and the last of the rows with a label, and not between other rows."
    ask(with_label(at >= 40), ["short history"], words, case="three years without a label in the first")
    words, whole = "One flag hides another: give all that apply.", [*NO_LABEL, "no owner", "personal data"]
    ask(with_label(at < 20).assign(crew="a name"), whole, words, case="a table with all four defects", owner=None)
    words = "A table without rows has neither a label nor a history. The mean of no rows is NaN."
    ask(rows.iloc[:0], NO_LABEL, words, case="a table of these columns and no row")
    words = "Without the column there is no label, and without a label there is no history."
    ask(rows.drop(columns="arr_delay"), NO_LABEL, words, case="a table without the label's column")
    words = "An empty column gives no label, and without a label there is no history."
    ask(rows.assign(arr_delay=np.nan), NO_LABEL, words, case="a table with an empty label")
    for owner, words in OWNERS.items():
        expected = ["no owner"] * (not (owner or "").strip())
        ask(rows, expected, words, case=f"three years and the owner {owner!r}", owner=owner)
    words = "One column about persons is enough."
    ask(rows.assign(crew="a name"), ["personal data"], words, case="three years with the column crew")
    words = "A column about persons counts, also if no row has a value in it."
    ask(rows.assign(crew=None), ["personal data"], words, case="three years with an empty column crew")
    ask(rows, [], "No column of the table is on that list.", case="a use without personal columns", personal=[])
    words, listed = "The columns about persons are those in facts['personal'].", ["seat", "dest"]
    ask(rows, ["personal data"], words, case="three years with the column dest on the list", personal=listed)
    words = "crew_size is another column than crew."
    ask(rows.assign(crew_size=6), [], words, case="three years with the column crew_size")
    words = "The columns of label and time are those that `facts` names."
    renamed = rows.rename(columns={"arr_delay": "late", "time_hour": "when"})
    ask(renamed, [], words, case="three years with the columns late and when", label="late", time="when")
    ask(rows, [], "A label may be a text.", case="three years with the label carrier", label="carrier")
    ask(rows.assign(gate=None), [], "Other columns may be empty.", case="three years with an empty column gate")
    half = ((at % 2 == 0) | (at == 99)) & (at != 50)
    ask(with_label(half), [], "Half of the rows have a label, and that is enough.", case="50 labels in 100 rows")
    words = "Fewer than half of the rows have a label."
    ask(with_label(half & (at != 52)), ["no label"], words, case="49 labels in 100 rows")
    five = rows.iloc[[0, 25, 50, 75, 99]]
    more, fewer = five.assign(arr_delay=[1, None, 1, None, 1]), five.assign(arr_delay=[1, None, None, None, 1])
    ask(more, [], "More than half of the rows have a label.", case="3 labels in five rows")
    ask(fewer, ["no label"], "Fewer than half of the rows have a label.", case="2 labels in five rows")
    ask(_labelled([0, 1, 730]), [], "730 days are not fewer than 730.", case="labels on days 0, 1 and 730")
    ask(_labelled([0, 1, 729.5]), ["short history"], "730 days are needed.", case="labels on days 0, 1 and 729.5")
    words = "Between 22:48 and 18:00, 730 days later, lie 729.8 days: fewer than 730."
    ask(_labelled([0.7, 1, 730.5]), ["short history"], words, case="labels at 22:48, and at 18:00 730 days later")
    ask(_labelled([4]), ["short history"], "One row has no history.", case="a single row with a label")
    mixed = rows.sample(frac=1, random_state=3).set_axis([0] * len(rows), axis="index")
    ask(mixed, [], "Rows may come in any order, with any index.", case="shuffled rows that share one index label")


def _ideas(rows: dict[str, tuple]) -> pd.DataFrame:
    """A backlog from value, feasibility, risk (each a number or a pair of ends), and the cost of the build, if any."""
    found = []
    for name, numbers in rows.items():
        row = {"name": name, "build": float(numbers[3]) if len(numbers) == 4 else 0.0}
        for what, ends in zip(("value", "feasibility", "risk"), numbers[:3], strict=True):
            low, high = ends if isinstance(ends, tuple) else (ends, ends)
            row |= {f"{what}_low": float(low), f"{what}_high": float(high)}
        found.append(row)
    return pd.DataFrame(found)


def _told(ideas: pd.DataFrame) -> str:
    """A backlog in words, if it is short and each of its ranges is one number."""
    if not 0 < len(ideas) < 4:
        return f"{len(ideas)} ideas"
    rows = [
        f"{row.name} (value {row.value_low:g}, feasibility {row.feasibility_low:g}, risk {row.risk_low:g}, "
        f"build {row.build:g})"
        for row in ideas.itertuples(index=False)
    ]
    return ", ".join(rows)


@functools.cache
def _many_ideas(seed: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Ten ideas, no two nearly equal in three years, and the names of those that pay, from best to worst."""
    rng = np.random.default_rng(seed)
    while True:
        value = np.sort(rng.uniform(10_000, 900_000, (10, 2)))
        works, risk = np.sort(rng.uniform(0.05, 1, (10, 2))), np.sort(rng.uniform(0, 0.95, (10, 2)))
        build = rng.uniform(10_000, 600_000, 10)
        net = 3 * value.mean(axis=1) * works.mean(axis=1) * (1 - risk.mean(axis=1)) - build
        order = np.argsort(-net)
        if np.diff(np.sort(net)).min() > 20_000 and np.abs(net).min() > 20_000 and (net < 0).sum() >= 2:
            break
    rows = {f"idea {n}": (tuple(value[n]), tuple(works[n]), tuple(risk[n]), build[n]) for n in range(10)}
    return _ideas(rows), tuple(f"idea {n}" for n in order if net[n] > 0)


ENDS = (  # a wide and a narrow range, which of them is better, and which case of both alone says the opposite
    ({"wide": ((0, 600), 0.5, 0.1), "narrow": ((400, 500), 0.5, 0.1)}, "narrow", "best"),
    ({"wide": (500, (0.1, 0.9), 0.1), "narrow": (500, (0.6, 0.7), 0.1)}, "narrow", "best"),
    ({"wide": (500, 0.5, (0, 0.8)), "narrow": (500, 0.5, (0.2, 0.3))}, "narrow", "best"),
    ({"wide": ((100, 900), 0.5, 0.1), "narrow": ((300, 400), 0.5, 0.1)}, "wide", "worst"),
)


@check(
    "What does an idea bring in all years, on average? And what does it cost, whatever happens?",
    "For the average only the middle of each range matters. Risk is the probability that it may not be used.",
    "Multiply years, value, feasibility and 1 - risk, then subtract the build. Drop what is not above 0, and sort.",
)
def ranked(answer):
    """The order is that of what an idea brings less its build, in any unit of money, and without those that lose."""

    def order(ideas: pd.DataFrame, case: str, years: float = 1) -> list[str]:
        fails, give = f"ranked fails on {case}.", "a list of names"
        came = result(answer, ideas, years, case=case, hint=fails, kind=list | tuple, give=give)
        known = len(set(came)) == len(came) and set(came) <= set(ideas["name"])
        expect(known, "Give names of ideas on the list, each at most once.", case=f"For {case} it gave {came!r}.")
        return list(came)

    def same(ideas: pd.DataFrame, expected: list[str], words: str, years: float = 1) -> None:
        came = order(ideas, f"{len(ideas)} ideas", years)
        expect(came == expected, words, case=f"With years={years} and {_told(ideas)}: {came}, expected {expected}.")

    clear = _ideas({"poor": (65_000, 0.3, 0.7), "good": (550_000, 0.9, 0.05), "fair": (250_000, 0.6, 0.3)})
    words = "The best in value, in feasibility and in risk comes first, and a high risk is bad."
    same(clear, ["good", "fair", "poor"], words)
    turned = clear.iloc[[1, 2, 0]].set_axis([5, 5, 1], axis="index")
    same(turned, ["good", "fair", "poor"], "Rows may come in any order, with any index.")
    two = _ideas({"X": (500_000, 0.6, 0.3), "Y": (100_000, 0.9, 0.3)})
    cents = two.assign(value_low=100 * two["value_low"], value_high=100 * two["value_high"])
    euros, other = order(two, "two ideas in euros"), order(cents, "two ideas in cents")
    words = "The unit of money changed the order: a bound in euros is another bound in cents."
    expect(euros == other, words, case=f"In euros {euros}, in cents {other}.")
    pair = {"P": (500_000, 0.5, 0.28), "Q": (200_000, 0.6, 0.3)}
    before = order(_ideas(pair), "two ideas")
    large, small = {"W": (10_000_000, 0.05, 0.9)}, {"S": (100_000, 0.55, 0.5), "T": (90_000, 0.56, 0.4)}
    words = "What another idea on the list is like changed the order of P and Q, which stayed the same."
    for more in (large, small):
        after = order(_ideas(pair | more), "two ideas and others")
        expect([name for name in after if name in pair] == before, words, case=f"It was {before}, and is {after}.")
    risky = _ideas({"sued": (400_000, 0.8, 0.9), "safe": (300_000, 0.8, 0.1)})
    same(risky, ["safe", "sued"], "An idea came first that can be built and most likely may not be used.")
    hard = _ideas({"dream": (400_000, 0.1, 0.1), "plain": (300_000, 0.8, 0.1)})
    same(hard, ["plain", "dream"], "An idea came first that most likely cannot be built.")
    for rows, first, one in ENDS:
        came, words = order(_ideas(rows), "two ranges"), f"Both ends of a range count, not the {one} case alone."
        expect(came[:1] == [first], words, case=f"Of {rows} came {came}, expected {first!r} first.")
    words = "What does not bring more than it costs is left out."
    same(_ideas({"fine": (400, 0.5, 0.5, 20), "lost": (400, 0.5, 0.5, 900)}), ["fine"], words)
    same(_ideas({"lost": (400, 0.5, 0.5, 900)}), [], "No idea brings more than it costs here: the list is empty.")
    words = "The build is paid for also if it fails, so no probability makes it cheaper."
    same(_ideas({"hard": (1_000, 0.2, 0.0, 300), "easy": (1_000, 0.4, 0.0, 300)}), ["easy"], words)
    same(_ideas({"risky": (1_000, 1.0, 0.8, 300), "safe": (1_000, 1.0, 0.6, 300)}), ["safe"], words)
    same(_ideas({"fine": (400, 0.5, 0.5, 99.5)}), ["fine"], "This brings half a euro more than it costs.")
    words = "Subtract the build: what is left counts, not what comes back for each euro."
    same(_ideas({"small": (100, 0.8, 0.0, 5), "large": (1_000, 0.8, 0.0, 100)}), ["large", "small"], words)
    words = "The build counts: the first of the two brings more, and costs much more."
    same(_ideas({"palace": (1_000, 0.8, 0.0, 700), "hut": (800, 0.8, 0.0, 100)}), ["hut", "palace"], words)
    slow = _ideas({"slow": (400, 0.5, 0.5, 250), "quick": (300, 0.5, 0.5, 10)})
    words = "An idea brings something in each of the years, and its build is paid once."
    for years, expected in {1: ["quick"], 3: ["quick", "slow"], 10: ["slow", "quick"], 2: ["quick"]}.items():
        same(slow, expected, words, years=years)
    words = "What just covers its cost brings no more than it costs, and is left out."
    same(_ideas({"even": (400, 0.5, 0.5, 100), "fine": (400, 0.5, 0.5, 99.5)}), ["fine"], words)
    same(clear.iloc[:0], [], "Without rows the list is empty.")
    words = "On average, and less their builds, these ideas stand in another order."
    for seed in range(4):
        ideas, expected = _many_ideas(seed)
        same(ideas, list(expected), words, years=3)


FINE = ("minimal", 0.9, True)


def _facts(rows: dict[str, tuple], *, value: float = 50_000.0) -> pd.DataFrame:
    """A table of ideas from name to class, share of labels and known in time."""
    table = pd.DataFrame(list(rows.values()), columns=["eu_class", "label_share", "known_in_time"])
    return table.assign(label_share=table["label_share"].astype(float), name=list(rows), value=value)[
        ["name", "value", "eu_class", "label_share", "known_in_time"]
    ]


@check(
    "Each rule is broken, kept or unknown. Which of these settles the verdict, whatever the other rules say?",
    "A comparison with a missing value is false, so it breaks no rule. Look for missing facts in a step of its own.",
    "`isna().any(axis=1)` finds rows with a missing fact; let kill come before ask, and ask before rank.",
)
def verdicts(answer):
    """One broken rule ends an idea whatever its value, a missing fact has to be asked, and high risk ends nothing."""

    def said(ideas: pd.DataFrame, case: str) -> dict:
        fails, give = f"verdicts fails on {case}.", "a dictionary from name to verdict"
        came = result(answer, ideas, case=f"It was called on {case}.", hint=fails, kind=dict, give=give)
        missing = [name for name in ideas["name"] if name not in came]
        expect(not missing and len(came) == len(ideas), "Each idea needs one verdict.", case=f"Without one: {missing}.")
        odd = sorted({str(verdict) for verdict in came.values()} - {"kill", "ask", "rank"})
        expect(not odd, "A verdict is 'kill', 'ask' or 'rank'.", case=f"For {case} came {odd}.")
        return came

    def each(rows: dict[str, tuple], expected: str, words: str, *, value: float = 50_000.0) -> None:
        for name, verdict in said(_facts(rows, value=value), "some ideas").items():
            expect(
                verdict == expected, words, case=f"{shown(rows[name], value)} got {verdict!r}, expected {expected!r}."
            )

    def shown(facts: tuple, value: object = "") -> str:
        told = dict(zip(("eu_class", "label_share", "known_in_time"), facts, strict=True))
        return str(told if value == "" else {"value": value, **told})

    def mixed(table: pd.DataFrame, words: str) -> None:
        came = said(table, "seven ideas")
        for name, value, *facts in table.to_numpy(dtype=object).tolist():
            expected = "rank" if name == "fine" else "ask" if name.endswith("?") else "kill"
            case = f"Of seven ideas, {name!r} with {shown(facts, value)} got {came[name]!r}, expected {expected!r}."
            expect(came[name] == expected, words, case=case)

    broken = {"law": ("prohibited", 0.9, True), "label": ("minimal", 0.3, True), "time": ("minimal", 0.9, False)}
    each({"fine": FINE}, "rank", "No rule ends this idea.")
    each(broken, "kill", "One of the three rules is enough to end an idea.")
    each(broken, "kill", "A rule that ends an idea is not weighed against its value.", value=50_000_000.0)
    for value in (1.0, 0.0):
        each({"poor": FINE}, "rank", "Value plays no part here, so a small one ends nothing.", value=value)
    each({"new": FINE}, "rank", "Value plays no part here, also if it is missing.", value=np.nan)
    allowed = {name: (name, 0.9, True) for name in ("high", "limited", "minimal")}
    each(allowed, "rank", "A use of this class may be built, with the duties of its class.")
    unknown = {"law": (None, 0.9, True), "label": ("minimal", None, True), "time": ("minimal", 0.9, None)}
    for name, facts in unknown.items():
        table = _facts({name: facts})
        verdict = said(table, "an idea with a missing fact")[name]
        case = f"{shown(table.to_numpy(dtype=object).tolist()[0][2:])} got {verdict!r}."
        expect(verdict != "rank", "A missing answer is not a good one: a rule might still end the idea.", case=case)
        expect(verdict != "kill", "A missing fact ends nothing: somebody has to be asked.", case=case)
    settled = {"law": ("prohibited", None, None), "label": (None, 0.3, None), "time": (None, None, False)}
    each(settled, "kill", "Nobody has to be asked about an idea that a rule has ended already.")
    each({"edge": ("minimal", 0.5, True)}, "rank", "Half of the labels are not under 0.5.")
    each({"edge": ("minimal", 0.49, True)}, "kill", "Fewer than half of the labels are too few.")
    each({"none": ("minimal", 0.0, True)}, "kill", "No label at all is too few.")
    each({"all": (None, None, None)}, "ask", "Nothing is known, so nothing is settled.")
    table = _facts({**broken, **{f"{name}?": facts for name, facts in unknown.items()}, "fine": FINE})
    columns = table[["eu_class", "known_in_time"]].astype(object)
    mixed(table.assign(**columns.where(columns.notna(), np.nan)), "A fact is missing if it is None or NaN.")
    table["value"] = [4e5, 2e5, 6e5, 1e5, 5e5, 7e5, 3e5]
    mixed(table, "Each idea is judged by its own row, whatever its value is.")
    table = table.sample(frac=1, random_state=4).set_axis([3] * len(table), axis="index")
    mixed(table, "Each idea is judged by its own row, whatever the order and the index.")
    nothing = said(table.iloc[:0], "no idea")
    expect_same(nothing, {}, "Without rows, return an empty dictionary.", case="A list without rows")
