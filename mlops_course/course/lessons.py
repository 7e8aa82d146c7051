"""The lessons that have exercises, in the order of the course.

>>> number_of("data_engineering"), renamed("03.known_by")
('03', 'data_engineering.known_by')
"""

__all__ = ["LESSONS", "number_of", "renamed"]

LESSONS = (
    "start_here",
    "requirements",
    "prioritisation",
    "data_engineering",
    "features",
    "model_engineering",
    "model_selection",
    "testing_and_validation",
    "pipelines",
    "registry_and_release",
    "deployment",
    "ci_cd",
    "monitoring",
    "retraining",
    "governance",
    "capstone",
)
FORMER = {f"{number:02d}": name for number, name in enumerate(LESSONS)}  # freeze it before the order changes


def number_of(lesson: str) -> str:
    """The number of a lesson in its course, such as "03"."""
    return f"{LESSONS.index(lesson):02d}"


def renamed(gap: str) -> str:
    """The present name of a gap or a lesson. Files and rooms of former versions call a lesson by its number."""
    lesson, dot, name = gap.partition(".")
    return f"{FORMER.get(lesson, lesson)}{dot}{name}"
