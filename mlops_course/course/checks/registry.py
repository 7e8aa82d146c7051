"""Checks of registry: champions, the way back, contracts, altered files, a history."""

import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from mlops_course.course.checks import Rejected, YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.answers import brief
from mlops_course.course.checks.cases import expect_error, expect_items, result

__all__ = ["YourTurn", "altered", "champion", "hint", "note", "refusals", "summary", "way_back"]


@check(
    "Which entries make a version champion, and which of these came last?",
    "Keep the entries whose event is one of the two; the last one is that with the highest `number`.",
    nothing=True,
)
def champion(answer):
    """It is what the last promotion or rollback says, in whatever order the entries come."""

    def ask(entries: list[tuple[int, str, int]], expected: int | None, words: str) -> None:
        history = [{"number": n, "event": event, "version": version} for n, event, version in entries]
        case = f"champion of (number, event, version) {entries}"
        came = result(answer, history, case=case)
        expect(came is not None or expected is None, words, case=f"{case} gave None, expected {expected}.")
        expect(expected is not None or came is None, words, case=f"{case} gave {came!r}, expected None.")
        expect_same(came, expected, words, case=case)

    ask([(1, "promoted", 4)], 4, "The only version that was promoted is champion.")
    words = "The last promotion counts, and not the highest number of a version."
    ask([(1, "promoted", 4), (2, "promoted", 2)], 2, words)
    tried = [(1, "promoted", 4), (2, "shadow", 5), (3, "canary", 5), (4, "trial ended", 5)]
    ask(tried, 4, "A trial changes nothing.")
    ask([*tried, (5, "approved", 6)], 4, "An event that does not exist yet changes nothing.")
    ask([(1, "promoted", 1), (2, "promoted", 3), (3, "rolled back", 1)], 1, "It was rolled back to version 1.")
    twice = [(1, "promoted", 1), (2, "promoted", 2), (3, "promoted", 3), (4, "rolled back", 2), (5, "rolled back", 1)]
    ask(twice, 1, "It was rolled back twice, to version 1 in the end.")
    words = "A rollback names the version that it leads to, which may be further back than by one."
    ask([(1, "promoted", 1), (2, "promoted", 2), (3, "promoted", 3), (4, "rolled back", 1)], 1, words)
    words = "The oldest entries are in an archive. The rollback names the version that it leads to."
    ask([(7, "promoted", 5), (8, "rolled back", 2)], 2, words)
    ask([(8, "rolled back", 2)], 2, words)
    words = "Only the events that the task names make a version champion."
    ask([(1, "promoted", 1), (2, "promoted to canary", 2)], 1, words)
    for event in ("not rolled back", "Promoted", "rolled_back"):
        ask([(1, "promoted", 1), (2, event, 2)], 1, words)
    mixed = [(3, "rolled back", 1), (1, "promoted", 1), (2, "promoted", 3)]
    ask(mixed, 1, "The list may be in any order: the number says what came last.")
    ask([(2, "promoted", 3), (3, "shadow", 7), (1, "promoted", 1)], 3, "The list may be in any order.")
    ask([(9, "promoted", 2), (10, "promoted", 8)], 8, "The number 10 comes after 9, and numbers need not begin with 1.")
    ask([], None, "Without an entry there is no champion.")
    ask([(1, "shadow", 5)], None, "A version on trial is no champion.")


def _below(history: list[tuple[str, int]]) -> int | None:
    champions = []
    for event, version in history:
        if event == "promoted":
            champions.append(version)
        elif event == "rolled back":
            del champions[-1]
    return champions[-2] if champions[1:] else None


