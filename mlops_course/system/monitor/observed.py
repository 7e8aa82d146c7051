"""The rows and labels of a prediction log, as far as they have been read."""

import json
from functools import cached_property

import pandas as pd

from mlops_course.design import Specification
from mlops_course.operations.deployment.prediction_log import PredictionLog

DAY = pd.Timedelta("1D")


class Observed:
    """Answered rows with their inputs and labels; `parts` holds the rows as they came in."""

    def __init__(self, specification: Specification) -> None:
        self._inputs = specification.inputs
        self.parts: list[pd.DataFrame] = []
        self._labels: list[pd.DataFrame] = []
        self._answer, self._label = 0, 0  # numbers read so far

    def read(self, log: PredictionLog) -> int:
        """Take in what the log has come to hold; the number of new rows and labels."""
        answers = log.predictions(after=self._answer)
        labels = log.labelled(after=self._label, inputs=False)[["id", "label", "label_time", "label_number"]]
        self._answer = max([self._answer, *answers["number"].tail(1).tolist()])
        self._label = max([self._label, *labels["label_number"].tail(1).tolist()])
        self.add(self.parsed(answers), labels.drop(columns="label_number"))
        return len(answers) + len(labels)

    def add(self, answers: pd.DataFrame, labels: pd.DataFrame) -> None:
        """Take in answered rows with their inputs in columns, and labels; each of them once."""
        if len(answers):
            self.parts.append(answers.reset_index(drop=True))
        if len(labels):
            self._labels.append(labels.reset_index(drop=True))
        self.__dict__.pop("table", None)

    def parsed(self, answers: pd.DataFrame) -> pd.DataFrame:
        """Rows of the log with a column for each input, instead of their JSON."""
        inputs = self._inputs
        values = pd.DataFrame(json.loads(f"[{','.join(answers['inputs'])}]"), columns=inputs.all, index=answers.index)
        kinds = dict.fromkeys(inputs.numeric, float) | dict.fromkeys(inputs.datetime, "datetime64[us]")
        return answers.drop(columns="inputs").join(values.astype(kinds))

    @cached_property
    def table(self) -> pd.DataFrame:
        """All answered rows with their labels, as far as these have come, in order of time."""
        if not self.parts:
            return pd.DataFrame()
        rows = pd.concat(self.parts, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
        none = pd.DataFrame(
            {"id": pd.Series(dtype=str), "label": [], "label_time": pd.Series(dtype=rows["time"].dtype)}
        )
        labels = pd.concat(self._labels, ignore_index=True) if self._labels else none
        return rows.merge(labels.astype({"label": float}), on="id", how="left")

    @property
    def end(self) -> pd.Timestamp | None:
        """The end of the last day on which rows were answered; None without any."""
        return self.table["time"].iloc[-1].floor("D") + DAY if len(self.table) else None

    def until(self, now: pd.Timestamp, *, width: pd.Timedelta | None = None) -> pd.DataFrame:
        """The rows asked before a moment, and no longer than `width` before it, with the labels known at it."""
        if self.table.empty:
            return self.table
        rows = self.table[self.table["time"] < now]
        rows = rows if width is None else rows[rows["time"] >= now - width]
        return rows.assign(label=rows["label"].where(rows["label_time"] <= now))
