"""A classroom on the teacher's machine: a tracking server for up to sixty learners, and a board of who is where.

    room       MLflow with passwords on PostgreSQL, started, watched, stopped, backed up, restored, upgraded
    postgres   a PostgreSQL server of the room's own, in its folder
    front      the page where learners join, the health page, and the teacher's board over HTTP
    board      who has passed what, and where people are stuck, from the store

A learner needs nothing of it to learn: lessons and exercises run without, and results wait until the room is reached.
"""
