"""The package behind the MLOps Course notebooks. Its folders are the phases of MLOps, as the course teaches them.

    design        the specification of a project, and what it is worth
    development   data, validation, features, training, evaluation, gate
    operations    registry, deployment, delivery, monitoring, retraining
    system        what puts these stages together: pipeline, release, service, monitor, replay
    flights       the running case: the only folder that knows about flights
    course        checks of the exercises, progress, classroom, snippets
    starter       a project of one's own; `commands` and `cli` are the command line

A stage is a file, or a folder whose `__init__.py` says what is in it. It imports no other stage, so it can be copied
into another project and works there.
"""

__version__ = "0.1.0"
