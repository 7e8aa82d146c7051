"""The release steps of one evening, each taken once, however often the evening is lived."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import pandas as pd

from mlops_course.operations.registry import Registry, Trial, champions_of, trial_of

T = TypeVar("T")


class Steps:
    """The release history as one evening comes to see it.

    An evening that was cut short is lived again, and the history already holds some of its steps. They are hidden at
    first, and each appears when the evening comes to the act that led to it. So the evening decides by what it knew
    the first time, comes to the same acts, and takes no step twice.
    """

    def __init__(self, registry: Registry, evening: datetime) -> None:
        self._registry, self._evening = registry, evening
        self._all = registry.history()
        self._hidden = list(self._all.index[self._of_evening(self._all)])

    def _of_evening(self, history: pd.DataFrame) -> pd.Series:
        return (history["when"] == self._evening) & history["in_effect"]

    @property
    def history(self) -> pd.DataFrame:
        """The history up to the point that the evening has come to."""
        return self._all.drop(index=self._hidden)

    @property
    def taken(self) -> pd.DataFrame:
        """The steps of this evening, up to this point."""
        return self.history[self._of_evening]

    @property
    def champion(self) -> int:
        """The version in charge."""
        return champions_of(self.history)[-1]

    @property
    def trial(self) -> Trial | None:
        """The version on trial."""
        return trial_of(self.history)

    def take(self, act: Callable[[], T], *events: str) -> T | None:
        """Do what may lead to a step with one of these events, and return what it returned.

        None if it is not done, because the history holds its step, or a later one of this evening, from before.
        """
        if not self._hidden:
            try:
                return act()
            finally:
                self._all = self._registry.history()
        if self._all.loc[self._hidden[0], "event"] in events:
            self._hidden.pop(0)
        return None
