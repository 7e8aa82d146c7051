"""Checks of pipelines: what has to run, a key by content, a retry, and a run that goes on after a crash."""

import builtins
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from mlops_course.course.checks import YourTurn, check, expect, hint, summary
from mlops_course.course.checks.cases import calls_hash, raised, result
from mlops_course.course.checks.surroundings import elsewhere

__all__ = ["YourTurn", "hint", "key", "run_all", "summary", "to_run", "with_retries"]

Needs = dict[str, list[str]]
NEEDS = {
    "rows": [], "rows_weather": [], "features": ["rows", "rows_weather"], "split": ["rows"],
    "model": ["features", "split"], "report": ["model"], "map": ["rows_weather"],
}  # fmt: skip


def _below(needs: Needs, changed: set[str]) -> set[str]:
    found = set(changed)
    for _ in needs:
        found |= {step for step, taken in needs.items() if found & set(taken)}
    return found


@check(
    "When you come to a step, what do you know already about the steps that it needs?",
    "Go through `needs` in its order. A step has to run if it is in `changed`, or if your list holds a step it needs.",
)
def to_run(answer):
    """A step runs if it has changed or depends on a change, and all others keep their results."""

    def ask(needs: Needs, changed: set[str]) -> None:
        has_to = _below(needs, changed)
        expected = [step for step in needs if step in has_to]
        case = f"to_run({needs}, {'{' + str(sorted(changed))[1:-1] + '}' if changed else 'set()'})"
        came = result(answer, needs, changed, case=f"{case}.", kind=list, give="a list of steps").copy()
        told = f"{case} gave {came}, expected {expected}."
        again = answer(needs, changed)
        words = "In a second call with the same arguments your list is another one: does it start empty in each call?"
        expect(again == came, words, case=f"{case} gave {came}, then {again}.")
        expect(all(isinstance(step, str) and step in needs for step in came), "Give names of steps.", case=told)
        for step in expected:
            why = "has changed" if step in changed else "needs a step that has to run"
            expect(step in came, f"{step!r} {why}, so it has to run, and your list lacks it.", case=told)
        for step in came:
            expect(step in has_to, f"{step!r} does not depend on a change, so it keeps its result.", case=told)
            expect(came.count(step) == 1, f"{step!r} stands in your list more than once.", case=told)
            for other in {*needs[step]} & has_to:
                words = f"{step!r} stands before {other!r}, which it needs."
                expect(came.index(other) < came.index(step), words, case=told)

    line = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}
    for changed in ({"d"}, {"c"}, {"a"}, set(), {"a", "d"}, set(line)):
        ask(line, changed)
    for changed in ({"rows_weather"}, {"rows"}, {"split"}, {"map", "report"}, {"rows", "map"}):
        ask(NEEDS, changed)
    ask({}, set())
    rng = np.random.default_rng(8)
    for _ in range(40):
        names = [f"s{n}" for n in rng.permutation(8)]
        needs = {name: [other for other in names[:n] if rng.random() < 0.25] for n, name in enumerate(names)}
        ask(needs, {name for name in names if rng.random() < 0.15})


CODE = 'def f(a):\n    b = a + 1\n    c = [b, "x # y"]'
SAME = {  # code that Python reads like CODE, by what is different
    "A comment": 'def f(a):\n    b = a + 1  # one more\n    c = [b, "x # y"]',
    "A line with a comment": '# first\ndef f(a):\n    # one more\n    b = a + 1\n    c = [b, "x # y"]',
    "A blank line": 'def f(a):\n\n    b = a + 1\n    \n    c = [b, "x # y"]\n\n',
    "Another number of spaces around signs": 'def f( a ):\n    b=a+1\n    c=[ b,"x # y" ]',
    "A line that is continued in brackets": 'def f(a):\n    b = a + 1\n    c = [\n        b,\n        "x # y"]',
    "Another width of the indent": 'def f(a):\n  b = a + 1\n  c = [b, "x # y"]',
}
OTHER = {  # code that Python reads otherwise, by what has changed
    "A number in the code has changed": 'def f(a):\n    b = a + 2\n    c = [b, "x # y"]',
    "A text in quotes has changed": 'def f(a):\n    b = a + 1\n    c = [b, "x # z"]',
    "A text in quotes has one more blank": 'def f(a):\n    b = a + 1\n    c = [b, "x #  y"]',
    "A docstring was added": 'def f(a):\n    "one more"\n    b = a + 1\n    c = [b, "x # y"]',
    "Two lines have changed places": 'def f(a):\n    c = [b, "x # y"]\n    b = a + 1',
    "A letter has become a capital": 'def f(a):\n    B = a + 1\n    c = [b, "x # y"]',
    "The last line has lost its indent": 'def f(a):\n    b = a + 1\nc = [b, "x # y"]',
    "The module has got a docstring": '"one more"\ndef f(a):\n    b = a + 1\n    c = [b, "x # y"]',
    "1 has become 1.0": 'def f(a):\n    b = a + 1.0\n    c = [b, "x # y"]',
    "1 has become True": 'def f(a):\n    b = a + True\n    c = [b, "x # y"]',
    "A docstring of two lines was added": 'def f(a):\n    """one\n    more"""\n    b = a + 1\n    c = [b, "x # y"]',
    "It has a blank before its line end": 'def f(a):\n    """one \n    more"""\n    b = a + 1\n    c = [b, "x # y"]',
}
BOM = b"\xef\xbb\xbf"
INPUTS = {"rows": b"a,b\n1,2\n", "names": b"\x00\xff"}
BETWEEN = ["", *"|,;:/ =\n\t\0&#-_+.", "\r\n", "\n\n", ", ", ": ", "||", "::", "--", "__", "=>"]