@check(
    "Which version is champion after each step? Write it down for promotions of 1, 2 and 3 and two rollbacks.",
    "Keep a list of champions. What does a promotion do to it, and what does a rollback?",
    "A rollback takes the last one away. The way back is the last but one that is left.",
    nothing=True,
)
def way_back(answer):
    """A rollback leads to the champion before, and the next one further back."""

    def ask(history: list[tuple[str, int]], expected: int | None, words: str) -> None:
        case = f"way_back({history})"
        came = result(answer, history, case=case)
        expect(came == expected, words, case=f"{case} gave {came!r}, expected {expected!r}.")

    def promoted(*versions: int) -> list[tuple[str, int]]:
        return [("promoted", version) for version in versions]

    ask(promoted(1, 3), 1, "It leads to the champion before, whatever its number.")
    ask(promoted(5, 2), 5, "It leads to the champion before, whatever its number.")
    ask([("promoted", 1), ("canary", 2), ("trial ended", 2), ("promoted", 3)], 1, "Version 2 was never champion.")
    ask(promoted(1), None, "There is no champion before the first one, so there is no way back.")
    ask([], None, "There is no champion at all, and no champion before.")
    back = [*promoted(1, 2, 3), ("rolled back", 2)]
    ask(back, 1, "Version 3 had to go and does not count any more: 2 is champion, and 1 was champion before it.")
    ask([*back, ("rolled back", 1)], None, "After two rollbacks there is no champion before.")
    far = [*promoted(1, 2, 3, 4, 5), *(("rolled back", version) for version in (4, 3, 2))]
    ask(far, 1, "The way back goes on to the very first one.")
    ask([*back, ("promoted", 4)], 2, "Version 4 followed version 2, which was champion after the rollback.")
    ask([*promoted(1, 3), ("rolled back", 1), ("promoted", 3)], 1, "A version may be promoted again.")
    steps = [*promoted(1, 3, 1), ("rolled back", 3), ("rolled back", 1), ("promoted", 9)]
    ask(steps, 1, "A version may be champion twice, and each time counts. Step by step it is version 1.")
    ask([*promoted(6, 2, 6, 4), ("rolled back", 6)], 2, "Version 6 is champion for the second time, and 2 was before.")
    rng = np.random.default_rng(9)
    for _ in range(150):
        history, standing = [], []
        for _ in range(rng.integers(1, 12)):
            kind = rng.choice(["promoted", "rolled back", "shadow", "trial ended"], p=[0.5, 0.3, 0.1, 0.1])
            version = int(rng.choice([v for v in range(1, 7) if not standing or v != standing[-1]]))
            if kind == "promoted":
                standing.append(version)
            elif kind == "rolled back":
                if len(standing) < 2:
                    continue
                standing.pop()
                version = standing[-1]
            history.append((str(kind), version))
        ask(history, _below(history), "Step by step it is another version.")


KINDS = ("long", "double", "string", "datetime")


@check(
    "Go through the inputs of the contract. Is each sent, and as which kind?",
    "If an input is not sent, it only matters whether it may be missing. If it is sent, only its kind matters.",
)
def refusals(answer):
    """What is needed is there, of a kind that fits; what is sent beyond it does no harm."""

    def ask(contract: dict[str, tuple[str, bool]], sent: dict[str, str], expected: list[str], words: str) -> None:
        case = f"refusals({contract}, sent={sent})"
        came = result(answer, contract, sent, case=case, kind=list, give="a list of names")
        expect_items(came, expected, words, case=case)

    one, optional = {"temp": ("double", False)}, {"temp": ("double", True)}
    ask(one, {"temp": "double"}, [], "It is sent as it is asked for.")
    ask(one, {}, ["temp"], "Nobody sends it, and the model needs it.")
    ask(one, {"temp": "double", "mood": "string"}, [], "What is sent and not asked for is no reason.")
    ask(optional, {}, [], "It may be missing.")
    ask(one, {"temp": "string"}, ["temp"], "It is sent as another kind.")
    ask(optional, {"temp": "string"}, ["temp"], "It is sent as another kind, also if it may be missing.")
    ask(one, {"temp": "long"}, [], "A whole number fits where a double is asked for.")
    words = "A double does not fit where a whole number is asked for."
    ask({"seats": ("long", False)}, {"seats": "double"}, ["seats"], words)
    ask({"seats": ("long", True)}, {"seats": "long"}, [], "A whole number fits itself.")
    words = "A text is no datetime, and a datetime is no text."
    ask({"when": ("datetime", False)}, {"when": "string"}, ["when"], words)
    ask({"when": ("string", False)}, {"when": "datetime"}, ["when"], words)
    ask(one, {"Temp": "double"}, ["temp"], "Temp and temp are two names.")
    three = {"b": ("string", False), "c": ("datetime", False), "a": ("long", False)}
    ask(three, {"c": "string"}, ["a", "b", "c"], "Give the names sorted.")
    capitals = {"b": ("string", False), "C": ("long", False), "a": ("long", False)}
    ask(capitals, {}, ["C", "a", "b"], "Sort as `sorted` does it: capital letters come first.")
    ask({}, {"a": "long"}, [], "A contract without inputs asks for nothing.")
    for kind, other, optional in itertools.product(KINDS, KINDS, (True, False)):
        fits = kind == other or (kind, other) == ("double", "long")
        ask({"x": (kind, optional)}, {"x": other}, [] if fits else ["x"], f"Asked for {kind}, and {other} came.")


