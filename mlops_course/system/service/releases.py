"""What the registry says is to be served, looked at once a second."""

from functools import partial

from mlops_course.operations.deployment import rollout, serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import Trial
from mlops_course.system.system import System

from .canary import _Canary
from .shadow import _Shadow


class _Releases:
    """Follows the history of the registry: which version is champion, which one is tried, and how it does."""

    def __init__(self, system: System, log: PredictionLog, *, by_itself: bool) -> None:
        self._system, self._log, self._by_itself = system, log, by_itself
        self._newest = -1
        self._champion: int | None = None
        self._trial: Trial | None = None
        self._canary: _Canary | None = None
        self._shadow: _Shadow | None = None

    def current(self) -> serving.Rollout:
        """What to serve now. Reads little, as it is called every second."""
        registry = self._system.registry
        if (newest := registry.newest_release()) != self._newest:
            self._champion, self._trial = registry.champion(), registry.trial()
            self._newest = newest
            if self._by_itself:
                self._follow_trial()
        if self._shadow:
            self._shadow.keep_running()
        note = self._canary.step() if self._canary else ""
        if self._trial is None:
            return serving.Rollout(self._champion)
        takes = partial(rollout.in_share, share=self._trial.share, salt=f"canary {self._trial.release}")
        return serving.Rollout(
            self._champion, self._trial.version, self._trial.mode, self._trial.share, takes=takes, note=note
        )

    def stop(self) -> None:
        """End the process of a version in shadow."""
        if self._shadow:
            self._shadow.stop()
            self._shadow = None

    def _follow_trial(self) -> None:
        """Begin or end shadow and canary as the trial asks."""
        trial = self._trial
        wanted = trial.release if trial else 0
        if self._shadow and not (trial and trial.mode == "shadow" and self._shadow.trial.release == wanted):
            self.stop()
        if trial and trial.mode == "shadow" and not self._shadow:
            self._shadow = _Shadow(self._system, self._log, trial)
        if not (trial and trial.mode == "canary"):
            self._canary = None
        elif self._canary and self._canary.trial.release == wanted:
            self._canary.trial = trial
        else:
            self._canary = _Canary(self._system, self._log, trial)
