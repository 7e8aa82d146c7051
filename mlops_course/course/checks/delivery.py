"""Checks of delivery: runs that never happened, a way into production, files to refuse, and what incidents say."""

import hashlib
import reprlib

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import result
from mlops_course.course.checks.comparison import alike
from mlops_course.operations.delivery import Workflow, metrics

__all__ = ["YourTurn", "allowed", "hint", "missed", "refused", "stability", "summary"]

NEEDS = {"style": [], "unit": [], "data": [], "gate": ["data"], "report": ["gate"]}
WORKFLOW = Workflow(
    {name: {"run": f"python -m jobs.{name}", "needs": before} for name, before in NEEDS.items()},
    {"*.md": [], "tests.py": ["unit"], "bars.yaml": ["gate"], "*.py": ["style"]},
    {"new data": ["data"], "night": list(NEEDS)},
)
START = pd.Timestamp("2013-11-03 00:30", tz="America/New_York")  # an hour and a half before the clock is set back
SECOND, DAY = 1 / 60, 24 * 60  # in minutes


def _after(minutes: float, zone: str = "UTC") -> pd.Timestamp:
    return (START + pd.Timedelta(seconds=round(60 * minutes))).tz_convert(zone)


def _change(name: str, minutes: float, *paths: str, zone: str = "UTC") -> dict:
    return {"id": name, "time": _after(minutes, zone), "paths": list(paths)}


def _run(job: str, minutes: float, state: str = "green", zone: str = "UTC") -> dict:
    return {"job": job, "time": _after(minutes, zone), "state": state}


def _missing(events: list[dict], runs: list[dict], now: pd.Timestamp) -> set[tuple[str, str]]:
    none, hour, found = pd.Timedelta(0), pd.Timedelta("1h"), set()
    for event in [event for event in events if now - event["time"] > hour]:
        counted = [run for run in runs if run["state"] != "cancelled" and none <= run["time"] - event["time"] <= hour]
        needed = WORKFLOW.required(event.get("paths", ()), trigger=event.get("trigger"))
        found |= {(event["id"], job) for job in needed} - {(event["id"], run["job"]) for run in counted}
    return found


