"""The versions of a model in MLflow: register, release, try, load, and read the history."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from .contract import Contract, _changes
from .errors import OvertakenError, PromotionError, UnknownVersionError
from .history import (
    CANARY,
    ENDED,
    PROMOTED,
    ROLLED_BACK,
    SHADOW,
    Chain,
    Trial,
    _chain_of,
    _history_of,
    _linked,
    _texts,
    champions_of,
    trial_of,
)
from .model_files import _opened, _pack, _tags, _versions_of

_logger = logging.getLogger(__name__)
CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
MAX_WORDS = 10_000  # characters of a reason and of other words on record; MLflow takes 100,000 in a tag
UNEXPECTED = "%s: MLflow had champion %s, the history has %s: a release was interrupted or the alias moved; put right"


@dataclass(frozen=True)
class Registered:
    """A version as loaded and verified: the fitted model, its contract, and the digest of all its files."""

    model: Any
    contract: Contract
    version: int
    digest: str


@dataclass(frozen=True)
class Registry:
    """The versions of the model `name` in one MLflow store, which need not exist yet.

    `trusted` lists the types, by full name, that models of this case hold beyond `TRUSTED`. `clock` gives the times in
    the history. Nothing is opened before the first call; MLflow's global settings stay as they are.
    """

    tracking_uri: str
    name: str
    trusted: Sequence[str] = field(default=(), kw_only=True)
    clock: Callable[[], datetime] = field(default=partial(datetime.now, UTC), kw_only=True)

    def __post_init__(self) -> None:
        """Check that MLflow can search by the name."""
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"expected a name of letters, digits, '_', '.' and '-', got {self.name!r}; rename it")

    def register(self, model: Any, contract: Contract, *, run_id: str, code: Sequence[Path] = ()) -> int:
        """Store model and contract as a new version and return its number; a fingerprint is stored once.

        The files go below the MLflow run that made the model. A call that is killed leaves unused files at most, and
        may be repeated. `code` names files or folders to keep beside the model, such as the feature code.

        Raises ContractError if the model fails on the contract's example or decides by another threshold,
        UntrustedTypesError if it holds types that nobody has reviewed.
        """
        known = {record.tags.get("fingerprint"): record for record in self._records(self.name)}
        record = known.get(contract.fingerprint)
        if not record:
            with TemporaryDirectory() as temporary:
                folder = Path(temporary, "model")
                digest = _pack(folder, model, contract, code=code, trusted=self.trusted)
                target = f"registered/{digest[:16]}"
                self._client.log_artifacts(run_id, str(folder), target)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{target}"
            record = self._append(self.name, source, tags=_tags(contract) | {"digest": digest}, run_id=run_id)
        self._settle()
        return int(record.version)

    def promote(self, version: int, *, approver: str, reason: str, evidence: str = "", waiver: str = "") -> None:
        """Make `version` the champion, and record who approved it, why, and the evidence: what was measured, in words.

        A gate that refused or held the version, and inputs that differ from those of the present champion, are
        objections. They need a waiver that says why they are accepted. The version is loaded first, with the errors of
        `load`.

        Raises PromotionError if approver or reason is blank, the version is champion already, or there are objections
        and no waiver; OvertakenError if another release came first.
        """
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._release(PROMOTED, version, history=self.history(), words=words)

    def roll_back(self, *, approver: str, reason: str, evidence: str = "", waiver: str = "") -> int:
        """Make the previous champion champion again, and return its version: after promotions of 1 and 3 that is 1.

        Inputs are checked as in `promote`. Raises PromotionError if there is no earlier champion, and the errors of
        `promote`.
        """
        history = self.history()
        champions = champions_of(history)
        if len(champions) < 2:
            raise PromotionError(f"{self.name} has no earlier champion to roll back to; promote a version instead")
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._release(ROLLED_BACK, champions[-2], history=history, words=words)
        return champions[-2]

    def shadow(self, version: int, *, approver: str, reason: str, waiver: str = "") -> None:
        """Let `version` predict beside the champion, for the log only.

        The version is checked as in `promote`; inputs that differ from the champion's are refused. One that the gate
        held needs no waiver here: a shadow is how more becomes known of it.
        """
        words = {"approver": approver, "reason": reason, "waiver": waiver}
        self._release(SHADOW, version, history=self.history(), words=words)

    def canary(
        self, version: int, *, share: float, approver: str, reason: str, evidence: str = "", waiver: str = ""
    ) -> None:
        """Let `version` answer a share of the requests, strictly between 0 and 1; call again to raise the share.

        The version is checked as in `promote`; inputs that differ from the champion's are refused.
        """
        if not 0 < share < 1:
            raise PromotionError(f"expected a share between 0 and 1 for the canary, got {share}; promote it for all")
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._release(CANARY, version, history=self.history(), words=words, share=share)

    def end_trial(self, *, approver: str, reason: str, evidence: str = "") -> int:
        """End the trial of a shadow or canary, and return its version.

        Raises PromotionError if there is no trial, and the errors of `promote`.
        """
        history = self.history()
        if not (trial := trial_of(history)):
            raise PromotionError(f"no version of {self.name} is being tried; there is nothing to end")
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": ""}
        self._release(ENDED, trial.version, history=history, words=words)
        return trial.version

    def trial(self) -> Trial | None:
        """Return the trial of a version beside the champion; None if there is none."""
        return trial_of(self.history())

    def newest_release(self) -> int:
        """Return the number of the newest step in the history, 0 if there is none: a quick look for news."""
        order = ["version_number DESC"]
        found = self._client.search_model_versions(f"name='{self._releases}'", max_results=1, order_by=order)
        return int(found[0].version) if found else 0

    def load(self, version: int | str) -> Registered:
        """Load a version, given by number or as "champion" or "challenger", if it is exactly what was registered.

        The files are compared with their digests before one is opened, then the types in the model with the reviewed
        ones. Last, the model must give the contract's example the same probabilities as when it was registered: it
        does not if feature code or a library has changed.

        Raises UnknownVersionError, TamperedError, UntrustedTypesError or ContractError, and RegistryError itself if the
        files cannot be read.
        """
        record = self._record(version)
        what = f"version {record.version} of {self.name}"
        model, contract = _opened(record, self.tracking_uri, trusted=self.trusted, what=what)
        return Registered(model, contract, int(record.version), record.tags["digest"])

    def champion(self) -> int | None:
        """Return the version of the champion; None before the first promotion."""
        return self._settle().get(CHAMPION)

    def versions(self) -> pd.DataFrame:
        """Return one row a version, oldest first: aliases, time of registration, the contract in short, metrics."""
        roles = self._settle()
        return _versions_of(self._records(self.name), roles)

    def history(self) -> pd.DataFrame:
        """Return one row a step, oldest first, by its number: when, which event and version, by whom, and why.

        `previous` is the champion until then, and `in_effect` is False for a step that another one overtook. Raises
        HistoryError if a release was deleted.
        """
        return _history_of(self._records(self._releases), self.name)

    def verify_history(self, *, kept: str = "") -> Chain:
        """Return whether the history is what was written; `kept` is an earlier `Chain.head` that you kept elsewhere.

        Raises ValueError if `kept` is no head.
        """
        digests = {int(record.version): record.tags.get("digest") for record in self._records(self.name)}
        return _chain_of(self._records(self._releases), digests=digests, kept=kept)

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri)

    @property
    def _releases(self) -> str:
        return f"{self.name}-releases"

    def _records(self, name: str) -> list[Any]:
        """MLflow's records of all versions of a registered model, by number."""
        records, token = [], None
        while True:
            page = self._client.search_model_versions(f"name='{name}'", page_token=token)
            records, token = records + list(page), page.token
            if not token:
                return sorted(records, key=lambda record: int(record.version))

    def _record(self, version: int | str) -> Any:
        number = self._settle().get(version) if isinstance(version, str) else version
        records = {int(record.version): record for record in self._records(self.name) if "digest" in record.tags}
        if number not in records:
            raise UnknownVersionError(
                f"{self.name} has no {version if isinstance(version, str) else f'version {version}'}; versions with a "
                f"contract are {', '.join(map(str, records)) or '(none)'}: ask for one, or register and promote"
            )
        return records[number]

    def _append(self, name: str, source: str, *, tags: Mapping[str, Any], run_id: str | None = None) -> Any:
        """Add a version to a registered model, numbered and tagged in one transaction."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as refusal:
            if refusal.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.create_model_version(name, source, run_id=run_id, tags=_texts(tags))

    def _release(
        self, event: str, version: int, *, history: pd.DataFrame, words: Mapping[str, str], share: float | None = None
    ) -> None:
        """Check a release and append it to the history as it was before: that decides. Then the alias follows."""
        if blank := [role for role in ("approver", "reason") if not words[role].strip()]:
            raise PromotionError(f"expected {' and '.join(blank)} of the release, got a blank; both go on record")
        if long := {role: len(text) for role, text in words.items() if len(text) > MAX_WORDS}:
            raise PromotionError(f"expected at most {MAX_WORDS} characters in each of the words on record, got {long}")
        previous = next(reversed(champions_of(history)), None)
        versions = {int(record.version): record.tags for record in self._records(self.name)}
        objections = [] if event == ENDED else self._objections(event, version, champion=previous, versions=versions)
        if objections and not words["waiver"].strip():
            raise PromotionError(
                f"version {version} of {self.name} must not become champion: {'; '.join(objections)}; release another "
                "one, or say in waiver why this is accepted"
            )
        facts = {"event": event, "version": version, "previous": previous, "when": self.clock().isoformat(), **words}
        facts |= {"after": max(history.index[history["in_effect"]], default=0), "objections": "; ".join(objections)}
        facts |= {"released": versions.get(version, {}).get("digest"), "share": share}
        source = f"models:/{self.name}/{version}"
        tags = _linked(facts, source=source, before=self._records(self._releases))
        record = self._append(self._releases, source, tags=tags)
        if not self.history().loc[int(record.version), "in_effect"]:
            raise OvertakenError(
                f"release {record.version} ({event}: version {version} of {self.name}) was overtaken by another one "
                "and is on record without effect; read history() and decide again"
            )
        self._settle(expected=version if event in (PROMOTED, ROLLED_BACK) else None)

    def _objections(
        self, event: str, version: int, *, champion: int | None, versions: Mapping[int, Mapping[str, str]]
    ) -> list[str]:
        """Load a version, which verifies it, and return what speaks against a step unless a waiver accepts it."""
        tried = event in (SHADOW, CANARY)
        if tried and champion is None:
            raise PromotionError(f"{self.name} has no champion to try version {version} beside; promote one first")
        if tried and version == champion:
            raise PromotionError(f"expected another version than champion {champion} to try beside it")
        if version == champion:
            raise PromotionError(f"version {version} of {self.name} is champion already: promote another one")
        contract = self.load(version).contract
        free = event == ROLLED_BACK or contract.gate_passed or (contract.gate_held and event == SHADOW)
        objections = [] if free else contract.gate_reasons or ["its gate failed, for no stated reason"]
        if champion is None:
            return objections
        if champion not in versions:
            return [*objections, f"champion {champion} was deleted from MLflow, so what callers send is unknown"]
        # Inputs are read from the database: the files of a failing champion may be lost, and the next must not wait.
        changes = _changes(json.loads(versions[champion].get("inputs", "{}")), contract.inputs)
        if changes and tried:
            raise PromotionError(f"version {version} of {self.name} cannot be tried: {'; '.join(changes)}; promote it")
        return [*objections, *changes]

    def _roles(self) -> dict[str, int]:
        """Which version is champion and which challenger, by history and versions."""
        history = self.history()
        champions = champions_of(history)
        passed = [int(record.version) for record in self._records(self.name) if record.tags.get("gate") == "passed"]
        roles = {CHAMPION: champions[-1]} if champions else {}
        promoted = history["in_effect"] & (history["event"] == PROMOTED)
        if passed and passed[-1] not in set(history.loc[promoted, "version"]):
            roles[CHALLENGER] = passed[-1]
        return roles

    def _settle(self, *, expected: int | None = None) -> dict[str, int]:
        """Bring MLflow's aliases into line with `_roles`, and return these; `expected` is a champion just released.

        Aliases are read before the history, so that a release between the two reads is not undone. A champion that
        MLflow had before the first release is left alone.
        """
        while True:
            models = self._client.search_registered_models(f"name='{self.name}'")
            found = {alias: int(version) for model in models for alias, version in model.aliases.items()}
            roles = self._roles()
            champion, challenger = roles.get(CHAMPION, found.get(CHAMPION)), roles.get(CHALLENGER)
            if champion != found.get(CHAMPION):
                if champion != expected:
                    _logger.warning(UNEXPECTED, self.name, found.get(CHAMPION, "none"), champion)
                self._client.set_registered_model_alias(self.name, CHAMPION, str(champion))
            elif challenger == found.get(CHALLENGER):
                return roles
            elif challenger:
                self._client.set_registered_model_alias(self.name, CHALLENGER, str(challenger))
            else:
                self._client.delete_registered_model_alias(self.name, CHALLENGER)
