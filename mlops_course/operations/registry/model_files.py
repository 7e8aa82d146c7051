"""The files of a version: written with their digests, and opened only if they are what was registered."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from .contract import Contract, _type_of
from .errors import ContractError, RegistryError, TamperedError, UntrustedTypesError

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
MODEL, CONTRACT, EXAMPLE_PROBABILITIES, SUMS = "model.skops", "contract.json", "answers.json", "SHA256SUMS"
MLFLOW_NOTE = "registered_model_meta"  # dropped beside a local model by MLflow's own loader; never read here
PINNED = ("numpy", "pandas", "scikit-learn", "skops")  # in the model's requirements.txt; MLflow adds itself
PROBABILITY_TOLERANCE = 1e-6  # of a probability: well above what another processor's rounding changes


def _example_probabilities(model: Any, contract: Contract) -> np.ndarray:
    """Return the probabilities of the contract's example, if the model keeps the contract's inputs and threshold."""
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
        raise ContractError(
            f"expected probabilities for the example of the contract, got {probability}; train it again"
        )
    if ((probability >= contract.threshold) != (decisions == model.classes_[1])).any():
        raise ContractError(
            f"the contract says yes from {contract.threshold}, and the model decides {decisions} for the probabilities "
            f"{probability.round(4)}; give both the same threshold"
        )
    return probability


def _pack(folder: Path, model: Any, contract: Contract, *, code: Sequence[Path], trusted: Sequence[str]) -> str:
    """Write all files of a version, and return the digest of their list, SHA256SUMS."""
    import mlflow.sklearn
    import skops.io
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    answers = _example_probabilities(model, contract)
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
    (folder / EXAMPLE_PROBABILITIES).write_text(json.dumps(answers.tolist()), encoding="utf-8")
    sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in _contents(folder).items()).encode()
    (folder / SUMS).write_bytes(sums)  # as the command sha256sum writes it, and `sha256sum --check` reads it
    return _sha256(sums)


def _tags(contract: Contract) -> dict[str, Any]:
    """Return what MLflow shows and searches of a contract."""
    return {
        "fingerprint": contract.fingerprint,
        "data_version": contract.data_version,
        "code_version": contract.code_version,
        "threshold": contract.threshold,
        "gate": contract.gate_outcome,
        "inputs": json.dumps(contract.inputs),
        **{f"metric.{name}": value for name, value in contract.metrics.items()},
    }


def _versions_of(records: Sequence[Any], roles: Mapping[str, int]) -> pd.DataFrame:
    """Return a table of versions, from MLflow's records of them and the aliases that they have."""
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


def _reviewed(model: bytes, trusted: Sequence[str]) -> list[str]:
    """Return the types in a model file that skops does not trust by itself, if each of them is reviewed."""
    import skops.io

    types = skops.io.get_untrusted_types(data=model)
    if foreign := sorted(set(types) - set(TRUSTED) - set(trusted)):
        raise UntrustedTypesError(
            f"the model holds types that nobody has reviewed: {', '.join(foreign)}; read what each does when loaded "
            "and called, then name it in Registry(trusted=[...]), or build the model without it"
        )
    return sorted(types)


def _opened(record: Any, tracking_uri: str, *, trusted: Sequence[str], what: str) -> tuple[Any, Contract]:
    """Return model and contract of a version, verified: its files, their types, and what it says of its example."""
    import skops.io
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with TemporaryDirectory() as private:
        try:
            copy = download_artifacts(artifact_uri=record.source, dst_path=private, tracking_uri=tracking_uri)
        except (OSError, MlflowException) as defect:
            raise RegistryError(f"{what} cannot be read: {defect}; see if {record.source} is there") from defect
        files = _verified(Path(copy), record.tags["digest"], what=what)
    contract = Contract.from_json(files[CONTRACT].decode())
    model = skops.io.loads(files[MODEL], trusted=_reviewed(files[MODEL], trusted))
    found, registered = _example_probabilities(model, contract), np.array(json.loads(files[EXAMPLE_PROBABILITIES]))
    if not np.allclose(found, registered, rtol=0, atol=PROBABILITY_TOLERANCE):
        raise ContractError(
            f"{what} gives its example the probabilities {found.round(4).tolist()}, and gave it "
            f"{registered.round(4).tolist()} when it was registered: feature code or a library has changed; go "
            f"back to code version {contract.code_version} and the model's requirements.txt, or register it again"
        )
    return model, contract


def _verified(folder: Path, digest: str, *, what: str) -> dict[str, bytes]:
    """Return the files of a version, if they are those listed in SHA256SUMS and that list has the digest."""
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
            "who wrote there, then restore its files from a backup or register the model again"
        )
    return files


def _contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by their paths in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
