"""Checks of pipelines: what has to run, a key by content, retries, and a run that goes on."""

import builtins
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import calls_hash, raised, result

__all__ = ["YourTurn", "hint", "key", "run_all", "summary", "to_run", "with_retries"]

Needs = dict[str, list[str]]
NEEDS = {
    "read": [], "weather": [], "features": ["read", "weather"], "split": ["read"], "model": ["features", "split"],
    "report": ["model"], "map": ["weather"],
}  # fmt: skip


def _below(needs: Needs, changed: set[str]) -> set[str]:
    found = set(changed)
    for _ in needs:
        found |= {step for step, taken in needs.items() if found & set(taken)}
    return found


@check(
    "When you come to a step, what do you know already about the steps that it needs?",
    "Go through `needs` in its order: a step has to run if it is changed, or if something it needs is in your list.",
)
def to_run(answer):
    """What rests on a change runs, through however many steps, and everything else keeps its result."""

    def ask(needs: Needs, changed: set[str], words: str) -> None:
        expected, case = _below(needs, changed), f"to_run({needs}, {sorted(changed)})"
        came = result(answer, needs, changed, case=case, kind=list, give="a list of steps")
        told = f"{case} gave {came}, expected {[step for step in needs if step in expected]}."
        expect(not expected - set(came), words, case=told)
        expect(set(came) <= expected, "Steps that rest on no change keep their results.", case=told)
        expect(len(came) == len(set(came)), "A step runs once.", case=told)
        early = [step for n, step in enumerate(came) if {*needs[step]} & expected - {*came[:n]}]
        expect(not early, "A step came before one that it needs.", case=told)

    line = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}
    ask(line, {"d"}, "The last step has changed.")
    ask(line, {"c"}, "What rests on a change has to run as well.")
    ask(line, {"a"}, "What rests on a change has to run, through however many steps.")
    ask(line, set(), "Nothing has changed.")
    ask(NEEDS, {"weather"}, "What rests on a change has to run, through however many steps.")
    ask(NEEDS, {"split"}, "What rests on a change has to run, through however many steps.")
    ask(NEEDS, {"map", "report"}, "Both have changed.")
    ask(NEEDS, {"read", "map"}, "What rests on either change has to run.")
    rng = np.random.default_rng(8)
    for _ in range(40):
        names = [f"s{n}" for n in range(8)]
        needs = {name: [other for other in names[:n] if rng.random() < 0.25] for n, name in enumerate(names)}
        ask(needs, {name for name in names if rng.random() < 0.15}, "What rests on a change has to run.")


@check(
    "Everything that decides about the result goes into the key, and nothing else.",
    "A hash of each content by itself keeps contents apart; `json.dumps(..., sort_keys=True)` puts names in order.",
    "`hashlib.sha256(...).hexdigest()` is the same everywhere; `hash` and times are not.",
)
def key(answer):
    """The same code and contents have one key everywhere, and any change has another."""
    code, inputs = "def f(rows):\n    return rows", {"rows": b"a,b\n1,2\n", "names": b"\x00\xff"}
    first = result(answer, code, inputs, case="", hint="key fails on two inputs.", kind=str, give="a text as the key")
    expect(answer(code, inputs) == first, "On another day, the same code and contents have another key.")
    backwards = dict(reversed(inputs.items()))
    expect(answer(code, backwards) == first, "The order of a dictionary made another key.")
    expect(answer(code + " ", inputs) != first, "Another code has the same key.")
    expect(answer(code, {**inputs, "names": b"\x00\xfe"}) != first, "One other byte has the same key.")
    words = "Two thousand codes have fewer keys: so short a text stands for several contents."
    expect(len({answer(f"step {number}", {}) for number in range(2_000)}) == 2_000, words)
    words = "Bytes may move from one input to the next unnoticed: keep the parts apart."
    for between, after in itertools.product("|,;:/ \n\0&", "=:| "):
        joined = {"a": f"1{between}b{after}2".encode()}
        told = f"key('f', {joined}) is key('f', {{'a': b'1', 'b': b'2'}}): what stands between parts may be in a part."
        expect(answer("f", joined) != answer("f", {"a": b"1", "b": b"2"}), words, case=told)
    expect(answer("f", {"a": b"ab", "b": b"c"}) != answer("f", {"a": b"a", "b": b"bc"}), words)
    for name in inputs:
        other, case = {**inputs, name: inputs[name] + b"\n"}, f"It was at the end of {name}."
        expect(answer(code, other) != first, "A line end more is another content.", case=case)
    long = bytes(3_000_000)
    words = "Two long contents that differ in the last byte have the same key."
    expect(answer("f", {"a": long + b"0"}) != answer("f", {"a": long + b"1"}), words)
    expect(answer("f", {"a": b"ab"}) != answer("f", {"a": b"ba"}), "The same bytes in another order have the same key.")
    expect(answer("f # a", {}) != answer("f # b", {}), "The text of the step is another one, if only in a comment.")
    renamed = {"rows": inputs["rows"], "labels": inputs["names"]}
    expect(answer(code, renamed) != first, "The name of an input has changed, and the key has not.")
    expect(answer(code, {**inputs, "more": b""}) != first, "An empty input more has the same key.")
    expect(answer("fa", {"": b"b"}) != answer("f", {"a": b"b"}), "Letters may move from the code to a name unnoticed.")
    swapped = {"rows": inputs["names"], "names": inputs["rows"]}
    expect(answer(code, swapped) != first, "Two inputs have swapped their contents unnoticed.")
    words = "`hash` gives another number in each process: tomorrow, in another process, nothing is found again."
    expect(not calls_hash(answer, code, inputs), words)


