"""Checks of delivery: rules for jobs, a way into production, and four delivery metrics."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlops_course.course.checks import YourTurn, check, expect, expect_same, hint, summary
from mlops_course.course.checks.cases import result
from mlops_course.operations.delivery import Workflow, metrics

__all__ = ["YourTurn", "allowed", "hint", "pace", "stability", "summary", "workflow"]

ALL = ["unit", "data", "equality", "gate", "style"]


def _jobs() -> dict[str, dict]:
    """The jobs of the task and one more, each with another command than in the example."""
    needs = {"equality": {"needs": ["unit"]}, "gate": {"needs": ["data"]}}
    return {name: {"run": f"python -m jobs.{name}", **needs.get(name, {})} for name in ALL}


@check(
    "Go through the table line by line: which pattern holds for these files, and for no others?",
    "What no pattern knows needs every job already. So which files need no line at all?",
    "All patterns that fit a file count together. A text in `data` fits `*.md`, and perhaps one more.",
)
def workflow(answer):
    """Twelve kinds of change get the jobs that they need, and no others."""
    fails = "workflow fails on the jobs of the task and one more."
    made = result(answer, _jobs(), case="", hint=fails, kind=Workflow, give="a delivery.Workflow")
    expect(dict(made.jobs) == _jobs(), "The workflow has other jobs than came in: pass them on as they are.")

    def ask(expected: list[str], words: str, *changes: str | list[str]) -> None:
        for change in changes:
            paths = [change] if isinstance(change, str) else change
            came, case = made.required(paths), f"A change of {', '.join(paths)} needs"
            said = f"{case} {', '.join(expected) or 'no job'}; you have {', '.join(came) or 'none'}."
            expect(set(came) == set(expected), words, case=said)

    words = "Texts for people are read by no job: nobody should wait for a training because of a word."
    ask([], words, "README.md", "docs/how_to.md")
    words = "The code of a feature is a part of the model, so the job that tests the function is not enough."
    ask(ALL[:4], words, "features.py")
    ask(ALL[:4], "The code of the model goes into equality and gate.", "model.py")
    words = "The trained model is read by equality, which needs unit, and by no other."
    ask(["unit", "equality"], words, "model.json")
    words = "No code has changed, and still the model may be another one: new data go into data and gate."
    ask(["data", "gate"], words, "data/2013-05.parquet")
    ask(["data", "gate"], "The bars are read by the gate, which needs data.", "bars.yaml")
    ask(["unit"], "The unit test is read by unit alone.", "checks/unit.py")
    words = "A file that nobody has thought about needs every job: a pattern of yours is too wide."
    ask(ALL, words, "clock.py", "checks/gate.py", "old_features.py", "data/schema.yaml", "notes.txt")
    words = "What everything is run with, or run by, needs every job there is, those that come later as well."
    ask(ALL, words, "requirements.txt", "delivery.yaml")
    ask([], "A text needs nothing, in whatever folder it is: look at the pattern of that folder.", "data/about.md")
    ask(["data", "gate"], "A text adds nothing to what the other file needs.", ["README.md", "data/2013-05.parquet"])
    ask(["unit", "data", "gate"], "Two files need the jobs of both.", ["checks/unit.py", "bars.yaml"])
    ask([], "No file, no job.", [])
    for trigger, expected in (("new data", ["data", "gate"]), ("drift alert", ["data"]), ("schedule", ALL)):
        expect(trigger in made.triggers, f"There is no trigger {trigger!r}: the task names three.")
        came = made.required(trigger=trigger)
        said = f"The trigger {trigger!r} needs {', '.join(expected)}; you have {', '.join(came) or 'none'}."
        expect(set(came) == set(expected), "A trigger starts too much or too little.", case=said)
    expect(len(made.triggers) == 3, f"The task names three triggers, and you have {[*made.triggers]}.")


RULES = Workflow(
    {"unit": {"run": "python -m unit"}, "gate": {"run": "python -m gate", "needs": ["unit"]}},
    {"*.md": [], "tests.py": ["unit"], "features.py": ["unit", "gate"]},
    {},
)
GREEN = {"unit": "green", "gate": "green"}
LIVE = {"README.md": "v1", "features.py": "v1"}


def _commit(name: str, verdicts: dict[str, str] | None = None, **files: str | None) -> dict:
    """A commit that differs from what is live in some files, named without their endings; None removes one."""
    paths = {"readme": "README.md", "features": "features.py", "tests": "tests.py"}
    whole = {**LIVE, **{paths[name]: content for name, content in files.items()}}
    whole = {path: content for path, content in whole.items() if content is not None}
    return {"id": name, "files": whole, "verdicts": dict(verdicts or {})}


def _right(history: list[dict], production: str | None, required: Callable) -> list[str]:
    names = [commit["id"] for commit in history]
    first = 0 if production is None else names.index(production) + 1
    live = {} if production is None else history[first - 1]["files"]
    found = []
    for commit in history[first:]:
        paths = [path for path in {**live, **commit["files"]} if live.get(path) != commit["files"].get(path)]
        if all(commit["verdicts"].get(job) == "green" for job in required(sorted(paths))):
            found.append(commit["id"])
    return found


def _random_history(seed: int) -> tuple[list[dict], str | None]:
    rng = np.random.default_rng(seed)
    files, history = dict(LIVE), []
    for number in range(int(rng.integers(1, 6))):
        path = str(rng.choice(["README.md", "tests.py", "features.py", "new.py"], p=[0.4, 0.2, 0.3, 0.1]))
        if rng.random() < 0.2:
            files = {name: content for name, content in files.items() if name != path}
        else:
            files = {**files, path: str(rng.choice(["v1", "v2"]))}
        verdicts = {job: str(rng.choice(["green", "red", "not run"], p=[0.8, 0.1, 0.1])) for job in GREEN}
        verdicts = {job: verdict for job, verdict in verdicts.items() if rng.random() < 0.8}
        history.append({"id": f"c{number}", "files": files, "verdicts": verdicts})
    live = None if rng.random() < 0.3 else history[int(rng.integers(0, len(history)))]["id"]
    return history, live


@check(
    "A commit brings all commits below it along. So with what do you compare its files?",
    "Collect the paths whose content differs from production; a path may be in one of the two only.",
    "Ask `required` for the jobs of these paths, and then whether each of them is green on this very commit.",
)
def allowed(answer):
    """No red commit reaches production, not even below a harmless one, and a green one is not held up."""

    def ask(history: list[dict], expected: list[str], words: str, *, case: str, production: str | None = "c0") -> None:
        fails = f"allowed fails on {case.rstrip(',')}."
        came = result(
            answer, history, production, RULES.required, case=case, hint=fails, give="a list of ids", kind=list | tuple
        )
        expect(list(came) == expected, words, case=f"Of {case} it let {came} through, expected {expected}.")

    live, new_readme = _commit("c0"), {"readme": "v2"}
    red = _commit("c1", {"unit": "green", "gate": "red"}, features="v2")
    words = "Its jobs were green."
    ask([live, _commit("c1", GREEN, features="v2")], ["c1"], words, case="one green change of the features")
    ask([live, red], [], "A red commit went live.", case="a change of the features with a red gate")
    words = "A job that never ran is not green: ask for green, and not for the absence of red."
    ask([live, _commit("c1", {}, features="v2")], [], words, case="a change of the features without any verdict")
    half = _commit("c1", {"unit": "green", "gate": "not run"}, features="v2")
    ask([live, half], [], words, case="a change of the features whose gate was not run")
    words = "A harmless commit took a red one along: compare with what is in production, not with the commit before."
    fix = _commit("c2", {}, features="v2", **new_readme)
    ask([live, red, fix], [], words, case="a new README on top of a red change of the features")
    words = "A green commit on top of a red one may go live: it is judged as a whole, and the red one is mended in it."
    mended = [live, red, _commit("c2", GREEN, features="v3")]
    ask(mended, ["c2"], words, case="a red change of the features, then a green one")
    words = "A text needs no job, so no verdict is missing."
    ask([live, _commit("c1", {}, **new_readme)], ["c1"], words, case="a new README without verdicts")
    words = "A job that the difference does not need has no say here: it judges what is in production already."
    ask([live, _commit("c1", {"gate": "red"}, **new_readme)], ["c1"], words, case="a new README with a red gate")
    words = "What is again as in production has not changed: compare the contents, and do not add up the changes."
    back = [live, red, _commit("c2", {}, **new_readme)]
    ask(back, ["c2"], words, case="a red change of the features that is taken back, with a new README")
    words = "A file that was removed is a change: look at the paths of both sides."
    ask([live, _commit("c1", {}, features=None)], [], words, case="a commit that removes features.py, without verdicts")
    words = "A file that was added is a change: look at the paths of both sides."
    ask([live, _commit("c1", {}, tests="v1")], [], words, case="a commit that adds tests.py, without verdicts")
    ask([live, _commit("c1", {}, tests="")], [], words, case="a commit that adds an empty tests.py, without verdicts")
    words = "A verdict belongs to one commit: the commit after it has other files."
    again = [live, _commit("c1", GREEN, features="v2"), _commit("c2", {}, features="v3")]
    ask(again, ["c1"], words, case="a green change of the features, and one more without verdicts")
    words = "Only commits after production count: to go back is another decision, a rollback."
    ask([_commit("c", GREEN), live], [], words, case="one commit before production and none after it")
    ask(
        [_commit("c0", GREEN)], [], "Production itself is live already.", case="a history of one commit, which is live,"
    )
    words = "Before the first deployment nothing is live, so every file is a change."
    ask([live], [], words, case="a first commit without verdicts, nothing live,", production=None)
    ask([_commit("c0", GREEN)], ["c0"], words, case="a first green commit, nothing live,", production=None)
    text, three = _commit("c1", {}, **new_readme), [{**red, "id": "c3"}, _commit("c2", GREEN, features="v3")]
    words = "Give all that may go live, oldest first."
    ask([live, text, *three], ["c1", "c2"], words, case="a text, a red and a green commit")
    ask([], [], "Without commits there is none.", case="an empty history", production=None)
    for seed in range(150):
        history, production = _random_history(seed)
        said = "; ".join(f"{one['id']} {one['files']} {one['verdicts']}" for one in history)
        case, words = f"the history {said} with {production} live", "One is missing, or should not be there."
        ask(history, _right(history, production, RULES.required), words, case=case, production=production)


START, END = pd.Timestamp("2013-04-01", tz="UTC"), pd.Timestamp("2013-04-11", tz="UTC")
IDS = ["commit", "deployment", "incident"]
OTHERWISE = "Something is counted that should not be, or the other way round."


def _log(*events: tuple) -> pd.DataFrame:
    """Events such as ("deployed", "03 12:00", "c1", "d1") or ("failed", "03 13:00", "i1", "d1"), of April 2013."""
    rows = []
    for kind, time, name, *more in events:
        names = {"incident": name} if kind in ("failed", "restored") else {"commit": name}
        when = pd.Timestamp(f"2013-{time if time.count('-') else '04-' + time}", tz="UTC")
        rows.append({"kind": kind, "time": when, **names, **({"deployment": more[0]} if more else {})})
    log = pd.DataFrame(rows, columns=["kind", "time", *IDS])
    return log.assign(time=pd.to_datetime(log["time"], utc=True), **{name: log[name].astype(object) for name in IDS})


def _random_log(seed: int) -> pd.DataFrame:
    """A team's log around the window, shuffled, with repeated events, deployments of several commits and open ends."""
    rng = np.random.default_rng(seed)
    events = []
    moved = START + pd.to_timedelta(np.sort(rng.uniform(-4, 13, 14)), unit="D").round("min")
    for number, time in enumerate(moved):
        for one in range(int(rng.integers(1, 4))):
            name = f"c{number}{'abc'[one]}"
            events.append(("committed", time - pd.Timedelta(hours=float(rng.lognormal(3, 0.7))), name, None, None))
            events.append(("deployed", time, name, f"d{number}", None))
            if rng.random() < 0.2 and number + 1 < len(moved):
                events.append(("deployed", moved[number + 1], name, f"d{number + 1}", None))
        for one in range(int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))):
            name, began = f"i{number}{one}", time + pd.Timedelta("1h") * float(rng.uniform(0.1, 20))
            events.append(("failed", began, None, f"d{number}" if rng.random() < 0.8 else None, name))
            if rng.random() < 0.7:
                events.append(("restored", began + pd.Timedelta("1h") * float(rng.lognormal(2, 1)), None, None, name))
    events.append(("committed", START, "waiting", None, None))
    log = pd.DataFrame(events, columns=["kind", "time", *IDS])
    twice = log.sample(frac=0.3, random_state=seed)
    twice = twice.assign(time=twice["time"] + pd.to_timedelta(rng.integers(0, 3, len(twice)) * 7, unit="min"))
    return pd.concat([log, twice]).sample(frac=1, random_state=seed, ignore_index=True)


