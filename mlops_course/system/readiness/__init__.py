"""Is a system ready for production? The ML Test Score of Breck et al. (2017): 28 probes in four sections.

    score            run the probes on a system and count; the final score is that of the weakest section
    Scorecard        the result: one row a probe with what it found, the points of the sections, the final score
    SystemUnderTest  what the probes examine: the champion, its rows, the log
    PROBES           the probes by section

Each section has a file. The docstring of a probe begins with the number that its test has in the paper. A probe tries
what it is about: it breaks a batch and expects a finding, or rolls back and expects the champion before. It changes
copies only. A probe fails if it lacks what it needs, and says what to do; it also fails with any error. In the paper an
automated test gives a point and one done by hand half a point. Here a probe that passes gives a point. The authors'
reading of the final score: 0 is research, up to 1 not tested, 1 to 2 a first pass, 2 to 3 reasonably tested, 3 to 5
strong, above 5 exceptional.

    card = score(system, log, repository=Path("."))
    card.final, card.sections, card.table

Source: Breck, Cai, Nielsen, Salib and Sculley (2017), The ML Test Score.
"""

from .scorecard import PROBES, Scorecard, score
from .system_under_test import SystemUnderTest

__all__ = ["PROBES", "Scorecard", "SystemUnderTest", "score"]