@check(
    "What does Python read from the code? And what of an input decides about the result?",
    "A hash of each content by itself keeps contents apart; `json.dumps(..., sort_keys=True)` puts names in order.",
    "`ast.dump(ast.parse(code))` has no comments. `hashlib.sha256(...).hexdigest()` is the same everywhere.",
)
def key(answer):
    """The same code and inputs have one key everywhere, and any other code or input has another."""
    first = result(answer, CODE, INPUTS, case="", hint="key fails on two inputs.", kind=str, give="a text as the key")

    def ask(code: str, inputs: dict[str, bytes], words: str, *, same: bool = False) -> None:
        case = f"key({code!r}, {inputs}) is {'another key than' if same else 'also'} key({CODE!r}, {INPUTS})."
        expect((answer(code, inputs) == first) is same, words, case=case)

    for where, change in elsewhere(answer).items():
        with change:
            again = answer("".join(list(CODE)), {name: bytes(bytearray(content)) for name, content in INPUTS.items()})
        expect(again == first, f"{where}, key gives another key for the same code and inputs.")
    words = "`hash` gives another number in another process, so tomorrow no result is found again."
    expect(not calls_hash(answer, CODE, INPUTS), words)
    ask(CODE, dict(reversed(INPUTS.items())), "The order of the dictionary changed the key.", same=True)
    many = {f"input {number}": b"1" for number in range(30)}
    words = "The order of the dictionary changed the key. It was a dictionary of 30 inputs."
    expect(answer(CODE, many) == answer(CODE, dict(reversed(many.items()))), words)
    ask(SAME["A comment"], INPUTS, "A comment changed the key.", same=True)
    keys = {}
    for what, code in OTHER.items():
        ask(code, INPUTS, f"{what}, and the key is the same.")
        like = keys.setdefault(answer(code, INPUTS), code)
        expect(like == code, "Two codes have the same key.", case=f"They are {like!r} and {code!r}.")
    for what, code in SAME.items():
        ask(code, INPUTS, f"{what} changed the key.", same=True)
    words = "Among 2,000 different codes, some have the same key. Is the key too short?"
    expect(len({answer(f"step({number})", {}) for number in range(2_000)}) == 2_000, words)
    _inputs_count(answer, ask)


