"""When to train again, on what, and what to leave out: small pure functions, so that each can be replayed over a year.

    State, Decision    what is known on an evening, and whether to train then, with the reason in words
    POLICIES           never, monthly, on drift, on the estimated loss, on the realised loss, combined
    WINDOWS            which batches to train on: all past, the last ones, those of the same season
    Exclusion          rows or columns of a stretch of time that must not be trained on
    exclusions         what alerts exclude: values are masked where that is enough, rows left out where it is not
    apply              a prediction frame without what is excluded

*Drift is no reason by itself*: a new season brings rows that the model has an answer to, and a broken feed brings rows
that nobody should learn from. The policy on drift is here for comparison. A loss that has risen over the release is a
reason to fit a fresh model, and no proof of age, as some months are harder for every model. So a decision to train only
starts a comparison: the gate sees both models on the same rows, and decides whether one replaces the other.

>>> limits = {"min_new_rows": 1000, "max_log_loss_rise": 0.02, "max_age_days": 90, "cooldown_days": 28}
>>> quiet = State(age_days=40, cooldown_days=40, new_rows=5000, new_batches=1, realised_rise=0.004)
>>> POLICIES["on realised loss"](quiet, limits).retrain, POLICIES["monthly"](quiet, limits).retrain
(False, True)
>>> WINDOWS["seasonal"](["2013-01", "2013-02", "2013-03", "2013-09", "2013-10", "2013-11"])
['2013-01', '2013-02', '2013-10', '2013-11']
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd

__all__ = ["POLICIES", "WINDOWS", "CorruptedError", "Decision", "Exclusion", "State", "apply", "exclusions"]

MASK, DROP, DEDUPLICATE = "mask", "drop", "deduplicate"
ACTIONS = {  # by the kind of an alert: what its rows are still good for
    "unit error": MASK,
    "silent null": MASK,
    "stuck sensor": MASK,
    "clock skew": DROP,  # a model cannot do without the clock, and every feature that rests on it is wrong
    "concept flip": DROP,  # wrong labels, or a new world: a person has to say which
    "duplicated batch": DEDUPLICATE,
}
MAX_LOST = 0.5  # of the rows of a training window: with less left, somebody should look before anything is trained
SEASON = 4  # batches nearest in the calendar


@dataclass(frozen=True, kw_only=True)
class State:
    """What a policy decides by, in plain values; a number is None while nobody can know it.

    `age_days` counts from the training of the champion, `cooldown_days` from the last attempt to train. `new_rows`
    (labelled) and `new_batches` (complete) came after those of the last candidate that went on trial or was promoted.
    `drift` is the largest population stability index of an input against the champion's training sample. The rises are
    those of log loss over that at release. `faults` are kinds of fault with an open alert.
    """

    age_days: int
    cooldown_days: int
    new_rows: int
    new_batches: int
    drift: float | None = None
    estimated_rise: float | None = None
    realised_rise: float | None = None
    faults: tuple[str, ...] = ()
    on_trial: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether to train again, and why or why not."""

    retrain: bool
    reason: str


Limits = Mapping[str, float]
Policy = Callable[[State, Limits], Decision]
Window = Callable[[Sequence[str]], list[str]]


def _monthly(state: State, limits: Limits) -> Decision:
    if state.new_batches:
        return Decision(True, f"{state.new_batches} complete batches since the last training")
    return Decision(False, "no complete batch since the last training")


def _on_drift(state: State, limits: Limits) -> Decision:
    if state.drift is not None and state.drift > limits["psi_alert"]:
        return Decision(True, f"inputs have drifted: index {state.drift:.2f} over {limits['psi_alert']:g}")
    return Decision(False, "inputs have not drifted")


def _on_rise(state: State, limits: Limits, *, what: str) -> Decision:
    rise, bar = getattr(state, f"{what}_rise"), limits["max_log_loss_rise"]
    if rise is None:
        return Decision(False, f"{what} log loss is not known yet")
    return Decision(rise > bar, f"{what} log loss {rise:+.3f} against that at release, bar {bar:g}")


def _combined(state: State, limits: Limits) -> Decision:
    if state.faults:
        return Decision(False, f"a feed is broken ({', '.join(state.faults)}): repair it, a new model would learn it")
    if state.age_days >= limits["max_age_days"]:
        return Decision(True, f"{state.age_days} days old, {limits['max_age_days']:g} allowed")
    realised = _on_rise(state, limits, what="realised")
    return realised if realised.retrain else _on_rise(state, limits, what="estimated")


def _ready(policy: Policy) -> Policy:
    """The policy, held back while a candidate is on trial, a training is recent, or there is little to learn."""

    def decide(state: State, limits: Limits) -> Decision:
        wish = policy(state, limits)
        if not wish.retrain:
            return wish
        if state.on_trial:
            return Decision(False, f"a candidate is on trial ({wish.reason})")
        if state.cooldown_days < limits["cooldown_days"]:
            return Decision(False, f"{state.cooldown_days} days since the last training ({wish.reason})")
        if not state.new_batches or state.new_rows < limits["min_new_rows"]:
            return Decision(False, f"only {state.new_rows} new labelled rows ({wish.reason})")
        return wish

    return decide


