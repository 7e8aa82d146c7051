"""The lessons that have exercises, in the order of the course.

>>> number_of("data_engineering"), renamed("03.known_by"), renamed("monitoring.cost_so_far")
('04', 'data_engineering.known_by', 'performance.cost_so_far')
"""

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["LESSONS", "did_you_mean", "number_of", "renamed"]

LESSONS = (
    "start_here",
    "requirements",
    "use_cases",
    "law_and_cost",
    "data_engineering",
    "features",
    "model_engineering",
    "model_selection",
    "testing",
    "pipelines",
    "registry",
    "deployment",
    "delivery",
    "drift",
    "alerts",
    "performance",
    "retraining",
    "governance",
    "scale",
    "capstone",
)

# Files and rooms of former versions know sixteen lessons by their numbers, or by names that have changed since.
ADDED = {"law_and_cost", "alerts", "performance", "scale"}
FORMER = {f"{number:02d}": name for number, name in enumerate(name for name in LESSONS if name not in ADDED)} | {
    "prioritisation": "use_cases",
    "testing_and_validation": "testing",
    "registry_and_release": "registry",
    "ci_cd": "delivery",
    "monitoring": "drift",
}
MOVED = {  # gaps that asked the same; one that was replaced by another question is no longer counted
    "use_cases.volume": "law_and_cost.volume",
    "drift.alarm_days": "alerts.alarm_days",
    "drift.diagnose": "alerts.diagnose",
    "drift.cost_so_far": "performance.cost_so_far",
    "governance.summarise": "scale.summarise",
}


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A question that names what is nearest to a misspelt name, to end a message with; empty if nothing is near."""
    near = get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def number_of(lesson: str) -> str:
    """The number of a lesson in its course, such as "04"."""
    return f"{LESSONS.index(lesson):02d}"


def renamed(gap: str) -> str:
    """The present name of a gap or a lesson, which files and rooms of former versions may know by another one."""
    lesson, dot, name = gap.partition(".")
    present = f"{FORMER.get(lesson, lesson)}{dot}{name}"
    return MOVED.get(present, present)
