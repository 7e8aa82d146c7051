"""Versions of a model, who released which and why, and the way back: a thin layer on MLflow's model registry.

    Contract    what travels with a model: inputs, example, specification, data and code version, threshold, metrics
    Registry    register, promote and roll back; try a version as shadow or canary; load it, verified; read the history
    Trial       a version that is being tried beside the champion
    Chain       whether the history is still what was written
    TRUSTED     types that a model file may hold, each with the reason why it is harmless

The *champion* is the version in charge; the *challenger* is the newest one that passed its gate, until it becomes
champion. A version may be tried beside the champion first: a *shadow* only writes to the log, a *canary* answers a
share of the requests.

    registry = Registry("sqlite:////srv/mlflow.db", "pumps", trusted=["pumps.features.derive"])
    version = registry.register(model, contract, run_id=run_id)
    registry.promote(version, approver="Ada", reason="fewer missed connections at the same cost")
    champion = registry.load("champion")        # refused if a file, a type or a probability is not as registered
    registry.roll_back(approver="Grace", reason="false alarms doubled since the release")
    registry.history()

**One insert decides.** The history is a second registered model, `pumps-releases`; each step adds one version to it,
which MLflow numbers in one transaction. Of two releases at once the first insert counts; the second raises
`OvertakenError` and stays on record without effect. MLflow's aliases follow the history: the next call corrects an
alias that an interrupted call left behind or that was moved by hand.

**An edit of the history shows**, unless its author also computes the hashes again. Each release has a hash of its own
facts, a hash of the whole history before it, and the digest of the files that it released. `verify_history` says where
this chain breaks, and changes nothing. Releases that are older than the chain are sealed by the first
release with a hash.

Limits: an approver is a name and not a proof of identity. A person who can write to the database can delete the newest
releases, or compute all hashes again. So keep `Chain.head` where they cannot write, and pass it to `verify_history`.

>>> import pandas as pd
>>> example = pd.DataFrame({"maker": ["Ajax", None], "wind": [4.5, 12.0]})
>>> contract = Contract(**describe(example), fingerprint="f1", specification={"name": "pumps"}, data_version="d1",
...                     code_version="c1", threshold=0.2, metrics={"roc_auc": 0.71}, gate_passed=True)
>>> contract.inputs, contract.example[1]
({'maker': 'string', 'wind': 'double'}, {'maker': None, 'wind': 12.0})
"""

from .contract import Contract, describe
from .errors import (
    ContractError,
    HistoryError,
    OvertakenError,
    PromotionError,
    RegistryError,
    TamperedError,
    UnknownVersionError,
    UntrustedTypesError,
)
from .history import CANARY, ENDED, PROMOTED, ROLLED_BACK, SHADOW, Chain, Trial, champion_steps, champions_of, trial_of
from .model_files import PROBABILITY_TOLERANCE, TRUSTED
from .registry import Registered, Registry

__all__ = [
    "CANARY",
    "ENDED",
    "PROBABILITY_TOLERANCE",
    "PROMOTED",
    "ROLLED_BACK",
    "SHADOW",
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
    "champion_steps",
    "champions_of",
    "describe",
    "trial_of",
]