POLICIES: Mapping[str, Policy] = {
    "never": lambda state, limits: Decision(False, "never"),
    "monthly": _ready(_monthly),
    "on drift": _ready(_on_drift),
    "on estimated loss": _ready(partial(_on_rise, what="estimated")),
    "on realised loss": _ready(partial(_on_rise, what="realised")),
    "combined": _ready(_combined),
}


# What to train on -----------------------------------------------------------------------------------------------------


def _seasonal(batches: Sequence[str]) -> list[str]:
    """The batches nearest in the calendar to the one that comes next, December being next to January."""
    coming = pd.Period(batches[-1], "M") + 1

    def distance(name: str) -> tuple[int, int]:
        months = abs(pd.Period(name, "M").month - coming.month)
        return min(months, 12 - months), -pd.Period(name, "M").ordinal

    return sorted(sorted(batches, key=distance)[:SEASON])


WINDOWS: Mapping[str, Window] = {  # names of complete batches, in order of time
    "all past": list,
    "last 1": lambda batches: list(batches)[-1:],
    "last 3": lambda batches: list(batches)[-3:],
    "seasonal": _seasonal,
}


# What to leave out ----------------------------------------------------------------------------------------------------


class CorruptedError(ValueError):
    """Too much of a training window is corrupted to train on the rest."""


@dataclass(frozen=True)
class Exclusion:
    """What not to train on, of the rows asked from `start` to `end` (UTC, the end not included).

    "mask" makes the columns missing, "drop" leaves out the rows, "deduplicate" the rows that repeat an earlier one.
    """

    action: str
    start: str
    end: str
    columns: tuple[str, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.action not in (MASK, DROP, DEDUPLICATE):
            raise ValueError(f"action: expected one of {(MASK, DROP, DEDUPLICATE)}, got {self.action!r}")
        if (self.action == MASK) != bool(self.columns):
            raise ValueError(f"columns: expected {'some' if self.action == MASK else 'none'}, got {self.columns}")
        if not pd.to_datetime(self.start, utc=True) < pd.to_datetime(self.end, utc=True):
            raise ValueError(f"end: expected a moment after {self.start}, got {self.end}")
        object.__setattr__(self, "columns", tuple(self.columns))

    def as_dict(self) -> dict[str, Any]:
        """The exclusion as plain values; `Exclusion(**values)` reads them back."""
        return asdict(self) | {"columns": list(self.columns)}


def exclusions(alerts: Sequence[Mapping[str, Any]], *, until: str) -> list[Exclusion]:
    """Return what alerts exclude from training; an alert that is still open excludes all up to `until`.

    An alert is a mapping with kind, subject (a column, or empty), since and until (the first days with and without the
    fault; until may be None). Kinds that are not in ACTIONS exclude nothing: a new season and a shift of the inputs are
    what a model has to learn, and a label that never came is in no training set.
    """
    found = []
    for alert in alerts:
        if action := ACTIONS.get(alert["kind"]):
            columns = (alert["subject"],) if action == MASK else ()
            end = alert["until"] or until
            found.append(Exclusion(action, alert["since"], end, columns, reason=alert["kind"]))
    return found


def apply(rows: pd.DataFrame, excluded: Sequence[Exclusion | Mapping[str, Any]], *, time: str) -> pd.DataFrame:
    """Return a prediction frame without what is excluded; the order of rows stays.

    Two rows that differ in nothing but `id` are duplicates. Raises ValueError if a column to mask holds no numbers, as
    other inputs have no missing value that a model knows; CorruptedError if more than half of all rows would go.
    """
    result = rows
    for one in excluded:
        one = one if isinstance(one, Exclusion) else Exclusion(**one)
        start, end = pd.to_datetime(one.start, utc=True), pd.to_datetime(one.end, utc=True)
        within = result[time].between(start, end, inclusive="left")
        if one.action == MASK:
            if unfit := [name for name in one.columns if not pd.api.types.is_numeric_dtype(result[name])]:
                raise ValueError(f"expected numbers to mask, got {unfit}; drop the rows instead")
            result = result.assign(**{name: result[name].mask(within) for name in one.columns})
        elif one.action == DROP:
            result = result[~within]
        else:
            result = result[~(within & result.drop(columns="id").duplicated())]
    if len(result) < (1 - MAX_LOST) * len(rows):
        raise CorruptedError(
            f"expected at least half of {len(rows):,} rows to train on, {len(result):,} are left without what alerts "
            "forbid; train on other batches, or settle the alerts first"
        )
    return result.reset_index(drop=True)