@check(
    "For each event: which jobs did it need? `workflow.required` takes the changed paths, or the name of a trigger.",
    "For each of these jobs look for a run that counts: same job, not cancelled, begun in the hour after the event.",
    "An event counts once `now` lies more than an hour after it. The end of the hour itself is still in time.",
)
def missed(answer):
    """Each job that an event needed is named if no run of it began within the hour, and no other job."""

    def ask(words: str, events: list[dict], runs: list[dict], now: float = 3000) -> None:
        told = [f"{one['id']} at {one['time']:%d %H:%M:%S%z} {one.get('paths', one.get('trigger'))}" for one in events]
        told += [f"run of {one['job']} at {one['time']:%d %H:%M:%S%z} {one['state']}" for one in runs]
        case = f"With {'; '.join(told) or 'no event'}; and now {_after(now):%d %H:%M:%S%z},"
        fails, give = f"{words} missed fails. {case}", "a set of pairs"
        came = result(answer, WORKFLOW, events, runs, _after(now), case="", hint=fails, kind=set | frozenset, give=give)
        expected = _missing(events, runs, _after(now))
        said = f"{case} missed gave {sorted(came, key=str) or 'nothing'}, expected {sorted(expected) or 'nothing'}."
        ids = [one["id"] for one in events]
        pairs = all(isinstance(pair, tuple) and len(pair) == 2 and pair[0] in ids for pair in came)
        expect(pairs, "Give pairs: first the id of an event, then a job.", case=said)
        expect(came == expected, words, case=said)

    one, unit, style = _change("a", 0, "tests.py"), _run("unit", 5), _run("style", 6)
    ask("All its jobs have run, so none is missing.", [one], [unit, style])
    ask("A job that never ran is missing.", [one], [unit])
    words = "The jobs that have to run before are needed as well: `required` adds them."
    ask(words, [_change("b", 0, "bars.yaml")], [])
    ask(words, [_change("b", 0, "bars.yaml")], [_run("gate", 5)])
    ask("A file that no rule knows needs all jobs.", [_change("c", 0, "new.toml")], [unit])
    ask("An event may have a trigger instead of paths.", [{"id": "d", "time": _after(0), "trigger": "new data"}], [])
    for paths in (("README.md", "tests.py"), ("tests.py", "README.md"), ("tests.py", "bars.yaml")):
        ask("An event may change several files: what any of them needs is needed.", [_change("p", 0, *paths)], [])
    ask("A text needs no job, and nothing needs no job.", [_change("e", 0, "README.md"), _change("f", 0)], [])
    ask("A red run has run.", [one], [unit, _run("style", 6, "red")])
    cancelled = _run("style", 6, "cancelled")
    ask("A cancelled run has judged nothing.", [one], [unit, cancelled])
    for minutes in (3, 9):
        runs = sorted([unit, cancelled, _run("style", minutes)], key=lambda run: run["time"])
        ask("A cancelled run takes nothing away from another run of the same job.", [one], runs)
    for minutes in (-300, -SECOND, 5 - DAY):
        ask("A run that began before the event has not seen it.", [one], [unit, _run("style", minutes)])
    words = "A run that begins at the very time of the event, or exactly an hour after it, is in time."
    for minutes in (0, 60):
        ask(words, [one], [unit, _run("style", minutes)])
    for minutes in (60 + SECOND, 300, 5 + DAY):
        ask("A run that begins over an hour after the event is too late.", [one], [unit, _run("style", minutes)])
    for now in (5, 60 - SECOND, 60):
        ask("The hour is not over yet, so nothing is missing.", [one], [], now)
    ask("The hour is over by a second.", [one], [], 60 + SECOND)
    fresh = _change("n", 100, "tests.py")
    for events in ([fresh, one], [one, fresh]):
        ask("One event's hour is over, and that of another is not.", events, [], 110)
    later = _change("g", 30, "tests.py")
    words = "A run counts for each event that it follows within the hour."
    ask(words, [one, later], [_run("unit", 40), _run("style", 40)])
    ask("A run between two events counts for the first one only.", [one, later], [unit, style])
    ask("Events and runs come in any order.", [later, one], [_run("style", 70), unit])
    words = "Times of different zones are compared as moments, also when the clock is set back."
    for zone in ("America/New_York", "Asia/Tokyo"):
        for minutes in (59, 61, 119):
            runs = [_run(job, 60 + minutes, zone="Europe/Paris") for job in ("unit", "style")]
            ask(words, [_change("h", 60, "tests.py", zone=zone)], runs)
    ask("Without an event nothing is missing.", [], [unit])
    rng = np.random.default_rng(8)
    for _ in range(30):
        events = [_change(f"e{n}", rng.integers(200), "tests.py" if n else "bars.yaml") for n in range(4)]
        states = ["green", "red", "cancelled"] * 5
        runs = [_run(str(rng.choice([*NEEDS])), rng.integers(260), state) for state in states]
        ask("One of these pairs is wrong.", events, runs, 200)


JOBS = {"unit": {"run": "python -m unit"}, "gate": {"run": "python -m gate", "needs": ["unit"]}}
RULES = Workflow(JOBS, {"*.md": [], "tests.py": ["unit"], "features.py": ["unit", "gate"]}, {})
GREEN = {"unit": "green", "gate": "green"}
LIVE = {"README.md": "v1", "features.py": "v1"}
TEXT = {"README.md": "v2"}


def _commit(name: str, verdicts: dict[str, str] | None = None, files: dict[str, str | None] | None = None) -> dict:
    """A commit that differs from what is live in some files; None removes one."""
    whole = {path: content for path, content in {**LIVE, **(files or {})}.items() if content is not None}
    return {"id": name, "files": whole, "verdicts": dict(verdicts or {})}