@check(
    "The order of rows says nothing: which events of the log do you need, and which time of each?",
    "For each commit take its earliest `committed` and its earliest `deployed`, over the whole log.",
    "Throw away first what happened at `end` or later. Only then ask what went live in the window.",
)
def pace(answer):
    """Frequency and lead time are right whatever order, repetition and window the events come in."""

    def ask(log: pd.DataFrame, per_day: float, hours: float, words: str, *, case: str) -> None:
        _metrics(answer, log, {"per_day": per_day, "lead_hours": hours}, words, case=case)

    plain = [("committed", "02 10:00", "c1"), ("deployed", "02 15:00", "c1", "d1")]
    ask(_log(*plain), 0.1, 5.0, "One deployment in ten days, five hours.", case="one commit that is live after 5 h")
    words = "Rows come in any order: tell `committed` and `deployed` apart by their kind."
    ask(_log(*plain[::-1]), 0.1, 5.0, words, case="the same with the later event first")
    more = [("committed", "02 13:00", "c2"), ("deployed", "02 15:00", "c2", "d1")]
    words = "A deployment has as many rows as it has commits: count deployments, not rows."
    ask(_log(*plain, *more), 0.1, 3.5, words, case="two commits in one deployment")
    words = "An event that is in the log twice happened once."
    ask(_log(*plain, *plain), 0.1, 5.0, words, case="two events, each of them twice")
    slow = [("committed", "01 10:00", "c3"), ("deployed", "05 14:00", "c3", "d2")]
    words = "One slow commit should not move the number so much: a median is asked for."
    ask(_log(*plain, *more, *slow), 0.2, 5.0, words, case="three commits that took 5, 2 and 100 h")
    words = "A commit that was made before the window and went live within it counts in full."
    march = _log(("committed", "03-30 00:00", "c1"), plain[1])
    ask(march, 0.1, 87.0, words, case="a commit of 30 March, live on 2 April")
    words = "A commit that is waiting has no lead time yet."
    ask(_log(*plain, ("committed", "03 10:00", "c9")), 0.1, 5.0, words, case="a commit that is live and one that waits")
    words = "A repeated event that was written down late happened at its earliest time."
    late = [("committed", "02 12:00", "c1"), ("deployed", "02 18:00", "c1", "d1")]
    ask(_log(*late, *plain), 0.1, 5.0, words, case="a commit whose events are there again with later times")
    words = "A commit is live when it first goes live. If a later deployment has it again, only that one counts."
    ask(_log(*plain, ("deployed", "04 15:00", "c1", "d2")), 0.2, 5.0, words, case="one commit in two deployments")
    before = [("committed", "03-20 10:00", "c1"), ("deployed", "03-31 23:59", "c1", "d1")]
    words = "What went live before the window belongs to the window before, even if a later deployment holds it again."
    ask(_log(*before), 0.0, np.nan, words, case="one commit that was live before the window")
    ask(_log(*before, ("deployed", "04 15:00", "c1", "d2")), 0.1, np.nan, words, case="that commit, deployed again")
    ask(_log(*before, ("deployed", "01 08:00", "c1", "d1")), 0.0, np.nan, words, case="that deployment, repeated later")
    words = "The window holds its start and not its end."
    first = [("committed", "03-31 22:00", "c1"), ("deployed", "01 00:00", "c1", "d1")]
    ask(_log(*first), 0.1, 2.0, words, case="a deployment at the very start")
    last = [("committed", "10 22:00", "c1"), ("deployed", "11 00:00", "c1", "d1")]
    ask(_log(*last), 0.0, np.nan, words, case="a deployment at the very end")
    words = "A commit whose making is not in the log has no lead time, and its deployment counts."
    ask(_log(*plain, ("deployed", "05 14:00", "c7", "d2")), 0.2, 5.0, words, case="one commit, and one never made")
    ask(_log(), 0.0, np.nan, "Nothing happened: frequency 0, and no lead time (NaN).", case="no events")
    for seed in range(12):
        log = _random_log(seed)
        table = metrics(log, start=START, end=END).table["value"]
        ours = table["deployment frequency"], table["lead time for changes"]
        ask(log, *ours, OTHERWISE, case=f"a team with {len(log)} events")


