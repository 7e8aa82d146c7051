"""The rows that a monitor compares: those of the prediction log, and those that a version was made from."""

import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property

import pandas as pd

from mlops_course.design import Specification
from mlops_course.design.specification import Inputs
from mlops_course.development import data
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.registry import PROMOTED, Registry, RegistryError
from mlops_course.system.system import System

OURS = {  # columns of the prediction log and of its tables here, and the subjects of alerts that are no column
    *("number", "id", "time", "assigned_version", "model_version", "share", "probability", "decision", "latency_ms"),
    *("inputs", "label", "label_time", "label_number", "rows", "labels"),
}
PREFIX = "input "


def input_names(names: Iterable[str]) -> dict[str, str]:
    """Return what a monitor calls inputs: by their own names, except where such a name is one of ours.

    No two inputs get the same name, and none gets one of ours.
    """
    return {name: f"{PREFIX}{name}" if name in OURS or name.startswith(PREFIX) else name for name in names}


def watched_inputs(inputs: Inputs) -> Inputs:
    """Return the inputs under the names that a monitor has for them."""
    named = {kind: [*input_names(getattr(inputs, kind)).values()] for kind in ("datetime", "numeric", "categorical")}
    return inputs.model_copy(update=named)


class Observed:
    """Answered rows with their inputs and labels, as far as a log has been read; `parts` are the rows as they came."""

    def __init__(self, specification: Specification) -> None:
        self._inputs = specification.inputs
        self.parts: list[pd.DataFrame] = []
        self._labels: list[pd.DataFrame] = []
        self._answer, self._label = 0, 0  # numbers read so far
        self.contradictions = 0  # labels that contradict the one on record, which is the one that counts

    def read(self, log: PredictionLog) -> int:
        """Take in what is new in the log, and return the number of new rows and labels."""
        answers = log.predictions(after=self._answer)
        labels = log.labelled(after=self._label, inputs=False)[["id", "label", "label_time", "label_number"]]
        self._answer = max([self._answer, *answers["number"].tail(1).tolist()])
        self._label = max([self._label, *labels["label_number"].tail(1).tolist()])
        self.contradictions = len(log.contradictions())
        self.add(self.parsed(answers), labels.drop(columns="label_number"))
        return len(answers) + len(labels)

    def add(self, answers: pd.DataFrame, labels: pd.DataFrame) -> None:
        """Take in answered rows with their inputs in columns, and labels; each of them once."""
        if len(answers):
            self.parts.append(answers.reset_index(drop=True))
        if len(labels):
            self._labels.append(labels)
        self.__dict__.pop("table", None)

    def parsed(self, answers: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the log with a column for each input, instead of their JSON."""
        inputs = self._inputs
        values = pd.DataFrame(json.loads(f"[{','.join(answers['inputs'])}]"), columns=inputs.all, index=answers.index)
        kinds = dict.fromkeys(inputs.numeric, float) | dict.fromkeys(inputs.datetime, "datetime64[us]")
        values = values.astype(kinds).rename(columns=input_names(inputs.all))
        return answers.drop(columns="inputs").join(values)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All answered rows with their labels, as far as these have come, in order of time."""
        if not self.parts:
            return pd.DataFrame()
        rows = pd.concat(self.parts, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
        if not self._labels:
            return rows.assign(label=float("nan"), label_time=pd.Series(pd.NaT, rows.index, rows["time"].dtype))
        labels = pd.concat(self._labels, ignore_index=True).astype({"label": float})
        return rows.merge(labels, on="id", how="left")

    def until(self, now: pd.Timestamp, *, width: pd.Timedelta | None = None) -> pd.DataFrame:
        """Return the rows asked before a moment, and within `width` before it, with the labels known at it."""
        if self.table.empty:
            return self.table
        rows = self.table[self.table["time"] < now]
        rows = rows if width is None else rows[rows["time"] >= now - width]
        return rows.assign(label=rows["label"].where(rows["label_time"] <= now))


def reference_rows(system: System, version: int) -> dict[str, pd.DataFrame]:
    """Return the rows that a version was made from ("all" and "test", those it was judged on) with its probabilities.

    Inputs have the names of `input_names`.
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
        name: rows.rename(columns=input_names(inputs)).assign(
            probability=registered.model.predict_proba(rows[inputs])[:, 1]
        )
        for name, rows in {"all": whole, "test": parts["test"]}.items()
    }


def first_of_its_kind(registry: Registry, champion: int) -> int:
    """Return the first version in charge with the inputs of the champion; one that does not load is passed over."""
    inputs, history = registry.load(champion).contract.inputs, registry.history()
    for version in history.loc[history["in_effect"] & (history["event"] == PROMOTED), "version"].unique().tolist():
        with suppress(RegistryError):
            if version == champion or registry.load(version).contract.inputs == inputs:
                return version
    return champion
