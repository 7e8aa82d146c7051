"""The course: what teaches with the rest of the package, and needs no learner to know how.

`checks` are the check cells of the exercises, one module a lesson; `progress` keeps what a learner has done, and sends
it to a classroom; `classroom` is the teacher's room and board; `snippets` are short programs to take to work.
"""