def _metrics(answer: Callable, log: pd.DataFrame, expected: dict[str, float], words: str, *, case: str) -> None:
    """Ask for the metrics of the window, by name."""
    fails, give = f"{answer.__name__} fails on {case}.", f"a dictionary with the names {[*expected]}"
    came = result(answer, log, START, END, case=case, hint=fails, kind=dict, give=give)
    expect_same(came, expected, words, case=f"The log of {case}")


def _deployed(*days: int) -> list[tuple]:
    return [("deployed", f"{day:02d} 12:00", f"c{day}", f"d{day}") for day in days]


@check(
    "Two tables help: deployments with their time, and incidents with their begin and their end.",
    "An incident that is not over has lasted until `end` at least: fill the missing end with it.",
    "For the rate ask of each deployment of the window whether any incident names it.",
)
def stability(answer):
    """Open incidents count as long as they have lasted, and a deployment fails once at most."""

    def ask(events: list[tuple], rate: float, hours: float, still: int, words: str, *, case: str) -> None:
        expected = {"failure_rate": rate, "restore_hours": hours, "open": still}
        _metrics(answer, _log(*events), expected, words, case=case)

    one = [("failed", "03 13:00", "i1", "d3"), ("restored", "03 16:00", "i1")]
    plain = [*_deployed(2, 3, 4, 5), *one]
    ask(plain, 0.25, 3.0, 0, "One of four failed, for 3 h.", case="four deployments and one incident of 3 h")
    words = "Rows come in any order: tell the kinds apart, and look at times."
    ask(plain[::-1], 0.25, 3.0, 0, words, case="the same in opposite order")
    words = "An incident that is still open was left out: it has lasted until `end` at least, and may be the longest."
    still = ("failed", "05 14:00", "i2", "d5")
    ask([*plain, still], 0.5, (3 + 130) / 2, 1, words, case="one incident of 3 h, and one open for 130 h")
    ask([*_deployed(5), still], 1.0, 130.0, 1, words, case="a single incident, open for 130 h")
    words = "Two incidents of one deployment are one failed deployment: count deployments."
    two = [("failed", "03 14:00", "i2", "d3"), ("restored", "03 19:00", "i2")]
    ask([*plain, *two], 0.25, 4.0, 0, words, case="four deployments, one with incidents of 3 and 5 h")
    words = "A deployment with several commits has several rows, and is one deployment."
    several = ("deployed", "03 12:00", "c9", "d3")
    ask([*plain, several], 0.25, 3.0, 0, words, case="four deployments, one with two commits")
    words = "An event that is in the log twice happened once, at its earliest time."
    late = [("failed", "03 15:00", "i1", "d3"), ("restored", "03 20:00", "i1")]
    ask([*late, *plain, *plain], 0.25, 3.0, 0, words, case="four deployments and one incident, all repeated")
    words = "A median is asked for: one long incident should not move it so much."
    long = [("failed", "04 13:00", "i2", "d4"), ("restored", "08 13:00", "i2")]
    short = [("failed", "05 13:00", "i3", "d5"), ("restored", "05 17:00", "i3")]
    ask([*plain, *long, *short], 0.75, 4.0, 0, words, case="incidents of 3, 96 and 4 h")
    words = "An incident without a known cause belongs to no deployment, and lasts all the same."
    strange = [("failed", "06 13:00", "i2"), ("restored", "06 18:00", "i2")]
    ask([*plain, *strange], 0.25, 4.0, 0, words, case="one incident of 3 h and one of 5 h that names no deployment")
    words = "An end without a begin has no length."
    ask([*plain, ("restored", "06 18:00", "i9")], 0.25, 3.0, 0, words, case="an incident whose begin is missing")
    words = "Without deployments there is no share, and without incidents no time: both are missing (NaN)."
    ask([], np.nan, np.nan, 0, words, case="no events")
    ask(_deployed(2, 3), 0.0, np.nan, 0, words, case="two deployments and no incident")
    ask(one, np.nan, 3.0, 0, words, case="an incident and no deployment")
    _window(ask, plain)
    for seed in range(100, 112):
        log = _random_log(seed)
        table = metrics(log, start=START, end=END).table
        rate, restore = table.loc["change failure rate", "value"], table.loc["time to restore"]
        expected = {"failure_rate": rate, "restore_hours": restore["at_least"], "open": int(restore["open"])}
        _metrics(answer, log, expected, OTHERWISE, case=f"a team with {len(log)} events")