def _may_go(history: list[dict], production: str | None) -> list[str]:
    first = 0 if production is None else [commit["id"] for commit in history].index(production) + 1
    live = set() if production is None else set(history[first - 1]["files"].items())
    jobs = {one["id"]: RULES.required({path for path, _ in live ^ {*one["files"].items()}}) for one in history[first:]}
    verdicts = {one["id"]: one["verdicts"] for one in history}
    return [name for name, needed in jobs.items() if all(verdicts[name].get(job) == "green" for job in needed)]


@check(
    "A commit brings all commits below it along. So with what do you compare its files?",
    "Collect the paths whose content differs from production; a path may be in one of the two only.",
    "Ask `required` for the jobs of these paths, and then whether each of them is green on this very commit.",
)
def allowed(answer):
    """No red commit reaches production, not even below a harmless one, and a green one is not held up."""

    def ask(words: str, history: list[dict], production: str | None = "c0") -> None:
        told = "; ".join(f"{one['id']} {one['files']} {one['verdicts']}" for one in history)
        case = f"Of the history {told or 'without commits'}, with {production} live,"
        fails, give = f"{words} allowed fails. {case}", "a list of ids"
        came = result(answer, history, production, RULES.required, case="", hint=fails, kind=list | tuple, give=give)
        expected, ids = _may_go(history, production), [one["id"] for one in history]
        later = ids[ids.index(production) + 1 :] if production else ids
        said = f"{case} allowed let {came} through, expected {expected}."
        expect(all(one in later for one in came), "Give ids of commits, and only of those after production.", case=said)
        expect(list(came) == expected, words, case=said)

    live, red = _commit("c0"), _commit("c1", {"unit": "green", "gate": "red"}, {"features.py": "v2"})
    fresh, green = {"features.py": "v2"}, _commit("c1", GREEN, {"features.py": "v2"})
    ask("Its jobs were green.", [live, green])
    ask("A red commit went live: each job that its difference needs has to be green.", [live, red])
    ask("A commit that differs in nothing from what is live needs no job.", [live, _commit("c1")])
    words = "A job that never ran is not green: ask for green, and not for the absence of red."
    ask(words, [live, _commit("c1", {}, fresh)])
    ask(words, [live, _commit("c1", {"unit": "green", "gate": "not run"}, fresh)])
    words = "A harmless commit took a red one along: compare with what is in production, not with the commit before."
    ask(words, [live, red, _commit("c2", {}, fresh | TEXT)])
    words = "A green commit on top of a red one may go live: it is judged as a whole, and the red one is mended in it."
    ask(words, [live, red, _commit("c2", GREEN, {"features.py": "v3"})])
    ask("A text needs no job, so no verdict is missing.", [live, _commit("c1", {}, TEXT)])
    words = "The verdict of a job that the difference does not need has no say."
    ask(words, [live, _commit("c1", {"gate": "red"}, TEXT)])
    words = "What is again as in production has not changed: compare the contents, and do not add up the changes."
    ask(words, [live, red, _commit("c2", {}, TEXT)])
    for how, files in (("removed", {"features.py": None}), ("added", {"tests.py": "v1"}), ("added", {"tests.py": ""})):
        words = f"A file that was {how} is a change: look at the paths of both sides."
        ask(words, [live, _commit("c1", {}, files)])
    words = "A path is more than the name of the file: ask for the jobs of the whole path."
    ask(words, [live, _commit("c1", {"unit": "green"}, {"notes/tests.py": "v1"})])
    for content in ("v1 ", " v1", "v1\n", "V1", "v10", ""):
        ask(f"Content {content!r} is another than 'v1'.", [live, _commit("c1", {}, {"features.py": content})])
    words = "A verdict belongs to one commit: the commit after it has other files."
    ask(words, [live, green, _commit("c2", {}, {"features.py": "v3"})])
    ask("Only commits after production count.", [_commit("c", GREEN), live])
    ask("Production itself is live already.", [_commit("c0", GREEN)])
    for verdicts in ({}, GREEN):
        ask("Before the first deployment nothing is live: every file is a change.", [_commit("c0", verdicts)], None)
    words = "Give all that may go live, oldest first."
    ask(words, [live, _commit("c1", {}, TEXT), red | {"id": "c3"}, _commit("c2", GREEN, {"features.py": "v3"})])
    ask("Without commits there is none.", [], None)
    rng = np.random.default_rng(0)
    for _ in range(150):
        history, names = [], [f"c{n}" for n in range(4)]
        for name in names:
            verdicts = dict(zip(GREEN, rng.choice(["green", "red"], 2, p=[0.8, 0.2]).tolist(), strict=True))
            path = str(rng.choice(["README.md", "tests.py", "features.py", "new.py"]))
            history.append(_commit(name, verdicts, {path: [None, "v1", "v2"][rng.integers(3)]}))
        ask("One is missing, or should not be there.", history, [None, *names][rng.integers(5)])


