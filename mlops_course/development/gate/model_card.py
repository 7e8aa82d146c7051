"""The model card: what a model is for, how it was judged, and what speaks against it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .verdict import NOT_JUDGED, NOT_KNOWN, GateReport

CALIBRATION = (
    "Calibration: `noise` is the error that chance gives a perfect model (mean, and 95 % quantile as `high`). "
    "Intercept in log-odds, 0 is right; of the slope, 1."
)


def model_card(
    specification: Mapping[str, Any],
    evidence: Mapping[str, pd.DataFrame],
    *,
    report: GateReport,
    version: str,
    data_version: str,
    training_data: str,
    evaluation_data: str,
    caveats: Sequence[str] = (),
) -> str:
    """Write a model card in Markdown: what the model is for, how good it is and for whom, and when not to trust it.

    `specification` holds the fields of a specification as plain values. `evidence` is what `gate` judged, `report` its
    result. `training_data` and `evaluation_data` say in words which rows they are. Raises KeyError for a field that the
    specification lacks. The nine headings are those of Mitchell et al. 2019, Model Cards for Model Reporting.
    """
    spec, costs, risk = specification, specification["costs"], specification["risk"]
    errors = f"{costs['false_alarm']} a false alarm, {costs['missed']} a miss, in {costs['unit']}"
    not_judged = report.checks[report.checks["verdict"] == NOT_JUDGED]
    untested = [f"Not judged: {row.check}; {row.why}." for row in not_judged.itertuples()]
    unknown = report.checks.loc[report.checks["verdict"] == NOT_KNOWN, "check"]
    if len(unknown):
        untested.append(f"Not known, as the bar lies in the interval: {'; '.join(unknown)}.")
    sections = {
        "Model details": [
            f"Version {version}, built for version {spec['version']} of the specification.",
            f"Predicts: {spec['target']['definition']}",
            f"Asked this long before the event: {spec['timing']['lead']}.",
        ],
        "Intended use": [
            f"Decision: {spec['decision']}",
            f"Users: {', '.join(spec['users'])}.",
            "Not meant for other decisions: its costs, its timing and its tests belong to this one.",
        ],
        "Factors": [f"Examined one by one: {', '.join(spec['slices'])}."],
        "Metrics": [
            "Ranking, calibration and cost of the decisions. "
            f"Costs: {errors}, each above the cost of the right decision."
        ],
        "Evaluation data": [evaluation_data],
        "Training data": [training_data, f"Data version: `{data_version}`."],
        "Quantitative analyses": _analyses(evidence, report),
        "Ethical considerations": [f"Risk: {risk['level']}, as of {risk['as_of']}. {risk['basis']}"],
        "Caveats and recommendations": [_bullets([*caveats, *untested]) or "None known."],
    }
    parts = [f"# Model card: {spec['name']}"]
    for heading, blocks in sections.items():
        parts += [f"## {heading}", *(block.strip() for block in blocks)]
    return "\n\n".join(parts) + "\n"


def _analyses(evidence: Mapping[str, pd.DataFrame], report: GateReport) -> list[str]:
    """The tables and the verdict, as blocks of Markdown."""
    blocks = [_markdown(evidence["metrics"].rename_axis("metric").reset_index())]
    if "calibration" in evidence:
        blocks += [CALIBRATION, _markdown(evidence["calibration"].reset_index())]
    if "slices" in evidence:
        auc = ["roc_auc", "roc_auc_low", "roc_auc_high"]
        blocks.append(_markdown(evidence["slices"][["slice", "value", "rows", "positives", *auc]]))
    if report.against_champion:
        blocks.append(report.against_champion)
    if report.passed:
        return [*blocks, f"The gate found nothing against this version in {len(report.checks)} checks."]
    verdict = f"The gate {report.outcome} this version, for {len(report.reasons)} of {len(report.checks)} checks:"
    return [*blocks, verdict, _bullets(report.reasons)]


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table; numbers with four digits, a dash for what is missing."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}" if math.isfinite(value) else "–"
        return str(value).replace("|", "\\|")

    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)
