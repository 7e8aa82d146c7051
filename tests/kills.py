"""Kill a process at a named step, and spread the kills evenly over the steps of what it does."""

import os
import signal
import traceback
from collections import Counter


def in_a_child(act):
    """Do something in a forked process; its exit code, which is negative if a signal ended it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def spread(steps, kinds, *, turns, of):
    """Choose a step of each kind in each turn: evenly over all steps in a turn, and over each kind in all turns.

    A step is (place, kind), and may happen several times. A choice is (place, number, kind), where `number` says which
    of the same steps it is, from 1 on. Choices are in the order of the steps.
    """
    chosen = []
    for number, kind in enumerate(kinds):
        found = [at for at, (_, what) in enumerate(steps) if what == kind]
        shares = [((number + 0.5) / len(kinds) + turn / of) % 1 for turn in turns]
        chosen += [found[int(share * len(found))] for share in shares]
    return [(steps[at][0], steps[: at + 1].count(steps[at]), steps[at][1]) for at in sorted(chosen)]


def die_at(point, places):
    """Function to call at each step: it ends the process at the first one of the point's kind that is not before it."""
    place, number, kind = point
    least, counted = (places.index(place), number), Counter()

    def step(where, what):
        counted[where, what] += 1
        if what == kind and (places.index(where), counted[where, what]) >= least:
            os.kill(os.getpid(), signal.SIGKILL)

    return step
