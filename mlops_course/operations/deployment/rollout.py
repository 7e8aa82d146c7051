"""Releasing a challenger little by little: who gets it, and when the evidence is enough to stop.

    in_share      which requests the challenger answers: by hash, so the same on every machine and every day
    evidence      how strongly the values seen so far say that the challenger is worse, however often one looks
    CanaryPlan    the shares to go through, the slowest answer and the highest cost that are allowed, and the error rate
    judge         stop, raise the share or hold, with the reason and the numbers

A *canary* gives a small share of the requests the challenger's answers; the share grows while nothing speaks against
it. A *shadow* answers every request too, but no caller gets its answers. It needs fewer requests, and is blind where a
decision hides the label. In a *blue-green* release all traffic moves at once: quick to undo, and everyone takes part.

>>> ids = [f"request-{number}" for number in range(1000)]
>>> challenger = in_share(ids, 0.25, salt="canary-7")
>>> int(challenger.sum()), bool((challenger <= in_share(ids, 0.5, salt="canary-7")).all())
(239, True)
>>> equal = evidence(challenger, np.ones(1000), share=0.25, limit=4.0)
>>> worse = evidence(challenger, 1.0 + challenger, share=0.25, limit=4.0)
>>> equal.e_value < 1 / 0.05 < worse.e_value
True
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
import pandas as pd

__all__ = ["CanaryPlan", "Evidence", "Verdict", "evidence", "in_share", "judge"]

STOP, RAISE, HOLD = "stop", "raise", "hold"
BETS = 2.0 ** -np.arange(1, 7)  # from half the stake to a 64th: bold bets find large harm soon, timid ones small harm
MAX_LOG = 700.0  # e-values are cut off at e^700, about 1e304, the last power of e that a float holds comfortably


# Which requests the challenger answers --------------------------------------------------------------------------------


def in_share(ids: Sequence[str], share: float, *, salt: str) -> np.ndarray:
    """Return whether the challenger answers each id (bool): about `share` of them, always the same ones.

    A hash of salt and id decides, so raising the share only adds ids. Take a new salt for each canary, or the same ids
    try everything first. Raises ValueError if the share is not in [0, 1], TypeError if an id or the salt is no text.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {share}; give a share, not a percentage")
    if isinstance(ids, str):
        raise TypeError(f"expected a sequence of ids, got the text {ids!r}; put a single id into a list")
    for text in (salt, *ids):
        if not isinstance(text, str):
            raise TypeError(f"expected ids and salt as text, got {text!r}; convert with str, everywhere alike")
    hashes = b"".join(blake2b(f"{salt}:{name}".encode(), digest_size=8).digest() for name in ids)
    return (np.frombuffer(hashes, dtype=">u8") >> 11) / 2**53 < share  # by 53 bits, as a float holds them exactly


