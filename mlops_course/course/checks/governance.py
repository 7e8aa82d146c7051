"""Checks of governance: a score, the way back from an answer, keyed hashes, and a deletion."""

import functools
import hmac
import inspect
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import expect_error, result

__all__ = ["YourTurn", "deleted_before", "forget", "hint", "readiness_score", "summary", "trace"]


SECTIONS = ("data", "model", "infrastructure", "monitoring")


def _tests(**sections: tuple[int, int, int]) -> pd.DataFrame:
    """Tests by section, as the numbers of automated ones, of those by hand, and of those not done."""
    kinds = ("automated", "by hand", None)
    rows = [
        (section, f"test {number}", kind)
        for section, numbers in sections.items()
        for kind, times in zip(kinds, numbers, strict=True)
        for number in range(times)
    ]
    return pd.DataFrame(rows, columns=["section", "name", "done"], dtype=object)  # in which None stays None


@check(
    "First points for each test, then a sum for each section, then one number out of four.",
    "A dictionary or `Series.map` turns words into points. Which sections must be among the four, whatever came in?",
    "`Series.reindex` asks for names, and fills in what is not there.",
)
def readiness_score(answer):
    """The score is that of the weakest of the four sections, also if nobody has written a word about it."""

    def ask(tests: pd.DataFrame, expected: float, words: str, *, case: str) -> None:
        came = result(answer, tests, case=case, hint=f"readiness_score fails on {case}. {words}")
        expect_same(came, expected, words, case=f"The score of {case}")

    ask(_tests(**dict.fromkeys(SECTIONS, (0, 0, 7))), 0, "A test that is not done gives no point.", case="28 not done")
    full = (7, 0, 0)
    whole, three = dict.fromkeys(SECTIONS, full), dict.fromkeys(SECTIONS[:3], full)
    words = "Points of a section are added, and the score is the sum of one section, the weakest."
    ask(_tests(**whole), 7, words, case="7, 7, 7 and 7 points")
    words = "Two tests may have the same name, and each counts."
    ask(_tests(**whole).assign(name="a test"), 7, words, case="7, 7, 7 and 7 points, all of one name")
    words = "The score is that of the weakest section: what is done elsewhere makes up for nothing."
    for weak in SECTIONS:
        ask(_tests(**{**whole, weak: (0, 0, 7)}), 0, words, case=f"7 points in each section, but 0 in {weak}")
    ask(_tests(data=(3, 0, 4), model=(2, 0, 5), infrastructure=full, monitoring=(6, 0, 1)), 2, words, case="3, 2, 7, 6")
    words = "A test that is done by hand gives half a point."
    ask(_tests(**three, monitoring=(0, 3, 4)), 1.5, words, case="7, 7, 7, and three by hand")
    words = "A section has the sum of all its points, automated and by hand."
    ask(_tests(**three, monitoring=(2, 3, 2)), 3.5, words, case="7, 7, 7, and two automated with three by hand")
    words = "A section without any row has 0 points, so it is the weakest."
    ask(_tests(**three), 0, words, case="three full sections, and no row about monitoring")
    ask(_tests(), 0, words, case="an empty table")
    words = "Rows of a section other than the four do not count."
    ask(_tests(**whole, culture=(1, 0, 0)), 7, words, case="four full sections and one of culture")
    for other in ("monitoring costs", "Monitoring", " monitoring", "our monitoring"):
        tests = _tests(**three, monitoring=(2, 0, 5), **{other: full})
        ask(tests, 2, words, case=f"7, 7, 7, two of monitoring and seven of {other!r}")
    words = "More rows without a point changed the score: points are added, not divided by the number of rows."
    ask(_tests(**three, monitoring=(2, 0, 1)), 2, words, case="7, 7, 7, and two of three")
    ask(_tests(**three, monitoring=(2, 0, 9)), 2, words, case="7, 7, 7, and two of eleven")
    nine = dict.fromkeys(SECTIONS, (9, 1, 0))
    ask(_tests(**nine), 9.5, "Every point counts, also the tenth.", case="four sections of nine automated, one by hand")
    nan = _tests(**three, monitoring=(2, 1, 4))
    nan = nan.assign(done=nan["done"].where(nan["done"].notna(), np.nan))
    ask(nan, 2.5, "A missing value gives no point, None or NaN.", case="7, 7, 7 and 2.5 with NaN for not done")
    rng = np.random.default_rng(14)
    for number in range(8):
        counts = {section: tuple(int(n) for n in rng.multinomial(7, [0.4, 0.35, 0.25])) for section in SECTIONS}
        expected = min(automated + by_hand / 2 for automated, by_hand, _ in counts.values())
        tests = _tests(**counts).sample(frac=1, random_state=number).set_axis([1] * 28, axis="index")
        words = "Points of each section come from its own rows, in any order and with any index."
        ask(tests, expected, words, case=f"(automated, by hand, not done) of {counts}")


