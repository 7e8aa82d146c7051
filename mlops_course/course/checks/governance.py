"""Checks of governance: a score, the way back from an answer, sums that add up, and a deletion."""

import functools
import gc
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from mlops_course import flights
from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import attempt, expect_error, result

__all__ = ["YourTurn", "forget", "hint", "readiness_score", "summarise", "summary", "trace"]


SECTIONS = ("data", "model", "infrastructure", "monitoring")


def _tests(**sections: tuple[int, int, int]) -> pd.DataFrame:
    """Tests by section, as the numbers of automated ones, of those by hand, and of those not done."""
    kinds = ("automated", "by hand", None)
    rows = [
        (section, f"test {number} {kind} in {section}", kind)
        for section, numbers in sections.items()
        for kind, times in zip(kinds, numbers, strict=True)
        for number in range(times)
    ]
    return pd.DataFrame(rows, columns=["section", "name", "done"]).astype({"done": object})


@check(
    "First points for each test, then a sum for each section, then one number of four.",
    "A dictionary or `Series.map` turns words into points; which sections must be among the four, whatever came in?",
    "`Series.reindex` asks for names, and fills in what is not there.",
)
def readiness_score(answer):
    """The score is that of the weakest of the four sections, also where nobody has written a word about it."""

    def ask(tests: pd.DataFrame, expected: float, words: str, *, case: str) -> None:
        came = result(answer, tests, case=case, hint=f"readiness_score fails on {case}.")
        expect_same(came, expected, words, case=f"The score of {case}")

    full = (7, 0, 0)
    three = dict.fromkeys(SECTIONS[:3], full)
    words = "An average hides what is missing: the score is that of the weakest section."
    ask(_tests(**three, monitoring=(0, 0, 7)), 0, words, case="7, 7, 7 and 0 points")
    ask(_tests(data=(3, 0, 4), model=(2, 0, 5), infrastructure=full, monitoring=(6, 0, 1)), 2, words, case="3, 2, 7, 6")
    words = "Half a point for a test that is done by hand."
    ask(_tests(**three, monitoring=(0, 3, 4)), 1.5, words, case="7, 7, 7, and three by hand")
    words = "A section has all its points together, automated and by hand."
    ask(_tests(**three, monitoring=(2, 3, 2)), 3.5, words, case="7, 7, 7, and two automated with three by hand")
    words = "A section that no row names has 0 points, and so is the weakest."
    ask(_tests(**three), 0, words, case="three full sections, and no row about monitoring")
    words = "Rows of a section of their own do not count, or nobody can compare two teams."
    ask(_tests(**three, monitoring=full, culture=(1, 0, 0)), 7, words, case="four full sections and one of culture")
    words = "More rows without a point changed the score: points are added, not divided by the number of rows."
    ask(_tests(**three, monitoring=(2, 0, 1)), 2, words, case="7, 7, 7, and two of three")
    ask(_tests(**three, monitoring=(2, 0, 9)), 2, words, case="7, 7, 7, and two of eleven")
    ask(_tests(**dict.fromkeys(SECTIONS, (0, 0, 7))), 0, "Nothing is done, and so no point.", case="28 tests not done")
    ask(_tests(), 0, "Without any row all four sections have 0 points.", case="an empty table")
    rng = np.random.default_rng(14)
    for number in range(8):
        counts = {section: tuple(int(n) for n in rng.multinomial(7, [0.4, 0.35, 0.25])) for section in SECTIONS}
        expected = min(automated + by_hand / 2 for automated, by_hand, _ in counts.values())
        tests = _tests(**counts).sample(frac=1, random_state=number).set_axis([1] * 28, axis="index")
        words = "Points of each section come from its own rows, in any order and with any index."
        ask(tests, expected, words, case=f"(automated, by hand, not done) of {counts}")
    nan = _tests(**three, monitoring=(2, 1, 4))
    nan = nan.assign(done=nan["done"].where(nan["done"].notna(), np.nan))
    ask(nan, 2.5, "A missing value gives no point, None or NaN.", case="7, 7, 7 and 2.5 with NaN for not done")