@check(
    "Make the same dictionary from the folder as it is now, and compare the two.",
    "`path.read_bytes()` and `hashlib.sha256(...).hexdigest()` give the digest of a file.",
    "Names that are in one of the dictionaries only belong to the result as well.",
)
def altered(answer):
    """Changed, removed and added files are all named."""
    lines, model, contract = b"one\r\ntwo\n", bytes(range(256)), b'{"threshold": 0.2}'
    files = {"model.skops": model, "contract.json": contract, "lines.txt": lines, "weights.bin": bytes(200_000)}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    def ask(
        changes: dict[str, bytes | None], expected: list[str], words: str, *, on_record: dict[str, str] = digests
    ) -> None:
        told = ", ".join(f"{name} {'missing' if to is None else 'changed or added'}" for name, to in changes.items())
        case = f"Four registered files, {told or 'nothing changed'}."
        with tempfile.TemporaryDirectory() as folder:
            for name, content in (files | changes).items():
                if content is not None:
                    Path(folder, name).write_bytes(content)
            fails, give = f"altered fails on this: {case}", "a list of names"
            came = result(answer, Path(folder), on_record, case=case, hint=fails, kind=list, give=give)
        names, told = [*files, *changes, *on_record], f"{case} It gave {came}."
        words = as_they_were.get(tuple(came), words) if not changes and on_record is digests else words
        whole = "Give whole names of files: with what follows the dot, and without the folder."
        expect(all(name in names for name in came), whole, case=told)
        expect(len({*came}) == len(came), "Name each file once.", case=told)
        expect_items(came, expected, words, case=f"{case} It", order="The list is not sorted.")

    as_they_were = {
        ("lines.txt",): "Line ends are bytes, too: read the bytes as they are, and all of them.",
        ("weights.bin",): "One of these files holds 200,000 bytes: read all of it.",
    }
    ask({}, [], "These files are as they were: each digest is the SHA-256 of all bytes, written by `hexdigest`.")
    ask({"model.skops": b"\1" + model[1:]}, ["model.skops"], "A file of the same length has other bytes.")
    ask({"contract.json": None}, ["contract.json"], "A file that is missing is not as it was.")
    for extra in ("extra.pkl", "extra.tmp", "extra.pyc", "model.skops.bak"):
        ask({extra: b"surprise"}, [extra], "There is a file that nobody registered.")
    ask({"extra": b"surprise"}, ["extra"], "A file without a dot in its name is a file, too.")
    ask({".hidden": b"surprise"}, [".hidden"], "A hidden file is a file, too.")
    words = "A large file has another byte, the last one: read all of it."
    ask({"weights.bin": bytes(199_999) + b"1"}, ["weights.bin"], words)
    ask({"lines.txt": b"one\ntwo\n"}, ["lines.txt"], "Line ends are bytes, too.")
    words = "On record is a digest whose last digit differs: compare all of it."
    other = digests["weights.bin"][:-1] + ("0" if digests["weights.bin"][-1] != "0" else "1")
    ask({}, ["weights.bin"], words, on_record=digests | {"weights.bin": other})
    words = "A file that holds no byte was not registered: it is a file, too."
    ask({"empty.txt": b""}, ["empty.txt"], words)
    empty = digests | {"empty.txt": hashlib.sha256(b"").hexdigest()}
    ask({"empty.txt": None}, ["empty.txt"], "A file of no byte was registered, and is missing.", on_record=empty)
    words = "Two files have swapped their contents: a digest belongs to a name."
    ask({"model.skops": contract, "contract.json": model}, ["contract.json", "model.skops"], words)
    ask(dict.fromkeys(files), sorted(files), "Every file is missing.")
    every = {"model.skops": b"", "contract.json": None, "a.txt": b""}
    ask(every, ["a.txt", "contract.json", "model.skops"], "Name all files that are not as they were, sorted.")


FIRST, SECOND = {"event": "promoted", "version": 1}, {"event": "promoted", "version": 3}
ENTRIES = [  # added one after another; what an answer is told that writes something else
    ({"why": "Größe"}, "Letters beyond ASCII are lost."),
    (FIRST, "The older entry, with letters beyond ASCII, is not what it was, or the new one is missing."),
    (FIRST, "An entry like an earlier one is one entry more: it happened twice."),
    ({}, "An empty entry is an entry."),
    (["a", "b"], "A list may be an entry, and stays one."),
]


@contextmanager
def _moves(path: Path) -> Iterator[tuple[list[str], list[Path]]]:
    """By which calls the file was taken away within the block, and from which folders it was put in place."""
    gone: list[str] = []
    came: list[Path] = []

    def watched(name: str) -> Callable:
        real = getattr(os, name)

        def call(*places: object, **options: object) -> object:
            source, target = [*places, *(options[one] for one in ("src", "path", "dst") if one in options), ""][:2]
            if name != "link" and Path(source).name == path.name:
                gone.append(f"os.{name}")
            if Path(target).name == path.name:
                came.append(Path(source).absolute().parent)
            return real(*places, **options)

        return call

    with ExitStack() as stack:
        for name in ("rename", "replace", "remove", "unlink", "link"):
            stack.enter_context(mock.patch.object(os, name, watched(name)))
        yield gone, came


