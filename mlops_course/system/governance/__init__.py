"""Who answers for a prediction, and how it is forgotten: lineage, deletion, the audit trail and incident reports.

    lineage          from the id of a prediction to model, code, data, specification, gate and approver, each verified
    forget           a deletion request, carried through log, shadow answers, cache and snapshots, and put on record
    AuditTrail       what was asked and done beside releases, one record a file, each with the hash of the one before
    incident_report  what is on record about a stretch of time, laid out for a review without blame

Releases have a history of their own, see `registry`. Nothing here is inferred: what is not on record is said to be
unknown, and a link that does not hold is named, not left out.

    found = lineage(system, log, "order 17")
    found.broken                                   # names of the links that do not hold: () if all do
    print(found)
    forget(system, log, ["order 17"], approver="Ada", reason="asked by the person concerned")
"""

from .audit import AuditTrail
from .deletion import forget
from .incidents import incident_report
from .lineage import Lineage, UnknownPredictionError, lineage

__all__ = ["AuditTrail", "Lineage", "UnknownPredictionError", "forget", "incident_report", "lineage"]