def _inputs_count(answer: Callable, ask: Callable) -> None:
    """Names and bytes of the inputs count, and which of them belong together."""
    ask(CODE, {**INPUTS, "names": b"\x00\xfe"}, "One byte of an input is another one, and the key is the same.")
    rows = INPUTS["rows"]
    for other in (rows + b"\n", rows.rstrip(), b" " + rows, rows.replace(b"\n", b"\r\n"), rows.upper(), BOM + rows):
        ask(CODE, {**INPUTS, "rows": other}, "An input has other bytes, and the key is the same: each byte counts.")
    for name in ("labels", "rOWS", "rows ", "row"):
        ask(CODE, {name: rows, "names": INPUTS["names"]}, "An input has another name, and the key is the same.")
    words = "The two inputs have swapped their contents, and the key is the same."
    ask(CODE, {"rows": INPUTS["names"], "names": INPUTS["rows"]}, words)
    ask(CODE, {**INPUTS, "more": b""}, "There is one more input, an empty one, and the key is the same.")
    words = "The bytes of an input stand in another order, and the key is the same."
    expect(answer("f", {"a": b"ab"}) != answer("f", {"a": b"ba"}), words)
    long = bytes(3_000_000)
    words = "Two contents of three million bytes differ in the last byte only, and the key is the same."
    expect(answer("f", {"a": long + b"0"}) != answer("f", {"a": long + b"1"}), words)
    apart = [{"a": b"1", "b": b"2"}, {"a": b"ab", "b": b"c"}, {"a": b"b"}, {"a": b""}]
    moved = [({"a": b"a", "b": b"bc"}, 1), ({"": b"ab"}, 2), ({"ab": b""}, 2)]
    moved += [({"a": f"1{one}b{two}2".encode()}, 0) for one in BETWEEN for two in BETWEEN]
    moved += [({"a": f"1{one}b': b'2".encode()}, 0) for one in ("', '", "', b'")]
    for other, place in moved:
        case = f"key('f', {other}) is also key('f', {apart[place]})."
        words = "Bytes or letters can move from one input to the next, and the key stays the same."
        expect(answer("f", other) != answer("f", apart[place]), words, case=case)
    for code, inputs in (("fa", {"": b""}), ("f\na", {}), ("f;a", {}), ("f,a", {}), ("f\na=1", {})):
        other = {"a": b"1"} if "1" in code else apart[3]
        case = f"key({code!r}, {inputs}) is also key('f', {other})."
        expect(answer(code, inputs) != answer("f", other), "A letter can move from the code to an input.", case=case)


@check(
    "Which errors may go away by themselves? Only these are worth a second call.",
    "Count the calls of `step`: what happens after the last one, and where is `wait` called?",
    "If the last call of `step` stands outside of `try`, its error comes out by itself.",
    nothing=True,
)
def with_retries(answer):
    """Errors that may go away are tried again with longer and longer pauses, and all others come out at once."""

    def ask(outcomes: list[object], times: int, calls: int, words: str) -> None:
        left, tried, pauses, came = list(outcomes), [], [], []

        def step() -> object:
            tried.append(1)
            outcome = left.pop(0) if left else "one call more"
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        does = ", then ".join(f"{'raises' if isinstance(one, Exception) else 'returns'} {one!r}" for one in outcomes)
        case, expected = f"The step {does}; times={times}.", outcomes[calls - 1]
        error = raised(lambda: came.append(answer(step, times, pauses.append)))
        own = " of its own" if error is not expected and repr(error) == repr(expected) else ""
        ended = f"with_retries raised {error!r}{own}" if error is not None else f"with_retries returned {came[0]!r}"
        if isinstance(expected, Exception):
            told = f"{words} {case} {ended}, expected that it raises {expected!r}."
            expect(error is expected, told)
        else:
            told = f"{words} {case} {ended}, expected {expected!r}."
            expect(error is None and type(came[0]) is type(expected) and came[0] == expected, told)
        expect(len(tried) == calls, f"{words} {case} The step was called {len(tried)} times, expected {calls}.")
        waits, called = [2**n for n in range(calls - 1)], ", ".join(f"wait({one!r})" for one in pauses) or "none"
        told = ", ".join(f"wait({one})" for one in waits) or "none"
        expect(pauses == waits, f"The pauses are wrong. {case} The calls of wait were: {called}; expected: {told}.")

    away, slow, again = ConnectionError("away"), TimeoutError("slow"), "The step may be called again."
    ask(["sunny", "rain"], 3, 1, "The first call worked: return what it returns.")
    for nothing in ("", 0, False, None):
        ask([nothing, "sunny"], 3, 1, f"Return {nothing!r} as the step does: that is no failure.")
    ask([away, "sunny"], 3, 2, again)
    ask([slow, "sunny"], 3, 2, again)
    ask([ValueError("no such column"), "sunny"], 3, 1, "A ValueError will come again: let it out at once.")
    ask([FileNotFoundError("wind.csv"), "sunny"], 3, 1, "A FileNotFoundError will come again: let it out at once.")
    ask([away, KeyError("wind"), "sunny"], 3, 2, "A KeyError will come again: let it out at once.")
    ask([away, slow, "sunny"], 3, 3, again)
    last = "Three calls in all are allowed, and the last one fails: let its own error out."
    ask([away, ConnectionError("still away"), slow, "sunny"], 3, 3, last)
    ask([ConnectionError("one"), ConnectionError("two"), "sunny"], 2, 2, last.replace("Three", "Two"))
    ask([away, "sunny"], 1, 1, "One call in all is allowed, and it fails: let its own error out.")
    ask([away, slow, away, slow, "rain"], 5, 5, "Five calls in all are allowed, and the last one works.")
    ask([ConnectionRefusedError("no"), "sunny"], 2, 2, "A ConnectionRefusedError is a kind of ConnectionError.")


