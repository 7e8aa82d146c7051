"""What is replayed, and what each day of it brought."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is replayed, in plain values.

    The replay lives through the batches from `first` to `last`, or through their days before `until`; the first
    champion is trained on all batches before. `policy` and `window` say when and on what to train, by their names in
    `retraining`. `faults` are plain values of `faults.Fault`. Unless `careful`, what was trained is promoted at once,
    whatever the gate says, as in a team without a release process.
    """

    first: str
    last: str
    policy: str = "never"
    window: str = "all past"
    until: str = ""
    faults: Sequence[Mapping[str, Any]] = ()
    careful: bool = True
    seed: int = 0

    @property
    def signature(self) -> dict[str, str]:
        """The approver of what the plan does by itself."""
        return {"approver": f"policy {self.policy}, {self.window}"}


class Ledger:
    """What each day brought: JSON lines in a file, the plan first; a line counts once it is whole and on disk.

    Raises ValueError if the file holds another plan.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = json.loads(json.dumps(asdict(plan)))
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            os.truncate(path, sum(map(len, whole)))  # the line that a kill cut off
        if not whole:
            self._append(begun)
        elif (found := json.loads(whole[0])) != begun:
            raise ValueError(f"expected the ledger of {begun} in {path}, found that of {found}; take another folder")
        self.days: list[dict[str, Any]] = [json.loads(line) for line in whole[1:]]

    def add(self, day: Mapping[str, Any]) -> None:
        """Put a day on record; it is on disk when this returns."""
        self._append(day)
        self.days.append(json.loads(json.dumps(day)))

    def frame(self) -> pd.DataFrame:
        """The days so far, one row each."""
        return pd.DataFrame(self.days).drop(columns="loop", errors="ignore")

    def label_number(self) -> int:
        """The number of the last label in the log that a day has counted."""
        return self.days[-1]["loop"]["label_number"] if self.days else 0

    def trainings(self) -> list[dict[str, Any]]:
        """The days on whose evening the policy wanted a training, whatever came of it."""
        return [day for day in self.days if day["retrain"]]

    def candidates(self) -> list[dict[str, Any]]:
        """The days on whose evening a new version went on trial or was promoted: `version`, made from `trained_on`."""
        made = [day for day in self.trainings() if "version" in day and "refused_by" not in day]
        return [day for day in made if day["version"] != day["champion"]]

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
