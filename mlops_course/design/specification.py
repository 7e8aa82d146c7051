"""The fields of a specification, and what must be true of each."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

# An indicator is "<measure> ... of|per ...", as in "Share of requests answered within 50 ms". Words cannot prove that
# a thing can be measured, but a wish ("users are happy with us") names no measure at all.
MEASURES = "share|fraction|proportion|percentage|rate|ratio|number|count|sum|mean|average|median|percentile|quantile"


def _defect(wrong: str, expected: str, got: str) -> PydanticCustomError:
    context = {"wrong": wrong, "expected": expected, "got": got}
    return PydanticCustomError("defect", "{wrong}; expected {expected}; got {got}", context)


def _nearest(name: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return repr(close[0]) if close else f"one of {', '.join(known)}"


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise _defect("names something twice", "each name once", ", ".join(map(repr, repeated)))
    return names


def _some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        raise _defect("is empty", "at least one", "an empty list")
    return items


def _measurable(indicator: str) -> str:
    if not re.search(rf"\b({MEASURES})\b.*\b(of|per)\b", indicator, flags=re.IGNORECASE | re.DOTALL):
        raise _defect(
            "cannot be measured", "a measure of something, such as 'share of requests that ...'", repr(indicator)
        )
    return indicator


def _written_as(pattern: str, *, error: str) -> BeforeValidator:
    """Refuse text of another form, because pydantic takes '120' for seconds and '0' for the first day of 1970."""

    def check(value: Any) -> Any:
        if isinstance(value, timedelta | date) or (isinstance(value, str) and re.match(pattern, value)):
            return value
        raise PydanticKnownError(error, {"error": "wrong form"})

    return BeforeValidator(check)


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Names = Annotated[tuple[Text, ...], AfterValidator(_distinct)]
Some = AfterValidator(_some)  # not min_length, which calls a list empty when its items are invalid
Indicator = Annotated[Text, AfterValidator(_measurable)]
Duration = Annotated[timedelta, _written_as("-?P", error="time_delta_parsing"), Field(ge=timedelta(0))]
Day = Annotated[date, _written_as(r"\d{4}-\d\d-\d\d$", error="date_parsing")]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    """Refuses unknown fields and infinite numbers, and cannot be changed once read; lists are kept as tuples."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Target(_Part):
    """What is predicted, and when the truth about it comes in."""

    column: Text = Field(description="column that holds the target")
    definition: Text = Field(description="how the target is computed, so that two people get the same number")
    positive: Text = Field(description="what a 1 in the target column means")
    label_delay: Text = Field(description="how long after the prediction the label is known, and when it never is")


class Timing(_Part):
    """Which columns say when a prediction is made and when its label is known."""

    prediction_time: Text = Field(description="column with the moment of the prediction")
    label_time: Text = Field(description="column with the moment at which the label becomes known")
    lead: Duration = Field(description="time from the prediction to the event, as ISO 8601 duration")

    @model_validator(mode="after")
    def _two_columns(self):
        if self.prediction_time == self.label_time:
            raise _defect("uses one column for both moments", "two columns", repr(self.label_time))
        return self


class Costs(_Part):
    """What each of the two errors costs more than the right decision, and what it costs to have the model.

    Only such net costs give the threshold false_alarm / (false_alarm + missed).
    """

    false_alarm: Positive = Field(description="cost of acting on a positive that does not come, above that of waiting")
    missed: Positive = Field(description="cost of not acting on a positive that does come, above that of acting")
    unit: Text = Field(description="currency and what it is paid for, such as 'EUR per order'")
    training: Positive = Field(description="cost of one training with its review, in that currency")
    serving: Positive = Field(description="cost of a thousand answers, in that currency")


class Columns(_Part):
    """Names of columns by kind; each name once."""

    numeric: Names = Field(description="list of columns that hold quantities")
    categorical: Names = Field(description="list of columns that hold names")

    @property
    def all(self) -> list[str]:
        """All columns as a new list, which is what pandas selects columns by."""
        return [name for kind in type(self).model_fields for name in getattr(self, kind)]

    @model_validator(mode="after")
    def _one_kind_each(self):
        if not self.all:
            raise _defect("names no column", "at least one column", "empty lists")
        _distinct(tuple(self.all))
        return self


class Inputs(Columns):
    """Columns that a request carries, as known at prediction time."""

    datetime: Names = Field(description="list of columns that hold points in time")


class ServiceObjective(_Part):
    """A service level objective: the share of good events that users can rely on."""

    name: Text = Field(description="short name of the objective")
    indicator: Indicator = Field(description="what is counted: share of which events that are good")
    objective: Share = Field(description="share of good events to reach, between 0 and 1")
    window_days: Count = Field(description="days over which the indicator is counted")


class BusinessGoal(_Part):
    """A key performance indicator: what the decision is better for, in the users' own terms."""

    name: Text = Field(description="short name of the indicator")
    indicator: Indicator = Field(description="what is counted: mean, share or number of what")
    direction: Literal["at least", "at most"] = Field(description="which side of the goal is good")
    goal: float = Field(description="number to reach")
    unit: Text = Field(description="unit of the goal")
    window_days: Count = Field(description="days over which the indicator is counted")