THREE = [("rows.1", "\ufeff 1"), ("rows.2", "2\n"), ("Fit", "ü\r\n3 ")]  # steps, with what each adds to the text
LAST = "".join(text for _, text in THREE)
FILES = ["Fit.txt", "rows.1.txt", "rows.2.txt"]
CALLS = ["rows.1('')", "rows.2('\\ufeff 1')", "Fit('\\ufeff 12\\n')"]
PLANS = [  # steps that are called twice, with what an answer is told that does not return or keep their results
    ([("one", ""), ("two", "2")], "An empty text is a result as well."),
    ([("one", "1")], "One step is enough."),
    ([("rows.10", "10"), ("rows.1", "1")], "rows.1 is another step than rows.10: look for the whole name of its file."),
    ([("all.rows", "10"), ("rows", "1")], "rows is another step than all.rows: look for the whole name of its file."),
]


@contextlib.contextmanager
def _opened_to_write() -> Iterator[set[str]]:
    """Names of files that are opened to be written to, within the block."""
    names, real = set(), io.open

    def spy(file: object, mode: str = "r", *others: object, **options: object) -> object:
        if set("wax+") & set(mode) and not isinstance(file, int):
            names.add(Path(file).name)
        return real(file, mode, *others, **options)

    with mock.patch.object(io, "open", spy), mock.patch.object(builtins, "open", spy):
        yield names


def _call(answer: Callable, plan: list[tuple[str, object]], folder: Path, when: str) -> tuple[object, list[str]]:
    """What `run_all` returned or raised, and which steps ran. A step adds its outcome to the text, or raises it."""
    ran, came = [], []

    def made(name: str, outcome: object) -> Callable[[str], object]:
        def step(before: str) -> object:
            ran.append(f"{name}({before!r})")
            if isinstance(outcome, Exception):
                raise outcome
            return f"{before}{outcome}"

        return step

    error = raised(lambda: came.append(answer([(name, made(name, outcome)) for name, outcome in plan], folder)))
    may_fail = any(isinstance(outcome, Exception) or "\ud800" in str(outcome) for _, outcome in plan)
    words = " UTF-8 holds each letter of these results." if isinstance(error, UnicodeError) else ""
    expect(error is None or may_fail, f"{when}, run_all raised {error!r}.{words}")
    return (came[0] if error is None else error), ran


def _expect_ran(ran: list[str], expected: list[str], words: str, *, when: str) -> None:
    told = f"{when}, the calls were {', '.join(ran) or 'none'}; expected {', '.join(expected) or 'none'}."
    expect(ran == expected, words, case=told)


def _expect_result(came: object, expected: str, words: str, *, when: str) -> None:
    expect(isinstance(came, str) and came == expected, words, case=f"{when}, {came!r} came, expected {expected!r}.")


def _expect_files(folder: Path, expected: list[str], *, when: str) -> None:
    there = sorted(path.name for path in folder.iterdir())
    words = f"{when}, the folder holds {there}, expected {expected}: the results and nothing more."
    expect(there == expected, words)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


@check(
    "What may fail, and what does the folder hold at that moment? Let everything that can fail come first.",
    "If `NAME.txt` exists, read it. If not: run the step, make bytes, write them under another name, rename.",
    "`text.encode()` fails on what UTF-8 cannot hold; `Path.replace` gives a file its name in one moment.",
)
def run_all(answer):
    """Each step runs once over all calls, and a file NAME.txt holds a whole result."""
    with _folder() as folder:
        opened = _kept(answer, folder)
    _crashed(answer, RuntimeError("the battery is empty"), "the second step raises an error")
    _crashed(answer, "\ud800", "UTF-8 cannot hold the second result")
    early = ", ".join(sorted(opened & set(FILES)))
    words = "A file NAME.txt must hold a whole result at any moment."
    expect(not early, words, case=f"Yours is opened under that name before anything is in it: {early}.")
    for plan, words in PLANS:
        with _folder() as folder:
            when, calls, before = f"On steps that add {plan}", [], ""
            for name, text in plan:
                calls.append(f"{name}({before!r})")
                before += text
            came, ran = _call(answer, plan, folder, f"{words} {when}")
            _expect_ran(ran, calls, words, when=when)
            _expect_result(came, before, words, when=when)
            _, ran = _call(answer, plan, folder, f"{words} {when}, in a second call")
            _expect_ran(ran, [], f"{words} Its step is not run again.", when=f"{when}, in a second call")
    _cut_short(answer)
    with _folder() as folder:
        came = result(answer, [], folder, case="", hint="Without steps, run_all fails.")
        _expect_result(came, "", "Without steps, the last result is the empty text.", when="Without steps")