@functools.cache
def _records() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Answers, releases and models: version 1, then 2, rolled back to 1, then 3; 7 was never released."""
    released = [(0, 1, "duty manager"), (10, 2, "night manager"), (12, 1, "on call"), (20, 3, "head of operations")]
    asked = {
        "first": (5, 1), "at once": (10, 2), "second": (11.9, 2), "after rollback": (15, 1), "third": (25, 3),
        "too early": (-1, 1), "from a laptop": (16, 7), "wrong version": (11.5, 1),
    }  # fmt: skip
    releases = pd.DataFrame(released, columns=["when", "version", "approver"])
    answers = pd.DataFrame([(name, *row) for name, row in asked.items()], columns=["id", "time", "version"])
    for table, column in ((releases, "when"), (answers, "time")):
        table[column] = pd.Timestamp("2013-04-01T04:00Z") + pd.to_timedelta(table[column], unit="D")
    models = [(3, "cc33", "ff33"), (1, "aa11", "dd11"), (2, "bb22", "ee22")]
    return answers, releases, pd.DataFrame(models, columns=["version", "data_version", "code_version"])


@check(
    "Three look-ups: the answer by its id, the release by time, the model by its version.",
    "Of all releases that are not later than the answer, which is the newest? Then compare its version.",
    "`nlargest(1, 'when')` finds the newest; a table that is empty after a comparison means: unknown.",
)
def trace(answer):
    """Each answer leads to who answered for it then, and what is not on record is said to be unknown."""
    answers, releases, models = _records()
    parts = models.set_index("version")

    def ask(id: str, approver: str, words: str, *, table: pd.DataFrame = releases) -> None:
        came = result(answer, id, answers, table, models, case=id, hint=f"trace fails for the answer {id!r}.")
        when, version = answers.set_index("id").loc[id, ["time", "version"]]
        made = parts.loc[version].to_dict() if version in parts.index else dict.fromkeys(parts.columns, "unknown")
        known = "; ".join(f"{row.when:%d %B %H:%M} version {row.version}, {row.approver}" for row in table.itertuples())
        case = f"An answer of version {version} on {when:%d %B %H:%M}, with the releases ({known}),"
        named = came.get("approver") if isinstance(came, dict) else None
        if isinstance(named, str):
            expect(named == approver, words, case=f"{case} got the approver {named!r}, expected {approver!r}.")
        words = "Data and code are those of the version that answered; unknown where it is not registered."
        expect_same(came, {"version": int(version), "approver": approver, **made}, words, case=case)

    ask("first", "duty manager", "There was one release, and it was in effect.", table=releases.head(1))
    words = "What was released after the answer did not decide it: look at the releases up to then."
    ask("first", "duty manager", words, table=releases.head(2))
    ask("second", "night manager", "The newest release up to the answer was in effect.", table=releases.head(2))
    words = "From a rollback on, whoever approved the rollback answers for that version."
    ask("after rollback", "on call", words)
    ask("first", "duty manager", "What was approved later, by a rollback, did not decide this answer.")
    ask("third", "head of operations", "The newest release up to the answer was in effect.")
    ask("at once", "night manager", "A release is in effect from its very instant: compare with <=.")
    newest = {"second": "night manager", "after rollback": "on call", "third": "head of operations"}
    for table in (releases[::-1], releases.iloc[[1, 0, 3, 2]].set_axis([4] * 4, axis="index")):
        for id, approver in newest.items():
            words = "Releases come in any order: find the newest by its time, not by its place."
            ask(id, approver, words, table=table)
    words = "Who approved another version has never approved this answer: the approver is unknown."
    ask("wrong version", "unknown", words)
    ask("from a laptop", "unknown", words)
    ask("too early", "unknown", "Before the first release nobody had approved anything.")
    words = "An id that is not on record was not refused: raise a LookupError instead of an answer."
    expect_error(lambda: answer("never asked", answers, releases, models), LookupError, words)


def _item(ids: list[str] | None = None, made_from: tuple[str, ...] = ()) -> dict:
    """An artefact with rows of these ids, or with none."""
    rows = None if ids is None else pd.DataFrame({"id": ids, "value": np.arange(len(ids)) + 0.5}).astype({"id": object})
    return {"rows": rows, "made_from": list(made_from)}


def _drawn(store: dict) -> str:
    """A store in a few words, such as 'raw [AA1], model from raw'."""
    parts = []
    for name, item in store.items():
        ids = "" if item["rows"] is None else f" [{', '.join(item['rows']['id'])}]"
        parts.append(name + ids + (f" from {' and '.join(item['made_from'])}" if item["made_from"] else ""))
    return ", ".join(parts)


def _forgotten(store: dict, ids: list[str]) -> dict:
    """What is left, by the definition: an artefact is touched if any of those behind it, or itself, lists an id."""

    def behind(name: str) -> set[str]:
        return {name}.union(*map(behind, store[name]["made_from"]))

    def lists(name: str) -> bool:
        return store[name]["rows"] is not None and bool(set(ids) & set(store[name]["rows"]["id"]))

    left = {}
    for name, item in store.items():
        touched = any(map(lists, behind(name)))
        if not touched or not item["made_from"]:
            rows = item["rows"]
            left[name] = item if rows is None else {**item, "rows": rows[~rows["id"].isin(ids)]}
    return left


def _random_store(seed: int) -> tuple[dict, list[str]]:
    """Ten artefacts in any order, three of them sources, and two ids to forget."""
    rng = np.random.default_rng(seed)
    names = [f"artefact {n}" for n in rng.permutation(10)]
    store = {}
    for place, name in enumerate(names):
        size = min(place, int(rng.integers(1, 3))) if place > 2 else 0
        sources = tuple(map(str, rng.choice(names[:place], size, replace=False))) if size else ()
        ids = [f"row {n}" for n in rng.permutation(40)[: int(rng.integers(0, 8))]]
        store[name] = _item(None if sources and rng.random() < 0.5 else ids, sources)
    return {name: store[name] for name in sorted(store)}, [f"row {n}" for n in rng.permutation(40)[:2]]


def _expect_forgotten(answer: Callable, store: dict, ids: list[str], lost: str = "", kept: str = "") -> dict:
    """Ask to forget some ids, and compare what is left; `lost` and `kept` say why something has to go, or to stay."""
    case = f"In the store {_drawn(store)}, asked to forget {ids}: "
    fails = f"forget fails on the store {_drawn(store)}."
    came = result(answer, store, ids, case=case, hint=fails, kind=dict, give="the store as a dictionary")
    for name, item in came.items():
        whole = isinstance(item, dict) and item.keys() == {"rows", "made_from"} and name in store
        words = "Each artefact of the new store is one of the old, with rows and made_from."
        expect(whole, words, case=case + str(name))
        table = isinstance(item["rows"], pd.DataFrame)
        same = table == isinstance(store[name]["rows"], pd.DataFrame)
        expect(same, "A table stays a table, and None stays None.", case=f"{case}{name!r} changed its kind.")
        if table and list(item["rows"].columns) == ["id", "value"]:
            left = sorted(set(item["rows"]["id"]) & set(ids))
            words = f"{name!r} still lists {left}: a copy of the row is left."
            expect(not left, words, case=f"{case}it has to go.")
    expected = _forgotten(store, ids)
    stayed = [name for name in came if name not in expected]
    expect(not stayed, f"Still there, and to be made again: {', '.join(stayed)}. {lost}", case=f"{case}they stayed.")
    gone = [name for name in expected if name not in came]
    expect(not gone, f"Gone, and not to be: {', '.join(gone)}. {kept}", case=f"{case}they went.")
    for name, item in expected.items():
        ours = came[name]
        expect(ours["made_from"] == item["made_from"], "What it was made from stays on record.", case=case + name)
        if item["rows"] is not None:
            rows, right = ours["rows"].reset_index(drop=True), item["rows"].reset_index(drop=True)
            names = list(rows["id"]) if "id" in rows else "a table without ids"
            words = "Not these rows, but another row was changed or lost, or the order."
            expect(rows.equals(right), words, case=f"{case}{name!r} has {names}, expected {list(right['id'])}.")
    return came


@check(
    "Separate two questions: what is touched, and what happens to it.",
    "Begin with what lists the id. What was made from that? And from that? Go on until nothing new comes.",
    "A set that grows in a `while` loop ends when no artefact outside was made from one inside.",
)
def forget(answer):
    """No row is left, nor anything that was made from one, and all else is as it was."""
    ask = functools.partial(_expect_forgotten, answer)
    log, raw = _item(["UA387", "AA1", "B6 22"]), _item(["AA1", "DL5", "US2167"])
    two = {"log": log, "raw": raw, "features": _item(["AA1", "US2167"], ("raw",)), "model": _item(None, ("features",))}
    words = "It lists no such id, and was made from nothing that does: it was not touched."
    ask(two, ["UA387"], kept=words)
    flat = {"log": log, "raw": raw, "features": _item(["AA1", "US2167"], ("raw",)), "model": _item(None, ("raw",))}
    ask(flat, ["US2167"], "It lists no id itself, and yet the row has gone into it.", kept=words)
    deep = {**two, "report": _item(None, ("model",)), "slide": _item(None, ("report",))}
    ask(deep, ["US2167"], "It was made from one over several steps: follow all of them.")
    ask(deep, ["AA1"], "It was made from one over several steps: follow all of them.")
    ask(dict(reversed(deep.items())), ["US2167"], "Artefacts come in any order, also before those they were made from.")
    parted = {**two, "other": _item(["X1"]), "second model": _item(None, ("other",))}
    ask(parted, ["DL5"], "It was made from one, though itself it lists another part of the table.", kept=words)
    longer = {"raw": _item(["UA38", "UA387", "XUA38", "AA1"]), "model": _item(None, ("raw",))}
    longer |= {"other": _item(["UA387"]), "second model": _item(None, ("other",))}
    ask(longer, ["UA38"], kept="It lists another row, whose id only begins alike.")
    late = {"raw": _item(["AA1"]), "features": _item(["AA1", "UA387"], ("raw",)), "model": _item(None, ("features",))}
    ask(late, ["UA387"], "It lists the id, although its source no longer does.", kept="Its own rows are not concerned.")
    both = {"raw": raw, "log": log, "joined": _item(None, ("log", "raw")), "model": _item(None, ("joined",))}
    ask(both, ["DL5"], "One of its sources is enough.")
    ask(both, ["UA387", "DL5"], "All ids of the request count.")
    ask(both, ["nowhere"], kept="The id is nowhere, so nothing is touched.")
    ask(both, [], kept="Nobody asked for anything, so nothing is touched.")
    only = {"raw": _item(["UA387"]), "model": _item(None, ("raw",))}
    ask(only, ["UA387"], kept="A source without any row left stays, as an empty table.")
    once = ask(deep, ["AA1"])
    ask(once, ["AA1"], kept="It was forgotten already: to ask again changes nothing.")
    for seed in range(25):
        ask(*_random_store(seed), "Follow every step, from every source.", kept=words)


@functools.cache
def _september() -> pd.DataFrame:
    """Flights of September 2013, a month that the lesson does not use."""
    table = flights.read(["2013-09"])["flights"]
    return table.loc[table.index % 5 == 0, ["carrier", "arr_delay", "dep_time", "tailnum"]].reset_index(drop=True)


def _delays(*rows: tuple[str, float | None]) -> pd.DataFrame:
    """A piece of flights, with a column in which a value is missing."""
    table = pd.DataFrame(list(rows), columns=["carrier", "arr_delay"])
    return table.astype({"arr_delay": float}).assign(tailnum=pd.Series(None, index=table.index, dtype=object))


def _expected(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(subset=["arr_delay"]).groupby("carrier")["arr_delay"].agg(n="count", mean="mean", sd="std")


def _streamed(piece: pd.DataFrame, *, times: int, memory: list[int]) -> Iterator[pd.DataFrame]:
    """Copies of a piece, one by one; `memory` gets the bytes in use before the third and before the last of them."""
    for number in range(times):
        if number in (2, times - 1):
            gc.collect()
            memory.append(tracemalloc.get_traced_memory()[0])
        yield piece.copy()


def _kept(answer: Callable, piece: pd.DataFrame, *, times: int) -> float:
    """What an answer keeps in memory as it goes through equal pieces, in columns of delays; partial sums are small."""
    memory, begun = [], not tracemalloc.is_tracing()
    if begun:
        tracemalloc.start()
    try:
        answer(_streamed(piece, times=times, memory=memory))
    finally:
        if begun:
            tracemalloc.stop()
    return (memory[-1] - memory[0]) / piece["arr_delay"].to_numpy().nbytes


@check(
    "A mean does not add up. Which two numbers do, from which a mean is made at the end?",
    "For the spread there is a third: the sum of squares. Keep three numbers for each carrier.",
    "`DataFrame.add(..., fill_value=0)` adds tables with different carriers.",
    "With n, s and q for number, sum and sum of squares, the squared distances from the mean are q - s * s / n in all.",
)
def summarise(answer):
    """However the flights are cut, number, mean and spread are the same, and no piece is kept."""

    def ask(pieces: list[pd.DataFrame], case: str, **words: str) -> None:
        fails, give = f"summarise fails on {case}.", "a table with a row a carrier"
        made = (piece.copy() for piece in pieces)
        came = result(answer, made, case=case, hint=fails, kind=pd.DataFrame, give=give)
        columns = sorted(map(str, came.columns))
        expect(columns == ["mean", "n", "sd"], f"Give the columns n, mean and sd, not {columns}.")
        expected = _expected(pd.concat(pieces, ignore_index=True))
        found, carriers = list(came.index), list(expected.index)
        lost, extra = set(carriers) - set(found), set(map(str, found)) - set(carriers)
        expect(not lost, f"A carrier is missing: {words.get('n', '')}", case=f"For {case} there is no {sorted(lost)}.")
        expect(not extra, "A carrier without any known delay is left out.", case=f"For {case} came {sorted(extra)}.")
        expect(found == carriers, "Sort by carrier, one row each.", case=f"For {case} came {found}.")
        for column in filter(words.get, ("n", "mean", "sd")):
            ours, theirs = expected[column].astype(float), came[column].astype(float)
            expect_same(theirs, ours, words[column], case=f"For {case} the column {column}", tolerance=1e-6)

    def all_three(words: str) -> dict[str, str]:
        return dict.fromkeys(("n", "mean", "sd"), words)

    one = _delays(("UA", 1), ("UA", 3), ("UA", 8), ("B6", -2), ("B6", 6))
    usual = {"n": "Count the flights of each carrier.", "mean": "It is the mean of its delays."}
    ask([one], "one piece", **usual, sd="It has the divisor n - 1, as in pandas.")
    uneven = [_delays(("UA", 0), ("UA", 2), ("UA", 4), ("UA", 6), ("UA", 8)), _delays(("UA", 40), ("UA", 60))]
    words = "A mean of means counts a small piece as much as a large one: add up what can be added."
    ask(uneven, "a piece of five flights and one of two", n="Numbers of all pieces are added.", mean=words)
    steady = [_delays(("UA", 10), ("UA", 10)), _delays(("UA", 50), ("UA", 50))]
    words = "Delays also spread between pieces: within each of these they do not."
    ask(steady, "two pieces, each of equal delays", n="Add the numbers.", mean="Add the sums.", sd=words)
    other = [_delays(("UA", 1), ("UA", 3)), _delays(("B6", 5), ("B6", 9)), _delays(("UA", 8), ("AA", 1), ("AA", 4))]
    words = "A carrier that is not in every piece counts where it is."
    ask(other, "three pieces with different carriers", **all_three(words))
    gaps = [_delays(("UA", 1), ("UA", None), ("B6", None)), _delays(("UA", 5), ("B6", 3), ("B6", 4))]
    words = "A flight without a known delay does not count, in none of the columns."
    ask(gaps, "two pieces with missing delays", **all_three(words))
    ask([*gaps, _delays(("AA", None), ("UA", 7))], "a carrier without any known delay", **all_three(words))
    empty = [one.head(0), one.head(2), one.head(0), one.tail(3)]
    ask(empty, "pieces of which two are empty", **all_three("An empty piece changes nothing."))
    single = [_delays(("UA", 4)), _delays(("AA", 2), ("AA", 6))]
    words = "One flight has no spread: missing, not 0."
    ask(single, "a carrier with one flight", n="One flight is one.", mean="Its delay is the mean.", sd=words)
    zero = [_delays(("UA", 0), ("UA", 0), ("AA", -5), ("AA", -5))]
    ask(zero, "delays that are all equal", n="Zero is a known delay.", mean="All are equal.", sd="There is no spread.")
    rows, rng = _september(), np.random.default_rng(9)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    for number in (1, 2, 7, 30):
        cuts = np.sort(rng.integers(0, len(rows) + 1, number - 1))
        pieces = [shuffled.iloc[part] for part in np.split(np.arange(len(rows)), cuts)]
        words = "The result depends on how the month is cut."
        ask(pieces, f"flights of September in {number} pieces", **all_three(words))
    kept = attempt(lambda: _kept(answer, rows, times=30), hint="summarise fails on thirty pieces.")
    words = "Only two pieces fit into memory at a time: add up each one, and let it go, with all its values."
    expect(kept < 14, words, case="With thirty pieces, memory grew from each to the next.")