@contextmanager
def _opened_to_write() -> Iterator[set[str]]:
    """Names of files that are opened to be written to, within the block."""
    names, real = set(), io.open

    def spy(file: object, mode: str = "r", *others: object, **options: object) -> object:
        if set("wax+") & set(mode) and not isinstance(file, int):
            names.add(Path(file).name)
        return real(file, mode, *others, **options)

    with mock.patch.object(io, "open", spy), mock.patch.object(builtins, "open", spy):
        yield names


@check(
    "Which errors may pass by themselves? Only these are worth a second attempt.",
    "Count the attempts: what happens after the last one, and where is `wait` called?",
    "`raise` without anything after it, inside `except`, lets the same error out again.",
)
def with_retries(answer):
    """What may pass is tried again with longer pauses, and every other error comes out at once."""

    def ask(outcomes: list[object], times: int, expected: object, attempts: int, words: str) -> None:
        left, tried, pauses, came = list(outcomes), [], [], []

        def step() -> object:
            tried.append(1)
            outcome = left.pop(0) if left else RuntimeError("it was called again")
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        told = [type(one).__name__ if isinstance(one, Exception) else one for one in outcomes]
        case = f"A step that does {told}, times={times}."
        error = raised(lambda: came.append(answer(step, times, pauses.append)))
        fails, attempted = isinstance(expected, type), f"{case} It was called {len(tried)} times."
        if fails:
            expect(len(tried) == attempts, f"{words} {attempts} attempts in all.", case=attempted)
            expect(error is not None, f"{words} Its error comes out.", case=f"{case} It gave {came}.")
        right = isinstance(error, expected) if fails else error is None
        expect(right, f"{words} Its own error comes out." if fails else words, case=f"{case} It raised {error!r}.")
        expect(fails or came == [expected], words, case=f"{case} It gave {came}.")
        expect(len(tried) == attempts, f"{words} {attempts} attempts in all.", case=attempted)
        waits = [2**n for n in range(attempts - 1)]
        expect(pauses == waits, f"The calls of wait should have been {waits}.", case=f"{case} They were {pauses}.")

    away, slow = ConnectionError("away"), TimeoutError("slow")
    ask(["sunny"], 3, "sunny", 1, "It works at once.")
    ask([away, "sunny"], 3, "sunny", 2, "It works at the second attempt.")
    ask(["", "sunny"], 3, "", 1, "An empty text is what the step gives, and no failure.")
    ask([away, 0], 3, 0, 2, "0 is what the step gives, and no failure.")
    ask([away, slow, "sunny"], 3, "sunny", 3, "It works at the third attempt.")
    ask([ValueError("no such column"), "sunny"], 3, ValueError, 1, "Such an error will come again.")
    ask([FileNotFoundError("wind.csv"), "sunny"], 3, FileNotFoundError, 1, "That error will come again.")
    ask([away, KeyError("wind"), "sunny"], 3, KeyError, 2, "Such an error will come again.")
    ask([away, away, slow, "sunny"], 3, TimeoutError, 3, "The last attempt fails.")
    ask([away, "sunny"], 1, ConnectionError, 1, "There is one attempt.")
    ask([away, away, away, away, "rain"], 5, "rain", 5, "It works at the fifth attempt.")
    ask([ConnectionRefusedError("no"), "sunny"], 2, "sunny", 2, "A refused connection is one that may pass.")


THREE = [("one", "1"), ("two", "2"), ("three", "ü\r\n3")]  # steps, with what each adds to the text
FILES = ["one.txt", "three.txt", "two.txt"]


def _call(answer: Callable, plan: list[tuple[str, object]], folder: Path, words: str) -> tuple[object, list[str]]:
    """What `run_all` gave or raised, and which steps ran. A step adds its outcome to the text, or raises it."""
    ran, came = [], []

    def made(name: str, outcome: object) -> Callable[[str], object]:
        def step(before: str) -> object:
            ran.append(f"{name}({before!r})")
            if isinstance(outcome, Exception):
                raise outcome
            return before + str(outcome)

        return step

    error = raised(lambda: came.append(answer([(name, made(name, outcome)) for name, outcome in plan], folder)))
    may_fail = any(isinstance(outcome, Exception) or "\ud800" in str(outcome) for _, outcome in plan)
    expect(error is None or may_fail, words, case=f"It raised {error!r}.")
    return (came[0] if error is None else error), ran


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


