"""What a learner has tried: kept as lines in the workspace, and sent to a classroom if the learner has joined one.

    journal     record an event, say how far each gap is, and send what waits to the classroom
    client      join a classroom, and log runs and models there under names that nobody else can have

>>> [standing.done for standing in standings([{"gap": "data_engineering.known_by", "what": "passed"}]).values()]
[True]
"""

from mlops_course.course.progress.journal import Standing, classroom, deliver, events, record, standings, waiting

__all__ = ["Standing", "classroom", "deliver", "events", "record", "standings", "waiting"]
