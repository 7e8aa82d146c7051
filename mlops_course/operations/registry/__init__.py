"""Versions of a model, who released which and why, and the way back: a thin layer on MLflow's model registry.

    Contract    what travels with a model: inputs, example, specification, data and code version, threshold, metrics
    Registry    register, promote and roll back; try a version as shadow or canary; load it, verified; read the history
    Trial       a version that is being tried beside the champion
    Chain       whether the history is still what was written
    TRUSTED     types that a model file may hold, each with the reason why it is harmless

*Champion* is the version in charge; *challenger* is the newest one that passed its gate, until it becomes champion. A
version may be tried beside the champion first: as *shadow*, whose answers nobody gets, or as *canary*, which answers a
share of the requests. Each step of that is in the history too, and services do what the history says.

    registry = Registry("sqlite:////srv/mlflow.db", "pumps", trusted=["pumps.features.derive"])
    version = registry.register(model, contract, run_id=run_id)
    registry.promote(version, approver="Ada", reason="fewer missed connections at the same cost")
    champion = registry.load("champion")        # refused if a file, a type or an answer is not what was registered
    registry.roll_back(approver="Grace", reason="false alarms doubled since the release")
    registry.history()

**One insert decides.** The history is a second registered model, `pumps-releases`. A promotion or a roll back adds
one version to it, whose source is the released version. MLflow numbers these in one transaction without gaps, and each
names the release that it follows. Killed before the insert, the old champion stays; killed after it, the new one is in
charge. Of two releases at once the first insert counts; the second raises `OvertakenError` and stays on record without
effect. MLflow's aliases follow the history: one that an interrupted call left behind, or that was moved by hand, is put
right by the next call. Until then that one is what MLflow itself, asked for `models:/pumps@champion`, returns.

**An edit of the history shows.** Each release carries a hash of its own facts and one of the whole history before it,
and names the digest of the files that it released. `verify_history` says where this chain breaks: at a release that was
edited, deleted, inserted or moved, or whose version now has other files. It only looks: a service whose history was
edited goes on, and a person decides. Releases from before there was a chain are sealed, as they were then, by the first
one that has it; `Chain.begins` is its number.

What this does not promise: an approver is a name and not a proof of identity, and whoever can write to the database can
take the newest releases away, or rewrite everything and compute every hash anew. So keep `Chain.head` where they cannot
write, and hand it to `verify_history` later. The rest is for the access rules of the MLflow server.

>>> example = pd.DataFrame({"maker": ["Ajax", None], "wind": [4.5, 12.0]})
>>> contract = Contract(**describe(example), fingerprint="f1", specification={"name": "pumps"}, data_version="d1",
...                     code_version="c1", threshold=0.2, metrics={"roc_auc": 0.71}, gate_passed=True)
>>> contract.inputs
{'maker': 'string', 'wind': 'double'}
>>> contract.example
[{'maker': 'Ajax', 'wind': 4.5}, {'maker': None, 'wind': 12.0}]
>>> Contract.from_json(contract.to_json()) == contract
True
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "TRUSTED",
    "Chain",
    "Contract",
    "ContractError",
    "HistoryError",
    "OvertakenError",
    "PromotionError",
    "Registered",
    "Registry",
    "RegistryError",
    "TamperedError",
    "Trial",
    "UnknownVersionError",
    "UntrustedTypesError",
    "describe",
]

_logger = logging.getLogger(__name__)

# Types beyond those that skops trusts by itself, read in scikit-learn 1.9: none runs code that a file can choose.
# What a case adds (its `derive`) comes in as `Registry(trusted=...)`.
TRUSTED: Mapping[str, str] = {
    "functools.partial": "binds arguments in boosting's encoder of categories; what it binds is reviewed by itself",
    "numpy.dtype": "names the dtype that an imputer or encoder was fitted on",
    "sklearn.calibration._CalibratedClassifier": "pairs a fitted classifier with its calibrators",
    "sklearn.calibration._SigmoidCalibration": "two fitted numbers and a formula",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": "one tree, as arrays of thresholds and values",
    "sklearn.utils.validation.check_array": "scikit-learn's own check of an array, called by boosting's encoder",
}

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases
PROMOTED, ROLLED_BACK, SHADOW, CANARY, ENDED = "promoted", "rolled back", "shadow", "canary", "trial ended"  # events
LINK = ("follows", "history_hash", "own_hash")  # tags of a release that make the chain
NO_HISTORY = "0" * 64  # the hash of a history without releases
MODEL, CONTRACT, ANSWERS, SUMS = "model.skops", "contract.json", "answers.json", "SHA256SUMS"
MLFLOW_NOTE = "registered_model_meta"  # dropped beside a local model by MLflow's own loader; never read here
UNEXPECTED = "%s: MLflow had champion %s, the history has %s: a release was interrupted or the alias moved; put right"
PINNED = ("numpy", "pandas", "scikit-learn", "skops")  # in the model's requirements.txt; MLflow adds itself
EXAMPLES = 5  # rows that travel with the model and that it must answer alike wherever it is loaded
MAX_CATEGORIES = 1000  # more values than that are names or numbers of things, and each day brings new ones
ANSWER_TOLERANCE = 1e-6  # of a probability: well above what another processor's rounding changes

# numpy's letter for a kind of values → type in the contract, in MLflow's words → dtype of the model's input
TYPES = {"f": "double", "i": "long", "u": "long", "b": "boolean", "M": "datetime", "O": "string"}
DTYPES = {"double": "float64", "long": "int64", "boolean": "bool", "datetime": "datetime64[us]", "string": "str"}


class RegistryError(Exception):
    """The registry refuses."""


class ContractError(RegistryError):
    """The contract cannot be written down, or the model does not keep it."""


class HistoryError(RegistryError):
    """A release is missing from the history, so nobody can say which version is champion."""


class OvertakenError(RegistryError):
    """Another release came first; this one is on record without effect."""


class PromotionError(RegistryError):
    """The version must not become champion as things stand."""


class TamperedError(RegistryError):
    """The files of a version are not the ones that were registered."""


class UnknownVersionError(RegistryError):
    """There is no such version, or it was registered without a contract."""


class UntrustedTypesError(RegistryError):
    """The model holds types that nobody has reviewed."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a model promises and where it comes from, in plain values that survive JSON.

    `fingerprint` names the training run by what went into it. `inputs` maps each column to its type: double, long,
    boolean, string or datetime. `example` holds some rows of them, with ISO 8601 texts for datetimes and None for
    missing values. `optional` names the inputs that may be missing, and `categories` the values of a text input that
    training saw; `describe` makes all four. `threshold` is the probability from which the model says yes.

    Raises ContractError if a value is not plain and finite, a version is empty, or the example has other columns than
    the inputs.
    """

    fingerprint: str
    inputs: dict[str, str]
    example: list[dict[str, Any]]
    specification: dict[str, Any]
    data_version: str
    code_version: str
    threshold: float
    metrics: dict[str, float]
    gate_passed: bool
    gate_reasons: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what JSON would lose."""
        try:
            lost = json.loads(self.to_json()) != asdict(self)
        except (TypeError, ValueError) as defect:
            raise ContractError(
                f"expected plain, finite values in the contract: {defect}; convert or omit it"
            ) from defect
        if lost:
            raise ContractError(
                "expected lists and texts as keys in the contract, got tuples or other keys; convert them"
            )
        if not (self.fingerprint and self.data_version and self.code_version):
            raise ContractError(
                "expected fingerprint, data_version and code_version in the contract, got an empty text"
            )
        if not self.example or any(row.keys() != self.inputs.keys() for row in self.example):
            raise ContractError(
                f"expected an example of one row or more with the columns {list(self.inputs)}, got {self.example}; "
                "use describe(frame)"
            )

    def example_frame(self) -> pd.DataFrame:
        """The example as the model takes it: columns in the order and the dtype of `inputs`."""
        return pd.DataFrame(
            {
                column: pd.Series([row[column] for row in self.example], dtype=DTYPES[kind])
                for column, kind in self.inputs.items()
            }
        )

    def to_json(self) -> str:
        """The contract as JSON; `from_json` reads it back to an equal contract."""
        return json.dumps(asdict(self), indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Contract":
        """The contract that `to_json` wrote."""
        return cls(**json.loads(text))


def describe(rows: pd.DataFrame, *, examples: int = EXAMPLES) -> dict[str, Any]:
    """The fields of a contract that rows of the model's inputs tell: inputs, example, optional and categories.

    The example is the first few rows. A number may always be missing, as its column has room for that; another input
    may if it is somewhere in `rows`, which are best all that the model was fitted on. A text input with more than
    `MAX_CATEGORIES` values is no category, and is left out.

    Raises ContractError for a column that has no type there, such as integers with missing values.
    """
    inputs = {column: _type_of(rows[column]) for column in rows}
    example = [
        {column: _plain(value) for column, value in zip(inputs, row, strict=True)}
        for row in rows.head(examples).itertuples(index=False, name=None)
    ]
    values = {column: rows[column].dropna().unique() for column, kind in inputs.items() if kind == "string"}
    return {
        "inputs": inputs,
        "example": example,
        "optional": [column for column, kind in inputs.items() if kind == "double" or rows[column].hasnans],
        "categories": {column: sorted(found) for column, found in values.items() if len(found) <= MAX_CATEGORIES},
    }


@dataclass(frozen=True)
class Registered:
    """A version as loaded and verified: the fitted model, its contract, and the digest of all its files."""

    model: Any
    contract: Contract
    version: int
    digest: str


@dataclass(frozen=True)
class Trial:
    """A version that is being tried: as "shadow" or "canary", with its share of requests, by whose word, since when.

    `release` is the number in the history of the trial's first step; raising the share does not change it or `since`.
    """

    version: int
    mode: str
    share: float
    approver: str
    release: int
    since: datetime


@dataclass(frozen=True)
class Chain:
    """Whether a history is what was written: `releases` steps, of which those from `begins` on are chained.

    `head` is the number of the newest step and the hash of the whole history; keep it elsewhere. `defect` says where
    the chain breaks first and how; it is empty if it does not. `begins` is None if no step is chained.
    """

    releases: int
    begins: int | None
    head: str
    defect: str

    @property
    def intact(self) -> bool:
        """Whether no break was found; a history without a chained step has none to find."""
        return not self.defect


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Registry:
    """The versions of the model `name` in one MLflow store, which need not exist yet.

    `trusted` lists types that this case's models hold beyond `TRUSTED`, by full name. `clock` gives the time that goes
    on record. Nothing is opened before the first call; MLflow's global settings stay as they are.
    """

    tracking_uri: str
    name: str
    registry_uri: str | None = field(default=None, kw_only=True)
    trusted: Sequence[str] = field(default=(), kw_only=True)
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)

    def __post_init__(self) -> None:
        """Check that MLflow can search by the name."""
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(
                f"expected a name of letters, digits, '_', '.' and '-', got {self.name!r}; rename the model"
            )

    def register(self, model: Any, contract: Contract, *, run_id: str, code: Sequence[Path] = ()) -> int:
        """Store model and contract as a new version and return its number; a fingerprint is stored once.

        The files go below the MLflow run that made the model, into a folder named by their digest; then the version is
        made in one transaction. A call that is killed leaves unused files at most, and may be repeated. `code` are
        files or folders to keep beside the model for the record, such as the feature code.

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
        """Make `version` the champion, and put on record who approved it, why, and on what evidence.

        A gate that failed, and inputs other than those that callers send to the present champion, are objections. They
        need a waiver that says why they are accepted, and both go on record. The version is loaded first as by `load`,
        with the same errors.

        Raises PromotionError if approver or reason is blank, the version is champion already, or there are objections
        and no waiver; OvertakenError if another release came first.
        """
        history = self.history()
        if [version] == champions_of(history)[-1:]:
            raise PromotionError(f"version {version} of {self.name} is champion already: promote another one")
        contract = self.load(version).contract
        objections = [] if contract.gate_passed else contract.gate_reasons or ["its gate failed, for no stated reason"]
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._release(PROMOTED, version, history=history, objections=objections, words=words)

    def roll_back(self, *, approver: str, reason: str, evidence: str = "", waiver: str = "") -> int:
        """Make the champion before the present one champion again, whatever its number, and return its version.

        After promotions of 1 and 3 that is 1; then there is none before it, until another version is promoted. Inputs
        are checked as by `promote`, and the version is loaded first as by `load`, with the same errors.

        Raises PromotionError if there is no earlier champion, or as `promote` does; OvertakenError too.
        """
        history = self.history()
        champions = champions_of(history)
        if len(champions) < 2:
            raise PromotionError(f"{self.name} has no earlier champion to roll back to; promote a version instead")
        version = self.load(champions[-2]).version
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._release(ROLLED_BACK, version, history=history, objections=[], words=words)
        return version

    def shadow(self, version: int, *, approver: str, reason: str, waiver: str = "") -> None:
        """Let `version` answer beside the champion without anybody getting its answers; goes on record.

        It is loaded and checked as by `promote`, with the same errors; other inputs than the champion's are refused.
        """
        words = {"approver": approver, "reason": reason, "waiver": waiver}
        self._try(SHADOW, version, share=0.0, words=words)

    def canary(
        self, version: int, *, share: float, approver: str, reason: str, evidence: str = "", waiver: str = ""
    ) -> None:
        """Let `version` answer a share of the requests, strictly between 0 and 1; call again to raise it.

        It is loaded and checked as by `promote`, with the same errors; other inputs than the champion's are refused.
        """
        if not 0 < share < 1:
            raise PromotionError(f"expected a share between 0 and 1 for the canary, got {share}; promote it for all")
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": waiver}
        self._try(CANARY, version, share=share, words=words)

    def end_trial(self, *, approver: str, reason: str, evidence: str = "") -> int:
        """Let the champion answer alone again, and return the version that was being tried.

        Raises PromotionError if none is, or the words are blank; OvertakenError if another release came first.
        """
        history = self.history()
        if not (trial := trial_of(history)):
            raise PromotionError(f"no version of {self.name} is being tried; there is nothing to end")
        words = {"approver": approver, "reason": reason, "evidence": evidence, "waiver": ""}
        self._release(ENDED, trial.version, history=history, objections=[], words=words)
        return trial.version

    def trial(self) -> Trial | None:
        """The version that is being tried beside the champion; None if there is none."""
        return trial_of(self.history())

    def newest_release(self) -> int:
        """The number of the newest step in the history, 0 if there is none: a quick way to see that it has grown."""
        order = ["version_number DESC"]
        found = self._client.search_model_versions(f"name='{self._releases}'", max_results=1, order_by=order)
        return int(found[0].version) if found else 0

    def load(self, version: int | str) -> Registered:
        """The model of a version, or of "champion" or "challenger", if it is exactly what was registered.

        The files are copied to a private folder and compared with their digests before one is opened. Then types are
        compared with those reviewed: MLflow's own loader takes that list from the model's folder, where a forger would
        write it too. Last, the model must answer the contract's example as it did when it was registered; it does not
        if feature code or a library has changed its meaning since.

        Raises UnknownVersionError, TamperedError, UntrustedTypesError or ContractError, and RegistryError itself if the
        files cannot be read.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        record = self._record(version)
        what = f"version {record.version} of {self.name}"
        with TemporaryDirectory() as private:
            try:
                copy = download_artifacts(artifact_uri=record.source, dst_path=private, tracking_uri=self.tracking_uri)
            except (OSError, MlflowException) as defect:
                raise RegistryError(f"{what} cannot be read: {defect}; see if {record.source} is there") from defect
            files = _verified(Path(copy), record.tags["digest"], what=what)
        contract = Contract.from_json(files[CONTRACT].decode())
        model = _unpack(files[MODEL], trusted=self.trusted)
        answers, registered = _answers(model, contract), np.array(json.loads(files[ANSWERS]))
        if not np.allclose(answers, registered, rtol=0, atol=ANSWER_TOLERANCE):
            raise ContractError(
                f"{what} gives its example the probabilities {answers.round(4).tolist()}, and gave it "
                f"{registered.round(4).tolist()} when it was registered: feature code or a library has changed; go "
                f"back to code version {contract.code_version} and the model's requirements.txt, or register anew"
            )
        return Registered(model, contract, int(record.version), record.tags["digest"])

    def champion(self) -> int | None:
        """Number of the version in charge; None before the first promotion."""
        return self._settle().get(CHAMPION)

    def versions(self) -> pd.DataFrame:
        """One row a version, oldest first: its aliases, when it was registered, the contract in short, and metrics."""
        roles, records = self._settle(), self._records(self.name)
        facts = ["gate", "threshold", "data_version", "code_version", "fingerprint", "digest"]
        rows = [
            {
                "version": int(record.version),
                "aliases": ", ".join(alias for alias, number in roles.items() if number == int(record.version)),
                "registered": pd.Timestamp(record.creation_timestamp, unit="ms", tz="UTC"),
                **{fact: record.tags.get(fact) for fact in facts},
            }
            for record in records
        ]
        metrics = [{k: float(v) for k, v in record.tags.items() if k.startswith("metric.")} for record in records]
        table = pd.DataFrame(rows, columns=["version", "aliases", "registered", *facts]).astype({"threshold": float})
        return table.join(pd.DataFrame(metrics, index=table.index))

    def history(self) -> pd.DataFrame:
        """One row a step, oldest first, indexed by its number: when, what, with which champion until then, who, why.

        `share` is that of a canary. `after` is the step that it follows; `in_effect` is False for a step that another
        one overtook.

        Raises HistoryError if a release was deleted.
        """
        words = ["approver", "reason", "evidence", "objections", "waiver"]
        last, rows = 0, {}
        for number, record in enumerate(self._records(self._releases), start=1):
            if int(record.version) != number:
                raise HistoryError(
                    f"release {number} of {self.name} was deleted from MLflow, so its champion is unknown; restore the "
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
        columns = ["when", "event", "version", "previous", *words, "share", "after", "in_effect"]
        dtypes = {
            "when": "datetime64[us, UTC]",
            "version": "int64",
            "previous": "Int64",
            "share": "float64",
            "after": "int64",
            "in_effect": "bool",
        }
        index = pd.Index(list(rows), name="release", dtype="int64")
        return pd.DataFrame(list(rows.values()), index=index, columns=columns).astype(dtypes)

    def verify_history(self, *, kept: str = "") -> Chain:
        """See whether the history is what was written; `kept` is a `Chain.head` from before, kept elsewhere.

        A broken chain is no error here, so that the rest can still be read. Raises ValueError if `kept` is no head.
        """
        if kept and not re.fullmatch(r"\d+:[0-9a-f]{64}", kept):
            raise ValueError(f"expected the head of a chain, such as '7:' and 64 hexadecimal digits, got {kept!r}")
        records, hashes, begins, defect = self._records(self._releases), [NO_HISTORY], None, ""
        digests = {int(record.version): record.tags.get("digest") for record in self._records(self.name)}
        for number, record in enumerate(records, start=1):
            defect = defect or _break(record, number, hashes=hashes, chained=begins is not None, digests=digests)
            if begins is None and LINK[0] in record.tags:
                begins = number
            hashes.append(_hash_with(hashes[-1], record))
        number, _, digest = kept.partition(":")
        if kept and not defect and (int(number) >= len(hashes) or hashes[int(number)] != digest):
            defect = f"the first {number} releases are not those of the head that was kept"
        return Chain(len(records), begins, f"{len(records)}:{hashes[-1]}", defect)

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

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

    def _try(self, event: str, version: int, *, share: float, words: Mapping[str, str]) -> None:
        history = self.history()
        champions = champions_of(history)
        if version in champions[-1:] or not champions:
            raise PromotionError(
                f"expected another version than champion {champions[-1]} to try beside it"
                if champions
                else f"{self.name} has no champion to try version {version} beside; promote one first"
            )
        contract = self.load(version).contract
        objections = [] if contract.gate_passed else contract.gate_reasons or ["its gate failed, for no stated reason"]
        self._release(event, version, history=history, objections=objections, words=words, share=share)

    def _release(
        self,
        event: str,
        version: int,
        *,
        history: pd.DataFrame,
        objections: list[str],
        words: Mapping[str, str],
        share: float | None = None,
    ) -> None:
        """Append to the history as it was when the release was checked: that decides. Then the alias follows."""
        if blank := [role for role in ("approver", "reason") if not words[role].strip()]:
            raise PromotionError(f"expected {' and '.join(blank)} of the release, got a blank; both go on record")
        previous = next(reversed(champions_of(history)), None)
        # Inputs are read from the database: the files of a failing champion may be lost, and the next must not wait.
        versions = {int(record.version): record.tags for record in self._records(self.name)}
        inputs = {number: tags.get("inputs", "{}") for number, tags in versions.items()}
        if previous not in inputs:
            lost = f"champion {previous} was deleted from MLflow, so what callers send is unknown"
            objections = [*objections, lost] if previous and event != ENDED else objections
        elif changes := _changes(json.loads(inputs[previous]), json.loads(inputs[version])):
            if event in (SHADOW, CANARY):
                raise PromotionError(
                    f"version {version} of {self.name} cannot be tried: {'; '.join(changes)}; promote it"
                )
            objections = [*objections, *changes]
        if objections and not words["waiver"].strip():
            raise PromotionError(
                f"version {version} of {self.name} must not become champion: {'; '.join(objections)}; release another "
                "one, or say in waiver why this is accepted"
            )
        facts = {"event": event, "version": version, "previous": previous, "when": self.clock().isoformat()}
        facts |= {"share": share} if share else {}
        facts |= {"after": max(history.index[history["in_effect"]], default=0), "objections": "; ".join(objections)}
        facts |= {"released": versions.get(version, {}).get("digest")} | dict(words)
        source = f"models:/{self.name}/{version}"
        tags = _linked(facts, source=source, before=self._records(self._releases))
        record = self._append(self._releases, source, tags=tags)
        if not self.history().loc[int(record.version), "in_effect"]:
            raise OvertakenError(
                f"release {record.version} ({event}: version {version} of {self.name}) was overtaken by another one "
                "and is on record without effect; read history() and decide again"
            )
        self._settle(expected=version if event in (PROMOTED, ROLLED_BACK) else None)

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

        Aliases are read before the history, so that a release between the two reads is carried on and not undone. A
        champion that MLflow had before the first release is left alone.
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


def champions_of(history: pd.DataFrame) -> list[int]:
    """Champions that a roll back could still return to, oldest first; the last one is in charge."""
    champions: list[int] = []
    for release in history[history["in_effect"]].itertuples():
        if release.event == PROMOTED:
            champions = [*champions, int(release.version)]
        elif release.event == ROLLED_BACK:
            champions = champions[:-1]
    return champions


def trial_of(history: pd.DataFrame) -> Trial | None:
    """The trial that the last step in effect started or went on with."""
    steps = list(history[history["in_effect"]].itertuples())
    if not steps or steps[-1].event not in (SHADOW, CANARY):
        return None
    last = first = steps[-1]
    for step in reversed(steps):
        if (step.event, step.version) != (last.event, last.version):
            break
        first = step
    share = 0.0 if last.event == SHADOW else float(last.share)
    return Trial(int(last.version), last.event, share, last.approver, int(first.Index), first.when.to_pydatetime())


# The chain: tags FOLLOWS (a number), HISTORY (hash of all releases up to that one) and OWN (hash of the other tags)


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as MLflow keeps them."""
    return {key: str(value) for key, value in tags.items() if value not in ("", None)}


def _linked(facts: Mapping[str, Any], *, source: str, before: Sequence[Any]) -> dict[str, str]:
    """The tags of a release with its link to the releases before."""
    hashes = NO_HISTORY
    for record in before:
        hashes = _hash_with(hashes, record)
    follows, history, own = LINK
    tags = _texts({**facts, follows: before[-1].version if before else 0, history: hashes})
    return {**tags, own: _hash_of(source, tags)}


def _hash_with(history: str, record: Any) -> str:
    """The hash of a history with one more record."""
    return _hash_of(history, int(record.version), record.source, dict(record.tags))


def _hash_of(*facts: Any) -> str:
    return _sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())


def _break(record: Any, number: int, *, hashes: Sequence[str], chained: bool, digests: Mapping[int, str | None]) -> str:
    """How a release breaks the chain that `hashes` lead up to; an empty text if it does not.

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


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What callers of the model before would trip over, by input; the order of columns does not count."""
    columns = [column for column in {**before, **after} if before.get(column) != after.get(column)]
    return [f"input {name}: {before.get(name, 'none')} before, {after.get(name, 'none')} now" for name in columns]


def _type_of(values: pd.Series) -> str:
    kind = TYPES.get(values.dtype.kind)
    zoned = isinstance(values.dtype, pd.DatetimeTZDtype)
    if kind is None or zoned or (kind in ("long", "boolean") and values.hasnans):
        raise ContractError(
            f"column {values.name!r} is of dtype {values.dtype}, with {values.isna().sum()} missing; expected text, "
            "float, datetime without zone, or int and bool without missing values: convert it"
        )
    if kind == "string" and not all(isinstance(value, str) for value in values.dropna()):
        raise ContractError(f"column {values.name!r} of {values.dtype} holds other values than texts; convert it")
    return kind


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


def _answers(model: Any, contract: Contract) -> np.ndarray:
    """Probabilities of yes for the contract's example, if the model keeps to inputs and threshold of the contract."""
    example = contract.example_frame()
    fitted = list(getattr(model, "feature_names_in_", example.columns))
    if fitted != list(example.columns):
        raise ContractError(
            f"the model was fitted on the inputs {fitted}, and its contract names {list(example.columns)}; "
            "describe rows of the same inputs, in the same order"
        )
    try:
        probability, decisions = model.predict_proba(example)[:, 1], model.predict(example)
    except Exception as defect:
        raise ContractError(
            f"the model fails on the example of its contract: {type(defect).__name__}: {defect}; "
            "expected a fitted classifier that takes such rows"
        ) from defect
    if not np.isfinite(probability).all():
        raise ContractError(f"expected probabilities for the example of the contract, got {probability}; train anew")
    if ((probability >= contract.threshold) != (decisions == model.classes_[1])).any():
        raise ContractError(
            f"the contract says yes from {contract.threshold}, and the model decides {decisions} for the probabilities "
            f"{probability.round(4)}; give both the same threshold"
        )
    return probability


def _pack(folder: Path, model: Any, contract: Contract, *, code: Sequence[Path], trusted: Sequence[str]) -> str:
    """Write all files of a version and return the digest of their list, SHA256SUMS."""
    import mlflow.sklearn
    import skops.io
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    answers = _answers(model, contract)
    decision = _type_of(pd.Series(model.classes_))
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=ModelSignature(
            inputs=Schema(
                [ColSpec(k, name, required=name not in contract.optional) for name, k in contract.inputs.items()]
            ),
            outputs=Schema([ColSpec(decision)]),
        ),
        input_example=contract.example,
        serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_SKOPS,
        skops_trusted_types=_reviewed(skops.io.dumps(model), trusted),
        pip_requirements=[f"{package}=={metadata.version(package)}" for package in PINNED],
        code_paths=[str(path) for path in code] or None,
    )
    (folder / CONTRACT).write_text(contract.to_json(), encoding="utf-8")
    (folder / ANSWERS).write_text(json.dumps(answers.tolist()), encoding="utf-8")
    sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in _contents(folder).items()).encode()
    (folder / SUMS).write_bytes(sums)  # as the command sha256sum writes it, and `sha256sum --check` reads it
    return _sha256(sums)