class _Folder:
    """A folder for a history, and the answer that writes it."""

    def __init__(self, folder: str, answer: Callable) -> None:
        self.path, self.answer = Path(folder) / "history.json", answer

    def note(self, entry: object, seen: int, fails: str) -> None:
        """Go on if an entry can be added."""
        came = result(self.answer, self.path, entry, seen, case="", hint=f"note fails on {fails}.")
        expect(came is None, "note returns nothing.", case=f"It returned {brief(came)}.")

    def holds(self, history: list, words: str) -> None:
        """Go on if the file holds this history."""
        raw = self.path.read_bytes() if self.path.exists() else b""
        try:
            came = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise Rejected(f"The file has to be in UTF-8, and it holds {raw!r}.") from None
        except ValueError:
            raise Rejected(f"The file has to hold one JSON list, and it holds {raw!r}. {words}") from None
        expect(came == history, words, case=f"The file holds {came}, expected {history}.")

    def expect(self, names: list[str], words: str) -> None:
        """Go on if the folder holds these files."""
        there = sorted(path.name for path in self.path.parent.iterdir())
        expect(there == names, words, case=f"It holds {there}.")


@check(
    "What may fail, and what does the file look like at that moment? Let everything that can fail come first.",
    "Write the whole new text to another file in the same folder, and put it in the place of the old one in one step.",
    "`os.replace(new, path)` is that step; `json.dumps` gives the text before any file is opened.",
    nothing=True,
)
def note(answer):
    """Readers find the old history or the new one, never half of it, and a caller who read an older one is told."""
    with tempfile.TemporaryDirectory() as folder:
        place = _Folder(folder, answer)
        with _moves(place.path) as (_, began):
            place.note(FIRST, 0, "a history that has no file yet")
        place.holds([FIRST], "The first entry is the whole history.")
        old = Path(folder) / "old"
        os.link(place.path, old)
        with _moves(place.path) as (gone, came):
            place.note(SECOND, 1, "a history of one entry")
        place.holds([FIRST, SECOND], "The new entry comes last, below the earlier ones.")
        words = "history was written in place: a reader who comes while it is written finds a part of it."
        expect(json.loads(old.read_text(encoding="utf-8") or "0") == [FIRST], f"The {words}")
        expect(bool(began), f"The first {words}")
        old.unlink()
        elsewhere = [str(origin) for origin in came if origin.resolve() != Path(folder).resolve()]
        words = "The new text was in another folder. If that is another disk, it is put in place byte by byte."
        expect(not elsewhere, words, case=f"It was in {', '.join(elsewhere)}.")
        place.expect(["history.json"], "The folder holds more than the history.")
        _expect_refused(place)
        words = "For a moment there was no history, and a reader at that moment finds none."
        expect(not gone, words, case=f"By {gone}.")
    with tempfile.TemporaryDirectory() as folder:
        place, kept = _Folder(folder, answer), []
        words = "There is no file and 2 entries were seen: somebody was quicker, and no ValueError came."
        expect_error(lambda: answer(place.path, FIRST, 2), ValueError, words)
        place.expect([], "Nothing was to be written, and a file is there.")
        for entry, words in ENTRIES:
            place.note(entry, len(kept), f"the entry {entry!r}")
            kept.append(entry)
            place.holds(kept, words)


def _expect_refused(place: _Folder) -> None:
    """Go on if a history of two entries stays as it is when somebody was quicker, or if an entry cannot be written."""
    for seen in (0, 1, 3):
        before = place.path.read_bytes()
        late = functools.partial(place.answer, place.path, {"event": "rolled back", "version": 1}, seen)
        words = f"There are 2 entries and {seen} were seen: somebody was quicker, and no ValueError came."
        expect_error(late, ValueError, words)
        words = "Somebody was quicker, a ValueError came, and the history was changed all the same."
        expect(place.path.read_bytes() == before, words)
        place.expect(["history.json"], "Somebody was quicker, and a file was left behind.")
    odd = {"event": "promoted", "version": 4, "model": object()}
    words = "An entry that JSON cannot hold was passed over, or written as something else: let the error out."
    expect_error(lambda: place.answer(place.path, odd, 2), Exception, words)
    place.holds([FIRST, SECOND], "An entry that cannot be written as JSON must leave the history as it was.")
    words = "An entry that cannot be written left something behind; the folder holds the history and nothing more."
    place.expect(["history.json"], words)