@check(
    "What may fail, and what lies in the folder at that moment? Let everything that can fail come first.",
    "If `NAME.txt` is there, read it. If not: run the step, make bytes, write them under another name, rename.",
    "`text.encode()` fails on what UTF-8 cannot hold; `Path.replace` gives a file its name in one step.",
)
def run_all(answer):
    """Each step runs once over all calls, and a file that has its name holds a whole result."""
    with _folder() as folder:
        opened = _kept(answer, folder)
    _crashed(answer, RuntimeError("the battery is empty"), "the second step fails")
    _crashed(answer, "\ud800", "the second result cannot be written")
    words = "A file that has its name holds a whole result: here it had its name before anything was in it."
    early = sorted(opened & set(FILES))
    expect(not early, words, case=f"Opened to be written: {', '.join(early)}.")
    with _folder() as folder:
        empty = [("one", ""), ("two", "2")]
        _call(answer, empty, folder, "run_all fails on a result without letters.")
        _, ran = _call(answer, empty, folder, "A second call fails.")
        expect(not ran, "An empty result is a result, and is not made again.", case=f"A second call ran {ran}.")
    with _folder() as folder:
        came = result(answer, [], folder, case="", hint="run_all fails without a step.")
        expect(came == "", "Without a step the last result is the first text, which is empty.", case=f"{came!r} came.")


def _kept(answer: Callable, folder: Path) -> set[str]:
    """Results are kept as they are, and not made a second time; gives the names of files opened to be written."""
    with _opened_to_write() as opened:
        came, ran = _call(answer, THREE, folder, "run_all fails on three steps.")
    turned = isinstance(came, str) and came.split() == ["12ü", "3"] and came != "12ü\r\n3"
    expect(not turned, "Text mode changes line ends; bytes keep them as the step gave them.", case=f"{came!r} came.")
    words = "Each step gets the result of the one before."
    expect(came == "12ü\r\n3", words, case=f"{came!r} came, expected '12ü\\r\\n3'.")
    expect(ran == ["one('')", "two('1')", "three('12')"], "Each step runs once, in order.", case=f"They were {ran}.")
    there = sorted(path.name for path in folder.iterdir())
    expect(there == FILES, "The folder holds the results and nothing more.", case=f"It holds {there}.")
    kept = (folder / "three.txt").read_bytes()
    expect(kept == "12ü\r\n3".encode(), "A result is kept in UTF-8, as it is.", case=f"three.txt holds {kept!r}.")
    came, ran = _call(answer, THREE, folder, "A second call fails.")
    expect(not ran, "What has a result is not run again.", case=f"A second call ran {ran}.")
    words = "A second call gives the same; text mode changes line ends, bytes keep them."
    expect(came == "12ü\r\n3", words, case=f"{came!r} came.")
    (folder / "two.txt").write_bytes(b"other")
    (folder / "three.txt").unlink()
    came, ran = _call(answer, THREE, folder, "A call after one file was deleted fails.")
    expect(ran == ["three('other')"], "What is in a file is read, and not run.", case=f"It ran {ran}.")
    return opened


def _crashed(answer: Callable, crash: object, what: str) -> None:
    """What was done before a failure stays, and the next call goes on there."""
    with _folder() as folder:
        plan = [("one", "1"), ("two", crash), ("three", "3")]
        came, ran = _call(answer, plan, folder, f"If {what}, another error came.")
        words = f"If {what}, the error comes out."
        expect(isinstance(came, RuntimeError | UnicodeEncodeError), words, case=f"{came!r} came.")
        right = "three('')" not in ran and len(ran) == 2
        expect(right, f"If {what}, the third is not run.", case=f"They were {ran}.")
        there = sorted(path.name for path in folder.glob("*.txt"))
        expect("one.txt" in there, f"If {what}, what was done before stays.", case=f"The folder holds {there}.")
        words = f"If {what}, there must be no two.txt: a file that has its name holds a whole result."
        expect("two.txt" not in there, words, case=f"The folder holds {there}.")
        plan[1] = ("two", "2")
        came, ran = _call(answer, plan, folder, f"After {what}, the next call fails.")
        right = ran == ["two('1')", "three('12')"]
        expect(right, f"After {what}, the next call goes on there.", case=f"It ran {ran}.")
        there = sorted(path.name for path in folder.iterdir())
        words = "When all is done, the folder holds the results and nothing more."
        expect(there == FILES, words, case=f"It holds {there}.")
        expect(came == "123", f"After {what}, the next call gives the last result.", case=f"{came!r} came.")
