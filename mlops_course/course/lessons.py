"""The lessons that have exercises, in the order of the course.

>>> number_of("data_engineering"), renamed("03.known_by"), renamed("monitoring.cost_so_far")
('04', 'data_engineering.known_by', 'performance.cost_so_far')
"""

__all__ = ["LESSONS", "number_of", "renamed"]

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

# What files and rooms of former versions say: the number or the former name of a lesson, and gaps that have moved since
FORMER_NUMBERS = dict(
    zip(
        (f"{number:02d}" for number in range(16)),
        "start_here requirements prioritisation data_engineering features model_engineering model_selection "
        "testing_and_validation pipelines registry_and_release deployment ci_cd monitoring retraining governance "
        "capstone".split(),
        strict=True,
    )
)
FORMER_NAMES = {
    "prioritisation": "use_cases",
    "testing_and_validation": "testing",
    "registry_and_release": "registry",
    "ci_cd": "delivery",
    "monitoring": "drift",
}
MOVED = {
    "use_cases.volume": "law_and_cost.volume",
    "drift.alarm_days": "alerts.alarm_days",
    "drift.diagnose": "alerts.diagnose",
    "drift.cost_so_far": "performance.cost_so_far",
    "governance.summarise": "scale.summarise",
}


def number_of(lesson: str) -> str:
    """The number of a lesson in its course, such as "04"."""
    return f"{LESSONS.index(lesson):02d}"


def renamed(gap: str) -> str:
    """The present name of a gap or a lesson, which files and rooms of former versions may know by another one."""
    lesson, dot, name = gap.partition(".")
    lesson = FORMER_NUMBERS.get(lesson, lesson)
    present = f"{FORMER_NAMES.get(lesson, lesson)}{dot}{name}"
    return MOVED.get(present, present)