# How strong the evidence is -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the values say against the challenger: `e_values` after each value, and means and counts of both sides.

    The means are for people to read (NaN without values); the test does not use them. If the share was raised while
    the days got worse, the challenger's mean is higher with no fault of its own.
    """

    e_values: np.ndarray
    challenger_mean: float
    champion_mean: float
    challenger_n: int
    champion_n: int

    @property
    def e_value(self) -> float:
        """The largest e-value so far, at least 1: it never falls, so a bar that was reached stays reached."""
        return float(np.max(self.e_values, initial=1.0))


def evidence(challenger: np.ndarray, values: np.ndarray, *, share: float | np.ndarray, limit: float) -> Evidence:
    """Evidence that the challenger's mean is greater than the champion's, valid at every look.

    One entry for each value, in order of arrival: `challenger` says who answered (bool), `values` are from 0 to
    `limit` and bad when large, and `share` is the challenger's share at the time of the answer. Stop when `e_value`
    reaches 1 / alpha: a challenger that is not worse is then stopped with probability alpha at most, however often one
    looks (Ville 1939). A t-test allows one look only.

    Read it as a game. Before each value, part of the stake is bet on "challengers cost more": with v = value / limit,
    p the share, b the mean of all earlier v (one zero before the first), the stake is multiplied by 1 + bet × W,

        W = Z / max(b / p, (1 - b) / (1 - p)) ≥ -1,    Z = (v - b) / p if the challenger answered,
                                                       Z = (b - v) / (1 - p) if the champion did.

    The mean of Z is what the challenger costs more than the champion on this request, so on an equal one no bet gains
    on average. The e-value is the mean stake over a fixed grid of bets, beginning at 1.

    What is assumed:

    - Who answers is drawn for each value by itself, with the share as probability: `in_share` of ids that come once.
      Where one id asks many times, give one value an id, such as its mean.
    - Neither whether a value arrives nor when depends on who answered. Where decisions hide labels, give what was
      really paid for each decision, and no cost computed from labels.
    - Nothing about drift: values may depend on each other, on the hour and on the season. The bound is exact if labels
      come in the order of answers, or shares change by the clock.

    Sources: Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting, for the bets;
    Waudby-Smith, Wu, Ramdas and others 2024, Anytime-valid off-policy inference for contextual bandits, for the shares.

    Raises ValueError if lengths differ, a value is missing or not within 0 and the limit, or a share is not strictly
    between 0 and 1; TypeError if `challenger` is not bool.
    """
    side, v, p = _checked(challenger, values, share, limit)
    seen = np.arange(len(v))
    centre = (np.cumsum(v) - v).clip(0) / (seen + 1)  # the mean of one zero and all earlier values
    z = (v - centre) * np.where(side, 1 / p, -1 / (1 - p))
    w = z / np.maximum(centre / p, (1 - centre) / (1 - p))
    stakes = np.cumsum(np.log1p(BETS[:, None] * w), axis=1)  # one line a bet, as a logarithm
    log_e = np.logaddexp.reduce(stakes, axis=0) - math.log(len(BETS))
    raw = np.asarray(values, dtype=float)
    of_challenger, of_champion = pd.Series(raw[side]), pd.Series(raw[~side])
    return Evidence(
        e_values=np.exp(np.minimum(log_e, MAX_LOG)),
        challenger_mean=float(of_challenger.mean()),
        champion_mean=float(of_champion.mean()),
        challenger_n=len(of_challenger),
        champion_n=len(of_champion),
    )


def _checked(
    challenger: np.ndarray, values: np.ndarray, share: float | np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who answered, values as parts of the limit, and one share for each value."""
    side, raw = np.asarray(challenger), np.asarray(values, dtype=float)
    if not 0 < limit < math.inf:
        raise ValueError(f"expected a positive, finite limit, got {limit}; give the largest value there can be")
    if len(side) and side.dtype != bool:
        raise TypeError(f"challenger: expected bool, got {side.dtype}; convert with astype(bool)")
    shares = np.asarray(share, dtype=float)
    shares = np.full(len(raw), shares) if shares.ndim == 0 else shares
    if not len(side) == len(raw) == len(shares):
        raise ValueError(
            f"expected one entry for each value, got {len(side)} in challenger, {len(raw)} values and {len(shares)} "
            "shares; take them from one frame"
        )
    if (outside := ~((raw >= 0) & (raw <= limit))).any():
        raise ValueError(
            f"expected values from 0 to {limit:g}, got {raw[outside][0]:g} at position {outside.argmax()} and "
            f"{outside.sum()} such in all; leave out what has no value yet, or give the true limit"
        )
    if (one_sided := ~((shares > 0) & (shares < 1))).any():
        raise ValueError(
            f"expected shares strictly between 0 and 1, got {shares[one_sided][0]:g} at position {one_sided.argmax()}; "
            "leave out values from times at which one side answered everything: there is nothing to compare"
        )
    return side.astype(bool), raw / limit, shares


# What to do -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CanaryPlan:
    """Shares and bars of a canary, agreed before it begins, so that nobody moves the bars while looking at numbers.

    A step in shares lasts until the challenger has given `answers_per_step` answers; the way to share 1 is a person's
    promotion. `max_cost` is the most that one decision can cost. `alpha` is the probability of ever stopping a
    challenger that is not worse, split evenly over the measures. Raises ValueError naming the field that cannot be.
    """

    max_latency_ms: float
    max_cost: float
    steps: tuple[float, ...] = (0.1, 0.25, 0.5)
    answers_per_step: int = 100
    alpha: float = 0.05

    def __post_init__(self) -> None:
        steps = (0, *self.steps, 1)
        if not self.steps or any(not low < high for low, high in pairwise(steps)):
            raise ValueError(f"steps: expected rising shares strictly between 0 and 1, got {self.steps}")
        if not isinstance(self.answers_per_step, Integral) or self.answers_per_step < 1:
            raise ValueError(f"answers_per_step: expected a whole number from 1 on, got {self.answers_per_step!r}")
        for name in ("max_latency_ms", "max_cost"):
            if not isinstance(value := getattr(self, name), Real) or not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive, finite number, got {value!r}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: expected a probability strictly between 0 and 1, got {self.alpha!r}")

    @property
    def bar(self) -> float:
        """The e-value at which one of the measures is enough to stop."""
        return 3 / self.alpha  # failures, slow answers and cost


