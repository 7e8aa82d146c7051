"""A specification as the ten boxes of the ML canvas."""

from datetime import timedelta

from pydantic import BaseModel

from .specification import Columns, Specification


def _thresholds(part: BaseModel) -> list[str]:
    values = {name: getattr(part, name) for name in type(part).model_fields}
    shown = {name: value if isinstance(value, str) else f"{value:g}" for name, value in values.items()}
    lines = [f"{field.description}: {shown[name]}" for name, field in type(part).model_fields.items()]
    return [line[0].upper() + line[1:] for line in lines]


def _columns(columns: Columns) -> list[str]:
    kinds = {kind: getattr(columns, kind) for kind in type(columns).model_fields}
    return [
        f"{len(names)} {kind}: {', '.join(f'`{name}`' for name in names)}" for kind, names in kinds.items() if names
    ]


def canvas(specification: Specification) -> str:
    """The ML canvas of a specification as Markdown: ten boxes, each a heading and a list.

    The boxes are those of the Machine Learning Canvas (Dorard), as told on https://ml-ops.org/content/phase-zero.
    """
    s = specification
    goals = [f"{k.name}: {k.indicator}, {k.direction} {k.goal:g} {k.unit} over {k.window_days} days" for k in s.kpis]
    promises = [f"{o.name}: {o.indicator}, at least {100 * o.objective:g} % over {o.window_days} days" for o in s.slos]
    hours = s.timing.lead / timedelta(hours=1)
    boxes = {
        "Value proposition": [s.value, f"For: {', '.join(s.users)}", *goals],
        "Data sources": [*s.data_sources],
        "Prediction task": [s.target.definition, f"1 means: {s.target.positive}", f"Asked {hours:g} hours ahead"],
        "Features": _columns(s.features),
        "Offline evaluation": [*_thresholds(s.gates), f"For every value of: {', '.join(s.slices) or 'no slice'}"],
        "Decisions": [
            s.decision,
            f"A false alarm costs {s.costs.false_alarm:g} {s.costs.unit} more than the right decision",
            f"A missed positive costs {s.costs.missed:g} {s.costs.unit} more than the right decision",
        ],
        "Making predictions": [*promises, f"From {len(s.inputs.all)} inputs, as known then"],
        "Collecting data": [s.data_collection, s.target.label_delay],
        "Building models": _thresholds(s.retraining),
        "Live evaluation and monitoring": _thresholds(s.monitoring),
    }
    lines = [f"# {s.name}, version {s.version}: ML canvas"]
    for title, statements in boxes.items():
        lines += ["", f"## {title}", "", *(f"- {' '.join(statement.split())}" for statement in statements)]
    return "\n".join(lines) + "\n"
