"""The whole loop in a few minutes, as a story: train, release, serve, break, notice, retrain, roll back.

    tell    live through it on a case, say what happens, and return the pages that tell of it

Only the clock, the fault and the bad challenger are staged: the pipeline trains, the gate judges, the service answers
over HTTP, the monitor reads the log, and the canary stops what the gate could not know.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.monitoring import dashboard
from mlops_course.system import drill, pipeline, replay, report
from mlops_course.system.monitor import Monitor
from mlops_course.system.release import release
from mlops_course.system.system import System

__all__ = ["tell"]

NAME = "demo"
SIGNED = {"approver": "demo"}
DAY = pd.Timedelta("1D")
BROKEN = (14, 18)  # days on which a feed breaks, and on which it is whole again
BAD_RELEASE = 5  # day on whose evening a challenger is tried whose labels were upside down
LAST = 42  # day after which the story ends
AFTER_PROMOTION = 3  # days until the retrained version is rolled back


def tell(
    system: System,
    *,
    say: Callable[[str], None],
    train_on: int = 3,
    progress: Callable[..., None] = lambda text, done, of=None: None,
) -> dict[str, Path]:
    """Live through the story, beginning with the first `train_on` batches, and return the pages that tell of it.

    The first release is made in the workspace of `system`, where a version that is champion already remains champion.
    The rest happens in a workspace of its own, the folder replays/demo, which is emptied first. `progress` gets a text,
    the days that are done now, and of how many; one part is left over for writing the pages. The case needs options for
    faults, `FAULTS`, of which the first unit error is taken. Raises GateRefusedError as a release does.
    """
    past, coming, wish = system.case.batches()[:train_on], system.case.batches()[train_on:], system.specification
    system.workspace.create()
    say(f"{wish.name}: how likely is it that {wish.target.positive}?\n{wish.decision}\n")

    def training(step: str, event: str) -> None:
        progress(f"training: {step.replace('_', ' ')}", 0)

    first = release(system, past, first_use=coming[0], reason="first release", progress=training, **SIGNED)
    auc = first.evidence["metrics"].loc["roc_auc", "value"]
    say(
        f"Trained on {past[0]} to {past[-1]}: version {first.training.version}, {first.training.chosen_model}. "
        f"The gate passed it, and it is champion. On {coming[0]}, which it has not seen, its ROC AUC is {auc:.3f}."
    )
    option = next(one for one in system.case.FAULTS if one["kind"] == "unit error")
    start, end, until = (f"{pd.Timestamp(coming[0]) + days * DAY:%Y-%m-%d}" for days in (*BROKEN, LAST))
    broken = {**option, "start": start, "end": end}
    plan = replay.Plan(first=coming[0], last=coming[1], until=until, policy="monthly", faults=[broken])
    system.workspace.fresh(NAME)
    story = _Story(system, say, past, broken)

    def told(day: pd.Timestamp, line: Mapping[str, Any]) -> None:
        story.day(day, line, training=training)
        progress(f"{day:%d %b}", 1, LAST + 1)

    say(f"\nNow it serves: {LAST} days of {coming[0]} and {coming[1]}, one after the other.")
    done = replay.replay(
        system,
        plan,
        name=NAME,
        over_http=True,
        began=lambda url: say(f"It answers on {url}; the live page is {url}/monitor, while it lasts."),
        told=told,
        progress=training,
    )
    progress("writing the pages", 0)
    return {"release": first.page} | story.end(done)


class _Story:
    """What is said of each day, and what somebody does on some evenings."""

    def __init__(
        self, system: System, say: Callable[[str], None], past: Sequence[str], broken: Mapping[str, Any]
    ) -> None:
        self._system, self._say, self._past, self._broken = system, say, past, broken
        self._days, self._open, self._promoted = 0, set(), 0

    def day(self, day: pd.Timestamp, line: Mapping[str, Any], *, training: Callable[[str, str], None]) -> None:
        """Tell of a day that is on record, and do what the story wants on its evening."""
        self._days += 1
        if f"{day:%Y-%m-%d}" == self._broken["start"]:
            self._say(f"{day:%d %b}  a feed breaks: {self._broken['column']} comes in another unit. Nobody is told.")
        raised = {(alert["kind"], alert["subject"]): alert["text"] for alert in line["alerts"]}
        for key in [key for key in raised if key not in self._open]:
            self._say(f"{day:%d %b}  ALERT  {raised[key]}")
        for key in sorted(self._open - raised.keys()):
            self._say(f"{day:%d %b}  over: {' '.join(key)}")
        self._open = set(raised)
        if line["retrain"]:
            out = line.get("not_trained_on", [])
            left = [f"{' '.join(one['columns']) or 'rows'} of {one['start'][:10]} to {one['end'][:10]}" for one in out]
            without = "; ".join(left) or "exception"
            self._say(f"{day:%d %b}  trained again on {', '.join(line['trained_on'])}, without {without}.")
            for objection in line.get("objections", []):
                self._say(f"{day:%d %b}  the gate refuses: {objection}")
        for step in line["steps"]:
            self._say(f"{day:%d %b}  {step}")
        self._act(day, line, training)

    def _act(self, day: pd.Timestamp, line: Mapping[str, Any], training: Callable[[str, str], None]) -> None:
        evening = day + DAY
        own = System(self._system.case_name, self._system.workspace.replay(NAME), clock=evening.to_pydatetime)
        if self._days == BAD_RELEASE:
            flip = {"kind": "concept flip", "size": 1.0, "start": f"{self._past[0]}-01", "end": f"{day:%Y-%m-%d}"}
            flipped = drill.with_faults(own.case, [flip])
            bad = pipeline.train(flipped, self._past, workspace=own.workspace, seed=0, progress=training)
            judged = "passed it" if bad.gate.passed else f"refused it ({bad.gate.reasons[0]}), and somebody waives that"
            self._say(
                f"{day:%d %b}  a challenger, version {bad.version}, was trained on labels that came upside down. Its "
                f"gate, which reads the same labels, {judged}. A tenth of the ids gets its answers."
            )
            waiver = "" if bad.gate.passed else "the numbers look good to somebody"
            own.registry.canary(bad.version, share=0.1, reason="looks good on paper", waiver=waiver, **SIGNED)
        if any(step.startswith("promoted") for step in line["steps"]):
            self._promoted = self._days
        if self._promoted and self._days == self._promoted + AFTER_PROMOTION:
            back = own.registry.roll_back(reason="to show the way back", **SIGNED)
            self._say(f"{day:%d %b}  somebody rolls back: version {back} answers again, within a second.")

    def end(self, done: replay.Replayed) -> dict[str, Path]:
        """Write the report and the last state of the live page, and say what all of it cost."""
        own, days = done.system, done.ledger.frame()
        monitor = Monitor.of(own)
        with closing(PredictionLog(done.log_url)) as log:
            monitor.read(log)
        now = pd.Timestamp(days["day"].iloc[-1], tz="UTC") + DAY
        page = dashboard.live_page(monitor.state(now), refresh_seconds=None)
        self._say(
            f"\n{days['answered'].sum():,} rows were answered, {days['labelled'].sum():,} labels came back. Wrong "
            f"decisions cost {days['error_cost'].sum():,.0f} {own.specification.costs.unit.split(' ')[0]}, training "
            f"{days['training_cost'].sum():,.0f}, serving {days['serving_cost'].sum():,.0f}."
        )
        return {
            "monitoring": report.write(monitor.report(now), own.workspace.reports / "monitoring.html"),
            "live page, as it was last": report.write(page, own.workspace.reports / "live.html"),
            "ledger": done.ledger.path,
        }