@dataclass(frozen=True, eq=False)
class Verdict:
    """What to do now: `action` is "stop", "raise" or "hold", `share` the challenger's share from now on.

    `reason` is for the audit history. `measures` has one row a measure, with means and counts, e_value and bar.
    """

    action: str
    share: float
    reason: str
    measures: pd.DataFrame


def judge(answers: pd.DataFrame, labels: pd.DataFrame, *, plan: CanaryPlan, share: float) -> Verdict:
    """Stop the canary, raise its share or hold it, judged by all rows since it began; `share` is the present one.

    `answers`: one row an answer, in order: challenger (bool: assigned to it), share (the challenger's at that moment),
    failed (bool: the challenger failed and the champion answered instead) and latency_ms. `labels`: one row a label, in
    the order in which labels came: challenger and share, both of the answer, and cost.

    - "stop", share 0, if the evidence on a measure has ever reached its bar: few failures are enough.
    - "raise" to the next step once the challenger has given enough answers at the present share.
    - "hold" otherwise; at the last step it awaits a person, who promotes or stops.

    Raises ValueError if a column is missing, a share is not strictly between 0 and 1, or a latency or cost is missing
    or out of range; TypeError if challenger or failed is not bool. Frames without rows are allowed.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected the present share strictly between 0 and 1, got {share}; begin at {plan.steps[0]}")
    answers = _columns(answers, "answers", {"challenger": bool, "share": float, "failed": bool, "latency_ms": float})
    labels = _columns(labels, "labels", {"challenger": bool, "share": float, "cost": float})
    if not (answers["latency_ms"] >= 0).all():
        raise ValueError("latency_ms: expected 0 or more in every row, got missing or negative; time failed ones, too")
    slow = answers["latency_ms"] > plan.max_latency_ms
    found = {
        "failures": evidence(answers["challenger"], answers["failed"], share=answers["share"], limit=1.0),
        "slow answers": evidence(answers["challenger"], slow, share=answers["share"], limit=1.0),
        "cost": evidence(labels["challenger"], labels["cost"], share=labels["share"], limit=plan.max_cost),
    }
    given = int((answers["challenger"] & np.isclose(answers["share"], share)).sum())
    columns = ["challenger_mean", "champion_mean", "challenger_n", "champion_n", "e_value"]
    lines = {measure: [getattr(one, column) for column in columns] for measure, one in found.items()}
    table = pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("measure").assign(bar=plan.bar)
    return Verdict(*_decision(found, given, plan, share), table)


def _decision(found: Mapping[str, Evidence], given: int, plan: CanaryPlan, share: float) -> tuple[str, float, str]:
    """Action, share from now on, and reason."""
    measure, worst = max(found.items(), key=lambda item: item[1].e_value)
    e_value = f"e-value {worst.e_value:.3g} against the bar {plan.bar:g}"
    if worst.e_value >= plan.bar:
        means = f"mean {worst.challenger_mean:.4g} against {worst.champion_mean:.4g} of the champion"
        counts = f"{worst.challenger_n} and {worst.champion_n} values"
        return STOP, 0.0, f"challenger worse in {measure}: {means} ({counts}), {e_value}"
    so_far = f"{given} answers of the challenger at share {share:g}"
    most = f"most against it in {measure}, {e_value}"
    if given < plan.answers_per_step:
        return HOLD, share, f"{so_far}, {plan.answers_per_step} wanted; {most}"
    if later := [step for step in plan.steps if step > share and not math.isclose(step, share)]:
        return RAISE, later[0], f"{so_far} and not enough to stop, so on to share {later[0]:g}; {most}"
    return HOLD, share, f"{so_far}, the last step: awaits promotion by a person; {most}"


def _columns(frame: pd.DataFrame, name: str, wanted: Mapping[str, type]) -> dict[str, np.ndarray]:
    """The wanted columns as arrays of their type; a frame without rows need not have them."""
    frame = frame if len(frame) else pd.DataFrame(columns=list(wanted)).astype(wanted)
    if missing := [column for column in wanted if column not in frame.columns]:
        raise ValueError(f"{name}: expected the columns {list(wanted)}, got none called {missing}; add them")
    for column, kind in wanted.items():
        if kind is bool and not pd.api.types.is_bool_dtype(frame[column]):
            raise TypeError(f"{name}.{column}: expected bool, got {frame[column].dtype}; convert with astype(bool)")
    return {column: frame[column].to_numpy(kind) for column, kind in wanted.items()}
