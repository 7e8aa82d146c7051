"""The rows that a version was made from."""

from contextlib import suppress

import pandas as pd

from mlops_course.development import data
from mlops_course.operations.registry import PROMOTED, Registry, RegistryError
from mlops_course.system.system import System


def reference_rows(system: System, version: int) -> dict[str, pd.DataFrame]:
    """The rows that a version was made from, with its probabilities: "all" of them, and "test", those it was judged on.

    They come from the snapshots that its run names; where it names the parts only, "all" are those with a label. Raises
    ValueError if its run names neither.
    """
    registered, tags = system.registry.load(version), system.run_of(version).data.tags
    if "split_rows" not in tags:
        raise ValueError(f"expected the run of version {version} to name its rows, got the tags {sorted(tags)}")
    folder, inputs = system.workspace.snapshots, list(registered.contract.inputs)
    parts = data.load_snapshot(folder, tags["split_rows"])
    whole = (
        data.load_snapshot(folder, tags["usable_rows"])["rows"] if "usable_rows" in tags else pd.concat(parts.values())
    )
    return {
        name: rows.assign(probability=registered.model.predict_proba(rows[inputs])[:, 1])
        for name, rows in {"all": whole, "test": parts["test"]}.items()
    }


def first_of_its_kind(registry: Registry, champion: int) -> int:
    """The first version that was in charge with the inputs of the champion; one that does not load is passed over."""
    inputs, history = registry.load(champion).contract.inputs, registry.history()
    for version in history.loc[history["in_effect"] & (history["event"] == PROMOTED), "version"].unique().tolist():
        with suppress(RegistryError):
            if version == champion or registry.load(version).contract.inputs == inputs:
                return version
    return champion