def _kept(answer: Callable, folder: Path) -> set[str]:
    """Results are kept as they are, and not made a second time; gives the names of files opened to be written."""
    when = "In the first call on three steps"
    with _opened_to_write() as opened:
        came, ran = _call(answer, THREE, folder, when)
    words = "Each step runs once, in order, on the result of the step before."
    less = "A step was passed over before its file was there: which name did you look for? Names may hold dots."
    _expect_ran(ran, CALLS, less if len(ran) < len(CALLS) else words, when=when)
    _expect_result(came, LAST, _changed(came), when=when)
    _expect_files(folder, FILES, when="After the first call on three steps")
    raw = (folder / "Fit.txt").read_bytes()
    words = f"The file Fit.txt holds {raw!r}, expected {LAST.encode()!r}."
    expect(raw == LAST.encode(), _changed(raw.decode(errors="replace")), case=words)
    when = "In a second call on the same steps"
    came, ran = _call(answer, THREE, folder, when)
    _expect_ran(ran, [], "A step whose file exists is not run.", when=when)
    _expect_result(came, LAST, _changed(came), when=when)
    (folder / "rows.2.txt").write_bytes(b"other")
    (folder / "Fit.txt").unlink()
    when = "After rows.2.txt got another content and Fit.txt was deleted"
    came, ran = _call(answer, THREE, folder, when)
    _expect_ran(ran, ["Fit('other')"], "What a file holds is the result of its step.", when=when)
    (folder / "rows.1.txt").unlink()
    when = "After rows.1.txt was deleted"
    came, ran = _call(answer, THREE, folder, when)
    _expect_ran(ran, CALLS[:1], "Each step is looked at by itself: it runs if its own file is missing.", when=when)
    _expect_result(came, "other" + THREE[2][1], "The last file holds the last result.", when=when)
    return opened


def _changed(came: object) -> str:
    """What has become of a result that had to stay as it was."""
    if not isinstance(came, str):
        return "Return the last result, a text."
    if came.split() == LAST.split():
        return "Blanks and line ends stay as they are: add none, cut none, and change none, as text mode does."
    return "A result has to stay as it is, letter for letter."


def _cut_short(answer: Callable) -> None:
    """A crash while a result is put in its place leaves nothing that looks like a result."""
    with _folder() as folder:
        plan, when = [("one", "1"), ("two", "2")], "After a crash while the first result was put in its place"
        with mock.patch.multiple(os, replace=_fails, rename=_fails, link=_fails):
            error = raised(lambda: answer([("one", lambda _: "1"), ("two", lambda before: before + "2")], folder))
        there = sorted(path.name for path in folder.glob("*.txt"))
        words = "What is not a whole result must not look like one: a step may be called NAME.part or NAME.tmp."
        expect(error is None or not there, words, case=f"{when}, the folder holds {there}.")
        came, _ = _call(answer, plan, folder, when)
        _expect_result(came, "12", "The next call goes on at the step that failed.", when=when)


def _fails(*_: object, **__: object) -> None:
    raise OSError("the power is gone")


def _crashed(answer: Callable, crash: object, what: str) -> None:
    """What was done before a failure stays, and the next call goes on there."""
    with _folder() as folder:
        plan, when = [("one", "1"), ("two", crash), ("three", "3")], f"If {what}"
        came, ran = _call(answer, plan, folder, when)
        right = came is crash if isinstance(crash, Exception) else isinstance(came, UnicodeEncodeError)
        expect(right, f"{when}, let its error out.", case=f"What came instead is {came!r}.")
        _expect_ran(ran, ["one('')", "two('1')"], "The steps after a failure are not run.", when=when)
        there = sorted(path.name for path in folder.glob("*.txt"))
        told = f"{when}, the folder holds {there}, expected ['one.txt']."
        expect("one.txt" in there, "The files of the steps before stay.", case=told)
        words = "The step that failed has no file: a file NAME.txt holds a whole result."
        expect(there == ["one.txt"], words, case=told)
        plan[1], when = ("two", "2"), f"In the next call, after {what}"
        came, ran = _call(answer, plan, folder, when.replace("raises", "raised"))
        _expect_ran(ran, ["two('1')", "three('12')"], "The next call goes on at the step that failed.", when=when)
        _expect_files(folder, ["one.txt", "three.txt", "two.txt"], when=when)
        _expect_result(came, "123", "Return the last result.", when=when)