@functools.cache
def _records() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Answers, releases and models: version 1, then 2, rolled back to 1, then 3; 7 was never released."""
    released = [(0, 1, "duty manager"), (10, 2, "night manager"), (12, 1, "on call"), (20, 3, "head of operations")]
    asked = {
        "UA387": (25, 3), "UA38": (5, 1), "at once": (10, 2), "just before": (9.999, 1), "second": (11.9, 2),
        "after rollback": (15, 1), "third": (25, 3), "too early": (-1, 1), "from a laptop": (16, 7),
        "wrong version": (11.5, 1),
    }  # fmt: skip
    releases = pd.DataFrame(released, columns=["when", "version", "approver"])
    answers = pd.DataFrame([(name, *row) for name, row in asked.items()], columns=["id", "time", "version"])
    for table, column in ((releases, "when"), (answers, "time")):
        table[column] = pd.Timestamp("2013-04-01T04:00Z") + pd.to_timedelta(table[column], unit="D")
    models = [(3, "cc33", "ff33"), (1, "aa11", "dd11"), (2, "bb22", "ee22")]
    return answers, releases, pd.DataFrame(models, columns=["version", "data_version", "code_version"])


@check(
    "There are three look-ups: the answer by its id, the release by time, the model by its version.",
    "Of all releases that are not later than the answer, which is the newest? Then compare its version.",
    "`nlargest(1, 'when')` finds the newest; a table that is empty after a comparison means: unknown.",
)
def trace(answer):
    """Each answer leads to the person responsible at that time, and what is not on record is said to be unknown."""
    answers, releases, models = _records()
    parts, known = models.set_index("version"), answers.set_index("id")

    def ask(id: str, approver: str, words: str, *, table=releases, given=answers) -> None:
        came = result(answer, id, given, table, models, case=id, hint=f"trace fails for the answer {id!r}. {words}")
        when, version = known.loc[id, ["time", "version"]]
        made = parts.loc[version].to_dict() if version in parts.index else dict.fromkeys(parts.columns, "unknown")
        told = "; ".join(f"{row.when:%d %B %H:%M} version {row.version}, {row.approver}" for row in table.itertuples())
        case = f"{id!r}, an answer of version {version} on {when:%d %B %H:%M}, with the releases ({told or 'none'}),"
        expected = {"version": int(version), "approver": approver, **made}
        plain = isinstance(came, dict) and all(map(np.isscalar, came.values()))
        if plain and came.get("version") != version and id == "UA38":
            expect(False, words, case=f"{case} got the version of another one.")
        if plain and isinstance(came.get("approver"), str):
            expect(came["approver"] == approver, words, case=f"{case} got {came['approver']!r}, expected {approver!r}.")
        words = "Version, data and code are those of the answer with this id; unknown where nothing is registered."
        for key in expected if plain and came.keys() == expected.keys() else ():
            same = came[key] == expected[key]
            expect(same, words, case=f"{case} got {came[key]!r} under {key!r}, expected {expected[key]!r}.")
        expect_same(came, expected, words, case=case)

    two, three = releases.head(2), releases.iloc[2:3]
    up_to = "The newest release up to the answer was in effect."
    given = answers[answers["id"] == "after rollback"].reset_index(drop=True)
    ask("after rollback", "on call", up_to, table=three.reset_index(drop=True), given=given)
    words = "Tables have any index: take a row by its place, or by what is in it, and not by a label."
    ask("after rollback", "on call", words, table=three)
    words = "What was released after the answer did not decide it: look at the releases up to then."
    ask("just before", "duty manager", words, table=two)
    ask("second", "night manager", up_to, table=two)
    words = "From a rollback on, the person who approved the rollback is responsible for that version."
    ask("after rollback", "on call", words)
    ask("just before", "duty manager", "What was approved later, by a rollback, did not decide this answer.")
    ask("third", "head of operations", up_to)
    ask("at once", "night manager", "A release is in effect from its very instant, which is included.")
    newest = {"second": "night manager", "after rollback": "on call", "third": "head of operations"}
    for table in (releases[::-1], releases.iloc[[1, 0, 3, 2]].set_axis([4] * 4, axis="index")):
        for id, approver in newest.items():
            words = "Releases come in any order, with any index: find the newest by its time, not by its place."
            ask(id, approver, words, table=table)
    words = "Version 7 is not in models: its data and code are unknown, and its release has an approver all the same."
    ask("from a laptop", "duty manager", words, table=releases.head(1).assign(version=7))
    words = "The approver of another version has never approved this answer: the approver is unknown."
    ask("wrong version", "unknown", words)
    ask("from a laptop", "unknown", words)
    ask("too early", "unknown", "Before the first release nobody had approved anything.")
    ask("second", "unknown", "Without any release nobody had approved anything.", table=releases.head(0))
    ask("UA38", "duty manager", "Look for exactly that id.")
    ask("UA38", "duty manager", "Look for exactly that id.", given=answers[::-1])
    one = answers.set_axis([4] * len(answers), axis="index")
    ask("second", "night manager", "Answers may have any index.", given=one)
    for id in ("never asked", "UA3", "ua387", "UA387 "):
        words = "An id that is not on record was not refused: raise a LookupError instead of an answer."
        expect_error(functools.partial(answer, id, answers, releases, models), LookupError, f"{words} It was {id!r}.")


def _entry(name: str, id: str, keys: Mapping[str, bytes]) -> str:
    return f"{name}:{hmac.digest(keys[name], id.encode(), 'sha256').hex()}"


@check(
    "A keyed hash cannot be turned back. What can you hash, with what, and compare with the record?",
    "Which keys does the record name? Look each of them up first, before you look at any id.",
    "Make the entries that an id would have, one for each key, and see whether one of them is in the record.",
)
def deleted_before(answer):
    """Each id is found that was deleted under any of the keys, and a key that is gone is an error."""
    keys = {"2024": b"first secret", "2026": b"third secret", "2025": b"second secret"}

    def ask(ids: Sequence[str], expected: list[str], deleted: Sequence[tuple], words: str, keys=keys) -> None:
        record = [_entry(name, id, keys) for name, id in deleted]
        case = f"deleted_before({ids}, the entries of {list(deleted)}, the keys {list(keys)})"
        came = result(answer, list(ids), record, keys, case=case, kind=list, give="a list of ids")
        if sorted(map(str, came)) == sorted(expected):
            words = "These are the right ids in another order: keep the order of the ids."
        elif set(map(str, came)) == set(expected):
            words = "Keep the order of the ids, and give each as often as it stands there."
        expect(came == expected, words, case=f"{case} gave {came}, expected {expected}.")

    words = (
        "With one key: make the entry of each id as the task says, with `hmac.digest`, and look for it in the record."
    )
    ask(["a", "b"], ["b"], [("2026", "b")], words, {"2026": keys["2026"]})
    words = "An id may have been deleted under an older key, or a newer one: try each key that the record names."
    ask(["a", "b"], ["b"], [("2026", "b")], words)
    ask(["a", "b"], ["a"], [("2024", "a")], words)
    ask(["c", "b", "a"], ["c", "a"], [("2025", "a"), ("2024", "c")], words)
    ask(["a", "b"], ["a"], [("2026", "a"), ("2024", "a")], "An id may be on record under two keys.")
    ask(["order 1", "order 17"], ["order 17"], [("2025", "order 17")], "Ids that begin alike are not the same.")
    words = "Several ids may be on record under one key."
    ask(["c", "a", "b"], ["c", "a", "b"], [("2026", id) for id in "abc"], words)
    ask(["b", "a", "b"], ["b", "b"], [("2024", "b")], "Each id stands in the list as often as it came.")
    odd = ["a:b", "Zürich 7", " a", ""]
    ask(odd, odd, [("2025", id) for id in odd], "An id may be any text: encode it as it is.")
    names = {"old": b"1", "2025b": b"2", "2025": b"3", "the newest of all": b"4"}
    for name in names:
        ask(["a", "b"], ["b"], [(name, "b")], "The name of a key is any text before the colon, of any length.", names)
    ask([], [], [("2026", "b")], "Without ids none was deleted.")
    ask(["a"], [], [], "If the record is empty, nothing was deleted.")
    ask([], [], [], "Nothing asked and nothing on record is an empty list.")
    expect_same(answer(["a"], [], {}), [], "If the record is empty, no key is needed.", case="Without record and keys")
    mixed = _entry("2026", "a", keys)[:40] + _entry("2026", "b", keys)[40:]
    words = "Compare the whole hash: this one only begins as that of a, and ends as that of b."
    expect_same(answer(["a", "b"], [mixed], keys), [], words, case=f"With the entry {mixed[:12]}... the list")

    record = [_entry("2024", "a", keys), _entry("2026", "b", keys)]
    rest = {name: key for name, key in keys.items() if name != "2024"}
    for ids, words in (
        (["a"], "An entry is on record whose key is gone: raise a LookupError."),
        (["z"], "If the key is gone, nobody can say which id an entry means: raise a LookupError."),
        ([], "If a key is missing, raise a LookupError whatever the ids are, also if there are none."),
        (["b"], "If a key is missing, raise a LookupError, although another entry is of this id."),
    ):
        for entries in (record, record[::-1]):
            asked = f"{words} It was asked about {ids}, and the key 2024 is gone."
            expect_error(functools.partial(answer, ids, entries, rest), LookupError, asked)
    words = "The key 2025b is gone, and 2025 is another one: raise a LookupError."
    expect_error(functools.partial(answer, ["a"], [_entry("2025b", "a", names)], keys), LookupError, words)


def _item(ids: list[str] | None = None, made_from: tuple[str, ...] = ()) -> dict:
    """An artefact with rows of these ids, or with none. All rows have the same label in the index."""
    if ids is None:
        return {"rows": None, "made_from": list(made_from)}
    rows = pd.DataFrame({"id": ids, "value": np.arange(len(ids)) + 0.5}, index=[7] * len(ids)).astype({"id": object})
    return {"rows": rows, "made_from": list(made_from)}


def _drawn(store: dict) -> str:
    """A store in a few words, such as 'raw [AA1], model from raw'."""
    parts = []
    for name, item in store.items():
        ids = "" if item["rows"] is None else f" [{', '.join(item['rows']['id'])}]"
        parts.append(name + ids + (f" from {' and '.join(item['made_from'])}" if item["made_from"] else ""))
    return ", ".join(parts)


def _lists(item: dict, ids: list[str]) -> bool:
    return item["rows"] is not None and not set(ids).isdisjoint(item["rows"]["id"])


def _steps(store: dict, ids: list[str], name: str) -> float:
    """Over how many steps an artefact was made from what lists an id: 0 if it does itself, infinite if nothing does."""
    if _lists(store[name], ids):
        return 0
    return 1 + min((_steps(store, ids, source) for source in store[name]["made_from"]), default=np.inf)


def _forgotten(store: dict, ids: list[str]) -> dict:
    """What is left, by the definition: an artefact is touched if any of those behind it, or itself, lists an id."""
    left = {}
    for name, item in store.items():
        if _steps(store, ids, name) == np.inf or not item["made_from"]:
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


def _expect_forgotten(answer: Callable, store: dict, ids: list[str], kept: str = "") -> dict:
    """Ask to forget some ids, and compare what is left; `kept` says why something untouched has to stay."""
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
            every = " Forget each id of the list." if len(left) < len(ids) else ""
            expect(not left, words + every, case=f"{case}it has to go.")
    expected, order = _forgotten(store, ids), list(store)
    for name in came:
        if name not in expected:
            steps = _steps(store, ids, name)
            late = any(order.index(source) > order.index(name) for source in store[name]["made_from"])
            words = "It lists one of the ids, and can be made again."
            if steps == 1:
                words = "It lists no id itself, but it was made from something that does."
            elif steps > 1:
                words = "It was made over several steps from something that lists an id: follow all of them."
            words += " Artefacts come in any order, also before those that they were made from." if late else ""
            expect(False, f"{name!r} is still there, and has to be made again. {words}", case=f"{case}it stayed.")
    for name in expected:
        untouched = _steps(store, ids, name) == np.inf
        words = "It is a source: it loses the rows with these ids, and stays."
        if untouched:
            words = kept or "It was not touched: it lists none of the ids, and neither does anything it was made from."
        expect(name in came, f"{name!r} is gone. {words}", case=case.rstrip(": ") + ".")
    for name, item in expected.items():
        ours = came[name]
        same = list(ours["made_from"]) == item["made_from"]
        expect(same, "The names that it was made from stay on record.", case=case + name)
        if item["rows"] is not None:
            rows, right = ours["rows"].reset_index(drop=True), item["rows"].reset_index(drop=True)
            names = list(rows["id"]) if "id" in rows else "a table without ids"
            words = "These rows go and no others: equal ones stay as well, in their order, with any index."
            told = f"{case}{name!r} has {names}, expected {list(right['id'])}."
            expect(rows.astype(object).equals(right.astype(object)), words, case=told)
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
    ask(two, ["UA387"])
    flat = {"log": log, "raw": raw, "features": _item(["AA1", "US2167"], ("raw",)), "model": _item(None, ("raw",))}
    ask(flat, ["US2167"])
    deep = {**two, "report": _item(None, ("model",)), "slide": _item(None, ("report",))}
    ask(deep, ["US2167"])
    ask(deep, ["AA1"])
    ask(dict(reversed(deep.items())), ["US2167"])
    parted = {**two, "other": _item(["X1"]), "second model": _item(None, ("other",))}
    ask(parted, ["DL5"])
    alike = ["UA387", "XUA38", "ua38", "UA38 "]
    longer = {"raw": _item(["UA38", *alike, "AA1"]), "model": _item(None, ("raw",))}
    longer |= {"other": _item(alike), "second model": _item(None, ("other",))}
    ask(longer, ["UA38"], kept="It lists another row, whose id only begins alike, ends alike, or differs in case.")
    twice = {"raw": _item(["AA1", "UA387", "AA1", "DL5"]), "model": _item(None, ("raw",))}
    ask(twice, ["AA1"])
    for value in (0.5, None):  # rows that are equal, and rows in which a value is missing
        rows = twice["raw"]["rows"].assign(value=value)
        ask({**twice, "raw": {"rows": rows, "made_from": []}}, ["UA387"])
    late = {"raw": _item(["AA1"]), "features": _item(["AA1", "UA387"], ("raw",)), "model": _item(None, ("features",))}
    ask(late, ["UA387"])
    both = {"raw": raw, "log": log, "joined": _item(None, ("log", "raw")), "model": _item(None, ("joined",))}
    ask(both, ["DL5"])
    ask(both, ["UA387", "DL5"])
    ask(both, ["nowhere"], kept="The id is nowhere, so nothing is touched.")
    ask(both, [], kept="No id was given, so nothing is touched.")
    only = {"raw": _item(["UA387"]), "model": _item(None, ("raw",)), "empty": _item([])}
    ask(only, ["UA387"])
    ask({}, ["UA387"])
    once = ask(deep, ["AA1"])
    ask(once, ["AA1"], kept="The id was forgotten already: to ask again changes nothing.")
    for seed in range(25):
        ask(*_random_store(seed))
    for ids in ([], ["nowhere"]):
        store = dict(both)
        same = inspect.unwrap(answer)(store, ids) is store
        expect(
            not same, "Give a new dictionary, also if nothing is touched: the very same came back.", case=f"For {ids}."
        )