class Gates(_Part):
    """What a model must pass on later data before it may be registered for use."""

    min_roc_auc: Annotated[float, Field(ge=0.5, lt=1)] = Field(description="lowest area under the ROC curve")
    max_calibration_error: Share = Field(description="largest calibration error, as probability")
    max_cost_ratio: Positive = Field(description="cost over that of the best constant decision must stay below")
    tolerated_loss: Annotated[float, Field(ge=0)] = Field(
        description="log loss by which the model may be worse than the champion: a price that was agreed on"
    )
    when_not_known: Literal["pass", "hold", "refuse"] = Field(
        description="what follows if the data cannot tell whether it is worse than that: pass, hold or refuse"
    )
    min_slice_rows: Count = Field(description="rows from which a slice is large enough to judge")
    max_slice_auc_drop: Share = Field(description="largest drop of a slice's area under the ROC curve below the whole")
    max_latency_ms: Positive = Field(description="95th percentile of processor time for one row, in ms, at most")


class Monitoring(_Part):
    """When the running system raises an alert."""

    window_days: Count = Field(description="days in one window that is compared with the reference")
    psi_warning: Positive = Field(description="population stability index from which a feature is worth a look")
    psi_alert: Positive = Field(description="population stability index from which a feature has shifted")
    max_missing_rise: Share = Field(description="largest rise in a column's share of missing values")
    max_rate_gap: Share = Field(description="largest gap between mean prediction and observed rate")
    max_label_age_days: Count = Field(description="days after which a missing label counts as an outage")
    max_false_alarms_per_year: Count = Field(description="alerts a year, all checks together, when nothing is wrong")

    @field_validator("psi_alert")
    @classmethod
    def _above_warning(cls, alert: float, info: ValidationInfo) -> float:
        warning = info.data.get("psi_warning", 0)
        if alert <= warning:
            raise _defect("would alert before it warns", f"more than psi_warning, {warning:g}", f"{alert:g}")
        return alert


class Retraining(_Part):
    """When a new model is trained, and when not."""

    min_new_rows: Count = Field(description="labelled rows that must have come since the last training")
    max_log_loss_rise: Positive = Field(description="rise of log loss over its value at release that starts a training")
    max_age_days: Count = Field(description="days after which a model is trained again without other cause")
    cooldown_days: Count = Field(description="days after a training in which no other starts")


class Risk(_Part):
    """Class under the EU AI Act, Regulation (EU) 2024/1689; what it prohibits has no class here: it is not built."""

    level: Literal["minimal", "limited", "high"] = Field(description="risk class under the EU AI Act")
    basis: Text = Field(description="why this class, with the articles or annexes looked at")
    as_of: Day = Field(description="day on which the law was looked at, as YYYY-MM-DD")


class Specification(_Part):
    """All that has been agreed on before the first model; `load_specification` names every defect at once."""

    name: Text = Field(description="short name of the system")
    version: Text = Field(description="version of this specification")
    decision: Text = Field(description="what is decided with a prediction, by whom")
    users: Annotated[Names, Some] = Field(description="list of the people who act on a prediction")
    value: Text = Field(description="what gets better for the users, and against what it is compared")
    kpis: Annotated[tuple[BusinessGoal, ...], Some] = Field(description="list of measurable goals of the business")
    data_sources: Annotated[Names, Some] = Field(description="list of where the data comes from")
    data_collection: Text = Field(description="how new rows and labels are gathered while the system runs")
    target: Target = Field(description="mapping: what is predicted")
    timing: Timing = Field(description="mapping: when it is predicted and when the label is known")
    costs: Costs = Field(description="mapping: what a false alarm and a missed positive cost")
    inputs: Inputs = Field(description="mapping: columns that a request carries, by kind")
    features: Columns = Field(description="mapping: columns that the model learns from, by kind")
    slices: Names = Field(description="list of inputs in whose every value the model must hold up")
    slos: Annotated[tuple[ServiceObjective, ...], Some] = Field(description="list of service level objectives")
    gates: Gates = Field(description="mapping: what a model must pass before it is registered")
    monitoring: Monitoring = Field(description="mapping: when the running system raises an alert")
    retraining: Retraining = Field(description="mapping: when a new model is trained")
    risk: Risk = Field(description="mapping: legal class of the use, with reason and date")

    # The checks across fields are validators of a field, not of the whole, because pydantic runs the latter only when
    # nothing else is wrong. `info.data` holds the fields above that were valid.

    @field_validator("inputs", "features")
    @classmethod
    def _known_in_time(cls, columns: Columns, info: ValidationInfo) -> Columns:
        target, timing = info.data.get("target"), info.data.get("timing")
        forbidden = {target.column} if target else set()
        forbidden |= {timing.prediction_time, timing.label_time} if timing else set()
        if leaks := [name for name in columns.all if name in forbidden]:
            raise _defect(
                "holds the target or its timing", "columns known when predicting", ", ".join(map(repr, leaks))
            )
        return columns

    @field_validator("slices")
    @classmethod
    def _among_inputs(cls, slices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = info.data["inputs"].all if "inputs" in info.data else slices
        if unknown := [name for name in slices if name not in known]:
            raise _defect("names no input", _nearest(unknown[0], known), ", ".join(map(repr, unknown)))
        return slices

    @field_validator("kpis", "slos")
    @classmethod
    def _one_name_each(cls, goals: tuple[Any, ...]) -> tuple[Any, ...]:
        _distinct(tuple(goal.name for goal in goals))
        return goals
