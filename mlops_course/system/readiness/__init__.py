"""Is a system ready for production? The ML Test Score: 28 probes in four sections, each of which tries something real.

    score      run the probes on a system and count: the final score is that of the weakest section
    Scorecard  what came of it: one line a probe with its evidence, the sums of the sections, the final score
    Subject    what the probes look at: champion, its rows, the log; looked up once
    PROBES     the probes by section

A probe provokes what it is about: it breaks a batch and wants a finding, flips labels and wants an alarm, rolls back
and wants the champion before. What it changes is a copy; the workspace stays as it is. A probe that lacks what it needs
fails and says what to do, and one that meets an error fails with it. The questions are those of Breck, Cai, Nielsen,
Salib and Sculley 2017, The ML Test Score; there a point is for a test that is automated, half a point for one done by
hand. Here a point is for an automated probe that passes, and there are no halves. Their reading of the final score: 0
is research, up to 1 not tested, 1 to 2 a first pass, 2 to 3 reasonably tested, 3 to 5 strong, above that exceptional.

    card = score(system, log, repository=Path("."))
    card.final, card.sections, card.table
"""

from .scorecard import PROBES, Scorecard, score
from .subject import Subject

__all__ = ["PROBES", "Scorecard", "Subject", "score"]