WHEEL, MAC = "desk_rule-1.0-py3-none-any.whl", "desk_rule-1.0-cp311-cp311-macosx_11_0_arm64.whl"
TESTED, SWAPPED = b"threshold 0.2", b"threshold 0.9"
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 50


def _hash(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def _entry(*hashes: str, name: str = "desk-rule", version: str = "1.0") -> dict:
    return {"name": name, "version": version, "hashes": list(hashes)}


GOOD, OTHER = _hash(TESTED), _hash(SWAPPED)


@check(
    "Split the name of the file at `-`. Which entries of the lock are about this package, after normalisation?",
    "`packaging.utils.canonicalize_name` normalises; `hashlib.new(algorithm, content).hexdigest()` makes a digest.",
    "Refuse if there is no such entry, or if one of them has another version or no hash that counts and fits.",
)
def refused(answer):
    """Only a file that each entry for its package accepts may be installed, whatever else fits by chance."""

    def ask(words: str, lock: list[dict], files: dict[str, bytes], expected: set[str]) -> None:
        case = f"With the lock {SHORT.repr(lock)} and the files {SHORT.repr(files)}"
        fails, give = f"{words} refused fails. {case}", "a set of file names"
        came = result(answer, lock, files, case="", hint=fails, kind=set | frozenset, give=give)
        said = f"{case} refused gave {sorted(came, key=str) or 'nothing'}, expected {sorted(expected) or 'nothing'}."
        expect(all(file in files for file in came), "Only names of the files that came can be given.", case=said)
        expect(came == expected, words, case=said)

    def accept(words: str, *lock: dict, file: str = WHEEL) -> None:
        ask(words, list(lock), {file: TESTED}, set())

    def refuse(words: str, *lock: dict) -> None:
        ask(words, list(lock), {WHEEL: TESTED}, {WHEEL})

    words = "It is one name after normalisation."
    accept("The file may be installed: the package is in the lock and its hash fits.", _entry(GOOD, name="desk_rule"))
    refuse("A hash that does not fit refuses the file.", _entry(OTHER, name="desk_rule"))
    for name in ("desk-rule", "Desk-Rule", "DESK.RULE", "desk--rule", "Desk_.Rule"):
        accept(words, _entry(GOOD, name=name))
    for file in ("Desk_Rule-1.0-py3-none-any.whl", "desk.rule-1.0-py3-none-any.whl", "desk__rule-1.0-cp3-abi3-any.whl"):
        accept(words, _entry(GOOD), file=file)
    words = "A hash belongs to one package and one version."
    refuse(words, _entry(OTHER), _entry(GOOD, name="extra"))
    for version in ("1.1", "1", "1.0.0", "11.0"):
        refuse(words, _entry(GOOD, version=version))
    for name in ("desk", "desk-rule-extra", "deskrule"):
        refuse("A package that is not in the lock is refused.", _entry(GOOD, name=name))
    refuse("A package that is not in the lock is refused.")
    words = "The name of a wheel may have six parts: the package and the version are the first two."
    accept(words, _entry(GOOD), file="desk_rule-1.0-7-py3-none-any.whl")
    refuse("An entry without a hash that counts accepts nothing.", _entry())
    words = "One hash that fits is enough: an entry may list the hashes of several files."
    for two in ([OTHER, GOOD], [GOOD, OTHER], [OTHER, _hash(TESTED, "sha512")]):
        accept(words, _entry(*two))
    for kind in ("sha384", "sha512"):
        accept(f"The algorithm {kind} counts.", _entry(_hash(TESTED, kind)))
    words = "A hash of any other algorithm counts for nothing, and is no reason to crash."
    for weak in (_hash(TESTED, "md5"), _hash(TESTED, "sha1"), _hash(TESTED, "sha3_256"), "blake9:00", "shake_128:00"):
        refuse(words, _entry(weak))
        refuse(words, _entry(weak, OTHER))
        accept(words, _entry(weak, GOOD))
    for kind, wrong in (("sha256", GOOD[7:20]), ("sha256", ""), ("sha256", GOOD[7:] + "00"), ("sha512", GOOD[7:])):
        refuse("Compare algorithm and digest, and the digest as a whole.", _entry(f"{kind}:{wrong}"))
    words = "A name may stand in the lock several times, and each entry for a package has a say."
    again = _entry(GOOD, name="Desk_Rule")
    accept(words, _entry(GOOD), again)
    for spoiled in (_entry(OTHER), _entry(), _entry(GOOD, version="2.0")):
        refuse(words, spoiled, again)
        refuse(words, again, spoiled)
    words, both = "Each file is judged for itself, by its own content.", {WHEEL: TESTED, MAC: SWAPPED}
    ask(words, [_entry(GOOD, OTHER)], both, set())
    ask(words, [_entry(OTHER)], both, {WHEEL})
    extra = "extra-1.0-py3-none-any.whl"
    ask(words, [_entry(GOOD), _entry(OTHER, name="extra")], {extra: TESTED, **both}, {MAC, extra})
    for content, words in ((b"", "An empty file has a hash."), (bytes(200_000), "A digest is of the whole content.")):
        ask(words, [_entry(_hash(content))], {WHEEL: content, MAC: content + b"1"}, {MAC})
        ask(words, [_entry(GOOD)], {WHEEL: content}, {WHEEL})
    ask("Without files there is nothing to refuse.", [_entry(GOOD)], {}, set())


FIRST, LAST = pd.Timestamp("2013-04-01", tz="UTC"), pd.Timestamp("2013-04-11", tz="UTC")
IDS = ["commit", "deployment", "incident"]
DEPLOYED = "deployed 04-02 12:00 c2 d2; deployed 04-03 12:00 c3 d3"
MENDED = "failed 04-03 13:00 i1 d3; restored 04-03 16:00 i1"
PLAIN = f"{DEPLOYED}; deployed 04-04 12:00 c4 d4; deployed 04-05 12:00 c5 d5; {MENDED}"
RATE, TIMES = ("failure_rate",), ("restore_hours", "open")
BOTH = (*RATE, *TIMES)
MEANT = {  # what an answer is told that is wrong in something else than a case is about
    "failure_rate": "The rate is the share of deployments of the window that an incident names, whenever it began.",
    "restore_hours": "The median is of all incidents that were over in the window, or are still open.",
    "open": "An incident is open if it failed before `end` and was not restored before `end`.",
}
TOLD = (  # what it is about; what a wrong answer is told; further events; failure rate, hours to restore, open ones
    (TIMES, "The median of two incidents, of 3 and 5 hours, lies between them: 4 hours.",
     "failed 04-04 13:00 i2 d4; restored 04-04 18:00 i2", 0.5, 4.0, 0),
    (TIMES, "An incident may last days: this one lasts 26 hours, the other 3.",
     "failed 04-04 13:00 i2 d4; restored 04-05 15:00 i2", 0.5, 14.5, 0),
    (TIMES, "Parts of an hour count: this one lasts 7 minutes, the other 3 hours.",
     "failed 04-04 13:00 i2 d4; restored 04-04 13:07 i2", 0.5, (3 + 7 / 60) / 2, 0),
    (TIMES, "An incident that is still open was left out, or not counted until `end`: it may be the longest.",
     "failed 04-05 14:00 i2 d5", 0.5, (3 + 130) / 2, 1),
    (RATE, "Two incidents of one deployment are one failed deployment: count deployments.",
     "failed 04-03 14:00 i2 d3; restored 04-03 19:00 i2", 0.25, 4.0, 0),
    (RATE, "A deployment with several commits has several rows, and is one deployment.",
     "deployed 04-03 12:00 c9 d3", 0.25, 3.0, 0),
    (BOTH, "An event that is in the log twice happened once, at its earliest time.",
     "failed 04-03 15:00 i1 d3; restored 04-03 20:00 i1", 0.25, 3.0, 0),
    (BOTH, "An incident without a known cause belongs to no deployment, and lasts all the same.",
     "failed 04-06 13:00 i2; restored 04-06 18:00 i2", 0.25, 4.0, 0),
    (TIMES, "A median is asked for: one long incident should not move it so much.",
     "failed 04-04 13:00 i2 d4; restored 04-08 13:00 i2; failed 04-05 13:00 i3; restored 04-05 17:00 i3", 0.5, 4.0, 0),
    (TIMES, "An end without a begin has no length.", "restored 04-06 18:00 i9", 0.25, 3.0, 0),
    (TIMES, "What happens at `end` or later is not known yet: an incident that is restored then is open.",
     "failed 04-10 14:00 i2 d5; restored 04-11 00:00 i2", 0.5, 6.5, 1),
    (BOTH, "What happens at `end` or later is not known yet.",
     "failed 04-11 00:00 i2 d5", 0.25, 3.0, 0),
    (TIMES, "An incident counts where it is over: one that was over before the window counts in another.",
     "failed 03-28 13:00 i0 d0; restored 03-29 13:00 i0", 0.25, 3.0, 0),
    (TIMES, "An incident that began before the window and was over in it, or at `start`, counts in full.",
     "failed 03-31 23:00 i0 d0; restored 04-01 00:00 i0", 0.25, 2.0, 0),
    (RATE, "The rate is about the deployments of the window: one that failed before it is not among them.",
     "deployed 03-31 22:00 c0 d0; failed 03-31 23:00 i0 d0; restored 04-01 00:00 i0", 0.25, 2.0, 0),
    (RATE, "A deployment that is written down again later happened at its earliest time, here before the window.",
     "deployed 04-02 10:00 c0 d0; deployed 03-31 22:00 c0 d0", 0.25, 3.0, 0),
    (TIMES, "An incident that began before the window and is still open counts.",
     "failed 03-28 12:00 i0 d0", 0.25, 163.5, 1),
    (BOTH, "The window holds its start and not its end.",
     "deployed 04-01 00:00 c d; deployed 04-11 00:00 a b", 0.2, 3.0, 0),
)  # fmt: skip


def _log(text: str) -> pd.DataFrame:
    """Events such as "deployed 04-03 12:00 c1 d1; failed 04-03 13:00 i1 d1" as a table, with an index of its own."""
    rows = []
    for kind, day, clock, name, *deployment in (event.split() for event in text.split("; ") if event):
        names = {"incident" if kind in ("failed", "restored") else "commit": name}
        time = pd.Timestamp(f"2013-{day} {clock}", tz="UTC")
        rows.append({"kind": kind, "time": time, **names, **({"deployment": deployment[0]} if deployment else {})})
    log = pd.DataFrame(rows, columns=["kind", "time", *IDS], index=range(100, 100 + len(rows)))
    return log.astype(dict.fromkeys(IDS, object)).assign(time=pd.to_datetime(log["time"], utc=True))


def _random_log(rng: np.random.Generator) -> pd.DataFrame:
    """A team's log around the window, shuffled, with repeated events, deployments of several commits and open ends."""
    hour, moved = pd.Timedelta("1h"), [FIRST + pd.Timedelta(hours=round(at)) for at in rng.uniform(-96, 300, 14)]
    rows = [("deployed", moved[n // 2], f"c{n}", f"d{n // 2}", None) for n in range(28)]
    for n in np.flatnonzero(rng.random(28) < 0.4):
        began = moved[n // 2] + hour * rng.uniform(0.1, 20)
        rows.append(("failed", began, None, f"d{n // 2}" if rng.random() < 0.8 else None, f"i{n}"))
        rows += [("restored", began + hour * rng.lognormal(2, 1), None, None, f"i{n}")] * int(rng.random() < 0.7)
    log = pd.DataFrame(rows, columns=["kind", "time", *IDS])
    twice = log.sample(frac=0.3, random_state=0)
    later = twice["time"] + pd.to_timedelta(rng.integers(0, 3, len(twice)) * 7, unit="min")
    return pd.concat([log, twice.assign(time=later)]).sample(frac=1, random_state=0)


@check(
    "Two tables help: deployments with their time, and incidents with their begin and their end.",
    "An incident that is not over has lasted until `end` at least: fill the missing end with it.",
    "For the rate ask of each deployment of the window whether any incident names it.",
)
def stability(answer):
    """Open incidents count as long as they have lasted, and a deployment fails once at most."""

    def ask(words: str, log: str | pd.DataFrame, *values: float, about: tuple[str, ...] = BOTH) -> None:
        case, table, expected = f"A log of {len(log)} events", log, dict(zip(BOTH, values, strict=True))
        if isinstance(log, str):
            case, table = f"From 1 to 10 April the log {log or 'without events'!r}", _log(log)
        fails, give = f"{words} stability fails. {case}.", f"a dictionary with {', '.join(BOTH)}"
        came = result(answer, table, FIRST, LAST, case=case, hint=fails, kind=dict, give=give)
        wrong = [name for name, value in expected.items() if not alike(came.get(name), value)]
        meant = words if not wrong or {*wrong} & {*about} else MEANT[wrong[0]]
        expect_same(came, expected, meant, case=case)

    ask("One of four deployments failed, for 3 h.", PLAIN, 0.25, 3.0, 0)
    words = "Rows come in any order: tell the kinds apart, and look at times."
    ask(words, "; ".join(PLAIN.split("; ")[::-1]), 0.25, 3.0, 0)
    repeated = _log(PLAIN)
    ask("The index of the log may repeat.", repeated.set_axis([0] * len(repeated)), 0.25, 3.0, 0)
    for about, words, more, *expected in TOLD:
        ask(words, f"{PLAIN}; {more}", *expected, about=about)
    words = "Without deployments there is no share, and without incidents no time: both are missing (NaN)."
    ask(words, "", np.nan, np.nan, 0)
    ask(words, DEPLOYED, 0.0, np.nan, 0)
    ask(words, MENDED, np.nan, 3.0, 0)
    rng = np.random.default_rng(100)
    for _ in range(8):
        log = _random_log(rng)
        table = metrics(log, start=FIRST, end=LAST).table
        rate, restore = table.loc["change failure rate", "value"], table.loc["time to restore"]
        words = "Something is counted that should not be, or the other way round."
        ask(words, log, rate, restore["at_least"], int(restore["open"]))
