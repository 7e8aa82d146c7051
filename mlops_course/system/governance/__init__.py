"""Lineage of predictions, deletion requests, the audit trail and incident reports.

    lineage          from the id of a prediction to model, code, data, specification, gate and approver, each verified
    forget           carry out a deletion request in log, shadow log, cache and snapshots, and put it on record
    forget_again     forget what a restored backup has brought back, from the keyed digests on record
    AuditTrail       records beside the history of releases, one a file, each with the hash of the one before
    incident_report  what is on record about a period, laid out for a blameless review

Releases have a history of their own, see `registry`. Nothing here is inferred: what is not on record is called
unknown, and a link that does not hold is named, not left out.

    found = lineage(system, log, "order 17")
    found.broken                                   # names of the links that do not hold: () if all do
    found.table                                    # each link with its value, its check and where it stands
    forget(system, log, ["order 17"], approver="Ada", reason="asked by the person concerned")
"""

from .audit import AuditTrail
from .deletion import forget, forget_again
from .incidents import incident_report
from .lineage import Lineage, UnknownPredictionError, lineage

__all__ = ["AuditTrail", "Lineage", "UnknownPredictionError", "forget", "forget_again", "incident_report", "lineage"]