def _window(ask: Callable, plain: list[tuple]) -> None:
    """What happens at the ends of the window, before and after it."""
    words = "What happens at `end` or later is not known yet: an incident that is restored then is open."
    future = [("failed", "10 14:00", "i2", "d5"), ("restored", "11 00:00", "i2")]
    ask([*plain, *future], 0.5, 6.5, 1, words, case="an incident of 3 h and one that is restored at the very end")
    ask([*plain, ("failed", "11 00:00", "i2", "d5")], 0.25, 3.0, 0, words, case="one that begins at the very end")
    words = "An incident counts where it is over: one that was over before the window counts in another."
    old = [("failed", "03-28 13:00", "i0", "d0"), ("restored", "03-29 13:00", "i0")]
    ask([*plain, *old], 0.25, 3.0, 0, words, case="an incident of 3 h and one of March")
    words = "An incident that began before the window and was over in it, or at `start`, counts in full."
    across = [("failed", "03-31 23:00", "i0", "d0"), ("restored", "01 00:00", "i0")]
    ask([*plain, *across], 0.25, 2.0, 0, words, case="an incident of 3 h and one of an hour, over at the start")
    words = "The rate is about the deployments of the window: one that failed before it is not among them."
    before = ("deployed", "03-31 22:00", "c0", "d0")
    ask([*plain, before, *across], 0.25, 2.0, 0, words, case="the same, with the deployment of March in the log")
    words = "A deployment that is written down again later happened at its earliest time, here before the window."
    repeated = ("deployed", "02 10:00", "c0", "d0")
    ask([*plain, repeated, before], 0.25, 3.0, 0, words, case="five deployments, one of them of March and repeated")
    words = "The window holds its start and not its end."
    ends = [("deployed", "01 00:00", "ca", "da"), ("deployed", "11 00:00", "cb", "db")]
    ask([*plain, *ends], 0.2, 3.0, 0, words, case="five deployments, one of them at the start, and one at the end")