def _tags(contract: Contract) -> dict[str, Any]:
    """What MLflow shows and searches of a contract."""
    return {
        "fingerprint": contract.fingerprint,
        "data_version": contract.data_version,
        "code_version": contract.code_version,
        "threshold": contract.threshold,
        "gate": "passed" if contract.gate_passed else "failed",
        "inputs": json.dumps(contract.inputs),
        **{f"metric.{name}": value for name, value in contract.metrics.items()},
    }


def _reviewed(model: bytes, trusted: Sequence[str]) -> list[str]:
    """The types that a model file holds beyond what skops trusts, if each of them is reviewed."""
    import skops.io

    types = skops.io.get_untrusted_types(data=model)
    if foreign := sorted(set(types) - set(TRUSTED) - set(trusted)):
        raise UntrustedTypesError(
            f"the model holds types that nobody has reviewed: {', '.join(foreign)}; read what each does when loaded "
            "and called, then name it in Registry(trusted=[...]), or build the model without it"
        )
    return sorted(types)


def _unpack(model: bytes, *, trusted: Sequence[str]) -> Any:
    import skops.io

    return skops.io.loads(model, trusted=_reviewed(model, trusted))


def _verified(folder: Path, digest: str, *, what: str) -> dict[str, bytes]:
    """The files of a version, read once, if they are those that SHA256SUMS lists and that list has the digest."""
    files = {name: content for name, content in _contents(folder).items() if name != MLFLOW_NOTE}
    sums = files.pop(SUMS, b"")
    listed = {line[66:]: line[:64] for line in sums.decode(errors="replace").splitlines()}
    found = {name: _sha256(content) for name, content in files.items()}
    wrong = sorted(name for name in {**listed, **found} if listed.get(name) != found.get(name))
    if _sha256(sums) != digest:
        wrong = [SUMS]
    if wrong:
        raise TamperedError(
            f"{what} is not what was registered: {', '.join(wrong)} changed, added or removed; do not use it: find out "
            "who wrote there, then restore its files from a backup or register the model anew"
        )
    return files


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
