"""A classroom on the teacher's machine: a tracking server for up to sixty learners, and a board of who is where.

    room       MLflow with passwords on PostgreSQL, in one folder: made, opened, watched, closed
    machine    free ports, and processes that end with all their children
    backup     the whole room in one file, back from it, and brought up to another version of MLflow
    forgetting     everything of one learner, removed for good
    postgres   a PostgreSQL server of the room's own, in its folder
    front      the page where learners join, the health page, and the teacher's board over HTTP
    board      who has passed what, and where people are stuck, from the store

A learner needs nothing of it to learn: lessons and exercises run without, and results wait until the room is reached.
"""
