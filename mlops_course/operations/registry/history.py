"""The history of releases: the champion, the trial, and whether the history is still what was written."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

import pandas as pd

from .errors import HistoryError
from .model_files import _sha256

PROMOTED, ROLLED_BACK, SHADOW, CANARY, ENDED = "promoted", "rolled back", "shadow", "canary", "trial ended"  # events
# Tags of a release that make the chain: which release it follows, hash of the history up to there, hash of its own tags
LINK = ("follows", "history_hash", "own_hash")
NO_HISTORY = "0" * 64  # the hash of a history without releases


@dataclass(frozen=True)
class Trial:
    """A version that is being tried: its mode ("shadow" or "canary"), share of requests, approver and start.

    `release` is the number of the trial's first step in the history; a higher share does not change it or `since`.
    """

    version: int
    mode: str
    share: float
    approver: str
    release: int
    since: datetime


@dataclass(frozen=True)
class Chain:
    """Whether a history is what was written: its steps are chained from number `begins` on, None if no step is.

    `head` is the number of the newest step and the hash of the whole history; keep it elsewhere. `defect` says where
    and how the chain first breaks, and is empty if it does not.
    """

    begins: int | None
    head: str
    defect: str

    @property
    def intact(self) -> bool:
        """Whether no break was found; a history without a chained step has none."""
        return not self.defect


def champion_steps(history: pd.DataFrame) -> pd.DataFrame:
    """Return the steps that made the champions a roll back could still return to, oldest first; the last is in charge.

    Pass the steps up to a moment to know who was in charge then.
    """
    steps: list[int] = []
    for number, event in history.loc[history["in_effect"], "event"].items():
        if event == PROMOTED:
            steps = [*steps, number]
        elif event == ROLLED_BACK:
            steps = [*steps[:-2], number]
    return history.loc[steps]


def champions_of(history: pd.DataFrame) -> list[int]:
    """Return the versions of `champion_steps`, oldest first; the last one is in charge."""
    return champion_steps(history)["version"].tolist()


def trial_of(history: pd.DataFrame) -> Trial | None:
    """Return the trial that is running after the last step in effect; None if there is none."""
    steps = list(history[history["in_effect"]].itertuples())
    if not steps or steps[-1].event not in (SHADOW, CANARY):
        return None
    last = steps[-1]
    *_, first = takewhile(lambda step: (step.event, step.version) == (last.event, last.version), reversed(steps))
    share = 0.0 if last.event == SHADOW else float(last.share)
    return Trial(int(last.version), last.event, share, last.approver, int(first.Index), first.when.to_pydatetime())


def _history_of(records: Sequence[Any], name: str) -> pd.DataFrame:
    """Return the history of the model `name` as a table, from MLflow's records of its releases."""
    words = dict.fromkeys(("approver", "reason", "evidence", "objections", "waiver"), "str")
    dtypes = {"when": "datetime64[us, UTC]", "event": "str", "version": "int64", "previous": "Int64", **words}
    dtypes |= {"share": "float64", "after": "int64", "in_effect": "bool"}
    last, rows = 0, {}
    for number, record in enumerate(records, start=1):
        if int(record.version) != number:
            raise HistoryError(
                f"release {number} of {name} was deleted from MLflow, so its champion is unknown; restore the "
                "database from a backup (until then a version can still be loaded by its number)"
            )
        tags = record.tags
        rows[number] = {
            "when": pd.Timestamp(tags["when"]),
            "event": tags["event"],
            "version": int(tags["version"]),
            "previous": int(tags["previous"]) if "previous" in tags else pd.NA,
            **{word: tags.get(word, "") for word in words},
            "share": float(tags.get("share", "nan")),
            "after": int(tags["after"]),
            "in_effect": int(tags["after"]) == last,
        }
        last = number if rows[number]["in_effect"] else last
    index = pd.Index(list(rows), name="release", dtype="int64")
    return pd.DataFrame(list(rows.values()), index=index, columns=list(dtypes)).astype(dtypes)


def _chain_of(records: Sequence[Any], *, digests: Mapping[int, str | None], kept: str) -> Chain:
    """Return whether the chain of releases holds; `digests` are those of the versions' files as they are now."""
    if kept and not re.fullmatch(r"\d+:[0-9a-f]{64}", kept):
        raise ValueError(f"expected the head of a chain, such as '7:' and 64 hexadecimal digits, got {kept!r}")
    hashes, begins, defect = [NO_HISTORY], None, ""
    for number, record in enumerate(records, start=1):
        defect = defect or _break(record, number, hashes=hashes, chained=begins is not None, digests=digests)
        if begins is None and LINK[0] in record.tags:
            begins = number
        hashes.append(_hash_with(hashes[-1], record))
    number, _, digest = kept.partition(":")
    if kept and not defect and (int(number) >= len(hashes) or hashes[int(number)] != digest):
        defect = f"the first {number} releases are not those of the head that was kept"
    return Chain(begins, f"{len(records)}:{hashes[-1]}", defect)


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as MLflow stores them."""
    return {key: str(value) for key, value in tags.items() if value not in ("", None)}


def _linked(facts: Mapping[str, Any], *, source: str, before: Sequence[Any]) -> dict[str, str]:
    """Return the tags of a release with its link to the releases before."""
    hashes = NO_HISTORY
    for record in before:
        hashes = _hash_with(hashes, record)
    follows, history, own = LINK
    tags = _texts({**facts, follows: before[-1].version if before else 0, history: hashes})
    return {**tags, own: _hash_of(source, tags)}


def _hash_with(history: str, record: Any) -> str:
    """Return the hash of a history with one more record."""
    return _hash_of(history, int(record.version), record.source, dict(record.tags))


def _hash_of(*facts: Any) -> str:
    return _sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())


def _break(record: Any, number: int, *, hashes: Sequence[str], chained: bool, digests: Mapping[int, str | None]) -> str:
    """Return how a release breaks the chain of `hashes` before it, or an empty text.

    It may follow an older release than the one before it: of two at once, the second did not see the first.
    """
    if int(record.version) != number:
        return f"release {number} was deleted"
    tags, (follows, history, own) = dict(record.tags), LINK
    if not chained and not set(LINK) & tags.keys():
        return ""
    if missing := [name for name in LINK if name not in tags]:
        return f"release {number} was inserted, or lost its link: it has no {', '.join(missing)}"
    if tags.pop(own) != _hash_of(record.source, tags):
        return f"release {number} was edited: its facts are not those that were hashed"
    seen = tags[follows]
    if not seen.isdecimal() or int(seen) >= number or hashes[int(seen)] != tags[history]:
        return (
            f"release {number} was written after another history than the one that is there up to release {seen}: one "
            "of these was edited, deleted, inserted or moved"
        )
    if digests.get(version := int(tags["version"])) not in (None, tags.get("released")):
        return f"release {number} released other files than version {version} names now"
    return ""
